"""The side network, the decoder and the whole: shapes, units, who sees whom, what learns."""

import copy

import numpy as np
import pytest
import torch
from tiny_networks import KINDS, given_boxes, pictures, tiny_config, tiny_network

from handos_ros.hand_model.model import load_hand_model
from handos_ros.network.config import SideConfig
from handos_ros.network.decoder import HAND_LENGTH
from handos_ros.network.handos import HandosNetwork
from handos_ros.network.layers import DeformableAttention
from handos_ros.network.side import SideNetwork

SIZE = (96, 128)
FIELDS = ("joints_2d", "joint_logits", "presence_logits", "vertices", "joints_3d", "root_2d", "scale")


@pytest.fixture(scope="module")
def model():
    return load_hand_model()


@pytest.fixture(scope="module", params=["grounding_dino", "d_fine"])
def network(request):
    return tiny_network(request.param)


@torch.no_grad()
def decode(network, boxes, queries=None, *, images=None, **options):
    images = pictures(len(boxes)) if images is None else images
    if queries is None:
        queries = torch.arange(boxes.shape[1]).expand(len(boxes), -1)
    return network.decode(network.detect(images), queries, boxes, SIZE, **options)


def assert_same(one, other, rows=slice(None), **tolerance):
    for name in FIELDS:
        torch.testing.assert_close(getattr(one, name)[:, rows], getattr(other, name)[:, rows], **tolerance)


# Shapes and units.


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind, model):
    out = decode(tiny_network(kind), given_boxes(3, pictures=2))
    shapes = [(21, 2), (21,), (), (model.num_vertices, 3), (21, 3), (2,), ()]
    assert [tuple(getattr(out, name).shape) for name in FIELDS] == [(2, 3, *shape) for shape in shapes]
    assert out.earlier == [] and all(torch.isfinite(getattr(out, name)).all() for name in FIELDS)


def test_metres_have_the_wrist_at_0_and_joints_on_the_mesh(network, model):
    out = decode(network, given_boxes(3))
    assert out.joints_3d[:, :, 0].abs().max() < 1e-7
    torch.testing.assert_close(
        torch.from_numpy(model.joint_regressor.copy()) @ out.vertices, out.joints_3d, rtol=1e-3, atol=1e-5
    )


def test_a_fresh_network_starts_with_joints_in_their_boxes_and_a_hand_of_plausible_size(model):
    torch.manual_seed(0)
    network = HandosNetwork(tiny_config(), model).eval()
    boxes = given_boxes(3)
    out = decode(network, boxes)
    torch.testing.assert_close(out.joints_2d, boxes[:, :, None, :2].expand(-1, -1, 21, -1))
    torch.testing.assert_close(out.root_2d, boxes[..., :2])
    # A hand of HAND_LENGTH that fills the longer side of its box.
    longer = torch.maximum(boxes[..., 2] * SIZE[1], boxes[..., 3] * SIZE[0])
    torch.testing.assert_close(out.scale * HAND_LENGTH, longer)
    assert out.vertices.abs().max() < 0.02


def test_places_are_told_relative_to_the_box(network):
    """A hand's own shape does not change with the unit of the picture: only places and px per metre do."""
    boxes, seen = given_boxes(2), network.detect(pictures())
    with torch.no_grad():
        one = network.decode(seen, torch.tensor([[0, 1]]), boxes, SIZE)
        twice = network.decode(seen, torch.tensor([[0, 1]]), boxes, (2 * SIZE[0], 2 * SIZE[1]))
    torch.testing.assert_close(twice.scale, 2 * one.scale)
    for name in FIELDS[:-1]:
        torch.testing.assert_close(getattr(one, name), getattr(twice, name))


def test_the_box_matters_and_may_come_from_outside(network):
    boxes = given_boxes(2)
    moved = boxes + torch.tensor([0.1, 0.05, 0.05, 0.1])
    one, other = decode(network, boxes), decode(network, moved)
    assert ((one.joints_2d - other.joints_2d).abs().amax((2, 3)) > 0.02).all()
    assert torch.isfinite(decode(network, torch.tensor([[[1.2, -0.1, 0.5, 3.0]]])).scale).all()


# Who sees whom.


def test_a_batch_gives_what_its_pictures_give_alone(network):
    boxes, images = given_boxes(3, pictures=2), pictures(2)
    both = decode(network, boxes, images=images)
    for number in range(2):
        alone = decode(network, boxes[number : number + 1], images=images[number : number + 1])
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(both, name)[number], getattr(alone, name)[0], rtol=1e-3, atol=1e-4, msg=name
            )


def test_hands_do_not_see_each_other(network):
    boxes = given_boxes(5)
    all_five, two = decode(network, boxes), decode(network, boxes[:, :2])
    assert_same(all_five, two, slice(0, 2), rtol=1e-4, atol=1e-5)
    others = boxes.clone()
    others[:, 2:] = given_boxes(3, seed=9)
    assert_same(decode(network, others), all_five, slice(0, 2), rtol=0, atol=1e-6)


def test_order_of_hands_does_not_matter(network):
    boxes, queries = given_boxes(4), torch.tensor([[3, 1, 0, 5]])
    one, flipped = decode(network, boxes, queries), decode(network, boxes.flip(1), queries.flip(1))
    for name in FIELDS:
        torch.testing.assert_close(getattr(one, name), getattr(flipped, name).flip(1), rtol=1e-4, atol=1e-5)


def test_the_camera_query_changes_nothing_else(network):
    """Hierarchical attention, by perturbation: it hears joints and vertices, these do not hear it."""
    boxes = given_boxes(2)
    before = decode(network, boxes)
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.decoder.lifted_embedding[0] += 1.0
    after = decode(changed, boxes)
    for name in ("joints_2d", "joint_logits", "vertices", "joints_3d"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=1e-6)
    assert (after.scale / before.scale - 1).abs().max() > 1e-4


@pytest.mark.parametrize("row", [1, -1])
def test_joints_and_vertices_hear_each_other_and_the_camera_hears_both(network, row):
    boxes, changed = given_boxes(2), copy.deepcopy(network)
    with torch.no_grad():
        changed.decoder.lifted_embedding[row] += 1.0
    before, after = decode(network, boxes), decode(changed, boxes)
    for name in ("joints_2d", "vertices", "scale"):
        assert (getattr(after, name) - getattr(before, name)).abs().max() > 1e-6, name


def test_of_the_joints_too(network):
    boxes, changed = given_boxes(2), copy.deepcopy(network)
    with torch.no_grad():
        changed.decoder.joint_embedding[8] += 1.0
    before, after = decode(network, boxes), decode(changed, boxes)
    for name in ("vertices", "scale"):
        assert (getattr(after, name) - getattr(before, name)).abs().max() > 1e-6, name


def test_where_only_joints_look_vertices_hear_of_the_picture_through_them():
    network = tiny_network("d_fine", looking="joints")
    sampled = []
    for layer in network.decoder.layers:
        layer.cross_attention.register_forward_hook(lambda _m, args, _out: sampled.append(args[0].shape[1]))
    out = decode(network, given_boxes(2))
    assert sampled == [2 * 21, 2 * 22, 2 * 22]
    other = decode(network, given_boxes(2), images=pictures(seed=4))
    assert (other.vertices - out.vertices).abs().max() > 1e-5


# Lifting.


@pytest.mark.parametrize("vertices", ["all", "coarse"])
def test_lifting_starts_as_skinning_weights(model, vertices):
    decoder = HandosNetwork(tiny_config(vertices=vertices), model).decoder
    skinning = model.lifting if vertices == "all" else model.coarse_lifting
    lifting = decoder.lifting.detach().numpy()
    assert lifting.shape == (len(skinning) + 1, 21)
    np.testing.assert_array_equal(lifting[1:], skinning)
    np.testing.assert_allclose(lifting[0], 1 / 21)
    # And vertices look where the joints that carry them look, whatever the lifting has learned.
    joints = torch.rand(1, 1, 21, 4)
    with torch.no_grad():
        decoder.lifting.zero_()
    references = decoder._lifted_references(joints, torch.zeros(1, 1, 4))
    torch.testing.assert_close(references[0, 0, 22:], torch.from_numpy(np.array(skinning)) @ joints[0, 0])
    assert not references[0, 0, 21].any()  # the camera query looks over the whole box


def test_coarse_vertices_are_upsampled_as_the_hand_model_says(model):
    network = tiny_network("d_fine")
    out = decode(network, given_boxes(2))
    coarse = out.vertices[:, :, torch.from_numpy(model.coarse.copy()).long()]
    again = torch.from_numpy(model.upsampling.copy()) @ coarse
    torch.testing.assert_close(again, out.vertices, rtol=1e-3, atol=1e-4)


def test_a_2d_model_is_every_layer_without_lifting(network):
    out = decode(network, given_boxes(2), only_2d=True, all_layers=True)
    assert out.vertices is out.joints_3d is out.root_2d is out.scale is None
    assert len(out.earlier) == len(network.decoder.layers) - 1
    full = decode(network, given_boxes(2), all_layers=True)
    # The 2D layers before lifting are the same ones in both.
    torch.testing.assert_close(full.earlier[0].joints_2d, out.earlier[0].joints_2d)
    assert not torch.allclose(full.joints_2d, out.joints_2d)


def test_every_layer_speaks_when_asked(network):
    plain, deep = decode(network, given_boxes(2)), decode(network, given_boxes(2), all_layers=True)
    assert_same(plain, deep, rtol=0, atol=0)
    assert [layer.joints_3d is not None for layer in deep.earlier] == [False, True]
    assert not torch.allclose(deep.earlier[1].joints_3d, deep.joints_3d)


# Side network and maps.


def test_maps_have_the_decoders_strides_and_width(network):
    maps = network.maps(network.detect(pictures(2)))
    assert [tuple(m.shape) for m in maps] == [(2, 32, 12, 16), (2, 32, 6, 8), (2, 32, 3, 4)]


def test_every_map_tells_from_the_encoder_and_from_four_backbone_scales(network):
    seen = network.detect(pictures())
    before = network.maps(seen)

    def differs(field, number):
        changed = copy.copy(seen)
        levels = list(getattr(seen, field))
        levels[number] = levels[number] + 1.0
        setattr(changed, field, levels)
        return [not torch.allclose(a, b) for a, b in zip(before, network.maps(changed), strict=True)]

    with torch.no_grad():
        # The finest backbone scale, of stride 4, joins the map of stride 8.
        expected = ([True, False, False], [True, False, False], [False, True, False], [False, False, True])
        assert [differs("backbone", n) for n in range(4)] == list(expected)
        strides = network.side.encoder_strides
        for number, stride in enumerate(strides):
            assert differs("features", number) == [stride == s for s in (8, 16, 32)]


def test_side_network_has_three_convolutions_on_each_scale():
    side = SideNetwork(
        SideConfig((8, 8, 8, 8)), [(4, 4), (6, 8), (8, 16), (9, 32)], [(5, 16)], 16, (8, 16, 32)
    )
    counts = [sum(isinstance(m, torch.nn.Conv2d) for m in scale.modules()) for scale in side.sides]
    assert counts == [3, 3, 3, 3]
    with pytest.raises(ValueError, match="no map of stride 64"):
        SideNetwork(SideConfig((8,)), [(4, 8)], [(5, 16)], 16, (8, 16, 64))


def test_encoder_maps_count_for_nothing_in_padding():
    side = SideNetwork(SideConfig((8,)), [(4, 8)], [(5, 16)], 16, (8, 16)).eval()
    encoder, mask = torch.rand(1, 5, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    out = side([torch.rand(1, 4, 8, 8)], [encoder], [mask])[1]
    assert out[:, :, :2].any() and not out[:, :, 2:].any()


# Deformable attention against its definition.


def test_deformable_attention_is_what_it_says():
    """Queries sampled one by one, with bilinear interpolation written out."""
    torch.manual_seed(3)
    attention = DeformableAttention(8, 2, (2, 1), value_projection=False).eval()
    with torch.no_grad():
        attention.offsets.weight.normal_(std=0.3)
        attention.weights.weight.normal_(std=0.5)
    queries, boxes = torch.randn(1, 3, 8), given_boxes(3)
    maps = [torch.randn(1, 8, 6, 7), torch.randn(1, 8, 3, 4)]
    with torch.no_grad():
        got = attention(queries, boxes, maps)
        offsets = attention.offsets(queries).reshape(3, 2, 3, 2)
        weights = attention.weights(queries).reshape(3, 2, 3).softmax(-1)
        seen = torch.zeros(3, 8)
        for q in range(3):
            for head in range(2):
                for point, level in enumerate((0, 0, 1)):
                    place = boxes[0, q, :2] + offsets[q, head, point] * boxes[0, q, 2:] * 0.5
                    channels = slice(4 * head, 4 * head + 4)
                    value = bilinear(maps[level][0, channels], *place.tolist())
                    seen[q, channels] += weights[q, head, point] * value
        torch.testing.assert_close(got[0], attention.out(seen), rtol=1e-4, atol=1e-5)


def bilinear(level, x, y):
    """(C, h, w) at a place in fractions, 0 beyond the border."""
    _, h, w = level.shape
    u, v = x * w - 0.5, y * h - 0.5
    result = torch.zeros(len(level))
    for i in (int(np.floor(v)), int(np.floor(v)) + 1):
        for j in (int(np.floor(u)), int(np.floor(u)) + 1):
            if 0 <= i < h and 0 <= j < w:
                result += level[:, i, j] * (1 - abs(u - j)) * (1 - abs(v - i))
    return result


# What learns.


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(network):
    network = copy.deepcopy(network).train()
    out = network.decode(
        network.detect(pictures(2)), torch.tensor([[0, 1], [2, 0]]), given_boxes(2, pictures=2), SIZE,
        all_layers=True,
    )  # fmt: skip
    torch.manual_seed(0)
    layers = [*out.earlier, out]
    values = [getattr(layer, name) for layer in layers for name in FIELDS]
    loss = sum((v * torch.randn_like(v)).sum() for v in values if v is not None)
    loss.backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if not name.startswith("detector.") and (parameter.grad is None or not parameter.grad.any())
    ]
    assert silent == []
    assert all(p.grad is None and not p.requires_grad for p in network.detector.parameters())


def test_a_training_step_leaves_the_frozen_detector_as_it_was(network):
    network = copy.deepcopy(network).train()
    before = copy.deepcopy(network.detector.state_dict())
    seen = network.detect(pictures(2))
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=0.1)
    out = network.decode(seen, torch.tensor([[0], [1]]), given_boxes(1, pictures=2), SIZE)
    (out.joints_2d.sum() + out.vertices.sum() + out.scale.sum()).backward()
    optimiser.step()
    again = network.detect(pictures(2))
    for name in ("boxes", "logits", "q_first", "q_last"):
        torch.testing.assert_close(getattr(again, name), getattr(seen, name), rtol=0, atol=0)
    for name, tensor in network.detector.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    later = network.decode(again, torch.tensor([[0], [1]]), given_boxes(1, pictures=2), SIZE)
    assert not torch.allclose(later.joints_2d, out.joints_2d)


def test_references_learn_from_their_own_layer_alone():
    """References are detached between layers, as in the decoder's ancestors."""
    network = tiny_network("d_fine").train()
    out = network.decode(
        network.detect(pictures()), torch.tensor([[0]]), given_boxes(1), SIZE, all_layers=True
    )
    first = out.earlier[0].joints_2d
    (gradient,) = torch.autograd.grad(out.joints_2d.sum(), first, allow_unused=True)
    assert gradient is None


def test_dropout_acts_in_training_only():
    network = tiny_network("d_fine", dropout=0.5)
    boxes = given_boxes(1)
    assert_same(decode(network, boxes), decode(network, boxes), rtol=0, atol=0)
    network.decoder.train()
    assert not torch.allclose(decode(network, boxes).joints_2d, decode(network, boxes).joints_2d)
