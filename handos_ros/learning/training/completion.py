"""Which photographs, not all of whose hands are known to be labelled, have nothing else that looks like one.

People label the hands that they are sure of, and a detector may not learn that the rest of such a photograph
is background: the hand that it would have found is there. But in most of them there is none, and they show
what a detector takes for hands: faces, above all. One that knows hands already can tell them apart; whether
it does, the labelled hands of the same photograph tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.model import HandModel
from handos_ros.learning.evaluation.detection import areas
from handos_ros.learning.training.config import TrainingConfig
from handos_ros.learning.training.data import open_source
from handos_ros.learning.training.monitor import pipeline_of
from handos_ros.network.handos import HandosNetwork

_SAME = 0.3
"""IoU from which on a candidate is a labelled hand's, if badly placed."""
_PART = 0.6
"""The share of a candidate within a labelled hand, or the reverse, from which on it is that hand's too."""


def complete_pictures(
    network: HandosNetwork, hand_model: HandModel, config: TrainingConfig, score: float
) -> list[list[int]]:
    """Look at all photographs of the run whose hands are not all known to be labelled.

    Args:
        network: in evaluation mode.
        score: a candidate of at least this score that is no labelled hand's may be a hand.

    Returns:
        For each source the numbers of its pictures in which all labelled hands are found and nothing else.
    """
    pipeline = pipeline_of(network, hand_model, min_score=score)
    found: list[list[int]] = []
    for source in config.sources:
        found.append([])
        if source.kind != "coco":
            continue
        photographs = open_source(source)
        for number, entry in enumerate(photographs.entries):
            if entry.labels.exhaustive:
                continue
            sample = photographs[number]
            candidates = pipeline(sample.image, mesh=False).boxes
            others = any(not belongs(candidate, sample.boxes) for candidate in candidates)
            # A network that misses what is labelled would miss the rest as well.
            if not others and all(belongs(label, candidates) for label in sample.boxes):
                found[-1].append(number)
    return found


def belongs(candidate: NDArray[np.float32], labels: NDArray[np.float32]) -> bool:
    """Whether a box (4,) and one of others (N, 4) are of the same hand, however badly placed; px, corners."""
    shared, own, theirs = areas(candidate, labels)
    same = shared > _SAME * (own + theirs - shared)
    part = shared > _PART * np.minimum(own, theirs)
    return bool((same | part).any())
