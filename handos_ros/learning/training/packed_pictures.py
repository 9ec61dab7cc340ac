"""Folders of pictures made small, with COCO labels that follow: what `handos train --pack` carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
from handos_ros.learning.datasets.reading import read_json, read_picture
from handos_ros.learning.training.monitor import evenly

_SAMPLED = 128
"""Pictures of an album that are encoded to estimate the size of all: good to about 5 percent."""

# Of an annotation, what is known to be right in the smaller picture; outlines, for one, would not be.
_FIELDS = (
    "id", "image_id", "category_id", "iscrowd", "num_keypoints", "handedness", "joints_3d",
    "joints_3d_absolute", "label_source", "label_score",
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """How small pictures are made.

    Attributes:
        factor: on an album's `long_side`.
        quality: of the JPEG files, 0 to 100.
    """

    factor: float
    quality: int


@dataclass(frozen=True)
class Album:
    """Pictures that travel in one folder.

    Attributes:
        name: of the folder.
        long_side: px, of the largest pictures that it holds.
        files: the pictures.
        names: their names in the folder, all different.
        content: their labels in COCO's format, `images` in the order of `files`; None for no labels.
    """

    name: str
    long_side: int
    files: Sequence[Path]
    names: Sequence[str]
    content: dict[str, Any] | None = None

    @classmethod
    def unlabelled(cls, name: str, long_side: int, files: Sequence[Path]) -> Album:
        """Pictures without labels."""
        return cls(name, long_side, files, _told_apart(path.name for path in files))

    @classmethod
    def labelled(
        cls, name: str, long_side: int, annotations: str, images: str, *, at_most: int | None = None
    ) -> Album:
        """The pictures of a COCO keypoint file; `at_most` so many, spread evenly.

        Raises:
            DataError: as `CocoKeypoints`.
        """
        dataset = CocoKeypoints(annotations, images or None)
        content = read_json(Path(annotations))
        numbers = evenly(len(dataset), at_most or len(dataset))
        chosen = [content["images"][number] for number in numbers]
        ids = {image["id"] for image in chosen}
        hands = [a for a in content["annotations"] if a["image_id"] in ids and not a.get("iscrowd")]
        files = [dataset.folder / image["file_name"] for image in chosen]
        names = _told_apart(image["file_name"] for image in chosen)
        return cls(name, long_side, files, names, {**content, "images": chosen, "annotations": hands})

    def estimate(self, rung: Rung) -> int:
        """How many bytes it takes, from a part of its pictures."""
        numbers = evenly(len(self.files), _SAMPLED)
        sampled = sum(len(self._encoded(number, rung)) for number in numbers)
        return sampled * len(self.files) // max(len(numbers), 1) + len(self._labels(rung))

    def write(self, parent: Path, rung: Rung, advance: Callable[[int], Any]) -> int:
        """Write it below `parent`; `advance` hears of every picture. How many bytes it took.

        Raises:
            DataError: naming the picture that cannot be read or has another size than its labels say.
        """
        folder = parent / self.name
        folder.mkdir()
        total = 0
        if self.content is not None:
            labels = self._labels(rung)
            (folder / "annotations.json").write_bytes(labels)
            folder, total = folder / "images", len(labels)
            folder.mkdir()
        for number, name in enumerate(self.names):
            data = self._encoded(number, rung)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            total += len(data)
            advance(1)
        return total

    def _encoded(self, number: int, rung: Rung) -> bytes:
        path = self.files[number]
        image = read_picture(path)
        height, width = image.shape[:2]
        if self.content is not None:
            said = _size(self.content["images"][number])
            if said != (width, height):
                raise DataError(
                    f"{path}: the picture is {width}x{height}, but its labels are for {said[0]}x{said[1]}"
                )
        size = self._fitted(width, height, rung)
        # Over areas, which keeps the outer edges of the picture where they are, as the labels expect.
        small = image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, rung.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        data: bytes = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        if small is image:
            stored = path.read_bytes()
            # A JPEG that is small already loses nothing by travelling as it is.
            if stored.startswith(b"\xff\xd8") and len(stored) <= len(data):
                return stored
        return data

    def _fitted(self, width: int, height: int, rung: Rung) -> tuple[int, int]:
        """Width and height of the small picture: never larger than it was."""
        factor = min(1.0, round(self.long_side * rung.factor) / max(width, height))
        return max(1, round(width * factor)), max(1, round(height * factor))

    def _labels(self, rung: Rung) -> bytes:
        if self.content is None:
            return b""
        images, maps = [], {}
        for image, name in zip(self.content["images"], self.names, strict=True):
            size = _size(image)
            fitted = self._fitted(*size, rung)
            shrink = maps[image["id"]] = _Shrink(size, fitted)
            images.append({**image, "file_name": name, "width": fitted[0], "height": fitted[1]})
            if image.get("k") is not None:
                images[-1]["k"] = np.round(shrink.matrix @ np.reshape(image["k"], (3, 3)), 4).ravel().tolist()
        hands = [maps[hand["image_id"]].annotation(hand) for hand in self.content["annotations"]]
        content = {**self.content, "images": images, "annotations": hands}
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


class _Shrink:
    """The map of labels from a picture of one (width, height) to a picture of another.

    Pixel centres are at whole numbers, so that p becomes (p + 0.5) f - 0.5 on each axis.
    """

    def __init__(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        self.new = np.array(new, float)
        self.factor = self.new / old
        self.matrix = np.eye(3)
        self.matrix[[0, 1], [0, 1]] = self.factor
        self.matrix[:2, 2] = (self.factor - 1) / 2

    def annotation(self, hand: dict[str, Any]) -> dict[str, Any]:
        """The labels of one hand."""
        out = {name: hand[name] for name in _FIELDS if name in hand}
        box = np.asarray(hand["bbox"], float).reshape(2, 2)
        extent = np.maximum(np.round(box[1] * self.factor, 2), 0.01)
        # A hand of which the edge of the picture shows less than half a pixel would slip out of it.
        corner = np.clip(np.round(self._points(box[:1])[0], 2), -extent, self.new)
        out["bbox"] = [*corner.tolist(), *extent.tolist()]
        if hand.get("area") is not None:
            out["area"] = round(float(hand["area"]) * float(self.factor.prod()), 2)
        if hand.get("keypoints"):
            keypoints = np.asarray(hand["keypoints"], float).reshape(-1, 3)
            labelled = keypoints[:, 2:] > 0
            keypoints[:, :2] = np.where(labelled, np.round(self._points(keypoints[:, :2]), 2), 0)
            out["keypoints"] = keypoints.ravel().tolist()
        return out

    def _points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points + 0.5) * self.factor - 0.5


def _size(image: dict[str, Any]) -> tuple[int, int]:
    return int(image["width"]), int(image["height"])


def _told_apart(names: Iterable[str]) -> list[str]:
    """The names, ending in .jpg, all different and none outside the folder."""
    taken: dict[str, None] = {}
    for name in names:
        parts = [part for part in PurePosixPath(name).parts if part.strip("/") not in ("", "..")]
        stem = str(PurePosixPath(*parts).with_suffix(""))
        free, number = f"{stem}.jpg", 1
        while free in taken:
            number += 1
            free = f"{stem}_{number}.jpg"
        taken[free] = None
    return list(taken)
