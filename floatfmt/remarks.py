"""What rounding did to a value, in a sentence."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from . import exact
from .figures import figure, rounded
from .formats import Format
from .placement import Placement, place
from .reading import within_reach
from .rounding import Rounding, Rules
from .spelling import brief, in_decimal, in_hex

if TYPE_CHECKING:
    from .inspection import Inspection

__all__ = ["placement", "random_word", "remark", "sentence"]

NEAREST = (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY)


def placement(x: Inspection) -> Placement | None:
    """Return where the value asked for lies; None for what is no number, and for zeros."""
    asked = x.requested
    if x.rules is None or not asked or isinstance(asked, float):
        return None
    return place(within_reach(asked), x.rules)


def random_word(x: Inspection) -> int | None:
    """Return the random bits that a stochastic rounding drew."""
    if x.seed is None or x.index is None:
        return None
    return exact.random_word(x.seed, x.index)


# --- remarks: what the numbers alone do not say --------------------------------------------------


def remark(x: Inspection) -> str | None:
    """Return a sentence if a value overflowed, underflowed, lay halfway or the like; else None."""
    how, where = x.rules, placement(x)
    if how is None:
        return None
    if where is None:
        return _special_remark(x, how)
    magnitude = where.rounded(random_word(x))
    if where.is_beyond and (magnitude > where.limit or _stops(where)):
        return _beyond_remark(where)
    if x.category == "zero" and not x.format.is_integer:
        return _underflow_remark(x.format, how, flushed=magnitude > 0)
    if where.is_tie and how.rounding in NEAREST:
        return _tie_remark(x, where)
    return None


def _special_remark(x: Inspection, how: Rules) -> str | None:
    """Return what became of a NaN, an Inf or a zero that is not what it was."""
    asked, fmt = x.requested, x.format
    becomes = f"it becomes {in_decimal(x.code, fmt)}"
    if asked is None:
        return None
    if asked != asked:
        return None if x.category == "nan" else f"{becomes}, as nan={how.nan!r} says"
    if asked:
        lacks = f"{fmt} has no {'-' * (asked < 0)}Inf: {becomes}"
        says = f"{becomes}, as overflow={how.overflow!r} says"
        has_it = fmt.infinity and (fmt.signed or asked > 0)
        return None if x.category == "infinite" else says if has_it else lacks
    if not fmt.zero:
        return f"{fmt} has no zero: {becomes}"
    is_negative = math.copysign(1, asked) < 0
    return f"{fmt} has no -0: it becomes 0" if is_negative and not fmt.has_negative_zero else None


def _stops(where: Placement) -> bool:
    return where.how.rounding.stays_finite(bool(where.sign)) and where.limit >= 0


def _end(where: Placement) -> str:
    """Return the format's last value of a sign, named."""
    fmt = where.how.format
    if not where.sign or fmt.lowest == -fmt.max_finite:
        return f"the largest finite value is {figure(fmt.max_finite, fmt.round_trip_digits)}"
    return f"the least value is {figure(fmt.lowest, fmt.round_trip_digits)}"


def _beyond_remark(where: Placement) -> str:
    how, fmt, mode = where.how, where.how.format, where.how.rounding
    becomes = _becomes(how.overflows[where.sign], fmt)
    if where.limit < 0:
        return f"out of range: {fmt} has neither zero nor negative values, and they {becomes}"
    if _stops(where):
        return f"out of range: {_end(where)}, and {mode} stops there"
    what = "overflows" if not where.sign or fmt.lowest == -fmt.max_finite else "out of range"
    return f"{what}: {_end(where)}, and {_threshold(where)} {becomes}"


def _becomes(code: int, fmt: Format) -> str:
    kind = exact.category(code, fmt)
    return {"infinite": "round to inf", "nan": "become nan"}.get(kind, f"become {brief(code, fmt)}")


def _threshold(where: Placement) -> str:
    """Return which values overflow: "magnitudes from 65520 on"."""
    how, fmt = where.how, where.how.format
    is_symmetric = fmt.lowest == -fmt.max_finite
    sign = 1 if is_symmetric else (-1) ** where.sign
    last, beyond = fmt.magnitude(where.limit), fmt.magnitude(where.limit + 1)
    values = "magnitudes" if is_symmetric else "values"
    onwards, past = ("on", "beyond") if sign > 0 else ("down", "below")
    if how.rounding not in NEAREST:
        chance = ", by chance," if how.rounding is Rounding.STOCHASTIC else ""
        return f"{values} {past} it{chance}"
    threshold = figure(sign * (last + beyond) / 2, fmt.round_trip_digits)
    takes_tie = how.rounding is Rounding.NEAREST_AWAY or where.limit % 2 == 1
    return f"{values} from {threshold} {onwards}" if takes_tie else f"{values} {past} {threshold}"


def _underflow_remark(fmt: Format, how: Rules, flushed: bool) -> str:
    if flushed:
        first = figure(fmt.min_normal or fmt.max_finite, fmt.round_trip_digits)
        return f"flushed: results below the smallest normal value, {first}, become zero"
    which = {
        Rounding.NEAREST_EVEN: "magnitudes up to half of it round to zero",
        Rounding.NEAREST_AWAY: "magnitudes below half of it round to zero",
        Rounding.STOCHASTIC: "magnitudes below it may round to zero",
    }.get(how.rounding, f"{how.rounding} takes what is nearer to zero to zero")
    smallest = figure(fmt.min_positive, fmt.round_trip_digits)
    return f"underflows: the smallest positive value is {smallest}, and {which}"


def _tie_remark(x: Inspection, where: Placement) -> str:
    codes = {neighbour.code for neighbour in where.neighbours if neighbour}
    others = [in_hex(code, x.format) for code in codes - {x.code} if code is not None]
    between = f"{x.hex} and {others[0]}" if others else f"{x.hex} and what lies beyond"
    taken = {
        Rounding.NEAREST_EVEN: "the even code is taken",
        Rounding.NEAREST_AWAY: "the one away from zero is taken",
    }[where.how.rounding]
    return f"a tie: halfway between {between}, and {taken}"


# --- the sentence of an explanation -------------------------------------------------------------


def sentence(x: Inspection) -> str:
    """Return why a value has the code that it has."""
    how, where = x.rules, placement(x)
    if how is None:
        return "a code was given: nothing was rounded"
    if where is None:
        return _special_remark(x, how) or _special_sentence(x, how)
    magnitude = where.rounded(random_word(x))
    if where.rest == 0:
        said = f"{in_hex(magnitude_code(where, magnitude), x.format)} has just this value"
        said += ": nothing is rounded, in any mode"
    elif where.limit < 0 or (where.is_beyond and (magnitude > where.limit or _stops(where))):
        return _beyond_remark(where)
    elif where.magnitude < 0:
        return (
            f"{x.format} has no zero: what lies below its smallest value, "
            f"{brief(0, x.format)}, becomes that in every mode"
        )
    else:
        said = _choice(x, where, magnitude)
        said += "; it underflows" * (magnitude == 0 and not x.format.is_integer)
    if how.flushes and 0 < magnitude <= x.format.fraction_mask:
        return f"{said}; but that is subnormal, and subnormals='flush' makes it zero"
    return said


def magnitude_code(where: Placement, magnitude: int) -> int:
    """Return the code of a magnitude within the format's range."""
    low, high = where.neighbours
    near, far = (high, low) if where.sign else (low, high)
    chosen = far if magnitude > where.magnitude else near
    assert chosen is not None
    assert chosen.code is not None
    return chosen.code


def _choice(x: Inspection, where: Placement, magnitude: int) -> str:
    """Return why an inexact value went to one of its two neighbours."""
    mode, half = where.how.rounding, Fraction(1, 2)
    target = in_hex(magnitude_code(where, magnitude), x.format)
    if mode in NEAREST and not where.is_tie:
        is_upper = (where.rest > half) != bool(where.sign)
        return f"{'beyond' if is_upper else 'short of'} the midpoint: {target} is the nearer"
    if mode is Rounding.STOCHASTIC:
        away = where.probability
        chance = away if magnitude > where.magnitude else 1 - away
        drawn = f"{random_word(x):#010x}"
        return (
            f"drawn: {target} had probability {rounded(chance, 3)}; the 32 bits of seed {x.seed}, "
            f"index {x.index} are {drawn}, and away from zero takes "
            f"{2**32 - int(away * 2**32):#010x} or more"
        )
    odd_or_even = "odd" if magnitude % 2 else "even"
    return {
        Rounding.NEAREST_EVEN: f"a tie: {target} is the even code of the two",
        Rounding.NEAREST_AWAY: f"a tie: {target} is the one away from zero",
        Rounding.TOWARD_ZERO: f"inexact, and {target} is the neighbour toward zero",
        Rounding.TOWARD_POSITIVE: f"inexact, and {target} is the neighbour above",
        Rounding.TOWARD_NEGATIVE: f"inexact, and {target} is the neighbour below",
        Rounding.TO_ODD: f"inexact, and {target} is the neighbour of {odd_or_even} code",
    }[mode]


def _special_sentence(x: Inspection, how: Rules) -> str:
    """Return why a NaN, an Inf or a zero stayed what it is."""
    if x.category == "infinite":
        return "Inf stays Inf in every mode"
    if x.category != "nan":
        return "a zero stays zero in every mode, with its sign where the format has -0"
    if not how.keeps_payload:
        only = x.format.nan != "ieee"
        return f"NaN stays NaN: {'without payload here' if only else 'every one the same'}"
    if how.quiets and not x.is_quiet:
        return "NaN stays NaN: in its own format it keeps every bit"
    quiet = "is quiet" if how.quiets else "is quiet or signalling as it was"
    return f"NaN stays NaN: it keeps its sign and the leading bits of its payload, and {quiet}"
