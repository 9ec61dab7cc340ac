"""2D models: what they find is the network's own word, and nothing but 2D is asked of them."""

import numpy as np
import pytest
from tiny_graphs import write_graphs
from tiny_networks import pictures, tiny_network

torch = pytest.importorskip("torch")

from handos_ros.errors import ModelError, PictureError  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.inference.filtering import match  # noqa: E402
from handos_ros.inference.joints import JointPipeline  # noqa: E402
from handos_ros.inference.torch_joints import TorchJointsBackend  # noqa: E402
from handos_ros.network.weights import save_weights  # noqa: E402

IMAGE = pictures(1, 96, 128)[0].permute(1, 2, 0).numpy()  # the network's own size: nothing is resized


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("2d") / "weights.safetensors"
    save_weights(network, path, hand_model=load_hand_model())
    return path


def by_hand(network, queries, boxes, **how):
    with torch.inference_mode():
        seen = network.detect(torch.from_numpy(IMAGE).permute(2, 0, 1)[None])
        out = network.decode(seen, torch.tensor([queries]), torch.tensor(boxes)[None], (96, 128), **how)
    joints = out.joints_2d[0].numpy() * [128, 96] - 0.5
    return joints, out.joint_logits[0].sigmoid().numpy()


def test_joints_are_those_of_layers_over_joints_alone(network, weights):
    pipeline = JointPipeline.load(weights=weights, device="cpu")
    given = np.array([[20.0, 10, 90, 80], [40, 30, 120, 90]])
    found = pipeline(IMAGE, boxes=given)
    np.testing.assert_allclose(found.boxes, given)
    backend = TorchJointsBackend(network)
    candidates = backend.detect(IMAGE)
    centres, sizes = (candidates.boxes[:, i : i + 2] * [128, 96] for i in (0, 2))
    queries = match(given, np.concatenate([centres - sizes / 2, centres + sizes / 2], 1) - 0.5).tolist()
    corners = (given + 0.5) / [128, 96, 128, 96]
    starts = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    joints, scores = by_hand(network, queries, starts.astype(np.float32), only_2d=True)
    np.testing.assert_allclose(found.joints_2d, joints, atol=1e-3)
    np.testing.assert_allclose(found.joint_scores, scores, atol=1e-5)
    whole, _ = by_hand(network, queries, starts.astype(np.float32))
    assert np.abs(whole - joints).max() > 0.1  # the full network says something else


def test_hands_are_found_without_boxes_best_first_and_once(weights):
    pipeline = JointPipeline.load(weights=weights, device="cpu", min_score=0.0)
    found = pipeline(IMAGE)
    n = len(found.boxes)
    assert n >= 1 and found.joints_2d.shape == (n, 21, 2) and (np.diff(found.scores) <= 0).all()
    pipeline.min_score = 1.0
    assert pipeline(IMAGE).joints_2d.shape == (0, 21, 2)
    with pytest.raises(PictureError, match="box 0"):
        pipeline(IMAGE, boxes=[[5, 5, 5, 5]])


class Alike(TorchJointsBackend):
    """Every candidate's joints are the same, or no numbers."""

    value = 0.5

    def decode_joints(self, detections, queries, boxes):
        n = len(queries)
        joints = self.value + np.random.default_rng(0).uniform(-0.1, 0.1, (1, 21, 2))
        return np.repeat(joints, n, 0).astype(np.float32), np.ones((n, 21), np.float32), np.zeros(n)


def test_a_hand_found_twice_counts_once_and_boxes_from_outside_always(network):
    pipeline = JointPipeline(Alike(network), model_id="alike", min_score=0.0)
    assert len(pipeline(IMAGE).boxes) == 1
    assert len(pipeline(IMAGE, boxes=[[20, 10, 90, 80], [21, 10, 90, 80]]).boxes) == 2
    Alike.value = np.nan
    with pytest.raises(ModelError, match="alike gave joints that are not finite"):
        pipeline(IMAGE)


def test_graphs_cannot_be_run_as_2d_models(tmp_path, weights):
    folder = write_graphs(tmp_path / "graphs")
    with pytest.raises(ModelError, match="graphs: no safetensors file"):
        JointPipeline.load(weights=folder, device="cpu")
    with pytest.raises(ModelError, match="2D joints alone need the torch backend"):
        JointPipeline.load(weights=weights, device="cpu", backend="onnxruntime")
