"""Codes in memory, packed or one a byte; and pieces of values becoming codes and values again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import interop
from .backends import Backend, Float64
from .elements import UINT8, Codebook, Elements, Integers, intervals, limits, saturating, table
from .formats import Format
from .groups import Groups
from .packing import pack_into, unpack_into

__all__ = [
    "CodeReader",
    "CodeWriter",
    "DiscardedCodes",
    "code_dtype",
    "decode_piece",
    "encode_piece",
    "is_compared",
    "packed_shape",
    "quotients",
    "stored_codes",
]

#: Formats of no more bits become codes by comparing, faster than by rounding.
COMPARED_BITS = 4
#: Thresholds times a smaller scale might be subnormal, and so too coarse to compare with.
LEAST_COMPARED_SCALE = 2.0**-900


def code_dtype(elements: Elements) -> np.dtype:
    return UINT8 if isinstance(elements, Format) else elements.code_dtype


def _bytes_of(stored: np.ndarray, index: Any, bits: int, rows: tuple[int, ...]) -> np.ndarray:
    """Return the bytes that hold the codes of a section of whole rows, or of part of one."""
    if len(index) < len(rows) or index[-1] is Ellipsis:
        return stored[index]
    *lead, last = index
    return stored[(*lead, slice(last.start * bits // 8, -(-min(last.stop, rows[-1]) * bits // 8)))]


def _unpacked(stored: np.ndarray, elements: Elements, n: int) -> np.ndarray:
    codes = np.empty((*stored.shape[:-1], n), np.uint8)
    unpack_into(interop.plain(stored), codes, elements.bits)
    if isinstance(elements, Integers) and elements.signed:
        sign = np.uint8(1 << (elements.bits - 1))
        np.bitwise_xor(codes, sign, out=codes)
        np.subtract(codes, sign, out=codes)
        return codes.view(np.int8)
    return codes


def packed_shape(rows: tuple[int, ...], bits: int) -> tuple[int, ...]:
    return (*rows[:-1], -(-rows[-1] * bits // 8))


def stored_codes(elements: Elements, groups: Groups, values: np.ndarray, out: Any) -> np.ndarray:
    """Return an array for the codes of `values`, packed if they are; `out`, if it is given."""
    if elements.bits == 8:
        return interop.checked_out(out, code_dtype(elements), values)
    shape = packed_shape(groups.rows_in_order, elements.bits)
    return interop.checked_out(out, UINT8, values, shape=shape)


class CodeWriter:
    """Where the codes go: an array of them, or of bytes in which they are packed."""

    def __init__(self, elements: Elements, groups: Groups, values: np.ndarray, out: Any) -> None:
        self.elements, self.groups, self.dtype = elements, groups, code_dtype(elements)
        self.is_packed = elements.bits < 8
        blocked = groups.block is not None
        flat = blocked and groups.axis is None
        self.rows = groups.rows_in_order
        #: An array of all codes, where sections cannot be stored as they come.
        self.all: np.ndarray | None = None
        self.stored = stored_codes(elements, groups, values, out)
        if self.is_packed:
            in_rows = not blocked or groups.axis in (None, values.ndim - 1)
            self.all = None if in_rows else np.empty(values.shape, self.dtype)
        else:
            in_rows = not flat or self.stored.flags.c_contiguous
            self.all = self.stored if in_rows else np.empty(values.shape, self.dtype)
        self._shape = values.shape
        self._scratch = np.empty(0, self.dtype)

    def whole(self) -> np.ndarray:
        """Return an array for all codes, in the values' shape."""
        if self.all is None:
            self.all = np.empty(self._shape, self.dtype)
        return self.all

    def section(self, index: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array for the codes of a section."""
        if self.all is not None:
            return self.groups.view(self.all)[index]
        size = math.prod(shape)
        if self._scratch.size < size:
            self._scratch = np.empty(size, self.dtype)
        return self._scratch[:size].reshape(shape)

    def done(self, index: Any, codes: np.ndarray) -> None:
        """Store a section's codes, if `section` gave them an array of their own."""
        if self.all is None:
            self._pack(codes, _bytes_of(self.stored, index, self.elements.bits, self.rows))

    def finish(self) -> None:
        """Store what could not be stored section by section."""
        if self.all is None or self.all is self.stored:
            return
        if self.is_packed:
            self._pack(self.all.reshape(self.rows), self.stored)
        else:
            self.stored[...] = self.all

    def _pack(self, codes: np.ndarray, target: np.ndarray) -> None:
        packed = target if interop.is_plain(target) else np.empty(target.shape, np.uint8)
        pack_into(np.atleast_1d(codes).view(np.uint8), packed, self.elements.bits)
        if packed is not target:
            target[...] = packed


class DiscardedCodes(CodeWriter):
    """Codes that are looked at part by part and then forgotten."""

    def __init__(self, elements: Elements, groups: Groups, values: np.ndarray) -> None:
        self.elements, self.groups, self.dtype = elements, groups, code_dtype(elements)
        self.is_packed = True  # parts are small, as those that are packed
        self.all = None
        self.rows, self._shape = groups.rows_in_order, values.shape
        packed = packed_shape(self.rows, elements.bits)
        #: Of the shape that codes would be stored in, and of no size.
        self.stored = np.broadcast_to(np.uint8(0), values.shape if elements.bits == 8 else packed)
        self._scratch = np.empty(0, self.dtype)

    def done(self, index: Any, codes: np.ndarray) -> None:
        pass

    def finish(self) -> None:
        pass


class CodeReader:
    """Codes that are stored, section by section."""

    def __init__(self, stored: np.ndarray, elements: Elements, groups: Groups) -> None:
        self.stored, self.elements = stored, elements
        shape = groups.shape
        blocked = groups.block is not None
        self.rows = groups.rows_in_order
        in_rows = not blocked or groups.axis in (None, len(shape) - 1)
        #: All codes, where sections cannot be had from what is stored.
        self.all: np.ndarray | None = None
        if elements.bits == 8:
            self.all = groups.view(stored)
        elif not in_rows:
            self.all = groups.view(all_codes(stored, elements, groups))

    def section(self, index: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return the codes of a section."""
        if self.all is not None:
            return self.all[index]
        part = _bytes_of(self.stored, index, self.elements.bits, self.rows)
        return _unpacked(part, self.elements, shape[-1] if shape else 1).reshape(shape)


def all_codes(stored: np.ndarray, elements: Elements, groups: Groups) -> np.ndarray:
    """Return packed codes one a byte, in the values' shape."""
    return _unpacked(stored, elements, groups.rows_in_order[-1]).reshape(groups.shape)


# --- pieces -------------------------------------------------------------------------------------


def is_compared(elements: Elements) -> bool:
    """Return whether values become codes by comparing them with thresholds."""
    return isinstance(elements, Codebook) or (
        isinstance(elements, Format) and elements.bits <= COMPARED_BITS
    )


def encode_piece(
    elements: Elements,
    backend: Backend,
    x: np.ndarray,
    codes: np.ndarray,
    scale: Float64,
    zeros: Float64 | None,
) -> int:
    """Write the codes of a piece, to nearest, and return how many were clamped, or -1."""
    if isinstance(elements, Integers):
        assert zeros is not None
        return backend.quantize(x, scale, zeros, elements.qmin, elements.qmax, codes)
    if is_compared(elements):
        small = scale < LEAST_COMPARED_SCALE  # fp64's alone
        if small.any():
            if not np.isfinite(x).all():
                return -1
            x = np.where(small[:, None], quotients(x, scale[:, None]), x)
            scale = np.where(small, 1.0, scale)
        return backend.quantize_intervals(x, scale, intervals(elements), codes)
    assert isinstance(elements, Format)
    return backend.quantize_format(x, scale, saturating(elements), *limits(elements), codes)


def quotients(x: np.ndarray, scale: Float64) -> Float64:
    """Return finite x / scale by float64; the largest finite value beyond it, and 0 for 0 / 0."""
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(x.astype(np.float64) / scale))


def decode_piece(
    elements: Elements,
    backend: Backend,
    codes: np.ndarray,
    out: np.ndarray,
    scale: Float64,
    zeros: Float64 | None,
) -> None:
    if isinstance(elements, Integers):
        assert zeros is not None
        backend.dequantize(codes, scale, zeros, out)
    else:
        entries = len(elements.values) if isinstance(elements, Codebook) else 2**elements.bits
        backend.dequantize_table(codes, scale, table(elements), entries, out)
