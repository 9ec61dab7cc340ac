"""Cuts the right hand out of the body and closes it: which vertices, which faces, which bones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.build.decimation import decimate
from handos_ros.hand_model.build.source import Source

FOREARM = 0.2
"""Decimetres of forearm kept beyond the wrist joint (before the hand is scaled)."""

VERTICES = 999
"""Skin vertices kept; the middle of the closed cut comes on top."""

BONES = {
    "wrist": "wrist.R",
    "thumb_metacarpal": "finger1-1.R", "thumb_proximal": "finger1-2.R", "thumb_distal": "finger1-3.R",
    "index_metacarpal": "metacarpal1.R",
    "index_proximal": "finger2-1.R", "index_middle": "finger2-2.R", "index_distal": "finger2-3.R",
    "middle_metacarpal": "metacarpal2.R",
    "middle_proximal": "finger3-1.R", "middle_middle": "finger3-2.R", "middle_distal": "finger3-3.R",
    "ring_metacarpal": "metacarpal3.R",
    "ring_proximal": "finger4-1.R", "ring_middle": "finger4-2.R", "ring_distal": "finger4-3.R",
    "little_metacarpal": "metacarpal4.R",
    "little_proximal": "finger5-1.R", "little_middle": "finger5-2.R", "little_distal": "finger5-3.R",
}  # fmt: skip
"""This package's bone names and MakeHuman's; a parent stands before its children."""


@dataclass
class Cut:
    """The hand as a part of the body.

    Attributes:
        index: (V - 1,) body vertices of the hand's skin.
        loop: (L,) places in `index` of the open border; their mean is vertex V - 1.
        faces: (F, 3) closed surface over V vertices.
        uv: (F, 3, 2) texture points of the corners.
        skinning: (V, B).
        parents: (B,).
    """

    index: NDArray
    loop: NDArray
    faces: NDArray
    uv: NDArray
    skinning: NDArray
    parents: NDArray

    def vertices(self, body: NDArray) -> NDArray:
        """(V, 3) the hand's vertices of a whole body."""
        skin = body[self.index]
        return np.concatenate([skin, skin[self.loop].mean(0, keepdims=True)])


def cut_hand(source: Source, body: NDArray) -> Cut:
    """Find the hand on an average `body` (all vertices, 3), thin it out and close it."""
    skinning, parents = _skinning(source)
    wrist = source.place(source.bones["wrist.R"]["head"], body)
    forearm = source.place(source.bones["lowerarm01.R"]["head"], body) - wrist
    beyond = (body - wrist) @ forearm / np.linalg.norm(forearm)
    on_hand = (beyond < FOREARM) & (body[:, 0] < wrist[0] + 1.5)
    quads = [face for face in source.groups["body"] if all(on_hand[v] for v, _ in face)]
    triangles = [part for quad in quads for part in _halves(body, quad)]
    triangles = decimate(body, triangles, skinning, VERTICES)
    index = np.array(sorted({v for face in triangles for v, _ in face}))
    place = {vertex: i for i, vertex in enumerate(index)}
    faces = [[place[v] for v, _ in face] for face in triangles]
    uv = [[source.uv[t] for _, t in face] for face in triangles]

    # The border runs against the winding of the faces that it bounds, so the cap takes it as it comes.
    nexts = {}
    edges = {(a, b) for face in faces for a, b in zip(face, face[1:] + face[:1], strict=True)}
    for a, b in edges:
        if (b, a) not in edges:
            nexts[b] = a
    loop = [min(nexts)]
    while nexts[loop[-1]] != loop[0]:
        loop.append(nexts[loop[-1]])
    if len(loop) != len(nexts):
        raise RuntimeError("the cut at the wrist has more than one border")
    corner_uv = {v: t for corners in zip(faces, uv, strict=True) for v, t in zip(*corners, strict=True)}
    middle_uv = np.mean([corner_uv[v] for v in loop], 0)
    for a, b in zip(loop, loop[1:] + loop[:1], strict=True):
        faces.append([a, b, len(index)])
        uv.append([corner_uv[a], corner_uv[b], middle_uv])
    root = np.zeros((1, len(BONES)))
    root[0, 0] = 1
    return Cut(
        index=index,
        loop=np.array(loop),
        faces=np.array(faces, np.int32),
        uv=np.array(uv),
        skinning=np.concatenate([_cleaned(skinning[index]), root]),
        parents=parents,
    )


def _skinning(source: Source) -> tuple[NDArray, NDArray]:
    """(all vertices, B) weights of the hand's bones, the forearm's given to the wrist; parents (B,)."""
    names = list(BONES.values())
    weights = np.zeros((len(source.vertices), len(names)))
    for name, pairs in source.weights.items():
        column = 0 if name.startswith("lowerarm") and name.endswith(".R") else None
        column = names.index(name) if name in names else column
        if column is not None:
            for vertex, weight in pairs:
                weights[vertex, column] += weight
    parents = [-1] + [names.index(source.bones[name]["parent"]) for name in names[1:]]
    return weights, np.array(parents)


def _cleaned(weights: NDArray, smallest: float = 0.02, most: int = 4) -> NDArray:
    """Rows that sum to 1, without weights too small to see, at most four bones to a vertex."""
    rank = np.argsort(np.argsort(-weights, 1, kind="stable"), 1)
    kept = np.where((weights >= smallest * weights.sum(1, keepdims=True)) & (rank < most), weights, 0)
    return kept / kept.sum(1, keepdims=True)


def _halves(vertices: NDArray, quad: list) -> list[tuple]:
    """A quad as two triangles, split along its shorter diagonal."""
    a, b, c, d = quad
    if np.sum((vertices[a[0]] - vertices[c[0]]) ** 2) <= np.sum((vertices[b[0]] - vertices[d[0]]) ** 2):
        return [(a, b, c), (a, c, d)]
    return [(a, b, d), (b, c, d)]
