"""The C kernel: the only importer of ``floatfmt._native``.

One `Native` an instruction-set level, with the functions of `reference.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np

from ..elements import ABOVE, AT_OR_ABOVE, BY_SIGN, Intervals, Scaling, limits, saturating
from ..formats import Format, format
from ..interop import SLAB
from ..rounding import Rounding, Rules, rules
from .reference import ALONE, Float64, FloatState, Stream, Team
from .threads import threads_for

try:
    from floatfmt._native import ffi, lib
except ImportError as error:  # installed without a compiler, or for another machine
    ffi = lib = None
    _why_missing: str | None = str(error)
else:
    _why_missing = None

from_buffer = ffi and ffi.from_buffer
_DOUBLES, _BYTES = (ffi and ffi.typeof(c_type) for c_type in ("double[]", "uint8_t[]"))

__all__ = [
    "LEVELS",
    "Native",
    "built_levels",
    "compile_flags",
    "compiler",
    "f16c",
    "float_state",
    "supported_levels",
    "why_missing",
]

#: Names of the instruction-set levels, slowest first, by their `enum ff_isa`.
LEVELS = {"baseline": 0, "avx2": 1, "avx512": 2}


def supported_levels() -> tuple[str, ...]:
    """Return the levels that are built in and that this machine runs, slowest first."""
    if lib is None:
        return ()
    return tuple(name for name, isa in LEVELS.items() if lib.ff_isa_supported(isa))


def built_levels() -> tuple[str, ...]:
    """Return the levels that are built in, whether or not this machine runs them."""
    if lib is None:
        return ()
    return tuple(name for name, isa in LEVELS.items() if lib.ff_isa_built(isa))


def compiler() -> str | None:
    """Return the name and version of the compiler that built the C kernel."""
    return None if lib is None else ffi.string(lib.ff_compiler()).decode()


def f16c(rounding: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return F16C's instruction in a rounding mode, as a function of fp32 values.

    Raises
    ------
    ValueError
        This machine, or the instruction, does not have it.
    """
    mode = _ROUNDINGS[Rounding(rounding)]

    def convert(values: np.ndarray) -> np.ndarray:
        values, codes = np.ascontiguousarray(values, np.float32), np.empty(values.shape, np.uint16)
        buffers = ffi.from_buffer("float[]", values), ffi.from_buffer("uint16_t[]", codes)
        if lib.ff_f16c(mode, *buffers, codes.size):
            raise ValueError(f"F16C does not round {rounding}, or this CPU has no F16C")
        return codes

    if lib is None:
        raise ValueError("F16C is asked through the C kernel, which is not installed")
    convert(np.zeros(1, np.float32))
    return convert


def compile_flags() -> str | None:
    """Return the flags that the compiler was given."""
    return None if lib is None else ffi.string(lib.ff_compile_flags()).decode()


def why_missing() -> str | None:
    """Return why the C kernel could not be loaded; None if it was."""
    return _why_missing


def float_state() -> FloatState:
    """Return how this thread's control register sets float arithmetic, and leave it so."""
    found = lib.ff_default_float_environment()
    default = lib.ff_default_float_environment()
    lib.ff_restore_float_environment(found)
    return _decoded(found, default)


def _decoded(register: int, default: int) -> FloatState:
    """Return what the bits of MXCSR (x86) or of FPCR (AArch64), whose default is 0, mean."""
    if default:
        ftz, daz = register >> 15 & 1, register >> 6 & 1
        direction = _MXCSR_DIRECTIONS[register >> 13 & 3]
    else:
        ftz, alternative, inputs = (register >> bit & 1 for bit in (24, 1, 0))  # FZ, AH, FIZ
        # FZ is about operands too, unless AH asks for the alternative handling.
        daz = inputs | (ftz & ~alternative)
        direction = _FPCR_DIRECTIONS[register >> 22 & 3]
    return FloatState(bool(ftz), bool(daz), direction)


_NEAREST, _ZERO = Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO
_UP, _DOWN = Rounding.TOWARD_POSITIVE, Rounding.TOWARD_NEGATIVE
_MXCSR_DIRECTIONS = (_NEAREST, _DOWN, _UP, _ZERO)
_FPCR_DIRECTIONS = (_NEAREST, _UP, _DOWN, _ZERO)


def _pointer(array: np.ndarray) -> Any:
    return _pointer_to(array.dtype)(array)


def _pointer_to(dtype: np.dtype) -> Callable[[np.ndarray], Any]:
    # ml_dtypes arrays have no buffer interface; their bytes do.
    return from_buffer if dtype.kind in "fiu" else _pointer_to_bytes


def _pointer_to_bytes(array: np.ndarray) -> Any:
    return from_buffer(array.reshape(-1).view(np.uint8))


_SIGNS = {(False, False): 0, (True, False): 1, (True, True): 2}
_NANS = {None: 0, "ieee": 1, "top": 2, "negative_zero": 3}
_ROUNDINGS = {mode: number for number, mode in enumerate(Rounding)}


@functools.lru_cache(maxsize=1024)
def _c_format(fmt: Format) -> Any:
    fields = (
        *(fmt.exponent_bits, fmt.fraction_bits, fmt.bias),
        *(_SIGNS[fmt.signed, fmt.twos_complement], _NANS[fmt.nan], fmt.infinity, fmt.zero),
    )
    return ffi.new("struct ff_format *", fields)


def _c_rules(how: Rules, source: Format) -> tuple[Any, Any]:
    """Return the C structs of a format and of the rules for values of `source`."""
    found = how.memo.get(source.name)
    if found is None:
        # Where nothing has to be rounded every mode is the default one, which has faster loops.
        exact = how.format.holds(source)
        plain = how.with_rounding(Rounding.NEAREST_EVEN) if exact else how
        found = how.memo[source.name] = _c_format(how.format), _new_c_rules(plain)
    return found


def _usual_encoding(how: Rules, dtype: np.dtype) -> tuple[int, np.dtype, Any]:
    """Return the `enum ff_type` of values, the codes' dtype and what `_c_rules` gives.

    The number is negative if `Native.encode_plain` has none.
    """
    if dtype not in _TYPES or how.rounding is Rounding.STOCHASTIC:
        return -1, how.code_dtype, None
    number, source = _TYPES[dtype]
    found = how.memo[dtype.str] = number, how.code_dtype, _c_rules(how, source)
    return found


def _new_c_rules(how: Rules) -> Any:
    fields = {
        "rounding": _ROUNDINGS[how.rounding],
        "is_ieee": how.with_rounding(Rounding.NEAREST_EVEN).is_default,
        "flushes": how.flushes,
        "nan_is_error": how.nans is None,
        "keeps_payload": how.keeps_payload,
        "quiets": how.quiets,
        "limit": how.limit,
        "overflow": how.overflows,
        "infinity": how.infinity,
        "zero": how.zero,
        "nan": how.nans or (0, 0),
    }
    return ffi.new("struct ff_rules *", fields)


#: Array dtypes by their `enum ff_type`, and the formats of their values.
_TYPES = {
    np.dtype(fmt.dtype): (number, fmt)
    for number, fmt in enumerate(map(format, ("fp64", "fp32", "fp16", "bf16")))
}


FP64, FLOAT64 = format("fp64"), np.dtype(np.float64)
#: By their `enum ff_power_rule`.
_POWER_RULES = {"floor": 0, "ceil": 1, "even": 2, "rceil": 3}


def _type(array: np.ndarray) -> int:
    return _TYPES[array.dtype][0]


def _slabs(values: np.ndarray) -> Iterator[slice]:
    """Cut a 1-D array where a step needs temporaries."""
    return (slice(start, start + SLAB) for start in range(0, values.size, SLAB))


#: Takes plain values and an array for codes, of any shape, and what it has no use for; returns
#: scales, None for zero points that are all 0, and what was clamped.
AbsmaxPass: TypeAlias = Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, None, int]]

#: The same with zero points, and with scales and zero points that may be given.
ZeropointPass: TypeAlias = Callable[
    [np.ndarray, np.ndarray, Any], tuple[np.ndarray, "np.ndarray | None", int]
]


class _FloatEnvironment(AbstractContextManager[None]):
    """A class, because a generator with ``contextmanager`` takes as long as a small array does."""

    def __enter__(self) -> None:
        self._saved = lib.ff_default_float_environment()
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._errors.__exit__(*raised)
        lib.ff_restore_float_environment(self._saved)


class Native:
    """The C kernel at one instruction-set level; see `reference.py` for each function."""

    def __init__(self, level: str) -> None:
        self._isa = LEVELS[level]

    def float_environment(self) -> AbstractContextManager[None]:
        """Run NumPy arithmetic with subnormals and to nearest, whatever the process set."""
        return _FloatEnvironment()

    def cast(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        return _cast(values, dtype)

    def decompose(
        self,
        codes: np.ndarray,
        fmt: Format,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
    ) -> None:
        lib.ff_decompose(
            self._isa,
            _c_format(fmt),
            from_buffer(codes),
            from_buffer(sign),
            from_buffer(exponent),
            from_buffer(fraction),
            codes.size,
            threads_for(codes.size),
        )

    def compose(
        self,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
        fmt: Format,
        codes: np.ndarray,
    ) -> bool:
        pointers = map(_pointer, (sign, exponent, fraction, codes))
        n = codes.size
        return not lib.ff_compose(self._isa, _c_format(fmt), *pointers, n, threads_for(n))

    def encode_plain(
        self, values: np.ndarray, how: Rules, out: np.ndarray | None
    ) -> np.ndarray | None:
        """Encode into a new array or `out`, in the fewest steps; C looks whether memory overlaps.

        None where that is not all there is to do, and then `out` means nothing: arrays that do not
        lie plain and apart, other types or shapes, stochastic rounding, a NaN that is an error.
        """
        dtype = values.dtype
        if dtype.kind != "f" or not values.flags.c_contiguous:
            return None
        usual = how.memo.get(dtype.str)
        if usual is None:
            usual = _usual_encoding(how, dtype)
        number, code_dtype, structs = usual
        codes = np.empty(values.shape, code_dtype) if out is None else out
        if number < 0 or codes.dtype != code_dtype or codes.shape != values.shape:
            return None
        try:
            target = from_buffer(_BYTES, codes, True)
        except ValueError:  # not contiguous, or read-only
            return None
        source, n = from_buffer(values), values.size
        failed = lib.ff_encode(self._isa, number, *structs, 0, 0, source, target, n, threads_for(n))
        return None if failed else codes

    def encode(
        self, values: np.ndarray, how: Rules, codes: np.ndarray, random: Stream | None = None
    ) -> bool:
        seed, start = random or (0, 0)
        number, source = _TYPES[values.dtype]
        failed = lib.ff_encode(
            self._isa,
            number,
            *_c_rules(how, source),
            seed,
            start,
            _pointer(values),
            _pointer(codes),
            codes.size,
            threads_for(codes.size),
        )
        assert failed >= 0, "values and codes are apart and aligned"
        return not failed

    def decode_plain(
        self, codes: np.ndarray, fmt: Format, dtype: np.dtype, out: np.ndarray | None
    ) -> np.ndarray | None:
        """Decode into a new array or `out`, in the fewest steps; None as `encode_plain`.

        `codes` are of the format's dtype, of which every one is a code of the format.
        """
        if not codes.flags.c_contiguous:
            return None
        values = np.empty(codes.shape, dtype) if out is None else out
        if values.dtype != dtype or values.shape != codes.shape:
            return None
        try:
            target = from_buffer(_BYTES, values, True)
        except ValueError:
            return None
        source, number, n = from_buffer(codes), _TYPES[dtype][0], codes.size
        failed = lib.ff_decode(self._isa, number, _c_format(fmt), source, target, n, threads_for(n))
        return None if failed else values

    def decode(self, codes: np.ndarray, fmt: Format, values: np.ndarray) -> None:
        failed = lib.ff_decode(
            self._isa,
            _type(values),
            _c_format(fmt),
            _pointer(codes),
            _pointer(values),
            codes.size,
            threads_for(codes.size),
        )
        assert not failed, "codes and values are apart and aligned"

    def round_to(
        self, values: np.ndarray, how: Rules, out: np.ndarray, random: Stream | None = None
    ) -> bool:
        seed, start = random or (0, 0)
        if values.dtype == np.float32 and how.format.value_dtype != np.float32:
            return self._round_to_through_double(values, how, out, seed, start)
        return not lib.ff_round_to(
            self._isa,
            _type(values),
            *_c_rules(how, format(values.dtype)),
            seed,
            start,
            _pointer(values),
            _pointer(out),
            values.size,
            threads_for(values.size),
        )

    def _round_to_through_double(
        self, values: np.ndarray, how: Rules, out: np.ndarray, seed: int, start: int
    ) -> bool:
        """Round fp32 to a format that the 32-bit decoder does not know; fp32 holds the result."""
        fine = True
        back = rules(format("fp32"), nan="preserve")
        for part in _slabs(values):
            piece = values[part]
            codes, wide = np.empty(piece.shape, how.format.code_dtype), np.empty(piece.shape)
            fine &= self.encode(piece, how, codes, (seed, start + part.start))
            self.decode(codes, how.format, wide)
            self.encode(wide, back, out[part].view(np.uint32))
        return fine

    def pack(self, codes: np.ndarray, packed: np.ndarray, bits: int, high_first: bool) -> None:
        n = codes.size
        at = _bytes(codes), _bytes(packed)
        lib.ff_pack(self._isa, *at, bits, high_first, n, threads_for(n))

    def unpack(self, packed: np.ndarray, codes: np.ndarray, bits: int, high_first: bool) -> None:
        n = codes.size
        at = _bytes(packed), _bytes(codes)
        lib.ff_unpack(self._isa, *at, bits, high_first, n, threads_for(n))

    def amax(self, x: np.ndarray) -> Float64:
        amax = np.empty(x.shape[1])
        lib.ff_amax(self._isa, _type(x), _pointer(x), *x.shape, _doubles(amax), threads_for(x.size))
        return amax

    def minmax(self, x: np.ndarray) -> tuple[Float64, Float64]:
        low, high = np.empty(x.shape[1]), np.empty(x.shape[1])
        ends = _doubles(low), _doubles(high)
        lib.ff_minmax(self._isa, _type(x), _pointer(x), *x.shape, *ends, threads_for(x.size))
        return low, high

    def absmax_scale(self, amax: Float64, scale_format: Format, largest: float = 127) -> Float64:
        scale = np.empty_like(amax)
        lib.ff_absmax_scale(
            self._isa, _c_format(scale_format), _doubles(amax), largest, _doubles(scale), amax.size
        )
        return scale

    def power_scale(self, amax: Float64, rule: str, largest: float, fraction_bits: int) -> Float64:
        scale = np.empty_like(amax)
        lib.ff_power_scale(
            self._isa,
            _POWER_RULES[rule],
            largest,
            fraction_bits,
            _doubles(amax),
            _doubles(scale),
            amax.size,
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
            _bytes(codes),
            threads_for(x.size),
        )
        return clamped

    def quantize_absmax(
        self,
        x: np.ndarray,
        how: Scaling,
        elements: int | Intervals | Format,
        packs: bool,
        codes: np.ndarray,
    ) -> tuple[Float64, int]:
        _, channels, inner = x.shape
        quantize, what = _by_absmax(how, elements, packs, is_stored=False)
        scale = np.empty(channels)
        clamped: int = quantize(
            self._isa,
            _type(x),
            _pointer(x),
            channels,
            inner,
            *what,
            from_buffer(scale),
            _bytes(codes),
            threads_for(x.size),
        )
        return scale, clamped

    def absmax_pass(
        self,
        dtype: np.dtype,
        shape: tuple[int, ...],
        how: Scaling,
        elements: int | Intervals | Format,
        packs: bool,
        scale_shape: tuple[int, ...],
        scale_dtype: np.dtype,
    ) -> AbsmaxPass:
        """Return `quantize_absmax` with all settled but the memory of x and of the codes.

        `scale_dtype` is that of the scales' format.
        """
        quantize, what = _by_absmax(how, elements, packs, is_stored=True)
        isa, number, size = self._isa, _TYPES[dtype][0], math.prod(shape)
        pointer, scale_pointer = _pointer_to(dtype), _pointer_to(scale_dtype)

        def run(x: np.ndarray, codes: np.ndarray, _: Any) -> tuple[np.ndarray, None, int]:
            scale = np.empty(scale_shape, scale_dtype)
            at = scale_pointer(scale), from_buffer(_BYTES, codes)
            clamped: int = quantize(
                isa, number, pointer(x), *shape[1:], *what, *at, threads_for(size)
            )
            return scale, None, clamped

        return run

    def zeropoint_pass(
        self,
        dtype: np.dtype,
        shape: tuple[int, ...],
        scale_format: Format,
        includes_zero: bool,
        qmin: int,
        qmax: int,
        scale_shape: tuple[int, ...],
        scale_dtype: np.dtype,
    ) -> ZeropointPass:
        """Return `quantize_range`, or `quantize` by what is given, but for the memory."""
        isa, number, pointer = self._isa, _TYPES[dtype][0], _pointer_to(dtype)
        channels, stored, size = shape[1], _stored(scale_dtype), math.prod(shape)
        ends, how = (qmin, qmax), (_c_format(scale_format), includes_zero, qmin, qmax)

        def run(
            x: np.ndarray, codes: np.ndarray, given: tuple[Float64, Float64] | None
        ) -> tuple[np.ndarray, np.ndarray | None, int]:
            scale, zeros = np.empty((2, channels)) if given is None else given
            at, to = (_doubles(scale), _doubles(zeros)), (_bytes(codes), threads_for(size))
            clamped: int
            if given is None:
                clamped = lib.ff_quantize_range(isa, number, pointer(x), *shape[1:], *how, *at, *to)
            else:
                clamped = lib.ff_quantize(isa, number, pointer(x), *shape, *at, *ends, *to)
            if clamped < 0:  # a value is not finite, and scales mean nothing
                return scale, None, clamped
            scale, zeros = stored(scale).reshape(scale_shape), zeros.reshape(scale_shape)
            return scale, zeros.astype(np.int64), clamped

        return run

    def quantize_range(
        self,
        x: np.ndarray,
        scale_format: Format,
        includes_zero: bool,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> tuple[Float64, Float64, int]:
        scale, zero_point = np.empty(x.shape[1]), np.empty(x.shape[1])
        clamped: int = lib.ff_quantize_range(
            self._isa,
            _type(x),
            _pointer(x),
            *x.shape[1:],
            _c_format(scale_format),
            includes_zero,
            qmin,
            qmax,
            _doubles(scale),
            _doubles(zero_point),
            _bytes(codes),
            threads_for(x.size),
        )
        return scale, zero_point, clamped

    def quantize_intervals(
        self, x: np.ndarray, scale: Float64, parts: Intervals, codes: np.ndarray
    ) -> int:
        clamped: int = lib.ff_quantize_intervals(
            self._isa,
            _type(x),
            _pointer(x),
            *x.shape,
            _doubles(scale),
            _c_intervals(parts),
            _bytes(codes),
            threads_for(x.size),
        )
        return clamped

    def quantize_format(
        self,
        x: np.ndarray,
        scale: Float64,
        how: Rules,
        low: float,
        high: float,
        codes: np.ndarray,
    ) -> int:
        clamped: int = lib.ff_quantize_format(
            self._isa,
            _type(x),
            _pointer(x),
            *x.shape,
            _doubles(scale),
            *_c_rules(how, FP64),
            low,
            high,
            _bytes(codes),
            threads_for(x.size),
        )
        return clamped

    def dequantize(
        self, codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray
    ) -> None:
        lib.ff_dequantize(
            self._isa,
            _type(out),
            _bytes(codes),
            codes.dtype == np.int8,
            *codes.shape,
            _doubles(scale),
            _doubles(zero_point),
            _pointer(out),
            threads_for(out.size),
        )

    def int8_product(self, x: np.ndarray, w: np.ndarray, sums: np.ndarray) -> None:
        _check_memory(lib.ff_int8_product(self._isa, *_int8_pair(x, w), _int32(sums)))

    def int8_linear(
        self,
        x: np.ndarray,
        w: np.ndarray,
        row_scale: Float64,
        column_scale: np.ndarray,
        other: Float64 | None,
        bias: np.ndarray | None,
        out: np.ndarray,
        team: Team = ALONE,
    ) -> None:
        values = _values_of_sums(row_scale, column_scale, other, bias, out, team)
        _check_memory(lib.ff_int8_linear(self._isa, *_int8_pair(x, w), *values))

    def dequantize_sums(
        self,
        sums: np.ndarray,
        row_scale: Float64,
        column_scale: np.ndarray,
        other: Float64 | None,
        bias: np.ndarray | None,
        out: np.ndarray,
        team: Team = ALONE,
    ) -> None:
        values = _values_of_sums(row_scale, column_scale, other, bias, out, team)
        lib.ff_dequantize_sums(self._isa, _int32(sums), *sums.shape, *values)

    def dequantize_table(
        self, codes: np.ndarray, scale: Float64, table: Float64, entries: int, out: np.ndarray
    ) -> None:
        lib.ff_dequantize_table(
            self._isa,
            _type(out),
            _bytes(codes),
            *codes.shape,
            _doubles(scale),
            _doubles(table),
            entries,
            _pointer(out),
            threads_for(out.size),
        )

    def dequantize_packed(
        self, packed: np.ndarray, scale: Float64, table: Float64, out: np.ndarray
    ) -> None:
        lib.ff_dequantize_packed(
            self._isa,
            _type(out),
            _bytes(packed),
            *out.shape[1:],
            _doubles(scale),
            _doubles(table),
            _pointer(out),
            threads_for(out.size),
        )


def _by_absmax(
    how: Scaling, elements: int | Intervals | Format, packs: bool, is_stored: bool
) -> tuple[Any, tuple[Any, ...]]:
    """Return what finds scales and codes in C, and its arguments from the shape to the scales."""
    scaling = _c_scaling(how, is_stored)
    if isinstance(elements, Format):
        what = _c_rules(saturating(elements), FP64)
        return lib.ff_quantize_format_absmax, (scaling, *what, *limits(elements))
    if isinstance(elements, Intervals):
        return lib.ff_quantize_intervals_absmax, (scaling, _c_intervals(elements), packs)
    return lib.ff_quantize_absmax, (scaling, elements, packs)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    saved = lib.ff_default_float_environment()
    try:
        return values.astype(dtype, copy=False)
    finally:
        lib.ff_restore_float_environment(saved)


def _stored(dtype: np.dtype) -> Callable[[Float64], np.ndarray]:
    """Return `cast` to a dtype of scales, of which no environment changes a normal one."""
    is_double = dtype == FLOAT64
    least_normal = math.inf if is_double else float(format(dtype).min_normal or 0)

    def store(scale: np.ndarray) -> np.ndarray:
        if scale.size == 1 and scale.item() >= least_normal:
            return scale.astype(dtype)
        return _cast(scale, dtype)

    return store


@functools.lru_cache(maxsize=64)
def _c_intervals(parts: Intervals) -> Any:
    n, codes = parts.thresholds.size, parts.codes
    half = (n + 1) // 2
    counted = np.arange(n + 1)
    orders = (counted, np.where(counted < half, n - counted, counted - half))
    # A look-up, the last order there is, unless the codes follow one of the others.
    order = next((k for k, named in enumerate(orders) if np.array_equal(named, codes)), len(orders))
    made = ffi.new("struct ff_intervals *", {"n": n, "order": order, "low": parts.low})
    made.high = parts.high
    if parts.format is not None:
        made.is_rounding, made.format = 1, _c_format(parts.format)[0]
    far = np.abs(parts.thresholds) >= 2.0**-40
    far |= (parts.thresholds == 0) & (parts.sides == BY_SIGN)
    made.is_far_from_0 = bool(far.all()) and min(abs(parts.low), abs(parts.high)) >= 2.0**-40
    gaps, sizes = np.diff(parts.thresholds), np.abs(parts.thresholds[1:])
    made.is_spaced = bool((gaps >= 2.0**-30 * np.maximum(sizes, 1)).all())
    made.first_equal, made.first_zero = (
        sum(int(takes) << k for k, takes in enumerate(which[:16]))
        for which in (parts.sides != ABOVE, parts.sides == AT_OR_ABOVE)
    )
    made.threshold[0:n] = parts.thresholds.tolist()
    made.takes_equal[0:n] = (parts.sides != ABOVE).tolist()
    made.takes_zero[0:n] = (parts.sides == AT_OR_ABOVE).tolist()
    made.code[0 : n + 1] = codes.tolist()
    return made


def _c_scaling(how: Scaling, is_stored: bool) -> Any:
    fields = {
        "format": _c_format(how.format)[0],
        "largest": how.largest,
        "power_rule": -1 if how.power_rule is None else _POWER_RULES[how.power_rule],
        "fraction_bits": how.fraction_bits,
        "times": how.times,
        "is_stored": is_stored,
    }
    return ffi.new("struct ff_scaling *", fields)


def _int8_pair(x: np.ndarray, w: np.ndarray) -> tuple[Any, ...]:
    return from_buffer("int8_t[]", x), len(x), from_buffer("int8_t[]", w), *w.shape


def _int32(sums: np.ndarray) -> Any:
    return from_buffer("int32_t[]", sums)


def _values_of_sums(
    row_scale: Float64,
    column_scale: np.ndarray,
    other: Float64 | None,
    bias: np.ndarray | None,
    out: np.ndarray,
    team: Team,
) -> tuple[Any, ...]:
    """Return what `int8_linear` and `dequantize_sums` have in common, as C takes it."""
    return (
        _doubles(row_scale),
        from_buffer("float[]", column_scale),
        ffi.NULL if other is None else _doubles(other),
        ffi.NULL if bias is None else from_buffer("float[]", bias),
        from_buffer("float[]", out),
        ffi.cast("ff_team *", team.address),
        team.threads,
    )


def _check_memory(lacks: int) -> None:
    if lacks:
        raise MemoryError("no memory for a product's codes")


def _doubles(array: Float64) -> Any:
    return from_buffer(_DOUBLES, array)


def _bytes(array: np.ndarray) -> Any:
    return from_buffer(_BYTES, array)
