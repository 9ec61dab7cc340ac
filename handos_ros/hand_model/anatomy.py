"""Which way the bones of a hand bend: flexion and abduction axes from joints alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def palm_frame(wrist: NDArray, index: NDArray, middle: NDArray, little: NDArray) -> NDArray[np.float64]:
    """(3, 3) rows of a right hand: towards the thumb, towards the fingers, out of the palm.

    Args:
        wrist, index, middle, little: (3,) the wrist and the knuckles of three fingers.
    """
    y = _unit(middle - wrist)
    x = index - little
    x = _unit(x - y * (x @ y))
    return np.stack([x, y, np.cross(x, y)])


def bending_axes(
    heads: NDArray, tails: NDArray, fingers: Mapping[str, Sequence[int]], palm: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flexion and abduction axes (B, 3) of a right hand's bones in the rest pose.

    A finger bends about the normal of the plane in which it is already curled at rest. The thumb's root
    is a saddle: its flexion sweeps the thumb along the palm, its abduction lifts it off.

    Args:
        heads, tails: (B, 3), bone 0 the wrist.
        fingers: bones of each finger from the wrist outwards, its three phalanges last (of `thumb`, the
            metacarpal and two phalanges).
        palm: (3,) unit vector out of the palm.
    """
    along = tails - heads
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    flexion = np.tile(_unit(np.cross(along[0], palm)), (len(heads), 1))
    for finger, bones in fingers.items():
        a, b, _, c = *(heads[bone] for bone in bones[-3:]), tails[bones[-1]]
        normal = _unit(np.cross(b - a, c - b))
        if finger != "thumb":
            # The curl of a nearly straight finger is noisy; the palm says which way it ought to go.
            normal = _unit(normal + _unit(np.cross(c - a, palm)))
        for bone in bones:
            flexion[bone] = _across(normal, along[bone])
        if finger == "thumb":
            flexion[bones[-3]] = _across(palm, along[bones[-3]])
    flexion[0] = _across(flexion[0], along[0])
    return flexion, np.cross(along, flexion)


def _across(vector: NDArray, axis: NDArray) -> NDArray:
    """The unit vector nearest to `vector` at right angles to the unit vector `axis`."""
    return _unit(vector - axis * (vector @ axis))


def _unit(vector: NDArray) -> NDArray:
    return vector / np.linalg.norm(vector)
