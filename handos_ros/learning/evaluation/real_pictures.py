"""The protocol for real photographs: are hands found, are the joints in place, is the side right?

Labels are COCO keypoint files. A prediction and a label belong together by greedy matching at IoU 0.5,
by falling score. A hand that was not found counts as wrong in every PCK. In a picture that is not
exhaustively labelled, a box without a label is no error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.learning.datasets.coco_keypoints import PictureEntry
from handos_ros.learning.evaluation import metrics
from handos_ros.learning.evaluation.detection import (
    COCO_IOU_THRESHOLDS,
    coco_average_precision,
    match_greedily,
)
from handos_ros.learning.evaluation.predictions import Prediction
from handos_ros.learning.facing import faces
from handos_ros.learning.sample import SIDE_UNKNOWN

PCK_FRACTIONS = (0.05, 0.1, 0.15, 0.2)
AP_MIN_SCORE = 0.05
"""Detections below this are not asked for: the tail of the precision-recall curve costs decoding."""

_COLUMNS = {
    "pictures": "pictures",
    "hands": "hands",
    "recall": "recall",
    "precision": "precision",
    "ap50": "AP50",
    "ap": "AP",
    "pck@0.05": "PCK.05",
    "pck@0.1": "PCK.10",
    "pck@0.15": "PCK.15",
    "pck@0.2": "PCK.20",
    "side_accuracy": "side",
    "pa_mpjpe_mm": "PA mm",
    "pa_mpjpe_proper_mm": "PA* mm",
    "size": "size",
}
_SHARES = re.compile("recall|precision|ap|pck|side|size")

Scores = dict[str, float | int | None]
"""Numbers by name; None where there was nothing to measure."""


@dataclass(eq=False)
class Report:
    """Scores of one system on one annotation file.

    Attributes:
        total: over all pictures.
        by_source: for each kind of picture, by its file name without number.
        negatives: on pictures without hands: `pictures`, `false_hands`, `false_hands_per_picture`; or None.
        min_score: hands below did not count, but for AP.
    """

    total: Scores
    by_source: dict[str, Scores]
    negatives: Scores | None
    min_score: float

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "min_score": self.min_score,
            "total": self.total,
            "by_source": self.by_source,
            "negatives": self.negatives,
        }

    def table(self) -> str:
        """The same for people, one row for each source; shares in per cent."""
        rows = [["", *_COLUMNS.values()]]
        for name, scores in [*self.by_source.items(), ("all", self.total)]:
            rows.append([name, *(_cell(column, scores[column]) for column in _COLUMNS)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
            )
            for r in rows
        ]
        rule = "-" * len(lines[0])
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        lines.append(
            f"Hands with a score of {self.min_score:g} or more; shares in per cent; missed hands count as "
            "wrong in PCK; PA may mirror as the benchmarks do, PA* may not; size: of the 3D hand against the "
            "label's, median."
        )
        if self.total["palms"] and self.total["backs"]:
            lines.append(
                "Side right: "
                + ", ".join(
                    f"{_cell('side', self.total[f'side_accuracy_{seen}'])} % of {self.total[seen]} {seen}"
                    for seen in ("palms", "backs")
                )
                + ", as far as they are not seen from their edge."
            )
        if self.negatives is not None:
            lines.append(
                f"{self.negatives['false_hands']} false hands in {self.negatives['pictures']} pictures "
                f"without hands: {self.negatives['false_hands_per_picture']:.4f} a picture."
            )
        return "\n".join(lines)


def evaluate(
    entries: Sequence[PictureEntry],
    predictions: Mapping[str, Prediction],
    *,
    min_score: float = 0.5,
    negatives: Sequence[Prediction] | None = None,
) -> Report:
    """Score predictions against labels.

    Args:
        entries: the pictures and labels of `CocoKeypoints.entries`.
        predictions: by the name of the picture's file without its folders; entries without one are left
            out. They should reach down to a score of `AP_MIN_SCORE`, or AP is cut off.
        min_score: what counts as found, except for AP.
        negatives: what was found in pictures without hands.
    """
    judged = [
        _judge(entry, predictions[Path(entry.file_name).name], min_score)
        for entry in entries
        if Path(entry.file_name).name in predictions
    ]
    groups: dict[str, list[_Judged]] = {}
    for picture in judged:
        groups.setdefault(picture.source, []).append(picture)
    false: Scores | None = None
    if negatives is not None:
        count = sum(int((p.scores >= min_score).sum()) for p in negatives)
        per_picture = count / len(negatives) if negatives else None
        false = {"pictures": len(negatives), "false_hands": count, "false_hands_per_picture": per_picture}
    return Report(
        total=_scores(judged),
        by_source={name: _scores(groups[name]) for name in sorted(groups)},
        negatives=false,
        min_score=min_score,
    )


@dataclass(eq=False)
class _Judged:
    """One picture: G labelled hands, each with what became of it."""

    source: str
    detection: tuple[NDArray, NDArray, NDArray, bool]
    """What `coco_average_precision` takes."""
    found: NDArray[np.bool_]
    false: int
    """Boxes without a label, at the score that counts."""
    errors_2d: NDArray[np.float64]
    """(G, 21) in longer sides of the label's box; infinite where missed, NaN where unlabelled."""
    side_right: NDArray[np.float64]
    """(G,) 1, 0, or NaN where missed or unknown."""
    backs: NDArray[np.float64]
    """(G,) 1 where the back of the hand is seen, 0 where its palm, NaN where that is not known."""
    pairs_3d: tuple[NDArray, NDArray]
    """Joints said and labelled, (M, 21, 3) each, of the found hands that have both."""


def _judge(entry: PictureEntry, prediction: Prediction, min_score: float) -> _Judged:
    labels = entry.labels
    count = len(labels)
    counted = prediction.select(prediction.scores >= min_score)
    match = match_greedily(labels.boxes, counted.boxes, counted.scores)
    by_label = np.full(count, -1)
    by_label[match[match >= 0]] = np.flatnonzero(match >= 0)
    found = by_label >= 0
    hit, mine = np.flatnonzero(found), by_label[found]

    errors = np.full((count, 21), np.inf)
    said = metrics.point_errors(counted.joints_2d[mine], labels.joints_2d[hit])
    # A system that found the hand but names no joints has not placed them.
    errors[hit] = np.where(np.isnan(said), np.inf, said) / metrics.longer_sides(labels.boxes[hit])[:, None]
    errors[labels.joints_2d_weight <= 0] = np.nan

    side = np.full(count, np.nan)
    known = (labels.handedness[hit] != SIDE_UNKNOWN) & (counted.handedness[mine] != SIDE_UNKNOWN)
    side[hit[known]] = labels.handedness[hit[known]] == counted.handedness[mine[known]]

    back, sure = faces(labels)
    both = labels.has_joints_3d[hit] & np.isfinite(counted.joints_3d[mine]).all((1, 2))
    return _Judged(
        source=_source(entry.file_name),
        detection=(labels.boxes, prediction.boxes, prediction.scores, labels.exhaustive),
        found=found,
        false=int((match < 0).sum()),
        errors_2d=errors,
        side_right=side,
        backs=np.where(sure, back, np.nan),
        pairs_3d=(counted.joints_3d[mine[both]], labels.joints_3d[hit[both]]),
    )


def _source(file_name: str) -> str:
    """`folder/asl_letters_00012.jpg` -> `asl_letters`."""
    return re.sub(r"[-_]?\d*$", "", Path(file_name).stem) or "unnamed"


def _scores(pictures: Sequence[_Judged]) -> Scores:
    found = np.concatenate([p.found for p in pictures] or [np.zeros(0, bool)])
    errors = np.concatenate([p.errors_2d for p in pictures] or [np.zeros((0, 21))])
    side = np.concatenate([p.side_right for p in pictures] or [np.zeros(0)])
    backs = np.concatenate([p.backs for p in pictures] or [np.zeros(0)])
    judged = ~np.isnan(side)
    side, backs = side[judged], backs[judged]
    said, label = (
        np.concatenate([p.pairs_3d[i] for p in pictures] or [np.zeros((0, 21, 3))]) for i in (0, 1)
    )
    # Precision is of the pictures in which a box without a label is surely false.
    closed = [p for p in pictures if p.detection[3]]
    right, wrong = sum(int(p.found.sum()) for p in closed), sum(p.false for p in closed)
    by_iou = [coco_average_precision([p.detection for p in pictures], iou) for iou in COCO_IOU_THRESHOLDS]

    scores: dict[str, float | int] = {
        "pictures": len(pictures),
        "hands": len(found),
        "hands_with_joints": int((~np.isnan(errors)).any(1).sum()),
        "recall": _share(found),
        "precision": right / (right + wrong) if right + wrong else float("nan"),
        "false_hands": wrong,
        "ap50": by_iou[0],
        "ap": float(np.mean(by_iou)),
    }
    for t, value in zip(PCK_FRACTIONS, metrics.pck_curve(errors, PCK_FRACTIONS), strict=True):
        scores[f"pck@{t:g}"] = float(value)
    for t, value in zip(PCK_FRACTIONS, metrics.pck_curve(errors[found], PCK_FRACTIONS), strict=True):
        scores[f"pck_found@{t:g}"] = float(value)
    scores["side_accuracy"] = _share(side)
    scores["hands_with_side"] = len(side)
    for name, shown in (("palms", backs == 0), ("backs", backs == 1)):
        scores[f"side_accuracy_{name}"], scores[name] = _share(side[shown]), int(shown.sum())
    for name, reflect in (("pa_mpjpe_mm", True), ("pa_mpjpe_proper_mm", False)):
        scores[name] = 1000 * metrics.mean_error(metrics.pa_errors(said, label, reflect=reflect))
    scores["size"] = float(np.median(metrics.size_ratios(said, label))) if len(said) else float("nan")
    scores["hands_with_joints_3d"] = len(said)
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in scores.items()
    }


def _share(values: NDArray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _cell(column: str, value: float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{100 * value:.1f}" if _SHARES.match(column) else f"{value:.1f}"
