"""Render hands into scenes: pictures, COCO keypoints with 3D joints, meshes and a contact sheet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handos_ros.cli import values
from handos_ros.cli.common import progress

if TYPE_CHECKING:
    from handos_ros.learning.sample import Sample
    from handos_ros.learning.synthesis.generator import SyntheticHands

_AT_ONCE = 16
_SEED, _COUNT = 0, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder to make")
    parser.add_argument("--count", type=values.positive, metavar="N", help=f"pictures (default: {_COUNT})")
    parser.add_argument("--seed", type=int, metavar="S", help=f"same seed, same pictures (default: {_SEED})")
    parser.add_argument(
        "--test-set", action="store_true", help="render the fixed test set instead (its own seed and count)"
    )
    parser.add_argument(
        "--size",
        type=values.size,
        metavar="WxH",
        help="of all pictures (default: 320x320, 256x384 and 384x256 in turn)",
    )
    parser.add_argument(
        "--backgrounds", metavar="DIR", help="photographs without hands (default: drawn backgrounds)"
    )
    parser.add_argument("--hand-model", default="anny", metavar="NAME|FILE", help="(default: anny)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Render and write; the folder appears when it is whole."""
    for name in ("seed", "count"):
        if args.test_set and getattr(args, name) is not None:
            args.parser.error(f"argument --{name}: not with --test-set, which has its own")
    from handos_ros.errors import DataError
    from handos_ros.files.atomic import refuse_existing, whole

    refuse_existing(args.output, overwrite=args.overwrite)
    if (
        args.output.is_dir()
        and any(args.output.iterdir())
        and not (args.output / "annotations.json").is_file()
    ):
        raise DataError(f"{args.output}: holds something else than rendered hands, and is not replaced")
    sizes = None if args.size is None else (args.size[::-1],)

    from handos_ros.hand_model.model import load_hand_model
    from handos_ros.learning.synthesis import testset
    from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands
    from handos_ros.learning.synthesis.writer import write_samples

    seed = _SEED if args.seed is None else args.seed
    count = args.count or _COUNT
    if args.test_set:
        seed, count = testset.SEED, testset.COUNT
    config = SynthesisConfig(backgrounds=args.backgrounds)
    if sizes is not None:
        config = SynthesisConfig(sizes=sizes, backgrounds=args.backgrounds)
    hands = SyntheticHands(
        config, seed, hand_model=load_hand_model(args.hand_model), device=_device(args.device)
    )
    description = f"rendered hands, seed {seed}, hand model {hands.hand_model.name}"
    with whole(args.output, overwrite=args.overwrite) as folder, progress(count, "picture") as bar:
        folder.mkdir()
        pictures, labelled = write_samples(_samples(hands, count), folder, description, bar.update)
    print(f"{pictures} pictures with {labelled} hands in {args.output}; look at {args.output / 'sheet.jpg'}")
    return 0


def _samples(hands: SyntheticHands, count: int) -> Iterator[Sample]:
    """Pictures 0 to count - 1 in order, rendered several at a time."""
    from handos_ros.learning.synthesis.generator import to_samples

    for start in range(0, count, _AT_ONCE):
        indices = range(start, min(count, start + _AT_ONCE))
        by_size: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            by_size.setdefault(hands.size_of(index), []).append(index)
        done: dict[int, Sample] = {}
        for size, some in by_size.items():
            done.update(zip(some, to_samples(hands.render(some, size)), strict=True))
        yield from (done[index] for index in indices)


def _device(name: str) -> str:
    import torch

    from handos_ros.errors import ModelError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return name
