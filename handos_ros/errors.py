"""Errors whose message is meant for the user: what is wrong, where, and what to do about it.

The commands and the node print the message of a `HandosError` without a traceback; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

# What to install, by the module whose absence shows it. onnxruntime and rosbags come along, but not with a
# colcon build.
_PACKAGES = {
    "torch": "handos_ros[torch]", "transformers": "handos_ros[torch]", "safetensors": "handos_ros[torch]",
    "onnx": "handos_ros[train]", "onnxscript": "handos_ros[train]", "scipy": "handos_ros[train]",
    "pandas": "handos_ros[table]", "pyarrow": "handos_ros[table]",
    "onnxruntime": "onnxruntime", "rosbags": "rosbags",
}  # fmt: skip


class HandosError(Exception):
    """Base of every error that a user, not a programmer, can mend."""


class PictureError(HandosError):
    """A picture that cannot be used: empty, too large, of an unknown type or encoding."""


class CameraError(HandosError):
    """Intrinsics or distortion that describe no camera: zero or non-finite K, wrong shapes."""


class DistortionError(CameraError):
    """Distortion of a model that is not known, or with coefficients that its model has no use for."""


class ModelError(HandosError):
    """A hand model or weights file that is missing, damaged or made for something else."""


class DataError(HandosError):
    """A bag, video, annotation or checkpoint file that cannot be read or written."""


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The package that `error` is about and how to install it; None for a module that no install brings."""
    missing = (error.name or "").split(".")[0]
    if missing not in _PACKAGES:
        return None
    return f"{missing}, which is not installed; install it with: pip install '{_PACKAGES[missing]}'"
