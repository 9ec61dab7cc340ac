"""Files and folders that appear under their final name only when they are whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from handos_ros.errors import DataError


class DiskFullError(DataError):
    """No room is left to write to: going on with the next file is of no use."""


@contextmanager
def whole(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A name to write a file or a folder under; it becomes `path` when the block ends well.

    The name lies beside `path`, is hidden, and ends like `path`, for libraries that go by the ending.
    Missing parent folders are made. Where the block raises, what was written is removed and `path` is
    as it was before.

    Args:
        path: final name of the file or folder.
        overwrite: replace what is there.

    Raises:
        DataError: if `path` exists and is not to be replaced, or if the system refuses to write; the
            message names `path` and the system's reason. DiskFullError where there is no room.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            yield partial
            # Again: an hour may have passed.
            refuse_existing(path, overwrite=overwrite)
            if path.is_dir() or partial.is_dir():
                # rename(2) replaces neither a folder that holds something nor a file by a folder.
                _remove(path)
            os.replace(partial, path)
    finally:
        with suppress(OSError):
            _remove(partial)


def refuse_existing(path: str | Path, *, overwrite: bool = False) -> None:
    """Say no before the work begins, not after it.

    Raises:
        DataError: if `path` is there and `overwrite` is false.
    """
    if not overwrite and os.path.lexists(path):
        raise DataError(f"{path} is there already; choose another output, or replace it with --overwrite")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn the system's errors about a file that is being written into a DataError that names it.

    Errors about other files that the system names, such as an input, pass through.
    """
    path = Path(path)
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _concerns(Path(os.fsdecode(error.filename)), path):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kind = DiskFullError if full else DataError
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from error


def _concerns(file: Path, path: Path) -> bool:
    """Whether `file` is `path`, a folder above it, or (in) what is being written in its place."""
    partial = any(part.startswith(f".{path.stem}.") for part in file.parts)
    return partial or file == path or file in path.parents


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
