"""One camera from its subscriptions to its publishers: what happens to each of its pictures."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode

from handos_ros.errors import HandosError
from handos_ros.files.image_messages import decode_image
from handos_ros.hands import Hands, KSource
from handos_ros.inference.pipeline import Pipeline
from handos_ros.ros.camera_info import CameraCache
from handos_ros.ros.diagnostics import camera_status
from handos_ros.ros.inputs import Arrival, CameraInputs
from handos_ros.ros.outputs import CameraOutputs
from handos_ros.ros.parameters import Settings
from handos_ros.ros.statistics import Statistics
from handos_ros.ros.worker import Mailbox
from handos_ros.video.tracker import LATE, Tracker

SILENCE = 3.0
"""Seconds without a picture after which that is worth a word."""
_REPEAT = 30.0
"""Seconds before the same complaint is logged again."""


class CameraStream:
    """One camera.

    Args:
        node: on which to subscribe and publish.
        camera: its namespace, with a slash before it in full and without one in the node's, or empty.
        mailbox: where to leave pictures for the worker.
        pipeline: whose hands are published.
        settings: gives the parameters as they are now.

    Raises:
        CameraError: if the calibration file describes no camera.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        mailbox: Mailbox[tuple[CameraStream, int, Arrival]],
        pipeline: Pipeline,
        settings: Callable[[], Settings],
    ) -> None:
        now, name = settings(), camera.lstrip("/")
        file = now.camera_file.replace("{camera}", name).removeprefix("file://") or None
        self._cameras = CameraCache(file, rectified=now.rectified)
        self._node, self._mailbox, self._settings = node, mailbox, settings
        self._inputs = CameraInputs(node, camera, now.image_transport, self._arrived)
        self._outputs = CameraOutputs(node, name, pipeline.hand_model, now)
        self._tracker = Tracker()
        self._statistics = Statistics()
        self._latest_stamp = 0.0
        self._old_in_a_row = 0
        self._complaints: dict[str, float] = {}
        self._assumed_because = ""
        self._frames: set[str] = set()
        # Held while something is published, so that nothing follows once the stream is closed.
        self._lock = threading.Lock()
        self._session = 0
        self._open = False

    def open(self) -> None:
        """Start to receive and publish, as if for the first time."""
        self._statistics = Statistics()
        self._complaints.clear()
        self._tracker.reset()
        self._latest_stamp = 0.0
        self._old_in_a_row = 0
        self._open = True
        self._inputs.open()

    def close(self) -> None:
        """Receive and publish nothing more; a picture that the network is busy with is forgotten.

        Deletes the markers, so it comes before the publishers are deactivated.
        """
        self._inputs.close()
        with self._lock:
            self._mailbox.discard(self)
            self._session += 1
            if self._open:
                self._outputs.clear()
            self._open = False

    def destroy(self) -> None:
        """Take down what is left."""
        self.close()
        self._outputs.destroy()

    def process(self, pipeline: Pipeline, session: int, arrival: Arrival) -> None:
        """Find and publish the hands of one picture. In the worker's thread; never raises."""
        if session != self._session:
            return
        try:
            self._process(pipeline, session, arrival)
        except HandosError as error:
            self._bad(str(error))
        except Exception as error:
            if self._node.context.ok():
                self._bad(f"internal error, please report it: {error!r}", traceback.format_exc())

    def look_after(self) -> Any:
        """What is due once a second: follow the publishers, notice silence, complain.

        Gives the camera's DiagnosticStatus.
        """
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: {self._inputs.image_topic}"
        if not self._open:
            return None
        self._inputs.match_publishers()
        silent = monotonic() - self._statistics.last_arrival
        silence = self._inputs.silence(silent) if silent > SILENCE else ""
        if silence:
            self._complain("silence", silence)
        unpublished = monotonic() - self._statistics.last_published
        # A network that takes its time is not to make markers blink.
        stalled = unpublished if unpublished > max(SILENCE, 2 * self._statistics.latency) else 0.0
        if stalled:
            self._forget_markers()
        self._explain_assumed()
        if self._cameras.doubt:
            self._complain("distortion", f"{self._inputs.info_topic}: {self._cameras.doubt}")
        return camera_status(name, self._statistics, silence, stalled)

    def _forget_markers(self) -> None:
        """Hands of the last picture that could be used are not to be taken for hands that are there."""
        with self._lock:
            if self._open and self._outputs.marked:
                self._outputs.clear()

    def _arrived(self, arrival: Arrival) -> None:
        self._statistics.count("received")
        if self._mailbox.put(self, (self, self._session, arrival)):
            self._statistics.count("replaced")

    def _process(self, pipeline: Pipeline, session: int, arrival: Arrival) -> None:
        taken, settings, message = perf_counter(), self._settings(), arrival.message
        header, stamp = message.header, _seconds(message.header.stamp)
        if not header.frame_id:
            self._complain(
                "frame",
                f"the pictures on {self._inputs.image_topic} name no frame (frame_id is empty), so RViz and "
                "tf can place no hand: set it in the camera's driver",
            )
        elif header.frame_id not in self._frames:
            self._frames.add(header.frame_id)
            self._node.get_logger().info(
                f"pictures on {self._inputs.image_topic} are in the frame {header.frame_id}: RViz shows "
                "markers where its fixed frame is that one, or tf joins the two"
            )
        if self._is_too_old(stamp, settings.max_age):
            return
        image = decode_image(message)
        height, width = image.shape[:2]
        camera = self._cameras.camera(self._inputs.info, width, height, rectified=settings.rectified)
        if camera is not None and camera.distortion.size and self._inputs.rectified_by_name:
            self._complain(
                "rectified",
                f"the pictures on {self._inputs.image_topic} are rectified by their name, and yet the lens's "
                "distortion is taken out of them: set the parameter rectified",
            )
        unpacked = perf_counter()
        pipeline.min_score, pipeline.max_hands = settings.network_score, settings.max_hands
        pipeline.second_look = settings.second_look
        hands = pipeline(image, camera, mesh=settings.publish_mesh)
        with self._lock:
            if session != self._session:
                return
            found = perf_counter()
            self._notice_jump(stamp)
            hands = self._tracked(hands, stamp or arrival.time, settings)
            tracked = perf_counter()
            self._outputs.publish(hands, header, tracked - taken, settings)
            sent = perf_counter()
            self._outputs.show(hands, header, image, settings)
            shown = perf_counter()
        statistics = self._statistics
        statistics.k_source, statistics.frame_id = hands.camera.source.name.lower(), header.frame_id
        statistics.count("published", hands=len(hands))
        statistics.latency, self._old_in_a_row = sent - arrival.time, 0
        statistics.time(
            {
                "wait": taken - arrival.time,
                "unpack": unpacked - taken,
                **pipeline.timings,
                "track": tracked - found,
                "send": sent - tracked,
                "show": shown - sent,
                "arrival to sent": sent - arrival.time,
            }
        )

    def _is_too_old(self, stamp: float, max_age: float) -> bool:
        clock: Any = self._node.get_clock()
        if not max_age or not stamp or clock.ros_time_is_active:
            return False
        age = clock.now().nanoseconds * 1e-9 - stamp
        if age <= max_age:
            return False
        self._statistics.count("too_old", age=age)
        self._old_in_a_row += 1
        if self._old_in_a_row > 10:
            self._complain(
                "age",
                f"all pictures on {self._inputs.image_topic} are dropped: the latest is {age:.1f} s old, "
                f"max_age is {max_age:g} s. Synchronise the machines' clocks; for a bag set use_sim_time and "
                "play it with --clock, or set max_age to 0",
            )
        return True

    def _tracked(self, hands: Hands, stamp: float, settings: Settings) -> Hands:
        if not settings.tracking:
            self._tracker.reset()
            return replace(hands, ids=np.full(len(hands), -1, np.int32))
        self._tracker.smoothing, self._tracker.min_score = settings.smoothing, settings.min_score
        return self._tracker(hands, stamp)

    def _notice_jump(self, stamp: float) -> None:
        """A bag that starts over, a simulation that is reset: what is shown and tracked is of the past.

        What is only late the tracker takes care of.
        """
        back, topic = self._latest_stamp - stamp, self._inputs.image_topic
        if back > LATE:
            self._complain("jump", f"time went back by {back:.3f} s on {topic}: tracks start anew")
            self._tracker.reset()
            self._outputs.clear()
        elif back > 0:
            self._statistics.count("late")
            self._complain(
                "late",
                f"a picture on {topic} is {back:.3f} s older than the one before it: do two publish there, "
                "or does the driver's clock waver?",
            )
        self._latest_stamp = stamp

    def _bad(self, reason: str, details: str = "") -> None:
        self._statistics.count("bad", reason=reason)
        # The same complaint with other numbers is the same complaint.
        kind = re.sub(r"[\d.]+", "", reason)[:60]
        self._complain(
            f"bad {kind}",
            f"picture on {self._inputs.image_topic} dropped: {reason}\n{details}".rstrip(),
        )

    def _explain_assumed(self) -> None:
        """Say why distances rest on a guess, and when they no longer do; once for each reason."""
        source, topic = self._statistics.k_source, self._inputs.info_topic
        if not source:
            return
        why = ""
        if source == KSource.ASSUMED.name.lower():
            why = self._cameras.problem or "no camera_info came"
        if why and why != self._assumed_because:
            self._node.get_logger().warning(
                f"{topic}: {why}. The focal length is assumed to be the picture's longer side, so distances "
                "are a guess: calibrate the camera, or set camera_file"
            )
        elif self._assumed_because and not why:
            self._node.get_logger().info(f"{topic}: intrinsics are known now, from {source}")
        self._assumed_because = why

    def _complain(self, key: str, text: str) -> None:
        """Log a warning, unless the same was logged lately."""
        now = monotonic()
        if now - self._complaints.get(key, float("-inf")) >= _REPEAT:
            self._complaints[key] = now
            self._node.get_logger().warning(text)


def _seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec * 1e-9
