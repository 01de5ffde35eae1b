"""Hypothesis strategies: bit patterns rather than floats, weighted towards the boundaries.

`st.floats()` alone hardly ever draws NaN payloads, ties or the ends of the subnormals.
"""

import functools

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import floatfmt as ff
from floatfmt.rounding import NANS, OVERFLOWS, SUBNORMALS, Rules, rules

FLOAT_DTYPES = tuple(map(np.dtype, (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)))

#: Formats outside the registry that every conversion has to take too: narrow, wide, odd biases.
CUSTOM_FORMATS = (
    ff.Format("e5m2", 5, 2),
    ff.Format("e2m1", 2, 1),
    ff.Format("e5m2 without Inf and NaN", 5, 2, infinity=False, nan=None),
    ff.Format("e8m10 with fp32's subnormals as normals", 8, 10, bias=140),
    ff.Format("e6m20 around 1e10", 6, 20, bias=-3),
    ff.Format("e11m20", 11, 20),
    ff.Format("e9m23", 9, 23),
    ff.Format("e8m3, a binade below fp32", 8, 3, bias=128),
    ff.Format("e6m3, far below 1", 6, 3, bias=128),
    ff.Format("e9m24, subnormals are fp64's", 9, 24, bias=1023),
    ff.Format("e10m52, subnormals are fp64's", 10, 52, bias=1023),
    ff.Format("e4m3 of large numbers", 4, 3, bias=-20),
    ff.Format("e5m1 next to fp64's end", 5, 1, bias=-993),
    ff.Format("e8m22", 8, 22),
    ff.Format("e5m23 without zero", 5, 23, signed=False, infinity=False, nan="top", zero=False),
    ff.Format("e5m52 without zero", 5, 52, signed=False, infinity=False, nan="top", zero=False),
    ff.Format("3-bit, tiny", 0, 2, bias=128, infinity=False, nan=None, twos_complement=True),
    ff.Format("53-bit integers", 0, 52, infinity=False, nan=None, twos_complement=True),
    ff.Format("e3m0 without Inf and NaN", 3, 0, infinity=False, nan=None),
    ff.Format("e7m4 without zero", 7, 4, signed=False, infinity=False, nan="top", zero=False),
    ff.Format("17-bit integers", 0, 16, -15, infinity=False, nan=None, twos_complement=True),
    ff.Format("32 bits without sign", 9, 23, signed=False, nan="top"),
    ff.p3109(8, 3),
    ff.p3109(8, 1, signed=False),
    ff.p3109(5, 2, extended=False),
    ff.p3109(12, 12, signed=False, extended=False),
    ff.p3109(8, 1, extended=False),
    ff.p3109(6, 4, signed=False),
    ff.p3109(12, 5, signed=False, extended=False),
    ff.Format("sign and magnitude", 0, 6, infinity=False, nan=None),
    ff.Format("fixed point with Inf and NaN", 0, 5, bias=3, nan="top"),
    ff.Format("e3m0 without zero", 3, 0, signed=False, infinity=False, nan=None, zero=False),
    ff.Format("unsigned e4m3 with Inf", 4, 3, signed=False),
    ff.Format("e8m6 beyond fp32", 8, 6, signed=False, infinity=False, nan=None),
    ff.Format("8 bits to -2**128", 0, 7, -127, infinity=False, nan=None, twos_complement=True),
    ff.Format("e6m22", 6, 22),
    ff.Format("e8m13, fp32's subnormals have two bits more", 8, 13, bias=135),
    ff.Format("e8m14, fp32's subnormals have one bit more", 8, 14, bias=135),
)
ALL_FORMATS = (*ff.formats(), *CUSTOM_FORMATS)


@functools.cache
def boundary_codes(fmt: ff.Format) -> tuple[int, ...]:
    """Codes at and next to every place where something changes, of both signs."""
    one = fmt.bias << fmt.fraction_bits if 0 < fmt.bias < fmt.exponent_mask else 1
    # Zero, the smallest normal, one, Inf or the largest finite value, NaNs, the last code.
    places = (
        *(0, 1 << fmt.fraction_bits, one, fmt.max_code + 1),
        *((fmt.nan_code or 0) & fmt.magnitude_mask, fmt.magnitude_mask),
    )
    magnitudes = {place + step for place in places for step in (-2, -1, 0, 1, 2)}
    magnitudes = {m for m in magnitudes if 0 <= m <= fmt.magnitude_mask}
    return tuple(sorted({m | sign for m in magnitudes for sign in (0, fmt.sign_bit)}))


@functools.cache
def tie_codes(source: ff.Format, target: ff.Format) -> tuple[int, ...]:
    """Codes of `source` at and one ulp beside midpoints of `target`'s boundary neighbours."""
    found: set[int] = set()
    for code in boundary_codes(target):
        if not ff.exact.is_finite(code, target):
            continue
        for end in ff.exact.rounding_interval(code, target)[:2]:
            near = ff.exact.encode(end, source)
            if ff.exact.is_finite(near, source):
                found |= {
                    near,
                    ff.exact.next_up(near, source),
                    ff.exact.next_down(near, source),
                }
    return tuple(sorted(found))


def codes(fmt: ff.Format, towards: ff.Format | None = None) -> st.SearchStrategy[int]:
    """Codes of a format: any bits, boundaries, and ties of the format they are rounded to."""
    parts = [st.integers(0, 2**fmt.bits - 1), st.sampled_from(boundary_codes(fmt))]
    if towards is not None and (ties := tie_codes(fmt, towards)):
        parts.append(st.sampled_from(ties))
    return st.one_of(parts)


def rules_of(fmt: ff.Format) -> st.SearchStrategy[Rules]:
    """Every choice of rounding, overflow, NaN and subnormals that a format has."""
    overflows = [o for o in OVERFLOWS if o != "nan" or fmt.nan is not None]
    nans = [nan for nan in NANS if nan != "zero" or fmt.zero]
    return st.builds(
        rules,
        st.just(fmt),
        st.sampled_from(ff.Rounding),
        st.sampled_from(overflows),
        st.sampled_from(nans),
        st.sampled_from(SUBNORMALS),
    )


def options(how: Rules) -> dict[str, str]:
    """Rules as the keyword arguments that ask for them."""
    names = ("rounding", "overflow", "nan", "subnormals")
    return {name: getattr(how, name) for name in names}


def code_arrays(
    fmt: ff.Format, towards: ff.Format | None = None, max_size: int = 600
) -> st.SearchStrategy[np.ndarray]:
    """1-D arrays of codes, long enough for a vector body and a tail."""
    return hnp.arrays(fmt.code_dtype, st.integers(0, max_size), elements=codes(fmt, towards))


def value_arrays(
    dtype: np.dtype, towards: ff.Format | None = None, max_size: int = 600
) -> st.SearchStrategy[np.ndarray]:
    """1-D arrays of any bit patterns of a float dtype."""
    return code_arrays(ff.format(dtype), towards, max_size).map(lambda bits: bits.view(dtype))


@st.composite
def finite_arrays(
    draw: st.DrawFn, dtype: np.dtype, min_size: int = 0, max_size: int = 600
) -> np.ndarray:
    """1-D arrays of finite values: any bits, or near one magnitude as real weights are."""
    fmt = ff.format(dtype)
    size = draw(st.integers(min_size, max_size))
    if draw(st.booleans()):
        elements = codes(fmt).map(lambda code: _finite(code, fmt))
        return draw(hnp.arrays(fmt.code_dtype, size, elements=elements)).view(dtype)
    low, high = fmt.min_exponent - fmt.fraction_bits, fmt.max_exponent
    scale = 2.0 ** draw(st.integers(low, high - 8))
    steps = draw(hnp.arrays(np.int16, size, elements=st.integers(-400, 400)))
    # Halves and quarters of one scale: ties and near ties of a quantiser by that scale.
    return (steps * 0.25 * scale).astype(dtype)


def _finite(code: int, fmt: ff.Format) -> int:
    finite = (code & fmt.magnitude_mask) % (fmt.max_code + 1)
    return finite | (code & fmt.sign_bit)
