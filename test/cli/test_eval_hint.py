"""`handos eval --benchmark hint`: both rows of a whole network, one of a 2D model, all three parts."""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import pictures, tiny_network  # noqa: E402

from handos_ros.cli.main import main  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.inference.joints import JointPipeline  # noqa: E402
from handos_ros.inference.pipeline import Pipeline  # noqa: E402
from handos_ros.network.weights import save_weights  # noqa: E402

BOX = [20.0, 10.0, 100.0, 80.0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(tiny_network(), path, hand_model=load_hand_model())
    return path


@pytest.fixture
def hint(tmp_path, weights):
    """A hand in each part, labelled as `weights` sees it when run as a 2D model."""
    pipeline = JointPipeline.load(weights=weights, device="cpu")
    for seed, subset in enumerate(("newdays", "epick", "ego4d")):
        folder = tmp_path / f"TEST_{subset}_img"
        folder.mkdir()
        cv2.imwrite(
            str(folder / "a_r.jpg"), pictures(1, 96, 128, seed)[0].permute(1, 2, 0).numpy()[..., ::-1]
        )
        image = cv2.imread(str(folder / "a_r.jpg"))[..., ::-1]
        joints = pipeline(image, boxes=[BOX]).joints_2d[0]
        assert (joints[7:] > 0).any() and (joints[:7] > 0).any()  # the others count as unplaced
        label = {"bbox": [BOX], "keypoints": joints.tolist(), "occlusion": [1] * 7 + [0] * 14}
        (folder / "a_r.json").write_text(json.dumps([label]))
    return tmp_path


def evaluate(hint, weights, *words):
    out = hint / "scores.json"
    common = ["--data", str(hint), "--weights", str(weights), "--device", "cpu", "--true-boxes"]
    status = main(["eval", *common, "--json", str(out), "--overwrite", *words])
    return json.loads(out.read_text()) if status == 0 else None


def test_a_2d_model_is_scored_as_one_on_all_parts(hint, weights, capsys):
    content = evaluate(hint, weights, "--benchmark", "hint", "--only-2d")
    printed = capsys.readouterr().out
    assert [part["benchmark"] for part in content["parts"]] == ["hint_newdays", "hint_epick", "hint_ego4d"]
    for part in content["parts"]:
        assert part["scores"]["all@0.05"] == part["scores"]["occluded@0.05"] == 100
        assert part["scores"]["projected_all@0.05"] is None and part["scores"]["side_accuracy"] is None
    assert printed.count("true boxes, 2D") == 3 and "true boxes, projected" not in printed
    assert "hint_epick:" in printed and "66.2" in printed


def test_a_whole_network_has_both_rows(hint, weights, capsys):
    """Labels of where its 3D joints are seen, but for some that lie 6 of 80 px beside."""
    image = cv2.imread(str(hint / "TEST_epick_img" / "a_r.jpg"))[..., ::-1]
    pipeline = Pipeline.load(weights=weights, device="cpu", backend="torch")
    pipeline.reproject = False
    hands = pipeline(image, boxes=[BOX])
    points = hands.joints_3d[0] @ hands.camera.k.T
    points, before = points[:, :2] / points[:, 2:], points[:, 2] > 0
    # What a network that nobody has trained puts behind the camera or far outside is left without a label.
    placed = np.flatnonzero(before & (points > 0).any(1))
    assert len(placed) >= 6
    beside, hidden = placed[:2], placed[-1]
    points[beside, 1] += 6 * np.sign(points[beside, 1])
    points = np.where(np.isin(np.arange(21), placed)[:, None], points, 0)
    label = {"bbox": [BOX], "keypoints": points.tolist(), "occlusion": (np.arange(21) == hidden).tolist()}
    (hint / "TEST_epick_img" / "a_r.json").write_text(json.dumps([label]))
    scores = evaluate(hint, weights, "--benchmark", "hint_epick", "--backend", "torch")["scores"]
    printed = capsys.readouterr().out
    assert "true boxes, 2D" in printed and "true boxes, projected" in printed
    n = len(placed)
    assert scores["projected_all@0.05"] == pytest.approx(100 * (n - 2) / n)
    assert scores["projected_visible@0.05"] == pytest.approx(100 * (n - 3) / (n - 1))
    assert scores["projected_all@0.1"] == scores["projected_occluded@0.05"] == 100
    # The 2D joints of such a network are elsewhere.
    assert scores["all@0.15"] < 100 and scores["side_accuracy"] in (0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmark", "freihand", "--only-2d"], "--only-2d is for a network on HInt"),
        (["--benchmark", "hint", "--only-2d", "--predictions", "x"], "--only-2d is for a network on HInt"),
        (["--annotations", "x.json", "--only-2d"], "--only-2d goes with --benchmark only"),
        (["--benchmark", "hint", "--submission", "x"], "HInt takes none"),
        (["--benchmark", "hint", "--only-2d", "--backend", "onnxruntime"], "need the torch backend"),
    ],
)
def test_what_a_2d_model_cannot_do_is_told(hint, weights, capsys, words, message):
    assert evaluate(hint, weights, *words) is None
    assert message in capsys.readouterr().err
