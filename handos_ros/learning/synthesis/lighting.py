"""Lamps, the light of the room, and shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.raster import inverse_depths_of, rasterise
from handos_ros.learning.synthesis.rotations import frame, unit

SHADOW_TEXELS = 160
SHADOW_BIAS = 0.005
"""m by which a surface must lie behind another to be in its shadow."""


@dataclass
class Lights:
    """Light of B pictures, linear RGB; directions point to the light, optical frame.

    Attributes:
        key, second: (B, 3) directions. key_colour, second_colour: (B, 3).
        up: (B, 3) where the room's light comes from. above, below: (B, 3) its colours from there and
            from the other side.
    """

    key: Tensor
    key_colour: Tensor
    second: Tensor
    second_colour: Tensor
    up: Tensor
    above: Tensor
    below: Tensor

    def rows(self) -> Tensor:
        """(B, 21) all of it, in the order of the attributes."""
        return torch.cat(list(vars(self).values()), 1)


def draw_lights(draws: Draws, surroundings: Tensor) -> Lights:
    """Light that goes with the mean sRGB colour (B, 3) of what stands behind."""
    device = surroundings.device
    toward = torch.tensor([0.0, -0.6, -0.55], device=device)
    key = unit(toward + torch.tensor([0.8, 0.6, 0.6], device=device) * draws.normal(3))
    second = draws.directions()
    up = unit(torch.tensor([0.0, -1.0, -0.3], device=device) + 0.5 * draws.normal(3))
    # Colour temperature: from a bulb to the open sky.
    kelvin = draws.normal(3, 1) * 0.5
    tint = torch.exp(kelvin * torch.tensor([0.22, 0.0, -0.3], device=device))
    room = surroundings.clamp(min=0.05) ** 1.1
    room = room / room.mean(1, keepdim=True)
    room = 1 + (room - 1) * draws.uniform(1, high=0.8)
    total = draws.log_uniform(1, low=0.55, high=1.7)
    share = draws.uniform(1, low=0.15, high=0.85)
    has_second = (draws.uniform(1) < 0.5).float() * draws.uniform(1, low=0.1, high=0.7)
    ambient = total * (1 - share) * 0.95
    return Lights(
        key=key,
        key_colour=total * share * 1.5 * tint[:, 0],
        second=second,
        second_colour=total * share * has_second * tint[:, 1],
        up=up,
        above=ambient * room * (0.7 + 0.6 * draws.uniform(1)),
        below=ambient * room * (0.25 + 0.5 * draws.uniform(1)),
    )


class ShadowMap:
    """What the key light sees of B scenes, straight along its direction."""

    def __init__(self, key: Tensor, points: Tensor, picture: Tensor, corners: Tensor, of: Tensor):
        """Draw the shadow maps.

        Args:
            key: (B, 3) direction to the light.
            points: (N, 3) m that the maps must cover, of the `picture`s (N,).
            corners: (T, 3, 3) m, triangles that throw shadows. of: (T,) their pictures.
        """
        b = len(key)
        big = 1e3
        low = torch.full((b, 3), big, device=key.device)
        high = -low
        index = picture[:, None].expand(-1, 3)
        low = low.scatter_reduce(0, index, points, "amin")
        high = high.scatter_reduce(0, index, points, "amax")
        seen = (low < high).all(1, keepdim=True)
        self._centre = torch.where(seen, (low + high) / 2, 0.0)
        self._radius = torch.where(seen[:, 0], (high - low).norm(dim=1) / 2, 1.0).clamp(0.05, 0.6)
        self._axes = frame(key, torch.tensor([0.31, 0.17, 0.93], device=key.device).expand_as(key))
        flat = self._place(corners.reshape(-1, 3), of.repeat_interleave(3)).reshape(-1, 3, 3)
        keys = rasterise(flat, of, (b, SHADOW_TEXELS, SHADOW_TEXELS))
        self._height = inverse_depths_of(keys)

    def lit(self, points: Tensor, picture: Tensor) -> Tensor:
        """(N,) share of the key light that reaches points (N, 3) m of pictures (N,)."""
        place = self._place(points, picture)
        floor = place[:, :2].floor()
        fraction = place[:, :2] - floor
        column = floor.long().clamp_(0, SHADOW_TEXELS - 2)
        start = (picture * SHADOW_TEXELS + column[:, 1]) * SHADOW_TEXELS + column[:, 0]
        level = place[:, 2] + SHADOW_BIAS / self._radius[picture]
        fu, fv = fraction.clamp_(0, 1).unbind(1)
        dark = torch.zeros_like(level)
        for shift, weight in (
            (0, (1 - fu) * (1 - fv)), (1, fu * (1 - fv)), (SHADOW_TEXELS, (1 - fu) * fv),
            (SHADOW_TEXELS + 1, fu * fv),
        ):  # fmt: skip
            dark += weight * (self._height.index_select(0, start + shift) > level)
        return 1 - dark

    def _place(self, points: Tensor, picture: Tensor) -> Tensor:
        """Shadow map's x, y in texels, and height towards the light from 0."""
        offset = points - self._centre.index_select(0, picture)
        axes = self._axes.index_select(0, picture)
        x, towards, y = (offset[:, :, None] * axes).sum(1).unbind(1)
        scale = 1 / self._radius.index_select(0, picture)
        half = SHADOW_TEXELS / 2
        return torch.stack([x * scale * half + half, y * scale * half + half, (towards * scale + 8).clamp(min=0.01)], 1)
