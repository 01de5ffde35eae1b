"""How libraries quantise: each convention a row of data, and one evaluator for all rows.

A row says what is divided or multiplied, in which precision, how ties go, where the zero point is
added, what is clamped, which codebook has the codes, and how scale and zero point follow from a
tensor. `Convention.trace` does what a row says with NumPy, and keeps every step; `quantized` keeps
the codes. Rows are of fp32 values; fp16 and bf16 are fp32 values too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np

from . import interop
from .backends import current_backend
from .convention_plan import (
    GIVEN,
    STEPS,
    Convention,
    DoubleQuantized,
    Parameters,
    Plan,
    Scheme,
    Trace,
    double_quantized,
    fp32_array,
    given_scheme,
    plan_of,
)
from .convention_rows import ROWS
from .convention_tables import conventions_dict, conventions_text
from .convention_words import OVER, PRECISIONS

__all__ = [
    "STEPS",
    "Convention",
    "ConventionLike",
    "Conventions",
    "DoubleQuantized",
    "Parameters",
    "Plan",
    "QuantizedBy",
    "Scheme",
    "Trace",
    "conventions",
    "dequantized",
    "double_quantized",
    "find",
    "fp32_array",
    "given_scheme",
    "plan",
    "quantized",
]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
#: Values worked on at once.
SLAB = 1 << 18

# --- choosing -----------------------------------------------------------------------------------

ConventionLike: TypeAlias = "str | Convention"


def find(which: ConventionLike) -> Convention:
    """Return a convention by its name; one of the caller's own is taken as it is."""
    if isinstance(which, Convention):
        return which
    known = {row.name: row for row in _ROWS}
    if not isinstance(which, str) or which not in known:
        raise ValueError(f"no convention is called {which!r}; there are {', '.join(known)}")
    return known[which]


def plan(
    which: ConventionLike,
    scheme: str | None,
    *,
    scale: Any = None,
    dtype: str | None = None,
    axis: int = 0,
) -> Plan:
    """Return a convention with its scheme, or for a given scale, and a dtype of codes."""
    return plan_of(find(which), scheme, scale=scale, dtype=dtype, axis=axis)


# --- codes and values ---------------------------------------------------------------------------


class QuantizedBy(NamedTuple):
    """What a convention stores of a tensor."""

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray


def quantized(
    x: Any,
    convention: ConventionLike,
    scheme: str | None = None,
    *,
    scale: Any = None,
    zero_point: Any = None,
    dtype: str | None = None,
    axis: int = 0,
    block: int | None = None,
) -> QuantizedBy:
    """Return the codes, scales and zero points that a library would store, bit for bit.

    Parameters
    ----------
    x : array
        fp32, fp16 or bf16 values; NumPy or torch, of any shape.
    convention : str or Convention
        A name of ``ff.conventions()``, or a row of one's own.
    scheme : str, optional
        One of the row's, such as ``"absmax"``; its first one by default.
    scale, zero_point : float and int, or arrays of them
        Given instead; arrays where every channel has its own.
    dtype : {"int8", "uint8"}, optional
        Of the codes; the convention's usual one by default. Codes of codebooks are not packed.
    axis : int
        Whose indices are channels.
    block : int, optional
        Another size of blocks than the row's: 32, 64, ..., 4096.

    Returns
    -------
    QuantizedBy
        ``codes`` in x's shape. ``scale``, fp32 (fp64 where the library keeps that), and
        ``zero_point``, int64, in the shape ``()`` for a tensor, ``x.shape[:-1]`` for rows,
        ``(x.shape[axis],)`` for channels and ``(blocks,)`` for blocks of the flattened tensor. With
        double quantisation the scales are those that its codes mean.

        Where a convention defines no code (``Convention.trace(x).defined``), the code is what a C
        cast leaves on x86.

    Raises
    ------
    TypeError, ValueError
        The convention takes no such x, scheme, scale, dtype or block; its zero point is no int64.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.convention import dequantized, quantized
    >>> x = np.float32([[0.5, -1, 0.25], [8, 4, 0]])
    >>> found = quantized(x, "bitsandbytes")
    >>> found.codes.tolist(), found.scale.tolist()
    ([[64, -127, 32], [127, 64, 0]], [1.0, 8.0])
    >>> dequantized(found.codes, "bitsandbytes", found.scale).tolist()[1]
    [8.0, 4.031496047973633, 0.0]
    """
    values = fp32_array(x)
    row = _with_blocks(find(convention), block)
    chosen = plan_of(row, scheme, scale=scale, dtype=dtype, axis=axis)
    with current_backend().float_environment():
        groups = chosen.groups(values)
        parameters = chosen.parameters_for(values, groups, scale, zero_point)
        codes = np.empty(groups.shape, chosen.dtype)
        for rows, columns in _slabs(groups.shape):
            part = Parameters(*(c if len(c) == 1 else c[rows] for c in parameters))
            codes[rows, columns] = chosen.steps(groups[rows, columns], part)[0]["code"]
        shape = _scale_shape(chosen, values.shape)
        scales = np.broadcast_to(parameters.scale, (len(groups), 1))
        kept = scales.astype(PRECISIONS[row.scale_dtype]).reshape(shape)
        zeros = np.broadcast_to(parameters.zero_point, (len(groups), 1))
        if not (np.abs(zeros) < 2.0**63).all():
            raise ValueError(f"{row.name} has a zero point here that is no int64")
        whole = zeros.astype(np.int64).reshape(shape)
    return QuantizedBy(np.ascontiguousarray(chosen.ungroup(codes, values.shape)), kept, whole)


def dequantized(
    codes: Any,
    convention: ConventionLike,
    scale: Any,
    zero_point: Any = 0,
    *,
    axis: int = 0,
    block: int | None = None,
) -> np.ndarray:
    """Return the fp32 values that a library makes of codes, scales and zero points.

    Parameters
    ----------
    codes, scale, zero_point : array
        As `quantized` returns them.
    convention, axis, block
        As they were given to it.

    Returns
    -------
    array of float32
        In the codes' shape; ``quantized`` has an example.
    """
    row, whole = _with_blocks(find(convention), block), np.asarray(interop.to_numpy(codes))
    if whole.dtype.name not in row.dtypes:
        raise TypeError(f"{row.name} has codes of {' or '.join(row.dtypes)}, got {whole.dtype}")
    chosen = Plan(row, (*row.schemes, GIVEN)[0], whole.dtype.name, axis)
    with current_backend().float_environment():
        groups = chosen.groups(whole)
        column, zeros = (
            np.asarray(interop.to_numpy(part), F64).reshape(-1, 1) for part in (scale, zero_point)
        )
        for part, name in ((column, "scale"), (zeros, "zero point")):
            if len(part) not in (1, len(groups)):
                raise ValueError(
                    f"{len(part):,} {name}s, where there are {len(groups):,} of a {row.over}"
                )
        values = np.empty(groups.shape, F32)
        for rows, columns in _slabs(groups.shape):
            own = (c if len(c) == 1 else c[rows] for c in (column, column, zeros, zeros))
            values[rows, columns] = chosen.dequantize(groups[rows, columns], Parameters(*own))
    return np.ascontiguousarray(chosen.ungroup(values, whole.shape))


def _with_blocks(row: Convention, block: int | None) -> Convention:
    if block is None:
        return row
    if OVER[row.over] is None:
        raise ValueError(f"{row.name} has a scale of a {row.over}, and no blocks")
    return replace(row, over=f"block of {block}")


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield parts of groups, of whole rows where these are short."""
    rows, columns = shape
    wide = min(max(columns, 1), SLAB)
    high = max(SLAB // wide, 1)
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, row + high), slice(column, column + wide)


def _scale_shape(chosen: Plan, shape: tuple[int, ...]) -> tuple[int, ...]:
    if chosen.row.over == "tensor" or not (shape or chosen.block):
        return ()
    if chosen.block:
        return (-(-math.prod(shape) // chosen.block),)
    return shape[:-1] if chosen.row.over == "row" else (shape[chosen.axis],)


# --- the collection -----------------------------------------------------------------------------


class Conventions(tuple[Convention, ...]):
    """Conventions, in order; as text, a table of their rules and one of what they do."""

    __slots__ = ()

    @overload  # type: ignore[override]
    def __getitem__(self, which: int | str) -> Convention: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[Convention, ...]: ...
    def __getitem__(self, which: int | str | slice) -> Convention | tuple[Convention, ...]:
        """Return a convention by its place or name."""
        return find(which) if isinstance(which, str) else super().__getitem__(which)

    def __str__(self) -> str:
        return conventions_text(self)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return conventions_dict(self)


def conventions() -> Conventions:
    """Return how known libraries quantise, a row each.

    Returns
    -------
    Conventions
        A tuple; printed, it is a table of rules and one of what each does to inputs on which they
        differ, computed when it is printed.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [row.name for row in ff.conventions()][:4]
    ['floatfmt', 'article', 'torch', 'torch_channel']
    >>> print(ff.conventions()["torch"])
    torch           torch.quantize_per_tensor, on x86 with AVX2
    proof           torch 2.13.0, in the tests
    does            x * (1 / scale) in fp32, rounded half even
    zero point      added before rounding, fused
    NaN             highest
    codes           int8 or uint8
    scale of a      tensor
    value           (code - zero point) * scale
    """
    return _ROWS


_ROWS = Conventions(ROWS)
