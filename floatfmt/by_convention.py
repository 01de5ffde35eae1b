"""Quantising as another library does, with a result like floatfmt's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import interop
from .convention import (
    Convention,
    ConventionLike,
    conventions,
    find,
    given_scheme,
    quantized,
)
from .convention_words import CODEBOOKS
from .elements import Codebook, Elements, Integers
from .formats import format
from .groups import AxisGroups, BlockGroups, Groups
from .packing import pack_into
from .quantized import Quantized

__all__ = ["quantize_as"]


def quantize_as(
    x: Any,
    convention: ConventionLike,
    scheme: str | None,
    *,
    signed: bool | None = None,
    scale: Any = None,
    zero_point: Any = None,
    axis: Any = None,
    block: int | None = None,
) -> Quantized:
    """Return what `quantize` does with ``convention=``; the arguments are those of that."""
    row = find(convention)
    if row not in conventions():
        raise ValueError(
            f"{row.name} is a convention of your own, which results cannot name; use"
            " floatfmt.convention.quantized"
        )
    names = [s.name for s in row.schemes]
    if scheme is not None and scheme not in names:
        known = ", ".join(names) or "none: give a scale"
        raise ValueError(f"{row.name} has no scheme {scheme!r}; it has {known}")
    if signed is not None and row.codebook:
        raise TypeError(f"signed= is for integers; {row.name} has its own codes")
    dtype = None if signed is None or row.codebook else ("int8" if signed else "uint8")
    kept = interop.kept_axes(axis, len(np.shape(x)))
    _check_axis(row, kept)
    channel = kept[0] if kept else 0
    found = quantized(
        *(x, row, scheme),
        scale=scale,
        zero_point=zero_point,
        dtype=dtype,
        axis=channel,
        block=block,
    )
    groups = _groups_of(row, found.codes.shape, channel, block)
    elements = _elements(row, found.codes.dtype)
    packed = found.codes
    if elements.bits < 8:
        *lead, n = groups.rows_in_order
        packed = np.empty((*lead, -(-n * elements.bits // 8)), np.uint8)
        pack_into(found.codes.reshape(groups.rows_in_order), packed, elements.bits)
    zeros = None
    if isinstance(elements, Integers):
        zeros = interop.like(found.zero_point.reshape(groups.scale_shape), x)
    return Quantized(
        packed=interop.like(packed, x),
        scale=interop.like(found.scale.reshape(groups.scale_shape), x),
        zero_point=zeros,
        scheme=given_scheme(row).name if scale is not None else scheme or names[0],
        elements=elements,
        axis=groups.axes,
        block=groups.block,
        block_axis=groups.axis,
        shape=found.codes.shape,
        format=format(interop.to_numpy(x).dtype),
        saturated=0,
        convention=row.name,
    )


def _check_axis(row: Convention, kept: tuple[int, ...]) -> None:
    if row.over == "channel" and len(kept) != 1:
        raise ValueError(f"{row.name} has a scale for every index of one axis; give axis=")
    if row.over != "channel" and kept:
        raise ValueError(f"axis={kept}: {row.name} has a scale for every {row.over}")


def _groups_of(row: Convention, shape: tuple[int, ...], channel: int, block: int | None) -> Groups:
    if row.over == "tensor":
        return AxisGroups(shape, ())
    if row.over == "row":
        return AxisGroups(shape, tuple(range(len(shape) - 1)))
    if row.over == "channel":
        return AxisGroups(shape, (channel,))
    return BlockGroups(
        shape, int(row.over.removeprefix("block of ")) if block is None else block, None
    )


def _elements(row: Convention, dtype: np.dtype) -> Elements:
    if row.codebook:
        return Codebook(CODEBOOKS[row.codebook].tolist(), row.codebook)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return Integers(8, dtype.kind == "i", int(low), int(high))
