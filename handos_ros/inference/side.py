"""Left or right, read off the mesh: under a right hand's faces, a left hand is inside out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.model import HandModel
from handos_ros.hands import LEFT, RIGHT


class SideReader:
    """Tells sides of meshes in one hand model's vertex order.

    The measure is signed volume / area^1.5, which knows no size and no pose of the whole hand, over the
    same measure of the template: about 1 for a right hand, -1 for a left one, 0 for a mesh that is flat
    or that hangs between the two. A surface that is open at the wrist (MANO) is closed by a fan about
    the middle of its rim; seen from that middle the fan has no volume, so only the origin has to move.
    """

    def __init__(self, hand_model: HandModel) -> None:
        self._corners = np.ascontiguousarray(hand_model.faces.T.astype(np.intp))
        self._anchor = _anchor(hand_model.faces)
        self._reference = 1.0
        self._reference = float(self.orientation(hand_model.template[None])[0])

    def __call__(self, vertices: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """(N, V, 3) vertices in any right-handed frame -> handedness (N,) and its scores (N,), 0.5 to 1."""
        orientation = self.orientation(vertices)
        handedness = np.where(orientation < 0, LEFT, RIGHT).astype(np.uint8)
        return handedness, (0.5 + 0.5 * np.minimum(np.abs(orientation), 1)).astype(np.float32)

    def orientation(self, vertices: NDArray) -> NDArray:
        """(N, V, 3) vertices -> (N,) signed volume / area^1.5, 1 for the template."""
        centred = vertices - vertices[:, self._anchor].mean(1, keepdims=True)
        # Coordinates first, so that each step runs through contiguous (N, F) arrays, and in place: what
        # takes time here is memory. `take` gathers several times as fast as an index does.
        points = np.ascontiguousarray(np.moveaxis(centred, -1, 0))
        a, u, v = (points.take(index, axis=2) for index in self._corners)
        u -= a
        v -= a
        normals, rest = np.empty_like(a), np.empty_like(a[0])
        for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            np.multiply(u[y], v[z], out=normals[x])
            normals[x] -= np.multiply(u[z], v[y], out=rest)
        volume = np.einsum("cnf,cnf->n", a, normals) / 6
        area = np.sqrt(np.einsum("cnf,cnf->nf", normals, normals)).sum(1) / 2
        ratio = np.divide(volume, area**1.5, out=np.zeros_like(volume), where=area > 0)
        return ratio / self._reference


def _anchor(faces: NDArray) -> NDArray[np.intp]:
    """The vertices whose middle volumes are taken about: an open surface's rim; any one of a closed one."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    rim = np.unique(unique[counts == 1])
    return rim if len(rim) else faces[0, :1]
