"""One benchmark from its folder to a table: a network or a submission beside the published rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from handos_ros.errors import DataError
from handos_ros.inference.joints import JointPipeline
from handos_ros.learning.datasets.dexycb import DexYcb
from handos_ros.learning.datasets.freihand import FreiHand
from handos_ros.learning.datasets.hint import SUBSETS, HInt
from handos_ros.learning.datasets.ho3d import Ho3d
from handos_ros.learning.evaluation import benchmarks, published
from handos_ros.learning.evaluation.benchmarks import Outcome, Poses, SampleSource
from handos_ros.learning.evaluation.predictions import load_predictions

if TYPE_CHECKING:
    from handos_ros.inference.pipeline import Pipeline

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Benchmark:
    """What is particular to one benchmark.

    Attributes:
        open: from its folder and the user's own MANO file, which not all need, to its test pictures.
        score: from what was said and the labels to numbers.
        columns: those of the published table.
        rows: the published rows.
        single: whether its pictures show one hand, so that the surest one found counts.
        kinds: what a system has a row each for: how the names of its scores begin, and the row's name ends.
    """

    open: Callable[[Path, str | None], SampleSource]
    score: Callable[[Outcome], Scores]
    columns: tuple[str, ...]
    rows: tuple[published.Row, ...]
    single: bool = True
    kinds: tuple[tuple[str, str], ...] = (("", ""),)


def _posed(score: Callable[..., Scores]) -> Callable[[Outcome], Scores]:
    """Scores in 3D: of labels that are not there, none, since aligned to zeros everything is right."""

    def scores(outcome: Outcome) -> Scores:
        found = score(outcome.said, outcome.joints, outcome.vertices)
        if outcome.has_joints_3d.all():
            return found
        return {name: value if name == "found" else None for name, value in found.items()}

    return scores


def _hint(outcome: Outcome) -> Scores:
    o = outcome
    errors = o.errors_2d, o.errors_projected
    return benchmarks.hint_scores(*errors, o.boxes, o.weight, o.visibility, o.side_right)


BENCHMARKS: dict[str, Benchmark] = {
    "freihand": Benchmark(
        lambda folder, _: FreiHand(folder, "evaluation"),
        _posed(benchmarks.freihand_scores),
        published.MESH_COLUMNS,
        published.FREIHAND,
    ),
    "ho3d_v3": Benchmark(
        lambda folder, _: Ho3d(folder, "evaluation"),
        _posed(benchmarks.ho3d_scores),
        published.MESH_COLUMNS,
        published.HO3D_V3,
    ),
    "dexycb": Benchmark(
        lambda folder, mano: DexYcb(folder, "s0", "test", mano=mano),
        _posed(benchmarks.dexycb_scores),
        published.DEXYCB_COLUMNS,
        published.DEXYCB,
    ),
    **{
        f"hint_{subset}": Benchmark(
            lambda folder, _, subset=subset: HInt(folder, "test", subset),  # type: ignore[misc]
            _hint,
            published.HINT_COLUMNS,
            published.HINT[subset],
            single=False,
            kinds=(("", ", 2D"), ("projected_", ", projected")),
        )
        for subset in SUBSETS
    },
}
"""By name."""


def run_network(
    name: str,
    dataset: SampleSource,
    pipeline: Pipeline | JointPipeline,
    *,
    true_boxes: bool,
    watch: Callable[[Iterable[Outcome], int], Iterable[Outcome]] = lambda outcomes, total: outcomes,
) -> Outcome:
    """All of an opened benchmark through a network; `watch` may wrap the outcomes, for a bar.

    Raises:
        DataError: for a 2D model on a benchmark of 3D joints.
    """
    if isinstance(pipeline, JointPipeline):
        if not name.startswith("hint"):
            raise DataError(f"{name} is scored in 3D, which a 2D model does not give; hint is in 2D")
        outcomes = benchmarks.run_2d(pipeline, dataset, given_boxes=true_boxes)
    else:
        single = BENCHMARKS[name].single
        outcomes = benchmarks.run(pipeline, dataset, given_boxes=true_boxes, single=single)
    return benchmarks.gathered(list(watch(outcomes, len(dataset))))


def read_predictions(
    name: str, folder: str | Path, predictions: str | Path, mano: str | None = None
) -> Outcome:
    """A benchmark's labels, and what another system says: its official submission, or for HInt our json.

    Raises:
        DataError: naming what is missing or does not fit.
    """
    dataset = BENCHMARKS[name].open(Path(folder), mano)
    if isinstance(dataset, HInt):
        said = load_predictions(predictions)
        outcomes = []
        for index in range(len(dataset)):
            sample = dataset[index]
            picture = dataset.labels[index].with_suffix(".jpg").name
            if picture not in said:
                raise DataError(
                    f"{predictions}: nothing about {picture}; hands that were missed are an empty list"
                )
            outcomes.append(benchmarks.judged(sample, said[picture], index))
        return benchmarks.gathered(outcomes)
    outcome = benchmarks.gathered(list(benchmarks.labels(dataset)))
    poses = benchmarks.read_submission(predictions, name, len(dataset))
    at = outcome.numbers
    return replace(outcome, said=Poses(poses.joints[at], poses.vertices[at], poses.found[at]))


def table(name: str, scores: Scores, label: str) -> str:
    """The published rows and, last, these scores; then the scores that the published table lacks."""
    benchmark = BENCHMARKS[name]
    ours = []
    for kind, called in benchmark.kinds:
        values = [scores[kind + column] for column in benchmark.columns]
        if not kind or any(value is not None for value in values):
            ours.append((label + called, _cells(values)))
    rows = [("", benchmark.columns), *((n, _cells(values)) for n, values in benchmark.rows), *ours]
    first = max(len(n) for n, _ in rows)
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(benchmark.columns))]
    lines = [
        n.ljust(first) + "".join("  " + c.rjust(w) for c, w in zip(cells, widths, strict=True))
        for n, cells in rows
    ]
    rule = "-" * len(lines[0])
    shown = {kind + column for kind, _ in benchmark.kinds for column in benchmark.columns}
    rest = ", ".join(
        f"{n} {_cell(value)}" for n, value in scores.items() if n not in shown and value is not None
    )
    split = len(lines) - len(ours)
    return "\n".join([lines[0], rule, *lines[1:split], rule, *lines[split:], rest])


def _cells(values: Iterable[float | None]) -> tuple[str, ...]:
    return tuple(_cell(value) for value in values)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value <= 1 else f"{value:.1f}"
