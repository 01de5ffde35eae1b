"""decompose, compose, encode, decode, round_to: arrays of every kind, on every backend."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
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
    nan = (codes & fmt.code_dtype.type(fmt.sign_bit - 1)) > fmt.infinity_code
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


def test_round_to_works_within_narrow_dtypes(backend):
    e5m2 = ff.Format("e5m2", 5, 2)
    assert same_bits(ff.round_to(np.float16([1.1, 70.0]), e5m2), np.float16([1.0, 64.0]))


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
    with pytest.raises(ValueError, match=r"the tensor is on device meta; pass x.cpu\(\)"):
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


def test_an_out_over_the_input_is_refused():
    x = np.ones(8, np.float32)
    with pytest.raises(ValueError, match="out= overlaps the input"):
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
        (np.arange(3), "numpy.ndarray of int64"),
        (np.ones(3, complex), "numpy.ndarray of complex128"),
        (np.array(["1"]), "numpy.ndarray of <U1"),
        (np.array([1.0, None]), "numpy.ndarray of object"),
        ([1, 2], r"list \(int64\)"),
        (torch.ones(2, dtype=torch.int32), "torch.Tensor of int32"),
    ],
)
def test_what_is_no_float_is_named(x, got):
    with pytest.raises(TypeError, match=f"expected floating-point values .*, got {got}"):
        ff.encode(x, "fp16")


def test_a_jagged_list_is_named():
    with pytest.raises(ValueError, match="a list whose parts differ in shape is no array"):
        ff.absmax([[1.0], [1.0, 2.0]])


def test_a_masked_array_is_refused_because_its_mask_would_be_lost():
    with pytest.raises(TypeError, match=r"a masked array would lose its mask; pass x.filled"):
        ff.encode(np.ma.array([1.0], mask=[True]), "fp16")


def test_codes_of_the_wrong_width_or_range_are_named():
    with pytest.raises(TypeError, match=r"expected codes of fp16 \(uint16\), got .* of int64"):
        ff.decode(np.arange(3), "fp16")
    with pytest.raises(TypeError, match=r"expected codes of bf16 .* of float32; encode values fi"):
        ff.decompose(VALUES, "bf16")
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
