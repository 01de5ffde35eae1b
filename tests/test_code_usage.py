"""Counts of codes against Python's own, and what a measurement puts together."""

import json
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import floatfmt as ff
from floatfmt import interop


@st.composite
def coded(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Codes of some number of bits, few or many different ones."""
    bits, signed = draw(st.integers(1, 8)), draw(st.booleans())
    lowest = -(1 << (bits - 1)) if signed else 0
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    values = st.integers(lowest, lowest + 2**bits - 1)
    return draw(hnp.arrays(np.int8 if signed else np.uint8, shape, elements=values)), bits


@given(coded(), st.integers(-200, 300))
def test_usage_is_what_counting_one_by_one_gives(pair, zero):
    codes, bits = pair
    usage = ff.code_usage(codes, bits, zero)
    counted = Counter(codes.ravel().tolist())
    assert usage.count == codes.size
    assert usage.levels == len(usage.counts) == 2**bits
    assert usage.used == len(counted)
    assert {i + usage.lowest: n for i, n in enumerate(usage.counts.tolist()) if n} == counted
    assert usage.zeros == counted[zero]
    assert usage.zero_share == (counted[zero] / codes.size if codes.size else 0.0)
    shares = [n / codes.size for n in counted.values()]
    assert usage.entropy == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)


@given(coded(), st.data())
def test_usages_of_parts_merge_to_that_of_the_whole(pair, data):
    codes, bits = pair
    flat = codes.ravel()
    cut = data.draw(st.integers(0, flat.size))
    parts = [ff.code_usage(part, bits, 1) for part in (flat[:cut], flat[cut:])]
    assert parts[0].merge(parts[1]) == ff.code_usage(codes, bits, 1)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.int8), (8, np.uint8), (4, np.uint8)])
def test_the_entropy_of_codes_that_occur_alike_is_their_bits(bits, dtype):
    codes = np.arange(2**bits).astype(np.uint8).view(dtype)
    usage = ff.code_usage(np.tile(codes, 3), bits)
    assert (usage.used, usage.entropy, usage.zeros, usage.zero_share) == (2**bits, bits, None, None)
    assert ff.code_usage(codes[:0], bits).entropy == 0.0
    assert str(ff.code_usage(codes[:1], bits)).count("entropy 0.000") == 1


def test_zero_codes_of_rows_broadcast_over_several_pieces():
    rng = np.random.default_rng(2)
    codes = rng.integers(-128, 128, (300, 500), np.int8)
    zero = rng.integers(-128, 128, (300, 1))
    assert ff.code_usage(codes, zero_code=zero).zeros == np.count_nonzero(codes == zero)


@pytest.mark.parametrize(
    "arrange",
    [lambda x: x.T, lambda x: x[::-1, ::2], torch.from_numpy, lambda x: np.asfortranarray(x)],
)
def test_any_layout_and_kind_of_array_is_taken(arrange):
    codes = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    taken = np.asarray(arrange(codes))
    expected = np.bincount(taken.ravel().astype(int) + 128, minlength=256)
    assert np.array_equal(ff.code_usage(arrange(codes)).counts, expected)


def test_codes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"codes\[1\] is 16; uint8 codes of 4 bits are from 0 to"):
        ff.code_usage(np.uint8([15, 16, 0]), bits=4)
    with pytest.raises(ValueError, match=r"codes\[0, 1\] is -9; .* of 4 bits are from -8 to 7"):
        ff.code_usage(np.int8([[7, -9]]), bits=4)
    with pytest.raises(TypeError, match="int8 or uint8, got numpy.ndarray of int16"):
        ff.code_usage(np.int16([1]))
    with pytest.raises(ValueError, match="1 to 8 bits, got bits=9"):
        ff.code_usage(np.uint8([1]), bits=9)
    with pytest.raises(TypeError, match="bits must be an integer, got '4'"):
        ff.code_usage(np.uint8([1]), bits="4")
    with pytest.raises(TypeError, match="zero_code must be an integer, got float"):
        ff.code_usage(np.uint8([1]), zero_code=0.5)
    with pytest.raises(ValueError, match=r"shape \(3,\), which does not broadcast"):
        ff.code_usage(np.uint8([1, 2]), zero_code=np.int64([1, 2, 3]))
    with pytest.raises(ValueError, match="uint4 and int8 do not add up"):
        ff.code_usage(np.uint8([1]), bits=4).merge(ff.code_usage(np.int8([1])))


def test_memory_of_counting_stays_bounded():
    codes = np.zeros(20_000_000, np.int8)
    tracemalloc.start()
    try:
        ff.code_usage(codes, zero_code=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < codes.nbytes / 4


# --- measurements -------------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(9).normal(0, 0.02, (300, 400)).astype(np.float32)
QUANTISERS = {
    "absmax": lambda x: ff.absmax(x),
    "zeropoint by row": lambda x: ff.zeropoint(x, axis=0),
    "given": lambda x: ff.quantize(x, scale=0.0002, zero_point=-5),
}


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_measurement_says_everything_of_a_quantised_tensor(name, kind):
    x = kind(WEIGHTS)
    q = QUANTISERS[name](x)
    codes, zero_point = np.asarray(q.codes), np.asarray(q.zero_point)
    m = ff.measure(x, q, outlier_threshold=0.05)
    assert m.error == ff.error(x, q.dequantize(), outlier_threshold=0.05)
    assert m.error.outliers == np.count_nonzero(np.abs(WEIGHTS) >= 0.05)
    assert m.usage == ff.code_usage(q.codes, zero_code=zero_point)
    assert m.usage.used == len(np.unique(codes))
    assert (m.saturated, m.nbytes) == (q.saturated, q.nbytes)
    assert m.bits_per_value == 8 * q.nbytes / WEIGHTS.size
    assert m.saturated_share == q.saturated / WEIGHTS.size
    card = m.to_dict()
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_a_zero_point_beyond_the_codes_leaves_no_code_for_zero():
    x = np.float32([10.0, 10.5, 11.0])
    m = ff.measure(x, ff.zeropoint(x))
    assert (m.usage.zeros, m.usage.zero_share) == (0, 0.0)


def test_measurements_of_tensors_add_up():
    halves = WEIGHTS[:100], WEIGHTS[100:]
    a, b = (ff.measure(half, ff.absmax(half, axis=0)) for half in halves)
    both, whole = a.merge(b), ff.measure(WEIGHTS, ff.absmax(WEIGHTS, axis=0))
    assert both.usage == whole.usage
    assert (both.saturated, both.nbytes) == (whole.saturated, whole.nbytes)
    assert both.error.rmse == pytest.approx(whole.error.rmse, rel=1e-12)
    assert both.error.max_abs == whole.error.max_abs


def test_a_measurement_of_nothing_is_defined():
    x = np.zeros(0, np.float32)
    m = ff.measure(x, ff.absmax(x))
    assert math.isnan(m.bits_per_value)
    assert (m.saturated_share, m.usage.entropy, m.error.rmse) == (0.0, 0.0, 0.0)
    assert json.dumps(m.to_dict(), allow_nan=False)
    assert "bits per value      nan" in str(m)


def test_subnormals_that_dequantise_are_not_zero_even_where_the_process_flushes_them(level):
    x = np.float32([2.0**-149, 0.0, 2.0**-140])
    with ff.use_backend(level):
        torch.set_flush_denormal(True)
        try:
            zeros = ff.measure(x, ff.quantize(x, scale=2.0**-149)).usage.zeros
        finally:
            torch.set_flush_denormal(False)
    assert zeros == 1


def test_measuring_what_does_not_fit_is_refused():
    q = ff.absmax(WEIGHTS)
    with pytest.raises(ValueError, match="has shape"):
        ff.measure(WEIGHTS[1:], q)
    with pytest.raises(TypeError, match="what ff.quantize returns, got numpy.ndarray of int8"):
        ff.measure(WEIGHTS, q.codes)


def test_a_measurement_is_counted_piece_by_piece(monkeypatch):
    expected = ff.measure(WEIGHTS, ff.absmax(WEIGHTS))
    monkeypatch.setattr(interop.slabs, "__defaults__", (1000,))
    m = ff.measure(WEIGHTS, ff.absmax(WEIGHTS))
    assert m.usage == expected.usage
    assert m.error.cosine == pytest.approx(expected.error.cosine, abs=1e-14)
