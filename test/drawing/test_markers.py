"""Markers: what a viewer shows follows the hands, and nothing in them makes RViz refuse them."""

from __future__ import annotations

import numpy as np
import pytest

from handos_ros.drawing.markers import ADD, DELETE, DELETEALL, NAMESPACES, HandMarkers, Marker
from handos_ros.hands import JOINT_PARENTS, LEFT, RIGHT, Hands
from standin import draw_disc, standin_pipeline


def hands(*ids: int) -> Hands:
    """One hand for each id, in a row, right and left in turn."""
    picture = np.zeros((200, 600, 3), np.uint8)
    for i in range(len(ids)):
        draw_disc(picture, (60 + 110 * i, 100), 80, LEFT if i % 2 else RIGHT)
    found = standin_pipeline()(picture)
    found = found.select(np.argsort(found.boxes[:, 0]))
    found.ids[:] = ids
    return found


def viewer(shown: set[tuple[str, int]], markers: list[Marker]) -> set[tuple[str, int]]:
    """What a viewer shows after `markers`."""
    for marker in markers:
        if marker.action == DELETEALL:
            shown = set()
        elif marker.action == DELETE:
            assert (marker.ns, marker.id) in shown
            shown = shown - {(marker.ns, marker.id)}
        else:
            shown = shown | {(marker.ns, marker.id)}
    return shown


def test_what_vanished_is_deleted() -> None:
    make, shown = HandMarkers(standin_pipeline().hand_model), set()
    for ids in [(4, 7), (7,), (), (9, 7, 3), (-1, -1), (-1,)]:
        shown = viewer(shown, make(hands(*ids)))
        numbers = [number if number >= 0 else i for i, number in enumerate(ids)]
        assert shown == {(ns, number) for number in numbers for ns in NAMESPACES}
    assert viewer(shown, make.clear()) == set()
    assert make(hands()) == []


def test_another_object_goes_on() -> None:
    first, second = (HandMarkers(standin_pipeline().hand_model) for _ in range(2))
    shown = viewer(set(), first(hands(1, 2)))
    second.shown = [list(pair) for pair in first.shown]
    assert viewer(shown, second(hands(2))) == {(ns, 2) for ns in NAMESPACES}


def test_geometry() -> None:
    model = standin_pipeline().hand_model
    found = hands(0, 1)
    for i, side in enumerate((RIGHT, LEFT)):
        assert found.handedness[i] == side
        bones, joints, mesh, label = HandMarkers(model)(found)[4 * i : 4 * i + 4]
        pairs = bones.points.reshape(-1, 2, 3)
        assert np.array_equal(pairs[:, 1], found.joints_3d[i, 1:])
        assert np.array_equal(pairs[:, 0], found.joints_3d[i, list(JOINT_PARENTS[1:])])
        assert np.array_equal(joints.points, found.joints_3d[i])
        assert len(bones.colours) == len(bones.points) and len(joints.colours) == 21
        # Triangles face outward on either side: their signed volume is positive.
        a, b, c = (mesh.points.astype(float) - found.vertices[i].mean(0)).reshape(-1, 3, 3).transpose(1, 0, 2)
        assert np.einsum("fi,fi->", a, np.cross(b, c)) > 0
        assert ("right" if side == RIGHT else "left") in label.text
        assert label.position[1] < found.joints_3d[i, :, 1].min()


def test_colours_are_within_range_and_doubt_fades() -> None:
    found = hands(0)
    found.joint_scores[0] = np.linspace(0, 1, 21)
    for marker in HandMarkers(standin_pipeline().hand_model)(found):
        assert marker.action == ADD and min(marker.colour) >= 0 and max(marker.colour) <= 1
        if len(marker.colours):
            assert marker.colours.min() >= 0 and marker.colours.max() <= 1
        if marker.ns == "joints":
            assert (np.diff(marker.colours[:, 3]) > 0).all()


@pytest.mark.parametrize("mesh", [True, False])
def test_without_a_mesh_no_empty_list(mesh: bool) -> None:
    found = hands(0)
    found.vertices = np.zeros((1, 0, 3), np.float32)
    for hands_ in (found, hands(0)) if not mesh else (found,):
        markers = HandMarkers(standin_pipeline().hand_model, mesh=mesh)(hands_)
        assert [marker.ns for marker in markers] == ["bones", "joints", "label"]


def test_values_that_are_not_finite_are_not_shown() -> None:
    make = HandMarkers(standin_pipeline().hand_model)
    shown = viewer(set(), make(hands(0, 1)))
    broken = hands(0, 1)
    broken.joints_3d[0, 3, 2] = np.nan
    assert viewer(shown, make(broken)) == {(ns, 1) for ns in NAMESPACES}
    broken = hands(0)
    broken.vertices[0, 5] = np.inf
    assert [marker.ns for marker in make(broken) if marker.action == ADD] == ["bones", "joints", "label"]
