"""Learning to see hands from every place of the detector's maps, before there are queries.

A DETR-like detector gives each hand one query of many, so from nothing it learns slowly. Here several
places of each hand learn at once what the queries will be chosen by, score and box, and beside them
joints and side, which teach the backbone what the decoder will look for. The decoders do not run, so a
step costs a fraction. Only the head for joints and side is thrown away afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handos_ros.hands import NUM_JOINTS
from handos_ros.learning.facing import KNUCKLES, knuckles_turn
from handos_ros.learning.sample import Batch
from handos_ros.learning.training.assignment import simota
from handos_ros.learning.training.losses import (
    LENGTH_UNIT,
    LossWeights,
    Predictions,
    hand_losses,
    masked_mean,
    weighted_sum,
)
from handos_ros.learning.training.targets import Targets, gather_targets
from handos_ros.network.detectors import Places

LEAST_PLACES = 3
"""So many places learn a hand, where so many overlap it; SimOTA gives it more once boxes are good."""
BOX_WEIGHT, GIOU_WEIGHT, SIDE_WEIGHT = 5.0, 2.0, 3.0
"""The first two as in RT-DETR and D-FINE."""
PARTS_WEIGHT = 0.5
PART_SPREAD = 0.7
"""Places: standard deviation of the bump around a joint that is not held against others."""


class DenseHead(nn.Module):
    """Joints and side of the hand at a place, and which joints, of any hand, lie at the place itself.

    Args:
        channels: D of a place's features.
        fine: C of the backbone's map of stride 8.
    """

    def __init__(self, channels: int, fine: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, 2 * channels)
        # Per joint: place in the box, 3D, score; then the three of `sides_of`.
        self.out = nn.Linear(2 * channels, 6 * NUM_JOINTS + 3)
        # Per joint: whether it lies here, and where from the place's centre, in places. Of the encoder's
        # finest map, and of the finer one of the backbone, where the decoder will look for joints.
        self.parts = nn.Linear(channels, 3 * NUM_JOINTS)
        self.fine_parts = nn.Linear(fine, 3 * NUM_JOINTS)
        for said in (self.parts, self.fine_parts):
            nn.init.constant_(said.bias[:NUM_JOINTS], -4.0)

    def forward(self, features: Tensor, boxes: Tensor) -> tuple[Predictions, Tensor]:
        """(M, D) features and their boxes (M, 4) -> what is said of M hands, and the logits of `sides_of`."""
        said = self.out(F.relu(self.hidden(features)))
        joints = said[:, :-3].unflatten(1, (NUM_JOINTS, 6))
        joints_3d = LENGTH_UNIT * joints[..., 2:5]
        predictions = Predictions(
            joints_2d=boxes[:, None, :2] + joints[..., :2] * boxes[:, None, 2:],
            joint_logits=joints[..., 5],
            joints_3d=joints_3d - joints_3d[:, :1],
        )
        return predictions, said[:, -3:]


def dense_losses(
    places: Places, head: DenseHead, batch: Batch, weights: LossWeights, *, choosing: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise and its parts, detached, by name.

    Without `choosing` the scores and boxes are left to the detector's own losses, which want one place for
    each hand, not several.

    A place is taught to score its box's IoU with the hand (varifocal loss, arXiv 2008.13367); places
    without a hand are taught 0, but not in pictures whose labels are not exhaustive.
    """
    logits, boxes = places.logits.float(), places.boxes.float()
    assigned = simota(logits.sigmoid(), boxes, batch.boxes, batch.valid, LEAST_PLACES)
    picture, place = torch.nonzero(assigned >= 0, as_tuple=True)
    hand = assigned[picture, place]
    own, label = boxes[picture, place], batch.boxes[picture, hand]
    iou, giou = _overlaps(own, label)

    count = max(1, len(hand))

    predictions, sides = head(places.features[picture, place].float(), own.detach())
    targets = gather_targets(batch, picture, hand)
    parts = hand_losses(predictions, targets, weights)
    wanted, known = sides_of(targets)
    wrong = F.binary_cross_entropy_with_logits(sides, wanted.to(sides.dtype), reduction="none")
    side, turn, facing = (masked_mean(wrong[:, n], known[:, n]) for n in range(3))
    rows, columns = places.finest
    coarse = places.features[:, : rows * columns].float().unflatten(1, (rows, columns))
    here = part_loss(head.parts(coarse), batch)
    fine = part_loss(head.fine_parts(_levelled(places.fine.float().permute(0, 2, 3, 1))), batch)
    total = SIDE_WEIGHT * (side + turn + facing) + PARTS_WEIGHT * (here + fine) + weighted_sum(parts, weights)
    terms = {"iou": iou.sum() / count, **parts, "side": side, "turn": turn, "facing": facing}
    terms.update(parts=here, fine_parts=fine)
    if choosing:
        aim = torch.zeros_like(logits)
        aim[picture, place] = iou.detach().clamp(min=0.05)
        with torch.no_grad():
            weight = torch.where(assigned >= 0, aim, 0.75 * logits.sigmoid().square())
            weight = weight * ((assigned >= 0) | batch.exhaustive[:, None])
        score = F.binary_cross_entropy_with_logits(logits, aim, weight, reduction="sum") / count
        box = (own - label).abs().sum() / count
        gap = (1 - giou).sum() / count
        detector = score + BOX_WEIGHT * box + GIOU_WEIGHT * gap
        total = total + detector
        terms.update(detector=detector, score=score)
    return total, {name: value.detach() for name, value in terms.items()}


def sides_of(targets: Targets) -> tuple[Tensor, Tensor]:
    """(M, 3) whether a hand is a right one, whether its knuckles turn clockwise from index to little finger
    as seen, and whether its back is seen; and (M, 3) where that is known.

    The first is the second and the third agreeing or not, so it has no gradient to follow before these are
    told apart, and each of these has one. Of a hand seen edge-on neither is to be seen.
    """
    turn, flat = knuckles_turn(targets.joints_2d)
    seen = flat & (targets.joints_2d_weight[:, KNUCKLES] > 0).all(1)
    right = targets.handedness == 1
    sided = targets.handedness >= 0
    return torch.stack([right, turn, right == turn], 1), torch.stack([sided, seen, sided & seen], 1)


def part_loss(said: Tensor, batch: Batch) -> Tensor:
    """Which joints lie at each place of a map: focal loss around bumps (arXiv 1904.07850), and L1.

    A joint's own place is to say so. Pictures in which hands or joints may be unlabelled teach no absence.

    Args:
        said: (B, h, w, 63) of one of the head's parts.
    """
    said = said.float()
    rows, columns = said.shape[1:3]
    logits, offsets = said[..., :NUM_JOINTS], said[..., NUM_JOINTS:].unflatten(-1, (NUM_JOINTS, 2))
    height, width = batch.picture_size
    # In places, the first one's centre at 0.
    scale = said.new_tensor([columns / width, rows / height])
    at = (batch.joints_2d + 0.5) * scale - 0.5
    own = at.round()
    inside = ((own >= 0) & (own <= said.new_tensor([columns - 1, rows - 1]))).all(-1)
    labelled = (batch.joints_2d_weight > 0) & batch.valid[..., None]
    # What is hidden, in a mosaic by the next photograph, is neither here nor absent. NaN: nobody knows.
    lies_here = labelled & inside
    known = lies_here & (batch.visibility != 0)

    x = torch.arange(columns, device=said.device, dtype=said.dtype)
    y = torch.arange(rows, device=said.device, dtype=said.dtype)
    # (B, K, 21, rows) and (B, K, 21, columns): the bump is a product.
    bump_y = torch.exp(-(y - own[..., 1:]).square() / (2 * PART_SPREAD**2)) * lies_here[..., None]
    bump_x = torch.exp(-(x - own[..., :1]).square() / (2 * PART_SPREAD**2))
    bump = (bump_y[..., :, None] * bump_x[..., None, :]).amax(1).permute(0, 2, 3, 1)

    picture, hand, joint = torch.nonzero(known, as_tuple=True)
    where = own[picture, hand, joint].long()
    index = (picture, where[:, 1], where[:, 0], joint)
    present = logits[index]
    found = (present.sigmoid() - 1).square() * F.softplus(-present)
    complete = (batch.exhaustive & (labelled.all(-1) | ~batch.valid).all(1))[:, None, None, None]
    absent = (1 - bump).pow(4) * logits.sigmoid().square() * F.softplus(logits) * complete
    off = (offsets[index] - (at - own)[picture, hand, joint]).abs().mean(-1)
    return (found.sum() + absent.sum() + off.sum()) / max(1, len(picture))


def _levelled(features: Tensor) -> Tensor:
    """Features (..., C) without their size. A backbone's maps may be in the hundreds: what a head that begins
    from nothing says of those costs a thousand times all other losses, and turns the backbone first.
    """
    return F.layer_norm(features, features.shape[-1:])


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv 1902.09630) of (M, 4) boxes with (M, 4), centre and size."""
    a_low, a_high = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b_low, b_high = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    shared = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    union = (a[:, 2:].prod(-1) + b[:, 2:].prod(-1) - shared).clamp(min=1e-9)
    around = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1).clamp(min=1e-9)
    iou = shared / union
    return iou, iou - (around - union) / around
