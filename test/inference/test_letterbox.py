"""Tests of the letterbox: points there and back, and that pixels go where points go."""

import numpy as np
import pytest

from handos_ros.errors import PictureError
from handos_ros.inference.letterbox import Letterbox, check_picture

SIZES = [
    (640, 480), (1920, 1080), (641, 479), (1283, 721), (333, 777), (37, 91), (1, 1), (5000, 3), (3, 5000),
    (10000, 1),
    (416, 416), (832, 832), (833, 415),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_the_network_picture_has_the_size_that_the_network_wants(size):
    box = Letterbox.fit(*size, long_side=416, stride=32)
    assert max(box.net_width, box.net_height) == 416
    assert box.net_width % 32 == box.net_height % 32 == 0
    assert 0 <= box.net_width - box.inner_width < 32 or 0 <= box.net_height - box.inner_height < 32
    # Nothing but less than one pixel of the network picture is left out at the far borders.
    assert (size[0] - box.used_width) * box.scale_x < 1 and (size[1] - box.used_height) * box.scale_y < 1


@pytest.mark.parametrize("size", SIZES)
def test_points_and_boxes_there_and_back(size):
    box = Letterbox.fit(*size, long_side=416, stride=32)
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, np.array(size) - 0.5, (50, 2))
    np.testing.assert_allclose(box.to_pixels(box.to_fractions(points).astype(np.float32)), points, atol=0.01)
    boxes = np.concatenate([points[:25], points[:25] + rng.uniform(1, 20, (25, 2))], 1)
    again = box.boxes_to_pixels(box.boxes_to_fractions(boxes).astype(np.float32))
    np.testing.assert_allclose(again, boxes, atol=0.01)


def test_fractions_begin_at_the_corner_and_pixels_at_a_centre():
    box = Letterbox.fit(640, 480, long_side=320, stride=32)
    np.testing.assert_allclose(box.to_pixels([0, 0]), [-0.5, -0.5])
    np.testing.assert_allclose(box.to_pixels([1, 240 / 256]), [639.5, 479.5])


@pytest.mark.parametrize("size", [(640, 480), (1283, 721), (333, 777), (2999, 1501), (200, 150)])
def test_pixels_go_where_points_go(size):
    """A soft spot's centre of mass, found in the network picture, mapped back to where it was drawn."""
    width, height = size
    box = Letterbox.fit(width, height, long_side=416, stride=32)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    # Big enough for every size to be sampled finely; off the middle of any pixel.
    centre, sigma = np.array([0.31 * width + 0.3, 0.64 * height + 0.1]), 0.04 * max(size)
    spot = np.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / (2 * sigma**2))
    image = np.repeat(np.round(255 * spot).astype(np.uint8)[..., None], 3, 2)
    seen = box.apply(image)[..., 0].astype(float)
    y, x = np.indices(seen.shape) + 0.5
    mass = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
    found = box.to_pixels(mass / [box.net_width, box.net_height])
    np.testing.assert_allclose(found, centre, atol=0.02 * max(1, 1 / box.scale_x))


def test_padding_is_black_and_only_right_or_below():
    box = Letterbox.fit(333, 777, long_side=416, stride=32)
    seen = box.apply(np.full((777, 333, 3), 200, np.uint8))
    assert seen.shape == (416, 192, 3)
    assert (seen[:, :178] == 200).all() and (seen[:, 178:] == 0).all()


def test_every_kind_of_picture_gives_rgb():
    box = Letterbox.fit(100, 80, long_side=64, stride=32)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)
    expected = box.apply(rgb)
    np.testing.assert_array_equal(box.apply(np.dstack([rgb, rgb[..., 0]])), expected)
    np.testing.assert_array_equal(box.apply(np.asfortranarray(rgb)), expected)
    np.testing.assert_array_equal(box.apply(rgb[..., ::-1].copy()[..., ::-1]), expected)
    np.testing.assert_array_equal(box.apply(rgb[::-1].copy()[::-1]), expected)
    np.testing.assert_array_equal(box.apply(np.repeat(rgb, 2, 1)[:, ::2]), expected)
    grey = rgb[..., 0]
    np.testing.assert_array_equal(box.apply(grey), box.apply(np.dstack([grey] * 3)))
    np.testing.assert_array_equal(box.apply(grey[..., None]), box.apply(np.dstack([grey] * 3)))


def test_shrinking_averages_instead_of_skipping():
    """One-pixel stripes become grey, not black or white."""
    stripes = np.zeros((1200, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = Letterbox.fit(1600, 1200, long_side=416, stride=32).apply(stripes)[:312]
    assert seen.min() > 100 and seen.max() < 155


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"empty.*\(0, 5, 3\)"),
        (np.zeros((5, 5, 2), np.uint8), r"got \(5, 5, 2\)"),
        (np.zeros(5, np.uint8), r"got \(5,\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"got \(2, 5, 5, 3\)"),
        (np.zeros((5, 5, 3), np.float32), r"got float32; convert it"),
        (np.full((5, 5, 3), np.nan), r"got float64 with values that are not finite"),
        (np.zeros((5, 5, 3), np.uint16), r"got uint16; scale"),
        (np.zeros((5, 5, 3), bool), r"got bool"),
        (np.zeros((5, 5, 3), object), r"got object"),
        ([[0, 0, 0]], r"NumPy array.*got list"),
        (None, r"got NoneType"),
        ("picture.png", r"got str"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(image, message):
    with pytest.raises(PictureError, match=message):
        check_picture(image)


@pytest.mark.parametrize("size", [(5000, 3), (3, 5000), (1000, 10)])
def test_a_strip_is_padded_to_two_strides(size):
    box = Letterbox.fit(*size, long_side=384, stride=32)
    assert sorted((box.net_width, box.net_height)) == [64, 384]
