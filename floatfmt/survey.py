"""One value in many formats at once: what each makes of it, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from .figures import Exact, figure, in_full, is_short_ratio, rounded
from .formats import Format, FormatLike
from .formats import format as as_format
from .formats import formats as registered
from .inspection import OPTIONS, Inspection, inspect
from .reading import exact_value, is_bit_pattern, read
from .rounding import Rounding, fresh_seed, rules, word64
from .table import TEXT_WIDTH, Part, Table, rich_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Survey", "SurveyRow", "round_all"]


class SurveyRow(NamedTuple):
    """A format, and what it makes of the value.

    Attributes
    ----------
    format : Format
        The format.
    inspection : Inspection or None
        The value rounded to it; None where it has no code for it.
    reason : str or None
        Why there is none.
    """

    format: Format
    inspection: Inspection | None
    reason: str | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Survey:
    """One value in many formats; made by ``ff.round_all``.

    Attributes
    ----------
    requested : Fraction, Decimal or float
        The exact value that was asked for, as in ``Inspection``.
    rounding : Rounding
        The mode.
    rows : tuple of SurveyRow
        One for each format: ``format``, ``inspection``, ``reason``.

    Examples
    --------
    >>> import floatfmt as ff
    >>> survey = ff.round_all("0.1", formats=["fp16", "bf16", "int8"])
    >>> [row.inspection.hex for row in survey.rows]
    ['0x2E66', '0x3DCD', '0x00']
    >>> survey["bf16"].error
    Fraction(1, 10240)
    """

    requested: Exact | float
    rounding: Rounding
    rows: tuple[SurveyRow, ...]

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Survey):
            return NotImplemented
        mine, theirs = self.requested, other.requested
        same_value = mine == theirs or (mine != mine and theirs != theirs)
        return same_value and (self.rounding, self.rows) == (other.rounding, other.rows)

    def __getitem__(self, which: FormatLike) -> Inspection | None:
        """Return the inspection in one of the formats."""
        fmt = as_format(which)
        for row in self.rows:
            if row.format == fmt:
                return row.inspection
        raise KeyError(f"{fmt} is not one of {', '.join(str(row.format) for row in self.rows)}")

    def __repr__(self) -> str:
        return f"<Survey of {_asked(self.requested)} in {len(self.rows)} formats, {self.rounding}>"

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in self._layout(None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return rich_lines(self._layout(options.max_width))

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        import textwrap

        for text, role in ((self._title, "title"), ("", "")):
            for line in textwrap.wrap(text, width or TEXT_WIDTH) or [""]:
                yield [(line, role)]
        yield from self._table.lines(width)
        if self._notes:
            yield []
        for note in self._notes:
            for line in textwrap.wrap(note, width or TEXT_WIDTH, subsequent_indent="  "):
                yield [(line, "note")]

    @property
    def _title(self) -> str:
        return f"{_asked(self.requested)} in {len(self.rows)} formats, {self.rounding}"

    @property
    def _table(self) -> Table:
        header = (("format",), ("code",), ("value",), ("error",), ("relative",), ("ulp",))
        return Table(header, tuple(_cells(row) for row in self.rows), breaks=(3,))

    @property
    def _notes(self) -> list[str]:
        """Say what happened, and in which formats."""
        happened: dict[str, list[str]] = {}
        for fmt, x, reason in self.rows:
            lack = (reason or "").removeprefix(f"{fmt} has ")
            if what := f"- is {lack}" if lack else _tag(x):
                happened.setdefault(what, []).append(fmt.name)
        seeds = {row.inspection.seed for row in self.rows if row.inspection}
        drawn = [f"seed {seed}" for seed in seeds if seed is not None]
        return drawn + [f"{what}: {', '.join(names)}" for what, names in happened.items()]

    def _repr_html_(self) -> str:
        import html  # its table of entities takes a millisecond, and most never need it

        cell = "border:none;padding:1px 12px 1px 0;background:none;text-align:"
        table = self._table

        def line(cells: Iterable[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="{cell}{"right" if column else "left"}">{html.escape(text)}</{tag}>'
                for column, text in enumerate(cells)
            )

        head = line((lines[0] for lines in table.header), "th")
        body = "".join(f"<tr>{line((t for t, _ in row), 'td')}</tr>" for row in table.rows)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes)
        return (
            '<div style="font-family:monospace;font-size:13px">'
            f"<b>{html.escape(self._title)}</b>"
            f'<table style="border-collapse:collapse;border:none;margin:4px 0"><thead><tr>{head}'
            f"</tr></thead><tbody>{body}</tbody></table>{notes}</div>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        ``requested``, ``rounding``
            The value, exactly, and the mode's name.
        ``rows``
            A list: ``format`` and ``reason``, and of ``Inspection.to_dict`` the ``code``, ``hex``,
            ``decimal``, ``error``, ``relative_error``, ``error_ulps``, ``remark`` and ``seed``,
            all None where there is a reason; ``is_exact``.
        """
        return {
            "requested": in_full(self.requested),
            "rounding": self.rounding.value,
            "rows": [_row_dict(row) for row in self.rows],
        }


def _asked(x: Exact | float) -> str:
    """Return the value asked for: exactly if that is short, else with a ~."""
    if isinstance(x, Fraction):
        return in_full(x) if is_short_ratio(x) else figure(x, 17, limit=40)
    return rounded(x, 17) if isinstance(x, Decimal) else in_full(x)


_COPIED = ("code", "hex", "decimal", "error", "relative_error", "error_ulps", "remark", "seed")


def _row_dict(row: SurveyRow) -> dict[str, Any]:
    card = {} if row.inspection is None else row.inspection.to_dict()
    is_exact = None if row.inspection is None else row.inspection.error == 0
    copied = {name: card.get(name) for name in _COPIED}
    return {"format": row.format.name, **copied, "is_exact": is_exact, "reason": row.reason}


def _cells(row: SurveyRow) -> tuple[Part, ...]:
    """Return a row of the table."""
    x = row.inspection
    if x is None:
        return ((row.format.name, "name"), *[("-", "none")] * 5)
    value = figure(x.value, min(x.format.round_trip_digits, 7), 13) if x.value else x.decimal
    errors = [x.error, x.relative_error, x.error_ulps]
    if x.error == 0:
        figures = [("exact", ""), ("", ""), ("", "")]
    else:
        figures = [("-", "none") if e is None else (rounded(e, 3, "+"), "") for e in errors]
    return ((row.format.name, "name"), (x.hex, ""), (value, "lost" * bool(_tag(x))), *figures)


#: What the first words of a remark, "overflows: the largest ...", name of what happened.
_TAGS = {
    name: name.removeprefix("a ")
    for name in (
        *("overflows", "underflows", "out of range", "flushed", "a tie"),
        *("no zero", "no -0", "no Inf", "no -Inf"),
    )
}


def _tag(x: Inspection | None) -> str:
    """Return in a word or two what happened to the value; "" if it was rounded like any other."""
    remark = (x.remark if x else None) or ""
    return _TAGS.get(remark.partition(":")[0].removeprefix(f"{x.format} has " if x else ""), "")


def round_all(
    x: Any,
    *,
    formats: Iterable[FormatLike] | None = None,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
    seed: int | None = None,
) -> Survey:
    """Round one value to many formats at once, and compare the errors.

    Parameters
    ----------
    x : int, float, Fraction, Decimal, str, or a NumPy, ml_dtypes or torch scalar
        As in ``ff.inspect``: taken exactly, and rounded once to each format.
    formats : iterable of Format, str or dtype, optional
        Which; all of the registry if not given.
    rounding, overflow, nan, subnormals
        As in ``ff.encode``.
    seed : int, optional
        For "stochastic"; the same for every format, fresh entropy if not given.

    Returns
    -------
    Survey
        A row a format. Where a format has no code for the value, a NaN, the row has the reason.

    Raises
    ------
    TypeError, ValueError
        x is no number, or the bits of a code, which mean nothing without their format; an option
        or a format is unknown.

    Examples
    --------
    >>> import floatfmt as ff
    >>> print(ff.round_all("0.1", formats=["fp32", "fp16", "fp8_e4m3fn", "int8"]))
    0.1 in 4 formats, nearest_even
    <BLANKLINE>
    format            code          value        error    relative   ulp
    fp32        0x3DCCCCCD           ~0.1    ~+1.49e-9   ~+1.49e-8  +0.2
    fp16            0x2E66      ~0.099976  ~-0.0000244  ~-0.000244  -0.4
    fp8_e4m3fn        0x1D      0.1015625    ~+0.00156    ~+0.0156  +0.2
    int8              0x00              0         -0.1          -1  -0.1
    """
    if is_bit_pattern(x):
        raise ValueError(f"{x!r} are the bits of a code, which mean nothing without its format")
    mode = rules(as_format("fp64"), rounding, overflow, nan, subnormals).rounding
    options: dict[str, Any] = dict(zip(OPTIONS, (mode, overflow, nan, subnormals), strict=True))
    if mode is Rounding.STOCHASTIC:
        options["seed"] = fresh_seed() if seed is None else word64(seed)
    number = read(x)
    which = registered() if formats is None else [as_format(fmt) for fmt in formats]
    rows = tuple(_row(x, fmt, options) for fmt in which)
    return Survey(exact_value(number), mode, rows)


def _row(x: Any, fmt: Format, options: dict[str, Any]) -> SurveyRow:
    try:
        return SurveyRow(fmt, inspect(x, fmt, **options), None)
    except ValueError as reason:
        return SurveyRow(fmt, None, str(reason))
