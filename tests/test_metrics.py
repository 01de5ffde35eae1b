"""Error measures against their definition in Fractions, and what they say of special values."""

import json
import math
import tracemalloc
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import error_figures, metrics
from floatfmt.metrics import Error, error
from strategies import FLOAT_DTYPES, finite_arrays, value_arrays

FIGURES = ("max_abs", "rmse", "mean_error", "signal_rms")


def fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in values.ravel()]


def root(x: Fraction) -> float:
    """The square root to at least 60 bits, and never out of float64's range on the way."""
    if x == 0:
        return 0.0
    shift = 2 * max(0, 80 - math.floor(math.log2(x.numerator) - math.log2(x.denominator)) // 2)
    return float(Fraction(math.isqrt(math.floor(x * 2 ** (2 * shift))), 2**shift))


def by_definition(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    original = fractions(x)
    errors = [b - a for a, b in zip(original, fractions(y), strict=True)]
    n = max(len(errors), 1)
    return {
        "max_abs": float(max(map(abs, errors), default=0)),
        "rmse": root(sum((e * e for e in errors), Fraction(0)) / n),
        "mean_error": float(sum(errors, Fraction(0)) / n),
        "signal_rms": root(sum((v * v for v in original), Fraction(0)) / n),
    }


def assert_close(result: Error, expected: dict[str, float]) -> None:
    for name in FIGURES:
        # The mean of errors that cancel is as exact as the largest of them.
        scale = expected["max_abs"] if name == "mean_error" else expected[name]
        difference = abs(Fraction(getattr(result, name)) - Fraction(expected[name]))
        assert difference <= Fraction(1e-13) * Fraction(scale) + Fraction(4 * 5e-324), name


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two finite arrays of one size, each of its own dtype, whose differences float64 holds."""
    x = draw(st.sampled_from(FLOAT_DTYPES).flatmap(lambda d: finite_arrays(d, max_size=60)))
    dtype = draw(st.sampled_from(FLOAT_DTYPES))
    y = draw(finite_arrays(dtype, x.size, x.size))
    with np.errstate(all="ignore"):
        assume(np.isfinite(y.astype(np.float64) - x.astype(np.float64)).all())
    return x, y


@given(pairs())
@example((np.full(9, 1.7e308), np.full(9, -5e306)))
@example((np.float64([5e-324, 0.0]), np.float64([0.0, 5e-324])))
@example((np.float32([2**-149]), np.float64([2.0**-149 + 2.0**-201])))
@example((np.float64([1e300, 1e-300]), np.float64([1e300, 3e-300])))
def test_error_equals_its_definition_in_exact_arithmetic(pair):
    x, y = pair
    result = error(x, y)
    assert result.count == x.size
    assert_close(result, by_definition(x, y))


@given(pairs())
def test_sqnr_is_twenty_times_the_logarithm_of_signal_over_noise(pair):
    result = error(*pair)
    if result.rmse and result.signal_rms:
        ratio = Fraction(result.signal_rms) / Fraction(result.rmse)
        log2_ratio = math.log2(ratio.numerator) - math.log2(ratio.denominator)
        assert result.sqnr_db == pytest.approx(20 * log2_ratio * math.log10(2), abs=1e-9)


@given(pairs(), st.data())
def test_the_errors_of_parts_merge_to_the_error_of_the_whole(pair, data):
    x, y = pair
    cut = data.draw(st.integers(0, x.size))
    merged = error(x[:cut], y[:cut]).merge(error(x[cut:], y[cut:]))
    assert merged.count == x.size
    assert_close(merged, by_definition(x, y))


@given(st.sampled_from(FLOAT_DTYPES).flatmap(value_arrays))
def test_an_array_has_no_error_against_itself_whatever_its_bits(x):
    result = error(x, x)
    assert (result.max_abs, result.rmse, result.mean_error) == (0, 0, 0)
    assert result.sqnr_db == math.inf
    assert math.isfinite(result.signal_rms)


@given(
    st.sampled_from(FLOAT_DTYPES).flatmap(lambda d: value_arrays(d, max_size=40)),
    st.sampled_from(FLOAT_DTYPES).flatmap(lambda d: value_arrays(d, max_size=40)),
)
def test_every_figure_is_defined_for_every_input(x, y):
    size = min(x.size, y.size)
    result = error(x[:size], y[:size])
    assert 0 <= result.rmse <= result.max_abs
    assert 0 <= result.signal_rms < math.inf
    assert not math.isnan(result.sqnr_db)
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_sign_of_the_mean_error_says_which_way_the_approximation_errs():
    assert error(np.float32([1, 2]), np.float32([2, 2])).mean_error == 0.5
    assert error(np.float32([1, 2]), np.float32([0, 2])).mean_error == -0.5


def test_a_known_array_has_known_figures():
    x, y = np.float64([3.0, 4.0]), np.float64([3.0, 4.5])
    result = error(x, y)
    assert (result.count, result.max_abs, result.mean_error) == (2, 0.5, 0.25)
    assert result.mse == pytest.approx(0.125, rel=1e-15)
    assert result.rmse == pytest.approx(math.sqrt(0.125), rel=1e-15)
    assert result.sqnr_db == pytest.approx(10 * math.log10(12.5 / 0.125), rel=1e-14)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.0, -0.0], [-0.0, 0.0], math.inf),
        ([], [], math.inf),
        ([0.0, 0.0], [0.0, 1.0], -math.inf),
        ([1.0, 2.0], [1.0, math.inf], -math.inf),
        ([1.0, 2.0], [1.0, math.nan], -math.inf),
        ([math.inf, math.nan, 1.0], [math.inf, -math.nan, 1.0], math.inf),
        ([math.inf, 10.0], [math.inf, 9.0], 20.0),
        ([math.nan, 10.0], [math.nan, 9.0], 20.0),
        ([math.inf, 10.0], [-math.inf, 9.0], -math.inf),
        ([math.nan], [math.inf], -math.inf),
    ],
)
def test_sqnr_of_zeros_infinities_and_nans(x, y, expected):
    assert error(np.array(x, float), np.array(y, float)).sqnr_db == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "y", "mean"),
    [
        ([1.0, 1.0], [math.inf, 1.0], math.inf),
        ([math.inf, 1.0], [1.0, 5.0], -math.inf),
        ([1.0, 1.0], [math.inf, -math.inf], math.nan),
        ([1.0, 1.0], [math.nan, 1.0], math.nan),
        ([1.7e308], [-1.7e308], -math.inf),
    ],
)
def test_an_infinite_error_makes_rmse_inf_and_the_mean_what_ieee_makes_of_it(x, y, mean):
    result = error(np.float64(x), np.float64(y))
    assert (result.max_abs, result.rmse) == (math.inf, math.inf)
    assert result.mean_error == pytest.approx(mean, nan_ok=True)


def test_squares_beyond_float64_are_no_problem_but_for_the_mse():
    result = error(np.full(3, 1e308), np.full(3, 1.5e308))
    assert result.max_abs == result.rmse == pytest.approx(5e307)
    assert result.sqnr_db == pytest.approx(20 * math.log10(2))
    assert result.mse == math.inf


def test_the_largest_errors_of_all_do_not_overflow_the_mean():
    largest = np.finfo(np.float64).max
    result = error(np.full(7, -largest), np.zeros(7))
    assert result.rmse == result.max_abs == result.mean_error == largest


@pytest.mark.parametrize("size", [65_536, 65_537, 300_000])
def test_an_array_of_several_pieces_equals_one_computed_at_once(size):
    rng = np.random.default_rng(size)
    x = rng.standard_normal(size)
    y = x.astype(np.float16)
    difference = y.astype(np.float64) - x
    result = error(x, y)
    assert result.count == size
    assert result.max_abs == np.abs(difference).max()
    assert result.rmse == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)
    assert result.mean_error == pytest.approx(difference.mean(), abs=1e-12)


def test_the_only_error_is_found_in_whichever_piece_it_is():
    x = np.zeros((3, 50_000), np.float32)
    for position in [(0, 0), (1, 20_000), (2, 49_999)]:
        y = x.copy()
        y[position] = 3.0
        assert error(x, y).max_abs == 3.0


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x,
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        lambda x: torch.from_numpy(x),
        lambda x: torch.nn.Parameter(torch.from_numpy(x)),
    ],
)
def test_layout_byte_order_and_kind_of_array_change_nothing(arrange):
    x = np.arange(600, dtype=np.float32).reshape(20, 30) / 7
    y = x + np.float32(0.25) * (x % 2 > 1)
    assert error(arrange(x), arrange(y)) == error(x, y)


def test_bfloat16_is_taken_exactly_from_numpy_and_torch():
    x = np.float32([1.0, -3.14159, 1e-40])
    expected = error(x, ff.round_to(x, "bf16"))
    assert expected.max_abs > 0
    assert error(x, x.astype(ml_dtypes.bfloat16)) == expected
    assert error(torch.from_numpy(x), torch.from_numpy(x).bfloat16()) == expected


def test_scalars_and_lists_are_arrays_too():
    assert error(np.float32(2.0), np.float32(1.5)).max_abs == 0.5
    assert error([1.0, 2.0], [1.0, 2.5]).count == 2


def test_shapes_that_differ_are_refused_even_if_they_broadcast():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), its approximation \(3,\)"):
        error(np.zeros((2, 3)), np.zeros(3))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="int8"):
        error(np.zeros(3), np.zeros(3, np.int8))


@pytest.mark.parametrize("x", [np.uint32([1, 0x00400000]).view("f4"), np.float64([5e-324, 1e-310])])
def test_subnormals_count_even_where_the_process_flushes_them(level, x):
    with ff.use_backend(level):
        expected = error(x, np.zeros_like(x))
        torch.set_flush_denormal(True)
        try:
            flushed = error(x, np.zeros_like(x))
        finally:
            torch.set_flush_denormal(False)
    assert flushed == expected
    assert expected.max_abs == x[1]


def test_memory_stays_bounded_for_an_array_of_any_size():
    x = np.ones(4_000_000, np.float32)
    error_figures.keep_freed_memory()
    tracemalloc.start()
    try:
        error(x, x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2


def test_to_dict_is_json_with_words_for_what_is_not_finite():
    card = error(np.float32([1.0]), np.float32([math.inf])).to_dict()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert (card["rmse"], card["sqnr_db"], card["count"]) == ("inf", "-inf", 1)
    of_nothing = {name: float(value) for name, value in metrics.NO_ERROR.to_dict().items()}
    assert of_nothing.pop("sqnr_db") == math.inf
    assert set(of_nothing.values()) == {0.0}


def test_an_error_prints_as_one_line_and_is_frozen():
    result = error(np.float32([1.0, 2.0]), np.float32([1.0, 2.5]))
    assert str(result) == "max abs 0.5, RMSE 0.353553, SQNR 13.01 dB, mean +0.25, of 2 values"
    with pytest.raises(AttributeError):
        result.rmse = 0.0
