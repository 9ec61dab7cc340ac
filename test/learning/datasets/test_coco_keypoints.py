"""COCO keypoint files: what a good one gives, and what each bad one is told."""

import copy
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.hands import JOINT_NAMES
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints


def keypoints(flags=None):
    """Joint j at (20 + j, 30 + j)."""
    flags = [2] * 21 if flags is None else flags
    return [value for j in range(21) for value in (20 + j, 30 + j, flags[j])]


def hand(**changes):
    return {
        "id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [18, 28, 30, 25], "area": 750,
        "keypoints": keypoints(), "num_keypoints": 21, "handedness": "left", "label_score": 0.5,
        "joints_3d": [[0.001 * j, 0, 0] for j in range(21)], **changes,
    }  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """`data(content changes)` writes two pictures and their file, and returns the file's path."""
    (tmp_path / "images").mkdir()
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, :, 2] = 200  # red, as OpenCV writes it
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "images" / name), picture)
    content = {
        "categories": [{"id": 1, "name": "hand", "keypoints": list(JOINT_NAMES)}],
        "images": [
            {"id": 1, "file_name": "a.png", "width": 80, "height": 60, "exhaustive": False},
            {"id": 2, "file_name": "b.png", "width": 80, "height": 60},
        ],
        "annotations": [hand()],
    }

    def write(**changes):
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps({**copy.deepcopy(content), **changes}))
        return path

    return write


def test_every_field_arrives(data):
    first, second = CocoKeypoints(data())
    assert first.image[0, 0].tolist() == [200, 0, 0]
    assert first.boxes.tolist() == [[18, 28, 48, 53]]
    assert first.handedness.tolist() == [0]
    assert first.joints_2d[0, 3].tolist() == [23, 33]
    assert (first.joints_2d_weight == 0.5).all() and (first.visibility == 1).all()
    assert first.has_joints_3d.all() and not first.joints_3d_absolute.any()
    np.testing.assert_allclose(first.joints_3d[0, 20], [0.02, 0, 0])
    assert first.k is None and not first.exhaustive
    assert len(second) == 0 and second.exhaustive and second.source.endswith(":b.png")


def test_a_box_alone_has_no_joints_and_no_side(data):
    box = hand(keypoints=[0] * 63, num_keypoints=0, handedness=None, label_score=None)
    del box["joints_3d"]
    sample = CocoKeypoints(data(annotations=[box]))[0]
    assert not sample.joints_2d_weight.any() and sample.handedness.tolist() == [-1]
    assert not sample.has_joints_3d.any() and np.isnan(sample.visibility).all()


def test_coco_flags_tell_hidden_from_seen_from_unlabelled(data):
    sample = CocoKeypoints(data(annotations=[hand(keypoints=keypoints([0, 1] + [2] * 19))]))[0]
    assert sample.joints_2d_weight[0, :3].tolist() == [0, 0.5, 0.5]
    assert np.isnan(sample.visibility[0, 0]) and sample.visibility[0, 1:3].tolist() == [0, 1]


def test_another_joint_order_is_brought_into_ours(data):
    names = list(JOINT_NAMES)[::-1]
    sample = CocoKeypoints(data(categories=[{"id": 1, "name": "hand", "keypoints": names}]))[0]
    assert sample.joints_2d[0, 0].tolist() == [40, 50] and sample.joints_2d[0, 20].tolist() == [20, 30]
    np.testing.assert_allclose(sample.joints_3d[0, 0], [0.02, 0, 0])


def test_crowds_are_left_out(data):
    dataset = CocoKeypoints(data(annotations=[hand(iscrowd=1, image_id=2)]))
    assert len(dataset[1]) == 0
    # Hands of it have no labels of their own: what is found there is not wrong.
    assert not dataset[1].exhaustive


@pytest.mark.parametrize("name", ["hand", "left_hand", "paw"])
@pytest.mark.parametrize("listed", [True, False])
def test_people_are_no_hands(data, name, listed):
    """By the joints that categories list, or by their names."""
    ours = {"id": 5, "name": name, **({"keypoints": list(JOINT_NAMES)} if listed else {})}
    person = {"id": 1, "name": "person", **({"keypoints": ["nose", "left_eye"]} if listed else {})}
    people = hand(id=8, category_id=1, bbox=[0, 0, 80, 60], keypoints=[])
    dataset = CocoKeypoints(data(categories=[person, ours], annotations=[people, hand(category_id=5)]))
    if not listed and name == "paw":  # nothing tells them apart
        assert len(dataset[0]) == 2 and dataset.left_out == 0
    else:
        assert len(dataset[0]) == 1 and dataset.left_out == 1
        assert dataset[0].joints_2d[0, 3].tolist() == [23, 33]


def test_a_single_category_is_whatever_its_number(data):
    assert len(CocoKeypoints(data(annotations=[hand(category_id=3)]))[0]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [hand(bbox=[200, 10, 30, 30])]}, r"annotation 7 \(a\.png\).*not in its 80x60"),
        ({"annotations": [hand(bbox=[10, 10, 0, 30])]}, "annotation 7"),
        ({"annotations": [hand(bbox=[10, 10, float("nan"), 30])]}, "annotation 7"),
        ({"annotations": [hand(keypoints=[500, 30, 2] * 21)]}, "joint wrist at .* far off the box"),
        ({"annotations": [hand(keypoints=[30, 30, 2] * 17)]}, "17 keypoints, a hand has 21"),
        ({"annotations": [hand(handedness="both")]}, "handedness 'both'"),
        ({"annotations": [hand(image_id=9)]}, "belongs to picture 9"),
        ({"annotations": [hand(joints_3d=[[0, 0, 0]] * 20)]}, r"a\.png: IndexError"),
        ({"images": [{"id": 1, "width": 80, "height": 60}]}, "file_name"),
        ({"categories": [{"id": 1, "keypoints": ["nose"]}]}, "lack wrist"),
        ({"images": None}, "COCO's format"),
    ],
)
def test_a_bad_label_is_named_when_the_file_is_opened(data, changes, message):
    with pytest.raises(DataError, match=message):
        CocoKeypoints(data(**changes))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json.*No such file"):
        CocoKeypoints(tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    with pytest.raises(DataError, match=r"broken\.json: not a json file"):
        CocoKeypoints(broken)


def test_a_missing_folder_is_named(data, tmp_path):
    with pytest.raises(DataError, match=r"pictures_elsewhere.*--images"):
        CocoKeypoints(data(), tmp_path / "pictures_elsewhere")


@pytest.mark.parametrize("content", [None, b"", b"not a picture"])
def test_a_picture_that_cannot_be_read_is_named(data, tmp_path, content):
    dataset = CocoKeypoints(data())
    picture = tmp_path / "images" / "a.png"
    picture.unlink() if content is None else picture.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        dataset[0]


def test_a_picture_of_another_size_is_refused(data, tmp_path):
    dataset = CocoKeypoints(data())
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"20x10.*80x60"):
        dataset[0]
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((80, 60, 3), np.uint8))
    with pytest.raises(DataError, match=r"60x80.*80x60.*EXIF"):
        dataset[0]


def test_the_real_photographs_read():
    shared = Path(os.environ.get("HANDOS_SHARED", Path(__file__).parents[4] / "shared"))
    path = shared / "data" / "real_dev" / "annotations.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    dataset = CocoKeypoints(path)
    assert len(dataset) == 685 and sum(len(e.labels) for e in dataset.entries) == 789
    sample = dataset[0]
    assert sample.image.shape == (480, 640, 3) and len(sample) >= 1
