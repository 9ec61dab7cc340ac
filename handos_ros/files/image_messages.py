"""Pictures and cameras out of sensor_msgs: Image, CompressedImage and CameraInfo, of any library.

Messages are read by their field names alone, so rclpy's and rosbags' objects both serve, and the node
and the bags see the same picture. cv_bridge is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import CameraError, DistortionError, PictureError
from handos_ros.files.jpeg import is_cut_off_jpeg
from handos_ros.hands import Camera, KSource, bends


class _Layout(NamedTuple):
    channels: int
    """Samples for each pixel, averaged over those that share chroma."""
    itemsize: int
    """Bytes of a sample."""
    conversion: int | None
    """cv2.cvtColor code to RGB, None where the samples are RGB already."""
    rows: float = 1.0
    """Rows of data for each row of the picture: 1.5 where chroma planes follow below."""


# OpenCV names a Bayer pattern by its second row and column, ROS by its first.
_LAYOUTS: dict[str, _Layout] = {
    "rgb8": _Layout(3, 1, None),
    "bgr8": _Layout(3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, 1, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, 1, cv2.COLOR_BGRA2RGB),
    "rgb16": _Layout(3, 2, None),
    "bgr16": _Layout(3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": _Layout(4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": _Layout(4, 2, cv2.COLOR_BGRA2RGB),
    "mono16": _Layout(1, 2, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": _Layout(1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Layout(1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Layout(1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Layout(1, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _Layout(1, 2, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": _Layout(1, 2, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": _Layout(1, 2, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": _Layout(1, 2, cv2.COLOR_BayerGB2RGB),
    "yuv422": _Layout(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Layout(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Layout(2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Layout(2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": _Layout(1, 1, cv2.COLOR_YUV2RGB_NV12, rows=1.5),
    "nv21": _Layout(1, 1, cv2.COLOR_YUV2RGB_NV21, rows=1.5),
}

ENCODINGS: tuple[str, ...] = tuple(_LAYOUTS)
"""The encodings of sensor_msgs/Image that `decode_image` reads."""

_DEPTH_ENCODINGS = ("16UC1", "32FC1", "16SC1", "64FC1")

# OpenCV 4.10 decodes straight to RGB; older versions need a turn. A message's pixel grid is the
# camera's, so an EXIF orientation inside it must not turn the picture under its intrinsics.
_DECODES_TO_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")
_DECODE_FLAGS = (cv2.IMREAD_COLOR_RGB if _DECODES_TO_RGB else cv2.IMREAD_COLOR) | (
    cv2.IMREAD_IGNORE_ORIENTATION
)


def decode_image(msg: Any) -> NDArray[np.uint8]:
    """The picture in a message with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage.

    Args:
        msg: Image (height, width, encoding, is_bigendian, step, data) or CompressedImage (format,
            data); `data` is anything with a buffer of bytes.

    Returns:
        (H, W, 3) uint8 RGB, contiguous. It may share memory with `msg` where that is RGB already.
        16-bit pictures keep their upper byte.

    Raises:
        PictureError: naming what is wrong with the message: depth instead of a picture, an unknown
            encoding, no size, a step or an amount of data that does not fit the size, bytes that
            are no picture.
    """
    return _decode_compressed(msg) if hasattr(msg, "format") else _decode_raw(msg)


def depth_encoding(msg: Any) -> str | None:
    """The encoding of a message that holds a depth picture, None for one that holds colours or greys."""
    encoding = str(msg.format).split(";")[0].strip() if hasattr(msg, "format") else str(msg.encoding)
    if "compressedDepth" in getattr(msg, "format", ""):
        return str(msg.format)
    return encoding if encoding in _DEPTH_ENCODINGS else None


def is_rectified_by_name(topic: str) -> bool:
    """Whether pictures on a topic are rectified, as image_proc names them: image_rect, image_rect_color."""
    return re.search(r"(?:^|_)rect(?:ified)?(?:_|$)", topic.rpartition("/")[2]) is not None


def camera_from_message(
    msg: Any, *, rectified: bool = False, doubt: Callable[[str], None] | None = None
) -> Camera:
    """The camera that a message with the fields of sensor_msgs/CameraInfo describes.

    Args:
        msg: height, width, distortion_model, d, k, p, binning_x, binning_y, roi.
        rectified: the picture was rectified (`image_rect`): its intrinsics are the left 3x3 of P,
            and it has no distortion. A lens without distortion needs no P for it.
        doubt: told why the lens's distortion cannot be used, which is then left out: K alone is worth more
            than a guess. None to raise the error instead.

    Returns:
        The camera of the picture as published, that is after binning and cropping (`roi`).

    Raises:
        CameraError: if the message describes no camera; K of zeros is how ROS says `not calibrated`.
            DistortionError for a lens that is not known.
    """
    k = np.array(msg.k, dtype=np.float64).reshape(-1)
    distortion = np.array(msg.d, dtype=np.float64).reshape(-1)
    # Pictures of a lens that bends nothing are rectified as they come.
    model = msg.distortion_model or "plumb_bob"
    rectified = rectified and (any(msg.p) or bends(distortion, model))
    if rectified and k.any() and not any(msg.p):
        raise CameraError(
            "camera_info has a P of zeros, which rectified pictures need, though its K is there"
        )
    if rectified:
        k, distortion = np.array(msg.p, dtype=np.float64).reshape(3, 4)[:, :3].copy(), np.zeros(0)
    if not k.any():
        raise CameraError("camera_info has a K of zeros: the camera was never calibrated")
    if k.size != 9 or not (msg.width and msg.height):
        size = f"{msg.width}x{msg.height}"
        raise CameraError(f"camera_info is not filled in: size {size}, {k.size} values in K")
    k = k.reshape(3, 3).copy()
    roi, bin_x, bin_y = msg.roi, max(1, msg.binning_x), max(1, msg.binning_y)
    width, height = int(roi.width) or int(msg.width), int(roi.height) or int(msg.height)
    k[0, 2] -= roi.x_offset
    k[1, 2] -= roi.y_offset
    # Pixel centres lie on whole numbers: (u + 0.5) shrinks, not u.
    k[0] /= bin_x
    k[1] /= bin_y
    k[0, 2] += 0.5 / bin_x - 0.5
    k[1, 2] += 0.5 / bin_y - 0.5
    without = Camera(k, width // bin_x, height // bin_y, source=KSource.CAMERA_INFO)
    try:
        return replace(without, distortion=distortion, distortion_model=model)
    except DistortionError as error:
        if doubt is None:
            raise
        doubt(f"{error}; the lens's distortion is left out, so hands near the picture's edges are misplaced")
        return without


def _decode_raw(msg: Any) -> NDArray[np.uint8]:
    encoding, width, height, step = str(msg.encoding), int(msg.width), int(msg.height), int(msg.step)
    size = f"{encoding} picture of {width}x{height}"
    if encoding in _DEPTH_ENCODINGS:
        raise PictureError(f"encoding {encoding} is depth, not a picture; choose the colour topic")
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise PictureError(f"unknown encoding {encoding!r}; known are {', '.join(ENCODINGS)}")
    if width <= 0 or height <= 0:
        raise PictureError(f"{size} has no pixels")
    if layout.rows != 1 and (width % 2 or height % 2):
        raise PictureError(f"{size} needs an even width and height")
    if layout.channels == 2 and width % 2:
        raise PictureError(f"{size} needs an even width")
    row = width * layout.channels * layout.itemsize
    rows = int(height * layout.rows)
    if step < row:
        raise PictureError(f"{size} has a step of {step} bytes, a row needs at least {row}")
    data = _as_bytes(msg.data)
    if len(data) < step * (rows - 1) + row:
        raise PictureError(
            f"{size} holds {len(data)} bytes, needs {step * rows}: it was cut off or its step is wrong"
        )
    # The last row may end where its pixels end, without the padding.
    view = np.lib.stride_tricks.as_strided(data, (rows, row), (step, 1), writeable=False)
    if layout.itemsize == 2:
        # The upper byte of each sample, whichever end it is at.
        view = view[:, 0 if msg.is_bigendian else 1 :: 2]
    shape = (rows, width, layout.channels) if layout.channels > 1 else (rows, width)
    picture = np.ascontiguousarray(view).reshape(shape)
    if layout.conversion is None:
        return picture
    return np.asarray(cv2.cvtColor(picture, layout.conversion), np.uint8)


def _decode_compressed(msg: Any) -> NDArray[np.uint8]:
    form = str(msg.format)
    if depth_encoding(msg):
        raise PictureError(f"format {form!r} is depth, not a picture; choose the colour topic")
    data = _as_bytes(msg.data)
    if not len(data):
        raise PictureError(f"compressed picture ({form or 'no format'}) holds no data")
    if is_cut_off_jpeg(data.data):
        raise PictureError(f"JPEG picture of {len(data)} bytes was cut off: its end is missing")
    mosaic = _mosaic(form)
    if mosaic is not None:
        picture = _decoded(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, form)
        if picture.ndim == 2:
            samples = picture if picture.itemsize == 1 else (picture >> 8).astype(np.uint8)
            return np.asarray(cv2.cvtColor(samples, mosaic), np.uint8)
    picture = _decoded(data, _DECODE_FLAGS, form)
    # compressed_image_transport of old hands RGB to an encoder that takes BGR, and says so here.
    swapped = ";" in form and form.lstrip().startswith("rgb") and "compressed bgr" not in form
    if swapped == _DECODES_TO_RGB:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return np.asarray(picture, np.uint8)


def _decoded(data: NDArray[np.uint8], flags: int, form: str) -> NDArray[Any]:
    try:
        picture = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise PictureError(f"compressed picture ({form or 'no format'}): {error.err}") from None
    if picture is None or not picture.size:
        raise PictureError(
            f"compressed picture ({form or 'no format'}, {len(data)} bytes) is damaged or of no known type"
        )
    return picture


def _mosaic(form: str) -> int | None:
    """How to turn the picture to RGB if it is a Bayer mosaic that was compressed as it is, else None.

    compressed_image_transport names the picture's encoding first and what it made of it last, which for such
    is nothing or the same: `bayer_rggb8; jpeg compressed `, `bayer_rggb8; png compressed bayer_rggb8`.
    """
    encoding, _, codec = (part.strip() for part in form.partition(";"))
    made = codec.rpartition("compressed")[2].strip()
    if not encoding.startswith("bayer_") or encoding not in _LAYOUTS or "compressed" not in codec:
        return None
    return _LAYOUTS[encoding].conversion if made in ("", encoding) else None


def _as_bytes(data: Any) -> NDArray[np.uint8]:
    """The message's bytes as an array, without a copy where `data` has a buffer."""
    if isinstance(data, (list, tuple)):
        data = bytes(data)
    return np.frombuffer(data, np.uint8)
