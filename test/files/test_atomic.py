"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from handos_ros.errors import DataError
from handos_ros.files.atomic import DiskFullError, refuse_existing, whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep/down/a.txt"
    with whole(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.suffix == ".txt" and partial.parent == path.parent
    assert path.read_text() == "half" and list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "inside").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old", ["file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_what_is_there_is_kept_or_replaced(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "out"

    def make(kind: str, place: Path, text: str) -> None:
        if kind == "folder":
            place.mkdir()
            (place / "x").write_text(text)
        else:
            place.write_text(text)

    def text(kind: str) -> str:
        return (path / "x").read_text() if kind == "folder" else path.read_text()

    make(old, path, "old")
    with pytest.raises(DataError, match=r"out is there already.*--overwrite"), whole(path):
        pytest.fail("not even begun")
    with pytest.raises(ZeroDivisionError), whole(path, overwrite=True):
        raise ZeroDivisionError
    assert text(old) == "old"
    with whole(path, overwrite=True) as partial:
        make(new, partial, "new")
        assert text(old) == "old"
    assert text(new) == "new" and list(tmp_path.iterdir()) == [path]


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(DataError, match="there already"), whole(path) as partial:
        partial.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"


def test_what_a_killed_process_left_is_not_built_on(tmp_path: Path) -> None:
    with whole(tmp_path / "out") as partial:
        partial.touch()
    (tmp_path / "out").unlink()
    partial.mkdir()
    (partial / "stale").touch()
    with whole(tmp_path / "out") as again:
        assert again == partial
        again.mkdir()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_dangling_link_is_something_too(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    with pytest.raises(DataError):
        refuse_existing(tmp_path / "a")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EIO, DataError)])
def test_errors_name_the_file_and_the_reason(tmp_path: Path, number: int, kind: type[DataError]) -> None:
    import os

    with pytest.raises(DataError) as error, whole(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))
    assert type(error.value) is kind
    assert str(error.value) == f"{tmp_path / 'a.txt'}: cannot be written: {os.strerror(number)}"
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_files_are_not_taken_for_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a.txt"):
        (tmp_path / "input.txt").read_text()


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="cannot be written"), whole(tmp_path / "a" / "b.txt"):
        pytest.fail("not even begun")
