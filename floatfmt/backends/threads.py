"""How many threads of the C kernel share a large array; they change no bit. See csrc/pool.c."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["thread_count", "threads_for", "told_threads", "use_threads"]

#: Elements from which on another thread pays: to wake it takes 8 to 30 µs. One more for each half.
LEAST = 1 << 18

_chosen: ContextVar[int | None] = ContextVar("floatfmt_threads", default=None)
#: What FLOATFMT_THREADS says.
_wanted = os.environ.get("FLOATFMT_THREADS")


def thread_count() -> int:
    """Return how many threads work on a large array, here and now.

    That is what `use_threads` says, or the environment variable FLOATFMT_THREADS as it was when
    floatfmt was imported, or one for every core this process may run on. Without being told, never
    more than torch has been given.
    """
    told = told_threads()
    if told is not None:
        return told
    torch = sys.modules.get("torch")
    given = getattr(torch, "get_num_threads", None)
    return min(_cores(), given()) if given is not None else _cores()


def told_threads() -> int | None:
    """Return how many threads `use_threads` or FLOATFMT_THREADS asks for, if they do.

    Raises
    ------
    ValueError
        What FLOATFMT_THREADS says is no number of threads.
    """
    chosen = _chosen.get()
    if chosen is None and _wanted:
        return _checked(_wanted, "FLOATFMT_THREADS")
    return chosen


def _checked(wanted: Any, origin: str) -> int:
    try:
        count = int(wanted) if isinstance(wanted, str) else wanted.__index__()
    except (AttributeError, TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(wanted, bool):
        raise ValueError(f"{origin}: {wanted!r} is no number of threads; it takes 1 or more")
    return count


@functools.cache
def _cores() -> int:
    """Return how many physical cores this process may use: two threads of one share its ports."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
    siblings = set()
    for cpu in allowed:
        try:
            path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            with open(path) as file:
                siblings.add(file.read())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let everything in the ``with`` block (this thread, this context) use so many threads.

    Results are the same for any number: only large arrays are shared out, in parts.

    Parameters
    ----------
    count : int
        1 or more; the caller is one of them.

    Raises
    ------
    ValueError
        It is no such number.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> with ff.use_threads(1):
    ...     ff.absmax(np.float32([0.1, 3.2])).codes
    array([  4, 127], dtype=int8)
    """
    token = _chosen.set(_checked(count, "use_threads"))
    try:
        yield
    finally:
        _chosen.reset(token)


def threads_for(size: int) -> int:
    """Return how many threads are worth their while for an array of so many elements."""
    return 1 if size < LEAST else min(thread_count(), 2 * size // LEAST)
