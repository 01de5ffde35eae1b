"""Whether contenders agree, found out before anything is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import interop
from ..fields import Fields
from ..quantized import Quantized

__all__ = ["IDENTICAL", "DisagreementError", "Relation", "arrays_of", "count_differing"]


class DisagreementError(RuntimeError):
    """Two contenders gave results that do not stand in the stated relation; nothing was timed."""


@dataclass(frozen=True, slots=True)
class Relation:
    """How far a contender's codes may be from floatfmt's, and why.

    Attributes
    ----------
    codes_apart : int
        The largest accepted difference of two codes; 0 asks for the same bits.
    because : str
        What the contender does differently.
    share : float
        The largest part of the elements that may differ; one element always may.
    scales_too : bool
        Whether what comes after the codes may differ as they may; else it has to be the same.
    """

    codes_apart: int
    because: str = ""
    share: float = 1.0
    scales_too: bool = False


IDENTICAL = Relation(0)


def arrays_of(result: Any) -> tuple[np.ndarray, ...]:
    """Return a contender's result as arrays: codes or values first, then what they go with.

    What a result lacks, None there, is left out: zero points, a scale for the tensor.
    """
    if isinstance(result, Fields):
        result = (result.sign, result.exponent, result.fraction)
    elif isinstance(result, Quantized):
        result = (result.codes, result.scale, result.zero_point, result.tensor_scale)
    parts = result if isinstance(result, tuple) else (result,)
    return tuple(interop.to_numpy(_codes(part)) for part in parts if part is not None)


def _codes(part: Any) -> Any:
    """Return the codes of torch's quantised tensors and of apytypes' arrays, else the part."""
    if getattr(part, "is_quantized", False):
        return part.int_repr()
    return part.to_bits(numpy=True) if hasattr(part, "to_bits") else part


def count_differing(
    who: str,
    got: tuple[np.ndarray, ...],
    expected: tuple[np.ndarray, ...],
    names: tuple[str, ...],
    relation: Relation = IDENTICAL,
) -> int:
    """Return how many elements differ within what the relation accepts.

    Parameters
    ----------
    who : str
        The contender, for the message.
    got, expected : tuple of arrays
        `got` may have fewer arrays than `expected`, but has one.
    names : tuple of str
        What the arrays are, for the message.
    relation : Relation
        How they have to stand to each other.

    Raises
    ------
    DisagreementError
        Naming the first element that is not as it has to be.
    """
    if not 1 <= len(got) <= len(expected):
        raise DisagreementError(f"{who}: {len(got)} arrays, expected {len(expected)}")
    relations = [relation] + [relation if relation.scales_too else IDENTICAL] * len(got[1:])
    return sum(
        _count_in_array(f"{who}: {name}", ours, theirs, accepted)
        for name, theirs, ours, accepted in zip(names, got, expected, relations, strict=False)
    )


def _count_in_array(what: str, expected: np.ndarray, got: np.ndarray, relation: Relation) -> int:
    if got.shape != expected.shape or got.itemsize != expected.itemsize:
        raise DisagreementError(
            f"{what} are {got.dtype} of shape {got.shape}, "
            f"expected {expected.dtype} of shape {expected.shape}"
        )
    places = np.flatnonzero(_bits(got) != _bits(expected))
    too_far = places
    if relation.codes_apart:
        apart = np.abs(_order(got, places) - _order(expected, places))
        too_far = places[apart > relation.codes_apart]
    if len(too_far):
        at = np.unravel_index(int(too_far[0]), got.shape)
        index = f"[{', '.join(str(int(i)) for i in at)}]" if at else ""
        allowed = f"at most {relation.codes_apart} apart" if relation.codes_apart else "the same"
        raise DisagreementError(
            f"{what}{index} is {got[at]!r}, expected {expected[at]!r} ({allowed}); "
            f"{len(too_far):,} of {got.size:,} elements are wrong"
        )
    if len(places) > max(1, relation.share * got.size):
        raise DisagreementError(
            f"{what}: {len(places):,} of {got.size:,} elements differ by up to "
            f"{relation.codes_apart}, expected {100 * relation.share:g} % at most"
        )
    return len(places)


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")


def _order(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the chosen elements as integers in which neighbouring codes are 1 apart."""
    if array.dtype.kind == "i":
        return array.reshape(-1)[places].astype(np.int64)
    return _bits(array)[places].astype(np.int64)
