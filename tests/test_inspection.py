"""What `inspect` says about a code and about rounding, and how its card looks to people."""

import copy
import doctest
import io
import itertools
import json
import math
import pickle
import re
import struct
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

import floatfmt
from floatfmt import exact, inspection
from floatfmt.formats import Format, format, formats
from floatfmt.inspection import Inspection, inspect
from floatfmt.reading import read
from floatfmt.rounding import Rounding
from strategies import ALL_FORMATS, boundary_codes
from strategies import codes as all_codes

FP64, FP32, FP16, BF16 = (format(name) for name in ("fp64", "fp32", "fp16", "bf16"))
SIXTEEN_BITS = (FP16, BF16)
E5M2 = Format("e5m2", exponent_bits=5, fraction_bits=2)

codes = st.sampled_from([*formats(), E5M2]).flatmap(
    lambda fmt: st.tuples(st.integers(0, 2**fmt.bits - 1), st.just(fmt))
)

#: One of every kind of card: finite ones of every size, rounded every way, and the rest.
CARDS = [
    inspect("0.0319", "bf16"),
    inspect(0.0319, "bf16"),
    inspect(math.pi),
    inspect(math.pi, "fp32"),
    inspect(Fraction(1, 3), "fp16"),
    inspect(code=0x3C00, format="fp16"),
    inspect(70000, "fp16"),
    inspect(-70000, "fp16"),
    inspect(1 + Fraction(1, 2**11), "fp16"),
    inspect("1e-400"),
    inspect("-1e-999999999", "fp32"),
    inspect("1e999999999"),
    inspect(0),
    inspect(-0.0, "tf32"),
    inspect(-5e-324),
    inspect(1e300),
    inspect("-inf", "fp16"),
    inspect(math.nan, "bf16"),
    inspect(code=0x7F800001, format="fp32"),
    inspect(1.75, E5M2),
    inspect(-0.3, "fp8_ue4m3"),
    inspect(3.0, "fp8_e8m0fnu"),
    inspect(0, "fp8_e8m0fnu"),
    inspect(500, "fp8_e4m3fn"),
    inspect("-nan", "fp8_e4m3fnuz"),
    inspect(-1.7, "mxint8"),
    inspect(-200, "int8"),
    inspect(200.5, "uint8"),
    inspect("inf", "p3109_k8p3se"),
    inspect(0.7, "p3109_k8p1uf", rounding="stochastic", seed=5, index=2),
    inspect("nan", "int4", nan="largest"),
    inspect(2e-45, "fp32", rounding="to_odd", overflow="saturate", subnormals="flush"),
]
each_card = pytest.mark.parametrize("card", CARDS, ids=repr)


def fp64_bits(x: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", x))[0]


# --- known facts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "simplest"),
    [
        ("fp64", Fraction(319, 10000)),
        ("fp32", Fraction(319, 10000)),
        ("fp16", Fraction(11, 345)),
        ("bf16", Fraction(3, 94)),
    ],
)
@pytest.mark.parametrize("asked", [0.0319, "0.0319", "319/10000", Decimal("0.0319")])
def test_the_simplest_fraction_of_0_0319_is(name, simplest, asked):
    assert inspect(asked, name).simplest == simplest


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", "0 10000000 10010010000111111011011"),
        ("fp16", "0 10000 1001001000"),
        ("bf16", "0 10000000 1001001"),
    ],
)
def test_the_bits_of_pi_are(name, bits):
    x = inspect(math.pi, name)
    assert x.bits == bits.replace(" ", "")
    assert bits.replace(" ", "|") in str(x)


def test_0_0319_in_bf16_is():
    x = inspect("0.0319", "bf16")
    assert (x.sign, x.exponent, x.fraction) == (0, 122, 3)
    assert (x.hex, x.bits, x.category) == ("0x3D03", "0011110100000011", "normal")
    assert (x.unbiased_exponent, x.significand) == (-5, Fraction(131, 128))
    assert (x.value, x.decimal) == (Fraction(131, 4096), "0.031982421875")
    assert (x.dyadic, x.hexfloat) == ("131 × 2^-12", "0x1.06p-5")
    assert x.requested == Fraction(319, 10000)
    assert x.error == Fraction(131, 4096) - Fraction(319, 10000)
    assert x.relative_error == x.error / Fraction(319, 10000)
    assert x.error_ulps == x.error * 2**12
    assert x.ulp == Fraction(1, 2**12)
    assert (x.next_up.hex, x.next_down.hex) == ("0x3D04", "0x3D02")
    assert (x.payload, x.is_quiet, x.is_finite, x.remark) == (None, False, True, None)


def test_the_examples_of_the_docstrings_hold(monkeypatch):
    monkeypatch.setattr(floatfmt, "inspect", inspect, raising=False)
    assert doctest.testmod(inspection).failed == 0


# --- every code of the 16-bit formats -----------------------------------------------------------


@pytest.mark.parametrize("fmt", SIXTEEN_BITS, ids=str)
def test_every_code_comes_back_from_its_bits_its_hex_and_its_fields(fmt):
    for code in range(1 << 16):
        x = inspect(code=code, format=fmt)
        assert (x.code, x.requested) == (code, None)
        assert int(x.bits, 2) == int(x.hex, 16) == code
        assert (len(x.bits), len(x.hex)) == (16, 6)
        assert x.sign << 15 | x.exponent << fmt.fraction_bits | x.fraction == code


@pytest.mark.parametrize("fmt", SIXTEEN_BITS, ids=str)
def test_every_value_is_the_one_numpy_has_in_decimal_and_in_hexadecimal(fmt):
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = np.arange(1 << 16, dtype=np.uint16).view(fmt.dtype).astype(np.float64).tolist()
    for code, expected in enumerate(values):
        x = inspect(code=code, format=fmt)
        value, digits, hexfloat = x.value, x.decimal, x.hexfloat
        if expected and math.isfinite(expected):
            assert value.as_integer_ratio() == expected.as_integer_ratio()
            assert digits == f"{Decimal(expected):f}"
            assert float.fromhex(hexfloat) == expected
            # tests/test_exact.py encodes every value back to its code.
            assert read(digits) == read(hexfloat) == value
        elif math.isnan(expected):
            assert (x.category, value, hexfloat) == ("nan", None, "nan")
            assert inspect(digits, fmt).code == x.sign << 15 | fmt.infinity_code | fmt.quiet_bit
        else:
            assert value == (None if math.isinf(expected) else 0)
            assert digits == f"{expected:g}"
            assert fp64_bits(float.fromhex(hexfloat)) == fp64_bits(expected)
            assert inspect(digits, fmt).code == inspect(hexfloat, fmt).code == code


@pytest.mark.parametrize("fmt", SIXTEEN_BITS, ids=str)
def test_the_neighbours_of_every_code_are_numpy_s(fmt):
    all_codes = np.arange(1 << 16, dtype=np.uint16)
    values = all_codes.view(fmt.dtype)
    infinity = values.dtype.type(np.inf)
    for name, end in (("next_up", infinity), ("next_down", -infinity)):
        with np.errstate(all="ignore"):
            expected = np.nextafter(values, np.full_like(values, end)).view(np.uint16).tolist()
        for code in all_codes.tolist():
            x = inspect(code=code, format=fmt)
            neighbour = getattr(x, name)
            if x.category == "nan" or values[code] == end:
                assert neighbour is None
            else:
                assert (neighbour.code, neighbour.format) == (expected[code], fmt)


@pytest.mark.parametrize("fmt", SIXTEEN_BITS, ids=str)
def test_the_categories_of_all_codes_count_up_to_the_format_s(fmt):
    counted = dict.fromkeys(fmt.counts, 0)
    for code in range(1 << 16):
        counted[inspect(code=code, format=fmt).category] += 1
    assert counted == fmt.counts


# --- properties of any code, and of any value ---------------------------------------------------


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(1)
@example(1 << 63)
@example(0x000FFFFFFFFFFFFF)
@example(0x7FF0000000000000)
@example(0xFFF8000000000001)
def test_hexfloat_is_float_hex_in_fp64(code):
    assert (
        inspect(code=code, format="fp64").hexfloat
        == struct.unpack("<d", code.to_bytes(8, "little"))[0].hex()
    )


@given(codes)
def test_a_code_comes_back_from_its_decimal_its_hexfloat_and_its_bits(code_and_format):
    code, fmt = code_and_format
    x = inspect(code=code, format=fmt)
    assert inspect(f"0b{x.bits}", fmt) == inspect(code=x.hex, format=fmt) == x
    if x.category == "nan":
        return  # of a NaN's bits the decimal has the sign alone
    notations = [x.decimal, x.hexfloat]
    if x.value:
        notations += [str(x.simplest), x.simplest, x.value]
    assert {inspect(notation, fmt).code for notation in notations} == {code}


@given(codes)
def test_dyadic_is_an_odd_integer_times_a_power_of_two(code_and_format):
    x = inspect(code=code_and_format[0], format=code_and_format[1])
    if not x.value:
        assert x.dyadic == {"infinite": None, "nan": None, "zero": x.decimal}[x.category]
        return
    odd, exponent = re.fullmatch(r"(-?\d+) × 2\^(-?\d+)", x.dyadic).groups()
    assert int(odd) % 2 == 1
    assert int(odd) * Fraction(2) ** int(exponent) == x.value


@given(
    st.fractions() | st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(formats())
)
@example(Fraction(65520), FP16)
@example(Decimal("0.0319"), BF16)
def test_the_error_is_exact_and_at_most_half_an_ulp(asked, fmt):
    x = inspect(asked, fmt)
    assert x.requested == Fraction(asked)
    if x.category in ("infinite", "nan"):
        assert x.error is x.relative_error is x.error_ulps is None
        assert not fmt.min_positive <= asked <= fmt.max_finite
        return
    assert x.error == x.value - Fraction(asked)
    assert x.error_ulps * x.ulp == x.error
    if asked:
        assert x.error == x.relative_error * abs(x.requested)
    if (fmt.lowest if fmt.zero else fmt.min_positive) <= asked <= fmt.max_finite:
        assert abs(x.error_ulps) <= Fraction(1, 2)


@given(st.integers(0, 2**64 - 1), st.sampled_from([np.float32, np.float16]))
def test_a_double_is_rounded_as_numpy_rounds_it(code, dtype):
    value = struct.unpack("<d", code.to_bytes(8, "little"))[0]
    if not math.isnan(value):
        with np.errstate(all="ignore"):
            expected = np.float64(value).astype(dtype)
        assert inspect(value, dtype).code == inspect(expected).code


# --- beyond the range ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", ["1e999999999", "1e400", Decimal("1e99999"), "0x1p2000", 10**400, 65520]
)
def test_what_overflows_says_so(asked):
    for sign, code in ((1, 0x7C00), (-1, 0xFC00)):
        asked = asked if sign > 0 else f"-{asked}"
        x = inspect(asked, "fp16")
        assert x.code == code
        assert x.error is x.relative_error is x.error_ulps is None
        assert x.remark == (
            "overflows: the largest finite value is 65504, and magnitudes from 65520 on "
            "round to inf"
        )
        assert "note         overflows" in str(x)


@pytest.mark.parametrize(
    "asked", ["1e-999999999", "1e-400", Decimal("1e-99999"), Fraction(1, 2**25)]
)
def test_what_underflows_says_so(asked):
    for sign, code in (("", 0), ("-", 0x8000)):
        x = inspect(sign + str(asked), "fp16")
        assert x.code == code
        asked_for = x.requested
        negated = asked_for.copy_negate() if isinstance(asked_for, Decimal) else -asked_for
        assert x.error == negated
        assert x.relative_error == (1 if sign else -1)
        assert x.remark == (
            "underflows: the smallest positive value is 0.000000059604644775390625, and magnitudes "
            "up to half of it round to zero"
        )


def test_a_value_too_small_for_a_fraction_has_its_error_as_a_decimal():
    x = inspect("-1e-999999999", "fp32")
    assert x.error == Decimal("1e-999999999")
    assert x.error_ulps is None
    assert x.to_dict()["requested"] == "-1e-999999999"
    assert "error        +1e-999999999, relative +1" in str(x)


def test_the_last_value_that_does_not_overflow_has_no_remark():
    x = inspect(65520 - Fraction(1, 10**30), "fp16")
    assert (x.value, x.remark) == (65504, None)
    assert (x.next_up.decimal, x.next_up.next_up) == ("inf", None)


def test_a_tie_says_between_which_codes_and_goes_to_the_even_one():
    for asked, code, other in ((2049, 0x6800, 0x6801), (-2051, 0xE802, 0xE801)):
        x = inspect(asked, "fp16")
        assert x.code == code
        assert (
            x.remark
            == f"a tie: halfway between {x.hex} and 0x{other:X}, and the even code is taken"
        )
    assert inspect(2049, "fp32").remark is None


def test_the_caller_s_decimal_context_changes_nothing():
    import decimal

    with decimal.localcontext() as context:
        context.prec = 1
        context.clear_traps()
        assert inspect("0.0319").requested == Fraction(319, 10000)
        assert inspect("0.0319", "bf16").decimal == "0.031982421875"
        assert str(inspect("0.0319", "bf16")) == str(CARDS[0])
        with pytest.raises(ValueError, match="exponent beyond"):
            inspect("1e9999999999999999999")


# --- the result as a value ----------------------------------------------------------------------


@each_card
def test_an_inspection_equals_itself_its_copy_and_its_pickle(card):
    assert card == copy.deepcopy(card) == pickle.loads(pickle.dumps(card))


def test_inspections_differ_by_format_by_code_and_by_what_was_asked_for():
    assert inspect(math.nan) == inspect("nan")
    different = [
        inspect(1.0),
        inspect(1.0, "fp32"),
        inspect(2.0),
        inspect("1.0000000000000000001"),
        inspect(code=0x3FF0000000000000, format="fp64"),
        inspect(1.0, rounding="toward_zero"),
        inspect(1.0, rounding="stochastic", seed=1),
        inspect(1.0, rounding="stochastic", seed=1, index=1),
        inspect(math.nan),
        inspect(-math.nan),
        1.0,
    ]
    assert all(a != b for a, b in itertools.combinations(different, 2))


def test_an_inspection_is_frozen_small_and_not_hashable():
    x = inspect(1.0)
    with pytest.raises(AttributeError):
        x.code = 2
    assert Inspection.__slots__ == ("format", "code", "requested", "rules", "seed", "index")
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


@each_card
def test_to_dict_is_json_with_every_documented_key_and_no_other(card):
    card_dict = card.to_dict()
    assert json.loads(json.dumps(card_dict, allow_nan=False)) == card_dict
    documented = re.findall(r"``(\w+)``", Inspection.to_dict.__doc__.partition("Examples")[0])
    assert set(documented) == set(card_dict)
    assert card_dict["bits"] == card.bits
    for key in ("value", "error", "significand", "simplest", "ulp", "relative_error", "error_ulps"):
        number = getattr(card, key)
        if not isinstance(number, Fraction):
            assert card_dict[key] == (number if number is None else str(number).lower())
        else:
            assert Fraction(card_dict[key]) == number


def test_to_dict_has_all_digits_and_words_for_what_is_not_finite():
    assert len(inspect(5e-324).to_dict()["decimal"]) == 1076
    assert inspect(math.inf).to_dict()["requested"] == "inf"
    assert inspect(math.nan).to_dict()["requested"] == "nan"
    assert inspect(-0.0).to_dict()["requested"] == "-0"
    assert inspect(math.nan).to_dict()["value"] is None
    assert inspect(65504, "fp16").to_dict()["next_up"] == {"hex": "0x7C00", "decimal": "inf"}
    assert inspect(math.inf).to_dict()["next_up"] is None


# --- every format -------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ALL_FORMATS, ids=str)
def test_every_kind_of_code_has_a_card(fmt):
    every = range(2**fmt.bits) if fmt.bits <= 8 else boundary_codes(fmt)
    for code in every:
        x = inspect(code=code, format=fmt)
        bits = next(line for line in str(x).splitlines() if line.startswith("bits"))
        fields = bits.split()[1].split("|")
        widths = [int(fmt.signed), fmt.exponent_bits, fmt.fraction_bits]
        assert [len(field) for field in fields] == [width for width in widths if width]
        assert "".join(fields) == x.bits
        assert ("sign  " in str(x)) == fmt.signed
        assert ("exponent" in str(x)) == (not fmt.is_integer)
        assert x.to_dict()["decimal"] == x.decimal
        assert x.decimal in "".join(line[13:] for line in str(x).splitlines())
        assert (x.payload is not None) == (x.category == "nan" and fmt.nan == "ieee")
        if x.is_finite:
            assert Fraction(x.decimal) == x.value == read_exactly(x.hexfloat)


def read_exactly(hexfloat: str) -> Fraction:
    number = float.fromhex(hexfloat)
    assert number or hexfloat.strip("-") == "0x0.0p+0"
    return Fraction(number)


@pytest.mark.parametrize(
    ("asked", "name", "lines"),
    [
        ("-1.7", "mxint8", ["mxint8 0x93, a fixed-point number", "bits         1|0010011",
            "integer      0010011 = 19 - 128 = -109, two's complement; times 2^-6",
            "value        -1.703125", "hexfloat     -0x6dp-6"]),
        ("5", "uint4", ["uint4 0x5, an integer", "bits         0101", "integer      0101 = 5",
            "hexfloat     0x5p+0"]),
        ("3", "fp8_e8m0fnu", ["bits         10000000",
            "exponent     10000000 = 128, less the bias of 127: 2^1",
            "significand  1; there is no fraction"]),
        ("2**0", "fp8_e8m0fnu", ["next down    none: nothing lies below"]),
        ("nan", "fp8_e4m3fnuz", ["fp8_e4m3fnuz 0x80, NaN", "sign         1", "value        nan",
            "special      the code that -0 would have: NaN"]),
        ("-nan", "fp8_e4m3fn", ["special      every bit below the sign is 1: NaN",
            "value        -nan"]),
        ("inf", "p3109_k8p3ue", ["special      the code after the largest finite value's: Inf",
            "value        inf"]),
        ("127", "int8", ["next up      none: nothing lies above"]),
        ("0", "uint8", ["uint8 0x00, zero", "next down    none: nothing lies below"]),
    ],
)  # fmt: skip
def test_the_card_of_formats_unlike_ieee_s_says(asked, name, lines):
    x = inspect(code=0, format=name) if asked == "2**0" else inspect(asked, name)
    shown = str(x).splitlines()
    for line in lines:
        assert line in shown


@pytest.mark.parametrize(
    ("asked", "name", "options", "decimal", "remark"),
    [
        (463, "fp8_e4m3fn", {}, "448", None),
        (464, "fp8_e4m3fn", {}, "448", "a tie: halfway between 0x7E and what lies beyond, and the "
            "even code is taken"),
        (464.5, "fp8_e4m3fn", {}, "nan", "overflows: the largest finite value is 448, and "
            "magnitudes beyond 464 become nan"),
        (464.5, "fp8_e4m3fn", {"overflow": "saturate"}, "448", "overflows: the largest finite "
            "value is 448, and magnitudes beyond 464 become 448"),
        (449, "fp8_e4m3fn", {"rounding": "toward_zero"}, "448", "out of range: the largest finite "
            "value is 448, and toward_zero stops there"),
        (-449, "fp8_e4m3fn", {"rounding": "toward_negative"}, "-nan", "overflows: the largest "
            "finite value is 448, and magnitudes beyond it become nan"),
        (-129, "int8", {}, "-128", "out of range: the least value is -128, and values below "
            "-128.5 become -128"),
        (127.5, "int8", {}, "127", "overflows: the largest finite value is 127, and values from "
            "127.5 on become 127"),
        (-1, "fp8_ue4m3", {}, "nan", "out of range: the least value is 0, and values below "
            "-0.0009765625 become nan"),
        (-1, "fp8_e8m0fnu", {}, "nan", "out of range: fp8_e8m0fnu has neither zero nor negative "
            "values, and they become nan"),
        (0, "fp8_e8m0fnu", {}, "nan", "fp8_e8m0fnu has no zero: it becomes nan"),
        (-0.0, "int8", {}, "0", "int8 has no -0: it becomes 0"),
        (math.inf, "int8", {}, "127", "int8 has no Inf: it becomes 127"),
        (-math.inf, "fp16", {"overflow": "saturate"}, "-65504", "it becomes -65504, as "
            "overflow='saturate' says"),
        (math.nan, "int8", {"nan": "zero"}, "0", "it becomes 0, as nan='zero' says"),
        (2**-20, "fp16", {"subnormals": "flush"}, "0", "flushed: results below the smallest "
            "normal value, 0.00006103515625, become zero"),
        (2049, "fp16", {"rounding": "nearest_away"}, "2050", "a tie: halfway between 0x6801 and "
            "0x6800, and the one away from zero is taken"),
        (2049, "fp16", {"rounding": "toward_zero"}, "2048", None),
    ],
)  # fmt: skip
def test_the_remark_follows_the_format_and_the_options(asked, name, options, decimal, remark):
    x = inspect(asked, name, **options)
    assert (x.decimal, x.remark) == (decimal, remark)


@given(st.sampled_from(ALL_FORMATS), st.sampled_from(list(Rounding)), st.data())
def test_inspect_gives_the_code_that_encode_gives(fmt, mode, data):
    value = struct.unpack("<d", data.draw(all_codes(FP64, fmt)).to_bytes(8, "little"))[0]
    options = {
        "rounding": mode,
        "overflow": data.draw(st.sampled_from(["ieee", "saturate"])),
        "nan": data.draw(st.sampled_from(["largest", "zero"] if fmt.zero else ["largest"])),
        "subnormals": data.draw(st.sampled_from(["keep", "flush"])),
    }
    seed, index = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 9))
    x = inspect(value, fmt, **options, seed=seed, index=index)
    expected = floatfmt.encode(np.full(10, value), fmt, **options, seed=seed)[index]
    assert x.code == expected
    assert x.rounding is mode
    if mode is Rounding.STOCHASTIC:
        assert x == inspect(value, fmt, **options, seed=x.seed, index=x.index)


def test_stochastic_rounding_records_a_seed_that_repeats_it():
    drawn = [inspect(0.3, "int8", rounding="stochastic") for _ in range(40)]
    assert len({x.seed for x in drawn}) == 40
    assert {x.code for x in drawn} == {0, 1}
    assert all(inspect(0.3, "int8", rounding="stochastic", seed=x.seed) == x for x in drawn)
    assert f"rounding     stochastic, seed {drawn[0].seed}, index 0" in " ".join(
        str(drawn[0]).split("\n")
    )
    assert (inspect(0.3, "int8", seed=3).seed, inspect(0.3, "int8", index=3).index) == (None, None)


def test_a_nan_in_its_own_format_keeps_its_bits_unless_nan_asks_otherwise():
    signalling = np.uint32(0xFFA00001).view(np.float32)
    assert inspect(signalling, rounding="toward_zero").code == 0xFFA00001
    assert inspect(signalling, nan="canonical").code == 0x7FC00000
    assert inspect(np.float32(np.inf), overflow="saturate").value == FP32.max_finite


# --- how it looks -------------------------------------------------------------------------------


def test_repr_is_one_line():
    assert repr(inspect("0.0319", "bf16")) == "<bf16 0x3D03 0|01111010|0000011 = 0.031982421875>"
    assert repr(inspect(math.pi, "fp32")).endswith(" = 3.1415927410125732421875>")
    assert repr(inspect(5e-324)).endswith(" ~ 4.9406564584124654e-324>")
    assert repr(inspect("-nan", "fp16")) == "<fp16 0xFE00 1|11111|1000000000 = -nan>"


@each_card
def test_the_text_is_aligned_in_80_columns_and_loses_nothing(card):
    lines = str(card).splitlines()
    assert lines[0].startswith(f"{card.format} {card.hex}, ")
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert all(re.match(r"(\w[\w ]{11}| {12}) \S", line) for line in lines[1:])
    digits = "".join(line[13:] for line in lines)
    assert card.decimal in digits
    assert not any(text in digits for text in ("…", "None", "\N{NO-BREAK SPACE}"))


@pytest.mark.parametrize("code", [0x7E01, 0xFC05, 0x7C00, 0xFC00])
def test_the_card_of_inf_and_nan_says_what_they_are(code):
    text = str(inspect(code=code, format="fp16"))
    expected = {
        0x7E01: ["a quiet NaN", "payload      0x1; the fraction's leading bit is 1: quiet"],
        0xFC05: ["a signalling NaN", "payload      0x5; the fraction's leading bit is 0", "-nan"],
        0x7C00: [
            "infinity",
            "next up      none: nothing lies above",
            "next down    0x7BFF = 65504",
        ],
        0xFC00: [
            "infinity",
            "next up      0xFBFF = -65504",
            "next down    none: nothing lies below",
        ],
    }
    for piece in expected[code]:
        assert piece in text
    assert ("next up" in text) == (code in (0x7C00, 0xFC00))


def render(card: Inspection, width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(card)
    return console.file.getvalue()


def without_space(text: str) -> str:
    return "".join(text.split())


@each_card
@pytest.mark.parametrize("width", [80, 40, 20])
@pytest.mark.parametrize("colour", [True, False])
def test_rich_shows_the_same_card_within_the_terminal(card, width, colour):
    options = {"force_terminal": True, "color_system": "standard"} if colour else {}
    shown = render(card, width, **options)
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert (shown != plain) == colour
    assert all(len(line) <= width for line in plain.splitlines())
    assert without_space(plain) == without_space(str(card))
    if width == 80:
        assert plain == f"{card}\n"


def test_each_field_has_one_colour_in_the_bits_the_label_and_the_significand():
    shown = render(inspect("0.0319", "bf16"), 80, force_terminal=True, color_system="standard")
    sign, exponent, fraction = "\x1b[1;35m", "\x1b[1;36m", "\x1b[1;32m"
    end = "\x1b[0m"
    assert f"{sign}0{end}|{exponent}01111010{end}|{fraction}0000011{end}" in shown
    for style, label in ((sign, "sign"), (exponent, "exponent"), (fraction, "fraction")):
        assert f"{style}{label}{end}" in shown
    assert f"{exponent}1{end}.{fraction}0000011{end} in binary" in shown


def test_no_color_and_pipes_get_plain_text(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = render(CARDS[0], 80, force_terminal=True)
    assert not re.search(r"\x1b\[(1;)?3\dm", shown)
    monkeypatch.delenv("NO_COLOR")
    assert render(CARDS[0], 80) == f"{CARDS[0]}\n"


class Page(HTMLParser):
    """Collects a page's text, and checks that every tag that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@each_card
def test_the_html_is_the_same_card_and_needs_nothing_from_outside(card):
    source = card._repr_html_()
    page = Page()
    page.feed(source)
    page.close()
    assert page.open == []
    assert set(page.attributes) <= {"style", "scope"}
    assert not re.search(r"http|url\(", source)
    assert without_space("".join(page.text)) == without_space(str(card))


def test_the_html_escapes_what_it_shows():
    fmt = Format('<script>"&', exponent_bits=5, fraction_bits=2)
    source = inspect(1, fmt)._repr_html_()
    assert "&lt;script&gt;&quot;&amp; 0x3C" in source
    assert "<script" not in source


# --- what it costs ------------------------------------------------------------------------------


def test_importing_and_inspecting_imports_neither_torch_nor_rich():
    script = (
        "import sys; from floatfmt.inspection import inspect; print(inspect(0.1));"
        "inspect(1)._repr_html_(); sys.exit(' '.join({'torch', 'rich'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_exact_and_inspect_agree_on_the_code_of_a_float():
    for value in (0.1, 1e-8, 65519.99, -3.0):
        for fmt in formats():
            assert inspect(value, fmt).code == exact.encode(value, fmt)
