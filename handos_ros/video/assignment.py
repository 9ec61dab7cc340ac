"""Exact assignment of a few rows to a few columns, in NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(cost: NDArray, limit: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of rows and columns with the smallest total cost, leaving one alone costing `limit`.

    Exact, not greedy: where two hands cross, the nearest pair of all is often a wrong one. Hands are few,
    so a plain implementation of the Hungarian method (Kuhn 1955, by shortest augmenting paths) will do;
    and mostly every row's best column is another, which is optimal as it stands.

    Args:
        cost: (N, M); NaN and infinity forbid a pair.
        limit: pairs that cost as much or more are not made.

    Returns:
        (K,) rows, rising, and (K,) their columns.
    """
    cost = np.where(cost < limit, cost, limit)
    if not cost.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    best = cost.argmin(1)
    if len(np.unique(best)) == len(best):
        rows, columns = np.arange(len(best)), best
    elif cost.shape[0] <= cost.shape[1]:
        rows, columns = np.arange(cost.shape[0]), _hungarian(cost)
    else:
        columns = np.arange(cost.shape[1])
        rows = _hungarian(cost.T)
        order = np.argsort(rows)
        rows, columns = rows[order], columns[order]
    made = cost[rows, columns] < limit
    return rows[made], columns[made]


def _hungarian(cost: NDArray) -> NDArray[np.intp]:
    """(N, M) finite costs, N <= M -> (N,) the column of each row, total cost minimal."""
    n, m = cost.shape
    row_price, column_price = np.zeros(n), np.zeros(m)
    owner = np.full(m, -1, np.intp)
    for row in range(n):
        # Dijkstra over columns, on costs that the prices keep from being negative.
        distance, before = np.full(m, np.inf), np.full(m, -1, np.intp)
        done = np.zeros(m, bool)
        at, column, reached = row, -1, 0.0
        while True:
            through = reached + cost[at] - row_price[at] - column_price
            nearer = ~done & (through < distance)
            distance[nearer], before[nearer] = through[nearer], column
            column = int(np.where(done, np.inf, distance).argmin())
            reached = distance[column]
            if owner[column] < 0:
                break
            done[column] = True
            at = owner[column]
        row_price[row] += reached
        row_price[owner[done]] += reached - distance[done]
        column_price[done] -= reached - distance[done]
        while column >= 0:
            previous = before[column]
            owner[column] = row if previous < 0 else owner[previous]
            column = previous
    columns = np.full(n, -1, np.intp)
    taken = np.flatnonzero(owner >= 0)
    columns[owner[taken]] = taken
    return columns
