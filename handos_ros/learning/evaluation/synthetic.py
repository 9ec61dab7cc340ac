"""The protocol for rendered pictures, whose labels are exact: shape, side and place in metres."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from handos_ros.inference.pipeline import Pipeline
from handos_ros.learning.evaluation import metrics
from handos_ros.learning.evaluation.detection import match_greedily
from handos_ros.learning.sample import Sample


def evaluate_samples(
    pipeline: Pipeline, samples: Iterable[Sample], *, min_score: float = 0.5
) -> dict[str, float]:
    """Score a pipeline on samples with K and absolute 3D labels.

    A hand counts as found from an IoU of 0.5; errors are over found hands, so read them beside recall.

    Returns:
        hands, recall, side_accuracy; pa_mpjpe_mm and pa_mpvpe_mm after a proper Procrustes alignment;
        mpjpe_mm relative to the wrist; place_error, the wrist's distance from where it is over its
        distance from the camera, median; what has no hand to be measured on is left out.
    """
    hands = found = 0
    rows: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        height, width = sample.image.shape[:2]
        camera = sample.camera(width, height)
        said = pipeline(sample.image, camera)
        said = said.select(said.scores >= min_score)
        match = match_greedily(sample.boxes, said.boxes, said.scores)
        mine = np.flatnonzero(match >= 0)
        theirs = match[mine]
        hands += len(sample)
        found += len(mine)
        rows.setdefault("side", []).append(said.handedness[mine] == sample.handedness[theirs])
        exact = sample.has_joints_3d[theirs] & sample.joints_3d_absolute[theirs]
        mine, theirs = mine[exact], theirs[exact]
        if not len(mine):
            continue
        joints, label = said.joints_3d[mine], sample.joints_3d[theirs]
        rows.setdefault("pa", []).append(metrics.pa_errors(joints, label, reflect=False).mean(1))
        relative = metrics.point_errors(metrics.root_relative(joints), metrics.root_relative(label))
        rows.setdefault("mpjpe", []).append(relative.mean(1))
        distance = np.linalg.norm(label[:, 0], axis=-1)
        rows.setdefault("place", []).append(np.linalg.norm(joints[:, 0] - label[:, 0], axis=-1) / distance)
        meshes = sample.has_vertices[theirs]
        if meshes.any() and sample.vertices.shape[1] == said.vertices.shape[1]:
            errors = metrics.pa_errors(
                said.vertices[mine[meshes]], sample.vertices[theirs[meshes]], reflect=False
            )
            rows.setdefault("pv", []).append(errors.mean(1))
    scores: dict[str, float] = {"hands": hands, "recall": found / hands if hands else float("nan")}
    joined = {name: np.concatenate(parts).astype(float) for name, parts in rows.items()}
    for name, key, factor, summary in (
        ("side_accuracy", "side", 1, np.mean),
        ("pa_mpjpe_mm", "pa", 1000, np.mean),
        ("pa_mpvpe_mm", "pv", 1000, np.mean),
        ("mpjpe_mm", "mpjpe", 1000, np.mean),
        ("place_error", "place", 1, np.median),
    ):
        if len(joined.get(key, ())):
            scores[name] = float(summary(joined[key]) * factor)
    return scores
