"""The protocols against their official definitions written out by hand, and submissions there and back."""

import json

import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, RIGHT
from handos_ros.learning.evaluation import benchmarks, published
from handos_ros.learning.evaluation.benchmarks import Poses
from handos_ros.learning.evaluation.predictions import Prediction
from handos_ros.learning.sample import Sample
from standin import draw_disc, standin_pipeline

RNG = np.random.default_rng(0)
JOINTS = RNG.normal((0, 0, 0.6), 0.04, (4, 21, 3))
MESHES = RNG.normal((0, 0, 0.6), 0.04, (4, 30, 3))
ALL = np.ones(4, bool)


def test_freihand_of_the_truth_and_of_the_zero_predictor():
    perfect = benchmarks.freihand_scores(Poses(JOINTS, MESHES, ALL), JOINTS, MESHES)
    assert perfect["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-4) and perfect["f@5"] == perfect["auc"] == 1
    zero = benchmarks.freihand_scores(Poses(JOINTS * 0, MESHES * 0, ~ALL), JOINTS, MESHES)
    # Nothing can be aligned but the mean: what is left is the spread of the true points.
    spread = np.linalg.norm(JOINTS - JOINTS.mean(1, keepdims=True), axis=2).mean()
    assert zero["pa_mpjpe_mm"] == pytest.approx(1000 * spread)
    assert zero["mpjpe_mm"] == pytest.approx(1000 * np.linalg.norm(JOINTS, axis=2).mean())
    assert zero["found"] == 0


def test_meshes_of_another_model_have_no_mesh_scores():
    scores = benchmarks.freihand_scores(Poses(JOINTS, MESHES[:, :9], ALL), JOINTS, MESHES)
    assert scores["f@5"] is None and scores["pa_mpvpe_mm"] is None and scores["pa_mpjpe_mm"] < 1e-3


def test_ho3d_forgives_scale_by_the_bone_from_wrist_to_middle_finger():
    scores = benchmarks.ho3d_scores(Poses(JOINTS * 3, MESHES, ALL), JOINTS, MESHES)
    assert scores["st_mpjpe_mm"] == pytest.approx(0, abs=1e-6) and scores["mpjpe_mm"] > 100


def test_dexycb_is_absolute_root_relative_and_aligned():
    further = JOINTS + np.array([0, 0, 0.03])
    moved = benchmarks.dexycb_scores(Poses(further, MESHES[:, :0], ALL), JOINTS, MESHES[:, :0])
    assert moved["mpjpe_mm"] == pytest.approx(30) and moved["rr_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert moved["auc"] > 0.99 and 0.3 < moved["absolute_auc"] < 0.5
    assert moved["rr_auc"] > 0.99


def test_hint_averages_joints_and_tells_visible_from_occluded():
    errors = np.full((2, 21), 4.0)
    errors[1] = np.inf
    visibility = np.ones((2, 21))
    visibility[:, 0] = 0
    weight = np.ones((2, 21))
    weight[1, 0] = 0.4  # not sure enough: joint 0 counts for one hand only
    boxes = np.array([[0, 0, 100, 50.0], [0, 0, 100, 100]])
    scores = benchmarks.hint_scores(errors, boxes, weight, visibility, np.array([1.0, np.nan]))
    assert scores["all@0.05"] == pytest.approx(100 * (1 + 20 * 0.5) / 21)
    assert scores["visible@0.05"] == pytest.approx(50) and scores["occluded@0.05"] == pytest.approx(100)
    assert scores["found"] == 0.5 and scores["side_accuracy"] == 1
    assert set(published.HINT_COLUMNS) <= set(scores)


def test_a_hand_found_without_joints_is_wrong_and_not_unlabelled():
    sample = Sample.labelled(
        np.zeros((9, 9, 3), np.uint8), [[0, 0, 8, 8]], handedness=[1], joints_2d=np.ones((1, 21, 2))
    )
    nothing = np.full((1, 21, 3), np.nan)
    said = Prediction(np.array([[0, 0, 8, 8.0]]), np.ones(1), np.array([1]), nothing[..., :2], nothing)
    outcome = benchmarks.judged(sample, said, 0)
    assert np.isinf(outcome.errors_2d).all() and outcome.side_right.tolist() == [1]


class Discs:
    """A benchmark of discs: the pictures' true boxes and joints are the stand-in's own."""

    def __init__(self):
        self.samples = []
        pipeline = standin_pipeline()
        for hands in ([(100, RIGHT)], [(210, LEFT), (80, RIGHT)], []):
            picture = np.zeros((240, 320, 3), np.uint8)
            for x, side in hands:
                draw_disc(picture, (x, 120), 70, side)
            found = pipeline(picture)
            first = found.select([int(np.argmax(found.boxes[:, 0]))]) if hands else found
            n = len(first)
            self.samples.append(
                Sample.labelled(
                    picture, first.boxes, handedness=first.handedness, joints_2d=first.joints_2d,
                    joints_3d=first.joints_3d, vertices=first.vertices, visibility=np.ones((n, 21)),
                )
            )  # fmt: skip

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.mark.parametrize("given_boxes", [True, False])
def test_a_network_that_is_right_scores_full_marks(given_boxes):
    outcome = benchmarks.gathered(
        list(benchmarks.run(standin_pipeline(), Discs(), given_boxes=given_boxes, single=False))
    )
    assert outcome.numbers == [0, 1]  # the picture without a hand is no sample
    scores = benchmarks.freihand_scores(outcome.said, outcome.joints, outcome.vertices)
    assert scores["found"] == 1 and scores["pa_mpjpe_mm"] < 1
    assert outcome.errors_2d.max() < 3 and outcome.side_right.tolist() == [1, 1]


def test_a_network_that_sees_nothing_is_scored_as_zeros():
    outcome = benchmarks.gathered(
        list(benchmarks.run(standin_pipeline(hands=0), Discs(), given_boxes=False, single=True))
    )
    assert not outcome.said.found.any() and (outcome.said.joints == 0).all()
    assert np.isinf(outcome.errors_2d).all() and np.isnan(outcome.side_right).all()


def test_a_benchmark_without_hands_gives_no_numbers():
    outcome = benchmarks.gathered(
        list(benchmarks.run(standin_pipeline(), Discs(), given_boxes=False, single=True, indices=[2]))
    )
    assert outcome.numbers == [] and outcome.said.joints.shape == (0, 21, 3)


@pytest.mark.parametrize("benchmark", ["freihand", "ho3d_v3", "dexycb"])
def test_submissions_come_back_as_they_were(tmp_path, benchmark):
    outcome = benchmarks.gathered(
        list(benchmarks.run(standin_pipeline(), Discs(), given_boxes=True, single=True, indices=[0, 1]))
    )
    path = tmp_path / "pred.json"
    benchmarks.write_submission(path, benchmark, outcome)
    back = benchmarks.read_submission(path, benchmark, 2)
    np.testing.assert_allclose(back.joints, outcome.said.joints, atol=1e-6)
    assert back.found.all()
    if benchmark != "dexycb":
        np.testing.assert_allclose(back.vertices, outcome.said.vertices, atol=1e-6)
    if benchmark == "ho3d_v3":  # OpenGL's axes, the thumb's base 14th
        first = np.array(json.loads(path.read_text())[0][0])
        np.testing.assert_allclose(first[13], outcome.said.joints[0, 1] * [1, -1, -1], atol=1e-6)


def test_dexycbs_csv_is_in_millimetres(tmp_path):
    path = tmp_path / "results.txt"
    path.write_text("1," + ",".join(["500"] * 63) + "\n")
    said = benchmarks.read_submission(path, "dexycb", 3)
    assert said.found.tolist() == [False, True, False]
    assert (said.joints[1] == 0.5).all() and (said.joints[0] == 0).all()


@pytest.mark.parametrize(
    ("benchmark", "content", "message"),
    [
        ("freihand", "[[1, 2], [3]]", "not .joints, vertices."),
        ("freihand", json.dumps([np.zeros((2, 21, 3)).tolist(), np.zeros((2, 5, 3)).tolist()]), "2 pictures"),
        ("dexycb", "0,1,2,3", "line 1"),
        ("dexycb", "9," + ",".join(["1"] * 63), "line 1"),
    ],
)
def test_submissions_that_do_not_fit_are_named(tmp_path, benchmark, content, message):
    path = tmp_path / "pred.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        benchmarks.read_submission(path, benchmark, 3)


def test_published_rows_fit_their_columns():
    for rows in (published.FREIHAND, published.HO3D_V3):
        assert all(len(values) == len(published.MESH_COLUMNS) for _, values in rows)
    assert all(len(values) == len(published.DEXYCB_COLUMNS) for _, values in published.DEXYCB)
    for rows in published.HINT.values():
        assert all(len(values) == len(published.HINT_COLUMNS) for _, values in rows)
