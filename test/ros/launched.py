"""Run by launch_testing: the launch file starts the node as it was asked to, and ends it cleanly."""

import time
import unittest
from pathlib import Path

import launch_testing.actions
import launch_testing.asserts
import rclpy
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rcl_interfaces.srv import GetParameters

from launch import LaunchDescription

FILE = Path(__file__).resolve().parents[2] / "launch" / "handos.launch.py"
ARGUMENTS = {
    "namespace": "robot",
    "image": "/camera/color/image_raw",
    "transport": "compressed",
    "device": "cpu",
    "cameras": "left, right",
    "rectified": "true",
    "weights": "/nowhere/weights",  # any will do: a node without weights stays and says so
}
QUIET = {**ARGUMENTS, "namespace": "/quiet/arm", "log_level": "fatal"}


def generate_test_description():
    source = PythonLaunchDescriptionSource(str(FILE))
    includes = [
        IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
        for arguments in ({**ARGUMENTS, "log_level": "info"}, QUIET)
    ]
    return LaunchDescription([*includes, launch_testing.actions.ReadyToTest()])


class TestStarted(unittest.TestCase):
    def setUp(self):
        rclpy.init()
        self.node = rclpy.create_node("launch_test")

    def tearDown(self):
        self.node.destroy_node()
        rclpy.shutdown()

    def test_parameters_are_those_asked_for(self):
        client = self.node.create_client(GetParameters, "/robot/handos/get_parameters")
        self.assertTrue(client.wait_for_service(15), self.node.get_node_names_and_namespaces())
        names = ["image_transport", "device", "cameras", "weights", "min_score", "rectified"]
        future = client.call_async(GetParameters.Request(names=names))
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=10)
        transport, device, cameras, weights, min_score, rectified = future.result().values
        self.assertEqual(transport.string_value, "compressed")
        self.assertEqual(device.string_value, "cpu")
        self.assertEqual(list(cameras.string_array_value), ["left", "right"])
        self.assertEqual(weights.string_value, "/nowhere/weights")
        self.assertEqual(min_score.double_value, 0.5)  # from config/handos.yaml
        self.assertTrue(rectified.bool_value)

    def test_missing_weights_are_named(self, proc_output):
        proc_output.assertWaitFor("/nowhere/weights", timeout=15)
        client = self.node.create_client(GetParameters, "/quiet/arm/handos/get_parameters")
        self.assertTrue(client.wait_for_service(15), self.node.get_node_names_and_namespaces())
        time.sleep(1.0)


@launch_testing.post_shutdown_test()
class TestEnded(unittest.TestCase):
    def test_exit_status_is_zero(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)

    def test_a_log_level_counts_in_a_namespace(self, proc_output):
        said = "".join(line.text.decode() for line in proc_output)
        self.assertIn("[robot.handos]", said)
        self.assertNotIn("[quiet.arm.handos]", said)
