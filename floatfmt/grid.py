"""A format's values as a grid: which numbers lie on it, how far apart, and how many steps between.

A value's *place* is its number of steps from 0, negative below it, or from the smallest value where
there is no 0; an infinity is one step beyond the largest finite value. Both zeros have place 0.
Places are int64, and every question here is arithmetic on them. ``exact.next_up``,
``exact.next_down`` and ``exact.ulp`` are the definitions for one code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from . import interop
from .arrays import decode, encode
from .backends import Backend, current_backend
from .formats import Format, FormatLike, formats
from .formats import format as as_format
from .rounding import rules

__all__ = [
    "assert_max_ulp",
    "next_down",
    "next_up",
    "representable",
    "spacing",
    "ulp_distance",
    "values",
]

#: `values` lists the values of formats of at most so many bits.
MOST_BITS = 16


# --- one piece of an array at a time, inside a backend's float_environment ----------------------


def _codes(backend: Backend, values: np.ndarray, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes nearest to values, and whether each is exactly the value.

    A NaN is, if the format has one; its code means nothing.
    """
    flat = interop.plain(values).reshape(-1)
    codes, nearest = np.empty(flat.shape, fmt.code_dtype), np.empty(flat.shape)
    backend.encode(flat, rules(fmt, nan="largest"), codes)
    backend.decode(codes, fmt, nearest)
    exact = nearest == flat.astype(np.float64)
    if fmt.nan is not None:
        exact |= np.isnan(flat)
    return codes.reshape(values.shape), exact.reshape(values.shape)


def _places(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Return the place of each code that is no NaN."""
    wide = codes.astype(np.uint64)
    magnitude = (wide & np.uint64(fmt.magnitude_mask)).astype(np.int64)
    negative = wide & np.uint64(fmt.sign_bit) != 0
    if fmt.twos_complement:
        return magnitude - np.where(negative, np.int64(fmt.sign_bit), np.int64(0))
    return np.where(negative, -magnitude, magnitude)


def _codes_at(places: np.ndarray, fmt: Format) -> np.ndarray:
    """Return the code at each place, as uint64; 0 is the positive one."""
    if fmt.twos_complement:
        return places.view(np.uint64) & np.uint64((1 << fmt.bits) - 1)
    return np.abs(places).view(np.uint64) | np.where(
        places < 0, np.uint64(fmt.sign_bit), np.uint64(0)
    )


def _last_places(fmt: Format) -> tuple[int, int]:
    """Return the least and the greatest place: of infinities, where there are any."""
    last = fmt.max_code + fmt.infinity
    return -(last + fmt.twos_complement) if fmt.signed else 0, last


def _next_codes(codes: np.ndarray, fmt: Format, step: int) -> np.ndarray:
    """Return the codes one step up (1) or down (-1); the last value in that direction stays."""
    places = _places(codes, fmt)
    least, greatest = _last_places(fmt)
    moved = _codes_at(np.clip(places + step, least, greatest), fmt)
    if fmt.has_negative_zero and step > 0:  # IEEE 754-2019 5.3.1: up from the negatives comes -0
        moved = np.where(places == -1, np.uint64(fmt.sign_bit), moved)
    return moved.astype(fmt.code_dtype)


# --- arrays of any kind -------------------------------------------------------------------------


def _over(kernel: Callable[..., None], *arrays: np.ndarray) -> None:
    """Call ``kernel(backend, *pieces)`` on matching views of the arrays, few elements at a time."""
    backend = current_backend()
    with backend.float_environment():
        for index in interop.slabs(arrays[0].shape):
            kernel(backend, *(array[index] for array in arrays))


def _is_scalar(x: object) -> bool:
    return isinstance(x, (int, float, np.generic))


def _given_back(array: np.ndarray, x: Any) -> Any:
    """Return a result in x's kind: Python's own number for one, a NumPy scalar, or an array."""
    if isinstance(x, np.generic):
        return array[()]
    return array.item() if _is_scalar(x) else interop.like(array, x)


def _own_format(x: Any, format: FormatLike | None) -> Format:
    return as_format(interop.to_numpy(x).dtype if format is None else format)


def _first(where: np.ndarray) -> tuple[Any, str]:
    """Return the index of the first True in C order, and how it is written."""
    return _place_in(where, int(where.argmax()))


def _place_in(array: np.ndarray, flat: int) -> tuple[Any, str]:
    index = np.unravel_index(flat, array.shape)
    return index, f"[{', '.join(map(str, index))}]" if index else ""


def _on_grid(values: np.ndarray, fmt: Format) -> np.ndarray:
    out = np.empty(values.shape, np.bool_)

    def kernel(backend: Backend, piece: np.ndarray, result: np.ndarray) -> None:
        result[...] = _codes(backend, piece, fmt)[1]

    _over(kernel, values, out)
    return out


def _check(values: np.ndarray, fmt: Format, name: str) -> None:
    on_grid = _on_grid(values, fmt)
    if not on_grid.all():
        index, at = _first(~on_grid)
        number = float(values[index])
        raise ValueError(f"{name}{at} is {number!r}, which is no value of {fmt}; round it first")


def values(format: FormatLike) -> np.ndarray:
    """Return every finite value of a format of at most 16 bits, in increasing order.

    Parameters
    ----------
    format : Format, str or dtype
        The format.

    Returns
    -------
    array
        1-D, of the format's ``value_dtype``. 0 is there once, positive, -0 or not.

    Raises
    ------
    ValueError
        The format has more than 16 bits.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.values("fp4_e2m1fn")
    array([-6. , -4. , -3. , -2. , -1.5, -1. , -0.5,  0. ,  0.5,  1. ,  1.5,
            2. ,  3. ,  4. ,  6. ], dtype=float32)
    >>> len(ff.values("fp16")), float(ff.values("fp8_e8m0fnu")[0]) == 2**-127
    (63487, True)
    """
    fmt = as_format(format)
    if fmt.bits > MOST_BITS:
        raise ValueError(
            f"{fmt} has {fmt.bits} bits; values lists those of formats of at most {MOST_BITS}"
        )
    least, greatest = _last_places(fmt)
    infinite_below = fmt.infinity and fmt.signed
    places = np.arange(least + infinite_below, greatest - fmt.infinity + 1, dtype=np.int64)
    return decode(_codes_at(places, fmt).astype(fmt.code_dtype), fmt)


def spacing(format: FormatLike, x: Any) -> Any:
    """Return how far apart a format's values are around each x: the ulp of x's binade.

    Parameters
    ----------
    format : Format, str or dtype
        The format.
    x : array or number
        Values as `encode` takes them; they need not be the format's.

    Returns
    -------
    array of float64, or float
        The distance from abs(x), if it is a value of the format, to the next larger one: positive,
        where np.spacing has x's sign. Between two values it is that of the binade x lies in; at and
        around 0, and everywhere in an integer format, the smallest step. The largest finite value
        has its binade's spacing, where np.spacing has Inf.

        NaN for NaN, Inf, and what lies beyond the largest or least finite value.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.spacing("bf16", np.float32([1.0, 1000.0, 0.0, np.inf]))
    array([7.81250000e-03, 4.00000000e+00, 9.18354962e-41,            nan])
    >>> ff.spacing("fp8_e4m3fn", 3.14), ff.spacing("int8", 100)
    (0.25, 1.0)
    """
    fmt = as_format(format)
    array = interop.values_array(x)
    out = np.empty(array.shape)
    lowest, largest = float(fmt.lowest), float(fmt.max_finite)

    def kernel(_: Backend, piece: np.ndarray, result: np.ndarray) -> None:
        wide = piece.astype(np.float64)
        exponent = np.frexp(wide)[1] - 1  # of 0, Inf and NaN it means nothing
        exponent = np.where(wide == 0, fmt.min_exponent, np.maximum(exponent, fmt.min_exponent))
        inside = (wide >= lowest) & (wide <= largest)
        result[...] = np.where(inside, np.ldexp(1.0, exponent - fmt.fraction_bits), np.nan)

    _over(kernel, array, out)
    return _given_back(out, x)


def representable(x: Any, format: FormatLike) -> Any:
    """Return whether each x is exactly one of a format's values.

    Parameters
    ----------
    x : array or number
        Values as `encode` takes them.
    format : Format, str or dtype
        The format.

    Returns
    -------
    array of bool, or bool
        Inf and NaN are representable where the format has them, a NaN whatever its payload; -0 is
        where the format has a zero, with or without -0.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.representable(np.float32([0.1, 0.375, 448, 480, np.nan, np.inf]), "fp8_e4m3fn")
    array([False,  True,  True, False,  True, False])
    >>> ff.representable(2049, "fp16")
    False
    """
    return _given_back(_on_grid(interop.values_array(x), as_format(format)), x)


def _pair(a: Any, b: Any, fmt: Format, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of a format's values, broadcast to one shape."""
    arrays = tuple(interop.values_array(x) for x in (a, b))
    for array, name in zip(arrays, names, strict=True):
        _check(array, fmt, name)
    try:
        left, right = np.broadcast_arrays(*arrays)
    except ValueError:
        shapes = f"{arrays[0].shape} and {arrays[1].shape}"
        raise ValueError(f"{names[0]} and {names[1]} must have one shape, got {shapes}") from None
    return left, right


def _distances(left: np.ndarray, right: np.ndarray, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Return the unsigned distance of each pair, and whether it goes down.

    0 from NaN to NaN, `NAN_APART` from NaN to a number.
    """
    apart, down = np.empty(left.shape, np.uint64), np.empty(left.shape, np.bool_)

    def kernel(backend: Backend, a: np.ndarray, b: np.ndarray, *results: np.ndarray) -> None:
        start, end = (_places(_codes(backend, piece, fmt)[0], fmt) for piece in (a, b))
        nans = np.isnan(a), np.isnan(b)
        # Subtraction modulo 2**64 is right: no distance is that large.
        distance = np.where(end < start, start - end, end - start).view(np.uint64)
        distance = np.where(nans[0] & nans[1], np.uint64(0), distance)
        results[0][...] = np.where(nans[0] != nans[1], NAN_APART, distance)
        results[1][...] = end < start

    _over(kernel, left, right, apart, down)
    return apart, down


#: More than any two values of a format are apart.
NAN_APART = np.uint64(2**64 - 1)


def ulp_distance(a: Any, b: Any, format: FormatLike | None = None) -> Any:
    """Return how many of a format's values one steps over from a to b, b included.

    Parameters
    ----------
    a, b : array or number
        Values of the format, of one shape or such as broadcast.
    format : Format, str or dtype, optional
        The format whose values are counted; that of a's dtype by default.

    Returns
    -------
    array of int64, or int
        Positive where b is above a. 0 and -0 are 0 apart, and Inf is one step beyond the largest
        finite value. From NaN to NaN it is 0.

    Raises
    ------
    ValueError
        A value is none of the format's; one of two is NaN and the other is not; a distance is
        beyond int64, as from the largest values of fp64 to the least. The message names the first.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.ulp_distance(np.float32([1, 1, -0.0]), np.float32([1.5, 0.5, 0]), "bf16")
    array([  64, -128,    0])
    >>> ff.ulp_distance(0.0, 1.0, "fp16"), ff.ulp_distance(np.float16(65504), np.float16(np.inf))
    (15360, np.int64(1))
    """
    fmt = _own_format(a, format)
    left, right = _pair(a, b, fmt, ("a", "b"))
    apart, down = _distances(left, right, fmt)
    if (beyond := apart > np.iinfo(np.int64).max).any():
        index, at = _first(beyond)
        numbers = f"a{at} is {float(left[index])!r} and b{at} is {float(right[index])!r}"
        why = "no number of steps apart" if apart[index] == NAN_APART else "too far apart for int64"
        raise ValueError(f"{numbers}, {why}")
    steps = apart.view(np.int64)
    np.negative(steps, out=steps, where=down)
    return _given_back(steps, b if _is_scalar(a) else a)


def next_up(x: Any, format: FormatLike | None = None) -> Any:
    """Return the least value of a format above each x.

    Parameters
    ----------
    x : array or number
        Values of the format.
    format : Format, str or dtype, optional
        The format; that of x's dtype by default.

    Returns
    -------
    array or number
        x's shape, dtype and kind. IEEE 754-2019 5.3.1 nextUp: -0 and 0 give the smallest positive
        value, the negative value next to 0 gives -0 where there is one, the largest finite value
        gives Inf where there is one. The greatest value and NaN stay themselves.

    Raises
    ------
    ValueError
        A value is none of the format's, the message names the first; x's dtype does not hold every
        value of the format.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.next_up(np.float32([1.0, 0.0, 448.0]), "fp8_e4m3fn")
    array([1.125000e+00, 1.953125e-03, 4.480000e+02], dtype=float32)
    >>> ff.next_up(np.float16([1.0, 65504])), ff.next_up(1.0, "bf16")
    (array([1.001,   inf], dtype=float16), 1.0078125)
    """
    return _neighbours(x, format, 1)


def next_down(x: Any, format: FormatLike | None = None) -> Any:
    """Return the greatest value of a format below each x: the mirror image of `next_up`.

    Parameters, results and errors are those of `next_up`.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.next_down(np.float32([1.0, 0.0, np.inf]), "fp16")
    array([ 9.9951172e-01, -5.9604645e-08,  6.5504000e+04], dtype=float32)
    >>> ff.next_down(np.uint8([3, 0]))
    array([2, 0], dtype=uint8)
    """
    return _neighbours(x, format, -1)


def _neighbours(x: Any, format: FormatLike | None, step: int) -> Any:
    fmt = _own_format(x, format)
    values, given = interop.values_array(x), interop.to_numpy(x)
    if not any(interop.holds_values_of(given.dtype, known) for known in formats()):
        given = values  # integers of a width that is no format are values as fp64 has them
    holder = as_format(given.dtype)
    if not holder.holds(fmt) or (fmt.infinity and not holder.infinity):
        raise ValueError(
            f"{given.dtype} does not hold every value of {fmt}; cast x to float32 or float64 first"
        )
    _check(values, fmt, "x")
    out = np.empty(values.shape, holder.code_dtype)

    def kernel(backend: Backend, piece: np.ndarray, old: np.ndarray, result: np.ndarray) -> None:
        codes = _next_codes(_codes(backend, piece, fmt)[0], fmt, step).reshape(-1)
        wide, moved = np.empty(codes.shape), np.empty(codes.shape, holder.code_dtype)
        backend.decode(codes, fmt, wide)
        backend.encode(wide, rules(holder, nan="largest"), moved)
        result[...] = np.where(np.isnan(piece), old, moved.reshape(piece.shape))

    _over(kernel, values, interop.codes_array(given, holder), out)
    return _given_back(out.view(given.dtype.newbyteorder("=")), x)


def assert_max_ulp(
    actual: Any, desired: Any, format: FormatLike | None = None, max_ulp: int = 1
) -> None:
    """Raise an AssertionError where two arrays are more than `max_ulp` values of a format apart.

    As numpy.testing.assert_array_max_ulp, for every format.

    Parameters
    ----------
    actual, desired : array or number
        Values of the format, of one shape or such as broadcast. NaN equals NaN, and is apart from
        all else.
    format : Format, str or dtype, optional
        The format whose values are counted; that of `actual`'s dtype by default.
    max_ulp : int
        The largest distance that is fine, as `ulp_distance` counts it.

    Raises
    ------
    AssertionError
        With the worst position, both values and their codes, and how many differ.
    ValueError
        A value is none of the format's.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.assert_max_ulp(np.float32([1, 2, 3]), np.float32([1, 2, 3.5]), "fp8_e4m3fn", max_ulp=2)
    >>> ff.assert_max_ulp(np.float32([1, 2, 3]), np.float32([1, 2, 3.5]), "fp8_e4m3fn")
    Traceback (most recent call last):
    AssertionError: 1 of 3 values of fp8_e4m3fn is more than 1 ulp apart (1 differs at all)
    worst: actual[2] = 3.0 (0x44), desired[2] = 3.5 (0x46), 2 ulp
    """
    most = min(operator.index(max_ulp), int(NAN_APART) - 1)
    if most < 0:
        raise ValueError(f"max_ulp must be 0 or more, got {max_ulp}")
    fmt = _own_format(actual, format)
    left, right = _pair(actual, desired, fmt, ("actual", "desired"))
    apart, _ = _distances(left, right, fmt)
    if apart.size and int(apart.max()) > most:
        raise AssertionError(_report(apart, left, right, fmt, most))


def _report(
    apart: np.ndarray, actual: np.ndarray, desired: np.ndarray, fmt: Format, most: int
) -> str:
    further, differ = (int(np.count_nonzero(apart > limit)) for limit in (most, 0))
    index, at = _place_in(apart, int(apart.argmax()))
    texts = []
    for array in (actual, desired):
        code = f"{int(encode(array[index], fmt)):0{-(-fmt.bits // 4)}X}"
        texts.append(f"{float(array[index])!r} (0x{code})")
    distance = "" if apart[index] == NAN_APART else f", {apart[index]:,} ulp"
    return (
        f"{further:,} of {apart.size:,} values of {fmt} {'is' if further == 1 else 'are'} more than"
        f" {most:,} ulp apart ({differ:,} {'differs' if differ == 1 else 'differ'} at all)\n"
        f"worst: actual{at} = {texts[0]}, desired{at} = {texts[1]}{distance}"
    )
