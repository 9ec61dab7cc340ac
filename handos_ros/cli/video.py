"""Find the hands in a video file or before a camera.

A file NAME.mp4 gives NAME_overlay.mp4, the same video at its mean rate with its hands drawn over it, and
NAME.jsonl: for each frame one line of json as `handos image` writes it, with the frame's number and its
time in seconds.
Hands keep their id from frame to frame.

  handos video clip.mp4 -o hands
  handos video 0                     the first camera, in a window; q ends it
"""

from __future__ import annotations

import argparse
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING

from handos_ros.cli import common, values
from handos_ros.errors import DataError, HandosError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handos_ros.files.videos import Frame, Source, VideoOutput
    from handos_ros.hands import Camera, Hands
    from handos_ros.inference.pipeline import Pipeline
    from handos_ros.video.tracker import Tracker

_IN_FLIGHT = 6
# A container's own count is an estimate in some formats.
_TOLERANCE = 0.01
_UNEVEN, _TOO_LATE = 0.1, 0.5
"""Seconds: a frame that much later than its turn has the one before it held until then; one that much earlier
is worth a word."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handos video`."""
    parser.add_argument("source", metavar="FILE|0", help="a video file, or a camera: 0, /dev/video0")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for the results; needed for a file")
    parser.add_argument("--no-overlay", action="store_true", help="write no video, only json lines")
    parser.add_argument("--no-window", action="store_true", help="open no window for a camera")
    parser.add_argument(
        "--smoothing",
        type=values.fraction,
        default=0.5,
        metavar="0..1",
        help="how much a hand is steadied over time, 0 for not at all; its side always is (default: 0.5)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    common.add_model_arguments(parser, tracking=True)


def run(args: argparse.Namespace) -> int:
    """Work through the video; what was done is kept where the video or the user ends it early.

    Where the results cannot be written any more, or something else fails, nothing is left of them.
    """
    from handos_ros.files.atomic import refuse_existing
    from handos_ros.files.videos import LiveCamera, VideoFile, camera_number
    from handos_ros.video.tracker import Tracker

    started = perf_counter()
    camera = common.load_camera(args)
    number = camera_number(args.source)
    live = number is not None
    window = live and not args.no_window and _may_open_window(must=args.output is None)
    if args.output is None and not live:
        raise DataError("-o DIR is missing: where shall the results go?")
    if args.output is None and not window:
        raise DataError("neither a window nor an output: give -o DIR")
    lines, video = _outputs(args, number)
    for path in filter(None, (lines, video)):
        refuse_existing(path, overwrite=args.overwrite)

    with ExitStack() as stack:
        source: VideoFile | LiveCamera = VideoFile(args.source) if number is None else LiveCamera(number)
        stack.callback(source.close)
        if not source.rate_is_known:
            common.warn(f"{args.source}: does not tell its rate; {source.rate:g} frames/s is assumed")
        pipeline = common.load_pipeline(args)
        stack.callback(pipeline.close)
        interruption = stack.enter_context(common.Interruption())
        tracker = Tracker(smoothing=args.smoothing, min_score=args.min_score)
        work = _Work(args.source, pipeline, camera, tracker, live, draw=window or video is not None)
        with _Results(lines, video, source.rate, live, args.overwrite).opened() as results:
            work.run(source, results, interruption, window)
    whole = (
        interruption.asked
        or work.ended_by_user
        or _is_whole(args.source, live, source, work.frames, work.last)
    )
    seconds = perf_counter() - started
    print(
        f"{work.frames} frames, {work.hands} hands, {work.failed} failed, {seconds:.1f} s "
        f"({work.frames / seconds:.1f} frames/s)" + (f"; results in {args.output}" if args.output else "")
    )
    if interruption.asked and not live:
        raise KeyboardInterrupt
    return 0 if whole and not work.failed else 1


def _outputs(args: argparse.Namespace, number: int | None) -> tuple[Path | None, Path | None]:
    """The files of json lines and of the overlay video."""
    if args.output is None:
        return None, None
    stem = Path(args.source).stem if number is None else f"camera{number}"
    folder = common.output_folder(args.output)
    return folder / f"{stem}.jsonl", None if args.no_overlay else folder / f"{stem}_overlay.mp4"


def _may_open_window(must: bool) -> bool:
    from handos_ros.drawing.window import why_no_window

    reason = why_no_window()
    if reason is None:
        return True
    if must:
        raise DataError(f"no window can be opened: {reason}; or write the results to a folder with -o DIR")
    common.warn(f"no window is opened: {reason}")
    return False


def _is_whole(name: str, live: bool, source: Source, frames: int, last: float) -> bool:
    """Whether the file gave as much as it says it has, up to the frame at `last` s; complains if not."""
    if live:
        common.complain(
            f"camera {name} gives no more frames; was it pulled out? The results hold the first {frames}"
        )
        return False
    if source.count is None or frames >= source.count - max(2, _TOLERANCE * source.count):
        return True
    # Where the rate varies there are fewer frames, but they play as long.
    gap = max(1 / source.rate, last / max(1, frames - 1))
    played = last + gap
    if source.seconds is not None and played >= source.seconds - max(2 * gap, _TOLERANCE * source.seconds):
        return True
    common.complain(
        f"{name}: of {source.count} frames the first {frames} could be read, {played:.1f} s; the file is "
        "damaged or was cut off, or its video is shorter than it says, as that of some recorders is. The "
        "results hold those"
    )
    return False


class _Work:
    """The network and the tracker on one frame after the other, reading and writing beside them."""

    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        camera: Camera | None,
        tracker: Tracker,
        live: bool,
        draw: bool,
    ) -> None:
        self.frames = self.hands = self.failed = 0
        self.last = 0.0  # s, of the newest frame
        self.ended_by_user = False
        self._name, self._pipeline, self._camera, self._tracker = name, pipeline, camera, tracker
        self._live, self._draw = live, draw

    def run(self, source: Source, results: _Results, interruption: common.Interruption, window: bool) -> None:
        """Until the source ends, the user has seen enough, or the disk is full."""
        # A camera's pictures are worth showing only while they are new.
        depth = 1 if self._live else _IN_FLIGHT
        waiting: deque[Future[NDArray[np.uint8] | None]] = deque()
        with (
            common.progress(source.count, "frame") as bar,
            ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
        ):
            for frame in _frames(source, depth):
                if interruption.asked or self.ended_by_user:
                    break
                hands, error = self._look(frame)
                waiting.append(writer.submit(self._finish, frame, hands, error, results))
                while len(waiting) >= depth:
                    self._show(waiting.popleft().result(), window)
                self.frames += 1
                self.last = frame.time
                self.hands += len(hands)
                bar.update()
            for future in waiting:
                future.result()
        if not self.frames:
            raise DataError(f"{self._name}: not a single frame could be read")
        if self.failed > 1:
            common.complain(f"{self._name}: the same or the like with {self.failed - 1} more frames")

    def _look(self, frame: Frame) -> tuple[Hands, str | None]:
        """The frame's hands, or none and what was wrong with it."""
        from handos_ros.hands import Camera, Hands

        try:
            hands = self._pipeline(frame.image, self._camera, mesh=self._draw)
            return self._tracker(hands, frame.time), None
        except HandosError as error:
            if frame.number == 0:
                raise  # the next ones will be no better
            if not self.failed:
                common.complain(f"{self._name}: frame {frame.number}: {error}")
            self.failed += 1
            height, width = frame.image.shape[:2]
            return Hands.empty(Camera.assumed(width, height)), str(error)

    def _finish(
        self, frame: Frame, hands: Hands, error: str | None, results: _Results
    ) -> NDArray[np.uint8] | None:
        """In the writer's thread: draw and write."""
        from handos_ros.drawing.overlay import draw_hands
        from handos_ros.files.results import hands_to_dict, readable

        record = {"image": readable(self._name), "frame": frame.number, "time": round(frame.time, 6)}
        record |= hands_to_dict(self._name, hands, self._pipeline.model_id)
        if error is not None:
            record["error"] = readable(error)
        overlay = draw_hands(frame.image, hands, self._pipeline.hand_model) if self._draw else None
        results.write(record, overlay, frame.time)
        return overlay

    def _show(self, overlay: NDArray[np.uint8] | None, window: bool) -> None:
        if window and overlay is not None:
            from handos_ros.drawing.window import show

            self.ended_by_user |= not show("handos", overlay)


def _frames(source: Source, depth: int) -> Iterator[Frame]:
    """Frames, read ahead by a thread."""
    from handos_ros.files.ahead import map_ahead

    with closing(map_ahead(lambda _: source.read(), itertools.count(), workers=1, depth=depth)) as ahead:
        for _, future in ahead:
            frame = future.result()
            if frame is None:
                return
            yield frame


class _Results:
    """The json lines and the overlay video, as far as they are wanted.

    Args:
        lines, video: final names, None for what is not wanted.
        rate: frames per second of the video.
        live: the frames come from a camera, at their own pace.
        overwrite: replace what is there.
    """

    def __init__(
        self, lines: Path | None, video: Path | None, rate: float, live: bool, overwrite: bool
    ) -> None:
        self._names = (lines, video)
        self._rate, self._live, self._overwrite = rate, live, overwrite
        self._lines: IO[str] | None = None
        self._partial: Path | None = None
        self._video: VideoOutput | None = None
        self._frames, self._behind = 0, 0.0
        self._shown: NDArray[np.uint8] | None = None

    @contextmanager
    def opened(self) -> Iterator[_Results]:
        """Files that appear when the block ends well."""
        from handos_ros.files.atomic import whole

        lines, video = self._names
        with ExitStack() as stack:
            if lines is not None:
                partial = stack.enter_context(whole(lines, overwrite=self._overwrite))
                self._lines = stack.enter_context(partial.open("w", encoding="utf-8"))
            if video is not None:
                self._partial = stack.enter_context(whole(video, overwrite=self._overwrite))
            yield self
            if self._lines is not None:
                self._lines.flush()
            if self._video is not None:
                self._video.close()
            if self._behind > _TOO_LATE and not self._live:
                common.warn(
                    f"{video}: the input's frames are not evenly spaced, so that some are shown up to "
                    f"{self._behind:.1f} s late; {lines} has their times"
                )

    def write(self, record: dict, overlay: NDArray[np.uint8] | None, time: float) -> None:
        """Add a frame. A camera's is held longer, or left out, so that the video's clock stays true.

        A file's are all there, held longer where the next one is far.
        """
        from handos_ros.files.atomic import naming
        from handos_ros.files.results import dump_json
        from handos_ros.files.videos import VideoOutput

        lines, video = self._names
        if self._lines is not None and lines is not None:
            with naming(lines):
                self._lines.write(dump_json(record) + "\n")
        if self._partial is None or video is None or overlay is None:
            return
        if self._video is None:
            height, width = overlay.shape[:2]
            self._video = VideoOutput(self._partial, self._rate, width, height, name=video)
        ahead = time * self._video.rate - self._frames
        self._behind = max(self._behind, -ahead / self._video.rate)
        if self._live or ahead > _UNEVEN * self._video.rate:
            for _ in range(int(ahead)):
                self._add(overlay if self._shown is None else self._shown)
        if not self._live or ahead >= 0:
            self._add(overlay)

    def _add(self, overlay: NDArray[np.uint8]) -> None:
        assert self._video is not None
        self._video.write(overlay)
        self._shown = overlay
        self._frames += 1
