"""Posed hands: equal to the NumPy model's, within limits, fingers that meet and do not sink in."""

import numpy as np
import pytest
import torch

from handos_ros.errors import DataError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hand_model.poses import bone_limits
from handos_ros.hand_model.posing import anatomical_rotations, pose
from handos_ros.learning.synthesis.contact import penetration, pinch
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.grips import draw_grips
from handos_ros.learning.synthesis.poses import KINDS, PoseSampler
from handos_ros.learning.synthesis.skinning import TorchHand


@pytest.fixture(scope="module")
def sampler():
    return PoseSampler(TorchHand(load_hand_model()))


def test_skinning_equals_the_hand_models(sampler):
    draws = Draws(0, torch.arange(5))
    bones, shapes = sampler.hand.model.num_bones, len(sampler.hand.model.shape_names)
    flexion, abduction, twist = (0.5 * draws.normal(bones) for _ in range(3))
    shape = draws.normal(shapes)
    vertices, joints = sampler.hand.pose(sampler.hand.rotations(flexion, abduction, twist), shape)
    rotations = anatomical_rotations(sampler.hand.model, flexion.numpy(), abduction.numpy(), twist.numpy())
    want_vertices, want_joints = pose(sampler.hand.model, rotations, shape.numpy())
    np.testing.assert_allclose(vertices.numpy(), want_vertices, atol=2e-6)
    np.testing.assert_allclose(joints.numpy(), want_joints, atol=2e-6)


def test_the_skeleton_alone_is_where_the_skin_has_it(sampler):
    flexion, abduction = sampler.draw(Draws(1, torch.arange(4)), 1)
    rotations = sampler.hand.rotations(flexion, abduction)
    _, joints = sampler.hand.pose(rotations, torch.zeros(4, len(sampler.hand.shape_basis)))
    knuckles = sampler.hand.bones(rotations).heads[:, sampler.phalanges[1:, 1]]
    assert (knuckles - joints[:, [6, 10, 14, 18]]).norm(dim=-1).max() < 0.004


def test_poses_stay_within_limits_and_differ(sampler):
    low, high, left, right = torch.tensor(bone_limits(sampler.hand.model)).float().T
    flexion, abduction = sampler.draw(Draws(2, torch.arange(150)), 2)
    flexion, abduction, _ = draw_grips(sampler, Draws(3, torch.arange(150)), 2, flexion, abduction)
    eps = 1e-5
    assert (flexion >= low - eps).all() and (flexion <= high + eps).all()
    assert (abduction >= left - eps).all() and (abduction <= right + eps).all()
    index = flexion[:, sampler.phalanges[1, 1]].rad2deg()
    assert index.std() > 20
    # Fists, open hands and everything between.
    assert index.min() < 0 and index.max() > 70


def test_fingers_hardly_sink_into_each_other(sampler):
    flexion, abduction = sampler.draw(Draws(4, torch.arange(100)), 2)
    depth = penetration(sampler.hand.bones(sampler.hand.rotations(flexion, abduction)), sampler.phalanges)
    assert depth.quantile(0.9) < 0.004
    crossed = torch.zeros(1, sampler.hand.model.num_bones)
    crossed[:, sampler.phalanges[0]] = 0.9
    crossed[:, sampler.phalanges[1]] = 1.2
    assert (
        penetration(sampler.hand.bones(sampler.hand.rotations(crossed, 0 * crossed)), sampler.phalanges)
        > 0.005
    )


def test_a_pinch_closes(sampler):
    start, aside = sampler.from_states(
        torch.full((4, 4, 3), 0.5), torch.tensor([0.4, 0.5, 0.4, 0.3]).expand(4, 4), torch.zeros(4, 4)
    )
    gap, partner = torch.full((4,), 0.006), torch.tensor([1, 2, 3, 4])
    flexion, abduction = pinch(sampler.hand, sampler.phalanges, start, aside, partner, gap)
    tails = sampler.hand.bones(sampler.hand.rotations(flexion, abduction)).tails
    distance = (
        tails[:, sampler.phalanges[0, 2]] - tails[torch.arange(4), sampler.phalanges[partner, 2]]
    ).norm(dim=1)
    assert (distance[:3] - 0.006).abs().max() < 0.002
    assert distance[3] < 0.02  # not every hand reaches its little finger


def test_hands_close_around_what_they_hold(sampler):
    flexion, abduction = sampler.draw(Draws(5, torch.arange(200)), 1)
    flexion, abduction, held = draw_grips(sampler, Draws(6, torch.arange(200)), 1, flexion, abduction)
    holding = set(held.hand.tolist())
    assert 20 < len(holding) < 70
    assert len(holding) < len(held.hand) <= 2 * len(holding)  # some have handles
    tails = sampler.hand.bones(sampler.hand.rotations(flexion, abduction)).tails[held.hand]
    tips = tails[:, sampler.phalanges[:, 2]]
    distance = torch.cdist(tips, held.points).amin((1, 2))
    assert distance.median() < 0.015


def test_kinds_of_pose_are_drawn_as_often_as_asked_for():
    hand = TorchHand(load_hand_model())
    thumbs = PoseSampler(hand, {**dict.fromkeys(KINDS, 0.0), "thumb": 1.0})
    flexion, abduction = thumbs.draw(Draws(5, torch.arange(40)), 1)
    _, joints = hand.pose(hand.rotations(flexion, abduction), torch.zeros(40, len(hand.shape_basis)))
    from_wrist = (joints - joints[:, :1]).norm(dim=-1)
    # Thumbs up: fingertips are nearer to the wrist than their middle joints, the thumb's is not.
    assert (from_wrist[:, [8, 12, 16, 20]] < from_wrist[:, [6, 10, 14, 18]]).float().mean() > 0.95
    assert (from_wrist[:, 4] > from_wrist[:, 3]).all()
    same, other = (PoseSampler(hand, shares).draw(Draws(6, torch.arange(40)), 1) for shares in (None, {}))
    assert (same[0] == other[0]).all() and "thumb" in KINDS


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"thumbs": 1.0}, "no kind thumbs; known are curl"),
        ({"fist": -0.1}, "negative"),
        (dict.fromkeys(KINDS, 0.0), "all 0"),
    ],
)
def test_kinds_of_pose_that_cannot_be_drawn_are_named(shares, said):
    with pytest.raises(DataError, match=said):
        PoseSampler(TorchHand(load_hand_model()), shares)
