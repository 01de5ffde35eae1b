"""A quantiser of whole tensors: tensor by tensor."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import interop
from ..backends import current_backend
from ..convention import Parameters, Plan, fp32_array
from .quantizer_answers import Answer, Quantizer, ask
from .quantizer_results import QuantizerExample, QuantizerFault, complexity, example_of, verdict
from .quantizer_rules import ALL, Hypothesis, explanations, told
from .quantizer_tensors import Tensor, adversarial_tensors
from .sweep import Progress

__all__ = ["verify_tensors"]

F32 = np.dtype(np.float32)


class _Trial(NamedTuple):
    """A tensor, what a quantiser made of it, and what the convention makes of it."""

    tensor: Tensor
    answer: Answer | Exception
    expected: np.ndarray
    defined: np.ndarray
    wrong: np.ndarray
    detail: str

    @property
    def fails(self) -> bool:
        return bool(self.detail) or bool(self.wrong.any())


class _Made(NamedTuple):
    """What a plan makes of a tensor."""

    codes: np.ndarray
    defined: np.ndarray
    parameters: Parameters


def _made(asked: Plan, values: np.ndarray) -> _Made:
    with current_backend().float_environment():
        groups = asked.groups(values)
        parameters = asked.parameters(groups, values.size)
        steps, defined = asked.steps(groups, parameters)
    shape = values.shape
    return _Made(asked.ungroup(steps["code"], shape), asked.ungroup(defined, shape), parameters)


def _other_parameters(answer: Answer, made: _Made) -> str:
    """Return in words where a scale or zero point differs from a plan's; "" if they agree."""
    for name, got, expected in (
        ("scale", answer.scale, made.parameters.scale),
        ("zero point", answer.zero_point, made.parameters.zero_point),
    ):
        if got is None or not made.defined.all():
            continue
        flat, wanted = got.reshape(-1), expected.reshape(-1)
        if flat.size not in (1, wanted.size):
            return f"{flat.size:,} {name}s, where there should be {wanted.size:,}"
        with current_backend().float_environment():
            a, b = np.broadcast_arrays(flat.astype(F32) if name == "scale" else flat, wanted)
            wrong = np.flatnonzero((a != b) & ~((a != a) & (b != b)))
            if wrong.size:
                return f"{name} {a[wrong[0]]:.9g}, where it should be {b[wrong[0]]:.9g}"
    return ""


def verify_tensors(
    fn: Quantizer,
    asked: Plan,
    wanted: Any,
    budget_s: float | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Try tensors one by one, and name what goes wrong."""
    tensors = _tensors(asked, wanted)
    deadline = None if budget_s is None else time.monotonic() + budget_s
    trials, stopped = [], ""
    try:
        for tensor in tensors:
            if deadline is not None and time.monotonic() >= deadline:
                stopped = "budget"
                break
            trials.append(_trial(fn, asked, tensor))
            if progress:
                progress(len(trials), len(tensors))
    except KeyboardInterrupt:
        stopped = "interrupted"
    if trials and all(isinstance(t.answer, Exception) for t in trials):
        raise trials[0].answer  # type: ignore[misc]
    faults, exactly = _tensor_faults(asked, trials)
    judged = sum(int(t.defined.sum()) for t in trials)
    return {
        "verdict": verdict(bool(faults), stopped, False),
        "judged": judged,
        "failing": sum(int(t.wrong.sum()) for t in trials),
        "unjudged": sum(t.defined.size for t in trials) - judged,
        "tensors": len(trials),
        "failing_tensors": sum(t.fails for t in trials),
        "faults": faults,
        "exactly": exactly,
        "stopped": stopped,
    }


def _tensors(asked: Plan, wanted: Any) -> list[Tensor]:
    if wanted is None:
        with current_backend().float_environment():
            return list(adversarial_tensors(asked))
    if not isinstance(wanted, (list, tuple)):
        raise TypeError(
            f"without a scale, inputs= is a list of tensors, got {interop.describe(wanted)}"
        )
    return [Tensor("inputs", f"inputs[{i}]", fp32_array(x)) for i, x in enumerate(wanted)]


def _trial(fn: Quantizer, asked: Plan, tensor: Tensor) -> _Trial:
    made = _made(asked, tensor.values)
    nothing = np.zeros(tensor.values.shape, bool)
    try:
        answer = ask(fn, tensor.values, asked)
    except Exception as exc:
        detail = "" if _may_raise(asked, made) else f"raises {type(exc).__name__}: {exc}"
        return _Trial(tensor, exc, made.codes, made.defined, nothing, detail)
    wrong = (answer.codes != made.codes) & made.defined
    return _Trial(tensor, answer, made.codes, made.defined, wrong, _other_parameters(answer, made))


def _may_raise(asked: Plan, made: _Made) -> bool:
    """Return whether a convention has no code for a tensor, so that an error is as good as any."""
    return not made.defined.any() if made.codes.size else not asked.row.takes_empty


def _tensor_faults(
    asked: Plan, trials: list[_Trial]
) -> tuple[tuple[QuantizerFault, ...], tuple[str, ...]]:
    """Return what goes wrong, and which conventions explain everything."""
    failing = [t for t in trials if t.fails]
    if not failing:
        return (), ()
    kinds = list(dict.fromkeys(t.tensor.kind for t in failing))
    # small failing tensors first: most explanations fall at one of them
    order = sorted(trials, key=lambda t: (not t.fails, t.tensor.values.size))
    of = {kind: [t for t in order if t.tensor.kind == kind] for kind in kinds} | {ALL: order}

    def agreeing(h: Hypothesis, targets: Iterable[str]) -> list[str]:
        return [target for target in targets if all(_explains(h.plan, t) for t in of[target])]

    named = explanations(asked, [ALL, *kinds], agreeing, most_of_a_kind=1)
    groups = [kinds] if ALL in named else [[kind] for kind in kinds]
    faults = []
    for group in groups:
        target = ALL if ALL in named else group[0]
        names = told(named.get(target, ()))
        part = [t for t in failing if t.tensor.kind in group]
        faults.append(_tensor_fault(asked, part, names, len(of[target])))
    exactly = tuple(h.name for h in named.get(ALL, ()) if not h.changes)
    return tuple(sorted(faults, key=lambda fault: -fault.count)), exactly


def _explains(plan: Plan, trial: _Trial) -> bool:
    """Return whether a plan gives exactly a quantiser's answer, where it gives any."""
    made = _made(plan, trial.tensor.values)
    if isinstance(trial.answer, Exception):
        return not trial.detail or _may_raise(plan, made)
    wrong = (made.codes != trial.answer.codes) & made.defined
    return not wrong.any() and not _other_parameters(trial.answer, made)


def _tensor_fault(
    asked: Plan, failing: list[_Trial], names: tuple[str, ...], confirmed: int
) -> QuantizerFault:
    with_codes = [t for t in failing if t.wrong.any()]
    small = min(with_codes, key=lambda t: t.tensor.values.size, default=None)
    kinds: dict[str, int] = {}
    for t in failing:
        kinds[t.tensor.kind] = kinds.get(t.tensor.kind, 0) + 1
    worst = next((t for t in failing if t.detail), None)
    return QuantizerFault(
        names,
        kinds,
        len(failing),
        confirmed if names else 0,
        _tensor_example(asked, with_codes[0]) if with_codes else None,
        _tensor_example(asked, small) if small else None,
        f"{worst.tensor.name}: {worst.detail}" if worst else "",
    )


def _tensor_example(asked: Plan, trial: _Trial) -> QuantizerExample:
    """Return the simplest failing value of a tensor."""
    assert isinstance(trial.answer, Answer)
    values, where = trial.tensor.values, np.argwhere(trial.wrong)
    bits = values[trial.wrong].view(np.uint32)
    index = tuple(int(i) for i in where[np.argmin(complexity(bits))])
    with current_backend().float_environment():
        groups = asked.groups(values)
        steps, _ = asked.steps(groups, asked.parameters(groups, values.size))
    flat = int(np.ravel_multi_index(index, values.shape)) if index else 0
    at = tuple(int(i) for i in np.unravel_index(flat, groups.shape))
    return example_of(
        steps,
        at,
        trial.expected[index],
        trial.answer.codes[index],
        tensor=trial.tensor.name,
        index=index,
    )
