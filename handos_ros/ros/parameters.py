"""The node's parameters: what they mean, their ranges, and when they may change."""

# ruff: noqa: RUF009  (_parameter is dataclasses.field, with names for its metadata)
from __future__ import annotations

import os
from dataclasses import Field, dataclass, field, fields, replace
from importlib.util import find_spec
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from handos_ros.errors import HandosError
from handos_ros.inference.loading import LARGEST_LONG_SIDE
from handos_ros.video.tracker import score_to_stay

_PATHS = ("weights", "hand_model", "camera_file")
"""A shell does not replace the ~ in `weights:=~/weights`."""


def _parameter(
    default: Any, description: str, *, bounds: tuple[float, float] | None = None, live: bool = False,
    choices: tuple[str, ...] = (), needs: str = "",
) -> Any:  # fmt: skip
    """A field of `Settings` that is a parameter.

    Args:
        bounds: least and greatest value.
        live: takes effect at once; others are read when the node is configured.
        choices: the only values.
        needs: a Python module without which it cannot be switched on.
    """
    metadata = {
        "description": description, "bounds": bounds, "live": live, "choices": choices, "needs": needs,
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The values of all parameters at one time; each field is a parameter of the same name."""

    autostart: bool = _parameter(True, "Configure and activate without being told to, when the node starts.")
    cameras: list[str] = _parameter(
        [""],
        "Namespaces of the cameras that the one network serves in turn: for each, <camera>/image_raw and "
        "<camera>/camera_info are read and ~/<camera>/hands and so on are published. A name that begins with "
        "a slash is outside the node's namespace. A single empty name stands for image_raw itself.",
    )
    image_transport: str = _parameter(
        "raw",
        "raw reads image_raw (sensor_msgs/Image), compressed reads image_raw/compressed "
        "(sensor_msgs/CompressedImage).",
        choices=("raw", "compressed"),
    )
    model: str = _parameter(
        "",
        "Name of the network, handos_lite or handos; empty for the one that the weights are of, handos_lite "
        "without weights.",
    )
    weights: str = _parameter("", "Folder or file of weights; empty for those that came with the package.")
    hand_model: str = _parameter(
        "", "anny, or the path of a hand model (npz, or your own MANO file); empty for the network's own."
    )
    device: str = _parameter("auto", "Where the network runs.", choices=("auto", "cpu", "cuda"))
    backend: str = _parameter("auto", "What runs the network.", choices=("auto", "onnxruntime", "torch"))
    long_side: int = _parameter(
        0,
        "Longer side in px of the picture as the network sees it, a multiple of 32: more for small hands, "
        "less for speed. 0 is the network's own.",
        bounds=(0, LARGEST_LONG_SIDE),
    )
    second_look: bool = _parameter(
        True,
        "Look once more at hands that are small or large in the picture, at the size that the network sees "
        "best: more exact, for the time of up to one more picture for every four of them.",
        live=True,
    )
    camera_file: str = _parameter(
        "",
        "Calibration file (ROS camera_info yaml) that replaces camera_info. {camera} stands for the "
        "camera's namespace.",
    )
    rectified: bool = _parameter(
        False,
        "The pictures are rectified (image_rect): use P of camera_info, or projection_matrix of camera_file, "
        "and no distortion.",
        live=True,
    )
    min_score: float = _parameter(
        0.5,
        "Hands that score less are left out; but with tracking, see keep_score.",
        bounds=(0.0, 1.0),
        live=True,
    )
    keep_score: float = _parameter(
        0.0,
        "With tracking, a hand that is there already stays as long as it scores this. 0.0 is half of "
        "min_score; more than min_score does not count.",
        bounds=(0.0, 1.0),
        live=True,
    )
    max_hands: int = _parameter(10, "Most hands in a picture, the best first.", bounds=(1, 100), live=True)
    max_age: float = _parameter(
        0.5,
        "Seconds. Pictures older than this when their turn comes are dropped; 0 takes any. Has no effect "
        "under use_sim_time or on pictures without a stamp.",
        bounds=(0.0, 3600.0),
        live=True,
    )
    tracking: bool = _parameter(True, "Give hands an id that stays theirs over time.", live=True)
    smoothing: float = _parameter(
        0.5,
        "How strongly tracked hands are smoothed: 0 not at all, 1 most, with the most lag.",
        bounds=(0.0, 1.0),
        live=True,
    )
    publish_mesh: bool = _parameter(
        True, "Send each hand's vertices, in ~/hands as well as in markers and overlay.", live=True
    )
    publish_markers: bool = _parameter(True, "Send ~/markers while someone listens.", live=True)
    publish_overlay: bool = _parameter(
        True, "Send ~/overlay, the picture with the hands drawn in, while someone listens.", live=True
    )
    publish_detections: bool = _parameter(
        False,
        "Send ~/detections (vision_msgs/Detection2DArray), the boxes alone.",
        needs="vision_msgs",
    )
    publish_tf: bool = _parameter(
        False,
        "Broadcast the wrist of the best left and right hand as [<namespace>/]<node>/[<camera>/]left_wrist "
        "and right_wrist, children of the camera's frame.",
        needs="tf2_ros",
    )

    @property
    def network_score(self) -> float:
        """What a hand must score for the network to look at it at all."""
        return score_to_stay(self.min_score, self.keep_score or None) if self.tracking else self.min_score


def declare(node: Node) -> Settings:
    """Declare all parameters and read what was given.

    Raises:
        HandosError: naming a parameter whose value is of the wrong type, out of range or unknown.
    """
    for spec in fields(Settings):
        default = getattr(Settings(), spec.name)
        try:
            node.declare_parameter(spec.name, default, _descriptor(default, spec.metadata))
        except Exception as error:  # rclpy's own two or three types differ between distributions
            raise HandosError(f"parameter {spec.name}: {error}") from None
    values: dict[str, Any] = {}
    for spec in fields(Settings):
        value = node.get_parameter(spec.name).value
        values[spec.name] = list(value or []) if spec.name == "cameras" else value
    return check(Settings(**values))


def changed(settings: Settings, parameters: list[Parameter], *, configured: bool) -> Settings:
    """The settings after `parameters` were set.

    Raises:
        HandosError: if one of them may not change now, or not to this value.
    """
    names = {spec.name: spec for spec in fields(Settings)}
    values = {p.name: p.value for p in parameters if p.name in names}
    for name in values:
        if configured and not names[name].metadata["live"]:
            raise HandosError(f"{name} is read when the node is configured: deactivate and clean it up first")
    return check(replace(settings, **values))


def check(settings: Settings) -> Settings:
    """The same settings, if they can be met.

    Raises:
        HandosError: naming the parameter and what it may be.
    """
    paths = {name: os.path.expanduser(getattr(settings, name)) for name in _PATHS}
    settings = replace(settings, **paths)
    numbers: dict[str, Any] = {
        spec.name: _number(spec, getattr(settings, spec.name)) for spec in fields(Settings) if _is_real(spec)
    }
    settings = replace(settings, **numbers)
    for spec in fields(Settings):
        value, choices = getattr(settings, spec.name), spec.metadata["choices"]
        if choices and value not in choices:
            raise HandosError(f"parameter {spec.name} must be {' or '.join(choices)}, not {value!r}")
        module = spec.metadata["needs"]
        if module and value and find_spec(module) is None:
            raise HandosError(
                f"parameter {spec.name} needs the ROS package {module}, which is not here: "
                f"sudo apt install ros-$ROS_DISTRO-{module.replace('_', '-')}"
            )
    # A name with a slash before it is in no other namespace; what is published is in the node's in any case.
    cameras = [name.rstrip("/") for name in settings.cameras]
    if not cameras or len({name.lstrip("/") for name in cameras}) != len(cameras):
        raise HandosError(f"parameter cameras must hold different names, at least one; got {cameras}")
    for name in filter(None, cameras):
        try:
            validate_topic_name(f"{name}/image_raw")
        except InvalidTopicNameException as error:
            raise HandosError(f"parameter cameras: {name!r} is no namespace: {error}") from None
    if "" in cameras and len(cameras) > 1:
        raise HandosError("parameter cameras: an empty name only stands alone")
    return replace(settings, cameras=cameras)


def _is_real(spec: Field) -> bool:
    return isinstance(spec.default, float)


def _number(spec: Field, value: Any) -> float:
    """A real parameter's value, which may be given as a whole number: `max_age:=0` is what people write."""
    low, high = spec.metadata["bounds"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise HandosError(
            f"parameter {spec.name} must be a number (DOUBLE) from {low:g} to {high:g}, not {value!r}"
        )
    return float(value)


def _descriptor(default: Any, metadata: Any) -> ParameterDescriptor:
    text = metadata["description"]
    if not metadata["live"]:
        text += " Read when the node is configured."
    # Of a real parameter rclpy would refuse whole numbers: `check` looks at its type instead.
    descriptor = ParameterDescriptor(description=text, dynamic_typing=isinstance(default, float))
    if metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(metadata["choices"])
    if metadata["bounds"]:
        low, high = metadata["bounds"]
        if isinstance(low, int):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=int(high), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=float(high))]
    return descriptor
