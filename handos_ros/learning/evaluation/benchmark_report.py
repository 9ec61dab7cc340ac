"""One benchmark from its folder to a table: a network or a submission beside the published rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from handos_ros.errors import DataError
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
        open: from its folder to its test pictures.
        score: from what was said and the labels to numbers.
        columns: those of the published table.
        rows: the published rows.
        single: whether its pictures show one hand, so that the surest one found counts.
    """

    open: Callable[[Path], SampleSource]
    score: Callable[[Outcome], Scores]
    columns: tuple[str, ...]
    rows: tuple[published.Row, ...]
    single: bool = True


def _posed(score: Callable[..., Scores]) -> Callable[[Outcome], Scores]:
    return lambda outcome: score(outcome.said, outcome.joints, outcome.vertices)


def _hint(outcome: Outcome) -> Scores:
    o = outcome
    return benchmarks.hint_scores(o.errors_2d, o.boxes, o.weight, o.visibility, o.side_right)


BENCHMARKS: dict[str, Benchmark] = {
    "freihand": Benchmark(
        lambda folder: FreiHand(folder, "evaluation"),
        _posed(benchmarks.freihand_scores),
        published.MESH_COLUMNS,
        published.FREIHAND,
    ),
    "ho3d_v3": Benchmark(
        lambda folder: Ho3d(folder, "evaluation"),
        _posed(benchmarks.ho3d_scores),
        published.MESH_COLUMNS,
        published.HO3D_V3,
    ),
    "dexycb": Benchmark(
        lambda folder: DexYcb(folder, "s0", "test"),
        _posed(benchmarks.dexycb_scores),
        published.DEXYCB_COLUMNS,
        published.DEXYCB,
    ),
    **{
        f"hint_{subset}": Benchmark(
            lambda folder, subset=subset: HInt(folder, "test", subset),  # type: ignore[misc]
            _hint,
            published.HINT_COLUMNS,
            published.HINT[subset],
            single=False,
        )
        for subset in SUBSETS
    },
}
"""By name."""


def run_network(
    name: str,
    dataset: SampleSource,
    pipeline: Pipeline,
    *,
    true_boxes: bool,
    watch: Callable[[Iterable[Outcome], int], Iterable[Outcome]] = lambda outcomes, total: outcomes,
) -> Outcome:
    """All of an opened benchmark through a network; `watch` may wrap the outcomes, for a bar."""
    single = BENCHMARKS[name].single
    outcomes = benchmarks.run(pipeline, dataset, given_boxes=true_boxes, single=single)
    return benchmarks.gathered(list(watch(outcomes, len(dataset))))


def read_predictions(name: str, folder: str | Path, predictions: str | Path) -> Outcome:
    """A benchmark's labels, and what another system says: its official submission, or for HInt our json.

    Raises:
        DataError: naming what is missing or does not fit.
    """
    dataset = BENCHMARKS[name].open(Path(folder))
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
    ours = tuple(scores[column] for column in benchmark.columns)
    rows = [
        ("", benchmark.columns),
        *((n, _cells(values)) for n, values in benchmark.rows),
        (label, _cells(ours)),
    ]
    first = max(len(n) for n, _ in rows)
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(benchmark.columns))]
    lines = [
        n.ljust(first) + "".join("  " + c.rjust(w) for c, w in zip(cells, widths, strict=True))
        for n, cells in rows
    ]
    rule = "-" * len(lines[0])
    rest = ", ".join(
        f"{n} {_cell(value)}"
        for n, value in scores.items()
        if n not in benchmark.columns and value is not None
    )
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], rest])


def _cells(values: Iterable[float | None]) -> tuple[str, ...]:
    return tuple(_cell(value) for value in values)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value <= 1 else f"{value:.1f}"
