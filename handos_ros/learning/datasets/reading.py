"""What the readers of all data sets share: pictures, json files and boxes, with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import DataError

JOINT_MARGIN = 0.08
"""A box around joints is wider than they are by this fraction of their longer extent on each side: the
flesh around the bones of the finger tips and the wrist."""


PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def pictures_in(folder: Path, exclude: Sequence[int] = ()) -> list[Path]:
    """The pictures of a folder in sorted order, less those whose number modulo 10 is in `exclude`."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    return [path for number, path in enumerate(paths) if number % 10 not in exclude]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB as stored, EXIF rotation ignored, as COCO's labels expect.

    Raises:
        DataError: naming the file that is missing or is no picture.
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot read the picture: {error.strerror}") from None
    # cv2.imdecode raises on an empty buffer and returns None on a damaged one.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(data, flags) if len(data) else None
    if picture is None:
        raise DataError(f"{path}: not a picture, or a damaged one")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def read_json(path: Path) -> Any:
    """The content of a json file.

    Raises:
        DataError: naming the file that cannot be read or is no json.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a json file: {error}") from None


def box_around(points: ArrayLike, width: int, height: int, *, margin: float) -> NDArray[np.float64]:
    """(4,) x_min y_min x_max y_max around (P, 2) px, wider by `margin` times the longer extent, clipped.

    `JOINT_MARGIN` around joints, 0 around the vertices of a mesh.
    """
    points = np.asarray(points, np.float64)
    low, high = points.min(0), points.max(0)
    pad = margin * (high - low).max()
    size = np.array([width, height]) - 0.5
    return np.concatenate([np.clip(low - pad, -0.5, size), np.clip(high + pad, -0.5, size)])


def project(points: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """(P, 3) m in the optical frame -> (P, 2) px, without distortion."""
    image = np.asarray(points, np.float64) @ np.asarray(k, np.float64).T
    return image[:, :2] / image[:, 2:]
