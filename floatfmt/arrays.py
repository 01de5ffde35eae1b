"""Arrays of numbers taken apart, put together, and rounded from one format to another."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import interop
from .backends import Backend, backend_name, current_backend
from .formats import Format, FormatLike, format, narrowest_unsigned

_as_format = format  # the public functions have a parameter called format

__all__ = ["Category", "Fields", "compose", "decode", "decompose", "encode", "round_to"]


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
        0 or 1.
    exponent : array of uint8 or uint16
        The biased exponent, as it stands in the code.
    fraction : array of uint8, uint16, uint32 or uint64
        The fraction field, without the hidden bit.
    format : Format
        The format of the codes.

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
        """Return the format's name and the three arrays as nested lists, ready for JSON."""
        parts = ("sign", "exponent", "fraction")
        lists = {part: interop.to_numpy(getattr(self, part)).tolist() for part in parts}
        return {"format": self.format.name, **lists}

    @property
    def unbiased_exponent(self) -> Any:
        """int16: the exponent of each finite value's binade; subnormals and zeros have emin.

        Inf and NaN have emax + 1, as in IEEE 754's logical layout.
        """
        exponent = interop.to_numpy(self.exponent).astype(np.int16)
        unbiased = np.maximum(exponent, np.int16(1)) - np.int16(self.format.bias)
        return interop.like(unbiased, self.exponent)

    @property
    def significand(self) -> Any:
        """Unsigned: the fraction with its hidden bit, ``significand / 2**fraction_bits`` in [0, 2).

        Inf and NaN have the fraction alone.
        """
        exponent = interop.to_numpy(self.exponent)
        dtype = narrowest_unsigned(self.format.precision)
        hidden = (exponent != 0) & (exponent != self.format.exponent_mask)
        shifted = hidden.astype(dtype) << dtype.type(self.format.fraction_bits)
        return interop.like(interop.to_numpy(self.fraction).astype(dtype) | shifted, self.fraction)

    @property
    def category(self) -> Any:
        """uint8: each code's ``Category``."""
        exponent, fraction = interop.to_numpy(self.exponent), interop.to_numpy(self.fraction)
        table = np.array(
            [
                [Category.ZERO, Category.SUBNORMAL],
                [Category.NORMAL, Category.NORMAL],
                [Category.INFINITE, Category.NAN],
            ],
            np.uint8,
        )
        row = (exponent != 0).astype(np.uint8) + (exponent == self.format.exponent_mask)
        return interop.like(table[row, (fraction != 0).astype(np.uint8)], self.exponent)


def _run(
    kernel: Callable[..., bool | None],
    inputs: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray, ...],
    *,
    whole: bool = True,
) -> bool:
    """Call ``kernel(backend, *inputs, *outputs)`` over arrays; False if any call returned it.

    The reference makes temporaries of its arguments' size, so it never gets an array whole.
    """
    backend = current_backend()
    with backend.float_environment():
        return interop.stream(
            functools.partial(kernel, backend),
            inputs,
            outputs,
            whole=whole and backend_name() != "reference",
        )


def field_dtypes(fmt: Format) -> tuple[np.dtype, np.dtype, np.dtype]:
    """Return the dtypes of sign, exponent and fraction: the narrowest that hold the fields."""
    return (
        np.dtype(np.uint8),
        narrowest_unsigned(fmt.exponent_bits),
        narrowest_unsigned(fmt.fraction_bits),
    )


def decompose(
    x: Any, format: FormatLike | None = None, *, out: tuple[Any, Any, Any] | None = None
) -> Fields:
    """Take every code of an array apart into sign, biased exponent and fraction.

    Parameters
    ----------
    x : array
        Values of fp64, fp32, fp16 or bf16, or, with `format`, its codes. NumPy or torch, any shape,
        strides and byte order.
    format : Format, str or dtype, optional
        The format of the codes; that of x's dtype by default.
    out : tuple of three arrays, optional
        Where sign, exponent and fraction go; dtypes as in `Fields`.

    Returns
    -------
    Fields
        Arrays of x's shape and kind. Every code has fields: zeros and subnormals have exponent 0,
        Inf and NaN the all-ones exponent (IEEE 754-2019 3.4).

    Raises
    ------
    TypeError
        x holds neither floats nor codes of the format.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.decompose(np.uint16([0x3F80, 0x7F80]), "bf16").exponent
    array([127, 255], dtype=uint8)
    """
    fmt = _format_of(x) if format is None else _as_format(format)
    codes = interop.codes_array(x, fmt)
    dtypes = field_dtypes(fmt)
    outs = (None,) * 3 if out is None else tuple(out)
    if len(outs) != 3:
        raise ValueError(f"out= must be three arrays (sign, exponent, fraction), got {len(outs)}")
    arrays: tuple[np.ndarray, ...] = ()
    for one, dtype in zip(outs, dtypes, strict=True):
        arrays += (interop.checked_out(one, dtype, codes, *arrays),)
    _run(lambda backend, codes, *parts: backend.decompose(codes, fmt, *parts), (codes,), arrays)
    sign, exponent, fraction = (
        interop.like(array, x) if given is None else given
        for array, given in zip(arrays, outs, strict=True)
    )
    return Fields(sign, exponent, fraction, fmt)


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
        lambda backend, *parts: backend.compose(*parts[:3], fmt, parts[3]), arrays, (codes,)
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
    limits = (1, fmt.exponent_mask, fmt.fraction_mask)
    names = ("sign", "exponent", "fraction")
    for array, name, limit in zip(arrays, names, limits, strict=True):
        if array.size and int(array.max()) > limit:
            position, value = interop.first_where(array, _above(limit), name)
            raise ValueError(f"{position} is {value}; {name} of {fmt} is at most {limit}")


def _above(limit: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array > limit


def encode(x: Any, format: FormatLike, *, out: Any = None) -> Any:
    """Round every value to a code of a format: nearest, ties to even, rounded once.

    Parameters
    ----------
    x : array
        fp64, fp32, fp16 or bf16 values; NumPy or torch, any shape, strides and byte order.
    format : Format, str or dtype
        The target.
    out : array, optional
        Where the codes go: the format's ``code_dtype``, x's shape.

    Returns
    -------
    array of codes
        Unsigned, right-aligned, of x's shape and kind.

        A zero keeps its sign. Subnormals are rounded like all else, at their own spacing. Inf stays
        Inf, and magnitudes from max + ulp/2 on become Inf. A NaN becomes quiet and keeps its sign
        and the leading bits of its payload.

    Notes
    -----
    fp64 is rounded from its own 64 bits, never through fp32 (IEEE 754-2019 5.4.2, formatOf).

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> [hex(code) for code in ff.encode(np.float64([1 / 3, 1 + 2**-11 + 2**-40]), "fp16")]
    ['0x3555', '0x3c01']
    """
    fmt = _as_format(format)
    values = interop.float_array(x)
    codes = interop.checked_out(out, fmt.code_dtype, values)
    _run(lambda backend, values, codes: backend.encode(values, fmt, codes), (values,), (codes,))
    return interop.like(codes, x) if out is None else out


def decode(codes: Any, format: FormatLike, *, dtype: Any = None, out: Any = None) -> Any:
    """Return the exact values of codes.

    Parameters
    ----------
    codes : array
        Codes of the format, in its ``code_dtype``; NumPy or torch.
    format : Format, str or dtype
        The codes' format.
    dtype : float32 or float64, optional
        By default float32 where it holds every value of the format, else float64.
    out : array, optional
        Where the values go.

    Returns
    -------
    array of float32 or float64
        NaNs keep their sign, payload and signalling bit.

    Raises
    ------
    ValueError
        `dtype` cannot hold every value of the format, or a code is out of range.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.decode(np.uint16([0x3C00, 0x0001, 0xFC00]), "fp16")
    array([1.0000000e+00, 5.9604645e-08,          -inf], dtype=float32)
    """
    fmt = _as_format(format)
    array = interop.codes_array(codes, fmt)
    wanted = _value_dtype(fmt, dtype)
    values = interop.checked_out(out, wanted, array)
    _run(lambda backend, codes, values: backend.decode(codes, fmt, values), (array,), (values,))
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


def holds(wide: Format, narrow: Format) -> bool:
    """Return whether every value of `narrow` is a value of `wide`."""
    return (
        wide.fraction_bits >= narrow.fraction_bits
        and wide.max_exponent >= narrow.max_exponent
        and wide.min_exponent - wide.fraction_bits <= narrow.min_exponent - narrow.fraction_bits
    )


def round_to(x: Any, format: FormatLike, *, out: Any = None) -> Any:
    """Round every value to the nearest value of a format, ties to even, keeping x's dtype.

    Parameters
    ----------
    x : array
        fp64, fp32, fp16 or bf16 values; NumPy or torch, any shape, strides and byte order.
    format : Format, str or dtype
        The target.
    out : array, optional
        Where the values go: x's dtype and shape.

    Returns
    -------
    array
        x's shape, dtype and kind, every value one of the format's; special values as in `encode`.
        Where x's dtype has no value that the format lacks, a copy, bit for bit.

    Raises
    ------
    ValueError
        x's dtype does not hold every value of the format (fp16 values, bf16 asked for).

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.round_to(np.float64([0.1, 65520.0]), "fp16")
    array([0.09997559,        inf])
    """
    fmt = _as_format(format)
    values = interop.float_array(x)
    source = _as_format(values.dtype)
    rounded = interop.checked_out(out, np.dtype(source.dtype), values)
    if holds(fmt, source) and fmt != source:
        rounded[...] = values
    elif holds(source, fmt):
        wide = source.value_dtype == source.dtype
        kernel = _round_wide if wide else _round_narrow
        _run(functools.partial(kernel, fmt=fmt), (values,), (rounded,), whole=wide)
    else:
        raise ValueError(
            f"{source} does not hold every value of {fmt}; cast x to float32 or float64 first"
        )
    return interop.like(rounded, x) if out is None else out


def _round_wide(backend: Backend, values: np.ndarray, out: np.ndarray, fmt: Format) -> None:
    backend.round_to(values, fmt, out)


def _round_narrow(backend: Backend, values: np.ndarray, out: np.ndarray, fmt: Format) -> None:
    """Round fp16 or bf16 values: the rounded value goes back to their dtype exactly."""
    codes, wide = np.empty(values.shape, fmt.code_dtype), np.empty(values.shape, fmt.value_dtype)
    backend.encode(values, fmt, codes)
    backend.decode(codes, fmt, wide)
    backend.encode(wide, _as_format(values.dtype), out.view(_as_format(values.dtype).code_dtype))
