"""Score a network, or any system's predictions, on labelled photographs or a benchmark.

Labels are a COCO keypoint file: 21 joints a hand, with `handedness` (left, right, null) beside COCO's
own fields. Printed are detection recall and precision at IoU 0.5, average precision, PCK by the longer
side of the box with missed hands counted as wrong, side accuracy and, where the file has 3D joints,
PA-MPJPE with and without mirroring.

With --benchmark, a public benchmark by its own protocol, beside the published rows; `hint` is all of its
three parts.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from handos_ros.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from handos_ros.inference.joints import JointPipeline
    from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
    from handos_ros.learning.evaluation.predictions import Prediction

BENCHMARKS = ("freihand", "ho3d_v3", "dexycb", "hint_newdays", "hint_epick", "hint_ego4d")
_HINT = tuple(name for name in BENCHMARKS if name.startswith("hint_"))
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `handos eval`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--annotations", metavar="FILE", help="COCO keypoint file with the labels")
    what.add_argument("--benchmark", choices=(*BENCHMARKS, "hint"), help="a public benchmark, in --data")
    parser.add_argument("--data", metavar="DIR", help="the benchmark's folder, as unpacked")
    parser.add_argument(
        "--true-boxes",
        action="store_true",
        help="give the network the benchmark's boxes, as crop-based systems are scored; default: detect",
    )
    parser.add_argument(
        "--only-2d",
        action="store_true",
        help="the network is a 2D model, as the first training of the published method leaves it (HInt)",
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

    _check_words(args)
    for output in (args.json, args.submission):
        if output:
            refuse_existing(output, overwrite=args.overwrite)
    return _benchmark(args) if args.benchmark else _photographs(args)


def _check_words(args: argparse.Namespace) -> None:
    """Refuse what would do nothing: scores of something else than was asked for would be taken for it."""
    from handos_ros.errors import DataError

    words = {
        "--benchmark": ("only_2d", "true_boxes", "submission", "data"),
        "--annotations": ("images", "negatives", "camera", "rectified"),
    }
    what = "--annotations" if args.benchmark else "--benchmark"
    for name in words[what]:
        if getattr(args, name):
            raise DataError(f"--{name.replace('_', '-')} goes with {what} only")


def _benchmark(args: argparse.Namespace) -> int:
    """One of `BENCHMARKS`, or all parts of HInt."""
    from handos_ros.errors import DataError
    from handos_ros.learning.evaluation import benchmark_report as report
    from handos_ros.learning.evaluation.benchmarks import write_submission

    if not args.data:
        raise DataError(f"--benchmark {args.benchmark} needs --data, the folder that holds it")
    if args.submission and (args.predictions or args.benchmark.startswith("hint")):
        raise DataError("--submission is written of a network's results, and HInt takes none")
    if args.only_2d and args.no_second_look:
        raise DataError("--no-second-look does nothing with --only-2d, which sees every hand once")
    if args.only_2d and (args.predictions or not args.benchmark.startswith("hint")):
        raise DataError("--only-2d is for a network on HInt: the other benchmarks are scored in 3D")
    names = _HINT if args.benchmark == "hint" else (args.benchmark,)
    folder, datasets = Path(args.data), {}
    if args.predictions:
        label = Path(args.predictions).name
    else:
        # Before the network, which takes longer to load.
        datasets = {name: report.BENCHMARKS[name].open(folder, args.hand_model) for name in names}
        pipeline = _load_2d(args) if args.only_2d else common.load_pipeline(args)
        label = f"{pipeline.model_id}, {'true' if args.true_boxes else 'detected'} boxes"

    def watch(outcomes, total):  # type: ignore[no-untyped-def]
        with common.progress(total, "picture") as bar:
            for outcome in outcomes:
                yield outcome
                bar.update()

    results: dict[str, dict[str, object]] = {}
    for name in names:
        if args.predictions:
            outcome = report.read_predictions(name, folder, args.predictions, args.hand_model)
        else:
            outcome = report.run_network(
                name, datasets[name], pipeline, true_boxes=args.true_boxes, watch=watch
            )
        scores = report.BENCHMARKS[name].score(outcome)
        if not (name.startswith("hint") or outcome.has_joints_3d.all()):
            # HO-3D published them after its challenge.
            common.warn(
                f"{args.data}: {name} lacks 3D labels here, so nothing is scored in 3D (HO-3D's are in "
                "evaluation_xyz.json); --submission writes the file that its makers score"
            )
        if len(names) > 1:
            print(f"{name}:")
        print(report.table(name, scores, label))
        results[name] = {
            "benchmark": name, "system": label, "hands": len(outcome.numbers), "scores": scores,
        }  # fmt: skip
        if args.submission:
            write_submission(args.submission, name, outcome, overwrite=args.overwrite)
    if not args.predictions:
        pipeline.close()
    if args.json:
        _write(
            args, results[args.benchmark] if args.benchmark in results else {"parts": list(results.values())}
        )
    return 0


def _load_2d(args: argparse.Namespace) -> JointPipeline:
    from handos_ros.inference.joints import JointPipeline

    return JointPipeline.load(**common.model_options(args))


def _photographs(args: argparse.Namespace) -> int:
    """A COCO keypoint file."""
    from handos_ros.errors import DataError
    from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
    from handos_ros.learning.evaluation.predictions import load_predictions
    from handos_ros.learning.evaluation.real_pictures import evaluate

    if args.predictions and args.negatives:
        raise DataError("--negatives needs a network to look at them: leave out --predictions")
    dataset = CocoKeypoints(args.annotations, args.images)
    if dataset.left_out:
        common.warn(f"{args.annotations}: {dataset.left_out} annotations are of no hands and are left out")
    names = [Path(entry.file_name).name for entry in dataset.entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{args.annotations}: two pictures are called {twice}; predictions go by that name")
    failed, negatives = 0, None
    about: dict[str, object] = {}
    if args.predictions:
        predictions = load_predictions(args.predictions)
        for entry in dataset.entries:
            said = predictions.get(Path(entry.file_name).name)
            if said is not None and said.size is not None:
                dataset.check_size(entry, *said.size)
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
    given = common.load_camera(args)
    cameras = [given or entry.labels.camera(entry.width, entry.height) for entry in dataset.entries]
    cameras += [given] * len(empty)
    pipeline.min_score = min(AP_MIN_SCORE, args.min_score)
    results: list[Prediction | None] = []
    failed, started = 0, perf_counter()
    readers: list[Callable[[], NDArray[np.uint8]]]
    readers = [partial(dataset.picture, entry) for entry in dataset.entries]
    readers += [partial(read_picture, path) for path in empty]
    with common.progress(len(readers), "picture") as bar:
        for result in predict(pipeline, readers, cameras):
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
