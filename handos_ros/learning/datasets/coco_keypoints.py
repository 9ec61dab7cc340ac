"""Photographs with hands in COCO's keypoint format: a json beside a folder of pictures.

Besides COCO's own fields, these are understood: an annotation's `handedness` (`left`, `right`, null),
its `label_score` (how sure the label is, 0 to 1) and `joints_3d` (21 x 3 m, wrist at 0, camera axes, of a
teacher network; or, with `joints_3d_absolute`, where they are before the camera); and a picture's
`exhaustive` (false: hands without a label may be in it) and `k` (9 values, row by row). A picture with a
crowd (`iscrowd`) is not exhaustive: hands of it have no labels of their own.

Of several categories those count that list the joints of a hand, or, where none lists any, those called
hands. Where neither tells hands from other things, all count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    Attributes:
        entries: the pictures.
        left_out: how many annotations are of other categories than hands.

    Raises:
        DataError: naming the file, the picture and the annotation that cannot be used.
    """

    def __init__(self, annotations: str | Path, images: str | Path | None = None) -> None:
        self.path = Path(annotations)
        self.folder = Path(images) if images is not None else self.path.parent / "images"
        self.entries, self.left_out = _parse(self.path)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder of pictures; name it with --images")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        labels = {name: value for name, value in vars(entry.labels).items() if name != "image"}
        return Sample(image=self.picture(entry), **labels)

    def picture(self, entry: PictureEntry) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of one of the entries.

        Raises:
            DataError: naming the picture that cannot be read or is not of the size that its labels are for.
        """
        path = self.folder / entry.file_name
        image = read_picture(path)
        self.check_size(entry, image.shape[1], image.shape[0])
        return image

    def check_size(self, entry: PictureEntry, width: int, height: int) -> None:
        """See to it that a picture of this size is the one that the entry's labels are for.

        Raises:
            DataError: naming both.
        """
        if (width, height) == (entry.width, entry.height):
            return
        why = "its labels would not fit"
        if (height, width) == (entry.width, entry.height):
            why += (
                "; a picture with an EXIF orientation is as it is stored here, and upright for `handos image`"
            )
        raise DataError(
            f"{self.folder / entry.file_name}: the picture is {width}x{height}, but {self.path} says "
            f"{entry.width}x{entry.height}: {why}"
        )

    def count_as_complete(self, index: int) -> None:
        """Take all hands of a picture for labelled, whatever the file says."""
        entry = self.entries[index]
        self.entries[index] = replace(entry, labels=replace(entry.labels, exhaustive=True))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def _parse(path: Path) -> tuple[list[PictureEntry], int]:
    """The pictures, and how many annotations are of no hands."""
    content = read_json(path)
    try:
        images, annotations = content["images"], content["annotations"]
        by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: not in COCO's format: needs images and annotations ({error})") from None
    orders = _joint_orders(path, content.get("categories") or [])
    crowded: set[int] = set()
    left_out = 0
    for annotation in annotations:
        if annotation.get("image_id") not in by_image:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} belongs to picture "
                f"{annotation.get('image_id')}, which the file does not list"
            )
        if None not in orders and annotation.get("category_id") not in orders:
            left_out += 1
        elif annotation.get("iscrowd"):
            crowded.add(annotation["image_id"])
        else:
            by_image[annotation["image_id"]].append(annotation)
    pictures = []
    for image in images:
        if image["id"] in crowded:
            image = {**image, "exhaustive": False}
        pictures.append(_entry(path, image, by_image[image["id"]], orders))
    return pictures, left_out


_OURS = list(range(NUM_JOINTS))


def _joint_orders(path: Path, categories: list[dict[str, Any]]) -> dict[Any, list[int]]:
    """By the categories that are hands, where each of our joints stands in their lists; None is any."""
    try:
        lists = {c["id"]: list(c.get("keypoints") or ()) for c in categories}
        hands = {c["id"] for c in categories if "hand" in str(c.get("name", "")).lower()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: categories: {error!r}") from None
    orders = {
        number: [names.index(joint) for joint in JOINT_NAMES]
        for number, names in lists.items()
        if set(names) >= set(JOINT_NAMES)
    }
    for number, names in lists.items():
        if names and not orders and (number in hands or len(lists) == 1):
            missing = ", ".join(joint for joint in JOINT_NAMES if joint not in names)
            raise DataError(f"{path}: the category's keypoints lack {missing}; they are {names}")
    if len(lists) <= 1:
        return {None: next(iter(orders.values()), _OURS)}
    return orders or dict.fromkeys(hands or [None], _OURS)


def _entry(
    path: Path, image: dict[str, Any], annotations: list[dict[str, Any]], orders: dict[Any, list[int]]
) -> PictureEntry:
    try:
        name, width, height = str(image["file_name"]), int(image["width"]), int(image["height"])
        source = f"{path.parent.name}:{name}"
        rows = []
        for a in annotations:
            order = orders.get(None) or orders[a["category_id"]]
            rows.append(_row(f"{path}: annotation {a.get('id')} ({name})", a, width, height, order))
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
    except (KeyError, IndexError, TypeError, ValueError) as error:
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
