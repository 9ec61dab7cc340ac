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


def test_a_picture_is_seen_through_its_labels_camera(photographs, capsys, monkeypatch):
    path = photographs / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][1]["k"] = [[500, 0, 160], [0, 500, 120], [0, 0, 1]]
    path.write_text(json.dumps(content))
    used = []

    class Watched(Pipeline):
        def __call__(self, image, camera=None, **how):
            used.append(camera and camera.k[0, 0])
            return super().__call__(image, camera, **how)

    pipeline = standin_pipeline()
    pipeline.__class__ = Watched
    monkeypatch.setattr(common, "load_pipeline", lambda args: pipeline)
    assert run(photographs, "--negatives", photographs / "negatives") == 0
    assert used == [None, 500, None] + [None] * 4
    used.clear()
    given = photographs / "camera.yaml"
    given.write_text(
        "image_width: 320\nimage_height: 240\n"
        "camera_matrix: {data: [320, 0, 160, 0, 320, 120, 0, 0, 1]}\n"
        "distortion_coefficients: {data: []}\n"
    )
    assert run(photographs, "--camera", given) == 0
    assert used == [320, 320, 320], "what is asked for goes before labels"


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


def test_pictures_of_another_size_than_their_labels_are_not_scored(photographs, capsys):
    path = photographs / "images" / "disc_002.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (160, 120)))
    out = photographs / "scores.json"
    assert run(photographs, "--json", out) == 1
    assert "the picture is 160x120" in capsys.readouterr().err
    assert json.loads(out.read_text())["total"]["recall"] == 1

    said = photographs / "said.json"
    said.write_text(json.dumps({"image": "disc_001.png", "width": 240, "height": 320, "hands": []}))
    assert run(photographs, "--predictions", said) == 1
    error = capsys.readouterr().err
    assert "the picture is 240x320" in error and "EXIF" in error


def test_what_is_no_hand_is_not_scored_and_told(photographs, capsys):
    path = photographs / "annotations.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "hand"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 2
    person = {"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 300, 200]}
    content["annotations"].append(person)
    path.write_text(json.dumps(content))
    assert run(photographs, "--json", photographs / "scores.json") == 0
    assert "1 annotations are of no hands" in capsys.readouterr().err
    assert json.loads((photographs / "scores.json").read_text())["total"]["hands"] == 4


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
        (["--true-boxes"], "--true-boxes goes with --benchmark only"),
        (["--submission", "x"], "--submission goes with --benchmark only"),
    ],
)
def test_wrong_words_are_told(photographs, capsys, words, message):
    assert run(photographs, *words) == 1
    assert message in capsys.readouterr().err


def test_words_for_photographs_are_refused_with_a_benchmark(capsys):
    for words in (["--negatives", "x"], ["--images", "x"], ["--camera", "x.yaml"]):
        assert main(["eval", "--benchmark", "freihand", "--data", "x", *words]) == 1
        assert f"{words[0]} goes with --annotations only" in capsys.readouterr().err


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


@pytest.fixture
def hint(tmp_path, monkeypatch):
    """Two of HInt's hands, one picture each, that the stand-in sees as they are labelled."""
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline(min_score=args.min_score))
    folder = tmp_path / "TEST_newdays_img"
    folder.mkdir()
    for name, x, side in (("a_r", 100, RIGHT), ("b_l", 200, LEFT)):
        picture = draw_disc(np.zeros(SIZE, np.uint8), (x, 120), 80, side)
        cv2.imwrite(str(folder / f"{name}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
        found = standin_pipeline()(picture)
        points, hidden = found.joints_2d[0].tolist(), [0] * 20 + [1]
        label = {"bbox": found.boxes.tolist(), "keypoints": points, "occlusion": hidden}
        (folder / f"{name}.json").write_text(json.dumps([label]))
    return tmp_path


@pytest.mark.parametrize("boxes", [[], ["--true-boxes"]])
def test_a_benchmark_is_printed_beside_the_published_rows(hint, capsys, boxes):
    out = hint / "scores.json"
    words = ["eval", "--benchmark", "hint_newdays", "--data", str(hint), "--json", str(out), *boxes]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "HaMeR" in printed and "55.8" in printed and "stand-in" in printed
    scores = json.loads(out.read_text())["scores"]
    assert (
        scores["all@0.05"] == scores["occluded@0.1"] == 100
        and scores["found"] == scores["side_accuracy"] == 1
    )


def test_another_systems_predictions_on_a_benchmark(hint, capsys):
    box = json.loads((hint / "TEST_newdays_img" / "a_r.json").read_text())[0]["bbox"][0]
    hand = {"box": box, "score": 1, "handedness": "left"}
    path = hint / "other.json"
    out = hint / "scores.json"
    words = ["eval", "--benchmark", "hint_newdays", "--data", str(hint), "--predictions", str(path)]
    path.write_text(json.dumps([{"image": "a_r.jpg", "hands": [hand]}]))
    assert main(words) == 1
    assert "nothing about b_l.jpg" in capsys.readouterr().err
    path.write_text(json.dumps([{"image": "a_r.jpg", "hands": [hand]}, {"image": "b_l.jpg", "hands": []}]))
    assert main([*words, "--json", str(out)]) == 0
    scores = json.loads(out.read_text())["scores"]
    assert scores["side_accuracy"] == 0 and scores["all@0.15"] == 0


def freihand(folder, vertices):
    """An evaluation set of two pictures; returns their joints and meshes."""
    rng = np.random.default_rng(0)
    joints, meshes = (rng.normal((0, 0, 0.6), 0.03, (2, n, 3)) for n in (21, vertices))
    for name, values in (
        ("K", [[[200, 0, 160], [0, 200, 120], [0, 0, 1]]] * 2),
        ("xyz", joints),
        ("verts", meshes),
    ):
        (folder / f"evaluation_{name}.json").write_text(json.dumps(np.asarray(values).tolist()))
    (folder / "evaluation" / "rgb").mkdir(parents=True)
    for i in range(2):
        picture = draw_disc(np.zeros(SIZE, np.uint8), (160, 120), 80)
        cv2.imwrite(str(folder / "evaluation" / "rgb" / f"{i:08d}.jpg"), picture[..., ::-1])
    return joints, meshes


def test_a_submission_is_written_and_scores_as_the_network_did(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline(min_score=args.min_score))
    freihand(tmp_path, 778)
    submission, first, second = (tmp_path / name for name in ("pred.json", "1.json", "2.json"))
    words = ["eval", "--benchmark", "freihand", "--data", str(tmp_path), "--json"]
    assert main([*words, str(first), "--submission", str(submission)]) == 0
    assert main([*words, str(second), "--predictions", str(submission)]) == 0
    a, b = (json.loads(path.read_text())["scores"] for path in (first, second))
    assert a["pa_mpjpe_mm"] == pytest.approx(b["pa_mpjpe_mm"], rel=1e-4) and a["pa_mpjpe_mm"] > 1


def test_the_truth_submitted_to_freihand_is_perfect(tmp_path, capsys):
    joints, meshes = freihand(tmp_path, 778)
    path, out = tmp_path / "pred.json", tmp_path / "scores.json"
    path.write_text(json.dumps([joints.tolist(), meshes.tolist()]))
    words = ["--data", str(tmp_path), "--predictions", str(path), "--json", str(out)]
    assert main(["eval", "--benchmark", "freihand", *words]) == 0
    scores = json.loads(out.read_text())["scores"]
    assert scores["f@5"] == 1 and scores["pa_mpvpe_mm"] < 1e-3
    assert "0.812" in capsys.readouterr().out


def test_a_benchmark_needs_its_folder(capsys):
    assert main(["eval", "--benchmark", "freihand"]) == 1
    assert "--data" in capsys.readouterr().err
    assert main(["eval", "--benchmark", "dexycb", "--data", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_commands_list_of_benchmarks_is_the_librarys():
    from handos_ros.cli.eval import BENCHMARKS
    from handos_ros.learning.evaluation import benchmark_report

    assert set(BENCHMARKS) == set(benchmark_report.BENCHMARKS)
