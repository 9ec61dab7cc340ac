"""How much each photograph without hands looks like one with hands to the network that learns from it.

Most such photographs teach nothing any more once meadows and walls are known. What is left are paws, wings
and lamps, each of them seen as seldom as every meadow.
"""

from __future__ import annotations

import numpy as np

from handos_ros.hand_model.model import HandModel
from handos_ros.learning.training.config import TrainingConfig
from handos_ros.learning.training.data import Negatives
from handos_ros.learning.training.lots import factors
from handos_ros.learning.training.monitor import pipeline_of
from handos_ros.network.handos import HandosNetwork


def hard_negatives(
    network: HandosNetwork, hand_model: HandModel, config: TrainingConfig, power: float
) -> list[list[float]]:
    """Look at all photographs without hands of the run.

    Args:
        network: in evaluation mode.
        power: of the best score in each, see `lots.factors`.

    Returns:
        For each source of kind `negatives` how often each of its pictures is to be drawn, 1 for a middling
        one; nothing for other sources.
    """
    pipeline = pipeline_of(network, hand_model, min_score=0, max_hands=1)
    found: list[list[float]] = []
    for source in config.sources:
        scores = []
        if source.kind == "negatives":
            empty = Negatives(source.images, source.exclude)
            for number in range(len(empty)):
                hands = pipeline(empty[number].image, mesh=False)
                scores.append(float(hands.scores.max(initial=0)))
        found.append(factors(np.array(scores), power).tolist() if scores else [])
    return found
