"""Checks, then times: cases × sizes × kinds of input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from ..backends import thread_count, use_threads
from ..timing import Timing, copying, interleaved
from . import machine, peers
from .cases import CASES, LEAST, Case, expanded
from .check import DisagreementError, arrays_of, count_differing
from .contenders import Contender, Run, Work
from .inputs import KINDS, touched
from .results import Report, Result, Row

__all__ = [
    "Task",
    "checked",
    "emptying_caches",
    "everyone",
    "measure",
    "only_backend",
    "plan",
    "run",
]


Clock: TypeAlias = Callable[[], int]
Progress: TypeAlias = Callable[[str, int, int], object]
#: Both in nanoseconds; everything runs on the thread that measures.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter_ns, "thread CPU": time.thread_time_ns}
#: How long idle threads look for work before they sleep, and keep a core from whoever comes next:
#: 5 ms those of OpenMP (GCC's, and so torch's), where a pause takes 40 cycles.
SETTLE_S = 0.01


Keep: TypeAlias = Callable[[Contender], bool]


def everyone(contender: Contender) -> bool:
    """Keep all contenders."""
    return True


def only_backend(backend: str) -> Keep:
    """Keep floatfmt on one backend, and all libraries."""
    return lambda contender: contender.backend in (None, backend)


class Measurable(Protocol):
    """What `run` measures: something with a name for the progress, that gives results."""

    def __str__(self) -> str: ...
    def measured(self, *, budget_s: float, clock: Clock, strict: bool) -> Sequence[Result]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """One case at one size on one kind of input, performed by those that `keep` chooses."""

    case: Case
    size: int
    kind: str
    keep: Keep = everyone
    caches: str = "warm"

    def __str__(self) -> str:
        cold = ", caches cold" if self.caches == "cold" else ""
        return f"{self.case.name}, {self.size:,} elements, {KINDS[self.kind].about}{cold}"

    def measured(self, *, budget_s: float, clock: Clock, strict: bool) -> Sequence[Result]:
        return (measure(self, budget_s=budget_s, clock=clock, strict=strict),)


def plan(
    sizes: Sequence[int],
    cases: Iterable[str] = (),
    *,
    kinds: str = "usual",
    keep: Keep = everyone,
    caches: str = "warm",
) -> tuple[Task, ...]:
    """Return what is to be measured.

    Parameters
    ----------
    sizes : sequence of int
        Positive multiples of 16; cases of rows leave out what is no multiple of 1024.
    cases : iterable of str
        Names; all cases if empty.
    kinds : {"usual", "all"}
        Measure on each case's most usual kind of input, or on all it has.
    keep : function
        Which contenders take part.
    caches : {"warm", "cold"}
        Whether calls follow one another, or each finds none of its data in the caches.

    Raises
    ------
    ValueError
        An unknown case, a size that is no multiple of 16, or a case with none of its sizes.
    """
    cases = tuple(cases)
    names = cases or tuple(CASES)
    for name in names:
        if name not in CASES:
            raise ValueError(f"no case is called {name!r}; there are {', '.join(CASES)}")
    for size in sizes:
        if size < LEAST or size % LEAST:
            raise ValueError(f"a size is a positive multiple of {LEAST}, got {size}")
    for name in cases:
        if not any(size % CASES[name].multiple == 0 for size in sizes):
            given = ", ".join(map(str, sizes))
            raise ValueError(f"{name} takes multiples of {CASES[name].multiple}, got {given}")
    return tuple(
        Task(CASES[name], size, kind, keep, caches)
        for name in names
        for kind in CASES[name].kinds[: None if kinds == "all" else 1]
        for size in sizes
        if size % CASES[name].multiple == 0
    )


def run(
    tasks: Sequence[Measurable],
    *,
    budget_s: float,
    clock: str = "wall",
    progress: Progress = lambda doing, done, total: None,
    strict: bool = True,
    threads: int = 1,
) -> Report:
    """Measure tasks, every library on as many threads.

    Parameters
    ----------
    tasks : sequence of Measurable
        From `plan`, or `rounding.plan`.
    budget_s : float
        Seconds of timing for each task; at least three rounds are measured.
    clock : {"wall", "thread CPU"}
        What a time is: the second leaves out what other processes take of the processor.
    progress : function
        Called before each task with what it is, how many are done and how many there are.
    strict : bool
        Whether a library that fails or disagrees stops the run; else it is left out of that result,
        which says why.
    threads : int
        How many, where a library can.

    Raises
    ------
    ValueError
        Several threads are to be timed by the time of one.
    DisagreementError
        A contender's result is not what it has to be; nothing more was timed.
    """
    results: list[Result] = []
    environment = machine.environment()
    if threads > 1 and clock != "wall":
        raise ValueError(f"{threads} threads are timed by wall time, not by {clock} time")
    with peers.on_threads(threads), use_threads(threads):
        for done, task in enumerate(tasks):
            progress(str(task), done, len(tasks))
            results += task.measured(budget_s=budget_s, clock=CLOCKS[clock], strict=strict)
    return Report(environment, budget_s, tuple(results), clock, threads)


def measure(
    task: Task, *, budget_s: float, clock: Clock = time.perf_counter_ns, strict: bool = True
) -> Result:
    """Check that a task's contenders agree, then time them and a copy against each other."""
    case, size = task.case, task.size
    contenders = tuple(filter(task.keep, expanded(case, size)))
    present = peers.installed() | {"floatfmt"}
    missing = tuple(dict.fromkeys(c.name for c in contenders if c.peer not in present))
    work = case.prepare(task.kind, size)
    entries, left_out = _entered(
        str(task), case.parts, work, [c for c in contenders if c.peer in present], strict
    )
    timed: dict[str, Run] = {"copy": copying(int(size * case.bytes_per_element / 2))}
    timed |= {f"{one.name}, {one.allocation}": perform for one, perform, _ in entries}
    before = emptying_caches() if task.caches == "cold" else None
    settle_s = SETTLE_S if thread_count() > 1 else 0.0
    times = interleaved(timed, budget_s=budget_s, clock=clock, before=before, settle_s=settle_s)
    copy, *timings = times.values()
    return Result(
        case.name,
        case.about,
        task.kind,
        size,
        case.bytes_per_element,
        copy,
        tuple(_row(*entry, timing) for entry, timing in zip(entries, timings, strict=True)),
        missing,
        left_out,
        task.caches,
    )


def _row(contender: Contender, perform: Run, differing: int, timing: Timing) -> Row:
    relation = contender.relation
    return Row(
        *(contender.name, contender.peer, contender.allocation, timing),
        *(differing, relation.because, relation.codes_apart),
    )


def _entered(
    task: str, parts: tuple[str, ...], work: Work, contenders: Sequence[Contender], strict: bool
) -> tuple[list[tuple[Contender, Run, int]], tuple[str, ...]]:
    """Return contenders with what to time and how many elements differ, and why others are out.

    Only where it is not strict is anyone out, and never floatfmt.
    """
    entries, left_out = [], []
    expected: tuple[np.ndarray, ...] = ()
    for contender in contenders:
        try:
            perform = contender.prepared(work)
            expected = expected or _kept(perform)
            differing = _differing(task, parts, work, contender, perform, expected)
        except Exception as error:  # whatever a version that nobody tried does
            if strict or contender.peer == "floatfmt":
                raise
            why = f"{contender.name} ({contender.allocation}): {type(error).__name__}: {error}"
            left_out.append(" ".join(why.split()))
        else:
            entries.append((contender, perform, differing))
    return entries, tuple(left_out)


def checked(
    task: str,
    parts: tuple[str, ...],
    work: Work,
    contenders: Sequence[Contender],
    runs: Sequence[Run],
) -> list[int]:
    """Return how many elements of each result differ from the first contender's, as accepted.

    The first is floatfmt's slowest backend that takes part: the reference at small sizes. `task`
    and `parts` name it and the arrays of a result in messages.
    """
    expected = _kept(runs[0])
    return [
        _differing(task, parts, work, contender, perform, expected)
        for contender, perform in zip(contenders, runs, strict=True)
    ]


def _kept(perform: Run) -> tuple[np.ndarray, ...]:
    """Return a result that later ones do not overwrite."""
    return tuple(array.copy() for array in arrays_of(perform()))


def _differing(
    task: str,
    parts: tuple[str, ...],
    work: Work,
    contender: Contender,
    perform: Run,
    expected: tuple[np.ndarray, ...],
) -> int:
    work.spoil()
    name = f"{task}: {contender.name} ({contender.allocation})"
    got = contender.of_its(arrays_of(perform()))
    if contender.peer == "floatfmt" and len(got) != len(expected):
        raise DisagreementError(f"{name}: {len(got)} arrays, expected {len(expected)}")
    return count_differing(name, got, contender.of_ours(expected), parts, contender.relation)


def emptying_caches() -> Run:
    """Return a function that reads twice as much as the last cache holds.

    It reads, for what is written to at length may go past the caches.
    """
    last = max(machine.cache_bytes(machine.caches()).values(), default=machine.UNKNOWN_CACHE_BYTES)
    return touched((2 * last // 8,), np.uint64).max
