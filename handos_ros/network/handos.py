"""HandOS whole: detector, side network and decoder under one configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handos_ros.hand_model.model import HandModel
from handos_ros.network.config import HandosConfig
from handos_ros.network.decoder import DecoderOutput, InteractiveDecoder
from handos_ros.network.detectors import DetectorOutput, build_detector
from handos_ros.network.side import SideNetwork


class HandosNetwork(nn.Module):
    """The network of one configuration.

    Args:
        config: what to build.
        hand_model: the mesh it predicts; its name must be the configuration's.
        pretrained: start the detector from `config.detector.pretrained`, where that is set.
        frozen: freeze the detector, as in all training but its own.

    Attributes:
        hand_model_hash: `HandModel.fingerprint` of what its outputs rest on.
    """

    def __init__(
        self, config: HandosConfig, hand_model: HandModel, *, pretrained: bool = True, frozen: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.hand_model_hash = hand_model.fingerprint(coarse=config.decoder.vertices == "coarse")
        self.detector = build_detector(config.detector, pretrained=pretrained)
        if frozen:
            self.detector.freeze()
        backbone, encoder = self._measure()
        self.backbone_channels = [channels for channels, _ in backbone]
        self.backbone_strides = [stride for _, stride in backbone]
        self.side = SideNetwork(config.side, backbone, encoder, config.decoder.width, config.decoder.strides)
        self.decoder = InteractiveDecoder(config.decoder, hand_model, self.detector.query_channels)

    def _measure(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(channels, stride) of the detector's maps, from one small picture."""
        side = 8 * self.config.stride
        training = self.detector.training
        self.detector.eval()
        with torch.no_grad():
            seen = self.detector(torch.zeros(1, 3, side, side))
        self.detector.train(training)
        describe = lambda maps: [(m.shape[1], round(side / m.shape[2])) for m in maps]  # noqa: E731
        return describe(seen.backbone), describe(seen.features)

    def detect(
        self, pictures: Tensor, mask: Tensor | None = None, labels: Sequence[Tensor] | None = None
    ) -> DetectorOutput:
        """(B, 3, H, W) RGB, 0 to 255; H and W multiples of `config.stride`. Arguments: `DetectorAdapter`."""
        return self.detector(pictures, mask, labels)

    def maps(self, seen: DetectorOutput) -> list[Tensor]:
        """F^GD: the maps that the decoder looks into."""
        return self.side(seen.backbone, seen.features, seen.masks)

    def decode(
        self,
        seen: DetectorOutput,
        queries: Tensor,
        boxes: Tensor,
        picture_size: tuple[int, int],
        *,
        only_2d: bool = False,
        all_layers: bool = False,
    ) -> DecoderOutput:
        """Decode K hands of each picture.

        Args:
            queries: (B, K) int64, the candidate each hand starts from.
            boxes: (B, K, 4) the box it starts from: the candidate's own, or one from outside.
            picture_size: height and width of the pictures in px.
        """
        index = queries[..., None]
        q_first = seen.q_first.gather(1, index.expand(-1, -1, seen.q_first.shape[2]))
        q_last = seen.q_last.gather(1, index.expand(-1, -1, seen.q_last.shape[2]))
        return self.decoder(
            self.maps(seen), q_first, q_last, boxes, picture_size, only_2d=only_2d, all_layers=all_layers
        )
