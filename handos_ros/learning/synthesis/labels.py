"""What is known of each rendered hand: box, joints, what can be seen of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.raster import EMPTY, faces_of, inverse_depths_of
from handos_ros.learning.synthesis.render import Layer
from handos_ros.learning.synthesis.scene import MAX_HANDS, Scene

LEAST_SEEN = 0.1
"""Share of its box that a hand must show to be labelled (a whole hand fills about half of its own)."""
LEAST_PIXELS = 20.0

DEPTHS = (0.036,) + (0.028, 0.022, 0.016, 0.012) + (0.024, 0.017, 0.014, 0.012) * 4
"""m of an average hand's own flesh that may lie between a joint that counts as seen and its surface."""


@dataclass
class Labels:
    """Labels of B pictures, K = `MAX_HANDS` places each, 0 where `valid` is false.

    Attributes:
        valid: (B, K) bool; hands of which too little can be seen are not.
        boxes: (B, K, 4) px, around all of the hand's vertices, hidden ones too, cut off at the picture's
            border (-0.5 to W - 0.5).
        side: (B, K) 0 left, 1 right.
        joints_2d: (B, K, 21, 2) px, as projected, also outside of the picture.
        visibility: (B, K, 21) 1 seen, 0 hidden or outside.
        joints_3d: (B, K, 21, 3) m. vertices: (B, K, V, 3) m; optical frame.
    """

    valid: Tensor
    boxes: Tensor
    side: Tensor
    joints_2d: Tensor
    visibility: Tensor
    joints_3d: Tensor
    vertices: Tensor

    @classmethod
    def cat(cls, parts: list[Labels]) -> Labels:
        """Pictures one after the other."""
        return cls(**{name: torch.cat([getattr(p, name) for p in parts]) for name in vars(parts[0])})

    def select(self, index: Tensor) -> Labels:
        """The pictures that `index` names."""
        return Labels(**{name: value[index] for name, value in vars(self).items()})


def label(scene: Scene, layer: Layer) -> Labels:
    """Label all hands of the scenes."""
    b, height, width = scene.size
    hands, picture = scene.hands.points, scene.hands.picture
    k = scene.k[picture]
    joints_2d = project(scene.joints, k)
    vertices_2d = project(hands, k)
    limit = torch.tensor([width, height], device=k.device) - 0.5
    low = torch.minimum(vertices_2d.amin(1).clamp(min=-0.5), limit)
    high = torch.minimum(vertices_2d.amax(1), limit).clamp(min=-0.5)
    boxes = torch.cat([low, high], 1)
    area = (high - low).prod(1)
    seen = layer.seen[: len(hands)]
    valid = (seen >= LEAST_PIXELS) & (seen >= LEAST_SEEN * area)

    visibility = _visibility(scene, layer, joints_2d)
    at = picture * MAX_HANDS + scene.slot

    def padded(values: Tensor) -> Tensor:
        out = values.new_zeros(b * MAX_HANDS, *values.shape[1:])
        out[at[valid]] = values[valid]
        return out.unflatten(0, (b, MAX_HANDS))

    return Labels(
        padded(valid), padded(boxes), padded(scene.side), padded(joints_2d), padded(visibility),
        padded(scene.joints), padded(hands),
    )  # fmt: skip


def project(points: Tensor, k: Tensor) -> Tensor:
    """Points (N, M, 3) m through (N, 3, 3) -> (N, M, 2) px."""
    flat = points[..., :2] / points[..., 2:].clamp(min=1e-3)
    return flat * k[:, None, [0, 1], [0, 1]] + k[:, None, :2, 2]


def _visibility(scene: Scene, layer: Layer, joints_2d: Tensor) -> Tensor:
    """(N, 21) 1 where a joint is in the picture and only its own flesh lies before it."""
    _, height, width = scene.size
    n = len(joints_2d)
    place = (joints_2d * 2 + 0.5).round()
    inside = ((place >= 0) & (place < place.new_tensor([2 * width, 2 * height]))).all(-1)
    column, row = place.long().unbind(-1)
    column, row = column.clamp(0, 2 * width - 1), row.clamp(0, 2 * height - 1)
    keys = layer.keys[(scene.hands.picture[:, None] * 2 * height + row) * 2 * width + column]
    open_ = keys == EMPTY
    thing = layer.surfaces.thing
    faces = faces_of(keys).clamp(max=max(len(thing) - 1, 0))
    own = ~open_ & (thing[faces] == torch.arange(n, device=keys.device)[:, None]) if len(thing) else open_
    surface = 1 / inverse_depths_of(keys).clamp(min=1e-6)
    size = (scene.joints[:, 9] - scene.joints[:, 0]).norm(dim=-1, keepdim=True) / 0.09
    flesh = torch.tensor(DEPTHS, device=keys.device) * size
    before = scene.joints[..., 2] - surface
    free = open_ | (own & (before < flesh)) | (~own & (before < 0))
    return (free & inside).float()
