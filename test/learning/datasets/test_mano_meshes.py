"""Meshes of HO-3D, H2O-3D and DexYCB from the pose parameters in their labels, against MANO by hand."""

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hand_model.mano_file import left_arrays, mano_arrays, posed_by_hand, write_pickle

from handos_ros.cli import common
from handos_ros.cli.main import main
from handos_ros.errors import DataError, ModelError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hands import LEFT, RIGHT
from handos_ros.learning.datasets import dexycb, mano_meshes
from handos_ros.learning.datasets.dexycb import DexYcb
from handos_ros.learning.datasets.ho3d import H2o3d, Ho3d
from standin import standin_pipeline

REPOSITORY = Path(__file__).resolve().parents[3]
RNG = np.random.default_rng(2)
MANO = {RIGHT: mano_arrays(), LEFT: left_arrays(mano_arrays())}
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
BETAS = RNG.normal(size=10)
TIPS = {"ho3d": [744, 320, 443, 555, 672], "dexycb": [745, 317, 444, 556, 673]}
"""Thumb to little finger; in DexYCB manopth's."""


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mano")
    write_pickle(folder / "MANO_RIGHT.pkl", MANO[RIGHT])
    write_pickle(folder / "MANO_LEFT.pkl", MANO[LEFT])
    return folder


@pytest.fixture
def right_alone(tmp_path):
    return write_pickle(tmp_path / "MANO_RIGHT.pkl", MANO[RIGHT])


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(mano_meshes, "_said", set())


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))


# HO-3D and H2O-3D: OpenGL's axes, absolute axis-angles


def opengl_hand(side):
    """Pose, translation, and what they give: the mesh and the 21 joints as HO-3D lists them."""
    pose, translation = RNG.normal(0, 0.5, 48), np.array([0.02, -0.01, -0.7])
    mesh, joints = posed_by_hand(MANO[side], pose, BETAS, translation)
    return pose, translation, mesh, np.concatenate([joints, mesh[TIPS["ho3d"]]])


def write_ho3d(folder, meta):
    picture(folder / "train" / "ABF10" / "rgb" / "0003.jpg")
    (folder / "train" / "ABF10" / "meta").mkdir()
    (folder / "train.txt").write_text("ABF10/0003\n")
    label = folder / "train" / "ABF10" / "meta" / "0003.pkl"
    label.write_bytes(pickle.dumps({"camMat": K, "handBeta": BETAS, **meta}, protocol=2))
    return label


@pytest.fixture
def ho3d(tmp_path):
    pose, translation, mesh, joints = opengl_hand(RIGHT)
    meta = {"handJoints3D": joints, "handPose": pose, "handTrans": translation}
    label = write_ho3d(tmp_path / "ho3d", meta)
    return tmp_path / "ho3d", mesh, meta, label


def test_ho3ds_poses_give_the_mesh_before_the_camera(ho3d, mano):
    folder, mesh, *_ = ho3d
    sample = Ho3d(folder, mano=mano)[0]
    np.testing.assert_allclose(sample.vertices[0], mesh * [1, -1, -1], atol=5e-6)
    assert sample.has_vertices.tolist() == [True] and sample.vertices[0, :, 2].min() > 0.3
    # The thumb's tip is a vertex and a joint.
    np.testing.assert_allclose(sample.vertices[0, 744], sample.joints_3d[0, 4], atol=5e-6)


def test_ho3d_without_mano_is_as_before_and_says_so_once(ho3d, caplog):
    folder = ho3d[0]
    with caplog.at_level(logging.WARNING):
        samples = [Ho3d(folder)[0], Ho3d(folder, mano="")[0]]
    assert not any(sample.has_vertices.any() or sample.vertices.size for sample in samples)
    assert samples[0].has_joints_3d.all()
    assert [record.message for record in caplog.records] == [
        "HO-3D: joints alone, no meshes: they need your own MANO file (docs/datasets.md)"
    ]


def test_a_mesh_that_is_not_where_its_joints_are_is_refused(ho3d, mano):
    folder, _, meta, label = ho3d
    for change in ({"handTrans": meta["handTrans"] + 0.02}, {"handPose": meta["handPose"] * np.nan}):
        label.write_bytes(pickle.dumps({"camMat": K, "handBeta": BETAS, **meta, **change}, protocol=2))
        with pytest.raises(DataError, match=r"0003\.pkl: the right hand's mesh lies (35|nan) mm from its"):
            Ho3d(folder, mano=mano)[0]
    label.write_bytes(pickle.dumps({"camMat": K, "handBeta": BETAS, **meta, "handPose": None}, protocol=2))
    with pytest.raises(DataError, match=r"0003\.pkl: not a label of HO-3D"):
        Ho3d(folder, mano=mano)[0]
    with pytest.raises(ModelError, match="nowhere"):
        Ho3d(folder, mano="nowhere.pkl")


@pytest.fixture
def h2o3d(tmp_path):
    meta, meshes = {"jointValidRight": np.ones(21), "jointValidLeft": np.ones(21)}, []
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        pose, translation, mesh, joints = opengl_hand(side)
        named = {"HandJoints3D": joints, "HandPose": pose, "HandTrans": translation}
        meta |= {f"{name}{key}": value for key, value in named.items()}
        meshes.append(mesh * [1, -1, -1])
    label = write_ho3d(tmp_path / "h2o3d", meta)
    return tmp_path / "h2o3d", meshes, meta, label


def test_h2o3ds_hands_share_their_betas_and_not_their_mano(h2o3d, mano):
    folder, meshes, meta, label = h2o3d
    sample = H2o3d(folder, mano=mano)[0]
    assert sample.handedness.tolist() == [RIGHT, LEFT] and sample.has_vertices.all()
    np.testing.assert_allclose(sample.vertices, meshes, atol=5e-6)
    unsure = {**meta, "jointValidRight": np.arange(21) > 0, "camMat": K, "handBeta": BETAS}
    label.write_bytes(pickle.dumps(unsure, protocol=2))
    assert H2o3d(folder, mano=mano)[0].has_vertices.tolist() == [False, True]


def test_h2o3d_without_the_left_file_has_right_meshes_and_says_so_once(h2o3d, right_alone, caplog):
    folder, meshes, *_ = h2o3d
    with caplog.at_level(logging.WARNING):
        H2o3d(folder, mano=right_alone)
        sample = H2o3d(folder, mano=right_alone)[0]
    assert sample.has_vertices.tolist() == [True, False] and sample.has_joints_3d.all()
    np.testing.assert_allclose(sample.vertices[0], meshes[0], atol=5e-6)
    assert not sample.vertices[1].any()
    assert len(caplog.records) == 1
    assert "H2O-3D: left hands have no meshes: there is no MANO_LEFT" in caplog.records[0].message


def test_workers_do_not_say_it_again(ho3d):
    program = (
        "import multiprocessing, sys\n"
        "from handos_ros.learning.datasets.ho3d import Ho3d\n"
        "worker = multiprocessing.get_context('fork').Process(target=Ho3d, args=(sys.argv[1],))\n"
        "worker.start(), worker.join()\n"
        "print('between', worker.exitcode, file=sys.stderr, flush=True)\n"
        "Ho3d(sys.argv[1])"
    )
    command = [sys.executable, "-c", program, str(ho3d[0])]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY).stderr
    assert said.splitlines()[0] == "between 0" and said.count("joints alone") == 1


# DexYCB: the optical frame, principal components about the mean pose


@pytest.fixture(params=[RIGHT, LEFT])
def dex(request, tmp_path, monkeypatch):
    """One recording of one subject before one camera: a frame with the hand and one without."""
    monkeypatch.setattr(dexycb, "_SEQUENCES", 1)
    monkeypatch.setitem(dexycb.SPLITS, ("s0", "train"), dexycb.Part((0,), (0,), (0,)))
    arrays = MANO[request.param]
    turn, weights, translation = RNG.normal(0, 1, 3), RNG.normal(0, 0.5, 45), np.array([0.05, 0.1, 0.8])
    fingers = arrays["hands_mean"] + sum(
        w * row for w, row in zip(weights, arrays["hands_components"], strict=True)
    )
    mesh, bones = posed_by_hand(arrays, [*turn, *fingers], BETAS, translation)
    listed = np.concatenate([bones, mesh[TIPS["dexycb"]]])
    # manopth's own order, which is ours.
    joints = listed[[0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]]
    calibration = tmp_path / "calibration"
    for name, text in (
        (f"intrinsics/{dexycb.SERIALS[0]}_640x480.yml", "color: {fx: 600, fy: 600, ppx: 320, ppy: 240}\n"),
        ("mano_20200709_140042_subject-01_right/mano.yml", f"betas: {BETAS.tolist()}\n"),
    ):
        (calibration / name).parent.mkdir(parents=True)
        (calibration / name).write_text(text)
    recording = tmp_path / "20200709-subject-01" / "20200709_141754"
    (recording / dexycb.SERIALS[0]).mkdir(parents=True)
    side = {RIGHT: "right", LEFT: "left"}[request.param]
    (recording / "meta.yml").write_text(
        f"num_frames: 2\nmano_sides: [{side}]\nmano_calib: [20200709_140042_subject-01_right]\n"
    )
    for frame, there in enumerate((True, False)):
        home = recording / dexycb.SERIALS[0]
        picture(home / f"color_{frame:06d}.jpg")
        points = joints @ K.T
        pose = np.concatenate([turn, weights, translation])[None] if there else np.zeros((1, 51))
        np.savez(
            home / f"labels_{frame:06d}.npz",
            joint_3d=joints[None] if there else np.full((1, 21, 3), -1.0),
            joint_2d=(points[:, :2] / points[:, 2:])[None] if there else np.full((1, 21, 2), -1.0),
            pose_m=pose.astype(np.float32),
        )
    return tmp_path, request.param, mesh


def test_dexycbs_components_give_the_mesh_of_that_side(dex, mano):
    folder, side, mesh = dex
    there, none = DexYcb(folder, mano=mano)
    assert there.handedness.tolist() == [side] and there.has_vertices.tolist() == [True]
    np.testing.assert_allclose(there.vertices[0], mesh, atol=5e-6)
    assert len(none) == 0


def test_dexycb_without_mano_or_without_that_side_has_joints_alone(dex, right_alone):
    folder, side, _ = dex
    without, right = DexYcb(folder)[0], DexYcb(folder, mano=right_alone)[0]
    assert without.has_joints_3d.all() and not without.has_vertices.any() and not without.vertices.size
    assert right.has_joints_3d.all() and right.has_vertices.tolist() == [side == RIGHT]


def test_dexycbs_shapes_that_are_missing_are_named(dex, mano):
    folder = dex[0]
    path = folder / "calibration" / "mano_20200709_140042_subject-01_right" / "mano.yml"
    path.write_text("betas: [1, 2]\n")
    with pytest.raises(DataError, match=r"mano\.yml: no shape of DexYCB"):
        DexYcb(folder, mano=mano)
    assert len(DexYcb(folder)) == 2
    path.unlink()
    with pytest.raises(DataError, match=r"mano\.yml: cannot read"):
        DexYcb(folder, mano=mano)


def test_dexycbs_meshes_are_scored_with_the_networks_mano(dex, mano, monkeypatch, tmp_path):
    folder, _, mesh = dex
    monkeypatch.setitem(dexycb.SPLITS, ("s0", "test"), dexycb.SPLITS["s0", "train"])
    model = load_hand_model(mano / "MANO_RIGHT.pkl")
    monkeypatch.setattr(common, "load_pipeline", lambda args: standin_pipeline(hand_model=model))
    scores = []
    for words in (["--hand-model", str(mano / "MANO_RIGHT.pkl")], []):
        out = tmp_path / f"{len(scores)}.json"
        words = ["--benchmark", "dexycb", "--data", str(folder), "--json", str(out), *words]
        assert main(["eval", *words]) == 0
        scores.append(json.loads(out.read_text())["scores"])
    # The pictures are black and nothing is found: zeros, of which alignment makes the mesh's middle.
    spread = np.linalg.norm(mesh - mesh.mean(0), axis=1).mean()
    assert scores[0]["found"] == 0 and scores[0]["pa_mpvpe_mm"] == pytest.approx(1000 * spread, rel=1e-3)
    assert scores[1]["pa_mpvpe_mm"] is None and scores[1]["pa_mpjpe_mm"] == scores[0]["pa_mpjpe_mm"]
