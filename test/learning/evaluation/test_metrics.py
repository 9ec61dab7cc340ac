"""Metrics against independent implementations (scipy, brute force) and by their properties."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from handos_ros.learning.evaluation import metrics

RNG = np.random.default_rng(0)
HANDS = RNG.normal(0, 0.05, (6, 21, 3))
MIRROR = np.array([-1.0, 1, 1])


def similar(points, seed=1):
    """The same hands, each turned, scaled and moved."""
    rng = np.random.default_rng(seed)
    turns = Rotation.random(len(points), random_state=seed).as_matrix()
    scale, offset = rng.uniform(0.3, 3, (len(points), 1, 1)), rng.normal(size=(len(points), 1, 3))
    return points @ turns * scale + offset


def freihand_alignment(label, points):
    """One hand, with scipy, step by step as the benchmark's published description has it."""
    t1, t2 = label.mean(0), points.mean(0)
    a, b = label - t1, points - t2
    s1, s2 = np.linalg.norm(a), np.linalg.norm(b)
    r, s = orthogonal_procrustes(a / s1, b / s2)
    return (b / s2) @ r.T * s * s1 + t1


def test_pa_equals_scipys_procrustes():
    noisy = similar(HANDS) + RNG.normal(0, 0.02, HANDS.shape)
    ours = metrics.procrustes(noisy, HANDS, reflect=True)
    theirs = np.stack([freihand_alignment(a, b) for a, b in zip(HANDS, noisy, strict=True)])
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_the_proper_alignment_equals_scipys_rotation_fit():
    noisy = (HANDS + RNG.normal(0, 0.02, HANDS.shape)) * MIRROR
    ours = metrics.procrustes(noisy, HANDS, reflect=False)
    for aligned, label, points in zip(ours, HANDS, noisy, strict=True):
        a, b = label - label.mean(0), points - points.mean(0)
        turned = Rotation.align_vectors(a, b)[0].apply(b)
        best = turned * (turned * a).sum() / (turned**2).sum() + label.mean(0)
        np.testing.assert_allclose(aligned, best, atol=1e-6)


@pytest.mark.parametrize("reflect", [True, False])
def test_pa_does_not_change_under_a_similarity(reflect):
    noisy = HANDS + RNG.normal(0, 0.01, HANDS.shape)
    errors = metrics.pa_errors(noisy, HANDS, reflect=reflect)
    assert errors.mean() > 0.005
    np.testing.assert_allclose(metrics.pa_errors(similar(noisy), HANDS, reflect=reflect), errors, atol=1e-6)
    assert metrics.pa_errors(similar(HANDS), HANDS, reflect=reflect).max() < 1e-6


def test_a_mirrored_hand_is_perfect_officially_and_wrong_in_truth():
    mirrored = similar(HANDS * MIRROR)
    assert metrics.pa_errors(mirrored, HANDS, reflect=True).max() < 1e-6
    assert metrics.pa_errors(mirrored, HANDS, reflect=False).mean() > 0.01


def test_no_hands_have_no_error():
    none = np.zeros((0, 21, 3))
    assert metrics.pa_errors(none, none, reflect=True).shape == (0, 21)
    assert np.isnan(metrics.mean_error(metrics.point_errors(none, none)))


def test_mean_error_by_hand():
    points = np.zeros((2, 2, 3))
    points[0, 0] = [0.003, 0.004, 0]
    points[1, 1] = [0, 0, 0.01]
    assert metrics.mean_error(metrics.point_errors(points, np.zeros((2, 2, 3)))) == pytest.approx(0.015 / 4)


def test_root_relative_moves_the_root_to_zero():
    relative = metrics.root_relative(HANDS + 3.0, root=9)
    np.testing.assert_allclose(relative[:, 9], 0)
    np.testing.assert_allclose(relative[:, 4] - relative[:, 7], HANDS[:, 4] - HANDS[:, 7])


def test_scale_and_translation_are_forgiven_and_turns_are_not():
    moved = HANDS * 2.5 + 1
    np.testing.assert_allclose(metrics.scale_translation_aligned(moved, HANDS), HANDS, atol=1e-6)
    np.testing.assert_allclose(metrics.bone_scale_aligned(moved, HANDS), HANDS, atol=1e-6)
    turned = HANDS @ Rotation.from_euler("z", 30, degrees=True).as_matrix()
    assert metrics.point_errors(metrics.scale_translation_aligned(turned, HANDS), HANDS).mean() > 0.01
    assert metrics.point_errors(metrics.bone_scale_aligned(turned, HANDS), HANDS).mean() > 0.01


def test_bone_scale_by_hand():
    label, points = np.zeros((1, 21, 3)), np.zeros((1, 21, 3))
    label[0, 9], label[0, 1] = [0, 0.1, 0], [0.05, 0, 0]
    points[0, 9], points[0, 1] = [0, 0.05, 0], [0.05, 0, 0]
    aligned = metrics.bone_scale_aligned(points + 7, label)
    np.testing.assert_allclose(aligned[0, [0, 9, 1]], [[0, 0, 0], [0, 0.1, 0], [0.1, 0, 0]], atol=1e-12)


def test_f_scores_equal_brute_force():
    a, b = RNG.normal(0, 0.02, (3, 50, 3)), RNG.normal(0, 0.02, (3, 70, 3))
    got = metrics.f_scores(a, b)
    for row, p, q in zip(got, a, b, strict=True):
        d = cdist(p, q)
        for value, threshold in zip(row, (0.005, 0.015), strict=True):
            precision, recall = (d.min(1) < threshold).mean(), (d.min(0) < threshold).mean()
            assert value == pytest.approx(2 * precision * recall / (precision + recall))


def test_f_scores_of_the_same_of_far_and_of_more_tolerance():
    a = RNG.normal(0, 0.02, (2, 40, 3))
    assert (metrics.f_scores(a, a) == 1).all() and (metrics.f_scores(a, a + 9) == 0).all()
    rising = metrics.f_scores(a, a + RNG.normal(0, 0.01, a.shape), np.linspace(0.001, 0.05, 20))
    assert (np.diff(rising, axis=1) >= 0).all() and rising[0, -1] > rising[0, 0]


def test_the_threshold_of_f_is_strict_and_that_of_pck_is_not():
    a = np.zeros((1, 1, 3))
    b = np.array([[[0.25, 0, 0]]])
    assert metrics.f_scores(a, b, [0.25]) == 0
    assert metrics.pck_curve(metrics.point_errors(a, b), [0.25])[0] == 1


def test_auc_of_perfect_hopeless_and_half():
    assert metrics.auc(np.zeros((4, 21))) == pytest.approx(1)
    assert metrics.auc(np.full((4, 21), 0.2)) == 0
    assert metrics.auc(np.full((4, 21), np.inf)) == 0
    # An error between the 50th and 51st of 100 thresholds: a step up in the middle.
    middle = metrics.PCK_THRESHOLDS_3D[49:51].mean()
    assert metrics.auc(np.full((4, 21), middle)) == pytest.approx(0.5)


def test_auc_equals_brute_force_and_its_thresholds_are_the_papers():
    errors = RNG.uniform(0, 0.08, (30, 21))
    thresholds = np.linspace(0, 0.05, 100)
    np.testing.assert_array_equal(metrics.PCK_THRESHOLDS_3D, thresholds)
    curve = np.array([(errors <= t).mean(0) for t in thresholds]).mean(1)
    area = sum((curve[i] + curve[i + 1]) / 2 * (thresholds[i + 1] - thresholds[i]) for i in range(99))
    assert metrics.auc(errors) == pytest.approx(area / 0.05)


def test_2d_pck_counts_misses_as_wrong_and_leaves_out_the_unlabelled():
    errors = np.full((3, 21), 9.0)
    errors[1] = np.inf  # a hand that was not found
    errors[2, 1:] = np.nan  # one label only
    errors[2, 0] = 11.0
    boxes = [[0, 0, 50, 100], [0, 0, 100, 20], [0, 0, 100, 100]]
    # Within 10 px: joint 0 is right in 1 of 3 hands, the others in 1 of 2.
    assert metrics.pck_2d(errors, boxes, 0.1) == pytest.approx((1 / 3 + 20 / 2) / 21)
    assert np.isnan(metrics.pck_2d(np.zeros((0, 21)), np.zeros((0, 4)), 0.1))
