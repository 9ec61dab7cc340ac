"""Everything that is no hand: rings of points along a curve, from pens and boxes to arms and sleeves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.rotations import axis_rotations, unit

RINGS, SEGMENTS = 10, 16

ELBOW = 0.24
"""m from the wrist."""

SHAPES = ("can", "ball", "cone", "bottle", "egg", "hourglass")
"""Outlines: radius along the axis."""


def lathe_faces(device: torch.device | str = "cpu") -> Tensor:
    """(F, 3) faces over `RINGS` x `SEGMENTS` points; normals point out where rings run along +y."""
    ring, segment = torch.meshgrid(torch.arange(RINGS - 1), torch.arange(SEGMENTS), indexing="ij")
    a = ring * SEGMENTS + segment
    b = ring * SEGMENTS + (segment + 1) % SEGMENTS
    c, d = a + SEGMENTS, b + SEGMENTS
    faces = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).reshape(-1, 3)
    return faces.to(device)


def lathe_uv(device: torch.device | str = "cpu") -> Tensor:
    """(F, 3, 2) around and along, 0 to 1, of each face's corners; whole across the seam."""
    faces = lathe_faces()
    around = (faces % SEGMENTS).float()
    # On the seam the last column meets the first one turned once around.
    seam = (faces % SEGMENTS).amax(1) - (faces % SEGMENTS).amin(1) > 1
    around = torch.where(seam[:, None] & (around == 0), float(SEGMENTS), around)
    along = (faces // SEGMENTS).float() / (RINGS - 1)
    return torch.stack([around / SEGMENTS, along], -1).to(device)


def sweep(
    centres: Tensor, sides: Tensor, radii: Tensor, squareness: Tensor, profile: Tensor | None = None
) -> Tensor:
    """Points of N lathes.

    Args:
        centres: (N, RINGS, 3) m.
        sides: (N, RINGS, 3, 2) the two unit vectors that span each ring; their cross product runs
            against the axis.
        radii: (N, RINGS, 2) m along the two.
        squareness: (N,) exponent of the ring's super-ellipse, 1 round, towards 0 square.
        profile: (SEGMENTS,) factors of the rings' radius, None for 1.

    Returns:
        (N, RINGS * SEGMENTS, 3).
    """
    angle = torch.arange(SEGMENTS, device=centres.device) * (2 * math.pi / SEGMENTS)
    circle = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    circle = torch.where(circle.abs() < 1e-6, 0.0, circle)
    ring = circle.sign() * circle.abs() ** squareness[:, None, None]
    if profile is not None:
        ring = ring * profile[:, None]
    flat = radii[:, :, None] * ring[:, None]
    points = centres[:, :, None] + torch.einsum("nrij,nrsj->nrsi", sides, flat)
    return points.flatten(1, 2)


def outline(shape: Tensor, bulge: Tensor) -> tuple[Tensor, Tensor]:
    """Rings of the `SHAPES` (N,): (N, RINGS) place along the axis in [-1, 1] and radius in [0, 1].

    Args:
        bulge: (N, 2) in [0, 1], what else varies in a shape.
    """
    t = torch.linspace(-1, 1, RINGS, device=shape.device).expand(len(shape), -1)
    # Flat ends: two rings at each end share their place, the outer ones have no radius.
    flat = torch.tensor([-1.0, -1.0, -0.96, *torch.linspace(-0.75, 0.75, RINGS - 6).tolist(), 0.96, 1, 1])
    flat = flat.to(shape.device).expand_as(t)
    cap = torch.tensor([0.0, 0.93] + [1.0] * (RINGS - 4) + [0.93, 0.0], device=shape.device)
    round_ = -torch.cos(torch.linspace(0, math.pi, RINGS, device=shape.device)).expand_as(t)
    ball = (1 - round_**2).clamp(min=0).sqrt()
    a, b = bulge[:, :1], bulge[:, 1:]
    neck = torch.sigmoid((flat - (0.7 * a - 0.1)) * 12)
    radii = torch.stack(
        [
            cap * torch.ones_like(t),
            ball,
            cap * (1 - (0.3 + 0.65 * a) * (flat + 1) / 2),
            cap * (1 - (0.4 + 0.4 * b) * neck),
            ball * (1 - 0.5 * a * round_),
            cap * (1 - 0.6 * a * (1 - flat**2)),
        ],
        1,
    )
    is_round = torch.tensor([False, True, False, False, True, False], device=shape.device)
    n = torch.arange(len(shape), device=shape.device)
    return torch.where(is_round[shape][:, None], round_, flat), radii[n, shape]


def turned_object(
    shape: Tensor, bulge: Tensor, half_size: Tensor, squareness: Tensor, bend: Tensor
) -> Tensor:
    """(N, points, 3) objects about the origin, axis y.

    Args:
        shape: (N,) number in `SHAPES`.
        bulge: (N, 2) in [0, 1].
        half_size: (N, 3) m, along x, y (the axis) and z.
        squareness: (N,) as in `sweep`.
        bend: (N,) rad by which the axis is bent over its length; 2 pi closes a ring.
    """
    place, radius = outline(shape, bulge)
    length = half_size[:, 1:2]
    # The axis is an arc of this curvature through the origin, in the plane of x and y.
    curvature = (bend[:, None] / (2 * length)).clamp(min=1e-4)
    angle = place * length * curvature
    zero = torch.zeros_like(angle)
    centres = torch.stack([(1 - torch.cos(angle)) / curvature, torch.sin(angle) / curvature, zero], -1)
    across = torch.stack([torch.cos(angle), -torch.sin(angle), zero], -1)
    aside = torch.stack([zero, zero, torch.ones_like(angle)], -1)
    radii = radius[..., None] * half_size[:, None, [0, 2]]
    return sweep(centres, torch.stack([across, aside], -1), radii, squareness)


@dataclass
class Limb:
    """Course of N arms in the hands' own frames, from the wrist backwards.

    Attributes:
        radii: (N, 2) m at the wrist, across the palm and through it.
        profile: (SEGMENTS,) how the wrist's section differs from an ellipse.
        growth: (N,) how much thicker the forearm is 0.2 m from the wrist.
        wrist: (N, 2) rad, how the hand is bent against the arm: flexion and deviation.
        upper: (N, 3) unit vectors, where the upper arm runs.
        stump: m from the wrist to where the hand's mesh ends.
    """

    radii: Tensor
    profile: Tensor
    growth: Tensor
    wrist: Tensor
    upper: Tensor
    stump: float

    def piece(self, start: Tensor, end: Tensor, wider: Tensor, folds: Tensor) -> Tensor:
        """(N, points, 3) m: skin, sleeve or bracelet from `start` to `end` (N,), m from the wrist.

        Args:
            wider: (N, 2) m added to the radii. folds: (N, RINGS) factors of the radius, 1 for none.
        """
        device = start.device
        t = torch.linspace(0, 1, RINGS, device=device)
        # Rings lie closer where the wrist bends.
        along = start[:, None] + (end - start)[:, None] * t**1.5
        bent = _smooth((along - self.stump) / 0.04)
        x_axis = torch.tensor([1.0, 0, 0], device=device)
        z_axis = torch.tensor([0.0, 0, 1], device=device)
        turns = axis_rotations(z_axis, self.wrist[:, 1:] * bent) @ axis_rotations(
            x_axis, self.wrist[:, :1] * bent
        )
        fore = axis_rotations(z_axis, self.wrist[:, 1]) @ axis_rotations(x_axis, self.wrist[:, 0])
        fore = -fore[..., 1]
        hinge = unit(torch.linalg.cross(fore, self.upper))[:, None].expand(-1, RINGS, -1)
        angle = 0.85 * torch.acos((fore * self.upper).sum(-1).clamp(-0.99, 0.99))
        turns = axis_rotations(hinge, angle[:, None] * _smooth((along - ELBOW) / 0.07)) @ turns
        # From the wrist, where the first ring lies straight behind, onwards.
        steps = along.diff(dim=1)[..., None] * -(turns[:, 1:, :, 1] + turns[:, :-1, :, 1]) / 2
        first = self._course(along[:, :1], fore, bent[:, :1])
        centres = first + torch.cat([torch.zeros_like(first), steps.cumsum(1)], 1)
        swell = 1 + self.growth[:, None] * (along.clamp(min=0) / 0.2).clamp(max=1.2)
        factor = (swell * folds)[..., None]
        # Rings run towards -y: with the sides swapped, normals still point out.
        radii = (self.radii + wider)[:, None, [1, 0]] * factor
        return sweep(centres, turns[..., [2, 0]], radii, torch.ones_like(start), self.profile)

    def _course(self, along: Tensor, fore: Tensor, bent: Tensor) -> Tensor:
        """(N, 1, 3) about where the arm's middle is at `along` (N, 1) m of the forearm."""
        straight = torch.tensor([0.0, -1, 0], device=along.device)
        direction = unit(straight * (1 - bent[..., None] / 2) + fore[:, None] * bent[..., None] / 2)
        beyond = (along - self.stump - 0.04).clamp(min=0)[..., None]
        return direction * (along[..., None] - beyond) + fore[:, None] * beyond


def _smooth(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
