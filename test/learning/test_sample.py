"""Samples and batches: what is absent is masked, and padding changes no label."""

import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.learning.sample import Sample, collate

torch = pytest.importorskip("torch")


def picture(h, w, value=7):
    return np.full((h, w, 3), value, np.uint8)


def test_labels_that_are_not_given_are_masked():
    sample = Sample.labelled(picture(4, 6), [[1, 2, 3, 4]])
    assert len(sample) == 1
    assert sample.handedness.tolist() == [-1]
    assert (
        not sample.joints_2d_weight.any() and not sample.has_joints_3d.any() and not sample.has_vertices.any()
    )
    assert np.isnan(sample.visibility).all()


def test_labels_that_are_given_count():
    sample = Sample.labelled(
        picture(4, 6), [[1, 2, 3, 4]], joints_2d=np.ones((1, 21, 2)), joints_3d=np.ones((1, 21, 3)),
        vertices=np.ones((1, 5, 3)),
    )  # fmt: skip
    assert (sample.joints_2d_weight == 1).all()
    assert sample.has_joints_3d.all() and sample.joints_3d_absolute.all() and sample.has_vertices.all()


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"x\.png: Sample\.handedness"):
        good = Sample.labelled(picture(4, 6), [[1, 2, 3, 4]], source="x.png")
        Sample(**{**vars(good), "handedness": np.zeros(2, np.int8)})


def test_boxes_become_fractions_of_the_padded_picture():
    # 10 px wide, 8 high, padded to 16x16: the box that covers pixels 0..9 x 0..7 whole, edge to edge.
    batch = collate([Sample.labelled(picture(8, 10), [[-0.5, -0.5, 9.5, 7.5]])], stride=16)
    assert batch.picture_size == (16, 16)
    assert batch.size.tolist() == [[8, 10]]
    np.testing.assert_allclose(batch.boxes[0, 0], [5 / 16, 4 / 16, 10 / 16, 8 / 16])
    assert (batch.images[0, :, :8, :10] == 7).all() and not batch.images[0, :, 8:].any()


def test_hands_are_padded_and_masked():
    two = Sample.labelled(picture(4, 4), [[0, 0, 1, 1], [1, 1, 2, 2]], handedness=[0, 1], k=np.eye(3) * 2)
    none = Sample.labelled(picture(5, 3), exhaustive=False, source="empty")
    batch = collate([two, none])
    assert batch.valid.tolist() == [[True, True], [False, False]]
    assert batch.handedness.tolist() == [[0, 1], [-1, -1]]
    assert batch.has_k.tolist() == [True, False] and batch.exhaustive.tolist() == [True, False]
    assert not batch.boxes[1].any()
    assert batch.sources == ["", "empty"]


def test_only_pictures_without_hands_make_a_batch():
    batch = collate([Sample.labelled(picture(4, 4)), Sample.labelled(picture(4, 4))])
    assert batch.valid.shape == (2, 1) and not batch.valid.any()


def test_samples_with_and_without_vertices_mix():
    with_mesh = Sample.labelled(picture(4, 4), [[0, 0, 1, 1]], vertices=np.ones((1, 5, 3)))
    without = Sample.labelled(picture(4, 4), [[0, 0, 1, 1]])
    batch = collate([without, with_mesh])
    assert batch.vertices.shape == (2, 1, 5, 3)
    assert batch.has_vertices.tolist() == [[False], [True]]


def test_two_hand_models_in_one_batch_are_refused():
    samples = [
        Sample.labelled(picture(4, 4), [[0, 0, 1, 1]], vertices=np.ones((1, v, 3)), source=f"v{v}")
        for v in (5, 6)
    ]
    with pytest.raises(DataError, match="v5: 5 vertices beside 6"):
        collate(samples)


def test_select_keeps_the_order_asked_for():
    sample = Sample.labelled(picture(4, 4), [[0, 0, 1, 1], [1, 1, 2, 2]], handedness=[0, 1])
    assert sample.select([1, 0]).handedness.tolist() == [1, 0]
    assert len(sample.select([])) == 0


def test_moving_a_batch_moves_every_tensor():
    batch = collate([Sample.labelled(picture(4, 4), [[0, 0, 1, 1]])]).to("meta")
    assert batch.images.device.type == batch.has_vertices.device.type == "meta"
