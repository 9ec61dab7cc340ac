"""Training pictures a second and core at full size, and how long a training step waits for them.

Makes a miniature data set of photographs (COCO keypoints, JPEG), measures `Mixture` alone on one core, and
from that the share of a step's time in which 8 workers leave it waiting. The same is run with as many
workers as there are cores, the step made longer in proportion; the step is a sleep, as a GPU's is to the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from handos_ros.learning.training.config import SourceConfig, StageConfig, TrainingConfig
from handos_ros.learning.training.data import Mixture

WORKERS = 8
SHAPES = {"1280x960": (960, 1280), "640x480": (480, 640), "224x224": (224, 224)}
"""Of COCO-like and larger photographs, DexYCB and HO-3D, FreiHAND."""


def main() -> None:
    """Print a row for each size of photograph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4, help="pictures a step (default: 4, as the recipes)")
    parser.add_argument("--step", type=float, default=0.3, help="seconds of a training step (default: 0.3)")
    parser.add_argument("--steps", type=int, default=12, help="steps to run (default: 12)")
    parser.add_argument("--pictures", type=int, default=40, help="so many for the rate (default: 40)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    cores = os.cpu_count() or 1
    print(f"{cores} cores; batches of {args.batch} at 960 x 1280, steps of {args.step:g} s\n")
    print("| photographs | pictures a second and core | with mosaic | waiting, 8 workers | "
          f"run with {cores} workers and steps of {args.step * WORKERS / cores:g} s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            source = write_photographs(Path(folder) / name, shape)
            alone = rate(source, args.batch, 0.0, args.pictures)
            mixed = rate(source, args.batch, TrainingConfig.mosaic, args.pictures)
            calculated = waiting(mixed, args.batch, args.step)
            measured = run(source, args.batch, args.step * WORKERS / cores, cores, args.steps)
            print(f"| {name} | {alone:.1f} | {mixed:.1f} | {calculated:.0%} | {measured:.0%} |", flush=True)


def waiting(pictures_per_second: float, batch: int, step: float) -> float:
    """Share of the time that goes by in waiting, where `WORKERS` cores make batches meanwhile."""
    making = batch / (WORKERS * pictures_per_second)
    return max(0.0, 1 - step / making)


def mixture(source: SourceConfig, batch: int, mosaic: float) -> Mixture:
    """Batches of pictures of 960 x 1280, which is what the network `handos` trains on."""
    stage = StageConfig("full", steps=10**6, batch=batch, sizes=((960, 1280),))
    return Mixture(TrainingConfig("handos", (source,), (stage,), mosaic=mosaic), stage)


def rate(source: SourceConfig, batch: int, mosaic: float, pictures: int) -> float:
    """Pictures a second in this process, on one core."""
    batches = mixture(source, batch, mosaic)
    batches[0]
    steps = max(1, pictures // batch)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        batches[step]
    return steps * batch / (time.perf_counter() - began)


def run(source: SourceConfig, batch: int, step: float, workers: int, steps: int) -> float:
    """Share of the time in which a step waits, once the first batch is there."""
    batches = mixture(source, batch, TrainingConfig.mosaic).loader(0, steps + 1, workers)
    next(batches)
    waited = 0.0
    began = time.perf_counter()
    for _ in range(steps):
        time.sleep(step)
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - began)


def write_photographs(folder: Path, shape: tuple[int, int], count: int = 12) -> SourceConfig:
    """Photographs that are as hard to read as real ones: smooth shapes with grain, JPEG at quality 92."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    height, width = shape
    images, annotations = [], []
    for number in range(count):
        coarse = rng.integers(0, 256, (height // 40, width // 40, 3)).astype(np.uint8)
        grain = rng.normal(0, 5, (height, width, 3))
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + grain
        name = f"{number:03d}.jpg"
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for hand in range(2):
            x, y = width * (0.15 + 0.4 * hand), height * 0.3
            w, h = width * 0.25, height * 0.4
            points = np.column_stack([rng.uniform(x, x + w, 21), rng.uniform(y, y + h, 21), np.full(21, 2)])
            label = {"bbox": [x, y, w, h], "keypoints": points.ravel().tolist(), "handedness": "left"}
            annotations.append({"id": 2 * number + hand, "image_id": number, **label})
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return SourceConfig("coco", 1.0, annotations=str(path))


if __name__ == "__main__":
    main()
