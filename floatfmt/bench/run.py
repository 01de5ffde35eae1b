"""Checks, then times: cases × sizes × kinds of input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from ..timing import Timing, interleaved
from . import machine, peers
from .cases import CASES, ROW, Case, expanded
from .check import DisagreementError, arrays_of, count_differing
from .contenders import Contender, Run, Work
from .inputs import KINDS, touched
from .results import Report, Result, Row

__all__ = ["Task", "checked", "copying", "measure", "plan", "run"]


Clock: TypeAlias = Callable[[], int]
#: Both in nanoseconds; everything runs on the thread that measures.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter_ns, "thread CPU": time.thread_time_ns}


class Measurable(Protocol):
    """What `run` measures: something with a name for the progress, that gives results."""

    def __str__(self) -> str: ...
    def measured(self, *, budget_s: float, clock: Clock) -> Sequence[Result]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """One case at one size on one kind of input."""

    case: Case
    size: int
    kind: str

    def __str__(self) -> str:
        return f"{self.case.name}, {self.size:,} elements, {KINDS[self.kind].about}"

    def measured(self, *, budget_s: float, clock: Clock) -> Sequence[Result]:
        return (measure(self, budget_s=budget_s, clock=clock),)


def plan(
    sizes: Sequence[int], cases: Iterable[str] = (), *, kinds: str = "usual"
) -> tuple[Task, ...]:
    """Return what is to be measured.

    Parameters
    ----------
    sizes : sequence of int
        Positive multiples of 1024.
    cases : iterable of str
        Names; all cases if empty.
    kinds : {"usual", "all"}
        Measure on each case's most usual kind of input, or on all it has.

    Raises
    ------
    ValueError
        An unknown case, or a size that is no multiple of 1024.
    """
    names = tuple(cases) or tuple(CASES)
    for name in names:
        if name not in CASES:
            raise ValueError(f"no case is called {name!r}; there are {', '.join(CASES)}")
    for size in sizes:
        if size < ROW or size % ROW:
            raise ValueError(f"a size is a positive multiple of {ROW}, got {size}")
    return tuple(
        Task(CASES[name], size, kind)
        for name in names
        for kind in CASES[name].kinds[: None if kinds == "all" else 1]
        for size in sizes
    )


def run(
    tasks: Sequence[Measurable],
    *,
    budget_s: float,
    clock: str = "wall",
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure tasks, every library on one thread.

    Parameters
    ----------
    tasks : sequence of Measurable
        From `plan`, or `rounding.plan`.
    budget_s : float
        Seconds of timing for each task; at least three rounds are measured.
    clock : {"wall", "thread CPU"}
        What a time is: the second leaves out what other processes take of the processor.
    progress : function
        Called with a line before each task.

    Raises
    ------
    DisagreementError
        A contender's result is not what it has to be; nothing more was timed.
    """
    results: list[Result] = []
    environment = machine.environment()
    with peers.on_one_thread():
        for number, task in enumerate(tasks, 1):
            progress(f"[{number}/{len(tasks)}] {task}")
            results += task.measured(budget_s=budget_s, clock=CLOCKS[clock])
    return Report(environment, budget_s, tuple(results), clock)


def measure(task: Task, *, budget_s: float, clock: Clock = time.perf_counter_ns) -> Result:
    """Check that a task's contenders agree, then time them and a copy against each other."""
    case, size = task.case, task.size
    contenders = expanded(case, size)
    present = peers.installed() | {"floatfmt"}
    missing = tuple(dict.fromkeys(c.name for c in contenders if c.peer not in present))
    contenders = tuple(c for c in contenders if c.peer in present)
    work = case.prepare(task.kind, size)
    runs = [contender.prepared(work) for contender in contenders]
    differing = checked(str(task), case.parts, work, contenders, runs)
    timed: dict[str, Run] = {"copy": copying(int(size * case.bytes_per_element / 2))}
    timed |= {f"{c.name}, {c.allocation}": run for c, run in zip(contenders, runs, strict=True)}
    copy, *timings = interleaved(timed, budget_s=budget_s, clock=clock).values()
    return Result(
        case.name,
        case.about,
        task.kind,
        size,
        case.bytes_per_element,
        copy,
        _rows(contenders, timings, differing),
        missing,
    )


def _rows(
    contenders: tuple[Contender, ...], timings: list[Timing], differing: list[int]
) -> tuple[Row, ...]:
    return tuple(
        Row(
            *(c.name, c.peer, c.allocation, timing),
            *(count, c.relation.because, c.relation.codes_apart),
        )
        for c, timing, count in zip(contenders, timings, differing, strict=True)
    )


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
    expected = tuple(array.copy() for array in arrays_of(runs[0]()))
    counts = []
    for contender, perform in zip(contenders, runs, strict=True):
        work.spoil()
        name = f"{task}: {contender.name} ({contender.allocation})"
        got = contender.of_its(arrays_of(perform()))
        if contender.peer == "floatfmt" and len(got) != len(expected):
            raise DisagreementError(f"{name}: {len(got)} arrays, expected {len(expected)}")
        ours = contender.of_ours(expected)
        counts.append(count_differing(name, got, ours, parts, contender.relation))
    return counts


def copying(nbytes: int) -> Run:
    """Return a function that copies so many bytes."""
    source, target = touched((nbytes,), np.uint8), touched((nbytes,), np.uint8)
    return lambda: np.copyto(target, source)
