"""Score a network, or any system's predictions, on labelled photographs or a benchmark.

Labels are a COCO keypoint file: 21 joints a hand, with `handedness` (left, right, null) beside COCO's
own fields. Printed are detection recall and precision at IoU 0.5, average precision, PCK by the longer
side of the box with missed hands counted as wrong, side accuracy and, where the file has 3D joints,
PA-MPJPE with and without mirroring.

With --benchmark, a public benchmark by its own protocol, beside the published rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from handos_ros.cli import common

if TYPE_CHECKING:
    from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
    from handos_ros.learning.evaluation.predictions import Prediction

BENCHMARKS = ("freihand", "ho3d_v3", "dexycb", "hint_newdays", "hint_epick", "hint_ego4d")
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `handos eval`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--annotations", metavar="FILE", help="COCO keypoint file with the labels")
    what.add_argument("--benchmark", choices=BENCHMARKS, help="a public benchmark, in --data")
    parser.add_argument("--data", metavar="DIR", help="the benchmark's folder, as unpacked")
    parser.add_argument(
        "--true-boxes",
        action="store_true",
        help="give the network the benchmark's boxes, as crop-based systems are scored; default: detect",
    )
    parser.add_argument(
        "--submission", metavar="FILE", help="write the benchmark's official submission file there"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="folder of its pictures (default: images beside the file)"
    )
    parser.add_argument("--negatives", metavar="DIR", help="pictures without hands, to count false hands in")
    parser.add_argument(
        "--predictions",
        metavar="PATH",
        help="score these instead of running a network: json as `handos image` writes it, a file with one "
        "or many pictures or a folder of files; of a benchmark, its official submission file",
    )
    parser.add_argument("--json", metavar="FILE", help="write all scores there too")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the json; 1 if a picture could not be read."""
    from handos_ros.files.atomic import refuse_existing

    for output in (args.json, args.submission):
        if output:
            refuse_existing(output, overwrite=args.overwrite)
    return _benchmark(args) if args.benchmark else _photographs(args)


def _benchmark(args: argparse.Namespace) -> int:
    """One of `BENCHMARKS`."""
    from handos_ros.errors import DataError
    from handos_ros.learning.evaluation import benchmark_report as report
    from handos_ros.learning.evaluation.benchmarks import write_submission

    if not args.data:
        raise DataError(f"--benchmark {args.benchmark} needs --data, the folder that holds it")
    if args.submission and (args.predictions or args.benchmark.startswith("hint")):
        raise DataError("--submission is written of a network's results, and HInt takes none")
    if args.predictions:
        label = Path(args.predictions).name
        outcome = report.read_predictions(args.benchmark, args.data, args.predictions)
    else:
        dataset = report.BENCHMARKS[args.benchmark].open(Path(args.data))
        pipeline = common.load_pipeline(args)
        label = f"{pipeline.model_id}, {'true' if args.true_boxes else 'detected'} boxes"

        def watch(outcomes, total):  # type: ignore[no-untyped-def]
            with common.progress(total, "picture") as bar:
                for outcome in outcomes:
                    yield outcome
                    bar.update()

        outcome = report.run_network(
            args.benchmark, dataset, pipeline, true_boxes=args.true_boxes, watch=watch
        )
        pipeline.close()
    scores = report.BENCHMARKS[args.benchmark].score(outcome)
    print(report.table(args.benchmark, scores, label))
    if args.submission:
        write_submission(args.submission, args.benchmark, outcome, overwrite=args.overwrite)
    if args.json:
        about = {"benchmark": args.benchmark, "system": label, "hands": len(outcome.numbers)}
        _write(args, {**about, "scores": scores})
    return 0


def _photographs(args: argparse.Namespace) -> int:
    """A COCO keypoint file."""
    from handos_ros.errors import DataError
    from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
    from handos_ros.learning.evaluation.predictions import load_predictions
    from handos_ros.learning.evaluation.real_pictures import evaluate

    if args.predictions and args.negatives:
        raise DataError("--negatives needs a network to look at them: leave out --predictions")
    dataset = CocoKeypoints(args.annotations, args.images)
    names = [Path(entry.file_name).name for entry in dataset.entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{args.annotations}: two pictures are called {twice}; predictions go by that name")
    failed, negatives = 0, None
    about: dict[str, object] = {}
    if args.predictions:
        predictions = load_predictions(args.predictions)
        missing = len(set(names) - predictions.keys())
        if missing == len(names):
            raise DataError(f"{args.predictions}: none of its pictures is in {args.annotations}")
        if missing:
            common.warn(f"{missing} of {len(names)} pictures have no prediction and are left out")
        about = {"predictions": str(args.predictions)}
    else:
        predictions, negatives, failed, about = _run_network(args, dataset)
    report = evaluate(dataset.entries, predictions, min_score=args.min_score, negatives=negatives)
    print(report.table())
    if args.json:
        _write(args, {"annotations": str(args.annotations), **about, **report.as_json()})
    return 1 if failed else 0


def _run_network(
    args: argparse.Namespace, dataset: CocoKeypoints
) -> tuple[dict[str, Prediction], list[Prediction] | None, int, dict[str, object]]:
    """Predictions by file name, those on the negatives, how many pictures failed, and what ran."""
    from handos_ros.errors import DataError
    from handos_ros.learning.datasets.reading import read_picture
    from handos_ros.learning.evaluation.predictions import predict
    from handos_ros.learning.evaluation.real_pictures import AP_MIN_SCORE

    paths = [dataset.folder / entry.file_name for entry in dataset.entries]
    empty = _pictures_in(args.negatives) if args.negatives else []
    pipeline = common.load_pipeline(args)
    camera = common.load_camera(args)
    pipeline.min_score = min(AP_MIN_SCORE, args.min_score)
    results: list[Prediction | None] = []
    failed, started = 0, perf_counter()
    readers = [lambda path=path: read_picture(path) for path in paths + empty]
    with common.progress(len(readers), "picture") as bar:
        for result in predict(pipeline, readers, camera):
            if isinstance(result, DataError):
                common.complain(result)
                failed += 1
            results.append(None if isinstance(result, DataError) else result)
            bar.update()
    seconds = perf_counter() - started
    pipeline.close()
    labelled, on_empty = results[: len(paths)], results[len(paths) :]
    predictions = {path.name: r for path, r in zip(paths, labelled, strict=True) if r is not None}
    about: dict[str, object] = {
        "model": pipeline.model_id,
        "backend": pipeline.backend.name,
        "device": pipeline.backend.device,
        "pictures_per_second": round(len(readers) / seconds, 2) if seconds else None,
        "unreadable": failed,
    }
    print(f"{pipeline.model_id} on {pipeline.backend.device}: {len(readers)} pictures in {seconds:.1f} s")
    return predictions, [r for r in on_empty if r is not None] if args.negatives else None, failed, about


def _pictures_in(folder: str) -> list[Path]:
    from handos_ros.errors import DataError

    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder of pictures without hands")
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _PICTURES)
    if not paths:
        raise DataError(f"{folder}: no pictures in this folder")
    return paths


def _write(args: argparse.Namespace, content: dict[str, object]) -> None:
    import json

    from handos_ros.files.atomic import whole

    with whole(args.json, overwrite=args.overwrite) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
