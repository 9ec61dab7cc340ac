"""Weights files: a round trip, and every file that does not fit refused by name."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_networks import given_boxes, pictures, tiny_config, tiny_network

from handos_ros.errors import ModelError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.inference.loading import load
from handos_ros.network.config import config_to_dict
from handos_ros.network.handos import HandosNetwork
from handos_ros.network.weights import load_network, load_weights, save_weights


@pytest.fixture(scope="module")
def model():
    return load_hand_model()


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture
def path(network, model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(network, path, hand_model=model, info={"license": "CC0-1.0"})
    return path


def rewrite(path, *, metadata=None, **tensors):
    """The same file with other metadata or tensors; None leaves one out."""
    with safe_open(path, framework="pt") as file:
        old, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, value in tensors.items():
        state[name] = value
    state = {name: value for name, value in state.items() if value is not None}
    old = {k: v for k, v in {**old, **(metadata or {})}.items() if v is not None}
    save_file(state, path, old)


@pytest.mark.parametrize("kind", ["d_fine", "grounding_dino"])
def test_a_round_trip_gives_the_same_network(kind, tmp_path, model):
    network = tiny_network(kind)
    save_weights(network, tmp_path / "w.safetensors", hand_model=model)
    loaded, mesh = load_network(tmp_path / "w.safetensors")
    assert loaded.config == network.config and mesh.name == model.name and not loaded.training
    results = []
    for each in (network, loaded):
        with torch.no_grad():
            seen = each.detect(pictures())
            results.append((seen, each.decode(seen, torch.tensor([[0, 3]]), given_boxes(2), (96, 128))))
    (seen, out), (seen_again, out_again) = results
    torch.testing.assert_close(seen_again.boxes, seen.boxes, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen_again.logits, seen.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(out_again.joints_2d, out.joints_2d, rtol=0, atol=1e-5)
    torch.testing.assert_close(out_again.vertices, out.vertices, rtol=0, atol=1e-6)


def test_the_file_is_small_and_says_what_it_is(path, network):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        types = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert json.loads(metadata["handos.config"]) == config_to_dict(network.config)
    assert metadata["license"] == "CC0-1.0" and metadata["handos.hand_model"]
    assert types <= {torch.float16, torch.float32, torch.int64}
    assert path.stat().st_size < 3 * sum(p.numel() for p in network.parameters())


def test_a_pretrained_detector_stays_in_its_own_file(model, tmp_path):
    config = tiny_config()
    config = dataclasses.replace(
        config, detector=dataclasses.replace(config.detector, pretrained="some/name")
    )
    network = HandosNetwork(config, model, pretrained=False)
    save_weights(network, tmp_path / "w.safetensors", hand_model=model)
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"side", "decoder"}  # noqa: SIM118
    load_weights(network, tmp_path / "w.safetensors")


def test_another_configuration_is_refused_with_the_difference(path, model):
    other = HandosNetwork(tiny_config(feedforward=64), model)
    with pytest.raises(ModelError, match=r"configuration: decoder.feedforward is 48 there and 64 here"):
        load_weights(other, path)


def test_sizes_at_which_it_looks_are_no_part_of_the_weights(path, model):
    config = dataclasses.replace(tiny_config(), long_side=160, second_look=None)
    load_weights(HandosNetwork(config, model, pretrained=False), path)


def test_a_damaged_file_is_refused_whatever_its_damage(path, network):
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], whole[:20], b"", b"\x00" * 400, b"\xff" * 9):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"tiny\.safetensors: not a whole safetensors file"):
            load_network(path)
    path.unlink()
    with pytest.raises(ModelError, match=r"tiny\.safetensors: no such weights file"):
        load_network(path)


def test_values_that_are_not_finite_are_refused(path, network):
    for bad in (np.nan, np.inf):
        lifting = network.decoder.lifting.detach().clone()
        lifting[3, 4] = bad
        rewrite(path, **{"decoder.lifting": lifting})
        with pytest.raises(ModelError, match=r"decoder.lifting holds a value that is not finite"):
            load_network(path)


def test_missing_extra_and_misshapen_tensors_are_named(path):
    rewrite(path, **{"decoder.more": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"holds the tensor decoder.more, which the network does not have"):
        load_network(path)
    rewrite(path, **{"decoder.more": None, "decoder.lifting": torch.zeros(7, 21)})
    with pytest.raises(ModelError, match=r"lifting has shape \(7, 21\), the network needs \(\d+, 21\)"):
        load_network(path)
    rewrite(path, **{"decoder.lifting": None})
    with pytest.raises(ModelError, match=r"lacks the tensor decoder.lifting"):
        load_network(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"handos.format": "0"}, "not a weights file of this package, or of another version"),
        ({"handos.format": None}, "not a weights file of this package"),
        ({"handos.config": "{"}, "its configuration is damaged"),
        ({"handos.config": None}, "its configuration is damaged"),
        ({"handos.config": "[]"}, "the configuration must be a mapping"),
        ({"handos.num_vertices": "778"}, "made for a hand model of 778 vertices"),
        ({"handos.hand_model_hash": "0" * 64}, "made for another version of the hand model"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(path, metadata, message):
    rewrite(path, metadata=metadata)
    with pytest.raises(ModelError, match=f"tiny.safetensors: .*{message}"):
        load_network(path)


def test_another_version_of_the_hand_model_is_refused(path, model):
    """As many vertices, numbered otherwise: without the check its meshes would come out scrambled."""
    other = dataclasses.replace(model, faces=np.ascontiguousarray(model.faces[::-1]))
    with pytest.raises(ModelError, match="made for another version of the hand model"):
        load_network(path, hand_model=other)
    same = dataclasses.replace(model, provenance="told otherwise")
    load_network(path, hand_model=same)


def test_the_fingerprint_tells_what_matters(model):
    upsampling = model.upsampling.copy()
    upsampling[0] = upsampling[1]
    other = dataclasses.replace(model, upsampling=upsampling)
    assert other.fingerprint(coarse=True) != model.fingerprint(coarse=True)
    assert other.fingerprint(coarse=False) == model.fingerprint(coarse=False)
    regressor = model.joint_regressor[::-1].copy()
    other = dataclasses.replace(model, joint_regressor=regressor)
    assert other.fingerprint(coarse=False) != model.fingerprint(coarse=False)


def test_nothing_appears_under_the_name_before_it_is_whole(network, model, tmp_path, monkeypatch):
    import handos_ros.network.weights as module

    def fails(_state, path, _metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "save_file", fails)
    with pytest.raises(Exception, match="No space left"):
        save_weights(network, tmp_path / "w.safetensors", hand_model=model)
    assert list(tmp_path.iterdir()) == []


def test_a_mano_network_asks_for_mano(tmp_path, model):
    config = dataclasses.replace(tiny_config(), hand_model="mano")
    save_weights(HandosNetwork(config, model), tmp_path / "w.safetensors", hand_model=model)
    with pytest.raises(ModelError, match="predicts MANO's mesh; give your own MANO file"):
        load_network(tmp_path / "w.safetensors")


def test_the_pipelines_loader_takes_them(path):
    loaded = load(weights=path, device="cpu", backend="torch")
    assert loaded.backend.name == "torch" and loaded.model_id == "tiny_d_fine"
