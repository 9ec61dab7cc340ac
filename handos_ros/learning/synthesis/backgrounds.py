"""Pictures without hands to stand behind the hands: the user's photographs, or drawn ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from handos_ros.errors import DataError
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
from handos_ros.learning.datasets.reading import PICTURE_SUFFIXES, pictures_in, read_picture
from handos_ros.learning.synthesis.noise import cloud

DRAWN = 24

_AT_ONCE = 64
"""Pictures blurred at a time: all of them in float32 would take gigabytes in every worker of a training."""
_CLEAR = 0.25
"""What stands behind other hands keeps away from a photograph's own by this fraction of their longer side."""
_LEAST_SIDE = 0.35
"""The least that a part of a photograph has of its shorter side in both directions."""
_LONGEST = 1.5
"""The longest shape that is squeezed to a square, so that faces stay faces."""


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """M square pictures on a device.

    Attributes:
        pictures: (M, 3, S, S) uint8 RGB.
        blurred: (M, 3, S / 8, S / 8) uint8, for what lies far out of focus.
        colour: (M, 3) float32 mean sRGB, 0 to 1: the light of the place.
    """

    pictures: Tensor
    blurred: Tensor
    colour: Tensor

    @classmethod
    def of(cls, pictures: Tensor, device: torch.device | str = "cpu") -> Backgrounds:
        """From (M, 3, S, S) uint8 RGB alone."""
        small = torch.cat([avg_pool2d(some.float(), 8) for some in pictures.split(_AT_ONCE)])
        return cls(
            pictures.to(device),
            small.round().to(torch.uint8).to(device),
            (small.mean((2, 3)) / 255).to(device),
        )

    @classmethod
    def from_directory(
        cls, directory: str | Path, size: int, most: int, seed: int, device: torch.device | str = "cpu",
        exclude: Sequence[int] = (),
    ) -> Backgrounds:  # fmt: skip
        """Read up to `most` pictures of a folder, chosen by `seed`, each squeezed to `size` px squared.

        Pictures whose number, in sorted order, modulo 10 is in `exclude` are kept out, for evaluation.

        Raises:
            DataError: if the folder has no picture, or one cannot be read.
        """
        import cv2

        folder = Path(directory)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of background pictures")
        paths = pictures_in(folder, exclude)
        if not paths:
            suffixes = ", ".join(PICTURE_SUFFIXES)
            raise DataError(f"{folder}: no pictures ({suffixes}) to stand behind the hands")
        order = np.random.default_rng(seed).permutation(len(paths))[:most]

        def read(path: Path) -> NDArray[np.uint8]:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is None:
                raise DataError(f"{path}: cannot be read as a picture; remove it or mend it")
            return np.asarray(picture[..., ::-1], np.uint8)

        chosen = (read(paths[number]) for number in sorted(order))
        return cls.of(_squeezed(chosen, len(order), size), device)

    @classmethod
    def beside_hands(
        cls, annotations: str | Path, size: int, device: torch.device | str = "cpu"
    ) -> Backgrounds:
        """Of every fully labelled photograph the largest part without a hand: faces, clothes, arms and rooms.

        Each is squeezed to `size` px squared. Photographs of which little is left are not used.

        Raises:
            DataError: if the labels or a picture cannot be read, or no photograph has such a part.
        """
        photographs = CocoKeypoints(annotations)
        parts = [
            (photographs.folder / entry.file_name, part)
            for entry in photographs.entries
            if entry.labels.exhaustive
            and (part := _beside(entry.labels.boxes, entry.width, entry.height)) is not None
        ]
        if not parts:
            raise DataError(
                f"{annotations}: no fully labelled photograph (`exhaustive`) has a part without hands that "
                "is large enough to stand behind others"
            )
        pieces = (read_picture(path)[top:bottom, left:right] for path, (left, top, right, bottom) in parts)
        return cls.of(_squeezed(pieces, len(parts), size), device)

    @classmethod
    def joined(cls, sets: Sequence[Backgrounds]) -> Backgrounds:
        """The pictures of all, one set after the other."""
        return cls(
            torch.cat([each.pictures for each in sets]),
            torch.cat([each.blurred for each in sets]),
            torch.cat([each.colour for each in sets]),
        )

    @classmethod
    def drawn(cls, size: int, seed: int, device: torch.device | str = "cpu") -> Backgrounds:
        """Walls, shelves and blurred rooms made of noise and boxes."""
        generator = torch.Generator().manual_seed(seed)
        return cls.of(torch.stack([_draw(generator, size) for _ in range(DRAWN)]), device)


def _squeezed(pieces: Iterable[NDArray[np.uint8]], count: int, size: int) -> Tensor:
    """(count, 3, size, size) of as many (H, W, 3) pieces, held one at a time."""
    import cv2

    out = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for number, piece in enumerate(pieces):
        square = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
        out[number] = torch.from_numpy(square).permute(2, 0, 1)
    return out


def _beside(boxes: NDArray[np.floating], width: int, height: int) -> tuple[int, int, int, int] | None:
    """The largest part of a picture to one side of all hands: left, top, right and bottom in whole px."""
    if not len(boxes):
        # All of it lies beside a box of no size in its corner.
        boxes = np.full((1, 4), (0, height, 0, height))
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    clear = _CLEAR * (high - low).max(1, keepdims=True)
    (left, top), (right, bottom) = np.floor((low - clear).min(0)), np.ceil((high + clear).max(0))
    parts = np.array(
        [(0, 0, left, height), (right, 0, width, height), (0, 0, width, top), (0, bottom, width, height)]
    )
    sides = np.maximum(parts[:, 2:] - parts[:, :2], 0)
    best = int(sides.prod(1).argmax())
    if sides[best].min() < _LEAST_SIDE * min(width, height):
        return None
    most = _LONGEST * sides[best].min()
    over = np.maximum(sides[best] - most, 0) / 2
    x0, y0, x1, y1 = np.rint(parts[best] + np.concatenate([over, -over])).astype(int).tolist()
    return x0, y0, x1, y1


def _draw(generator: torch.Generator, size: int) -> Tensor:
    """(3, size, size) uint8."""

    def number(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")

    def colour_of_a_room() -> Tensor:
        """Mostly greys and browns, seldom vivid."""
        grey = number(0.08, 0.92)
        warm = number(-0.04, 0.1) * torch.tensor([1.0, 0.1, -1.0])
        vivid = number(0, 1) ** 3 * 0.8
        colour = (grey + warm) * (1 - vivid) + torch.rand(3, generator=generator) * vivid
        return colour[:, None, None]

    base = colour_of_a_room()
    tint = (torch.rand(3, 1, 1, generator=generator) - 0.5) * 0.2
    light = cloud(generator, 1, size, size, coarsest=2, octaves=2)[0]
    picture = base + tint * (x * number(-1, 1) + y * number(-1, 1)) + 0.08 * light
    edges = torch.rand(int(number(0, 26)), 4, generator=generator)
    for left, top, wide, tall in edges.tolist():
        wide, tall = 0.03 + 0.4 * wide**2, 0.03 + 0.5 * tall**2
        left, top = left - wide / 2, top - tall / 2
        inside = ((x > left) & (x < left + wide) & (y > top) & (y < top + tall)).float()
        if number(0, 1) < 0.35:
            inside = (((x - left) / wide - 0.5) ** 2 + ((y - top) / tall - 0.5) ** 2 < 0.25).float()
        colour = colour_of_a_room()
        if number(0, 1) < 0.5:
            colour = colour + 0.15 * torch.sin((x * number(-1, 1) + y * number(-1, 1)) * number(20, 200))
        shade = 1 + number(-0.5, 0.5) * ((x - left) / wide - 0.5)
        picture = picture * (1 - inside) + (colour * shade) * inside
    grain = cloud(generator, 4, size, size, coarsest=int(number(8, 40)), octaves=4, roughness=0.7)[:, 0]
    grain = 0.85 * grain[3:] + 0.15 * grain[:3]
    picture = picture + grain * number(0.0, 0.045)
    soft = int(number(1, 5))
    if soft > 1:
        picture = interpolate(
            avg_pool2d(picture[None], soft), (size, size), mode="bicubic", align_corners=False
        )[0]
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
