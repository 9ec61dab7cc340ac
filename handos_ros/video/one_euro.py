"""The One Euro filter (Casiez, Roussel and Vogel, CHI 2012) on many points at once, at uneven times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE_CUTOFF = 1.0
"""Hz; the cutoff of the speed's own low-pass filter, the paper's default."""


def one_euro(
    values: NDArray, previous: NDArray, rates: NDArray, dt: NDArray, cutoff: float, beta: float | NDArray
) -> tuple[NDArray, NDArray]:
    """One step: a low-pass filter whose cutoff rises with speed, so that rest is calm and motion prompt.

    Args:
        values: (N, ..., D) what was measured. The D coordinates of a point share one cutoff, by the
            length of its speed, so that no direction is preferred.
        previous: the same shape, what the filter gave before; NaN where there is nothing before.
        rates: the same shape, the speeds that it gave along with them, per second.
        dt: (N,) seconds since, above 0.
        cutoff: Hz at rest; infinity switches the filter off.
        beta: Hz for each unit of speed; a number or (N, ...).

    Returns:
        The filtered values and their speeds, to be handed back at the next step.
    """
    # In the values' own precision: arrays of vertices are the cost of all this.
    dt = dt.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    beta = np.asarray(beta, values.dtype)
    new = np.isnan(previous[..., :1])
    step = np.where(new, 0, values - previous) / dt
    rates = np.where(new, 0, rates)
    rates = rates + _weight(RATE_CUTOFF, dt) * (step - rates)
    if np.isinf(cutoff):
        return values.copy(), rates
    speed = np.sqrt(np.einsum("...d,...d->...", rates, rates))
    weight = _weight(cutoff + (beta * speed)[..., None], dt)
    return np.where(new, values, weight * values + (1 - weight) * previous), rates


def _weight(cutoff: float | NDArray, dt: NDArray) -> NDArray:
    """Of the new value in exponential smoothing with a cutoff in Hz: 1 / (1 + tau / dt)."""
    turn = (2 * np.pi * cutoff * dt).astype(dt.dtype)
    return turn / (turn + 1)
