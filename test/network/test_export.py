"""ONNX files of tiny networks against the networks themselves, through the backends and the pipeline."""

import numpy as np
import pytest
import torch
from tiny_networks import BLAZE, given_boxes, pictures, tiny_network

from handos_ros.errors import ModelError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.inference.onnx import OnnxBackend
from handos_ros.inference.pipeline import Pipeline
from handos_ros.inference.torch_backend import TorchBackend
from handos_ros.network.export import export_onnx
from handos_ros.network.weights import save_weights

pytest.importorskip("onnx", reason="exporting needs onnx")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

# Exporting with free sizes takes half a minute of symbolic algebra, whatever the size of the network.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZES = ((96, 128), (128, 128), (128, 64), (32, 128))
DECODED = ("joints_2d", "joint_scores", "presence_logits", "joints_3d", "vertices", "root_2d", "scale")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A network, and the folder of its weights and graphs."""
    network = tiny_network("d_fine", seed=1, settings=BLAZE, layers_interactive=1)
    folder = tmp_path_factory.mktemp("exported")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_onnx(network, folder, model_id="tiny")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), f"exporting changed {name}"
    save_weights(network, folder / "tiny.safetensors", hand_model=load_hand_model())
    return network, folder


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_graphs_give_what_the_network_gives(exported, size, count):
    compare(*exported, size, count)


@pytest.mark.parametrize("kind", ["rt_detr", "rt_detr_v2"])
def test_other_detectors_are_exported_too(tmp_path, kind):
    network = tiny_network(kind, layers_2d=0, layers_interactive=1)
    export_onnx(network, tmp_path, model_id=kind)
    for count, size in enumerate(SIZES, 1):
        compare(network, tmp_path, size, count)


def compare(network, folder, size, count):
    """Both backends on one picture, by the order in which candidates come: no two of them score alike."""
    torch_backend, onnx_backend = TorchBackend(network), OnnxBackend(folder, threads=1)
    picture = pictures(1, *size, seed=count)[0].permute(1, 2, 0).numpy()
    found = [backend.detect(picture) for backend in (torch_backend, onnx_backend)]
    assert np.diff(np.sort(found[0].scores)).min() > 1e-6
    np.testing.assert_allclose(found[1].boxes, found[0].boxes, atol=1e-5)
    np.testing.assert_allclose(found[1].scores, found[0].scores, atol=1e-5)
    boxes = given_boxes(count, seed=count)[0].numpy()
    queries = np.arange(count)[::-1] % 8
    one, other = (
        backend.decode(seen, queries, boxes)
        for backend, seen in zip((torch_backend, onnx_backend), found, strict=True)
    )
    for name in DECODED:
        expected, got = getattr(one, name), getattr(other, name)
        assert expected.shape == got.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_both_backends_agree_through_the_pipeline(exported):
    """The promise to users: 0.1 px and 0.1 mm, from the same weights."""
    _, folder = exported
    rng = np.random.default_rng(5)
    image = pictures(1, 480, 640)[0].permute(1, 2, 0).numpy()
    boxes = np.array([[30.0, 40, 330, 400], [310, 100, 600, 460], [-20, -5, 100, 120]])
    results = []
    for backend in ("torch", "onnxruntime"):
        pipeline = Pipeline.load(weights=folder, device="cpu", backend=backend, threads=1)
        assert pipeline.backend.name == backend
        results.append([pipeline(image, boxes=boxes), pipeline(rng.integers(0, 255, (37, 501, 3), np.uint8))])
        pipeline.min_score = 0.0
        results[-1].append(pipeline(image))
        rng = np.random.default_rng(5)
    for one, other in zip(*results, strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(other.joints_2d, one.joints_2d, atol=0.1)
        np.testing.assert_allclose(other.joints_3d, one.joints_3d, atol=1e-4)
        np.testing.assert_allclose(other.vertices, one.vertices, atol=1e-4)
        np.testing.assert_array_equal(other.handedness, one.handedness)
    assert len(results[0][0]) == 3 and len(results[0][2]) > 0


def test_no_hands_need_no_decoder(exported):
    _, folder = exported
    for backend in ("torch", "onnxruntime"):
        pipeline = Pipeline.load(weights=folder, device="cpu", backend=backend, threads=1, min_score=1.0)
        hands = pipeline(np.zeros((48, 64, 3), np.uint8))
        assert len(hands) == 0 and hands.vertices.shape == (0, 1000, 3)


def test_the_files_keep_halves_and_know_what_they_are_of(exported):
    network, folder = exported
    backend = OnnxBackend(folder)
    assert backend.hand_model_hash == network.hand_model_hash and backend.model_id == "tiny"
    assert backend.configuration == network.config.name
    assert backend.second_look == network.config.second_look is not None
    size = sum((folder / name).stat().st_size for name in ("detector.onnx", "decoder.onnx"))
    # Two bytes for each weight, four for the upsampling's 100 x 1000, and the graphs themselves.
    assert size < 3 * sum(p.numel() for p in network.parameters()) + 4 * 100_000 + 600_000
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["decoder.onnx", "detector.onnx", "tiny.safetensors"]


def test_graphs_hold_no_path_of_the_machine_that_wrote_them(exported):
    _, folder = exported
    for name in ("detector.onnx", "decoder.onnx"):
        content = (folder / name).read_bytes()
        assert b"site-packages" not in content and b".py" not in content


def test_grounding_dino_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"a Grounding DINO detector is not exported.*torch backend"):
        export_onnx(tiny_network("grounding_dino"), tmp_path, model_id="x")
    assert list(tmp_path.iterdir()) == []
