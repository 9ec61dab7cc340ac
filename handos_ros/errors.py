"""Errors whose message is meant for the user: what is wrong, where, and what to do about it.

The commands and the node print the message of a `HandosError` without a traceback; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations


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
