"""Every detector adapter against what its detector's decoder really received, by hooks of the test's own."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_networks import KINDS, SETTINGS, given_boxes, pictures, stir, tiny_config

from handos_ros.errors import ModelError
from handos_ros.network.config import DetectorConfig
from handos_ros.network.detectors import build_detector

LIKE_RT_DETR = [kind for kind in KINDS if kind != "grounding_dino"]


def build(kind, *, queries=12, frozen=True, **settings):
    """A tiny adapter that passes on every query, in the detector's own order."""
    torch.manual_seed(1)
    config = tiny_config(kind, settings=settings).detector
    adapter = build_detector(
        DetectorConfig(kind, config.settings, None, config.prompt_ids, queries), pretrained=False
    )
    stir(adapter)
    adapter.freeze(frozen)
    return adapter


def watch(adapter, *args, raw=True, **kwargs):
    """The adapter's output, its decoder's inputs and, from a second run, the detector's own output."""
    seen = SimpleNamespace()
    decoder = adapter.model.model.decoder
    hook = decoder.register_forward_pre_hook(
        lambda _m, _a, inputs: setattr(seen, "inputs", inputs), with_kwargs=True
    )
    forward = adapter.model.register_forward_hook(lambda _m, _a, output: setattr(seen, "output", output))
    seen.adapted = adapter(*args, **kwargs)
    hook.remove()
    forward.remove()
    return seen


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def adapter(kind):
    return build(kind)


def test_features_are_what_the_decoder_received_in_their_real_shapes(kind, adapter):
    seen = watch(adapter, pictures(2))
    maps, inputs = seen.adapted.features, seen.inputs
    name = "vision_encoder_hidden_states" if kind == "grounding_dino" else "encoder_hidden_states"
    assert [tuple(m.shape[2:]) for m in maps] == [tuple(s) for s in inputs["spatial_shapes"].tolist()]
    flat = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
    torch.testing.assert_close(flat, inputs[name], rtol=0, atol=0)
    strides = {"grounding_dino": [8, 16, 32, 64], "d_fine": [16, 32]}.get(kind, [8, 16, 32])
    assert [m.shape[2] for m in maps] == [-(-96 // s) for s in strides]
    assert {m.shape[1] for m in maps} == {adapter.feature_channels}


def test_queries_are_those_that_enter_and_leave_the_decoder(adapter):
    seen = watch(adapter, pictures(2))
    torch.testing.assert_close(seen.adapted.q_first, seen.inputs["inputs_embeds"], rtol=0, atol=0)
    torch.testing.assert_close(seen.adapted.q_last, seen.output.last_hidden_state, rtol=0, atol=0)
    assert seen.adapted.q_last.shape == (2, 12, adapter.query_channels)
    assert not torch.allclose(seen.adapted.q_first, seen.adapted.q_last)


def test_backbone_maps_are_four_stages_that_feed_the_detector(kind, adapter):
    stages = adapter(pictures(2)).backbone
    assert [m.shape[2:] for m in stages] == [(24, 32), (12, 16), (6, 8), (3, 4)]
    given = []
    adapter.model.model.backbone.register_forward_hook(lambda _m, _a, out: given.append(out))
    again = adapter(pictures(2)).backbone
    adapter.model.model.backbone._forward_hooks.popitem()
    features = given[0][0] if kind == "grounding_dino" else given[0]
    for (level, _mask), stage in zip(features[::-1], again[::-1], strict=False):
        assert level.shape == stage.shape
        if kind == "grounding_dino":  # Swin normalises the maps it gives away; ours come before that.
            level = (level - level.mean(1, keepdim=True)) / level.std(1, keepdim=True)
            stage = (stage - stage.mean(1, keepdim=True)) / stage.std(1, keepdim=True)
        torch.testing.assert_close(level, stage, rtol=1e-3, atol=1e-3)


def test_boxes_and_scores_are_fractions_and_probabilities(adapter):
    seen = watch(adapter, pictures(2))
    torch.testing.assert_close(seen.adapted.boxes, seen.output.pred_boxes, rtol=0, atol=0)
    assert seen.adapted.boxes.shape == (2, 12, 4) and (seen.adapted.boxes > -0.5).all()
    assert (
        seen.adapted.scores.shape == (2, 12) and ((seen.adapted.scores > 0) & (seen.adapted.scores < 1)).all()
    )


def test_the_best_candidates_are_passed_on_whole(kind, adapter):
    every, few = adapter(pictures(2)), build(kind, queries=5)
    few.load_state_dict(adapter.state_dict())
    some = few(pictures(2))
    for picture in range(2):
        best = every.logits[picture].topk(5).indices
        for name in ("q_first", "q_last", "boxes", "logits"):
            torch.testing.assert_close(getattr(some, name)[picture], getattr(every, name)[picture][best])


def test_a_batch_gives_what_its_pictures_give_alone(adapter):
    both = adapter(pictures(2))
    for number in range(2):
        alone = adapter(pictures(2)[number : number + 1])
        torch.testing.assert_close(both.boxes[number], alone.boxes[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.q_last[number], alone.q_last[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both.features[0][number], alone.features[0][0], rtol=1e-4, atol=1e-4)


# Frozen means frozen.


def test_a_frozen_detector_has_no_gradient_and_no_training_mode(adapter):
    adapter.train()
    assert not any(module.training for module in adapter.modules())
    assert not any(parameter.requires_grad for parameter in adapter.parameters())
    output = adapter(pictures(1))
    assert not any(t.requires_grad for t in (*output.features, *output.backbone, output.q_last, output.boxes))


def test_labels_do_not_train_a_frozen_detector(adapter):
    assert adapter(pictures(1), labels=[given_boxes(2)[0]]).losses is None


def test_seeing_changes_no_buffer(adapter):
    before = copy.deepcopy(adapter.state_dict())
    adapter.train()
    adapter(pictures(2, seed=5))
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("kind", LIKE_RT_DETR)
def test_an_unfrozen_detector_learns_and_freezes_again(kind):
    adapter = build(kind, frozen=False)
    assert adapter.training
    loss = sum(adapter(pictures(2), labels=list(given_boxes(2, pictures=2))).losses.values())
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in adapter.parameters())
    adapter.freeze()
    assert not adapter.training and not any(p.requires_grad for p in adapter.parameters())


# What each adapter watches is its own.


def test_a_copy_watches_its_own_detector(kind, adapter):
    other = copy.deepcopy(adapter)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.1)
    before = adapter(pictures(1))
    changed = other(pictures(1))
    after = adapter(pictures(1))
    torch.testing.assert_close(before.q_last, after.q_last, rtol=0, atol=0)
    assert not torch.allclose(changed.features[0], before.features[0])
    assert not torch.allclose(changed.backbone[0], before.backbone[0])
    assert other._seen == {} and adapter._seen == {}


def test_nothing_of_a_picture_is_kept_after_an_error(adapter):
    with pytest.raises(Exception):  # noqa: B017 - whatever the detector says of a picture without colours
        adapter(pictures(1)[:, :2])
    assert adapter(pictures(1)).boxes.shape == (1, 12, 4)
    assert adapter._seen == {}


# Grounding DINO.


@pytest.fixture(scope="module")
def dino():
    return build("grounding_dino")


def test_dino_q_first_is_the_same_for_every_picture_and_q_last_is_not(dino):
    one, other = dino(pictures(1)), dino(pictures(1, seed=7))
    torch.testing.assert_close(one.q_first, other.q_first, rtol=0, atol=0)
    torch.testing.assert_close(one.q_first[0], dino.model.model.query_position_embeddings.weight)
    assert (one.q_last - other.q_last).abs().max() > 1e-3


def test_dino_first_hidden_state_is_normalised_and_so_no_q_first(dino):
    pixels = dino.normalised(pictures(1))
    with torch.no_grad():
        output = dino.model(pixel_values=pixels, input_ids=dino._prompt, output_hidden_states=True)
    q_first = dino(pictures(1)).q_first
    assert not torch.allclose(output.decoder_hidden_states[0], q_first, atol=0.1)
    norm = dino.model.model.decoder.layer_norm
    torch.testing.assert_close(output.decoder_hidden_states[0], norm(q_first), rtol=1e-4, atol=1e-5)


def padded(picture, height, width):
    """The same picture in the upper left corner of a larger one, padded with the detector's mean colour."""
    larger = torch.zeros(1, 3, height, width)
    larger[:] = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
    h, w = picture.shape[2:]
    larger[..., :h, :w] = picture
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, :h, :w] = True
    return larger, mask


def test_dino_mask_is_true_where_the_picture_is(dino):
    larger, mask = padded(pictures(1), 192, 128)
    seen = watch(dino, larger, mask)
    flat = torch.cat([m.flatten(1) for m in seen.adapted.masks], 1)
    assert torch.equal(flat, seen.inputs["vision_encoder_attention_mask"])
    first = seen.adapted.masks[0]
    assert first[0, :12].all() and not first[0, 12:].any()


def test_dino_sees_a_padded_picture_as_it_sees_it_unpadded():
    """Exactly so where nothing reaches over the border by design.

    A side of 128 is whole windows at every Swin stage; a level of stride 64 and group norms, whose
    statistics are of the whole padded map, are left out.
    """
    adapter = build("grounding_dino", num_feature_levels=3)
    for projection in adapter.model.model.input_proj_vision:
        projection[1] = torch.nn.Identity()
    picture = pictures(1, 128, 128)
    larger, mask = padded(picture, 256, 256)
    coloured = torch.where(mask[:, None], larger, torch.tensor([255.0, 0, 90]).view(3, 1, 1))
    alone = adapter(picture)
    for seen in (adapter(larger, mask), adapter(coloured, mask)):
        for a, b in zip(alone.features, seen.features, strict=True):
            torch.testing.assert_close(b[..., : a.shape[2], : a.shape[3]], a, rtol=1e-3, atol=1e-3)
        # The picture fills half of the padded one each way, and boxes are fractions of the padded one.
        # Queries differ a little: Grounding DINO says where they are in fractions of the padded picture.
        assert (seen.boxes * 2 - alone.boxes).abs().max() < 0.03
        assert (seen.boxes - alone.boxes).abs().mean() > 0.1
    unmasked = adapter(coloured).features[0][..., :16, :16]
    assert not torch.allclose(unmasked, alone.features[0], atol=0.05)


def test_dino_speaks_of_the_prompts_words_alone(dino):
    seen = watch(dino, pictures(1))
    logits = seen.output.logits
    assert logits.shape[-1] == 16 and torch.isinf(logits[..., 4:]).all() and (logits[..., 4:] < 0).all()
    # [CLS] hand . [SEP]: the word is the second token.
    assert dino._words.tolist() == [1]
    torch.testing.assert_close(seen.adapted.logits, logits[..., 1], rtol=0, atol=0)


def test_dino_reads_its_prompt_once():
    adapter, calls = build("grounding_dino"), []
    adapter.model.model.text_backbone.branch.register_forward_hook(lambda *_: calls.append(1))
    first = adapter(pictures(1))
    adapter(pictures(2))
    again = adapter(pictures(1))
    assert len(calls) == 1
    torch.testing.assert_close(first.logits, again.logits, rtol=0, atol=0)


def test_dino_from_memory_is_dino():
    adapter = build("grounding_dino", frozen=False).eval()
    with torch.no_grad():
        fresh = adapter(pictures(2))
    adapter.freeze()
    adapter(pictures(1))
    torch.testing.assert_close(adapter(pictures(2)).logits, fresh.logits, rtol=1e-5, atol=1e-6)


def test_dino_forgets_the_prompt_when_its_text_branch_changes():
    adapter = build("grounding_dino")
    before = adapter(pictures(1)).logits
    with torch.no_grad():
        for name, tensor in adapter.state_dict().items():
            if "text_backbone" in name and tensor.is_floating_point():
                tensor.copy_(tensor.flip(0))
    assert not torch.allclose(adapter(pictures(1)).logits, before)


# RT-DETR and D-FINE.


@pytest.mark.parametrize("kind", LIKE_RT_DETR)
def test_rt_detr_last_hidden_state_of_the_encoder_is_from_before_the_projection(kind):
    # D-FINE projects only where its encoder has another width than its decoder.
    other = {"encoder_hidden_dim": 24, "decoder_in_channels": [24, 24]} if kind == "d_fine" else {}
    adapter = build(kind, **other)
    seen = watch(adapter, pictures(1))
    misleading = seen.output.encoder_last_hidden_state
    assert isinstance(misleading, (list, tuple))
    assert misleading[0].shape != seen.adapted.features[0].shape or not torch.allclose(
        misleading[0], seen.adapted.features[0]
    )
    projected = adapter.model.model.decoder_input_proj[0](misleading[0])
    torch.testing.assert_close(projected, seen.adapted.features[0])


@pytest.mark.parametrize("kind", LIKE_RT_DETR)
def test_rt_detr_reference_points_are_logits(kind):
    """So they are no boxes; those of the adapter are."""
    seen = watch(build(kind), pictures(1))
    assert (seen.output.init_reference_points < 0).any()
    assert (seen.adapted.boxes[..., 2:] >= 0).all() and (seen.adapted.boxes <= 1.5).all()


def test_d_fine_stacks_layers_first():
    seen = watch(build("d_fine"), pictures(3))
    stacked = seen.output.intermediate_hidden_states
    assert stacked.shape[:2] == (2, 3)
    torch.testing.assert_close(seen.adapted.q_last, stacked[-1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", LIKE_RT_DETR)
def test_queries_that_denoise_labels_are_left_out_in_training(kind):
    adapter = build(kind, frozen=False)
    for module in adapter.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
            module.eval()  # so that both modes compute the same
    labels = list(given_boxes(2, pictures=2))
    seen = watch(adapter, pictures(2), labels=labels)
    assert seen.inputs["inputs_embeds"].shape[1] > 12
    adapted = seen.adapted
    assert adapted.q_first.shape[1] == adapted.q_last.shape[1] == adapted.boxes.shape[1] == 12
    torch.testing.assert_close(adapted.q_first, seen.inputs["inputs_embeds"][:, -12:], rtol=0, atol=0)
    with torch.no_grad():
        plain = adapter.eval()(pictures(2))
    for name in ("q_first", "q_last", "boxes", "logits"):
        torch.testing.assert_close(getattr(adapted, name), getattr(plain, name), rtol=1e-3, atol=1e-3)


def test_settings_that_make_no_detector_are_named():
    for wrong in ({"backbone_config": {"model_type": "no_such_backbone"}}, {"d_model": "wide"}):
        with pytest.raises(ModelError, match=r"detector\.settings do not make a d_fine"):
            build_detector(DetectorConfig("d_fine", {**SETTINGS["d_fine"], **wrong}), pretrained=False)


def test_weights_that_cannot_be_fetched_name_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = DetectorConfig("d_fine", {}, "no-such/detector-anywhere")
    with pytest.raises(ModelError, match=r"cannot load the detector 'no-such/.*give the folder"):
        build_detector(config)


@pytest.mark.parametrize("kind", KINDS)
def test_real_weights_come_from_a_local_folder(tmp_path, kind):
    config = tiny_config(kind).detector
    torch.manual_seed(3)
    original = build_detector(config, pretrained=False)
    stir(original)
    public = copy.deepcopy(original.model)
    if kind == "grounding_dino":
        public.model.text_backbone = public.model.text_backbone.branch
    public.save_pretrained(tmp_path)

    # The folder says by itself what it holds: no settings are needed beside it.
    loaded = build_detector(replace(config, pretrained=str(tmp_path), settings={}))

    for adapter in (original, loaded):
        adapter.freeze()
    picture = torch.randint(0, 255, (1, 3, 128, 96))
    seen, again = original(picture), loaded(picture)
    assert torch.equal(seen.boxes, again.boxes)
    assert torch.equal(seen.q_last, again.q_last)


@pytest.mark.parametrize("kind", LIKE_RT_DETR)
def test_a_picture_with_fewer_places_than_queries_is_named(kind):
    adapter = build(kind, num_queries=90)
    with pytest.raises(ModelError, match=r"64x32 is too small .* needs 90"):
        adapter(torch.zeros(1, 3, 32, 64))
