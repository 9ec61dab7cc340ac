"""How hands stand before the camera: kinds of camera in the shares that are asked for."""

import pytest
import torch

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, RIGHT
from handos_ros.learning.synthesis.camera import VIEWPOINTS, draw_cameras, place_hands, viewpoint_shares
from handos_ros.learning.synthesis.draws import Draws


def _placed(shares, pictures=60):
    draws = Draws(3, torch.arange(pictures))
    side = torch.tensor([[LEFT, RIGHT]]).expand(pictures, 2)
    cameras = draw_cameras(draws.for_part("camera"), 240, 320)
    return place_hands(draws.for_part("place"), cameras, side, 240, 320, viewpoint_shares(shares))


def test_hands_are_held_out_to_the_camera_as_often_as_asked_for():
    only = {**dict.fromkeys(VIEWPOINTS, 0.0), "held out": 1.0}
    turns, _ = _placed(only)
    forward = -turns[..., 2, 1]  # how much the straight fingers point at the camera
    assert (forward > 0.5).float().mean() > 0.9
    usual, _ = _placed({})
    assert (-usual[..., 2, 1] > 0.5).float().mean() < 0.4
    # The owner faces the camera: palms look at the other hand, down or up, not at where the arm came from.
    palm = turns[..., 0, 2]
    assert palm[:, 1].median() > 0.5 and palm[:, 0].median() < -0.5


def test_what_comes_unasked_is_as_before_a_viewpoint_was_named():
    for one, other in zip(_placed({}), _placed({"held out": 0.0}), strict=True):
        assert (one == other).all()
    assert VIEWPOINTS["held out"].weight == 0


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"from above": 1.0}, "no kind from above; known are owner's eyes, over a table"),
        ({"anyhow": -0.1}, "negative"),
        (dict.fromkeys(VIEWPOINTS, 0.0), "all 0"),
    ],
)
def test_viewpoints_that_cannot_be_drawn_are_named(shares, said):
    with pytest.raises(DataError, match=said):
        viewpoint_shares(shares)
