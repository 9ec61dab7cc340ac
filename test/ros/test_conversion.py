"""Hands as messages: every field, and the fast ways against the plain ones."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2")
pytest.importorskip(
    "handos_ros.msg", reason="needs this package built with colcon and its setup.bash sourced"
)

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker as MarkerMessage
from visualization_msgs.msg import MarkerArray

from handos_ros.drawing.markers import HandMarkers
from handos_ros.files import rosmsg
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, Camera, Hands, KSource, TranslationSource
from handos_ros.msg import Hand, HandArray
from handos_ros.ros import conversion
from handos_ros.ros.transforms import wrist_transforms
from standin import standin_pipeline

HEADER = Header(stamp=Time(sec=12, nanosec=345678901), frame_id="optical")
PLAIN_HEADER = {"stamp": {"sec": 12, "nanosec": 345678901}, "frame_id": "optical"}


@pytest.fixture(scope="module")
def hands():
    camera = Camera.assumed(640, 480)
    hands = standin_pipeline(hands=3, hand_model=load_hand_model())(np.zeros((480, 640, 3), np.uint8), camera)
    hands.ids[:] = [7, -1, 2**31 - 1]
    return hands


def test_every_field_of_hands_is_in_the_message(hands):
    message = deserialize_message(serialize_message(conversion.hand_array(hands, HEADER, 1.25)), HandArray)
    assert message.header == HEADER
    assert (message.width, message.height) == (640, 480)
    assert (message.processing_time.sec, message.processing_time.nanosec) == (1, 250_000_000)
    np.testing.assert_array_equal(message.k, hands.camera.k.reshape(-1))
    assert len(message.hands) == len(hands) == 3
    for i, hand in enumerate(message.hands):
        assert hand.id == hands.ids[i] and hand.handedness == hands.handedness[i]
        assert hand.score == hands.scores[i] and hand.handedness_score == hands.handedness_scores[i]
        assert hand.translation_source == hands.translation_source[i]
        np.testing.assert_array_equal(hand.box, hands.boxes[i])
        np.testing.assert_array_equal([(p.u, p.v) for p in hand.joints_2d], hands.joints_2d[i])
        np.testing.assert_array_equal([p.score for p in hand.joints_2d], hands.joint_scores[i])
        np.testing.assert_array_equal([(p.x, p.y, p.z) for p in hand.joints_3d], hands.joints_3d[i])
        np.testing.assert_array_equal(np.reshape(hand.vertices, (-1, 3)), hands.vertices[i])
        assert hand.wrist.position == hand.joints_3d[0]


def test_the_node_and_the_bags_write_the_same_bytes(hands):
    message = conversion.hand_array(hands, HEADER, 0.03)
    expected = rosmsg.hand_array(hands, PLAIN_HEADER, 0.03)
    ours, theirs = (deserialize_message(data, HandArray) for data in (serialize_message(message), expected))
    for mine, other in zip(ours.hands, theirs.hands, strict=True):
        for axis in "xyzw":
            value = getattr(other.wrist.orientation, axis)
            assert getattr(mine.wrist.orientation, axis) == pytest.approx(value, abs=1e-6)
        mine.wrist.orientation = other.wrist.orientation
    assert ours == theirs


def test_no_hands_and_no_mesh(hands):
    camera = hands.camera
    empty = conversion.hand_array(Hands.empty(camera), HEADER, 0.0)
    assert serialize_message(empty) and empty.hands == []
    from dataclasses import replace

    bare = replace(hands, vertices=np.zeros((3, 0, 3), np.float32))
    assert all(len(hand.vertices) == 0 for hand in conversion.hand_array(bare, HEADER, 0.0).hands)


def test_constants_are_those_of_the_enumerations():
    assert tuple(KSource) == (HandArray.K_ASSUMED, HandArray.K_CAMERA_INFO, HandArray.K_PARAMETER)
    assert tuple(TranslationSource) == (Hand.T_NETWORK, Hand.T_REPROJECTION, Hand.T_DEPTH)


def test_markers_in_cdr_are_what_rclpy_would_send(hands):
    markers = HandMarkers(load_hand_model())(hands) + HandMarkers(load_hand_model()).clear()
    assert {m.kind for m in markers} > {5, 7, 9}
    expected = MarkerArray()
    for marker in markers:
        (x, y, z), (sx, sy, sz) = marker.position, marker.scale
        r, g, b, a = marker.colour
        position, turn = Point(x=x, y=y, z=z), Quaternion(w=1.0)
        expected.markers.append(
            MarkerMessage(
                header=HEADER, ns=marker.ns, id=marker.id, type=marker.kind, action=marker.action,
                pose=Pose(position=position, orientation=turn), scale=Vector3(x=sx, y=sy, z=sz),
                color=ColorRGBA(r=r, g=g, b=b, a=a), text=marker.text,
                points=[Point(x=x, y=y, z=z) for x, y, z in marker.points.tolist()],
                colors=[ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in marker.colours.tolist()],
            )
        )  # fmt: skip
    as_sent = deserialize_message(serialize_message(expected), MarkerArray)
    assert deserialize_message(conversion.marker_array(markers, HEADER), MarkerArray) == as_sent


def test_the_topology():
    model = load_hand_model()
    message = conversion.topology("some_model", model)
    assert serialize_message(message)
    assert tuple(message.joint_names) == JOINT_NAMES and tuple(message.joint_parents) == JOINT_PARENTS
    assert message.num_vertices == model.num_vertices and message.hand_model == model.name
    np.testing.assert_array_equal(np.reshape(message.triangles, (-1, 3)), model.faces)


def test_a_picture_as_a_message():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for view in (picture, picture[:, ::-1]):
        message = conversion.image(view, HEADER)
        assert (message.height, message.width, message.step, message.encoding) == (5, 7, 21, "rgb8")
        np.testing.assert_array_equal(np.reshape(message.data, (5, 7, 3)), view)


def test_wrists_as_transforms_are_the_best_of_each_side(hands):
    assert hands.handedness.tolist() == [1, 0, 1] and hands.scores[0] > hands.scores[2]
    left, right = wrist_transforms(hands, HEADER, "handos/cam")
    assert (left.child_frame_id, right.child_frame_id) == ("handos/cam/left_wrist", "handos/cam/right_wrist")
    assert left.header == right.header == HEADER
    message = conversion.hand_array(hands, HEADER, 0.0)
    for transform, hand in ((right, message.hands[0]), (left, message.hands[1])):
        position = transform.transform.translation
        assert (position.x, position.y, position.z) == (
            hand.wrist.position.x,
            hand.wrist.position.y,
            hand.wrist.position.z,
        )
        assert transform.transform.rotation == hand.wrist.orientation
    assert wrist_transforms(Hands.empty(hands.camera), HEADER, "handos") == []


def test_detections_for_vision_msgs(hands):
    pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs, which PyPI does not have")
    from handos_ros.ros.detections import detection_array

    message = detection_array(hands, HEADER)
    assert serialize_message(message) and message.header == HEADER
    for i, detection in enumerate(message.detections):
        x_min, y_min, x_max, y_max = hands.boxes[i].tolist()
        box = detection.bbox
        assert (box.size_x, box.size_y) == pytest.approx((x_max - x_min, y_max - y_min))
        assert box.center.position.x - box.size_x / 2 == pytest.approx(x_min + 0.5)
        assert box.center.position.y - box.size_y / 2 == pytest.approx(y_min + 0.5)
        assert detection.results[0].hypothesis.score == pytest.approx(hands.scores[i])
    names = [d.results[0].hypothesis.class_id for d in message.detections]
    assert names == ["right_hand", "left_hand", "right_hand"]
    assert [d.id for d in message.detections] == ["7", "", str(2**31 - 1)]
