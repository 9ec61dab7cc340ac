"""Detection: which box found which hand, and average precision as COCO counts it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


def iou_matrix(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """(A, 4) and (B, 4) boxes x_min y_min x_max y_max -> (A, B) intersection over union."""
    shared, own, theirs = areas(first, second)
    return shared / np.maximum(own + theirs - shared, 1e-12)


def areas(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(A, 4) and (B, 4) boxes -> areas: (A, B) shared by each pair, (A, 1) and (1, B) of the boxes."""
    a = np.asarray(first, np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, np.float64).reshape(1, -1, 4)
    shared = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(
        -1
    )
    return shared, (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)


def match_greedily(
    labels: ArrayLike, boxes: ArrayLike, scores: ArrayLike, iou: float = 0.5
) -> NDArray[np.int64]:
    """(N,) for each box the label that it found, -1 for none.

    In the order of falling score each box takes the label that it overlaps most, of those not yet taken
    and overlapped by at least `iou`.
    """
    overlap = iou_matrix(boxes, labels)
    found = np.full(len(overlap), -1, np.int64)
    for i in np.argsort(-np.asarray(scores, np.float64), kind="stable"):
        if overlap.shape[1] and overlap[i].max() >= iou:
            found[i] = int(overlap[i].argmax())
            overlap[:, found[i]] = -1.0
    return found


def average_precision(scores: ArrayLike, correct: ArrayLike, num_labels: int) -> float:
    """Area under the precision-recall curve at COCO's 101 recalls; NaN without labels.

    Args:
        scores: (D,) of all detections of all pictures.
        correct: (D,) bool, whether each found a hand.
        num_labels: how many hands there were.
    """
    if num_labels == 0:
        return float("nan")
    order = np.argsort(-np.asarray(scores, np.float64), kind="mergesort")
    hits = np.cumsum(np.asarray(correct, bool)[order])
    if not len(hits):
        return 0.0
    recall, precision = hits / num_labels, hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # 7 / 50 and the 14th of the 101 recalls are the same number, though not to the last bit.
    at = np.searchsorted(recall + 1e-12, _RECALLS, side="left")
    return float(np.where(at < len(envelope), envelope[np.minimum(at, len(envelope) - 1)], 0.0).mean())


def coco_average_precision(
    pictures: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike, bool]], iou: float
) -> float:
    """`average_precision` over pictures of (labels, boxes, scores, exhaustive) at one IoU.

    Where a picture is not exhaustively labelled, boxes that found no label count for nothing.
    """
    all_scores: list[NDArray] = []
    all_correct: list[NDArray] = []
    num_labels = 0
    for labels, boxes, scores, exhaustive in pictures:
        correct = match_greedily(labels, boxes, scores, iou) >= 0
        counted = correct | exhaustive
        all_scores.append(np.asarray(scores, np.float64)[counted])
        all_correct.append(correct[counted])
        num_labels += len(np.asarray(labels).reshape(-1, 4))
    if not all_scores:
        return float("nan")
    return average_precision(np.concatenate(all_scores), np.concatenate(all_correct), num_labels)
