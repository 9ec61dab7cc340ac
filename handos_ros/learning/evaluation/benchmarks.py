"""FreiHAND, HO-3D v3, DexYCB and HInt, each scored exactly as its own protocol has it.

Scores are pure functions of arrays; `run` fills the arrays from a network, `read_submission` from the
official submission file of any system. Arrays are in this package's joint order, metres and optical frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.files.atomic import whole
from handos_ros.hands import NUM_JOINTS, Camera, Hands
from handos_ros.learning.datasets.ho3d import JOINTS_FROM_HO3D, from_ho3d
from handos_ros.learning.datasets.reading import read_json
from handos_ros.learning.evaluation import metrics
from handos_ros.learning.evaluation.detection import match_greedily
from handos_ros.learning.evaluation.predictions import Prediction
from handos_ros.learning.sample import SIDE_UNKNOWN, Sample

if TYPE_CHECKING:
    from handos_ros.inference.joints import JointPipeline
    from handos_ros.inference.pipeline import Pipeline

HINT_FRACTIONS = (0.05, 0.1, 0.15)
_F_THRESHOLDS = {"f@5": 0.005, "f@15": 0.015}
_BLOCK = 1000
"""Meshes that are aligned at once."""


class SampleSource(Protocol):
    """A data set of one labelled hand a picture."""

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Picture and labels."""
        ...


@dataclass(eq=False)
class Poses:
    """One hand for each of N pictures.

    Attributes:
        joints: (N, 21, 3) m; zeros where a system found no hand, as the official zero predictor has it.
        vertices: (N, V, 3) m, float32 or float64; V = 0 without meshes.
        found: (N,) bool.
    """

    joints: NDArray[np.float64]
    vertices: NDArray[np.floating]
    found: NDArray[np.bool_]


def freihand_scores(said: Poses, joints: NDArray, vertices: NDArray) -> dict[str, float | None]:
    """FreiHAND's `eval.py`: errors as they are and after Procrustes, AUC, F-scores of aligned meshes.

    Beside the official Procrustes, which may mirror, `pa_mpjpe_proper_mm` may not. Mesh scores are None
    where the meshes are not of the same model.
    """
    absolute = metrics.point_errors(said.joints, joints)
    aligned = metrics.pa_errors(said.joints, joints, reflect=True)
    scores: dict[str, float | None] = {
        "found": float(said.found.mean()) if len(said.found) else None,
        "mpjpe_mm": 1000 * metrics.mean_error(absolute),
        "auc": metrics.auc(absolute),
        "pa_mpjpe_mm": 1000 * metrics.mean_error(aligned),
        "pa_auc": metrics.auc(aligned),
        "pa_mpjpe_proper_mm": 1000
        * metrics.mean_error(metrics.pa_errors(said.joints, joints, reflect=False)),
    }
    return scores | _mesh_scores(said.vertices, vertices)


def _mesh_scores(said: NDArray, vertices: NDArray) -> dict[str, float | None]:
    """Errors of (N, V, 3) meshes as they are and after Procrustes, and F-scores of the aligned ones."""
    if said.shape != vertices.shape or not vertices.size:
        return dict.fromkeys(("mpvpe_mm", "pa_mpvpe_mm", "pa_mpvpe_auc", *_F_THRESHOLDS))
    absolute, aligned = np.empty(said.shape[:2], np.float32), np.empty(said.shape[:2], np.float32)
    f = np.empty((len(said), len(_F_THRESHOLDS)))
    # DexYCB has 10^5 meshes: all of them at once would need tens of gigabytes.
    for block in (slice(start, start + _BLOCK) for start in range(0, len(said), _BLOCK)):
        meshes = metrics.procrustes(said[block], vertices[block], reflect=True)
        absolute[block] = metrics.point_errors(said[block], vertices[block])
        aligned[block] = metrics.point_errors(meshes, vertices[block])
        f[block] = metrics.f_scores(meshes, vertices[block], tuple(_F_THRESHOLDS.values()))
    return {
        "mpvpe_mm": 1000 * metrics.mean_error(absolute.astype(np.float64)),
        "pa_mpvpe_mm": 1000 * metrics.mean_error(aligned.astype(np.float64)),
        "pa_mpvpe_auc": metrics.auc(aligned),
        **{name: float(value) for name, value in zip(_F_THRESHOLDS, f.mean(0), strict=True)},
    }


def ho3d_scores(said: Poses, joints: NDArray, vertices: NDArray) -> dict[str, float | None]:
    """HO-3D's `eval.py`: as FreiHAND's, and joints moved to the root and scaled by one bone."""
    scaled = metrics.point_errors(metrics.bone_scale_aligned(said.joints, joints), joints)
    return freihand_scores(said, joints, vertices) | {
        "st_mpjpe_mm": 1000 * metrics.mean_error(scaled),
        "st_auc": metrics.auc(scaled),
    }


def dexycb_scores(said: Poses, joints: NDArray, vertices: NDArray) -> dict[str, float | None]:
    """DexYCB: absolute, root-relative and Procrustes errors of joints with their AUC.

    `auc` is that of Procrustes, which the published tables print.
    """
    errors = {
        "": metrics.point_errors(said.joints, joints),
        "rr_": metrics.point_errors(metrics.root_relative(said.joints), metrics.root_relative(joints)),
    }
    scores = freihand_scores(said, joints, vertices)
    for name, value in errors.items():
        scores[f"{name}mpjpe_mm"] = 1000 * metrics.mean_error(value)
        scores[f"{name}auc"] = metrics.auc(value)
    return scores | {"absolute_auc": scores["auc"], "auc": scores["pa_auc"]}


def hint_scores(
    errors: NDArray,
    projected: NDArray,
    boxes: NDArray,
    weight: NDArray,
    visibility: NDArray,
    side_right: NDArray,
) -> dict[str, float | None]:
    """HaMeR's `EvaluatorPCK` in per cent, for all, visible and occluded joints.

    Both of the 2D joints and, under names that begin with `projected_`, of the projected 3D joints; these are
    None for a system that gives none.

    Args:
        errors: (N, 21) px of the 2D joints, infinite where the hand was not found.
        projected: (N, 21) px of the projected 3D joints, likewise; NaN where there are none.
        boxes: (N, 4) px, whose longer side is the unit.
        weight: (N, 21), more than 0.5 where the joint has a label.
        visibility: (N, 21) 1 seen, 0 hidden.
        side_right: (N,) 1 or 0 whether the side is right, NaN where not found.
    """
    found = ~np.isinf(errors).all(1)
    known = side_right[~np.isnan(side_right)]
    scores: dict[str, float | None] = {
        "found": float(found.mean()) if len(found) else None,
        "side_accuracy": float(known.mean()) if len(known) else None,
    }
    labelled = weight > 0.5
    parts = {
        "all": labelled,
        "visible": labelled & (visibility == 1),
        "occluded": labelled & (visibility == 0),
    }
    some = np.isfinite(projected).any() or not np.isnan(projected).any()
    kinds = {"": errors, "projected_": np.where(np.isnan(projected), np.inf, projected) if some else None}
    for kind, values in kinds.items():
        for name, part in parts.items():
            for t in HINT_FRACTIONS:
                value = np.nan
                if values is not None:
                    value = 100 * metrics.pck_2d(np.where(part, values, np.nan), boxes, t)
                scores[f"{kind}{name}@{t:g}"] = None if np.isnan(value) else value
    return scores


@dataclass(eq=False)
class Outcome:
    """What a network said and the labels, for the pictures that have a hand."""

    said: Poses
    joints: NDArray[np.float64]
    has_joints_3d: NDArray[np.bool_]
    """(N,) whether `joints` are labels; zeros stand where they are not."""
    vertices: NDArray[np.floating]
    errors_2d: NDArray[np.float64]
    """(N, 21) px from the labelled 2D joints, infinite where no hand was found."""
    errors_projected: NDArray[np.float64]
    """The same of the projected 3D joints; NaN where there are none, or none before the camera."""
    boxes: NDArray[np.float64]
    weight: NDArray[np.float64]
    visibility: NDArray[np.float64]
    side_right: NDArray[np.float64]
    numbers: list[int]
    """The pictures' places in the data set."""


def run(
    pipeline: Pipeline,
    dataset: SampleSource,
    *,
    given_boxes: bool,
    single: bool,
    indices: Sequence[int] | None = None,
) -> Iterator[Outcome]:
    """Let a network look at every picture of a benchmark; yields one outcome a picture, of 0 or 1 hand.

    Args:
        pipeline: its `min_score` decides what counts as found.
        dataset: the benchmark.
        given_boxes: hand it the true boxes (the peers' protocol), or let it detect.
        single: the benchmark shows one hand a picture: the surest one found counts. Otherwise the one
            that matches the labelled box at IoU 0.5.
        indices: which pictures; by default all.

    Where a picture's camera is unknown, hands stay where the network's camera query puts them, since moving
    them onto the 2D joints would make the projected joints a copy of these.
    """
    for index in range(len(dataset)) if indices is None else indices:
        sample = dataset[index]
        height, width = sample.image.shape[:2]
        if not len(sample):
            yield _nothing()
            continue
        camera = sample.camera(width, height)
        usual, pipeline.reproject = pipeline.reproject, camera is not None
        hands = pipeline(sample.image, camera, boxes=sample.boxes if given_boxes else None)
        pipeline.reproject = usual
        if given_boxes or (single and len(hands)):
            hands = hands.select([0])
        elif len(hands):
            match = match_greedily(sample.boxes, hands.boxes, hands.scores)
            hands = hands.select(match == 0)
        yield _outcome(sample, hands, index)


def run_2d(pipeline: JointPipeline, dataset: SampleSource, *, given_boxes: bool) -> Iterator[Outcome]:
    """As `run` for a 2D model, on a benchmark of 2D joints: the hand that matches the labelled box counts."""
    for index in range(len(dataset)):
        sample = dataset[index]
        if len(sample):
            joints = pipeline(sample.image, boxes=sample.boxes if given_boxes else None)
            yield judged(sample, Prediction.from_joints(joints), index)
        else:
            yield _nothing()


def _nothing() -> Outcome:
    def none(*shape: int) -> NDArray:
        return np.zeros((0, *shape))

    j = NUM_JOINTS
    said = Poses(none(j, 3), none(0, 3), np.zeros(0, bool))
    known = np.zeros(0, bool)
    return Outcome(
        said, none(j, 3), known, none(0, 3), none(j), none(j), none(4), none(j), none(j), none(), []
    )


def _outcome(sample: Sample, hands: Hands, index: int) -> Outcome:
    found = len(hands) == 1
    v = hands.vertices.shape[1]
    missed = np.full((1, NUM_JOINTS), np.inf)
    return Outcome(
        said=Poses(
            hands.joints_3d.astype(np.float64) if found else np.zeros((1, NUM_JOINTS, 3)),
            hands.vertices if found else np.zeros((1, v, 3), np.float32),
            np.array([found]),
        ),
        joints=sample.joints_3d.astype(np.float64),
        has_joints_3d=sample.has_joints_3d,
        # A mesh of zeros in the label's place would be scored.
        vertices=sample.vertices if sample.has_vertices.all() else sample.vertices[:, :0],
        errors_2d=metrics.point_errors(hands.joints_2d, sample.joints_2d) if found else missed,
        errors_projected=metrics.point_errors(hands.camera.project(hands.joints_3d), sample.joints_2d)
        if found
        else missed,
        boxes=sample.boxes.astype(np.float64),
        weight=sample.joints_2d_weight.astype(np.float64),
        visibility=sample.visibility.astype(np.float64),
        side_right=(hands.handedness == sample.handedness).astype(float) if found else np.array([np.nan]),
        numbers=[index],
    )


def labels(dataset: SampleSource) -> Iterator[Outcome]:
    """One outcome a picture, in which nothing was found: the labels alone."""
    for index in range(len(dataset)):
        sample = dataset[index]
        yield _outcome(sample, Hands.empty(Camera.assumed(1, 1)), index) if len(sample) else _nothing()


def judged(sample: Sample, prediction: Prediction, index: int) -> Outcome:
    """One outcome of a system's 2D prediction for a picture with one labelled hand, matched at IoU 0.5."""
    outcome = _outcome(sample, Hands.empty(Camera.assumed(1, 1)), index)
    match = match_greedily(sample.boxes, prediction.boxes, prediction.scores)
    mine = prediction.select(match == 0)
    if len(mine.boxes):
        errors = metrics.point_errors(mine.joints_2d, sample.joints_2d)
        outcome.errors_2d = np.where(np.isnan(errors), np.inf, errors)
        outcome.errors_projected = metrics.point_errors(mine.projected, sample.joints_2d)
        known = mine.handedness != SIDE_UNKNOWN
        outcome.side_right = np.where(known, mine.handedness == sample.handedness, np.nan)
    return outcome


def gathered(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of many pictures as one; a missed hand's mesh is zeros, whatever the others' size.

    Where only some of the labels have a mesh, none has: a score over these alone is not the benchmark's.
    """
    v = max((o.said.vertices.shape[1] for o in outcomes), default=0)
    hands = [o for o in outcomes if o.numbers] or [_nothing()]

    def meshes(vertices: NDArray) -> NDArray:
        return vertices if vertices.shape[1] == v else np.zeros((len(vertices), v, 3), np.float32)

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(o, name) for o in hands])

    said = Poses(
        np.concatenate([o.said.joints for o in hands]),
        np.concatenate([meshes(o.said.vertices) for o in hands]),
        np.concatenate([o.said.found for o in hands]),
    )
    least = min(o.vertices.shape[1] for o in hands)
    alike = all(o.vertices.shape[1] == least for o in hands)
    vertices = np.concatenate([o.vertices if alike else o.vertices[:, :0] for o in hands])
    names = (
        "joints", "has_joints_3d", "errors_2d", "errors_projected",
        "boxes", "weight", "visibility", "side_right",
    )  # fmt: skip
    return Outcome(
        said,
        vertices=vertices,
        **{name: joined(name) for name in names},
        numbers=[n for o in hands for n in o.numbers],
    )


def read_submission(path: str | Path, benchmark: str, count: int) -> Poses:
    """N poses from an official submission: FreiHAND's and HO-3D's `pred.json`, DexYCB's csv.

    Args:
        path: `[joints of every picture, vertices of every picture]` as json in the benchmark's own axes
            and joint order, or lines of `number, 63 values in mm`.
        benchmark: `freihand`, `ho3d_v3` or `dexycb`.
        count: how many pictures the benchmark has.

    Raises:
        DataError: naming what does not fit.
    """
    path = Path(path)
    if benchmark == "dexycb":
        return _read_dexycb(path, count)
    try:
        joints, vertices = read_json(path)
        said = Poses(
            np.asarray(joints, np.float64).reshape(-1, NUM_JOINTS, 3),
            np.asarray(vertices, np.float64).reshape(len(joints), -1, 3),
            np.ones(len(joints), bool),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not [joints, vertices] of every picture: {error}") from None
    if len(said.joints) != count:
        raise DataError(f"{path}: {len(said.joints)} pictures, the benchmark has {count}")
    if benchmark == "ho3d_v3":
        said.joints = from_ho3d(said.joints[:, list(JOINTS_FROM_HO3D)])
        said.vertices = from_ho3d(said.vertices)
    said.found = np.abs(said.joints).sum((1, 2)) > 0
    return said


def write_submission(path: str | Path, benchmark: str, outcome: Outcome, *, overwrite: bool = False) -> None:
    """The official file that `read_submission` reads, of a network's outcome."""
    joints, vertices = outcome.said.joints, outcome.said.vertices
    with whole(path, overwrite=overwrite) as partial:
        if benchmark == "dexycb":
            rows = (1000 * joints).reshape(-1, 3 * NUM_JOINTS)
            lines = (
                f"{n}," + ",".join(f"{v:.4f}" for v in row)
                for n, row in zip(outcome.numbers, rows, strict=True)
            )
            partial.write_text("\n".join(lines) + "\n", encoding="ascii")
            return
        if benchmark == "ho3d_v3":
            listed = np.empty_like(joints)
            listed[:, list(JOINTS_FROM_HO3D)] = joints
            joints, vertices = from_ho3d(listed), from_ho3d(vertices)
        content: list[Any] = [joints.round(6).tolist(), vertices.round(6).tolist()]
        partial.write_text(json.dumps(content), encoding="ascii")


def _read_dexycb(path: Path, count: int) -> Poses:
    joints, found = np.zeros((count, NUM_JOINTS, 3)), np.zeros(count, bool)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read the predictions: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = line.split(",")
        try:
            place = int(values[0])
            joints[place] = np.array(values[1:], np.float64).reshape(NUM_JOINTS, 3) / 1000
            found[place] = True
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}: line {number}: {error}") from None
    return Poses(joints, np.zeros((count, 0, 3)), found)
