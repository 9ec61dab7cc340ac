"""The decoder's layer: attention among one hand's queries, deformable attention into maps, feed-forward.

The 2D layer and the interactive layer are this one layer over other queries: before lifting a hand has
21 joint queries; after it, joint, vertex and camera queries under the hierarchical mask. So a model
trained in 2D alone becomes the full model's start without any conversion of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from handos_ros.network.config import DecoderConfig


class DecoderLayer(nn.Module):
    """Post-norm: self-attention, deformable cross-attention, feed-forward."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attention = SelfAttention(width, config.heads)
        self.self_norm = nn.LayerNorm(width)
        self.cross_attention = DeformableAttention(
            width, config.heads, config.points, value_projection=config.value_projection
        )
        self.cross_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, config.feedforward), nn.ReLU(), nn.Linear(config.feedforward, width)
        )
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        boxes: Tensor,
        maps: Sequence[Tensor],
        mask: Tensor | None,
        looking: int,
    ) -> Tensor:
        """One layer on.

        Args:
            queries: (B, K, T, D), T queries of each of K hands in B pictures.
            position: (B, K, T, D), added where queries are compared and where they look.
            boxes: (B, K, T, 4) reference boxes, centre and size in fractions of the picture.
            maps: each (B, D, h, w).
            mask: (T, T), 0 where the row may see the column and very low where not; None for all.
            looking: so many queries of each hand, the first ones, look into the maps.
        """
        b, k, t, d = queries.shape
        x = queries.reshape(b * k, t, d)
        position = position.reshape(b * k, t, d)
        x = self.self_norm(x + self.dropout(self.self_attention(x + position, x, mask)))
        first = x[:, :looking]
        placed = (first + position[:, :looking]).reshape(b, k * looking, d)
        seen = self.cross_attention(placed, boxes[:, :, :looking].reshape(b, k * looking, 4), maps)
        first = self.cross_norm(first + self.dropout(seen.reshape(b * k, looking, d)))
        x = first if looking == t else torch.cat([first, x[:, looking:]], 1)
        x = self.feedforward_norm(x + self.dropout(self.feedforward(x)))
        return x.reshape(b, k, t, d)


class SelfAttention(nn.Module):
    """Multi-head attention among the queries of one hand; hands do not see each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.query_key = nn.Linear(width, 2 * width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, placed: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """`placed` (N, T, D) decides who looks at whom, `values` (N, T, D) what is seen."""
        n, t, d = values.shape
        c = d // self.heads
        q, k = self.query_key(placed).reshape(n, t, 2, self.heads, c).permute(2, 0, 3, 1, 4).unbind(0)
        v = self.value(values).reshape(n, t, self.heads, c).transpose(1, 2)
        return self.out(self.attend(q, k, v, mask).transpose(1, 2).reshape(n, t, d))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """What is seen (N, heads, T, C) by queries, keys and values of that shape, under a mask (T, T)."""
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ v


class DeformableAttention(nn.Module):
    """Each query samples a few learned places around its reference box from every map.

    As in Deformable DETR (Zhu et al., 2021), equations 2 and 3, with offsets in units of the reference
    box, and as plain `grid_sample`, so that it exports.
    """

    def __init__(self, width: int, heads: int, points: Sequence[int], *, value_projection: bool) -> None:
        super().__init__()
        self.heads, self.points = heads, tuple(points)
        total = sum(points)
        self.offsets = nn.Linear(width, heads * total * 2)
        self.weights = nn.Linear(width, heads * total)
        self.value = nn.Conv2d(width, width, 1) if value_projection else None
        self.out = nn.Linear(width, width)
        self._spread(total)

    def _spread(self, total: int) -> None:
        """Start as Deformable DETR does: each head looks its own way, each point a step farther out."""
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        way = torch.stack([angle.cos(), angle.sin()], -1)
        way = way / way.abs().amax(-1, keepdim=True)
        step = torch.cat([torch.arange(1, n + 1) / n for n in self.points])
        with torch.no_grad():
            self.offsets.bias.copy_((way[:, None] * step[None, :, None]).reshape(-1))

    def forward(self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """`queries` (B, Q, D), `boxes` (B, Q, 4), `maps` each (B, D, h, w) -> (B, Q, D)."""
        b, q, d = queries.shape
        total, c = sum(self.points), d // self.heads
        offsets = self.offsets(queries).reshape(b, q, self.heads, total, 2)
        weights = self.weights(queries).reshape(b, q, self.heads, total).softmax(-1)
        # An offset of 1 reaches the edge of the box.
        places = boxes[:, :, None, None, :2] + offsets * boxes[:, :, None, None, 2:] * 0.5
        grid = (2 * places - 1).transpose(1, 2).reshape(b * self.heads, q, total, 2)
        sampled, first = [], 0
        for level, count in zip(maps, self.points, strict=True):
            values = level if self.value is None else self.value(level)
            values = values.reshape(b * self.heads, c, *level.shape[2:])
            sampled.append(
                functional.grid_sample(
                    values, grid[:, :, first : first + count], mode="bilinear", align_corners=False
                )
            )
            first += count
        weights = weights.transpose(1, 2).reshape(b * self.heads, 1, q, total)
        seen = (torch.cat(sampled, -1) * weights).sum(-1)
        return self.out(seen.reshape(b, d, q).transpose(1, 2))


def mlp(width_in: int, width: int, width_out: int, *, last_zero: bool = False) -> nn.Sequential:
    """Two linear maps with a ReLU between; `last_zero` starts it as the constant 0."""
    last = nn.Linear(width, width_out)
    layers = nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), last)
    if last_zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return layers
