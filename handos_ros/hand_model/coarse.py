"""Folds of a hand model onto fewer points: coarse vertices, their upsampling, skinning on joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handos_ros.hands import NUM_JOINTS

FIRST_PART = 0.64
"""The part of the coarse vertices that is spread evenly; the rest go where the first do badly."""

ADDED_AT_ONCE = 6


def choose_coarse(
    samples: NDArray, first: NDArray, count: int, skinning: NDArray, rest: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Choose `count` coarse vertices and fit their upsampling.

    Most are spread evenly over the rest pose; the others are added, a few at a time and apart from each
    other, where the vertices so far reconstruct the samples worst.

    Args:
        samples: (N, V, 3) posed and shaped hands. first: vertices that must be among them.
        skinning, rest: as for `fit_upsampling`.

    Returns:
        (count,) vertex numbers and (V, count) weights.
    """
    coarse = farthest_points(rest, first, int(FIRST_PART * count))
    few = samples[:: max(1, len(samples) // 150)]
    apart = 0.03 * np.linalg.norm(np.ptp(rest, 0))
    while len(coarse) < count:
        upsampling = fit_upsampling(few, coarse, skinning, rest)
        error = ((upsampling @ few[:, coarse] - few) ** 2).sum(-1).mean(0)
        added: list[int] = []
        for vertex in np.argsort(-error, kind="stable"):
            if all(np.linalg.norm(rest[vertex] - rest[other]) > apart for other in added):
                added.append(int(vertex))
            if len(added) == min(ADDED_AT_ONCE, count - len(coarse)):
                break
        coarse = np.append(coarse, added).astype(np.int32)
    return coarse, fit_upsampling(samples, coarse, skinning, rest)


def farthest_points(vertices: NDArray, first: NDArray, count: int) -> NDArray[np.int32]:
    """(count,) vertex numbers: `first`, then again and again the one farthest from all so far."""
    chosen = list(dict.fromkeys(int(i) for i in first))
    distance = np.linalg.norm(vertices[:, None] - vertices[chosen], axis=-1).min(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(vertices - vertices[chosen[-1]], axis=1))
    return np.array(chosen, np.int32)


def fit_upsampling(
    samples: NDArray, coarse: NDArray, skinning: NDArray, rest: NDArray, *,
    neighbours: int = 24, ridge: float = 3e-3,
) -> NDArray[np.float64]:  # fmt: skip
    """(V, C) weights with which the coarse vertices give all; rows sum to 1.

    Least squares over posed and shaped samples. Each vertex hears only its `neighbours` nearest coarse
    vertices on its own part of the hand, and a ridge pulls the weights to even ones, so that the noise
    of a single coarse vertex stays local and is not magnified.

    Args:
        samples: (N, V, 3). coarse: (C,). skinning: (V, B) tells fingers apart. rest: (V, 3).
        ridge: metres of error per unit of weight.
    """
    v, c = samples.shape[1], len(coarse)
    rest_distance = np.linalg.norm(rest[:, None] - rest[coarse], axis=-1)
    # Neighbouring fingers touch in some poses; what counts is the distance over all of them.
    subset = samples[:: max(1, len(samples) // 24)]
    distance = np.maximum(
        rest_distance, np.max([np.linalg.norm(s[:, None] - s[coarse], axis=-1) for s in subset], 0)
    )
    apart = np.abs(skinning[:, None] - skinning[coarse]).sum(-1)
    distance = distance * (1 + 0.5 * apart)
    result = np.zeros((v, c))
    is_coarse = {int(vertex): k for k, vertex in enumerate(coarse)}
    for vertex in range(v):
        if vertex in is_coarse:
            result[vertex, is_coarse[vertex]] = 1
            continue
        near = np.argsort(distance[vertex], kind="stable")[:neighbours]
        offsets = (samples[:, coarse[near]] - samples[:, vertex, None]).transpose(0, 2, 1)
        offsets = offsets.reshape(-1, neighbours)
        # min |offsets w|^2 + ridge^2 |w - even|^2 with sum w = 1, by Lagrange's rule. Nearer vertices
        # may weigh more.
        closeness = 1 / (distance[vertex, near] ** 2 + 1e-8)
        even = closeness / closeness.sum()
        penalty = ridge**2 * np.diag(distance[vertex, near] / distance[vertex, near].mean())
        gram = offsets.T @ offsets / len(samples) + penalty
        system = np.block([[gram, np.ones((neighbours, 1))], [np.ones((1, neighbours)), np.zeros((1, 1))]])
        solution = np.linalg.solve(system, np.append(penalty @ even, 1.0))
        result[vertex, near] = solution[:neighbours]
    return result


def fold_on_joints(
    skinning: NDArray, vertices: NDArray, heads: NDArray, tails: NDArray, ends: NDArray
) -> NDArray[np.float64]:
    """(V, 21) skinning folded onto joints; rows sum to 1.

    A bone's share in a vertex is split between the joints at the bone's two ends by the vertex's place
    along the bone: all to the head's joint where the vertex stands level with the head, all to the
    tail's joint where it stands level with the tail, linear between.

    Args:
        skinning: (V, B). vertices: (V, 3). heads, tails: (B, 3).
        ends: (B, 2) the joints at each bone's head and tail.
    """
    axis = tails - heads
    along = np.einsum("vbi,bi->vb", vertices[:, None] - heads, axis) / np.maximum((axis**2).sum(1), 1e-12)
    along = np.clip(along, 0, 1)
    folded = np.zeros((len(vertices), NUM_JOINTS))
    for bone, (head, tail) in enumerate(ends):
        folded[:, head] += skinning[:, bone] * (1 - along[:, bone])
        folded[:, tail] += skinning[:, bone] * along[:, bone]
    return folded
