"""int8 quantisation: the article's numbers, the promises of the docstring, and hostile tensors."""

import json
import tracemalloc
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact, quantization
from strategies import FLOAT_DTYPES, finite_arrays

torch = pytest.importorskip("torch")

ARTICLE = json.loads((Path(__file__).parent / "data" / "article.json").read_text())
FP32_MAX, FP32_TINY = np.finfo(np.float32).max, np.float32(2.0**-149)


# --- the article --------------------------------------------------------------------------------


def test_the_articles_absmax_example(backend):
    wanted = ARTICLE["absmax_example"]
    q = ff.absmax(np.float32([wanted["x"], -wanted["amax"]]))
    assert q.codes.tolist() == [wanted["code"], -127]
    value = float(q.dequantize()[0])
    assert round(value, 4) == wanted["dequantized_4_decimals"]
    assert round(value - wanted["x"], 4) == wanted["error_4_decimals"]


def test_the_articles_zeropoint_example(backend):
    wanted = ARTICLE["zeropoint_example"]
    q = ff.zeropoint(np.float32([wanted["min"], wanted["x"], wanted["max"]]))
    assert round(1 / float(q.scale), 2) == wanted["scale_multiplier_2_decimals"]
    assert int(q.zero_point) == wanted["zero_point"]
    assert q.codes.tolist() == [-128, wanted["code"], 127]


@pytest.fixture
def gpt2_attention():
    """The printed corners of GPT-2's first attention weight, with extremes that fit its codes."""
    wanted = ARTICLE["gpt2_h0_attn_c_attn"]
    corners = np.float32(wanted["weights"])
    return wanted, np.concatenate([corners.ravel(), np.float32([wanted["min"], wanted["max"]])])


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_the_codes_of_gpt2s_first_attention_weight(backend, gpt2_attention, scheme):
    wanted, x = gpt2_attention
    q = ff.quantize(x, scheme)
    assert q.codes[:-2].reshape(6, 6).tolist() == wanted[f"{scheme}_codes"]
    if scheme == "zeropoint":
        assert int(q.zero_point) == wanted["zeropoint"]


def test_the_articles_formats_of_pi():
    pi = np.float64([np.pi])
    for name, text in ARTICLE["pi"].items():
        fields = ff.decompose(ff.encode(pi, name), name)
        fmt = fields.format
        printed = (
            f"{fields.sign[0]:b} {fields.exponent[0]:0{fmt.exponent_bits}b}"
            f" {fields.fraction[0]:0{fmt.fraction_bits}b}"
        )
        assert printed == text


# --- promises -----------------------------------------------------------------------------------


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(["absmax", "zeropoint"]), st.data())
def test_what_is_not_clamped_comes_back_within_half_a_scale(dtype, scheme, data):
    x = data.draw(finite_arrays(dtype, min_size=1))
    q = ff.quantize(x, scheme)
    half = Fraction(float(q.scale)) / 2 * (1 + Fraction(1, 2**40))
    off = [
        abs(Fraction(float(v)) - (int(c) - int(q.zero_point)) * Fraction(float(q.scale)))
        for v, c in zip(x, q.codes, strict=True)
    ]
    # Rounding the zero point moves an end by half a step at most, so a clamp costs one step.
    assert sum(error > half for error in off) <= q.saturated
    assert max(off) <= 2 * half
    assert scheme == "zeropoint" or q.saturated == 0


@given(st.sampled_from(FLOAT_DTYPES), st.data())
def test_absmax_uses_its_whole_range_and_is_odd(dtype, data):
    x = data.draw(finite_arrays(dtype, min_size=1))
    q, negated = ff.absmax(x), ff.absmax(-x)
    np.testing.assert_array_equal(negated.codes, -q.codes)
    fmt = ff.format(q.scale.dtype)
    if float(q.scale) >= float(fmt.min_normal) and np.abs(x).max() > 0:
        assert np.abs(q.codes).max() == 127


@given(st.sampled_from(["absmax", "zeropoint"]), st.integers(-60, 60), st.data())
def test_scaling_by_a_power_of_two_scales_only_the_scale(scheme, exponent, data):
    steps = data.draw(st.lists(st.integers(-5000, 5000), min_size=1, max_size=50))
    x = np.float32(steps) / 8
    q, scaled = ff.quantize(x, scheme), ff.quantize(x * np.float32(2.0**exponent), scheme)
    np.testing.assert_array_equal(scaled.codes, q.codes)
    if x.any():
        assert float(scaled.scale) == float(q.scale) * 2.0**exponent


@given(st.sampled_from(FLOAT_DTYPES), st.data())
def test_zero_has_the_code_of_the_zero_point(dtype, data):
    x = np.append(data.draw(finite_arrays(dtype, min_size=1)), dtype.type(0))
    q = ff.zeropoint(x)
    if x.any():
        assert int(q.codes[-1]) == int(q.zero_point)
        assert float(q.dequantize()[-1]) == 0.0


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(["absmax", "zeropoint"]), st.data())
def test_axis_is_each_slice_by_itself(dtype, scheme, data):
    flat = data.draw(finite_arrays(dtype, min_size=12, max_size=120))
    x = flat[: flat.size // 12 * 12].reshape(2, -1, 3, 2)
    axis = data.draw(st.sampled_from([0, 1, -1, (0, 1), (1, 3), (0, 2), (0, 1, 2, 3)]))
    q = ff.quantize(x, scheme, axis=axis)
    axes = {a % 4 for a in ([axis] if isinstance(axis, int) else axis)}
    assert q.scale.shape == tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
    for index in np.ndindex(q.scale.shape):
        part = tuple(i if a in axes else slice(None) for a, i in enumerate(index))
        alone = ff.quantize(x[part], scheme)
        np.testing.assert_array_equal(q.codes[part], alone.codes)
        assert (q.scale[index], q.zero_point[index]) == (alone.scale, alone.zero_point)
        np.testing.assert_array_equal(q.dequantize()[part], alone.dequantize())


@given(st.sampled_from(FLOAT_DTYPES), st.data())
def test_a_schemes_own_scale_given_back_gives_its_codes(dtype, data):
    x = data.draw(finite_arrays(dtype, min_size=1))
    q = ff.zeropoint(x)
    given_back = ff.quantize(x, scale=q.scale, zero_point=q.zero_point)
    np.testing.assert_array_equal(given_back.codes, q.codes)
    assert given_back.scale == q.scale


# --- defined for every finite input -------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_zeros_constants_and_nothing_have_defined_results(backend, scheme, dtype):
    zeros = ff.quantize(np.zeros((2, 3), dtype), scheme)
    assert (zeros.codes == 0).all()
    assert (float(zeros.scale), int(zeros.zero_point)) == (1.0, 0)
    empty = ff.quantize(np.zeros((0, 3), dtype), scheme)
    assert (empty.codes.shape, empty.dequantize().shape, float(empty.scale)) == ((0, 3), (0, 3), 1)
    empty_rows = ff.quantize(np.zeros((2, 0), dtype), scheme, axis=0)
    assert empty_rows.scale.tolist() == [[1.0], [1.0]]
    for constant in (2.5, -2.5):
        q = ff.quantize(np.full(5, constant, dtype), scheme)
        assert np.sign(q.codes).tolist() == [np.sign(constant)] * 5
        assert q.dequantize().astype(float).tolist() == pytest.approx([constant] * 5, rel=1e-2)
    alone = ff.quantize(np.array(-1.5, dtype), scheme)
    assert alone.codes.shape == ()
    assert float(alone.dequantize()) == pytest.approx(-1.5, rel=1e-2)


def test_zeropoint_of_a_constant_is_its_sign_times_its_size(backend):
    q = ff.zeropoint(np.full(3, -2.5, np.float32))
    assert (float(q.scale), int(q.zero_point), q.codes.tolist()) == (2.5, 0, [-1, -1, -1])
    assert q.dequantize().tolist() == [-2.5] * 3


def test_unsigned_codes_keep_a_negative_constant(backend):
    q = ff.zeropoint(np.full(3, -2.5, np.float32), signed=False)
    assert (float(q.scale), int(q.zero_point), q.codes.tolist()) == (2.5, 1, [0, 0, 0])
    assert (q.dequantize().tolist(), q.saturated) == ([-2.5] * 3, 0)


@pytest.mark.parametrize(
    ("values", "scheme", "codes"),
    [
        ([FP32_TINY], "absmax", [1]),
        ([FP32_TINY * 126, FP32_TINY], "absmax", [126, 1]),
        ([-FP32_MAX, FP32_MAX, 0], "absmax", [-127, 127, 0]),
        ([-FP32_MAX, FP32_MAX], "zeropoint", [-128, 127]),
        ([0, FP32_TINY], "zeropoint", [-128, -127]),
        ([16777214, 16777215], "zeropoint", [-128, 127]),
    ],
)
def test_the_extremes_of_fp32(backend, values, scheme, codes):
    x = np.float32(values)
    q = ff.quantize(x, scheme)
    assert q.codes.tolist() == codes
    assert np.isfinite(q.dequantize()).all()
    # From -max to max is 255 steps about 0: one end lies half a step outside.
    assert q.saturated == (scheme == "zeropoint" and values[0] == -FP32_MAX)


def test_the_extremes_of_fp64(backend):
    big = np.finfo(np.float64).max
    q = ff.zeropoint(np.float64([-big, 0.0, big]))
    assert q.codes.tolist() == [-128, -1, 126]
    assert float(q.scale) == pytest.approx(big / 127.5)
    assert np.isfinite(q.dequantize()).all()
    tiny = np.float64([5e-324, -5e-324])
    assert ff.absmax(tiny).codes.tolist() == [1, -1]
    assert float(ff.absmax(tiny).scale) == 5e-324


def test_a_range_far_from_zero_needs_a_zero_point_beyond_int8(backend):
    q = ff.zeropoint(np.float32([16777214, 16777215]))
    assert int(q.zero_point) < -4_000_000_000
    assert q.dequantize().tolist() == [16777214, 16777215]


def test_dequantised_values_never_leave_the_dtypes_range(backend):
    q = ff.quantize(np.float16([60000.0]), scale=1000.0)
    assert q.dequantize().tolist() == [60000.0]
    coarse = ff.quantize(np.float16([65504.0]), scale=4096.0)
    assert coarse.codes.tolist() == [16]
    assert coarse.dequantize().tolist() == [65504.0]


def test_saturated_values_are_counted(backend):
    q = ff.quantize(np.float32([-200, -128, 0, 127, 127.5, 128, 1e30]), scale=1.0)
    assert q.codes.tolist() == [-128, -128, 0, 127, 127, 127, 127]
    assert q.saturated == 4


@pytest.mark.parametrize("scale_dtype", ["fp64", "fp32", "fp16", "bf16"])
def test_the_scale_is_stored_in_the_format_asked_for(backend, scale_dtype):
    x = np.float32([0.1, 3.2])
    q = ff.absmax(x, scale_dtype=scale_dtype)
    assert ff.format(q.scale.dtype).name == scale_dtype
    expected = float(ff.round_to(np.float64([3.2 / 127]), scale_dtype)[0])
    assert float(q.scale) == pytest.approx(expected, rel=2.0**-24)
    assert q.codes.tolist() == [4, 127]


def test_a_scale_too_large_for_its_format_becomes_the_largest():
    q = ff.absmax(np.float32([FP32_MAX]), scale_dtype="fp16")
    assert (float(q.scale), q.codes.tolist(), q.saturated) == (65504.0, [127], 1)


def test_the_given_scale_is_rounded_before_it_divides(backend):
    assert ff.quantize(np.float32([0.2549999952316284]), scale=0.03).codes.tolist() == [9]
    assert ff.quantize(np.float64([0.2549999952316284]), scale=0.03).codes.tolist() == [8]


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, np.longdouble, np.array, ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("whole", [int, np.int8, np.uint64, np.array])
def test_any_kind_of_number_is_a_scale_and_a_zero_point(backend, kind, whole):
    x = np.linspace(-3, 3, 99, dtype=np.float32)
    found = ff.quantize(x, scale=kind(0.0390625), zero_point=whole(7))
    expected = ff.quantize(x, scale=0.0390625, zero_point=7)
    assert found.codes.tolist() == expected.codes.tolist()
    assert (found.scale, found.zero_point) == (expected.scale, expected.zero_point)
    for wrong in (kind(-1.5), kind(np.nan)):
        with pytest.raises(ValueError, match=f"scale is {float(wrong)}; a scale is positive"):
            ff.quantize(x, scale=wrong)


def test_scalars_of_numpy_are_plain_numbers():
    plain = quantization._plain  # what spares a call two thirds of its time
    assert plain(np.float32(0.5), np.uint8(7)) == plain(0.5, 7) == (0.5, 7)
    assert plain(np.array(0.5), 7) is plain(0.5, np.timedelta64(7)) is plain(0.5, True) is None


@pytest.mark.parametrize(
    "wrong", [True, np.bool_(True), 1.0, np.float32(1), np.timedelta64(7), np.timedelta64("NaT")]
)
def test_a_zero_point_is_an_integer(wrong):
    with pytest.raises(TypeError, match="zero_point must be an integer"):
        ff.quantize(np.float32([1, 2]), scale=np.float32(0.5), zero_point=wrong)


def test_absmax_never_gives_minus_128():
    assert ff.absmax(np.float32([-FP32_MAX]), scale_dtype="fp16").codes.tolist() == [-127]


def test_counts_and_positions_are_those_of_the_whole_array(backend):
    """Strided, so that it is worked on in several slabs."""
    x = np.zeros((2, 300, 400), np.float32)[:, :, ::2].transpose(1, 0, 2)
    x[::100] = 1e6
    assert ff.quantize(x, scale=1.0).saturated == 3 * 2 * 200
    for at in ((299, 1, 199), (150, 0, 7)):
        bad = x.copy(order="K")
        bad[at] = np.nan
        with pytest.raises(ValueError, match=rf"x\[{at[0]}, {at[1]}, {at[2]}\] is nan"):
            ff.absmax(bad, axis=2)


def test_signalling_nans_are_named_without_a_warning(backend):
    for dtype, code in ((np.float32, 0x7F800001), (ml_dtypes.bfloat16, 0x7F81)):
        x = np.full(3, code, ff.format(dtype).code_dtype).view(dtype)
        with pytest.raises(ValueError, match=r"x\[0\] is nan"):
            ff.absmax(x)


def test_beyond_2_to_52_steps_from_zero_float64_has_no_halves(backend):
    """The docstring's limit: such codes are the formula's, though farther than half a scale."""
    x = 12.5 + np.arange(3) * np.spacing(12.5)
    q = ff.zeropoint(x)
    assert int(q.zero_point) < -(2**52)
    assert q.codes.tolist() == [
        exact.quantize(Fraction(v), Fraction(float(q.scale)), int(q.zero_point), -128, 127)
        for v in x
    ]


def test_a_schemes_scales_of_nothing_can_be_given_back():
    nothing = np.zeros((0, 3), np.float32)
    q = ff.absmax(nothing, axis=0)
    again = ff.quantize(nothing, scale=q.scale, zero_point=q.zero_point, axis=np.int64(0))
    assert again.codes.shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1 << 22,), None), ((2048, 2048), None), ((2048, 2048), 0), ((4, 512, 2048), -1)],
)
def test_native_levels_need_no_memory_beside_the_result(level, shape, axis):
    x = np.ones(shape, np.float32)
    codes, values = np.empty(shape, np.int8), np.empty(shape, np.float32)
    with ff.use_backend(level):
        q = ff.absmax(x, axis=axis, out=codes)
        tracemalloc.start()
        ff.absmax(x, axis=axis, out=codes)
        ff.zeropoint(x, axis=axis, out=codes)
        q.dequantize(out=values)
        ff.round_to(x, "bf16", out=values)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 400_000  # numbers for 2,048 channels, of each thread; the array has 16 MiB


def test_ties_go_to_the_even_code(backend):
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 126.5])
    assert ff.quantize(x, scale=1.0).codes.tolist() == [0, 2, 2, 0, -2, 126]
    assert ff.quantize(x, scale=1.0, zero_point=1).codes.tolist() == [1, 3, 3, 1, -1, 127]


def test_fbgemms_documented_near_tie_is_divided_not_multiplied(backend):
    x, scale = np.float32([0.273939937]), np.float32(0.00214854861)
    assert np.rint(x * (1 / scale)) == [128]
    assert ff.quantize(x, scale=scale).codes.tolist() == [127]


# --- kinds of arrays ----------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_strides_and_byte_order_change_no_bit(backend, axis, scheme):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 400)).astype(np.float32)
    expected = ff.quantize(x, scheme, axis=axis)
    disguises = {
        "F": np.asfortranarray(x),
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "sliced": np.repeat(x, 2, axis=1)[:, ::2],
        ">f4": x.astype(">f4"),
        "read-only": np.lib.stride_tricks.as_strided(x, writeable=False),
    }
    for name, disguised in disguises.items():
        q = ff.quantize(disguised, scheme, axis=axis)
        assert q == expected, name
        assert q.dequantize().tobytes() == expected.dequantize().tobytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_torch_parameter_gives_torch_results(backend, dtype):
    weight = torch.nn.Parameter(torch.linspace(-1, 2, 24, dtype=dtype).reshape(4, 6))
    q = ff.quantize(weight, "absmax", axis=0)
    expected = ff.quantize(weight.detach().double().numpy(), "absmax", axis=0, scale_dtype="fp32")
    if dtype is not torch.float64:
        assert q.codes.dtype == torch.int8
        np.testing.assert_array_equal(q.codes.numpy(), expected.codes)
    assert q.dequantize().dtype == dtype
    assert q.scale.shape == (4, 1)


def test_bf16_numpy_arrays_are_quantised_from_their_own_values(backend):
    x = np.linspace(-3, 3, 1000).astype(ml_dtypes.bfloat16)
    expected = ff.quantize(x.astype(np.float32), "zeropoint")
    q = ff.quantize(x, "zeropoint")
    np.testing.assert_array_equal(q.codes, expected.codes)
    assert q.dequantize().dtype == x.dtype


def test_out_receives_the_codes(backend):
    x = np.float32([[1, 2], [3, 4]])
    for order in "CF":
        out = np.zeros((2, 2), np.int8, order=order)
        q = ff.absmax(x, axis=1, out=out)
        assert q.codes is out
        np.testing.assert_array_equal(out, ff.absmax(x, axis=1).codes)
        values = np.zeros((2, 2), np.float32, order=order)
        assert q.dequantize(out=values) is values
        np.testing.assert_array_equal(values, q.dequantize())
    with pytest.raises(TypeError, match="out= must be an array of int8"):
        ff.absmax(x, out=np.zeros((2, 2), np.uint8))


def test_results_are_compared_printed_and_counted():
    x = np.float32([[1, 2], [3, 4]])
    q = ff.absmax(x, axis=0)
    assert q == ff.absmax(x.copy(), axis=0)
    assert q != ff.absmax(x)
    assert q.nbytes == 4 + 2 * 4
    assert ff.zeropoint(x).nbytes == 4 + 4 + 8
    assert str(q).startswith("int8 absmax, 2×2 from fp32, one scale per index of axis (0,), 12 by")
    assert json.loads(json.dumps(q.to_dict()))["axis"] == [0]


# --- bad input ----------------------------------------------------------------------------------

ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, r"give a scheme \('absmax', 'zeropoint', .*\) or a scale"),
        ({"scheme": "absmax", "scale": 1.0}, TypeError, "give a scheme"),
        ({"scheme": "absmax", "zero_point": 1}, TypeError, "a zero_point goes with a scale"),
        ({"scheme": "nf5"}, ValueError, "no scheme is called .nf5.; nearest: nf4, "),
        ({"scheme": "absmax", "axis": 2}, ValueError, "axis 2 is out of range for an array of 2"),
        ({"scheme": "absmax", "axis": (0, -2)}, ValueError, "names an axis twice"),
        ({"scheme": "absmax", "axis": "rows"}, TypeError, "axis must be an integer"),
        ({"scheme": "absmax", "scale_dtype": "tf32"}, ValueError, "scale_dtype must be one of fp"),
        ({"scale": 0.0}, ValueError, "scale is 0.0; a scale is positive and finite, in fp32 from"),
        ({"scale": [1.0, -1.0], "axis": 0}, ValueError, r"scale\[1\] is -1.0"),
        ({"scale": np.nan}, ValueError, "scale is nan"),
        ({"scale": [1.0, 2.0, 3.0], "axis": 0}, ValueError, r"scale has shape \(3,\); with"),
        ({"scale": 1.0, "zero_point": 0.5}, TypeError, "must be an integer, got float 0.5"),
        ({"scale": 1.0, "zero_point": 2**53 + 1}, ValueError, "is not within .2..62 and exact in"),
        ({"scale": 1.0, "zero_point": 2**70}, ValueError, "is not within .2..62"),
        ({"scale": "a"}, TypeError, "scale must be a number or an array of numbers, got 'a'"),
        ({"scale": 1j}, TypeError, "scale must be a number"),
        ({"scale": 1e300}, ValueError, "scale is 1e[+]300; .* in fp32 from 1.4e-45 to 3.4e[+]38"),
        ({"scale": 1e-60}, ValueError, "scale is 1e-60"),
        ({"scheme": ["absmax"]}, TypeError, "a scheme is a name, a Codebook or a Format"),
        ({"scheme": "absmax", "axis": True}, TypeError, "axis must be an integer"),
        ({"scheme": "absmax", "axis": 1.0}, TypeError, "axis must be an integer"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ff.quantize(ONES, **arguments)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="expected floating-point values .* of int64; cast first"):
        ff.absmax(np.arange(4))


def test_dequantize_to_a_format_without_a_dtype_is_refused():
    with pytest.raises(ValueError, match="no array holds tf32 here"):
        ff.absmax(ONES).dequantize("tf32")


# --- what reviewers found -----------------------------------------------------------------------


@pytest.mark.parametrize("nonfinite", ["ignore", "saturate"])
def test_a_nan_changes_the_range_of_its_own_row_alone(backend, nonfinite):
    x = np.tile(np.float32([5, 6, 5.5, 5.2]), (3000, 1))
    x[0, 0] = np.nan
    for q in (
        ff.quantize(x, "zeropoint", axis=0, nonfinite=nonfinite),
        ff.quantize(x.T.copy(), "zeropoint", axis=1, nonfinite=nonfinite),
    ):
        scale = q.scale.reshape(-1)
        assert (scale[1:] == scale[1]).all()
        assert scale[0] > scale[1]
        assert q.nonfinite == 1
    q = ff.quantize(x[0], "zeropoint", min=5, max=6, nonfinite=nonfinite)
    assert float(q.scale) == float(np.float32(1 / 255))


@pytest.mark.parametrize("shape", [(64, 2), (4, 4)])
@pytest.mark.parametrize("block", [1, 2])
def test_a_scale_given_back_is_taken_as_it_was(shape, block):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    q = ff.quantize(x, "absmax", block=block * shape[0] // 2, block_axis=0)
    again = ff.quantize(x, scale=q.scale, block=block * shape[0] // 2, block_axis=0)
    np.testing.assert_array_equal(again.scale, q.scale)
    np.testing.assert_array_equal(again.codes, q.codes)


def test_rows_of_zeros_do_not_spoil_scales_that_are_quantised(backend):
    w = (np.random.default_rng(0).normal(size=(64, 256)) * 2e-4).astype(np.float32)
    w[::16] = 0
    plain, double = (
        ff.error(w, ff.quantize(w, "nf4", double_quantization=d).dequantize()).sqnr_db
        for d in (False, True)
    )
    assert double > plain - 0.5
    zeros = ff.quantize(np.zeros((4, 64), np.float32), "nf4", double_quantization=True)
    assert not zeros.dequantize().any()


def test_nvfp4_takes_a_range_wider_than_the_values():
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    assert float(ff.quantize(x, "nvfp4", max=100).tensor_scale) == np.float32(100 / (6 * 448))


def test_formats_and_tables_of_ones_own_are_stored_whole(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    tensors = {
        "a": ff.quantize(x, ff.Format("fp8_e4m3fn", 3, 4, bias=3)),
        "b": ff.quantize(x, ff.Format("e2m2", 2, 2, bias=1)),
        "c": ff.quantize(x, ff.Codebook([-1, 0, 1.0], name="nvfp4")),
        "d": ff.quantize(x, ff.Codebook(np.linspace(-1, 1, 256), name="absmax"), block=32),
    }
    ff.save_quantized(tmp_path / "own.safetensors", tensors)
    assert ff.load_quantized(tmp_path / "own.safetensors") == tensors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scheme": "absmax", "block": 2, "block_axis": (0, 1)}, TypeError, "block_axis must be"),
        ({"scheme": "absmax", "block_axis": 1}, TypeError, "block_axis=1 needs block="),
        ({"scheme": "absmax", "block": True}, TypeError, "block must be an integer, got True"),
        ({"scheme": "absmax", "clip": 99.9, "max": 3}, TypeError, "clip=99.9 finds the range"),
        ({"scheme": "absmax", "clip": "99"}, ValueError, "clip must be 'mse' or a percentile"),
        ({"scheme": "absmax", "clip": np.array([1, 2])}, ValueError, "clip must be"),
        ({"scheme": "mxfp4", "scale": 1, "scale_rule": "ceil"}, TypeError, "scale_rule= finds"),
        ({"scheme": "zeropoint", "signed": "no"}, TypeError, "signed must be True or False"),
        ({"scheme": "nf4", "scale": 1, "double_quantization": True}, TypeError, "that are found"),
        ({"scheme": "foo", "convention": "torch"}, ValueError, "torch has no scheme 'foo'"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ff.quantize(np.ones((4, 4), np.float32), **options)


def test_fp8_values_become_fp16_and_no_fp32():
    x = torch.randn(64, 64).to(torch.float8_e4m3fn)
    q = ff.quantize(x, "absmax", axis=0)
    assert q.format == ff.format("fp16")
    assert q.dequantize().dtype == torch.float16
    assert ff.measure(x, q).error.sqnr_db > 40


# --- what options come to is kept for the next call ---------------------------------------------


GIVEN = {"scale": np.float64(0.0625), "zero_point": 3}


class Width:
    """An integer that may change, with a hash."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __index__(self) -> int:
        return self.bits


@pytest.mark.parametrize(
    ("good", "wrong", "match"),
    [
        ({"bits": 8}, {"bits": 8.0}, "bits must be an integer, got 8.0"),
        ({"axis": 1}, {"axis": True}, "axis must be an integer or a sequence"),
        ({"axis": (1,)}, {"axis": (1.0,)}, "axis must be an integer or a sequence"),
        ({"block": 1}, {"block": True}, "block must be an integer, got True"),
    ],
)
def test_an_option_that_equals_a_good_one_is_refused_after_it(good, wrong, match):
    x = np.ones((2, 4), np.float32)
    ff.absmax(x, **good)
    with pytest.raises(TypeError, match=match):
        ff.absmax(x, **wrong)


def test_an_option_that_has_changed_counts_as_it_is():
    x, width = np.ones(4, np.float32), Width(8)
    assert ff.absmax(x, bits=width).bits == 8
    width.bits = 4
    assert ff.absmax(x, bits=width).bits == 4


def test_without_a_seed_every_call_draws_another():
    x = np.linspace(0, 1, 1000, dtype=np.float32)
    one, other = (ff.quantize(x, "absmax", rounding="stochastic").codes for _ in range(2))
    assert (one != other).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [*({"scheme": name} for name in ("absmax", "zeropoint", "nf4", "mxfp4")), GIVEN]
)
def test_two_results_share_no_memory(options, dtype):
    x = np.linspace(0, 1, 64, dtype=dtype)
    one, other = ff.quantize(x, **options), ff.quantize(x, **options)
    assert one == other
    for part in ("packed", "scale", "zero_point"):
        if getattr(one, part) is not None:
            assert not np.shares_memory(getattr(one, part), getattr(other, part))


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"axis": 0}, {"block": 32, "bits": 4}, {"scheme": "nf4"}, GIVEN),
        *({"scheme": "zeropoint"} | more for more in ({}, {"axis": 0}, {"block": 32})),
        {"scheme": "zeropoint", "include_zero": True, "scale_dtype": "bf16", "signed": False},
    ],
)
def test_values_in_any_order_of_memory_have_the_codes_of_those_in_c_order(options):
    x = np.random.default_rng(3).normal(size=(64, 64)).astype(np.float32)
    options = options if "scale" in options else {"scheme": "absmax"} | options
    expected = ff.quantize(x, **options)
    for same in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, axis=1)[:, ::2]):
        assert ff.quantize(same, **options) == expected
        out = np.empty_like(expected.packed, order="F")
        assert ff.quantize(same, **options, out=out).packed is out
        assert (out == expected.packed).all()


@pytest.mark.parametrize("shape", [(1,), (64,), (8, 8)])
def test_scales_that_were_not_found_are_not_converted(shape):
    """A warning is an error here."""
    x = np.full(shape, np.nan, np.float32)
    for _ in range(20):
        np.full(8, 1e300)  # what new scales may find in their memory
        with pytest.raises(ValueError, match="is nan"):
            ff.absmax(x, axis=0 if len(shape) > 1 else None)
