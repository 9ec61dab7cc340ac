"""Checkpoints in pieces of at most 16 MB, each whole or not there at all.

A checkpoint is a folder `step-00001200` of pieces and a `manifest.json` with their hashes, which is
written last: a folder without it is what a crash left. The one before stays until the new one is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from handos_ros.errors import DataError

PIECE = 16 * 1024 * 1024
_MANIFEST = "manifest.json"


def save_checkpoint(folder: str | Path, step: int, state: dict[str, Any], keep: int = 1) -> Path:
    """Write `state` (tensors and plain data) for `step`; then drop all but the newest `keep`.

    Raises:
        DataError: if it cannot be written; the checkpoints that were there are then untouched.
    """
    folder = Path(folder)
    target = folder / f"step-{step:08d}"
    partial, replaced = folder / f".{target.name}.partial", folder / f".{target.name}.replaced"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    try:
        for left_over in (partial, replaced):
            shutil.rmtree(left_over, ignore_errors=True)
        partial.mkdir(parents=True)
        pieces = []
        for number, start in enumerate(range(0, len(data), PIECE)):
            piece = data[start : start + PIECE]
            name = f"piece-{number:03d}"
            _write(partial / name, piece)
            pieces.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})
        _write(partial / _MANIFEST, json.dumps({"step": step, "pieces": pieces}, indent=1).encode())
        if target.exists():
            os.replace(target, replaced)
        os.replace(partial, target)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{target}: cannot write the checkpoint: {error.strerror}") from None
    for old in _whole(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint folder, or the newest whole one in a folder of them.

    Raises:
        DataError: naming the piece that is missing or damaged.
    """
    path = Path(path)
    if not (path / _MANIFEST).is_file():
        newest = newest_checkpoint(path)
        if newest is None:
            raise DataError(f"{path}: holds no whole checkpoint")
        path = newest
    try:
        manifest = json.loads((path / _MANIFEST).read_text("utf-8"))
        pieces = []
        for piece in manifest["pieces"]:
            content = (path / piece["name"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != piece["sha256"]:
                raise DataError(f"{path / piece['name']}: damaged, its hash differs from the manifest's")
            pieces.append(content)
        # weights_only: a checkpoint from elsewhere must not be able to run code.
        state = torch.load(io.BytesIO(b"".join(pieces)), map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(
            f"{error.filename}: cannot read a piece of the checkpoint: {error.strerror}"
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not a checkpoint of this package: {error}") from None
    return dict(state)


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The whole checkpoint of the latest step in a folder, None where there is none."""
    found = _whole(Path(folder))
    return found[-1] if found else None


def _whole(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob(f"step-*/{_MANIFEST}")) if folder.is_dir() else []


def _write(path: Path, content: bytes | memoryview) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
