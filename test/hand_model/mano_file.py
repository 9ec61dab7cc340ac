"""Writes miniature MANO files in the official layout: real sizes, made-up geometry."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

RINGS, AROUND = 48, 16


def mano_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """A mitten with 778 vertices, 1538 faces, 16 bones and one open border, in MANO's names."""
    random = np.random.default_rng(seed)
    turn = np.arange(AROUND) * 2 * np.pi / AROUND
    ring = np.stack([0.04 * np.cos(turn), np.zeros(AROUND), 0.012 * np.sin(turn)], -1)
    heights = np.linspace(0, 0.17, RINGS)
    vertices = (ring[None] + np.array([0, 1, 0]) * heights[:, None, None]).reshape(-1, 3)
    faces = []
    for r in range(RINGS - 1):
        for k in range(AROUND):
            a, b = r * AROUND + k, r * AROUND + (k + 1) % AROUND
            c, d = a + AROUND, b + AROUND
            faces += [(a, c, b), (b, c, d)]
    top = len(vertices)
    last = (RINGS - 1) * AROUND
    faces += [(last + k, top, last + (k + 1) % AROUND) for k in range(AROUND)]
    vertices = np.concatenate([vertices, [[0, 0.18, 0]]])
    while len(vertices) < 778:  # a vertex in the middle of a triangle
        a, b, c = faces.pop(7 * len(vertices) % len(faces))
        middle = len(vertices)
        vertices = np.concatenate([vertices, vertices[[a, b, c]].mean(0, keepdims=True)])
        faces += [(a, b, middle), (b, c, middle), (c, a, middle)]
    # The thumb's tip stands out of the palm, which is how a right hand is told from a left one.
    vertices[744] = (0.06, 0.08, 0.03)

    regressor = np.zeros((16, 778))
    regressor[0, :AROUND] = 1 / AROUND
    chains = {1: 0.03, 4: 0.01, 7: -0.03, 10: -0.01}
    for first, x in chains.items():
        for k, y in enumerate((0.09, 0.12, 0.145)):
            nearest = np.argsort(np.linalg.norm(vertices - (x, y, 0.002 * k * k), axis=1))[:6]
            regressor[first + k, nearest] = 1 / 6
    for k, y in enumerate((0.02, 0.05, 0.07)):
        nearest = np.argsort(np.linalg.norm(vertices - (0.04, y, 0.01 * k), axis=1))[:4]
        regressor[13 + k, nearest] = 1 / 4
    joints = regressor @ vertices
    closeness = np.exp(-np.linalg.norm(vertices[:, None] - joints, axis=-1) / 0.01)
    parents = [4294967295, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]
    return {
        "v_template": vertices + np.array([0.09, 0.006, 0.006]),
        "f": np.array(faces, np.uint32),
        "weights": closeness / closeness.sum(1, keepdims=True),
        "posedirs": random.normal(0, 1e-4, (778, 3, 135)),
        "shapedirs": random.normal(0, 1e-3, (778, 3, 10)),
        "J_regressor": regressor,
        "kintree_table": np.array([parents, range(16)], np.int64),
        "hands_mean": random.normal(0, 0.2, 45),
        "hands_components": np.linalg.qr(random.normal(size=(45, 45)))[0],
    }


def left_arrays(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The left hand of a right one as the official files have it: mirrored, but for `shapedirs`."""
    turned = np.tile([1, -1, -1], 15)
    return {
        **right,
        "v_template": right["v_template"] * [-1, 1, 1],
        "f": right["f"][:, ::-1],
        # Rotation matrices keep xx, yy, yz, zy, zz when mirrored and change the sign of the others.
        "posedirs": right["posedirs"]
        * np.array([-1, 1, 1])[None, :, None]
        * np.tile([1, -1, -1, -1, 1, 1, -1, 1, 1], 15),
        "hands_mean": right["hands_mean"] * turned,
        "hands_components": right["hands_components"] * turned,
    }


def posed_by_hand(
    arrays: dict[str, np.ndarray], pose: np.ndarray, betas: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """MANO's vertices and 16 joints from 48 axis-angle values, one vertex and one bone after the other."""
    rotations = [Rotation.from_rotvec(part).as_matrix() for part in np.reshape(pose, (16, 3))]
    shaped, rest = np.empty((778, 3)), np.empty((778, 3))
    corrections = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    for v in range(778):
        shaped[v] = arrays["v_template"][v] + sum(
            b * arrays["shapedirs"][v, :, k] for k, b in enumerate(betas)
        )
        rest[v] = shaped[v] + arrays["posedirs"][v] @ corrections
    heads = arrays["J_regressor"] @ shaped
    parents = arrays["kintree_table"][0]

    def moved(bone: int, point: np.ndarray) -> np.ndarray:
        point = heads[bone] + rotations[bone] @ (point - heads[bone])
        return point if bone == 0 else moved(int(parents[bone]), point)

    vertices = np.array(
        [sum(w * moved(b, rest[v]) for b, w in enumerate(arrays["weights"][v])) for v in range(778)]
    )
    joints = np.array([moved(b, heads[b]) for b in range(16)])
    return vertices + translation, joints + translation


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: strings of bytes, and the modules' old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        self.save_string(text.encode("latin1"))

    def save_string(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)

    def save_global(self, obj: object, name: str | None = None) -> None:
        module = {"numpy._core.multiarray": "numpy.core.multiarray", "copyreg": "copy_reg"}
        self.write(f"c{module.get(obj.__module__, obj.__module__)}\n{obj.__name__}\n".encode())

    dispatch[str], dispatch[bytes] = save_str, save_string
    dispatch[type] = dispatch[types.FunctionType] = save_global


def write_pickle(path: Path, arrays: dict[str, np.ndarray], protocol: int = 2) -> Path:
    """As the official file: sparse regressor, chumpy arrays, strings, Python 2's protocol."""
    content: dict = dict(arrays)
    content["J_regressor"] = sparse.csc_matrix(arrays["J_regressor"])
    content["bs_style"], content["bs_type"] = "lbs", "lrotmin"
    with _chumpy() as (ch, select):
        content["v_template"] = ch(x=arrays["v_template"])
        flat = ch(x=np.concatenate([np.zeros(3), arrays["shapedirs"].ravel()]))
        index = np.arange(arrays["shapedirs"].size) + 3
        content["shapedirs"] = select(a=flat, idxs=index, preferred_shape=arrays["shapedirs"].shape)
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class _chumpy:
    """A package `chumpy` that exists only while the file is written."""

    def __enter__(self):
        made = []
        for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
            holder = types.ModuleType(module)
            made.append(type(name, (), {"__init__": lambda self, **parts: vars(self).update(parts)}))
            made[-1].__module__ = module
            setattr(holder, name, made[-1])
            sys.modules[module] = holder
        sys.modules["chumpy"] = types.ModuleType("chumpy")
        return made

    def __exit__(self, *_: object) -> None:
        for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
            del sys.modules[name]
