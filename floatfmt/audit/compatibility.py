"""Which installed libraries convert what correctly: a table, each cell a run of the auditor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..formats import Format, FormatLike, formats
from ..formats import format as as_format
from ..table import Part, Table
from .casts import WITNESSES
from .report import Shown, Verification, wrapped
from .verify import verify

__all__ = ["Cell", "Compatibility", "compatibility"]

SOURCES = ("fp64", "fp32", "fp16", "bf16")
LIBRARIES = ("numpy", "ml_dtypes", "torch", "gfloat")


class Cell(NamedTuple):
    """One conversion of one library.

    Attributes
    ----------
    library, version : str
    source, target : Format
    found : Verification
    """

    library: str
    version: str
    source: Format
    target: Format
    found: Verification

    @property
    def mark(self) -> str:
        """The verdict and its count, in a few characters."""
        found = self.found
        if found.verdict == "refuted":
            return f"✗ {found.wrong:,} of {found.checked:,}"
        sign = {"proved": "✓", "inconclusive": "?"}[found.verdict]
        return f"{sign} {found.checked:,}"


@dataclass(frozen=True, slots=True, repr=False)
class Compatibility(Shown):
    """Verdicts on the conversions of libraries; made by ``ff.compatibility``.

    Attributes
    ----------
    cells : tuple of Cell
    """

    cells: tuple[Cell, ...]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self.cells)} conversions of {len(self._libraries)} libraries>"

    @property
    def _libraries(self) -> list[str]:
        return list(dict.fromkeys(f"{cell.library} {cell.version}" for cell in self.cells))

    @property
    def _sources(self) -> list[Format]:
        order = [fmt.name for fmt in formats()]
        sources = dict.fromkeys(cell.source for cell in self.cells)
        return sorted(sources, key=lambda s: order.index(s.name) if s.name in order else len(order))

    def _rows(self) -> Iterator[tuple[str, Format, dict[str, Cell]]]:
        """Yield library, target, and the cells by source."""
        rows: dict[tuple[str, Format], dict[str, Cell]] = {}
        for cell in self.cells:
            key = (f"{cell.library} {cell.version}", cell.target)
            rows.setdefault(key, {})[cell.source.name] = cell
        for (library, target), cells in rows.items():
            yield library, target, cells

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        sources = self._sources
        header = (("library",), ("target",), *((f"from {source}",) for source in sources))
        rows = []
        for library, target, cells in self._rows():
            marks = [
                (cells[s.name].mark, _ROLES[cells[s.name].found.verdict])
                if s.name in cells
                else ("-", "none")
                for s in sources
            ]
            rows.append(((library, "name"), (target.name, ""), *marks))
        yield from Table(header, tuple(rows)).lines(width)
        yield []
        for text in self._notes():
            yield from wrapped(text, min(width or 80, 100))

    def _notes(self) -> Iterator[str]:
        yield LEGEND
        for (library, what), pairs in self._faults().items():
            said = "; ".join(f"{source} → {', '.join(names)}" for source, names in pairs.items())
            yield f"{library}: {what}: {said}"

    def _faults(self) -> dict[tuple[str, str], dict[str, list[str]]]:
        """Return what a library does wrong, and in which conversions: targets by source."""
        faults: dict[tuple[str, str], dict[str, list[str]]] = {}
        for cell in self.cells:
            for fault in cell.found.faults:
                pairs = faults.setdefault((f"{cell.library} {cell.version}", fault.name), {})
                pairs.setdefault(cell.source.name, []).append(cell.target.name)
        return faults

    def markdown(self) -> str:
        """Return the table in Markdown, the faults in its last column."""
        sources = [source.name for source in self._sources]
        lines = [
            f"| library | to | {' | '.join(f'from {name}' for name in sources)} | what is wrong |",
            f"|---|---|{'--:|' * len(sources)}---|",
        ]
        for library, target, cells in self._rows():
            marks = [cells[name].mark if name in cells else "" for name in sources]
            faults = (fault.name for cell in cells.values() for fault in cell.found.faults)
            names = dict.fromkeys(part for name in faults for part in name.split(" and "))
            lines.append(f"| {library} | {target} | {' | '.join(marks)} | {'; '.join(names)} |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "cells": [
                {"library": c.library, "version": c.version, **c.found.to_dict()}
                for c in self.cells
            ]
        }


_ROLES = {"proved": "", "refuted": "lost", "inconclusive": "note"}
LEGEND = (
    "✓ right on so many inputs: all there are or, from fp64, every one at which a rounding changes,"
    " its neighbours, and random ones; ✗ wrong on so many; ? stopped, and right so far. Any NaN for"
    " a NaN is right, and anything for a NaN where the format has none."
)


def compatibility(
    libraries: Iterable[str] = LIBRARIES,
    *,
    sources: Iterable[FormatLike] = SOURCES,
    targets: Iterable[FormatLike] | None = None,
    budget_s: float | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Compatibility:
    """Verify the conversions of the libraries that are installed.

    Parameters
    ----------
    libraries : iterable of str
        Witnesses, as in ``ff.verify``. One that is not installed is left out.
    sources, targets : iterable of Format, str or dtype
        From and to what; every narrower format of the registry that the library has, if not given,
        and those as wide that hold other values.
    budget_s : float, optional
        The most seconds for one conversion.
    threads, progress
        As in ``ff.verify``; progress counts conversions.

    Returns
    -------
    Compatibility
        A cell a conversion, with the auditor's whole verdict.

    Examples
    --------
    >>> import floatfmt as ff
    >>> found = ff.compatibility(["ml_dtypes"], sources=["bf16"], targets=["fp8_e5m2", "fp16"])
    >>> [cell.mark for cell in found.cells]
    ['✓ 65,536', '✓ 65,536']
    """
    wanted = [as_format(fmt) for fmt in (formats() if targets is None else targets)]
    pairs = [
        (library, as_format(source), target)
        for library in libraries
        for target in wanted
        for source in sources
        if targets is not None or _narrows(as_format(source), target)
    ]
    cells = []
    for number, (library, source, target) in enumerate(pairs):
        if progress is not None:
            progress(number, len(pairs))
        version = WITNESSES[library].version if library in WITNESSES else ""
        if version is None:
            continue
        try:
            found = verify(library, source, target, budget_s=budget_s, threads=threads)
        except ValueError:
            if library not in WITNESSES:
                raise
            continue  # it has no such conversion
        cells.append(Cell(library, version, source, target, found))
    return Compatibility(tuple(cells))


def _narrows(source: Format, target: Format) -> bool:
    """Return whether a conversion has to round, into a floating-point format."""
    return not target.holds(source) and not target.is_integer and target.bits <= source.bits
