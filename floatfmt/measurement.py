"""All there is to measure of a quantised tensor: its error, codes and size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import interop
from .backends import current_backend
from .metrics import OUTLIER_THRESHOLD, Error, error, json_number
from .quantized import Quantized
from .table import aligned
from .usage import CodeUsage, code_usage

__all__ = ["Measurement", "measure"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What quantising did to a tensor; made by ``ff.measure``.

    Attributes
    ----------
    error : Error
        Of the dequantised values against the original ones.
    usage : CodeUsage
        How the codes are used. `usage.zeros` counts the values that dequantise to 0.
    saturated : int
        How many values were clamped to the range.
    nbytes : int
        Bytes that have to be stored: codes, scales and zero points.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x = np.float32([0.001, -1.5, 3.2, 7.0])
    >>> print(ff.measure(x, ff.absmax(x)))
    values              4
    max abs error       0.011811
    RMSE                0.00613231
    MSE                 3.76053e-05
    mean error (bias)   +0.00191532
    SQNR                56.11 dB
    relative Frobenius  0.00156406
    cosine              0.999998878
    ulp, max and mean   981,668,463 and 2.45445e+08
    outliers, |x| >= 6  1 (25 %)
    codes used          4 of 256
    entropy             2.000 of 8 bits
    zero codes          1 (25 %)
    saturated           0 (0 %)
    bits per value      16
    """

    error: Error
    usage: CodeUsage
    saturated: int
    nbytes: int

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    @property
    def saturated_share(self) -> float:
        """The share of values that were clamped, 0 to 1."""
        return self.saturated / max(self.error.count, 1)

    @property
    def bits_per_value(self) -> float:
        """Stored bits a value, scales and zero points included; nan without values."""
        return 8 * self.nbytes / self.error.count if self.error.count else math.nan

    def merge(self, other: Measurement) -> Measurement:
        """Return the measurement of both tensors together.

        Raises
        ------
        ValueError
            The codes are of different kinds, or the outliers of different thresholds.

        Examples
        --------
        >>> import floatfmt as ff, numpy as np
        >>> a, b = np.float32([1.0, 2.0]), np.float32([5.0])
        >>> both = ff.measure(a, ff.absmax(a)).merge(ff.measure(b, ff.absmax(b)))
        >>> both.error.count, both.nbytes, both.usage.used
        (3, 11, 2)
        """
        return Measurement(
            error=self.error.merge(other.error),
            usage=self.usage.merge(other.usage),
            saturated=self.saturated + other.saturated,
            nbytes=self.nbytes + other.nbytes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        names = ("saturated", "saturated_share", "nbytes", "bits_per_value")
        return {
            "error": self.error.to_dict(),
            "usage": self.usage.to_dict(),
            **{name: json_number(getattr(self, name)) for name in names},
        }

    def __str__(self) -> str:
        stored = [
            ("saturated", f"{self.saturated:,} ({100 * self.saturated_share:.3g} %)"),
            ("bits per value", f"{self.bits_per_value:.6g}"),
        ]
        return aligned([*self.error.rows(), *self.usage.rows(), *stored])


def measure(x: Any, q: Quantized, *, outlier_threshold: float = OUTLIER_THRESHOLD) -> Measurement:
    """Measure what quantising did to a tensor.

    Parameters
    ----------
    x : array
        What was quantised.
    q : Quantized
        What it was quantised to.
    outlier_threshold : float
        As in ``ff.error``, which measures rows and blocks too:
        ``ff.error(x, q.dequantize(), axis=0)``.

    Returns
    -------
    Measurement
        Besides the dequantised values, which take x's memory, it needs little.

    Raises
    ------
    ValueError
        x and the codes differ in shape.
    TypeError
        q is no `Quantized`, or x holds no floats.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> m = ff.measure(x, ff.quantize(x, scale=0.005))
    >>> m.saturated, m.usage.used, round(m.usage.entropy, 2), round(m.error.sqnr_db, 1)
    (361, 256, 6.36, 13.2)
    """
    if not isinstance(q, Quantized):
        raise TypeError(f"q must be what ff.quantize returns, got {interop.describe(q)}")
    values = q.dequantize()
    return Measurement(
        error=error(x, values, outlier_threshold=outlier_threshold),
        usage=_usage(q, values),
        saturated=q.saturated,
        nbytes=q.nbytes,
    )


def _usage(q: Quantized, values: Any) -> CodeUsage:
    """Return how q's codes are used; which of them mean zero is seen from their values."""
    array, zeros = interop.to_numpy(values), 0
    with current_backend().float_environment():  # no subnormal is 0
        for index in interop.slabs(array.shape):
            zeros += int(np.count_nonzero(array[index] == 0))
    return replace(code_usage(q.codes, bits=q.bits), zeros=zeros)
