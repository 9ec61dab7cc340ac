"""Batches mixed from several sources; every one follows from the seed and its step alone.

So a run that was interrupted goes on with exactly the batches it would have had, in any number of
worker processes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, repeat
from multiprocessing import forkserver, parent_process, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from handos_ros.errors import DataError, HandosError
from handos_ros.learning.datasets import open_dataset
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints
from handos_ros.learning.datasets.reading import pictures_in, read_picture
from handos_ros.learning.sample import Batch, Sample, collate, concatenate
from handos_ros.learning.training.augmentation import Augmentation, mosaic
from handos_ros.learning.training.config import CloseUpConfig, SourceConfig, StageConfig, TrainingConfig
from handos_ros.learning.training.lots import Lot
from handos_ros.network.config import build_config

if TYPE_CHECKING:  # Opened where it is used.
    from handos_ros.learning.synthesis.camera import Framing

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_TRIES = 8
"""How often another picture is drawn where only fully labelled ones will do."""


class Negatives:
    """Photographs without hands: every picture of a folder, less those kept out for evaluation."""

    def __init__(self, folder: str | Path, exclude: Sequence[int] = ()) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of pictures")
        self.paths = pictures_in(folder, exclude)
        if not self.paths:
            raise DataError(f"{folder}: holds no picture to train on")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample.labelled(read_picture(path), exhaustive=True, source=f"negative:{path.name}")


@dataclass(frozen=True)
class _Pictures:
    """What pictures of one kind of step are like; fields as of `StageConfig`, shares of the sources."""

    batch: int
    sizes: tuple[tuple[int, ...], ...]
    shares: np.ndarray
    augmentation: Augmentation
    framed: bool
    mosaic: float
    incomplete: float

    @property
    def framing(self) -> Framing | None:
        if not self.framed:
            return None
        from handos_ros.learning.synthesis.camera import Framing

        return Framing(self.augmentation.around_hand, self.augmentation.hand_size, self.augmentation.shift)


class Mixture(Dataset):
    """`mixture[step]` is the batch of that step.

    Args:
        config: the run.
        stage: what of it; where the detector's queries learn, only fully labelled pictures are drawn.
        rank: the number of this process among several; each draws pictures of its own.
        num_vertices: V of the hand model: batches without a mesh still have room for one.
        completed: for each source the numbers of pictures that count as fully labelled
            (`training.completion`).
        hard: for each source how often its pictures are drawn (`training.mining`).
        opened: the sources where they are open already, as another stage's; `completed` is marked in them.
    """

    def __init__(
        self,
        config: TrainingConfig,
        stage: StageConfig,
        *,
        rank: int = 0,
        num_vertices: int = 0,
        completed: Sequence[Sequence[int]] = (),
        hard: Sequence[Sequence[float]] = (),
        opened: list[Any] | None = None,
    ) -> None:
        self.config, self.stage, self.rank, self.num_vertices = config, stage, rank, num_vertices
        self.completed, self.hard = completed, hard
        self._sources = opened
        self.number = config.stages.index(stage)
        self._queries_learn = stage.detector and not (stage.dense and stage.decoder == "none")
        incomplete = config.incomplete if stage.incomplete is None else stage.incomplete
        mosaic = config.mosaic if stage.mosaic is None else stage.mosaic
        self.whole = self._pictures(stage, "", stage.framed, mosaic, incomplete)
        self.close = (
            self._pictures(stage.close_ups, "close_ups.", True, 0.0, stage.close_ups.incomplete)
            if stage.close_ups
            else None
        )

    def _pictures(
        self, of: StageConfig | CloseUpConfig, where: str, framed: bool, mosaic: float, incomplete: float
    ) -> _Pictures:
        shares = np.array(
            [source.share * (not of.kinds or source.kind in of.kinds) for source in self.config.sources]
        )
        varied = {"mirror": self.config.mirror, **of.augmentation}
        where = f"stage {self.stage.name}: {where}augmentation"
        augmentation = build_config(Augmentation, varied, where, DataError)
        return _Pictures(of.batch, of.sizes, shares / shares.sum(), augmentation, framed, mosaic, incomplete)

    @property
    def sources(self) -> list[Any]:
        """Opened where they are first used, so that each worker opens its own."""
        if self._sources is None:
            self._sources = [open_source(source) for source in self.config.sources]
            for source, numbers in zip(self._sources, self.completed, strict=False):
                for number in numbers:
                    source.count_as_complete(number)
        return self._sources

    @cached_property
    def _lots(self) -> list[Lot]:
        hard = chain(self.hard, repeat(()))
        return [Lot(*each) for each in zip(self.sources, self.config.sources, hard, strict=False)]

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.config.seed, self.number, step, self.rank])
        pictures = self.close if self.close and self.stage.shows_close_ups(step) else self.whole
        height, width = pictures.sizes[rng.integers(len(pictures.sizes))]
        counts = _apportion(pictures.shares, pictures.batch, rng)
        augmentation = replace(pictures.augmentation, size=(height, width))
        # Drawn where it is asked for alone, so that other runs' batches stay as they were.
        complete = self._queries_learn and not (pictures.incomplete and rng.random() < pictures.incomplete)
        samples: list[Sample] = []
        batches: list[Batch] = []
        for config, source, lot, count in zip(
            self.config.sources, self.sources, self._lots, counts, strict=True
        ):
            if not count:
                continue
            if config.kind == "synthesis":
                first = int(rng.integers(2**40))
                batches.append(source.render(range(first, first + count), (height, width), pictures.framing))
            else:
                samples += [
                    self._photograph(lot, augmentation, pictures.mosaic, complete, rng) for _ in range(count)
                ]
        if samples:
            batches.append(collate(samples, size=(height, width)))
        return concatenate(batches, num_vertices=self.num_vertices)

    def _photograph(
        self,
        lot: Lot,
        augmentation: Augmentation,
        mosaics: float,
        complete: bool,
        rng: np.random.Generator,
    ) -> Sample:
        for _ in range(_TRIES):
            if lot.shows_hands and rng.random() < mosaics:
                sample = mosaic([lot.draw(rng) for _ in range(4)], augmentation, rng)
            else:
                sample = augmentation(lot.draw(rng), rng)
            if sample.exhaustive or not complete:
                return sample
        # Nothing is known of what is unlabelled, so nothing of the picture is shown.
        return replace(sample, image=np.zeros_like(sample.image), exhaustive=True).select([])

    def loader(self, first: int, last: int, workers: int, *, pin: bool = False) -> Iterator[Batch]:
        """The batches of steps `first` to `last` - 1, made ahead in worker processes.

        Raises:
            DataError: as the sources do, in its turn, without the worker's stack trace.
        """
        if workers:
            _start_server()
        loader = DataLoader(
            _Told(self),
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            pin_memory=pin,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread,
            multiprocessing_context="forkserver" if workers else None,
        )
        for batch in loader:
            if isinstance(batch, HandosError):
                raise batch
            yield batch


class _Told(Dataset):
    """A mixture that hands errors over as values: a worker's exception arrives wrapped in its stack trace."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def __getitem__(self, step: int) -> Batch | HandosError:
        try:
            return self.mixture[step]
        except HandosError as error:
            return error


def open_source(config: SourceConfig) -> Any:
    """The pictures that a source names.

    Raises:
        DataError: if they cannot be read, or it has settings that they do not.
    """
    if config.kind == "coco":
        return CocoKeypoints(config.annotations, config.images or None)
    if config.kind == "negatives":
        return Negatives(config.images, config.exclude)
    if config.kind == "synthesis":
        from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands

        wanted = build_config(SynthesisConfig, config.settings, "source synthesis: settings", DataError)
        return SyntheticHands(wanted)
    paths = [config.annotations, config.images] if config.annotations else [config.images]
    try:
        return open_dataset(config.kind, *paths, **config.settings)
    except TypeError as error:
        raise DataError(f"source {config.kind}: settings it does not have: {error}") from None


def _apportion(shares: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that add up to `total` and equal `shares * total` on average."""
    exact = shares * total
    counts = np.floor(exact).astype(int)
    missing = total - counts.sum()
    if missing:
        rest = exact - counts
        counts += np.bincount(rng.choice(len(shares), missing, p=rest / rest.sum()), minlength=len(shares))
    return counts


def _start_server() -> None:
    """Start the process that workers are forked from, if it does not run yet.

    A fork of this one would copy OpenCV's and torch's thread pools in whatever state they are in, and hang
    in them. The server has only imported this module, once for all workers of all stages.
    """
    forkserver.set_forkserver_preload([__name__])
    # Ctrl-C, the terminal's end, and the SIGTERM of `timeout` and schedulers reach the whole group. The
    # server and starting workers are deaf to these: the loop ends them itself, once it has what it needs.
    # First the tracker that the server would start: it lets the first two through again once it runs. It
    # ignores them by itself, but not the terminal's end.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_thread(_worker: int) -> None:
    import cv2

    # Out of the group, it can listen again: a program that ends by an error must be able to end its workers.
    os.setpgid(0, 0)
    for number in signal.sigpending() & _ENDING:
        signal.sigwait({number})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    # Server and workers keep each other alive: none would see that the program was killed.
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _end_with_the_program() -> None:
    program = parent_process()
    if program is not None:
        program.join()
        os._exit(1)
