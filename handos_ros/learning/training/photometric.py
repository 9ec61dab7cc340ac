"""What cameras, lights and files do to a picture's colours: a table, a matrix, blur, noise and JPEG."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLURRED_AT = 320
"""Longer side in px of the pictures that the widths of blur are for."""


@dataclass(frozen=True)
class Photometric:
    """How strongly colours are varied. Probabilities say how often, amounts how much at most.

    Attributes:
        brightness: largest factor on the exposure, as a logarithm.
        contrast: likewise on the contrast about the middle.
        gamma: likewise on the exponent.
        white_balance: likewise on each channel.
        saturation: largest factor away from 1 on the distance to grey.
        hue: largest turn of the colours, rad.
        grey: how often the picture loses its colour.
        blur, motion_blur, shrink, noise, jpeg: how often each happens. The first three are as wide as they
            are in a picture whose longer side is 320 px, that is narrower in a smaller one.
    """

    brightness: float = 0.3
    contrast: float = 0.25
    gamma: float = 0.35
    white_balance: float = 0.12
    saturation: float = 0.5
    hue: float = 0.15
    grey: float = 0.05
    blur: float = 0.12
    motion_blur: float = 0.1
    shrink: float = 0.12
    noise: float = 0.3
    jpeg: float = 0.25

    def __call__(self, image: NDArray, rng: np.random.Generator) -> NDArray:
        """A new (H, W, 3) uint8 RGB picture from one."""
        import cv2

        grey = rng.random() < self.grey
        image = cv2.transform(image, self._colour_matrix(rng, grey))
        image = cv2.LUT(image, self._table(rng, grey))
        h, w = image.shape[:2]
        scale = max(h, w) / _BLURRED_AT
        if rng.random() < self.blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.8) * scale)
        elif rng.random() < self.motion_blur:
            length = max(2, round(int(rng.integers(3, 12)) * scale))
            image = cv2.filter2D(image, -1, _line(length, rng.uniform(0, math.pi)))
        elif rng.random() < self.shrink:
            factor = min(1.0, rng.uniform(0.3, 0.8) / scale)
            small = cv2.resize(image, (max(1, int(w * factor)), max(1, int(h * factor))))
            image = cv2.resize(small, (w, h))
        if rng.random() < self.noise:
            image = _noisy(image, rng)
        if rng.random() < self.jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
            image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
        return image

    def _colour_matrix(self, rng: np.random.Generator, grey: bool) -> NDArray[np.float32]:
        """(3, 3) on RGB: hue and saturation turn and stretch about the grey axis."""
        saturation = 0.0 if grey else 1 + rng.uniform(-1, 1) * self.saturation
        angle = rng.uniform(-self.hue, self.hue)
        luma = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
        axis = np.ones(3) / math.sqrt(3)
        cross = np.cross(np.eye(3), axis)
        turn = math.cos(angle) * np.eye(3) + math.sin(angle) * cross
        turn += (1 - math.cos(angle)) * np.outer(axis, axis)
        return ((luma + saturation * (np.eye(3) - luma)) @ turn).astype(np.float32)

    def _table(self, rng: np.random.Generator, grey: bool) -> NDArray[np.uint8]:
        """(256, 1, 3): exposure, contrast, gamma and white balance in one; a grey camera has no balance."""
        gain = math.exp(rng.uniform(-self.brightness, self.brightness))
        contrast = math.exp(rng.uniform(-self.contrast, self.contrast))
        gamma = math.exp(rng.uniform(-self.gamma, self.gamma))
        channels = np.exp(rng.uniform(-self.white_balance, self.white_balance, 3) * (not grey))
        level = (np.arange(256) / 255)[:, None] ** gamma * gain * channels
        level = (level - 0.5) * contrast + 0.5
        return np.clip(level * 255 + 0.5, 0, 255).astype(np.uint8)[:, None]


def _noisy(image: NDArray, rng: np.random.Generator) -> NDArray:
    """Noise of a standard deviation of up to 16 grey levels, alike in all channels or not."""
    import cv2

    h, w = image.shape[:2]
    # Drawing new noise for each picture would cost more than all else here: a part of a large tile does.
    tile: NDArray = _noise_tile()
    while tile.shape[0] < h or tile.shape[1] < w:
        tile = cv2.repeat(tile, 2, 2)
    top, left = rng.integers(0, tile.shape[0] - h + 1), rng.integers(0, tile.shape[1] - w + 1)
    noise = tile[top : top + h, left : left + w]
    if rng.random() < 0.5:
        noise = cv2.merge([noise[..., 0]] * 3)
    return cv2.addWeighted(image, 1.0, noise, rng.uniform(2, 16) / _NOISE_UNIT, 0.0, dtype=cv2.CV_8U)


_NOISE_UNIT = 32.0


@functools.lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.int8]:
    """(1009, 1009, 3) normal noise with a standard deviation of `_NOISE_UNIT`."""
    noise = np.random.default_rng(0).normal(0, _NOISE_UNIT, (1009, 1009, 3))
    return np.clip(np.round(noise), -127, 127).astype(np.int8)


def _line(length: int, angle: float) -> NDArray[np.float32]:
    """A motion-blur kernel: a line of `length` px through the middle, sum 1."""
    import cv2

    size = length | 1
    kernel = np.zeros((size, size), np.float32)
    reach = length / 2 * np.array([math.cos(angle), math.sin(angle)])
    middle = np.array([size // 2, size // 2])
    start, end = (tuple(np.round(middle + s * reach).astype(int).tolist()) for s in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return kernel / kernel.sum()
