"""Where the code of a rounded fp32 value changes: an oracle for all 2^32 inputs at memory speed.

Rounding never decreases as its input grows, so on each side of zero the code is a staircase over
the fp32 patterns in order. Its steps follow from the values that `exact.decode` gives the codes, by
comparing Fractions; neither the reference nor any rounding of `exact.py` has a part in it.
"""

import functools
import itertools
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

import floatfmt as ff
from floatfmt import exact

INFINITY = 0x7F800000
SIGN = 0x80000000
FRACTION_BITS = 23

#: Whether the real x, between neighbours of magnitude m - 1 and m, goes up to m: the place from
#: which it does, and whether that place does too. By mode: (m, low, high, sign) -> (place, closed).
Step = Callable[[int, Fraction, Fraction, int], "tuple[Fraction, bool]"]
STEPS: dict[str, Step] = {
    "nearest_even": lambda m, low, high, sign: ((low + high) / 2, m % 2 == 0),
    "nearest_away": lambda m, low, high, sign: ((low + high) / 2, True),
    "toward_zero": lambda m, low, high, sign: (high, True),
    "toward_positive": lambda m, low, high, sign: (high, True) if sign else (low, False),
    "toward_negative": lambda m, low, high, sign: (low, False) if sign else (high, True),
    "to_odd": lambda m, low, high, sign: (low, False) if m % 2 else (high, True),
}


def fp32_value(pattern: int) -> float:
    return struct.unpack("<f", struct.pack("<I", pattern))[0]


def first_pattern(place: Fraction, closed: bool) -> int:
    """The least fp32 pattern of a value above a place, or at it if closed; Inf if there is none."""
    wanted = float(place)
    assert wanted == place, "formats this narrow have their values and midpoints in fp64"
    low, high = 0, INFINITY
    while low < high:
        middle = (low + high) // 2
        value = fp32_value(middle)
        if value > wanted or (closed and value == wanted):
            high = middle
        else:
            low = middle + 1
    return low


@functools.cache
def decoded(fmt: ff.Format) -> dict[int, Fraction | float]:
    return {code: exact.decode(code, fmt) for code in range(2**fmt.bits)}


def side(fmt: ff.Format, sign: int) -> list[tuple[Fraction, int]]:
    """Magnitudes of a format's finite values of one sign with their codes, ascending."""
    values = []
    for code, value in decoded(fmt).items():
        if value - value == 0 and math.copysign(1, value) == (-1) ** sign:
            values.append((abs(Fraction(value)), code))
    if fmt.zero and (not values or min(values)[0] != 0):
        values.append((Fraction(0), 0))  # there is no -0: it is 0
    return sorted(values)


class Staircase(NamedTuple):
    """Intervals of fp32 patterns, ascending: the first pattern of each, and its code."""

    places: np.ndarray
    codes: np.ndarray

    def fill(self, start: int, expected: np.ndarray) -> None:
        """Write the codes of the patterns from `start` on."""
        first = int(np.searchsorted(self.places, start, side="right")) - 1
        last = int(np.searchsorted(self.places, start + expected.size, side="left"))
        edges = np.clip(self.places[first:last] - start, 0, None)
        expected[...] = np.repeat(self.codes[first:last], np.diff(edges, append=expected.size))


@functools.cache
def staircase(fmt: ff.Format, mode: str, nan: str) -> Staircase:
    """Return the intervals of all 2^32 patterns, for ``overflow="ieee"``.

    `nan` is "quiet", or "zero" for a format without NaN.
    """
    steps: dict[int, int] = {}
    for sign in (0, 1):
        base = SIGN * sign
        for pattern, code in _finite_steps(fmt, mode, sign):
            steps[base + pattern] = code  # a later step at the same pattern hides an empty one
        steps[base + INFINITY] = beyond(fmt, sign)
        steps.update(_nan_steps(fmt, base + INFINITY, sign, nan))
    places = sorted(steps)
    codes = np.array([steps[place] for place in places], fmt.code_dtype)
    return Staircase(np.array(places, np.int64), codes)


def beyond(fmt: ff.Format, sign: int) -> int:
    """The code of Inf: Inf, else NaN, else the end of the values."""
    wanted = float("-inf") if sign else float("inf")
    values = decoded(fmt)
    for code, value in values.items():
        if value == wanted:
            return code
    nans = [code for code, value in values.items() if value != value]
    if nans:
        return nans[-1] if sign else nans[0]
    ends = sorted(values, key=lambda code: values[code])
    return ends[0] if sign else ends[-1]


def _finite_steps(fmt: ff.Format, mode: str, sign: int) -> list[tuple[int, int]]:
    values = side(fmt, sign)
    if not values:  # not even a zero: nothing of this sign has a place
        return [(0, beyond(fmt, sign))]
    # Below the least value of a format without zero everything but 0 rounds to that value.
    steps = [(0, values[0][1])] if fmt.zero else [(0, beyond(fmt, 1)), (1, values[0][1])]
    for m, ((low, _), (high, code)) in enumerate(itertools.pairwise(values), 1):
        steps.append((first_pattern(*STEPS[mode](m, low, high, sign)), code))
    # The value after the last, as if they went on; what rounds to it has overflowed.
    last = values[-1][0]
    after = last + exact.ulp(values[-1][1], fmt) if last else exact.decode(1, fmt)
    place, closed = STEPS[mode](len(values), last, Fraction(after), sign)
    overflow = beyond(fmt, sign)
    stays = mode in ("toward_zero", "to_odd", "toward_positive" if sign else "toward_negative")
    steps.append((first_pattern(place, closed), values[-1][1] if stays else overflow))
    return steps


def _nan_steps(fmt: ff.Format, infinity: int, sign: int, nan: str) -> dict[int, int]:
    """NaNs keep sign and leading payload where there are several, and become quiet."""
    if nan == "zero":
        return {infinity + 1: 0}
    nans = [code for code, value in decoded(fmt).items() if value != value]
    mine = [code for code in nans if (code & fmt.sign_bit != 0) == bool(sign)] or nans
    if fmt.nan != "ieee":
        return {infinity + 1: mine[0]}
    quiet = 1 << (fmt.fraction_bits - 1)
    shift = FRACTION_BITS - fmt.fraction_bits
    exponent = mine[0] & ~fmt.fraction_mask
    return {
        infinity + max(payload << shift, 1): exponent | payload | quiet
        for payload in range(fmt.fraction_mask + 1)
    }
