"""The bank of surface maps that every rendered thing reads from, in two resolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from handos_ros.learning.synthesis.backgrounds import Backgrounds
from handos_ros.learning.synthesis.noise import cloud
from handos_ros.learning.synthesis.skin import STEEPEST, SkinPainter, paint_plain_skin

TEXELS = 384
COARSER = 4
"""How many times fewer texels the second resolution has along a side; it stops far hands from sparkling."""

HAND_SKINS, PLAIN_SKINS, STUFFS = 12, 4, 28
PLAIN_SKIN_METRES = 0.25


class TextureBank:
    """Maps of six channels as bytes: skins of hands, plain skin, then cloth, wood and the rest.

    A texel reads (byte - 128) / 127 in -1 to 1. Skins' channels are those of `skin.CHANNELS`; the others'
    are red, green, blue, nothing and two slopes.
    """

    def __init__(self, painter: SkinPainter, backgrounds: Backgrounds, seed: int, device: torch.device | str):
        generator = torch.Generator().manual_seed(seed)
        maps = [painter.paint(generator) for _ in range(HAND_SKINS)]
        maps += [paint_plain_skin(generator, TEXELS, PLAIN_SKIN_METRES) for _ in range(PLAIN_SKINS)]
        maps += [_stuff(generator, backgrounds) for _ in range(STUFFS)]
        full = torch.stack(maps)
        coarse = avg_pool2d(full.permute(0, 3, 1, 2), COARSER).permute(0, 2, 3, 1)
        rows = torch.cat([full.reshape(-1, 6), coarse.reshape(-1, 6)])
        self.rows = (rows * 127 + 128).round().to(torch.uint8).to(device)
        self._layers = len(maps)

    def read(self, layer: Tensor, coarse: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Bilinear values (6, N) of layers (N,) at u, v (N,), which repeat beyond [0, 1).

        Args:
            coarse: (N,) bool, read the second resolution.
        """
        side = torch.where(coarse, TEXELS // COARSER, TEXELS)
        start = torch.where(coarse, self._layers * TEXELS**2, 0) + layer * side * side
        (u0, u1, fu), (v0, v1, fv) = _neighbours(u, side), _neighbours(v, side)
        upper, lower = start + v0 * side, start + v1 * side
        total = self._row(upper + u0) * ((1 - fu) * (1 - fv))[:, None]
        total += self._row(upper + u1) * (fu * (1 - fv))[:, None]
        total += self._row(lower + u0) * ((1 - fu) * fv)[:, None]
        total += self._row(lower + u1) * (fu * fv)[:, None]
        return ((total - 128) / 127).T.contiguous()

    def _row(self, index: Tensor) -> Tensor:
        return self.rows.index_select(0, index).float()


def _neighbours(place: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The texel before a place, the one after, and how far it is from the first to the second."""
    place = (place - place.floor()) * side + (side - 0.5)
    before = place.long()
    fraction = place - before
    before = before % side
    after = before + 1
    return before, torch.where(after == side, 0, after), fraction


def _stuff(generator: torch.Generator, backgrounds: Backgrounds) -> Tensor:
    """(T, T, 6) what objects and sleeves are made of: a piece of a picture, weave, stripes, grain."""
    t = TEXELS
    kind = float(torch.rand(1, generator=generator))
    numbers = torch.rand(8, generator=generator).tolist()
    y, x = torch.meshgrid(torch.linspace(0, 1, t), torch.linspace(0, 1, t), indexing="ij")
    grain = cloud(generator, 2, t, t, coarsest=6 + int(60 * numbers[0]), octaves=4)[:, 0]
    height = grain[0] * 0.35
    if kind < 0.45:
        pictures = backgrounds.pictures
        picture = pictures[int(numbers[1] * len(pictures))].cpu().float()
        s = picture.shape[-1]
        side = int(s * (0.2 + 0.5 * numbers[2]))
        top, left = int(numbers[3] * (s - side)), int(numbers[4] * (s - side))
        piece = picture[None, :, top : top + side, left : left + side]
        colour = interpolate(piece, (t, t), mode="bilinear", align_corners=False)[0] / 127.5 - 1
        height = colour.mean(0)
    elif kind < 0.65:
        waves = 6 * torch.tensor([1.0 + int(9 * numbers[1]), 1.0 + int(9 * numbers[2])])
        pattern = torch.sin(x * waves[0] * 6.2832)
        if numbers[3] < 0.5:
            pattern = torch.maximum(pattern, torch.sin(y * waves[1] * 6.2832))
        sharp = torch.tanh(pattern * (1 + 8 * numbers[4]))
        colour = sharp * (torch.rand(3, 1, 1, generator=generator) * 1.6 - 0.8) + 0.1 * grain[1]
    elif kind < 0.85:
        threads = 24 + int(60 * numbers[1])
        weave = torch.sin(x * threads * 6.2832) * torch.sin(y * threads * 6.2832)
        colour = (0.2 * weave + 0.15 * grain[1]).expand(3, t, t)
        height = weave
    else:
        colour = (0.12 * grain[1]).expand(3, t, t)
    slopes = [torch.gradient(height, dim=d)[0] * 2.0 / STEEPEST for d in (1, 0)]
    maps = torch.stack([*colour, torch.zeros(t, t), *slopes], -1)
    return maps.clamp(-1, 1)
