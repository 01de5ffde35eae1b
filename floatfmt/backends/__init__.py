"""Which implementation runs: the NumPy reference, or the C kernel at an instruction-set level.

All give the same bits. The fastest that this machine has is the default; `use_backend` chooses
another, or the environment variable FLOATFMT_BACKEND, which is read when floatfmt is imported.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np

from ..elements import Intervals, Scaling
from ..formats import Format
from ..rounding import Rules
from . import native, reference
from .native import AbsmaxPass, ZeropointPass
from .reference import Float64, Stream, SubnormalsFlushedError, Team
from .threads import thread_count, told_threads, use_threads

__all__ = [
    "AbsmaxPass",
    "Backend",
    "Float64",
    "NativeMissingWarning",
    "Stream",
    "SubnormalsFlushedError",
    "ZeropointPass",
    "absmax_pass",
    "available_backends",
    "backend_name",
    "chosen_by",
    "current_backend",
    "runs_reference",
    "thread_count",
    "told_threads",
    "use_backend",
    "use_threads",
    "zeropoint_pass",
]


class NativeMissingWarning(UserWarning):
    """The C kernel is not installed, so everything runs on the slower NumPy reference."""


class Backend(Protocol):
    """The functions of an implementation; `reference.py` documents them."""

    def float_environment(self) -> AbstractContextManager[None]: ...
    def cast(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray: ...
    def decompose(
        self,
        codes: np.ndarray,
        fmt: Format,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
    ) -> None: ...
    def compose(
        self,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
        fmt: Format,
        codes: np.ndarray,
    ) -> bool: ...
    def encode(
        self, values: np.ndarray, how: Rules, codes: np.ndarray, random: Stream | None = None
    ) -> bool: ...
    def decode(self, codes: np.ndarray, fmt: Format, values: np.ndarray) -> None: ...
    def round_to(
        self, values: np.ndarray, how: Rules, out: np.ndarray, random: Stream | None = None
    ) -> bool: ...
    def pack(self, codes: np.ndarray, packed: np.ndarray, bits: int, high_first: bool) -> None: ...
    def unpack(
        self, packed: np.ndarray, codes: np.ndarray, bits: int, high_first: bool
    ) -> None: ...
    def amax(self, x: np.ndarray) -> Float64: ...
    def minmax(self, x: np.ndarray) -> tuple[Float64, Float64]: ...
    def absmax_scale(
        self, amax: Float64, scale_format: Format, largest: float = 127
    ) -> Float64: ...
    def power_scale(
        self, amax: Float64, rule: str, largest: float, fraction_bits: int
    ) -> Float64: ...
    def zeropoint_parameters(
        self, low: Float64, high: Float64, scale_format: Format, qmin: int = -128, qmax: int = 127
    ) -> tuple[Float64, Float64]: ...
    def quantize(
        self,
        x: np.ndarray,
        scale: Float64,
        zero_point: Float64,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> int: ...
    def quantize_absmax(
        self,
        x: np.ndarray,
        how: Scaling,
        elements: int | Intervals | Format,
        packs: bool,
        codes: np.ndarray,
    ) -> tuple[Float64, int]: ...
    def quantize_range(
        self,
        x: np.ndarray,
        scale_format: Format,
        includes_zero: bool,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> tuple[Float64, Float64, int]: ...
    def quantize_intervals(
        self, x: np.ndarray, scale: Float64, parts: Intervals, codes: np.ndarray
    ) -> int: ...
    def quantize_format(
        self,
        x: np.ndarray,
        scale: Float64,
        how: Rules,
        low: float,
        high: float,
        codes: np.ndarray,
    ) -> int: ...
    def dequantize(
        self, codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray
    ) -> None: ...
    def int8_product(self, x: np.ndarray, w: np.ndarray, sums: np.ndarray) -> None: ...
    def int8_linear(
        self,
        x: np.ndarray,
        w: np.ndarray,
        row_scale: Float64,
        column_scale: np.ndarray,
        other: Float64 | None,
        bias: np.ndarray | None,
        out: np.ndarray,
        team: Team = ...,
    ) -> None: ...
    def dequantize_sums(
        self,
        sums: np.ndarray,
        row_scale: Float64,
        column_scale: np.ndarray,
        other: Float64 | None,
        bias: np.ndarray | None,
        out: np.ndarray,
        team: Team = ...,
    ) -> None: ...
    def dequantize_table(
        self, codes: np.ndarray, scale: Float64, table: Float64, entries: int, out: np.ndarray
    ) -> None: ...
    def dequantize_packed(
        self, packed: np.ndarray, scale: Float64, table: Float64, out: np.ndarray
    ) -> None: ...


_BACKENDS: dict[str, Backend] = {
    "reference": reference,
    **{level: native.Native(level) for level in native.supported_levels()},
}
_FASTEST = [*_BACKENDS][-1]
_chosen: ContextVar[str | None] = ContextVar("floatfmt_backend", default=None)
#: What FLOATFMT_BACKEND says. Asking os.environ takes a quarter of the time of a small array.
_wanted = os.environ.get("FLOATFMT_BACKEND")


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends this machine can run, slowest first.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.available_backends()[0]
    'reference'
    """
    return tuple(_BACKENDS)


def _checked(name: str, origin: str) -> str:
    if name in _BACKENDS:
        return name
    known = ", ".join(("reference", *native.LEVELS))
    reason = (
        f"is not available here: this machine has {', '.join(_BACKENDS)}"
        if name in native.LEVELS
        else f"is no backend; there are {known}"
    )
    raise ValueError(f"{origin}: {name!r} {reason}")


def backend_name() -> str:
    """Return the name of the backend that runs here and now."""
    return _chosen.get() or _default_name()


def _default_name() -> str:
    told_threads()  # what makes no sense is said at once, not at the first large array
    if _wanted:
        return _checked(_wanted, "FLOATFMT_BACKEND")
    if _FASTEST == "reference":
        _warn_once_that_native_is_missing()
    return _FASTEST


@functools.cache
def _warn_once_that_native_is_missing() -> None:
    warnings.warn(
        "floatfmt runs on its NumPy reference: the C kernel is not installed. Results are the same,"
        " large arrays are slower. To build it, install a C compiler and reinstall floatfmt;"
        " FLOATFMT_BACKEND=reference chooses the reference and silences this.",
        NativeMissingWarning,
        stacklevel=4,
    )


def chosen_by() -> str | None:
    """Return what chose the backend; None where the fastest runs because nothing did.

    Whether the choice is one that can run, `backend_name` checks.
    """
    if _chosen.get() is not None:
        return "use_backend"
    return "FLOATFMT_BACKEND" if _wanted else None


def runs_reference(backend: Backend) -> bool:
    """Return whether a backend is the NumPy reference."""
    return backend is reference


def encode_plain(values: np.ndarray, how: Rules, out: np.ndarray | None) -> np.ndarray | None:
    """Return the codes of plain arrays, or None if that takes more: see `Native.encode_plain`."""
    backend = current_backend()
    return backend.encode_plain(values, how, out) if isinstance(backend, native.Native) else None


def decode_plain(
    codes: np.ndarray, fmt: Format, dtype: np.dtype, out: np.ndarray | None
) -> np.ndarray | None:
    """Return the values of plain arrays, or None as `encode_plain`."""
    backend = current_backend()
    if not isinstance(backend, native.Native):
        return None
    return backend.decode_plain(codes, fmt, dtype, out)


def absmax_pass(
    backend: Backend,
    dtype: np.dtype,
    shape: tuple[int, int, int],
    how: Scaling,
    elements: int | Intervals | Format,
    packs: bool,
    scale_shape: tuple[int, ...],
    scale_dtype: np.dtype,
) -> AbsmaxPass | None:
    """Return `Backend.quantize_absmax` with all settled but the memory; None of the reference."""
    if not isinstance(backend, native.Native):
        return None
    return backend.absmax_pass(dtype, shape, how, elements, packs, scale_shape, scale_dtype)


def zeropoint_pass(
    backend: Backend,
    dtype: np.dtype,
    shape: tuple[int, int, int],
    scale_format: Format,
    includes_zero: bool,
    qmin: int,
    qmax: int,
    scale_shape: tuple[int, ...],
    scale_dtype: np.dtype,
) -> ZeropointPass | None:
    """Return `quantize_range`, or `quantize` by what is given, with all settled but the memory.

    None of the reference.
    """
    if not isinstance(backend, native.Native):
        return None
    how = scale_format, includes_zero, qmin, qmax
    return backend.zeropoint_pass(dtype, shape, *how, scale_shape, scale_dtype)


def current_backend() -> Backend:
    """Return the backend that runs here and now."""
    return _BACKENDS[_chosen.get() or _default_name()]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run everything in the ``with`` block (this thread, this context) on one backend.

    Parameters
    ----------
    name : str
        One of ``available_backends()``.

    Raises
    ------
    ValueError
        No such backend, or not one that this machine has.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> with ff.use_backend("reference"):
    ...     ff.absmax(np.float32([0.1, 3.2])).codes
    array([  4, 127], dtype=int8)
    """
    token = _chosen.set(_checked(name, "use_backend"))
    try:
        yield
    finally:
        _chosen.reset(token)
