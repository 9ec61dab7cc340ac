"""OneHand10K (yangangwang.com): single hands in photographs, with 2D joints.

Folder tree, as unpacked:

    {Train,Test}/source/0.jpg ...
    {Train,Test}/label_joint.txt    a line for each: name,width,height,hands,x1,y1,...,x21,y21

Joints are in this package's order; -1,-1 is a joint that cannot be seen and has no label. The side of the
hand is not given. Boxes are not either: they go around the labelled joints, so that a hand with hidden
finger tips has a box that is too small, and hands with fewer than `LEAST_JOINTS` joints are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handos_ros.errors import DataError
from handos_ros.hands import NUM_JOINTS
from handos_ros.learning.datasets.reading import JOINT_MARGIN, box_around, read_picture
from handos_ros.learning.sample import Sample

LEAST_JOINTS = 11


class OneHand10K:
    """The pictures of one split; `len` and `[i]` -> `Sample` with one hand.

    Args:
        folder: what holds `Train` and `Test`.
        split: `train` or `test`.

    Raises:
        DataError: naming the file and line that cannot be used.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        if split not in ("train", "test"):
            raise DataError(f"OneHand10K has no split {split!r}: it is train or test")
        self.folder = Path(folder) / split.capitalize()
        path = self.folder / "label_joint.txt"
        try:
            lines = path.read_text(encoding="utf-8").split()
        except OSError as error:
            raise DataError(f"{path}: cannot read the labels: {error.strerror}") from None
        self.names: list[str] = []
        points = []
        for number, line in enumerate(lines, 1):
            name, *values = line.split(",")
            try:
                joints = np.array(values[3:], np.float32).reshape(-1, 2)[:NUM_JOINTS]
            except ValueError as error:
                raise DataError(f"{path}: line {number}: {error}") from None
            if len(joints) != NUM_JOINTS:
                raise DataError(f"{path}: line {number}: {len(joints)} joints, a hand has {NUM_JOINTS}")
            if (joints >= 0).all(1).sum() >= LEAST_JOINTS:
                self.names.append(name)
                points.append(joints)
        self.points = np.array(points).reshape(-1, NUM_JOINTS, 2)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name, points = self.names[index], self.points[index]
        image = read_picture(self.folder / "source" / name)
        labelled = (points >= 0).all(1)
        height, width = image.shape[:2]
        return Sample.labelled(
            image,
            [box_around(points[labelled], width, height, margin=JOINT_MARGIN)],
            joints_2d=[np.where(labelled.reshape(-1, 1), points, 0)],
            joints_2d_weight=[labelled],
            visibility=[np.where(labelled, 1, np.nan)],
            exhaustive=False,
            source=f"onehand10k:{self.folder.name}/{name}",
        )
