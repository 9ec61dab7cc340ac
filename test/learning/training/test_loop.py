"""Training runs: the same every time, interrupted or not; what goes wrong leaves a good checkpoint."""

import copy
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from limits import files_of_at_most  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_training import STAGES, changed, tiny_run, write_network  # noqa: E402

from handos_ros.errors import DataError, HandosError, ModelError  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.inference.loading import learned_by  # noqa: E402
from handos_ros.inference.pipeline import Pipeline  # noqa: E402
from handos_ros.learning.training import checkpoint, data  # noqa: E402
from handos_ros.learning.training.checkpoint import load_checkpoint, newest_checkpoint  # noqa: E402
from handos_ros.learning.training.config import CloseUpConfig, SourceConfig, StageConfig  # noqa: E402
from handos_ros.learning.training.data import open_source  # noqa: E402
from handos_ros.learning.training.loop import Run, check, learning_rate, train  # noqa: E402
from handos_ros.learning.training.stages import StageStep  # noqa: E402
from handos_ros.network.weights import load_network  # noqa: E402

OF_3D = ("decoder.lifting", "decoder.lifted_embedding", "decoder.vertex", "decoder.camera")


@pytest.fixture
def config(tmp_path):
    return tiny_run(tmp_path)


def go(config, output, **bounds):
    """Whether it came to its end, and the newest checkpoint."""
    finished = train(config, load_hand_model(), Run(Path(output), progress=False, **bounds))
    return finished, load_checkpoint(Path(output) / "checkpoints")


def interrupt_at(total):
    """For `Run.evaluate`: what a user or a scheduler does after so many steps."""

    def evaluate(_network, step):
        if step == total:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    return {"evaluate": evaluate, "evaluate_every": 1}


def same(a, b):
    for part in ("network", "average"):
        assert a[part].keys() == b[part].keys()
        different = [key for key in a[part] if not torch.equal(a[part][key], b[part][key])]
        assert not different, (part, different[:3])
    assert [a[key] for key in ("stage", "step", "total")] == [b[key] for key in ("stage", "step", "total")]
    return True


def differing(a, b, part="network"):
    return {key for key in a[part] if not torch.equal(a[part][key], b[part][key])}


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(config, tmp_path):
    finished, first = go(config, tmp_path / "a")
    assert finished and same(first, go(config, tmp_path / "b")[1])
    other = go(changed(config, seed=1), tmp_path / "c")[1]
    assert len(differing(first, other)) > 100


def test_in_half_precision_it_learns_much_the_same_and_keeps_whole_weights(config, tmp_path):
    whole, half = (go(config, tmp_path / str(half), half=half)[1] for half in (False, True))
    tensors = [(whole["network"][key], half["network"][key]) for key in differing(whole, half)]
    assert len(tensors) > 100 and all(b.dtype == a.dtype for a, b in tensors)
    first, other = (
        json.loads((tmp_path / str(half) / "metrics.jsonl").read_text().splitlines()[0])
        for half in (False, True)
    )
    assert other["joints_2d"] == pytest.approx(first["joints_2d"], rel=0.1)
    assert other["joints_2d"] != first["joints_2d"]


def test_a_run_interrupted_after_every_step_ends_as_one_that_was_not(config, tmp_path):
    states = {}
    for total in range(1, 7):
        finished, states[total] = go(config, tmp_path / "a", **interrupt_at(total))
        assert states[total]["total"] == total and finished == (total == 6)
    whole = go(config, tmp_path / "b")[1]
    assert same(states[6], whole) and (whole["stage"], whole["step"]) == (3, 0)
    # Once it has come to its end, the same command has nothing to do.
    assert go(config, tmp_path / "a")[0] and same(go(config, tmp_path / "a")[1], whole)

    # What each stage moved: detector, joints, full, of two steps each.
    assert any(key.startswith("detector.") for key in differing(states[1], states[2]))
    for begin, end in ((2, 4), (4, 6)):
        moved = differing(states[begin], states[end])
        assert moved and not any(key.startswith("detector.") for key in moved)
        of_3d = {key for key in moved if key.startswith(OF_3D)}
        assert bool(of_3d) == (end == 6)

    # The moving average, step by step (its decay is 0.5 here).
    for total in range(2, 7):
        for key, value in states[total]["network"].items():
            if value.is_floating_point():
                before, now = (states[t]["average"][f"module.{key}"] for t in (total - 1, total))
                torch.testing.assert_close(now, 0.5 * (before + value), rtol=1e-5, atol=1e-6)


def test_a_stage_may_end_with_the_mean_of_its_weights_and_earlier_ones(tmp_path):
    def run(folder, steps, **bounds):
        stage = {"name": "full", "detector": True, "decoder": "full", **steps}
        return go(tiny_run(tmp_path, stages=[stage]), tmp_path / folder, **bounds)

    half, whole = run("half", {"steps": 2})[1]["average"], run("whole", {"steps": 4})[1]["average"]
    finished, state = False, {}
    while not finished:  # once in one go would not show that what was set aside survives
        finished, state = run(
            "mean", {"steps": 4, "mean_from": 0.5}, **(interrupt_at(3) if not state else {})
        )
    moved = 0
    for name, mean in state["average"].items():
        if mean.is_floating_point():
            torch.testing.assert_close(mean, (half[name] + whole[name]) / 2, atol=1e-6, rtol=1e-5)
            moved += int(not torch.equal(half[name], whole[name]))
    assert moved > 100 and state["aside"] is None


def test_gradients_that_are_added_up_survive_an_interruption_too(tmp_path):
    stages = [{**stage, "steps": 4} for stage in STAGES[1:]]
    config = tiny_run(tmp_path, stages=stages, accumulate=2)
    stopped_at = []
    for total in (1, 4, 5):
        finished, state = go(config, tmp_path / "a", **interrupt_at(total))
        assert not finished
        stopped_at.append(state["total"])
    assert stopped_at == [2, 4, 6], "the weights move every second step; only then is there a checkpoint"
    finished, state = go(config, tmp_path / "a")
    assert finished and same(state, go(config, tmp_path / "b")[1])


def test_gradients_of_several_steps_are_averaged(tmp_path, monkeypatch):
    seen = []

    def step(self, *_args):
        seen.append(
            [p.grad.clone() for group in self.param_groups for p in group["params"] if p.grad is not None]
        )

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    config = tiny_run(tmp_path, stages=[STAGES[2]], clip=1e9)
    go(config, tmp_path / "a")
    go(changed(config, accumulate=2), tmp_path / "b")
    first, second, both = seen
    assert any(g.abs().max() > 0 for g in first)
    for a, b, c in zip(first, second, both, strict=True):
        torch.testing.assert_close(c, (a + b) / 2, rtol=1e-4, atol=1e-6)


def test_a_run_ends_when_its_time_is_up_and_goes_on_later(config, tmp_path):
    def slow(_network, step):
        time.sleep(2 if step == 3 else 0)
        return {}

    finished, state = go(config, tmp_path / "a", minutes=2 / 60, evaluate=slow, evaluate_every=1)
    assert not finished and state["total"] <= 3
    finished, state = go(config, tmp_path / "a", minutes=10)
    assert finished and same(state, go(config, tmp_path / "b")[1])


def test_worker_processes_change_nothing_also_after_an_interruption(config, tmp_path):
    # The second stage begins, is left in its middle and comes to its end.
    for total in (3, None):
        _, state = go(config, tmp_path / "a", workers=1, **interrupt_at(total))
    assert same(state, go(config, tmp_path / "b")[1])


def test_a_dense_stage_too_goes_on_as_if_it_had_not_been_interrupted(tmp_path, monkeypatch):
    dense = {"name": "dense", "steps": 3, "detector": True, "dense": True, "decoder": "none"}
    config = tiny_run(tmp_path, stages=[dense, STAGES[0]])
    whole = go(config, tmp_path / "b")[1]
    calls = iter(range(100))
    monkeypatch.setattr("handos_ros.learning.training.loop._past", lambda _end: next(calls) == 2)
    finished, state = go(config, tmp_path / "a")
    assert not finished and (state["stage"], state["step"]) == (0, 2)
    finished, state = go(config, tmp_path / "a")
    assert finished and same(state, whole)


def test_signals_are_given_back(config, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    go(config, tmp_path / "a", **interrupt_at(1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoints_come_at_the_end_of_groups(tmp_path, monkeypatch):
    saved = []
    original = checkpoint.save_checkpoint

    def save(folder, step, state, keep=1):
        saved.append(step)
        return original(folder, step, state, keep)

    monkeypatch.setattr("handos_ros.learning.training.loop.save_checkpoint", save)
    config = tiny_run(tmp_path, stages=[{**STAGES[1], "steps": 9}], accumulate=3)
    go(config, tmp_path / "a", checkpoint_every=4)
    assert saved == [6, 9]


def test_the_weights_file_holds_the_average_and_is_one_that_networks_load(config, tmp_path):
    _, state = go(config, tmp_path / "a")
    network, _ = load_network(tmp_path / "a" / "weights.safetensors")
    for key, value in network.state_dict().items():
        wanted = state["average"][f"module.{key}"]
        rounded = wanted.half().float() if wanted.is_floating_point() and wanted.ndim > 1 else wanted
        assert torch.equal(value, rounded), key


def test_the_full_model_begins_with_the_weights_of_the_2d_model(tmp_path):
    first = tiny_run(tmp_path, stages=[STAGES[1]])
    go(first, tmp_path / "2d")
    weights = tmp_path / "2d" / "weights.safetensors"
    network, _ = load_network(weights)
    second = tiny_run(tmp_path, stages=[STAGES[2]], initial="2d/weights.safetensors", seed=5)
    assert second.initial == str(weights)
    # No time for any step.
    finished, state = go(second, tmp_path / "full", minutes=1e-9)
    assert not finished and state["total"] == 0
    for part, prefix in (("network", ""), ("average", "module.")):
        assert all(torch.equal(value, state[part][prefix + k]) for k, value in network.state_dict().items())
    # From then on its own checkpoint counts.
    weights.unlink()
    assert go(second, tmp_path / "full")[0]


@pytest.mark.parametrize(
    ("stages", "learned", "refusal"),
    [
        ([{**STAGES[0], "dense": True, "decoder": "none"}], "none", "its decoder has learned nothing yet"),
        (STAGES[1:2], "2d", "has learned 2D joints alone so far"),
        (STAGES[2:], "full", None),
    ],
)
def test_weights_say_what_their_decoder_has_learned(tmp_path, stages, learned, refusal):
    go(tiny_run(tmp_path, stages=stages), tmp_path / "a")
    weights = tmp_path / "a" / "weights.safetensors"
    assert learned_by(weights) == learned
    if refusal is None:
        Pipeline.load(weights=weights, backend="torch", device="cpu")
    else:
        with pytest.raises(ModelError, match=rf"weights\.safetensors: {refusal}"):
            Pipeline.load(weights=weights, backend="torch", device="cpu")
    # What it begins with counts too.
    more = tiny_run(tmp_path, stages=[{**STAGES[0], "dense": True, "decoder": "none"}], initial=str(weights))
    go(more, tmp_path / "b")
    assert learned_by(tmp_path / "b" / "weights.safetensors") == learned


def test_a_run_goes_on_for_pictures_of_another_size(config, tmp_path):
    _, before = go(config, tmp_path / "a", **interrupt_at(3))
    write_network(tmp_path / "network.yaml", long_side=160)
    finished, state = go(config, tmp_path / "a")
    assert finished and state["config"]["long_side"] == 160 != before["config"]["long_side"]
    # Its weights, too, begin a run for any size.
    write_network(tmp_path / "network.yaml", long_side=96)
    weights = str(tmp_path / "a" / "weights.safetensors")
    assert go(changed(config, initial=weights), tmp_path / "b", minutes=1e-9)[1]["total"] == 0


def test_weights_of_another_network_to_begin_with_are_refused(config, tmp_path):
    go(changed(config, stages=config.stages[1:2]), tmp_path / "a")
    write_network(tmp_path / "network.yaml", name="other")
    begun = changed(config, initial=str(tmp_path / "a" / "weights.safetensors"))
    with pytest.raises(
        ModelError, match=r"weights\.safetensors: made for another configuration: name is 'tiny_d_fine' there"
    ):
        go(begun, tmp_path / "b")
    with pytest.raises(ModelError, match="nowhere: no such weights file"):
        go(changed(config, initial="nowhere"), tmp_path / "b")
    assert newest_checkpoint(tmp_path / "b" / "checkpoints") is None


def test_a_backbone_that_knows_something_begins_the_run_and_learns_as_told(tmp_path):
    known = copy.deepcopy(load_hands_network(tmp_path).detector.model.model.backbone.model.state_dict())
    save_file({name: value.contiguous() for name, value in known.items()}, tmp_path / "backbone.safetensors")
    encoder = "model.backbone.model.encoder"
    stage = {**STAGES[0], "frozen": [f"{encoder}.stages.0"], "backbone_learning_rate": 1e-5}
    begun = tiny_run(tmp_path, stages=[stage], initial_backbone="backbone.safetensors", seed=7)

    _, state = go(begun, tmp_path / "a")

    prefix = "detector.model.model.backbone.model."
    moved = {
        name: (state["network"][prefix + name] - value).abs().max().item()
        for name, value in known.items()
        if name.endswith("weight") and value.ndim > 1
    }
    assert {name for name, by in moved.items() if by == 0} == {
        name for name in moved if name.startswith("encoder.stages.0")
    }
    # Adam moves a weight by at most about its rate in a step; two steps.
    assert max(moved.values()) < 4e-5
    others = state["network"]["detector.model.model.encoder_input_proj.0.0.weight"]
    start = go(changed(begun, initial_backbone=""), tmp_path / "b", minutes=1e-9)[1]["network"]
    assert (others - start["detector.model.model.encoder_input_proj.0.0.weight"]).abs().max() > 2e-4
    with pytest.raises(ModelError, match="frozen: no parameter of the d_fine begins with 'nothing'"):
        go(tiny_run(tmp_path, stages=[{**stage, "frozen": ["nothing"]}]), tmp_path / "c")


def load_hands_network(folder):
    """A tiny network that a run of one step has made."""
    go(tiny_run(folder, stages=[{**STAGES[0], "steps": 1}], seed=3), folder / "before")
    return load_network(folder / "before" / "weights.safetensors")[0]


def test_metrics_are_kept_by_step(config, tmp_path):
    values = iter([{"recall": 0.25}, {"recall": float("nan")}, {"recall": 0.75}])
    config = changed(config, stages=config.stages[:1])
    go(config, tmp_path / "a", evaluate=lambda *_: next(values), evaluate_every=1)
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["eval/recall"] for line in lines if "eval/recall" in line]
    assert scores[:2] == [0.25, None], "what is no number is null: other readers know no NaN"
    (row,) = [line for line in lines if "detector" in line]
    assert row["step"] == 2 and row["stage"] == "detector" and row["learning_rate"] == 1e-3
    assert row["pictures_per_second"] > 0 and row["gradient_norm"] > 0 and row["joints_2d"] > 0
    assert list((tmp_path / "a" / "tensorboard").glob("events.out.tfevents.*"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    assert [round(e.value, 4) for e in events.Scalars("joints_2d")] == [round(row["joints_2d"], 4)]


def test_the_rate_rises_stays_and_falls_to_nothing():
    stage = StageConfig("full", steps=100, warmup=10, decay=0.4)
    rates = np.array([learning_rate(stage, step) for step in range(100)])
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:60], 1)
    np.testing.assert_allclose(rates[60:], 1 - np.arange(40) / 40)
    flat = StageConfig("full", steps=5, warmup=0, decay=0)
    assert [learning_rate(flat, step) for step in range(5)] == [1.0] * 5


def begun(config, folder):
    """A run with a checkpoint after its third step; its folder."""
    go(config, folder, **interrupt_at(3))
    return newest_checkpoint(folder / "checkpoints")


def test_a_damaged_checkpoint_is_named(config, tmp_path):
    piece = begun(config, tmp_path / "a") / "piece-000"
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes(content)
    with pytest.raises(DataError, match=r"step-00000003/piece-000: damaged"):
        go(config, tmp_path / "a")


def test_a_checkpoint_of_another_run_is_named_and_kept(config, tmp_path):
    path = begun(config, tmp_path / "a")
    renamed = changed(
        config, stages=(config.stages[0], changed(config.stages[1], name="other"), config.stages[2])
    )
    with pytest.raises(
        DataError, match="a/checkpoints: the checkpoint is of another run, with the stages detector,"
    ):
        go(renamed, tmp_path / "a")
    other = changed(config.stages[1], detector=True)
    with pytest.raises(DataError, match="a/checkpoints: stage joints learned other things"):
        go(changed(config, stages=(config.stages[0], other, config.stages[2])), tmp_path / "a")
    write_network(tmp_path / "network.yaml", name="other")
    with pytest.raises(DataError, match="a/checkpoints: the checkpoint is of another network configuration"):
        go(config, tmp_path / "a")
    assert newest_checkpoint(tmp_path / "a" / "checkpoints") == path


def test_stages_to_come_may_change(config, tmp_path):
    begun(config, tmp_path / "a")
    later = changed(config.stages[2], name="longer", steps=3)
    finished, state = go(changed(config, stages=(*config.stages[:2], later)), tmp_path / "a")
    assert finished and state["total"] == 7


@pytest.mark.parametrize("limit", [20_000, 400_000])
def test_a_disk_that_fills_stops_the_run_and_keeps_the_good_checkpoint(config, tmp_path, limit):
    path = begun(config, tmp_path / "a")
    weights = (tmp_path / "a" / "weights.safetensors").read_bytes()
    with (
        files_of_at_most(limit),
        pytest.raises(HandosError, match=r"step-00000004: cannot write the checkpoint: File too large"),
    ):
        go(config, tmp_path / "a", checkpoint_every=1)
    assert newest_checkpoint(tmp_path / "a" / "checkpoints") == path
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == weights
    # With room again it goes on as if nothing had been.
    assert same(go(config, tmp_path / "a")[1], go(config, tmp_path / "b")[1])


def test_a_weights_file_that_finds_no_room_is_named_and_the_checkpoint_is_whole(
    config, tmp_path, monkeypatch
):
    begun(config, tmp_path / "a")
    weights = (tmp_path / "a" / "weights.safetensors").read_bytes()
    # Pieces that fit where the weights do not.
    monkeypatch.setattr(checkpoint, "PIECE", 100_000)
    with (
        files_of_at_most(150_000),
        pytest.raises(HandosError, match=r"weights\.safetensors.*File too large"),
    ):
        go(config, tmp_path / "a", checkpoint_every=1)
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == weights
    assert same(go(config, tmp_path / "a")[1], go(config, tmp_path / "b")[1])


def test_an_output_that_cannot_be_made_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/run: cannot be written"):
        go(config, tmp_path / "file" / "run")


def test_a_bad_picture_ends_the_run_by_name_and_the_checkpoint_stays(config, tmp_path):
    path = begun(config, tmp_path / "a")
    for picture in (tmp_path / "photographs" / "images").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images/00\d\.png: not a picture"):
        go(config, tmp_path / "a")
    assert newest_checkpoint(tmp_path / "a" / "checkpoints") == path


def test_sizes_that_the_network_cannot_take_are_named(config, tmp_path):
    stage = changed(config.stages[2], sizes=((96, 100),))
    with pytest.raises(DataError, match="stage full: sizes has 96 x 100; the network needs multiples of 32"):
        go(changed(config, stages=(stage,)), tmp_path / "a")
    stage = changed(config.stages[2], close_ups=CloseUpConfig(0.5, 3, ((50, 64),)))
    with pytest.raises(DataError, match=r"stage full: close_ups\.sizes has 50 x 64; the network needs"):
        go(changed(config, stages=(stage,)), tmp_path / "a")


def test_a_dry_run_takes_a_step_of_every_stage_and_writes_nothing(config, tmp_path):
    report = list(check(config, load_hand_model(), Run(tmp_path / "a")))
    assert report[0] == "coco: 5 pictures"
    assert [line.split(":")[0] for line in report[1:]] == ["detector", "joints", "full"]
    assert all("batch of 2 (100% coco)" in line and "joints_2d" in line for line in report[1:])
    assert not (tmp_path / "a").exists()


def test_close_ups_are_learned_from_in_their_turn(config, tmp_path, monkeypatch):
    stage = changed(config.stages[2], steps=5, close_ups=CloseUpConfig(0.4, 3, ((64, 64),)))
    config = changed(config, stages=(stage,))
    seen, forward = [], StageStep.forward
    monkeypatch.setattr(
        StageStep, "forward", lambda *a: seen.append((len(a[1]), a[2])) or forward(*a), raising=True
    )
    finished, state = go(config, tmp_path / "a", **interrupt_at(2))
    assert not finished
    finished, state = go(config, tmp_path / "a")
    assert finished and seen == [(2, False), (2, False), (3, True), (2, False), (3, True)]
    _, alone = go(config, tmp_path / "b")
    same(state, alone)
    report = list(check(config, load_hand_model(), Run(None)))
    assert [line.split(" (")[0] for line in report[1:]] == [
        "full: batch of 2",
        "full, close-ups: batch of 3",
    ]


def test_a_dry_run_opens_each_source_once_and_tells_what_it_knows(config, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(data, "open_source", lambda source: opened.append(source) or open_source(source))
    steps = check(config, load_hand_model(), Run(None))
    assert next(steps) == "coco: 5 pictures" and next(steps).startswith("detector: ")
    (tmp_path / "photographs" / "annotations.json").unlink()
    assert len(list(steps)) == 2 and opened == list(config.sources)


def test_a_dry_run_says_what_each_stage_is_drawn_from(config, tmp_path):
    empty = SourceConfig("negatives", share=1.0, images=str(tmp_path / "photographs" / "images"))
    stages = (replace(config.stages[0], kinds=("coco",)), config.stages[1])
    config = changed(config, sources=(replace(config.sources[0], share=3.0), empty), stages=stages)
    report = list(check(config, load_hand_model(), Run(None)))
    assert report[:2] == ["coco: 5 pictures", "negatives: 5 pictures"]
    assert "(100% coco)" in report[2] and "(75% coco, 25% negatives)" in report[3]


def test_a_dry_run_names_what_cannot_stay_frozen(config, tmp_path):
    stage = replace(config.stages[0], frozen=("model.nothing",))
    with pytest.raises(ModelError, match=r"model\.nothing"):
        list(check(changed(config, stages=(stage,)), load_hand_model(), Run(tmp_path / "a")))


def test_a_dry_run_names_a_picture_that_no_batch_of_it_would_have_shown(config, tmp_path):
    (tmp_path / "photographs" / "images" / "004.png").unlink()
    with pytest.raises(DataError, match=r"004\.png"):
        list(check(changed(config, mosaic=0), load_hand_model(), Run(tmp_path / "a")))
