"""What pip and colcon install: whole, and enough by itself."""

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what belongs to the package, so that no build leaves anything in the repository."""
    copy = tmp_path_factory.mktemp("source") / "handos_ros"
    copy.mkdir()
    for name in ("handos_ros", "msg", "scripts", "launch", "config"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "CMakeLists.txt",
        "package.xml",
        "pyproject.toml",
        "setup.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", folder, source])
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """A virtual environment's Python: the wheel and what it asks for, nothing else.

    What it asks for is linked from this environment, so that the test needs no network.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    for name in requirements(re.findall(r"^Requires-Dist: (.+)$", text, re.M)):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    pip = [sys.executable, "-m", "pip", "--python", python]
    run([*pip, "install", "--no-deps", "--no-index", wheel], cwd=folder, env=without_ros())
    return python


def requirements(lines: list[str]) -> set[str]:
    """The names of what `lines` ask for without extras, and of all that those ask for in turn."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = list(lines)
    while todo:
        wanted = Requirement(todo.pop())
        if wanted.name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(wanted.name)
        todo += importlib.metadata.requires(wanted.name) or []
    return found


def run(command: list, **kwargs) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_this_package() -> dict[str, str]:
    """The environment with ROS, where there is one, but without any `handos_ros` or built messages of it."""
    environment = dict(os.environ)
    for name, mark in (("PYTHONPATH", "handos_ros"), ("AMENT_PREFIX_PATH", "share/handos_ros")):
        kept = [
            path
            for path in environment.get(name, "").split(os.pathsep)
            if path and not Path(path, mark).exists()
        ]
        environment[name] = os.pathsep.join(kept)
    environment["CMAKE_PREFIX_PATH"] = environment["AMENT_PREFIX_PATH"]
    environment.pop("COLCON_PREFIX_PATH", None)
    return environment


def without_ros() -> dict[str, str]:
    """The environment without any module but those of Python's own folders."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")
    }


def test_wheel_holds_data_and_message_texts_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"handos_ros/msg_definitions/{path.name}" for path in (ROOT / "msg").glob("*.msg")} <= names
    for pattern in ("*.npz", "*.yaml", "*.onnx", "*.safetensors", "py.typed"):
        data = {str(path.relative_to(ROOT)) for path in (ROOT / "handos_ros").rglob(pattern)}
        assert data <= names
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == {
        "handos_ros"
    }


def test_pip_gives_library_and_command_without_ros_and_torch(bare, tmp_path):
    code = """
import importlib.util as util, sys
assert util.find_spec("torch") is None and util.find_spec("rclpy") is None
import handos_ros
from handos_ros import Camera, Hands, Pipeline
from handos_ros.files import bags, rosmsg
from handos_ros.drawing.overlay import draw_hands
from handos_ros.hand_model.model import load_hand_model
assert len(Hands.empty(Camera.assumed(640, 480))) == 0
assert load_hand_model().faces.size and rosmsg.typestore()
assert handos_ros.__file__.startswith(sys.prefix), handos_ros.__file__
"""
    run([bare, "-c", code], cwd=tmp_path, env=without_ros())
    handos = bare.parent / "handos"
    assert "bag" in run([handos, "--help"], cwd=tmp_path, env=without_ros())
    assert run([handos, "--version"], cwd=tmp_path, env=without_ros()).split()[-1] == version()


def test_versions_agree():
    assert re.search(r"<version>(.+)</version>", (ROOT / "package.xml").read_text()).group(1) == version()


def version() -> str:
    return re.search(r'^__version__ = "(.+)"', (ROOT / "handos_ros" / "__init__.py").read_text(), re.M).group(
        1
    )


def test_importing_the_package_loads_nothing_heavy(bare, tmp_path):
    code = "import sys, handos_ros; print({'numpy', 'cv2', 'onnxruntime', 'yaml'} & sys.modules.keys())"
    assert run([bare, "-c", code], cwd=tmp_path, env=without_ros()).strip() == "set()"


@pytest.fixture(scope="module")
def workspace(source, tmp_path_factory) -> Path:
    """Where both ways to install share what was compiled."""
    if not shutil.which("colcon") or not without_this_package()["AMENT_PREFIX_PATH"]:
        pytest.skip("no colcon or no ROS 2 in this environment; make test brings both")
    return tmp_path_factory.mktemp("workspace")


_USE = """
import sys, handos_ros.hands, handos_ros.msg
from handos_ros.files import rosmsg
from handos_ros.msg import HandArray
from rclpy.serialization import deserialize_message, serialize_message
message = HandArray(width=640)
message.hands.append(handos_ros.msg.Hand(id=7))
assert deserialize_message(serialize_message(message), HandArray).hands[0].id == 7
assert all(path.startswith(sys.argv[1]) for path in handos_ros.__path__), handos_ros.__path__
assert rosmsg.typestore()
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", [[], ["--symlink-install"]], ids=["copied", "linked"])
def test_colcon_builds_messages_and_modules(options, source, workspace, request):
    prefix = workspace / request.node.callspec.id
    environment = without_this_package()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # The other way's leftovers: ament cannot turn this folder into a link.
    shutil.rmtree(workspace / "build" / "handos_ros" / "ament_cmake_python", ignore_errors=True)
    run(
        [
            "colcon", "--log-base", "log", "build", "--base-paths", source, *options,
            "--install-base", prefix,
            "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}", "-DBUILD_TESTING=OFF",
        ],
        cwd=workspace, env=environment,
    )  # fmt: skip
    setup, installed = prefix / "setup.bash", prefix / "handos_ros"
    run(["bash", "-c", f"source {setup} && python -c '{_USE}' {prefix}"], cwd=workspace, env=environment)
    for name in ("handos", "handos_node"):
        program = installed / "lib" / "handos_ros" / name
        assert program.stat().st_mode & stat.S_IXUSR and program.is_symlink() == bool(options)
    command = f"source {setup} && {installed}/lib/handos_ros/handos --help"
    assert "bag" in run(["bash", "-c", command], cwd=workspace, env=environment)
    share = installed / "share" / "handos_ros"
    assert (share / "msg" / "HandArray.msg").exists()
    for folder in ("launch", "config"):
        for file in (source / folder).rglob("*.*"):
            assert (share / file.relative_to(source)).exists()
