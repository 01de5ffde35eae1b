"""How a quantiser's codes are used: how many of them, how evenly, and how many mean zero."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import interop
from .error_figures import share
from .table import aligned

__all__ = ["CodeUsage", "code_usage"]

CODE_DTYPES = (np.dtype(np.int8), np.dtype(np.uint8))
MOST_BITS = 8


@dataclass(frozen=True, slots=True)
class CodeUsage:
    """How often each code occurs; made by ``ff.code_usage``.

    Attributes
    ----------
    bits : int
        The bits of a code, so that there are ``2**bits``.
    lowest : int
        The least code there is: 0, or ``-2**(bits - 1)`` of signed ones.
    counts : array of int64
        How often each code occurs, from the lowest up.
    zeros : int or None
        How many codes mean zero; None if that was not asked for.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> print(ff.code_usage(np.uint8([7, 0, 7, 15]), bits=4, zero_code=7).details())
    codes       4
    codes used  3 of 16
    entropy     1.500 of 4 bits
    zero codes  2 (50 %)
    """

    bits: int
    lowest: int
    counts: np.ndarray
    zeros: int | None

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self.details())

    @property
    def count(self) -> int:
        """How many codes were counted."""
        return int(self.counts.sum())

    @property
    def levels(self) -> int:
        """How many different codes there could be."""
        return len(self.counts)

    @property
    def used(self) -> int:
        """How many different codes occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def entropy(self) -> float:
        """The entropy of the codes in bits: ``-sum(p * log2(p))`` of their shares (Shannon, 1948).

        What an ideal entropy coder that takes codes one by one would need for each; 0 of none.
        """
        p = share(self.counts[self.counts > 0], self.count)
        return float(np.sum(p * np.log2(1 / p)))

    @property
    def zero_share(self) -> float | None:
        """The share of codes that mean zero, 0 to 1; None if that was not asked for."""
        return None if self.zeros is None else float(share(self.zeros, self.count))

    def merge(self, other: CodeUsage) -> CodeUsage:
        """Return the usage of both sets of codes together.

        Zeros are None unless both have them.

        Raises
        ------
        ValueError
            The codes are of different kinds.

        Examples
        --------
        >>> import floatfmt as ff, numpy as np
        >>> print(ff.code_usage(np.int8([1, 2])).merge(ff.code_usage(np.int8([1, 1]))))
        2 of 256 codes used, entropy 0.811 of 8 bits, of 4 codes
        """
        kinds = [f"{'' if u.lowest else 'u'}int{u.bits}" for u in (self, other)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"codes of {kinds[0]} and {kinds[1]} do not add up")
        counted = self.zeros is not None and other.zeros is not None
        return CodeUsage(
            bits=self.bits,
            lowest=self.lowest,
            counts=self.counts + other.counts,
            zeros=(self.zeros or 0) + (other.zeros or 0) if counted else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON; `counts` from the lowest code up."""
        names = ("bits", "lowest", "count", "levels", "used", "entropy", "zeros", "zero_share")
        return {**{name: getattr(self, name) for name in names}, "counts": self.counts.tolist()}

    def details(self) -> str:
        """Return every figure as text, one a line."""
        return aligned([("codes", f"{self.count:,}"), *self.rows()])

    def rows(self) -> list[tuple[str, str]]:
        """Return the name and text of what there is to say of the codes, but for their number."""
        rows = [
            ("codes used", f"{self.used:,} of {self.levels:,}"),
            ("entropy", f"{self.entropy:.3f} of {self.bits} bits"),
        ]
        if self.zero_share is not None:
            rows.append(("zero codes", f"{self.zeros:,} ({100 * self.zero_share:.3g} %)"))
        return rows

    def __str__(self) -> str:
        zero = "" if self.zero_share is None else f"zero code {100 * self.zero_share:.3g} %, "
        return (
            f"{self.used:,} of {self.levels:,} codes used, entropy {self.entropy:.3f} of"
            f" {self.bits} bits, {zero}of {self.count:,} codes"
        )


def code_usage(codes: Any, bits: int = 8, zero_code: Any = None) -> CodeUsage:
    """Count how often each code occurs.

    Parameters
    ----------
    codes : int8 or uint8 array
        Unpacked codes (``ff.unpack`` unpacks), NumPy or torch, of any shape and strides.
    bits : int
        The bits of a code, 1 to 8: int8 codes are from ``-2**(bits - 1)`` to
        ``2**(bits - 1) - 1``, uint8 codes from 0 to ``2**bits - 1``.
    zero_code : int or array of int, optional
        The code that means zero; or an array of them that broadcasts to the codes' shape, such as
        the zero points of rows.

    Returns
    -------
    CodeUsage
        Exact counts, from one pass.

    Raises
    ------
    ValueError
        A code is out of range (the message names the first), `bits` is, or `zero_code` does not
        broadcast.
    TypeError
        The codes are not int8 or uint8, or a zero code is no integer.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> q = ff.absmax(np.float32([0.1, -1.5, 3.2, 3.2]))
    >>> print(ff.code_usage(q.codes, zero_code=0))
    3 of 256 codes used, entropy 1.500 of 8 bits, zero code 0 %, of 4 codes
    """
    array, width = _codes(codes), _width(bits)
    lowest = -(1 << (width - 1)) if array.dtype.kind == "i" else 0
    zero = None if zero_code is None else _zero_codes(zero_code, array.shape)
    # Bytes, of which negative codes are the upper half.
    counts, zeros = np.zeros(1 << MOST_BITS, np.int64), 0
    for index in interop.slabs(array.shape):
        piece = interop.plain(array[index])
        counts += np.bincount(piece.reshape(-1).view(np.uint8), minlength=counts.size)
        if zero is not None:
            zeros += int(np.count_nonzero(piece == zero[index]))
    counts = np.roll(counts, -lowest)
    levels = 1 << width
    if counts[levels:].any():
        last = lowest + levels - 1
        position, code = interop.first_where(
            array, lambda piece: (piece < lowest) | (piece > last), "codes"
        )
        raise ValueError(
            f"{position} is {code}; {array.dtype} codes of {width} bits are from {lowest} to {last}"
        )
    return CodeUsage(width, lowest, counts[:levels], None if zero is None else zeros)


def _codes(codes: Any) -> np.ndarray:
    array = interop.to_numpy(codes)
    if array.dtype not in CODE_DTYPES:
        raise TypeError(f"codes must be int8 or uint8, got {interop.describe(codes)}")
    return array


def _width(bits: int) -> int:
    try:
        width = operator.index(bits)
    except TypeError:
        raise TypeError(f"bits must be an integer, got {bits!r}") from None
    if not 1 <= width <= MOST_BITS:
        raise ValueError(f"codes have 1 to {MOST_BITS} bits, got bits={bits!r}")
    return width


def _zero_codes(zero_code: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = interop.to_numpy(zero_code)
    if array.dtype.kind not in "iu":
        raise TypeError(f"zero_code must be an integer, got {interop.describe(zero_code)}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"zero_code has shape {array.shape}, which does not broadcast to that of the codes,"
            f" {shape}"
        ) from None
