"""Random plausible hand poses: joint angles within the limits of a hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.model import Rig
from handos_ros.hand_model.posing import anatomical_rotations

LIMITS = {
    "wrist": (0, 0, 0, 0),
    "thumb_metacarpal": (-20, 35, -20, 35),
    "thumb_proximal": (-15, 55, -5, 5), "thumb_distal": (-25, 80, 0, 0),
    "metacarpal": (0, 6, -2, 2),
    "proximal": (-40, 75, -18, 18), "middle": (-12, 100, 0, 0), "distal": (-12, 70, 0, 0),
}  # fmt: skip
"""Degrees from the rest pose: least and most flexion, least and most abduction."""


def bone_limits(rig: Rig) -> NDArray[np.float64]:
    """(B, 4) rad: least and most flexion, least and most abduction from the rest pose, by bone name."""
    rows = [LIMITS.get(name) or LIMITS[name.split("_")[-1]] for name in rig.bone_names]
    return np.radians(rows)


def random_rotations(rig: Rig, count: int, random: np.random.Generator) -> NDArray[np.float32]:
    """(count, B, 3, 3) local turns; each hand is curled as a whole, its joints differ somewhat."""
    low, high, left, right = bone_limits(rig).T
    curl = random.beta(0.8, 1.0, (count, 1))
    each = random.uniform(size=(count, rig.num_bones))
    mix = random.uniform(size=(count, 1))
    flexion = low + (high - low) * (mix * curl + (1 - mix) * each)
    abduction = left + (right - left) * random.uniform(size=(count, rig.num_bones))
    # A bent finger can hardly be spread.
    bent = np.clip(flexion / np.radians(60), 0, 1)
    return anatomical_rotations(rig, flexion, abduction * (1 - 0.8 * bent))
