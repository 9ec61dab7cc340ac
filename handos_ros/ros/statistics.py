"""Counts and times of one camera's pictures, for diagnostics."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from time import monotonic

_WINDOW = 200
"""Latencies kept for the mean and the 99th percentile: some seconds' worth."""


@dataclass
class Period:
    """What happened between two looks.

    Attributes:
        seconds: its length.
        received: pictures that came in.
        published: pictures whose hands went out.
        replaced: pictures that gave way to a newer one before their turn came.
        too_old: pictures dropped for their age.
        late: pictures older than the one before them.
        bad: pictures that could not be used.
        hands: in the latest picture.
        age: seconds, of the latest picture dropped for its age.
        reason: what was wrong with the latest bad picture.
    """

    seconds: float = 0.0
    received: int = 0
    published: int = 0
    replaced: int = 0
    too_old: int = 0
    late: int = 0
    bad: int = 0
    hands: int = 0
    age: float = 0.0
    reason: str = ""


@dataclass
class Statistics:
    """Filled by the executor's thread and the worker's, read by the diagnostics' timer.

    Attributes:
        total: since activation.
        last_arrival: `monotonic` time of the latest picture, or of activation.
        last_published: of the latest picture whose hands went out, or of activation.
        latency: seconds that it took from its arrival, 0 before the first.
        k_source: where the latest picture's K came from, as text.
        frame_id: of the latest picture.
    """

    total: Period = field(default_factory=Period)
    last_arrival: float = field(default_factory=monotonic)
    last_published: float = field(default_factory=monotonic)
    latency: float = 0.0
    k_source: str = ""
    frame_id: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._period, self._began = Period(), monotonic()
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))

    def count(self, name: str, **details: object) -> None:
        """One more of what `Period` counts, by its name there; `details` are fields of it to set."""
        with self._lock:
            if name == "received":
                self.last_arrival = monotonic()
            elif name == "published":
                self.last_published = monotonic()
            for period in (self._period, self.total):
                setattr(period, name, getattr(period, name) + 1)
                for key, value in details.items():
                    setattr(period, key, value)

    def time(self, stages: dict[str, float]) -> None:
        """Note how many seconds each stage of a picture took."""
        with self._lock:
            for stage, seconds in stages.items():
                self._stages[stage].append(seconds)

    def take_period(self) -> Period:
        """What happened since the last call."""
        with self._lock:
            now = monotonic()
            period, period.seconds = self._period, now - self._began
            self._period, self._began = Period(), now
            return period

    def stages(self) -> dict[str, tuple[float, float]]:
        """Mean and 99th percentile of each stage, in seconds, over the latest pictures."""
        with self._lock:
            kept = {name: sorted(times) for name, times in self._stages.items() if times}
        return {
            name: (sum(times) / len(times), times[min(len(times) - 1, int(0.99 * len(times)))])
            for name, times in kept.items()
        }
