"""How long an mp4 file plays. What is made of it: see `test_video`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.files.edit_list import edited_seconds


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(25):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return tmp_path / "a.mp4"


def test_a_clip_that_was_not_trimmed_plays_as_long_as_its_frames(clip: Path) -> None:
    assert edited_seconds(clip) == pytest.approx(2.5)


def test_what_tells_nothing(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    index = data.index(b"moov")
    for name, content in {
        "gone": None,
        "empty": b"",
        "words": b"These are words, not a video.",
        "cut before its index": data[: index - 10],
        "without an edit list": data.replace(b"elst", b"free"),
        "of sizes that are none": data[: index - 4] + b"\0\0\0\x05" + data[index:],
    }.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert edited_seconds(tmp_path / name) is None, name


def test_damage_anywhere_in_the_index_raises_nothing(clip: Path) -> None:
    data = clip.read_bytes()
    index = data.index(b"moov") - 4
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(index, len(data), 5):
            damaged[place] = random.integers(256)
        clip.write_bytes(damaged[: random.integers(index, len(data) + 1)])
        seconds = edited_seconds(clip)
        assert seconds is None or seconds > 0
