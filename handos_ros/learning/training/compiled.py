"""Parts of the network that learn slowly on CPUs, as loops that torch's compiler makes from plain operations.

Torch's own gradients of them take most of a training step there: in bfloat16 the weights of a 5x5 depthwise
convolution get theirs twenty times as slowly as from here, those of a PReLU ten times.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handos_ros.network.layers import SelfAttention, attend

_Context = Any
_LOOPS = 64
"""One loop for each number of channels, kernel and stride: more than torch makes without being asked."""


def compile_slow_parts(network: nn.Module) -> None:
    """Have depthwise convolutions, PReLUs, batch norms and the decoder's attention learn by compiled loops.

    For a network on a CPU. What they compute stays the same, on pictures of any size. The first steps take
    some two minutes longer, once on each machine, and a C++ compiler has to be there.
    """
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(_LOOPS, limit)
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.attend = torch.compile(attend, dynamic=True)
        elif isinstance(module, nn.PReLU) and module.num_parameters > 1:
            _replace(module, _bent)
        elif isinstance(module, nn.Conv2d) and _is_depthwise(module):
            _replace(module, _convolved)
        elif isinstance(module, nn.BatchNorm2d) and module.affine and module.momentum:
            _replace(module, _normalised)


def _is_depthwise(module: nn.Conv2d) -> bool:
    plain = module.padding_mode == "zeros" and set(module.dilation) == {1}
    plain = plain and not isinstance(module.padding, str)
    return plain and 1 < module.groups == module.in_channels == module.out_channels


def _replace(module: Any, forward: Callable[[Any, Tensor], Tensor]) -> None:
    original = module.forward

    def chosen(self: Any, x: Tensor) -> Tensor:
        learns = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        return forward(self, x) if learns else original(x)

    module.forward = MethodType(chosen, module)


def _convolved(module: nn.Conv2d, x: Tensor) -> Tensor:
    weight, bias = module.weight, module.bias
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight = x.to(kind), weight.to(kind)
        bias = None if bias is None else bias.to(kind)
    out: Tensor = _Depthwise.apply(x, weight, bias, module.stride, module.padding)  # type: ignore[no-untyped-call]
    return out


def _bent(module: nn.PReLU, x: Tensor) -> Tensor:
    out: Tensor = _Bend.apply(x, module.weight.to(x.dtype))  # type: ignore[no-untyped-call]
    return out


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.bias = stride, padding, bias is not None
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: _Context, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        kernel = weight.shape[2:]
        g = g.contiguous(memory_format=torch.channels_last)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _to_input(g, weight, x.shape[2:], ctx.stride, ctx.padding)
        down, across = ctx.padding
        # Channels last, as a loop over them is what a vector unit is for.
        seen = F.pad(x.permute(0, 2, 3, 1), (0, 0, across, across, down, down)).contiguous()
        sums, whole = _shifted_sums(seen, g.permute(0, 2, 3, 1), *kernel, *ctx.stride)
        to_weight = sums.t().reshape(weight.shape).to(weight.dtype)
        to_bias = whole.to(weight.dtype) if ctx.bias else None
        return to_x, to_weight, to_bias, None, None


def _to_input(g: Tensor, weight: Tensor, size: Any, stride: Any, padding: Any) -> Tensor:
    """The gradient of the input, of `size`: the same convolution, turned around, of the output's gradient."""
    (down, across), (rows, columns) = stride, weight.shape[2:]
    if stride != (1, 1):
        apart = g.new_zeros(
            g.shape[0], (g.shape[2] - 1) * down + 1, (g.shape[3] - 1) * across + 1, g.shape[1]
        )
        apart[:, ::down, ::across] = g.permute(0, 2, 3, 1)
        g = apart.permute(0, 3, 1, 2)
    before = rows - 1 - padding[0], columns - 1 - padding[1]
    after = size[0] + rows - 1 - before[0] - g.shape[2], size[1] + columns - 1 - before[1] - g.shape[3]
    g = F.pad(g, (before[1], after[1], before[0], after[0]))
    return F.conv2d(g, weight.flip(2, 3), groups=len(weight))


@torch.compile(dynamic=True)
def _shifted_sums(
    seen: Tensor, g: Tensor, rows: int, columns: int, down: int, across: int
) -> tuple[Tensor, Tensor]:
    """(B, H, W, C) padded input and (B, h, w, C) gradient of the output -> (rows * columns, C) and (C,)."""
    height, width = g.shape[1:3]
    wide = g.float()
    sums = torch.stack(
        [
            (seen[:, y : y + down * height : down, x : x + across * width : across].float() * wide).sum(
                (0, 1, 2)
            )
            for y in range(rows)
            for x in range(columns)
        ]
    )
    return sums, wide.sum((0, 1, 2))


class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx: _Context, g: Tensor) -> Any:
        x, slope = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        to_x, to_slope = _bend_backward(x.permute(0, 2, 3, 1), g.permute(0, 2, 3, 1), slope)
        return to_x.permute(0, 3, 1, 2), to_slope.to(slope.dtype)


@torch.compile(dynamic=True)
def _bend_backward(x: Tensor, g: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    below = x < 0
    return torch.where(below, g * slope, g), torch.where(below, x.float() * g.float(), 0.0).sum((0, 1, 2))


def _normalised(module: nn.BatchNorm2d, x: Tensor) -> Tensor:
    out, mean, variance = _norm(x.permute(0, 2, 3, 1), module.weight, module.bias, module.eps)
    assert module.running_mean is not None and module.running_var is not None
    assert module.num_batches_tracked is not None and module.momentum is not None
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        module.num_batches_tracked.add_(1)
        module.running_mean.lerp_(mean, module.momentum)
        module.running_var.lerp_(variance * (count / max(1, count - 1)), module.momentum)
    return out.permute(0, 3, 1, 2)


@torch.compile(dynamic=True)
def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(B, H, W, C) normalised over all but C, the mean and the variance."""
    wide = x.float()
    mean = wide.mean((0, 1, 2))
    off = wide - mean
    variance = off.square().mean((0, 1, 2))
    out = off * torch.rsqrt(variance + eps) * weight + bias
    return out.to(x.dtype), mean.detach(), variance.detach()
