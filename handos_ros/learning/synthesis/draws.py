"""Random numbers that depend on (seed, index, name) alone: the same on every device and in any batch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from handos_ros.errors import DataError

_BLOCK = 128
"""Numbers hashed ahead."""

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64; this and the next two: splitmix64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


class Draws:
    """Independent random numbers for B pictures, drawn together.

    Each number is a hash of the seed, the picture's index, the name of the part that draws and how many
    it drew before (splitmix64, Steele et al. 2014), so a picture's numbers do not depend on the pictures
    beside it, and a part that draws more than before leaves the other parts' numbers as they were.
    """

    def __init__(self, seed: int, indices: Tensor, part: str = ""):
        """Numbers of the pictures with these (B,) int64 indices, on their device."""
        self.seed, self.indices, self.part = seed, indices, part
        digest = hashlib.blake2b(f"{seed}/{part}".encode(), digest_size=8).digest()
        self._state = _mix(_mix(indices * _GOLDEN) ^ int.from_bytes(digest, "little", signed=True))
        self._drawn = 0
        self._ready = torch.empty(len(indices), 0, device=indices.device)

    def for_part(self, name: str) -> Draws:
        """The numbers of a named part of the same pictures."""
        return Draws(self.seed, self.indices, f"{self.part}/{name}")

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B, *shape) float32 in [low, high)."""
        count = math.prod(shape)
        missing = count - self._ready.shape[1]
        if missing > 0:
            # Many at once: a hash is a dozen small steps, whatever it yields.
            counter = torch.arange(self._drawn, self._drawn + max(missing, _BLOCK), device=self._state.device)
            self._drawn += len(counter)
            bits = _mix(self._state[:, None] + counter * _GOLDEN) >> 40 & 0xFFFFFF
            self._ready = torch.cat([self._ready, bits.to(torch.float32) / (1 << 24)], 1)
        taken, self._ready = self._ready[:, :count], self._ready[:, count:]
        return (taken * (high - low) + low).reshape(-1, *shape)

    def normal(self, *shape: int, limit: float = 2.5) -> Tensor:
        """(B, *shape) float32, mean 0, deviation about 1, cut off at +-`limit`."""
        radius = torch.sqrt(-2 * torch.log(self.uniform(*shape).clamp(min=1e-7)))
        return (radius * torch.cos(2 * math.pi * self.uniform(*shape))).clamp(-limit, limit)

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """(B, *shape) float32 in [low, high), each factor as likely as any other."""
        return torch.exp(self.uniform(*shape, low=math.log(low), high=math.log(high)))

    def chance(self, probability: float | Tensor, *shape: int) -> Tensor:
        """(B, *shape) bool."""
        return self.uniform(*shape) < probability

    def choice(self, weights: Sequence[float] | Tensor, *shape: int) -> Tensor:
        """(B, *shape) int64, number i as often as its weight among all."""
        weights = torch.as_tensor(weights, dtype=torch.float64)
        edges = (weights.cumsum(0) / weights.sum())[:-1].float().to(self._state.device)
        return torch.searchsorted(edges, self.uniform(*shape).contiguous(), right=True)

    def below(self, count: int, *shape: int) -> Tensor:
        """(B, *shape) int64 in [0, count)."""
        return (self.uniform(*shape) * count).to(torch.int64).clamp_(max=count - 1)

    def directions(self, *shape: int) -> Tensor:
        """(B, *shape, 3) float32 unit vectors, every direction as likely."""
        z = self.uniform(*shape, low=-1, high=1)
        angle = self.uniform(*shape, high=2 * math.pi)
        across = torch.sqrt((1 - z * z).clamp(min=0))
        return torch.stack([across * torch.cos(angle), across * torch.sin(angle), z], -1)


def shares_with(what: str, usual: Mapping[str, float], asked: Mapping[str, float]) -> list[float]:
    """Shares of the kinds in `usual`, in its order, with those in `asked` in place of theirs, for `choice`.

    Raises:
        DataError: naming `what` they are of, if there is no such kind, or nothing left to draw.
    """
    if unknown := asked.keys() - usual.keys():
        raise DataError(f"{what}: no kind {', '.join(sorted(unknown))}; known are {', '.join(usual)}")
    shares = list({**usual, **asked}.values())
    if min(shares) < 0 or not any(shares):
        raise DataError(f"{what}: shares must not be negative, nor all 0")
    return shares


def _mix(x: Tensor) -> Tensor:
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * _MIX_1
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * _MIX_2
    return x ^ (x >> 31 & 0x1FFFFFFFF)
