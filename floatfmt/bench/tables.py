"""Results as tables: colours on a terminal, plain aligned text where piped."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..formats import formats
from ..rounding import Rounding
from ..timing import percent
from .cases import CASES, Target
from .inputs import KINDS
from .machine import holding
from .results import Report, Result, Row
from .rounding import GFLOAT_NEAREST, WANTED, in_grid, result_name

__all__ = [
    "acceptance_table",
    "console",
    "print_report",
    "result_table",
    "show",
    "size_text",
    "times",
]

#: Wide enough for every table; a pipe has no width of its own.
PIPED_WIDTH = 160


def console(file: IO[str] | None = None) -> Console:
    """Return a console that does not fold tables where its output is piped."""
    file = file or sys.stdout
    return Console(file=file, width=None if file.isatty() else PIPED_WIDTH, highlight=False)


def size_text(size: int) -> str:
    """Return 2^k for a power of two, else the number.

    Examples
    --------
    >>> from floatfmt.bench.tables import size_text
    >>> size_text(1024), size_text(3072)
    ('2^10', '3,072')
    """
    return f"2^{size.bit_length() - 1}" if size & (size - 1) == 0 else f"{size:,}"


def times(ratio: float) -> str:
    """Return a ratio as people read it; nothing for a NaN, which is where nobody was measured."""
    return "" if math.isnan(ratio) else f"{ratio:.2f}×" if ratio < 9.95 else f"{ratio:.1f}×"


def result_table(result: Result, caches: Mapping[str, str]) -> Table:
    """Return a table with a row a contender; `caches` are the machine's."""
    moved = result.size * result.bytes_per_element
    where = "cold caches" if result.caches == "cold" else f"from {holding(moved, caches)}"
    copy = f"copy {result.gb_per_s(result.copy):.1f} GB/s ±{percent(result.copy.spread)}"
    measured = f"{size_text(result.size)} elements, {KINDS[result.inputs].about}"
    table = Table(
        title=f"{result.case}: {result.about}\n{measured}; "
        f"{result.bytes_per_element} bytes an element, {where}; {copy}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    table.add_column("contender", no_wrap=True)
    table.add_column("result", no_wrap=True)
    against = ("vs " + peer.replace(" ", "\n", 1) for peer in result.peers)
    for header in ("Gelem/s", "GB/s", "of copy", *against, "median", "rounds"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in result.rows:
        table.add_row(*_cells(result, row), style="bold" if row.peer == "floatfmt" else "")
    return table


def _cells(result: Result, row: Row) -> Iterable[str]:
    yield row.contender
    yield row.allocation
    yield f"{result.elements_per_s(row.timing) / 1e9:.3f}"
    yield f"{result.gb_per_s(row.timing):.1f}"
    yield f"{100 * result.of_copy(row):.0f} %"
    for peer in result.peers:
        other = result.row(peer, row.allocation)
        mark = "†" if other and other.allocation != row.allocation else " "
        yield times(result.ratio(row, peer)) + mark
    yield str(row.timing)
    yield str(row.timing.rounds)


def notes(result: Result) -> Iterable[str]:
    """Yield what has to be said below a result's table: differences, missing peers."""
    alike: dict[tuple[int, int, str], list[str]] = {}
    for row in result.rows:
        if row.differing:
            key = row.differing, row.codes_apart, row.because
            alike.setdefault(key, []).append(row.contender)
    for (count, apart, because), names in alike.items():
        by = "one code" if apart == 1 else f"at most {apart} codes"
        yield (
            f"{', '.join(dict.fromkeys(names))}: {count:,} of {result.size:,} elements "
            f"({100 * count / result.size:.2g} %) differ from floatfmt's by {by}, because it "
            f"{because}"
        )
    forms = {(row.contender, row.allocation) for row in result.rows}
    if any((peer, how) not in forms for peer in result.peers for how in ("new", "out")):
        yield "† against its other kind of result: it has none of this kind"
    yield from (f"left out: {why}" for why in result.left_out)
    if result.missing:
        yield f"missing, because not installed: {', '.join(result.missing)}"


def acceptance_table(report: Report, targets: Sequence[Target]) -> Table:
    """Return the wanted ratios beside those that floatfmt's fastest backend was measured at."""
    table = Table(
        title="floatfmt is so many times as fast as ...",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for header in ("case", "elements", "against", "result"):
        table.add_column(header, no_wrap=True)
    for header in ("wanted", "measured", "±", "of copy"):
        table.add_column(header, justify="right", no_wrap=True)
    for cells in _acceptance_rows(report, targets):
        table.add_row(*cells)
    return table


def _acceptance_rows(report: Report, targets: Sequence[Target]) -> Iterable[tuple[str, ...]]:
    fastest = f"floatfmt {report.environment['software']['backends'][-1]}"
    for target in targets:
        for result in report.results:
            if (result.case, result.inputs) != (target.case, CASES[target.case].kinds[0]):
                continue
            if target.size not in (None, result.size):
                continue
            for allocation in target.allocations:
                ours, theirs = (result.row(c, allocation) for c in (fastest, target.contender))
                if ours is None or theirs is None:
                    measured, spread, against = "missing", "", target.contender
                    of_copy = "" if ours is None else f"{100 * result.of_copy(ours):.0f} %"
                else:
                    measured = times(result.ratio(ours, target.contender))
                    spread = percent(ours.timing.spread + theirs.timing.spread)
                    against = f"{target.contender} ({theirs.allocation})"
                    of_copy = f"{100 * result.of_copy(ours):.0f} %"
                wanted = f"≥ {target.ratio:g}×"
                size = size_text(result.size)
                yield target.case, size, against, allocation, wanted, measured, spread, of_copy


def environment_lines(environment: dict[str, Any]) -> Iterable[str]:
    """Yield what a reader of the tables has to know, a line each."""
    machine, software = environment["machine"], environment["software"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {v or 'missing'}" for name, v in environment["peers"].items())
    yield f"{machine['cpu']}, {machine['cores']} cores; {caches or 'caches unknown'}"
    yield (
        f"floatfmt {software['floatfmt']} ({software['compiler'] or 'no C kernel'}; "
        f"{', '.join(software['backends'])}), Python {software['python']}, {versions}"
    )
    pages = "; torch asks for huge pages" if software["torch_huge_pages"] else ""
    yield f"{environment['date']}, commit {environment['commit'] or 'unknown'}{pages}"


def print_report(report: Report, to: Console, *, targets: Sequence[Target] = ()) -> None:
    """Print where it was measured, all results, and the wanted ratios if there are any.

    Results of every format in every mode are one table a quantity, not one a result.
    """
    for line in environment_lines(report.environment):
        show(to, line)
    threads = "one thread" if report.threads == 1 else f"{report.threads} threads where they help"
    show(to, f"times are {report.clock} time, {threads}")
    for size in dict.fromkeys(result.size for result in report.results):
        _print_grid({r.case: r for r in report.results if r.size == size and in_grid(r)}, to)
    for result in report.results:
        if not in_grid(result):
            show(to, "")
            show(to, result_table(result, report.environment["machine"]["caches"]))
            for line in notes(result):
                show(to, line)
    if targets:
        show(to, "")
        show(to, acceptance_table(report, targets))


# --- every format in every mode -----------------------------------------------------------------


def _print_grid(results: dict[str, Result], to: Console) -> None:
    """Print a table format × mode for each quantity, and how many results are as fast as wanted."""
    if not results:
        return
    one = next(iter(results.values()))
    show(to, "")
    show(to, f"{size_text(one.size)} fp32 values, {KINDS[one.inputs].about}, out= given")
    for title, cell in _GRID_TABLES.items():
        show(to, "")
        show(to, _grid_table(title, cell, results))
    for contender, ratio in WANTED.items():
        show(to, _verdict(contender, ratio, results))
    show(to, f"{Rounding.TO_ODD} is compared with {GFLOAT_NEAREST}: gfloat lacks the mode")
    if gone := dict.fromkeys(name for result in results.values() for name in result.missing):
        show(to, f"missing, because not installed: {', '.join(gone)}")


def _gelem_per_s(mode: Rounding, result: Result) -> str:
    return f"{result.elements_per_s(result.rows[0].timing) / 1e9:.2f}"


def _ratio_to(contender: str, result: Result) -> float:
    """Return how many times as fast as a contender, or as who stands in for it; NaN if nobody."""
    names = (row.contender for row in result.rows if row.contender.startswith(contender))
    return result.ratio(result.rows[0], next(names, contender))


def _marked(contender: str, mode: Rounding, result: Result) -> str:
    ratio = _ratio_to(contender, result)
    is_short = mode is not Rounding.STOCHASTIC and ratio < WANTED[contender]
    return times(ratio) + ("!" if is_short else " ")


_GRID_TABLES: dict[str, Callable[[Rounding, Result], str]] = {
    "10^9 elements a second": _gelem_per_s,
    **{
        f"times as fast as {contender} (wanted: {ratio:g}; !: less)": partial(_marked, contender)
        for contender, ratio in WANTED.items()
    },
}


def _grid_table(
    title: str, cell: Callable[[Rounding, Result], str], results: dict[str, Result]
) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("fp32 to", no_wrap=True)
    for mode in Rounding:
        table.add_column(mode.replace("_", "\n", 1), justify="right", no_wrap=True)
    for fmt in formats():
        row = {mode: results.get(result_name(fmt.name, mode)) for mode in Rounding}
        if cells := [cell(mode, result) for mode, result in row.items() if result is not None]:
            table.add_row(fmt.name, *cells)
    return table


def _verdict(contender: str, wanted: float, results: dict[str, Result]) -> str:
    """Say how many deterministic results are as fast as wanted, and which is the least."""
    names = (
        result_name(fmt.name, mode)
        for fmt in formats()
        for mode in Rounding
        if mode is not Rounding.STOCHASTIC
    )
    ratios = {name: _ratio_to(contender, results[name]) for name in names if name in results}
    known = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
    if not known:
        return f"{contender}: not measured"
    least = min(known, key=known.__getitem__)
    enough = sum(ratio >= wanted for ratio in known.values())
    return (
        f"against {contender}: {enough} of {len(known)} at least {wanted:g} times as fast; "
        f"least {times(known[least])}, {least}"
    )


def show(to: Console, what: str | Table) -> None:
    """Print; where piped, without the blanks that fill up a table's lines."""
    if to.is_terminal:
        to.print(what, markup=False)
        return
    with to.capture() as captured:
        to.print(what, markup=False, soft_wrap=isinstance(what, str))
    text = captured.get().rstrip("\n")
    to.file.write("\n".join(line.rstrip() for line in text.split("\n")) + "\n")
