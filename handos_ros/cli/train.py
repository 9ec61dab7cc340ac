"""Train a network: detector, 2D model, full model, as a YAML file says. Goes on where it stopped.

On several GPUs: torchrun --nproc-per-node N -m handos_ros.cli.main train CONFIG -o DIR
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from handos_ros.cli import values
from handos_ros.cli.common import progress, refuse_useless
from handos_ros.extras import how_to_install

if TYPE_CHECKING:
    from handos_ros.learning.training.config import TrainingConfig

_WITH_PACK = ("config", "pack", "megabytes", "initial", "quiet", "parser")
"""All others are about training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `handos train`."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="YAML file of the run, or the name of a recipe that comes with the package, such as handos_lite "
        "(see docs/training.md)",
    )
    results = parser.add_mutually_exclusive_group()
    results.add_argument("-o", "--output", metavar="DIR", help="checkpoints, metrics and weights go there")
    results.add_argument(
        "--pack",
        metavar="DIR",
        help="do not train: write the run with small copies of its pictures, for a machine without the data",
    )
    parser.add_argument(
        "--megabytes",
        type=values.amount,
        metavar="MB",
        help="with --pack: all of it takes at most so much (default: 30)",
    )
    parser.add_argument(
        "--minutes",
        type=values.amount,
        metavar="M",
        help="stop after so long, with a checkpoint (default: never)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train (default: a GPU if there is one)",
    )
    parser.add_argument(
        "--workers",
        type=values.count,
        metavar="N",
        help="processes that make batches (default: by the machine)",
    )
    parser.add_argument(
        "--checkpoint-every", type=values.positive, default=500, metavar="STEPS", help="(default: 500)"
    )
    parser.add_argument(
        "--initial",
        metavar="FILE",
        help="begin with these weights, of the same network (`initial` in CONFIG)",
    )
    parser.add_argument("--hand-model", metavar="FILE", help="your own MANO file, where the network needs it")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check every source, take one step of every stage, then end; writes nothing, needs no -o",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="have torch compile what learns slowly: some minutes at first, then faster steps; needs a C++ "
        "compiler",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="what the network computes in; its losses are always float32 (default: bfloat16 on a GPU; it "
        "pays as well on CPUs that have instructions for it, those with avx512_bf16 in /proc/cpuinfo)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Train; 0 also when `--minutes` ended it, since the next call goes on."""
    _check_words(args)
    from handos_ros.errors import HandosError, ModelError

    try:
        import torch
        import torch.utils.tensorboard  # which the log needs, when hours may have gone into the pictures

        from handos_ros.learning.training.loop import Run, check, train
        from handos_ros.learning.training.monitor import monitor_from
    except ModuleNotFoundError as error:
        raise HandosError(f"training needs {error.name}: {how_to_install('train')}") from None
    from handos_ros.hand_model.model import load_hand_model
    from handos_ros.learning.training.config import load_training_config
    from handos_ros.network.config import load_config

    config = load_training_config(args.config)
    if args.initial:
        config = replace(config, initial=args.initial)
    wanted = load_config(config.network).hand_model
    if args.pack:
        _pack(config, args, "" if wanted != "mano" else " --hand-model MANO_RIGHT.pkl")
        return 0
    if wanted == "mano" and not args.hand_model:
        raise ModelError(f"{config.network} predicts MANO's mesh: give your own MANO file with --hand-model")
    hand_model = load_hand_model(args.hand_model or wanted)
    if wanted == "mano":
        config = _with_mano(config, args.hand_model)
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ModelError("torch finds no GPU on this machine: train with --device cpu, or look at nvidia-smi")
    if args.compile and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise HandosError("--compile finds no C++ compiler: sudo apt install g++, or leave it out")
    workers = args.workers
    if workers is None:
        # The processes of torchrun on one machine share its cores.
        cores = (os.cpu_count() or 2) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = max(1, cores - (device != "cpu"))
    monitor = monitor_from(config.monitor, hand_model)
    bounds = Run(
        Path(args.output) if args.output else None,
        minutes=args.minutes,
        device=device,
        workers=workers,
        checkpoint_every=args.checkpoint_every,
        evaluate=monitor,
        evaluate_every=config.monitor.every if config.monitor else 1000,
        progress=not args.quiet,
        compiled=args.compile,
        half={"auto": None, "float32": False, "bfloat16": True}[args.precision],
    )
    if args.dry_run:
        for line in check(config, hand_model, bounds):
            if int(os.environ.get("RANK", "0")) == 0:
                print(line, flush=True)
        return 0
    finished = train(config, hand_model, bounds)
    if int(os.environ.get("RANK", "0")) == 0:
        state = "finished" if finished else "stopped; the same command goes on from its checkpoint"
        print(f"{state}: {Path(args.output) / 'weights.safetensors'}")
    return 0


def _check_words(args: argparse.Namespace) -> None:
    """End the program where an option would be of no use, or one is missing."""
    if not (args.output or args.pack or args.dry_run):
        args.parser.error("one of the arguments -o/--output --pack --dry-run is required")
    if args.megabytes is not None and not args.pack:
        args.parser.error("argument --megabytes: only with --pack")
    if args.pack:
        others = [name for name in vars(args) if name not in _WITH_PACK]
        refuse_useless(args, dict.fromkeys(others, "not with --pack, which does not train"))


def _pack(config: TrainingConfig, args: argparse.Namespace, words: str) -> None:
    """Write the folder and say what to do with it; `words` are what the network needs there besides."""
    from handos_ros.learning.training.packing import MEGABYTE, Pack

    pack = Pack(config)
    with progress(pack.pictures, "picture", quiet=args.quiet) as bar:
        packed = pack.write(args.pack, megabytes=args.megabytes or 30, advance=bar.update)
    print(f"{args.pack}: {packed.size / MEGABYTE:.1f} MB, {packed.pictures} pictures")
    for album in pack.albums:
        side = round(album.long_side * packed.rung.factor)
        print(f"  {album.name}: {len(album.files)}, at most {side} px, JPEG quality {packed.rung.quality}")
    run = Path(args.pack) / "run.yaml"
    print(f"on the other machine: handos train {run} -o RUN{words} --minutes 9")


def _with_mano(config: TrainingConfig, path: str) -> TrainingConfig:
    """Data sets that are labelled by MANO's poses make their meshes with the network's own MANO file.

    What will lack a mesh is said here, since workers, which open the data sets, are silent.
    """
    from handos_ros.learning.datasets import POSED_BY_MANO
    from handos_ros.learning.datasets.mano_meshes import ManoMeshes

    sources = []
    for source in config.sources:
        if source.kind in POSED_BY_MANO:
            source = replace(source, settings={"mano": str(Path(path).resolve()), **source.settings})
            ManoMeshes(source.settings["mano"], POSED_BY_MANO[source.kind])
        sources.append(source)
    return replace(config, sources=tuple(sources))
