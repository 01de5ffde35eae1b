"""Arrays of numbers taken apart, put together, rounded from one format to another, and packed."""

from __future__ import annotations

import enum
import functools
import operator
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from . import interop
from .backends import Backend, current_backend, runs_reference
from .formats import Format, FormatLike, format, narrowest_unsigned
from .rounding import Rounding, Rules, rules

_as_format = format  # the public functions have a parameter called format

__all__ = [
    "Category",
    "Fields",
    "astype",
    "compose",
    "decode",
    "decompose",
    "encode",
    "pack",
    "round_to",
    "unpack",
]


class Category(enum.IntEnum):
    """What a code is (IEEE 754-2019 3.4)."""

    ZERO = 0
    SUBNORMAL = 1
    NORMAL = 2
    INFINITE = 3
    NAN = 4


@dataclass(frozen=True, slots=True, eq=False)
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

    __hash__ = None  # type: ignore[assignment]

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

    def _magnitude(self) -> np.ndarray:
        """Return each code without its sign, as uint64."""
        exponent, fraction = interop.to_numpy(self.exponent), interop.to_numpy(self.fraction)
        shift = np.uint64(self.format.fraction_bits)
        return exponent.astype(np.uint64) << shift | fraction.astype(np.uint64)

    @property
    def category(self) -> Any:
        """uint8: each code's ``Category``."""
        fmt, sign = self.format, interop.to_numpy(self.sign)
        magnitude = self._magnitude()
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
        return interop.like(category, self.exponent)

    @property
    def ulp(self) -> Any:
        """float64: the spacing of the format's values in each value's binade; NaN for Inf and NaN.

        A zero has the spacing of the subnormals.
        """
        unbiased = interop.to_numpy(self.unbiased_exponent)
        category = interop.to_numpy(self.category)
        with current_backend().float_environment():
            ulp = np.ldexp(1.0, unbiased.astype(np.int32) - self.format.fraction_bits)
            return interop.like(np.where(category < Category.INFINITE, ulp, np.nan), self.exponent)


def _run(
    kernel: Callable[..., bool | None],
    inputs: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray, ...],
    *,
    whole: bool = True,
    in_order: bool = False,
) -> bool:
    """Call ``kernel(backend, start, *inputs, *outputs)`` over arrays; False if any returned it.

    The reference makes temporaries of its arguments' size, so it never gets an array whole. A C
    kernel on whole arrays sees to the floating-point environment itself.
    """
    backend = current_backend()
    is_reference = runs_reference(backend)
    arrays = (*inputs, *outputs)
    if whole and not is_reference and all(map(interop.is_plain, arrays)):
        return kernel(backend, 0, *(array.reshape(-1) for array in arrays)) is not False
    with backend.float_environment():
        return interop.stream(
            functools.partial(kernel, backend),
            inputs,
            outputs,
            whole=whole and not is_reference,
            in_order=in_order,
        )


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
    fmt = _format_of(x) if format is None else _as_format(format)
    array = interop.to_numpy(x)
    is_code = array.dtype.kind in "u" or interop.holds_values_of(array.dtype, fmt)
    source = interop.codes_array(x, fmt) if is_code else interop.values_array(x)
    dtypes = field_dtypes(fmt)
    outs = (None,) * 3 if out is None else tuple(out)
    if len(outs) != 3:
        raise ValueError(f"out= must be three arrays (sign, exponent, fraction), got {len(outs)}")
    arrays: tuple[np.ndarray, ...] = ()
    for one, dtype in zip(outs, dtypes, strict=True):
        arrays += (interop.checked_out(one, dtype, source, *arrays),)
    exact = None
    if is_code:
        _run(lambda b, _, codes, *parts: b.decompose(codes, fmt, *parts), (source,), arrays)
    else:
        exact = np.empty_like(source, np.bool_)
        how = _no_draw(rules(fmt, rounding))
        kernel = functools.partial(_decompose_values, how=how)
        if not _run(kernel, (source,), (*arrays, exact), whole=False):
            _report_nan(source, how)
    sign, exponent, fraction = (
        interop.like(array, x) if given is None else given
        for array, given in zip(arrays, outs, strict=True)
    )
    return Fields(sign, exponent, fraction, fmt, None if exact is None else interop.like(exact, x))


def _decompose_values(
    backend: Backend,
    _: int,
    values: np.ndarray,
    sign: np.ndarray,
    exponent: np.ndarray,
    fraction: np.ndarray,
    exact: np.ndarray,
    *,
    how: Rules,
) -> bool:
    fmt = how.format
    codes, decoded = np.empty(values.shape, fmt.code_dtype), np.empty(values.shape)
    fine = backend.encode(values, how, codes)
    backend.decode(codes, fmt, decoded)
    backend.decompose(codes, fmt, sign, exponent, fraction)
    wide = values.astype(np.float64)
    np.equal(decoded, wide, out=exact)
    exact |= np.isnan(decoded) & np.isnan(wide)
    return fine


def _no_draw(how: Rules) -> Rules:
    if how.rounding is Rounding.STOCHASTIC:
        raise ValueError("rounding='stochastic' is for encode and round_to: it takes a seed")
    return how


def _format_of(x: Any) -> Format:
    return _as_format(interop.float_array(x).dtype)


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
    fits = _run(
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


def encode(
    x: Any,
    format: FormatLike,
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
    seed: int | None = None,
    out: Any = None,
) -> Any:
    """Round every value to a code of a format, in one rounding.

    Parameters
    ----------
    x : array
        fp64, fp32, fp16 or bf16 values; fp8 and narrower dtypes and integers, which are widened
        first, exactly. NumPy, ml_dtypes, torch or any array API library; any shape, strides and
        byte order.
    format : Format, str or dtype
        The target.
    rounding : Rounding or str
        "nearest_even", "nearest_away", "toward_zero", "toward_positive", "toward_negative",
        "to_odd" (inexact values go to the neighbour of odd code), "stochastic" (to either neighbour
        with the probability of its nearness); or IEEE 754-2019's names. Ties and oddness are those
        of the code, so they are defined for a precision of one bit too.
    overflow : {"ieee", "saturate", "nan"}
        What finite values that round beyond the largest one become, and Inf. "ieee": Inf where the
        format has it, else NaN where it has that, else the largest value. "saturate": the largest
        value, Inf too. "nan": NaN; Inf stays Inf where there is one. Directed roundings toward zero
        and "to_odd" never overflow a finite value: it becomes the largest.
    nan : {"quiet", "preserve", "canonical", "error", "zero", "largest"}
        What NaN becomes. "quiet": a quiet NaN of its sign with the leading bits of its payload;
        "preserve": the same, but a signalling NaN stays one; "canonical": the positive quiet NaN;
        "error": a ValueError; "zero" and "largest": these values. In a format without NaN the first
        three are errors too. Never Inf.
    subnormals : {"keep", "flush"}
        Whether results among the format's subnormals become zeros of their sign.
    seed : int, optional
        0 to 2**64 - 1, for "stochastic": the same seed gives the same codes on every backend.
    out : array, optional
        Where the codes go: the format's ``code_dtype``, x's shape.

    Returns
    -------
    array of codes
        Unsigned, right-aligned, of x's shape and kind.

        A zero keeps its sign where the format has -0. Subnormals are rounded like all else, at
        their own spacing. Below the least value of a format without sign (negatives; for e8m0, 0
        too) lies what `overflow` says, except that directed and odd rounding give 0.

    Raises
    ------
    ValueError
        A NaN has no code (the message names the first); an option is unknown; an integer is one
        that fp64 does not hold.
    TypeError
        x holds complex numbers, text or objects.

    Notes
    -----
    fp64 is rounded from its own 64 bits, never through fp32 (IEEE 754-2019 5.4.2, formatOf).

    Stochastic rounding goes up where 32 random bits added to the discarded fraction's leading 32
    bits carry. The bits are Philox4x32-10's (Salmon and others, SC 2011): key = seed, word
    ``i % 4`` of counter ``i // 4`` for the element of flat C-order index i.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> [hex(code) for code in ff.encode(np.float64([1 / 3, 1 + 2**-11 + 2**-40]), "fp16")]
    ['0x3555', '0x3c01']
    >>> ff.encode(np.float32([0.3, 7.0]), "fp4_e2m1fn", rounding="toward_positive")
    array([1, 7], dtype=uint8)
    """
    how = _rules(format, rounding, overflow, nan, subnormals)
    values = interop.values_array(x)
    codes = interop.checked_out(out, how.format.code_dtype, values)
    _convert(_encode, values, codes, how, seed)
    return interop.like(codes, x) if out is None else out


@functools.lru_cache(maxsize=1024)
def _cached_rules(format: FormatLike, *options: str) -> Rules:
    return rules(_as_format(format), *options)


def _rules(format: FormatLike, *options: str) -> Rules:
    try:
        return _cached_rules(format, *options)
    except TypeError:  # something without a hash: say what is wrong with it
        return rules(_as_format(format), *options)


def _convert(
    kernel: Callable[..., bool],
    values: np.ndarray,
    out: np.ndarray,
    how: Rules,
    seed: int | None,
    *,
    whole: bool = True,
) -> None:
    """Run ``kernel(backend, start, values, out, how, seed)``; a NaN without a code is an error."""
    stochastic = how.rounding is Rounding.STOCHASTIC
    key = _seed(seed) if stochastic else 0
    run = functools.partial(kernel, how=how, seed=key)
    if not _run(run, (values,), (out,), whole=whole, in_order=stochastic):
        _report_nan(values, how)


def _encode(
    backend: Backend, start: int, values: np.ndarray, codes: np.ndarray, *, how: Rules, seed: int
) -> bool:
    return backend.encode(values, how, codes, (seed, start))


def _seed(seed: int | None) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer, got {seed!r}") from None
    if not 0 <= number < 2**64:
        raise ValueError(f"seed must lie in 0 to 2**64 - 1, got {seed!r}")
    return number


def _report_nan(values: np.ndarray, how: Rules) -> NoReturn:
    position, value = interop.first_where(values, np.isnan)
    if how.format.nan is not None:
        raise ValueError(f"{position} is {value}, and nan='error'")
    raise ValueError(
        f"{position} is {value}, and {how.format} has no NaN; nan='zero' or nan='largest' gives it"
        " a value"
    )


def decode(codes: Any, format: FormatLike, *, dtype: Any = None, out: Any = None) -> Any:
    """Return the exact values of codes.

    Parameters
    ----------
    codes : array
        Codes of the format, in its ``code_dtype``, or an array of the dtype that holds its values.
    format : Format, str or dtype
        The codes' format.
    dtype : float32 or float64, optional
        By default float32 where it holds every value of the format, else float64.
    out : array, optional
        Where the values go.

    Returns
    -------
    array of float32 or float64
        NaNs keep their sign, payload and signalling bit; one that has no payload is quiet.

    Raises
    ------
    ValueError
        `dtype` cannot hold every value of the format, or a code is out of range.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.decode(np.uint16([0x3C00, 0x0001, 0xFC00]), "fp16")
    array([1.0000000e+00, 5.9604645e-08,          -inf], dtype=float32)
    >>> ff.decode(np.uint8([0x7E, 0x7F]), "fp8_e4m3fn")
    array([448.,  nan], dtype=float32)
    """
    fmt = _as_format(format)
    array = interop.codes_array(codes, fmt)
    wanted = _value_dtype(fmt, dtype)
    values = interop.checked_out(out, wanted, array)
    _run(lambda backend, _, codes, values: backend.decode(codes, fmt, values), (array,), (values,))
    return interop.like(values, codes) if out is None else out


def _value_dtype(fmt: Format, dtype: Any) -> np.dtype:
    if dtype is None:
        return fmt.value_dtype
    wanted = _as_format(dtype)
    if wanted.name not in ("fp32", "fp64"):
        raise ValueError(f"decode gives float32 or float64, got dtype={dtype!r}")
    if wanted.name == "fp32" and fmt.value_dtype != np.float32:
        raise ValueError(f"float32 does not hold the normals of {fmt} as normals; use float64")
    return np.dtype(wanted.dtype)


def round_to(
    x: Any,
    format: FormatLike,
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
    seed: int | None = None,
    out: Any = None,
) -> Any:
    """Round every value to a value of a format, keeping x's dtype.

    Parameters
    ----------
    x : array
        fp64, fp32, fp16 or bf16 values; NumPy or torch, any shape, strides and byte order.
    format : Format, str or dtype
        The target.
    rounding, overflow, nan, subnormals, seed
        As in `encode`.
    out : array, optional
        Where the values go: x's dtype and shape.

    Returns
    -------
    array
        x's shape, dtype and kind, every value one of the format's; special values as in `encode`.
        By default, where x's dtype has no value that the format lacks, a copy, bit for bit.

    Raises
    ------
    ValueError
        x's dtype does not hold every value of the format (fp16 values, bf16 asked for); as
        `encode`.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.round_to(np.float64([0.1, 65520.0]), "fp16")
    array([0.09997559,        inf])
    >>> ff.round_to(np.float32([0.1, 500.0]), "fp8_e4m3fn", overflow="saturate")
    array([1.015625e-01, 4.480000e+02], dtype=float32)
    """
    how = _rules(format, rounding, overflow, nan, subnormals)
    fmt = how.format
    values = interop.float_array(x)
    source = _as_format(values.dtype)
    rounded = interop.checked_out(out, np.dtype(source.dtype), values)
    if fmt.holds(source) and fmt != source and how.with_rounding("nearest_even").is_default:
        rounded[...] = values
    elif source.holds(fmt):
        wide = source.value_dtype == source.dtype
        _convert(_round_wide if wide else _round_narrow, values, rounded, how, seed, whole=wide)
    else:
        raise ValueError(
            f"{source} does not hold every value of {fmt}; cast x to float32 or float64 first"
        )
    return interop.like(rounded, x) if out is None else out


def _round_wide(
    backend: Backend, start: int, values: np.ndarray, out: np.ndarray, *, how: Rules, seed: int
) -> bool:
    return backend.round_to(values, how, out, (seed, start))


def _round_narrow(
    backend: Backend, start: int, values: np.ndarray, out: np.ndarray, *, how: Rules, seed: int
) -> bool:
    """Round fp16 or bf16 values: the rounded value goes back to their dtype exactly."""
    fmt = how.format
    codes, wide = np.empty(values.shape, fmt.code_dtype), np.empty(values.shape, fmt.value_dtype)
    fine = backend.encode(values, how, codes, (seed, start))
    backend.decode(codes, fmt, wide)
    back = rules(_as_format(values.dtype), nan="preserve")
    return backend.encode(wide, back, out.view(back.format.code_dtype)) and fine


def astype(
    x: Any,
    format: FormatLike,
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
    seed: int | None = None,
) -> Any:
    """Convert to the dtype that holds a format's values, in one rounding.

    Parameters
    ----------
    x : array
        As in `encode`.
    format : Format, str or dtype
        A format with a dtype in NumPy or ml_dtypes, or in torch if x is a tensor.
    rounding, overflow, nan, subnormals, seed
        As in `encode`.

    Returns
    -------
    array
        x's shape and kind, of that dtype.

    Raises
    ------
    TypeError
        The library has no dtype for the format.
    ValueError
        As `encode`.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.astype(np.float64([1 + 2**-8 + 2**-40]), "bf16")
    array([1.00781], dtype=bfloat16)
    """
    fmt = _as_format(format)
    has_dtype = fmt.dtype is not None and (not interop.is_torch(x) or interop.torch_has(fmt.dtype))
    if fmt.dtype is None or not has_dtype:
        library = "torch" if interop.is_torch(x) else "NumPy and ml_dtypes"
        verb = "has" if library == "torch" else "have"
        raise TypeError(f"{library} {verb} no dtype for {fmt}; ff.encode gives its codes")
    how = _rules(fmt, rounding, overflow, nan, subnormals)
    values = interop.values_array(x)
    codes = np.empty_like(values, fmt.code_dtype)
    _convert(_encode, values, codes, how, seed)
    return interop.like(codes.view(fmt.dtype), x)


#: Which code of a byte takes its lowest bits. ONNX and torch pack 4-bit values "low_first",
#: bitsandbytes "high_first".
PACKING_ORDERS = ("low_first", "high_first")


def pack(codes: Any, format: FormatLike, *, order: str = "low_first") -> Any:
    """Pack codes of fewer than 8 bits without gaps, along the last axis.

    Parameters
    ----------
    codes : array
        Codes of the format, of one dimension or more.
    format : Format, str or dtype
        A format of at most 8 bits: 4-bit codes go two in a byte, 6-bit codes four in three bytes.
    order : {"low_first", "high_first"}
        Whether the first code takes the lowest or the highest bits of the first byte.

    Returns
    -------
    array of uint8
        The last axis has ``ceil(n * bits / 8)`` bytes; bits left over at its end are 0.

    Raises
    ------
    ValueError
        The format has more than 8 bits; a code is out of range; an unknown order.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> packed = ff.pack(np.uint8([1, 2, 3]), "fp4_e2m1fn")
    >>> packed, ff.unpack(packed, "fp4_e2m1fn", 3)
    (array([33,  3], dtype=uint8), array([1, 2, 3], dtype=uint8))
    """
    fmt, high_first = _packing(format, order)
    array = interop.plain(interop.codes_array(codes, fmt))
    if array.ndim == 0:
        raise ValueError("pack takes an array of one dimension or more, got 0-d")
    n = array.shape[-1]
    packed = np.empty((*array.shape[:-1], -(-n * fmt.bits // 8)), np.uint8)
    backend = current_backend()
    for source, target in _rows_to_pack(array, packed, 8):
        backend.pack(source, target, fmt.bits, high_first)
    return interop.like(packed, codes)


def unpack(
    packed: Any, format: FormatLike, n: int | None = None, *, order: str = "low_first"
) -> Any:
    """Unpack codes along the last axis: the inverse of `pack`.

    Parameters
    ----------
    packed : array of uint8
        What `pack` gave, in the same order.
    format : Format, str or dtype
        A format of at most 8 bits.
    n : int, optional
        How many codes the last axis holds; as many as fit by default, which counts those that
        filled up the last byte.
    order : {"low_first", "high_first"}
        As in `pack`.

    Returns
    -------
    array of uint8 codes

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.unpack(np.uint8([0x21, 0x43]), "int4", order="high_first")
    array([2, 1, 4, 3], dtype=uint8)
    """
    fmt, high_first = _packing(format, order)
    array = interop.plain(interop.to_numpy(packed))
    if array.dtype != np.uint8 or array.ndim == 0:
        raise TypeError(
            f"expected packed bytes (an array of uint8), got {interop.describe(packed)}"
        )
    room = array.shape[-1] * 8 // fmt.bits
    count = room if n is None else operator.index(n)
    if not 0 <= count <= room or -(-count * fmt.bits // 8) != array.shape[-1]:
        raise ValueError(f"{array.shape[-1]} bytes do not hold {n} codes of {fmt.bits} bits")
    codes = np.empty((*array.shape[:-1], count), np.uint8)
    backend = current_backend()
    for target, source in _rows_to_pack(codes, array, 8):
        backend.unpack(source, target, fmt.bits, high_first)
    return interop.like(codes, packed)


def _packing(which: FormatLike, order: str) -> tuple[Format, bool]:
    fmt = _as_format(which)
    if fmt.bits > 8:
        raise ValueError(f"packing is for codes of at most 8 bits; {fmt} has {fmt.bits}")
    if order not in PACKING_ORDERS:
        raise ValueError(f"order must be one of {', '.join(PACKING_ORDERS)}, got {order!r}")
    return fmt, order == "high_first"


def _rows_to_pack(
    codes: np.ndarray, packed: np.ndarray, group: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield 1-D pairs: everything at once where rows end at bytes, else row by row."""
    if codes.shape[-1] % group == 0:
        yield codes.reshape(-1), packed.reshape(-1)
        return
    rows = codes.reshape(-1, codes.shape[-1]), packed.reshape(-1, packed.shape[-1])
    yield from zip(*rows, strict=True)
