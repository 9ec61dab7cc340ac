"""The node with the tests' stand-in network in place of one with weights."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

from handos_ros.hand_model.model import load_hand_model
from handos_ros.ros.node import main
from standin import standin_pipeline


def load(model: str = "", *, min_score: float = 0.5, max_hands: int = 10, **_: object):
    """As `Pipeline.load`; there is but one stand-in, so the other arguments choose nothing."""
    return standin_pipeline(hand_model=load_hand_model(), min_score=min_score, max_hands=max_hands)


if __name__ == "__main__":
    sys.exit(main(pipeline_factory=load))
