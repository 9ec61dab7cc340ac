"""Photographs of what is rarely seen come more often, as often as asked for."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from tiny_training import WIDTH, annotation, hand, tiny_run, write_photographs

from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.data import Mixture
from handos_ros.learning.training.lots import rare_poses, shows_a_back


def photograph(*poses, handedness=1, weight=1.0):
    """Labels of a picture with these hands, each (21, 2)."""
    joints = np.array(poses, np.float32).reshape(-1, 21, 2)
    count = len(joints)
    return Sample.labelled(
        np.zeros((8, 8, 3), np.uint8),
        boxes=np.tile(np.array([0, 0, 8, 8], np.float32), (count, 1)),
        handedness=np.full(count, handedness, np.int8),
        joints_2d=joints,
        joints_2d_weight=np.full((count, 21), weight, np.float32),
        exhaustive=True,
        source="made",
    )


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def common(rng):
    """Forty pictures of nearly one pose, anywhere at any size."""
    pose = rng.normal(size=(21, 2))
    return [
        photograph((pose + rng.normal(0, 0.1, (21, 2))) * rng.uniform(10, 90) + rng.uniform(0, 300, 2))
        for _ in range(40)
    ]


def test_a_rare_pose_counts_for_more_than_a_common_one(common, rng):
    rare = photograph(rng.normal(size=(21, 2)))
    factors = rare_poses([*common, rare], 1.0)
    assert np.median(factors) == pytest.approx(1, abs=1e-6)
    assert factors[-1] == 4 and factors[:-1].min() > 0.5 and factors[:-1].max() < 2
    mild = rare_poses([*common, rare], 0.1)
    np.testing.assert_allclose(mild[:-1], factors[:-1] ** 0.1, rtol=1e-9)
    assert (rare_poses([*common, rare], 0) == 1).all()


def test_a_left_hand_is_the_pose_of_its_mirror_image(common, rng):
    mirrored = [photograph(each.joints_2d[0] * [-1, 1] + [400, 0], handedness=0) for each in common]
    np.testing.assert_allclose(rare_poses(mirrored, 1.0), rare_poses(common, 1.0), rtol=1e-4)
    one = photograph(common[0].joints_2d[0] * [-1, 1], handedness=0)
    assert rare_poses([*common, one], 1.0)[-1] < 2, "as common as what it mirrors"
    called_right = photograph(common[0].joints_2d[0] * [-1, 1], handedness=1)
    assert rare_poses([*common, called_right], 1.0)[-1] == 4


def test_the_rarest_hand_of_a_picture_counts_and_one_without_joints_does_not(common, rng):
    rare = rng.normal(size=(21, 2))
    both = photograph(common[0].joints_2d[0], rare)
    unlabelled, nobody = photograph(rare, weight=0.0), photograph()
    factors = rare_poses([*common, both, unlabelled, nobody], 1.0)
    assert factors[-3] == 4 and factors[-2] == factors[-1] == 1
    assert (rare_poses([unlabelled, nobody], 1.0) == 1).all()


def test_many_poses_are_compared_with_some_of_them(monkeypatch, rng):
    from handos_ros.learning.training import lots

    poses = rng.normal(size=(21, 2)) + rng.normal(size=(300, 21, 2)) / 3
    poses[7] = rng.normal(size=(21, 2))
    pictures = [photograph(pose) for pose in poses]
    whole = rare_poses(pictures, 1.0)
    monkeypatch.setattr(lots, "_COMPARED", 100)
    some = rare_poses(pictures, 1.0)
    assert whole.argmax() == some.argmax() == 7
    assert np.corrcoef(whole, some)[0, 1] > 0.8
    assert some.min() > 0.5, "none is its own neighbour"


def drawn(path, tmp_path, names, **how):
    """How large a part of what is drawn the photographs of these names are."""
    sources = [{"kind": "coco", "share": 1.0, "annotations": str(path), **how}]
    config = tiny_run(tmp_path, sources=sources, batch=4, mosaic=0)
    mixture = Mixture(config, config.stages[2])
    return np.mean([s.split(":")[-1] in names for step in range(60) for s in mixture[step].sources])


def test_rare_poses_may_be_drawn_more_often(tmp_path):
    path = write_photographs(tmp_path / "photographs", count=10)
    content = json.loads(path.read_text())
    for number, label in enumerate(content["annotations"]):
        points = np.reshape(annotation(7, 0)["keypoints"], (21, 3)).astype(float)
        points[:, :2] += np.random.default_rng(number).normal(0, 0.5, (21, 2))
        if number == 4:
            points[:, 1] = points[::-1, 1]
        label["keypoints"] = points.ravel().tolist()
    path.write_text(json.dumps(content))
    assert drawn(path, tmp_path, {"004.png"}) == pytest.approx(1 / 10, abs=0.06)
    assert drawn(path, tmp_path, {"004.png"}, rare=1.0) == pytest.approx(4 / 13, abs=0.08)


def test_photographs_of_crowds_may_be_drawn_more_often(tmp_path):
    path = write_photographs(tmp_path / "photographs", count=10)
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    content["annotations"] += [{**first, "id": 100 + number} for number in range(2)]
    content["annotations"] += [{**content["annotations"][1], "id": 200}]
    path.write_text(json.dumps(content))
    assert drawn(path, tmp_path, {"000.png"}, crowds=4.0) == pytest.approx(4 / 13, abs=0.08)


def test_backs_of_hands_may_be_drawn_more_often(tmp_path):
    path = write_photographs(tmp_path / "photographs", count=10)
    content = json.loads(path.read_text())
    for number, label in enumerate(content["annotations"]):
        # One hand throughout, a right one that shows its back; mirrored and still called right, its palm.
        shown = annotation(7, 0)
        points, (x, y, w, h) = np.reshape(shown["keypoints"], (21, 3)), shown["bbox"]
        if number >= 2:
            points, x = points * [-1, 1, 1] + [WIDTH - 1, 0, 0], WIDTH - 1 - x - w
        label.update(keypoints=points.ravel().tolist(), bbox=[x, y, w, h])
        del label["joints_3d"]
    path.write_text(json.dumps(content))
    wrist, index, little = hand(7)[0][[0, 5, 17]]
    assert np.cross(index - wrist, little - wrist) @ wrist > 0, "out of its palm, away from the camera"
    assert [shows_a_back(entry.labels) for entry in CocoKeypoints(path).entries] == [True] * 2 + [False] * 8
    of_backs = {"000.png", "001.png"}
    for factor in (1.0, 8.0):
        share = drawn(path, tmp_path, of_backs, backs=factor)
        assert share == pytest.approx(2 * factor / (2 * factor + 8), abs=0.08)
