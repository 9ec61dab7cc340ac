"""A translucent, smoothly shaded triangle mesh over a picture, hidden surfaces hidden.

The faces that look at the camera are painted from far to near into a picture of face numbers; what is
left of each face there is then shaded by interpolation between its corners. Only the part of the picture
that the mesh covers is touched, at a resolution that a hand needs, so that the cost does not grow with
the picture.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

# Longer side of the picture of face numbers, px. A hand that is larger on the screen is drawn at this
# size and stretched; a smaller one is drawn at up to twice its size, which smooths its outline.
_RASTER_SIDE = 384
_SHIFT = 4
# Towards the light, in the optical frame: above the camera and to its left.
_LIGHT = np.array([-0.4, -0.55, -0.73]) / np.linalg.norm([-0.4, -0.55, -0.73])


def draw_mesh(
    canvas: NDArray[np.uint8],
    points: NDArray,
    vertices: NDArray,
    faces: NDArray,
    colour: tuple[int, int, int],
) -> None:
    """Draw one mesh, in place.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        points: (V, 2) px, the vertices in the picture; not finite for those behind the camera.
        vertices: (V, 3) m, optical frame.
        faces: (F, 3), counter-clockwise seen from outside.
        colour: RGB.
    """
    height, width = canvas.shape[:2]
    seen = np.isfinite(points).all(1)
    if not seen.any():
        return
    low = np.maximum(np.floor(points[seen].min(0)) - 1, 0)
    high = np.minimum(np.ceil(points[seen].max(0)) + 2, (width, height))
    if (high <= low).any():
        return
    (left, top), (right, bottom) = low.astype(int), high.astype(int)
    across, down = right - left, bottom - top
    scale = min(2.0, _RASTER_SIDE / max(across, down))
    size = (max(1, round(across * scale)), max(1, round(down * scale)))
    # Pixel centres lie on whole numbers in both pictures.
    stretch = np.array(size) / (across, down)
    with np.errstate(invalid="ignore"):
        placed = (points - low + 0.5) * stretch - 0.5

    painted, corners, shades = _paint(size, placed, vertices, faces, seen)
    raster: NDArray = _shade(painted, corners, shades, _palette(colour))

    if scale <= 1:
        # There is no finer picture to average over: this takes the stairs off the outline.
        raster = cv2.blur(raster, (3, 3), borderType=cv2.BORDER_REPLICATE)
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    layer = cv2.resize(raster, (int(across), int(down)), interpolation=method)
    region = canvas[top:bottom, left:right]
    through = cv2.cvtColor(255 - cv2.extractChannel(layer, 3), cv2.COLOR_GRAY2RGB)
    behind = cv2.multiply(region, through, scale=1 / 255)
    region[...] = cv2.add(behind, cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB))


def _paint(
    size: tuple[int, int], placed: NDArray, vertices: NDArray, faces: NDArray, seen: NDArray
) -> tuple[NDArray[np.int32], NDArray, NDArray]:
    """Which face is seen where.

    Returns:
        (h, w) int32 picture of numbers, 0 for none and else 1 + the place in the next two;
        (P, 3, 2) corners in that picture's px and (P, 3) how bright they are, -1 to 1.
    """
    a, b, c = vertices.astype(np.float32)[faces.T]
    crosses = _cross(b - a, c - a)
    # Three times the middle of each face: neither its sign nor its order minds.
    middles = a + b + c
    facing = (np.einsum("fi,fi->f", crosses, middles) < 0) & seen[faces].all(1)
    order = np.flatnonzero(facing)
    order = order[np.argsort(-middles[order, 2])]
    corners = placed.astype(np.float32)[faces[order]]

    # At each vertex, the mean of its faces' normals weighted by area: as long as crosses are.
    normals = np.stack(
        [np.bincount(faces.ravel(), np.repeat(crosses[:, i], 3), len(vertices)) for i in range(3)], 1
    )
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    distances = np.maximum(np.linalg.norm(vertices, axis=1), 1e-12)
    facing_us = -np.einsum("vi,vi->v", normals, vertices) / distances
    # A plain light leaves a finger over the palm invisible. What turns away from the viewer is darker, which
    # draws a contour around each finger.
    brightness = 0.55 * (normals @ _LIGHT) + 0.45 * (1.9 * facing_us - 0.9)
    shades = np.clip(brightness, -1, 1)[faces[order]]

    painted = np.zeros((size[1], size[0]), np.int32)
    fixed = np.round(np.clip(corners, -1e4, 1e4) * (1 << _SHIFT)).astype(np.int32)
    for number, polygon in enumerate(fixed, 1):
        cv2.fillConvexPoly(painted, polygon, number, cv2.LINE_8, _SHIFT)
    return painted, corners, shades


def _cross(a: NDArray, b: NDArray) -> NDArray:
    """Cross products of (F, 3) and (F, 3); `np.cross` takes three times as long."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


def _shade(
    painted: NDArray[np.int32], corners: NDArray, shades: NDArray, palette: NDArray[np.uint32]
) -> NDArray[np.uint8]:
    """(h, w, 4) premultiplied RGBA of the picture of face numbers."""
    # Brightness is linear over a face: a x + b y + c.
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rise1, rise2 = shades[:, 1] - shades[:, 0], shades[:, 2] - shades[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    # A sliver has no room for a gradient and would only amplify rounding.
    flat = np.abs(area) < 1
    area = np.where(flat, 1, area)
    a = np.where(flat, 0, (rise1 * second[:, 1] - rise2 * first[:, 1]) / area)
    b = np.where(flat, 0, (rise2 * first[:, 0] - rise1 * second[:, 0]) / area)
    c = np.where(flat, shades.mean(1), shades[:, 0] - a * corners[:, 0, 0] - b * corners[:, 0, 1])
    a, b, c = (np.concatenate([[0], 127 * value]).astype(np.float32) for value in (a, b, c))

    covered = np.flatnonzero(painted)
    numbers = painted.ravel()[covered].astype(np.intp)
    rows, columns = (index.astype(np.float32) for index in np.divmod(covered, painted.shape[1]))
    value = a.take(numbers) * columns
    value += b.take(numbers) * rows
    value += c.take(numbers)
    levels = np.clip(value + 128, 1, 255).astype(np.uint8)
    layer = np.zeros(painted.size, np.uint32)
    layer[covered] = palette.take(levels)
    return layer.view(np.uint8).reshape(*painted.shape, 4)


@lru_cache(maxsize=8)
def _palette(colour: tuple[int, int, int]) -> NDArray[np.uint32]:
    """(256,) brightness (128 + 127 x -1 to 1) -> the bytes of premultiplied RGBA."""
    brightness = (np.arange(256) - 128) / 127
    lit = np.clip(0.5 + 0.5 * brightness, 0, 1) ** 1.3
    gloss = np.clip((brightness - 0.7) / 0.3, 0, 1) ** 2 * 0.4
    base = np.array(colour)[None] * (0.12 + 1.0 * lit[:, None])
    rgb = base + (255 - base) * gloss[:, None]
    # The dark parts are less transparent, so that the contours stand out on any ground.
    opacity = 0.85 - 0.25 * lit[:, None]
    rgba = np.concatenate([np.clip(rgb, 0, 255) * opacity, 255 * opacity], 1)
    return np.ascontiguousarray(np.round(rgba).astype(np.uint8)).view(np.uint32)[:, 0]
