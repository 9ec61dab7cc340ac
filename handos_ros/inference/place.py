"""Where hands are, in metres: the network's focal-free outputs and a camera -> the optical frame.

Turning. The network gives a hand in its ray frame, whose z axis points along the ray through the wrist.
It goes to the optical frame by the smallest rotation that takes +z to that ray: the one about the axis at
right angles to both, with no roll about the ray. Of all rotations with that property only this one is its
own mirror image, R(-x, y) = M R(x, y) M with M = diag(-1, 1, 1), and likewise for y, so that a picture
mirrored about the principal point gives the mirrored hand.

Placing. Two ways. The network's own: depth = focal length in network pixels / `scale`, along the wrist's
ray. Reprojection: the translation at which the 3D joints meet the undistorted 2D ones, by weighted linear
least squares, which ties the hand to what is seen and is therefore preferred where it is well posed.

Meeting. So placed, the 3D joints say once more where each joint is in the picture. The decoder's queries
for joints in 2D and in 3D err apart, and a hand's shape holds only the latter together: the mean of both,
by how sure the network is of each 2D joint, is nearer the truth than either. Where the camera is assumed,
so is its perspective, and the network learned photographs of unknown cameras without any: for meeting alone
such hands are placed once more before a camera so far away that it has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handos_ros.hands import Camera, KSource, TranslationSource
from handos_ros.inference.backend import Decoded
from handos_ros.inference.letterbox import Letterbox

PLAUSIBLE_FACTOR = 3.0
"""Reprojection is not believed where its depth is off the network's by more than this factor."""

_FAR_FOCAL = 100.0
"""Focal length, in those assumed, of a camera without perspective."""

_LENS_MARGIN = 0.25
"""How far beyond the picture, in longer sides of it, a lens's distortion is still believed."""

_MIN_SPREAD = 1.0
"""Pixels of the network picture, root mean square: joints closer together than this tell no depth."""

_NEAREST = 0.25
"""Of the wrist's depth: what a 3D joint nearer than this says of its place in the picture is not listened to,
since there an error of millimetres is one of a hand's size."""

_SAME_RAY = 1e-2
"""How far, at z = 1, a point may come back from the picture beside where it was: farther, the lens folds."""

_ROBUST_PASSES = 3
_CAUCHY = 2.385**2 / (2 * np.log(2))
"""Squared scale of Cauchy's weight over the median squared residual: 2.385 standard deviations keep 95 % of
least squares' efficiency on normal noise, and the median squared length of 2D noise is 2 ln 2 variances."""

_MIN_JOINTS = 3.0
"""Effective number of joints, (sum w)^2 / sum w^2, below which reprojection is not tried."""


@dataclass
class Placed:
    """N hands in the picture and in the optical frame; fields as in `Hands`, in float64 where not said."""

    joints_2d: NDArray[np.float64]
    joints_3d: NDArray[np.float64]
    vertices: NDArray[np.float64]
    root_translation: NDArray[np.float64]
    translation_source: NDArray[np.uint8]


def place(
    decoded: Decoded, letterbox: Letterbox, camera: Camera, *, mesh: bool = True, reproject: bool = True
) -> Placed:
    """Turn the decoder's word on N hands into pixels of the picture and metres of the optical frame.

    Args:
        decoded: N hands.
        letterbox: of the picture.
        camera: of the picture, at its size.
        mesh: without it `vertices` is (N, 0, 3).
        reproject: without it the camera query alone places hands, and the 2D queries alone 2D joints.
    """
    joints_2d = letterbox.to_pixels(decoded.joints_2d)
    placed = _before(camera, decoded, letterbox, joints_2d, reproject)
    if camera.source is KSource.ASSUMED:
        far = replace(camera, k=camera.k * [[_FAR_FOCAL, 1, 1], [1, _FAR_FOCAL, 1], [1, 1, 1]])
        met = _meeting(joints_2d, _before(far, decoded, letterbox, joints_2d, reproject), decoded, far)
    else:
        met = _meeting(joints_2d, placed, decoded, camera)
    vertices = decoded.vertices if mesh else decoded.vertices[:, :0]
    source = np.where(placed.plausible, TranslationSource.REPROJECTION, TranslationSource.NETWORK)
    return Placed(
        joints_2d=met,
        joints_3d=placed.joints,
        vertices=vertices @ placed.turns.swapaxes(1, 2) + placed.translation[:, None],
        root_translation=placed.translation,
        translation_source=source.astype(np.uint8),
    )


@dataclass
class _Before:
    """N hands before one camera.

    Attributes:
        joints: (N, 21, 3) m, optical frame.
        turns: (N, 3, 3) from the ray frame.
        translation: (N, 3) m, of the wrist.
        plausible: (N,) whether reprojection gave it.
        seen: (N, 21) whether the lens's distortion is to be believed at the 2D joint.
    """

    joints: NDArray[np.float64]
    turns: NDArray[np.float64]
    translation: NDArray[np.float64]
    plausible: NDArray[np.bool_]
    seen: NDArray[np.bool_]


def _before(
    camera: Camera, decoded: Decoded, letterbox: Letterbox, joints_2d: NDArray, reproject: bool
) -> _Before:
    rays, _ = to_rays(camera, letterbox.to_pixels(decoded.root_2d))
    points, seen = to_rays(camera, joints_2d)
    turns = ray_rotations(rays)
    relative = decoded.joints_3d @ turns.swapaxes(1, 2)

    # The picture is resized nearly evenly; sqrt of the product is what area and so apparent size obey.
    focal = focal_lengths(camera, rays) * np.sqrt(letterbox.scale_x * letterbox.scale_y)
    depths = focal / np.maximum(decoded.scale.astype(np.float64), 1e-6)
    network = np.concatenate([rays, np.ones_like(rays[:, :1])], 1) * depths[:, None]

    weights = decoded.joint_scores * seen
    solved, spread = translations(relative, points, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        nearest = solved[:, 2] + relative[..., 2].min(1)
        plausible = (
            reproject
            & (spread * focal > _MIN_SPREAD)
            & (weights.sum(1) ** 2 > _MIN_JOINTS * (weights**2).sum(1))
            & (nearest > 0)
            & (np.abs(np.log(solved[:, 2] / depths)) < np.log(PLAUSIBLE_FACTOR))
        )
    translation = np.where(plausible[:, None], solved, network)
    return _Before(relative + translation[:, None], turns, translation, plausible, seen)


def _meeting(joints_2d: NDArray, placed: _Before, decoded: Decoded, camera: Camera) -> NDArray:
    """(N, 21, 2) px between `joints_2d` and the picture of the 3D joints, by the scores of the former.

    Where reprojection did not place the hand, and where a 3D joint is next to the camera or outside what its
    lens sees, the 2D joint stands alone.
    """
    projected, believable = pictured(placed.joints, camera)
    where = placed.seen & placed.plausible[:, None] & believable
    share = np.where(where, decoded.joint_scores, 1.0)[..., None]
    return share * joints_2d + (1 - share) * projected


def pictured(joints_3d: NDArray, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where joints in the optical frame are in the picture, and whether that is to be believed.

    Not next to the camera or behind it, nor outside what the lens sees, where its polynomial folds back.

    Args:
        joints_3d: (N, 21, 3) m, the wrist first.
        camera: of the picture.

    Returns:
        (N, 21, 2) px, which say nothing where (N, 21) is false.
    """
    depth = joints_3d[..., 2]
    believable = np.isfinite(joints_3d).all(-1) & (depth > np.maximum(_NEAREST * depth[:, :1], 1e-9))
    points = np.where(believable[..., None], joints_3d, [0.0, 0.0, 1.0])
    projected = camera.project(points)
    rays, sharp = to_rays(camera, projected)
    sharp &= (np.abs(rays - points[..., :2] / points[..., 2:]) < _SAME_RAY).all(-1)
    return projected, believable & sharp


def translations(
    joints_3d: NDArray, points: NDArray, weights: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Translations at which joints meet their picture points, all hands at once.

    Joint (X, Y, Z) + t is seen at (x, y) on the plane z = 1 when t_x - x t_z = x Z - X, and alike for y:
    linear in t. The first solution weighs these equations by `weights`; the next ones divide them by the
    depths so found, which turns the residuals into distances in the picture, and by Cauchy's weight, so
    that a joint in the wrong place does not move the hand.

    Args:
        joints_3d: (N, J, 3) m, axes of the optical frame, any origin.
        points: (N, J, 2) on the plane z = 1.
        weights: (N, J) >= 0.

    Returns:
        (N, 3) translations, not finite or nonsense where the problem is degenerate, and (N,) root mean
        square distance of the points from their mean, by which to tell.
    """
    rhs = points * joints_3d[..., 2:] - joints_3d[..., :2]
    weights = np.asarray(weights, np.float64)
    solved, spread = _least_squares(points, rhs, weights)
    for _ in range(_ROBUST_PASSES):
        far = solved[:, None, 2]
        depth = np.maximum(joints_3d[..., 2] + far, 0.1 * np.abs(far) + 1e-6)
        residual = (rhs + points * far[..., None] - solved[:, None, :2]) / depth[..., None]
        squared = np.einsum("njk,njk->nj", residual, residual)
        noise = np.maximum(_CAUCHY * np.median(squared, 1), (0.02 * spread) ** 2 + 1e-12)
        robust = weights / (depth * depth) / (1 + squared / noise[:, None])
        solved, _ = _least_squares(points, rhs, robust)
    return solved, spread


def _least_squares(points: NDArray, rhs: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Solve t_xy - points t_z = rhs: the 3 x 3 normal equations by eliminating t_x and t_y.

    Elimination is the same as measuring points and right sides from their weighted means; it keeps the
    digits that the normal equations lose for a small hand far from the picture's centre.
    """
    total = np.maximum(weights.sum(1), 1e-12)[:, None, None]
    w = weights[..., None] / total
    mean_point, mean_rhs = (w * points).sum(1), (w * rhs).sum(1)
    centred = points - mean_point[:, None]
    variance = (w * centred * centred).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = -(w * centred * (rhs - mean_rhs[:, None])).sum((1, 2)) / variance
        xy = mean_rhs + mean_point * depth[:, None]
    return np.nan_to_num(np.concatenate([xy, depth[:, None]], 1), nan=-1.0), np.sqrt(variance)


def ray_rotations(rays: NDArray) -> NDArray[np.float64]:
    """(N, 2) points on the plane z = 1 -> (N, 3, 3) smallest rotations taking +z to their rays."""
    direction = np.concatenate([rays, np.ones_like(rays[:, :1])], 1)
    x, y, z = (direction / np.linalg.norm(direction, axis=1, keepdims=True)).T
    k = 1 / (1 + z)
    rows = [1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z]
    return np.stack(rows, -1).reshape(-1, 3, 3)


def focal_lengths(camera: Camera, rays: NDArray) -> NDArray[np.float64]:
    """(N, 2) points on the plane z = 1 -> (N,) px of the picture that a unit on that plane spans there.

    The square root of the area's magnification: sqrt(fx fy) without distortion, and what distortion
    makes of it elsewhere.
    """
    if not len(camera.distortion):
        return np.full(len(rays), np.sqrt(camera.k[0, 0] * camera.k[1, 1]))
    step = 1e-4
    offsets = np.array([[step, 0], [-step, 0], [0, step], [0, -step]])
    around = rays[:, None] + offsets
    pixels = camera.project(np.concatenate([around, np.ones_like(around[..., :1])], -1))
    du, dv = (pixels[:, 0] - pixels[:, 1]) / (2 * step), (pixels[:, 2] - pixels[:, 3]) / (2 * step)
    return np.sqrt(np.abs(du[:, 0] * dv[:, 1] - du[:, 1] * dv[:, 0]))


def to_rays(camera: Camera, points: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Picture points (..., 2) px -> points on the plane z = 1, and (...) whether distortion allows them.

    Distortion is fitted to what the lens sees. Well beyond it the polynomial folds back and cannot be
    inverted, or has another inverse; a joint predicted out there gets the ray of the lens without
    distortion, marked as false.
    """
    if not len(camera.distortion):
        return camera.undistorted(points), np.ones(points.shape[:-1], bool)
    rays = camera.undistorted(points)
    again = camera.project(np.concatenate([rays, np.ones_like(rays[..., :1])], -1))
    with np.errstate(invalid="ignore"):
        good = (np.abs(again - points) < 0.5).all(-1)
    size = np.array([camera.width, camera.height])
    good &= (np.abs(points - (size - 1) / 2) < size / 2 + _LENS_MARGIN * size.max()).all(-1)
    plain = Camera(camera.k, camera.width, camera.height).undistorted(points)
    return np.where(good[..., None], rays, plain), good
