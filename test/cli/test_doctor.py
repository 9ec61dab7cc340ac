"""`handos doctor` as a user runs it, on machines in several states of health."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from handos_ros.cli import common, doctor, main
from handos_ros.cli.doctor import Grade


def test_a_healthy_machine(handos) -> None:
    result = handos("doctor")
    assert result.returncode == 0, result.stdout
    assert "  ok  numpy " in result.stdout and "hand model anny" in result.stdout
    assert "network stand-in on cpu by stand-in: " in result.stdout
    assert result.stdout.endswith("`handos image` can work\n")


def test_no_weights_is_what_it_takes_to_fail(handos) -> None:
    (handos.folder / "none").mkdir()
    command = [
        sys.executable,
        "-m",
        "handos_ros.cli.main",
        "doctor",
        "--weights",
        str(handos.folder / "none"),
    ]
    result = subprocess.run(command, cwd=common.__file__.rsplit("/", 3)[0], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"BAD network: {handos.folder / 'none'}: no weights" in result.stdout
    assert "\n1 to mend" in result.stdout


def test_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *rest: object):
        assert name.split(".")[0] != "torch"
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert {finding.grade for finding in doctor._packages()} <= {Grade.GOOD, Grade.MISSING}


@pytest.mark.parametrize(
    ("module", "reason", "advice"),
    [
        ("onnxruntime", "No module named 'onnxruntime'", "pip install onnxruntime"),
        ("cv2", "libGL.so.1: cannot open shared object file", "pip install opencv-python-headless"),
    ],
)
def test_a_package_that_cannot_be_imported(
    module: str, reason: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(name: str):
        if name == module:
            raise ImportError(reason)
        return sys

    monkeypatch.setattr(doctor, "import_module", import_module)
    (bad,) = [finding for finding in doctor._packages() if finding.grade is Grade.BAD]
    assert reason in bad.what and bad.advice.endswith(advice)


def test_two_opencvs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "4.10.0")
    (twice,) = [f for f in doctor._packages() if "opencv-python 4.10.0, " in f.what + ", "]
    assert twice.grade is Grade.MISSING and "overwrite each other" in twice.advice


def _versions(**versions: str) -> Callable[[str], str | None]:
    return versions.get


@pytest.mark.parametrize(
    ("gpu", "versions", "words"),
    [
        (False, {}, "driver shows none"),
        (True, {}, "pip install 'handos_ros[torch]'"),
        (True, {"torch": "2.13.0+cpu"}, "made without CUDA"),
        (True, {"torch": "2.13.0"}, "--device cuda"),
    ],
)
def test_why_the_gpu_is_not_used(
    gpu: bool, versions: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse

    monkeypatch.setattr(doctor, "_version", _versions(**versions))
    finding = doctor._why_no_gpu(argparse.Namespace(device="auto"), gpu)
    assert words in f"{finding.what} {finding.advice}"
    assert finding.grade is (Grade.MISSING if gpu else Grade.GOOD)


@pytest.mark.parametrize(
    ("steps", "last", "words"),
    [
        ({}, "ended with status -11", ["rclpy: ended with status -11", "only the node needs ROS 2"]),
        (
            {
                "rclpy": {"found": "x"},
                "messages": {"error": "ModuleNotFoundError: No module named 'std_srvs'"},
            },
            "",
            ["std_srvs", "common-interfaces"],
        ),
        (
            {
                "rclpy": {"found": "x"},
                "messages": {"found": "8"},
                "own_messages": {"error": "no handos_ros.msg"},
            },
            "",
            ["no handos_ros.msg", "colcon"],
        ),
        ({}, "ended with status 102: Expected RMW implementation", ["without RMW_IMPLEMENTATION"]),
    ],
)
def test_what_is_wrong_with_ros(
    steps: dict, last: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda: (steps, last))
    monkeypatch.setattr(doctor, "glob", lambda pattern: [])
    findings = list(doctor._ros())
    assert findings[-1].grade is Grade.MISSING
    assert all(word in f"{findings[-1].what} {findings[-1].advice}" for word in words)


def test_ros_that_is_not_sourced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda: ({}, "No module named 'rclpy'"))
    paths = {"/opt/ros/*/setup.bash": ["/opt/ros/jazzy/setup.bash"]}
    monkeypatch.setattr(doctor, "glob", lambda pattern: paths.get(pattern, []))
    assert list(doctor._ros())[-1].advice == "source /opt/ros/jazzy/setup.bash"
    paths["/opt/ros/*/lib/python3*/site-packages/rclpy"] = ["/opt/ros/x/lib/python3.99/site-packages/rclpy"]
    assert "another Python" in list(doctor._ros())[-1].advice


def test_the_probe_in_its_own_process() -> None:
    pytest.importorskip("rclpy", reason="needs a ROS 2")
    steps, _ = doctor._probe()
    assert "found" in steps["rclpy"]
    assert all(set(finding) in ({"step", "found"}, {"step", "error"}) for finding in steps.values())


def test_every_thing_that_is_not_well_has_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda: ({}, "No module named 'rclpy'"))
    main.main(
        ["doctor", "--weights", "/nowhere", "--camera", "/nowhere.yaml", "--hand-model", "/nowhere.npz"]
    )
    lines = capsys.readouterr().out.splitlines()
    bad = [i for i, line in enumerate(lines) if line.startswith("  BAD ")]
    assert len(bad) == 3
    assert all(lines[i + 1].startswith("      -> ") for i in bad)
