"""What a run measures of itself on the way: hands found and joints placed in pictures kept out of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from handos_ros.errors import DataError
from handos_ros.hand_model.model import HandModel
from handos_ros.inference.pipeline import Pipeline
from handos_ros.inference.torch_backend import TorchBackend
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
from handos_ros.learning.evaluation.predictions import Prediction, predict
from handos_ros.learning.evaluation.real_pictures import AP_MIN_SCORE, evaluate
from handos_ros.learning.evaluation.synthetic import evaluate_samples
from handos_ros.learning.sample import Sample
from handos_ros.learning.synthesis.testset import synthetic_test_set
from handos_ros.learning.training.config import MonitorConfig
from handos_ros.network.handos import HandosNetwork

_KEPT = ("recall", "precision", "ap50", "pck@0.1", "pck@0.2", "side_accuracy", "pa_mpjpe_proper_mm", "size")


class Monitor:
    """Calling it with a network in evaluation mode gives metrics by name.

    Real pictures are those of the configuration's COCO file, spread evenly where there are more than
    `pictures`; the synthetic ones have exact 3D labels.

    Raises:
        DataError: naming the annotations or the picture that cannot be used.
    """

    def __init__(self, config: MonitorConfig, hand_model: HandModel) -> None:
        self.hand_model = hand_model
        self.dataset = CocoKeypoints(config.annotations, config.images or None)
        entries = self.dataset.entries
        self.entries = [entries[number] for number in evenly(len(entries), config.pictures)]
        for entry in self.entries:
            # Said now: a picture that cannot be read later would only be left out of the scores.
            if not (self.dataset.folder / entry.file_name).is_file():
                raise DataError(f"{self.dataset.folder / entry.file_name}: no such picture for the monitor")
            self.dataset.picture(entry)
        self.samples: list[Sample] = []
        if config.synthetic:
            rendered = synthetic_test_set(hand_model=hand_model)
            self.samples = [rendered.sample(index) for index in range(config.synthetic)]

    def __call__(self, network: HandosNetwork, _step: int) -> dict[str, float]:
        """Metrics by name, `real/...` and `synthetic/...`."""
        pipeline = pipeline_of(network, self.hand_model, min_score=AP_MIN_SCORE)
        names = [Path(entry.file_name).name for entry in self.entries]
        cameras = [entry.labels.camera(entry.width, entry.height) for entry in self.entries]
        results = predict(pipeline, [partial(self.dataset.picture, entry) for entry in self.entries], cameras)
        predictions = {
            name: result
            for name, result in zip(names, results, strict=True)
            if isinstance(result, Prediction)
        }
        total = evaluate(self.entries, predictions).total
        found = {f"real/{name}": float(value) for name in _KEPT if (value := total.get(name)) is not None}
        if self.samples:
            scores = evaluate_samples(pipeline, self.samples)
            found.update({f"synthetic/{name}": value for name, value in scores.items()})
        return found


def monitor_from(config: MonitorConfig | None, hand_model: HandModel) -> Monitor | None:
    """A monitor where the run names pictures for it and they are there."""
    if config is None or not Path(config.annotations).is_file():
        return None
    return Monitor(config, hand_model)


def pipeline_of(
    network: HandosNetwork, hand_model: HandModel, *, min_score: float, max_hands: int = 10
) -> Pipeline:
    """What a network that is being trained finds at first look, evaluated on the device where it is."""
    backend = TorchBackend(network, device=str(next(network.parameters()).device))
    pipeline = Pipeline(
        backend, hand_model, model_id=network.config.name, min_score=min_score, max_hands=max_hands
    )
    pipeline.second_look = False
    return pipeline


def evenly(total: int, at_most: int) -> list[int]:
    """At most so many of the numbers 0 to `total` - 1, spread evenly."""
    count = min(at_most, total)
    return [number * total // count for number in range(count)]
