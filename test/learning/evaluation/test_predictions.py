"""Predictions from json files of any system, and from a pipeline that reads ahead."""

import json

import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.learning.evaluation.predictions import load_predictions, predict
from standin import draw_disc, standin_pipeline

HAND = {"score": 0.9, "box": [1, 2, 3, 4], "handedness": "right", "joints_2d": [[5.0, 6.0]] * 21}


def picture(name="a.jpg", *hands):
    return {"image": f"somewhere/{name}", "hands": list(hands)}


@pytest.mark.parametrize("form", ["list", "lines", "folder"])
def test_every_form_of_file_reads_alike(tmp_path, form):
    records = [picture("a.jpg", HAND), picture("b.jpg")]
    path = tmp_path / "found.json"
    if form == "list":
        path.write_text(json.dumps(records))
    elif form == "lines":
        path.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    else:
        path = tmp_path / "found"
        path.mkdir()
        for i, record in enumerate(records):
            (path / f"{i}.json").write_text(json.dumps(record, indent=1))
    found = load_predictions(path)
    assert set(found) == {"a.jpg", "b.jpg"}
    assert found["a.jpg"].boxes.tolist() == [[1, 2, 3, 4]] and found["a.jpg"].handedness.tolist() == [1]
    assert found["a.jpg"].joints_2d.shape == (1, 21, 2) and np.isnan(found["a.jpg"].joints_3d).all()
    assert found["b.jpg"].boxes.shape == (0, 4)


def test_joints_in_space_are_projected_by_the_pictures_camera(tmp_path):
    path = tmp_path / "found.json"
    k = [[200, 0, 160], [0, 100, 120], [0, 0, 1]]
    before, behind = [[0.1, -0.2, 0.5]] * 21, [[0.1, -0.2, -0.5]] * 21
    hands = [{**HAND, "joints_3d": before}, {**HAND, "joints_3d": behind}, HAND]
    path.write_text(json.dumps([{**picture("a.jpg", *hands), "camera": {"k": k}}, picture("b.jpg", *hands)]))
    found = load_predictions(path)
    np.testing.assert_allclose(found["a.jpg"].projected[0], [[200, 80]] * 21)
    assert np.isnan(found["a.jpg"].projected[1:]).all() and np.isnan(found["b.jpg"].projected).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a json file"),
        ('[{"hands": []}]', 'every picture needs "image"'),
        (json.dumps([picture("a.jpg", {"score": 1})]), r"a\.jpg: hand 0: box must be numbers"),
        (json.dumps([picture("a.jpg", {**HAND, "box": [1, 2]})]), "box must be numbers"),
        (json.dumps([picture("a.jpg", {**HAND, "handedness": "both"})]), "handedness 'both'"),
        (json.dumps([picture("a.jpg", {**HAND, "joints_2d": [[1, 2]]})]), "joints_2d must be numbers"),
        (json.dumps([{**picture(), "camera": {"k": [1, 2]}}]), r"a\.jpg: camera: .*k must be 3 x 3"),
        (json.dumps([{**picture(), "camera": "mine"}]), r"a\.jpg: camera: .*k must be 3 x 3"),
        (json.dumps([picture(), picture()]), "second result for the picture a.jpg"),
        (json.dumps([picture("a.jpg", 3)]), "must be a list of hands"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        load_predictions(path)
    assert "bad.json" in str(error.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json.*No such file"):
        load_predictions(tmp_path / "gone.json")
    with pytest.raises(DataError, match="no json files"):
        load_predictions(tmp_path)


def test_a_picture_that_cannot_be_read_does_not_end_the_others():
    def hand(x):
        return lambda: draw_disc(np.zeros((240, 320, 3), np.uint8), (x, 120), 80)

    def broken():
        raise DataError("b.jpg is broken")

    first, second, third = predict(standin_pipeline(), [hand(100), broken, hand(200)], [None] * 3)
    assert isinstance(second, DataError) and "b.jpg" in str(second)
    assert first.boxes[0].mean() == pytest.approx((100 + 120) / 2, abs=3)
    assert third.boxes[0].mean() == pytest.approx((200 + 120) / 2, abs=3)
    assert list(predict(standin_pipeline(), [], [])) == []
