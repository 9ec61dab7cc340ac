"""Messages as bytes: what rosbags and ROS read back is what was said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from handos_ros.drawing.markers import HandMarkers
from handos_ros.files import rosmsg
from handos_ros.files.rosmsg_cdr import serialize
from handos_ros.hands import LEFT, RIGHT, Camera, Hands
from standin import draw_disc, standin_pipeline

HEADER = {"stamp": {"sec": 12, "nanosec": 345}, "frame_id": "optical"}


def two_hands() -> Hands:
    picture = np.zeros((240, 320, 3), np.uint8)
    draw_disc(draw_disc(picture, (80, 100), 70, RIGHT), (220, 120), 60, LEFT)
    return standin_pipeline()(picture)


def every_kind_of_field():
    """A type with all that CDR treats differently, in an order that needs padding everywhere."""
    store = get_typestore(Stores.ROS2_JAZZY)
    point = "geometry_msgs/Point"
    store.register(
        get_types_from_msg(
            "bool flag\nfloat64 wide\nint8 small\nuint16[3] fixed\nstring name\nuint8 odd\n"
            f"{point} point\nstring[] words\nfloat64[] none\n{point}[] points\nint64 long\n"
            "std_msgs/ColorRGBA[2] colours\nstring<=5 short_text\nint32[<=4] some\n"
            "std_msgs/Header[] headers\n",
            "test/msg/All",
        )
    )
    return store


def test_bytes_equal_rosbags_own() -> None:
    store = every_kind_of_field()
    values = {
        "flag": True, "wide": -1.5, "small": -3, "fixed": [1, 2, 65535], "name": "Jörg", "odd": 255,
        "point": (1, 2, 3), "words": ["", "abc"], "points": np.arange(6.0).reshape(2, 3), "long": -(2**60),
        "colours": np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), "short_text": "abc", "some": [7, 8],
        "headers": [HEADER, {"frame_id": "b"}],
    }  # fmt: skip
    data = serialize(values, "test/msg/All", store)
    message = store.deserialize_cdr(data, "test/msg/All")
    assert bytes(store.serialize_cdr(message, "test/msg/All")) == data
    assert message.name == "Jörg" and message.words == ["", "abc"] and message.long == -(2**60)
    assert message.fixed.tolist() == [1, 2, 65535] and message.some.tolist() == [7, 8]
    assert [(p.x, p.y, p.z) for p in message.points] == [(0, 1, 2), (3, 4, 5)]
    assert message.colours[1].a == 8 and message.headers[0].stamp.nanosec == 345
    empty = serialize({}, "test/msg/All", store)
    message = store.deserialize_cdr(empty, "test/msg/All")
    assert bytes(store.serialize_cdr(message, "test/msg/All")) == empty
    assert message.name == "" and len(message.points) == 0 and message.colours[0].r == 0


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"colour": 1}, KeyError, "no field colour"),
        ({"fixed": [1, 2]}, ValueError, "fixed takes 3 values, got 2"),
        ({"point": (1, 2)}, ValueError, "takes 3 numbers, got 2"),
        ({"points": np.zeros((2, 2))}, ValueError, "takes 6 numbers, got 4"),
    ],
)
def test_values_that_do_not_fit_are_named(values: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        serialize(values, "test/msg/All", every_kind_of_field())


def test_hands_there_and_back() -> None:
    hands = two_hands()
    hands.ids[:] = [7, -1]
    message = rosmsg.typestore().deserialize_cdr(rosmsg.hand_array(hands, HEADER, 0.0425), rosmsg.HAND_ARRAY)
    assert (message.header.frame_id, message.header.stamp.sec) == ("optical", 12)
    assert (message.processing_time.sec, message.processing_time.nanosec) == (0, 42_500_000)
    back, frame, stamp = rosmsg.hands_from_message(message)
    assert (frame, stamp) == ("optical", 12_000_000_345)
    for name, value in vars(hands).items():
        if name == "camera":
            assert np.array_equal(back.camera.k, value.k) and back.camera.source == value.source
        elif name == "root_translation":
            assert np.array_equal(back.root_translation, hands.joints_3d[:, 0])
        else:
            assert np.array_equal(getattr(back, name), value), name
            assert getattr(back, name).dtype == value.dtype


def test_no_hands_there_and_back() -> None:
    data = rosmsg.hand_array(Hands.empty(Camera.assumed(640, 480)), HEADER, -1.0)
    message = rosmsg.typestore().deserialize_cdr(data, rosmsg.HAND_ARRAY)
    assert len(rosmsg.hands_from_message(message)[0]) == 0 and message.processing_time.nanosec == 0


def test_ros_reads_the_markers() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="no rclpy here")
    from visualization_msgs.msg import MarkerArray

    hands = two_hands()
    markers = HandMarkers(standin_pipeline().hand_model)(hands)
    array = serialization.deserialize_message(rosmsg.marker_array(markers, HEADER), MarkerArray)
    assert len(array.markers) == len(markers) == 8
    for message, marker in zip(array.markers, markers, strict=True):
        assert (message.ns, message.id, message.type) == (marker.ns, marker.id, marker.kind)
        assert message.text == marker.text and message.header.stamp.nanosec == 345
        assert message.pose.orientation.w == 1 and message.scale.x == pytest.approx(marker.scale[0])
        points = np.array([(p.x, p.y, p.z) for p in message.points]).reshape(-1, 3)
        assert np.array_equal(points, marker.points.astype(float))
        assert [c.a for c in message.colors] == pytest.approx(marker.colours[:, 3].tolist())


def test_definitions_lie_beside_the_installed_code(tmp_path, monkeypatch) -> None:
    texts = rosmsg.message_definitions()
    folder = tmp_path / "handos_ros" / "msg_definitions"
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.msg").write_text(text, encoding="utf-8")
    monkeypatch.setattr(rosmsg, "handos_ros", SimpleNamespace(__file__=str(folder.parent / "__init__.py")))
    assert rosmsg.message_definitions.__wrapped__() == texts
    (folder / "Hand.msg").unlink()
    with pytest.raises(rosmsg.DataError, match="install handos_ros again"):
        rosmsg.message_definitions.__wrapped__()
