"""The protocols against their official definitions written out by hand, and submissions there and back."""

import json

import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, RIGHT
from handos_ros.inference.joints import JointPipeline, Joints
from handos_ros.inference.pipeline import Pipeline
from handos_ros.learning.evaluation import benchmark_report, benchmarks, published
from handos_ros.learning.evaluation.benchmarks import Poses
from handos_ros.learning.evaluation.predictions import Prediction
from handos_ros.learning.sample import Sample
from standin import StandInBackend, draw_disc, standin_hand_model, standin_pipeline

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
    projected = np.where(np.isinf(errors), np.inf, 7.0)
    scores = benchmarks.hint_scores(errors, projected, boxes, weight, visibility, np.array([1.0, np.nan]))
    assert scores["projected_all@0.05"] == 0
    assert scores["projected_all@0.1"] == pytest.approx(100 * (1 + 20 * 0.5) / 21)
    assert scores["all@0.05"] == pytest.approx(100 * (1 + 20 * 0.5) / 21)
    assert scores["visible@0.05"] == pytest.approx(50) and scores["occluded@0.05"] == pytest.approx(100)
    assert scores["found"] == 0.5 and scores["side_accuracy"] == 1
    assert set(published.HINT_COLUMNS) <= set(scores)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ([np.nan, np.nan], None),  # a 2D model
        ([np.inf, np.nan], None),  # one that also missed a hand
        ([np.inf, np.inf], 0),  # nothing found
        ([1.0, np.nan], 50),  # a hand that lies behind the camera is wrong
        ([1.0, np.inf], 50),
    ],
)
def test_projected_joints_are_wrong_where_one_hand_has_none_and_no_row_where_all_have_none(said, score):
    errors, ones = np.zeros((2, 21)), np.ones((2, 21))
    projected = np.repeat(np.array(said)[:, None], 21, 1)
    boxes = np.array([[0, 0, 100, 50.0], [0, 0, 100, 100]])
    scores = benchmarks.hint_scores(errors, projected, boxes, ones, ones, np.ones(2))
    assert scores["projected_all@0.05"] == score and scores["all@0.05"] == 100
    assert scores["projected_occluded@0.05"] is None  # no joint is


def test_a_hand_found_without_joints_is_wrong_and_not_unlabelled():
    sample = Sample.labelled(
        np.zeros((9, 9, 3), np.uint8), [[0, 0, 8, 8]], handedness=[1], joints_2d=np.ones((1, 21, 2))
    )
    nothing = np.full((1, 21, 3), np.nan)
    said = Prediction(
        np.array([[0, 0, 8, 8.0]]), np.ones(1), np.array([1]), nothing[..., :2], nothing, nothing[..., :2]
    )
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
    assert outcome.errors_projected.max() < 8


class FarOff(StandInBackend):
    """Its camera query sees the wrist 20 px to the right of where the 2D joints have it."""

    def decode(self, detections, queries, boxes):
        decoded = super().decode(detections, queries, boxes)
        decoded.root_2d = decoded.root_2d + np.float32([20 / 320, 0])
        return decoded


def test_projected_joints_are_those_of_the_networks_own_camera():
    """Moved onto the 2D joints, as users get them, they would say nothing that these do not."""
    pipeline = Pipeline(FarOff(), standin_hand_model(), model_id="far off")
    outcome = benchmarks.gathered(list(benchmarks.run(pipeline, Discs(), given_boxes=True, single=False)))
    assert outcome.errors_2d.max() < 3
    assert np.abs(outcome.errors_projected - 20).max() < 8
    assert pipeline.reproject
    seen = pipeline(Discs()[0].image)
    again = seen.camera.project(seen.joints_3d)
    assert np.linalg.norm(again - seen.joints_2d, axis=-1).max() < 8


class InTwoDimensions:
    """A 2D model of the discs, that names its boxes."""

    def __init__(self, off=0.0):
        self.whole, self.off = standin_pipeline(), off

    def __call__(self, image, *, boxes=None):
        hands = self.whole(image, boxes=boxes)
        return Joints(hands.boxes, hands.scores, hands.joints_2d + self.off, hands.joint_scores)


@pytest.mark.parametrize("given_boxes", [True, False])
def test_a_2d_model_is_scored_by_its_2d_joints_alone(given_boxes):
    outcome = benchmarks.gathered(
        list(benchmarks.run_2d(InTwoDimensions(off=6.0), Discs(), given_boxes=given_boxes))
    )
    assert outcome.numbers == [0, 1]
    np.testing.assert_allclose(outcome.errors_2d, 6 * np.sqrt(2), atol=2)
    assert np.isnan(outcome.errors_projected).all() and np.isnan(outcome.side_right).all()
    scores = benchmark_report.BENCHMARKS["hint_newdays"].score(outcome)
    assert scores["found"] == 1 and scores["side_accuracy"] is None and scores["projected_all@0.1"] is None
    assert scores["all@0.05"] < 50 and scores["all@0.15"] == 100


def test_the_table_has_a_row_for_2d_and_one_for_projected_joints_where_there_are_any():
    run = benchmarks.run(standin_pipeline(), Discs(), given_boxes=True, single=False)
    scores = benchmark_report.BENCHMARKS["hint_ego4d"].score(benchmarks.gathered(list(run)))
    lines = benchmark_report.table("hint_ego4d", scores, "mine").splitlines()
    published_rows = lines.index(next(line for line in lines if line.startswith("HandOS projected")))
    assert lines[published_rows + 1].startswith("---")
    assert [line[:15] for line in lines[published_rows + 2 : -1]] == ["mine, 2D       ", "mine, projected"]
    assert lines[-1].startswith("found 1.000") and "projected" not in lines[-1]
    run = benchmarks.run_2d(InTwoDimensions(), Discs(), given_boxes=True)
    scores = benchmark_report.BENCHMARKS["hint_ego4d"].score(benchmarks.gathered(list(run)))
    table = benchmark_report.table("hint_ego4d", scores, "mine")
    assert "mine, 2D" in table and "mine, projected" not in table


def test_a_2d_model_has_no_score_in_3d():
    pipeline = JointPipeline(StandInBackend(), model_id="flat")
    with pytest.raises(DataError, match="freihand is scored in 3D"):
        benchmark_report.run_network("freihand", Discs(), pipeline, true_boxes=False)


def test_labels_of_which_only_some_have_a_mesh_give_no_mesh_score():
    discs = Discs()
    discs.samples[1].has_vertices[:] = False
    for chosen, has in (([0], True), ([0, 1], False)):
        run = benchmarks.run(standin_pipeline(), discs, given_boxes=True, single=False, indices=chosen)
        outcome = benchmarks.gathered(list(run))
        scores = benchmarks.dexycb_scores(outcome.said, outcome.joints, outcome.vertices)
        assert (scores["pa_mpvpe_mm"] is not None) == has and scores["pa_mpjpe_mm"] is not None


def test_labels_without_3d_joints_give_no_score_in_3d():
    """Aligned to zeros, whatever is said is exactly right."""

    def outcome(known):
        sample = Sample.labelled(
            np.zeros((8, 8, 3), np.uint8),
            [[0, 0, 8, 8]],
            handedness=[RIGHT],
            joints_3d=JOINTS[:1] if known else np.zeros((1, 21, 3)),
            has_joints_3d=[known],
        )
        return benchmarks.gathered(list(benchmarks.labels([sample])))

    for name in ("freihand", "ho3d_v3", "dexycb"):
        scores = benchmark_report.BENCHMARKS[name].score(outcome(False))
        assert scores.pop("found") == 0 and set(scores.values()) == {None}
        assert benchmark_report.BENCHMARKS[name].score(outcome(True))["pa_mpjpe_mm"] > 1
        assert "ours" in benchmark_report.table(name, {**scores, "found": 0.0}, "ours")


def test_meshes_scored_in_blocks_are_scored_as_one(monkeypatch):
    said = Poses(JOINTS, MESHES + RNG.normal(0, 0.004, MESHES.shape), ALL)
    whole = benchmarks.freihand_scores(said, JOINTS, MESHES)
    monkeypatch.setattr(benchmarks, "_BLOCK", 3)
    assert benchmarks.freihand_scores(said, JOINTS, MESHES) == pytest.approx(whole)
    assert 0 < whole["f@5"] < 1 and whole["pa_mpvpe_mm"] > 1


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
