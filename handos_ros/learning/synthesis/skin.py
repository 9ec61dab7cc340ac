"""The skin of a hand as maps over its surface: pigment, redness, palm, nails, and slopes of creases.

Nothing is scanned: everything follows from where a point lies on the hand model, and from noise. The
surface is cut into two charts, seen along the palm's normal with the fingers straightened: the palm's
side and the back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from handos_ros.learning.synthesis.contact import FINGER_RADIUS
from handos_ros.learning.synthesis.noise import SolidNoise
from handos_ros.learning.synthesis.poses import PoseSampler
from handos_ros.learning.synthesis.raster import faces_of, rasterise

CHANNELS = ("pigment", "redness", "palm", "nail", "slope_u", "slope_v")
"""-1 to 1 each (palm and nail 0 to 1); a slope of 1 stands for `STEEPEST`."""
STEEPEST = 0.6
_MARGIN = 0.02


@dataclass
class Atlas:
    """Where each texel of a hand's charts lies.

    Attributes:
        uv: (F, 3, 2) texture coordinates in [0, 1) of each face's corners.
        points: (T, T, 3) m, on the hand with straight fingers.
        metres: (2,) m that the whole texture spans in u and v.
    """

    uv: Tensor
    points: Tensor
    metres: Tensor


class SkinPainter:
    """Paints skins for one hand model."""

    def __init__(self, poses: PoseSampler, texels: int):
        hand = poses.hand
        n = torch.zeros(1, 4, 3)
        flat = hand.rotations(
            *poses.from_states(n.to(hand.device), n[:, 0, [0] * 4].to(hand.device), n[:, :, 0])
        )
        vertices, joints = hand.pose(flat, torch.zeros(1, len(hand.shape_basis), device=hand.device))
        bones = hand.bones(flat)
        self._vertices, self._joints = vertices[0].cpu(), joints[0].cpu()
        self.atlas = _unfold(self._vertices, hand.faces.cpu(), texels)
        phalanges = poses.phalanges.cpu()
        self._heads, tails = bones.heads[0].cpu()[phalanges], bones.tails[0].cpu()[phalanges]
        self._along = tails - self._heads
        self._length = self._along.norm(dim=-1)
        self._along = self._along / self._length[..., None]
        turned = bones.turns[0].cpu() @ hand.flexion_axes.cpu()[..., None]
        self._aside = turned[..., 0][phalanges]
        self._locate()

    def paint(self, generator: torch.Generator) -> Tensor:
        """(T, T, 6) maps in the order of `CHANNELS`."""
        points, palm = self._points, self._palm
        back = 1 - palm
        noise = SolidNoise(generator, 4)
        strength = torch.rand(8, generator=generator).tolist()

        fine, middle, broad = noise(points, 0.0012), noise(points, 0.005), noise(points, 0.03)
        pigment = 0.18 * fine[:, 0] + 0.3 * middle[:, 0] + 0.45 * broad[:, 0]
        freckles = (noise(points, 0.003)[:, 1] - 0.5).clamp(min=0) * (strength[0] > 0.6)
        pigment = pigment - 1.2 * freckles * back
        redness = 0.35 * middle[:, 2] + 0.3 * broad[:, 2] + 0.2 * palm * middle[:, 3]
        redness = redness + (0.5 * strength[1]) * self._knuckles * back + 0.45 * strength[2] * self._tips
        pigment = pigment - 0.35 * strength[3] * self._knuckles * back

        height = 4e-5 * fine[:, 1] + 6e-5 * noise(points, 0.0022)[:, 0] * (0.2 + strength[4])
        lines = self._creases * palm
        height = height - (2.5e-4 + 3.5e-4 * strength[5]) * lines
        pigment = pigment - 0.35 * lines
        redness = redness + 0.3 * lines
        age = strength[6]
        wave = torch.sin(self._from_joint / 0.00030 + 2.5 * middle[:, 1] + 1.5 * fine[:, 2])
        wrinkles = wave * torch.exp(-((self._from_joint / 0.0055) ** 2)) * back
        height = height + (0.6e-4 + 1.4e-4 * age) * wrinkles
        pigment = pigment + 0.14 * wrinkles * (0.4 + age)
        height = height + (3e-4 * strength[7] * self._tendons + 2.5e-4 * age * self._veins(noise)) * back

        # Nails are smooth, a little higher than the skin around, whitish at their end.
        nail = self._nail
        height = height * (1 - nail) + 3.0e-4 * nail
        pigment, redness = pigment * (1 - nail) + 0.9 * self._free_edge * nail, redness * (1 - nail)
        t = self.atlas.points.shape[0]
        height = height.reshape(t, t)
        step = self.atlas.metres / t
        slope_u = torch.gradient(height, dim=1)[0] / step[0] / STEEPEST
        slope_v = torch.gradient(height, dim=0)[0] / step[1] / STEEPEST
        maps = [x.reshape(t, t) for x in (pigment, redness, self._light * (1 - nail), nail)]
        return torch.stack([*maps, slope_u, slope_v], -1).clamp(-1, 1)

    def _locate(self) -> None:
        """What each texel is part of: everything that does not vary from skin to skin."""
        p = self.atlas.points.reshape(-1, 3)
        self._points = p
        radius = torch.tensor(FINGER_RADIUS)[:, None]
        offset = p[:, None, None] - self._heads
        t = (offset * self._along).sum(-1)
        nearest = (t.clamp(min=0)).minimum(self._length)
        distance = (offset - nearest[..., None] * self._along).norm(dim=-1) - radius
        # The thumb's metacarpal is inside the palm.
        distance[:, 0, 0] += 0.004
        finger = distance.flatten(1).argmin(1)
        n = torch.arange(len(p))
        on_finger = torch.sigmoid((0.006 - distance.flatten(1)[n, finger]) / 0.0015)
        f, part = finger // 3, finger % 3
        t, length = t.flatten(1)[n, finger], self._length[f, part]
        out = torch.linalg.cross(self._aside, self._along)
        up = (offset * out).sum(-1).flatten(1)[n, finger] / radius[f, 0]
        side = (offset * self._aside).sum(-1).flatten(1)[n, finger] / radius[f, 0]
        on_palm = torch.sigmoid((p[:, 2] + 0.002) / 0.003)
        self._palm = on_finger * torch.sigmoid((up - 0.05) * 5) + (1 - on_finger) * on_palm
        # Towards the arm the palm's colour fades: the arm's skin has none of it.
        self._light = self._palm * torch.sigmoid((p[:, 1] - 0.010) / 0.006)

        last = part == 2
        centre, half = 0.72, 0.3
        inside = 1 - (((t / length - centre) / half).abs() ** 4 + (side / 0.8).abs() ** 4)
        self._nail = torch.sigmoid(inside * 9) * last * torch.sigmoid((-up - 0.15) * 12)
        self._free_edge = torch.sigmoid((t / length - 0.93) * 60)
        self._tips = on_finger * last * torch.sigmoid((t / length - 0.35) * 8)

        # Joints of the fingers: the heads of their second and third phalanges.
        to_next, to_last = (t - length).abs(), t.abs()
        d = torch.where(part == 0, to_next, torch.where(part == 1, torch.minimum(to_next, to_last), to_last))
        self._from_joint = torch.where(
            on_finger > 0.5,
            torch.where(
                part == 1,
                torch.where(to_next < to_last, t - length, t),
                torch.where(part == 0, t - length, t),
            ),
            1.0,
        )
        bending = torch.exp(-((d / 0.007) ** 2)) * on_finger
        knuckles = torch.cdist(p, self._joints[[5, 9, 13, 17]]).amin(1)
        self._knuckles = torch.maximum(
            bending, torch.exp(-(((knuckles - 0.01) / 0.008) ** 2)) * (1 - self._palm)
        )

        line = torch.exp(-((d / 0.0007) ** 2)) + 0.6 * torch.exp(-(((d - 0.002) / 0.0006) ** 2))
        base = torch.exp(-(((t - 0.45 * length) / 0.0008) ** 2)) * (part == 0) * (f > 0)
        self._creases = (line + base) * on_finger + self._palm_lines() * (1 - on_finger)
        tendon = torch.zeros(len(p))
        for joint in (5, 9, 13, 17):
            tendon = torch.maximum(tendon, torch.exp(-((self._from_segment(0, joint) / 0.0025) ** 2)))
        self._tendons = tendon * (1 - on_finger)

    def _palm_lines(self) -> Tensor:
        """Heart, head and life line, and the creases of the wrist."""
        index, middle, little = (self._joints[i, :2] for i in (5, 9, 17))
        top = float(middle[1])
        lines: list[tuple[tuple[Any, Any], ...]] = [
            (
                (little[0] - 0.006, little[1] - 0.006),
                (middle[0], top - 0.026),
                (index[0] - 0.008, top - 0.002),
            ),
            ((index[0] + 0.013, top - 0.022), (middle[0], top - 0.03), (little[0], top - 0.05)),
            ((index[0] + 0.013, top - 0.024), (middle[0] - 0.012, top - 0.035), (0.004, 0.008)),
            ((-0.03, 0.0), (0.0, 0.002), (0.03, 0.0)),
            ((-0.03, -0.005), (0.0, -0.003), (0.03, -0.005)),
        ]
        t = torch.linspace(0, 1, 100)[:, None]
        result = torch.zeros(len(self._points))
        for points in lines:
            a, b, c = torch.tensor([[float(x) for x in point] for point in points])
            curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
            distance = torch.cdist(self._points[:, :2], curve).amin(1)
            result = torch.maximum(result, torch.exp(-((distance / 0.0009) ** 2)))
        return result

    def _from_segment(self, a: int, b: int) -> Tensor:
        """Distance of each texel from the line between two joints, as seen along the palm's normal."""
        start, end = self._joints[a, :2], self._joints[b, :2]
        along = end - start
        offset = self._points[:, :2] - start
        t = ((offset @ along) / (along @ along)).clamp(0.25, 0.95)
        return (offset - t[:, None] * along).norm(dim=1)

    def _veins(self, noise: SolidNoise) -> Tensor:
        """Winding ridges: where a smooth field passes through zero."""
        field = noise(self._points * torch.tensor([1.0, 0.45, 1.0]), 0.022)[:, 3]
        return torch.exp(-((field / 0.09) ** 2)) * (self._points[:, 1] < self._joints[9, 1])


def paint_plain_skin(generator: torch.Generator, texels: int, metres: float) -> Tensor:
    """(T, T, 6) maps for skin that is no hand: arms, and what might be taken for a hand."""
    y, x = torch.meshgrid(torch.arange(texels), torch.arange(texels), indexing="ij")
    points = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3) * (metres / texels)
    noise = SolidNoise(generator, 4)
    fine, middle, broad = noise(points, 0.0012), noise(points, 0.006), noise(points, 0.04)
    hair = noise(points * torch.tensor([3.0, 0.7, 1.0]), 0.004)[:, 3]
    pigment = 0.18 * fine[:, 0] + 0.3 * middle[:, 0] + 0.45 * broad[:, 0]
    pigment = pigment - (hair - 0.45).clamp(min=0) * 2 * torch.rand(1, generator=generator)
    redness = 0.35 * middle[:, 2] + 0.3 * broad[:, 2]
    height = (4e-5 * fine[:, 1] + 5e-5 * noise(points, 0.0025)[:, 0]).reshape(texels, texels)
    step = metres / texels * STEEPEST
    slopes = [torch.gradient(height, dim=d)[0] / step for d in (1, 0)]
    zero = torch.zeros(texels, texels)
    maps = [pigment.reshape(texels, texels), redness.reshape(texels, texels), zero, zero, *slopes]
    return torch.stack(maps, -1).clamp(-1, 1)


def _unfold(vertices: Tensor, faces: Tensor, texels: int) -> Atlas:
    corners = vertices[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    is_back = (normal[:, 2] < 0).float()
    low, high = vertices[:, :2].amin(0), vertices[:, :2].amax(0)
    extent = (high - low) / (1 - 2 * _MARGIN)
    place = (corners[..., :2] - low) / extent + _MARGIN
    uv = torch.stack([(place[..., 0] + is_back[:, None]) / 2, place[..., 1]], -1)
    pixels = torch.cat([uv * texels - 0.5, torch.ones(len(faces), 3, 1)], -1)
    keys = rasterise(pixels, torch.zeros(len(faces), dtype=torch.int64), (1, texels, texels))
    seen = (keys > 0).nonzero()[:, 0]
    face = faces_of(keys[seen])
    at = torch.stack([seen % texels, seen // texels], -1).float()
    a, b, c = pixels[face, :, :2].unbind(1)
    weights = torch.stack([_cross(b - at, c - at), _cross(c - at, a - at), _cross(a - at, b - at)], -1)
    weights = weights / weights.sum(-1, keepdim=True)
    points = torch.zeros(texels * texels, 4)
    points[seen] = torch.cat([(weights[..., None] * corners[face]).sum(1), torch.ones(len(seen), 1)], 1)
    # What lies just outside of a chart is drawn like its border, for bilinear reading.
    grid = points.reshape(1, texels, texels, 4).permute(0, 3, 1, 2)
    for _ in range(texels // 24):
        grown = avg_pool2d(grid, 3, 1, 1)
        grown = grown / grown[:, 3:].clamp(min=1e-6)
        grid = torch.where(grid[:, 3:] > 0, grid, torch.where(grown[:, 3:] > 0.5, grown, 0.0))
    return Atlas(uv, grid[0, :3].permute(1, 2, 0), torch.stack([extent[0] * 2, extent[1]]))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
