"""Cameras as people hold them, and how hands stand before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handos_ros.hands import LEFT
from handos_ros.learning.synthesis.draws import Draws, shares_with
from handos_ros.learning.synthesis.rotations import frame, unit

HAND_LENGTH = 0.18
"""m, wrist to fingertip, by which sizes in the picture are drawn."""

NEAR = 0.03
"""m; triangles with a corner nearer to the camera are left out."""

NEAREST = 0.16
"""m from the camera to the middle of a hand, at least."""


@dataclass(frozen=True)
class Viewpoint:
    """How a right hand is seen by one kind of camera; a left hand mirrored.

    Directions are in the optical frame (x right, y down, z forward).

    Attributes:
        weight: share among all, which those of the fixed test set are; 0 for a kind that only comes when it
            is asked for.
        fingers: directions in which the straight fingers may point.
        palm: directions in which the palm may look, one for each of `fingers`.
        spread: deviation of both, in units of their length.
        size: least and greatest length of a hand as a share of the picture's longer side.
        place: mean place of the hand as shares of width and height, and its deviation.
        roll: deviation in rad by which the whole is turned about the optical axis.
    """

    weight: float
    fingers: tuple[tuple[float, float, float], ...]
    palm: tuple[tuple[float, float, float], ...]
    spread: float
    size: tuple[float, float]
    place: tuple[float, float, float, float]
    roll: float


@dataclass(frozen=True)
class Framing:
    """How the picture is laid out around one of its hands, as photographs are for training.

    Attributes:
        around_hand: how often it is, rather than as the camera saw it.
        hand_size: the hand's longer side, as fractions of the picture's longer side.
        shift: by how much the hand's centre lies off the picture's at most, as a fraction of the picture.
    """

    around_hand: float
    hand_size: tuple[float, float]
    shift: float


VIEWPOINTS = {
    "owner's eyes": Viewpoint(
        0.26,
        ((-0.3, -0.5, 0.8), (-0.5, -0.6, 0.5), (-0.2, -0.9, 0.2)),
        ((-0.5, 0.7, 0.3), (-0.7, 0.3, 0.6), (-0.6, -0.1, -0.7)),
        0.4, (0.2, 0.75), (0.62, 0.6, 0.2, 0.2), 0.2,
    ),
    "over a table": Viewpoint(
        0.2,
        ((-0.2, -1, 0.1), (-0.2, -1, 0.1), (-0.6, -0.7, 0.2), (-0.2, -1, 0)),
        ((0, 0.1, 1), (0.1, 0.1, 1), (-0.7, 0.1, 0.7), (0, 0, -1)),
        0.32, (0.25, 1.0), (0.54, 0.52, 0.2, 0.2), 1.0,
    ),
    "across a desk": Viewpoint(
        0.28,
        ((0.15, -1, -0.1), (0.15, -1, -0.2), (0.3, -0.9, -0.3), (0.8, -0.5, -0.2), (0.2, -0.2, -0.9)),
        ((0, 0, -1), (0.1, 0, -1), (0, 0.1, 1), (0.3, 0.6, 0.7), (0.5, 0.8, 0)),
        0.35, (0.14, 0.95), (0.42, 0.5, 0.22, 0.2), 0.15,
    ),
    "standing": Viewpoint(
        0.11,
        ((0, 1, -0.1), (0.3, 0.6, -0.6), (0.7, 0.3, -0.4)),
        ((0.9, 0, 0.2), (0.6, 0.5, 0.6), (0.2, 0.3, 0.9)),
        0.4, (0.0625, 0.28), (0.45, 0.6, 0.22, 0.16), 0.1,
    ),
    "anyhow": Viewpoint(0.15, ((0, -1, 0),), ((0, 0, -1),), 4.0, (0.0625, 1.3), (0.5, 0.5, 0.25, 0.25), 3.0),
    # The forearm points at the camera, as with thumbs up, a pointing finger or a hand that is held out to it.
    "held out": Viewpoint(
        0.0,
        ((0.2, -0.15, -1), (0, -0.4, -0.9), (0.2, -0.2, -1), (0.3, 0.2, -0.9), (0.4, -0.3, -0.8)),
        ((1, 0, 0.1), (1, 0.2, 0.1), (0.7, 0.7, 0), (0.1, 1, -0.1), (0.9, -0.4, 0.2)),
        0.35, (0.2, 1.0), (0.44, 0.55, 0.22, 0.18), 0.15,
    ),
}  # fmt: skip
"""Kinds of camera by name."""


def viewpoint_shares(shares: Mapping[str, float]) -> list[float]:
    """How often each of `VIEWPOINTS` comes, with `shares` in place of its own weight where that has some.

    Raises:
        DataError: if there is no such viewpoint, or nothing left to draw.
    """
    return shares_with("viewpoints", {name: view.weight for name, view in VIEWPOINTS.items()}, shares)


def draw_cameras(draws: Draws, height: int, width: int) -> Tensor:
    """(B, 3, 3) intrinsics in px: 40 to 120 degrees across the longer side, wide and narrow alike."""
    degrees = draws.uniform(low=40, high=120)
    # Phones, webcams and RGB-D cameras lie between 50 and 80 degrees; two in five pictures do so.
    degrees = torch.where(draws.chance(0.4), 50 + 0.375 * (degrees - 40), degrees)
    focal = max(height, width) / 2 / torch.tan(degrees.deg2rad() / 2)
    centre = draws.normal(2) * 0.012
    k = torch.zeros(len(focal), 3, 3, device=focal.device)
    k[:, 0, 0] = k[:, 1, 1] = focal
    k[:, 0, 2] = (width - 1) / 2 + centre[:, 0] * width
    k[:, 1, 2] = (height - 1) / 2 + centre[:, 1] * height
    k[:, 2, 2] = 1
    return k


def framed_cameras(
    draws: Draws, k: Tensor, hands: Tensor, picture: Tensor, framing: Framing, height: int, width: int
) -> Tensor:
    """(B, 3, 3) intrinsics of the pieces, `width` x `height` px, that show one hand of each picture.

    The pieces are cut out of what the cameras saw, before it was made of pixels: focal length and principal
    point change, nothing in the scene does. A picture without hands stays as it is.

    Args:
        k: (B, 3, 3) of the cameras. hands: (N, V, 3) m, optical frame. picture: (N,) which picture each is
            in, ascending.
    """
    b = len(k)
    count = torch.bincount(picture, minlength=b)
    wanted = (draws.uniform() * count).long()
    size = draws.log_uniform(low=framing.hand_size[0], high=framing.hand_size[1]) * max(height, width)
    frame_size = torch.tensor([width, height], dtype=k.dtype, device=k.device)
    target = (frame_size - 1) / 2 + framing.shift * (2 * draws.uniform(2) - 1) * frame_size
    some = ((draws.uniform() < framing.around_hand) & (count > 0)).nonzero()[:, 0]
    if not len(some):
        return k
    first = count.cumsum(0) - count
    points = hands[(first + wanted)[some]]
    pixel = points[..., :2] / points[..., 2:].clamp(min=NEAR) * k[some, None, :1, 0]
    low, high = pixel.amin(1), pixel.amax(1)
    zoom = size[some] / (high - low).amax(1)
    out = k.clone()
    out[some, 0, 0] = out[some, 1, 1] = k[some, 0, 0] * zoom
    out[some, :2, 2] = target[some] - (low + high) / 2 * zoom[:, None]
    return out


def place_hands(
    draws: Draws, k: Tensor, side: Tensor, height: int, width: int, shares: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Turn and place K hands in each of B pictures, all hands of a picture for the same kind of camera.

    Args:
        k: (B, 3, 3). side: (B, K).
        shares: how often each of `VIEWPOINTS` comes.

    Returns:
        (B, K, 3, 3) rotations from the hand's frame (x to the thumb of a right hand, y to the fingers, z
        out of the palm) to the optical frame, and (B, K, 3) m, where the middle of the hand is.
    """
    device = k.device
    views = list(VIEWPOINTS.values())
    view = draws.choice(shares)
    b, hands = side.shape
    options = max(len(v.fingers) for v in views)
    table = torch.tensor(
        [[(*v.fingers[i % len(v.fingers)], *v.palm[i % len(v.palm)]) for i in range(options)] for v in views],
        device=device,
    )
    numbers = torch.tensor(
        [(v.spread, *v.size, *v.place, v.roll, len(v.fingers)) for v in views], device=device
    )
    spread, small, large, at_x, at_y, by_x, by_y, roll, count = numbers[view].unbind(1)
    # Both hands of a person mostly do alike.
    option = (draws.uniform(1) * count[:, None]).long().expand(-1, hands)
    other = (draws.uniform(hands) * count[:, None]).long()
    option = torch.where(draws.chance(0.35, hands), other, option).clamp(max=options - 1)
    directions = unit(table[view[:, None], option].unflatten(-1, (2, 3)))
    directions = directions + spread[:, None, None, None] * draws.normal(hands, 2, 3) / 3**0.5
    mirror = torch.where(side == LEFT, -1.0, 1.0)
    directions = torch.cat([directions[..., :1] * mirror[..., None, None], directions[..., 1:]], -1)
    turns = frame(directions[..., 0, :], directions[..., 1, :])
    angle = draws.normal() * roll
    cosine, sine, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rolled = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1], -1)
    rolled = rolled.reshape(b, 1, 3, 3)

    # Small hands are as likely as large ones, factor by factor; those in one picture are alike.
    share = small * (large / small) ** draws.uniform()
    share = share[:, None] * draws.log_uniform(hands, low=0.75, high=1.3)
    pixels = (share * max(height, width)).clamp(min=20)
    depth = (k[:, :1, 0] * HAND_LENGTH / pixels).clamp(min=NEAREST)
    centred = torch.stack([(at_x[:, None] - 0.5) * mirror, (at_y[:, None] - 0.5).expand(-1, hands)], -1)
    centred = centred + torch.stack([by_x, by_y], -1)[:, None] * draws.normal(hands, 2)
    centred = centred * torch.tensor([width, height], device=device)
    centred = (rolled[..., :2, :2] @ centred[..., None])[..., 0] + torch.tensor(
        [width, height], device=device
    ) / 2
    frame_size = torch.tensor([width, height], device=device)
    pixel = centred.clamp(-0.04 * frame_size, 1.04 * frame_size)
    ray = torch.stack(
        [
            (pixel[..., 0] - k[:, None, 0, 2]) / k[:, None, 0, 0],
            (pixel[..., 1] - k[:, None, 1, 2]) / k[:, None, 1, 1],
            torch.ones_like(depth),
        ],
        -1,
    )
    return rolled @ turns, _apart(ray * depth[..., None])


def _apart(places: Tensor, distance: float = 0.13) -> Tensor:
    """Move hands that would be inside each other behind those before them in the list."""
    places = places.clone()
    for i in range(1, places.shape[1]):
        for j in range(i):
            close = (places[:, i] - places[:, j]).norm(dim=-1) < distance
            farther = places[:, i] * (1 + distance / places[:, i].norm(dim=-1, keepdim=True))
            places[:, i] = torch.where(close[:, None], farther, places[:, i])
    return places
