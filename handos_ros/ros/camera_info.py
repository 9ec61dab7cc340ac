"""The camera of the next picture: from a file, from camera_info, or assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handos_ros.errors import CameraError
from handos_ros.files.image_messages import camera_from_message
from handos_ros.hands import Camera


class CameraCache:
    """Keeps the latest camera, since camera_info repeats itself with each picture.

    Attributes:
        problem: why the latest camera_info could not be used, empty where it could.

    Args:
        file: a calibration file that replaces camera_info, or None.

    Raises:
        CameraError: if the file describes no camera.
    """

    def __init__(self, file: str | Path | None) -> None:
        self.problem = ""
        self._fixed = None if file is None else Camera.from_yaml(file)
        self._key: Any = None
        self._camera: Camera | None = None

    def camera(self, info: Any, *, rectified: bool) -> Camera | None:
        """The camera, at the size that it was calibrated for; None where nothing is known.

        Args:
            info: the latest sensor_msgs/CameraInfo, or None.
            rectified: see `camera_from_message`.
        """
        if self._fixed is not None or info is None:
            return self._fixed
        roi = info.roi
        key = (
            rectified, info.width, info.height, info.distortion_model, tuple(info.d), info.k.tobytes(),
            info.p.tobytes(), info.binning_x, info.binning_y,
            roi.x_offset, roi.y_offset, roi.width, roi.height,
        )  # fmt: skip
        if key != self._key:
            self._key, self._camera, self.problem = key, None, ""
            try:
                self._camera = camera_from_message(info, rectified=rectified)
            except CameraError as error:
                self.problem = str(error)
        return self._camera
