"""A recorded bag as one stream of messages, however it is stored and whatever is broken about it.

A bag is a folder of mcap or sqlite3 files with a metadata.yaml, or one such file. Files are opened one
after the other, so that neither memory nor disk must hold more than one of them unpacked.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

import yaml
from rosbags.interfaces import Connection, MessageDefinitionFormat, Qos
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from handos_ros.errors import DataError
from handos_ros.files.bags_salvage import Salvaged, mcap_chunk_compression, salvage_mcap, salvage_sqlite

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STORAGE = {".mcap": "mcap", ".db3": "sqlite3"}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
URI_SIGNS = re.compile("[#?]|%[0-9A-Fa-f]{2}")
"""What SQLite takes for something else in a path that rosbags gives it as part of a URI, unquoted."""
_UNPACKED_AT_ONCE = 16 << 20
_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


@dataclass(frozen=True, eq=False)
class Topic:
    """A topic as one of the bag's files describes it.

    Attributes:
        name, msgtype: such as `/camera/image_raw`, `sensor_msgs/msg/Image`.
        definition: (format, text), format `ros2msg` or `ros2idl`; ('', '') where neither the bag nor
            rosbags knows the type.
        qos: the profiles that its publishers offered.
    """

    name: str
    msgtype: str
    definition: tuple[str, str] = ("", "")
    qos: tuple[Qos, ...] = ()


class Message(NamedTuple):
    """One recorded message: its topic, the time it was recorded (ns), its CDR bytes."""

    topic: Topic
    stamp: int
    data: bytes


@dataclass
class BagReader:
    """Reads a bag.

    Attributes:
        path: the bag's folder or file.
        damage: what was found broken while reading, one line each. Reading goes on with what is whole.

    Raises:
        DataError: if there is no bag at `path`, or none that can be read.
    """

    path: Path
    damage: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        with _naming(self.path):
            self._metadata = self._read_metadata()
            self.files = self._list_files()
        self._packed = str(self._metadata.get("compression_mode") or "").lower() == "message"
        if not self.files:
            raise DataError(f"{self.path}: no bag: it holds no .mcap and no .db3 file")

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The messages of `topics` in the order in which they were recorded.

        The order is that of the files, and by time within each.
        """
        wanted = frozenset(topics)
        for file in self.files:
            yield from self._messages_of(file, wanted)

    def first_of(self, topics: Collection[str]) -> dict[str, Message]:
        """The first message of each topic, where there is one that can be read."""
        reader, found = BagReader(self.path), dict[str, Message]()
        for file in reader.files:
            missing = [topic for topic in topics if topic not in found]
            if not missing:
                break
            # A file that is compressed as a whole takes its time to unpack: once for all topics.
            with _naming(file), _unpacked(file) as plain:
                for topic in missing:
                    message = next(reader._messages_in(file, plain.path, frozenset([topic])), None)
                    if message is not None:
                        found[topic] = message
        return found

    @cached_property
    def topics(self) -> dict[str, tuple[str, int | None]]:
        """Name -> type and number of messages, None where nobody counted, of every topic in the bag."""
        found: dict[str, tuple[str, int | None]] = {}
        with suppress(KeyError, TypeError, ValueError):
            for entry in self._metadata.get("topics_with_message_count", ()):
                topic = entry["topic_metadata"]
                count = (found.get(topic["name"]) or ("", 0))[1] or 0
                found[topic["name"]] = (topic["type"], count + int(entry["message_count"]))
        return found or self._count()

    @property
    def storage(self) -> str:
        """`mcap` or `sqlite3`."""
        return _STORAGE[_storage_suffix(self.files[0])]

    @property
    def compression(self) -> str:
        """`none`, `file`, `message` or `storage`: where the bag is compressed."""
        mode = str(self._metadata.get("compression_mode") or "none").lower()
        if self.files[0].suffix == ".zstd":
            return "file"
        with _naming(self.files[0]):
            if mode == "none" and self.storage == "mcap" and mcap_chunk_compression(self.files[0]):
                return "storage"
        return mode

    def fingerprint(self) -> list[list[Any]]:
        """The bag's files and their sizes: what must be the same for a run to go on where it stopped."""
        with _naming(self.path):
            return [[file.name, file.stat().st_size] for file in self.files]

    def _read_metadata(self) -> dict[str, Any]:
        if not self.path.exists():
            raise DataError(f"{self.path}: no such bag")
        if self.path.suffix == ".bag":
            raise DataError(
                f"{self.path}: a ROS 1 bag; turn it into a ROS 2 bag first: "
                f"rosbags-convert --src {self.path.name} --dst {self.path.stem}"
            )
        if self.path.is_file():
            if not self.path.name.endswith(_SUFFIXES):
                raise DataError(f"{self.path}: no bag: a bag is a folder, or a .mcap or .db3 file")
            return {}
        file = self.path / "metadata.yaml"
        try:
            metadata = yaml.safe_load(file.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
            form = metadata.get("compression_format") or "zstd"
        except FileNotFoundError:
            self._note("metadata.yaml is missing: the recording did not end well")
            return {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            self._note(f"metadata.yaml cannot be read ({reason})")
            return {}
        if form != "zstd":
            raise DataError(f"{self.path}: compressed with {form!r}; only zstd can be read")
        return metadata

    def _list_files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        named = self._metadata.get("relative_file_paths")
        if not named:
            found = [file for file in self.path.iterdir() if file.name.endswith(_SUFFIXES)]
            return sorted(found, key=_natural)
        files = [self.path / PurePath(name).name for name in named]
        for file in files:
            if not file.exists():
                self._note(f"{file.name} is missing")
        return [file for file in files if file.exists()]

    def _messages_of(self, file: Path, wanted: frozenset[str]) -> Iterator[Message]:
        """One file's messages; what is broken is noted, and reading ends or goes around it."""
        with _naming(file), _unpacked(file) as plain:
            if plain.complaint:
                self._note(f"{file.name}: {plain.complaint}")
            yield from self._messages_in(file, plain.path, wanted)

    def _messages_in(self, file: Path, plain: Path, wanted: frozenset[str]) -> Iterator[Message]:
        """Those of a file that is unpacked to `plain`."""
        whole = self._messages_of_whole(plain, wanted)
        try:
            opened = next(whole, None)
        except _Unreadable as error:
            yield from self._messages_of_broken(file, plain, wanted, str(error))
            return
        try:
            if opened is not None:
                yield opened
                yield from whole
        except _Unreadable as error:
            self._note(f"{file.name} is damaged: {error}; the rest of it was left out")

    def _messages_of_whole(self, file: Path, wanted: frozenset[str]) -> Iterator[Message]:
        """As rosbags reads them; `_Unreadable` where it cannot."""
        try:
            with Reader(file) as reader:
                topics = {c.id: _topic(c) for c in reader.connections if c.topic in wanted}
                connections = [c for c in reader.connections if c.id in topics]
                if connections:
                    for connection, stamp, data in reader.messages(connections):
                        yield Message(topics[connection.id], stamp, self._plain(data))
        except (GeneratorExit, MemoryError, PermissionError):
            raise
        except Exception as error:  # rosbags lets through whatever a damaged file makes Python raise
            raise _Unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__) from None

    def _messages_of_broken(
        self, file: Path, plain: Path, wanted: frozenset[str], reason: str
    ) -> Iterator[Message]:
        salvage = salvage_mcap if _storage_suffix(plain) == ".mcap" else salvage_sqlite
        topics: dict[tuple[str, str], Topic] = {}
        count = 0
        for found in salvage(plain):
            if found.topic not in wanted:
                continue
            count += 1
            key = (found.topic, found.msgtype)
            if key not in topics:
                topics[key] = _salvaged_topic(found)
            try:
                data = self._plain(found.data)
            except zstd.ZstdError:
                continue
            yield Message(topics[key], found.stamp, data)
        self._note(f"{file.name} is damaged ({reason}); {count} messages of it could be read")

    def _plain(self, data: bytes) -> bytes:
        """A message out of its own compression, if it has one."""
        if not self._metadata:
            self._packed |= data[:4] == _ZSTD_MAGIC  # no CDR message begins like that
        return zstd.decompress(data) if self._packed else data

    def _count(self) -> dict[str, tuple[str, int | None]]:
        """Topics and counts from the files themselves, where there is no metadata."""
        counts: dict[str, tuple[str, int | None]] = {}
        for file in self.files:
            with _naming(file), _unpacked(file) as plain:
                try:
                    with Reader(plain.path) as reader:
                        for c in reader.connections:
                            before = counts.get(c.topic, ("", 0))[1] or 0
                            counts[c.topic] = (c.msgtype, before + c.msgcount)
                except Exception:  # as above: a damaged file makes rosbags raise anything
                    salvage = salvage_mcap if _storage_suffix(plain.path) == ".mcap" else salvage_sqlite
                    for found in salvage(plain.path):
                        before = counts.get(found.topic, ("", 0))[1] or 0
                        counts[found.topic] = (found.msgtype, before + 1)
        return counts

    def _note(self, line: str) -> None:
        if line not in self.damage:
            self.damage.append(line)


class _Unreadable(Exception):
    """rosbags could not go on."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system's refusals, as an error that names the file."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise DataError(f"{where}: cannot be read or unpacked: {error.strerror or error}") from None


class _Plain(NamedTuple):
    path: Path
    complaint: str = ""


@contextmanager
def _unpacked(file: Path) -> Iterator[_Plain]:
    """The storage file itself: `file`, for a compressed one a temporary copy.

    A link where rosbags, which gives SQLite paths as parts of URIs, would open something else.
    """
    if file.suffix == ".db3" and URI_SIGNS.search(str(file)):
        with tempfile.TemporaryDirectory(prefix="handos_bag_") as folder:
            link = Path(folder, "bag.db3")
            link.symlink_to(file.absolute())
            yield _Plain(link)
        return
    if file.suffix != ".zstd":
        yield _Plain(file)
        return
    with tempfile.TemporaryDirectory(prefix="handos_bag_") as folder:
        plain, complaint = Path(folder, file.stem), ""
        with file.open("rb") as packed, plain.open("wb") as out:
            try:
                _unpack(packed, out)
            except (zstd.ZstdError, EOFError) as error:
                complaint = f"its compression is damaged: {error}"
        yield _Plain(plain, complaint)


def _unpack(packed: BinaryIO, out: BinaryIO) -> None:
    """Unpack zstd frames as far as they go; an error at the end then says what is wrong with the rest."""
    decompressor = zstd.ZstdDecompressor()
    while block := packed.read(1 << 20):
        while block:
            if decompressor.eof:
                decompressor = zstd.ZstdDecompressor()
            out.write(decompressor.decompress(block, _UNPACKED_AT_ONCE))
            while not decompressor.eof and not decompressor.needs_input:
                out.write(decompressor.decompress(b"", _UNPACKED_AT_ONCE))
            block = decompressor.unused_data
    if not decompressor.eof:
        raise EOFError("its end is missing")


def definition_and_digest(topic: Topic) -> tuple[str, str]:
    """A topic's message definition, and the hash of it that ROS calls RIHS01.

    Raises:
        DataError: if the bag does not say what the messages are made of.
    """
    return _definition_and_digest(topic.msgtype, topic.definition)


@cache
def _definition_and_digest(msgtype: str, definition: tuple[str, str]) -> tuple[str, str]:
    form, text = definition
    try:
        if not form:
            store = get_typestore(Stores.ROS2_JAZZY)
            return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)
        types: dict[str, Any] = {}
        separator = "=" * 80 + "\n"
        if form == "ros2msg":
            types.update(get_types_from_msg(text, msgtype))
        elif text.startswith(f"{separator}IDL: "):
            for part in text.split(separator)[1:]:
                types.update(get_types_from_idl(part.split("\n", 1)[1]))
        else:
            types.update(get_types_from_idl(text))
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return text, store.hash_rihs01(msgtype)
    except Exception as error:  # rosbags' parser raises anything for a text that is no definition
        raise DataError(f"the bag has no usable definition of {msgtype} ({error})") from None


def _topic(connection: Connection) -> Topic:
    form = {
        MessageDefinitionFormat.MSG: "ros2msg",
        MessageDefinitionFormat.IDL: "ros2idl",
        MessageDefinitionFormat.NONE: "",
    }[connection.msgdef.format]
    text = connection.msgdef.data if form else ""
    return Topic(
        connection.topic,
        connection.msgtype,
        (form, text) if text else ("", ""),
        tuple(getattr(connection.ext, "offered_qos_profiles", ())),
    )


def _salvaged_topic(found: Salvaged) -> Topic:
    qos: tuple[Qos, ...] = ()
    with suppress(Exception):  # the profiles of a damaged file are not worth stopping for
        qos = tuple(parse_qos(found.qos))
    form, text = found.definition
    form = {"omgidl": "ros2idl"}.get(form, form)
    return Topic(found.topic, found.msgtype, (form, text) if form and text else ("", ""), qos)


def _storage_suffix(file: Path) -> str:
    return PurePath(file.name.removesuffix(".zstd")).suffix


def _natural(file: Path) -> list[Any]:
    """bag_2 before bag_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
