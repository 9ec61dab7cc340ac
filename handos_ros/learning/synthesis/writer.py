"""Samples as files: pictures, COCO keypoints with camera and 3D, meshes, and a sheet to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.files.atomic import naming
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, RIGHT
from handos_ros.learning.sample import Sample

SHEET_PICTURES, SHEET_COLUMNS, TILE = 24, 6, 224
_VISIBLE, _HIDDEN, _OUTSIDE = 2, 1, 0


def write_samples(
    samples: Iterable[Sample], folder: Path, description: str, tick: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """Write samples into an existing folder.

    `images/*.jpg`; `annotations.json`, COCO keypoints (flag 2 seen, 1 hidden, 0 outside of the picture)
    with `handedness`, `k`, `exhaustive` and `joints_3d` (m, optical frame) besides; `vertices.npz`, the
    meshes (hands, V, 3) float32 m in the order of the annotations; `sheet.jpg`.

    Args:
        tick: called after each picture.

    Returns:
        How many pictures and hands were written.

    Raises:
        DataError: if a file cannot be written.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    vertices: list[NDArray] = []
    tiles: list[NDArray] = []
    pictures = folder / "images"
    with naming(pictures):
        pictures.mkdir(exist_ok=True)
    for number, sample in enumerate(samples):
        name = f"{number:06d}.jpg"
        # Quality high enough that the file adds nothing to what was simulated.
        if not cv2.imwrite(str(pictures / name), sample.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97]):
            raise DataError(f"{pictures / name}: cannot be written; is the disk full?")
        height, width = sample.image.shape[:2]
        entry = {
            "id": number + 1, "file_name": name, "width": width, "height": height, "exhaustive": True,
            "source": sample.source,
        }  # fmt: skip
        if sample.k is not None:
            entry["k"] = [[round(float(v), 4) for v in row] for row in sample.k]
        images.append(entry)
        for hand in range(len(sample)):
            annotations.append(_annotation(sample, hand, len(annotations) + 1, number + 1))
            vertices.append(sample.vertices[hand])
        if len(tiles) < SHEET_PICTURES:
            tiles.append(draw_labels(sample))
        tick()
    document = {
        "info": {"description": description},
        "categories": [
            {"id": 1, "name": "hand", "keypoints": list(JOINT_NAMES),
             "skeleton": [[p + 1, j + 1] for j, p in enumerate(JOINT_PARENTS) if p >= 0]}
        ],
        "images": images,
        "annotations": annotations,
    }  # fmt: skip
    with naming(folder / "annotations.json"):
        (folder / "annotations.json").write_text(
            json.dumps(document, separators=(",", ":")), encoding="utf-8"
        )
        np.savez_compressed(folder / "vertices.npz", vertices=np.array(vertices, np.float32))
    if not cv2.imwrite(str(folder / "sheet.jpg"), sheet(tiles)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise DataError(f"{folder / 'sheet.jpg'}: cannot be written; is the disk full?")
    return len(images), len(annotations)


def _annotation(sample: Sample, hand: int, number: int, image: int) -> dict:
    height, width = sample.image.shape[:2]
    left, top, right, bottom = (float(v) for v in sample.boxes[hand])
    keypoints: list[float] = []
    for (x, y), seen in zip(sample.joints_2d[hand].tolist(), sample.visibility[hand], strict=True):
        inside = -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
        flag = _VISIBLE if seen == 1 else _HIDDEN if inside else _OUTSIDE
        # COCO writes zeros for what is not labelled; outside of the picture is such a place.
        keypoints += [round(x, 2), round(y, 2), flag] if inside else [0, 0, _OUTSIDE]
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0,
        "bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
        "area": round((right - left) * (bottom - top), 1),
        "keypoints": keypoints,
        "num_keypoints": sum(flag > 0 for flag in keypoints[2::3]),
        "handedness": "right" if sample.handedness[hand] == RIGHT else "left",
        "joints_3d": [[round(float(v), 5) for v in joint] for joint in sample.joints_3d[hand]],
        "joints_3d_absolute": True,
        "label_source": "rendered",
    }  # fmt: skip


def draw_labels(sample: Sample) -> NDArray[np.uint8]:
    """A copy of the picture with boxes (right hands red, left hands blue) and joints (hidden ones red)."""
    picture = np.ascontiguousarray(sample.image)
    for hand in range(len(sample)):
        colour = (230, 60, 40) if sample.handedness[hand] == RIGHT else (60, 120, 250)
        x0, y0, x1, y1 = (round(float(v)) for v in sample.boxes[hand])
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, 1)
        points = [tuple(round(float(v)) for v in p) for p in sample.joints_2d[hand]]
        for joint, parent in enumerate(JOINT_PARENTS):
            if parent >= 0:
                cv2.line(picture, points[parent], points[joint], (250, 230, 60), 1, cv2.LINE_AA)
        for point, seen in zip(points, sample.visibility[hand], strict=True):
            cv2.circle(picture, point, 2, (60, 220, 60) if seen == 1 else (230, 30, 30), -1, cv2.LINE_AA)
    return picture


def sheet(
    pictures: list[NDArray[np.uint8]], columns: int = SHEET_COLUMNS, tile: int = TILE
) -> NDArray[np.uint8]:
    """RGB pictures of any sizes on one page of square tiles."""
    rows = max(1, -(-len(pictures) // columns))
    page = np.full((rows * tile, columns * tile, 3), 40, np.uint8)
    for number, picture in enumerate(pictures):
        scale = tile / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:tile, :tile]
        y, x = number // columns * tile, number % columns * tile
        page[y : y + small.shape[0], x : x + small.shape[1]] = small
    return page
