"""What went wrong: failures grouped by a name that was confirmed on each of them.

A finite input's failure has the name of the single choice that makes ff.encode give the very same
code; the names of all others say what is seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..formats import Format
from ..spelling import brief
from .casts import Outcome, is_nan
from .fitting import Fit
from .inputs import Batch
from .judging import Judge
from .profiles import Profile

__all__ = ["Group", "Sample", "Tally", "name_differences", "name_faults"]

#: Names of the choices that a cast makes and was not asked for.
NAMES = {
    ("rounding", "nearest_even"): "rounds to nearest, ties to even",
    ("rounding", "nearest_away"): "ties away from zero",
    ("rounding", "toward_zero"): "truncates",
    ("rounding", "toward_positive"): "rounds up",
    ("rounding", "toward_negative"): "rounds down",
    ("rounding", "to_odd"): "rounds to odd",
    ("rounding", "ties_to_odd"): "ties to odd",
    ("rounding", "ties_toward_zero"): "ties toward zero",
    ("rounding", "ties_up"): "ties up",
    ("rounding", "ties_down"): "ties down",
    ("rounding", "away_from_zero"): "rounds away from zero",
    ("overflow", "ieee"): "overflows instead of saturating",
    ("overflow", "saturate"): "saturates",
    ("overflow", "nan"): "NaN beyond the range",
    ("overflow", "wraps"): "no overflow: wraps around beyond the range",
    ("threshold", "largest"): "overflow threshold at max instead of max + half ulp",
    ("subnormals", "keep"): "keeps subnormals",
    ("subnormals", "flush"): "flushes subnormals",
    ("subnormals", "flush_early"): "flushes what lies below the smallest normal value",
    ("subnormals", "flush_inputs"): "flushes subnormal inputs",
    ("subnormals", "twice"): "rounds subnormals twice, first as if they were normal",
    ("subnormals", "truncate"): "truncates subnormals",
    ("sign", "drop"): "drops the sign",
    ("least", "up"): "what lies just above the least value goes up",
}
_NEAREST = ("nearest_even", "nearest_away")


def fault_name(choice: str, value: Any, asked: Profile, target: Format) -> str:
    """Return the name of one choice that a cast was not asked for."""
    if choice == "via":
        return f"double-rounds through {value}" if value else "rounds once"
    if (choice, value) == ("rounding", "toward_zero") and asked.rounding in _NEAREST:
        return "truncates instead of rounding to nearest"
    if isinstance(value, tuple):
        ends = " and ".join(dict.fromkeys(brief(code, target) for code in value))
        return f"values beyond the range become {ends}"
    return NAMES.get((choice, value), f"{choice}: {value}")


class Sample(NamedTuple):
    """A failing input: its number in order of visits, its code, and what the cast gave."""

    number: int
    code: int
    expected: int | str
    got: int | str


@dataclass
class Group:
    """Failures of one name.

    Attributes
    ----------
    count : int
    first, simplest : Sample
        The one that was visited first; the one of fewest significant bits, then nearest to 1.
    rank : int
        The simplest one's.
    """

    count: int
    first: Sample
    simplest: Sample
    rank: int

    def add(self, other: Group) -> None:
        """Take in failures that were found elsewhere."""
        self.count += other.count
        self.first = min(self.first, other.first, key=lambda sample: sample.number)
        mine, theirs = ((g.rank, g.simplest.code) for g in (self, other))
        if theirs < mine:
            self.simplest, self.rank = other.simplest, other.rank


@dataclass
class Tally:
    """What was found in some inputs.

    Attributes
    ----------
    count : int
        Inputs.
    groups : dict of Group
        Failures by name.
    unlike : int
        Inputs for which the cast did not give what its profile says.
    """

    count: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    unlike: int = 0

    @property
    def wrong(self) -> int:
        """How many failures there are."""
        return sum(group.count for group in self.groups.values())

    def add(self, other: Tally) -> None:
        """Take in what was found in other inputs."""
        self.count += other.count
        self.unlike += other.unlike
        for name, group in other.groups.items():
            _put(self.groups, name, group)


def _put(groups: dict[str, Group], name: str, group: Group) -> None:
    if name in groups:
        groups[name].add(group)
    else:
        groups[name] = group


def name_faults(
    judge: Judge,
    found: Fit | None,
    batch: Batch,
    outcome: Outcome,
    expected: np.ndarray,
    wrong: np.ndarray,
    first: int,
) -> dict[str, Group]:
    """Return the failures at indices `wrong` of a chunk that begins with input number `first`.

    `batch` has the inputs of these failures only.
    """
    groups: dict[str, Group] = {}
    if not wrong.size:
        return groups
    failures = _Failures(judge, batch, outcome.codes[wrong], expected[wrong])

    def sample(i: int) -> Sample:
        at = int(wrong[i])
        return Sample(first + at, int(batch.codes[i]), int(expected[at]), _given(outcome, at))

    for name, where in _named(failures, found, outcome, wrong):
        best, rank = simplest(batch.codes[where], judge.source)
        _put(groups, name, Group(where.size, sample(where[0]), sample(where[best]), rank))
    return groups


def _given(outcome: Outcome, at: int) -> int | str:
    if outcome.refused is not None and outcome.refused[at]:
        return f"raises {_raised(outcome)}"
    if outcome.strays is not None and outcome.strays[at] and outcome.said is not None:
        return outcome.said(at)
    return int(outcome.codes[at])


def _raised(outcome: Outcome) -> str:
    error = outcome.error
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Failures(NamedTuple):
    judge: Judge
    batch: Batch
    codes: np.ndarray
    expected: np.ndarray

    def at(self, where: np.ndarray) -> _Failures:
        """Return some of them."""
        return _Failures(self.judge, self.batch[where], self.codes[where], self.expected[where])


#: Says for which failures something holds.
Test: TypeAlias = Callable[[_Failures], np.ndarray]


def _named(
    failures: _Failures, found: Fit | None, outcome: Outcome, wrong: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each name with the indices of its failures, ascending."""
    left = np.arange(wrong.size)
    for mask, name in (
        (outcome.refused, f"raises {type(outcome.error).__name__}"),
        (outcome.strays, f"gives what {failures.judge.target} does not have"),
    ):
        if mask is not None and (mine := mask[wrong[left]]).any():
            yield name, left[mine]
            left = left[~mine]
    wide = failures.batch.wide[left]
    special = ~np.isfinite(wide) | (wide == 0)
    yield from _first_that_holds(failures, left[special], _SPECIAL)
    left = left[~special]
    for name, profile in _hypotheses(failures.judge, found):
        if not left.size:
            return
        codes = profile.codes(failures.batch[left], failures.judge.target)
        same = codes == failures.codes[left]
        if same.any():
            yield name, left[same]
            left = left[~same]
    yield from _first_that_holds(failures, left, _SEEN)


def _first_that_holds(
    failures: _Failures, left: np.ndarray, tests: tuple[tuple[str, Test], ...]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the failures under the name of the first test that holds for them."""
    for name, test in tests:
        if not left.size:
            return
        mine = test(failures.at(left))
        if mine.any():
            yield name, left[mine]
            left = left[~mine]


def _hypotheses(judge: Judge, found: Fit | None) -> Iterator[tuple[str, Profile]]:
    """Yield the choices that differ from what was asked, one by one and together."""
    if found is None:
        return
    asked, target = judge.asked, judge.target
    of_finite = [
        (choice, value)
        for choice, value in found.profile.changes(asked)
        if choice not in ("nan", "infinity", "zero")
    ]
    # The fewest choices that do it have the name.
    for size in range(1, len(of_finite) + 1):
        for choices in itertools.combinations(of_finite, size):
            names = [fault_name(choice, value, asked, target) for choice, value in choices]
            yield " and ".join(names), replace(asked, **dict(choices))
    for partial in found.partial:
        for choice, value in partial.changes(asked):
            if choice not in ("nan", "infinity", "zero"):
                yield fault_name(choice, value, asked, target), partial
                break


# --- what is seen -------------------------------------------------------------------------------


def _is_input_nan(f: _Failures) -> np.ndarray:
    return is_nan(f.batch.codes, f.judge.source)


def _magnitude(codes: np.ndarray, fmt: Format) -> np.ndarray:
    return codes & codes.dtype.type(fmt.magnitude_mask)


def _gives_nan(f: _Failures) -> np.ndarray:
    return is_nan(f.codes, f.judge.target)


def _gives_inf(f: _Failures) -> np.ndarray:
    target = f.judge.target
    if target.infinity_code is None:
        return np.zeros(f.codes.shape, np.bool_)
    return _magnitude(f.codes, target) == f.codes.dtype.type(target.infinity_code)


def _gives_zero(f: _Failures) -> np.ndarray:
    target = f.judge.target
    if not target.zero:
        return np.zeros(f.codes.shape, np.bool_)
    return (f.codes == 0) | (target.has_negative_zero & (f.codes == target.sign_bit))


def _gives_sign(f: _Failures) -> np.ndarray:
    return f.codes & f.codes.dtype.type(f.judge.target.sign_bit) != 0


def _differs_in_sign(f: _Failures) -> np.ndarray:
    differs = f.codes ^ f.expected
    return (differs & f.codes.dtype.type(f.judge.target.sign_bit)) != 0


def _apart(f: _Failures) -> np.ndarray:
    """Return by how many magnitudes results of the right sign are off."""
    mask = f.judge.target.magnitude_mask
    low, high = (codes.astype(np.int64) & mask for codes in (f.codes, f.expected))
    return np.where(_differs_in_sign(f), -1, np.abs(low - high))


def _is_quiet(f: _Failures) -> np.ndarray:
    return f.codes & f.codes.dtype.type(f.judge.target.quiet_bit) != 0


_IS_INF: Test = lambda f: np.isinf(f.batch.wide)  # noqa: E731
_IS_ZERO: Test = lambda f: f.batch.wide == 0  # noqa: E731

#: Of inputs that are NaN, Inf or zero: tried in order, the first that holds has the name.
_SPECIAL: tuple[tuple[str, Test], ...] = (
    (
        "a signalling NaN stays signalling",
        lambda f: _is_input_nan(f) & _gives_nan(f) & ~_is_quiet(f) & (f.judge.nan != "preserve"),
    ),
    (
        "NaN loses its sign",
        lambda f: (
            _is_input_nan(f)
            & _gives_nan(f)
            & (_magnitude(f.codes ^ f.expected, f.judge.target) == 0)
        ),
    ),
    ("NaN payload differs", lambda f: _is_input_nan(f) & _gives_nan(f)),
    ("NaN becomes Inf", lambda f: _is_input_nan(f) & _gives_inf(f)),
    ("NaN becomes -0", lambda f: _is_input_nan(f) & _gives_zero(f) & _gives_sign(f)),
    ("NaN becomes 0", lambda f: _is_input_nan(f) & _gives_zero(f)),
    ("NaN becomes a number", _is_input_nan),
    ("Inf becomes NaN", lambda f: _IS_INF(f) & _gives_nan(f)),
    ("Inf changes its sign", lambda f: _IS_INF(f) & _gives_inf(f)),
    ("Inf becomes a number", lambda f: _IS_INF(f) & ~_gives_largest(f)),
    ("Inf saturates", _IS_INF),
    ("loses the sign of zero", lambda f: _IS_ZERO(f) & _gives_zero(f)),
    ("0 becomes NaN", lambda f: _IS_ZERO(f) & _gives_nan(f)),
    ("0 becomes another number", _IS_ZERO),
)

#: Of finite inputs whose failures no choice of a profile explains.
_SEEN: tuple[tuple[str, Test], ...] = (
    ("NaN for a number", _gives_nan),
    ("Inf for a number", lambda f: _gives_inf(f) & ~_expects_inf(f)),
    ("no overflow", lambda f: _expects_inf(f) | is_nan(f.expected, f.judge.target)),
    ("the wrong sign", lambda f: _differs_in_sign(f) & _same_magnitude(f)),
    ("the other neighbour", lambda f: (_apart(f) == 1) & _is_neighbour(f)),
    ("the exponent is off by one", lambda f: _apart(f) == 1 << f.judge.target.fraction_bits),
    ("one ulp off", lambda f: _apart(f) == 1),
    ("becomes zero", _gives_zero),
    ("another number", lambda f: np.ones(f.codes.shape, np.bool_)),
)


def _gives_largest(f: _Failures) -> np.ndarray:
    target = f.judge.target
    return _magnitude(f.codes, target) == f.codes.dtype.type(target.max_code)


def _expects_inf(f: _Failures) -> np.ndarray:
    return _gives_inf(f._replace(codes=f.expected))


def _same_magnitude(f: _Failures) -> np.ndarray:
    return _magnitude(f.codes ^ f.expected, f.judge.target) == 0


def _is_neighbour(f: _Failures) -> np.ndarray:
    """Return which results are one of the two values next to the input."""
    found = np.zeros(f.codes.shape, np.bool_)
    for rounding in ("toward_zero", "away_from_zero"):
        profile = replace(f.judge.asked, rounding=rounding)
        found |= profile.codes(f.batch, f.judge.target) == f.codes
    return found


def simplest(codes: np.ndarray, source: Format) -> tuple[int, int]:
    """Return the index of the simplest input and its rank.

    Few significant bits come first, then what is near 1, then positive, then the lower code.
    """
    if source.is_integer:
        size = np.abs(Batch(source, codes).wide).astype(np.int64)
        best = _least(size, codes)
        return best, int(size[best])
    kind = codes.dtype.type
    fraction = codes & kind(source.fraction_mask)
    lowest = fraction & (~fraction + kind(1))  # the lowest bit that is set, 0 if none is
    most = lowest.max() if lowest.all() else kind(0)
    candidates = np.flatnonzero(lowest == most)
    chosen = codes[candidates].astype(np.uint64)
    exponent = (chosen >> np.uint64(source.fraction_bits)).astype(np.int64) & source.exponent_mask
    negative = (chosen & np.uint64(source.sign_bit) != 0).astype(np.int64)
    ranks = np.abs(exponent - source.bias) << 1 | negative
    best = _least(ranks, chosen)
    bits = source.fraction_bits + 1 - int(most).bit_length() if most else 0
    return int(candidates[best]), bits << 20 | int(ranks[best])


def _least(ranks: np.ndarray, codes: np.ndarray) -> int:
    """Return the index of the least rank, and of the lowest code among these."""
    tied = np.flatnonzero(ranks == ranks.min())
    return int(tied[np.argmin(codes[tied])])


# --- where two casts differ ---------------------------------------------------------------------


def name_differences(
    judge: Judge, names: tuple[str, str], batch: Batch, a: Outcome, b: Outcome, first: int
) -> dict[str, Group]:
    """Return where two casts differ, grouped by the kind of input and what each gives."""
    where = np.flatnonzero(_differ(judge, a, b))
    if not where.size:
        return {}
    inputs, target = batch[where], judge.target
    kinds = _input_kinds(inputs, target)
    said = [_result_kinds(outcome, where, target) for outcome in (a, b)]
    apart = _ulps(a, b, where, target)
    groups: dict[str, Group] = {}
    labels = np.stack([kinds, *said, apart])
    for label in np.unique(labels, axis=1).T:
        mine = np.flatnonzero((labels == label[:, None]).all(axis=0))
        best, rank = simplest(inputs.codes[mine], judge.source)
        samples = [_pair_sample(batch, a, b, first, int(where[i])) for i in (mine[0], mine[best])]
        name = _difference_name(names, *(int(part) for part in label))
        group = Group(mine.size, samples[0], samples[1], rank)
        _put(groups, name, group)
    return groups


def _differ(judge: Judge, a: Outcome, b: Outcome) -> np.ndarray:
    differ = a.codes != b.codes
    if judge.nan == "any" and differ.any():
        differ &= ~(is_nan(a.codes, judge.target) & is_nan(b.codes, judge.target))
    for one, other in ((a.strays, b.strays), (a.refused, b.refused)):
        if one is not None or other is not None:
            masks = [np.zeros(differ.shape, np.bool_) if m is None else m for m in (one, other)]
            differ = np.where(masks[0] & masks[1], False, differ | (masks[0] != masks[1]))
    return differ


def _pair_sample(batch: Batch, a: Outcome, b: Outcome, first: int, at: int) -> Sample:
    expected = _given(b, at)
    return Sample(first + at, int(batch.codes[at]), expected, _given(a, at))


_INPUT_KINDS = ("a number", "NaN", "Inf", "zero", "beyond the range", "subnormal or tiny")
_RESULT_KINDS = (
    *("a number", "NaN", "Inf", "-Inf", "0", "-0", "the largest value", "the least value"),
    *("an exception", "what the format does not have"),
)
_SAME_KIND = ("one ulp more", "one ulp less", "another number")


def _input_kinds(batch: Batch, target: Format) -> np.ndarray:
    """Return each input's index in `_INPUT_KINDS`."""
    wide = batch.wide
    with np.errstate(invalid="ignore"):
        beyond = (wide > float(target.max_finite)) | (wide < float(target.lowest))
        tiny = np.abs(wide) < float(target.min_normal or target.min_positive)
    conditions = [np.isnan(wide), np.isinf(wide), wide == 0, beyond, tiny]
    return np.select(conditions, range(1, 6), 0)


def _result_kinds(outcome: Outcome, where: np.ndarray, target: Format) -> np.ndarray:
    """Return each result's index in `_RESULT_KINDS`."""
    codes = outcome.codes[where]
    none = np.zeros(codes.shape, np.bool_)
    refused = none if outcome.refused is None else outcome.refused[where]
    strays = none if outcome.strays is None else outcome.strays[where]
    infinity = -1 if target.infinity_code is None else target.infinity_code
    wide = codes.astype(np.int64) if target.bits < 64 else codes.view(np.int64)
    sign = target.sign_bit if target.bits < 64 else -(1 << 63)
    lowest = target.max_code + target.twos_complement | sign
    conditions = [
        *(refused, strays, is_nan(codes, target), wide == infinity),
        (wide == infinity | sign) & (infinity >= 0),
        (wide == 0) & target.zero,
        (wide == sign) & target.has_negative_zero,
        *(wide == target.max_code, (wide == lowest) & target.signed),
    ]
    return np.select(conditions, (8, 9, 1, 2, 3, 4, 5, 6, 7), 0)


def _ulps(a: Outcome, b: Outcome, where: np.ndarray, target: Format) -> np.ndarray:
    """Return each difference's index in `_SAME_KIND`."""
    low, high = (outcome.codes[where].astype(np.uint64) for outcome in (a, b))
    mask, sign = np.uint64(target.magnitude_mask), np.uint64(target.sign_bit)
    apart = (low & mask).astype(np.int64) - (high & mask).astype(np.int64)
    same_sign = (low ^ high) & sign == 0
    flips = (low & sign != 0) & (not target.twos_complement)
    apart = np.where(flips, -apart, apart)
    return np.where(same_sign & (apart == 1), 0, np.where(same_sign & (apart == -1), 1, 2))


def _difference_name(names: tuple[str, str], kind: int, one: int, other: int, apart: int) -> str:
    if one == other:
        return f"{_INPUT_KINDS[kind]}: {names[0]} gives {_SAME_KIND[apart]}"
    gives = f"{names[0]} gives {_RESULT_KINDS[one]}, {names[1]} {_RESULT_KINDS[other]}"
    return f"{_INPUT_KINDS[kind]}: {gives}"
