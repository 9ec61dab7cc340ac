"""What the demo keeps: a bag of the hands, a video of the overlays, and what is told at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from handos_ros.files.bags_reading import Topic
from handos_ros.files.bags_writing import BagWriter
from handos_ros.files.image_messages import decode_image
from handos_ros.files.rosmsg import HAND_ARRAY, typestore
from handos_ros.files.videos import VideoOutput
from handos_ros.hands import LEFT

_FOREVER = QosTime(2147483647, 4294967295)


_QOS = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, False,
)  # fmt: skip


class Recording:
    """Writes `hands/` (a bag) and `overlay.mp4` into a folder, replacing those of an earlier run.

    Args:
        folder: made where it is missing.
        rate: of the video, pictures a second.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bag, self.video = folder / "hands", folder / "overlay.mp4"
        self._rate = rate
        self._writer = BagWriter(
            self.bag, storage="mcap", compression="none", part_bytes=1 << 40, job={}, custom_data={},
            overwrite=True,
        )  # fmt: skip
        definition, _ = typestore().generate_msgdef(HAND_ARRAY)
        self._hands = Topic("/handos/hands", HAND_ARRAY, ("ros2msg", definition), (_QOS,))
        self._partial_video = self.video.with_name(".overlay.part.mp4")
        self._video: VideoOutput | None = None
        self._frames = 0
        self._sent: dict[int, tuple[int, float]] = {}
        self._latencies: list[float] = []
        self._processing: list[float] = []
        self._left = self._right = self._with_hands = 0
        self._first = self._last = 0.0

    def sent(self, stamp: int, now: float) -> None:
        """A picture with `stamp` (ns) goes out at `now` (s)."""
        self._first = self._first if self._sent else now
        self._sent[stamp] = (len(self._sent), now)

    def answered(self, stamp: int, message: Any, data: bytes, now: float) -> None:
        """A HandArray came in at `now` (s)."""
        if stamp not in self._sent:
            return
        self._last = now
        self._latencies.append(now - self._sent[stamp][1])
        self._processing.append(message.processing_time.sec + message.processing_time.nanosec / 1e9)
        left = sum(hand.handedness == LEFT for hand in message.hands)
        self._left += left
        self._right += len(message.hands) - left
        self._with_hands += bool(message.hands)
        self._writer.write(self._hands, stamp, data)

    def overlaid(self, stamp: int, message: Any) -> None:
        """An overlay came in; it is shown until the next one, so that the video keeps its length.

        Raises:
            DataError: if the video cannot be written.
        """
        if stamp not in self._sent:
            return
        picture = decode_image(message)
        if self._video is None:
            height, width = picture.shape[:2]
            self._video = VideoOutput(self._partial_video, self._rate, width, height, name=self.video)
        number, _ = self._sent[stamp]
        while self._frames <= number:
            self._video.write(picture)
            self._frames += 1

    @property
    def complete(self) -> bool:
        """Whether the newest picture was answered, overlay and all."""
        return bool(self._sent) and self._frames == len(self._sent)

    def finish(self) -> None:
        """Give the files their names.

        Raises:
            DataError: if the video lacks pictures, as on a full disk.
        """
        if self._latencies:
            self._writer.finish({})
        else:
            self._writer.abandon()
        if self._video is not None:
            video, self._video = self._video, None
            try:
                video.close()
                os.replace(self._partial_video, self.video)
            finally:
                self._partial_video.unlink(missing_ok=True)

    def summary(self) -> list[str]:
        """A few lines for people."""
        answered = len(self._latencies)
        if not answered:
            return [f"{len(self._sent)} pictures sent, none answered"]
        latencies = 1e3 * np.array(self._latencies)
        rate = answered / max(self._last - self._first, 1e-9)
        return [
            f"{len(self._sent)} pictures sent, {answered} answered, {rate:.1f} a second",
            f"hands in {self._with_hands} of them: {self._left} left, {self._right} right",
            f"from sending a picture to its hands: mean {latencies.mean():.1f} ms, "
            f"99 of 100 within {np.percentile(latencies, 99):.1f} ms; "
            f"of that in the node {1e3 * np.mean(self._processing):.1f} ms",
        ]
