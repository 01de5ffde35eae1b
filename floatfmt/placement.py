"""Where a value lies among the values of a format, before anything is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from . import exact
from .rounding import Rules

__all__ = ["Neighbour", "Placement", "SignificandBits", "place"]


class Neighbour(NamedTuple):
    """A value of a format next to the one that was asked for.

    Attributes
    ----------
    value : Fraction
        Its exact value.
    code : int or None
        Its code; None beyond the format's range, where `value` is what the next one would be.
    """

    value: Fraction
    code: int | None


class SignificandBits(NamedTuple):
    """The significand of a value, cut where the format's precision ends.

    Attributes
    ----------
    kept : str
        The bits that a code has room for, ``"1.0000010"``; of fixed point an integer in binary.
    guard, round, sticky : int
        The first bit after them, the second, and whether any later one is 1.
    """

    kept: str
    guard: int
    round: int
    sticky: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a finite value other than 0 lies among a format's values of its sign.

    Attributes
    ----------
    how : Rules
        The format, and how it rounds.
    value : Fraction
        The value.
    sign : int
        1 if the value is negative.
    magnitude : int
        That of the neighbour toward zero, or of the value itself; -1 if there is none.
    rest : Fraction
        How much of the way to the next magnitude is left: 0 to 1, and more beyond the last one.
    """

    how: Rules
    value: Fraction
    sign: int
    magnitude: int
    rest: Fraction

    @property
    def limit(self) -> int:
        """The largest magnitude of this sign; -1 if no value has it."""
        return self.how.limit[self.sign]

    @property
    def is_beyond(self) -> bool:
        """Whether the value lies beyond the format's last one."""
        return self.magnitude == self.limit and self.rest > 0

    @property
    def is_tie(self) -> bool:
        """Whether the value lies halfway between two magnitudes."""
        return self.magnitude >= 0 and self.rest == Fraction(1, 2)

    def rounded(self, word: int | None) -> int:
        """Return the magnitude it rounds to, as if there were no last one."""
        return exact.round_to_integer(
            self.magnitude + self.rest, self.sign, self.how.rounding, word
        )

    @property
    def probability(self) -> Fraction:
        """That of stochastic rounding, with its 32 random bits, going away from zero."""
        return min(Fraction(self.rest * 2**32 // 1, 2**32), Fraction(1))

    @property
    def neighbours(self) -> tuple[Neighbour | None, Neighbour | None]:
        """The neighbours below and above; the value itself twice if it is one of the format's."""
        if self.limit < 0:  # a negative value, and the format has none and no zero
            return None, Neighbour(self.how.format.min_positive, 0)
        near, far = self._at(self.magnitude), self._at(self.magnitude + (self.rest > 0))
        return (far, near) if self.sign else (near, far)

    def _at(self, magnitude: int) -> Neighbour | None:
        fmt = self.how.format
        if magnitude < 0:
            return None
        value = (-1) ** self.sign * fmt.magnitude(magnitude)
        if magnitude > self.limit:
            return Neighbour(value, None)
        return Neighbour(value, exact.encode(value, fmt) if value else self.how.zero[self.sign])

    @property
    def bits(self) -> SignificandBits | None:
        """The significand's bits; None further out than the next magnitude beyond the last."""
        if self.magnitude < 0 or self.rest >= 1:
            return None
        fmt, quarters = self.how.format, 4 * self.rest // 1
        kept = f"{self.magnitude & fmt.fraction_mask:0{fmt.fraction_bits}b}"
        if fmt.is_integer:
            kept = f"{self.magnitude:0{fmt.fraction_bits}b}"
        else:
            hidden = int(self.magnitude > fmt.fraction_mask or not fmt.zero)
            kept = f"{hidden}.{kept}" if fmt.fraction_bits else f"{hidden}"
        return SignificandBits(kept, quarters >> 1, quarters & 1, int(4 * self.rest > quarters))


def place(x: Fraction, how: Rules) -> Placement:
    """Return where x, which is not 0, lies among the values of its sign."""
    fmt, sign = how.format, int(x < 0)
    limit = how.limit[sign]
    if not fmt.zero and not sign and x < fmt.min_positive:
        return Placement(how, x, sign, -1, x / fmt.min_positive)  # nothing lies below
    exactly = exact.place(abs(x), fmt)
    floor = exactly.numerator // exactly.denominator
    if floor <= limit:
        return Placement(how, x, sign, floor, exactly - floor)
    if limit < 0:
        return Placement(how, x, sign, limit, Fraction(1))
    last = fmt.magnitude(limit)
    return Placement(how, x, sign, limit, (abs(x) - last) / (fmt.magnitude(limit + 1) - last))
