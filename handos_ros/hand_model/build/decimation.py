"""Thins a triangle mesh to a subset of its own vertices, so that weights and targets stay valid."""

from __future__ import annotations

import heapq
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
"""A face's corner: (vertex, texture point)."""

Face = tuple[Corner, ...]
"""A triangle: three corners."""

SKINNING_COST = 1.0
"""How much of the squared edge length a full change of skinning costs: keeps the rings of vertices at
the joints, which a rest pose alone would call flat."""


def decimate(vertices: NDArray, triangles: list[Face], skinning: NDArray, count: int) -> list[Face]:
    """Collapse edges onto one of their ends until `count` vertices are left.

    Garland and Heckbert's quadric error, plus a cost for merging vertices that move with different
    bones. Open borders stay as they are; texture seams stay seams; no triangle turns over.

    Args:
        vertices: (V, 3).
        triangles: corners of a manifold mesh.
        skinning: (V, B).
        count: vertices to keep.

    Returns:
        The remaining triangles over the old vertex numbers.
    """
    faces = dict(enumerate(triangles))
    around: dict[int, set[int]] = defaultdict(set)
    for index, face in faces.items():
        for vertex, _ in face:
            around[vertex].add(index)
    border = _border(triangles)
    quadrics: dict[int, NDArray] = defaultdict(lambda: np.zeros((4, 4)))
    for face in triangles:
        normal, area = _normal(vertices, face)
        plane = np.append(normal, -normal @ vertices[face[0][0]])
        for vertex, _ in face:
            quadrics[vertex] += area / 3 * np.outer(plane, plane)

    def neighbours(vertex: int) -> set[int]:
        return {v for index in around[vertex] for v, _ in faces[index]} - {vertex}

    def cost(gone: int, kept: int) -> float:
        point = np.append(vertices[kept], 1.0)
        length2 = np.sum((vertices[gone] - vertices[kept]) ** 2)
        skin = SKINNING_COST * np.abs(skinning[gone] - skinning[kept]).sum() * length2
        # Each vertex stands for about a squared edge's area; a little of it keeps edges even.
        return float(point @ (quadrics[gone] + quadrics[kept]) @ point + (skin + 0.02 * length2) * length2)

    heap = [
        (cost(gone, kept), gone, kept)
        for gone in sorted(around) if gone not in border
        for kept in sorted(neighbours(gone))
    ]  # fmt: skip
    heapq.heapify(heap)
    alive = len(around)
    while alive > count and heap:
        value, gone, kept = heapq.heappop(heap)
        if gone not in around or kept not in around or kept not in neighbours(gone):
            continue
        if cost(gone, kept) > value * (1 + 1e-9) + 1e-15:
            heapq.heappush(heap, (cost(gone, kept), gone, kept))
            continue
        merged = _collapsed(vertices, faces, around, gone, kept)
        if merged is None:
            continue
        for index in list(around[gone]):
            for vertex, _ in faces[index]:
                around[vertex].discard(index)
            if index not in merged:
                del faces[index]
                continue
            faces[index] = merged[index]
            for vertex, _ in merged[index]:
                around[vertex].add(index)
        del around[gone]
        quadrics[kept] += quadrics.pop(gone)
        alive -= 1
        for other in sorted(neighbours(kept)):
            for pair in ((kept, other), (other, kept)):
                if pair[0] not in border:
                    heapq.heappush(heap, (cost(*pair), *pair))
    return [faces[index] for index in sorted(faces)]


def _collapsed(
    vertices: NDArray, faces: dict[int, Face], around: dict[int, set[int]], gone: int, kept: int
) -> dict[int, Face] | None:
    """The faces around `gone` after moving it onto `kept`, or None where that would spoil the mesh."""
    shared = around[gone] & around[kept]
    ring_gone = {v for index in around[gone] for v, _ in faces[index]}
    ring_kept = {v for index in around[kept] for v, _ in faces[index]}
    # The link condition: the two share exactly the corners across their edge's two triangles.
    if len(shared) != 2 or len((ring_gone & ring_kept) - {gone, kept}) != 2:
        return None
    texture = {}
    for index in shared:
        corner = dict(faces[index])
        texture[corner[gone]] = corner[kept]
    result = {}
    for index in around[gone] - shared:
        face = faces[index]
        if any(v == gone and t not in texture for v, t in face):
            return None  # the other side of a texture seam
        moved = tuple((kept, texture[t]) if v == gone else (v, t) for v, t in face)
        before, _ = _normal(vertices, face)
        after, area = _normal(vertices, moved)
        if before @ after < 0.3 or area < 1e-12 or _thinness(vertices, moved) < 0.04:
            return None
        result[index] = moved
    return result


def _border(triangles: list[Face]) -> set[int]:
    """Vertices on an edge of one triangle only."""
    edges: dict[frozenset, int] = defaultdict(int)
    for face in triangles:
        for (a, _), (b, _) in zip(face, face[1:] + face[:1], strict=True):
            edges[frozenset((a, b))] += 1
    return {v for edge, uses in edges.items() if uses == 1 for v in edge}


def _normal(vertices: NDArray, face: Face) -> tuple[NDArray, float]:
    a, b, c = (vertices[v] for v, _ in face)
    cross = np.cross(b - a, c - a)
    length = float(np.linalg.norm(cross))
    return cross / max(length, 1e-20), length / 2


def _thinness(vertices: NDArray, face: Face) -> float:
    """1 for an equilateral triangle, 0 for a sliver."""
    a, b, c = (vertices[v] for v, _ in face)
    sides = np.sum((b - a) ** 2) + np.sum((c - b) ** 2) + np.sum((a - c) ** 2)
    return float(4 * np.sqrt(3) * _normal(vertices, face)[1] / max(sides, 1e-20))
