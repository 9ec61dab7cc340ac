"""The palm detector's backbone: what is shipped against the released model; parts that do not learn."""

from importlib import resources

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import BLAZE, pictures, tiny_config

from handos_ros.errors import ModelError
from handos_ros.network.config import load_config
from handos_ros.network.detectors import build_detector

SHIPPED = resources.files("handos_ros") / "network" / "weights" / "palm_backbone.safetensors"


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_detector(tiny_config(settings=BLAZE).detector, pretrained=False)


def test_the_shipped_backbone_gives_the_released_models_maps():
    # From TensorFlow Lite (ai-edge-litert 2.3.0) running palm_detection_full.tflite of mediapipe 0.10.21:
    # mean and deviation of the tensors 180, 273, 257 and 245, and their values at [3, 2, 4].
    released = [
        ((64, 48, 48), 0.095840946, 0.6249295, 0.27105653),
        ((128, 24, 24), 1.4354037, 2.1007478, -0.036645528),
        ((256, 12, 12), 1.1654828, 1.5031799, 0.04868634),
        ((256, 6, 6), 4.139912, 4.0051684, 12.22876),
    ]
    detector = build_detector(load_config("handos_lite").detector, pretrained=False)
    detector.load_backbone(SHIPPED)
    detector.freeze()
    y, x = np.mgrid[:192, :192]
    picture = np.stack([(3 * x + y) % 256, (x + 2 * y) % 256, (x * y // 64) % 256]).astype(np.uint8)
    maps = detector(torch.from_numpy(picture)[None]).backbone
    for found, (shape, mean, deviation, value) in zip(maps, released, strict=True):
        assert found.shape[1:] == shape
        measured = [found.mean().item(), found.std().item(), found[0, 3, 2, 4].item()]
        np.testing.assert_allclose(measured, [mean, deviation, value], rtol=2e-4, atol=2e-4)


def test_maps_are_half_as_large_from_stage_to_stage_whatever_the_picture(tiny):
    tiny.freeze()
    for height, width in ((96, 128), (32, 160)):
        maps = tiny(pictures(2, height, width)).backbone
        assert [m.shape for m in maps] == [
            (2, c, height // s, width // s) for c, s in ((8, 4), (16, 8), (24, 16), (32, 32))
        ]


def test_parts_that_are_frozen_have_no_gradient_and_the_rest_has(tiny):
    tiny.freeze(False)
    tiny.freeze_parts(["model.backbone.model.encoder.stem", "model.backbone.model.encoder.scales.0"])
    tiny(pictures(2)).logits.sum().backward()
    encoder = tiny.model.model.backbone.model.encoder
    assert encoder.stem.weight.grad is None and encoder.scales[0][0].pointwise.weight.grad is None
    assert encoder.scales[1][0].pointwise.weight.grad.abs().sum() > 0
    assert tiny.model.model.encoder_input_proj[0][0].weight.grad.abs().sum() > 0


def test_a_part_that_is_not_there_is_named(tiny):
    with pytest.raises(ModelError, match=r"no parameter of the d_fine begins with 'model\.backbone\.stem'"):
        tiny.freeze_parts(["model.backbone.stem"])


def test_weights_that_are_no_backbones_are_named(tiny, tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors: no such weights file"):
        tiny.load_backbone(tmp_path / "none.safetensors")
    half = tmp_path / "half.safetensors"
    half.write_bytes(SHIPPED.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"half\.safetensors: not a whole safetensors file"):
        tiny.load_backbone(half)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(ModelError, match=r"other\.safetensors: does not fit the detector's backbone: .*stem"):
        tiny.load_backbone(other)
    with pytest.raises(ModelError, match=r"does not fit .* size mismatch for encoder\.stem\.weight"):
        tiny.load_backbone(SHIPPED)
