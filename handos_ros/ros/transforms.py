"""Wrists as tf frames, for what follows a left and a right hand by name."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.node import Node
from std_msgs.msg import Header

from handos_ros.hand_model.wrist import wrist_orientations
from handos_ros.hands import LEFT, RIGHT, Hands


class WristBroadcaster:
    """Broadcasts the best left and the best right hand of each picture.

    Args:
        node: on which to broadcast; its namespace and name come first in the names of the frames, so that
            two arms' nodes have their own.
        camera: namespace of the camera, or empty.
    """

    def __init__(self, node: Node, camera: str) -> None:
        from tf2_ros import TransformBroadcaster

        self._node = node
        name = node.get_fully_qualified_name().strip("/")
        self._prefix = "/".join(part for part in (name, camera) if part)
        self._broadcaster = TransformBroadcaster(node)

    def send(self, hands: Hands, header: Header) -> None:
        """Broadcast the frames of one picture; a side that is not in it is left where it was."""
        transforms = wrist_transforms(hands, header, self._prefix)
        if transforms:
            self._broadcaster.sendTransform(transforms)

    def destroy(self) -> None:
        """Take the publisher down."""
        publisher = getattr(self._broadcaster, "pub_tf", None)
        if publisher is not None:
            self._node.destroy_publisher(publisher)


def wrist_transforms(hands: Hands, header: Header, prefix: str) -> list[TransformStamped]:
    """<prefix>/left_wrist and <prefix>/right_wrist, of the hand of each side that scores best.

    The axes are those of Hand.wrist.
    """
    transforms = []
    orientations = wrist_orientations(hands.joints_3d, hands.handedness).tolist()
    for side, name in ((LEFT, "left_wrist"), (RIGHT, "right_wrist")):
        candidates = np.flatnonzero((hands.handedness == side) & np.isfinite(hands.joints_3d[:, 0]).all(1))
        if not len(candidates):
            continue
        best = candidates[np.argmax(hands.scores[candidates])]
        x, y, z = hands.joints_3d[best, 0].tolist()
        qx, qy, qz, qw = orientations[best]
        message = TransformStamped(header=header, child_frame_id=f"{prefix}/{name}")
        message.transform.translation = Vector3(x=x, y=y, z=z)
        message.transform.rotation = Quaternion(x=qx, y=qy, z=qz, w=qw)
        transforms.append(message)
    return transforms
