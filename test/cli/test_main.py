"""`handos` itself: help, words that make no command, errors without tracebacks, a quick start."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
from tiny_graphs import write_graphs

from handos_ros import extras
from handos_ros.cli import common
from handos_ros.cli import main as main_module
from handos_ros.cli.main import COMMANDS, main
from handos_ros.errors import DataError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize(
    "words", [[], ["imagine"], ["image"], ["image", "a.png", "-o", "x", "--min-score", "7"]]
)
def test_words_that_make_no_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2


@pytest.mark.parametrize("command", ["image", "video", "doctor"])
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "--min-score" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["--help", "image", "video", "doctor"])
def test_nothing_heavy_is_imported_to_show_help(command: str) -> None:
    words = [command] if command == "--help" else [command, "--help"]
    code = (
        "import sys; from handos_ros.cli.main import main\n"
        f"try: main({words})\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'cv2', 'torch', 'onnxruntime', 'tqdm', 'yaml'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30
    )
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


class _Module:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: object) -> None:
        pass

    def run(self, args: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DataError("clip.mp4: no such file"), 1, "handos: error: clip.mp4: no such file"),
        (ModuleNotFoundError("no torch", name="torch"), 1, "pip install 'handos_ros[torch]'"),
        (ModuleNotFoundError("no pandas", name="pandas.core"), 1, "pip install 'handos_ros[table]'"),
        (ModuleNotFoundError("no rosbags", name="rosbags.serde"), 1, "pip install 'rosbags'"),
        (ModuleNotFoundError("no board", name="tensorboard"), 1, "pip install 'handos_ros[train]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "a.yaml"), 1, "handos: error: a.yaml: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "handos: error: No space left on device\n"),
        (OSError("no such device"), 1, "handos: error: no such device\n"),
        (TimeoutError(), 1, "handos: error: TimeoutError\n"),
    ],
)
def test_errors_are_messages(
    error: BaseException,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(main_module, "import_module", lambda name: _Module(error))
    assert main(["video"]) == status
    assert words in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "import_module", lambda name: _Module(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["video"])


def test_a_reader_that_has_seen_enough(handos) -> None:
    result = subprocess.run(
        f"{sys.executable} {handos.command('doctor', delay=0, hands=None)[1]} -- doctor | head -n 1",
        shell=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.stdout.startswith("handos_ros ")
    assert "Traceback" not in result.stderr and "BrokenPipe" not in result.stderr


def test_every_command_has_its_interface() -> None:
    for command in ("image", "video", "doctor"):
        module = import_module(f"handos_ros.cli.{command}")
        assert callable(module.add_arguments) and callable(module.run) and module.__doc__


def test_a_network_without_weights_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "none").mkdir()
    words = [
        "image",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "out"),
        "--weights",
        str(tmp_path / "none"),
    ]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-m", "handos_ros.cli.main", *words],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("handos: error: ") and str(tmp_path / "none") in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["image", "a.png", "-o", "{long}"],
        ["image", "a.png", "-o", "out", "--weights", "{long}"],
        ["image", "a.png", "-o", "out", "--hand-model", "{long}"],
        ["image", "a.png", "-o", "out", "--camera", "{long}"],
        ["video", "a.avi", "-o", "{long}"],
        ["video", "a.avi", "-o", "out", "--weights", "{long}/x.onnx"],
    ],
)
def test_a_path_that_the_system_does_not_let_us_look_at(tmp_path: Path, words: list[str]) -> None:
    """Asking whether it exists fails, as it does in a folder of other users'; but root may see those."""
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    clip = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    clip.write(np.zeros((48, 64, 3), np.uint8))
    clip.release()
    long = "x" * 300
    result = subprocess.run(
        [sys.executable, "-m", "handos_ros.cli.main", *(word.format(long=long) for word in words)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("handos: error: ") and result.stderr.count("\n") == 1, result.stderr
    assert long in result.stderr and "File name too long" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "a.png"]


@pytest.mark.parametrize("extra", ["torch", "train", "table", "ray"])
def test_where_colcon_built_the_package_pip_gets_its_packages_by_name(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip finds `handos_ros[torch]` only where it has installed handos_ros itself."""
    brought = {re.split(r"[=<>]", need)[0] for need in _needs(extra)}

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", version)
    assert set(extras.how_to_install(extra).removeprefix("pip install ").split()) == brought


def _needs(extra: str) -> list[str]:
    """What pyproject.toml has for an extra, those of others in it included."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    content = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    found = []
    for need in content["project"]["optional-dependencies"][extra]:
        inner = re.fullmatch(r"handos_ros\[(.+)\]", need)
        found += _needs(inner[1]) if inner else [need]
    return found


def test_the_second_look_can_be_left_out(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    common.add_model_arguments(parser)
    words = ["--weights", str(write_graphs(tmp_path)), "--device", "cpu"]
    for more, looks in (([], True), (["--no-second-look"], False)):
        pipeline = common.load_pipeline(parser.parse_args([*words, *more]), threads=1)
        assert pipeline.second_look is looks
        pipeline.close()
