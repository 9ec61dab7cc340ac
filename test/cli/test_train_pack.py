"""`handos train --pack`: from here to a machine that has nothing but the folder."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny_training import STAGES, write_photographs, write_run

from handos_ros.cli.main import main
from handos_ros.learning.training.checkpoint import load_checkpoint


def test_a_run_is_packed_moved_and_trained(tmp_path, capsys, monkeypatch):
    home, pack = tmp_path / "home", tmp_path / "pack"
    write_photographs(home / "photographs", 4)
    monkeypatch.setenv("HANDOS_DATA", str(home))
    sources = [{"kind": "coco", "share": 1.0, "annotations": "${HANDOS_DATA}/photographs/annotations.json"}]
    run = write_run(home, sources=sources, stages=[STAGES[1]])
    assert main(["train", str(run), "--pack", str(pack), "--megabytes", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{pack}: 0.0 MB, 4 pictures")
    assert out[1] == "  photographs: 4, at most 320 px, JPEG quality 92"
    words = f"train {pack}/run.yaml -o RUN --minutes 9"
    assert out[2] == f"on the other machine: handos {words}"

    shutil.rmtree(home)
    monkeypatch.delenv("HANDOS_DATA")
    monkeypatch.chdir(tmp_path)
    common = ["--quiet", "--device", "cpu", "--workers", "0"]
    assert main([*words.split()[:-1], "1e-9", *common]) == 0
    assert "stopped; the same command goes on" in capsys.readouterr().out
    # Of a machine that is gone, the checkpoint alone is enough.
    shutil.copytree("RUN/checkpoints", "kept")
    shutil.rmtree("RUN")
    shutil.copytree("kept", "RUN/checkpoints")
    assert main([*words.split(), *common]) == 0
    assert "finished: RUN/weights.safetensors" in capsys.readouterr().out
    assert load_checkpoint(Path("RUN/checkpoints"))["total"] == 2
    assert main(["train", f"{pack}/run.yaml", "--pack", str(pack)]) == 1
    assert f"handos: error: {pack} is there already" in capsys.readouterr().err


def test_a_recipe_that_cannot_be_packed_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HANDOS_DATA", str(tmp_path))
    assert main(["train", "handos_2d", "--pack", str(tmp_path / "pack")]) == 1
    assert "cannot be packed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of the arguments -o/--output --pack --dry-run is required"),
        (["-o", "a", "--pack", "b"], "argument --pack: not allowed with argument -o/--output"),
        (["-o", "a", "--megabytes", "3"], "argument --megabytes: only with --pack"),
        (["--pack", "b", "--minutes", "3"], "argument --minutes: not with --pack"),
        (["--pack", "b", "--checkpoint-every", "3"], "argument --checkpoint-every: not with --pack"),
        (["--pack", "b", "--dry-run"], "argument --dry-run: not with --pack"),
        (["--pack", "b", "--megabytes", "0"], "argument --megabytes: 0 is not above 0"),
    ],
)
def test_words_that_make_no_sense_together(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "run.yaml", *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
