"""`Hands` and `Camera`: the types that every other part of the package passes on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import CameraError, DistortionError

JOINT_NAMES: tuple[str, ...] = (
    "wrist",
    "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
    "index_mcp", "index_pip", "index_dip", "index_tip",
    "middle_mcp", "middle_pip", "middle_dip", "middle_tip",
    "ring_mcp", "ring_pip", "ring_dip", "ring_tip",
    "little_mcp", "little_pip", "little_dip", "little_tip",
)  # fmt: skip
"""The joint order of every array, message and file of this package."""

JOINT_PARENTS: tuple[int, ...] = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
"""Parent of each joint in the skeleton, -1 for the wrist."""

NUM_JOINTS = len(JOINT_NAMES)
LEFT, RIGHT = 0, 1


class KSource(enum.IntEnum):
    """Where a camera's intrinsics came from. Values equal the constants of `HandArray.msg`."""

    ASSUMED = 0
    CAMERA_INFO = 1
    PARAMETER = 2


class TranslationSource(enum.IntEnum):
    """How a hand's place was found. Values equal the constants of `Hand.msg`."""

    NETWORK = 0
    """The network's camera head: place of the wrist and size of the hand in the picture."""
    REPROJECTION = 1
    """Least squares: the place at which the 3D joints meet the 2D joints."""
    DEPTH = 2
    """A depth picture; reserved, nothing reads one yet."""


# OpenCV has one function for both of the former; drivers give either name with any of its lengths.
_DISTORTION_LENGTHS = {
    "plumb_bob": (4, 5, 8, 12, 14),
    "rational_polynomial": (4, 5, 8, 12, 14),
    "equidistant": (4,),
}


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated (or assumed) camera.

    Attributes:
        k: (3, 3) intrinsics in px: fx 0 cx, 0 fy cy, 0 0 1.
        width, height: size in px of the picture that `k` belongs to.
        distortion: coefficients in OpenCV's order, empty for none.
        distortion_model: ROS's names: `plumb_bob` or `rational_polynomial` (either with 4, 5, 8, 12 or
            14 coefficients: k1 k2 p1 p2 k3 ...) or `equidistant` (fisheye, k1 k2 k3 k4, of which four zeros
            are a lens too: r = f theta).
        source: where `k` came from.

    Raises:
        CameraError: naming the value that describes no camera; DistortionError where it is the lens's.
    """

    k: NDArray[np.float64]
    width: int
    height: int
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = "plumb_bob"
    source: KSource = KSource.PARAMETER

    def __post_init__(self) -> None:
        try:
            k = np.array(self.k, dtype=np.float64)
            distortion = np.array(self.distortion, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise CameraError(f"K and the distortion must be numbers: {error}") from None
        if k.size != 9:
            raise CameraError(f"K must have 9 values, row by row; got {k.size}")
        k = k.reshape(3, 3)
        if not np.isfinite(k).all():
            raise CameraError(f"K holds a value that is not finite: {k.tolist()}")
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise CameraError(
                f"the focal lengths in K must be positive, got fx={k[0, 0]:g} fy={k[1, 1]:g}; "
                "a K of zeros means that the camera was never calibrated"
            )
        if not np.allclose(k[2], (0.0, 0.0, 1.0)) or k[1, 0] != 0:
            raise CameraError(f"K must be upper triangular with last row 0 0 1, got {k.tolist()}")
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f"the camera's picture size must be positive, got {self.width}x{self.height}")
        if not np.isfinite(distortion).all():
            raise DistortionError(f"the distortion holds a value that is not finite: {distortion.tolist()}")
        if not bends(distortion, self.distortion_model):
            distortion = np.zeros(0)
        elif self.distortion_model not in _DISTORTION_LENGTHS:
            raise DistortionError(
                f"unknown distortion model {self.distortion_model!r}; known are "
                + ", ".join(_DISTORTION_LENGTHS)
            )
        elif len(distortion) not in _DISTORTION_LENGTHS[self.distortion_model]:
            *some, last = map(str, _DISTORTION_LENGTHS[self.distortion_model])
            raise DistortionError(
                f"distortion model {self.distortion_model} takes "
                f"{' or '.join(filter(None, (', '.join(some), last)))} coefficients, got {len(distortion)}"
            )
        k.setflags(write=False)
        distortion.setflags(write=False)
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "distortion", distortion)
        object.__setattr__(self, "source", KSource(self.source))

    @classmethod
    def assumed(cls, width: int, height: int) -> Camera:
        """The camera taken for granted where nothing is known: f = the longer side, centred."""
        f = float(max(width, height))
        k = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
        return cls(k, width, height, source=KSource.ASSUMED)

    @classmethod
    def from_yaml(cls, path: str | Path, rectified: bool = False) -> Camera:
        """Read a calibration file as ROS's `camera_calibration` writes it.

        Args:
            path: of the file.
            rectified: the pictures are rectified (`image_rect`): their intrinsics are the left 3x3 of
                projection_matrix, and they have no distortion. A file without either is of such pictures.

        Raises:
            CameraError: naming the file and what is wrong with it.
        """
        import yaml

        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CameraError(f"{path}: cannot read the camera file: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CameraError(f"{path}: not a camera file in YAML: {error}") from None
        try:
            width, height = int(data["image_width"]), int(data["image_height"])
            distortion = data.get("distortion_coefficients") or {}
            coefficients = distortion.get("data", ())
            model = data.get("distortion_model", data.get("camera_model", "plumb_bob"))
            # Pictures of a lens that bends nothing are rectified as they come.
            if rectified and ("projection_matrix" in data or bends(coefficients, model)):
                return cls(_rectified_k(data), width, height, source=KSource.PARAMETER)
            return cls(
                k=data["camera_matrix"]["data"],
                width=width,
                height=height,
                distortion=coefficients,
                distortion_model=model,
                source=KSource.PARAMETER,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CameraError(
                f"{path}: not a ROS camera file: needs image_width, image_height and "
                f"camera_matrix.data ({error})"
            ) from None
        except (CameraError, ValueError) as error:
            raise CameraError(f"{path}: {error}") from None

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for its picture scaled to another size, pixel centres kept in place.

        Raises:
            CameraError: if the shape of the picture changed by more than rounding, since then the
                picture was cropped or turned and nobody knows how.
        """
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        rounded = abs(self.height * sx - height) <= 1 or abs(self.width * sy - width) <= 1
        if abs(sx / sy - 1) > 0.02 and not rounded:
            raise CameraError(
                f"the intrinsics belong to a {self.width}x{self.height} picture, this one has "
                f"{width}x{height}: another shape, so it was cropped or turned; calibrate at this size"
            )
        k = self.k.copy()
        k[0] *= sx
        k[1] *= sy
        # Pixel centres lie on whole numbers: (u + 0.5) scales, not u.
        k[0, 2] += 0.5 * sx - 0.5
        k[1, 2] += 0.5 * sy - 0.5
        return replace(self, k=k, width=width, height=height)

    def undistorted(self, points: ArrayLike) -> NDArray[np.float64]:
        """Picture points (..., 2) px -> points (..., 2) on the plane z = 1 of the optical frame."""
        points = np.asarray(points, dtype=np.float64)
        shape = points.shape
        flat = points.reshape(-1, 2)
        if not len(self.distortion) or not len(flat):
            y = (flat[:, 1] - self.k[1, 2]) / self.k[1, 1]
            x = (flat[:, 0] - self.k[0, 2] - self.k[0, 1] * y) / self.k[0, 0]
            return np.stack([x, y], -1).reshape(shape)
        import cv2

        # OpenCV's lens models know no skew.
        skew = self.k[0, 1] / self.k[1, 1] * (flat[:, 1] - self.k[1, 2])
        flat = np.ascontiguousarray(np.stack([flat[:, 0] - skew, flat[:, 1]], -1)[:, None])
        # The default 5 iterations leave whole pixels of error at the edge of wide lenses.
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-10)
        if self.distortion_model == "equidistant":
            try:
                out = cv2.fisheye.undistortPoints(flat, self.k, self.distortion, criteria=criteria)
            except TypeError:  # OpenCV before 4.6, as Ubuntu 22.04 has it, iterates ten times, come what may
                out = cv2.fisheye.undistortPoints(flat, self.k, self.distortion)
        elif hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
            out = cv2.undistortPointsIter(flat, self.k, self.distortion, None, None, criteria)
        else:
            out = cv2.undistortPoints(flat, self.k, self.distortion, criteria=criteria)
        return np.asarray(out, np.float64).reshape(shape)

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 3) m in the optical frame -> picture points (..., 2) px.

        Points at or behind the camera's plane give NaN.
        """
        points = np.asarray(points, dtype=np.float64)
        z = points[..., 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            rays = np.where(z > 1e-9, points[..., :2] / z, np.nan)
        shape = rays.shape
        flat = rays.reshape(-1, 2)
        if not len(self.distortion) or not len(flat):
            u = self.k[0, 0] * flat[:, 0] + self.k[0, 1] * flat[:, 1] + self.k[0, 2]
            v = self.k[1, 1] * flat[:, 1] + self.k[1, 2]
            return np.stack([u, v], -1).reshape(shape)
        import cv2

        if self.distortion_model == "equidistant":
            out = cv2.fisheye.distortPoints(np.ascontiguousarray(flat[:, None]), self.k, self.distortion)
        else:
            homogeneous = np.concatenate([flat, np.ones((len(flat), 1))], 1)
            out, _ = cv2.projectPoints(homogeneous, np.zeros(3), np.zeros(3), self.k, self.distortion)
        pixels = np.asarray(out, np.float64).reshape(shape)
        pixels[..., 0] += self.k[0, 1] / self.k[1, 1] * (pixels[..., 1] - self.k[1, 2])
        return pixels


def bends(distortion: ArrayLike, model: str) -> bool:
    """Whether a lens with these coefficients shows straight lines bent, by ROS's name of its model.

    Zeros do not, but of a fisheye: r = f (theta + k1 theta^3 + ...) is no pinhole's f tan theta without them.
    """
    return bool(np.any(distortion)) or (
        model == "equidistant" and np.size(distortion) in _DISTORTION_LENGTHS[model]
    )


def _rectified_k(data: Mapping[str, Any]) -> NDArray[np.float64]:
    """(3, 3) of the rectified pictures, out of the content of a calibration file."""
    try:
        p = np.array(data["projection_matrix"]["data"], dtype=np.float64).reshape(-1)
    except (KeyError, TypeError):
        raise CameraError("has no projection_matrix, which rectified pictures need") from None
    if p.size != 12:
        raise CameraError(f"projection_matrix must have 12 values, row by row; got {p.size}")
    if not p.any():
        raise CameraError("has a projection_matrix of zeros, which rectified pictures need")
    return p.reshape(3, 4)[:, :3]


@dataclass(eq=False)
class Hands:
    """N hands of one picture; N = 0 is an empty result, never None.

    Frames: picture points in px of the picture as given (pixel centres on whole numbers, x right,
    y down); metric points in metres in the camera's optical frame (x right, y down, z forward).

    Attributes:
        camera: the camera that turned the picture into metres; its `source` says what it rests on.
        boxes: (N, 4) float32 px, x_min y_min x_max y_max.
        scores: (N,) float32, 0 to 1.
        handedness: (N,) uint8, 0 left, 1 right: the person's own side, in an unmirrored picture.
        handedness_scores: (N,) float32, 0.5 (no idea) to 1 (sure).
        joints_2d: (N, 21, 2) float32 px, in the order of `JOINT_NAMES`.
        joint_scores: (N, 21) float32, 0 to 1.
        joints_3d: (N, 21, 3) float32 m, optical frame.
        vertices: (N, V, 3) float32 m, optical frame; V = 0 where no mesh was asked for.
        root_translation: (N, 3) float32 m, the wrist in the optical frame.
        translation_source: (N,) uint8, a `TranslationSource` for each hand.
        ids: (N,) int32, stable over time where hands are tracked, else -1.
    """

    camera: Camera
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    handedness: NDArray[np.uint8]
    handedness_scores: NDArray[np.float32]
    joints_2d: NDArray[np.float32]
    joint_scores: NDArray[np.float32]
    joints_3d: NDArray[np.float32]
    vertices: NDArray[np.float32]
    root_translation: NDArray[np.float32]
    translation_source: NDArray[np.uint8]
    ids: NDArray[np.int32]

    def __post_init__(self) -> None:
        n, v = len(self.scores), self.vertices.shape[1] if self.vertices.ndim == 3 else 0
        want = {
            "boxes": (n, 4), "scores": (n,), "handedness": (n,), "handedness_scores": (n,),
            "joints_2d": (n, NUM_JOINTS, 2), "joint_scores": (n, NUM_JOINTS),
            "joints_3d": (n, NUM_JOINTS, 3), "vertices": (n, v, 3), "root_translation": (n, 3),
            "translation_source": (n,), "ids": (n,),
        }  # fmt: skip
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Hands.{name} has shape {getattr(self, name).shape}, needs {shape}")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, camera: Camera, num_vertices: int = 0) -> Hands:
        """No hands in a picture of `camera`."""
        f, u = np.float32, np.uint8
        return cls(
            camera=camera,
            boxes=np.zeros((0, 4), f),
            scores=np.zeros(0, f),
            handedness=np.zeros(0, u),
            handedness_scores=np.zeros(0, f),
            joints_2d=np.zeros((0, NUM_JOINTS, 2), f),
            joint_scores=np.zeros((0, NUM_JOINTS), f),
            joints_3d=np.zeros((0, NUM_JOINTS, 3), f),
            vertices=np.zeros((0, num_vertices, 3), f),
            root_translation=np.zeros((0, 3), f),
            translation_source=np.zeros(0, u),
            ids=np.zeros(0, np.int32),
        )

    def select(self, index: ArrayLike) -> Hands:
        """The hands that `index` (numbers or a mask over N) names, in its order."""
        index = np.asarray(index)
        if index.dtype != bool:
            index = index.astype(np.intp)
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "camera"}
        return Hands(camera=self.camera, **arrays)
