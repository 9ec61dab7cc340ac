"""A stand-in network for tests: sees coloured discs as hands, so that everything around it can be tried.

A magenta disc is a right hand, a cyan one a left hand: open, upright, its palm to the camera, as long as
the disc is wide (taken for `HAND_LENGTH` metres). Places and sizes are exact up to the disc's pixels.
"""

from __future__ import annotations

import time

import numpy as np

from handos_ros.hand_model.model import HandModel
from handos_ros.hands import JOINT_PARENTS, LEFT, NUM_JOINTS, RIGHT
from handos_ros.inference.backend import Decoded, Detections
from handos_ros.inference.pipeline import Pipeline

HAND_LENGTH = 0.2
"""Metres that a disc's diameter stands for."""

RIGHT_COLOUR, LEFT_COLOUR = (255, 0, 255), (0, 255, 255)
"""RGB of the discs: magenta is a right hand, cyan a left one."""


def standin_pipeline(
    *, delay: float = 0.0, hands: int | None = None, hand_model: HandModel | None = None, **kwargs
) -> Pipeline:
    """A pipeline around the stand-in; `kwargs` as of `Pipeline` (min_score, max_hands)."""
    hand_model = hand_model or standin_hand_model()
    backend = StandInBackend(delay=delay, hands=hands, hand_model=hand_model)
    return Pipeline(backend, hand_model, **{"model_id": "stand-in", **kwargs})


UNSURE = 0.4
"""What a dim disc scores."""


def draw_disc(
    image: np.ndarray, centre: tuple[float, float], diameter: float, side: int = RIGHT, *, dim: bool = False
) -> np.ndarray:
    """Draw one hand into an (H, W, 3) RGB picture, in place, and return it."""
    import cv2

    colour = tuple(
        165 * (value > 0) if dim else value for value in (RIGHT_COLOUR if side == RIGHT else LEFT_COLOUR)
    )
    at = tuple(round(16 * float(value)) for value in centre)
    cv2.circle(image, at, round(8 * diameter), colour, -1, cv2.LINE_AA, 4)
    return image


class StandInBackend:
    """A `Backend` that needs no weights.

    Args:
        delay: seconds that `detect` takes at least.
        hands: report this many hands in a row across the picture, right and left in turn, whatever it
            shows; None to look for discs.
        hand_model: whose vertices to give; None for `standin_hand_model`.
    """

    name = "stand-in"
    device = "cpu"
    long_side = 320
    stride = 32
    second_look = None

    def __init__(
        self, delay: float = 0.0, hands: int | None = None, hand_model: HandModel | None = None
    ) -> None:
        self.delay, self.hands = delay, hands
        self.closed = False
        model = hand_model or standin_hand_model()
        # From fingers up, palm forward (y up, z to the viewer) to the ray frame (y down, z away).
        vertices = (model.template * np.float32([1, -1, -1])).astype(np.float32)
        joints = model.joint_regressor @ vertices
        self._vertices, self._joints = vertices - joints[0], joints - joints[0]
        span = self._joints[:, :2]
        self._middle = (span.min(0) + span.max(0)) / 2

    def detect(self, picture: np.ndarray) -> Detections:
        """Boxes around the discs, then some queries that saw nothing, as a DETR has."""
        time.sleep(self.delay)
        height, width = picture.shape[:2]
        if self.hands is None:
            found = [(*disc, side) for side in (RIGHT, LEFT) for disc in _discs(picture, side)]
        else:
            across = min(0.8 * width / max(self.hands, 1), 0.4 * height)
            found = [
                (
                    [(i + 0.5) / self.hands * width, 0.4 * height, across, across],
                    0.95,
                    LEFT if i % 2 else RIGHT,
                )
                for i in range(self.hands)
            ]
        nothing = [0.5 * width, 0.5 * height, 0.2 * width, 0.2 * height]
        boxes = np.array([box for box, *_ in found] + [nothing] * 5, np.float32)
        scores = np.array([found[i][1] - 0.001 * i for i in range(len(found))] + [0.02] * 5, np.float32)
        sides = np.array([side for *_, side in found] + [RIGHT] * 5)
        return Detections(boxes / np.float32([width, height] * 2), scores, (sides, width, height))

    def decode(self, detections: Detections, queries: np.ndarray, boxes: np.ndarray) -> Decoded:
        """The open hand, fitted into each box."""
        sides, width, height = detections.features
        size = np.array([width, height], np.float32)
        mirror = np.where(sides[queries] == LEFT, -1, 1).astype(np.float32)[:, None, None]
        mirror = mirror * np.float32([1, 0, 0]) + np.float32([0, 1, 1])
        joints, vertices = self._joints * mirror, self._vertices * mirror
        scale = (boxes[:, 2:] * size).max(1) / HAND_LENGTH
        root = boxes[:, :2] * size - (self._middle * mirror[:, 0, :2]) * scale[:, None]
        joints_2d = root[:, None] + joints[..., :2] * scale[:, None, None]
        return Decoded(
            joints_2d=(joints_2d / size).astype(np.float32),
            joint_scores=np.full((len(queries), NUM_JOINTS), 0.9, np.float32),
            presence_logits=np.zeros(len(queries), np.float32),
            joints_3d=joints.astype(np.float32),
            vertices=vertices.astype(np.float32),
            root_2d=(root / size).astype(np.float32),
            scale=scale.astype(np.float32),
        )

    def close(self) -> None:
        """Remembers that it was closed."""
        self.closed = True


def _discs(picture: np.ndarray, side: int) -> list[tuple[list[float], float]]:
    """Centre x, centre y, width, height in px, (0, 0) the corner, of one colour's discs; and their scores."""
    import cv2

    red, green, blue = (picture[..., i].astype(np.int16) for i in range(3))
    strong, weak = (red, green) if side == RIGHT else (green, red)
    # Half way between the disc and a black or grey ground; what is not saturated is no disc.
    contrast = np.minimum(strong, blue) - weak
    _, labels, stats, _ = cv2.connectedComponentsWithStats((contrast > 128).astype(np.uint8))
    return [
        ([x + w / 2, y + h / 2, w, h], 0.95 if np.median(contrast[labels == number]) > 190 else UNSURE)
        for number, (x, y, w, h, area) in enumerate(stats.tolist())
        if number and area >= 12
    ]


def standin_hand_model() -> HandModel:
    """A small right hand that needs no file: 20 bones, each a slim octahedron; 120 vertices, 160 faces.

    Axes as in the shipped model: wrist at the origin, x to the thumb, y to the fingers, z out of the palm.
    """
    joints = [(0.0, 0.0, 0.0)]
    joints += [(0.025, 0.020, 0.010), (0.045, 0.045, 0.018), (0.060, 0.070, 0.022), (0.070, 0.092, 0.024)]
    for x, knuckle, lengths in (
        (0.025, 0.090, (0.042, 0.025, 0.022)),
        (0.003, 0.093, (0.047, 0.029, 0.023)),
        (-0.017, 0.087, (0.043, 0.027, 0.023)),
        (-0.035, 0.077, (0.034, 0.020, 0.021)),
    ):
        along = knuckle + np.concatenate([[0], np.cumsum(lengths)])
        joints += [(x * (1 + 0.15 * i), y, 0.004 * i) for i, y in enumerate(along)]
    joints = np.array(joints, np.float32)

    template, faces, skinning = [], [], np.zeros((120, 16), np.float32)
    regressor = np.zeros((NUM_JOINTS, 120), np.float32)
    bone_of_joint = {0: 0}
    for bone, child in enumerate(j for j in range(1, NUM_JOINTS) if j % 4 != 0):
        bone_of_joint[child] = bone + 1
    for number, child in enumerate(range(1, NUM_JOINTS)):
        parent = JOINT_PARENTS[child]
        a, b = joints[parent], joints[child]
        along = (b - a) / np.linalg.norm(b - a)
        side = np.cross(along, [0, 0, 1.0])
        side /= np.linalg.norm(side)
        up, middle, first = np.cross(side, along), a + 0.3 * (b - a), 6 * number
        template += [a, b, *(middle + 0.008 * d for d in (side, up, -side, -up))]
        for i in range(4):
            left, right = first + 2 + i, first + 2 + (i + 1) % 4
            faces += [(first, left, right), (first + 1, right, left)]
        regressor[child, first + 1] = 1
        skinning[first : first + 6, bone_of_joint[parent]] = 1
    regressor[0, 6 * 8] = 1  # the start of the middle finger's metacarpal lies at the wrist
    template, faces = np.array(template, np.float32), np.array(faces, np.int32)
    a, b, c = template[faces].transpose(1, 0, 2)
    if np.einsum("fi,fi->", a, np.cross(b, c)) < 0:
        faces = faces[:, ::-1].copy()

    heads = np.array([joints[0]] + [joints[j] for j in range(1, NUM_JOINTS) if j % 4 != 0], np.float32)
    tails = np.array([joints[9]] + [joints[j + 1] for j in range(1, NUM_JOINTS) if j % 4 != 0], np.float32)
    names = ("wrist", *(f"bone_{j}" for j in range(1, NUM_JOINTS) if j % 4 != 0))
    parents = np.array([-1] + [bone_of_joint[JOINT_PARENTS[j]] for j in range(1, NUM_JOINTS) if j % 4 != 0])
    bone_regressor = regressor[[0] + [j for j in range(1, NUM_JOINTS) if j % 4 != 0]]
    lifting = np.zeros((120, NUM_JOINTS), np.float32)
    for number, child in enumerate(range(1, NUM_JOINTS)):
        lifting[6 * number : 6 * number + 6, [JOINT_PARENTS[child], child]] = 0.5
    return HandModel(
        name="stand-in", license="CC0-1.0", provenance="made by the tests", template=template, faces=faces,
        joint_regressor=regressor, skinning=skinning, bone_names=names,
        bone_parents=parents.astype(np.int32), bone_heads=heads, bone_tails=tails,
        bone_regressor=bone_regressor,
        flexion_axes=np.tile(np.float32([1, 0, 0]), (16, 1)),
        abduction_axes=np.tile(np.float32([0, 0, 1]), (16, 1)),
        shape_basis=(0.1 * template)[None], shape_names=("size",), lifting=lifting,
        coarse=np.arange(120, dtype=np.int32), upsampling=np.eye(120, dtype=np.float32),
        coarse_lifting=lifting,
    )  # fmt: skip
