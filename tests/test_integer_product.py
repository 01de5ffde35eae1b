"""Exact products of int8 codes: every route, and what becomes of one that is wrong."""

import operator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floatfmt import integer_product as product

torch = pytest.importorskip("torch")

BF16 = np.dtype(ml_dtypes.bfloat16)
TENSOR = torch.zeros(1)


@st.composite
def code_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, m = draw(st.integers(0, 20)), draw(st.integers(0, 5))
    k = draw(st.sampled_from([0, 1, 7, 1039, 1040, 1041, 2081]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    low = draw(st.sampled_from([-127, 126, 127]))
    x, w = (rng.integers(low, 128, shape).astype(np.int8) for shape in ((n, k), (k, m)))
    return x * np.int8(draw(st.sampled_from([1, -1]))), w


@given(code_pairs())
def test_every_route_is_exact(pair):
    x, w = pair
    columns = w.T.tolist()
    by_integers = [
        [sum(map(operator.mul, row, column)) for column in columns] for row in x.tolist()
    ]
    expected = np.array(by_integers, np.int64).reshape(len(x), w.shape[1])
    ways = [route.multiply for route in product.ROUTES]
    of_torch = product._int_mm(torch._int_mm)
    ways += [of_torch] * product.is_exact(of_torch)
    for multiply in ways:
        assert product.is_exact(multiply)
        np.testing.assert_array_equal(multiply(x, w), expected)
    for kind in (x, TENSOR):
        sums, _ = product.integer_product(x, w, kind)
        assert sums.dtype == np.int32
        np.testing.assert_array_equal(sums, expected)


def saturates_pairs(a, b):
    """What AVX2's 16-bit sums of two products do, one operand shifted to be unsigned."""
    shifted, other = a.long() + 128, b.long()
    if a.shape[1] % 2:
        shifted = torch.nn.functional.pad(shifted, (0, 1))
        other = torch.nn.functional.pad(other, (0, 0, 0, 1))
    pairs = (shifted[:, :, None] * other[None]).unflatten(1, (-1, 2)).sum(2)
    return (pairs.clamp(-(2**15), 2**15 - 1).sum(1) - 128 * other.sum(0)).int()


def raises(a, b):
    raise RuntimeError("not implemented on this CPU")


WRONG = {
    "saturates": saturates_pairs,
    "fp16 sums": lambda a, b: (a.half() @ b.half()).int(),
    "last column": lambda a, b: a.int()[:, : a.shape[1] // 4 * 4] @ b.int()[: len(b) // 4 * 4],
    "one too many": lambda a, b: (a.int() @ b.int()) + (a.shape[1] > 1040),
    "raises": raises,
}


@pytest.fixture
def timed(monkeypatch):
    """A function that says whether torch's product is the faster one."""

    def says(torch_is_faster: bool) -> None:
        monkeypatch.setattr(
            product,
            "_seconds",
            lambda multiply, x, w: float((multiply is product._fp32_blas) == torch_is_faster),
        )

    return says


def right(a, b):
    return a.int() @ b.int()


CODES = np.full((32, 64), 127, np.int8), np.full((64, 8), 127, np.int8)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_int_mm_is_not_used(monkeypatch, timed, name):
    monkeypatch.setattr(torch, "_int_mm", WRONG[name])
    timed(torch_is_faster=True)
    sums, route = product.integer_product(*CODES, TENSOR)
    assert route == "fp32 BLAS"
    assert (sums == 127 * 127 * 64).all()


def test_a_right_int_mm_is_used_for_tensors_and_proved_once(monkeypatch, timed):
    calls = []

    def int_mm(a, b):
        calls.append(a.shape)
        return right(a, b)

    monkeypatch.setattr(torch, "_int_mm", int_mm)
    timed(torch_is_faster=True)
    x, w = CODES
    expected, route = product.integer_product(x, w, x)
    assert (route, calls) == ("fp32 BLAS", [])
    for _ in range(2):
        sums, route = product.integer_product(x, w, TENSOR)
        assert (route, calls[-1]) == ("torch._int_mm", x.shape)
        np.testing.assert_array_equal(sums, expected)
    assert calls.count(x.shape) == 2
    assert product.integer_product(x[:15], w, TENSOR)[1] == "fp32 BLAS"


def test_a_slow_or_missing_int_mm_is_not_used(monkeypatch, timed):
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b))
    timed(torch_is_faster=False)
    assert product.integer_product(*CODES, TENSOR)[1] == "fp32 BLAS"
    monkeypatch.delattr(torch, "_int_mm")
    assert product.integer_product(*CODES, TENSOR)[1] == "fp32 BLAS"


def in_bf16(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) @ w.astype(np.float32)).astype(BF16).astype(np.int32)


def test_a_blas_that_rounds_is_not_used(monkeypatch):
    wrong = product.Route("fp32 BLAS", in_bf16)
    for left in (product.ROUTES[1:], product.ROUTES[2:]):
        monkeypatch.setattr(product, "ROUTES", (wrong, *left))
        sums, route = product.integer_product(*CODES, CODES[0])
        assert route == left[0].name
        assert (sums == 127 * 127 * 64).all()


def test_the_bounds_of_columns_are_the_last():
    assert 127 * 127 * product.FP32_COLUMNS <= 2**24 < 127 * 127 * (product.FP32_COLUMNS + 1)
    assert product.INT32_COLUMNS == 133_144
    assert 127 * 127 * 133_144 < 2**31 <= 127 * 127 * 133_145
