"""Hands as vision_msgs, for what works with any detector's boxes."""

from __future__ import annotations

from typing import Any

from std_msgs.msg import Header

from handos_ros.hands import LEFT, Hands


def detection_type() -> Any:
    """vision_msgs/Detection2DArray, a package that not every installation has."""
    from vision_msgs.msg import Detection2DArray

    return Detection2DArray


def detection_array(hands: Hands, header: Header) -> Any:
    """The boxes of one picture: class `left_hand` or `right_hand`, the track as id, empty where untracked.

    A box of vision_msgs has its centre on the scale of corners: half a pixel more than a pixel centre's.
    """
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    message = Detection2DArray(header=header)
    columns = (hands.boxes, hands.scores, hands.handedness, hands.ids)
    for box, score, side, number in zip(*(column.tolist() for column in columns), strict=True):
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = "left_hand" if side == LEFT else "right_hand"
        hypothesis.hypothesis.score = score
        detection = Detection2D(header=header, results=[hypothesis], id=str(number) if number >= 0 else "")
        x_min, y_min, x_max, y_max = box
        detection.bbox.center.position.x = (x_min + x_max) / 2 + 0.5
        detection.bbox.center.position.y = (y_min + y_max) / 2 + 0.5
        detection.bbox.size_x, detection.bbox.size_y = x_max - x_min, y_max - y_min
        message.detections.append(detection)
    return message
