"""How far an approximation lies from its original: numbers only, no drawing.

Arrays are read piece by piece and computed with in float64, so memory stays small whatever their
size. Every figure is kept as a mean or a maximum, never as a sum of squares: then nothing
overflows that is itself a float64, and the figures of parts combine to those of the whole.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import interop
from .arrays import decode
from .backends import Float64, current_backend
from .formats import format

__all__ = ["Error", "error"]


#: Within these magnitudes float64 squares are normal numbers, and so is the sum of 2**60 of them.
SAFE_SQUARES = (2.0**-480, 2.0**480)


@dataclass(frozen=True, slots=True)
class Error:
    """The error of an approximation: ``approximation - original``, element by element.

    Attributes
    ----------
    count : int
        How many elements there are.
    max_abs : float
        The largest magnitude of an error.
    rmse : float
        The root of the mean squared error.
    mean_error : float
        The mean error, or bias: positive where the approximation is too large.
    signal_rms : float
        The root of the original's mean square, from which `sqnr_db` follows.

    Notes
    -----
    Equal infinities, and a NaN approximated by any NaN, are no error. Any other pair with an Inf or
    NaN in it, and a difference beyond float64's range, is an infinite error: `max_abs` and `rmse`
    are inf, `sqnr_db` is -inf, and `mean_error` what IEEE arithmetic makes of it, inf, -inf or nan.
    The original's own infinities and NaNs count as 0 in the signal. Without elements all is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.metrics import error
    >>> result = error(np.float32([1.0, -2.0, 4.0]), np.float32([1.5, -2.0, 4.0]))
    >>> result.max_abs, result.mean_error, round(result.sqnr_db, 3)
    (0.5, 0.16666666666666666, 19.243)
    >>> print(result)
    max abs 0.5, RMSE 0.288675, SQNR 19.24 dB, mean +0.166667, of 3 values
    """

    count: int
    max_abs: float
    rmse: float
    mean_error: float
    signal_rms: float

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    @property
    def mse(self) -> float:
        """The mean squared error; inf or 0 where float64 does not hold the square."""
        return self.rmse * self.rmse

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise in decibels: ``20 * log10(signal_rms / rmse)``.

        inf where there is no error, whatever the signal; else -inf where there is no signal.
        """
        if self.rmse == 0:
            return math.inf
        if self.signal_rms == 0:
            return -math.inf
        # Not the logarithm of the quotient, which could overflow.
        return 20 * (math.log10(self.signal_rms) - math.log10(self.rmse))

    def merge(self, other: Error) -> Error:
        """Return the error of both parts together; exact but for the rounding of the means.

        Examples
        --------
        >>> import numpy as np
        >>> from floatfmt.metrics import error
        >>> x, y = np.float64([1, 2, 3, 4]), np.float64([1, 2, 5, 4])
        >>> print(error(x[:2], y[:2]).merge(error(x[2:], y[2:])))
        max abs 2, RMSE 1, SQNR 8.75 dB, mean +0.5, of 4 values
        >>> print(error(x, y))
        max abs 2, RMSE 1, SQNR 8.75 dB, mean +0.5, of 4 values
        """
        count = self.count + other.count
        if not (self.count and other.count):
            return self if self.count else other
        mine, theirs = self.count / count, other.count / count
        return Error(
            count=count,
            max_abs=max(self.max_abs, other.max_abs),
            rmse=math.hypot(self.rmse * math.sqrt(mine), other.rmse * math.sqrt(theirs)),
            mean_error=self.mean_error * mine + other.mean_error * theirs,
            signal_rms=math.hypot(
                self.signal_rms * math.sqrt(mine), other.signal_rms * math.sqrt(theirs)
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON: what is not finite is "inf", "-inf" or "nan".

        Examples
        --------
        >>> import numpy as np
        >>> from floatfmt.metrics import error
        >>> error(np.ones(2), np.ones(2)).to_dict()["sqnr_db"]
        'inf'
        """
        names = ("max_abs", "rmse", "mse", "sqnr_db", "mean_error", "signal_rms")
        return {"count": self.count, **{name: json_number(getattr(self, name)) for name in names}}

    def __str__(self) -> str:
        return (
            f"max abs {self.max_abs:.6g}, RMSE {self.rmse:.6g}, SQNR {self.sqnr_db:.2f} dB, "
            f"mean {self.mean_error:+.6g}, of {self.count:,} values"
        )


#: The error of no elements.
NO_ERROR = Error(count=0, max_abs=0.0, rmse=0.0, mean_error=0.0, signal_rms=0.0)


def json_number(value: float) -> float | str:
    """Return a float as JSON can hold it: inf and nan, which it lacks, as text."""
    return value if math.isfinite(value) else str(value)


def error(original: Any, approximation: Any) -> Error:
    """Measure how far an approximation lies from its original.

    Parameters
    ----------
    original, approximation : array
        fp64, fp32, fp16 or bf16 values of one shape; NumPy or torch, any strides and byte order,
        each of its own dtype. Both are taken exactly.

    Returns
    -------
    Error
        Computed in float64; defined for every input, see its notes.

    Raises
    ------
    ValueError
        The shapes differ.
    TypeError
        An array holds no floats.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> from floatfmt.metrics import error
    >>> x = np.float32([0.1, -1.5, 3.2])
    >>> print(error(x, ff.absmax(x).dequantize()))
    max abs 0.011811, RMSE 0.00683423, SQNR 49.50 dB, mean -0.00367454, of 3 values
    """
    x, y = interop.float_array(original), interop.float_array(approximation)
    if x.shape != y.shape:
        raise ValueError(f"the original has shape {x.shape}, its approximation {y.shape}")
    total = NO_ERROR
    keep_freed_memory()
    with current_backend().float_environment():
        for index in interop.slabs(x.shape):
            total = total.merge(piece_error(widened(x[index]), widened(y[index])))
    return total


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


def piece_error(x: Float64, y: Float64) -> Error:
    """Return the error of a piece small enough for temporaries of its size.

    To be called in the backend's ``float_environment()``.
    """
    with np.errstate(all="ignore"):
        difference = y - x
        if math.isfinite(_largest(difference)):
            return _finite_error(x, difference)
        unmatched = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        difference = np.where(unmatched, difference, 0.0)
        signal = np.where(np.isfinite(x), x, 0.0)
        infinite = difference[~np.isfinite(difference)]
        if infinite.size == 0:
            return _finite_error(signal, difference)
        return Error(
            count=x.size,
            max_abs=math.inf,
            rmse=math.inf,
            mean_error=float(infinite.sum()),
            signal_rms=_rms(signal),
        )


def _finite_error(signal: Float64, difference: Float64) -> Error:
    return Error(
        count=difference.size,
        max_abs=_largest(difference),
        rmse=_rms(difference),
        mean_error=_mean(difference),
        signal_rms=_rms(signal),
    )


def _largest(values: Float64) -> float:
    """Return the largest magnitude; NaN if there is one."""
    return float(max(values.max(initial=0.0), -values.min(initial=0.0)))


def _scaled(values: Float64) -> tuple[Float64, int]:
    """Return values whose squares are safe and the exponent of the power of two they lack."""
    largest = _largest(values)
    low, high = SAFE_SQUARES
    if largest == 0 or low <= largest <= high:
        return values, 0
    exponent = math.frexp(largest)[1]
    return np.ldexp(values, -exponent), exponent


def _rms(values: Float64) -> float:
    if values.size == 0:
        return 0.0
    scaled, exponent = _scaled(values)
    # Not np.dot: it wakes BLAS's threads, slow on a busy machine, and sums in an order of theirs.
    rms = math.sqrt(float(np.square(scaled).sum()) / scaled.size)
    # Rounding must not carry the result past its bound: that could overflow.
    return math.ldexp(min(rms, _largest(scaled)), exponent)


def _mean(values: Float64) -> float:
    if values.size == 0:
        return 0.0
    scaled, exponent = _scaled(values)
    bound = _largest(scaled)
    return math.ldexp(min(max(float(scaled.sum()) / scaled.size, -bound), bound), exponent)
