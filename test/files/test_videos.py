"""Frames out of files and cameras. There is no camera where tests run: one is played."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.cli import common, main
from handos_ros.drawing import window
from handos_ros.errors import DataError
from handos_ros.files import videos
from handos_ros.files.atomic import DiskFullError
from handos_ros.files.videos import LiveCamera, VideoFile, VideoOutput
from standin import draw_disc, standin_pipeline

RATE = 100.0


class PlayedCamera:
    """As cv2.VideoCapture: gives frame after frame at its rate; their grey values rise by `step`."""

    step = 1

    def __init__(self, number: int, frames: int = 150) -> None:
        self.left, self.frames, self.began = frames, frames, time.monotonic()
        self.released = False

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return RATE if what == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        number = self.frames - self.left
        time.sleep(max(0.0, self.began + number / RATE - time.monotonic()))
        self.left -= 1
        if self.left < 0 or self.released:
            return False, None
        image = np.full((120, 160, 3), self.step * number, np.uint8)
        return True, np.ascontiguousarray(draw_disc(image, (80, 60), 60)[..., ::-1])

    def release(self) -> None:
        self.released = True


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PlayedCamera]]:
    cameras: list[PlayedCamera] = []
    real = cv2.VideoCapture

    def open_(source: int | str) -> object:
        if isinstance(source, str):
            return real(source)
        cameras.append(PlayedCamera(source))
        return cameras[-1]

    monkeypatch.setattr(videos.cv2, "VideoCapture", open_)
    yield cameras
    assert all(camera.released for camera in cameras)


def test_a_camera_gives_its_newest_frame(played: list[PlayedCamera]) -> None:
    camera = LiveCamera(0)
    assert (camera.rate, camera.rate_is_known, camera.count) == (RATE, True, None)
    seen = []
    while frame := camera.read():
        seen.append((frame.number, frame.time, int(frame.image[0, 0, 0])))
        if len(seen) == 8:
            break
        time.sleep(0.1)  # the network
    camera.close()
    numbers, times, values = np.array(seen).T
    assert numbers.tolist() == list(range(8))
    # Ten frames came while the network worked on one: none of those waited in a queue.
    assert (np.diff(values) >= 5).all()
    assert np.abs((values - values[0]) / RATE - (times - times[0])).max() < 0.1


def test_a_camera_that_is_pulled_out_ends(played: list[PlayedCamera]) -> None:
    camera = LiveCamera(0)
    played[0].left = 3
    while camera.read():
        pass
    assert camera.read() is None
    camera.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Pictures in a window that its user closes after ten."""
    pictures: list[np.ndarray] = []

    def show(title: str, image: np.ndarray) -> bool:
        assert threading.current_thread() is threading.main_thread()  # GUIs want that
        pictures.append(image)
        return len(pictures) < 10

    monkeypatch.setattr(window, "why_no_window", lambda: None)
    monkeypatch.setattr(window, "show", show)
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline(delay=0.05))
    return pictures


def test_a_camera_in_a_window(
    played: list[PlayedCamera], seen: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["video", "0"]) == 0
    assert len(seen) == 10
    assert (seen[-1][60, 80] != (255, 0, 255)).any()  # the hand is drawn over the disc
    # What is shown is what is there now, not what was there some pictures of the network ago.
    now = (time.monotonic() - played[0].began) * RATE
    assert now - seen[-1][0, 0, 0] < 40
    assert "frames, " in capsys.readouterr().out


def test_the_clock_of_a_camera_s_video_is_true(
    played: list[PlayedCamera], seen: list[np.ndarray], tmp_path: Path
) -> None:
    """The network does 20 frames/s, the video has 100: each is repeated as long as it was the newest."""
    assert main.main(["video", "0", "-o", str(tmp_path)]) == 0
    lines = (tmp_path / "camera0.jsonl").read_text().splitlines()
    last = float(lines[-1].split('"time":')[1].split(",")[0])
    frames = VideoFile(tmp_path / "camera0_overlay.mp4")
    assert frames.rate == pytest.approx(RATE)
    assert frames.count == pytest.approx(last * RATE + 1, abs=1.01)
    frames.close()


class UnevenClip(PlayedCamera):
    """As cv2.VideoCapture of a file with these stamps."""

    step = 10
    stamps = (*(i / 30 for i in range(11)), *(2 + i / 30 for i in range(11, 21)))

    def __init__(self) -> None:
        super().__init__(0, len(self.stamps))

    def get(self, what: int) -> float:
        number = self.frames - self.left
        mean = (self.frames - 1) / self.stamps[-1]
        return {
            cv2.CAP_PROP_FPS: mean,
            cv2.CAP_PROP_FRAME_COUNT: self.frames,
            cv2.CAP_PROP_POS_MSEC: 1000 * self.stamps[number - 1],
        }.get(what, 0.0)


def test_what_is_unevenly_spaced_is_held_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A screen's recording: 11 frames at 30 frames/s, 2 s of nothing, ten more."""
    (tmp_path / "clip.mp4").write_bytes(b"read by nobody")
    real = cv2.VideoCapture

    def open_(source: str) -> object:
        return UnevenClip() if source.endswith("/clip.mp4") else real(source)

    monkeypatch.setattr(videos.cv2, "VideoCapture", open_)
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline())
    assert main.main(["video", str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out")]) == 0
    overlay = VideoFile(tmp_path / "out/clip_overlay.mp4")
    shown: list[float] = []
    while (frame := overlay.read()) is not None:
        number = round(float(frame.image[:10, :10].mean()) / UnevenClip.step)
        if number == len(shown):
            shown.append(frame.time)
    # No frame is lost, and what comes after the pause is not shown before it.
    assert len(shown) == len(UnevenClip.stamps)
    assert shown[11] == pytest.approx(UnevenClip.stamps[11], abs=1 / overlay.rate)
    said = capsys.readouterr().err
    assert "not evenly spaced" in said and "clip.jsonl has their times" in said
    overlay.close()


def test_a_camera_that_is_pulled_out_is_named(
    played: list[PlayedCamera],
    seen: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(PlayedCamera.__init__, "__defaults__", (30,))
    assert main.main(["video", "0", "-o", str(tmp_path)]) == 1
    assert "camera 0 gives no more frames" in capsys.readouterr().err
    assert (tmp_path / "camera0.jsonl").exists() and (tmp_path / "camera0_overlay.mp4").exists()


def test_no_window_and_no_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(window, "why_no_window", lambda: "there is no screen")
    assert main.main(["video", "0"]) == 1
    assert "there is no screen" in capsys.readouterr().err


def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: "  GUI:   NONE\n")
    assert "pip install opencv-python" in (window.why_no_window() or "")
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: "  GUI:   QT5\n")
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "DISPLAY" in (window.why_no_window() or "")
    monkeypatch.setenv("DISPLAY", ":0")
    assert window.why_no_window() is None


def test_a_file_s_frames(tmp_path: Path) -> None:
    name = tmp_path / "a.mp4"
    output = VideoOutput(name, 20, 64, 48, name=name)
    for value in range(10):
        output.write(np.full((48, 64, 3), (20 * value, 0, 0), np.uint8))
    output.close()
    file = VideoFile(name)
    assert (file.rate, file.count) == (20, 10)
    for number in range(10):
        frame = file.read()
        assert frame is not None and (frame.number, frame.time) == (number, pytest.approx(number / 20))
        assert frame.image[24, 32, 0] == pytest.approx(20 * number, abs=12) and frame.image[24, 32, 2] < 30
    assert file.read() is None
    file.close()


@pytest.mark.parametrize("rate", [0.5, 23.976, 30000 / 1001, 65.5361, 119.885, 239.813, 479.9797])
def test_a_rate_that_is_not_round_can_be_written(tmp_path: Path, rate: float) -> None:
    """Slow motion of phones has such rates; MPEG-4 takes not every one."""
    name, count = tmp_path / "a.mp4", 500
    output = VideoOutput(name, rate, 64, 48, name=name)
    for _ in range(count):
        output.write(np.zeros((48, 64, 3), np.uint8))
    output.close()
    file = VideoFile(name)
    assert file.rate == pytest.approx(output.rate) and file.rate == pytest.approx(rate, rel=1e-3)
    while frame := file.read():
        last = frame
    assert last.number == count - 1 and last.time == pytest.approx((count - 1) / rate, abs=1.0 / rate)
    file.close()


def mkv(path: Path, gap_ns: int | None, gaps: int = 29) -> Path:
    """A video of 30 frames per second that says it has one every `gap_ns`, or (None) says nothing of it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(gaps + 1):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = path.read_bytes()
    duration = b"\x23\xe3\x83\x84"  # DefaultDuration, of 4 bytes
    assert data.count(duration) == 1
    place = data.index(duration)
    said = b"\xec\x86" + bytes(6) if gap_ns is None else duration + gap_ns.to_bytes(4, "big")
    path.write_bytes(data[:place] + said + data[place + 8 :])
    return path


@pytest.mark.parametrize("gap_ns", [1_000_000, 33_333_333, None])
def test_a_rate_that_no_camera_has_is_taken_from_the_stamps(tmp_path: Path, gap_ns: int | None) -> None:
    """Browsers' recordings say 1000 frames/s; 30 of them would flash by in no time."""
    file = VideoFile(mkv(tmp_path / "a.mkv", gap_ns))
    assert file.rate_is_known and file.rate == pytest.approx(30, rel=2e-3) and file.count == 30
    file.close()


def test_a_rate_that_not_even_stamps_tell_is_the_usual_one(tmp_path: Path) -> None:
    file = VideoFile(mkv(tmp_path / "a.mkv", 1_000_000, gaps=0))
    assert (file.rate, file.rate_is_known) == (30, False)
    file.close()


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes 2024-05-01T12 for a protocol."""
    monkeypatch.chdir(tmp_path)
    path = Path("2024-05-01T12:30:05.mp4")
    output = VideoOutput(path, 25.0, 64, 48, name=path)
    output.write(np.zeros((48, 64, 3), np.uint8))
    output.close()
    video = VideoFile(path)
    assert video.read() is not None
    video.close()


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = VideoOutput(tmp_path / "part.mp4", 20, 64, 48, name=tmp_path / "a.mp4")
    usage = videos.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(videos.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match=r"a\.mp4: cannot be written: no space left"):
        output.write(np.zeros((48, 64, 3), np.uint8))


def test_a_video_that_cannot_be_begun(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mp4: OpenCV cannot write"):
        VideoOutput(tmp_path / "gone" / "part.mp4", 20, 64, 48, name=tmp_path / "a.mp4")
