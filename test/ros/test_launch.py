"""The launch file and the file of parameters."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs a ROS 2")

ROOT = Path(__file__).resolve().parents[2]


def test_the_parameter_file_holds_every_parameter_at_its_default():
    from handos_ros.ros.parameters import Settings

    content = yaml.safe_load((ROOT / "config" / "handos.yaml").read_text())
    assert content["/**"]["ros__parameters"] == asdict(Settings())


def test_the_node_takes_the_parameter_file(rig):
    pytest.importorskip("handos_ros.msg", reason="needs this package built with colcon and sourced")
    rig.start("--hands", "1", ros=("--params-file", str(ROOT / "config" / "handos.yaml")))
    assert "Traceback" not in rig.log


def test_the_launch_file(tmp_path):
    pytest.importorskip("launch_ros", reason="needs ROS's launch system, which PyPI does not have")
    pytest.importorskip("launch_testing", reason="needs launch_testing, which PyPI does not have")
    pytest.importorskip("handos_ros.msg", reason="needs this package built with colcon and sourced")
    from ros.rig import environment

    file = Path(__file__).with_name("launched.py")
    command = [sys.executable, "-m", "launch_testing.launch_test", str(file)]
    env = {**environment(), "ROS_LOG_DIR": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_rviz_file_shows_what_the_node_publishes():
    content = yaml.safe_load((ROOT / "config" / "handos.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/handos/markers", "/handos/overlay"}
    from handos_ros.drawing.markers import NAMESPACES

    (markers,) = (display for display in displays if display["Name"] == "Hands")
    assert set(markers["Namespaces"]) == set(NAMESPACES)
