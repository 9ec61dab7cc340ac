"""What a score of 0.5 means: scores are shifted so that it is the best place to cut.

Detectors that learn to score the overlap of their box (varifocal loss) give low scores while boxes are
still rough, lower than any threshold that a user would choose. A decoder that has judged as many hands as
strangers gives high ones, as it has not met how many more of the latter there are. The order of candidates
is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.hand_model.model import HandModel
from handos_ros.learning.evaluation.detection import match_greedily
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.config import TrainingConfig
from handos_ros.learning.training.data import open_source
from handos_ros.learning.training.monitor import evenly, pipeline_of
from handos_ros.network.handos import HandosNetwork

LEAST_SCORE = 0.02
"""Candidates below are not looked at; the threshold is never lower."""
NEARLY = 0.005
"""A cut is as good as the best where its F1 is so near to the best's."""
Picture = Callable[[], Sample]


def calibrate(
    network: HandosNetwork,
    hand_model: HandModel,
    config: TrainingConfig,
    completed: Sequence[Sequence[int]] = (),
) -> float | None:
    """Shift the scores of a network in evaluation mode, in place.

    Measured on `config.calibrate` of the run's own photographs with all hands labelled, and a fifth as
    many of those without hands. Where 0.5 is too high a cut, the detector's scores are raised, so that its
    candidates are looked at; where it is too low, what the decoder adds to them is lowered.

    Args:
        completed: for each source the numbers of pictures that count as fully labelled as well.

    Returns:
        The score at which the network was best cut before, as of `best_threshold`; None where it found no
        hand to measure on.
    """
    pipeline = pipeline_of(network, hand_model, min_score=LEAST_SCORE)
    scores, correct, hands = [], [], 0
    for picture in _pictures(config, completed):
        sample = picture()
        found = pipeline(sample.image, mesh=False)
        scores.append(found.scores)
        correct.append(match_greedily(sample.boxes, found.boxes, found.scores) >= 0)
        hands += len(sample)
    threshold = best_threshold(np.concatenate(scores), np.concatenate(correct), hands)
    if threshold is not None:
        shift = -math.log(threshold / (1 - threshold))
        if shift > 0:
            network.detector.shift_scores(shift)
        else:
            network.decoder.shift_presence(shift)
    return threshold


def best_threshold(scores: ArrayLike, correct: ArrayLike, hands: int) -> float | None:
    """The score from which on candidates are taken for F1 to be highest; None where none is correct.

    Where F1 hardly depends on it (`NEARLY`), the lowest: the network is surer of hands that it has learned
    from than of others. Halfway to the next lower candidate, so that those who were measured lie clear of it.

    Args:
        scores: (D,) of all candidates of all pictures.
        correct: (D,) bool, whether each found a hand.
        hands: how many there were.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked: NDArray[np.float64] = np.asarray(scores, np.float64)[order]
    hits = np.cumsum(np.asarray(correct, bool)[order])
    if not len(hits) or not hits[-1]:
        return None
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hands)
    # Equal scores cannot be told apart: only the last of them is a place to cut.
    f1[:-1][ranked[:-1] == ranked[1:]] = 0
    last = int(np.flatnonzero(f1 >= f1.max() - NEARLY)[-1])
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float(np.clip((ranked[last] + below) / 2, LEAST_SCORE, 1 - LEAST_SCORE))


def _pictures(config: TrainingConfig, completed: Sequence[Sequence[int]]) -> list[Picture]:
    found: list[Picture] = []
    for place, source in enumerate(config.sources):
        if source.kind == "coco":
            photographs = open_source(source)
            for number in completed[place] if completed else ():
                photographs.count_as_complete(number)
            complete = [i for i, entry in enumerate(photographs.entries) if entry.labels.exhaustive]
            for i in evenly(len(complete), config.calibrate):
                found.append(partial(photographs.__getitem__, complete[i]))
        elif source.kind == "negatives":
            empty = open_source(source)
            for i in evenly(len(empty), math.ceil(config.calibrate / 5)):
                found.append(partial(empty.__getitem__, i))
    return found
