"""The backbone of MediaPipe's palm detector, as one that D-FINE can stand on.

Five scales of residual blocks (a depthwise 5x5 and a 1x1 convolution), then a path back down to stride 8
(Bazarevsky et al., "BlazeFace", 2019; the palm detector: Zhang et al., "MediaPipe Hands", 2020). It has no
batch norms: in the released model they are folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BackboneOutput
from transformers.modeling_utils import PreTrainedModel


class BlazeConfig(BackboneConfigMixin, PreTrainedConfig):  # type: ignore[misc]
    """The defaults are those of the released palm detector.

    Args:
        channels: of the maps of stride 2, 4, 8, 16 and 32.
        blocks: residual blocks of each scale after the one that halves the map; half as many on the way down.
        out_indices, out_features: the maps that the detector reads.
    """

    model_type = "handos_blaze"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256, 256),
        blocks: int = 4,
        out_indices: Any = None,
        out_features: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.channels, self.blocks = list(channels), blocks
        self.stage_names = ["stem", "stage1", "stage2", "stage3", "stage4"]
        self.set_output_features_output_indices(out_indices=out_indices, out_features=out_features)


class Slope(nn.PReLU):
    """PReLU. In a graph it is written as two convolutions: onnxruntime's own runs on one value at a time and
    takes as long as all the backbone's other parts together.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps in, the same maps bent."""
        if not torch.compiler.is_exporting():
            return super().forward(x)
        slope = self.weight.view(-1, 1, 1, 1)
        convolution = partial(nn.functional.conv2d, groups=len(slope))
        return convolution(nn.functional.relu(x), 1 - slope) + convolution(x, slope)


class Block(nn.Module):
    """x + pointwise(depthwise(x)), then PReLU; with stride 2, x is pooled and filled up with zeros."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.more = stride, out - channels
        self.depthwise = nn.Conv2d(
            channels, channels, 5, stride, padding=2 if stride == 1 else 0, groups=channels
        )
        self.pointwise = nn.Conv2d(channels, out, 1)
        self.activation = Slope(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, out, h / stride, w / stride)."""
        seen = x
        if self.stride == 2:
            seen = _padded(x)
            x = nn.functional.max_pool2d(x, 2)
        if self.more:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self.more))
        return self.activation(x + self.pointwise(self.depthwise(seen)))


def _padded(x: Tensor) -> Tensor:
    """What TensorFlow's "same" adds before a 5x5 convolution of stride 2 over an even size."""
    return nn.functional.pad(x, (1, 2, 1, 2))


def _chain(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, channels) for _ in range(count)))


class Down(nn.Module):
    """Twice as large again: bilinear, a 1x1 convolution, PReLU; added to the map of that size; blocks."""

    def __init__(self, channels: int, out: int, blocks: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, out, 1)
        self.activation = Slope(out)
        self.blocks = _chain(out, blocks)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, channels, h, w) and (B, out, 2h, 2w) -> (B, out, 2h, 2w)."""
        # Size by the finer map: it is a multiple of the coarser one's.
        coarse = nn.functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        return self.blocks(fine + self.activation(self.project(coarse)))


class Blaze(nn.Module):
    """(B, 3, H, W), 0 to 1, sides multiples of 32 -> maps of stride 4, 8, 16, 32."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        first = channels[0]
        self.stem = nn.Conv2d(3, first, 5, 2)
        self.activation = Slope(first)
        self.scales = nn.ModuleList([_chain(first, blocks)])
        for before, after in pairwise(channels):
            self.scales.append(nn.Sequential(Block(before, after, 2), *_chain(after, blocks)))
        self.down16 = Down(channels[4], channels[3], blocks // 2)
        self.down8 = Down(channels[3], channels[2], blocks // 2)

    @property
    def stages(self) -> list[nn.Module]:
        """The modules whose outputs the maps are, finest first."""
        return [self.scales[1], self.down8, self.down16, self.scales[4]]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The maps of a batch."""
        x = self.scales[0](self.activation(self.stem(_padded(pixels))))
        maps = []
        for scale in self.scales[1:]:
            x = scale(x)
            maps.append(x)
        s4, s8, s16, s32 = maps
        s16 = self.down16(s32, s16)
        return s4, self.down8(s16, s8), s16, s32


class BlazeBackbone(BackboneMixin, PreTrainedModel):  # type: ignore[misc]
    """As `transformers` wants backbones."""

    config_class = BlazeConfig
    main_input_name = "pixel_values"

    def __init__(self, config: BlazeConfig) -> None:
        super().__init__(config)
        self.num_features = list(config.channels)
        self.encoder = Blaze(config.channels, config.blocks)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As torch begins them."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BackboneOutput:  # type: ignore[override]
        """Those maps of a batch that `out_indices` name."""
        maps = (None, *self.encoder(pixel_values))
        return BackboneOutput(feature_maps=tuple(maps[i] for i in self.out_indices))


AutoConfig.register(BlazeConfig.model_type, BlazeConfig)
AutoBackbone.register(BlazeConfig, BlazeBackbone)
