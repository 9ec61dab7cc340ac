"""A bounded queue between two threads, which either of them can end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """One thread puts, another iterates; at most `size` things wait in between.

    The producer ends with `close`, with an error where it failed; the consumer then gets what is left
    and the error. The consumer ends with `cancel`; the producer sees it by `put` returning False.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = self._cancelled = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room; False, and nothing put, where nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._size)
            if self._cancelled:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes; `error` is raised in the consumer after what was put before."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Nothing more is wanted; what waits is thrown away."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed or self._cancelled)
                if not self._items:
                    if self._error is not None and not self._cancelled:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
