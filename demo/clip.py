"""The built-in clip: two hands of the hand model before a wall."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.drawing.mesh import draw_mesh
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hand_model.posing import anatomical_rotations, axis_rotations, pose
from handos_ros.hands import LEFT, RIGHT, Camera

WIDTH, HEIGHT, RATE, FRAMES = 640, 480, 25.0, 150
CAMERA = Camera(np.array([[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), WIDTH, HEIGHT)

_SKIN = (222, 168, 138)
# The hand model's x to the thumb, y to the fingers, z out of the palm -> fingers up, palm to the camera.
_FACING = np.diag([1.0, -1.0, -1.0]).astype(np.float32)


def hands_clip() -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) RGB frames: a right hand that closes and turns, joined for a while by a left one."""
    model = load_hand_model()
    background = _background()
    seconds = np.arange(FRAMES) / RATE
    bones = len(model.bone_names)
    fingers = np.array(["metacarpal" not in name and name != "wrist" for name in model.bone_names])
    for t in seconds:
        canvas = background.copy()
        for side, phase, begin, end in ((RIGHT, 0.0, 0.0, 9.0), (LEFT, 1.3, 1.5, 5.0)):
            if not begin <= t < end:
                continue
            curl = 0.5 - 0.5 * np.cos(2.2 * t + phase)
            flexion = np.where(fingers, np.radians(70) * curl, 0.0)[None]
            rotations = anatomical_rotations(model, flexion, np.zeros((1, bones)))
            vertices = pose(model, rotations)[0][0]
            if side == LEFT:
                vertices = vertices * np.array([-1, 1, 1], np.float32)
            turn = axis_rotations([0, 1, 0], 0.6 * np.sin(1.1 * t + phase)) @ axis_rotations(
                [0, 0, 1], 0.3 * np.sin(0.7 * t + phase)
            )
            x = 0.10 if side == RIGHT else -0.12
            place = [x + 0.03 * np.sin(1.5 * t + phase), 0.08 + 0.02 * np.sin(2.0 * t), 0.52]
            vertices = vertices @ (turn @ _FACING).T + np.array(place, np.float32)
            points = CAMERA.project(vertices)
            for _ in range(3):  # the drawing is translucent; a hand is not
                draw_mesh(canvas, points, vertices, model.faces_for(side), _SKIN)
        yield canvas


def _background() -> NDArray[np.uint8]:
    """A dull wall above a dull table, with some grain."""
    rows = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    wall, table = np.array([150, 155, 160]), np.array([105, 95, 85])
    picture = np.where(rows < 0.72, wall * (0.75 + 0.25 * rows), table * (0.8 + 0.3 * rows))
    picture = np.repeat(picture, WIDTH, 1)
    noise = np.random.default_rng(7).normal(0, 6, (HEIGHT // 4, WIDTH // 4, 1)).astype(np.float32)
    picture += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)
