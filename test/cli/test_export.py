"""`handos export` as its users run it, with the minutes of exporting left out where they do not matter."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="exporting needs torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from tiny_networks import tiny_network

from handos_ros.cli.main import main
from handos_ros.errors import ModelError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.inference import agreement
from handos_ros.network import export as exporting
from handos_ros.network.weights import save_weights


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny_network(layers_2d=0, layers_interactive=1), path, hand_model=load_hand_model())
    return path


def fake_export(_network, folder, *, model_id):
    for name in ("detector.onnx", "decoder.onnx"):
        Path(folder, name).write_text(model_id)


def test_graphs_that_differ_from_the_network_are_not_left_behind(weights, tmp_path, monkeypatch, capsys):
    def differs(*_):
        raise ModelError("the exported graphs do not give what the network gives: boxes differ")

    monkeypatch.setattr(exporting, "export_onnx", fake_export)
    monkeypatch.setattr(agreement, "check_agreement", differs)
    assert main(["export", str(weights), "-o", str(tmp_path / "out")]) == 1
    assert "boxes differ" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_graphs_appear_together_under_the_weights_name(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "export_onnx", fake_export)
    monkeypatch.setattr(agreement, "check_agreement", lambda *_: None)
    out = tmp_path / "out"
    assert main(["export", str(weights), "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["decoder.onnx", "detector.onnx"]
    assert (out / "detector.onnx").read_text() == "tiny_d_fine"
    printed = capsys.readouterr().out
    assert "MB" in printed and "decoder.onnx" in printed
    assert main(["export", str(weights), "-o", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["export", str(weights), "-o", str(out), "--overwrite"]) == 0


def test_grounding_dino_and_what_is_no_weights_file_are_refused(tmp_path, capsys):
    path = tmp_path / "dino.safetensors"
    save_weights(tiny_network("grounding_dino"), path, hand_model=load_hand_model())
    assert main(["export", str(path), "-o", str(tmp_path / "out")]) == 1
    assert "a Grounding DINO detector is not exported" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "x.onnx"), "-o", str(tmp_path / "out")]) == 1
    assert "takes a .safetensors file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_way(weights, tmp_path):
    """Also holds the comparison itself: it lets real graphs pass and stops those of other weights."""
    out = tmp_path / "out"
    assert main(["export", str(weights), "-o", str(out)]) == 0
    other = tiny_network(layers_2d=0, layers_interactive=1, seed=1)
    with pytest.raises(ModelError, match=r"do not give what the network gives: \w+ differ by"):
        agreement.check_agreement(other, out)
