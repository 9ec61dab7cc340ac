"""How long `draw_hands` takes: `python benchmark/drawing.py`, on a machine that does nothing else.

Two hands of the shipped hand model (1,000 vertices each) in a 1280x720 picture, each some 400 px tall, and
other sizes and numbers. Prints the median and the least of 100 pictures, whole and by part.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np

from handos_ros.drawing.overlay import draw_hands
from handos_ros.hand_model.model import HandModel, load_hand_model
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose
from handos_ros.hands import LEFT, Camera, Hands

PARTS = {
    "whole": {},
    "mesh": {"skeleton": False, "labels": False},
    "skeleton": {"mesh": False, "labels": False},
    "labels": {"mesh": False, "skeleton": False},
    "copy": {"mesh": False, "skeleton": False, "labels": False},
}


def posed_hands(model: HandModel, camera: Camera, count: int) -> Hands:
    """Hands side by side, upright, in random poses."""
    rotations = random_rotations(model, count, np.random.default_rng(0))
    rotations[:, 0] = np.diag([1, -1, -1])  # fingers up, palm to the camera
    vertices, joints = pose(model, rotations)
    sides = np.arange(count) % 2
    mirror = np.where(sides == LEFT, -1, 1)[:, None, None] * [1, 0, 0] + np.array([0, 1, 1])
    vertices, joints = vertices * mirror, joints * mirror
    depth = 0.5
    x = (np.arange(count) - (count - 1) / 2) * 0.4 / count
    places = np.stack([x, np.full(count, 0.08), np.full(count, depth)], -1)[:, None]
    vertices, joints = (vertices + places).astype(np.float32), (joints + places).astype(np.float32)
    points = camera.project(vertices)
    ones = np.ones(count, np.float32)
    return Hands(
        camera=camera,
        boxes=np.concatenate([points.min(1), points.max(1)], 1).astype(np.float32),
        scores=0.9 * ones,
        handedness=sides.astype(np.uint8),
        handedness_scores=ones,
        joints_2d=camera.project(joints).astype(np.float32),
        joint_scores=np.ones((count, 21), np.float32),
        joints_3d=joints,
        vertices=vertices,
        root_translation=joints[:, 0],
        translation_source=np.zeros(count, np.uint8),
        ids=np.arange(count, dtype=np.int32),
    )


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--save", metavar="PNG", help="write the 1280x720 picture, to look at")
    args = parser.parse_args()
    model = load_hand_model()
    print("| picture | hands | part | median ms | least ms |\n| --- | --- | --- | --- | --- |")
    for width, height, count in (
        (640, 480, 2),
        (1280, 720, 1),
        (1280, 720, 2),
        (1280, 720, 4),
        (3840, 2160, 2),
    ):
        hands = posed_hands(model, Camera.assumed(width, height), count)
        picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        for part, options in PARTS.items() if (width, count) == (1280, 2) else [("whole", {})]:
            draw_hands(picture, hands, model, **options)
            times = []
            for _ in range(args.pictures):
                started = time.perf_counter()
                drawn = draw_hands(picture, hands, model, **options)
                times.append(1000 * (time.perf_counter() - started))
            median, least = statistics.median(times), min(times)
            print(f"| {width}x{height} | {count} | {part} | {median:.1f} | {least:.1f} |", flush=True)
            if args.save and part == "whole" and (width, count) == (1280, 2):
                cv2.imwrite(args.save, drawn[..., ::-1])


if __name__ == "__main__":
    main()
