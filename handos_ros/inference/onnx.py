"""The onnxruntime backend: `detector.onnx` and `decoder.onnx`, on a machine that has no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from handos_ros.errors import ModelError
from handos_ros.inference.backend import Decoded, Detections
from handos_ros.network.config import SecondLookConfig, build_config

FORMAT = "2"
"""Of the graphs' inputs, outputs and metadata, as `handos export` writes them."""

DETECTOR_FILE, DECODER_FILE = "detector.onnx", "decoder.onnx"

_DECODED = ("joints_2d", "joint_scores", "presence_logits", "joints_3d", "vertices", "root_2d", "scale")
_MAX_THREADS = 4


class OnnxBackend:
    """Runs two graphs; what the detector saw goes to the decoder without leaving the device.

    Args:
        folder: of `detector.onnx` and `decoder.onnx`.
        device: `cpu` or `cuda`.
        threads: CPU threads; None for those this process may use, at most 4.

    Attributes:
        model_id: name of the network and its weights.
        configuration: name of the configuration that they were made for, None in old exports.
        hand_model: the hand model that it was trained with, as in `load_hand_model`.
        hand_model_hash: that model's `HandModel.fingerprint`.
        num_vertices: of the meshes that it gives.
        second_look: as of `Backend`; None in old exports.

    Raises:
        ModelError: naming the file that is missing, damaged or made for something else.
    """

    name = "onnxruntime"

    def __init__(self, folder: str | Path, *, device: str = "cpu", threads: int | None = None) -> None:
        folder = Path(folder)
        options, providers = _options(threads), _providers(device)
        self._detector = _session(folder / DETECTOR_FILE, options, providers)
        self._decoder = _session(folder / DECODER_FILE, options, providers)
        about = _about(self._detector, folder / DETECTOR_FILE)
        if about != _about(self._decoder, folder / DECODER_FILE):
            raise ModelError(f"{folder}: {DETECTOR_FILE} and {DECODER_FILE} come from different exports")
        self.model_id: str = about["model"]
        self.configuration: str | None = about["configuration"]
        self.hand_model: str = about["hand_model"]
        self.hand_model_hash: str = about["hand_model_hash"]
        try:
            self.long_side, self.stride = int(about["long_side"]), int(about["stride"])
        except ValueError:
            raise ModelError(f"{folder / DETECTOR_FILE}: its long_side and stride are no numbers") from None
        self.second_look = _second_look(about["second_look"], folder / DETECTOR_FILE)
        self._where = "cuda" if device == "cuda" else "cpu"
        self.device = "cuda:0" if device == "cuda" else "cpu"

        given = {value.name for value in self._detector.get_outputs()}
        self._features = [v.name for v in self._decoder.get_inputs() if v.name not in ("queries", "boxes")]
        self._check(folder / DETECTOR_FILE, {"boxes", "scores", *self._features} - given)
        decoded = {value.name: value for value in self._decoder.get_outputs()}
        self._check(folder / DECODER_FILE, set(_DECODED) - decoded.keys())
        vertices = decoded["vertices"].shape[1]
        self.num_vertices: int | None = vertices if isinstance(vertices, int) else None

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        """As `Backend.detect`; features stay where they were computed."""
        run = self._detector.io_binding()
        run.bind_cpu_input("picture", np.ascontiguousarray(picture)[None])
        run.bind_output("boxes", "cpu")
        run.bind_output("scores", "cpu")
        for name in self._features:
            run.bind_output(name, self._where)
        self._detector.run_with_iobinding(run)
        boxes, scores, *features = run.get_outputs()
        return Detections(boxes.numpy(), scores.numpy(), dict(zip(self._features, features, strict=True)))

    def decode(
        self, detections: Detections, queries: NDArray[np.int64], boxes: NDArray[np.float32]
    ) -> Decoded:
        """As `Backend.decode`: any number of hands in one run."""
        run = self._decoder.io_binding()
        run.bind_cpu_input("queries", np.ascontiguousarray(queries, np.int64))
        run.bind_cpu_input("boxes", np.ascontiguousarray(boxes, np.float32))
        for name, value in detections.features.items():
            run.bind_ortvalue_input(name, value)
        for name in _DECODED:
            run.bind_output(name, "cpu")
        self._decoder.run_with_iobinding(run)
        return Decoded(*(value.numpy() for value in run.get_outputs()))

    def close(self) -> None:
        """Give back memory and threads."""
        del self._detector, self._decoder

    @staticmethod
    def _check(path: Path, missing: set[str]) -> None:
        if missing:
            names = ", ".join(sorted(missing))
            raise ModelError(f"{path}: not a graph of a hand network: it gives no {names}")


_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Rewritings of the graph that onnxruntime makes by itself and that cost time on a CPU: a residual and its
norm as one operator run on one thread (decoder of 5 hands: 9.7 ms with it, 8.6 ms without)."""


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(_MAX_THREADS, _usable_cpus())
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work spin, which is right within a run. Between runs, and in the detector's
    # pool while the decoder runs, they would take the CPU from everyone else.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _providers(device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ModelError(
            "this onnxruntime has no CUDA: use device cpu or the torch backend, or install onnxruntime-gpu"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _session(path: Path, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; `handos export` writes it")
    try:
        session = ort.InferenceSession(
            str(path), options, providers=providers, disabled_optimizers=_SLOWER_FUSIONS
        )
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: damaged, or made for a newer onnxruntime: {reason}") from None
    if session.get_providers()[0] != providers[0]:
        raise ModelError(f"onnxruntime cannot use CUDA here: its {providers[0]} did not start")
    return session


def _about(session: ort.InferenceSession, path: Path) -> dict[str, Any]:
    """The graph's metadata under its names without `handos.`."""
    found = session.get_modelmeta().custom_metadata_map
    # Exports of earlier versions do not say these.
    about: dict[str, Any] = {key: found.get(f"handos.{key}") for key in ("configuration", "second_look")}
    for key in ("format", "model", "hand_model", "hand_model_hash", "long_side", "stride"):
        if f"handos.{key}" not in found:
            raise ModelError(f"{path}: not a hand network: its metadata has no handos.{key}")
        about[key] = found[f"handos.{key}"]
    if about["format"] != FORMAT:
        raise ModelError(
            f"{path}: is of format {about['format']}, this version reads format {FORMAT}: export it again"
        )
    return about


def _second_look(text: str | None, path: Path) -> SecondLookConfig | None:
    """As the export wrote it; None also where it wrote nothing."""
    try:
        data = json.loads(text or "null")
    except ValueError:
        raise ModelError(f"{path}: its second_look is no json") from None
    origin = f"second_look of {path}"
    return None if data is None else build_config(SecondLookConfig, data, origin)
