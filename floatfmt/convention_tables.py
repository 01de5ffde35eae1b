"""Conventions as text: a table of their rules, and tables of what they do to inputs that tell.

The results are computed when they are printed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .backends import current_backend
from .table import LONGEST_TEXT, Part, Table

if TYPE_CHECKING:
    from .convention import Convention, Scheme

__all__ = ["conventions_dict", "conventions_lines", "conventions_text"]

# --- inputs that tell ---------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


class Probe(NamedTuple):
    """A tensor, the element that is looked at, and the scale that is given with it, if any."""

    name: tuple[str, ...]
    x: tuple[float, ...]
    scale: float | None = None
    zero_point: int = 0


#: With a scale: the same product is a tie, and the same quotient is not (FBGEMM's own example).
_SCALE = 0.00214854861
WITH_A_SCALE = (
    Probe(("2.5 / 1", "a tie"), (2.5,), 1.0),
    Probe(("the tie,", "zero pt 1"), (2.5,), 1.0, 1),
    Probe(("-0.273939937", "/ 0.00214854861"), (-0.273939937,), _SCALE),
    Probe(("10,000", "/ 1"), (1e4,), 1.0),
    Probe(("1e10", "/ 1"), (1e10,), 1.0),
    Probe(("NaN",), (NAN,), 1.0),
    Probe(("+Inf",), (INF,), 1.0),
    Probe(("-Inf",), (-INF,), 1.0),
    Probe(("3 s / s,", "s = 2^-140"), (3 * 2.0**-140,), 2.0**-140),
)
#: Without: the first element is looked at.
WITHOUT = (
    Probe(("2.5 of", "[2.5, 127]"), (2.5, 127)),
    Probe(("-1 of", "[-1, 0.5]"), (-1, 0.5)),
    Probe(("0 of", "[0, 1]"), (0, 1)),
    Probe(("0 of", "[0, 0]"), (0, 0)),
    Probe(("5 of", "[5, 5]"), (5, 5)),
    Probe(("6 of", "[6, 5]"), (6, 5)),
    Probe(("1 of", "[1, NaN]"), (1, NAN)),
    Probe(("+Inf of", "[+Inf, 1]"), (INF, 1)),
    Probe(("2^-149 of", "[2^-149, 0]"), (2.0**-149, 0)),
    Probe(("3e38 of", "[3e38, -3e38]"), (3e38, -3e38)),
)


class Outcome(NamedTuple):
    """What a convention does to a probe: a code and its value, or why there is none."""

    code: int = 0
    value: float = 0.0
    none: str = ""

    def shown(self, with_value: bool) -> str:
        if self.none:
            return self.none
        return f"{self.code}: {self.value:.3g}" if with_value else f"{self.code}"


def outcome(row: Convention, scheme: str | None, probe: Probe) -> Outcome:
    """Return what a convention does to the first element of a probe."""
    if row.nan == "refused" and not np.isfinite(probe.x).all():
        return Outcome(none=row.nan)
    with current_backend().float_environment():
        found = row.trace(
            np.array(probe.x, np.float32),
            scheme,
            scale=probe.scale,
            zero_point=None if probe.scale is None else probe.zero_point,
        )
        if not found.defined[0]:
            return Outcome(none="undefined")
        return Outcome(int(found.codes[0]), float(found.values[0]))


def _results(rows: Iterable[Convention], probes: Sequence[Probe]) -> Iterator[_Result]:
    """Yield what each convention that takes such probes does to them; schemes one by one."""
    given = probes[0].scale is not None
    for row in rows:
        own: list[str | None] = [s.name for s in row.schemes if s.name != "given"]
        schemes = own if not given else [None] if row.takes_scale else []
        for scheme in schemes:
            yield _Result(row, scheme, tuple(outcome(row, scheme, probe) for probe in probes))


class _Result(NamedTuple):
    row: Convention
    scheme: str | None
    outcomes: tuple[Outcome, ...]


# --- tables -------------------------------------------------------------------------------------


def _becomes(row: Convention) -> str:
    does = f"x * ({row.multiplier})" if row.multiplier else "x / scale"
    return does + ("" if row.precision == "fp32" else f" in {row.precision}")


def _zero_point(row: Convention) -> str:
    if row.codebook:
        return "-"
    return row.adds_zero_point.removesuffix(" rounding") + ", fused" * row.fused


_RULES: tuple[tuple[tuple[str, ...], Callable[[Convention], str]], ...] = (
    (("convention",), lambda row: row.name),
    (("of a value", "becomes"), _becomes),
    (("that is", "rounded"), lambda row: row.rounding),
    (("zero point", "is added"), _zero_point),
    (("a NaN", "is"), lambda row: row.nan),
    (("codes",), lambda row: row.codebook or " or ".join(row.dtypes)),
    (("a scale for a",), lambda row: row.over),
    (("a value is", "what a code means"), lambda row: row.dequantize),
    (("compared with",), lambda row: row.proof),
)
#: Columns before which the tables may be cut.
_RULES_BREAKS = (4, 8)

_SCHEMES: tuple[tuple[tuple[str, ...], Callable[[Convention, Scheme], str]], ...] = (
    (("convention",), lambda row, scheme: _label(row, scheme.name)),
    (("scale",), lambda row, scheme: scheme.scale),
    (("spread",), lambda row, scheme: scheme.spread),
    (("levels",), lambda row, scheme: f"{scheme.levels}" if "levels" in scheme.scale else "-"),
    (("spread 0",), lambda row, scheme: scheme.constant or "-"),
    (("zero point",), lambda row, scheme: "-" if row.codebook else scheme.zero_point),
    (("beyond", "the codes"), lambda row, scheme: "-" if row.codebook else scheme.clamp),
    (("lowest", "code"), lambda row, scheme: f"{scheme.lowest or '-'}"),
    (
        ("scales", "kept as"),
        lambda row, scheme: "8-bit codes" if scheme.double else row.scale_dtype,
    ),
)
_SCHEMES_BREAKS = (5,)


def _rules_table(rows: Iterable[Convention]) -> Table:
    cells = (tuple(_named(cell(row) for _, cell in _RULES)) for row in rows)
    return Table(tuple(header for header, _ in _RULES), tuple(cells), _RULES_BREAKS)


def _schemes_table(rows: Iterable[Convention]) -> Table:
    cells = (
        tuple(_named(cell(row, scheme) for _, cell in _SCHEMES))
        for row in rows
        for scheme in row.schemes
        if scheme.name != "given"
    )
    return Table(tuple(header for header, _ in _SCHEMES), tuple(cells), _SCHEMES_BREAKS)


def _named(texts: Iterable[str]) -> Iterator[Part]:
    for column, text in enumerate(texts):
        yield text, "" if column else "name"


def _results_table(rows: Iterable[Convention], probes: Sequence[Probe]) -> Table:
    """Return a table of codes, and values where scales differ; marked is what most do not do."""
    results = list(_results(rows, probes))
    by_value = probes[0].scale is None
    columns = [
        _marked([result.outcomes[i] for result in results], by_value) for i in range(len(probes))
    ]
    cells = (
        ((_label(result.row, result.scheme), "name"), *(column[number] for column in columns))
        for number, result in enumerate(results)
    )
    header = (("convention",), *(probe.name for probe in probes))
    return Table(header, tuple(cells), (1 + len(probes) // 2,) if by_value else ())


def _label(row: Convention, scheme: str | None) -> str:
    """Return a convention's name, with its scheme if it has more than one."""
    return f"{row.name} {scheme}" if scheme and len(row.schemes) > 1 else row.name


def _marked(column: list[Outcome], by_value: bool) -> list[Part]:
    keys = [outcome.none or (outcome.value if by_value else outcome.code) for outcome in column]
    usual = Counter(f"{key:.3g}" if isinstance(key, float) else f"{key}" for key in keys)
    most = usual.most_common(1)[0][0] if usual else ""
    found: list[Part] = []
    for key, one in zip(keys, column, strict=True):
        differs = (f"{key:.3g}" if isinstance(key, float) else f"{key}") != most
        role = "none" if one.none else "lost" if differs else ""
        found.append(("*" * differs + one.shown(by_value), role))
    return found


def conventions_lines(rows: Sequence[Convention], width: int | None) -> Iterator[list[Part]]:
    """Yield the tables' lines, in blocks of `width` columns."""
    width = min(width or LONGEST_TEXT, LONGEST_TEXT)
    parts = (
        ("From a value to its code, and back", _rules_table(rows)),
        ("From a tensor to its scale", _schemes_table(rows)),
        (
            "Codes with a given scale, int8 (* is not what most do)",
            _results_table(rows, WITH_A_SCALE),
        ),
        (
            "Codes and values with a scale of one's own (* is another value than most have)",
            _results_table(rows, WITHOUT),
        ),
    )
    for number, (title, table) in enumerate(parts):
        if number:
            yield []
        yield [(title, "title")]
        yield []
        if table.rows:
            yield from table.lines(width)
        else:
            yield [("none", "none")]


def conventions_text(rows: Sequence[Convention]) -> str:
    """Return conventions as text of at most 100 columns."""
    lines = conventions_lines(rows, None)
    return "\n".join("".join(text for text, _ in line) for line in lines)


def conventions_dict(rows: Sequence[Convention]) -> dict[str, Any]:
    """Return conventions and results as a dictionary that ``json.dumps`` takes as it is."""
    results = []
    for probes in (WITH_A_SCALE, WITHOUT):
        for result in _results(rows, probes):
            for probe, one in zip(probes, result.outcomes, strict=True):
                given = (
                    {}
                    if probe.scale is None
                    else {"scale": probe.scale, "zero_point": probe.zero_point}
                )
                what = (
                    {"none": one.none}
                    if one.none
                    else {"code": one.code, "value": _number(one.value)}
                )
                results.append(
                    {
                        "convention": result.row.name,
                        "scheme": result.scheme or "given",
                        "x": [_number(x) for x in probe.x],
                        **given,
                        **what,
                    }
                )
    return {"conventions": [row.to_dict() for row in rows], "results": results}


def _number(x: float) -> float | str:
    return x if math.isfinite(x) else str(x)
