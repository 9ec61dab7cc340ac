"""Tests of placing hands in metres: exact joints give the exact place, through any lens."""

import cv2
import numpy as np
import pytest

from handos_ros.hands import Camera, KSource, TranslationSource
from handos_ros.inference.backend import Decoded
from handos_ros.inference.letterbox import Letterbox
from handos_ros.inference.place import focal_lengths, place, ray_rotations, translations
from standin import standin_hand_model

MODEL = standin_hand_model()
PLUMB_BOB = Camera(
    np.array([[520.0, 0, 330], [0, 515, 236], [0, 0, 1]]), 640, 480, (-0.29, 0.08, 0.0006, -0.0004, 0.0)
)
FISHEYE = Camera(
    np.array([[300.0, 0, 318], [0, 300, 242], [0, 0, 1]]), 640, 480, (-0.02, 0.004, -0.002, 0.0003),
    "equidistant",
)  # fmt: skip
CAMERAS = {
    "assumed": Camera.assumed(640, 480),
    "off centre, fx is not fy": Camera(np.array([[700.0, 0, 250], [0, 640, 300], [0, 0, 1]]), 640, 480),
    "plumb_bob": PLUMB_BOB,
    "fisheye": FISHEYE,
}


def scene(seed=0, count=4):
    """(N, 21, 3) joints and (N, V, 3) vertices of hands turned anyhow in front of the camera, m."""
    rng = np.random.default_rng(seed)
    turns = np.stack([cv2.Rodrigues(rng.normal(size=3))[0] for _ in range(count)])
    vertices = np.einsum("nij,vj->nvi", turns, MODEL.template)
    depth = rng.uniform(0.35, 1.2, count)
    across, down = rng.uniform(-0.35, 0.35, count), rng.uniform(-0.25, 0.25, count)
    wrists = np.stack([across * depth, down * depth, depth], 1)
    return MODEL.joint_regressor @ vertices + wrists[:, None], vertices + wrists[:, None]


def seen_by(camera, joints, vertices, box):
    """What a perfect network says of hands in the optical frame."""
    wrists = joints[:, 0]
    rays = wrists[:, :2] / wrists[:, 2:]
    turns = ray_rotations(rays)
    pixels = camera.project(joints)
    focal = focal_lengths(camera, rays) * np.sqrt(box.scale_x * box.scale_y)
    f = np.float32
    return Decoded(
        joints_2d=box.to_fractions(pixels).astype(f),
        joint_scores=np.full(joints.shape[:2], 0.9, f),
        presence_logits=np.zeros(len(joints), f),
        joints_3d=((joints - wrists[:, None]) @ turns).astype(f),
        vertices=((vertices - wrists[:, None]) @ turns).astype(f),
        root_2d=box.to_fractions(pixels[:, 0]).astype(f),
        scale=(focal / wrists[:, 2]).astype(f),
    )


def setting(camera, seed=0, count=4):
    joints, vertices = scene(seed, count)
    box = Letterbox.fit(camera.width, camera.height, 416, 32)
    return joints, vertices, box, seen_by(camera, joints, vertices, box)


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_network_gives_the_exact_hand(name, seed):
    camera = CAMERAS[name]
    joints, vertices, box, decoded = setting(camera, seed)
    placed = place(decoded, box, camera)
    assert (placed.translation_source == TranslationSource.REPROJECTION).all()
    np.testing.assert_allclose(placed.joints_3d, joints, atol=2e-5)
    np.testing.assert_allclose(placed.vertices, vertices, atol=2e-5)
    np.testing.assert_allclose(placed.root_translation, joints[:, 0], atol=2e-5)
    # Of an assumed camera the perspective is not believed, a tenth of whose effect is a pixel or two.
    tolerance = 3 if camera.source is KSource.ASSUMED else 1e-3
    np.testing.assert_allclose(placed.joints_2d, camera.project(joints), atol=tolerance)


@pytest.mark.parametrize("name", CAMERAS)
def test_without_joints_to_trust_the_networks_own_place_is_taken(name):
    camera = CAMERAS[name]
    joints, _, box, decoded = setting(camera)
    decoded.joint_scores[:] = 0
    placed = place(decoded, box, camera)
    assert (placed.translation_source == TranslationSource.NETWORK).all()
    np.testing.assert_allclose(placed.joints_3d, joints, atol=2e-5)


@pytest.mark.parametrize("own", [False, True])
def test_one_hand_under_two_focal_lengths_is_at_one_place(own):
    """A longer lens spreads the same scene over more pixels; K takes that back."""
    joints, vertices = scene()
    places = []
    for f in (400.0, 900.0):
        camera = Camera(np.array([[f, 0, 319.5], [0, f, 239.5], [0, 0, 1]]), 640, 480)
        box = Letterbox.fit(640, 480, 416, 32)
        decoded = seen_by(camera, joints, vertices, box)
        if own:
            decoded.joint_scores[:] = 0
        places.append(place(decoded, box, camera).joints_3d)
    np.testing.assert_allclose(places[0], places[1], atol=2e-5)
    np.testing.assert_allclose(places[0], joints, atol=2e-5)


def test_the_same_picture_through_twice_the_focal_length_is_twice_as_far():
    """Nothing in the picture tells the focal length, so it must come from K alone."""
    camera = Camera(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), 640, 480)
    _, _, box, decoded = setting(camera, count=1)
    decoded.joint_scores[:] = 0
    longer = Camera(camera.k * [[2], [2], [1]] - [[0, 0, 319.5], [0, 0, 239.5], [0, 0, 0]], 640, 480)
    near, far = (place(decoded, box, c).root_translation[0] for c in (camera, longer))
    np.testing.assert_allclose(far, near * [1, 1, 2], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_mirrored_about_the_principal_point_gives_the_mirrored_hand(axis):
    camera = CAMERAS["assumed"]
    mirror = np.ones(3)
    mirror[axis] = -1
    _, _, box, decoded = setting(camera)
    # A hand as the network might err: nothing agrees with anything.
    rng = np.random.default_rng(3)
    decoded.joints_2d += rng.normal(0, 0.01, decoded.joints_2d.shape).astype(np.float32)
    decoded.scale *= 1.1
    span = np.array([box.inner_width / box.net_width, box.inner_height / box.net_height])
    flip = lambda xy: np.where(np.arange(2) == axis, span - xy, xy).astype(np.float32)  # noqa: E731
    mirrored = Decoded(
        joints_2d=flip(decoded.joints_2d), joint_scores=decoded.joint_scores,
        presence_logits=decoded.presence_logits,
        joints_3d=(decoded.joints_3d * mirror).astype(np.float32),
        vertices=(decoded.vertices * mirror).astype(np.float32),
        root_2d=flip(decoded.root_2d), scale=decoded.scale,
    )  # fmt: skip
    one, other = place(decoded, box, camera), place(mirrored, box, camera)
    np.testing.assert_allclose(other.joints_3d, one.joints_3d * mirror, atol=1e-6)
    np.testing.assert_allclose(other.vertices, one.vertices * mirror, atol=1e-6)
    np.testing.assert_array_equal(other.translation_source, one.translation_source)


def test_joints_of_no_weight_change_nothing():
    camera = CAMERAS["assumed"]
    joints, _, box, decoded = setting(camera)
    decoded.joints_2d[:, [4, 8, 12]] += 0.5
    decoded.joint_scores[:, [4, 8, 12]] = 0
    np.testing.assert_allclose(place(decoded, box, camera).root_translation, joints[:, 0], atol=2e-5)


def test_a_joint_in_the_wrong_place_does_not_move_the_hand():
    """A third of the hand's size off: plain least squares would misplace the hand by 8 % of its distance."""
    camera = CAMERAS["assumed"]
    joints, _, box, decoded = setting(camera, count=50)
    decoded.joints_2d[:, 8] += 0.3 * np.ptp(decoded.joints_2d, axis=1).max(1, keepdims=True)
    moved = np.linalg.norm(place(decoded, box, camera).root_translation - joints[:, 0], axis=1)
    assert np.percentile(moved / joints[:, 0, 2], 90) < 0.002


def test_noisy_joints_give_the_depth_to_some_per_cent():
    camera = CAMERAS["assumed"]
    joints, _, box, decoded = setting(camera, count=100)
    rng = np.random.default_rng(0)
    decoded.joints_2d += rng.normal(0, 1, decoded.joints_2d.shape).astype(np.float32) / [416, 320]
    decoded.joints_3d += rng.normal(0, 0.004, decoded.joints_3d.shape).astype(np.float32)
    placed = place(decoded, box, camera)
    error = placed.root_translation[:, 2] / joints[:, 0, 2] - 1
    reprojected = placed.translation_source == TranslationSource.REPROJECTION
    assert reprojected.mean() > 0.9
    assert np.abs(np.median(error)) < 0.02 and np.percentile(np.abs(error[reprojected]), 90) < 0.1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.joints_2d.__setitem__(slice(None), d.joints_2d[:, :1]),  # all joints on one point
        lambda d: d.joints_2d.__setitem__(slice(None), 2 * d.joints_2d[:, :1] - d.joints_2d),  # upside down
        lambda d: d.joint_scores.__setitem__((slice(None), slice(2, None)), 0),  # two joints left
        lambda d: d.scale.__imul__(4),  # the two ways differ wildly
    ],
)
def test_where_reprojection_cannot_be_right_the_networks_own_place_is_taken(spoil):
    camera = CAMERAS["assumed"]
    joints, _, box, decoded = setting(camera)
    spoil(decoded)
    placed = place(decoded, box, camera)
    assert (placed.translation_source == TranslationSource.NETWORK).all()
    ratio = 4 if not np.allclose(decoded.scale, setting(camera)[3].scale) else 1
    np.testing.assert_allclose(placed.root_translation, joints[:, 0] / ratio, rtol=1e-4)


def test_hands_are_placed_one_by_one():
    camera = PLUMB_BOB
    _, _, box, decoded = setting(camera)
    together = place(decoded, box, camera)
    for i in range(4):
        alone = place(Decoded(**{k: v[i : i + 1] for k, v in vars(decoded).items()}), box, camera)
        np.testing.assert_allclose(alone.joints_3d[0], together.joints_3d[i], atol=1e-9)


def test_joints_far_outside_the_lens_do_not_spoil_the_hand():
    """Beyond its edge a lens polynomial folds back and has no inverse."""
    lens = Camera(PLUMB_BOB.k, 640, 480, (-0.35, 0.05, 0, 0, 0))
    joints, _, box, decoded = setting(lens)
    decoded.joints_2d[:, 10:] = [6.0, -5.0]
    placed = place(decoded, box, lens)
    assert (placed.translation_source == TranslationSource.REPROJECTION).all()
    np.testing.assert_allclose(placed.root_translation, joints[:, 0], atol=2e-5)
    np.testing.assert_allclose(placed.joints_2d[:, 10:], box.to_pixels(decoded.joints_2d)[:, 10:], atol=1e-9)
    decoded.root_2d[:] = [6.0, -5.0]
    assert np.isfinite(place(decoded, box, lens).joints_3d).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_2d_joints_gain_from_3d_joints(name):
    """Both err, each for itself; an unsure 2D joint is where the 3D joint says."""
    camera = CAMERAS[name]
    joints, _, box, decoded = setting(camera, count=100)
    truth = camera.project(joints)
    rng = np.random.default_rng(1)
    size = np.ptp(decoded.joints_2d, axis=1).max(1)[:, None, None]
    decoded.joint_scores[:, :10] = 0.5
    decoded.joint_scores[:, 10] = 0.0
    noise = rng.normal(0, 0.04, decoded.joints_2d.shape) * size
    noise[:, 10] *= 10
    decoded.joints_2d += noise.astype(np.float32)
    decoded.joints_3d += rng.normal(0, 0.003, decoded.joints_3d.shape).astype(np.float32)
    placed = place(decoded, box, camera)
    reprojected = placed.translation_source == TranslationSource.REPROJECTION
    assert reprojected.mean() > 0.9
    alone = place(decoded, box, camera, reproject=False).joints_2d

    def median_error(points, which):
        return np.median(np.linalg.norm(points - truth, axis=-1)[reprojected, which])

    assert median_error(placed.joints_2d, slice(0, 10)) < 0.75 * median_error(alone, slice(0, 10))
    assert median_error(placed.joints_2d, 10) < 0.2 * median_error(alone, 10)
    kept = placed.joints_2d[~reprojected], alone[~reprojected]
    np.testing.assert_allclose(*kept, atol=1e-9)


def test_where_the_camera_is_unknown_so_is_its_perspective():
    """Seen from afar, through a lens longer than the assumed one, a 3D joint is where it is without any."""
    longer = Camera([[12800, 0, 319.5], [0, 12800, 239.5], [0, 0, 1]], 640, 480)
    joints, vertices = scene()
    away = joints[:, :1] * [0, 0, 19]
    joints, vertices = joints + away, vertices + away
    box = Letterbox.fit(640, 480, 416, 32)
    decoded = seen_by(longer, joints, vertices, box)
    truth = longer.project(joints)
    decoded.joint_scores[:, 8] = 0
    decoded.joints_2d[:, 8] = 0.5

    def error(camera):
        return np.linalg.norm(place(decoded, box, camera).joints_2d - truth, axis=-1)[:, 8]

    known = Camera(Camera.assumed(640, 480).k, 640, 480)
    assert (error(Camera.assumed(640, 480)) < 1).all() and (error(known) > 2).any()


def test_3d_joints_beyond_the_fold_of_a_lens_say_nothing_of_the_picture():
    """The polynomial brings them back into the picture, far from where they are."""
    lens = Camera(
        np.array([[520, 0, 319.5], [0, 520, 239.5], [0, 0, 1.0]]), 640, 480, (-0.4, 0.2, 0, 0, -0.06)
    )
    joints, _, box, decoded = setting(lens)
    decoded.joint_scores[:] = 0.5
    _, y, z = joints[:, 8].T
    beyond = np.stack([1.6 * z, y, z], 1)
    inside = lens.project(beyond)
    assert ((inside > 0) & (inside < [639, 479])).all()
    turns = ray_rotations(joints[:, 0, :2] / joints[:, 0, 2:])
    decoded.joints_3d[:, 8] = np.einsum("ni,nij->nj", beyond - joints[:, 0], turns)
    placed = place(decoded, box, lens)
    assert (placed.translation_source == TranslationSource.REPROJECTION).all()
    np.testing.assert_allclose(placed.joints_2d[:, 8], box.to_pixels(decoded.joints_2d)[:, 8], atol=1e-9)
    assert np.abs(placed.joints_2d - box.to_pixels(decoded.joints_2d))[:, :8].max() < 5


def test_a_3d_joint_next_to_the_camera_says_nothing_of_the_picture():
    """There a millimetre is as wide as a hand."""
    camera = CAMERAS["off centre, fx is not fy"]
    joints, _, box, decoded = setting(camera)
    decoded.joint_scores[:] = 0.5
    near = joints[:, 8] * [[1, 1, 0]] + [0, 0, 0.004]
    turns = ray_rotations(joints[:, 0, :2] / joints[:, 0, 2:])
    decoded.joints_3d[:, 8] = np.einsum("ni,nij->nj", near - joints[:, 0], turns)
    placed = place(decoded, box, camera)
    assert (placed.translation_source == TranslationSource.REPROJECTION).all()
    np.testing.assert_allclose(placed.joints_2d[:, 8], box.to_pixels(decoded.joints_2d)[:, 8], atol=1e-9)


def test_a_sure_2d_joint_stays_where_it_is():
    camera = CAMERAS["assumed"]
    _, _, box, decoded = setting(camera)
    decoded.joint_scores[:] = 1.0
    decoded.joints_3d += np.random.default_rng(2).normal(0, 0.01, decoded.joints_3d.shape).astype(np.float32)
    np.testing.assert_allclose(
        place(decoded, box, camera).joints_2d, box.to_pixels(decoded.joints_2d), atol=1e-9
    )


def test_least_squares_is_the_least_squares_of_lapack():
    rng = np.random.default_rng(5)
    joints, points, weights = rng.normal(0, 0.1, (21, 3)), rng.normal(0, 0.2, (21, 2)), rng.uniform(0, 1, 21)
    # With the weights of the second pass undone, i.e. exact data up to one gross shift, both agree.
    translation = np.array([0.1, -0.05, 0.7])
    points = (joints + translation)[:, :2] / (joints + translation)[:, 2:]
    rows, rhs = [], []
    for (x, y), (X, Y, Z), w in zip(points, joints, np.sqrt(weights), strict=True):
        rows += [[w, 0, -w * x], [0, w, -w * y]]
        rhs += [w * (x * Z - X), w * (y * Z - Y)]
    expected = np.linalg.lstsq(np.array(rows), np.array(rhs), rcond=None)[0]
    solved, _ = translations(joints[None], points[None], weights[None])
    np.testing.assert_allclose(solved[0], expected, atol=1e-9)
    np.testing.assert_allclose(solved[0], translation, atol=1e-9)


@pytest.mark.parametrize("ray", [(0, 0), (0.7, -0.4), (-3, 2), (1e-9, 0)])
def test_the_ray_rotation_is_the_smallest_one(ray):
    (turn,) = ray_rotations(np.array([ray], float))
    direction = np.array([*ray, 1]) / np.linalg.norm([*ray, 1])
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ [0, 0, 1], direction, atol=1e-12)
    assert np.linalg.det(turn) > 0
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    assert angle == pytest.approx(np.arccos(np.clip(direction[2], -1, 1)), abs=1e-6)


def test_local_focal_length_of_a_lens():
    centre = np.zeros((1, 2))
    assert focal_lengths(PLUMB_BOB, centre)[0] == pytest.approx(np.sqrt(520 * 515), rel=1e-5)
    # Barrel distortion squeezes what is far from the middle.
    assert focal_lengths(PLUMB_BOB, np.array([[0.5, 0.0]]))[0] < 0.9 * 515
