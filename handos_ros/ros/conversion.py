"""Hands, markers and pictures as messages that rclpy can publish."""

from __future__ import annotations

import array
from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from handos_ros.drawing.markers import Marker
from handos_ros.files import rosmsg
from handos_ros.hand_model.model import HandModel
from handos_ros.hand_model.wrist import wrist_orientations
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, Hands
from handos_ros.msg import Hand, HandArray, HandTopology, Keypoint2D


def hand_array(hands: Hands, header: Header, seconds: float) -> HandArray:
    """All hands of one picture.

    Args:
        hands: the hands; their vertices are sent as they are, also when there are none.
        header: the picture's own.
        seconds: that the picture took, of steady time.
    """
    camera = hands.camera
    return HandArray(
        header=header,
        height=camera.height,
        width=camera.width,
        k=camera.k.reshape(9),
        k_source=int(camera.source),
        processing_time=duration(seconds),
        hands=_hands(hands),
    )


def topology(model_id: str, hand_model: HandModel) -> HandTopology:
    """What is the same for every hand that `model_id` finds."""
    return HandTopology(
        model=model_id,
        hand_model=hand_model.name,
        joint_names=list(JOINT_NAMES),
        joint_parents=np.array(JOINT_PARENTS, np.int32),
        num_vertices=len(hand_model.template),
        triangles=flat(hand_model.faces.astype(np.uint32), "I"),
    )


def marker_array(markers: Iterable[Marker], header: Header) -> bytes:
    """The markers of one picture as a visualization_msgs/MarkerArray in CDR, which publishers take as it is.

    A mesh is 6,000 points. One message object for each would take 40 ms a picture; this takes 1 ms.
    """
    stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
    return rosmsg.marker_array(markers, {"stamp": stamp, "frame_id": header.frame_id})


def image(picture: NDArray[np.uint8], header: Header) -> Image:
    """An (H, W, 3) uint8 RGB picture as sensor_msgs/Image."""
    height, width = picture.shape[:2]
    return Image(
        header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=flat(picture, "B")
    )


def duration(seconds: float) -> Duration:
    """Seconds, not below 0."""
    nanoseconds = max(0, round(seconds * 1e9))
    return Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def flat(values: NDArray, typecode: str) -> array.array:
    """A NumPy array in the one type that rclpy takes for a sequence of numbers without a look at each."""
    result = array.array(typecode)
    if values.size:
        result.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return result


def _hands(hands: Hands) -> list[Hand]:
    """One message for each hand. Whole arrays become lists at once: a NumPy scalar costs 100 ns a time."""
    if not len(hands):
        return []
    joints_2d = np.concatenate([hands.joints_2d, hands.joint_scores[..., None]], -1).tolist()
    joints_3d = hands.joints_3d.tolist()
    wrists = wrist_orientations(hands.joints_3d, hands.handedness).tolist()
    boxes = np.ascontiguousarray(hands.boxes, np.float32)
    vertices = np.ascontiguousarray(hands.vertices, np.float32)
    columns = zip(
        hands.ids.tolist(), hands.scores.tolist(), hands.handedness.tolist(),
        hands.handedness_scores.tolist(), hands.translation_source.tolist(), strict=True,
    )  # fmt: skip
    return [
        Hand(
            id=number,
            score=score,
            handedness=side,
            handedness_score=side_score,
            box=boxes[i],
            joints_2d=[Keypoint2D(u=u, v=v, score=s) for u, v, s in joints_2d[i]],
            joints_3d=[Point(x=x, y=y, z=z) for x, y, z in joints_3d[i]],
            wrist=_pose(joints_3d[i][0], wrists[i]),
            translation_source=source,
            vertices=flat(vertices[i], "f"),
        )
        for i, (number, score, side, side_score, source) in enumerate(columns)
    ]


def _pose(position: list[float], orientation: list[float]) -> Pose:
    x, y, z = position
    qx, qy, qz, qw = orientation
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
