"""Work done ahead of its turn in threads, so that reading never starves the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, depth: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """`function` of each item, in the order of `items`, computed by threads before it is asked for.

    Args:
        function: called in a thread; what it raises comes out of its future.
        items: may be endless; drawn in the caller's thread.
        workers: threads.
        depth: so many results at most wait or are in the making; it bounds the memory.

    Yields:
        Each item with the finished future of its result.
    """
    items = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        waiting = deque((item, pool.submit(function, item)) for item in islice(items, depth))
        try:
            while waiting:
                item, future = waiting.popleft()
                future.exception()
                yield item, future
                waiting.extend((item, pool.submit(function, item)) for item in islice(items, 1))
        finally:
            for _, future in waiting:
                future.cancel()
