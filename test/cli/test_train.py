"""`handos train` as its users run it: two commands for the published method, several processes, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hand_model.mano_file import mano_arrays, write_pickle  # noqa: E402
from tiny_training import (  # noqa: E402
    STAGES,
    tiny_run,
    write_freihand,
    write_hint,
    write_network,
    write_run,
)

from handos_ros.cli.main import main  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.learning.training.checkpoint import load_checkpoint, newest_checkpoint  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402
from handos_ros.network.weights import load_network  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
COMMAND = [sys.executable, "-m", "handos_ros.cli.main", "train"]


def test_the_published_method_by_two_commands(tmp_path, capsys):
    """Grounding DINO, MANO from the user's file, HInt and then FreiHAND: all that is missing is size."""
    mano = str(write_pickle(tmp_path / "MANO_RIGHT.pkl", mano_arrays()))
    write_network(tmp_path / "network.yaml", "grounding_dino", hand_model="mano")
    write_hint(tmp_path / "hint")
    write_freihand(tmp_path / "freihand")
    first = write_run(
        tmp_path, sources=[{"kind": "hint", "share": 1.0, "images": "hint"}], stages=[STAGES[1]]
    ).rename(tmp_path / "2d.yaml")
    second = write_run(
        tmp_path,
        sources=[{"kind": "freihand", "share": 1.0, "images": "freihand"}],
        stages=[STAGES[2]],
        mosaic=0,
    )
    common = ["--quiet", "--device", "cpu", "--workers", "0"]

    assert main(["train", str(first), "-o", str(tmp_path / "2d"), *common]) == 1
    assert "predicts MANO's mesh: give your own MANO file with --hand-model" in capsys.readouterr().err

    assert main(["train", str(first), "-o", str(tmp_path / "2d"), "--hand-model", mano, *common]) == 0
    weights = tmp_path / "2d" / "weights.safetensors"
    assert capsys.readouterr().out == f"finished: {weights}\n"
    words = [
        str(second),
        "-o",
        str(tmp_path / "full"),
        "--hand-model",
        mano,
        "--initial",
        str(weights),
        *common,
    ]
    assert main(["train", *words, "--minutes", "1e-9"]) == 0
    assert capsys.readouterr().out.startswith("stopped; the same command goes on from its checkpoint: ")
    begun = load_checkpoint(tmp_path / "full" / "checkpoints")
    network, _ = load_network(weights, hand_model=load_hand_model(mano))
    assert all(torch.equal(value, begun["network"][key]) for key, value in network.state_dict().items())

    assert main(["train", *words]) == 0
    ended = load_checkpoint(tmp_path / "full" / "checkpoints")
    moved = {key for key in ended["network"] if not torch.equal(ended["network"][key], begun["network"][key])}
    assert "decoder.lifting" in moved and not any(key.startswith("detector.") for key in moved)
    lines = (tmp_path / "full" / "metrics.jsonl").read_text().splitlines()
    assert '"vertices": 0.0' not in lines[-1] and '"vertices": ' in lines[-1]


@pytest.mark.parametrize("output", [[], ["-o", "out"]])
def test_a_dry_run_says_what_it_found_and_writes_nothing(tmp_path, capsys, monkeypatch, output):
    path = write_run(tmp_path / "run")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["train", str(path), *output, "--dry-run", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "coco: 5 pictures"
    assert [line.split(":")[0] for line in lines[1:]] == ["detector", "joints", "full"]
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot read the training configuration: No such file"),
        (["RUN", "--initial", "nowhere.safetensors"], "nowhere.safetensors: no such weights file"),
        (["RUN", "--hand-model", "nowhere.pkl"], "nowhere.pkl"),
    ],
)
def test_errors_name_the_file(tmp_path, capsys, words, said):
    path = write_run(tmp_path)
    words = [str(path) if word == "RUN" else word for word in words]
    assert main(["train", *words, "-o", str(tmp_path / "out"), "--device", "cpu", "--workers", "0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("handos: error: ") and said in error and error.count("\n") == 1


def test_compiling_without_a_compiler_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = write_run(tmp_path / "config")
    assert main(["train", str(path), "-o", str(tmp_path / "run"), "--compile"]) == 1
    assert "--compile finds no C++ compiler: sudo apt install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path, capsys):
    path = write_run(tmp_path)
    assert main(["train", str(path), "-o", str(tmp_path / "out"), "--device", "cuda"]) == 1
    assert "torch finds no GPU on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--workers", "-1"], ["--checkpoint-every", "0"]])
def test_bounds_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "run.yaml", "-o", "out", *words])
    assert ended.value.code == 2 and words[0] in capsys.readouterr().err


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_of_its_processes_ends_it_with_a_checkpoint(tmp_path, number):
    """As Ctrl-C, `timeout`, cluster schedulers and a closed terminal send it: also to the workers."""
    steps = 300
    path = write_run(tmp_path, stages=[{**STAGES[1], "steps": steps}])
    words = [str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--workers", "1", "--quiet"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--checkpoint-every", "2"],
        env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoints = tmp_path / "out" / "checkpoints"
    wait_for(lambda: newest_checkpoint(checkpoints) is not None, process)
    os.killpg(process.pid, number)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert out.startswith("stopped; the same command goes on from its checkpoint")
    state = load_checkpoint(checkpoints)
    assert 2 <= state["total"] < steps
    if number == signal.SIGTERM:
        # What it left is what a run that was not disturbed has at this step.
        config = tiny_run(tmp_path, stages=[{**STAGES[1], "steps": steps}])
        wanted = state["total"]

        def stop(_network, total):
            if total == wanted:
                os.kill(os.getpid(), signal.SIGTERM)
            return {}

        train(config, load_hand_model(), Run(tmp_path / "b", progress=False, evaluate=stop, evaluate_every=1))
        other = load_checkpoint(tmp_path / "b" / "checkpoints")
        assert other["total"] == wanted
        assert all(torch.equal(value, other["network"][key]) for key, value in state["network"].items())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_nothing_is_left_of_a_run_that_is_killed(tmp_path):
    """As by a system that is out of memory."""
    path = write_run(tmp_path, stages=[{**STAGES[1], "steps": 300}])
    words = [str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--workers", "1", "--quiet"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--checkpoint-every", "1"],
        env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: newest_checkpoint(tmp_path / "out" / "checkpoints") is not None, process)

    def session():
        """Processes that began with this one and have not ended (Z: only not yet asked how)."""
        alive = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, leader = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(leader) == process.pid and state != "Z":
                alive.append(stat.parent.name)
        return alive

    assert len(session()) >= 3
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while session():
        assert time.monotonic() < end, session()
        time.sleep(0.05)
    # Python's own thread that hands tensors over may complain that nobody takes them; ours say nothing.
    assert "handos_ros/learning" not in process.stderr.read()


def test_an_error_in_the_middle_ends_its_workers_too(tmp_path):
    """Also one that nobody expected: out of memory, say. What the stack trace holds on to must not hang."""
    path = write_run(tmp_path, stages=[STAGES[1]])
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys\n"
        "from handos_ros.learning.training import loop\n"
        "from handos_ros.cli.main import main\n"
        "def fails(self, batch, close):\n"
        "    raise MemoryError('none left')\n"
        "loop.StageStep.forward = fails\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["train", str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--workers", "1", "--quiet"]
    result = subprocess.run(
        [sys.executable, str(script), *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1 and "MemoryError: none left" in result.stderr


def test_two_processes_learn_together(tmp_path):
    """Each sees batches of its own, their gradients are averaged, and one of them writes."""
    path = write_run(tmp_path, stages=[STAGES[2]])
    script = tmp_path / "both.py"
    script.write_text(
        "import os, sys, torch\n"
        "from handos_ros.learning.training import loop\n"
        "from handos_ros.cli.main import main\n"
        "trainers, build = [], loop._Trainer.__init__\n"
        "def kept(self, *args):\n"
        "    build(self, *args)\n"
        "    trainers.append(self)\n"
        "loop._Trainer.__init__ = kept\n"
        "if __name__ == '__main__':\n"
        "    status = main(sys.argv[1:])\n"
        "    (trainer,) = trainers\n"
        "    parameters = {k: v for k, v in trainer.network.named_parameters()}\n"
        f"    torch.save(parameters, {str(tmp_path)!r} + '/rank' + os.environ['RANK'])\n"
        "    sys.exit(status)\n"
    )
    words = ["train", str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--workers", "0", "--quiet"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*torchrun, str(script), *words],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("finished: ") == 1
    ranks = [torch.load(tmp_path / f"rank{n}", weights_only=True) for n in (0, 1)]
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0])
    # Together they end elsewhere than one alone, which never saw the other's pictures.
    train(tiny_run(tmp_path, stages=[STAGES[2]]), load_hand_model(), Run(tmp_path / "b", progress=False))
    alone = load_checkpoint(tmp_path / "b" / "checkpoints")["network"]
    assert any(not torch.equal(ranks[0][key], alone[key]) for key in ranks[0])
