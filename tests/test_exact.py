"""The definition itself, against witnesses that share nothing with it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact
from strategies import ALL_FORMATS, codes

FP64, FP32, FP16, BF16 = map(ff.format, ("fp64", "fp32", "fp16", "bf16"))


def test_decode_gives_numpys_value_of_every_fp16_code():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    for code, expected in enumerate(values):
        value = float(exact.decode(code, FP16))
        assert value == expected or (np.isnan(value) and np.isnan(expected)), hex(code)
        assert np.signbit(value) == np.signbit(expected) or np.isnan(expected), hex(code)


@pytest.mark.parametrize("fmt", [FP16, BF16], ids=str)
def test_decode_then_encode_is_identity_on_every_finite_and_infinite_code(fmt):
    for code in range(2**16):
        if exact.category(code, fmt) != "nan":
            assert exact.encode(exact.decode(code, fmt), fmt) == code


@given(st.fractions(), st.integers(-1100, 1000))
def test_encode_to_fp64_is_cpythons_correctly_rounded_division(x, exponent):
    x *= Fraction(2) ** exponent
    try:
        expected = float(x)
    except OverflowError:
        expected = float("inf") if x > 0 else float("-inf")
    assert exact.decode(exact.encode(x, FP64), FP64) == expected


@given(codes(FP32, FP16))
def test_convert_fp32_to_fp16_is_numpys_cast_apart_from_nan(code):
    value = np.uint32(code).view(np.float32)
    if not np.isnan(value):
        with np.errstate(over="ignore", under="ignore"):
            assert exact.convert(code, FP32, FP16) == value.astype(np.float16).view(np.uint16)


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_convert_is_encode_of_the_exact_value(fmt, data):
    code = data.draw(codes(FP64, fmt))
    value = exact.decode(code, FP64)
    if value == value:
        assert exact.convert(code, FP64, fmt) == exact.encode(value, fmt)


@given(codes(FP32))
def test_a_nan_stays_a_nan_turns_quiet_and_keeps_sign_and_leading_payload(code):
    nan = code | FP32.infinity_code | 1
    for target in (FP16, BF16):
        result = exact.convert(nan, FP32, target)
        assert exact.is_quiet(result, target)
        assert result >> 15 == nan >> 31
        kept = target.fraction_bits - 1
        assert result & ((1 << kept) - 1) == (nan & FP32.fraction_mask) >> (22 - kept) & (
            (1 << kept) - 1
        )


@pytest.mark.parametrize(("name", "simplest"), [
    ("fp64", "319/10000"), ("fp32", "319/10000"), ("fp16", "11/345"), ("bf16", "3/94"),
])  # fmt: skip
def test_the_simplest_fraction_of_the_articles_title_value(name, simplest):
    fmt = ff.format(name)
    assert exact.simplest_fraction(exact.encode(Fraction("0.0319"), fmt), fmt) == Fraction(simplest)


@given(st.sampled_from([FP16, BF16]), st.integers(0, 2**16 - 1))
def test_no_smaller_denominator_rounds_to_the_code(fmt, code):
    if exact.category(code, fmt) not in ("normal", "subnormal"):
        return
    simplest = exact.simplest_fraction(code, fmt)
    assert exact.encode(simplest, fmt) == code
    value = Fraction(exact.decode(code, fmt))
    for denominator in range(1, min(simplest.denominator, 400)):
        below = value * denominator // 1
        for numerator in (below, below + 1):
            x = Fraction(numerator, denominator)
            assert exact.encode(x, fmt) & ~fmt.sign_bit != code & ~fmt.sign_bit, x


def test_of_several_fractions_with_the_smallest_denominator_the_nearest_is_taken():
    assert exact.simplest_fraction(exact.encode(1000, BF16), BF16) == 1000
    assert exact.simplest_fraction(BF16.infinity_code - 1, BF16) == BF16.max_finite


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_the_rounding_interval_holds_just_what_rounds_to_the_code(fmt, data):
    code = data.draw(codes(fmt))
    if exact.category(code, fmt) in ("infinite", "nan", "zero"):
        return
    low, high, closed = exact.rounding_interval(code, fmt)
    tiny = exact.ulp(code, fmt) / 1000
    assert exact.encode(low + tiny, fmt) == exact.encode(high - tiny, fmt) == code
    # Beyond an end of the format there may be nothing else that a value could become.
    value = exact.decode(code, fmt)
    if value > fmt.lowest or not fmt.has_finite_codes_only:
        is_least = not fmt.zero and code == 0
        assert is_least or (exact.encode(low - tiny, fmt) != code)
        assert is_least or (exact.encode(low, fmt) == code) == closed
    if value < fmt.max_finite or not fmt.has_finite_codes_only:
        assert exact.encode(high + tiny, fmt) != code
        assert (exact.encode(high, fmt) == code) == closed


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_next_up_and_next_down_step_over_nothing(fmt, data):
    code = data.draw(codes(fmt))
    value = exact.decode(code, fmt)
    if value != value:
        assert exact.next_up(code, fmt) == exact.next_down(code, fmt) == code
        return
    for step, back in ((exact.next_up, exact.next_down), (exact.next_down, exact.next_up)):
        neighbour = step(code, fmt)
        other = exact.decode(neighbour, fmt)
        if neighbour == code:
            greatest = float("inf") if fmt.infinity else fmt.max_finite
            least = float("-inf") if fmt.infinity and fmt.signed else fmt.lowest
            assert value == (greatest if step is exact.next_up else least)
        else:
            assert other > value if step is exact.next_up else other < value
            assert exact.decode(back(neighbour, fmt), fmt) == value


@pytest.mark.parametrize("fmt", [f for f in ALL_FORMATS if f.bits <= 8], ids=str)
def test_next_up_visits_every_value_in_order(fmt):
    values = {exact.decode(code, fmt) for code in range(2**fmt.bits)}
    expected = sorted(v for v in values if v == v)
    code = next(c for c in range(2**fmt.bits) if exact.decode(c, fmt) == expected[0])
    visited = [exact.decode(code, fmt)]
    while (above := exact.next_up(code, fmt)) != code:
        code = above
        visited.append(exact.decode(code, fmt))
    assert visited == expected


def test_a_code_out_of_range_is_refused():
    with pytest.raises(ValueError, match="a code of fp16 lies in 0x0 to 0xffff, got 0x10000"):
        exact.decode(0x10000, FP16)


@given(st.fractions(min_value=-300, max_value=300), st.fractions(min_value=Fraction(1, 100)))
def test_quantize_rounds_the_quotient_to_the_nearest_integer(x, scale):
    code = exact.quantize(x, scale, 0, -(10**9), 10**9)
    assert abs(x / scale - code) <= Fraction(1, 2) + Fraction(1, 2**40)


def test_the_scale_of_a_subnormal_amax_is_rounded_up_and_never_zero():
    tiny = FP32.min_subnormal
    assert exact.absmax_scale(tiny, FP32) == tiny
    assert exact.absmax_scale(128 * tiny, FP32) == 2 * tiny
    assert exact.absmax_scale(127 * tiny, FP32) == tiny
