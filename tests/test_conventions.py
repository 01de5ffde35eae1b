"""The rows of `ff.conventions` against the libraries they are about, bit for bit."""

import dataclasses
import importlib
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt.convention import dequantized, find, quantized
from floatfmt.convention_plan import STEPS, Convention, Plan, Scheme, _fused
from floatfmt.convention_words import ROUNDINGS
from quantizer_libraries import article_absmax, article_zeropoint
from strategies import finite_arrays

torch = pytest.importorskip("torch")

F32 = np.dtype(np.float32)
ARTICLE = json.loads((Path(__file__).parent / "data" / "article.json").read_text())
ROWS = {row.name: row for row in ff.conventions()}
#: The module, whose name in floatfmt is a function's.
ROOM = importlib.import_module("floatfmt.convention")

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_ch")
needs_x86 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="torch's int8 kernel is another one without AVX2",
)


def same_floats(a, b) -> bool:
    return np.array_equal(np.float32(a), np.float32(b), equal_nan=True)


def ties_of(scale: float, zero_point: int = 0, ulps: int = 3) -> np.ndarray:
    """Values at and around every half step of a scale, far beyond the codes at both ends."""
    with np.errstate(over="ignore"):
        middle = ((np.arange(-600, 600) * 0.5 - zero_point) * float(np.float32(scale))).astype(F32)
    found = [middle]
    for end in (np.inf, -np.inf):
        near = middle
        for _ in range(ulps):
            near = np.nextafter(near, np.float32(end))
            found.append(near)
    return np.concatenate(found)


def any_codes(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32).view(F32)


# --- our own ------------------------------------------------------------------------------------


@given(st.sampled_from(["absmax", "zeropoint"]), finite_arrays(F32))
def test_the_row_of_floatfmt_is_quantize(scheme, x):
    q, traced = ff.quantize(x, scheme), ROWS["floatfmt"].trace(x, scheme)
    np.testing.assert_array_equal(q.codes, traced.codes)
    assert float(q.scale) == traced.parameters.scale.item()
    assert int(q.zero_point) == int(traced.parameters.zero_point.item())
    np.testing.assert_array_equal(q.dequantize().view("u4"), traced.values.view("u4"))


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.00214854861, 1e-30, 1e30, 2.0**-149, 3e38])
def test_the_row_of_floatfmt_with_a_given_scale_is_quantize(backend, scale):
    for zero_point in (0, 3, -128, 1000):
        x = np.concatenate([any_codes(20_000, 1), ties_of(scale, zero_point)])
        x = x[np.isfinite(x)]
        q = ff.quantize(x, scale=scale, zero_point=zero_point)
        traced = ROWS["floatfmt"].trace(x, scale=scale, zero_point=zero_point)
        np.testing.assert_array_equal(q.codes, traced.codes)


# --- torch --------------------------------------------------------------------------------------

SCALES = (1.0, 0.3, 0.00214854861, 1e-30, 1e30, 2.0**-126, 2.0**-130, 3e38, 2.0**-149, 0.7)


@needs_x86
@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_the_row_of_torch_is_quantize_per_tensor(name):
    lowest, highest = np.iinfo(name).min, np.iinfo(name).max
    dtype = getattr(torch, f"q{name}")
    compared = 0
    for scale in SCALES:
        for zero_point in (lowest, lowest + 1, 3, highest - 5):
            special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0])
            x = np.concatenate([any_codes(30_000, 2), ties_of(scale, zero_point), special])
            codes = torch.quantize_per_tensor(torch.from_numpy(x), scale, zero_point, dtype)
            traced = ROWS["torch"].trace(x, scale=scale, zero_point=zero_point, dtype=name)
            np.testing.assert_array_equal(traced.codes, codes.int_repr().numpy())
            compared += x.size
    assert compared > 1_500_000


@needs_x86
def test_a_torch_tensor_of_any_length_has_the_rows_codes():
    for n in range(70):
        x = ties_of(0.3)[400 : 400 + n]
        codes = torch.quantize_per_tensor(torch.from_numpy(x), 0.3, 5, torch.qint8).int_repr()
        np.testing.assert_array_equal(
            ROWS["torch"].trace(x, scale=0.3, zero_point=5).codes, codes.numpy()
        )


def test_the_row_of_torch_fake_is_fake_quantize():
    for scale in SCALES:
        for zero_point in (0, 3, -128):
            special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0])
            x = np.concatenate([any_codes(30_000, 3), ties_of(scale, zero_point), special])
            values = torch.fake_quantize_per_tensor_affine(
                torch.from_numpy(x), scale, zero_point, -128, 127
            )
            traced = ROWS["torch_fake"].trace(x, scale=scale, zero_point=zero_point)
            assert same_floats(traced.values, values.numpy())


@given(st.data())
def test_a_fused_product_and_sum_is_rounded_once(data):
    codes = st.integers(0, 2**32 - 1)
    near_tie = st.builds(
        lambda k, n: (k + 0.5) * 2.0**-n, st.integers(-300, 300), st.integers(0, 9)
    )
    number = st.one_of(
        codes.map(lambda code: np.uint32(code).view(F32)), near_tie.map(np.float32)
    ).filter(np.isfinite)
    x, factor = data.draw(number), data.draw(number)
    addend = np.float32(data.draw(st.integers(-128, 255).filter(bool)))
    with np.errstate(over="ignore"):
        found = _fused(np.atleast_1d(x), np.atleast_1d(factor), np.atleast_1d(addend))
    exact = Fraction(float(x)) * Fraction(float(factor)) + int(addend)
    assert ff.exact.encode(exact, ff.format("fp32")) & 0x7FFFFFFF == (
        int(found.view("u4")[0]) & 0x7FFFFFFF
    )


def test_fbgemms_documented_near_tie():
    """Multiplied by the reciprocal it is a tie, divided it is not quite one."""
    x, scale = np.float32([0.273939937]), 0.00214854861
    codes = {
        name: int(row.trace(x, scale=scale, dtype="uint8").codes[0])
        for name, row in ROWS.items()
        if row.takes_scale and "uint8" in row.dtypes
    }
    assert codes == {"torch": 128, "torch_channel": 128, "torch_fake": 128, "onnx": 127}
    assert ROWS["floatfmt"].trace(x, scale=scale).codes.tolist() == [127]
    assert ROWS["torch"].trace(x, scale=scale)["product"].tolist() == [127.5]
    assert ROWS["onnx"].trace(x, scale=scale)["quotient"][0] == np.float32(127.49999)


# --- the article --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
@given(finite_arrays(F32, min_size=1))
def test_the_row_of_the_article_is_its_operations_on_torch(scheme, x):
    formula = {"absmax": article_absmax, "zeropoint": article_zeropoint}[scheme]
    codes, values, multiplier, zero_point = (part.numpy() for part in formula(torch.from_numpy(x)))
    traced = ROWS["article"].trace(x, scheme)
    there = traced.defined
    np.testing.assert_array_equal(there, np.abs(codes) <= 128)
    np.testing.assert_array_equal(traced.codes[there], codes[there].astype(np.int8))
    assert same_floats(traced.parameters.scale.item(), multiplier)
    assert same_floats(traced.parameters.zero_point.item(), zero_point)
    assert same_floats(traced.values[there], values[there])


def test_the_numbers_printed_in_the_article():
    absmax, zeropoint = ARTICLE["absmax_example"], ARTICLE["zeropoint_example"]
    found = ROWS["article"].trace(np.float32([absmax["x"], absmax["amax"]]), "absmax")
    assert found.codes.tolist() == [absmax["code"], 127]
    assert round(float(found.values[0]), 4) == absmax["dequantized_4_decimals"]
    x = np.float32([zeropoint["min"], zeropoint["x"], zeropoint["max"]])
    found = ROWS["article"].trace(x, "zeropoint")
    assert round(float(found.parameters.scale[0, 0]), 2) == zeropoint["scale_multiplier_2_decimals"]
    assert found.parameters.zero_point.item() == zeropoint["zero_point"]
    assert found.codes.tolist() == [-128, zeropoint["code"], 127]
    weights = ARTICLE["gpt2_h0_attn_c_attn"]
    x = np.float32([*np.ravel(weights["weights"]), weights["min"], weights["max"]])
    for scheme in ("absmax", "zeropoint"):
        codes = ROWS["article"].trace(x, scheme).codes[:-2].reshape(6, 6)
        assert codes.tolist() == weights[f"{scheme}_codes"]


def test_bitsandbytes_has_a_scale_for_each_row():
    x = np.float32([[1, -2, 0.5], [100, 3, 4]])
    found = ROWS["bitsandbytes"].trace(x)
    assert found.codes.tolist() == [[64, -127, 32], [127, 4, 5]]
    assert found.parameters.scale.tolist() == [[2.0], [100.0]]
    assert found["scale"].shape == x.shape
    zero = ROWS["bitsandbytes"].trace(np.float32([[0, 0], [1, 0]]))
    assert zero.defined.tolist() == [[False, False], [True, True]]


# --- rules --------------------------------------------------------------------------------------

ROUNDED = {
    "half even": [-2, -2, -0.0, 0, 2, 2],
    "half away": [-3, -2, -1, 1, 2, 3],
    "half up": [-2, -1, 0, 1, 2, 3],
    "add half, truncate": [-3, -2, -1, 1, 2, 3],
    "toward zero": [-2, -1, 0, 0, 1, 2],
    "down": [-3, -2, -1, 0, 1, 2],
    "up": [-2, -1, 0, 1, 2, 3],
}


@pytest.mark.parametrize("name", ROUNDINGS)
def test_roundings(name):
    x = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert ROUNDINGS[name](x).tolist() == ROUNDED[name]
    almost = np.nextafter(np.float32(0.5), np.float32(0))
    expected = 1 if name in ("up", "add half, truncate") else 0
    assert ROUNDINGS[name](np.float32([almost])).tolist() == [expected]


@pytest.mark.parametrize(
    ("clamp", "codes"),
    [
        ("last", [127, -128, 127, -125]),
        ("wraps", [-53, 53, 0, -125]),
        ("integer wraps", [-53, 53, 3, -125]),
        ("before the zero point", [-126, -125, -126, -125]),
    ],
)
def test_clamps(clamp, codes):
    row = Convention("own", "", "", (Scheme("given", clamp=clamp),), nan="lowest")
    plan = Plan(row, row.schemes[0], "int8")
    found, _ = plan.steps(np.float32([[200, -206, 1e30, -128]]), plan.given(1.0, 3))
    assert found["code"][0].tolist() == codes


def test_a_trace_has_each_step_in_the_shape_of_x():
    x = torch.tensor([[0.1, -1.5], [3.2, 0.0]], dtype=torch.bfloat16)
    found = ROWS["torch"].trace(x, scale=0.5, zero_point=1)
    assert set(found.steps) <= set(STEPS)
    assert all(part.shape == (2, 2) for part in found.steps.values())
    assert found.at((0, 1)) == {
        "x": -1.5,
        "scale": 0.5,
        "reciprocal": 2.0,
        "product": -3.0,
        "with zero point": -2.0,
        "rounded": -2.0,
        "clamped": -2.0,
        "code": -2,
    }


# --- codes and values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "scales", "arguments"),
    [
        ("article", (3, 4), (), {}),
        ("onnx", (3, 4), (), {"scale": 0.5, "zero_point": 3, "dtype": "uint8"}),
        ("bitsandbytes", (2, 3, 5), (2, 3), {}),
        ("torch_channel", (2, 3), (3,), {"scale": [1, 2, 3], "zero_point": [0, 1, 2], "axis": 1}),
        ("torch_channel", (2, 3, 5), (5,), {"scale": 0.25, "axis": -1}),
        ("ggml_q8_0", (3, 33), (4,), {}),
        ("bitsandbytes_nf4", (3, 33), (2,), {}),
        ("bitsandbytes_nf4", (3, 33), (4,), {"block": 32, "scheme": "double"}),
        ("bitsandbytes_blockwise", (), (1,), {}),
        ("ggml_q8_0", (0,), (0,), {}),
        ("torch", (0, 3), (), {"scale": 1.0}),
        ("torch", (), (), {"scale": 1.0}),
    ],
)  # fmt: skip
def test_codes_scales_and_values_are_those_of_the_trace(
    name, shape, scales, arguments, monkeypatch
):
    x = np.random.default_rng(3).normal(size=shape).astype(F32)
    row, options = ROWS[name], dict(arguments)
    block, axis = options.pop("block", None), arguments.get("axis", 0)
    if block:
        row = dataclasses.replace(row, over=f"block of {block}")
    traced = row.trace(x, **options)
    for slab in (1 << 18, 7):
        monkeypatch.setattr(ROOM, "SLAB", slab)
        found = quantized(x, name, **arguments)
        assert (found.scale.shape, found.zero_point.shape) == (scales, scales)
        assert found.zero_point.dtype == np.int64
        assert found.codes.dtype == arguments.get("dtype", row.dtypes[0])
        np.testing.assert_array_equal(found.codes, traced.codes)
        values = dequantized(
            *(found.codes, name, found.scale, found.zero_point), axis=axis, block=block
        )
        np.testing.assert_array_equal(values.view("u4"), traced.values.view("u4"))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: quantized(ONE, "torch", scale=1.0, block=32), ValueError, "torch has a scale"),
        (lambda: quantized(ONE, "ggml_q8_0", block=33), ValueError, "over must be one of 'tensor'"),
        (lambda: quantized(ONE, "ggml_q8_0", "zeropoint"), ValueError, "no scheme 'zeropoint'"),
        (lambda: quantized(ONE, "torch_channel", scale=[1, 2]), ValueError, "2 scales or zero"),
        (lambda: quantized(ONE, "torch", scale=[1, 2]), TypeError, "scale must be one number"),
        (lambda: quantized(TINY, "article", "zeropoint"), ValueError, "zero point here that is no"),
        (lambda: dequantized(ONE, "torch", 1.0), TypeError, "codes of int8 or uint8, got float32"),
        (lambda: dequantized(np.int8([1]), "torch", [1.0, 2.0]), ValueError, "2 scales, where"),
    ],
)  # fmt: skip
def test_what_cannot_be_quantised_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


ONE = np.float32([1])
TINY = np.float32([1e-45, 0])  # 1 / its range overflows


def test_rows_are_data():
    assert len({row.name for row in ff.conventions()}) == len(ff.conventions())
    for row in ff.conventions():
        assert hash(row) == hash(dataclasses.replace(row))
        assert row == eval(repr(row), {"Convention": Convention, "Scheme": Scheme})
        assert str(row).startswith(row.name)
        assert max(map(len, str(row).splitlines())) <= 100
    own = dataclasses.replace(ROWS["onnx"], name="mine", rounding="half away")
    assert own.trace(np.float32([0.5]), scale=1.0).codes.tolist() == [1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: find("onyx"), ValueError, "no convention is called 'onyx'; there are"),
        (lambda: find(3), ValueError, "no convention is called 3"),
        (lambda: Convention("a", "", "", rounding="up?"), ValueError, "rounding must be one of"),
        (lambda: ROWS["torch"].trace(np.float32([1])), ValueError, "torch has no rule for a scale"),
        (lambda: ROWS["article"].trace(np.float32([1]), scale=1), ValueError, "finds its own"),
        (lambda: ROWS["article"].trace(np.float32([1]), "row"), ValueError, "no scheme 'row'; it"),
        (lambda: ROWS["floatfmt"].trace([1.0]), TypeError, "are about fp32, fp16 and bf16 values"),
        (lambda: traced(dtype="int4"), ValueError, "torch has codes of int8 or uint8, not 'int4'"),
        (lambda: traced(zero_point=300), ValueError, "zero_point 300 is not from -128 to 127"),
        (lambda: traced(zero_point=0.5), TypeError, "zero_point must be an integer, got float"),
        (lambda: traced(scale=-1.0), ValueError, re.escape("scale is -1.0; a scale is positive")),
        (lambda: traced(scheme="absmax"), TypeError, "give a scheme or a scale, not both"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def traced(scheme=None, **arguments):
    return ROWS["torch"].trace(np.float32([1]), scheme, **{"scale": 1.0, **arguments})
