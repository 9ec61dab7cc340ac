"""Pictures that are whole, and pictures that are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.errors import DataError, PictureError
from handos_ros.files.pictures import find_pictures, read_picture, write_picture

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8), (0, 0), 3)


def jpeg(progressive: bool = False) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    return cv2.imencode(".jpg", IMAGE[..., ::-1], options)[1].tobytes()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_off_is_told_from_a_whole_one(tmp_path: Path, progressive: bool) -> None:
    path, data = tmp_path / "a.jpg", jpeg(progressive)
    path.write_bytes(data)
    assert np.abs(read_picture(path).astype(int) - IMAGE).mean() < 3
    for length in (len(data) - 2, len(data) * 9 // 10, len(data) // 2, 300, 3):
        path.write_bytes(data[:length])
        with pytest.raises(PictureError, match=r"a\.jpg: the picture was cut off"):
            read_picture(path)


def test_an_end_marker_of_something_else_does_not_count(tmp_path: Path) -> None:
    path, data = tmp_path / "a.jpg", jpeg()
    thumbnail = b"\xff\xe1" + (len(data[:5000]) + 4).to_bytes(2, "big") + data[:5000] + b"\xff\xd9"
    with_thumbnail = data[:2] + thumbnail + data[2:]
    path.write_bytes(with_thumbnail)
    assert read_picture(path).shape == IMAGE.shape
    path.write_bytes(with_thumbnail[: len(with_thumbnail) - 2000])
    with pytest.raises(PictureError, match="cut off"):
        read_picture(path)
    # A phone's motion picture: a film of any length behind the end.
    path.write_bytes(data + bytes(range(256)) * 1000)
    assert read_picture(path).shape == IMAGE.shape


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.full((8, 8, 3), (250, 10, 20), np.uint8)
    write_picture(tmp_path / "red.png", red)
    assert (read_picture(tmp_path / "red.png") == red).all()
    with pytest.raises(DataError, match="already"):
        write_picture(tmp_path / "red.png", red)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"gone\.png: cannot be read: No such file"):
        read_picture(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match=r"folder\.png: cannot be read: Is a directory"):
        read_picture(tmp_path / "folder.png")


def test_each_picture_once_and_each_with_a_stem_of_its_own(tmp_path: Path) -> None:
    names = ["b.png", "a.JPG", "x/a.jpg", "x/y/a.jpg", "z/a.b.png", "z/a.b.jpg", "z/readme.txt", "q/x/a.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    words = [str(tmp_path), str(tmp_path / "x"), str(tmp_path / "b.png"), str(tmp_path / "**/a.*")]
    pictures, errors = find_pictures(words)
    assert not errors
    assert len(pictures) == 7 == len({picture.stem for picture in pictures})
    stems = {str(picture.path.relative_to(tmp_path)): str(picture.stem) for picture in pictures}
    assert stems["b.png"] == "b" and stems["a.JPG"] == "a" and stems["x/y/a.jpg"] == "x/y/a"
    assert (stems["z/a.b.png"], stems["z/a.b.jpg"]) == ("z/a.b.png", "z/a.b.jpg")
    again, _ = find_pictures(words)
    assert again == pictures


def test_names_with_brackets_are_files_first(tmp_path: Path) -> None:
    (tmp_path / "shot[1].png").touch()
    pictures, errors = find_pictures([str(tmp_path / "shot[1].png")])
    assert [picture.path.name for picture in pictures] == ["shot[1].png"] and not errors


def test_words_that_mean_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pictures, errors = find_pictures([str(tmp_path / name) for name in ("empty", "*.png", "gone.png")])
    assert not pictures
    assert [str(error).rsplit(": ", 1)[1] for error in errors] == [
        "the folder holds no pictures", "the pattern fits no file", "no such file or folder",
    ]  # fmt: skip
