"""Tests of the filter: thresholds, duplicates that go, crossing hands that stay, boxes from outside."""

import numpy as np
import pytest

from handos_ros.inference.filtering import distinct, iou, match, select

HAND = np.array([
    [0, 60], [-20, 50], [-32, 40], [-40, 30], [-46, 22], [-15, 10], [-17, -10], [-18, -22], [-19, -32],
    [0, 8], [0, -14], [0, -28], [0, -40], [13, 11], [15, -9], [16, -22], [17, -33],
    [25, 18], [28, 3], [30, -7], [31, -16],
], float)  # fmt: skip
"""Joints of an open right hand about its middle, px."""


def box_of(joints):
    return np.concatenate([joints.min(-2), joints.max(-2)], -1)


def turned(angle, shift=(0, 0), mirror=False):
    c, s = np.cos(angle), np.sin(angle)
    hand = HAND * ([-1, 1] if mirror else [1, 1])
    return hand @ np.array([[c, s], [-s, c]]) + 300 + shift


def pick(boxes, scores, min_score=0.5, max_hands=10):
    return select(np.array(boxes, float), np.array(scores), 640, 480, min_score, max_hands).tolist()


def test_best_first_above_the_threshold_and_no_more_than_asked_for():
    boxes = [[100 * i, 10, 100 * i + 50, 60] for i in range(5)]
    scores = [0.6, 0.9, 0.3, 0.5, 0.7]
    assert pick(boxes, scores) == [1, 4, 0, 3]
    assert pick(boxes, scores, min_score=0.65) == [1, 4]
    # More, should one be another one again, or no hand when it is looked at closely.
    many = [[100 * i, 10, 100 * i + 50, 60] for i in range(6)] + [[10, 200, 60, 250]]
    assert pick(many, [0.6, 0.9, 0.55, 0.5, 0.7, 0.8, 0.58], max_hands=1) == [1, 5, 4, 0, 6]
    assert pick(boxes, scores, min_score=1.0) == []
    assert pick(boxes, scores, max_hands=0) == []
    assert pick(np.zeros((0, 4)), []) == []


def test_boxes_that_cannot_be_hands_go():
    boxes = [[-60, 10, -5, 60], [10, 490, 60, 560], [30, 30, 30, 60], [50, 50, 40, 40],
             [np.nan, 0, 10, 10], [-20, -20, 30, 30]]  # fmt: skip
    assert pick(boxes, [0.9] * 6) == [5]


def test_a_query_that_found_the_same_hand_goes():
    boxes = [[103, 101, 201, 202], [100, 100, 200, 200], [400, 100, 500, 200]]
    assert pick(boxes, [0.8, 0.9, 0.7]) == [1, 2]


def test_removal_is_greedy_along_a_chain():
    """The middle one goes for the first one's sake, and so cannot take the last one with it."""
    boxes = [[100, 100, 200, 200], [109, 100, 209, 200], [118, 100, 218, 200]]
    assert iou(*[np.array(boxes, float)] * 2)[0, 1] > 0.8 > iou(*[np.array(boxes, float)] * 2)[0, 2]
    assert pick(boxes, [0.9, 0.8, 0.7]) == [0, 2]


@pytest.mark.parametrize("angle", [0.6, 0.9, np.pi / 2, np.pi])
@pytest.mark.parametrize("mirror", [False, True])
def test_crossing_hands_stay_even_in_one_box(angle, mirror):
    joints = np.stack([turned(0), turned(angle, mirror=mirror)])
    boxes = box_of(joints)
    assert len(pick(boxes, [0.9, 0.8])) == 2
    shared = np.tile(box_of(joints.reshape(-1, 2)), (2, 1))
    assert distinct(joints, shared, np.array([1, 0 if mirror else 1])).all()


def test_palms_pressed_together_stay_where_the_same_side_would_go():
    joints = np.stack([turned(0), turned(0, (8, 5))])
    assert distinct(joints, box_of(joints), np.array([1, 0])).tolist() == [True, True]
    assert distinct(joints, box_of(joints), np.array([1, 1])).tolist() == [True, False]


def test_one_hand_read_as_both_sides_is_one_hand():
    joints = np.stack([turned(0), turned(0, (2, -1))])
    assert distinct(joints, box_of(joints), np.array([1, 0])).tolist() == [True, False]


def test_a_second_finding_from_half_the_box_is_the_same_hand():
    joints = np.stack([turned(0), turned(0, (4, 4))])
    boxes = box_of(joints)
    boxes[1, 3] = boxes[1, :].reshape(2, 2)[:, 1].mean()
    assert iou(boxes, boxes)[0, 1] < 0.6
    assert distinct(joints, boxes, np.array([1, 1])).tolist() == [True, False]


def test_a_second_finding_takes_no_place_from_another_hand():
    joints = np.stack([turned(0), turned(0, (4, 4)), turned(0, (250, 0)), turned(0, (-250, 0))])
    found = box_of(joints), np.ones(4)
    assert distinct(joints, *found, max_hands=2).tolist() == [True, False, True, False]
    assert distinct(joints, *found, max_hands=1).tolist() == [True, False, False, False]
    assert distinct(joints, *found).tolist() == [True, False, True, True]


def test_two_small_hands_side_by_side_stay():
    joints = np.stack([turned(0), turned(0, (60, 0))]) * 0.1
    assert distinct(joints, box_of(joints), np.array([1, 1])).all()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count):
    kept = distinct(np.zeros((count, 21, 2)), np.zeros((count, 4)), np.zeros(count))
    assert kept.tolist() == [True] * count


def test_given_boxes_take_the_candidate_that_overlaps_most():
    candidates = np.array([[0, 0, 10, 10], [100, 100, 200, 200], [90, 90, 260, 260.0]])
    given = np.array([[95, 95, 250, 250], [101, 101, 199, 199], [1, 1, 9, 9.0]])
    assert match(given, candidates).tolist() == [2, 1, 0]


def test_given_boxes_that_overlap_nothing_take_the_nearest():
    candidates = np.array([[0, 0, 10, 10], [100, 100, 110, 110], [300, 300, 310, 310.0]])
    assert match(np.array([[120, 120, 130, 130], [20, 20, 25, 25.0]]), candidates).tolist() == [1, 0]


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0.0]])
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6.0]])
    np.testing.assert_allclose(iou(a, b), [[1 / 7, 1, 0], [0, 0, 0]])
