"""What of a quantised tensor goes into a file: its arrays, and a description of all else.

`layout` knows the arrays from shape and options alone, before there are values; `parts` and
`description` take a result apart, and `restore` puts it together again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import interop
from .codes import code_dtype
from .conventions import find
from .elements import Codebook, Elements, Integers
from .formats import FormatLike, format
from .quantize import settle
from .quantized import Quantized, groups_of, wide
from .quantizing import DOUBLE_BLOCK, Plan, double_scale
from .schemes import SCHEMES

__all__ = ["Part", "description", "layout", "parts", "restore"]


class Part(NamedTuple):
    """The dtype and shape of one stored array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return self.dtype.itemsize * math.prod(self.shape)


def layout(shape: tuple[int, ...], dtype: FormatLike, **options: Any) -> dict[str, Part]:
    """Return the arrays that a tensor quantised with these options of `ff.quantize` is stored as.

    Parameters
    ----------
    shape, dtype : tuple of int, and dtype or format
        The tensor's.
    **options
        A scheme and what goes with it; no arrays.

    Returns
    -------
    dict of str to Part
        By what is added to the tensor's name: "" is the packed codes; ``"scale"``,
        ``"zero_point"``, ...

    Raises
    ------
    TypeError, ValueError
        As `ff.quantize`.

    Examples
    --------
    >>> from floatfmt.storage import layout
    >>> {name: part.shape for name, part in layout((8, 100), "bf16", scheme="mxfp4").items()}
    {'': (8, 50), 'scale': (8, 4)}
    """
    plan, groups = settle(tuple(shape), format(dtype), **options)
    scale_dtype = np.dtype(plan.scale_format.dtype)
    packed = Part(plan.code_dtype, groups.shape)
    if plan.elements.bits < 8:
        *lead, row = groups.rows_in_order
        packed = Part(np.dtype(np.uint8), (*lead, -(-row * plan.elements.bits // 8)))
    found = {"": packed}
    if plan.double:
        scales = math.prod(groups.scale_shape)
        found["scale"] = Part(np.dtype(np.uint8), groups.scale_shape)
        found["scale.scale"] = Part(np.dtype(np.float32), (-(-scales // DOUBLE_BLOCK),))
        found["scale.offset"] = Part(np.dtype(np.float32), ())
    else:
        found["scale"] = Part(scale_dtype, groups.scale_shape)
    if _has_zero_points(plan.elements, plan.scheme.name):
        found["zero_point"] = Part(_zero_point_dtype(plan), groups.scale_shape)
    if plan.scheme.two_level:
        found["tensor_scale"] = Part(plan.tensor_dtype, ())
    return found


def _has_zero_points(elements: Elements, scheme: str) -> bool:
    return isinstance(elements, Integers) and scheme != "absmax"


def _zero_point_dtype(plan: Plan | Quantized) -> np.dtype:
    """Return the dtype of stored zero points: that of codes, if they lie among them."""
    if plan.include_zero and isinstance(plan.elements, Integers):
        return plan.elements.code_dtype
    return np.dtype(np.int64)


def parts(q: Quantized) -> dict[str, np.ndarray]:
    """Return a result's arrays as `layout` names them."""
    found = {"": interop.to_numpy(q.packed)}
    if q.scale_codes is None:
        found["scale"] = interop.to_numpy(q.scale)
    else:
        found["scale"] = interop.to_numpy(q.scale_codes.codes).reshape(q.scale.shape)
        found["scale.scale"] = interop.to_numpy(q.scale_codes.scale)
        found["scale.offset"] = interop.to_numpy(q.scale_offset)
    if _has_zero_points(q.elements, q.scheme):
        found["zero_point"] = interop.to_numpy(q.zero_point).astype(_zero_point_dtype(q))
    if q.tensor_scale is not None:
        found["tensor_scale"] = interop.to_numpy(q.tensor_scale)
    return found


def description(q: Quantized) -> dict[str, Any]:
    """Return all that `restore` needs besides the arrays, ready for JSON."""
    return {
        "scheme": q.scheme,
        "elements": _elements_to_json(q.elements),
        "shape": list(q.shape),
        "format": q.format.name,
        "axis": list(q.axis),
        "block": q.block,
        "block_axis": q.block_axis,
        "include_zero": q.include_zero,
        "convention": q.convention,
        "double_quantization": q.scale_codes is not None,
        "saturated": q.saturated,
        "nonfinite": q.nonfinite,
        "scales_saturated": 0 if q.scale_codes is None else q.scale_codes.saturated,
    }


def _elements_to_json(elements: Elements) -> dict[str, Any]:
    if isinstance(elements, Integers):
        return {"kind": "integers", **elements._asdict()}
    if isinstance(elements, Codebook):
        known = SCHEMES.get(elements.name)
        if known is not None and known.elements == elements:
            return {"kind": "codebook", "name": elements.name}
        return {"kind": "codebook", "name": elements.name, "values": list(elements.values)}
    return {"kind": "format", "name": elements.name}


def _elements_from_json(found: dict[str, Any]) -> Elements:
    kind = found["kind"]
    if kind == "integers":
        integers = Integers(**{name: found[name] for name in Integers._fields})
        low = -(2 ** (integers.bits - 1)) if integers.signed else 0
        high = low + 2**integers.bits - 1
        if not (2 <= integers.bits <= 8 and low <= integers.qmin < integers.qmax <= high):
            raise ValueError(f"there are no integers {found}")
        return integers
    if kind == "codebook" and "values" in found:
        return Codebook(found["values"], found["name"])
    if kind == "codebook":
        known = SCHEMES[found["name"]].elements
        assert known is not None
        return known
    return format(found["name"])


def restore(arrays: dict[str, Any], described: dict[str, Any]) -> Quantized:
    """Return the result that `parts` and `description` were made from.

    Raises
    ------
    ValueError
        An array is missing or does not fit the description; a key is missing or unknown.
    """
    try:
        return _restored(arrays, described)
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"the description of a quantised tensor is damaged: {error!r}") from None


def _check(described: dict[str, Any]) -> None:
    """Refuse a description that does not say what `description` says: it comes from a file."""
    shape, block = described["shape"], described["block"]
    counts = [described[name] for name in ("saturated", "nonfinite", "scales_saturated")]
    whole = [*shape, *counts, *([] if block is None else [block - 1])]
    places = [
        *described["axis"],
        *([] if described["block_axis"] is None else [described["block_axis"]]),
    ]
    flags = [described["include_zero"], described["double_quantization"]]
    if (
        not isinstance(shape, list)
        or not isinstance(described["axis"], list)
        or not isinstance(described["scheme"], str)
        or any(type(n) is not int or n < 0 for n in whole)
        or any(type(a) is not int or not 0 <= a < len(shape) for a in places)
        or sorted(set(described["axis"])) != described["axis"]
        or any(type(flag) is not bool for flag in flags)
        or format(described["format"]).name not in ("fp64", "fp32", "fp16", "bf16")
    ):
        raise ValueError(f"the description of a quantised tensor is damaged: {described!r:.300}")
    find(described["convention"])


def _restored(arrays: dict[str, Any], described: dict[str, Any]) -> Quantized:
    _check(described)
    elements = _elements_from_json(described["elements"])
    scheme = described["scheme"]
    scale, nested = arrays["scale"], None
    q = Quantized(
        packed=arrays[""],
        scale=scale,
        zero_point=None,
        scheme=scheme,
        elements=elements,
        axis=tuple(described["axis"]),
        block=described["block"],
        block_axis=described["block_axis"],
        shape=tuple(described["shape"]),
        format=format(described["format"]),
        saturated=described["saturated"],
        nonfinite=described["nonfinite"],
        tensor_scale=arrays.get("tensor_scale"),
        include_zero=described["include_zero"],
        convention=described["convention"],
    )
    changes: dict[str, Any] = {}
    if isinstance(elements, Integers):
        zeros = np.zeros(scale.shape, np.int64)
        if _has_zero_points(elements, scheme):
            zeros[...] = interop.to_numpy(arrays["zero_point"])
        changes["zero_point"] = interop.like(zeros, scale)
    if described["double_quantization"]:
        nested = _nested(arrays, described["scales_saturated"])
        wide = double_scale(nested, arrays["scale.offset"])
        effective = wide.astype(np.float32).reshape(scale.shape)
        changes["scale"] = interop.like(effective, scale)
        changes |= {"scale_codes": nested, "scale_offset": arrays["scale.offset"]}
    q = replace(q, **changes)
    _check_shapes(q)
    return q


def _nested(arrays: dict[str, Any], saturated: int) -> Quantized:
    """Return the scales that were quantised too."""
    codes = arrays["scale"]
    return Quantized(
        packed=codes,
        scale=arrays["scale.scale"],
        zero_point=None,
        scheme="dynamic8",
        elements=_elements_from_json({"kind": "codebook", "name": "dynamic8"}),
        axis=(),
        block=DOUBLE_BLOCK,
        block_axis=None,
        shape=tuple(codes.shape),
        format=format("fp32"),
        saturated=saturated,
    )


def _check_shapes(q: Quantized) -> None:
    """Refuse arrays that do not fit: they come from a file."""
    groups = groups_of(q)
    *lead, row = groups.rows_in_order
    packed = q.shape if q.bits == 8 else (*lead, -(-row * q.bits // 8))
    for name, array, shape in (("codes", q.packed, packed), ("scale", q.scale, groups.scale_shape)):
        if tuple(array.shape) != tuple(shape):
            raise ValueError(f"{name} have shape {tuple(array.shape)}, not {tuple(shape)}")
    dtype = np.dtype(np.uint8) if q.bits < 8 else code_dtype(q.elements)
    if interop.to_numpy(q.packed).dtype != dtype:
        raise ValueError(f"codes are {interop.describe(q.packed)}, not {dtype}")
    scale = wide(q.scale)
    if not (np.isfinite(scale) & (scale >= 0)).all():
        raise ValueError("a scale is not finite, or negative")
