"""JPEGs cut off or with something behind their end: a file and a message say the same of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from handos_ros.errors import PictureError
from handos_ros.files.image_messages import decode_image
from handos_ros.files.jpeg import is_cut_off_jpeg
from handos_ros.files.pictures import read_picture

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8), (0, 0), 3)

Reader = Callable[[bytes], np.ndarray]


@pytest.fixture(params=["file", "message"])
def read(request, tmp_path: Path) -> Reader:
    def from_file(data: bytes) -> np.ndarray:
        (tmp_path / "a.jpg").write_bytes(data)
        return read_picture(tmp_path / "a.jpg")

    def from_message(data: bytes) -> np.ndarray:
        return decode_image(SimpleNamespace(format="jpeg", data=data))

    return from_file if request.param == "file" else from_message


def jpeg(kind: str = "plain") -> bytes:
    options = {
        "plain": [],
        "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
    }[kind]
    return cv2.imencode(".jpg", IMAGE[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1].tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """The picture with a smaller one, whole, in its first segment, as cameras write it."""
    small = cv2.imencode(".jpg", IMAGE[::4, ::4, ::-1])[1].tobytes()
    return data[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]


@pytest.mark.parametrize("kind", ["plain", "progressive", "restarts"])
def test_one_that_was_cut_off_is_told_from_a_whole_one(read: Reader, kind: str) -> None:
    data = jpeg(kind)
    assert np.abs(read(data).astype(int) - IMAGE).mean() < 3
    for length in (len(data) - 1, len(data) - 2, len(data) * 9 // 10, len(data) // 2, 300, 3, 2):
        with pytest.raises(PictureError, match="cut off"):
            read(data[:length])


@pytest.mark.parametrize(
    "behind",
    [b"\0", bytes(5000), bytes(100_000), bytes(range(256)) * 1000, b"\xff" * 70_000, jpeg()],
    ids=["a byte", "zeros", "many zeros", "a film", "ones", "another picture"],
)
def test_what_stands_behind_the_end_does_no_harm(read: Reader, behind: bytes) -> None:
    assert np.array_equal(read(jpeg() + behind), read(jpeg()))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(read: Reader) -> None:
    data = with_thumbnail(jpeg())
    assert read(data).shape == IMAGE.shape
    # Also where the thumbnail's end is close to the cut, and where the cut goes through the thumbnail.
    first = len(data) - len(jpeg()) + 2
    for length in (len(data) - 2000, first + 500, first, first - 50):
        with pytest.raises(PictureError, match="cut off"):
            read(data[:length])


def test_markers_may_be_filled_up(read: Reader) -> None:
    data = jpeg()
    assert read(data[:-2] + b"\xff\xff\xff\xd9").shape == IMAGE.shape


def test_what_is_no_jpeg_is_not_cut_off() -> None:
    for data in (b"", b"\xff", b"\x89PNG", cv2.imencode(".png", IMAGE)[1].tobytes()[:100]):
        assert not is_cut_off_jpeg(data)
