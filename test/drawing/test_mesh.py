"""The rasteriser: hidden surfaces, backs, outlines, resolution."""

from __future__ import annotations

import numpy as np
import pytest

from handos_ros.drawing.mesh import draw_mesh
from handos_ros.hands import Camera

CAMERA = Camera.assumed(320, 240)
COLOUR = (200, 150, 100)


def drawn(vertices: np.ndarray, faces: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
    vertices = np.asarray(vertices, np.float32)
    draw_mesh(canvas, camera.project(vertices), vertices, np.asarray(faces), COLOUR)
    return canvas


def sphere(
    radius: float, centre: tuple[float, float, float], rings: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces, counter-clockwise from outside."""
    polar, around = np.mgrid[0 : np.pi : (rings + 1) * 1j, 0 : 2 * np.pi : (2 * rings + 1) * 1j][..., :-1]
    unit = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], -1)
    grid = np.arange(polar.size).reshape(polar.shape)
    grid = np.concatenate([grid, grid[:, :1]], 1)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    faces = np.concatenate([np.stack([c, b, a], -1).reshape(-1, 3), np.stack([d, c, a], -1).reshape(-1, 3)])
    return unit.reshape(-1, 3) * radius + centre, faces


# Seen from the camera (y down) this winding is counter-clockwise.
SQUARE = np.array([[-1, -1, 0], [-1, 1, 0], [1, 1, 0], [1, -1, 0]], float)
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def test_the_near_side_hides_the_far_one_in_any_order_of_faces() -> None:
    near = SQUARE * 0.05 + [0, 0, 0.5]
    far = SQUARE * 0.15 @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]) + [0, 0, 0.9]
    both, faces = np.concatenate([near, far]), np.concatenate([SQUARE_FACES, SQUARE_FACES + 4])
    alone, behind = drawn(near, SQUARE_FACES), drawn(far, SQUARE_FACES)
    middle = (slice(112, 128), slice(152, 168))
    assert np.abs(alone[middle].astype(int) - behind[middle]).max() > 20  # the two can be told apart
    for order in (faces, faces[::-1]):
        together = drawn(both, order)
        assert np.abs(together[middle].astype(int) - alone[middle]).max() <= 2
        assert np.abs(together[95:100, 135:140].astype(int) - behind[95:100, 135:140]).max() <= 25


def test_backs_are_not_drawn() -> None:
    square = SQUARE * 0.05 + [0, 0, 0.5]
    assert drawn(square, SQUARE_FACES).any()
    assert not drawn(square, SQUARE_FACES[:, ::-1]).any()


@pytest.mark.parametrize(("size", "diameter"), [((320, 240), 60), ((640, 480), 300), ((2560, 1920), 1400)])
def test_outlines_are_true_at_any_size(size: tuple[int, int], diameter: float) -> None:
    """A ball far away looks like a circle: its area, weighted by opacity, within a per cent."""
    camera = Camera.assumed(*size)
    distance, u, v = 5.0, size[0] * 0.45, size[1] * 0.52
    x, y = (u - camera.k[0, 2]) / size[0] * distance, (v - camera.k[1, 2]) / size[0] * distance
    vertices, faces = sphere(diameter / 2 / size[0] * distance, (x, y, distance))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    draw_mesh(canvas, camera.project(vertices), vertices.astype(np.float32), faces, (255, 255, 255))
    mask = canvas[..., 0] > canvas[canvas[..., 0] > 0].max() * 0.1
    points = camera.project(vertices)
    across, down = points.max(0) - points.min(0)
    assert mask.sum() == pytest.approx(np.pi / 4 * across * down, rel=0.06)
    rows, columns = np.nonzero(mask)
    middle = (points.max(0) + points.min(0)) / 2
    assert [columns.mean(), rows.mean()] == pytest.approx(middle, abs=max(0.5, diameter / 300))


def test_light_comes_from_above_and_fades_smoothly() -> None:
    vertices, faces = sphere(0.1, (0, 0, 0.5), rings=12)
    brightness = drawn(vertices, faces).astype(int).sum(-1)
    assert brightness[90, 160] > brightness[150, 160] + 30
    # Across the middle no step as large as a facet's would be.
    row = brightness[120, 130:190]
    assert np.abs(np.diff(row)).max() < 20 and row.max() - row.min() > 20


@pytest.mark.filterwarnings("error")
def test_faces_of_which_a_corner_is_behind_the_camera_are_left_out() -> None:
    vertices = np.array([[-0.1, -0.1, 0.5], [-0.1, 0.1, 0.5], [0.1, 0.1, 0.5], [0.1, -0.1, -0.2]])
    canvas = drawn(vertices, SQUARE_FACES)
    assert canvas.any()
    assert (canvas.any(-1) == drawn(vertices[:3], SQUARE_FACES[:1]).any(-1)).all()
    assert not drawn(vertices - [0, 0, 1], SQUARE_FACES).any()


def test_faces_without_area_and_numbers_beyond_all_bounds() -> None:
    square = SQUARE * 0.05 + [0, 0, 0.5]
    faces = np.concatenate([SQUARE_FACES, [[0, 0, 1], [2, 2, 2]]])
    assert (drawn(square, faces) == drawn(square, SQUARE_FACES)).all()
    huge = SQUARE * 1e6 + [0, 0, 0.5]
    assert drawn(huge, SQUARE_FACES).any()
