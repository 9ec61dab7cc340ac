"""Scores after calibration: their order stays, and 0.5 is where hands and the rest are told apart best."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import pictures, tiny_network  # noqa: E402
from tiny_training import changed, tiny_run  # noqa: E402

from handos_ros.errors import DataError, ModelError  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.learning.training import calibration  # noqa: E402
from handos_ros.learning.training.calibration import best_threshold, calibrate  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402
from handos_ros.network.weights import load_network  # noqa: E402


def test_the_cut_lies_between_hands_and_the_rest():
    scores, correct = [0.9, 0.3, 0.28, 0.1], [True, True, True, False]
    assert best_threshold(scores, correct, 3) == pytest.approx(0.19)


def test_a_false_hand_is_taken_where_more_true_ones_lie_below_it():
    # F1 of the first 1, 2, 3, 4: 0.4, 0.33, 0.57, 0.75.
    assert best_threshold([0.8, 0.7, 0.6, 0.5], [True, False, True, True], 4) == pytest.approx(0.25)
    # With many more false ones above them it is not.
    scores = np.linspace(0.9, 0.1, 30)
    assert best_threshold(scores, [True] + [False] * 27 + [True] * 2, 3) == pytest.approx(
        (scores[0] + scores[1]) / 2
    )


def test_equal_scores_are_cut_together():
    assert best_threshold([0.6, 0.6, 0.2], [True, False, False], 1) == pytest.approx(0.4)


def test_the_threshold_stays_where_a_logit_is_finite_and_none_is_none():
    assert best_threshold([0.001], [True], 1) == calibration.LEAST_SCORE
    assert best_threshold([0.9], [False], 3) is None and best_threshold([], [], 3) is None


@pytest.mark.parametrize("kind", ["d_fine", "rt_detr", "rt_detr_v2"])
def test_scores_are_shifted_and_nothing_else(kind):
    network = tiny_network(kind)
    with torch.no_grad():
        before = network.detect(pictures(2))
        network.detector.shift_scores(1.5)
        after = network.detect(pictures(2))
    torch.testing.assert_close(after.logits, before.logits + 1.5)
    torch.testing.assert_close(after.boxes, before.boxes)


def test_scores_that_come_from_words_are_refused_by_name():
    with pytest.raises(ModelError, match="grounding_dino cannot be shifted; leave out `calibrate`"):
        tiny_network("grounding_dino").detector.shift_scores(1.0)


@pytest.mark.parametrize(
    ("measured", "raised", "lowered"),
    [
        (0.25, np.log(3), 0),  # A score of 0.25 becomes one of 0.5, and is looked at more closely.
        (0.75, 0, np.log(3)),  # What is looked at stays the same, what is said of it does not.
        (0.5, 0, 0),
        (None, 0, 0),
    ],
)
def test_a_network_is_shifted_by_what_was_measured(tmp_path, monkeypatch, measured, raised, lowered):
    network = tiny_network(frozen=False).eval()
    detector, decoder = network.detector.model.model.decoder.class_embed[-1], network.decoder.presence[2]
    before = detector.bias.item(), decoder.bias.item()
    monkeypatch.setattr(calibration, "best_threshold", lambda scores, correct, hands: measured)
    assert calibrate(network, load_hand_model(), changed(tiny_run(tmp_path), calibrate=3)) == measured
    assert detector.bias.item() - before[0] == pytest.approx(raised, abs=1e-5)
    assert before[1] - decoder.bias.item() == pytest.approx(lowered, abs=1e-5)


def test_of_cuts_that_are_as_good_the_lowest_is_taken():
    # One hand in ten thousand more and two false ones: F1 is the same but for the fourth digit.
    scores = np.concatenate([np.full(9990, 0.9), [0.7, 0.6, 0.5], np.full(300, 0.2)])
    correct = np.concatenate([np.ones(9990, bool), [False, False, True], np.zeros(300, bool)])
    assert best_threshold(scores, correct, 10_000) == pytest.approx(0.35)


def test_weights_are_calibrated_at_the_end_of_a_run_and_checkpoints_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "best_threshold", lambda scores, correct, hands: 0.25)
    run = tiny_run(tmp_path)

    def bias(folder, **changes):
        finished = train(changed(run, **changes), load_hand_model(), Run(tmp_path / folder, progress=False))
        assert finished
        network, _ = load_network(tmp_path / folder / "weights.safetensors")
        return network.detector.model.model.decoder.class_embed[-1].bias.item()

    plain = bias("a")
    assert bias("b", calibrate=3) - plain == pytest.approx(np.log(3), abs=1e-3)
    # Once more from the checkpoint: not shifted twice.
    assert bias("b", calibrate=3) - plain == pytest.approx(np.log(3), abs=1e-3)


def test_a_run_without_photographs_cannot_be_calibrated(tmp_path):
    with pytest.raises(DataError, match=r"calibrate .* needs a source of kind coco or negatives"):
        tiny_run(tmp_path, sources=[{"kind": "synthesis", "share": 1.0}], calibrate=5)
