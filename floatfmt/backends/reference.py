"""Every operation in pure NumPy: the oracle the C kernel is checked against, and the fallback.

Arrays are C-contiguous, of native byte order, and written into buffers the caller made; the
signatures and docstrings here are those of every backend. Callers work inside
`float_environment()`. Conversions are integer arithmetic on bit patterns; quantisers compute in
float64. Checked against `exact.py`.

`x` of a quantiser is a 3-D array (outer, channels, inner) of fp64, fp32, fp16 or bf16 values; each
channel has one scale and zero point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..elements import ABOVE, AT_OR_ABOVE, Intervals, Scaling, limits, saturating
from ..formats import Format, format
from ..rounding import Rounding, Rules, rules

__all__ = [
    "absmax_scale",
    "amax",
    "cast",
    "compose",
    "decode",
    "decompose",
    "dequantize",
    "dequantize_packed",
    "dequantize_sums",
    "dequantize_table",
    "encode",
    "float_environment",
    "int8_linear",
    "int8_product",
    "minmax",
    "pack",
    "power_scale",
    "quantize",
    "quantize_absmax",
    "quantize_format",
    "quantize_intervals",
    "quantize_range",
    "round_to",
    "unpack",
    "zeropoint_parameters",
]

Float64: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

FP64 = format("fp64")
FP64_INFINITY = FP64.exponent_mask << FP64.fraction_bits
U64 = np.uint64


class SubnormalsFlushedError(RuntimeError):
    """The process has FTZ or DAZ switched on, and NumPy's arithmetic cannot escape it."""


class Team(NamedTuple):
    """Threads that share a piece of work in C.

    Attributes
    ----------
    address : int
        Of a function like OpenMP's GOMP_parallel; 0 for no more threads than the caller's.
    threads : int
        How many of them.
    """

    address: int
    threads: int


ALONE = Team(0, 1)


class FloatState(NamedTuple):
    """How a thread's float arithmetic is set.

    Attributes
    ----------
    ftz : bool
        A subnormal result becomes 0.
    daz : bool
        A subnormal operand counts as 0.
    rounding : Rounding
        The direction: nearest even, toward zero, toward positive or toward negative.
    """

    ftz: bool
    daz: bool
    rounding: Rounding


def float_state() -> FloatState:
    """Return what this thread's float arithmetic shows of itself."""
    with np.errstate(all="ignore"):
        return FloatState(*_flushes(), _direction())


def flushes_subnormals() -> bool:
    """Return whether this thread's float arithmetic flushes subnormals (FTZ or DAZ is on)."""
    return any(_flushes())


def _flushes() -> tuple[bool, bool]:
    """Return whether FTZ is on, and whether DAZ is."""
    # FTZ empties the product; its bits are asked, for DAZ compares what it left as 0.
    product = np.float64(2.0**-1022) * np.float64(0.5)
    # DAZ reads the operand, an integer pattern, as 0; the product is normal.
    subnormal = np.array(1, np.uint64).view(np.float64)
    return bool(product.view(np.uint64) == 0), bool(subnormal * np.float64(2.0**60) == 0)


def _direction() -> Rounding:
    # NumPy's scalars: Python would compute with constants as it compiles.
    one, little = np.float64(1), np.float64(2.0**-54)
    moves = (bool(one + little > one), bool(-one - little < -one), bool(one - little < one))
    return _DIRECTIONS[moves]


#: By whether 2**-54 moves 1 up, -1 down, and 1 down: the last is a tie, and 1 is even.
_DIRECTIONS = {
    (False, False, False): Rounding.NEAREST_EVEN,
    (False, False, True): Rounding.TOWARD_ZERO,
    (True, False, False): Rounding.TOWARD_POSITIVE,
    (False, True, True): Rounding.TOWARD_NEGATIVE,
}


@contextmanager
def float_environment() -> Iterator[None]:
    """Run a block of NumPy arithmetic, on condition that subnormals are kept.

    Raises
    ------
    SubnormalsFlushedError
        FTZ or DAZ is on: NumPy's results would be wrong.
    """
    if flushes_subnormals():
        raise SubnormalsFlushedError(
            "this process flushes subnormal numbers to zero (FTZ/DAZ is on), so NumPy's results"
            " would be wrong; switch it off (torch.set_flush_denormal(False)) or use a native"
            " backend, which is immune"
        )
    with np.errstate(all="ignore"):
        yield


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return finite values as a dtype that holds them, subnormals too, whatever the process set.

    Values of that dtype are returned as they are.
    """
    with float_environment():
        return values.astype(dtype, copy=False)


# --- fields -------------------------------------------------------------------------------------


def decompose(
    codes: np.ndarray, fmt: Format, sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray
) -> None:
    """Split codes into sign, biased exponent and fraction arrays of the same size."""
    sign[...] = codes & fmt.sign_bit != 0
    exponent[...] = codes >> fmt.fraction_bits & fmt.exponent_mask
    fraction[...] = codes & fmt.fraction_mask


def compose(
    sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray, fmt: Format, codes: np.ndarray
) -> bool:
    """Join sign, biased exponent and fraction to codes.

    Returns
    -------
    bool
        Whether every part fits its field; if not, `codes` means nothing.
    """
    dtype = codes.dtype
    codes[...] = (
        sign.astype(dtype) * dtype.type(fmt.sign_bit)
        | (exponent.astype(dtype) << fmt.fraction_bits)
        | fraction.astype(dtype)
    )
    strays = (sign > fmt.signed, exponent > fmt.exponent_mask, fraction > fmt.fraction_mask)
    return not any(stray.any() for stray in strays)


# --- conversions --------------------------------------------------------------------------------

#: Where a stochastic rounding takes its random words from: the seed, and the first value's index.
Stream: TypeAlias = "tuple[int, int]"


def encode(values: np.ndarray, how: Rules, codes: np.ndarray, random: Stream | None = None) -> bool:
    """Round fp64, fp32, fp16 or bf16 values to codes, in one rounding, by the rules.

    Parameters
    ----------
    random : (seed, index of the first value), optional
        For stochastic rounding.

    Returns
    -------
    bool
        False if a value is NaN and the rules have no code for it; then `codes` means nothing.
    """
    source = format(values.dtype)
    patterns = _widen(values.view(source.code_dtype), source)
    words = None if random is None else philox(*random, values.size).reshape(values.shape)
    codes[...] = _encode_fp64(patterns, how, words)
    return how.nans is not None or not (_magnitude(patterns) > U64(FP64_INFINITY)).any()


def _magnitude(patterns: np.ndarray) -> np.ndarray:
    return patterns & U64(FP64.magnitude_mask)


def _by_sign(pair: tuple[int, int], negative: np.ndarray) -> np.ndarray:
    positive, other = np.array([code % 2**64 for code in pair], U64).view(np.int64)
    return np.where(negative, other, positive)


def _encode_fp64(patterns: np.ndarray, how: Rules, words: np.ndarray | None = None) -> np.ndarray:
    """Return codes as uint64; a format's magnitudes are rounded as if they went on without end."""
    fmt = how.format
    negative = patterns >> U64(63) != 0
    magnitude = _magnitude(patterns)
    rounded = _round_magnitudes(magnitude, negative, how, words)
    kept = np.where(rounded <= fmt.fraction_mask, 0, rounded) if how.flushes else rounded
    code = _signed(kept, negative, how)
    code = np.where(
        rounded > _by_sign(how.limit, negative), _by_sign(how.overflows, negative), code
    )
    code = np.where(magnitude == 0, _by_sign(how.zero, negative), code).astype(U64)
    infinite = magnitude == U64(FP64_INFINITY)
    code = np.where(infinite, _by_sign(how.infinity, negative).astype(U64), code)
    is_nan = magnitude > U64(FP64_INFINITY)
    return np.where(is_nan, _nan_codes(magnitude, negative, how), code) if is_nan.any() else code


def _signed(magnitude: np.ndarray, negative: np.ndarray, how: Rules) -> np.ndarray:
    fmt = how.format
    if fmt.twos_complement:
        return np.where(negative, -magnitude & ((1 << fmt.bits) - 1), magnitude)
    sign = np.int64(-(2**63) if fmt.bits == 64 else fmt.sign_bit)
    signed = np.where(negative, magnitude | sign, magnitude)
    return np.where(magnitude == 0, _by_sign(how.zero, negative), signed) if fmt.zero else signed


def _nan_codes(magnitude: np.ndarray, negative: np.ndarray, how: Rules) -> np.ndarray:
    if how.nans is None:
        return np.zeros_like(magnitude)  # the caller raises an error
    code = np.where(negative, U64(how.nans[1]), U64(how.nans[0]))
    if not how.keeps_payload:
        return code
    payload = (magnitude & U64(FP64.fraction_mask)) >> U64(52 - how.format.fraction_bits)
    payload |= U64(how.format.quiet_bit if how.quiets else 0)
    return code | np.maximum(payload, U64(1))


def _round_magnitudes(
    magnitude: np.ndarray, negative: np.ndarray, how: Rules, words: np.ndarray | None
) -> np.ndarray:
    """Return the magnitudes in a format, int64, of fp64 magnitudes."""
    fmt, first = how.format, int(how.format.zero)
    exponent = (magnitude >> U64(52)).astype(np.int64)
    hidden = (exponent > 0).astype(U64) << U64(52)
    significand = (magnitude & U64(FP64.fraction_mask)) | hidden
    # The format's biased exponent; below the first binade the value loses more bits.
    biased = np.maximum(exponent, 1) - FP64.bias + fmt.bias
    dropped = 52 - fmt.fraction_bits + np.maximum(first - biased, 0)
    shift = np.minimum(dropped, 63).astype(U64)
    kept = significand >> shift
    rest = significand - (kept << shift)
    # The hidden bit adds the first exponent step; a carry out of the fraction adds one more.
    floor = kept.astype(np.int64) + ((np.maximum(biased, first) - 1) << fmt.fraction_bits)
    if how.rounding is Rounding.STOCHASTIC:
        assert words is not None
        up = _leading_32(rest, dropped) + words >> U64(32) != 0
    else:
        half = (U64(1) << shift) >> U64(1)
        up = _rounds_up(how.rounding, rest, half, floor & 1 != 0, negative)
    return np.maximum(floor + up, 0)


def _rounds_up(
    mode: Rounding, rest: np.ndarray, half: np.ndarray, odd: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """Return whether magnitudes go up: `rest` is what they exceed the magnitude below by."""
    inexact = rest > 0
    if mode is Rounding.NEAREST_EVEN:
        return (rest > half) | (inexact & (rest == half) & odd)
    if mode is Rounding.NEAREST_AWAY:
        return inexact & (rest >= half)
    if mode is Rounding.TOWARD_ZERO:
        return np.zeros_like(inexact)
    if mode is Rounding.TO_ODD:
        return inexact & ~odd
    return inexact & (negative == (mode is Rounding.TOWARD_NEGATIVE))


def _leading_32(rest: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Return ``floor(rest * 2**32 / 2**dropped)``, the discarded fraction to 32 bits."""
    up = np.maximum(32 - dropped, 0).astype(U64)
    down = np.clip(dropped - 32, 0, 63).astype(U64)
    return rest << up >> down


def philox(seed: int, start: int, n: int) -> np.ndarray:
    """Return the random words of `n` elements from index `start` on, 32 bits in uint64.

    ``exact.random_word`` is the definition.
    """
    blocks = np.arange(start // 4, (start + n + 3) // 4, dtype=U64)
    low32 = U64(0xFFFFFFFF)
    zero = np.zeros_like(blocks)
    c = [blocks & low32, blocks >> U64(32), zero, zero]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = c[0] * U64(0xD2511F53), c[2] * U64(0xCD9E8D57)
        c = [
            second >> U64(32) ^ c[1] ^ U64(key[0]),
            second & low32,
            first >> U64(32) ^ c[3] ^ U64(key[1]),
            first & low32,
        ]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return np.stack(c, axis=1).reshape(-1)[start % 4 : start % 4 + n]


def _widen(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Return codes as fp64 patterns of the same values.

    NaN payloads keep their leading place; a NaN that has none is quiet.
    """
    code = codes.astype(U64)
    negative = code & U64(fmt.sign_bit) != 0
    if fmt.twos_complement:
        magnitude = np.where(negative, U64(1 << fmt.bits) - code, code)
    else:
        magnitude = code & U64(fmt.magnitude_mask)
    exponent = magnitude >> U64(fmt.fraction_bits)
    wide = (magnitude << U64(52 - fmt.fraction_bits)) + (U64(FP64.bias - fmt.bias) << U64(52))
    # Up to the end of the first binade, values are equally spaced. An integer below 2**53 converts
    # exactly, and no bit falls below fp64's smallest subnormal.
    hidden = 0 if fmt.zero else 1 << fmt.fraction_bits
    linear = np.ldexp((magnitude + U64(hidden)).astype(np.float64), fmt.step_exponent).view(U64)
    wide = np.where(exponent == 0, linear, wide)
    special = magnitude > U64(fmt.max_code + fmt.twos_complement)
    fraction: Any = U64(FP64.quiet_bit)
    if fmt.nan == "ieee":
        fraction = (magnitude & U64(fmt.fraction_mask)) << U64(52 - fmt.fraction_bits)
    elif fmt.infinity_code is not None:
        fraction = np.where(magnitude == U64(fmt.infinity_code), U64(0), fraction)
    wide = np.where(special, U64(FP64_INFINITY) | fraction, wide)
    wide |= negative.astype(U64) << U64(63)
    if fmt.nan == "negative_zero":
        wide = np.where(code == U64(fmt.sign_bit), U64(FP64_INFINITY | FP64.quiet_bit), wide)
    return wide


def decode(codes: np.ndarray, fmt: Format, values: np.ndarray) -> None:
    """Write the exact values of codes as float32 or float64, which must hold them all.

    NaNs keep sign, payload and signalling bit.
    """
    wide = _widen(codes, fmt)
    if values.dtype == np.float64:
        values.view(U64)[...] = wide
        return
    values.view(np.uint32)[...] = _encode_fp64(wide, rules(format("fp32"), nan="preserve"))


def round_to(values: np.ndarray, how: Rules, out: np.ndarray, random: Stream | None = None) -> bool:
    """Round float32 or float64 values to a format all of whose values their dtype holds.

    Returns
    -------
    bool
        As `encode`.
    """
    codes, wide = np.empty(values.shape, how.format.code_dtype), np.empty(values.shape)
    fine = encode(values, how, codes, random)
    decode(codes, how.format, wide)
    back = rules(format(out.dtype), nan="preserve")
    return encode(wide, back, out.view(back.format.code_dtype)) and fine


# --- packed storage -----------------------------------------------------------------------------

BitOrder: TypeAlias = Literal["big", "little"]


def pack(codes: np.ndarray, packed: np.ndarray, bits: int, high_first: bool) -> None:
    """Pack uint8 codes of 1 to 8 bits into ``ceil(n * bits / 8)`` bytes.

    The first code takes the lowest bits of the first byte, or the highest with `high_first`.
    """
    order: BitOrder = "big" if high_first else "little"
    planes = np.unpackbits(codes[:, None], axis=1, bitorder=order)
    kept = planes[:, 8 - bits :] if high_first else planes[:, :bits]
    packed[...] = np.packbits(kept, bitorder=order)


def unpack(packed: np.ndarray, codes: np.ndarray, bits: int, high_first: bool) -> None:
    """Undo `pack`: as many codes as there is room for."""
    order: BitOrder = "big" if high_first else "little"
    planes = np.unpackbits(packed, bitorder=order, count=codes.size * bits).reshape(-1, bits)
    wide = np.zeros((codes.size, 8), np.uint8)
    wide[:, 8 - bits if high_first else 0 : 8 if high_first else bits] = planes
    codes[...] = np.packbits(wide, axis=1, bitorder=order)[:, 0]


# --- quantisation -------------------------------------------------------------------------------


def amax(x: np.ndarray) -> Float64:
    """Return each channel's largest magnitude; not finite if any of its values is not."""
    return np.abs(x.astype(np.float64)).max(axis=(0, 2), initial=0.0)


def minmax(x: np.ndarray) -> tuple[Float64, Float64]:
    """Return each channel's least and greatest value; one is not finite if any value is not.

    -0 is less than 0. An empty channel has (inf, -inf).
    """
    wide = x.astype(np.float64)
    low, high = wide.min(axis=(0, 2), initial=np.inf), wide.max(axis=(0, 2), initial=-np.inf)
    # NumPy takes either zero.
    minus, plus = (((wide == 0) & (np.signbit(wide) == s)).any(axis=(0, 2)) for s in (True, False))
    return np.where((low == 0) & minus, -0.0, low), np.where((high == 0) & plus, 0.0, high)


def absmax_scale(amax: Float64, scale_format: Format, largest: float = 127) -> Float64:
    """Return the scales ``amax / largest``, rounded to `scale_format`; 1 where amax is 0."""
    scale = _round_scale(amax, amax / largest, largest, scale_format)
    return np.where(amax == 0, 1.0, scale)


def power_scale(amax: Float64, rule: str, largest: float, fraction_bits: int) -> Float64:
    """Return powers of two from 2**-127 to 2**127, by a rule of `POWER_RULES`; 1 where amax is 0.

    The exponent is that of amax less that of the elements' `largest` value, once amax has been
    rounded: "floor" down; "ceil" up; "even" half up to the elements' `fraction_bits`, then down.
    "rceil" takes the least power of two with which amax does not lie beyond `largest`.
    """
    significand, exponent = np.frexp(amax)
    top, top_exponent = np.frexp(largest)
    ups = {
        "floor": np.zeros(amax.shape, bool),
        "ceil": significand > 0.5,
        "even": significand >= 1 - 2.0 ** -(fraction_bits + 2),
        "rceil": significand > top,
    }
    power = np.clip(exponent.astype(np.int64) - int(top_exponent) + ups[rule], -127, 127)
    return np.where(amax == 0, 1.0, np.ldexp(1.0, power))


def zeropoint_parameters(
    low: Float64, high: Float64, scale_format: Format, qmin: int = -128, qmax: int = 127
) -> tuple[Float64, Float64]:
    """Return scales ``(high - low) / (qmax - qmin)`` and zero points, integers held in float64.

    Where high = low = c the scale is abs(c), or 1 for c = 0, and the zero point 0; for negative c
    and codes that are not ``qmin + 1``.
    """
    levels = qmax - qmin
    with np.errstate(over="ignore"):
        spread = high - low
        # A spread beyond fp64 is divided first: halving changes no bit of the quotient.
        quotient = np.where(np.isinf(spread), (high / 2 - low / 2) / (levels / 2), spread / levels)
        scale = _round_scale(spread, quotient, levels, scale_format)
    constant = high == low
    size = np.abs(low)
    constant_scale = np.where(low == 0, 1.0, _round_scale(size, size, 1, scale_format))
    scale = np.where(constant, constant_scale, scale)
    # Without negative codes a negative constant has that below the zero point.
    of_constant = np.where((low < 0) & (qmin >= 0), qmin + 1.0, 0.0)
    zero_point = np.where(constant, of_constant, np.rint(qmin - low / scale))
    # Only a scale that overflowed its format needs the limit; int64 has to hold the result.
    zero_point = np.clip(zero_point, -(2.0**62), 2.0**62)
    return scale, zero_point + 0.0  # + 0.0: never -0


def _round_scale(numerator: Float64, quotient: Float64, divisor: float, fmt: Format) -> Float64:
    """Round quotients to nearest if normal in `fmt`, up if subnormal, down to the largest.

    A format without a fraction rounds all of them up.
    """
    mode = Rounding.NEAREST_EVEN if fmt.fraction_bits else Rounding.TOWARD_POSITIVE
    code = _encode_fp64(quotient.view(U64), rules(fmt, mode, overflow="saturate"))
    rounded = _widen(code, fmt).view(np.float64)
    if not fmt.zero:
        return rounded
    subnormal = rounded < 2.0**fmt.min_exponent
    steps_exponent = fmt.fraction_bits - fmt.min_exponent
    steps = np.ceil(np.ldexp(np.where(subnormal, numerator, 0.0), steps_exponent) / divisor)
    steps = np.maximum(steps, 1.0)  # where the division itself went below float64
    up = _widen(steps.astype(U64), fmt).view(np.float64)
    return np.where(subnormal, up, rounded)


def quantize(
    x: np.ndarray, scale: Float64, zero_point: Float64, qmin: int, qmax: int, codes: np.ndarray
) -> int:
    """Write ``clamp(rint(x / scale) + zero_point, qmin, qmax)`` as bytes, one channel a scale.

    Returns
    -------
    int
        How many values were clamped; -1 if any is NaN or Inf, and then `codes` means nothing.
    """
    wide = x.astype(np.float64)
    if not np.isfinite(wide).all():
        return -1
    with np.errstate(over="ignore"):
        q = np.rint(wide / scale[:, None]) + zero_point[:, None]
    codes[...] = np.clip(q, qmin, qmax).astype(codes.dtype)
    return int(np.count_nonzero((q < qmin) | (q > qmax)))


def scales(amax: Float64, how: Scaling) -> Float64:
    """Return the scales that follow from largest magnitudes."""
    if how.power_rule is None:
        return absmax_scale(amax, how.format, how.largest)
    return power_scale(amax, how.power_rule, how.largest, how.fraction_bits)


def quantize_absmax(
    x: np.ndarray,
    how: Scaling,
    elements: int | Intervals | Format,
    packs: bool,
    codes: np.ndarray,
) -> tuple[Float64, int]:
    """Return scales, and write the codes of scaled values: for arrays whose `outer` is 1.

    `elements` are the integers from -elements to elements, intervals, or a format's values. With
    `packs`, codes of 4 bits go two a byte, the first in its low bits; `inner` is even.

    Returns
    -------
    scale : float64 array
    int
        As `quantize`.
    """
    most = amax(x)
    if not np.isfinite(most).all():
        return most, -1
    scale = scales(most, how)
    loose = np.empty(x.shape, np.uint8) if packs else codes
    if isinstance(elements, Intervals):
        clamped = quantize_intervals(x, scale * how.times, elements, loose)
    elif isinstance(elements, Format):
        clamped = quantize_format(x, scale, saturating(elements), *limits(elements), loose)
    else:
        signed = loose.view(np.int8)
        clamped = quantize(x, scale, np.zeros_like(scale), -elements, elements, signed)
    if packs:
        pack(loose.reshape(-1), codes.reshape(-1), 4, False)
    return scale, clamped


def quantize_range(
    x: np.ndarray,
    scale_format: Format,
    includes_zero: bool,
    qmin: int,
    qmax: int,
    codes: np.ndarray,
) -> tuple[Float64, Float64, int]:
    """Return scales and zero points, and write the codes: for arrays whose `outer` is 1.

    With `includes_zero` ranges go on to 0, and zero points are codes. `inner` is not 0.

    Returns
    -------
    scale, zero_point : float64 arrays
    int
        As `quantize`.
    """
    low, high = minmax(x)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return low, high, -1
    if includes_zero:
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    scale, zero_point = zeropoint_parameters(low, high, scale_format, qmin, qmax)
    if includes_zero:  # a coarse scale may push it out
        zero_point = np.clip(zero_point, qmin, qmax)
    return scale, zero_point, quantize(x, scale, zero_point, qmin, qmax, codes)


def quantize_intervals(x: np.ndarray, scale: Float64, parts: Intervals, codes: np.ndarray) -> int:
    """Write the code of the interval that x lies in, thresholds being multiplied by the scale.

    Returns
    -------
    int
        As `quantize`.
    """
    wide = x.astype(np.float64)
    if not np.isfinite(wide).all():
        return -1
    count, above = np.zeros(x.shape, np.int64), np.ones(x.shape, bool)
    for threshold, side in zip(parts.thresholds, parts.sides, strict=True):
        edge = (threshold * scale + 0.0)[:, None]
        equal = (wide == edge) & ((side == AT_OR_ABOVE) | ~np.signbit(wide))
        # Of thresholds that the scale has made equal the lowest decides about equal values.
        above &= (wide > edge) | (equal if side != ABOVE else False)
        count += above
    codes[...] = parts.codes[count]
    outside = (wide < (parts.low * scale)[:, None]) | (wide > (parts.high * scale)[:, None])
    return int(np.count_nonzero(outside))


def quantize_format(
    x: np.ndarray,
    scale: Float64,
    how: Rules,
    low: float,
    high: float,
    codes: np.ndarray,
) -> int:
    """Write the codes of ``x / scale``: the float64 quotient, rounded by the rules.

    Returns
    -------
    int
        How many quotients are less than `low` or greater than `high`; -1 as `quantize`.
    """
    wide = x.astype(np.float64)
    if not np.isfinite(wide).all():
        return -1
    with np.errstate(over="ignore", under="ignore"):
        q = wide / scale[:, None]
    encode(q, how, codes)
    return int(np.count_nonzero((q < low) | (q > high)))


def dequantize(codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray) -> None:
    """Write ``(codes - zero_point) * scale`` by float64, rounded once to out's dtype, clamped."""
    _store_scaled(codes.astype(np.float64) - zero_point[:, None], scale, out)


def int8_product(x: np.ndarray, w: np.ndarray, sums: np.ndarray) -> None:
    """Write ``x @ w.T`` of int8 codes, exact as long as every sum is within int32.

    Parameters
    ----------
    x, w : int8 array, (rows, inputs) and (outputs, inputs)
        In C order.
    sums : int32 array, (rows, outputs)
        In C order.
    """
    sums[...] = x.astype(np.float64) @ w.T.astype(np.float64)  # integers far below 2**53


def int8_linear(
    x: np.ndarray,
    w: np.ndarray,
    row_scale: Float64,
    column_scale: np.ndarray,
    other: Float64 | None,
    bias: np.ndarray | None,
    out: np.ndarray,
    team: Team = ALONE,
) -> None:
    """Write `dequantize_sums` of `int8_product`, by the threads of a team."""
    sums = np.empty(out.shape, np.int32)
    int8_product(x, w, sums)
    dequantize_sums(sums, row_scale, column_scale, other, bias, out)


def dequantize_sums(
    sums: np.ndarray,
    row_scale: Float64,
    column_scale: np.ndarray,
    other: Float64 | None,
    bias: np.ndarray | None,
    out: np.ndarray,
    team: Team = ALONE,
) -> None:
    """Write ``sums * (row_scale * column_scale) + other + bias`` of int32 sums, as fp32.

    Parameters
    ----------
    sums : int32 array, (rows, columns)
        Exact sums of products of codes.
    row_scale : float64 array
        One a row; no more significant than fp32.
    column_scale, bias : float32 array
        One a column; no bias if None.
    other : float64 array or None
        Shaped as `sums`.
    out : float32 array
        Shaped as `sums`; each operation rounds to float64, and the last result to fp32.
    team : Team
        Whose threads share the work, where the backend can.
    """
    values = sums * (row_scale[:, None] * column_scale)
    if other is not None:
        values += other
    if bias is not None:
        values += bias
    with np.errstate(over="ignore", under="ignore"):
        out[...] = values


def dequantize_table(
    codes: np.ndarray, scale: Float64, table: Float64, entries: int, out: np.ndarray
) -> None:
    """Write ``table[codes] * scale`` as `dequantize` does; codes are less than `entries`."""
    _store_scaled(table[codes], scale, out)


def dequantize_packed(packed: np.ndarray, scale: Float64, table: Float64, out: np.ndarray) -> None:
    """Write ``table[codes] * scale`` of 4-bit codes, two a byte, for arrays whose `outer` is 1."""
    codes = np.empty(out.size, np.uint8)
    unpack(packed.reshape(-1), codes, 4, False)
    _store_scaled(table[codes.reshape(out.shape)], scale, out)


def _store_scaled(values: Float64, scale: Float64, out: np.ndarray) -> None:
    fmt = format(out.dtype)
    largest = float(fmt.max_finite)
    with np.errstate(over="ignore", under="ignore"):
        product = values * scale[:, None]
    rounded = _encode_fp64(np.clip(product, -largest, largest).view(U64), rules(fmt))
    out.view(fmt.code_dtype)[...] = rounded
