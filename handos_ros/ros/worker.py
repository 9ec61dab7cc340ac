"""The one thread that owns the network, and the mailbox that keeps only the newest picture for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Keeps the newest item of each sender and hands them out in turn."""

    def __init__(self) -> None:
        self._items: dict[Hashable, Item] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, sender: Hashable, item: Item) -> bool:
        """Leave an item; whether one of the same sender was still waiting and is now lost."""
        with self._changed:
            replaced = sender in self._items
            # A sender that waits keeps its place in the line; a dict remembers it.
            self._items[sender] = item
            self._changed.notify()
        return replaced

    def take(self) -> Item | None:
        """Wait for the item whose sender has waited longest; None once the mailbox is closed."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            return self._items.pop(next(iter(self._items)))

    def discard(self, sender: Hashable) -> None:
        """Forget what `sender` left."""
        with self._changed:
            self._items.pop(sender, None)

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class Worker(Generic[T, Item]):
    """A thread that makes a resource, serves items with it and gives it back, all by itself.

    Networks keep thread pools and GPU contexts for the thread that uses them, so one thread does it all.

    Args:
        make: makes the resource.
        serve: called with the resource and each item; it must not raise.
        give_back: called with the resource at the end.
    """

    def __init__(
        self, make: Callable[[], T], serve: Callable[[T, Item], None], give_back: Callable[[T], None]
    ) -> None:
        self.mailbox: Mailbox[Item] = Mailbox()
        self.resource: T | None = None
        self.error: BaseException | None = None
        """What `make` raised."""
        self._make, self._serve, self._give_back = make, serve, give_back
        self._made = threading.Event()
        # A daemon, because a network in the middle of a picture cannot be interrupted.
        self._thread = threading.Thread(target=self._run, name="handos worker", daemon=True)
        self._thread.start()

    def wait_made(self, timeout: float) -> bool:
        """Wait until the resource is there, or could not be made."""
        return self._made.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Serve nothing more; whether the thread ended in time, the resource given back."""
        self.mailbox.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            resource = self._make()
        except BaseException as error:
            self.error = error
            self._made.set()
            return
        self.resource = resource
        self._made.set()
        try:
            while (item := self.mailbox.take()) is not None:
                self._serve(resource, item)
        finally:
            self.resource = None
            self._give_back(resource)
