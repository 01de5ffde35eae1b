"""What is measured: rows of operations, each with everyone who performs it.

To add a case, add a row to ``_ROWS``; to add a contender, write its builder in `contenders` and add
it to the rows of the cases it takes part in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..arrays import decode, encode, round_to
from ..audit.casts import GFLOAT_MODES
from ..backends import available_backends
from ..fields import compose, decompose
from ..formats import format, formats
from ..packing import pack, unpack
from ..quantization import absmax, quantize, zeropoint
from ..quantized import Quantized
from ..rounding import Rounding
from . import contenders as who
from . import libraries, quantizers
from .check import IDENTICAL, Relation
from .contenders import Contender, Work, both
from .inputs import values

__all__ = [
    "ACCEPTANCE",
    "CASES",
    "CURVE_CASES",
    "README_CASES",
    "ROUNDING_ACCEPTANCE",
    "SCHEME_ACCEPTANCE",
    "SCHEME_CASES",
    "Case",
    "Target",
    "encode_case",
    "expanded",
]

#: Length of the rows of the two-dimensional cases, whose sizes are multiples of it.
ROW = 1024
#: Every size is a multiple of this: packing takes groups of four codes, a block 16 values.
LEAST = 16
#: The reference is some hundred times slower and would take all the time at larger sizes.
REFERENCE_MAX_SIZE = 2**14


@dataclass(frozen=True, slots=True)
class Case:
    """An operation, its input, and who performs it.

    Attributes
    ----------
    name, about : str
        What it is selected by, and what it is.
    bytes_per_element : float
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
    multiple : int
        Of which its sizes are multiples.
    """

    name: str
    about: str
    bytes_per_element: float
    parts: tuple[str, ...]
    prepare: Callable[[str, int], Work]
    contenders: tuple[Contender, ...]
    kinds: tuple[str, ...] = ("normal",)
    multiple: int = LEAST


@dataclass(frozen=True, slots=True)
class Target:
    """How many times as fast as a contender floatfmt is wanted to be in a case.

    Attributes
    ----------
    case, contender : str
        Names.
    ratio : float
        The least that is wanted, on the case's most usual kind of input.
    allocations : tuple of str
        For which kinds of result.
    size : int or None
        At which number of elements; at every one that is measured if None.
    """

    case: str
    contender: str
    ratio: float
    allocations: tuple[str, ...] = ("new", "out")
    size: int | None = None


def expanded(case: Case, size: int) -> tuple[Contender, ...]:
    """Return a case's contenders, floatfmt's with every backend of this machine.

    The reference takes part up to `REFERENCE_MAX_SIZE` elements, or if there is nothing else;
    others up to their own limits.
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
    others = (one for one in case.contenders if one.peer != "floatfmt")
    return (*ours, *(one for one in others if one.max_size is None or size <= one.max_size))


# --- conversions --------------------------------------------------------------------------------

THROUGH_FP32 = Relation(1, "rounds twice, through fp32")
#: The kinds of input of a conversion; those that a format lacks are left out of its cases.
SCALED = ("scaled", "subnormal", "ties")
WEIGHTS = ("normal", "subnormal", "ties")
SEED = 7


def _kinds(target: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    has_subnormals = format(target).counts["subnormal"] > 0
    return tuple(kind for kind in kinds if kind != "subnormal" or has_subnormals)


def _casts(source: str, target: str) -> tuple[Contender, ...]:
    """Return the rows of everyone who has both formats; ml_dtypes has what is not NumPy's own."""
    rows: tuple[Contender, ...] = ()
    if format(source).dtype and format(target).dtype:
        library = _library(source, target)
        narrow = source == "fp64" and library == "ml_dtypes"
        cast = who.numpy_cast(target), who.numpy_cast_out(target)
        rows += both(library, *cast, THROUGH_FP32 if narrow else IDENTICAL)
    if {source, target} <= set(who.IN_TORCH):
        relation = THROUGH_FP32 if source == "fp64" else IDENTICAL
        rows += both("torch", who.torch_cast(target), who.torch_cast_out(target), relation)
    for casts in _OTHER_CASTS:
        rows += casts(source, target)
    return rows


_OTHER_CASTS = (
    libraries.onnxruntime_cast,
    libraries.numkong_cast,
    libraries.apytypes_cast,
    libraries.pychop_cast,
)


def _rounding_to_integer(target: str) -> tuple[Contender, ...]:
    return (
        *both("numpy", who.numpy_rint(target), who.numpy_rint_out(target)),
        *both("torch", who.torch_to_integer(target), who.torch_to_integer_out(target)),
        *libraries.numkong_cast("fp32", target),
    )


def _library(*names: str) -> str:
    homes = {np.dtype(format(name).dtype).type.__module__ for name in names}
    return "ml_dtypes" if "ml_dtypes" in homes else "numpy"


def encode_case(
    source: str,
    target: str,
    peers: tuple[Contender, ...] = (),
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    kinds: tuple[str, ...] = SCALED,
) -> Case:
    """Return the case of rounding one format's values to another's codes.

    gfloat takes part wherever it has the mode; `peers` are the others.
    """
    dtype, code_dtype = np.dtype(format(source).dtype), format(target).code_dtype
    usual = (Rounding.NEAREST_EVEN, "ieee")
    special = [str(word) for word in (rounding, overflow) if word not in usual]
    seed = SEED if rounding is Rounding.STOCHASTIC else None
    if rounding in GFLOAT_MODES:
        peers += (who.gfloat_round(target, rounding, overflow == "saturate", seed),)
    call = partial(encode, format=target, rounding=rounding, overflow=overflow, seed=seed)
    return Case(
        "-".join(("encode", source, target, *special)),
        ", ".join((f"{source} values rounded to {target} codes", *special)),
        dtype.itemsize + code_dtype.itemsize,
        ("codes",),
        lambda kind, n: Work(values(kind, n, dtype.name, target)),
        (*who.floatfmt(call, lambda work: work.out("codes", code_dtype)), *peers),
        _kinds(target, kinds),
    )


def _cast_case(source: str, target: str, kinds: tuple[str, ...] = SCALED) -> Case:
    """Return an encode case in which the peers' casts take part."""
    return encode_case(source, target, _casts(source, target), kinds=kinds)


def _decode_case(source: str, kinds: tuple[str, ...] = SCALED[:2]) -> Case:
    fmt = format(source)

    def prepare(kind: str, n: int) -> Work:
        codes = encode(values(kind, n, "float32", source), source)
        return Work(codes.view(fmt.dtype or fmt.code_dtype), {"codes": codes})

    return Case(
        f"decode-{source}-fp32",
        f"{source} codes to fp32 values",
        fmt.code_dtype.itemsize + 4,
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
        _kinds(source, kinds),
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


# --- packing ------------------------------------------------------------------------------------


def _pack_cases(target: str, packs: who.Builder, unpacks: who.Builder) -> Iterable[Case]:
    """Yield packing and unpacking; both give new arrays only."""
    bits = format(target).bits

    def codes(kind: str, n: int) -> np.ndarray:
        return encode(values(kind, n, "float32", target), target)

    yield Case(
        f"pack-{target}",
        f"{target} codes packed, {bits} bits each",
        1 + bits / 8,
        ("bytes",),
        lambda kind, n: Work(codes(kind, n)),
        (*who.floatfmt(partial(pack, format=target), None), *both("numpy", packs)),
        ("scaled",),
    )
    yield Case(
        f"unpack-{target}",
        f"{target} codes unpacked, {bits} bits each",
        1 + bits / 8,
        ("codes",),
        lambda kind, n: Work(pack(codes(kind, n), target)),
        (*who.floatfmt(partial(unpack, format=target), None), *both("numpy", unpacks)),
        ("scaled",),
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


def _per_channel_case(
    name: str, axis: int, size: int, about: str, peers: tuple[Contender, ...] = ()
) -> Case:
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
            *peers,
        ),
        ("normal", "outliers"),
        ROW,
    )


def _fused(parameters: Callable[..., tuple[float, int]]) -> tuple[Contender, ...]:
    """Return the rows of torch.quantize_per_tensor."""
    return both(
        "torch fused",
        who.torch_quantize(parameters),
        who.torch_quantize_out(parameters),
        RECIPROCAL,
    )


# --- quantising by rows and blocks, and back ----------------------------------------------------

CODED = ("codes", "scale", "tensor_scale")
# An error of some 2^-24 of a quotient turns a code where a tie is as near: of 256 codes' ties and
# normal values that are fewer than one in 10,000, of 16 codes' fewer than one in 100,000.
RECIPROCAL_OF_ROWS = replace(RECIPROCAL, share=1e-4)
FP32_QUOTIENT = replace(DIVIDES_IN_FP32, share=1e-4)
LOWER_OF_A_TIE = Relation(
    1, "multiplies by a rounded reciprocal and gives a tie to the lower code", share=1e-5
)
ROUNDED_SCALE = Relation(
    1, "rounds a scale to fp32 first and multiplies by its reciprocal", 1e-4, scales_too=True
)
#: A bin is 3.1e-5 wide, and the codes next to 0 stand for values 5.5e-7 apart: from a bin's middle
#: to its ends there are at most 4 of them. Less than 1 % of normal values lie between a bin's
#: middle and a tie in it, of which there are 255.
BINS = Relation(4, "looks codes up in 65,536 bins, wider than the steps near 0", share=0.01)
#: At most 1 by floatfmt's scale, 1 by codes times magnitudes, 1/16 by 1/127, 1/2 by each result.
OTHER_PRODUCT = Relation(
    3, "multiplies by the largest magnitude and by 1/127, not by the stored scale"
)
BITSANDBYTES_ROWS = both(
    *("bitsandbytes", quantizers.bitsandbytes_rows, None, RECIPROCAL_OF_ROWS),
    of_ours=lambda arrays: arrays[:2],
    of_its=quantizers.scale_of_127,
)


def _rows_of(kind: str, n: int) -> np.ndarray:
    return values(kind, n).reshape(-1, ROW)


def _scheme_case(
    name: str,
    about: str,
    size: float,
    peers: tuple[Contender, ...],
    scheme: str,
    parts: tuple[str, ...] = CODED,
    kinds: tuple[str, ...] = ("normal", "outliers"),
    **options: Any,
) -> Case:
    """Return the case of quantising rows by a scheme and options of ``ff.quantize``."""
    call: Callable[[Any], Quantized] = partial(quantize, scheme=scheme, **options)

    def out(work: Work) -> np.ndarray:
        stored = call(work.x).packed  # fewer than 8 bits take less room than x's shape
        return work.out("codes", stored.dtype, stored.shape)

    return Case(
        name,
        about,
        size,
        parts,
        lambda kind, n: Work(_rows_of(kind, n)),
        (*who.floatfmt(call, out), *peers),
        kinds,
        ROW,
    )


def _dequantize_case(
    name: str,
    about: str,
    size: float,
    peers: tuple[Contender, ...],
    make: Callable[[np.ndarray], Quantized],
) -> Case:
    """Return the case of getting fp32 values back of what `make` makes of rows."""

    def prepare(kind: str, n: int) -> Work:
        x = _rows_of(kind, n)
        return Work(x, {"quantized": make(x)})

    ours = who.floatfmt(
        Quantized.dequantize,
        lambda work: work.out("values", np.float32),
        lambda work: work.more["quantized"],
    )
    return Case(name, about, size, ("values",), prepare, (*ours, *peers), multiple=ROW)


#: Scales count where there are many: 4 bytes for 64 values are 0.0625 a value.
_SCHEMES = (
    _scheme_case(
        "absmax-int8-block32",
        "absmax int8, a scale for 32 values",
        5.125,
        both("torch", quantizers.torch_absmax_blocks(32, 8), None, FP32_QUOTIENT),
        "absmax",
        QUANTIZED,
        block=32,
    ),
    _scheme_case(
        "absmax-int4-block32",
        "absmax int4, packed, a scale for 32 values",
        4.625,
        both(
            *("torch", quantizers.torch_absmax_blocks(32, 4), None, FP32_QUOTIENT),
            of_its=quantizers.signed_codes,
        ),
        "absmax",
        QUANTIZED,
        bits=4,
        block=32,
    ),
    _scheme_case(
        "zeropoint-int8-rows",
        f"zero-point int8, a scale a row of {ROW}",
        5,
        both("torch fused", quantizers.torch_zeropoint_rows, None, RECIPROCAL_OF_ROWS),
        "zeropoint",
        QUANTIZED,
        axis=0,
    ),
    _scheme_case(
        "fp8_e4m3fn-rows",
        f"fp8_e4m3fn, a scale a row of {ROW}",
        5,
        both("torch", quantizers.torch_fp8_rows, None, FP32_QUOTIENT),
        "fp8_e4m3fn",
        axis=0,
    ),
    _scheme_case(
        "nf4",
        "nf4, packed, a scale for 64 values",
        4.5625,
        both(
            *("bitsandbytes", quantizers.bitsandbytes_nf4, None, LOWER_OF_A_TIE),
            of_ours=quantizers.in_order,
            of_its=quantizers.high_first,
        ),
        "nf4",
    ),
    _scheme_case(
        "dynamic8",
        "dynamic8, a scale for 4096 values",
        5,
        both("bitsandbytes", quantizers.bitsandbytes_dynamic8, None, BINS),
        "dynamic8",
        kinds=("normal",),  # outliers leave most values near 0, where bins are too wide
    ),
    _scheme_case(
        "mxfp4",
        "mxfp4, packed, a scale for 32 values",
        4.53125,
        (
            *both(
                *("torchao", quantizers.torchao_mx("float4_e2m1fn_x2")),
                of_its=quantizers.low_first,
            ),
            *both(
                *("gfloat", quantizers.gfloat_mxfp4),
                of_ours=quantizers.mxfp4_values,
                max_size=quantizers.GFLOAT_BLOCKS_MAX_SIZE,
            ),
            *libraries.pychop_mxfp4(quantizers.mxfp4_values),
        ),
        "mxfp4",
    ),
    _scheme_case(
        "mxfp8_e4m3fn",
        "mxfp8_e4m3fn, a scale for 32 values",
        5.03125,
        both(*("torchao", quantizers.torchao_mx("float8_e4m3fn")), of_its=quantizers.codes_first),
        "mxfp8_e4m3fn",
    ),
    _scheme_case(
        "nvfp4",
        "nvfp4, packed, a scale for 16 values and one for all",
        8.5625,
        both(
            *("torchao", quantizers.torchao_nvfp4, None, ROUNDED_SCALE),
            of_its=quantizers.low_first,
        ),
        "nvfp4",
    ),
    _dequantize_case(
        "dequantize-int8-rows",
        f"int8 codes to fp32 values, a scale a row of {ROW}",
        5,
        (
            *both("torch", quantizers.torch_dequantize_rows),
            *both("torch fused", quantizers.torch_dequantize_channels),
            *libraries.onnxruntime_dequantize(axis=0),
            *both("bitsandbytes", quantizers.bitsandbytes_dequantize_rows, None, OTHER_PRODUCT),
        ),
        partial(absmax, axis=0),
    ),
    _dequantize_case(
        "dequantize-nf4",
        "packed nf4 codes to fp32 values",
        4.5625,
        (
            *both("torch", quantizers.torch_dequantize_nf4),
            *both("bitsandbytes", quantizers.bitsandbytes_dequantize_nf4),
        ),
        partial(quantize, scheme="nf4"),
    ),
    _dequantize_case(
        "dequantize-mxfp4",
        "packed mxfp4 codes to fp32 values",
        4.53125,
        both("torchao", quantizers.torchao_dequantize_mxfp4),
        partial(quantize, scheme="mxfp4"),
    ),
)

# --- the rows -----------------------------------------------------------------------------------

#: torch's cast saturates.
TORCH_E4M3FN = both("torch", who.torch_cast("fp8_e4m3fn"), who.torch_cast_out("fp8_e4m3fn"))

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
    _cast_case("fp32", "fp16", WEIGHTS),
    _cast_case("fp32", "bf16", WEIGHTS),
    _cast_case("fp64", "fp16", WEIGHTS),
    _cast_case("fp32", "fp8_e4m3fn"),
    _cast_case("fp32", "fp8_e5m2"),
    _cast_case("fp32", "fp8_e8m0fnu", ("scaled",)),  # its ties the peers round away
    _cast_case("fp32", "fp6_e2m3fn"),
    _cast_case("fp32", "fp4_e2m1fn"),
    encode_case("fp32", "int8", _rounding_to_integer("int8")),
    encode_case("fp32", "p3109_k8p3se", libraries.pychop_p3109(8, 3)),
    *(
        encode_case("fp32", "fp8_e4m3fn", rounding=mode)
        for mode in Rounding
        if mode is not Rounding.NEAREST_EVEN
    ),
    encode_case("fp32", "fp8_e4m3fn", TORCH_E4M3FN, overflow="saturate", kinds=("beyond",)),
    _cast_case("fp64", "fp8_e4m3fn"),
    _decode_case("fp16", WEIGHTS[:2]),
    _decode_case("bf16", WEIGHTS[:2]),
    *(_decode_case(fmt.name) for fmt in formats() if fmt.bits == 8),
    *_pack_cases("fp4_e2m1fn", who.numpy_pack4, who.numpy_unpack4),
    *_pack_cases("fp6_e2m3fn", who.numpy_pack6, who.numpy_unpack6),
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
            *libraries.onnxruntime_quantize(SCALE, ZERO_POINT, DIVIDES_IN_FP32),
        ),
        ("normal", "outliers"),
    ),
    _per_channel_case(
        "rows",
        0,
        5,
        f"absmax int8, a scale a row of {ROW}",
        (
            *both("torch given", quantizers.torch_given_per_channel, None, RECIPROCAL_OF_ROWS),
            *libraries.onnxruntime_given_rows(FP32_QUOTIENT),
            *BITSANDBYTES_ROWS,
        ),
    ),
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
            *libraries.onnxruntime_dequantize(),
        ),
    ),
    *_SCHEMES,
)
CASES = {row.name: row for row in _ROWS}

#: What is wanted at 2^26 fp32 values, into new arrays, everyone on as many threads as they take
#: without being told.
ACCEPTANCE = tuple(
    Target(case, contender, ratio, ("new",), 2**power)
    for case, contender, power, ratio in (
        ("absmax-int8", "torch article", 26, 12.0),
        ("absmax-int8", "torch fused", 26, 1.6),
        ("absmax-int8", "torch fused", 20, 1.05),
        ("absmax-int8", "torch fused", 10, 1.0),
        ("zeropoint-int8", "torch article", 26, 14.0),
        ("absmax-int8-rows", "torch given", 26, 18.0),
        ("absmax-int8-rows", "bitsandbytes", 26, 30.0),
        ("nf4", "bitsandbytes", 26, 60.0),
        ("encode-fp32-fp16", "numpy", 26, 9.0),
        ("decompose-fp32", "numpy", 26, 4.0),
    )
)
#: What is wanted at 2^20 and 2^26 fp32 values, into existing arrays, on one thread.
OUT_ACCEPTANCE = tuple(
    Target(case, contender, ratio, ("out",))
    for case, contender, ratio in (
        ("encode-fp32-fp16", "torch", 0.95),
        ("encode-fp32-bf16", "torch", 0.95),
        ("decode-fp16-fp32", "torch", 0.95),
        ("decode-bf16-fp32", "torch", 0.95),
        ("encode-fp32-fp8_e4m3fn", "torch", 2.5),
        ("encode-fp32-fp8_e4m3fn", "ml_dtypes", 35.0),
        ("quantize-int8", "onnxruntime", 0.95),
    )
)
ACCEPTANCE_SIZE = 2**26

#: What is wanted at 2^20 fp32 values on one thread, into existing arrays; in the same run every
#: format in every deterministic mode is wanted to be so many times as fast as in `rounding`.
ROUNDING_ACCEPTANCE = (
    Target("encode-fp32-fp8_e4m3fn", "ml_dtypes", 25.0, ("out",)),
    Target("encode-fp32-fp8_e4m3fn", "torch", 2.0, ("out",)),
    Target("encode-fp32-bf16", "torch", 0.93, ("out",)),
    Target("encode-fp32-fp16", "torch", 0.93, ("out",)),
)
ROUNDING_SIZE = 2**20

#: Quantising rows and blocks, and back.
SCHEME_CASES = ("absmax-int8-rows", *(case.name for case in _SCHEMES))
#: What is wanted of them at 2^26 fp32 values on one thread, into new arrays. "torch given" does
#: less: it is told the scales. gfloat, at some 50,000 values a second, takes part in mxfp4 at 2^12.
SCHEME_ACCEPTANCE = tuple(
    Target(case, contender, ratio, ("new",))
    for case, contender, ratio in (
        ("absmax-int8-rows", "torch given", 12.0),
        ("absmax-int8-rows", "bitsandbytes", 20.0),
        ("nf4", "bitsandbytes", 30.0),
        ("mxfp4", "torchao", 20.0),
        ("dequantize-nf4", "torch", 1.0),
        ("dequantize-nf4", "bitsandbytes", 1.0),
        ("dequantize-int8-rows", "torch", 1.0),
        ("dequantize-int8-rows", "torch fused", 1.0),
        ("dequantize-int8-rows", "bitsandbytes", 1.0),
    )
)

#: Those that the README's table shows: one of each kind, not every format.
README_CASES = (
    "decompose-fp32",
    "compose-fp32",
    "encode-fp32-fp16",
    "encode-fp32-bf16",
    "encode-fp32-fp8_e4m3fn",
    "encode-fp32-fp8_e4m3fn-toward_zero",
    "encode-fp32-fp8_e4m3fn-stochastic",
    "encode-fp32-fp4_e2m1fn",
    "encode-fp64-fp8_e4m3fn",
    "decode-bf16-fp32",
    "decode-fp8_e4m3fn-fp32",
    "round-fp32-to-bf16",
    "pack-fp4_e2m1fn",
    "absmax-int8",
    "zeropoint-int8",
    "absmax-int8-rows",
    "quantize-int8",
    "nf4",
    "mxfp4",
    "dequantize-int8",
    "dequantize-nf4",
)

#: Those whose speed the README's plots show against the size.
CURVE_CASES = (
    "decompose-fp32",
    "encode-fp32-fp16",
    "encode-fp32-fp8_e4m3fn",
    "decode-fp8_e4m3fn-fp32",
    "absmax-int8",
    "absmax-int8-rows",
    "quantize-int8",
    "nf4",
)
