"""The definition of every operation, in integers and Fractions, one value at a time.

Slow and plain on purpose: `backends/reference.py` is checked against this file, and the C kernel
against the reference. Codes are right-aligned integers; finite values are Fractions.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from .formats import Format, format

__all__ = [
    "absmax_scale",
    "category",
    "convert",
    "decode",
    "dequantize",
    "encode",
    "fields",
    "is_quiet",
    "next_down",
    "next_up",
    "quantize",
    "rounding_interval",
    "significand",
    "simplest_fraction",
    "ulp",
    "zeropoint_parameters",
]

FP64 = format("fp64")


# --- a code taken apart -------------------------------------------------------------------------


def fields(code: int, fmt: Format) -> tuple[int, int, int]:
    """Return (sign, biased exponent, fraction) of a code."""
    if not 0 <= code < 1 << fmt.bits:
        raise ValueError(f"a code of {fmt} lies in 0x0 to {(1 << fmt.bits) - 1:#x}, got {code:#x}")
    return (
        code >> (fmt.bits - 1),
        code >> fmt.fraction_bits & fmt.exponent_mask,
        code & fmt.fraction_mask,
    )


def category(code: int, fmt: Format) -> str:
    """Return "zero", "subnormal", "normal", "infinite" or "nan" (IEEE 754-2019 3.4)."""
    _, exponent, fraction = fields(code, fmt)
    if exponent == fmt.exponent_mask:
        return "nan" if fraction else "infinite"
    if exponent == 0:
        return "subnormal" if fraction else "zero"
    return "normal"


def is_quiet(code: int, fmt: Format) -> bool:
    """Return whether a code is a quiet NaN: its highest fraction bit is set."""
    return category(code, fmt) == "nan" and bool(code & fmt.quiet_bit)


def significand(code: int, fmt: Format) -> Fraction:
    """Return the significand of a finite code, in [1, 2) if normal, in [0, 1) otherwise."""
    _, exponent, fraction = fields(code, fmt)
    return (exponent > 0) + Fraction(fraction, 1 << fmt.fraction_bits)


def unbiased_exponent(code: int, fmt: Format) -> int:
    """Return the exponent of the power of two that multiplies the significand."""
    _, exponent, _ = fields(code, fmt)
    return max(exponent, 1) - fmt.bias


def decode(code: int, fmt: Format) -> Fraction | float:
    """Return the exact value of a code: a Fraction, or float -0.0, inf, -inf or nan."""
    sign, _, _ = fields(code, fmt)
    kind = category(code, fmt)
    if kind == "nan":
        return float("nan")
    if kind == "infinite":
        return float("-inf" if sign else "inf")
    if kind == "zero":
        return -0.0 if sign else Fraction(0)
    return (-1) ** sign * significand(code, fmt) * Fraction(2) ** unbiased_exponent(code, fmt)


def ulp(code: int, fmt: Format) -> Fraction:
    """Return the unit in the last place of a finite code: the spacing within its binade."""
    return Fraction(2) ** (unbiased_exponent(code, fmt) - fmt.fraction_bits)


def next_up(code: int, fmt: Format) -> int:
    """Return the code of the least value above (IEEE 754-2019 5.3.1 nextUp); NaN stays itself."""
    if category(code, fmt) == "nan" or code == fmt.infinity_code:
        return code
    if code & ~fmt.sign_bit == 0:
        return 1
    return code - 1 if code & fmt.sign_bit else code + 1


def next_down(code: int, fmt: Format) -> int:
    """Return the code of the greatest value below (nextDown); NaN stays itself."""
    if category(code, fmt) == "nan":
        return code
    return next_up(code ^ fmt.sign_bit, fmt) ^ fmt.sign_bit


# --- rounding -----------------------------------------------------------------------------------


def round_half_even(x: Fraction) -> int:
    """Return the integer nearest to x, the even one of two equally near."""
    return round(x)  # Fraction.__round__ is defined as ties to even


def floor_log2(x: Fraction) -> int:
    """Return the largest e with 2**e <= x, for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def encode(value: Fraction | int | float, fmt: Format) -> int:
    """Round a value to the nearest code, ties to even, in one step.

    Infinities stay, every zero keeps its sign, magnitudes from max + ulp/2 on become Inf, a NaN
    becomes a quiet NaN with its sign and the leading bits of its payload.
    """
    if isinstance(value, float):
        return convert(int.from_bytes(struct.pack(">d", value), "big"), FP64, fmt)
    return _encode_magnitude(abs(Fraction(value)), fmt) | (fmt.sign_bit if value < 0 else 0)


def _encode_magnitude(x: Fraction, fmt: Format) -> int:
    if x == 0:
        return 0
    exponent = max(floor_log2(x), fmt.min_exponent)
    steps = round_half_even(x / Fraction(2) ** (exponent - fmt.fraction_bits))
    # A binade holds 2**fraction_bits codes; a normal's hidden bit in `steps` counts as the first
    # exponent step, and a carry out of the fraction walks into the exponent by itself.
    code = ((exponent - fmt.min_exponent) << fmt.fraction_bits) + steps
    return min(code, fmt.infinity_code)


def convert(code: int, source: Format, target: Format) -> int:
    """Round a code of one format to a code of another, nearest even, in one step.

    A NaN keeps its sign, becomes quiet, and keeps the leading bits of its payload.
    """
    sign, _, fraction = fields(code, source)
    signed = target.sign_bit if sign else 0
    kind = category(code, source)
    if kind == "nan":
        shift = source.fraction_bits - target.fraction_bits
        payload = fraction >> shift if shift >= 0 else fraction << -shift
        return signed | target.infinity_code | target.quiet_bit | payload
    if kind == "infinite":
        return signed | target.infinity_code
    magnitude = decode(code & ~source.sign_bit, source)
    return signed | _encode_magnitude(Fraction(magnitude), target)


def rounding_interval(code: int, fmt: Format) -> tuple[Fraction, Fraction, bool]:
    """Return (low, high, closed): the reals that round to a finite code, nearest even.

    `closed` says whether the ends belong to it: they are ties, which go to the even code. Both
    zeros share the interval around 0.
    """
    x, step = Fraction(decode(code, fmt)), ulp(code, fmt)
    _, exponent, fraction = fields(code, fmt)
    # Just below a power of two the spacing is half as wide, unless the subnormals begin there.
    inner = step / 2 if fraction == 0 and exponent > 1 else step
    closed = code % 2 == 0
    if code & fmt.sign_bit:
        return x - step / 2, x + inner / 2, closed
    return x - inner / 2, x + step / 2, closed


def simplest_fraction(code: int, fmt: Format) -> Fraction:
    """Return the fraction of smallest denominator that rounds to a finite code.

    Of several with that denominator, the one nearest to the code's exact value.
    """
    low, high, closed = rounding_interval(code, fmt)
    if low <= 0 <= high:
        return Fraction(0)  # a zero: no other finite interval reaches 0
    sign = -1 if high < 0 else 1
    nearer, farther = sorted((sign * low, sign * high))
    denominator = simplest_between(nearer, farther, closed).denominator
    numerator = round_half_even(Fraction(decode(code, fmt)) * denominator)
    for n in (numerator, numerator - 1, numerator + 1):
        x = Fraction(n, denominator)
        if low < x < high or (closed and x in (low, high)):
            return x
    raise AssertionError(f"no multiple of 1/{denominator} rounds to {code:#x} in {fmt}")


def simplest_between(low: Fraction, high: Fraction, closed: bool) -> Fraction:
    """Return the fraction of smallest denominator, then numerator, between 0 < low < high.

    The walk down the Stern-Brocot tree, as continued fractions of both ends.
    """
    whole = low.numerator // low.denominator
    if low == whole and closed:
        return Fraction(whole)
    if whole + 1 < high or (whole + 1 == high and closed):
        return Fraction(whole + 1)
    if low == whole:
        room = 1 / (high - whole)
        n = -(-room.numerator // room.denominator)
        return whole + Fraction(1, n if n > room or closed else n + 1)
    return whole + 1 / simplest_between(1 / (high - whole), 1 / (low - whole), closed)


# --- integer quantisation -----------------------------------------------------------------------


def fl64(x: Fraction) -> Fraction:
    """Round to float64's 53 bits, nearest even, with no limit on the exponent."""
    if x == 0:
        return x
    spacing = Fraction(2) ** (floor_log2(abs(x)) - FP64.fraction_bits)
    return round_half_even(x / spacing) * spacing


def _round_scale(x: Fraction, fmt: Format) -> Fraction:
    """Round a scale: to nearest if normal, up if subnormal (never 0), to the largest beyond it."""
    nearest = decode(encode(x, fmt), fmt)
    if nearest == float("inf"):
        return fmt.max_finite
    if nearest >= fmt.min_normal:
        return Fraction(nearest)
    return -(-x // fmt.min_subnormal) * fmt.min_subnormal


def absmax_scale(amax: Fraction, scale_format: Format, qmax: int = 127) -> Fraction:
    """Return the scale of absmax quantisation for a largest magnitude `amax`; 1 when that is 0."""
    return _round_scale(fl64(amax / qmax), scale_format) if amax else Fraction(1)


def zeropoint_parameters(
    low: Fraction, high: Fraction, scale_format: Format, qmin: int = -128, qmax: int = 127
) -> tuple[Fraction, int]:
    """Return (scale, zero point) of zero-point quantisation of values from `low` to `high`.

    A constant c has scale abs(c) (1 for c = 0) and zero point 0. A zero point beyond 2**62, which
    takes a scale too large for its format, is limited to it.
    """
    if low == high:
        return (_round_scale(abs(low), scale_format) if low else Fraction(1)), 0
    scale = _round_scale(fl64(fl64(high - low) / (qmax - qmin)), scale_format)
    zero_point = round_half_even(fl64(qmin - fl64(low / scale)))
    return scale, min(max(zero_point, -(2**62)), 2**62)


def quantize(x: Fraction, scale: Fraction, zero_point: int, qmin: int, qmax: int) -> int:
    """Return the integer code ``clamp(rint(x / scale) + zero_point)``, the quotient in float64."""
    return min(max(round_half_even(fl64(x / scale)) + zero_point, qmin), qmax)


def dequantize(code: int, scale: Fraction, zero_point: int, fmt: Format) -> Fraction:
    """Return ``(code - zero_point) * scale`` by float64, rounded to `fmt`, clamped to its range."""
    product = fl64(fl64(Fraction(code - zero_point)) * scale)
    value = decode(encode(product, fmt), fmt)
    if value in (float("inf"), float("-inf")):
        return fmt.max_finite if value > 0 else -fmt.max_finite
    return Fraction(value)
