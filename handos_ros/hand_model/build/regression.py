"""Regressors from skin to joints: few vertices around each joint, no negative weight, so never outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

NEAREST = 48
"""How many skin vertices may speak for one point."""

SPREAD = 0.05
"""Weight of the wish for even weights, against metres of error; keeps one vertex's noise harmless."""


def point_regressor(samples: NDArray, targets: NDArray, rest: NDArray, points: NDArray) -> NDArray:
    """Weights (P, V) >= 0 with rows summing to 1 that give P points from V vertices.

    Args:
        samples: (N, V, 3) vertices. targets: (N, P, 3) where the points are on them.
        rest: (V, 3) and points: (P, 3), one typical sample, on which the nearest vertices are chosen.
    """
    result = np.zeros((len(points), len(rest)))
    for p, point in enumerate(points):
        near = np.argsort(np.linalg.norm(rest - point, axis=1), kind="stable")[:NEAREST]
        # Offsets from the target turn "the weighted mean equals the target" into a homogeneous system
        # whose scale the last row fixes.
        offsets = (samples[:, near] - targets[:, p, None]).transpose(0, 2, 1).reshape(-1, len(near))
        offsets = offsets / np.sqrt(len(samples))
        even = SPREAD * np.eye(len(near)) * np.linalg.norm(rest[near] - point, axis=1).mean()
        heavy = 10.0
        system = np.concatenate([offsets, even, np.full((1, len(near)), heavy)])
        weights, _ = nnls(system, np.append(np.zeros(len(offsets) + len(near)), heavy))
        weights[weights < 2e-3 * weights.max()] = 0
        result[p, near] = weights / weights.sum()
    return result
