"""The mailbox and the worker, without ROS."""

import threading
import time

import pytest

from handos_ros.ros.worker import Mailbox, Worker


def test_only_the_newest_of_each_sender_is_kept_and_they_take_turns():
    mailbox = Mailbox()
    assert not mailbox.put("a", 1)
    assert not mailbox.put("b", 2)
    assert mailbox.put("a", 3)  # replaces 1 and keeps its place
    assert mailbox.take() == 3
    assert not mailbox.put("a", 4)
    assert [mailbox.take(), mailbox.take()] == [2, 4]


def test_a_discarded_item_is_not_served():
    mailbox = Mailbox()
    mailbox.put("a", 1)
    mailbox.put("b", 2)
    mailbox.discard("a")
    assert mailbox.take() == 2


def test_closing_wakes_whoever_waits():
    mailbox = Mailbox()
    got = []
    thread = threading.Thread(target=lambda: got.append(mailbox.take()))
    thread.start()
    time.sleep(0.05)
    mailbox.close()
    thread.join(2)
    assert got == [None]


def test_one_thread_makes_serves_and_gives_back():
    threads = set()

    def note(*_):
        threads.add(threading.get_ident())
        return "resource"

    served = threading.Event()
    worker = Worker(note, lambda resource, item: (note(), served.set()), note)
    assert worker.wait_made(2) and worker.resource == "resource" and worker.error is None
    worker.mailbox.put("a", 1)
    assert served.wait(2)
    assert worker.stop(2) and worker.resource is None
    assert len(threads) == 1 and threads != {threading.get_ident()}


def test_what_cannot_be_made_is_told():
    worker = Worker(lambda: 1 / 0, lambda *_: None, lambda _: pytest.fail("nothing was made"))
    assert worker.wait_made(2) and isinstance(worker.error, ZeroDivisionError)
    assert worker.stop(2)


def test_a_busy_worker_is_not_waited_for_forever():
    release = threading.Event()
    worker = Worker(lambda: 1, lambda *_: release.wait(5), lambda _: None)
    worker.wait_made(2)
    worker.mailbox.put("a", 1)
    time.sleep(0.05)
    began = time.monotonic()
    assert not worker.stop(0.1) and time.monotonic() - began < 1
    release.set()
    assert worker.stop(2)
