"""Hands that hold something: in the palm, with fingers closed until they touch it, or in the fingertips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.contact import FINGER_RADIUS, finger_points, pinch
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.lathe import SHAPES, turned_object
from handos_ros.learning.synthesis.poses import PoseSampler
from handos_ros.learning.synthesis.rotations import frame

IN_PALM, IN_FINGERS = 0.11, 0.09
"""Shares of hands that hold something."""

COMBINED = 0.35
"""Share of held objects that have a handle or a knob."""

_STEPS = 12
_OPEN, _CLOSED = ((-12.0, 4, 2), (82.0, 100, 60))
_THUMB_OPEN, _THUMB_CLOSED = ((0.0, 30, -8, -5), (34.0, 33, 45, 50))


@dataclass
class Held:
    """Objects in hands, in the hand's own frame.

    Attributes:
        hand: (M,) which of the hands holds it; objects of two parts come twice.
        points: (M, lathe points, 3) m.
    """

    hand: Tensor
    points: Tensor


def draw_grips(
    sampler: PoseSampler, draws: Draws, hands: int, flexion: Tensor, abduction: Tensor
) -> tuple[Tensor, Tensor, Held]:
    """Let some of the hands hold something.

    Args:
        flexion, abduction: (B * hands, bones) rad, poses of the empty hands.

    Returns:
        The angles with those of the holding hands changed, and what they hold.
    """
    device = flexion.device
    fate = draws.uniform(hands).flatten()
    palm = (fate < IN_PALM).nonzero()[:, 0]
    tips = ((fate >= IN_PALM) & (fate < IN_PALM + IN_FINGERS)).nonzero()[:, 0]
    flexion, abduction = flexion.clone(), abduction.clone()
    n = len(flexion)
    shape = draws.choice((4, 2, 1, 1.5, 1, 0.5), hands).flatten()
    numbers = draws.uniform(hands, 8).reshape(n, 8)
    square = torch.where(numbers[:, 0] < 0.4, 0.12, 1.0)
    noise = draws.normal(hands, 6).reshape(n, 6)
    is_ball = (shape == SHAPES.index("ball")) | (shape == SHAPES.index("egg"))

    radius = torch.where(is_ball, 0.022 + 0.026 * numbers[:, 1], 0.009 + 0.028 * numbers[:, 1])
    length = torch.where(is_ball, radius, 0.035 + 0.1 * numbers[:, 2])
    half = torch.stack([radius, length, radius], -1)
    middle = sampler.hand.model.bone_heads[int(sampler.phalanges[2, 0])]
    rest = torch.tensor([0.004, 0.86 * float(middle[1]), 0.0], device=device)
    ahead = torch.tensor([0.0, 0.0, 1.0], device=device)
    centre = rest + ahead * (radius + 0.0125)[:, None]
    axis = torch.stack([torch.ones(n, device=device), 0.35 + 0.25 * noise[:, 0], 0.12 * noise[:, 1]], -1)
    turn = frame(axis, ahead.expand(n, 3))
    centre = centre + turn[:, :, 1] * (0.35 * length * noise[:, 2] * ~is_ball)[:, None]
    if len(palm):
        flexion[palm], abduction[palm] = _close(
            sampler, centre[palm], turn[palm], radius[palm], is_ball[palm]
        )

    if len(tips):
        thin = torch.where(numbers[:, 3] < 0.45, 0.003 + 0.003 * numbers[:, 1], 0.005 + 0.014 * numbers[:, 1])
        partner = (numbers[:, 4] < 0.35).long() + 1
        wide = torch.zeros(len(tips), 4, device=device)
        bends = torch.tensor([30.0, 35, 20], device=device) + 22 * noise[tips, :1, None]
        thumb = torch.tensor([22.0, 30, 22, 14], device=device).expand(len(tips), 4)
        f, a = sampler.from_states(bends.expand(-1, 4, 3).deg2rad(), thumb.deg2rad(), wide)
        f, a = pinch(sampler.hand, sampler.phalanges, f, a, partner[tips], 2 * thin[tips] + 0.008)
        flexion[tips], abduction[tips] = f, a
        bones = sampler.hand.bones(sampler.hand.rotations(f, a))
        i = torch.arange(len(tips), device=device)
        ends = bones.tails[:, sampler.phalanges[0, 2]], bones.tails[i, sampler.phalanges[partner[tips], 2]]
        centre[tips] = (ends[0] + ends[1]) / 2
        between = ends[1] - ends[0]
        # A pen lies across the fingertips; its end points past the root of the index finger.
        along = torch.tensor([0.25, 0.6, -0.75], device=device) + 0.5 * noise[tips, :3]
        along = along - (along * between).sum(-1, keepdim=True) * between / (between**2).sum(-1, keepdim=True)
        turn[tips] = frame(along, between)
        long = torch.where(
            numbers[:, 3] < 0.45, 0.05 + 0.03 * numbers[:, 2], thin * (0.8 + 2 * numbers[:, 2])
        )
        flat = torch.where(numbers[:, 3] < 0.45, thin, thin * (1 + 2 * numbers[:, 5]))
        half[tips] = torch.stack([flat, long, thin], -1)[tips]
        slide = torch.where(numbers[:, 3] < 0.45, 0.6 * noise[:, 3], 0.0) * long
        centre[tips] = centre[tips] + (turn[:, :, 1] * slide[:, None])[tips]

    held = torch.cat([palm, tips])
    more = draws.uniform(hands, 3).reshape(n, 3)
    points = turned_object(
        shape[held], numbers[held, 6:8], half[held], square[held], torch.zeros_like(square[held])
    )
    twofold = held[more[held, 0] < COMBINED]
    points = torch.cat([points, _second_parts(half[twofold], more[twofold])])
    held = torch.cat([held, twofold])
    points = points @ turn[held].transpose(1, 2) + centre[held, None]
    return flexion, abduction, Held(held, points)


def _second_parts(half: Tensor, numbers: Tensor) -> Tensor:
    """(N, lathe points, 3) handles and knobs for objects of half sizes (N, 3)."""
    radius, length = half[:, 0], half[:, 1]
    handle = numbers[:, 1] < 0.5
    bend = torch.where(handle, 3.6, 0.0)
    arc = torch.minimum(0.9 * length, 0.015 + 0.8 * radius)
    thick = 0.12 * arc + 0.002
    knob = radius * (0.5 + 0.8 * numbers[:, 2])
    size = torch.where(
        handle[:, None], torch.stack([thick, arc, thick], 1), torch.stack([knob, 0.3 * length, knob], 1)
    )
    # A handle's ends bend back to the object's side; a knob sits on its end.
    sag = (1 - torch.cos(bend / 2)) * 2 * arc / bend.clamp(min=1e-3)
    zero = torch.zeros_like(sag)
    place = torch.where(
        handle[:, None],
        torch.stack([-(0.95 * radius + sag), zero, zero], 1),
        torch.stack([zero, 1.2 * length, zero], 1),
    )
    shape = torch.where(handle, SHAPES.index("can"), (3 * numbers[:, 2]).long())
    points = turned_object(shape, numbers[:, 1:3], size, torch.ones_like(sag), bend)
    return points + place[:, None]


def _close(
    sampler: PoseSampler, centre: Tensor, turn: Tensor, radius: Tensor, is_ball: Tensor
) -> tuple[Tensor, Tensor]:
    """Close each finger as far as the object lets it: a rod about its axis, or a ball."""
    device = centre.device
    n, t = len(centre), torch.linspace(0, 1, _STEPS, device=device)
    start, end = torch.tensor(_OPEN, device=device), torch.tensor(_CLOSED, device=device)
    bends = (start + (end - start) * t[:, None])[:, None].expand(-1, 4, -1).deg2rad()
    start, end = torch.tensor(_THUMB_OPEN, device=device), torch.tensor(_THUMB_CLOSED, device=device)
    thumb = (start + (end - start) * t[:, None]).deg2rad()
    flexion, abduction = sampler.from_states(bends, thumb, torch.zeros(_STEPS, 4, device=device))
    points = finger_points(sampler.hand.bones(sampler.hand.rotations(flexion, abduction)), sampler.phalanges)
    offset = points[None, :, :, 1:] - centre[:, None, None, None]
    along = (offset * turn[:, None, None, None, :, 1]).sum(-1, keepdim=True)
    across = offset - along * turn[:, None, None, None, :, 1]
    distance = torch.where(is_ball[:, None, None, None], offset.norm(dim=-1), across.norm(dim=-1))
    room = distance - radius[:, None, None, None] - torch.tensor(FINGER_RADIUS, device=device)[:, None]
    # (N, steps, fingers): free up to the first step at which the finger would be inside.
    free = (room.amin(-1) > -0.0015).long().cumprod(1).sum(1)
    step = (free - 1).clamp(min=0)
    result_f, result_a = flexion[:1].repeat(n, 1), abduction[:1].repeat(n, 1)
    for finger in range(5):
        bones = sampler.phalanges[finger]
        result_f[:, bones] = flexion[step[:, finger]][:, bones]
        result_a[:, bones] = abduction[step[:, finger]][:, bones]
    return result_f, result_a
