"""Quantisation written a second time, from its documentation: Fractions, one value at a time.

Nothing of `floatfmt` computes here; of it are only the tables of `floatfmt.codebooks`, which are
data. Written from what `ff.quantize`, `ff.Codebook` and `ff.encode` document, and OCP MX v1.0.
Formulas are float64's: `fl` marks each rounding to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from floatfmt.codebooks import DYNAMIC8, FP4, NF4

# --- formats ------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """A floating-point layout of 8 bits at most, as the tables of its specification give it."""

    exponent_bits: int
    fraction_bits: int
    bias: int
    max_code: int
    negative_zero: bool = True

    def magnitude(self, code: int) -> Fraction:
        """Value of a magnitude code, as if exponents went on beyond the largest."""
        exponent, fraction = divmod(code, 1 << self.fraction_bits)
        if exponent == 0:
            exponent = 1
        else:
            fraction += 1 << self.fraction_bits
        return fraction * Fraction(2) ** (exponent - self.bias - self.fraction_bits)

    @property
    def largest(self) -> Fraction:
        return self.magnitude(self.max_code)

    def code(self, negative: bool, magnitude: int) -> int:
        if negative and (magnitude or self.negative_zero):
            return magnitude | 1 << (self.exponent_bits + self.fraction_bits)
        return magnitude

    def value(self, code: int) -> Fraction:
        sign = 1 << (self.exponent_bits + self.fraction_bits)
        return self.magnitude(code & (sign - 1)) * (-1 if code & sign else 1)


class FixedPoint(NamedTuple):
    """MXINT8: two's complement times 2**-6."""

    max_code: int = 127  # -128 stands for -2, which the specification leaves open
    fraction_bits: int = 6

    def magnitude(self, code: int) -> Fraction:
        return Fraction(code, 64)

    @property
    def largest(self) -> Fraction:
        return Fraction(127, 64)

    def code(self, negative: bool, magnitude: int) -> int:
        return (-magnitude if negative else magnitude) & 0xFF

    def value(self, code: int) -> Fraction:
        return Fraction(code - 256 if code >= 128 else code, 64)


#: OCP OFP8 and MX v1.0; LLVM's APFloat for the "fnuz" ones.
LAYOUTS: dict[str, Layout | FixedPoint] = {
    "fp8_e4m3fn": Layout(4, 3, 7, 0x7E),
    "fp8_e4m3": Layout(4, 3, 7, 0x77),
    "fp8_e5m2": Layout(5, 2, 15, 0x7B),
    "fp8_e4m3fnuz": Layout(4, 3, 8, 0x7F, negative_zero=False),
    "fp8_e5m2fnuz": Layout(5, 2, 16, 0x7F, negative_zero=False),
    "fp8_e4m3b11fnuz": Layout(4, 3, 11, 0x7F, negative_zero=False),
    "fp8_e3m4": Layout(3, 4, 3, 0x6F),
    "fp6_e2m3fn": Layout(2, 3, 1, 0x1F),
    "fp6_e3m2fn": Layout(3, 2, 3, 0x1F),
    "fp4_e2m1fn": Layout(2, 1, 1, 0x7),
    "mxint8": FixedPoint(),
}
#: emax_elem of OCP MX v1.0: the exponent of an element format's largest value.
MX = {
    "mxfp8_e4m3fn": ("fp8_e4m3fn", 8),
    "mxfp8_e5m2": ("fp8_e5m2", 15),
    "mxfp6_e2m3fn": ("fp6_e2m3fn", 2),
    "mxfp6_e3m2fn": ("fp6_e3m2fn", 4),
    "mxfp4": ("fp4_e2m1fn", 2),
    "mxint8": ("mxint8", 0),
}
TABLES = {"nf4": (NF4, 64), "fp4": (FP4, 64), "dynamic8": (DYNAMIC8, 4096)}
#: (precision, exponent of the smallest normal, largest value) of scale formats.
SCALES = {
    "fp64": (53, -1022, (2 - Fraction(2) ** -52) * Fraction(2) ** 1023),
    "fp32": (24, -126, (2 - Fraction(2) ** -23) * Fraction(2) ** 127),
    "fp16": (11, -14, Fraction(65504)),
    "bf16": (8, -126, (2 - Fraction(2) ** -7) * Fraction(2) ** 127),
    "fp8_e4m3fn": (4, -6, Fraction(448)),
}


def fl(x: Fraction) -> Fraction:
    """Round to float64, to nearest even; beyond its range to the largest value."""
    try:
        return Fraction(x.numerator / x.denominator)  # CPython's int / int is correctly rounded
    except OverflowError:
        return SCALES["fp64"][2] * (1 if x > 0 else -1)


def fl53(x: Fraction) -> Fraction:
    """Round to 53 bits: float64 without ends, as scales go through it before they are stored."""
    step = Fraction(2) ** (floor_log2(abs(x)) - 52) if x else Fraction(1)
    return rint(x / step) * step


def rint(x: Fraction) -> int:
    return round(x)  # half to even


def floor_log2(x: Fraction) -> int:
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def ceil_log2(x: Fraction) -> int:
    low = floor_log2(x)
    return low if Fraction(2) ** low == x else low + 1


def round_scale(x: Fraction, name: str) -> Fraction:
    """To nearest; up where the result is subnormal, or a power of two; the largest beyond."""
    if name == "e8m0":
        return Fraction(2) ** min(max(ceil_log2(x), -127), 127)
    precision, low, largest = SCALES[name]
    step = Fraction(2) ** (max(floor_log2(x), low) - precision + 1)
    whole = rint(x / step) * step
    if whole < Fraction(2) ** low:
        whole = math.ceil(x / step) * step
    return min(whole, largest)


def output(x: Fraction, name: str) -> Fraction:
    """Round to a format of outputs, to nearest even; the largest value beyond."""
    precision, low, largest = SCALES[name]
    if x == 0:
        return x
    step = Fraction(2) ** (max(floor_log2(abs(x)), low) - precision + 1)
    return max(min(rint(x / step) * step, largest), -largest)


# --- one value to a code ------------------------------------------------------------------------


def chosen(
    x: Fraction, low: Fraction, high: Fraction, index: int, mode: str, negative: bool, random: int
) -> int:
    """Index of the neighbour that a magnitude rounds to: low's index, or the next one."""
    if x == low:
        return index
    part = (x - low) / (high - low)
    even = index if index % 2 == 0 else index + 1
    if mode == "nearest_even":
        return even if part == Fraction(1, 2) else index + (part > Fraction(1, 2))
    if mode == "nearest_away":
        return index + (part >= Fraction(1, 2))
    if mode == "toward_zero":
        return index
    if mode == "toward_positive":
        return index + (not negative)
    if mode == "toward_negative":
        return index + negative
    if mode == "to_odd":
        return index if index % 2 else index + 1
    assert mode == "stochastic"
    return index + (math.floor(part * 2**32) + random >= 2**32)


class Elements(NamedTuple):
    """What codes stand for: how one value becomes a code, and what the code is worth."""

    largest: Fraction | None
    #: (quotient, its sign, zero point, mode, random bits) -> (code, was clamped)
    encode: Callable[[Fraction, bool, int, str, int], tuple[int, bool]]
    value: Callable[[int, int], Fraction]
    #: Codes of -Inf and Inf where they saturate.
    ends: tuple[int, int]
    compares: bool = False


def integers(low: int, high: int) -> Elements:
    def encode(x: Fraction, negative: bool, zero: int, mode: str, random: int) -> tuple[int, bool]:
        whole = math.floor(abs(x))
        magnitude = chosen(abs(x), whole, whole + 1, whole, mode, negative, random)
        code = (-magnitude if negative else magnitude) + zero
        return min(max(code, low), high), not low <= code <= high

    return Elements(Fraction(high), encode, lambda code, zero: Fraction(code - zero), (low, high))


def layout(name: str) -> Elements:
    of = LAYOUTS[name]
    grid = [of.magnitude(code) for code in range(of.max_code + 2)]

    def encode(x: Fraction, negative: bool, zero: int, mode: str, random: int) -> tuple[int, bool]:
        index = of.max_code + 1
        if abs(x) < grid[-1]:
            index = next(i for i in range(of.max_code + 1) if abs(x) < grid[i + 1])
            index = chosen(abs(x), grid[index], grid[index + 1], index, mode, negative, random)
        most = of.max_code + (negative and isinstance(of, FixedPoint))
        index = min(index, most)
        step = grid[of.max_code] - grid[of.max_code - 1]
        return of.code(negative, index), abs(x) > grid[most] + step / 2

    ends = (of.code(True, of.max_code), of.code(False, of.max_code))
    small = name == "fp4_e2m1fn"
    return Elements(of.largest, encode, lambda code, zero: of.value(code), ends, small)


def table(values: list[float] | tuple[float, ...]) -> Elements:
    exact = [Fraction(value) for value in values]
    ranks = sorted(set(exact))
    code_of = [exact.index(value) for value in ranks]

    def encode(x: Fraction, negative: bool, zero: int, mode: str, random: int) -> tuple[int, bool]:
        if x < ranks[0]:
            return code_of[0], ranks[0] - x > (ranks[1] - ranks[0]) / 2
        if x > ranks[-1]:
            return code_of[-1], x - ranks[-1] > (ranks[-1] - ranks[-2]) / 2
        index = max(i for i, value in enumerate(ranks) if value <= x)
        if index == len(ranks) - 1:
            return code_of[index], False
        low, high = ranks[index], ranks[index + 1]
        # Ranks count upwards, so the directions of magnitudes turn round below zero.
        falls = low + high <= 0
        if mode == "toward_zero":
            mode = "toward_positive" if falls else "toward_negative"
        if mode == "nearest_away" and falls:
            index += (x - low) / (high - low) > Fraction(1, 2)
        else:
            index = chosen(x, low, high, index, mode, False, random)
        return code_of[index], False

    largest = max(abs(value) for value in exact)
    ends = (code_of[0], code_of[-1])
    return Elements(largest, encode, lambda code, zero: exact[code], ends, compares=True)


# --- which values share a scale -----------------------------------------------------------------


def groups_of(
    shape: tuple[int, ...], axis: Any, block: int | None, block_axis: int | None
) -> tuple[tuple[int, ...], Callable[[tuple[int, ...]], tuple[int, ...]]]:
    """Shape of the scales, and where the scale of an element is."""
    if block is not None and (block_axis is None or not shape):
        size = math.prod(shape)
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        return (-(-size // block),), lambda at: (
            sum(i * s for i, s in zip(at, strides, strict=True)) // block,
        )
    if block is not None:
        blocked = block_axis % len(shape)
        counts = tuple(-(-n // block) if i == blocked else n for i, n in enumerate(shape))
        return counts, lambda at: tuple(n // block if i == blocked else n for i, n in enumerate(at))
    if axis is None:
        return (), lambda at: ()
    axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(n if i in axes else 1 for i, n in enumerate(shape)), lambda at: tuple(
        n if i in axes else 0 for i, n in enumerate(at)
    )


def indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape))


# --- scales -------------------------------------------------------------------------------------


def power_scale(amax: Fraction, rule: str, name: str, emax: int) -> Fraction:
    """The MX scale of a block: OCP's floor rule, and torchao's others."""
    of = LAYOUTS[name]
    if amax == 0:
        return Fraction(1)
    if rule == "floor":
        exponent = floor_log2(amax) - emax
    elif rule == "ceil":
        exponent = ceil_log2(amax) - emax
    elif rule == "even":
        step = Fraction(2) ** (floor_log2(amax) - of.fraction_bits)
        exponent = floor_log2(math.floor(amax / step + Fraction(1, 2)) * step) - emax
    else:
        exponent = ceil_log2(amax / of.largest)
    return Fraction(2) ** min(max(exponent, -127), 127)


def nearest_rank(values: list[Fraction], percent: str) -> Fraction:
    """The least value that at least this percentage of all do not exceed."""
    rank = math.ceil(Fraction(percent) * len(values) / 100)
    return sorted(values)[max(rank, 1) - 1]


def value_range(values: list[Fraction], spread: str, clip: str | None) -> tuple[Fraction, Fraction]:
    """(low, high) of a group; (-amax, amax) of its magnitudes."""
    if spread == "amax":
        magnitudes = [abs(value) for value in values]
        amax = max(magnitudes) if clip is None else nearest_rank(magnitudes, clip)
        return -amax, amax
    if clip is None:
        return min(values), max(values)
    ends = -nearest_rank([-value for value in values], clip), nearest_rank(values, clip)
    return min(ends), max(ends)


def zeropoint(
    low: Fraction, high: Fraction, codes: tuple[int, int], scale_dtype: str, include_zero: bool
) -> tuple[Fraction, int]:
    if include_zero:
        low, high = min(low, Fraction(0)), max(high, Fraction(0))
    if low == high:
        zero = codes[0] + 1 if low < 0 <= codes[0] else 0
        return round_scale(abs(low), scale_dtype) if low else Fraction(1), zero
    scale = round_scale(fl53(fl53(high - low) / (codes[1] - codes[0])), scale_dtype)
    zero = min(max(rint(fl(codes[0] - fl(low / scale))), -(2**62)), 2**62)
    return scale, min(max(zero, codes[0]), codes[1]) if include_zero else zero


# --- the whole ----------------------------------------------------------------------------------


@dataclass
class Result:
    """As `ff.Quantized`, but exact: object arrays of int and Fraction."""

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    saturated: int
    values: np.ndarray
    #: The codes' values times their scales, in float64.
    wide: np.ndarray
    tensor_scale: Fraction | None = None


def elements_of(scheme: Any, bits: int, signed: bool, given: bool) -> Elements:
    if isinstance(scheme, str) and scheme in ("absmax", "zeropoint"):
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        bottom = -top if scheme == "absmax" and not given else (-top - 1 if signed else 0)
        return integers(bottom, top)
    if isinstance(scheme, (list, tuple)):
        return table(scheme)
    if scheme in TABLES:
        return table(TABLES[scheme][0])
    if scheme in MX:
        return layout(MX[scheme][0])
    return layout("fp4_e2m1fn" if scheme == "nvfp4" else scheme)


def blocks_of(scheme: Any, options: dict[str, Any]) -> tuple[Any, int | None, int | None]:
    axis, block = options.get("axis"), options.get("block")
    block_axis = options.get("block_axis", -1)
    if axis is not None or block is not None:
        return axis, block, block_axis
    if isinstance(scheme, str) and scheme in TABLES:
        return None, TABLES[scheme][1], None
    if isinstance(scheme, str) and (scheme in MX or scheme == "nvfp4"):
        return None, 16 if scheme == "nvfp4" else 32, block_axis
    return None, None, None


def quantize(x: np.ndarray, scheme: Any, **options: Any) -> Result:
    """What `ff.quantize` is documented to give for finite x; a codebook is a list of values."""
    bits, signed = options.get("bits", 8), options.get("signed", True)
    fp64 = x.dtype.newbyteorder("=") == np.float64
    scale_dtype = options.get("scale_dtype") or ("fp64" if fp64 else "fp32")
    scale_shape, where = groups_of(x.shape, *blocks_of(scheme, options))
    exact = {at: Fraction(float(x[at])) for at in indices(x.shape)}
    members: dict[tuple[int, ...], list[Fraction]] = {at: [] for at in indices(scale_shape)}
    for at, value in exact.items():
        members[where(at)].append(value)
    given = options.get("scale")
    elements = elements_of(scheme, bits, signed, given is not None and scheme == "absmax")
    spread = "range" if scheme == "zeropoint" else "amax"
    tensor_scale = None
    if scheme == "nvfp4":
        amax = max((abs(value) for value in exact.values()), default=Fraction(0))
        tensor_scale = Fraction(1)
        if amax:
            tensor_scale = round_scale(fl53(amax / (6 * 448)), "fp64" if fp64 else "fp32")
    scales = np.empty(scale_shape, object)
    zeros = np.zeros(scale_shape, object)
    for group, values in members.items():
        if given is not None:
            scale = Fraction(float(np.broadcast_to(given, scale_shape)[group]))
            scales[group] = round_scale(scale, scale_dtype)
            zeros[group] = int(np.broadcast_to(options.get("zero_point", 0), scale_shape)[group])
            continue
        low, high = value_range(values or [Fraction(0)], spread, options.get("clip"))
        low = low if options.get("min") is None else Fraction(options["min"])
        high = high if options.get("max") is None else Fraction(options["max"])
        if spread == "amax":
            high = max(abs(low), abs(high))
        if scheme == "zeropoint":
            include_zero = options.get("include_zero", False)
            found = zeropoint(low, high, elements.ends, scale_dtype, include_zero)
            scales[group], zeros[group] = found
        elif high == 0:
            scales[group] = Fraction(1)
        elif isinstance(scheme, str) and scheme in MX:
            rule = options.get("scale_rule") or "floor"
            scales[group] = power_scale(high, rule, *MX[scheme])
        elif tensor_scale is not None:
            scales[group] = round_scale(fl53(high / fl53(6 * tensor_scale)), "fp8_e4m3fn")
        else:
            scales[group] = round_scale(fl53(high / elements.largest), scale_dtype)
    mode, seed = options.get("rounding", "nearest_even"), options.get("seed")
    # Tables and formats of 4 bits take the nearest value, whatever float64 makes of the quotient.
    exactly = mode == "nearest_even" and elements.compares
    codes = np.zeros(x.shape, object)
    approximations, wide = np.zeros(x.shape, object), np.zeros(x.shape, object)
    saturated = 0
    for flat, (at, value) in enumerate(exact.items()):
        scale = scales[where(at)]
        if tensor_scale is not None:
            scale = fl(scale * tensor_scale)
        random = philox(seed, flat) if mode == "stochastic" else 0
        negative = bool(np.signbit(np.float64(x[at])))
        zero = zeros[where(at)]
        quotient = value / scale if exactly else fl(value / scale)
        code, clamped = elements.encode(quotient, negative, zero, mode, random)
        codes[at] = code
        approximations[at] = elements.value(code, zero) * scale
        wide[at] = fl(fl(elements.value(code, zero)) * scale)
        saturated += clamped
    return Result(codes, scales, zeros, saturated, approximations, wide, tensor_scale)


# --- Philox4x32-10 ------------------------------------------------------------------------------


def philox(seed: int, index: int) -> int:
    """Word `index % 4` of counter `index // 4` (Salmon and others, SC 2011)."""
    counter = index // 4
    c = [(counter >> 32 * i) & 0xFFFFFFFF for i in range(4)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (p1 >> 32) ^ c[1] ^ k0,
            p1 & 0xFFFFFFFF,
            (p0 >> 32) ^ c[3] ^ k1,
            p0 & 0xFFFFFFFF,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c[index % 4]
