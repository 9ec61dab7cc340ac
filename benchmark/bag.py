"""`handos bag` against the network's own time: a bag of 1,000 JPEG pictures of 1280x720.

    python benchmark/bag.py [--pictures 1000] [--weights PATH] [--min-score S] [--max-hands N]

How long the network takes alone is measured first, in this process, on the same pictures, decoded before
the clock starts. Then `handos bag` runs as a user runs it: one bag, and the same pictures as two bags with
`--jobs 1` and `--jobs 2`. Memory is the largest sum over the command and its processes, sampled; CPU
seconds are of all of them, start included, and mean something on a busy machine too.
`--stand-in S` takes the tests' network, which sleeps S seconds for a picture: for trying this script.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

REPOSITORY = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 720
STORE = get_typestore(Stores.ROS2_JAZZY)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--weights", help="as of `handos bag`")
    parser.add_argument("--min-score", default="0.5", help="as of `handos bag`")
    parser.add_argument("--max-hands", default="10", help="as of `handos bag`")
    parser.add_argument("--stand-in", type=float, metavar="S")
    parser.add_argument("--no-mesh", action="store_true")
    args = parser.parse_args()
    options = ["--min-score", args.min_score, "--max-hands", args.max_hands]
    options += ["--weights", args.weights] if args.weights else []
    options += ["--no-mesh"] if args.no_mesh else []
    environment = _environment(args.stand_in)
    pictures = [jpeg(i) for i in range(args.pictures)]
    size = sum(len(picture) for picture in pictures) / len(pictures) / 1e3
    print(f"{len(pictures)} JPEG pictures {WIDTH}x{HEIGHT}, {size:.0f} kB each, {os.cpu_count()} CPUs\n")

    folder = Path(tempfile.mkdtemp(prefix="handos_benchmark_"))
    try:
        whole = write_bag(folder / "whole", pictures)
        half = len(pictures) // 2
        halves = [
            write_bag(folder / "half0", pictures[:half]),
            write_bag(folder / "half1", pictures[half:], first=half),
        ]
        _, cpu, _, output = _run([sys.executable, __file__, "--network-alone", whole, *options], environment)
        alone = float(output)
        rows = [("network alone, pictures decoded beforehand", alone, cpu, 0)]
        for name, words in [
            ("handos bag, one bag", [whole, "-o", folder / "a"]),
            ("handos bag, two halves, --jobs 1", [*halves, "-o", folder / "b"]),
            ("handos bag, two halves, --jobs 2", [*halves, "-o", folder / "c", "--jobs", 2]),
        ]:
            command = [sys.executable, "-m", "handos_ros.cli.main", "bag", *words, *options]
            seconds, cpu, memory, output = _run(command, environment)
            print(output)
            rows.append((name, seconds, cpu, memory))
    finally:
        shutil.rmtree(folder)
    print("| | s | pictures/s | over the network alone | CPU s | memory, MB |\n|" + " --- |" * 6)
    for name, seconds, cpu, memory in rows:
        over, most = (f"{100 * (seconds / alone - 1):+.1f} %", f"{memory / 1e6:.0f}") if memory else "--"
        print(f"| {name} | {seconds:.1f} | {len(pictures) / seconds:.1f} | {over} | {cpu:.1f} | {most} |")
    return 0


def network_alone() -> int:
    """Seconds of the pipeline on the pictures of a bag, a hundred at a time decoded beforehand."""
    from handos_ros.cli.common import add_model_arguments, load_pipeline

    parser = argparse.ArgumentParser()
    parser.add_argument("--network-alone", type=Path)
    parser.add_argument("--no-mesh", action="store_true")
    add_model_arguments(parser)
    args = parser.parse_args()
    from handos_ros.files.bags_reading import BagReader
    from handos_ros.files.image_messages import decode_image

    pipeline = load_pipeline(args)
    messages = BagReader(args.network_alone).messages(["/camera/image_raw/compressed"])
    seconds = 0.0
    while block := [message for message, _ in zip(messages, range(100), strict=False)]:
        decoded = [
            decode_image(STORE.deserialize_cdr(message.data, message.topic.msgtype)) for message in block
        ]
        if not seconds:
            pipeline(decoded[0])
        started = time.perf_counter()
        for picture in decoded:
            pipeline(picture, mesh=not args.no_mesh)
        seconds += time.perf_counter() - started
    print(seconds)
    return 0


def jpeg(number: int) -> np.ndarray:
    """A picture with some detail everywhere, and two discs that the tests' network takes for hands."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), (0, 0), 2)
    picture = picture // 2
    cv2.circle(picture, (200 + number % 400, 300), 90, (255, 0, 255), -1, cv2.LINE_AA)
    cv2.circle(picture, (1000 - number % 300, 400), 110, (255, 255, 0), -1, cv2.LINE_AA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].reshape(-1)


def write_bag(path: Path, pictures: list[np.ndarray], first: int = 0) -> Path:
    kind, types = "sensor_msgs/msg/CompressedImage", STORE.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/camera/image_raw/compressed", kind, typestore=STORE)
        for i, picture in enumerate(pictures, first):
            stamp = 1_700_000_000_000_000_000 + i * 33_333_333
            time_ = types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
            message = types[kind](types["std_msgs/msg/Header"](time_, "camera"), "jpeg", picture)
            writer.write(connection, stamp, STORE.serialize_cdr(message, kind))
    return path


def _environment(stand_in: float | None) -> dict[str, str]:
    folders = [REPOSITORY]
    if stand_in is not None:
        folders += [REPOSITORY / "test", REPOSITORY / "test" / "cli" / "standin_site"]
    paths = [*map(str, folders), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HANDOS_TEST_DELAY": str(stand_in or 0)}


def _run(command: list[object], environment: dict[str, str]) -> tuple[float, float, int, str]:
    """Seconds, CPU seconds, most bytes of memory, output."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.PIPE, text=True
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(_memory(number) for number in _family(process.pid)))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    output = process.stdout.read().strip()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, most, output


def _family(number: int) -> list[int]:
    """A process and all that it started."""
    family = [number]
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                family += _family(int(child))
        except OSError:
            pass
    return family


def _memory(number: int) -> int:
    """Bytes that only this process has, and its share of what it has with others."""
    try:
        text = Path(f"/proc/{number}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(network_alone() if "--network-alone" in sys.argv else main())
