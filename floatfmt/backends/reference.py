"""Every operation in pure NumPy: the oracle the C kernel is checked against, and the fallback.

Arrays are C-contiguous, of native byte order, and written into buffers the caller made; the
signatures and docstrings here are those of every backend. Callers work inside
`float_environment()`. Float conversions are integer arithmetic
on bit patterns; quantisers compute in float64. Checked against `exact.py`.

`x` of a quantiser is a 3-D array (outer, channels, inner) of fp64, fp32, fp16 or bf16 values; each
channel has one scale and zero point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from ..formats import Format, format

__all__ = [
    "absmax_scale",
    "amax",
    "compose",
    "decode",
    "decompose",
    "dequantize",
    "encode",
    "float_environment",
    "minmax",
    "quantize",
    "round_to",
    "zeropoint_parameters",
]

Float64: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

FP64 = format("fp64")
U64 = np.uint64


class SubnormalsFlushedError(RuntimeError):
    """The process has FTZ or DAZ switched on, and NumPy's arithmetic cannot escape it."""


def flushes_subnormals() -> bool:
    """Return whether this thread's float arithmetic flushes subnormals (FTZ or DAZ is on)."""
    smallest_normal = np.float64(2.0**-1022)
    # FTZ empties the product; DAZ reads the operand, an integer pattern, as 0.
    subnormal = np.array(1, np.uint64).view(np.float64)
    return smallest_normal * np.float64(0.5) == 0 or subnormal * np.float64(2.0**60) == 0


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


# --- fields -------------------------------------------------------------------------------------


def decompose(
    codes: np.ndarray, fmt: Format, sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray
) -> None:
    """Split codes into sign, biased exponent and fraction arrays of the same size."""
    sign[...] = codes >> (fmt.bits - 1)
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
        (sign.astype(dtype) << (fmt.bits - 1))
        | (exponent.astype(dtype) << fmt.fraction_bits)
        | fraction.astype(dtype)
    )
    strays = (sign > 1, exponent > fmt.exponent_mask, fraction > fmt.fraction_mask)
    return not any(stray.any() for stray in strays)


# --- conversions --------------------------------------------------------------------------------


def encode(values: np.ndarray, fmt: Format, codes: np.ndarray) -> None:
    """Round fp64, fp32, fp16 or bf16 values to codes: nearest, ties to even, one rounding.

    A zero keeps its sign; magnitudes from max + ulp/2 on become Inf; a NaN becomes quiet and keeps
    its sign and the leading bits of its payload.
    """
    source = format(values.dtype)
    patterns = values.view(source.code_dtype)
    codes[...] = _encode_fp64(_widen(patterns, source), fmt)


def _encode_fp64(patterns: np.ndarray, fmt: Format) -> np.ndarray:
    magnitude = patterns & U64(FP64.sign_bit - 1)
    exponent = (magnitude >> U64(52)).astype(np.int64)
    hidden = (exponent > 0).astype(U64) << U64(52)
    significand = (magnitude & U64(FP64.fraction_mask)) | hidden
    # The target's biased exponent; below 1 the value lies among its subnormals and loses more bits.
    biased = np.maximum(exponent, 1) - FP64.bias + fmt.bias
    dropped = 52 - fmt.fraction_bits + np.maximum(1 - biased, 0)
    rounded = _shift_half_even(significand, np.minimum(dropped, 63).astype(U64))
    # The hidden bit adds the first exponent step; a carry out of the fraction adds one more.
    code = rounded + (np.maximum(biased - 1, 0).astype(U64) << U64(fmt.fraction_bits))
    infinity = U64(fmt.infinity_code)
    is_special = exponent == FP64.exponent_mask
    code = np.where(is_special, infinity, np.minimum(code, infinity))
    payload = (magnitude & U64(FP64.fraction_mask)) >> U64(52 - fmt.fraction_bits)
    is_nan = magnitude > U64(FP64.infinity_code)
    code = np.where(is_nan, infinity | U64(fmt.quiet_bit) | payload, code)
    return code | (patterns >> U64(63) << U64(fmt.bits - 1))


def _shift_half_even(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return x / 2**shift rounded to nearest, ties to even, for x < 2**53 and shift < 64."""
    kept = x >> shift
    half = (U64(1) << shift) >> U64(1)
    dropped = x - (kept << shift)
    up = (dropped > half) | ((dropped == half) & (half > 0) & (kept & U64(1) == 1))
    return kept + up.astype(U64)


def _widen(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Return codes as fp64 patterns of the same values; NaN payloads keep their leading place."""
    code = codes.astype(U64)
    exponent = (code >> U64(fmt.fraction_bits)) & U64(fmt.exponent_mask)
    fraction = code & U64(fmt.fraction_mask)
    wide_exponent = exponent + U64(FP64.bias - fmt.bias)
    wide_fraction = fraction << U64(52 - fmt.fraction_bits)
    wide = (wide_exponent << U64(52)) | wide_fraction
    special = exponent == U64(fmt.exponent_mask)
    wide = np.where(special, U64(FP64.infinity_code) | wide_fraction, wide)
    # An integer below 2**53 converts exactly, and no bit falls below fp64's smallest subnormal.
    step = fmt.min_exponent - fmt.fraction_bits
    subnormal = np.ldexp(fraction.astype(np.float64), step).view(U64)
    wide = np.where(exponent == 0, subnormal, wide)
    return wide | (code >> U64(fmt.bits - 1) << U64(63))


def decode(codes: np.ndarray, fmt: Format, values: np.ndarray) -> None:
    """Write the exact values of codes as float32 or float64, which must hold them all.

    NaNs keep sign, payload and signalling bit.
    """
    wide = _widen(codes, fmt)
    if values.dtype == np.float64:
        values.view(U64)[...] = wide
        return
    quiet = _encode_fp64(wide, format("fp32")).astype(np.uint32)
    # Encoding quietens; nothing else changes, for fp32 holds the value. Put the signal back.
    signalling = (wide & U64(FP64.sign_bit - 1) > U64(FP64.infinity_code)) & (
        wide & U64(FP64.quiet_bit) == 0
    )
    values.view(np.uint32)[...] = np.where(signalling, quiet & ~np.uint32(1 << 22), quiet)


def round_to(values: np.ndarray, fmt: Format, out: np.ndarray) -> None:
    """Round float32 or float64 values to a format all of whose values their dtype holds."""
    codes, wide = np.empty(values.shape, fmt.code_dtype), np.empty(values.shape)
    encode(values, fmt, codes)
    decode(codes, fmt, wide)
    encode(wide, format(out.dtype), out.view(format(out.dtype).code_dtype))


# --- int8 quantisation --------------------------------------------------------------------------


def amax(x: np.ndarray) -> Float64:
    """Return each channel's largest magnitude; not finite if any of its values is not."""
    return np.abs(x.astype(np.float64)).max(axis=(0, 2), initial=0.0)


def minmax(x: np.ndarray) -> tuple[Float64, Float64]:
    """Return each channel's least and greatest value; one is not finite if any value is not.

    An empty channel has (inf, -inf).
    """
    wide = x.astype(np.float64)
    return wide.min(axis=(0, 2), initial=np.inf), wide.max(axis=(0, 2), initial=-np.inf)


def absmax_scale(amax: Float64, scale_format: Format, qmax: int = 127) -> Float64:
    """Return the scales ``amax / qmax``, rounded to `scale_format`; 1 where amax is 0."""
    scale = _round_scale(amax, amax / qmax, qmax, scale_format)
    return np.where(amax == 0, 1.0, scale)


def zeropoint_parameters(
    low: Float64, high: Float64, scale_format: Format, qmin: int = -128, qmax: int = 127
) -> tuple[Float64, Float64]:
    """Return scales ``(high - low) / (qmax - qmin)`` and zero points, integers held in float64.

    Where high = low = c the scale is abs(c), or 1 for c = 0, and the zero point 0.
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
    zero_point = np.where(constant, 0.0, np.rint(qmin - low / scale))
    # Only a scale that overflowed its format needs the limit; int64 has to hold the result.
    zero_point = np.clip(zero_point, -(2.0**62), 2.0**62)
    return scale, zero_point + 0.0  # + 0.0: never -0


def _round_scale(numerator: Float64, quotient: Float64, divisor: int, fmt: Format) -> Float64:
    """Round quotients to nearest if normal in `fmt`, up if subnormal, down to the largest."""
    code = _encode_fp64(quotient.view(U64), fmt)
    code = np.minimum(code, U64(fmt.infinity_code - 1))
    rounded = _widen(code, fmt).view(np.float64)
    subnormal = rounded < float(fmt.min_normal)
    # ceil(n / d) of a real n and an integer d is ceil(ceil(n) / d), all in int64.
    steps_exponent = fmt.fraction_bits - fmt.min_exponent
    steps = np.ceil(np.ldexp(np.where(subnormal, numerator, 0.0), steps_exponent)).astype(np.int64)
    up = _widen((-(-steps // divisor)).astype(U64), fmt).view(np.float64)
    return np.where(subnormal, up, rounded)


def quantize(
    x: np.ndarray, scale: Float64, zero_point: Float64, qmin: int, qmax: int, codes: np.ndarray
) -> int:
    """Write ``clamp(rint(x / scale) + zero_point, qmin, qmax)`` as int8, one channel a scale.

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
    codes[...] = np.clip(q, qmin, qmax).astype(np.int8)
    return int(np.count_nonzero((q < qmin) | (q > qmax)))


def dequantize(codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray) -> None:
    """Write ``(codes - zero_point) * scale`` by float64, rounded once to out's dtype, clamped."""
    fmt = format(out.dtype)
    largest = float(fmt.max_finite)
    with np.errstate(over="ignore"):
        product = (codes.astype(np.float64) - zero_point[:, None]) * scale[:, None]
    rounded = _encode_fp64(np.clip(product, -largest, largest).view(U64), fmt)
    out.view(fmt.code_dtype)[...] = rounded
