"""Which inputs a cast is tried on, and in which order.

Of a source of up to 32 bits every code; of a wider one every place where the rounding to the target
changes, with its neighbours, and random codes. They are visited in strides, so that the inputs of
an interrupted run are spread evenly over all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arrays import decode, encode
from ..formats import Format

__all__ = ["FLOATS", "MOST_BITS", "Batch", "Extent", "Inputs", "Part", "Reader", "inputs", "probes"]

#: A prime near 2^32 over the golden ratio: multiples of it, modulo the number of inputs, spread
#: more evenly than chance would, wherever one stops.
STRIDE = 2_654_435_761
#: Sources of up to so many bits are gone through code by code.
MOST_BITS = 32
#: Codes that `encode` takes as values.
FLOATS = ("fp64", "fp32", "fp16", "bf16")
#: Of a target with more magnitudes an even choice of so many is taken.
MOST_MAGNITUDES = 1 << 20
#: Random codes of a source of more than 32 bits, unless told.
RANDOM = 1 << 24


class Batch:
    """Codes of a source, 1-d, and their values.

    Attributes
    ----------
    source : Format
    codes : array
    """

    # No functools.cached_property: before Python 3.12 its lock makes threads wait for each other.
    __slots__ = ("_values", "_wide", "codes", "source")

    def __init__(self, source: Format, codes: np.ndarray) -> None:
        self.source, self.codes = source, codes
        self._values: np.ndarray | None = None
        self._wide: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """The values as `encode` takes them: of the source's own dtype, or fp32 or fp64."""
        if self._values is None:
            if self.source.name in FLOATS:
                self._values = self.codes.view(self.source.dtype or "")
            else:
                self._values = decode(self.codes, self.source)
        return self._values

    @property
    def wide(self) -> np.ndarray:
        """The values as float64."""
        if self._wide is None:
            self._wide = decode(self.codes, self.source, dtype="fp64")
        return self._wide

    def __getitem__(self, which: np.ndarray) -> Batch:
        return Batch(self.source, self.codes[which])


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the inputs: how many, and what makes their codes of their numbers from 0 on."""

    size: int
    codes: Callable[[np.ndarray], np.ndarray]


class Extent(NamedTuple):
    """Which inputs a cast was to be tried on.

    Attributes
    ----------
    size : int
    is_every_code, has_every_step : bool
    about : str
        As in `Inputs`.
    """

    size: int
    is_every_code: bool
    has_every_step: bool
    about: str


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a sweep; made by `inputs`.

    They come part after part, each in strides.

    Attributes
    ----------
    source, target : Format
    parts : tuple of Part
        Their codes; empty where the inputs are every code of the source.
    has_every_step : bool
        Whether every place where the rounding changes is among them, with its neighbours.
    """

    source: Format
    target: Format
    parts: tuple[Part, ...]
    has_every_step: bool

    @property
    def is_every_code(self) -> bool:
        """Whether they are all codes of the source."""
        return not self.parts

    @cached_property
    def size(self) -> int:
        """How many there are."""
        return sum(part.size for part in self.parts) if self.parts else 1 << self.source.bits

    def reader(self, chunk: int) -> Reader:
        """Return what makes the codes of up to so many inputs at a time; one a thread."""
        if self.parts:
            return _PartReader(self.parts, chunk).read
        return _CodeReader(self.source, chunk).read

    def at(self, first: int, steps: np.ndarray) -> np.ndarray:
        """Return the codes of inputs by their numbers, ``first + steps``; steps are ascending."""
        if self.is_every_code:
            visited = (steps.astype(np.uint64) + np.uint64(first)) * np.uint64(STRIDE)
            return (visited & np.uint64(self.size - 1)).astype(self.source.code_dtype)
        pieces, start = [np.empty(0, self.source.code_dtype)], 0
        for part in self.parts:
            mine = steps[(steps >= start - first) & (steps < start - first + part.size)]
            if mine.size:
                low = first + int(mine[0]) - start
                visited = (mine - mine[0]) * STRIDE % part.size + low * STRIDE % part.size
                pieces.append(part.codes(visited % part.size))
            start += part.size
        return np.concatenate(pieces)

    @property
    def extent(self) -> Extent:
        """What they are, in a few words."""
        return Extent(self.size, self.is_every_code, self.has_every_step, self.about)

    @property
    def about(self) -> str:
        """What the inputs are, for a report."""
        if self.is_every_code:
            return f"every code of {self.source}"
        which = "every value and midpoint" if self.has_every_step else "values and midpoints"
        return (
            f"{which} of {self.target} and the values of {self.source} next to them, every power of"
            f" two, both ends, NaNs, and {self.parts[1].size:,} random codes"
        )


#: Returns the codes of so many inputs from a number on; the next call may overwrite them.
Reader: TypeAlias = Callable[[int, int], np.ndarray]


class _CodeReader:
    """Every code of a source of up to 32 bits."""

    def __init__(self, source: Format, chunk: int) -> None:
        self._size, dtype = 1 << source.bits, source.code_dtype
        # Counted modulo a power of two: overflow does no harm.
        numbers = np.arange(min(chunk, self._size), dtype=np.uint64)
        self._offsets = (numbers * np.uint64(STRIDE)).astype(dtype)
        self._codes = np.empty_like(self._offsets)

    def read(self, first: int, count: int) -> np.ndarray:
        codes = self._codes[:count]
        base = codes.dtype.type(first * STRIDE % self._size)
        np.add(self._offsets[:count], base, out=codes)
        if self._size < 1 << (8 * codes.itemsize):
            codes &= codes.dtype.type(self._size - 1)
        return codes


class _PartReader:
    """Inputs in parts."""

    def __init__(self, parts: tuple[Part, ...], chunk: int) -> None:
        self._parts = parts
        numbers = np.arange(chunk, dtype=np.uint64)
        self._offsets = [
            ((numbers[: part.size] * np.uint64(STRIDE)) % np.uint64(part.size)).view(np.int64)
            for part in parts
        ]

    def read(self, first: int, count: int) -> np.ndarray:
        pieces, start = [], 0
        for part, offsets in zip(self._parts, self._offsets, strict=True):
            low, high = max(first - start, 0), min(first + count - start, part.size)
            if low < high:
                visited = offsets[: high - low] + low * STRIDE % part.size
                visited -= (visited >= part.size) * np.int64(part.size)
                pieces.append(part.codes(visited))
            start += part.size
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def inputs(source: Format, target: Format, random: int = RANDOM) -> Inputs:
    """Return the inputs on which a cast from `source` to `target` is tried."""
    if source.bits <= MOST_BITS:
        return Inputs(source, target, (), has_every_step=True)
    special = np.unique(np.concatenate([special_codes(source), simple_codes(source, target)]))
    points, has_every_step = _points(source, target)
    parts = (
        Part(special.size, special.__getitem__),
        Part(random, _random(source, target)),
        points,
    )
    return Inputs(source, target, tuple(p for p in parts if p.size), has_every_step)


def probes(source: Format, target: Format) -> np.ndarray:
    """Return codes of the source on which casts show what they do: a few hundred thousand."""
    if source.bits <= 16:
        return np.arange(1 << source.bits).astype(source.code_dtype)
    points, _ = _points(source, target, 1 << 14)
    near = points.codes(np.arange(points.size))
    random = _random(source, target)(np.arange(1 << 16))
    parts = (near, special_codes(source), simple_codes(source, target), random)
    return np.unique(np.concatenate(parts))


# --- where the rounding changes -----------------------------------------------------------------


def _points(source: Format, target: Format, limit: int = MOST_MAGNITUDES) -> tuple[Part, bool]:
    """Return values and midpoints of the target, each with its neighbours in the source, signed.

    And whether these are all of them.
    """
    finer, count = _with_midpoints(target)
    takes_all = target.bits <= (MOST_BITS if limit == MOST_MAGNITUDES else 16)
    chosen = count if takes_all else min(count, 2 * limit)  # in pairs: a value, its midpoint
    infinity = source.max_code + source.infinity
    sign_shift = np.uint64(source.bits - 1 if source.signed else 0)

    def codes(numbers: np.ndarray) -> np.ndarray:
        place = numbers // 6
        step = numbers - place * 6
        if not takes_all:
            place = _spread(place, chosen // 2, count // 2)
        place = place.view(np.uint64).astype(finer.code_dtype, copy=False)
        values = decode(place, finer, dtype="fp64")
        near = values.view(np.int64)
        if source.name != "fp64":
            near = encode(values, source).astype(np.int64)
        negative = step >= 3
        near += step
        near -= negative * np.int64(3) + 1
        np.clip(near, 0, infinity, out=near)
        found = near.view(np.uint64)
        if source.signed:
            found |= negative.astype(np.uint64) << sign_shift
        return found.astype(source.code_dtype, copy=False)

    return Part(6 * chosen, codes), takes_all


def _spread(place: np.ndarray, chosen: int, of: int) -> np.ndarray:
    """Return places of an even choice of magnitudes, each followed by its midpoint."""
    magnitude = (place // 2).astype(object) * of // chosen  # beyond 64 bits: Python's integers
    return magnitude.astype(np.int64) * 2 + place % 2


def _with_midpoints(target: Format) -> tuple[Format, int]:
    """Return a format of the target's magnitudes and their midpoints, and how many to take.

    Where fp64 has them, the two magnitudes belong to it that would follow the largest. Of a target
    as precise as fp64 there are no midpoints.
    """
    halves = 2 if target.fraction_bits < 52 else 1
    layout: dict[str, Any] = {"signed": False, "infinity": False, "nan": None, "zero": target.zero}
    if target.is_integer:
        bits = target.fraction_bits + 3
        bias = 1 - bits - (target.step_exponent - 1)
        return Format("finer", 0, bits, bias, **layout), 2 * (target.max_code + 3)
    goes_on = target.max_exponent < 1023 and target.exponent_bits < 11
    if not goes_on:
        layout |= {"infinity": True, "nan": "ieee"}
    finer = Format(
        "finer",
        target.exponent_bits + goes_on,
        target.fraction_bits + halves - 1,
        target.bias,
        **layout,
    )
    return finer, halves * (target.max_code + (3 if goes_on else 1))


def special_codes(source: Format) -> np.ndarray:
    """Return codes of both signs: zero, powers of two, both ends, Inf, NaNs, each with neighbours.

    NaNs are quiet and signalling, with each payload bit set by itself.
    """
    binades = np.arange(source.exponent_mask + 1, dtype=object) << source.fraction_bits
    leading = [1 << bit for bit in range(source.fraction_bits)]
    places = [*binades, *leading, source.max_code, source.magnitude_mask]
    if source.nan == "ieee":
        infinity, quiet = source.exponent_mask << source.fraction_bits, source.quiet_bit
        payloads = [*leading, *(quiet | bit for bit in leading)]
        places += [infinity | payload for payload in payloads]
    near = {p + d for p in places for d in (-1, 0, 1) if 0 <= p + d <= source.magnitude_mask}
    codes = np.array(sorted(near), source.code_dtype)
    return np.unique(np.concatenate([codes, codes | source.code_dtype.type(source.sign_bit)]))


def simple_codes(source: Format, target: Format) -> np.ndarray:
    """Return codes of values one bit away from the target's midpoints just above 1.

    They are the simplest on which two roundings can differ from one.
    """
    finer, _ = _with_midpoints(target)
    one = int(encode([1.0], finer)[0])
    if decode(np.array([one], finer.code_dtype), finer, dtype="fp64")[0] != 1:
        return np.empty(0, source.code_dtype)
    middles = decode(np.array([one + 1, one + 3], finer.code_dtype), finer, dtype="fp64")
    near = [int(code) for code in encode(middles, source)]
    bits = [1 << bit for bit in range(source.fraction_bits)]
    found = sorted({code + d * bit for code in near for bit in bits for d in (-1, 1)})
    codes = np.array([c for c in found if 0 <= c <= source.max_code], source.code_dtype)
    return np.concatenate([codes, codes | source.code_dtype.type(source.sign_bit)])


def _random(source: Format, target: Format) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes random codes by their number; half lie within the target's range."""
    binades = max(target.max_exponent - target.step_exponent + 4, 1)
    low = max(target.step_exponent - 2 + source.bias, 0)
    low = min(low, source.exponent_mask)
    span = max(min(binades, source.exponent_mask - low), 1)
    dtype, shift = source.code_dtype, np.uint64(64 - source.bits)
    keep = np.uint64(source.sign_bit | source.fraction_mask)

    def codes(numbers: np.ndarray) -> np.ndarray:
        words = _splitmix64(numbers.astype(np.uint64))
        code = words >> shift
        if source.is_integer:
            return code.astype(dtype)
        exponent = _splitmix64(words) % np.uint64(span) + np.uint64(low)
        inside = code & keep | exponent << np.uint64(source.fraction_bits)
        return np.where(numbers % 2 == 0, inside, code).astype(dtype)

    return codes


def _splitmix64(counter: np.ndarray) -> np.ndarray:
    """Return 64 random bits a counter (Steele, Lea and Flood, OOPSLA 2014)."""
    word = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)
