"""decompose, compose, encode, decode, round_to: arrays of every kind, on every backend."""

from fractions import Fraction

import array_api_strict as strict
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt import arrays, interop
from floatfmt.rounding import rules
from strategies import ALL_FORMATS, code_arrays, value_arrays

torch = pytest.importorskip("torch")

VALUES = np.float32([[0.1, -3.5, 65520.0, 1e-8], [np.inf, -0.0, np.nan, 2.0**-149]])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


#: One array of values in every disguise that must not change a result.
DISGUISES = {
    "contiguous": lambda x: x.copy(),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big-endian and strided": lambda x: np.repeat(x, 3, axis=0).astype(">f4")[::3],
    "read-only": lambda x: _read_only(x.copy()),
    "unaligned": lambda x: _unaligned(x),
    "broadcast": lambda x: np.broadcast_to(x, (1, *x.shape))[0],
}


def _read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def _unaligned(x: np.ndarray) -> np.ndarray:
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    view = buffer[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize("disguise", DISGUISES)
def test_strides_byte_order_and_flags_change_no_bit(backend, disguise):
    x = DISGUISES[disguise](VALUES)
    assert same_bits(ff.encode(x, "fp16"), ff.encode(VALUES, "fp16"))
    assert same_bits(ff.round_to(x, "bf16"), ff.round_to(VALUES, "bf16"))
    assert ff.decompose(x) == ff.decompose(VALUES)
    codes = DISGUISES[disguise](VALUES).view(x.dtype.str.replace("f", "u"))
    assert same_bits(ff.decode(codes, "fp32"), VALUES)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1)])
def test_every_shape_comes_back(backend, shape):
    x = np.full(shape, 1.5, np.float32)
    codes = ff.encode(x, "bf16")
    assert codes.shape == ff.decode(codes, "bf16").shape == ff.round_to(x, "bf16").shape == shape
    fields = ff.decompose(x)
    assert fields.sign.shape == fields.significand.shape == fields.category.shape == shape
    assert same_bits(ff.compose(fields), x.view(np.uint32))


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_decode_then_encode_is_identity_and_nans_turn_quiet(fmt, data):
    codes = data.draw(code_arrays(fmt))
    again = ff.encode(ff.decode(codes, fmt), fmt)
    nan = (codes & fmt.code_dtype.type(fmt.magnitude_mask)) > fmt.max_code + fmt.infinity
    quiet = np.where(nan, codes | fmt.code_dtype.type(fmt.quiet_bit), codes)
    np.testing.assert_array_equal(again, quiet)


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_compose_undoes_decompose(fmt, data):
    codes = data.draw(code_arrays(fmt))
    fields = ff.decompose(codes, fmt)
    assert same_bits(ff.compose(fields), codes)
    assert same_bits(ff.compose((fields.sign, fields.exponent, fields.fraction), fmt), codes)


@given(st.sampled_from(["fp16", "bf16", "tf32", "fp32"]), st.data())
def test_round_to_is_decode_of_encode_and_idempotent(name, data):
    x = data.draw(value_arrays(np.dtype(np.float64), ff.format(name)))
    rounded = ff.round_to(x, name)
    assert same_bits(rounded, ff.decode(ff.encode(x, name), name, dtype=np.float64))
    assert same_bits(ff.round_to(rounded, name), rounded)


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("float64", "fp16", np.float16),
        ("float32", "fp16", np.float16),
        ("float32", "bf16", ml_dtypes.bfloat16),
        ("float64", "fp32", np.float32),
    ],
)
def test_encode_agrees_with_numpy_and_ml_dtypes_where_they_round_once(source, target, wanted):
    rng = np.random.default_rng(0)
    fmt = ff.format(source)
    bits = rng.integers(0, 2**fmt.bits, 1 << 18, dtype=np.uint64).astype(fmt.code_dtype)
    near = rng.normal(size=1 << 18) * 2.0 ** rng.integers(-30, 17, 1 << 18)
    x = np.concatenate([bits.view(source), near.astype(source)])
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(wanted)
    assert same_bits(ff.encode(x, target), expected.view(ff.format(target).code_dtype))


@pytest.mark.parametrize("target", ["fp16", "bf16"])
def test_encode_agrees_with_torch_from_fp32(target):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2**32, 1 << 18, dtype=np.uint32).view(np.float32)
    x = x[~np.isnan(x)]
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[target]
    expected = torch.from_numpy(x).to(dtype).view(torch.int16).numpy().view(np.uint16)
    assert same_bits(ff.encode(x, target), expected)


@pytest.mark.parametrize(
    ("target", "x", "code"),
    [("fp16", 1 + 2**-11 + 2**-40, 0x3C01), ("bf16", 1 + 2**-8 + 2**-40, 0x3F81)],
)
def test_fp64_is_rounded_once_where_others_round_through_fp32(backend, target, x, code):
    assert ff.encode(np.float64([x]), target) == [code]
    assert ff.encode(np.float64([x]).astype(np.float32), target) == [code - 1]


def test_who_rounds_once_and_who_through_fp32():
    """What the README says of NumPy, ml_dtypes and torch, at the versions the tests pin."""
    fp16, bf16 = np.float64([1 + 2**-11 + 2**-40]), np.float64([1 + 2**-8 + 2**-40])
    assert fp16.astype(np.float16).view(np.uint16) == ff.encode(fp16, "fp16")
    assert bf16.astype(ml_dtypes.bfloat16).view(np.uint16) == ff.encode(bf16, "bf16") - 1
    for x, dtype in ((fp16, torch.float16), (bf16, torch.bfloat16)):
        code = torch.from_numpy(x).to(dtype).view(torch.int16).numpy()
        assert code == ff.encode(x, dtype).astype(int) - 1


def test_signs_subnormals_thresholds_and_nans_go_where_the_docstring_says(backend):
    smallest = 2.0**-24
    cases = {
        -0.0: 0x8000,
        smallest / 2: 0x0000,
        np.nextafter(smallest / 2, 1): 0x0001,
        smallest * 1023.5: 0x0400,
        65519.99: 0x7BFF,
        65520.0: 0x7C00,
        -np.inf: 0xFC00,
    }
    assert ff.encode(np.array(list(cases)), "fp16").tolist() == list(cases.values())
    nans = np.uint32([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x7FC12345]).view(np.float32)
    assert [hex(c) for c in ff.encode(nans, "bf16")] == ["0x7fc0", "0xffc0", "0x7fff", "0x7fc1"]
    assert ff.decode(np.uint16([0x7C01]), "fp16").view(np.uint32) == [0x7F802000]


def test_decode_chooses_float32_unless_a_value_does_not_fit():
    assert ff.decode(np.uint32([1]), "tf32").dtype == np.float32
    assert ff.decode(np.uint64([1]), "fp64").dtype == np.float64
    wide = ff.Format("wide", 9, 4)
    assert ff.decode(np.uint16([1]), wide).dtype == np.float64
    with pytest.raises(ValueError, match="float32 does not hold the normals of wide as normals"):
        ff.decode(np.uint16([1]), wide, dtype=np.float32)
    with pytest.raises(ValueError, match="decode gives float32 or float64, got dtype="):
        ff.decode(np.uint16([1]), "bf16", dtype=np.float16)


def test_round_to_copies_what_is_already_a_value_of_the_format():
    x = np.float16([0.1, np.inf])
    assert same_bits(ff.round_to(x, "tf32"), x)
    assert ff.round_to(x, "fp64") is not x
    with pytest.raises(ValueError, match="fp16 does not hold every value of bf16"):
        ff.round_to(x, "bf16")


def test_round_to_copies_nothing_that_the_format_lacks():
    """A wider format without Inf, or without -0, is no reason to copy them."""
    x = np.float16([np.inf, -0.0])
    without_inf = ff.Format("e8m22 without Inf", 8, 22, infinity=False, nan=None)
    without_minus_zero = ff.Format("e8m22 without -0", 8, 22, nan="negative_zero")
    for fmt in (without_inf, without_minus_zero):
        with pytest.raises(ValueError, match="fp16 does not hold every value of e8m22"):
            ff.round_to(x, fmt)
        assert ff.representable(ff.round_to(x.astype(np.float64), fmt), fmt).all()


def test_round_to_works_within_narrow_dtypes(backend):
    e5m2 = ff.Format("e5m2", 5, 2)
    assert same_bits(ff.round_to(np.float16([1.1, 70.0]), e5m2), np.float16([1.0, 64.0]))


def test_codes_may_be_any_integers():
    assert ff.decode(np.array([0x3C00]), "fp16").tolist() == [1.0]
    assert ff.decode([], "fp16").shape == (0,)
    assert ff.decode([0x3C00, 0xC000], "fp16").tolist() == [1.0, -2.0]
    assert ff.decode(0x7E, "fp8_e4m3fn") == 448


# --- rules --------------------------------------------------------------------------------------

NANS = np.uint32([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF]).view(np.float32)


@pytest.mark.parametrize(
    ("fmt", "arguments", "x", "codes"),
    [
        # The switch from 448 lies at 464, not at 448: a tie goes to the even code.
        ("fp8_e4m3fn", {}, [464, 464.01, 1e9, np.inf, -1000], [0x7E, 0x7F, 0x7F, 0x7F, 0xFF]),
        ("fp8_e4m3fn", {"overflow": "saturate"}, [465, np.inf, -np.inf], [0x7E, 0x7E, 0xFE]),
        ("fp8_e5m2", {}, [61439, 61440, np.inf], [0x7B, 0x7C, 0x7C]),
        ("fp8_e5m2", {"overflow": "saturate"}, [1e6, -np.inf], [0x7B, 0xFB]),
        ("fp8_e5m2", {"overflow": "nan"}, [1e6, np.inf], [0x7E, 0x7C]),
        ("fp8_e4m3fnuz", {}, [1e6, -np.inf, -0.0, -1e-9, np.nan], [0x80, 0x80, 0, 0, 0x80]),
        ("fp4_e2m1fn", {}, [0.25, 0.26, -7, np.inf, -np.inf], [0, 1, 15, 7, 15]),
        ("fp4_e2m1fn", {"nan": "zero"}, [np.nan, -np.nan], [0, 0]),
        ("fp4_e2m1fn", {"nan": "largest"}, [np.nan, -np.nan], [7, 7]),
        # Ties of one-bit significands go to the even code; others take the larger value.
        ("fp8_e8m0fnu", {}, [3, 6, 1, 2.0**-149, 3.4e38], [128, 130, 127, 0, 255]),
        ("fp8_e8m0fnu", {"rounding": "nearest_away"}, [3, 6], [129, 130]),
        ("fp8_e8m0fnu", {}, [0.0, -0.0, -1.0, -np.inf, np.nan], [255] * 5),
        ("fp8_e8m0fnu", {"overflow": "saturate"}, [0.0, -5.0, np.inf], [0, 0, 254]),
        ("fp8_ue4m3", {}, [-1.0, -0.0, -1e-9, 500], [0x7F, 0, 0, 0x7F]),
        ("fp8_ue4m3", {"rounding": "toward_zero"}, [-1.0, 500], [0, 0x7E]),
        ("int8", {}, [126.5, 127.5, 200, -128.5, -129, -0.0], [126, 127, 127, 128, 128, 0]),
        ("int4", {}, [-3, 2.5, 3.5, 99], [13, 2, 4, 7]),
        ("uint8", {}, [-1, 254.5, 255.5], [0, 254, 255]),
        ("mxint8", {}, [1.984375, 2.0, -2.0, 1 / 128], [127, 127, 128, 0]),
        # Directed modes never overflow away from their direction.
        ("fp16", {"rounding": "toward_zero"}, [1e9, -1e9, np.inf], [0x7BFF, 0xFBFF, 0x7C00]),
        ("fp16", {"rounding": "toward_positive"}, [65505, -1e9], [0x7C00, 0xFBFF]),
        ("fp16", {"rounding": "toward_positive"}, [1e-9, -1e-9], [1, 0x8000]),
        ("fp16", {"rounding": "toward_negative"}, [65505, -1e9], [0x7BFF, 0xFC00]),
        ("fp16", {"rounding": "to_odd"}, [1e9, 1, 1 + 2**-20, 1e-30], [0x7BFF, 0x3C00, 0x3C01, 1]),
        ("fp16", {"subnormals": "flush"}, [2.0**-15, -(2.0**-15), 2.0**-14], [0, 0x8000, 0x0400]),
        # Half of the smallest subnormal is a tie to zero; what rounds up to a normal is kept.
        ("fp16", {"subnormals": "flush"}, [2.0**-14 * (1 - 2**-12)], [0x0400]),
    ],
)  # fmt: skip
def test_each_rule_gives_the_codes_that_its_docstring_says(backend, fmt, arguments, x, codes):
    for dtype in (np.float32, np.float64):
        assert ff.encode(np.array(x, dtype), fmt, **arguments).tolist() == codes


@pytest.mark.parametrize(
    ("fmt", "nan", "codes"),
    [
        ("fp16", "quiet", [0x7E00, 0xFE00, 0x7E00, 0xFFFF]),
        ("fp16", "preserve", [0x7E00, 0xFE00, 0x7C01, 0xFFFF]),
        ("fp16", "canonical", [0x7E00] * 4),
        ("bf16", "preserve", [0x7FC0, 0xFFC0, 0x7F81, 0xFFFF]),
        ("fp8_e4m3fn", "quiet", [0x7F, 0xFF, 0x7F, 0xFF]),
        ("fp8_e5m2", "quiet", [0x7E, 0xFE, 0x7E, 0xFF]),
        ("fp8_e5m2", "zero", [0] * 4),
        ("fp16", "largest", [0x7BFF] * 4),
    ],
)
def test_a_nan_never_becomes_inf_or_a_number_that_was_not_asked_for(backend, fmt, nan, codes):
    assert ff.encode(NANS, fmt, nan=nan).tolist() == codes
    assert ff.encode(np.concatenate([VALUES[0], NANS]), fmt, nan=nan)[4:].tolist() == codes


def test_numpys_fp16_cast_preserves_nans_as_preserve_does(backend):
    patterns = np.uint32(0x7F800000) + np.arange(1, 2**23, 997, dtype=np.uint32)
    x = np.concatenate([patterns, patterns | np.uint32(1 << 31)]).view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(ff.encode(x, "fp16", nan="preserve"), expected)


@pytest.mark.parametrize("bad", ["int8", "fp6_e3m2fn", "uint4"])
def test_a_nan_without_a_code_is_an_error_that_names_the_first(backend, bad):
    x = np.ones((3000, 3), np.float32)
    x[2100, 2] = np.nan
    for values in (x, x[::-1][::-1], x.astype(np.float64), np.asfortranarray(x)):
        with pytest.raises(
            ValueError, match=rf"x\[2100, 2\] is nan, and {bad} has no NaN; nan='zer"
        ):
            ff.encode(values, bad)
        with pytest.raises(ValueError, match=r"x\[2100, 2\] is nan"):
            ff.round_to(values, bad)
    with pytest.raises(ValueError, match=r"x\[2100, 2\] is nan, and nan='error'"):
        ff.encode(x, "fp16", nan="error")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounding": "nearest"}, "no rounding mode is called 'nearest'; nearest: nearest_"),
        (
            {"overflow": "saturated"},
            "overflow='saturated' is not known; nearest: saturate; known: iee",
        ),
        ({"nan": "quite"}, "nan='quite' is not known; nearest: quiet"),
        ({"subnormals": "ftz"}, "subnormals='ftz' is not known; known: keep, flush"),
        ({"rounding": "stochastic", "seed": -1}, r"seed must lie in 0 to 2\*\*64 - 1, got -1"),
    ],
)
def test_an_unknown_rule_names_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        ff.encode(VALUES, "fp16", **arguments)


def test_rules_that_a_format_cannot_follow_are_refused():
    with pytest.raises(ValueError, match="overflow='nan': fp4_e2m1fn has no NaN"):
        ff.encode(VALUES, "fp4_e2m1fn", overflow="nan")
    with pytest.raises(ValueError, match="nan='zero': fp8_e8m0fnu has no zero"):
        ff.encode(VALUES, "fp8_e8m0fnu", nan="zero")
    with pytest.raises(TypeError, match=r"a format is a name.*got list \['fp16'\]"):
        ff.encode(VALUES, ["fp16"])


def test_ieee_names_of_the_modes_are_aliases():
    names = ("TiesToEven", "TiesToAway", "TowardZero", "TowardPositive", "TowardNegative")
    for name, mode in zip(names, ff.Rounding, strict=False):
        assert ff.rounding_mode(f"round{name}") is mode
        np.testing.assert_array_equal(
            ff.encode(VALUES, "fp16", rounding=f"round{name}"),
            ff.encode(VALUES, "fp16", rounding=mode.value),
        )


# --- stochastic rounding ------------------------------------------------------------------------


def test_a_seed_gives_the_same_codes_however_the_array_lies_in_memory(backend):
    x = np.random.default_rng(2).normal(size=(700, 30)).astype(np.float32)
    codes = ff.encode(x, "fp8_e4m3fn", rounding="stochastic", seed=9)
    for disguise in DISGUISES.values():
        again = ff.encode(disguise(x), "fp8_e4m3fn", rounding="stochastic", seed=9)
        np.testing.assert_array_equal(again, codes)
    wide = ff.encode(x.astype(np.float64), "fp8_e4m3fn", rounding="stochastic", seed=9)
    np.testing.assert_array_equal(wide, codes)
    assert (ff.encode(x, "fp8_e4m3fn", rounding="stochastic", seed=10) != codes).any()
    fresh = [ff.encode(x, "fp8_e4m3fn", rounding="stochastic") for _ in range(2)]
    assert (fresh[0] != fresh[1]).any()


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("place", [1 / 3, 0.001, 0.5, 0.96875])
@pytest.mark.parametrize("base", [1.0, -24.0, 2.0**-9])
def test_stochastic_rounding_is_right_on_average(source, place, base):
    """Of n draws, those that go up are binomial: within five standard deviations of n * place."""
    n, step = 400_000, ff.exact.ulp(ff.exact.encode(base, E4M3FN), E4M3FN)
    x = np.full(n, base + np.sign(base) * place * float(step), source)
    exact_place = float((abs(ff.inspect(float(x[0])).value) - abs(ff.inspect(base).value)) / step)
    up = ff.encode(x, E4M3FN, rounding="stochastic", seed=1) != ff.encode(base, E4M3FN)
    deviation = (n * exact_place * (1 - exact_place)) ** 0.5
    assert abs(int(up.sum()) - n * exact_place) < 5 * deviation
    # Neighbours in the stream are independent: as many pairs agree as chance has it.
    agree = int((up[1:] == up[:-1]).sum())
    chance = exact_place**2 + (1 - exact_place) ** 2
    assert abs(agree - n * chance) < 5 * (n * chance * (1 - chance)) ** 0.5 + 2


@pytest.mark.parametrize("seed", range(20))
def test_the_discarded_fraction_counts_by_its_leading_32_bits(backend, seed):
    """Up where word + floor(fraction * 2^32) reaches 2^32: on either side of just that."""
    fp16 = ff.format("fp16")
    word = ff.exact.random_word(seed, 0)
    for leading, up in ((2**32 - 1 - word, 0), (2**32 - word, 1)):
        if leading < 2**32:
            fraction = leading * 2.0**-32 + 2.0**-42  # more bits than 32, which do not count
            x = 1 + fraction * 2.0**-10
            code = ff.encode(np.float64([x]), fp16, rounding="stochastic", seed=seed)
            assert code == [0x3C00 + up]
            how = rules(fp16, "stochastic")
            assert ff.exact.encode(Fraction(x), fp16, how, word) == code


def test_stochastic_rounding_leaves_exact_values_alone(backend):
    codes = np.arange(256, dtype=np.uint8)
    again = ff.encode(
        ff.decode(codes, "fp8_e4m3"), "fp8_e4m3", rounding="stochastic", nan="preserve"
    )
    np.testing.assert_array_equal(again, codes)


E4M3FN = ff.format("fp8_e4m3fn")


# --- packing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["low_first", "high_first"])
@pytest.mark.parametrize("fmt", [f for f in ALL_FORMATS if f.bits <= 8], ids=str)
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8,), (3, 5), (2, 3, 64)])
def test_unpack_undoes_pack(backend, fmt, order, shape):
    codes = np.random.default_rng(1).integers(0, 2**fmt.bits, shape).astype(np.uint8)
    packed = ff.pack(codes, fmt, order=order)
    n = shape[-1]
    assert packed.shape == (*shape[:-1], -(-n * fmt.bits // 8))
    np.testing.assert_array_equal(ff.unpack(packed, fmt, n, order=order), codes)
    assert fmt.bits > 6 or fmt.packed_nbytes(n) == packed.shape[-1]


def test_nibbles_lie_as_their_order_says():
    assert ff.pack([1, 2, 3], "int4").tolist() == [0x21, 0x03]
    assert ff.pack([1, 2, 3], "int4", order="high_first").tolist() == [0x12, 0x30]
    six = [0b000001, 0b000010, 0b000100, 0b001000]
    assert ff.pack(six, "fp6_e2m3fn").tolist() == [0b10000001, 0b01000000, 0b00100000]
    assert ff.pack(six, "fp6_e2m3fn", order="high_first").tolist() == [4, 33, 8]


def test_packing_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="codes of at most 8 bits; bf16 has 16"):
        ff.pack([1], "bf16")
    with pytest.raises(ValueError, match="order must be one of low_first, high_first, got 'msb'"):
        ff.pack([1], "int4", order="msb")
    with pytest.raises(ValueError, match=r"x\[1\] is 0x10; codes of int4 have 4 bits"):
        ff.pack(np.uint8([1, 16]), "int4")
    with pytest.raises(ValueError, match="2 bytes do not hold 5 codes of 4 bits"):
        ff.unpack(np.uint8([1, 2]), "int4", 5)
    with pytest.raises(TypeError, match=r"expected packed bytes .*, got numpy.ndarray of int64"):
        ff.unpack(np.arange(3), "int4")
    with pytest.raises(ValueError, match="one dimension or more, got 0-d"):
        ff.pack(3, "int4")


# --- decompose, with rounding -------------------------------------------------------------------


@given(st.sampled_from(ALL_FORMATS), st.data())
def test_decompose_says_of_every_code_what_exact_says(fmt, data):
    codes = data.draw(code_arrays(fmt, max_size=40))
    fields = ff.decompose(codes, fmt, details=True)
    assert fields.exact is None
    computed = ff.decompose(codes, fmt)
    assert fields == computed
    assert fields.category.tolist() == computed.category.tolist()
    np.testing.assert_array_equal(fields.ulp, computed.ulp)
    for i, code in enumerate(codes.tolist()):
        category = ff.exact.category(code, fmt)
        assert ff.Category(fields.category[i]).name.lower() == category
        expected = (fields.sign[i], fields.exponent[i], fields.fraction[i])
        assert expected == ff.exact.fields(code, fmt)
        if category in ("infinite", "nan"):
            assert np.isnan(fields.ulp[i])
        else:
            assert fields.ulp[i] == ff.exact.ulp(code, fmt)


@given(st.sampled_from(ALL_FORMATS), st.sampled_from(["float32", "float64"]), st.data())
def test_decompose_of_values_is_that_of_their_codes_and_knows_which_are_exact(fmt, dtype, data):
    x = data.draw(value_arrays(np.dtype(dtype), fmt, max_size=50))
    if fmt.nan is None:
        x = np.where(np.isfinite(x), x, 1).astype(dtype)
    fields = ff.decompose(x, fmt, rounding="toward_zero", details=True)
    codes = ff.encode(x, fmt, rounding="toward_zero")
    if np.dtype(dtype).name == fmt.dtype:
        return
    assert ff.compose(fields).tolist() == codes.tolist()
    back = ff.decode(codes, fmt, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
    same = (back == wide) | (np.isnan(back) & np.isnan(wide))
    assert fields.exact.tolist() == same.tolist()


# --- other libraries ----------------------------------------------------------------------------

NARROW = [f for f in ff.formats() if f.dtype and f.bits <= 8 and f.nan is not None]


@pytest.mark.parametrize("fmt", [f for f in ff.formats() if f.dtype], ids=str)
def test_astype_gives_ml_dtypes_values_with_our_codes(fmt):
    x = np.abs(np.random.default_rng(4).normal(size=(5, 7)).astype(np.float32))
    y = ff.astype(x, fmt, rounding="toward_zero")
    assert y.dtype == np.dtype(fmt.dtype)
    assert same_bits(y.view(fmt.code_dtype), ff.encode(x, fmt, rounding="toward_zero"))
    assert (y.astype(np.float64) == ff.round_to(x, fmt, rounding="toward_zero")).all()
    assert same_bits(ff.decode(y, fmt), ff.decode(y.view(fmt.code_dtype), fmt))
    assert same_bits(ff.encode(y, "fp32"), ff.encode(y.astype(np.float32), "fp32"))


TORCH_FP8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")


@pytest.mark.parametrize("name", TORCH_FP8)
def test_torch_fp8_goes_in_and_out_without_a_copy_or_a_second_rounding(name):
    x = torch.tensor([0.1, 1 + 2**-4 + 2**-40, 3.0], dtype=torch.float64)
    y = ff.astype(x, name)
    assert y.dtype == getattr(torch, name)
    assert y.view(torch.uint8).tolist() == ff.encode(x, name).tolist()
    assert torch.equal(ff.decode(y, name), y.to(torch.float32))
    codes = ff.encode(y, name)
    assert torch.equal(codes, y.view(torch.uint8))
    fields = ff.decompose(y, name)
    assert torch.equal(ff.compose(fields), codes)


def test_a_format_without_a_dtype_in_the_library_is_an_error_that_says_so():
    with pytest.raises(
        TypeError, match="NumPy and ml_dtypes have no dtype for tf32; ff.encode giv"
    ):
        ff.astype(VALUES, "tf32")
    for fmt in ("fp8_e4m3", "int4", "fp4_e2m1fn"):
        with pytest.raises(TypeError, match=f"torch has no dtype for {fmt}; ff.encode gives its"):
            ff.astype(torch.ones(2), fmt)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64, bool])
def test_integers_are_converted_exactly(backend, dtype):
    x = np.array([0, 1, 100], dtype)
    if dtype is bool:
        with pytest.raises(TypeError, match="expected real numbers"):
            ff.encode(x, "fp16")
    else:
        assert ff.encode(x, "fp16").tolist() == [0, 0x3C00, 0x5640]


@pytest.mark.parametrize(
    ("x", "stray"),
    [
        (np.int64([1, 2**53 + 1]), "9007199254740993"),
        (np.int64([0, 2**63 - 1]), "9223372036854775807"),
        (np.uint64([3, 2**64 - 1]), "18446744073709551615"),
        (torch.tensor([5, -(2**60) - 1]), "-1152921504606846977"),
    ],
)
def test_an_integer_that_fp64_does_not_hold_is_named(x, stray):
    with pytest.raises(ValueError, match=rf"x\[1\] is {stray}, which fp64 does not hold exactly"):
        ff.encode(x, "bf16")


def test_large_integers_that_fp64_holds_are_rounded_once():
    # ml_dtypes rounds this one twice, through fp32, to 0x4B82.
    assert ff.encode(np.int64([16973823, 2**62, -(2**63)]), "bf16").tolist() == [
        0x4B81, 0x5E80, 0xDF00,
    ]  # fmt: skip


def test_an_array_api_librarys_arrays_come_back_as_its_own():
    x = strict.asarray([0.1, -2.0], dtype=strict.float32)
    codes = ff.encode(x, "bf16")
    assert type(codes) is type(x)
    assert np.asarray(codes).tolist() == [0x3DCD, 0xC000]
    assert type(ff.decode(codes, "bf16")) is type(x)
    assert type(ff.round_to(x, "bf16")) is type(x)


class OnlyDLPack:
    def __init__(self, x, device):
        self.x, self.device = x, device

    def __dlpack__(self, **arguments):
        return self.x.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return (self.device, 0)


def test_anything_with_dlpack_or_array_goes_in_and_a_gpu_is_named():
    x = np.float32([1.0, 0.5])
    assert ff.encode(OnlyDLPack(x, 1), "fp16").tolist() == [0x3C00, 0x3800]
    with pytest.raises(ValueError, match=r"OnlyDLPack is not in CPU memory; pass x.cpu\(\)"):
        ff.encode(OnlyDLPack(x, 2), "fp16")

    class HasArray:
        def __array__(self, dtype=None, copy=None):
            return x

    assert ff.encode(HasArray(), "fp16").tolist() == [0x3C00, 0x3800]


# --- torch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_torch_tensor_gives_torch_tensors_with_numpys_bits(backend, dtype):
    x = torch.tensor([[0.1, -3.5], [65504.0, 0.0]], dtype=dtype)
    codes = ff.encode(x, "fp16")
    assert codes.dtype == torch.uint16
    wide = x.to(torch.float64).numpy()
    assert same_bits(codes.numpy(), ff.encode(wide, "fp16"))
    fields = ff.decompose(x)
    assert isinstance(fields.exponent, torch.Tensor)
    assert torch.equal(ff.compose(fields).view(x.dtype), x)
    assert isinstance(fields.significand, torch.Tensor)
    assert ff.round_to(x, x.dtype).dtype == dtype
    assert torch.equal(ff.round_to(x, x.dtype), x)


def test_parameters_views_and_gradients_are_read_like_any_tensor():
    weight = torch.nn.Parameter(torch.arange(12, dtype=torch.bfloat16).reshape(3, 4) / 7)
    expected = ff.encode(weight.detach().float().numpy().T.copy(), "fp16")
    assert same_bits(ff.encode(weight.T, "fp16").numpy(), expected)
    assert same_bits(ff.encode(weight[:, ::2], "fp16").numpy(), expected.T[:, ::2].copy())


def test_tensors_out_of_reach_are_named():
    with pytest.raises(ValueError, match=r"device meta, without values; x.cpu\(\) has none eith"):
        ff.encode(torch.ones(2, device="meta"), "fp16")
    with pytest.raises(ValueError, match=r"layout is torch.sparse_coo; pass x.to_dense\(\)"):
        ff.encode(torch.ones(2).to_sparse(), "fp16")


# --- out= ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [VALUES, VALUES.T, VALUES[:, ::2]], ids=["C", "F", "strided"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_out_receives_the_result_and_is_returned(backend, x, order):
    out = np.zeros(x.shape, np.uint16, order=order)
    assert ff.encode(x, "fp16", out=out) is out
    assert same_bits(out, ff.encode(x, "fp16"))
    values = np.zeros(x.shape, np.float32, order=order)
    assert ff.decode(out, "fp16", out=values) is values
    assert same_bits(values, ff.decode(out, "fp16"))
    parts = tuple(np.zeros(x.shape, d, order=order) for d in (np.uint8, np.uint8, np.uint32))
    fields = ff.decompose(x, out=parts)
    assert fields.sign is parts[0]
    assert fields == ff.decompose(x)
    back = np.zeros(x.shape, np.uint32, order=order)
    assert ff.compose(fields, out=back) is back
    assert same_bits(back.view(np.float32), np.ascontiguousarray(x))


def test_out_takes_torch_tensors():
    x, out = torch.ones(3), torch.zeros(3, dtype=torch.uint16)
    assert ff.encode(x, "bf16", out=out) is out
    assert out.tolist() == [0x3F80] * 3


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((2, 4), np.int16), TypeError, "out= must be an array of uint16, got numpy.ndarr"),
        (np.zeros((4, 2), np.uint16), ValueError, r"out= must have shape \(2, 4\), got \(4, 2\)"),
        (_read_only(np.zeros((2, 4), np.uint16)), ValueError, "out= is read-only"),
        ([0] * 8, TypeError, "out= must be an array of uint16, got list"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, error, message):
    with pytest.raises(error, match=message):
        ff.encode(VALUES, "fp16", out=out)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((2, 4)), TypeError, "out= must be an array of float32, got numpy.ndarray"),
        (np.zeros((4, 2), np.float32), ValueError, r"out= must have shape \(2, 4\), got \(4, 2\)"),
        (_read_only(np.zeros((2, 4), np.float32)), ValueError, "out= is read-only"),
    ],
)
def test_an_out_that_does_not_fit_values_is_refused(out, error, message):
    with pytest.raises(error, match=message):
        ff.decode(np.zeros((2, 4), np.uint16), "fp16", out=out)


@pytest.mark.parametrize("shift", range(-16, 17))
def test_values_and_codes_may_touch_and_not_overlap(backend, shift):
    """Of 4 fp32 values and as many codes of 2 bytes: 16 and 8 bytes."""
    memory = np.zeros(64, np.uint8)
    values, codes = memory[24:40].view(np.float32), memory[24 + shift : 32 + shift]
    if shift % 2:
        codes = np.zeros(10, np.uint8)[1:9]  # misaligned, elsewhere
    codes = codes.view(np.uint16)
    values[:] = 1.5
    if shift % 2 or shift <= -8 or shift >= 16:
        assert ff.encode(values, "bf16", out=codes) is codes
        assert codes.tolist() == [0x3FC0] * 4
        values[:] = 0
        assert ff.decode(codes, "bf16", out=values).tolist() == [1.5] * 4
        return
    for convert, x, out in ((ff.encode, values, codes), (ff.decode, codes, values)):
        with pytest.raises(ValueError, match="out= overlaps the input"):
            convert(x, "bf16", out=out)


def test_empty_arrays_may_lie_anywhere(backend):
    odd = np.frombuffer(b"12345678", "<f4", offset=1, count=1)[:0]
    assert ff.encode(odd, "bf16", nan="error").shape == (0,)
    assert ff.decode(np.frombuffer(b"123", "<u2", offset=1, count=1)[:0], "bf16").shape == (0,)


@pytest.mark.parametrize("name", ["fp4_e2m1fn", "int4", "tf32", "fp16"])
def test_objects_are_no_codes(backend, name):
    with pytest.raises(TypeError, match="expected codes of"):
        ff.decode(np.array([1, 2], object), name)


def test_what_rules_keep_does_not_grow_with_the_types_that_are_refused():
    how = arrays._rules("fp16", ff.Rounding.NEAREST_EVEN, "ieee", "quiet", "keep")
    ff.encode(np.ones(3, np.float32), "fp16")
    before = len(how.memo)
    assert before > 0
    for length in range(1, 50):
        with pytest.raises(TypeError, match="expected real numbers"):
            ff.encode(np.zeros(2, f"U{length}"), "fp16")
    ff.encode(np.ones(3, ">f4"), "fp16")
    ff.encode(np.ones(3, np.int8), "fp16")
    assert len(how.memo) <= before + 2


def test_an_out_over_the_input_is_refused():
    x = np.ones(8, np.float32)
    with pytest.raises(ValueError, match="out= overlaps the input$"):
        ff.round_to(x, "bf16", out=x)
    part = np.zeros(8, np.uint8)
    with pytest.raises(ValueError, match="out= overlaps the input or another out="):
        ff.decompose(x, out=(part, part, np.zeros(8, np.uint32)))


def test_an_out_beside_the_input_is_fine(backend):
    both = np.array([1.1, 0.0, 2.2, 0.0], np.float32)
    ff.round_to(both[::2], "bf16", out=both[1::2])
    assert both[1::2].tolist() == ff.round_to(both[::2].copy(), "bf16").tolist()


def test_an_out_that_cannot_be_written_in_place_is_refused():
    negated = torch.zeros(4, dtype=torch.complex64).conj().imag
    with pytest.raises(ValueError, match="out= is a view that negates"):
        ff.round_to(torch.ones(4), "bf16", out=negated)
    with pytest.raises(ValueError, match="several elements in one place"):
        ff.encode(torch.ones(4), "bf16", out=torch.zeros(1, dtype=torch.uint16).expand(4))


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.ones(3, complex), "numpy.ndarray of complex128"),
        (np.array(["1"]), "numpy.ndarray of <U1"),
        (np.array([1.0, None]), "numpy.ndarray of object"),
        (np.array([True]), "numpy.ndarray of bool"),
        (["1.5"], r"list \(<U3\)"),
        (torch.ones(2, dtype=torch.complex64), "torch.Tensor of complex64"),
    ],
)
def test_what_is_no_float_is_named(x, got):
    with pytest.raises(TypeError, match=f"expected real numbers .*, got {got}"):
        ff.encode(x, "fp16")


def test_a_jagged_list_is_named():
    with pytest.raises(ValueError, match="a list whose parts differ in shape is no array"):
        ff.absmax([[1.0], [1.0, 2.0]])


def test_a_masked_array_is_refused_because_its_mask_would_be_lost():
    with pytest.raises(TypeError, match=r"a masked array would lose its mask; pass x.filled"):
        ff.encode(np.ma.array([1.0], mask=[True]), "fp16")


def test_codes_of_the_wrong_width_or_range_are_named():
    with pytest.raises(TypeError, match=r"expected codes of fp16 \(uint16\), got .* of complex128"):
        ff.decode(np.ones(3, complex), "fp16")
    with pytest.raises(ValueError, match=r"x\[1\] is 0x11170; codes of fp16 have 16 bits"):
        ff.decode(np.array([1, 70000]), "fp16")
    with pytest.raises(TypeError, match=r"expected codes of bf16 .* of float32; encode values fi"):
        ff.decode(VALUES, "bf16")
    with pytest.raises(ValueError, match=r"x\[1\] is -0x1; codes of bf16 have 16 bits"):
        ff.decode([1, -1], "bf16")
    codes = np.array([[0, 1], [1 << 18, 1 << 19]], np.uint32)
    with pytest.raises(ValueError, match=r"x\[1, 1\] is 0x80000; codes of tf32 have 19 bits"):
        ff.decode(codes, "tf32")


def test_fields_that_do_not_fit_are_named(backend):
    with pytest.raises(ValueError, match=r"exponent\[1\] is 32; exponent of fp16 is at most 31"):
        ff.compose((np.uint8([0, 1]), np.uint8([31, 32]), np.uint16([0, 0])), "fp16")
    with pytest.raises(ValueError, match=r"sign\[0\] is 2; sign of fp16 is at most 1"):
        ff.compose((np.uint8([2]), np.uint8([0]), np.uint16([0])), "fp16")
    with pytest.raises(ValueError, match=r"fraction\[0\] is 70000, which uint16 cannot hold"):
        ff.compose((np.uint8([1]), np.uint8([0]), np.uint32([70000])), "fp16")
    with pytest.raises(ValueError, match=r"must have one shape, got \(1,\), \(2,\), \(1,\)"):
        ff.compose((np.uint8([1]), np.uint8([0, 1]), np.uint16([0])), "fp16")
    with pytest.raises(TypeError, match="sign must be an array of uint8, got list"):
        ff.compose(([1], np.uint8([0]), np.uint16([0])), "fp16")
    with pytest.raises(TypeError, match="compose takes Fields, or"):
        ff.compose((np.uint8([1]), np.uint8([0]), np.uint16([0])))


def test_fields_are_compared_by_their_arrays():
    assert ff.decompose(VALUES) == ff.decompose(VALUES.copy())
    assert ff.decompose(VALUES) != ff.decompose(-VALUES)
    assert ff.decompose(VALUES) != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(ff.decompose(VALUES))


def test_a_tensor_never_writes_to_memory_that_is_not_to_be_written():
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    interop.like(array, torch.zeros(1))[0] = 2
    assert array[0] == 1
