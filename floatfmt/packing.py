"""Codes of fewer than 8 bits as they are stored: without gaps."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import interop
from .backends import current_backend
from .formats import Format, FormatLike
from .formats import format as as_format

__all__ = ["pack", "unpack"]

#: Which code of a byte takes its lowest bits. ONNX and torch pack 4-bit values "low_first",
#: bitsandbytes "high_first".
PACKING_ORDERS = ("low_first", "high_first")


def pack(codes: Any, format: FormatLike, *, order: str = "low_first") -> Any:
    """Pack codes of fewer than 8 bits without gaps, along the last axis.

    Parameters
    ----------
    codes : array
        Codes of the format, of one dimension or more.
    format : Format, str or dtype
        A format of at most 8 bits: 4-bit codes go two in a byte, 6-bit codes four in three bytes.
    order : {"low_first", "high_first"}
        Whether the first code takes the lowest or the highest bits of the first byte.

    Returns
    -------
    array of uint8
        The last axis has ``ceil(n * bits / 8)`` bytes; bits left over at its end are 0.

    Raises
    ------
    ValueError
        The format has more than 8 bits; a code is out of range; an unknown order.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> packed = ff.pack(np.uint8([1, 2, 3]), "fp4_e2m1fn")
    >>> packed, ff.unpack(packed, "fp4_e2m1fn", 3)
    (array([33,  3], dtype=uint8), array([1, 2, 3], dtype=uint8))
    """
    fmt, high_first = _packing(format, order)
    array = interop.plain(interop.codes_array(codes, fmt))
    if array.ndim == 0:
        raise ValueError("pack takes an array of one dimension or more, got 0-d")
    n = array.shape[-1]
    packed = np.empty((*array.shape[:-1], -(-n * fmt.bits // 8)), np.uint8)
    pack_into(array, packed, fmt.bits, high_first)
    return interop.like(packed, codes)


def unpack(
    packed: Any, format: FormatLike, n: int | None = None, *, order: str = "low_first"
) -> Any:
    """Unpack codes along the last axis: the inverse of `pack`.

    Parameters
    ----------
    packed : array of uint8
        What `pack` gave, in the same order.
    format : Format, str or dtype
        A format of at most 8 bits.
    n : int, optional
        How many codes the last axis holds; as many as fit by default, which counts those that
        filled up the last byte.
    order : {"low_first", "high_first"}
        As in `pack`.

    Returns
    -------
    array of uint8 codes

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.unpack(np.uint8([0x21, 0x43]), "int4", order="high_first")
    array([2, 1, 4, 3], dtype=uint8)
    """
    fmt, high_first = _packing(format, order)
    array = interop.plain(interop.to_numpy(packed))
    if array.dtype != np.uint8 or array.ndim == 0:
        raise TypeError(
            f"expected packed bytes (an array of uint8), got {interop.describe(packed)}"
        )
    room = array.shape[-1] * 8 // fmt.bits
    count = room if n is None else operator.index(n)
    if not 0 <= count <= room or -(-count * fmt.bits // 8) != array.shape[-1]:
        raise ValueError(f"{array.shape[-1]} bytes do not hold {n} codes of {fmt.bits} bits")
    codes = np.empty((*array.shape[:-1], count), np.uint8)
    unpack_into(array, codes, fmt.bits, high_first)
    return interop.like(codes, packed)


def pack_into(codes: np.ndarray, packed: np.ndarray, bits: int, high_first: bool = False) -> None:
    """Pack plain arrays of bytes; what negative codes have above their bits is left out."""
    backend = current_backend()
    for source, target in _rows_to_pack(codes, packed, bits):
        backend.pack(source, target, bits, high_first)


def unpack_into(packed: np.ndarray, codes: np.ndarray, bits: int, high_first: bool = False) -> None:
    """Undo `pack_into`: negative codes come back without their sign."""
    backend = current_backend()
    for target, source in _rows_to_pack(codes, packed, bits):
        backend.unpack(source, target, bits, high_first)


def _packing(which: FormatLike, order: str) -> tuple[Format, bool]:
    fmt = as_format(which)
    if fmt.bits > 8:
        raise ValueError(f"packing is for codes of at most 8 bits; {fmt} has {fmt.bits}")
    if order not in PACKING_ORDERS:
        raise ValueError(f"order must be one of {', '.join(PACKING_ORDERS)}, got {order!r}")
    return fmt, order == "high_first"


def _rows_to_pack(
    codes: np.ndarray, packed: np.ndarray, bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield 1-D pairs: everything at once where rows end at bytes, else row by row."""
    if codes.shape[-1] * bits % 8 == 0:
        yield codes.reshape(-1), packed.reshape(-1)
        return
    rows = codes.reshape(-1, codes.shape[-1]), packed.reshape(-1, packed.shape[-1])
    yield from zip(*rows, strict=True)
