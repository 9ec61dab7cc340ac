"""The node's state as diagnostic_msgs, for rqt_robot_monitor and `ros2 topic echo /diagnostics`."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from handos_ros.ros.statistics import Period, Statistics


def camera_status(name: str, statistics: Statistics, silence: str, stalled: float) -> DiagnosticStatus:
    """One camera while the node is active.

    Args:
        name: what the status is shown under.
        statistics: of the camera; its period is taken.
        silence: why no pictures come, or empty.
        stalled: seconds for which no hands went out, where that is too long; else 0.
    """
    period = statistics.take_period()
    level, message = _verdict(period, silence, stalled)
    total = statistics.total
    values = {
        "pictures in, 1/s": f"{period.received / max(period.seconds, 1e-9):.1f}",
        "pictures out, 1/s": f"{period.published / max(period.seconds, 1e-9):.1f}",
        "hands in the latest picture": str(total.hands),
        "K from": statistics.k_source or "no picture yet",
        "frame": statistics.frame_id,
        "received": str(total.received),
        "published": str(total.published),
        "older than the one before": str(total.late),
        "skipped for a newer picture": str(total.replaced),
        "dropped, too old": str(total.too_old),
        "dropped, bad": str(total.bad),
        "latest bad picture": total.reason or "none",
    }
    for stage, (mean, worst) in statistics.stages().items():
        values[f"{stage}, ms (mean, 99 %)"] = f"{1e3 * mean:.2f}, {1e3 * worst:.2f}"
    return status(level, name, message, values)


def status(
    level: bytes, name: str, message: str, values: dict[str, str], hardware_id: str = ""
) -> DiagnosticStatus:
    """A DiagnosticStatus."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)


def _verdict(period: Period, silence: str, stalled: float) -> tuple[bytes, str]:
    if silence:
        return DiagnosticStatus.WARN, silence
    if period.bad:
        return DiagnosticStatus.WARN, f"{period.bad} bad pictures dropped: {period.reason}"
    if period.too_old and not period.published:
        return DiagnosticStatus.WARN, f"all pictures dropped, {period.age:.1f} s old when their turn came"
    if stalled:
        return DiagnosticStatus.WARN, f"pictures come in, but none came out for {stalled:.0f} s"
    return DiagnosticStatus.OK, f"{period.published / max(period.seconds, 1e-9):.1f} pictures a second"
