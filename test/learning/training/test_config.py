"""Training configurations: what ships can be read, paths are found, and every mistake is named."""

import pytest
import yaml

pytest.importorskip("torch")

from tiny_training import STAGES, tiny_run, write_photographs, write_run

from handos_ros.errors import DataError
from handos_ros.learning.training.config import load_training_config, shipped_recipes
from handos_ros.learning.training.losses import LossWeights
from handos_ros.network.config import load_config

SOURCE = {"kind": "coco", "share": 1.0, "annotations": "a.json"}


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_that_ships_can_be_read(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HANDOS_DATA", str(tmp_path))
    config = load_training_config(name)
    stride = load_config(config.network).stride
    assert all(side % stride == 0 for stage in config.stages for size in stage.sizes for side in size)
    paths = [path for source in config.sources for path in (source.annotations, source.images) if path]
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_the_published_method_ships_with_its_losses_and_a_frozen_detector(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDOS_DATA", str(tmp_path))
    published = [name for name in shipped_recipes() if name.startswith(("handos_2d", "handos_full_"))]
    assert {"handos_2d", "handos_full_freihand", "handos_full_hint"} <= set(published)
    for name in published:
        config = load_training_config(name)
        assert config.network == "handos" and config.losses == LossWeights()
        assert not any(stage.detector for stage in config.stages)
        assert {stage.decoder for stage in config.stages} == {"2d" if name == "handos_2d" else "full"}
    kinds = {source.kind for source in load_training_config("handos_2d").sources}
    assert kinds == {"hint", "coco_wholebody", "onehand10k"}


def test_paths_hold_variables_and_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PICTURES", str(tmp_path / "elsewhere"))
    sources = [
        {**SOURCE, "annotations": "${PICTURES}/a.json", "images": "../images"},
        {
            "kind": "synthesis",
            "share": 1.0,
            "settings": {"backgrounds": "backgrounds", "surroundings": "${PICTURES}/a.json"},
        },
    ]
    config = tiny_run(tmp_path / "runs", sources=sources, initial="first/weights.safetensors")
    assert config.sources[0].annotations == str(tmp_path / "elsewhere" / "a.json")
    assert config.sources[0].images == str(tmp_path / "images")
    assert config.sources[1].settings == {
        "backgrounds": str(tmp_path / "runs" / "backgrounds"),
        "surroundings": str(tmp_path / "elsewhere" / "a.json"),
    }
    assert config.initial == str(tmp_path / "runs" / "first" / "weights.safetensors")
    assert config.network == str(tmp_path / "runs" / "network.yaml")


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PICTURES", raising=False)
    with pytest.raises(DataError, match=r"run\.yaml.*\$\{PICTURES\}/a\.json.*not set"):
        tiny_run(tmp_path, sources=[{**SOURCE, "annotations": "${PICTURES}/a.json"}])


def stage(**changes):
    return {"stages": [{**STAGES[2], **changes}]}


def close_ups(**changes):
    return {"share": 0.5, "batch": 2, "sizes": [[96, 96]], **changes}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rat": 1}, "learning_rat"),
        ({"sources": [{**SOURCE, "weight": 1}]}, r"sources\.weight"),
        ({"sources": [{"share": 1.0}]}, r"sources\.kind"),
        ({"sources": [{**SOURCE, "kind": "freihands"}]}, r"sources\.kind is 'freihands'.*freihand"),
        ({"sources": [{**SOURCE, "share": 0}]}, "share of source coco"),
        ({"sources": [{"kind": "coco", "share": 1.0}]}, "annotations"),
        ({"sources": [{"kind": "hint", "share": 1.0}]}, "images"),
        ({"sources": 3}, "sources must be a list"),
        ({"sources": [3]}, "sources"),
        ({"sources": [{**SOURCE, "settings": 3}]}, r"sources\.settings"),
        ({"sources": []}, "at least one source"),
        ({"stages": []}, "at least one source and one stage"),
        (stage(decoder="3d"), "stage full: decoder is '3d'"),
        (stage(decoder="none"), "neither the detector nor the decoder"),
        (stage(steps=0), "steps"),
        (stage(steps="many"), r"stages\.steps must be of type int"),
        (stage(name=True), r"stages\.name must be of type str, got True; a word like on"),
        (stage(sizes=[[96]]), "sizes"),
        (stage(sizes=[[96, 16]]), "sizes"),
        (stage(learning_rate=0), "learning rates"),
        (stage(close_ups=close_ups(share=1)), r"close_ups\.share must be between 0 and 1"),
        (stage(close_ups=close_ups(batch=0)), "close_ups: batch and hands must be positive"),
        (stage(close_ups=close_ups(sizes=[[96]])), "close_ups: sizes must be pairs"),
        (stage(close_ups=close_ups(kinds=["synthesis"])), "stage full: kinds has synthesis"),
        (stage(close_ups={"share": 0.5}), r"missing key stages\.close_ups\.batch"),
        (
            stage(detector=True, decoder="none", close_ups=close_ups()),
            "stage full: close_ups are for stages with a decoder",
        ),
        ({"accumulate": 3}, r"stage detector: steps \(2\) must be a multiple of accumulate \(3\)"),
        ({"stages": [STAGES[0], STAGES[0]]}, "names of their own"),
        ({"ema": 1.0}, "ema"),
        ({"mirror": 1.5}, "mirror"),
        ({"incomplete": -0.1}, "incomplete"),
        (stage(incomplete=1.5), "stage full: incomplete must be from 0 to 1"),
        (stage(dense_weight=0.5), "stage full: dense_weight is for stages with `dense`"),
        (stage(detector=True, dense=True, dense_weight=0), "stage full: .*dense_weight positive"),
        (stage(hard=-1), "stage full: hard and hard_hands must not be negative"),
        (stage(complete=0), "stage full: complete must be a score between 0 and 1"),
        ({"sources": [{**SOURCE, "backs": 0}]}, "source coco: backs"),
        ({"sources": [{"kind": "synthesis", "share": 1.0, "backs": 2}]}, "source synthesis: backs"),
        ({"sources": [{**SOURCE, "crowds": 0}]}, "source coco: crowds"),
        ({"sources": [{**SOURCE, "rare": -1}]}, "source coco: rare"),
        ({"sources": [{"kind": "synthesis", "share": 1.0, "rare": 1}]}, "source synthesis: rare"),
        ({"losses": {"nc": -1}}, "losses"),
        ({"losses": {"ok": 1}}, r"losses\.ok"),
        ({"monitor": {"annotations": "a.json", "every": 0}}, "every"),
    ],
)
def test_mistakes_are_named_with_their_file_and_key(tmp_path, changes, named):
    with pytest.raises(DataError, match=rf"(?s)run\.yaml: .*{named}"):
        tiny_run(tmp_path, **changes)


@pytest.mark.parametrize("content", [b"sources: [", b"\xff\xfe\x00", b"3", b"- a"])
def test_what_is_no_configuration_is_named(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"run\.yaml"):
        load_training_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.yaml: cannot read"):
        load_training_config(tmp_path / "nowhere.yaml")


def test_ablations_are_weights_of_zero(tmp_path):
    write_photographs(tmp_path / "photographs")
    path = write_run(tmp_path, losses={"oks_2d": 0, "oks_proj": 0})
    losses = load_training_config(path).losses
    assert (losses.oks_2d, losses.oks_proj, losses.nc) == (0.0, 0.0, 0.5)
    assert yaml.safe_load(path.read_text())["losses"] == {"oks_2d": 0, "oks_proj": 0}
