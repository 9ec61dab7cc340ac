"""The hands of COCO-WholeBody (github.com/jin-s13/COCO-WholeBody): people in COCO's photographs.

Files: `coco_wholebody_{train,val}_v1.0.json`, and COCO 2017's `train2017` and `val2017` folders. Each
annotation is a person with, for either hand, `lefthand_box` [x, y, width, height], `lefthand_kpts` [x, y, v
x 21] in this package's order and `lefthand_valid`: false where the hand is hidden, too small or blurred to
label, which does not mean that it is not there, so no picture counts as exhaustively labelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.reading import read_json, read_picture
from handos_ros.learning.sample import Sample

_HANDS = (("left", LEFT), ("right", RIGHT))


class CocoWholeBodyHands:
    """The pictures in which at least one hand is labelled; `len` and `[i]` -> `Sample`.

    Args:
        annotations: the json file.
        images: the folder with its pictures.

    Raises:
        DataError: naming the file and the annotation that cannot be used.
    """

    def __init__(self, annotations: str | Path, images: str | Path) -> None:
        self.path, self.folder = Path(annotations), Path(images)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder of pictures")
        content = read_json(self.path)
        try:
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            people = content["annotations"]
        except (KeyError, TypeError) as error:
            raise DataError(f"{self.path}: not COCO-WholeBody: {error!r}") from None
        hands: dict[str, list[tuple[Any, ...]]] = {}
        for person in people:
            try:
                for name, side in _HANDS:
                    if person[f"{name}hand_valid"] and not person.get("iscrowd"):
                        hands.setdefault(names[person["image_id"]], []).append(_hand(person, name, side))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{self.path}: annotation {person.get('id')}: {error!r}") from None
        self.pictures = sorted(hands.items())

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        name, hands = self.pictures[index]
        boxes, points, flags, sides = (list(values) for values in zip(*hands, strict=True))
        flag = np.stack(flags)
        return Sample.labelled(
            read_picture(self.folder / name),
            boxes,
            handedness=sides,
            joints_2d=points,
            joints_2d_weight=flag > 0,
            # Between the whole numbers it is how sure the annotating network was, not whether it is seen.
            visibility=np.select([flag == 1, flag == 2], [0.0, 1.0], np.nan),
            exhaustive=False,
            source=f"coco_wholebody:{name}",
        )


def _hand(person: dict[str, Any], name: str, side: int) -> tuple[Any, ...]:
    """Box, joints, flags and side, in float32: the whole train split stays small in memory."""
    x, y, w, h = person[f"{name}hand_box"]
    joints = np.asarray(person[f"{name}hand_kpts"], np.float32).reshape(NUM_JOINTS, 3)
    return np.array([x, y, x + w, y + h], np.float32), joints[:, :2], joints[:, 2], side
