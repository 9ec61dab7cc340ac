"""The shape space: many adults' hands, and the few directions in which they differ."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.anatomy import palm_frame
from handos_ros.hand_model.build.cut import Cut
from handos_ros.hand_model.build.skeleton import FINGERS, bone_ends
from handos_ros.hand_model.build.source import Source

HAND_LENGTH = 0.187
"""Metres from the wrist joint to the tip of the straight middle finger: between men's
and women's means, about 193 and 181 mm from wrist to fingertip in ANSUR II (Gordon et al. 2014)."""

HAND_LENGTH_SPREAD = 0.06
"""Standard deviation of an adult hand's length relative to its mean: in ANSUR II about 10 mm within each
sex and 6 mm between them."""

HAND_TARGETS = {
    "hands/r-hand-fingers-length": 0.5,
    "hands/r-hand-fingers-diameter": 0.5,
    "hands/r-hand-scale": 0.5,
    "hands/measure-wrist-circ": 0.4,
    "arms/r-lowerarm-fat": 0.3,
}
"""Hand targets and the standard deviation with which they are applied; 1 is MakeHuman's extreme. The
spreading of the fingers is left out: that is pose, not shape."""

COMPONENTS = 12
SAMPLES = 600


FINGER_SPREAD = 0.04
"""Standard deviation of one finger's length apart from the hand's; MakeHuman stretches all alike."""

WIDTH_SPREAD = 0.045
"""Standard deviation of breadth, and of thickness, relative to length: near that of hand breadth within
one sex in ANSUR II."""


def measure(source: Source, cut: Cut, body: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """One body's hand in its own frame, in dm: vertices (V, 3), bone heads and tails (B, 3)."""
    heads, tails = bone_ends(source, body)
    knuckles = (heads[FINGERS[finger][1]] for finger in ("index", "middle", "little"))
    turn = palm_frame(heads[0], *knuckles)
    origin = heads[0]
    return tuple((points - origin) @ turn.T for points in (cut.vertices(body), heads, tails))


def straight_length(heads: NDArray, tails: NDArray, vertices: NDArray) -> float:
    """Wrist to middle fingertip if the finger were straight, the tip being the farthest skin."""
    bones = FINGERS["middle"][1:]
    length = np.linalg.norm(heads[bones[0]] - heads[0])
    length += sum(np.linalg.norm(heads[b] - heads[a]) for a, b in pairwise(bones))
    last = tails[bones[-1]] - heads[bones[-1]]
    last /= np.linalg.norm(last)
    near = np.linalg.norm(vertices - tails[bones[-1]], axis=1) < 0.15
    return float(length + ((vertices[near] - heads[bones[-1]]) @ last).max())


def sample_hands(source: Source, cut: Cut, skinning: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """`count` adults' hands in metres: vertices (N, V, 3) and bone heads (N, B, 3).

    Args:
        skinning: (V, B), by which stretched fingers draw their skin along.
    """
    random = np.random.default_rng(20240607)
    all_vertices, all_heads = [], []
    for _ in range(count):
        uniform = random.uniform(size=5)
        body = source.person(
            male=float(uniform[0] > 0.5) * 0.8 + 0.2 * uniform[1],
            old=uniform[2] * 0.8,
            muscle=float(np.clip(random.normal(0.5, 0.2), 0, 1)),
            weight=float(np.clip(random.normal(0.5, 0.25), 0, 1)),
            height=float(np.clip(random.normal(0.5, 0.2), 0, 1)),
            races=tuple(random.dirichlet((0.7, 0.7, 0.7))),
        )
        for name, spread in HAND_TARGETS.items():
            amount = float(np.clip(random.normal(0, spread), -1, 1))
            body += abs(amount) * source.target(f"{name}-{'incr' if amount > 0 else 'decr'}")
        vertices, heads, tails = measure(source, cut, body)
        stretch = np.clip(random.normal(0, FINGER_SPREAD, len(FINGERS)), -0.1, 0.1)
        vertices, heads, tails = _stretched(vertices, heads, tails, skinning, stretch)
        broad, thick = 1 + np.clip(random.normal(0, WIDTH_SPREAD, 2), -0.11, 0.11)
        vertices, heads, tails = (points * [broad, 1, thick] for points in (vertices, heads, tails))
        # MakeHuman's own spread of sizes is its artists'; bring in the measured one.
        length = HAND_LENGTH * (1 + HAND_LENGTH_SPREAD * float(np.clip(random.normal(), -2.5, 2.5)))
        scale = length / straight_length(heads, tails, vertices)
        all_vertices.append(vertices * scale)
        all_heads.append(heads * scale)
    return np.array(all_vertices), np.array(all_heads)


def _stretched(
    vertices: NDArray, heads: NDArray, tails: NDArray, skinning: NDArray, stretch: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """The hand with each finger's phalanges longer by a part (5,); the skin follows its bones."""
    moved_heads, moved_tails = heads.copy(), tails.copy()
    shifts = np.zeros((len(heads), 3))
    growth = np.zeros(len(heads))
    for part, bones in zip(stretch, FINGERS.values(), strict=True):
        shift = np.zeros(3)
        for bone in bones[-3:]:
            growth[bone], shifts[bone] = part, shift
            moved_heads[bone] += shift
            shift = shift + part * (tails[bone] - heads[bone])
            moved_tails[bone] += shift
    axis = tails - heads
    along = np.einsum("vbi,bi->vb", vertices[:, None] - heads, axis) / (axis**2).sum(1)
    pull = skinning @ shifts + (skinning * np.clip(along, 0, 1.2) * growth) @ axis
    return vertices + pull, moved_heads, moved_tails


def principal_components(hands: NDArray) -> tuple[NDArray, float]:
    """(S, V, 3) offsets of one standard deviation each, and the part of the variance they explain."""
    offsets = (hands - hands.mean(0)).reshape(len(hands), -1)
    _, spread, directions = np.linalg.svd(offsets, full_matrices=False)
    basis = directions[:COMPONENTS] * spread[:COMPONENTS, None] / np.sqrt(len(hands))
    # An SVD leaves the signs open: the largest entry of each is positive.
    largest = np.abs(basis).argmax(1)
    basis *= np.sign(basis[np.arange(COMPONENTS), largest])[:, None]
    explained = float((spread[:COMPONENTS] ** 2).sum() / (spread**2).sum())
    return basis.reshape(COMPONENTS, -1, 3), explained
