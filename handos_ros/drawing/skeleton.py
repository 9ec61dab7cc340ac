"""Bones and joints of one hand, coloured by finger."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

FINGER_COLOURS = (
    (255, 90, 80),  # thumb
    (255, 190, 40),  # index
    (90, 215, 90),  # middle
    (70, 175, 255),  # ring
    (205, 110, 255),  # little
)
"""RGB of each finger."""

_WRIST_COLOUR = (245, 245, 245)
_OUTLINE = (25, 25, 25)
_SHIFT = 4
_ONE = 1 << _SHIFT
# Beyond this, in px, a joint is so far outside that its place no longer matters; OpenCV overflows.
_FAR = 1e5


def draw_skeleton(canvas: NDArray[np.uint8], joints: NDArray, depths: NDArray, thickness: float) -> None:
    """Draw one hand, in place, its farthest finger first.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        joints: (21, 2) px; joints that are not finite are left out, with their bones.
        depths: (21,) m, or anything that grows with the distance.
        thickness: of a bone, px.
    """
    seen = np.isfinite(joints).all(1)
    points = np.round(np.clip(np.where(seen[:, None], joints, 0), -_FAR, _FAR) * _ONE).astype(np.int32)
    places = [tuple(point) for point in points.tolist()]
    width, edge = max(1, round(thickness)), round(thickness / 3)  # too thin for an edge: none
    radius = round(thickness * 1.05 * _ONE)
    chains = [(0, *range(first, first + 4)) for first in range(1, 21, 4)]
    for finger in np.argsort([-depths[list(chain[1:])].mean() for chain in chains]):
        chain, colour = chains[finger], FINGER_COLOURS[finger]
        bones = [(a, b) for a, b in pairwise(chain) if seen[a] and seen[b]]
        for a, b in bones if edge else ():
            cv2.line(canvas, places[a], places[b], _OUTLINE, width + 2 * edge, cv2.LINE_AA, _SHIFT)
        for a, b in bones:
            cv2.line(canvas, places[a], places[b], colour, width, cv2.LINE_AA, _SHIFT)
        for joint in chain[1:]:
            if seen[joint]:
                _draw_joint(canvas, places[joint], radius, edge, colour)
    if seen[0]:
        _draw_joint(canvas, places[0], round(1.3 * radius), edge, _WRIST_COLOUR)


def _draw_joint(
    canvas: NDArray[np.uint8], place: tuple[int, ...], radius: int, edge: int, colour: tuple[int, int, int]
) -> None:
    if edge:
        cv2.circle(canvas, place, radius + edge * _ONE, _OUTLINE, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, place, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
