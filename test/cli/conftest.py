"""`handos` as a user runs it: a process of its own, with the stand-in network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_handos.py")


class Handos:
    """Starts `handos` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}

    def __call__(self, *words: object, delay: float = 0, hands: int | None = None, **kwargs):
        """Run to the end."""
        result = subprocess.run(
            self.command(*words, delay=delay, hands=hands),
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, **kwargs,
        )  # fmt: skip
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def start(self, *words: object, delay: float = 0, hands: int | None = None) -> subprocess.Popen:
        """Start, for signals."""
        return subprocess.Popen(
            self.command(*words, delay=delay, hands=hands),
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def command(*words: object, delay: float, hands: int | None) -> list[str]:
        options = ["--delay", str(delay), *(["--hands", str(hands)] if hands is not None else [])]
        return [sys.executable, str(RUNNER), *options, "--", *map(str, words)]


@pytest.fixture
def handos(tmp_path: Path) -> Handos:
    return Handos(tmp_path)


@pytest.fixture(autouse=True)
def _not_under_nohup() -> Iterator[None]:
    """Programs begin with a terminal's signals, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
