"""The protocol on pictures small enough to count by hand."""

import numpy as np
import pytest

from handos_ros.learning.datasets.coco_keypoints import PictureEntry
from handos_ros.learning.evaluation.predictions import Prediction
from handos_ros.learning.evaluation.real_pictures import evaluate
from handos_ros.learning.sample import Sample

RNG = np.random.default_rng(0)
JOINTS = RNG.uniform(0, 100, (21, 2))
SHAPE = RNG.normal(0, 0.05, (21, 3))
BOX = np.array([0.0, 0, 100, 50])  # longer side 100: PCK@0.1 is 10 px


def picture(name="set_001.jpg", hands=1, exhaustive=True, **labels):
    """`hands` hands side by side, 200 px apart."""
    offset = 200.0 * np.arange(hands)[:, None]
    labels = {
        "handedness": [1] * hands, "joints_2d": JOINTS + np.stack([offset, 0 * offset], -1),
        "joints_3d": [SHAPE] * hands, "joints_3d_absolute": [False] * hands, **labels,
    }  # fmt: skip
    boxes = BOX + offset * [1, 0, 1, 0]
    sample = Sample.labelled(np.zeros((0, 0, 3), np.uint8), boxes, exhaustive=exhaustive, **labels)
    return PictureEntry(1, name, 1000, 1000, sample)


def prediction(*hands):
    """Hands as (place, error px, score, side) in the places of `picture`."""
    place, error, score, side = (np.array([h[i] for h in hands]) for i in range(4))
    offset = 200.0 * place[:, None]
    joints = JOINTS + np.stack([offset + error[:, None], 0 * offset], -1)
    shapes = np.repeat(SHAPE[None], len(hands), 0)
    return Prediction(
        BOX + offset * [1, 0, 1, 0], score.astype(float), side, joints, shapes, np.full_like(joints, np.nan)
    )


NOTHING = Prediction(
    np.zeros((0, 4)),
    np.zeros(0),
    np.zeros(0, int),
    np.zeros((0, 21, 2)),
    np.zeros((0, 21, 3)),
    np.zeros((0, 21, 2)),
)


def scores(entry, said, **kwargs):
    return evaluate([entry], {entry.file_name: said}, **kwargs).total


def test_all_right_is_all_right():
    got = scores(picture(hands=2), prediction((0, 0, 0.9, 1), (1, 0, 0.8, 1)))
    for name in ("recall", "precision", "ap50", "ap", "pck@0.05", "pck@0.2", "side_accuracy"):
        assert got[name] == 1, name
    assert got["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-4)
    assert (got["hands"], got["hands_with_side"], got["hands_with_joints_3d"]) == (2, 2, 2)


def test_a_missed_hand_counts_as_wrong():
    got = scores(picture(hands=2), prediction((0, 7, 0.9, 0)))
    assert got["recall"] == 0.5 and got["precision"] == 1
    assert got["pck@0.05"] == 0 and got["pck@0.1"] == 0.5 and got["pck_found@0.1"] == 1
    assert got["side_accuracy"] == 0 and got["hands_with_side"] == 1


def test_sides_of_palms_and_of_backs_are_told_apart():
    """A system to which every hand shows its palm."""
    joints = np.zeros((3, 21, 2)) + 50
    # Index to the left, little finger to the right; the last hand is seen from its edge.
    joints[:, 0], joints[:, 5], joints[:, 17] = [50, 50], [30, 20], [70, 20]
    joints[2, [5, 17]] = [50, 20]
    joints += 200.0 * np.arange(3)[:, None, None] * [1, 0]
    # So a right hand's back, and a left hand's palm.
    entry = picture(hands=3, joints_2d=joints, handedness=[1, 0, 1])
    report = evaluate([entry], {entry.file_name: prediction((0, 0, 0.9, 0), (1, 0, 0.8, 0), (2, 0, 0.7, 1))})
    assert (report.total["palms"], report.total["backs"], report.total["hands_with_side"]) == (1, 1, 3)
    assert report.total["side_accuracy_palms"] == 1 and report.total["side_accuracy_backs"] == 0
    assert "Side right: 100.0 % of 1 palms, 0.0 % of 1 backs" in report.table()


def test_hands_are_compared_with_their_own_labels_whatever_the_order():
    entry = picture(hands=3, handedness=[1, 0, 1])
    got = scores(entry, prediction((5, 0, 0.95, 1), (2, 0, 0.9, 1), (1, 0, 0.8, 0), (0, 0, 0.7, 1)))
    assert got["pck@0.05"] == 1 and got["side_accuracy"] == 1
    assert got["recall"] == 1 and got["precision"] == 0.75


def test_a_false_hand_costs_precision_only_where_all_hands_are_labelled():
    said = prediction((0, 0, 0.9, 1), (3, 0, 0.95, 1))
    closed, opened = scores(picture(), said), scores(picture(exhaustive=False), said)
    assert closed["precision"] == 0.5 and closed["false_hands"] == 1 and closed["ap50"] == 0.5
    assert opened["precision"] is None and opened["false_hands"] == 0 and opened["ap50"] == 1
    assert closed["recall"] == opened["recall"] == 1


def test_a_second_box_on_the_same_hand_is_false():
    got = scores(picture(), prediction((0, 0, 0.9, 1), (0, 0, 0.8, 1)))
    assert got["recall"] == 1 and got["precision"] == 0.5


def test_unsure_hands_count_for_ap_alone():
    said = prediction((0, 0, 0.3, 1))
    got = scores(picture(), said)
    assert got["recall"] == 0 and got["precision"] is None and got["pck@0.2"] == 0 and got["ap50"] == 1
    assert scores(picture(), said, min_score=0.25)["recall"] == 1


def test_box_labels_count_for_detection_alone():
    entry = picture(
        joints_2d=None, joints_2d_weight=None, handedness=None, joints_3d=None, joints_3d_absolute=None
    )
    got = scores(entry, prediction((0, 0, 0.9, 1)))
    assert got["recall"] == 1 and got["pck@0.1"] is None and got["side_accuracy"] is None
    assert got["pa_mpjpe_mm"] is None and got["hands_with_joints"] == 0


def test_a_mirrored_hand_shows_in_the_proper_pa_only():
    said = prediction((0, 0, 0.9, 1))
    said.joints_3d = said.joints_3d * [-1, 1, 1]
    got = scores(picture(), said)
    assert got["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-4) and got["pa_mpjpe_proper_mm"] > 5


def test_a_hand_too_small_shows_in_its_size_alone():
    said = prediction((0, 0, 0.9, 1))
    said.joints_3d = said.joints_3d * 0.8
    got = scores(picture(), said)
    assert got["size"] == pytest.approx(0.8) and got["pa_mpjpe_proper_mm"] == pytest.approx(0, abs=1e-4)
    assert scores(picture(), prediction())["size"] is None


def test_a_hand_found_without_joints_has_not_placed_them():
    said = prediction((0, 0, 0.9, 1))
    said.joints_2d[:] = np.nan
    said.joints_3d[:] = np.nan
    got = scores(picture(), said)
    assert got["recall"] == 1 and got["pck@0.2"] == 0 and got["pa_mpjpe_mm"] is None


def test_sources_are_told_apart_by_file_name():
    entries = [picture("a_b_001.jpg"), picture("a_b_002.jpg"), picture("c-7.png")]
    report = evaluate(
        entries, {"a_b_001.jpg": prediction((0, 0, 0.9, 1)), "a_b_002.jpg": NOTHING, "c-7.png": NOTHING}
    )
    assert {name: s["recall"] for name, s in report.by_source.items()} == {"a_b": 0.5, "c": 0}
    assert report.total["recall"] == pytest.approx(1 / 3)


def test_pictures_without_a_prediction_are_left_out():
    report = evaluate([picture("a_1.jpg"), picture("a_2.jpg")], {"a_1.jpg": prediction((0, 0, 0.9, 1))})
    assert report.total["pictures"] == 1 and report.total["recall"] == 1


def test_false_hands_on_pictures_without_hands():
    report = evaluate(
        [picture()], {"set_001.jpg": NOTHING}, negatives=[NOTHING, prediction((0, 0, 0.9, 1), (1, 0, 0.2, 1))]
    )
    assert report.negatives == {"pictures": 2, "false_hands": 1, "false_hands_per_picture": 0.5}
    assert "1 false hands in 2 pictures" in report.table()


def test_the_table_has_a_row_for_each_source_and_one_for_all():
    report = evaluate([picture("a_1.jpg"), picture("b_1.jpg")], {"a_1.jpg": NOTHING, "b_1.jpg": NOTHING})
    rows = [line.split()[0] for line in report.table().splitlines() if line and line[0] in "ab"]
    assert rows == ["a", "b", "all"]


def test_no_pictures_give_no_numbers_and_no_error():
    report = evaluate([], {})
    assert report.total["recall"] is None and report.total["ap"] is None
    report.table()
