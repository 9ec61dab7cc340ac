"""Targets: the ray frame, the projection back, and what each kind of label becomes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from handos_ros.hands import Camera  # noqa: E402
from handos_ros.inference.place import ray_rotations  # noqa: E402
from handos_ros.learning.sample import Sample, collate  # noqa: E402
from handos_ros.learning.training.targets import gather_targets, project, rotation_to_ray  # noqa: E402

K = np.array([[300.0, 2.0, 100.0], [0, 310.0, 80.0], [0, 0, 1]])


def test_the_ray_turns_onto_the_axis_by_the_smallest_rotation():
    ray = torch.tensor([[0.3, -0.2, 0.9], [0.0, 0.0, 2.0], [-1.0, 1.0, 0.1]])
    r = rotation_to_ray(ray)
    on_axis = torch.einsum("mij,mj->mi", r, ray)
    torch.testing.assert_close(on_axis, torch.stack([torch.zeros(3), torch.zeros(3), ray.norm(dim=1)], 1))
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3).expand(3, 3, 3))
    angle = torch.arccos((r.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2)
    torch.testing.assert_close(angle, torch.arccos(ray[:, 2] / ray.norm(dim=1)), atol=1e-3, rtol=1e-3)


def test_the_ray_frame_is_the_one_that_the_pipeline_turns_back_from():
    points = np.random.default_rng(0).normal(0, 0.5, (9, 2))
    rays = torch.from_numpy(np.concatenate([points, np.ones((9, 1))], 1))
    np.testing.assert_allclose(
        rotation_to_ray(rays).numpy(), ray_rotations(points).swapaxes(1, 2), atol=1e-12
    )


def hand_in_view(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal((0.15, -0.1, 0.6), 0.04, (1, 21, 3))


def test_exact_labels_come_back_through_the_projection():
    joints = hand_in_view()
    camera = Camera(K, 200, 160)
    sample = Sample.labelled(
        np.zeros((160, 200, 3), np.uint8), [[0, 0, 99, 99]], k=K, joints_2d=camera.project(joints),
        joints_3d=joints, vertices=joints[:, ::-1],
    )  # fmt: skip
    t = gather_targets(collate([sample], stride=32), torch.tensor([0]), torch.tensor([0]))
    assert t.exact_3d.all() and t.has_vertices.all() and not t.weak_3d.any()
    assert t.picture_size == (224, 160)
    np.testing.assert_allclose(t.joints_3d[0, 0], 0, atol=1e-6)
    lengths = np.linalg.norm(joints[0] - joints[0, 0], axis=1)
    np.testing.assert_allclose(t.joints_3d[0].norm(dim=1), lengths, atol=1e-6)
    torch.testing.assert_close(t.vertices, t.joints_3d.flip(1))
    scale = torch.tensor([np.sqrt(300 * 310) / joints[0, 0, 2]], dtype=torch.float32)
    back = project(t.joints_3d, t.joints_2d[:, 0], scale, t.k)
    torch.testing.assert_close(back, t.joints_2d, atol=2e-3, rtol=0)


def test_joints_far_outside_the_picture_are_not_asked_for_in_2d():
    joints_2d = np.tile(np.float32([100, 80]), (1, 21, 1))
    joints_2d[0, 1:5] = [[-29, 80], [-31, 80], [100, 189], [9000, -4000]]
    sample = Sample.labelled(np.zeros((160, 200, 3), np.uint8), [[0, 0, 99, 99]], joints_2d=joints_2d)
    t = gather_targets(collate([sample]), torch.tensor([0]), torch.tensor([0]))
    assert torch.nonzero(t.joints_2d_weight[0] == 0).flatten().tolist() == [2, 4]


def test_the_ray_frame_forgets_where_in_the_picture_a_hand_was():
    # The camera turned about its centre sees the same view of the hand elsewhere.
    joints = hand_in_view()
    angle = 0.3
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    straight = joints - joints[:, :1] + [0, 0, 0.6]
    samples = [
        Sample.labelled(np.zeros((9, 9, 3), np.uint8), [[0, 0, 1, 1]], k=K, joints_3d=j)
        for j in (straight, straight @ turn.T)
    ]
    t = gather_targets(collate(samples), torch.tensor([0, 1]), torch.tensor([0, 0]))
    torch.testing.assert_close(t.joints_3d[0], t.joints_3d[1], atol=1e-6, rtol=0)


def test_a_teachers_joints_turn_only_where_the_camera_is_known():
    joints = hand_in_view() - hand_in_view()[:, :1]
    kwargs = {
        "joints_2d": np.full((1, 21, 2), 10.0), "joints_3d": joints, "joints_3d_absolute": [False],
    }  # fmt: skip
    picture = np.zeros((40, 60, 3), np.uint8)
    samples = [
        Sample.labelled(picture, [[0, 0, 1, 1]], **kwargs),
        Sample.labelled(picture, [[0, 0, 1, 1]], k=K, **kwargs),
    ]
    t = gather_targets(collate(samples), torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert t.weak_3d.all() and not t.exact_3d.any() and not t.has_vertices.any()
    np.testing.assert_allclose(t.joints_3d[0], joints[0], atol=1e-6)
    r = rotation_to_ray(
        torch.from_numpy(np.array([[(10 - 100 - 2 * (10 - 80) / 310) / 300, (10 - 80) / 310, 1]]))
    )
    np.testing.assert_allclose(t.joints_3d[1], joints[0] @ r[0].numpy().T, atol=1e-6)


def test_an_unknown_camera_bends_nothing():
    sample = Sample.labelled(np.zeros((40, 60, 3), np.uint8), [[0, 0, 1, 1]])
    t = gather_targets(collate([sample], stride=32), torch.tensor([0]), torch.tensor([0]))
    near_and_far = torch.tensor([[[0.0, 0, 0], [0.1, 0.05, -0.06], [0.1, 0.05, 0.06]]])
    points = project(near_and_far, torch.tensor([[50.0, 30.0]]), torch.tensor([300.0]), t.k)
    torch.testing.assert_close(points[0, 1:], torch.tensor([[80.0, 45.0]] * 2), atol=0.3, rtol=0)


def test_points_behind_the_camera_stay_on_their_side_of_the_picture():
    joints = torch.zeros(1, 21, 3)
    joints[0, 5] = torch.tensor([0.1, 0.0, -5.0])
    scale = torch.tensor([300.0], requires_grad=True)
    k = torch.from_numpy(K).float()[None]
    points = project(joints, torch.tensor([[50.0, 50.0]]), scale, k)
    assert torch.isfinite(points).all()
    assert points[0, 5, 0] > 50  # the joint is to the right of the wrist; behind the camera it would flip
    points.sum().backward()
    assert torch.isfinite(scale.grad).all()
