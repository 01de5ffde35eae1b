"""The auditor's questions: is a cast right, what does it do, where do two differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends import available_backends, current_backend
from ..formats import Format, FormatLike, nearest_names
from ..formats import format as as_format
from ..rounding import Rounding, rounding_mode, rules
from .casts import Cast, CastLike, Outcome, as_cast
from .faults import Sample, Tally, name_differences, name_faults
from .fitting import Fit, fit
from .inputs import RANDOM, Batch, Inputs, Reader, inputs, probes
from .judging import NAN_POLICIES, Judge
from .positions import Positions, check_positions
from .profiles import Profile, any_nan, known_profiles
from .report import Difference, Fault, Identification, Verification
from .resume import Run, swept
from .sweep import CHUNK, Progress

__all__ = ["assert_cast_correct", "diff", "identify", "verify"]


def verify(
    cast: CastLike,
    source: FormatLike = "fp32",
    target: FormatLike = "bf16",
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "any",
    subnormals: str = "keep",
    profile: str | None = None,
    random: int = RANDOM,
    threads: int | None = None,
    budget_s: float | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Prove a cast right over all its inputs, or show where and why it is wrong.

    Parameters
    ----------
    cast : callable or str
        Takes a 1-d NumPy array of the source's values (of NumPy's or ml_dtypes' dtype; codes, where
        neither has one) and returns the target's values, in any floating-point dtype that holds
        them, or its codes, in any integer dtype; NumPy, torch or any array API library. Or the name
        of a witness: "numpy", "ml_dtypes", "torch", "gfloat", "f16c" (the CPU's instruction),
        "floatfmt", "floatfmt:avx2" and its like, which are judged by the NumPy reference.
    source, target : Format, str or dtype
        What it converts.
    rounding, overflow, subnormals
        What is expected, as in ``ff.encode``. With "stochastic", either neighbour is right.
    nan : {"any", "quiet", "exact", "preserve", "canonical", "zero", "largest"}
        What is expected of NaN: "any" NaN; any "quiet" one; or "exact"ly what ``ff.encode`` gives,
        sign and payload included; the others are words of ``ff.encode``. In a target without NaN
        the first three accept whatever becomes of it.
    profile : str, optional
        Instead of these, a known behaviour such as "ocp_saturating"; see ``ff.identify``.
    random : int
        Of a source of more than 32 bits, how many random codes are tried.
    threads : int, optional
        As many as there are CPUs if not given.
    budget_s : float, optional
        Stop after so many seconds; the verdict is then of the inputs up to there, an even choice.
    resume : path, optional
        A file that keeps what was found when a sweep is stopped, and from which it goes on.
    progress : callable, optional
        Called now and then with how many inputs are done, and of how many.

    Returns
    -------
    Verification
        Its `verdict` is "proved", "refuted" or "inconclusive". Of a source of up to 32 bits every
        code is tried. Of a wider one every value and midpoint of the target is, with the source's
        values next to them, which proves a cast that never decreases as its input grows; a target
        of more than 32 bits is sampled, which proves nothing. Ctrl-C ends the sweep like a budget.

    Raises
    ------
    TypeError, ValueError
        An option is unknown; a witness is missing; the cast returned something else than codes or
        values, or raised an exception for every input.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.verify("numpy", "fp16", "fp32").verdict
    'proved'
    >>> ff.verify(lambda x: x.view("u2") >> 8, "fp16", "fp8_e5m2").faults[0].name
    'truncates instead of rounding to nearest'
    """
    asked = _asked(source, target, rounding, overflow, nan, subnormals, profile)
    options = {"rounding": asked.asked.rounding, "overflow": _word(asked.asked.overflow)}
    if isinstance(cast, str) and cast.startswith("floatfmt"):
        asked = replace(asked, backend=_other_backend(cast))
    audit = _Audit(asked, as_cast(cast, asked.source, asked.target, options), random)
    return audit.verification(Run(threads, budget_s, resume, progress))


def _other_backend(witness: str) -> str:
    """Return a backend to judge our own cast by: the reference, and that by the fastest."""
    return available_backends()[-1 if witness == "floatfmt:reference" else 0]


def _word(overflow: Any) -> str:
    return overflow if overflow in ("ieee", "saturate", "nan") else "ieee"


def _asked(
    source: FormatLike,
    target: FormatLike,
    rounding: str | Rounding,
    overflow: str,
    nan: str,
    subnormals: str,
    profile: str | None,
) -> Judge:
    """Return a judge, after the options were checked."""
    from_format, to_format = as_format(source), as_format(target)
    if nan not in NAN_POLICIES:
        near = nearest_names(nan, NAN_POLICIES) if isinstance(nan, str) else ""
        raise ValueError(f"nan={nan!r} is not known; {near}known: {', '.join(NAN_POLICIES)}")
    mode = rounding_mode(rounding)
    given = (mode.value, overflow, subnormals) != ("nearest_even", "ieee", "keep")
    if profile is not None and given:
        raise TypeError("a profile says how to round; rounding, overflow and subnormals go without")
    if profile is not None:
        return Judge(from_format, to_format, _known(profile, from_format, to_format), nan)
    word = NAN_POLICIES[nan]
    if to_format.nan is None and word == "quiet":
        word = any_nan(to_format)
    rules(to_format, mode, overflow, word, subnormals)  # checks them
    asked = Profile(mode.value, overflow=overflow, subnormals=subnormals, nan=NAN_POLICIES[nan])
    return Judge(from_format, to_format, asked, nan)


def _known(name: str, source: Format, target: Format) -> Profile:
    known = known_profiles(source, target)
    if name not in known:
        near = nearest_names(name, known)
        raise ValueError(
            f"no profile of {source} to {target} is called {name!r}; {near}known:"
            f" {', '.join(known)}"
        )
    return known[name]


class _Audit:
    """One cast and its judge: tried on probes, then on everything."""

    def __init__(self, judge: Judge, cast: Cast, random: int) -> None:
        self.judge, self.cast = judge, cast
        self.inputs = inputs(judge.source, judge.target, random)
        self.found: Fit | None = None

    def probe(self) -> tuple[Batch, Outcome]:
        """Cast the probes; raise what the cast raises if it does so for each of them."""
        codes = probes(self.judge.source, self.judge.target)
        parts = [self.cast(part.copy()) for part in _cut(codes)]
        outcome = _joined(parts)
        if outcome.refused is not None and outcome.refused.all():
            error = outcome.error
            raise ValueError(
                f"{self.cast.name} raises {type(error).__name__} for every input: {error}"
            ) from error
        return Batch(self.judge.source, codes), outcome

    def verification(self, run: Run) -> Verification:
        """Return the verdict on everything."""
        with self.cast.context():
            batch, outcome = self.probe()
            expected = self.judge.expected(batch)
            wrong = self.judge.wrong(batch.__getitem__, outcome, expected)
            if wrong.size:
                self.found = fit(self.judge, batch, outcome)
            positions = check_positions(self.cast, self.judge, batch)
            if self.cast.reuses_memory(batch.codes[:8]):
                run = replace(run, threads=1)
            tally, ended = swept(self._make_work, self.inputs, run, self._key(run), self._chunk)
        if wrong.size and not tally.groups and not ended.stopped and not positions.wrong:
            # Right in the sweep's chunks, wrong in the array of probes: the place makes it so.
            positions = _of_probes(positions, batch, expected, outcome, wrong)
        known = []
        if self.found is not None:
            known = _agreeing(self.judge, batch, outcome)
        return Verification(
            cast=self.cast.name,
            source=self.judge.source,
            target=self.judge.target,
            asked=self.judge.asked,
            nan=self.judge.nan,
            checked=tally.count,
            inputs=self.inputs.extent,
            faults=_faults(tally),
            positions=positions,
            profile=None if self.found is None else self.found.profile,
            unlike=tally.unlike,
            known=tuple(known),
            stopped=ended.stopped,
            seconds=ended.seconds,
        )

    def _key(self, run: Run) -> dict[str, Any]:
        """Return what a resumed sweep has to have in common with the one before."""
        judge = self.judge
        return {
            "cast": self.cast.name,
            "source": repr(judge.source),
            "target": repr(judge.target),
            "asked": repr(judge.asked),
            "nan": judge.nan,
            "profile": None if self.found is None else repr(self.found.profile),
            "inputs": self.inputs.size,
        }

    @property
    def _chunk(self) -> int:
        """Inputs of a chunk: fewer where more is made of each, to bound memory."""
        return CHUNK if self.found is None and self.judge.source.bits <= 32 else CHUNK >> 2

    def _make_work(self) -> Callable[[int, int], Tally]:
        reader = self.inputs.reader(self._chunk)
        buffer = np.empty(min(self._chunk, self.inputs.size), self.judge.target.code_dtype)
        return lambda first, count: self._work(reader, buffer[:count], first, count)

    def _work(self, reader: Reader, buffer: np.ndarray, first: int, count: int) -> Tally:
        judge = self.judge
        codes = reader(first, count)
        expected = judge.expected(Batch(judge.source, codes), buffer)
        outcome = self.cast(codes)

        def batch(which: np.ndarray) -> Batch:  # made anew: the cast may have changed its array
            return Batch(judge.source, self.inputs.at(first, which))

        wrong = judge.wrong(batch, outcome, expected)
        with current_backend().float_environment():
            groups = name_faults(judge, self.found, batch(wrong), outcome, expected, wrong, first)
        if self.found is None:
            return Tally(count, groups)
        return Tally(
            count, groups, self._unlike(Batch(judge.source, reader(first, count)), outcome)
        )

    def _unlike(self, batch: Batch, outcome: Outcome) -> int:
        """Return for how many inputs the cast does not follow the profile that was found."""
        assert self.found is not None
        told = self.judge.told(self.found.profile)
        return int(told.wrong(batch.__getitem__, outcome, told.expected(batch)).size)


def _of_probes(
    positions: Positions, batch: Batch, expected: np.ndarray, outcome: Outcome, wrong: np.ndarray
) -> Positions:
    """Return what went wrong in the array of probes only."""
    at, size = int(wrong[0]), batch.codes.size
    sample = Sample(at, int(batch.codes[at]), int(expected[at]), int(outcome.codes[at]))
    return Positions(positions.tried + size, wrong.size, "in a longer array", sample, size)


def _cut(codes: np.ndarray) -> list[np.ndarray]:
    return [codes[start : start + CHUNK] for start in range(0, codes.size, CHUNK)]


def _joined(parts: list[Outcome]) -> Outcome:
    """Return the outcomes of chunks as one."""
    if len(parts) == 1:
        return parts[0]

    def mask(name: str) -> np.ndarray | None:
        masks = [getattr(part, name) for part in parts]
        if all(m is None for m in masks):
            return None
        sizes = [part.codes.size for part in parts]
        return np.concatenate(
            [np.zeros(n, np.bool_) if m is None else m for m, n in zip(masks, sizes, strict=True)]
        )

    errors = [part.error for part in parts if part.error is not None]
    codes = np.concatenate([part.codes for part in parts])
    return Outcome(codes, mask("strays"), None, mask("refused"), errors[0] if errors else None)


def _agreeing(judge: Judge, batch: Batch, outcome: Outcome) -> list[str]:
    """Return the known profiles that a cast agrees with on the probes."""
    agreeing = []
    for name, profile in known_profiles(judge.source, judge.target).items():
        told = judge.told(profile, "any")
        if not told.wrong(batch.__getitem__, outcome, told.expected(batch)).size:
            agreeing.append(name)
    return agreeing


def _faults(tally: Tally) -> tuple[Fault, ...]:
    """Return the groups of failures, largest first."""
    faults = [Fault(name, g.count, g.first, g.simplest) for name, g in tally.groups.items()]
    return tuple(sorted(faults, key=lambda fault: (-fault.count, fault.name)))


# --- the other questions ------------------------------------------------------------------------


def identify(
    cast: CastLike,
    source: FormatLike = "fp32",
    target: FormatLike = "bf16",
    *,
    random: int = RANDOM,
    threads: int | None = None,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> Identification:
    """Find out what a cast does: which rounding, which overflow, what of NaN, through what.

    Parameters
    ----------
    cast, source, target, random, threads, budget_s, progress
        As in ``ff.verify``.

    Returns
    -------
    Identification
        The profile that explains most of what the cast gives, on how many inputs it does, and the
        names of the known behaviours that agree with the cast.

    Examples
    --------
    >>> import floatfmt as ff
    >>> found = ff.identify(lambda x: x.view("u2") >> 8, "fp16", "fp8_e5m2")
    >>> found.profile.rounding, found.is_exact
    ('toward_zero', True)
    """
    judge = _asked(source, target, "nearest_even", "ieee", "any", "keep", None)
    options = {"rounding": "nearest_even", "overflow": "ieee"}
    audit = _Audit(judge, as_cast(cast, judge.source, judge.target, options), random)
    with audit.cast.context():
        batch, outcome = audit.probe()
        profile = fit(judge, batch, outcome).profile
        known = _agreeing(judge, batch, outcome)
    told = _Audit(judge.told(profile), audit.cast, random)
    return Identification(
        profile, tuple(known), told.verification(Run(threads, budget_s, None, progress))
    )


def diff(
    a: CastLike,
    b: CastLike,
    source: FormatLike = "fp32",
    target: FormatLike = "bf16",
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "any",
    random: int = RANDOM,
    threads: int | None = None,
    budget_s: float | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Sweep two casts against each other.

    Parameters
    ----------
    a, b : callable or str
        Casts, as in ``ff.verify``.
    rounding, overflow
        What witnesses that can round in several ways are asked for.
    nan : {"any", "exact"}
        Whether two NaNs are alike, or only the same one.
    source, target, random, threads, budget_s, resume, progress
        As in ``ff.verify``.

    Returns
    -------
    Difference

    Examples
    --------
    >>> import floatfmt as ff
    >>> found = ff.diff("ml_dtypes", "floatfmt", "fp16", "fp8_e8m0fnu")
    >>> found.differ, found.faults[0].name
    (20, 'a number: ml_dtypes gives one ulp more')
    """
    if nan not in ("any", "exact"):
        raise ValueError(f"nan={nan!r} is not known; known: any, exact")
    judge = _asked(source, target, rounding, overflow, nan, "keep", None)
    options = {"rounding": judge.asked.rounding, "overflow": overflow}
    casts = [as_cast(cast, judge.source, judge.target, options) for cast in (a, b)]
    names = [cast.name for cast in casts]
    if names[0] == names[1]:
        names = ["a", "b"]
    pair = _Pair(judge, casts[0], casts[1], (names[0], names[1]), random)
    return pair.difference(Run(threads, budget_s, resume, progress))


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two casts, swept against each other."""

    judge: Judge
    a: Cast
    b: Cast
    names: tuple[str, str]
    random: int

    def difference(self, run: Run) -> Difference:
        over = inputs(self.judge.source, self.judge.target, self.random)
        key = {
            "casts": list(self.names),
            "source": repr(self.judge.source),
            "target": repr(self.judge.target),
            "nan": self.judge.nan,
            "inputs": over.size,
        }
        with self.a.context(), self.b.context():
            make = _PairWork(self, over)
            few = probes(self.judge.source, self.judge.target)[:8]
            if self.a.reuses_memory(few) or self.b.reuses_memory(few):
                run = replace(run, threads=1)
            tally, ended = swept(make.new, over, run, key, CHUNK >> 2)
        return Difference(
            casts=self.names,
            source=self.judge.source,
            target=self.judge.target,
            nan=self.judge.nan,
            checked=tally.count,
            inputs=over.extent,
            faults=_faults(tally),
            stopped=ended.stopped,
            seconds=ended.seconds,
        )


@dataclass(frozen=True, eq=False)
class _PairWork:
    pair: _Pair
    over: Inputs

    def new(self) -> Callable[[int, int], Tally]:
        reader = self.over.reader(CHUNK >> 2)
        return lambda first, count: self._work(reader, first, count)

    def _work(self, reader: Reader, first: int, count: int) -> Tally:
        pair, judge = self.pair, self.pair.judge
        one, other = (cast(reader(first, count).copy()) for cast in (pair.a, pair.b))
        batch = Batch(judge.source, reader(first, count))
        with current_backend().float_environment():
            groups = name_differences(judge, pair.names, batch, one, other, first)
        return Tally(count, groups)


def assert_cast_correct(cast: CastLike, *formats: FormatLike, **options: Any) -> None:
    """Raise an AssertionError with the report unless ``ff.verify`` finds nothing wrong.

    Parameters
    ----------
    cast, formats, options
        As in ``ff.verify``. A sweep that its budget ended passes if nothing was wrong until then,
        and so does a sampled one.

    Raises
    ------
    AssertionError
        The verdict is "refuted"; its message is the report.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.assert_cast_correct("numpy", "fp16", "fp32")
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    found = verify(cast, *formats, **options)
    if found.verdict == "refuted":
        raise AssertionError(f"\n{found}")
