"""How long an mp4 or mov file plays: trimmed without re-encoding, it holds more frames than it shows.

The format is ISO/IEC 14496-12: boxes of a size, a type of four letters and content, some of boxes again.
What is shown of a track is in its edit list, `moov/trak/edts/elst`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# The boxes that describe an hour of video take a few MB.
_MOST_BYTES = 256 << 20


def edited_seconds(path: str | Path) -> float | None:
    """How long a file's video plays by its edit list; None without one, or where it is no mp4 or mov file."""
    try:
        with open(path, "rb") as file:
            movie = _movie(file)
            return None if movie is None else _seconds(movie)
    except (OSError, struct.error):
        return None


def _movie(file: BinaryIO) -> bytes | None:
    """Content of the box `moov`, which is found without reading the pictures."""
    end = os.fstat(file.fileno()).st_size
    start = 0
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        (size, kind), before = struct.unpack_from(">I4s", head), 8
        if size == 1:  # it follows, in 8 bytes
            (size,), before = struct.unpack_from(">Q", head, 8), 16
        if not kind.isalnum() or size < before:
            return None
        if kind == b"moov":
            file.seek(start + before)
            return file.read(size - before) if size < _MOST_BYTES else None
        start += size
    return None


def _seconds(movie: bytes) -> float | None:
    boxes = list(_boxes(movie))
    header = next((content for kind, content in boxes if kind == b"mvhd"), b"")
    (units,) = struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)
    for kind, track in boxes:
        if kind != b"trak" or _inside(track, b"mdia", b"hdlr")[8:12] != b"vide":
            continue
        edits = _inside(track, b"edts", b"elst")
        if not edits or not units:
            return None
        entry = ">QqI" if edits[0] == 1 else ">IiI"
        (count,) = struct.unpack_from(">I", edits, 4)
        step = struct.calcsize(entry)
        entries = [
            struct.unpack_from(entry, edits, 8 + step * number) for number in range(min(count, 10_000))
        ]
        # A negative start stands for a pause in which nothing is shown; no duration, for all there is.
        shown = [duration for duration, start, _ in entries if start >= 0]
        return sum(shown) / units if shown and all(shown) else None
    return None


def _inside(content: bytes, *path: bytes) -> bytes:
    """Content of the first box at a path of types, empty without one."""
    for kind in path:
        content = next((inner for name, inner in _boxes(content) if name == kind), b"")
    return content


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box in a row."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8:
            return
        yield kind, content[start + 8 : start + size]
        start += size
