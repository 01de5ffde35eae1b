"""Results of quantising as other libraries hold them: torch's quantised tensors, ONNX's values."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from . import interop
from .convention import find
from .elements import Codebook, Integers
from .quantized import Quantized, wide

__all__ = ["OnnxValues", "to_onnx", "to_torch"]


class OnnxValues(NamedTuple):
    """Inputs and attributes of ONNX's DequantizeLinear (opset 21 and later) that mean a result.

    Attributes
    ----------
    x : array
        The codes: int8, uint8, or ml_dtypes' int4, uint4, int2, uint2, float8 or float4.
    x_scale : float32 array
        0-d; 1-D for an axis; of x's rank for blocks.
    x_zero_point : array or None
        In x's dtype and the scale's shape; None for floats.
    axis, block_size : int or None
        Attributes; None where the operator does without.
    """

    x: np.ndarray
    x_scale: np.ndarray
    x_zero_point: np.ndarray | None
    axis: int | None
    block_size: int | None


def to_torch(q: Quantized) -> Any:
    """Return a result as a quantised tensor of torch: qint8 or quint8, per tensor or per channel.

    Raises
    ------
    TypeError
        Torch has no such tensor: codes are not integers of 8 bits, or scales go by block or by
        several axes.
    ValueError
        A zero point is not one of the codes; the message names the first.
    ImportError
        There is no torch.

    Notes
    -----
    Torch 2.13 says that it will drop these tensors. It keeps scales as fp64 and dequantises by
    ``(codes - zero_point) * scale`` in fp32, as floatfmt does for fp32 values.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> from floatfmt.exports import to_torch
    >>> t = to_torch(ff.absmax(np.float32([0.1, -1.5, 3.2])))
    >>> t.int_repr().tolist(), t.dtype, t.q_zero_point()
    ([4, -60, 127], torch.qint8, 0)
    """
    if not isinstance(q.elements, Integers) or q.elements.bits != 8:
        raise TypeError(f"torch has quantised tensors of int8 and uint8, not of {q.elements.name}")
    _refuse_other_values(q, "torch")
    if q.block is not None or len(q.axis) > 1:
        raise TypeError(
            "torch has quantised tensors with one scale, or one for each index of an axis"
        )
    zeros = _zero_points(q, q.elements)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*quantized tensor creation", UserWarning)
        return _torch_tensor(q, zeros)


def _torch_tensor(q: Quantized, zeros: np.ndarray) -> Any:
    import torch

    codes = torch.from_numpy(np.array(interop.to_numpy(q.codes)))
    scale = torch.from_numpy(wide(q.scale))
    if not q.axis:
        return torch._make_per_tensor_quantized_tensor(codes, float(scale), int(zeros))
    flat = torch.from_numpy(zeros.astype(np.int64).reshape(-1))
    return torch._make_per_channel_quantized_tensor(codes, scale.reshape(-1), flat, q.axis[0])


def to_onnx(q: Quantized) -> OnnxValues:
    """Return what ONNX's DequantizeLinear takes to give a result's values.

    Raises
    ------
    TypeError
        ONNX has no such codes or scales: codebooks, integers of 3, 5, 6 or 7 bits, fp6, scales by
        several axes or for blocks of the flattened values, NVFP4's two-level scales.
    ValueError
        A zero point is not one of the codes; the message names the first.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> from floatfmt.exports import to_onnx
    >>> values = to_onnx(ff.quantize(np.float32([[0.5, -1.5], [3.0, 2.0]]), "absmax", axis=0))
    >>> values.x.tolist(), values.x_zero_point.tolist(), values.axis
    ([[42, -127], [127, 85]], [0, 0], 0)
    """
    _refuse_other_values(q, "DequantizeLinear")
    if q.tensor_scale is not None:
        raise TypeError(f"DequantizeLinear has one scale for a code, {q.scheme} two")
    if len(q.axis) > 1 or (q.block is not None and q.block_axis is None and len(q.shape) != 1):
        raise TypeError(
            "ONNX has one scale, one for each index of an axis, or blocks along an axis"
        )
    codes = interop.to_numpy(q.codes)
    zeros = None
    if isinstance(q.elements, Integers):
        dtype = _onnx_dtype(q.elements.name)
        zeros = _zero_points(q, q.elements).astype(dtype)
        codes = codes.astype(dtype, copy=False)
    elif isinstance(q.elements, Codebook):
        raise TypeError(f"ONNX has no codes of a table such as {q.elements.name}")
    else:
        codes = codes.view(_onnx_dtype(q.elements.dtype or q.elements.name))
    with np.errstate(over="ignore", under="ignore"):
        scale = wide(q.scale).astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        position, value = interop.first_where(
            wide(q.scale), lambda s: ~((s >= 2.0**-149) & (s < 2.0**128)), "scale"
        )
        raise ValueError(f"{position} is {value}, which ONNX's fp32 does not hold")
    axis = q.axis[0] if q.axis else q.block_axis
    if q.block is not None:
        axis = 0 if axis is None else axis
    elif q.axis:
        scale, zeros = scale.reshape(-1), None if zeros is None else zeros.reshape(-1)
    return OnnxValues(codes, scale, zeros, axis, q.block)


#: DequantizeLinear-25's types of x, less those that quantising does not make.
_ONNX_DTYPES = (
    *("int8", "uint8", "int4", "uint4", "int2", "uint2", "float4_e2m1fn"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
)


def _onnx_dtype(name: str) -> np.dtype:
    if name not in _ONNX_DTYPES:
        raise TypeError(f"ONNX has no {name}; it has {', '.join(_ONNX_DTYPES)}")
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))


def _refuse_other_values(q: Quantized, whose: str) -> None:
    """Refuse codes whose values are not ``(code - zero point) * scale``."""
    rule = find(q.convention).dequantize
    if rule not in ("* scale", "* scale, rounded once", "* scale in fp64"):
        raise TypeError(
            f"{whose} takes (code - zero point) * scale for a value; in {q.convention} that is"
            f" (code - zero point) {rule}"
        )


def _zero_points(q: Quantized, elements: Integers) -> np.ndarray:
    """Return zero points that are codes."""
    zeros = interop.to_numpy(q.zero_point)
    low = -(2 ** (elements.bits - 1)) if elements.signed else 0
    high = low + 2**elements.bits - 1

    def strays(piece: np.ndarray) -> np.ndarray:
        return (piece < low) | (piece > high)

    if strays(zeros).any():
        position, zero = interop.first_where(zeros, strays, "zero_point")
        raise ValueError(
            f"{position} is {zero}, no {elements.name} from {low} to {high}; quantise with"
            " include_zero=True"
        )
    return zeros
