"""The node's process: `ros2 run handos_ros handos_node`, or `python -m handos_ros.ros.node`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from time import sleep
from typing import Any

_DEADLINE = 0.8
"""Seconds from a signal to the end of the process, whatever it is busy with."""


def main(args: list[str] | None = None, pipeline_factory: Callable[..., Any] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or its context's end.

    Args:
        args: the command line, with its ROS arguments; None for the process's own.
        pipeline_factory: called as `Pipeline.load`, which is what None stands for.

    Returns:
        The exit status: 0, or 1 where the node could not be started.
    """
    try:
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.impl.implementation_singleton import rclpy_implementation
        from rclpy.signals import SignalHandlerOptions

        from handos_ros.errors import HandosError
        from handos_ros.ros.lifecycle import HandosNode, Pipeline
    except ImportError as error:
        print(
            f"handos: {error}. The node needs a ROS 2 and this package's messages: build it with colcon and "
            "source install/setup.bash",
            file=sys.stderr,
        )
        return 1

    node: HandosNode | None = None
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = HandosNode(pipeline_factory or Pipeline.load)
        woken = node.create_guard_condition(lambda: None)
        _leave_on_signals(node.leaving, woken.trigger)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if node.settings.autostart:
            node.start()
        while rclpy.ok() and not node.leaving.is_set():
            executor.spin_once()
        return 0
    except ExternalShutdownException:
        return 0
    except (HandosError, rclpy_implementation.RCLError) as error:
        if node is not None and not isinstance(error, HandosError):
            raise
        print(f"handos: error: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            if rclpy.ok():
                node.stop()
            node.destroy_node()
        rclpy.try_shutdown()


def _leave_on_signals(leaving: threading.Event, wake: Callable[[], None]) -> None:
    """On SIGINT or SIGTERM ask the node to leave, and see to it that it does.

    rclpy's own handlers end the context at once, so nothing could be published any more and markers
    would stay in every viewer. The network cannot be interrupted in the middle of a picture or of
    loading; then the process ends without it.
    """
    # Python's handlers run in the main thread, which may be waiting in C; the pipe is written at once,
    # whichever thread the signal reaches.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(reader, 1)
        leaving.set()
        wake()
        sleep(_DEADLINE)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    threading.Thread(target=wait, name="handos signals", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
