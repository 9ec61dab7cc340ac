"""Augmentation: labels stay on what they label, whatever is done to the picture."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from handos_ros.hands import Camera
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.augmentation import Augmentation, dropped, mirrored, mosaic, warped
from handos_ros.learning.training.photometric import Photometric

PLAIN = Augmentation(occluder=0, photometric=None)


def photograph(seed=0, k=True, n=2):
    """A 200x150 picture of n hands whose joints are white dots, by a camera with skew, and its labels."""
    rng = np.random.default_rng(seed)
    camera = Camera([[210.0, 3.0, 95.0], [0, 190.0, 80.0], [0, 0, 1]], 200, 150)
    joints = rng.uniform((-0.05, -0.05, 0.5), (0.05, 0.05, 0.6), (n, 21, 3))
    joints[..., 0] += np.linspace(-0.12, 0.12, n)[:, None]
    points = camera.project(joints)
    picture = np.zeros((150, 200, 3), np.uint8)
    for u, v in points.reshape(-1, 2):
        cv2.circle(picture, (round(u * 16), round(v * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return Sample.labelled(
        picture, np.concatenate([points.min(1) - 4, points.max(1) + 4], 1), k=camera.k if k else None,
        handedness=[i % 2 for i in range(n)], joints_2d=points, joints_3d=joints, vertices=joints[:, :5],
        source="dots",
    )  # fmt: skip


def on_its_dot(sample):
    """Whether each labelled joint well inside the picture lies on a bright dot."""
    inner = ((sample.joints_2d > 4) & (sample.joints_2d < np.array(sample.image.shape[1::-1]) - 5)).all(-1)
    inner &= sample.joints_2d_weight > 0
    u, v = np.round(sample.joints_2d[inner]).astype(int).T
    return sample.image[v, u, 0] > 100


@pytest.mark.parametrize("seed", range(12))
def test_joints_stay_on_the_picture_and_on_the_camera(seed):
    rng = np.random.default_rng(seed)
    augmentation = replace(PLAIN, size=(240, 320), any_rotation=0.5, zoom=(0.9, 1.6), hand_size=(0.4, 0.9))
    out = augmentation(photograph(seed), rng)
    assert out.image.shape == (240, 320, 3)
    assert len(out) == 0 or on_its_dot(out).all()
    assert out.k[1, 0] == 0 and out.k[0, 0] > 0 and out.k[1, 1] > 0
    back = Camera(out.k, 320, 240).project(out.joints_3d)
    np.testing.assert_allclose(back, out.joints_2d, atol=0.05)
    np.testing.assert_allclose(out.vertices, out.joints_3d[:, :5], atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_joints_and_boxes_stay_on_a_tilted_picture(seed):
    augmentation = replace(PLAIN, size=(240, 320), tilt=0.5, zoom=(0.7, 1.6), hand_size=(0.4, 0.9))
    out = augmentation(photograph(seed, k=False), np.random.default_rng(seed))
    assert len(out) == 0 or on_its_dot(out).all()
    inside = (out.joints_2d > 0).all((1, 2)) & (out.joints_2d < (319, 239)).all((1, 2))
    low, high = out.joints_2d[inside].min(1), out.joints_2d[inside].max(1)
    assert (out.boxes[inside, :2] <= low + 0.01).all() and (out.boxes[inside, 2:] >= high - 0.01).all()


def test_a_tilted_picture_shows_one_end_of_it_larger():
    steep, width = np.eye(3), 200
    steep[2, 0] = 0.5 / width
    bars = np.zeros((100, width, 3), np.uint8)
    bars[40:60, [20, 180]] = 255
    out = warped(Sample.labelled(bars), steep, (100, width))
    heights = (out.image[..., 0] > 60).sum(0)
    left, right = heights[: width // 2].max(), heights[width // 2 :].max()
    assert left == pytest.approx(20 / (1 + 20 * steep[2, 0]), abs=1.5)
    assert right == pytest.approx(20 / (1 + 180 * steep[2, 0]), abs=1.5)


def test_a_picture_tilts_about_the_hand_that_it_is_laid_out_around():
    """Neither the place nor the size of what is there changes."""
    around = np.random.default_rng(0).uniform(-1, 1, (1, 21, 2))
    sample = Sample.labelled(
        np.zeros((150, 200, 3), np.uint8), [[110, 40, 150, 80]], joints_2d=np.array([130.0, 60.0]) + around
    )
    level = replace(PLAIN, size=(240, 320), around_hand=1.0, shift=0, mirror=0)
    for seed in range(8):
        flat, steep = (
            replace(level, tilt=tilt)(sample, np.random.default_rng(seed)).joints_2d[0] for tilt in (0, 0.5)
        )
        np.testing.assert_allclose(steep, flat, atol=0.05 * np.abs(flat - (159.5, 119.5)).max())


def test_a_known_camera_is_never_tilted():
    out = replace(PLAIN, tilt=0.5)(photograph(), np.random.default_rng(0))
    np.testing.assert_allclose(Camera(out.k, 320, 320).project(out.joints_3d), out.joints_2d, atol=0.05)
    with pytest.raises(ValueError, match="K would no longer be true"):
        warped(photograph(), np.array([[1.0, 0, 0], [0, 1, 0], [1e-4, 0, 1]]), (150, 200))


def test_hands_beyond_the_horizon_are_forgotten():
    steep = np.eye(3)
    steep[2, 0] = -1.2 / 200  # beyond x = 167 everything is behind the camera
    sample = Sample.labelled(np.zeros((100, 200, 3), np.uint8), [[20, 10, 60, 50], [175, 10, 199, 50]])
    out = dropped(warped(sample, steep, (100, 200)), 0.25, 8)
    assert len(out) == 1 and out.exhaustive


def test_places_without_hands_are_shown_as_large_as_hands_are():
    """Half of the picture is red; from random places it often fills the result, and no hand is in it."""
    image = np.zeros((150, 200, 3), np.uint8)
    image[:, :100, 0] = 255
    sample = Sample.labelled(image, [[150, 50, 180, 90]])
    around = replace(PLAIN, size=(150, 200), around_hand=1.0, any_rotation=0, mirror=0, tilt=0)
    rng = np.random.default_rng(0)
    seen = [replace(around, elsewhere=1.0)(sample, rng) for _ in range(60)]
    alone = [out for out in seen if not len(out) and (out.image[..., 0] > 100).mean() > 0.6]
    assert len(alone) >= 6 and any(out.exhaustive for out in alone)
    assert sum(len(out) for out in seen) >= 15
    # Where it is not asked for, every picture is laid out around its hand.
    assert all(len(around(sample, rng)) for _ in range(20))


def test_most_hands_survive():
    rng = np.random.default_rng(0)
    assert sum(len(PLAIN(photograph(i), rng)) for i in range(40)) > 48  # of 80, and half are crops around one


def test_distances_between_joints_do_not_change():
    sample = photograph()
    out = Augmentation(least_visible=0, least_pixels=0)(sample, np.random.default_rng(3))

    def spans(joints):
        return np.linalg.norm(joints[:, 1:] - joints[:, :1], axis=-1)

    np.testing.assert_allclose(spans(out.joints_3d), spans(sample.joints_3d), atol=1e-5)


def test_a_turned_picture_turns_a_teachers_joints():
    # A quarter turn that takes right (+x) to down (+y).
    quarter = np.array([[0.0, -1, 149], [1, 0, 0]])
    sample = photograph(k=False)
    out = warped(sample, quarter, (200, 150))
    assert out.k is None
    x, y, z = sample.joints_3d.transpose(2, 0, 1)
    np.testing.assert_allclose(out.joints_3d, np.stack([-y, x, z], -1), atol=1e-6)
    assert on_its_dot(out).all()


def test_a_mirror_swaps_sides_and_twice_is_nothing():
    sample = photograph()
    sample.handedness[:] = [0, -1]
    once, twice = mirrored(sample), mirrored(mirrored(sample))
    assert once.handedness.tolist() == [1, -1]
    assert on_its_dot(once).all()
    np.testing.assert_allclose(Camera(once.k, 200, 150).project(once.joints_3d), once.joints_2d, atol=1e-3)
    assert (once.boxes[:, 2] > once.boxes[:, 0]).all()
    np.testing.assert_allclose(once.joints_3d[..., 0], -sample.joints_3d[..., 0])
    for name in ("image", "k", "boxes", "joints_2d", "handedness", "joints_3d", "vertices"):
        np.testing.assert_allclose(getattr(twice, name), getattr(sample, name), atol=1e-3)


def test_a_map_that_mirrors_is_refused():
    with pytest.raises(ValueError, match="mirrored"):
        warped(photograph(), np.array([[-1.0, 0, 199], [0, 1, 0]]), (150, 200))


def test_boxes_scale_and_move_exactly():
    sample = photograph()
    out = warped(sample, np.array([[2.0, 0, 5], [0, 2, -3]]), (400, 400))
    np.testing.assert_allclose(out.boxes, sample.boxes * 2 + [5, -3, 5, -3], rtol=1e-5)


def test_the_box_of_a_turned_hand_keeps_its_distance_to_the_joints():
    sample = photograph()
    c, s = math.cos(0.7), math.sin(0.7)
    out = warped(sample, np.array([[c, -s, 100], [s, c, 0]]), (300, 300))
    np.testing.assert_allclose(out.joints_2d.min(1) - out.boxes[:, :2], 4, atol=0.01)
    np.testing.assert_allclose(out.boxes[:, 2:] - out.joints_2d.max(1), 4, atol=0.01)


@pytest.mark.parametrize(
    ("angle", "width", "height"),
    [(0, 40, 20), (90, 20, 40), (45, math.hypot(20, 40) / math.sqrt(2), math.hypot(20, 40) / math.sqrt(2))],
)
def test_a_box_without_joints_turns_as_the_ellipse_in_it(angle, width, height):
    sample = Sample.labelled(np.zeros((100, 100, 3), np.uint8), [[10, 20, 50, 40]])
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    out = warped(sample, np.array([[c, -s, 100], [s, c, 100]]), (300, 300))
    np.testing.assert_allclose(out.boxes[0, 2:] - out.boxes[0, :2], [width, height], rtol=1e-5)
    np.testing.assert_allclose(
        (out.boxes[0, 2:] + out.boxes[0, :2]) / 2, [100 + 30 * c - 30 * s, 100 + 30 * s + 30 * c], rtol=1e-5
    )


def boxes_of(*boxes, size=100):
    return Sample.labelled(np.zeros((size, size, 3), np.uint8), boxes)


def test_a_hand_that_left_the_picture_is_forgotten():
    out = dropped(boxes_of([120, 10, 150, 40], [10, 10, 40, 40]), 0.25, 8)
    assert out.boxes.tolist() == [[10, 10, 40, 40]] and out.exhaustive


def test_a_sliver_of_a_hand_loses_its_label_and_is_no_background():
    out = dropped(boxes_of([95, 10, 135, 40]), 0.25, 8)
    assert len(out) == 0 and not out.exhaustive
    tiny = dropped(boxes_of([10, 10, 14, 14]), 0.25, 8)
    assert len(tiny) == 0 and not tiny.exhaustive


def test_boxes_end_at_the_border_and_joints_outside_are_hidden():
    points = np.full((1, 21, 2), 90.0)
    points[0, 1] = 105
    points[0, 2] = 130
    sample = Sample.labelled(
        np.zeros((100, 100, 3), np.uint8), [[80, 80, 110, 110]], joints_2d=points, visibility=np.ones((1, 21))
    )
    out = dropped(sample, 0.25, 8)
    assert out.boxes.tolist() == [[80, 80, 99.5, 99.5]]
    assert out.visibility[0, :3].tolist() == [1, 0, 0]
    assert out.joints_2d_weight[0, :3].tolist() == [1, 1, 0]


def test_occluders_hide_the_joints_under_them_and_no_others():
    changed = 0
    for seed in range(10):
        sample = replace(photograph(seed), visibility=np.ones((2, 21), np.float32))
        plain = PLAIN(sample, np.random.default_rng(seed))
        covered = replace(PLAIN, occluder=1.0)(sample, np.random.default_rng(seed))
        at = np.round(covered.joints_2d).astype(int)
        for i in range(len(covered)):
            for j in range(21):
                u, v = at[i, j]
                if 0 <= u < 320 and 0 <= v < 320 and covered.visibility[i, j] == 1:
                    assert (covered.image[v, u] == plain.image[v, u]).all()
        changed += (covered.visibility < plain.visibility).sum()
    assert changed > 20


def test_a_mosaic_keeps_labels_on_the_picture():
    rng = np.random.default_rng(5)
    out = mosaic([photograph(i, n=3) for i in range(4)], replace(PLAIN, zoom=(1.0, 1.5)), rng)
    assert out.image.shape == (320, 320, 3) and out.k is None
    assert len(out) >= 4
    on_dot = on_its_dot(out)
    # Joints beyond a quarter's edge lie under the next quarter.
    assert on_dot.mean() > 0.8
    assert not out.has_joints_3d.any() and not out.has_vertices.any()


def test_hands_of_a_mosaic_are_as_large_as_single_ones():
    upright = replace(PLAIN, rotation=0, any_rotation=0, stretch=0, shift=0)
    wanted = replace(upright, hand_size=(0.3, 0.6), around_hand=1.0)
    rng = np.random.default_rng(6)
    sizes = [
        max(box[2:] - box[:2]) / 320
        for number in range(40)
        for box in mosaic([photograph(number, n=1)] * 4, wanted, rng).boxes
    ]
    # At most as large as before, since a quarter holds no more.
    assert len(sizes) > 100 and np.percentile(sizes, 5) > 0.25 and np.median(sizes) < 0.4


def test_blur_is_as_wide_in_a_small_picture_as_in_a_large_one():
    blurred = replace(Photometric(), blur=1.0, noise=0, jpeg=0)

    def width(size):
        """Of an edge, in shares of the picture."""
        edge = np.zeros((size, size, 3), np.uint8)
        edge[:, size // 2 :] = 255
        made = [blurred(edge, np.random.default_rng(seed)).astype(float)[0, :, 0] for seed in range(30)]
        return np.mean([np.abs(np.diff(line)).sum() / np.abs(np.diff(line)).max() for line in made]) / size

    assert width(640) == pytest.approx(width(320), rel=0.1)
    assert width(160) < 1.5 * width(320)


def test_the_same_seed_gives_the_same_picture():
    first, second = (Augmentation()(photograph(), np.random.default_rng(9)) for _ in range(2))
    assert (first.image == second.image).all() and (first.joints_2d == second.joints_2d).all()


def test_the_sample_given_is_left_as_it_was():
    sample, same = photograph(), photograph()
    for seed in range(8):
        replace(Augmentation(), occluder=1.0)(sample, np.random.default_rng(seed))
    for name, value in vars(same).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(sample, name), value)


def test_a_picture_without_hands_is_varied_too():
    out = Augmentation()(Sample.labelled(photograph().image), np.random.default_rng(0))
    assert len(out) == 0 and out.exhaustive and out.image.shape == (320, 320, 3)


def test_shrinking_does_not_alias_or_shift():
    # A fine checkerboard shrunk to a fifth is an even grey; a square's centre goes where the map says.
    board = ((np.indices((200, 200)).sum(0) % 2) * 255).astype(np.uint8)
    fine = Sample.labelled(np.repeat(board[..., None], 3, 2))
    small = warped(fine, np.array([[0.2, 0, 0], [0, 0.2, 0]]), (40, 40)).image[2:-2, 2:-2]
    assert small.std() < 10 and abs(float(small.mean()) - 127.5) < 5
    square = np.zeros((200, 200, 3), np.uint8)
    square[101:150, 51:100] = 255  # centre (75, 125)
    out = warped(Sample.labelled(square), np.array([[0.3, 0, 4], [0, 0.3, 6]]), (80, 80)).image[..., 0]
    v, u = (np.indices(out.shape) * out).sum((1, 2)) / out.sum()
    assert u == pytest.approx(0.3 * 75 + 4, abs=0.1) and v == pytest.approx(0.3 * 125 + 6, abs=0.1)


def test_colours_change_within_reason():
    picture = np.full((64, 64, 3), (180, 120, 90), np.uint8)
    rng = np.random.default_rng(0)
    means = np.array([Photometric()(picture, rng).mean((0, 1)) for _ in range(200)])
    assert means.std(0).min() > 10  # they vary
    assert (
        np.percentile(means.mean(1), 1) > 15 and np.percentile(means.mean(1), 99) < 245
    )  # and stay pictures


def test_grey_is_grey_as_an_infrared_camera_s_pictures_are():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    grey = replace(Photometric(), grey=1.0, noise=0.0, jpeg=0.0)
    for seed in range(20):
        made = grey(picture, np.random.default_rng(seed)).astype(int)
        assert np.ptp(made, axis=-1).max() <= 1


@pytest.mark.parametrize("size", [(64, 48), (1500, 1100)])
def test_noise_is_as_strong_in_pictures_of_any_size(size):
    noisy = Photometric(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, noise=1.0, jpeg=0)
    grey = np.full((*size, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    spread = [noisy(grey, rng).astype(float).std() for _ in range(12)]
    assert min(spread) > 1 and max(spread) < 17 and np.std(spread) > 1
