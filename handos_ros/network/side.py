"""The side network: what the frozen detector's backbone knows, made fit for hands (F^s, then F^GD)."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from torch import Tensor, nn

from handos_ros.network.config import SideConfig


class SideNetwork(nn.Module):
    """Three convolutions on each of the backbone's scales, joined with the detector's encoder maps.

    A backbone scale finer than the finest map wanted is brought to it by its second convolution's
    stride: its detail is kept, and the decoder need not read a map of that size. Encoder maps (F^e) and
    side maps (F^s) of one stride are added after a projection each; where only one of them exists at a
    stride, it stands alone.

    Args:
        backbone: (channels, stride) of each backbone scale, finest first.
        encoder: (channels, stride) of each encoder map, finest first.
        width: channels of every map that comes out.
        strides: of the maps that come out, finest first.
    """

    def __init__(
        self,
        config: SideConfig,
        backbone: Sequence[tuple[int, int]],
        encoder: Sequence[tuple[int, int]],
        width: int,
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.sides = nn.ModuleList()
        self.side_strides: list[int] = []
        for (channels, stride), middle in zip(backbone, config.channels, strict=True):
            step = max(1, self.strides[0] // stride)
            self.side_strides.append(stride * step)
            self.sides.append(
                nn.Sequential(
                    _convolution(channels, middle, 1),
                    _convolution(middle, middle, 3, step, groups=middle if config.depthwise else 1),
                    _convolution(middle, width, 1, activation=False),
                )
                if stride * step in self.strides
                else nn.Identity()  # keeps the numbers of the others
            )
        self.encoder_strides = [stride for _, stride in encoder]
        self.encoders = nn.ModuleList(
            nn.Conv2d(channels, width, 1) if stride in self.strides else nn.Identity()
            for channels, stride in encoder
        )
        reachable = set(self.side_strides) | set(self.encoder_strides)
        missing = [s for s in self.strides if s not in reachable]
        if missing:
            raise ValueError(f"no map of stride {missing[0]}: there are {sorted(reachable)}")

    def forward(
        self, backbone: Sequence[Tensor], encoder: Sequence[Tensor], masks: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Maps in, maps (B, width, h, w) out, one for each of `strides`; padding is zero."""
        at: dict[int, list[Tensor]] = {stride: [] for stride in self.strides}
        for stride, side, level in zip(self.side_strides, self.sides, backbone, strict=True):
            if stride in at:
                at[stride].append(side(level))
        for number, (stride, project) in enumerate(zip(self.encoder_strides, self.encoders, strict=True)):
            if stride in at:
                level = project(encoder[number])
                at[stride].append(level if masks is None else level * masks[number][:, None])
        return [reduce(operator.add, parts) for parts in at.values()]


def _convolution(
    channels: int, out: int, size: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if activation else nn.Sequential(*layers)
