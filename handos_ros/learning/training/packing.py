"""A training run with everything that it needs, in one small folder: for a machine without the data.

`run.yaml` is the run, with paths relative to itself. Photographs lie beside it as JPEG files, no larger
than training on a small network can use, with their labels; backgrounds without those that are kept out;
of the monitor's pictures those that it looks at.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from handos_ros.errors import DataError
from handos_ros.files.atomic import whole
from handos_ros.learning.training.config import MonitorConfig, SourceConfig, TrainingConfig
from handos_ros.learning.training.data import Negatives
from handos_ros.learning.training.packed_pictures import Album, Rung
from handos_ros.network.config import load_config, shipped_configs

MEGABYTE = 1_000_000

PHOTOGRAPH, BACKGROUND, MONITORED = 320, 256, 384
"""px, the long sides of pictures to learn from, to stand behind hands and to be measured on."""

LADDER = (
    Rung(1.0, 92), Rung(1.0, 86), Rung(1.0, 80), Rung(1.0, 75), Rung(0.95, 75), Rung(0.9, 75),
    Rung(0.9, 72), Rung(0.85, 72), Rung(0.8, 72), Rung(0.8, 68), Rung(0.75, 68), Rung(0.75, 64),
    Rung(0.7, 64), Rung(0.65, 64), Rung(0.6, 62), Rung(0.6, 55), Rung(0.5, 55), Rung(0.5, 50),
)  # fmt: skip
"""From what is best to what is smallest. Neither part ever rises, so that each rung is smaller than the one
before, whatever the pictures."""


@dataclass(frozen=True)
class Packed:
    """What was written: how many bytes and pictures, and how small these were made."""

    size: int
    pictures: int
    rung: Rung


class Pack:
    """A run that can travel.

    Args:
        config: the run.

    Attributes:
        config: the same with the paths that it has in the folder.
        albums: the folder's pictures.

    Raises:
        DataError: naming what cannot travel, or the labels that cannot be used.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.albums: list[Album] = []
        self._albums: dict[tuple[object, ...], Album] = {}
        self._files: dict[str, Path] = {}
        self.config = replace(
            config,
            network=self._network(config.network),
            initial=self._file(config.initial, "initial.safetensors") if config.initial else "",
            initial_backbone=self._file(config.initial_backbone, "backbone.safetensors")
            if config.initial_backbone
            else "",
            sources=tuple(self._source(source) for source in config.sources),
            monitor=self._monitor(config.monitor),
        )

    @property
    def pictures(self) -> int:
        """How many travel."""
        return sum(len(album.files) for album in self.albums)

    def write(
        self, folder: str | Path, *, megabytes: float, advance: Callable[[int], Any] = lambda _count: None
    ) -> Packed:
        """Write the folder, whole or not at all, as good as it can be in `megabytes` of 10^6 bytes.

        Args:
            folder: not there yet.
            megabytes: the most that all of its files have together.
            advance: hears of every picture (and takes them back, if all must be made smaller).

        Raises:
            DataError: naming the picture that cannot be read, or what the pictures would take at least.
        """
        folder = Path(folder)
        if os.path.lexists(folder):
            raise DataError(f"{folder} is there already: name another folder for the pack, or remove it")
        limit = int(megabytes * MEGABYTE)
        number = bisect_left(LADDER, True, key=lambda rung: self._estimate(rung) <= limit)
        if number == len(LADDER):
            raise self._too_large(self._estimate(LADDER[-1]), megabytes)
        with whole(folder) as partial:
            for rung in LADDER[number:]:
                size = self._write(partial, rung, advance)
                if size <= limit:
                    return Packed(size, self.pictures, rung)
                # The estimate was from a part of the pictures.
                shutil.rmtree(partial)
                advance(-self.pictures)
            raise self._too_large(size, megabytes)

    def _write(self, folder: Path, rung: Rung, advance: Callable[[int], Any]) -> int:
        folder.mkdir()
        text = self._run()
        (folder / "run.yaml").write_bytes(text)
        for name, path in self._files.items():
            shutil.copyfile(path, folder / name)
        fixed = sum((folder / name).stat().st_size for name in ("run.yaml", *self._files))
        return fixed + sum(album.write(folder, rung, advance) for album in self.albums)

    def _run(self) -> bytes:
        import yaml

        # By way of json, which knows lists alone, as YAML's safe part does.
        content = json.loads(json.dumps(asdict(self.config)))
        head = "# Made by `handos train --pack`. Paths are relative to this file.\n"
        return (head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).encode()

    def _estimate(self, rung: Rung) -> int:
        fixed = len(self._run()) + sum(path.stat().st_size for path in self._files.values())
        return fixed + sum(album.estimate(rung) for album in self.albums)

    def _too_large(self, size: int, megabytes: float) -> DataError:
        rung = LADDER[-1]
        return DataError(
            f"the run's {self.pictures} pictures and their labels take about {size / MEGABYTE:.3g} MB even "
            f"with long sides of {round(PHOTOGRAPH * rung.factor)} px and JPEG quality {rung.quality}, more "
            f"than {megabytes:g}: allow --megabytes {math.ceil(size / MEGABYTE * 10.5) / 10:g}, or train on "
            "fewer"
        )

    def _network(self, network: str) -> str:
        pretrained = load_config(network).detector.pretrained
        if pretrained:
            raise DataError(
                f"the network {network} takes its detector from {pretrained}, which cannot be packed: copy "
                "it and the data sets to the other machine as they are"
            )
        return network if network in shipped_configs() else self._file(network, "network.yaml")

    def _file(self, path: str, name: str) -> str:
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file to pack")
        self._files[name] = Path(path)
        return name

    def _source(self, source: SourceConfig) -> SourceConfig:
        if source.kind == "coco":
            album = self._photographs(source.annotations, source.images)
            return replace(source, annotations=f"{album.name}/annotations.json", images="")
        if source.kind == "negatives":
            album = self._backgrounds(source.images, source.exclude)
            return replace(source, images=album.name, exclude=())
        if source.kind == "synthesis":
            settings = dict(source.settings)
            if settings.get("backgrounds"):
                album = self._backgrounds(settings["backgrounds"], tuple(settings.pop("exclude", ())))
                settings["backgrounds"] = album.name
            if settings.get("surroundings"):
                album = self._photographs(settings["surroundings"], "")
                settings["surroundings"] = f"{album.name}/annotations.json"
            return replace(source, settings=settings)
        raise DataError(
            f"the source {source.kind} cannot be packed: only coco, negatives and synthesis can be made "
            "small, not the official files of a public data set"
        )

    def _monitor(self, monitor: MonitorConfig | None) -> MonitorConfig | None:
        # As in training, pictures to be measured on may be missing.
        if monitor is None or not Path(monitor.annotations).is_file():
            return None
        album = self._album(
            (monitor.annotations, monitor.images, monitor.pictures), Path(monitor.annotations).parent.name,
            lambda name: Album.labelled(
                name, MONITORED, monitor.annotations, monitor.images, at_most=monitor.pictures
            ),
        )  # fmt: skip
        return replace(monitor, annotations=f"{album.name}/annotations.json", images="")

    def _photographs(self, annotations: str, images: str) -> Album:
        return self._album(
            (annotations, images), Path(annotations).parent.name,
            lambda name: Album.labelled(name, PHOTOGRAPH, annotations, images),
        )  # fmt: skip

    def _backgrounds(self, folder: str, exclude: tuple[int, ...]) -> Album:
        return self._album(
            (folder, exclude), Path(folder).name,
            lambda name: Album.unlabelled(name, BACKGROUND, Negatives(folder, exclude).paths),
        )  # fmt: skip

    def _album(self, key: tuple[object, ...], name: str, make: Callable[[str], Album]) -> Album:
        """The same album for the same pictures, in a folder of its own, named as where they were."""
        if key not in self._albums:
            plain = re.sub(r"[^\w.-]+", "_", name).strip(".") or "pictures"
            taken = {album.name for album in self.albums} | {"run.yaml", *self._files}
            free, number = plain, 1
            while free in taken:
                number += 1
                free = f"{plain}_{number}"
            self._albums[key] = make(free)
            self.albums.append(self._albums[key])
        return self._albums[key]
