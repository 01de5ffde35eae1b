"""The registry, and the numbers derived from its rows against NumPy's, ml_dtypes' and torch's."""

from collections import Counter
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import floatfmt as ff


def test_the_registry_lists_the_rows_widest_first():
    assert [f.name for f in ff.formats()] == ["fp64", "fp32", "tf32", "fp16", "bf16"]


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
        ({"exponent_bits": 1}, "exponent_bits must be an integer from 2 to 11, got 1"),
        ({"exponent_bits": 12}, "got 12"),
        ({"fraction_bits": 0}, "fraction_bits must be an integer from 1 to 52, got 0"),
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
