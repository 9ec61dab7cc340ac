"""Bags for tests, written with rosbags alone: coloured discs before one or more cameras, and other topics."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from handos_ros.hands import LEFT, RIGHT
from standin import draw_disc

STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register(get_types_from_msg("string text\nint32[] numbers\n", "my_robot/msg/Mood"))
T = STORE.types

START, STEP = 1_700_000_000_000_000_000, 40_000_000
WIDTH, HEIGHT = 320, 240
STORAGES = (
    ("mcap", "none"),
    ("mcap", "storage"),
    ("mcap", "message"),
    ("mcap", "file"),
    ("sqlite3", "none"),
    ("sqlite3", "message"),
    ("sqlite3", "file"),
)
"""Every storage that a bag may have, and the compression that rosbags writes with it."""


def scene(number: int) -> np.ndarray:
    """The picture with this number: a right hand that wanders, a left one in every third picture or so."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    draw_disc(picture, (60 + 4 * (number % 40), 100), 60, RIGHT)
    if number % 5 < 3:
        draw_disc(picture, (230, 150 - 2 * (number % 20)), 50, LEFT)
    return picture


def header(stamp: int, frame: str = "camera_optical"):
    time = T["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    return T["std_msgs/msg/Header"](time, frame)


def jpeg(number: int, stamp: int, *, data: np.ndarray | None = None):
    """CompressedImage."""
    if data is None:
        data = cv2.imencode(".jpg", scene(number)[..., ::-1])[1].reshape(-1)
    return T["sensor_msgs/msg/CompressedImage"](header(stamp), "jpeg", np.asarray(data, np.uint8))


def raw(number: int, stamp: int, encoding: str = "bgr8"):
    """Image."""
    picture = scene(number)
    if encoding == "16UC1":
        picture = picture[..., :1].astype(np.uint16)
    data = np.ascontiguousarray(picture[..., ::-1])
    step = data.nbytes // HEIGHT
    return T["sensor_msgs/msg/Image"](
        header(stamp), HEIGHT, WIDTH, encoding, 0, step, data.reshape(-1).view(np.uint8)
    )


def camera_info(stamp: int, focal: float = 300.0):
    """CameraInfo; a focal length of 0 is an uncalibrated camera."""
    k = np.array([focal, 0, 160, 0, focal, 120, 0, 0, 1.0]) if focal else np.zeros(9)
    p = np.zeros(12)
    roi = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return T["sensor_msgs/msg/CameraInfo"](
        header(stamp), HEIGHT, WIDTH, "plumb_bob", np.zeros(5), k, np.eye(3).reshape(-1), p, 0, 0, roi
    )


def default_messages(pictures: int = 12, first: int = 0) -> list[tuple[str, int, object]]:
    """(topic, time, message): one camera with its camera_info, and a topic of a type of our own."""
    messages: list[tuple[str, int, object]] = []
    for i in range(first, first + pictures):
        stamp = START + i * STEP
        messages.append(("/cam/image_raw/compressed", stamp + 3_000_000, jpeg(i, stamp)))
        messages.append(("/cam/camera_info", stamp + 3_000_100, camera_info(stamp)))
        mood = T["my_robot/msg/Mood"](f"mood {i}", np.arange(i, dtype=np.int32))
        messages.append(("/mood", stamp + 10_000_000, mood))
    return messages


def write_bag(
    path: Path,
    messages: list[tuple[str, int, object]] | None = None,
    *,
    storage: str = "mcap",
    compression: str = "none",
    parts: int = 1,
    silent: dict[str, str] | None = None,
) -> Path:
    """Write messages into a bag of so many files; `silent` are topics, and their types, without any."""
    messages = default_messages() if messages is None else messages
    size = -(-len(messages) // parts)
    for part in range(parts):
        folder = path if parts == 1 else path.with_name(f"{path.name}_{part}")
        writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        with writer:
            connections = {}
            for topic, kind in (silent or {}).items():
                writer.add_connection(topic, kind, typestore=STORE)
            for topic, stamp, message in messages[part * size : (part + 1) * size]:
                kind = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))
    if parts > 1:
        _join(path, parts)
    return path


def _join(path: Path, parts: int) -> None:
    """Make one bag of several files of `path_0`, `path_1` and so on, as `ros2 bag record` splits them."""
    path.mkdir()
    whole: dict = {}
    for part in range(parts):
        folder = path.with_name(f"{path.name}_{part}")
        info = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        for name in info["relative_file_paths"]:
            shutil.move(folder / name, path / name)
        if not whole:
            whole = info
        else:
            whole["relative_file_paths"] += info["relative_file_paths"]
            whole["files"] += info["files"]
            whole["message_count"] += info["message_count"]
            counts = {t["topic_metadata"]["name"]: t for t in whole["topics_with_message_count"]}
            for topic in info["topics_with_message_count"]:
                name = topic["topic_metadata"]["name"]
                if name in counts:
                    counts[name]["message_count"] += topic["message_count"]
                else:
                    whole["topics_with_message_count"].append(topic)
        shutil.rmtree(folder)
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": whole}))
