"""What a network costs on paper: parameters and floating-point operations of each part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from handos_ros.network.handos import HandosNetwork

_FEW, _MORE = 1, 3


@dataclass(frozen=True)
class Cost:
    """Of one part of the network.

    Attributes:
        parameters: how many numbers it has learned or was given.
        flops: operations for a picture; a multiplication and an addition are two.
        flops_per_hand: operations for each hand in it.
    """

    parameters: int
    flops: float
    flops_per_hand: float = 0.0


def costs(network: HandosNetwork, height: int, width: int) -> dict[str, Cost]:
    """Costs of `detector`, `side` and `decoder` on one network picture of height x width px.

    Counted by PyTorch over matrix products, convolutions and attention, which are all but a few percent;
    sampling of maps, normalisation and activations are not counted. Text that is read once per prompt is
    left out, as it costs nothing per picture.
    """
    device = next(network.parameters()).device
    pictures = torch.zeros(1, 3, height, width, device=device)
    with torch.inference_mode():
        network.detect(pictures)  # reads the prompt
        seen, detector = None, FlopCounterMode(display=False)
        with detector:
            seen = network.detect(pictures)
        with FlopCounterMode(display=False) as side:
            network.maps(seen)
        by_hands = []
        for count in (_FEW, _MORE):
            queries = torch.zeros(1, count, dtype=torch.int64, device=device)
            boxes = torch.full((1, count, 4), 0.3, device=device)
            with FlopCounterMode(display=False) as decoder:
                network.decode(seen, queries, boxes, (height, width))
            by_hands.append(decoder.get_total_flops() - side.get_total_flops())
    per_hand = (by_hands[1] - by_hands[0]) / (_MORE - _FEW)
    return {
        "detector": Cost(_parameters(network.detector), detector.get_total_flops()),
        "side": Cost(_parameters(network.side), side.get_total_flops()),
        "decoder": Cost(_parameters(network.decoder), by_hands[0] - _FEW * per_hand, per_hand),
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
