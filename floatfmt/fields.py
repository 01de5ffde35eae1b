"""Arrays of codes taken apart into sign, exponent and fraction, and put together."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import interop
from .arrays import report_nan
from .backends import Backend, current_backend
from .formats import Format, FormatLike, format, narrowest_unsigned
from .rounding import Rounding, Rules, rules
from .streaming import run

_as_format = format  # the public functions have a parameter called format

__all__ = ["Category", "Fields", "compose", "decompose"]


class Category(enum.IntEnum):
    """What a code is (IEEE 754-2019 3.4)."""

    ZERO = 0
    SUBNORMAL = 1
    NORMAL = 2
    INFINITE = 3
    NAN = 4


class Details(NamedTuple):
    """What follows from fields: arrays of the same shape and kind; see `Fields`."""

    category: Any
    ulp: Any


@dataclass(frozen=True, eq=False)
class Fields:
    """Codes of one format, taken apart.

    Attributes
    ----------
    sign : array of uint8
        0 or 1; 0 in a format without a sign.
    exponent : array of uint8 or uint16
        The biased exponent, as it stands in the code; 0 in fixed point.
    fraction : array of uint8, uint16, uint32 or uint64
        The fraction field, without the hidden bit; of a negative two's complement code its bits as
        they stand.
    format : Format
        The format of the codes.
    exact : array of bool, or None
        Where values of another format were rounded first: whether each is one of this format's.
    details : Details or None
        Category and ulp, where `decompose` was asked for them; else they are worked out when they
        are looked at.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> fields = ff.decompose(np.float16([1.0, -0.375]))
    >>> fields.sign, fields.exponent, fields.fraction
    (array([0, 1], dtype=uint8), array([15, 13], dtype=uint8), array([  0, 512], dtype=uint16))
    >>> fields.unbiased_exponent, fields.significand / 2**10
    (array([ 0, -2], dtype=int16), array([1. , 1.5]))
    """

    sign: Any
    exponent: Any
    fraction: Any
    format: Format
    exact: Any = None
    details: Details | None = field(default=None, compare=False, repr=False)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, parts: tuple[Any, ...], format: Format) -> Fields:
        """Return sign, exponent and fraction of codes as fields, of which nothing more is known.

        A frozen dataclass sets them one by one, which takes a fifth of a small array's time.
        """
        made = object.__new__(cls)
        fields = made.__dict__
        fields["sign"], fields["exponent"], fields["fraction"] = parts
        fields["format"], fields["exact"], fields["details"] = format, None, None
        return made

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.sign.shape)) or "0-d"
        parts = ("sign", "exponent", "fraction")
        rows = (
            np.array2string(interop.to_numpy(getattr(self, part)), threshold=16, prefix=" " * 10)
            for part in parts
        )
        lines = (f"{part:10}{row}" for part, row in zip(parts, rows, strict=True))
        return "\n".join((f"fields of {self.format}, {shape}", *lines))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the format's name and the arrays as nested lists, ready for JSON."""
        parts = ("sign", "exponent", "fraction", *(() if self.exact is None else ("exact",)))
        lists = {part: interop.to_numpy(getattr(self, part)).tolist() for part in parts}
        return {"format": self.format.name, **lists}

    @property
    def unbiased_exponent(self) -> Any:
        """int16: the exponent of each finite value's binade; subnormals and zeros have emin.

        Inf and NaN have what their exponent field says.
        """
        exponent = interop.to_numpy(self.exponent).astype(np.int16)
        unbiased = np.maximum(exponent, np.int16(self.format.zero)) - np.int16(self.format.bias)
        return interop.like(unbiased, self.exponent)

    @property
    def significand(self) -> Any:
        """Unsigned: the fraction with its hidden bit, ``significand / 2**fraction_bits`` in [0, 2).

        Inf and NaN of the IEEE layout have the fraction alone.
        """
        fmt = self.format
        exponent = interop.to_numpy(self.exponent)
        dtype = narrowest_unsigned(fmt.fraction_bits + 1)
        hidden = (exponent != 0) | (not fmt.zero)
        if fmt.nan == "ieee":
            hidden &= exponent != fmt.exponent_mask
        shifted = hidden.astype(dtype) << dtype.type(fmt.fraction_bits)
        return interop.like(interop.to_numpy(self.fraction).astype(dtype) | shifted, self.fraction)

    @property
    def category(self) -> Any:
        """uint8: each code's ``Category``."""
        return self._details().category

    @property
    def ulp(self) -> Any:
        """float64: the spacing of the format's values in each value's binade; NaN for Inf and NaN.

        A zero has the spacing of the subnormals.
        """
        return self._details().ulp

    def _details(self) -> Details:
        if self.details is not None:
            return self.details
        parts = (interop.to_numpy(part) for part in (self.sign, self.exponent, self.fraction))
        with current_backend().float_environment():
            found = _details_of(self.format, *parts)
        return Details(*(interop.like(array, self.exponent) for array in found))


def _details_of(
    fmt: Format, sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray
) -> Details:
    shift = np.uint64(fmt.fraction_bits)
    magnitude = exponent.astype(np.uint64) << shift | fraction.astype(np.uint64)
    category = np.full(magnitude.shape, Category.NORMAL, np.uint8)
    if fmt.zero:
        if not fmt.is_integer:
            category[magnitude <= fmt.fraction_mask] = Category.SUBNORMAL
        category[(magnitude == 0) & (not fmt.twos_complement or sign == 0)] = Category.ZERO
    if not fmt.twos_complement:
        category[magnitude > fmt.max_code] = Category.NAN
    if fmt.infinity_code is not None:
        category[magnitude == fmt.infinity_code] = Category.INFINITE
    if fmt.nan == "negative_zero":
        category[(magnitude == 0) & (sign == 1)] = Category.NAN
    unbiased = np.maximum(exponent.astype(np.int32), int(fmt.zero)) - fmt.bias
    ulp = np.ldexp(1.0, unbiased - fmt.fraction_bits)
    return Details(category, np.where(category < Category.INFINITE, ulp, np.nan))


@functools.lru_cache(maxsize=16)
def _details_table(fmt: Format) -> Details:
    """Return the details of every code of a narrow format, to be looked up."""
    codes = np.arange(2**fmt.bits, dtype=fmt.code_dtype)
    return _details_of(fmt, *_split(codes, fmt))


def _split(codes: np.ndarray, fmt: Format) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sign, exponent and fraction of codes."""
    return (
        (codes & fmt.sign_bit != 0).astype(np.uint8),
        codes >> fmt.fraction_bits & fmt.exponent_mask,
        codes & fmt.fraction_mask,
    )


@functools.lru_cache(maxsize=128)
def field_dtypes(fmt: Format) -> tuple[np.dtype, np.dtype, np.dtype]:
    """Return the dtypes of sign, exponent and fraction: the narrowest that hold the fields."""
    return (
        np.dtype(np.uint8),
        narrowest_unsigned(fmt.exponent_bits),
        narrowest_unsigned(fmt.fraction_bits),
    )


def decompose(
    x: Any,
    format: FormatLike | None = None,
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    details: bool = False,
    out: tuple[Any, Any, Any] | None = None,
) -> Fields:
    """Take every code of an array apart into sign, biased exponent and fraction.

    Parameters
    ----------
    x : array
        Values of fp64, fp32, fp16 or bf16; or, with `format`, its codes, or values that are rounded
        to it first. NumPy or torch, any shape, strides and byte order.
    format : Format, str or dtype, optional
        The format of the codes; that of x's dtype by default.
    rounding : str
        How values of another format are rounded to `format`; else as `encode`'s defaults.
    details : bool
        Whether ``category`` and ``ulp`` are worked out too, in the same pass over memory.
    out : tuple of three arrays, optional
        Where sign, exponent and fraction go; dtypes as in `Fields`.

    Returns
    -------
    Fields
        Arrays of x's shape and kind. Every code has fields, NaN and Inf too. ``category`` and
        ``ulp`` follow from them; ``exact`` says which values the format holds.

    Raises
    ------
    TypeError
        x holds neither floats nor codes of the format.
    ValueError
        A code is out of range; a NaN has no code.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.decompose(np.uint16([0x3F80, 0x7F80]), "bf16").exponent
    array([127, 255], dtype=uint8)
    >>> fields = ff.decompose(np.float32([0.1, 0.375, 1e-9]), "fp8_e4m3fn")
    >>> fields.exact, [ff.Category(c).name for c in fields.category]
    (array([False,  True, False]), ['NORMAL', 'NORMAL', 'ZERO'])
    >>> fields.ulp.tolist()
    [0.0078125, 0.03125, 0.001953125]
    """
    if format is None:
        values, is_code = interop.float_array(x), True
        fmt, patterns, dtypes, how = _own(values.dtype, rounding)
        source = values.view(patterns)
    else:
        fmt, array = _as_format(format), interop.to_numpy(x)
        is_code = array.dtype.kind in "u" or interop.holds_values_of(array.dtype, fmt)
        source = interop.codes_array(x, fmt) if is_code else interop.values_array(x)
        dtypes, how = field_dtypes(fmt), _no_draw(rules(fmt, rounding))
    arrays = _outputs(out, dtypes, source)
    more: dict[str, np.ndarray] = {}
    if not is_code:
        more["exact"] = np.empty_like(source, np.bool_)
    if details:
        more["category"] = np.empty_like(source, np.uint8)
        more["ulp"] = np.empty_like(source, np.float64)
    if not more:
        run(_split_piece, (source,), arrays, fmt, fresh=out is None)
    else:
        outputs, names = (*arrays, *more.values()), tuple(more)
        if not run(_decompose_piece, (source,), outputs, how, names, whole=False):
            report_nan(source, how)
    if out is not None or type(x) is not np.ndarray:
        arrays = tuple(
            interop.like(array, x) if given is None else given
            for array, given in zip(arrays, out or (None,) * 3, strict=True)
        )
    if not more:
        return Fields.of(arrays, fmt)
    found = {name: interop.like(array, x) for name, array in more.items()}
    exact = found.pop("exact", None)
    sign, exponent, fraction = arrays
    known = Details(**found) if details else None
    return Fields(sign, exponent, fraction, fmt, exact, known)


@functools.lru_cache(maxsize=128)
def _own(
    dtype: np.dtype, rounding: str | Rounding
) -> tuple[Format, np.dtype, tuple[np.dtype, ...], Rules]:
    """Return the format of a dtype's values, the dtypes of their codes and fields, and rules."""
    fmt = _as_format(dtype)
    patterns = fmt.code_dtype.newbyteorder(dtype.byteorder)
    return fmt, patterns, field_dtypes(fmt), _no_draw(rules(fmt, rounding))


def _outputs(out: Any, dtypes: tuple[np.dtype, ...], source: np.ndarray) -> tuple[Any, ...]:
    """Return arrays for the fields: those of ``out=``, which are checked, or new ones for None."""
    if out is None:
        if not source.flags.c_contiguous:
            return tuple(np.empty_like(source, dtype) for dtype in dtypes)
        shape, (sign, exponent, fraction) = source.shape, dtypes  # empty_like takes twice as long
        return np.empty(shape, sign), np.empty(shape, exponent), np.empty(shape, fraction)
    outs = tuple(out)
    if len(outs) != 3:
        raise ValueError(f"out= must be three arrays (sign, exponent, fraction), got {len(outs)}")
    arrays: tuple[np.ndarray, ...] = ()
    for one, dtype in zip(outs, dtypes, strict=True):
        arrays += (interop.checked_out(one, dtype, source, *arrays),)
    return arrays


def _split_piece(
    backend: Backend,
    _: int,
    codes: np.ndarray,
    sign: np.ndarray,
    exponent: np.ndarray,
    fraction: np.ndarray,
    fmt: Format,
) -> None:
    backend.decompose(codes, fmt, sign, exponent, fraction)


def _decompose_piece(
    backend: Backend,
    _: int,
    source: np.ndarray,
    sign: np.ndarray,
    exponent: np.ndarray,
    fraction: np.ndarray,
    *more: Any,
) -> bool:
    """Take a piece of codes or values apart, with all else that was asked for, while in cache."""
    *columns, how, names = more
    fmt, outs = how.format, dict(zip(names, columns, strict=True))
    codes, fine = source, True
    if "exact" in outs:
        codes, decoded = np.empty(source.shape, fmt.code_dtype), np.empty(source.shape)
        fine = backend.encode(source, how, codes)
        backend.decode(codes, fmt, decoded)
        wide = source.astype(np.float64)
        outs["exact"][...] = (decoded == wide) | (np.isnan(decoded) & np.isnan(wide))
    backend.decompose(codes, fmt, sign, exponent, fraction)
    if "ulp" in outs:
        is_narrow = fmt.bits <= 16
        table = _details_table(fmt) if is_narrow else _details_of(fmt, sign, exponent, fraction)
        for name, column in zip(Details._fields, table, strict=True):
            outs[name][...] = column[codes] if is_narrow else column
    return fine


def _no_draw(how: Rules) -> Rules:
    if how.rounding is Rounding.STOCHASTIC:
        raise ValueError("rounding='stochastic' is for encode and round_to: it takes a seed")
    return how


def compose(
    fields: Fields | tuple[Any, Any, Any],
    format: FormatLike | None = None,
    *,
    out: Any = None,
) -> Any:
    """Join sign, biased exponent and fraction to codes: the inverse of `decompose`.

    Parameters
    ----------
    fields : Fields or (sign, exponent, fraction)
        Unsigned arrays of one shape; any unsigned dtype that can be cast to the field's.
    format : Format, str or dtype, optional
        Needed where `fields` is a plain tuple.
    out : array, optional
        Where the codes go.

    Returns
    -------
    array of codes
        Unsigned, of the format's ``code_dtype``.

    Raises
    ------
    ValueError
        A part does not fit its field; the message names the first.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> codes = ff.compose(ff.decompose(np.float32([1.5, -0.0])))
    >>> codes.view(np.float32)
    array([ 1.5, -0. ], dtype=float32)
    """
    if isinstance(fields, Fields):
        parts: tuple[Any, ...] = (fields.sign, fields.exponent, fields.fraction)
        format = fields.format if format is None else format
    else:
        parts = tuple(fields)
    if format is None or len(parts) != 3:
        raise TypeError("compose takes Fields, or (sign, exponent, fraction) and a format")
    fmt = _as_format(format)
    names = ("sign", "exponent", "fraction")
    arrays = tuple(
        _field(part, name, dtype)
        for part, name, dtype in zip(parts, names, field_dtypes(fmt), strict=True)
    )
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"sign, exponent and fraction must have one shape, got {shapes}")
    codes = interop.checked_out(out, fmt.code_dtype, *arrays)
    fits = run(
        lambda backend, _, *parts: backend.compose(*parts[:3], fmt, parts[3]), arrays, (codes,)
    )
    if not fits:
        _report_stray(arrays, fmt)
    return interop.like(codes, parts[0]) if out is None else out


def _field(part: Any, name: str, dtype: np.dtype) -> np.ndarray:
    array = interop.to_numpy(part)
    if array.dtype.kind != "u":
        raise TypeError(f"{name} must be an array of {dtype}, got {interop.describe(part)}")
    if array.dtype.newbyteorder("=") == dtype or array.dtype.itemsize < dtype.itemsize:
        return array.astype(dtype, copy=False)
    limit = np.iinfo(dtype).max
    if array.size and int(array.max()) > limit:
        position, value = interop.first_where(array, _above(limit), name)
        raise ValueError(f"{position} is {value}, which {dtype} cannot hold")
    return array.astype(dtype)


def _report_stray(arrays: tuple[np.ndarray, ...], fmt: Format) -> None:
    limits = (int(fmt.signed), fmt.exponent_mask, fmt.fraction_mask)
    names = ("sign", "exponent", "fraction")
    for array, name, limit in zip(arrays, names, limits, strict=True):
        if array.size and int(array.max()) > limit:
            position, value = interop.first_where(array, _above(limit), name)
            raise ValueError(f"{position} is {value}; {name} of {fmt} is at most {limit}")


def _above(limit: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array > limit
