"""Every format in every rounding mode: beside gfloat, and beside floatfmt's own fp8_e4m3fn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..audit.casts import GFLOAT_MODES
from ..backends import available_backends
from ..formats import formats
from ..rounding import Rounding
from ..timing import Timing, copying, interleaved
from . import peers
from .cases import Case, encode_case, expanded
from .contenders import Contender, Run, Work
from .results import Result, Row
from .run import Clock, checked

__all__ = [
    "ANCHOR",
    "GFLOAT_NEAREST",
    "WANTED",
    "Formatwise",
    "in_grid",
    "plan",
    "result_name",
]

#: The row that every other is compared with, measured again beside each format.
ANCHOR = "fp8_e4m3fn nearest_even"
#: Whom rounding to odd is compared with: gfloat lacks the mode.
GFLOAT_NEAREST = "gfloat nearest_even"
#: gfloat's temporaries drive everyone's arrays out of the caches: several calls a measurement.
SAMPLE_S = 5e-3
#: How many times as fast every deterministic mode of every format is wanted to be.
WANTED = {"gfloat": 150.0, ANCHOR: 0.5}


def result_name(target: str, mode: str) -> str:
    """Return what the results of a format in a mode are called."""
    return f"rounding-{target}-{mode}"


def in_grid(result: Result) -> bool:
    """Return whether a result is one of a format in a mode."""
    return result.row(ANCHOR, "out") is not None


def _case(target: str, mode: str) -> Case:
    return encode_case("fp32", target, rounding=Rounding(mode))


def plan(size: int, targets: Sequence[str] = ()) -> tuple[Formatwise, ...]:
    """Return what is to be measured: all formats of the registry if none are named."""
    return tuple(Formatwise(name, size) for name in targets or (fmt.name for fmt in formats()))


@dataclass(frozen=True, slots=True)
class Formatwise:
    """One format in all modes, of fp32 values scaled to its range; everyone takes turns."""

    target: str
    size: int

    def __str__(self) -> str:
        return f"fp32 values rounded to {self.target} in every mode, {self.size:,} elements"

    def measured(
        self, *, budget_s: float, clock: Clock = time.perf_counter_ns, strict: bool = True
    ) -> Sequence[Result]:
        """Check every mode against the reference and gfloat, then time the fastest backend.

        Raises
        ------
        DisagreementError
            As `run.measure`.
        """
        cases = {mode: _case(self.target, mode) for mode in Rounding}
        usual = cases[Rounding.NEAREST_EVEN]
        work = usual.prepare("scaled", self.size)
        copy = copying(int(self.size * usual.bytes_per_element / 2))
        timed: dict[str, Run] = {"copy": copy, ANCHOR: _anchor(self.size)}
        for mode, case in cases.items():
            for contender, perform in _checked(case, work):
                timed[f"{contender.peer} {mode}"] = perform
        timings = interleaved(timed, budget_s=budget_s, min_sample_s=SAMPLE_S, clock=clock)
        return [
            Result(
                *(
                    result_name(self.target, mode),
                    case.about,
                    "scaled",
                    self.size,
                    case.bytes_per_element,
                ),
                timings["copy"],
                tuple(_rows(mode, timings)),
                () if "gfloat" in peers.installed() else ("gfloat",),
            )
            for mode, case in cases.items()
        ]


def _ours(case: Case, backend: str) -> Contender:
    """Return floatfmt's contender on a backend that writes into an existing array."""
    return next(c for c in expanded(case, 0) if (c.backend, c.allocation) == (backend, "out"))


def _anchor(size: int) -> Run:
    case = _case(*ANCHOR.split())
    return _ours(case, available_backends()[-1]).prepared(case.prepare("scaled", size))


def _checked(case: Case, work: Work) -> list[tuple[Contender, Run]]:
    """Return whom to time, floatfmt and gfloat, after their results and the reference's agree."""
    slowest, fastest = (_ours(case, available_backends()[end]) for end in (0, -1))
    others = [c for c in case.contenders if c.peer in peers.installed()]
    contenders = [slowest, fastest, *others]
    runs = [contender.prepared(work) for contender in contenders]
    checked(f"{case.name}, {work.x.size:,} elements", case.parts, work, contenders, runs)
    return list(zip(contenders, runs, strict=True))[1:]


def _rows(mode: Rounding, timings: dict[str, Timing]) -> Iterator[Row]:
    yield Row(
        f"floatfmt {available_backends()[-1]}", "floatfmt", "out", timings[f"floatfmt {mode}"]
    )
    yield Row(ANCHOR, "floatfmt", "out", timings[ANCHOR])
    stands_in = mode not in GFLOAT_MODES
    theirs = GFLOAT_NEAREST if stands_in else f"gfloat {mode}"
    if theirs in timings:
        yield Row(theirs if stands_in else "gfloat", "gfloat", "new", timings[theirs])
