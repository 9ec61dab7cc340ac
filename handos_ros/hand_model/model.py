"""`HandModel`: the hand mesh as data, and how it is read and checked."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import ModelError
from handos_ros.hands import LEFT, NUM_JOINTS

DEFAULT_FILE = Path(__file__).with_name("hand_model.npz")


def load_hand_model(name_or_path: str | Path = "anny") -> HandModel:
    """Read a hand model.

    Args:
        name_or_path: `anny` for the one that comes with the package, or the path of an npz file in
            the same layout, or of the user's own MANO file (`MANO_RIGHT.pkl`, or npz of it).

    Raises:
        ModelError: naming the file and what is wrong with it.
    """
    if name_or_path == "anny":
        return _read_npz(DEFAULT_FILE)
    path = Path(name_or_path)
    if path.suffix == ".npz" and "v_template" not in _npz_names(path):
        return _read_npz(path)
    from handos_ros.hand_model.mano import load_mano

    return load_mano(path)


@dataclass(frozen=True, eq=False, kw_only=True)
class Skin:
    """What linear blend skinning needs of a hand, lengths in metres, in the hand's own frame.

    V vertices, B bones, S shape components.

    Attributes:
        template: (V, 3) float32, rest pose, mean shape.
        skinning: (V, B) float32, rows sum to 1.
        bone_parents: (B,) int32, -1 for the root, which comes first; a parent stands before its children.
        bone_regressor: (B, V) float32, rows sum to 1; heads of bones, about which they turn, from the rest
            vertices of any shape.
        shape_basis: (S, V, 3) float32, offsets for one standard deviation each.
        pose_basis: (9 (B - 1), V, 3) float32, offsets per entry of (rotation - identity) of each bone
            but the root, row by row (MANO has them), or None.
    """

    template: NDArray[np.float32]
    skinning: NDArray[np.float32]
    bone_parents: NDArray[np.int32]
    bone_regressor: NDArray[np.float32]
    shape_basis: NDArray[np.float32]
    pose_basis: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Rig(Skin):
    """A right hand's skin and its bones by name: what it takes to shape and pose it as people do.

    The wrist joint is at the origin; of the shipped model, x runs towards the thumb, y towards the fingers,
    z out of the palm.

    V vertices, B bones, S shape components.

    Attributes:
        bone_names: B names.
        bone_heads, bone_tails: (B, 3) float32, of the template.
        flexion_axes: (B, 3) float32 unit vectors in the rest pose; a positive right-handed turn closes
            the fist (thumb: its root sweeps across the palm).
        abduction_axes: (B, 3) float32 unit vectors at right angles to `flexion_axes`; a positive turn
            moves a finger towards the thumb's side, and the thumb off the palm's plane.
        shape_names: S names.
    """

    bone_names: tuple[str, ...]
    bone_heads: NDArray[np.float32]
    bone_tails: NDArray[np.float32]
    flexion_axes: NDArray[np.float32]
    abduction_axes: NDArray[np.float32]
    shape_names: tuple[str, ...]

    @property
    def num_vertices(self) -> int:
        """V."""
        return len(self.template)

    @property
    def num_bones(self) -> int:
        """B."""
        return len(self.bone_names)


@dataclass(frozen=True, eq=False, kw_only=True)
class HandModel(Rig):
    """The right hand's rig with its surface and joints; the left hand is its mirror image.

    A left hand's vertices are those of a right hand with x -> -x, numbered alike; only the winding of
    `faces_for` differs.

    V vertices, F faces, B bones, C coarse vertices.

    Attributes:
        name, license, provenance: for people; what the data is and where it is from.
        faces: (F, 3) int32, counter-clockwise from outside on a right hand.
        joint_regressor: (21, V) float32, rows sum to 1; works on posed vertices.
        lifting: (V, 21) float32, rows sum to 1: skinning folded onto the joints.
        coarse: (C,) int32, vertices that stand for the rest.
        upsampling: (V, C) float32, rows sum to 1: vertices = upsampling @ vertices[coarse].
        coarse_lifting: (C, 21) float32, `lifting` of the coarse vertices.
        uv: (F, 3, 2) float32 texture coordinates of each face's corners, 0 to 1, v upwards; or None.

    Raises:
        ModelError: if an array does not fit the rest; the message names it.
    """

    name: str
    license: str
    provenance: str
    faces: NDArray[np.int32]
    joint_regressor: NDArray[np.float32]
    lifting: NDArray[np.float32]
    coarse: NDArray[np.int32]
    upsampling: NDArray[np.float32]
    coarse_lifting: NDArray[np.float32]
    uv: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        v, f, b = len(self.template), len(self.faces), len(self.bone_names)
        s, c = len(self.shape_names), len(self.coarse)
        want = {
            "template": (v, 3), "faces": (f, 3), "joint_regressor": (NUM_JOINTS, v), "skinning": (v, b),
            "bone_parents": (b,), "bone_heads": (b, 3), "bone_tails": (b, 3), "bone_regressor": (b, v),
            "flexion_axes": (b, 3), "abduction_axes": (b, 3), "shape_basis": (s, v, 3),
            "lifting": (v, NUM_JOINTS), "coarse": (c,), "upsampling": (v, c),
            "coarse_lifting": (c, NUM_JOINTS), "uv": (f, 3, 2), "pose_basis": (9 * (b - 1), v, 3),
        }  # fmt: skip
        for name, shape in want.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise ModelError(f"{name} has shape {array.shape}, needs {shape}")
            if not np.isfinite(array).all():
                raise ModelError(f"{name} holds a value that is not finite")
            array.setflags(write=False)
        for name in ("joint_regressor", "skinning", "bone_regressor", "lifting", "upsampling"):
            if np.abs(getattr(self, name).sum(1) - 1).max(initial=0) > 1e-3:
                raise ModelError(f"a row of {name} does not sum to 1")
        for name in ("faces", "coarse"):
            array = getattr(self, name)
            if array.size and not (array.min() >= 0 and array.max() < v):
                raise ModelError(f"{name} names a vertex that is not there")
        parents = self.bone_parents
        if not b or parents[0] != -1 or (parents[1:] < 0).any() or (parents >= np.arange(b)).any():
            raise ModelError("bone_parents is no tree with its root first")

    def faces_for(self, handedness: int) -> NDArray[np.int32]:
        """(F, 3) faces whose winding is counter-clockwise from outside on that side's mesh."""
        return self.left_faces if handedness == LEFT else self.faces

    def fingerprint(self, *, coarse: bool) -> str:
        """What a network's outputs mean: equal for two hand models only if weights for one fit the other.

        SHA-256, in hexadecimal, of `faces` and `joint_regressor` and, for a network that predicts the
        `coarse` vertices alone, of `coarse` and `upsampling`. These last are left out elsewhere because
        for MANO they are computed as the file is read, to a precision that depends on the machine.
        """
        arrays: list[NDArray] = [self.faces.astype("<i4"), self.joint_regressor.astype("<f4")]
        if coarse:
            arrays += [self.coarse.astype("<i4"), self.upsampling.astype("<f4")]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @cached_property
    def left_faces(self) -> NDArray[np.int32]:
        """(F, 3) the same triangles, wound the other way."""
        return np.ascontiguousarray(self.faces[:, ::-1])


def signed_volumes(vertices: NDArray, faces: NDArray) -> NDArray:
    """Signed volume in m^3 of each of N meshes: (N, V, 3), (F, 3) -> (N,).

    Under the right hand's faces it is positive for a right hand and negative for a left one. The
    divergence theorem; exact where the surface is closed.
    """
    a, b, c = np.moveaxis(vertices[:, faces], 2, 0)
    return np.einsum("nfi,nfi->n", a, np.cross(b, c)) / 6


def _npz_names(path: Path) -> set[str]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return set(data.files)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the hand model: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError):  # the last two of one array
        raise ModelError(f"{path}: not an npz file, or a damaged one") from None


def _read_npz(path: Path) -> HandModel:
    names = _npz_names(path)
    values: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as data:
            for field in fields(HandModel):
                if field.name in names:
                    values[field.name] = _value(field.name, str(field.type), data[field.name])
                elif field.default is MISSING:
                    raise ModelError(f"it has no {field.name}")
        return HandModel(**values)
    except ModelError as error:
        raise ModelError(f"{path}: not a hand model: {error}") from None
    except (ValueError, EOFError, OSError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{path}: a damaged hand model: {error}") from None


def _value(name: str, kind: str, array: NDArray) -> str | tuple[str, ...] | NDArray:
    """An npz entry as `HandModel` holds it under that type hint."""
    want, dtype = ("U", None) if "str" in kind else ("iu", np.int32) if "int" in kind else ("f", np.float32)
    if array.dtype.kind not in want:
        raise ModelError(f"{name} holds {array.dtype}")
    if dtype is None:
        return tuple(array.tolist()) if array.ndim else str(array)
    return array.astype(dtype)
