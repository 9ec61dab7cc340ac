"""HO-3D v3 (github.com/shreyashampali/ho3d): right hands that hold an object, with 3D joints.

Folder tree, as unpacked:

    train.txt, evaluation.txt           one `SEQUENCE/0000` a line
    {train,evaluation}/SEQUENCE/rgb/0000.jpg     (png in v2)
    {train,evaluation}/SEQUENCE/meta/0000.pkl    camMat, handJoints3D; for evaluation handBoundingBox and
                                                 the root alone
    evaluation_xyz.json, evaluation_verts.json   came out later: true joints and meshes of the evaluation

Its axes are OpenGL's (y up, z backwards) and its joints in MANO's order with the tips at the end; both
are turned into this package's here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import DataError, ModelError
from handos_ros.hand_model.restricted_pickle import load_arrays
from handos_ros.hands import NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.reading import JOINT_MARGIN, box_around, project, read_json, read_picture
from handos_ros.learning.sample import Sample

JOINTS_FROM_HO3D = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Where each of our joints stands in HO-3D's list: wrist; index, middle, little, ring, thumb, from the
base; then the tips of thumb, index, middle, ring and little finger."""

_FLIP = np.array([1.0, -1.0, -1.0])


def from_ho3d(points: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) in OpenGL's axes -> the optical frame; its own inverse."""
    return np.asarray(points, np.float64) * _FLIP


class Ho3d:
    """The pictures of one split; `len` and `[i]` -> `Sample` with one hand.

    Args:
        folder: what holds `train` and `evaluation`.
        split: `train` or `evaluation`.

    Raises:
        DataError: naming the file that is missing or cannot be used.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder, self.split = Path(folder), split
        if split not in ("train", "evaluation"):
            raise DataError(f"HO-3D has no split {split!r}: it is train or evaluation")
        path = self.folder / f"{split}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split()
        except OSError as error:
            raise DataError(f"{path}: cannot read the list of pictures: {error.strerror}") from None
        self.names = [tuple(line.split("/")) for line in lines]
        if not self.names or any(len(name) != 2 for name in self.names):
            raise DataError(f"{path}: every line must be SEQUENCE/NUMBER")
        self._truth = self._evaluation_truth() if split == "evaluation" else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        sequence, number = self.names[index]
        folder = self.folder / self.split / sequence
        path = folder / "meta" / f"{number}.pkl"
        try:
            meta = load_arrays(path)
            k = np.asarray(meta["camMat"], np.float64).reshape(3, 3)
            listed = np.asarray(meta["handJoints3D"], np.float64).reshape(-1, 3)
        except ModelError as error:
            raise DataError(str(error)) from None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a label of HO-3D: {error!r}") from None
        mesh = None
        if self._truth is not None:
            listed, mesh = self._truth[0][index], self._truth[1]
        # Without the later files, the evaluation's labels hold the root alone.
        joints = from_ho3d(listed[list(JOINTS_FROM_HO3D)]) if len(listed) == NUM_JOINTS else None
        vertices = None if mesh is None else from_ho3d(mesh[index])
        pictures = [folder / "rgb" / f"{number}.{suffix}" for suffix in ("jpg", "png")]
        image = read_picture(next((p for p in pictures if p.exists()), pictures[0]))
        height, width = image.shape[:2]
        points = None if joints is None else project(joints, k)
        if "handBoundingBox" in meta:
            box = np.asarray(meta["handBoundingBox"], np.float64).reshape(4)
        elif points is not None:
            box = box_around(points, width, height, margin=JOINT_MARGIN)
        else:
            raise DataError(f"{path}: neither joints nor a box")
        return Sample.labelled(
            image,
            [box],
            k=k,
            handedness=[RIGHT],
            joints_2d=None if points is None else points[None],
            joints_3d=None if joints is None else joints[None],
            vertices=None if vertices is None else vertices[None],
            source=f"ho3d:{self.split}/{sequence}/{number}",
        )

    def _evaluation_truth(self) -> tuple[NDArray, NDArray | None] | None:
        """Joints (N, 21, 3) and vertices (N, 778, 3) of the evaluation as published, if they are there."""
        path = self.folder / "evaluation_xyz.json"
        if not path.exists():
            return None
        joints = np.asarray(read_json(path), np.float32)
        meshes = self.folder / "evaluation_verts.json"
        vertices = np.asarray(read_json(meshes), np.float32) if meshes.exists() else None
        for name, array in ((path, joints), (meshes, vertices)):
            if array is not None and len(array) != len(self.names):
                raise DataError(f"{name}: {len(array)} entries for {len(self.names)} pictures")
        return joints, vertices
