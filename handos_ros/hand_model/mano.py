"""Reads the user's own MANO file as a `HandModel`; MANO itself is licensed and never shipped."""

from __future__ import annotations

import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import ModelError
from handos_ros.hand_model.anatomy import bending_axes, palm_frame
from handos_ros.hand_model.coarse import choose_coarse, fold_on_joints
from handos_ros.hand_model.model import HandModel, Rig
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose_bones
from handos_ros.hand_model.restricted_pickle import load_arrays
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT

TIPS = {
    "freihand": (744, 320, 443, 555, 672),
    "mobrecon": (744, 333, 444, 555, 672),
    "hamer": (744, 320, 443, 554, 671),
}
"""Vertices taken for the tips of thumb, index, middle, ring and little finger, by code base."""

BONE_NAMES = (
    "wrist",
    *(f"{finger}_{bone}" for finger in ("index", "middle", "little", "ring")
      for bone in ("proximal", "middle", "distal")),
    "thumb_metacarpal", "thumb_proximal", "thumb_distal",
)  # fmt: skip
FINGERS = {
    "thumb": (13, 14, 15), "index": (1, 2, 3), "middle": (4, 5, 6), "ring": (10, 11, 12), "little": (7, 8, 9),
}  # fmt: skip
"""MANO's bones of each finger, in the order of this package's joints."""

VERTICES, COARSE, POSES = 778, 100, 240

_SHAPES = {
    "v_template": (VERTICES, 3), "f": (None, 3), "weights": (VERTICES, 16), "posedirs": (VERTICES, 3, 135),
    "shapedirs": (VERTICES, 3, None), "J_regressor": (16, VERTICES), "kintree_table": (2, 16),
}  # fmt: skip
_POSE_SHAPES = {"hands_mean": (45,), "hands_components": (45, 45)}
"""Of the pose space, which not every copy of the file has."""


def load_mano(path: str | Path, *, tips: str = "freihand", closed: bool = True) -> HandModel:
    """Read `MANO_RIGHT.pkl` as the licensor gives it, or an npz of the same entries.

    The model's frame is MANO's with the wrist moved to the origin. Shape components are MANO's betas,
    pose offsets are kept, so `pose` gives MANO's vertices minus its own wrist.

    Args:
        tips: which vertices are the fingertips: `freihand`, `mobrecon` or `hamer`.
        closed: close the open wrist with a fan of triangles, which volume and side need; False keeps
            MANO's 1538 faces.

    Raises:
        ModelError: naming the file and what is wrong with it.
    """
    if tips not in TIPS:
        raise ModelError(f"unknown fingertip convention {tips!r}; known are {', '.join(TIPS)}")
    data = read_mano(path)
    template, regressor = data["v_template"], data["J_regressor"]
    parents = data["kintree_table"][0].astype(np.int64)
    heads = regressor @ template
    template, heads = template - heads[0], heads - heads[0]
    if side_of(data) == LEFT:
        raise ModelError(f"{path}: a left hand; use MANO_RIGHT, the left hand is made by mirroring it")
    palm = _palm(heads)

    tails = np.empty_like(heads)
    for bones, tip in zip(FINGERS.values(), TIPS[tips], strict=True):
        tails[list(bones)] = [heads[bones[1]], heads[bones[2]], template[tip]]
    tails[0] = heads[FINGERS["middle"][0]]
    flexion, abduction = bending_axes(heads, tails, FINGERS, palm)
    rig = Rig(
        template=_single(template),
        skinning=_single(data["weights"]),
        bone_names=BONE_NAMES,
        bone_parents=np.array([-1, *parents[1:]], np.int32),
        bone_heads=_single(heads),
        bone_tails=_single(tails),
        bone_regressor=_single(regressor),
        flexion_axes=_single(flexion),
        abduction_axes=_single(abduction),
        shape_basis=_single(data["shapedirs"].transpose(2, 0, 1)),
        shape_names=tuple(f"beta{k}" for k in range(data["shapedirs"].shape[2])),
        pose_basis=_single(data["posedirs"].transpose(2, 0, 1)),
    )
    joint_regressor = np.zeros((NUM_JOINTS, VERTICES), np.float32)
    joint_regressor[0] = regressor[0]
    ends = np.zeros((16, 2), int)
    for f, bones in enumerate(FINGERS.values()):
        joint_regressor[4 * f + 1 : 4 * f + 4] = regressor[list(bones)]
        joint_regressor[4 * f + 4, TIPS[tips][f]] = 1
        ends[list(bones)] = [(4 * f + k, 4 * f + k + 1) for k in (1, 2, 3)]
    ends[0] = 0, 9
    random = np.random.default_rng(7)
    shapes = random.normal(size=(POSES, len(rig.shape_names)))
    posed = pose_bones(rig, random_rotations(rig, POSES, random), shapes)[0].astype(np.float64)
    coarse, upsampling = choose_coarse(posed, np.array(TIPS[tips]), COARSE, data["weights"], template)
    lifting = _single(fold_on_joints(data["weights"], template, heads, tails, ends))
    faces = data["f"].astype(np.int32)
    try:
        return HandModel(
            **vars(rig),
            name="mano",
            license="MANO license, https://mano.is.tue.mpg.de/license.html; not to be redistributed",
            provenance=f"{path}, fingertips as in {tips}",
            faces=_closed(faces) if closed else faces,
            joint_regressor=joint_regressor,
            lifting=lifting,
            coarse=coarse,
            upsampling=_single(upsampling),
            coarse_lifting=lifting[coarse],
        )
    except ModelError as error:
        raise ModelError(f"{path}: not MANO: {error}") from None


def read_mano(path: str | Path) -> dict[str, Any]:
    """MANO's own arrays by their names, among them `hands_mean` and `hands_components` where present.

    Raises:
        ModelError: naming the file and the array that is missing or has another shape.
    """
    if Path(path).suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                data = dict(archive)
        except OSError as error:
            raise ModelError(f"{path}: cannot read the file: {error.strerror or error}") from None
        except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            # The last two of a single array under that name.
            raise ModelError(f"{path}: not an npz of plain arrays ({error})") from None
    else:
        data = load_arrays(path)
    for name, want in (_SHAPES | _POSE_SHAPES).items():
        if name not in data:
            if name in _POSE_SHAPES:
                continue
            raise ModelError(f"{path}: not MANO: it has no {name}")
        array = np.asarray(data[name])
        if array.dtype.kind not in "fiu":
            raise ModelError(f"{path}: not MANO: {name} holds {array.dtype}, not numbers")
        fits = array.ndim == len(want) and all(w in (None, n) for w, n in zip(want, array.shape, strict=True))
        if not fits or not np.isfinite(array).all():
            shape = " x ".join("any" if n is None else str(n) for n in want)
            raise ModelError(f"{path}: not MANO: {name} is {array.shape}, needs {shape} finite numbers")
        data[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
    if data["f"].min() < 0 or data["f"].max() >= VERTICES:
        raise ModelError(f"{path}: not MANO: f names a vertex that is not there")
    if tuple(data["kintree_table"][0, 1:]) != tuple(0 if b % 3 == 1 else b - 1 for b in range(1, 16)):
        raise ModelError(f"{path}: kintree_table is not MANO's")
    return data


def side_of(data: dict[str, Any]) -> int:
    """Which hand `read_mano` has read: the thumb's tip stands out of the palm."""
    heads = data["J_regressor"] @ data["v_template"]
    tip = data["v_template"][TIPS["freihand"][0]] - heads[0]
    return RIGHT if tip @ _palm(heads) >= 0 else LEFT


def _palm(heads: NDArray) -> NDArray:
    """(3,) out of a right hand's palm, into a left one's, from the heads of its bones."""
    return palm_frame(heads[0], *(heads[FINGERS[finger][0]] for finger in ("index", "middle", "little")))[2]


def _closed(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """The faces and a fan over their one open border; as they are where it is closed or torn."""
    edges = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    # The border as the cap's own edges run: against those of the faces along it.
    following = {b: a for a, b in edges if (b, a) not in edges}
    if not following:
        return faces
    loop = [min(following)]
    while len(loop) <= len(following) and following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following):
        return faces
    fan = [(loop[0], a, b) for a, b in pairwise(loop[1:])]
    return np.concatenate([faces, np.array(fan, np.int32)])


def _single(array: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
