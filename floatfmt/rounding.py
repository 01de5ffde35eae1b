"""How a value becomes a code: the rounding mode, and what happens at and beyond a format's edges.

The choices are words; `Rules` turns them into the few codes that every implementation needs.
"""

from __future__ import annotations

import enum
import functools
import operator
import os
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .formats import Format, nearest_names

__all__ = [
    "NANS",
    "OVERFLOWS",
    "SUBNORMALS",
    "Pair",
    "Rounding",
    "Rules",
    "fresh_seed",
    "rounding_mode",
    "rules",
    "word64",
]


class Rounding(str, enum.Enum):
    """A rounding mode; each is also named by its value, and by its IEEE 754-2019 4.3 name.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [mode.value for mode in ff.Rounding][:3]
    ['nearest_even', 'nearest_away', 'toward_zero']
    >>> ff.rounding_mode("roundTiesToAway")
    <Rounding.NEAREST_AWAY: 'nearest_away'>
    """

    NEAREST_EVEN = "nearest_even"
    NEAREST_AWAY = "nearest_away"
    TOWARD_ZERO = "toward_zero"
    TOWARD_POSITIVE = "toward_positive"
    TOWARD_NEGATIVE = "toward_negative"
    TO_ODD = "to_odd"
    STOCHASTIC = "stochastic"

    def __str__(self) -> str:
        return self.value

    def stays_finite(self, negative: bool) -> bool:
        """Return whether finite values of this sign beyond the largest become the largest."""
        return self in _STAY_FINITE[negative]


_STAY_FINITE = (
    (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE, Rounding.TO_ODD),
    (Rounding.TOWARD_ZERO, Rounding.TOWARD_POSITIVE, Rounding.TO_ODD),
)

_ALIASES = {
    "roundtiestoeven": Rounding.NEAREST_EVEN,
    "roundtiestoaway": Rounding.NEAREST_AWAY,
    "roundtowardzero": Rounding.TOWARD_ZERO,
    "roundtowardpositive": Rounding.TOWARD_POSITIVE,
    "roundtowardnegative": Rounding.TOWARD_NEGATIVE,
    **{mode.value: mode for mode in Rounding},
}

#: What becomes of values beyond the largest finite one, and of Inf.
OVERFLOWS = ("ieee", "saturate", "nan")
#: What becomes of NaN.
NANS = ("quiet", "preserve", "canonical", "error", "zero", "largest")
#: What becomes of results among the format's subnormals.
SUBNORMALS = ("keep", "flush")


def rounding_mode(which: str | Rounding) -> Rounding:
    """Return the rounding mode called `which`.

    Raises
    ------
    ValueError
        No such mode; the message has the nearest names.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.rounding_mode("toward_zero")
    <Rounding.TOWARD_ZERO: 'toward_zero'>
    """
    if isinstance(which, Rounding):
        return which
    if not isinstance(which, str):
        raise TypeError(f"a rounding mode is a name, got {which!r}; {_known(Rounding)}")
    name = which.strip().lower()
    if name in _ALIASES:
        return _ALIASES[name]
    nearest = nearest_names(name, _ALIASES)
    raise ValueError(f"no rounding mode is called {which!r}; {nearest}{_known(Rounding)}")


def _known(names: type[Rounding] | tuple[str, ...]) -> str:
    return f"known: {', '.join(map(str, names))}"


def _checked(option: str, value: str, known: tuple[str, ...]) -> str:
    if value in known:
        return value
    nearest = nearest_names(value, known) if isinstance(value, str) else ""
    raise ValueError(f"{option}={value!r} is not known; {nearest}{_known(known)}")


def word64(number: int, name: str = "seed") -> int:
    """Return an integer of 64 bits: a seed, or an index.

    Raises
    ------
    TypeError, ValueError
        It is no integer, or out of range; the message calls it `name`.
    """
    try:
        word = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {number!r}") from None
    if not 0 <= word < 2**64:
        raise ValueError(f"{name} must lie in 0 to 2**64 - 1, got {number!r}")
    return word


def fresh_seed() -> int:
    """Return 64 bits of the system's entropy."""
    return int.from_bytes(os.urandom(8), "little")


#: One code for positive values, one for negative ones.
Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is decided before the first value is seen. Made by `rules`.

    A pair is indexed by the value's sign bit.

    Attributes
    ----------
    format, rounding, overflow, nan, subnormals
        What was asked for.
    limit : Pair
        The largest magnitude of a finite result; -1 where no value of that sign has one.
    overflows : Pair
        The code of finite values that round to a magnitude beyond the limit.
    infinity : Pair
        The code of Inf.
    zero : Pair
        The code of 0 and of -0.
    nans : Pair or None
        The code of NaN, to which `keeps_payload` adds the payload; None if NaN is an error.
    keeps_payload : bool
        Whether a NaN keeps the leading bits of its payload.
    quiets : bool
        Whether a NaN that keeps its payload becomes quiet.
    code_dtype : dtype
        The format's, kept at hand.
    memo : dict
        What a backend keeps of its own making, so that a call need not look for it.
    """

    format: Format
    rounding: Rounding
    overflow: str
    nan: str
    subnormals: str
    limit: Pair
    overflows: Pair
    infinity: Pair
    zero: Pair
    nans: Pair | None
    keeps_payload: bool
    quiets: bool
    code_dtype: np.dtype
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:  # what was asked for settles the rest
        return hash((self.format, self.rounding, self.overflow, self.nan, self.subnormals))

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:  # copies and pickles have no memo
        return rules, (self.format, self.rounding, self.overflow, self.nan, self.subnormals)

    @property
    def flushes(self) -> bool:
        """Whether subnormal results become zero."""
        return self.subnormals == "flush" and self.format.counts["subnormal"] > 0

    def with_rounding(self, rounding: str | Rounding) -> Rules:
        """Return the same rules for another rounding mode."""
        return rules(self.format, rounding, self.overflow, self.nan, self.subnormals)

    @property
    def is_default(self) -> bool:
        """Whether these are the rules of `encode` without options."""
        return (self.rounding, self.overflow, self.nan, self.subnormals) == (
            Rounding.NEAREST_EVEN,
            "ieee",
            "quiet",
            "keep",
        )


@functools.lru_cache(maxsize=1024)
def rules(
    fmt: Format,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
) -> Rules:
    """Return what the options of `encode` mean for one format.

    Raises
    ------
    ValueError
        An option is unknown, or asks for what the format does not have.
    """
    mode = rounding_mode(rounding)
    _checked("overflow", overflow, OVERFLOWS)
    _checked("nan", nan, NANS)
    _checked("subnormals", subnormals, SUBNORMALS)
    if overflow == "nan" and fmt.nan is None:
        raise ValueError(
            f"overflow='nan': {fmt} has no NaN; overflow='saturate' gives its largest value"
        )
    if nan == "zero" and not fmt.zero:
        raise ValueError(f"nan='zero': {fmt} has no zero; nan='largest' gives its largest value")
    limit, extreme = _extremes(fmt)
    overflows = tuple(
        extreme[s] if mode.stays_finite(bool(s)) and limit[s] >= 0 else _beyond(fmt, s, overflow)
        for s in (0, 1)
    )
    infinity = tuple(
        _infinity(fmt, s)
        if overflow == "nan" and _has_infinity(fmt, s)
        else _beyond(fmt, s, overflow)
        for s in (0, 1)
    )
    zero = (
        (0, fmt.sign_bit * fmt.has_negative_zero) if fmt.zero else (_beyond(fmt, 1, overflow),) * 2
    )
    nans, keeps_payload = _nans(fmt, nan)
    return Rules(
        *(fmt, mode, overflow, nan, subnormals),
        limit=limit,
        overflows=(overflows[0], overflows[1]),
        infinity=(infinity[0], infinity[1]),
        zero=(zero[0], zero[1]),
        nans=nans,
        keeps_payload=keeps_payload,
        quiets=nan == "quiet",
        code_dtype=fmt.code_dtype,
    )


def _extremes(fmt: Format) -> tuple[Pair, Pair]:
    """Return the largest magnitude of each sign, and the code of the value that has it."""
    if not fmt.signed:
        return (fmt.max_code, 0 if fmt.zero else -1), (fmt.max_code, 0)
    if fmt.twos_complement:
        return (fmt.max_code, fmt.max_code + 1), (fmt.max_code, fmt.sign_bit)
    return (fmt.max_code, fmt.max_code), (fmt.max_code, fmt.max_code | fmt.sign_bit)


def _has_infinity(fmt: Format, sign: int) -> bool:
    return fmt.infinity and (fmt.signed or not sign)


def _infinity(fmt: Format, sign: int) -> int:
    assert fmt.infinity_code is not None
    return fmt.infinity_code | fmt.sign_bit * sign


def _nan(fmt: Format, sign: int) -> int:
    """Return the quiet NaN of a sign; without signed NaNs, the only one."""
    assert fmt.nan_code is not None
    return fmt.nan_code | fmt.sign_bit * sign


def _beyond(fmt: Format, sign: int, overflow: str) -> int:
    """Return the code of what lies beyond the finite values on one side."""
    if overflow == "ieee" and _has_infinity(fmt, sign):
        return _infinity(fmt, sign)
    if overflow != "saturate" and fmt.nan is not None:
        return _nan(fmt, sign)
    return _extremes(fmt)[1][sign]


def _nans(fmt: Format, nan: str) -> tuple[Pair | None, bool]:
    if nan == "zero":
        return (0, 0), False
    if nan == "largest":
        return (fmt.max_code, fmt.max_code), False
    if nan == "error" or fmt.nan is None:
        return None, False
    if nan == "canonical":
        return (_nan(fmt, 0), _nan(fmt, 0)), False
    if fmt.nan == "ieee":
        # The payload and the quiet bit are added to the all-ones exponent.
        return (_infinity(fmt, 0), _infinity(fmt, 1)), True
    return (_nan(fmt, 0), _nan(fmt, 1)), False
