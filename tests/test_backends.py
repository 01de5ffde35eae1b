"""The C kernel, every function at every level, against the NumPy reference, bit for bit."""

import functools
import itertools
import math
import os
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import floatfmt as ff
from floatfmt.backends import backend_name, current_backend, native, reference
from floatfmt.elements import Intervals, Scaling, intervals, limits, saturating, table
from floatfmt.rounding import NANS, OVERFLOWS, rules
from floatfmt.schemes import POWER_RULES, SCHEMES
from strategies import (
    ALL_FORMATS,
    FLOAT_DTYPES,
    boundary_codes,
    code_arrays,
    finite_arrays,
    options,
    rules_of,
    tie_codes,
    value_arrays,
)


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def on_both(level: str, operation):
    with ff.use_backend("reference"):
        expected = operation()
    with ff.use_backend(level):
        return operation(), expected


def assert_equal_bits(level: str, operation) -> None:
    result, expected = on_both(level, operation)
    if not isinstance(result, tuple):
        result, expected = (result,), (expected,)
    for got, wanted in zip(result, expected, strict=True):
        if bits(got) != bits(wanted):
            kind = np.dtype(f"u{got.dtype.itemsize}")
            np.testing.assert_array_equal(got.view(kind), wanted.view(kind))


SEEDS = st.integers(0, 2**64 - 1)


def or_error(operation):
    """The result, or the message of the ValueError that a NaN without a code is."""
    try:
        return operation()
    except ValueError as error:
        return np.array(str(error))


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(ALL_FORMATS), SEEDS, st.data())
def test_encode_equals_the_reference_by_every_rule(level, dtype, target, seed, data):
    x = data.draw(value_arrays(dtype, target))
    how = options(data.draw(rules_of(target)))
    assert_equal_bits(level, lambda: or_error(lambda: ff.encode(x, target, seed=seed, **how)))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("loops", ["careful", "fast"])
def test_every_boundary_and_every_tie_equals_the_reference(level, dtype, loops):
    """Of every format, by every rounding; the fast loops leave blocks with many Inf and NaN."""
    source = ff.format(dtype)
    for target in ALL_FORMATS:
        found = (*boundary_codes(source), *tie_codes(source, target))
        if loops == "fast":
            found = [code for code in found if 0 < code & source.magnitude_mask <= source.max_code]
        x = np.array(found, source.code_dtype).view(dtype)
        nan = "largest" if target.nan is None else "quiet"  # the default, which has own loops
        overflows = [o for o in OVERFLOWS if o != "nan" or target.nan is not None]
        for rounding, overflow in itertools.product(ff.Rounding, overflows):
            how = {"rounding": rounding, "overflow": overflow, "nan": nan, "seed": 1}
            assert_equal_bits(level, functools.partial(ff.encode, x, target, **how))
            if source.holds(target):
                assert_equal_bits(level, functools.partial(ff.round_to, x, target, **how))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_every_nan_has_the_code_of_the_reference(level, dtype):
    """By each bit of its payload, among few and many finite values."""
    source = ff.format(dtype)
    payloads = [1 << bit for bit in range(source.fraction_bits)]
    found = [source.nan_code | source.sign_bit, *(source.max_code + 1 + p for p in payloads)]
    nans = np.array(found, source.code_dtype).view(dtype)
    few = np.concatenate((nans, np.ones(4096 - nans.size, dtype)))
    for target in ALL_FORMATS:
        for nan in NANS:
            how = {"nan": nan, "rounding": "toward_positive"}
            for x in (nans, few):
                assert_equal_bits(
                    level, lambda x=x, how=how, to=target: or_error(lambda: ff.encode(x, to, **how))
                )


@given(
    *(st.sampled_from(FLOAT_DTYPES), st.sampled_from(ALL_FORMATS), SEEDS),
    *(st.integers(0, 9) | st.integers(0, 2**63), st.integers(0, 5000)),
)
def test_random_bits_are_those_of_an_elements_index(level, dtype, target, seed, start, n):
    """Whatever part of an array a call has."""
    x = np.random.default_rng(seed).normal(size=n).astype(dtype)
    how = rules(target, "stochastic", nan="quiet" if target.nan else "largest")

    def run():
        codes = np.empty(n, target.code_dtype)
        with current_backend().float_environment():
            assert current_backend().encode(x, how, codes, (seed, start))
        return codes

    assert_equal_bits(level, run)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("target", ["fp16", "fp8_e4m3fn", "fp8_e4m3fnuz", "fp8_ue4m3", "int8"])
def test_random_bits_decide_to_the_last_of_32(backend, target, dtype):
    """Below the smallest value, what is lost is the value: it and a word make 2^32, or just not."""
    words = reference.philox(11, 0, 1 << 14)
    small = np.flatnonzero(words >= 2**32 - 2**24)  # where float32 holds the rest
    assert small.size > 20
    up, least = np.zeros(words.size, dtype), float(ff.format(target).min_positive)
    up[small] = (2**32 - words[small]) * 2.0**-32 * least
    down = up - (up != 0) * dtype(2.0**-32 * least)
    for x, wanted in ((up, 1), (down, 0)):
        codes = ff.encode(x, target, rounding="stochastic", seed=11)
        assert np.array_equal(codes, (up != 0) * wanted)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("layout", [(1, 3, 40), (40, 3, 1), (5, 3, 8)])
def test_of_zeros_the_negative_one_is_the_least(backend, dtype, layout):
    x = np.zeros(layout, dtype)
    x[:, 1] = -0.0
    x[:, 2] = np.where(np.arange(40) % 3, 0.0, -0.0).reshape(layout[0], layout[2])
    low, high = current_backend().minmax(x)
    assert np.signbit(low).tolist() == [False, True, True]
    assert np.signbit(high).tolist() == [False, True, False]


@given(st.integers(1, 8), st.booleans(), st.integers(0, 100), st.data())
def test_packing_equals_the_reference(level, width, high_first, n, data):
    codes = data.draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 255)))
    packed = [np.empty(-(-n * width // 8), np.uint8) for _ in range(2)]
    back = [np.empty(n, np.uint8) for _ in range(2)]
    for backend, bytes_, again in zip((level, "reference"), packed, back, strict=True):
        with ff.use_backend(backend):
            current_backend().pack(codes, bytes_, width, high_first)
            current_backend().unpack(bytes_, again, width, high_first)
        np.testing.assert_array_equal(again, codes & (2**width - 1))
    np.testing.assert_array_equal(*packed)


@given(st.sampled_from(ALL_FORMATS), st.sampled_from([None, np.float64]), st.data())
def test_decode_equals_the_reference(level, fmt, dtype, data):
    codes = data.draw(code_arrays(fmt))
    assert_equal_bits(level, lambda: ff.decode(codes, fmt, dtype=dtype))


BYTE_FORMATS = [fmt for fmt in ALL_FORMATS if fmt.code_dtype == np.uint8]


@pytest.mark.parametrize("fmt", BYTE_FORMATS, ids=str)
def test_many_codes_of_a_byte_decode_as_the_reference_has_them(level, fmt):
    """Few and many that are special, and one at some places."""
    rng = np.random.default_rng(fmt.bits)
    any_codes = np.tile(np.arange(2**fmt.bits, dtype=np.uint8), 5000)[:5000]
    usual = np.array([c for c in range(2**fmt.bits) if ff.exact.is_finite(c, fmt)], np.uint8)
    special = np.setdiff1d(any_codes, usual)
    found = [any_codes, rng.choice(any_codes, 2048), rng.choice(usual, 4095)]
    for at in (0, 31, 32, 700, 2100, 2111) if special.size else ():
        found.append(rng.choice(usual, 2112))
        found[-1][at] = rng.choice(special)
    for codes in found:
        assert_equal_bits(level, lambda codes=codes: ff.decode(codes, fmt))


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(ALL_FORMATS), SEEDS, st.data())
def test_round_to_equals_the_reference_by_every_rule(level, dtype, target, seed, data):
    x = data.draw(value_arrays(dtype, target))
    how = options(data.draw(rules_of(target)))
    if ff.format(dtype).holds(target):
        assert_equal_bits(level, lambda: or_error(lambda: ff.round_to(x, target, seed=seed, **how)))


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_decompose_and_compose_equal_the_reference(level, fmt, data):
    codes = data.draw(code_arrays(fmt))
    fields, expected = on_both(level, lambda: ff.decompose(codes, fmt))
    assert fields == expected
    assert_equal_bits(level, lambda: ff.compose(fields))
    with ff.use_backend(level):
        np.testing.assert_array_equal(ff.compose(fields), codes)


@given(st.sampled_from(ALL_FORMATS), st.integers(1, 300), st.integers(0, 2), st.data())
def test_a_part_that_does_not_fit_is_found_at_any_place(level, fmt, n, which, data):
    fields = ff.decompose(np.zeros(n, fmt.code_dtype), fmt)
    parts = [np.array(part) for part in (fields.sign, fields.exponent, fields.fraction)]
    width = (int(fmt.signed), fmt.exponent_bits, fmt.fraction_bits)[which]
    room = 8 * parts[which].itemsize
    assume(width < room)
    stray = data.draw(st.integers(2**width, 2**room - 1))
    parts[which][data.draw(st.integers(0, n - 1))] = stray
    with ff.use_backend(level):
        assert not current_backend().compose(*parts, fmt, np.empty(n, fmt.code_dtype))


def shaped(data, x: np.ndarray) -> tuple[np.ndarray, int | tuple[int, ...] | None]:
    """A shape for x, and an axis: rows, columns, middle axes, several axes."""
    columns = data.draw(st.sampled_from([1, 2, 3, 5, 17]))
    x = x[: x.size // (2 * columns) * 2 * columns]
    shapes = [(x.size,), (2, x.size // 2), (x.size // columns, columns), (2, -1, columns)]
    x = x.reshape(data.draw(st.sampled_from(shapes))) if x.size else x
    axes = [None, 0, -1, *([(0, x.ndim - 1)] if x.ndim > 2 else [])]
    return x, data.draw(st.sampled_from(axes))


def results(q: ff.Quantized) -> tuple[np.ndarray, ...]:
    saturated = np.array(q.saturated)
    return np.asarray(q.codes), q.scale, q.zero_point, saturated, np.asarray(q.dequantize())


@given(st.sampled_from(FLOAT_DTYPES), st.sampled_from(["absmax", "zeropoint"]), st.data())
def test_schemes_equal_the_reference(level, dtype, scheme, data):
    x, axis = shaped(data, data.draw(finite_arrays(dtype)))
    scale_dtype = data.draw(st.sampled_from([None, "fp64", "fp32", "fp16", "bf16"]))
    assert_equal_bits(
        level, lambda: results(ff.quantize(x, scheme, axis=axis, scale_dtype=scale_dtype))
    )


@given(st.sampled_from(FLOAT_DTYPES), st.integers(-40, 40), st.integers(-3000, 3000), st.data())
def test_given_scales_equal_the_reference(level, dtype, exponent, zero_point, data):
    x, axis = shaped(data, data.draw(finite_arrays(dtype)))
    scale = data.draw(st.sampled_from([1.0, 0.03, 1 / 3])) * 2.0**exponent
    assert_equal_bits(
        level,
        lambda: results(ff.quantize(x, scale=scale, zero_point=zero_point, axis=axis)),
    )


POWERS = st.integers(-40, 40).map(lambda e: 2.0**e)
CODEBOOKS = (
    *(row.elements for row in SCHEMES.values() if isinstance(row.elements, ff.Codebook)),
    ff.Codebook([0.5, -0.25, 3.0], "unsorted"),
    ff.Codebook(np.linspace(-4, 3, 16).tolist(), "even steps"),
    ff.Codebook(np.arange(-8, 9) * 0.5, "one more than few"),
    ff.Codebook([0.0, 0.04, 0.06, 0.1, 1.9], "three thresholds in a cell"),
    ff.Codebook([*-(2.0 ** -np.arange(8)), *2.0 ** -np.arange(8)], "crowded about 0"),
    ff.format("fp4_e2m1fn"),
    ff.Format("e2m0", 2, 0, infinity=False, nan=None),
)


def beside(x: np.ndarray, way: int) -> np.ndarray:
    """The values one code away from x, in its own dtype."""
    kind = np.dtype(f"i{x.dtype.itemsize}")
    return (np.ascontiguousarray(x).view(kind) + kind.type(way)).view(x.dtype)


@pytest.mark.parametrize("n", [2, 3, 15, 16, 17, 31, 200, 254, 255, 256])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_every_threshold_of_a_table_is_where_the_reference_has_it(level, n, dtype):
    """GCC 12 once made vectors of a loop over 255 thresholds whose last ones were wrong."""
    parts = intervals(ff.Codebook(np.linspace(-1, 1, n)))
    for scale in (*2.0 ** np.arange(-20, 12, 4), 0.1, 1 / 3, 0.7, 1.7):
        edges = (parts.thresholds * scale).astype(dtype)
        x = np.concatenate([edges, beside(edges, -1), beside(edges, 1)])
        x = x[np.isfinite(x)].reshape(1, 1, -1)  # beside 0 is a NaN

        def codes(x=x, scale=scale):
            found = np.empty(x.shape, np.uint8)
            backend = current_backend()
            with backend.float_environment():
                assert backend.quantize_intervals(x, np.array([scale]), parts, found) >= 0
            return found

        assert_equal_bits(level, codes)


@given(
    *(
        st.sampled_from(FLOAT_DTYPES),
        st.sampled_from(CODEBOOKS),
        st.sampled_from([*ff.Rounding][:6]),
    ),
    *(POWERS | st.just(0.0), st.data()),
)
def test_intervals_equal_the_reference(level, dtype, elements, rounding, factor, data):
    x = data.draw(finite_arrays(dtype, min_size=1))
    largest = max(map(abs, limits(elements)))
    with np.errstate(over="ignore"):
        scale = np.array([factor * np.abs(x.astype(np.float64)).max() / largest])
    scale = np.where(np.isfinite(scale), scale, 1.0)
    # On the thresholds, and next to them.
    parts = intervals(elements, rounding)
    with np.errstate(all="ignore"):
        edges = (parts.thresholds * scale).astype(dtype)
        x = np.concatenate([x, edges, -edges, *(beside(edges, way) for way in (-1, 1))])
        x = x[np.isfinite(x)].reshape(1, 1, -1)

    def run():
        codes, values = np.empty(x.shape, np.uint8), np.empty(x.shape, dtype)
        backend = current_backend()
        with backend.float_environment():
            clamped = backend.quantize_intervals(x, scale, parts, codes)
            backend.dequantize_table(codes, scale, table(elements), parts.codes.size, values)
        return codes, values, np.array(clamped)

    assert_equal_bits(level, run)


@given(
    st.sampled_from(FLOAT_DTYPES),
    st.sampled_from([f for f in ff.formats() if f.bits <= 8 and f.signed and f.zero]),
    *(st.sampled_from([*ff.Rounding][:6]), POWERS, st.sampled_from([1.0, 3.0, 1 / 7]), st.data()),
)
def test_scaled_formats_equal_the_reference(level, dtype, fmt, rounding, power, odd, data):
    x = data.draw(finite_arrays(dtype, min_size=1))
    outer = data.draw(st.sampled_from([1, 2]))
    whole = x.size // (3 * outer) * 3 * outer
    x = x[:whole].reshape(outer, 3, -1) if whole else x.reshape(1, 1, -1)
    scale = np.array([power * odd, power, power * 2])[: x.shape[1]]
    how = rules(fmt, rounding, "saturate", "error" if fmt.nan is None else "quiet")

    def run():
        codes, values = np.empty(x.shape, np.uint8), np.empty(x.shape, dtype)
        backend = current_backend()
        with backend.float_environment():
            clamped = backend.quantize_format(x, scale, how, *limits(fmt), codes)
            backend.dequantize_table(codes, scale, table(fmt), 2**fmt.bits, values)
        return codes, values, np.array(clamped)

    assert_equal_bits(level, run)


@given(
    st.sampled_from([f for f in ff.formats() if f.bits <= 8 and f.signed and f.zero]),
    *(st.integers(-100, 100), st.integers(0, 2**32)),
)
def test_quotients_beside_a_tie_round_as_the_reference_has_it(level, fmt, exponent, seed):
    """Of a thousand of these, float32 has one or two on the other side of a tie."""
    scale = (1 + np.random.default_rng(seed).random((8, 1))) * 2.0**exponent
    with np.errstate(over="ignore"):
        edges = (intervals(fmt).thresholds * scale).astype(np.float32)
        x = np.stack([beside(edges, way) for way in range(-3, 4)], axis=1)
    x = np.where(np.isfinite(x), x, 0).reshape(8, -1, 1, 1)  # blocks of one value, in doubt alone

    def run():
        codes, backend = np.empty(x.shape, np.uint8), current_backend()
        with backend.float_environment():
            clamped = [
                backend.quantize_format(*by, saturating(fmt), *limits(fmt), out)
                for *by, out in zip(x, scale, codes, strict=True)
            ]
        return codes, np.array(clamped)

    assert_equal_bits(level, run)


SCALE_FORMATS = tuple(
    map(ff.format, ("fp64", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2", "fp8_e8m0fnu"))
)


@given(
    *(st.sampled_from(SCALE_FORMATS), st.sampled_from([1.0, 6.0, 127.0, 57344.0, 2.0**-60, 1e300])),
    st.data(),
)
def test_scales_of_largest_magnitudes_equal_the_reference(level, fmt, largest, data):
    amax = np.abs(data.draw(finite_arrays(FLOAT_DTYPES[0])))
    amax = np.concatenate([amax, [0, 5e-324, 2.0**-1022, np.finfo(np.float64).max]])

    def run():
        with current_backend().float_environment():
            return current_backend().absmax_scale(amax, fmt, largest)

    assert_equal_bits(level, run)


@given(st.sampled_from(SCALE_FORMATS), st.sampled_from([(-128, 127), (0, 255), (0, 3)]), st.data())
def test_scales_of_ranges_equal_the_reference(level, fmt, codes, data):
    ends = data.draw(finite_arrays(FLOAT_DTYPES[0], min_size=2))
    most = np.finfo(np.float64).max
    ends = np.concatenate([ends[: ends.size // 2 * 2], [-most, most, -5e-324, 0, 0, most]])
    low, high = np.sort(ends.reshape(-1, 2), axis=1).T.copy()

    def run():
        with current_backend().float_environment():
            return current_backend().zeropoint_parameters(low, high, fmt, *codes)

    assert_equal_bits(level, run)


EIGHTS = tuple(map(ff.format, ("fp8_e4m3fn", "fp8_e5m2", "fp6_e2m3fn", "mxint8")))
SCALINGS = (
    *(Scaling(ff.format(name), 1.0, None, 0) for name in ("fp32", "fp16", "bf16", "fp8_e4m3fn")),
    *(Scaling(ff.format("fp8_e8m0fnu"), 1.0, rule, 1) for rule in POWER_RULES),
)


@given(
    *(st.sampled_from(FLOAT_DTYPES), st.sampled_from(SCALINGS)),
    *(st.sampled_from([1, 7, 127, *CODEBOOKS, *EIGHTS]), st.sampled_from([2, 16, 32, 300, 600])),
    st.data(),
)
def test_scales_and_codes_in_one_pass_equal_the_reference(level, dtype, how, elements, inner, data):
    x = data.draw(finite_arrays(dtype, min_size=inner, max_size=4 * inner))
    if data.draw(st.booleans()):  # what has no codes is found at any place
        at = data.draw(st.integers(0, x.size - 1))
        x[at] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    x = x[: x.size // inner * inner].reshape(1, -1, inner)
    is_integer = isinstance(elements, int)
    parts = elements if is_integer or elements in EIGHTS else intervals(elements)
    how = how._replace(largest=float(elements) if is_integer else max(map(abs, limits(elements))))
    packs = elements in (1, 7) or (isinstance(parts, Intervals) and parts.codes.size <= 16)

    def run(packs):
        codes = np.zeros(x.size // 2 if packs else x.shape, np.uint8)
        with current_backend().float_environment():
            scale, clamped = current_backend().quantize_absmax(x, how, parts, packs, codes)
        return (np.array(clamped),) if clamped < 0 else (np.array(clamped), scale, codes)

    assert_equal_bits(level, lambda: run(packs))
    assert_equal_bits(level, lambda: run(False))


#: Those of the MX formats, one that has no -0, and two whose largest values are small.
MX_ELEMENTS = (
    *map(ff.format, ("fp4_e2m1fn", "fp6_e2m3fn", "fp6_e3m2fn", "fp8_e4m3fn", "fp8_e5m2")),
    ff.format("fp8_e4m3fnuz"),
    ff.Format("e2m3 below 4", 2, 3, bias=2, infinity=False, nan=None),
    ff.Format("e2m3 below 1", 2, 3, bias=4, infinity=False, nan=None),
)


def by_powers(x, fmt, rule):
    """Clamped values, scales and codes, two a byte if they have 4 bits."""
    packs, parts = fmt.bits == 4, intervals(fmt) if fmt.bits == 4 else fmt
    largest = float(fmt.max_finite)
    how = Scaling(ff.format("fp8_e8m0fnu"), largest, rule, fmt.fraction_bits)
    codes = np.zeros(x.size // 2 if packs else x.shape, np.uint8)
    with current_backend().float_environment():
        scale, clamped = current_backend().quantize_absmax(x, how, parts, packs, codes)
    return np.array(clamped), scale, codes


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("fmt", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize(("channels", "inner"), [(8, 32), (21, 32), (11, 96), (9, 48)])
def test_blocks_with_power_of_two_scales_equal_the_reference(level, fmt, dtype, channels, inner):
    """Largest magnitudes of all exponents and beside where rules change theirs; ties; clamped."""
    info, rng = ml_dtypes.finfo(dtype), np.random.default_rng(inner)
    eps = float(info.eps)
    values = ff.decode(np.arange(2**fmt.bits, dtype=np.uint8), fmt, dtype=np.float64)
    values = np.sort(values[np.isfinite(values)])
    places = np.concatenate([values, values[:-1] + np.diff(values) / 2, limits(fmt)])
    least, most = info.minexp - info.nmant, info.maxexp
    low, high = max(least, -160), min(most, 160)
    exponents = [least, *range(low, low + 40), *range(low, high - 9, 9), *range(high - 9, high)]
    exponents = exponents if (channels, inner) == (8, 32) else exponents[::6]
    largest = [1, 1 + eps, 1.5, 1.75, 1.875, 2 - eps]
    top, kind = math.frexp(float(fmt.max_finite))[1] - 1, np.dtype(f"i{dtype.itemsize}")
    for rule, exponent in itertools.product(POWER_RULES, exponents):
        shape = 1, channels, 1
        ends = np.ldexp(rng.choice(largest, shape), exponent).astype(dtype)
        ends[rng.random(shape) < 0.1] = 0
        signs = rng.choice(np.array([-1, 1], dtype), shape)
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.ldexp(rng.choice(places, (1, channels, inner)), exponent - top).astype(dtype)
            x = (x.view(kind) + rng.integers(-1, 2, x.shape).astype(kind)).view(dtype)
            x = np.where(np.abs(x) < ends, x, ends)  # NaN is not less
        x[..., -1:] = ends * signs
        assert_equal_bits(level, functools.partial(by_powers, x, fmt, rule))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_in_any_block_of_a_group(level, dtype, bad):
    for fmt, at in itertools.product(MX_ELEMENTS[:5:4], range(11 * 32)):
        x = np.ones((1, 11, 32), dtype)
        x.reshape(-1)[at] = bad
        with ff.use_backend(level):
            assert by_powers(x, fmt, "floor")[0] == -1


@pytest.mark.parametrize("elements", CODEBOOKS, ids=lambda elements: elements.name)
@given(
    *(st.sampled_from(FLOAT_DTYPES), st.sampled_from(SCALINGS)),
    *(st.sampled_from([16, 48, 64, 256]), st.sampled_from([0.0, 0.02, 1.0])),
    *(st.sampled_from([1.0, 1 / 3, 2.0**-10]), st.integers(-115, 100), st.integers(0, 2**32)),
)
def test_values_beside_scaled_thresholds_have_the_codes_of_the_reference(
    level, elements, dtype, how, inner, share, times, exponent, seed
):
    """Whole blocks that a quick look cannot decide, and some values in blocks that it can."""
    rng, parts = np.random.default_rng(seed), intervals(elements)
    largest = max(map(abs, limits(elements))) * times
    how = how._replace(largest=largest, times=times)
    if dtype == np.float16:
        exponent %= 12
    with np.errstate(over="ignore"):
        x = (rng.uniform(-largest, largest, (1, 9, inner)) * 2.0**exponent).astype(dtype)
    x[..., 0] = largest * 2.0**exponent  # what the scale follows from
    with ff.use_backend("reference"), current_backend().float_environment():
        unused = np.empty(x.shape, np.uint8)
        scale, _ = current_backend().quantize_absmax(x, how, parts, False, unused)
        edges = rng.choice(parts.thresholds, x.shape) * (scale * times)[:, None]
        edges = edges.astype(dtype)
    kind = np.dtype(f"i{dtype.itemsize}")
    edges = (edges.view(kind) + rng.integers(-2, 3, x.shape).astype(kind)).view(dtype)
    with np.errstate(invalid="ignore"):
        is_beside = (rng.random(x.shape) < share) & (np.abs(edges) <= x[..., :1])
    x = np.where(is_beside, edges, x)

    def run():
        codes = np.zeros(x.shape, np.uint8), np.zeros(x.shape, np.uint8)
        with current_backend().float_environment():
            found, clamped = current_backend().quantize_absmax(x, how, parts, False, codes[0])
            given = current_backend().quantize_intervals(x, found * times, parts, codes[1])
        return np.array(clamped), np.array(given), found, *codes

    assert_equal_bits(level, run)


def test_tiny_tables_of_tiny_values_have_the_codes_of_the_reference(level):
    """What turns such values into the kernel's integers is beyond fp32."""
    tiny = ff.Codebook([-3 * 2.0**-30, -(2.0**-30), 2.0**-30, 3 * 2.0**-30])
    x = np.float32([-3, -1, 1, 3] * 4) * np.float32(2.0**-118)
    assert_equal_bits(level, lambda: ff.quantize(x, tiny).codes)


def saturated(x, elements, scale) -> np.ndarray:
    return np.array(ff.quantize(x, elements, scale=scale).saturated)


def test_values_beside_the_end_of_a_format_whose_largest_is_a_power_of_two_are_counted(level):
    """Half a step beyond that end is no tie, for the steps beyond it are twice as large."""
    x = np.float32([2484589312.0, 2484589568.0, 2484589824.0])
    for fmt in (ff.p3109(8, 2), ff.Format("e5m1", 5, 1, infinity=False, nan="top")):
        assert_equal_bits(level, lambda fmt=fmt: saturated(x, fmt, 1.0284241437911987))
    with ff.use_backend(level):
        assert saturated(x, ff.p3109(8, 2), 1.0284241437911987) == 2


def test_the_least_value_below_an_end_of_0_is_counted_as_clamped(level):
    x = np.full(16, 2.0, np.float32)
    x[0], x[1:5] = 10, -(2.0**-149)
    with ff.use_backend(level):  # the end is half a step below 1
        assert saturated(x, ff.Codebook([1.0, 3.0, 5.0]), 2.0) == 4


#: In units of which the kernel takes 32,766 where the greatest threshold is 1.
BETWEEN = 20001.4999 / 32766


def test_a_threshold_halfway_between_integers_of_the_kernel(level):
    """Just below it lies a float whose multiple is a tie, and is rounded up."""
    x = np.full((1, 1, 16), np.float32(0.3))
    x[..., 0], x[..., 1] = 1.0625, BETWEEN
    assert x[0, 0, 1].item() < BETWEEN
    assert x[0, 0, 1] * np.float32(32766) == 20001.5
    parts = intervals(ff.Codebook([2 * BETWEEN - 0.9375, 0.9375, 1.0625]))
    how = Scaling(ff.format("fp32"), 1.0625)

    def run():
        codes = np.empty(x.shape, np.uint8)
        scale, clamped = current_backend().quantize_absmax(x, how, parts, False, codes)
        return scale, np.array(clamped), codes

    assert_equal_bits(level, run)


@given(
    *(st.sampled_from(FLOAT_DTYPES), st.sampled_from(SCALE_FORMATS), st.booleans()),
    *(st.sampled_from([(-128, 127), (-127, 127), (0, 255)]), st.sampled_from([1, 3, 32, 300, 600])),
    st.data(),
)
def test_ranges_and_codes_in_one_pass_equal_the_reference(
    level, dtype, scale_format, includes_zero, ends, inner, data
):
    x = data.draw(finite_arrays(dtype, min_size=inner, max_size=4 * inner))
    if data.draw(st.booleans()):
        x[data.draw(st.integers(0, x.size - 1))] = data.draw(st.sampled_from([np.nan, np.inf, 0.0]))
    if data.draw(st.booleans()):
        x = np.abs(x)
    x = x[: x.size // inner * inner].reshape(1, -1, inner)

    def run():
        codes = np.empty(x.shape, np.int8 if ends[0] < 0 else np.uint8)
        with current_backend().float_environment():
            *found, clamped = current_backend().quantize_range(
                x, scale_format, includes_zero, *ends, codes
            )
        return (np.array(clamped),) if clamped < 0 else (np.array(clamped), *found, codes)

    assert_equal_bits(level, run)


@pytest.mark.parametrize("exponent", range(-149, -118))
def test_tiny_powers_of_two_divide_as_the_reference_has_it(level, exponent):
    """Scales that are rounded up to a power of two whose reciprocal may be beyond fp32."""
    steps = np.array([1.5, -1.25, 1.0, -0.75, 0.5, -0.25, 0.125, 0.0] * 4)
    x = (steps * 2.0**exponent).astype(np.float32).reshape(1, 1, -1)
    how = Scaling(ff.format("bf16"), 1.0, None, 0)

    def run():
        codes = np.empty(x.shape, np.uint8)
        parts = intervals(SCHEMES["nf4"].elements)
        with current_backend().float_environment():
            scale, clamped = current_backend().quantize_absmax(x, how, parts, False, codes)
        return scale, np.array(clamped), codes

    assert_equal_bits(level, run)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("entries", [2, 15, 16, 17, 255, 256])
@pytest.mark.parametrize("scale", [1.0, 1 / 3, 2.0**-140])
def test_every_entry_of_a_table_dequantises_as_the_reference_has_it(level, dtype, entries, scale):
    values = np.zeros(256)
    values[:entries] = np.linspace(-1, 3, entries)
    codes = np.resize(np.arange(entries, dtype=np.uint8), (2, 1, 300))

    def run():
        out = np.empty(codes.shape, dtype)
        with current_backend().float_environment():
            current_backend().dequantize_table(codes, np.array([scale]), values, entries, out)
        return out

    assert_equal_bits(level, run)


@given(
    *(st.sampled_from(FLOAT_DTYPES), st.integers(-160, 130)),
    *(st.sampled_from([1, 1 / 3]), st.integers(1, 3), st.integers(0, 150), st.integers(0, 2**32)),
)
def test_packed_codes_dequantise_as_the_reference_has_it(
    level, dtype, exponent, odd, channels, pairs, seed
):
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, channels * pairs, np.uint8)
    values, scale = rng.normal(size=16), np.full(channels, odd * 2.0**exponent)

    def run():
        out = np.empty((1, channels, 2 * pairs), dtype)
        with current_backend().float_environment():
            current_backend().dequantize_packed(packed, scale, values, out)
        return out

    assert_equal_bits(level, run)


@pytest.mark.parametrize("outlier", [-1e3, -128.6, 127.6, 1e3])
@pytest.mark.parametrize("zero_point", [0, 3])
def test_one_value_beyond_one_end_of_a_given_scale_is_clamped(level, outlier, zero_point):
    x = np.zeros(5000, np.float32)
    x[700] = outlier

    def run():
        q = ff.quantize(x, scale=1.0, zero_point=zero_point)
        return q.codes, np.array(q.saturated)

    assert_equal_bits(level, run)


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 20), st.integers(0, 2100))
def test_products_of_int8_equal_the_reference(level, seed, rows, outputs, inputs):
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-128, 128, (n, inputs), np.int8) for n in (rows, outputs))
    if seed % 3 == 0:
        x, w = np.full_like(x, -128), np.full_like(w, -128)

    def run():
        sums = np.full((rows, outputs), 7, np.int32)
        current_backend().int8_product(x, w, sums)
        return sums

    assert_equal_bits(level, run)


def scales_of_products(rng, rows, columns, has_other, has_bias):
    """Return what `dequantize_sums` takes after the sums."""

    def draw(*shape, low=-126, high=124):
        return np.ldexp(np.float32(rng.normal(size=shape)), rng.integers(low, high, shape))

    return (
        np.abs(draw(rows)).astype(np.float64),
        np.abs(draw(columns, low=-149, high=20)),
        draw(rows, columns).astype(np.float64) if has_other else None,
        draw(columns) if has_bias else None,
    )


@given(st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 300), st.booleans(), st.booleans())
def test_sums_of_products_equal_the_reference(level, seed, rows, columns, has_other, has_bias):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**31), 2**31, (rows, columns), np.int32) >> int(rng.integers(0, 31))
    more = scales_of_products(rng, rows, columns, has_other, has_bias)

    def run():
        out = np.empty((rows, columns), np.float32)
        backend = current_backend()
        with backend.float_environment():
            backend.dequantize_sums(sums, *more, out)
        return out

    assert_equal_bits(level, run)


@given(
    *(st.integers(0, 2**32), st.integers(0, 300), st.integers(0, 150), st.integers(0, 40)),
    *(st.booleans(), st.booleans()),
)
def test_int8_layers_equal_the_reference(level, seed, rows, outputs, inputs, has_other, has_bias):
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-127, 128, (n, inputs), np.int8) for n in (rows, outputs))
    more = scales_of_products(rng, rows, outputs, has_other, has_bias)

    def run():
        out = np.empty((rows, outputs), np.float32)
        backend = current_backend()
        with backend.float_environment():
            backend.int8_linear(x, w, *more, out)
        return out

    assert_equal_bits(level, run)


@given(st.sampled_from(FLOAT_DTYPES), st.integers(2, 8), st.booleans(), st.data())
def test_any_number_of_bits_equals_the_reference(level, dtype, bits, signed, data):
    x = data.draw(finite_arrays(dtype))
    block = data.draw(st.sampled_from([None, 1, 3, 32, 64, 300]))
    assert_equal_bits(
        level,
        lambda: results(ff.quantize(x, "zeropoint", bits=bits, signed=signed, block=block)),
    )
    assert_equal_bits(level, lambda: results(ff.quantize(x, "absmax", bits=bits, block=block)))


@given(
    st.sampled_from(FLOAT_DTYPES), st.sampled_from(POWER_RULES), st.integers(0, 7), st.data()
)  # fmt: skip
def test_power_scales_equal_the_reference(level, dtype, rule, fraction_bits, data):
    x = np.abs(data.draw(finite_arrays(dtype)).astype(np.float64))
    # Where rounding to some number of bits carries into the exponent, and next to it.
    carries = np.ldexp(2 - 2.0 ** -np.arange(1, 12), data.draw(st.integers(-130, 130)))
    x = np.concatenate([x, carries, np.nextafter(carries, 0), np.nextafter(carries, np.inf)])
    largest = data.draw(st.sampled_from([448.0, 57344.0, 7.5, 28.0, 6.0, 127 / 64, 1.0, 127.0]))
    assert_equal_bits(level, lambda: current_backend().power_scale(x, rule, largest, fraction_bits))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize(
    "zero_point", [2**22, 2**22 + 1, 2**24 + 1, -(2**24) - 1, 2**40 + 1, 2**62]
)
def test_codes_far_from_their_zero_point_dequantise_as_the_reference_has_it(
    level, dtype, zero_point
):
    """Beyond 2^24 fp32 does not know every integer."""
    codes = np.arange(256, dtype=np.uint8)
    for signed in (False, True):
        for scale in (1.0, 1 / 3, 2.0**-30):
            which = codes.view(np.int8) if signed else codes

            def run(which=which, scale=scale):
                out = np.empty((1, 1, 256), dtype)
                with current_backend().float_environment():
                    arguments = np.array([scale]), np.array([float(zero_point)]), out
                    current_backend().dequantize(which.reshape(out.shape), *arguments)
                return out

            assert_equal_bits(level, run)


@given(st.integers(0, 2**20), st.integers(0, 255), st.integers(-200, 200))
def test_ties_and_near_ties_equal_the_reference(level, seed, fraction, zero_point):
    """Every value within a few ulp of a tie: the guard band's whole purpose."""
    rng = np.random.default_rng(seed)
    scale = np.float32(1 + fraction / 256)
    ties = (rng.integers(-140, 140, 700) + 0.5) * np.float64(scale)
    x = ties.astype(np.float32)
    x = (x.view(np.int32) + rng.integers(-2, 3, 700).astype(np.int32)).view(np.float32)
    assert_equal_bits(level, lambda: results(ff.quantize(x, scale=scale, zero_point=zero_point)))


@pytest.mark.parametrize(
    ("zero_point", "scale", "x", "code"),
    [
        (200, "0x1.f80b0ep0", "-0x1.3a88e6p9", -120),
        (-200, "0x1.fcae2ep0", "0x1.3a72acp9", 117),
        (3000, "0x1.ae6e26p0", "-0x1.370026p12", 41),
        (-3900, "0x1.ddb7d2p0", "0x1.c25e44p12", -38),
    ],
)
def test_values_that_float32_would_round_across_a_tie(backend, zero_point, scale, x, code):
    """Found by search: with a guard band a quarter as wide these go to the other neighbour."""
    values = np.full(300, float.fromhex(x), np.float32)
    q = ff.quantize(values, scale=float.fromhex(scale), zero_point=zero_point)
    assert set(q.codes.tolist()) == {code}


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_long_arrays_equal_the_reference(level, dtype):
    fmt = ff.format(dtype)
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 2**fmt.bits, 300_007, dtype=np.uint64).astype(fmt.code_dtype)
    for target in ALL_FORMATS:
        nan = "largest" if target.nan is None else "quiet"
        for rounding in ("nearest_even", "to_odd", "stochastic"):
            arguments = {"rounding": rounding, "nan": nan, "seed": 5}
            encode = functools.partial(ff.encode, patterns.view(dtype), target, **arguments)
            assert_equal_bits(level, encode)
    x = rng.normal(size=300_007).astype(dtype)
    for scheme in ("absmax", "zeropoint"):
        assert_equal_bits(level, lambda scheme=scheme: results(ff.quantize(x, scheme)))


def upwards(x, target, out):
    return ff.encode(x, target, rounding="toward_positive", out=out)


#: What makes arrays of bits, or of fp32 values, into others, and the dtypes of those.
STREAMED = {
    "encode fp16": (lambda x, out: ff.encode(x.view("f4"), "fp16", out=out[0]), ["u2"]),
    "encode bf16": (lambda x, out: ff.encode(x.view("f4"), "bf16", out=out[0]), ["u2"]),
    "encode fp16 upwards": (lambda x, out: upwards(x.view("f4"), "fp16", out[0]), ["u2"]),
    "encode bf16 upwards": (lambda x, out: upwards(x.view("f4"), "bf16", out[0]), ["u2"]),
    "encode fp64 upwards": (lambda x, out: upwards(x.astype("f8"), "fp32", out[0]), ["u4"]),
    "round to fp16": (lambda x, out: ff.round_to(x.view("f4"), "fp16", out=out[0]), ["f4"]),
    "round to bf16": (lambda x, out: ff.round_to(x.view("f4"), "bf16", out=out[0]), ["f4"]),
    "decode fp16": (lambda x, out: ff.decode(x.astype("u2"), "fp16", out=out[0]), ["f4"]),
    "decode bf16": (lambda x, out: ff.decode(x.astype("u2"), "bf16", out=out[0]), ["f4"]),
    "decode e4m3": (lambda x, out: ff.decode(x.astype("u1"), "fp8_e4m3fn", out=out[0]), ["f4"]),
    "decompose": (lambda x, out: ff.decompose(x, "fp32", out=tuple(out)), ["u1", "u1", "u4"]),
    "compose": (lambda x, out: ff.compose(ff.decompose(x, "fp32"), out=out[0]), ["u4"]),
}


@pytest.mark.parametrize("offset", [0, 1, 4])
@pytest.mark.parametrize("name", STREAMED)
def test_long_arrays_written_past_the_caches_are_those_of_pieces(level, name, offset):
    """They go to memory by whole lines: none is left out, and nothing is touched around them."""
    operation, dtypes = STREAMED[name]
    n, piece = 2**22 + 77, 2**16
    bits = np.random.default_rng(5).integers(0, 2**32, n, dtype=np.uint32)
    rooms = [np.full((n + 64) * np.dtype(d).itemsize, 0xA5, np.uint8).view(d) for d in dtypes]
    apart = [np.empty(n, dtype) for dtype in dtypes]
    with ff.use_backend(level), ff.use_threads(1):  # parts for threads might be too short
        operation(bits, [room[offset : offset + n] for room in rooms])
        for start in range(0, n, piece):
            part = slice(start, start + piece)
            operation(bits[part], [array[part] for array in apart])
    for room, array in zip(rooms, apart, strict=True):
        assert room[offset : offset + n].tobytes() == array.tobytes()
        around = np.concatenate((room[:offset], room[offset + n :]))
        assert set(around.view(np.uint8).tolist()) == {0xA5}


def test_results_do_not_depend_on_the_length_of_the_array(level):
    """Vector bodies and scalar tails agree: every prefix has the bits of the whole."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, 300, dtype=np.uint32).view(np.float32)
    y = rng.normal(size=300).astype(np.float32)
    with ff.use_backend(level):

        def all_of(n: int) -> list[np.ndarray]:
            targets = ("fp16", "bf16", "fp8_e4m3fn", "fp8_e8m0fnu")
            rounded = (ff.encode(x[:n], target) for target in targets)
            drawn = (ff.encode(z[:n], f, rounding="stochastic", seed=1) for f in ("fp16", "int8"))
            given = (ff.quantize(y[:n], s, scale=0.01).codes for s in (None, "nf4", "dynamic8"))
            scaled = (ff.quantize(y[:n], s, scale=0.01).codes for s in ("fp8_e4m3fn", "mxint8"))
            return [*rounded, *drawn, *given, *scaled]

        z = y * 50
        whole = all_of(300)
        for n in range(300):
            for part, full in zip(all_of(n), whole, strict=True):
                np.testing.assert_array_equal(part, full[:n])


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, 255, 256, 299])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(backend, dtype, bad, at):
    x = np.ones(300, dtype)
    x[at] = bad
    tables = ({"scheme": scheme, "scale": 0.5} for scheme in ("nf4", "dynamic8", "fp8_e4m3fn"))
    for arguments in ({"scheme": "absmax"}, {"scheme": "zeropoint"}, {"scale": 0.5}, *tables):
        with pytest.raises(ValueError, match=rf"x\[{at}\] is {bad}"):
            ff.quantize(x, **arguments)
        with pytest.raises(ValueError, match=rf"x\[{at // 3}, {at % 3}\] is {bad}"):
            ff.quantize(x.reshape(100, 3), axis=1, **arguments)


# --- choosing -----------------------------------------------------------------------------------


def test_every_function_of_the_reference_is_a_function_of_the_kernel():
    assert all(callable(getattr(native.Native, name)) for name in reference.__all__)


def test_use_backend_is_put_back_even_after_an_error():
    before = backend_name()
    with pytest.raises(TypeError, match="floating-point"), ff.use_backend("reference"):
        ff.absmax([1])
    assert backend_name() == before


def test_use_backend_holds_for_its_own_thread_only():
    seen = []
    with ff.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(backend_name()))
        thread.start()
        thread.join()
        assert backend_name() == "reference"
    assert seen == [backend_name()]


def test_an_unknown_backend_is_a_clear_error():
    with (
        pytest.raises(ValueError, match="'sse9' is no backend; there are reference, baseline"),
        ff.use_backend("sse9"),
    ):
        pass


def test_a_level_this_machine_lacks_is_a_clear_error(monkeypatch):
    monkeypatch.delitem(ff.backends._BACKENDS, "avx512", raising=False)
    with (
        pytest.raises(ValueError, match="'avx512' is not available here: this machine has ref"),
        ff.use_backend("avx512"),
    ):
        pass


def test_the_environment_variable_is_read_at_import():
    asked = "import floatfmt as ff; print(ff.backends.backend_name())"
    environment = os.environ | {"FLOATFMT_BACKEND": "reference"}
    ran = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout == "reference\n"


def test_the_environment_variable_chooses_and_is_checked(monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "reference")
    assert backend_name() == "reference"
    monkeypatch.setattr(ff.backends, "_wanted", "gpu")
    with pytest.raises(ValueError, match="FLOATFMT_BACKEND: 'gpu' is no backend"):
        ff.absmax(np.ones(3))


WITHOUT_NATIVE = """
import sys, warnings
sys.modules["floatfmt._native"] = None
warnings.simplefilter("always")
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    import floatfmt as ff
    for _ in range(3):
        codes = ff.absmax(np.float32([0.1, 3.2])).codes
print(ff.available_backends(), codes.tolist(), [w.category.__name__ for w in caught])
"""


def test_without_the_kernel_the_reference_runs_and_says_so_once():
    environment = {k: v for k, v in os.environ.items() if k != "FLOATFMT_BACKEND"}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_NATIVE],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert ran.stdout == "('reference',) [4, 127] ['NativeMissingWarning']\n"


def test_the_header_is_a_cdef():
    header = (os.path.dirname(__file__) + "/../csrc/floatfmt.h").replace("/", os.sep)
    with open(header) as file:
        directives = {line.split()[0] for line in file if line.startswith("#")}
    assert directives == {"#pragma", "#include"}


@pytest.mark.parametrize(
    "rounding", ["nearest_even", "toward_zero", "toward_positive", "toward_negative"]
)
def test_the_f16c_instruction_agrees_at_every_length(rounding):
    try:
        convert = native.f16c(rounding)
    except ValueError as reason:
        pytest.skip(str(reason))
    x = np.random.default_rng(5).integers(0, 2**32, 40, dtype=np.uint32).view(np.float32)
    for n in range(40):
        expected = ff.encode(x[:n], "fp16", rounding=rounding)
        assert np.array_equal(convert(x[:n]), expected)


def test_f16c_says_what_it_lacks():
    with pytest.raises(ValueError, match="F16C"):
        native.f16c("nearest_away")


SPECIALS = ([np.inf, -np.inf, np.nan, -np.nan, 0, -0.0], [np.inf, -np.inf], [0, -0.0])


@pytest.mark.parametrize("target", ["fp8_e4m3fn", "fp8_e5m2", "fp4_e2m1fn", "fp8_e8m0fnu", "int8"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("specials", SPECIALS, ids=["all", "Inf", "0"])
def test_inf_and_nan_among_numbers_change_no_other_code(level, target, dtype, share, specials):
    """However many of a block there are: one by one, or the block by the careful loop."""
    rng = np.random.default_rng(6)
    x = rng.normal(0, 10, 9000).astype(dtype)
    where = rng.random(x.size) < share
    x[where] = rng.choice(np.array(specials, dtype), where.sum())
    nan = "zero" if ff.format(target).nan is None else "quiet"
    assert_equal_bits(level, lambda: ff.encode(x, target, nan=nan))
    with ff.use_backend(level):
        if np.isnan(x).any():
            with pytest.raises(ValueError, match="nan"):
                ff.encode(x, target, nan="error")
        elif target != "fp8_e8m0fnu":  # which has neither signs nor 0: NaN is made there
            np.testing.assert_array_equal(
                ff.encode(x, target, nan="error"), ff.encode(x, target, nan=nan)
            )
