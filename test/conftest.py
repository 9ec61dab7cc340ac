"""For every test: where shared data lies, and threads that do not fight over the cores."""

import os
from pathlib import Path

import pytest

# Read by the numerical libraries when they are first imported, so set before any test module is.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and bags, which is not part of the project; skips without it."""
    folder = Path(os.environ.get("HANDOS_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}; set HANDOS_SHARED to the folder that holds data/")
    return folder
