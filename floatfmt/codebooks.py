"""Codebooks of quantisers: what each code means, as a part of the largest magnitude, from -1 to 1.

Each is a tuple of Python floats in code order, all of them fp32 numbers: the index is the code.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DYNAMIC8", "FP4", "NF4"]

#: NF4 of QLoRA (https://arxiv.org/abs/2305.14314, appendix E): quantiles of a normal distribution,
#: with 0 among them. Sorted.
NF4: tuple[float, ...] = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def _twelfths(numerators: tuple[float, ...]) -> tuple[float, ...]:
    return tuple((np.array(numerators, np.float32) / np.float32(12)).tolist())


#: FP4 of bitsandbytes (`get_4bit_type` in functional.py): a sign bit above 3 bits of magnitude, so
#: not sorted. It is not E2M1. Its codes 0 and 8 are both 0.0; the library's CPU kernel reads 8 as
#: that in whole vectors, and as -0.0 in their tail.
FP4: tuple[float, ...] = (
    *_twelfths((0, 0.0625, 8, 12, 4, 6, 2, 3)),
    *_twelfths((0, -0.0625, -8, -12, -4, -6, -2, -3)),
)


def _dynamic_map() -> tuple[float, ...]:
    """Return 0, 1 and, for each power of ten from 1e-6 to 1, middles of 1, 2, 4, ..., 64 parts.

    The parts divide 0.1 to 1 in fp32 as torch.linspace does it with AVX2: in fused steps from the
    nearer end. Products with so few bits are exact in fp64, which makes the rounding a single one.
    """
    first, last = np.float32(0.1), np.float32(1)
    found = [0.0, 1.0]
    for power in range(7):
        parts = 2**power
        step, index = np.float64((last - first) / np.float32(parts)), np.arange(parts + 1)
        rising, falling = first + step * index, last - step * (parts - index)
        bounds = np.where(index < (parts + 1) // 2, rising, falling).astype(np.float32)
        middles = (bounds[:-1] + bounds[1:]) / np.float32(2) * np.float32(10.0 ** (power - 6))
        found += [*middles.tolist(), *(-middles).tolist()]
    return tuple(sorted(found))


#: The signed dynamic 8-bit map of bitsandbytes (`create_dynamic_map` in functional.py), after
#: "8-Bit Approximations for Parallelism in Deep Learning" (https://arxiv.org/abs/1511.04561).
#: Sorted; its least value is -0.99296874, its greatest 1.
DYNAMIC8: tuple[float, ...] = _dynamic_map()
