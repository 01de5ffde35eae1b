"""A backend's function over arrays: strides, byte order and memory are seen to."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from . import interop
from .backends import current_backend, runs_reference

__all__ = ["run"]


def run(
    kernel: Callable[..., bool | None],
    inputs: tuple[np.ndarray, ...],
    outputs: tuple[np.ndarray, ...],
    *,
    whole: bool = True,
    in_order: bool = False,
) -> bool:
    """Call ``kernel(backend, start, *inputs, *outputs)`` over arrays; False if any returned it.

    The reference makes temporaries of its arguments' size, so it never gets an array whole. A C
    kernel on whole arrays sees to the floating-point environment itself.
    """
    backend = current_backend()
    is_reference = runs_reference(backend)
    arrays = (*inputs, *outputs)
    if whole and not is_reference and all(map(interop.is_plain, arrays)):
        return kernel(backend, 0, *(array.reshape(-1) for array in arrays)) is not False
    with backend.float_environment():
        return interop.stream(
            functools.partial(kernel, backend),
            inputs,
            outputs,
            whole=whole and not is_reference,
            in_order=in_order,
        )
