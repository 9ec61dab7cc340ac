"""Which photograph of a source comes next: by chance, what is rarely seen more often than its share.

People show cameras open palms, upright. A network that sees each photograph alike learns that pose over and
over, and hardly any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.hands import LEFT
from handos_ros.learning.facing import faces
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.config import SourceConfig

_CROWD = 3
"""Hands that make a photograph one of a crowd: people have two."""
_NEIGHBOUR = 5
"""The distance to a pose's fifth neighbour tells how rare it is: nearer ones are that hand, later."""
_COMPARED = 4000
"""Poses are compared with at most so many, evenly taken: more would only take longer."""
_FACTORS = (0.25, 4.0)
"""However rare or common what it shows, a photograph is drawn at least and at most so often."""


class Lot:
    """Pictures of one source, drawn as `backs`, `crowds` and `rare` of `SourceConfig` say.

    Args:
        hard: how often each is drawn by what the network says of it (`training.mining`); empty for all alike.
    """

    def __init__(self, source: Any, config: SourceConfig, hard: Sequence[float] = ()) -> None:
        self.source = source
        self.shows_hands = config.kind != "negatives"
        # A folder that has changed meanwhile is drawn from without regard to it until it is looked at again.
        weights = np.array(hard if len(hard) and len(hard) == len(source) else [])
        if config.backs != 1 or config.crowds != 1 or config.rare:
            labels = [entry.labels for entry in source.entries]
            rare = rare_poses(labels, config.rare)
            weights = np.clip(rare * weights, *_FACTORS) if len(weights) else rare
            weights *= [config.backs if shows_a_back(each) else 1.0 for each in labels]
            weights *= [config.crowds if len(each) >= _CROWD else 1.0 for each in labels]
        self._until: NDArray[np.float64] | None = None
        if len(weights):
            self._until = np.cumsum(weights) / np.sum(weights)

    def draw(self, rng: np.random.Generator) -> Sample:
        """One of them."""
        if self._until is None:
            return self.source[int(rng.integers(len(self.source)))]
        return self.source[int(np.searchsorted(self._until[:-1], rng.random(), side="right"))]


def shows_a_back(labels: Sample) -> bool:
    """Whether the back of a hand of known side is seen."""
    backs, known = faces(labels)
    return bool((backs & known).any())


def factors(values: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """How often each of N is to be drawn: its value over the median, to this power, within limits."""
    return np.clip((values / max(float(np.median(values)), 1e-9)) ** power, *_FACTORS)


def rare_poses(pictures: Sequence[Sample], power: float) -> NDArray[np.float64]:
    """How often each picture is to be drawn: 1 for a hand of middling rarity, and where no joints are known.

    A pose is what is seen of it: the 21 joints in the picture about their mean, at one size, left hands
    mirrored. How rare it is, is its distance to the fifth nearest among all; that over the median, to this
    power, is the factor. Of several hands the rarest counts.

    Args:
        pictures: labels alone; their images are not looked at.
        power: 0 for all alike.
    """
    alike = np.ones(len(pictures))
    known = [
        (number, hand)
        for number, each in enumerate(pictures)
        for hand, weights in enumerate(each.joints_2d_weight)
        if weights.min() > 0
    ]
    if not power or len(known) <= _NEIGHBOUR:
        return alike
    poses = np.stack([_pose(pictures[number], hand) for number, hand in known])
    distances = _to_neighbour(poses)
    rarity = factors(distances, power)
    rarest = np.zeros(len(pictures))
    np.maximum.at(rarest, [number for number, _ in known], rarity)
    return np.where(rarest > 0, rarest, alike)


def _pose(labels: Sample, hand: int) -> NDArray[np.float64]:
    """(42,) the hand's joints about their mean, at one size, as of a right hand."""
    joints = labels.joints_2d[hand].astype(np.float64)
    joints = joints - joints.mean(0)
    if labels.handedness[hand] == LEFT:
        joints[:, 0] *= -1
    return (joints / max(np.sqrt((joints**2).sum(1).mean()), 1e-9)).reshape(-1)


def _to_neighbour(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) root mean square difference of (N, D) poses and their neighbour that counts."""
    step = -(-len(poses) // _COMPARED)
    others = poses[::step]
    squares = (others**2).sum(1)
    out = np.empty(len(poses))
    for first in range(0, len(poses), _COMPARED):
        part = poses[first : first + _COMPARED]
        between = (part**2).sum(1)[:, None] + squares - 2 * part @ others.T
        numbers = np.arange(first, first + len(part))
        own = numbers % step == 0
        between[own.nonzero()[0], numbers[own] // step] = np.inf
        place = min(_NEIGHBOUR, len(others) - 1) - 1
        out[first : first + len(part)] = np.partition(between, place, axis=1)[:, place]
    return np.sqrt(np.maximum(out, 0) / poses.shape[1])
