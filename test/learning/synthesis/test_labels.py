"""Labels: projection, boxes, visibility, mirrors, empty pictures."""

import dataclasses

import numpy as np
import pytest
import torch

from handos_ros.hands import RIGHT
from handos_ros.learning.synthesis import labels as labels_module
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.generator import mirror
from handos_ros.learning.synthesis.labels import Labels, label
from handos_ros.learning.synthesis.lathe import turned_object
from handos_ros.learning.synthesis.lighting import draw_lights
from handos_ros.learning.synthesis.materials import Materials, stuffs
from handos_ros.learning.synthesis.render import render
from handos_ros.learning.synthesis.scene import Things


@pytest.fixture(scope="module")
def batch(synthetic):
    return synthetic.render(range(40), (160, 160))


def test_joints_project_through_k_onto_joints_2d(batch):
    there = batch.valid
    assert there.sum() > 30
    flat = torch.einsum("bij,bknj->bkni", batch.k, batch.joints_3d)[there]
    projected = flat[..., :2] / flat[..., 2:]
    assert (projected - batch.joints_2d[there]).abs().max() < 1e-2
    assert (batch.joints_3d[there][..., 2] > 0.03).all()


def test_joints_are_the_meshes(batch, synthetic):
    regressor = torch.tensor(synthetic.hand_model.joint_regressor)
    there = batch.valid
    assert (regressor @ batch.vertices[there] - batch.joints_3d[there]).abs().max() < 1e-5


def test_sides_are_those_of_the_meshes(batch, synthetic):
    """The signed volume of a mesh says which hand it is, whatever the label says."""
    there = batch.valid
    corners = batch.vertices[there][:, torch.tensor(synthetic.hand_model.faces).long()]
    centre = corners.mean((1, 2), keepdim=True)
    a, b, c = (corners - centre).unbind(2)
    volume = (a * torch.linalg.cross(b, c)).sum((1, 2))
    assert ((volume > 0) == (batch.handedness[there] == RIGHT)).all()
    assert 0.25 < (batch.handedness[there] == RIGHT).float().mean() < 0.75


def test_boxes_lie_in_the_frame_around_the_vertices(batch):
    there = batch.valid
    boxes = batch.boxes_px[there]
    assert (boxes >= -0.5).all() and (boxes <= 159.5).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 3).all()
    flat = torch.einsum("bij,bknj->bkni", batch.k, batch.vertices)[there]
    points = (flat[..., :2] / flat[..., 2:]).clamp(-0.5, 159.5)
    assert (torch.cat([points.amin(1), points.amax(1)], 1) - boxes).abs().max() < 0.01
    fractions = batch.boxes[there]
    assert (fractions[:, :2] - (boxes[:, :2] + boxes[:, 2:] + 1) / 320).abs().max() < 1e-5


def test_absent_hands_are_marked_and_zero(batch):
    absent = ~batch.valid
    assert (batch.handedness[absent] == -1).all()
    assert (batch.joints_2d[absent] == 0).all() and (batch.vertices[absent] == 0).all()
    assert batch.visibility[absent].isnan().all() and not batch.has_joints_3d[absent].any()


def test_a_mirror_swaps_sides_and_turns_everything(batch):
    labels = Labels(
        batch.valid, batch.boxes_px, batch.handedness.clamp(min=0), batch.joints_2d, batch.visibility,
        batch.joints_3d, batch.vertices,
    )  # fmt: skip
    pictures, k, mirrored = mirror(batch.images, batch.k, labels)
    there = batch.valid
    assert torch.equal(pictures[..., 0], batch.images[..., -1])
    assert torch.equal(mirrored.side[there], 1 - batch.handedness[there])
    np.testing.assert_allclose(mirrored.joints_2d[there][..., 0], 159 - batch.joints_2d[there][..., 0])
    flat = torch.einsum("bij,bknj->bkni", k, mirrored.joints_3d)[there]
    assert (flat[..., :2] / flat[..., 2:] - mirrored.joints_2d[there]).abs().max() < 1e-2
    assert (mirrored.boxes[there][:, 0] < mirrored.boxes[there][:, 2]).all()
    twice = mirror(pictures, k, mirrored)[2]
    assert (twice.boxes - labels.boxes).abs().max() < 1e-4


def _scene_of_one_hand(synthetic):
    for start in range(0, 400, 20):
        draws = Draws(synthetic.seed, torch.arange(start, start + 20))
        scene = synthetic._scenes.make(draws, 160, 160)
        for p in range(20):
            mine = (scene.hands.picture == p).nonzero()[:, 0]
            if len(mine) == 1 and scene.hands.points[mine, :, 2].min() > 0.2:
                pixels = labels_module.project(scene.joints[mine], scene.k[p : p + 1])
                inside = ((pixels > 15) & (pixels < 145)).all()
                if inside and (pixels.amax(1) - pixels.amin(1)).max() > 40:
                    return _only(scene, p, mine)
    raise AssertionError("no such scene among 400")


def _only(scene, p, mine):
    keep = Things(
        scene.hands.mesh, scene.hands.points[mine], torch.zeros_like(mine), scene.hands.flipped[mine],
        scene.hands.materials.select(mine),
    )  # fmt: skip
    none = torch.zeros(0, dtype=torch.int64)
    others = Things(
        scene.others.mesh, scene.others.points[none], none, scene.others.flipped[none],
        scene.others.materials.select(none),
    )  # fmt: skip
    return dataclasses.replace(
        scene, size=(1, 160, 160), k=scene.k[p : p + 1], hands=keep, others=others,
        slot=torch.zeros_like(mine), side=scene.side[mine], joints=scene.joints[mine],
        openness=scene.openness[mine],
    )  # fmt: skip


def _with_plate(scene, centre, half):
    """The scene with a flat box before or behind the hand."""
    one = torch.ones(1)
    plate = turned_object(
        torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2), torch.tensor([half]), 0.05 * one, 0 * one
    )
    materials = stuffs(Draws(0, torch.arange(1)), 1)
    others = Things(
        scene.others.mesh, plate + centre, torch.zeros(1, dtype=torch.int64), torch.zeros(1) > 0,
        Materials.cat([materials]),
    )  # fmt: skip
    return dataclasses.replace(scene, others=others)


def _labelled(synthetic, scene):
    lights = draw_lights(Draws(0, torch.arange(1)), torch.full((1, 3), 0.5))
    return label(scene, render(scene, lights, synthetic._bank))


def test_an_occluding_plane_hides_what_lies_behind_it(synthetic):
    scene = _scene_of_one_hand(synthetic)
    free = _labelled(synthetic, scene)
    assert free.valid[0, 0] and free.visibility[0, 0].sum() >= 8
    depth = float(scene.hands.points[..., 2].min())
    middle = scene.joints[0].mean(0)

    behind = _with_plate(scene, middle + torch.tensor([0, 0, 0.4]), [0.5, 0.5, 0.01])
    assert torch.equal(_labelled(synthetic, behind).visibility, free.visibility)

    before = _with_plate(scene, middle * (depth - 0.06) / middle[2], [0.5, 0.5, 0.005])
    hidden = _labelled(synthetic, before)
    assert not hidden.valid.any()  # nothing of the hand is to be seen, so it is no hand to be found

    # A plate whose left edge passes through the middle of the hand.
    edge = middle * (depth - 0.06) / middle[2] + torch.tensor([0.5, 0.0, 0.0])
    half = _labelled(synthetic, _with_plate(scene, edge, [0.5, 0.5, 0.005]))
    pixel = labels_module.project(edge[None, None] - torch.tensor([0.5, 0, 0]), scene.k)[0, 0, 0]
    x = free.joints_2d[0, 0, :, 0]
    assert (half.visibility[0, 0][x > pixel + 3] == 0).all()
    left = x < pixel - 3
    assert left.any() and torch.equal(half.visibility[0, 0][left], free.visibility[0, 0][left])
    assert torch.equal(half.boxes, free.boxes)  # boxes are around the whole hand


def test_pictures_without_hands(synthetic, batch):
    empty = (~batch.valid.any(1)).nonzero()[:, 0]
    assert len(empty)
    sample = synthetic.render([int(empty[0])], (160, 160))
    assert not sample.valid.any() and sample.images.float().std() > 1
