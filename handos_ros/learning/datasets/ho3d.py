"""HO-3D v3 and H2O-3D (github.com/shreyashampali/ho3d): hands that hold an object, with 3D joints.

HO-3D shows right hands, H2O-3D both hands of a person.

Folder tree, as unpacked:

    train.txt, evaluation.txt           one `SEQUENCE/0000` a line
    {train,evaluation}/SEQUENCE/rgb/0000.jpg     (png in v2)
    {train,evaluation}/SEQUENCE/meta/0000.pkl    camMat, handJoints3D, handPose, handBeta, handTrans; for
                                                 evaluation handBoundingBox and the root alone. H2O-3D:
                                                 rightHandJoints3D, leftHandJoints3D, rightHandPose, ...,
                                                 handBeta, jointValidRight, rightHandBoundingBox, ...
    evaluation_xyz.json, evaluation_verts.json   came out later for HO-3D: true joints and meshes

Its axes are OpenGL's (y up, z backwards) and its joints in MANO's order with the tips at the end; both
are turned into this package's here. Poses are 48 axis-angle values to which no mean pose is to be added
(`fullpose` in its `vis_HO3D.py`); training meshes are made of them with the user's own MANO.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import DataError, ModelError
from handos_ros.hand_model.restricted_pickle import load_arrays
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.mano_meshes import NUM_VERTICES, ManoMeshes
from handos_ros.learning.datasets.reading import JOINT_MARGIN, box_around, project, read_json, read_picture
from handos_ros.learning.sample import Sample

JOINTS_FROM_HO3D = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Where each of our joints stands in HO-3D's list: wrist; index, middle, little, ring, thumb, from the
base; then the tips of thumb, index, middle, ring and little finger."""

_FLIP = np.array([1.0, -1.0, -1.0])


def from_ho3d(points: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) in OpenGL's axes -> the optical frame; its own inverse."""
    return np.asarray(points, np.float64) * _FLIP


@dataclass(frozen=True)
class _Keys:
    """What one hand's entries are called in a label."""

    side: int
    joints: str
    box: str
    pose: str
    translation: str
    valid: str | None = None
    """Which joints can be trusted; None where all can."""


class Ho3d:
    """The pictures of one split; `len` and `[i]` -> `Sample` with one hand, or none where it has no label.

    Args:
        folder: what holds `train` and `evaluation`.
        split: `train` or `evaluation`.
        mano: the user's own MANO files (see `load_mano_hands`), for the meshes of training pictures; None
            for joints alone.

    Raises:
        DataError: naming the file that is missing or cannot be used.
        ModelError: if a MANO file cannot be used.
    """

    name = "HO-3D"
    _hands: tuple[_Keys, ...] = (_Keys(RIGHT, "handJoints3D", "handBoundingBox", "handPose", "handTrans"),)

    def __init__(self, folder: str | Path, split: str = "train", *, mano: str | Path | None = None) -> None:
        self.folder, self.split = Path(folder), split
        if split not in ("train", "evaluation"):
            raise DataError(f"{self.name} has no split {split!r}: it is train or evaluation")
        path = self.folder / f"{split}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split()
        except OSError as error:
            raise DataError(f"{path}: cannot read the list of pictures: {error.strerror}") from None
        self.names = [tuple(line.split("/")) for line in lines]
        if not self.names or any(len(name) != 2 for name in self.names):
            raise DataError(f"{path}: every line must be SEQUENCE/NUMBER")
        self._truth = self._published_truth() if split == "evaluation" else None
        self._meshes = ManoMeshes(mano, self.name) if split == "train" else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        sequence, number = self.names[index]
        folder = self.folder / self.split / sequence
        pictures = [folder / "rgb" / f"{number}.{suffix}" for suffix in ("jpg", "png")]
        image = read_picture(next((p for p in pictures if p.exists()), pictures[0]))
        path = folder / "meta" / f"{number}.pkl"
        try:
            meta = load_arrays(path)
            k = np.asarray(meta["camMat"], np.float64).reshape(3, 3)
            found = [self._hand(meta, keys, index, k, image.shape) for keys in self._hands]
        except ModelError as error:
            raise DataError(str(error)) from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a label of {self.name}: {error!r}") from None
        hands = [hand for hand in found if hand is not None]
        return Sample.labelled(
            image,
            [hand["box"] for hand in hands],
            k=k,
            **{name: [hand[name] for hand in hands] for name in (hands[0] if hands else ()) if name != "box"},
            exhaustive=len(hands) == len(found),
            source=f"{self.name.lower()}:{self.split}/{sequence}/{number}",
        )

    def _hand(
        self, meta: dict[str, Any], keys: _Keys, index: int, k: NDArray, shape: tuple[int, ...]
    ) -> dict[str, Any] | None:
        """The labels of one hand by their names in `Sample`; None where there are none."""
        if meta[keys.joints] is None:
            return None
        listed = np.asarray(meta[keys.joints], np.float64).reshape(-1, 3)
        mesh = None
        if self._truth is not None:
            listed, mesh = self._truth[0][index], self._truth[1]
        # Without the later files, the evaluation's labels hold the root alone.
        whole = len(listed) == NUM_JOINTS
        joints = from_ho3d(listed[list(JOINTS_FROM_HO3D)]) if whole else np.zeros((NUM_JOINTS, 3))
        valid = np.full(NUM_JOINTS, whole)
        if whole and keys.valid is not None:
            valid = np.asarray(meta[keys.valid], np.float64).reshape(-1)[list(JOINTS_FROM_HO3D)] > 0
        points = project(joints, k) if whole else joints[:, :2]
        if keys.box in meta:
            box = np.asarray(meta[keys.box], np.float64).reshape(4)
        elif valid.any():
            box = box_around(points[valid], shape[1], shape[0], margin=JOINT_MARGIN)
        else:
            return None
        labels = {
            "box": box, "handedness": keys.side, "joints_2d": points, "joints_2d_weight": valid,
            "joints_3d": joints, "has_joints_3d": valid.all(),
        }  # fmt: skip
        if mesh is not None:
            return {**labels, "vertices": from_ho3d(mesh[index]), "has_vertices": True}
        if self._meshes is None or not self._meshes.hands:
            return labels
        # As with 3D joints: a hand of which some are unsure is posed by guess.
        posed = self._posed(meta, keys, joints) if valid.all() else None
        blank = np.zeros((NUM_VERTICES, 3))
        return {**labels, "vertices": blank if posed is None else posed, "has_vertices": posed is not None}

    def _posed(self, meta: dict[str, Any], keys: _Keys, joints: NDArray) -> NDArray[np.float64] | None:
        """The mesh of a label's pose parameters; None without a MANO file of that side."""
        assert self._meshes is not None
        pose = np.asarray(meta[keys.pose], np.float64).reshape(48)
        return self._meshes(
            keys.side,
            pose,
            meta["handBeta"],
            meta[keys.translation],
            joints=joints,
            turn=from_ho3d,
        )

    def _published_truth(self) -> tuple[NDArray, NDArray | None] | None:
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


class H2o3d(Ho3d):
    """H2O-3D, which differs in showing both hands; a hand whose joints are all unsure has no label."""

    name = "H2O-3D"
    _hands = tuple(
        _Keys(
            side, f"{name}HandJoints3D", f"{name}HandBoundingBox", f"{name}HandPose", f"{name}HandTrans",
            f"jointValid{name.title()}",
        )
        for side, name in ((RIGHT, "right"), (LEFT, "left"))
    )  # fmt: skip

    def _published_truth(self) -> None:
        """None has been published."""
        return
