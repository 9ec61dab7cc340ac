"""Scenes into pictures: which surface each quarter of a pixel sees, and what colour it has.

Every pixel is looked at in four places. Where all four see the same smooth surface it is shaded once;
on outlines each place counts for itself, so that hands have no jagged, cut-out edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.learning.synthesis.camera import NEAR
from handos_ros.learning.synthesis.lighting import SHADOW_LIFT, Lights, ShadowMap
from handos_ros.learning.synthesis.materials import Materials
from handos_ros.learning.synthesis.raster import EMPTY, faces_of, inverse_depths_of, rasterise
from handos_ros.learning.synthesis.rotations import unit
from handos_ros.learning.synthesis.scene import Scene, Things
from handos_ros.learning.synthesis.skin import STEEPEST
from handos_ros.learning.synthesis.textures import TEXELS, TextureBank

_CACHED = 1 << 14
"""Points shaded at a time on a CPU."""
_SMOOTH = 0.02
"""Depths within a pixel that differ by more than this share belong to an outline."""


@dataclass
class Surfaces:
    """The triangles of B scenes that a camera may see, T of them, of E things (hands first).

    Attributes:
        corners: (T, 3, 3) px at twice the picture's resolution, and inverse depth 1/m.
        faces: (T, 3) into `points` and `normals` (P, 3) m, `openness` (P,).
        uv: (T, 3, 2).
        thing: (T,). picture: (E,) of each thing. materials: E rows.
        far_side: (T,) bool, the inside of a surface is seen.
        all_corners: (A, 3, 3) m and all_pictures (A,): every triangle, for the shadows.
    """

    corners: Tensor
    faces: Tensor
    points: Tensor
    normals: Tensor
    openness: Tensor
    uv: Tensor
    thing: Tensor
    picture: Tensor
    materials: Materials
    far_side: Tensor
    all_corners: Tensor
    all_pictures: Tensor


@dataclass
class Layer:
    """What stands before the background in B pictures.

    Attributes:
        keys: (B * 2H * 2W,) as `rasterise` gives them, at twice the resolution.
        surfaces: what the keys' faces belong to.
        pixel: (P,) covered pixels, numbered over B, H, W.
        colour: (3, P) linear RGB times `cover`. cover: (P,) 0 to 1.
        hand: (P,) bool, where a hand is among what is seen.
        seen: (E,) px in which each thing is what is seen.
        shadows: as the key light throws them.
    """

    keys: Tensor
    surfaces: Surfaces
    pixel: Tensor
    colour: Tensor
    cover: Tensor
    hand: Tensor
    seen: Tensor
    shadows: ShadowMap


def render(scene: Scene, lights: Lights, bank: TextureBank) -> Layer:
    """Draw and shade all that is in the scenes."""
    b, height, width = scene.size
    surfaces = gather_surfaces(scene)
    of = surfaces.picture.index_select(0, surfaces.thing)
    keys = rasterise(surfaces.corners, of, (b, 2 * height, 2 * width))
    hands = scene.hands.points
    shadows = ShadowMap(
        lights.key, hands.flatten(0, 1), scene.hands.picture.repeat_interleave(hands.shape[1]),
        surfaces.all_corners, surfaces.all_pictures,
    )  # fmt: skip

    covered = (keys != EMPTY).reshape(b * height, 2, width, 2)
    some = covered[:, 0] | covered[:, 1]
    pixel = (some[..., 0] | some[..., 1]).flatten().nonzero()[:, 0]
    row, column = pixel // width, pixel % width
    first = row * (4 * width) + 2 * column
    quarters = torch.tensor([0, 1, 2 * width, 2 * width + 1], device=keys.device)
    four = keys.index_select(0, (first[:, None] + quarters).flatten()).reshape(-1, 4)
    full = four != EMPTY
    thing = surfaces.thing.index_select(
        0, faces_of(four).clamp(max=max(len(surfaces.thing) - 1, 0)).flatten()
    )
    thing = thing.reshape(-1, 4)
    near = inverse_depths_of(four)
    nearest, farthest = near.amax(1), near.amin(1)
    whole = full.all(1) & (thing == thing[:, :1]).all(1) & (nearest - farthest < _SMOOTH * nearest)

    place = torch.stack([2 * column, 2 * (row % height)]).float()
    once = whole.nonzero()[:, 0]
    outline = (~whole).nonzero()[:, 0]
    part, quarter = full.index_select(0, outline).nonzero().unbind(1)
    edge = outline.index_select(0, part)
    step = torch.stack([quarter % 2, quarter // 2])
    points = torch.cat([place.index_select(1, once) + 0.5, place.index_select(1, edge) + step], 1)
    faces = faces_of(torch.cat([four[once, 0], four[edge, quarter]]))
    colour = shade(scene, surfaces, lights, bank, shadows, faces, points)

    result = torch.zeros(3, len(pixel), device=keys.device)
    result[:, once] = colour[:, : len(once)]
    mixed = torch.zeros(3, len(outline) * 4, device=keys.device)
    mixed[:, part * 4 + quarter] = colour[:, len(once) :]
    result[:, outline] = mixed.unflatten(1, (-1, 4)).sum(2) / 4
    seen = torch.bincount(thing[full], minlength=len(surfaces.picture)) / 4
    hand = (full & (thing < len(scene.hands.picture))).any(1)
    return Layer(keys, surfaces, pixel, result, full.sum(1) / 4.0, hand, seen, shadows)


def gather_surfaces(scene: Scene) -> Surfaces:
    """Lay all meshes of the scenes out as one list of triangles, without those that no camera sees."""
    _, height, width = scene.size
    parts = [_flatten(scene.hands, scene), _flatten(scene.others, scene)]
    base = [0, parts[0].points.shape[0]]
    faces = torch.cat([p.faces + start for p, start in zip(parts, base, strict=True)])
    points = torch.cat([p.points for p in parts])
    normals = torch.cat([p.normals for p in parts])
    uv = torch.cat([p.uv for p in parts])
    thing = torch.cat([parts[0].thing, parts[1].thing + len(scene.hands.picture)])
    two_sided = torch.cat([torch.full_like(p.thing, p.two_sided, dtype=torch.bool) for p in parts])
    picture = torch.cat([scene.hands.picture, scene.others.picture])
    openness = torch.cat([scene.openness.flatten(), points.new_ones(len(points) - scene.openness.numel())])

    of_point = torch.cat([p.picture for p in parts])
    k = scene.k.index_select(0, of_point)
    inverse = 1 / points[:, 2]
    x = (k[:, 0, 0] * points[:, 0] * inverse + k[:, 0, 2]) * 2 + 0.5
    y = (k[:, 1, 1] * points[:, 1] * inverse + k[:, 1, 2]) * 2 + 0.5
    screen = torch.stack([x, y, inverse], 1)
    corners = screen.index_select(0, faces.flatten()).reshape(-1, 3, 3)
    a, c, d = corners[..., :2].unbind(1)
    area = (c[:, 0] - a[:, 0]) * (d[:, 1] - a[:, 1]) - (d[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1])
    # y runs down: what is wound counter-clockwise from outside runs clockwise in the picture.
    toward = area < 0
    all_near = points[:, 2].index_select(0, faces.flatten()).reshape(-1, 3).amin(1) > NEAR
    low, high = corners[..., :2].amin(1), corners[..., :2].amax(1)
    inside = (high >= 0).all(1) & (low[:, 0] < 2 * width) & (low[:, 1] < 2 * height)
    kept = ((toward | two_sided) & all_near & inside).nonzero()[:, 0]
    # Picture by picture: a CPU then draws into a part of memory that it has at hand.
    kept = kept[picture.index_select(0, thing[kept]).argsort(stable=True)]
    metric = points.index_select(0, faces.flatten()).reshape(-1, 3, 3)
    return Surfaces(
        corners[kept], faces[kept], points, normals, openness, uv[kept], thing[kept], picture,
        Materials.cat([scene.hands.materials, scene.others.materials]), ~toward[kept],
        metric, picture.index_select(0, thing),
    )  # fmt: skip


@dataclass
class _Flat:
    faces: Tensor
    points: Tensor
    normals: Tensor
    uv: Tensor
    thing: Tensor
    picture: Tensor
    two_sided: bool


def _flatten(things: Things, scene: Scene) -> _Flat:
    mesh, points = things.mesh, things.points
    n, v, _ = points.shape
    f = len(mesh.faces)
    corners = points[:, mesh.faces]
    turned = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    turned = torch.where(things.flipped[:, None, None], -turned, turned)
    padded = torch.cat([turned, turned.new_zeros(n, 1, 3)], 1)
    normals = padded[:, mesh.around].sum(2)
    # A mirrored mesh is wound the other way round.
    faces = torch.where(things.flipped[:, None, None], mesh.faces.flip(1), mesh.faces)
    uv = torch.where(things.flipped[:, None, None, None], mesh.uv.flip(1), mesh.uv)
    faces = faces + v * torch.arange(n, device=points.device)[:, None, None]
    thing = torch.arange(n, device=points.device).repeat_interleave(f)
    return _Flat(
        faces.flatten(0, 1), points.flatten(0, 1), unit(normals.flatten(0, 1)), uv.flatten(0, 1), thing,
        things.picture.repeat_interleave(v), mesh.two_sided,
    )  # fmt: skip


def shade(
    scene: Scene, surfaces: Surfaces, lights: Lights, bank: TextureBank, shadows: ShadowMap,
    faces: Tensor, places: Tensor,
) -> Tensor:  # fmt: skip
    """(3, N) linear RGB of triangles (N,) seen at places (2, N), px at twice the resolution."""
    of_face = _face_columns(surfaces)
    of_thing = _thing_columns(scene, surfaces, lights)
    size = max(1, len(faces) if faces.device.type != "cpu" else _CACHED)
    return torch.cat(
        [
            _shade(of_face, of_thing, surfaces.thing, bank, shadows, f, p)
            for f, p in zip(faces.split(size), places.split(size, 1), strict=True)
        ],
        1,
    )


def _face_columns(s: Surfaces) -> Tensor:
    """What shading needs of each triangle, (33, T).

    Rows: the corners' x 3, y 3, inverse depth 3; their normals' x 3, y 3, z 3; openness 3; u 3, v 3; the
    directions in which u grows 3 and v grows 3.
    """
    flat = s.faces.flatten()
    normals = s.normals.index_select(0, flat).reshape(-1, 3, 3)
    normals = torch.where(s.far_side[:, None, None], -normals, normals)
    points = s.points.index_select(0, flat).reshape(-1, 3, 3)
    openness = s.openness.index_select(0, flat).reshape(-1, 3)
    e1, e2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    d1, d2 = s.uv[:, 1] - s.uv[:, 0], s.uv[:, 2] - s.uv[:, 0]
    sign = (d1[:, :1] * d2[:, 1:] - d2[:, :1] * d1[:, 1:]).sign()
    along_u = unit((e1 * d2[:, 1:] - e2 * d1[:, 1:]) * sign)
    along_v = unit((e2 * d1[:, :1] - e1 * d2[:, :1]) * sign)
    parts = [s.corners, normals, openness[:, :, None], s.uv]
    columns = torch.cat([p.transpose(1, 2).flatten(1) for p in parts] + [along_u, along_v], 1)
    return columns.T.contiguous()


def _thing_columns(scene: Scene, s: Surfaces, lights: Lights) -> Tensor:
    """What shading needs of each thing, (53, E).

    Rows: base 3, mix 12, uv map 4, softness 3; layer, coarse, bump, shine, gloss, picture; lens 4;
    lights 21.
    """
    m = s.materials
    k = scene.k.index_select(0, s.picture)
    points = torch.cat([scene.hands.points[:, 0], scene.others.points[:, 0]])
    # Where the texture has two texels to a pixel, read the coarser one; it spans 0.2 m or so.
    texel = 0.2 / TEXELS * k[:, 0, 0] / points[:, 2].clamp(min=NEAR)
    coarse = (texel < 0.5).float()
    rows = torch.cat(
        [
            m.base, m.mix.flatten(1), m.uv, m.soft,
            torch.stack([m.layer.float(), coarse, m.bump, m.shine, m.gloss, s.picture.float()], 1),
            torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], 1),
            lights.rows().index_select(0, s.picture),
        ], 1,
    )  # fmt: skip
    return rows.T.contiguous()


def _shade(
    of_face: Tensor, of_thing: Tensor, thing_of: Tensor, bank: TextureBank, shadows: ShadowMap,
    faces: Tensor, places: Tensor,
) -> Tensor:  # fmt: skip
    """Shade N points. One contiguous row per quantity: that is what CPUs' vector units want."""
    face = of_face.index_select(1, faces)
    thing = of_thing.index_select(1, thing_of.index_select(0, faces))
    # Barycentric weights in the picture, then in space; a pixel's centre may lie just outside.
    (ax, bx, cx), (ay, by, cy) = face[0:3] - places[:1], face[3:6] - places[1:]
    weights = torch.stack([bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay])
    weights = (weights / weights.sum(0)).nan_to_num_(1 / 3, 1 / 3, 1 / 3).clamp_(0, 1)
    weights = weights / weights.sum(0) * face[6:9]
    depth = 1 / weights.sum(0)
    weights *= depth

    def mixed(start: int) -> Tensor:
        return (weights * face[start : start + 3]).sum(0)

    layer, coarse, bump, shine, gloss, picture = thing[22:28]
    picture = picture.long()
    u, v = mixed(21) * thing[15] + thing[17], mixed(24) * thing[16] + thing[18]
    texture = bank.read(layer.long(), coarse > 0, u, v)
    albedo = thing[0:3] + (thing[3:15].unflatten(0, (4, 3)) * texture[:4, None]).sum(0)
    albedo = albedo.clamp_(0.004, 0.95)

    slopes = texture[4:] * (bump * STEEPEST)
    smooth = torch.stack([mixed(9), mixed(12), mixed(15)])
    normal = _unit(smooth - slopes[:1] * face[27:30] - slopes[1:] * face[30:33])
    ray = torch.cat([((places - 0.5) / 2 - thing[30:32]) / thing[28:30], torch.ones_like(depth)[None]])
    # Looked up a little above the surface, which must not throw its shadow on itself.
    lit = shadows.lit(ray * depth + SHADOW_LIFT * _unit(smooth), picture)
    view = -_unit(ray)

    key, key_colour, second, second_colour, up, above, below = thing[32:53].unflatten(0, (7, 3))
    soft = thing[19:22]
    open_ = mixed(18)
    sky = 0.5 + 0.5 * (normal * up).sum(0)
    light = (below + (above - below) * sky) * open_
    facing = (normal * key).sum(0)
    # Light that enters skin comes out beside: the shadow's border is soft and red.
    wrapped = ((facing + soft) / (1 + soft)).clamp_(min=0)
    light += key_colour * wrapped * (lit + (1 - lit) * 0.35 * soft)
    other = (((normal * second).sum(0) + soft) / (1 + soft)).clamp_(min=0)
    light += second_colour * other * open_
    half = (normal * _unit(key + view)).sum(0).clamp_(min=1e-4) ** gloss
    highlight = shine * (gloss + 8) / 8 * half * (facing > 0) * lit
    grazing = (1 - (normal * view).sum(0).clamp_(0, 1)) ** 4 * shine * 1.2 * open_
    return albedo * light + highlight * key_colour + grazing * above


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (3, N) of length 1."""
    return vectors * torch.rsqrt((vectors * vectors).sum(0).clamp(min=1e-20))
