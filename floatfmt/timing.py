"""How long something takes: interleaved rounds, medians and spread; the copy bandwidth.

Contenders are timed in turn (A B C A B C ...), so that a machine that slows down for a while slows
all of them, and their ratios mean something even where their times do not.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

__all__ = ["Timing", "copy_gb_per_s", "copying", "interleaved", "percent"]

MIN_ROUNDS = 3
#: One measurement lasts at least this long, so that the clock and the loop around do not count.
MIN_SAMPLE_S = 1e-3
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one call takes.

    Attributes
    ----------
    median_s : float
        Seconds a call, the median of the rounds.
    spread : float
        Half the distance between the quartiles of the rounds, relative to the median.
    rounds : int
        How many measurements there are.

    Examples
    --------
    >>> from floatfmt.timing import Timing
    >>> print(Timing(median_s=0.00125, spread=0.02, rounds=9))
    1.25 ms ±2.0 %
    """

    median_s: float
    spread: float
    rounds: int

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        """Sum up measurements in seconds a call."""
        if len(samples) < 2:
            return cls(samples[0], math.nan, 1)
        low, median, high = map(float, np.quantile(samples, (0.25, 0.5, 0.75)))
        return cls(median, (high - low) / 2 / median if median else 0.0, len(samples))

    def overlaps(self, other: Timing) -> bool:
        """Return whether the two medians lie within each other's spread: no significant difference.

        Examples
        --------
        >>> from floatfmt.timing import Timing
        >>> Timing(1.0, 0.05, 9).overlaps(Timing(1.08, 0.05, 9))
        True
        """
        reach = self.median_s * self.spread + other.median_s * other.spread
        return not abs(self.median_s - other.median_s) > reach  # a NaN spread says nothing

    def __str__(self) -> str:
        units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))
        unit, factor = next((u for u in units if self.median_s * u[1] >= 1), units[-1])
        return f"{self.median_s * factor:.3g} {unit} ±{percent(self.spread)}"


def percent(part: float) -> str:
    """Return a relative spread as people read it.

    Examples
    --------
    >>> from floatfmt.timing import percent
    >>> percent(0.0123), percent(1.5)
    ('1.2 %', '150 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.0995 else f"{100 * part:.1f} %"


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    *,
    budget_s: float,
    min_rounds: int = MIN_ROUNDS,
    min_sample_s: float = MIN_SAMPLE_S,
    clock: Callable[[], int] = time.perf_counter_ns,
    before: Callable[[], object] | None = None,
    settle_s: float = 0.0,
) -> dict[str, Timing]:
    """Time functions against each other.

    Every function is called once to warm up and then timed to find how many calls last
    `min_sample_s`; then come rounds, in each of which every contender is measured once, in the
    mapping's order. The garbage collector is off meanwhile.

    Parameters
    ----------
    contenders : mapping of str to function
        What is timed; the functions take no arguments and their results are dropped.
    budget_s : float
        Seconds for all of it together. No round is begun that is not expected to end within it,
        but there are at least `min_rounds`.
    min_rounds : int
        1 or more.
    min_sample_s : float
        How long one measurement lasts at least; shorter functions are called several times.
    clock : function
        Nanoseconds as an integer.
    before : function, optional
        Called before each measurement, which is then a single call, and not timed itself: what
        empties the caches.
    settle_s : float
        How long each function runs before a measurement, untimed, until one call was seen to last
        as long: threads of the one before may go on looking for work, and then they sleep. Not
        with `before`.

    Returns
    -------
    dict of str to Timing
        In the mapping's order.

    Examples
    --------
    >>> from floatfmt.timing import interleaved
    >>> timings = interleaved({"sum": lambda: sum(range(99)), "pass": lambda: None}, budget_s=0.05)
    >>> list(timings), timings["sum"].rounds >= 3
    (['sum', 'pass'], True)
    """
    if min_rounds < 1:
        raise ValueError(f"min_rounds must be at least 1, got {min_rounds}")
    if not contenders:
        return {}
    start = clock()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    with _no_garbage_collection():
        calls = {
            name: _calls_per_sample(function, 0 if before else min_sample_s, clock)
            for name, function in contenders.items()
        }
        began = clock()
        for rounds in itertools.count(1):
            for name, function in contenders.items():
                if before:
                    before()
                elif not any(once >= settle_s for once in samples[name]):
                    _repeat(function, settle_s, clock)
                samples[name].append(_elapsed(function, calls[name], clock) / calls[name] / 1e9)
            now = clock()
            next_round = (now - began) / rounds
            if rounds >= min_rounds and now - start + next_round > budget_s * 1e9:
                break
    return {name: Timing.of(measured) for name, measured in samples.items()}


def _elapsed(function: Callable[[], object], calls: int, clock: Callable[[], int]) -> int:
    """Return the nanoseconds that so many calls take."""
    repeat = itertools.repeat(None, calls)
    began = clock()
    for _ in repeat:
        function()
    return clock() - began


def _repeat(function: Callable[[], object], seconds: float, clock: Callable[[], int]) -> None:
    """Call a function until so much time has passed."""
    end = clock() + seconds * 1e9
    while clock() < end:
        function()


def _calls_per_sample(
    function: Callable[[], object], min_sample_s: float, clock: Callable[[], int]
) -> int:
    """Warm a function up and return how many calls last `min_sample_s`."""
    wanted = min_sample_s * 1e9
    function()
    calls = 1
    # At most a factor of 10 a step: the first, cold calls say little about the later ones.
    while (elapsed := _elapsed(function, calls, clock)) < wanted:
        calls = math.ceil(calls * min(10.0, 1.2 * wanted / max(elapsed, 1)))
    return calls


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def copy_gb_per_s(nbytes: int, *, budget_s: float = 0.2) -> float:
    """Return how fast NumPy copies `nbytes` bytes between two buffers, in GB/s.

    Bytes read and bytes written both count, as in every "GB/s moved" of the benchmarks. This is the
    roofline: nothing that reads and writes as much memory on one thread is much faster.

    Examples
    --------
    >>> from floatfmt.timing import copy_gb_per_s
    >>> copy_gb_per_s(1 << 16, budget_s=0.01) > 0
    True
    """
    if nbytes < 1:
        raise ValueError(f"nbytes must be at least 1, got {nbytes}")
    timing = interleaved({"copy": copying(nbytes)}, budget_s=budget_s)["copy"]
    return 2 * nbytes / timing.median_s / 1e9


def copying(nbytes: int) -> Callable[[], object]:
    """Return a function that copies so many bytes between two buffers.

    They begin at the start and in the middle of a page: Zen 3 copies a tenth as fast where the
    target begins some bytes further on in its page than the source does.

    Examples
    --------
    >>> from floatfmt.timing import copying
    >>> copying(1 << 16)()
    """
    memory = np.ones(2 * nbytes + 3 * PAGE, np.uint8)  # written to, so that its pages exist
    first = -memory.ctypes.data % PAGE
    second = first + -(-nbytes // PAGE) * PAGE + PAGE // 2
    source, target = (memory[start : start + nbytes] for start in (first, second))
    return lambda: np.copyto(target, source)
