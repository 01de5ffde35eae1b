"""Calling a quantiser: what it may return, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import interop
from ..backends import current_backend
from ..convention import Plan
from ..quantized import Quantized

__all__ = ["Answer", "Quantizer", "ask"]

Quantizer: TypeAlias = Callable[[np.ndarray], Any]


class Answer(NamedTuple):
    """What a quantiser returned."""

    codes: np.ndarray
    scale: np.ndarray | None
    zero_point: np.ndarray | None


def ask(fn: Quantizer, x: np.ndarray, asked: Plan) -> Answer:
    """Call a quantiser on a copy of x, and return what it returned as NumPy arrays."""
    with np.errstate(all="ignore"):  # among all inputs there are some that overflow
        result = fn(x.copy())
    scale = zero_point = None
    if isinstance(result, Quantized):
        result, scale, zero_point = result.codes, result.scale, result.zero_point
    elif interop.is_torch(result) and result.is_quantized:
        per_tensor = "per_tensor" in str(result.qscheme())
        scale, zero_point = (
            (result.q_scale(), result.q_zero_point())
            if per_tensor
            else (result.q_per_channel_scales(), result.q_per_channel_zero_points())
        )
        result = result.int_repr()
    elif isinstance(result, (tuple, list)) and len(result) in (2, 3):
        result, scale, zero_point = (*result, None)[:3]
    codes = interop.to_numpy(result).copy()  # it may keep its memory for the next call
    if codes.dtype != np.dtype(asked.dtype):
        usual = f"{asked.row.name} has codes of {asked.dtype}"
        other = codes.dtype.name in asked.row.dtypes
        hint = f"; pass dtype={codes.dtype.name!r} to compare these" if other else ""
        raise TypeError(f"the quantiser returned {interop.describe(result)}; {usual}{hint}")
    if codes.shape != x.shape:
        raise ValueError(
            f"the quantiser returned codes of shape {codes.shape} for values of shape {x.shape}"
        )
    return Answer(codes, _numbers(scale), _numbers(zero_point))


def _numbers(part: Any) -> np.ndarray | None:
    if part is None:
        return None
    with current_backend().float_environment():
        return np.asarray(interop.to_numpy(part), np.float64)
