"""Which of a detector's candidates are decoded, and from which boxes: its own, or boxes from outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import PictureError
from handos_ros.inference import filtering
from handos_ros.inference.backend import Detections
from handos_ros.inference.letterbox import Letterbox

LOOKED_AT = 0.3
"""Candidates of this score or more are decoded before it is said whether they are hands. By the weights that
come with the package 672 of 688 hands in 587 photographs that were learned from have such a candidate (IoU
0.5), 657 one of 0.5 or more; a picture has 1.3 of the former and 1.1 of the latter. From 0.2 on 677 would, of
2.0 in a picture, and a picture without hands would have 0.9 instead of 0.1."""
_LEAST = 1e-6
"""Scores are kept so far from 0 and 1, where logits end."""


@dataclass
class Chosen:
    """N hands to decode.

    Attributes:
        queries: (N,) int64 numbers of the candidates that they start from.
        starts: (N, 4) float32 boxes that they start from, as in `Detections.boxes`.
        boxes: (N, 4) the same in px of the picture, x_min y_min x_max y_max, ending at its border where
            they are the detector's.
        scores: (N,) of the candidates.
    """

    queries: NDArray[np.int64]
    starts: NDArray[np.float32]
    boxes: NDArray
    scores: NDArray[np.float32]


def choose(
    found: Detections,
    letterbox: Letterbox,
    width: int,
    height: int,
    *,
    given: NDArray | None,
    min_score: float,
    max_hands: int,
) -> Chosen:
    """The candidates worth decoding, best first; or for each of the boxes `given` the one nearest to it.

    The decoder looks more closely, so where `min_score` is above `LOOKED_AT` those between are worth it as
    well; `judged` then gives the scores by which hands are told.

    Args:
        found: what the detector saw in the network picture that `letterbox` made.
        width, height: px of the picture itself.
        given: (N, 4) px as of `check_boxes`; then `min_score` and `max_hands` do not count.
    """
    candidates = letterbox.boxes_to_pixels(found.boxes)
    if given is None:
        least = min(min_score, LOOKED_AT)
        queries = filtering.select(candidates, found.scores, width, height, least, max_hands)
        starts = found.boxes[queries]
        boxes = within(candidates[queries], width, height)
    else:
        queries = filtering.match(given, candidates) if len(given) else np.zeros(0, np.intp)
        starts = letterbox.boxes_to_fractions(given).astype(np.float32)
        boxes = given
    return Chosen(queries.astype(np.int64), starts, boxes, found.scores[queries])


def within(boxes: NDArray, width: int, height: int) -> NDArray:
    """Boxes (N, 4) px cut at the border of a picture of width x height px."""
    return np.clip(boxes, -0.5, np.array([width, height, width, height]) - 0.5)


def judged(scores: NDArray[np.float32], presence_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores (N,) of decoded candidates: the detector's, and what the decoder adds to their logits.

    A candidate below `LOOKED_AT`, which is decoded only where a low threshold asks for it, gains nothing by
    that: a hand's score does not depend on the threshold.
    """
    certain = np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST)
    odds = certain / (1 - certain) * np.exp(np.clip(presence_logits, -30, 30))
    joined = odds / (1 + odds)
    return np.where(scores < LOOKED_AT, np.minimum(joined, scores), joined).astype(np.float32)


def check_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """Boxes from outside as (N, 4) floats.

    Raises:
        PictureError: if they are no boxes, naming the first that is none.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise PictureError("boxes must be numbers, (N, 4) x_min y_min x_max y_max in px") from None
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise PictureError(f"boxes must be (N, 4) x_min y_min x_max y_max in px, got the shape {array.shape}")
    bad = ~(np.isfinite(array).all(1) & (array[:, 2:] > array[:, :2]).all(1))
    if bad.any():
        number = int(np.argmax(bad))
        raise PictureError(
            f"box {number} is no box: {array[number].tolist()}; needs finite x_min < x_max and y_min < y_max"
        )
    return array
