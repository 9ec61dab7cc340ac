"""Scenes: hands with arms and sleeves, what they hold, what stands before and behind, as triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.hands import LEFT
from handos_ros.learning.synthesis.camera import Framing, draw_cameras, framed_cameras, place_hands
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.grips import draw_grips
from handos_ros.learning.synthesis.lathe import RINGS, SEGMENTS, Limb, lathe_faces, lathe_uv, turned_object
from handos_ros.learning.synthesis.materials import Materials, skins, stuffs
from handos_ros.learning.synthesis.poses import PoseSampler
from handos_ros.learning.synthesis.rotations import frame, unit
from handos_ros.learning.synthesis.skin import Atlas

MAX_HANDS = 4
HAND_COUNTS = (0.07, 0.46, 0.35, 0.07, 0.05)
"""Shares of pictures with 0 to 4 hands."""

TOUCHING = 0.3
"""Share of the pairs of hands of one person that touch each other."""
BRACELETS = 0.1
OTHERS = 3
"""Places for things that no hand holds, in each picture."""
OTHER_CHANCES = (0.16, 0.14, 0.22)
"""How often each of them is there: before a hand, of the colour of skin, anywhere."""


@dataclass
class Mesh:
    """Shape of what many things share: faces, texture coordinates and which faces meet at a point.

    Attributes:
        faces: (F, 3). uv: (F, 3, 2).
        around: (V, D) faces at each vertex, F where there are fewer than D.
        two_sided: seen from inside as well.
    """

    faces: Tensor
    uv: Tensor
    around: Tensor
    two_sided: bool

    @classmethod
    def build(cls, faces: Tensor, uv: Tensor, points: int, two_sided: bool) -> Mesh:
        """Find the faces around each point."""
        lists: list[list[int]] = [[] for _ in range(points)]
        for number, corners in enumerate(faces.tolist()):
            for corner in corners:
                lists[corner].append(number)
        most = max(map(len, lists))
        around = [row + [len(faces)] * (most - len(row)) for row in lists]
        return cls(faces, uv, torch.tensor(around, device=faces.device), two_sided)


@dataclass
class Things:
    """N meshes of one kind, placed before their cameras.

    Attributes:
        points: (N, V, 3) m, optical frame.
        picture: (N,) which picture each is in.
        flipped: (N,) bool, the faces' winding is the other way round: mirror images.
        materials: N rows.
    """

    mesh: Mesh
    points: Tensor
    picture: Tensor
    flipped: Tensor
    materials: Materials

    def of_pictures(self, first: int, last: int) -> tuple[Things, Tensor]:
        """Those in pictures `first` to `last` - 1, renumbered from 0, and which of these they are."""
        index = ((self.picture >= first) & (self.picture < last)).nonzero()[:, 0]
        part = Things(
            self.mesh,
            self.points[index],
            self.picture[index] - first,
            self.flipped[index],
            self.materials.select(index),
        )
        return part, index


@dataclass
class Scene:
    """B pictures' worth of things.

    Attributes:
        size: B, H, W. k: (B, 3, 3) px.
        hands, others: the meshes. `hands` are in the order of pictures, then of slots.
        slot: (N,) place of each hand among its picture's, 0 to MAX_HANDS - 1.
        side: (N,) 0 left, 1 right.
        joints: (N, 21, 3) m, optical frame.
        openness: (N, V) how much each vertex sees of its surroundings, 0 dark to 1 open.
    """

    size: tuple[int, int, int]
    k: Tensor
    hands: Things
    others: Things
    slot: Tensor
    side: Tensor
    joints: Tensor
    openness: Tensor

    def of_pictures(self, first: int, last: int) -> Scene:
        """Pictures `first` to `last` - 1 of the scenes."""
        hands, index = self.hands.of_pictures(first, last)
        others, _ = self.others.of_pictures(first, last)
        return Scene(
            (last - first, *self.size[1:]),
            self.k[first:last],
            hands,
            others,
            self.slot[index],
            self.side[index],
            self.joints[index],
            self.openness[index],
        )


class SceneMaker:
    """Draws scenes for one hand model.

    Args:
        poses: draws the hands' poses.
        viewpoints: how often each of `camera.VIEWPOINTS` comes.
        atlas: where on the texture each corner of the hand is.
    """

    def __init__(self, poses: PoseSampler, viewpoints: Sequence[float], atlas: Atlas):
        self.poses, self.viewpoints, hand = poses, viewpoints, poses.hand
        device = hand.device
        skin = ~_is_cap(hand.template, hand.faces)
        self.hand_mesh = Mesh.build(
            hand.faces[skin], atlas.uv.to(device)[skin], len(hand.template), two_sided=False
        )
        self.lathe_mesh = Mesh.build(
            lathe_faces(device), lathe_uv(device), int(lathe_faces().max()) + 1, two_sided=True
        )
        rest = hand.template
        low = rest[:, 1].min()
        self._cut = (rest[:, 1] < low + 0.008).nonzero()[:, 0]
        self._stump = float(-low)
        self._profile = _wrist_profile(rest[self._cut])
        self._coarse = torch.tensor(hand.model.coarse, dtype=torch.int64, device=device)
        self._upsampling = torch.tensor(hand.model.upsampling, device=device)

    def make(self, draws: Draws, height: int, width: int, framing: Framing | None = None) -> Scene:
        """Draw one scene for each of B pictures, seen as the camera sees it or framed around a hand."""
        device = self.poses.hand.device
        b = len(draws.indices)
        k = draw_cameras(draws.for_part("camera"), height, width)
        valid, side, person = _who(draws.for_part("who"))
        turns, places = place_hands(draws.for_part("place"), k, side, height, width, self.viewpoints)

        flexion, abduction = self.poses.draw(draws.for_part("pose"), MAX_HANDS)
        flexion, abduction, held = draw_grips(
            self.poses, draws.for_part("grip"), MAX_HANDS, flexion, abduction
        )
        there = valid.flatten().nonzero()[:, 0]
        picture = there // MAX_HANDS
        n = len(there)
        hand = self.poses.hand
        components = len(hand.shape_basis)
        shape_draws = draws.for_part("shape")
        shape = shape_draws.normal(2, components)[:, :, None].expand(-1, -1, 1, -1)
        shape = shape.expand(-1, -1, 2, -1).reshape(b, MAX_HANDS, components)
        shape = (shape + 0.15 * shape_draws.normal(MAX_HANDS, components)).flatten(0, 1)
        # A child's hand is smaller, nothing else; the camera cannot tell, but metres can.
        size = torch.where(shape_draws.chance(0.12, 2), shape_draws.uniform(2, low=0.6, high=0.95), 1.0)
        size = size.repeat_interleave(2, 1).flatten()[there, None, None]
        own, own_joints = hand.pose(hand.rotations(flexion[there], abduction[there]), shape[there])
        own, own_joints = own * size, own_joints * size
        middle = 0.5 * (own_joints[:, :1] + own_joints[:, 9:10])

        mirror = torch.ones(n, 1, 3, device=device)
        mirror[:, 0, 0] = torch.where(side.flatten()[there] == LEFT, -1.0, 1.0)
        turn, place = turns.flatten(0, 1)[there], places.flatten(0, 1)[there]
        place = place - ((middle * mirror) @ turn.transpose(1, 2))[:, 0]

        def placed(points: Tensor, which: Tensor) -> Tensor:
            """From the hands' own frames to the optical frame."""
            return (points * mirror[which]) @ turn[which].transpose(1, 2) + place[which, None]

        def upright(directions: Tensor) -> Tensor:
            """(N, 3) directions in the optical frame, seen from the hands' own frames."""
            return (directions[:, None] @ turn)[:, 0] * mirror[:, 0]

        every = torch.arange(n, device=device)
        vertices = placed(own, every)
        place = place + self._touch(draws.for_part("touch"), vertices, there, person)
        vertices, joints = placed(own, every), placed(own_joints, every)

        skin, bare = skins(draws.for_part("skin"), 2)
        row = picture * 2 + person.flatten()[there]
        hands = Things(self.hand_mesh, vertices, picture, mirror[:, 0, 0] < 0, skin.select(row))
        where = torch.full((b * MAX_HANDS,), -1, device=device)
        where[there] = every
        holder = where[held.hand]
        holding = (holder >= 0).nonzero()[:, 0]
        holder = holder[holding]
        parts = [
            *self._arms(draws.for_part("arm"), own, placed, upright, picture, there, row, bare),
            (placed(held.points[holding] * size[holder], holder), picture[holder],
             stuffs(draws.for_part("held"), MAX_HANDS).select(held.hand[holding])),
            *_others(draws.for_part("others"), k, places, bare, height, width),
        ]  # fmt: skip
        points, pictures = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        others = Things(
            self.lathe_mesh, points, pictures, torch.zeros_like(pictures, dtype=torch.bool),
            Materials.cat([p[2] for p in parts]),
        )  # fmt: skip
        openness = self._openness(vertices, picture)
        if framing is not None:
            k = framed_cameras(draws.for_part("framing"), k, vertices, picture, framing, height, width)
        return Scene(
            (b, height, width), k, hands, others, there % MAX_HANDS, side.flatten()[there], joints, openness
        )

    def _arms(self, draws: Draws, own, placed, upright, picture, there, row, bare):  # type: ignore[no-untyped-def]
        """Forearms, sleeves and bracelets of N hands: points, pictures and materials of each kind."""
        n, device = len(there), own.device
        cut = own[:, self._cut]
        low, high = cut.amin(1), cut.amax(1)
        offset = ((high + low) / 2) * torch.tensor([1.0, 0, 1.0], device=device)
        numbers = draws.uniform(MAX_HANDS, 6).reshape(-1, 6)[there]
        person = draws.uniform(2, 4).reshape(-1, 4)[row]
        wrist = draws.normal(MAX_HANDS, 2).reshape(-1, 2)[there]
        wrist = torch.stack([(0.1 - 0.4 * wrist[:, 0]).clamp(-1.1, 1.0), 0.2 * wrist[:, 1]], -1)
        down = torch.tensor([0.0, 1.0, 0.3], device=device)
        upper = unit(down + 0.5 * draws.normal(MAX_HANDS, 3).reshape(-1, 3)[there])
        limb = Limb(
            (high - low)[:, [0, 2]] / 2 * 0.99, self._profile, 0.25 + 0.35 * person[:, 0], wrist,
            upright(upper), self._stump,
        )  # fmt: skip
        smooth = torch.ones(n, RINGS, device=device)
        bare_width = torch.zeros(n, 2, device=device)
        end = 0.46 + 0.1 * numbers[:, 0]

        def at_wrist(points: Tensor, index: Tensor) -> Tensor:
            return placed(points[index] + offset[index, None], index)

        every = torch.arange(n, device=device)
        arms = limb.piece(torch.full_like(end, -0.006), end, bare_width, smooth)
        parts = [(at_wrist(arms, every), picture, bare.select(row))]

        sleeved = (person[:, 1] < 0.62).nonzero()[:, 0]
        begin = torch.where(person[:, 2] < 0.7, 0.005 + 0.03 * numbers[:, 1], 0.05 + 0.2 * numbers[:, 1])
        folds = 1 + 0.05 * draws.normal(MAX_HANDS, RINGS).reshape(-1, RINGS)[there]
        loose = limb.radii * (0.05 + 0.3 * person[:, 3:4]) + 0.004
        sleeves = limb.piece(begin, end + 0.01, loose, folds)
        cloths = stuffs(draws.for_part("cloth"), 2)
        parts.append((at_wrist(sleeves, sleeved), picture[sleeved], cloths.select(row[sleeved])))

        worn = (numbers[:, 2] < BRACELETS).nonzero()[:, 0]
        begin = 0.012 + 0.03 * numbers[:, 3]
        bands = limb.piece(begin, begin + 0.006 + 0.025 * numbers[:, 4], bare_width + 0.0025, smooth)
        stuff = stuffs(draws.for_part("band"), MAX_HANDS)
        parts.append((at_wrist(bands, worn), picture[worn], stuff.select(there[worn])))
        return parts

    def _touch(self, draws: Draws, vertices: Tensor, there: Tensor, person: Tensor) -> Tensor:
        """(N, 3) m by which second hands move to touch the first ones, without being inside them.

        The two are brought together along a direction until the planes that bound them meet.
        """
        move = torch.zeros(len(vertices), 3, device=vertices.device)
        second = ((there % MAX_HANDS == 1) & (person.flatten()[there] == 0)).nonzero()[:, 0]
        touches = draws.chance(TOUCHING)[there[second] // MAX_HANDS]
        second = second[touches]
        if not len(second):
            return move
        first, picture = second - 1, there[second] // MAX_HANDS
        between = vertices[second].mean(1) - vertices[first].mean(1)
        along = unit(unit(between) + 0.8 * draws.normal(3)[picture])
        reach = (vertices[first] @ along[..., None]).amax((1, 2))
        begin = (vertices[second] @ along[..., None]).amin((1, 2))
        sideways = 0.03 * draws.normal(3)[picture] - between
        sideways = sideways - (sideways * along).sum(-1, keepdim=True) * along
        sunk = 0.004 * draws.uniform()[picture]
        move[second] = along * (reach - begin - sunk)[:, None] + sideways
        return move

    def _openness(self, vertices: Tensor, picture: Tensor) -> Tensor:
        """(N, V) share of the surroundings that each vertex sees past the other parts of the hands.

        Each hand is a set of balls at its coarse vertices' neighbours; a ball of radius r at distance d
        hides (r / d)^2 of the half space above a surface, times the cosine of its direction.
        """
        coarse = vertices[:, self._coarse]
        normals = self._coarse_normals(vertices)
        centres = coarse - 0.006 * normals
        offset = centres[:, None] - coarse[:, :, None]
        distance = offset.norm(dim=-1).clamp(min=1e-4)
        cosine = (offset * normals[:, :, None]).sum(-1) / distance
        hidden = cosine.clamp(min=0) * (0.0085 / distance).clamp(max=1) ** 2
        open_ = torch.exp(-0.55 * hidden.sum(-1))
        return (open_ @ self._upsampling.T).clamp(0.15, 1)

    def _coarse_normals(self, vertices: Tensor) -> Tensor:
        corners = vertices[:, self.hand_mesh.faces]
        normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        normals = torch.cat([normals, torch.zeros_like(normals[:, :1])], 1)
        return unit(normals[:, self.hand_mesh.around[self._coarse]].sum(2))


def _is_cap(template: Tensor, faces: Tensor) -> Tensor:
    """(F,) bool, the faces that close the mesh at the wrist.

    An arm hides them, and their normals would bend those of the skin around.
    """
    corners = template[faces]
    normal = unit(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    return (normal[:, 1] < -0.7) & (corners[..., 1].amax(1) < template[:, 1].min() + 0.008)


def _wrist_profile(ring: Tensor) -> Tensor:
    """(SEGMENTS,) radius of the cut wrist over that of the ellipse around it, in `Limb`'s directions."""
    flat = ring[:, [2, 0]]
    low, high = flat.amin(0), flat.amax(0)
    flat = (flat - (low + high) / 2) / ((high - low) / 2)
    # The cap's middle lies inside.
    flat = flat[flat.norm(dim=1) > 0.5]
    angle = torch.atan2(flat[:, 1], flat[:, 0])
    wanted = torch.arange(SEGMENTS, device=ring.device) * (2 * math.pi / SEGMENTS)
    apart = torch.remainder(wanted[:, None] - angle + math.pi, 2 * math.pi) - math.pi
    weight = torch.exp(-((apart / 0.2) ** 2)) + 1e-9
    return (weight * flat.norm(dim=1)).sum(1) / weight.sum(1)


def _who(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Which of (B, MAX_HANDS) hands are there, their sides, and whose they are (0 or 1)."""
    count = draws.choice(HAND_COUNTS)
    slots = torch.arange(MAX_HANDS, device=count.device)
    valid = slots < count[:, None]
    side = draws.below(2, MAX_HANDS)
    person = (slots // 2).expand_as(side).clone()
    person[:, 1] = draws.chance(0.2).long()
    side[:, 1] = torch.where(person[:, 1] == 0, 1 - side[:, 0], side[:, 1])
    side[:, 3] = 1 - side[:, 2]
    return valid, side, person


def _others(draws: Draws, k: Tensor, places: Tensor, skin: Materials, height: int, width: int):  # type: ignore[no-untyped-def]
    """Things before the hands, things of the colour of skin, and things anywhere."""
    b, device = len(k), k.device
    n = b * OTHERS
    there = (draws.uniform(OTHERS) < torch.tensor(OTHER_CHANCES, device=device)).flatten().nonzero()[:, 0]
    kind = torch.arange(n, device=device) % OTHERS
    picture = torch.arange(n, device=device) // OTHERS
    numbers = draws.uniform(OTHERS, 8).reshape(n, 8)
    pixel = draws.uniform(OTHERS, 2).reshape(n, 2) * torch.tensor([width, height], device=device)
    ray = torch.cat([(pixel - k[picture, :2, 2]) / k[picture, 0, :1], torch.ones(n, 1, device=device)], 1)
    hand = places[:, 0].repeat_interleave(OTHERS, 0)
    depth = hand[:, 2] * torch.where(kind == 0, 0.45 + 0.35 * numbers[:, 0], 0.8 + 1.5 * numbers[:, 0])
    centre = ray * depth[:, None]
    near = (
        hand * (depth / hand[:, 2])[:, None] + 0.07 * draws.normal(OTHERS, 3).reshape(n, 3) * depth[:, None]
    )
    centre = torch.where((kind == 0)[:, None], near, centre)
    reach = depth * max(height, width) / k[picture, 0, 0]
    share = torch.where(kind == 0, 0.02 + 0.1 * numbers[:, 1], 0.03 + 0.22 * numbers[:, 1] ** 2)
    large = share * reach
    half = large[:, None] * torch.stack(
        [0.3 + 0.7 * numbers[:, 2], 0.5 + 1.5 * numbers[:, 3], 0.3 + 0.7 * numbers[:, 4]], -1
    )
    turn = frame(draws.directions(OTHERS).reshape(n, 3), draws.directions(OTHERS).reshape(n, 3))
    square = torch.where(numbers[:, 5] < 0.5, 0.12, 1.0)
    bend = torch.where(numbers[:, 6] < 0.15, 4.5 * numbers[:, 7], 0.0)
    shape = draws.below(6, OTHERS).flatten()
    points = turned_object(shape, draws.uniform(OTHERS, 2).reshape(n, 2), half, square, bend)
    points = points @ turn.transpose(1, 2) + centre[:, None]
    points = points[there]
    # Nothing sticks through the lens.
    ok = points[..., 2].amin(1) > 0.06
    skinny = (kind[there] == 1) & ok
    stuff = stuffs(draws.for_part("stuff"), OTHERS)
    plain = there[ok & (kind[there] != 1)]
    return [
        (points[ok & (kind[there] != 1)], picture[plain], stuff.select(plain)),
        (points[skinny], picture[there[skinny]], skin.select(picture[there[skinny]] * 2)),
    ]
