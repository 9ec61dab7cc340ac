"""A bag in, a bag with hands out: every picture of the chosen topics through the pipeline and a tracker.

Several threads, so that nobody waits for anybody: one reads; a few more each decode a picture and run a
network on it; the caller's takes what they found in the pictures' order and tracks it; one writes. Between
them are short queues, so that memory does not grow with the bag.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.serde import SerdeError

from handos_ros import __version__
from handos_ros.drawing.markers import HandMarkers
from handos_ros.errors import CameraError, DataError, PictureError
from handos_ros.files import rosmsg
from handos_ros.files.bags_channel import Channel
from handos_ros.files.bags_job import differences, finished_by, record
from handos_ros.files.bags_reading import BagReader, Message, Topic, definition_and_digest
from handos_ros.files.bags_topics import CAMERA_INFO, CameraTopics, choose, full_name
from handos_ros.files.bags_writing import BagWriter, check_output, partial_path
from handos_ros.files.image_messages import camera_from_message, decode_image
from handos_ros.hands import Camera, Hands
from handos_ros.inference.pipeline import Pipeline
from handos_ros.video.tracker import Tracker

# Pictures looked at ahead of their turn, and results that wait to be written: enough to ride out a slow one,
# little enough to hold in memory.
_AHEAD = 4
# Other messages go to the writer in heaps of this size where no picture comes in between.
_HEAP_BYTES = 4 << 20
# Errors that are named one by one; the rest is counted.
_MAX_NAMED = 20


@dataclass(frozen=True)
class BagOptions:
    """What is done with a bag.

    Attributes:
        topics: picture topics; empty for the only one there is.
        keep: which input topics are copied: `all`, `none` or their names.
        storage, compression: of the output; None as the input's.
        part_bytes: size of the output's parts.
        camera: replaces every camera_info; None to go by camera_info.
        rectified_camera: does so for rectified pictures; None where it is not known beside `camera`.
        rectified: all pictures are rectified, whatever their topics are called.
        mesh: whether messages and markers hold the mesh.
        smoothing, min_score: of the tracker.
        overwrite, resume: see `BagWriter`.
        decoders: threads that decode pictures, at least; each network has one.
    """

    topics: tuple[str, ...] = ()
    keep: str | tuple[str, ...] = "all"
    storage: str | None = None
    compression: str | None = None
    part_bytes: int = 2 << 30
    camera: Camera | None = None
    rectified_camera: Camera | None = None
    rectified: bool = False
    mesh: bool = True
    smoothing: float = 0.5
    min_score: float = 0.0
    overwrite: bool = False
    resume: bool = False
    decoders: int = 2

    def camera_of(self, topics: CameraTopics) -> Camera | None:
        """What replaces a camera's camera_info."""
        return self.rectified_camera if topics.rectified else self.camera


@dataclass
class BagReport:
    """How it went. Counts include those of earlier runs that this one went on with.

    Attributes:
        output: the bag as it is now: whole, or the readable part of it.
        pictures, hands: looked at and found; `bad_pictures` could not be read.
        seconds, network_seconds: of this run: all of it, and what the networks took, each its share of the
            pictures.
        errors: what was wrong and left out, one line each; with any, the work is not all done.
        notes: what the user should know besides.
        interrupted: stopped before the end.
        done_before: there was nothing left to do.
    """

    output: Path
    pictures: int = 0
    hands: int = 0
    bad_pictures: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    done_before: bool = False


def process_bag(
    source: Path,
    output: Path,
    pipelines: Sequence[Pipeline],
    options: BagOptions,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_pictures: Callable[[int, int | None], None] = lambda done, total: None,
) -> BagReport:
    """Find the hands in a bag's pictures and write them beside its messages into another bag.

    Args:
        source: the bag.
        output: the new bag's folder; while it is not whole, and after `stop`, it is called
            `<output>.partial` and is a bag too.
        pipelines: the network, once for each picture that is to be looked at at a time.
        options: what to do.
        stop: asked after every picture; True ends the work in good order.
        on_pictures: told how many pictures are done, of how many where that is known.

    Raises:
        DataError: if there is nothing to do or it cannot be written; the message says what is left.
    """
    finished = finished_by(output) if options.resume and not options.overwrite else None
    if finished == {}:
        return BagReport(output, done_before=True)
    if finished is None:
        check_output(output, overwrite=options.overwrite, resume=options.resume)
    started = perf_counter()
    reader = BagReader(source)
    cameras, missing = choose(reader, options.topics)
    if options.rectified:
        cameras = [replace(camera, rectified=True) for camera in cameras]
    for camera in cameras:
        if options.camera is not None and options.camera_of(camera) is None:
            raise DataError(
                f"{source}: the pictures of {camera.image} are rectified; their camera file needs a "
                "projection_matrix, or no distortion"
            )
    kept, notes = _kept(reader, options.keep, cameras, options.camera is not None)
    if not isinstance(options.keep, str):
        topics = reader.topics
        missing += [
            f"no topic {name} to keep" for name in options.keep if full_name(name, topics) not in topics
        ]
    storage, compression = _stored_as(reader, options)
    job = {
        **_job(reader, cameras, kept, pipelines[0], options),
        "storage": storage,
        "compression": compression,
    }
    if finished is not None:
        if finished != record(job):
            raise DataError(
                f"{output}: was made with other input or options ({differences(finished, record(job))}); "
                "repeat them, choose another output, or replace it with --overwrite"
            )
        return BagReport(output, done_before=True)
    writer = BagWriter(
        output,
        storage=storage,
        compression=compression,
        part_bytes=options.part_bytes,
        job=job,
        custom_data={"handos_version": __version__, "handos_model": pipelines[0].model_id},
        overwrite=options.overwrite,
        resume=options.resume,
    )
    run = _Run(reader, writer, pipelines, options, cameras, kept)
    report = run.report
    report.errors += [line for line in missing if line not in report.errors]
    report.notes += notes
    total = _total(reader, cameras)
    try:
        run.go(stop, lambda: on_pictures(report.pictures + report.bad_pictures, total))
    except DataError as error:
        if not run.left_over:
            raise
        raise DataError(
            f"{error}; what was done before is in {partial_path(output)}, go on with --resume"
        ) from error
    report.seconds = perf_counter() - started
    return report


class _Frame(NamedTuple):
    """A picture on its way to the network: RGB, its camera, its header as values, its time in seconds."""

    picture: NDArray[np.uint8]
    camera: Camera
    header: dict[str, Any]
    stamp: float
    complaint: str


class _Seen(NamedTuple):
    """What a network found in a picture, in how many seconds; the rest is the frame's."""

    hands: Hands
    seconds: float
    header: dict[str, Any]
    stamp: float
    complaint: str


@dataclass
class _Batch:
    """Messages in a row, of which the last is a picture unless `camera` is None.

    `position` is how many messages were read up to here.
    """

    messages: list[Message]
    position: int
    stamp: int = 0
    camera: CameraTopics | None = None
    seen: Future[_Seen] | None = None


@dataclass
class _Result:
    """What is to be written after a batch."""

    batch: _Batch
    hands: Hands | None = None
    header: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    tracker: dict[str, NDArray] = field(default_factory=dict)
    error: str = ""


class _Run:
    """One pass over a bag."""

    def __init__(
        self,
        reader: BagReader,
        writer: BagWriter,
        pipelines: Sequence[Pipeline],
        options: BagOptions,
        cameras: list[CameraTopics],
        kept: frozenset[str],
    ) -> None:
        self.report = BagReport(writer.final)
        self.left_over = False
        self._reader, self._writer, self._options = reader, writer, options
        self._hand_model, self._model_id = pipelines[0].hand_model, pipelines[0].model_id
        self._networks = len(pipelines)
        self._free: SimpleQueue[Pipeline] = SimpleQueue()
        for pipeline in pipelines:
            self._free.put(pipeline)
        self._cameras = {camera.image: camera for camera in cameras}
        self._kept = kept
        self._trackers = {
            camera.image: Tracker(smoothing=options.smoothing, min_score=options.min_score)
            for camera in cameras
        }
        self._markers = {camera.image: HandMarkers(self._hand_model, mesh=options.mesh) for camera in cameras}
        self._topics = {
            (camera.image, what): Topic(camera.output(what), msgtype, _definition(msgtype), (qos,))
            for camera in cameras
            for what, msgtype, qos in _OUTPUTS
        }
        self._announced: set[str] = set()
        self._undefined: set[str] = set()
        self._position = 0
        self._tracker_states: dict[str, dict[str, NDArray]] = {}
        if writer.state is not None:
            self._restore(writer.state, writer.arrays)

    def go(self, stop: Callable[[], bool], progress: Callable[[], None]) -> None:
        """Do it. Raises what any of the threads raised."""
        workers = max(self._options.decoders, self._networks)
        batches: Channel[_Batch] = Channel(max(_AHEAD, workers))
        results: Channel[_Result] = Channel(_AHEAD)
        failure: list[BaseException] = []
        with ThreadPoolExecutor(workers, "look") as pool:

            def read() -> None:
                try:
                    for batch in self._batches(pool):
                        if not batches.put(batch):
                            return
                    batches.close()
                except BaseException as error:
                    batches.close(error)

            def write() -> None:
                # All that touches the output happens here: SQLite's objects belong to one thread.
                try:
                    for result in results:
                        self._write(result)
                        progress()
                    self._end()
                except BaseException as error:
                    failure.append(error)
                    results.cancel()
                    self.left_over = self._writer.abandon()

            threads = [threading.Thread(target=read), threading.Thread(target=write)]
            for thread in threads:
                thread.start()
            problem: BaseException | None = None
            try:
                for batch in batches:
                    if stop():
                        self.report.interrupted = True
                        break
                    if not results.put(self._track(batch)):
                        break
            except BaseException as error:
                problem = error
            batches.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            results.close(problem)
            for thread in threads:
                thread.join()
        if failure:
            raise failure[0]

    def _end(self) -> None:
        """The bag gets its name, or is left so that another run can go on."""
        report = self.report
        report.errors += [line for line in self._reader.damage if line not in report.errors]
        if report.interrupted:
            self._writer.checkpoint(*self.state())
            self._writer.abandon()
            report.output = partial_path(report.output)
        elif report.pictures:
            self._writer.finish(self.state()[0])
        else:
            reasons = "".join(f"\n  {line}" for line in report.errors)
            raise DataError(f"{self._reader.path}: none of its pictures could be read{reasons}")

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """What a later run needs to go on as if there had been no stop."""
        report = self.report
        state = {
            "position": self._position,
            "pictures": report.pictures,
            "hands": report.hands,
            "bad_pictures": report.bad_pictures,
            "errors": report.errors,
            "announced": sorted(self._announced),
            "markers": {image: markers.shown for image, markers in self._markers.items()},
        }
        arrays = {
            f"{image} {name}": array
            for image, tracker in self._tracker_states.items()
            for name, array in tracker.items()
        }
        return state, arrays

    def _restore(self, state: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        report = self.report
        report.pictures, report.hands = state["pictures"], state["hands"]
        report.bad_pictures, report.errors = state["bad_pictures"], list(state["errors"])
        self._position = state["position"]
        self._announced = set(state["announced"])
        for image, shown in state["markers"].items():
            self._markers[image].shown = shown
        for key, array in arrays.items():
            image, name = key.split(" ", 1)
            self._tracker_states.setdefault(image, {})[name] = array
        for image, tracker in self._tracker_states.items():
            self._trackers[image].restore(tracker)

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[_Batch]:
        """The bag's messages up to each picture; the pictures are being looked at."""
        skip, infos = self._position, self._first_infos()
        by_info: dict[str, list[CameraTopics]] = {}
        for camera in self._cameras.values():
            if camera.info and self._options.camera is None:
                by_info.setdefault(camera.info, []).append(camera)
        heap: list[Message] = []
        size = position = 0
        for message in self._reader.messages({*self._kept, *self._cameras, *by_info}):
            position += 1
            name = message.topic.name
            if name in by_info:
                infos[name] = message
            if position <= skip:
                continue
            pictured = self._cameras.get(name)
            if name in self._kept:
                heap.append(message)
                size += len(message.data)
            if pictured is not None:
                info = infos.get(pictured.info or "")
                seen = pool.submit(self._see, message, pictured, info)
                yield _Batch(heap, position, message.stamp, pictured, seen)
            elif size < _HEAP_BYTES:
                continue
            else:
                yield _Batch(heap, position)
            heap, size = [], 0
        yield _Batch(heap, position)

    def _first_infos(self) -> dict[str, Message]:
        """The first camera_info of each camera: it often comes just after the first picture."""
        topics = {camera.info for camera in self._cameras.values() if camera.info}
        if self._options.camera is not None:
            return {}
        return self._reader.first_of(topics)

    def _decode(self, message: Message, topics: CameraTopics, info: Message | None) -> _Frame:
        """Bytes to a picture and its camera."""
        try:
            image: Any = rosmsg.typestore().deserialize_cdr(message.data, message.topic.msgtype)
        except SerdeError as error:
            raise PictureError(f"no {message.topic.msgtype}: {error}") from None
        picture = decode_image(image)
        height, width = picture.shape[:2]
        camera, complaint, doubts = self._options.camera_of(topics), "", list[str]()
        if camera is None:
            camera = Camera.assumed(width, height)
            try:
                if info is not None:
                    decoded: Any = rosmsg.typestore().deserialize_cdr(info.data, CAMERA_INFO)
                    found = camera_from_message(decoded, rectified=topics.rectified, doubt=doubts.append)
                    camera = found.resized(width, height)
            except (CameraError, SerdeError) as error:
                complaint = f"{topics.info}: {error}; a camera is assumed for {topics.image}"
        if doubts and not complaint:
            complaint = f"{topics.info}: {doubts[0]}"
        stamp = image.header.stamp
        header = {
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": image.header.frame_id,
        }
        seconds = stamp.sec + stamp.nanosec * 1e-9 or message.stamp * 1e-9
        return _Frame(picture, camera, header, seconds, complaint)

    def _see(self, message: Message, topics: CameraTopics, info: Message | None) -> _Seen:
        """Bytes to hands, by whichever network is free."""
        frame = self._decode(message, topics, info)
        pipeline = self._free.get()
        try:
            started = perf_counter()
            hands = pipeline(frame.picture, frame.camera, mesh=self._options.mesh)
            return _Seen(hands, perf_counter() - started, frame.header, frame.stamp, frame.complaint)
        finally:
            self._free.put(pipeline)

    def _track(self, batch: _Batch) -> _Result:
        """The tracker on what was seen in a batch's picture; batches come in their order."""
        if batch.camera is None or batch.seen is None:
            return _Result(batch)
        image = batch.camera.image
        try:
            seen = batch.seen.result()
            started = perf_counter()
            tracker = self._trackers[image]
            hands = tracker(seen.hands, seen.stamp)
            seconds = seen.seconds + perf_counter() - started
        except (PictureError, CameraError) as error:
            return _Result(batch, error=f"{image} at {_time(batch.stamp)}: {error}")
        self.report.network_seconds += seen.seconds / self._networks
        return _Result(batch, hands, seen.header, seconds, tracker.state(), seen.complaint)

    def _write(self, result: _Result) -> None:
        """A batch's messages, and its hands after the picture that they are in."""
        batch, report = result.batch, self.report
        for message in batch.messages:
            self._copy(message)
        if result.error:
            self._name(result.error)
        if batch.camera is not None:
            image, hands = batch.camera.image, result.hands
            if hands is None:
                report.bad_pictures += 1
            else:
                report.pictures += 1
                report.hands += len(hands)
                self._put(image, "hands", batch, rosmsg.hand_array(hands, result.header, result.seconds))
                markers = self._markers[image](hands)
                self._put(image, "markers", batch, rosmsg.marker_array(markers, result.header))
                self._tracker_states[image] = result.tracker
        self._position = batch.position
        if self._writer.part_is_full:
            self._writer.checkpoint(*self.state())

    def _put(self, image: str, what: str, batch: _Batch, data: bytes) -> None:
        if image not in self._announced:
            self._announced.add(image)
            topology = rosmsg.hand_topology(self._hand_model, self._model_id)
            self._put(image, "topology", batch, topology)
        self._writer.write(self._topics[image, what], batch.stamp, data)

    def _copy(self, message: Message) -> None:
        """An input message, unless nobody could read it in the output."""
        name = message.topic.name
        if name in self._undefined:
            return
        try:
            definition_and_digest(message.topic)
        except DataError as error:
            self._undefined.add(name)
            self._name(f"{name}: {error}; the topic was left out")
            return
        self._writer.write(message.topic, message.stamp, message.data)

    def _name(self, error: str) -> None:
        """Keep an error for the report: once, and not a million of them."""
        errors = self.report.errors
        if error not in errors and len(errors) < _MAX_NAMED:
            errors.append(error)


def _qos(depth: int, durability: QosDurability) -> Qos:
    never = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, durability, never, never,
        QosLiveliness.AUTOMATIC, never, avoid_ros_namespace_conventions=False,
    )  # fmt: skip


# As the node offers them.
_OUTPUTS = (
    ("hands", rosmsg.HAND_ARRAY, _qos(5, QosDurability.VOLATILE)),
    ("markers", rosmsg.MARKER_ARRAY, _qos(5, QosDurability.VOLATILE)),
    ("topology", rosmsg.HAND_TOPOLOGY, _qos(1, QosDurability.TRANSIENT_LOCAL)),
)


def _definition(msgtype: str) -> tuple[str, str]:
    return "ros2msg", rosmsg.typestore().generate_msgdef(msgtype, ros_version=2)[0]


def _kept(
    reader: BagReader, keep: str | tuple[str, ...], cameras: list[CameraTopics], has_camera: bool
) -> tuple[frozenset[str], list[str]]:
    """The input topics to copy, and what to say about it."""
    topics = set(reader.topics)
    if isinstance(keep, tuple):
        wanted = topics.intersection(full_name(name, topics) for name in keep)
    else:
        wanted = topics if keep == "all" else set()
    written = {camera.output(what) for camera in cameras for what, _, _ in _OUTPUTS}
    notes = [f"{name} of the input is replaced by this run's" for name in sorted(wanted & written)]
    for camera in cameras:
        if camera.info is None and not has_camera:
            notes.append(
                f"no camera_info beside {camera.image}: a camera is assumed, so distances are a guess; "
                "give one with --camera"
            )
    return frozenset(wanted - written), notes


def _stored_as(reader: BagReader, options: BagOptions) -> tuple[str, str]:
    """Storage and compression of the output."""
    storage, compression = options.storage or reader.storage, options.compression or reader.compression
    # `storage` is mcap's own.
    return storage, "none" if (storage, compression) == ("sqlite3", "storage") else compression


def _job(
    reader: BagReader,
    cameras: list[CameraTopics],
    kept: frozenset[str],
    pipeline: Pipeline,
    options: BagOptions,
) -> dict[str, Any]:
    """All that the output's messages depend on."""
    asked = [options.camera_of(each) for each in cameras]
    return {
        "input": reader.fingerprint(),
        "topics": [[each.image, each.name, each.info, each.rectified] for each in cameras],
        "kept_topics": sorted(kept),
        "model": pipeline.model_id,
        "weights": pipeline.fingerprint,
        "hand_model": pipeline.hand_model.name,
        "min_score": options.min_score,
        "keep_score": pipeline.min_score,
        "max_hands": pipeline.max_hands,
        "long_side": pipeline.backend.long_side,
        "second_look": pipeline.second_look and pipeline.backend.second_look is not None,
        "camera": [
            [c.k.tolist(), c.width, c.height, c.distortion_model, c.distortion.tolist()]
            for c in asked
            if c is not None
        ],
        "mesh": options.mesh,
        "smoothing": options.smoothing,
    }


def _total(reader: BagReader, cameras: list[CameraTopics]) -> int | None:
    counts = [reader.topics[camera.image][1] for camera in cameras]
    return None if None in counts else sum(count or 0 for count in counts)


def _time(stamp: int) -> str:
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"
