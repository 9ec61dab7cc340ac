"""The node over time: newest picture only, transitions, parameters, signals, and what it leaves behind."""

import itertools
import os
import re
import signal
import time

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2")
pytest.importorskip(
    "handos_ros.msg", reason="needs this package built with colcon and its setup.bash sourced"
)

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from ros.rig import BEST_EFFORT, LATCHED, RELIABLE, every, stamps
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS
from handos_ros.msg import HandArray, HandTopology


def test_a_slow_network_sees_the_newest_picture(rig):
    """60 pictures a second at a network that takes 100 ms: each result is of a picture just come in."""
    rig.start("--delay", "0.1", "--hands", "1")
    lags, memory = [], []
    seen = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw", BEST_EFFORT)
    message = rig.image()
    for i in every(1 / 60, 6.0):
        message.header = rig.header()
        images.publish(message)
        before = len(seen)
        rig.spin(0.004)
        if len(seen) > before:
            lags.append(stamps([message])[0] - stamps(seen)[-1])
        if i in (90, 350):
            memory.append(rig.memory())
    assert len(seen) > 6.0 / 0.1 * 0.6, f"only {len(seen)} results\n{rig.log}"
    assert stamps(seen) == sorted(set(stamps(seen)))
    # One inference, two pictures' spacing and some slack for a busy machine.
    assert sorted(lags)[int(0.9 * len(lags))] < 0.1 + 2 / 60 + 0.05, lags
    assert memory[1] - memory[0] < 10, memory


def test_fifty_activations_leave_nothing_behind(rig):
    rig.start("--hands", "1")
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.node.create_publisher(Image, "/image_raw", RELIABLE)

    def cycle(times):
        for _ in range(times):
            assert rig.change("deactivate") and rig.change("activate")
            rig.send(images, rig.image, got)

    cycle(5)
    threads, memory = rig.threads(), rig.memory()
    cycle(50)
    assert rig.threads() <= threads
    assert rig.memory() - memory < 5
    assert rig.spin_until(lambda: rig.node.count_subscribers("/image_raw") == 1, 5)
    assert rig.node.count_publishers("/handos/hands") == 1


def test_cleaned_up_and_configured_again(rig):
    rig.start("--hands", "1")
    got = rig.listen(HandArray, "/handos/hands")
    assert rig.change("deactivate") and rig.change("cleanup")
    assert rig.spin_until(lambda: not rig.node.count_publishers("/handos/hands"), 5)
    assert rig.set("image_transport", "raw").successful  # may change while nothing is configured
    assert rig.change("configure") and rig.change("activate")
    images = rig.publisher(Image, "/image_raw")
    assert len(rig.send(images, rig.image, got).hands) == 1


def test_nothing_is_published_while_inactive(rig):
    rig.start("--hands", "1", "--delay", "0.2")
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got)
    images.publish(rig.image())
    rig.spin(0.05)  # the network is busy with it now
    assert rig.change("deactivate")
    before = len(got)
    images.publish(rig.image())
    rig.spin(0.5)
    assert len(got) == before
    assert rig.spin_until(lambda: not rig.node.count_subscribers("/image_raw"), 5)


def test_enable_stops_and_starts_the_looking(rig):
    rig.start("--hands", "1")
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got)
    assert rig.enable(False).success
    assert rig.spin_until(lambda: not rig.node.count_subscribers("/image_raw"), 5)
    rig.spin(0.1)
    before = len(got)
    images.publish(rig.image())
    rig.spin(0.3)
    assert len(got) == before and rig.state() == State.PRIMARY_STATE_ACTIVE
    assert rig.enable(True).success
    # Somebody else's hand may be there now, so nobody's id comes back.
    after = rig.send(images, rig.image, got)
    assert not {hand.id for hand in after.hands} & {
        hand.id for message in got[:before] for hand in message.hands
    }


def test_autostart_off_waits_to_be_told(rig):
    rig.start("--hands", "1", autostart=False, wait=False)
    assert rig.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert rig.change("configure")
    assert rig.node.count_subscribers("/image_raw") == 0
    assert rig.change("activate") and rig.state() == State.PRIMARY_STATE_ACTIVE


def test_the_size_at_which_the_network_looks(rig):
    rig.start("--hands", "2")
    assert "longer side is 320 px" in rig.log
    rig.start("--hands", "2", ros=("-r", "__node:=closer"), long_side=448)
    assert "longer side is 448 px" in rig.log


def test_a_second_look_can_be_done_without(rig):
    rig.start("--hands", "2", "--delay", "0.1", "--looks-twice")
    assert "once more at hands of less than 1000" in rig.log
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")

    def seconds():
        time = rig.send(images, rig.image, got).processing_time
        return time.sec + time.nanosec * 1e-9

    assert seconds() > 0.2
    assert rig.set("second_look", False).successful
    assert rig.spin_until(lambda: seconds() < 0.2, 5)


def test_a_size_that_the_network_cannot_have_is_named(rig):
    rig.start("--hands", "1", long_side=300, wait=False)
    assert rig.spin_until(lambda: "got 300: try 288" in rig.log, 20), rig.log
    assert rig.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_a_transition_that_cannot_be_is_survived(rig):
    rig.start("--hands", "1")
    got = rig.listen(HandArray, "/handos/hands")
    client = rig.node.create_client(ChangeState, "/handos/change_state")
    assert rig.spin_until(client.service_is_ready)
    client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    rig.spin(0.3)
    images = rig.publisher(Image, "/image_raw")
    assert len(rig.send(images, rig.image, got).hands) == 1
    assert rig.change("deactivate") and "Traceback" not in rig.log


def test_parameters_are_refused_with_a_reason(rig):
    rig.start("--hands", "2")
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    assert len(rig.send(images, rig.image, got).hands) == 2
    for name, value, reason in (
        ("min_score", 1.5, "min_score"),
        ("min_score", float("nan"), "min_score"),
        ("max_hands", 0, "max_hands"),
        ("smoothing", -0.1, "smoothing"),
        ("min_score", "high", "DOUBLE"),
        ("model", "handos", "clean it up first"),
        ("device", "tpu", "device"),
    ):
        result = rig.set(name, value)
        assert not result.successful and reason in result.reason, (name, value, result.reason)
    for number in (1, 0, 0.5):
        assert rig.set("smoothing", number).successful, "whole numbers are numbers"
    assert not rig.set("smoothing", 2).successful
    assert rig.set("max_hands", 1).successful
    assert rig.spin_until(lambda: len(rig.send(images, rig.image, got).hands) == 1, 5)
    assert rig.set("publish_mesh", False).successful
    assert rig.spin_until(lambda: len(rig.send(images, rig.image, got).hands[0].vertices) == 0, 5)
    assert rig.set("tracking", False).successful
    assert rig.spin_until(lambda: rig.send(images, rig.image, got).hands[0].id == -1, 5)
    assert rig.set("min_score", 0.99).successful
    assert rig.spin_until(lambda: not rig.send(images, rig.image, got).hands, 5)
    assert rig.process.poll() is None and "Traceback" not in rig.log


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"max_age": -1}, "max_age"),
        ({"min_score": 2.0}, "min_score"),
        ({"min_score": True}, "min_score"),
        ({"cameras": ["a", "a"]}, "cameras"),
        ({"cameras": ["le ft"]}, "'le ft' is no namespace"),
        ({"image_transport": "theora"}, "raw or compressed"),
        ({"use_sim_time": "maybe"}, "use_sim_time"),
    ],
)
def test_a_node_that_is_started_wrongly_says_so_and_ends(rig, arguments, reason):
    rig.start(wait=False, **arguments)
    assert rig.process.wait(10) == 1
    assert "handos: error:" in rig.log and reason in rig.log and "Traceback" not in rig.log


def test_ros_arguments_that_there_are_not_are_named(rig):
    rig.start(ros=("--foo",), wait=False)
    assert rig.process.wait(10) == 1
    assert "handos: error:" in rig.log and "--foo" in rig.log and "Traceback" not in rig.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["sigint", "sigterm"])
@pytest.mark.parametrize("busy", ["idle", "busy", "loading"])
def test_a_signal_ends_the_node_cleanly_within_a_second(rig, number, busy):
    if busy == "loading":
        rig.start("--load-time", "20", wait=False)
        assert rig.spin_until(lambda: "/handos" in [n for n, _ in _nodes(rig)], 10)
        rig.spin(0.5)
    else:
        rig.start("--delay", "5" if busy == "busy" else "0", "--hands", "1")
        images = rig.publisher(Image, "/image_raw")
        images.publish(rig.image())
        rig.spin(0.3)
    began = time.monotonic()
    os.kill(rig.process.pid, number)
    assert rig.process.wait(5) == 0, rig.log
    took = time.monotonic() - began
    assert took < 1.3, took  # a second, and the time that a busy machine takes to notice
    assert "Traceback" not in rig.log and "Interrupt" not in rig.log


def test_a_library_that_does_not_end_holds_nobody_up(rig):
    rig.start("--hands", "1", "--hang-at-exit")
    began = time.monotonic()
    rig.process.send_signal(signal.SIGINT)
    assert rig.process.wait(5) == 0 and 0.5 < time.monotonic() - began < 1.5


def _nodes(rig):
    return [(f"{space.rstrip('/')}/{name}", None) for name, space in rig.node.get_node_names_and_namespaces()]


def test_missing_weights_are_an_error_line_and_no_end(rig):
    """The real pipeline this time, with weights that are not there."""
    import subprocess
    import sys

    from ros.rig import environment

    command = [sys.executable, "-m", "handos_ros.ros.node", "--ros-args", "-p", "weights:=/nowhere/weights"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment())
    try:
        assert rig.state() == State.PRIMARY_STATE_UNCONFIGURED
        diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
        assert rig.spin_until(lambda: diagnostics and diagnostics[-1].status[0].level == b"\x02", 5)
        assert "/nowhere/weights" in diagnostics[-1].status[0].message
        assert rig.state() == State.PRIMARY_STATE_UNCONFIGURED
        node.send_signal(signal.SIGINT)
        text = node.communicate(timeout=5)[0].decode()
    finally:
        node.kill()
    assert node.returncode == 0
    assert re.search(r"\[ERROR\].*cannot configure.*/nowhere/weights", text) and "Traceback" not in text


@pytest.mark.parametrize("package", ["onnxruntime", "rosbags"])
def test_a_package_that_colcon_does_not_bring_is_named(rig, tmp_path, package):
    """The real pipeline, where pip was not called."""
    import subprocess
    import sys

    from ros.rig import environment

    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named ' + {package!r}, name={package!r})"
    )
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    node = subprocess.Popen(
        [sys.executable, "-m", "handos_ros.ros.node"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**environment(), "PYTHONPATH": paths}, text=True,
    )  # fmt: skip
    said = ""
    try:
        while f"pip install '{package}'" not in said:
            line = node.stdout.readline()
            assert line, said
            said += line
    finally:
        node.kill()
    assert "internal error" not in said and "Traceback" not in said


def test_the_topology_reaches_late_listeners(rig):
    rig.start("--full-mesh")
    message = None
    for _ in range(2):
        got = rig.listen(HandTopology, "/handos/topology", LATCHED)
        assert rig.spin_until(lambda got=got: got, 5)
        message = got[0]
    assert tuple(message.joint_names) == JOINT_NAMES
    assert tuple(message.joint_parents) == JOINT_PARENTS
    assert message.model == "stand-in" and message.hand_model == "anny"
    assert len(message.triangles) % 3 == 0 and max(message.triangles) == message.num_vertices - 1


def test_a_jump_back_in_time_starts_anew(rig):
    rig.start(max_age=0.0)
    got = rig.listen(HandArray, "/handos/hands")
    markers = rig.listen(MarkerArray, "/handos/markers")
    images = rig.publisher(Image, "/image_raw")
    before = rig.send(images, rig.image, got, more=3)
    assert rig.spin_until(lambda: len(markers) >= 3, 5)
    assert not any(m.action == Marker.DELETEALL for message in markers for m in message.markers)
    after = rig.send(images, lambda: rig.image(offset=-100.0), got)
    assert rig.spin_until(lambda: len(markers) >= 5, 5)
    assert markers[-2].markers[0].action == Marker.DELETEALL
    assert {m.action for m in markers[-1].markers} == {Marker.ADD}
    assert not {hand.id for hand in before.hands} & {hand.id for hand in after.hands}
    assert len(after.hands) == 2
    assert rig.spin_until(lambda: "time went back by 100" in rig.log or "time went back by 99" in rig.log, 5)


def test_a_late_picture_breaks_no_track(rig):
    rig.start(max_age=0.0)
    got = rig.listen(HandArray, "/handos/hands")
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got)
    ids = {hand.id for hand in got[-1].hands}
    for i in range(20):
        images.publish(rig.image(offset=-0.1 if i % 5 == 4 else 0.0, frame=f"camera_{i % 2}"))
        rig.spin(0.05)
    assert {hand.id for message in got for hand in message.hands} == ids and len(ids) == 2
    assert "older than the one before" in rig.log and "tracks start anew" not in rig.log
    assert rig.log.count("are in the frame") == 3  # each of the frames once

    def late():
        pairs = (pair for status in diagnostics[-1].status for pair in status.values)
        return any(pair.key == "older than the one before" and int(pair.value) > 2 for pair in pairs)

    assert rig.spin_until(late, 5)


def test_old_pictures_are_dropped_unless_time_is_simulated(rig):
    rig.start("--hands", "1", max_age=0.3)
    got = rig.listen(HandArray, "/handos/hands")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, got)
    rig.spin(0.2)
    before = len(got)
    for _ in range(15):
        images.publish(rig.image(offset=-5.0))
        rig.spin(0.03)
    assert len(got) == before
    # Pictures without a stamp have no age.
    unstamped = rig.image()
    unstamped.header.stamp.sec = unstamped.header.stamp.nanosec = 0
    assert rig.send(images, lambda: unstamped, got).header.stamp.sec == 0


def test_a_stream_of_old_pictures_only_is_explained(rig):
    rig.start("--hands", "1")
    images = rig.publisher(Image, "/image_raw")
    for _ in range(20):
        images.publish(rig.image(offset=-3600.0))
        rig.spin(0.03)
    assert rig.spin_until(lambda: "use_sim_time" in rig.log, 5)
    assert "/image_raw" in rig.log and "max_age" in rig.log


def test_pictures_that_become_too_old_are_explained_and_shown_no_more(rig):
    """A bag without --clock after the live camera, or a clock that is set."""
    rig.start()
    markers = rig.listen(MarkerArray, "/handos/markers")
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    images = rig.publisher(Image, "/image_raw")
    rig.send(images, rig.image, markers)
    for _ in every(0.1, 5.0):
        images.publish(rig.image(offset=-3600.0))
        rig.spin(0.01)
    assert "use_sim_time" in rig.log and "no picture on" not in rig.log
    assert markers[-1].markers[0].action == Marker.DELETEALL
    assert any("all pictures dropped" in s.message for s in diagnostics[-1].status)


def test_a_network_that_is_stuck_is_a_warning(rig):
    rig.start("--delay", "30")
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    images = rig.publisher(Image, "/image_raw")
    for _ in every(0.1, 5.0):
        images.publish(rig.image())
        rig.spin(0.01)
    camera = diagnostics[-1].status[1]
    assert camera.level == b"\x01" and "none came out" in camera.message


def test_simulated_time(rig):
    rig.start("--hands", "1", use_sim_time=True)
    got = rig.listen(HandArray, "/handos/hands")
    clock = rig.publisher(Clock, "/clock")
    images = rig.publisher(Image, "/image_raw")
    message = Clock()
    message.clock.sec = 5000
    clock.publish(message)
    rig.spin(0.2)
    image = rig.image()
    image.header.stamp.sec, image.header.stamp.nanosec = 1000, 0
    assert rig.send(images, lambda: image, got).header.stamp.sec == 1000
    # The clock stands still; the diagnostics do not.
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    assert rig.spin_until(lambda: len(diagnostics) >= 2, 5)


def test_silence_is_explained(rig):
    rig.start()
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    rig.node.create_publisher(Image, "/somewhere/else", RELIABLE)
    assert rig.spin_until(lambda: "no picture on /image_raw" in rig.log, 8), rig.log
    assert "/somewhere/else" in rig.log and "/handos/overlay" not in rig.log
    assert rig.spin_until(lambda: any("no picture" in s.message for s in diagnostics[-1].status), 3)


def test_a_silent_publisher_is_named_with_its_quality_of_service(rig):
    rig.node.create_publisher(Image, "/cam/image", BEST_EFFORT)
    rig.start(ros=("-r", "image_raw:=/cam/image"))
    assert rig.spin_until(lambda: "no picture on /cam/image" in rig.log, 8), rig.log
    assert "/rig (sensor_msgs/msg/Image, best_effort, volatile)" in rig.log


def test_diagnostics_tell_rate_stages_and_device(rig):
    rig.start("--hands", "1", "--delay", "0.02")
    diagnostics = rig.listen(DiagnosticArray, "/diagnostics")
    images = rig.publisher(Image, "/image_raw")
    for _ in every(0.05, 2.5):
        images.publish(rig.image())
        rig.spin(0.001)
    assert rig.spin_until(lambda: len(diagnostics[-1].status) == 2 and len(diagnostics) > 2, 5)
    own, camera = diagnostics[-1].status
    own_values = {pair.key: pair.value for pair in own.values}
    values = {pair.key: pair.value for pair in camera.values}
    assert own.name == "handos" and own.level == b"\0"
    assert own_values["device"] == "cpu" and own_values["model"] == "stand-in"
    assert camera.name == "handos: /image_raw"
    assert 10 < float(values["pictures out, 1/s"]) < 30
    assert 20 <= float(values["detect, ms (mean, 99 %)"].split(",")[0]) < 60
    assert values["K from"] == "assumed" and values["frame"] == "camera_optical"
    assert int(values["received"]) >= int(values["published"]) > 10
    seconds = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in diagnostics[1:]]
    gaps = [b - a for a, b in itertools.pairwise(seconds)]
    assert all(0.5 < gap < 1.6 for gap in gaps), gaps
