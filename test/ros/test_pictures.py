"""Pictures in, hands out: transports, qualities of service, bad pictures, cameras."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2")
pytest.importorskip(
    "handos_ros.msg", reason="needs this package built with colcon and its setup.bash sourced"
)

from ros.rig import BEST_EFFORT, LATCHED, RELIABLE, image_message, info_message, two_hands
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from handos_ros.hands import LEFT, RIGHT
from handos_ros.msg import Hand, HandArray
from standin import UNSURE, draw_disc


def test_a_picture_gives_its_hands_under_its_own_header(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    sent = []

    def fresh():
        sent.append(rig.image(frame="my_camera_optical"))
        return sent[-1]

    message = rig.send(images, fresh, got)
    assert message.header in [image.header for image in sent]
    assert message.header.frame_id == "my_camera_optical"
    assert (message.width, message.height) == (320, 240)
    assert message.k_source == HandArray.K_ASSUMED and message.k[0] == 320
    assert 0 < message.processing_time.sec + message.processing_time.nanosec * 1e-9 < 1
    right, left = sorted(message.hands, key=lambda hand: hand.box[0])
    assert (right.handedness, left.handedness) == (Hand.RIGHT, Hand.LEFT)
    np.testing.assert_allclose(right.box, [66, 90, 126, 150], atol=3)
    assert right.id != left.id and min(right.id, left.id) >= 0
    for hand in (right, left):
        assert len(hand.vertices) == 3 * 120
        xyz = np.array([[p.x, p.y, p.z] for p in hand.joints_3d])
        k = np.array(message.k).reshape(3, 3)
        uv = (xyz @ k.T)[:, :2] / xyz[:, 2:]
        np.testing.assert_allclose(uv, [[p.u, p.v] for p in hand.joints_2d], atol=3)
        assert (hand.wrist.position.x, hand.wrist.position.z) == pytest.approx((xyz[0, 0], xyz[0, 2]))


def test_a_picture_without_hands_gives_an_empty_array(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    message = rig.send(images, lambda: rig.image(np.zeros((240, 320, 3), np.uint8)), got)
    assert message.hands == [] and message.width == 320


def test_compressed_pictures(rig):
    rig.start(image_transport="compressed", ros=("-r", "image_raw:=/cam/color/image_raw"))
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(CompressedImage, "/cam/color/image_raw/compressed")
    assert len(rig.send(images, rig.compressed, got).hands) == 2

    # One that was cut off is dropped; the next good one works.
    cut = rig.compressed()
    cut.data = cut.data[: len(cut.data) // 2]
    before = len(got)
    for _ in range(3):
        images.publish(cut)
        rig.spin(0.05)
    assert len(got) == before and "cut off" in rig.log
    assert len(rig.send(images, rig.compressed, got).hands) == 2


@pytest.mark.parametrize("first", ["publisher", "node"])
@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best_effort"])
def test_any_publisher_is_heard_whoever_comes_first(rig, qos, first):
    if first == "publisher":
        images = rig.node.create_publisher(Image, "/image_raw", qos)
        rig.start()
    else:
        rig.start()
        images = rig.node.create_publisher(Image, "/image_raw", qos)
    got = rig.listen(HandArray, "/handos/hands")
    assert len(rig.send(images, rig.image, got).hands) == 2

    def subscribed():
        infos = rig.node.get_subscriptions_info_by_topic("/image_raw")
        return [info.qos_profile.reliability for info in infos] == [qos.reliability]

    # Within a second or two the subscription offers what the publisher has.
    assert rig.spin_until(subscribed, 5)
    assert len(rig.send(images, rig.image, got).hands) == 2


def _truncated(message):
    message.data = message.data[: len(message.data) // 2]


def _zero_sized(message):
    message.width = message.height = message.step = 0
    message.data = message.data[:0]


def _wrong_step(message):
    message.step = 17


def _unknown_encoding(message):
    message.encoding = "rgb5.5"


def _depth(message):
    message.encoding = "16UC1"
    message.step = 2 * message.width


BAD = {
    _truncated: "cut off",
    _zero_sized: "no pixels",
    _wrong_step: "step of 17 bytes",
    _unknown_encoding: "unknown encoding 'rgb5.5'",
    _depth: "16UC1 is depth",
}


def test_bad_pictures_are_dropped_counted_and_reported(rig):
    from diagnostic_msgs.msg import DiagnosticArray

    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got)
    for spoil, reason in BAD.items():
        before = len(got)
        message = rig.image()
        spoil(message)
        images.publish(message)
        assert rig.spin_until(lambda reason=reason: reason in rig.log, 5), (reason, rig.log)
        assert len(got) == before
        rig.send(images, rig.image, got)
    assert "/image_raw" in rig.log and "Traceback" not in rig.log

    def counted():
        values = [{pair.key: pair.value for pair in s.values} for m in diagnostics for s in m.status]
        return any(v.get("dropped, bad") == str(len(BAD)) for v in values)

    assert rig.spin_until(counted, 5)


def test_the_frame_is_named_and_rectified_pictures_that_are_not_taken_so(rig):
    rig.start(ros=("-r", "image_raw:=image_rect"))
    got = rig.listen(HandArray, "/handos/hands")
    infos = rig.publisher(CameraInfo, "/camera_info")
    images = rig.publisher(Image, "/image_rect")
    plain, bent = info_message(300.0), info_message(300.0)
    bent.d = [0.1, 0.0, 0.0, 0.0, 0.0]

    def picture(info):
        infos.publish(info)
        return rig.image(frame="my_camera_optical")

    rig.send(images, lambda: picture(plain), got, more=3)
    assert "/image_rect are in the frame my_camera_optical" in rig.log
    assert "set the parameter rectified" not in rig.log
    rig.send(images, lambda: picture(bent), got, more=3)
    assert rig.spin_until(lambda: "set the parameter rectified" in rig.log, 5)
    assert rig.log.count("in the frame my_camera_optical") == 1


def test_a_hand_that_becomes_unsure_stays_while_it_is_tracked(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    dim = np.zeros((240, 320, 3), np.uint8)
    draw_disc(draw_disc(dim, (96, 120), 60, RIGHT, dim=True), (224, 120), 60, LEFT, dim=True)
    assert not rig.send(images, lambda: rig.image(dim), got).hands
    ids = [hand.id for hand in rig.send(images, rig.image, got).hands]
    dimmed = rig.send(images, lambda: rig.image(dim), got, more=3).hands
    assert [hand.id for hand in dimmed] == ids and len(ids) == 2
    assert [hand.score for hand in dimmed] == pytest.approx([UNSURE] * 2, abs=0.01)
    assert rig.set("keep_score", 0.5).successful
    assert not rig.send(images, lambda: rig.image(dim), got, more=3).hands
    assert rig.set("keep_score", 0.0).successful
    rig.send(images, rig.image, got)
    assert rig.set("tracking", False).successful
    assert not rig.send(images, lambda: rig.image(dim), got, more=3).hands


def test_padded_rows_and_other_encodings_show_the_same_hands(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")

    def padded():
        padded = np.full((240, 340, 3), 7, np.uint8)
        padded[:, :320] = two_hands()[..., ::-1]
        message = image_message(padded, rig.header())
        message.width, message.encoding = 320, "bgr8"
        return message

    message = rig.send(images, padded, got)
    assert [hand.handedness for hand in sorted(message.hands, key=lambda h: h.box[0])] == [1, 0]
    assert message.width == 320


def test_intrinsics_come_late_and_at_another_size(rig):
    rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    infos = rig.publisher(CameraInfo, "/camera_info")
    assert rig.send(images, rig.image, got).k_source == HandArray.K_ASSUMED
    far = got[-1].hands[0].joints_3d[0].z
    assert rig.spin_until(lambda: "camera_info: no camera_info came" in rig.log, 5), rig.log

    for info in (info_message(640.0), info_message(1280.0, 640, 480)):
        infos.publish(info)
        assert rig.spin_until(lambda: rig.send(images, rig.image, got).k[0] == 640, 5)
        assert got[-1].k_source == HandArray.K_CAMERA_INFO
        assert got[-1].hands[0].joints_3d[0].z == pytest.approx(2 * far, rel=0.02)
        # Back to nothing known, between the two.
        infos.publish(info_message(0.0))
        assert rig.spin_until(lambda: rig.send(images, rig.image, got).k_source == HandArray.K_ASSUMED, 5)
    assert rig.spin_until(lambda: "K of zeros" in rig.log, 5)
    rig.spin(1.5)
    assert rig.log.count("K of zeros") == 1

    # A crop is not a resize: nobody knows where the picture was cut out.
    infos.publish(info_message(500.0, 320, 100))
    assert rig.spin_until(lambda: rig.send(images, rig.image, got).k_source == HandArray.K_ASSUMED, 5)
    assert rig.spin_until(lambda: "another shape" in rig.log, 5), rig.log
    # A lens of a kind that nobody knows still has a focal length.
    info = info_message(640.0)
    info.distortion_model, info.d = "fov", [0.9]
    infos.publish(info)
    assert rig.spin_until(lambda: rig.send(images, rig.image, got).k[0] == 640, 5)
    assert got[-1].k_source == HandArray.K_CAMERA_INFO
    assert rig.spin_until(lambda: "'fov'" in rig.log and "left out" in rig.log, 5), rig.log


def test_a_calibration_file_stands_above_camera_info(rig, tmp_path):
    file = tmp_path / "left.yaml"
    file.write_text(
        "image_width: 320\nimage_height: 240\n"
        "camera_matrix: {rows: 3, cols: 3, data: [400, 0, 160, 0, 400, 120, 0, 0, 1]}\n"
    )
    rig.start(camera_file=str(tmp_path / "{camera}.yaml"), cameras=["left"])
    got = rig.listen(HandArray, "/handos/left/hands")
    infos = rig.publisher(CameraInfo, "/left/camera_info")
    images = rig.publisher(Image, "/left/image_raw")
    infos.publish(info_message(640.0))
    message = rig.send(images, rig.image, got)
    assert message.k_source == HandArray.K_PARAMETER and message.k[0] == 400


@pytest.mark.parametrize("first", ["publisher", "node"])
def test_intrinsics_that_are_published_once_and_latched_are_heard(rig, first):
    if first == "node":
        rig.start()
    infos = rig.node.create_publisher(CameraInfo, "/camera_info", LATCHED)
    infos.publish(info_message(640.0))
    if first == "publisher":
        rig.start()
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    assert rig.spin_until(lambda: rig.send(images, rig.image, got).k[0] == 640, 5)
    assert got[-1].k_source == HandArray.K_CAMERA_INFO

    # A publisher beside it that does not latch is heard as well.
    more = rig.node.create_publisher(CameraInfo, "/camera_info", BEST_EFFORT)

    def fresh():
        more.publish(info_message(500.0))
        return rig.image()

    assert rig.spin_until(lambda: rig.send(images, fresh, got).k[0] == 500, 5)


CALIBRATION = (
    "image_width: 320\nimage_height: 240\n"
    "camera_matrix: {rows: 3, cols: 3, data: [400, 0, 160, 0, 400, 120, 0, 0, 1]}\n"
    "distortion_model: plumb_bob\n"
    "distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0, 0, 0]}\n"
)


def test_a_calibration_file_knows_rectified_pictures(rig, tmp_path):
    file = tmp_path / "camera.yaml"
    file.write_text(
        CALIBRATION
        + "projection_matrix: {rows: 3, cols: 4, data: [350, 0, 150, 0, 0, 350, 110, 0, 0, 0, 1, 0]}"
    )
    rig.start(camera_file=str(file), rectified=True, ros=("-r", "image_raw:=image_rect"))
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_rect")
    message = rig.send(images, rig.image, got)
    assert message.k_source == HandArray.K_PARAMETER
    assert (message.k[0], message.k[2], message.k[5]) == (350, 150, 110)
    distorted = "distortion is taken out"
    assert distorted not in rig.log
    assert rig.set("rectified", False).successful
    assert rig.send(images, rig.image, got, more=2).k[0] == 400
    assert rig.spin_until(lambda: distorted in rig.log, 5)


def test_a_calibration_file_that_knows_no_rectified_pictures_is_named(rig, tmp_path):
    file = tmp_path / "camera.yaml"
    file.write_text(CALIBRATION)
    rig.start(camera_file=str(file))
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    assert rig.send(images, rig.image, got).k[0] == 400
    assert rig.set("rectified", True).successful
    assert rig.send(images, rig.image, got, more=2).k_source == HandArray.K_ASSUMED
    assert rig.spin_until(lambda: f"{file}: has no projection_matrix" in rig.log, 5)
    assert rig.change("deactivate") and rig.change("cleanup") and not rig.change("configure")
    assert "cannot configure" in rig.log and "Traceback" not in rig.log


def test_a_missing_calibration_file_is_named(rig):
    rig.start(camera_file="/nowhere/at_all.yaml", wait=False)
    assert rig.spin_until(lambda: "/nowhere/at_all.yaml" in rig.log), rig.log
    assert "cannot configure" in rig.log and "Traceback" not in rig.log
    assert rig.process.poll() is None
