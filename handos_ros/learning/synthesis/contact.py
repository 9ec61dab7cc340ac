"""Fingers that touch: pinches solved on the skeleton, and how deep fingers sink into each other."""

from __future__ import annotations

import torch
from torch import Tensor

from handos_ros.learning.synthesis.skinning import Bones, TorchHand

PINCH_STEPS = 10
DAMPING = 1e-4
"""m^2 per rad^2, of the damped least squares that close a pinch."""

FINGER_RADIUS = (0.0105, 0.0085, 0.0085, 0.0082, 0.0072)
"""m, half the thickness of each finger of an average hand."""
PALM_RADIUS = 0.011
TOLERANCE = 0.003
"""m that skin yields."""


def pinch(
    hand: TorchHand, phalanges: Tensor, flexion: Tensor, abduction: Tensor, partner: Tensor, gap: Tensor
) -> tuple[Tensor, Tensor]:
    """Bring the thumb's tip and another finger's tip together, within the limits of their joints.

    Args:
        phalanges: (5, 3) bones of each finger.
        flexion, abduction: (N, bones) rad to start from.
        partner: (N,) finger that meets the thumb, 1 to 4.
        gap: (N,) m between the tips; they are on the skin's end, so pads meet at a few millimetres.

    Returns:
        New flexion and abduction.
    """
    low, high, left, right = hand.limits.unbind(1)
    n = torch.arange(len(flexion), device=flexion.device)
    flexion, abduction = flexion.clone(), abduction.clone()
    thumb = phalanges[0].expand(len(n), 3)
    finger = phalanges[partner]
    chain = torch.cat([thumb, finger], 1)
    sign = torch.tensor([-1.0, -1, -1, 1, 1, 1], device=flexion.device)[None, :, None]
    tips = torch.stack([thumb[:, 2], finger[:, 2]], 1)
    for _ in range(PINCH_STEPS):
        bones = hand.bones(hand.rotations(flexion, abduction))
        tip = bones.tails[n[:, None], tips]
        between = tip[:, 1] - tip[:, 0]
        distance = between.norm(dim=1, keepdim=True).clamp(min=1e-6)
        error = between * (1 - gap[:, None] / distance)
        heads = bones.heads[n[:, None], chain]
        # R = abduction @ flexion: both axes seen after the parent's turn, flexion's after abduction too.
        above = bones.turns[n[:, None], hand.parents[chain]]
        aside = (above @ hand.abduction_axes[chain][..., None])[..., 0]
        turned = bones.turns[n[:, None], chain]
        bend = (turned @ hand.flexion_axes[chain][..., None])[..., 0]
        arm = torch.cat([tip[:, :1].expand(-1, 3, -1), tip[:, 1:].expand(-1, 3, -1)], 1) - heads
        jacobian = torch.cat([sign * torch.linalg.cross(bend, arm), sign * torch.linalg.cross(aside, arm)], 1)
        gram = jacobian.transpose(1, 2) @ jacobian + DAMPING * torch.eye(3, device=flexion.device)
        change = -(jacobian @ torch.linalg.solve(gram, error[..., None]))[..., 0].clamp(-0.4, 0.4)
        flexion[n[:, None], chain] += change[:, :6]
        abduction[n[:, None], chain] += change[:, 6:]
        flexion = torch.minimum(torch.maximum(flexion, low), high)
        abduction = torch.minimum(torch.maximum(abduction, left), right)
    return flexion, abduction


def finger_points(bones: Bones, phalanges: Tensor) -> Tensor:
    """(N, 5, 7, 3) points along the middle of each finger, from its root to short of its tip."""
    heads, tails = bones.heads[:, phalanges], bones.tails[:, phalanges]
    middle = (heads + tails) / 2
    last = tails[:, :, 2:] + 0.3 * (heads[:, :, 2:] - tails[:, :, 2:])
    points = torch.stack([heads, middle], 3).flatten(2, 3)
    return torch.cat([points, last], 2)


def penetration(bones: Bones, phalanges: Tensor) -> Tensor:
    """(N,) m, how deep fingers are inside other fingers and the palm, summed over points."""
    radius = torch.tensor(FINGER_RADIUS, device=phalanges.device)
    # The thumb's root is part of the palm, and so are the knuckles.
    points = finger_points(bones, phalanges)[:, :, 2:]
    count = points.shape[2]
    flat = points.flatten(1, 2)
    radii = radius.repeat_interleave(count)
    finger = torch.arange(5, device=phalanges.device).repeat_interleave(count)
    depth = radii[:, None] + radii - TOLERANCE - torch.cdist(flat, flat)
    inside = depth.clamp(min=0) * (finger[:, None] < finger)
    knuckles = bones.heads[:, phalanges[1:, 0]]
    palm = torch.cat([0.35 * bones.heads[:, :1] + 0.65 * knuckles, knuckles], 1)
    outer = points[:, :, 2:].flatten(1, 2)
    outer_radii = radius.repeat_interleave(count - 2)
    sunk = outer_radii[:, None] + PALM_RADIUS - TOLERANCE - torch.cdist(outer, palm)
    return inside.sum((1, 2)) + sunk.clamp(min=0).sum((1, 2))
