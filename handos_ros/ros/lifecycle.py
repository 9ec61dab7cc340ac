"""The lifecycle node `handos`: what each transition, service and parameter does."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool

from handos_ros.errors import HandosError
from handos_ros.extras import missing_package
from handos_ros.inference.backend import Backend
from handos_ros.inference.pipeline import Pipeline
from handos_ros.msg import HandTopology
from handos_ros.ros import conversion, parameters
from handos_ros.ros.diagnostics import status
from handos_ros.ros.inputs import Arrival
from handos_ros.ros.stream import CameraStream
from handos_ros.ros.worker import Worker

_LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
_PATIENCE, _HASTE = 30.0, 0.3
"""Seconds to wait for the network to finish its picture when it is unloaded, and when the process ends."""

_Callback = Callable[["HandosNode", LifecycleState], None]


def _looks(backend: Backend, again: bool) -> str:
    """At what the network looks, for people."""
    once = f"pictures whose longer side is {backend.long_side} px"
    sizes = backend.second_look
    if sizes is None or not again:
        return once
    return f"{once}, and once more at hands of less than {sizes.below} or more than {sizes.above} px there"


def _transition(callback: _Callback) -> Callable[[HandosNode, LifecycleState], TransitionCallbackReturn]:
    """A transition that fails with a log line instead of an exception, which rclpy would swallow."""

    def run(self: HandosNode, state: LifecycleState) -> TransitionCallbackReturn:
        action = callback.__name__.removeprefix("on_")
        self.failure = ""
        try:
            callback(self, state)
        except HandosError as error:
            self.failure = str(error)
        except Exception as error:
            missing = missing_package(error)
            self.failure = f"this needs {missing}" if missing else repr(error)
            if missing is None:
                self.get_logger().error(f"an internal error, please report it:\n{traceback.format_exc()}")
        if self.failure:
            self.get_logger().error(f"cannot {action}: {self.failure}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    run.__doc__ = callback.__doc__
    return run


class HandosNode(LifecycleNode):
    """Finds hands in the pictures of one or more cameras.

    Configuring loads the network, in the thread that will run it; activating opens the topics;
    deactivating closes them; cleaning up gives the network's memory back.

    Attributes:
        settings: the parameters as they are now.
        failure: why the latest transition failed, empty if it did not.

    Args:
        pipeline_factory: called as `Pipeline.load`.
        leaving: set from outside when the process is to end; whoever waits for the network gives up.

    Raises:
        HandosError: if a parameter has a value that cannot be.
    """

    def __init__(self, pipeline_factory: Callable[..., Pipeline], leaving: threading.Event) -> None:
        super().__init__("handos")
        self.leaving = leaving
        self.failure = ""
        self.settings = parameters.declare(self)
        self._factory = pipeline_factory
        self._worker: Worker[Pipeline, tuple[CameraStream, int, Arrival]] | None = None
        self._streams: list[CameraStream] = []
        self._topology: Any = None
        self._active, self._enabled = False, True
        self.add_on_set_parameters_callback(self._set_parameters)
        self._enable_service = self.create_service(SetBool, "~/enable", self._enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: a paused simulation must not silence diagnostics.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0, self._look_after, clock=self._steady)

    def start(self) -> None:
        """Configure and activate, as `autostart` asks for."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """Leave the active state in order, markers deleted, and let go of everything."""
        if self._active:
            self.trigger_deactivate()
        self._release()

    @_transition
    def on_configure(self, state: LifecycleState) -> None:
        """Load the network and create the publishers."""
        try:
            worker = self._load()
            self._topology = self.create_lifecycle_publisher(HandTopology, "~/topology", _LATCHED)
            for camera in self.settings.cameras:
                self._streams.append(
                    CameraStream(self, camera, worker.mailbox, self._pipeline, lambda: self.settings)
                )
        except BaseException:
            self._release()
            raise
        backend = self._pipeline.backend
        self.get_logger().info(
            f"{self._pipeline.model_id} runs on {backend.device} with {backend.name}, on "
            + _looks(backend, self.settings.second_look)
        )

    @_transition
    def on_activate(self, state: LifecycleState) -> None:
        """Open the topics."""
        super().on_activate(state)
        self._active = True
        self._topology.publish(conversion.topology(self._pipeline.model_id, self._pipeline.hand_model))
        self._open_or_close()

    @_transition
    def on_deactivate(self, state: LifecycleState) -> None:
        """Close the topics; markers are deleted."""
        self._active = False
        self._open_or_close()
        super().on_deactivate(state)

    @_transition
    def on_cleanup(self, state: LifecycleState) -> None:
        """Unload the network."""
        self._release()

    @_transition
    def on_shutdown(self, state: LifecycleState) -> None:
        """Unload the network, from any state."""
        self._release()

    @_transition
    def on_error(self, state: LifecycleState) -> None:
        """Unload the network, so that configuring starts from nothing."""
        self._release()

    @property
    def _pipeline(self) -> Pipeline:
        """The network; only while the node is configured."""
        assert self._worker is not None and self._worker.resource is not None
        return self._worker.resource

    def _load(self) -> Worker[Pipeline, tuple[CameraStream, int, Arrival]]:
        """Make the worker, which loads the network; the wait ends early when the node is to leave."""
        s = self.settings

        def make() -> Pipeline:
            return self._factory(
                s.model or None, weights=s.weights or None, device=s.device, backend=s.backend,
                hand_model=s.hand_model or None, min_score=s.min_score, max_hands=s.max_hands,
                long_side=s.long_side or None,
            )  # fmt: skip

        def serve(pipeline: Pipeline, item: tuple[CameraStream, int, Arrival]) -> None:
            stream, session, arrival = item
            stream.process(pipeline, session, arrival)

        worker = self._worker = Worker(make, serve, Pipeline.close)
        while not worker.wait_made(0.1):
            if self.leaving.is_set() or not self.context.ok():
                raise HandosError("told to leave while the network was loading")
        if worker.error is not None:
            raise worker.error
        return worker

    def _release(self) -> None:
        """Undo what was done since the node was made."""
        self._active = False
        for stream in self._streams:
            stream.destroy()
        self._streams.clear()
        if self._topology is not None:
            self.destroy_lifecycle_publisher(self._topology)
            self._topology = None
        if self._worker is not None:
            if not self._worker.stop(_HASTE if self.leaving.is_set() else _PATIENCE):
                self.get_logger().warning("the network is still busy with a picture; leaving it behind")
            self._worker = None

    def _open_or_close(self) -> None:
        for stream in self._streams:
            if self._active and self._enabled:
                stream.open()
            else:
                stream.close()

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Switch the looking on and off without a transition; it costs nothing while it is off."""
        if request.data != self._enabled:
            self._enabled = bool(request.data)
            self._open_or_close()
        response.success = True
        response.message = ("enabled" if self._enabled else "disabled") + (
            "" if self._active else ", not active"
        )
        return response

    def _set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self.settings = parameters.changed(self.settings, changes, configured=self._worker is not None)
        except HandosError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _look_after(self) -> None:
        """Once a second: diagnostics, and whatever the streams have to say."""
        reports = [report for stream in self._streams if (report := stream.look_after()) is not None]
        message = DiagnosticArray(status=[self._own_status(), *reports])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _own_status(self) -> DiagnosticStatus:
        name = self.get_fully_qualified_name().lstrip("/")
        state = self._state_machine.current_state[1]
        pipeline = self._worker.resource if self._worker is not None else None
        if pipeline is None:
            level = DiagnosticStatus.ERROR if self.failure else DiagnosticStatus.WARN
            return status(level, name, self.failure or state, {"state": state})
        values = {
            "state": state,
            "enabled": str(self._enabled).lower(),
            "model": pipeline.model_id,
            "hand model": pipeline.hand_model.name,
            "backend": pipeline.backend.name,
            "device": pipeline.backend.device,
        }
        message = state if self._enabled else f"{state}, disabled by ~/enable"
        return status(DiagnosticStatus.OK, name, message, values, hardware_id=pipeline.backend.device)
