"""Draw the curves of a training run from its metrics.jsonl, or of several side by side, for docs/training.md.

python tools/draw_curves.py RUN -o curves.png               # needs matplotlib
python tools/draw_curves.py RUN OTHER -o comparison.png     # what was measured, over the minutes of each
"""

import argparse
import itertools
import json
from pathlib import Path

PANELS = {
    "joints and mesh in training, of the hand's size or in 0.1 m": (
        "joints_2d", "dense/joints_2d", "joints_proj", "joints_3d", "vertices",
    ),
    "detector in training": ("iou", "dense/iou", "side", "dense/side", "parts", "dense/parts"),
    "photographs kept out of training": (
        "eval/real/recall", "eval/real/precision", "eval/real/pck@0.1", "eval/real/pck@0.2",
        "eval/real/side_accuracy",
    ),
    "rendered hands kept out of training, mm": (
        "eval/synthetic/pa_mpjpe_mm", "eval/synthetic/pa_mpvpe_mm", "eval/synthetic/mpjpe_mm",
    ),
}  # fmt: skip
MEASURED = {
    "hands found in photographs, recall": "eval/real/recall",
    "hands found in photographs, AP50": "eval/real/ap50",
    "joints within a fifth of the hand's size": "eval/real/pck@0.2",
    "rendered test set, PA-MPJPE in mm": "eval/synthetic/pa_mpjpe_mm",
}
SMOOTHING = 8
"""Lines of the log that make one point of a training curve."""


def read(run: Path) -> list[dict]:
    """The log's lines in order; of steps that were taken twice after an interruption, the later."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    kept: list[dict] = []
    for row in rows:
        while kept and kept[-1]["step"] > row["step"]:
            kept.pop()
        kept.append(row)
    return kept


def curve(rows: list[dict], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric, smoothed unless it is a measurement."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    size = 1 if name.startswith("eval/") else SMOOTHING
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    return (
        [sum(s for s, _ in group) / len(group) for group in groups],
        [sum(v for _, v in group) / len(group) for group in groups],
    )


def draw(rows: list[dict], output: Path) -> None:
    """One panel for each group of metrics, stages as vertical lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    changes = [b for a, b in itertools.pairwise(rows) if a["stage"] != b["stage"]]
    for panel, (title, names) in zip(axes.flat, PANELS.items(), strict=True):
        for name in names:
            steps, values = curve(rows, name)
            if steps:
                panel.plot(steps, values, ".-", markersize=3, label=name.removeprefix("eval/"))
        for number, row in enumerate(changes):
            panel.axvline(row["step"], color="grey", linewidth=0.8, linestyle=":")
            # Stages may be short: names in two rows do not lie on one another.
            height = 1.0 + 0.035 * (number % 2)
            panel.text(row["step"], height, row["stage"], transform=panel.get_xaxis_transform(), fontsize=7)
        panel.set_xlim(0, rows[-1]["step"])
        panel.set_ylim(bottom=0)
        panel.set_title(title, fontsize=10, pad=20)
        panel.set_xlabel("step", fontsize=8)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    figure.savefig(output, dpi=90)


def compare(runs: dict[str, list[dict]], output: Path) -> None:
    """What was measured on each run, over the minutes since its first line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 6), constrained_layout=True)
    for panel, (title, name) in zip(axes.flat, MEASURED.items(), strict=True):
        for label, rows in runs.items():
            start = rows[0]["time"]
            found = [((row["time"] - start) / 60, row[name]) for row in rows if row.get(name) is not None]
            panel.plot([m for m, _ in found], [v for _, v in found], ".-", label=label)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("minutes", fontsize=8)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(output, dpi=90)


def main() -> None:
    """Read and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of `handos train`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a png or svg")
    arguments = parser.parse_args()
    if len(arguments.runs) == 1:
        draw(read(arguments.runs[0]), arguments.output)
    else:
        compare({run.name: read(run) for run in arguments.runs}, arguments.output)


if __name__ == "__main__":
    main()
