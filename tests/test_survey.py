"""One value in every format: the rows are inspections, and what has no code says why."""

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact
from strategies import ALL_FORMATS


@given(st.fractions() | st.floats(allow_nan=False), st.sampled_from(list(ff.Rounding)[:-1]))
def test_each_row_is_the_inspection_in_its_format(value, mode):
    survey = ff.round_all(value, rounding=mode, formats=ALL_FORMATS)
    assert [row.format for row in survey.rows] == list(ALL_FORMATS)
    for fmt, x, reason in survey.rows:
        assert reason is None
        assert x == ff.inspect(value, fmt, rounding=mode)
    assert str(survey).count("\n") >= len(ALL_FORMATS)


def test_all_formats_of_the_registry_are_there_in_order():
    survey = ff.round_all("0.1")
    assert tuple(row.format for row in survey.rows) == ff.formats()
    assert survey.requested == Fraction(1, 10)
    assert survey["bf16"].code == 0x3DCD
    lines = str(survey).splitlines()
    assert [line.split()[0] for line in lines[3:26]] == [fmt.name for fmt in ff.formats()]
    assert max(map(len, lines)) <= 80
    with pytest.raises(KeyError, match="p3109_k8p3se is not one of"):
        survey["p3109_k8p3se"]


def test_a_nan_has_a_dash_and_a_reason_where_there_is_no_nan():
    survey = ff.round_all(math.nan)
    for fmt, x, reason in survey.rows:
        assert (x is None) == (fmt.nan is None) == (reason is not None)
    text = " ".join(str(survey).split())
    assert (
        "- is no NaN; nan='zero' or nan='largest' gives it a value: fp6_e2m3fn, fp6_e3m2fn" in text
    )
    rows = {row["format"]: row for row in survey.to_dict()["rows"]}
    assert (rows["int8"]["code"], rows["int8"]["is_exact"]) == (None, None)
    assert "int8 has no NaN" in rows["int8"]["reason"]
    assert ff.round_all(math.nan, nan="zero")["int8"].code == 0


@pytest.mark.parametrize(
    ("value", "name", "note"),
    [
        (1e9, "fp16", "overflows: fp16"),
        (1e-9, "fp16", "underflows: fp16"),
        (2049, "fp16", "tie: fp16"),
        (-1, "uint8", "out of range: uint8"),
        (-1, "fp8_e8m0fnu", "out of range: fp8_e8m0fnu"),
        (0, "fp8_e8m0fnu", "no zero: fp8_e8m0fnu"),
        (-math.inf, "int8", "no -Inf: int8"),
    ],
)
def test_what_happened_is_said_below_the_table(value, name, note):
    assert str(ff.round_all(value, formats=[name])).splitlines()[-1] == note


def test_an_exact_value_is_called_exact():
    assert str(ff.round_all(1, formats=["int8"])).split()[-1] == "exact"


def test_stochastic_rounding_draws_with_one_seed_and_says_which():
    survey = ff.round_all(0.3, rounding="stochastic")
    (seed,) = {row.inspection.seed for row in survey.rows}
    assert f"seed {seed}" in str(survey)
    assert survey == ff.round_all(0.3, rounding="stochastic", seed=seed)
    how = ff.exact.rules(ff.format("int8"), "stochastic")
    drawn = exact.encode(Fraction(0.3), how.format, how, exact.random_word(seed, 0))
    assert survey["int8"].code == drawn


def test_a_numpy_scalar_is_taken_bit_by_bit():
    signalling = np.uint32(0x7FA00001).view(np.float32)
    assert ff.round_all(signalling)["fp32"].code == 0x7FA00001
    assert ff.round_all(signalling) == copy.deepcopy(ff.round_all(signalling))
    assert ff.round_all(0.1) != ff.round_all("0.1")


def test_to_dict_has_the_errors_exactly():
    rows = {row["format"]: row for row in ff.round_all("0.1").to_dict()["rows"]}
    assert rows["bf16"]["error"] == "1/10240"
    assert rows["bf16"]["relative_error"] == "1/1024"
    assert rows["bf16"]["error_ulps"] == "1/5"
    assert not rows["bf16"]["is_exact"]
    assert ff.round_all(1).to_dict()["rows"][0]["is_exact"]


def test_the_html_escapes_what_it_shows():
    fmt = ff.Format("<b>&", exponent_bits=5, fraction_bits=2)
    source = ff.round_all(1, formats=[fmt])._repr_html_()
    assert "&lt;b&gt;&amp;" in source
    assert source.count("<td") == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": "0b01"}, ValueError, "'0b01' are the bits of a code"),
        ({"x": "abc"}, ValueError, "cannot read 'abc'"),
        ({"x": 1, "formats": ["fp17"]}, ValueError, "no format is called 'fp17'"),
        ({"x": 1, "rounding": "up"}, ValueError, "no rounding mode is called 'up'"),
        ({"x": 1, "nan": "gone"}, ValueError, "nan='gone' is not known"),
        ({"x": 1, "rounding": "stochastic", "seed": -1}, ValueError, "seed must lie in"),
        ({"x": [1]}, TypeError, "got list"),
    ],
)
def test_it_refuses_in_words_that_help(arguments, error, message):
    with pytest.raises(error, match=message):
        ff.round_all(**arguments)
