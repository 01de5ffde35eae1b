"""Results as torch and ONNX hold them: their own dequantisers give floatfmt's values."""

import warnings

import numpy as np
import pytest
import torch

import floatfmt as ff
from quantizer_libraries import onnx_dequantize

X = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
OPTIONS = [{}, {"axis": 0}, {"axis": 1}, {"axis": -1}]


@pytest.fixture(autouse=True)
def _torch_says_that_it_will_drop_them():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*quantized tensor creation", UserWarning)
        yield


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "scheme",
    [
        {"scheme": "absmax"},
        {"scheme": "zeropoint", "include_zero": True},
        {"scheme": "zeropoint", "include_zero": True, "signed": False},
    ],
    ids=str,
)
def test_torch_dequantises_to_the_same_values(options, scheme):
    for x in (X, torch.from_numpy(X)):
        q = ff.quantize(x, **scheme, **options)
        t = ff.to_torch(q)
        assert t.dtype == (torch.qint8 if scheme.get("signed", True) else torch.quint8)
        np.testing.assert_array_equal(t.int_repr().numpy(), np.asarray(q.codes))
        np.testing.assert_array_equal(t.dequantize().numpy(), np.asarray(q.dequantize()))


def test_a_tensor_of_torch_has_memory_of_its_own():
    q = ff.absmax(torch.from_numpy(X))
    before = q.codes.clone()
    ff.to_torch(q).dequantize()
    assert torch.equal(q.codes, before)


def dequantized_by_onnx(values: ff.OnnxValues) -> np.ndarray:
    return onnx_dequantize(
        values.x, values.x_scale, values.x_zero_point, values.axis, values.block_size
    )


@pytest.mark.parametrize(
    "options", [*OPTIONS, {"block": 8}, {"block": 4, "block_axis": 0}], ids=str
)
@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_onnx_runtime_dequantises_to_the_same_values(options, scheme):
    asked = {"include_zero": True} if scheme == "zeropoint" else {}
    q = ff.quantize(X, scheme, **asked, **options)
    np.testing.assert_array_equal(dequantized_by_onnx(ff.to_onnx(q)), q.dequantize())


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"scheme": "absmax", "bits": 4}, "int4"),
        ({"scheme": "zeropoint", "bits": 4, "signed": False, "include_zero": True}, "uint4"),
        ({"scheme": "absmax", "bits": 2}, "int2"),
        ({"scheme": "fp8_e4m3fn", "axis": 0}, "float8_e4m3fn"),
        ({"scheme": "mxfp4"}, "float4_e2m1fn"),
    ],
)
def test_onnx_has_narrow_codes_in_dtypes_of_their_own(options, dtype):
    q = ff.quantize(X, **options)
    values = ff.to_onnx(q)
    assert str(values.x.dtype) == dtype
    wide = values.x.astype(np.float32)
    if values.x_zero_point is not None:
        wide = wide - values.x_zero_point.astype(np.float32)
    scale = values.x_scale
    if values.block_size:
        scale = np.repeat(scale, values.block_size, axis=values.axis)[:, : X.shape[1]]
    elif scale.ndim:
        scale = scale[:, None]
    np.testing.assert_array_equal(wide * scale, q.dequantize())


@pytest.mark.parametrize("export", [ff.to_torch, ff.to_onnx])
def test_a_zero_point_that_is_no_code_is_an_error(export):
    q = ff.zeropoint(np.float32([[5.0, 6.0], [0.0, 1.0]]), axis=0)
    with pytest.raises(ValueError, match=r"zero_point\[0, 0\] is -1403, no int8 from -128 to 127"):
        export(q)


@pytest.mark.parametrize(
    ("options", "export", "message"),
    [
        ({"scheme": "absmax", "bits": 4}, ff.to_torch, "int8 and uint8, not of int4"),
        ({"scheme": "absmax", "block": 8}, ff.to_torch, "one scale"),
        ({"scheme": "absmax", "axis": (0, 1)}, ff.to_torch, "one scale"),
        ({"scheme": "nf4"}, ff.to_torch, "not of nf4"),
        ({"scheme": "nf4"}, ff.to_onnx, "blocks along an axis"),
        ({"scheme": "nf4", "block": 8}, ff.to_onnx, "no codes of a table such as nf4"),
        ({"scheme": "absmax", "bits": 3}, ff.to_onnx, "ONNX has no int3"),
        ({"scheme": "nvfp4"}, ff.to_onnx, "one scale for a code, nvfp4 two"),
        ({"scheme": "absmax", "axis": (0, 1)}, ff.to_onnx, "one scale"),
        ({"scheme": "mxfp6_e2m3fn"}, ff.to_onnx, "ONNX has no float6_e2m3fn"),
        ({"convention": "bitsandbytes"}, ff.to_onnx, r"in bitsandbytes that is .* \* \(1 / 127\)"),
        ({"convention": "bitsandbytes"}, ff.to_torch, "torch takes"),
        ({"scheme": "absmax", "convention": "article"}, ff.to_torch, "/ scale"),
    ],
)
def test_what_the_others_lack_is_said(options, export, message):
    with pytest.raises(TypeError, match=message):
        export(ff.quantize(X, **options))


@pytest.mark.parametrize("value", [1e300, 1e-60])
def test_a_scale_that_fp32_does_not_hold_is_an_error(value):
    with pytest.raises(ValueError, match="scale is .*, which ONNX's fp32 does not hold"):
        ff.to_onnx(ff.absmax(np.float64([value])))
