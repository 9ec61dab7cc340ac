"""`draw_hands`: the picture with its hands over it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from handos_ros.drawing.label import draw_label
from handos_ros.drawing.mesh import draw_mesh
from handos_ros.drawing.skeleton import draw_skeleton
from handos_ros.hand_model.model import HandModel
from handos_ros.hands import LEFT, Hands

LEFT_COLOUR, RIGHT_COLOUR = (110, 170, 255), (255, 176, 92)
"""RGB of a hand's mesh and label, by its side."""


def draw_hands(
    image: NDArray[np.uint8],
    hands: Hands,
    hand_model: HandModel | None,
    *,
    mesh: bool = True,
    skeleton: bool = True,
    labels: bool = True,
) -> NDArray[np.uint8]:
    """Draw hands over their picture, the farthest first.

    Args:
        image: (H, W, 3) uint8 RGB, the picture that the hands were found in, at its own size.
        hands: whose `camera` puts `vertices` into the picture.
        hand_model: gives the triangles; None draws no mesh.
        mesh: a translucent, shaded surface, where `hands` has vertices.
        skeleton: bones coloured by finger.
        labels: side, score and, where hands are tracked, number of each hand.

    Returns:
        A new (H, W, 3) uint8 RGB picture.
    """
    canvas = np.array(image, order="C")
    if not len(hands):
        return canvas
    height, width = canvas.shape[:2]
    mesh = mesh and hand_model is not None and hands.vertices.shape[1] > 0
    vertices_2d = hands.camera.project(hands.vertices) if mesh else None
    for i in np.argsort(-hands.joints_3d[..., 2].mean(1), kind="stable"):
        if mesh:
            assert hand_model is not None and vertices_2d is not None
            faces = hand_model.faces_for(int(hands.handedness[i]))
            draw_mesh(canvas, vertices_2d[i], hands.vertices[i], faces, _colour(hands, i))
        if skeleton:
            thickness = _bone_thickness(width, height, hands.boxes[i])
            draw_skeleton(canvas, hands.joints_2d[i], hands.joints_3d[i, :, 2], thickness)
    if labels:
        # The best hand's label gets the best place.
        taken: list[tuple[int, int, int, int]] = []
        size = _letter_height(width, height)
        for i in np.argsort(-hands.scores, kind="stable"):
            taken.append(draw_label(canvas, _text(hands, i), hands.boxes[i], _colour(hands, i), size, taken))
    return canvas


def _letter_height(width: int, height: int) -> int:
    """Height in px of a label's capital letters, for a picture of that size."""
    return max(8, round(0.0165 * math.sqrt(width * height)))


def _bone_thickness(width: int, height: int, box: NDArray) -> float:
    """In px: as thick as the picture's size asks for, but no thicker than a small hand bears."""
    hand = max(float(box[2] - box[0]), float(box[3] - box[1]))
    return max(1.0, min(0.0035 * math.sqrt(width * height), 0.02 * hand))


def _colour(hands: Hands, i: int) -> tuple[int, int, int]:
    return LEFT_COLOUR if hands.handedness[i] == LEFT else RIGHT_COLOUR


def _text(hands: Hands, i: int) -> str:
    side = "left" if hands.handedness[i] == LEFT else "right"
    number = f"#{hands.ids[i]} " if hands.ids[i] >= 0 else ""
    return f"{number}{side} {hands.scores[i]:.2f}"
