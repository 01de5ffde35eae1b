"""Who converts and quantises in a library of its own kind: ONNX Runtime, numkong, apytypes, pychop.

Rows as `contenders.both` makes them, none where a library has no such operation. Each library is
imported when a run is built, not before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..arrays import decode, encode
from ..formats import format
from .check import Relation
from .contenders import Arrays, Contender, Run, Work, both
from .onnx_nodes import ELEMENTS, bound, session

__all__ = [
    "apytypes_cast",
    "numkong_cast",
    "onnxruntime_cast",
    "onnxruntime_dequantize",
    "onnxruntime_given_rows",
    "onnxruntime_quantize",
    "pychop_cast",
    "pychop_mxfp4",
    "pychop_p3109",
]

#: pychop and apytypes make temporaries of tens of bytes an element.
MAX_SIZE = 2**22
#: pychop takes blocks one by one in Python, some 100,000 values a second.
MX_MAX_SIZE = 2**12

# --- ONNX Runtime -------------------------------------------------------------------------------

#: Of its formats those that NumPy has as well: only of these it gives new arrays to Python.
IN_NUMPY = ("fp32", "fp16", "int8")


def onnxruntime_cast(source: str, target: str) -> tuple[Contender, ...]:
    """Cast: by I/O binding into an array that exists, from one OrtValue to a new one."""
    if "fp32" not in (source, target) or not {source, target} <= set(ELEMENTS):
        return ()

    def opened() -> Any:
        return session("Cast", {"x": source}, {"y": target}, {"to": ELEMENTS[target]})

    def new(work: Work) -> Run:
        return _new(opened(), {"x": work.x})

    def out(work: Work) -> Run:
        return _into(
            opened(), {"x": (work.x, source)}, (work.out("values", _dtype(target)), target)
        )

    return both("onnxruntime", new if {source, target} <= set(IN_NUMPY) else None, out)


def onnxruntime_quantize(
    scale: float, zero_point: int, relation: Relation
) -> tuple[Contender, ...]:
    """QuantizeLinear with a scale and a zero point that are given."""
    given: dict[str, np.ndarray] = {
        "scale": np.array(scale, np.float32),
        "zero": np.array(zero_point, np.int8),
    }

    def new(work: Work) -> Run:
        return _new(_quantize_linear(), {"x": work.x, **given})

    def out(work: Work) -> Run:
        return _into(
            _quantize_linear(),
            {
                "x": (work.x, "fp32"),
                "scale": (given["scale"], "fp32"),
                "zero": (given["zero"], "int8"),
            },
            (work.out("codes", np.int8), "int8"),
        )

    return both("onnxruntime", new, out, relation)


def onnxruntime_given_rows(relation: Relation) -> tuple[Contender, ...]:
    """QuantizeLinear by scales of rows that were found beforehand: half of the others' work."""

    def out(work: Work) -> Run:
        scale = np.abs(work.x).max(axis=1) / np.float32(127)
        zeros = np.zeros(len(scale), np.int8)
        return _into(
            _quantize_linear(axis=0),
            {"x": (work.x, "fp32"), "scale": (scale, "fp32"), "zero": (zeros, "int8")},
            (work.out("codes", np.int8), "int8"),
        )

    return both("onnxruntime given", None, out, relation)


def onnxruntime_dequantize(axis: int | None = None) -> tuple[Contender, ...]:
    """DequantizeLinear with one scale, or one for each index of `axis`."""

    def arrays(work: Work) -> dict[str, np.ndarray]:
        q = work.more["quantized"]
        scale = q.scale if axis is None else q.scale.reshape(-1)
        return {"x": q.codes, "scale": np.ascontiguousarray(scale)}

    def opened() -> Any:
        inputs = {"x": "int8", "scale": "fp32"}
        return session("DequantizeLinear", inputs, {"y": "fp32"}, {"axis": axis})

    def new(work: Work) -> Run:
        return _new(opened(), arrays(work))

    def out(work: Work) -> Run:
        given = arrays(work)
        inputs = {"x": (given["x"], "int8"), "scale": (given["scale"], "fp32")}
        return _into(opened(), inputs, (work.out("values", np.float32), "fp32"))

    return both("onnxruntime", new, out)


def _quantize_linear(axis: int | None = None) -> Any:
    inputs = {"x": "fp32", "scale": "fp32", "zero": "int8"}
    return session("QuantizeLinear", inputs, {"y": "int8"}, {"axis": axis})


def _new(opened: Any, arrays: dict[str, np.ndarray]) -> Run:
    from onnxruntime import OrtValue

    inputs = {name: OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    return lambda: opened.run_with_ort_values(["y"], inputs)[0]


def _into(
    opened: Any, inputs: dict[str, tuple[np.ndarray, str]], out: tuple[np.ndarray, str]
) -> Run:
    binding = bound(opened, inputs, out)

    def run(keeps_alive: object = inputs) -> np.ndarray:
        opened.run_with_iobinding(binding)
        return out[0]

    return run


def _dtype(name: str) -> np.dtype:
    return np.dtype(format(name).dtype)


# --- numkong, which SimSIMD is called now -------------------------------------------------------

NUMKONG: dict[str, Any] = {
    **{"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"},
    **{"fp8_e4m3fn": "e4m3", "fp8_e5m2": "e5m2", "fp6_e2m3fn": "e2m3"},
}


def numkong_cast(source: str, target: str) -> tuple[Contender, ...]:
    """numkong.astype."""
    if "fp32" not in (source, target) or not {source, target} <= set(NUMKONG):
        return ()

    def new(work: Work) -> Run:
        import numkong

        return partial(numkong.astype, _viewed(work.x, source), NUMKONG[target])

    def out(work: Work) -> Run:
        import numkong

        codes = _viewed(work.out("values", _dtype(target)), target)
        return partial(numkong.astype, _viewed(work.x, source), NUMKONG[target], out=codes)

    return both("numkong", new, out)


def _viewed(array: np.ndarray, fmt: str) -> Any:
    """Return numkong's tensor of an array's memory."""
    import numkong

    return numkong.from_pointer(array.ctypes.data, array.shape, NUMKONG[fmt], owner=array)


# --- apytypes -----------------------------------------------------------------------------------

#: Exponent and fraction bits, of formats of IEEE's kind: it knows no other.
IEEE_KIND = {"fp32": (8, 23), "fp16": (5, 10), "bf16": (8, 7), "fp8_e5m2": (5, 2)}


def apytypes_cast(source: str, target: str) -> tuple[Contender, ...]:
    """APyFloatArray.cast; its own array is made beforehand, and its codes are got afterwards."""
    if source != "fp32" or target not in IEEE_KIND:  # it widens bf16's subnormals to other values
        return ()

    def new(work: Work) -> Run:
        from apytypes import APyFloatArray, QuantizationMode

        x = APyFloatArray.from_bits(
            np.ascontiguousarray(work.x).view(f"u{work.x.itemsize}"), *IEEE_KIND[source]
        )
        return partial(x.cast, *IEEE_KIND[target], quantization=QuantizationMode.TIES_EVEN)

    return both("apytypes", new, max_size=MAX_SIZE)


# --- pychop -------------------------------------------------------------------------------------

NEARLY_A_TIE = Relation(1, "takes what lies within some 10^-4 of a tie for one", share=1e-4)


def pychop_cast(source: str, target: str) -> tuple[Contender, ...]:
    """pychop.Chop: values, whose codes are compared; formats of IEEE's kind only."""
    if source != "fp32" or target not in IEEE_KIND:
        return ()

    def new(work: Work) -> Run:
        import pychop

        return _without_warnings(pychop.Chop(*IEEE_KIND[target]), work.x)

    def codes(arrays: Arrays) -> Arrays:
        return (encode(arrays[0], target),)

    return both("pychop", new, None, NEARLY_A_TIE, of_its=codes, max_size=MAX_SIZE)


def pychop_p3109(k: int, p: int) -> tuple[Contender, ...]:
    """pychop.p3109_quantize into a signed, extended format."""

    def new(work: Work) -> Run:
        import pychop

        fmt = pychop.P3109Format(k=k, precision=p, signed=True, domain="extended")
        return _without_warnings(partial(pychop.p3109_quantize, fmt=fmt), work.x)

    def of_ours(arrays: Arrays) -> Arrays:
        return (decode(arrays[0], f"p3109_k{k}p{p}se", dtype=np.float64),)

    return both("pychop", new, of_ours=of_ours, max_size=MAX_SIZE)


def pychop_mxfp4(of_ours: Any) -> tuple[Contender, ...]:
    """pychop.mx_quantize in blocks of 32: values, not codes, and 0 where others have -0."""

    def new(work: Work) -> Run:
        import pychop

        return _without_warnings(partial(pychop.mx_quantize, format="mxfp4_e2m1"), work.x)

    def without_minus_zero(arrays: Arrays) -> Arrays:
        return tuple(array + 0.0 for array in of_ours(arrays))

    return both(*("pychop", new), of_ours=without_minus_zero, of_its=_doubles, max_size=MX_MAX_SIZE)


def _doubles(arrays: Arrays) -> Arrays:
    return tuple(array.astype(np.float64) for array in arrays)


def _without_warnings(call: Any, x: np.ndarray) -> Run:
    """Return the call; what overflows in it on the way is not in its result."""

    def run() -> Any:
        with np.errstate(all="ignore"):
            return call(x)

    return run
