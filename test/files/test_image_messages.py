"""Pictures out of messages: every encoding shows the same picture, and bad ones are named."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from handos_ros.errors import CameraError, PictureError
from handos_ros.files.image_messages import (
    ENCODINGS,
    camera_from_message,
    decode_image,
    depth_encoding,
    is_rectified_by_name,
)
from handos_ros.hands import KSource

WIDTH, HEIGHT = 32, 20


def blocks() -> np.ndarray:
    """Four flat blocks of clear colours, so that mosaics and shared chroma keep them."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:10, :16], rgb[:10, 16:] = (200, 40, 30), (30, 180, 60)
    rgb[10:, :16], rgb[10:, 16:] = (40, 60, 210), 128
    return rgb


def packed(encoding: str, rgb: np.ndarray) -> np.ndarray:
    """The rows of bytes (rows, n) in which a driver would publish `rgb`."""
    r, g, b = (rgb[..., i] for i in range(3))
    alpha = np.full_like(r, 77)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    base = encoding.removesuffix("16").removesuffix("8")
    if base in ("rgb", "bgr", "rgba", "bgra"):
        samples = np.stack([{"r": r, "g": g, "b": b, "a": alpha}[c] for c in base], -1)
    elif encoding in ("8UC3", "8UC4"):
        samples = np.stack([b, g, r, alpha][: int(encoding[-1])], -1)
    elif base == "mono" or encoding == "8UC1":
        samples = grey
    elif base.startswith("bayer_"):
        samples = np.empty_like(r)
        for i, colour in enumerate(base.removeprefix("bayer_")):
            y, x = divmod(i, 2)
            samples[y::2, x::2] = {"r": r, "g": g, "b": b}[colour][y::2, x::2]
    else:
        yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        y, u, v = yuv[:HEIGHT], *yuv[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
        if encoding in ("nv12", "nv21"):
            chroma = np.stack([u, v] if encoding == "nv12" else [v, u], -1).reshape(HEIGHT // 2, WIDTH)
            return np.concatenate([y, chroma])
        u, v = (np.repeat(c, 2, 0) for c in (u, v))
        order = {"uyvy": "u0v1", "yuv422": "u0v1", "yuyv": "0u1v", "yuv422_yuy2": "0u1v"}[encoding]
        planes = {"u": u, "v": v, "0": y[:, ::2], "1": y[:, 1::2]}
        samples = np.stack([planes[c] for c in order], -1)
    return samples.reshape(len(samples), -1)


def image(encoding: str, rgb: np.ndarray, *, pad: int = 0, big: bool = False) -> SimpleNamespace:
    """An Image message; `pad` bytes of rubbish end each row."""
    rows = packed(encoding, rgb)
    if encoding.endswith("16"):
        wide = rows.astype(np.uint16) << 8 | 0x5A
        rows = wide.astype(">u2" if big else "<u2").view(np.uint8)
    rows = np.concatenate([rows, np.full((len(rows), pad), 251, np.uint8)], 1)
    return SimpleNamespace(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def inner(picture: np.ndarray) -> np.ndarray:
    """The pixels away from the edges of the blocks."""
    keep = np.ones((HEIGHT, WIDTH), bool)
    keep[[0, 1, 8, 9, 10, 11, -2, -1]] = False
    keep[:, [0, 1, 14, 15, 16, 17, -2, -1]] = False
    return picture[keep].astype(int)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("pad", [0, 6])
def test_every_encoding_shows_the_picture(encoding: str, pad: int) -> None:
    rgb = blocks()
    if encoding.startswith("mono") or encoding == "8UC1":
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    for big in (False, True) if encoding.endswith("16") else (False,):
        picture = decode_image(image(encoding, rgb, pad=pad, big=big))
        assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        # Video-range YUV and its rounding cost some grey levels; a swapped channel costs a hundred.
        limit = 14 if "uv" in encoding or "nv" in encoding else 1
        assert np.abs(inner(picture) - inner(rgb)).max() <= limit


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda a: array.array("B", a.tobytes()), list]
)
def test_data_of_any_library(kind) -> None:
    message = image("bgr8", blocks())
    message.data = kind(message.data)
    assert np.array_equal(decode_image(message), blocks())


def test_the_last_row_may_lack_its_padding() -> None:
    message = image("rgb8", blocks(), pad=8)
    message.data = message.data[:-8]
    assert np.array_equal(decode_image(message), blocks())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(encoding="16UC1"), "16UC1 is depth"),
        (dict(encoding="32FC1"), "32FC1 is depth"),
        (dict(encoding="rgb9"), "unknown encoding 'rgb9'"),
        (dict(width=0), "no pixels"),
        (dict(height=0), "no pixels"),
        (dict(step=0), "step of 0 bytes"),
        (dict(step=WIDTH * 3 - 1), "a row needs at least 96"),
        (dict(step=WIDTH * 3 + 1), "cut off or its step is wrong"),
        (dict(data=b""), "holds 0 bytes"),
        (dict(height=HEIGHT + 1), "cut off"),
        (dict(encoding="yuv422", width=31), "even width"),
        (dict(encoding="nv12", height=19, width=32), "even width and height"),
    ],
)
def test_bad_raw_pictures_are_named(changes: dict, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        decode_image(SimpleNamespace(**{**vars(image("rgb8", blocks())), **changes}))


def compressed(rgb: np.ndarray, form: str = "jpeg", suffix: str = ".jpg") -> SimpleNamespace:
    return SimpleNamespace(format=form, data=cv2.imencode(suffix, rgb[..., ::-1])[1])


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        ("jpeg", ".jpg"),
        ("png", ".png"),
        ("", ".png"),
        ("rgb8; jpeg compressed bgr8", ".jpg"),
        ("bgr8; png compressed ", ".png"),
    ],
)
def test_compressed_pictures(form: str, suffix: str) -> None:
    picture = decode_image(compressed(blocks(), form, suffix))
    assert np.abs(inner(picture) - inner(blocks())).max() <= 12
    assert picture.flags.c_contiguous


def test_the_rgb_order_of_old_image_transport() -> None:
    swapped = compressed(blocks()[..., ::-1], "rgb8; png compressed rgb8", ".png")
    assert np.array_equal(decode_image(swapped), blocks())


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("made", ["png compressed ", "png compressed {}", "jpeg compressed "])
def test_a_mosaic_that_was_compressed_as_it_is(pattern: str, made: str, deep: bool) -> None:
    encoding = f"bayer_{pattern}{16 if deep else 8}"
    mosaic = packed(encoding, blocks())
    if deep and "png" in made:
        mosaic = mosaic.astype(np.uint16) << 8
    # JPEG has eight bits, and takes them from each other unless it is told not to.
    data = cv2.imencode(f".{made.split()[0]}", mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    picture = decode_image(SimpleNamespace(format=f"{encoding}; {made.format(encoding)}", data=data))
    assert np.abs(inner(picture) - inner(blocks())).max() <= (12 if "jpeg" in made else 2)


def test_a_mosaic_of_which_grey_was_made() -> None:
    message = compressed(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "bayer_rggb8; jpeg compressed mono8")
    assert np.abs(decode_image(message).astype(int) - 90).max() <= 2


def test_grey_and_deep_pngs_are_pictures() -> None:
    grey = blocks()[..., 0]
    message = SimpleNamespace(format="png", data=cv2.imencode(".png", grey.astype(np.uint16) << 8)[1])
    picture = decode_image(message)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture[..., 1].astype(int) - grey).max() <= 1


def test_an_exif_orientation_does_not_turn_the_camera() -> None:
    jpeg = bytes(compressed(blocks()).data)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (WIDTH, HEIGHT)
    assert decode_image(SimpleNamespace(format="jpeg", data=turned)).shape[:2] == (HEIGHT, WIDTH)


def test_bad_compressed_pictures_are_named() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    whole = bytes(compressed(noise).data)
    for form, data, words in [
        ("jpeg", whole[: len(whole) // 2], "JPEG picture of .* bytes was cut off"),
        ("jpeg", b"", "holds no data"),
        ("jpeg", b"not a picture", "damaged or of no known type"),
        ("png", bytes(compressed(noise, "png", ".png").data)[:50], "damaged"),
        ("16UC1; compressedDepth", whole, "is depth"),
        ("16UC1; png compressed", whole, "is depth"),
    ]:
        with pytest.raises(PictureError, match=words):
            decode_image(SimpleNamespace(format=form, data=data))


def test_depth_is_told_from_colour() -> None:
    assert depth_encoding(SimpleNamespace(encoding="16UC1")) == "16UC1"
    assert depth_encoding(SimpleNamespace(encoding="rgb8")) is None
    assert depth_encoding(SimpleNamespace(format="16UC1; compressedDepth rvl")) is not None
    assert depth_encoding(SimpleNamespace(format="bgr8; jpeg compressed bgr8")) is None


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam/image_rect", True),
        ("/cam/image_rect_color", True),
        ("/cam/left/image_rectified", True),
        ("/rect/image_raw", False),
        ("/cam/image_corrected", False),
        ("/direct_image", False),
    ],
)
def test_what_is_rectified_by_its_name(topic: str, rectified: bool) -> None:
    assert is_rectified_by_name(topic) == rectified


def info(**changes) -> SimpleNamespace:
    fields = dict(
        width=640, height=480, distortion_model="plumb_bob", d=[0.1, 0, 0, 0, 0],
        k=[500, 0, 320, 0, 510, 240, 0, 0, 1],
        p=[450, 0, 310, 0, 0, 460, 230, 0, 0, 0, 1, 0], binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    )  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


def test_camera_info() -> None:
    camera = camera_from_message(info())
    assert camera.k.tolist() == [[500, 0, 320], [0, 510, 240], [0, 0, 1]]
    assert (camera.width, camera.height, camera.source) == (640, 480, KSource.CAMERA_INFO)
    assert camera.distortion[0] == 0.1
    rectified = camera_from_message(info(), rectified=True)
    assert rectified.k[0, 0] == 450 and not len(rectified.distortion)
    with pytest.raises(CameraError, match="P of zeros"):
        camera_from_message(info(p=[0.0] * 12), rectified=True)
    straight = camera_from_message(info(p=[0.0] * 12, d=[0.0] * 5), rectified=True)
    assert straight.k[0, 0] == 500
    # Of a fisheye without coefficients lines are bent all the same.
    fisheye = info(p=[0.0] * 12, d=[0.0] * 4, distortion_model="equidistant")
    assert len(camera_from_message(fisheye).distortion) == 4
    with pytest.raises(CameraError, match="P of zeros"):
        camera_from_message(fisheye, rectified=True)


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
@pytest.mark.parametrize("length", [4, 5, 8, 12, 14])
def test_drivers_give_either_name_with_any_of_opencvs_lengths(model: str, length: int) -> None:
    bent = [0.1, -0.05, 0.001, 0.002, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][:length]
    camera = camera_from_message(info(distortion_model=model, d=bent))
    expected = camera_from_message(info(d=bent[:4])).project([0.2, 0.1, 0.5])
    assert np.allclose(camera.project([0.2, 0.1, 0.5]), expected)
    assert np.allclose(camera.undistorted(expected), [0.4, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(distortion_model="fov"), "unknown distortion model 'fov'"),
        (dict(d=[0.1, 0.2]), "got 2"),
        (dict(d=[float("nan")] * 5), "not finite"),
    ],
)
def test_k_is_kept_where_the_lens_is_not_known(changes: dict, words: str) -> None:
    doubts: list[str] = []
    camera = camera_from_message(info(**changes), doubt=doubts.append)
    assert camera.k[0, 0] == 500 and not len(camera.distortion) and camera.source is KSource.CAMERA_INFO
    assert words in doubts[0] and "left out" in doubts[0]
    camera_from_message(info(), doubt=doubts.append)
    assert len(doubts) == 1


def test_binning_and_cropping_move_the_intrinsics() -> None:
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=300)
    camera = camera_from_message(info(binning_x=2, binning_y=2, roi=roi))
    assert (camera.width, camera.height) == (200, 150)
    full = camera_from_message(info())
    u, v = full.project([0.1, 0.05, 1.0])
    expected = ((u - 100 + 0.5) / 2 - 0.5, (v - 40 + 0.5) / 2 - 0.5)
    # Distortion bends about the principal point in normalised units, so it commutes with the crop.
    assert np.allclose(camera.project([0.1, 0.05, 1.0]), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(k=[0.0] * 9), "never calibrated"),
        (dict(width=0), "not filled in"),
        (dict(k=[float("nan")] * 9), "not finite"),
        (dict(distortion_model="fov"), "unknown distortion model"),
    ],
)
def test_bad_camera_info_is_named(changes: dict, words: str) -> None:
    with pytest.raises(CameraError, match=words):
        camera_from_message(info(**changes))
