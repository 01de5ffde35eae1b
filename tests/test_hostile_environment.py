"""FTZ/DAZ switched on by somebody else's library, and four threads at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import floatfmt as ff

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(11)
PATTERNS = RNG.integers(0, 2**32, 5000, dtype=np.uint32)
FLOATS = PATTERNS.view(np.float32)
SUBNORMALS = (PATTERNS & np.uint32(0x807FFFFF)).view(np.float32)
DOUBLE_SUBNORMALS = (
    RNG.integers(0, 2**52, 5000, dtype=np.uint64) | (PATTERNS.astype(np.uint64) >> 31 << 63)
).view(np.float64)
FP16 = PATTERNS.astype(np.uint16)
WEIGHTS = RNG.normal(size=5000).astype(np.float32)
TINY = ff.Format("fp32 range, subnormals as normals", 8, 10, bias=140)
DEEP = ff.Format("subnormals are fp64's", 9, 20, bias=1023)

MATRIX = (WEIGHTS[:400] * np.float32(2.0**120)).reshape(50, 8)

#: Every operation that could meet a subnormal, as functions of nothing.
OPERATIONS = {
    "encode": lambda: ff.encode(FLOATS, "fp16").tobytes(),
    "encode fp64 subnormals": lambda: ff.encode(DOUBLE_SUBNORMALS, TINY).tobytes(),
    "encode subnormals to bf16": lambda: ff.encode(SUBNORMALS, "bf16").tobytes(),
    "encode to odd": lambda: ff.encode(SUBNORMALS, "bf16", rounding="to_odd").tobytes(),
    "encode subnormals upwards": lambda: ff.encode(
        SUBNORMALS, "fp8_e5m2", rounding="toward_positive"
    ).tobytes(),
    "encode fp64 subnormals upwards": lambda: ff.encode(
        DOUBLE_SUBNORMALS, "fp8_e4m3fn", rounding="toward_positive"
    ).tobytes(),
    "decode to fp64 subnormals": lambda: ff.decode(FP16.astype(np.uint32), DEEP).tobytes(),
    "encode fp8": lambda: ff.encode(FLOATS, "fp8_e5m2").tobytes(),
    "encode e8m0": lambda: ff.encode(SUBNORMALS, "fp8_e8m0fnu").tobytes(),
    "encode stochastically": lambda: _stochastic(SUBNORMALS, "bf16"),
    "encode fp64 stochastically": lambda: _stochastic(DOUBLE_SUBNORMALS, TINY),
    "decode e8m0": lambda: ff.decode(FP16.astype(np.uint8), "fp8_e8m0fnu").tobytes(),
    "round_to e8m0": lambda: ff.round_to(np.abs(SUBNORMALS), "fp8_e8m0fnu").tobytes(),
    "decompose with rounding": lambda: _fields(ff.decompose(SUBNORMALS, "fp8_e8m0fnu")),
    "decode": lambda: ff.decode(FP16, "fp16").tobytes(),
    "decode bf16": lambda: ff.decode(FP16, "bf16").tobytes(),
    "round_to": lambda: ff.round_to(SUBNORMALS, "bf16").tobytes(),
    "decompose": lambda: ff.decompose(SUBNORMALS).fraction.tobytes(),
    "compose": lambda: ff.compose(ff.decompose(SUBNORMALS)).tobytes(),
    "absmax": lambda: _everything(ff.absmax(SUBNORMALS)),
    "absmax of fp64": lambda: _everything(ff.absmax(DOUBLE_SUBNORMALS)),
    "absmax by rows": lambda: _everything(ff.absmax(SUBNORMALS.reshape(50, 100), axis=0)),
    "fp8 by rows": lambda: _everything(
        ff.quantize(SUBNORMALS.reshape(50, 100), "fp8_e5m2", axis=0)
    ),
    "zeropoint": lambda: _everything(ff.zeropoint(SUBNORMALS)),
    "zeropoint by columns": lambda: _everything(ff.zeropoint(SUBNORMALS.reshape(50, 100), axis=1)),
    "given": lambda: _everything(ff.quantize(SUBNORMALS, scale=2.0**-130, zero_point=7)),
    "nvfp4": lambda: _tensor_scaled(ff.quantize(SUBNORMALS[:4992], "nvfp4")),
    "verify": lambda: _verdict("fp16", "fp8_e5m2"),
    "verify fp64": lambda: _verdict("fp64", "fp8_e4m3fn"),
    "traces": lambda: b"".join(_traced(row) for row in ff.conventions()),
    "conventions": lambda: str(ff.conventions()).encode(),
    "verify_quantizer of values": lambda: _audited(
        lambda x: ff.quantize(x, scale=2.0**-140).codes - np.int8(x.size % 2),
        scale=2.0**-140,
        inputs=SUBNORMALS,
    ),
    "verify_quantizer of tensors": lambda: _audited(ff.absmax),
    "diff_conventions": lambda: str(ff.diff_conventions(SUBNORMALS)).encode(),
    "diff_conventions of two": lambda: str(
        ff.diff_conventions(SUBNORMALS, "onnx", "torch", scale=2.0**-125)
    ).encode(),
    "llm_int8_matmul": lambda: _multiplied(2.0**-128, "original"),
    "llm_int8_matmul, weights dequantised": lambda: _multiplied(2.0**-128, "dequantised"),
    "sweep_threshold": lambda: str(
        ff.sweep_threshold(SUBNORMALS[:1000].reshape(20, 50), MATRIX).to_dict()
    ).encode(),
    "weights": lambda: _everything(ff.absmax(WEIGHTS)),
}


def _verdict(source: str, target: str) -> bytes:
    """What the auditor says of a cast that FTZ and DAZ do not touch, and that is wrong."""

    def truncates(x: np.ndarray) -> np.ndarray:
        return ff.encode(x, target, rounding="toward_zero")

    found = ff.verify(truncates, source, target, random=1 << 12)
    assert found.faults
    return str(found.to_dict() | {"seconds": 0}).encode()


def _stochastic(x: np.ndarray, fmt: object) -> bytes:
    return ff.encode(x, fmt, rounding="stochastic", seed=3).tobytes()


def _traced(row: ff.Convention) -> bytes:
    found = [row.trace(SUBNORMALS, scheme.name) for scheme in row.schemes]
    if row.takes_scale:
        found.append(row.trace(SUBNORMALS, scale=2.0**-130, zero_point=7))
    return b"".join(part.tobytes() for trace in found for part in (trace.codes, trace.values))


def _audited(fn: object, **arguments: object) -> bytes:
    found = ff.verify_quantizer(fn, **arguments)
    told = found.to_dict()
    del told["seconds"]
    return f"{found}\n{told}".encode()


def _multiplied(threshold: float, weights: str) -> bytes:
    result = ff.llm_int8_matmul(SUBNORMALS[:1000].reshape(20, 50), MATRIX, threshold, weights)
    parts = (result.output, result.int32, result.x_scale, result.w_scale, result.outlier_columns)
    return b"".join(part.tobytes() for part in parts) + str(result).encode()


def _fields(fields: ff.Fields) -> bytes:
    return fields.fraction.tobytes() + fields.exact.tobytes() + fields.ulp.tobytes()


def _tensor_scaled(q: ff.Quantized) -> bytes:
    return _everything(q) + np.asarray(q.tensor_scale).tobytes()


def _everything(q: ff.Quantized) -> bytes:
    parts = (q.codes, q.scale, q.zero_point, q.dequantize())
    kept = (part.tobytes() for part in parts if part is not None)
    return b"".join(kept) + str(q.saturated).encode()


@pytest.fixture
def flushed_subnormals():
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", OPERATIONS)
def test_ftz_and_daz_change_no_bit_of_the_kernels_results(level, name):
    operation = OPERATIONS[name]
    with ff.use_backend("reference"):
        expected = operation()
    assert torch.set_flush_denormal(True)
    try:
        assert np.float32(2.0**-126) * np.float32(0.5) == 0, "nothing is being flushed"
        with ff.use_backend(level):
            result = operation()
        assert np.float32(2.0**-126) * np.float32(0.5) == 0, "the process's flags were not kept"
    finally:
        torch.set_flush_denormal(False)
    assert result == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_reference_refuses_under_ftz_and_daz(flushed_subnormals, name):
    with ff.use_backend("reference"), pytest.raises(RuntimeError, match="flushes subnormal num"):
        OPERATIONS[name]()


def test_four_threads_at_once_get_the_bits_of_one(backend):
    expected = [operation() for operation in OPERATIONS.values()]

    def all_operations(_: int) -> list[bytes]:
        with ff.use_backend(backend):
            return [operation() for operation in OPERATIONS.values()]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(all_operations, range(12)):
            assert results == expected


def test_a_thread_that_flushes_does_not_disturb_the_others(level):
    expected = OPERATIONS["absmax"]()

    def run(flush: bool) -> bytes:
        torch.set_flush_denormal(flush)
        try:
            with ff.use_backend(level):
                return OPERATIONS["absmax"]()
        finally:
            torch.set_flush_denormal(False)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(run, [True, False] * 8)) == {expected}


def test_a_cast_that_flushes_is_found_where_it_does(level, flushed_subnormals):
    """The cast runs in the process's own environment: what FTZ and DAZ do to it is its fault."""
    with ff.use_backend(level):
        found = ff.verify(lambda x: x.astype(np.float32) * np.float32(1), "bf16", "fp32")
    assert [fault.name for fault in found.faults] == ["flushes subnormals"]
    assert found.wrong == 2 * 127
