"""The short table: how fast it is on the user's own machine, in less than a minute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..backends import available_backends, backend_name
from ..table import LONGEST_TEXT, Part, Table, rich_lines
from . import peers
from .cases import REFERENCE_MAX_SIZE
from .results import Report, Result, Row
from .run import Progress, only_backend, plan, run
from .tables import environment_lines, size_text, times

__all__ = ["CASES", "SIZES", "Short", "short"]

#: One of each kind of work.
CASES = (
    "decompose-fp32",
    "encode-fp32-fp16",
    "encode-fp32-bf16",
    "encode-fp32-fp8_e4m3fn",
    "decode-fp8_e4m3fn-fp32",
    "absmax-int8",
    "zeropoint-int8",
    "absmax-int8-rows",
    "quantize-int8",
    "nf4",
    "mxfp4",
    "dequantize-int8",
)
#: The call itself, what caches hold, and memory.
SIZES = (2**10, 2**20, 2**23)
BUDGET_S = 0.25


@dataclass(frozen=True, slots=True)
class Short:
    """What was measured, as short tables.

    Attributes
    ----------
    report : Report
        All of it.
    backend : str
        floatfmt's, whose rows are shown.
    """

    report: Report
    backend: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {"backend": self.backend, "report": self.report.to_dict()}

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in self._lines(None))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        return rich_lines(self._lines(min(options.max_width, LONGEST_TEXT)))

    def _lines(self, width: int | None) -> Iterator[list[Part]]:
        for size in self.report.sizes:
            yield [(f"{size_text(size)} values, {4 * size:,} bytes of fp32", "title")]
            yield from self._table(size).lines(width)
            yield []
        for line in self._notes():
            yield [(line, "note")]

    def _table(self, size: int) -> Table:
        shown = [result for result in self.report.results if result.size == size]
        rows = [self._cells(result) for result in shown]
        header = (("operation",), ("time",), ("",), ("Gelem/s",), ("of a", "copy"))
        against = tuple(("vs", peer.name) for peer in peers.PEERS)
        return Table((*header, *against), tuple(rows), (len(header),))

    def _cells(self, result: Result) -> tuple[Part, ...]:
        row = self._row(result)
        time, _, spread = str(row.timing).partition(" ±")
        cells = (
            time,
            f"±{spread}",
            f"{result.elements_per_s(row.timing) / 1e9:.3g}",
            f"{result.of_copy(row):.0%}",
            *(self._against(result, row, peer.name) for peer in peers.PEERS),
        )
        return (result.case, "name"), *((cell, "") for cell in cells)

    def _row(self, result: Result) -> Row:
        row = result.row(f"floatfmt {self.backend}", "new")
        assert row is not None, "floatfmt takes part in every case"
        return row

    def _against(self, result: Result, row: Row, peer: str) -> str:
        """Return how many times as fast it is as the fastest way of a library."""
        ways = {one.contender for one in result.rows if one.peer == peer and not one.is_told_scales}
        return times(min((result.ratio(row, way) for way in ways), default=math.nan))

    def _notes(self) -> Iterator[str]:
        yield "Results in new arrays, medians; vs: times as fast as the fastest way of a library."
        yield "Of a copy: 100% is as fast as np.copyto moves as many bytes."
        if peers.missing():
            yield f"Not installed, and so not measured: {', '.join(peers.missing())}"
        for result in self.report.results:
            yield from (f"Left out: {why}" for why in result.left_out)
        if len(available_backends()) == 1:
            yield "Without the C kernel larger arrays take too long; see floatfmt doctor."
        yield from environment_lines(self.report.environment)


def short(progress: Progress = lambda doing, done, total: None) -> Short:
    """Measure `CASES` at `SIZES` with the backend in use, every library on one thread.

    A library that fails, or whose results are not those wanted, is left out of that result.
    """
    only_reference = len(available_backends()) == 1
    sizes = [size for size in SIZES if not only_reference or size <= REFERENCE_MAX_SIZE]
    backend = backend_name()
    is_here = only_backend(backend)
    tasks = plan(sizes, CASES, keep=lambda one: one.allocation == "new" and is_here(one))
    report = run(tasks, budget_s=BUDGET_S, progress=progress, strict=False)
    return Short(report, backend)
