"""One tensor, or a file of them, in many formats: size, error, values lost, and speed.

Tensors are streamed in pieces, so memory does not grow with the file. `comparison_rows` says what
there can be a row for, `comparison_plot` draws the result.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import interop
from .backends import Float64, backend_name, current_backend
from .comparison_rows import DEFAULT_ROWS, Row, RowLike, rows_of
from .error_figures import keep_freed_memory
from .formats import format
from .metrics import NO_ERROR, Error, json_number, piece_error
from .table import (
    LONGEST_TEXT,
    TEXT_WIDTH,
    Part,
    Table,
    byte_size,
    printable,
    rich_lines,
    three_digits,
)
from .timing import copy_gb_per_s, interleaved

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Comparison", "ComparisonRow", "compare"]

SCHEMA = "floatfmt.compare/1"
ACCEPTED = "compare needs floating-point values (fp64, fp32, fp16 or bf16)"

#: Values that speed is measured on, at most: more than caches hold, yet done in no time.
TIMED_VALUES = 1 << 22
TIMED_VALUES_OF_REFERENCE = 1 << 18  # it is some twenty times slower
SPEED_BUDGET_S = 0.3
COPY_BUDGET_S = 0.1


# --- the answer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """What one format does to the values.

    Attributes
    ----------
    name : str
        The format's name, as `compare` takes it.
    values : int
        How many values there are.
    nbytes : int
        Bytes that have to be stored: codes, scales and zero points.
    error : Error
        Of the decoded values against the original ones.
    saturated : int
        Finite values that became Inf or NaN, or that were clamped to the range.
    flushed : int
        Values other than 0 that decode to 0.
    encode_gb_per_s, decode_gb_per_s : float
        Bytes read and written per second, in 1e9; every array counts once.
    note : str
        What has to be said about the row, or "".
    pareto : bool
        Whether the row is on the Pareto front: none takes as few bytes at a higher SQNR, or fewer
        at as high a one.
    """

    name: str
    values: int
    nbytes: int
    error: Error
    saturated: int
    flushed: int
    encode_gb_per_s: float
    decode_gb_per_s: float
    note: str = ""
    pareto: bool = False

    __hash__ = None  # type: ignore[assignment]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits a value, scales and zero points included."""
        return 8 * self.nbytes / self.values

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON; the error's are among them."""
        names = ("name", "values", "nbytes", "bits_per_weight", "saturated", "flushed")
        speeds = ("encode_gb_per_s", "decode_gb_per_s")
        errors = {name: value for name, value in self.error.to_dict().items() if name != "count"}
        return {
            **{name: getattr(self, name) for name in names},
            **errors,
            **{name: json_number(getattr(self, name)) for name in speeds},
            "note": self.note,
            "pareto": self.pareto,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A tensor or a file of tensors in many formats; made by ``ff.compare``.

    Attributes
    ----------
    source : str
        What was compared: the path, with the tensor's name where one was chosen, or what x was.
    tensors, values : int
        How many tensors of floats there are, and how many values they hold together.
    dtypes : tuple of str
        The formats these values came in.
    skipped : tuple of (str, int)
        How many tensors hold no floats, by dtype.
    rows : tuple of ComparisonRow
        One a format, from the fewest bits a weight up; of equals the one of the highest SQNR first.
    left_out : tuple of (str, str)
        The formats that cannot take all the values, and why.
    backend : str
        The backend that ran.
    timed : str
        The values that speeds are of.
    copy_gb_per_s : float
        How fast this machine copied as many bytes at that time, reads and writes counted alike.
    """

    source: str
    tensors: int
    values: int
    dtypes: tuple[str, ...]
    skipped: tuple[tuple[str, int], ...]
    rows: tuple[ComparisonRow, ...]
    backend: str
    timed: str
    copy_gb_per_s: float
    left_out: tuple[tuple[str, str], ...] = ()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        ``schema`` says which keys there are; figures that are not finite are "inf", "-inf" or
        "nan".
        """
        return {
            "schema": SCHEMA,
            "source": self.source,
            "tensors": self.tensors,
            "values": self.values,
            "dtypes": list(self.dtypes),
            "skipped": dict(self.skipped),
            "backend": self.backend,
            "timed": self.timed,
            "copy_gb_per_s": json_number(self.copy_gb_per_s),
            "rows": [row.to_dict() for row in self.rows],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw SQNR against bits a weight, with the Pareto front as steps, and write it to a file.

        Formats without any error are at the upper edge, those without a finite SQNR at the lower
        one, each with an arrow.

        Parameters
        ----------
        path : str or os.PathLike
            Where to: a .svg, .png or .pdf file; one that is there is replaced.

        Raises
        ------
        ValueError
            The suffix is another.
        ModuleNotFoundError
            matplotlib is not installed.

        Examples
        --------
        >>> import floatfmt as ff, numpy as np, tempfile
        >>> result = ff.compare(np.float32([0.1, -1.5, 3.2]), ["bf16", "int8", "nf4"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result.plot(f"{folder}/formats.svg")
        """
        from .comparison_plot import draw

        draw(self, path)

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in _layout(self, None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from rich_lines(_layout(self, options.max_width))

    def _repr_html_(self) -> str:
        return _html(self)


def compare(
    x: Any = None,
    formats: RowLike | Iterable[RowLike] | None = None,
    *,
    tensor: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Put a tensor, or every tensor of a checkpoint, into many formats and measure what comes out.

    Parameters
    ----------
    x : array, str or os.PathLike, optional
        fp64, fp32, fp16 or bf16 values, NumPy or torch; or a ``.npy``, ``.npz`` or ``.safetensors``
        file, a directory of Hugging Face, or an index of shards. By default the sample model that
        ships with floatfmt.
    formats : str, format or codebook, or several, optional
        What there is a row for:

        - a float format, which values are cast to: whatever ``ff.format`` takes, such as "bf16" or
          "fp8_e4m3fn", and a ``Format`` of your own;
        - a scheme that values are quantised by, as its name says: int or uint with 2 to 8 bits
          ("int8", "int8_zeropoint", "uint4_asymmetric"), "nf4", "fp4", "dynamic8", "nvfp4",
          "mxfp4", "mxfp6_e2m3fn" and the others of OCP, "fp8_e4m3fn_scaled"; with what differs from
          the usual: "_row" (a scale for each index of axis 0; a single one where there are fewer
          than two axes), "_block32", "_double", "_rceil", "_mse", "_p99.9", "_fp16scale";
        - a ``Codebook`` of your own, or ``(name, options of ff.quantize)``.

        By default a dozen of 32 to 4 bits.
    tensor : str, optional
        The one tensor of the checkpoint to look at; by default every tensor that holds floats.
    progress : function, optional
        Called now and then with how many values are done, and how many there are.

    Returns
    -------
    Comparison
        A row a format, sorted by bits a weight; one asked for twice has one row.

    Raises
    ------
    ValueError
        A format is unknown; there are no values; none of the formats can take a NaN or Inf that is
        there (the message names the first). A `CheckpointError`, which is one, if the file cannot
        be read.
    TypeError
        There are no floats; options do not go together.

    Notes
    -----
    Each tensor is quantised by itself, and the figures of all are taken together. The error is that
    of ``ff.decode(ff.encode(x, f), f)`` and of ``ff.quantize(x, ...).dequantize()``, the sizes are
    those of ``ff.pack`` and ``Quantized.nbytes``.

    Schemes, and formats without a NaN, need finite values: where there are others, they are
    `Comparison.left_out`. Other float formats take NaN and Inf as they are: see `Error` for how
    they count.

    A tensor is gone through in pieces, once for each format or twice. Beside them, memory is taken
    by the scales of one tensor in one format, some 28 bytes a scale, less than a byte a value in
    blocks of 32; and the codes, a byte a value, where rounding is not to nearest even. As much as
    the tensor or more take blocks through all its values, as those of nf4, if it does not lie in C
    order; and "_p99.9" and "_mse" with one scale.

    Speed is that of ``ff.encode``, ``ff.decode``, ``ff.quantize`` and ``Quantized.dequantize`` into
    arrays that exist already, on up to 4,194,304 values of the largest tensor (262,144 on the NumPy
    reference), on one thread: the median of interleaved rounds.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.comparison import compare
    >>> result = compare(np.float32([0.1, -1.5, 3.2]), ["bf16", "int8"])
    >>> [(row.name, row.nbytes, round(row.error.sqnr_db, 1), row.pareto) for row in result.rows]
    [('bf16', 6, 61.1, True), ('int8', 7, 49.5, False)]
    """
    rows = rows_of(DEFAULT_ROWS if formats is None else formats)
    with _opened(x, tensor) as source:
        keep_freed_memory()
        tallies, left_out = _measured(source, rows, progress)
        largest = max(source.sizes, key=source.sizes.__getitem__)
        piece = _timed_piece(source.read(largest))
        speeds, copy_speed = _speeds([tally.row for tally in tallies], piece)
        return Comparison(
            source=source.title,
            tensors=len(source.sizes),
            values=sum(source.sizes.values()),
            dtypes=source.dtypes,
            skipped=source.skipped,
            rows=_ranked(tally.result(*s) for tally, s in zip(tallies, speeds, strict=True)),
            backend=backend_name(),
            timed=f"{piece.size:,} values of {source.label(largest)}",
            copy_gb_per_s=copy_speed,
            left_out=left_out,
        )


# --- sources ------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """Tensors of floats, read one at a time.

    Attributes
    ----------
    title : str
        What this is.
    label : function
        How a message calls a tensor.
    sizes : dict
        The tensors that hold at least one value, and how many each holds.
    """

    title: str
    label: Callable[[str], str]
    sizes: dict[str, int]
    dtypes: tuple[str, ...]
    skipped: tuple[tuple[str, int], ...]
    read: Callable[[str], np.ndarray]


@contextlib.contextmanager
def _opened(x: Any, tensor: str | None) -> Iterator[_Source]:
    if x is not None and not isinstance(x, (str, os.PathLike)):
        if tensor is not None:
            raise TypeError(f"tensor={tensor!r} chooses from a file, but x is an array")
        yield _array_source(x)
        return
    # These read safetensors and pathlib, which take their time to import.
    from .checkpoint import open_checkpoint
    from .data import SAMPLE_MODEL

    path = SAMPLE_MODEL / "model.safetensors" if x is None else x
    with open_checkpoint(path) as checkpoint:
        if "floatfmt" in checkpoint.metadata:
            raise ValueError(
                f"{os.fspath(path)} is quantised, its tensors are codes and scales: compare what"
                " 'floatfmt dequantize' makes of it"
            )
        names = checkpoint.names if tensor is None else (tensor,)
        described = {name: (checkpoint.shape(name), checkpoint.dtype(name)) for name in names}
        title = "the sample model" if x is None else os.fspath(path)
        yield _file_source(title, described, checkpoint.__getitem__, tensor)


def _array_source(x: Any) -> _Source:
    values = interop.float_array(x, decodes=True)
    title = f"array of shape {values.shape}"
    if values.size == 0:
        raise ValueError(f"there is nothing to compare: an {title} is empty")
    return _Source(
        title=title,
        label=lambda name: name,
        sizes={"x": values.size},
        dtypes=(format(values.dtype).name,),
        skipped=(),
        read=lambda name: values,
    )


def _file_source(
    path: str,
    described: dict[str, tuple[tuple[int, ...], np.dtype]],
    read: Callable[[str], np.ndarray],
    chosen: str | None,
) -> _Source:
    title = printable(path if chosen is None else f"{path}, {_label(chosen)}")
    floats = {
        name: (math.prod(shape), format(dtype).name)
        for name, (shape, dtype) in described.items()
        if dtype.newbyteorder("=") in interop.FLOAT_DTYPES
    }
    others = Counter(str(dtype) for name, (_, dtype) in described.items() if name not in floats)
    if not floats:
        held = " and ".join(others) or "no tensor"
        raise TypeError(f"{title} holds {held}; {ACCEPTED}")
    sizes = {name: size for name, (size, _) in floats.items() if size}
    if not sizes:
        raise ValueError(f"there is nothing to compare: {title} is empty")
    return _Source(
        title=title,
        label=_label,
        sizes=sizes,
        dtypes=tuple(dict.fromkeys(dtype for _, dtype in floats.values())),
        skipped=tuple(others.items()),
        read=read,
    )


def _label(name: str) -> str:
    return printable(f"tensor {name!r}")


# --- measuring ----------------------------------------------------------------------------------


class _Tally:
    """The figures of one row, added up over parts and tensors."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.nbytes = 0
        self.error = NO_ERROR
        self.saturated = 0
        self.flushed = 0

    def add(self, tensor: np.ndarray, progress: Callable[[int], object]) -> None:
        """Add a tensor; `progress` is told how many values are done since the last time."""

        def visit(x: Float64, y: Float64) -> None:
            with current_backend().float_environment():
                self.error = self.error.merge(piece_error(x, y))
                self.flushed += int(np.count_nonzero((y == 0) & (x != 0)))
            progress(x.size)

        nbytes, saturated = self.row.put(tensor, visit)
        self.nbytes += nbytes
        self.saturated += saturated

    def result(self, encode_gb_per_s: float, decode_gb_per_s: float) -> ComparisonRow:
        return ComparisonRow(
            name=self.row.name,
            values=self.error.count,
            nbytes=self.nbytes,
            error=self.error,
            saturated=self.saturated,
            flushed=self.flushed,
            encode_gb_per_s=encode_gb_per_s,
            decode_gb_per_s=decode_gb_per_s,
            note=self.row.note,
        )


def _measured(
    source: _Source, rows: tuple[Row, ...], progress: Callable[[int, int], object] | None
) -> tuple[list[_Tally], tuple[tuple[str, str], ...]]:
    """Return the figures of the rows that take all values; and the other rows, with why not."""
    total, before = sum(source.sizes.values()), 0
    tallies = [_Tally(row) for row in rows]
    left_out: tuple[tuple[str, str], ...] = ()
    for name, size in source.sizes.items():
        tensor = source.read(name)
        strict = [tally for tally in tallies if tally.row.needs_finite]
        if strict and (place := _first_not_finite(tensor, source.label(name))):
            left_out = tuple((tally.row.name, f"needs finite values: {place}") for tally in strict)
            tallies = [tally for tally in tallies if tally not in strict]
            if not tallies:
                raise ValueError(
                    f"{place}; {', '.join(dict.fromkeys(tally.row.name for tally in strict))}"
                    f" need{'s' * (len(strict) == 1)} finite values: compare float formats, or"
                    " another tensor"
                )
        counted = 0

        def count(more: int, before: int = before, rows: int = len(tallies)) -> None:
            nonlocal counted
            counted += more
            if progress is not None:
                progress(before + counted // rows, total)

        for tally in tallies:
            tally.add(tensor, count)
        before += size
    return tallies, left_out


def _first_not_finite(tensor: np.ndarray, label: str) -> str:
    """Return the first NaN or Inf of a tensor, as ``"x[1] is nan"``, or ""."""
    for index in interop.slabs(tensor.shape):
        if not np.isfinite(tensor[index]).all():
            return "{} is {}".format(
                *interop.first_where(tensor, lambda piece: ~np.isfinite(piece), label)
            )
    return ""


def _ranked(rows: Iterable[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Return rows from the fewest bits up, those of the Pareto front marked."""
    ranked = sorted(rows, key=lambda row: (row.nbytes, -row.error.sqnr_db))
    points = [(row.nbytes, row.error.sqnr_db) for row in ranked]

    def is_beaten(size: int, sqnr: float) -> bool:
        return any(n <= size and db >= sqnr and (n, db) != (size, sqnr) for n, db in points)

    return tuple(
        replace(row, pareto=not is_beaten(*point))
        for row, point in zip(ranked, points, strict=True)
    )


def _timed_piece(tensor: np.ndarray) -> np.ndarray:
    """Return the first values of a tensor, whole rows if possible, in memory of their own."""
    limit = TIMED_VALUES_OF_REFERENCE if backend_name() == "reference" else TIMED_VALUES
    first = tensor[next(interop.slabs(tensor.shape, limit))]
    return np.array(first, first.dtype.newbyteorder("="), order="C")


def _speeds(rows: Sequence[Row], piece: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """Return the GB/s that each row encodes and decodes, and the GB/s of a copy."""

    @functools.cache
    def scratch(dtype: np.dtype) -> np.ndarray:
        return np.empty(piece.shape, dtype)

    pairs = [row.contenders(piece, scratch) for row in rows]
    contenders = {
        f"{way} {i}": contender
        for i, pair in enumerate(pairs)
        for way, contender in zip(("encode", "decode"), pair, strict=True)
    }
    timings = interleaved(
        {name: contender.run for name, contender in contenders.items()}, budget_s=SPEED_BUDGET_S
    )
    rates = {
        name: contender.nbytes / timings[name].median_s / 1e9
        for name, contender in contenders.items()
    }
    copy_speed = copy_gb_per_s(piece.nbytes, budget_s=COPY_BUDGET_S)
    return [(rates[f"encode {i}"], rates[f"decode {i}"]) for i in range(len(rows))], copy_speed


# --- how a comparison looks ---------------------------------------------------------------------


def _count(n: int) -> Part:
    """Return a count to three digits, as few characters as possible.

    Examples
    --------
    >>> [_count(n)[0] for n in (0, 999, 42_633, 999_999, 1_234_567_890)]
    ['0', '999', '42.6k', '1.00M', '1.23G']
    """
    if n < 1000:
        return f"{n}", "lost" if n else "none"
    power = next((p for p in (1, 2) if n < 999.5 * 1000**p), 3)
    return f"{three_digits(n / 1000**power)}{'kMG'[power - 1]}", "lost"


def _figure(x: float) -> str:
    """Return an error to three digits, in as few characters as possible.

    Examples
    --------
    >>> _figure(0.00195312), _figure(0.0), _figure(float("inf")), _figure(3e-11)
    ('1.95e-3', '0', 'inf', '3.00e-11')
    """
    if not x or math.isinf(x):
        return f"{x:.0f}"
    mantissa, _, exponent = f"{x:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


#: The table, column by column: its header and what it says of a row.
_COLUMNS: tuple[tuple[tuple[str, ...], Callable[[ComparisonRow], Part]], ...] = (
    (("format",), lambda row: (row.name, "name")),
    (("",), lambda row: ("*" if row.pareto else "", "name")),
    (("bits/", "weight"), lambda row: (f"{row.bits_per_weight:.3f}", "")),
    (("size",), lambda row: (byte_size(row.nbytes), "")),
    (("max", "error"), lambda row: (_figure(row.error.max_abs), "")),
    (("RMSE",), lambda row: (_figure(row.error.rmse), "")),
    (("SQNR", "dB"), lambda row: (f"{row.error.sqnr_db:.1f}", "")),
    (("satu-", "rated"), lambda row: _count(row.saturated)),
    (("to", "zero"), lambda row: _count(row.flushed)),
    (("encode", "GB/s"), lambda row: (three_digits(row.encode_gb_per_s), "")),
    (("decode", "GB/s"), lambda row: (three_digits(row.decode_gb_per_s), "")),
)


def _table(comparison: Comparison) -> Table:
    rows = [tuple(cell(row) for _, cell in _COLUMNS) for row in comparison.rows]
    copy = (three_digits(comparison.copy_gb_per_s), "note")
    rows.append((("(copy)", "note"), *[("", "")] * (len(_COLUMNS) - 3), copy, copy))
    header = tuple(header for header, _ in _COLUMNS)
    return Table(header, tuple(rows), breaks=(header.index(("satu-", "rated")),))


def _title(comparison: Comparison) -> str:
    several = comparison.tensors > 1
    tensors = f" in {comparison.tensors:,} tensors, each quantised by itself" if several else ""
    return (
        f"{comparison.source}: {comparison.values:,} {'/'.join(comparison.dtypes)} values{tensors}"
    )


def _notes(comparison: Comparison) -> Iterator[str]:
    if comparison.skipped:
        skipped = ", ".join(f"{count:,} of {dtype}" for dtype, count in comparison.skipped)
        yield f"Skipped tensors of other kinds: {skipped}."
    for reason in dict.fromkeys(reason for _, reason in comparison.left_out):
        names = [name for name, why in comparison.left_out if why == reason]
        yield f"Left out: {', '.join(names)}, which {reason.replace('needs', 'need', 1)}."
    yield from (f"{row.note}." for row in comparison.rows if row.note)
    yield "* Pareto front: no row has a higher SQNR in as few bytes, or as high a one in fewer."
    yield (
        "Size and bits include scales and zero points. saturated: finite values that became Inf "
        "or NaN, or were clamped; to zero: other values that decode to 0."
    )
    yield (
        f"GB/s: bytes read and written per second, on one thread, backend {comparison.backend}, "
        f"{comparison.timed}; (copy) is what copying the same values reaches here."
    )


def _layout(comparison: Comparison, width: int | None) -> Iterator[list[Part]]:
    """Yield the lines; without a width, the table is in one block and no word is broken."""
    text_width = min(width or TEXT_WIDTH, LONGEST_TEXT)

    def wrapped(text: str, role: str) -> Iterator[list[Part]]:
        for line in textwrap.wrap(
            text, text_width, break_long_words=width is not None, break_on_hyphens=False
        ):
            yield [(line, role)]

    yield from wrapped(_title(comparison), "title")
    yield []
    yield from _table(comparison).lines(width)
    yield []
    for note in _notes(comparison):
        yield from wrapped(note, "note")


_HTML_CELL = "background:none;border:none;font-size:inherit"
_HTML_ALIGNMENT = ("text-align:left;padding:1px 0", "text-align:right;padding:1px 0 1px 16px")
_HTML_STYLES = {"header": "font-weight:bold", "name": "font-weight:bold", "lost": "color:#b36b00"}


def _html(comparison: Comparison) -> str:
    import html

    def row(cells: Iterable[Part], tag: str) -> str:
        return "".join(
            f'<{tag} style="{_HTML_CELL};{_HTML_ALIGNMENT[column > 0]};'
            f'{_HTML_STYLES.get(role, "")}">{html.escape(text)}</{tag}>'
            for column, (text, role) in enumerate(cells)
        )

    table = _table(comparison)
    # "satu-" and "rated" are one word, "bits/" and "weight" one term.
    titles = (" ".join(lines).replace("- ", "").replace("/ ", "/") for lines in table.header)
    header = row(((title, "header") for title in titles), "th")
    body = "".join(f'<tr style="background:none">{row(r, "td")}</tr>' for r in table.rows)
    notes = "".join(f"<div>{html.escape(note)}</div>" for note in _notes(comparison))
    return (
        '<div style="font-family:monospace;font-size:13px;line-height:1.5;margin:8px 0">'
        f"<b>{html.escape(_title(comparison))}</b>"
        f'<table style="border-collapse:collapse;border:none;margin:4px 0"><thead><tr>{header}'
        f'</tr></thead><tbody>{body}</tbody></table><div style="opacity:0.7">{notes}</div></div>'
    )
