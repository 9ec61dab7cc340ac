"""Smooth random fields: over points in space for skin and objects, over pictures for backgrounds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

_CELLS = 24


class SolidNoise:
    """Value noise in space, the same for the same generator state."""

    def __init__(self, generator: torch.Generator, fields: int = 1):
        self._cells = torch.rand(1, fields, _CELLS, _CELLS, _CELLS, generator=generator) * 2 - 1

    def __call__(self, points: Tensor, size: float, offset: float = 0.0) -> Tensor:
        """(N, fields) in [-1, 1] at points (N, 3); blobs are about `size` across."""
        places = torch.remainder(points / (size * _CELLS / 2) + offset + 1, 4)
        places = torch.where(places > 2, 4 - places, places) - 1  # reflected, so that there is no seam
        grid = places.reshape(1, -1, 1, 1, 3)
        return grid_sample(self._cells, grid, align_corners=True)[0, :, :, 0, 0].T


def cloud(
    generator: torch.Generator, count: int, height: int, width: int, *,
    coarsest: int = 3, octaves: int = 5, roughness: float = 0.55,
) -> Tensor:  # fmt: skip
    """(count, 1, height, width) fractal noise, mean 0, deviation about 1."""
    total = torch.zeros(count, 1, height, width)
    for octave in range(octaves):
        cells = coarsest * 2**octave
        grid = torch.randn(count, 1, cells, cells, generator=generator)
        # Only the coarsest need to be smooth; of the others nobody sees the cells.
        mode = "bicubic" if octave < 2 else "bilinear"
        total += roughness**octave * interpolate(grid, (height, width), mode=mode, align_corners=True)
    return total / total.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
