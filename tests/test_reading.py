"""What `inspect` takes for a number or a code, and what it refuses."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from floatfmt.formats import format
from floatfmt.inspection import inspect

FP16 = format("fp16")


# --- what it takes ------------------------------------------------------------------------------

HALF_AS_ANY_FLOAT = [
    (0.5, "fp64"),
    (Fraction(1, 2), "fp64"),
    (Decimal("0.5"), "fp64"),
    ("0.5", "fp64"),
    (np.float64(0.5), "fp64"),
    (np.float32(0.5), "fp32"),
    (np.float16(0.5), "fp16"),
    (ml_dtypes.bfloat16(0.5), "bf16"),
    (ml_dtypes.float8_e4m3fn(0.5), "fp8_e4m3fn"),
    (np.longdouble(0.5), "fp64"),
    (np.array(0.5, dtype=np.float32), "fp32"),
    (np.array(0.5, dtype=">f4"), "fp32"),
    (np.array(0.5, dtype=ml_dtypes.bfloat16), "bf16"),
    (np.array(0.5, dtype=np.longdouble), "fp64"),
    (np.array(Fraction(1, 2), dtype=object), "fp64"),
    (np.str_("0.5"), "fp64"),
    (torch.tensor(0.5, dtype=torch.float64), "fp64"),
    (torch.tensor(0.5), "fp32"),
    (torch.tensor(0.5, dtype=torch.float16), "fp16"),
    (torch.tensor(0.5, dtype=torch.bfloat16), "bf16"),
    (torch.tensor(0.5, dtype=torch.float8_e4m3fn), "fp8_e4m3fn"),
    (torch.tensor(0.5, requires_grad=True), "fp32"),
    (torch.nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16)), "bf16"),
    (torch.tensor([0.25, 0.5])[1], "fp32"),
]


@pytest.mark.parametrize(("value", "own"), HALF_AS_ANY_FLOAT, ids=lambda x: f"{type(x)}{x}"[:60])
def test_a_number_of_any_kind_is_looked_at_in_its_own_format_unless_told_otherwise(value, own):
    assert inspect(value).format.name == own
    assert inspect(value).value == inspect(value).requested == Fraction(1, 2)
    assert inspect(value, "fp16") == inspect(value, np.float16) == inspect("0.5", FP16)


@pytest.mark.parametrize(
    "seven",
    [
        7,
        np.int64(7),
        np.uint8(7),
        np.array(7),
        ml_dtypes.int4(7),
        torch.tensor(7),
        torch.tensor(7, dtype=torch.uint8),
        "7",
        "0x7",
    ],
    ids=lambda x: f"{type(x)}{x}"[:60],
)
def test_integers_of_any_kind_are_taken_exactly(seven):
    assert inspect(seven) == inspect(Fraction(7), "fp64")
    assert inspect(seven, "bf16").value == 7


def test_integers_of_any_size_are_taken_exactly():
    assert inspect(2**53 + 1).requested == 2**53 + 1
    assert inspect(2**53 + 1).remark.startswith("a tie: halfway between 0x4340000000000000 and")
    assert inspect(np.uint64(2**64 - 1), "fp32").error == 1
    assert inspect(10**5000).category == "infinite"
    enormous = inspect(-(10**1000000), "fp16")
    assert enormous.code == 0xFC00
    assert "asked for    ~-2^3321928\n" in str(enormous)
    assert int(enormous.to_dict()["requested"], 16) == -(10**1000000)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="long double is double here")
def test_a_long_double_is_taken_exactly():
    third = np.longdouble(1) / 3
    assert inspect(third).requested == Fraction(*third.as_integer_ratio()) != float(third)
    assert inspect(np.finfo(np.longdouble).max).category == "infinite"
    least = np.finfo(np.longdouble).smallest_subnormal
    assert inspect(least).error == -Fraction(*least.as_integer_ratio())
    assert "~-3.6452e-4951" in str(inspect(least))
    assert inspect(-np.longdouble(0)).decimal == "-0"
    assert inspect(np.longdouble("nan")).category == "nan"


BIT_PATTERNS = [
    (np.float64, np.uint64, torch.float64, 0xFFF0000000000123),
    (np.float32, np.uint32, torch.float32, 0x7F800001),
    (np.float16, np.uint16, torch.float16, 0xFC01),
    (ml_dtypes.bfloat16, np.uint16, torch.bfloat16, 0x7F81),
]


@pytest.mark.parametrize(("dtype", "integer", "torch_dtype", "code"), BIT_PATTERNS)
def test_a_signalling_nan_stays_as_it_is_in_its_own_format(dtype, integer, torch_dtype, code):
    array = np.array(code, dtype=integer).view(dtype)
    signed = np.array(code, dtype=integer).view(f"i{array.itemsize}")
    tensor = torch.from_numpy(signed).view(torch_dtype)
    for value in (array, array[()], array.astype(array.dtype), tensor):
        x = inspect(value)
        assert (x.code, x.is_quiet) == (code, False)
        assert math.isnan(x.requested)


def test_a_nan_converted_to_another_format_is_quiet_and_keeps_its_sign_and_leading_payload():
    signalling = np.uint32(0xFFA00001).view(np.float32)
    assert inspect(signalling, "fp64").code == 0xFFFC000020000000
    assert inspect(signalling, "bf16").code == 0xFFE0
    assert inspect(signalling, "bf16").payload == 0x20
    assert inspect(math.nan, "fp16").code == 0x7E00


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (Decimal("NaN"), 0x7E00),
        (Decimal("-NaN123"), 0xFE00),
        (Decimal("sNaN"), 0x7E00),
        (Decimal("Infinity"), 0x7C00),
        (Decimal("-Infinity"), 0xFC00),
        (Decimal("-0"), 0x8000),
        (Decimal("-0e99999"), 0x8000),
        (Decimal("0"), 0x0000),
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (math.inf, 0x7C00),
    ],
)
def test_zeros_infinities_and_nans_keep_their_sign(value, code):
    assert inspect(value, "fp16").code == code


STRINGS = [
    ("0.0319", Fraction(319, 10000)),
    (" +.5 ", Fraction(1, 2)),
    ("5.", 5),
    ("1_000.000_5", Fraction(10000005, 10000)),
    ("1E3", 1000),
    ("1e-400", Fraction(1, 10**400)),
    ("-1e00000000000000000000000002", -100),
    ("319/10000", Fraction(319, 10000)),
    ("-1_0 / 4", Fraction(-5, 2)),
    ("0x10", 16),
    ("0x3C00", 15360),
    ("0x1.8", Fraction(3, 2)),
    ("0x.8", Fraction(1, 2)),
    ("0x1.8p-3", Fraction(3, 16)),
    ("-0X.8P+4", -8),
    ("0xff_ff", 65535),
    ("0x1p-2000", Fraction(1, 2**2000)),
    ("0x1p" + "0" * 5000 + "1", 2),
    ("1" + "0" * 19_000, 10**19_000),
    ("1/1" + "0" * 19_000, Fraction(1, 10**19_000)),
]


@pytest.mark.parametrize(
    ("text", "number"), STRINGS, ids=lambda x: str(x)[:20] if isinstance(x, str) else ""
)
def test_a_string_is_taken_for_the_number_it_spells(text, number):
    assert inspect(text).requested == number
    assert inspect(text).code == inspect(Fraction(number)).code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nan", 0x7E00),
        ("-nan", 0xFE00),
        ("NaN", 0x7E00),
        ("inf", 0x7C00),
        ("-inf", 0xFC00),
        ("+Infinity", 0x7C00),
        ("-infinity", 0xFC00),
        ("0", 0x0000),
        ("-0", 0x8000),
        ("-0.0e5", 0x8000),
        ("-0/7", 0x8000),
        ("-0x0", 0x8000),
    ],
)
def test_the_words_and_the_zeros_have_these_codes(text, code):
    assert inspect(text, "fp16").code == code


@pytest.mark.parametrize(
    "text",
    [
        "0b0011110000000000",
        "0B0011110000000000",
        "0b0011_1100_0000_0000",
        "0b0 01111 0000000000",
        "0b0|01111|0000000000",
        "0|01111|0000000000",
        " 0 | 01111 | 00000_00000 ",
    ],
)
def test_a_bit_pattern_is_the_code_itself(text):
    assert inspect(text, "fp16") == inspect(code=0x3C00, format="fp16")
    assert inspect(code=text, format="fp16") == inspect(code=0x3C00, format="fp16")


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("1111|101", "fp8_ue4m3", 0x7D),
        ("10000001", "fp8_e8m0fnu", None),  # without 0b or | it is a decimal
        ("0b10000001", "fp8_e8m0fnu", 0x81),
        ("1|0000001", "int8", 0x81),
        ("0b10000001", "uint8", 0x81),
        ("0|11|1", "fp4_e2m1fn", 7),
        ("1|0", "int2", 2),
        ("0|0000001", "p3109_k8p1se", 1),
    ],
)
def test_a_bit_pattern_is_cut_into_the_fields_that_the_format_has(text, name, code):
    if code is None:
        assert inspect(text, name).requested == int(text)
        return
    assert inspect(text, name).code == code
    assert f" {text.removeprefix('0b')} " in repr(inspect(text, name))


@pytest.mark.parametrize(
    "code",
    [
        "0x3C00",
        "0x3c00",
        " 0X3C_00 ",
        0x3C00,
        np.uint16(0x3C00),
        np.array(0x3C00),
        torch.tensor(0x3C00),
    ],
)
def test_a_code_is_an_integer_or_hexadecimal(code):
    assert inspect(code=code, format="fp16").value == 1


def test_python_s_float_is_the_double_but_a_string_is_the_decimal():
    assert inspect(0.0319, "bf16").code == inspect("0.0319", "bf16").code
    assert inspect(0.0319, "bf16").requested == Fraction(0.0319) != Fraction(319, 10000)
    assert inspect(0.0319).error == 0 != inspect("0.0319").error


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "either a value, as in .* or a code, as in .*; got neither"),
        ({"value": 1, "code": 1, "format": "fp16"}, TypeError, "got both"),
        ({"code": 0x3C00}, TypeError, r"a code means nothing without its format: code=15360"),
        ({"value": None}, TypeError, "got neither"),
        ({"value": True}, TypeError, r"a bool is not taken for a number; pass int\(True\)"),
        ({"value": np.bool_(False)}, TypeError, r"pass int\(False\) to mean 0"),
        ({"value": torch.tensor(True)}, TypeError, "a bool is not taken"),
        ({"value": 1j}, TypeError, r"expected a real number .* got complex 1j"),
        ({"value": np.complex64(1)}, TypeError, "got numpy.complex64 of complex64"),
        ({"value": np.clongdouble(1)}, TypeError, "got numpy.clongdouble of"),
        ({"value": np.datetime64(1, "ns")}, TypeError, "got numpy.datetime64"),
        ({"value": b"1"}, TypeError, "or a string, got bytes b'1'"),
        ({"value": np.float32}, TypeError, "or a string, got type"),
        ({"value": [1.0]}, TypeError, r"or a string, got list \[1.0\]"),
        ({"value": np.array([1.0])}, TypeError, r"one number, got numpy.ndarray .*shape \(1,\)"),
        ({"value": torch.zeros(2, 3)}, TypeError, r"one number, got torch.Tensor .*shape \(2, 3\)"),
        ({"value": torch.tensor(1j)}, TypeError, "got complex"),
        ({"value": torch.tensor(1.0, device="meta")}, ValueError, "on device meta"),
        ({"value": Decimal("1" * 20_001)}, ValueError, "20,000 digits"),
        ({"value": 1, "format": "fp16", "rounding": "up"}, ValueError, "no rounding mode is"),
        ({"value": 1, "format": "fp16", "overflow": "wrap"}, ValueError, "overflow='wrap'"),
        ({"value": 1, "rounding": "stochastic", "seed": 0.5}, TypeError, "seed must be an integer"),
        ({"value": 1, "rounding": "stochastic", "seed": 2**64}, ValueError, "seed must lie in"),
        ({"value": 1, "rounding": "stochastic", "index": -1}, ValueError, "index must lie in 0 to"),
        ({"value": "nan", "format": "int8"}, ValueError, "int8 has no NaN; nan='zero' or nan="),
        ({"value": "nan", "format": "fp16", "nan": "error"}, ValueError, "is NaN, and nan='error'"),
        ({"value": 1, "format": "fp17"}, ValueError, "no format is called 'fp17'"),
        ({"value": 1, "format": 16}, TypeError, "a format is a name"),
        ({"code": 1.0, "format": "fp16"}, TypeError, "a code is an integer or a string, got float"),
        ({"code": True, "format": "fp16"}, TypeError, "got bool True"),
        ({"code": np.bool_(1), "format": "fp16"}, TypeError, "got numpy.bool_? of bool"),
        ({"code": torch.tensor(True), "format": "fp16"}, TypeError, "got torch.Tensor of bool"),
        ({"code": np.array([1]), "format": "fp16"}, TypeError, "got numpy.ndarray of int64"),
        ({"code": torch.tensor(1.0), "format": "fp16"}, TypeError, "got torch.Tensor of float32"),
        ({"code": 0x10000, "format": "fp16"}, ValueError, "lies in 0x0 to 0xffff, got 0x10000"),
        ({"code": -1, "format": "bf16"}, ValueError, "bf16 lies in 0x0 to 0xffff, got -0x1"),
        ({"code": "0x10000", "format": "fp16"}, ValueError, "got 0x10000"),
        ({"code": "3C00", "format": "fp16"}, ValueError, "'3C00' as a code; .*'0x3C00'"),
        ({"code": "0b11", "format": "fp16"}, ValueError, "'0b11' has 2 bits, but fp16 has 16"),
    ],
)  # fmt: skip
def test_it_refuses_in_words_that_help(arguments, error, message):
    with pytest.raises(error, match=message):
        inspect(**arguments)


NO_NUMBERS = """abc|0,0319|1__0|_1|1e|0x|0x1.8q3|--1|3C00|1/2/3|1.5/2|nan123|-0b1|٣|1e5p3|∞"""


@pytest.mark.parametrize("text", ["", "0 01111 0000000000", *NO_NUMBERS.split("|")])
def test_a_string_that_is_no_number_is_quoted_and_told_what_is_accepted(text):
    message = f"cannot read {text!r} as a number; accepted: a decimal ('0.0319', '1e-400', '1_000')"
    with pytest.raises(ValueError, match=re.escape(message)):
        inspect(text, "fp16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/0", "'1/0' divides by zero"),
        ("1e9999999999999999999", "'1e9999999999999999999' has an exponent beyond 999,999"),
        ("0x1p-100001", "'0x1p-100001' has an exponent beyond 100,000"),
        ("0x1p" + "9" * 9999, "has an exponent beyond 100,000"),
        ("9" * 20_001, r"20,000 characters, '9{40}\.\.\.9{10}' has 20,001"),
        ("0b012", "written with 0 and 1, .* got '0b012'"),
        ("|", "written with 0 and 1"),
        ("0b0011", "'0b0011' has 4 bits, but fp16 has 16"),
        ("0|10000000|1001001", "fields of 1, 8, 7 bits; those of fp16 have 1, 5, 10"),
        ("00|1111|0000000000", "fields of 2, 4, 10 bits; those of fp16 have 1, 5, 10"),
    ],
    ids=lambda x: x[:20],
)
def test_a_string_that_is_almost_a_number_or_a_code_is_told_why_not(text, message):
    with pytest.raises(ValueError, match=message):
        inspect(text, "fp16")
