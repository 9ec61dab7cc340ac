"""`handos eval` from the command line, with the stand-in network on pictures of discs."""

import json

import cv2
import numpy as np
import pytest

from handos_ros.cli import common
from handos_ros.cli.main import main
from handos_ros.hands import LEFT, RIGHT
from handos_ros.inference.pipeline import Pipeline
from standin import draw_disc, standin_pipeline

SIZE = (240, 320, 3)


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Three labelled pictures, right, left and two hands, and a folder of empty ones; no weights needed."""
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline(min_score=args.min_score))
    pipeline = standin_pipeline()
    images, annotations = [], []
    for folder in ("images", "negatives"):
        (tmp_path / folder).mkdir()
    discs = [[(100, 120, RIGHT)], [(200, 100, LEFT)], [(90, 120, RIGHT), (230, 120, LEFT)]]
    for number, hands in enumerate(discs, 1):
        picture = np.zeros(SIZE, np.uint8)
        for x, y, side in hands:
            draw_disc(picture, (x, y), 80, side)
        name = f"disc_{number:03}.png"
        cv2.imwrite(str(tmp_path / "images" / name), picture[..., ::-1])
        images.append({"id": number, "file_name": name, "width": 320, "height": 240})
        found = pipeline(picture)
        assert len(found) == len(hands)
        for i in range(len(found)):
            x0, y0, x1, y1 = found.boxes[i].tolist()
            points = np.concatenate([found.joints_2d[i], np.full((21, 1), 2)], 1)
            side = ["left", "right"][found.handedness[i]]
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "keypoints": points.ravel().tolist(), "handedness": side,
                    "joints_3d": (found.joints_3d[i] - found.joints_3d[i, 0]).tolist(),
                }
            )  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    for i in range(4):
        picture = np.zeros(SIZE, np.uint8)
        if i == 0:
            draw_disc(picture, (100, 120), 80)  # what the network will mistake for a hand
        cv2.imwrite(str(tmp_path / "negatives" / f"{i}.png"), picture[..., ::-1])
    return tmp_path


def run(folder, *words):
    return main(["eval", "--annotations", str(folder / "annotations.json"), *map(str, words)])


def test_table_and_json_of_a_network(photographs, capsys):
    out = photographs / "scores.json"
    assert run(photographs, "--negatives", photographs / "negatives", "--json", out) == 0
    printed = capsys.readouterr().out
    assert "disc" in printed and "1 false hands in 4 pictures" in printed
    scores = json.loads(out.read_text())
    assert scores["model"] == "stand-in" and scores["total"]["hands"] == 4
    for name in ("recall", "precision", "ap50", "pck@0.05", "side_accuracy"):
        assert scores["total"][name] == 1, name
    assert scores["negatives"]["false_hands_per_picture"] == 0.25


def test_an_existing_json_is_kept(photographs, capsys):
    out = photographs / "scores.json"
    out.write_text("mine")
    assert run(photographs, "--json", out) == 1
    assert out.read_text() == "mine" and "--overwrite" in capsys.readouterr().err
    assert run(photographs, "--json", out, "--overwrite") == 0


def test_a_broken_picture_is_named_and_the_rest_is_scored(photographs, capsys):
    (photographs / "images" / "disc_002.png").write_bytes(b"broken")
    assert run(photographs) == 1
    printed = capsys.readouterr()
    assert "disc_002.png" in printed.err and "all" in printed.out


def test_predictions_of_another_system(photographs, capsys):
    labels = json.loads((photographs / "annotations.json").read_text())["annotations"]
    x, y, w, h = labels[0]["bbox"]
    hand = {"box": [x, y, x + w, y + h], "score": 0.9, "handedness": "left"}
    path, out = photographs / "other.json", photographs / "scores.json"
    path.write_text(json.dumps([{"image": "disc_001.png", "hands": [hand]}]))
    assert run(photographs, "--predictions", path, "--json", out) == 0
    assert "2 of 3 pictures have no prediction" in capsys.readouterr().err
    total = json.loads(out.read_text())["total"]
    assert total["recall"] == 1 and total["side_accuracy"] == 0 and total["pck@0.2"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "nowhere"], "nowhere: no such folder"),
        (["--negatives", "nowhere"], "nowhere: no such folder"),
        (["--predictions", "nowhere.json"], "nowhere.json"),
        (["--predictions", "x.json", "--negatives", "y"], "--negatives"),
    ],
)
def test_wrong_words_are_told(photographs, capsys, words, message):
    assert run(photographs, *words) == 1
    assert message in capsys.readouterr().err


def test_the_threshold_asked_for_is_the_one_that_counts(photographs, monkeypatch):
    asked = []

    def load(args):
        pipeline = standin_pipeline(min_score=args.min_score)
        asked.append(pipeline)
        return pipeline

    monkeypatch.setattr(common, "load_pipeline", load)
    out = photographs / "scores.json"
    assert run(photographs, "--min-score", 0.999, "--json", out) == 0
    assert json.loads(out.read_text())["min_score"] == 0.999
    assert isinstance(asked[0], Pipeline) and asked[0].min_score < 0.1  # AP needs the unsure ones
