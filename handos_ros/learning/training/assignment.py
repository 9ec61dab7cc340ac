"""SimOTA: which of the detector's queries learn which labelled hand."""

from __future__ import annotations

import torch
from torch import Tensor

_IOU_WEIGHT = 3.0
_OUTSIDE_COST = 1e5
_CANDIDATES = 10


@torch.no_grad()
def simota(scores: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, least: int = 1) -> Tensor:
    """Match each labelled hand to the few queries that see it best (YOLOX, arXiv 2107.08430).

    cost = -log score + 3 (-log IoU) + 1e5 where the query's centre lies outside the labelled box. A hand
    takes its k cheapest queries, k = the sum of its 10 largest IoU, at least `least`. A query wanted by
    several hands goes to the one it costs least. Queries that do not overlap a hand are never given to it: a
    frozen detector may have missed it, and there is nothing to learn from a box elsewhere.

    Args:
        scores: (B, Q) probabilities that a query is a hand.
        boxes: (B, Q, 4) cx cy w h, in any unit.
        labels: (B, K, 4) likewise.
        valid: (B, K) bool, which labels are hands.
        least: how many queries a hand gets, where so many overlap it.

    Returns:
        (B, Q) int64: the number of the hand that each query is to learn, -1 for none.
    """
    iou, inside = overlap(boxes.float(), labels.float())
    iou = iou * valid[:, :, None]
    cost = -scores.float().clamp(min=1e-8).log()[:, None] - _IOU_WEIGHT * iou.clamp(min=1e-8).log()
    cost = cost + _OUTSIDE_COST * ~inside

    count = min(_CANDIDATES, boxes.shape[1])
    if count == 0 or labels.shape[1] == 0:
        return torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    wanted = iou.topk(count, dim=2).values.sum(2).long().clamp(min=least)
    cheapest = cost.topk(count, dim=2, largest=False).indices
    in_reach = torch.arange(count, device=cost.device) < wanted[:, :, None]
    chosen = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cheapest, in_reach) & (iou > 0)

    best_cost, hand = torch.where(chosen, cost, torch.inf).min(1)
    return torch.where(best_cost.isfinite(), hand, -1)


def overlap(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """IoU (B, K, Q) of labels (B, K, 4) with boxes (B, Q, 4), and whether the box's centre lies inside.

    Both in centre x, centre y, width, height.
    """
    b, g = boxes[:, None], labels[:, :, None]
    b_low, b_high = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    g_low, g_high = g[..., :2] - g[..., 2:] / 2, g[..., :2] + g[..., 2:] / 2
    shared = (torch.minimum(b_high, g_high) - torch.maximum(b_low, g_low)).clamp(min=0).prod(-1)
    union = b[..., 2:].prod(-1) + g[..., 2:].prod(-1) - shared
    inside = ((b[..., :2] >= g_low) & (b[..., :2] <= g_high)).all(-1)
    return shared / union.clamp(min=1e-9), inside
