"""The result of quantising: codes with all that is needed to read them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import interop
from .backends import Backend, current_backend, runs_reference
from .codes import CodeReader, all_codes, decode_piece
from .elements import Elements, Integers, table
from .formats import Format, FormatLike, format
from .groups import AxisGroups, BlockGroups, Groups
from .rounding import rules

__all__ = ["Quantized", "groups_of", "wide"]

_FP64 = np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Quantized:
    """Codes with all that is needed to read them: ``x ≈ value(code) * scale``.

    Another convention's may mean something else: `dequantize` knows.

    The value of an integer code is itself less its zero point; that of others is in a format's or
    codebook's table.

    Attributes
    ----------
    packed : array
        The codes as they are stored: those of 8 bits as `codes` has them, others without gaps along
        the last axis, the first in the lowest bits (uint8). Blocks that run through all values
        (`block_axis` is None) are packed as one row.
    scale : array
        Not negative. 0-d if the whole array shares it; else x's shape, with 1 for every axis but
        `axis`, or with the number of blocks for `block_axis`; 1-D if that is None.
    zero_point : array of int64 or None
        The code of 0.0, in scale's shape. Not clamped to the codes, unless `include_zero` was
        asked for: a range far from 0 needs more. None where codes are no integers.
    scheme : str
        ``"absmax"``, ``"zeropoint"``, ``"given"`` or another.
    elements : Integers, Format or Codebook
        What the codes stand for.
    axis : tuple of int
        The axes whose every index has a scale of its own; empty for one scale, and for blocks.
    block, block_axis : int or None
        The values that share a scale, and the axis along which they lie.
    shape : tuple of int
        x's.
    format : Format
        x's format, to which `dequantize` returns.
    saturated : int
        How many values lay outside the codes' range and were clamped: those that round to no code
        of an integer, or lie more than half a step beyond the outermost value of others.
    nonfinite : int
        How many values were Inf or NaN; 0 unless they were allowed.
    tensor_scale : 0-d array or None
        What every scale was divided by before it was stored (NVFP4); `scale` is what is stored.
    scale_codes : Quantized or None
        The scales as they are stored under double quantisation, with `scale_offset` to be added.
    scale_offset : 0-d array or None
        See `scale_codes`.
    include_zero : bool
        Whether zero points lie among the codes, and are stored in as many bytes.
    convention : str
        The one of ``ff.conventions()`` by which codes and values are made. Other than floatfmt's
        own do not count what is saturated.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> q = ff.quantize(np.float32([0.1, -1.5, 3.2]), "absmax")
    >>> q.codes, q.saturated
    (array([  4, -60, 127], dtype=int8), 0)
    >>> q.dequantize()
    array([ 0.1007874, -1.511811 ,  3.2      ], dtype=float32)
    """

    packed: Any
    scale: Any
    zero_point: Any
    scheme: str
    elements: Elements
    axis: tuple[int, ...]
    block: int | None
    block_axis: int | None
    shape: tuple[int, ...]
    format: Format
    saturated: int
    nonfinite: int = 0
    tensor_scale: Any = None
    scale_codes: Quantized | None = None
    scale_offset: Any = None
    include_zero: bool = False
    convention: str = "floatfmt"

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(
        cls, usual: dict[str, Any], packed: Any, scale: Any, zero_point: Any, saturated: int
    ) -> Quantized:
        """Return a result of these fields, of which `usual` has the other ones.

        A frozen dataclass sets them one by one, which takes as long as a small array does.
        """
        made = object.__new__(cls)
        fields = made.__dict__
        fields.update(usual)
        fields["packed"], fields["scale"], fields["zero_point"] = packed, scale, zero_point
        fields["saturated"] = saturated
        return made

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.elements.bits

    @property
    def codes(self) -> Any:
        """The codes in x's shape, one a byte: int8 for signed integers, else uint8."""
        if self.bits == 8:
            return self.packed
        stored = interop.to_numpy(self.packed)
        return interop.like(all_codes(stored, self.elements, groups_of(self)), self.packed)

    @property
    def nbytes(self) -> int:
        """Bytes that have to be stored: codes and scales, and zero points but for absmax."""
        total = interop.to_numpy(self.packed).nbytes
        if self.scale_codes is None:
            total += interop.to_numpy(self.scale).nbytes
        else:
            total += self.scale_codes.nbytes + interop.to_numpy(self.scale_offset).nbytes
        if self.tensor_scale is not None:
            total += interop.to_numpy(self.tensor_scale).nbytes
        if self.zero_point is not None and self.scheme != "absmax":
            zeros = interop.to_numpy(self.zero_point)
            total += zeros.size if self.include_zero else zeros.nbytes
        return total

    @property
    def bits_per_value(self) -> float:
        """Stored bits a value, scales and zero points included; nan where there are no values."""
        size = math.prod(self.shape)
        return 8 * self.nbytes / size if size else math.nan

    def dequantize(self, dtype: FormatLike | None = None, *, out: Any = None) -> Any:
        """Return the codes' values times their scales.

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
        own = None if fmt.dtype is None else np.dtype(fmt.dtype)
        if own is None or own not in interop.FLOAT_DTYPES:  # NumPy takes None for float64
            raise ValueError(f"no array holds {fmt} here; dequantize to fp64, fp32, fp16 or bf16")
        stored = interop.to_numpy(self.packed)
        if self.bits < 8:
            stored = np.broadcast_to(np.uint8(0), self.shape)  # of no size, but of that shape
        values = interop.checked_out(out, own, stored)
        if self.convention == "floatfmt":
            _decode_all(self, values, current_backend())
        else:
            _decode_by_convention(self, values, fmt)
        return interop.like(values, self.packed) if out is None else out

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the codes, ready for JSON."""
        found = {
            "scheme": self.scheme,
            "elements": self.elements.name,
            "bits": self.bits,
            "shape": list(self.shape),
            "axis": list(self.axis),
            "block": self.block,
            "block_axis": self.block_axis,
            "format": self.format.name,
            "scale": wide(self.scale).tolist(),
            "zero_point": None,
            "saturated": self.saturated,
            "nonfinite": self.nonfinite,
            "nbytes": self.nbytes,
        }
        if self.zero_point is not None:
            found["zero_point"] = interop.to_numpy(self.zero_point).tolist()
        if self.tensor_scale is not None:
            found["tensor_scale"] = float(wide(self.tensor_scale))
        return found

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape)) or "0-d"
        kept = f"one scale per index of axis {self.axis}" if self.axis else "one scale"
        if self.block is not None:
            along = "all values" if self.block_axis is None else f"axis {self.block_axis}"
            kept = f"blocks of {self.block} along {along}"
        named = [self.elements.name] + [self.scheme] * (self.scheme != self.elements.name)
        lines = [
            f"{' '.join(named)}, {shape} from {self.format}, {kept}, "
            f"{self.nbytes:,} bytes, {self.saturated:,} saturated"
        ]
        with current_backend().float_environment():
            scale = interop.to_numpy(self.scale)
            if scale.dtype.kind == "V":  # ml_dtypes' numbers print badly
                scale = scale.astype(np.float32)
            lines.append(f"scale      {np.array2string(scale, threshold=8)}")
        if self.tensor_scale is not None:
            lines.append(f"times      {float(wide(self.tensor_scale))!r}")
        if self.zero_point is not None:
            zeros = interop.to_numpy(self.zero_point)
            lines.append(f"zero point {np.array2string(zeros, threshold=8)}")
        if self.nonfinite:
            lines.append(f"not finite {self.nonfinite:,}")
        lines.append(np.array2string(interop.to_numpy(self.codes), threshold=64))
        return "\n".join(lines)


def wide(part: Any) -> np.ndarray:
    """Return scales or zero points as float64, whatever the process does to subnormals."""
    with current_backend().float_environment():
        return _wide(part)


def _wide(part: Any) -> np.ndarray:
    return interop.to_numpy(part).astype(np.float64)


def groups_of(q: Quantized) -> Groups:
    """Return what shares a scale in a result."""
    if q.block is None:
        return AxisGroups(q.shape, q.axis)
    return BlockGroups(q.shape, q.block, q.block_axis)


def _decode_by_convention(q: Quantized, values: np.ndarray, fmt: Format) -> None:
    from .convention import dequantized, find  # loads all conventions, which few ask for

    row = find(q.convention)
    scale = interop.to_numpy(q.scale)
    zeros = np.int64(0) if q.zero_point is None else interop.to_numpy(q.zero_point)
    shape = {"tensor": (), "row": q.shape[:-1]}.get(row.over, (-1,))
    axis = q.axis[0] if row.over == "channel" else 0
    zeros = zeros.reshape(shape) if zeros.ndim else zeros
    codes = interop.to_numpy(q.codes)
    found = dequantized(codes, row, scale.reshape(shape), zeros, axis=axis, block=q.block)
    if values.dtype.itemsize >= found.dtype.itemsize:
        values[...] = found
        return
    with current_backend().float_environment():
        narrow = np.empty(found.size, fmt.code_dtype)
        current_backend().encode(found.reshape(-1), rules(fmt, overflow="saturate"), narrow)
        values[...] = narrow.view(values.dtype).reshape(values.shape)


def _decode_all(q: Quantized, values: np.ndarray, backend: Backend) -> None:
    groups = groups_of(q)
    stored = interop.to_numpy(q.packed)
    flat = isinstance(groups, BlockGroups) and groups.axis is None
    target = values
    if flat and not values.flags.c_contiguous:
        target = np.empty(values.shape, values.dtype)
    scale = backend.cast(interop.to_numpy(q.scale), _FP64)
    if q.tensor_scale is not None:
        with backend.float_environment():
            scale = scale * float(_wide(q.tensor_scale))
    zeros = None if q.zero_point is None else interop.to_numpy(q.zero_point).astype(np.float64)
    if not _decode_plain(q, groups, stored, target, scale, zeros, backend):
        scale = groups.from_scales(scale)
        zeros = None if zeros is None else groups.from_scales(zeros)
        with backend.float_environment():
            _decode_sections(q, groups, stored, target, scale, zeros, backend)
    if target is not values:
        values[...] = target


@functools.lru_cache(maxsize=256)
def _whole_shape(groups: Groups) -> tuple[int, int, int] | None:
    """Return the shape in which a kernel takes all values at once, None where it cannot."""
    if not (groups.in_rows and groups.are_whole):
        return None
    return 1, math.prod(groups.parameter_shape), groups.size


def _decode_plain(
    q: Quantized,
    groups: Groups,
    stored: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    zeros: np.ndarray | None,
    backend: Backend,
) -> bool:
    """Have a kernel read all codes as they lie in memory; return whether it can."""
    plain = interop.is_plain(stored) and interop.is_plain(target)
    shape = None if runs_reference(backend) or not plain else _whole_shape(groups)
    if shape is None or not scale.size == shape[1] == (scale if zeros is None else zeros).size:
        return False
    flat = scale.reshape(-1)
    if q.bits == 8:
        z = None if zeros is None else zeros.reshape(-1)
        decode_piece(q.elements, backend, stored.reshape(shape), target.reshape(shape), flat, z)
        return True
    has_table = not isinstance(q.elements, Integers) or (zeros is not None and not zeros.any())
    in_pairs = q.bits == 4 and groups.size % 2 == 0 and groups.rows_in_order[-1] % 2 == 0
    if has_table and in_pairs:
        values = table(q.elements)[:16]
        backend.dequantize_packed(stored, flat, values, target.reshape(shape))
    return has_table and in_pairs


def _decode_sections(
    q: Quantized,
    groups: Groups,
    stored: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    zeros: np.ndarray | None,
    backend: Backend,
) -> None:
    reader = CodeReader(stored, q.elements, groups)
    view = groups.view(target)
    for section in groups.sections():
        for slab in groups.slabs(section) if q.bits < 8 else [section]:
            out, at = view[slab.values], slab.parameters
            for piece in groups.pieces((reader.section(slab.values, out.shape), out), writes=1):
                codes, part = piece.arrays
                z = None if zeros is None else piece.of(zeros[at])
                decode_piece(q.elements, backend, codes, part, piece.of(scale[at]), z)
