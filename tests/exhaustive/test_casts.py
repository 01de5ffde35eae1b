"""Every one of the 2^32 fp32 inputs, at every level, against the NumPy reference.

Run by name: ``python -m pytest tests/exhaustive -s``. Chunks are visited in prime strides, so a run
that is stopped has seen a uniform sample.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import floatfmt as ff

CHUNK = 1 << 20
CHUNKS = 2**32 // CHUNK
STRIDE = 1009  # a prime, so that it visits every chunk

NATIVE = ff.available_backends()[1:]


def sweep_chunk(chunk: int, target: ff.Format) -> int:
    """Compare one chunk of inputs on all levels; return how many were compared."""
    bits = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    with ff.use_backend("reference"):
        expected = ff.encode(x, target)
    for level in NATIVE:
        with ff.use_backend(level):
            codes = ff.encode(x, target)
        wrong = np.flatnonzero(codes != expected)
        assert not wrong.size, (
            f"{level}: {bits[wrong[0]]:#010x} gave {codes[wrong[0]]:#06x},"
            f" the reference {expected[wrong[0]]:#06x}; {wrong.size:,} differ in this chunk"
        )
    return bits.size


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_every_fp32_input_has_the_references_code(name):
    assert NATIVE, "there is no C kernel to compare with"
    target = ff.format(name)
    order = [chunk * STRIDE % CHUNKS for chunk in range(CHUNKS)]
    compared = 0
    with ThreadPoolExecutor(2) as pool:
        for done, count in enumerate(pool.map(lambda c: sweep_chunk(c, target), order), 1):
            compared += count
            if done % 64 == 0:
                print(f"\rfp32 -> {name}: {done / CHUNKS:4.0%}", end="", file=sys.stderr)
    assert compared == 2**32
    print(f"\nfp32 -> {name}: {compared:,} of {2**32:,} inputs equal on {', '.join(NATIVE)}")
