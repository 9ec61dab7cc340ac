"""What one camera sends: its pictures and its intrinsics, whatever the quality of service offered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from handos_ros.files.image_messages import is_rectified_by_name


@dataclass
class Arrival:
    """A picture's message as it came in.

    Attributes:
        message: sensor_msgs Image or CompressedImage.
        time: of `perf_counter`, when its callback was called.
    """

    message: Any
    time: float


class CameraInputs:
    """The subscriptions of one camera.

    Attributes:
        info: the latest camera_info, None before the first.
        image_topic, info_topic: the resolved names.
        rectified_by_name: whether the pictures' topic is called as rectified ones are.

    Args:
        node: on which to subscribe.
        camera: namespace of the camera, or empty.
        transport: `raw` or `compressed`.
        on_image: called in the executor's thread with each picture; it must be quick.
    """

    def __init__(self, node: Node, camera: str, transport: str, on_image: Callable[[Arrival], None]) -> None:
        prefix = f"{camera}/" if camera else ""
        self.info: CameraInfo | None = None
        # As in image_transport, a remap of image_raw takes the compressed topic along; that may have its own.
        base = node.resolve_topic_name(f"{prefix}image_raw")
        self.image_topic = node.resolve_topic_name(base if transport == "raw" else f"{base}/{transport}")
        self.rectified_by_name = is_rectified_by_name(base)
        self.info_topic = node.resolve_topic_name(f"{prefix}camera_info")
        self._node, self._on_image = node, on_image
        self._type = Image if transport == "raw" else CompressedImage
        self._image: Subscription | None = None
        self._info: Subscription | None = None
        self._reliable = self._latched = False

    def open(self) -> None:
        """Start to receive."""
        if self._image is None:
            self._subscribe(self._publishers_are_reliable())
        if self._info is None:
            self._subscribe_info(self._info_is_latched())

    def close(self) -> None:
        """Receive nothing more."""
        for subscription in (self._image, self._info):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._image = self._info = None

    def match_publishers(self) -> None:
        """Subscribe anew where the publishers' quality of service is no longer what was subscribed for.

        A reliable subscription hears nothing from a best-effort publisher; a best-effort one loses large
        pictures on the way from another machine. Intrinsics that were published once, before there was a
        subscription, reach only one that is reliable and transient local, as their publisher has to be.
        BEST_AVAILABLE decides only once, when the publisher is often not there yet, and is missing on Humble.
        """
        if self._image is not None and self._publishers_are_reliable() != self._reliable:
            self._node.destroy_subscription(self._image)
            self._subscribe(not self._reliable)
        if self._info is not None and self._info_is_latched() != self._latched:
            self._node.destroy_subscription(self._info)
            self._subscribe_info(not self._latched)

    def silence(self, seconds: float) -> str:
        """Why there may be no pictures: a sentence with the topic, who publishes it and how."""
        text = f"no picture on {self.image_topic} for {seconds:.0f} s: "
        publishers = self._node.get_publishers_info_by_topic(self.image_topic)
        wanted = _type_name(self._type)
        if not publishers:
            own = self._node.get_fully_qualified_name() + "/"
            others = sorted(
                name
                for name, types in self._node.get_topic_names_and_types()
                if wanted in types and not name.startswith(own) and self._node.count_publishers(name)
            )
            text += "nobody publishes it. "
            if others:
                text += (
                    f"Published pictures of this type: {', '.join(others)}; remap image_raw to one of them."
                )
            else:
                text += (
                    "Nobody publishes any picture of this type here: is the camera's driver running, with "
                )
                text += "the same ROS_DOMAIN_ID?"
            return text
        text += "publishers: " + ", ".join(
            f"{info.node_namespace.rstrip('/')}/{info.node_name} ({info.topic_type}, "
            f"{info.qos_profile.reliability.name.lower()}, {info.qos_profile.durability.name.lower()})"
            for info in publishers
        )
        if all(info.topic_type != wanted for info in publishers):
            return f"{text}. This node reads {wanted} there: set image_transport or remap image_raw."
        mine = "reliable" if self._reliable else "best_effort"
        return f"{text}. This node subscribes {mine}, volatile, which matches: they are not sending."

    def _subscribe(self, reliable: bool) -> None:
        self._reliable = reliable
        self._image = self._node.create_subscription(
            self._type, self.image_topic, self._keep_image, _newest(reliable)
        )

    def _publishers_are_reliable(self) -> bool:
        publishers = self._node.get_publishers_info_by_topic(self.image_topic)
        return bool(publishers) and all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers
        )

    def _subscribe_info(self, latched: bool) -> None:
        # Best effort and volatile receives from any publisher there is.
        self._latched = latched
        self._info = self._node.create_subscription(
            CameraInfo, self.info_topic, self._keep_info, _newest(reliable=latched, latched=latched)
        )

    def _info_is_latched(self) -> bool:
        publishers = self._node.get_publishers_info_by_topic(self.info_topic)
        return bool(publishers) and all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            and info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for info in publishers
        )

    def _keep_image(self, message: Any) -> None:
        self._on_image(Arrival(message, perf_counter()))

    def _keep_info(self, message: CameraInfo) -> None:
        self.info = message


def _newest(reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _type_name(message_type: Any) -> str:
    package, _, _ = message_type.__module__.partition(".msg")
    return f"{package}/msg/{message_type.__name__}"
