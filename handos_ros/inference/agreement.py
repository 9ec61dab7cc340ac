"""Whether an ONNX export says what its network says: the check before the export gets its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import ModelError
from handos_ros.inference.backend import Decoded, Detections
from handos_ros.inference.onnx import OnnxBackend
from handos_ros.inference.torch_backend import TorchBackend
from handos_ros.network.handos import HandosNetwork

PIXELS, METRES, RELATIVE, PROBABILITY, LOGIT = 0.1, 1e-4, 1e-3, 1e-3, 4e-3
"""How far the two may be apart: px of the network picture, metres, part of a scale, of a score, its logit."""
_COMPARED = 3


def check_agreement(network: HandosNetwork, folder: str | Path) -> None:
    """Run a network and its graphs on a picture of random colours and compare.

    Raises:
        ModelError: naming what differs and by how much.
    """
    picture = _picture(network.config.long_side, network.config.stride)
    size = np.array([picture.shape[1], picture.shape[0]])
    ours, theirs = TorchBackend(network), OnnxBackend(folder, threads=1)
    seen, exported = ours.detect(picture), theirs.detect(picture)
    best = np.argsort(-seen.scores, kind="stable")[:_COMPARED]
    same = _nearest(seen, exported, best)
    _compare("boxes", (seen.boxes[best] - exported.boxes[same]) * np.tile(size, 2), PIXELS, "px")
    _compare("scores", seen.scores[best] - exported.scores[same], PROBABILITY, "")
    for count in (1, len(best)):
        boxes = seen.boxes[best[:count]]
        _compare_hands(
            ours.decode(seen, best[:count], boxes), theirs.decode(exported, same[:count], boxes), size
        )


def _picture(long_side: int, stride: int) -> NDArray[np.uint8]:
    """A network picture of colours that change smoothly, and one whose sides differ."""
    rng = np.random.default_rng(0)
    high, wide = max(1, 3 * long_side // (4 * stride)), long_side // stride
    coarse = rng.uniform(0, 255, (high, wide, 3))
    rows = np.linspace(0, high - 1, high * stride)[:, None].repeat(wide * stride, 1)
    columns = np.linspace(0, wide - 1, wide * stride)[None].repeat(high * stride, 0)
    import cv2

    return cv2.remap(
        coarse.astype(np.float32), columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.uint8)


def _nearest(seen: Detections, exported: Detections, best: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same candidates among the export's: rounding may change the order of nearly equal ones."""
    one = np.concatenate([seen.boxes, seen.scores[:, None]], 1)[best]
    other = np.concatenate([exported.boxes, exported.scores[:, None]], 1)
    return np.abs(one[:, None] - other[None]).sum(-1).argmin(1)


def _compare_hands(one: Decoded, other: Decoded, size: NDArray) -> None:
    for name in ("joints_2d", "root_2d"):
        _compare(name, (getattr(one, name) - getattr(other, name)) * size, PIXELS, "px")
    for name in ("joints_3d", "vertices"):
        _compare(name, getattr(one, name) - getattr(other, name), METRES, "m")
    _compare("scale", one.scale / other.scale - 1, RELATIVE, "of it")
    _compare("joint_scores", one.joint_scores - other.joint_scores, PROBABILITY, "")
    _compare("presence_logits", one.presence_logits - other.presence_logits, LOGIT, "")


def _compare(name: str, difference: NDArray, limit: float, unit: str) -> None:
    worst = float(np.abs(difference).max())
    if not worst <= limit:
        raise ModelError(
            f"the exported graphs do not give what the network gives: {name} differ by {worst:.3g} {unit}"
            f" (at most {limit:g} is allowed); nothing was written"
        )
