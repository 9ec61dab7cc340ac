"""How many rendered, labelled samples a second, and where the time goes: `python benchmark/synthesis.py`.

Prints CPU milliseconds per sample by part on one thread, then samples a second with one process for each
core, as training's loader renders. On a GPU (`--device cuda`) the parts are timed with the device waited for.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import defaultdict

import torch

from handos_ros.learning.synthesis import generator, render
from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands

PARTS = (
    ("scene: poses, skin, arms, objects", generator.SceneMaker, "make"),
    ("lights", generator, "draw_lights"),
    ("triangles laid out and culled", render, "gather_surfaces"),
    ("rasteriser", render, "rasterise"),
    ("shadow map", render, "ShadowMap"),
    ("shading", render, "shade"),
    ("backgrounds", generator, "draw_backgrounds"),
    ("composition", generator, "compose"),
    ("weather: blur, noise, JPEG", generator.Weathering, "__call__"),
    ("labels", generator, "label"),
)
WHOLE_RENDER = "pixels gathered and outlines resolved"


def timed(owner, name, part, spent, clock):
    function = getattr(owner, name)

    def wrapper(*args, **kwargs):
        start = clock()
        result = function(*args, **kwargs)
        spent[part] += clock() - start
        return result

    setattr(owner, name, wrapper)


def by_part(args):
    """Milliseconds per sample of each part, in this process, on one thread."""
    torch.set_num_threads(1)
    hands = make(args)
    cuda = args.device != "cpu"

    def clock():
        if cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    size = (args.side, args.side)
    hands.render(range(args.batch), size)
    spent: defaultdict[str, float] = defaultdict(float)
    timed(generator, "render", WHOLE_RENDER, spent, clock)
    for part, owner, name in PARTS:
        timed(owner, name, part, spent, clock)
    start = clock()
    for number in range(args.batches):
        hands.render(range(number * args.batch, (number + 1) * args.batch), size)
    total = clock() - start
    inner = ("triangles laid out and culled", "rasteriser", "shadow map", "shading")
    spent[WHOLE_RENDER] -= sum(spent[part] for part in inner)
    spent["the rest"] = total - sum(spent.values())
    count = args.batch * args.batches
    print(f"| part | {'ms' if cuda else 'CPU ms'} per sample | share |\n| --- | --- | --- |")
    for part, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds / count * 1e3:.2f} | {seconds / total:.0%} |")
    print(f"| together | {total / count * 1e3:.2f} | |")


def worker(args, number, barrier, queue):
    torch.set_num_threads(1)
    hands = make(args)
    size = (args.side, args.side)
    hands.render(range(args.batch), size)
    barrier.wait()
    start = time.perf_counter()
    for k in range(args.batches):
        first = (number * args.batches + k) * args.batch
        hands.render(range(first, first + args.batch), size)
    queue.put((time.perf_counter() - start, time.process_time()))


def together(args):
    """Samples a second of one process for each core."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(args.workers), context.Queue()
    workers = [context.Process(target=worker, args=(args, n, barrier, queue)) for n in range(args.workers)]
    for process in workers:
        process.start()
    seconds = max(queue.get()[0] for _ in workers)
    for process in workers:
        process.join()
    rate = args.workers * args.batch * args.batches / seconds
    print(f"\n{rate:.0f} samples a second of {args.side} px with {args.workers} processes of one thread")


def make(args):
    return SyntheticHands(SynthesisConfig(backgrounds=args.backgrounds), seed=1, device=args.device)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=320, help="px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backgrounds", help="folder of photographs (default: drawn ones)")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{args.device}, {os.cpu_count()} cores, load before {load:.1f}, torch {torch.__version__}\n")
    if args.device == "cpu":
        together(args)
    by_part(args)


if __name__ == "__main__":
    main()
