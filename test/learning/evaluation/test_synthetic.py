"""Scores on exact labels: who says the labels is perfect, and every error shows where it belongs."""

import numpy as np
import pytest

from handos_ros.hands import Hands
from handos_ros.learning.evaluation.synthetic import evaluate_samples
from handos_ros.learning.sample import Sample

K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def picture(count=2):
    rng = np.random.default_rng(4)
    joints = rng.normal(0, 0.05, (count, 21, 3)) + np.array([[-0.1, 0, 0.5], [0.1, 0, 0.8]])[:count, None]
    vertices = np.concatenate([joints + 0.01, joints - 0.01], 1)
    points = joints[..., :2] / joints[..., 2:] * 300 + (160, 120)
    boxes = np.concatenate([points.min(1), points.max(1)], 1)
    return Sample.labelled(
        np.zeros((240, 320, 3), np.uint8), boxes, k=K, handedness=[0, 1][:count], joints_2d=points,
        joints_3d=joints, vertices=vertices,
    )  # fmt: skip


def says(sample, *, moved=(0, 0, 0), scale=1.0, keep=slice(None), side=None):
    """A system that gives the labels, changed as told."""

    def pipeline(_image, camera):
        n = len(sample)
        wrist = sample.joints_3d[:, :1]
        place = lambda points: (wrist + (points - wrist) * scale + np.float32(moved)).astype(np.float32)  # noqa: E731
        return Hands(
            camera=camera, boxes=sample.boxes, scores=np.ones(n, np.float32),
            handedness=np.uint8(sample.handedness if side is None else side),
            handedness_scores=np.ones(n, np.float32), joints_2d=sample.joints_2d,
            joint_scores=np.ones((n, 21), np.float32), joints_3d=place(sample.joints_3d),
            vertices=place(sample.vertices), root_translation=place(wrist)[:, 0],
            translation_source=np.zeros(n, np.uint8), ids=np.full(n, -1, np.int32),
        ).select(np.arange(n)[keep])  # fmt: skip

    return pipeline


def test_labels_said_back_are_perfect():
    sample = picture()
    scores = evaluate_samples(says(sample), [sample])
    assert scores["hands"] == 2 and scores["recall"] == 1 and scores["side_accuracy"] == 1
    for name in ("pa_mpjpe_mm", "pa_mpvpe_mm", "mpjpe_mm", "place_error"):
        assert scores[name] == pytest.approx(0, abs=1e-3)


def test_a_wrong_place_is_seen_in_the_place_alone():
    sample = picture()
    distances = np.linalg.norm(sample.joints_3d[:, 0], axis=-1)
    scores = evaluate_samples(says(sample, moved=(0, 0, 0.1)), [sample])
    assert scores["place_error"] == pytest.approx(np.median(0.1 / distances), rel=1e-3)
    assert scores["mpjpe_mm"] == pytest.approx(0, abs=1e-3)


def test_a_wrong_size_is_seen_before_procrustes_and_not_after():
    sample = picture()
    scores = evaluate_samples(says(sample, scale=1.1), [sample])
    lengths = np.linalg.norm(sample.joints_3d - sample.joints_3d[:, :1], axis=-1)
    assert scores["mpjpe_mm"] == pytest.approx(100 * lengths.mean(), rel=1e-3)
    assert scores["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-2)


def test_a_missed_hand_and_a_wrong_side_count():
    sample = picture()
    scores = evaluate_samples(says(sample, keep=slice(1), side=[1, 1]), [sample])
    assert scores["recall"] == 0.5 and scores["side_accuracy"] == 0


def test_without_hands_there_is_nothing_to_score():
    empty = Sample.labelled(np.zeros((240, 320, 3), np.uint8), k=K)
    scores = evaluate_samples(lambda _image, camera: Hands.empty(camera, 42), [empty])
    assert scores["hands"] == 0 and np.isnan(scores["recall"]) and "mpjpe_mm" not in scores
