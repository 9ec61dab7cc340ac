"""MANO as the annotations of data sets use it: pose, shape and translation in, vertices out, for either hand.

The formula is MANO's (Romero et al. 2017, mano.is.tue.mpg.de): shape blend shapes, pose blend shapes of the
15 finger rotations, linear blend skinning. The hand turns about the wrist of its own shape at rest, which
does not lie at the origin, and the translation is added last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import ModelError
from handos_ros.hand_model.mano import read_mano, side_of
from handos_ros.hand_model.model import Skin
from handos_ros.hand_model.posing import axis_rotations, pose_bones, shaped
from handos_ros.hands import LEFT, RIGHT

_NAMES = {RIGHT: "MANO_RIGHT", LEFT: "MANO_LEFT"}
_MIRRORED = 0.005
"""Metres on average within which the left hand must be the right one's mirror image, vertex by vertex."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ManoHand(Skin):
    """One of MANO's two hands, in MANO's own frame, as its file has it.

    Attributes:
        hands_mean: (45,) axis-angle rad, the mean pose of the fingers.
        hands_components: (45, 45) principal components of the fingers' axis-angles, one a row.
    """

    hands_mean: NDArray[np.float64]
    hands_components: NDArray[np.float64]


def load_mano_hands(path: str | Path) -> dict[int, ManoHand]:
    """The right hand, and the left one where its file is there, by side.

    Args:
        path: `MANO_RIGHT.pkl` (or an npz of it), beside which `MANO_LEFT` of the same kind is looked for,
            or the folder of both.

    Raises:
        ModelError: naming the file that is missing, is not MANO's or is of the other hand.
    """
    path = Path(path)
    right = path / f"{_NAMES[RIGHT]}.pkl" if path.is_dir() else path
    hands = {RIGHT: _read(right, RIGHT)}
    left = right.with_name(f"{_NAMES[LEFT]}{right.suffix}")
    if left.exists():
        hands[LEFT] = _read(left, LEFT)
        apart = np.linalg.norm(hands[LEFT].template * [-1, 1, 1] - hands[RIGHT].template, axis=1).mean()
        if apart > _MIRRORED:
            raise ModelError(
                f"{left}: its vertices are not those of {right.name} mirrored ({1000 * apart:.0f} mm apart); "
                "without this file left hands have no mesh"
            )
    return hands


def pose_mano(
    hand: ManoHand, pose: ArrayLike, shape: ArrayLike, translation: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vertices and bone heads as MANO's own code gives them.

    Args:
        pose: (48,) axis-angle rad of the whole hand and of the 15 finger bones, in MANO's order; no mean is
            added (see `pose_from_components`).
        shape: (S,) betas, S up to those of the file.
        translation: (3,) m.

    Returns:
        (778, 3) vertices and (16, 3) heads of the bones, in m, in the frame of `pose` and `translation`.
    """
    axes = np.asarray(pose, np.float64).reshape(1, 16, 3)
    angles = np.linalg.norm(axes, axis=-1)
    rotations = axis_rotations(axes / np.maximum(angles, 1e-12)[..., None], angles)
    betas = np.zeros((1, len(hand.shape_basis)))
    given = np.asarray(shape, np.float64).reshape(-1)
    betas[0, : len(given)] = given
    vertices, heads = pose_bones(hand, rotations, betas)
    wrist = hand.bone_regressor[0] @ shaped(hand, betas)[0]
    place = wrist + np.asarray(translation, np.float64).reshape(3)
    return vertices[0] + place, heads[0] + place


def pose_from_components(
    hand: ManoHand, pose: ArrayLike, *, flat_hand_mean: bool = False
) -> NDArray[np.float64]:
    """(48,) axis-angle from the whole hand's turn and principal components of the fingers' pose.

    Args:
        pose: (3 + n,) axis-angle rad, then weights of the first n components, n up to 45.
        flat_hand_mean: whether weights of 0 are the flat hand; else they are MANO's mean pose. The name is
            that of smplx and manopth.
    """
    pose = np.asarray(pose, np.float64).reshape(-1)
    fingers = pose[3:] @ hand.hands_components[: len(pose) - 3]
    return np.concatenate([pose[:3], fingers if flat_hand_mean else fingers + hand.hands_mean])


def _read(path: Path, side: int) -> ManoHand:
    data = read_mano(path)
    if side_of(data) != side:
        raise ModelError(f"{path}: the other hand; {_NAMES[side]} is needed")
    if "hands_mean" not in data or "hands_components" not in data:
        raise ModelError(f"{path}: not the whole of MANO: it lacks hands_mean or hands_components")
    parents = data["kintree_table"][0].astype(np.int64)
    arrays = {
        "template": data["v_template"],
        "skinning": data["weights"],
        "bone_regressor": data["J_regressor"],
        "shape_basis": data["shapedirs"].transpose(2, 0, 1),
        "pose_basis": data["posedirs"].transpose(2, 0, 1),
    }
    return ManoHand(
        **{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()},
        bone_parents=np.array([-1, *parents[1:]], np.int32),
        hands_mean=data["hands_mean"],
        hands_components=data["hands_components"],
    )
