"""Int8 layers' products, by whichever way is fast here and has proved exact."""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from ..backends import backend_name, current_backend
from ..backends.reference import ALONE, Team
from ..integer_product import INT_MM_ROWS, trusted_int_mm

__all__ = ["Layer8", "int8_linear", "route_name"]

#: Products that are worth torch's other threads, which take some microseconds to be told.
TEAM_PRODUCTS = 1 << 19


class Layer8(NamedTuple):
    """What a layer adds to the codes and scales of its activations.

    Attributes
    ----------
    codes : int8 array, (outputs, inputs)
        Within ±127, in C order; at most `integer_product.INT32_COLUMNS` inputs.
    scale, bias : float32 array, (outputs,)
        The scale of each output; no bias if None.
    """

    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None


_PROCESS = os.getpid()

#: Of codes (rows, inputs), the scales of rows, what else is added, and the layer, into fp32.
Way: TypeAlias = Callable[[np.ndarray, np.ndarray, "np.ndarray | None", Layer8, np.ndarray], None]


def int8_linear(
    x: np.ndarray,
    row_scale: np.ndarray,
    other: np.ndarray | None,
    layer: Layer8,
    out: np.ndarray,
) -> None:
    """Write ``(x @ codes.T) * row_scale * scale + other + bias``: the same bits by any way.

    Parameters
    ----------
    x : int8 array, (rows, inputs)
        Codes within ±127, in C order.
    row_scale : float64 array, (rows,)
        What stands for 1 in each row.
    other : float64 array or None, (rows, outputs)
        Is added in float64.
    layer : Layer8
        The rest.
    out : float32 array, (rows, outputs)
        Gets the result, as `reference.int8_linear` has it.
    """
    rows, inputs = x.shape
    if not rows or trusted_int_mm() is None:
        way: Way = by_kernel
    else:
        way = _fastest(backend_name(), min(rows, INT_MM_ROWS), inputs, len(layer.codes))
    way(x, row_scale, other, layer, out)


def route_name() -> str:
    """Return what computes integer products here."""
    ours = f"floatfmt's {backend_name()} kernel"
    if trusted_int_mm() is None:
        return f"{ours}, at most twice as fast as fp32: torch has no fast exact one on this CPU"
    return f"{ours} or torch._int_mm, whichever is faster"


@functools.cache
def _fastest(backend: str, rows: int, inputs: int, outputs: int) -> Way:
    """Return the fastest way for a shape; torch's kernel is slow for some of few rows."""
    x, w = np.ones((rows, inputs), np.int8), np.ones((outputs, inputs), np.int8)
    layer, out = (
        Layer8(w, np.ones(outputs, np.float32), None),
        np.empty((rows, outputs), np.float32),
    )
    ways = (by_int_mm, by_kernel) if rows == INT_MM_ROWS else (by_padded, by_int_mm, by_kernel)

    def seconds(way: Way) -> float:
        start = time.perf_counter()
        way(x, np.ones(rows), None, layer, out)
        return time.perf_counter() - start

    return min(ways, key=lambda way: min(seconds(way) for _ in range(3)))


def by_int_mm(
    x: np.ndarray,
    row_scale: np.ndarray,
    other: np.ndarray | None,
    layer: Layer8,
    out: np.ndarray,
) -> None:
    """Multiply by torch's product."""
    sums = trusted_int_mm()(torch.from_numpy(x), torch.from_numpy(layer.codes).t()).numpy()
    current_backend().dequantize_sums(
        sums[: len(out)], row_scale, layer.scale, other, layer.bias, out, _team(x.size)
    )


def by_padded(
    x: np.ndarray,
    row_scale: np.ndarray,
    other: np.ndarray | None,
    layer: Layer8,
    out: np.ndarray,
) -> None:
    """Multiply by torch's product of as many rows as it is fast for."""
    padded = np.zeros((INT_MM_ROWS, x.shape[1]), np.int8)
    padded[: len(x)] = x
    by_int_mm(padded, row_scale, other, layer, out)


def by_kernel(
    x: np.ndarray,
    row_scale: np.ndarray,
    other: np.ndarray | None,
    layer: Layer8,
    out: np.ndarray,
) -> None:
    """Multiply by the backend, on as many threads as torch's."""
    current_backend().int8_linear(
        x,
        layer.codes,
        row_scale,
        layer.scale,
        other,
        layer.bias,
        out,
        _team(x.size * len(layer.codes)),
    )


def _team(products: int) -> Team:
    """Return torch's threads: others would have to share the cores with them, which spin."""
    threads = torch.get_num_threads()
    # The OpenMP runtime does not survive a fork: in a child it waits for its parent's threads.
    if threads == 1 or products < TEAM_PRODUCTS or os.getpid() != _PROCESS:
        return ALONE
    return Team(_gomp_parallel(), threads)


@functools.cache
def _gomp_parallel() -> int:
    """Return the address of GOMP_parallel in the OpenMP runtime that torch has loaded, or 0."""
    for name in ("libgomp.so.1", "libiomp5.so", "libomp.so"):
        try:
            loaded = ctypes.CDLL(name, os.RTLD_NOLOAD)
            return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value or 0
        except (AttributeError, OSError):
            continue
    return 0
