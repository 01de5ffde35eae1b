"""Exact products of int8 tensors, by whichever way is fast here and has proved exact."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from ..integer_product import FP32_COLUMNS, INT_MM_ROWS, trusted_int_mm

__all__ = ["int8_product", "route_name"]

#: Of codes (rows, inputs) and of weights (outputs, inputs) to int32 (rows, outputs).
Product: TypeAlias = Callable[[Any, Any], Any]

#: Weights turned to fp32 at once: they stay in the cache where rows are few.
CACHED_WEIGHTS = 1 << 17
#: Or a bounded part of memory, where there is work enough for each.
MOST_WEIGHTS = 1 << 22
FEW_ROWS = 32


def int8_product(x: Any, w: Any) -> Any:
    """Return ``x @ w.T`` of codes within ±127 as int32: every sum exact, by any way.

    Parameters
    ----------
    x : int8 tensor, (rows, inputs)
        Contiguous.
    w : int8 tensor, (outputs, inputs)
        Contiguous; at most `integer_product.INT32_COLUMNS` inputs.
    """
    rows, inputs = x.shape
    if not rows or trusted_int_mm() is None:
        return _by_blas(x, w)
    return _way(min(rows, INT_MM_ROWS), inputs, len(w))(x, w)


def route_name() -> str:
    """Return what computes integer products here, and what is to be known of it."""
    if trusted_int_mm() is not None:
        return "torch._int_mm"
    return (
        "fp32 BLAS on int8 codes, exact but no faster than fp32: this CPU or torch has no fast one"
    )


@functools.cache
def _way(rows: int, inputs: int, outputs: int) -> Product:
    """Return the fastest way for a shape; torch's kernel is slow for some of few rows."""
    if rows == INT_MM_ROWS:
        return _int_mm
    x = torch.ones((rows, inputs), dtype=torch.int8)
    w = torch.ones((outputs, inputs), dtype=torch.int8)
    return min((_padded, _int_mm, _by_blas), key=lambda way: _seconds(way, x, w))


def _seconds(way: Product, x: Any, w: Any) -> float:
    def once() -> float:
        start = time.perf_counter()
        way(x, w)
        return time.perf_counter() - start

    return min(once() for _ in range(3))


def _int_mm(x: Any, w: Any) -> Any:
    return trusted_int_mm()(x, w.t())


def _padded(x: Any, w: Any) -> Any:
    padded = x.new_zeros((INT_MM_ROWS, x.shape[1]))
    padded[: len(x)] = x
    return _int_mm(padded, w)[: len(x)].contiguous()


def _by_blas(x: Any, w: Any) -> Any:
    """Multiply in fp32: sums of up to `FP32_COLUMNS` products of codes are integers it holds."""
    rows, inputs = x.shape
    wide = x.float()
    sums = x.new_zeros((rows, len(w)), dtype=torch.int32)
    step = max(1, (CACHED_WEIGHTS if rows < FEW_ROWS else MOST_WEIGHTS) // max(1, inputs))
    for start in range(0, inputs, FP32_COLUMNS):
        columns = slice(start, start + FP32_COLUMNS)
        for first in range(0, len(w), step):
            outputs = slice(first, first + step)
            part = wide[:, columns] @ w[outputs, columns].float().t()
            sums[:, outputs] += part.int()
    return sums
