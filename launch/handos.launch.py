"""Starts the node, and with it, where asked for, a camera's driver and RViz.

ros2 launch handos_ros handos.launch.py image:=/camera/color/image_raw rviz:=true rviz_frame:=camera_optical
ros2 launch handos_ros handos.launch.py driver:=usb_cam/usb_cam_node_exe rviz:=true
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

_SHARE = Path(__file__).resolve().parents[1]

# Name, default, description. What is left empty is as the file of parameters has it.
_ARGUMENTS = (
    ("image", "image_raw", "topic of the pictures, without the /compressed of a compressed one"),
    ("camera_info", "", "topic of the intrinsics; empty for the one beside the pictures"),
    ("transport", "", "raw or compressed"),
    ("cameras", "", "several cameras' namespaces, separated by commas, instead of image and camera_info"),
    ("model", "", "handos_lite or handos"),
    ("weights", "", "folder or file of weights"),
    ("device", "", "auto, cpu or cuda"),
    ("camera_file", "", "calibration file that replaces camera_info"),
    ("rectified", "", "true for rectified pictures (image_rect): P of camera_info or of camera_file"),
    ("params", str(_SHARE / "config" / "handos.yaml"), "file of parameters"),
    ("namespace", "", "of the node, and of the driver"),
    ("use_sim_time", "", "true to take the time from /clock"),
    ("autostart", "", "false to configure and activate the node yourself"),
    ("log_level", "info", "debug, info, warn or error"),
    ("driver", "", "package/executable of a camera driver to start, such as v4l2_camera/v4l2_camera_node"),
    ("driver_params", "", "file of parameters of the driver"),
    ("rviz", "false", "show the hands in RViz, of several cameras those of the first"),
    ("rviz_frame", "camera", "RViz's fixed frame: the frame_id of the pictures, or one that tf joins to it"),
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in _ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[Node]:
    values = {name: LaunchConfiguration(name).perform(context).strip() for name, _, _ in _ARGUMENTS}
    # The namespace that a launch file around this one pushed.
    outer = context.launch_configurations.get("ros_namespace", "")
    namespace = _full(values["namespace"], outer)
    nodes = [_handos(values, namespace)]
    if values["driver"]:
        nodes.append(_driver(values))
    if _is_true("rviz", values):
        nodes.append(_rviz(values, namespace))
    return nodes


def _full(namespace: str, outer: str) -> str:
    """The nodes' namespace in full: with a slash before each of its names, empty for the root."""
    names = namespace if namespace.startswith("/") else f"{outer}/{namespace}"
    return "".join(f"/{name}" for name in names.split("/") if name)


def _handos(values: dict[str, str], namespace: str) -> Node:
    """The node; `namespace` is its own in full."""
    parameters: dict[str, object] = {}
    for argument, parameter in (
        ("transport", "image_transport"),
        ("model", "model"),
        ("weights", "weights"),
        ("device", "device"),
        ("camera_file", "camera_file"),
    ):
        if values[argument]:
            parameters[parameter] = values[argument]
    if values["cameras"]:
        parameters["cameras"] = _cameras(values)
    for switch in ("autostart", "rectified", "use_sim_time"):
        if values[switch]:
            parameters[switch] = _is_true(switch, values)
    return Node(
        package="handos_ros",
        executable="handos_node",
        name="handos",
        namespace=values["namespace"],
        parameters=[values["params"], *filter(None, [parameters])],
        remappings=_topics(values),
        arguments=["--ros-args", "--log-level", f"{_logger(namespace)}:={values['log_level']}"],
        output="screen",
    )


def _logger(namespace: str) -> str:
    """The name of the node's logger: the node's own in full, with dots."""
    return f"{namespace}/handos".removeprefix("/").replace("/", ".")


def _cameras(values: dict[str, str]) -> list[str]:
    return [name.strip() for name in values["cameras"].split(",")]


def _driver(values: dict[str, str]) -> Node:
    package, slash, executable = values["driver"].partition("/")
    if not slash or not executable:
        raise RuntimeError(f"driver must be package/executable, not {values['driver']!r}")
    return Node(
        package=package,
        executable=executable,
        namespace=values["namespace"],
        parameters=[values["driver_params"]] if values["driver_params"] else [],
        remappings=_topics(values),
        output="screen",
    )


def _rviz(values: dict[str, str], namespace: str) -> Node:
    """RViz; `namespace` is the node's in full."""
    # One camera's hands: RViz's file has one display for them, which others can be added to.
    camera = _cameras(values)[0].strip("/")
    published = "/".join([namespace, "handos", *filter(None, [camera])])
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(_SHARE / "config" / "handos.rviz"), "-f", values["rviz_frame"]],
        remappings=[(f"/handos/{name}", f"{published}/{name}") for name in ("markers", "overlay")],
        parameters=[{"use_sim_time": _is_true("use_sim_time", values)}] if values["use_sim_time"] else [],
        output="log",
    )


def _topics(values: dict[str, str]) -> list[tuple[str, str]]:
    """Remaps of the pictures and the intrinsics; a camera publishes them side by side."""
    image = values["image"]
    info = values["camera_info"] or "/".join([*image.split("/")[:-1], "camera_info"])
    return [("image_raw", image), ("camera_info", info)]


def _is_true(name: str, values: dict[str, str]) -> bool:
    value = values[name].lower()
    if value not in ("true", "false", "1", "0"):
        raise RuntimeError(f"{name} must be true or false, not {values[name]!r}")
    return value in ("true", "1")
