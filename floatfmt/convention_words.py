"""The words that rows of conventions are made of, and what each does to arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from .codebooks import DYNAMIC8, FP4, NF4

__all__ = [
    "ADDS_ZERO_POINT",
    "CLAMPS",
    "CODEBOOKS",
    "CODES",
    "CONSTANTS",
    "DEQUANTIZERS",
    "FP32_MAX",
    "FP32_STEP",
    "MULTIPLIERS",
    "NANS",
    "OVER",
    "PICKS",
    "PRECISIONS",
    "ROUNDINGS",
    "SCALES",
    "SHORT_BLOCKS",
    "SPREADS",
    "ZERO_POINTS",
    "at_least_1e38th",
    "check_words",
    "middles",
]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
#: Smallest positive and largest fp32.
FP32_STEP, FP32_MAX = 2.0**-149, float(np.finfo(np.float32).max)
#: A zero point beyond this is no int64.
MOST_ZERO_POINT = 2.0**62

CODES = {"int8": (-128, 127), "uint8": (0, 255)}
PRECISIONS: dict[str, Any] = {"fp32": F32, "fp64": F64}
#: What shares a scale, and of how many values a block is. "row" is all but the last axis, "channel"
#: an index of the axis that is asked for.
OVER: dict[str, int | None] = {
    **dict.fromkeys(("tensor", "row", "channel")),
    **{f"block of {n}": n for n in (32, 64, 128, 256, 512, 1024, 2048, 4096)},
}

# --- scale and zero point -----------------------------------------------------------------------

#: What the scale is made of: the largest magnitude, or from the least value to the greatest.
SPREADS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "amax": lambda low, high: np.maximum(np.abs(low), np.abs(high)),
    "amax but for NaN": lambda low, high: np.maximum(np.abs(low), np.abs(high)),
    "range": lambda low, high: high - low,
    "range with 0": lambda low, high: np.maximum(high, 0) - np.minimum(low, 0),
}


def _never_zero(spread: np.ndarray, levels: int) -> np.ndarray:
    """Return the quotient as fp32: to nearest, but up where it is subnormal."""
    nearest = np.minimum(spread / levels, FP32_MAX).astype(F32).astype(F64)
    steps = np.where(nearest < 2.0**-126, spread, 0) / FP32_STEP
    return np.where(nearest < 2.0**-126, np.ceil(steps / levels) * FP32_STEP, nearest)


#: What is stored as the scale.
SCALES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "spread / levels": lambda spread, levels: spread / spread.dtype.type(levels),
    "spread / levels, never 0": _never_zero,
    "1 / spread * levels": lambda spread, levels: (1 / spread) * spread.dtype.type(levels),
    "spread": lambda spread, levels: spread,
}

#: What values are multiplied by; "" divides by the scale.
MULTIPLIERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "": lambda scale, spread, levels: scale,
    "1 / scale": lambda scale, spread, levels: 1 / scale,
    "1 / max(scale, 1e-38)": lambda scale, spread, levels: 1 / at_least_1e38th(scale),
    "levels / spread": lambda scale, spread, levels: spread.dtype.type(levels) / spread,
    "1 / spread * levels": lambda scale, spread, levels: (1 / spread) * spread.dtype.type(levels),
}


def at_least_1e38th(scale: np.ndarray) -> np.ndarray:
    return np.maximum(scale, scale.dtype.type(F32.type(1e-38)))


#: How a last block that is short differs from the others.
SHORT_BLOCKS: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "": None,
    "divides by max(scale, 1e-38)": at_least_1e38th,
}

#: How the zero point follows: of the factor (scale or multiplier), the least value and code.
ZERO_POINTS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]] = {
    "0": lambda factor, low, lowest, highest: np.zeros_like(factor),
    "rint(lowest - low / scale)": lambda scale, low, lowest, highest: np.clip(
        np.rint(lowest - low / scale), -MOST_ZERO_POINT, MOST_ZERO_POINT
    ),
    "rint(-multiplier * low + lowest)": lambda multiplier, low, lowest, highest: np.rint(
        -multiplier * low + multiplier.dtype.type(lowest)
    ),
    "rint(clamp(lowest - min(low, 0) / scale))": lambda scale, low, lowest, highest: np.rint(
        # NaN, which is 0 / 0 of a scale that underflowed, ends at the highest code
        np.fmax(np.fmin(lowest - np.minimum(low, 0) / scale, highest), lowest)
    ),
}

#: What a spread of 0 gives.
CONSTANTS = (
    *("", "scale is 1", "spread is 1", "multiplier is 0", "scale is its size"),
    "codes are 0",
)

# --- from values to codes -----------------------------------------------------------------------


def _half_away(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)  # the rest is exact, so that no sum is rounded to a tie
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def _half_up(x: np.ndarray) -> np.ndarray:
    whole = np.floor(x)
    return whole + (x - whole >= 0.5)


#: How quotients become integers.
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half even": np.rint,
    "half away": _half_away,
    "half up": _half_up,
    "add half, truncate": lambda x: np.trunc(x + np.copysign(x.dtype.type(0.5), x)),
    "toward zero": np.trunc,
    "down": np.floor,
    "up": np.ceil,
}

#: What codes of a codebook mean, as parts of the scale.
CODEBOOKS: dict[str, np.ndarray] = {
    name: np.array(values, F32)
    for name, values in (("nf4", NF4), ("fp4", FP4), ("dynamic8", DYNAMIC8))
}


@cache
def middles(codebook: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the fp32 middles of neighbours, and the codes in the order of their values."""
    values = CODEBOOKS[codebook]
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return (ordered[:-1] + ordered[1:]) / F32.type(2), order


def _lower_of_a_tie(codebook: str, x: np.ndarray) -> np.ndarray:
    bounds, order = middles(codebook)
    return order[np.searchsorted(bounds, x, side="left")]  # NaN is beyond the last


_BINS = 1 << 16


@cache
def _codes_of_bins(codebook: str) -> np.ndarray:
    """Return the code nearest to the centre of each bin; the codebook is sorted."""
    centres = (2 * np.arange(_BINS)).astype(F32) / F32.type(_BINS - 1) - F32.type(1)
    return np.searchsorted(middles(codebook)[0], centres, side="left")


def _by_bins(codebook: str, x: np.ndarray) -> np.ndarray:
    """Return the code of each value's bin: bitsandbytes' table for the CPU.

    Its product and sum are fused. In fp64 the product is exact, and the sum too.
    """
    parts = (x + F32.type(1)) * F32.type(0.5)
    bins = (parts.astype(F64) * (_BINS - 1) + 0.5).astype(F32)
    return _codes_of_bins(codebook)[np.where(bins == bins, bins, 0).astype(np.int64)]


#: How quotients become codes of a codebook.
PICKS: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
    "nearest, lower of a tie": _lower_of_a_tie,
    "by 65,536 bins": _by_bins,
}

ADDS_ZERO_POINT = ("after rounding", "before rounding", "never")
#: What becomes of rounded values beyond the codes. A C cast leaves it undefined; what saturates is
#: converted to int32 first, where all that is beyond it is the lowest.
CLAMPS = ("last", "none", "wraps", "integer wraps", "before the zero point", "int32 saturates")
#: What a NaN gives: a code, an error, or what a C cast makes of it, which is undefined.
NANS = ("lowest", "highest", "refused", "undefined")

_127TH = np.float32(1 / 127)
#: What a code means: codes less their zero point or a codebook's values, and the scale, as fp64.
DEQUANTIZERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "* scale, rounded once": lambda c, scale: np.clip(c * scale, -FP32_MAX, FP32_MAX),
    "* scale": lambda c, scale: c.astype(F32) * scale.astype(F32),
    "* scale in fp64": lambda c, scale: c * scale,
    "/ scale": lambda c, scale: c.astype(F32) / scale.astype(F32),
    "* scale * (1 / 127)": lambda c, scale: c.astype(F32) * scale.astype(F32) * _127TH,
    "* fp16(scale)": lambda c, scale: c.astype(F32) * scale.astype(np.float16).astype(F32),
}

# --- checking -----------------------------------------------------------------------------------

_WORDS: dict[str, Any] = {
    "rounding": {**ROUNDINGS, **PICKS},
    "codebook": {"": None, **CODEBOOKS},
    "spread": SPREADS,
    "scale": SCALES,
    "multiplier": MULTIPLIERS,
    "constant": CONSTANTS,
    "scale_dtype": PRECISIONS,
    "clamp": CLAMPS,
    "nan": NANS,
    "over": OVER,
    "short_block": SHORT_BLOCKS,
    "dequantize": DEQUANTIZERS,
    "precision": PRECISIONS,
    "zero_point": ZERO_POINTS,
    "adds_zero_point": ADDS_ZERO_POINT,
}


def check_words(row: object) -> None:
    """Raise ValueError if a field of a row or scheme is none of the words there are."""
    for field in fields(row):  # type: ignore[arg-type]
        known = _WORDS.get(field.name)
        value = getattr(row, field.name)
        if known is not None and value not in known:
            raise ValueError(
                f"{field.name} must be one of {', '.join(map(repr, known))}: {value!r}"
            )
