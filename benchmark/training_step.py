"""A training step of `handos_lite` on a CPU, as it is and with `--compile`, in either precision.

On rendered hands, so that no data set is needed; all of the network learns but the backbone's finest scale,
as in the last stages of its recipe. Batches are made before, compiling is not counted.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

from handos_ros.hand_model.model import load_hand_model
from handos_ros.learning.training.config import SourceConfig, StageConfig, TrainingConfig
from handos_ros.learning.training.data import Mixture
from handos_ros.learning.training.loop import Run, train

FROZEN = tuple(f"model.backbone.model.encoder.{part}" for part in ("stem", "activation", "scales.0"))
AGAIN = 3
"""Steps that are not counted: in these torch compiles, and allocates what it will keep."""


def main() -> None:
    """Print a row for each precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15, help="so many are timed (default: 15)")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step (default: 16)")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256), metavar=("H", "W"))
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; batches of {args.batch}, {args.size[0]}x{args.size[1]}\n")
    print("| precision | plain, s a step | --compile |")
    print("| --- | --- | --- |")
    for half in (False, True):
        times = [measured(args, half, compiled) for compiled in (False, True)]
        print(f"| {'bfloat16' if half else 'float32'} | {times[0]:.2f} | {times[1]:.2f} |", flush=True)


def measured(args: argparse.Namespace, half: bool, compiled: bool) -> float:
    """Median seconds of a step, the waiting for its batch left out."""
    stage = StageConfig(
        "all", AGAIN + args.steps, batch=args.batch, sizes=(tuple(args.size),), detector=True, dense=True,
        frozen=FROZEN, hands=4, warmup=0,
    )  # fmt: skip
    config = TrainingConfig("handos_lite", (SourceConfig("synthesis", 1.0),), (stage,))
    model = load_hand_model()
    mixture = Mixture(config, stage, num_vertices=len(model.template))
    batches = [mixture[number] for number in range(4)]
    ends: list[float] = []

    def ready(self: Mixture, first: int, last: int, workers: int, *, pin: bool = False) -> object:
        for step in range(first, last):
            batch = copy.deepcopy(batches[step % len(batches)])
            began = time.perf_counter()
            yield batch
            ends.append(time.perf_counter() - began)

    loader, Mixture.loader = Mixture.loader, ready  # type: ignore[assignment, method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder), progress=False, checkpoint_every=10**6, half=half, compiled=compiled)
            train(config, model, run)
    finally:
        Mixture.loader = loader  # type: ignore[method-assign]
    return statistics.median(ends[AGAIN:])


if __name__ == "__main__":
    main()
