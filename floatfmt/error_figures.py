"""The figures of errors, many groups of values at a time: a row, a block or a whole tensor each.

Arrays are read piece by piece and computed with in float64, so memory stays small whatever their
size. Every figure is a mean, a maximum or a count, never a sum of squares: then nothing overflows
that is itself a float64, and the figures of parts combine to those of the whole. `metrics` says
what the figures mean.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import interop
from .arrays import decode
from .backends import Float64, current_backend
from .formats import format

__all__ = [
    "FIGURE_NAMES",
    "Figures",
    "keep_freed_memory",
    "measured",
    "measured_in_blocks",
    "merged",
    "no_figures",
    "piece_figures",
    "relative_frobenius",
    "share",
    "sqnr_db",
    "total",
    "widened",
]


#: Mean squares from which nothing is lost, of up to 2**60 values, and whose product is normal.
SAFE_SQUARES = (2.0**-480, 2.0**480)


# --- figures of groups --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of each group, in arrays of one shape; `Error` says what each figure is.

    `max_ulp` and `mean_ulp` are None where the values are not of one format.
    """

    count: Any
    max_abs: Any
    rmse: Any
    mean_error: Any
    signal_rms: Any
    approximation_rms: Any
    cosine: Any
    outliers: Any
    max_ulp: Any
    mean_ulp: Any

    def arrays(self) -> dict[str, Any]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in FIGURE_NAMES}

    def each(self, change: Callable[[Any], Any]) -> Figures:
        """Return what `change` makes of each array."""
        named = self.arrays().items()
        return Figures(**{name: None if a is None else change(a) for name, a in named})


FIGURE_NAMES = tuple(field.name for field in fields(Figures))


def no_figures(shape: tuple[int, ...], in_ulps: bool) -> Figures:
    """Return the figures of groups of no values."""
    zeros = Figures(**{name: np.zeros(shape) for name in FIGURE_NAMES})
    counts = {name: np.zeros(shape, np.int64) for name in ("count", "outliers")}
    ulps: dict[str, Any] = {} if in_ulps else {"max_ulp": None, "mean_ulp": None}
    return replace(zeros, cosine=np.ones(shape), **counts, **ulps)


def joined(a: Figures, b: Figures, axis: int) -> Figures:
    """Return the figures of both one after the other along an axis."""
    others = b.arrays()
    return Figures(
        **{
            name: None if array is None else np.concatenate([array, others[name]], axis)
            for name, array in a.arrays().items()
        }
    )


def total(figures: Figures) -> Figures:
    """Return the figures of all groups, at least one, together."""
    figures = figures.each(np.ravel)
    with np.errstate(all="ignore"):
        while (half := figures.count.size // 2) > 0:
            first, second, odd = (
                figures.each(operator.itemgetter(part))
                for part in (slice(half), slice(half, 2 * half), slice(2 * half, None))
            )
            figures = joined(merged(first, second), odd, axis=0)
    return figures


def merged(a: Figures, b: Figures) -> Figures:
    """Return the figures of each pair of groups together."""
    count = a.count + b.count
    mine, theirs = (part.count / np.maximum(count, 1) for part in (a, b))

    def mean(p: Float64, q: Float64) -> Float64:
        # Rounding must not carry a mean past its bound; a root could overflow.
        bound = np.maximum(np.abs(p), np.abs(q))
        return np.clip(p * mine + q * theirs, -bound, bound)

    def rms(p: Float64, q: Float64) -> Float64:
        whole = np.hypot(p * np.sqrt(mine), q * np.sqrt(theirs))
        return np.minimum(whole, np.maximum(p, q))

    signal = rms(a.signal_rms, b.signal_rms)
    approximation = rms(a.approximation_rms, b.approximation_rms)
    no_angle = (signal == 0) | (approximation == 0)

    def portion(part: Figures, weight: Float64) -> Float64:
        # No rms is more than that of the whole over the root of its part's weight.
        norms = (part.signal_rms / signal) * (part.approximation_rms / approximation)
        return part.cosine * weight * norms

    max_abs = np.maximum(a.max_abs, b.max_abs)
    in_ulps = a.max_ulp is not None and b.max_ulp is not None
    return Figures(
        count=count,
        max_abs=max_abs,
        rmse=rms(a.rmse, b.rmse),
        mean_error=mean(a.mean_error, b.mean_error),
        signal_rms=signal,
        approximation_rms=approximation,
        cosine=_cosine(portion(a, mine) + portion(b, theirs), no_angle, max_abs),
        outliers=a.outliers + b.outliers,
        max_ulp=np.maximum(a.max_ulp, b.max_ulp) if in_ulps else None,
        mean_ulp=mean(a.mean_ulp, b.mean_ulp) if in_ulps else None,
    )


def _cosine(cosine: Float64, no_angle: Any, max_abs: Float64) -> Float64:
    """Return computed cosines within their bounds, and as `Error` has them where there is none."""
    bounded = np.where(no_angle, 0.0, np.clip(cosine, -1, 1))
    bounded = np.where(max_abs == 0, 1.0, bounded)
    return np.where(np.isinf(max_abs), np.nan, bounded)


# --- what follows from them, of numbers or of arrays --------------------------------------------


def sqnr_db(signal_rms: Any, rmse: Any) -> Any:
    """Return decibels: inf where there is no error, else -inf where there is no signal."""
    # Not the logarithm of the quotient, which could overflow.
    with np.errstate(all="ignore"):
        ratio = 20 * (np.log10(signal_rms) - np.log10(rmse))
    no_signal = np.where(np.equal(signal_rms, 0), -np.inf, ratio)
    return np.where(np.equal(rmse, 0), np.inf, no_signal)


def relative_frobenius(signal_rms: Any, rmse: Any) -> Any:
    """Return ``rmse / signal_rms``: 0 where there is no error, else inf where no signal."""
    with np.errstate(all="ignore"):
        return np.where(np.equal(rmse, 0), 0.0, np.divide(rmse, signal_rms))


def share(part: Any, count: Any) -> Any:
    """Return ``part / count``: 0 of nothing."""
    return np.divide(part, np.maximum(count, 1))


# --- over an array ------------------------------------------------------------------------------


def measured(x: np.ndarray, y: np.ndarray, reduced: tuple[int, ...], threshold: float) -> Figures:
    """Return figures in x's shape, but for length 1 in the reduced axes."""
    shape = tuple(1 if axis in reduced else n for axis, n in enumerate(x.shape))
    in_ulps = format(x.dtype) == format(y.dtype)
    figures = no_figures(shape, in_ulps)
    if x.size == 0:
        return figures
    keep_freed_memory()
    with current_backend().float_environment(), np.errstate(all="ignore"):
        for index in interop.slabs(x.shape):
            pieces = x[index], y[index]
            ulps = _ulps(*pieces) if in_ulps else None
            wide_x, wide_y = (np.asarray(widened(piece), order="C") for piece in pieces)
            piece = piece_figures(wide_x, wide_y, ulps, reduced, threshold)
            cut = (slice(None) if a in reduced else part for a, part in enumerate(index[:-1]))
            here = (*cut, ...)
            so_far = figures.each(operator.itemgetter(here))
            if so_far.count.any():
                piece = merged(so_far, piece)
            for name, array in figures.arrays().items():
                if array is not None:
                    array[here] = getattr(piece, name)
    return figures


def measured_in_blocks(
    x: np.ndarray, y: np.ndarray, length: int, axis: int, threshold: float
) -> Figures:
    """Return figures in x's shape, but for its number of blocks in `axis`."""
    whole = x.shape[axis] // length
    first = (*[slice(None)] * axis, slice(whole * length))
    split = (*x.shape[:axis], whole, length, *x.shape[axis + 1 :])
    # Splitting an axis in two always gives a view.
    blocks = measured(x[first].reshape(split), y[first].reshape(split), (axis + 1,), threshold)
    blocks = blocks.each(lambda array: array.squeeze(axis + 1))
    if x.shape[axis] == whole * length:
        return blocks
    rest = (*[slice(None)] * axis, slice(whole * length, None))
    return joined(blocks, measured(x[rest], y[rest], (axis,), threshold), axis)


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep the temporaries of one piece for the next.

    It gives freed memory back to the system at once until a block has been freed that is larger;
    page faults then take more time than all else. Elsewhere this does nothing.
    """
    np.empty(1 << 24, np.uint8)


def widened(piece: np.ndarray) -> Float64:
    """Return a piece's values as float64; a signalling NaN raises no warning."""
    values: Float64 = decode(piece, format(piece.dtype), dtype=np.float64)
    return values


# --- a piece of it ------------------------------------------------------------------------------


#: Reduces values to one number a group by a ufunc, keeping the reduced axes with length 1.
Reduce: TypeAlias = Callable[[np.ufunc, Any], Any]


def _reduction(shape: tuple[int, ...], axes: tuple[int, ...]) -> Reduce:
    """Return what reduces values of a shape over axes."""
    longer = [axis for axis, n in enumerate(shape) if n > 1]
    first = min((a for a in longer if a in axes), default=len(shape))
    if any(a > first for a in longer if a not in axes):
        return lambda operation, values: operation.reduce(values, axis=axes, keepdims=True)
    # The values of a group lie side by side: for short rows several times as fast as `reduce`.
    starts = np.arange(0, math.prod(shape), math.prod(shape[axis] for axis in axes))
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return lambda operation, values: operation.reduceat(values.reshape(-1), starts).reshape(kept)


def piece_figures(
    x: Float64, y: Float64, ulps: Float64 | None, axes: tuple[int, ...], threshold: float
) -> Figures:
    """Return the figures of a piece small enough for temporaries of its size, over some axes."""
    if x.size == 0:
        shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        return no_figures(shape, ulps is not None)
    reduce, size = _reduction(x.shape, axes), math.prod(x.shape[axis] for axis in axes)
    difference = y - x
    largest = _largest(difference, reduce)
    outlying = np.abs(x) >= threshold
    beyond: Any = None
    if not np.isfinite(largest).all():
        x, y, difference, ulps, beyond = _finite_parts(x, y, difference, ulps, reduce)
        largest = np.where(beyond == 0, _largest(difference, reduce), np.inf)
    signal, approximation, noise = (_scaled(v, reduce, size) for v in (x, y, difference))
    product = reduce(np.add, signal.values * approximation.values) / size
    squares = signal.mean_square * approximation.mean_square
    rmse = np.minimum(noise.rms(), largest)
    mean = np.ldexp(reduce(np.add, noise.values) / size, noise.exponent)
    mean = np.clip(mean, -largest, largest)
    return Figures(
        count=np.full(largest.shape, size, np.int64),
        max_abs=largest,
        rmse=rmse if beyond is None else np.where(beyond == 0, rmse, np.inf),
        mean_error=mean if beyond is None else np.where(beyond == 0, mean, beyond),
        signal_rms=signal.rms(),
        approximation_rms=approximation.rms(),
        cosine=_cosine(product / np.sqrt(squares), squares == 0, largest),
        outliers=(
            reduce(np.add, outlying.astype(np.int64))
            if outlying.any()
            else np.zeros(largest.shape, np.int64)
        ),
        max_ulp=None if ulps is None else reduce(np.maximum, ulps),
        mean_ulp=None if ulps is None else reduce(np.add, ulps) / size,
    )


def _finite_parts(
    x: Float64, y: Float64, difference: Float64, ulps: Float64 | None, reduce: Reduce
) -> tuple[Float64, Float64, Float64, Float64 | None, Float64]:
    """Return arguments with 0 where a value is not finite, and each group's sum of infinite errors.

    The sum is inf, -inf or nan; 0 where there is no such error. Groups that have one have no other.
    """
    nans = np.isnan(x), np.isnan(y)
    unmatched = ~((x == y) | (nans[0] & nans[1]))
    difference = np.where(unmatched, difference, 0.0)
    beyond = reduce(np.add, np.where(np.isfinite(difference), 0.0, difference))
    difference = np.where(beyond == 0, difference, 0.0)
    if ulps is not None:
        ulps = np.where(nans[0] | nans[1], np.where(unmatched, np.inf, 0.0), ulps)
    x, y = (np.where(np.isfinite(values), values, 0.0) for values in (x, y))
    return x, y, difference, ulps, beyond


def _largest(values: Float64, reduce: Reduce) -> Float64:
    """Return the largest magnitudes; NaN where there is one."""
    return np.maximum(reduce(np.maximum, values), -reduce(np.minimum, values)) + 0.0  # not -0


class Scaled(NamedTuple):
    """Values whose squares are safe, their mean square, and the exponent of 2 that they lack."""

    values: Float64
    mean_square: Float64
    exponent: Any

    def rms(self) -> Float64:
        return np.ldexp(np.sqrt(self.mean_square), self.exponent)


def _scaled(values: Float64, reduce: Reduce, size: int) -> Scaled:
    # Not np.dot: it wakes BLAS's threads, slow on a busy machine, and sums in an order of theirs.
    mean_square = reduce(np.add, np.square(values)) / size
    low, high = SAFE_SQUARES
    safe = (low <= mean_square) & (mean_square <= high)
    if safe.all():
        return Scaled(values, mean_square, 0)
    largest = _largest(values, reduce)
    if not np.where(safe, 0.0, largest).any():
        return Scaled(values, mean_square, 0)
    exponent = np.frexp(largest)[1]
    values = np.ldexp(values, -exponent)
    return Scaled(values, reduce(np.add, np.square(values)) / size, exponent)


def _ulps(x: np.ndarray, y: np.ndarray) -> Float64:
    """Return how many values of their one format lie between numbers; of a NaN it means nothing.

    `ulp_distance` as float64, in a third of the time.
    """
    start, end = _places(x), _places(y)
    # Subtraction modulo the power of two is right: no distance is that large.
    apart = np.maximum(start, end) - np.minimum(start, end)
    return apart.view(f"u{apart.itemsize}").astype(np.float64)


def _places(values: np.ndarray) -> np.ndarray:
    """Return how many steps from 0 a float lies, negative below it; both zeros are 0."""
    codes = interop.plain(values).view(f"i{values.itemsize}")
    sign = codes >> (8 * values.itemsize - 1)  # -1 of negative numbers, else 0
    places = sign & np.iinfo(codes.dtype).max
    places ^= codes
    places -= sign
    return places
