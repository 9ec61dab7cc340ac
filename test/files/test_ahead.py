"""Results in order, made ahead of their turn, in bounded number."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from handos_ros.files.ahead import map_ahead


def test_order_is_kept_whatever_finishes_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return -number

    results = [(item, future.result()) for item, future in map_ahead(work, range(20), workers=4, depth=6)]
    assert results == [(i, -i) for i in range(20)]


def test_the_next_ones_are_made_while_the_first_is_worked_on() -> None:
    made = [threading.Event() for _ in range(5)]
    results = map_ahead(lambda i: made[i].set(), range(5), workers=2, depth=4)
    next(results)
    assert all(event.wait(5) for event in made[1:4])  # nobody has asked for them yet
    assert not made[4].wait(0.05)  # no more than `depth`
    results.close()


def test_errors_come_with_their_item() -> None:
    def work(number: int) -> float:
        return 1 / number

    results = {item: future.exception() for item, future in map_ahead(work, (1, 0, 2), workers=2, depth=2)}
    assert results[1] is None and results[2] is None and isinstance(results[0], ZeroDivisionError)


def test_endless_items_and_an_early_end() -> None:
    count = 0

    def work(number: int) -> int:
        nonlocal count
        count += 1
        return number

    results = map_ahead(work, itertools.count(), workers=1, depth=3)
    assert [next(results)[1].result() for _ in range(4)] == [0, 1, 2, 3]
    results.close()
    assert count <= 7
    with pytest.raises(StopIteration):
        next(results)
