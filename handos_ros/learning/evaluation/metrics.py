"""Errors of joints and meshes, exactly as the benchmarks count them.

Points are (N, P, 3), N hands of P joints or vertices, metres unless said otherwise; errors keep their
unit. `nan_to_num` is never used: a NaN that goes in comes out, so that nothing is scored by accident.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.hands import JOINT_PARENTS

PCK_THRESHOLDS_3D = np.linspace(0.0, 0.05, 100)
"""Metres: the thresholds of AUC in FreiHAND, DexYCB and HandOS, 0 to 50 mm in 100 steps."""


def point_errors(points: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """(N, P) Euclidean distances; their mean is MPJPE or MPVPE."""
    difference = np.asarray(points, np.float64) - np.asarray(label, np.float64)
    return np.sqrt((difference**2).sum(-1))


def mean_error(errors: NDArray) -> float:
    """Mean over samples for each point, then over points, as FreiHAND averages; NaN without samples."""
    return float(np.mean(np.mean(errors, axis=0))) if len(errors) else float("nan")


def procrustes(points: ArrayLike, label: ArrayLike, *, reflect: bool) -> NDArray[np.float64]:
    """(N, P, 3): `points` moved, scaled and turned as near to `label` as can be, one hand at a time.

    As FreiHAND's `eval.py`: centre both, divide by their Frobenius norms, orthogonal Procrustes, scale
    back. Joints and vertices are to be aligned separately.

    Args:
        points, label: (N, P, 3).
        reflect: whether the turn may be a mirroring. The benchmarks' is, so they score a left hand in
            place of a right one with 0; False is the alignment that a robot can make.
    """
    source, target = np.asarray(points, np.float64), np.asarray(label, np.float64)
    if not len(source):
        return source.copy()
    mean = target.mean(1, keepdims=True)
    source, target = source - source.mean(1, keepdims=True), target - mean
    source_size = np.linalg.norm(source, axis=(1, 2), keepdims=True) + 1e-8
    target_size = np.linalg.norm(target, axis=(1, 2), keepdims=True) + 1e-8
    source, target = source / source_size, target / target_size
    u, s, vt = np.linalg.svd(source.transpose(0, 2, 1) @ target)
    sign = np.ones_like(s)
    if not reflect:
        sign[:, 2] = np.linalg.det(u @ vt)
    turn = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1)[:, None, None]
    return source @ turn * scale * target_size + mean


def pa_errors(points: ArrayLike, label: ArrayLike, *, reflect: bool) -> NDArray[np.float64]:
    """(N, P) distances after `procrustes`: their `mean_error` is PA-MPJPE or PA-MPVPE."""
    return point_errors(procrustes(points, label, reflect=reflect), label)


def root_relative(points: ArrayLike, root: int = 0) -> NDArray[np.float64]:
    """(N, P, 3) with point `root` moved to 0."""
    points = np.asarray(points, np.float64)
    return points - points[:, root : root + 1]


def size_ratios(points: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """(N,) length of all 20 bones of (N, 21, 3) joints over the label's: is a hand as large as it is?

    Procrustes forgives size; the distance from the camera, which follows from it, does not.
    """
    said, wanted = (
        np.linalg.norm(p[:, 1:] - p[:, JOINT_PARENTS[1:]], axis=-1).sum(1)
        for p in (np.asarray(points, np.float64), np.asarray(label, np.float64))
    )
    return said / wanted


def scale_translation_aligned(points: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """(N, P, 3) moved and scaled onto `label` by mean and Frobenius norm, not turned (HO3D)."""
    source, target = np.asarray(points, np.float64), np.asarray(label, np.float64)
    mean = target.mean(1, keepdims=True)
    source = source - source.mean(1, keepdims=True)
    size = np.linalg.norm(target - mean, axis=(1, 2), keepdims=True)
    return source * size / (np.linalg.norm(source, axis=(1, 2), keepdims=True) + 1e-8) + mean


def bone_scale_aligned(
    points: ArrayLike, label: ArrayLike, bone: tuple[int, int] = (0, 9)
) -> NDArray[np.float64]:
    """(N, P, 3) moved onto `label`'s root and scaled to its length of one bone.

    Args:
        points, label: (N, P, 3).
        bone: root and other end; wrist and middle_mcp, which are numbers 0 and 4 in MANO's order.
    """
    target = np.asarray(label, np.float64)
    source = root_relative(points, bone[0])
    want = np.linalg.norm(target[:, bone[1]] - target[:, bone[0]], axis=-1)
    have = np.linalg.norm(source[:, bone[1]], axis=-1)
    return source * (want / np.maximum(have, 1e-8))[:, None, None] + target[:, bone[0], None]


def f_scores(
    points: ArrayLike, label: ArrayLike, thresholds: Sequence[float] = (0.005, 0.015)
) -> NDArray[np.float64]:
    """(N, T) F-scores of meshes: harmonic mean of precision and recall of their vertices.

    Precision is the share of `points` nearer than a threshold (strictly) to any vertex of `label`, recall
    the other way round; 0 where both are 0. (N, P, 3) and (N, L, 3), P and L may differ.
    """
    from scipy.spatial import cKDTree

    out = np.zeros((len(np.asarray(points)), len(thresholds)))
    for row, source, target in zip(out, np.asarray(points), np.asarray(label), strict=True):
        to_target = cKDTree(target).query(source)[0]
        to_source = cKDTree(source).query(target)[0]
        for t, threshold in enumerate(thresholds):
            precision, recall = np.mean(to_target < threshold), np.mean(to_source < threshold)
            if precision + recall > 0:
                row[t] = 2 * precision * recall / (precision + recall)
    return out


def pck_curve(errors: NDArray, thresholds: ArrayLike = PCK_THRESHOLDS_3D) -> NDArray[np.float64]:
    """(T,) share of points within each threshold (<=): mean over samples, then over points.

    errors: (N, P); infinite for a hand that was not found, NaN for a point without a label.
    """
    thresholds = np.asarray(thresholds, np.float64)
    errors = np.asarray(errors, np.float64)
    labelled = ~np.isnan(errors)
    counts = labelled.sum(0)
    used = counts > 0
    if not used.any():
        return np.full(len(thresholds), np.nan)
    # One sort for each point instead of a comparison for each threshold.
    hits = np.stack(
        [
            np.searchsorted(np.sort(errors[labelled[:, p], p]), thresholds, side="right")
            for p in np.flatnonzero(used)
        ],
        1,
    )
    return (hits / counts[used]).mean(1)


def auc(errors: NDArray, thresholds: ArrayLike = PCK_THRESHOLDS_3D) -> float:
    """Area under `pck_curve` by trapezoids, over the range of the thresholds: 0 to 1."""
    thresholds = np.asarray(thresholds, np.float64)
    curve = pck_curve(errors, thresholds)
    widths = np.diff(thresholds)
    return float(((curve[1:] + curve[:-1]) / 2 * widths).sum() / (thresholds[-1] - thresholds[0]))


def pck_2d(errors: NDArray, boxes: ArrayLike, fraction: float) -> float:
    """Share of 2D joints within `fraction` of the longer side of their hand's box, averaged as `pck_curve`.

    errors: (N, P) px, infinite for a missed hand, NaN for a joint without a label; boxes: (N, 4) xyxy px.
    """
    return float(pck_curve(errors / longer_sides(boxes)[:, None], [fraction])[0])


def longer_sides(boxes: ArrayLike) -> NDArray[np.float64]:
    """(N,) longer sides of (N, 4) boxes x_min y_min x_max y_max."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0.0)
