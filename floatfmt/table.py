"""Tables and lines of text with roles, for pipes, terminals and notebooks alike: nothing is cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "LONGEST_TEXT",
    "TEXT_WIDTH",
    "Part",
    "Table",
    "aligned",
    "byte_size",
    "printable",
    "rich_lines",
    "three_digits",
]

#: A piece of a line and its role in it, a key of the styles below; "" is plain text.
Part: TypeAlias = tuple[str, str]

TEXT_WIDTH = 80
#: Text is not made wider than this, whatever the terminal: longer lines are hard to read.
LONGEST_TEXT = 100


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of text, the first aligned left, the others right; nothing is ever cut.

    Attributes
    ----------
    header : tuple
        Of each column, its header's lines.
    rows : tuple
        Of each row, its cells: (text, role).
    breaks : tuple of int
        The columns before which a table that is too wide is cut into blocks.

    Examples
    --------
    >>> from floatfmt.table import Table
    >>> table = Table((("name",), ("code", "bits")), ((("fp32", ""), ("32", "")),))
    >>> ["".join(text for text, _ in line) for line in table.lines()]
    ['      code', 'name  bits', 'fp32    32']
    """

    header: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[Part, ...], ...]
    breaks: tuple[int, ...] = ()

    def lines(self, width: int | None = None) -> Iterator[list[Part]]:
        """Yield the table's lines, in blocks one below the other where `width` is too little.

        Each block begins with the first column. Without a width there is one block.
        """
        widths = [
            max(len(text) for text, _ in column)
            for column in zip(*self._rows_with_header(), strict=True)
        ]
        blocks, gap = self._arrangement(widths, width)
        for number, columns in enumerate(blocks):
            if number:
                yield []
            for row in self._rows_with_header():
                if any(row[c][0] for c in columns[1:]):
                    yield _line([row[c] for c in columns], [widths[c] for c in columns], gap)

    def _arrangement(self, widths: list[int], limit: int | None) -> tuple[list[list[int]], int]:
        """Return the columns of each block, and the space between two columns."""
        columns = list(range(len(widths)))
        starts, ends = (1, *self.breaks), (*self.breaks, len(columns))
        parts = [[0, *columns[start:end]] for start, end in zip(starts, ends, strict=True)]
        for blocks in ([columns], parts) if limit else ([columns],):
            for gap in (2, 1):
                needed = (sum(widths[c] + gap for c in block) - gap for block in blocks)
                if max(needed) <= (limit or TEXT_WIDTH):
                    return blocks, gap
        return ([columns] if limit is None else _filled(widths, limit)), 1

    def _rows_with_header(self) -> Iterator[tuple[Part, ...]]:
        height = max(map(len, self.header))
        padded = [("",) * (height - len(lines)) + lines for lines in self.header]
        for line in zip(*padded, strict=True):
            yield tuple((text, "header") for text in line)
        yield from self.rows


def _filled(widths: list[int], limit: int) -> list[list[int]]:
    """Return blocks of the first column and as many others as fit in lines of `limit`."""
    blocks = [[0]]
    for column in range(1, len(widths)):
        needed = sum(widths[c] + 1 for c in blocks[-1]) + widths[column]
        if needed > limit and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(column)
    return blocks


def _line(cells: list[Part], widths: list[int], gap: int) -> list[Part]:
    line: list[Part] = []
    for column, ((text, role), width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - len(text))
        before, after = (" " * gap + space, "") if column else ("", space)
        line += [(before, ""), (text, role), (after, "")]
    while line and not line[-1][0].strip():
        line.pop()
    return line


STYLES = {
    "": "",
    "title": "bold",
    "header": "bold",
    "name": "bold cyan",
    "none": "dim",
    "lost": "yellow",
    "note": "dim",
}


def rich_lines(lines: Iterable[list[Part]]) -> Iterator[Text]:
    """Yield lines for a rich console, which neither wraps nor cuts them."""
    from rich.text import Text

    for line in lines:
        styled = ((text, STYLES[role]) for text, role in line)
        yield Text.assemble(*styled, no_wrap=True, overflow="ignore")


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and texts as lines of two columns.

    Examples
    --------
    >>> from floatfmt.table import aligned
    >>> print(aligned([("a", "1"), ("name", "2")]))
    a     1
    name  2
    """
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {text}" for name, text in rows)


def printable(text: str) -> str:
    """Return text without line ends and control characters: names come from other people's files.

    Examples
    --------
    >>> from floatfmt.table import printable
    >>> printable(f"red{chr(27)}[31m")
    'red?[31m'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def three_digits(x: float) -> str:
    """Return a number below 1000 to three digits."""
    return f"{x:.{2 if x < 9.995 else 1 if x < 99.95 else 0}f}"


def byte_size(nbytes: int) -> str:
    """Return a size to three digits.

    Examples
    --------
    >>> from floatfmt.table import byte_size
    >>> byte_size(999), byte_size(6_291_456), byte_size(999_999)
    ('999 B', '6.29 MB', '1.00 MB')
    """
    if nbytes < 1000:
        return f"{nbytes} B"
    power = next((p for p in (1, 2, 3) if nbytes < 999.5 * 1000**p), 4)
    return f"{three_digits(nbytes / 1000**power)} {('kB', 'MB', 'GB', 'TB')[power - 1]}"
