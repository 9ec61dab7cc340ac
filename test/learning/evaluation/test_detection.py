"""Matching and average precision against hand-made cases and a second, slow implementation."""

import numpy as np
import pytest

from handos_ros.learning.evaluation import detection


def test_iou_by_hand():
    got = detection.iou_matrix(
        [[0, 0, 10, 10]], [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 7]]
    )
    np.testing.assert_allclose(got, [[1, 1 / 3, 0, 0.1]])


def test_the_surer_box_takes_the_hand():
    labels = [[0, 0, 10, 10]]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8]]
    assert detection.match_greedily(labels, boxes, [0.5, 0.9]).tolist() == [-1, 0]


def test_a_box_takes_the_hand_that_it_overlaps_most():
    labels = [[0, 0, 10, 10], [1, 0, 11, 10]]
    boxes = [[1, 0, 11, 10], [0, 0, 10, 10]]
    assert detection.match_greedily(labels, boxes, [0.9, 0.8]).tolist() == [1, 0]


def test_a_box_falls_back_to_a_hand_that_is_still_free():
    labels = [[0, 0, 10, 10], [2, 0, 12, 10]]
    boxes = [[0, 0, 10, 10], [0.5, 0, 10.5, 10]]
    assert detection.match_greedily(labels, boxes, [0.9, 0.8]).tolist() == [0, 1]


def test_half_an_overlap_is_enough_and_less_is_not():
    assert detection.match_greedily([[0, 0, 10, 10]], [[0, 0, 10, 5]], [1]).tolist() == [0]
    assert detection.match_greedily([[0, 0, 10, 10]], [[0, 0, 10, 4.9]], [1]).tolist() == [-1]


def test_nothing_matches_nothing():
    assert detection.match_greedily([], [[0, 0, 1, 1]], [1]).tolist() == [-1]
    assert detection.match_greedily([[0, 0, 1, 1]], [], []).tolist() == []


def slow_average_precision(scores, correct, num_labels):
    """For each of the 101 recalls, the best precision at that recall or beyond, by trying every cut."""
    points = []
    for cut in sorted(set(scores), reverse=True):
        taken = [c for s, c in zip(scores, correct, strict=True) if s >= cut]
        points.append((sum(taken) / num_labels, sum(taken) / len(taken)))
    best = [max((p for r, p in points if r >= i / 100 - 1e-12), default=0.0) for i in range(101)]
    return sum(best) / 101


@pytest.mark.parametrize("seed", range(5))
def test_ap_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    scores, correct = rng.permutation(60) / 60, rng.random(60) < 0.6
    num = int(correct.sum()) + 9
    assert detection.average_precision(scores, correct, num) == pytest.approx(
        slow_average_precision(scores.tolist(), correct.tolist(), num)
    )


def test_ap_of_perfect_hopeless_and_empty():
    assert detection.average_precision([0.9, 0.8], [True, True], 2) == 1
    assert detection.average_precision([0.9, 0.8], [False, False], 2) == 0
    assert detection.average_precision([], [], 2) == 0
    assert np.isnan(detection.average_precision([0.9], [False], 0))


def test_ap_by_hand():
    # right, wrong, right of 4 labels: precision 1 up to recall 1/4, 2/3 up to 1/2, 0 beyond.
    want = (26 * 1 + 25 * 2 / 3) / 101
    assert detection.average_precision([0.9, 0.8, 0.7], [True, False, True], 4) == pytest.approx(want)


def test_unlabelled_hands_of_an_open_picture_are_no_errors():
    hand, other = [0, 0, 10, 10], [50, 50, 60, 60]
    picture = ([hand], [hand, other], [0.8, 0.9])
    assert detection.coco_average_precision([(*picture, True)], 0.5) == pytest.approx(0.5)
    assert detection.coco_average_precision([(*picture, False)], 0.5) == 1
