"""Batches: from the seed and the step alone, with the shares that were asked for, no lie to the detector."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dataclasses import fields, replace  # noqa: E402

from tiny_training import HEIGHT, WIDTH, changed, tiny_run, write_photographs  # noqa: E402

from handos_ros.errors import DataError  # noqa: E402
from handos_ros.learning.training.config import CloseUpConfig, SourceConfig  # noqa: E402
from handos_ros.learning.training.data import Mixture, Negatives, _apportion, open_source  # noqa: E402


@pytest.fixture
def config(tmp_path):
    return tiny_run(tmp_path)


def equal(a, b):
    tensors = [f.name for f in fields(a) if f.name != "sources"]
    same = [torch.equal(getattr(a, n).nan_to_num(-7), getattr(b, n).nan_to_num(-7)) for n in tensors]
    return a.sources == b.sources and all(same)


def test_batches_follow_from_the_seed_and_the_step_alone(config):
    mixture = Mixture(config, config.stages[2])
    # Both have used their thread pools when the workers start: a fork would hang in them.
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 3)
    torch.rand(600, 600) @ torch.rand(600, 600)
    alone = list(mixture.loader(0, 6, workers=0))
    together = list(Mixture(config, config.stages[2]).loader(2, 6, workers=2))
    assert len(alone) == 6 and len(together) == 4
    assert all(equal(a, b) for a, b in zip(alone[2:], together, strict=True))
    assert equal(alone[5], Mixture(config, config.stages[2])[5])
    assert not equal(alone[4], alone[5])


def test_another_seed_stage_or_process_gives_other_batches(config):
    first = Mixture(config, config.stages[2])[0]
    assert not equal(first, Mixture(config, config.stages[1])[0])
    assert not equal(first, Mixture(config, config.stages[2], rank=1)[0])
    assert not equal(first, Mixture(changed(config, seed=1), config.stages[2])[0])


def test_sources_have_their_shares(tmp_path):
    sources = []
    for name, share in (("a", 5.0), ("b", 3.0), ("c", 2.0)):
        annotations = write_photographs(tmp_path / name)
        sources.append({"kind": "coco", "share": share, "annotations": str(annotations)})
    config = tiny_run(tmp_path, sources=sources, batch=4, mosaic=0)
    mixture = Mixture(config, config.stages[2])
    counts = np.zeros(3)
    for step in range(50):
        kinds = [source.split(":")[0] for source in mixture[step].sources]
        counts += [kinds.count(name) for name in "abc"]
        assert kinds.count("a") == 2, "a whole part of a share is in every batch"
    np.testing.assert_allclose(counts / 200, [0.5, 0.3, 0.2], atol=0.05)


def test_parts_of_shares_come_out_right_on_average():
    rng = np.random.default_rng(0)
    shares = np.array([0.55, 0.35, 0.1])
    drawn = np.array([_apportion(shares, 3, rng) for _ in range(4000)])
    assert (drawn.sum(1) == 3).all() and (drawn >= np.floor(3 * shares)).all()
    np.testing.assert_allclose(drawn.mean(0), 3 * shares, atol=0.04)


def test_a_detector_learns_from_fully_labelled_pictures_alone(tmp_path):
    whole = write_photographs(tmp_path / "whole")
    part = write_photographs(tmp_path / "part", exhaustive=False, colour=255)
    sources = [{"kind": "coco", "share": 1.0, "annotations": str(path)} for path in (whole, part)]
    config = tiny_run(tmp_path, sources=sources, batch=4)
    detector, _, full = (Mixture(config, stage) for stage in config.stages)
    batches = [detector[step] for step in range(6)]
    assert all(batch.exhaustive.all() for batch in batches)
    for batch in batches:
        hidden = [i for i, source in enumerate(batch.sources) if source.startswith("part")]
        assert len(hidden) == 2 and not batch.images[hidden].any() and not batch.valid[hidden].any()
    batch = full[0]
    shown = [i for i, source in enumerate(batch.sources) if source.startswith("part")]
    assert shown and not batch.exhaustive[shown].any() and batch.images[shown].any()


def test_now_and_then_a_batch_may_show_hands_beside_unlabelled_ones(tmp_path):
    whole = write_photographs(tmp_path / "whole")
    part = write_photographs(tmp_path / "part", exhaustive=False, colour=255)
    sources = [{"kind": "coco", "share": 1.0, "annotations": str(path)} for path in (whole, part)]
    config = tiny_run(tmp_path, sources=sources, batch=4, mosaic=0, incomplete=0.4)
    mixture = Mixture(config, config.stages[0])
    mixed = []
    for step in range(60):
        batch = mixture[step]
        shown = [i for i, source in enumerate(batch.sources) if source.startswith("part")]
        mixed.append(bool(batch.images[shown].any()))
        # In whole batches: their detector learns nothing, and it learns from all the others.
        assert batch.exhaustive[shown].any() != mixed[-1]
    assert 0.25 < np.mean(mixed) < 0.55
    stage = replace(config.stages[0], incomplete=1.0)
    always = Mixture(replace(config, stages=(stage, *config.stages[1:])), stage)
    for batch in map(always.__getitem__, range(8)):
        assert not batch.exhaustive.all()


def test_a_stage_may_make_more_crowded_pictures_than_the_run(config):
    stage = replace(config.stages[2], mosaic=1.0)
    crowded = Mixture(changed(config, mosaic=0.0, stages=(*config.stages[:2], stage)), stage)
    plain = Mixture(changed(config, mosaic=0.0), config.stages[2])
    for step in range(3):
        assert all(source.startswith("mosaic:") for source in crowded[step].sources)
        assert not any(source.startswith("mosaic:") for source in plain[step].sources)


def test_mirroring_can_be_left_out(config):
    # Sides of hands: all photographs show right ones.
    for mirror, side in ((0.0, 1), (1.0, 0)):
        mixture = Mixture(changed(config, mirror=mirror), config.stages[2])
        sides = torch.cat([batch.handedness[batch.valid] for batch in map(mixture.__getitem__, range(6))])
        assert len(sides) > 3 and (sides == side).all()


def test_batches_without_meshes_have_room_for_them(config):
    batch = Mixture(config, config.stages[2], num_vertices=1000)[0]
    assert batch.vertices.shape[2:] == (1000, 3) and not batch.has_vertices.any()
    assert batch.images.shape == (2, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("damage", "workers"), [("gone", 0), ("damaged", 0), ("other size", 0), ("damaged", 1)]
)
def test_a_picture_that_cannot_be_used_is_named_without_a_stack_trace(config, tmp_path, damage, workers):
    for path in (tmp_path / "photographs" / "images").iterdir():
        if damage == "gone":
            path.unlink()
        elif damage == "damaged":
            path.write_bytes(b"\x89PNG")
        else:
            cv2.imwrite(str(path), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(DataError, match=r"images/00\d\.png: ") as caught:
        list(Mixture(config, config.stages[2]).loader(0, 2, workers=workers))
    assert "Traceback" not in str(caught.value)


def test_pictures_without_hands_are_those_of_a_folder_less_some_for_evaluation(tmp_path):
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("")
    assert len(Negatives(tmp_path)) == 20
    kept = Negatives(tmp_path, exclude=(0, 3))
    assert [p.stem[-1] for p in kept.paths].count("0") == 0 and len(kept) == 16
    sample = kept[0]
    assert len(sample) == 0 and sample.exhaustive and sample.source == "negative:01.png"


def test_folders_without_pictures_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Negatives(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no picture"):
        Negatives(tmp_path)


@pytest.mark.parametrize("kind", ["hint", "synthesis"])
def test_settings_that_a_source_does_not_have_are_named(tmp_path, kind):
    source = {"kind": kind, "share": 1.0, "images": str(tmp_path), "settings": {"colour": "red"}}
    config = tiny_run(tmp_path, sources=[source])
    with pytest.raises(DataError, match=f"source {kind}: .*colour"):
        Mixture(config, config.stages[2])[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"exclude": 0}, "source synthesis: settings: exclude must be a list, got 0"),
        ({"poses": {"fist": "often"}}, "poses.fist must be of type float, got 'often'"),
        ({"poses": {2: 0.1}}, "a key of poses must be of type str, got 2"),
        ({"camouflaged": 3}, "camouflaged is a share of the pictures, 0 to 1, got 3"),
        ({"viewpoints": ["anyhow"]}, "viewpoints must be of type dict"),
        ({"viewpoints": {"from above": 1}}, "viewpoints: no kind from above"),
    ],
)
def test_settings_of_rendering_that_cannot_work_are_named(settings, said):
    with pytest.raises(DataError, match=said):
        open_source(SourceConfig(kind="synthesis", share=1.0, settings=settings))


def test_rendered_hands_stand_beside_photographs(tmp_path):
    annotations = write_photographs(tmp_path / "photographs")
    sources = [
        {"kind": "coco", "share": 1.0, "annotations": str(annotations)},
        {"kind": "synthesis", "share": 1.0},
    ]
    config = tiny_run(tmp_path, sources=sources)
    mixture = Mixture(config, config.stages[2], num_vertices=1000)
    batch = mixture[0]
    assert len(batch) == 2 and len({source.split(":")[0] for source in batch.sources}) == 2
    assert equal(batch, mixture[0])
    assert any(mixture[step].has_vertices.any() for step in range(4))


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        ({"zooms": [1, 2]}, "stage 2d: augmentation: unknown key zooms"),
        ({"tilt": "much"}, "stage 2d: augmentation: tilt must be of type float, got 'much'"),
        ({"photometric": {"grey": [1]}}, r"augmentation: photometric.grey must be of type float, got \[1\]"),
    ],
)
def test_what_no_augmentation_has_is_named(tmp_path, augmentation, said):
    annotations = write_photographs(tmp_path / "photographs")
    config = tiny_run(tmp_path, sources=[{"kind": "coco", "share": 1.0, "annotations": str(annotations)}])
    stage = replace(config.stages[1], name="2d", augmentation=augmentation)
    with pytest.raises(DataError, match=said):
        Mixture(replace(config, stages=(stage,)), stage)


def test_a_stage_may_vary_colours_otherwise(tmp_path):
    annotations = write_photographs(tmp_path / "photographs")
    config = tiny_run(tmp_path, sources=[{"kind": "coco", "share": 1.0, "annotations": str(annotations)}])
    stage = replace(config.stages[1], augmentation={"photometric": {"grey": 1.0, "noise": 0.0, "jpeg": 0.0}})
    mixture = Mixture(replace(config, stages=(stage,)), stage)
    assert mixture.whole.augmentation.photometric.blur > 0
    pictures = mixture[0].images.int()
    assert int((pictures.amax(1) - pictures.amin(1)).max()) <= 1


def test_rendered_hands_are_framed_as_photographs_are(tmp_path):
    augmentation = {"around_hand": 1.0, "hand_size": [0.7, 0.8], "shift": 0.0}
    config = tiny_run(tmp_path, sources=[{"kind": "synthesis", "share": 1.0}])
    as_seen = replace(config.stages[2], batch=4, augmentation=augmentation)
    config = replace(config, stages=(as_seen, replace(as_seen, name="framed", framed=True)))

    def largest(stage):
        mixture = Mixture(config, stage)
        batches = [mixture[step] for step in range(4)]
        boxes = torch.cat([b.boxes_px[b.valid.any(1)] for b in batches])
        return (boxes[..., 2:] - boxes[..., :2]).amax((1, 2)) / max(HEIGHT, WIDTH)

    assert largest(config.stages[1]).median() > 0.65
    assert largest(config.stages[0]).median() < 0.6


def test_close_ups_come_between_whole_pictures_which_stay_as_they_are(tmp_path):
    annotations = write_photographs(tmp_path / "photographs", hands=2)
    sources = [
        {"kind": "coco", "share": 1.0, "annotations": str(annotations)},
        {"kind": "synthesis", "share": 1.0},
    ]
    config = tiny_run(tmp_path, sources=sources, mosaic=0.5)
    augmentation = {"around_hand": 1.0, "hand_size": [0.7, 0.8], "shift": 0.0}
    close = CloseUpConfig(0.6, 6, ((64, 64),), ("coco", "synthesis"), augmentation)
    stage = replace(config.stages[2], steps=10, close_ups=close)
    plain = Mixture(config, config.stages[2])
    mixture = Mixture(replace(config, stages=(*config.stages[:2], stage)), stage)
    near = [step for step in range(10) if stage.shows_close_ups(step)]
    assert len(near) == 6 and np.diff(near).max() <= 2
    for step in range(10):
        batch = mixture[step]
        if step not in near:
            assert equal(batch, plain[step])
            continue
        assert batch.picture_size == (64, 64) and len(batch) == 6
        assert not any(source.startswith("mosaic") for source in batch.sources)
        largest = (batch.boxes_px[..., 2:] - batch.boxes_px[..., :2]).amax((1, 2)) / 64
        assert largest.median() > 0.6, "photographs and rendered pictures around a hand"
