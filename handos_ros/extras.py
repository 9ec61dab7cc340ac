"""What the package can do without, and how users get it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_EXTRAS = {
    "torch": "torch transformers safetensors",
    "train": "torch transformers safetensors onnx onnxscript scipy trimesh tensorboard",
    "table": "pandas pyarrow",
    "ray": "ray",
}
"""The packages of each of the extras that pyproject.toml has for users."""

# What to install, by the module whose absence shows it. onnxruntime and rosbags come along, but not with a
# colcon build.
_MODULES = {
    "torch": "torch", "transformers": "torch", "safetensors": "torch",
    "onnx": "train", "onnxscript": "train", "scipy": "train", "trimesh": "train", "tensorboard": "train",
    "pandas": "table", "pyarrow": "table",
    "onnxruntime": "", "rosbags": "",
}  # fmt: skip


def how_to_install(extra: str) -> str:
    """The command that brings an extra.

    Only where pip brought this package does it know them: no index has it, and colcon tells pip nothing.
    """
    try:
        version("handos_ros")
    except PackageNotFoundError:
        return f"pip install {_EXTRAS[extra]}"
    return f"pip install 'handos_ros[{extra}]'"


def missing_package(error: BaseException) -> str | None:
    """The package whose absence `error` is about and how to install it; None for any other error."""
    missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing not in _MODULES:
        return None
    extra = _MODULES[missing]
    command = how_to_install(extra) if extra else f"pip install '{missing}'"
    return f"{missing}, which is not installed; install it with: {command}"
