"""Puts what was rendered before its background, with the shadow that it throws there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from handos_ros.learning.synthesis.backgrounds import Backgrounds
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.render import Layer
from handos_ros.learning.synthesis.rotations import unit
from handos_ros.learning.synthesis.scene import Scene

BEFORE_SURFACE = 0.45
"""Share of pictures with a surface behind the hands on which their shadow falls."""
OUT_OF_FOCUS = 0.18
_STRONGEST = 3.0
"""The most by which a colour of what is to look like a hand is made brighter or darker."""
_COARSE = 4
"""Shadows on the background are looked up for every so many pixels, then blended."""


def choose_backgrounds(draws: Draws, backgrounds: Backgrounds) -> Tensor:
    """(B,) number of each picture's background."""
    return draws.below(len(backgrounds.pictures))


def draw_backgrounds(
    draws: Draws, chosen: Tensor, backgrounds: Backgrounds, height: int, width: int
) -> Tensor:
    """(B, 3, H, W) float32 sRGB 0 to 255: pieces of the chosen pictures, some mirrored."""
    b = len(chosen)
    zoom = draws.uniform(low=0.35, high=1.0)
    # Whole pictures were squeezed to squares; a piece of the picture's own shape is taken out of them.
    wide, tall = min(1.0, width / height), min(1.0, height / width)
    span = torch.stack([zoom * wide, zoom * tall], 1)
    centre = (1 - span) * (2 * draws.uniform(2) - 1)
    soft = draws.chance(OUT_OF_FOCUS).tolist()
    out = torch.empty(b, 3, height, width, device=chosen.device)
    corner = ((centre - span) * 0.5 + 0.5).tolist()
    for i, (number, (left, top), (across, down)) in enumerate(
        zip(chosen.tolist(), corner, span.tolist(), strict=True)
    ):
        source = (backgrounds.blurred if soft[i] else backgrounds.pictures)[number]
        s = source.shape[-1]
        x, y = int(left * s), int(top * s)
        piece = source[None, :, y : y + max(2, int(down * s)), x : x + max(2, int(across * s))]
        out[i] = interpolate(piece.float(), (height, width), mode="bilinear", align_corners=False)[0]
    flip = draws.chance(0.5).nonzero()[:, 0]
    out[flip] = out[flip].flip(3)
    return out * draws.uniform(1, 1, 1, low=0.8, high=1.15)


def compose(draws: Draws, scene: Scene, layer: Layer, pictures: Tensor, camouflaged: float) -> Tensor:
    """Draw the layer over the backgrounds (B, 3, H, W), which are changed, and return them.

    In the share `camouflaged` of the pictures the background takes on the colour of the hands before it.
    """
    _, height, width = scene.size
    pictures = _shadowed(draws, scene, layer, pictures)
    exposure = draws.log_uniform(low=0.9, high=1.5)
    picture, inside = layer.pixel // (height * width), layer.pixel % (height * width)
    light = layer.colour / layer.cover * exposure[picture]
    srgb = 255 * (1 - torch.exp(-1.35 * light)) ** (1 / 2.2)
    if camouflaged:
        hand = layer.hand.nonzero()[:, 0]
        colours = srgb[:, hand].T
        _toned(draws.for_part("camouflage"), picture[hand], inside[hand], colours, pictures, camouflaged)
    place = inside + picture * (3 * height * width)
    flat = pictures.view(-1)
    for channel in range(3):
        at = place + channel * height * width
        behind = flat.index_select(0, at)
        flat.index_copy_(0, at, behind + (srgb[channel] - behind) * layer.cover)
    return pictures


def _toned(
    draws: Draws, picture: Tensor, inside: Tensor, colours: Tensor, pictures: Tensor, share: float
) -> None:
    """Give the backgrounds of a share of the pictures the hands' mean colour where the hands stand.

    Args:
        draws: of these pictures.
        picture, inside: (N,) the picture of each pixel of a hand, and its number within it.
        colours: (N, 3) sRGB 0 to 255 of these pixels.
        pictures: (B, 3, H, W) backgrounds, which are changed.
        share: how many of them, 0 to 1.
    """
    strength = draws.uniform(1, low=0.6, high=1.0)
    strength = strength * draws.chance(share, 1)
    both = torch.cat([colours, pictures.flatten(2)[picture, :, inside]], 1)
    sums = both.new_zeros(len(pictures), 6).index_add_(0, picture, both)
    count = torch.bincount(picture, minlength=len(pictures)).clamp(min=1)[:, None]
    # Black takes on no colour by any factor: a little light comes first.
    wanted, there = (sums / count + 4).split(3, 1)
    factor = (wanted / there).clamp(1 / _STRONGEST, _STRONGEST) ** strength
    pictures *= factor[:, :, None, None]


def _shadowed(draws: Draws, scene: Scene, layer: Layer, pictures: Tensor) -> Tensor:
    """Darken the background where a surface behind the hands lies in their shadow."""
    b, height, width = scene.size
    device = pictures.device
    strength = draws.uniform(low=0.25, high=0.75)
    normal = unit(torch.tensor([0.0, -0.35, -1.0], device=device) + 0.35 * draws.normal(3))
    gap = draws.uniform(high=0.06)
    has = draws.chance(BEFORE_SURFACE)
    hands, picture = scene.hands.points, scene.hands.picture
    depth = torch.full((b,), 1e3, device=device)
    lowest = (hands * normal[picture, None]).sum(-1).amin(1)
    # The hand nearest to the surface rests on it, or hovers above.
    level = depth.scatter_reduce(0, picture, lowest, "amin") - gap
    some = (has & (level < 0)).nonzero()[:, 0]
    if not len(some):
        return pictures
    rows, columns = height // _COARSE, width // _COARSE
    y, x = torch.meshgrid(
        torch.arange(rows, device=device) * _COARSE + (_COARSE - 1) / 2,
        torch.arange(columns, device=device) * _COARSE + (_COARSE - 1) / 2,
        indexing="ij",
    )
    k = scene.k[some, :, :, None, None]
    ahead = torch.ones(len(some), rows, columns, device=device)
    ray = torch.stack([(x - k[:, 0, 2]) / k[:, 0, 0], (y - k[:, 1, 2]) / k[:, 1, 1], ahead], -1)
    along = (ray * normal[some, None, None]).sum(-1)
    distance = level[some, None, None] / along.clamp(max=-1e-3)
    points = ray * distance[..., None]
    lit = layer.shadows.lit(points.reshape(-1, 3).T, some.repeat_interleave(rows * columns))
    lit = lit.reshape(len(some), 1, rows, columns)
    lit = avg_pool2d(lit, 3, 1, 1, count_include_pad=False)
    factor = interpolate(1 - strength[some, None, None, None] * (1 - lit), (height, width), mode="bilinear")
    pictures[some] *= factor
    return pictures
