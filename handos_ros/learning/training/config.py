"""What a training run is made of, as typed objects and YAML: sources, stages, optimiser."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handos_ros.errors import DataError
from handos_ros.learning.datasets import DATASETS
from handos_ros.learning.training.losses import LossWeights
from handos_ros.network.config import build_config, shipped_configs

_RECIPES = Path(__file__).with_name("recipes")
SOURCE_KINDS = ("coco", "negatives", "synthesis", *DATASETS)


@dataclass(frozen=True)
class SourceConfig:
    """One kind of picture and how large a part of every batch it is.

    Attributes:
        kind: `coco` (photographs with a COCO keypoint file), `negatives` (photographs without hands),
            `synthesis` (rendered hands) or the name of a public data set (`handos_ros.learning.datasets`).
        share: its part of every batch, relative to the other sources' shares.
        annotations: of `coco` and `coco_wholebody`: the json file.
        images: the folder of pictures; for `coco` by default beside the file; for other data sets the
            root of their official layout.
        settings: of `synthesis`, the fields of its configuration that differ from the default; of a data
            set, its options (`split`, `subset`, `setup`).
        backs: of `coco`: how many times as often a photograph is drawn in which the back of a hand is seen.
            People show their palms; what is rarely seen is not told apart.
        crowds: likewise for photographs of three hands or more.
        rare: of `coco`: photographs whose hands are in poses that few others show are drawn more often, by
            this power of the distance to the nearest other poses; 0 for all alike. See `lots.rare_poses`.
        exclude: of `negatives`: keep out the pictures whose number, in sorted order, modulo 10 is in
            this list, for evaluation.
    """

    kind: str
    share: float
    annotations: str = ""
    images: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    backs: float = 1.0
    crowds: float = 1.0
    rare: float = 0.0
    exclude: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, factor in (("backs", self.backs), ("crowds", self.crowds)):
            if factor <= 0 or (factor != 1 and self.kind != "coco"):
                raise DataError(
                    f"source {self.kind}: {name} must be positive, and is for sources of kind coco"
                )
        if self.rare < 0 or (self.rare and self.kind != "coco"):
            raise DataError(f"source {self.kind}: rare must not be negative, and is for sources of kind coco")
        if self.kind not in SOURCE_KINDS:
            raise DataError(f"sources.kind is {self.kind!r}; known are {', '.join(SOURCE_KINDS)}")
        if self.share <= 0:
            raise DataError(f"the share of source {self.kind} must be above 0, got {self.share:g}")
        if self.kind in ("coco", "coco_wholebody") and not self.annotations:
            raise DataError(f"a source of kind {self.kind} needs `annotations`")
        if self.kind not in ("coco", "synthesis") and not self.images:
            raise DataError(f"a source of kind {self.kind} needs `images`")


@dataclass(frozen=True)
class CloseUpConfig:
    """Steps of small pictures around one hand each, between a stage's steps of whole pictures.

    They cost little for each hand, and are what the second look shows (`handos_ros.inference.second_look`).
    Rendered pictures are framed there (`StageConfig.framed`), photographs never four in one.

    Attributes:
        share: how large a part of the stage's steps they are, spread evenly.
        batch, kinds, sizes, augmentation, hands: as of `StageConfig`, for these steps.
        incomplete: as of `TrainingConfig`, for these steps: how often the detector's queries learn nothing.
    """

    share: float
    batch: int
    sizes: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...] = ()
    augmentation: dict[str, Any] = field(default_factory=dict)
    hands: int = 1
    incomplete: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise DataError(f"close_ups.share must be between 0 and 1, got {self.share:g}")
        if self.batch < 1 or self.hands < 1 or not 0 <= self.incomplete <= 1:
            raise DataError("close_ups: batch and hands must be positive, incomplete from 0 to 1")
        _check_sizes("close_ups", self.sizes)


@dataclass(frozen=True)
class StageConfig:
    """A part of the training in which the same things learn.

    Attributes:
        name: for people and metrics.
        steps: how many.
        batch: pictures a step, on each process.
        kinds: only sources of these kinds; empty for all.
        sizes: (height, width) in px of the network pictures; each step draws one.
        detector: whether the detector learns. It is frozen in every other stage.
        dense: the detector's encoder learns from every place of the maps that lies in a hand. With
            `decoder: none` the detector's queries wait for a later stage: several times as fast, for the
            beginning. Otherwise both learn.
        dense_weight: of the losses from places, where queries or decoder learn too.
        decoder: `none`, `2d` (all layers over joint queries alone, as HandOS's first stage) or `full`.
        augmentation: how photographs are varied, where it differs from `Augmentation`'s own fields; its
            colours under `photometric`, by `Photometric`'s.
        framed: rendered pictures are laid out around a hand as photographs are, by the same fields of
            `augmentation`, rather than as their cameras see it: small pictures show hands of which
            something can be told.
        mosaic, hands, incomplete: as of `TrainingConfig`, where this stage differs from the run.
        complete: before the stage the run's own network looks at all photographs whose hands are not all
            known to be labelled; those in which it sees no other hand, at this score, count as fully labelled
            from then on (`training.completion`). None for not.
        hard: before the stage the run's own network looks at all photographs without hands; each is drawn as
            often as its best score, over the middling one, to this power says (`training.mining`). 0 for all
            alike, None for as in the stage before.
        hard_hands: likewise at all photographs of hands, by how wrong it is about them (`mining.error`).
        learning_rate: at its height.
        detector_learning_rate: of the detector, where it learns; None for the same.
        backbone_learning_rate: of the detector's backbone, where it learns; None for the detector's. One that
            has learned elsewhere wants a lower rate.
        frozen: beginnings of names of the detector's parameters that do not learn although the detector does,
            such as the finest scales of a backbone that has learned elsewhere: their gradients are a
            large part of a step's time.
        warmup: steps in which the rate rises to its height.
        decay: the part of the steps, at the end, in which it falls to nothing along a line.
        mean_from: the part of the steps after which the averaged weights are set aside; at the stage's end
            the mean of these and the last ones takes their place. Weights of the high rate hold more for
            pictures never seen, those of the low one are more exact. None for the last ones alone.
        close_ups: steps of another kind in between; None for none.
    """

    name: str
    steps: int
    batch: int = 16
    kinds: tuple[str, ...] = ()
    sizes: tuple[tuple[int, ...], ...] = ((320, 320), (288, 384), (224, 384), (384, 288))
    detector: bool = False
    dense: bool = False
    dense_weight: float = 1.0
    decoder: str = "full"
    augmentation: dict[str, Any] = field(default_factory=dict)
    framed: bool = False
    mosaic: float | None = None
    hands: int | None = None
    incomplete: float | None = None
    complete: float | None = None
    hard: float | None = None
    hard_hands: float | None = None
    learning_rate: float = 5e-4
    detector_learning_rate: float | None = None
    backbone_learning_rate: float | None = None
    frozen: tuple[str, ...] = ()
    warmup: int = 200
    decay: float = 0.3
    mean_from: float | None = None
    close_ups: CloseUpConfig | None = None

    def shows_close_ups(self, step: int) -> bool:
        """Whether this step of the stage, from 0 on, is one of `close_ups`."""
        if self.close_ups is None:
            return False
        share = self.close_ups.share
        return int((step + 1) * share) > int(step * share)

    def __post_init__(self) -> None:
        if self.decoder not in ("none", "2d", "full"):
            raise DataError(f"stage {self.name}: decoder is {self.decoder!r}; known are none, 2d, full")
        if self.dense and not self.detector:
            raise DataError(f"stage {self.name}: dense needs `detector: true`")
        if not self.detector and self.decoder == "none":
            raise DataError(f"stage {self.name}: neither the detector nor the decoder learns")
        if self.steps < 1 or self.batch < 1 or not 0 <= self.decay <= 1:
            raise DataError(f"stage {self.name}: steps and batch must be positive, decay within 0 and 1")
        if not 0 <= (self.mosaic or 0) <= 1 or (self.hands is not None and self.hands < 1):
            raise DataError(f"stage {self.name}: mosaic must be from 0 to 1, hands positive")
        if not 0 <= (self.incomplete or 0) <= 1 or self.dense_weight <= 0:
            raise DataError(f"stage {self.name}: incomplete must be from 0 to 1, dense_weight positive")
        if self.dense_weight != 1 and (not self.dense or self.decoder == "none"):
            raise DataError(f"stage {self.name}: dense_weight is for stages with `dense` and a decoder")
        if self.complete is not None and not 0 < self.complete < 1:
            raise DataError(f"stage {self.name}: complete must be a score between 0 and 1")
        if self.mean_from is not None and not 0 < self.mean_from < 1:
            raise DataError(f"stage {self.name}: mean_from must be between 0 and 1")
        if min(self.hard or 0, self.hard_hands or 0) < 0:
            raise DataError(f"stage {self.name}: hard and hard_hands must not be negative")
        rates = (self.learning_rate, self.detector_learning_rate or 1, self.backbone_learning_rate or 1)
        if min(rates) <= 0 or self.warmup < 0:
            raise DataError(f"stage {self.name}: learning rates must be positive, warmup not negative")
        _check_sizes(f"stage {self.name}", self.sizes)
        if self.close_ups is not None and self.decoder == "none":
            raise DataError(f"stage {self.name}: close_ups are for stages with a decoder")


def _check_sizes(where: str, sizes: tuple[tuple[int, ...], ...]) -> None:
    if any(len(size) != 2 or min(size) < 32 for size in sizes) or not sizes:
        raise DataError(f"{where}: sizes must be pairs of height and width, at least 32")


@dataclass(frozen=True)
class MonitorConfig:
    """What the run is measured on as it goes; never trained on.

    Attributes:
        annotations, images: as in a `coco` source.
        pictures: at most so many of them, spread evenly.
        synthetic: so many pictures of the fixed synthetic test set.
        every: steps between two measurements.
    """

    annotations: str
    images: str = ""
    pictures: int = 200
    synthetic: int = 0
    every: int = 1000

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.every < 1 or self.synthetic < 0:
            raise DataError("monitor: pictures and every must be positive")


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        network: a shipped configuration's name or a path.
        sources: what pictures come from.
        stages: one after another.
        losses: weight of every loss term.
        seed: of all chance.
        weight_decay: AdamW's, on matrices and convolutions.
        clip: gradients are scaled down to this norm, the detector's and the rest's each for itself.
        ema: decay of the moving average of the weights, which is what is evaluated and shipped.
        hands: at most this many hands of a picture are decoded in a step.
        own_boxes: how often a labelled hand is decoded from the detector's box rather than from its
            labelled box, disturbed.
        accumulate: steps whose gradients are added up before the weights move.
        mosaic: how often four photographs make one.
        incomplete: how often, where the detector's queries learn, a batch is drawn from all photographs, not
            only from those whose hands are all labelled; in such a step they learn nothing, all else does.
        mirror: how often a photograph is mirrored, its hands changing sides.
        initial: weights to begin with, of the same network configuration: those of a run before, as the
            full model of HandOS begins with those of the 2D model. A run that goes on from its own
            checkpoint does not look at them again.
        initial_backbone: weights that the detector's backbone alone begins with, a safetensors file with its
            parameters by name; after `initial`, where both are given.
        calibrate: when the run has come to its end, shift the scores so that 0.5 is the best
            place to cut, as measured on so many of its photographs (`training.calibration`); 0 for not.
        monitor: what the run is measured on as it goes.
    """

    network: str
    sources: tuple[SourceConfig, ...]
    stages: tuple[StageConfig, ...]
    losses: LossWeights = field(default_factory=LossWeights)
    seed: int = 0
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999
    hands: int = 4
    own_boxes: float = 0.6
    accumulate: int = 1
    mosaic: float = 0.15
    incomplete: float = 0.0
    mirror: float = 0.5
    initial: str = ""
    initial_backbone: str = ""
    calibrate: int = 0
    monitor: MonitorConfig | None = None

    def __post_init__(self) -> None:
        if not self.sources or not self.stages:
            raise DataError("a training run needs at least one source and one stage")
        if not 0 <= self.ema < 1 or self.clip <= 0 or self.hands < 1 or self.accumulate < 1:
            raise DataError("ema must be in [0, 1); clip, hands and accumulate must be positive")
        for name in ("own_boxes", "mosaic", "incomplete", "mirror"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} must be from 0 to 1, got {getattr(self, name):g}")
        if self.calibrate < 0 or (
            self.calibrate and not {"coco", "negatives"} & {s.kind for s in self.sources}
        ):
            raise DataError("calibrate must not be negative, and needs a source of kind coco or negatives")
        if self.weight_decay < 0 or min(vars(self.losses).values()) < 0:
            raise DataError("weight_decay and the weights of losses must not be negative")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise DataError("stages must have names of their own")
        for stage in self.stages:
            named = {*stage.kinds, *(stage.close_ups.kinds if stage.close_ups else ())}
            missing = named - {source.kind for source in self.sources}
            if missing:
                raise DataError(f"stage {stage.name}: kinds has {sorted(missing)[0]}, which is no source's")
            if stage.steps % self.accumulate:
                raise DataError(
                    f"stage {stage.name}: steps ({stage.steps}) must be a multiple of accumulate "
                    f"({self.accumulate}), or its last gradients would never be used"
                )


def load_training_config(path: str | Path) -> TrainingConfig:
    """Read a run that comes with the package, by name, or any from YAML.

    Paths in it may hold environment variables and are relative to the file.

    Raises:
        DataError: naming the file and the key that cannot be used.
    """
    import yaml

    path = Path(path)
    if str(path) in shipped_recipes():
        path = _RECIPES / f"{path}.yaml"
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the training configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {error}") from None
    if isinstance(data, dict):
        _resolve_paths(data, path)
    return build_config(TrainingConfig, data, str(path), DataError)


def _resolve_paths(data: dict[str, Any], origin: Path) -> None:
    """Make the paths in it absolute, in place. What is not as it should be is left for others to name."""
    if data.get("network") not in shipped_configs():
        _resolve(data, ("network",), origin)
    _resolve(data, ("initial", "initial_backbone"), origin)
    _resolve(data.get("monitor"), ("annotations", "images"), origin)
    sources = data.get("sources")
    for source in sources if isinstance(sources, list) else ():
        _resolve(source, ("annotations", "images"), origin)
        if isinstance(source, dict):
            _resolve(source.get("settings"), ("backgrounds", "surroundings"), origin)


def _resolve(part: Any, keys: tuple[str, ...], origin: Path) -> None:
    for key in keys:
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key]:
            part[key] = str((origin.parent / _expanded(part[key], origin)).resolve())


def _expanded(text: str, origin: Path) -> str:
    out = os.path.expanduser(os.path.expandvars(text))
    if "$" in out:
        raise DataError(f"{origin}: the environment variable in {text!r} is not set")
    return out


def shipped_recipes() -> list[str]:
    """Names of the training configurations that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))
