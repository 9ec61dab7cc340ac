"""Lamps, the light of the room, and shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.raster import inverse_depths_of, rasterise
from handos_ros.learning.synthesis.rotations import frame, unit

SHADOW_TEXELS = 144
SHADOW_BIAS = 0.004
"""m by which a surface must lie behind another to be in its shadow."""
SHADOW_LIFT = 0.006
"""m off its surface at which a point asks for light."""


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
        flat = self._place(corners.reshape(-1, 3).T, of.repeat_interleave(3))
        flat = flat.T.reshape(-1, 3, 3)
        keys = rasterise(flat, of, (b, SHADOW_TEXELS, SHADOW_TEXELS))
        self._height = inverse_depths_of(keys)

    def lit(self, points: Tensor, picture: Tensor) -> Tensor:
        """(N,) share of the key light that reaches points (3, N) m of pictures (N,)."""
        x, y, height = self._place(points, picture)
        height = height + SHADOW_BIAS / self._radius.index_select(0, picture)
        # Beyond the map nothing throws a shadow.
        outside = (x < 0) | (y < 0) | (x > SHADOW_TEXELS - 1) | (y > SHADOW_TEXELS - 1)
        column, row = (q.long().clamp_(0, SHADOW_TEXELS - 2) for q in (x, y))
        start = (picture * SHADOW_TEXELS + row) * SHADOW_TEXELS + column
        fu, fv = (x - column).clamp_(0, 1), (y - row).clamp_(0, 1)
        dark = (1 - fu) * (1 - fv) * (self._height.index_select(0, start) > height)
        dark += fu * (1 - fv) * (self._height.index_select(0, start + 1) > height)
        start += SHADOW_TEXELS
        dark += (1 - fu) * fv * (self._height.index_select(0, start) > height)
        dark += fu * fv * (self._height.index_select(0, start + 1) > height)
        return (1 - dark).masked_fill_(outside, 1)

    def _place(self, points: Tensor, picture: Tensor) -> Tensor:
        """(3, N): the map's x and y in texels, and the height towards the light, 8 in the middle."""
        rows = torch.cat([self._axes.transpose(1, 2).flatten(1), self._centre, 1 / self._radius[:, None]], 1)
        axes = rows.T.contiguous().index_select(1, picture)
        offset = points - axes[9:12]
        x, towards, y = (offset * axes[:9].unflatten(0, (3, 3))).sum(1) * axes[12]
        half = SHADOW_TEXELS / 2
        return torch.stack([x * half + half, y * half + half, (towards + 8).clamp_(min=0.01)])
