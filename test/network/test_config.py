"""Configurations: the shipped ones as published and as budgeted, and every mistake in one named."""

import dataclasses

import pytest
import yaml
from tiny_networks import tiny_config

from handos_ros.errors import ModelError
from handos_ros.network.config import config_from_dict, config_to_dict, load_config, shipped_configs


def test_the_shipped_ones():
    assert shipped_configs() == ["handos", "handos_lite"]
    for name in shipped_configs():
        assert load_config(name).name == name


def test_handos_is_the_published_network():
    config = load_config("handos")
    assert (config.long_side, config.hand_model, config.detector.kind) == (1280, "mano", "grounding_dino")
    decoder = config.decoder
    assert (decoder.layers_2d, decoder.layers_interactive, decoder.width) == (2, 4, 256)
    assert decoder.vertices == "all" and decoder.value_projection and len(config.side.channels) == 4


def test_a_configuration_survives_yaml(tmp_path):
    config = load_config("handos_lite")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(config)))
    assert load_config(path) == config
    assert dataclasses.replace(config, name="other") != config


def changed(path, value):
    data = config_to_dict(tiny_config())
    *parents, last = path.split(".")
    inner = data
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("detector.kind", "yolo", "detector.kind is 'yolo'; known are grounding_dino, rt_detr"),
        ("detector.kind", "grounding_dino", "prompt_ids must hold the prompt's tokens"),
        ("detector.queries", 0, "detector.queries must be at least 1"),
        ("decoder.width", 30, r"decoder.width \(30\) must be a multiple of decoder.heads \(4\)"),
        ("decoder.points", [1, 2], "decoder.points has 2 entries for 3 strides"),
        ("decoder.strides", [8, 8, 16], "decoder.strides must rise"),
        ("decoder.layers_interactive", 0, "at least one interactive layer"),
        ("decoder.vertices", "some", "decoder.vertices is 'some'; known are all, coarse"),
        ("decoder.dropout", 1.0, r"decoder.dropout must be in \[0, 1\)"),
        ("decoder.width", "wide", "decoder.width must be of type int, got 'wide'"),
        ("decoder.width", True, "decoder.width must be of type int, got True"),
        ("decoder.layers", 3, "unknown key decoder.layers; known are"),
        ("side.channels", [], "side.channels must be positive"),
        ("side.channels", 8, "side.channels must be a list, got 8"),
        ("side", [1], "side. must be a mapping, got list"),
        ("long_side", 100, r"long_side \(100\) must be a positive multiple of stride \(32\)"),
        ("hand_model", None, "missing key hand_model"),
        ("second_look.above", 40, r"second_look.below \(60\) must be under second_look.above \(40\)"),
        ("second_look.below", -1, "not negative"),
        ("second_look.size", 200, r"second_look.size \(200\) .* fit second_look.cell \(160\)"),
        ("second_look.cell", None, "missing key second_look.cell"),
    ],
)
def test_what_cannot_work_is_named(path, value, message):
    with pytest.raises(ModelError, match=message):
        config_from_dict(changed(path, value))


def test_files_that_are_no_configuration_are_named(tmp_path):
    with pytest.raises(ModelError, match="no configuration 'hamer': neither a file nor one of handos"):
        load_config("hamer")
    for text in ("a: [", "- 1", "", "name: 3"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(ModelError, match=r"mine.yaml: "):
            load_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"mine.yaml: "):
        load_config(path)
