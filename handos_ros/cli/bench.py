"""Measure how fast a network runs on this machine, stage by stage, for several numbers of hands.

Hands are forced by boxes, so the picture does not matter. Where torch is installed, parameters and
floating-point operations of each part are counted too.

  handos bench
  handos bench --model handos --random --device cuda --hands 0,1,10 --json bench.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handos_ros.cli import common, values
from handos_ros.errors import ModelError
from handos_ros.extras import how_to_install
from handos_ros.files.atomic import whole

if TYPE_CHECKING:
    from handos_ros.hand_model.model import HandModel
    from handos_ros.inference.measure import Timing
    from handos_ros.inference.pipeline import Pipeline
    from handos_ros.network.config import HandosConfig
    from handos_ros.network.cost import Cost

PUBLISHED = (
    "published (HandOS supplement, section VII): (301 + 108 H) GFLOPs, 8 GB; "
    "RTX 3090: detector 500 ms, decoder 100 ms (1 hand) to 700 ms (10 hands)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `handos bench`."""
    common.add_model_arguments(parser)
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--random",
        action="store_true",
        help="random weights: nothing but the model's configuration is needed",
    )
    group.add_argument(
        "--hands", type=_numbers, default=(0, 1, 2, 5, 10), metavar="N,N", help="(default: 0,1,2,5,10)"
    )
    group.add_argument(
        "--size",
        type=values.size,
        default=(1280, 720),
        metavar="WxH",
        help="of the picture (default: 1280x720)",
    )
    group.add_argument("--repeats", type=values.positive, default=50, metavar="N", help="(default: 50)")
    group.add_argument(
        "--warm-up", type=values.count, default=5, metavar="N", help="pictures before (default: 5)"
    )
    group.add_argument(
        "--threads", type=values.positive, metavar="N", help="CPU threads (default: a good choice)"
    )
    group.add_argument("--json", metavar="FILE", help="also write all numbers there")
    parser.add_argument("--overwrite", action="store_true", help="replace the json file if it is there")


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    from handos_ros.files.atomic import refuse_existing
    from handos_ros.inference.measure import measure, peak_memory

    if args.json:
        refuse_existing(args.json, overwrite=args.overwrite)
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, network = _random(args, Path(scratch), notes) if args.random else (_installed(args), None)
        backend = pipeline.backend
        twice = pipeline.second_look and backend.second_look is not None
        if twice:
            notes.append(
                "hands that are small or large in the picture, as those here may be, are looked at twice "
                "(again); --no-second-look times them without"
            )
        timings = measure(pipeline, args.size, args.hands, repeats=args.repeats, warm_up=args.warm_up)
        memory = {"process_bytes": peak_memory(), **_device_memory(backend.device)}
        costs = _costs(args, pipeline, network, notes)
        pipeline.close()
    report: dict[str, Any] = {
        "model": pipeline.model_id,
        "backend": backend.name,
        "device": backend.device,
        "cpu": _cpu_name(),
        "picture": list(args.size),
        "long_side": backend.long_side,
        "second_look": twice,
        "milliseconds": {
            str(count): {stage: vars(timing) for stage, timing in stages.items()}
            for count, stages in timings.items()
        },
        "memory": memory,
        "parts": {name: vars(cost) for name, cost in costs.items()},
        "published": PUBLISHED,
        "notes": notes,
    }
    _print(report, timings, costs)
    if args.json:
        with whole(args.json, overwrite=args.overwrite) as partial:
            partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _installed(args: argparse.Namespace) -> Pipeline:
    return common.load_pipeline(args, threads=args.threads)


def _random(args: argparse.Namespace, scratch: Path, notes: list[str]) -> tuple[Pipeline, Any]:
    """A pipeline over a network of random weights, in the backend that is asked for."""
    import torch

    from handos_ros.inference.loading import DEFAULT_MODEL, set_long_side
    from handos_ros.inference.pipeline import Pipeline
    from handos_ros.inference.torch_backend import TorchBackend
    from handos_ros.network.config import load_config
    from handos_ros.network.handos import HandosNetwork

    config = load_config(args.model or DEFAULT_MODEL)
    hand_model = _hand_model(args, config, notes)
    torch.manual_seed(0)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    network = HandosNetwork(config, hand_model, pretrained=False).eval()
    notes.append("random weights")
    model_id = f"{config.name} (random)"
    if args.backend == "onnxruntime":
        from handos_ros.inference.onnx import OnnxBackend
        from handos_ros.network.export import export_onnx

        # As weights from a file are, so that the graphs are as small.
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.copy_(tensor.half().float())
        print("exporting; this takes some minutes", flush=True)
        export_onnx(network, scratch, model_id=model_id)
        device = "cuda" if args.device == "cuda" else "cpu"
        backend: Any = OnnxBackend(scratch, device=device, threads=args.threads)
    else:
        device = args.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        backend = TorchBackend(network, device=device)
    set_long_side(backend, args.long_side)
    pipeline = Pipeline(backend, hand_model, model_id=model_id)
    pipeline.second_look = not args.no_second_look
    return pipeline, network


def _hand_model(args: argparse.Namespace, config: HandosConfig, notes: list[str]) -> HandModel:
    from handos_ros.hand_model.model import load_hand_model

    if args.hand_model is not None:
        return load_hand_model(args.hand_model)
    if config.hand_model != "mano":
        return load_hand_model(config.hand_model)
    hand_model = load_hand_model()
    notes.append(
        f"the mesh is that of {hand_model.name}, with {hand_model.num_vertices} vertices, for want of MANO's "
        "778: give your own MANO file with --hand-model"
    )
    return hand_model


def _costs(args: argparse.Namespace, pipeline: Pipeline, network: Any, notes: list[str]) -> dict[str, Cost]:
    """Parameters and operations of each part; empty, with a note, where they cannot be counted."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        notes.append(f"parameters and FLOPs are counted where torch is installed: {how_to_install('torch')}")
        return {}
    from handos_ros.inference.letterbox import Letterbox
    from handos_ros.network.config import load_config
    from handos_ros.network.cost import costs
    from handos_ros.network.handos import HandosNetwork

    backend = pipeline.backend
    if network is None:
        network = getattr(backend, "network", None)
    if network is None:
        # A graph does not say what it was made from; the configuration of its name does.
        try:
            config = load_config(pipeline.model_id)
        except ModelError:
            notes.append(f"no FLOPs: {pipeline.model_id!r} is no configuration that comes with the package")
            return {}
        network = HandosNetwork(config, pipeline.hand_model, pretrained=False).eval()
    width, height = args.size
    letterbox = Letterbox.fit(width, height, backend.long_side, backend.stride)
    return costs(network, letterbox.net_height, letterbox.net_width)


def _device_memory(device: str) -> dict[str, int]:
    if not device.startswith("cuda") or find_spec("torch") is None:
        return {}
    import torch

    return {"device_bytes": torch.cuda.max_memory_allocated()}


def _print(report: dict[str, Any], timings: dict[int, dict[str, Timing]], costs: dict[str, Cost]) -> None:
    width, height = report["picture"]
    print(f"{report['model']}, {report['backend']} on {report['device']} ({report['cpu']}), ", end="")
    print(f"picture {width}x{height}, long side {report['long_side']}")
    print("\nmilliseconds, median (95 %):\n")
    stages = list(next(iter(timings.values())))
    _table(
        ["hands", *stages],
        [[str(n), *(f"{t.median:.1f} ({t.p95:.1f})" for t in row.values())] for n, row in timings.items()],
    )
    if costs:
        print("\nH hands:\n")
        rows = [
            [name, f"{c.parameters / 1e6:.2f}", _flops(c.flops, c.flops_per_hand)]
            for name, c in costs.items()
        ]
        total = [
            sum(getattr(c, key) for c in costs.values()) for key in ("parameters", "flops", "flops_per_hand")
        ]
        rows.append(["whole", f"{total[0] / 1e6:.2f}", _flops(*total[1:])])
        _table(["part", "parameters, M", "GFLOPs"], rows)
    print(f"\npeak memory: process {report['memory']['process_bytes'] / 1e6:.0f} MB", end="")
    if "device_bytes" in report["memory"]:
        print(f", device {report['memory']['device_bytes'] / 1e6:.0f} MB", end="")
    print(f"\n{PUBLISHED}")
    for note in report["notes"]:
        print(f"note: {note}")


def _flops(fixed: float, per_hand: float) -> str:
    return f"{fixed / 1e9:.2f}" + (f" + {per_hand / 1e9:.2f} H" if per_hand else "")


def _table(head: list[str], rows: list[list[str]]) -> None:
    """A table in Markdown, its columns aligned."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1,2") from None
    if min(numbers) < 0 or max(numbers) > 500:
        raise argparse.ArgumentTypeError("numbers of hands are from 0 to 500")
    return numbers


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
