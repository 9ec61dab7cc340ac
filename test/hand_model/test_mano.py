"""Reading a user's MANO file, and refusing what only looks like one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hand_model.mano_file import Python2Pickler, mano_arrays, write_pickle

from handos_ros.errors import ModelError
from handos_ros.hand_model.mano import TIPS, load_mano, read_mano
from handos_ros.hand_model.model import load_hand_model, signed_volumes
from handos_ros.hand_model.posing import axis_rotations, pose


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return mano_arrays()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    return write_pickle(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl", arrays)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_official_pickle_gives_its_arrays(tmp_path, arrays, protocol):
    read = read_mano(write_pickle(tmp_path / "MANO_RIGHT.pkl", arrays, protocol))
    for name, array in arrays.items():
        np.testing.assert_allclose(read[name], array, err_msg=name)


def test_file_of_python_2_is_read(tmp_path, arrays):
    data = {name: np.asfortranarray(array) for name, array in arrays.items()}
    with open(tmp_path / "m.pkl", "wb") as file:
        Python2Pickler(file, protocol=2).dump(data)
    assert b"numpy.core.multiarray\n_reconstruct" in (tmp_path / "m.pkl").read_bytes()
    np.testing.assert_array_equal(read_mano(tmp_path / "m.pkl")["posedirs"], arrays["posedirs"])


def test_model_has_mano_s_shape(model_file):
    model = load_hand_model(model_file)
    assert (model.num_vertices, model.num_bones, len(model.faces)) == (778, 16, 1538 + 14)
    assert len(load_mano(model_file, closed=False).faces) == 1538
    assert model.joint_regressor.shape == (21, 778)
    np.testing.assert_allclose((model.joint_regressor @ model.template)[0], 0, atol=1e-6)
    assert signed_volumes(model.template[None], model.faces)[0] > 0
    assert signed_volumes(model.template[None] * [-1, 1, 1], model.faces)[0] < 0
    # Closed: every edge is used once in each direction.
    edges = [tuple(e) for f in model.faces for e in zip(f, np.roll(f, -1), strict=True)]
    assert len(set(edges)) == len(edges) and {(b, a) for a, b in edges} == set(edges)


@pytest.mark.parametrize("name", TIPS)
def test_fingertips_follow_the_named_convention(model_file, name):
    model = load_mano(model_file, tips=name)
    assert model.joint_regressor[[4, 8, 12, 16, 20]].argmax(1).tolist() == list(TIPS[name])
    assert set(TIPS[name]) <= set(model.coarse.tolist())


def test_posing_is_mano_s_own_formula(model_file, arrays):
    """Against a plain loop over vertices, with pose offsets and betas."""
    random = np.random.default_rng(3)
    axes = random.normal(size=(16, 3))
    angles = random.uniform(-1, 1, 16)
    rotations = axis_rotations(axes / np.linalg.norm(axes, axis=1, keepdims=True), angles)
    betas = random.normal(size=10)
    shaped = arrays["v_template"] + arrays["shapedirs"] @ betas
    joints = arrays["J_regressor"] @ shaped
    rest = shaped + arrays["posedirs"] @ (rotations[1:] - np.eye(3)).ravel()
    transforms = []
    for bone, parent in enumerate(arrays["kintree_table"][0]):
        local = np.eye(4)
        local[:3, :3] = rotations[bone]
        local[:3, 3] = joints[bone] - (joints[parent] if bone else 0)
        transforms.append(transforms[parent] @ local if bone else local)
    want = np.zeros((778, 3))
    for bone, transform in enumerate(transforms):
        moved = (rest - joints[bone]) @ transform[:3, :3].T + transform[:3, 3]
        want += arrays["weights"][:, bone, None] * moved
    got, _ = pose(load_hand_model(model_file), rotations[None], betas[None])
    np.testing.assert_allclose(got[0], want - joints[0], atol=2e-6)


def test_npz_is_read_as_well(tmp_path, arrays, model_file):
    np.savez(tmp_path / "mano.npz", **arrays)
    a, b = load_hand_model(tmp_path / "mano.npz"), load_hand_model(model_file)
    # The same arrays elsewhere in memory: some processors then add in another order.
    np.testing.assert_allclose(a.template, b.template, rtol=0, atol=1e-15)


class _Malice:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch {}"), "system"),
        ((eval, "open('{}', 'w')"), "eval"),
        ((getattr, "a", "b"), "getattr"),
    ],
)
def test_pickle_with_a_call_is_refused_by_name(tmp_path, arrays, call, name):
    proof = tmp_path / "proof"
    call = (call[0], *(argument.format(proof) for argument in call[1:]))
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({**arrays, "extra": _Malice(*call)}, protocol=2))
    with pytest.raises(ModelError, match=rf"evil\.pkl: refused to unpickle .*{name}"):
        load_hand_model(tmp_path / "evil.pkl")
    assert not proof.exists()


def test_numpy_itself_cannot_be_called_through_a_pickle(tmp_path):
    """An array made over a buffer of fake object pointers would be memory in an attacker's hands."""
    evil = _Malice(np.ndarray, (1,), "O", b"\0" * 8)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": evil}, protocol=4))
    with pytest.raises(ModelError, match=r"evil\.pkl"):
        load_hand_model(tmp_path / "evil.pkl")


def test_left_hand_is_refused(tmp_path, arrays):
    left = {**arrays, "v_template": arrays["v_template"] * [-1, 1, 1], "f": arrays["f"][:, ::-1]}
    with pytest.raises(ModelError, match=r"MANO_LEFT\.pkl: a left hand"):
        load_hand_model(write_pickle(tmp_path / "MANO_LEFT.pkl", left))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((777, 16))}, "weights is"),
        ({"v_template": np.full((778, 3), np.nan)}, "v_template is"),
        ({"f": np.full((1538, 3), 778)}, "f names a vertex"),
        ({"weights": np.zeros((778, 16))}, "skinning does not sum to 1"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, change, message):
    np.savez(tmp_path / "m.npz", **{**arrays, **change})
    with pytest.raises(ModelError, match=rf"m\.npz.*{message}"):
        load_hand_model(tmp_path / "m.npz")


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x01(", b"no pickle at all", pickle.dumps([1, 2])])
def test_what_is_no_pickle_is_named(tmp_path, content):
    (tmp_path / "m.pkl").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.pkl"):
        load_hand_model(tmp_path / "m.pkl")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.pkl: cannot read"):
        load_hand_model(tmp_path / "nowhere.pkl")
    with pytest.raises(ModelError, match=r"nowhere\.npz: cannot read"):
        load_hand_model(tmp_path / "nowhere.npz")
