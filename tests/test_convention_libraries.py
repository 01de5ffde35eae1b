"""The rows of `ff.conventions` against the installed libraries, bit for bit, on millions of values.

Only elements for which a row defines a code are compared; how many it leaves open is asserted too.
"""

import dataclasses

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import pytest
import torch

import floatfmt as ff
from floatfmt.audit.quantizer_tensors import adversarial_tensors
from floatfmt.convention import dequantized, double_quantized, plan, quantized
from floatfmt.convention_words import middles
from quantizer_libraries import (
    HAS_GGML,
    article_absmax,
    article_zeropoint,
    bit_patterns,
    bitsandbytes_4bit,
    ggml_quantize,
    hard_blocks,
    near,
    onnx_dequantize,
    onnx_quantize,
    onnx_quantize_dynamically,
    split_q8_0,
)

F32 = np.dtype(np.float32)
ROWS = ff.conventions()
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0])
SCALES = (1.0, 0.3, 0.00214854861, 1e-30, 1e30, 2.0**-126, 2.0**-130, 3e38, 2.0**-149, 0.7)
ENDS = {"int8": (-128, 127), "uint8": (0, 255)}

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_ch")
HAS_AVX2 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
needs_x86 = pytest.mark.skipif(not HAS_AVX2, reason="torch's int8 kernels are others without AVX2")
needs_ggml = pytest.mark.skipif(
    not (HAS_GGML and HAS_AVX2), reason="the wheel with ggml is of Linux, and needs AVX2"
)


def values_for(scale: float, zero_point: int, size: int, seed: int) -> np.ndarray:
    """Bit patterns, and ties with their neighbours far beyond the codes at both ends."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        ties = (rng.integers(-600, 600, size // 2) * 0.5 - zero_point) * float(np.float32(scale))
        ties = near(ties.astype(F32), rng, 3)
    return np.concatenate([bit_patterns(size - ties.size, seed), ties, SPECIAL])


def same_bits(a, b) -> bool:
    """Whether two arrays are the same fp32 numbers; NaN is NaN."""
    a, b = np.asarray(a, F32), np.asarray(b, F32)
    return bool(((a.view("u4") == b.view("u4")) | ((a != a) & (b != b))).all())


def wrong(row, x, codes, **arguments) -> tuple[int, int]:
    """How many defined codes of a row are not those of a library, and how many are not defined."""
    traced = row.trace(x, **arguments)
    return int(((traced.codes != codes) & traced.defined).sum()), int((~traced.defined).sum())


# --- torch --------------------------------------------------------------------------------------


@needs_x86
@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_the_row_of_torch_channels_is_quantize_per_channel(name):
    lowest, highest = ENDS[name]
    compared = open_ = 0
    for zero_point in (lowest, lowest + 1, 3, highest - 5):
        zeros = (zero_point + np.arange(len(SCALES))) % 256 + lowest * (lowest < 0)
        zeros = np.clip(zeros, lowest, highest)
        x = np.stack([values_for(s, z, 20_000, 5) for s, z in zip(SCALES, zeros, strict=True)])
        scales, dtype = torch.tensor(SCALES, dtype=torch.float64), getattr(torch, f"q{name}")
        q = torch.quantize_per_channel(torch.from_numpy(x), scales, torch.tensor(zeros), 0, dtype)
        arguments = {"scale": SCALES, "zero_point": zeros, "dtype": name}
        differing, undefined = wrong(ROWS["torch_channel"], x, q.int_repr().numpy(), **arguments)
        assert differing == 0
        stored = quantized(x, "torch_channel", **arguments)
        assert stored.scale.tolist() == list(SCALES)
        np.testing.assert_array_equal(stored.codes, q.int_repr().numpy())
        assert same_bits(dequantized(stored.codes, "torch_channel", *stored[1:]), q.dequantize())
        compared, open_ = compared + x.size, open_ + undefined
    assert compared > 800_000
    assert open_ < 0.05 * compared  # NaN, and 0 by a reciprocal that overflowed


@needs_x86
def test_channels_may_be_on_any_axis_and_of_any_length():
    rng = np.random.default_rng(6)
    scales, zeros = torch.tensor([0.5, 0.3, 0.07]), torch.tensor([0, 3, -7])
    for n in range(1, 70):
        for axis, shape in ((0, (3, n)), (1, (n, 3)), (1, (2, 3, n)), (-1, (n, 3))):
            x = near(rng.integers(-100, 100, shape).astype(F32) * F32.type(0.15), rng)
            q = torch.quantize_per_channel(
                torch.from_numpy(x), scales, zeros, axis % len(shape), torch.qint8
            )
            found = quantized(x, "torch_channel", scale=scales, zero_point=zeros, axis=axis)
            np.testing.assert_array_equal(found.codes, q.int_repr().numpy())


@needs_x86
def test_what_torch_makes_of_codes_of_a_tensor():
    for name, (lowest, highest) in ENDS.items():
        codes = np.arange(lowest, highest + 1).astype(name)
        for scale in SCALES:
            for zero_point in (lowest, 3, highest - 5):
                q = torch._make_per_tensor_quantized_tensor(
                    torch.from_numpy(codes), scale, zero_point
                )
                assert same_bits(dequantized(codes, "torch", scale, zero_point), q.dequantize())


# --- the article --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_the_rows_of_the_article_are_its_operations_on_torch(scheme):
    formula = {"absmax": article_absmax, "zeropoint": article_zeropoint}[scheme]
    tensors = [t.values for t in adversarial_tensors(plan("article", scheme))]
    for x in hard_blocks(np.arange(-255, 256, dtype=F32) / 510, 100, 2000, 11):
        tensors += [x, *x.reshape(-1, 100)[:400]]
    compared = 0
    for x in tensors:
        codes, values, multiplier, zero_point = (p.numpy() for p in formula(torch.from_numpy(x)))
        traced = ROWS["article"].trace(x, scheme)
        there = traced.defined
        np.testing.assert_array_equal(there, np.abs(codes) <= 128)  # the rest is no int8
        np.testing.assert_array_equal(traced.codes[there], codes[there].astype(np.int8))
        assert same_bits(traced.parameters.scale, multiplier)
        np.testing.assert_array_equal(traced.parameters.zero_point.item(), zero_point)
        # not the bits: its codes are floats, and some of them -0
        np.testing.assert_array_equal(traced.values[there], values[there])
        compared += np.count_nonzero(there)
    assert compared > 1_000_000


# --- ONNX ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_the_row_of_onnx_is_quantize_linear(name):
    lowest, highest = ENDS[name]
    compared = 0
    for scale in SCALES:
        for zero_point in (lowest, lowest + 1, 3, highest - 5):
            x = values_for(scale, zero_point, 30_001, 7)
            codes = onnx_quantize(x, scale, zero_point, name)
            arguments = {"scale": scale, "zero_point": zero_point, "dtype": name}
            assert wrong(ROWS["onnx"], x, codes, **arguments) == (0, 0)
            meant = onnx_dequantize(codes, scale, zero_point)
            assert same_bits(dequantized(codes, "onnx", scale, zero_point), meant)
            compared += x.size
    assert compared > 1_200_000


def test_quantize_linear_of_channels_and_of_short_arrays_is_the_same():
    channels = dataclasses.replace(ROWS["onnx"], over="channel")
    for n in range(1, 70):
        scales, zeros = (0.5, 0.3, 0.07), (0, 3, -7)
        x = np.stack([values_for(s, z, n, n) for s, z in zip(scales, zeros, strict=True)])
        codes = onnx_quantize(x, scales, zeros, "int8", axis=0)
        assert wrong(channels, x, codes, scale=scales, zero_point=zeros) == (0, 0)


def test_the_row_of_onnx_dynamic_is_dynamic_quantize_linear():
    tensors = [t.values for t in adversarial_tensors(plan("onnx_dynamic", None))]
    tensors += hard_blocks(np.arange(-255, 256, dtype=F32) / 510, 100, 2000, 8)
    tensors += [x[start : start + 100] for x in tensors[-8:-3] for start in range(0, 50_000, 100)]
    compared = 0
    for x in tensors:
        codes, scale, zero_point = onnx_quantize_dynamically(x)
        traced = ROWS["onnx_dynamic"].trace(x)
        assert traced.defined.all()
        np.testing.assert_array_equal(traced.codes, codes)
        assert same_bits(traced.parameters.scale.item(), scale)
        assert int(traced.parameters.zero_point.item()) == zero_point
        compared += x.size
    for x in ([np.inf, 1], [1, -np.inf], [np.inf, -np.inf]):
        codes, _, _ = onnx_quantize_dynamically(np.float32(x))
        assert wrong(ROWS["onnx_dynamic"], np.float32(x), codes) == (0, 0)
    assert compared > 1_500_000


# --- ggml ---------------------------------------------------------------------------------------

HALVES = np.arange(-253, 254, 2, dtype=F32) / np.float32(254)


def blocks_of_32():
    yield from hard_blocks(HALVES, 32, 10_000, 9)
    for tensor in adversarial_tensors(plan("ggml_q8_0", None)):
        if tensor.values.size:
            yield tensor.values


def compared_with_q8_0(name, quantize) -> tuple[int, int]:
    """How many values were compared with a row, and how many of them it leaves undefined."""
    compared = undefined = 0
    for x in blocks_of_32():
        codes, scales = quantize(x)
        differing, open_ = wrong(ROWS[name], x, codes)
        assert differing == 0
        traced = ROWS[name].trace(x)
        with np.errstate(over="ignore"):
            kept = traced.parameters.scale[:, 0].astype(np.float16)
        np.testing.assert_array_equal(kept.view("u2"), scales.view("u2"))
        compared, undefined = compared + x.size, undefined + open_
    return compared, undefined


@needs_ggml
def test_the_row_of_ggml_is_its_reference_in_c():
    compared, undefined = compared_with_q8_0("ggml_q8_0", lambda x: ggml_quantize(x, "reference"))
    assert compared > 2_500_000
    assert undefined < 0.1 * compared  # where 1 / d overflows, and codes are cast from it


def test_the_row_of_ggml_is_its_twin_in_numpy():
    def twin(x):
        with np.errstate(all="ignore"):
            kind = gguf.GGMLQuantizationType.Q8_0
            return split_q8_0(gguf.quants.quantize(x, kind).reshape(-1, 34))

    compared, _ = compared_with_q8_0("ggml_q8_0", twin)
    assert compared > 2_500_000


@needs_ggml
def test_the_row_of_ggml_with_avx2_is_that_kernel():
    compared, undefined = compared_with_q8_0("ggml_q8_0_avx2", lambda x: ggml_quantize(x, "avx2"))
    assert compared > 2_500_000
    assert undefined == 0
    for inf in (np.inf, -np.inf):
        x = np.float32([inf, *range(31)])
        assert wrong(ROWS["ggml_q8_0_avx2"], x, ggml_quantize(x, "avx2")[0]) == (0, 0)


def test_what_gguf_makes_of_codes():
    x = next(blocks_of_32())
    stored = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    meant = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q8_0)
    found = quantized(x, "ggml_q8_0")
    assert same_bits(dequantized(found.codes, "ggml_q8_0", found.scale), meant)


# --- bitsandbytes -------------------------------------------------------------------------------


def test_the_row_of_bitsandbytes_is_int8_vectorwise_quant():
    compared = undefined = 0
    for width in (1, 7, 64, 100):
        for x in hard_blocks(HALVES, width, 150_000 // width, width):
            rows = x.reshape(-1, width)
            codes, scales, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(torch.from_numpy(rows))
            differing, open_ = wrong(ROWS["bitsandbytes"], rows, codes.numpy())
            assert differing == 0
            found = quantized(rows, "bitsandbytes")
            assert same_bits(found.scale, scales)
            meant = bnb.int8_vectorwise_dequant(codes, scales).numpy()
            assert same_bits(dequantized(codes, "bitsandbytes", scales), meant)
            compared, undefined = compared + x.size, undefined + open_
    assert compared > 4_000_000
    assert undefined < 0.25 * compared  # rows of zeros, and where the reciprocal overflows


@pytest.mark.parametrize("block", [64, 256, 4096])
def test_the_row_of_bitsandbytes_blockwise_is_quantize_blockwise(block):
    parts, compared = middles("dynamic8")[0], 0
    edges = (np.arange(0.5, 65535) * 2 / 65535 - 1).astype(F32)
    row = dataclasses.replace(ROWS["bitsandbytes_blockwise"], over=f"block of {block}")
    for kind in (parts, edges):
        for x in hard_blocks(kind, block, 100_000 // block, block):
            x = x[: x.size - 5]  # a short block
            codes, state = bnb.quantize_blockwise(torch.from_numpy(x), blocksize=block)
            differing, undefined = wrong(row, x, codes.numpy())
            assert differing == 0
            assert undefined < 0.1 * x.size  # zeros, where the reciprocal overflows
            found = quantized(x, row)
            np.testing.assert_array_equal(found.codes, codes.numpy())  # x86 leaves 0 there
            assert same_bits(found.scale, state.absmax)
            meant = bnb.dequantize_blockwise(codes, state).numpy()
            assert same_bits(dequantized(codes, row, found.scale), meant)
            compared += x.size
    assert compared > 1_500_000


def test_every_fp32_value_of_a_sixteenth_has_its_blockwise_code():
    """The kernel's bins, over values in a block whose largest is 1."""
    x = np.arange(0, 0x3F800001, 61, dtype=np.uint32).view(F32)
    x = np.concatenate([x, -x])[: x.size * 2 // 4096 * 4096]
    x[::4096] = 1
    codes, _ = bnb.quantize_blockwise(torch.from_numpy(x), blocksize=4096)
    np.testing.assert_array_equal(quantized(x, "bitsandbytes_blockwise").codes, codes.numpy())


def test_nan_and_inf_in_a_block_of_bitsandbytes():
    for x in ([np.nan, 1, -1], [np.inf, 1, -1, 0], [-np.inf, 3], [np.nan, np.inf, 2], [np.nan]):
        x = np.float32(x)
        codes, state = bnb.quantize_blockwise(torch.from_numpy(x), blocksize=64)
        assert wrong(ROWS["bitsandbytes_blockwise"], x, codes.numpy())[0] == 0
        assert same_bits(quantized(x, "bitsandbytes_blockwise").scale, state.absmax)
        for kind in ("nf4", "fp4"):
            for part in (x, np.resize(x, 64)):
                codes, _, _ = bitsandbytes_4bit(part, kind, 64)
                assert wrong(ROWS[f"bitsandbytes_{kind}"], part, codes) == (0, 0)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("block", [32, 64, 4096])
def test_the_rows_of_nf4_and_fp4_are_quantize_4bit(kind, block):
    parts, compared = middles(kind)[0], 0
    row = dataclasses.replace(ROWS[f"bitsandbytes_{kind}"], over=f"block of {block}")
    for seed, x in enumerate(hard_blocks(parts, block, 250_000 // block, block)):
        x = x[: x.size - seed * 3]  # odd and even, with a short block and without
        codes, packed, state = bitsandbytes_4bit(x, kind, block)
        assert wrong(row, x, codes) == (0, 0)
        found = quantized(x, row)
        assert same_bits(found.scale, state.absmax)
        # not the bits: the sign of FP4's second zero is another in a vector and in its tail
        meant = bnb.dequantize_4bit(packed, state).numpy().reshape(-1)
        np.testing.assert_array_equal(dequantized(found.codes, row, found.scale), meant)
        compared += x.size
    assert compared > 1_900_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_values_are_fp32_values_to_bitsandbytes(dtype):
    """Every code of the dtype, in an order that gives blocks of any size."""
    patterns = np.random.default_rng(1).permutation(1 << 16).astype(np.uint16).view(np.int16)
    x = torch.from_numpy(patterns).view(dtype)
    x = x[x.isfinite()][:63_000].reshape(-1, 100)
    codes, _, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(x)
    assert wrong(ROWS["bitsandbytes"], x.reshape(-1, 100), codes.numpy())[0] == 0
    codes, state = bnb.quantize_blockwise(x, blocksize=64)
    found = quantized(x, "bitsandbytes_blockwise", block=64)
    np.testing.assert_array_equal(found.codes, codes.numpy())
    assert same_bits(found.scale, state.absmax)
    for kind in ("nf4", "fp4"):
        codes, _, state = bitsandbytes_4bit(x, kind, 64)
        found = quantized(x, f"bitsandbytes_{kind}")
        np.testing.assert_array_equal(found.codes.reshape(-1), codes)
        assert same_bits(found.scale, state.absmax)


def test_short_tensors_of_nf4_and_fp4():
    for kind in ("nf4", "fp4"):
        for n in range(1, 200):
            x = np.random.default_rng(n).standard_normal(n).astype(F32)
            codes, _, state = bitsandbytes_4bit(x, kind, 64)
            found = quantized(x, f"bitsandbytes_{kind}")
            np.testing.assert_array_equal(found.codes, codes)
            assert same_bits(found.scale, state.absmax)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_double_quantisation_is_compress_statistics(kind):
    """But for the mean, which is torch's: given that, all bits are the same."""
    sizes, row = (64, 100, 16_384, 16_448, 500_000), f"bitsandbytes_{kind}"
    by = ROWS[row].schemes[1].double
    for n in sizes:
        for spread in (1.0, 1e-20, 1e30):
            rng = np.random.default_rng(n)
            x = (rng.standard_normal(n) * spread * rng.lognormal(size=n)).astype(F32)
            codes, packed, state = bitsandbytes_4bit(x, kind, 64, compresses=True)
            plain, own = quantized(x, row), quantized(x, row, "double")
            np.testing.assert_array_equal(own.codes, codes)
            found = double_quantized(plain.scale, by, float(state.offset))
            np.testing.assert_array_equal(found.codes, state.absmax.numpy())
            assert same_bits(found.scale, state.state2.absmax)
            meant = bnb.dequantize_4bit(packed, state).numpy().reshape(-1)
            np.testing.assert_array_equal(dequantized(codes, row, found.restored), meant)
            ours = double_quantized(plain.scale, by).offset
            assert abs(float(ours) - float(state.offset)) <= 4 * np.spacing(ours)
