"""Whether a cast's result depends on where in an array a value stands.

A vectorised cast has a body and a tail, and several lanes; a sweep in large chunks sees the body
only. So some inputs, on which roundings differ, are cast in arrays of every short length and start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import encode
from .casts import Cast
from .faults import Sample
from .inputs import Batch
from .judging import Judge
from .profiles import any_nan

__all__ = ["LENGTHS", "Positions", "check_positions"]

#: Every length up to this, and two more: over two vectors of 64 bytes of one-byte elements.
LENGTHS = (*range(1, 131), 257, 1021)
#: How many inputs are placed, and how many Inf and NaN: together a prime, so that each comes to
#: stand everywhere.
MOST_INPUTS, MOST_SPECIAL = 89, 8


@dataclass(frozen=True, slots=True)
class Positions:
    """What was found by placing inputs.

    Attributes
    ----------
    tried : int
        How many placements: an input at a position in an array of some length.
    wrong : int
        How many of them went wrong although the same input is right at another place.
    where : str
        What the wrong positions have in common, if anything was found.
    sample : Sample or None
        An input that went wrong; its number is its position.
    length : int
        The length of the array that it stood in.
    """

    tried: int
    wrong: int = 0
    where: str = ""
    sample: Sample | None = None
    length: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes."""
        sample = None if self.sample is None else self.sample._asdict()
        return {
            "tried": self.tried,
            "wrong": self.wrong,
            "where": self.where,
            "length": self.length,
            "sample": sample,
        }


def check_positions(cast: Cast, judge: Judge, batch: Batch) -> Positions:
    """Cast some of the inputs in arrays of many lengths, and compare the places."""
    chosen = _telling(judge, batch)
    if not chosen.size:
        return Positions(0)
    rows, samples = [], []
    for length in LENGTHS:
        which = (np.arange(length) + length * 31) % chosen.size
        # At every distance from where the memory is aligned.
        memory = np.zeros(length + 8, chosen.dtype)
        codes = memory[length % 8 : length % 8 + length]
        codes[...] = chosen[which]
        expected = judge.expected(Batch(judge.source, codes.copy()))
        outcome = cast(codes)
        placed = Batch(judge.source, chosen[which])
        wrong = np.zeros(length, np.bool_)
        wrong[judge.wrong(placed.__getitem__, outcome, expected)] = True
        rows.append((which, np.arange(length), np.full(length, length), wrong))
        samples.append((placed.codes, expected.copy(), outcome.codes.copy()))
    which, position, lengths, wrong = (np.concatenate(part) for part in zip(*rows, strict=True))
    codes, expected, got = (np.concatenate(part) for part in zip(*samples, strict=True))
    counts = np.bincount(which, minlength=chosen.size)
    failed = np.bincount(which, wrong, minlength=chosen.size)
    depends = ((failed > 0) & (failed < counts))[which] & wrong
    if not depends.any():
        return Positions(which.size)
    at = np.flatnonzero(depends)
    first = at[0]
    sample = Sample(int(position[first]), int(codes[first]), int(expected[first]), int(got[first]))
    where = _common(position[at], lengths[at])
    return Positions(which.size, at.size, where, sample, int(lengths[first]))


def _telling(judge: Judge, batch: Batch) -> np.ndarray:
    """Return the codes of inputs on which roundings differ, an even choice."""
    with np.errstate(invalid="ignore"):
        finite = np.flatnonzero(np.isfinite(batch.wide))
    values, nan = batch[finite].values, any_nan(judge.target)
    modes = ("nearest_even", "toward_zero", "nearest_away")
    results = [encode(values, judge.target, rounding=mode, nan=nan) for mode in modes]
    tells = (results[0] != results[1]) | (results[0] != results[2])
    found = batch.codes[finite[tells]] if tells.any() else batch.codes[finite]
    special = np.setdiff1d(batch.codes, batch.codes[finite])  # Inf and NaN
    return np.concatenate([_even(found, MOST_INPUTS), _even(special, MOST_SPECIAL)])


def _even(codes: np.ndarray, most: int) -> np.ndarray:
    """Return an even choice of at most so many codes."""
    return codes[np.linspace(0, codes.size - 1, min(most, codes.size)).astype(np.int64)]


def _common(position: np.ndarray, length: np.ndarray) -> str:
    """Return what some positions have in common."""
    for lanes in (4, 8, 16, 32, 64):
        if (position >= length - length % lanes).all():
            return f"in the last n mod {lanes} elements of an array of n"
    for lanes in (64, 32, 16, 8, 4, 2):
        lane = np.unique(position % lanes)
        if lane.size == 1:
            return f"at positions {lane[0]} modulo {lanes}"
    if (position == 0).all():
        return "at the first element"
    return ""
