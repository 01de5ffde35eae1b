"""A format's values as a grid: exact.py over every code, NumPy and ml_dtypes as witnesses."""

import functools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import exact
from strategies import codes

torch = pytest.importorskip("torch")

NARROW = [fmt for fmt in ff.formats() if fmt.bits <= 8] + [
    ff.p3109(8, p, signed, extended)
    for p in range(1, 9)
    for signed in (True, False)
    for extended in (True, False)
    if p < 8 + (not signed)
]
LISTED = [*NARROW, *map(ff.format, ("fp16", "bf16"))]
WIDE = [ff.format(name) for name in ("fp64", "fp32", "tf32")]
NUMPY = [ff.format(name) for name in ("fp64", "fp32", "fp16")]
PEERS = [fmt for fmt in NARROW if hasattr(ml_dtypes, str(fmt.dtype)) and not fmt.is_integer]


@functools.cache
def all_values(fmt):
    """The value of every code, as float64."""
    return np.array([float(exact.decode(code, fmt)) for code in range(2**fmt.bits)])


@functools.cache
def finite_values(fmt):
    decoded = (exact.decode(code, fmt) for code in range(2**fmt.bits))
    return sorted({float(x) + 0.0 for x in decoded if x - x == 0})


def assert_same(result, expected):
    """Equal numbers, NaN = NaN, and zeros of one sign."""
    np.testing.assert_array_equal(result, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[number], np.signbit(expected)[number])


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", LISTED, ids=str)
def test_values_are_those_of_all_finite_codes_in_order_and_zero_once(fmt):
    result = ff.values(fmt)
    assert result.dtype == fmt.value_dtype
    assert result.astype(np.float64).tolist() == finite_values(fmt)
    assert not np.signbit(result[result == 0]).any()


def test_values_of_wide_formats_are_refused():
    with pytest.raises(ValueError, match="tf32 has 19 bits; values lists .* at most 16"):
        ff.values("tf32")


# --- spacing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", LISTED, ids=str)
def test_spacing_at_every_value_is_the_ulp_of_its_code(fmt, backend):
    expected = [
        float(exact.ulp(code, fmt)) if exact.is_finite(code, fmt) else np.nan
        for code in range(2**fmt.bits)
    ]
    np.testing.assert_array_equal(ff.spacing(fmt, all_values(fmt)), expected)


@pytest.mark.parametrize("fmt", NARROW, ids=str)
def test_spacing_is_the_distance_to_the_next_larger_magnitude(fmt):
    up = [x for x in finite_values(fmt) if x >= 0]
    np.testing.assert_array_equal(ff.spacing(fmt, up[:-1]), np.diff(up))
    between = (np.array(up[:-1]) + up[1:]) / 2
    np.testing.assert_array_equal(ff.spacing(fmt, between), np.diff(up))


@pytest.mark.parametrize("fmt", NUMPY, ids=str)
@given(data=st.data())
def test_spacing_is_numpys_but_positive(fmt, data):
    value = np.array([data.draw(codes(fmt))], fmt.code_dtype).view(fmt.dtype)
    with np.errstate(all="ignore"):
        expected = np.spacing(np.abs(value)).astype(np.float64)
    if abs(value) == np.finfo(fmt.dtype).max:  # NumPy's next value is Inf
        expected = np.array([float(exact.ulp(fmt.max_code, fmt))])
    np.testing.assert_array_equal(ff.spacing(fmt, value), expected)


def test_there_is_no_spacing_beyond_the_finite_values():
    beyond = [448.5, -500, 1e300, np.inf, -np.inf, np.nan]
    assert np.isnan(ff.spacing("fp8_e4m3fn", beyond)).all()
    assert np.isnan(ff.spacing("uint8", [-1.0, 256])).all()
    assert np.isnan(ff.spacing("fp8_e8m0fnu", [0.0, -1.0])).all()
    assert ff.spacing("int8", [-128, 127]).tolist() == [1, 1]


# --- representable ------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", LISTED, ids=str)
def test_every_value_is_representable_and_none_between_or_beyond(fmt, backend):
    assert ff.representable(all_values(fmt), fmt).all()
    finite = np.array(finite_values(fmt))
    assert not ff.representable((finite[:-1] + finite[1:]) / 2, fmt).any()
    beyond = [finite[0] - 2.0**-60 - abs(finite[0]) / 64, finite[-1] * (1 + 2.0**-20)]
    assert not ff.representable(beyond, fmt).any()


@pytest.mark.parametrize("fmt", NARROW, ids=str)
def test_infinities_nan_and_zeros_are_representable_where_the_format_has_them(fmt):
    has = all_values(fmt)
    for x in (np.inf, -np.inf, 0.0):
        assert ff.representable(x, fmt) is bool((has == x).any())
    assert ff.representable(np.nan, fmt) is bool(np.isnan(has).any())
    assert ff.representable(-0.0, fmt) is fmt.zero


@pytest.mark.parametrize("fmt", [*LISTED, *WIDE], ids=str)
@given(data=st.data())
def test_representable_is_that_rounding_changes_nothing(fmt, data):
    value = exact.decode(data.draw(codes(ff.format("fp64"))), ff.format("fp64"))
    if value != value:
        return
    there_and_back = exact.decode(exact.encode(value, fmt), fmt)
    assert ff.representable(float(value), fmt) is (there_and_back == value)


# --- neighbours ---------------------------------------------------------------------------------

STEPS = [(ff.next_up, exact.next_up, np.inf), (ff.next_down, exact.next_down, -np.inf)]


@pytest.mark.parametrize(("step", "definition", "_"), STEPS)
@pytest.mark.parametrize("fmt", LISTED, ids=str)
def test_neighbours_of_every_code_are_the_definitions(fmt, step, definition, _, backend):
    expected = all_values(fmt)[[definition(code, fmt) for code in range(2**fmt.bits)]]
    assert_same(step(all_values(fmt), fmt), expected)


@pytest.mark.parametrize(("step", "definition", "_"), STEPS)
@pytest.mark.parametrize("fmt", WIDE, ids=str)
@given(data=st.data())
def test_neighbours_in_wide_formats_are_the_definitions(fmt, step, definition, _, data):
    code = data.draw(codes(fmt))
    value, expected = (float(exact.decode(c, fmt)) for c in (code, definition(code, fmt)))
    assert_same(np.array(step(value, fmt)), np.array(expected))


@pytest.mark.parametrize(("step", "_", "towards"), STEPS)
@pytest.mark.parametrize("fmt", NUMPY, ids=str)
def test_neighbours_are_numpys(fmt, step, _, towards):
    bits = np.random.default_rng(1).integers(0, 2**fmt.bits, 50_000, fmt.code_dtype)
    x = bits.view(fmt.dtype)
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore", under="ignore"):
        assert_same(step(x), np.nextafter(x, x.dtype.type(towards)))


@pytest.mark.parametrize("fmt", [*PEERS, ff.format("bf16")], ids=str)
def test_neighbours_are_ml_dtypes_where_both_have_them(fmt):
    x = np.arange(2**fmt.bits).astype(fmt.code_dtype).view(fmt.dtype)
    wide = x.astype(np.float32)
    for step, _, towards in STEPS:
        to = towards if fmt.infinity else np.copysign(float(fmt.max_finite), towards)
        if not fmt.signed:
            to = max(to, float(fmt.lowest))
        # ml_dtypes steps from one zero to the smallest value, but into -0 never.
        inner = np.isfinite(wide) & (wide != np.float32(to))
        with np.errstate(invalid="ignore"):
            expected = np.nextafter(x, np.full_like(x, to)).astype(np.float32)
        result = step(x)
        assert result.dtype == x.dtype
        np.testing.assert_array_equal(result.astype(np.float32)[inner], expected[inner])


def test_a_nan_keeps_every_bit():
    bits = np.array([0x7F800001, 0xFFC12345, 0x7FFFFFFF], np.uint32)
    assert ff.next_up(bits.view(np.float32)).view(np.uint32).tolist() == bits.tolist()
    own = np.uint8([0x7D, 0xFE]).view(ml_dtypes.float8_e5m2)
    assert ff.next_down(own).view(np.uint8).tolist() == [0x7D, 0xFE]


def test_steps_in_a_narrower_format_keep_the_arrays_dtype_and_kind():
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        x = np.ones(1, dtype)
        result = ff.next_up(x, "fp4_e2m1fn")
        assert (result.dtype, float(result[0])) == (x.dtype, 1.5)
    tensor = ff.next_up(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [1.0078125, -1.9921875]
    tensor = ff.next_up(torch.tensor([1.0]).to(torch.float8_e4m3fn))
    assert (tensor.dtype, tensor.float().item()) == (torch.float8_e4m3fn, 1.125)
    assert ff.next_down(torch.tensor([-128, 5], dtype=torch.int8)).tolist() == [-128, 4]


def test_scalars_give_scalars():
    result = ff.next_up(np.float32(1.0), "bf16")
    assert isinstance(result, np.float32)
    assert result == 1.0078125
    assert ff.next_up(1, "fp16") == 1.0009765625
    assert type(ff.next_up(1, "fp16")) is type(ff.spacing("fp16", 1)) is float
    assert ff.spacing("fp16", np.float64(1)) == 2**-10
    assert type(ff.ulp_distance(1.0, 2.0, "fp16")) is int


def test_an_array_dtype_that_does_not_hold_the_format_is_refused():
    with pytest.raises(ValueError, match="float16 does not hold every value of bf16; cast x"):
        ff.next_up(np.float16([1.0]), "bf16")
    own = np.array([240.0]).astype(ml_dtypes.float8_e4m3fn)
    with pytest.raises(ValueError, match="float8_e4m3fn does not hold every value of fp8_e4m3;"):
        ff.next_up(own, "fp8_e4m3")  # above its 240 is Inf


@pytest.mark.parametrize("function", [ff.next_up, ff.next_down])
def test_a_value_off_the_grid_is_named(function):
    x = np.ones((300, 400), np.float32)
    x[250, 7] = 0.1
    with pytest.raises(ValueError, match=r"^x\[250, 7\] is 0.1000\d+, which is no value of bf16"):
        function(x, "bf16")
    with pytest.raises(ValueError, match="^x is nan, which is no value of fp4_e2m1fn"):
        function(np.nan, "fp4_e2m1fn")
    with pytest.raises(ValueError, match="int64 is no floating-point format"):
        function([1, 2])


# --- distances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", NARROW, ids=str)
def test_the_distance_of_every_pair_is_that_of_their_ranks(fmt, backend):
    x = all_values(fmt)
    x = x[~np.isnan(x)]
    ranks = np.searchsorted(np.unique(x), x)
    result = ff.ulp_distance(x[:, None], x[None, :], fmt)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, ranks[None, :] - ranks[:, None])


@pytest.mark.parametrize("fmt", WIDE, ids=str)
@given(data=st.data())
def test_a_step_up_is_a_distance_of_1(fmt, data):
    code = data.draw(codes(fmt))
    value, above = (float(exact.decode(c, fmt)) for c in (code, exact.next_up(code, fmt)))
    assert ff.ulp_distance(value, above, fmt) == int(above != value and value == value)


def test_nan_is_no_distance_from_nan_and_none_from_a_number():
    nans = np.uint32([0x7FC00000, 0xFF800001]).view(np.float32)
    assert ff.ulp_distance(nans, nans[::-1]).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"^a\[1\] is nan and b\[1\] is 2.0, no number of steps"):
        ff.ulp_distance(np.float32([1, np.nan]), np.float32([1, 2]))


def test_a_distance_beyond_int64_is_refused_and_the_largest_within_it_is_not():
    assert ff.ulp_distance(-1.0, 1.0) == 2 * 0x3FF0_0000_0000_0000
    with pytest.raises(ValueError, match=r"a\[1\] is -1e\+300 and b\[1\] is 1e\+300, too far"):
        ff.ulp_distance([0.0, -1e300], [0.0, 1e300])
    with pytest.raises(AssertionError, match="18,437,736,874,454,810,623 ulp"):
        ff.assert_max_ulp(float(-ff.format("fp64").max_finite), np.inf, max_ulp=10**18)


def test_shapes_broadcast_or_are_refused():
    assert ff.ulp_distance(1.0, [1.0, 1.5, 2.0], "bf16").tolist() == [0, 64, 128]
    with pytest.raises(ValueError, match=r"a and b must have one shape, got \(2,\) and \(3,\)"):
        ff.ulp_distance([1.0, 2.0], [1.0, 2.0, 3.0], "bf16")
    with pytest.raises(ValueError, match=r"^b\[1\] is 0.3, which is no value of fp16; round it"):
        ff.ulp_distance([1.0, 2.0], [1.0, 0.3], "fp16")


# --- assert_max_ulp -----------------------------------------------------------------------------


def test_assert_max_ulp_says_where_what_and_how_many():
    desired = np.ones((3, 100_000), ml_dtypes.bfloat16)
    actual = desired.copy()
    actual[0, 5] = 1.0078125
    actual[2, 99_999] = 0.5
    actual[1, 3] = 1.03125
    ff.assert_max_ulp(actual, desired, max_ulp=128)
    with pytest.raises(AssertionError) as caught:
        ff.assert_max_ulp(actual, desired)
    assert str(caught.value) == (
        "2 of 300,000 values of bf16 are more than 1 ulp apart (3 differ at all)\n"
        "worst: actual[2, 99999] = 0.5 (0x3F00), desired[2, 99999] = 1.0 (0x3F80), 128 ulp"
    )


def test_assert_max_ulp_takes_nan_for_nan_and_nothing_else():
    ff.assert_max_ulp([np.nan, 1.0], [np.nan, 1.0], "fp16", max_ulp=0)
    with pytest.raises(
        AssertionError, match=r"worst: actual\[1\] = nan \(0x7E00\), desired\[1\] = 1"
    ):
        ff.assert_max_ulp(np.float16([1, np.nan]), np.float16([5, 1]), max_ulp=10**30)


def judges(limit):
    yield functools.partial(np.testing.assert_array_max_ulp, maxulp=limit)
    yield functools.partial(ff.assert_max_ulp, max_ulp=limit)


@given(st.data())
def test_assert_max_ulp_judges_as_numpys_does(data):
    fmt = ff.format("fp32")
    bits = data.draw(codes(fmt))
    steps = data.draw(st.integers(-3, 3))
    x = np.array([bits], np.uint32).view(np.float32)
    y = np.array([(bits + steps) % 2**32], np.uint32).view(np.float32)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or 0 in (x, y):
        return
    for limit in (0, 1, 2, 3):
        verdicts = []
        for judge in judges(limit):
            try:
                judge(x, y)
                verdicts.append(True)
            except AssertionError:
                verdicts.append(False)
        assert verdicts[0] == verdicts[1]


def test_assert_max_ulp_refuses_a_limit_below_0():
    with pytest.raises(ValueError, match="max_ulp must be 0 or more, got -1"):
        ff.assert_max_ulp(1.0, 1.0, max_ulp=-1)


# --- arrays of every kind -----------------------------------------------------------------------

DISGUISES = {
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "torch": torch.from_numpy,
    "broadcast": lambda x: np.broadcast_to(x, (1, *x.shape))[0],
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_strides_byte_order_and_kind_change_nothing(disguise, backend):
    x = np.float32([[1.0, -3.5, 0.0], [-0.0, np.inf, 2.0**-133]])
    y = DISGUISES[disguise](x)
    for ask in (
        ff.next_up,
        functools.partial(ff.next_down, format="bf16"),
        functools.partial(ff.spacing, "bf16"),
        functools.partial(ff.representable, format="fp16"),
        lambda a: ff.ulp_distance(a, 1.0),
    ):
        result = ask(y)
        assert isinstance(result, torch.Tensor) == (disguise == "torch")
        assert_same(np.asarray(result), ask(x))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 70_000)])
def test_every_shape_comes_back(shape, backend):
    x = np.full(shape, 1.5, np.float32)
    results = (
        ff.next_up(x, "bf16"),
        ff.spacing("bf16", x),
        ff.representable(x, "bf16"),
        ff.ulp_distance(x, x),
    )
    assert [result.shape for result in results] == [shape] * 4
    ff.assert_max_ulp(x, x)


def test_flushing_subnormals_changes_nothing(level):
    x = np.arange(-300, 300, dtype=np.int32).astype(np.uint32).view(np.float32)
    x = np.where(np.isnan(x), np.float32(0), x)
    tiny = np.arange(600, dtype=np.uint32).view(np.float32)

    def ask():
        results = (ff.next_up(tiny), ff.spacing("fp32", tiny), ff.ulp_distance(tiny, tiny[::-1]))
        return [result.tobytes() for result in results]

    with ff.use_backend(level):
        expected = ask()
        assert torch.set_flush_denormal(True)
        try:
            result = ask()
        finally:
            torch.set_flush_denormal(False)
    assert result == expected
