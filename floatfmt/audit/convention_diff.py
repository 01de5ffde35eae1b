"""Where conventions disagree on one's own tensor, and the step at which they part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .. import interop
from ..backends import current_backend
from ..convention import (
    STEPS,
    Convention,
    ConventionLike,
    Parameters,
    Plan,
    conventions,
    find,
    fp32_array,
    given_scheme,
)
from ..convention import plan as plan_of
from ..convention_words import CODES
from ..table import Part, Table
from .quantizer_report import json_number, number, table_text, wrapped

__all__ = ["ConventionDiff", "ConventionDiffRow", "Disagreement", "diff_conventions"]

F32 = np.dtype(np.float32)
#: Values worked on at once.
PIECE = 1 << 18
#: Disagreements that are kept of each pair.
EXAMPLES = 3

# --- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An element that two conventions give different codes.

    Attributes
    ----------
    index : tuple of int
        Its place in x.
    a, b : dict of str to float
        The steps of each: ``x``, ``scale``, ``reciprocal``, ``product``, ``quotient``, ...,
        ``code``, ``value``.
    """

    index: tuple[int, ...]
    a: dict[str, float]
    b: dict[str, float]

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class ConventionDiffRow:
    """Where one convention disagrees with the other.

    Attributes
    ----------
    convention : Convention
        The other one.
    scheme, dtype : str
        ``"given"`` where scale and zero point are not its own; of its codes.
    compared, unjudged : int
        Elements for which both define a code, and the rest.
    codes : int
        How many have different codes; int8 and uint8 are both counted from their lowest.
    most : int
        The largest difference of two codes.
    values : int
        How many mean different values.
    step, zero_point : tuple of float
        What one code is worth, and the zero point, in each; of the first row or block.
    same_scales : bool
        Whether scales and zero points mean the same, all of them.
    over : tuple of str
        What each has a scale for: ``"tensor"``, ``"row"``, ``"block of 32"``, ...
    scales : tuple of int
        How many scales each has.
    examples : tuple of Disagreement
        The first elements of different codes.
    reason : str
        Why there is no comparison; "" if there is.
    """

    convention: Convention
    scheme: str = ""
    dtype: str = ""
    compared: int = 0
    unjudged: int = 0
    codes: int = 0
    most: int = 0
    values: int = 0
    step: tuple[float, float] = (0.0, 0.0)
    zero_point: tuple[float, float] = (0.0, 0.0)
    same_scales: bool = True
    over: tuple[str, str] = ("tensor", "tensor")
    scales: tuple[int, int] = (1, 1)
    examples: tuple[Disagreement, ...] = ()
    reason: str = ""

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ConventionDiff:
    """Where conventions disagree on a tensor; made by ``ff.diff_conventions``.

    Attributes
    ----------
    convention : Convention
        The one that the others are compared with.
    scheme, dtype : str
        How it came to its scale, and the dtype of its codes.
    shape : tuple of int
        The tensor's.
    source : str
        The tensor's dtype; its values are compared as fp32 values, whatever it is.
    rows : tuple of ConventionDiffRow
        One for each other convention.
    """

    convention: Convention
    scheme: str
    dtype: str
    shape: tuple[int, ...]
    source: str
    rows: tuple[ConventionDiffRow, ...]

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def __getitem__(self, name: str) -> ConventionDiffRow:
        """Return the row of a convention."""
        for row in self.rows:
            if row.convention.name == name:
                return row
        raise KeyError(f"{name} is not one of {', '.join(r.convention.name for r in self.rows)}")

    def __repr__(self) -> str:
        return f"<ConventionDiff: {_title(self)}>"

    def __str__(self) -> str:
        with current_backend().float_environment():
            lines = _one(self, self.rows[0]) if len(self.rows) == 1 else _many(self)
            return "\n".join([_title(self), "", *lines])

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "convention": self.convention.name,
            "scheme": self.scheme,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "source": self.source,
            "rows": [_row_dict(row) for row in self.rows],
        }


def _row_dict(row: ConventionDiffRow) -> dict[str, Any]:
    copied = (
        *("scheme", "dtype", "compared", "unjudged", "codes", "most", "values"),
        *("same_scales", "reason"),
    )
    return {
        "convention": row.convention.name,
        **{name: getattr(row, name) for name in copied},
        "step": [json_number(x) for x in row.step],
        "zero_point": [json_number(x) for x in row.zero_point],
        "over": list(row.over),
        "scales": list(row.scales),
        "examples": [
            {
                "index": list(example.index),
                "a": {name: json_number(x) for name, x in example.a.items()},
                "b": {name: json_number(x) for name, x in example.b.items()},
            }
            for example in row.examples
        ],
    }


# --- text ---------------------------------------------------------------------------------------


def _title(diff: ConventionDiff) -> str:
    shape = " × ".join(f"{n:,}" for n in diff.shape) or "0-d"
    against = f" against {_named(diff, diff.rows[0])}" if len(diff.rows) == 1 else ""
    widened = "" if diff.source == "float32" else f" {diff.source} values, taken as fp32"
    return f"{diff.convention.name} {diff.scheme} ({diff.dtype}){against} on {shape}{widened}"


def _named(diff: ConventionDiff, row: ConventionDiffRow) -> str:
    """Return a convention's name, with the dtype of its codes if that is another."""
    dtype = f" ({row.dtype})" if row.dtype not in ("", diff.dtype) else ""
    return row.convention.name + dtype


def _one(diff: ConventionDiff, row: ConventionDiffRow) -> Iterator[str]:
    """Yield what is to be said about two conventions."""
    by = f", by {row.most:,} at most" if row.codes else ""
    yield f"codes       {row.codes:,} of {row.compared:,} differ{by}"
    if row.dtype != diff.dtype:
        yield "            each counted from the lowest of its dtype"
    yield f"values      {row.values:,} differ"
    if row.unjudged:
        yield f"not judged  {row.unjudged:,}: one of them has no code there"
    same = "the same" if row.same_scales else "differ"
    step, zero_point = (
        f"{number(pair[0])}" + (f" and {number(pair[1])}" if pair[0] != pair[1] else "")
        for pair in (row.step, row.zero_point)
    )
    if row.scales != (1, 1):
        of = (diff.convention.name, row.convention.name)
        each = (
            f"{name} {count:,} for a {over}"
            for name, count, over in zip(of, row.scales, row.over, strict=True)
        )
        yield f"scales      {same}: {', '.join(each)}"
        yield f"            in the first of each one code is worth {step}, zero point {zero_point}"
    else:
        yield f"scales      {same}: one code is worth {step}, zero point {zero_point}"
    if row.scheme == "given" != diff.scheme:
        yield f"            {row.convention.name} was given those of {diff.convention.name}"
    for example in row.examples:
        yield ""
        yield from _example_lines(diff.convention.name, row.convention.name, example)


def _example_lines(a: str, b: str, example: Disagreement) -> Iterator[str]:
    bits = int(np.float32(example.a["x"]).view(np.uint32))
    place = f"x[{', '.join(map(str, example.index))}]" if example.index else "x"
    yield f"{place} = {number(example.a['x'])}, 0x{bits:08X}"
    rows: list[tuple[Part, ...]] = []
    for step in (*STEPS[1:], "value"):
        cells = [number(side[step]) if step in side else "-" for side in (example.a, example.b)]
        if cells != ["-", "-"]:
            rows.append(((step, "name"), (cells[0], ""), (cells[1], "")))
    yield from (f"  {line}" for line in table_text(Table((("",), (a,), (b,)), tuple(rows))))


def _many(diff: ConventionDiff) -> Iterator[str]:
    """Yield a table with a row for each other convention."""
    header = (
        *(("convention",), ("codes",), ("by", "at most"), ("values",), ("one code",)),
        *(("zero", "point"), ("a scale", "for a"), ("not", "judged")),
    )
    rows: list[tuple[Part, ...]] = []
    for row in diff.rows:
        if row.reason:
            continue
        counts = (f"{row.codes:,}", f"{row.most:,}" if row.codes else "", f"{row.values:,}")
        ends = (number(row.step[1]), number(row.zero_point[1]), row.over[1], f"{row.unjudged:,}")
        cells = (*((cell, "") for cell in counts), *((cell, "") for cell in ends))
        rows.append(((_named(diff, row), "name"), *cells))
    if rows:
        yield from table_text(Table(header, tuple(rows)))
    given = [r.convention.name for r in diff.rows if r.scheme == "given" != diff.scheme]
    notes = [f"{row.convention.name}: {row.reason}" for row in diff.rows if row.reason]
    if given:
        notes.insert(0, f"given the scale of {diff.convention.name}: {', '.join(given)}")
    if notes:
        yield ""
    for note in notes:
        yield from wrapped(note, "  ")


# --- the verb -----------------------------------------------------------------------------------


def diff_conventions(
    x: Any,
    a: ConventionLike = "floatfmt",
    b: ConventionLike | None = None,
    *,
    scheme: str | None = None,
    scale: float | None = None,
    zero_point: int | None = None,
    dtype: str | None = None,
    examples: int = EXAMPLES,
) -> ConventionDiff:
    """Count where conventions give a tensor different codes, and trace the first of them.

    Parameters
    ----------
    x : array
        fp32, fp16 or bf16 values; NumPy or torch, of any shape.
    a : str or Convention
        A name of ``ff.conventions()``, or a row of one's own.
    b : str or Convention, optional
        The one that is compared with it; by default every one there is.
    scheme : {"absmax", "zeropoint"}, optional
        How scale and zero point are found; the first scheme of `a` by default. A convention
        without it is given scale and zero point of one that has it.
    scale, zero_point : float and int
        Given to both.
    dtype : {"int8", "uint8"}, optional
        Of codes, in conventions that have both.
    examples : int
        How many elements of different codes to keep.

    Returns
    -------
    ConventionDiff

    Raises
    ------
    ValueError, TypeError
        A name is unknown, the two cannot be compared, or x has a NaN or Inf that one of them
        refuses.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x = np.float32([0.273939937, 0.1])
    >>> print(ff.diff_conventions(x, "onnx", "torch", scale=0.00214854861, dtype="uint8"))
    onnx given (uint8) against torch on 2
    <BLANKLINE>
    codes       1 of 2 differ, by 1 at most
    values      1 differ
    scales      the same: one code is worth 0.0021485486, zero point 0
    <BLANKLINE>
    x[0] = 0.27393994, 0x3E8C41DB
                          onnx         torch
      scale       0.0021485486  0.0021485486
      reciprocal             -     465.43048
      product                -         127.5
      quotient       127.49999             -
      rounded              127           128
      clamped              127           128
      code                 127           128
      value         0.27286568    0.27501422
    """
    values = fp32_array(x)
    others = [row for row in conventions() if row != find(a)] if b is None else [find(b)]
    sides = _Sides(values, find(a), others[0], scheme, scale, zero_point, dtype)
    left = sides.side(find(a))
    rows = []
    for row in others:
        try:
            right = sides.side(row)
            _check_codebooks(left.plan.row, row)
        except (ValueError, TypeError) as exc:
            if b is not None:
                raise
            rows.append(ConventionDiffRow(row, reason=str(exc)))
            continue
        rows.append(_compared(values, left, right, row, examples))
    source = interop.float_array(x).dtype.name
    return ConventionDiff(find(a), left.scheme, left.plan.dtype, values.shape, source, tuple(rows))


def _check_codebooks(a: Convention, b: Convention) -> None:
    if a.codebook != b.codebook:
        theirs, ours = (row.codebook or "integers" for row in (b, a))
        raise ValueError(f"its codes are of {theirs}, those of {a.name} of {ours}")


class _Side(NamedTuple):
    """A convention with its scales for a tensor."""

    plan: Plan
    scheme: str
    parameters: Parameters

    @property
    def step(self) -> np.ndarray:
        """What one code is worth, as fp32; of a codebook, what its 1 is."""
        if self.plan.row.codebook:
            return self.parameters.scale
        with current_backend().float_environment():
            return self.plan.dequantize(self.parameters.zero_point + 1, self.parameters)


class _Sides:
    """Gives each convention its scales: its own, those that were given, or another one's."""

    def __init__(
        self,
        values: np.ndarray,
        a: Convention,
        b: Convention,
        scheme: str | None,
        scale: float | None,
        zero_point: int | None,
        dtype: str | None,
    ) -> None:
        if dtype is not None and dtype not in CODES:
            raise ValueError(f"dtype must be {' or '.join(map(repr, CODES))}, got {dtype!r}")
        self._values, self._dtype = values, dtype
        self._given = None if scale is None else (scale, zero_point)
        self._is_finite = bool(np.isfinite(values).all())
        if scale is not None:
            if scheme is not None:
                raise TypeError("give a scheme or a scale, not both")
            return
        if zero_point is not None:
            raise TypeError("a zero_point goes with a scale; a scheme finds its own")
        if not self._is_finite:
            self._refuse("a scale follows from finite values")
        finder = next((row for row in (a, b, find("floatfmt")) if _has(row, scheme)), None)
        if finder is None:
            names = dict.fromkeys(s.name for s in find("floatfmt").schemes)
            raise ValueError(f"no scheme is called {scheme!r}; there are {', '.join(names)}")
        self._found = self._by_itself(finder, scheme)

    def side(self, row: Convention) -> _Side:
        """Return a convention with its scales.

        Raises
        ------
        ValueError
            It has none, and cannot be given any.
        """
        if self._given is not None:
            if row.nan == "refused" and not self._is_finite:
                self._refuse(f"{row.name} needs finite values")
            scale, zero_point = self._given
            if row.over == "channel":  # which all have the one scale
                row = replace(row, over="tensor")
            chosen = plan_of(row, None, scale=scale, dtype=self._dtype_of(row))
            return _Side(chosen, "given", chosen.given(scale, zero_point))
        if _has(row, self._found.scheme):
            return self._by_itself(row, self._found.scheme)
        if not row.takes_scale:
            raise ValueError(f"{row.name} has no scheme {self._found.scheme!r}, and takes no scale")
        if self._found.plan.row.codebook:
            raise ValueError(f"its codes are of integers, those of {self._found.plan.row.name} not")
        shared = replace(row, over=self._found.plan.row.over)
        chosen = Plan(shared, given_scheme(row), self._dtype_of(row))
        zeros = self._found.parameters.zero_point
        # What is no integer that fp64 holds is out of anybody's range.
        whole = np.where(np.abs(zeros) < 2.0**53, zeros, 2.0**53 + 2).astype(np.int64)
        steps = self._found.plan.step(self._found.parameters)
        return _Side(chosen, "given", chosen.given(steps, whole))

    def _by_itself(self, row: Convention, scheme: str | None) -> _Side:
        if not (self._values.size or row.takes_empty):
            raise ValueError(f"{row.name} takes no empty tensor")
        chosen = plan_of(row, scheme, dtype=self._dtype_of(row))
        with current_backend().float_environment():
            parameters = chosen.parameters(chosen.groups(self._values), self._values.size)
        return _Side(chosen, chosen.scheme.name, parameters)

    def _dtype_of(self, row: Convention) -> str:
        return self._dtype if self._dtype in row.dtypes and self._dtype else row.dtypes[0]

    def _refuse(self, why: str) -> None:
        position, value = interop.first_where(self._values, lambda part: ~np.isfinite(part))
        raise ValueError(f"{position} is {value}; {why}")


def _has(row: Convention, scheme: str | None) -> bool:
    return any(scheme in (None, s.name) for s in row.schemes if s.name != "given")


# --- comparing ----------------------------------------------------------------------------------


class _Made(NamedTuple):
    """What a convention makes of a piece of a tensor, flat."""

    codes: np.ndarray
    values: np.ndarray
    defined: np.ndarray
    steps: dict[str, np.ndarray]
    piece: Plan

    def at(self, i: int, size: int) -> dict[str, float]:
        """Return the steps of one element."""
        with current_backend().float_environment():
            steps = {
                name: float(self.piece.ungroup(part, (size,))[i])
                for name, part in self.steps.items()
            }
            return {**steps, "value": float(self.values[i])}


def _made(side: _Side, flat: np.ndarray, start: int, row_length: int) -> _Made:
    """Do what a convention does with a piece that begins at a row and a block."""
    per_group = row_length if side.plan.row.over == "row" else side.plan.block
    values, parameters = flat, side.parameters
    if per_group is not None:
        first = start // per_group
        part = slice(first, first - (-flat.size // per_group))
        parameters = Parameters(*(column[part] for column in parameters))
    if side.plan.row.over == "row":
        values = flat.reshape(-1, row_length)
    with current_backend().float_environment():
        groups = side.plan.groups(values)
        steps, defined = side.plan.steps(groups, parameters)
        meant = side.plan.dequantize(steps["code"], parameters)
    # flat pieces of rows are ungrouped as what they are
    piece = side.plan._replace(row=replace(side.plan.row, over="tensor"))
    if side.plan.row.over == "row":
        steps = {name: np.broadcast_to(p, groups.shape).reshape(1, -1) for name, p in steps.items()}
        meant, defined = meant.reshape(1, -1), np.reshape(defined, (1, -1))
    if side.plan.block:
        piece = side.plan
    shape = (flat.size,)
    return _Made(
        piece.ungroup(steps["code"], shape),
        piece.ungroup(meant, shape),
        piece.ungroup(defined, shape),
        steps,
        piece,
    )


def _compared(
    values: np.ndarray, left: _Side, right: _Side, row: Convention, examples: int
) -> ConventionDiffRow:
    """Compare two conventions piece by piece."""
    flat, row_length = values.reshape(-1), values.shape[-1] if values.ndim else 1
    blocks = (side.plan.block or 1 for side in (left, right))
    whole = math.lcm(*blocks, max(row_length, 1))
    length = max(PIECE // whole, 1) * whole
    compared = codes = most = other_values = 0
    found: list[Disagreement] = []
    for start in range(0, flat.size, length):
        piece = flat[start : start + length]
        a, b = (_made(side, piece, start, row_length) for side in (left, right))
        both = a.defined & b.defined
        distance = np.where(both, np.abs(_from_lowest(a, left) - _from_lowest(b, right)), 0)
        same = _same(a.values, b.values)
        compared += int(np.count_nonzero(both))
        codes += int(np.count_nonzero(distance))
        most = max(most, int(distance.max()))
        other_values += int(np.count_nonzero(both & ~same))
        for i in np.flatnonzero(distance)[: examples - len(found)]:
            at = np.unravel_index(start + int(i), values.shape) if values.ndim else ()
            sides = (part.at(int(i), piece.size) for part in (a, b))
            found.append(Disagreement(tuple(map(int, at)), *sides))
    steps = left.step, right.step
    zeros = left.parameters.zero_point, right.parameters.zero_point
    shifted = [
        zero - CODES[side.plan.dtype][0] for zero, side in zip(zeros, (left, right), strict=True)
    ]
    return ConventionDiffRow(
        convention=row,
        scheme=right.scheme,
        dtype=right.plan.dtype,
        compared=compared,
        unjudged=flat.size - compared,
        codes=codes,
        most=most,
        values=other_values,
        step=(_first(steps[0]), _first(steps[1])),
        zero_point=(_first(zeros[0]), _first(zeros[1])),
        same_scales=_alike(*steps) and _alike(*shifted),
        over=(left.plan.row.over, right.plan.row.over),
        scales=(left.parameters.scale.size, right.parameters.scale.size),
        examples=tuple(found),
    )


def _from_lowest(made: _Made, side: _Side) -> np.ndarray:
    return made.codes.astype(np.int16) - np.int16(CODES[side.plan.dtype][0])


def _first(column: np.ndarray) -> float:
    with current_backend().float_environment():
        return float(column.flat[0]) if column.size else 0.0


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two columns are the same, or one has a number for all of the other's."""
    if a.size != b.size and 1 not in (a.size, b.size):
        return False
    return bool(_same(a, b).all())


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where numbers are the same; NaN is NaN, and subnormals are not 0."""
    with current_backend().float_environment():
        return (a == b) | ((a != a) & (b != b))
