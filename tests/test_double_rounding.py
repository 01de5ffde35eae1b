"""double_rounding against every value of small formats, known rules, and libraries' own casts."""

import functools
import itertools
import json
import random
from fractions import Fraction

import numpy as np
import pytest

import floatfmt as ff
from floatfmt import exact
from floatfmt.rounding import rules

torch = pytest.importorskip("torch")

MODES = [mode for mode in ff.Rounding if mode is not ff.Rounding.STOCHASTIC]


def layouts():
    """Keyword arguments that make formats of every layout there is."""
    yield {}
    for signed in (True, False):
        for infinity, nan in itertools.product((True, False), ("top", None)):
            yield {"signed": signed, "infinity": infinity, "nan": nan}
        yield {"signed": signed, "infinity": True, "nan": "ieee"}
    for infinity in (True, False):
        yield {"infinity": infinity, "nan": "negative_zero"}
        yield {"signed": False, "infinity": infinity, "nan": "top", "zero": False}
        yield {"signed": False, "infinity": infinity, "nan": None, "zero": False}
    yield {"infinity": False, "nan": None, "twos_complement": True}


def small_formats():
    for exponent_bits, fraction_bits, layout in itertools.product(range(4), range(5), layouts()):
        for shift in (0, 1, -1):
            bias = (1 << exponent_bits >> 1) - 1 + shift
            name = f"e{exponent_bits}m{fraction_bits} bias {bias} {layout}"
            try:
                yield ff.Format(name, exponent_bits, fraction_bits, bias, **layout)
            except ValueError:  # this layout has no such format
                continue


SMALL = tuple(small_formats())


@functools.cache
def source_values(fmt):
    """Every value but NaN, with both zeros, as floats: what a conversion can be asked about."""
    values = [exact.decode(code, fmt) for code in range(2**fmt.bits)]
    return tuple(float(x) for x in values if x == x)


@functools.cache
def converted(values, fmt, mode):
    """Codes of values; the quiet NaN's code stands for every NaN, None for a NaN without a code."""
    how = rules(fmt, mode)
    codes = []
    for x in values:
        if x != x and how.nans is None:
            codes.append(None)
            continue
        code = exact.encode(x, fmt, how)
        codes.append(fmt.nan_code if exact.category(code, fmt) == "nan" else code)
    return codes


@functools.cache
def values_of_codes(fmt):
    return tuple(float(exact.decode(code, fmt)) for code in range(2**fmt.bits))


def differences(source, via, target, rounding, via_rounding):
    """The values for which it matters, one after the other."""
    values = source_values(source)
    again = converted(values_of_codes(via), target, rounding)
    direct = converted(values, target, rounding)
    twice = [again[code] for code in converted(values, via, via_rounding)]
    return {x for x, a, b in zip(values, direct, twice, strict=True) if a != b}


def assert_verdict_is_true(source, via, target, rounding, via_rounding):
    found = ff.double_rounding(source, via, target, rounding=rounding, via_rounding=via_rounding)
    expected = differences(source, via, target, rounding, via_rounding)
    asked = (source, via, target, rounding.value, via_rounding.value)
    assert (found is not None) == bool(expected), asked
    if found is not None:
        assert float(found.value) in expected, asked
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_verdict_is_that_of_trying_every_value_of_small_formats(seed):
    draw = random.Random(seed)
    verdicts = set()
    for _ in range(150):
        source, via, target = draw.choices(SMALL, k=3)
        rounding = draw.choice(MODES)
        via_rounding = draw.choice([rounding, draw.choice(MODES)])
        verdicts.add(assert_verdict_is_true(source, via, target, rounding, via_rounding) is None)
    assert verdicts == {True, False}


def all_codes_differ(source, via, target, rounding, via_rounding):
    """Whether any value of a 16-bit format does, by the array functions."""
    values = ff.decode(np.arange(2**source.bits, dtype=np.uint16), source, dtype=np.float64)
    values = values[~np.isnan(values)]
    between = ff.decode(ff.encode(values, via, rounding=via_rounding), via, dtype=np.float64)
    lost = np.isnan(between)
    if target.nan is None and lost.any():
        return True
    direct = ff.encode(values, target, rounding=rounding)
    twice = ff.encode(between, target, rounding=rounding)
    nan = np.isnan(ff.decode(direct, target)) & np.isnan(ff.decode(twice, target))
    return bool(((direct != twice) & ~nan).any())


@pytest.mark.parametrize("source", ["fp16", "bf16"])
@pytest.mark.parametrize("via", ff.formats(), ids=str)
def test_the_verdict_is_that_of_trying_every_code_of_16_bit_formats(source, via):
    draw = random.Random(via.name)
    for target in ff.formats():
        rounding = draw.choice(MODES)
        for via_rounding in {rounding, draw.choice(MODES)}:
            asked = (ff.format(source), via, target, rounding, via_rounding)
            found = ff.double_rounding(*asked[:3], rounding=rounding, via_rounding=via_rounding)
            assert (found is not None) == all_codes_differ(*asked), asked


# --- known rules --------------------------------------------------------------------------------


def chain_of_precisions(source, via, target):
    """Formats of these precisions, the source well within the range of the others."""
    return (
        ff.Format(f"source p{source}", 3, source - 1),
        ff.Format(f"via p{via}", 7, via - 1),
        ff.Format(f"target p{target}", 7, target - 1),
    )


PRECISIONS = list(itertools.product(range(2, 9), repeat=3))


def test_to_nearest_twice_follows_the_rule_of_precisions():
    for source, via, target in PRECISIONS:
        innocuous = via >= source or via == target or (via, source) == (target + 1, target + 2)
        found = ff.double_rounding(*chain_of_precisions(source, via, target))
        assert (found is None) == innocuous, (source, via, target)


@pytest.mark.parametrize("mode", MODES[2:5])
def test_the_same_directed_mode_twice_is_innocuous_unless_via_is_coarser(mode):
    for source, via, target in PRECISIONS[::3]:
        found = ff.double_rounding(*chain_of_precisions(source, via, target), rounding=mode)
        assert (found is None) == (via >= min(source, target)), (source, via, target)


@pytest.mark.parametrize("mode", MODES)
def test_to_odd_first_is_innocuous_with_two_bits_more(mode):
    for source, via, target in PRECISIONS[::3]:
        if via >= target + 2:
            chain = chain_of_precisions(source, via, target)
            asked = (source, via, target)
            assert ff.double_rounding(*chain, rounding=mode, via_rounding="to_odd") is None, asked


INNOCUOUS = [
    ("fp16", "fp32", "bf16", {}),
    ("bf16", "fp32", "fp8_e4m3fn", {}),
    ("int8", "fp16", "fp8_e5m2", {}),
    ("fp32", "fp64", "fp16", {"rounding": "nearest_away"}),
    ("fp64", "fp32", "fp16", {"rounding": "toward_zero"}),
    ("fp64", "fp32", "bf16", {"rounding": "toward_positive"}),
    ("fp64", "fp32", "fp8_e4m3fn", {"rounding": "toward_negative"}),
    ("fp64", "fp32", "bf16", {"via_rounding": "to_odd"}),
    ("fp64", "fp32", "fp4_e2m1fn", {"via_rounding": "to_odd"}),
    ("fp64", "fp32", "fp32", {}),
    ("fp64", "tf32", "tf32", {"rounding": "to_odd"}),
]


@pytest.mark.parametrize(("source", "via", "target", "options"), INNOCUOUS)
def test_chains_that_are_proved_innocuous(source, via, target, options):
    assert ff.double_rounding(source, via, target, **options) is None
    fmt, via, target = map(ff.format, (source, via, target))
    first = {"rounding": options.get("via_rounding", options.get("rounding", "nearest_even"))}
    last = {"rounding": options.get("rounding", "nearest_even")}
    places = {m for other in (via, target) for m in ends_and_ties(other, fmt)}
    x = np.array(sorted({sign * float(m) for m in places for sign in (1, -1)}))
    twice = ff.encode(ff.decode(ff.encode(x, via, **first), via, dtype=np.float64), target, **last)
    np.testing.assert_array_equal(ff.encode(x, target, **last), twice)


def ends_and_ties(fmt, source):
    """Values of the source at and around binade ends, ties and the ends of a format."""
    for exponent in range(fmt.step_exponent - 2, fmt.max_exponent + 2):
        step = Fraction(2) ** (max(exponent, fmt.min_exponent) - fmt.fraction_bits)
        for place in (Fraction(0), *(k * step / 2 for k in range(-2, 6))):
            code = exact.encode(Fraction(2) ** exponent + place, source)
            for near in (code, exact.next_up(code, source), exact.next_down(code, source)):
                if exact.is_finite(near, source):
                    yield Fraction(exact.decode(near, source))


def test_the_rule_for_arithmetic_is_not_the_rule_for_conversion():
    fp32, fp16 = ff.format("fp32"), ff.format("fp16")
    assert fp32.precision >= 2 * fp16.precision + 2
    found = ff.double_rounding("fp64", fp32, fp16)
    assert found.value == 1 + Fraction(1, 2**11) + Fraction(1, 2**24)
    assert (found.direct, found.via_code, found.double) == (0x3C01, 0x3F801000, 0x3C00)


# --- what libraries do --------------------------------------------------------------------------


def witness(source, via, target):
    found = ff.double_rounding(source, via, target)
    assert found is not None
    return found, np.array([float(found.value)], ff.format(source).dtype)


@pytest.mark.parametrize("target", ["fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2"])
def test_torch_rounds_fp64_twice(target):
    found, x = witness("fp64", "fp32", target)
    dtype = getattr(torch, found.target.dtype)
    result = torch.from_numpy(x).to(dtype).to(torch.float64).item()
    assert Fraction(result) == found.double_value != found.direct_value


@pytest.mark.parametrize("target", ["bf16", "fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fnuz", "fp8_e3m4"])
def test_ml_dtypes_rounds_fp64_twice(target):
    found, x = witness("fp64", "fp32", target)
    assert x.astype(found.target.dtype).view(np.uint8 if found.target.bits == 8 else np.uint16) == [
        found.double
    ]


def test_numpy_rounds_fp64_to_fp16_once_and_twice_if_asked_to():
    found, x = witness("fp64", "fp32", "fp16")
    assert x.astype(np.float16).view(np.uint16) == [found.direct]
    assert x.astype(np.float32).astype(np.float16).view(np.uint16) == [found.double]
    assert ff.encode(x, "fp16") == [found.direct]


@pytest.mark.parametrize(
    ("via", "target"), [("fp16", "fp8_e5m2"), ("bf16", "fp8_e4m3fn"), ("fp16", "fp8_e4m3fn")]
)
def test_two_casts_of_fp32_arrays_round_twice(via, target):
    found, x = witness("fp32", via, target)
    assert x.astype(found.target.dtype).view(np.uint8) == [found.direct]
    twice = x.astype(found.via.dtype).astype(found.target.dtype)
    assert twice.view(np.uint8) == [found.double]


# --- the result ---------------------------------------------------------------------------------


def test_a_witness_reads_well():
    found = ff.double_rounding("fp32", "fp16", "fp8_e5m2")
    assert str(found) == (
        "fp32 → fp16 → fp8_e5m2 differs from fp32 → fp8_e5m2, nearest_even\n"
        "value                   1.12548828125  0x1.202p+0\n"
        "fp32 → fp8_e5m2         1.25           0x3D\n"
        "fp32 → fp16             1.125          0x3C80\n"
        "fp32 → fp16 → fp8_e5m2  1              0x3C"
    )
    assert str(found) in found._repr_html_()
    row = json.loads(json.dumps(found.to_dict()))
    assert row["value"] == "2305/2048"
    assert (row["direct_value"], row["double_value"]) == ("5/4", "1")


@pytest.mark.parametrize("asked", [("fp64", "fp32", t) for t in ("fp16", "bf16", "fp4_e2m1fn")])
def test_a_witness_is_near_1_and_has_no_bit_too_many(asked):
    found = ff.double_rounding(*asked)
    assert 1 <= found.value < 2
    bits = found.value.numerator.bit_length()
    assert bits == 25  # what lies between one fp32 value and the next takes one bit more than fp32


def test_signed_zeros_and_infinities_are_asked_about_last():
    lost = ff.double_rounding("fp4_e2m1fn", "fp8_e4m3fnuz", "fp16")
    assert str(lost.value) == "-0.0"
    assert (lost.direct, lost.double) == (0x8000, 0)
    assert "-0" in str(lost)
    small = ff.Format("e3m1 with Inf", 3, 1)
    beyond = ff.double_rounding(small, "fp8_e4m3fn", "fp16")
    assert beyond.value == float("inf")
    assert np.isnan(beyond.double_value)
    assert json.dumps(beyond.to_dict())


def test_a_chain_may_end_in_an_error():
    found = ff.double_rounding("fp32", "fp8_e4m3fn", "fp4_e2m1fn", rounding="toward_zero")
    assert (found.value, found.direct_value, found.double) == (float("inf"), 6, None)
    assert "error: no NaN" in str(found)


def test_two_modes_are_both_named():
    found = ff.double_rounding("fp64", "tf32", "fp32", via_rounding="to_odd")
    assert "to_odd, then nearest_even" in str(found)


@pytest.mark.parametrize("option", ["rounding", "via_rounding"])
def test_chance_is_refused(option):
    with pytest.raises(ValueError, match="decided for modes without chance, got 'stochastic'"):
        ff.double_rounding("fp64", "fp32", "fp16", **{option: "stochastic"})
