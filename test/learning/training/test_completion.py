"""Photographs that may show unlabelled hands count as complete where nothing else looks like one."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import tiny_network  # noqa: E402
from tiny_training import changed, tiny_run, write_photographs  # noqa: E402

from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.learning.training.checkpoint import load_checkpoint  # noqa: E402
from handos_ros.learning.training.completion import belongs, complete_pictures  # noqa: E402
from handos_ros.learning.training.data import Mixture  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402

LABELS = np.array([[10, 10, 50, 50], [100, 20, 140, 60]], np.float32)
COUNT = 5


@pytest.mark.parametrize(
    ("candidate", "is_theirs"),
    [
        ((12, 8, 52, 52), True),
        ((104, 26, 120, 44), True),  # a part of the second
        ((0, 0, 70, 70), True),  # around the first
        ((60, 10, 98, 50), False),
        ((40, 40, 80, 80), False),  # beside the first, touching it
    ],
)
def test_a_box_is_a_labelled_hand_s_where_they_share_much(candidate, is_theirs):
    assert belongs(np.array(candidate, np.float32), LABELS) is is_theirs


def test_without_labelled_hands_every_box_is_another():
    assert not belongs(LABELS[0], LABELS[:0])


def unlabelled(folder):
    """Photographs of which nothing is known: no hand is labelled, any may be there."""
    path = write_photographs(folder / "photographs", COUNT, exhaustive=False)
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    return [{"kind": "coco", "share": 1.0, "annotations": str(path)}]


def seen_at(score, config):
    return complete_pictures(tiny_network(frozen=False).eval(), load_hand_model(), config, score)


def test_pictures_in_which_another_hand_may_be_seen_are_left_as_they_are(tmp_path):
    config = tiny_run(tmp_path, sources=unlabelled(tmp_path))
    assert seen_at(0.9999, config) == [list(range(COUNT))]
    assert seen_at(1e-6, config) == [[]]


def test_a_network_that_misses_the_labelled_hands_does_not_say_that_there_are_no_others(tmp_path):
    path = write_photographs(tmp_path / "photographs", COUNT, exhaustive=False)
    config = tiny_run(tmp_path, sources=[{"kind": "coco", "share": 1.0, "annotations": str(path)}])
    assert seen_at(0.9999, config) == [[]]


def test_pictures_that_are_fully_labelled_already_are_not_looked_at(tmp_path):
    assert seen_at(0.9999, tiny_run(tmp_path)) == [[]]


def test_the_detector_learns_from_pictures_that_count_as_complete(tmp_path):
    config = tiny_run(tmp_path, sources=unlabelled(tmp_path), batch=4, mosaic=0)
    before, after = (Mixture(config, config.stages[0], completed=done) for done in ([], [[0, 1, 2, 3, 4]]))
    assert not before[0].images.any()
    assert after[0].images.flatten(1).any(1).all() and after[0].exhaustive.all()


def test_a_stage_completes_the_photographs_once_and_keeps_what_it_found(tmp_path):
    stages = [
        {"name": "before", "steps": 1, "detector": True},
        {"name": "after", "steps": 2, "detector": True, "complete": 0.9999},
    ]
    config = tiny_run(tmp_path, sources=unlabelled(tmp_path), stages=stages)
    bounds = Run(tmp_path / "run", progress=False, checkpoint_every=1)
    train(changed(config, stages=config.stages[:1]), load_hand_model(), bounds)
    assert load_checkpoint(tmp_path / "run" / "checkpoints")["completed"] == []
    assert train(config, load_hand_model(), bounds)
    assert load_checkpoint(tmp_path / "run" / "checkpoints")["completed"] == [list(range(COUNT))]
