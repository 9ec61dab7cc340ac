"""One training step: which queries learn which hands, and the losses of detector and decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handos_ros.errors import ModelError
from handos_ros.learning.sample import Batch
from handos_ros.learning.training.assignment import overlap, simota
from handos_ros.learning.training.config import StageConfig, TrainingConfig
from handos_ros.learning.training.dense import DenseHead, dense_losses
from handos_ros.learning.training.losses import (
    MeshTopology,
    Predictions,
    hand_losses,
    masked_mean,
    weighted_sum,
)
from handos_ros.learning.training.targets import gather_targets
from handos_ros.network.decoder import DecoderOutput
from handos_ros.network.detectors import DetectorOutput
from handos_ros.network.handos import HandosNetwork

BOX_NOISE = 0.12
"""How far a labelled box is disturbed: standard deviation of centre and log size, in units of its size."""
LEAST_OVERLAP = 0.5
"""IoU above which a candidate covers its hand: such boxes are what is decoded when it matters."""
STRANGE_OVERLAP = 0.3
"""IoU with every hand below which a candidate is no hand's, not even a badly placed one of some hand."""
STRANGERS_FIRST = 0.5
"""In how many pictures places that are left go to candidates that are no hand before others that are."""
UNKNOWN, STRANGER = -1, -2
"""What `choose_queries` says instead of a hand's number."""


class StageStep(nn.Module):
    """The network with its losses, so that one forward pass is one training step.

    Args:
        network: the detector frozen or not, as the stage has it.
        mesh: topology of the mesh it predicts.
    """

    def __init__(
        self, network: HandosNetwork, config: TrainingConfig, stage: StageConfig, mesh: MeshTopology
    ) -> None:
        super().__init__()
        self.network, self.mesh = network, mesh
        self.config, self.stage = config, stage
        self.dense = (
            DenseHead(network.detector.feature_channels, network.backbone_channels[1])
            if stage.dense
            else None
        )

    def forward(self, batch: Batch, close: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its parts, detached, by name.

        Args:
            close: the batch is one of the stage's `close_ups`.
        """
        if self.dense is not None and self.stage.decoder == "none":
            places = self.network.detector.places(batch.images)
            with _whole_precision(batch.images.device):
                return dense_losses(places, self.dense, batch, self.config.losses)
        labels = None
        # With a hand unlabelled, a query that finds it would be taught that nothing is there.
        if self.stage.detector and batch.exhaustive.all():
            labels = [boxes[valid] for boxes, valid in zip(batch.boxes, batch.valid, strict=True)]
        seen = self.network.detect(batch.images, labels=labels)
        total = torch.zeros((), device=batch.images.device)
        terms: dict[str, Tensor] = {}
        if seen.losses is not None:
            terms["detector"] = torch.stack(list(seen.losses.values())).sum()
            total = total + terms["detector"]
        if self.dense is not None:
            if seen.places is None:
                raise ModelError(
                    f"{self.config.network}'s detector cannot learn from places: leave out `dense`"
                )
            with _whole_precision(batch.images.device):
                loss, parts = dense_losses(seen.places, self.dense, batch, self.config.losses, choosing=False)
            total = total + self.stage.dense_weight * loss
            terms.update({f"dense/{name}": value for name, value in parts.items()})
        if self.stage.decoder != "none":
            hands = self.stage.hands or self.config.hands
            if close and self.stage.close_ups is not None:
                hands = self.stage.close_ups.hands
            loss, parts = self._decoder(seen, batch, hands)
            total = total + loss
            terms.update(parts)
        return total, {name: value.detach() for name, value in terms.items()}

    def _decoder(self, seen: DetectorOutput, batch: Batch, hands: int) -> tuple[Tensor, dict[str, Tensor]]:
        queries, boxes, hand = choose_queries(seen, batch, hands, self.config.own_boxes, training=True)
        out = self.network.decode(
            seen, queries, boxes, batch.picture_size, only_2d=self.stage.decoder == "2d", all_layers=True
        )
        picture, place = torch.nonzero(hand >= 0, as_tuple=True)
        with _whole_precision(batch.images.device):
            assert out.presence_logits is not None  # the last layer's
            presence = presence_loss(seen.logits.gather(1, queries), out.presence_logits, hand)
            targets = gather_targets(batch, picture, hand[picture, place])
            losses, last = [], {}
            for layer in [*out.earlier, out]:
                predictions = _pick(layer, picture, place)
                last = hand_losses(predictions, targets, self.config.losses, self.mesh)
                losses.append(weighted_sum(last, self.config.losses))
            # Every layer counts, the last as much as all before it.
            earlier = torch.stack(losses[:-1]).mean() if len(losses) > 1 else 0.0
            total = losses[-1] + earlier + self.config.losses.presence * presence
            return total, {**last, "presence": presence}


def _whole_precision(device: torch.device) -> torch.autocast:
    """The network may run in half precision, its losses must not: bfloat16 is 0.5 mm wide at a hand's size,
    and CUDA has no decompositions in it.
    """
    return torch.autocast(device.type, enabled=False)


def presence_loss(logits: Tensor, presence: Tensor, hand: Tensor) -> Tensor:
    """Cross-entropy of whether a candidate is a hand: its score, and what the decoder adds to it.

    The score is the detector's to learn, so it gets no gradient here: the decoder learns what it lacks.

    Args:
        logits, presence: (B, P) of the candidates that were decoded.
        hand: (B, P) as of `choose_queries`.
    """
    said = logits.detach().float() + presence.float()
    wanted = (hand >= 0).to(said.dtype)
    wrong = F.binary_cross_entropy_with_logits(said, wanted, reduction="none")
    return masked_mean(wrong, hand != UNKNOWN)


@torch.no_grad()
def choose_queries(
    seen: DetectorOutput, batch: Batch, hands: int, own_boxes: float, *, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Which candidates are decoded, from which boxes, and which labelled hand each is to learn.

    The first places go to the labelled hands, one each: the candidate that covers it best, from its own
    box or from the labelled one, disturbed. So every hand is learned from, also where the detector is
    still weak, and boxes from outside do not come as a surprise. The other places go to other candidates,
    from their own boxes: those that SimOTA gives to some hand, at random, and where all hands are labelled
    those that are none, most alike to one first. Which of these come first is left to chance.

    Args:
        hands: places a picture has.
        own_boxes: how often a hand's candidate keeps its own box.

    Returns:
        queries (B, P) int64, boxes (B, P, 4), and the number of the hand (B, P) int64, `STRANGER` for a
        candidate that is none, `UNKNOWN` where that is not known.
    """
    wanted = min(hands, batch.valid.shape[1])
    device = seen.boxes.device
    # Pictures of a crowd: which hands get a place is left to chance, but a box alone teaches no joints.
    known = batch.valid & ((batch.joints_2d_weight > 0).any(-1) | batch.has_joints_3d)
    lots = batch.valid.float() + known.float() + torch.rand(batch.valid.shape, device=device)
    order = lots.topk(wanted, dim=1).indices
    valid = batch.valid.gather(1, order)
    labels = batch.boxes.gather(1, order[..., None].expand(-1, -1, 4))
    covers, _ = overlap(seen.boxes.float(), batch.boxes)
    best, nearest = covers.gather(1, order[..., None].expand(-1, -1, covers.shape[2])).max(2)
    own = seen.boxes.float().gather(1, nearest[..., None].expand(-1, -1, 4))
    noise = torch.randn(labels.shape, device=device) * BOX_NOISE if training else torch.zeros_like(labels)
    moved = torch.cat(
        [labels[..., :2] + noise[..., :2] * labels[..., 2:], labels[..., 2:] * noise[..., 2:].exp()], -1
    )
    keep = (best > LEAST_OVERLAP) & (torch.rand(best.shape, device=device) < own_boxes)
    boxes = torch.where(keep[..., None], own, moved)
    hand = torch.where(valid, order, UNKNOWN)

    # The places that are left, in pictures of few hands, go to candidates that have none yet.
    assigned = simota(seen.scores.float(), seen.boxes.float(), batch.boxes, batch.valid)
    if batch.boxes.shape[1]:
        own_hand = covers.gather(1, assigned.clamp(min=0)[:, None])[:, 0]
        assigned = torch.where(own_hand > LEAST_OVERLAP, assigned, UNKNOWN)
    taken = torch.zeros_like(assigned).scatter_add(1, nearest, valid.to(assigned.dtype)) > 0
    assigned = torch.where(taken, UNKNOWN, assigned)
    strange = batch.exhaustive[:, None] & ~taken
    if batch.boxes.shape[1]:
        strange = strange & (covers.amax(1) < STRANGE_OVERLAP)
    assigned = torch.where(strange, STRANGER, assigned)
    lot = torch.where(assigned >= 0, 1 + torch.rand(assigned.shape, device=device), 0.0)
    first = torch.rand(len(lot), 1, device=device) < STRANGERS_FIRST
    lot = torch.where(strange, seen.scores.float() + 2 * first, lot)
    lot = torch.where(taken, -1.0, lot)
    left = torch.nn.functional.pad(~valid, (0, hands - wanted), value=True)
    turn = (left.cumsum(1) - 1).clamp(min=0)
    drawn = lot.argsort(1, descending=True).gather(1, turn.clamp(max=lot.shape[1] - 1))
    spare = torch.where(turn < lot.shape[1], assigned.gather(1, drawn), UNKNOWN)

    def filled(first: Tensor, rest: Tensor) -> Tensor:
        pad = (0, 0) * (first.dim() - 2) + (0, hands - wanted)
        where = left if first.dim() == 2 else left[..., None]
        return torch.where(where, rest, torch.nn.functional.pad(first, pad))

    rest = seen.boxes.float().gather(1, drawn[..., None].expand(-1, -1, 4))
    return filled(nearest, drawn), filled(boxes, rest), filled(hand, spare)


def _pick(output: DecoderOutput, picture: Tensor, place: Tensor) -> Predictions:
    """The M hands that have a label."""

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[picture, place]

    return Predictions(
        joints_2d=output.joints_2d[picture, place],
        joint_logits=rows(output.joint_logits),
        joints_3d=rows(output.joints_3d),
        vertices=rows(output.vertices),
        root_2d=rows(output.root_2d),
        scale=rows(output.scale),
    )
