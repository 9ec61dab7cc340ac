"""`handos video` as a user runs it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.hands import LEFT, RIGHT
from standin import draw_disc

SIZE, RATE, COUNT = (160, 120), 12.5, 30


def frame(number: int) -> np.ndarray:
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    draw_disc(image, (30 + 2 * number, 60), 40, RIGHT)
    return draw_disc(image, (130, 40 + number), 30, LEFT)


def write_clip(path: Path, *, count: int = COUNT, code: str = "mp4v", noise: bool = False) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), RATE, SIZE)
    assert writer.isOpened()
    random = np.random.default_rng(0)
    for number in range(count):
        image = random.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8) if noise else frame(number)
        writer.write(image[..., ::-1])
    writer.release()
    return path


def read_clip(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, image = capture.read()
        if not there:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(image[..., ::-1])


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_overlay_and_json_lines(handos) -> None:
    write_clip(handos.folder / "clip.mp4")
    result = handos("video", "clip.mp4", "-o", "out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("30 frames, 60 hands, 0 failed") and result.stdout.count("\n") == 1
    frames, rate = read_clip(handos.folder / "out/clip_overlay.mp4")
    assert len(frames) == COUNT and rate == pytest.approx(RATE)
    assert all(image.shape == (SIZE[1], SIZE[0], 3) for image in frames)
    # The hand is drawn over the disc, where the disc is in that very frame.
    for number in (0, 15, 29):
        x = 30 + 2 * number
        disc = frames[number][45:75, x - 15 : x + 15].astype(int)
        assert np.abs(disc - (255, 0, 255)).sum(-1).mean() > 100
    lines = read_lines(handos.folder / "out/clip.jsonl")
    assert [line["frame"] for line in lines] == list(range(COUNT))
    assert [line["time"] for line in lines] == pytest.approx([i / RATE for i in range(COUNT)], abs=2e-3)
    assert all((line["image"], line["width"], line["height"]) == ("clip.mp4", *SIZE) for line in lines)
    ids = [{hand["handedness"]: hand["id"] for hand in line["hands"]} for line in lines]
    assert all(pair == ids[0] for pair in ids) and ids[0]["left"] != ids[0]["right"] >= 0


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ([], [0, 1, 1, 1, 1, 1]),
        (["--keep-score", "0.5"], [0, 1, 0, 1, 0, 0]),
        # The threshold to stay never is above the one to begin.
        (["--min-score", "0.3", "--keep-score", "0.9"], [1] * 6),
    ],
    ids=["by default", "one threshold", "lower than that"],
)
def test_a_hand_that_becomes_unsure_stays(handos, words: list[str], seen: list[int]) -> None:
    writer = cv2.VideoWriter(str(handos.folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE)
    for number in range(6):
        image = draw_disc(
            np.full((SIZE[1], SIZE[0], 3), 60, np.uint8), (80, 60), 50, dim=number not in (1, 3)
        )
        writer.write(image[..., ::-1])
    writer.release()
    assert handos("video", "clip.avi", "-o", "out", "--no-overlay", *words).returncode == 0
    counts = [len(line["hands"]) for line in read_lines(handos.folder / "out/clip.jsonl")]
    assert counts == seen


def test_without_overlay(handos) -> None:
    write_clip(handos.folder / "clip.avi", count=5, code="MJPG")
    assert handos("video", "clip.avi", "-o", "out", "--no-overlay", "--smoothing", "0").returncode == 0
    assert [path.name for path in (handos.folder / "out").iterdir()] == ["clip.jsonl"]


def test_what_is_there_is_refused_or_replaced(handos) -> None:
    write_clip(handos.folder / "clip.mp4", count=3)
    (handos.folder / "clip_overlay.mp4").write_text("mine")
    result = handos("video", "clip.mp4", "-o", ".")
    assert result.returncode == 1 and "clip_overlay.mp4 is there already" in result.stderr
    assert (handos.folder / "clip_overlay.mp4").read_text() == "mine"
    assert not (handos.folder / "clip.jsonl").exists()
    assert handos("video", "clip.mp4", "-o", ".", "--overwrite").returncode == 0
    assert len(read_clip(handos.folder / "clip_overlay.mp4")[0]) == 3


def test_of_a_file_that_was_cut_off_what_is_there_is_kept(handos) -> None:
    path = write_clip(handos.folder / "clip.avi", code="MJPG", noise=True)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = handos("video", "clip.avi", "-o", "out", hands=2)
    assert result.returncode == 1
    assert "clip.avi: of 30 frames the first " in result.stderr
    frames, _ = read_clip(handos.folder / "out/clip_overlay.mp4")
    assert 5 < len(frames) < 25 and len(read_lines(handos.folder / "out/clip.jsonl")) == len(frames)


def write_playable_clip(path: Path, *, seconds: float | None = None) -> Path:
    """An mp4 file whose index comes first, as in those for the web.

    Args:
        path: of the file.
        seconds: trim it to so many, as players' and phones' "trim" does: by its edit list alone.
    """
    data = write_clip(path, noise=True).read_bytes()
    place = data.index(b"moov") - 4
    index = bytearray(data[place:])
    start = data.index(b"mdat") - 4
    offsets = index.index(b"stco") + 8
    (chunks,) = struct.unpack_from(">I", index, offsets)
    for at in range(offsets + 4, offsets + 4 + 4 * chunks, 4):
        struct.pack_into(">I", index, at, struct.unpack_from(">I", index, at)[0] + len(index))
    if seconds is not None:
        (units,) = struct.unpack_from(">I", index, index.index(b"mvhd") + 16)
        struct.pack_into(">I", index, index.index(b"elst") + 12, round(seconds * units))
    path.write_bytes(data[:start] + index + data[start:place])
    return path


def test_a_trimmed_clip_is_whole(handos) -> None:
    write_playable_clip(handos.folder / "clip.mp4", seconds=1.2)
    result = handos("video", "clip.mp4", "-o", "out", "--no-overlay", hands=1)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(read_lines(handos.folder / "out/clip.jsonl")) == 15


@pytest.mark.parametrize("seconds", [None, 2.0])
def test_a_clip_that_was_cut_off_is_not_taken_for_a_trimmed_one(handos, seconds: float | None) -> None:
    path = write_playable_clip(handos.folder / "clip.mp4", seconds=seconds)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = handos("video", "clip.mp4", "-o", "out", "--no-overlay", hands=1)
    assert result.returncode == 1
    assert f"clip.mp4: of {25 if seconds else 30} frames the first " in result.stderr
    assert 5 < len(read_lines(handos.folder / "out/clip.jsonl")) < 20


def write_varying_clip(path: Path) -> Path:
    """An mkv file of 30 frames in 2.4 s that says 50 frames/s: OpenCV takes it to hold 120."""
    data = write_clip(path, code="MJPG", noise=True).read_bytes()
    place = data.index(b"\x23\xe3\x83\x84") + 4  # DefaultDuration, in ns
    path.write_bytes(data[:place] + (20_000_000).to_bytes(4, "big") + data[place + 4 :])
    return path


def test_a_clip_of_varying_rate_is_whole_by_its_time(handos) -> None:
    write_varying_clip(handos.folder / "clip.mkv")
    assert cv2.VideoCapture(str(handos.folder / "clip.mkv")).get(cv2.CAP_PROP_FRAME_COUNT) > 100
    result = handos("video", "clip.mkv", "-o", "out", "--no-overlay", hands=1)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(read_lines(handos.folder / "out/clip.jsonl")) == 30


def test_a_clip_of_varying_rate_that_was_cut_off(handos) -> None:
    path = write_varying_clip(handos.folder / "clip.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = handos("video", "clip.mkv", "-o", "out", "--no-overlay", hands=1)
    assert result.returncode == 1 and "or was cut off" in result.stderr


@pytest.mark.parametrize(
    ("name", "out"), [(b"caf\xe9.mp4", b"out"), (b"r\xe9/a.mp4", b"out"), (b"a.mp4", b"\xe9t\xe9")]
)
def test_names_that_are_not_utf_8(handos, name: bytes, out: bytes) -> None:
    """OpenCV crashes on those."""
    path = handos.folder / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    write_clip(handos.folder / "clip.mp4", count=3).rename(path)
    result = handos("video", os.fsdecode(name), "-o", os.fsdecode(out))
    assert result.returncode == 1
    assert result.stderr.startswith("handos: error: ") and "udce9" in result.stderr.splitlines()[0]
    assert "UTF-8" in result.stderr and "rename" in result.stderr


@pytest.mark.parametrize("words", ["missing", "no video", "cut mp4", "folder"])
def test_what_is_no_video_is_named(handos, words: str) -> None:
    path = handos.folder / "clip.mp4"
    if words == "no video":
        path.write_text("words")
    elif words == "cut mp4":
        data = write_clip(path).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif words == "folder":
        path.mkdir()
    result = handos("video", "clip.mp4", "-o", "out")
    assert result.returncode == 1
    assert result.stderr.startswith("handos: error: clip.mp4") and result.stderr.count("\n") == 1
    assert not (handos.folder / "out").exists()


def wait_for_work(folder: Path) -> None:
    """Until some frames were written."""
    deadline = time.monotonic() + 30
    while not any(folder.glob("out/.*_overlay*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)


def assert_a_whole_part(out: Path) -> int:
    """That the files are whole and of equally many frames, but not of all 100; how many they are."""
    frames, _ = read_clip(out / "clip_overlay.mp4")
    lines = read_lines(out / "clip.jsonl")
    assert 0 < len(frames) == len(lines) < 100
    assert sorted(path.name for path in out.iterdir()) == ["clip.jsonl", "clip_overlay.mp4"]
    return len(lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_work_leaves_whole_files(handos, number: signal.Signals) -> None:
    write_clip(handos.folder / "clip.mp4", count=100)
    process = handos.start("video", "clip.mp4", "-o", "out", delay=0.05)
    wait_for_work(handos.folder)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.startswith(f"{assert_a_whole_part(handos.folder / 'out')} frames")


def test_a_terminal_that_is_closed_leaves_whole_files(handos) -> None:
    write_clip(handos.folder / "clip.mp4", count=100)
    controller, terminal = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        handos.command("video", "clip.mp4", "-o", "out", delay=0.05, hands=None),
        cwd=handos.folder, env=handos.environment, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(terminal)
    wait_for_work(handos.folder)
    os.close(controller)
    process.send_signal(signal.SIGHUP)  # the shell's, besides the system's
    process.wait(timeout=30)
    assert_a_whole_part(handos.folder / "out")


def test_under_nohup_work_goes_on(handos) -> None:
    write_clip(handos.folder / "clip.mp4", count=20)
    words = handos.command("video", "clip.mp4", "-o", "out", delay=0.05, hands=None)
    process = subprocess.Popen(
        ["nohup", *words], cwd=handos.folder, env=handos.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_work(handos.folder)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 0
    assert len(read_lines(handos.folder / "out/clip.jsonl")) == 20


def test_a_full_disk_is_named_and_leaves_no_halves(handos) -> None:
    write_clip(handos.folder / "clip.mp4", noise=True)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = handos("video", "clip.mp4", "-o", "out", hands=0, preexec_fn=limit)
    assert result.returncode == 1
    assert "handos: error: out/clip_overlay.mp4: cannot be written: " in result.stderr
    assert "is the disk full?" in result.stderr
    assert list((handos.folder / "out").iterdir()) == []


def test_full_disk_of_json_lines(handos) -> None:
    write_clip(handos.folder / "clip.mp4")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = handos("video", "clip.mp4", "-o", "out", "--no-overlay", preexec_fn=limit)
    assert result.returncode == 1
    assert "handos: error: out/clip.jsonl: cannot be written: File too large" in result.stderr
    assert list((handos.folder / "out").iterdir()) == []


def test_a_camera_of_another_shape_ends_it_at_once(handos) -> None:
    write_clip(handos.folder / "clip.mp4")
    (handos.folder / "k.yaml").write_text(
        "image_width: 640\nimage_height: 640\ncamera_matrix: {data: [800, 0, 320, 0, 800, 320, 0, 0, 1]}\n"
    )
    result = handos("video", "clip.mp4", "-o", "out", "--camera", "k.yaml")
    assert result.returncode == 1 and "640x640" in result.stderr
    assert list((handos.folder / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["63", "/dev/video63"])
def test_a_camera_that_is_not_there(handos, name) -> None:
    result = handos("video", name, "-o", "out", "--no-window")
    assert result.returncode == 1 and "camera 63 cannot be opened" in result.stderr


def test_a_stream_is_no_file(handos) -> None:
    result = handos("video", "rtsp://nowhere/stream", "-o", "out")
    assert result.returncode == 1 and "the address of a stream; only files and" in result.stderr


def test_nowhere_to_put_the_results(handos) -> None:
    write_clip(handos.folder / "clip.mp4", count=2)
    result = handos("video", "clip.mp4")
    assert result.returncode == 1 and "-o DIR" in result.stderr
