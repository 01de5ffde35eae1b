"""int8 quantisation: absmax, zero-point, and with a scale and zero point that are given.

The code is the correctly rounded quotient of x by the scale that is stored. Formulas are float64
arithmetic on exact input values, ``rint`` rounds half to even.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from . import interop
from .backends import Backend, backend_name, current_backend
from .formats import Format, FormatLike, format

__all__ = ["Quantized", "absmax", "quantize", "zeropoint"]

INT8 = np.dtype(np.int8)
INT8_MIN, INT8_MAX = -128, 127
SCALE_FORMATS = ("fp64", "fp32", "fp16", "bf16")


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """int8 codes with all that is needed to read them: ``x ≈ (codes - zero_point) * scale``.

    Attributes
    ----------
    codes : array of int8
        In x's shape and kind (NumPy or torch).
    scale : array
        Positive; 0-d if the whole array shares it, else x's shape with every axis but `axis` 1.
    zero_point : array of int64
        The code of 0.0, in scale's shape. Not clamped to int8: a range far from 0 needs more.
    scheme : str
        ``"absmax"``, ``"zeropoint"`` or ``"given"``.
    axis : tuple of int
        The axes whose every index has a scale of its own; empty for one scale.
    format : Format
        x's format, to which `dequantize` returns.
    saturated : int
        How many values lay outside the codes' range and were clamped.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> q = ff.quantize(np.float32([0.1, -1.5, 3.2]), "absmax")
    >>> q.codes, q.saturated
    (array([  4, -60, 127], dtype=int8), 0)
    >>> q.dequantize()
    array([ 0.1007874, -1.511811 ,  3.2      ], dtype=float32)
    """

    codes: Any
    scale: Any
    zero_point: Any
    scheme: str
    axis: tuple[int, ...]
    format: Format
    saturated: int

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    @property
    def nbytes(self) -> int:
        """Bytes that have to be stored: codes and scales, and zero points unless all are 0."""
        zero_point = interop.to_numpy(self.zero_point)
        stored = [self.codes, self.scale, *([zero_point] if zero_point.any() else [])]
        return sum(interop.to_numpy(array).nbytes for array in stored)

    def dequantize(self, dtype: FormatLike | None = None, *, out: Any = None) -> Any:
        """Return ``(codes - zero_point) * scale``.

        Parameters
        ----------
        dtype : dtype or format, optional
            fp64, fp32, fp16 or bf16; x's own by default.
        out : array, optional
            Where the values go.

        Returns
        -------
        array
            Computed in float64, rounded once to the dtype, clamped to its largest finite value; of
            x's shape and kind.
        """
        fmt = self.format if dtype is None else format(dtype)
        if fmt.dtype is None:
            raise ValueError(f"no array dtype holds {fmt}; dequantize to fp64, fp32, fp16 or bf16")
        codes = interop.to_numpy(self.codes)
        values = interop.checked_out(out, np.dtype(fmt.dtype), codes)
        backend = current_backend()
        with backend.float_environment():
            parameters = tuple(
                _wide(part).reshape(_kept_shape(codes, self.axis))
                for part in (self.scale, self.zero_point)
            )
            for _, (piece, target), (s, z) in _pieces(
                (codes, values), self.axis, parameters, writes=1
            ):
                backend.dequantize(piece, s, z, target)
        return interop.like(values, self.codes) if out is None else out

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the codes, ready for JSON."""
        return {
            "scheme": self.scheme,
            "shape": list(self.codes.shape),
            "axis": list(self.axis),
            "format": self.format.name,
            "scale": _wide(self.scale).tolist(),
            "zero_point": interop.to_numpy(self.zero_point).tolist(),
            "saturated": self.saturated,
            "nbytes": self.nbytes,
        }

    def __str__(self) -> str:
        shape = "×".join(map(str, self.codes.shape)) or "0-d"
        kept = f"one scale per index of axis {self.axis}" if self.axis else "one scale"
        with current_backend().float_environment():
            scale = np.array2string(interop.to_numpy(self.scale), threshold=8)
        return (
            f"int8 {self.scheme}, {shape} from {self.format}, {kept}, "
            f"{self.nbytes:,} bytes, {self.saturated:,} saturated\n"
            f"scale      {scale}\n"
            f"zero point {np.array2string(interop.to_numpy(self.zero_point), threshold=8)}\n"
            f"{np.array2string(interop.to_numpy(self.codes), threshold=64)}"
        )


def _wide(part: Any) -> np.ndarray:
    """Return scales or zero points as float64, whatever the process does to subnormals."""
    with current_backend().float_environment():
        return interop.to_numpy(part).astype(np.float64)


def quantize(
    x: Any,
    scheme: str | None = None,
    *,
    scale: Any = None,
    zero_point: Any = None,
    axis: int | Sequence[int] | None = None,
    scale_dtype: FormatLike | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise to int8.

    Parameters
    ----------
    x : array
        Finite fp64, fp32, fp16 or bf16 values; NumPy or torch, any shape, strides and byte order.
    scheme : {"absmax", "zeropoint"}
        How scale and zero point follow from x:

        - absmax: ``scale = max(abs(x)) / 127``, zero point 0, codes -127 to 127;
        - zeropoint: ``scale = (max(x) - min(x)) / 255``,
          ``zero_point = rint(-128 - min(x) / scale)``, codes -128 to 127.
    scale, zero_point : float and int, or arrays, instead of `scheme`
        Given from elsewhere: ``codes = clamp(rint(x / scale) + zero_point, -128, 127)``. The scale
        is rounded to `scale_dtype` first, and has to lie within its range; zero_point is 0 by
        default, and an integer within ±2**62 that float64 holds exactly.
    axis : int or sequence of int, optional
        The axis or axes whose every index gets a scale of its own (torch's per-channel axis), not
        the axis reduced over. By default the whole array shares one scale.
    scale_dtype : format, optional
        Format of the stored scale: fp64, fp32, fp16 or bf16; by default fp64 for fp64 values, else
        fp32. A scale is rounded to nearest, but up where it is subnormal, so it is never 0.
    out : int8 array, optional
        Where the codes go.

    Returns
    -------
    Quantized

    Raises
    ------
    ValueError
        A value is NaN or Inf (the message names the first), a scale is not positive and finite, an
        axis is out of range, a scheme is unknown.
    TypeError
        x holds no floats; neither or both of `scheme` and `scale` are given.

    Notes
    -----
    All zeros give codes 0, scale 1. A constant c has scale abs(c), rounded to `scale_dtype`, and
    zero point 0 under zeropoint. An empty array gives an empty result with scale 1.

    Unless a value is clamped, it comes back within half a scale, as long as abs(x / scale) stays
    below 2**52: beyond, which takes an fp64 range far narrower than its distance from 0, float64
    has no halves. absmax clamps nothing, unless a
    coarse `scale_dtype` makes it; under zeropoint an end may lie half a step outside the codes.
    `Quantized.saturated` counts.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> q = ff.quantize(np.float64([-3.0, 0.1, 3.2]), "zeropoint")
    >>> q.codes, int(q.zero_point), round(1 / float(q.scale), 2)
    (array([-128,   -1,  127], dtype=int8), -5, 41.13)
    >>> ff.quantize(np.float32([1.0, 99.0]), scale=0.5, zero_point=3).codes
    array([  5, 127], dtype=int8)
    """
    if (scheme is None) == (scale is None):
        raise TypeError(f"give a scheme ({' or '.join(map(repr, SCHEMES))}) or a scale")
    if scheme is not None and zero_point is not None:
        raise TypeError("a zero_point goes with a scale; a scheme finds its own")
    if scheme is not None and not (isinstance(scheme, str) and scheme in SCHEMES):
        raise ValueError(f"no scheme is called {scheme!r}; there are {', '.join(SCHEMES)}")
    values = interop.float_array(x)
    axes = interop.kept_axes(axis, values.ndim)
    scale_format = _scale_format(scale_dtype, format(values.dtype))
    codes = interop.checked_out(out, INT8, values)
    backend = current_backend()
    with backend.float_environment():
        if scheme is None:
            parameters = _given(scale, zero_point, values, axes, scale_format, backend)
        else:
            parameters = SCHEMES[scheme](values, axes, scale_format, backend)
        # absmax is symmetric: -128 stays unused.
        qmin = -INT8_MAX if scheme == "absmax" else INT8_MIN
        saturated = _encode(values, codes, axes, parameters, qmin, backend)
        shape = tuple(n if a in axes else 1 for a, n in enumerate(values.shape)) if axes else ()
        stored = parameters[0].astype(scale_format.dtype).reshape(shape)
        zeros = parameters[1].astype(np.int64).reshape(shape)
    return Quantized(
        codes=interop.like(codes, x) if out is None else out,
        scale=interop.like(stored, x),
        zero_point=interop.like(zeros, x),
        scheme=scheme or "given",
        axis=axes,
        format=format(values.dtype),
        saturated=saturated,
    )


def absmax(
    x: Any,
    *,
    axis: int | Sequence[int] | None = None,
    scale_dtype: FormatLike | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise to int8 by the largest magnitude: ``quantize(x, "absmax")``.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.absmax(np.float32([[0.1, 3.2], [0.5, 1.0]]), axis=0).codes
    array([[  4, 127],
           [ 64, 127]], dtype=int8)
    """
    return quantize(x, "absmax", axis=axis, scale_dtype=scale_dtype, out=out)


def zeropoint(
    x: Any,
    *,
    axis: int | Sequence[int] | None = None,
    scale_dtype: FormatLike | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise to int8 by range and zero point: ``quantize(x, "zeropoint")``.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.zeropoint(np.float32([0.0, 0.5, 1.0])).codes
    array([-128,   -1,  127], dtype=int8)
    """
    return quantize(x, "zeropoint", axis=axis, scale_dtype=scale_dtype, out=out)


# --- arguments ----------------------------------------------------------------------------------


def _scale_format(wanted: FormatLike | None, source: Format) -> Format:
    if wanted is None:
        return source if source.name == "fp64" else format("fp32")
    fmt = format(wanted)
    if fmt.name not in SCALE_FORMATS:
        raise ValueError(f"scale_dtype must be one of {', '.join(SCALE_FORMATS)}, got {wanted!r}")
    return fmt


def _given(
    scale: Any,
    zero_point: Any,
    values: np.ndarray,
    axes: tuple[int, ...],
    scale_format: Format,
    backend: Backend,
) -> tuple[np.ndarray, np.ndarray]:
    wide_scale = _given_scale(scale, scale_format)
    wide_zero = _given_zero_point(zero_point)
    rounded = backend.absmax_scale(
        _channels(wide_scale, values, axes, "scale").reshape(-1), scale_format, 1
    )
    kept = _kept_shape(values, axes)
    return rounded.reshape(kept), _channels(wide_zero, values, axes, "zero_point")


def _given_scale(scale: Any, scale_format: Format) -> np.ndarray:
    given = interop.to_numpy(scale)
    if given.dtype.kind not in "fViu":
        raise TypeError(f"scale must be a number or an array of numbers, got {scale!r}")
    wide = np.asarray(given, np.float64)
    least, most = float(scale_format.min_positive), float(scale_format.max_finite)

    def wrong(scales: np.ndarray) -> np.ndarray:
        return ~((scales >= least) & (scales <= most))

    if wrong(wide).any():
        position, value = interop.first_where(wide, wrong, "scale")
        raise ValueError(
            f"{position} is {value}; a scale is positive and finite, in {scale_format} from"
            f" {least:.3g} to {most:.3g}"
        )
    return wide


def _given_zero_point(zero_point: Any) -> np.ndarray:
    given = interop.to_numpy(0 if zero_point is None else zero_point)
    whole = [n for n in given.reshape(-1).tolist() if isinstance(n, int)]
    if given.dtype.kind not in "iuO" or len(whole) < given.size:
        raise TypeError(f"zero_point must be an integer, got {interop.describe(zero_point)}")
    for n in whole:
        if abs(n) > 2**62 or int(float(n)) != n:
            raise ValueError(f"zero_point {n} is not within ±2**62 and exact in float64")
    return given.astype(np.float64)


def _channels(
    given: np.ndarray, values: np.ndarray, axes: tuple[int, ...], name: str
) -> np.ndarray:
    """Return a given parameter, one value or one a channel, in the shape of the kept axes."""
    kept = _kept_shape(values, axes)
    full = tuple(n if a in axes else 1 for a, n in enumerate(values.shape))
    if given.size == 1 or given.shape in (kept, full):
        return np.ascontiguousarray(
            np.broadcast_to(given.reshape(() if given.size == 1 else kept), kept)
        )
    expected = " or ".join(str(shape) for shape in dict.fromkeys(((), kept, full)))
    raise ValueError(f"{name} has shape {given.shape}; with axis={axes or None} it has {expected}")


def _report_not_finite(values: np.ndarray) -> None:
    position, value = interop.first_where(values, lambda piece: ~np.isfinite(piece))
    raise ValueError(f"{position} is {value}; int8 codes need finite values")


# --- channels -----------------------------------------------------------------------------------


def _pieces(
    arrays: tuple[np.ndarray, ...],
    axes: tuple[int, ...],
    parameters: tuple[np.ndarray, ...] = (),
    writes: int = 0,
) -> Iterator[tuple[Any, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
    """Cut arrays of one shape into the plain (outer, channels, inner) pieces that kernels take.

    Yields (index into the channels, pieces, channel parameters of the piece). `parameters` have
    the shape of the kept axes. The last `writes` arrays are written to: what the caller puts into
    their piece is in the array before the next piece comes.
    """
    order = _working_order(arrays[0], axes)
    arrays = tuple(array.transpose(order) for array in arrays)
    first = order.index(axes[0]) if axes else 0
    kept = slice(first, first + len(axes))
    whole = backend_name() != "reference" and all(map(interop.is_plain, arrays))
    shape = arrays[0].shape
    for index in [(...,)] if whole else interop.slabs(shape):
        views = [array[index] for array in arrays]
        cut = (*index[:-1], *[slice(None)] * (len(shape) - len(index) + 1))[kept]
        layout = (
            math.prod(views[0].shape[: kept.start]),
            math.prod(views[0].shape[kept]),
            math.prod(views[0].shape[kept.stop :]),
        )
        plains = [interop.plain(view) for view in views]
        piece = tuple(array.reshape(layout) for array in plains)
        yield cut, piece, tuple(np.ascontiguousarray(p[cut]).reshape(-1) for p in parameters)
        for view, copy in list(zip(views, plains, strict=True))[len(arrays) - writes :]:
            if copy is not view:
                view[...] = copy


def _working_order(array: np.ndarray, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes in an order that has the kept ones side by side, ascending.

    As they lie in memory, if that has it; else with the kept axes in front, a view that is not
    contiguous and so is worked on slab by slab.
    """
    for order in (interop.memory_order(array), tuple(range(array.ndim))):
        places = [order.index(a) for a in axes]
        if places == list(range(places[0], places[0] + len(axes)) if places else []):
            return order
    return (*axes, *(a for a in range(array.ndim) if a not in axes))


def _kept_shape(values: np.ndarray, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values.shape[a] for a in axes)


def _amax(values: np.ndarray, axes: tuple[int, ...], backend: Backend) -> np.ndarray:
    amax = np.zeros(_kept_shape(values, axes))
    for cut, (piece,), _ in _pieces((values,), axes):
        part = amax[cut or ...]
        np.maximum(part, backend.amax(piece).reshape(part.shape), out=part)
    if not np.isfinite(amax).all():
        _report_not_finite(values)
    return amax


def _minmax(
    values: np.ndarray, axes: tuple[int, ...], backend: Backend
) -> tuple[np.ndarray, np.ndarray]:
    low = np.full(_kept_shape(values, axes), np.inf)
    high = np.full(low.shape, -np.inf)
    for cut, (piece,), _ in _pieces((values,), axes):
        new_low, new_high = backend.minmax(piece)
        part = low[cut or ...]
        np.minimum(part, new_low.reshape(part.shape), out=part)
        part = high[cut or ...]
        np.maximum(part, new_high.reshape(part.shape), out=part)
    if values.size == 0:
        return np.zeros_like(low), np.zeros_like(low)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        _report_not_finite(values)
    return low, high


# --- schemes: how scale and zero point follow from the values -----------------------------------

Parameters: TypeAlias = tuple[np.ndarray, np.ndarray]


def _absmax(
    values: np.ndarray, axes: tuple[int, ...], scale_format: Format, backend: Backend
) -> Parameters:
    amax = _amax(values, axes, backend)
    scale = backend.absmax_scale(amax.reshape(-1), scale_format)
    return scale.reshape(amax.shape), np.zeros(amax.shape)


def _zeropoint(
    values: np.ndarray, axes: tuple[int, ...], scale_format: Format, backend: Backend
) -> Parameters:
    low, high = (part.reshape(-1) for part in _minmax(values, axes, backend))
    scale, zero_point = backend.zeropoint_parameters(low, high, scale_format)
    return scale.reshape(_kept_shape(values, axes)), zero_point.reshape(_kept_shape(values, axes))


SCHEMES = {"absmax": _absmax, "zeropoint": _zeropoint}


def _encode(
    values: np.ndarray,
    codes: np.ndarray,
    axes: tuple[int, ...],
    parameters: Parameters,
    qmin: int,
    backend: Backend,
) -> int:
    """Write the codes and return how many were clamped."""
    saturated = 0
    for _, (piece, target), (scale, zero_point) in _pieces(
        (values, codes), axes, parameters, writes=1
    ):
        clamped = backend.quantize(piece, scale, zero_point, qmin, INT8_MAX, target)
        if clamped < 0:
            _report_not_finite(values)
        saturated += clamped
    return saturated
