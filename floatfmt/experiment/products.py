"""Exact products of int8 tensors, by whichever way is fast here and has proved exact."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import torch

from ..backends import backend_name, current_backend
from ..integer_product import INT_MM_ROWS, trusted_int_mm

__all__ = ["int8_product", "route_name"]

#: Of codes (rows, inputs) and of weights (outputs, inputs) to int32 (rows, outputs).
Product: TypeAlias = Callable[[Any, Any], Any]

#: Products that are worth another thread, which takes some 50 µs to be told.
PRODUCTS_A_THREAD = 1 << 23


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
        return _by_kernel(x, w)
    return _way(backend_name(), min(rows, INT_MM_ROWS), inputs, len(w))(x, w)


def route_name() -> str:
    """Return what computes integer products here."""
    ours = f"floatfmt's {backend_name()} kernel"
    return ours if trusted_int_mm() is None else f"{ours} or torch._int_mm, whichever is faster"


@functools.cache
def _way(backend: str, rows: int, inputs: int, outputs: int) -> Product:
    """Return the fastest way for a shape; torch's kernel is slow for some of few rows."""
    x = torch.ones((rows, inputs), dtype=torch.int8)
    w = torch.ones((outputs, inputs), dtype=torch.int8)
    ways = (_int_mm, _by_kernel) if rows == INT_MM_ROWS else (_padded, _int_mm, _by_kernel)
    return min(ways, key=lambda way: _seconds(way, x, w))


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


def _by_kernel(x: Any, w: Any) -> Any:
    """Multiply by the backend, the outputs shared out to as many threads as torch takes."""
    (rows, inputs), outputs = x.shape, len(w)
    sums = torch.empty((rows, outputs), dtype=torch.int32)
    codes, weights, found = x.numpy(), w.numpy(), sums.numpy()
    threads = min(torch.get_num_threads(), rows * inputs * outputs // PRODUCTS_A_THREAD, outputs)
    multiply = current_backend().int8_product
    if threads < 2:
        multiply(codes, weights, found)
        return sums
    ends = np.linspace(0, outputs, threads + 1).astype(int)
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    waiting = [
        _pool(os.getpid(), threads - 1).submit(multiply, codes, weights[part], found[:, part])
        for part in parts[1:]
    ]
    multiply(codes, weights[parts[0]], found[:, parts[0]])
    for part in waiting:
        part.result()
    return sums


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads of this process: those of a parent do not come along in a fork."""
    return ThreadPoolExecutor(threads, "floatfmt-int8")
