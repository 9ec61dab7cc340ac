"""Pictures from files: found, told apart, read and written. What is cut off: see `test_jpeg`."""

from __future__ import annotations

import os
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


def found_in(folder: Path, output: Path) -> list[str]:
    """Pictures below `folder`, by their names from there, where results go to `output`."""
    pictures, errors = find_pictures([str(folder)], leave_out=output)
    assert not errors
    return sorted(os.path.relpath(picture.path, folder) for picture in pictures)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_results_go_to_a_folder_above_the_searched_one(tmp_path: Path) -> None:
    # The last but one is an overlay of an earlier run; the one before it is a picture that is called so.
    touch(tmp_path, "rgb/a.png", "rgb/x/b.png", "rgb/hill_overlay.jpg", "rgb/c_overlay.jpg", "rgb/c.json")
    for output in (tmp_path, tmp_path.parent):
        assert found_in(tmp_path / "rgb", output) == ["a.png", "hill_overlay.jpg", "x/b.png"]
    # Elsewhere, all are pictures; so they are where the other folder's name merely begins alike.
    for output in (tmp_path / "out", tmp_path / "rg"):
        assert len(found_in(tmp_path / "rgb", output)) == 4


def test_results_go_into_the_searched_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_overlay.jpg", "a.json", "out/a_overlay.jpg", "out/b.jpg")
    assert found_in(tmp_path, tmp_path) == ["a.png", "out/b.jpg"]
    assert found_in(tmp_path, tmp_path / "out") == ["a.png", "a_overlay.jpg"]
    # Also where it is there by a link.
    touch(tmp_path, "in/c.png")
    (tmp_path / "in/there").symlink_to(tmp_path / "out")
    assert found_in(tmp_path / "in", tmp_path / "out") == ["c.png"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/b/x.png", "else/y.png", "else/deep/z.png")
    (tmp_path / "in/a").symlink_to("b")  # another name of what is there
    (tmp_path / "in/far").symlink_to(tmp_path / "else")
    (tmp_path / "else/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/circle").symlink_to(".")
    assert found_in(tmp_path / "in", tmp_path / "out") == ["b/x.png", "far/deep/z.png", "far/y.png"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    # Root may read all that there is, but not even root a path of more than 4096 characters.
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):
        os.mkdir("x" * 250, dir_fd=here)
        here, before = os.open("x" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(before)
    os.close(here)
    pictures, errors = find_pictures([str(tmp_path)])
    assert [picture.path.name for picture in pictures] == ["a.png"]
    (error,) = errors
    assert "/xxx" in str(error) and str(error).endswith(": cannot be read: File name too long")
