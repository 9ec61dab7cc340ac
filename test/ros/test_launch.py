"""The launch file and the file of parameters."""

import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs a ROS 2")

ROOT = Path(__file__).resolve().parents[2]


def test_the_parameter_file_holds_every_parameter_at_its_default():
    from handos_ros.ros.parameters import Settings

    content = yaml.safe_load((ROOT / "config" / "handos.yaml").read_text())
    assert content["/**"]["ros__parameters"] == asdict(Settings())


def test_paths_may_begin_at_home(monkeypatch):
    from handos_ros.ros.parameters import Settings, check

    monkeypatch.setenv("HOME", "/home/someone")
    settings = check(Settings(weights="~/weights", camera_file="~/{camera}.yaml", hand_model="anny"))
    assert (settings.weights, settings.camera_file, settings.hand_model) == (
        "/home/someone/weights", "/home/someone/{camera}.yaml", "anny",
    )  # fmt: skip


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


class _Kept(SimpleNamespace):
    """Stands for a class of ROS's launch system: keeps what it is made of."""

    def __init__(self, *args, **kwargs):
        super().__init__(args=args, **kwargs)

    def perform(self, context):
        """As a LaunchConfiguration does."""
        return context.launch_configurations[self.args[0]]


def _launched(monkeypatch, **configurations):
    """What the launch file makes of these, without a launch system."""
    kept = (
        ("launch", ("LaunchContext", "LaunchDescription")),
        ("launch.actions", ("DeclareLaunchArgument", "OpaqueFunction")),
        ("launch.substitutions", ("LaunchConfiguration",)),
        ("launch_ros.actions", ("Node",)),
    )
    monkeypatch.setitem(sys.modules, "launch_ros", ModuleType("launch_ros"))
    for module, names in kept:
        stand_in = ModuleType(module)
        vars(stand_in).update(dict.fromkeys(names, _Kept))
        monkeypatch.setitem(sys.modules, module, stand_in)
    content = runpy.run_path(str(ROOT / "launch" / "handos.launch.py"))
    *arguments, function = content["generate_launch_description"]().args[0]
    defaults = {argument.args[0]: argument.default_value for argument in arguments}
    return function.function(SimpleNamespace(launch_configurations={**defaults, **configurations}))


@pytest.mark.parametrize("level", ["info", "error"])
@pytest.mark.parametrize(
    "namespace, outer, full",
    [
        ("", "", ""),
        ("arm", "", "/arm"),
        ("left/arm", "/robot", "/robot/left/arm"),
        ("/arm", "/robot", "/arm"),
    ],
)
def test_the_log_level_is_the_nodes_in_whatever_namespace(rig, monkeypatch, namespace, outer, full, level):
    pytest.importorskip("handos_ros.msg", reason="needs this package built with colcon and sourced")
    (node,) = _launched(monkeypatch, namespace=namespace, log_level=level, ros_namespace=outer)
    rig.start(ros=(*node.arguments, "-r", f"__ns:={full or '/'}"), wait=False)
    assert rig.spin_until(lambda: rig.state(f"{full}/handos") == 3, 20), rig.log  # active
    rig.spin(0.2)
    assert ("runs on" in rig.log) == (level == "info"), rig.log


def test_what_is_left_empty_is_as_the_file_of_parameters_has_it(monkeypatch):
    (node,) = _launched(monkeypatch)
    assert node.parameters == [str(ROOT / "config" / "handos.yaml")]
    (node,) = _launched(monkeypatch, use_sim_time="true", cameras="left, right")
    assert node.parameters[1] == {"use_sim_time": True, "cameras": ["left", "right"]}


@pytest.mark.parametrize(
    "namespace, outer, cameras, full",
    [
        ("", "", "", "/handos"),
        ("arm", "/robot", "", "/robot/arm/handos"),
        ("/arm", "/robot", "left,right", "/arm/handos/left"),
        ("", "", "/head/left", "/handos/head/left"),
    ],
)
def test_rviz_listens_to_the_node_in_whatever_namespace(monkeypatch, namespace, outer, cameras, full):
    asked = {"namespace": namespace, "ros_namespace": outer, "cameras": cameras, "rviz": "true"}
    _, rviz = _launched(monkeypatch, **asked)
    assert rviz.remappings == [(f"/handos/{name}", f"{full}/{name}") for name in ("markers", "overlay")]


def test_the_rviz_file_shows_what_the_node_publishes():
    content = yaml.safe_load((ROOT / "config" / "handos.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/handos/markers", "/handos/overlay"}
    from handos_ros.drawing.markers import NAMESPACES

    (markers,) = (display for display in displays if display["Name"] == "Hands")
    assert set(markers["Namespaces"]) == set(NAMESPACES)
