"""What can still be read of a bag file that was cut off: mcap without its index, sqlite3 without its end.

rosbags reads whole files. These readers go from the start to the first thing that is broken.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_Schemas = dict[int, tuple[str, str, str]]  # id -> name, format, text
_Channels = dict[int, tuple[int, str, str]]  # id -> schema's id, topic, QoS profiles

_MAGIC = b"\x89MCAP0\r\n"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 3, 4, 5, 6, 15


class Salvaged(NamedTuple):
    """A message of a damaged file. `definition` is (format, text), format `ros2msg`, `ros2idl` or ''."""

    topic: str
    msgtype: str
    definition: tuple[str, str]
    qos: str
    stamp: int
    data: bytes


def salvage_mcap(path: Path) -> Iterator[Salvaged]:
    """Messages of an mcap file in its own order, until it ends or breaks; it never raises for damage.

    Messages of one chunk come by time, as from a whole file.
    """
    schemas: _Schemas = {}
    channels: _Channels = {}
    with path.open("rb") as file:
        if file.read(8) != _MAGIC:
            return
        for code, body in _records(file):
            if code == _CHUNK:
                records = _split(_chunk(body))
                found = [m for c, b in records if (m := _take(c, b, schemas, channels)) is not None]
                yield from sorted(found, key=lambda message: message.stamp)
            elif code == _DATA_END:
                return
            else:
                message = _take(code, body, schemas, channels)
                if message is not None:
                    yield message


def mcap_chunk_compression(path: Path) -> str:
    """How the first chunk of an mcap file is compressed: '', `lz4` or `zstd`."""
    with path.open("rb") as file:
        if file.read(8) != _MAGIC:
            return ""
        for code, body in _records(file, limit=4096):
            if code == _CHUNK:
                return _string(body, 28)[0]
    return ""


def salvage_sqlite(path: Path) -> Iterator[Salvaged]:
    """Messages of a sqlite3 bag file in the order they were recorded, until the first broken page."""
    with path.open("rb"):  # the system's own words, where it refuses: SQLite's say little
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            yield from _rows(connection)
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter from SQLite's own message
        return


def _rows(connection: sqlite3.Connection) -> Iterator[Salvaged]:
    connection.text_factory = lambda text: text.decode(errors="replace")
    # Otherwise SQLite refuses the whole of a file that is shorter than its first page says.
    connection.execute("PRAGMA writable_schema = ON")
    columns = {row[1] for row in connection.execute("PRAGMA table_info(topics)")}
    qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
    topics = {row[0]: row[1:] for row in connection.execute(f"SELECT id, name, type, {qos} FROM topics")}
    definitions: dict[str, tuple[str, str]] = {}
    if connection.execute("PRAGMA table_info(message_definitions)").fetchall():
        for name, form, text in connection.execute(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        ):
            definitions[name] = (form, text)
    # By row: the index over time may be what is missing.
    for topic, stamp, data in connection.execute(
        "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id"
    ):
        if topic in topics:
            name, msgtype, profiles = topics[topic]
            yield Salvaged(name, msgtype, definitions.get(msgtype, ("", "")), profiles, stamp, data)


def _records(file: BinaryIO, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The records from here on, of each at most `limit` bytes; a last chunk may lack its end."""
    while len(head := file.read(9)) == 9:
        code, size = struct.unpack("<BQ", head)
        wanted = size if limit is None else min(size, limit)
        # A broken length must not ask for the whole memory.
        body = file.read(min(wanted, 1 << 31))
        if len(body) < wanted:
            if code == _CHUNK:
                yield code, body
            return
        yield code, body
        file.seek(size - wanted, 1)


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records in a chunk."""
    at = 0
    while at + 9 <= len(data):
        code, size = struct.unpack_from("<BQ", data, at)
        if at + 9 + size > len(data):
            return
        yield code, data[at + 9 : at + 9 + size]
        at += 9 + size


def _chunk(body: bytes) -> bytes:
    """A chunk unpacked, as far as that goes."""
    try:
        compression, at = _string(body, 28)
        data = body[at + 8 :]
        # Streams, which give what they have also where the end is missing.
        if compression == "zstd":
            return zstd.ZstdDecompressor().decompress(data)
        if compression == "lz4":
            return LZ4FrameDecompressor().decompress(data)
        return b"" if compression else data
    except (RuntimeError, EOFError, UnicodeDecodeError, struct.error, zstd.ZstdError):
        return b""


def _take(
    code: int,
    body: bytes,
    schemas: dict[int, tuple[str, str, str]],
    channels: dict[int, tuple[int, str, str]],
) -> Salvaged | None:
    """Note a schema or channel; return a message."""
    try:
        if code == _SCHEMA:
            (number,) = struct.unpack_from("<H", body)
            name, at = _string(body, 2)
            form, at = _string(body, at)
            schemas[number] = (name, form, _string(body, at)[0])
        elif code == _CHANNEL:
            number, schema = struct.unpack_from("<HH", body)
            topic, at = _string(body, 4)
            _, at = _string(body, at)
            (size,) = struct.unpack_from("<I", body, at)
            at, end, qos = at + 4, at + 4 + size, ""
            while at < end:
                key, at = _string(body, at)
                value, at = _string(body, at)
                qos = value if key == "offered_qos_profiles" else qos
            channels[number] = (schema, topic, qos)
        elif code == _MESSAGE:
            number, _, stamp = struct.unpack_from("<HIQ", body)
            schema, topic, qos = channels[number]
            name, form, text = schemas[schema]
            return Salvaged(topic, name, (form, text), qos, stamp, body[22:])
    except (struct.error, KeyError, UnicodeDecodeError):
        pass
    return None


def _string(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", data, at)
    return data[at + 4 : at + 4 + size].decode(), at + 4 + size
