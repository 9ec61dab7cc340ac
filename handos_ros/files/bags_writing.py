"""A bag that grows in parts: readable after each, resumable, under its final name only when whole.

`OUT` is written as the folder `OUT.partial`. Each part is a storage file; when one is finished, it, the
bag's metadata.yaml and a note of how far the work got are brought up to date, in this order: whatever
happens in between, the note tells what counts. In the end the folder becomes `OUT`.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

from handos_ros.errors import DataError
from handos_ros.files.bags_job import JOB, differences, record
from handos_ros.files.bags_reading import URI_SIGNS, Topic, definition_and_digest

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
COMPRESSIONS = {
    "none": CompressionMode.NONE,
    "file": CompressionMode.FILE,
    "message": CompressionMode.MESSAGE,
    "storage": CompressionMode.STORAGE,
}

# Version 8 of metadata.yaml is read by every rosbag2 since Humble; 9 is not.
_METADATA_VERSION: Literal[8] = 8
_NOTES = ".handos"


def partial_path(final: Path) -> Path:
    """Where the bag `final` is written until it is whole."""
    return final.with_name(final.name + ".partial")


class BagWriter:
    """Writes one bag. Not safe for two threads at once.

    Args:
        final: the bag's folder in the end.
        storage: `mcap` or `sqlite3`.
        compression: one of `COMPRESSIONS`; `storage` is mcap's own.
        part_bytes: begin another part after so many bytes of messages.
        job: what is done, as plain values; only the same job can be resumed.
        custom_data: strings for the bag's metadata.
        overwrite: replace what is at `final`, and begin an unfinished bag anew.
        resume: go on with an unfinished bag where there is one.

    Attributes:
        state, arrays: what the last `checkpoint` of an unfinished bag kept, `None` and `{}` for a new one.

    Raises:
        DataError: if the output is there already, is used by another process, or cannot be written, or
            if another job made the unfinished bag.
    """

    def __init__(
        self,
        final: Path,
        *,
        storage: str,
        compression: str,
        part_bytes: int,
        job: Mapping[str, Any],
        custom_data: Mapping[str, str],
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.final, self.folder = final, partial_path(final)
        self.state: dict[str, Any] | None = None
        self.arrays: dict[str, NDArray] = {}
        self._storage, self._compression = storage, compression
        self._part_bytes = part_bytes
        self._job = json.loads(json.dumps(job))  # as it comes back, so that the two can be compared
        self._custom_data = {str(key): str(value) for key, value in custom_data.items()}
        self._custom_data[JOB] = json.dumps(record(self._job))
        self._overwrite = overwrite
        self._parts: list[dict[str, Any]] = []
        self._part: Writer | None = None
        self._connections: dict[tuple[str, str], Connection] = {}
        self._bytes = 0
        check_output(final, overwrite=overwrite, resume=resume)
        sign = URI_SIGNS.search(str(final))
        if storage == "sqlite3" and sign:
            raise DataError(
                f"{final}: sqlite3 cannot be written where a name has {sign[0]!r} in it; "
                "choose another output, or --storage mcap"
            )
        with _naming(self.final):
            self._begin(resume)

    @property
    def part_is_full(self) -> bool:
        """Time for a `checkpoint`."""
        return self._bytes >= self._part_bytes

    def write(self, topic: Topic, stamp: int, data: bytes) -> None:
        """Add a message recorded at `stamp` (ns).

        Raises:
            DataError: if the disk is full or fails, or if nobody knows what the message is made of.
        """
        with _naming(self.final):
            self._writer().write(self._connection(topic), stamp, data)
        self._bytes += len(data)

    def checkpoint(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray] | None = None) -> None:
        """Finish the part; from here `resume` goes on, given `state` (plain values) and `arrays`.

        Raises:
            DataError: if the disk is full or fails; what the last checkpoint left stays.
        """
        with _naming(self.final):
            self._finish_part()
            buffer = io.BytesIO()
            np.savez(buffer, **dict[str, Any](arrays or {}))
            kept = f"arrays_{len(self._parts)}.npz"
            _replace(self.folder / _NOTES / kept, buffer.getvalue())
            note = {"job": self._job, "parts": self._parts, "state": dict(state), "arrays": kept}
            _replace(self.folder / _NOTES / "progress.json", json.dumps(note).encode())
            self._write_metadata()
            for file in (self.folder / _NOTES).glob("arrays_*.npz"):
                if file.name != kept:
                    file.unlink()

    def finish(self, state: Mapping[str, Any]) -> None:
        """The bag is whole: give it its name."""
        self.checkpoint(state)
        with _naming(self.final):
            shutil.rmtree(self.folder / _NOTES)
            if self.final.exists():
                # The old bag goes when the new one is whole, not before.
                old = self.final.with_name(f".{self.final.name}.old")
                shutil.rmtree(old, ignore_errors=True)  # left where somebody's system stopped in between
                os.replace(self.final, old)
                os.replace(self.folder, self.final)
                _remove(old)
            else:
                os.replace(self.folder, self.final)
            self._lock.close()

    def abandon(self) -> bool:
        """Drop what came after the last checkpoint; whether a readable bag is left of the rest."""
        part, self._part = self._part, None
        if part is not None:
            with suppress(Exception):
                part.abort()
            shutil.rmtree(part.path, ignore_errors=True)
        self._lock.close()
        if not self._parts:
            shutil.rmtree(self.folder, ignore_errors=True)
        return bool(self._parts)

    def _begin(self, resume: bool) -> None:
        """Make or take over the folder."""
        notes = self.folder / _NOTES
        notes.mkdir(parents=True, exist_ok=True)
        self._lock = (notes / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{self.folder}: another process is writing this bag") from None
        note: dict[str, Any] = {}
        if resume and (notes / "progress.json").exists():
            try:
                note = json.loads((notes / "progress.json").read_text(encoding="utf-8"))
                if note["job"] != self._job:
                    raise DataError(
                        f"{self.folder}: was begun with other input or options "
                        f"({differences(note['job'], self._job)}); "
                        "repeat them, or begin anew with --overwrite"
                    )
                self._parts, self.state = note["parts"], note["state"]
                with np.load(notes / note["arrays"], allow_pickle=False) as arrays:
                    self.arrays = dict(arrays)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.folder}: its notes are damaged ({error}); begin anew with --overwrite"
                ) from None
        wanted = {part["path"] for part in self._parts}
        for entry in self.folder.iterdir():
            if entry.name not in wanted and entry != notes:
                _remove(entry)
        for entry in notes.iterdir():
            if entry.name != "lock" and not (note and entry.name in ("progress.json", note["arrays"])):
                _remove(entry)
        missing = [name for name in wanted if not (self.folder / name).exists()]
        if missing:
            raise DataError(f"{self.folder}: {', '.join(missing)} is missing; begin anew with --overwrite")

    def _writer(self) -> Writer:
        if self._part is None:
            path = self.folder / _NOTES / f"{self.final.name}_{len(self._parts)}"
            part = Writer(path, version=_METADATA_VERSION, storage_plugin=STORAGES[self._storage])
            part.set_compression(COMPRESSIONS[self._compression], CompressionFormat.ZSTD)
            part.open()
            self._part = part
        return self._part

    def _connection(self, topic: Topic) -> Connection:
        key = (topic.name, topic.msgtype)
        connection = self._connections.get(key)
        if connection is None:
            definition, digest = definition_and_digest(topic)
            connection = self._writer().add_connection(
                topic.name, topic.msgtype, msgdef=definition, rihs01=digest, offered_qos_profiles=topic.qos
            )
            self._connections[key] = connection
        return connection

    def _finish_part(self) -> None:
        """Close the part that is open, if it holds anything, and move it beside the others."""
        if self._part is None and self._parts:
            return
        part = self._writer()
        part.close()
        self._part = None
        self._connections.clear()
        self._bytes = 0
        text = (part.path / "metadata.yaml").read_text(encoding="utf-8")
        info = yaml.safe_load(text)["rosbag2_bagfile_information"]
        (name,) = info["relative_file_paths"]
        _sync(part.path / name)
        os.replace(part.path / name, self.folder / name)
        shutil.rmtree(part.path)
        self._parts.append({"path": name, "info": info})

    def _write_metadata(self) -> None:
        info = merged_metadata([part["info"] for part in self._parts], self._custom_data)
        text = yaml.safe_dump({"rosbag2_bagfile_information": info}, sort_keys=False)
        _replace(self.folder / "metadata.yaml", text.encode())


def check_output(final: Path, *, overwrite: bool, resume: bool) -> None:
    """Say no before the work begins.

    Raises:
        DataError: if `final` or what is left of an earlier run is there, and neither to be replaced nor
            to be gone on with; if what would be replaced is no bag.
    """
    if final.suffix in (".mcap", ".db3"):
        raise DataError(f"{final}: the output is a folder with files in it; leave out {final.suffix}")
    partial = partial_path(final)
    with _naming(final):
        if overwrite:
            if final.exists() and not (final / "metadata.yaml").exists():
                raise DataError(
                    f"{final}: is there and is no bag, so it is not replaced; choose another output"
                )
        elif os.path.lexists(final):
            raise DataError(
                f"{final}: is there already; choose another output, or replace it with --overwrite"
            )
        elif partial.exists() and not resume:
            raise DataError(
                f"{partial}: is left of an earlier run; go on with it with --resume, "
                "or begin anew with --overwrite"
            )


def merged_metadata(infos: Sequence[Mapping[str, Any]], custom_data: Mapping[str, str]) -> dict[str, Any]:
    """What metadata.yaml says of a bag whose parts' metadata is `infos`."""
    topics: dict[tuple[str, str], dict[str, Any]] = {}
    files, filled = [], [info for info in infos if info["message_count"]]
    for info in infos:
        for entry in info["topics_with_message_count"]:
            key = (entry["topic_metadata"]["name"], entry["topic_metadata"]["type"])
            whole = topics.setdefault(key, {"topic_metadata": entry["topic_metadata"], "message_count": 0})
            whole["message_count"] += entry["message_count"]
        files += info["files"]
    start = min((_start(info) for info in filled), default=0)
    end = max((_start(info) + info["duration"]["nanoseconds"] for info in filled), default=0)
    for file in files:
        if not file["message_count"]:
            file["starting_time"]["nanoseconds_since_epoch"] = start
    return {
        **infos[0],
        "relative_file_paths": [file["path"] for file in files],
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": sum(info["message_count"] for info in infos),
        "topics_with_message_count": list(topics.values()),
        "files": files,
        "custom_data": dict(custom_data),
    }


@contextmanager
def _naming(final: Path) -> Iterator[None]:
    """The system's refusals, as an error that names the output."""
    try:
        yield
    except (OSError, sqlite3.Error, WriterError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{final}: cannot be written: {reason}") from error


def _start(info: Mapping[str, Any]) -> int:
    return int(info["starting_time"]["nanoseconds_since_epoch"])


def _replace(path: Path, data: bytes) -> None:
    """Write a small file so that it is either the old or the new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    _sync(temporary)
    os.replace(temporary, path)


def _sync(path: Path) -> None:
    """Onto the disk, not only on its way there: the note must not outlive what it tells of."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
