"""Meshes where labels hold MANO's pose parameters instead, made with the user's own MANO files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import DataError
from handos_ros.hand_model.mano_posing import ManoHand, load_mano_hands, pose_from_components, pose_mano
from handos_ros.hands import LEFT, RIGHT

NUM_VERTICES = 778
JOINTS_OF_BONES = (0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3)
"""The joint of ours that each of MANO's 16 bones begins at."""
SIDES = {"HO-3D": (RIGHT,), "H2O-3D": (LEFT, RIGHT), "DexYCB": (LEFT, RIGHT)}
"""Data sets labelled by MANO's parameters, and the hands that they show."""
TOLERANCE = 0.01
"""Metres between a posed hand's bones and the labelled joints, which come of the same parameters."""

_said: set[str] = set()


class ManoMeshes:
    """Turns the labels of one data set into meshes, as far as there are MANO files.

    Args:
        path: see `load_mano_hands`; None or empty for no meshes, which is said once.
        name: one of `SIDES`.

    Raises:
        ModelError: if a file is there but cannot be used.
    """

    def __init__(self, path: str | Path | None, name: str) -> None:
        self.hands: dict[int, ManoHand] = load_mano_hands(path) if path else {}
        if not self.hands:
            _say_once(f"{name}: joints alone, no meshes: they need your own MANO file (docs/datasets.md)")
        elif LEFT in SIDES[name] and LEFT not in self.hands:
            _say_once(f"{name}: left hands have no meshes: there is no MANO_LEFT beside {path}")

    def __call__(
        self,
        side: int,
        pose: ArrayLike,
        shape: ArrayLike,
        translation: ArrayLike,
        *,
        joints: NDArray,
        components: bool = False,
        turn: Callable[[NDArray], NDArray] = np.asarray,
    ) -> NDArray[np.float64] | None:
        """(778, 3) vertices in m in the optical frame; None where that side's file is not there.

        Args:
            pose, shape, translation: as of `pose_mano`.
            joints: (21, 3) m, the labelled ones in the optical frame and our order.
            components: whether `pose` is that of `pose_from_components`, about the mean pose.
            turn: from the label's axes to the optical frame.

        Raises:
            DataError: if the mesh is not where the joints are: another MANO, or a damaged label.
        """
        if side not in self.hands:
            return None
        hand = self.hands[side]
        full = pose_from_components(hand, pose) if components else pose
        vertices, heads = (turn(points) for points in pose_mano(hand, full, shape, translation))
        apart = np.linalg.norm(heads - joints[list(JOINTS_OF_BONES)], axis=1).max()
        # Written so that NaN is not near enough either.
        if not apart <= TOLERANCE:
            raise DataError(
                f"the {'right' if side == RIGHT else 'left'} hand's mesh lies {1000 * apart:.0f} mm from its "
                "labelled joints: not the MANO files that it was labelled with, or a damaged label"
            )
        return vertices


def _say_once(message: str) -> None:
    # Workers, and the other processes of torchrun, open the same data sets again.
    first = parent_process() is None and os.environ.get("RANK", "0") == "0"
    if first and message not in _said:
        _said.add(message)
        logging.getLogger(__name__).warning(message)
