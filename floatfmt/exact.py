"""The definition of every operation, in integers and Fractions, one value at a time.

Slow and plain on purpose: `backends/reference.py` is checked against this file, and the C kernel
against the reference. Codes are right-aligned integers; finite values are Fractions.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from .formats import Format, format
from .rounding import Rounding, Rules, rules

__all__ = [
    "absmax_scale",
    "category",
    "convert",
    "decode",
    "dequantize",
    "encode",
    "fields",
    "is_finite",
    "is_quiet",
    "next_down",
    "next_up",
    "place",
    "quantize",
    "random_word",
    "round_to_integer",
    "rounding_interval",
    "sign_and_magnitude",
    "significand",
    "simplest_fraction",
    "ulp",
    "zeropoint_parameters",
]

FP64 = format("fp64")


# --- a code taken apart -------------------------------------------------------------------------


def fields(code: int, fmt: Format) -> tuple[int, int, int]:
    """Return (sign, biased exponent, fraction) of a code; a part that is absent is 0.

    The fraction of a negative two's complement code is its bits as they stand.
    """
    if not 0 <= code < 1 << fmt.bits:
        raise ValueError(f"a code of {fmt} lies in 0x0 to {(1 << fmt.bits) - 1:#x}, got {code:#x}")
    return (
        int(code & fmt.sign_bit != 0),
        code >> fmt.fraction_bits & fmt.exponent_mask,
        code & fmt.fraction_mask,
    )


def sign_and_magnitude(code: int, fmt: Format) -> tuple[int, int]:
    """Return (sign, magnitude): the place of the absolute value among the format's values."""
    sign, _, _ = fields(code, fmt)
    if fmt.twos_complement and sign:
        return sign, (1 << fmt.bits) - code
    return sign, code & fmt.magnitude_mask


def _code(sign: int, magnitude: int, fmt: Format) -> int:
    """Return the code of a finite magnitude; that of 0 where there is no -0."""
    if fmt.twos_complement:
        return -magnitude % (1 << fmt.bits) if sign else magnitude
    if magnitude == 0 and not fmt.has_negative_zero:
        return 0
    return magnitude | (fmt.sign_bit if sign else 0)


def category(code: int, fmt: Format) -> str:
    """Return "zero", "subnormal", "normal", "infinite" or "nan" (IEEE 754-2019 3.4).

    Integers and fixed-point values other than zero are normal.
    """
    sign, magnitude = sign_and_magnitude(code, fmt)
    if fmt.nan == "negative_zero" and code == fmt.sign_bit:
        return "nan"
    if magnitude > fmt.max_code + (fmt.twos_complement and sign):
        return "infinite" if magnitude == fmt.infinity_code else "nan"
    if magnitude == 0 and fmt.zero:
        return "zero"
    is_subnormal = fmt.zero and not fmt.is_integer and magnitude <= fmt.fraction_mask
    return "subnormal" if is_subnormal else "normal"


def is_finite(code: int, fmt: Format) -> bool:
    """Return whether a code is neither Inf nor NaN."""
    return category(code, fmt) not in ("infinite", "nan")


def is_quiet(code: int, fmt: Format) -> bool:
    """Return whether a code is a quiet NaN; without payloads every NaN is."""
    return category(code, fmt) == "nan" and code & fmt.quiet_bit == fmt.quiet_bit


def significand(code: int, fmt: Format) -> Fraction:
    """Return the significand of a finite code, in [1, 2) if normal, in [0, 1) otherwise.

    That of fixed point is the fraction field, or the magnitude of a negative one, as an integer
    over ``2**fraction_bits``.
    """
    _, magnitude = sign_and_magnitude(code, fmt)
    if fmt.is_integer:
        return Fraction(magnitude, 1 << fmt.fraction_bits)
    hidden = (magnitude > fmt.fraction_mask or not fmt.zero) << fmt.fraction_bits
    return Fraction(hidden | magnitude & fmt.fraction_mask, 1 << fmt.fraction_bits)


def unbiased_exponent(code: int, fmt: Format) -> int:
    """Return the exponent of the power of two that multiplies the significand."""
    _, exponent, _ = fields(code, fmt)
    return max(exponent, int(fmt.zero)) - fmt.bias


def decode(code: int, fmt: Format) -> Fraction | float:
    """Return the exact value of a code: a Fraction, or float -0.0, inf, -inf or nan."""
    sign, _ = sign_and_magnitude(code, fmt)
    kind = category(code, fmt)
    if kind == "nan":
        return float("nan")
    if kind == "infinite":
        return float("-inf" if sign else "inf")
    if kind == "zero":
        return -0.0 if sign else Fraction(0)
    value = _times_power(significand(code, fmt), unbiased_exponent(code, fmt))
    return -value if sign else value


def ulp(code: int, fmt: Format) -> Fraction:
    """Return the unit in the last place of a finite code: the spacing within its binade."""
    return Fraction(2) ** (unbiased_exponent(code, fmt) - fmt.fraction_bits)


def next_up(code: int, fmt: Format) -> int:
    """Return the code of the least value above (IEEE 754-2019 5.3.1 nextUp).

    NaN stays itself, and so does the greatest value: Inf, or the largest finite one without Inf.
    """
    if category(code, fmt) == "nan":
        return code
    sign, magnitude = sign_and_magnitude(code, fmt)
    if magnitude == 0 and fmt.zero:
        return 1
    if sign:
        return _code(sign, magnitude - 1, fmt)
    return code if magnitude == fmt.max_code + fmt.infinity else code + 1


def next_down(code: int, fmt: Format) -> int:
    """Return the code of the greatest value below (nextDown); NaN and the least stay themselves."""
    if category(code, fmt) == "nan":
        return code
    sign, magnitude = sign_and_magnitude(code, fmt)
    if magnitude == 0 and fmt.zero:
        return _code(1, 1, fmt) if fmt.signed else code
    if sign:
        last = fmt.max_code + (fmt.infinity or fmt.twos_complement)
        return code if magnitude == last else _code(sign, magnitude + 1, fmt)
    return max(code - 1, 0)


# --- rounding -----------------------------------------------------------------------------------


def round_half_even(x: Fraction) -> int:
    """Return the integer nearest to x, the even one of two equally near."""
    return round(x)  # Fraction.__round__ is defined as ties to even


def floor_log2(x: Fraction) -> int:
    """Return the largest e with 2**e <= x, for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if _times_power(x, -e) >= 1 else e - 1


def _times_power(x: Fraction, exponent: int) -> Fraction:
    """Return ``x * 2**exponent``; a product of two Fractions takes three times as long."""
    if exponent >= 0:
        return Fraction(x.numerator << exponent, x.denominator)
    return Fraction(x.numerator, x.denominator << -exponent)


def encode(
    value: Fraction | int | float, fmt: Format, how: Rules | None = None, random: int | None = None
) -> int:
    """Return the code that a number rounds to.

    Parameters
    ----------
    value : Fraction, int or float
        Floats are taken as fp64 bit patterns, so zeros and NaNs keep sign and payload.
    how : Rules, optional
        Nearest even and `encode`'s defaults if not given.
    random : int, optional
        For stochastic rounding: 32 random bits.

    Raises
    ------
    ValueError
        A NaN, and the rules have no code for it.
    """
    if isinstance(value, float):
        return convert(int.from_bytes(struct.pack(">d", value), "big"), FP64, fmt, how, random)
    how = how or rules(fmt)
    if value == 0:
        return how.zero[0]
    return _encode_finite(int(value < 0), abs(Fraction(value)), how, random)


def convert(
    code: int, source: Format, target: Format, how: Rules | None = None, random: int | None = None
) -> int:
    """Round a code of one format to a code of another, in one step.

    A NaN keeps its sign and the leading bits of its payload if `how` says so, and never becomes
    Inf: where a signalling NaN would keep no bit of its payload, the lowest is set.
    """
    how = how or rules(target)
    sign, _, _ = fields(code, source)
    kind = category(code, source)
    if kind == "nan":
        return _encode_nan(code, source, how)
    if kind == "infinite":
        return how.infinity[sign]
    if kind == "zero":
        return how.zero[sign]
    return _encode_finite(sign, abs(Fraction(decode(code, source))), how, random)


def _encode_nan(code: int, source: Format, how: Rules) -> int:
    if how.nans is None:
        raise ValueError(f"NaN has no code in {how.format}; nan= chooses one")
    # A sign that stands for NaN is no sign of the NaN.
    sign = int(code & source.sign_bit != 0 and source.nan != "negative_zero")
    if not how.keeps_payload:
        return how.nans[sign]
    # A format without payloads has one NaN, a quiet one.
    fraction = code & source.fraction_mask if source.nan == "ieee" else source_quiet(source)
    shift = source.fraction_bits - how.format.fraction_bits
    payload = fraction >> shift if shift >= 0 else fraction << -shift
    return how.nans[sign] | (payload | (how.format.quiet_bit if how.quiets else 0) or 1)


def source_quiet(source: Format) -> int:
    """Return the fraction that stands for a quiet NaN without payload: its leading bit."""
    return 1 << source.fraction_bits >> 1


def _encode_finite(sign: int, x: Fraction, how: Rules, random: int | None) -> int:
    """Round a positive x, then give it its sign and what the rules say beyond the ends."""
    fmt = how.format
    magnitude = _round_magnitude(x, sign, fmt, how.rounding, random)
    if magnitude > how.limit[sign]:
        return how.overflows[sign]
    if magnitude == 0 and fmt.zero:
        return how.zero[sign]
    if how.flushes and magnitude <= fmt.fraction_mask:
        return how.zero[sign]
    return _code(sign, magnitude, fmt)


def _round_magnitude(
    x: Fraction, sign: int, fmt: Format, mode: Rounding, random: int | None
) -> int:
    """Return x > 0 as a magnitude, rounded as if magnitudes went on without end."""
    return max(round_to_integer(place(x, fmt), sign, mode, random), 0)


def place(x: Fraction, fmt: Format) -> Fraction:
    """Return where x > 0 lies among the magnitudes, as if they went on without end.

    Within a binade, and below the first, a magnitude is a linear function of the value, so
    rounding the magnitude rounds the value; an even magnitude is an even code. Below the least
    value of a format without zero the place is negative.
    """
    exponent = max(floor_log2(x), fmt.min_exponent)
    hidden = 1 if fmt.zero else 0
    binade = (exponent - fmt.min_exponent - (1 - hidden)) << fmt.fraction_bits
    return binade + _times_power(x, fmt.fraction_bits - exponent)


def round_to_integer(x: Fraction, sign: int, mode: Rounding, random: int | None) -> int:
    """Round the magnitude x of a value of the given sign to an integer."""
    floor, rest = divmod(x.numerator, x.denominator)
    if rest == 0:
        return floor
    past_half = 2 * rest - x.denominator
    up = {
        Rounding.NEAREST_EVEN: past_half > 0 or (past_half == 0 and floor % 2 == 1),
        Rounding.NEAREST_AWAY: past_half >= 0,
        Rounding.TOWARD_ZERO: False,
        Rounding.TOWARD_POSITIVE: sign == 0,
        Rounding.TOWARD_NEGATIVE: sign == 1,
        Rounding.TO_ODD: floor % 2 == 0,
    }
    if mode is not Rounding.STOCHASTIC:
        return floor + up[mode]
    if random is None:
        raise ValueError("stochastic rounding needs 32 random bits")
    return floor + ((rest << 32) // x.denominator + random >> 32)


_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def random_word(seed: int, index: int) -> int:
    """Return the 32 random bits of the element at a flat index: Philox4x32-10.

    The key is the 64-bit seed, the counter ``index // 4``, and the word ``index % 4`` of its four
    (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011).
    """
    low32 = 0xFFFFFFFF
    block = index // 4
    c = [block & low32, block >> 32 & low32, 0, 0]
    key = [seed & low32, seed >> 32 & low32]
    for _ in range(10):
        products = (_PHILOX_MULTIPLIERS[0] * c[0], _PHILOX_MULTIPLIERS[1] * c[2])
        c = [
            products[1] >> 32 ^ c[1] ^ key[0],
            products[1] & low32,
            products[0] >> 32 ^ c[3] ^ key[1],
            products[0] & low32,
        ]
        key = [k + step & low32 for k, step in zip(key, _PHILOX_KEY_STEPS, strict=True)]
    return c[index % 4]


def rounding_interval(code: int, fmt: Format) -> tuple[Fraction, Fraction, bool]:
    """Return (low, high, closed): the reals that round to a finite code, nearest even.

    `closed` says whether the ends belong to it: they are ties, which go to the even code. The
    spacing beyond the largest finite value is that below it. Both zeros share the interval around
    0. Where there is nothing below the least value the interval ends there as if there were.
    """
    x, step = Fraction(decode(code, fmt)), ulp(code, fmt)
    sign, magnitude = sign_and_magnitude(code, fmt)
    # Just below a power of two the spacing is half as wide, unless the subnormals begin there.
    at_binade = magnitude & fmt.fraction_mask == 0 and magnitude >> fmt.fraction_bits > fmt.zero
    inner = step / 2 if at_binade and not fmt.is_integer else step
    closed = magnitude % 2 == 0
    if sign:
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
    """Round a scale: to nearest if normal, up if subnormal (never 0), to the largest beyond it.

    A format without a fraction rounds all of them up.
    """
    if fmt.fraction_bits == 0:
        return Fraction(decode(encode(x, fmt, rules(fmt, "toward_positive", "saturate")), fmt))
    nearest = Fraction(decode(encode(x, fmt, rules(fmt, overflow="saturate")), fmt))
    if fmt.min_normal is None or nearest >= fmt.min_normal:
        return nearest
    return -(-x // fmt.min_positive) * fmt.min_positive


def absmax_scale(amax: Fraction, scale_format: Format, largest: Fraction | int = 127) -> Fraction:
    """Return the scale of absmax quantisation for a largest magnitude `amax`; 1 when that is 0."""
    return _round_scale(fl64(amax / largest), scale_format) if amax else Fraction(1)


def power_scale(amax: Fraction, rule: str, largest: Fraction, fraction_bits: int) -> Fraction:
    """Return the power of two from 2**-127 to 2**127 that `rule` finds; 1 for an `amax` of 0.

    The rules of OCP MX v1.0 ("floor") and of torchao: "ceil" rounds amax up to a power of two,
    "even" half up to the elements' `fraction_bits`, before its exponent is taken; "rceil" takes the
    least power of two with which amax is at most `largest`.
    """
    if amax == 0:
        return Fraction(1)
    top = floor_log2(largest)
    if rule == "rceil":
        exponent = floor_log2(amax) - top - 1
        while amax > largest * Fraction(2) ** exponent:
            exponent += 1
    elif rule == "ceil":
        exponent = floor_log2(amax) - top
        exponent += amax > Fraction(2) ** floor_log2(amax)
    elif rule == "even":
        unit = Fraction(2) ** (floor_log2(amax) - fraction_bits)
        exponent = floor_log2((amax / unit + Fraction(1, 2)) // 1 * unit) - top
    else:
        exponent = floor_log2(amax) - top
    return Fraction(2) ** min(max(exponent, -127), 127)


def zeropoint_parameters(
    low: Fraction, high: Fraction, scale_format: Format, qmin: int = -128, qmax: int = 127
) -> tuple[Fraction, int]:
    """Return (scale, zero point) of zero-point quantisation of values from `low` to `high`.

    A constant c has scale abs(c) (1 for c = 0) and zero point 0, or ``qmin + 1`` for negative c and
    codes that are not. A zero point beyond 2**62, which
    takes a scale too large for its format, is limited to it.
    """
    if low == high:
        zero_point = qmin + 1 if low < 0 and qmin >= 0 else 0
        return (_round_scale(abs(low), scale_format) if low else Fraction(1)), zero_point
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
