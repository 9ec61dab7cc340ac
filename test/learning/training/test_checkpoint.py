"""Checkpoints: small pieces, whole or not there, and whatever is wrong with one is named."""

import json
import os
import pickle

import pytest

torch = pytest.importorskip("torch")

from limits import files_of_at_most  # noqa: E402

from handos_ros.errors import DataError  # noqa: E402
from handos_ros.learning.training import checkpoint  # noqa: E402
from handos_ros.learning.training.checkpoint import (  # noqa: E402
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def state():
    return {
        "weights": {"a": torch.arange(1000.0), "b": torch.ones(3, dtype=torch.int64)},
        "step": 7,
        "name": "x",
    }


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE", 1000)


def same(a, b):
    assert a["step"] == b["step"] and a["name"] == b["name"]
    assert all(torch.equal(a["weights"][k], b["weights"][k]) for k in a["weights"])


def test_what_is_saved_comes_back_from_its_folder_and_from_the_one_around_it(tmp_path, state, small_pieces):
    path = save_checkpoint(tmp_path, 7, state)
    same(load_checkpoint(path), state)
    same(load_checkpoint(tmp_path), state)
    assert len(list(path.glob("piece-*"))) > 3


def test_pieces_are_of_at_most_16_mb(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"a": torch.zeros(5_000_000)})
    sizes = [piece.stat().st_size for piece in path.iterdir()]
    assert sum(sizes) > 20e6 and max(sizes) <= 16 * 1024 * 1024


def test_only_the_newest_stay(tmp_path, state):
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, step, state, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000030"]
    assert newest_checkpoint(tmp_path).name == "step-00000030"


def test_the_same_step_again_replaces_it(tmp_path, state):
    save_checkpoint(tmp_path, 1, state)
    save_checkpoint(tmp_path, 1, {**state, "name": "y"})
    assert load_checkpoint(tmp_path)["name"] == "y"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_damaged_piece_is_named(tmp_path, state, small_pieces, damage):
    piece = save_checkpoint(tmp_path, 7, state) / "piece-002"
    content = bytearray(piece.read_bytes())
    content[500] ^= 1
    if damage == "gone":
        piece.unlink()
    else:
        piece.write_bytes(content if damage == "flipped" else piece.read_bytes()[:-1])
    with pytest.raises(DataError, match="step-00000007/piece-002"):
        load_checkpoint(tmp_path)


def test_what_a_crash_left_is_passed_over(tmp_path, state):
    save_checkpoint(tmp_path, 1, state)
    half = tmp_path / "step-00000002"
    half.mkdir()
    (half / "piece-000").write_bytes(b"x")
    hidden = tmp_path / ".step-00000003.partial"
    hidden.mkdir()
    (hidden / "manifest.json").write_text("{}")
    assert newest_checkpoint(tmp_path).name == "step-00000001"
    same(load_checkpoint(tmp_path), state)
    with pytest.raises(DataError, match="step-00000002: holds no whole checkpoint"):
        load_checkpoint(half)


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"pieces": [{}]}', '{"pieces": 3}', '{"pieces": []}'])
def test_a_manifest_that_is_none_is_named(tmp_path, state, manifest):
    path = save_checkpoint(tmp_path, 1, state)
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match="step-00000001"):
        load_checkpoint(tmp_path)


def test_no_code_runs_out_of_a_checkpoint(tmp_path, state):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = save_checkpoint(tmp_path, 1, state)
    content = pickle.dumps(Bomb(), protocol=2)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["pieces"] = [{"name": "piece-000", "sha256": checkpoint.hashlib.sha256(content).hexdigest()}]
    (path / "piece-000").write_bytes(content)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="step-00000001"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("step", [1, 2])
def test_on_a_full_disk_the_good_checkpoint_stays(tmp_path, state, step):
    save_checkpoint(tmp_path, 1, {"a": torch.zeros(3)})
    with (
        files_of_at_most(2000),
        pytest.raises(DataError, match=f"step-0000000{step}: cannot write the checkpoint: File too large"),
    ):
        save_checkpoint(tmp_path, step, state)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert torch.equal(load_checkpoint(tmp_path)["a"], torch.zeros(3))


def test_a_folder_that_cannot_be_made_is_named(tmp_path, state):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot write the checkpoint"):
        save_checkpoint(tmp_path / "file", 1, state)
