"""One tensor, or a file of them, in many formats: size, error, values lost, and speed.

Tensors are streamed in pieces, so memory does not grow with the file. A format is a row of data:
any floating-point format is a `FloatRow`, and `INT8_ROWS` lists the quantisers.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from . import exact, interop
from .arrays import decode, encode
from .backends import Float64, backend_name, current_backend
from .error_figures import keep_freed_memory, widened
from .formats import Format, FormatLike, format, nearest_names
from .formats import formats as registered_formats
from .metrics import NO_ERROR, Error, json_number, piece_error
from .quantize import quantize
from .quantized import Quantized
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

DEFAULT_FORMATS = ("fp32", "bf16", "fp16", "int8_absmax", "int8_zeropoint", "int8_absmax_row")
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
        One a format.
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
        }

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in _layout(self, None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from rich_lines(_layout(self, options.max_width))

    def _repr_html_(self) -> str:
        return _html(self)


def compare(
    x: Any = None,
    formats: FormatLike | Iterable[FormatLike] | None = None,
    *,
    tensor: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Put a tensor, or every tensor of a file, into many formats and measure what comes out.

    Parameters
    ----------
    x : array, str or os.PathLike, optional
        fp64, fp32, fp16 or bf16 values, NumPy or torch; or a ``.npy``, ``.npz`` or ``.safetensors``
        file. By default the sample model that ships with floatfmt.
    formats : str or format, or several, optional
        Whatever ``ff.format`` takes, a ``Format`` of your own, and the int8 quantisers
        "int8_absmax", "int8_zeropoint" and "int8_absmax_row". By default fp32, bf16, fp16 and those
        three.
    tensor : str, optional
        The one tensor of the file to look at; by default every tensor that holds floats.
    progress : function, optional
        Called now and then with how many values are done, and how many there are.

    Returns
    -------
    Comparison
        A row a format, in the order asked for; one asked for twice has one row.

    Raises
    ------
    ValueError
        A format is unknown; there are no values; an int8 quantiser is asked for and a value is NaN
        or Inf (the message names the first: choose float formats or another tensor). A
        `CheckpointError`, which is one, if the file cannot be read.
    TypeError
        There are no floats.

    Notes
    -----
    Each tensor is quantised by itself, and the figures of all are taken together. The error is that
    of ``ff.decode(ff.encode(x, f), f)`` and of ``ff.quantize(x, ...).dequantize()``.
    int8_absmax_row has a scale for each index of axis 0; a tensor of fewer than two dimensions has
    one scale. Float formats take NaN and Inf as they are: see `Error` for how they count.

    Speed is that of ``ff.encode``, ``ff.decode``, ``ff.quantize`` and ``Quantized.dequantize`` into
    arrays that exist already, on up to 4,194,304 values of the largest tensor (262,144 on the NumPy
    reference), on one thread: the median of interleaved rounds.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.compare import compare
    >>> result = compare(np.float32([0.1, -1.5, 3.2]), ["bf16", "int8_absmax"])
    >>> [(row.name, row.nbytes, round(row.error.sqnr_db, 1)) for row in result.rows]
    [('bf16', 6, 61.1), ('int8_absmax', 7, 49.5)]
    """
    rows = _rows(DEFAULT_FORMATS if formats is None else formats)
    with _opened(x, tensor) as source:
        keep_freed_memory()
        total = sum(source.sizes.values())
        tallies = [_Tally(row) for row in rows]
        done = 0
        for name in source.sizes:
            for count in _measure(source.read(name), tallies, source.label(name)):
                done += count
                if progress is not None:
                    progress(done, total)
        largest = max(source.sizes, key=source.sizes.__getitem__)
        piece = _timed_piece(source.read(largest))
        speeds, copy_speed = _speeds(rows, piece)
        return Comparison(
            source=source.title,
            tensors=len(source.sizes),
            values=total,
            dtypes=source.dtypes,
            skipped=source.skipped,
            rows=tuple(tally.result(*speed) for tally, speed in zip(tallies, speeds, strict=True)),
            backend=backend_name(),
            timed=f"{piece.size:,} values of {source.label(largest)}",
            copy_gb_per_s=copy_speed,
        )


# --- rows ---------------------------------------------------------------------------------------

#: Where a piece lies in its tensor: an index of `interop.slabs`.
Index: TypeAlias = tuple[Any, ...]


class _Contender(NamedTuple):
    """A function to time, and the bytes it reads and writes."""

    run: Callable[[], object]
    nbytes: int


class _Fitted(Protocol):
    """A row with all it has to know about one tensor."""

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes."""

    def approximate(self, piece: np.ndarray, x: Float64, index: Index) -> tuple[Float64, int]:
        """Return what a piece decodes to, and how many of its values were saturated.

        `x` holds the piece's values.
        """


class _Row(Protocol):
    """A format that values can be put in."""

    @property
    def name(self) -> str: ...
    @property
    def note(self) -> str: ...
    def fit(self, tensor: np.ndarray, ranges: Callable[[], Float64]) -> _Fitted:
        """Return what encodes the tensor.

        `ranges` gives the least and greatest value of each row, for the price of a pass over them.
        """

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[_Contender, _Contender]:
        """Return encoding and decoding a piece; `scratch` gives an array of its shape."""


class FloatRow(NamedTuple):
    """A floating-point format, stored in the codes that ``ff.encode`` gives."""

    format: Format

    @property
    def name(self) -> str:
        return self.format.name

    @property
    def note(self) -> str:
        stored = 8 * self.format.code_dtype.itemsize
        if stored == self.format.bits:
            return ""
        if self.format.bits <= 6:
            return f"{self.name} counts as packed, {self.format.bits} bits a code (see ff.pack)"
        return f"{self.name} codes have {self.format.bits} bits, stored in {stored}"

    def fit(self, tensor: np.ndarray, ranges: Callable[[], Float64]) -> _FittedFloat:
        if self.format.nan is None:
            ranges()  # an error if a value is not finite
        return _FittedFloat(self.format, self.format.packed_nbytes(tensor.size))

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[_Contender, _Contender]:
        codes = encode(piece, self.format)
        values = scratch(self.format.value_dtype)
        return (
            _Contender(lambda: encode(piece, self.format, out=codes), piece.nbytes + codes.nbytes),
            _Contender(
                lambda: decode(codes, self.format, out=values), codes.nbytes + values.nbytes
            ),
        )


class _FittedFloat(NamedTuple):
    format: Format
    nbytes: int

    def approximate(self, piece: np.ndarray, x: Float64, index: Index) -> tuple[Float64, int]:
        y: Float64 = decode(encode(piece, self.format), self.format, dtype=np.float64)
        if self.format.has_finite_codes_only:
            low, high = self._rounding_range()
            return y, int(np.count_nonzero((x < low) | (x > high)))
        return y, int(np.count_nonzero(np.isfinite(x) & ~np.isfinite(y)))

    def _rounding_range(self) -> tuple[float, float]:
        """Return the least and the greatest value that rounds without being clamped."""
        low, high = exact.encode(self.format.lowest, self.format), self.format.max_code
        intervals = [exact.rounding_interval(code, self.format) for code in (low, high)]
        ends = float(intervals[0][0]), float(intervals[1][1])
        return (
            ends[0] if intervals[0][2] else math.nextafter(ends[0], math.inf),
            ends[1] if intervals[1][2] else math.nextafter(ends[1], -math.inf),
        )


class Int8Row(NamedTuple):
    """An int8 quantiser, with one scale for the tensor or one for each index of axis 0."""

    name: str
    scheme: str
    by_row: bool = False
    note: str = ""

    def _axis(self, array: np.ndarray) -> int | None:
        return 0 if self.by_row and array.ndim >= 2 else None

    def fit(self, tensor: np.ndarray, ranges: Callable[[], Float64]) -> _FittedInt8:
        axis, rows = self._axis(tensor), ranges()
        if axis is None:
            rows = np.array([[rows[:, 0].min(), rows[:, 1].max()]])
        # Scale and zero point follow from the least and the greatest value alone, so quantising
        # these two gives those of the whole tensor.
        fmt = format(tensor.dtype)
        parameters = quantize(encode(rows, fmt).view(fmt.dtype), self.scheme, axis=0)
        nbytes = tensor.size + parameters.nbytes - parameters.codes.nbytes
        return _FittedInt8(parameters, axis, nbytes)

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[_Contender, _Contender]:
        axis = self._axis(piece)
        q = quantize(piece, self.scheme, axis=axis)
        codes, values = np.empty_like(q.codes), scratch(piece.dtype)
        return (
            _Contender(
                lambda: quantize(piece, self.scheme, axis=axis, out=codes),
                piece.nbytes + codes.nbytes,
            ),
            _Contender(lambda: q.dequantize(out=values), codes.nbytes + values.nbytes),
        )


class _FittedInt8(NamedTuple):
    parameters: Quantized
    axis: int | None
    nbytes: int

    def approximate(self, piece: np.ndarray, x: Float64, index: Index) -> tuple[Float64, int]:
        here = (index[0] if self.axis == 0 else ..., 0)
        q = quantize(
            piece,
            scale=self.parameters.scale[here],
            zero_point=self.parameters.zero_point[here],
            axis=self.axis,
        )
        return widened(q.dequantize()), q.saturated


INT8_ROWS = {
    row.name: row
    for row in (
        Int8Row("int8_absmax", "absmax"),
        Int8Row("int8_zeropoint", "zeropoint"),
        Int8Row("int8_absmax_row", "absmax", by_row=True),
    )
}


def _rows(wanted: FormatLike | Iterable[FormatLike]) -> tuple[_Row, ...]:
    one = isinstance(wanted, str) or not isinstance(wanted, Iterable)
    rows = tuple(dict.fromkeys(map(_row, [wanted] if one else cast(Iterable[FormatLike], wanted))))
    if not rows:
        raise ValueError("no format to compare is given")
    return rows


def _row(which: FormatLike) -> _Row:
    if not isinstance(which, str):
        return FloatRow(format(which))
    name = which.strip().lower()
    if name in INT8_ROWS:
        return INT8_ROWS[name]
    try:
        fmt = format(which)
    except ValueError:
        raise ValueError(_unknown(which, name)) from None
    if fmt.is_integer and fmt.min_positive == 1:
        raise ValueError(
            f"{fmt} without a scale would round values to whole numbers; there are"
            f" {', '.join(INT8_ROWS)}"
        )
    return FloatRow(fmt)


def _unknown(which: str, name: str) -> str:
    names = [fmt.name for fmt in registered_formats()] + list(INT8_ROWS)
    aliases = [alias for fmt in registered_formats() for alias in fmt.aliases]
    nearest = nearest_names(name, names + aliases)
    return f"no format is called {which!r}; {nearest}known: {', '.join(names)}"


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
        names = checkpoint.names if tensor is None else (tensor,)
        described = {name: (checkpoint.shape(name), checkpoint.dtype(name)) for name in names}
        title = "the sample model" if x is None else os.fspath(path)
        yield _file_source(title, described, checkpoint.__getitem__, tensor)


def _array_source(x: Any) -> _Source:
    values = interop.float_array(x)
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
    """The figures of one row, added up over pieces and tensors."""

    def __init__(self, row: _Row) -> None:
        self.row = row
        self.nbytes = 0
        self.error = NO_ERROR
        self.saturated = 0
        self.flushed = 0

    def add(self, x: Float64, y: Float64, saturated: int) -> None:
        self.saturated += saturated
        with current_backend().float_environment():
            self.error = self.error.merge(piece_error(x, y))
            self.flushed += int(np.count_nonzero((y == 0) & (x != 0)))

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


def _measure(tensor: np.ndarray, tallies: list[_Tally], label: str) -> Iterator[int]:
    """Add one tensor to the tallies, yielding how many values are done after each piece."""
    ranges = functools.cache(functools.partial(_row_ranges, tensor, label))
    fitted = [tally.row.fit(tensor, ranges) for tally in tallies]
    for tally, fit in zip(tallies, fitted, strict=True):
        tally.nbytes += fit.nbytes
    for index in interop.slabs(tensor.shape):
        piece = tensor[index]
        x = widened(piece)
        for tally, fit in zip(tallies, fitted, strict=True):
            tally.add(x, *fit.approximate(piece, x, index))
        yield piece.size


def _row_ranges(tensor: np.ndarray, label: str) -> Float64:
    """Return the least and greatest value of each index of axis 0, or of a tensor without rows."""
    has_rows = tensor.ndim >= 2
    low = np.full(len(tensor) if has_rows else 1, np.inf)
    high = -low
    # A signalling NaN is invalid to compare; it is found all the same.
    with current_backend().float_environment(), np.errstate(invalid="ignore"):
        for index in interop.slabs(tensor.shape):
            here = index[0] if has_rows else ...
            values = widened(tensor[index]).reshape(low[here].size, -1)
            low[here] = np.minimum(low[here], values.min(axis=1))
            high[here] = np.maximum(high[here], values.max(axis=1))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        position, value = interop.first_where(tensor, lambda piece: ~np.isfinite(piece), label)
        raise ValueError(
            f"{position} is {value}; int8 and formats without NaN need finite values: leave them "
            "out, or compare another tensor"
        )
    return np.stack([low, high], axis=1)


def _timed_piece(tensor: np.ndarray) -> np.ndarray:
    """Return the first values of a tensor, whole rows if possible, in memory of their own."""
    limit = TIMED_VALUES_OF_REFERENCE if backend_name() == "reference" else TIMED_VALUES
    first = tensor[next(interop.slabs(tensor.shape, limit))]
    return np.array(first, first.dtype.newbyteorder("="), order="C")


def _speeds(rows: tuple[_Row, ...], piece: np.ndarray) -> tuple[list[tuple[float, float]], float]:
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
    return f"{n:,}", "lost" if n else "none"


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
    (("bits/", "weight"), lambda row: (f"{row.bits_per_weight:.2f}", "")),
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
    yield from (f"{row.note}." for row in comparison.rows if row.note)
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
