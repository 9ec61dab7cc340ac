"""Linear blend skinning in NumPy: bone rotations and shape -> vertices and joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.hand_model.model import HandModel, Rig, Skin


def pose(
    model: HandModel, rotations: NDArray, shape: NDArray | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pose N right hands.

    Args:
        model: V vertices, B bones, S shape components.
        rotations: (N, B, 3, 3) turn of each bone about its head relative to its parent, in the axes of
            the rest pose (as in SMPL and MANO); the root's turns the whole hand about the wrist.
        shape: (N, S) standard deviations, None for the mean shape.

    Returns:
        (N, V, 3) vertices and (N, 21, 3) joints in m, the root bone's head at the origin.
    """
    vertices, _ = pose_bones(model, rotations, shape)
    return vertices, model.joint_regressor @ vertices


def pose_bones(
    skin: Skin, rotations: NDArray, shape: NDArray | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `pose`, but with the posed heads of the bones (N, B, 3) in place of the joints."""
    rest = shaped(skin, shape, len(rotations))
    heads = skin.bone_regressor @ rest
    rest, heads = rest - heads[:, :1], heads - heads[:, :1]
    if skin.pose_basis is not None:
        offsets = (rotations[:, 1:] - np.eye(3)).reshape(len(rotations), len(skin.pose_basis))
        rest = rest + np.tensordot(offsets, skin.pose_basis, 1)
    turns, places = forward_kinematics(skin.bone_parents, rotations, heads)
    shifts = places - np.einsum("nbij,nbj->nbi", turns, heads)
    transforms = np.concatenate([turns, shifts[..., None]], -1).reshape(*turns.shape[:2], 12)
    blended = (skin.skinning @ transforms).reshape(*rest.shape[:2], 3, 4)
    vertices = np.einsum("nvij,nvj->nvi", blended[..., :3], rest) + blended[..., 3]
    return vertices.astype(np.float32), places.astype(np.float32)


def shaped(skin: Skin, shape: NDArray | None, count: int = 1) -> NDArray[np.float32]:
    """(N, V, 3) rest vertices of N shapes (N, S); `count` copies of the template for None."""
    if shape is None:
        return np.repeat(skin.template[None], count, 0)
    return skin.template + np.tensordot(np.asarray(shape, np.float32), skin.shape_basis, 1)


def forward_kinematics(parents: NDArray, rotations: NDArray, heads: NDArray) -> tuple[NDArray, NDArray]:
    """Global turns (N, B, 3, 3) and places (N, B, 3) of bones from local turns and rest heads."""
    turns, places = np.empty_like(rotations), np.empty_like(heads)
    turns[:, 0], places[:, 0] = rotations[:, 0], heads[:, 0]
    for bone in range(1, len(parents)):
        parent = parents[bone]
        turns[:, bone] = turns[:, parent] @ rotations[:, bone]
        step = (heads[:, bone] - heads[:, parent])[..., None]
        places[:, bone] = places[:, parent] + (turns[:, parent] @ step)[..., 0]
    return turns, places


def axis_rotations(axes: ArrayLike, angles: ArrayLike) -> NDArray[np.float32]:
    """Rodrigues' formula: unit axes (..., 3) and angles (...) in rad -> rotations (..., 3, 3)."""
    axes, angles = np.asarray(axes, np.float64), np.asarray(angles, np.float64)[..., None, None]
    x, y, z = np.moveaxis(axes, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return (np.eye(3) + np.sin(angles) * k + (1 - np.cos(angles)) * (k @ k)).astype(np.float32)


def anatomical_rotations(
    rig: Rig, flexion: ArrayLike, abduction: ArrayLike | None = None, twist: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Local bone turns from angles in rad from the rest pose: (..., B) each -> (..., B, 3, 3).

    R = abduction @ flexion @ twist, twist being about the bone itself, away from the wrist.
    """
    rotations = _turns(rig.flexion_axes, flexion)
    if abduction is not None:
        rotations = _turns(rig.abduction_axes, abduction) @ rotations
    if twist is not None:
        rotations = rotations @ _turns(np.cross(rig.flexion_axes, rig.abduction_axes), twist)
    return rotations


def _turns(axes: NDArray, angles: ArrayLike) -> NDArray[np.float32]:
    return axis_rotations(np.broadcast_to(axes, (*np.shape(angles), 3)), angles)
