"""A second look: hands that are small or large in the network picture, at the size that it is best for.

A network that learned on small pictures sees hands of some sizes better than others: small ones lack pixels,
and large ones reach beyond what its queries gather. So hands outside that range are cut out of the picture,
brought to one size and laid side by side, four in one more network picture, in which detector and decoder
run once more. Which hands there are, and how sure of them the network is, was settled by the first look; the
second says where exactly they are, in boxes, joints and metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handos_ros.inference import filtering
from handos_ros.inference.backend import Backend, Decoded
from handos_ros.inference.letterbox import Letterbox, padded
from handos_ros.network.config import SecondLookConfig

_SAME_HAND = 0.4
"""IoU with the first look's box from which on a candidate of the second may be of the same hand."""
_TOGETHER = 4
"""Hands in one network picture: for many more there are too few candidates, and attention is quadratic."""


def wanted(boxes: NDArray, letterbox: Letterbox, settings: SecondLookConfig) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes, px of the picture that `letterbox` fits, are of hands worth a second look."""
    size = (boxes[:, 2:] - boxes[:, :2]).max(1) * np.sqrt(letterbox.scale_x * letterbox.scale_y)
    return (size < settings.below) | (size > settings.above)


def look_again(
    backend: Backend,
    image: NDArray[np.uint8],
    boxes: NDArray,
    letterbox: Letterbox,
    settings: SecondLookConfig,
    *,
    own_boxes: bool,
) -> Iterator[tuple[NDArray[np.intp], Decoded, NDArray]]:
    """Decode N hands at the size that `settings` name.

    Args:
        image: the picture.
        boxes: (N, 4) px of it, x_min y_min x_max y_max.
        letterbox: of the first look.
        own_boxes: whether a hand starts from the box of the candidate by which the second look finds it, and
            takes that box; else from its box as it is.

    Yields:
        In parts, each at most once: numbers of hands that the second look finds again, these M hands as if
        they had been seen in the first look's network picture, and their boxes (M, 4) px.
    """
    for first in range(0, len(boxes), _TOGETHER):
        part = boxes[first : first + _TOGETHER]
        cells = Cells.lay_out(image, part, settings, backend.stride)
        found = backend.detect(cells.picture)
        starts = cells.to_fractions(part)
        overlaps = filtering.iou(_corners(starts), _corners(found.boxes))
        # Sure of it and near it: of two hands that overlap each is to find its own candidate.
        fits = np.where(overlaps > _SAME_HAND, overlaps * found.scores, -1.0)
        seen, queries = np.flatnonzero(fits.max(1) >= 0), fits.argmax(1)
        if not len(seen):
            continue
        cells, queries = cells.select(seen), queries[seen]
        starts = found.boxes[queries] if own_boxes else starts[seen]
        decoded = backend.decode(found, queries.astype(np.int64), starts.astype(np.float32))
        yield first + seen, cells.as_seen_in(letterbox, decoded), cells.to_pixels(starts)


@dataclass(frozen=True)
class Cells:
    """N square pieces of a picture, side by side in a network picture.

    Attributes:
        picture: (height, width, 3) uint8 RGB; black where nothing lies.
        origins: (N, 2) the point of the original picture, in px, that by each piece's scale would lie at the
            upper left corner of `picture`.
        scales: (N, 2) network px per px of the original picture, across and down.
    """

    picture: NDArray[np.uint8]
    origins: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def lay_out(
        cls, image: NDArray[np.uint8], boxes: NDArray, settings: SecondLookConfig, stride: int
    ) -> Cells:
        """Cut out what is around each of N >= 1 boxes in px of `image`, and bring it to one size."""
        size = np.array([image.shape[1], image.shape[0]])
        cell, count = settings.cell, len(boxes)
        across = int(np.ceil(np.sqrt(count)))
        down = -(-count // across)
        picture = np.zeros((padded(down * cell, stride), padded(across * cell, stride), 3), np.uint8)
        origins, scales = np.empty((count, 2)), np.empty((count, 2))
        for number, box in enumerate(np.asarray(boxes, np.float64)):
            scale = settings.size / max((box[2:] - box[:2]).max(), 1.0)
            at = np.array([number % across, number // across]) * cell
            # Of the square; (0, 0) is the outer corner of the first pixel, half a px beyond its centre.
            corner = (box[:2] + box[2:] + 1) / 2 - cell / scale / 2
            scales[number], origins[number] = scale, corner - 0.5 - at / scale
            if (corner >= size).any() or (corner + cell / scale <= 0).any():
                continue  # A box from outside that lies beside the picture: there is nothing to see.
            low = np.clip(np.floor(corner), 0, size - 1).astype(int)
            high = np.clip(np.ceil(corner + cell / scale), low + 1, size).astype(int)
            piece = image[low[1] : high[1], low[0] : high[0]]
            long_side = min(max(round(scale * max(piece.shape[:2])), 1), cell)
            letterbox = Letterbox.fit(piece.shape[1], piece.shape[0], long_side, 1)
            inner = np.array([letterbox.inner_width, letterbox.inner_height])
            at += np.clip(np.round((low - corner) * scale).astype(int), 0, cell - inner)
            shown = letterbox.apply(piece)[: inner[1], : inner[0]]
            picture[at[1] : at[1] + inner[1], at[0] : at[0] + inner[0]] = shown
            scales[number] = letterbox.scale_x, letterbox.scale_y
            origins[number] = low - 0.5 - at / scales[number]
        return cls(picture, origins, scales)

    def select(self, which: NDArray[np.intp]) -> Cells:
        """The same picture, as the place of these pieces alone."""
        return replace(self, origins=self.origins[which], scales=self.scales[which])

    def to_fractions(self, boxes: NDArray) -> NDArray[np.float64]:
        """(N, 4) px, corners -> centre x, centre y, width, height in fractions of `picture`."""
        low, high = np.split(np.asarray(boxes, np.float64), 2, axis=-1)
        centre = ((low + high) / 2 - self.origins) * self.scales
        return np.concatenate([centre, (high - low) * self.scales], -1) / np.tile(self._size, 2)

    def to_pixels(self, boxes: NDArray) -> NDArray[np.float64]:
        """The way back."""
        corners = _corners(boxes * np.tile(self._size, 2)).reshape(-1, 2, 2)
        return (corners / self.scales[:, None] + self.origins[:, None]).reshape(-1, 4)

    def as_seen_in(self, letterbox: Letterbox, decoded: Decoded) -> Decoded:
        """N hands decoded here, in fractions and px of another network picture of the same picture."""

        def moved(points: NDArray) -> NDArray[np.float32]:
            each = (-1, *[1] * (points.ndim - 2), 2)
            px = points * self._size / self.scales.reshape(each) + self.origins.reshape(each)
            return letterbox.to_fractions(px).astype(np.float32)

        ratio = np.sqrt(letterbox.scale_x * letterbox.scale_y / self.scales.prod(1))
        return replace(
            decoded,
            joints_2d=moved(decoded.joints_2d),
            root_2d=moved(decoded.root_2d),
            scale=(decoded.scale * ratio).astype(np.float32),
        )

    @property
    def _size(self) -> NDArray[np.float64]:
        return np.array([self.picture.shape[1], self.picture.shape[0]], np.float64)


def _corners(boxes: NDArray) -> NDArray:
    """Centre x, centre y, width, height -> x_min y_min x_max y_max."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)
