"""Pictures: the same for the same seed, as different as the world, and refused where they cannot be."""

import copy
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from handos_ros.errors import DataError
from handos_ros.learning.synthesis.backgrounds import Backgrounds
from handos_ros.learning.synthesis.camera import Framing
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands, to_samples


def test_the_same_seed_gives_the_same_picture_in_any_company(synthetic):
    together = synthetic.render([4, 5, 6, 7], (128, 160))
    alone = synthetic.render([6], (128, 160))
    # Sums may be rounded otherwise in another company: 1e-3 px, and a pixel on an edge now and then.
    assert (together.images[2] != alone.images[0]).float().mean() < 1e-3
    assert (together.joints_2d[2] - alone.joints_2d[0]).abs().max() < 1e-3
    again = synthetic.render([4, 5, 6, 7], (128, 160))
    assert torch.equal(together.images, again.images) and torch.equal(together.vertices, again.vertices)
    assert not torch.equal(together.images[0], together.images[1])
    other = copy.copy(synthetic)
    other.seed = synthetic.seed + 1
    assert not torch.equal(other.render([6], (128, 160)).images, alone.images)


def test_pictures_with_nothing_before_the_background(synthetic):
    scene = synthetic._scenes.make(Draws(synthetic.seed, torch.arange(200), "scene"), 64, 96)
    filled = torch.cat([scene.hands.picture, scene.others.picture])
    bare = sorted(set(range(200)) - set(filled.tolist()))
    assert bare
    batch = synthetic.render(bare[:1], (64, 96))
    assert batch.images.shape == (1, 3, 64, 96) and not batch.valid.any()


def test_pictures_framed_around_a_hand(synthetic):
    """The same scenes, nearer: one hand fills the share asked for, and labels follow the new cameras."""
    indices = range(100, 148)
    whole = synthetic.render(indices, (128, 96))
    framed = synthetic.render(indices, (128, 96), Framing(1.0, (0.6, 0.6), 0.1))
    assert not torch.equal(whole.k, framed.k)

    everything = torch.cat([framed.vertices, framed.joints_3d], 2)
    pixels = everything @ framed.k[:, None].transpose(2, 3)
    pixels = pixels[..., :2] / pixels[..., 2:]
    vertices, joints = pixels[:, :, :-21], pixels[:, :, -21:]
    # Fingers of another hand may be beside the lens.
    before = framed.valid[..., None] & (framed.joints_3d[..., 2] > 0.05)
    assert (joints - framed.joints_2d)[before].abs().max() < 0.05
    low, high = vertices.amin(2), vertices.amax(2)
    wanted = (high - low).amax(-1).sub(0.6 * 128).abs() < 0.1
    offset = ((low + high) / 2 - torch.tensor([47.5, 63.5])).abs() / torch.tensor([96, 128])
    around = framed.valid & wanted & (offset < 0.101).all(-1)
    # Others are hidden by what they hold, or there is none.
    assert around.any(1).float().mean() > 0.75
    assert around.any(1).float().sum() > 0.85 * (framed.valid.any(1)).sum()

    both = whole.valid & framed.valid
    assert both.sum() > 20
    size = [(b.joints_3d[:, :, 9] - b.joints_3d[:, :, 0]).norm(dim=-1)[both] for b in (whole, framed)]
    torch.testing.assert_close(*size)

    never = synthetic.render(indices, (128, 96), Framing(0.0, (0.6, 0.6), 0.1))
    assert torch.equal(never.images, whole.images)


def test_batches_take_the_configured_sizes(synthetic):
    sizes = {synthetic.batch(n, 2).picture_size for n in range(12)}
    assert sizes == set(synthetic.config.sizes)


def test_samples_are_what_was_rendered(synthetic):
    sample = synthetic.sample(9)
    height, width = synthetic.size_of(9)
    assert sample.image.shape == (height, width, 3)
    batch = synthetic.render([9], (height, width))
    np.testing.assert_array_equal(sample.image, batch.images[0].permute(1, 2, 0).numpy())
    assert len(sample) == int(batch.valid.sum())
    assert len(to_samples(synthetic.render(range(3), (64, 64)))) == 3


def test_pictures_vary_and_hands_are_in_them(synthetic):
    batch = synthetic.render(range(100, 148), (160, 160))
    assert batch.images.float().mean((1, 2, 3)).std() > 15
    counts = batch.valid.sum(1)
    assert counts.min() == 0 and counts.max() >= 3
    sides = (batch.boxes_px[..., 2:] - batch.boxes_px[..., :2]).amax(-1)[batch.valid]
    assert sides.min() < 40 and sides.max() > 110
    # Where a hand is, the picture differs from where it is not: hands are really drawn.
    seen = batch.visibility[batch.valid]
    assert 0.3 < seen.mean() < 0.95


def test_outlines_are_soft(synthetic):
    """A pixel on a hand's outline is a mixture: cover takes values between 0 and 1."""
    from handos_ros.learning.synthesis.lighting import draw_lights
    from handos_ros.learning.synthesis.render import render

    draws = Draws(1, torch.arange(6))
    scene = synthetic._scenes.make(draws, 160, 160)
    layer = render(scene, draw_lights(draws, torch.full((6, 3), 0.5)), synthetic._bank)
    partly = (layer.cover < 1).float().mean()
    assert 0.02 < partly < 0.5
    assert layer.colour.isfinite().all() and (layer.colour >= 0).all()
    assert len(layer.pixel.unique()) == len(layer.pixel)


def test_what_cannot_be_rendered_is_refused(tmp_path):
    with pytest.raises(DataError, match="33x320"):
        SynthesisConfig(sizes=((320, 33),))
    with pytest.raises(DataError, match="no picture size"):
        SynthesisConfig(sizes=())
    with pytest.raises(DataError, match=r"camouflaged is a share .* got 1\.5"):
        SynthesisConfig(camouflaged=1.5)
    with pytest.raises(DataError, match="nowhere"):
        SyntheticHands(SynthesisConfig(backgrounds=str(tmp_path / "nowhere")))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        SyntheticHands(SynthesisConfig(backgrounds=str(tmp_path)))
    (tmp_path / "broken.jpg").unlink()
    with pytest.raises(DataError, match="no pictures"):
        SyntheticHands(SynthesisConfig(backgrounds=str(tmp_path)))


def with_config(synthetic, **changes):
    """The same generator by another configuration."""
    other = copy.copy(synthetic)
    other.config = replace(synthetic.config, **changes)
    return other


def test_what_stands_behind_hands_takes_on_their_colour(synthetic):
    """Camouflage leaves hands and labels alone and tones the rest, in the share of pictures asked for."""
    indices, size = range(300, 360), (96, 96)
    usual, alike, some = (
        with_config(synthetic, weather=False, camouflaged=share).render(indices, size)
        for share in (0.0, 1.0, 0.4)
    )
    for name in ("boxes_px", "joints_2d", "vertices", "visibility"):
        torch.testing.assert_close(getattr(usual, name), getattr(alike, name), equal_nan=True)

    changed = (usual.images != alike.images).any(1)
    toned = changed.flatten(1).any(1)
    # Not where a hand fills the picture or none is in it.
    assert toned[usual.valid.any(1)].float().mean() > 0.8 and not toned[~usual.valid.any(1)].any()
    nearer = []
    for i in (toned & (usual.valid.sum(1) == 1)).nonzero()[:, 0].tolist():
        left, top, right, bottom = usual.boxes_px[i][usual.valid[i]][0].round().int().tolist()
        part = (slice(None), slice(top, bottom + 1), slice(left, right + 1))
        behind = changed[i][part[1:]]
        if behind.float().mean() < 0.1 or behind.float().mean() > 0.9:
            continue
        before, after = (batch.images[i][part].float() for batch in (usual, alike))
        hand = before[:, ~behind].mean(1)
        apart = [(picture[:, behind].mean(1) - hand).norm() for picture in (before, after)]
        nearer.append(float(apart[1] / apart[0]))
    assert len(nearer) > 10 and np.median(nearer) < 0.6

    share = (usual.images != some.images).flatten(1).any(1)[toned].float().mean()
    assert 0.2 < share < 0.6


def write_labelled(folder, pictures):
    """Photographs of one colour with red hands: name -> (height, width, RGB, boxes x y w h, exhaustive)."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for name, (height, width, colour, boxes, exhaustive) in pictures.items():
        image = np.full((height, width, 3), colour, np.uint8)
        about = {"id": len(images), "file_name": f"{name}.png", "width": width, "height": height}
        images.append({**about, "exhaustive": exhaustive})
        for x, y, w, h in boxes:
            image[y : y + h, x : x + w] = (255, 0, 0)
            annotations.append({"id": len(annotations), "image_id": about["id"], "bbox": [x, y, w, h]})
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image[..., ::-1])
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder / "annotations.json"


GREEN, BLUE, YELLOW, WHITE = (0, 200, 0), (0, 0, 200), (200, 200, 0), (255, 255, 255)


def test_what_stands_beside_labelled_hands_stands_behind_others(tmp_path):
    annotations = write_labelled(
        tmp_path / "people",
        {
            "beside": (240, 320, GREEN, [(10, 60, 60, 100), (100, 80, 70, 90)], True),
            "above": (320, 240, YELLOW, [(0, 200, 240, 120)], True),
            "nobody": (64, 64, WHITE, [], True),
            "all_hand": (240, 320, BLUE, [(40, 30, 240, 180)], True),
            "others_unlabelled": (240, 320, BLUE, [(10, 60, 60, 100)], False),
        },
    )
    pictures = Backgrounds.beside_hands(annotations, 48).pictures
    assert pictures.shape == (3, 3, 48, 48)
    # Not a red pixel, and nothing of photographs that may show hands without a label.
    colours = pictures.permute(0, 2, 3, 1).reshape(3, -1, 3)
    for number, colour in enumerate((GREEN, YELLOW, WHITE)):
        assert (colours[number] == torch.tensor(colour)).all()

    nothing = write_labelled(tmp_path / "close", {"hand": (64, 64, BLUE, [(8, 8, 48, 48)], True)})
    with pytest.raises(DataError, match=r"close.*annotations\.json.*no fully labelled photograph"):
        Backgrounds.beside_hands(nothing, 48)


def test_surroundings_come_beside_the_backgrounds(tmp_path):
    people = write_labelled(tmp_path / "people", {"one": (240, 320, GREEN, [(10, 60, 60, 100)], True)})
    (tmp_path / "rooms").mkdir()
    cv2.imwrite(str(tmp_path / "rooms" / "room.png"), np.full((200, 200, 3), BLUE[::-1], np.uint8))
    config = SynthesisConfig(
        backgrounds=str(tmp_path / "rooms"), surroundings=str(people), sizes=((96, 96),), weather=False
    )
    images = SyntheticHands(config, seed=5).render(range(24), (96, 96)).images.float()
    # Most of a small hand's picture is what stands behind it.
    corners = images[:, :, ::95, ::95].flatten(2).median(2).values
    green, blue = corners[:, 1] > 2 * corners[:, 2], corners[:, 2] > 2 * corners[:, 1]
    assert green.sum() >= 5 and blue.sum() >= 5
