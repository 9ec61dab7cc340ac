"""Rotation matrices in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def axis_rotations(axes: Tensor, angles: Tensor) -> Tensor:
    """Rodrigues' formula: unit axes (..., 3) and angles (...) in rad -> rotations (..., 3, 3)."""
    x, y, z = torch.broadcast_to(axes, (*angles.shape, 3)).unbind(-1)
    zero = torch.zeros_like(x)
    k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    angles = angles[..., None, None]
    eye = torch.eye(3, device=axes.device)
    return eye + torch.sin(angles) * k + (1 - torch.cos(angles)) * (k @ k)


def frame(y: Tensor, z: Tensor) -> Tensor:
    """Right-handed rotations (..., 3, 3) whose columns are x, y, z; z is made perpendicular to y."""
    y = unit(y)
    z = unit(z - (z * y).sum(-1, keepdim=True) * y)
    return torch.stack([torch.linalg.cross(y, z), y, z], -1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., 3) of length 1; the zero vector stays."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
