"""What was measured: results, what follows from them, and their JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..timing import Timing

__all__ = ["SCHEMA_VERSION", "Report", "Result", "Row"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's measurement.

    Attributes
    ----------
    contender, peer, allocation : str
        As in `Contender`.
    timing : Timing
        Of one call.
    differing : int
        Elements that differ from floatfmt's result within what was accepted.
    because : str
        Why they may.
    codes_apart : int
        By how much they may.
    """

    contender: str
    peer: str
    allocation: str
    timing: Timing
    differing: int = 0
    because: str = ""
    codes_apart: int = 1

    @property
    def is_told_scales(self) -> bool:
        """Whether it is given what the others have to find, and so does less than they do."""
        return self.contender.endswith(" given")


@dataclass(frozen=True, slots=True)
class Result:
    """A case at one size on one kind of input.

    Attributes
    ----------
    case, about, inputs : str
        Names of the case and of the kind of input.
    size : int
        Elements.
    bytes_per_element : float
        The bytes that an element moves at least.
    copy : Timing
        Of copying so much memory that as many bytes are read and written.
    rows : tuple of Row
        One a contender.
    missing : tuple of str
        Contenders whose library is not installed.
    left_out : tuple of str
        Those that failed or gave another result, and why.
    caches : {"warm", "cold"}
        Whether what a call reads and writes was in the caches, as far as it fits, or none of it.
    """

    case: str
    about: str
    inputs: str
    size: int
    bytes_per_element: float
    copy: Timing
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    caches: str = "warm"

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the contenders that are not floatfmt, each once."""
        return tuple(dict.fromkeys(r.contender for r in self.rows if r.peer != "floatfmt"))

    def elements_per_s(self, timing: Timing) -> float:
        """Elements a second."""
        return self.size / timing.median_s

    def gb_per_s(self, timing: Timing) -> float:
        """Bytes that have to be moved a second, / 1e9, however many really are."""
        return self.elements_per_s(timing) * self.bytes_per_element / 1e9

    def of_copy(self, row: Row) -> float:
        """The row's part of the copy's bandwidth."""
        return self.copy.median_s / row.timing.median_s

    def row(self, contender: str, allocation: str) -> Row | None:
        """Return a contender's row, with the other allocation rule if it has none with this."""
        rows = [row for row in self.rows if row.contender == contender]
        rows.sort(key=lambda row: row.allocation != allocation)
        return rows[0] if rows else None

    def ratio(self, row: Row, contender: str) -> float:
        """How many times as fast a row is as a contender; NaN where that was not measured."""
        other = self.row(contender, row.allocation)
        return other.timing.median_s / row.timing.median_s if other else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "case": self.case,
            "about": self.about,
            "inputs": self.inputs,
            "size": self.size,
            "caches": self.caches,
            "bytes_per_element": self.bytes_per_element,
            "copy": {**_timing_dict(self.copy), "gb_per_s": self.gb_per_s(self.copy)},
            "rows": [self._row_dict(row) for row in self.rows],
            "missing": list(self.missing),
            "left_out": list(self.left_out),
        }

    def _row_dict(self, row: Row) -> dict[str, Any]:
        return {
            "contender": row.contender,
            "library": row.peer,
            "allocation": row.allocation,
            **_timing_dict(row.timing),
            "elements_per_s": self.elements_per_s(row.timing),
            "gb_per_s": self.gb_per_s(row.timing),
            "of_copy": self.of_copy(row),
            "times_as_fast_as": {peer: self.ratio(row, peer) for peer in self.peers},
            "differing": row.differing,
            "because": row.because if row.differing else "",
        }


def _timing_dict(timing: Timing) -> dict[str, float]:
    return {"median_s": timing.median_s, "spread": timing.spread, "rounds": timing.rounds}


@dataclass(frozen=True, slots=True)
class Report:
    """A run: where, with what, and all results.

    Attributes
    ----------
    environment : dict
        As `machine.environment` gives it.
    budget_s : float
        Seconds for each result.
    results : tuple of Result
        In the order they were measured.
    clock : str
        What a time is, a key of `run.CLOCKS`.
    threads : int
        How many every library used, where it can.
    """

    environment: dict[str, Any]
    budget_s: float
    results: tuple[Result, ...]
    clock: str = "wall"
    threads: int = 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes there are results of, in order."""
        return tuple(sorted({result.size for result in self.results}))

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON, with a schema version."""
        return {
            "schema": SCHEMA_VERSION,
            **self.environment,
            "threads": self.threads,
            "clock": self.clock,
            "sizes": list(self.sizes),
            "budget_s": self.budget_s,
            "results": [result.to_dict() for result in self.results],
        }
