"""The demo as a user starts it: the node's process, a real stream, what is recorded, nothing left running."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from bag_makers import START, default_messages, raw, write_bag

from handos_ros.files.bags_reading import BagReader
from handos_ros.files.rosmsg import HAND_ARRAY, typestore

pytest.importorskip("rclpy", reason="no ROS 2 in this environment")
pytest.importorskip("handos_ros.msg", reason="the messages are not built; make test builds them")
FOLDER = Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(FOLDER))
from clip import hands_clip  # noqa: E402
from sources import open_source  # noqa: E402

DEMO = [sys.executable, str(FOLDER / "run.py")]


@pytest.fixture
def environment():
    # A mark by which the demo's processes can be found, whoever their parent is by then.
    return {**os.environ, "HANDOS_TEST_MARK": f"{os.getpid()}-{time.monotonic_ns()}"}


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    """A video of two seconds: a rendered right hand throughout, a left one in its second half."""
    path = tmp_path_factory.mktemp("video") / "hands.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 15, (320, 240))
    for picture in itertools.islice(hands_clip(), 10, 70, 2):
        video.write(cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA)[..., ::-1])
    video.release()
    return path


def left_running(environment) -> list[str]:
    mark = f"HANDOS_TEST_MARK={environment['HANDOS_TEST_MARK']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_plays_a_video_records_and_ends(hands, tmp_path, environment):
    output = tmp_path / "output"
    done = subprocess.run(
        [*DEMO, str(hands), "--output", str(output)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_running(environment)
    sent, answered = map(int, re.search(r"(\d+) pictures sent, (\d+) answered", done.stdout).groups())
    assert sent == 30 and answered >= 10  # a busy machine may skip pictures, never most of them

    messages = list(BagReader(output / "hands").messages(["/handos/hands"]))
    arrays = [typestore().deserialize_cdr(message.data, HAND_ARRAY) for message in messages]
    assert len(arrays) == answered
    assert arrays[0].width == 320 and arrays[0].height == 240
    assert sum(len(array.hands) > 0 for array in arrays) > len(arrays) / 2
    video = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 15 and 25 <= video.get(cv2.CAP_PROP_FRAME_COUNT) <= 30


def test_of_a_bag_with_several_cameras_colours_are_played_not_depth(tmp_path, capsys):
    messages = default_messages(3)
    for topic, encoding in (("/aligned_depth/image_raw", "16UC1"), ("/zed/image_raw", "bgr8")):
        messages += [(topic, START + i, raw(i, START + i, encoding)) for i in range(3)]
    source = open_source(write_bag(tmp_path / "in", messages))
    assert len(list(source.messages)) >= 3
    said = capsys.readouterr().out
    assert "depth" not in said and "/zed/image_raw; playing" in said


def test_ctrl_c_keeps_what_was_recorded_and_leaves_nothing_running(hands, tmp_path, environment):
    output = tmp_path / "output"
    demo = subprocess.Popen(
        [*DEMO, str(hands), "--output", str(output)], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (output / ".overlay.part.mp4").exists():
        assert demo.poll() is None and time.monotonic() < deadline, demo.communicate()[0]
        time.sleep(0.02)
    time.sleep(0.3)
    demo.send_signal(signal.SIGINT)
    text, _ = demo.communicate(timeout=20)
    assert demo.returncode == 130, text
    assert "Traceback" not in text
    assert not left_running(environment)
    assert BagReader(output / "hands").first_of(["/handos/hands"])


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_names_an_input_that_it_cannot_play(content, tmp_path, environment):
    path = tmp_path / "holiday.mp4"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([*DEMO, str(path)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("demo: error: ") and str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not left_running(environment)
