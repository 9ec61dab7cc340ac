"""MANO posed by pose, shape and translation, against the formula written out vertex by vertex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hand_model.mano_file import left_arrays, mano_arrays, posed_by_hand, write_pickle

from handos_ros.errors import ModelError
from handos_ros.hand_model.mano_posing import load_mano_hands, pose_from_components, pose_mano
from handos_ros.hands import LEFT, RIGHT

RNG = np.random.default_rng(5)
POSE, BETAS, TRANSLATION = RNG.normal(0, 0.6, 48), RNG.normal(size=10), np.array([0.1, -0.2, 0.9])


@pytest.fixture(scope="module")
def arrays() -> dict[int, dict[str, np.ndarray]]:
    right = mano_arrays()
    return {RIGHT: right, LEFT: left_arrays(right)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, arrays) -> Path:
    home = tmp_path_factory.mktemp("mano")
    for side, name in ((RIGHT, "MANO_RIGHT"), (LEFT, "MANO_LEFT")):
        write_pickle(home / f"{name}.pkl", arrays[side])
    return home


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_vertices_and_joints_are_mano_s(folder, arrays, side):
    vertices, heads = pose_mano(load_mano_hands(folder)[side], POSE, BETAS, TRANSLATION)
    wanted, joints = posed_by_hand(arrays[side], POSE, BETAS, TRANSLATION)
    np.testing.assert_allclose(vertices, wanted, atol=3e-6)
    np.testing.assert_allclose(heads, joints, atol=3e-6)


def test_every_part_of_the_formula_tells(folder, arrays):
    """A term that were left out would go unnoticed if its share were below the tolerance."""
    hand = load_mano_hands(folder)[RIGHT]
    whole, _ = pose_mano(hand, POSE, BETAS, TRANSLATION)
    for name in ("shapedirs", "posedirs"):
        without, _ = posed_by_hand({**arrays[RIGHT], name: 0 * arrays[RIGHT][name]}, POSE, BETAS, TRANSLATION)
        assert np.abs(without - whole).max() > 1e-4


def test_without_pose_and_shape_it_is_the_template_at_the_translation(folder, arrays):
    vertices, _ = pose_mano(load_mano_hands(folder)[RIGHT], np.zeros(48), np.zeros(10), TRANSLATION)
    np.testing.assert_allclose(vertices, arrays[RIGHT]["v_template"] + TRANSLATION, atol=1e-6)


def test_the_whole_hand_turns_about_its_wrist_and_not_about_the_origin(folder):
    hand = load_mano_hands(folder)[RIGHT]
    _, still = pose_mano(hand, np.zeros(48), BETAS, TRANSLATION)
    _, turned = pose_mano(hand, [1.0, 0.5, -0.3, *np.zeros(45)], BETAS, TRANSLATION)
    np.testing.assert_allclose(turned[0], still[0], atol=1e-7)
    assert np.linalg.norm(turned[9] - still[9]) > 0.01


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("count", [45, 6])
def test_components_are_rows_and_their_origin_is_the_mean_pose_or_the_flat_hand(folder, arrays, count, flat):
    right = arrays[RIGHT]
    wanted = np.zeros(45) if flat else right["hands_mean"].copy()
    for weight, component in zip(POSE[3 : 3 + count], right["hands_components"], strict=False):
        wanted += weight * component
    hand = load_mano_hands(folder)[RIGHT]
    pose = pose_from_components(hand, POSE[: 3 + count], flat_hand_mean=flat)
    np.testing.assert_allclose(pose, [*POSE[:3], *wanted], atol=1e-12)


def test_mirrored_parameters_give_the_mirrored_hand(folder):
    """With betas, too, were it not for the official left file, whose shapes are those of the right one."""
    hands = load_mano_hands(folder)
    mirrored = POSE.reshape(16, 3) * [1, -1, -1]
    left, _ = pose_mano(hands[LEFT], mirrored, np.zeros(10), TRANSLATION * [-1, 1, 1])
    right, _ = pose_mano(hands[RIGHT], POSE, np.zeros(10), TRANSLATION)
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-6)


def test_one_file_is_the_right_hand_and_the_left_one_is_looked_for_beside_it(folder, tmp_path, arrays):
    assert set(load_mano_hands(folder / "MANO_RIGHT.pkl")) == {LEFT, RIGHT}
    alone = write_pickle(tmp_path / "MANO_RIGHT.pkl", arrays[RIGHT])
    assert set(load_mano_hands(alone)) == {RIGHT}
    np.savez(tmp_path / "MANO_RIGHT.npz", **arrays[RIGHT])
    assert set(load_mano_hands(tmp_path / "MANO_RIGHT.npz")) == {RIGHT}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hands_mean": np.zeros(6)}, r"MANO_RIGHT\.npz: not MANO: hands_mean is \(6,\), needs 45"),
        ({"hands_components": None}, r"MANO_RIGHT\.npz: .*lacks hands_mean or hands_components"),
        ({"v_template": "mirrored"}, r"MANO_RIGHT\.npz: the other hand; MANO_RIGHT is needed"),
    ],
)
def test_files_that_cannot_pose_are_named(tmp_path, arrays, change, message):
    content = {**arrays[RIGHT], **change}
    if change.get("v_template") is not None:
        content["v_template"] = arrays[LEFT]["v_template"]
    path = tmp_path / "MANO_RIGHT.npz"
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    with pytest.raises(ModelError, match=message):
        load_mano_hands(path)


def test_a_left_hand_in_another_order_of_vertices_is_refused(tmp_path, arrays):
    write_pickle(tmp_path / "MANO_RIGHT.pkl", arrays[RIGHT])
    left = {**arrays[LEFT], "v_template": arrays[LEFT]["v_template"] + np.array([0, 0, 0.02])}
    write_pickle(tmp_path / "MANO_LEFT.pkl", left)
    with pytest.raises(ModelError, match=r"MANO_LEFT\.pkl: its vertices are not those of MANO_RIGHT\.pkl"):
        load_mano_hands(tmp_path)
    with pytest.raises(ModelError, match=r"MANO_RIGHT\.pkl: cannot read"):
        load_mano_hands(tmp_path / "nowhere" / "MANO_RIGHT.pkl")
