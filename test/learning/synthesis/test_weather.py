"""What files and sensors do to pictures."""

import cv2
import numpy as np
import torch

from handos_ros.learning.synthesis.augment import Weathering
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.jpeg import compress


def _picture(height=96, width=120):
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(0)
    base = np.stack([128 + 100 * np.sin(x / 9), 2.0 * y, 255.0 - x], -1) + rng.normal(
        0, 12, (height, width, 3)
    )
    base[20:50, 30:70] = (200, 40, 30)
    return base.clip(0, 255).astype(np.uint8)


def test_jpeg_does_what_libjpeg_does():
    picture = _picture(90, 118)
    tensor = torch.tensor(picture).permute(2, 0, 1)[None].float()
    for quality in (20, 50, 90):
        mine = compress(tensor, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        coded = cv2.imencode(".jpg", picture[..., ::-1], options)[1]
        theirs = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), float)[..., ::-1]
        damage = np.abs(theirs - picture).mean()
        assert np.abs(mine - theirs).mean() < 0.25 * damage
        assert abs(np.abs(mine - picture).mean() / damage - 1) < 0.1


def test_weather_is_the_same_for_the_same_seed_and_varies():
    weather = Weathering(0, "cpu")
    flat = torch.full((64, 3, 64, 64), 120.0)
    flat[:, :, :, 32:] = 180
    out = weather(Draws(0, torch.arange(64)), flat.clone())
    again = weather(Draws(0, torch.arange(5, 9)), flat[:4].clone())
    assert torch.allclose(out[5:9], again, atol=1e-3)
    brightness = out.mean((1, 2, 3))
    assert brightness.std() > 10
    # Blur softens the step between the halves in some of the pictures, not in all.
    step = (out[:, 1, :, 40:44].mean((1, 2)) - out[:, 1, :, 20:24].mean((1, 2))).abs()
    sharpest = out[:, 1].mean(1).diff(dim=1).abs().amax(1) / step.clamp(min=1)
    assert (sharpest > 0.8).any() and (sharpest < 0.5).any()
