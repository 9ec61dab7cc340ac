"""Real photographs varied for training: one warp, then colour, blur, noise and occluders.

2D labels follow exactly: points through the same map. Where it is affine, the camera's K and the 3D labels
follow as well, through its split into new intrinsics and a roll of the camera. Pictures of unknown cameras
are tilted too; their 3D labels, a teacher's, only roll. NumPy and OpenCV alone, so that it runs in worker
processes; all chance comes from the generator that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from handos_ros.learning.sample import FAR_OUTSIDE, SIDE_UNKNOWN, Sample
from handos_ros.learning.training.photometric import Photometric


@dataclass(frozen=True)
class Augmentation:
    """How strongly pictures are varied; call it with a sample and a generator.

    Attributes:
        size: height and width of the pictures it returns.
        hand_size: the longer side of a hand in the result, as fractions of the result's longer side,
            where the picture is laid out around a hand.
        around_hand: how often it is, rather than around the whole picture.
        elsewhere: how often, before that is drawn, it is laid out around a random place instead, up to three
            times as large as the picture just fits: large faces, sleeves and furniture that are no hands.
        zoom: scale of the whole picture against the one that just fits.
        shift: by how much the centre moves at most, as a fraction of the result.
        rotation: standard deviation in rad of the small turn that most pictures get.
        any_rotation: how often the turn is uniform over all angles instead.
        stretch: the largest change of the aspect ratio, as a logarithm, along any axis.
        tilt: how much nearer or farther than its middle the result's corners are at most, as a fraction of
            its distance; only of pictures of unknown cameras.
        mirror: how often the picture is mirrored and sides swapped.
        occluder: how often something covers a part of each hand.
        least_visible: hands of which less than this fraction of the box is left lose their label.
        least_pixels: likewise hands whose box's longer side is less than this.
        photometric: what happens to the colours; None for nothing.
    """

    size: tuple[int, int] = (320, 320)
    hand_size: tuple[float, float] = (0.12, 0.95)
    around_hand: float = 0.5
    elsewhere: float = 0.0
    zoom: tuple[float, float] = (0.6, 1.6)
    shift: float = 0.2
    rotation: float = 0.25
    any_rotation: float = 0.15
    stretch: float = 0.12
    tilt: float = 0.0
    mirror: float = 0.5
    occluder: float = 0.15
    least_visible: float = 0.25
    least_pixels: float = 8.0
    photometric: Photometric | None = field(default_factory=Photometric)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A variation of `sample`, which is left as it was."""
        if rng.random() < self.mirror:
            sample = mirrored(sample)
        # A colour around the picture, mostly black, as the letterbox of the network has it.
        border = rng.integers(0, 256, 3) if rng.random() < 0.2 else np.zeros(3, np.int64)
        warped_sample = warped(sample, self._matrix(sample, rng), self.size, tuple(border.tolist()))
        out = dropped(warped_sample, self.least_visible, self.least_pixels)
        if self.photometric is not None:
            out = replace(out, image=self.photometric(out.image, rng))
        if self.occluder:
            out = _occluded(out, self.occluder, rng)
        return out

    def _matrix(self, sample: Sample, rng: np.random.Generator) -> NDArray[np.float64]:
        """(3, 3) from px of the sample to px of the result."""
        (height, width), (h, w) = self.size, sample.image.shape[:2]
        fit = min(width / w, height / h)
        # This and the stretch's axis are drawn where they are asked for alone, so that other pictures stay as
        # they were.
        if self.elsewhere and rng.random() < self.elsewhere:
            centre = rng.uniform(0, (w - 1, h - 1))
            scale = fit * _MOST_ELSEWHERE ** rng.random()
        elif len(sample) and rng.random() < self.around_hand:
            box = sample.boxes[rng.integers(len(sample))].astype(np.float64)
            centre = (box[:2] + box[2:]) / 2
            wanted = math.exp(rng.uniform(*np.log(self.hand_size))) * max(height, width)
            # Enlarging a small hand to the whole frame shows only blocks of the JPEG; shrinking a close-up
            # to a far hand shows only border.
            scale = wanted / max(box[2] - box[0], box[3] - box[1], 1.0)
            scale = min(max(scale, 0.5 * fit), max(4.0, fit))
        else:
            centre = np.array([(w - 1) / 2, (h - 1) / 2])
            scale = fit * math.exp(rng.uniform(*np.log(self.zoom)))
        small = rng.normal(0, self.rotation)
        angle = rng.uniform(-math.pi, math.pi) if rng.random() < self.any_rotation else small
        half = rng.uniform(-self.stretch, self.stretch) / 2
        axis = _turn(rng.uniform(0, math.pi)) if self.stretch else np.eye(2)
        stretch = axis @ np.diag([math.exp(half), math.exp(-half)]) @ axis.T
        linear = _turn(angle) @ stretch * scale
        target = np.array([(width - 1) / 2, (height - 1) / 2])
        target += rng.uniform(-self.shift, self.shift, 2) * (width, height)
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, target - linear @ centre
        if not self.tilt or sample.k is not None:
            return matrix
        # A map that leaves the centre and what is next to it as they are: x -> c + (x - c) / (1 + p (x - c)).
        slope = _turn(rng.uniform(-math.pi, math.pi))[0] * rng.uniform(0, self.tilt)
        slope *= 2 * scale / math.hypot(width, height)
        tilt = np.eye(3)
        tilt[2] = [*slope, 1 - slope @ centre]
        tilt[:2] += np.outer(centre, tilt[2] - [0, 0, 1])
        return matrix @ tilt


_MOST_ELSEWHERE = 3.0
"""By this, pictures around people at arm's length show their faces as large as close-ups of hands do."""


def warped(
    sample: Sample, matrix: NDArray[np.float64], size: tuple[int, int], border: tuple[int, ...] = (0, 0, 0)
) -> Sample:
    """The sample through a map of its px, affine or projective, onto a picture of `size` (H, W).

    K and the 3D labels change as for a camera that was rolled and given another lens: with A an affine map
    as a 3x3 matrix, A K = K' R, K' upper triangular and R a rotation about the optical axis. Where K is
    unknown, the 3D labels turn by the rotation in the map itself, as it is at the middle of the hand's box.

    Args:
        sample: any sample; without K if the map is projective.
        matrix: (2, 3) or (3, 3), without mirroring (see `mirrored`).
        size: height and width of the result.
        border: colour outside the picture.

    Raises:
        ValueError: the map mirrors the picture, or a known camera cannot follow it.
    """
    if len(matrix) == 2:
        matrix = np.vstack([matrix, [0, 0, 1]])
    k = None
    if sample.k is not None:
        if matrix[2].tolist() != [0, 0, 1]:
            raise ValueError("a picture of a known camera cannot be tilted: its K would no longer be true")
        k = np.eye(3, dtype=np.float32)
        k[:2, :2], _ = _rq(matrix[:2, :2] @ sample.k[:2, :2])
        k[:2, 2] = matrix[:2, :2] @ sample.k[:2, 2] + matrix[:2, 2]
    middles, linear = _through(matrix, (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2)
    roll = np.tile(np.eye(3), (len(sample), 1, 1))
    for turn, at_hand in zip(roll, linear, strict=True):
        _, turn[:2, :2] = _rq(at_hand if sample.k is None else at_hand @ sample.k[:2, :2])
    joints_2d, _ = _through(matrix, sample.joints_2d)
    return replace(
        sample,
        image=_warped_picture(sample.image, matrix, size, border),
        k=k,
        boxes=_warped_boxes(sample, joints_2d, matrix, middles, linear).astype(np.float32),
        joints_2d=joints_2d.astype(np.float32),
        joints_3d=(sample.joints_3d @ roll.transpose(0, 2, 1)).astype(np.float32),
        vertices=(sample.vertices @ roll.transpose(0, 2, 1)).astype(np.float32),
    )


def mirrored(sample: Sample) -> Sample:
    """The sample as a mirror shows it: left hands become right ones, 3D labels flip along x."""
    import cv2

    width = sample.image.shape[1]
    k = None
    if sample.k is not None:
        k = sample.k.copy()
        k[0, 2] = width - 1 - k[0, 2]
        k[0, 1] = -k[0, 1]
    flip = np.array([-1, 1, 1], np.float32)
    boxes, joints_2d = sample.boxes.copy(), sample.joints_2d.copy()
    boxes[:, [0, 2]] = width - 1 - sample.boxes[:, [2, 0]]
    joints_2d[..., 0] = width - 1 - joints_2d[..., 0]
    side = np.where(sample.handedness == SIDE_UNKNOWN, SIDE_UNKNOWN, 1 - sample.handedness)
    return replace(
        sample,
        image=np.asarray(cv2.flip(sample.image, 1)),
        k=k,
        boxes=boxes,
        joints_2d=joints_2d,
        handedness=side.astype(np.int8),
        joints_3d=sample.joints_3d * flip,
        vertices=sample.vertices * flip,
    )


def dropped(sample: Sample, least_visible: float, least_pixels: float) -> Sample:
    """Boxes clipped to the picture; hands of which too little is left lose their label.

    A hand that goes while a part of it is still to be seen makes the picture no longer `exhaustive`.
    Joints outside the picture become invisible; those far outside lose their label.
    """
    height, width = sample.image.shape[:2]
    low, high = np.array([-0.5, -0.5]), np.array([width - 0.5, height - 0.5])
    boxes = np.concatenate([np.clip(sample.boxes[:, i : i + 2], low, high) for i in (0, 2)], 1)

    def areas(b: NDArray) -> NDArray:
        return np.prod(b[:, 2:] - b[:, :2], 1)

    seen = areas(boxes) / np.maximum(areas(sample.boxes), 1e-6)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
    keep = (seen >= least_visible) & (longer >= least_pixels)
    left_over = ~keep & (seen > 0)

    outside = np.maximum(low - sample.joints_2d, sample.joints_2d - high).max(-1)
    far = outside > FAR_OUTSIDE * max(width, height)
    visibility = np.where((outside > 0) & (sample.joints_2d_weight > 0), 0, sample.visibility)
    kept = replace(
        sample,
        boxes=boxes.astype(np.float32),
        joints_2d_weight=np.where(far, 0, sample.joints_2d_weight).astype(np.float32),
        visibility=visibility.astype(np.float32),
        exhaustive=sample.exhaustive and not left_over.any(),
    )
    return kept.select(keep)


def mosaic(samples: Sequence[Sample], augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Four samples, varied, as the quarters of one picture, so that single hands make crowded pictures.

    The quarters meet at a random point. A picture put together from several cameras has no K, so samples
    whose absolute 3D labels rest on one keep only their 2D labels.
    """
    if len(samples) != 4:
        raise ValueError(f"a mosaic takes 4 samples, got {len(samples)}")
    height, width = augmentation.size
    y, x = (int(n * rng.uniform(0.35, 0.65)) for n in (height, width))
    image = np.zeros((height, width, 3), np.uint8)
    low, high = augmentation.hand_size
    parts = []
    for sample, (top, left, bottom, right) in zip(
        samples, [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)], strict=True
    ):
        # The network meets single hands, so they are as large in px here, as far as the quarter holds them.
        part_size = (bottom - top, right - left)
        least = min(low * max(augmentation.size) / max(part_size), high)
        part = replace(augmentation, size=part_size, hand_size=(least, high))(sample, rng)
        image[top:bottom, left:right] = part.image
        offset = np.array([left, top], np.float32)
        weak = part.has_joints_3d & ~part.joints_3d_absolute
        parts.append(
            replace(
                part,
                boxes=part.boxes + np.tile(offset, 2),
                joints_2d=part.joints_2d + offset,
                has_joints_3d=weak,
                vertices=part.vertices[:, :0],
                has_vertices=np.zeros_like(weak),
            )
        )
    per_hand = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_HAND}
    return replace(
        parts[0],
        image=image,
        k=None,
        exhaustive=all(p.exhaustive for p in parts),
        source="mosaic:" + ",".join(p.source for p in parts),
        **per_hand,
    )


_PER_HAND = (
    "boxes", "handedness", "joints_2d", "joints_2d_weight", "visibility", "joints_3d", "has_joints_3d",
    "joints_3d_absolute", "vertices", "has_vertices",
)  # fmt: skip


def _turn(angle: float) -> NDArray[np.float64]:
    """(2, 2): x to y by `angle` rad."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _through(matrix: NDArray, points: NDArray) -> tuple[NDArray, NDArray]:
    """Where a (3, 3) map of px takes points (..., 2) to, and its derivative (..., 2, 2) there.

    What lies near or beyond the horizon of a tilted picture goes far out of it, on its own side.
    """
    points = points.astype(np.float64)
    depth = np.maximum(points @ matrix[2, :2] + matrix[2, 2], _HORIZON)[..., None]
    there = (points @ matrix[:2, :2].T + matrix[:2, 2]) / depth
    return there, (matrix[:2, :2] - there[..., None] * matrix[2, :2]) / depth[..., None]


_HORIZON = 0.1


def _rq(matrix: NDArray) -> tuple[NDArray, NDArray]:
    """(2, 2) of positive determinant = upper triangular with positive diagonal @ rotation."""
    (a, b), (c, d) = np.asarray(matrix, np.float64)
    # The rotation's transpose brings the last row onto the y axis.
    n = math.hypot(c, d)
    if a * d - b * c <= 0:
        raise ValueError("the map mirrors the picture: use mirrored() for that")
    rotation = np.array([[d, -c], [c, d]]) / n
    return np.triu(matrix @ rotation.T), rotation


def _warped_picture(
    image: NDArray, matrix: NDArray[np.float64], size: tuple[int, int], border: tuple[int, ...]
) -> NDArray:
    import cv2

    h, w = image.shape[:2]
    # Of a tilted picture, in the middle of the result.
    _, back_there = _through(np.linalg.inv(matrix), np.array(size[::-1]) / 2)
    scale = 1 / math.sqrt(abs(np.linalg.det(back_there)))
    if scale < 0.6:
        # Bilinear sampling that skips pixels aliases: shrink by area first, by what remains a whole size.
        new_w, new_h = max(1, round(w * scale)), max(1, round(h * scale))
        image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_AREA)
        sx, sy = w / new_w, h / new_h
        back = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        matrix = matrix @ back
    how: dict = {"flags": cv2.INTER_LINEAR, "borderValue": tuple(map(float, border))}
    if matrix[2].tolist() == [0, 0, 1]:
        return cv2.warpAffine(image, matrix[:2], (size[1], size[0]), **how)
    return cv2.warpPerspective(image, matrix, (size[1], size[0]), **how)


def _warped_boxes(
    sample: Sample, joints: NDArray, matrix: NDArray[np.float64], middles: NDArray, linear: NDArray
) -> NDArray:
    """Boxes (N, 4) around what the old boxes held.

    The upright box around a turned box is too large. Without joints, the ellipse inside the old box
    stands for the hand. With all of them, the box goes around the turned joints (N, 21, 2), as far from them
    as the old one was on its widest side, and never beyond the upright box around the turned old one.

    Args:
        sample: as it was.
        joints: (N, 21, 2) where the map takes its joints to.
        matrix: (3, 3) the map.
        middles, linear: (N, 2) where it takes the boxes' middles to, and (N, 2, 2) its derivative there.
    """
    corners, _ = _through(matrix, sample.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])
    half = (sample.boxes[:, 2:] - sample.boxes[:, :2]) / 2
    ellipse = np.sqrt(np.einsum("nij,nj->ni", linear**2, half**2))
    whole = (sample.joints_2d_weight > 0).all(1, keepdims=True)
    old_low, old_high = sample.joints_2d.min(1), sample.joints_2d.max(1)
    margin = np.maximum(old_low - sample.boxes[:, :2], sample.boxes[:, 2:] - old_high).max(1, initial=0)
    # Where nothing turns and nothing is stretched, this margin must not bite: it is exact then.
    margin = (margin * np.sqrt(np.abs(np.linalg.det(linear))) * (1 + 1e-6))[:, None]
    low = np.where(whole, np.maximum(joints.min(1) - margin, corners.min(1)), middles - ellipse)
    high = np.where(whole, np.minimum(joints.max(1) + margin, corners.max(1)), middles + ellipse)
    return np.concatenate([low, high], 1)


def _occluded(sample: Sample, probability: float, rng: np.random.Generator) -> Sample:
    """Something in front of a part of each hand, with `probability`; joints under it become hidden."""
    import cv2

    image, visibility = sample.image, sample.visibility.copy()
    for box in sample.boxes:
        if rng.random() >= probability:
            continue
        width, height = box[2:] - box[:2]
        mask = np.zeros(image.shape[:2], np.uint8)
        centre = box[:2] + rng.uniform(0, 1, 2) * (width, height)
        axes = np.maximum(1, rng.uniform(0.1, 0.3, 2) * (width, height))
        if rng.random() < 0.5:
            shape = (tuple(map(float, centre)), tuple(map(float, 2 * axes)), float(rng.uniform(0, 180)))
            cv2.fillPoly(mask, [cv2.boxPoints(shape).astype(np.int32)], 255)
        else:
            middle, radii = tuple(map(int, centre)), tuple(map(int, axes))
            cv2.ellipse(mask, middle, radii, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        cover = _cover(image, rng)
        image = np.where(mask[..., None] > 0, cover, image)
        at = np.round(sample.joints_2d).astype(int)
        inside = np.all((at >= 0) & (at < (image.shape[1], image.shape[0])), -1)
        u, v = (np.where(inside, at[..., c], 0) for c in (0, 1))
        under = inside & (mask[v, u] > 0) & (sample.joints_2d_weight > 0)
        visibility[under] = 0
    return replace(sample, image=image, visibility=visibility)


def _cover(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of the same size to cover with: one colour, or another place of the same picture."""
    if rng.random() < 0.5:
        return np.full_like(image, rng.integers(0, 256, 3))
    shift = [int(n * rng.uniform(0.25, 0.75)) for n in image.shape[:2]]
    return np.roll(image, shift, (0, 1))
