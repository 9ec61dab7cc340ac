"""Palm or back: which face of a hand a picture shows, by its joints in the picture and its side.

Sides are told apart by this. People show cameras their palms, so a system that takes every hand for a palm is
right most of the time; only beside each other do the two tell what it knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.hands import RIGHT
from handos_ros.learning.sample import SIDE_UNKNOWN, Sample

LEAST_TURN = 0.15
"""Sine of the angle at the wrist between index and little finger's knuckles, below which it is edge-on."""
KNUCKLES = [0, 5, 17]
"""Wrist, and the knuckles of index and little finger."""


def knuckles_turn(joints_2d: Any) -> tuple[Any, Any]:
    """Which way the knuckles lie, for arrays and tensors alike.

    Args:
        joints_2d: (N, 21, 2) px.

    Returns:
        (N,) whether they turn clockwise as seen, about the wrist from index to little finger, and (N,)
        whether that can be seen: not from the edge of a hand. A right hand shows its back where they do.
    """
    wrist, index, little = (joints_2d[:, joint] for joint in KNUCKLES)
    index, little = index - wrist, little - wrist
    cross = index[:, 0] * little[:, 1] - index[:, 1] * little[:, 0]
    return cross > 0, cross**2 > LEAST_TURN**2 * (index**2).sum(1) * (little**2).sum(1)


def faces(labels: Sample) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) whether the back of each hand is seen, not its palm, and (N,) where that is known."""
    turn, flat = knuckles_turn(labels.joints_2d)
    known = flat & (labels.joints_2d_weight[:, KNUCKLES] > 0).all(1) & (labels.handedness != SIDE_UNKNOWN)
    return turn == (labels.handedness == RIGHT), known
