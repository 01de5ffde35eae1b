"""Every one of the 2^32 fp32 inputs, at every level, against thresholds found with Fractions.

Run by name: ``python -m pytest tests/exhaustive/test_thresholds.py -s``; ``-k`` picks a format or
mode. `thresholds.py` says why this is a proof, and one that the reference has no part in.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import floatfmt as ff
from thresholds import STEPS, staircase

CHUNK = 1 << 20
CHUNKS = 2**32 // CHUNK
THREADS = 2
NATIVE = ff.available_backends()[1:]
TARGETS = tuple(fmt for fmt in ff.formats() if fmt.bits <= 16)


def sweep(fmt: ff.Format, mode: str, level: str, chunks: range) -> int:
    """Compare some chunks of inputs; return how many inputs were compared."""
    nan = "zero" if fmt.nan is None else "quiet"
    steps = staircase(fmt, mode, nan)
    patterns = np.arange(CHUNK, dtype=np.uint32)
    codes, expected = np.empty(CHUNK, fmt.code_dtype), np.empty(CHUNK, fmt.code_dtype)
    bits = np.empty_like(patterns)
    with ff.use_backend(level):
        for chunk in chunks:
            np.add(patterns, np.uint32(chunk * CHUNK), out=bits)
            ff.encode(bits.view(np.float32), fmt, rounding=mode, nan=nan, out=codes)
            steps.fill(chunk * CHUNK, expected)
            if not np.array_equal(codes, expected):
                wrong = np.flatnonzero(codes != expected)
                raise AssertionError(
                    f"{level}, {mode}: {bits[wrong[0]]:#010x} gave {codes[wrong[0]]:#x}, and should"
                    f" {expected[wrong[0]]:#x}; {wrong.size:,} differ in this chunk"
                )
    return len(chunks) * CHUNK


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("mode", STEPS)
@pytest.mark.parametrize("fmt", TARGETS, ids=str)
def test_every_fp32_input_has_the_code_of_its_interval(fmt, mode, level):
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        parts = [range(part, CHUNKS, THREADS) for part in range(THREADS)]
        compared = sum(pool.map(lambda part: sweep(fmt, mode, level, part), parts))
    assert compared == 2**32
    print(
        f"\nfp32 -> {fmt}, {mode}, {level}: {compared:,} of {2**32:,} inputs equal,"
        f" {time.perf_counter() - began:.0f} s"
    )


def test_there_is_a_kernel_to_compare():
    assert NATIVE


@pytest.mark.parametrize("other", [mode for mode in STEPS if mode != "toward_zero"])
def test_the_sweep_sees_another_rounding(other):
    fmt = ff.format("fp8_e4m3fn")
    differ = False
    for one in (0x3F800000, 0xBF800000):  # a sixteenth and more above 1 and below -1
        patterns = np.arange(one, one + CHUNK, dtype=np.uint32)
        expected = np.empty(CHUNK, np.uint8)
        staircase(fmt, "toward_zero", "quiet").fill(one, expected)
        differ |= not np.array_equal(
            ff.encode(patterns.view(np.float32), fmt, rounding=other), expected
        )
    assert differ
