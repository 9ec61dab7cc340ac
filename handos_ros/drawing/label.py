"""A readable line of text beside a box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (20, 20, 20)


def draw_label(
    canvas: NDArray[np.uint8],
    text: str,
    box: NDArray,
    colour: tuple[int, int, int],
    letter_height: int,
    taken: Sequence[tuple[int, int, int, int]] = (),
) -> tuple[int, int, int, int]:
    """Draw a label, in place: above the box where there is room, inside the picture always.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        text: one line.
        box: (4,) px, x_min y_min x_max y_max, of what the label speaks of.
        colour: RGB behind the letters.
        letter_height: of a capital, px.
        taken: x_min y_min x_max y_max of other labels, which are not covered if that can be helped.

    Returns:
        x_min y_min x_max y_max of the label.
    """
    stroke = max(1, round(letter_height / 9))
    scale = cv2.getFontScaleFromHeight(_FONT, letter_height, stroke)
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    margin = max(2, round(0.4 * letter_height))
    size = (text_width + 2 * margin, letter_height + 2 * margin)
    x, y = _place(canvas.shape[1], canvas.shape[0], size, box, taken)
    cv2.rectangle(canvas, (x, y), (x + size[0] - 1, y + size[1] - 1), colour, cv2.FILLED)
    origin = (x + margin, y + margin + letter_height)
    cv2.putText(canvas, text, origin, _FONT, scale, _INK, stroke, cv2.LINE_AA)
    return x, y, x + size[0], y + size[1]


def _place(
    width: int,
    height: int,
    size: tuple[int, int],
    box: NDArray,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Upper left corner: above, below, then ever lower, the first that covers no other label."""
    left, top, right, bottom = (float(value) for value in np.nan_to_num(box))
    lines = [top - size[1] - 2, bottom + 2, *(top + i * (size[1] + 1) for i in range(8))]
    places = [
        (
            round(min(max((left + right - size[0]) / 2, 0), max(width - size[0], 0))),
            round(min(max(line, 0), max(height - size[1], 0))),
        )
        for line in lines
    ]
    for x, y in places:
        if not any(x < b[2] and b[0] < x + size[0] and y < b[3] and b[1] < y + size[1] for b in taken):
            return x, y
    return places[0]
