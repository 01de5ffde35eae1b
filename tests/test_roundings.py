"""Every format of 16 bits or fewer, every mode: exact == reference == C at every level.

The inputs are `probes.py`'s: each value, each midpoint between neighbours, both ends and beyond,
one ulp of fp32 or fp64 either side, zeros, Inf, every kind of NaN. The C kernel and the reference
meet on all of them; `exact.py` takes a millisecond for 50, so it meets the reference on the ends,
the smallest values and a sample of the rest, larger with HYPOTHESIS_PROFILE=ci and everything with
HYPOTHESIS_PROFILE=exhaustive.
"""

import functools
import itertools
import os
import zlib

import numpy as np
import pytest

import floatfmt as ff
from floatfmt import exact
from floatfmt.rounding import rules
from probes import p3109_formats, probes, rounding_points, special_codes, with_neighbours

REGISTRY = tuple(fmt for fmt in ff.formats() if fmt.bits <= 16)
P3109 = p3109_formats()
FORMATS = REGISTRY + P3109
SOURCES = tuple(map(ff.format, ("fp32", "fp64")))
NATIVE = ff.available_backends()[1:]
MODES = tuple(mode.value for mode in ff.Rounding)
SEED = 20260
#: How many inputs a format, source and mode are sampled for `exact.py`, beside the ends.
SAMPLE = {"default": 80, "ci": 1600, "exhaustive": 1 << 30}[
    os.environ.get("HYPOTHESIS_PROFILE", "default")
]

each_format = pytest.mark.parametrize("fmt", FORMATS, ids=str)


def nan_option(fmt: ff.Format) -> str:
    """A NaN policy that the format has: values of a format without NaN become 0."""
    return "zero" if fmt.nan is None else "quiet"


@functools.lru_cache(maxsize=2)
def inputs(source: ff.Format, fmt: ff.Format) -> np.ndarray:
    return probes(source, fmt, random=1 << 8)


def sample(source: ff.Format, fmt: ff.Format) -> np.ndarray:
    """Places in `inputs`: both ends of the magnitudes, the special values, and a choice of all."""
    x = inputs(source, fmt)
    if x.size <= SAMPLE:
        return np.arange(x.size)
    points = rounding_points(fmt)
    ends = np.concatenate([points[:5], points[-9:], [np.inf]])
    positive = with_neighbours(ends, source)
    kept = np.concatenate([positive, special_codes(source)[::5]])
    kept = np.concatenate([kept, kept | source.code_dtype.type(source.sign_bit)])
    rng = np.random.default_rng(zlib.crc32(fmt.name.encode()))
    chosen = rng.choice(x.size, SAMPLE, replace=False)
    return np.union1d(np.flatnonzero(np.isin(x.view(source.code_dtype), kept)), chosen)


def encoded(backend: str, x: np.ndarray, fmt: ff.Format, **options: object) -> np.ndarray:
    with ff.use_backend(backend):
        return ff.encode(x, fmt, **options)


def assert_codes(found: np.ndarray, wanted: np.ndarray, x: np.ndarray, context: object) -> None:
    wrong = np.flatnonzero(found != wanted)
    if wrong.size:
        i = wrong[0]
        bits = int(x.view(f"u{x.itemsize}")[i])
        pytest.fail(
            f"{context}: {x[i]!r} ({bits:#x}) gave {found[i]:#x}, wanted {wanted[i]:#x};"
            f" {wrong.size:,} of {x.size:,} differ"
        )


#: Beside the defaults: what happens beyond the ends and among the subnormals, in every mode.
POLICIES = ({}, {"overflow": "saturate", "subnormals": "flush"})


@each_format
def test_every_level_is_the_reference_at_every_place_where_a_rounding_changes(fmt):
    for source in SOURCES:
        x = inputs(source, fmt)
        for mode in MODES:
            for policy in POLICIES:
                options = {"rounding": mode, "nan": nan_option(fmt), "seed": SEED, **policy}
                wanted = encoded("reference", x, fmt, **options)
                for level in NATIVE:
                    found = encoded(level, x, fmt, **options)
                    assert_codes(found, wanted, x, (level, str(source), mode, policy))


@each_format
def test_the_reference_is_the_definition_at_those_places(fmt):
    for source in SOURCES:
        x = inputs(source, fmt)
        codes = x.view(source.code_dtype)
        places = sample(source, fmt)
        for mode in MODES:
            how = rules(fmt, mode, nan=nan_option(fmt))
            found = encoded("reference", x, fmt, rounding=mode, nan=nan_option(fmt), seed=SEED)
            stochastic = mode == "stochastic"
            wanted = np.array(
                [
                    exact.convert(
                        *(int(codes[i]), source, fmt, how),
                        exact.random_word(SEED, int(i)) if stochastic else None,
                    )
                    for i in places
                ]
            )
            assert_codes(found[places], wanted, x[places], (str(source), mode))


@each_format
def test_every_nan_becomes_what_the_policy_says_on_every_backend(fmt):
    for source in SOURCES:
        codes = special_codes(source)
        codes = np.concatenate([codes, codes | source.code_dtype.type(source.sign_bit)])
        codes = codes[
            (codes & source.code_dtype.type(source.magnitude_mask)) > source.infinity_code
        ]
        x = codes.view(source.dtype)
        for nan in ("quiet", "preserve", "canonical", "zero", "largest", "error"):
            if nan == "zero" and not fmt.zero:
                with pytest.raises(ValueError, match="has no zero"):
                    rules(fmt, nan=nan)
                continue
            how = rules(fmt, nan=nan)
            for backend in ff.available_backends():
                if how.nans is None:
                    with pytest.raises(ValueError, match=r"nan|NaN"):
                        encoded(backend, x, fmt, nan=nan)
                    continue
                wanted = np.array([exact.convert(int(c), source, fmt, how) for c in codes])
                assert_codes(encoded(backend, x, fmt, nan=nan), wanted, x, (backend, nan))


def bits_of(value: object) -> int:
    """The fp64 pattern of what `exact.decode` gives for a code that is not NaN."""
    return int(np.float64(float(value)).view(np.uint64))


@each_format
def test_every_code_decodes_to_its_exact_value_and_back_to_itself(fmt):
    codes = np.arange(1 << fmt.bits).astype(fmt.code_dtype)
    is_nan = np.array([exact.category(int(code), fmt) == "nan" for code in codes])
    wanted = np.array([bits_of(exact.decode(int(c), fmt)) for c in codes[~is_nan]], np.uint64)
    for backend in ff.available_backends():
        for dtype in {np.dtype(np.float64), fmt.value_dtype}:
            with ff.use_backend(backend):
                values = ff.decode(codes, fmt, dtype=dtype)
            assert values.dtype == dtype
            assert np.array_equal(np.isnan(values), is_nan)
            wide = values[~is_nan].astype(np.float64).view(np.uint64)
            assert_codes(wide, wanted, values[~is_nan], (backend, str(dtype)))
            back = encoded(backend, values, fmt, nan="preserve" if fmt.nan else "zero")
            assert_codes(back, codes, values, (backend, "back", str(dtype)))
            if fmt.nan is not None:
                quiet = encoded(backend, values, fmt)
                quieted = np.where(is_nan, codes | fmt.code_dtype.type(fmt.quiet_bit), codes)
                assert_codes(quiet, quieted, values, (backend, "quiet", str(dtype)))


def test_the_formats_are_all_of_them():
    assert len(REGISTRY) == 20
    assert len({fmt.name for fmt in P3109}) == len(P3109) == 120
    assert {fmt.bits for fmt in P3109} == {3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_the_probes_hold_every_value_midpoint_and_neighbour(source):
    fmt = ff.format("fp8_e4m3fn")
    x = inputs(source, fmt)
    held = set(x.view(source.code_dtype).tolist())
    values = [exact.decode(code, fmt) for code in range(0x7F)]
    wanted = [*values, *((a + b) / 2 for a, b in itertools.pairwise(values)), 464, 480]
    for value in wanted:
        code = exact.encode(value, source)
        near = {code, exact.next_up(code, source), exact.next_down(code, source)}
        assert near | {c ^ source.sign_bit for c in near} <= held
    assert np.isinf(x).sum() == 2
    assert {exact.is_quiet(c, source) for c in held if exact.category(c, source) == "nan"} == {
        True,
        False,
    }
