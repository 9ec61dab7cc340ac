"""The training loop: stages one after another, bounded in time, resumable at any step."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from handos_ros.errors import DataError
from handos_ros.files.atomic import naming
from handos_ros.hand_model.model import HandModel
from handos_ros.inference.loading import learned_by
from handos_ros.learning.training.calibration import calibrate
from handos_ros.learning.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from handos_ros.learning.training.compiled import compile_slow_parts
from handos_ros.learning.training.completion import complete_pictures
from handos_ros.learning.training.config import StageConfig, TrainingConfig
from handos_ros.learning.training.data import Mixture
from handos_ros.learning.training.losses import MeshTopology
from handos_ros.learning.training.mining import hard_hands, hard_negatives, merged
from handos_ros.learning.training.stages import StageStep
from handos_ros.network.config import config_from_dict, config_to_dict, load_config
from handos_ros.network.handos import HandosNetwork
from handos_ros.network.weights import load_weights, same_weights, save_weights


@dataclass
class Run:
    """Where a run writes and how it is bounded.

    Attributes:
        output: folder for checkpoints, `metrics.jsonl`, TensorBoard's events and `weights.safetensors`. None
            for `check` as before the first step; `train` needs one.
        minutes: stop after this long, with a checkpoint; None for never.
        device: `cpu`, `cuda`, `cuda:N`.
        workers: processes that make batches.
        checkpoint_every: steps.
        evaluate: called with the averaged network and the global step; what it returns is logged.
        evaluate_every: steps.
        progress: whether to show a bar.
        compiled: have torch compile what learns slowly: on a CPU single operations (`training.compiled`), on
            a GPU backbone and encoder. Minutes at first, faster steps then.
        half: run the network (never its losses) in bfloat16; None for where it pays by itself, on a GPU.
    """

    output: Path | None
    minutes: float | None = None
    device: str = "cpu"
    workers: int = 0
    checkpoint_every: int = 500
    evaluate: Callable[[HandosNetwork, int], dict[str, float]] | None = None
    evaluate_every: int = 1000
    progress: bool = True
    compiled: bool = False
    half: bool | None = None


def train(config: TrainingConfig, hand_model: HandModel, run: Run) -> bool:
    """Train, or go on from the newest checkpoint in `run.output`.

    On one CPU the same configuration gives the same weights every time, interrupted or not.

    Returns:
        Whether the run came to its end; False where time or an interrupt ended it first.

    Raises:
        DataError: for sources or checkpoints that cannot be used; the last good checkpoint stays.
    """
    return _Trainer(config, hand_model, run).train()


def check(config: TrainingConfig, hand_model: HandModel, run: Run) -> Iterator[str]:
    """One batch and one step of every stage, one of its close-ups too, nothing written.

    Yields:
        A line for people on each source and each stage, as soon as it is known.

    Raises:
        DataError: as `train`.
    """
    trainer = _Trainer(config, hand_model, run)
    mixture = Mixture(config, config.stages[0], num_vertices=len(hand_model.template))
    opened = mixture.sources
    for source, pictures in zip(config.sources, opened, strict=True):
        yield f"{source.kind}: {_extent(pictures)}"
    for number, stage in enumerate(config.stages):
        trainer.stage, trainer.step = number, 0
        trainer.prepare(stage)
        module = StageStep(trainer.network, config, stage, trainer.mesh).to(trainer.device)
        trainer.optimizer = _optimizer(module, config, stage)
        mixture = Mixture(config, stage, num_vertices=len(hand_model.template), opened=opened)
        first_close = next(filter(stage.shows_close_ups, range(stage.steps)), None)
        for step, pictures in ((0, mixture.whole), (first_close, mixture.close)):
            if step is None or pictures is None:
                continue
            started = time.monotonic()
            batch = mixture[step]
            made = time.monotonic()
            trainer.step = step
            terms, _, _ = trainer._one_step(module, stage, batch.to(trainer.device))
            values = " ".join(f"{name} {float(value):.3g}" for name, value in terms.items())
            seconds = time.monotonic() - made
            shares = ", ".join(
                f"{share:.0%} {source.kind}"
                for source, share in zip(config.sources, pictures.shares, strict=True)
                if share
            )
            line = f"{stage.name}{', close-ups' if step else ''}: "
            line += f"batch of {len(batch)} ({shares}) in {made - started:.2f} s"
            line += f", step in {seconds:.2f} s; {values}"
            if trainer.device.type == "cuda":
                line += f"; {torch.cuda.max_memory_allocated(trainer.device) / 2**30:.1f} GiB at the peak"
            yield line


def _extent(source: Any) -> str:
    """How many pictures, once the first and the last of them have been read."""
    if not hasattr(source, "__len__"):
        return "rendered"
    for index in (0, len(source) - 1):
        source[index]
    return f"{len(source)} pictures"


class _Trainer:
    def __init__(self, config: TrainingConfig, hand_model: HandModel, run: Run) -> None:
        self.config, self.hand_model, self.run = config, hand_model, run
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = torch.device(run.device)
        if self.world > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
                torch.cuda.set_device(self.device)
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        torch.manual_seed(config.seed)
        self.network = HandosNetwork(load_config(config.network), hand_model, frozen=False).to(self.device)
        # Convolutions and norms over several pictures run a third faster so, on CPUs and on tensor cores.
        nn.utils.convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self._check_sizes()
        resumes = run.output is not None and newest_checkpoint(run.output / "checkpoints") is not None
        if config.initial and not resumes:
            load_weights(self.network, config.initial)
        if config.initial_backbone and not resumes:
            self.network.detector.load_backbone(config.initial_backbone)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        self.mesh = MeshTopology(
            torch.from_numpy(hand_model.faces.copy()), torch.from_numpy(hand_model.template.copy())
        ).to(self.device)
        self.stage, self.step, self.total = 0, 0, 0
        self.optimizer: torch.optim.Optimizer | None = None
        self.dense: dict[str, Tensor] | None = None
        self.head: nn.Module | None = None
        self.loaded: dict[str, Any] | None = None
        self.completed: list[list[int]] = []
        self.hard: list[list[float]] = []
        self.aside: dict[str, Tensor] | None = None
        if resumes:
            self._resume()
        if run.compiled:
            if self.device.type == "cpu":
                compile_slow_parts(self.network)
            else:
                self.network.detector.compile_maps()

    @property
    def output(self) -> Path:
        """The run's folder."""
        if self.run.output is None:
            raise ValueError("training needs a folder for what it writes")
        return self.run.output

    def train(self) -> bool:
        with naming(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
        end = None if self.run.minutes is None else time.monotonic() + 60 * self.run.minutes
        finished = True
        try:
            with _interruptible() as interrupted:
                for number, stage in enumerate(self.config.stages):
                    if number < self.stage:
                        continue
                    self.stage = number
                    if not self._train_stage(stage, lambda: interrupted() or _past(end)):
                        finished = False
                        break
                    self.step = 0
                    self.dense = None if self.head is None else self.head.state_dict()
                    if number + 1 < len(self.config.stages):
                        self.stage, self.optimizer = number + 1, None
            if finished and self.config.calibrate and not self.rank:
                self._calibrate()
        finally:
            if self.world > 1:
                torch.distributed.destroy_process_group()
        return finished

    def prepare(self, stage: StageConfig) -> None:
        """Let learn what the stage teaches, and nothing else.

        Raises:
            ModelError: naming what is to stay frozen and is not there.
        """
        self.network.detector.freeze(not stage.detector)
        self.network.detector.freeze_parts(stage.frozen)
        self.network.train()

    def _look(self, stage: StageConfig) -> None:
        """What the stage wants to know of the pictures before it begins, as the network sees them now."""
        network = self.average.module.eval()
        if stage.complete is not None:
            self.completed = complete_pictures(network, self.hand_model, self.config, stage.complete)
        if stage.hard is not None:
            self.hard = merged(self.hard, hard_negatives(network, self.hand_model, self.config, stage.hard))
        if stage.hard_hands is not None:
            self.hard = merged(self.hard, hard_hands(network, self.hand_model, self.config, stage.hard_hands))

    def _train_stage(self, stage: StageConfig, stopped: Callable[[], bool]) -> bool:
        # What ended before its first step has looked already, and would otherwise never come to that.
        if not self.step and self.loaded is None:
            self._look(stage)
        self.prepare(stage)
        module = StageStep(self.network, self.config, stage, self.mesh).to(self.device)
        if module.dense is not None and self.dense is not None:
            # What the stage before has learned, also where that was in another process.
            module.dense.load_state_dict(self.dense)
        self.dense = None
        self.head = module.dense
        self.optimizer = _optimizer(module, self.config, stage)
        if self.loaded is not None:
            try:
                self.optimizer.load_state_dict(self.loaded["optimizer"])
            except ValueError as error:
                folder = self.output / "checkpoints"
                raise DataError(f"{folder}: stage {stage.name} learned other things: {error}") from None
            self.loaded = None
        step_module: nn.Module = module
        if self.world > 1:
            step_module = nn.parallel.DistributedDataParallel(
                step_module,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                find_unused_parameters=True,
            )
        mixture = Mixture(
            self.config,
            stage,
            rank=self.rank,
            num_vertices=len(self.hand_model.template),
            completed=self.completed,
            hard=self.hard,
        )
        batches = mixture.loader(self.step, stage.steps, self.run.workers, pin=self.device.type == "cuda")
        log = _Log(self.output, stage, self.step, self.run.progress and self.rank == 0, self.rank == 0)
        complete = True
        try:
            for batch in batches:
                # Never between steps whose gradients are still being added up: those are in no checkpoint.
                if self.step % self.config.accumulate == 0 and self._all_agree(stopped()):
                    complete = False
                    break
                terms, norm, rate = self._one_step(step_module, stage, batch.to(self.device))
                self.step += 1
                self.total += 1
                if stage.mean_from is not None and self.step == math.ceil(stage.mean_from * stage.steps):
                    self.aside = {name: value.clone() for name, value in self._averaged().items()}
                log.step(self.total, self.step, terms, norm, rate, len(batch) * self.world)
                if self.rank:
                    continue
                if self._measures(stage) and self.total % self.run.evaluate_every == 0:
                    self._evaluate(log)
                if self._due() and self.step < stage.steps:
                    self._save()
            if complete:
                self._take_mean()
            if not self.rank:
                if complete and self._measures(stage):
                    self._evaluate(log)
                self._save(stage_done=complete)
        finally:
            log.close()
        return complete

    def _averaged(self) -> dict[str, Tensor]:
        """The averaged weights and statistics themselves, not copies of them; tied ones once."""
        module = self.average.module
        values = [*module.named_parameters(), *module.named_buffers()]
        return {name: value.detach() for name, value in values if value.is_floating_point()}

    def _take_mean(self) -> None:
        """At the end of a stage: of the averaged weights and of those that it set aside, if it did."""
        if self.aside is not None:
            for name, value in self._averaged().items():
                value.lerp_(self.aside[name].to(value), 0.5)
        self.aside = None

    def _one_step(
        self, module: nn.Module, stage: StageConfig, batch: Any
    ) -> tuple[dict[str, Tensor], Tensor, float]:
        assert self.optimizer is not None
        rate = learning_rate(stage, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate
        # The step's own randomness, so that a resumed run draws as an uninterrupted one.
        torch.manual_seed(hash((self.config.seed, self.stage, self.step, self.rank)) & 0x7FFFFFFF)
        half = self.device.type == "cuda" if self.run.half is None else self.run.half
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half), self._attention():
            loss, terms = module(batch, stage.shows_close_ups(self.step))
        (loss / self.config.accumulate).backward()
        norm = torch.zeros(())
        if (self.step + 1) % self.config.accumulate == 0:
            norm = self._clipped()
            if torch.isfinite(norm):
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.average.update_parameters(self.network)
        return terms, norm, rate * stage.learning_rate

    def _attention(self) -> AbstractContextManager[None]:
        """The detector attends to few places: on CPUs that learns fastest as plain products of matrices."""
        if self.device.type == "cpu":
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()

    def _clipped(self) -> Tensor:
        """Clip the gradients of the detector and of the rest, each for itself; the norm of all.

        A detector that starts from nothing has gradients a hundred times the decoder's: clipped together,
        the decoder's would sink to where AdamW's epsilon swallows them.
        """
        assert self.optimizer is not None
        norms = []
        for part in (True, False):
            parameters = [
                p
                for group in self.optimizer.param_groups
                if group["detector"] is part
                for p in group["params"]
            ]
            if parameters:
                norms.append(nn.utils.clip_grad_norm_(parameters, self.config.clip))
        return torch.stack(norms).norm()

    def _calibrate(self) -> None:
        """The weights file of the end; checkpoints keep what was learned."""
        network = copy.deepcopy(self.average.module).eval()
        calibrate(network, self.hand_model, self.config, self.completed)
        self._save_weights(network)

    def _save_weights(self, network: HandosNetwork) -> None:
        begun = [stage.decoder for stage in self.config.stages[: self.stage + 1]]
        if self.config.initial and Path(self.config.initial).exists():
            begun.append(learned_by(self.config.initial))
        learned = next(kind for kind in ("full", "2d", "none") if kind in begun)
        save_weights(
            network,
            self.output / "weights.safetensors",
            hand_model=self.hand_model,
            info={"handos.learned": learned},
        )

    def _measures(self, stage: StageConfig) -> bool:
        """Whether the network says anything yet that can be measured."""
        return self.run.evaluate is not None and not (stage.dense and stage.decoder == "none")

    def _evaluate(self, log: _Log) -> None:
        assert self.run.evaluate is not None
        network = self.average.module
        network.eval()
        log.evaluated(self.total, self.run.evaluate(network, self.total))

    def _save(self, stage_done: bool = False) -> None:
        assert self.optimizer is not None
        state = {
            "config": config_to_dict(self.network.config),
            "hand_model": self.network.hand_model_hash,
            "stages": [stage.name for stage in self.config.stages],
            "stage": self.stage + stage_done,
            "step": 0 if stage_done else self.step,
            "total": self.total,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": None if stage_done else self.optimizer.state_dict(),
            "dense": None if self.head is None else self.head.state_dict(),
            "completed": self.completed,
            "hard": self.hard,
            "aside": self.aside,
        }
        save_checkpoint(self.output / "checkpoints", self.total, state)
        self._save_weights(self.average.module)

    def _resume(self) -> None:
        folder = self.output / "checkpoints"
        state = load_checkpoint(folder)
        try:
            if not same_weights(config_from_dict(state["config"]), self.network.config):
                raise DataError(f"{folder}: the checkpoint is of another network configuration")
            if state["hand_model"] != self.network.hand_model_hash:
                raise DataError(f"{folder}: the checkpoint is of another hand model")
            ours = [stage.name for stage in self.config.stages]
            # Stages to come may be added, dropped or renamed; those begun must be the same.
            begun = state["stages"][: state["stage"] + (state["optimizer"] is not None)]
            if begun != ours[: len(begun)]:
                raise DataError(
                    f"{folder}: the checkpoint is of another run, with the stages "
                    f"{', '.join(state['stages'])}; choose another output"
                )
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.stage, self.step, self.total = state["stage"], state["step"], state["total"]
            self.dense, self.completed = state["dense"], state["completed"]
            # Checkpoints of before there was such a thing have none.
            self.hard, self.aside = state.get("hard", []), state.get("aside")
        except (KeyError, RuntimeError) as error:
            raise DataError(f"{folder}: the checkpoint does not fit this network: {error}") from None
        self.loaded = state if state["optimizer"] is not None else None

    def _due(self) -> bool:
        group, every = self.config.accumulate, self.run.checkpoint_every
        return self.step % group == 0 and self.step // every > (self.step - group) // every

    def _check_sizes(self) -> None:
        stride = self.network.config.stride
        for stage in self.config.stages:
            sizes = [("sizes", size) for size in stage.sizes]
            if stage.close_ups:
                sizes += [("close_ups.sizes", size) for size in stage.close_ups.sizes]
            for where, (height, width) in sizes:
                if height % stride or width % stride:
                    raise DataError(
                        f"stage {stage.name}: {where} has {height} x {width}; the network needs multiples of "
                        f"{stride}"
                    )

    def _all_agree(self, stopped: bool) -> bool:
        """Whether any process wants to stop: then all do, at the same step."""
        if self.world == 1:
            return stopped
        flag = torch.tensor(float(stopped), device=self.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())


def learning_rate(stage: StageConfig, step: int) -> float:
    """Fraction of the full rate at a step: a rise, a plateau, a line down to nothing."""
    rise = min(1.0, (step + 1) / max(1, stage.warmup))
    falling = stage.decay * stage.steps
    fall = min(1.0, (stage.steps - step) / falling) if falling else 1.0
    return min(rise, fall)


def _optimizer(module: StageStep, config: TrainingConfig, stage: StageConfig) -> torch.optim.Optimizer:
    """AdamW over what learns; biases, norms and embeddings are not decayed."""
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        in_detector = name.startswith("network.detector.")
        if not in_detector and stage.decoder == "none" and not name.startswith("dense."):
            continue
        rate = stage.learning_rate
        if in_detector and stage.detector_learning_rate is not None:
            rate = stage.detector_learning_rate
        if ".backbone." in name and in_detector and stage.backbone_learning_rate is not None:
            rate = stage.backbone_learning_rate
        decay = config.weight_decay if parameter.ndim > 1 and "embedding" not in name else 0.0
        groups.setdefault((in_detector, rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "base": rate, "weight_decay": decay, "detector": in_detector}
            for (in_detector, rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


class _Log:
    """Metrics by step: a line of json each, TensorBoard, and a progress bar."""

    EVERY = 20

    def __init__(self, folder: Path, stage: StageConfig, first: int, progress: bool, writes: bool) -> None:
        from tqdm import tqdm

        self.folder = folder
        self.file = self.board = None
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            with naming(folder):
                self.file = open(folder / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115
                self.board = SummaryWriter(str(folder / "tensorboard"))
        self.stage = stage
        self.bar = tqdm(total=stage.steps, initial=first, desc=stage.name, disable=not progress, unit="step")
        self.sums: dict[str, Tensor] = {}
        self.count, self.pictures, self.since = 0, 0, time.monotonic()

    def step(
        self, total: int, step: int, terms: dict[str, Tensor], norm: Tensor, rate: float, pictures: int
    ) -> None:
        self.bar.update()
        for name, value in {**terms, "gradient_norm": norm}.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value
        self.count, self.pictures = self.count + 1, self.pictures + pictures
        if step % self.EVERY and step != self.stage.steps:
            return
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        now = time.monotonic()
        means["pictures_per_second"] = self.pictures / max(now - self.since, 1e-9)
        self._write(total, {**means, "learning_rate": rate})
        self.bar.set_postfix(
            {k: f"{v:.3g}" for k, v in means.items() if k in ("detector", "joints_2d", "vertices")}
        )
        self.sums, self.count, self.pictures, self.since = {}, 0, 0, now

    def evaluated(self, total: int, metrics: dict[str, float]) -> None:
        self._write(total, {f"eval/{name}": value for name, value in metrics.items()})
        self.since = time.monotonic()

    def _write(self, total: int, values: dict[str, float]) -> None:
        if self.file is None or self.board is None:
            return
        clean = {k: (v if math.isfinite(v) else None) for k, v in values.items()}
        line = {"step": total, "stage": self.stage.name, "time": round(time.time(), 1), **clean}
        with naming(self.folder):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            for name, value in values.items():
                self.board.add_scalar(name, value, total)

    def close(self) -> None:
        self.bar.close()
        for target in (self.file, self.board):
            # What could not be written has been said by then.
            with suppress(OSError):
                if target is not None:
                    target.close()


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, a request to end or the terminal's end: after the step under way, with a checkpoint."""
    caught: list[int] = []
    old = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            old[number] = signal.signal(number, lambda n, _frame: caught.append(n))
    except ValueError:  # Not in the main thread: whoever runs it there stops it otherwise.
        pass
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _past(end: float | None) -> bool:
    return end is not None and time.monotonic() > end
