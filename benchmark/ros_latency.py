"""How long the node itself takes: from a picture's arrival in its callback to the published hands.

The network is a stand-in that answers at once, so what is left is decoding, letterbox, tracking and
messages. The node runs in a process of its own; this one sends 1280x720 pictures at 30 Hz through DDS.

    python benchmark/ros_latency.py            # about 3 minutes; prints a table in Markdown
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, RATE = 1280, 720, 30.0

# Name, hands in each picture, parameters, topics listened to beside the hands.
SCENARIOS = (
    ("nothing in view", 0, {}, ()),
    ("2 hands, no mesh", 2, {"publish_mesh": False}, ()),
    ("2 hands, mesh of 1,000 vertices", 2, {}, ()),
    ("2 hands, no mesh, overlay listener", 2, {"publish_mesh": False}, ("overlay",)),
    ("2 hands, mesh, overlay listener", 2, {}, ("overlay",)),
    ("2 hands, mesh, marker listener", 2, {}, ("markers",)),
)


def main() -> int:
    """Run every scenario and print the table; with --node be the node of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000, help="measured in each scenario")
    parser.add_argument("--encoding", default="bgr8", choices=("bgr8", "rgb8"))
    parser.add_argument("--node", nargs=2, metavar=("HANDS", "FILE"), help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.node:
        return run_node(int(options.node[0]), Path(options.node[1]), rest)
    os.environ.setdefault("ROS_DOMAIN_ID", str(2 + os.getpid() % 99))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, ", end="")
    print(f"{WIDTH}x{HEIGHT} {options.encoding} at {RATE:g} Hz, {options.pictures} pictures\n")
    print("| | median, ms | 99 %, ms | CPU of the node, % of a core | pictures answered |")
    print("| --- | --- | --- | --- | --- |")
    for name, hands, parameters, topics in SCENARIOS:
        times, cpu, answered = measure(options, hands, parameters, topics)
        median, worst = 1e3 * np.percentile(times, [50, 99])
        print(f"| {name} | {median:.2f} | {worst:.2f} | {100 * cpu:.0f} | {answered:.0%} |", flush=True)
    return 0


def run_node(hands: int, file: Path, ros_arguments: list[str]) -> int:
    """The node, noting how long each picture took."""
    sys.path[:0] = [str(ROOT), str(ROOT / "test")]
    from handos_ros.hand_model.model import load_hand_model
    from handos_ros.ros.node import main as node_main
    from handos_ros.ros.statistics import Statistics
    from standin import standin_pipeline

    times: list[float] = []
    note = Statistics.time

    def note_and_keep(self: Statistics, stages: dict[str, float]) -> None:
        times.append(stages["arrival to sent"])
        note(self, stages)

    Statistics.time = note_and_keep  # type: ignore[method-assign]
    status = node_main(
        [sys.argv[0], *ros_arguments],
        lambda model, **_: standin_pipeline(hands=hands, hand_model=load_hand_model()),
    )
    file.write_text(json.dumps(times))
    return status


def measure(
    options: argparse.Namespace, hands: int, parameters: dict[str, bool], topics: tuple[str, ...]
) -> tuple[list[float], float, float]:
    """One scenario: seconds of each picture, CPU share of the node, share of the pictures answered."""
    import array

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image
    from visualization_msgs.msg import MarkerArray

    from handos_ros.msg import HandArray

    warm_up = 30
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        command = [sys.executable, __file__, "--node", str(hands), str(file), "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={str(value).lower()}"]
        rclpy.init()
        process = subprocess.Popen([*command, "--log-level", "warn"])
        node = rclpy.create_node("ros_latency")
        try:
            images = node.create_publisher(Image, "image_raw", QoSProfile(depth=5))
            kinds = {"hands": HandArray, "overlay": Image, "markers": MarkerArray}
            for topic in ("hands", *topics):
                node.create_subscription(
                    kinds[topic], f"/handos/{topic}", lambda _: None, QoSProfile(depth=1), raw=True
                )
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while not images.get_subscription_count():
                executor.spin_once(timeout_sec=0.1)
            message = Image(height=HEIGHT, width=WIDTH, encoding=options.encoding, step=3 * WIDTH)
            picture = np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3, np.uint8)
            message.data = array.array("B", picture.tobytes())
            began = time.monotonic()
            for i in range(warm_up + options.pictures):
                if i == warm_up:
                    cpu_began, wall_began = cpu_seconds(process.pid), time.monotonic()
                while (left := began + i / RATE - time.monotonic()) > 0:
                    executor.spin_once(timeout_sec=left)
                message.header.stamp = node.get_clock().now().to_msg()
                images.publish(message)
            cpu = (cpu_seconds(process.pid) - cpu_began) / (time.monotonic() - wall_began)
            time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
            node.destroy_node()
            rclpy.shutdown()
        times = json.loads(file.read_text())
    return times[warm_up:], cpu, len(times) / (warm_up + options.pictures)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_name() -> str:
    """What this machine's processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
