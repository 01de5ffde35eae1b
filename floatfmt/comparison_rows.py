"""What a comparison has a row for: formats that values are cast to, and quantisation schemes.

Each row puts a tensor into its format part by part, so that memory does not grow with the tensor.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from . import exact, interop
from .arrays import decode, encode
from .backends import Float64, current_backend
from .elements import Codebook
from .error_figures import widened
from .formats import Format, FormatLike, format, nearest_names
from .formats import formats as registered_formats
from .quantization import quantize, settle
from .quantizing import approximate
from .schemes import EXAMPLES, SCHEMES, named, parse

__all__ = ["DEFAULT_ROWS", "Contender", "Measured", "Row", "RowLike", "Visit", "rows_of"]

DEFAULT_ROWS = (
    *("fp32", "bf16", "fp16", "fp8_e4m3fn", "fp8_e4m3fn_row", "mxfp8_e4m3fn"),
    *("int8_absmax", "int8_zeropoint", "int8_absmax_row", "int4_block32"),
    *("nf4", "mxfp4", "nvfp4"),
)

#: What `rows_of` takes as a row.
RowLike: TypeAlias = "FormatLike | Codebook | tuple[str, dict[str, Any]]"
#: Takes some of a tensor's values, and what they become.
Visit: TypeAlias = Callable[[Float64, Float64], None]


class Measured(NamedTuple):
    """What is known of a tensor in a format beside what its values become.

    Attributes
    ----------
    nbytes : int
        Bytes that have to be stored.
    saturated : int
        Finite values that became Inf or NaN, or were clamped.
    """

    nbytes: int
    saturated: int


class Contender(NamedTuple):
    """A function to time, and the bytes it reads and writes."""

    run: Callable[[], object]
    nbytes: int


class Row(Protocol):
    """A format that values can be put in."""

    @property
    def name(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def needs_finite(self) -> bool:
        """Whether there is no code for NaN and Inf."""

    def put(self, tensor: np.ndarray, visit: Visit) -> Measured:
        """Put a tensor in the format, and show `visit` all its values, some at a time."""

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[Contender, Contender]:
        """Return encoding and decoding a piece; `scratch` gives an array of its shape."""


class FloatRow(NamedTuple):
    """A format that values are cast to, stored in the codes that ``ff.encode`` gives."""

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

    @property
    def needs_finite(self) -> bool:
        return self.format.nan is None

    def put(self, tensor: np.ndarray, visit: Visit) -> Measured:
        saturated = 0
        for index in interop.slabs(tensor.shape):
            piece = tensor[index]
            x, codes = widened(piece), encode(piece, self.format)
            y: Float64 = decode(codes, self.format, dtype=np.float64)
            visit(x, y)
            if self.format.has_finite_codes_only:
                low, high = _rounding_range(self.format)
                lost = (x < low) | (x > high)
            else:
                lost = np.isfinite(x) & ~np.isfinite(y)
            saturated += int(np.count_nonzero(lost))
        return Measured(self.format.packed_nbytes(tensor.size), saturated)

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[Contender, Contender]:
        codes = encode(piece, self.format)
        values = scratch(self.format.value_dtype)
        return (
            Contender(lambda: encode(piece, self.format, out=codes), piece.nbytes + codes.nbytes),
            Contender(lambda: decode(codes, self.format, out=values), codes.nbytes + values.nbytes),
        )


@functools.lru_cache(maxsize=64)
def _rounding_range(fmt: Format) -> tuple[float, float]:
    """Return the least and the greatest value that rounds without being clamped."""
    low, high = exact.encode(fmt.lowest, fmt), fmt.max_code
    intervals = [exact.rounding_interval(code, fmt) for code in (low, high)]
    ends = float(intervals[0][0]), float(intervals[1][1])
    return (
        ends[0] if intervals[0][2] else math.nextafter(ends[0], math.inf),
        ends[1] if intervals[1][2] else math.nextafter(ends[1], -math.inf),
    )


class QuantizedRow(NamedTuple):
    """A scheme: a name for options of ``ff.quantize``."""

    name: str
    options: tuple[tuple[str, Any], ...]
    note: str = ""
    needs_finite: bool = True

    def _options(self, ndim: int) -> dict[str, Any]:
        """Return the options for a tensor; one without rows has a single scale."""
        options = dict(self.options)
        return options | ({"axis": ()} if options.get("axis") == 0 and ndim < 2 else {})

    def put(self, tensor: np.ndarray, visit: Visit) -> Measured:
        source = format(tensor.dtype)
        plan, groups = settle(tensor.shape, source, **self._options(tensor.ndim))
        with current_backend().float_environment():
            q = approximate(tensor, plan, groups, lambda x, y: visit(widened(x), widened(y)))
        return Measured(q.nbytes, q.saturated)

    def contenders(
        self, piece: np.ndarray, scratch: Callable[[np.dtype], np.ndarray]
    ) -> tuple[Contender, Contender]:
        options = self._options(piece.ndim)
        q = quantize(piece, **options)
        stored, values = np.empty_like(q.packed), scratch(piece.dtype)
        return (
            Contender(lambda: quantize(piece, **options, out=stored), piece.nbytes + stored.nbytes),
            Contender(lambda: q.dequantize(out=values), stored.nbytes + values.nbytes),
        )


# --- what a caller may ask for ------------------------------------------------------------------


def rows_of(wanted: RowLike | Iterable[RowLike]) -> tuple[Row, ...]:
    """Return a row for each of what is wanted; one asked for twice is one row.

    Raises
    ------
    ValueError, TypeError
        One is not known, or its options do not go together; or there is none.
    """
    one = isinstance(wanted, (str, Codebook)) or not isinstance(wanted, Iterable)
    each = [wanted] if one else cast("Iterable[RowLike]", wanted)
    rows: list[Row] = []
    for row in map(_row, each):
        if row not in rows:
            rows.append(row)
    if not rows:
        raise ValueError("no format to compare is given")
    return tuple(rows)


def _row(which: Any) -> Row:
    if isinstance(which, Codebook):
        return QuantizedRow(which.name, (("scheme", which),))
    if isinstance(which, tuple):
        return _row_of_options(which)
    name = which.strip().lower() if isinstance(which, str) else which
    try:
        fmt = format(name)
    except ValueError:
        return _scheme_row(which)
    if fmt.is_integer and isinstance(name, str):  # by a scale: else values become whole numbers
        return _scheme_row(name)
    if fmt.is_integer and named(fmt.name) and fmt.min_positive == 1:
        return _scheme_row(fmt.name)
    return FloatRow(fmt)


#: The options of ff.quantize that say how any tensor is quantised, whatever its values.
OPTIONS = (
    *("scheme", "bits", "signed", "axis", "block", "block_axis", "rounding", "seed", "clip"),
    *("scale_dtype", "scale_rule", "include_zero", "double_quantization"),
)


def _row_of_options(which: tuple[Any, ...]) -> Row:
    match which:
        case (str(name), dict(options)):
            for option in options:
                if option not in OPTIONS:
                    raise TypeError(
                        f"{name}: a row's options are {', '.join(OPTIONS)}; got {option!r}"
                    )
            return _checked(QuantizedRow(name, tuple(options.items())))
    raise TypeError(f"a row is a name, a format, or (name, options of ff.quantize), got {which!r}")


def _scheme_row(which: str) -> Row:
    name = which.strip().lower()
    try:
        options = parse(name)
    except ValueError:
        raise ValueError(_unknown(which, name)) from None
    return _checked(QuantizedRow(name, tuple(options.items())))


def _checked(row: QuantizedRow) -> QuantizedRow:
    """Return the row, if its options go together."""
    try:
        # As many axes as there may be: which of them a tensor has is known later.
        settle((1,) * 8, format("fp32"), **({"scheme": None} | dict(row.options)))
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"{row.name}: {exc}") from None
    return row


def _unknown(which: str, name: str) -> str:
    names = [fmt.name for fmt in registered_formats() if not fmt.is_integer]
    aliases = [alias for fmt in registered_formats() for alias in fmt.aliases]
    schemes = [scheme for scheme in SCHEMES if named(scheme) and scheme not in names]
    every = [*names, *aliases, *schemes, *EXAMPLES, *DEFAULT_ROWS]
    nearest = nearest_names(name, dict.fromkeys(every))
    return (
        f"no format is called {which!r}; {nearest}known: {', '.join(names)}; and schemes such as"
        f" {', '.join(dict.fromkeys([*EXAMPLES, *schemes]))}"
    )
