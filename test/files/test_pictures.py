"""Pictures from files: found, told apart, read and written. What is cut off: see `test_jpeg`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handos_ros.errors import DataError, PictureError
from handos_ros.files.pictures import find_pictures, read_picture, write_picture


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
