"""Going through inputs chunk by chunk: threads, a time limit, Ctrl-C, progress.

Chunks are handed out in order and one that was begun is finished, so that what was done is always
all inputs up to some number.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from ..backends import use_threads

__all__ = ["CHUNK", "Progress", "Sweep", "cpu_count", "sweep"]

#: Inputs of a chunk: so many that threads seldom wait for the interpreter's lock.
CHUNK = 1 << 20
#: A chunk is made smaller until it takes less than this, so that stopping takes no longer.
CHUNK_S = 0.25
#: How often progress is told, and the clock looked at.
TICK_S = 0.1

#: Told how many inputs are done, of how many.
Progress: TypeAlias = Callable[[int, int], None]
#: Does the inputs from a number on, so many, and returns what was found.
Work: TypeAlias = Callable[[int, int], Any]


class Sweep(NamedTuple):
    """How far a sweep came.

    Attributes
    ----------
    done : int
        Inputs that were gone through: all numbers below this.
    stopped : str
        "" at the end; "budget" or "interrupted" before.
    seconds : float
        How long it took.
    """

    done: int
    stopped: str
    seconds: float


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sweep(
    make_work: Callable[[], Work],
    merge: Callable[[int, Any], None],
    size: int,
    *,
    first: int = 0,
    chunk: int = CHUNK,
    threads: int | None = None,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Go through the inputs from number `first` to `size`.

    Parameters
    ----------
    make_work : callable
        Called once a thread; returns what does a chunk. A thread that comes when there is nothing
        left is not waited for, nor told of.
    merge : callable
        Is given how many inputs are done with this chunk, and what its work returned; by one thread
        at a time, in order.
    size, first : int
        How many inputs there are, and how many of them were done before.
    chunk : int
        Inputs of a chunk; fewer while that takes long.
    threads : int, optional
        As many as there are CPUs, unless there are few inputs.
    budget_s : float, optional
        No chunk is begun after so many seconds.
    progress : callable, optional
        Called now and then, by this thread.

    Returns
    -------
    Sweep
        Ctrl-C ends a sweep as its budget does; another one while chunks are being finished is a
        KeyboardInterrupt.
    """
    if threads is None:
        threads = min(cpu_count(), max((size - first) // (4 * chunk), 1))
    queue = _Queue(first, size, chunk, time.monotonic(), budget_s)
    try:
        _start_threads(make_work, merge, queue, threads)
        _wait(queue, progress)
    except KeyboardInterrupt:
        queue.stop("interrupted")
        _wait(queue, progress)
    except BaseException:  # a thread could not be started, or progress failed
        queue.stop("error")
        raise
    if queue.errors:
        raise queue.errors[0]
    return Sweep(queue.done, queue.stopped, time.monotonic() - queue.began)


class _Queue:
    """Hands out chunks in order until all are handed out, or it is told to stop.

    It has `ended` when no chunk is left to begin and none that was begun is unfinished: threads are
    not counted, as Ctrl-C may come while they are being started.
    """

    def __init__(
        self, first: int, size: int, chunk: int, began: float, budget_s: float | None
    ) -> None:
        self.next, self.size, self.chunk, self.began = first, size, chunk, began
        self.most = chunk
        self.deadline = None if budget_s is None else began + budget_s
        self.stopped, self.done, self.lock = "", first, threading.RLock()
        self.errors: list[BaseException] = []
        self.ended = threading.Event()
        self._begun, self._merging = 0, threading.Lock()
        self._waiting: dict[int, tuple[int, Any]] = {}

    def take(self) -> tuple[int, int] | None:
        with self.lock:
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.stop("budget")
            count = min(self.chunk, self.size - self.next)
            if self.stopped or not count:
                self._end_if_nothing_is_left()
                return None
            first, self.next = self.next, self.next + count
            self._begun += 1
            return first, count

    def do(self, taken: tuple[int, int], work: Work, merge: Callable[[int, Any], None]) -> None:
        """Do a chunk, and merge its result and those that waited for it."""
        try:
            began = time.monotonic()
            found = work(*taken)
            with self._merging:
                self._merge(*taken, found, merge, time.monotonic() - began)
        except BaseException as exc:
            self.fail(exc)
        finally:
            with self.lock:
                self._begun -= 1
                self._end_if_nothing_is_left()

    def _merge(
        self,
        first: int,
        count: int,
        found: Any,
        merge: Callable[[int, Any], None],
        seconds: float,
    ) -> None:
        self._waiting[first] = count, found
        while self.done in self._waiting:
            waited, result = self._waiting.pop(self.done)
            self.done += waited
            merge(self.done, result)
        if seconds > CHUNK_S:
            self.chunk = max(min(self.chunk, int(count * CHUNK_S / seconds)), 1)
        elif seconds < CHUNK_S / 4:  # or one pause of the machine would make all that follow small
            self.chunk = max(self.chunk, min(2 * count, self.most))

    def stop(self, why: str) -> None:
        with self.lock:
            if self.next < self.size:
                self.stopped = self.stopped or why
            self._end_if_nothing_is_left()

    def fail(self, error: BaseException) -> None:
        """Stop, for an error that the thread that waits is to raise."""
        self.errors.append(error)
        self.stop("error")

    def _end_if_nothing_is_left(self) -> None:
        if not self._begun and (self.stopped or self.next == self.size):
            self.ended.set()


def _start_threads(
    make_work: Callable[[], Work],
    merge: Callable[[int, Any], None],
    queue: _Queue,
    threads: int,
) -> None:
    def run() -> None:
        try:
            work = make_work()
            with use_threads(1):  # these are the threads
                while taken := queue.take():
                    queue.do(taken, work, merge)
        except BaseException as exc:
            queue.fail(exc)

    # Even one works in a thread of its own, so that Ctrl-C never falls into the middle of a chunk.
    # A thread sees the backend that was chosen where it was started.
    for _ in range(threads):
        threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()


def _wait(queue: _Queue, progress: Progress | None) -> None:
    # Not Thread.join: interrupted by Ctrl-C, it takes a thread that runs for one that has ended.
    while not queue.ended.wait(TICK_S):
        if progress:
            progress(queue.done, queue.size)
