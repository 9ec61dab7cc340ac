"""`make demo`: the node on a real stream, start to end.

Starts the node as a process of its own, plays a video, a bag or the built-in clip to it at its own rate,
records what comes back and says what it was. Ends the node whatever happens.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "demo"))

_START_SECONDS = 60.0
"""How long the node may take to load the network and answer the first picture."""


def main() -> int:
    """Run the demo; the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", nargs="?", type=Path, help="video or ROS 2 bag; none for the built-in clip")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "output" / "demo", help="folder of the recording"
    )
    arguments = parser.parse_args()
    path = arguments.input
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT too: shells switch it off for jobs
        signal.signal(number, signal.default_int_handler)
    _keep_to_this_machine()
    # What a video decoder has to say about a file that is no video is said better here.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from handos_ros.errors import HandosError

    try:
        from sources import open_source

        source = open_source(path)
        return _play(source, arguments.output.absolute())
    except HandosError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130


def _keep_to_this_machine() -> None:
    """A ROS domain of its own, unless one was chosen: nobody's robot is to see the demo, nor it theirs."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 101)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")


def _play(source: Any, output: Path) -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from recording import Recording

    # The signals stay Python's own, so that Ctrl-C comes as KeyboardInterrupt and the node is always ended.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = _start_node(source)
    recording = None
    status = 0
    try:
        player = Player(source, lambda: node.poll() is None)
        print(f"demo: playing {source.name} (ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']})", flush=True)
        player.wait_for_first_answer()
        recording = Recording(output, source.rate)
        player.play(recording)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; this is what came before", flush=True)
        status = 130
    finally:
        # From here on a second Ctrl-C must not leave the node behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _end(node)
        rclpy.try_shutdown()
        if recording is not None:
            recording.finish()
    if recording is None:
        return status
    for line in recording.summary():
        print(f"demo: {line}")
    for file, what in ((recording.bag, "a bag of the hands"), (recording.video, "the pictures, drawn over")):
        if file.exists():
            print(f"demo: {os.path.relpath(file)}: {what}")
    return status


class Player:
    """Publishes a source's messages, receives what the node makes of them.

    Args:
        source: what to play.
        alive: whether the node still runs.
    """

    def __init__(self, source: Any, alive: Callable[[], bool]) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image

        from handos_ros.msg import HandArray

        self._messages, self._alive = source.messages, alive
        self._node = rclpy.create_node("handos_demo")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        image_type, topic = (
            (CompressedImage, "image_raw/compressed") if source.compressed else (Image, "image_raw")
        )
        self._publishers = {
            "image_raw": self._node.create_publisher(image_type, topic, 5),
            "camera_info": self._node.create_publisher(CameraInfo, "camera_info", 5),
        }
        self._recording: Any = None
        self._answers = 0
        self._node.create_subscription(HandArray, "handos/hands", self._on_hands, 50, raw=True)
        self._node.create_subscription(Image, "handos/overlay", self._on_overlay, 5)
        self._first: list[tuple[float, str, Any]] = []

    def wait_for_first_answer(self) -> None:
        """Send the first picture until the node has answered it: then all is connected and warm."""
        from handos_ros.errors import HandosError

        for message in self._messages:
            self._first.append(message)
            if message[1] == "image_raw":
                break
        deadline, again = time.monotonic() + _START_SECONDS, 0.0
        while not self._answers:
            now = time.monotonic()
            if not self._alive():
                raise HandosError("the node ended; its messages are above")
            if now > deadline:
                raise HandosError(
                    f"the node answered nothing in {_START_SECONDS:.0f} s; its messages are above"
                )
            if now >= again and self._publishers["image_raw"].get_subscription_count():
                for _, name, message in self._first:
                    self._publish(name, message)
                again = now + 0.5
            self._executor.spin_once(timeout_sec=0.05)

    def play(self, recording: Any) -> None:
        """Publish every message at its time, then wait for the last answers."""
        from itertools import chain

        from handos_ros.errors import HandosError

        self._recording = recording
        start = time.monotonic()
        for seconds, name, message in chain(self._first, self._messages):
            while (left := start + seconds - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=left)
            if not self._alive():
                raise HandosError("the node ended in the middle; its messages are above")
            stamp = self._publish(name, message)
            if name == "image_raw":
                recording.sent(stamp, time.monotonic())
        end = time.monotonic() + 3.0
        while not recording.complete and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.1)

    def _publish(self, name: str, message: Any) -> int:
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publishers[name].publish(message)
        return _nanoseconds(message.header.stamp)

    def _on_hands(self, data: bytes) -> None:
        from rclpy.serialization import deserialize_message

        from handos_ros.msg import HandArray

        now = time.monotonic()
        self._answers += 1
        if self._recording is not None:
            message = deserialize_message(data, HandArray)
            self._recording.answered(_nanoseconds(message.header.stamp), message, data, now)

    def _on_overlay(self, message: Any) -> None:
        if self._recording is not None:
            self._recording.overlaid(_nanoseconds(message.header.stamp), message)


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def _start_node(source: Any) -> subprocess.Popen:
    transport = "compressed" if source.compressed else "raw"
    parameters = [f"image_transport:={transport}", f"rectified:={str(source.rectified).lower()}"]
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    # In a session of its own, so that Ctrl-C reaches the demo alone, which then ends the node in good order.
    return subprocess.Popen(
        [sys.executable, "-m", "handos_ros.ros.node", "--ros-args", *arguments],
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """Linux: have this process ended when the demo is killed in a way that it cannot notice."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _end(node: subprocess.Popen) -> None:
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
        try:
            node.wait(5)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


if __name__ == "__main__":
    sys.exit(main())
