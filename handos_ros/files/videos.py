"""Frames out of video files and cameras, and frames into video files."""

from __future__ import annotations

import math
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.files.atomic import DiskFullError
from handos_ros.files.edit_list import edited_seconds

_USUAL_RATE = 30.0
# For webm of browsers and some wmv OpenCV says 1000, which only means that their stamps are in ms.
_MOST_BELIEVED, _MOST_MEASURED = 480.0, 1000.0
_FRAMES_FOR_RATE = 60
# The index at the end of a video file and the results' last lines need some room, too.
_LEAST_FREE_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        number: of the frame, from 0.
        time: s since the first frame.
        image: (H, W, 3) uint8 RGB, upright.
    """

    number: int
    time: float
    image: NDArray[np.uint8]


class Source(Protocol):
    """Where frames come from."""

    rate: float
    """Frames per second."""
    rate_is_known: bool
    """Whether the file, or the stamps in it, or the camera told the rate."""
    count: int | None
    """How many frames there are, by the file's own word; None where it does not say."""
    seconds: float | None
    """How long they play, by the file's own word; None where it does not say."""

    def read(self) -> Frame | None:
        """The next frame, None after the last."""
        ...

    def close(self) -> None:
        """No more frames are wanted."""
        ...


class VideoFile:
    """Frames of a video file, each in turn.

    Raises:
        DataError: if the file is missing or is no video.
    """

    def __init__(self, path: str | Path) -> None:
        if "://" in str(path) and not os.path.exists(path):
            raise DataError(
                f"{path}: the address of a stream; only files and this machine's cameras are read. Record it "
                "(ffmpeg -i ADDRESS -c copy FILE.mp4), or give the node the topic of a driver for it"
            )
        if not os.path.exists(path):
            raise DataError(f"{path}: no such file")
        if os.path.isdir(path):
            raise DataError(f"{path} is a folder; `handos image` takes folders of pictures")
        _check_name(path)
        self._capture = cv2.VideoCapture(_for_ffmpeg(path))
        if not self._capture.isOpened():
            raise DataError(f"{path}: no video that OpenCV reads, or one that was cut off before its end")
        told, count = _told(self._capture, cv2.CAP_PROP_FPS), _told(self._capture, cv2.CAP_PROP_FRAME_COUNT)
        rate = _believed(told) or _measured_rate(path)
        self.rate, self.rate_is_known = rate or _USUAL_RATE, rate is not None
        # Some files tell their number of frames; of others OpenCV takes the duration times the rate for it.
        self.seconds = None if count is None or told is None or count > 1e9 else count / told
        self.count = int(count) if count is not None and count < 1e9 else None
        if self.seconds is not None:
            self.seconds = min(self.seconds, edited_seconds(path) or math.inf)
            self.count = min(self.count or 1, round(self.seconds * self.rate))
        self._number = 0
        self._start: float | None = None
        self._time = -1.0

    def read(self) -> Frame | None:
        """The next frame, None where no more can be read."""
        try:
            there, image = self._capture.read()
        except cv2.error:
            there = False
        if not there:
            return None
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._start is None:
            self._start = stamp
        stamp -= self._start
        if not math.isfinite(stamp) or stamp <= self._time:
            # Not every container has stamps.
            stamp = max(self._number / self.rate, self._time + 1e-3)
        self._time = stamp
        frame = Frame(self._number, stamp, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
        self._number += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def camera_number(source: str) -> int | None:
    """Of a camera, given as 0 or /dev/video0; None for what is a file."""
    match = re.fullmatch(r"(?:/dev/video)?(\d+)", source, re.ASCII)
    return int(match[1]) if match else None


class LiveCamera:
    """The newest frame of a camera: what comes while the network works is dropped, not queued.

    Args:
        number: of the camera, 0 is the first.

    Raises:
        DataError: if there is no such camera; names those that there are.
    """

    count: int | None = None
    seconds: float | None = None

    def __init__(self, number: int) -> None:
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            found = ", ".join(camera_devices())
            hint = f"there are {found}: is it in use, or not yours to read?" if found else "none was found"
            raise DataError(f"camera {number} cannot be opened; {hint}")
        rate = _believed(_told(self._capture, cv2.CAP_PROP_FPS))
        self.rate, self.rate_is_known = rate or _USUAL_RATE, rate is not None
        self._newest: NDArray[np.uint8] | None = None
        self._stamp = self._start = 0.0
        self._count = 0
        self._ended = False
        self._arrival = threading.Condition()
        self._thread = threading.Thread(target=self._grab, name="camera", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """The newest frame that was not given yet; waits for it. None when the camera is gone."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._newest is not None or self._ended)
            image, stamp, self._newest = self._newest, self._stamp, None
        if image is None:
            return None
        frame = Frame(self._count, stamp - self._start, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
        self._count += 1
        return frame

    def close(self) -> None:
        """Give the camera back."""
        self._ended = True
        self._thread.join(timeout=2)
        self._capture.release()

    def _grab(self) -> None:
        while not self._ended:
            there, image = self._capture.read()
            with self._arrival:
                if there:
                    self._newest, self._stamp = np.asarray(image, np.uint8), time.monotonic()
                    self._start = self._start or self._stamp
                else:
                    self._ended = True
                self._arrival.notify_all()


def _check_name(path: str | Path) -> None:
    """Refuse names that OpenCV crashes on: Latin-1 ones out of old archives, for instance."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{path}: OpenCV takes no video whose name or folder is not UTF-8; rename it, as with convmv"
        ) from None


def _told(capture: cv2.VideoCapture, what: int) -> float | None:
    """A property that is a number above 0, None where it is none."""
    value = capture.get(what)
    return value if math.isfinite(value) and value > 0 else None


def _believed(rate: float | None) -> float | None:
    """A rate that was told, None where it is too high to be one."""
    return rate if rate is not None and rate <= _MOST_BELIEVED else None


def _measured_rate(path: str | Path) -> float | None:
    """Frames per second by the stamps of the first ones, None where these tell nothing."""
    capture = cv2.VideoCapture(_for_ffmpeg(path))
    stamps: list[float] = []
    while len(stamps) < _FRAMES_FOR_RATE and capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    capture.release()
    seconds = stamps[-1] - stamps[0] if stamps else 0.0
    if not (math.isfinite(seconds) and seconds > 0):
        return None
    rate = (len(stamps) - 1) / seconds
    return rate if rate <= _MOST_MEASURED else None


def _for_ffmpeg(path: str | Path) -> str:
    """The path in full: of 12:30.mp4 alone FFmpeg takes 12 for a protocol."""
    return os.path.abspath(path)


def _writable_rate(rate: float) -> float:
    """The nearest rate that OpenCV can give an mp4 file.

    It makes a fraction of the rate's first three decimals, and MPEG-4 takes no numerator above 65535: where
    three are too many for that, two or one tell the rate well enough.
    """
    for decimals in (3, 2, 1):
        scale = 10**decimals
        nearest = Fraction(round(rate * scale), scale)
        if nearest.numerator <= 65535:
            return float(nearest)
    return float(round(rate))


def camera_devices() -> list[str]:
    """The camera devices of this machine, as far as Linux shows them."""
    return sorted(glob("/dev/video[0-9]*"))


class VideoOutput:
    """An mp4 file that frames are written to, all of one size.

    Args:
        path: ends in `.mp4`; see `whole` for a name that is safe to write under.
        rate: frames per second that are wanted.
        width, height: px; an odd one loses its last column or row, which mp4 cannot hold.
        name: the file's final name, for messages.

    Attributes:
        rate: what the file has: the nearest that OpenCV can write, less than one in 1000 off.

    Raises:
        DataError: if the file cannot be opened.
    """

    def __init__(self, path: Path, rate: float, width: int, height: int, *, name: Path) -> None:
        _check_name(name)
        self._path, self._name = path, name
        self._written = 0
        self.rate = _writable_rate(rate)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(_for_ffmpeg(path), fourcc, self.rate, (width, height))
        if not self._writer.isOpened():
            raise DataError(f"{name}: OpenCV cannot write a {width}x{height} mp4 video at {rate:g} frames/s")

    def write(self, image: NDArray[np.uint8]) -> None:
        """Add an (H, W, 3) uint8 RGB frame.

        Raises:
            DiskFullError: when hardly any room is left.
        """
        if self._written % 30 == 0 and shutil.disk_usage(self._path.parent).free < _LEAST_FREE_BYTES:
            raise DiskFullError(f"{self._name}: cannot be written: no space left on the disk")
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._written += 1

    def close(self) -> None:
        """Finish the file and see whether it holds what was written: OpenCV's writer never says.

        Raises:
            DataError: if frames are missing.
        """
        self._writer.release()
        capture = cv2.VideoCapture(_for_ffmpeg(self._path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        # One more, where an interrupt came between a frame and its count.
        if count < self._written:
            raise DiskFullError(
                f"{self._name}: cannot be written: of {self._written} frames {max(count, 0)} arrived in the "
                "file; is the disk full?"
            )
