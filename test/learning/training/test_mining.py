"""Photographs without hands come the more often the more the network takes them for one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import tiny_network  # noqa: E402
from tiny_training import changed, tiny_run, write_photographs  # noqa: E402

from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.learning.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from handos_ros.learning.training.data import Mixture  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402
from handos_ros.learning.training.lots import factors  # noqa: E402
from handos_ros.learning.training.mining import hard_negatives  # noqa: E402

COUNT = 7


@pytest.fixture
def config(tmp_path):
    hands, rooms = (write_photographs(tmp_path / name, COUNT).parent for name in ("people", "rooms"))
    sources = [
        {"kind": "coco", "share": 1.0, "annotations": str(hands / "annotations.json")},
        {"kind": "negatives", "share": 1.0, "images": str(rooms / "images"), "exclude": [0]},
    ]
    stages = [
        {"name": "before", "steps": 1, "detector": True},
        {"name": "after", "steps": 2, "detector": True, "hard": 2.0},
        {"name": "later", "steps": 1, "detector": True},
    ]
    return tiny_run(tmp_path, sources=sources, stages=stages, batch=4, mosaic=0)


def test_factors_rise_with_the_score_within_limits():
    scores = np.array([0.01, 0.1, 0.2, 0.3, 0.9])
    np.testing.assert_allclose(factors(scores, 2.0), [0.25, 0.25, 1, 2.25, 4])
    np.testing.assert_allclose(factors(scores, 0.5), [0.25, 0.5**0.5, 1, 1.5**0.5, 4.5**0.5])
    assert (factors(scores, 0.0) == 1).all()
    assert (factors(np.zeros(3), 1.0) == 0.25).all()


def test_every_picture_without_hands_is_looked_at(config):
    network = tiny_network(frozen=False).eval()
    people, rooms = hard_negatives(network, load_hand_model(), config, 1.0)
    assert people == [] and len(rooms) == COUNT - 1
    assert min(rooms) < 1 < max(rooms) and np.median(rooms) == pytest.approx(1, abs=0.2)


def test_what_is_hard_is_drawn_more_often(config):
    rooms = [1.0] * (COUNT - 2) + [COUNT - 2.0]

    def share(hard):
        mixture = Mixture(config, config.stages[1], hard=hard)
        drawn = [s for step in range(60) for s in mixture[step].sources if s.startswith("negative")]
        assert len(drawn) == 120
        return np.mean([source == f"negative:{COUNT - 1:03d}.png" for source in drawn])

    assert share([]) == pytest.approx(1 / (COUNT - 1), abs=0.08)
    assert share([[], rooms]) == pytest.approx(0.5, abs=0.1)
    assert share([[], rooms[:-1]]) == share([]), "another folder than was looked at"


def test_a_stage_looks_once_and_those_that_follow_keep_what_it_found(config, tmp_path):
    bounds = Run(tmp_path / "run", progress=False, checkpoint_every=1)
    folder = tmp_path / "run" / "checkpoints"
    train(changed(config, stages=config.stages[:1]), load_hand_model(), bounds)
    state = load_checkpoint(folder)
    assert state["hard"] == []
    # As a checkpoint of a version that did not look.
    del state["hard"]
    save_checkpoint(folder, state["total"], state)
    train(changed(config, stages=config.stages[:2]), load_hand_model(), bounds)
    found = load_checkpoint(folder)["hard"]
    assert found[0] == [] and len(found[1]) == COUNT - 1 and len(set(found[1])) > 2
    assert train(config, load_hand_model(), bounds)
    assert load_checkpoint(folder)["hard"] == found
