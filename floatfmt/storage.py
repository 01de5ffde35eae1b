"""What of a quantised tensor goes into a file: its arrays, and a description of all else.

`layout` knows the arrays from shape and options alone, before there are values; `parts` and
`description` take a result apart, and `restore` puts it together again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import interop
from .codes import code_dtype
from .convention import find as find_convention
from .elements import Codebook, Elements, Integers
from .formats import Format, FormatLike, format
from .quantization import SCALE_FORMATS, settle
from .quantized import Quantized, groups_of, wide
from .quantizing import DOUBLE_BLOCK, Plan, double_scale
from .schemes import find

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
        "two_level": q.tensor_scale is not None,
        "packing": _PACKING[q.bits < 8],
        "scales_saturated": 0 if q.scale_codes is None else q.scale_codes.saturated,
    }


#: How codes of 8 bits, and of less, lie in memory.
_PACKING = ("one code a byte", "first code in the lowest bits")


def _elements_to_json(elements: Elements) -> dict[str, Any]:
    if isinstance(elements, Integers):
        return {"kind": "integers", **elements._asdict()}
    if isinstance(elements, Codebook):
        return {"kind": "codebook", "name": elements.name, "values": list(elements.values)}
    if _is_registered(elements):
        return {"kind": "format", "name": elements.name}
    fields = {f.name: getattr(elements, f.name) for f in dataclasses.fields(elements)}
    return {"kind": "own format", **{name: fields[name] for name in _FORMAT_FIELDS}}


#: What makes a format of one's own.
_FORMAT_FIELDS = (
    *("name", "exponent_bits", "fraction_bits", "bias", "signed", "infinity", "nan", "zero"),
    "twos_complement",
)


def _is_registered(fmt: Format) -> bool:
    try:
        return format(fmt.name) == fmt
    except ValueError:
        return False


def _elements_from_json(found: dict[str, Any]) -> Elements:
    kind = found["kind"]
    if kind == "integers":
        elements = Integers(**{name: found[name] for name in Integers._fields})
        if [type(part) for part in elements] != [int, bool, int, int]:
            raise ValueError(_damaged(f"{found} are no integers"))
        bits = elements.bits if 2 <= elements.bits <= 8 else 0  # before it is an exponent
        low = -(2**bits // 2) if elements.signed else 0
        if not low <= elements.qmin < elements.qmax < low + 2**bits:
            raise ValueError(_damaged(f"{found} are no integers"))
        return elements
    if kind == "own format":
        own = Format(**{name: found[name] for name in _FORMAT_FIELDS})
        known = find(own).elements
        assert known is not None
        return known
    if kind not in ("codebook", "format") or not isinstance(found["name"], str):
        raise ValueError(_damaged(f"elements are {found}"))
    if kind == "codebook" and "values" in found:
        return Codebook(found["values"], found["name"])
    # Both are looked up, so that a format which nothing is quantised to is refused.
    known = find(found["name"] if kind == "codebook" else format(found["name"])).elements
    assert known is not None
    return known


# --- what comes from a file is checked ----------------------------------------------------------


def _damaged(what: str) -> str:
    return f"the description of a quantised tensor is damaged: {what}"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_counts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_count, value))


#: What the parts of a description have to be.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "scheme": lambda value: isinstance(value, str),
    "shape": _are_counts,
    "format": lambda value: isinstance(value, str),
    "axis": _are_counts,
    "block": lambda value: value is None or (_is_count(value) and value > 0),
    "block_axis": lambda value: value is None or _is_count(value),
    "include_zero": lambda value: isinstance(value, bool),
    "double_quantization": lambda value: isinstance(value, bool),
    "packing": lambda value: value in _PACKING,
    "two_level": lambda value: isinstance(value, bool),
    "saturated": _is_count,
    "nonfinite": _is_count,
    "scales_saturated": _is_count,
}


def _check_fields(described: dict[str, Any]) -> None:
    for name, fits in _FIELDS.items():
        if not fits(described[name]):
            raise ValueError(_damaged(f"{name} is {described[name]!r}"))
    axis, along, n = described["axis"], described["block_axis"], len(described["shape"])
    if list(axis) != sorted(set(axis)) or (axis and axis[-1] >= n):
        raise ValueError(_damaged(f"axis is {axis!r}, of {n} dimensions"))
    if along is not None and (along >= n or described["block"] is None):
        raise ValueError(_damaged(f"block_axis is {along!r}, of {n} dimensions"))
    find_convention(described["convention"])
    if axis and described["block"] is not None:
        raise ValueError(_damaged(f"both axis={axis!r} and block={described['block']!r}"))


_FLOATS = tuple(np.dtype(format(name).dtype) for name in (*SCALE_FORMATS, "fp8_e4m3fn"))


def _check_arrays(q: Quantized, arrays: dict[str, Any], double: bool) -> None:
    """Refuse arrays that do not fit what was described."""
    groups = groups_of(q)
    *lead, row = groups.rows_in_order
    packed = q.shape if q.bits == 8 else (*lead, -(-row * q.bits // 8))
    codes = code_dtype(q.elements) if q.bits == 8 else np.dtype(np.uint8)
    wanted: dict[str, tuple[tuple[np.dtype, ...], tuple[int, ...]]] = {
        "": ((codes,), tuple(packed)),
        "scale": (_FLOATS, groups.scale_shape),
        "zero_point": ((_zero_point_dtype(q),), groups.scale_shape),
        "tensor_scale": (_FLOATS[:2], ()),
    }
    if double:
        blocks = -(-math.prod(groups.scale_shape) // DOUBLE_BLOCK)
        wanted["scale"] = ((np.dtype(np.uint8),), groups.scale_shape)
        wanted["scale.scale"] = ((np.dtype(np.float32),), (blocks,))
        wanted["scale.offset"] = ((np.dtype(np.float32),), ())
    for name in wanted.keys() & arrays.keys():
        array, (dtypes, shape) = interop.to_numpy(arrays[name]), wanted[name]
        if array.shape != shape:
            raise ValueError(f"{name or 'codes'} have shape {array.shape}, not {shape}")
        if array.dtype not in dtypes:
            known = " or ".join(map(str, dtypes))
            raise ValueError(f"{name or 'codes'} are {array.dtype}, not {known}")
    scale = wide(q.scale)
    if not (np.isfinite(scale) & (scale >= 0)).all():
        raise ValueError("a scale is negative, or not finite")


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
        raise ValueError(_damaged(repr(error))) from None


def _restored(arrays: dict[str, Any], described: dict[str, Any]) -> Quantized:
    _check_fields(described)
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
        tensor_scale=arrays["tensor_scale"] if described["two_level"] else None,
        include_zero=described["include_zero"],
        convention=described["convention"],
    )
    _check_arrays(q, arrays, described["double_quantization"])
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
    return replace(q, **changes)


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
