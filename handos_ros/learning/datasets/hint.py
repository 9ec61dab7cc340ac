"""HInt (github.com/ddshan/hint): hands in the wild with 2D joints and whether each is hidden.

Folder tree, as unpacked from `HInt_annotation_partial.zip` (Ego4D's pictures are fetched separately):

    {TRAIN,VAL,TEST}_{newdays,epick,ego4d}_img/NAME_l.jpg and NAME_l.json

`epick` is VISOR. One file is one hand: `_l` left, `_r` right, its json a list with `bbox` [[x_min, y_min,
x_max, y_max]], `keypoints` [[x, y] x 21] in this package's order and `occlusion` [0 or 1 x 21]. Not every
hand in a picture is labelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.reading import read_json, read_picture
from handos_ros.learning.sample import Sample

SUBSETS = ("newdays", "epick", "ego4d")
"""New Days of Hands, Epic-Kitchens VISOR, Ego4D."""


class HInt:
    """The hands of one split; `len` and `[i]` -> `Sample` with one hand, not exhaustive.

    Args:
        folder: what holds `TEST_newdays_img` and the like.
        split: `train`, `val` or `test`.
        subset: one of `SUBSETS`, or None for all that are there.

    Raises:
        DataError: if there is nothing to read, naming where it was looked for.
    """

    def __init__(self, folder: str | Path, split: str = "train", subset: str | None = None) -> None:
        self.folder = Path(folder)
        if split not in ("train", "val", "test"):
            raise DataError(f"HInt has no split {split!r}: it is train, val or test")
        if subset is not None and subset not in SUBSETS:
            raise DataError(f"HInt has no subset {subset!r}: it is one of {', '.join(SUBSETS)}")
        names = [f"{split.upper()}_{name}_img" for name in ([subset] if subset else SUBSETS)]
        self.labels = sorted(path for name in names for path in (self.folder / name).glob("*.json"))
        if not self.labels:
            raise DataError(f"{self.folder}: no labels in {' or '.join(names)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        path = self.labels[index]
        side = {"_l": LEFT, "_r": RIGHT}.get(path.stem[-2:])
        if side is None:
            raise DataError(f"{path}: the name of a hand's file ends in _l or _r")
        content = read_json(path)
        try:
            if len(content) != 1:
                raise ValueError(f"{len(content)} hands, a file has one")
            hand = content[0]
            box = np.asarray(hand["bbox"], np.float64).reshape(4)
            points = np.asarray(hand["keypoints"], np.float64)[:, :2].reshape(NUM_JOINTS, 2)
            hidden = np.asarray(hand["occlusion"], np.float64).reshape(NUM_JOINTS) > 0.5
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: not a label of HInt: {error}") from None
        # A joint that nobody could place stands at the origin.
        labelled = np.logical_and(np.isfinite(points).all(1), (points > 0).any(1))
        return Sample.labelled(
            read_picture(path.with_suffix(".jpg")),
            [box],
            handedness=[side],
            joints_2d=[np.where(labelled.reshape(-1, 1), points, 0)],
            joints_2d_weight=[labelled],
            visibility=[np.where(labelled, ~hidden, np.nan)],
            exhaustive=False,
            source=f"hint:{path.parent.name}/{path.stem}",
        )
