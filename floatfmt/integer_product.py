"""Exact products of int8 codes, by whichever library is fast here and has proved exact.

Every route gives the same bits: sums of integers, of which none is ever rounded.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import interop

__all__ = [
    "FP32_COLUMNS",
    "INT32_COLUMNS",
    "INT_MM_ROWS",
    "ROUTES",
    "Route",
    "integer_product",
    "is_exact",
    "routes",
    "trusted_int_mm",
]

Multiply: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

LARGEST_PRODUCT = 127 * 127
#: Columns whose sums, in any order, are integers that fp32 holds: up to 2**24.
FP32_COLUMNS = 2**24 // LARGEST_PRODUCT
#: Columns whose sums int32 holds.
INT32_COLUMNS = (2**31 - 1) // LARGEST_PRODUCT
#: torch._int_mm leaves its fast kernel for some shapes of fewer rows, and is then far slower.
INT_MM_ROWS = 16


class Route(NamedTuple):
    """A way to multiply codes: what of, and from how many rows on."""

    name: str
    multiply: Multiply
    rows: int = 0
    columns: int = sys.maxsize


def integer_product(x: np.ndarray, w: np.ndarray, kind: Any) -> tuple[np.ndarray, str]:
    """Return the exact int32 product of codes within ±127, and the name of the route it took.

    `kind` is what the caller's x was: torch's own product is for tensors.
    """
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    n, k = x.shape
    route = next(
        route
        for route in routes(kind)
        if n >= route.rows and k <= route.columns and is_exact(route.multiply)
    )
    sums = route.multiply(x, w)
    if k > INT32_COLUMNS:
        _check_int32(sums)
    return sums.astype(np.int32, copy=False), route.name


def _check_int32(sums: np.ndarray) -> None:
    def beyond(piece: np.ndarray) -> np.ndarray:
        return (piece > 2**31 - 1) | (piece < -(2**31))

    if beyond(sums).any():
        position, value = interop.first_where(sums, beyond, "int32")
        raise ValueError(
            f"{position} would be {value:,}, beyond int32: split x by columns and w by rows, up to"
            f" {INT32_COLUMNS:,} each, and add the outputs"
        )


def routes(kind: Any) -> Iterator[Route]:
    """Yield the ways to multiply codes that there are for an x of this kind, fastest first."""
    int_mm = trusted_int_mm() if interop.is_torch(kind) else None
    if int_mm is not None:
        yield Route("torch._int_mm", _int_mm(int_mm), INT_MM_ROWS, INT32_COLUMNS)
    yield from ROUTES


def trusted_int_mm() -> Any:
    """Return torch's own product of int8 matrices, or None unless it is exact and fast here."""
    int_mm = getattr(sys.modules["torch"], "_int_mm", None)
    return int_mm if int_mm is not None and _pays(_int_mm(int_mm)) else None


@functools.cache
def _int_mm(int_mm: Any) -> Multiply:
    from_numpy = sys.modules["torch"].from_numpy
    return lambda x, w: int_mm(from_numpy(x), from_numpy(w)).numpy()


def _fp32_blas(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    wide = np.dtype(np.int32 if len(w) <= INT32_COLUMNS else np.int64)
    sums = np.zeros((len(x), w.shape[1]), wide)
    for start in range(0, len(w), FP32_COLUMNS):
        columns = slice(start, start + FP32_COLUMNS)
        part = x[:, columns].astype(np.float32) @ w[columns].astype(np.float32)
        sums += part.astype(wide)
    return sums


def _fp64_blas(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    # Exact up to 2**53 / 127**2 columns, more than memory has.
    return (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)


def _int64_loops(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x.astype(np.int64) @ w.astype(np.int64)


#: 512 × 4,096 by 4,096 × 4,096 on two cores: 81 ms, 156 ms; with torch._int_mm on VNNI 18 ms.
ROUTES = (
    Route("fp32 BLAS", _fp32_blas),
    Route("fp64 BLAS", _fp64_blas),
    Route("int64 loops", _int64_loops),
)

#: Rows, columns and outputs of the products that a route has to get right: odd, and across blocks.
PROOF_SHAPES = ((1, 1, 1), (16, 129, 33), (17, 1041, 31), (64, 260, 130), (16, 4099, 3))


@functools.cache
def is_exact(multiply: Multiply) -> bool:
    """Return whether a route multiplies exactly here: libraries have been silently wrong.

    Codes are as large as they get, of equal, opposite and alternating sign, and random.
    """
    if multiply is _int64_loops:
        return True  # the definition
    try:
        return all(np.array_equal(multiply(x, w), _int64_loops(x, w)) for x, w in _proof_products())
    except Exception:  # whatever a library that is not ours raises: there are other routes
        return False


def _proof_products() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    for n, k, m in PROOF_SHAPES:
        largest, other = np.full((n, k), 127, np.int8), np.full((k, m), 127, np.int8)
        yield largest, other
        yield largest, -other
        yield np.where(np.arange(k) % 2, largest, -largest), other
        yield (
            random.integers(-127, 128, (n, k), np.int8),
            random.integers(-127, 128, (k, m), np.int8),
        )


@functools.cache
def _pays(multiply: Multiply) -> bool:
    """Return whether a route is exact and faster than BLAS; on many CPUs torch's is a loop."""
    if not is_exact(multiply):
        return False
    x, w = np.ones((INT_MM_ROWS, 1041), np.int8), np.ones((1041, 128), np.int8)
    return _seconds(multiply, x, w) < _seconds(_fp32_blas, x, w)


def _seconds(multiply: Multiply, x: np.ndarray, w: np.ndarray) -> float:
    def once() -> float:
        start = time.perf_counter()
        multiply(x, w)
        return time.perf_counter() - start

    return min(once() for _ in range(5))
