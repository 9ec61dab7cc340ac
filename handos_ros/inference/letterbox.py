"""A picture of any size -> the network picture, and points and boxes there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import PictureError


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in its network picture: upper left, the rest padded with black.

    Pixels of the picture have their centres on whole numbers; fractions of the network picture have
    (0, 0) at its upper left corner. So pixel u is the fraction (u + 0.5) * scale_x / net_width, which
    is exactly what resizing does with the pixels in between.

    A large picture is halved some times and only then resized, as in a pyramid: on a 1920 px wide one
    this is ten times as fast as `cv2.INTER_AREA` in one step and looks the same. Halving needs even
    sizes, so a few rows and columns at the right and lower border, less than one pixel of the network
    picture, are left out where a size is odd; the mapping below stays exact.

    Attributes:
        used_width, used_height: px of the picture that the network gets to see, from the upper left.
        halvings: how often it is halved before it is resized.
        inner_width, inner_height: px of the network picture that these fill.
        net_width, net_height: px of the whole network picture.
    """

    used_width: int
    used_height: int
    halvings: int
    inner_width: int
    inner_height: int
    net_width: int
    net_height: int

    @classmethod
    def fit(cls, width: int, height: int, long_side: int, stride: int) -> Letterbox:
        """Fit the longer side to `long_side` px, then pad right and below as `padded` says."""
        scale = long_side / max(width, height)
        halvings = 0
        while 2 ** (halvings + 1) <= min(1 / scale, width, height):
            halvings += 1
        used_w, used_h = (side >> halvings << halvings for side in (width, height))
        inner_w, inner_h = (max(1, round(side * scale)) for side in (used_w, used_h))
        net_w, net_h = (padded(side, stride) for side in (inner_w, inner_h))
        return cls(used_w, used_h, halvings, inner_w, inner_h, net_w, net_h)

    @property
    def scale_x(self) -> float:
        """Network px per px across; differs from `scale_y` by rounding only."""
        return self.inner_width / self.used_width

    @property
    def scale_y(self) -> float:
        """Network px per px down."""
        return self.inner_height / self.used_height

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W), (H, W, 3) or (H, W, 4) uint8 picture -> (net_height, net_width, 3) RGB.

        Grey is spread over the colours and alpha is dropped after the picture is small, so that no
        copy of a large picture is made.
        """
        import cv2

        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        small: NDArray = image[: self.used_height, : self.used_width]
        for _ in range(self.halvings):
            half = (small.shape[1] // 2, small.shape[0] // 2)
            small = cv2.resize(small, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(small, (self.inner_width, self.inner_height), interpolation=cv2.INTER_LINEAR)
        picture = np.zeros((self.net_height, self.net_width, 3), np.uint8)
        inside = picture[: self.inner_height, : self.inner_width]
        inside[...] = small[..., None] if small.ndim == 2 else small[..., :3]
        return picture

    def to_fractions(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) px of the picture -> fractions of the network picture."""
        return (np.asarray(points, np.float64) + 0.5) * self._fractions_per_px

    def to_pixels(self, fractions: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) in fractions of the network picture -> px of the picture."""
        return np.asarray(fractions, np.float64) / self._fractions_per_px - 0.5

    def boxes_to_fractions(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """(N, 4) x_min y_min x_max y_max px -> centre x, centre y, width, height in fractions."""
        low, high = np.split(np.asarray(boxes, np.float64), 2, axis=-1)
        return np.concatenate(
            [self.to_fractions((low + high) / 2), (high - low) * self._fractions_per_px], axis=-1
        )

    def boxes_to_pixels(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """(N, 4) centre x, centre y, width, height in fractions -> x_min y_min x_max y_max px."""
        centre, size = np.split(np.asarray(boxes, np.float64), 2, axis=-1)
        centre, half = self.to_pixels(centre), size / self._fractions_per_px / 2
        return np.concatenate([centre - half, centre + half], axis=-1)

    @property
    def _fractions_per_px(self) -> NDArray[np.float64]:
        return np.array([self.scale_x / self.net_width, self.scale_y / self.net_height])


def padded(side: int, stride: int) -> int:
    """Px of a network picture's side that holds `side` px: the next multiple of `stride`.

    Two of them at least: a strip of one has fewer places than a detector picks candidates from.
    """
    return max(2, -(-side // stride)) * stride


def check_picture(image: Any) -> NDArray[np.uint8]:
    """Refuse by name what is no 8-bit picture.

    Raises:
        PictureError: saying what the picture is and what is needed.
    """
    if not isinstance(image, np.ndarray):
        raise PictureError(f"a picture must be a NumPy array (H, W, 3) of uint8, got {type(image).__name__}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise PictureError(
            f"a picture must have the shape (H, W, 3) in RGB, (H, W) in grey or (H, W, 4) with alpha, "
            f"got {image.shape}"
        )
    if not image.size:
        raise PictureError(f"the picture is empty: its shape is {image.shape}")
    if image.dtype != np.uint8:
        raise PictureError(_why_not(image))
    return image


def _why_not(image: NDArray) -> str:
    """What is wrong with a picture of another type, and the way out of it."""
    what = f"a picture must be uint8, 0 to 255, got {image.dtype}"
    if image.dtype.kind == "f":
        # Row by row: a mask as large as the picture is not worth a message.
        if any(not np.isfinite(row).all() for row in image):
            return f"{what} with values that are not finite"
        return f"{what}; convert it, for values from 0 to 1 with (255 * picture).astype(numpy.uint8)"
    if image.dtype.kind in "ui":
        return f"{what}; scale its values down to 8 bits first"
    return what
