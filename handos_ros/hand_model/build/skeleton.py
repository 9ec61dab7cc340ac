"""Where the bones of the hand turn, which way, and which skin follows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.build.cut import BONES
from handos_ros.hand_model.build.source import Source

BONE_NAMES = tuple(BONES)
FINGERS = {
    finger: [i for i, name in enumerate(BONE_NAMES) if name.startswith(finger)]
    for finger in ("thumb", "index", "middle", "ring", "little")
}
"""Bones of each finger from the wrist outwards."""

MCP_SHIFT = {"index": 0.14, "middle": 0.16, "ring": 0.18, "little": 0.19}
"""How far each knuckle moves back along its metacarpal, as a part of it. MakeHuman turns the fingers at
the web, some 11 mm beyond the knuckle; with these, the proximal phalanges have the length of real
bones (Buryanov and Kotiuk 2010, Proportions of Hand Segments: 40, 45, 41, 33 mm)."""

CMC_SHIFT = 0.22
"""How far the thumb's root moves towards the wrist, as a part of the way, for the same reason."""

BLEND = {"mcp": 0.085, "pip": 0.055, "dip": 0.05}
"""Half the length in dm over which the skin passes from one bone to the next."""


def bone_ends(source: Source, body: NDArray) -> tuple[NDArray, NDArray]:
    """(B, 3) heads and tails on one body, in its units."""
    heads = np.array([source.place(source.bones[name]["head"], body) for name in BONES.values()])
    tails = np.array([source.place(source.bones[name]["tail"], body) for name in BONES.values()])
    for finger, shift in MCP_SHIFT.items():
        metacarpal, proximal = FINGERS[finger][:2]
        heads[proximal] += shift * (heads[metacarpal] - heads[proximal])
        tails[metacarpal] = heads[proximal]
    thumb = FINGERS["thumb"][0]
    heads[thumb] += CMC_SHIFT * (heads[0] - heads[thumb])
    return heads, tails


def redistribute(skinning: NDArray, vertices: NDArray, heads: NDArray, tails: NDArray) -> NDArray:
    """Share each finger's weight out anew among its bones, by place along the finger.

    MakeHuman's weights say which finger a vertex belongs to; the planes through the joints, halfway
    between the bones that meet there, say which bone of it.

    Args:
        skinning: (V, B) rows sum to 1. vertices: (V, 3). heads, tails: (B, 3). Units as in `BLEND`.
    """
    result = skinning.copy()
    along = (tails - heads) / np.linalg.norm(tails - heads, axis=1, keepdims=True)
    for finger, bones in FINGERS.items():
        if finger == "thumb":
            continue
        past = np.ones((len(vertices), 5))  # beyond the metacarpal's head, mcp, pip, dip, tip
        past[:, 4] = 0
        for k, joint in enumerate(("mcp", "pip", "dip"), 1):
            axis = along[bones[k - 1]] + along[bones[k]]
            distance = (vertices - heads[bones[k]]) @ (axis / np.linalg.norm(axis)) / BLEND[joint]
            t = np.clip((distance + 1) / 2, 0, 1)
            past[:, k] = np.minimum(past[:, k - 1], t * t * (3 - 2 * t))
        whole = skinning[:, bones].sum(1)
        # What MakeHuman leaves to the wrist out there belongs to the finger.
        share = np.where(whole > 0.5, past[:, 1], 0) * result[:, 0]
        result[:, 0] -= share
        result[:, bones] = (whole + share)[:, None] * (past[:, :4] - past[:, 1:])
    return result
