"""The torch backend, alone and under the pipeline."""

import numpy as np
import pytest
import torch
from tiny_networks import KINDS, pictures, tiny_network

from handos_ros.errors import ModelError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.inference.pipeline import Pipeline
from handos_ros.inference.torch_backend import TorchBackend


def photograph(height, width, seed=0):
    return pictures(1, height, width, seed)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_runs_under_the_pipeline(kind):
    pipeline = Pipeline(TorchBackend(tiny_network(kind)), load_hand_model(), model_id="tiny", min_score=0.0)
    hands = pipeline(photograph(240, 320))
    assert len(hands) > 0 and np.isfinite(hands.joints_3d).all() and (hands.root_translation[:, 2] > 0).all()
    given = np.array([[10.0, 20, 200, 180], [100, 50, 310, 230]])
    hands = pipeline(photograph(240, 320), boxes=given)
    np.testing.assert_allclose(hands.boxes, given)
    pipeline.min_score = 1.0
    assert len(pipeline(photograph(240, 320))) == 0


def test_metres_follow_the_focal_length():
    """The network's words are free of it: twice the focal length is twice as far away."""
    from handos_ros.hands import Camera

    pipeline = Pipeline(TorchBackend(tiny_network()), load_hand_model(), model_id="tiny")
    image, boxes = photograph(96, 128), np.array([[50.0, 30, 90, 70]])
    hands = []
    for f in (100.0, 200.0):
        k = np.array([[f, 0, 69.5], [0, f, 49.5], [0, 0, 1]])
        hands.append(pipeline(image, Camera(k, 128, 96), boxes=boxes))
    np.testing.assert_allclose(hands[0].joints_2d, hands[1].joints_2d, atol=1e-4)
    ratio = hands[1].root_translation[:, 2] / hands[0].root_translation[:, 2]
    assert 1.7 < ratio < 2.3


def test_arrays_are_of_the_types_that_backends_promise():
    backend = TorchBackend(tiny_network())
    found = backend.detect(photograph(96, 128))
    assert found.boxes.dtype == found.scores.dtype == np.float32
    decoded = backend.decode(found, np.array([1, 0]), found.boxes[:2])
    shapes = {"joints_2d": (2, 21, 2), "joint_scores": (2, 21), "joints_3d": (2, 21, 3),
              "vertices": (2, 1000, 3), "root_2d": (2, 2), "scale": (2,),
              "presence_logits": (2,)}  # fmt: skip
    for name, shape in shapes.items():
        value = getattr(decoded, name)
        assert value.shape == shape and value.dtype == np.float32, name
    assert ((decoded.joint_scores >= 0) & (decoded.joint_scores <= 1)).all()


def test_hands_may_come_as_views_in_any_order():
    backend = TorchBackend(tiny_network())
    found = backend.detect(photograph(96, 128))
    one = backend.decode(found, np.arange(3), found.boxes[:3])
    other = backend.decode(found, np.arange(3)[::-1], found.boxes[:3][::-1])
    np.testing.assert_allclose(other.joints_2d, one.joints_2d[::-1], atol=1e-6)


def test_devices_that_are_not_there_are_named():
    network = tiny_network()
    with pytest.raises(ModelError, match="cannot use the device 'warp:3'"):
        TorchBackend(network, device="warp:3")
    with pytest.raises(ModelError, match="half precision needs a CUDA device"):
        TorchBackend(network, half=True)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cannot use the device 'cuda'"):
            TorchBackend(network, device="cuda")
