"""What people see: hands over their picture."""

from __future__ import annotations

import numpy as np
import pytest

from handos_ros.drawing import mesh, overlay
from handos_ros.drawing.overlay import LEFT_COLOUR, draw_hands
from handos_ros.drawing.overlay import RIGHT_COLOUR as RIGHT_MESH
from handos_ros.drawing.skeleton import FINGER_COLOURS
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hands import LEFT, RIGHT, Camera, Hands
from standin import RIGHT_COLOUR, draw_disc, standin_pipeline

MODEL = load_hand_model()


def hands_at(camera: Camera, *places: tuple[float, float, float, int]) -> Hands:
    """Open hands, fingers up, palm to the camera: u, v of the middle knuckle, z in m, side."""
    n = len(places)
    up = MODEL.template * np.float32([1, -1, -1])
    vertices = np.stack([up * ([-1, 1, 1] if side == LEFT else [1, 1, 1]) for *_, side in places])
    joints = MODEL.joint_regressor @ vertices
    for i, (u, v, z, _) in enumerate(places):
        x, y = (np.array([u, v]) - camera.k[:2, 2]) / camera.k[0, 0] * z
        shift = [x, y, z] - joints[i, 9]
        vertices[i] += shift
        joints[i] += shift
    points = camera.project(vertices)
    one = np.ones(n, np.float32)
    return Hands(
        camera=camera,
        boxes=np.concatenate([points.min(1), points.max(1)], 1).astype(np.float32),
        scores=0.9 * one,
        handedness=np.array([side for *_, side in places], np.uint8),
        handedness_scores=one,
        joints_2d=camera.project(joints).astype(np.float32),
        joint_scores=np.ones((n, 21), np.float32),
        joints_3d=joints.astype(np.float32),
        vertices=vertices.astype(np.float32),
        root_translation=joints[:, 0].astype(np.float32),
        translation_source=np.zeros(n, np.uint8),
        ids=np.full(n, -1, np.int32),
    )


CAMERA = Camera.assumed(640, 480)
GROUND = np.full((480, 640, 3), 40, np.uint8)


def only(part: str) -> dict[str, bool]:
    return {name: name == part for name in ("mesh", "skeleton", "labels")}


def changed(picture: np.ndarray, ground: np.ndarray = GROUND) -> np.ndarray:
    return (picture != ground).any(-1)


def test_a_new_picture_of_the_same_size() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.5, RIGHT))
    ground = GROUND.copy()
    drawn = draw_hands(ground, hands, MODEL)
    assert (ground == GROUND).all() and drawn.shape == GROUND.shape and drawn.dtype == np.uint8
    assert changed(drawn).any()


def test_no_hands_is_a_copy() -> None:
    drawn = draw_hands(GROUND, Hands.empty(CAMERA), MODEL)
    assert (drawn == GROUND).all() and drawn is not GROUND


def test_a_picture_that_may_not_be_written_to_or_is_a_view() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.5, RIGHT))
    ground = np.ascontiguousarray(GROUND[..., ::-1])[..., ::-1]
    ground.setflags(write=False)
    assert (draw_hands(ground, hands, MODEL) == draw_hands(GROUND, hands, MODEL)).all()


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_the_mesh_covers_the_hand_and_nothing_else(side: int) -> None:
    """Against the triangles themselves: a pixel is covered if any triangle holds its centre."""
    hands = hands_at(CAMERA, (320, 240, 0.5, side))
    black, white = (
        draw_hands(np.full_like(GROUND, value), hands, MODEL, **only("mesh")) for value in (0, 255)
    )
    covered = white.astype(int)[..., 0] - black[..., 0] < 255 * 0.7  # mostly: the outline is smoothed
    points = CAMERA.project(hands.vertices[0])
    a, b, c = points[MODEL.faces].transpose(1, 0, 2)
    (left, top), (right, bottom) = points.min(0).astype(int) - 9, points.max(0).astype(int) + 9
    y, x = np.mgrid[top:bottom:6, left:right:6]
    p = np.stack([x, y], -1).reshape(-1, 1, 2)

    def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    sides = np.stack([cross(b - a, p - a), cross(c - b, p - b), cross(a - c, p - c)])
    inside = ((sides >= 0).all(0) | (sides <= 0).all(0)).any(1).reshape(y.shape)
    assert inside.sum() > 500 and covered.sum() < 6 * 6 * 1.1 * inside.sum()
    # OpenCV fills every pixel that a triangle touches: up to half a pixel more all around.
    assert (covered[y, x] & ~inside).sum() < 0.05 * inside.sum()
    assert (inside & ~covered[y, x]).sum() < 0.01 * inside.sum()


def test_a_left_hand_is_seen_from_outside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a light from straight above it is the mirror image of a right one, but for its colour."""
    monkeypatch.setattr(mesh, "_LIGHT", np.array([0, -0.6, -0.8]))
    monkeypatch.setattr(overlay, "LEFT_COLOUR", overlay.RIGHT_COLOUR)
    right, left = (
        draw_hands(GROUND, hands_at(CAMERA, (319.5, 240, 0.4, side)), MODEL, **only("mesh")).astype(int)
        for side in (RIGHT, LEFT)
    )
    assert changed(right).sum() > 20_000
    different = np.abs(right - left[:, ::-1])[changed(right)]
    assert different.mean() < 2


def test_colours_tell_the_sides() -> None:
    hands = hands_at(CAMERA, (180, 240, 0.6, LEFT), (460, 240, 0.6, RIGHT))
    drawn = draw_hands(np.zeros_like(GROUND), hands, MODEL, **only("mesh")).astype(float)
    for u, colour in ((180, LEFT_COLOUR), (460, RIGHT_MESH)):
        mean = drawn[230:270, u - 15 : u + 15].mean((0, 1))
        hue = mean / mean.max() - np.array(colour) / max(colour)
        assert np.abs(hue).max() < 0.2


def test_the_mesh_is_translucent_and_shaded() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.4, RIGHT))
    black, white = np.zeros_like(GROUND), np.full_like(GROUND, 255)
    on_black = draw_hands(black, hands, MODEL, **only("mesh")).astype(int)
    on_white = draw_hands(white, hands, MODEL, **only("mesh")).astype(int)
    inside = changed(on_black, black)
    through = (on_white - on_black)[inside].mean()
    assert 40 < through < 150
    assert on_black[inside].sum(-1).std() > 30


def test_the_nearer_hand_hides_the_farther_one() -> None:
    for order in ([0, 1], [1, 0]):
        hands = hands_at(CAMERA, (320, 240, 0.8, LEFT), (330, 240, 0.5, RIGHT)).select(order)
        drawn = draw_hands(np.zeros_like(GROUND), hands, MODEL, **only("mesh"))
        red, _, blue = drawn[230:250, 315:335].reshape(-1, 3).mean(0)
        assert red > blue  # the colour of the right hand, which is nearer


def test_hands_that_are_partly_or_wholly_outside() -> None:
    for place in ((0, 0, 0.3), (640, 480, 0.3), (-3000, 240, 0.5), (320, 240, 0.05), (320, 240, -0.5)):
        for side in (LEFT, RIGHT):
            hands = hands_at(CAMERA, (*place, side))
            draw_hands(GROUND, hands, MODEL)


def test_a_lens_bends_the_mesh_with_the_joints() -> None:
    camera = Camera(CAMERA.k, 640, 480, distortion=np.array([-0.3, 0.1, 0, 0]))
    hands = hands_at(camera, (320, 240, 0.5, RIGHT))
    hands.vertices[..., 0] += 0.18
    hands.joints_3d[..., 0] += 0.18
    covered = changed(draw_hands(GROUND, hands, MODEL, **only("mesh")))
    inside = camera.project(hands.joints_3d[0])
    palm = np.round(inside[[5, 9, 13]]).astype(int)
    assert covered[palm[:, 1], palm[:, 0]].all()
    straight = np.round(Camera(CAMERA.k, 640, 480).project(hands.vertices[0])).astype(int)
    beyond = straight[straight[:, 0] > np.flatnonzero(covered.any(0)).max() + 5]
    assert len(beyond)  # without the distortion the hand would reach farther out


def test_fingers_have_their_colours() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.4, RIGHT))
    drawn = draw_hands(GROUND, hands, MODEL, **only("skeleton"))
    for finger, colour in enumerate(FINGER_COLOURS):
        for joint in range(4 * finger + 2, 4 * finger + 5):
            u, v = np.round(hands.joints_2d[0, joint]).astype(int)
            assert np.abs(drawn[v, u].astype(int) - colour).max() < 40, joint


def test_joints_that_are_not_finite_are_left_out() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.4, RIGHT))
    u, v = np.round(hands.joints_2d[0, 8]).astype(int)
    hands.joints_2d[0, 8] = np.nan
    hands.joints_2d[0, 12] = 1e30
    drawn = draw_hands(GROUND, hands, MODEL, **only("skeleton"))
    assert not changed(drawn)[v - 2 : v + 3, u - 2 : u + 3].any()
    assert changed(drawn).any()


def test_lines_and_letters_grow_with_the_picture() -> None:
    shares = []
    for width, height in ((1280, 960), (2560, 1920)):
        camera, ground = Camera.assumed(width, height), np.full((height, width, 3), 40, np.uint8)
        hands = hands_at(camera, (width / 2, height / 2, 0.5, RIGHT))
        shares.append([changed(draw_hands(ground, hands, MODEL, **only(part)), ground).mean() for part in
                       ("skeleton", "labels", "mesh")])  # fmt: skip
    assert np.allclose(*shares, rtol=0.3)


@pytest.mark.parametrize("size", [(160, 120), (1280, 720), (4000, 3000)])
def test_labels_stay_inside_and_apart(size: tuple[int, int]) -> None:
    width, height = size
    ground = np.full((height, width, 3), 40, np.uint8)
    corners = [(0.02, 0.02), (0.98, 0.02), (0.02, 0.98), (0.98, 0.98)]
    places = [(u * width, v * height, 0.8, RIGHT) for u, v in corners]
    hands = hands_at(Camera.assumed(*size), *places)
    one = changed(draw_hands(ground, hands.select([0]), MODEL, **only("labels")), ground).sum()
    four = changed(draw_hands(ground, hands, MODEL, **only("labels")), ground).sum()
    assert 4 * one * 0.95 < four < 4 * one * 1.05
    same = hands_at(Camera.assumed(*size), *[(width / 2, height / 2, 0.8, RIGHT)] * 3)
    three = changed(draw_hands(ground, same, MODEL, **only("labels")), ground).sum()
    assert 3 * one * 0.95 < three < 3 * one * 1.05
    assert one > 30 * 8  # readable even in the smallest


def test_labels_tell_side_score_and_number() -> None:
    hands = hands_at(CAMERA, (320, 240, 0.5, RIGHT))

    def label(**values: object) -> np.ndarray:
        for name, value in values.items():
            getattr(hands, name)[0] = value
        return draw_hands(GROUND, hands, MODEL, **only("labels"))

    seen = [label(), label(scores=0.5), label(ids=7), label(ids=8), label(handedness=LEFT)]
    assert all((a != b).any() for i, a in enumerate(seen) for b in seen[:i])
    # The number makes the label wider.
    assert changed(seen[2]).sum() > changed(seen[1]).sum()


def test_without_a_mesh_or_a_model() -> None:
    pipeline = standin_pipeline()
    picture = draw_disc(np.full((240, 320, 3), 40, np.uint8), (160, 120), 90, RIGHT)
    bare = pipeline(picture, mesh=False)
    assert len(bare) == 1 and bare.vertices.shape[1] == 0
    full = pipeline(picture)
    a = draw_hands(picture, bare, pipeline.hand_model)
    b = draw_hands(picture, full, None)
    c = draw_hands(picture, full, pipeline.hand_model)
    assert (a == b).all() and (a != c).any()
    assert tuple(picture[120, 160]) == RIGHT_COLOUR
