"""What is measured: rows of operations, each with everyone who performs it.

To add a case, add a row to ``_ROWS``; to add a contender, write its builder in `contenders` and add
it to the rows of the cases it takes part in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..arrays import decode, encode, round_to
from ..fields import compose, decompose
from ..backends import available_backends
from ..formats import format
from ..quantize import Quantized, absmax, quantize, zeropoint
from . import contenders as who
from .check import IDENTICAL, Relation
from .contenders import Contender, Work, both
from .inputs import values

__all__ = ["ACCEPTANCE", "CASES", "Case", "Target", "expanded"]

#: Length of the rows of the two-dimensional cases; every size is a multiple of it.
ROW = 1024
#: The reference is some hundred times slower and would take all the time at larger sizes.
REFERENCE_MAX_SIZE = 2**14


@dataclass(frozen=True, slots=True)
class Case:
    """An operation, its input, and who performs it.

    Attributes
    ----------
    name, about : str
        What it is selected by, and what it is.
    bytes_per_element : int
        What has to be moved at least: every input read and every output written once, the input
        read twice where the first code depends on the last value.
    parts : tuple of str
        What the arrays of a result are.
    prepare : function
        Takes a kind of input and a size and returns the Work.
    contenders : tuple of Contender
        floatfmt's without backends; see `expanded`.
    kinds : tuple of str
        The kinds of input it is measured on, the most usual first.
    """

    name: str
    about: str
    bytes_per_element: int
    parts: tuple[str, ...]
    prepare: Callable[[str, int], Work]
    contenders: tuple[Contender, ...]
    kinds: tuple[str, ...] = ("normal",)


@dataclass(frozen=True, slots=True)
class Target:
    """How many times as fast as a contender floatfmt is wanted to be in a case."""

    case: str
    contender: str
    ratio: float


def expanded(case: Case, size: int) -> tuple[Contender, ...]:
    """Return a case's contenders, floatfmt's with every backend of this machine.

    The reference takes part up to `REFERENCE_MAX_SIZE` elements, or if there is nothing else.
    """
    backends = available_backends()
    if size > REFERENCE_MAX_SIZE and len(backends) > 1:
        backends = backends[1:]
    ours = [
        dataclasses.replace(contender, name=f"floatfmt {backend}", backend=backend)
        for backend in backends
        for contender in case.contenders
        if contender.peer == "floatfmt"
    ]
    return (*ours, *(one for one in case.contenders if one.peer != "floatfmt"))


# --- conversions --------------------------------------------------------------------------------

THROUGH_FP32 = Relation(1, "rounds twice, through fp32")


def _casts(source: str, target: str) -> tuple[Contender, ...]:
    """Return the rows of NumPy (ml_dtypes where the dtype is its) and torch."""
    return (
        *both(_library(source, target), who.numpy_cast(target), who.numpy_cast_out(target)),
        *both(
            "torch",
            who.torch_cast(target),
            who.torch_cast_out(target),
            THROUGH_FP32 if source == "fp64" else IDENTICAL,
        ),
    )


def _library(*formats: str) -> str:
    return "ml_dtypes" if "bf16" in formats else "numpy"


def _encode_case(source: str, target: str) -> Case:
    dtype = np.dtype(format(source).dtype)
    return Case(
        f"encode-{source}-{target}",
        f"{source} values rounded to {target} codes",
        dtype.itemsize + 2,
        ("codes",),
        lambda kind, n: Work(values(kind, n, dtype.name, target)),
        (
            *who.floatfmt(
                partial(encode, format=target), lambda work: work.out("codes", np.uint16)
            ),
            *_casts(source, target),
        ),
        ("normal", "subnormal", "ties"),
    )


def _decode_case(source: str) -> Case:
    def prepare(kind: str, n: int) -> Work:
        codes = encode(values(kind, n, "float32", source), source)
        return Work(codes.view(who.VALUE_DTYPES[source]), {"codes": codes})

    return Case(
        f"decode-{source}-fp32",
        f"{source} codes to fp32 values",
        6,
        ("values",),
        prepare,
        (
            *who.floatfmt(
                partial(decode, format=source),
                lambda work: work.out("values", np.float32),
                lambda work: work.more["codes"],
            ),
            *_casts(source, "fp32"),
        ),
        ("normal", "subnormal"),
    )


def _round_case(target: str) -> Case:
    return Case(
        f"round-fp32-to-{target}",
        f"fp32 values rounded to {target} values, kept in fp32",
        8,
        ("values",),
        lambda kind, n: Work(values(kind, n, "float32", target)),
        (
            *who.floatfmt(
                partial(round_to, format=target), lambda work: work.out("values", np.float32)
            ),
            *both(_library(target), who.numpy_round(target)),
            *both("torch", who.torch_round(target)),
        ),
        ("normal", "subnormal", "ties"),
    )


# --- fields and int8 ----------------------------------------------------------------------------

QUANTIZED = ("codes", "scale", "zero_point")
RECIPROCAL = Relation(1, "multiplies by a rounded reciprocal of the scale")
DIVIDES_IN_FP32 = Relation(1, "rounds the quotient to fp32 first")
#: Of the case that is given one. An fp32 number, for torch rounds scales to fp32.
SCALE, ZERO_POINT = float(np.float32(0.001)), 3


def _prepare_fields(kind: str, n: int) -> Work:
    x = values(kind, n)
    return Work(x, {"fields": decompose(x)})


def _prepare_codes(kind: str, n: int) -> Work:
    x = values(kind, n)
    return Work(x, {"quantized": absmax(x)})


def _int8_codes(work: Work) -> np.ndarray:
    return work.out("codes", np.int8)


def _per_channel_case(name: str, axis: int, size: int, about: str) -> Case:
    return Case(
        f"absmax-int8-{name}",
        about,
        size,
        QUANTIZED,
        lambda kind, n: Work(values(kind, n).reshape(-1, ROW)),
        (
            *who.floatfmt(partial(absmax, axis=axis), _int8_codes),
            *both("numpy", who.numpy_absmax(1 - axis), None, RECIPROCAL),
            *both("torch article", who.article_absmax_per_channel(axis), None, RECIPROCAL),
            *both("torch fused", who.torch_quantize_per_channel(axis), None, RECIPROCAL),
        ),
    )


def _fused(parameters: Callable[..., tuple[float, int]]) -> tuple[Contender, ...]:
    """Return the rows of torch.quantize_per_tensor."""
    return both(
        "torch fused",
        who.torch_quantize(parameters),
        who.torch_quantize_out(parameters),
        RECIPROCAL,
    )


# --- the rows -----------------------------------------------------------------------------------

_ROWS = (
    Case(
        "decompose-fp32",
        "fp32 codes into sign, exponent and fraction",
        10,
        who.FIELDS,
        lambda kind, n: Work(values(kind, n)),
        (
            *who.floatfmt(decompose, who.fields_out),
            *both("numpy", who.numpy_decompose, who.numpy_decompose_out),
        ),
    ),
    Case(
        "compose-fp32",
        "sign, exponent and fraction into fp32 codes",
        10,
        ("codes",),
        _prepare_fields,
        (
            *who.floatfmt(
                compose, lambda work: work.out("codes", np.uint32), lambda work: work.more["fields"]
            ),
            *both("numpy", who.numpy_compose, who.numpy_compose_out),
        ),
    ),
    _encode_case("fp32", "fp16"),
    _encode_case("fp32", "bf16"),
    _encode_case("fp64", "fp16"),
    _decode_case("fp16"),
    _decode_case("bf16"),
    _round_case("fp16"),
    _round_case("bf16"),
    Case(
        "absmax-int8",
        "absmax int8, one scale",
        9,
        QUANTIZED,
        lambda kind, n: Work(values(kind, n, "float32", "int8 absmax")),
        (
            *who.floatfmt(absmax, _int8_codes),
            *both("numpy", who.numpy_absmax(), who.numpy_absmax_out, RECIPROCAL),
            *both("torch article", who.article_absmax, None, RECIPROCAL),
            *both("torch in place", None, who.torch_absmax_in_place, RECIPROCAL),
            *_fused(who.absmax_parameters),
        ),
        ("normal", "outliers", "ties"),
    ),
    Case(
        "zeropoint-int8",
        "zero-point int8, one scale",
        9,
        QUANTIZED,
        lambda kind, n: Work(values(kind, n, "float32", "int8 zeropoint")),
        (
            *who.floatfmt(zeropoint, _int8_codes),
            *both("torch article", who.article_zeropoint, None, RECIPROCAL),
            *_fused(who.zeropoint_parameters),
        ),
        ("normal", "outliers", "ties"),
    ),
    Case(
        "quantize-int8",
        "int8 by a scale and zero point that are given",
        5,
        QUANTIZED,
        lambda kind, n: Work(values(kind, n)),
        (
            *who.floatfmt(partial(quantize, scale=SCALE, zero_point=ZERO_POINT), _int8_codes),
            *both("numpy", who.numpy_quantize(SCALE, ZERO_POINT), None, DIVIDES_IN_FP32),
            *_fused(lambda x: (SCALE, ZERO_POINT)),
        ),
        ("normal", "outliers"),
    ),
    _per_channel_case("rows", 0, 5, f"absmax int8, a scale a row of {ROW}"),
    _per_channel_case("columns", 1, 9, f"absmax int8, a scale a column, rows of {ROW}"),
    Case(
        "dequantize-int8",
        "int8 codes to fp32 values, one scale",
        5,
        ("values",),
        _prepare_codes,
        (
            *who.floatfmt(
                Quantized.dequantize,
                lambda work: work.out("values", np.float32),
                lambda work: work.more["quantized"],
            ),
            *both("numpy", who.numpy_dequantize, who.numpy_dequantize_out),
            *both("torch fused", who.torch_dequantize, who.torch_dequantize_out),
        ),
    ),
)
CASES = {row.name: row for row in _ROWS}

#: What is wanted at 2^26 fp32 values on one thread, into new arrays and into existing ones.
ACCEPTANCE = (
    Target("absmax-int8", "torch article", 10.0),
    Target("absmax-int8", "torch fused", 1.2),
    Target("decompose-fp32", "numpy", 2.5),
    Target("encode-fp32-fp16", "numpy", 6.0),
)
ACCEPTANCE_SIZE = 2**26
