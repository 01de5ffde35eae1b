"""Numbers as text: every digit, or as many as fit, with a ~ in front where some are missing.

Exact numbers come in and strings go out; formats and codes are unknown here.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from . import exact

__all__ = [
    "BIT_REACH",
    "Exact",
    "dyadic",
    "equals",
    "figure",
    "in_full",
    "is_short_ratio",
    "plain_decimal",
    "rounded",
]

#: An exact number. It is a Decimal where a Fraction would not fit in memory: 1e999999999.
Exact: TypeAlias = Fraction | Decimal

#: Integers of more bits are not written in decimal: that takes time quadratic in their length.
BIT_REACH = 100_000


# --- exactly ------------------------------------------------------------------------------------


def plain_decimal(x: Fraction) -> str:
    """Return every digit of an x whose digits end."""
    places = _decimal_places(x)
    assert places is not None
    digits = _integer(abs(x.numerator) * 10**places // x.denominator).zfill(places + 1)
    minus = "-" * (x < 0)
    return f"{minus}{digits[:-places]}.{digits[-places:]}" if places else minus + digits


def dyadic(x: Fraction) -> str:
    """Return an x that is not 0 as an odd integer times a power of two: "131 × 2^-12"."""
    twos = _trailing_zeros(x.numerator)
    return f"{x.numerator >> twos} × 2^{twos - _trailing_zeros(x.denominator)}"


def in_full(x: Exact | float) -> str:
    """Return a Fraction as a ratio in lowest terms, a Decimal in scientific notation; or "inf"."""
    if isinstance(x, Fraction):
        denominator = "" if x.denominator == 1 else f"/{_integer(x.denominator)}"
        return _integer(x.numerator) + denominator
    return str(x).lower().removesuffix(".0")


def is_short_ratio(x: Fraction) -> bool:
    """Return whether x reads best as a ratio: a short one, whose digits never end."""
    return _bit_length(x) <= 64 and _decimal_places(x) is None


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


def _bit_length(x: Fraction) -> int:
    return max(x.numerator.bit_length(), x.denominator.bit_length())


def _decimal_places(x: Fraction) -> int | None:
    """Return how many digits x has after the decimal point; None if they never end."""
    twos = _trailing_zeros(x.denominator)
    rest, fives = x.denominator >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def _integer(n: int) -> str:
    # str() refuses integers of more than 4,300 digits, and takes minutes for millions.
    return str(Decimal(n)) if n.bit_length() <= BIT_REACH else hex(n)


# --- in the space there is ----------------------------------------------------------------------


def figure(x: Exact, digits: int = 6, limit: int = 30, plus: str = "") -> str:
    """Return x exactly if that takes at most `limit` characters, else `rounded` to `digits`."""
    # Whatever is that short has few bits; more are not even tried.
    if isinstance(x, Fraction) and _bit_length(x) <= 4 * limit and _decimal_places(x) is not None:
        text = plain_decimal(x)
        if len(text) <= limit:
            return text if x < 0 else plus + text
    return rounded(x, digits, plus)


def rounded(x: Exact, digits: int, plus: str = "") -> str:
    """Return x to so many significant digits, after a ~ unless that is exact."""
    if isinstance(x, Fraction) and _bit_length(x) > BIT_REACH:
        return f"~{'-' if x < 0 else plus}2^{exact.floor_log2(abs(x))}"
    context = decimal.Context(digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    if isinstance(x, Decimal):
        result = context.plus(x)
    else:
        result = context.divide(Decimal(x.numerator), Decimal(x.denominator))
    about = "~" if context.flags[decimal.Inexact] else ""
    layout = "f" if -6 <= result.adjusted() < 16 else "e"
    return f"{about}{result.normalize(context):{plus}{layout}}"


def equals(text: str) -> str:
    """Return a figure after an equals sign, or after its ~ if it is not exact."""
    return f"~ {text[1:]}" if text.startswith("~") else f"= {text}"
