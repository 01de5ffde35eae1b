"""Arrays of numbers rounded from one format to another."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from . import interop
from .backends import Backend, decode_plain, encode_plain
from .formats import Format, FormatLike, format
from .rounding import Rounding, Rules, fresh_seed, rules, word64
from .streaming import run

_as_format = format  # the public functions have a parameter called format

__all__ = ["astype", "decode", "encode", "report_nan", "round_to"]


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
        too) lies what `overflow` says, except that toward_zero, toward_positive and to_odd give 0
        where there is one.

    Raises
    ------
    ValueError
        A NaN has no code (the message names the first); an option is unknown; an integer is one
        that fp64 does not hold.
    TypeError
        x holds complex numbers, text or objects.

    Notes
    -----
    fp64 is rounded once, as IEEE 754-2019 5.4.2 (formatOf) has it, not to fp32 and then again.

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
    if type(x) is np.ndarray and (out is None or type(out) is np.ndarray):
        plain = encode_plain(x, how, out)
        if plain is not None:
            return plain
    values = interop.values_array(x)
    codes = interop.checked_out(out, how.code_dtype, values)
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
    key = (fresh_seed() if seed is None else word64(seed)) if stochastic else 0
    if not run(kernel, (values,), (out,), how, key, whole=whole, in_order=stochastic):
        report_nan(values, how)


def _encode(
    backend: Backend, start: int, values: np.ndarray, codes: np.ndarray, how: Rules, seed: int
) -> bool:
    return backend.encode(values, how, codes, (seed, start))


def report_nan(values: np.ndarray, how: Rules) -> NoReturn:
    """Raise the error that names the first NaN."""
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
        Codes of the format, in its ``code_dtype`` or any integers, or an array of the dtype that
        holds its values.
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
    try:
        fmt, wanted, filled = _cached_decoding(format, dtype)
    except TypeError:  # something without a hash: say what is wrong with it
        fmt, wanted, filled = _decoding(format, dtype)
    is_array = type(codes) is np.ndarray and (out is None or type(out) is np.ndarray)
    if is_array and filled is not None and codes.dtype == filled:
        plain = decode_plain(codes, fmt, wanted, out)
        if plain is not None:
            return plain
    array = interop.codes_array(codes, fmt)
    values = interop.checked_out(out, wanted, array)
    run(_decode, (array,), (values,), fmt)
    return interop.like(values, codes) if out is None else out


def _decode(
    backend: Backend, start: int, codes: np.ndarray, values: np.ndarray, fmt: Format
) -> None:
    backend.decode(codes, fmt, values)


def _decoding(format: FormatLike, dtype: Any) -> tuple[Format, np.dtype, np.dtype | None]:
    """Return the format of codes, their values' dtype, and the codes' if it holds no others."""
    fmt = _as_format(format)
    filled = fmt.code_dtype if fmt.bits == 8 * fmt.code_dtype.itemsize else None
    if dtype is None:
        return fmt, fmt.value_dtype, filled
    wanted = _as_format(dtype)
    if wanted.name not in ("fp32", "fp64"):
        raise ValueError(f"decode gives float32 or float64, got dtype={dtype!r}")
    if wanted.name == "fp32" and fmt.value_dtype != np.float32:
        raise ValueError(f"float32 does not hold the normals of {fmt} as normals; use float64")
    return fmt, np.dtype(wanted.dtype), filled


_cached_decoding = functools.lru_cache(maxsize=1024)(_decoding)


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
    is_wider = fmt.holds(source) and fmt != source and fmt.nan == "ieee" and fmt.has_negative_zero
    if is_wider and how.with_rounding("nearest_even").is_default:
        rounded[...] = values  # Inf, NaN and -0 are the format's too
    elif source.holds(fmt):
        wide = source.value_dtype == source.dtype
        _convert(_round_wide if wide else _round_narrow, values, rounded, how, seed, whole=wide)
    else:
        raise ValueError(
            f"{source} does not hold every value of {fmt}; cast x to float32 or float64 first"
        )
    return interop.like(rounded, x) if out is None else out


def _round_wide(
    backend: Backend, start: int, values: np.ndarray, out: np.ndarray, how: Rules, seed: int
) -> bool:
    return backend.round_to(values, how, out, (seed, start))


def _round_narrow(
    backend: Backend, start: int, values: np.ndarray, out: np.ndarray, how: Rules, seed: int
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
