"""The C kernel: the only importer of ``floatfmt._native``.

One `Native` an instruction-set level, with the functions of `reference.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..formats import Format, format
from ..interop import SLAB
from .reference import Float64

try:
    from floatfmt._native import ffi, lib
except ImportError:  # installed without a compiler
    ffi = lib = None

__all__ = ["LEVELS", "Native", "compiler", "supported_levels"]

#: Names of the instruction-set levels, slowest first, by their `enum ff_isa`.
LEVELS = {"baseline": 0, "avx2": 1, "avx512": 2}
_TYPES = {"fp64": 0, "fp32": 1, "fp16": 2, "bf16": 3}


def supported_levels() -> tuple[str, ...]:
    """Return the levels that are built in and that this machine runs, slowest first."""
    if lib is None:
        return ()
    return tuple(name for name, isa in LEVELS.items() if lib.ff_isa_supported(isa))


def compiler() -> str | None:
    """Return the name and version of the compiler that built the C kernel."""
    return None if lib is None else ffi.string(lib.ff_compiler()).decode()


def _pointer(array: np.ndarray) -> Any:
    # ml_dtypes arrays have no buffer interface; their bytes do.
    return ffi.from_buffer(array if array.dtype.kind in "fiu" else array.view(np.uint8))


_c_formats: dict[Format, Any] = {}


def _c_format(fmt: Format) -> Any:
    if fmt not in _c_formats:
        fields = (fmt.exponent_bits, fmt.fraction_bits, fmt.bias)
        _c_formats[fmt] = ffi.new("struct ff_format *", fields)
    return _c_formats[fmt]


def _type(array: np.ndarray) -> int:
    return _TYPES[format(array.dtype).name]


def _within_fp32_binades(fmt: Format) -> bool:
    """Return whether the 32-bit encoder and decoder know the format; the 64-bit ones know all."""
    return fmt.bias <= 127 and fmt.fraction_bits <= 23 and fmt.bits <= 32


def _slabs(values: np.ndarray) -> Iterator[slice]:
    """Cut a 1-D array where a step needs temporaries."""
    return (slice(start, start + SLAB) for start in range(0, values.size, SLAB))


class Native:
    """The C kernel at one instruction-set level; see `reference.py` for each function."""

    def __init__(self, level: str) -> None:
        self._isa = LEVELS[level]

    @contextmanager
    def float_environment(self) -> Iterator[None]:
        """Run NumPy arithmetic with subnormals and to nearest, whatever the process set."""
        saved = lib.ff_default_float_environment()
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            lib.ff_restore_float_environment(saved)

    def decompose(
        self,
        codes: np.ndarray,
        fmt: Format,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
    ) -> None:
        pointers = map(_pointer, (codes, sign, exponent, fraction))
        lib.ff_decompose(self._isa, _c_format(fmt), *pointers, codes.size)

    def compose(
        self,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
        fmt: Format,
        codes: np.ndarray,
    ) -> bool:
        pointers = map(_pointer, (sign, exponent, fraction, codes))
        return not lib.ff_compose(self._isa, _c_format(fmt), *pointers, codes.size)

    def encode(self, values: np.ndarray, fmt: Format, codes: np.ndarray) -> None:
        source = format(values.dtype)
        if source.name != "fp64" and not _within_fp32_binades(fmt):
            for part in _slabs(values):
                wide = np.empty(values[part].shape, np.float64)
                self.decode(values[part].view(source.code_dtype), source, wide)
                self.encode(wide, fmt, codes[part])
            return
        lib.ff_encode(
            self._isa,
            _type(values),
            _c_format(fmt),
            _pointer(values),
            _pointer(codes),
            codes.size,
        )

    def decode(self, codes: np.ndarray, fmt: Format, values: np.ndarray) -> None:
        lib.ff_decode(
            self._isa,
            _type(values),
            _c_format(fmt),
            _pointer(codes),
            _pointer(values),
            codes.size,
        )

    def round_to(self, values: np.ndarray, fmt: Format, out: np.ndarray) -> None:
        if values.dtype == np.float32 and not _within_fp32_binades(fmt):
            for part in _slabs(values):
                shape = values[part].shape
                codes, wide = np.empty(shape, fmt.code_dtype), np.empty(shape)
                self.encode(values[part], fmt, codes)
                self.decode(codes, fmt, wide)
                self.encode(wide, format("fp32"), out[part].view(np.uint32))
            return
        lib.ff_round_to(
            self._isa,
            _type(values),
            _c_format(fmt),
            _pointer(values),
            _pointer(out),
            values.size,
        )

    def amax(self, x: np.ndarray) -> Float64:
        amax = np.empty(x.shape[1])
        lib.ff_amax(self._isa, _type(x), _pointer(x), *x.shape, _doubles(amax))
        return amax

    def minmax(self, x: np.ndarray) -> tuple[Float64, Float64]:
        low, high = np.empty(x.shape[1]), np.empty(x.shape[1])
        lib.ff_minmax(self._isa, _type(x), _pointer(x), *x.shape, _doubles(low), _doubles(high))
        return low, high

    def absmax_scale(self, amax: Float64, scale_format: Format, qmax: int = 127) -> Float64:
        scale = np.empty_like(amax)
        lib.ff_absmax_scale(
            self._isa, _c_format(scale_format), _doubles(amax), qmax, _doubles(scale), amax.size
        )
        return scale

    def zeropoint_parameters(
        self, low: Float64, high: Float64, scale_format: Format, qmin: int = -128, qmax: int = 127
    ) -> tuple[Float64, Float64]:
        scale, zero_point = np.empty_like(low), np.empty_like(low)
        lib.ff_zeropoint_parameters(
            self._isa,
            _c_format(scale_format),
            _doubles(low),
            _doubles(high),
            qmin,
            qmax,
            _doubles(scale),
            _doubles(zero_point),
            low.size,
        )
        return scale, zero_point

    def quantize(
        self,
        x: np.ndarray,
        scale: Float64,
        zero_point: Float64,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> int:
        clamped: int = lib.ff_quantize(
            self._isa,
            _type(x),
            _pointer(x),
            *x.shape,
            _doubles(scale),
            _doubles(zero_point),
            qmin,
            qmax,
            ffi.from_buffer("int8_t[]", codes),
        )
        return clamped

    def dequantize(
        self, codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray
    ) -> None:
        lib.ff_dequantize(
            self._isa,
            _type(out),
            ffi.from_buffer("int8_t[]", codes),
            *codes.shape,
            _doubles(scale),
            _doubles(zero_point),
            _pointer(out),
        )


def _doubles(array: Float64) -> Any:
    return ffi.from_buffer("double[]", array)
