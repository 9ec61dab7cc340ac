"""`handos`: finds the sub-command, imports that one alone, and turns errors into messages."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from types import FrameType

from handos_ros import __version__
from handos_ros.cli.common import signals_to_end
from handos_ros.errors import HandosError
from handos_ros.extras import missing_package

COMMANDS = {
    "image": "find the hands in pictures: json, npz, obj and overlays",
    "video": "find the hands in a video file or before a camera",
    "bag": "find the hands in ROS bags, without ROS",
    "doctor": "see what is installed and what would be used, and what to do about what is missing",
    "bench": "measure how fast a network runs on this machine",
    "synth": "render hands into scenes, with labels",
    "train": "train a network",
    "eval": "score a network on a benchmark",
    "export": "write a network for machines without torch",
}
"""Each command's module in this folder, and what it is for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `handos`; None for the program's own.

    Returns:
        The exit status: 0 only if all of the work was done, 1 after an error that was named, 2 for
        words that make no command, 130 after Ctrl-C, a request to end or the end of the terminal.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = _parse_command(argv)
    # What is wrong with a file is named by us; OpenCV and FFmpeg would say it once more, in their words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if threading.current_thread() is threading.main_thread():
        # Whoever is asked to end, or loses the terminal, leaves whole files, as after Ctrl-C.
        for number in set(signals_to_end()) - {signal.SIGINT}:
            signal.signal(number, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        # File names may hold what the terminal's encoding does not; standard error is like that by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        module = import_module(f"handos_ros.cli.{command}")
        parser = argparse.ArgumentParser(
            prog=f"handos {command}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        status = module.run(parser.parse_args(argv[1:]))
        sys.stdout.flush()
        return status
    except HandosError as error:
        _say(f"error: {error}")
        return 1
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        _say(f"error: `handos {command}` needs {missing}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output (`head`, `less`) has seen enough. Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # A file, a folder or a disk that nobody looked after by name: for users to mend, too.
        reason = error.strerror or str(error) or type(error).__name__
        _say(f"error: {reason}" if error.filename is None else f"error: {error.filename}: {reason}")
        return 1


def _parse_command(argv: list[str]) -> str:
    """The command's name; ends the program for --help, --version and words that are no command."""
    parser = argparse.ArgumentParser(
        prog="handos",
        description="Every human hand in a picture: box, 21 joints in 2D and 3D, mesh, side and place.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items())
        + "\n\n`handos COMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"handos_ros {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="see below")
    if not argv:
        parser.print_help()
        parser.exit(2)
    return str(parser.parse_args(argv[:1]).command)


def _say(line: str) -> None:
    with suppress(OSError):  # there may be no terminal any more
        print(f"handos: {line}", file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)  # the system and the shell may both send one
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
