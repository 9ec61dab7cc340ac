"""What the demo plays: the built-in clip, a video or a bag, as ROS messages with their times."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from clip import CAMERA, RATE, hands_clip
from handos_ros.errors import DataError
from handos_ros.files.bags_reading import BagReader
from handos_ros.files.bags_topics import cameras, choose, colour_topics
from handos_ros.files.videos import VideoFile
from handos_ros.hands import Camera

IMAGE, INFO = "image_raw", "camera_info"
_FRAME = "demo_camera_optical_frame"


@dataclass
class Source:
    """A stream of pictures.

    Attributes:
        name: for people.
        compressed: whether the pictures are CompressedImage or Image.
        rate: pictures a second, about.
        messages: (seconds from the start, `IMAGE` or `INFO`, message), in order; may be read once.
        rectified: the pictures are rectified ones.
    """

    name: str
    compressed: bool
    rate: float
    messages: Iterator[tuple[float, str, Any]]
    rectified: bool = False


def open_source(path: Path | None) -> Source:
    """The source at `path`, or the built-in clip.

    Raises:
        DataError: if there is nothing at `path` that can be played; the message names it.
    """
    if path is None:
        # Drawn before, so as not to disturb the node.
        evenly = [(number / RATE, frame) for number, frame in enumerate(hands_clip())]
        return Source("the built-in clip", False, RATE, _timed(evenly, CAMERA))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; INPUT is a video or a ROS 2 bag")
    if path.is_dir() or path.name.endswith((".mcap", ".db3", ".zstd", ".bag")):
        return _open_bag(path)
    return _open_video(path)


def _open_video(path: Path) -> Source:
    # OpenCV reports what it cannot open on stderr, in its own words, besides.
    with _QuietOpenCV():
        try:
            video = VideoFile(path)
            first = video.read()
        except DataError:
            first = None
    if first is None:
        raise DataError(
            f"{path}: neither a video that OpenCV can read nor a ROS 2 bag (a folder, .mcap or .db3)"
        )

    def frames() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        frame = first
        while frame is not None:
            yield frame.time, frame.image
            frame = video.read()
        video.close()

    return Source(str(path), False, video.rate, _timed(frames(), None))


def _open_bag(path: Path) -> Source:
    reader = BagReader(path)
    found = colour_topics(reader)
    if not found and reader.damage:
        raise DataError(f"{path}: {'; '.join(reader.damage)}")
    if len(found) > 1:
        print(f"demo: {path} has pictures on {', '.join(found)}; playing {found[0]}", flush=True)
        camera = cameras(found[:1], reader.topics)[0]
    else:
        camera = choose(reader)[0][0]
    msgtype, count = reader.topics[camera.image]
    compressed = msgtype.endswith("/CompressedImage")
    types = {camera.image: (IMAGE, CompressedImage if compressed else Image)}
    if camera.info:
        types[camera.info] = (INFO, CameraInfo)

    def messages() -> Iterator[tuple[float, str, Any]]:
        start = None
        for message in reader.messages(list(types)):
            start = message.stamp if start is None else start
            name, message_type = types[message.topic.name]
            yield (message.stamp - start) / 1e9, name, deserialize_message(message.data, message_type)
        for line in reader.damage:
            print(f"demo: {path}: {line}", file=sys.stderr)

    stamps = [message.stamp for _, message in zip(range(50), reader.messages([camera.image]), strict=False)]
    if not stamps:
        raise DataError(f"{path}: no picture on {camera.image}")
    gaps = np.diff(stamps)
    rate = 1e9 / float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 25.0
    title = f"{path}, {camera.image}" + (f" ({count} pictures)" if count else "")
    return Source(title, compressed, rate, messages(), camera.rectified)


def _timed(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], camera: Camera | None
) -> Iterator[tuple[float, str, Any]]:
    for time, frame in frames:
        if camera is not None:
            yield time, INFO, _info_message(camera)
        yield time, IMAGE, _image_message(frame)


def _image_message(frame: NDArray[np.uint8]) -> Image:
    height, width = frame.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.frame_id = _FRAME
    data = array.array("B")
    data.frombytes(
        memoryview(np.ascontiguousarray(frame)).cast("B")
    )  # many times faster than the array itself
    message.data = data
    return message


def _info_message(camera: Camera) -> CameraInfo:
    message = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.frame_id = _FRAME
    message.k = camera.k.reshape(9)
    message.r = np.eye(3).reshape(9)
    message.p = np.hstack([camera.k, np.zeros((3, 1))]).reshape(12)
    return message


class _QuietOpenCV:
    """OpenCV's own log off for a while, where this OpenCV has the switch."""

    def __enter__(self) -> None:
        self._set: Callable[[int], Any] | None = getattr(cv2, "setLogLevel", None)
        if self._set:
            self._level = cv2.getLogLevel()
            self._set(0)

    def __exit__(self, *_: object) -> None:
        if self._set:
            self._set(self._level)
