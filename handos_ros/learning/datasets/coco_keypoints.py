"""Photographs with hands in COCO's keypoint format: a json beside a folder of pictures.

Besides COCO's own fields, these are understood: an annotation's `handedness` (`left`, `right`, null),
its `label_score` (how sure the label is, 0 to 1) and `joints_3d` (21 x 3 m, wrist at 0, camera axes, of a
teacher network; or, with `joints_3d_absolute`, where they are before the camera); and a picture's
`exhaustive` (false: hands without a label may be in it) and `k` (9 values, row by row).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from handos_ros.errors import DataError
from handos_ros.hands import JOINT_NAMES, LEFT, NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.reading import read_json, read_picture
from handos_ros.learning.sample import SIDE_UNKNOWN, Sample

_SIDES = {"left": LEFT, "right": RIGHT, None: SIDE_UNKNOWN}
_MARGIN = 1.0
"""A box may stick out of its picture by this many times its own size: labels of cut hands do."""


@dataclass(frozen=True)
class PictureEntry:
    """One picture of the file and its annotations, not yet read."""

    id: int
    file_name: str
    width: int
    height: int
    labels: Sample
    """The labels, with a picture of no pixels."""


class CocoKeypoints:
    """The pictures of one annotation file; `len`, `[i]` -> `Sample`, and iteration.

    Every annotation is checked when the file is opened, so that a long training does not end in the
    middle; pictures are read on demand.

    Args:
        annotations: the json file.
        images: the folder its `file_name` are relative to; by default `images` beside the file.

    Raises:
        DataError: naming the file, the picture and the annotation that cannot be used.
    """

    def __init__(self, annotations: str | Path, images: str | Path | None = None) -> None:
        self.path = Path(annotations)
        self.folder = Path(images) if images is not None else self.path.parent / "images"
        self.entries = _parse(self.path)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder of pictures; name it with --images")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        path = self.folder / entry.file_name
        image = read_picture(path)
        if image.shape[:2] != (entry.height, entry.width):
            raise DataError(
                f"{path}: the picture is {image.shape[1]}x{image.shape[0]}, but {self.path} says "
                f"{entry.width}x{entry.height}: its labels would not fit"
            )
        labels = {name: value for name, value in vars(entry.labels).items() if name != "image"}
        return Sample(image=image, **labels)

    def count_as_complete(self, index: int) -> None:
        """Take all hands of a picture for labelled, whatever the file says."""
        entry = self.entries[index]
        self.entries[index] = replace(entry, labels=replace(entry.labels, exhaustive=True))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def _parse(path: Path) -> list[PictureEntry]:
    content = read_json(path)
    try:
        images, annotations = content["images"], content["annotations"]
        by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: not in COCO's format: needs images and annotations ({error})") from None
    order = _joint_order(path, content.get("categories") or [])
    for annotation in annotations:
        if annotation.get("iscrowd"):
            continue
        if annotation.get("image_id") not in by_image:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} belongs to picture "
                f"{annotation.get('image_id')}, which the file does not list"
            )
        by_image[annotation["image_id"]].append(annotation)
    return [_entry(path, image, by_image[image["id"]], order) for image in images]


def _joint_order(path: Path, categories: list[dict[str, Any]]) -> list[int]:
    """Where each of our joints stands in the file's list."""
    names = [n for c in categories for n in c.get("keypoints", ())]
    if not names:
        return list(range(NUM_JOINTS))
    missing = [n for n in JOINT_NAMES if n not in names]
    if missing:
        raise DataError(f"{path}: the category's keypoints lack {', '.join(missing)}; they are {names}")
    return [names.index(n) for n in JOINT_NAMES]


def _entry(
    path: Path, image: dict[str, Any], annotations: list[dict[str, Any]], order: list[int]
) -> PictureEntry:
    try:
        name, width, height = str(image["file_name"]), int(image["width"]), int(image["height"])
        source = f"{path.parent.name}:{name}"
        rows = [
            _row(f"{path}: annotation {a.get('id')} ({name})", a, width, height, order) for a in annotations
        ]
        k = image.get("k")
        labels = Sample.labelled(
            np.zeros((0, 0, 3), np.uint8),
            [r["box"] for r in rows],
            k=None if k is None else np.reshape(k, (3, 3)),
            handedness=[r["side"] for r in rows],
            joints_2d=[r["joints_2d"] for r in rows],
            joints_2d_weight=[r["weight"] for r in rows],
            visibility=[r["visibility"] for r in rows],
            joints_3d=[r["joints_3d"] for r in rows],
            has_joints_3d=[r["has_3d"] for r in rows],
            joints_3d_absolute=[r["absolute"] for r in rows],
            exhaustive=bool(image.get("exhaustive", True)),
            source=source,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: picture {image.get('file_name', image.get('id'))}: {error!r}") from None
    return PictureEntry(image["id"], name, width, height, labels)


def _row(where: str, annotation: dict[str, Any], width: int, height: int, order: list[int]) -> dict[str, Any]:
    """The labels of one hand."""
    x, y, w, h = (float(value) for value in annotation["bbox"])
    outside = x + w < 0 or y + h < 0 or x > width or y > height
    far_out = max(-x, x + w - width) > _MARGIN * w or max(-y, y + h - height) > _MARGIN * h
    if not (w > 0 and h > 0) or outside or far_out:
        raise DataError(f"{where}: the box {annotation['bbox']} is not in its {width}x{height} picture")
    keypoints = np.zeros((NUM_JOINTS, 3))
    if annotation.get("keypoints"):
        values = np.asarray(annotation["keypoints"], np.float64)
        if values.size < 3 * NUM_JOINTS:
            raise DataError(f"{where}: {values.size // 3} keypoints, a hand has {NUM_JOINTS}")
        keypoints = values.reshape(-1, 3)[order]
    flag = keypoints[:, 2]
    labelled = flag > 0
    points = np.where(labelled[:, None], keypoints[:, :2], 0)
    # A joint may lie outside the picture, but not by more than a hand's length.
    slack = 2 * max(w, h)
    low, high = np.array([x - slack, y - slack]), np.array([x + w + slack, y + h + slack])
    stray = labelled & ~((points >= low) & (points <= high)).all(1)
    if stray.any() or not np.isfinite(keypoints).all():
        joint = int(np.argmax(stray))
        raise DataError(f"{where}: joint {JOINT_NAMES[joint]} at {points[joint].tolist()} is far off the box")
    if annotation.get("handedness") not in _SIDES:
        raise DataError(f"{where}: handedness {annotation['handedness']!r}, must be left, right or null")
    score = annotation.get("label_score")
    joints_3d = annotation.get("joints_3d")
    return {
        "box": (x, y, x + w, y + h),
        "side": _SIDES[annotation.get("handedness")],
        "joints_2d": points,
        "weight": labelled * (1.0 if score is None else float(score)),
        "visibility": np.where(labelled, flag > 1, np.nan),
        "joints_3d": np.zeros((NUM_JOINTS, 3)) if joints_3d is None else np.asarray(joints_3d)[order],
        "has_3d": joints_3d is not None,
        "absolute": joints_3d is not None and bool(annotation.get("joints_3d_absolute")),
    }
