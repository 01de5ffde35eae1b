"""A backend's function over arrays: strides, byte order and memory are seen to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backends import Backend, current_backend, runs_reference
from .interop import is_plain, memory_order, plain, slabs

__all__ = ["run"]


def run(
    kernel: Callable[..., bool | None],
    inputs: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray, ...],
    *more: Any,
    whole: bool = True,
    in_order: bool = False,
    fresh: bool = False,
) -> bool:
    """Call ``kernel(backend, start, *inputs, *outputs, *more)``, piece by piece if it must be.

    With `whole`, a C kernel gets plain arrays in one call; else arrays come in slabs, copied as far
    as needed, so that temporaries stay small. The reference makes temporaries of its arguments'
    size, so it always gets slabs. With `in_order`, pieces follow C order and `start` is the flat
    index of a piece's first element; without, it means nothing. `fresh` outputs are new and lie as
    the first input does. Returns whether no call returned False.
    """
    backend = current_backend()
    whole = whole and not runs_reference(backend)
    if whole and all(map(is_plain, inputs if fresh else (*inputs, *outputs))):
        # The kernel reads memory, whatever the shape, and sees to the floating-point environment.
        return kernel(backend, 0, *inputs, *outputs, *more) is not False
    order = tuple(range(inputs[0].ndim)) if in_order else memory_order(inputs[0])
    inputs = tuple(array.transpose(order) for array in inputs)
    outputs = tuple(array.transpose(order) for array in outputs)
    with backend.float_environment():
        if whole and all(map(is_plain, (*inputs, *outputs))):
            return kernel(backend, 0, *inputs, *outputs, *more) is not False
        return _run_in_slabs(kernel, backend, inputs, outputs, more)


def _run_in_slabs(
    kernel: Callable[..., bool | None],
    backend: Backend,
    inputs: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray, ...],
    more: tuple[Any, ...],
) -> bool:
    fine, start = True, 0
    for index in slabs(inputs[0].shape):
        views = [out[index] for out in outputs]
        pieces = [v if is_plain(v) else np.empty(v.shape, v.dtype.newbyteorder("=")) for v in views]
        plains = (*(plain(array[index]) for array in inputs), *pieces)
        flat = (array.reshape(-1) for array in plains)
        fine &= kernel(backend, start, *flat, *more) is not False
        start += pieces[0].size
        for view, piece in zip(views, pieces, strict=True):
            if piece is not view:
                view[...] = piece
    return fine
