"""Seeded arrays to measure on: each kind of input is a row of `KINDS`.

The same kind, size and target always give the same values, and every page of an array has been
written to before it is handed out: memory from ``np.empty`` or ``np.zeros`` is not there yet.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ..arrays import decode
from ..formats import format

__all__ = ["KINDS", "SIZES", "Kind", "touched", "values"]

SEED = 20230706
#: From what a call alone costs to well beyond the last cache.
SIZES = tuple(2**power for power in (4, 7, 10, 12, 14, 16, 18, 20, 22, 24, 26))

WEIGHT_DEVIATION = 0.02  # that of GPT-2's initial weights
OUTLIER_FACTOR, OUTLIER_STEP = 60.0, 1024
#: Exact in every format, so that x / scale hits halves exactly.
TIE_SCALE = 2.0**-9
#: Of the formats that reach further, as large as values that are scaled get.
LARGEST_SCALED = 2.0**15
BEYOND_FACTOR = 8.0
INT8_LOWEST = {"int8 absmax": -127, "int8 zeropoint": -128}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of input: its name, what it is, and who makes n values of it for a target."""

    name: str
    about: str
    make: Callable[[Generator, int, np.dtype, str], np.ndarray]


def _normal(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    x = rng.standard_normal(n, dtype)
    x *= WEIGHT_DEVIATION
    return x


def _outliers(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    x = _normal(rng, n, dtype, target)
    x[rng.integers(0, n, max(1, n // OUTLIER_STEP))] *= OUTLIER_FACTOR
    return x


def _subnormal(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    x = rng.standard_normal(n, dtype)
    x *= 2.0 ** format(target).min_exponent  # two in three lie below it
    return x


def _scaled(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    """As a quantiser scales: the largest in the target's last binades, but not beyond 2^15."""
    x = rng.standard_normal(n, dtype)
    if not format(target).signed:
        np.abs(x, out=x)
    room = min(float(format(target).max_finite), LARGEST_SCALED) / float(np.abs(x).max())
    x *= 2.0 ** math.floor(math.log2(room))
    return x


def _beyond(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    return _scaled(rng, n, dtype, target) * BEYOND_FACTOR


def _ties(rng: Generator, n: int, dtype: np.dtype, target: str) -> np.ndarray:
    table = (_int8_ties if target in INT8_LOWEST else _format_ties)(target).astype(dtype)
    x = table[rng.integers(0, len(table), n)]
    if target in INT8_LOWEST:  # the extremes that make the scale TIE_SCALE
        x[0], x[-1] = INT8_LOWEST[target] * TIE_SCALE, 127 * TIE_SCALE
    return x


def _int8_ties(target: str) -> np.ndarray:
    return (np.arange(INT8_LOWEST[target], 127) + 0.5) * TIE_SCALE


def _format_ties(target: str) -> np.ndarray:
    fmt = format(target)
    magnitudes = decode(np.arange(fmt.max_code + 1, dtype=fmt.code_dtype), fmt, dtype=np.float64)
    halfway = (magnitudes[:-1] + magnitudes[1:]) / 2
    return np.concatenate([halfway, -halfway]) if fmt.signed else halfway


_ROWS = (
    Kind("normal", "normal weights", _normal),
    Kind("outliers", "normal weights, one in 1024 of them 60 times as large", _outliers),
    Kind("scaled", "normal values scaled to the target's range", _scaled),
    Kind("beyond", "the same eight times as large, so that some are beyond the range", _beyond),
    Kind("subnormal", "two in three subnormal in the target", _subnormal),
    Kind("ties", "every value halfway between two codes", _ties),
)
KINDS = {row.name: row for row in _ROWS}


@functools.lru_cache(maxsize=2)
def values(kind: str, n: int, dtype: str = "float32", target: str = "fp16") -> np.ndarray:
    """Return n values of a kind.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    n : int
        How many.
    dtype : {"float32", "float64"}
        Their dtype.
    target : str
        What they will be rounded to, on which subnormals and ties depend: a format's name,
        ``"int8 absmax"`` or ``"int8 zeropoint"``.

    Returns
    -------
    array
        Shared between calls: not to be written to.

    Examples
    --------
    >>> from floatfmt.bench.inputs import values
    >>> values("ties", 1024, target="int8 absmax").max() * 2**9
    np.float32(127.0)
    """
    return KINDS[kind].make(np.random.default_rng(SEED), n, np.dtype(dtype), target)


def touched(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return a new array whose pages exist."""
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(0xA5)
    return array
