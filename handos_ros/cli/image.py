"""Find the hands in pictures.

Each picture gets a json file with its hands in the output folder, and, if asked for, an npz file with all
arrays, an obj file per hand and an overlay. Points are in px of the picture as it is seen upright, places in
metres before the camera.

  handos image holiday/ -o hands --overlay
  handos image 'shots/**/*.png' one.jpg -o hands --obj --camera camera.yaml
"""

from __future__ import annotations

import argparse
import os
import re
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from handos_ros.cli import common
from handos_ros.errors import DataError, HandosError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handos_ros.files.pictures import Picture
    from handos_ros.hands import Camera, Hands
    from handos_ros.inference.pipeline import Pipeline

# Two readers feed the network even when pictures are large; more would take cores away from it.
_READERS, _WRITERS = 2, 2
_IN_FLIGHT = 4  # pictures that wait on either side of the network: large ones fill the memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handos image`."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders or glob patterns")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--npz", action="store_true", help="write all arrays, the meshes among them")
    parser.add_argument("--obj", action="store_true", help="write the mesh of each hand")
    parser.add_argument("--overlay", action="store_true", help="write the picture with its hands drawn on it")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Work on all pictures; name those that fail and go on."""
    from handos_ros.files.pictures import find_pictures

    started = perf_counter()
    camera = common.load_camera(args)
    folder = common.output_folder(args.output)
    pictures, errors = find_pictures(args.pictures, leave_out=folder)
    outputs = [_Output.of(picture, folder, args) for picture in pictures]
    if not args.overwrite:
        refused = [output.refusal() for output in outputs]
        errors += [error for error in refused if error]
        outputs = [output for output, error in zip(outputs, refused, strict=True) if not error]
    for error in errors:
        common.complain(error)
    if not outputs:
        common.complain("nothing to do")
        return 1
    pipeline = common.load_pipeline(args)
    try:
        with common.Interruption() as interruption:
            done, hands, failed = _work(outputs, pipeline, camera, interruption)
    finally:
        pipeline.close()
    seconds = perf_counter() - started
    failed += len(errors)
    print(
        f"{done} pictures, {hands} hands, {failed} failed, {seconds:.1f} s "
        f"({done / seconds:.1f} pictures/s); results in {folder}"
    )
    if interruption.asked:
        raise KeyboardInterrupt
    return 1 if failed else 0


@dataclass(frozen=True)
class _Output:
    """Where the results of one picture go."""

    picture: Picture
    json: Path
    npz: Path | None
    obj: Path | None
    """The meshes' folder and first part of their names."""
    overlay: Path | None

    @classmethod
    def of(cls, picture: Picture, folder: Path, args: argparse.Namespace) -> _Output:
        from handos_ros.files.pictures import OVERLAY_ENDING

        stem = str(folder / picture.stem)  # with_suffix would eat what follows a dot in the name
        return cls(
            picture,
            json=Path(f"{stem}.json"),
            npz=Path(f"{stem}.npz") if args.npz else None,
            obj=Path(stem) if args.obj else None,
            overlay=Path(f"{stem}{OVERLAY_ENDING}.jpg") if args.overlay else None,
        )

    def refusal(self) -> DataError | None:
        """Why this picture is left out: results that are there."""
        there = [path for path in (self.json, self.npz, self.overlay) if path and os.path.lexists(path)]
        there += self.meshes()
        if not there:
            return None
        return DataError(
            f"{self.picture.path}: {there[0]} is there already; choose another output folder, or replace it "
            "with --overwrite"
        )

    def mesh(self, number: int, side: str) -> Path:
        """The obj file of one hand."""
        assert self.obj is not None
        return self.obj.with_name(f"{self.obj.name}_{number}_{side}.obj")

    def meshes(self) -> list[Path]:
        """The obj files that are there."""
        if self.obj is None or not os.path.isdir(self.obj.parent):
            return []
        ours = re.compile(re.escape(self.obj.name) + r"_\d+_(left|right)\.obj")
        return sorted(path for path in self.obj.parent.iterdir() if ours.fullmatch(path.name))


def _work(
    outputs: list[_Output], pipeline: Pipeline, camera: Camera | None, interruption: common.Interruption
) -> tuple[int, int, int]:
    """How many pictures were done, how many hands they hold, and how many pictures failed."""
    from handos_ros.files.atomic import DiskFullError

    done = total = failed = 0
    results = _results(outputs, pipeline, camera, interruption)
    with closing(results), common.progress(len(outputs), "picture") as bar:
        for output, written in results:
            try:
                total += written.result()
                done += 1
            except DiskFullError as error:
                raise DataError(f"{error}; {done} pictures were done before") from error
            except HandosError as error:
                # A DataError names the result that could not be written.
                named = isinstance(error, DataError) or str(error).startswith(f"{output.picture.path}:")
                common.complain(error if named else f"{output.picture.path}: {error}")
                failed += 1
            bar.update()
    return done, total, failed


def _results(
    outputs: list[_Output], pipeline: Pipeline, camera: Camera | None, interruption: common.Interruption
) -> Generator[tuple[_Output, Future[int]], None, None]:
    """Each picture, in order, with its number of hands; reading and writing go on beside the network."""
    from handos_ros.files.ahead import map_ahead
    from handos_ros.files.pictures import read_picture

    def read(output: _Output) -> NDArray[np.uint8]:
        return read_picture(output.picture.path)

    waiting: deque[tuple[_Output, Future[int]]] = deque()
    with (
        ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as writers,
        closing(map_ahead(read, outputs, workers=_READERS, depth=_IN_FLIGHT)) as pictures,
    ):
        for output, picture in pictures:
            if interruption.asked:
                break
            future: Future[int]
            try:
                image = picture.result()
                mesh = bool(output.npz or output.obj or output.overlay)
                hands = pipeline(image, camera, mesh=mesh)
                future = writers.submit(_write, output, image, hands, pipeline)
            except HandosError as error:
                future = Future()
                future.set_exception(error)
            waiting.append((output, future))
            if len(waiting) >= _IN_FLIGHT or waiting[0][1].done():
                yield waiting.popleft()
        yield from waiting


def _write(output: _Output, image: NDArray[np.uint8], hands: Hands, pipeline: Pipeline) -> int:
    """Write one picture's results, the json last: where it is, all is. Gives the number of hands."""
    from handos_ros.files.pictures import write_picture
    from handos_ros.files.results import hands_to_dict, write_json, write_npz, write_obj
    from handos_ros.hands import LEFT

    name, model = str(output.picture.path), pipeline.model_id
    # Whatever is there by now may be replaced: `run` has refused what must not be.
    if output.npz:
        write_npz(output.npz, name, hands, model, pipeline.hand_model, overwrite=True)
    if output.obj:
        for stale in output.meshes():
            stale.unlink(missing_ok=True)
        for number, (side, vertices) in enumerate(zip(hands.handedness, hands.vertices, strict=True)):
            word = "left" if side == LEFT else "right"
            write_obj(
                output.mesh(number, word),
                vertices,
                pipeline.hand_model.faces_for(int(side)),
                comment=f"{word} hand {number} of {name}, by {model}",
                overwrite=True,
            )
    if output.overlay:
        from handos_ros.drawing.overlay import draw_hands

        write_picture(output.overlay, draw_hands(image, hands, pipeline.hand_model), overwrite=True)
    write_json(output.json, hands_to_dict(name, hands, model), overwrite=True)
    return len(hands)
