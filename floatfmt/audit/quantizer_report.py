"""What `verify_quantizer` found, as aligned text."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..backends import current_backend
from ..convention import STEPS
from ..table import TEXT_WIDTH, Part, Table

if TYPE_CHECKING:
    from .quantizers import QuantizerExample, QuantizerFault, QuantizerVerification

__all__ = ["html_of", "json_number", "number", "plural", "table_text", "text_of", "wrapped"]


def number(x: float) -> str:
    """Return a number in as few digits as tell it from its neighbours, in fp32 if it is one."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.float32(x)
    if float(narrow) == x or x != x:  # compared as they are: NumPy would round x first
        text = np.format_float_positional(narrow, trim="-")
        return text if len(text) <= 14 else np.format_float_scientific(narrow, trim="-")
    text = np.format_float_positional(np.float64(x), trim="-")
    return text if len(text) <= 20 else np.format_float_scientific(np.float64(x), trim="-")


def json_number(x: float) -> float | str:
    """Return a number that JSON has, or its name."""
    return x if math.isfinite(x) else str(x)


def text_of(v: QuantizerVerification) -> str:
    """Return a verification as text."""
    with current_backend().float_environment():
        return "\n".join(_lines(v))


def _lines(v: QuantizerVerification) -> list[str]:
    lines = list(wrapped(_headline(v)))
    for note in _notes(v):
        lines += wrapped(note, "  ")
    for fault in v.faults:
        lines += ["", *_fault(fault, v)]
    return lines


def html_of(v: QuantizerVerification) -> str:
    """Return a verification as HTML for Jupyter."""
    return f"<pre>{html.escape(text_of(v))}</pre>"


def wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, TEXT_WIDTH + 10, subsequent_indent=indent, break_long_words=False)


def _subject(v: QuantizerVerification) -> str:
    """Return what a quantiser was compared with: "torch (int8, scale 0.1, zero point 3)"."""
    if v.scale is None:
        return f"{v.convention.name} {v.scheme} ({v.dtype})"
    return f"{v.convention.name} ({v.dtype}, scale {number(v.scale)}, zero point {v.zero_point})"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _headline(v: QuantizerVerification) -> str:
    what, values = _subject(v), plural(v.judged, "value")
    if v.verdict == "refuted" and not v.failing and not v.tensors:
        return f"refuted: no difference from {what} in {values}, but short arrays have others"
    if v.verdict == "refuted" and v.tensors:
        return (
            f"refuted: {v.failing_tensors:,} of {plural(v.tensors, 'tensor')}, {v.failing:,} of"
            f" {values}, differ from {what}"
        )
    if v.verdict == "refuted":
        return f"refuted: {v.failing:,} of {values} differ from {what}"
    tried = f"{plural(v.tensors, 'tensor')}, {values}" if v.tensors else values
    end = "" if v.verdict == "proved" else _WHY_NO_PROOF[v.stopped]
    return f"{v.verdict}: no difference from {what} in {tried}{end}"


_WHY_NO_PROOF = {
    "budget": ", when the time was up",
    "interrupted": ", when it was interrupted",
    "": ", which is no proof for others",
}


def _notes(v: QuantizerVerification) -> Iterator[str]:
    if v.unjudged:
        why = "has no code for them"
        if v.convention.nan == "refused" and not v.tensors:
            why = "refuses NaN and Inf"
        yield f"{plural(v.unjudged, 'value')} not judged: {v.convention.name} {why}"
    if v.stopped and v.faults:
        yield f"stopped before the end: {v.stopped}"
    if v.exactly:
        yield f"this quantiser is exactly {' and '.join(v.exactly)} on all of these"


def _fault(fault: QuantizerFault, v: QuantizerVerification) -> Iterator[str]:
    """Yield a fault's lines: its name, how often, and examples step by step."""
    noun = "tensor" if v.tensors else "value"
    name = fault.names[0] if fault.names else "no known rule explains these"
    counts = ", ".join(f"{kind} {count:,}" for kind, count in fault.kinds.items())
    yield from wrapped(f"{name}: {plural(fault.count, noun)} ({counts})", "  ")
    if fault.names[1:]:
        yield from wrapped(f"  the same codes: {'; '.join(fault.names[1:])}", "    ")
    if 0 < fault.confirmed < v.judged and not v.tensors:
        yield f"  confirmed on {plural(fault.confirmed, 'value')}"
    if fault.detail:
        yield from wrapped(f"  {fault.detail}", "    ")
    examples = [("first", fault.first)]
    if fault.simplest != fault.first:
        examples.append(("simplest", fault.simplest))
    shown = [(title, example) for title, example in examples if example is not None]
    for title, example in shown:
        if example.tensor:
            yield f"  {title}: [{', '.join(map(str, example.index))}] of {example.tensor}"
    if shown:
        yield from (f"  {line}" for line in table_text(_example_table(shown)))


def _example_table(examples: list[tuple[str, QuantizerExample]]) -> Table:
    columns = [_column(example) for _, example in examples]
    labels = [
        *("x", "bits"),
        *(step for step in STEPS[1:-1] if any(step in column for column in columns)),
        *("code", "given"),
    ]
    rows = [tuple(_cells(label, columns)) for label in labels if any(label in c for c in columns)]
    return Table((("",), *((title,) for title, _ in examples)), tuple(rows))


def _column(example: QuantizerExample) -> dict[str, str]:
    return {
        "x": number(example.value),
        "bits": f"0x{example.bits:08X}",
        **{name: number(value) for name, value in example.steps.items()},
        "code": str(example.expected),
        "given": str(example.got),
    }


def _cells(label: str, columns: list[dict[str, str]]) -> Iterator[Part]:
    yield label, "name"
    for column in columns:
        yield column.get(label, "-"), ""


def table_text(table: Table) -> Iterator[str]:
    """Yield a table's lines as text."""
    for line in table.lines():
        yield "".join(text for text, _ in line)
