"""The training losses: the nine terms of HandOS with their weights, and five for weak labels, scores, sizes.

Each term is a pure function of M hands that returns a scalar: a mean over what is labelled, weighted by
how sure the label is. Where nothing is labelled it is exactly 0, with gradient 0. Units are chosen so
that every hand counts alike whatever its size in the picture: 2D errors are in units of the square root
of the box's area (HandOS does not say; OKS has the same unit), 3D errors in units of 0.1 m, about as much
of a hand's size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from handos_ros.hands import JOINT_PARENTS
from handos_ros.learning.training.targets import Targets, project, to_pixels

OKS_SIGMAS: tuple[float, ...] = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024,
    0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip
"""Spread of annotators at each joint, relative to sqrt(area): COCO-WholeBody's values for hands."""

LENGTH_UNIT = 0.1
"""m. In metres the published weights would leave 3D terms a tenth of the 2D terms for the same error: one
hand, learned by heart, is then still 16 mm off in 3D when it has long been exact in 2D."""
TEACHER_ROTATION = math.radians(15)
"""How far a teacher's 3D hand may be turned before that counts as an error; see `weak_joints_3d_loss`."""
_TEACHER_SCALE = (0.9, 1.1)
"""What a prediction's size may be beside a teacher's, which knows no more than how large hands are."""
_STRETCH = 0.3
"""By which part of its length an edge of an unlabelled mesh may differ from the template's, of the same size:
of rendered hands nine edges in ten do not, however they are posed."""
_SHORTEST_EDGE = 2e-3
"""m. Shorter edges' errors are measured against this: a sliver's own length would make much of nothing."""
_PARENTS = list(JOINT_PARENTS[1:])


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; 0 leaves a term out. The first nine are those of HandOS, supplement I.2.

    Attributes:
        oks_width: factor on the joints' sigmas in both OKS terms. At 1, as published, their pull is strongest
            on joints that are 0.05 of a hand's size off and a quarter of that at 0.12, where it decides
            whether a joint counts as found; at 2 it is strongest there.
        presence: of what the decoder says on whether a candidate is a hand, `stages.presence_loss`.
    """

    joints_2d: float = 10.0
    oks_2d: float = 4.0
    vertices: float = 10.0
    joints_3d: float = 10.0
    normal: float = 5.0
    edge: float = 10.0
    joints_proj: float = 10.0
    oks_proj: float = 4.0
    nc: float = 0.5
    weak_joints_3d: float = 5.0
    confidence: float = 0.5
    bones: float = 0.0
    stretch: float = 0.0
    oks_width: float = 1.0
    presence: float = 2.0


@dataclass(eq=False)
class Predictions:
    """What one decoder layer says of M hands; all but the first are None in a 2D model.

    Attributes:
        joints_2d: (M, 21, 2) fractions of the padded picture.
        joint_logits: (M, 21), whose sigmoid is the joint score.
        joints_3d: (M, 21, 3) m, ray frame, wrist at 0.
        vertices: (M, V, 3) m, ray frame.
        root_2d: (M, 2) fractions of the padded picture, the wrist by the camera query.
        scale: (M,) px of the padded picture per metre at the wrist's depth.
    """

    joints_2d: Tensor
    joint_logits: Tensor | None = None
    joints_3d: Tensor | None = None
    vertices: Tensor | None = None
    root_2d: Tensor | None = None
    scale: Tensor | None = None


def hand_losses(
    predictions: Predictions, targets: Targets, weights: LossWeights, mesh: MeshTopology | None = None
) -> dict[str, Tensor]:
    """Every term that has a weight and a prediction, unweighted, by its name in `LossWeights`.

    `mesh` is needed as soon as vertices are predicted.
    """
    p, t = predictions, targets
    area, weight_2d = t.area, t.joints_2d_weight
    terms: dict[str, Tensor] = {}
    joints_2d = to_pixels(p.joints_2d.float(), t.picture_size)
    if weights.joints_2d:
        terms["joints_2d"] = joints_2d_loss(joints_2d, t.joints_2d, weight_2d, area)
    if weights.oks_2d:
        terms["oks_2d"] = oks_loss(joints_2d, t.joints_2d, weight_2d, area, weights.oks_width)
    if weights.confidence and p.joint_logits is not None:
        terms["confidence"] = confidence_loss(p.joint_logits.float(), joints_2d, t.joints_2d, weight_2d, area)
    if p.joints_3d is not None:
        joints_3d = p.joints_3d.float()
        if weights.joints_3d:
            terms["joints_3d"] = points_loss(joints_3d, t.joints_3d, t.exact_3d) / LENGTH_UNIT
        if weights.weak_joints_3d:
            terms["weak_joints_3d"] = weak_joints_3d_loss(joints_3d, t.joints_3d, t.weak_3d) / LENGTH_UNIT
        if weights.bones:
            terms["bones"] = bones_loss(joints_3d, t.joints_3d, t.exact_3d | t.weak_3d) / LENGTH_UNIT
        if p.root_2d is not None and p.scale is not None and (weights.joints_proj or weights.oks_proj):
            root = to_pixels(p.root_2d.float(), t.picture_size)
            projected = project(joints_3d, root, p.scale.float(), t.k)
            if weights.joints_proj:
                terms["joints_proj"] = joints_2d_loss(projected, t.joints_2d, weight_2d, area)
            if weights.oks_proj:
                terms["oks_proj"] = oks_loss(projected, t.joints_2d, weight_2d, area, weights.oks_width)
    if p.vertices is not None:
        if mesh is None:
            raise ValueError("losses on vertices need the mesh's topology")
        vertices, has = p.vertices.float(), t.has_vertices
        # A batch without any mesh carries V = 0; its mask is all false, so what stands there is unread.
        labels = t.vertices if t.vertices.shape[1] else torch.zeros_like(vertices)
        if weights.vertices:
            terms["vertices"] = points_loss(vertices, labels, has) / LENGTH_UNIT
        said, label = mesh.surface(vertices), mesh.surface(labels)
        if weights.normal:
            terms["normal"] = normal_loss(said, label, has)
        if weights.edge:
            terms["edge"] = edge_loss(said, label, has) / LENGTH_UNIT
        if weights.stretch:
            terms["stretch"] = stretch_loss(said, label, mesh.rest_lengths, has, has | (weight_2d > 0).any(1))
        if weights.nc:
            terms["nc"] = signed_normal_loss(said, label, has, t.handedness, mesh.margin)
    return terms


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The scalar to minimise."""
    by_name = {f.name: getattr(weights, f.name) for f in fields(weights)}
    return torch.stack([by_name[name] * value for name, value in terms.items()]).sum()


def masked_mean(value: Tensor, weight: Tensor) -> Tensor:
    """Mean of `value` weighted by `weight` >= 0 of the same shape; 0, with gradient 0, where all are 0.

    A value that is not finite does no harm under a weight of 0.
    """
    weight = weight.to(value.dtype)
    value = torch.where(weight > 0, value, value.new_zeros(()))
    return (value * weight).sum() / weight.sum().clamp(min=1e-6)


def joints_2d_loss(joints: Tensor, label: Tensor, weight: Tensor, area: Tensor) -> Tensor:
    """L1 in the picture: mean over labelled joints of (|dx| + |dy|) / 2 / sqrt(area).

    Args:
        joints, label: (M, 21, 2) px.
        weight: (M, 21).
        area: (M,) px^2.
    """
    return masked_mean((joints - label).abs().mean(-1) / area.sqrt()[:, None], weight)


def oks_loss(joints: Tensor, label: Tensor, weight: Tensor, area: Tensor, width: float = 1.0) -> Tensor:
    """1 - OKS, arguments as in `joints_2d_loss`. Bounded, so that one wrong label cannot rule a batch."""
    return masked_mean(1 - joint_similarity(joints, label, area, width), weight)


def joint_similarity(joints: Tensor, label: Tensor, area: Tensor, width: float = 1.0) -> Tensor:
    """(M, 21): exp(-d^2 / (2 area (2 sigma)^2)), each joint's share of OKS, as COCO counts it, in px.

    `width` is a factor on the sigmas.
    """
    sigmas = joints.new_tensor(OKS_SIGMAS) * width
    squared = (joints - label).square().sum(-1)
    return torch.exp(-squared / (2 * area[:, None] * (2 * sigmas).square()))


def confidence_loss(logits: Tensor, joints: Tensor, label: Tensor, weight: Tensor, area: Tensor) -> Tensor:
    """Cross-entropy of the joint scores (M, 21) against each joint's own OKS, which gets no gradient.

    A score so trained is high where the joint turns out near its label and low where the network cannot
    know, hidden or not: the weight that a least-squares fit of the 3D joints to the 2D joints needs.
    """
    reached = joint_similarity(joints, label, area).detach()
    return masked_mean(F.binary_cross_entropy_with_logits(logits, reached, reduction="none"), weight)


def points_loss(points: Tensor, label: Tensor, has: Tensor) -> Tensor:
    """L1 in space: mean of |difference| in metres over all coordinates of the hands that `has` (M,) names.

    points, label: (M, P, 3) m in the same root-relative frame.
    """
    return masked_mean((points - label).abs().mean((1, 2)), has)


def weak_joints_3d_loss(joints: Tensor, label: Tensor, has: Tensor) -> Tensor:
    """L1 in metres to a teacher's joints (M, 21, 3), after allowing for what the teacher cannot know.

    The label is first turned towards the prediction by at most `TEACHER_ROTATION`, and the prediction
    brought to the label's size where it has nearly that already: networks that see a crop err mostly in size
    and by a small turn, not in how the fingers bend. It is never mirrored, so a hand of the wrong side
    keeps its whole error. The turn gets no gradient; the size does, or every hand in doubt would shrink,
    which makes any difference smaller.
    """
    if not len(joints):
        return joints.sum()
    with torch.no_grad():
        label = torch.where(has[:, None, None], label, torch.ones_like(label))
        label = label @ _limited(_best_rotation(label, joints), TEACHER_ROTATION).transpose(1, 2)
    size, wanted = ((p.square().sum((1, 2)) + 1e-9).sqrt() for p in (joints, label))
    return points_loss(joints / (size / wanted).clamp(*_TEACHER_SCALE)[:, None, None], label, has)


def bones_loss(joints: Tensor, label: Tensor, has: Tensor) -> Tensor:
    """Mean |length - label's length| in metres over the 20 bones of (M, 21, 3) joints.

    Where a pose is in doubt the nearest joints to all that it may be are a hand too small, and with its
    size goes its distance. Lengths are in no such doubt.
    """
    said, wanted = (((p[:, 1:] - p[:, _PARENTS]).square().sum(-1) + 1e-9).sqrt() for p in (joints, label))
    return masked_mean((said - wanted).abs().mean(1), has)


def _best_rotation(source: Tensor, target: Tensor) -> Tensor:
    """(M, 3, 3) proper rotations R that bring R source nearest to target, about the origin (Kabsch)."""
    u, _, vt = torch.linalg.svd(target.transpose(1, 2) @ source)
    sign = torch.ones_like(u[:, 0])
    sign[:, 2] = torch.det(u @ vt)
    return u @ (sign[:, :, None] * vt)


def _limited(rotation: Tensor, angle: float) -> Tensor:
    """(M, 3, 3) rotations about the same axes, by at most `angle` rad."""
    r = rotation
    axis = torch.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], -1)
    sine, cosine = axis.norm(dim=-1) / 2, (r.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    angle_there = torch.atan2(sine, cosine).clamp(max=angle)[:, None, None]
    zero = torch.zeros_like(sine)
    x, y, z = F.normalize(axis, dim=-1).unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, device=r.device) + angle_there.sin() * cross + (1 - angle_there.cos()) * cross @ cross


class MeshTopology(torch.nn.Module):
    """The triangles of the hand mesh, on the losses' device.

    Args:
        faces: (F, 3) vertex numbers, outward on a right hand.
        template: (V, 3) m, a right hand at rest with the wrist at 0; tells how large a signed volume a
            hand of certain side has.
    """

    corners: Tensor
    rest_lengths: Tensor
    margin: float

    def __init__(self, faces: Tensor, template: Tensor) -> None:
        super().__init__()
        corners = torch.as_tensor(faces).long().t().reshape(-1)
        self.register_buffer("corners", corners.clone(), persistent=False)
        rest = torch.as_tensor(template, dtype=torch.float32).clone()[None]
        # Bent fingers and slim hands have less; half of the template's is still beyond doubt.
        self.margin = 0.5 * float(self.surface(rest).roundness[0])
        self.register_buffer("rest_lengths", self.surface(rest).lengths, persistent=False)
        if self.margin <= 0:
            raise ValueError("the template's faces point inwards: a right hand's must point outwards")

    def surface(self, vertices: Tensor) -> Surface:
        """What the losses need to know of M meshes, (M, V, 3) m."""
        # Coordinates first and hands last: on a CPU this is seven times as fast as (M, F, 3), in which
        # every operation has an innermost loop of three steps.
        by_axis = vertices.permute(2, 1, 0).contiguous()
        return Surface(by_axis.index_select(1, self.corners).unflatten(1, (3, -1)))


class Surface:
    """The faces of M meshes; everything is worked out when first asked for, and once.

    Args:
        corners: (3 axes, 3 corners, F, M) m.
    """

    def __init__(self, corners: Tensor) -> None:
        self._corners = corners

    @functools.cached_property
    def edges(self) -> Tensor:
        """(3 axes, 3 edges, F, M) m: from each corner to the next."""
        return self._corners.roll(-1, 1) - self._corners

    @functools.cached_property
    def lengths(self) -> Tensor:
        """(3 edges, F, M) m."""
        return (self.edges.square().sum(0) + 1e-12).sqrt()  # the root of 0 has no gradient

    @functools.cached_property
    def normals(self) -> Tensor:
        """(3 axes, F, M), unit length, next to 0 for a face without area."""
        crossed = self._crossed
        return crossed * (crossed.square().sum(0) + 1e-20).rsqrt()

    @functools.cached_property
    def roundness(self) -> Tensor:
        """(M,) signed volume over that of a ball with as much surface: > 0 right, < 0 left, free of size.

        The surface gets no gradient: a hand should not change its side by shrinking. The origin (the
        wrist) is the apex of the volume, which closes meshes that are open at the wrist, as MANO's is.
        """
        volume = (self._corners[:, 0] * self._crossed).sum((0, 1)) / 6
        area = self._crossed.detach().square().sum(0).sqrt().sum(0) / 2
        return volume * 6 * math.sqrt(math.pi) / area.clamp(min=1e-6).pow(1.5)

    @functools.cached_property
    def _crossed(self) -> Tensor:
        """(3 axes, F, M) m^2: normals as long as twice the faces' area."""
        (ux, uy, uz), (vx, vy, vz) = self.edges[:, 0], self.edges[:, 1]
        return torch.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx])


def normal_loss(mesh: Surface, label: Surface, has: Tensor) -> Tensor:
    """Mean |edge . normal| over the three edges of every face: predicted edge's direction, label's normal.

    Blind to the side, which `signed_normal_loss` sees. `has` (M,): which hands have a label.
    """
    off = (mesh.edges * label.normals[:, None]).sum(0).abs() / mesh.lengths
    return masked_mean(off.mean((0, 1)), has)


def edge_loss(mesh: Surface, label: Surface, has: Tensor) -> Tensor:
    """Mean |length - label's length| in metres over the three edges of every face."""
    return masked_mean((mesh.lengths - label.lengths).abs().mean((0, 1)), has)


def stretch_loss(mesh: Surface, label: Surface, rest: Tensor, has: Tensor, counts: Tensor) -> Tensor:
    """Mean error of the lengths of all edges relative to what they should be: a spike is long, however small.

    With a labelled mesh that is the label's. Without one it is the template's length, times the hand's own
    size against the template, and errors below `_STRETCH` are none: bending stretches skin.

    Args:
        mesh, label: M hands.
        rest: (3, F, 1) m, edges of the template.
        has: (M,) whether `label` is there.
        counts: (M,) which hands count.
    """
    size = (mesh.lengths.mean((0, 1)) / rest.mean()).detach()
    wanted = torch.where(has, label.lengths, rest * size)
    off = (mesh.lengths - wanted).abs() / wanted.clamp(min=_SHORTEST_EDGE)
    off = torch.where(has, off, (off - _STRETCH).clamp(min=0))
    return masked_mean(off.mean((0, 1)), counts)


def signed_normal_loss(
    mesh: Surface, label: Surface, has: Tensor, handedness: Tensor, margin: float
) -> Tensor:
    """`nc`: do the faces point where they should? Unlike `normal_loss` it keeps the sign, hence the side.

    With a labelled mesh: mean over faces of 1 - normal . label's normal, 0 to 2. With a side alone: how
    far the mesh's signed volume falls short of one that makes the side plain, 0 where it does not, 1 for
    a flat hand, 2 where it is as far on the other side. Its gradient moves the two faces of the hand
    through each other, along their normals. With neither: nothing.

    Args:
        mesh, label: M hands, by the faces of a right hand.
        has: (M,) bool, whether `label` is there.
        handedness: (M,) 0 left, 1 right, -1 unknown.
        margin: the roundness that makes a side plain, of `MeshTopology`.
    """
    by_label = 1 - (mesh.normals * label.normals).sum(0).mean(0)
    wanted = 2 * handedness.to(by_label.dtype) - 1
    by_side = (1 - wanted * mesh.roundness / margin).clamp(min=0)
    return masked_mean(torch.where(has, by_label, by_side), has | (handedness >= 0))
