"""What `--compile` replaces on a CPU computes what torch itself would."""

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from handos_ros.learning.training.compiled import compile_slow_parts  # noqa: E402
from handos_ros.network.layers import SelfAttention  # noqa: E402

CHANNELS = 8


def both(module):
    """The module as it is and compiled, of the same weights."""
    twin = copy.deepcopy(module)
    compile_slow_parts(twin)
    return module, twin


def gradients(module, *inputs):
    """What comes out, and the gradients of inputs and weights where each value counts differently."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = module(*inputs)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (out.float().sigmoid() * weights).sum().backward()
    return [out.detach(), *(x.grad for x in inputs), *(p.grad for p in module.parameters())]


def test_convolutions_bends_and_norms_learn_as_torch_would_have_them():
    torch.manual_seed(0)
    plain, fast = both(
        nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1, groups=CHANNELS),
            nn.PReLU(CHANNELS),
            nn.BatchNorm2d(CHANNELS),
        )
    )
    for size in ((10, 15), (12, 9)):
        x = torch.randn(3, CHANNELS, *size)
        for a, b in zip(gradients(plain, x), gradients(fast, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        plain.zero_grad(), fast.zero_grad()
    # What the norm will do once it no longer learns.
    for a, b in zip(plain.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(plain.eval()(x), fast.eval()(x))


def test_attention_learns_as_torch_would_have_it():
    torch.manual_seed(0)
    plain, fast = both(SelfAttention(CHANNELS, 2))
    x, values = torch.randn(2, 3, 5, CHANNELS)
    mask = torch.zeros(5, 5)
    mask[:, 2] = -1e4
    for a, b in zip(
        gradients(masked(plain, mask), x, values), gradients(masked(fast, mask), x, values), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def masked(module, mask):
    """The module under this mask."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x, values):
            return self.module(x, values, mask)

    return Masked()
