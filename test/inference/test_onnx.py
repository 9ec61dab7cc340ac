"""Tests of the onnxruntime backend on two tiny graphs."""

import numpy as np
import onnx
import pytest
from tiny_graphs import write_graphs

from handos_ros.errors import ModelError
from handos_ros.inference import onnx as onnx_backend
from handos_ros.inference.onnx import OnnxBackend
from handos_ros.inference.pipeline import Pipeline
from handos_ros.network.config import SecondLookConfig


@pytest.fixture
def folder(tmp_path):
    return write_graphs(tmp_path / "tiny")


def test_a_picture_goes_through_both_graphs(folder):
    backend = OnnxBackend(folder, threads=1)
    picture = np.zeros((64, 32, 3), np.uint8)
    picture[..., 0], picture[:10, 0, 2] = 102, 255
    found = backend.detect(picture)
    np.testing.assert_allclose(found.boxes[0], 0.5)
    brightness = picture.mean() / 255
    np.testing.assert_allclose(found.scores, [brightness, brightness / 4], rtol=1e-5)
    decoded = backend.decode(found, np.array([1, 0, 1]), found.boxes[[1, 0, 1]])
    # Features reached the decoder: the mean red, and the brightest value anywhere (blue).
    np.testing.assert_allclose(decoded.joint_scores, np.full((3, 21), 0.4), rtol=1e-4)
    np.testing.assert_allclose(decoded.presence_logits, np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(decoded.scale, [200, 100, 200], rtol=1e-5)
    np.testing.assert_allclose(decoded.root_2d, [[0.25, 0.25], [0.5, 0.5], [0.25, 0.25]])
    green = backend.detect(np.full((64, 32, 3), (0, 51, 0), np.uint8))
    greens = backend.decode(green, np.array([0]), green.boxes[:1]).presence_logits
    np.testing.assert_allclose(greens, [0.2], rtol=1e-4)
    assert decoded.vertices.shape == (3, 1000, 3) and decoded.joints_3d.shape == (3, 21, 3)
    np.testing.assert_array_equal(decoded.joints_2d[0], decoded.joints_2d[2])


def test_what_the_graphs_say_of_themselves(folder):
    backend = OnnxBackend(folder)
    assert (backend.long_side, backend.stride) == (64, 32)
    assert (backend.model_id, backend.hand_model, backend.num_vertices) == ("tiny", "anny", 1000)
    assert (backend.name, backend.device) == ("onnxruntime", "cpu")


def test_any_number_of_hands_and_any_picture_size(folder):
    backend = OnnxBackend(folder, threads=1)
    for size, count in (((32, 64), 1), ((64, 64), 7), ((64, 32), 2)):
        found = backend.detect(np.full((*size, 3), 9, np.uint8))
        decoded = backend.decode(found, np.zeros(count, np.int64), np.tile(found.boxes[:1], (count, 1)))
        assert len(decoded.joints_2d) == count


def test_results_stay_as_they_were_when_the_next_picture_comes(folder):
    backend = OnnxBackend(folder, threads=1)
    first = backend.detect(np.full((64, 64, 3), 255, np.uint8))
    scores, boxes = first.scores.copy(), first.boxes
    decoded = backend.decode(first, np.array([0]), boxes[:1])
    red = decoded.joint_scores.copy()
    second = backend.detect(np.zeros((64, 64, 3), np.uint8))
    backend.decode(second, np.array([1]), second.boxes[1:])
    np.testing.assert_array_equal(first.scores, scores)
    np.testing.assert_array_equal(decoded.joint_scores, red)


def test_features_pass_as_they_are(folder):
    """They are values of onnxruntime, never NumPy arrays, so nothing of theirs is copied."""
    backend = OnnxBackend(folder, threads=1)
    features = backend.detect(np.zeros((64, 64, 3), np.uint8)).features
    assert {type(value).__module__.split(".")[0] for value in features.values()} == {"onnxruntime"}
    assert set(features) == {"colour", "map"}


def test_through_the_pipeline(folder):
    pipeline = Pipeline.load(weights=folder, device="cpu", threads=1)
    assert pipeline.model_id == "tiny" and pipeline.hand_model.num_vertices == 1000
    hands = pipeline(np.full((480, 640, 3), 255, np.uint8))
    assert len(hands) == 1 and hands.scores[0] == pytest.approx(0.8640, abs=1e-4)
    # The network picture is 64 x 64, the lowest quarter of it padding.
    np.testing.assert_allclose(hands.boxes, [[159.5, 159.5, 479.5, 479.5]], atol=1e-3)
    assert len(pipeline(np.full((480, 640, 3), 100, np.uint8))) == 0
    pipeline.close()


def test_it_may_look_at_larger_pictures_than_its_own(folder):
    pipeline = Pipeline.load(weights=folder, device="cpu", threads=1, long_side=128)
    # 128 x 96, without padding: the middle of the network's picture is that of the camera's.
    hands = pipeline(np.full((480, 640, 3), 255, np.uint8))
    np.testing.assert_allclose(hands.boxes, [[159.5, 119.5, 479.5, 359.5]], atol=1e-3)
    pipeline.close()


def test_graphs_say_which_hands_are_looked_at_twice(tmp_path):
    assert OnnxBackend(write_graphs(tmp_path / "old")).second_look is None
    assert OnnxBackend(write_graphs(tmp_path / "none", second_look="null")).second_look is None
    text = '{"below": 60, "above": 180, "size": 90, "cell": 160}'
    backend = OnnxBackend(write_graphs(tmp_path / "new", second_look=text))
    assert backend.second_look == SecondLookConfig(60, 180, 90, 160)


@pytest.mark.parametrize(("long_side", "near"), [(300, 288), (0, 32), (-64, 32), (100_000, 4096)])
def test_sizes_that_it_cannot_look_at_are_named(folder, long_side, near):
    with pytest.raises(ModelError, match=f"multiple of 32 up to 4096 px, got {long_side}: try {near}"):
        Pipeline.load(weights=folder, device="cpu", long_side=long_side)


def test_numbers_that_are_not_finite_are_an_error_and_no_hand(tmp_path):
    folder = write_graphs(tmp_path)
    model = onnx.load(folder / "decoder.onnx")
    for constant in model.graph.initializer:
        if constant.name == "points":
            values = onnx.numpy_helper.to_array(constant).copy()
            values[0, 500, 1] = np.nan
            constant.CopyFrom(onnx.numpy_helper.from_array(values, "points"))
    onnx.save(model, folder / "decoder.onnx")
    pipeline = Pipeline.load(weights=folder, device="cpu", threads=1)
    with pytest.raises(ModelError, match=r"tiny on onnxruntime \(cpu\) gave values that are not finite"):
        pipeline(np.full((64, 64, 3), 255, np.uint8))


@pytest.mark.parametrize("name", ["detector", "decoder"])
def test_a_missing_truncated_or_foreign_file_is_named(folder, name):
    path = folder / f"{name}.onnx"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x00" * 500, b"not a graph"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}.onnx: (damaged|not a hand network)"):
            OnnxBackend(folder)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name}.onnx: no such file"):
        OnnxBackend(folder)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"format": "1"}, "format 1, this version reads format 2"),
        ({"format": None}, "not a hand network: its metadata has no handos.format"),
        ({"stride": None}, "no handos.stride"),
        ({"long_side": "wide"}, "long_side and stride are no numbers"),
        ({"second_look": "often"}, "its second_look is no json"),
        ({"second_look": '{"below": 60}'}, "second_look of .*detector.onnx: missing key above"),
    ],
)
def test_metadata_that_does_not_fit_is_refused_by_name(tmp_path, about, message):
    with pytest.raises(ModelError, match=message):
        OnnxBackend(write_graphs(tmp_path, **about))


def test_graphs_of_two_exports_are_refused(tmp_path):
    one, other = write_graphs(tmp_path / "a"), write_graphs(tmp_path / "b", model="another")
    (one / "decoder.onnx").write_bytes((other / "decoder.onnx").read_bytes())
    with pytest.raises(ModelError, match="come from different exports"):
        OnnxBackend(one)


def test_swapped_graphs_are_refused(folder):
    detector, decoder = folder / "detector.onnx", folder / "decoder.onnx"
    a, b = detector.read_bytes(), decoder.read_bytes()
    detector.write_bytes(b), decoder.write_bytes(a)
    with pytest.raises(ModelError, match=r"detector.onnx: not a graph of a hand network: it gives no"):
        OnnxBackend(folder)


def test_another_hand_model_is_refused(tmp_path):
    folder = write_graphs(tmp_path, vertices=778)
    with pytest.raises(ModelError, match=r"hand model anny with 778 vertices, \S+ has 1000"):
        Pipeline.load(weights=folder, device="cpu")


def test_another_version_of_the_hand_model_is_refused(tmp_path):
    folder = write_graphs(tmp_path, hand_model_hash="0" * 64)
    with pytest.raises(ModelError, match="made for another version of the hand model anny"):
        Pipeline.load(weights=folder, device="cpu")


def test_a_network_for_mano_says_that_it_needs_mano(tmp_path):
    folder = write_graphs(tmp_path, vertices=778, hand_model="mano")
    with pytest.raises(ModelError, match=r"MANO_RIGHT.pkl"):
        Pipeline.load(weights=folder, device="cpu")


def test_cuda_without_cuda_is_refused(folder, monkeypatch):
    monkeypatch.setattr(onnx_backend.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="this onnxruntime has no CUDA"):
        OnnxBackend(folder, device="cuda")


def test_threads(folder):
    assert OnnxBackend(folder, threads=3)._detector.get_session_options().intra_op_num_threads == 3
    assert 1 <= OnnxBackend(folder)._detector.get_session_options().intra_op_num_threads <= 4
    with pytest.raises(ModelError, match="threads must be at least 1, got 0"):
        Pipeline.load(weights=folder, threads=0)
