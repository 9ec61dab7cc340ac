"""What the node shows: markers, overlay, several cameras, several nodes."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2")
pytest.importorskip(
    "handos_ros.msg", reason="needs this package built with colcon and its setup.bash sourced"
)

import rclpy
from ros.rig import two_hands
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from handos_ros.msg import HandArray
from standin import standin_pipeline

NOTHING = np.zeros((240, 320, 3), np.uint8)


def test_markers_vanish_with_their_hands(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    markers = rig.listen(MarkerArray, "/handos/markers")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, markers)
    shown = {(m.ns, m.id) for m in markers[-1].markers}
    assert len(shown) == len(markers[-1].markers) == 8  # two hands of bones, joints, mesh and label
    for marker in markers[-1].markers:
        assert marker.action == Marker.ADD and marker.header == markers[-1].markers[0].header
        assert marker.header.frame_id == "camera_optical"
        if marker.type == Marker.TRIANGLE_LIST:
            assert len(marker.points) == 3 * 160
    rig.send(images, lambda: rig.image(NOTHING), markers)
    # The tracker may hold a hand for a moment.
    assert rig.spin_until(
        lambda: images.publish(rig.image(NOTHING)) or (not got[-1].hands and not _left(markers, shown)), 5
    )


def _left(messages, shown):
    """What a viewer shows after all messages."""
    left = set()
    for message in messages:
        for marker in message.markers:
            if marker.action == Marker.DELETEALL:
                left.clear()
            elif marker.action == Marker.DELETE:
                left.discard((marker.ns, marker.id))
            else:
                left.add((marker.ns, marker.id))
    return left


@pytest.mark.parametrize("ending", ["deactivate", "disable", "sigint"])
def test_markers_vanish_with_the_node(rig, ending):
    rig.start()
    markers = rig.listen(MarkerArray, "/handos/markers")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, markers)
    assert _left(markers, None)
    if ending == "deactivate":
        assert rig.change("deactivate")
    elif ending == "disable":
        assert rig.enable(False).success
    else:
        rig.process.send_signal(2)
    assert rig.spin_until(lambda: not _left(markers, None), 3)


def test_markers_vanish_once_the_camera_stops(rig):
    rig.start()
    markers = rig.listen(MarkerArray, "/handos/markers")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, markers)
    rig.spin(1.5)
    assert _left(markers, None)
    assert rig.spin_until(lambda: not _left(markers, None), 5), rig.log
    told = len(markers)
    rig.spin(2.5)
    assert len(markers) == told
    rig.send(images, rig.image, markers)
    assert _left(markers, None)


def test_an_overlay_is_drawn_for_listeners_alone(rig):
    rig.start("--say-drawn")
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got, more=3)
    assert "overlay drawn" not in rig.log
    overlays = rig.listen(Image, "/handos/overlay")
    overlay = rig.send(images, rig.image, overlays)
    assert "overlay drawn" in rig.log
    assert (overlay.width, overlay.height, overlay.encoding, overlay.step) == (320, 240, "rgb8", 960)
    assert overlay.header.frame_id == "camera_optical"
    shown = np.frombuffer(overlay.data, np.uint8).reshape(240, 320, 3)
    changed = (shown != two_hands()).any(-1)
    assert changed[80:160, 60:130].mean() > 0.05 and changed[:20, :20].mean() == 0
    # A second picture of the same size comes whole, and one of another size too.
    overlay = rig.send(images, lambda: rig.image(NOTHING), overlays, more=2)
    assert rig.send(images, lambda: rig.image(two_hands(640, 480)), overlays, more=2).width == 640
    assert rig.set("publish_overlay", False).successful
    rig.spin(0.1)
    before = len(overlays)
    rig.send(images, rig.image, got, more=3)
    assert len(overlays) == before


def test_several_cameras_share_one_network(rig):
    rig.start("--delay", "0.02", cameras=["left", "/right/wrist/"])
    gots = [rig.listen(HandArray, f"/handos/{name}/hands") for name in ("left", "right/wrist")]
    left, right = (rig.publisher(Image, f"/{name}/image_raw") for name in ("left", "right/wrist"))
    for _ in range(60):
        left.publish(rig.image(frame="l"))
        left.publish(rig.image(frame="l"))  # the louder camera gets no more than its turn
        right.publish(rig.image(frame="r"))
        rig.spin(0.02)
    assert {m.header.frame_id for m in gots[0]} == {"l"} and {m.header.frame_id for m in gots[1]} == {"r"}
    assert min(map(len, gots)) > 0.7 * max(map(len, gots)) > 5


def test_a_camera_of_another_namespace_than_the_nodes(rig):
    rig.start(cameras=["/head", "hand"], ros=("-r", "__ns:=/robot"), wait=False)
    for camera, name in (("/head", "head"), ("/robot/hand", "hand")):
        got = rig.listen(HandArray, f"/robot/handos/{name}/hands")
        assert len(rig.send(rig.publisher(Image, f"{camera}/image_raw"), rig.image, got).hands) == 2


def test_two_nodes_side_by_side(rig):
    rig.start(ros=("-r", "__ns:=/one", "-r", "__node:=eyes"), wait=False)
    rig.start(ros=("-r", "__ns:=/two"), wait=False)
    gots = [rig.listen(HandArray, name) for name in ("/one/eyes/hands", "/two/handos/hands")]
    images = [rig.publisher(Image, name) for name in ("/one/image_raw", "/two/image_raw")]
    assert len(rig.send(images[0], rig.image, gots[0]).hands) == 2
    assert not gots[1]
    assert len(rig.send(images[1], rig.image, gots[1]).hands) == 2


@pytest.mark.parametrize("namespace, prefix", [("/", ""), ("/left_arm", "left_arm/"), ("/a/b", "a/b/")])
@pytest.mark.parametrize("camera", ["", "cam"])
def test_two_nodes_wrists_are_different_frames(rig, monkeypatch, namespace, prefix, camera):
    sent = []
    broadcaster = SimpleNamespace(sendTransform=sent.extend)
    monkeypatch.setitem(sys.modules, "tf2_ros", SimpleNamespace(TransformBroadcaster=lambda _: broadcaster))
    from handos_ros.ros.transforms import WristBroadcaster

    node = rclpy.create_node("handos", namespace=namespace, context=rig.context)
    WristBroadcaster(node, camera).send(standin_pipeline()(two_hands()), rig.header())
    node.destroy_node()
    camera = f"{camera}/" if camera else ""
    names = [f"{prefix}handos/{camera}{side}_wrist" for side in ("left", "right")]
    assert [transform.child_frame_id for transform in sent] == names


@pytest.mark.parametrize("namespace", ["", "/left_arm"])
def test_wrists_on_tf(rig, namespace):
    pytest.importorskip("tf2_ros", reason="needs tf2_ros, which PyPI does not have")
    from tf2_msgs.msg import TFMessage

    name = f"{namespace}/handos"
    rig.start(publish_tf=True, cameras=["cam"], ros=("-r", f"__ns:={namespace or '/'}"), wait=False)
    got = rig.listen(HandArray, f"{name}/cam/hands")
    transforms = rig.listen(TFMessage, "/tf")
    images = rig.publisher(Image, f"{namespace}/cam/image_raw")
    rig.send(images, rig.image, got)
    assert rig.spin_until(lambda: transforms, 5)
    left, right = transforms[-1].transforms
    assert left.child_frame_id == f"{name[1:]}/cam/left_wrist"
    assert right.child_frame_id == f"{name[1:]}/cam/right_wrist"
    assert left.header.frame_id == "camera_optical"
    assert left.transform.translation.x > 0 > right.transform.translation.x
    for _ in range(3):  # nothing is left behind
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            assert rig.change(transition, name)
    assert rig.spin_until(lambda: rig.node.count_publishers("/tf") == 1, 5)


def test_boxes_for_vision_msgs(rig):
    pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs, which PyPI does not have")
    from vision_msgs.msg import Detection2DArray

    rig.start(publish_detections=True)
    got = rig.listen(Detection2DArray, "/handos/detections")
    images = rig.publisher(Image, "/image_raw")
    message = rig.send(images, rig.image, got)
    assert {d.results[0].hypothesis.class_id for d in message.detections} == {"left_hand", "right_hand"}


@pytest.mark.parametrize(
    "parameter, package", [("publish_tf", "tf2_ros"), ("publish_detections", "vision_msgs")]
)
def test_an_output_whose_package_is_missing_is_refused_by_name(rig, parameter, package):
    import importlib.util

    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is here")
    rig.start(**{parameter: True}, wait=False)
    assert rig.process.wait(10) == 1
    assert f"ros-$ROS_DISTRO-{package.replace('_', '-')}" in rig.log and "Traceback" not in rig.log
