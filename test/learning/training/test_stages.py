"""One training step: who learns from which hand, what moves and what does not, and that it learns at all."""

import pytest

torch = pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

import numpy as np  # noqa: E402
from tiny_networks import tiny_network  # noqa: E402
from tiny_training import sample, training  # noqa: E402

from handos_ros.learning.sample import collate  # noqa: E402
from handos_ros.learning.training.assignment import overlap  # noqa: E402
from handos_ros.learning.training.config import CloseUpConfig, StageConfig  # noqa: E402
from handos_ros.learning.training.stages import STRANGER, UNKNOWN, choose_queries  # noqa: E402
from handos_ros.network.detectors import DetectorOutput  # noqa: E402

STAGES = {
    "detector alone": StageConfig("detector", 1, detector=True, decoder="none"),
    "everything": StageConfig("everything", 1, detector=True, decoder="full"),
    "joints": StageConfig("joints", 1, decoder="2d"),
    "full": StageConfig("full", 1, decoder="full"),
}
OF_3D = ("decoder.lifting", "decoder.lifted_embedding", "decoder.vertex", "decoder.camera")


@pytest.fixture
def batch():
    return collate([sample([0]), sample([1, 2])])


def steps(module, batch, count, rate=1e-3):
    """Losses of so many steps of AdamW on the same batch, with the same chance."""
    learning = [p for p in module.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, rate, weight_decay=0.1)
    totals = []
    for _ in range(count):
        torch.manual_seed(0)
        total, _ = module(batch)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        totals.append(float(total.detach()))
    return totals


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_moves_what_it_is_to_teach_and_nothing_else(name, batch):
    stage = STAGES[name]
    network = tiny_network(frozen=False)
    module = training(stage, network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    steps(module, batch, 2)
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    parts = {key.split(".")[0] for key in moved}
    in_3d = {key for key in moved if key.startswith(OF_3D)}
    assert (
        parts
        == {
            "detector alone": {"detector"},
            "everything": {"detector", "side", "decoder"},
            "joints": {"side", "decoder"},
            "full": {"side", "decoder"},
        }[name]
    )
    if name in ("joints", "detector alone"):
        assert not in_3d
    else:
        heads = {key for key in before if key.startswith(OF_3D)}
        assert in_3d == heads
    if name == "joints":
        # Every layer learns in the 2D model: the interactive ones begin as 2D ones.
        layers = {key.split(".")[2] for key in moved if key.startswith("decoder.layers")}
        assert layers == {str(n) for n in range(len(network.decoder.layers))}


def test_a_frozen_detectors_batch_statistics_stay_too(batch):
    network = tiny_network(frozen=False)
    module = training(STAGES["full"], network)
    statistics = [k for k in network.state_dict() if k.startswith("detector") and "running" in k]
    before = {key: network.state_dict()[key].clone() for key in statistics}
    module(batch)
    assert statistics and all(torch.equal(network.state_dict()[key], before[key]) for key in statistics)


@pytest.mark.parametrize("name", ["everything", "joints"])
def test_the_loss_falls_on_a_batch_that_stays(name, batch):
    module = training(STAGES[name], tiny_network(frozen=False))
    totals = steps(module, batch, 30, rate=3e-3)
    assert np.mean(totals[-3:]) < 0.75 * totals[0], totals


def test_terms_are_those_of_the_stage(batch):
    terms = {
        name: set(training(stage, tiny_network(frozen=False))(batch)[1]) for name, stage in STAGES.items()
    }
    assert terms["detector alone"] == {"detector"}
    assert terms["joints"] == {"joints_2d", "oks_2d", "confidence", "presence"}
    assert terms["full"] == terms["everything"] - {"detector"}
    of_the_paper = {"vertices", "joints_3d", "normal", "edge", "nc", "joints_proj", "oks_proj"}
    assert terms["full"] >= terms["joints"] | of_the_paper


def test_a_stage_may_decode_other_numbers_of_hands_than_the_run(batch, monkeypatch):
    asked = []

    def spied(network):
        decode = network.decode
        monkeypatch.setattr(network, "decode", lambda *a, **k: asked.append(a[1].shape) or decode(*a, **k))
        return network

    for stage in (STAGES["full"], replace(STAGES["full"], hands=5)):
        training(stage, spied(tiny_network()))(batch)
    near = replace(STAGES["full"], hands=5, close_ups=CloseUpConfig(0.5, 2, ((64, 64),), hands=1))
    for close in (False, True):
        training(near, spied(tiny_network()))(batch, close)
    assert asked == [(2, 3), (2, 5), (2, 5), (2, 1)]


@pytest.mark.parametrize("name", ["dense", "everything"])
def test_the_network_may_run_in_half_precision_but_not_its_losses(name, batch):
    """As on a GPU."""
    dense = StageConfig("dense", 1, detector=True, dense=True, decoder="none")
    network = tiny_network("d_fine", frozen=False)
    module = training({**STAGES, "dense": dense}[name], network)
    batch = replace(batch, has_joints_3d=batch.valid, joints_3d_absolute=batch.valid & False)
    torch.manual_seed(0)
    whole, terms = module(batch)
    seen = []
    network.decoder.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        half, halves = module(batch)
    half.backward()
    assert whole.dtype == half.dtype == torch.float32
    assert set(halves) == set(terms) and half.item() == pytest.approx(whole.item(), rel=0.1)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    if seen:
        out = seen[0]
        assert out.vertices.dtype == out.joints_3d.dtype == torch.float32
        joints = network.decoder._regressor @ out.vertices
        torch.testing.assert_close(joints - joints[:, :, :1], out.joints_3d, atol=1e-6, rtol=0)


def test_beside_unlabelled_hands_all_but_the_detectors_queries_learn(batch):
    stage = StageConfig("everything", 1, detector=True, dense=True, decoder="full")
    module = training(stage, tiny_network("d_fine", frozen=False))
    total, terms = module(replace(batch, exhaustive=torch.tensor([True, False])))
    assert "detector" not in terms and {"dense/side", "joints_2d", "nc"} <= set(terms)
    total.backward()
    learned = {name for name, p in module.network.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("decoder.", "side.", "detector.model.model.backbone"):
        assert any(name.startswith(part) for name in learned), part
    assert "detector" in module(batch)[1]


def test_pictures_without_hands_teach_what_is_none():
    """The detector, and the decoder that what it was given is no hand; of joints and meshes nothing."""
    empty = collate([sample([]), sample([])])
    module = training(STAGES["everything"], tiny_network(frozen=False))
    total, terms = module(empty)
    total.backward()
    assert torch.isfinite(total) and float(terms["detector"]) > 0 and float(terms["presence"]) > 0
    assert all(float(value) == 0 for name, value in terms.items() if name not in ("detector", "presence"))
    decoder = {n: p.grad for n, p in module.network.decoder.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in decoder.values())
    learned = {name.split(".")[0] for name, gradient in decoder.items() if gradient.any()}
    assert "presence" in learned and not learned & {"joint_move", "joint_score", "vertex", "camera"}


def test_the_decoder_learns_to_tell_hands_from_what_the_detector_takes_for_one():
    batch = collate([sample([0]), sample([])])
    stage = StageConfig("full", 1, decoder="full", hands=3)
    module = training(stage, tiny_network())
    steps(module, batch, 80, 3e-3)
    network = module.network.eval()
    found = network.detect(batch.images)
    queries, boxes, hand = choose_queries(found, batch, 3, 1.0, training=False)
    said = network.decode(found, queries, boxes, batch.picture_size).presence_logits
    joined = (found.logits.gather(1, queries) + said).sigmoid()
    assert (hand >= 0).sum() == 1 and (hand == STRANGER).sum() == 5
    assert joined[hand >= 0].min() > 0.5 > joined[hand == STRANGER].max()


def seen(boxes, scores=None):
    """What a detector says: (B, Q, 4) boxes and nothing else that matters here."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    logits = torch.zeros(boxes.shape[:2]) if scores is None else torch.logit(torch.as_tensor(scores))
    return DetectorOutput([], None, [], boxes[..., :2], boxes[..., :2], boxes, logits)


def test_every_labelled_hand_is_decoded_by_the_candidate_that_covers_it_best(batch):
    truth = batch.boxes.clone()
    far = torch.tensor([0.05, 0.05, 0.02, 0.02]).expand(2, 4, 4).clone()
    far[0, 2], far[1, 3], far[1, 0] = truth[0, 0], truth[1, 0], truth[1, 1]
    queries, boxes, hand = choose_queries(seen(far), batch, 2, own_boxes=1.0, training=True)
    assert hand[0].tolist().count(0) == 1 and hand[0].tolist().count(STRANGER) == 1
    assert sorted(hand[1].tolist()) == [0, 1]
    best = {(0, 0): 2, (1, 0): 3, (1, 1): 0}
    for picture in range(2):
        for place in range(2):
            number = int(hand[picture, place])
            if number >= 0:
                assert int(queries[picture, place]) == best[picture, number]
                torch.testing.assert_close(boxes[picture, place], truth[picture, number])
            else:
                assert (boxes[picture, place] > 0).all(), "an empty place has a box that layers can work with"


def test_boxes_are_the_labelled_ones_disturbed_where_the_detectors_are_not_to_be_used(batch):
    candidates = seen(batch.boxes[:, :1].expand(2, 3, 4) * torch.tensor([1, 1, 1.1, 1.1]))
    torch.manual_seed(0)
    ratios = []
    for _ in range(40):
        _, boxes, hand = choose_queries(candidates, batch, 1, own_boxes=0.0, training=True)
        labels = batch.boxes.gather(1, hand[..., None].expand(-1, -1, 4))
        ratios.append(((boxes[..., :2] - labels[..., :2]) / labels[..., 2:], (boxes / labels)[..., 2:].log()))
    for noise in (torch.cat([r[i].flatten() for r in ratios]) for i in (0, 1)):
        assert abs(float(noise.mean())) < 0.04 and 0.08 < float(noise.std()) < 0.16
    _, boxes, hand = choose_queries(candidates, batch, 1, own_boxes=0.0, training=False)
    torch.testing.assert_close(boxes, batch.boxes.gather(1, hand[..., None].expand(-1, -1, 4)))


def test_a_candidate_that_misses_its_hand_is_given_the_labelled_box(batch):
    nowhere = seen(torch.tensor([0.05, 0.05, 0.02, 0.02]).expand(2, 3, 4))
    _, boxes, hand = choose_queries(nowhere, batch, 2, own_boxes=1.0, training=False)
    labels = batch.boxes.gather(1, hand.clamp(min=0)[..., None].expand(-1, -1, 4))
    torch.testing.assert_close(boxes[hand >= 0], labels[hand >= 0])


def test_places_left_over_go_to_candidates_that_cover_a_hand(batch):
    # Three candidates on the first hand of each picture, one in a corner.
    near = batch.boxes[:, :1] * torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    candidates = near.expand(2, 4, 4).clone()
    candidates[:, 1, 2:] *= 1.02
    candidates[:, 2, 2:] *= 0.98
    candidates[:, 3] = torch.tensor([0.02, 0.02, 0.01, 0.01])
    queries, boxes, hand = choose_queries(seen(candidates), batch, 5, own_boxes=1.0, training=True)
    assert queries.shape == hand.shape == (2, 5) and boxes.shape == (2, 5, 4)
    for picture in range(2):
        hands = int(batch.valid[picture].sum())
        spare = sorted(range(5), key=lambda i: bool(hand[picture, i] < 0))[hands:]
        first = {int(number) for number in hand[picture, :2] if number >= 0}
        assert len(first) >= 1 and (hand[picture] >= 0).sum() > hands, "SimOTA gives spare places to somebody"
        for query, number in zip(queries[picture, spare], hand[picture, spare], strict=True):
            if number >= 0:
                iou, _ = overlap(
                    candidates[picture, query][None, None], batch.boxes[picture, number][None, None]
                )
                assert float(iou) > 0.5
                assert int(query) != 3


def test_candidates_that_hardly_touch_a_hand_are_not_decoded_beside_it(batch):
    candidates = batch.boxes[:, :1].expand(2, 6, 4).clone()
    candidates[:, 1:] += candidates[:, 1:, 2:].repeat(1, 1, 2) * torch.tensor([0.45, 0.45, 0, 0])
    _, _, hand = choose_queries(seen(candidates), batch, 4, own_boxes=1.0, training=True)
    assert (hand[0] >= 0).sum() == 1


def test_pictures_of_few_hands_leave_no_place_empty(batch):
    """Also where another picture of the batch has as many hands as there are places."""
    candidates = batch.boxes[:, :1].expand(2, 6, 4).clone()
    candidates[:, 1:4, 2:] *= torch.tensor([1.02, 0.98, 1.01])[:, None]
    candidates[:, 4:] = torch.tensor([0.02, 0.02, 0.01, 0.01])
    filled = 0
    for seed in range(10):
        torch.manual_seed(seed)
        queries, boxes, hand = choose_queries(seen(candidates), batch, 2, own_boxes=1.0, training=True)
        assert sorted(hand[0].tolist()) in ([0, 0], [STRANGER, 0])
        assert len(set(queries[0].tolist())) == 2, "the same candidate twice teaches nothing new"
        if hand[0].tolist() == [0, 0]:
            filled += 1
            torch.testing.assert_close(boxes[0], candidates[0, queries[0]])
    assert 2 <= filled <= 8, "candidates of the hand and such of none take turns"


def test_of_candidates_that_are_no_hand_those_most_alike_to_one_are_decoded(batch):
    candidates = torch.tensor([0.02, 0.02, 0.01, 0.01]).expand(2, 5, 4).clone()
    candidates[:, 0] = batch.boxes[:, 0]
    candidates[:, 4] = batch.boxes[:, 0] * torch.tensor([1, 1, 0.65, 0.65])  # a part of the hand: of no use
    scores = [[0.9, 0.1, 0.4, 0.2, 0.8]] * 2
    one = replace(batch, valid=batch.valid & (torch.arange(batch.valid.shape[1]) < 1))
    queries, _, hand = choose_queries(seen(candidates, scores), one, 3, own_boxes=1.0, training=True)
    assert queries.tolist() == [[0, 2, 3]] * 2 and hand.tolist() == [[0, STRANGER, STRANGER]] * 2
    _, _, hand = choose_queries(seen(candidates, scores), one, 5, own_boxes=1.0, training=True)
    assert (hand == UNKNOWN).sum(1).tolist() == [1, 1]
    # Where hands may be unlabelled, nobody knows what a candidate is.
    open_ended = replace(one, exhaustive=torch.tensor([False, True]))
    _, _, hand = choose_queries(seen(candidates, scores), open_ended, 3, own_boxes=1.0, training=True)
    assert (hand == STRANGER).any(1).tolist() == [False, True]


def test_more_hands_than_places_take_turns(batch):
    crowd = collate([sample([0, 1, 2, 3, 4])])
    candidates = seen(crowd.boxes)
    chosen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        _, _, hand = choose_queries(candidates, crowd, 2, own_boxes=1.0, training=True)
        assert len(set(hand[0].tolist())) == 2 and (hand >= 0).all()
        chosen |= set(hand[0].tolist())
    assert chosen == {0, 1, 2, 3, 4}


def test_hands_without_joints_wait_for_a_place(batch):
    labelled = sample([0, 1, 2, 3])
    alone = np.arange(4)[:, None] >= 2
    boxes_alone = replace(
        labelled,
        joints_2d_weight=np.where(alone, 0, labelled.joints_2d_weight),
        has_joints_3d=labelled.has_joints_3d & ~alone[:, 0],
    )
    crowd = collate([boxes_alone])
    for seed in range(6):
        torch.manual_seed(seed)
        _, _, hand = choose_queries(seen(crowd.boxes), crowd, 2, own_boxes=1.0, training=True)
        assert set(hand[0].tolist()) == {0, 1}
