"""Finding the profile that a cast follows.

Each choice of a profile shows on one kind of input only; so they are found one after the other,
each by what explains most of the results there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..backends import current_backend
from ..formats import Format, format
from .casts import Outcome
from .inputs import Batch
from .judging import Judge
from .profiles import ROUNDINGS, VIA, Pair, Profile

__all__ = ["Fit", "fit"]

SUBNORMALS = ("keep", "flush", "flush_early", "flush_inputs", "twice", "truncate")


class Fit(NamedTuple):
    """The profile that explains most of what a cast does.

    Attributes
    ----------
    profile : Profile
    partial : tuple of Profile
        What explains the results for some inputs of a kind, not for all.
    left : int
        How many results it does not explain.
    """

    profile: Profile
    partial: tuple[Profile, ...]
    left: int


def fit(judge: Judge, batch: Batch, outcome: Outcome) -> Fit:
    """Return the profile nearest to what a cast gave for some inputs.

    Where several explain as much, it is the one nearest to what was asked.
    """
    with current_backend().float_environment():
        return _fit(judge, batch, outcome)


def _fit(judge: Judge, batch: Batch, outcome: Outcome) -> Fit:
    usable = np.ones(batch.codes.size, np.bool_)
    for mask in (outcome.strays, outcome.refused):
        if mask is not None:
            usable &= ~mask
    kinds = {name: mask & usable for name, mask in _kinds(judge, batch).items()}
    profile, partial = judge.asked, []
    numbers = np.flatnonzero(usable & np.isfinite(batch.wide))
    every = _View(judge, batch[numbers], outcome.codes[numbers])
    for kind, candidates in _steps(judge, batch, outcome):
        where = np.flatnonzero(kinds[kind])
        view = _View(judge, batch[where], outcome.codes[where])
        profile, others = view.best(profile, candidates, every)
        partial += others
    everything = _View(judge, batch[usable], outcome.codes[usable])
    profile = everything.best_nan(profile, _nan_choices(judge, batch, outcome, kinds["nan"]))
    left = everything.wrong(profile).size
    return Fit(profile, tuple(dict.fromkeys(partial)), left)


def _kinds(judge: Judge, batch: Batch) -> dict[str, np.ndarray]:
    """Return which inputs are of which kind."""
    wide, target = batch.wide, judge.target
    with np.errstate(invalid="ignore"):
        size = np.abs(wide)
        finite, negative = np.isfinite(wide), wide < 0
        if not target.zero:
            least = 2 * float(target.min_positive)  # the first binade may have a rule of its own
        else:
            least = float(target.min_normal or target.max_finite)
        source_least = float(judge.source.min_normal or 0)
        inside = finite & (wide <= float(target.max_finite))
        inside &= (wide >= float(target.lowest)) | (size < least)
        has_sign = target.signed | ~negative
        return {
            "negative": finite & negative,
            "subnormal input": (size > 0) & (size < source_least),
            "core": inside & (size >= least) & has_sign & (size >= source_least),
            "tiny": inside & (size < least) & (size > 0) & has_sign,
            "big": finite & ~inside,
            "infinite": np.isinf(wide),
            "zero": wide == 0,
            "nan": np.isnan(wide),
        }


def _steps(
    judge: Judge, batch: Batch, outcome: Outcome
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a kind of input, and the choices that show there."""
    target, codes = judge.target, outcome.codes
    kinds = _kinds(judge, batch)
    yield "negative", [{"sign": "drop"}]
    yield "zero", [{"zero": pair} for pair in _seen(batch, codes, kinds["zero"])]
    vias = [None, *(name for name in VIA if _goes_through(judge.source, format(name), target))]
    yield "core", [{"rounding": r, "via": via} for via in vias for r in ROUNDINGS]
    if judge.source.min_normal != target.min_normal:  # else it is what flush_early does
        yield "subnormal input", [{"subnormals": "flush_inputs"}]
    tiny = [{"subnormals": how} for how in SUBNORMALS]
    yield "tiny", tiny if target.zero else [{"least": "up"}]
    words: list[Any] = ["ieee", "saturate", *["nan"] * (target.nan is not None), "wraps"]
    seen = _seen(batch, codes, kinds["big"], last=True)
    beyond = [*words, *seen]
    thresholds = ("rounded", "largest")
    yield "big", [{"overflow": o, "threshold": t} for t in thresholds for o in beyond]
    inf = [None, "saturate", *["nan"] * (target.nan is not None), "ieee"]
    yield "infinite", [{"infinity": i} for i in (*inf, *_seen(batch, codes, kinds["infinite"]))]


def _goes_through(source: Format, via: Format, target: Format) -> bool:
    return via not in (source, target) and source.holds(via) and via.precision >= target.precision


def _seen(batch: Batch, codes: np.ndarray, kind: np.ndarray, last: bool = False) -> Iterator[Pair]:
    """Yield the pair of codes that inputs of a kind have: those of largest magnitude, if `last`."""
    where = np.flatnonzero(kind)
    negative = np.signbit(batch.wide[where])
    pair = []
    for mine in (where[~negative], where[negative]):
        if not mine.size:
            return
        at = mine[np.argmax(np.abs(batch.wide[mine]))] if last else mine[0]
        pair.append(int(codes[at]))
    yield pair[0], pair[1]


def _nan_choices(
    judge: Judge, batch: Batch, outcome: Outcome, nans: np.ndarray
) -> list[dict[str, Any]]:
    target, words = judge.target, ["largest"]
    if target.zero:
        words.insert(0, "zero")
    if target.nan is not None:
        words = ["quiet", "preserve", "canonical", "truncated", "carried", *words]
    seen = _seen(batch, outcome.codes, nans)
    return [{"nan": choice} for choice in (*words, *seen)]


class _View:
    """Some inputs, and what the cast gave for them."""

    def __init__(self, judge: Judge, batch: Batch, codes: np.ndarray) -> None:
        self._judge, self._batch, self._outcome = judge, batch, Outcome(codes)

    def wrong(self, profile: Profile, nan: str | None = None) -> np.ndarray:
        """Return the indices of results that a profile does not explain."""
        judge = self._judge.told(profile, nan)
        return judge.wrong(self._batch.__getitem__, self._outcome, judge.expected(self._batch))

    def best(
        self, profile: Profile, choices: Iterable[dict[str, Any]], every: _View
    ) -> tuple[Profile, list[Profile]]:
        """Return the profile of the choices that explains most; and what explains the rest.

        Of several that explain as much here, the one that does so of `every` number.
        """
        left = self.wrong(profile)
        if not left.size:
            return profile, []
        fewest, tied, others = left.size, [profile], []
        rest = _View(self._judge, self._batch[left], self._outcome.codes[left])
        for choice in choices:
            candidate = replace(profile, **choice)
            # What explains none of the failures cannot be better.
            explained = left.size - rest.wrong(candidate).size
            if not explained:
                continue
            others.append((explained, candidate))
            count = self.wrong(candidate).size
            if count < fewest:
                fewest, tied = count, []
            if count == fewest and tied != [profile]:
                tied.append(candidate)
        wrongs = [every.wrong(candidate).size for candidate in tied] if len(tied) > 1 else [0]
        best = tied[int(np.argmin(wrongs))]
        if not fewest:
            return best, []
        if 10 * fewest > left.size:  # it is something else that just happens to fit at times
            best = profile
        # Right on some inputs of the kind only: what explains nearly all failures has the name.
        most = max((explained for explained, _ in others), default=0)
        names = [c for explained, c in others if explained == most and 10 * most >= 9 * left.size]
        return best, names[:1] if best == profile else []

    def best_nan(self, profile: Profile, choices: Iterable[dict[str, Any]]) -> Profile:
        """Return the profile with the choice for NaN that explains most, every bit if one does."""
        nans = np.flatnonzero(np.isnan(self._batch.wide))
        view = _View(self._judge, self._batch[nans], self._outcome.codes[nans])
        candidates = [replace(profile, **choice) for choice in choices]
        for candidate in (profile, *candidates):
            if not view.wrong(candidate, "canonical").size:
                return candidate
        counts = [view.wrong(candidate).size for candidate in (profile, *candidates)]
        return (profile, *candidates)[int(np.argmin(counts))]
