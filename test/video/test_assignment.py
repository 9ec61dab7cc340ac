"""Tests of the assignment against every permutation and against scipy."""

import itertools

import numpy as np
import pytest

from handos_ros.video.assignment import assign


def total(cost, rows, columns, limit):
    """Every row and column left alone costs half the limit, so that a pair at the limit is worth nothing."""
    return cost[rows, columns].sum() + limit * (min(cost.shape) - len(rows))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 4), (2, 5), (5, 2), (1, 6), (6, 1), (4, 5)])
def test_the_total_is_the_smallest_of_all(shape):
    rng = np.random.default_rng(0)
    for trial in range(60):
        cost = rng.uniform(0, 2, shape)
        if trial % 2:
            cost = np.round(cost * 2) / 2  # ties
        if trial % 3 == 0:
            cost[rng.uniform(size=shape) < 0.3] = np.inf
        limit = 1.5
        rows, columns = assign(cost, limit)
        assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
        assert (np.diff(rows) > 0).all() and (cost[rows, columns] < limit).all()
        capped = np.minimum(cost, limit)
        wide = capped if shape[0] <= shape[1] else capped.T
        orders = itertools.permutations(range(wide.shape[1]), wide.shape[0])
        best = min(wide[np.arange(len(wide)), list(order)].sum() for order in orders)
        assert total(cost, rows, columns, limit) == pytest.approx(best)


def test_many_hands_against_scipy():
    optimize = pytest.importorskip("scipy.optimize", reason="needs scipy")
    rng = np.random.default_rng(1)
    for shape in ((30, 30), (20, 40), (40, 20)):
        # Distances in the plane: many rows want the same column.
        a, b = rng.normal(size=(shape[0], 1, 2)), rng.normal(size=(1, shape[1], 2))
        cost = np.linalg.norm(a - b, axis=-1)
        rows, columns = assign(cost, 100.0)
        expected = cost[optimize.linear_sum_assignment(cost)].sum()
        assert cost[rows, columns].sum() == pytest.approx(expected) and len(rows) == min(shape)


def test_greed_would_be_wrong():
    """The smallest cost of all belongs to no good answer."""
    rows, columns = assign(np.array([[0.1, 0.2], [0.15, 5.0]]), 10.0)
    assert columns.tolist() == [1, 0] and rows.tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape):
    rows, columns = assign(np.zeros(shape), 1.0)
    assert len(rows) == len(columns) == 0


def test_what_is_forbidden_stays_alone():
    rows, columns = assign(np.array([[np.inf, np.nan], [0.3, np.inf]]), 1.0)
    assert rows.tolist() == [1] and columns.tolist() == [0]
