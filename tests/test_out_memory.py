"""``out=`` means that: no array of the values' size is made beside it."""

import tracemalloc

import numpy as np
import pytest

import floatfmt as ff

N = 1 << 22
X = np.random.default_rng(5).standard_normal(N, np.float32)
FIELDS = ff.decompose(X)
CODES = ff.encode(X, "fp16")
INT8, FP8, INT4 = ff.absmax(X), ff.quantize(X, "fp8_e4m3fn"), ff.absmax(X, bits=4)

I8, U8, U16, U32 = (np.empty(N, dtype) for dtype in ("i1", "u1", "u2", "u4"))
F16, F32, HALF = np.empty(N, np.float16), np.empty(N, np.float32), np.empty(N // 2, np.uint8)
PARTS = U8, np.empty(N, np.uint8), U32

#: Operations that need nothing beside their output but what does not grow with it.
OPERATIONS = {
    "encode": lambda: ff.encode(X, "bf16", out=U16),
    "encode stochastically": lambda: ff.encode(X, "bf16", rounding="stochastic", seed=1, out=U16),
    "decode": lambda: ff.decode(CODES, "fp16", out=F32),
    "round_to": lambda: ff.round_to(X, "bf16", out=F32),
    "round_to a wider format": lambda: ff.round_to(X, "fp64", out=F32),
    "decompose": lambda: ff.decompose(X, out=PARTS),
    "compose": lambda: ff.compose(FIELDS, out=U32),
    "absmax": lambda: ff.absmax(X, out=I8),
    "absmax of 4 bits": lambda: ff.absmax(X, bits=4, out=HALF),
    "zeropoint": lambda: ff.zeropoint(X, out=I8),
    "zeropoint with 0": lambda: ff.quantize(X, "zeropoint", include_zero=True, out=I8),
    "a given scale": lambda: ff.quantize(X, scale=0.05, zero_point=3, out=I8),
    "a given range": lambda: ff.quantize(X, "zeropoint", min=-2, max=2, out=I8),
    "fp8 by a scale": lambda: ff.quantize(X, "fp8_e4m3fn", out=U8),
    "what may be not finite": lambda: ff.quantize(X, "absmax", nonfinite="saturate", out=I8),
    "dequantize": lambda: INT8.dequantize(out=F32),
    "dequantize to fp16": lambda: INT8.dequantize("fp16", out=F16),
    "dequantize fp8": lambda: FP8.dequantize(out=F32),
    "dequantize 4 bits": lambda: INT4.dequantize(out=F32),
}
#: What lies in pieces, or is rounded otherwise, takes temporaries of a piece.
IN_PIECES = {
    "round_to of fp16": lambda: ff.round_to(CODES.view(np.float16), "fp8_e4m3fn", out=F16),
    "strided values": lambda: ff.encode(np.broadcast_to(X[:1], X.shape), "bf16", out=U16),
    "zeropoint of 4 bits": lambda: ff.zeropoint(X, bits=4, out=HALF),
    "to odd": lambda: ff.quantize(X, "absmax", rounding="to_odd", out=I8),
}


def peak(operation) -> int:
    operation()  # what is kept for the next call is no temporary
    tracemalloc.start()
    try:
        operation()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_numpy_reports_its_memory():
    assert peak(lambda: np.empty(N, np.uint8)) > N


@pytest.mark.parametrize("name", OPERATIONS)
def test_out_takes_no_memory_that_grows_with_the_values(level, name):
    with ff.use_backend(level):
        assert peak(OPERATIONS[name]) < 1 << 17  # of 4 MiB for a byte a value


@pytest.mark.parametrize("name", IN_PIECES)
def test_work_in_pieces_takes_the_memory_of_a_piece(level, name):
    with ff.use_backend(level):
        assert peak(IN_PIECES[name]) < 1 << 22
