"""Why a value was rounded to where it went: against `exact`, for every format and every mode."""

import json
import math
import re
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact
from floatfmt.rounding import rules
from strategies import ALL_FORMATS, boundary_codes, codes

FP64 = ff.format("fp64")

#: Finite values near the boundaries and ties of a format, and values that no fp64 has.
finite_values = st.sampled_from(ALL_FORMATS).flatmap(
    lambda fmt: st.tuples(
        st.just(fmt),
        codes(FP64, fmt)
        .filter(lambda c: exact.is_finite(c, FP64))
        .map(lambda c: exact.decode(c, FP64))
        | st.fractions()
        | st.sampled_from(boundary_codes(fmt))
        .filter(lambda c: exact.is_finite(c, fmt))
        .map(lambda c: sum(exact.rounding_interval(c, fmt)[:2]) / 2),
    )
)
EVERY_KIND = [
    (0.1, "bf16", {}),
    ("0.1", "fp64", {}),
    (1, "fp16", {}),
    (65520, "fp16", {}),
    (-70000, "fp16", {"overflow": "saturate"}),
    (1e300, "fp8_e4m3fn", {"rounding": "toward_zero"}),
    (1e-300, "fp8_e4m3fn", {"rounding": "toward_positive", "subnormals": "flush"}),
    (-3, "fp8_ue4m3", {}),
    (-3, "fp8_e8m0fnu", {}),
    (1e-300, "fp8_e8m0fnu", {}),
    (0, "fp8_e8m0fnu", {}),
    (0, "fp16", {}),
    (-0.0, "int8", {}),
    (2.5, "int8", {"rounding": "stochastic", "seed": 1}),
    (-1.99, "mxint8", {"rounding": "to_odd"}),
    (math.inf, "fp6_e2m3fn", {}),
    (math.nan, "bf16", {}),
    (math.nan, "int4", {"nan": "zero"}),
    ("1e-999999999", "fp16", {}),
    ("-1e999999999", "fp16", {}),
    (Fraction(1, 3), "p3109_k8p1se", {}),
]
each_kind = pytest.mark.parametrize(("value", "name", "options"), EVERY_KIND)


@given(finite_values)
def test_the_neighbours_bracket_the_value_and_are_the_format_s(drawn):
    fmt, value = drawn
    why = ff.inspect(value, fmt).explain()
    if value == 0:
        assert why.lower is why.upper is why.midpoint is why.position is None
        return
    lower, upper = why.lower, why.upper
    coded = [n for n in (lower, upper) if n is not None and n.code is not None]
    assert coded
    for neighbour in coded:
        assert exact.decode(neighbour.code, fmt) == neighbour.value
    if why.midpoint is not None:
        assert why.position == (value - lower.value) / (upper.value - lower.value)
        assert why.midpoint == (lower.value + upper.value) / 2
    if (fmt.lowest if fmt.zero else fmt.min_positive) <= value <= fmt.max_finite:
        assert len(coded) == 2
        assert lower.value <= value <= upper.value
        same = lower == upper
        assert why.is_exact == same == (value == lower.value)
        assert same or exact.decode(exact.next_up(lower.code, fmt), fmt) == upper.value
    elif why.midpoint is not None:
        assert len(coded) == 1  # the other is what would come next
        assert (upper.code is None) == (value > 0)


@given(finite_values, st.sampled_from(["ieee", "saturate"]), st.sampled_from(["keep", "flush"]))
def test_the_table_of_modes_is_exact_encode(drawn, overflow, subnormals):
    fmt, value = drawn
    why = ff.inspect(value, fmt, overflow=overflow, subnormals=subnormals).explain()
    assert [mode for mode in ff.Rounding if mode in {o.rounding for o in why.modes}] == [
        *ff.Rounding
    ]
    for mode in ff.Rounding:
        how = rules(fmt, mode, overflow, "quiet", subnormals)
        outcomes = {o.code: o.probability for o in why.modes if o.rounding is mode}
        assert sum(outcomes.values()) == 1
        if mode is not ff.Rounding.STOCHASTIC:
            assert set(outcomes) == {exact.encode(value, fmt, how)}
            continue
        # The random bits at which a draw goes the other way are where the probabilities say.
        near, far = (exact.encode(value, fmt, how, word) for word in (0, 2**32 - 1))
        assert set(outcomes) == {near, far}
        if near != far:
            edge = int(outcomes[near] * 2**32)
            assert exact.encode(value, fmt, how, edge) == far
            assert exact.encode(value, fmt, how, edge - 1) == near


@given(finite_values)
def test_guard_round_and_sticky_tell_what_is_dropped(drawn):
    fmt, value = drawn
    why = ff.inspect(value, fmt).explain()
    if why.bits is None or value == 0:
        assert value == 0 or not fmt.min_positive <= value <= fmt.max_finite
        return
    kept, guard, round_bit, sticky = why.bits
    away = why.position if value > 0 else None if why.position is None else 1 - why.position
    rest = away or Fraction(0)
    assert (guard, round_bit) == (int(rest >= Fraction(1, 2)), int(rest * 4 % 2 >= 1))
    assert sticky == (rest * 4 % 1 > 0)
    assert (guard, round_bit | sticky) == (
        (0, int(rest > 0)) if rest < Fraction(1, 2) else (1, int(rest > Fraction(1, 2)))
    )
    assert why.is_tie == ((guard, round_bit, sticky) == (1, 0, 0))
    # The kept bits are the significand of the neighbour toward zero.
    near = why.lower if value > 0 else why.upper
    integer = int(kept.replace(".", ""), 2)
    if fmt.is_integer:
        assert integer * Fraction(2) ** fmt.step_exponent == abs(near.value)
    else:
        assert len(kept.replace(".", "")) == fmt.precision
        assert Fraction(integer, 2**fmt.fraction_bits) == exact.significand(near.code, fmt)


@given(finite_values, st.sampled_from(list(ff.Rounding)))
def test_everything_can_be_shown(drawn, mode):
    fmt, value = drawn
    why = ff.inspect(value, fmt, rounding=mode).explain()
    lines = str(why).splitlines()
    # The table of modes, its last lines, is as wide as the values are long.
    assert all(len(line) <= 80 for line in lines[:-8])
    assert json.loads(json.dumps(why.to_dict(), allow_nan=False))["sentence"] == why.sentence
    assert "<table" in why._repr_html_()
    assert why == ff.inspect(value, fmt, rounding=mode, seed=why.inspection.seed).explain()


@each_kind
def test_every_kind_of_value_is_explained(value, name, options):
    x = ff.inspect(value, name, **options)
    why = x.explain()
    assert why.inspection == x
    assert why.sentence in " ".join(str(why).split())
    taken = [o.code for o in why.modes if o.rounding is x.rounding]
    assert x.code in taken
    assert {o.rounding for o in why.modes} == set(ff.Rounding)


@pytest.mark.parametrize(
    ("value", "name", "options", "sentence"),
    [
        ("0.0319", "bf16", {}, "beyond the midpoint: 0x3D03 is the nearer"),
        ("-0.0319", "bf16", {}, "short of the midpoint: 0xBD03 is the nearer"),
        (2049, "fp16", {}, "a tie: 0x6800 is the even code of the two"),
        (2049, "fp16", {"rounding": "nearest_away"}, "a tie: 0x6801 is the one away from zero"),
        (2049, "fp16", {"rounding": "toward_zero"},
            "inexact, and 0x6800 is the neighbour toward zero"),
        (-2049, "fp16", {"rounding": "toward_positive"},
            "inexact, and 0xE800 is the neighbour above"),
        (-2049, "fp16", {"rounding": "toward_negative"},
            "inexact, and 0xE801 is the neighbour below"),
        (2051, "fp16", {"rounding": "to_odd"}, "inexact, and 0x6801 is the neighbour of odd code"),
        (2, "fp16", {}, "0x4000 has just this value: nothing is rounded, in any mode"),
        (1e-300, "fp16", {}, "short of the midpoint: 0x0000 is the nearer; it underflows"),
        (3e-8, "fp16", {"subnormals": "flush"}, "beyond the midpoint: 0x0001 is the nearer; but "
            "that is subnormal, and subnormals='flush' makes it zero"),
        (1e6, "fp16", {}, "overflows: the largest finite value is 65504, and magnitudes from 65520 "
            "on round to inf"),
        (1e-300, "fp8_e8m0fnu", {}, "fp8_e8m0fnu has no zero: what lies below its smallest value, "
            "~5.9e-39, becomes that in every mode"),
        (0, "fp16", {}, "a zero stays zero in every mode, with its sign where the format has -0"),
        (math.inf, "fp16", {}, "Inf stays Inf in every mode"),
        (math.nan, "fp16", {}, "NaN stays NaN: it keeps its sign and the leading bits of its "
            "payload, and is quiet"),
        (math.nan, "fp16", {"nan": "canonical"}, "NaN stays NaN: every one the same"),
        (math.nan, "fp8_e4m3fn", {}, "NaN stays NaN: without payload here"),
        (math.nan, "int8", {"nan": "zero"}, "it becomes 0, as nan='zero' says"),
    ],
)  # fmt: skip
def test_the_sentence_says_why(value, name, options, sentence):
    assert ff.inspect(value, name, **options).explain().sentence == sentence


def test_a_code_that_was_given_was_not_rounded():
    why = ff.inspect(code=0x7D01, format="fp16").explain()
    assert why.sentence == "a code was given: nothing was rounded"
    assert (why.lower, why.bits, why.is_exact) == (None, None, True)
    assert {o.code for o in why.modes} == {0x7D01}


def test_a_draw_is_explained_by_the_bits_it_drew():
    for seed in range(20):
        x = ff.inspect(0.25, "int8", rounding="stochastic", seed=seed)
        word = exact.random_word(seed, 0)
        assert x.code == (word >= 0xC0000000)
        chance = "0.25" if x.code else "0.75"
        assert x.explain().sentence == (
            f"drawn: {x.hex} had probability {chance}; the 32 bits of seed {seed}, index 0 are "
            f"{word:#010x}, and away from zero takes 0xc0000000 or more"
        )


def test_a_value_beyond_all_fractions_is_placed_but_not_measured():
    tiny, huge = (ff.inspect(v, "fp16").explain() for v in ("1e-999999999", "-1e999999999"))
    assert tiny.inspection.requested == Decimal("1e-999999999")
    assert (tiny.position, huge.position) == (None, None)
    assert tiny.bits[1:] == (0, 0, 1)
    assert (huge.lower.code, huge.upper.code) == (None, 0xFBFF)
    assert re.search(r"^\|\*-", str(tiny), re.MULTILINE)
    assert re.search(r"^<-", str(huge), re.MULTILINE)


def test_the_picture_shows_on_which_side_of_the_midpoint_a_value_lies():
    midpoint = Fraction("0.0318603515625")
    for nudge, pattern in ((-1, r"-\*\+-"), (0, r"-\*-"), (1, r"-\+\*-")):
        why = ff.inspect(midpoint + nudge * Fraction(1, 10**30), "bf16").explain()
        picture = next(line for line in str(why).splitlines() if line.startswith("|-"))
        assert re.search(pattern, picture)
        assert len(picture) == 80


class Page(HTMLParser):
    """Checks that every tag that opens also closes, and collects attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_startendtag(self, tag, attrs):
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@each_kind
def test_the_html_is_whole_and_needs_nothing_from_outside(value, name, options):
    why = ff.inspect(value, name, **options).explain()
    source = why._repr_html_()
    page = Page()
    page.feed(source)
    page.close()
    assert page.open == []
    assert not re.search(r"http|url\(|<script|\bon\w+=", source)
    assert why.sentence in " ".join(page.text)
    has_picture = any(
        re.fullmatch(r"[|+<][-|+*<>]{78}[-|+>*]", line) for line in str(why).splitlines()
    )
    assert has_picture == ("svg" in page.attributes)
    for svg in page.attributes.get("svg", []):
        assert svg["role"] == "img"
        assert why.inspection.hex in svg["aria-label"]
        assert "title" in page.attributes
    for circle in page.attributes.get("circle", []):
        assert 0 <= float(circle["cx"]) <= 680


def test_the_html_escapes_names():
    fmt = ff.Format('<script>"&', exponent_bits=5, fraction_bits=2)
    source = ff.inspect(1.1, fmt).explain()._repr_html_()
    assert "<script" not in source
    assert "&lt;script&gt;&quot;&amp;" in source


def test_to_dict_has_what_is_documented_and_no_more():
    documented = set(
        re.findall(r"``(\w+)``", ff.Explanation.to_dict.__doc__.partition("bits``")[0])
    )
    card = ff.inspect("0.0319", "bf16").explain().to_dict()
    assert {"inspection", "lower", "upper", "midpoint", "position"} <= documented
    assert set(card) == {
        *("inspection", "lower", "upper", "midpoint", "position"),
        *("bits", "is_exact", "is_tie", "sentence", "modes"),
    }
    assert card["lower"] == {"code": 0x3D02, "hex": "0x3D02", "value": "65/2048"}
    assert card["modes"][-1]["probability"] == str(Fraction(414 * 2**32 // 625, 2**32))
    assert card["bits"] == {"kept": "1.0000010", "guard": 1, "round": 0, "sticky": 1}


@pytest.mark.parametrize("part", ["1/1073741824", "1/4", "1/2", "31/32"])
@pytest.mark.parametrize("mode", [mode.value for mode in ff.Rounding])
def test_a_value_below_the_least_of_a_format_without_zero_is_explained(part, mode):
    fmt = ff.Format("no zero", 7, 4, signed=False, infinity=False, nan="top", zero=False)
    for x in (Fraction(part) * fmt.min_positive, 5e-324):
        inspected = ff.inspect(x, fmt, rounding=mode, seed=1)
        explanation = inspected.explain()
        assert inspected.code == 0
        assert str(explanation)
        assert (explanation.lower, explanation.upper.code) == (None, 0)
