"""`Hands` as ROS messages without ROS: the types of this package and the values of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

import handos_ros
from handos_ros.drawing.markers import Marker
from handos_ros.errors import DataError
from handos_ros.files.rosmsg_cdr import serialize
from handos_ros.hand_model.model import HandModel
from handos_ros.hand_model.wrist import wrist_orientations
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, NUM_JOINTS, Camera, Hands, KSource

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


def hands_from_message(message: Any) -> tuple[Hands, str, int]:
    """The opposite of `hand_array`, for a message that rosbags or rclpy read.

    Returns:
        The hands; the picture's frame; its stamp in nanoseconds. A message holds no distortion, so the
        camera has none.
    """
    found = message.hands
    n = len(found)
    camera = Camera(
        np.array(message.k), int(message.width), int(message.height), source=KSource(int(message.k_source))
    )

    def column(name: str, dtype: Any, *shape: int) -> Any:
        return np.array([getattr(hand, name) for hand in found], dtype).reshape(n, *shape)

    joints_2d = np.array(
        [[(joint.u, joint.v, joint.score) for joint in hand.joints_2d] for hand in found], np.float32
    ).reshape(n, NUM_JOINTS, 3)
    joints_3d = np.array(
        [[(joint.x, joint.y, joint.z) for joint in hand.joints_3d] for hand in found], np.float32
    ).reshape(n, NUM_JOINTS, 3)
    hands = Hands(
        camera=camera,
        boxes=column("box", np.float32, 4),
        scores=column("score", np.float32),
        handedness=column("handedness", np.uint8),
        handedness_scores=column("handedness_score", np.float32),
        joints_2d=joints_2d[..., :2],
        joint_scores=joints_2d[..., 2],
        joints_3d=joints_3d,
        vertices=column("vertices", np.float32, -1, 3) if n else np.zeros((0, 0, 3), np.float32),
        root_translation=joints_3d[:, 0],
        translation_source=column("translation_source", np.uint8),
        ids=column("id", np.int32),
    )
    stamp = message.header.stamp
    return hands, message.header.frame_id, stamp.sec * 10**9 + stamp.nanosec


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
