"""Learning from every place of the detector's maps: what it teaches, what it leaves alone, that it learns."""

import pytest

torch = pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

from tiny_networks import pictures, tiny_network  # noqa: E402
from tiny_training import sample, training  # noqa: E402

from handos_ros.errors import DataError, ModelError  # noqa: E402
from handos_ros.learning.sample import collate  # noqa: E402
from handos_ros.learning.training.config import StageConfig  # noqa: E402
from handos_ros.learning.training.dense import DenseHead, dense_losses, part_loss, sides_of  # noqa: E402
from handos_ros.learning.training.losses import LossWeights  # noqa: E402
from handos_ros.learning.training.targets import gather_targets  # noqa: E402
from handos_ros.network.detectors import Places  # noqa: E402

STAGE = StageConfig("dense", 1, detector=True, dense=True, decoder="none")


def places(batch, seed=0, count=24):
    """Places with their boxes here and there, the first one exactly on each picture's first hand."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(len(batch), count, 4, generator=generator) * 0.4 + 0.1
    boxes[:, 0] = batch.boxes[:, 0]
    logits = torch.zeros(len(batch), count)
    features = torch.randn(len(batch), count, 8, generator=generator)
    fine = torch.randn(len(batch), 6, 12, 16, generator=generator)
    return Places(*(t.requires_grad_() for t in (features, boxes, logits)), finest=(4, 5), fine=fine)


@pytest.fixture
def batch():
    return collate([sample([0]), sample([1, 2])])


def score_gradient(batch):
    """(B, P): which way each place's score is moved, above 0 for down."""
    said = places(batch)
    loss, _ = dense_losses(said, DenseHead(8, 6), batch, LossWeights())
    loss.backward()
    return said.logits.grad


def test_the_place_on_the_hand_scores_higher_and_the_others_lower(batch):
    gradient = score_gradient(batch)
    assert (gradient[:, 0] < 0).all(), "its box is exact: IoU 1"
    assert (gradient > 0).sum() > 12


def test_a_picture_with_hands_that_nobody_labelled_teaches_no_absence(batch):
    batch.exhaustive[0] = False
    gradient = score_gradient(batch)
    assert (gradient[0] != 0).sum() <= 3 and gradient[0, 0] < 0
    assert (gradient[1] > 0).sum() > 12


def test_a_picture_without_hands_teaches_absence_alone():
    gradient = score_gradient(collate([sample([])]))
    assert (gradient > 0).all()


def said_of_parts(batch, value=0.0):
    """What says `value` of every joint everywhere, with no offset; for 6 x 8 places of 16 px."""
    said = torch.zeros(len(batch), 6, 8, 63)
    said[..., :21] = value
    return said.requires_grad_()


def test_each_joint_is_looked_for_at_its_own_place_and_nowhere_else(batch):
    said = said_of_parts(batch)
    part_loss(said, batch).backward()
    gradient = said.grad[0, ..., :21]
    for joint, (x, y) in enumerate(batch.joints_2d[0, 0]):
        column, row = round(float((x + 0.5) / 16 - 0.5)), round(float((y + 0.5) / 16 - 0.5))
        raised = torch.nonzero(gradient[:, :, joint] < 0).tolist()
        inside = 0 <= row < 6 and 0 <= column < 8
        assert raised == ([[row, column]] if inside else [])


def test_hidden_joints_are_neither_here_nor_absent(batch):
    """In a mosaic another photograph lies there."""
    said = said_of_parts(batch)
    part_loss(said, replace(batch, visibility=torch.zeros_like(batch.visibility))).backward()
    seen = said_of_parts(batch)
    part_loss(seen, batch).backward()
    wanted = seen.grad[..., :21] < 0
    assert wanted.any() and not (said.grad[..., :21][wanted] != 0).any()
    assert (said.grad[..., :21] >= 0).all()


def test_an_exact_answer_about_the_parts_costs_nothing():
    batch = collate([sample([0])])
    said = said_of_parts(batch, -12.0).detach()
    at = (batch.joints_2d[0, 0] + 0.5) / 16 - 0.5
    own = at.round().long()
    for joint in range(21):
        place = said[0, own[joint, 1], own[joint, 0]]
        place[joint] = 12.0
        place[21 + 2 * joint : 23 + 2 * joint] = at[joint] - own[joint]
    assert part_loss(said, batch) < 1e-3
    assert part_loss(said_of_parts(batch, -12.0), batch) > 5


def test_pictures_with_unlabelled_joints_teach_no_absence(batch):
    batch.joints_2d_weight[0, 0] = 0
    said = said_of_parts(batch)
    part_loss(said, batch).backward()
    assert (said.grad[0] == 0).all() and (said.grad[1, ..., :21] > 0).any()


def test_several_places_learn_a_hand_and_their_boxes_move_towards_it(batch):
    said = places(batch)
    loss, terms = dense_losses(said, DenseHead(8, 6), batch, LossWeights())
    loss.backward()
    moved = said.boxes.grad.abs().sum(2) > 0
    assert (moved.sum(1) >= 3).all() and 0 < terms["iou"] < 1
    before = terms["iou"]
    with torch.no_grad():
        said.boxes -= 1e-3 * said.boxes.grad
    _, terms = dense_losses(said, DenseHead(8, 6), batch, LossWeights())
    assert terms["iou"] > before


def raised_hand(index_x, *, right, edge_on=False):
    """Fingers up, the wrist below: what is asked about its sides, and whether that is known."""
    batch = collate([sample([0])])
    width = 0.01 if edge_on else 1.0
    batch.joints_2d[0, 0, [0, 5, 17]] = torch.tensor(
        [[50.0, 80.0], [50 + width * index_x, 50.0], [50 - width * index_x, 50.0]]
    )
    batch.handedness[0, 0] = int(right)
    found = gather_targets(batch, torch.tensor([0]), torch.tensor([0]))
    return [part[0].tolist() for part in sides_of(found)]


def test_a_hands_side_is_told_apart_by_its_turn_and_by_what_faces_the_camera():
    # A right hand raised with its palm to the camera has its index finger on the picture's right.
    assert raised_hand(12, right=True) == [[True, False, False], [True] * 3]
    assert raised_hand(-12, right=True) == [[True, True, True], [True] * 3]
    assert raised_hand(-12, right=False) == [[False, True, False], [True] * 3]
    assert raised_hand(12, right=False) == [[False, False, True], [True] * 3]
    assert raised_hand(12, right=True, edge_on=True)[1] == [True, False, False]


def test_what_is_not_labelled_teaches_no_side(batch):
    batch.handedness[0, 0], batch.joints_2d_weight[0, 0, 17] = -1, 0
    found = gather_targets(batch, torch.tensor([0]), torch.tensor([0]))
    assert not sides_of(found)[1].any()


def test_a_hand_is_learned_by_heart_from_the_places():
    network = tiny_network(frozen=False)
    step = training(STAGE, network)
    batch = collate([sample([0])])
    optimizer = torch.optim.Adam([p for p in step.parameters() if p.requires_grad], 1e-2)
    for number in range(200):
        loss, terms = step(batch)
        if not number:
            first = terms
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert terms["iou"] > 0.65 > 0.5 > first["iou"]
    assert terms["joints_2d"] < 0.3 * first["joints_2d"] and terms["side"] < 0.1


def test_only_backbone_and_encoder_learn():
    network = tiny_network(frozen=False)
    loss, _ = training(STAGE, network)(collate([sample([0])]))
    loss.backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".backbone." in name for name in moved)
    assert any(".enc_bbox_head." in name for name in moved)
    assert not any(name.startswith(("side", "decoder")) or ".model.decoder." in name for name in moved)


@pytest.mark.parametrize("kind", ["d_fine", "rt_detr", "rt_detr_v2"])
def test_queries_are_chosen_among_the_places(kind):
    network = tiny_network(kind)
    images = pictures(2)
    with torch.no_grad():
        said, seen = network.detector.places(images), network.detect(images)
    best = said.logits.topk(seen.q_first.shape[1], dim=1).indices
    chosen = said.features.gather(1, best[..., None].expand(-1, -1, said.features.shape[2]))
    # The detector may keep fewer candidates than it decodes, in another order.
    near = (seen.q_first[:, :, None] - chosen[:, None]).abs().amax(-1)
    assert (near.amin(2) < 1e-4).sum() >= near.shape[0] * (near.shape[1] - 4)


def test_a_detector_that_reads_words_is_refused_by_name():
    network = tiny_network("grounding_dino", frozen=False)
    with pytest.raises(ModelError, match=r"grounding_dino cannot learn from the places.*leave out `dense`"):
        network.detector.places(pictures())
    with pytest.raises(ModelError, match="cannot learn from places: leave out `dense`"):
        training(StageConfig("both", 1, detector=True, dense=True), network)(collate([sample([0])]))


def test_a_dense_stage_whose_detector_is_frozen_is_refused():
    with pytest.raises(DataError, match="dense needs `detector: true`"):
        StageConfig("dense", 1, dense=True)


def test_places_and_queries_may_learn_together():
    network = tiny_network(frozen=False)
    step = training(StageConfig("both", 1, detector=True, dense=True), network)
    loss, terms = step(collate([sample([0])]))
    loss.backward()
    assert {"detector", "joints_2d", "dense/joints_2d", "dense/parts", "dense/side"} <= terms.keys()
    assert "dense/score" not in terms, "scores are the detector's: one place for each hand"
    queries = network.detector.model.model.decoder.parameters()
    assert step.dense.out.weight.grad.any() and any(p.grad is not None and p.grad.any() for p in queries)


def test_places_may_count_for_less_beside_the_queries():
    step = training(StageConfig("both", 1, detector=True, dense=True), tiny_network(frozen=False))
    taught = (step.dense.out.weight, step.network.decoder.joint_score.weight)
    gradients = []
    for weight in (1.0, 0.25):
        step.stage = replace(step.stage, dense_weight=weight)
        step.zero_grad()
        torch.manual_seed(0)
        step(collate([sample([0])]))[0].backward()
        gradients.append([parameter.grad.clone() for parameter in taught])
    (places, decoder), (less, same) = gradients
    torch.testing.assert_close(less, 0.25 * places)
    torch.testing.assert_close(same, decoder)


def test_maps_of_large_values_do_not_drown_what_else_is_learned():
    network = tiny_network(frozen=False)
    step = training(StageConfig("both", 1, detector=True, dense=True, decoder="none"), network)
    batch = collate([sample([0])])
    places = network.detector.places(batch.images)
    costs = []
    for size in (1.0, 1000.0):
        large = replace(places, fine=size * places.fine)
        costs.append(dense_losses(large, step.dense, batch, LossWeights())[1]["fine_parts"])
    assert float(costs[1]) == pytest.approx(float(costs[0]), rel=0.05)
