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
        doubt: why its distortion was left out, empty where it was not.

    Args:
        file: a calibration file that replaces camera_info, or None.
        rectified: see `camera_from_message`; it may change later.

    Raises:
        CameraError: if the file describes no camera.
    """

    def __init__(self, file: str | Path | None, *, rectified: bool = False) -> None:
        self.problem = self.doubt = ""
        self._file = file
        self._key: Any = None
        self._camera: Camera | None = None
        if file is not None:
            self._key, self._camera = rectified, Camera.from_yaml(file, rectified)

    def camera(self, info: Any, width: int, height: int, *, rectified: bool) -> Camera | None:
        """The camera of a picture of `width` x `height` px; None where nothing is known of it.

        That is so of a camera_info for pictures of another shape. A file is someone's word, so its camera
        is given as it is, for the picture to be refused.

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
            rectified, width, height, info.width, info.height, info.distortion_model, tuple(info.d),
            info.k.tobytes(), info.p.tobytes(), info.binning_x, info.binning_y,
            roi.x_offset, roi.y_offset, roi.width, roi.height,
        )  # fmt: skip

        def make() -> Camera:
            camera = camera_from_message(info, rectified=rectified, doubt=self._doubted)
            return camera.resized(width, height)

        return self._kept(key, make)

    def _doubted(self, reason: str) -> None:
        self.doubt = reason

    def _kept(self, key: Any, make: Callable[[], Camera]) -> Camera | None:
        """The camera of this `key`, made where the latest was of another."""
        if key != self._key:
            self._key, self._camera = key, None
            self.problem = self.doubt = ""
            try:
                self._camera = make()
            except CameraError as error:
                self.problem = str(error)
        return self._camera
