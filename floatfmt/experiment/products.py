"""Exact products of int8 tensors, by whichever way is fast here and has proved exact."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch

from ..backends import backend_name, current_backend
from ..integer_product import INT_MM_ROWS, trusted_int_mm

__all__ = ["int8_product", "route_name"]

#: Of codes (rows, inputs) and of weights (outputs, inputs) to int32 (rows, outputs).
Product: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Products that are worth another thread, which takes some 50 µs to be told.
PRODUCTS_A_THREAD = 1 << 22


def int8_product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return ``x @ w.T`` of codes within ±127 as int32: every sum exact, by any way.

    Parameters
    ----------
    x : int8 array, (rows, inputs)
        In C order.
    w : int8 array, (outputs, inputs)
        In C order; at most `integer_product.INT32_COLUMNS` inputs.
    """
    rows, inputs = x.shape
    if not rows or trusted_int_mm() is None:
        return _by_kernel(x, w)
    return _way(backend_name(), min(rows, INT_MM_ROWS), inputs, len(w))(x, w)


def route_name() -> str:
    """Return what computes integer products here."""
    ours = f"floatfmt's {backend_name()} kernel"
    if trusted_int_mm() is None:
        return f"{ours}, as fast as fp32 at best: torch has no fast exact one on this CPU"
    return f"{ours} or torch._int_mm, whichever is faster"


@functools.cache
def _way(backend: str, rows: int, inputs: int, outputs: int) -> Product:
    """Return the fastest way for a shape; torch's kernel is slow for some of few rows."""
    x, w = np.ones((rows, inputs), np.int8), np.ones((outputs, inputs), np.int8)
    ways = (_int_mm, _by_kernel) if rows == INT_MM_ROWS else (_padded, _int_mm, _by_kernel)
    return min(ways, key=lambda way: _seconds(way, x, w))


def _seconds(way: Product, x: np.ndarray, w: np.ndarray) -> float:
    def once() -> float:
        start = time.perf_counter()
        way(x, w)
        return time.perf_counter() - start

    return min(once() for _ in range(3))


def _int_mm(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    found: np.ndarray = trusted_int_mm()(torch.from_numpy(x), torch.from_numpy(w).t()).numpy()
    return found


def _padded(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    padded = np.zeros((INT_MM_ROWS, x.shape[1]), np.int8)
    padded[: len(x)] = x
    return _int_mm(padded, w)[: len(x)]


def _by_kernel(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Multiply by the backend, rows, or the outputs of one, shared out to torch's threads."""
    (rows, inputs), outputs = x.shape, len(w)
    sums = np.empty((rows, outputs), np.int32)
    multiply = current_backend().int8_product
    size = outputs if rows == 1 else rows
    threads = min(torch.get_num_threads(), rows * inputs * outputs // PRODUCTS_A_THREAD, size)
    if threads < 2:
        multiply(x, w, sums)
        return sums
    ends = [size * k // threads for k in range(threads + 1)]
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    own, *others = (
        (x, w[part], sums[:, part]) if rows == 1 else (x[part], w, sums[part]) for part in parts
    )
    pool = _pool(os.getpid(), threads - 1)
    waiting = [pool.submit(multiply, *part) for part in others]
    multiply(*own)
    for part in waiting:
        part.result()
    return sums


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads of this process: those of a parent do not come along in a fork."""
    return ThreadPoolExecutor(threads, "floatfmt-int8")
