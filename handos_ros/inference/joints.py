"""`JointPipeline`: a picture in, 2D joints out, by a network that has learned no more than these.

The published method first trains such a 2D model, and scores it by itself. It gives no mesh, so it knows
neither sides nor places: nothing of it is a `Hands`, and only evaluation has a use for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import ModelError
from handos_ros.hands import NUM_JOINTS
from handos_ros.inference import filtering
from handos_ros.inference.backend import Backend, Detections
from handos_ros.inference.candidates import check_boxes, choose, judged
from handos_ros.inference.letterbox import Letterbox, check_picture


class JointsBackend(Backend, Protocol):
    """A backend that can run a network as a 2D model."""

    def decode_joints(
        self, detections: Detections, queries: NDArray[np.int64], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """As `decode`: `joints_2d`, `joint_scores` and `presence_logits` alone."""
        ...


@dataclass(eq=False)
class Joints:
    """N hands in 2D.

    Attributes:
        boxes: (N, 4) px, x_min y_min x_max y_max.
        scores: (N,), 0 to 1.
        joints_2d: (N, 21, 2) px, pixel centres on whole numbers.
        joint_scores: (N, 21), 0 to 1.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    joints_2d: NDArray[np.float64]
    joint_scores: NDArray[np.float32]


class JointPipeline:
    """Finds the hands of one picture at a time. Not safe for two threads at once.

    Attributes:
        min_score, max_hands: as of `Pipeline`.
    """

    def __init__(
        self, backend: JointsBackend, *, model_id: str, min_score: float = 0.5, max_hands: int = 10
    ) -> None:
        self.min_score = min_score
        self.max_hands = max_hands
        self._backend = backend
        self._model_id = model_id

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        weights: str | Path | None = None,
        device: str = "auto",
        backend: str = "auto",
        hand_model: str | Path | None = None,
        min_score: float = 0.5,
        max_hands: int = 10,
        long_side: int | None = None,
    ) -> JointPipeline:
        """Load a network; arguments and errors as of `Pipeline.load`, but that onnxruntime cannot run it."""
        from handos_ros.inference.loading import load

        loaded = load(
            model, weights=weights, device=device, backend=backend, hand_model=hand_model, only_2d=True,
            long_side=long_side,
        )  # fmt: skip
        return cls(loaded.backend, model_id=loaded.model_id, min_score=min_score, max_hands=max_hands)  # type: ignore[arg-type]

    def close(self) -> None:
        """As of `Pipeline`."""
        close = getattr(self._backend, "close", None)
        if close is not None:
            close()

    @property
    def model_id(self) -> str:
        """Name of the network and its weights."""
        return self._model_id

    def __call__(self, image: NDArray[np.uint8], *, boxes: ArrayLike | None = None) -> Joints:
        """Find the hands of a picture; arguments, order and errors as of `Pipeline`."""
        image = check_picture(image)
        height, width = image.shape[:2]
        given = None if boxes is None else check_boxes(boxes)
        letterbox = Letterbox.fit(width, height, self._backend.long_side, self._backend.stride)
        found = self._backend.detect(letterbox.apply(image))
        chosen = choose(
            found, letterbox, width, height, given=given, min_score=self.min_score, max_hands=self.max_hands
        )
        if not len(chosen.queries):
            none = np.zeros((0, NUM_JOINTS), np.float32)
            return Joints(np.zeros((0, 4)), none[:, 0], np.zeros((0, NUM_JOINTS, 2)), none)
        fractions, joint_scores, presence = self._backend.decode_joints(found, chosen.queries, chosen.starts)
        if not (np.isfinite(fractions).all() and np.isfinite(presence).all()):
            raise ModelError(f"{self._model_id} gave joints that are not finite: the weights are damaged")
        joints, scores = letterbox.to_pixels(fractions), judged(chosen.scores, presence)
        keep = np.arange(len(joints))
        if given is None:
            keep = filtering.best_first(scores, self.min_score)
            # Sides are unknown: all the same, since two findings of one hand are what is looked for.
            sides = np.zeros(len(keep))
            keep = keep[filtering.distinct(joints[keep], chosen.boxes[keep], sides, self.max_hands)]
        return Joints(chosen.boxes[keep], scores[keep], joints[keep], joint_scores[keep])
