"""What lenses, sensors and files do to pictures: blur, motion, exposure, colour casts, noise, JPEG, grey."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.jpeg import compress

DEFOCUSED, MOVED, NOISY, COMPRESSED, GREY = 0.3, 0.1, 0.6, 0.5, 0.04
"""Shares of pictures."""

_NOISE_SIZE = 512
_REACH = 6
"""px that a blur reaches at most."""


class Weathering:
    """Applies all of it to batches of pictures."""

    def __init__(self, seed: int, device: torch.device | str):
        # Noise is cut out of one field at random places: drawing it anew is the slowest step on a CPU.
        generator = torch.Generator().manual_seed(seed)
        self._noise = torch.randn(3, _NOISE_SIZE, _NOISE_SIZE, generator=generator).to(device)

    def __call__(self, draws: Draws, pictures: Tensor) -> Tensor:
        """Weather (B, 3, H, W) float32 sRGB, 0 to 255, in place as far as possible; float32, not rounded."""
        pictures = _blurred(draws.for_part("blur"), pictures)
        pictures = _exposed(draws.for_part("exposure"), pictures)
        pictures = self._noisy(draws.for_part("noise"), pictures)
        jpeg = draws.for_part("jpeg")
        # Files of poor quality are as likely as those of good.
        quality = jpeg.uniform(low=25, high=96).round()
        some = jpeg.chance(COMPRESSED).nonzero()[:, 0]
        for i in some.split(4) if pictures.device.type == "cpu" else [some]:
            if len(i):
                pictures[i] = compress(pictures[i].clamp(0, 255), quality[i])
        return pictures

    def _noisy(self, draws: Draws, pictures: Tensor) -> Tensor:
        """Grain that grows with brightness, of one pixel's size or, from cheap cameras, larger and grey."""
        height, width = pictures.shape[2:]
        noisy = draws.chance(NOISY)
        strength = draws.log_uniform(low=1.0, high=14.0)
        strength = torch.where(draws.chance(0.5), strength * 0.5, strength)
        start = (draws.uniform(2) * _NOISE_SIZE).long()
        rows = (start[:, :1] + torch.arange(height, device=start.device)) % _NOISE_SIZE
        columns = (start[:, 1:] + torch.arange(width, device=start.device)) % _NOISE_SIZE
        grey = draws.chance(0.3)
        for i in noisy.nonzero()[:, 0].tolist():
            field = self._noise.index_select(1, rows[i]).index_select(2, columns[i])
            if grey[i]:
                field = field[:1]
            pictures[i] += field * strength[i]
        return pictures


def _exposed(draws: Draws, pictures: Tensor) -> Tensor:
    """Brightness, contrast, white balance, and grey pictures."""
    b = len(pictures)
    stops = 0.25 * draws.normal() + 0.03
    dark = draws.chance(0.05)
    stops = torch.where(dark, stops - 0.9, stops)
    cast = draws.normal(2) * torch.where(draws.chance(0.5), 0.04, 0.12)[:, None]
    balance = torch.stack([cast[:, 0], cast[:, 1] * 0.4, -cast[:, 0]], 1)
    gain = torch.exp(stops[:, None] * 0.69 + balance)
    contrast = torch.exp(0.14 * draws.normal())
    grey = draws.chance(GREY)
    luma = pictures.new_tensor([0.299, 0.587, 0.114])
    # One matrix and offset for each picture: a single pass over its pixels.
    matrix = torch.diag_embed(gain)
    matrix = torch.where(
        grey[:, None, None], (luma * gain.mean(1, keepdim=True))[:, None].expand(b, 3, 3), matrix
    )
    matrix = matrix * contrast[:, None, None]
    offset = 118 * (1 - contrast)
    flat = torch.baddbmm(offset[:, None, None].expand(b, 3, 1), matrix, pictures.flatten(2))
    return flat.unflatten(2, pictures.shape[2:])


def _blurred(draws: Draws, pictures: Tensor) -> Tensor:
    """Defocus (Gaussian) and motion (a line).

    Sums of shifted pictures: on a CPU ten times as quick as convolving three channels each on its own.
    """
    sigma = draws.uniform(low=0.35, high=1.6)
    sigma = torch.where(draws.chance(0.15), sigma * 1.8, sigma)
    defocused, moved = draws.chance(DEFOCUSED), draws.chance(MOVED)
    length, angle = draws.uniform(low=2, high=2 * _REACH), draws.uniform(high=math.pi)
    numbers = torch.stack([sigma, length, torch.cos(angle), torch.sin(angle)], 1).tolist()
    for i, (radius, stroke, across, down) in enumerate(numbers):
        if defocused[i]:
            r = min(_REACH, int(2.5 * radius) + 1)
            steps = range(-r, r + 1)
            weights = [math.exp(-(n**2) / (2 * radius**2)) for n in steps]
            pictures[i] = _shifted_sum(pictures[i], [(n, 0, w) for n, w in zip(steps, weights, strict=True)])
            pictures[i] = _shifted_sum(pictures[i], [(0, n, w) for n, w in zip(steps, weights, strict=True)])
        if moved[i]:
            count = int(stroke) + 1
            steps_along = [(n / (count - 1) - 0.5) * stroke for n in range(count)]
            pictures[i] = _shifted_sum(
                pictures[i], [(round(n * across), round(n * down), 1.0) for n in steps_along]
            )
    return pictures


def _shifted_sum(picture: Tensor, shifts: list[tuple[int, int, float]]) -> Tensor:
    """Weighted mean of (3, H, W) shifted by (x, y) px, weights in third place; borders are repeated."""
    _, height, width = picture.shape
    reach = max(max(abs(x), abs(y)) for x, y, _ in shifts)
    padded = pad(picture[None], (reach,) * 4, mode="replicate")[0]
    total = sum(w for _, _, w in shifts)
    result = torch.zeros_like(picture)
    for x, y, weight in shifts:
        piece = padded[:, reach + y : reach + y + height, reach + x : reach + x + width]
        result.add_(piece, alpha=weight / total)
    return result
