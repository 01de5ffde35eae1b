"""The registry, and the numbers derived from its rows against NumPy's, ml_dtypes' and torch's."""

from collections import Counter
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import floatfmt as ff


def test_the_registry_lists_the_rows_in_the_readmes_order():
    assert [f.name for f in ff.formats()] == [
        *("fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3", "fp8_e5m2"),
        *("fp8_e4m3fnuz", "fp8_e5m2fnuz", "fp8_e4m3b11fnuz", "fp8_e3m4", "fp8_e8m0fnu"),
        *("fp8_ue4m3", "fp6_e2m3fn", "fp6_e3m2fn", "fp4_e2m1fn", "mxint8", "int8", "uint8"),
        *("int4", "uint4", "int2"),
    ]


#: Largest, least, smallest normal and smallest subnormal value, and the NaN codes, of section 4 of
#: the OCP and ml_dtypes descriptions; an independent copy.
FACTS = {
    "fp8_e4m3fn": (448, -448, 2**-6, 2**-9, {0x7F, 0xFF}),
    "fp8_e4m3": (240, -240, 2**-6, 2**-9, {*range(0x79, 0x80), *range(0xF9, 0x100)}),
    "fp8_e5m2": (57344, -57344, 2**-14, 2**-16, {0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF}),
    "fp8_e4m3fnuz": (240, -240, 2**-7, 2**-10, {0x80}),
    "fp8_e5m2fnuz": (57344, -57344, 2**-15, 2**-17, {0x80}),
    "fp8_e4m3b11fnuz": (30, -30, 2**-10, 2**-13, {0x80}),
    "fp8_e3m4": (15.5, -15.5, 2**-2, 2**-6, {*range(0x71, 0x80), *range(0xF1, 0x100)}),
    "fp8_e8m0fnu": (2.0**127, 2.0**-127, 2.0**-127, None, {0xFF}),
    "fp8_ue4m3": (448, 0, 2**-6, 2**-9, {0x7F}),
    "fp6_e2m3fn": (7.5, -7.5, 1, 2**-3, set()),
    "fp6_e3m2fn": (28, -28, 2**-2, 2**-4, set()),
    "fp4_e2m1fn": (6, -6, 1, 0.5, set()),
    "mxint8": (127 / 64, -2, 2**-6, None, set()),
    "int8": (127, -128, 1, None, set()),
    "uint4": (15, 0, 1, None, set()),
    "int2": (1, -2, 1, None, set()),
    "p3109_k8p4se": (224, -224, 2**-7, 2**-10, {0x80}),
    "p3109_k8p3se": (49152, -49152, 2**-15, 2**-17, {0x80}),
    "p3109_k8p4sf": (240, -240, 2**-7, 2**-10, {0x80}),
    "p3109_k8p3sf": (57344, -57344, 2**-15, 2**-17, {0x80}),
    "p3109_k8p4ue": (53248, 0, 2**-15, 2**-18, {0xFF}),
    "p3109_k8p3ue": (1.25 * 2**31, 0, 2**-31, 2**-33, {0xFF}),
}


@pytest.mark.parametrize("name", FACTS)
def test_derived_numbers_are_those_of_the_specifications(name):
    fmt = ff.format(name)
    largest, least, normal, subnormal, nans = FACTS[name]
    assert (fmt.max_finite, fmt.lowest) == (largest, least)
    assert (fmt.min_normal, fmt.min_subnormal) == (normal, subnormal)
    codes = range(2**fmt.bits)
    assert {c for c in codes if ff.exact.category(c, fmt) == "nan"} == nans


@pytest.mark.parametrize("fmt", [f for f in ff.formats() if f.dtype and f.bits < 64], ids=str)
def test_every_value_is_that_of_the_dtype(fmt):
    codes = np.arange(2 ** min(fmt.bits, 16), dtype=np.uint64).astype(fmt.code_dtype)
    ours, theirs = ff.decode(codes, fmt), codes.view(fmt.dtype).astype(fmt.value_dtype)
    np.testing.assert_array_equal(ours, theirs)
    finite = ~np.isnan(ours)
    np.testing.assert_array_equal(np.signbit(ours[finite]), np.signbit(theirs[finite]))


def test_e2m1_has_the_eight_magnitudes_of_its_specification():
    assert ff.decode(range(8), "fp4_e2m1fn").tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_p3109_names_are_found_and_wrong_parameters_refused():
    assert ff.format("P3109_k8p3se") == ff.p3109(8, 3)
    assert ff.format("p3109_k6p2uf") == ff.p3109(6, 2, signed=False, extended=False)
    for arguments, message in (
        ((2, 1), "P3109: k must be an integer from 3 to 16, got 2"),
        ((8, 8), "P3109: p must be an integer from 1 to 7, got 8"),
        ((8, 0), "P3109: p must be an integer from 1 to 7, got 0"),
        ((16, 2), "14 exponent bits: its values reach beyond fp64"),
        (("8", 3), "k must be an integer from 3 to 16, got '8'"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.p3109(*arguments)


def test_whether_a_format_holds_another_is_whether_it_holds_every_value():
    small = [f for f in ff.formats() if f.bits <= 8] + [ff.p3109(6, 3), ff.p3109(6, 2, False)]
    values = {
        f: {ff.exact.decode(c, f) + 0 for c in range(2**f.bits) if ff.exact.is_finite(c, f)}
        for f in small
    }
    for wide in small:
        for narrow in small:
            assert wide.holds(narrow) == (values[narrow] <= values[wide]), (wide, narrow)


def test_codes_of_up_to_six_bits_are_packed_in_storage():
    sizes = {
        "fp4_e2m1fn": 6,
        "fp6_e2m3fn": 9,
        "int2": 3,
        "fp8_e5m2": 12,
        "bf16": 24,
        "fp8_ue4m3": 12,
        "tf32": 48,
    }
    assert {name: ff.format(name).packed_nbytes(12) for name in sizes} == sizes


@pytest.mark.parametrize("fmt", ff.formats(), ids=str)
def test_every_name_and_alias_finds_its_row_in_any_case(fmt):
    for name in (fmt.name, *fmt.aliases):
        assert ff.format(name) is fmt
        assert ff.format(f" {name.upper()} ") is fmt


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float64, "fp64"),
        (float, "fp64"),
        (np.dtype(">f4"), "fp32"),
        (np.float16, "fp16"),
        (np.dtype("f2"), "fp16"),
        (ml_dtypes.bfloat16, "bf16"),
        (np.dtype(ml_dtypes.bfloat16), "bf16"),
    ],
)
def test_a_numpy_dtype_finds_its_row(dtype, name):
    assert ff.format(dtype).name == name


def test_a_torch_dtype_finds_its_row():
    torch = pytest.importorskip("torch")
    names = {
        torch.float64: "fp64",
        torch.float32: "fp32",
        torch.float16: "fp16",
        torch.bfloat16: "bf16",
    }
    assert {dtype: ff.format(dtype).name for dtype in names} == names


def test_a_format_is_its_own_name():
    mine = ff.Format("mine", 4, 3)
    assert ff.format(mine) is mine


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"no format is called 'bf61'; nearest: bf16.*known: fp64"):
        ff.format("bf61")


def test_the_beginning_of_a_name_lists_the_names_that_begin_so():
    with pytest.raises(ValueError, match=r"'fp4'; nearest: fp4_e2m1fn, fp4_e2m1; known"):
        ff.format("fp4")
    with pytest.raises(ValueError, match=r"'float8_e4'; nearest: float8_e4m3fn, float8_e4m3, flo"):
        ff.format("float8_e4")


def test_an_unknown_dtype_lists_the_known():
    with pytest.raises(ValueError, match=r"int64 is no floating-point format.*bfloat16"):
        ff.format(np.int64)
    for wrong in (3.5, None):
        with pytest.raises(TypeError, match="a format is a name, a dtype or a floatfmt.Format"):
            ff.format(wrong)


@pytest.mark.parametrize("name", ["fp64", "fp32", "fp16", "bf16"])
def test_derived_numbers_are_those_of_finfo(name):
    fmt = ff.format(name)
    info = ml_dtypes.finfo(fmt.dtype)
    exact = lambda x: Fraction(float(x))  # noqa: E731
    assert fmt.max_finite == exact(info.max)
    assert fmt.min_normal == exact(info.smallest_normal)
    assert fmt.min_subnormal == exact(info.smallest_subnormal)
    assert fmt.epsilon == exact(info.eps)
    assert (fmt.bits, fmt.exponent_bits, fmt.fraction_bits) == (info.bits, info.nexp, info.nmant)


def test_tf32_has_fp32s_range_and_fp16s_precision():
    tf32, fp32, fp16 = map(ff.format, ("tf32", "fp32", "fp16"))
    assert tf32.bits == 19
    assert (tf32.max_exponent, tf32.min_exponent) == (fp32.max_exponent, fp32.min_exponent)
    assert tf32.epsilon == fp16.epsilon
    assert float(tf32.max_finite) == 3.4011621342146535e38


@pytest.mark.parametrize(("name", "digits"), [("fp64", (15, 17)), ("fp32", (6, 9))])
def test_decimal_digits_are_those_of_the_c_standard(name, digits):
    fmt = ff.format(name)
    assert (fmt.decimal_digits, fmt.round_trip_digits) == digits


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_counts_are_those_of_all_codes_counted(name):
    fmt = ff.format(name)
    counted = Counter(ff.exact.category(code, fmt) for code in range(2**fmt.bits))
    assert fmt.counts == counted


@pytest.mark.parametrize("fmt", ff.formats(), ids=str)
def test_counts_add_up_to_every_code(fmt):
    assert sum(fmt.counts.values()) == 2**fmt.bits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent_bits": -1}, "exponent_bits must be an integer from 0 to 11, got -1"),
        (
            {"exponent_bits": 1},
            "nan='ieee' needs infinity=True, 2 exponent bits and 1 fraction bit",
        ),
        ({"exponent_bits": 12}, "got 12"),
        (
            {"fraction_bits": 0},
            "nan='ieee' needs infinity=True, 2 exponent bits and 1 fraction bit",
        ),
        ({"infinity": False}, "nan='ieee' needs infinity=True"),
        ({"nan": "fn"}, "nan must be one of 'ieee', 'top', 'negative_zero', None, got 'fn'"),
        ({"nan": "negative_zero", "signed": False}, "nan='negative_zero' needs a sign"),
        ({"twos_complement": True}, "twos_complement=True needs a sign, no exponent bits"),
        ({"zero": False}, "zero=False needs exponent bits and signed=False"),
        ({"fraction_bits": 53}, "got 53"),
        ({"fraction_bits": 2.0}, "got 2.0"),
        ({"bias": 2000}, "bias 2000 puts values of 'mine' outside fp64's normal range"),
        ({"bias": 1.5}, "bias must be an integer, got 1.5"),
    ],
)
def test_a_format_that_fp64_cannot_hold_is_refused(arguments, message):
    row = {"name": "mine", "exponent_bits": 4, "fraction_bits": 3} | arguments
    with pytest.raises(ValueError, match=message):
        ff.Format(**row)


@pytest.mark.parametrize("dtype", ["float32", "int8", "nosuch"])
def test_a_dtype_that_does_not_hold_the_formats_values_is_refused(dtype):
    with pytest.raises(ValueError, match=f"dtype='{dtype}' does not hold the values of .*: none"):
        ff.Format("mine", 3, 2, dtype=dtype)


def test_a_dtype_of_the_very_layout_is_taken():
    mine = ff.Format("mine", 5, 10, dtype="float16")
    assert ff.astype(np.float32([1.5]), mine).dtype == np.float16
    with pytest.raises(ValueError, match="does not hold .*; of its layout: float16"):
        ff.Format("mine", 5, 10, dtype="bfloat16")
