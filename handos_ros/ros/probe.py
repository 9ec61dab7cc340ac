"""What `handos doctor` asks of ROS 2, in a process of its own, since a broken one may crash or hang.

Prints one line of json per step that went well, and one for the step that did not, which is the last.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

MESSAGE_PACKAGES = (
    "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "sensor_msgs", "std_msgs",
    "std_srvs", "visualization_msgs",
)  # fmt: skip
"""Whose messages and services the node speaks."""


def rclpy_found() -> str:
    """Step `rclpy`: it can be imported."""
    return str(import_module("rclpy").__file__)


def messages_found() -> str:
    """Step `messages`: ROS's own."""
    for package in MESSAGE_PACKAGES:
        import_module(f"{package}.srv" if package == "std_srvs" else f"{package}.msg")
    return f"{len(MESSAGE_PACKAGES)} packages"


def own_messages_found() -> str:
    """Step `own_messages`: those of this package, with the libraries that put them on the wire."""
    module = import_module("handos_ros.msg")
    module.HandArray.__class__.__import_type_support__()
    return str(module.__file__)


def middleware_works() -> str:
    """Step `middleware`: a node can be made."""
    rclpy = import_module("rclpy")
    rclpy.init(args=[])
    rclpy.create_node("handos_doctor", enable_rosout=False).destroy_node()
    name = rclpy.utilities.get_rmw_implementation_identifier()
    rclpy.shutdown()
    return str(name)


STEPS = {
    "rclpy": rclpy_found,
    "messages": messages_found,
    "own_messages": own_messages_found,
    "middleware": middleware_works,
}
"""In the order in which they are tried; each needs those before it."""


def main() -> int:
    """Take the steps until one fails."""
    for step, look in STEPS.items():
        try:
            print(json.dumps({"step": step, "found": look()}), flush=True)
        except Exception as error:  # whatever a library says is the finding
            print(json.dumps({"step": step, "error": f"{type(error).__name__}: {error}"}), flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
