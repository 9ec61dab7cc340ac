"""What JPEG does to pictures, in PyTorch: blocks, quantisation, halved colour; the same on CPU and GPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
"""Annex K of ITU-T T.81, which libjpeg's quality scales."""

_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def compress(pictures: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress at libjpeg's quality with colour at half resolution (4:2:0).

    Args:
        pictures: (B, 3, H, W) float32 RGB, 0 to 255. quality: (B,) 1 to 100.

    Returns:
        (B, 3, H, W) float32, 0 to 255.
    """
    height, width = pictures.shape[2:]
    padded = pad(pictures, (0, -width % 16, 0, -height % 16), mode="replicate")
    shape = padded.shape[2:]
    ycc = (pictures.new_tensor(_TO_YCC) @ padded.flatten(2)).unflatten(2, shape)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None]

    def table(values: tuple[int, ...]) -> Tensor:
        return ((pictures.new_tensor(values) * scale + 50) / 100).floor().clamp(1, 255)

    y = _quantised(ycc[:, :1] - 128, table(_LUMINANCE))
    colour = _quantised(avg_pool2d(ycc[:, 1:], 2), table(_CHROMINANCE))
    colour = interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([y + 128, colour], 1)
    rgb = (pictures.new_tensor(_TO_RGB) @ ycc.flatten(2)).unflatten(2, shape)
    return rgb[:, :, :height, :width].clamp(0, 255)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Planes (B, C, H, W) through an 8 x 8 cosine transform rounded to multiples of (B, 64)."""
    b, c, h, w = planes.shape
    n = torch.arange(8, dtype=torch.float32, device=planes.device)
    rows = torch.cos((2 * n + 1) * n[:, None] * (math.pi / 16)) / 2
    rows[0] /= math.sqrt(2)
    # All 64 frequencies of a block in one product of matrices.
    basis = torch.kron(rows, rows)
    blocks = planes.reshape(b, c, h // 8, 8, w // 8, 8).transpose(3, 4).reshape(b, -1, 64)
    values = (blocks @ basis.T).div_(table[:, None]).round_().mul_(table[:, None]) @ basis
    return values.reshape(b, c, h // 8, w // 8, 8, 8).transpose(3, 4).reshape(b, c, h, w)
