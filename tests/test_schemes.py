"""Every scheme of the quantiser against a second telling of it, and the properties it promises."""

import itertools
import json
import pickle
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import floatfmt as ff
import oracle_quantize as oracle
from floatfmt import schemes, storage
from floatfmt.codebooks import DYNAMIC8, NF4
from strategies import FLOAT_DTYPES, finite_arrays

torch = pytest.importorskip("torch")

FP64, FP32, FP16, BF16 = FLOAT_DTYPES
SHAPES = ((), (0,), (1,), (7,), (45,), (3, 5), (2, 21), (4, 3, 5), (0, 3), (3, 0, 2))
MODES = ("nearest_away", "toward_zero", "toward_positive", "toward_negative", "to_odd")
THIRDS = [-1.0, -1 / 3, 1 / 3, 1.0]
CODEBOOKS = (THIRDS, [0.0, 3.0, 1.0, 1.0, -0.75], [0.005, 0.001], [-7.5, -2.0, 1e-3, 2.0, 7.5])


def taken(scheme: Any) -> Any:
    """A scheme as `ff.quantize` takes it: the oracle's codebooks are lists."""
    return ff.Codebook(scheme, "mine") if isinstance(scheme, list) else scheme


def everywhere(x: Any, scheme: Any = None, **options: Any) -> ff.Quantized:
    """Quantise on every backend of this machine, to the same result."""
    found = []
    for name in ff.available_backends():
        with ff.use_backend(name):
            found.append(ff.quantize(x, taken(scheme), **options))
    assert all(q == found[0] for q in found)
    return found[-1]


def wide(part: Any) -> np.ndarray:
    return np.asarray(part).astype(np.float64)


def near_tie(x: np.ndarray, scheme: Any, q: ff.Quantized, w: oracle.Result, **options: Any) -> bool:
    """Whether other codes than the oracle's are as near, to within float64's rounding.

    Thresholds of tables are multiplied by the scale, and more than 53 bits may come of it: only of
    fp64 values, or a table of float64s.
    """
    if x.dtype != FP64 and not isinstance(scheme, list):
        return False
    elements = oracle.elements_of(scheme, 8, True, False)
    _, where = oracle.groups_of(x.shape, *oracle.blocks_of(scheme, options))
    for at in oracle.indices(x.shape):
        value = Fraction(float(x[at]))
        scale = w.scale[where(at)] * (w.tensor_scale or 1)
        error = abs(value - elements.value(int(q.codes[at]), 0) * scale)
        if error - abs(value - w.values[at]) > abs(value) / 2**51:
            return False
    return True


def agrees(x: np.ndarray, scheme: Any, **options: Any) -> ff.Quantized:
    """Quantise, and find the oracle's codes, scales, zero points and count of clamped values."""
    w = oracle.quantize(x, scheme, **options)
    if "scale" in options and scheme in ("absmax", "zeropoint"):
        q = everywhere(x, **options)
    else:
        q = everywhere(x, scheme, **options)
    assert q.scale.shape == w.scale.shape
    assert wide(q.scale).tolist() == w.scale.astype(float).tolist()
    if q.zero_point is not None:
        assert q.zero_point.tolist() == w.zero_point.tolist()
    if w.tensor_scale is not None:
        assert float(q.tensor_scale) == float(w.tensor_scale)
    assert q.codes.shape == x.shape
    if q.codes.tolist() != w.codes.tolist():
        assert near_tie(x, scheme, q, w, **options), (q.codes.tolist(), w.codes.tolist())
        return q
    assert q.saturated == w.saturated
    wanted = [oracle.output(value, q.format.name) for value in w.wide.ravel()]
    assert wide(q.dequantize()).ravel().tolist() == [float(value) for value in wanted]
    assert q.dequantize("fp64").ravel().tolist() == [float(value) for value in w.wide.ravel()]
    return q


@st.composite
def arrays(draw: st.DrawFn, shapes: Any = SHAPES, dtypes: Any = FLOAT_DTYPES) -> np.ndarray:
    """Arrays of any bits, ties of one scale, subnormals alone, or the ends of the range."""
    shape, dtype = draw(st.sampled_from(shapes)), draw(st.sampled_from(dtypes))
    fmt, size = ff.format(dtype), int(np.prod(shape, dtype=int))
    kind = draw(st.sampled_from(("any", "subnormal", "ends")))
    if kind == "any":
        return draw(finite_arrays(dtype, size, size)).reshape(shape)
    if kind == "subnormal":
        codes = st.integers(0, 2 ** draw(st.integers(1, fmt.fraction_bits)) - 1)
    else:
        ends = (0, 1, fmt.max_code, fmt.max_code - 1, fmt.max_code - (1 << fmt.fraction_bits))
        codes = st.sampled_from(ends)
    magnitudes = draw(st.lists(codes, min_size=size, max_size=size))
    signs = draw(st.integers(0, 2**size - 1)) if size else 0
    bits = [code | fmt.sign_bit * (signs >> i & 1) for i, code in enumerate(magnitudes)]
    return np.array(bits, fmt.code_dtype).view(dtype).reshape(shape)


@st.composite
def roundings(draw: st.DrawFn) -> dict[str, Any]:
    """A rounding mode, half of the time nearest even, and the seed of the stochastic one."""
    if draw(st.booleans()):
        return {}
    mode = draw(st.sampled_from((*MODES, "stochastic")))
    if mode != "stochastic":
        return {"rounding": mode}
    return {"rounding": mode, "seed": draw(st.integers(0, 2**64 - 1))}


@st.composite
def groupings(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """One scale; a scale per axis or axes; or blocks along an axis or all values."""
    kinds = ["one", "flat"] + ["axis", "block"] * bool(shape) + ["axes"] * (len(shape) > 1)
    kind = draw(st.sampled_from(kinds))
    if kind == "one":
        return {}
    n = len(shape)
    if kind == "axis":
        return {"axis": draw(st.integers(-n, n - 1))}
    if kind == "axes":
        return {"axis": draw(st.sampled_from(((0, n - 1), (-1, 0), tuple(range(n)))))}
    block = draw(st.sampled_from((1, 2, 3, 5, 7, 8, 16, 100)))
    along = None if kind == "flat" else draw(st.integers(-n, n - 1))
    return {"block": block, "block_axis": along}


SCALE_DTYPES = st.sampled_from((None, None, "fp64", "fp32", "fp16", "bf16", "e8m0"))


# --- every scheme is the oracle's ---------------------------------------------------------------


@given(st.sampled_from(("absmax", "zeropoint")), st.integers(2, 8), arrays(), st.data())
@settings(max_examples=100)
def test_integers_are_the_oracles(scheme, bits, x, data):
    options = {"bits": bits, "scale_dtype": data.draw(SCALE_DTYPES)}
    if scheme == "zeropoint":
        options |= {"signed": data.draw(st.booleans()), "include_zero": data.draw(st.booleans())}
    agrees(x, scheme, **options, **data.draw(groupings(x.shape)), **data.draw(roundings()))


@given(st.sampled_from(list(oracle.MX)), arrays(), st.data())
@settings(max_examples=80)
def test_microscaling_is_the_oracles(scheme, x, data):
    rule = data.draw(st.sampled_from((None, "floor", "ceil", "even", "rceil")))
    along = data.draw(st.sampled_from((None, *range(-x.ndim, x.ndim))))
    options = {"block": data.draw(st.sampled_from((None, 3, 32))), "block_axis": along}
    agrees(x, scheme, scale_rule=rule, **options, **data.draw(roundings()))


@given(arrays(), st.data())
@settings(max_examples=60)
def test_nvfp4_is_the_oracles(x, data):
    # Below, the product of the two scales is a subnormal fp64 or 0.
    amax = np.abs(wide(x)).max(initial=0)
    assume(x.dtype != FP64 or not 0 < amax < 2.0**-1000)
    along = data.draw(st.sampled_from((None, *range(-x.ndim, x.ndim))))
    options = {"block": data.draw(st.sampled_from((None, 1, 3))), "block_axis": along}
    agrees(x, "nvfp4", **options, **data.draw(roundings()))


@given(st.sampled_from(list(oracle.LAYOUTS)), arrays(), st.data())
@settings(max_examples=100)
def test_a_formats_values_are_the_oracles(name, x, data):
    scheme = name if name != "mxint8" else "fp8_e4m3fn"  # "mxint8" is a scheme of its own
    options = data.draw(groupings(x.shape)) | data.draw(roundings())
    agrees(x, scheme, scale_dtype=data.draw(SCALE_DTYPES), **options)


@given(st.sampled_from((*oracle.TABLES, *CODEBOOKS)), arrays(), st.data())
@settings(max_examples=100)
def test_the_values_of_tables_are_the_oracles(scheme, x, data):
    options = data.draw(groupings(x.shape)) | data.draw(roundings())
    agrees(x, scheme, scale_dtype=data.draw(SCALE_DTYPES), **options)


@given(
    st.lists(st.floats(-9, 9, width=16), min_size=2, max_size=40), arrays(dtypes=[FP32]), st.data()
)
@settings(max_examples=40)
def test_codebooks_of_any_values_in_any_order_are_the_oracles(values, x, data):
    assume(len(set(values)) > 1)
    agrees(x, values, **data.draw(groupings(x.shape)), **data.draw(roundings()))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("scheme", ["nvfp4", "mxfp4", "mxfp6_e3m2fn", "mxfp8_e5m2", "nf4"])
def test_whole_blocks_have_one_result_everywhere(scheme, dtype):
    """They take kernels' own passes; of the tensor's scale too, where there is one."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((9, 192)) * 2.0 ** rng.integers(-12, 3, (9, 1))).astype(dtype)
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    for values in (x, x * 0, x[:, :64], x.T, x[:0], (x * 0 + tiny).astype(dtype)):
        q = everywhere(values, scheme)
        out = np.empty_like(q.packed)
        assert everywhere(values, scheme, out=out) == q
        assert everywhere(torch.from_numpy(wide(values)).to(torch.float32), scheme).shape == q.shape
    for bad in (np.nan, np.inf):
        x[3, 70] = bad
        with pytest.raises(ValueError, match=rf"x\[3, 70\] is {bad}"):
            ff.quantize(x, scheme)


@pytest.mark.parametrize("scheme", ["nf4", "dynamic8"])
def test_blocks_of_tables_run_through_all_values(backend, scheme):
    x = np.random.default_rng(1).standard_normal((3, 70)).astype(np.float32)
    agrees(x, scheme)
    q = ff.quantize(np.tile(x, (1, 30)), scheme)
    assert q.scale.shape == ((6300 + oracle.TABLES[scheme][1] - 1) // oracle.TABLES[scheme][1],)


@given(arrays(dtypes=[FP32, BF16, FP64]), st.sampled_from(("absmax", "nf4", THIRDS, "fp8_e5m2")))
@settings(max_examples=40)
def test_a_scale_rule_gives_any_magnitudes_power_of_two_scales(x, scheme):
    for rule in schemes.POWER_RULES:
        q = everywhere(x, scheme, scale_rule=rule)
        significands, _ = np.frexp(wide(q.scale))
        assert (significands == 0.5).all()
    largest = {"absmax": 127, "nf4": 1, "fp8_e5m2": 57344}.get(str(scheme), 1)
    amax = float(np.abs(wide(x)).max(initial=0)) if x.ndim == 1 and scheme != "nf4" else 0.0
    if 2.0**-100 < amax < 2.0**100:  # rceil: the least power with which nothing is clamped
        least = 2.0 ** oracle.ceil_log2(Fraction(amax) / largest)
        assert float(q.scale) == least


def test_the_tables_are_those_of_the_sources():
    assert NF4[0] == -1.0
    assert NF4[7] == 0.0
    assert NF4[15] == 1.0
    assert np.float32(NF4[8]) == np.float32(0.07958029955625534)
    # bitsandbytes' create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8)
    values = [0.0, 1.0]
    for i in range(7):
        ends = np.linspace(0.1, 1, 2**i + 1)
        means = (ends[:-1] + ends[1:]) / 2 * 10.0 ** (i - 6)
        values += [*means, *-means]
    assert len(values) == len(DYNAMIC8) == 256
    np.testing.assert_allclose(sorted(DYNAMIC8), sorted(values), rtol=2e-6)


# --- properties ---------------------------------------------------------------------------------

NAMED = [*schemes.SCHEMES, "fp6_e3m2fn", "fp8_e4m3fnuz"]


#: What makes one scale do for all values of a scheme that has blocks.
WHOLE: dict[str, dict[str, Any]] = {
    "zeropoint": {},
    "fp8_e5m2": {},
    "nf4": {"block": 1 << 20, "block_axis": None},
}


def spread_scales(q: ff.Quantized) -> np.ndarray:
    """Scales, one for every value."""
    where = oracle.groups_of(q.shape, q.axis or None, q.block, q.block_axis)[1]
    scale = wide(q.scale) * (1.0 if q.tensor_scale is None else float(q.tensor_scale))
    found = np.empty(q.shape)
    for at in oracle.indices(q.shape):
        found[at] = scale[where(at)]
    return found


def ladder(q: ff.Quantized) -> list[Fraction]:
    """All values of the codes of a table or format, from the least up."""
    values = ff.values(q.elements) if isinstance(q.elements, ff.Format) else q.elements.values
    return sorted({Fraction(float(v)) for v in np.asarray(values, np.float64) if np.isfinite(v)})


@given(st.sampled_from(NAMED), arrays(shapes=[(7,), (2, 21)], dtypes=[FP32, FP16, BF16]))
def test_what_is_not_clamped_comes_back_within_half_a_step(scheme, x):
    q = ff.quantize(x, scheme)
    back, scales = q.dequantize("fp64"), spread_scales(q)
    steps = [Fraction(-1), Fraction(0), Fraction(1)] if q.zero_point is not None else ladder(q)
    beyond = 0
    for at in oracle.indices(x.shape):
        value, scale = Fraction(float(x[at])), Fraction(scales[at])
        inside = value / scale if q.zero_point is None else Fraction(0)
        gaps = [b - a for a, b in itertools.pairwise(steps) if a <= inside <= b]
        gap = max(gaps, default=steps[1] - steps[0] if inside < 0 else steps[-1] - steps[-2])
        beyond += abs(value - Fraction(float(back[at]))) > gap * scale / 2
    assert beyond <= q.saturated


@given(st.sampled_from(("absmax", "zeropoint")), st.integers(2, 8), arrays(shapes=[(7,), (2, 21)]))
def test_dequantised_integers_have_the_same_codes_by_the_same_scale(scheme, bits, x):
    # Where nothing was clamped: x itself is within half a scale of the code, so the output's
    # nearest value to it is as near, however coarse.
    q = ff.quantize(x, scheme, bits=bits)
    assume(not q.saturated)
    again = everywhere(q.dequantize(), scale=wide(q.scale), zero_point=q.zero_point, bits=bits)
    assert np.array_equal(again.codes, q.codes)


NOT_INTEGERS = [name for name in NAMED if name not in ("absmax", "zeropoint", "nvfp4")]


@given(st.sampled_from(NOT_INTEGERS), arrays(shapes=[(7,), (2, 21)], dtypes=[FP32, FP16, BF16]))
def test_exactly_dequantised_values_have_the_same_codes_by_the_same_scale(scheme, x):
    # fp64 holds a narrower format's scale times a value of 8 bits or a table.
    q = ff.quantize(x, scheme)
    groups = {"block": q.block, "block_axis": q.block_axis} if q.block else {}
    again = everywhere(q.dequantize("fp64"), scheme, scale=wide(q.scale), **groups)
    assert np.array_equal(again.codes, q.codes)
    assert not again.saturated


TWICE = ("mxfp8_e4m3fn", "mxfp8_e5m2", "mxfp6_e2m3fn", "mxfp6_e3m2fn", "mxfp4", "nf4", "fp4")


@given(st.sampled_from(TWICE), st.sampled_from((FP64, FP32, BF16)), st.data())
def test_quantising_twice_is_quantising_once(scheme, dtype, data):
    # The largest magnitude stays in its binade (mx) or is a value of the table (nf4, fp4). Others:
    # absmax's scale may differ by an ulp; dynamic8 has no -1; -2 of mxint8 is in the next binade.
    steps = data.draw(st.lists(st.integers(-400, 400), min_size=1, max_size=40))
    x = (np.array(steps) * 2.0 ** data.draw(st.integers(-80, 80))).astype(dtype)
    q = ff.quantize(x, scheme)
    again = everywhere(q.dequantize(), scheme)
    assert np.array_equal(again.codes, q.codes)
    assert np.array_equal(wide(again.scale), wide(q.scale))
    assert not (again.saturated)


@given(st.sampled_from((*NAMED, THIRDS)), st.integers(-40, 40), st.data())
def test_a_power_of_two_changes_only_the_scales(scheme, exponent, data):
    steps = data.draw(st.lists(st.integers(-400, 400), min_size=1, max_size=40))
    x = np.float32(steps) * np.float32(0.25)
    q, scaled = ff.quantize(x, taken(scheme)), everywhere(x * np.float32(2.0**exponent), scheme)
    assert np.array_equal(scaled.codes, q.codes)
    assert scaled.saturated == q.saturated
    zero = np.abs(spread_scales(q)) == 1.0  # what groups of zeros have
    by = np.where(zero & (spread_scales(scaled) == 1.0), 1.0, 2.0**exponent)
    assert np.array_equal(spread_scales(scaled), spread_scales(q) * by)


@given(st.sampled_from((*NAMED, THIRDS)), arrays(shapes=[(2, 14)]), st.permutations(range(14)))
def test_the_order_within_a_group_does_not_matter(scheme, x, order):
    q, moved = ff.quantize(x, taken(scheme)), everywhere(x[:, order], scheme)
    assert np.array_equal(q.codes[:, order], moved.codes)
    assert np.array_equal(wide(q.scale), wide(moved.scale))
    assert q.saturated == moved.saturated


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """The same values in memory of other shapes."""
    padded = np.zeros([2 * n for n in x.shape], x.dtype)
    spaced = padded[tuple(slice(None, None, 2) for _ in x.shape)]
    spaced[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    backwards = np.flip(np.flip(x).copy())
    found = [np.asfortranarray(x), spaced, read_only, backwards, x.T.copy().T]
    if x.dtype.isbuiltin == 1:
        found.append(x.astype(x.dtype.newbyteorder(">")))
    return found


@pytest.mark.parametrize("rounding", ["nearest_even", "to_odd", "stochastic"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("scheme", NAMED)
def test_memory_layout_changes_nothing(backend, scheme, dtype, rounding):
    x = np.random.default_rng(3).standard_normal((6, 5, 40)).astype(dtype)
    options: dict[str, Any] = {"rounding": rounding}
    if rounding == "stochastic":
        options["seed"] = 11
    for more in ({}, {"block": 7, "block_axis": 1}, {"block": 9, "block_axis": None}):
        q = ff.quantize(x, scheme, **options, **more)
        for same in layouts(x):
            assert ff.quantize(same, scheme, **options, **more) == q
    with ff.use_backend("reference"):
        assert ff.quantize(x, scheme, **options, **more) == q


# Sections of the values are worked on one after another: their ends must not show.
@pytest.mark.parametrize("rounding", ["nearest_even", "to_odd"])
@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("mxfp4", {}),
        ("nf4", {}),
        ("absmax", {"bits": 3, "block": 40, "block_axis": None}),
        ("zeropoint", {"bits": 5, "block": 24}),
    ],
)
def test_blocks_of_a_long_array_are_those_of_its_parts(scheme, options, rounding):
    x = np.random.default_rng(12).standard_normal(300_003).astype(np.float32)
    q = everywhere(x, scheme, rounding=rounding, **options)
    codes, scales, saturated, step = [], [], 0, 960  # a multiple of every block
    for start in range(0, x.size, step):
        part = ff.quantize(x[start : start + step], scheme, rounding=rounding, **options)
        codes.append(part.codes)
        scales.append(wide(part.scale))
        saturated += part.saturated
    assert np.array_equal(q.codes, np.concatenate(codes))
    assert np.array_equal(wide(q.scale), np.concatenate(scales))
    assert q.saturated == saturated


@pytest.mark.parametrize("shape", [(300_003,), (3, 100_001), (500, 601)])
def test_stochastic_rounding_counts_elements_in_c_order_to_the_end(shape):
    x = np.random.default_rng(13).standard_normal(shape).astype(np.float32)
    seed = 2**63 + 5
    for scheme, name in ((None, "zeropoint"), ("nf4", "nf4"), ("fp8_e5m2", "fp8_e5m2")):
        q = everywhere(x, scheme, scale=0.0625, rounding="stochastic", seed=seed, **WHOLE[name])
        elements = oracle.elements_of(name, 8, True, True)
        for flat in [0, *np.random.default_rng(14).integers(0, x.size, 300), x.size - 1]:
            value, random = Fraction(float(x.flat[flat])), oracle.philox(seed, int(flat))
            negative = bool(np.signbit(x.flat[flat]))
            code, _ = elements.encode(16 * value, negative, 0, "stochastic", random)
            assert q.codes.flat[flat] == code


# --- packing and size ---------------------------------------------------------------------------


@given(st.integers(2, 8), arrays(), st.data())
def test_packed_codes_hold_each_code_once_from_the_lowest_bits(bits, x, data):
    options = data.draw(groupings(x.shape))
    q = ff.quantize(x, "zeropoint", bits=bits, **options)
    assert q.codes.dtype == np.int8
    assert q.bits == bits
    rows = q.codes.reshape(1, -1) if options.get("block_axis", 0) is None else q.codes
    if bits == 8:
        assert q.packed.dtype == np.int8
        assert np.array_equal(q.packed, q.codes)
        return
    rows = np.atleast_1d(rows)
    nbytes = -(-rows.shape[-1] * bits // 8)
    lines = rows.reshape(-1, rows.shape[-1]) if rows.size else rows.reshape(0, 1)
    packed = q.packed.reshape(-1, nbytes) if rows.size else np.empty((0, 1), np.uint8)
    for line, stored in zip(lines, packed, strict=True):
        as_one = sum((int(code) & (2**bits - 1)) << (bits * i) for i, code in enumerate(line))
        assert stored.tobytes() == as_one.to_bytes(nbytes, "little")
    if bits == 4 and rows.size:
        lowest = np.uint8(15)
        again = ff.unpack(q.packed, "uint4", rows.shape[-1]).reshape(rows.shape)
        assert np.array_equal(again, rows & lowest)


STORED = [
    ((64, 130), {"scheme": "absmax"}, 64 * 130 + 4),
    ((64, 130), {"scheme": "absmax", "bits": 4, "block": 32}, 64 * 65 + 64 * 5 * 4),
    ((64, 130), {"scheme": "absmax", "bits": 3, "axis": 0}, 64 * 49 + 64 * 4),
    ((64, 130), {"scheme": "zeropoint"}, 64 * 130 + 4 + 8),
    ((64, 130), {"scheme": "zeropoint", "include_zero": True}, 64 * 130 + 4 + 1),
    ((64, 130), {"scheme": "nf4"}, 64 * 65 + 130 * 4),
    ((64, 130), {"scheme": "nf4", "double_quantization": True}, 64 * 65 + 130 + 4 + 4),
    ((64, 130), {"scheme": "nf4", "scale_dtype": "bf16"}, 64 * 65 + 130 * 2),
    ((64, 130), {"scheme": "mxfp4"}, 64 * 65 + 64 * 5),
    ((64, 130), {"scheme": "mxfp6_e3m2fn", "block_axis": 0}, 64 * 98 + 2 * 130),
    ((64, 130), {"scheme": "nvfp4"}, 64 * 65 + 64 * 9 + 4),
    ((64, 130), {"scheme": "fp8_e5m2"}, 64 * 130 + 4),
    ((), {"scheme": "mxfp4"}, 1 + 1),
]


@pytest.mark.parametrize(("shape", "options", "nbytes"), STORED, ids=str)
def test_nbytes_is_what_is_stored(shape, options, nbytes):
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32) + np.float32(3)
    q = ff.quantize(x, **options)
    assert q.nbytes == nbytes
    assert q.bits_per_value == 8 * nbytes / x.size
    assert sum(part.nbytes for part in storage.parts(q).values()) == nbytes


# --- stochastic rounding ------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**20))
def test_the_oracles_philox_is_the_definitions(seed, index):
    assert oracle.philox(seed, index) == ff.exact.random_word(seed, index)


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint", "nf4", "mxfp4", "fp8_e4m3fn"])
def test_stochastic_rounding_is_right_in_the_mean(scheme):
    n = 1 << 16
    x = np.full(n, 0.37, np.float32)
    x[:2] = 1.0, -1.0
    options = {"block": n, "block_axis": None} if scheme in ("nf4", "mxfp4") else {}
    q = ff.quantize(x, scheme, rounding="stochastic", seed=5, **options)
    values = q.dequantize("fp64")[2:]
    low, high = values.min(), values.max()
    assert low < 0.37 < high
    # Five standard deviations of a mean of values that are one of two.
    assert abs(values.mean() - float(x[2])) < 5 * (high - low) / 2 / n**0.5
    assert len(set(values.tolist())) == 2


def test_without_a_seed_stochastic_codes_differ_each_time():
    x = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    first, second = (ff.quantize(x, "absmax", rounding="stochastic") for _ in range(2))
    assert not np.array_equal(first.codes, second.codes)


# --- options ------------------------------------------------------------------------------------


@given(arrays(shapes=[(9,), (3, 5)]), st.data())
@settings(max_examples=60)
def test_a_given_range_is_the_oracles(x, data):
    scheme = data.draw(st.sampled_from(("absmax", "zeropoint", "fp8_e4m3fn", "mxfp4", "nf4")))
    low, high = sorted(data.draw(st.tuples(st.floats(-50, 50), st.floats(-50, 50))))
    agrees(x, scheme, min=low, max=high)


def test_a_range_may_be_given_for_every_group(backend):
    x = np.float32([[1.0, -8.0], [4.0, 0.5]])
    q = ff.quantize(x, "zeropoint", axis=0, min=np.float32([[-1.0], [0.0]]), max=2.0)
    wanted = [ff.quantize(x[i], "zeropoint", min=low, max=2.0) for i, low in enumerate((-1.0, 0.0))]
    assert q.codes.tolist() == [w.codes.tolist() for w in wanted]
    assert q.zero_point.ravel().tolist() == [int(w.zero_point) for w in wanted]
    assert q.saturated == 2


@given(arrays(), st.floats(2.0**-60, 2.0**60), st.integers(-300, 300), st.data())
@settings(max_examples=80)
def test_a_given_scale_and_zero_point_are_the_oracles(x, scale, zero_point, data):
    signed, bits = data.draw(st.booleans()), data.draw(st.integers(2, 8))
    options = data.draw(groupings(x.shape)) | data.draw(roundings())
    options["scale_dtype"] = data.draw(st.sampled_from((None, "fp64", "bf16", "e8m0")))
    found = {"scale": scale, "zero_point": zero_point, "bits": bits, "signed": signed}
    agrees(x, "zeropoint", **found, **options)


@given(arrays(), st.floats(2.0**-60, 2.0**60), st.data())
@settings(max_examples=60)
def test_a_given_scale_of_a_table_is_the_oracles(x, scale, data):
    scheme = data.draw(st.sampled_from(("nf4", "dynamic8", "fp8_e4m3fn", "fp6_e2m3fn", THIRDS)))
    agrees(x, scheme, scale=scale, **data.draw(groupings(x.shape)), **data.draw(roundings()))


@pytest.mark.parametrize("groups", [{"axis": 1}, {"block": 2}, {"block": 3, "block_axis": None}])
def test_given_scales_have_the_shape_of_found_ones(backend, groups):
    x = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
    found = ff.quantize(x, "zeropoint", **groups)
    again = ff.quantize(x, scale=found.scale, zero_point=found.zero_point, **groups)
    assert np.array_equal(again.codes, found.codes)
    agrees(x, "zeropoint", scale=found.scale, zero_point=found.zero_point, **groups)


@pytest.mark.parametrize("scale_dtype", ["fp16", "bf16", "e8m0"])
def test_given_scales_may_be_of_a_stored_dtype(backend, scale_dtype):
    x = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
    found = ff.quantize(x, "absmax", axis=0, scale_dtype=scale_dtype)
    again = ff.quantize(x, scale=found.scale, axis=0, scale_dtype=scale_dtype)
    assert np.array_equal(again.scale, found.scale)
    assert again.scale.dtype == found.scale.dtype


@pytest.mark.parametrize("scale_dtype", ["fp16", "bf16", "e8m0"])
@pytest.mark.parametrize(
    "groups", [{}, {"axis": 0}, {"axis": (0, 1)}, {"block": 2}, {"block": 2, "block_axis": None}]
)
def test_scales_of_any_shape_may_be_of_a_stored_dtype(groups, scale_dtype):
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((3, 4, 2)) * 2.0 ** rng.integers(0, 9, (3, 4, 1))).astype(np.float32)
    for scheme in ("absmax", "zeropoint"):
        found = everywhere(x, scheme, scale_dtype=scale_dtype, **groups)
        parameters = {"scale": found.scale, "zero_point": found.zero_point}
        again = everywhere(x, scale_dtype=scale_dtype, **parameters, **groups)
        assert np.array_equal(wide(again.scale), wide(found.scale))
        assert again.codes.tolist() == found.codes.tolist()
        assert everywhere(x, scale=2.0, scale_dtype=scale_dtype, **groups).scale.max() == 2


PERCENTILES = ("99.9", "99", "70", "50", "12.5", "0.1", "100")


@given(arrays(), st.sampled_from(PERCENTILES), st.data())
@settings(max_examples=60)
def test_a_percentile_is_the_oracles_nearest_rank(x, percent, data):
    scheme = data.draw(st.sampled_from(("absmax", "zeropoint", "fp8_e4m3fn", "mxfp4", "nf4")))
    options = data.draw(groupings(x.shape)) if scheme != "mxfp4" else {}
    w = oracle.quantize(x, scheme, clip=percent, **options)
    q = everywhere(x, scheme, clip=float(percent), **options)
    assert wide(q.scale).tolist() == w.scale.astype(float).tolist()
    if q.zero_point is not None:
        assert q.zero_point.tolist() == w.zero_point.tolist()
        assert q.codes.tolist() == w.codes.tolist()
        assert q.saturated == w.saturated


@pytest.mark.parametrize(("percent", "n", "rank"), [(99.9, 1000, 999), (99.99, 10000, 9999)])
def test_a_percentile_is_the_decimal_that_was_written(percent, n, rank):
    x = np.arange(1, n + 1, dtype=np.float32)
    q = ff.quantize(x, "absmax", clip=percent)
    assert float(q.scale) == np.float32(rank / 127)
    assert q.saturated < 5


@given(st.sampled_from(("absmax", "zeropoint", "nf4", "mxfp4", "fp4_e2m1fn")), st.data())
@settings(max_examples=25)
def test_mse_clipping_is_the_best_of_all_ratios(scheme, data):
    x = data.draw(finite_arrays(FP32, 3, 20))
    assume(2.0**-100 < np.abs(x).max() < 2.0**100)
    bits = {"bits": data.draw(st.integers(2, 4))} if scheme in ("absmax", "zeropoint") else {}
    low, high = float(x.min()), float(x.max())
    if scheme != "zeropoint":
        low, high = -float(np.abs(x).max()), float(np.abs(x).max())
    assume(low < high)
    tried = {}
    for percent in range(100, 19, -1):
        ratio = percent / 100
        w = oracle.quantize(x, scheme, min=low * ratio, max=high * ratio, **bits)
        key = float(w.scale.reshape(-1)[0]), int(w.zero_point.reshape(-1)[0])
        errors = (Fraction(float(a)) - b for a, b in zip(x, w.values, strict=True))
        tried.setdefault(key, sum(error**2 for error in errors))
    q = everywhere(x, scheme, clip="mse", **bits)
    zero = 0 if q.zero_point is None else int(q.zero_point.reshape(-1)[0])
    mine = tried[(float(wide(q.scale).reshape(-1)[0]), zero)]
    assert mine <= min(tried.values()) * (1 + Fraction(1, 2**40))


@pytest.mark.parametrize("rounding", ["nearest_even", "to_odd"])
@given(arrays(shapes=[(), (9,), (3, 5)], dtypes=[FP32, FP64, BF16]), st.data())
@settings(max_examples=40)
def test_inf_and_nan_are_counted_and_have_the_documented_codes(rounding, x, data):
    scheme = data.draw(st.sampled_from(("absmax", "zeropoint", "mxfp4", "nf4", "fp8_e4m3fn")))
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=x.size, max_size=x.size)), bool)
    kinds = st.sampled_from((np.inf, -np.inf, np.nan))
    put = np.array(data.draw(st.lists(kinds, min_size=x.size, max_size=x.size)))
    bad, put = bad.reshape(x.shape), put.reshape(x.shape)
    zeroed = np.where(bad, x.dtype.type(0), x)
    holed = np.where(bad, put.astype(x.dtype), x)
    w = oracle.quantize(zeroed, scheme, rounding=rounding)
    q = everywhere(holed, scheme, rounding=rounding, nonfinite="ignore")
    assert q.nonfinite == bad.sum()
    assert q.saturated == w.saturated
    plain = everywhere(zeroed, scheme, rounding=rounding)
    assert np.array_equal(q.codes, plain.codes)
    assert np.array_equal(wide(q.scale), wide(plain.scale))
    q = everywhere(holed, scheme, rounding=rounding, nonfinite="saturate")
    low, high = oracle.elements_of(scheme, 8, True, False).ends
    wanted = np.where(np.isposinf(wide(holed)), high, plain.codes)
    wanted = np.where(np.isneginf(wide(holed)), low, wanted)
    assert q.codes.tolist() == wanted.tolist()
    assert q.nonfinite == bad.sum()


def test_inf_saturates_even_where_the_largest_finite_value_would_not(backend):
    x = np.float32([np.inf, -np.inf, np.nan, 1e38])
    q = ff.quantize(x, scale=1e38, nonfinite="saturate")
    assert q.codes.tolist() == [127, -128, 0, 1]
    assert q.nonfinite == 3


@pytest.mark.parametrize("scheme", ["nf4", "absmax", "fp8_e4m3fn"])
def test_double_quantisation_is_two_quantisations(backend, scheme):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((40, 320)) * np.exp(rng.standard_normal((40, 1)))).astype(np.float32)
    groups = {} if scheme == "nf4" else {"axis": 0} if scheme == "absmax" else {"block": 20}
    plain = ff.quantize(x, scheme, **groups)
    q = ff.quantize(x, scheme, double_quantization=True, **groups)
    offset = np.float32(plain.scale.astype(np.float64).mean())
    centred = (plain.scale.astype(np.float64) - np.float64(offset)).astype(np.float32)
    inner = ff.quantize(centred, "dynamic8", block=256, block_axis=None)
    assert float(q.scale_offset) == offset
    assert np.array_equal(q.scale_codes.codes.ravel(), inner.codes.ravel())
    wanted = np.maximum(inner.dequantize() + offset, np.float32(0)).reshape(plain.scale.shape)
    assert np.array_equal(q.scale, wanted)
    given = {"block": q.block, "block_axis": q.block_axis} if q.block else groups
    name = None if scheme == "absmax" else scheme
    again = ff.quantize(x, name, scale=np.maximum(q.scale, np.float32(1e-30)), **given)
    # Codes are those of the scale that is stored. A given scale uses -128 too.
    codes = np.maximum(again.codes, -127) if name is None else again.codes
    assert np.array_equal(codes, q.codes)


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("groups", [{}, {"axis": 0}, {"block": 7, "block_axis": 0}])
def test_out_receives_the_codes(backend, bits, groups):
    x = np.random.default_rng(6).standard_normal((9, 13)).astype(np.float32)
    q = ff.quantize(x, "absmax", bits=bits, **groups)
    out = np.zeros_like(q.packed)
    into = ff.quantize(x, "absmax", bits=bits, out=out, **groups)
    assert into == q
    assert into.packed is out
    spaced = np.zeros((out.shape[0], 2 * out.shape[1]), out.dtype)[:, ::2]
    ff.quantize(x, "absmax", bits=bits, out=spaced, **groups)
    assert np.array_equal(spaced, q.packed)


def test_torch_tensors_give_torch_results_of_the_same_bits(backend):
    x = torch.from_numpy(np.random.default_rng(7).standard_normal((6, 40)).astype(np.float32))
    for scheme in NAMED:
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            tensor = x.to(dtype)
            values = tensor.to(torch.float64).numpy()
            numpy_dtype = ml_dtypes.bfloat16 if dtype is torch.bfloat16 else str(dtype)[6:]
            plain = ff.quantize(values.astype(numpy_dtype), scheme)
            q = ff.quantize(tensor, scheme)
            assert isinstance(q.packed, torch.Tensor)
            assert isinstance(q.scale, torch.Tensor)
            assert np.array_equal(q.packed.numpy(), plain.packed)
            assert q.dequantize().dtype == dtype
            assert q.dequantize().shape == x.shape
            turned = ff.quantize(tensor.T, scheme, **({"axis": 1} if q.block is None else {}))
            assert turned.codes.shape == (40, 6)
    q = ff.quantize(x.requires_grad_(), "mxfp4")
    assert not q.dequantize().requires_grad


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_fp8_values_are_quantised_as_their_fp32_values(backend, dtype):
    values = np.float32([1.5, -448.0, 0.25, 3.0])
    tensor = torch.from_numpy(values).to(getattr(torch, dtype))
    plain = ff.quantize(tensor.to(torch.float32).numpy(), "absmax", bits=4)
    assert np.array_equal(ff.quantize(tensor, "absmax", bits=4).codes.numpy(), plain.codes)
    array = values.astype(getattr(ml_dtypes, dtype))
    assert np.array_equal(ff.quantize(array, "absmax", bits=4).codes, plain.codes)


# --- what is refused ----------------------------------------------------------------------------

X = np.float32([[1.0, 2.0, 3.0], [4.0, 5.0, -6.0]])
REFUSED = [
    ({"block": 0}, ValueError, "block must be at least 1, got 0"),
    ({"block": -1}, ValueError, "block must be at least 1, got -1"),
    ({"block": 2.5}, TypeError, "block must be an integer, got 2.5"),
    ({"axis": 2}, ValueError, "axis 2 is out of range for an array of 2 dimensions"),
    ({"axis": -3}, ValueError, "axis -3 is out of range"),
    ({"axis": (0, 0)}, ValueError, "names an axis twice"),
    ({"axis": 1.5}, TypeError, "axis must be an integer or a sequence of integers, got 1.5"),
    ({"axis": 0, "block": 2}, TypeError, "axis=0 and block=2"),
    ({"block": 2, "block_axis": 5}, ValueError, "block_axis 5 is out of range"),
    ({"rounding": "up"}, ValueError, "no rounding mode is called 'up'; known: nearest_even"),
    ({"scale_rule": "ceiling"}, ValueError, "scale_rule must be one of floor, ceil"),
    ({"bits": 1}, ValueError, "bits must be from 2 to 8, got 1"),
    ({"bits": 9}, ValueError, "bits must be from 2 to 8, got 9"),
    ({"bits": 4.0}, TypeError, "bits must be an integer, got 4.0"),
    ({"signed": False}, ValueError, "absmax is symmetric and needs signed codes"),
    ({"clip": 0}, ValueError, "a percentile above 0, at most 100; got 0"),
    ({"clip": 101}, ValueError, "at most 100; got 101"),
    ({"clip": "best"}, ValueError, "clip must be 'mse' or a percentile"),
    ({"nonfinite": "drop"}, ValueError, "nonfinite must be one of error, saturate, ignore"),
    ({"seed": 1}, TypeError, "a seed is for stochastic rounding, not nearest_even"),
    ({"rounding": "stochastic", "seed": -1}, ValueError, "seed must lie in 0 to 2**64 - 1"),
    ({"min": 3, "max": 1}, ValueError, "min=3 lies above max=1"),
    ({"min": np.nan}, ValueError, "min must be finite numbers, got nan"),
    ({"scale_dtype": "fp8_e5m2"}, ValueError, "scale_dtype must be one of fp64"),
    ({"include_zero": True}, TypeError, "include_zero= is for zeropoint, not absmax"),
    ({"zero_point": 3}, TypeError, "a zero_point goes with a scale"),
    ({"scale": 1.0}, TypeError, "give a scheme ('absmax') or a scale, not both"),
    ({"double_quantization": True, "scale_dtype": "fp16"}, TypeError, "scale_dtype='fp16' cannot"),
    ({"scheme": "nf5"}, ValueError, "no scheme is called 'nf5'; nearest: nf4"),
    (
        {"scheme": "bf16"},
        ValueError,
        "bf16 is no format to quantise to: one of at most 8 bits, with signs; ff.encode casts",
    ),
    ({"scheme": "int8"}, ValueError, "for integers: 'absmax' with bits=8"),
    ({"scheme": 3}, TypeError, "a scheme is a name, a Codebook or a Format, got 3"),
    ({"scheme": None}, TypeError, "give a scheme ('absmax', "),
    ({"scheme": "nf4", "bits": 4}, TypeError, "bits= and signed= are for integers; nf4 has"),
    ({"scheme": "mxfp4", "scale_dtype": "fp16"}, TypeError, "the scales of mxfp4 are fp8_e8m0fnu"),
    ({"scheme": "nvfp4", "scale_rule": "floor"}, TypeError, "scale_rule= is for scales"),
    ({"scheme": "nvfp4", "double_quantization": True}, TypeError, "not nvfp4's"),
    ({"scheme": "nvfp4", "scale": 1.0}, TypeError, "nvfp4 stores its scales in two parts"),
    ({"scheme": "nf4", "scale": 1.0, "zero_point": 1}, TypeError, "a zero_point is for integers"),
    (
        {"scheme": ff.format("uint8")},
        ValueError,
        "for integers: 'zeropoint' with bits=8, signed=False",
    ),
    ({"scheme": None, "scale": 0.0}, ValueError, "scale is 0.0; a scale is positive and finite"),
    ({"scheme": None, "scale": [1.0, -2.0]}, ValueError, "scale[1] is -2.0"),
    ({"scheme": None, "scale": [1.0, 2.0]}, ValueError, "scale has shape (2,)"),
    ({"scheme": None, "scale": 1e50}, ValueError, "in fp32 from 1.4e-45 to 3.4e+38"),
    ({"scheme": None, "scale": "a"}, TypeError, "scale must be a number or an array"),
    ({"scheme": None, "scale": 1.0, "zero_point": 1.5}, TypeError, "zero_point must be an integer"),
    ({"scheme": None, "scale": 1.0, "zero_point": 2**63}, ValueError, "not within ±2**62"),
    ({"scheme": None, "scale": 1.0, "min": 0}, TypeError, "min= and max= find a scale"),
    ({"scheme": None, "scale": 1.0, "clip": 99}, TypeError, "clip= finds a scale"),
    ({"out": np.empty((2, 3), np.uint8)}, TypeError, "out= must be an array of int8"),
    ({"out": np.empty((3, 2), np.int8)}, ValueError, "out= must have shape (2, 3), got (3, 2)"),
    ({"scheme": "nf4", "out": np.empty(2, np.uint8)}, ValueError, "out= must have shape (3,)"),
    ({"out": X.view(np.int8)[:, :3]}, ValueError, "out= overlaps the input"),
    ({"scheme": "mxfp4", "out": X.view(np.uint8)[:, :2]}, ValueError, "out= overlaps the input"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=[row[-1] for row in REFUSED])
def test_what_cannot_be_is_refused_in_one_line(options, error, message):
    with pytest.raises(error) as caught:
        ff.quantize(X, **({"scheme": "absmax"} | options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
@pytest.mark.parametrize("scheme", NAMED)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_named(backend, scheme, value, rounding):
    x = np.ones((3, 70), np.float32)
    x[1, 40] = value
    x[2, 0] = np.nan
    with pytest.raises(ValueError, match=rf"x\[1, 40\] is {value}; codes need finite values"):
        ff.quantize(x, scheme, rounding=rounding)
    with pytest.raises(ValueError, match=rf"x\[1, 40\] is {value}"):
        ff.quantize(x.astype(np.float64), scheme, rounding=rounding)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0], ValueError, "2 to 256 values"),
        ([1.0, 1.0], ValueError, "2 to 256 values"),
        (range(257), ValueError, "2 to 256 values"),
        ([0.0, np.nan], ValueError, "values[1] is nan"),
        (["a", 1], TypeError, "a codebook is made of numbers"),
    ],
)
def test_codebooks_that_cannot_be_are_refused(values, error, message):
    with pytest.raises(error) as caught:
        ff.Codebook(values)
    assert message in str(caught.value)


# --- storage ------------------------------------------------------------------------------------

OPTIONS = [
    *({"scheme": name} for name in NAMED),
    {"scheme": "absmax", "bits": 3, "block": 5},
    {"scheme": "absmax", "bits": 5, "axis": -1, "scale_dtype": "e8m0"},
    {"scheme": "zeropoint", "bits": 4, "signed": False, "block": 4, "block_axis": 0},
    {"scheme": "zeropoint", "include_zero": True, "bits": 2, "scale_dtype": "bf16"},
    {"scheme": "nf4", "double_quantization": True},
    {"scheme": "absmax", "axis": 0, "double_quantization": True},
    {"scheme": "fp4_e2m1fn", "axis": 0, "scale_dtype": "fp16"},
    {"scheme": "mxfp6_e2m3fn", "block_axis": 0, "scale_rule": "rceil"},
    {"scheme": ff.Codebook(THIRDS, "thirds"), "block": 3, "block_axis": None},
    {"scheme": ff.Codebook([0.0, 1.0], "bit")},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_a_stored_result_comes_back(options, dtype):
    for shape in ((), (0,), (1,), (13,), (3, 70), (4, 3, 5), (2, 0, 3)):
        if not shape and "axis" in options:
            continue
        x = np.random.default_rng(8).standard_normal(shape).astype(dtype) + dtype.type(2)
        q = ff.quantize(x, **options)
        parts = storage.parts(q)
        layout = storage.layout(shape, dtype, **options)
        assert {name: (p.dtype, p.shape) for name, p in layout.items()} == {
            name: (p.dtype, p.shape) for name, p in parts.items()
        }
        assert all(layout[name].nbytes == parts[name].nbytes for name in parts)
        described = json.loads(json.dumps(storage.description(q)))
        assert storage.restore(parts, described) == q
        assert pickle.loads(pickle.dumps(q)) == q
        assert np.array_equal(storage.restore(parts, described).dequantize(), q.dequantize())


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_damaged_descriptions_are_refused(options):
    q = ff.quantize(X, **options)
    parts, described = storage.parts(q), storage.description(q)
    for key in described:
        with pytest.raises(ValueError, match="."):
            storage.restore(parts, {k: v for k, v in described.items() if k != key})
    damages: dict[str, tuple[Any, ...]] = {
        "scheme": (None, 3),
        "elements": (None, {}, {"kind": "what"}, {"kind": "format", "name": "fp32"}),
        "shape": (None, [2, 99], [-2, 3], "x", 6),
        "format": (None, "fp99", 3),
        "axis": (None, 3, [5], [0, 0], [-1], ["x"]),
        "block": (0, -1, 1.5, "x"),
        "block_axis": (-1, 9, "x", 0.5),
        "include_zero": (None, 1),
        "double_quantization": (None, 1),
        "saturated": (None, -1, 0.5, "x"),
        "nonfinite": (None, -1, "x"),
    }
    for key, values in damages.items():
        for value in values:
            with pytest.raises(ValueError, match=".") as caught:
                storage.restore(parts, described | {key: value})
            assert "\n" not in str(caught.value)
    for name, part in parts.items():
        wrong = np.zeros(part.shape, np.int32), np.zeros((9, *part.shape), part.dtype), None
        for array in wrong:
            with pytest.raises(ValueError, match="."):
                storage.restore(parts | {name: array}, described)
    for name in parts:
        with pytest.raises(ValueError, match="."):
            storage.restore({k: v for k, v in parts.items() if k != name}, described)
    with pytest.raises(ValueError, match="scale have shape"):
        storage.restore(parts | {"scale": np.ones((9, 9), np.float32)}, described)


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("int8", {"scheme": "absmax", "bits": 8, "signed": True}),
        ("int3_zeropoint", {"scheme": "zeropoint", "bits": 3, "signed": True}),
        (
            "uint4",
            {"scheme": "zeropoint", "bits": 4, "signed": False, "include_zero": True},
        ),
        ("uint2_zeropoint_row", {"scheme": "zeropoint", "bits": 2, "signed": False, "axis": 0}),
        ("NF4_block128_double", {"scheme": "nf4", "block": 128, "double_quantization": True}),
        ("mxfp8_e4m3fn_even", {"scheme": "mxfp8_e4m3fn", "scale_rule": "even"}),
        ("fp8_e4m3fn_scaled", {"scheme": "fp8_e4m3fn"}),
        ("fp8_e4m3fnuz_row_p99.9", {"scheme": "fp8_e4m3fnuz", "axis": 0, "clip": 99.9}),
        (
            "fp6_e3m2fn_mse_bf16scale",
            {"scheme": "fp6_e3m2fn", "clip": "mse", "scale_dtype": "bf16"},
        ),
    ],
)
def test_a_name_stands_for_options(name, options):
    assert schemes.parse(name) == options
    assert schemes.named(name)
    ff.quantize(np.ones((2, 70), np.float32), **options)


@pytest.mark.parametrize("name", [*NAMED[2:], *schemes.EXAMPLES])
def test_every_schemes_name_is_understood_and_quantises(name):
    options = schemes.parse(name)
    x = np.random.default_rng(9).standard_normal((3, 70)).astype(np.float32)
    q = ff.quantize(x, **options)
    assert schemes.find(q.scheme).name == options["scheme"]


@pytest.mark.parametrize(
    "name", ["int9", "int1", "mxfp5", "nf4_", "nf4_blocks", "", "absmax", "i8"]
)
def test_an_unknown_name_is_refused(name):
    assert not schemes.named(name)
    with pytest.raises(ValueError, match="no scheme is called") as caught:
        schemes.parse(name)
    assert "int8" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_nearest_name_is_proposed():
    with pytest.raises(ValueError, match="nearest: .*mxfp4"):
        schemes.parse("mxfp44")
