"""From the labels of a batch to what the network should have said: hands picked, ray frame, projection.

The network's frames are those of `inference.backend`: points are fractions of the padded picture, metric
points lie in the hand's ray frame, whose z axis points along the camera's ray through the wrist.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.sample import FAR_OUTSIDE, Batch

FAR_LENS = 100.0
"""Focal length of a camera that nobody knows, in longer sides of the picture."""
NEAREST_DEPTH = 0.1
"""Points nearer than this fraction of the wrist's depth are projected as if they lay there."""


@dataclass(eq=False)
class Targets:
    """Labels of M hands, each for one decoded query.

    Attributes:
        joints_2d: (M, 21, 2) px of the padded picture.
        joints_2d_weight: (M, 21), 0 where there is no label or the joint lies far outside the picture: one
            beside the camera may have its projection thousands of pixels away, and would rule the batch.
        area: (M,) px^2 of the labelled box, at least 1.
        joints_3d: (M, 21, 3) m, ray frame, wrist at 0.
        exact_3d: (M,) bool, whether `joints_3d` may be compared as it is.
        weak_3d: (M,) bool, whether `joints_3d` is there, but of unsure size and direction.
        vertices: (M, V, 3) m, ray frame, wrist at 0.
        has_vertices: (M,) bool.
        handedness: (M,) int64, -1 unknown.
        k: (M, 3, 3) px, a camera far away (centred) where nobody knows it.
        picture_size: W and H of the padded picture.
    """

    joints_2d: Tensor
    joints_2d_weight: Tensor
    area: Tensor
    joints_3d: Tensor
    exact_3d: Tensor
    weak_3d: Tensor
    vertices: Tensor
    has_vertices: Tensor
    handedness: Tensor
    k: Tensor
    picture_size: tuple[int, int]


def gather_targets(batch: Batch, picture: Tensor, hand: Tensor) -> Targets:
    """The targets of M queries: query i was matched to hand `hand[i]` of picture `picture[i]`, both (M,)."""
    k = intrinsics_or_far(batch)[picture]
    joints_2d = batch.joints_2d[picture, hand]
    joints_3d = batch.joints_3d[picture, hand]
    has_3d, absolute = batch.has_joints_3d[picture, hand], batch.joints_3d_absolute[picture, hand]
    exact, weak = has_3d & absolute, has_3d & ~absolute

    seen_from = unproject(joints_2d[:, 0], k)
    straight = torch.tensor([0.0, 0.0, 1.0], device=k.device)
    ray = torch.where(
        exact[:, None],
        joints_3d[:, 0],
        torch.where((weak & batch.has_k[picture])[:, None], seen_from, straight),
    )
    to_ray = rotation_to_ray(torch.where(has_3d[:, None], ray, straight)).transpose(1, 2)
    wrist = joints_3d[:, :1]
    box = batch.boxes_px[picture, hand]
    height, width = batch.picture_size
    last = joints_2d.new_tensor([width - 0.5, height - 0.5])
    near = torch.maximum(-0.5 - joints_2d, joints_2d - last).amax(-1) <= FAR_OUTSIDE * max(width, height)
    return Targets(
        joints_2d=joints_2d,
        joints_2d_weight=batch.joints_2d_weight[picture, hand] * near,
        area=((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).clamp(min=1.0),
        joints_3d=(joints_3d - wrist) @ to_ray,
        exact_3d=exact,
        weak_3d=weak,
        vertices=(batch.vertices[picture, hand] - wrist) @ to_ray,
        has_vertices=batch.has_vertices[picture, hand] & exact,
        handedness=batch.handedness[picture, hand],
        k=k,
        picture_size=(width, height),
    )


def intrinsics_or_far(batch: Batch) -> Tensor:
    """(B, 3, 3) px: the pictures' own K, or one without perspective where it is unknown.

    A photograph that was cut out, enlarged and put beside others says nothing of how far its hand was from
    the camera. With f = its longer side, a hand that fills it would be 20 cm away and look bent.
    """
    height, width = batch.size[:, 0].float(), batch.size[:, 1].float()
    assumed = torch.zeros_like(batch.k)
    assumed[:, 0, 0] = assumed[:, 1, 1] = FAR_LENS * torch.maximum(height, width)
    assumed[:, 0, 2], assumed[:, 1, 2], assumed[:, 2, 2] = (width - 1) / 2, (height - 1) / 2, 1.0
    return torch.where(batch.has_k[:, None, None], batch.k, assumed)


def rotation_to_ray(ray: Tensor) -> Tensor:
    """(..., 3) directions in the optical frame, not backwards -> (..., 3, 3) rotations R.

    R is the smallest rotation with R ray = |ray| (0, 0, 1): it takes optical axes to the ray frame's.
    """
    x, y, z = torch.nn.functional.normalize(ray, dim=-1).unbind(-1)
    # Rodrigues' formula for the axis (y, -x, 0) with cosine z; 1 + z is 0 only straight backwards.
    c = 1.0 / (1.0 + z).clamp(min=1e-6)
    rows = [1 - x * x * c, -x * y * c, -x, -x * y * c, 1 - y * y * c, -y, x, y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def unproject(points: Tensor, k: Tensor) -> Tensor:
    """(M, 2) px and (M, 3, 3) intrinsics -> (M, 3) points at z = 1 m in the optical frame."""
    y = (points[:, 1] - k[:, 1, 2]) / k[:, 1, 1]
    x = (points[:, 0] - k[:, 0, 2] - k[:, 0, 1] * y) / k[:, 0, 0]
    return torch.stack([x, y, torch.ones_like(x)], -1)


def to_pixels(fractions: Tensor, picture_size: tuple[int, int]) -> Tensor:
    """(..., 2) fractions of the padded picture (W, H) -> px with pixel centres at whole numbers."""
    return fractions * fractions.new_tensor(picture_size) - 0.5


def project(joints: Tensor, root_2d: Tensor, scale: Tensor, k: Tensor) -> Tensor:
    """Ray-frame points of M hands -> (M, P, 2) px, through the camera head's place for each hand.

    Args:
        joints: (M, P, 3) m, ray frame.
        root_2d: (M, 2) px, the wrist.
        scale: (M,) px per metre at the wrist's depth, above 0: depth is sqrt(fx fy) / scale.
        k: (M, 3, 3) px.
    """
    ray = unproject(root_2d, k)
    depth = torch.sqrt(k[:, 0, 0] * k[:, 1, 1]) / scale
    points = joints @ rotation_to_ray(ray) + (ray * depth[:, None])[:, None]
    z = torch.maximum(points[..., 2], NEAREST_DEPTH * depth[:, None])
    u, v = points[..., 0] / z, points[..., 1] / z
    return torch.stack(
        [
            k[:, 0, 0, None] * u + k[:, 0, 1, None] * v + k[:, 0, 2, None],
            k[:, 1, 1, None] * v + k[:, 1, 2, None],
        ],
        -1,
    )
