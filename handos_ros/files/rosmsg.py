"""`Hands` as ROS messages without ROS: the types of this package and the values of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

import handos_ros
from handos_ros.drawing.markers import Marker
from handos_ros.errors import DataError
from handos_ros.files.rosmsg_cdr import serialize
from handos_ros.hand_model.model import HandModel
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, RIGHT, Hands

HAND_ARRAY = "handos_ros/msg/HandArray"
HAND_TOPOLOGY = "handos_ros/msg/HandTopology"
MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"

_NAMES = ("Keypoint2D", "Hand", "HandArray", "HandTopology")


def hand_array(hands: Hands, header: Mapping[str, Any], seconds: float) -> bytes:
    """A HandArray as CDR.

    Args:
        hands: of one picture.
        header: the picture's own, as the values of a std_msgs/Header.
        seconds: that the picture took.
    """
    camera = hands.camera
    wrist = wrist_orientations(hands.joints_3d, hands.handedness)
    joints_2d = np.concatenate([hands.joints_2d, hands.joint_scores[..., None]], -1)
    nanoseconds = max(0, round(seconds * 1e9))
    fields = {
        "header": header,
        "height": camera.height,
        "width": camera.width,
        "k": camera.k.reshape(9),
        "k_source": int(camera.source),
        "processing_time": {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9},
        "hands": [
            {
                "id": int(hands.ids[i]),
                "score": float(hands.scores[i]),
                "handedness": int(hands.handedness[i]),
                "handedness_score": float(hands.handedness_scores[i]),
                "box": hands.boxes[i],
                "joints_2d": joints_2d[i],
                "joints_3d": hands.joints_3d[i],
                "wrist": {"position": hands.joints_3d[i, 0], "orientation": wrist[i]},
                "translation_source": int(hands.translation_source[i]),
                "vertices": hands.vertices[i].reshape(-1),
            }
            for i in range(len(hands))
        ],
    }
    return serialize(fields, HAND_ARRAY, typestore())


def hand_topology(hand_model: HandModel, model_id: str) -> bytes:
    """A HandTopology as CDR."""
    fields = {
        "model": model_id,
        "hand_model": hand_model.name,
        "joint_names": JOINT_NAMES,
        "joint_parents": JOINT_PARENTS,
        "num_vertices": len(hand_model.template),
        "triangles": hand_model.faces.reshape(-1),
    }
    return serialize(fields, HAND_TOPOLOGY, typestore())


def marker_array(markers: Iterable[Marker], header: Mapping[str, Any]) -> bytes:
    """A visualization_msgs/MarkerArray as CDR; `header` as in `hand_array`."""
    fields = {
        "markers": [
            {
                "header": header,
                "ns": marker.ns,
                "id": marker.id,
                "type": marker.kind,
                "action": marker.action,
                "pose": {"position": marker.position, "orientation": (0.0, 0.0, 0.0, 1.0)},
                "scale": marker.scale,
                "color": marker.colour,
                "points": marker.points,
                "colors": marker.colours,
                "text": marker.text,
            }
            for marker in markers
        ]
    }
    return serialize(fields, MARKER_ARRAY, typestore())


def wrist_orientations(joints_3d: NDArray, handedness: NDArray) -> NDArray[np.float64]:
    """How each hand is turned, in the axes that Hand.msg documents.

    z runs from the wrist to the middle finger's mcp joint; y across the palm, from the little finger's
    side to the thumb's on a right hand and the other way round on a left one, made orthogonal to z;
    x = y cross z.

    Args:
        joints_3d: (N, 21, 3) m.
        handedness: (N,) 0 left, 1 right.

    Returns:
        (N, 4) unit quaternions x y z w, w >= 0; the identity where the joints give no axes.
    """
    joints = np.asarray(joints_3d, np.float64)
    towards_thumb = joints[:, 5] - joints[:, 17]
    y = np.where((np.asarray(handedness) == RIGHT)[:, None], towards_thumb, -towards_thumb)
    z = joints[:, 9] - joints[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        y = y - (y * z).sum(1, keepdims=True) * z
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
        rotation = np.stack([np.cross(y, z), y, z], -1)
    rotation = np.where(np.isfinite(rotation).all((1, 2), keepdims=True), rotation, np.eye(3))
    return _quaternions(rotation)


def _quaternions(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices (N, 3, 3) -> quaternions (N, 4) x y z w.

    The eigenvector of the largest eigenvalue of a symmetric matrix: no case distinctions, and exact for
    proper rotations (Bar-Itzhack, 2000, doi:10.2514/2.4654).
    """
    m = rotation.reshape(-1, 9).T
    xx, xy, xz, yx, yy, yz, zx, zy, zz = m
    k = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    ).transpose(2, 0, 1)
    quaternions = np.linalg.eigh(k)[1][..., -1] if len(k) else np.zeros((0, 4))
    return quaternions * np.where(quaternions[:, 3:] < 0, -1.0, 1.0)


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2 and of this package."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in message_definitions().items():
        types.update(get_types_from_msg(text, f"handos_ros/msg/{name}"))
    store.register(types)
    return store


@lru_cache(maxsize=1)
def message_definitions() -> dict[str, str]:
    """Name -> text of this package's messages: installed beside the code, or in the source tree.

    Raises:
        DataError: if they are in neither place.
    """
    package = Path(handos_ros.__file__).parent
    for folder in (package / "msg_definitions", package.parent / "msg"):
        if all((folder / f"{name}.msg").is_file() for name in _NAMES):
            return {name: (folder / f"{name}.msg").read_text(encoding="utf-8") for name in _NAMES}
    raise DataError(
        f"the message definitions are missing from {package / 'msg_definitions'}: install handos_ros again"
    )
