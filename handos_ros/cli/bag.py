"""Find the hands in ROS 2 bags (mcap or sqlite3), without ROS.

  handos bag IN -o OUT                  IN's messages with /handos/<camera>/hands, markers and topology
  handos bag IN... -o FOLDER --jobs 4   many bags, four at a time, each to FOLDER/<name>
  handos bag IN... --table hands.csv    one row for each hand and picture, for pandas
  handos bag RECORDED --table hands.parquet --recorded     hands that the node found and a bag recorded

Hands and markers carry the time stamps of their pictures; RViz, Foxglove and PlotJuggler show them at once.
Ctrl-C leaves OUT.partial, a readable bag; the same command with --resume goes on from there.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handos_ros.cli import values
from handos_ros.cli.common import (
    Interruption,
    add_model_arguments,
    complain,
    load_camera,
    load_pipeline,
    progress,
    refuse_useless,
    warn,
)
from handos_ros.errors import CameraError, DataError, HandosError

if TYPE_CHECKING:
    from handos_ros.files.bags import BagOptions
    from handos_ros.files.bags_parallel import BagTask, Outcome
    from handos_ros.hands import Camera

_WITH_RECORDED = ("bags", "output", "table", "recorded", "overwrite", "resume")
"""All others are about looking at pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handos bag`."""
    parser.add_argument(
        "bags", nargs="+", type=Path, metavar="IN", help="a bag: its folder, or a .mcap or .db3 file"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="the new bag's folder; for several IN, the folder of theirs",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="a .csv or .parquet with one row for each hand and picture (columns: docs/table.md)",
    )
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="make the table of the hands that are in IN already, and look at no picture",
    )
    group = parser.add_argument_group("what goes in and out")
    group.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="TOPIC",
        help="topic with pictures, raw or compressed; repeat it for several cameras "
        "(default: the only one in the bag)",
    )
    group.add_argument(
        "--keep",
        action="append",
        metavar="all|none|TOPIC",
        help="which of IN's topics to copy; repeat it for several (default: all)",
    )
    group.add_argument("--storage", choices=("mcap", "sqlite3"), help="of OUT (default: as IN)")
    group.add_argument(
        "--compression",
        choices=("none", "file", "message", "storage"),
        help="of OUT, with zstd; `storage` is mcap's own (default: as IN)",
    )
    group.add_argument(
        "--split-size",
        type=values.positive,
        default=2048,
        metavar="MB",
        help="begin another file of OUT after so many megabytes (default: 2048)",
    )
    group.add_argument(
        "--no-mesh",
        action="store_true",
        help="leave the mesh, most of the output's size, out of messages and markers",
    )
    group.add_argument(
        "--smoothing",
        type=values.fraction,
        default=0.5,
        metavar="0..1",
        help="how strongly to smooth over time, 0 for not at all; the side always is (default: 0.5)",
    )
    again = group.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="replace the output where it is there")
    again.add_argument(
        "--resume", action="store_true", help="go on where an earlier run stopped; skip what is done"
    )
    group = parser.add_argument_group("many bags")
    group.add_argument(
        "--jobs", type=values.positive, default=1, metavar="N", help="bags at a time (default: 1)"
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="spread the bags over a Ray cluster: auto, HOST:PORT, or local "
        "(bags and outputs on a file system that all of its machines share)",
    )
    group.add_argument(
        "--threads",
        type=values.positive,
        metavar="N",
        help="CPU threads for each bag (default: all, shared out)",
    )
    add_model_arguments(parser, tracking=True)
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Do it. Returns the exit status: 0 all done, 1 something was wrong, 130 stopped."""
    _check_words(args)
    del args.parser  # the rest goes to other processes
    from handos_ros.files.bags_parallel import BagTask
    from handos_ros.files.bags_tabled import check_own_table
    from handos_ros.files.bags_writing import partial_path
    from handos_ros.files.tables import check_table

    if args.output is None and args.table is None:
        raise DataError("nothing to do: say where the bag goes with -o OUT, or the table with --table FILE")
    if args.table is not None:
        check_table(args.table, overwrite=args.overwrite or args.resume)
    names = _names(args.bags)
    if args.table is not None and args.resume:
        check_own_table(args.table, names)
    if args.recorded:
        if args.output is not None or args.table is None:
            raise DataError("--recorded takes the hands that are in the bag: it needs --table, and no -o")
        _check_inputs_stay(args.bags, [args.table])
        return 0 if _table(args, list(zip(names, args.bags, strict=True)), args.table) else 1

    # Without -o the hands still go into bags, which make the table and are thrown away after that.
    scratch = None if args.output is not None else args.table.with_name(args.table.name + ".partial")
    folder = args.output if scratch is None else scratch
    alone = len(args.bags) == 1 and scratch is None
    outputs = [folder] if alone else [folder / name for name in names]
    replaced = [place for output in outputs for place in (output, partial_path(output))]
    _check_inputs_stay(args.bags, replaced + [path for path in (scratch, args.table) if path is not None])
    tasks = [BagTask(bag, output) for bag, output in zip(args.bags, outputs, strict=True)]
    if scratch is not None and os.path.lexists(scratch) and not (args.resume or args.overwrite):
        raise DataError(
            f"{scratch}: is left of an earlier run; go on with it with --resume, "
            "or begin anew with --overwrite"
        )
    with Interruption() as stopped:
        done, ok = _process(args, tasks, _options(args, table_only=scratch is not None), stopped)
    interrupted = stopped.asked
    whole = not interrupted and len(done) == len(tasks)
    if args.table is not None and done:
        table = args.table
        if not whole:
            table = table.with_name(f"{table.stem}.partial{table.suffix}")
        written = _table(args, [(names[number], path) for number, path in sorted(done.items())], table)
        ok &= written
        # What could not be read will be no better the next time.
        if scratch is not None and whole and written:
            shutil.rmtree(scratch, ignore_errors=True)
    if interrupted:
        warn("stopped; the same command with --resume goes on")
        return 130
    return 0 if ok else 1


def _check_words(args: argparse.Namespace) -> None:
    """End the program where an option would be of no use."""
    useless: dict[str, str] = {}
    if args.table is not None and args.output is None:
        useless = dict.fromkeys(("keep", "storage", "compression"), "only with -o: a table holds hands alone")
    if args.ray:
        useless["jobs"] = "not with --ray, which knows how many bags there is room for"
    if args.recorded:
        others = [name for name in vars(args) if name not in (*_WITH_RECORDED, "parser")]
        useless = dict.fromkeys(others, "not with --recorded, which looks at no picture")
    refuse_useless(args, useless)


def _process(
    args: argparse.Namespace, tasks: list[BagTask], options: BagOptions, stopped: Interruption
) -> tuple[dict[int, Path], bool]:
    """Number -> bag as it is now of each task that gave one; whether all went well."""
    done: dict[int, Path] = {}
    ok = True
    with progress(_total(args, tasks), "picture") as bar:
        for outcome in _outcomes(args, tasks, options, stopped, bar.update):
            ok &= _report(tasks[outcome.number], outcome, bar)
            if outcome.report is not None:
                done[outcome.number] = outcome.report.output
    return done, ok


def _outcomes(
    args: argparse.Namespace,
    tasks: list[BagTask],
    options: BagOptions,
    stopped: Interruption,
    on_pictures: Callable[[int], Any],
) -> Iterator[Outcome]:
    from handos_ros.files.bags_parallel import run_here, run_processes, run_ray

    load = partial(load_pipeline, args)
    common: dict[str, Any] = {
        "threads": args.threads,
        "stop": lambda: stopped.asked,
        "on_pictures": on_pictures,
    }
    if args.ray:
        return run_ray(tasks, load, options, address=args.ray, gpu=args.device == "cuda", **common)
    if args.jobs > 1 and len(tasks) > 1:
        return run_processes(tasks, load, options, jobs=args.jobs, **common)
    return run_here(tasks, load, options, **common)


def _report(task: BagTask, outcome: Outcome, bar: Any) -> bool:
    """Say how one bag went; whether well."""
    if outcome.report is None:
        complain(outcome.error)
        return False
    report = outcome.report
    for note in report.notes:
        warn(f"{task.source}: {note}")
    for error in report.errors:
        complain(f"{task.source}: {error}")
    if report.done_before:
        line = f"{task.source}: was done before -> {report.output}"
    else:
        rate = report.pictures / report.seconds if report.seconds else 0.0
        bad = f", {report.bad_pictures} unreadable" if report.bad_pictures else ""
        line = (
            f"{task.source}: {report.pictures} pictures{bad}, {report.hands} hands, {report.seconds:.1f} s "
            f"({rate:.1f}/s; network {report.network_seconds:.1f} s) -> {report.output}"
        )
    bar.write(line)
    return not report.errors and not report.bad_pictures


def _table(args: argparse.Namespace, bags: list[tuple[str, Path]], table: Path) -> bool:
    """Write the table of what is there; whether that was all."""
    from handos_ros.files.tables import write_table

    damage: list[str] = []
    try:
        overwrite = args.overwrite or args.resume or table != args.table
        rows = write_table(bags, table, overwrite=overwrite, damage=damage)
    except HandosError as error:
        complain(error)
        return False
    for line in damage:
        complain(line)
    print(f"{rows} hands -> {table}")
    return not damage


def _options(args: argparse.Namespace, *, table_only: bool) -> BagOptions:
    from handos_ros.files.bags import BagOptions
    from handos_ros.files.bags_parallel import cpu_count

    keep: str | tuple[str, ...] = tuple(args.keep or ("all",))
    if len(keep) == 1 and keep[0] in ("all", "none"):
        keep = keep[0]
    elif "all" in keep or "none" in keep:
        raise DataError("--keep takes all, none, or topics; not both")
    options = BagOptions(
        topics=tuple(args.topic),
        keep=keep,
        storage=args.storage,
        compression=args.compression,
        part_bytes=args.split_size << 20,
        camera=load_camera(args, rectified=False),
        rectified_camera=_rectified(args),
        rectified=args.rectified,
        mesh=not args.no_mesh,
        smoothing=args.smoothing,
        min_score=args.min_score,
        overwrite=args.overwrite,
        resume=args.resume,
        decoders=max(1, min(4, args.threads or cpu_count())),
    )
    if table_only:
        return replace(options, keep="none", storage="mcap", compression="none", mesh=False)
    return options


def _rectified(args: argparse.Namespace) -> Camera | None:
    """What `--camera` says of rectified pictures; None where it says nothing of them."""
    try:
        return load_camera(args, rectified=True)
    except CameraError:
        return None


def _check_inputs_stay(bags: list[Path], replaced: list[Path]) -> None:
    """Refuse what would remove an input: a folder that is replaced goes with all that lies in it."""
    for path in replaced:
        place = _real(path)
        for bag in bags:
            if any(place in (spot, *spot.parents) for spot in _places(bag)):
                raise DataError(
                    f"{bag}: the output must be another bag than the input, and not hold it: "
                    f"{path} would be replaced; choose another output"
                )


def _places(bag: Path) -> list[Path]:
    """Where a bag and its files lie, and the links to them."""
    places = [_real(bag.parent) / bag.name, _real(bag)]
    try:
        return places + [_real(entry) for entry in bag.iterdir() if entry.is_symlink()]
    except OSError:
        return places  # a file, or a folder that will be named when its turn comes


def _real(path: Path) -> Path:
    """As `Path.resolve`, which raises where links go round in a circle."""
    return Path(os.path.realpath(path))


def _names(bags: list[Path]) -> list[str]:
    """A name for each bag, after its file; the outputs of several are called by it."""
    names = []
    for bag in bags:
        name = _real(bag).name
        for suffix in (".zstd", ".mcap", ".db3"):
            name = name.removesuffix(suffix)
        if name in names:
            raise DataError(f"two bags are called {name}: give them in two runs, or rename one")
        names.append(name)
    return names


def _total(args: argparse.Namespace, tasks: list[BagTask]) -> int | None:
    """How many pictures there are to look at, where that is known and not much work to find out."""
    from handos_ros.files.bags_reading import BagReader
    from handos_ros.files.bags_topics import full_name, image_topics

    total = 0
    try:
        for task in tasks:
            if os.path.isfile(task.source):
                return None
            topics = BagReader(task.source).topics
            asked = [full_name(name, topics) for name in args.topic]
            chosen = [name for name in asked if name in topics] or image_topics(topics)
            if len(chosen) > 1 and not args.topic:
                return None
            total += sum(topics[name][1] or 0 for name in chosen)
    except HandosError:
        return None  # it will be named when its turn comes
    return total
