"""Which array or scalar came in, as NumPy memory without a copy, and giving the same kind back.

Torch is recognised without being imported: if the caller has a tensor, the caller imported it.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from .formats import Format, formats

__all__ = [
    "codes_array",
    "describe",
    "first_where",
    "float_array",
    "holds_values_of",
    "is_plain",
    "is_torch",
    "kept_axes",
    "like",
    "patterns",
    "preformatted",
    "same",
    "slabs",
    "to_numpy",
    "values_array",
]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT_DTYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)


def is_torch(x: object) -> bool:
    """Return whether x is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def describe(x: object) -> str:
    """Return a short name of what x is, for error messages; of a float, its value too."""
    dtype = getattr(x, "dtype", None)
    kind = f"{type(x).__module__.partition('.')[0]}.{type(x).__qualname__}"
    kind = kind.removeprefix("builtins.")
    if type(x) is float:
        return f"float {x!r}"
    return kind if dtype is None else f"{kind} of {str(dtype).removeprefix('torch.')}"


def _torch_memory(x: Any) -> np.ndarray:
    """Return a CPU tensor's memory as a NumPy array; bf16 and fp8 become ml_dtypes' types."""
    torch = sys.modules["torch"]
    if x.device.type == "meta":
        raise ValueError(
            "the tensor is on device meta, without values; x.cpu() has none either: load or make"
            " it on the CPU"
        )
    if x.device.type != "cpu":
        raise ValueError(f"the tensor is on device {x.device}; pass x.cpu()")
    if x.layout != torch.strided:
        raise ValueError(f"the tensor's layout is {x.layout}; pass x.to_dense()")
    x = x.detach().resolve_conj().resolve_neg()
    dtype = torch_to_numpy(x.dtype)
    if dtype is not None:
        return x.view(torch.int16 if dtype.itemsize == 2 else torch.uint8).numpy().view(dtype)
    try:
        return x.numpy()
    except TypeError:
        packed = "; two codes a byte: ff.unpack(x.view(torch.uint8), 'fp4_e2m1fn')"
        hint = packed if "x2" in str(x.dtype) else ""
        raise TypeError(f"NumPy has no dtype for {describe(x)}{hint}") from None


def torch_to_numpy(dtype: Any) -> np.dtype | None:
    """Return the ml_dtypes type of a torch dtype that NumPy does not know, or None."""
    name = str(dtype).removeprefix("torch.")
    return np.dtype(name) if name.startswith(("bfloat16", "float8_")) else None


def torch_has(dtype: str) -> bool:
    """Return whether torch, which was imported, stores values of a dtype of this name."""
    torch = sys.modules["torch"]
    # torch.int4 and its like are names without storage.
    narrow_integer = dtype.removeprefix("u").startswith("int") and not dtype.endswith("8")
    return isinstance(getattr(torch, dtype, None), torch.dtype) and not narrow_integer


def to_numpy(x: Any) -> np.ndarray:
    """Return x as a NumPy array that shares its memory where it has any."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask; pass x.filled(value) or x.data")
    if is_torch(x):
        return _torch_memory(x)
    if hasattr(x, "__dlpack_device__") and not isinstance(x, np.ndarray):
        return _dlpack_memory(x)
    try:
        return np.asarray(x)
    except ValueError:
        if not isinstance(x, (list, tuple)):
            raise
        raise ValueError(f"a {type(x).__name__} whose parts differ in shape is no array") from None


DLPACK_CPU = 1


def _dlpack_memory(x: Any) -> np.ndarray:
    kind, _ = x.__dlpack_device__()
    if int(kind) != DLPACK_CPU:
        raise ValueError(f"{describe(x)} is not in CPU memory; pass x.cpu() or its like")
    return np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)


def values_array(x: Any) -> np.ndarray:
    """Return x as a NumPy array of fp64, fp32, fp16 or bf16 values, as `float_array` does.

    Integers become fp64 and narrower floats fp32, exactly, in new memory.

    Raises
    ------
    TypeError
        x holds complex numbers, text or anything else that is no real number.
    ValueError
        A torch tensor that is not in CPU memory; an integer that fp64 does not hold.
    """
    if type(x) is np.ndarray and x.dtype in FLOAT_DTYPES:
        return x
    array = to_numpy(x)
    if _is_float(array.dtype):
        return array
    if array.dtype.kind in "iu":
        return _exact_floats(array)
    if array.dtype in DECODED_DTYPES:
        return array.astype(np.float32)
    raise TypeError(
        f"expected real numbers (fp64, fp32, fp16, bf16, narrower floats or integers), got"
        f" {_described(x, array)}"
    )


def _described(x: object, array: np.ndarray) -> str:
    return f"{describe(x)}{'' if hasattr(x, 'dtype') else f' ({array.dtype})'}; cast first"


#: fp32 holds every value of these, and ml_dtypes converts them exactly.
DECODED_DTYPES = tuple(
    np.dtype(fmt.dtype)
    for fmt in formats()
    if fmt.dtype and fmt.bits <= 8 and hasattr(ml_dtypes, fmt.dtype)  # not int8 and uint8
)


def _exact_floats(array: np.ndarray) -> np.ndarray:
    wide = array.astype(np.float64)
    if array.dtype.itemsize == 8:
        # 2.0**63 and 2.0**64 are no integers of the dtype, and nothing above them arises.
        limit = 2.0 ** (64 - (array.dtype.kind == "i"))

        def stray(piece: np.ndarray) -> np.ndarray:
            back = piece.astype(np.float64)
            inside = back < limit
            return ~inside | (np.where(inside, back, 0).astype(piece.dtype) != piece)

        for index in slabs(array.shape):
            if stray(array[index]).any():
                position, value = first_where(array, stray)
                raise ValueError(f"{position} is {value}, which fp64 does not hold exactly")
    return wide


def one_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """Return the one axis that an argument called `name` names, not negative."""
    if axis is None or isinstance(axis, Sequence):
        raise TypeError(f"{name} must be an integer, got {axis!r}")
    return kept_axes(axis, ndim, name)[0]


def float_array(x: Any, decodes: bool = False) -> np.ndarray:
    """Return x as a NumPy array of fp64, fp32, fp16 or bf16 values, sharing memory where x has any.

    With `decodes`, narrower floats are taken too and become fp16, or bf16 where that does not hold
    them.

    Raises
    ------
    TypeError
        x holds integers, complex numbers, text or anything else that is no float.
    ValueError
        A torch tensor that is not in CPU memory.
    """
    if type(x) is np.ndarray and x.dtype in FLOAT_DTYPES:
        return x
    array = to_numpy(x)
    if decodes and array.dtype in DECODED_DTYPES and "int" not in str(array.dtype):
        return array.astype(BFLOAT16 if "e8m0" in str(array.dtype) else np.float16)
    if not _is_float(array.dtype):
        raise TypeError(
            f"expected floating-point values (fp64, fp32, fp16 or bf16), got {_described(x, array)}"
        )
    return array


def _is_float(dtype: np.dtype) -> bool:
    # kind: not every dtype has a byte order; ml_dtypes' are of kind V
    return dtype.kind in "fV" and dtype.newbyteorder("=") in FLOAT_DTYPES


def codes_array(x: Any, fmt: Format) -> np.ndarray:
    """Return x as an array of `fmt`'s codes: integers, or values whose bits they are.

    Raises
    ------
    TypeError
        x has another dtype.
    ValueError
        A code has more bits than the format; the message names the first.
    """
    if type(x) is np.ndarray and fmt.bits in (8, 16, 32, 64) and x.dtype == fmt.code_dtype:
        return x
    array = to_numpy(x)
    if holds_values_of(array.dtype, fmt):
        codes = patterns(array, fmt)
        # ml_dtypes leaves the other bits of a narrow integer's byte open.
        return codes & np.uint8(2**fmt.bits - 1) if fmt.is_integer and fmt.bits < 8 else codes
    if array.size == 0 and not hasattr(x, "dtype"):
        array = array.astype(fmt.code_dtype)  # an empty list
    if array.dtype.kind in "iu" and array.dtype.newbyteorder("=") != fmt.code_dtype:
        return _narrowed_codes(array, fmt)
    if array.dtype.kind != "u" or array.dtype.newbyteorder("=") != fmt.code_dtype:
        hint = "; encode values first" if _is_float(array.dtype) else ""
        raise TypeError(f"expected codes of {fmt} ({fmt.code_dtype}), got {describe(x)}{hint}")
    if fmt.bits < 8 * fmt.code_dtype.itemsize:
        _check_codes(array, fmt)
    return array


def patterns(array: np.ndarray, fmt: Format) -> np.ndarray:
    """Return the codes of a format that values of its dtype are, in their memory."""
    return array.view(fmt.code_dtype.newbyteorder(array.dtype.byteorder))


def _narrowed_codes(array: np.ndarray, fmt: Format) -> np.ndarray:
    """Return codes held by another integer dtype, in new memory."""
    _check_codes(array, fmt)
    return array.astype(fmt.code_dtype)


def _check_codes(array: np.ndarray, fmt: Format) -> None:
    last = 2**fmt.bits - 1
    if array.size and (int(array.max()) > last or int(array.min()) < 0):
        position, code = first_where(array, lambda piece: (piece > last) | (piece < 0))
        raise ValueError(f"{position} is {code:#x}; codes of {fmt} have {fmt.bits} bits")


def holds_values_of(dtype: np.dtype, fmt: Format) -> bool:
    """Return whether a dtype is the one that holds a format's values."""
    return fmt.dtype is not None and dtype.newbyteorder("=") == np.dtype(fmt.dtype)


def first_where(
    array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], name: str = "x"
) -> tuple[str, Any]:
    """Return the first position in C order where `wrong` holds, as text ``x[i, j]``, and its value.

    `wrong` maps an array to booleans and is called on pieces, to bound memory.
    """
    for index in slabs(array.shape):
        with np.errstate(invalid="ignore"):  # a signalling NaN is found without a warning
            hits = np.argwhere(wrong(array[index]))
        if len(hits):
            starts = [part.start if isinstance(part, slice) else 0 for part in index]
            starts = starts[: array.ndim] + [0] * (array.ndim - len(starts))
            at = tuple(int(i) + start for i, start in zip(hits[0], starts, strict=True))
            return (f"{name}[{', '.join(map(str, at))}]" if at else name), array[at].item()
    raise AssertionError("nothing is wrong")


def like(array: np.ndarray, x: object) -> Any:
    """Return `array` as x's kind, sharing its memory: torch, any array API library, or itself."""
    if isinstance(x, np.ndarray):
        return array
    if is_torch(x):
        torch = sys.modules["torch"]
        name = str(array.dtype)
        if not array.flags.writeable:  # a broadcast, which no tensor may be written through
            array = array.copy()
        if array.dtype.kind != "V" and not name.startswith("float8"):
            return torch.from_numpy(array)
        bits = torch.from_numpy(array.view(f"i{array.dtype.itemsize}"))
        return bits.view(getattr(torch, name))
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.generic):
        return x.__array_namespace__().asarray(array)
    return array


def kept_axes(axis: int | Sequence[int] | None, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Return the axes that an argument called `name` names, ascending, not negative; or none."""
    try:
        if isinstance(axis, bool):
            raise TypeError
        wanted = () if axis is None else axis if isinstance(axis, Sequence) else (axis,)
        indices = [operator.index(a) for a in wanted]
    except TypeError:
        message = f"{name} must be an integer or a sequence of integers, got {axis!r}"
        raise TypeError(message) from None
    for a in indices:
        if not -ndim <= a < ndim:
            raise ValueError(f"{name} {a} is out of range for an array of {ndim} dimensions")
    axes = tuple(sorted(a % ndim for a in indices))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name} {axis!r} names an axis twice")
    return axes


#: Elements of a piece: with its temporaries it stays in the second-level cache.
SLAB = 1 << 16


def slabs(shape: tuple[int, ...], limit: int = SLAB) -> Iterator[tuple[Any, ...]]:
    """Yield indices that cut an array of `shape` into pieces of at most `limit` elements.

    The pieces follow C order and keep every axis. An index is slices of the leading axes, as many
    as are cut, and an Ellipsis, so that indexing always gives a view.
    """
    size = math.prod(shape)
    if size <= limit or not shape:
        yield (...,)
        return
    inner = size // shape[0]
    step = max(1, limit // inner)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        for rest in slabs(shape[1:], limit) if inner > limit else [(...,)]:
            yield (slice(start, stop), *rest)


def is_plain(array: np.ndarray) -> bool:
    """Return whether C can read the array as it stands: contiguous, aligned, native byte order."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype.isnative


def plain(array: np.ndarray) -> np.ndarray:
    """Return the array, or a plain copy of it."""
    # np.require makes a new view even of an array that is plain, so the question comes first.
    return (
        array if is_plain(array) else np.require(array, array.dtype.newbyteorder("="), ["C", "A"])
    )


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """Return the axes in an order that makes the array C-contiguous, or as they are if none does.

    A transposed array is worked on as it lies in memory: copying it slab by slab is far slower.
    """
    as_they_are = tuple(range(array.ndim))
    if array.flags.c_contiguous:
        return as_they_are
    order = tuple(sorted(as_they_are, key=lambda axis: -array.strides[axis]))
    return order if array.transpose(order).flags.c_contiguous else as_they_are


def checked_out(
    out: Any, dtype: np.dtype, *inputs: np.ndarray, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return an output array: `out`, if it was given and fits, or a new one.

    It has the inputs' shape, and a new one lies in memory as the first input does; or `shape`.

    Raises
    ------
    TypeError, ValueError
        `out` has another dtype or shape, cannot be written, or overlaps an input.
    """
    if out is None:
        return np.empty_like(inputs[0], dtype) if shape is None else np.empty(shape, dtype)
    array = out if type(out) is np.ndarray else to_numpy(out)
    shape = inputs[0].shape if shape is None else shape
    if array.dtype != dtype or not (array is out or is_torch(out) or isinstance(out, np.ndarray)):
        raise TypeError(f"out= must be an array of {dtype}, got {describe(out)}")
    if array.shape != shape:
        raise ValueError(f"out= must have shape {shape}, got {array.shape}")
    flags = array.flags
    if not flags.writeable:
        raise ValueError("out= is read-only")
    if array is not out and is_torch(out) and (out.is_neg() or out.is_conj()):
        raise ValueError("out= is a view that negates or conjugates; pass one that does not")
    if not array.flags.c_contiguous and any(
        n > 1 and step == 0 for n, step in zip(shape, array.strides, strict=True)
    ):
        raise ValueError("out= has several elements in one place in memory")
    for x in inputs:
        if np.may_share_memory(array, x) and _overlap(array, x):
            others = " or another out=" if len(inputs) > 1 else ""
            raise ValueError(f"out= overlaps the input{others}")
    return array


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # too intricate to be worth an answer
        return True


def preformatted(result: object) -> str:
    """Return a result's text as HTML for Jupyter."""
    import html  # takes a millisecond, and most never need it

    return f"<pre>{html.escape(str(result))}</pre>"


def same(a: Any, b: Any) -> Any:
    """Return whether two results of one class are equal, arrays element by element (NaN = NaN)."""
    if type(a) is not type(b):
        return NotImplemented
    return all(
        _equal(getattr(a, field.name), getattr(b, field.name))
        for field in dataclasses.fields(a)
        if field.compare
    )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or is_torch(a):
        a, b = to_numpy(a), to_numpy(b)
        bits = np.dtype((np.void, max(a.dtype.itemsize, 1)))
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and bool(
                (np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)).all()
            )
        )
    return bool(a == b or (a != a and b != b))  # a NaN is equal to a NaN
