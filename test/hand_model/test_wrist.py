"""The wrist's axes on real hand shapes, turned at random."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handos_ros.hand_model.model import load_hand_model
from handos_ros.hand_model.wrist import quaternions, wrist_axes, wrist_orientations


@pytest.fixture(scope="module")
def right():
    """(21, 3): in the model's own frame, x to the thumb, y to the fingers, z out of the palm."""
    model = load_hand_model()
    return model.joint_regressor @ model.template


def test_axes_point_where_the_message_says(right):
    left = right * [-1, 1, 1]
    axes = wrist_axes(np.stack([right, left]), [1, 0])
    for side, joints in enumerate((right, left)):
        x, y, z = axes[side].T
        assert z @ [0, 1, 0] > 0.95  # to the fingers
        assert y @ [1, 0, 0] > 0.9  # right: to the thumb; left: from it, since its thumb is at -x
        assert x @ [0, 0, 1] > 0.9  # out of the palm on both
        np.testing.assert_allclose(np.cross(x, y), z, atol=1e-9)
        to_middle = joints[9] - joints[0]
        np.testing.assert_allclose(z, to_middle / np.linalg.norm(to_middle), atol=1e-6)


def test_axes_turn_with_the_hand(right):
    rng = np.random.default_rng(0)
    turns = Rotation.random(200, random_state=rng)
    hands = np.stack([turn.apply(right) + rng.normal(size=3) for turn in turns])
    rest = Rotation.from_matrix(wrist_axes(right[None], [1])[0])
    q = wrist_orientations(hands, np.ones(200))
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, atol=1e-12)
    assert (q[:, 3] >= 0).all()
    error = (turns * rest).inv() * Rotation.from_quat(q)
    assert error.magnitude().max() < 1e-5


def test_quaternions_of_half_turns():
    turns = np.stack([np.diag(d) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1], [1.0, 1, 1])])
    np.testing.assert_allclose(np.abs(quaternions(turns)), np.eye(4), atol=1e-12)


@pytest.mark.parametrize("spoil", ["points", "line", "nan", "inf"])
def test_hands_without_axes_give_the_identity(right, spoil):
    joints = right.copy()
    if spoil == "points":
        joints[:] = 0.3
    elif spoil == "line":
        joints[:] = np.linspace(0, 1, 21)[:, None] * [0.1, 0.2, 0.3]
    elif spoil == "nan":
        joints[9] = np.nan
    else:
        joints[9] = np.inf
    both = wrist_orientations(np.stack([joints, right]), [1, 1])
    np.testing.assert_array_equal(both[0], [0, 0, 0, 1])
    assert not np.allclose(both[1], [0, 0, 0, 1])


def test_no_hands():
    assert wrist_orientations(np.zeros((0, 21, 3)), np.zeros(0)).shape == (0, 4)
