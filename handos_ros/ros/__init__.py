"""The ROS 2 node and all that turns hands into messages: the only place that imports rclpy."""
