"""Hands as the markers that RViz and Foxglove show: geometry, colours and numbering, without ROS.

The node and the bags turn each `Marker` into a visualization_msgs/Marker field by field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handos_ros.hand_model.model import HandModel
from handos_ros.hands import JOINT_PARENTS, LEFT, NUM_JOINTS, Hands

# Values of visualization_msgs/Marker.
LINE_LIST, SPHERE_LIST, TEXT_VIEW_FACING, TRIANGLE_LIST = 5, 7, 9, 11
ADD, DELETE, DELETEALL = 0, 2, 3

NAMESPACES: tuple[str, ...] = ("bones", "joints", "mesh", "label")
"""`Marker.ns` of what is drawn for a hand; a user switches them on and off one by one in RViz."""

_BONE_WIDTH, _JOINT_SIZE, _TEXT_HEIGHT = 0.004, 0.008, 0.025  # m

_FINGER_COLOURS = np.array(
    [
        (0.85, 0.85, 0.85),  # wrist
        (0.96, 0.42, 0.32),  # thumb
        (0.98, 0.73, 0.24),  # index
        (0.45, 0.80, 0.38),  # middle
        (0.30, 0.66, 0.94),  # ring
        (0.72, 0.48, 0.92),  # little
    ]
)
_SKIN = {True: (0.36, 0.68, 0.94, 0.6), False: (0.96, 0.62, 0.36, 0.6)}  # by "is left"

_CHILDREN = np.arange(1, NUM_JOINTS)
_PARENTS = np.array(JOINT_PARENTS[1:])
_JOINT_COLOURS = np.concatenate([_FINGER_COLOURS[:1], _FINGER_COLOURS[1:].repeat(4, 0)])
_BONE_ENDS = np.stack([_PARENTS, _CHILDREN], 1).reshape(-1)
_BONE_COLOURS = _JOINT_COLOURS[_CHILDREN].repeat(2, 0)


def _none(width: int) -> NDArray[np.float32]:
    return np.zeros((0, width), np.float32)


@dataclass(frozen=True, eq=False)
class Marker:
    """The fields of a visualization_msgs/Marker that hands need; the others stay at their defaults.

    Attributes:
        ns, id: what RViz knows a marker by.
        kind: the message's `type`.
        action: ADD, DELETE or DELETEALL; only ADD uses what follows.
        position: (3,) m, the frame of the picture; orientation is the identity.
        scale: (3,) m.
        colour: (4,) RGBA, 0 to 1.
        points: (P, 3) m, the frame of the picture.
        colours: (P, 4) RGBA for each point, or (0, 4) where `colour` is for all.
        text: of a label.
    """

    ns: str = ""
    id: int = 0
    kind: int = 0
    action: int = ADD
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    points: NDArray[np.float32] = field(default_factory=lambda: _none(3))
    colours: NDArray[np.float32] = field(default_factory=lambda: _none(4))
    text: str = ""


class HandMarkers:
    """Markers of one camera's hands, picture after picture; it deletes what vanished.

    A tracked hand keeps its markers' id, so that viewers update them in place; untracked hands are
    numbered from 0 in every picture.

    Args:
        hand_model: gives the triangles.
        mesh: whether to show the mesh of hands that have one.
    """

    def __init__(self, hand_model: HandModel, *, mesh: bool = True) -> None:
        self.mesh = mesh
        self._faces = {left: hand_model.faces_for(LEFT if left else 1 - LEFT) for left in (True, False)}
        self._corners = {left: faces.reshape(-1) for left, faces in self._faces.items()}
        self._shown: set[tuple[str, int]] = set()

    @property
    def shown(self) -> list[tuple[str, int]]:
        """What a viewer shows now, as (ns, id)."""
        return sorted(self._shown)

    @shown.setter
    def shown(self, markers: Iterable[tuple[str, int]]) -> None:
        """Take up where another object stopped."""
        self._shown = {(str(ns), int(number)) for ns, number in markers}

    def __call__(self, hands: Hands) -> list[Marker]:
        """Markers for `hands`, and deletions for those of the previous call that are gone."""
        markers: list[Marker] = []
        for i in range(len(hands)):
            # RViz refuses a whole array for one value that is not finite.
            if np.isfinite(hands.joints_3d[i]).all():
                markers += self._hand(hands, i, int(hands.ids[i]) if hands.ids[i] >= 0 else i)
        now = {(marker.ns, marker.id) for marker in markers}
        gone = [Marker(ns=ns, id=number, action=DELETE) for ns, number in sorted(self._shown - now)]
        self._shown = now
        return gone + markers

    def clear(self) -> list[Marker]:
        """The one marker that deletes all: on a jump back in time, and when nothing follows."""
        self._shown = set()
        return [Marker(action=DELETEALL)]

    def _hand(self, hands: Hands, i: int, number: int) -> list[Marker]:
        joints, left = hands.joints_3d[i], bool(hands.handedness[i] == LEFT)
        # Joints that the network doubts fade, down to a quarter.
        alpha = 0.25 + 0.75 * np.clip(np.nan_to_num(hands.joint_scores[i]), 0, 1)
        top = joints[np.argmin(joints[:, 1])]
        markers = [
            Marker(
                ns="bones",
                id=number,
                kind=LINE_LIST,
                scale=(_BONE_WIDTH, 0.0, 0.0),
                points=joints[_BONE_ENDS],
                colours=_with_alpha(_BONE_COLOURS, alpha[_CHILDREN].repeat(2)),
            ),
            Marker(
                ns="joints",
                id=number,
                kind=SPHERE_LIST,
                scale=(_JOINT_SIZE,) * 3,
                points=joints,
                colours=_with_alpha(_JOINT_COLOURS, alpha),
            ),
            Marker(
                ns="label",
                id=number,
                kind=TEXT_VIEW_FACING,
                # Up in the picture is -y.
                position=(float(top[0]), float(top[1]) - 1.5 * _TEXT_HEIGHT, float(top[2])),
                scale=(0.0, 0.0, _TEXT_HEIGHT),
                text=_label(hands, i, left),
            ),
        ]
        vertices = hands.vertices[i]
        if self.mesh and len(vertices) and np.isfinite(vertices).all():
            markers.insert(
                2,
                Marker(
                    ns="mesh",
                    id=number,
                    kind=TRIANGLE_LIST,
                    colour=_SKIN[left],
                    points=vertices[self._corners[left]],
                ),
            )
        return markers


def _with_alpha(rgb: NDArray[np.float64], alpha: NDArray) -> NDArray[np.float32]:
    return np.concatenate([rgb, alpha[:, None]], 1).astype(np.float32)


def _label(hands: Hands, i: int, left: bool) -> str:
    name = ("left" if left else "right") + (f" {hands.ids[i]}" if hands.ids[i] >= 0 else "")
    return f"{name}  {hands.scores[i]:.2f}  {hands.root_translation[i, 2]:.2f} m"
