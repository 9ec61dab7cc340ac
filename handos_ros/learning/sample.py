"""`Sample` and `Batch`: one labelled picture in arrays, and several in padded tensors.

Rendered pictures, every data set and the augmentation speak `Sample`; the losses speak `Batch`. What a
picture has no label for is marked by a mask, never by a made-up value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import DataError
from handos_ros.hands import NUM_JOINTS, Camera

if TYPE_CHECKING:  # Evaluation reads samples on machines that have no torch.
    import torch

SIDE_UNKNOWN = -1
FAR_OUTSIDE = 0.15
"""Joints farther outside a picture than this part of its longer side are not asked for in 2D."""


@dataclass(eq=False)
class Sample:
    """One picture and the labels of the N hands in it; N = 0 is a picture without (labelled) hands.

    Picture points are px with pixel centres at whole numbers; metric points are metres in the camera's
    optical frame (x right, y down, z forward). Joints are in the order of `hands.JOINT_NAMES`.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        k: (3, 3) float32 intrinsics of this picture in px, None where nobody knows them.
        boxes: (N, 4) float32 px, x_min y_min x_max y_max.
        handedness: (N,) int8, 0 left, 1 right, -1 unknown.
        joints_2d: (N, 21, 2) float32 px.
        joints_2d_weight: (N, 21) float32, 0 (no label) to 1 (sure).
        visibility: (N, 21) float32, 1 seen, 0 hidden, NaN unknown.
        joints_3d: (N, 21, 3) float32 m; with the wrist at 0 where `joints_3d_absolute` is false.
        has_joints_3d: (N,) bool.
        joints_3d_absolute: (N,) bool. False: relative to the wrist and of unsure size, as a teacher
            network gives them. Their axes are the optical frame's where `k` is known, else those of
            the ray frame (see `inference.backend`): from a crop nobody can tell the two apart.
        vertices: (N, V, 3) float32 m, of the hand model that the data set is made for; V = 0 for none.
        has_vertices: (N,) bool.
        exhaustive: whether every hand of the picture is labelled; where it is false, the rest of the
            picture is no evidence of absence.
        source: where it came from, for statistics and messages: `coco:asl_letters_00001.jpg`.
    """

    image: NDArray[np.uint8]
    k: NDArray[np.float32] | None
    boxes: NDArray[np.float32]
    handedness: NDArray[np.int8]
    joints_2d: NDArray[np.float32]
    joints_2d_weight: NDArray[np.float32]
    visibility: NDArray[np.float32]
    joints_3d: NDArray[np.float32]
    has_joints_3d: NDArray[np.bool_]
    joints_3d_absolute: NDArray[np.bool_]
    vertices: NDArray[np.float32]
    has_vertices: NDArray[np.bool_]
    exhaustive: bool
    source: str

    def __post_init__(self) -> None:
        n = len(self.boxes)
        v = self.vertices.shape[1] if self.vertices.ndim == 3 else 0
        for name, (shape, dtype) in _hand_fields(v).items():
            array = getattr(self, name)
            if array.shape != (n, *shape) or array.dtype != dtype:
                raise ValueError(
                    f"{self.source}: Sample.{name} is {array.dtype}{array.shape}, "
                    f"needs {np.dtype(dtype)}{(n, *shape)}"
                )
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"{self.source}: Sample.image is {self.image.dtype}{self.image.shape}")
        if self.k is not None and self.k.shape != (3, 3):
            raise ValueError(f"{self.source}: Sample.k has shape {self.k.shape}, needs (3, 3)")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def labelled(
        cls,
        image: NDArray[np.uint8],
        boxes: ArrayLike = (),
        *,
        k: ArrayLike | None = None,
        handedness: ArrayLike | None = None,
        joints_2d: ArrayLike | None = None,
        joints_2d_weight: ArrayLike | None = None,
        visibility: ArrayLike | None = None,
        joints_3d: ArrayLike | None = None,
        has_joints_3d: ArrayLike | None = None,
        joints_3d_absolute: ArrayLike | None = None,
        vertices: ArrayLike | None = None,
        has_vertices: ArrayLike | None = None,
        exhaustive: bool = True,
        source: str = "",
    ) -> Sample:
        """A sample from the labels there are; the others are filled in as absent.

        Labels given without their mask count as present: `joints_2d` at weight 1, `joints_3d` as
        absolute, `vertices` for every hand. Values are cast to the types of the attributes.
        """
        n = len(np.asarray(boxes, np.float32).reshape(-1, 4))

        def filled(value: ArrayLike | None, shape: tuple[int, ...], dtype: type, default: float) -> NDArray:
            if value is None:
                return np.full((n, *shape), default, dtype)
            return np.array(value, dtype).reshape(n, *shape)

        j = NUM_JOINTS
        v = 0 if vertices is None else np.asarray(vertices).reshape(n, -1, 3).shape[1] if n else 0
        return cls(
            image=image,
            k=None if k is None else np.array(k, np.float32),
            boxes=filled(boxes, (4,), np.float32, 0),
            handedness=filled(handedness, (), np.int8, SIDE_UNKNOWN),
            joints_2d=filled(joints_2d, (j, 2), np.float32, 0),
            joints_2d_weight=filled(joints_2d_weight, (j,), np.float32, joints_2d is not None),
            visibility=filled(visibility, (j,), np.float32, np.nan),
            joints_3d=filled(joints_3d, (j, 3), np.float32, 0),
            has_joints_3d=filled(has_joints_3d, (), np.bool_, joints_3d is not None),
            joints_3d_absolute=filled(joints_3d_absolute, (), np.bool_, joints_3d is not None),
            vertices=filled(vertices, (v, 3), np.float32, 0),
            has_vertices=filled(has_vertices, (), np.bool_, vertices is not None),
            exhaustive=exhaustive,
            source=source,
        )

    def camera(self, width: int, height: int) -> Camera | None:
        """The camera that took the picture, whose size this is; None where nobody knows it."""
        return None if self.k is None else Camera(self.k.astype(np.float64), width, height)

    def select(self, index: ArrayLike) -> Sample:
        """The same picture with the hands that `index` (numbers or a mask over N) names, in its order."""
        index = np.asarray(index)
        if index.dtype != bool:
            index = index.astype(np.intp)
        return replace(self, **{name: getattr(self, name)[index] for name in _hand_fields(0)})


def _hand_fields(v: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """Shape after N and type of every array that has a row for each hand."""
    j = NUM_JOINTS
    return {
        "boxes": ((4,), np.float32),
        "handedness": ((), np.int8),
        "joints_2d": ((j, 2), np.float32),
        "joints_2d_weight": ((j,), np.float32),
        "visibility": ((j,), np.float32),
        "joints_3d": ((j, 3), np.float32),
        "has_joints_3d": ((), np.bool_),
        "joints_3d_absolute": ((), np.bool_),
        "vertices": ((v, 3), np.float32),
        "has_vertices": ((), np.bool_),
    }


@dataclass(eq=False)
class Batch:
    """B samples as tensors: pictures padded right and below to H x W, hands padded to K.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, padding 0.
        size: (B, 2) int64, height and width of each picture inside its padding.
        k: (B, 3, 3) float32 px, the identity where unknown; padding moves no pixel, so as in `Sample`.
        has_k: (B,) bool.
        valid: (B, K) bool, whether this place holds a hand. All that follows is 0 (handedness -1,
            visibility NaN) where it does not.
        boxes_px: (B, K, 4) float32, x_min y_min x_max y_max px.
        boxes: (B, K, 4) float32, centre x, centre y, width, height as fractions of the padded picture,
            (0, 0) its upper left corner: (px + 0.5) / W, as `inference.backend` counts.
        handedness, joints_2d, joints_2d_weight, visibility, joints_3d, has_joints_3d,
        joints_3d_absolute, vertices, has_vertices: as in `Sample`, (B, K, ...); handedness int64.
        exhaustive: (B,) bool.
        sources: B strings.
    """

    images: torch.Tensor
    size: torch.Tensor
    k: torch.Tensor
    has_k: torch.Tensor
    valid: torch.Tensor
    boxes_px: torch.Tensor
    boxes: torch.Tensor
    handedness: torch.Tensor
    joints_2d: torch.Tensor
    joints_2d_weight: torch.Tensor
    visibility: torch.Tensor
    joints_3d: torch.Tensor
    has_joints_3d: torch.Tensor
    joints_3d_absolute: torch.Tensor
    vertices: torch.Tensor
    has_vertices: torch.Tensor
    exhaustive: torch.Tensor
    sources: list[str]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def picture_size(self) -> tuple[int, int]:
        """H and W of the padded pictures."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same on another device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same in page-locked memory; the name is what `torch.utils.data.DataLoader` looks for."""
        return self._map(lambda t: t.pin_memory())

    def _map(self, function) -> Batch:  # type: ignore[no-untyped-def]
        tensors = {f.name: function(getattr(self, f.name)) for f in fields(self) if f.name != "sources"}
        return Batch(**tensors, sources=self.sources)


def collate(samples: Sequence[Sample], *, stride: int = 1, size: tuple[int, int] | None = None) -> Batch:
    """B >= 1 samples -> a `Batch`.

    Args:
        samples: pictures of any sizes.
        stride: H and W are padded up to multiples of this.
        size: pad to exactly this (H, W) instead of the largest picture among the samples.

    Raises:
        DataError: naming the sample that is larger than `size`, or whose vertices are those of another
            hand model than its neighbours'.
    """
    import torch

    heights, widths = zip(*(s.image.shape[:2] for s in samples), strict=True)
    height, width = size or (max(heights), max(widths))
    height, width = -(-height // stride) * stride, -(-width // stride) * stride
    b, n = len(samples), max(1, *(len(s) for s in samples))
    v = max(s.vertices.shape[1] for s in samples)

    images = np.zeros((b, height, width, 3), np.uint8)
    k = np.tile(np.eye(3, dtype=np.float32), (b, 1, 1))
    valid = np.zeros((b, n), bool)
    hands: dict[str, NDArray] = {
        name: np.zeros((b, n, *shape), dtype) for name, (shape, dtype) in _hand_fields(v).items()
    }
    hands["handedness"][:] = SIDE_UNKNOWN
    hands["visibility"][:] = np.nan
    for i, sample in enumerate(samples):
        h, w = sample.image.shape[:2]
        if h > height or w > width:
            raise DataError(f"{sample.source}: the picture is {w}x{h}, the batch holds {width}x{height}")
        images[i, :h, :w] = sample.image
        if sample.k is not None:
            k[i] = sample.k
        valid[i, : len(sample)] = True
        for name, array in hands.items():
            value = getattr(sample, name)
            if name == "vertices" and value.shape[1] != v:
                if sample.has_vertices.any():
                    raise DataError(
                        f"{sample.source}: {value.shape[1]} vertices beside {v} in the same batch; "
                        "all data sets of a run must use the same hand model"
                    )
                continue
            array[i, : len(sample)] = value

    tensors = {name: torch.from_numpy(array) for name, array in hands.items()}
    boxes_px = tensors.pop("boxes")
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    corners = (boxes_px + 0.5) / scale
    boxes = torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1)
    tensors["handedness"] = tensors["handedness"].long()
    valid_t = torch.from_numpy(valid)
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        size=torch.tensor(list(zip(heights, widths, strict=True)), dtype=torch.int64),
        k=torch.from_numpy(k),
        has_k=torch.tensor([s.k is not None for s in samples]),
        valid=valid_t,
        boxes_px=boxes_px,
        boxes=boxes * valid_t[..., None],
        exhaustive=torch.tensor([s.exhaustive for s in samples]),
        sources=[s.source for s in samples],
        **tensors,
    )


def concatenate(batches: Sequence[Batch], *, num_vertices: int = 0) -> Batch:
    """Batches of pictures padded to the same size, one after the other.

    Args:
        batches: at least one.
        num_vertices: V of the result where no batch has vertices.

    Raises:
        ValueError: if pictures differ in size, or meshes in their number of vertices.
    """
    import torch

    if len({b.picture_size for b in batches}) != 1:
        raise ValueError(f"batches of different picture sizes: {[b.picture_size for b in batches]}")
    places = max(b.valid.shape[1] for b in batches)
    meshes = {b.vertices.shape[2] for b in batches if b.vertices.shape[2]}
    if len(meshes) > 1:
        raise ValueError(f"batches of different hand models: {sorted(meshes)} vertices")
    num_vertices = meshes.pop() if meshes else num_vertices
    fill = {"handedness": SIDE_UNKNOWN, "visibility": float("nan")}

    def padded(batch: Batch, name: str) -> torch.Tensor:
        tensor: torch.Tensor = getattr(batch, name)
        if name == "vertices" and tensor.shape[2] != num_vertices:
            tensor = tensor.new_zeros(*tensor.shape[:2], num_vertices, 3)
        if name not in _PER_HAND_TENSORS or tensor.shape[1] == places:
            return tensor
        rest = tensor.new_full((len(tensor), places - tensor.shape[1], *tensor.shape[2:]), fill.get(name, 0))
        return torch.cat([tensor, rest], 1)

    tensors = {
        f.name: torch.cat([padded(batch, f.name) for batch in batches])
        for f in fields(Batch)
        if f.name != "sources"
    }
    return Batch(**tensors, sources=[source for batch in batches for source in batch.sources])


_PER_HAND_TENSORS = {"valid", "boxes_px", *_hand_fields(0)}
