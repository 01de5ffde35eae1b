"""LLM.int8(): the article's example, a slow exact oracle, and every way to multiply integers."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact, integer_product
from strategies import finite_arrays

torch = pytest.importorskip("torch")

EXAMPLE = json.loads((Path(__file__).parent / "data" / "article.json").read_text())[
    "llm_int8_example"
]
X, W = np.float32(EXAMPLE["X"]), np.float32(EXAMPLE["W"])
BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (np.dtype(np.float32), np.dtype(np.float16), BF16)
FP32, FP64 = ff.format("fp32"), ff.format("fp64")
ARRAYS = (
    *("output", "outlier_columns", "x_codes", "w_codes", "x_scale", "w_scale", "int32"),
    *("int8_output", "outlier_output", "outlier_weights"),
)
DTYPES_OF = dict.fromkeys(ARRAYS, np.float32) | {
    "outlier_columns": np.int64,
    "x_codes": np.int8,
    "w_codes": np.int8,
    "int32": np.int32,
}


def bits(array: np.ndarray) -> np.ndarray:
    """An array's bits, so that 0.0 is not -0.0."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def assert_same_arrays(result: ff.LLMInt8, expected: ff.LLMInt8) -> None:
    for name in ARRAYS:
        mine, theirs = (ff.interop.to_numpy(getattr(r, name)) for r in (result, expected))
        assert mine.shape == theirs.shape, name
        np.testing.assert_array_equal(bits(mine), bits(theirs.astype(mine.dtype)), name)


# --- the article --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_articles_example_with_w_scaled_by_its_own_formula(backend, dtype):
    result = ff.llm_int8_matmul(X.astype(dtype), W.astype(dtype))
    assert result.outlier_columns.tolist() == EXAMPLE["outlier_columns"]
    np.testing.assert_array_equal(result.x_scale[:, 0], np.float32(EXAMPLE["C_X"]) / 127)
    np.testing.assert_array_equal(result.w_scale[0], np.float32(EXAMPLE["C_W"]) / 127)
    for name, key in (("x_codes", "X_int8"), ("w_codes", "W_int8"), ("int32", "out_int32")):
        assert getattr(result, name).tolist() == EXAMPLE[key]
    assert result.outlier_output.tolist() == EXAMPLE["outlier_product"]
    assert result.outlier_weights.tolist() == W[[1, 3]].tolist()
    five_decimals = np.round(result.output.astype(np.float64), 5)
    assert five_decimals.tolist() == EXAMPLE["total"]
    assert (X @ W).tolist() == EXAMPLE["exact_product"]


def test_the_articles_63_and_a_half_lies_above_the_tie():
    """The fp32 scale of the first row is below 2/127: its quotient rounds to 64 without a tie."""
    scale = ff.llm_int8_matmul(X, W).x_scale[0, 0]
    assert Fraction(1) / Fraction(float(scale)) > Fraction(127, 2)


def test_a_quotient_in_the_middle_goes_to_the_even_code():
    x = np.float32([[127, 0.5, 1.5, 62.5, 63.5, -63.5]])
    result = ff.llm_int8_matmul(x, np.ones((6, 1), np.float32), threshold=math.inf)
    assert result.x_scale == 1
    assert result.x_codes.tolist() == [[127, 0, 2, 62, 64, -64]]


# --- against the definition ---------------------------------------------------------------------


def fractions(matrix: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(value)) for value in row] for row in matrix]


def scale_of(values: list[Fraction]) -> Fraction:
    return exact.absmax_scale(max(map(abs, values), default=Fraction(0)), FP32)


def by_definition(x: np.ndarray, w: np.ndarray, threshold: float, weights: str) -> dict:
    """Every step in integers and Fractions, one value at a time."""
    a, b = fractions(x), fractions(w)
    n, k, m = *x.shape, w.shape[1]
    outliers = [
        j for j in range(k) if any(threshold <= abs(row[j]) for row in a) and threshold < math.inf
    ]
    kept = [j for j in range(k) if j not in outliers]
    counted = kept if weights == "original" else range(k)
    x_scale = [scale_of([row[j] for j in kept]) for row in a]
    w_scale = [scale_of([b[j][c] for j in counted]) for c in range(m)]
    x_codes = [[exact.quantize(a[i][j], x_scale[i], 0, -127, 127) for j in kept] for i in range(n)]
    codes = [
        [exact.quantize(b[j][c], w_scale[c], 0, -127, 127) for c in range(m)] for j in range(k)
    ]
    w_codes, fmt = [codes[j] for j in kept], ff.format(w.dtype)
    rows = {
        j: b[j]
        if weights == "original"
        else [exact.dequantize(codes[j][c], w_scale[c], 0, fmt) for c in range(m)]
        for j in outliers
    }
    sums = [
        [sum(p * row[c] for p, row in zip(x_codes[i], w_codes, strict=True)) for c in range(m)]
        for i in range(n)
    ]
    inner = [[exact.fl64(sums[i][c] * x_scale[i] * w_scale[c]) for c in range(m)] for i in range(n)]
    outer = [[Fraction(0)] * m for _ in range(n)]
    for i, c in np.ndindex(n, m):
        for j in outliers:
            outer[i][c] = exact.fl64(outer[i][c] + a[i][j] * rows[j][c])
    total = [[exact.fl64(inner[i][c] + outer[i][c]) for c in range(m)] for i in range(n)]
    return {
        "outlier_columns": outliers,
        "x_codes": x_codes,
        "w_codes": w_codes,
        "x_scale": [[exact.encode(s, FP32)] for s in x_scale],
        "w_scale": [[exact.encode(s, FP32) for s in w_scale]],
        "int32": sums,
        "output": [[exact.encode(v, FP32) for v in row] for row in total],
        "int8_output": [[exact.encode(v, FP32) for v in row] for row in inner],
        "outlier_output": [[exact.encode(v, FP32) for v in row] for row in outer],
        "outlier_weights": [[float(v) for v in rows[j]] for j in outliers],
    }


@st.composite
def operands(draw: st.DrawFn, least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Small x and w, each of any dtype, with any bits or near one magnitude."""
    n, k, m = (draw(st.integers(least, 4)) for _ in range(3))
    parts = [
        draw(finite_arrays(draw(st.sampled_from(DTYPES)), min_size=size, max_size=size))
        for size in (n * k, k * m)
    ]
    return parts[0].reshape(n, k), parts[1].reshape(k, m)


@st.composite
def thresholds(draw: st.DrawFn, x: np.ndarray) -> float:
    """The values' own magnitudes and what lies next to them, 0, inf, and any."""
    own = [abs(float(value)) for value in x.ravel()] or [6.0]
    value = draw(st.sampled_from(own))
    near = [value, np.nextafter(value, math.inf), np.nextafter(value, 0.0), 0.0, math.inf, 6.0]
    return float(draw(st.sampled_from(near)))


@given(operands(), st.sampled_from(["original", "dequantised"]), st.data())
def test_every_step_is_that_of_the_definition(pair, weights, data):
    x, w = pair
    threshold = data.draw(thresholds(x))
    expected = by_definition(x, w, threshold, weights)
    for name in ff.available_backends():
        with ff.use_backend(name):
            result = ff.llm_int8_matmul(x, w, threshold, weights)
        for part, wanted in expected.items():
            array = getattr(result, part)
            if part == "outlier_weights":  # a Fraction has no -0.0
                array = array.astype(np.float64)
            elif array.dtype.kind != "i":
                array = bits(array)
            if wanted and wanted != [[]]:
                assert array.tolist() == wanted, part
            else:
                assert array.size == 0


@given(operands(least=1), st.data())
def test_without_outliers_both_kinds_of_weights_are_one(pair, data):
    x, w = pair
    original = ff.llm_int8_matmul(x, w, math.inf)
    assert_same_arrays(ff.llm_int8_matmul(x, w, math.inf, "dequantised"), original)
    assert original.outlier_columns.size == 0
    assert not original.outlier_output.any()


@given(operands(least=1))
def test_at_threshold_0_nothing_is_quantised(pair):
    x, w = pair
    result = ff.llm_int8_matmul(x, w, 0)
    assert result.x_codes.size == result.w_codes.size == 0
    assert not result.int32.any()
    np.testing.assert_array_equal(bits(result.output), bits(result.outlier_output))


# --- shapes, kinds, memory ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["original", "dequantised"])
@pytest.mark.parametrize(
    ("x_shape", "m"),
    [((0, 5), 3), ((4, 0), 3), ((4, 5), 0), ((0, 0), 0), ((2, 0, 5), 3), ((5,), 3), ((2, 3, 5), 4)],
    ids=str,
)
def test_shapes(backend, x_shape, m, weights):
    x = (np.arange(math.prod(x_shape), dtype=np.float32) - 3).reshape(x_shape)
    w = np.ones((x_shape[-1], m), np.float32)
    result = ff.llm_int8_matmul(x, w, 4.0, weights)
    inside = x_shape[-1] - len(result.outlier_columns)
    shapes = {
        **dict.fromkeys(("output", "int32", "int8_output", "outlier_output"), (*x_shape[:-1], m)),
        "x_codes": (*x_shape[:-1], inside),
        "w_codes": (inside, m),
        "x_scale": (*x_shape[:-1], 1),
        "w_scale": (1, m),
        "outlier_weights": (x_shape[-1] - inside, m),
    }
    assert {name: getattr(result, name).shape for name in shapes} == shapes
    assert {name: getattr(result, name).dtype for name in ARRAYS} == DTYPES_OF
    assert result.shape == (x_shape, (x_shape[-1], m))
    if 0 in x_shape:
        assert not result.output.any()
    assert "LLM.int8()" in str(result)
    assert ff.sweep_threshold(x, w, weights=weights).rows


def test_an_outlier_anywhere_in_the_batch_makes_its_column_one():
    x = np.ones((2, 3, 4), np.float32)
    x[1, 2, 3] = -6
    w = np.arange(8, dtype=np.float32).reshape(4, 2)
    result = ff.llm_int8_matmul(x, w)
    assert result.outlier_columns.tolist() == [3]
    flat = ("output", "x_codes", "x_scale", "int32", "int8_output", "outlier_output")
    rows = {name: getattr(result, name).reshape(6, -1) for name in flat}
    assert_same_arrays(ff.llm_int8_matmul(x.reshape(6, 4), w), replace(result, **rows))


def test_rows_and_columns_of_zeros_have_scale_1(backend):
    result = ff.llm_int8_matmul(np.float32([[0, 0], [1, 2]]), np.float32([[0, 3], [-0.0, 4]]))
    assert result.x_scale[0, 0] == result.w_scale[0, 0] == 1
    assert not result.output[0].any()
    assert not result.output[:, 0].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weights", ["original", "dequantised"])
def test_torch_gets_what_numpy_gets(dtype, weights):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(40, 70)) * 3).astype(dtype)
    w = rng.normal(size=(70, 30)).astype(dtype)
    name = str(dtype)
    tensors = [
        torch.from_numpy(part.astype(np.float32)).to(getattr(torch, name)) for part in (x, w)
    ]
    expected = ff.llm_int8_matmul(x, w, weights=weights)
    assert 0 < len(expected.outlier_columns) < 70
    result = ff.llm_int8_matmul(*tensors, weights=weights)
    assert all(isinstance(getattr(result, name), torch.Tensor) for name in ARRAYS)
    assert str(result.outlier_weights.dtype) == f"torch.{name}"
    assert_same_arrays(result, expected)
    assert ff.sweep_threshold(*tensors, [6, 3]) == ff.sweep_threshold(x, w, [6, 3])
    mixed = ff.llm_int8_matmul(x, tensors[1].requires_grad_(), weights=weights)
    assert isinstance(mixed.output, np.ndarray)
    assert_same_arrays(mixed, expected)


def test_strides_and_byte_order_change_nothing(backend):
    rng = np.random.default_rng(6)
    x, w = (rng.normal(size=size).astype(np.float32) * 3 for size in ((9, 20), (20, 7)))
    expected = ff.llm_int8_matmul(x, w)
    wide = np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)
    views = [
        (np.asfortranarray(x), np.asfortranarray(w)),
        (wide[::2, ::3], w[::-1].copy()[::-1]),
        (x.astype(">f4"), w.astype(">f4")),
        (torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(w.T)).T),
    ]
    for left, right in views:
        assert_same_arrays(ff.llm_int8_matmul(left, right), expected)


def test_results_are_equal_by_their_arrays_not_by_their_route(monkeypatch):
    expected = ff.llm_int8_matmul(X, W)
    monkeypatch.setattr(integer_product, "ROUTES", integer_product.ROUTES[1:])
    other = ff.llm_int8_matmul(X, W)
    assert (other.route, expected.route) == ("fp64 BLAS", "fp32 BLAS")
    assert other == expected
    assert ff.llm_int8_matmul(X, 2 * W) != expected
    assert ff.llm_int8_matmul(X, W, 7) != expected


def test_bytes_are_those_of_the_weights():
    for dtype, outlier in ((np.float32, 4), (np.float16, 2)):
        original = ff.llm_int8_matmul(X, W.astype(dtype))
        assert original.nbytes == 3 * 2 + 2 * 4 + 2 * 2 * outlier
        assert ff.llm_int8_matmul(X, W.astype(dtype), weights="dequantised").nbytes == 5 * 2 + 2 * 4


def test_a_product_beyond_fp32_is_inf():
    most = np.finfo(np.float32).max
    for threshold in (0, math.inf):
        result = ff.llm_int8_matmul(np.float32([[most]]), np.float32([[2, -most]]), threshold)
        assert result.output.tolist() == [[math.inf, -math.inf]]


def test_thresholds_are_compared_exactly():
    """0.1 lies below fp32's: rounded to fp32 first, it would be equal to it and below."""
    x = np.float32([[0.1], [0]])
    assert float(x[0, 0]) > 0.1
    for threshold, count in ((0.1, 1), (float(x[0, 0]), 1), (np.nextafter(float(x[0, 0]), 1), 0)):
        result = ff.llm_int8_matmul(x, np.float32([[1]]), threshold)
        assert len(result.outlier_columns) == count


def test_outlier_columns_are_added_in_ascending_order():
    x, w = np.float32([[1, 2.0**60, -(2.0**60)]]), np.ones((3, 1), np.float32)
    assert ff.llm_int8_matmul(x, w, 1).output.tolist() == [[0]]
    assert ff.llm_int8_matmul(x[:, ::-1], w, 1).output.tolist() == [[1]]


# --- what is refused ----------------------------------------------------------------------------


ONES = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("x", "w", "options", "kind", "message"),
    [
        (ONES, ONES, {}, ValueError, r"x has 4 columns \(shape \(3, 4\)\) and w 3 rows.*pass w.T"),
        (ONES, np.ones((5, 2), np.float32), {}, ValueError, r"w 5 rows .*as many$"),
        (ONES, ONES[0], {}, ValueError, r"w has shape \(4,\); it needs two axes"),
        (np.float32(1), ONES, {}, ValueError, "x is a single value"),
        (np.ones((3, 4)), ONES.T, {}, TypeError, r"x holds fp64.*pass np.float32\(x\)"),
        (ONES, np.ones((4, 3), ">f8"), {}, TypeError, r"w holds fp64.*pass np.float32\(w\)"),
        (torch.ones(3, 4).double(), ONES.T, {}, TypeError, r"pass x.float\(\)"),
        (np.ones((3, 4), int), ONES.T, {}, TypeError, "expected floating-point values"),
        (ONES, ONES.T, {"threshold": -1}, ValueError, "threshold must be at least 0"),
        (ONES, ONES.T, {"threshold": math.nan}, ValueError, "threshold .* got nan"),
        (ONES, ONES.T, {"threshold": "6"}, TypeError, "threshold must be a number, got '6'"),
        (ONES, ONES.T, {"threshold": [6]}, TypeError, "threshold must be a number"),
        (ONES, ONES.T, {"weights": "int8"}, ValueError, "'original' or 'dequantised', got 'int8'"),
        (ONES, ONES.T, {"weights": ["original"]}, ValueError, "weights must be"),
    ],
)
def test_what_is_refused_is_said_in_the_users_words(x, w, options, kind, message):
    with pytest.raises(kind, match=message):
        ff.llm_int8_matmul(x, w, **options)
    if "threshold" not in options:
        with pytest.raises(kind, match=message):
            ff.sweep_threshold(x, w, **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_inf_are_refused_with_their_position(backend, dtype, value):
    good = np.ones((2, 3, 4), dtype)
    bad = good.copy()
    bad[1, 2, 3] = value
    with pytest.raises(ValueError, match=rf"x\[1, 2, 3\] is {value}"):
        ff.llm_int8_matmul(bad, good[0].T)
    with pytest.raises(ValueError, match=rf"w\[3, 2\] is {value}"):
        ff.llm_int8_matmul(good, bad[1].T)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_a_sum_beyond_int32_is_refused_and_one_below_is_not(kind):
    k = 133_145
    x, w = np.ones((16, k), np.float32), np.ones((k, 2), np.float32)
    w[: k // 2, 0] = -1
    with pytest.raises(ValueError, match=r"int32\[0, 1\] would be 2,147,495,705, beyond int32"):
        ff.llm_int8_matmul(kind(x), kind(w))
    fits = ff.llm_int8_matmul(kind(x), kind(w[:, :1].copy()))
    assert (fits.int32 == 127 * 127).all()
    most = ff.llm_int8_matmul(kind(x[:, 1:].copy()), kind(np.ascontiguousarray(w[1:, 1:])))
    assert (most.int32 == 127 * 127 * (k - 1)).all()


# --- the sweep ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["original", "dequantised"])
def test_a_sweep_has_the_error_of_each_threshold(weights):
    rng = np.random.default_rng(7)
    x, w = (rng.normal(size=size).astype(np.float32) * 3 for size in ((2, 5, 30), (30, 7)))
    chosen = [3.0, math.inf, 0.0, 6.0]
    sweep = ff.sweep_threshold(x, w, chosen, weights)
    product = np.float64(x) @ np.float64(w)
    assert [row.threshold for row in sweep.rows] == chosen
    for row in sweep.rows:
        result = ff.llm_int8_matmul(x, w, row.threshold, weights)
        assert row.outlier_columns == len(result.outlier_columns)
        assert row.nbytes == result.nbytes
        expected = ff.error(product, result.output)
        assert row.error.rmse == pytest.approx(expected.rmse, rel=1e-6)
        assert row.error.max_abs == pytest.approx(expected.max_abs, rel=1e-6)
    assert (sweep.shapes, sweep.weights) == ((x.shape, w.shape), weights)


def test_what_a_sweep_measures_against_is_exact_to_fp64():
    """At threshold 0 with original weights, all that is left is the rounding to fp32."""
    rng = np.random.default_rng(8)
    x, w = (rng.normal(size=size).astype(np.float32) for size in ((4, 33), (33, 3)))
    (row,) = ff.sweep_threshold(x, w, 0).rows
    exactly = [
        [sum(a * b for a, b in zip(i, j, strict=True)) for j in fractions(w.T)]
        for i in fractions(x)
    ]
    left = [abs(Fraction(float(np.float32(float(v)))) - v) for line in exactly for v in line]
    assert row.error.max_abs == pytest.approx(float(max(left)), rel=1e-5)


def test_the_thresholds_of_a_sweep_come_from_the_data():
    x = np.float32([[0.12345678, 9.87654, 1, 2, 3]])
    sweep = ff.sweep_threshold(x, np.ones((5, 1), np.float32))
    found = [(row.threshold, row.outlier_columns) for row in sweep.rows]
    assert found == [(math.inf, 0), (9.876, 1), (6.0, 1), (3.0, 2), (1.0, 4), (0.0, 5)]
    # What is printed has every digit.
    printed = [line.split()[0] for line in str(sweep).splitlines()[3:]]
    assert [float(text) for text in printed] == [threshold for threshold, _ in found]


def test_outliers_are_what_int8_loses_and_dequantised_weights_keep_losing():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(32, 256)).astype(np.float32)
    x[:, [3, 77]] *= 30
    w = (rng.normal(size=(256, 64)) * 0.02).astype(np.float32)
    without, published = ff.sweep_threshold(x, w, [math.inf, 6]).rows
    assert published.outlier_columns == 2
    assert published.error.sqnr_db > without.error.sqnr_db + 10
    (dequantised,) = ff.sweep_threshold(x, w, 6, "dequantised").rows
    assert without.error.sqnr_db < dequantised.error.sqnr_db < published.error.sqnr_db - 3


def test_results_as_dictionaries():
    result = ff.llm_int8_matmul(X, W, math.inf).to_dict()
    assert result["threshold"] == "inf"
    assert result["shapes"] == [[3, 5], [5, 2]]
    assert result["w_scale"] == [[float(np.float32(2 / 127))] * 2]
    sweep = ff.sweep_threshold(X, W, [math.inf, 6]).to_dict()
    assert [row["outlier_columns"] for row in sweep["rows"]] == [0, 2]
    assert json.dumps(sweep)
