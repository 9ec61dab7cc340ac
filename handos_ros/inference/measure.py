"""How long a pipeline takes: per stage and whole, for given numbers of hands, and how much memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from handos_ros.inference.pipeline import STAGES, Pipeline

WHOLE = "whole"


@dataclass(frozen=True)
class Timing:
    """Of one stage, or of the whole, over many pictures: milliseconds."""

    median: float
    p95: float


def measure(
    pipeline: Pipeline, size: tuple[int, int], hands: Sequence[int], *, repeats: int = 50, warm_up: int = 5
) -> dict[int, dict[str, Timing]]:
    """Time a pipeline on pictures of random colours, with boxes forced.

    So the number of hands is what is asked for, whatever the network makes of the picture. Finding them
    by score instead of by box is a small part of the stage `filter`, and is timed with none.

    Args:
        size: width and height of the picture in px.
        hands: numbers of hands to force.
        repeats: pictures timed for each number. warm_up: pictures before them that are not.

    Returns:
        For each number of hands, the `Timing` of every stage and of the `WHOLE`.
    """
    rng = np.random.default_rng(0)
    width, height = size
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    return {count: _measure(pipeline, image, _boxes(rng, count, size), repeats, warm_up) for count in hands}


def _measure(
    pipeline: Pipeline, image: NDArray[np.uint8], boxes: NDArray, repeats: int, warm_up: int
) -> dict[str, Timing]:
    times: dict[str, list[float]] = {name: [] for name in (*STAGES, WHOLE)}
    for number in range(warm_up + repeats):
        started = perf_counter()
        pipeline(image, boxes=boxes)
        whole = perf_counter() - started
        if number >= warm_up:
            for name in STAGES:
                times[name].append(pipeline.timings[name])
            times[WHOLE].append(whole)
    return {
        name: Timing(*(1e3 * float(np.percentile(values, p)) for p in (50, 95)))
        for name, values in times.items()
    }


def _boxes(rng: np.random.Generator, count: int, size: tuple[int, int]) -> NDArray:
    """(count, 4) boxes of hands as they are seen at arm's length, all inside the picture."""
    side = 0.3 * min(size)
    corner = rng.uniform(0, 1, (count, 2)) * (np.array(size) - side - 1)
    return np.concatenate([corner, corner + side], 1)


def peak_memory() -> int:
    """Bytes that this process held at most, so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
