"""double_rounding against every value of small formats, known rules, and the libraries' own casts."""

import functools
import itertools
import random

import ml_dtypes
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
    for _ in range(250):
        source, via, target = draw.choices(SMALL, k=3)
        rounding = draw.choice(MODES)
        via_rounding = draw.choice([rounding, draw.choice(MODES)])
        verdicts.add(assert_verdict_is_true(source, via, target, rounding, via_rounding) is None)
    assert verdicts == {True, False}
