"""Write a network for machines without torch: detector.onnx and decoder.onnx.

Both graphs are run beside the network that they come from before they get their names. They take pictures of
any size and any number of hands; onnxruntime is all that a machine needs to run them.

  handos export runs/lite/weights.safetensors -o my_weights
  handos image holiday/ -o hands --weights my_weights
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from handos_ros.errors import ModelError
from handos_ros.files.atomic import naming, refuse_existing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `handos export`."""
    parser.add_argument(
        "weights", metavar="WEIGHTS.safetensors", help="weights as `handos train` writes them"
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for both graphs")
    parser.add_argument(
        "--hand-model",
        metavar="PATH",
        help="the user's own MANO file, for networks that give MANO's mesh (default: the network's own mesh)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace graphs that are there already")


def run(args: argparse.Namespace) -> int:
    """Export, compare, then give both files their names."""
    weights, output = Path(args.weights), Path(args.output)
    names = ("detector.onnx", "decoder.onnx")
    for name in names:
        refuse_existing(output / name, overwrite=args.overwrite)
    if weights.suffix != ".safetensors":
        raise ModelError(f"{weights}: `handos export` takes a .safetensors file")
    from handos_ros.hand_model.model import load_hand_model
    from handos_ros.inference.agreement import check_agreement
    from handos_ros.inference.loading import check_learned, read_model_id
    from handos_ros.network.export import export_onnx
    from handos_ros.network.weights import load_network

    check_learned(weights)
    hand_model = None if args.hand_model is None else load_hand_model(args.hand_model)
    network, _ = load_network(weights, hand_model=hand_model)
    with naming(output):
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export.", suffix=".part", dir=output) as partial:
            print("exporting; this takes some minutes", flush=True)
            export_onnx(network, partial, model_id=read_model_id(weights))
            check_agreement(network, partial)
            for name in names:
                os.replace(Path(partial) / name, output / name)
    sizes = {path: path.stat().st_size for path in (weights, *(output / name for name in names))}
    for path, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {path}")
    print("the graphs agree with the network")
    return 0
