"""From a model's name, weights and a device to a backend that runs it."""

from __future__ import annotations

import ctypes
import json
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from handos_ros.errors import ModelError
from handos_ros.extras import how_to_install
from handos_ros.hand_model.model import HandModel, load_hand_model
from handos_ros.inference.backend import Backend

NETWORK_FOLDER = Path(__file__).parents[1] / "network"

DEFAULT_MODEL = "handos_lite"
"""The network where neither a name nor weights are given."""

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "onnxruntime", "torch")
LARGEST_LONG_SIDE = 4096
"""px. Memory and time grow with its square."""


@dataclass(frozen=True)
class Loaded:
    """A network ready to run.

    Attributes:
        backend: what runs it.
        hand_model: whose mesh it gives.
        model_id: name of the network.
        weights: the files that they came from.
    """

    backend: Backend
    hand_model: HandModel
    model_id: str
    weights: tuple[Path, ...]


def load(
    model: str | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    backend: str = "auto",
    hand_model: str | Path | None = None,
    threads: int | None = None,
    long_side: int | None = None,
    only_2d: bool = False,
) -> Loaded:
    """Load a network; arguments and errors as of `Pipeline.load`.

    With `only_2d` the backend is a `JointsBackend`, for a network that has learned 2D joints alone.
    """
    if device not in DEVICES:
        raise ModelError(f"unknown device {device!r}; known are {', '.join(DEVICES)}")
    if backend not in BACKENDS:
        raise ModelError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    if threads is not None and threads < 1:
        raise ModelError(f"threads must be at least 1, got {threads}")
    files = find_weights(model, weights)
    mesh = None if hand_model is None else load_hand_model(hand_model)
    if only_2d and backend == "onnxruntime":
        raise ModelError(
            f"{files.where}: 2D joints alone need the torch backend: graphs are of the whole network"
        )
    if backend == "auto":
        backend = "torch" if only_2d else _choose(files, device)
    if backend == "onnxruntime":
        loaded = _load_onnx(files, model, "cuda" if device == "cuda" else "cpu", mesh, threads)
    else:
        loaded = _load_torch(files, model, device, mesh, threads, only_2d)
    set_long_side(loaded.backend, long_side)
    return loaded


def set_long_side(backend: Backend, long_side: int | None) -> None:
    """Have a network look at its pictures at another size than its own; None leaves it as it is.

    Raises:
        ModelError: if it cannot look at pictures of that size.
    """
    if long_side is None:
        return
    stride = backend.stride
    if long_side % stride or not stride <= long_side <= LARGEST_LONG_SIDE:
        near = min(max(stride, round(long_side / stride) * stride), LARGEST_LONG_SIDE // stride * stride)
        raise ModelError(
            f"long_side must be a multiple of {stride} up to {LARGEST_LONG_SIDE} px, got {long_side}: "
            f"try {near}"
        )
    backend.long_side = long_side


def _load_onnx(
    files: WeightFiles, model: str | None, device: str, mesh: HandModel | None, threads: int | None
) -> Loaded:
    if files.onnx is None:
        raise ModelError(
            f"{files.where}: no detector.onnx and decoder.onnx there for onnxruntime; "
            "`handos export` writes them, or use the torch backend"
        )
    from handos_ros.inference.onnx import DECODER_FILE, DETECTOR_FILE, OnnxBackend

    backend = OnnxBackend(files.onnx, device=device, threads=threads)
    _check_made_for(model, backend.configuration, files)
    if mesh is None:
        if backend.hand_model == "mano":
            raise ModelError(
                f"{files.where}: gives MANO meshes, whose licence does not let them come with it: get "
                "MANO_RIGHT.pkl from mano.is.tue.mpg.de and name it as the hand model"
            )
        mesh = load_hand_model(backend.hand_model)
    if backend.num_vertices not in (None, mesh.num_vertices):
        raise ModelError(
            f"{files.where}: made for the hand model {backend.hand_model} with {backend.num_vertices} "
            f"vertices, {mesh.name} has {mesh.num_vertices}"
        )
    if backend.hand_model_hash not in (mesh.fingerprint(coarse=True), mesh.fingerprint(coarse=False)):
        raise ModelError(
            f"{files.where}: made for another version of the hand model {backend.hand_model}: as many "
            "vertices, but other faces, joints or coarse vertices; use the one that it was trained with"
        )
    graphs = (files.onnx / DETECTOR_FILE, files.onnx / DECODER_FILE)
    return Loaded(backend, mesh, backend.model_id, graphs)


def _load_torch(
    files: WeightFiles,
    model: str | None,
    device: str,
    mesh: HandModel | None,
    threads: int | None,
    only_2d: bool,
) -> Loaded:
    if find_spec("torch") is None:
        raise ModelError(
            f"{files.where}: this needs torch, which is not installed: {how_to_install('torch')}, "
            "or give a folder with detector.onnx and decoder.onnx"
        )
    if files.safetensors is None:
        raise ModelError(f"{files.where}: no safetensors file there for the torch backend")
    # Before the network is built: that may take long, or first ask for a hand model that is not needed.
    _check_made_for(model, _configuration(files.safetensors), files)
    if not only_2d:
        check_learned(files.safetensors)
    import torch

    from handos_ros.inference.torch_backend import TorchBackend
    from handos_ros.inference.torch_joints import TorchJointsBackend

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if threads is not None:
        torch.set_num_threads(threads)
    kind = TorchJointsBackend if only_2d else TorchBackend
    backend, mesh = kind.load(files.safetensors, hand_model=mesh, device=device)
    return Loaded(backend, mesh, read_model_id(files.safetensors), (files.safetensors,))


def _check_made_for(model: str | None, configuration: str | None, files: WeightFiles) -> None:
    """Refuse weights of another network than the one asked for; old exports do not say what they are of."""
    if model is not None and configuration is not None and model != configuration:
        raise ModelError(
            f"{files.where}: these are weights of the network {configuration}, but the model {model} was "
            f"asked for: ask for {configuration}, or name no model, or give weights of {model}"
        )


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


def find_weights(model: str | None = None, weights: str | Path | None = None) -> WeightFiles:
    """The files of a model.

    Args:
        model: name of an installed network, None for the default one. Where `weights` are given, it only
            tells between several files in one folder.
        weights: a folder with `detector.onnx` and `decoder.onnx`, a safetensors file or both; one of
            these files; or None for what is installed under the model's name.

    Raises:
        ModelError: if there is nothing to be used, saying what to do.
    """
    try:
        return _find_weights(model or DEFAULT_MODEL, weights)
    except OSError as error:
        # Such as a folder above that others may not look into.
        raise ModelError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _find_weights(model: str, weights: str | Path | None) -> WeightFiles:
    if weights is None:
        files = _look_into(NETWORK_FOLDER / "weights" / model, model)
        if files.onnx is None and files.safetensors is None:
            raise ModelError(_none_installed(model))
        return files
    where = Path(weights)
    if where.is_dir():
        files = _look_into(where, model)
        if files.onnx is None and files.safetensors is None:
            raise ModelError(
                f"{where}: no weights in this folder: needs detector.onnx and decoder.onnx, or one "
                f"safetensors file, named {model}.safetensors if there are several"
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
    if files.onnx is None:
        return "torch"
    torch_can = files.safetensors is not None and find_spec("torch") is not None
    # torch takes a second to import: only where a GPU makes up for it.
    if torch_can and device != "cpu" and gpu_present():
        import torch

        if torch.cuda.is_available():
            return "torch"
    return "onnxruntime"


def read_model_id(path: Path) -> str:
    """What a safetensors file that torch has read calls its network."""
    metadata = _metadata(path)
    return str(metadata.get("handos.model") or json.loads(metadata["handos.config"])["name"])


def learned_by(path: str | Path) -> str:
    """What the decoder in a safetensors file has learned: `none`, `2d` or `full`; old files do not say."""
    try:
        return _metadata(Path(path)).get("handos.learned", "full")
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return "full"  # What is wrong with the file is said when it is loaded.


def check_learned(path: Path) -> None:
    """Refuse a safetensors file whose training has not come to hands in 3D."""
    learned = learned_by(path)
    if learned == "2d":
        raise ModelError(
            f"{path}: has learned 2D joints alone so far: train it on, as `initial` of a run "
            "with `decoder: full`, or score it as it is with `handos eval --benchmark hint --only-2d`"
        )
    if learned == "none":
        raise ModelError(
            f"{path}: its decoder has learned nothing yet: let the training run to its next stage"
        )


def _configuration(path: Path) -> str | None:
    """Name of the configuration that a safetensors file was made for, None where it does not say."""
    try:
        return str(json.loads(_metadata(path)["handos.config"])["name"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None  # What is wrong with the file is said when it is loaded.


def _metadata(path: Path) -> dict[str, str]:
    """The metadata in a safetensors file's header: its length in 8 bytes, then json."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata: dict[str, str] = json.loads(file.read(min(length, size)))["__metadata__"]
    return metadata


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
