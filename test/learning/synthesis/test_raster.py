"""The rasteriser against one that asks every pixel about every triangle."""

import numpy as np
import torch

from handos_ros.learning.synthesis.raster import EMPTY, expand, faces_of, inverse_depths_of, rasterise


def brute_force(corners, picture, size):
    """Nearest triangle by float64 barycentrics at every pixel, and how near the pixel is to a border."""
    _, h, w = size
    y, x = np.mgrid[:h, :w].astype(float)
    faces = np.full(size, -1)
    nearest = np.zeros(size)
    border = np.full(size, np.inf)
    for t, (triangle, p) in enumerate(zip(corners.double().numpy(), picture.numpy(), strict=True)):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = triangle
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        u = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
        v = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
        weights = np.stack([u, v, 1 - u - v])
        border[p] = np.minimum(border[p], np.abs(weights).min(0))
        inverse_depth = np.tensordot([az, bz, cz], weights, 1)
        wins = (weights >= 0).all(0) & (inverse_depth > nearest[p])
        faces[p][wins] = t
        nearest[p][wins] = inverse_depth[wins]
    return faces, nearest, border


def random_triangles(count, size, seed, spread):
    random = torch.Generator().manual_seed(seed)
    b, h, w = size
    centre = torch.rand(count, 1, 2, generator=random) * torch.tensor([w * 1.4, h * 1.4]) - 0.2 * w
    xy = centre + spread * torch.randn(count, 3, 2, generator=random)
    z = 0.5 + torch.rand(count, 3, 1, generator=random)
    return torch.cat([xy, z], -1), torch.randint(0, b, (count,), generator=random)


def test_equals_brute_force():
    for seed, count, spread in ((0, 60, 12.0), (1, 200, 3.0), (2, 20, 80.0)):
        size = (3, 40, 56)
        corners, picture = random_triangles(count, size, seed, spread)
        keys = rasterise(corners, picture, size).reshape(size)
        faces, nearest, border = brute_force(corners, picture, size)
        mine = torch.where(keys == EMPTY, -1, faces_of(keys)).numpy()
        clear = border > 1e-4
        assert clear.mean() > 0.9
        assert (mine == faces)[clear].all()
        np.testing.assert_allclose(inverse_depths_of(keys).numpy()[clear], nearest[clear], atol=2e-4)
        assert (mine >= 0).sum() > 500


def test_a_mesh_has_neither_gaps_nor_pixels_drawn_twice():
    """A jittered grid whose corners also lie on pixel centres covers each pixel exactly once."""
    random = torch.Generator().manual_seed(3)
    n = 12
    y, x = torch.meshgrid(torch.arange(n) * 5.0 - 4, torch.arange(n) * 5.0 - 4, indexing="ij")
    points = torch.stack([x, y], -1)
    jitter = torch.randn(n, n, 2, generator=random).clamp(-2, 2)
    jitter[::3] = jitter[::3].round()
    points = (points + jitter).reshape(-1, 2)
    i = torch.arange(n * n).reshape(n, n)
    quads = torch.stack([i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]], -1).reshape(-1, 4)
    faces = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corners = torch.cat([points, torch.ones(len(points), 1)], 1)[faces]
    covered = torch.zeros(40, 40, dtype=torch.int64)
    for corner in corners:
        covered += rasterise(corner[None], torch.zeros(1, dtype=torch.int64), (1, 40, 40)).reshape(40, 40) > 0
    assert (covered == 1).all()


def test_the_first_of_equally_near_triangles_wins_and_winding_does_not_matter():
    triangle = torch.tensor([[2.0, 2.0, 1.0], [20.0, 3.0, 1.0], [5.0, 18.0, 1.0]])
    twice = torch.stack([triangle, triangle.flip(0)])
    keys = rasterise(twice, torch.zeros(2, dtype=torch.int64), (1, 24, 24))
    seen = keys[keys != EMPTY]
    assert len(seen) > 50
    assert (faces_of(seen) == 0).all()


def test_triangles_of_no_area_and_outside_the_picture_leave_it_empty():
    corners = torch.tensor(
        [
            [[3.0, 3.0, 1.0], [3.0, 3.0, 1.0], [3.0, 3.0, 1.0]],
            [[0.0, 5.0, 1.0], [9.0, 5.0, 2.0], [4.0, 5.0, 1.0]],
            [[-50.0, -50.0, 1.0], [-5.0, -40.0, 1.0], [-30.0, -4.0, 1.0]],
        ]
    )
    assert (rasterise(corners, torch.zeros(3, dtype=torch.int64), (1, 16, 16)) == EMPTY).all()
    none = rasterise(corners[:0], torch.zeros(0, dtype=torch.int64), (2, 4, 4))
    assert none.shape == (32,) and (none == EMPTY).all()


def test_expand():
    owner, place = expand(torch.tensor([2, 0, 3, 0]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert place.tolist() == [0, 1, 0, 1, 2]
    owner, place = expand(torch.zeros(0, dtype=torch.int64))
    assert len(owner) == len(place) == 0
