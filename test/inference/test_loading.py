"""Tests of how weights, backends and devices are found, and of what the CPU path loads."""

import json
import os
import struct
import subprocess
import sys

import pytest
from tiny_graphs import write_graphs

from handos_ros.errors import ModelError
from handos_ros.inference import loading
from handos_ros.inference.loading import find_weights
from handos_ros.inference.pipeline import Pipeline


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package folder without any weights, with two configurations."""
    for name in ("handos", "handos_lite"):
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / f"{name}.yaml").write_text("name: x")
    monkeypatch.setattr(loading, "NETWORK_FOLDER", tmp_path)
    return tmp_path


def test_installed_weights_are_found_by_name(installed):
    folder = write_graphs(installed / "weights" / "handos_lite")
    files = find_weights("handos_lite")
    assert files.onnx == folder and files.safetensors is None
    (folder / "handos_lite.safetensors").write_bytes(b"x")
    assert find_weights("handos_lite").safetensors == folder / "handos_lite.safetensors"


MISMATCH = (
    r"these are weights of the network handos_lite, but the model handos was asked for: ask for "
    r"handos_lite, or name no model, or give weights of handos$"
)


def test_graphs_of_another_network_than_asked_for_are_refused(tmp_path, installed):
    folder = write_graphs(tmp_path / "graphs", configuration="handos_lite")
    for weights in (folder, folder / "detector.onnx"):
        with pytest.raises(ModelError, match=f"graphs.*: {MISMATCH}"):
            Pipeline.load("handos", weights=weights, device="cpu")
        for model in ("handos_lite", None):
            assert Pipeline.load(model, weights=weights, device="cpu").backend.name == "onnxruntime"
    # Also where they lie in the package under a wrong name.
    write_graphs(installed / "weights" / "handos", configuration="handos_lite")
    with pytest.raises(ModelError, match=MISMATCH):
        Pipeline.load("handos", device="cpu")


def test_graphs_that_do_not_say_what_they_are_of_are_taken_for_what_was_asked_for(tmp_path):
    folder = write_graphs(tmp_path, configuration=None)
    assert Pipeline.load("handos", weights=folder, device="cpu").model_id == "tiny"


def test_a_weights_file_of_another_network_is_refused_before_it_is_read(tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    header = json.dumps({"__metadata__": {"handos.config": json.dumps({"name": "handos_lite"})}}).encode()
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match=rf"w\.safetensors: {MISMATCH}"):
        Pipeline.load("handos", weights=weights)
    # What does not even say what it is of is damaged, and that is what its owner wants to know.
    for content in (b"", b"\xff" * 8, b"\xff" * 50, weights.read_bytes()[:-5], struct.pack("<Q", 2) + b"{}"):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=r"w\.safetensors: not a "):
            Pipeline.load("handos", weights=weights)


def test_without_installed_weights_the_way_out_is_named(installed):
    with pytest.raises(ModelError, match=r"no weights of handos are installed.*`handos train`$"):
        find_weights("handos")
    write_graphs(installed / "weights" / "handos_lite")
    with pytest.raises(ModelError, match=r"no weights of handos are installed.*or use one of handos_lite"):
        find_weights("handos")
    with pytest.raises(ModelError, match=r"unknown model 'hamer'; known are handos, handos_lite"):
        find_weights("hamer")


def test_a_folder_a_graph_or_a_weights_file(tmp_path):
    folder = write_graphs(tmp_path / "graphs")
    weights = folder / "best.safetensors"
    weights.write_bytes(b"x")
    assert (find_weights("m", folder).onnx, find_weights("m", folder).safetensors) == (folder, weights)
    assert find_weights("m", folder / "decoder.onnx").onnx == folder
    # Graphs that lie beside a named weights file may be older than it.
    assert find_weights("m", weights) == loading.WeightFiles(weights, None, weights)
    (folder / "last.safetensors").write_bytes(b"x")
    assert find_weights("m", folder).safetensors is None
    assert find_weights("best", str(folder)).safetensors == weights


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "no such weights file or folder"), ("notes.txt", "weights are .safetensors or .onnx files"),
     ("empty", "no weights in this folder")],
)  # fmt: skip
def test_what_holds_no_weights_is_named(tmp_path, name, message):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=f"{name}: {message}"):
        find_weights("handos_lite", tmp_path / name)


@pytest.mark.parametrize(("option", "value"), [("device", "tpu"), ("backend", "tensorrt")])
def test_unknown_options_are_named(tmp_path, option, value):
    with pytest.raises(ModelError, match=f"unknown {option} '{value}'; known are auto"):
        Pipeline.load(weights=write_graphs(tmp_path), **{option: value})


def test_a_backend_without_its_files_is_named(tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    graphs = write_graphs(tmp_path / "graphs")
    with pytest.raises(ModelError, match="no safetensors file there for the torch backend"):
        Pipeline.load(weights=graphs, backend="torch")
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"w.safetensors: no detector.onnx and decoder.onnx there"):
        Pipeline.load(weights=weights, backend="onnxruntime")


def test_torch_weights_without_torch_say_what_to_install(tmp_path, monkeypatch):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"w.safetensors: this needs torch.*'handos_ros\[torch\]'"):
        Pipeline.load(weights=weights)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu_onnxruntime_is_taken(tmp_path, monkeypatch, device):
    folder = write_graphs(tmp_path)
    (folder / "w.safetensors").write_bytes(b"x")
    monkeypatch.setattr(loading, "gpu_present", lambda: False)
    assert Pipeline.load(weights=folder, device=device).backend.name == "onnxruntime"


CPU_PATH = """
import sys, time
import numpy as np
from handos_ros import Pipeline
pipeline = Pipeline.load(weights=sys.argv[1], device="cpu")
hands = pipeline(np.full((480, 640, 3), 255, np.uint8))
assert len(hands) == 1
heavy = {"torch", "transformers", "onnx", "scipy", "rclpy", "matplotlib", "pandas", "safetensors", "yaml"}
print(*sorted(heavy & set(sys.modules)))
"""


def run(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_cpu_path_loads_nothing_heavy(tmp_path):
    assert run(CPU_PATH, str(write_graphs(tmp_path))) == ""


def test_importing_the_package_loads_nothing_but_itself():
    code = "import sys, handos_ros; print(*sorted({'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    assert run(code) == ""


def test_the_cpu_path_needs_no_torch(tmp_path):
    """As where torch is not installed: any attempt to import it fails."""
    block = "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None\n"
    assert run(block + CPU_PATH, str(write_graphs(tmp_path))) in ("", "safetensors torch")
