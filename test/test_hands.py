"""Tests of `Camera` and `Hands`: the lens there and back, other sizes, files, and shapes that fit."""

import cv2
import numpy as np
import pytest

from handos_ros.errors import CameraError
from handos_ros.hands import JOINT_NAMES, JOINT_PARENTS, Camera, Hands, KSource

K = np.array([[610.0, 0, 322.3], [0, 607.0, 238.1], [0, 0, 1]])
LENSES = {
    "none": ("plumb_bob", ()),
    "plumb_bob 4": ("plumb_bob", (-0.28, 0.07, 0.001, -0.0007)),
    "plumb_bob 5": ("plumb_bob", (-0.34, 0.13, 0.0005, 0.0003, -0.02)),
    "rational 8": ("rational_polynomial", (0.4, -0.2, 0.0004, -0.0002, -0.01, 0.7, -0.1, -0.05)),
    "rational 12": (
        "rational_polynomial",
        (0.4, -0.2, 0.0004, -0.0002, -0.01, 0.7, -0.1, -0.05, 0.001, -0.0002, 0.0007, 0.0001),
    ),
    "rational 14": (
        "rational_polynomial",
        (0.4, -0.2, 0.0004, -0.0002, -0.01, 0.7, -0.1, -0.05, 0.001, -0.0002, 0.0007, 0.0001, 0.01, -0.02),
    ),
    "fisheye": ("equidistant", (-0.02, 0.005, -0.003, 0.0004)),
    "ideal fisheye": ("equidistant", (0.0, 0.0, 0.0, 0.0)),
}


def camera_with(lens, skew=0.0):
    model, coefficients = LENSES[lens]
    k = K.copy()
    k[0, 1] = skew
    return Camera(k, 640, 480, distortion=coefficients, distortion_model=model)


def picture_grid(width=640, height=480):
    u, v = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 7))
    return np.stack([u, v], -1)


@pytest.mark.parametrize("skew", [0.0, 3.0])
@pytest.mark.parametrize("lens", LENSES)
def test_undistorting_and_projecting_are_inverse_over_the_whole_picture(lens, skew):
    camera = camera_with(lens, skew)
    pixels = picture_grid()
    rays = camera.undistorted(pixels)
    depth = np.linspace(0.2, 2, rays[..., 0].size).reshape(rays.shape[:-1])[..., None]
    again = camera.project(np.concatenate([rays, np.ones_like(depth)], -1) * depth)
    np.testing.assert_allclose(again, pixels, atol=1e-3)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_is_opencvs(lens):
    camera = camera_with(lens)
    points = np.random.default_rng(0).uniform((-0.3, -0.2, 0.6), (0.3, 0.2, 1.5), (40, 3))
    zero, coefficients = np.zeros(3), np.array(LENSES[lens][1])
    project = cv2.fisheye.projectPoints if "fisheye" in lens else cv2.projectPoints
    order = (zero, zero, K, coefficients)
    expected = project(points[:, None], *order)[0].reshape(-1, 2)
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-6)


def test_skew_is_k_times_the_ray():
    camera = camera_with("none", skew=5.0)
    point = np.array([0.2, -0.1, 0.8])
    u, v, w = camera.k @ point
    np.testing.assert_allclose(camera.project(point), [u / w, v / w])


@pytest.mark.parametrize("lens", ["none", "plumb_bob 5", "fisheye"])
def test_points_that_the_camera_cannot_see_project_to_nan(lens):
    points = np.array([[0, 0, -1.0], [0.1, 0.1, 0.0], [0.1, 0.0, 1.0]])
    pixels = camera_with(lens).project(points)
    assert np.isnan(pixels[:2]).all() and np.isfinite(pixels[2]).all()


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("shape", [(0, 2), (3, 0, 2), (2, 21, 2), (2,)])
def test_any_number_of_points(lens, shape):
    camera = camera_with(lens)
    assert camera.undistorted(np.full(shape, 100.0)).shape == shape
    assert camera.project(np.ones((*shape[:-1], 3))).shape == shape


@pytest.mark.parametrize("lens", ["none", "rational 8", "fisheye"])
@pytest.mark.parametrize("factor", [0.5, 3])
def test_resizing_the_picture_moves_points_as_cv2_resize_does(lens, factor):
    camera = camera_with(lens)
    small = camera.resized(int(640 * factor), int(480 * factor))
    pixels = picture_grid()
    moved = (pixels + 0.5) * factor - 0.5
    np.testing.assert_allclose(small.undistorted(moved), camera.undistorted(pixels), atol=1e-7)
    assert (small.width, small.height) == (640 * factor, 480 * factor)


def test_resizing_forgives_rounding_but_no_crop():
    camera = Camera(np.diag([900.0, 900, 1]), 1920, 1080)
    assert camera.resized(416, 234).width == 416
    assert camera.resized(33, 19).height == 19
    with pytest.raises(CameraError, match="1920x1080 picture, this one has 640x480"):
        camera.resized(640, 480)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": np.zeros((3, 3))}, "never calibrated"),
        ({"k": K * np.nan}, "not finite"),
        ({"k": np.eye(2)}, "9 values"),
        ({"k": "abc"}, "must be numbers"),
        ({"k": K.T}, "upper triangular"),
        ({"width": 0}, "must be positive"),
        ({"distortion": (0.1, np.nan, 0, 0)}, "distortion holds"),
        ({"distortion": (0.1, 0.2)}, "takes 4, 5, 8, 12 or 14 coefficients, got 2"),
        ({"distortion": (0.1,) * 4, "distortion_model": "magic"}, "'magic'; known are plumb_bob"),
    ],
)
def test_what_is_no_camera_is_refused_by_name(change, message):
    with pytest.raises(CameraError, match=message):
        Camera(**{"k": K, "width": 640, "height": 480, **change})


def test_zero_distortion_is_none_whatever_its_name():
    assert len(Camera(K, 640, 480, np.zeros(5), distortion_model="").distortion) == 0


def test_intrinsics_cannot_be_changed_behind_the_cameras_back():
    mine = K.copy()
    camera = Camera(mine, 640, 480)
    mine[0, 0] = 1
    assert camera.k[0, 0] == 610
    with pytest.raises(ValueError, match="read-only"):
        camera.k[0, 0] = 1


FILE = """
image_width: 640
image_height: 480
camera_name: left
camera_matrix: {rows: 3, cols: 3, data: [610.0, 0, 322.3, 0, 607.0, 238.1, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.28, 0.07, 0.001, -0.0007, 0]}
"""


def test_a_calibration_file_of_ros(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(FILE)
    camera = Camera.from_yaml(path)
    np.testing.assert_array_equal(camera.k, K)
    np.testing.assert_array_equal(camera.distortion, [-0.28, 0.07, 0.001, -0.0007, 0])
    assert (camera.width, camera.height, camera.source) == (640, 480, KSource.PARAMETER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a ROS camera file"),
        ("[1, 2]", "not a ROS camera file"),
        ("a: [", "not a camera file in YAML"),
        (FILE.replace("image_width: 640", ""), "image_width"),
        (FILE.replace("image_width: 640", "image_width: wide"), "wide"),
        (FILE.replace("610.0, 0, 322.3", "0.0, 0, 322.3"), "never calibrated"),
        (FILE.replace("-0.28", ".nan"), "distortion holds a value that is not finite"),
        (FILE.replace("{rows: 1, cols: 5, data: [-0.28, 0.07, 0.001, -0.0007, 0]}", "[1]"), "not a ROS"),
    ],
)
def test_a_bad_calibration_file_is_refused_by_name(tmp_path, text, message):
    refused_by_name(tmp_path / "camera.yaml", text, message)


def refused_by_name(path, text, message, **how):
    path.write_text(text)
    with pytest.raises(CameraError, match=message) as caught:
        Camera.from_yaml(path, **how)
    assert str(path) in str(caught.value)


P = "projection_matrix: {rows: 3, cols: 4, data: [500.0, 0, 310, 12, 0, 505.0, 230, 0, 0, 0, 1, 0]}"


def test_a_calibration_file_of_rectified_pictures(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(FILE + P)
    camera = Camera.from_yaml(path, rectified=True)
    np.testing.assert_array_equal(camera.k, [[500, 0, 310], [0, 505, 230], [0, 0, 1]])
    assert len(camera.distortion) == 0
    assert (camera.width, camera.height, camera.source) == (640, 480, KSource.PARAMETER)
    np.testing.assert_array_equal(Camera.from_yaml(path).k, K)
    path.write_text(FILE.replace("[-0.28, 0.07, 0.001, -0.0007, 0]", "[0, 0, 0, 0, 0]"))
    np.testing.assert_array_equal(Camera.from_yaml(path, rectified=True).k, K)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ("", "no projection_matrix, which rectified pictures need"),
        ("projection_matrix: [1]", "no projection_matrix, which rectified pictures need"),
        ("projection_matrix: {data: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}", "projection_matrix of zeros"),
        ("projection_matrix: {data: [1, 2]}", "12 values, row by row; got 2"),
        (P.replace("500.0", "-1"), "focal lengths"),
        (P.replace("500.0", "wide"), "wide"),
    ],
)
def test_a_calibration_file_that_knows_no_rectified_pictures_is_refused_by_name(tmp_path, p, message):
    refused_by_name(tmp_path / "camera.yaml", FILE + p, message, rectified=True)


def test_a_missing_calibration_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(CameraError, match=r"none.yaml: cannot read"):
        Camera.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(CameraError, match=r"picture.yaml: not a camera file"):
        Camera.from_yaml(tmp_path / "picture.yaml")


def test_the_assumed_camera_looks_straight_through_the_middle():
    camera = Camera.assumed(640, 480)
    np.testing.assert_allclose(camera.undistorted([319.5, 239.5]), 0)
    assert camera.k[0, 0] == camera.k[1, 1] == 640 and camera.source is KSource.ASSUMED


def test_hands_refuse_arrays_that_do_not_belong_together():
    hands = Hands.empty(Camera.assumed(64, 48), 100)
    assert len(hands) == 0 and hands.vertices.shape == (0, 100, 3)
    with pytest.raises(ValueError, match=r"Hands.boxes has shape \(0, 4\), needs \(1, 4\)"):
        Hands(**{**vars(hands), "scores": np.ones(1, np.float32)})


@pytest.mark.parametrize("index", [[], [1], [1, 0, 0], np.array([True, False])])
def test_selecting_hands(index):
    empty = Hands.empty(Camera.assumed(64, 48), 7)
    arrays = {k: np.zeros((2, *v.shape[1:]), v.dtype) for k, v in vars(empty).items() if k != "camera"}
    arrays["ids"] = np.array([10, 11], np.int32)
    chosen = Hands(camera=empty.camera, **arrays).select(index)
    want = np.array([10, 11])[np.asarray(index, bool if np.asarray(index).dtype == bool else int)]
    assert chosen.ids.tolist() == want.tolist()
    assert chosen.vertices.shape == (len(want), 7, 3)


def test_every_joint_has_a_name_and_a_parent_before_it():
    assert len(JOINT_NAMES) == len(JOINT_PARENTS) == 21
    assert all(parent < joint for joint, parent in enumerate(JOINT_PARENTS))
