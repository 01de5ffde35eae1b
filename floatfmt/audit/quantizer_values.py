"""A quantiser with a given scale, over values: it is a function of one value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..backends import current_backend
from ..convention import Parameters, Plan, find, fp32_array
from ..formats import format
from ..quantization import quantize
from .inputs import Inputs, Part
from .inputs import inputs as inputs_of
from .positions import LENGTHS
from .quantizer_answers import Quantizer, ask
from .quantizer_results import QuantizerExample, QuantizerFault, complexity, example_of, verdict
from .quantizer_rules import ALL, Hypothesis, explanations, told
from .quantizer_tensors import half_steps
from .resume import Run
from .sweep import CHUNK, Sweep, sweep

__all__ = ["Given", "verify_values"]

F32, FP32 = np.dtype(np.float32), format("fp32")
#: Inputs kept of each kind, and of those that are right, on which explanations are tried first.
SAMPLE = 500

KINDS = ("NaN", "Inf", "beyond the codes", "ties", "near ties", "other values")
#: A quotient so near to a half, relatively, is a near tie.
NEAR = 2.0**-20


class Given:
    """A quantiser, a convention, a scale and a zero point: all of one value."""

    def __init__(
        self,
        fn: Quantizer,
        asked: Plan,
        parameters: Parameters,
        scale: float,
        zero_point: int | None,
    ) -> None:
        self.fn, self.plan, self.parameters = fn, asked, parameters
        self.scale, self.zero_point = scale, zero_point
        # The row is floatfmt's own, whose codes come faster from C.
        self.is_ours = asked.row == find("floatfmt")

    def askable(self, x: np.ndarray) -> np.ndarray:
        """Return the values that the convention takes."""
        if self.plan.row.nan != "refused":
            return x
        finite = (x.view(np.uint32) & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
        return x[finite]

    def codes(self, x: np.ndarray) -> np.ndarray:
        return ask(self.fn, x, self.plan).codes

    def expected(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the convention's codes, and where it has them: True for everywhere."""
        if self.is_ours:
            scale, zero_point = self.parameters.scale.item(), int(self.parameters.zero_point.item())
            return quantize(x, scale=scale, zero_point=zero_point).codes, True
        return self.codes_by(self.plan, self.parameters, x)

    def codes_by(self, plan: Plan, parameters: Parameters, x: np.ndarray) -> tuple[Any, Any]:
        with current_backend().float_environment():
            steps, defined = plan.steps(x.reshape(1, -1), parameters)
        return steps["code"][0], defined[0]

    def kinds(self, x: np.ndarray) -> np.ndarray:
        """Return each value's kind, an index into KINDS."""
        lowest, highest = self.plan.codes
        with current_backend().float_environment():
            quotient = x.astype(np.float64) / self.plan.step(self.parameters).item()
            whole = np.rint(quotient)
            distance = np.abs(np.abs(quotient - whole) - 0.5)
            code = whole + self.parameters.zero_point.item()
            choices = (
                np.isnan(x),
                np.isinf(x),
                (code < lowest) | (code > highest),
                distance == 0,
                distance < NEAR * np.maximum(np.abs(quotient), 1),
            )
        return np.select(choices, range(len(choices)), len(choices)).astype(np.uint8)

    def example(self, x: float, expected: int, got: int, **place: Any) -> QuantizerExample:
        value = np.array([[x]], F32)
        with current_backend().float_environment():
            steps, _ = self.plan.steps(value, self.parameters)
        return example_of(steps, (0, 0), expected, got, **place)


class _Tally(NamedTuple):
    """What is kept of the failing values of a kind."""

    failing: int
    #: Order of visits, and how simple it is; value, expected and given code.
    first: tuple[int, Any, int, int]
    simplest: tuple[int, Any, int, int]
    sample: np.ndarray
    answers: np.ndarray

    def plus(self, other: _Tally) -> _Tally:
        return _Tally(
            self.failing + other.failing,
            min(self.first, other.first, key=lambda e: e[0]),
            min(self.simplest, other.simplest, key=lambda e: e[0]),
            np.concatenate([self.sample, other.sample])[:SAMPLE],
            np.concatenate([self.answers, other.answers])[:SAMPLE],
        )


class _Found:
    """What a sweep has found so far."""

    def __init__(self) -> None:
        self.judged = self.unjudged = 0
        self.tallies: dict[str, _Tally] = {}
        self.right = np.zeros(0, F32)
        self.right_codes: np.ndarray | None = None

    def merge(self, done: int, part: tuple[int, int, dict[str, _Tally], Any]) -> None:
        judged, unjudged, tallies, right = part
        self.judged += judged
        self.unjudged += unjudged
        for kind, tally in tallies.items():
            before = self.tallies.get(kind)
            self.tallies[kind] = before.plus(tally) if before else tally
        if right is not None and self.right_codes is None:
            self.right, self.right_codes = right


def verify_values(given: Given, wanted: Any, run: Run) -> dict[str, Any]:
    """Sweep over values, and name what goes wrong."""
    tried = _value_inputs(wanted)
    misplaced = _misplaced(given, tried, wanted is None)
    found = _Found()
    done = _sweep(tried, lambda: _ValueWork(given, tried).do, found.merge, run)
    named: dict[str, list[Hypothesis]] = {}
    confirmed = 0
    if found.tallies and done.stopped != "interrupted":
        named, confirmed = _named_values(given, tried, found, done.done, run)
    faults = _value_faults(given, found, named, confirmed) + misplaced
    is_all = confirmed >= done.done  # the second run may have been stopped before the first
    exactly = [h.name for h in named.get(ALL, ()) if not h.changes and is_all]
    return {
        "verdict": verdict(bool(faults), done.stopped, wanted is None),
        "judged": found.judged,
        "failing": sum(tally.failing for tally in found.tallies.values()),
        "unjudged": found.unjudged,
        "tensors": 0,
        "failing_tensors": 0,
        "faults": tuple(faults),
        "exactly": tuple(exactly),
        "stopped": done.stopped,
    }


def _value_inputs(wanted: Any) -> Inputs:
    if wanted is None:
        return inputs_of(FP32, format("int8"))
    codes = fp32_array(wanted).reshape(-1).view(np.uint32)
    parts = (Part(codes.size, codes.__getitem__),) if codes.size else ()
    if not parts:
        raise ValueError("inputs= has no values")
    return Inputs(FP32, format("int8"), parts, False)


def _sweep(tried: Inputs, make_work: Any, merge: Any, run: Run, size: int | None = None) -> Sweep:
    return sweep(
        make_work,
        merge,
        tried.size if size is None else size,
        threads=run.threads,
        budget_s=run.budget_s,
        progress=run.progress,
    )


class _ValueWork:
    """Compares a chunk of values; one a thread."""

    def __init__(self, given: Given, tried: Inputs) -> None:
        self._given, self._read = given, tried.reader(CHUNK)

    def do(self, first: int, count: int) -> tuple[int, int, dict[str, _Tally], Any]:
        x = self._given.askable(self._read(first, count).view(F32))
        if not x.size:
            return 0, count, {}, None
        expected, defined = self._given.expected(x)
        got = self._given.codes(x)
        wrong = (got != expected) & defined
        judged = x.size if defined is True else int(np.count_nonzero(defined))
        where = np.flatnonzero(wrong)
        if not where.size:
            return judged, count - judged, {}, None
        right = np.flatnonzero(~wrong & defined)[: 4 * SAMPLE]
        tallies = self._tallies(first, where, x[where], expected[where], got[where])
        return judged, count - judged, tallies, (x[right], got[right])

    def _tallies(
        self, first: int, where: np.ndarray, x: np.ndarray, expected: np.ndarray, got: np.ndarray
    ) -> dict[str, _Tally]:
        kinds, length = self._given.kinds(x), complexity(x.view(np.uint32))
        found = {}
        for kind in np.unique(kinds):
            of = np.flatnonzero(kinds == kind)
            least = of[np.argmin(length[of])]

            def entry(key: int, i: int) -> tuple[int, Any, int, int]:
                return key, x[i], int(expected[i]), int(got[i])

            found[KINDS[kind]] = _Tally(
                of.size,
                entry(first + int(where[of[0]]), of[0]),
                entry(int(length[least]), least),
                x[of[:SAMPLE]],
                got[of[:SAMPLE]],
            )
        return found


def _misplaced(given: Given, tried: Inputs, is_everything: bool) -> list[QuantizerFault]:
    """Return what goes wrong in short arrays only: a vector's tail with a rule of its own."""
    x = tried.reader(8192)(0, min(8192, tried.size)).view(F32).copy()
    if is_everything:
        x = np.concatenate([half_steps(given.plan, given.parameters), x])
    x = given.askable(x)
    if not x.size:
        return []
    expected, defined = given.expected(x)
    alike, count, first = given.codes(x), 0, None
    defined = np.broadcast_to(defined, x.shape)
    for n in LENGTHS:
        start = n * 97 % max(x.size - 2 * n, 1)
        part = slice(start, min(start + n, x.size))
        got = given.codes(x[part])
        wrong = np.flatnonzero((got != alike[part]) & defined[part])
        count += wrong.size
        if wrong.size and first is None:
            i = int(wrong[0])
            values = (x[part][i], expected[part][i], got[i])
            first = given.example(*values, tensor=f"{n} values", index=(i,))
    if first is None:
        return []
    name = "gives a value another code in a short array than in a long one"
    return [QuantizerFault((name,), {"short arrays": count}, count, count, first, first)]


def _named_values(
    given: Given, tried: Inputs, found: _Found, size: int, run: Run
) -> tuple[dict[str, list[Hypothesis]], int]:
    """Return what explains all failing values or those of a kind, and on how many it was confirmed.

    What explains a sample is confirmed in a second run: what explains everything, and only where
    nothing does what explains a kind.
    """
    likely = _likely(given, found)
    everything = {ALL: likely.pop(ALL, [])}
    for targets in (everything, likely):
        if any(targets.values()):
            named, confirmed = _confirmed(given, tried, targets, size, run)
            if named:
                return named, confirmed
    return {}, 0


def _confirmed(
    given: Given, tried: Inputs, likely: dict[str, list[Hypothesis]], size: int, run: Run
) -> tuple[dict[str, list[Hypothesis]], int]:
    """Return the explanations that hold for all values, and how many these were."""
    live = {
        (target, h): h.plan.given(given.scale, given.zero_point)
        for target, hypotheses in likely.items()
        for h in hypotheses
    }

    def make_work() -> Any:
        read = tried.reader(CHUNK)

        def work(first: int, count: int) -> list[tuple[str, Hypothesis]]:
            x = given.askable(read(first, count).view(F32)) if live else np.zeros(0, F32)
            if not x.size:
                return []
            got, dead = given.codes(x), []
            judged = np.broadcast_to(given.expected(x)[1], x.shape)
            kinds = None if ALL in likely else given.kinds(x)
            for (target, h), parameters in list(live.items()):
                codes, defined = given.codes_by(h.plan, parameters, x)
                wrong = (codes != got) | ~np.broadcast_to(defined, codes.shape)
                wrong &= judged
                if target != ALL:
                    wrong &= kinds == KINDS.index(target)
                if wrong.any():
                    dead.append((target, h))
            return dead

        return work

    def merge(_: int, dead: list[tuple[str, Hypothesis]]) -> None:
        for key in dead:
            live.pop(key, None)

    done = _sweep(tried, make_work, merge, run, size)
    named: dict[str, list[Hypothesis]] = {}
    for target, h in live:
        named.setdefault(target, []).append(h)
    return named, done.done


def _likely(given: Given, found: _Found) -> dict[str, list[Hypothesis]]:
    """Return what explains the samples of all failing values, and of each kind."""
    right_codes = found.right_codes if found.right_codes is not None else np.zeros(0, np.int8)
    x = np.concatenate([*(t.sample for t in found.tallies.values()), found.right])
    got = np.concatenate([*(t.answers for t in found.tallies.values()), right_codes])
    kinds = given.kinds(x)
    of = {ALL: np.ones(x.size, bool)}
    if len(found.tallies) > 1 or found.right.size:
        of |= {kind: kinds == KINDS.index(kind) for kind in found.tallies}

    # What has no code where the convention has one explains nothing.
    judged = np.broadcast_to(given.expected(x)[1], x.shape)

    def agreeing(h: Hypothesis, targets: Iterable[str]) -> list[str]:
        codes, defined = given.codes_by(h.plan, h.plan.given(given.scale, given.zero_point), x)
        wrong = ((codes != got) | ~np.broadcast_to(defined, codes.shape)) & judged
        return [target for target in targets if not (wrong & of[target]).any()]

    return explanations(given.plan, list(of), agreeing, most_of_a_kind=2)


def _value_faults(
    given: Given, found: _Found, named: dict[str, list[Hypothesis]], confirmed: int
) -> list[QuantizerFault]:
    """Return one fault if everything has one explanation, else one a kind of values."""
    tallies = dict(sorted(found.tallies.items(), key=lambda item: -item[1].failing))
    groups = [list(tallies)] if ALL in named and tallies else [[kind] for kind in tallies]
    faults = []
    for kinds in groups:
        target = ALL if ALL in named else kinds[0]
        names = told(named.get(target, ()))
        first = min((tallies[k].first for k in kinds), key=lambda e: e[0])
        simplest = min((tallies[k].simplest for k in kinds), key=lambda e: e[0])
        counts = {kind: tallies[kind].failing for kind in kinds}
        faults.append(
            QuantizerFault(
                names,
                counts,
                sum(counts.values()),
                confirmed if names else 0,
                given.example(*first[1:]),
                given.example(*simplest[1:]),
            )
        )
    return faults
