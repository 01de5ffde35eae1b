"""What else a quantiser may do: other conventions, and changes of a rule or a few of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeAlias

from ..convention import Plan, Scheme, conventions, given_scheme

__all__ = ["ALL", "Hypothesis", "explanations", "told", "variants"]

#: The target that is everything.
ALL = "all"
#: So many explanations of a fault are kept.
MOST_KEPT = 2
#: More changes at once are no explanation.
MOST_CHANGES = 3

#: What a change is called, and the fields of a row or its scheme that it sets.
Change: TypeAlias = tuple[str, dict[str, Any]]

_DIVIDES = {"multiplier": "", "fused": False}
#: Of each part of a row, what it may be instead.
_CHANGES: tuple[tuple[Change, ...], ...] = (
    (
        ("divides in fp32", _DIVIDES | {"precision": "fp32"}),
        ("divides in fp64", _DIVIDES | {"precision": "fp64"}),
        (
            "multiplies by the reciprocal instead of dividing",
            {"multiplier": "1 / scale", "precision": "fp32"},
        ),
        (
            "multiplies by the reciprocal, in fp64",
            {"multiplier": "1 / scale", "precision": "fp64"},
        ),
        (
            "multiplies by the levels over the spread",
            {"multiplier": "levels / spread", "precision": "fp32"},
        ),
        (
            "multiplies by the spread's reciprocal times the levels",
            {"multiplier": "1 / spread * levels", "precision": "fp32"},
        ),
    ),
    (
        ("rounds ties to even", {"rounding": "half even"}),
        ("rounds ties away from zero", {"rounding": "half away"}),
        ("rounds ties up", {"rounding": "half up"}),
        ("adds 0.5 and truncates", {"rounding": "add half, truncate"}),
        ("truncates", {"rounding": "toward zero"}),
        ("rounds down", {"rounding": "down"}),
        ("rounds up", {"rounding": "up"}),
    ),
    (
        (
            "adds the zero point after rounding",
            {"adds_zero_point": "after rounding", "fused": False},
        ),
        (
            "adds the zero point before rounding",
            {"adds_zero_point": "before rounding", "fused": False},
        ),
        (
            "adds the zero point before rounding, in a fused operation",
            {"adds_zero_point": "before rounding", "fused": True},
        ),
        ("leaves the zero point out", {"adds_zero_point": "never", "fused": False}),
    ),
    (
        ("clamps", {"clamp": "last"}),
        ("wraps instead of clamping", {"clamp": "wraps"}),
        ("wraps integers instead of clamping", {"clamp": "integer wraps"}),
        ("clamps before it adds the zero point", {"clamp": "before the zero point"}),
    ),
    (
        ("uses -128", {"lowest": None}),
        ("never uses -128", {"lowest": -127}),
    ),
    (
        ("gives NaN the lowest code", {"nan": "lowest"}),
        ("gives NaN the highest code", {"nan": "highest"}),
    ),
    (
        ("rounds a subnormal scale to nearest", {"scale": "spread / levels"}),
        ("rounds a subnormal scale up", {"scale": "spread / levels, never 0"}),
    ),
    (
        ("counts 0 into the range", {"spread": "range with 0"}),
        ("does not count 0 into the range", {"spread": "range"}),
    ),
    (
        ("takes 128 levels", {"levels": 128}),
        ("takes 254 levels", {"levels": 254}),
        ("takes 256 levels", {"levels": 256}),
    ),
    (
        ("gives a constant the scale 1", {"constant": "scale is 1"}),
        ("gives a constant the spread 1", {"constant": "spread is 1"}),
        ("has no rule for a constant", {"constant": ""}),
    ),
)
_OF_SCHEME = {field.name for field in fields(Scheme)} - {"name"}
#: Rules that play no part where a scale is given.
_FOR_SCALES = {"scale", "spread", "levels", "constant"}


class Hypothesis(NamedTuple):
    """What a quantiser may do, in words, and the plan that does it."""

    name: str
    changes: int
    plan: Plan


def other_conventions(asked: Plan) -> list[Hypothesis]:
    """Return what other conventions do with a scale, or a scheme, of the same name."""
    found = []
    for row in conventions():
        schemes = {s.name: s for s in (given_scheme(row), *row.schemes)}
        scheme = schemes.get(asked.scheme.name)
        fits = row.takes_scale or asked.scheme.name != "given"
        if row.name != asked.row.name and scheme and fits and asked.dtype in row.dtypes:
            found.append(Hypothesis(row.name, 0, Plan(row, scheme, asked.dtype)))
    return found


def variants(asked: Plan) -> Iterator[Hypothesis]:
    """Yield what a plan does with one of its rules changed, with two, with three.

    The changes are of integers; there are none for codes of a codebook.
    """
    if asked.row.codebook:
        return
    given = asked.scheme.name == "given"
    parts = []
    for part in _CHANGES:
        fit = [change for change in part if _plays_a_part(change[1], asked, given)]
        if fit:
            parts.append(fit)
    for count in range(1, MOST_CHANGES + 1):
        for chosen in itertools.combinations(parts, count):
            for changes in itertools.product(*chosen):
                yield Hypothesis(
                    "; ".join(name for name, _ in changes), count, _with(asked, changes)
                )


def _plays_a_part(change: dict[str, Any], asked: Plan, given: bool) -> bool:
    if given and (_FOR_SCALES & set(change) or "spread" in change.get("multiplier", "")):
        return False
    if "range" in change.get("spread", "") and asked.scheme.name == "absmax":
        return False
    if "lowest" in change and asked.dtype != "int8":
        return False
    if "nan" in change and asked.row.nan == "refused":
        return False
    return _with(asked, [("", change)]) != asked


def _with(asked: Plan, changes: Any) -> Plan:
    row, scheme = asked.row, asked.scheme
    for _, change in changes:
        for name, value in change.items():
            if name in _OF_SCHEME:
                scheme = replace(scheme, **{name: value})
            else:
                row = replace(row, **{name: value})
    return Plan(row, scheme, asked.dtype)


def explanations(
    asked: Plan,
    targets: Sequence[str],
    agreeing: Callable[[Hypothesis, Iterable[str]], list[str]],
    most_of_a_kind: int,
) -> dict[str, list[Hypothesis]]:
    """Return for each target what explains it: conventions, and the fewest changes of rules.

    More changes than `most_of_a_kind` are tried only for everything, where much has to agree.
    """
    found: dict[str, list[Hypothesis]] = {}
    for h in other_conventions(asked):
        if ALL in agreeing(h, [ALL]):
            found.setdefault(ALL, []).append(h)
    for count, hypotheses in itertools.groupby(variants(asked), lambda h: h.changes):
        open_ = [t for t in targets if not any(h.changes for h in found.get(t, ()))]
        open_ = [t for t in open_ if t == ALL or count <= most_of_a_kind]
        if not open_ or any(h.changes for h in found.get(ALL, ())):
            break
        for h in hypotheses:
            for target in agreeing(h, open_):
                known = found.setdefault(target, [])
                if sum(k.changes == count for k in known) < MOST_KEPT:
                    known.append(h)
    return found


def told(hypotheses: Iterable[Hypothesis]) -> tuple[str, ...]:
    """Return in words what explains a fault: changes of rules, or else conventions."""
    found = list(hypotheses)
    changes = tuple(h.name for h in found if h.changes)
    return changes or tuple(f"does as {h.name} does" for h in found)
