"""From a model's name, weights and a device to a backend that runs it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from handos_ros.errors import ModelError
from handos_ros.inference.backend import Backend

NETWORK_FOLDER = Path(__file__).parents[1] / "network"

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "onnxruntime", "torch")


class LoadedBackend(Backend, Protocol):
    """A backend that also knows where it came from."""

    model_id: str
    """Name of the network and its weights."""
    hand_model: str
    """The hand model that the network was trained with, as in `load_hand_model`."""
    num_vertices: int | None
    """Of its meshes, where known."""


def load_backend(
    model: str,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
) -> LoadedBackend:
    """Load a network; arguments and errors as of `Pipeline.load`."""
    if device not in DEVICES:
        raise ModelError(f"unknown device {device!r}; known are {', '.join(DEVICES)}")
    if backend not in BACKENDS:
        raise ModelError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    files = find_weights(model, weights)
    if backend == "auto":
        backend = _choose(files, device)
    if backend == "onnxruntime":
        if files.onnx is None:
            raise ModelError(
                f"{files.where}: no detector.onnx and decoder.onnx there for onnxruntime; "
                "`handos export` writes them, or use the torch backend"
            )
        from handos_ros.inference.onnx import OnnxBackend

        return OnnxBackend(files.onnx, device="cuda" if device == "cuda" else "cpu", threads=threads)
    if not find_spec("torch"):
        raise ModelError(
            f"{files.where}: this needs torch, which is not installed: pip install 'handos_ros[torch]', "
            "or give a folder with detector.onnx and decoder.onnx"
        )
    if files.safetensors is None:
        raise ModelError(f"{files.where}: no safetensors file there for the torch backend")
    if device == "auto":
        device = "cuda" if _torch_has_gpu() else "cpu"
    elif device == "cuda" and not _torch_has_gpu():
        raise ModelError("torch finds no CUDA device here: use device auto or cpu")
    from handos_ros.inference.torch_backend import TorchBackend

    return TorchBackend.load(model, files.safetensors, device=device, half=device == "cuda", compile=False)


@dataclass(frozen=True)
class WeightFiles:
    """What was found.

    Attributes:
        where: the folder or file that was looked at, for messages.
        onnx: folder of both ONNX graphs, None if they are not there.
        safetensors: the weights file for torch, None if it is not there.
    """

    where: Path
    onnx: Path | None
    safetensors: Path | None


def find_weights(model: str, weights: str | Path | None = None) -> WeightFiles:
    """The files of a model.

    Args:
        model: name of the configuration, or path of its YAML file.
        weights: a folder with `detector.onnx` and `decoder.onnx`, a safetensors file or both; one of
            these files; or None for what is installed under the model's name.

    Raises:
        ModelError: if there is nothing to be used, saying what to do.
    """
    name = Path(model).stem if str(model).endswith((".yaml", ".yml")) else str(model)
    if weights is None:
        where = NETWORK_FOLDER / "weights" / name
        files = _look_into(where, name)
        if files.onnx is None and files.safetensors is None:
            raise ModelError(_none_installed(name))
        return files
    where = Path(weights)
    if where.is_dir():
        files = _look_into(where, name)
        if files.onnx is None and files.safetensors is None:
            raise ModelError(
                f"{where}: no weights in this folder: needs detector.onnx and decoder.onnx, or one "
                f"safetensors file, named {name}.safetensors if there are several"
            )
        return files
    if not where.exists():
        raise ModelError(f"{where}: no such weights file or folder")
    if where.suffix == ".onnx":
        return WeightFiles(where, where.parent, None)
    if where.suffix == ".safetensors":
        # Graphs beside it may be of other weights, so they are not taken unasked.
        return WeightFiles(where, None, where)
    raise ModelError(f"{where}: weights are .safetensors or .onnx files, or a folder of them")


def gpu_present() -> bool:
    """Whether the driver sees an NVIDIA GPU that this process may use; needs no torch to tell."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _choose(files: WeightFiles, device: str) -> str:
    """`auto`: torch where it has a GPU to run on, onnxruntime else, torch on the CPU as a last resort."""
    torch_can = files.safetensors is not None and find_spec("torch") is not None
    # torch takes a second to import: only where a GPU makes up for it.
    if torch_can and device != "cpu" and gpu_present() and _torch_has_gpu():
        return "torch"
    return "onnxruntime" if files.onnx is not None else "torch"


def _torch_has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _look_into(folder: Path, name: str) -> WeightFiles:
    graphs = [folder / file for file in ("detector.onnx", "decoder.onnx")]
    named = folder / f"{name}.safetensors"
    if not named.is_file():
        others = sorted(folder.glob("*.safetensors"))
        named = others[0] if len(others) == 1 else named
    return WeightFiles(
        folder,
        folder if all(path.is_file() for path in graphs) else None,
        named if named.is_file() else None,
    )


def _none_installed(name: str) -> str:
    configs = sorted(path.stem for path in (NETWORK_FOLDER / "configs").glob("*.yaml"))
    folders = sorted(path.name for path in (NETWORK_FOLDER / "weights").glob("*") if path.is_dir())
    if name not in configs and name not in folders:
        return f"unknown model {name!r}; known are {', '.join(sorted({*configs, *folders}))}"
    ready = [folder for folder in folders if folder != name]
    return (
        f"no weights of {name} are installed: give a file or folder of them as weights, make them with "
        f"`handos train`" + (f", or use one of {', '.join(ready)}" if ready else "")
    )
