"""What a backend does for the pipeline: run the detector and the decoder, in arrays.

A backend knows the network and its device; it knows no camera, no letterbox and no threshold. The
pipeline does all of that around it in NumPy, so that backends which agree here agree everywhere.

Frames. The *network picture* is the letterboxed RGB picture given to `detect`; points and boxes in it
are fractions of its width and height, (0, 0) its upper left corner (not the first pixel's centre) and
(1, 1) its lower right one. The *ray frame* of a hand has its origin at the wrist and its axes turned
so that z points along the camera's ray through the wrist: what is in it does not change when the same
view of a hand is seen elsewhere in the picture or through another lens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handos_ros.network.config import SecondLookConfig


@dataclass
class Detections:
    """What the detector saw in one picture: Q candidates, best or worst, in no order.

    Attributes:
        boxes: (Q, 4) float32, centre x, centre y, width, height, fractions of the network picture.
        scores: (Q,) float32, 0 to 1.
        features: whatever the same backend's `decode` needs of this picture; opaque to others.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    features: Any


@dataclass
class Decoded:
    """The decoder's word on N hands, free of any focal length.

    Attributes:
        joints_2d: (N, 21, 2) float32, fractions of the network picture.
        joint_scores: (N, 21) float32, 0 to 1.
        presence_logits: (N,) float32, added to the logit of the candidate's score: whether it is a hand.
        joints_3d: (N, 21, 3) float32 m, ray frame, wrist at 0.
        vertices: (N, V, 3) float32 m, ray frame.
        root_2d: (N, 2) float32, the wrist by the camera query, fractions of the network picture.
        scale: (N,) float32, how many pixels of the network picture a metre spans at the wrist's
            depth, looked at square on: focal length in network pixels / depth in metres.
    """

    joints_2d: NDArray[np.float32]
    joint_scores: NDArray[np.float32]
    presence_logits: NDArray[np.float32]
    joints_3d: NDArray[np.float32]
    vertices: NDArray[np.float32]
    root_2d: NDArray[np.float32]
    scale: NDArray[np.float32]

    def select(self, which: NDArray) -> Decoded:
        """Those that a mask or numbers pick, in their order."""
        return Decoded(**{name: array[which] for name, array in vars(self).items()})

    def replaced(self, which: NDArray, by: Decoded) -> Decoded:
        """With other hands in the places that a mask or numbers pick, in their order."""
        arrays = {name: array.copy() for name, array in vars(self).items()}
        for name, array in vars(by).items():
            arrays[name][which] = array
        return Decoded(**arrays)


class Backend(Protocol):
    """One network on one device. Not safe for two threads at once."""

    name: str
    """For people: `onnxruntime`, `torch`."""
    device: str
    """For people: `cpu`, `cuda:0 (NVIDIA H200)`."""
    long_side: int
    """The network picture's longer side in px; the shorter is padded to a multiple of `stride`."""
    stride: int
    second_look: SecondLookConfig | None
    """For which hands the network is to look once more, None for none."""

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        """Find candidates in an (H, W, 3) RGB network picture, H and W multiples of `stride`."""
        ...

    def decode(
        self, detections: Detections, queries: NDArray[np.int64], boxes: NDArray[np.float32]
    ) -> Decoded:
        """Decode N hands of the picture that `detections` came from, N >= 1.

        Args:
            detections: as `detect` gave them, and of its latest call.
            queries: (N,) the candidate whose query each hand starts from.
            boxes: (N, 4) the box each hand starts from, as in `Detections.boxes`: the candidate's
                own or one given from outside.
        """
        ...
