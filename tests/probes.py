"""Inputs at which roundings go wrong, by construction rather than by chance.

For a source and a target: every value of the target, every midpoint between neighbours, what lies
beyond both ends, and one ulp of the source either side of each; zeros, subnormals, Inf, NaN of
every kind; random patterns. Of a source of 16 bits or fewer simply every code.
"""

import functools

import numpy as np

import floatfmt as ff

#: Beyond this many magnitudes of a target an evenly spread choice of them is taken.
MAX_MAGNITUDES = 1 << 16


@functools.cache
def p3109_formats() -> tuple[ff.Format, ...]:
    """Every P3109 format of 3 to 8 bits."""
    return tuple(
        ff.p3109(k, p, signed, extended)
        for k in range(3, 9)
        for signed in (True, False)
        for extended in (True, False)
        for p in range(1, k + (not signed))
    )


@functools.cache
def magnitudes(target: ff.Format) -> np.ndarray:
    """float64: the target's magnitudes in order, and two more as if they went on."""
    count = target.max_code + 3
    step = -(-count // MAX_MAGNITUDES)
    # Next to a chosen magnitude its neighbour, for the midpoint between them.
    chosen = {m + n for m in range(0, count, step) for n in (0, 1)}
    chosen |= {0, 1, target.fraction_mask, target.fraction_mask + 1, *range(count - 4, count)}
    places = sorted(m for m in chosen if 0 <= m < count)
    values = [target.magnitude(m) for m in places]
    return np.array([float(value) for value in values if value < 2**1024])


def rounding_points(target: ff.Format) -> np.ndarray:
    """float64: magnitudes, midpoints of neighbours and midpoints' midpoints, ascending."""
    values = np.concatenate([[0.0], magnitudes(target)])
    with np.errstate(under="ignore", over="ignore"):
        middles = values[:-1] / 2 + values[1:] / 2
        quarters = values[:-1] / 4 * 3 + values[1:] / 4
    finite = np.concatenate([values, middles, quarters])
    return np.unique(finite[np.isfinite(finite)])


def special_codes(source: ff.Format) -> np.ndarray:
    """Codes of one sign: zero, both ends, ends of the subnormals, Inf, NaNs quiet or not."""
    infinity, quiet = source.infinity_code, source.quiet_bit
    one = source.bias << source.fraction_bits
    payloads = (1, 2, quiet >> 1, quiet - 1, quiet, quiet | 1, source.fraction_mask)
    leading = tuple(infinity | 1 << bit for bit in range(source.fraction_bits))
    places = (
        *(0, 1, 2, source.fraction_mask, source.fraction_mask + 1, source.fraction_mask + 2),
        *(one - 1, one, one + 1, source.max_code - 1, source.max_code, infinity),
        *(infinity | payload for payload in payloads),
        *leading,
    )
    return np.array(sorted(set(places)), source.code_dtype)


def probes(source: ff.Format, target: ff.Format, random: int = 1 << 20) -> np.ndarray:
    """Values of the source's dtype: the module's strong set, both signs, random patterns last.

    Parameters
    ----------
    source : Format
        fp64, fp32, fp16 or bf16.
    random : int
        How many random patterns.
    """
    if source.bits <= 16:
        return np.arange(1 << source.bits).astype(source.code_dtype).view(source.dtype)
    near = with_neighbours(rounding_points(target), source)
    positive = np.unique(np.concatenate([near, special_codes(source)]))
    sign = source.code_dtype.type(source.sign_bit)
    bits = (positive, positive | sign, random_bits(source.code_dtype, random))
    return np.concatenate(bits).view(source.dtype)


def with_neighbours(points: np.ndarray, source: ff.Format) -> np.ndarray:
    """Codes of the source nearest to points >= 0, and one ulp to either side."""
    with np.errstate(over="ignore", under="ignore"):
        codes = points.astype(source.dtype).view(source.code_dtype)
    near = codes[:, None].astype(np.int64) + np.array([-1, 0, 1])
    return near[(near >= 0) & (near <= source.infinity_code)].astype(source.code_dtype)


def random_bits(dtype: np.dtype, count: int, seed: int = 2026) -> np.ndarray:
    """Random patterns from a counter; half of them of exponents that narrow formats have."""
    words = np.random.Philox(seed).random_raw(count)
    words = words.view(dtype)[: count * 8 // dtype.itemsize][:count].copy()
    half = words[: count // 2]
    # -2^40 to 2^40: the sign and fraction stay, the exponent field is put into the middle.
    fraction_bits, bias = (52, 1023) if dtype.itemsize == 8 else (23, 127)
    exponent = half >> dtype.type(fraction_bits) & dtype.type(0x7F)
    exponent = exponent % dtype.type(80) + dtype.type(bias - 40)
    sign_and_fraction = dtype.type(1 << (8 * dtype.itemsize - 1) | ((1 << fraction_bits) - 1))
    half[...] = half & sign_and_fraction | exponent << dtype.type(fraction_bits)
    return words
