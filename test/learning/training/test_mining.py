"""What the network still gets wrong comes more often: false hands, and hands that are misplaced or missed."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import tiny_network  # noqa: E402
from tiny_training import changed, tiny_run, write_photographs  # noqa: E402

from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.hands import Camera, Hands  # noqa: E402
from handos_ros.learning.sample import Sample  # noqa: E402
from handos_ros.learning.training import loop  # noqa: E402
from handos_ros.learning.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from handos_ros.learning.training.data import Mixture  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402
from handos_ros.learning.training.lots import factors  # noqa: E402
from handos_ros.learning.training.mining import error, hard_negatives, merged  # noqa: E402

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


def test_how_wrong_a_picture_is_goes_by_its_worst_hand():
    rng = np.random.default_rng(0)
    joints = rng.uniform((20, 20), (60, 60), (2, 21, 2)) + np.array([[[0, 0]], [[100, 0]]])
    boxes = np.array([[20, 20, 60, 60], [120, 20, 160, 60]])
    sample = Sample.labelled(np.zeros((100, 200, 3), np.uint8), boxes, joints_2d=joints)

    def hands(*chosen, off=0.0):
        n = len(chosen)
        return Hands(
            camera=Camera.assumed(200, 100), boxes=boxes[list(chosen)], scores=np.ones(n),
            joints_2d=(joints + np.array([off, 0]))[list(chosen)], joint_scores=np.ones((n, 21)),
            handedness=np.zeros(n), handedness_scores=np.ones(n), joints_3d=np.zeros((n, 21, 3)),
            vertices=np.zeros((n, 0, 3)), root_translation=np.zeros((n, 3)), translation_source=np.zeros(n),
            ids=np.zeros(n),
        )  # fmt: skip

    assert error(sample, hands(1, 0)) == pytest.approx(0, abs=1e-5)
    assert error(sample, hands(1, 0, off=2)) == pytest.approx(0.25)  # 2 px of 40, of which 8 are all wrong
    assert error(sample, hands(1, 0, off=12)) == pytest.approx(1)
    assert error(sample, hands(0)) == 1, "the other one is missed"
    assert error(sample.select([]), hands(0)) == 0


def test_photographs_with_wrong_hands_are_drawn_more_often(config, tmp_path):
    stages = [dataclasses.replace(config.stages[1], hard=None, hard_hands=1.0), *config.stages[2:]]
    run = changed(config, stages=tuple(stages))
    train(run, load_hand_model(), Run(tmp_path / "run", progress=False))
    people, rooms = load_checkpoint(tmp_path / "run" / "checkpoints")["hard"]
    assert len(people) == COUNT and rooms == []

    def share(hard):
        mixture = Mixture(run, run.stages[0], hard=hard)
        drawn = [s for step in range(60) for s in mixture[step].sources if s.startswith("people")]
        return np.mean([source == f"people:{COUNT - 1:03d}.png" for source in drawn])

    assert share([[*[0.25] * (COUNT - 1), 4.0]]) > 2 * share([])


def test_a_run_that_was_stopped_while_it_looked_takes_its_first_step_the_next_time(config, tmp_path):
    stages = (dataclasses.replace(config.stages[1], hard=None, hard_hands=1.0),)
    run, folder = changed(config, stages=stages), tmp_path / "run"
    assert not train(run, load_hand_model(), Run(folder, progress=False, minutes=1e-9))
    looked = load_checkpoint(folder / "checkpoints")
    assert looked["total"] == 0 and looked["hard"][0]

    def look_again(*_):
        raise AssertionError("it has looked already")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "hard_hands", look_again)
        assert train(run, load_hand_model(), Run(folder, progress=False))
    assert load_checkpoint(folder / "checkpoints")["hard"] == looked["hard"]


def test_what_one_stage_found_of_a_source_stays_when_another_looks_at_others():
    assert merged([], [[1.0], []]) == [[1.0], []]
    assert merged([[1.0], []], [[], [2.0]]) == [[1.0], [2.0]]
    assert merged([[1.0], [2.0]], [[], [3.0]]) == [[1.0], [3.0]]
