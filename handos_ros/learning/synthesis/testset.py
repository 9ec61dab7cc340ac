"""The fixed synthetic test set: a seed and a count, so that everybody scores on the same pictures."""

from __future__ import annotations

import torch

from handos_ros.hand_model.model import HandModel
from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands

SEED = 20_000_003
"""Far from the seeds that anybody trains with (training renders with seed 0)."""
COUNT = 1000


def synthetic_test_set(
    backgrounds: str | None = None, *, hand_model: HandModel | None = None, device: torch.device | str = "cpu"
) -> SyntheticHands:
    """The test set's pictures: `sample(0)` to `sample(COUNT - 1)`.

    Args:
        backgrounds: folder of photographs; scores with and without one cannot be compared.
    """
    return SyntheticHands(
        SynthesisConfig(backgrounds=backgrounds), SEED, hand_model=hand_model, device=device
    )
