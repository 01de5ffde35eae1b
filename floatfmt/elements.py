"""What the codes of a quantiser stand for: integers, a format's values, or those of a table.

Each says how a value that has been divided by its scale becomes a code, and what a code means.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from .formats import Format
from .rounding import Rounding, Rules, rules

__all__ = [
    "Codebook",
    "Elements",
    "Integers",
    "Intervals",
    "Scaling",
    "ends_of",
    "intervals",
    "limits",
    "saturating",
    "table",
]


INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)


class Integers(NamedTuple):
    """The integers of `bits` bits, of which qmin to qmax are codes.

    Attributes
    ----------
    bits : int
        From 2 to 8.
    signed : bool
        Whether the codes start at -2**(bits - 1), or at 0.
    qmin, qmax : int
        The lowest and the highest code that is used.
    """

    bits: int
    signed: bool
    qmin: int
    qmax: int

    @property
    def name(self) -> str:
        """Return the usual name, as ``"int4"``."""
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @property
    def code_dtype(self) -> np.dtype:
        """The dtype of unpacked codes."""
        return INT8 if self.signed else UINT8

    @property
    def largest(self) -> float:
        """The code that the largest magnitude gets under absmax."""
        return float(self.qmax)


@dataclass(frozen=True, slots=True)
class Codebook:
    """A table of the values that codes stand for, to quantise with: ``ff.quantize(x, codebook)``.

    Parameters
    ----------
    values : sequence of float
        2 to 256 finite values in the order of their codes: code i means values[i]. Of equal ones
        the first is used.
    name : str
        What results call it.

    Raises
    ------
    ValueError
        There are too many values, or too few that differ, or one is not finite.

    Notes
    -----
    The scale of a block is its largest magnitude divided by the table's, so a table need not reach
    from -1 to 1. A value takes the code of the nearest value of the table; one in the middle of two
    goes to that of even rank, counted from 0 at the lowest.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> thirds = ff.Codebook([-1.0, -1 / 3, 1 / 3, 1.0], name="thirds")
    >>> q = ff.quantize(np.float32([0.1, -1.5, 3.0]), thirds)
    >>> q.codes, q.dequantize()
    (array([2, 1, 3], dtype=uint8), array([ 1., -1.,  3.], dtype=float32))
    """

    values: tuple[float, ...]
    name: str = "codebook"

    def __init__(self, values: Sequence[float], name: str = "codebook") -> None:
        if not isinstance(name, str):
            raise TypeError(f"a codebook's name is text, got {name!r}")
        try:
            floats = tuple(float(value) for value in values)
        except (TypeError, ValueError):
            raise TypeError(f"a codebook is made of numbers, got {values!r}") from None
        if not 2 <= len(set(floats)) <= len(floats) <= 256:
            raise ValueError(
                f"a codebook has 2 to 256 values, got {len(floats)}, {len(set(floats))} different"
            )
        for i, value in enumerate(floats):
            if not math.isfinite(value):
                raise ValueError(f"values[{i}] is {value}; a codebook has finite values")
        # + 0.0: -0.0 is 0.0 here
        object.__setattr__(self, "values", tuple(value + 0.0 for value in floats))
        object.__setattr__(self, "name", name)

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (len(self.values) - 1).bit_length()

    @property
    def code_dtype(self) -> np.dtype:
        """The dtype of unpacked codes."""
        return UINT8

    @property
    def largest(self) -> float:
        """The largest magnitude in the table."""
        return max(map(abs, self.values))


Elements: TypeAlias = "Integers | Codebook | Format"


class Scaling(NamedTuple):
    """How a scale follows from the largest magnitude of a group.

    Attributes
    ----------
    format : Format
        Of the scale.
    largest : float
        What the largest magnitude becomes.
    power_rule : str or None
        Of `schemes.POWER_RULES`, for a power of two; else it is amax / largest, rounded.
    fraction_bits : int
        The elements', for the rule "even".
    times : float
        What a scale is multiplied by before values are divided: the tensor's scale, or 1.
    """

    format: Format
    largest: float
    power_rule: str | None = None
    fraction_bits: int = 0
    times: float = 1.0


#: What is above a threshold besides greater values; the C kernel knows the same numbers.
ABOVE, AT_OR_ABOVE, BY_SIGN = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """A partition of the line: a value above the first k thresholds has code ``codes[k]``.

    Attributes
    ----------
    thresholds : float64 array
        Ascending.
    sides : uint8 array
        What counts as above a threshold besides greater values: nothing (ABOVE), equal values
        (AT_OR_ABOVE), of two zeros only +0 (BY_SIGN).
    codes : uint8 array
        One more than there are thresholds.
    low, high : float
        Values beyond lie more than half a step outside the codes: they count as clamped.
    format : Format or None
        Whose codes these are, of values rounded to nearest even.
    """

    thresholds: np.ndarray
    sides: np.ndarray
    codes: np.ndarray
    low: float
    high: float
    format: Format | None


class _Rung(NamedTuple):
    """A value, its code, and whether a tie goes to it."""

    value: float
    code: int
    even: bool


def _ladder(elements: Codebook | Format) -> list[_Rung]:
    """Return the finite values from the least up."""
    from . import exact  # brings Fractions, which integers do without

    if isinstance(elements, Codebook):
        first = {value: code for code, value in reversed(list(enumerate(elements.values)))}
        return [_Rung(v, first[v], rank % 2 == 0) for rank, v in enumerate(sorted(first))]
    codes = [c for c in range(2**elements.bits) if exact.is_finite(c, elements)]
    negative = [c for c in codes if c & elements.sign_bit]
    if not elements.twos_complement:
        negative.reverse()
    positive = [c for c in codes if not c & elements.sign_bit]
    return [_Rung(float(exact.decode(c, elements)), c, c % 2 == 0) for c in negative + positive]


@functools.lru_cache(maxsize=64)
def limits(elements: Codebook | Format) -> tuple[float, float]:
    """Return the values half a step beyond the least and the greatest one."""
    values = [rung.value for rung in _ladder(elements)]
    return values[0] - (values[1] - values[0]) / 2, values[-1] + (values[-1] - values[-2]) / 2


def saturating(fmt: Format) -> Rules:
    """Return the rules by which a quantiser rounds finite values to a format."""
    return rules(fmt, overflow="saturate", nan="error" if fmt.nan is None else "quiet")


def ends_of(elements: Elements) -> tuple[int, int]:
    """Return the codes of the least and the greatest value."""
    if isinstance(elements, Integers):
        return elements.qmin, elements.qmax
    ladder = _ladder(elements)
    return ladder[0].code, ladder[-1].code


@functools.lru_cache(maxsize=64)
def intervals(elements: Codebook | Format, rounding: Rounding = Rounding.NEAREST_EVEN) -> Intervals:
    """Return the intervals whose values round to each code, in a mode that is not stochastic."""
    ladder = _ladder(elements)
    edges = [_edge(below, above, rounding) for below, above in itertools.pairwise(ladder)]
    low, high = limits(elements)
    is_nearest = rounding is Rounding.NEAREST_EVEN
    return Intervals(
        thresholds=np.array([threshold for threshold, _ in edges]),
        sides=np.array([side for _, side in edges], np.uint8),
        codes=np.array([rung.code for rung in ladder], np.uint8),
        low=low,
        high=high,
        format=elements if isinstance(elements, Format) and is_nearest else None,
    )


def _edge(below: _Rung, above: _Rung, mode: Rounding) -> tuple[float, int]:
    """Return where values start to round to the upper one of two neighbours."""
    low, high = below.value, above.value
    if low == high:  # -0 and +0
        return 0.0, BY_SIGN
    middle = low + (high - low) / 2  # exact, or the nearest float64
    positive = low + high > 0
    if mode is Rounding.NEAREST_EVEN:
        return middle, AT_OR_ABOVE if above.even else ABOVE
    if mode is Rounding.NEAREST_AWAY:
        return middle, AT_OR_ABOVE if positive else ABOVE
    if mode is Rounding.TO_ODD:
        up = below.even
    else:
        up = {
            Rounding.TOWARD_ZERO: not positive,
            Rounding.TOWARD_POSITIVE: True,
            Rounding.TOWARD_NEGATIVE: False,
        }[mode]
    return (low, ABOVE) if up else (high, AT_OR_ABOVE)


@functools.lru_cache(maxsize=64)
def table(elements: Elements) -> np.ndarray:
    """Return the values of all codes as 256 float64; 0 where there is none that is finite.

    Negative integers are where their low bits are.
    """
    values = np.zeros(256)
    if isinstance(elements, Integers):
        codes = np.arange(2**elements.bits)
        negative = elements.signed & (codes >= 2 ** (elements.bits - 1))
        values[codes] = codes - negative * 2**elements.bits
    elif isinstance(elements, Codebook):
        values[: len(elements.values)] = elements.values
    else:
        for rung in _ladder(elements):
            values[rung.code] = rung.value
    values.flags.writeable = False
    return values
