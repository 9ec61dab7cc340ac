"""Which pictures the network that learns from them still gets wrong: these are drawn more often.

Most photographs without hands teach nothing any more once meadows and walls are known. What is left are
paws, wings and lamps, each of them seen as seldom as every meadow. Nor do most photographs of hands, once
open palms are known: what is left are thumbs that are taken for fingers, and hands that are not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from handos_ros.hand_model.model import HandModel
from handos_ros.hands import Hands
from handos_ros.learning.evaluation.detection import match_greedily
from handos_ros.learning.evaluation.metrics import longer_sides, point_errors
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.config import SourceConfig, TrainingConfig
from handos_ros.learning.training.data import open_source
from handos_ros.learning.training.lots import factors
from handos_ros.learning.training.monitor import pipeline_of
from handos_ros.network.handos import HandosNetwork

_FOUND = 0.5
"""Score and IoU from which on a labelled hand counts as found."""
_WRONG = 0.2
"""A joint farther off, in parts of the box's longer side, is no more wrong than one so far off."""


def hard_negatives(
    network: HandosNetwork, hand_model: HandModel, config: TrainingConfig, power: float
) -> list[list[float]]:
    """Look at all photographs without hands of the run, each process of a run at its part of them.

    Args:
        network: in evaluation mode.
        power: of the best score in each, see `lots.factors`.

    Returns:
        For each source of kind `negatives` how often each of its pictures is to be drawn, 1 for a middling
        one; nothing for other sources.
    """
    pipeline = pipeline_of(network, hand_model, min_score=0, max_hands=1)

    def best_score(sample: Sample) -> float:
        return float(pipeline(sample.image, mesh=False).scores.max(initial=0))

    return [_drawn(source, "negatives", best_score, power, network) for source in config.sources]


def hard_hands(
    network: HandosNetwork, hand_model: HandModel, config: TrainingConfig, power: float
) -> list[list[float]]:
    """Likewise at all photographs of hands, sources of kind `coco`; `power` is of each one's `error`."""
    pipeline = pipeline_of(network, hand_model, min_score=_FOUND)

    def how_wrong(sample: Sample) -> float:
        return error(sample, pipeline(sample.image, mesh=False))

    return [_drawn(source, "coco", how_wrong, power, network) for source in config.sources]


def error(sample: Sample, hands: Hands) -> float:
    """How wrong the worst labelled hand of a picture is, 0 to 1.

    A hand that was not found is wrong by 1; of one that was, each labelled joint by its distance in parts of
    the box's longer side over 0.2, at most 1, and the mean counts. A picture without labelled hands is right.
    """
    if not len(sample):
        return 0.0
    chosen = match_greedily(sample.boxes, hands.boxes, hands.scores, _FOUND)
    wrong = np.ones(len(sample))
    for hand, label in enumerate(chosen):
        if label < 0:
            continue
        off = point_errors(hands.joints_2d[hand], sample.joints_2d[label]) / longer_sides(sample.boxes)[label]
        weights = sample.joints_2d_weight[label]
        wrong[label] = (np.minimum(off / _WRONG, 1) * weights).sum() / max(weights.sum(), 1e-9)
    return float(wrong.max())


def merged(known: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> list[list[float]]:
    """What was found of each source, and where nothing was, what is known."""
    before = [*known, *[[]] * (len(found) - len(known))]
    return [list(new or old) for new, old in zip(found, before, strict=True)]


def _drawn(
    source: SourceConfig, kind: str, value: Callable[[Sample], float], power: float, network: HandosNetwork
) -> list[float]:
    """How often each picture of a source of this kind is to be drawn, by its value; nothing for others.

    Each value is asked for in one of the run's processes.
    """
    if source.kind != kind:
        return []
    pictures = open_source(source)
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if several else (0, 1)
    values = torch.zeros(len(pictures))
    for number in range(rank, len(pictures), world):
        values[number] = value(pictures[number])
    if several:
        device = next(network.parameters()).device
        values = values.to(device)
        torch.distributed.all_reduce(values)
    return factors(values.cpu().numpy().astype(np.float64), power).tolist() if len(pictures) else []
