"""Bags that were cut off or lost a part: what is whole is read, what is not is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bag_makers import STORAGES, default_messages, write_bag

from handos_ros.errors import DataError
from handos_ros.files.bags_reading import BagReader
from handos_ros.files.bags_salvage import salvage_sqlite

ALL = ["/cam/image_raw/compressed", "/cam/camera_info", "/mood"]


def storage_file(bag: Path) -> Path:
    return next(file for file in sorted(bag.iterdir()) if file.suffix != ".yaml")


def cut(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


def read(bag: Path) -> tuple[list[tuple[str, int, bytes]], list[str]]:
    reader = BagReader(bag)
    messages = [(message.topic.name, message.stamp, message.data) for message in reader.messages(ALL)]
    return messages, reader.damage


@pytest.mark.parametrize(
    ("storage", "compression"),
    STORAGES,
)
def test_a_bag_that_was_cut_off(tmp_path: Path, storage: str, compression: str) -> None:
    bag = write_bag(tmp_path / "bag", default_messages(400), storage=storage, compression=compression)
    whole, damage = read(bag)
    assert len(whole) == 1200 and not damage
    cut(storage_file(bag), 0.7)
    rest, damage = read(bag)
    assert 400 < len(rest) < 1100
    assert rest == whole[: len(rest)]
    assert any(storage_file(bag).name in line and "damaged" in line for line in damage)
    # The messages' definitions were saved too.
    reader = BagReader(bag)
    mood = next(message.topic for message in reader.messages(["/mood"]))
    assert mood.definition[0] == "ros2msg" and "int32[] numbers" in mood.definition[1]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_cut_off_anywhere_is_never_a_crash(tmp_path: Path, storage: str) -> None:
    bag = write_bag(tmp_path / "bag", default_messages(60), storage=storage)
    whole, _ = read(bag)
    file = storage_file(bag)
    data = file.read_bytes()
    for size in [0, 1, 8, 9, 40, 100, 4096, *range(5000, len(data), len(data) // 25), len(data) - 1]:
        if storage == "sqlite3":
            # SQLite fills half a page up with zeros and does not tell; disks lose whole blocks.
            size = size // 4096 * 4096
        file.write_bytes(data[:size])
        rest, damage = read(bag)
        assert rest == whole[: len(rest)]
        assert damage or rest == whole


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_flipped_bytes_are_never_a_crash(tmp_path: Path, storage: str) -> None:
    bag = write_bag(tmp_path / "bag", default_messages(20), storage=storage)
    file = storage_file(bag)
    data = file.read_bytes()
    for at in range(0, len(data), len(data) // 40):
        file.write_bytes(data[:at] + bytes(255 - b for b in data[at : at + 16]) + data[at + 16 :])
        read(bag)  # may or may not notice: most bytes are pictures


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "file", "message"])
def test_without_metadata(tmp_path: Path, storage: str, compression: str) -> None:
    """A recorder that was killed wrote none."""
    bag = write_bag(tmp_path / "bag", storage=storage, compression=compression, parts=3)
    whole, _ = read(bag)
    (bag / "metadata.yaml").unlink()
    rest, damage = read(bag)
    assert rest == whole and "metadata.yaml is missing" in damage[0]
    assert BagReader(bag).topics["/mood"] == ("my_robot/msg/Mood", 12)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_lone_file_compressed_by_message(tmp_path: Path, storage: str) -> None:
    """Only metadata.yaml would tell that it is."""
    messages = default_messages(200)
    bag = write_bag(tmp_path / "bag", messages, storage=storage, compression="message")
    whole, _ = read(bag)
    lone = storage_file(bag)
    assert read(lone) == (whole, []) and whole[0][2][:2] == b"\0\1"
    cut(lone, 0.7)
    rest, damage = read(lone)
    assert len(rest) > 100 and set(rest) <= set(whole) and "damaged" in damage[0]


def test_a_missing_part(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", parts=3)
    whole, _ = read(bag)
    (bag / "bag_1.mcap").unlink()
    rest, damage = read(bag)
    assert rest == whole[:12] + whole[24:] and damage == ["bag_1.mcap is missing"]


def test_a_damaged_part_does_not_stop_the_others(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", storage="sqlite3", parts=3)
    whole, _ = read(bag)
    (bag / "bag_1.db3").write_bytes(b"nothing of use")
    rest, damage = read(bag)
    assert rest == whole[:12] + whole[24:] and "bag_1.db3 is damaged" in damage[0]


@pytest.mark.parametrize("name", ["a#1", "a?b", "a%41b", "100%"])
@pytest.mark.parametrize("compression", ["none", "file"])
def test_names_that_a_uri_has_another_use_for(tmp_path: Path, name: str, compression: str) -> None:
    plain = write_bag(tmp_path / "bag", default_messages(60), storage="sqlite3", compression=compression)
    whole, _ = read(plain)
    bag = plain.rename(tmp_path / name)
    assert read(bag) == (whole, [])
    (bag / "metadata.yaml").unlink()
    assert BagReader(bag).topics["/mood"] == ("my_robot/msg/Mood", 60)
    cut(storage_file(bag), 0.8)
    if compression == "none":
        assert len(list(salvage_sqlite(storage_file(bag)))) > 100
    rest, damage = read(bag)
    assert len(rest) > 60 and rest == whole[: len(rest)] and "damaged" in damage[1]
    assert sorted(path.name for path in bag.iterdir()) == [storage_file(bag).name]


def test_a_lone_file_is_a_bag(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    shutil.move(storage_file(bag), tmp_path / "lone.mcap")
    assert read(tmp_path / "lone.mcap")[0] == read(write_bag(tmp_path / "other"))[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere", None, "no such bag"),
        ("old.bag", b"#ROSBAG V2.0", "ROS 1 bag.*rosbags-convert"),
        ("notes.txt", b"hello", "no bag: a bag is a folder"),
        ("empty/", None, "holds no .mcap and no .db3"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        BagReader(path)
    assert str(path) in str(error.value)


def test_metadata_that_is_no_yaml(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    (bag / "metadata.yaml").write_text("a: [")
    rest, damage = read(bag)
    assert len(rest) == 36 and "metadata.yaml cannot be read" in damage[0]
