"""`handos bench` as its users run it."""

import json

import pytest
import yaml
from tiny_graphs import write_graphs

from handos_ros.cli.main import main


def test_installed_graphs_are_timed_stage_by_stage(tmp_path, capsys):
    folder = write_graphs(tmp_path / "graphs")
    file = tmp_path / "bench.json"
    words = ["bench", "--weights", str(folder), "--device", "cpu", "--hands", "0,3", "--repeats", "4",
             "--size", "320x200", "--json", str(file)]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    for word in ("hands", "letterbox", "detect", "decode", "whole", "peak memory", "(301 + 108 H) GFLOPs"):
        assert word in printed
    report = json.loads(file.read_text())
    assert set(report["milliseconds"]) == {"0", "3"} and report["backend"] == "onnxruntime"
    three = report["milliseconds"]["3"]
    stages = [three[name]["median"] for name in three if name != "whole"]
    assert all(value >= 0 for value in stages)
    assert sum(stages) == pytest.approx(three["whole"]["median"], rel=0.5)
    assert report["milliseconds"]["0"]["decode"]["median"] < three["decode"]["median"]
    assert 0 < report["memory"]["process_bytes"] < 64e9
    # These graphs are of no configuration, so nobody knows what to count; the note says so.
    assert report["parts"] == {} and any("FLOPs" in note for note in report["notes"])
    assert main(words) == 1 and "is there already" in capsys.readouterr().err


def test_random_weights_of_a_configuration_with_its_costs(tmp_path, capsys):
    pytest.importorskip("transformers", reason="needs the network in torch")
    from tiny_networks import tiny_config

    from handos_ros.network.config import config_to_dict

    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**config_to_dict(tiny_config()), "hand_model": "mano"}))
    words = ["bench", "--model", str(path), "--random", "--device", "cpu", "--hands", "0,1", "--repeats", "2"]
    assert main([*words, "--json", str(tmp_path / "b.json")]) == 0
    parts = json.loads((tmp_path / "b.json").read_text())["parts"]
    assert set(parts) == {"detector", "side", "decoder"}
    assert parts["decoder"]["flops_per_hand"] > 0 and parts["detector"]["flops_per_hand"] == 0
    assert all(part["parameters"] > 0 and part["flops"] >= 0 for part in parts.values())
    printed = capsys.readouterr().out
    assert "random weights" in printed and "for want of MANO's" in printed


@pytest.mark.parametrize(
    "words", [["--hands", "two"], ["--hands", "-1"], ["--size", "1280"], ["--size", "0x3"]]
)
def test_words_that_make_no_bench_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *words])
