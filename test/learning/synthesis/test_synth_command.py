"""`handos synth`: files that other tools and our own reader understand."""

import json

import numpy as np
import pytest

from handos_ros.cli.main import main
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "out"
    assert main(["synth", "-o", str(out), "--count", "6", "--seed", "3", "--size", "160x128"]) == 0
    return out


def test_files_fit_together(folder):
    document = json.loads((folder / "annotations.json").read_text())
    assert [i["id"] for i in document["images"]] == [1, 2, 3, 4, 5, 6]
    assert all((folder / "images" / i["file_name"]).is_file() for i in document["images"])
    assert all((i["width"], i["height"]) == (160, 128) for i in document["images"])
    vertices = np.load(folder / "vertices.npz")["vertices"]
    assert len(vertices) == len(document["annotations"]) > 0
    assert (folder / "sheet.jpg").is_file()
    k = {i["id"]: np.array(i["k"]) for i in document["images"]}
    for annotation, mesh in zip(document["annotations"], vertices, strict=True):
        joints = np.array(annotation["joints_3d"])
        assert joints.min(0)[2] > 0 and np.ptp(mesh, 0).max() > 0.03
        flat = joints @ k[annotation["image_id"]].T
        keypoints = np.array(annotation["keypoints"]).reshape(21, 3)
        labelled = keypoints[:, 2] > 0
        np.testing.assert_allclose((flat[:, :2] / flat[:, 2:])[labelled], keypoints[labelled, :2], atol=0.1)


def test_our_reader_reads_them(folder):
    dataset = CocoKeypoints(folder / "annotations.json", folder / "images")
    sample = next(s for s in (dataset[i] for i in range(len(dataset))) if len(s))
    assert sample.has_joints_3d.all() and sample.joints_3d_absolute.all()
    assert sample.k is not None and (sample.handedness >= 0).all()


def test_refusals_name_the_matter(folder, tmp_path, capsys):
    assert main(["synth", "-o", str(folder), "--count", "1"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "aunt.jpg").touch()
    assert main(["synth", "-o", str(tmp_path / "photos"), "--count", "1", "--overwrite"]) == 1
    assert "photos: holds something else" in capsys.readouterr().err
    assert (tmp_path / "photos" / "aunt.jpg").is_file()
    with pytest.raises(SystemExit, match="2"):
        main(["synth", "-o", str(tmp_path / "x"), "--size", "big"])
    assert "argument --size: 'big' is no size such as 1280x720" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", ["--seed", "--count"])
def test_the_test_set_has_its_own_seed_and_count(option, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["synth", "-o", str(tmp_path / "x"), "--test-set", option, "5"])
    assert f"argument {option}: not with --test-set" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
