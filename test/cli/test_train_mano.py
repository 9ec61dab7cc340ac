"""`handos train` on a data set that is labelled by MANO's poses, with the network's own MANO file."""

import pickle

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hand_model.mano_file import left_arrays, mano_arrays, posed_by_hand, write_pickle  # noqa: E402
from tiny_training import HEIGHT, STAGES, WIDTH, K, write_network, write_run  # noqa: E402

from handos_ros.cli.main import main  # noqa: E402
from handos_ros.learning.datasets import mano_meshes  # noqa: E402


def write_h2o3d(folder):
    """One picture of two hands."""
    rng = np.random.default_rng(1)
    meta = {"camMat": K, "handBeta": rng.normal(size=10)}
    for name, arrays in (("right", mano_arrays()), ("left", left_arrays(mano_arrays()))):
        pose, translation = rng.normal(0, 0.3, 48), np.array([0.0, 0.0, -0.7])
        mesh, joints = posed_by_hand(arrays, pose, meta["handBeta"], translation)
        values = {"Pose": pose, "Trans": translation, "Joints3D": [*joints, *mesh[[744, 320, 443, 555, 672]]]}
        meta |= {f"{name}Hand{key}": np.array(value) for key, value in values.items()}
        meta[f"jointValid{name.title()}"] = np.ones(21)
    for part in ("rgb", "meta"):
        (folder / "train" / "A" / part).mkdir(parents=True)
    cv2.imwrite(str(folder / "train" / "A" / "rgb" / "0000.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (folder / "train" / "A" / "meta" / "0000.pkl").write_bytes(pickle.dumps(meta, protocol=2))
    (folder / "train.txt").write_text("A/0000\n")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(mano_meshes, "_said", set())
    write_network(tmp_path / "network.yaml", "grounding_dino", hand_model="mano")
    write_h2o3d(tmp_path / "h2o3d")
    write_pickle(tmp_path / "MANO_RIGHT.pkl", mano_arrays())
    source = {"kind": "h2o3d", "share": 1.0, "images": "h2o3d"}

    def words(**settings):
        path = write_run(
            tmp_path, sources=[{**source, "settings": settings}], stages=[STAGES[2]], mosaic=0, mirror=0
        )
        mano = str(tmp_path / "MANO_RIGHT.pkl")
        return ["train", str(path), "-o", str(tmp_path / "out"), "--hand-model", mano, "--device", "cpu"]

    return tmp_path, words


def losses(printed):
    """The last line of a dry run's `name value` pairs."""
    words = printed.splitlines()[-1].split("; ")[1].split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def test_meshes_are_learned_from_poses_with_the_networks_mano(run, capsys, caplog):
    folder, words = run
    write_pickle(folder / "MANO_LEFT.pkl", left_arrays(mano_arrays()))
    assert main([*words(), "--dry-run", "--workers", "0"]) == 0
    assert losses(capsys.readouterr().out)["vertices"] > 0
    assert not caplog.records


def test_hands_without_a_mesh_are_told_of_also_where_workers_open_the_data(run, capsys, caplog):
    _, words = run
    assert main([*words(), "--minutes", "1e-9", "--workers", "1", "--quiet"]) == 0
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and said[0].startswith("H2O-3D: left hands have no meshes")


def test_meshes_can_be_left_out(run, capsys, caplog):
    _, words = run
    assert main([*words(mano=""), "--dry-run", "--workers", "0"]) == 0
    terms = losses(capsys.readouterr().out)
    assert terms["vertices"] == 0 and terms["joints_3d"] > 0
    assert [record.message for record in caplog.records] == [
        "H2O-3D: joints alone, no meshes: they need your own MANO file (docs/datasets.md)"
    ]
