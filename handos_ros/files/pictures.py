"""Pictures from files: which ones are meant, and their pixels."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import HandosError, PictureError
from handos_ros.files.atomic import whole
from handos_ros.files.jpeg import is_cut_off_jpeg

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
     ".pnm", ".jp2", ".avif", ".gif", ".heic", ".heif")
)  # fmt: skip
"""Endings of the files that count as pictures inside a folder. Not all can be read by every OpenCV: what
cannot is named, not passed over."""

OVERLAY_ENDING = "_overlay"
"""What an overlay's name has between the stem and `.jpg`."""


@dataclass(frozen=True)
class Picture:
    """One picture to work on.

    Attributes:
        path: its file.
        stem: its name among the results, without ending; may hold folders; no two pictures share one.
    """

    path: Path
    stem: Path


def find_pictures(
    inputs: Iterable[str], *, leave_out: Path | None = None
) -> tuple[list[Picture], list[HandosError]]:
    """The pictures that a user's words mean, each once, in a settled order.

    Args:
        inputs: files, folders (with all that is below them) and glob patterns (`**` for any folders).
        leave_out: folder of the results. What lies in it are results of an earlier run, if it is inside a
            folder that is searched; if it is that folder or one above it, only overlays are.

    Returns:
        The pictures, and an error for each word that means none and each folder that may not be read.
    """
    found: dict[Path, Path] = {}
    errors: list[HandosError] = []
    for word in inputs:
        try:
            paths, unread = _expand(word, leave_out)
            errors += unread
            for path, stem in paths:
                found.setdefault(Path(os.path.abspath(path)), stem)
        except PictureError as error:
            errors.append(error)
    stems = _told_apart(found)
    return [Picture(_shown(path), stem) for path, stem in stems.items()], errors


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF data say; 16 bits become 8, alpha is dropped.

    Raises:
        PictureError: naming the file and what is wrong with it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data:
        raise PictureError(f"{path}: the file is empty")
    if is_cut_off_jpeg(data):
        raise PictureError(f"{path}: the picture was cut off: the end of its JPEG data is missing")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(f"{path}: {error.err}") from None
    if picture is None or not picture.size:
        raise PictureError(f"{path}: damaged, or no picture of a type that OpenCV reads")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def write_picture(path: str | Path, image: NDArray[np.uint8], *, overwrite: bool = False) -> None:
    """Write an (H, W, 3) uint8 RGB picture in the type that `path` ends with.

    Raises:
        DataError: see `whole`.
    """
    path = Path(path)
    # Encoded in memory: OpenCV does not say when a disk is full.
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with whole(path, overwrite=overwrite) as partial:
        partial.write_bytes(data.tobytes())


def _expand(word: str, leave_out: Path | None) -> tuple[list[tuple[str, Path]], list[HandosError]]:
    """(path, stem) of each picture of one word, sorted, and what of it may not be read."""
    if os.path.isdir(word):
        errors: list[HandosError] = []
        paths = sorted(_below(word, leave_out, errors))
        if not paths and not errors:
            raise PictureError(f"{word}: the folder holds no pictures")
        return [(path, Path(os.path.relpath(path, word)).with_suffix("")) for path in paths], errors
    if os.path.lexists(word):
        return [(word, Path(Path(word).stem))], []
    if glob.has_magic(word):
        paths = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
        if not paths:
            raise PictureError(f"{word}: the pattern fits no file")
        return [(path, Path(Path(path).stem)) for path in paths], []
    raise PictureError(f"{word}: no such file or folder")


def _below(searched: str, results: Path | None, errors: list[HandosError]) -> Iterator[str]:
    """Paths of the pictures in a folder and all below it, links too; results of an earlier run are none.

    A folder with several names counts once, under the one that is no link; so links may lead in circles.
    What may not be read is added to `errors`.
    """

    def complain(error: OSError) -> None:
        errors.append(PictureError(f"{error.filename}: cannot be read: {error.strerror}"))

    root = os.path.realpath(searched)
    output = None if results is None else os.path.realpath(results)
    seen: set[str] = set()
    starts = deque([searched])
    while starts:
        for folder, folders, names in os.walk(starts.popleft(), onerror=complain):
            real = os.path.realpath(folder)
            ours = output is not None and _holds(output, real)
            if real in seen or (ours and output is not None and not _holds(output, root)):
                folders.clear()
                continue
            seen.add(real)
            starts += filter(os.path.islink, [os.path.join(folder, name) for name in folders])
            for name in names:
                stem, ending = os.path.splitext(name)
                if ending.lower() not in SUFFIXES:
                    continue
                if ours and stem.endswith(OVERLAY_ENDING):
                    # Where results go to the searched folder itself, its overlays are ours. Where they go to
                    # one above it, only some may: those that lie beside their json.
                    json = f"{stem.removesuffix(OVERLAY_ENDING)}.json"
                    if output == root or os.path.exists(os.path.join(folder, json)):
                        continue
                yield os.path.join(folder, name)


def _holds(folder: str, path: str) -> bool:
    """Whether a folder is `path` or above it; both without links."""
    return os.path.commonpath([folder, path]) == folder


def _told_apart(found: dict[Path, Path]) -> dict[Path, Path]:
    """Where pictures share a stem, give them ones that tell: their endings, or their folders too."""
    groups: dict[Path, list[Path]] = {}
    for path, stem in found.items():
        groups.setdefault(stem, []).append(path)
    stems = dict(found)
    taken = {stem for stem, paths in groups.items() if len(paths) == 1}
    for stem, paths in groups.items():
        if len(paths) == 1:
            continue
        above = Path(os.path.commonpath([path.parent for path in paths]))
        names = [stem.parent / path.name for path in paths]
        while len({*names}) < len(paths) or not taken.isdisjoint(names):
            inner = [path.relative_to(above) for path in paths]
            bare = [path.with_suffix("") for path in inner]
            names = [a if bare.count(b) > 1 else b for a, b in zip(inner, bare, strict=True)]
            above = above.parent  # for the case that even this name belongs to another picture
        taken.update(names)
        stems.update(zip(paths, names, strict=True))
    return stems


def _shown(path: Path) -> Path:
    """The path as people like to read it: from here, where it lies below."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
