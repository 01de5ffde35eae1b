"""Whether what a cast gave is right: what is expected of every input, and what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..backends import use_backend
from ..formats import Format
from .casts import Outcome, is_nan
from .inputs import Batch
from .profiles import Profile

__all__ = ["NAN_POLICIES", "Judge"]

#: What is asked of NaNs, and the word of `encode` that gives the expected code.
NAN_POLICIES = {
    "any": "quiet",
    "quiet": "quiet",
    "exact": "quiet",
    "preserve": "preserve",
    "canonical": "canonical",
    "zero": "zero",
    "largest": "largest",
}


@dataclass(frozen=True)
class Judge:
    """Judges a cast's results.

    Attributes
    ----------
    source, target : Format
    asked : Profile
        What is expected. Of "stochastic" rounding, either neighbour is accepted.
    nan : str
        A word of `NAN_POLICIES`: "any": a NaN of any kind; "quiet": a quiet one; else the very code
        that is expected. In a target without NaN the first three accept whatever NaN becomes.
    backend : str or None
        On which it works out what it expects; None for the one in use.
    """

    source: Format
    target: Format
    asked: Profile
    nan: str = "any"
    backend: str | None = None

    def told(self, asked: Profile, nan: str | None = None) -> Judge:
        """Return a judge who expects something else."""
        return replace(self, asked=asked, nan=nan or self.nan)

    @property
    def _nearer(self) -> Profile:
        return replace(self.asked, rounding="toward_zero") if self.is_either else self.asked

    @property
    def is_either(self) -> bool:
        """Whether both neighbours of a value are right."""
        return self.asked.rounding == "stochastic"

    def expected(self, batch: Batch, out: np.ndarray | None = None) -> np.ndarray:
        """Return the expected codes; of both neighbours the one nearer to zero."""
        if self.backend is None:
            return self._nearer.codes(batch, self.target, out)
        with use_backend(self.backend):
            return self._nearer.codes(batch, self.target, out)

    def wrong(
        self, batch: Callable[[np.ndarray], Batch], outcome: Outcome, expected: np.ndarray
    ) -> np.ndarray:
        """Return the indices of results that are not accepted; `batch` gives inputs by index."""
        suspects = _differing(outcome.codes, expected)
        amiss = None
        for mask in (outcome.strays, outcome.refused):
            if mask is not None:
                amiss = mask if amiss is None else amiss | mask
        if amiss is not None:
            suspects = np.union1d(suspects, np.flatnonzero(amiss))
        if not suspects.size:
            return suspects
        inputs = batch(suspects)
        accepted = self._accepts(inputs, outcome.codes[suspects], expected[suspects])
        if amiss is not None:
            accepted &= ~amiss[suspects] | self._leaves_open(inputs.codes)
        return suspects[~accepted]

    def _leaves_open(self, codes: np.ndarray) -> np.ndarray:
        """Return which inputs are NaNs of which nothing is asked."""
        if self.target.nan is None and NAN_POLICIES[self.nan] == "quiet":
            return is_nan(codes, self.source)
        return np.zeros(codes.shape, np.bool_)

    def _accepts(self, batch: Batch, codes: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return which results are accepted though they are not the expected codes."""
        if self.target.nan is None:
            accepted = self._leaves_open(batch.codes)
        elif self.nan in ("any", "quiet"):
            accepted = is_nan(codes, self.target) & is_nan(expected, self.target)
            if self.nan == "quiet" and self.target.quiet_bit:
                accepted &= codes & codes.dtype.type(self.target.quiet_bit) != 0
        else:
            accepted = np.zeros(codes.shape, np.bool_)
        if self.is_either and not accepted.all():
            outer = replace(self.asked, rounding="away_from_zero").codes(batch, self.target)
            accepted |= codes == outer
        return accepted


def _differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the indices at which two arrays of codes differ.

    They are compared eight bytes at a time where they fit: most often they are equal.
    """
    each = 8 // a.itemsize
    if each == 1 or a.size % each or not (a.flags.c_contiguous and a.dtype == b.dtype):
        return np.flatnonzero(a != b)
    words = np.flatnonzero(a.view(np.uint64) != b.view(np.uint64))
    if 8 * words.size > a.size:  # most of them
        return np.flatnonzero(a != b)
    found = (words[:, None] * each + np.arange(each)).reshape(-1)
    return found[a[found] != b[found]]
