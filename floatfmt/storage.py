"""What of a `Quantized` goes into a file: its arrays by key, and all else as JSON.

The key of the codes is "", for they stand under the tensor's own name.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .formats import format
from .quantize import INT8, Quantized

__all__ = ["Part", "description", "layout", "parts", "restore"]

FP32, FP64, INT64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


class Part(NamedTuple):
    """What one array is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def layout(
    shape: tuple[int, ...], dtype: np.dtype[Any], *, scheme: str, axis: int | None = None
) -> dict[str, Part]:
    """Return what quantising x of that shape and dtype stores, without x.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.storage import layout
    >>> {k: p.shape for k, p in layout((4, 6), np.dtype("f4"), scheme="absmax", axis=0).items()}
    {'': (4, 6), 'scale': (4, 1)}
    """
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} is out of range for an array of {len(shape)} dimensions")
    axis = None if axis is None else axis % len(shape)
    kept = () if axis is None else tuple(n if a == axis else 1 for a, n in enumerate(shape))
    stored = {"": Part(INT8, shape), "scale": Part(FP64 if dtype == FP64 else FP32, kept)}
    return stored if scheme == "absmax" else {**stored, "zero_point": Part(INT64, kept)}


def parts(q: Quantized) -> dict[str, np.ndarray]:
    """Return the arrays, as `layout` describes them."""
    stored = {"": np.asarray(q.codes), "scale": np.asarray(q.scale)}
    return stored if q.scheme == "absmax" else {**stored, "zero_point": np.asarray(q.zero_point)}


def description(q: Quantized) -> dict[str, object]:
    """Return everything else, ready for JSON."""
    return {
        "scheme": q.scheme,
        "axis": list(q.axis),
        "format": q.format.name,
        "saturated": q.saturated,
    }


def restore(arrays: dict[str, np.ndarray], described: dict[str, Any]) -> Quantized:
    """Return what `parts` and `description` were made of.

    Raises
    ------
    KeyError, TypeError, ValueError
        They do not go together.
    """
    codes, scale = arrays[""], arrays["scale"]
    zero_point = arrays.get("zero_point", np.zeros(scale.shape, np.int64))
    axis = tuple(map(int, described["axis"]))
    kept = tuple(n if a in axis else 1 for a, n in enumerate(codes.shape)) if axis else ()
    if codes.dtype != INT8 or not scale.shape == zero_point.shape == kept:
        raise ValueError(f"{codes.dtype} codes of shape {codes.shape}, scale of {scale.shape}")
    if math.prod(codes.shape) and not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError("a scale is not positive and finite")
    return Quantized(
        codes=codes,
        scale=scale,
        zero_point=zero_point,
        scheme=str(described["scheme"]),
        axis=axis,
        format=format(described["format"]),
        saturated=int(described["saturated"]),
    )
