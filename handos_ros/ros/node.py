"""The node's process: `ros2 run handos_ros handos_node`, or `python -m handos_ros.ros.node`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from time import sleep
from typing import Any

from handos_ros.errors import HandosError
from handos_ros.extras import missing_package

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
    leaving = threading.Event()
    wakers: list[Callable[[], None]] = []
    _watch_signals(leaving, wakers)
    try:
        import rclpy
        from rclpy.exceptions import ParameterException
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.impl.implementation_singleton import rclpy_implementation
        from rclpy.signals import SignalHandlerOptions

        from handos_ros.ros.lifecycle import HandosNode, Pipeline
    except ImportError as error:
        missing = missing_package(error)
        advice = (
            f"error: the node needs {missing}"
            if missing
            else f"{error}. The node needs a ROS 2 and this package's messages: build it with colcon and "
            "source install/setup.bash"
        )
        print(f"handos: {advice}", file=sys.stderr)
        return 1

    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = HandosNode(pipeline_factory or Pipeline.load, leaving)
    except (
        HandosError,
        # Of the parameters that rclpy itself declares, such as use_sim_time.
        ParameterException,
        rclpy_implementation.RCLError,
        rclpy_implementation.UnknownROSArgsError,
    ) as error:
        print(f"handos: error: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    wakers.append(node.create_guard_condition(lambda: None).trigger)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if node.settings.autostart:
        node.start()
    while rclpy.ok() and not leaving.is_set():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            break
        except rclpy_implementation.RCLError as error:
            # Such as a request for a transition that the node's state does not have.
            node.get_logger().warning(str(error))
        except Exception:
            node.get_logger().error(f"an internal error, please report it:\n{traceback.format_exc()}")
    if rclpy.ok():
        node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def _watch_signals(leaving: threading.Event, wakers: list[Callable[[], None]]) -> None:
    """On SIGINT or SIGTERM set `leaving`, call the `wakers`, and see to it that the process ends.

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
        for wake in wakers:
            wake()
        sleep(_DEADLINE)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    threading.Thread(target=wait, name="handos signals", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
