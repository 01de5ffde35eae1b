"""What `verify_quantizer` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import interop
from ..backends import current_backend
from ..convention import Convention
from .quantizer_report import html_of, json_number, text_of

__all__ = [
    "QuantizerExample",
    "QuantizerFault",
    "QuantizerVerification",
    "complexity",
    "example_of",
    "verdict",
]

F32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class QuantizerExample:
    """A value that has another code than the convention's.

    Attributes
    ----------
    bits : int
        The value's fp32 bits.
    expected, got : int
        The convention's code, and the quantiser's.
    steps : dict of str to float
        How the convention comes to its code: scale, quotient, ...
    tensor : str
        The tensor that it stands in; "" in a sweep.
    index : tuple of int
        Where.
    """

    bits: int
    expected: int
    got: int
    steps: dict[str, float]
    tensor: str = ""
    index: tuple[int, ...] = ()

    __hash__ = None  # type: ignore[assignment]

    @property
    def value(self) -> float:
        """The value."""
        with current_backend().float_environment():
            return float(np.uint32(self.bits).view(F32))


@dataclass(frozen=True, slots=True)
class QuantizerFault:
    """What goes wrong in one way.

    Attributes
    ----------
    names : tuple of str
        What the quantiser does instead, each confirmed: a convention with that rule gives exactly
        its codes, for every input of these kinds. Empty if nothing is known that does.
    kinds : dict of str to int
        Kinds of inputs, or of tensors, and how many of each fail.
    count : int
        How many inputs, or tensors, fail.
    confirmed : int
        Inputs or tensors on which the names were confirmed.
    first, simplest : QuantizerExample or None
        The first that was found, and the one of fewest bits or in the smallest tensor.
    detail : str
        What an example does not show: an exception, another scale.
    """

    names: tuple[str, ...]
    kinds: dict[str, int]
    count: int
    confirmed: int
    first: QuantizerExample | None
    simplest: QuantizerExample | None
    detail: str = ""

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QuantizerVerification:
    """Whether a quantiser does what a convention says; made by ``ff.verify_quantizer``.

    Attributes
    ----------
    convention : Convention
        What it was compared with.
    scheme, dtype : str
        ``"absmax"``, ``"zeropoint"`` or ``"given"``, and the codes' dtype.
    scale, zero_point : float and int, or None
        Those that were given.
    verdict : str
        - ``"proved"``: every one of the 2^32 fp32 inputs has the convention's code;
        - ``"refuted"``: some have not;
        - ``"inconclusive"``: all that was tried has, which proves nothing about the rest.
    judged, failing : int
        Values that were compared, and those with another code.
    unjudged : int
        Values for which the convention defines no code.
    tensors, failing_tensors : int
        Tensors that were tried; 0 in a sweep.
    faults : tuple of QuantizerFault
        What goes wrong, most frequent first.
    exactly : tuple of str
        Conventions that give exactly the quantiser's codes, where the one asked for does not.
    stopped : str
        "budget" or "interrupted" if it was stopped.
    seconds : float
        How long it took.
    """

    convention: Convention
    scheme: str
    dtype: str
    scale: float | None
    zero_point: int | None
    verdict: str
    judged: int
    failing: int
    unjudged: int
    tensors: int
    failing_tensors: int
    faults: tuple[QuantizerFault, ...]
    exactly: tuple[str, ...]
    stopped: str
    seconds: float = field(compare=False)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    @property
    def passed(self) -> bool:
        """Whether it is proved right."""
        return self.verdict == "proved"

    def __repr__(self) -> str:
        return f"<QuantizerVerification: {str(self).splitlines()[0]}>"

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        Numbers that JSON lacks, NaN and infinities, are strings.
        """
        copied = (
            *("scheme", "dtype", "scale", "zero_point", "verdict", "judged", "failing"),
            *("unjudged", "tensors", "failing_tensors", "stopped", "seconds"),
        )
        return {
            "convention": self.convention.name,
            **{name: getattr(self, name) for name in copied},
            "passed": self.passed,
            "exactly": list(self.exactly),
            "faults": [_fault_dict(fault) for fault in self.faults],
        }


def _fault_dict(fault: QuantizerFault) -> dict[str, Any]:
    return {
        "names": list(fault.names),
        "kinds": dict(fault.kinds),
        "count": fault.count,
        "confirmed": fault.confirmed,
        "first": _example_dict(fault.first),
        "simplest": _example_dict(fault.simplest),
        "detail": fault.detail,
    }


def _example_dict(example: QuantizerExample | None) -> dict[str, Any] | None:
    if example is None:
        return None
    return {
        "value": json_number(example.value),
        "hex": f"0x{example.bits:08X}",
        "expected": example.expected,
        "got": example.got,
        "steps": {name: json_number(number) for name, number in example.steps.items()},
        "tensor": example.tensor,
        "index": list(example.index),
    }


# --- making them --------------------------------------------------------------------------------


def example_of(
    steps: dict[str, np.ndarray], at: tuple[int, ...], expected: int, got: int, **place: Any
) -> QuantizerExample:
    """Return an example with the steps of one element of groups."""
    with current_backend().float_environment():
        numbers = {
            name: float(np.broadcast_to(part, steps["x"].shape)[at])
            for name, part in steps.items()
            if name not in ("x", "code")
        }
    bits = int(steps["x"][at].view(np.uint32))
    return QuantizerExample(bits, int(expected), int(got), numbers, **place)


def complexity(bits: np.ndarray) -> np.ndarray:
    """Return a number that is small for values of few bits near 1; positive ones first."""
    fraction = (bits & np.uint32(0x7FFFFF)).astype(np.int64)
    lowest = fraction & -fraction
    length = np.where(fraction == 0, 0, 23 - np.log2(np.maximum(lowest, 1)).astype(np.int64))
    exponent = np.abs((bits >> np.uint32(23) & np.uint32(0xFF)).astype(np.int64) - 127)
    return length << 16 | exponent << 8 | (bits >> np.uint32(31)).astype(np.int64)


def verdict(is_wrong: bool, stopped: str, is_everything: bool) -> str:
    if is_wrong:
        return "refuted"
    return "proved" if is_everything and not stopped else "inconclusive"
