"""The wrist's own axes, for teleoperation and retargeting: how a hand is turned, from its joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.hands import JOINT_NAMES, RIGHT

_WRIST = JOINT_NAMES.index("wrist")
_INDEX, _MIDDLE, _LITTLE = (JOINT_NAMES.index(f"{finger}_mcp") for finger in ("index", "middle", "little"))


def wrist_orientations(joints_3d: ArrayLike, handedness: ArrayLike) -> NDArray[np.float64]:
    """How each hand is turned, as the quaternion that Hand.msg documents.

    Args:
        joints_3d: (N, 21, 3) m, any frame.
        handedness: (N,) 0 left, 1 right.

    Returns:
        (N, 4) unit quaternions x y z w with w >= 0, from the wrist's axes to the frame of the joints;
        the identity where the joints give no axes.
    """
    return quaternions(wrist_axes(joints_3d, handedness))


def wrist_axes(joints_3d: ArrayLike, handedness: ArrayLike) -> NDArray[np.float64]:
    """The wrist's axes as the columns x, y, z of rotation matrices.

    z runs from the wrist to the middle finger's mcp joint. y runs across the palm, at right angles to z:
    from the little finger's side to the thumb's on a right hand and the other way round on a left one.
    x = y cross z. Seen from the hand, x thus points out of the palm on both hands.

    Args:
        joints_3d: (N, 21, 3) m, any frame.
        handedness: (N,) 0 left, 1 right.

    Returns:
        (N, 3, 3) rotation matrices; the identity where the joints coincide, lie on one line or are not
        finite.
    """
    joints = np.asarray(joints_3d, np.float64)
    to_thumb = joints[:, _INDEX] - joints[:, _LITTLE]
    y = np.where((np.asarray(handedness) == RIGHT)[:, None], to_thumb, -to_thumb)
    z = joints[:, _MIDDLE] - joints[:, _WRIST]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        width = np.linalg.norm(y, axis=1, keepdims=True)
        y = y - (y * z).sum(1, keepdims=True) * z
        across = np.linalg.norm(y, axis=1, keepdims=True)
        y = y / across
        axes = np.stack([np.cross(y, z), y, z], -1)
        # What is left of y after z is taken out must be more than rounding.
        good = np.isfinite(axes).all((1, 2)) & (across > 1e-6 * width)[:, 0]
    return np.where(good[:, None, None], axes, np.eye(3))


def quaternions(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (N, 3, 3) -> unit quaternions (N, 4) x y z w with w >= 0.

    Each matrix gives the quaternion times 4 q_i in four ways, one for each component q_i; the one with
    the largest q_i has the least rounding (Shepperd, 1978, doi:10.2514/3.55767b).
    """
    m = rotations
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    ways = np.stack(
        [
            np.stack([1 + xx - yy - zz, xy, xz, wx], -1),
            np.stack([xy, 1 - xx + yy - zz, yz, wy], -1),
            np.stack([xz, yz, 1 - xx - yy + zz, wz], -1),
            np.stack([wx, wy, wz, 1 + xx + yy + zz], -1),
        ],
        1,
    )
    best = np.argmax(np.einsum("nii->ni", ways), axis=1)
    q = ways[np.arange(len(m)), best]
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    return np.where(q[:, 3:] < 0, -q, q)
