"""The network in torch: on a GPU, or on a CPU where its weights have no ONNX export yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handos_ros.errors import ModelError
from handos_ros.hand_model.model import HandModel
from handos_ros.inference.backend import Decoded, Detections
from handos_ros.network.detectors import DetectorOutput
from handos_ros.network.handos import HandosNetwork
from handos_ros.network.weights import load_network


class TorchBackend:
    """Runs a `HandosNetwork` for the pipeline.

    Args:
        network: with its weights in place.
        device: `cpu`, `cuda` or `cuda:N`.
        half: half precision (CUDA only).
        compiled: compile detector and decoder with `torch.compile`; the first pictures of each shape
            then take long.

    Raises:
        ModelError: if the device is not there or cannot do what is asked.
    """

    name = "torch"

    def __init__(
        self, network: HandosNetwork, *, device: str = "cpu", half: bool = False, compiled: bool = False
    ) -> None:
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"cannot use the device {device!r}: {str(error).splitlines()[0]}") from None
        if half and self._device.type != "cuda":
            raise ModelError("half precision needs a CUDA device")
        self.device = str(self._device)
        if self._device.type == "cuda":
            self.device += f" ({torch.cuda.get_device_name(self._device)})"
        self._type = torch.float16 if half else torch.float32
        self._network = network.to(self._device).eval()
        self._detect = torch.compile(network.detect, dynamic=True) if compiled else network.detect
        self._decode = torch.compile(network.decode, dynamic=True) if compiled else network.decode
        self.long_side, self.stride = network.config.long_side, network.config.stride
        self.second_look = network.config.second_look

    @property
    def network(self) -> HandosNetwork:
        """What it runs."""
        return self._network

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        hand_model: HandModel | None = None,
        device: str = "cpu",
        half: bool = False,
        compiled: bool = False,
    ) -> tuple[TorchBackend, HandModel]:
        """From a safetensors file of this package; also the hand model whose mesh it gives."""
        network, hand_model = load_network(weights, hand_model=hand_model)
        return cls(network, device=device, half=half, compiled=compiled), hand_model

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        """As `Backend.detect`; features stay on the device."""
        pictures = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device, non_blocking=True)
        with self._running():
            seen = self._detect(pictures.permute(2, 0, 1)[None])
            # One copy to the host instead of two: the wait for it is what costs.
            both = torch.cat([seen.boxes[0], seen.scores[0][:, None]], 1).float().cpu().numpy()
        return Detections(both[:, :4], both[:, 4], (seen, picture.shape[:2]))

    def decode(
        self, detections: Detections, queries: NDArray[np.int64], boxes: NDArray[np.float32]
    ) -> Decoded:
        """As `Backend.decode`."""
        seen: DetectorOutput
        seen, size = detections.features
        with self._running():
            index = torch.from_numpy(np.ascontiguousarray(queries, np.int64))[None].to(self._device)
            given = torch.from_numpy(np.ascontiguousarray(boxes, np.float32))[None].to(self._device)
            out = self._decode(seen, index, given, size)
            assert out.vertices is not None and out.joints_3d is not None
            assert out.root_2d is not None and out.scale is not None and out.presence_logits is not None
            # Everything in one buffer, again for the sake of one copy.
            parts = [
                out.joints_2d, out.joint_logits.sigmoid(), out.presence_logits[..., None], out.joints_3d,
                out.vertices, out.root_2d, out.scale[..., None],
            ]  # fmt: skip
            flat = torch.cat([part[0].flatten(1).float() for part in parts], 1).cpu().numpy()
        ends = np.cumsum([part[0].flatten(1).shape[1] for part in parts])[:-1]
        joints_2d, joint_scores, presence, joints_3d, vertices, root_2d, scale = (
            chunk.reshape(part.shape[1:]) for chunk, part in zip(np.split(flat, ends, 1), parts, strict=True)
        )
        return Decoded(joints_2d, joint_scores, presence[:, 0], joints_3d, vertices, root_2d, scale[:, 0])

    def _running(self) -> _Running:
        return _Running(self._device, self._type)


class _Running:
    """No gradients, and the backend's precision."""

    def __init__(self, device: torch.device, precision: torch.dtype) -> None:
        self._contexts = (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32),
        )

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: object) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)
