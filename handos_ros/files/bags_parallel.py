"""Many bags at once: in processes on this machine, or as tasks of a Ray cluster.

One bag is the unit of work: a camera's pictures must come in turn, for the tracker. Every process has
networks of its own, and the CPU threads are shared out among them. Within a process a network on one thread
for each of several pictures gets more done than one on all threads, whose parts wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from handos_ros.errors import DataError, HandosError
from handos_ros.extras import how_to_install
from handos_ros.files.bags import BagOptions, BagReport, process_bag
from handos_ros.inference.pipeline import Pipeline

# Networks of a process, at most: each takes memory.
_MOST_NETWORKS = 4
# How often a waiting parent looks for Ctrl-C and counts the pictures, s.
_TICK = 0.2


class BagTask(NamedTuple):
    """A bag and where its result goes."""

    source: Path
    output: Path


class Outcome(NamedTuple):
    """What became of a task: a report, or the error that ended it, or neither if it was not begun."""

    number: int
    report: BagReport | None
    error: str = ""


class Loader(Protocol):
    """Loads the network, in whichever process it is called."""

    def __call__(self, *, threads: int | None) -> Pipeline:
        """The network on so many CPU threads, None for all."""
        ...


def run_here(
    tasks: Sequence[BagTask],
    load: Loader,
    options: BagOptions,
    *,
    threads: int | None,
    stop: Callable[[], bool],
    on_pictures: Callable[[int], None],
) -> Iterator[Outcome]:
    """One bag after the other in this process.

    Args:
        tasks: the bags.
        load: the network.
        options: for each bag.
        threads: CPU threads for the networks, None for all.
        stop: asked after every picture.
        on_pictures: told how many more pictures are done.
    """
    pipelines = _networks(load, threads)
    try:
        for number, task in enumerate(tasks):
            if stop():
                return
            yield _outcome(number, task, pipelines, options, stop, on_pictures)
    finally:
        for pipeline in pipelines:
            pipeline.close()


def run_processes(
    tasks: Sequence[BagTask],
    load: Loader,
    options: BagOptions,
    *,
    jobs: int,
    threads: int | None,
    stop: Callable[[], bool],
    on_pictures: Callable[[int], None],
) -> Iterator[Outcome]:
    """`jobs` bags at a time in processes; arguments as in `run_here`, `threads` for each process."""
    jobs = min(jobs, len(tasks))
    threads = threads or max(1, cpu_count() // jobs)
    context = multiprocessing.get_context("spawn")
    with _deaf_to_hangup():
        stopping, done = context.Event(), context.Value("q", 0)
    counted = 0
    pool = ProcessPoolExecutor(
        jobs, context, initializer=_start_process, initargs=(load, threads, stopping, done)
    )
    try:
        with _deaf_to_hangup():
            waiting: dict[Future[Outcome], int] = {
                pool.submit(_run_in_process, number, task, options): number
                for number, task in enumerate(tasks)
            }
        while waiting:
            finished, _ = wait(waiting, timeout=_TICK, return_when=FIRST_COMPLETED)
            count = int(done.value)
            on_pictures(count - counted)
            counted = count
            if stop() and not stopping.is_set():
                stopping.set()
                for future in [future for future in waiting if future.cancel()]:
                    del waiting[future]
                    finished.discard(future)
            for future in finished:
                number = waiting.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    outcome = Outcome(
                        number,
                        None,
                        f"{tasks[number].source}: a process was ended from outside, perhaps for want of "
                        "memory; use fewer --jobs and go on with --resume",
                    )
                if outcome.report is not None or outcome.error:
                    yield outcome
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)


def run_ray(
    tasks: Sequence[BagTask],
    load: Loader,
    options: BagOptions,
    *,
    address: str,
    threads: int | None,
    gpu: bool,
    stop: Callable[[], bool],
    on_pictures: Callable[[int], None],
) -> Iterator[Outcome]:
    """As many bags at a time as the Ray cluster at `address` has room for.

    Bags and outputs must lie where every machine of the cluster finds them under the same path. A task
    takes `threads` CPUs (2 where None), and a GPU if `gpu`. `address` is as of `ray.init`: `auto`,
    `host:port`, or `local` for a cluster on this machine alone.
    """
    try:
        import ray  # type: ignore[import-not-found]
    except ImportError:
        raise DataError(f"--ray needs ray: {how_to_install('ray')}") from None
    threads = threads or 2
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise DataError(f"no Ray cluster at {address}: {error}") from None
    try:
        remote = ray.remote(num_cpus=threads, num_gpus=int(gpu), max_retries=0)(_run_on_ray)
        absolute = [BagTask(task.source.absolute(), task.output.absolute()) for task in tasks]
        waiting = {
            remote.remote(number, task, load, options, threads): number
            for number, task in enumerate(absolute)
        }
        stopped = False
        while waiting:
            finished, _ = ray.wait(list(waiting), timeout=_TICK)
            if stop() and not stopped:
                stopped = True
                for reference in waiting:
                    ray.cancel(reference)
            for reference in finished:
                number = waiting.pop(reference)
                try:
                    outcome: Outcome = ray.get(reference)
                except ray.exceptions.TaskCancelledError:
                    continue
                except ray.exceptions.RayError as error:
                    first = str(error).strip().splitlines()[-1]
                    outcome = Outcome(number, None, f"{tasks[number].source}: failed on the cluster: {first}")
                if outcome.report is not None:
                    on_pictures(outcome.report.pictures + outcome.report.bad_pictures)
                yield outcome
    finally:
        ray.shutdown()


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcome(
    number: int,
    task: BagTask,
    pipelines: Sequence[Pipeline],
    options: BagOptions,
    stop: Callable[[], bool],
    on_pictures: Callable[[int], None],
) -> Outcome:
    """One bag; an error that a user can mend ends this bag, not the others."""
    seen: list[int] = []

    def count(done: int, total: int | None) -> None:
        on_pictures(done - (seen[-1] if seen else 0))
        seen[:] = [done]

    try:
        return Outcome(
            number, process_bag(task.source, task.output, pipelines, options, stop=stop, on_pictures=count)
        )
    except HandosError as error:
        return Outcome(number, None, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Outcome(number, None, f"{task.source}: {where}{error.strerror or error}")


@contextmanager
def _deaf_to_hangup() -> Iterator[None]:
    """Processes that are started here do not end with the terminal; their parent decides what that means."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process:
    """What a worker process keeps between bags."""

    load: Loader
    threads: int
    stopping: Any
    done: Any
    pipelines: Sequence[Pipeline] = ()


def _start_process(load: Loader, threads: int, stopping: Any, done: Any) -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Process.load, _Process.threads = staticmethod(load), threads
    _Process.stopping, _Process.done = stopping, done


def _run_in_process(number: int, task: BagTask, options: BagOptions) -> Outcome:
    def count(more: int) -> None:
        with _Process.done.get_lock():
            _Process.done.value += more

    if _Process.stopping.is_set():
        return Outcome(number, None)
    try:
        if not _Process.pipelines:
            _limit_opencv(_Process.threads)
            _Process.pipelines = _networks(_Process.load, _Process.threads)
    except HandosError as error:
        return Outcome(number, None, str(error))
    return _outcome(number, task, _Process.pipelines, options, _Process.stopping.is_set, count)


def _run_on_ray(number: int, task: BagTask, load: Loader, options: BagOptions, threads: int) -> Outcome:
    """A task in a worker of Ray, which says `cancel` as Ctrl-C does."""
    stopped: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: stopped.append(number))
    try:
        _limit_opencv(threads)
        pipelines = _networks(load, threads)
        try:
            return _outcome(number, task, pipelines, options, lambda: bool(stopped), lambda more: None)
        finally:
            for pipeline in pipelines:
                pipeline.close()
    except HandosError as error:
        return Outcome(number, None, str(error))
    finally:
        signal.signal(signal.SIGINT, before)


def _networks(load: Loader, threads: int | None) -> list[Pipeline]:
    """One network for each thread, or few with several; one where a GPU or torch runs it."""
    available = threads or cpu_count()
    count = min(_MOST_NETWORKS, available)
    first = load(threads=available // count)
    if count == 1 or first.backend.device != "cpu":
        return [first]
    if first.backend.name != "onnxruntime":
        # All of torch's networks share its threads.
        first.close()
        return [load(threads=available)]
    return [first, *(load(threads=available // count) for _ in range(count - 1))]


def _limit_opencv(threads: int) -> None:
    import cv2

    cv2.setNumThreads(threads)
