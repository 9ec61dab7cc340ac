"""A node under test in another process, and a small node beside it that feeds it and listens."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from handos_ros.hands import LEFT, RIGHT
from standin import draw_disc


def _own_domain() -> tuple[int, Any]:
    """A domain id that no other test process on this machine has, and the lock that keeps it."""
    for number in range(99):
        domain = 2 + (os.getpid() + number) % 99
        lock = (Path(tempfile.gettempdir()) / f"handos_ros_test_domain_{domain}").open("w")
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        lock.close()
    raise RuntimeError("99 test processes at once")


DOMAIN_ID, _LOCK = _own_domain()

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Rig:
    """The node under test and what it takes to test it.

    Attributes:
        node: beside the one under test; for publishers, subscriptions and clients.
        process: the node under test.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[tuple[subprocess.Popen, Path]] = []
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node: Node = rclpy.create_node("rig", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)

    def start(self, *options: str, ros: tuple[str, ...] = (), wait: bool = True, **parameters: Any) -> Rig:
        """Start a node; `wait` until it is active."""
        log = self._folder / f"node{len(self._processes)}.log"
        command = [sys.executable, str(Path(__file__).with_name("node_process.py")), *options, "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *ros], stdout=file, stderr=subprocess.STDOUT, env=environment(),
                start_new_session=True,
            )  # fmt: skip
        self._processes.append((process, log))
        if wait:
            assert self.spin_until(lambda: "runs on" in self.log, 20), self.log
            assert self.state() == State.PRIMARY_STATE_ACTIVE, self.log
        return self

    @property
    def process(self) -> subprocess.Popen:
        return self._processes[-1][0]

    @property
    def log(self) -> str:
        return self._processes[-1][1].read_text(errors="replace")

    def close(self) -> None:
        for process, _ in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process, _ in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def spin_until(self, condition: Callable[[], Any], timeout: float = 10.0) -> bool:
        """Spin until `condition` holds; whether it did in time."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def listen(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> list:
        """A list that grows with each message; waits until the publisher is found."""
        got: list = []
        self.node.create_subscription(kind, topic, got.append, qos)
        assert self.spin_until(lambda: self.node.count_publishers(topic)), (
            f"nobody publishes {topic}\n{self.log}"
        )
        return got

    def publisher(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        """A publisher that a node under test is subscribed to."""
        publisher = self.node.create_publisher(kind, topic, qos)
        assert self.spin_until(publisher.get_subscription_count), f"nobody reads {topic}\n{self.log}"
        return publisher

    def send(self, publisher: Any, messages: Callable[[], Any], got: list, more: int = 1) -> Any:
        """Publish fresh messages until `more` came out, since the first may find no one listening yet."""
        want = len(got) + more
        for _ in range(100):
            publisher.publish(messages())
            if self.spin_until(lambda: len(got) >= want, 0.1):
                return got[-1]
        raise AssertionError(f"no answer to 100 messages\n{self.log}")

    def call(self, kind: type, name: str, request: Any, timeout: float = 10.0) -> Any:
        client = self.node.create_client(kind, name)
        try:
            assert self.spin_until(client.service_is_ready, timeout), f"no service {name}\n{self.log}"
            # A server may hear a request before it has found the client that the answer is for; then the
            # answer is lost, and all that a client can do is ask again.
            end = time.monotonic() + timeout
            futures = [client.call_async(request)]
            while not self.spin_until(lambda: any(future.done() for future in futures), 2.0):
                assert time.monotonic() < end, f"{name} does not answer\n{self.log}"
                futures.append(client.call_async(request))
            return next(future.result() for future in futures if future.done())
        finally:
            self.node.destroy_client(client)

    def state(self, name: str = "/handos") -> int:
        return self.call(GetState, f"{name}/get_state", GetState.Request()).current_state.id

    def change(self, transition: str, name: str = "/handos") -> bool:
        number = getattr(Transition, f"TRANSITION_{transition.upper()}")
        request = ChangeState.Request(transition=Transition(id=number))
        return self.call(ChangeState, f"{name}/change_state", request).success

    def enable(self, on: bool) -> SetBool.Response:
        return self.call(SetBool, "/handos/enable", SetBool.Request(data=on))

    def set(self, name: str, value: Any) -> Any:
        """Set one parameter; gives rcl_interfaces/SetParametersResult."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, "/handos/set_parameters", request).results[0]

    def header(self, frame: str = "camera_optical", offset: float = 0.0) -> Header:
        """The stamp of `offset` seconds from now."""
        nanoseconds = time.time_ns() + int(offset * 1e9)
        header = Header(frame_id=frame)
        header.stamp.sec, header.stamp.nanosec = divmod(nanoseconds, 10**9)
        return header

    def image(self, picture: np.ndarray | None = None, **header: Any) -> Image:
        """A picture, stamped now; without one, `two_hands`."""
        return image_message(two_hands() if picture is None else picture, self.header(**header))

    def compressed(self, picture: np.ndarray | None = None, **header: Any) -> CompressedImage:
        import cv2

        picture = two_hands() if picture is None else picture
        _, data = cv2.imencode(".jpg", picture[..., ::-1])
        return CompressedImage(header=self.header(**header), format="jpeg", data=as_array(data))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def memory(self) -> float:
        """Resident memory of the node under test, MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def environment() -> dict[str, str]:
    """Of a process in this test's own domain."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN_ID),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }


def two_hands(width: int = 320, height: int = 240) -> np.ndarray:
    """(H, W, 3) RGB with a right hand on the left and a left hand on the right."""
    picture = np.zeros((height, width, 3), np.uint8)
    draw_disc(picture, (0.3 * width, 0.5 * height), 0.25 * height, RIGHT)
    return draw_disc(picture, (0.7 * width, 0.5 * height), 0.25 * height, LEFT)


def image_message(picture: np.ndarray, header: Header) -> Image:
    height, width = picture.shape[:2]
    data = as_array(picture)
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def info_message(f: float, width: int = 320, height: int = 240) -> CameraInfo:
    k = [f, 0.0, (width - 1) / 2, 0.0, f, (height - 1) / 2, 0.0, 0.0, 1.0]
    if not f:
        k = [0.0] * 9
    return CameraInfo(width=width, height=height, k=k, distortion_model="plumb_bob", d=[0.0] * 5)


def as_array(data: np.ndarray) -> array.array:
    """An ndarray assigned to Image.data takes 100 ms; this takes one."""
    result = array.array("B")
    result.frombytes(memoryview(np.ascontiguousarray(data)).cast("B"))
    return result


def stamps(messages: list) -> list[float]:
    return [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in messages]


def every(seconds: float, duration: float) -> Iterator[int]:
    """Counts on time, for `duration`."""
    began = time.monotonic()
    for i in range(int(duration / seconds)):
        time.sleep(max(0.0, began + i * seconds - time.monotonic()))
        yield i


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)
