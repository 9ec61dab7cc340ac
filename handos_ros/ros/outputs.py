"""What one camera's hands are published as: messages, markers, overlay, and more where asked for."""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from handos_ros.drawing.markers import HandMarkers
from handos_ros.hand_model.model import HandModel
from handos_ros.hands import Hands
from handos_ros.msg import HandArray
from handos_ros.ros import conversion
from handos_ros.ros.parameters import Settings

_RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
# An overlay is for eyes: the newest is enough, and a slow viewer must not hold anyone up.
_OVERLAY = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)

_FAREWELL = 0.2
"""Seconds to wait for viewers that do not answer."""


class CameraOutputs:
    """The publishers of one camera.

    Args:
        node: on which to publish.
        camera: namespace of the camera, or empty.
        hand_model: whose mesh the hands have.
        settings: which of the outputs there are that must be asked for.
    """

    def __init__(self, node: LifecycleNode, camera: str, hand_model: HandModel, settings: Settings) -> None:
        prefix = f"~/{camera}/" if camera else "~/"
        self._node, self._hand_model = node, hand_model
        self._hands = node.create_lifecycle_publisher(HandArray, f"{prefix}hands", _RELIABLE)
        self._markers = node.create_lifecycle_publisher(MarkerArray, f"{prefix}markers", _RELIABLE)
        self._overlay = node.create_lifecycle_publisher(Image, f"{prefix}overlay", _OVERLAY)
        self._publishers: list[LifecyclePublisher] = [self._hands, self._markers, self._overlay]
        self._marked = HandMarkers(hand_model)
        self._picture: Image | None = None
        self._header = Header()
        self._detections = self._wrists = None
        if settings.publish_detections:
            from handos_ros.ros.detections import detection_array, detection_type

            self._make_detections = detection_array
            self._detections = node.create_lifecycle_publisher(
                detection_type(), f"{prefix}detections", _RELIABLE
            )
            self._publishers.append(self._detections)
        if settings.publish_tf:
            from handos_ros.ros.transforms import WristBroadcaster

            self._wrists = WristBroadcaster(node, camera)

    def publish(self, hands: Hands, header: Header, seconds: float, settings: Settings) -> None:
        """Send what the hands of one picture are for machines: all but markers and overlay.

        Args:
            seconds: that the picture has taken so far, of steady time.
        """
        self._header = header
        self._hands.publish(conversion.hand_array(hands, header, seconds))
        if self._detections is not None:
            self._detections.publish(self._make_detections(hands, header))
        if self._wrists is not None:
            self._wrists.send(hands, header)

    def show(self, hands: Hands, header: Header, image: NDArray[np.uint8], settings: Settings) -> None:
        """Send what is for eyes, where someone looks.

        Args:
            image: (H, W, 3) uint8 RGB, the picture that the hands are in.
        """
        if settings.publish_markers and self._markers.get_subscription_count():
            self._markers.publish(conversion.marker_array(self._marked(hands), header))
        elif self.marked and not settings.publish_markers:
            self.clear()
        if settings.publish_overlay and self._overlay.get_subscription_count():
            from handos_ros.drawing.overlay import draw_hands

            drawn = draw_hands(image, hands, self._hand_model, mesh=settings.publish_mesh)
            self._overlay.publish(self._message(drawn, header))

    @property
    def marked(self) -> bool:
        """Whether viewers may show markers."""
        return bool(self._marked.shown)

    def clear(self) -> None:
        """Delete all markers that viewers may show."""
        self._marked.clear()
        self._markers.publish(MarkerArray(markers=[Marker(header=self._header, action=Marker.DELETEALL)]))

    def destroy(self) -> None:
        """Take the publishers down, once viewers have been told that the markers are gone."""
        with contextlib.suppress(Exception):  # a middleware without acknowledgements, or a context at its end
            self._markers.wait_for_all_acked(Duration(seconds=_FAREWELL))
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()
        if self._wrists is not None:
            self._wrists.destroy()

    def _message(self, picture: NDArray[np.uint8], header: Header) -> Image:
        """The picture in the memory of the latest one, since fresh memory costs more than the copy."""
        height, width = picture.shape[:2]
        if self._picture is None or (self._picture.height, self._picture.width) != (height, width):
            self._picture = conversion.image(picture, header)
        else:
            self._picture.header = header
            np.frombuffer(self._picture.data, np.uint8)[:] = picture.reshape(-1)
        return self._picture
