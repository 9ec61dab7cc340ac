"""What the commands share: options for the network and the camera, the progress bar, messages."""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from handos_ros.cli import values
from handos_ros.errors import DataError

if TYPE_CHECKING:
    from handos_ros.hands import Camera
    from handos_ros.inference.pipeline import Pipeline


def add_model_arguments(parser: argparse.ArgumentParser, *, tracking: bool = False) -> None:
    """Add the options that choose a network, its device, its thresholds and the camera.

    Args:
        tracking: hands are followed from picture to picture; adds the threshold to stay.
    """
    group = parser.add_argument_group("network and camera")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="the network (default: the one that --weights are of, without them handos_lite)",
    )
    group.add_argument(
        "--weights", metavar="PATH", help="its weights, a file or folder (default: those of the package)"
    )
    group.add_argument(
        "--hand-model",
        metavar="PATH",
        help="the user's own MANO file, for networks that give MANO's mesh (default: the network's own mesh)",
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs (default: auto)"
    )
    group.add_argument(
        "--backend",
        choices=("auto", "onnxruntime", "torch"),
        default="auto",
        help="what runs it (default: auto, torch on a GPU and else onnxruntime)",
    )
    group.add_argument(
        "--long-side",
        type=values.positive,
        metavar="PX",
        help="longer side of the picture as the network sees it, a multiple of 32: more for small hands, "
        "less for speed (default: the network's own)",
    )
    group.add_argument(
        "--no-second-look",
        action="store_true",
        help="see every hand once: faster, but hands that are small or large in the picture less exactly",
    )
    group.add_argument(
        "--min-score",
        type=values.fraction,
        default=0.5,
        metavar="0..1",
        help="leave out hands that the network is less sure of (default: 0.5)"
        if not tracking
        else "a hand appears when the network is this sure of it (default: 0.5)",
    )
    if tracking:
        group.add_argument(
            "--keep-score",
            type=values.fraction,
            metavar="0..1",
            help="and stays as long as the network is this sure (default: half of --min-score; "
            "no more than that counts)",
        )
    group.add_argument(
        "--max-hands",
        type=values.positive,
        default=10,
        metavar="N",
        help="at most so many in a picture (default: 10)",
    )
    group.add_argument(
        "--camera",
        metavar="K.yaml",
        help="the camera's calibration as ROS's camera_calibration writes it; "
        "without it f = the longer side is assumed, and the results say so",
    )
    group.add_argument(
        "--rectified",
        action="store_true",
        help="the pictures are rectified (image_rect): the camera is projection_matrix, without distortion",
    )


def load_pipeline(args: argparse.Namespace, *, threads: int | None = None) -> Pipeline:
    """The network that the options name, on so many CPU threads (None for a good choice).

    Raises:
        ModelError: if weights are missing or damaged, or the device or backend is not there.
    """
    from handos_ros.inference.pipeline import Pipeline

    pipeline = Pipeline.load(**model_options(args), threads=threads)
    pipeline.second_look = not args.no_second_look
    return pipeline


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_model_arguments` asked for, by the names that every pipeline's `load` gives it."""
    names = ("model", "weights", "device", "backend", "hand_model", "max_hands", "long_side")
    options = {name: getattr(args, name) for name in names}
    if not hasattr(args, "keep_score"):
        return {**options, "min_score": args.min_score}
    from handos_ros.video.tracker import score_to_stay

    return {**options, "min_score": score_to_stay(args.min_score, args.keep_score)}


def load_camera(args: argparse.Namespace, *, rectified: bool | None = None) -> Camera | None:
    """The camera that `--camera` names, None without it.

    Args:
        args: of the command.
        rectified: for rectified pictures; None as `--rectified` says.

    Raises:
        CameraError: naming the file and what is wrong with it.
        DataError: where `--rectified` says so of no file.
    """
    if args.camera is None:
        if args.rectified and rectified is None:
            raise DataError("--rectified says which matrix of the camera's file counts: give --camera K.yaml")
        return None
    from handos_ros.hands import Camera

    return Camera.from_yaml(args.camera, args.rectified if rectified is None else rectified)


def refuse_useless(args: argparse.Namespace, useless: Mapping[str, str]) -> None:
    """End the program at the first option, by its name in `args`, that was given and would do nothing.

    Args:
        args: with the `parser` that they came from.
        useless: why, by name.
    """
    for name, reason in useless.items():
        if getattr(args, name) != args.parser.get_default(name):
            args.parser.error(f"argument --{name.replace('_', '-')}: {reason}")


def output_folder(name: str) -> Path:
    """The folder that `-o` names; it need not be there yet.

    Raises:
        DataError: if it is a file, or no place that the system lets one look at.
    """
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return Path(name)
    except OSError as error:
        raise DataError(f"{name}: cannot be written to: {error.strerror or error}") from error
    if not stat.S_ISDIR(mode):
        raise DataError(f"{name} is a file; -o names a folder")
    return Path(name)


def signals_to_end() -> list[signal.Signals]:
    """The signals that ask a command to end: Ctrl-C, `kill`, and the terminal's end unless under nohup."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return numbers[:2] if ignored else numbers


class Interruption:
    """Ctrl-C (or a request to end) that lets what is at hand be finished and the files be closed.

    Inside the `with` block the first one only sets `asked`; a second one ends the program at once, unless
    the terminal is gone: the system and the shell may both tell of that, and nobody is in a hurry.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in signals_to_end():
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number != signal.SIGHUP:
            raise KeyboardInterrupt
        self.asked = True


def progress(total: int | None, unit: str, *, description: str = "", quiet: bool = False) -> Any:
    """A tqdm bar with rate and time left on standard error; none where that is no terminal, or if `quiet`."""
    from tqdm import tqdm

    return tqdm(
        total=total, unit=unit, desc=description, dynamic_ncols=True, disable=quiet or None, leave=False
    )


def complain(message: object) -> None:
    """One error of several: the rest of the work goes on."""
    _say(f"handos: error: {message}")


def warn(message: object) -> None:
    """Something the user should know that does not spoil the result."""
    _say(f"handos: warning: {message}")


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone, and with it nobody's results
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            tqdm.write(line, file=sys.stderr)  # above the bar, which stays whole
        else:
            print(line, file=sys.stderr)
