"""Results as files: numbers that every reader takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from handos_ros.files.results import dump_json, hands_to_dict, write_json
from handos_ros.hands import Camera, Hands
from standin import draw_disc, standin_pipeline


def test_values_are_those_of_the_hands_rounded() -> None:
    picture = draw_disc(np.zeros((120, 160, 3), np.uint8), (80, 60), 50)
    hands = standin_pipeline()(picture)
    (hand,) = json.loads(dump_json(hands_to_dict("a.png", hands, "m")))["hands"]
    assert np.allclose(hand["joints_2d"], hands.joints_2d[0], atol=0.0051)
    assert np.allclose(hand["joints_3d"], hands.joints_3d[0], atol=0.0000051)
    assert np.allclose(hand["joint_scores"], hands.joint_scores[0], atol=0.000051)
    assert np.allclose(hand["box"], hands.boxes[0], atol=0.0051)


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    picture = draw_disc(np.zeros((120, 160, 3), np.uint8), (80, 60), 50)
    hands = standin_pipeline()(picture)
    hands.joints_2d[0, 3, 1] = np.nan
    write_json(tmp_path / "a.json", hands_to_dict("a.png", hands, "m"))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found["hands"][0]["joints_2d"][3][1] is None and found["hands"][0]["joints_2d"][3][0] is not None


def test_no_hands() -> None:
    assert hands_to_dict("a.png", Hands.empty(Camera.assumed(4, 3)), "m")["hands"] == []
