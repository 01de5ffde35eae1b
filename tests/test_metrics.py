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
from floatfmt import error_figures, interop, metrics
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


def test_no_rounding_carries_a_mean_of_the_largest_past_it():
    largest = np.finfo(np.float64).max
    for size in range(1, 200):
        x, nothing = np.full(size, -largest), np.zeros(size)
        errors = error(x, nothing, block=1)
        halves = (error(part, part * 0) for part in (x[: size // 3], x[size // 3 :]))
        for result in (error(x, nothing), errors.total, next(halves).merge(next(halves))):
            for figure in (result.rmse, result.mean_error, result.signal_rms):
                assert figure == pytest.approx(largest, rel=1e-13), size
                assert figure <= largest
            assert result.rmse <= result.max_abs == largest


@given(st.floats(1e-300, 1e300), st.integers(1, 400), st.data())
def test_a_mean_of_equal_errors_is_not_beyond_the_largest(value, size, data):
    cut = data.draw(st.integers(0, size))
    y, nothing = np.full(size, value), np.zeros(size)
    parts = (error(nothing[part], y[part]) for part in (slice(cut), slice(cut, None)))
    for result in (error(nothing, y), next(parts).merge(next(parts))):
        assert abs(result.mean_error) <= result.max_abs == value
        assert result.rmse <= result.max_abs


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
    expected = error(x, ff.round_to(x, "bf16").astype(np.float64))  # no ulps: of another format
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
    of_nothing = error([], []).to_dict()
    assert (of_nothing.pop("sqnr_db"), of_nothing.pop("cosine")) == ("inf", 1.0)
    assert of_nothing.pop("outlier_threshold") == 6.0
    assert set(of_nothing.values()) == {0.0}


def test_an_error_prints_as_one_line_and_is_frozen():
    result = error(np.float32([1.0, 2.0]), np.float32([1.0, 2.5]))
    assert str(result) == (
        "max abs 0.5, RMSE 0.353553, SQNR 13.01 dB, cosine 0.996546, mean +0.25, of 2 values"
    )
    with pytest.raises(AttributeError):
        result.rmse = 0.0


# --- cosine, Frobenius, outliers, ulps ----------------------------------------------------------


def exact_cosine(x: np.ndarray, y: np.ndarray) -> float:
    """The cosine from exact sums."""
    a, b = fractions(x), fractions(y)
    dot = sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))
    squares = sum((p * p for p in a), Fraction(0)), sum((q * q for q in b), Fraction(0))
    if not all(squares):
        return float(not any(squares))
    quotient = dot * dot / (squares[0] * squares[1])
    return root(quotient) * (1 if dot > 0 else -1)


@given(pairs())
@example((np.full(9, 1.7e308), np.full(9, -5e306)))
@example((np.float64([1e300, 1e-300]), np.float64([1e-300, 1e300])))
@example((np.float64([5e-324, 0.0]), np.float64([1e308, 5e-324])))
@example((np.float64([2e-308, 5e-324]), np.float64([5e-324, 2e-308])))
@example((np.float64([1e90, 2e90]), np.float64([2e90, -1e89])))
@example((np.float64([1e-90, 2e-90]), np.float64([2e-90, -1e-91])))
@example((np.float64([1e150, 2e150]), np.float64([2e-150, -1e-151])))
@example((np.zeros(3), np.zeros(3)))
@example((np.zeros(3), np.ones(3)))
def test_cosine_and_relative_frobenius_equal_their_definitions_in_exact_arithmetic(pair):
    x, y = pair
    result = error(x, y)
    assert result.cosine == pytest.approx(exact_cosine(x, y), abs=1e-13)
    original = fractions(x)
    noise = sum(((b - a) ** 2 for a, b in zip(original, fractions(y), strict=True)), Fraction(0))
    signal = sum((a * a for a in original), Fraction(0))
    if not noise or not signal:
        assert result.relative_frobenius == (math.inf if noise else 0.0)
    elif result.signal_rms > 1e-300 and result.rmse > 1e-300:
        squared = noise / signal
        assume(Fraction(2) ** -2000 < squared < Fraction(2) ** 2000)
        assert result.relative_frobenius == pytest.approx(root(squared), rel=1e-12)


@given(pairs(), st.data())
def test_cosines_of_parts_merge_to_that_of_the_whole(pair, data):
    x, y = pair
    cut = data.draw(st.integers(0, x.size))
    parts = error(x[:cut], y[:cut]), error(x[cut:], y[cut:])
    # A subnormal rms has few digits, and a cosine merged from it no more.
    assume(all(part.signal_rms > 1e-300 or not x.any() for part in parts if part.count))
    assume(all(part.approximation_rms > 1e-300 or not y.any() for part in parts if part.count))
    assert parts[0].merge(parts[1]).cosine == pytest.approx(exact_cosine(x, y), abs=1e-13)


def test_the_cosine_of_an_exact_approximation_is_one_and_of_its_negative_minus_one():
    x = np.random.default_rng(1).standard_normal(200_000)
    assert error(x, x).cosine == 1.0
    assert error(x, -x).cosine == pytest.approx(-1.0, abs=1e-15)
    assert error(x, 3 * x).cosine == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("x", "y", "cosine"),
    [
        ([math.inf, 3.0, 4.0], [math.inf, 4.0, 3.0], 0.96),
        ([math.nan, 1.0], [math.nan, 1.0], 1.0),
        ([math.nan, 1.0], [math.nan, -1.0], -1.0),
        ([1.0, 1.0], [math.inf, 1.0], math.nan),
        ([math.nan, 1.0], [1.0, 1.0], math.nan),
        ([1.7e308], [-1.7e308], math.nan),
        ([math.inf], [math.inf], 1.0),
    ],
)
def test_cosine_of_infinities_and_nans(x, y, cosine):
    result = error(np.float64(x), np.float64(y))
    assert result.cosine == pytest.approx(cosine, nan_ok=True)


def test_outliers_are_values_of_the_original_of_at_least_the_threshold():
    x = np.float32([5.99, 6.0, -6.0, -7.0, math.inf, -math.inf, math.nan, 0.0])
    result = error(x, np.zeros_like(x))
    assert (result.outliers, result.outlier_threshold) == (5, 6.0)
    assert result.outlier_share == 5 / 8
    assert error(x, x, outlier_threshold=6.5).outliers == 3
    assert error(x, x, outlier_threshold=math.inf).outliers == 2
    assert error(x, x, outlier_threshold=0).outliers == 7
    assert error([], []).outlier_share == 0.0


@pytest.mark.parametrize("threshold", [-1.0, math.nan])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="outlier_threshold must be 0 or more, got"):
        error([1.0], [1.0], outlier_threshold=threshold)


def test_outliers_of_different_thresholds_are_not_added_up():
    with pytest.raises(ValueError, match="thresholds 6 and 2 do not add up"):
        error([1.0], [1.0]).merge(error([1.0], [1.0], outlier_threshold=2))


@given(
    st.sampled_from(FLOAT_DTYPES).flatmap(
        lambda d: st.tuples(value_arrays(d, max_size=40), value_arrays(d, max_size=40))
    )
)
def test_ulps_are_those_of_ulp_distance(pair):
    size = min(len(pair[0]), len(pair[1]))
    x, y = (array[:size] for array in pair)
    fmt = ff.format(x.dtype)
    distances = []
    with np.errstate(invalid="ignore"):  # signalling NaNs
        nans = np.isnan(x), np.isnan(y)
    for a, b, *nan in zip(x, y, *nans, strict=True):
        if any(nan):
            distances.append(0 if all(nan) else math.inf)
        else:
            # Python's integers: int64 does not hold every distance of fp64.
            places = (int(ff.ulp_distance(np.zeros_like(v), v, fmt)) for v in (a, b))
            distances.append(abs(next(places) - next(places)))
    result = error(x, y)
    assert result.max_ulp == float(max(distances, default=0))
    mean = math.inf if math.inf in distances else float(Fraction(sum(distances), max(size, 1)))
    assert result.mean_ulp == pytest.approx(mean, rel=1e-15)


def test_there_are_ulps_only_within_one_format():
    x = np.float32([1.0, 2.0])
    assert error(x, x.astype(np.float16)).max_ulp is None
    assert error(x, x.astype(">f4")).max_ulp == 0.0
    both = error(x, x).merge(error(x, x.astype(np.float64)))
    assert (both.max_ulp, both.mean_ulp) == (None, None)
    one = error(x, np.nextafter(x, np.float32(9))).merge(error(x, x))
    assert (one.max_ulp, one.mean_ulp) == (1.0, 0.5)


def test_details_say_every_figure_and_omit_ulps_where_there_are_none():
    text = error(np.float32([1, 7]), np.float32([1, 8])).details()
    for words in ("max abs error       1", "RMSE", "MSE", "SQNR", "Frobenius", "cosine", "bias"):
        assert words in text
    assert "outliers, |x| >= 6  1 (50 %)" in text
    assert "ulp" in text
    assert "ulp" not in error(np.float32([1]), np.float64([1])).details()


# --- rows and blocks ----------------------------------------------------------------------------

ARRAYS_OF_FIGURES = (*error_figures.FIGURE_NAMES, "mse", "sqnr_db", "relative_frobenius")


def assert_alike(result: Error, expected: Error) -> None:
    """Two errors of the same values, whose means may differ in their last digits."""
    for name in ("count", "max_abs", "outliers", "outlier_threshold", "max_ulp"):
        assert getattr(result, name) == getattr(expected, name), name
    for name in ("rmse", "signal_rms", "approximation_rms", "cosine", "mean_error", "mean_ulp"):
        wanted = getattr(expected, name)
        if wanted is None:
            assert getattr(result, name) is None, name
            continue
        # Means of what cancels are as exact as the largest of it.
        scale = {"mean_error": expected.max_abs, "cosine": 1.0}.get(name, 4 * 5e-324)
        near = pytest.approx(wanted, rel=1e-12, abs=1e-12 * min(scale, 1e300), nan_ok=True)
        assert getattr(result, name) == near, name


def special_values(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of every size beside rows of zeros, and approximations of them, some exact."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)
    y = np.where(rng.random(shape) < 0.3, x, x * rng.normal(1, 0.1, shape))
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    values = [0.0, 5e-324, 1e-310, 1e300, -1.7e308, 1.7e308, math.inf, -math.inf, math.nan]
    for _ in range(x.size // 20):
        at, other = rng.integers(x.size, size=2)
        flat_x[at] = values[rng.integers(len(values))]
        flat_y[at] = values[rng.integers(len(values))]
        flat_y[other] = flat_x[other]
    return x, y


AXES = (0, 1, 2, -1, (0, 1), (0, 2), (2, 1), (0, 1, 2), ())


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("limit", [7, 1 << 16])
def test_errors_of_each_index_are_those_of_its_slice(axis, limit, monkeypatch):
    monkeypatch.setattr(interop.slabs, "__defaults__", (limit,))
    x, y = special_values((5, 6, 7), 3)
    x[2], x[:, 3], y[:, 3] = 0.0, 0.0, 0.0
    errors = error(x, y, axis=axis)
    kept = {a % 3 for a in (axis if isinstance(axis, tuple) else (axis,))}
    assert errors.shape == tuple(n if a in kept else 1 for a, n in enumerate(x.shape))
    for index in np.ndindex(errors.shape):
        here = tuple(i if a in kept else slice(None) for a, i in enumerate(index))
        assert_alike(errors[index], error(np.ravel(x[here]), np.ravel(y[here])))
        slices = errors._slices(index)
        assert np.array_equal(x[slices].ravel(), np.ravel(x[here]), equal_nan=True)


@pytest.mark.parametrize("block_axis", [0, 1, 2, -1])
@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("limit", [7, 1 << 16])
def test_errors_of_blocks_are_those_of_their_slices(block, block_axis, limit, monkeypatch):
    monkeypatch.setattr(interop.slabs, "__defaults__", (limit,))
    x, y = special_values((4, 5, 7), 4)
    errors = error(x, y, block=block, block_axis=block_axis)
    lengths = list(x.shape)
    lengths[block_axis] = -(-lengths[block_axis] // block)
    assert errors.shape == tuple(lengths)
    for index in np.ndindex(errors.shape):
        here = [slice(i, i + 1) for i in index]
        start = index[block_axis] * block
        here[block_axis] = slice(start, start + block)
        assert_alike(errors[index], error(x[tuple(here)], y[tuple(here)]))
        assert np.array_equal(x[errors._slices(index)], x[tuple(here)], equal_nan=True)


@pytest.mark.parametrize("how", [{"axis": 0}, {"axis": 1}, {"block": 32}, {"block": 999}])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_groups_of_several_pieces_are_those_of_their_slices(how, dtype):
    x = (np.random.default_rng(5).standard_normal((140, 1001)) * 4).astype(dtype)
    y = ff.round_to(x, "fp8_e4m3fn")
    errors = error(x, y, **how)
    some = [tuple(int(i) % n for n in errors.shape) for i in range(0, 1500, 37)]
    for index in some:
        slices = errors._slices(index)
        assert_alike(errors[index], error(x[slices], y[slices]))
    assert_alike(errors.total, error(x, y))


@given(pairs(), st.integers(1, 9))
def test_the_errors_of_blocks_make_up_that_of_the_whole(pair, block):
    x, y = pair
    total = error(x, y, block=block).total
    assert total.count == x.size
    assert_close(total, by_definition(x, y))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: torch.from_numpy(x),
    ],
)
@pytest.mark.parametrize("how", [{"axis": 0}, {"axis": 1}, {"block": 7}])
def test_layout_changes_nothing_for_groups(arrange, how):
    x = np.arange(600, dtype=np.float32).reshape(20, 30) / 7
    y = x + np.float32(0.25) * (x % 2 > 1)
    assert error(arrange(x), arrange(y), **how) == error(x, y, **how)


@pytest.mark.parametrize(
    ("shape", "how", "expected"),
    [
        ((0, 4), {"axis": 0}, (0, 1)),
        ((3, 0), {"axis": 0}, (3, 1)),
        ((3, 0), {"block": 2}, (3, 0)),
        ((0,), {"block": 2}, (0,)),
        ((), {"axis": ()}, ()),
        ((2, 3), {"axis": ()}, (1, 1)),
    ],
)
def test_groups_of_nothing_and_of_a_scalar(shape, how, expected):
    x = np.ones(shape, np.float32)
    errors = error(x, x, **how)
    assert errors.shape == expected
    assert all(getattr(errors, name).shape == expected for name in ARRAYS_OF_FIGURES)
    assert (errors.total.count, errors.total.rmse, errors.total.cosine) == (x.size, 0.0, 1.0)
    assert len(errors.worst()) == math.prod(expected)
    assert str(errors)
    json.dumps(errors.to_dict(), allow_nan=False)


def test_one_value_has_an_error_and_no_group():
    assert error(np.float64(2.0), np.float64(1e308)).max_abs == 1e308
    with pytest.raises(ValueError, match="axis 0 is out of range for an array of 0 dimensions"):
        error(np.float64(2.0), np.float64(2.0), axis=0)
    with pytest.raises(ValueError, match="axis -1 is out of range"):
        error(np.float64(2.0), np.float64(2.0), block=3)


def test_groups_asked_for_wrongly_are_refused():
    x = np.ones((3, 4))
    with pytest.raises(TypeError, match="axis or block, not both"):
        error(x, x, axis=0, block=2)
    for block in (0, -3, True):
        with pytest.raises(ValueError, match=f"block must be 1 or more values, got {block}"):
            error(x, x, block=block)
    with pytest.raises(TypeError, match="block must be an integer, got 2.5"):
        error(x, x, block=2.5)
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        error(x, x, block=2, block_axis=2)
    with pytest.raises(ValueError, match="names an axis twice"):
        error(x, x, axis=(0, -2))


def test_indexing_takes_places_in_the_figures_or_in_the_kept_axes():
    x = np.arange(24.0).reshape(2, 3, 4)
    errors = error(x, x + x, axis=1)
    assert errors[2] == errors[0, 2, 0] == errors[-1] == errors[(-1, -1, 0)]
    assert errors[2].signal_rms == pytest.approx(np.sqrt(np.mean(x[:, 2] ** 2)))
    for wrong in (3, (0, 1), (0, 3, 0), (0, 0, 1), -4):
        with pytest.raises(IndexError, match=r"no group .*figures have shape \(1, 3, 1\)"):
            errors[wrong]
    with pytest.raises(TypeError, match="made of integers, got slice"):
        errors[:2]


def test_iterating_gives_every_group_with_its_slices():
    x, y = special_values((2, 3, 4), 6)
    errors = error(x, y, axis=(0, 2))
    groups = list(errors)
    assert [group.index for group in groups] == list(np.ndindex(2, 1, 4))
    for group in groups:
        assert_alike(group.error, error(x[group.slices], y[group.slices]))


def test_errors_with_nan_in_them_are_equal_to_themselves():
    x, y = np.float64([1, 2]), np.float64([math.nan, 2])
    assert error(x, y) == error(x, y)
    assert error(x, y) != error(x, x)
    assert error(x, y, axis=0) == error(x, y, axis=0)


def ranked(x: np.ndarray, y: np.ndarray, by: str, n: int) -> list[int]:
    return [group.index[0] for group in error(x, y, axis=0).worst(n, by)]


def test_the_worst_groups_come_first_by_any_figure():
    x = np.float64([[1, 1], [2, 2], [100, 100], [7, 0], [1, 2]])
    y = np.float64([[1, 1], [2, 1], [103, 103], [0, 7], [1, math.nan]])
    assert ranked(x, y, "rmse", 9) == [4, 3, 2, 1, 0]
    assert ranked(x, y, "max_abs", 2) == [4, 3]
    assert ranked(x, y, "sqnr_db", 3) == [4, 3, 1]
    assert ranked(x, y, "cosine", 3) == [4, 3, 1]  # nan is the worst
    assert ranked(x, y, "mean_error", 3) == [4, 2, 1]
    assert ranked(x, y, "outlier_share", 3) == [2, 3, 0]  # of equals the first
    assert ranked(x, y, "relative_frobenius", 2) == [4, 3]
    assert ranked(x, y, "max_ulp", 2) == [4, 3]
    assert ranked(x, y, "rmse", 0) == []


def test_the_worst_groups_asked_for_wrongly_are_refused():
    errors = error(np.ones(3), np.ones(3, np.float32), axis=0)
    with pytest.raises(ValueError, match="by='loss' is no figure to sort by; there are max_abs, r"):
        errors.worst(by="loss")
    with pytest.raises(ValueError, match="differ in format"):
        errors.worst(by="max_ulp")
    with pytest.raises(ValueError, match="n must not be negative, got -1"):
        errors.worst(-1)


def test_the_table_lists_ten_groups_and_the_total():
    x = np.arange(1.0, 49).reshape(4, 12)
    errors = error(x, x * 1.01, block=5)
    lines = str(errors).splitlines()
    assert lines[0] == "12 groups of (4, 12), blocks of 5 along axis 1; the worst by rmse:"
    assert [line.split("]")[0] for line in lines[3:6]] == ["x[3, 10:12", "x[3, 5:10", "x[3, 0:5"]
    assert len(lines) == 3 + 10 + 1
    assert lines[-1].startswith("together ")
    assert all(len(line) <= 80 for line in lines)
    assert errors._repr_html_().startswith("<pre>12 groups")


def test_the_dictionary_of_groups_is_json_and_has_every_figure():
    x, y = special_values((6, 40), 8)
    card = error(x, y, axis=0).to_dict()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert np.shape(card["rmse"]) == (6, 1)
    assert set(metrics.FIGURES) < set(card)
    assert card["total"]["count"] == 240


@pytest.mark.parametrize("x", [np.float64([[5e-324, 1e-310], [0, 0]])])
def test_subnormals_of_groups_count_even_where_the_process_flushes_them(level, x):
    with ff.use_backend(level):
        expected = error(x, np.zeros_like(x), axis=0)
        torch.set_flush_denormal(True)
        try:
            flushed = error(x, np.zeros_like(x), axis=0)
        finally:
            torch.set_flush_denormal(False)
    assert flushed == expected
    assert expected.max_abs[0, 0] == 1e-310


def test_memory_of_groups_is_that_of_their_figures():
    x = np.ones((4000, 1000), np.float32)
    error_figures.keep_freed_memory()
    for how, groups in (({"axis": 0}, 4000), ({"axis": 1}, 1000), ({"block": 100}, 40_000)):
        tracemalloc.start()
        try:
            error(x, x, **how)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes / 2 + 3 * 8 * len(error_figures.FIGURE_NAMES) * groups
