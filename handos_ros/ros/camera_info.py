"""The camera of the next picture: from a file, from camera_info, or assumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from handos_ros.errors import CameraError
from handos_ros.files.image_messages import camera_from_message
from handos_ros.hands import Camera


class CameraCache:
    """Keeps the latest camera, since camera_info repeats itself with each picture.

    Attributes:
        problem: why the latest camera_info, or the file, could not be used, empty where it could.

    Args:
        file: a calibration file that replaces camera_info, or None.
        rectified: see `camera_from_message`; it may change later.

    Raises:
        CameraError: if the file describes no camera.
    """

    def __init__(self, file: str | Path | None, *, rectified: bool = False) -> None:
        self.problem = ""
        self._file = file
        self._key: Any = None
        self._camera: Camera | None = None
        if file is not None:
            self._key, self._camera = rectified, Camera.from_yaml(file, rectified)

    def camera(self, info: Any, *, rectified: bool) -> Camera | None:
        """The camera, at the size that it was calibrated for; None where nothing is known.

        Args:
            info: the latest sensor_msgs/CameraInfo, or None.
            rectified: see `camera_from_message`.
        """
        if self._file is not None:
            file = self._file
            return self._kept(rectified, lambda: Camera.from_yaml(file, rectified))
        if info is None:
            return None
        roi = info.roi
        key = (
            rectified, info.width, info.height, info.distortion_model, tuple(info.d), info.k.tobytes(),
            info.p.tobytes(), info.binning_x, info.binning_y,
            roi.x_offset, roi.y_offset, roi.width, roi.height,
        )  # fmt: skip
        return self._kept(key, lambda: camera_from_message(info, rectified=rectified))

    def _kept(self, key: Any, make: Callable[[], Camera]) -> Camera | None:
        """The camera of this `key`, made where the latest was of another."""
        if key != self._key:
            self._key, self._camera, self.problem = key, None, ""
            try:
                self._camera = make()
            except CameraError as error:
                self.problem = str(error)
        return self._camera
