"""The NumPy reference against `exact.py`, the definition."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact
from floatfmt.backends import reference
from floatfmt.elements import table
from floatfmt.rounding import Rules, rules
from floatfmt.schemes import POWER_RULES, SCHEMES
from strategies import ALL_FORMATS, FLOAT_DTYPES, codes, finite_arrays, rules_of

ALL_16_BITS = np.arange(2**16, dtype=np.uint16)
SCALE_FORMATS = tuple(map(ff.format, ("fp64", "fp32", "fp16", "bf16", "fp8_e8m0fnu", "fp8_e4m3fn")))


def exact_codes(
    patterns: np.ndarray, source: ff.Format, how: Rules, random: tuple[int, int] = (0, 0)
) -> list[int]:
    """The code of each pattern, by the definition; 0 for a NaN that is an error."""
    seed, start = random
    return [
        0
        if how.nans is None and exact.category(int(pattern), source) == "nan"
        else exact.convert(
            int(pattern), source, how.format, how, exact.random_word(seed, start + i)
        )
        for i, pattern in enumerate(patterns)
    ]


def reference_codes(values: np.ndarray, how: Rules, random: tuple[int, int] = (0, 0)) -> list[int]:
    codes = np.empty(values.shape, how.format.code_dtype)
    fine = reference.encode(values, how, codes, random)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        is_nan = np.isnan(values)
    assert fine == (how.nans is not None or not is_nan.any())
    return np.where(is_nan & (how.nans is None), 0, codes).tolist()


#: Targets for which all 65,536 codes are converted by the definition, which takes its time; for the
#: others every seventh.
THOROUGH = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e8m0fnu", "int8")


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("target", ALL_FORMATS, ids=str)
def test_encode_equals_exact_on_16_bit_codes(name, target):
    source, how = ff.format(name), rules(target)
    patterns = ALL_16_BITS[:: 1 if target.name in THOROUGH else 7].copy()
    assert reference_codes(patterns.view(source.dtype), how) == exact_codes(patterns, source, how)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decode_equals_exact_on_every_16_bit_code(name, dtype):
    fmt = ff.format(name)
    values = np.empty(2**16, dtype)
    reference.decode(ALL_16_BITS, fmt, values)
    for code, value in zip(ALL_16_BITS.tolist(), values.tolist(), strict=True):
        expected = exact.decode(code, fmt)
        if expected == expected:
            assert value == expected, hex(code)
            assert np.signbit(value) == code >> 15, hex(code)
    _assert_nan_payloads_lead(fmt, values)


def _assert_nan_payloads_lead(fmt: ff.Format, values: np.ndarray) -> None:
    wide = ff.format(values.dtype)
    bits = values.view(wide.code_dtype)
    nans = (ALL_16_BITS & np.uint16(fmt.magnitude_mask)) > fmt.infinity_code
    shift = wide.fraction_bits - fmt.fraction_bits
    payload = (ALL_16_BITS[nans] & fmt.fraction_mask).astype(bits.dtype) << shift
    np.testing.assert_array_equal(bits[nans] & wide.fraction_mask, payload)
    np.testing.assert_array_equal(bits[nans] >> (wide.bits - 1), ALL_16_BITS[nans] >> 15)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_decompose_equals_exact_on_every_16_bit_code(name):
    fmt = ff.format(name)
    with ff.use_backend("reference"):
        fields = ff.decompose(ALL_16_BITS, fmt)
    parts = (fields.sign, fields.exponent, fields.fraction, fields.category)
    derived = (fields.unbiased_exponent, fields.significand)
    for code in range(2**16):
        sign, exponent, fraction, category = (int(part[code]) for part in parts)
        assert (sign, exponent, fraction) == exact.fields(code, fmt)
        assert ff.Category(category).name.lower() == exact.category(code, fmt)
        if category < ff.Category.INFINITE:
            unbiased, significand = (int(part[code]) for part in derived)
            assert unbiased == exact.unbiased_exponent(code, fmt)
            assert Fraction(significand, 2**fmt.fraction_bits) == exact.significand(code, fmt)


@given(
    st.sampled_from(["fp32", "fp64"]),
    st.sampled_from(ALL_FORMATS),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40)),
    st.data(),
)
def test_encode_equals_exact_by_every_rule_on_boundary_weighted_patterns(
    name, target, random, data
):
    source, how = ff.format(name), data.draw(rules_of(target))
    patterns = np.array(
        data.draw(st.lists(codes(source, target), min_size=1, max_size=60)), source.code_dtype
    )
    result = reference_codes(patterns.view(source.dtype), how, random)
    assert result == exact_codes(patterns, source, how, random)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**66), st.integers(0, 20))
def test_random_words_equal_exact_wherever_they_start(seed, start, n):
    start %= 2**62
    words = reference.philox(seed, start, n)
    assert words.tolist() == [exact.random_word(seed, start + i) for i in range(n)]


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_decode_equals_exact_for_every_format(fmt, data):
    patterns = np.array(data.draw(st.lists(codes(fmt), min_size=1, max_size=60)), fmt.code_dtype)
    values = np.empty(patterns.shape, fmt.value_dtype)
    reference.decode(patterns, fmt, values)
    for code, value in zip(patterns.tolist(), values.tolist(), strict=True):
        expected = exact.decode(code, fmt)
        assert value == expected or (value != value and expected != expected)


# --- quantisation -------------------------------------------------------------------------------


def as_fraction(x: object) -> Fraction:
    return Fraction(float(x))


@given(
    st.sampled_from(FLOAT_DTYPES), st.sampled_from(SCALE_FORMATS), st.sampled_from([1, 7, 127]),
    st.data(),
)  # fmt: skip
def test_absmax_scale_equals_exact(dtype, scale_format, qmax, data):
    x = data.draw(finite_arrays(dtype, min_size=1, max_size=4))
    amax = np.abs(x.astype(np.float64))
    result = reference.absmax_scale(amax, scale_format, qmax)
    assert [as_fraction(s) for s in result] == [
        exact.absmax_scale(as_fraction(a), scale_format, qmax) for a in amax
    ]


@given(
    st.sampled_from(FLOAT_DTYPES), st.sampled_from(POWER_RULES), st.integers(0, 6),
    st.sampled_from([448.0, 57344.0, 7.5, 28.0, 6.0, 127 / 64, 1.0]), st.data(),
)  # fmt: skip
def test_power_scale_equals_exact(dtype, rule, fraction_bits, largest, data):
    x = data.draw(finite_arrays(dtype, min_size=1, max_size=4))
    amax = np.abs(x.astype(np.float64))
    result = reference.power_scale(amax, rule, largest, fraction_bits)
    assert [as_fraction(s) for s in result] == [
        exact.power_scale(as_fraction(a), rule, Fraction(largest), fraction_bits) for a in amax
    ]


@given(
    st.sampled_from([np.float32, np.float16, "bfloat16"]),
    st.sampled_from([s.elements for s in SCHEMES.values() if s.elements is not None]),
    st.data(),
)
def test_scaled_elements_are_the_nearest(dtype, elements, data):
    """No value of the table or format, times the scale, lies nearer: in Fractions."""
    x = data.draw(finite_arrays(np.dtype(dtype), min_size=1, max_size=30))
    q = ff.quantize(x, elements)
    scale = as_fraction(q.scale)
    values = [as_fraction(v) * scale for v in set(table(elements).tolist())]
    found = [as_fraction(v) * scale for v in table(elements)[q.codes]]
    for v, near in zip(x, found, strict=True):
        assert abs(as_fraction(v) - near) == min(abs(as_fraction(v) - other) for other in values)


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(SCALE_FORMATS), st.data())
def test_zeropoint_parameters_equal_exact(dtype, scale_format, data):
    x = data.draw(finite_arrays(dtype, min_size=2, max_size=2)).astype(np.float64)
    low, high = x.min(keepdims=True), x.max(keepdims=True)
    scale, zero_point = reference.zeropoint_parameters(low, high, scale_format)
    expected = exact.zeropoint_parameters(as_fraction(low[0]), as_fraction(high[0]), scale_format)
    assert (as_fraction(scale[0]), int(zero_point[0])) == expected


@given(
    st.sampled_from(FLOAT_DTYPES),
    st.sampled_from([0.0, 1.0, -5.0, 127.0, 2.0**32]),
    st.data(),
)
def test_quantize_and_dequantize_equal_exact(dtype, zero_point, data):
    x = data.draw(finite_arrays(dtype, min_size=1, max_size=40))
    amax = np.abs(x.astype(np.float64)).max(keepdims=True)
    scale = reference.absmax_scale(amax, data.draw(st.sampled_from(SCALE_FORMATS)))
    scale = scale * 2.0 ** data.draw(st.integers(-3, 3))
    if not (np.isfinite(scale[0]) and scale[0] > 0):
        return
    codes = np.empty(x.shape, np.int8)
    clamped = reference.quantize(
        x.reshape(1, 1, -1), scale, np.array([zero_point]), -128, 127, codes.reshape(1, 1, -1)
    )
    s, z = as_fraction(scale[0]), int(zero_point)
    unclamped = [exact.quantize(as_fraction(v), s, z, -(10**400), 10**400) for v in x]
    assert codes.tolist() == [min(max(q, -128), 127) for q in unclamped]
    assert clamped == sum(not -128 <= q <= 127 for q in unclamped)
    out = np.empty(x.shape, dtype)
    reference.dequantize(
        codes.reshape(1, 1, -1), scale, np.array([zero_point]), out.reshape(1, 1, -1)
    )
    fmt = ff.format(dtype)
    assert [as_fraction(v) for v in out] == [exact.dequantize(int(c), s, z, fmt) for c in codes]


@given(st.sampled_from([np.float32, np.float16, "bfloat16"]), st.integers(-128, 127), st.data())
def test_the_float64_quotient_is_the_correctly_rounded_one_for_narrow_inputs(dtype, zero, data):
    """The claim of the design: float64 division then rint is correct rounding below 2^8."""
    x = as_fraction(data.draw(finite_arrays(np.dtype(dtype), min_size=1, max_size=1))[0])
    amax = max(abs(x), as_fraction(data.draw(finite_arrays(np.dtype(dtype), 1, 1))[0]))
    scale = exact.absmax_scale(abs(amax), ff.format("fp32"))
    assert exact.quantize(x, scale, zero, -(10**9), 10**9) == round(x / scale) + zero
