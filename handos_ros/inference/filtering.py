"""Which candidates are hands: score, duplicates, and the candidates that given boxes start from.

Duplicates are looked for twice, because a box says too little. Two queries that found the same hand
have nearly the same box; yet two hands that cross, clasp or pass each other may share most of theirs.
So boxes only remove what is all but identical (IoU above 0.8 means equal boxes shifted by less than a
ninth of their side), which saves decoding it, and the decoded joints settle the rest: different hands
have different joints however much their boxes overlap, and the same hand has the same joints however
badly one of its boxes was cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BOX_IOU = 0.8
"""Boxes that overlap more than this are the same hand."""

JOINT_DISTANCE_SAME_SIDE = 0.15
JOINT_DISTANCE_OTHER_SIDE = 0.06
"""Two decoded hands are one where the mean distance between their joints, relative to the larger one's
size, is below this. Palms pressed together lie joint on joint in some views, so hands of opposite sides
must agree closer before one of them is dropped."""

_MAX_COMPARED = 100
"""Candidates that are compared with each other: bounds the M x M work when the threshold is near 0."""


_SPARE = 4
"""So many candidates more than hands are decoded at most, since some turn out to be second findings or no
hands."""


def select(
    boxes: NDArray, scores: NDArray, width: int, height: int, min_score: float, max_hands: int
) -> NDArray[np.intp]:
    """The candidates to decode, best first.

    Args:
        boxes: (Q, 4) x_min y_min x_max y_max px of a picture of width x height px.
        scores: (Q,).
        min_score: candidates below are dropped.
        max_hands: how many hands are wanted at most.

    Returns:
        Numbers of candidates whose boxes reach into the picture, by falling score; some more than
        `max_hands`, for `distinct` to choose from.
    """
    picked = np.flatnonzero(scores >= min_score)
    if not len(picked):
        return picked
    low, high = boxes[picked, :2], boxes[picked, 2:]
    # NaN compares false, so that this drops boxes that are not finite as well.
    inside = (low < (width, height)).all(1) & (high > 0).all(1) & (high > low).all(1)
    picked = picked[inside]
    picked = picked[np.argsort(-scores[picked], kind="stable")][:_MAX_COMPARED]
    if len(picked) > 1:
        chosen = boxes[picked]
        picked = picked[apart(chosen)]
    return picked[: max_hands + _SPARE if max_hands > 0 else 0]


def apart(boxes: NDArray) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes, best first, are not all but identical with a better one: (N,) mask."""
    return _first_of_each(iou(boxes, boxes) > BOX_IOU)


def best_first(scores: NDArray, min_score: float) -> NDArray[np.intp]:
    """Numbers of those that score at least `min_score`, by falling score."""
    order = np.argsort(-scores, kind="stable")
    return order[scores[order] >= min_score]


def distinct(
    joints_2d: NDArray, boxes: NDArray, handedness: NDArray, max_hands: int = _MAX_COMPARED
) -> NDArray[np.bool_]:
    """Which decoded hands, best first, are not a second finding of a better one; at most `max_hands`.

    Args:
        joints_2d: (N, 21, 2) px.
        boxes: (N, 4) px.
        handedness: (N,).
        max_hands: at least 1.

    Returns:
        (N,) mask.
    """
    if len(boxes) < 2:
        return np.ones(len(boxes), bool)
    offsets = joints_2d[:, None] - joints_2d[None]
    distances = np.sqrt(np.einsum("nmjk,nmjk->nmj", offsets, offsets)).mean(-1)
    # The joints' own extent, not only the box: a box cut in half must not halve its hand's size.
    low, high = np.minimum(joints_2d.min(1), boxes[:, :2]), np.maximum(joints_2d.max(1), boxes[:, 2:])
    size = np.sqrt((high - low).prod(1))
    limit = np.where(
        handedness[:, None] == handedness[None], JOINT_DISTANCE_SAME_SIDE, JOINT_DISTANCE_OTHER_SIDE
    )
    found = _first_of_each(distances < limit * np.maximum(size[:, None], size[None]))
    return found & (np.cumsum(found) <= max_hands)


def match(boxes: NDArray, candidates: NDArray) -> NDArray[np.intp]:
    """The candidate that each given box starts from: highest IoU, among equals the nearest centre.

    Args:
        boxes: (N, 4) x_min y_min x_max y_max.
        candidates: (Q, 4) likewise, Q >= 1.

    Returns:
        (N,) numbers of candidates; one may serve several boxes.
    """
    overlap = iou(boxes, candidates)
    centres = boxes[:, :2] + boxes[:, 2:]
    offsets = centres[:, None] - (candidates[:, :2] + candidates[:, 2:])
    distances = np.einsum("nqk,nqk->nq", offsets, offsets)
    best = overlap >= overlap.max(1, keepdims=True)
    return np.where(best, distances, np.inf).argmin(1)


def iou(a: NDArray, b: NDArray) -> NDArray:
    """Intersection over union of (N, 4) with (M, 4) boxes, x_min y_min x_max y_max -> (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas_a, areas_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    union = areas_a[:, None] + areas_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def _first_of_each(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Greedy removal: (M, M) pairs that are the same, best first -> (M,) those kept.

    One that equals a kept better one goes. Repeating that for all at once ends at the greedy answer,
    in as many rounds as the longest chain of duplicates (Zheng et al. 2020, Cluster-NMS).
    """
    better = np.triu(same, 1)
    keep: NDArray[np.bool_] = ~np.any(better, axis=0)
    while True:
        again: NDArray[np.bool_] = ~np.any(better & keep[:, None], axis=0)
        if np.array_equal(again, keep):
            return keep
        keep = again
