"""Tests of the side: right and left, whatever the pose, size or opening of the mesh."""

from types import SimpleNamespace

import numpy as np
import pytest

from handos_ros.hand_model.model import load_hand_model
from handos_ros.inference.side import SideReader
from standin import standin_hand_model


def random_rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def without_cap(model):
    """The same hand, open at the wrist as MANO is: the faces around the lowest vertices are gone."""
    low = np.argsort(model.template[:, 1])[:12]
    open_faces = model.faces[~np.isin(model.faces, low).any(1)]
    return type(model)(**{**vars_of(model), "faces": open_faces, "uv": None})


def vars_of(model):
    return {name: getattr(model, name) for name in type(model).__dataclass_fields__}


@pytest.fixture(params=["shipped", "open", "stand-in"])
def model(request):
    if request.param == "stand-in":
        return standin_hand_model()
    shipped = load_hand_model()
    return without_cap(shipped) if request.param == "open" else shipped


def test_turned_moved_scaled_and_mirrored_hands(model):
    rng = np.random.default_rng(1)
    hands = []
    for side in (1, 0, 0, 1, 1, 0):
        hand = model.template * [1 if side else -1, 1, 1]
        hands.append(hand @ random_rotation(rng).T * rng.uniform(0.3, 3) + rng.normal(size=3))
    handedness, scores = SideReader(model)(np.array(hands, np.float32))
    assert handedness.tolist() == [1, 0, 0, 1, 1, 0]
    np.testing.assert_allclose(scores, 1, atol=1e-3)


def test_a_mesh_pressed_flat_has_no_side(model):
    read = SideReader(model)
    flat = model.template * np.float32([1, 1, 0])
    np.testing.assert_allclose(read(flat[None])[1], 0.5, atol=1e-6)
    np.testing.assert_array_equal(read(np.zeros_like(flat)[None])[1], 0.5)


def test_the_score_falls_as_a_hand_turns_inside_out(model):
    thin = np.linspace(1, -1, 9)[:, None, None]
    hands = model.template * np.concatenate([np.ones((9, 1, 2)), thin], 2)
    handedness, scores = SideReader(model)(hands)
    assert handedness.tolist() == [1] * 5 + [0] * 4
    assert (np.diff(scores[:5]) < 0).all() and (np.diff(scores[4:]) > 0).all()
    np.testing.assert_allclose(scores, scores[::-1], atol=1e-6)


def test_an_open_surface_counts_as_if_it_were_closed():
    """A cube without its lid, then with its mouth twice as wide, against volume and area by hand."""
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float32)
    quads = [(0, 2, 3, 1), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6)]
    faces = np.array([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))])
    box = SimpleNamespace(template=corners, faces=faces, num_vertices=8)
    bowl = corners.copy()
    bowl[4:, :2] = 2 * bowl[4:, :2] - 0.5
    volume, area = (1 + 4 + 2) / 3, 1 + 4 * 1.5 * np.sqrt(1 + 0.25)
    measured = SideReader(box).orientation(bowl[None] + np.float32([5, -3, 2]))
    np.testing.assert_allclose(measured, volume / area**1.5 * 5**1.5, rtol=1e-5)


def test_no_hands(model):
    handedness, scores = SideReader(model)(np.zeros((0, model.num_vertices, 3), np.float32))
    assert handedness.shape == scores.shape == (0,)
