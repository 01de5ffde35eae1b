"""The auditor of quantisers: planted faults are found and named, correct ones pass."""

import copy
import dataclasses
import json
import time

import numpy as np
import pytest

import floatfmt as ff
from floatfmt.audit import quantizer_values, quantizers
from floatfmt.audit.quantizer_rules import variants
from floatfmt.audit.quantizer_tensors import adversarial_tensors, half_steps
from floatfmt.convention import Scheme, plan

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_ch")
needs_x86 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="torch's int8 kernel is another one without AVX2",
)

F32 = np.float32
SCALE, INVERSE = F32(0.1), 1 / F32(0.1)
ROWS = {row.name: row for row in ff.conventions()}
#: Under another name, so that the row is evaluated and not asked of the kernel.
EVALUATED = dataclasses.replace(ROWS["floatfmt"], name="floatfmt, evaluated")


def tried_values(zero_point=0):
    """Random codes, and the half steps of the scale with their neighbours."""
    given = plan("floatfmt", None, scale=0.1)
    codes = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    return np.concatenate([codes.view(F32), half_steps(given, given.given(0.1, zero_point))])


def clamped(codes):
    return np.clip(codes, -128, 127).astype(np.int8)


def wrapped(codes):
    """What a C cast to int and then to int8 does on most machines."""
    inside = np.abs(codes) < 2.0**31
    return np.where(inside, codes, 0).astype(np.int64).astype(np.int8)


def away(x):
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def exactly(x):
    return x.astype(np.float64) / np.float64(SCALE)


#: Quantisers with a fault, the zero point, and what the fault is called.
PLANTED = {
    "truncation": (lambda x: clamped(np.trunc(exactly(x))), 0, "truncates"),
    "ties away": (lambda x: clamped(away(x / F32(0.5))), 0, "rounds ties away from zero"),
    "reciprocal": (
        lambda x: clamped(np.rint(x * INVERSE)),
        0,
        "multiplies by the reciprocal instead of dividing",
    ),
    "fp32 quotient": (lambda x: clamped(np.rint(x / SCALE)), 0, "divides in fp32"),
    "zero point before rounding": (
        lambda x: clamped(np.rint(x.astype(np.float64) / 0.5 + 3)),
        3,
        "adds the zero point before rounding",
    ),
    "no zero point": (lambda x: clamped(np.rint(exactly(x))), 3, "leaves the zero point out"),
    "wrap": (lambda x: wrapped(np.rint(exactly(x)) + 3), 3, "wraps instead of clamping"),
    "clamp first": (
        lambda x: (np.clip(np.rint(exactly(x)), -128, 127).astype(np.int64) + 3).astype(np.int8),
        3,
        "clamps before it adds the zero point",
    ),
    "floor of x + 1/2": (lambda x: clamped(np.floor(x / F32(0.5) + F32(0.5))), 0, None),
    "reciprocal and ties away": (
        lambda x: clamped(away(x * INVERSE)),
        0,
        "multiplies by the reciprocal instead of dividing; rounds ties away from zero",
    ),
}
#: Faults in ties, which 0.1 has too few of.
AT_A_HALF = ("ties away", "zero point before rounding", "floor of x + 1/2")


def half_step_values():
    x = np.concatenate([tried_values(), np.arange(-600, 600, dtype=F32) / 4])
    return x[np.isfinite(x)]


def audit_of(name):
    fn, zero_point, _ = PLANTED[name]
    scale = 0.5 if name in AT_A_HALF else 0.1
    x = np.concatenate([half_step_values(), tried_values(zero_point)])
    return ff.verify_quantizer(fn, scale=scale, zero_point=zero_point, inputs=x)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_found_and_named(name):
    found = audit_of(name)
    assert (found.verdict, found.passed) == ("refuted", False)
    named = [fault.names[0] for fault in found.faults if fault.names]
    expected = PLANTED[name][2]
    if expected is not None:
        assert named == [expected]
        assert found.faults[0].confirmed > 200_000
    assert found.failing == sum(fault.count for fault in found.faults) > 0
    assert str(found).startswith("refuted: ")


def test_minus_128_where_the_convention_stops_at_minus_127():
    symmetric = dataclasses.replace(
        ROWS["onnx"], name="symmetric", schemes=(Scheme("given", lowest=-127),)
    )
    arguments = {"convention": symmetric, "scale": 0.1, "inputs": tried_values()}
    found = ff.verify_quantizer(lambda x: ROWS["onnx"].trace(x, scale=0.1).codes, **arguments)
    assert found.faults[0].names == ("uses -128",)
    assert {"NaN", "beyond the codes"} <= set(found.faults[0].kinds)
    assert found.exactly == ("onnx",)
    right = ff.verify_quantizer(lambda x: symmetric.trace(x, scale=0.1).codes, **arguments)
    assert (right.verdict, right.failing) == ("inconclusive", 0)


def test_a_fault_at_one_input_of_all_is_found_and_shown():
    bad = 0x3D123457

    def fn(x):
        codes = ff.quantize(x, scale=0.1).codes
        codes[x.view(np.uint32) == bad] ^= 1
        return codes

    x = np.append(tried_values(), np.uint32(bad).view(F32))
    found = ff.verify_quantizer(fn, scale=0.1, inputs=x)
    (fault,) = found.faults
    assert (fault.count, fault.names, fault.first.bits) == (1, (), bad)
    assert "no known rule explains these: 1 value (other values 1)" in str(found)
    assert "0x3D123457" in str(found)


def test_a_fault_in_the_vectors_tail_only_is_found():
    def fn(x):
        codes = ff.quantize(x, scale=0.1).codes
        tail = x.size % 8
        if tail:
            codes[-tail:] = clamped(np.trunc(exactly(x[-tail:])))
        return codes

    x = tried_values()
    x = x[np.isfinite(x)]
    found = ff.verify_quantizer(fn, scale=0.1, inputs=x[: x.size // 8 * 8])
    assert found.verdict == "refuted"
    assert found.faults[0].names == (
        "gives a value another code in a short array than in a long one",
    )
    assert "but short arrays have others" in str(found)
    by_tensor = ff.verify_quantizer(lambda y: _tail_of_absmax(y))
    kinds = {kind for fault in by_tensor.faults for kind in fault.kinds}
    assert "short tensors" in kinds


def _tail_of_absmax(x):
    q = ff.absmax(x)
    codes = q.codes.copy()
    tail = x.size % 8
    if tail:
        codes[-tail:] = np.trunc(x[-tail:] / np.float64(q.scale)).astype(np.int8)
    return codes


def test_two_faults_are_named_by_the_kinds_of_values():
    def fn(x):
        quotient = x.astype(np.float64) / 0.5
        return np.where(quotient > 1e6, 7, clamped(away(quotient))).astype(np.int8)

    found = ff.verify_quantizer(fn, scale=0.5, inputs=half_step_values())
    by_kind = {next(iter(fault.kinds)): fault.names for fault in found.faults}
    assert set(by_kind) == {"ties", "beyond the codes"}
    assert by_kind["ties"][0] == "rounds ties away from zero"
    assert by_kind["beyond the codes"] == ()


# --- no false alarm -----------------------------------------------------------------------------


@pytest.mark.parametrize("zero_point", [0, 3, -128])
def test_ours_has_its_own_codes_on_every_backend(backend, zero_point):
    found = ff.verify_quantizer(
        lambda x: ff.quantize(x, scale=0.1, zero_point=zero_point).codes,
        convention=EVALUATED,
        scale=0.1,
        zero_point=zero_point,
        inputs=tried_values(zero_point),
    )
    assert (found.verdict, found.failing, found.passed) == ("inconclusive", 0, False)
    assert found.judged + found.unjudged == tried_values(zero_point).size
    assert found.unjudged > 100  # NaN and Inf, which ff.quantize refuses and is not given


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_our_schemes_pass_on_every_backend(backend, scheme):
    found = ff.verify_quantizer(lambda x: ff.quantize(x, scheme), scheme=scheme)
    assert (found.verdict, found.failing_tensors, found.unjudged) == ("inconclusive", 0, 0)
    assert found.tensors > 130


@needs_x86
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_torch_has_the_codes_of_its_convention(dtype):
    def fn(x):
        return torch.quantize_per_tensor(
            torch.from_numpy(x), 0.1, 5, getattr(torch, f"q{dtype}")
        ).int_repr()

    arguments = {"scale": 0.1, "zero_point": 5, "dtype": dtype, "inputs": tried_values(5)}
    found = ff.verify_quantizer(fn, convention="torch", **arguments)
    assert (found.verdict, found.unjudged) == ("inconclusive", 0)
    if dtype == "int8":
        ours = ff.verify_quantizer(fn, **arguments)
        assert ours.verdict == "refuted"
        assert ours.exactly == ("torch",)
        assert "this quantiser is exactly torch on all of these" in str(ours)


def article_absmax(x):
    t = torch.from_numpy(x)
    multiplier = 127 / t.abs().max()
    return torch.round(multiplier * t).to(torch.int8), multiplier


def test_the_article_passes_as_itself_and_is_recognised():
    found = ff.verify_quantizer(article_absmax, convention="article")
    assert (found.verdict, found.failing) == ("inconclusive", 0)
    assert found.unjudged > 0  # zeros and tensors so small that 1 / amax overflows
    codes = ff.verify_quantizer(lambda x: article_absmax(x)[0])
    assert codes.verdict == "refuted"
    assert codes.exactly == ("article", "bitsandbytes")


@pytest.mark.parametrize("row", ff.conventions(), ids=lambda row: row.name)
def test_every_row_passes_as_itself(row):
    for scheme in row.schemes:
        found = ff.verify_quantizer(
            lambda x, name=scheme.name: row.trace(x, name).codes,
            convention=row,
            scheme=scheme.name,
        )
        assert found.verdict == "inconclusive"
    if row.takes_scale:
        found = ff.verify_quantizer(
            lambda x: row.trace(x, scale=0.1, zero_point=7).codes,
            convention=row.name,
            scale=0.1,
            zero_point=7,
            inputs=tried_values(7),
        )
        assert found.verdict == "inconclusive"


# --- what is tried ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_there_is_a_tie_for_every_code(scheme):
    chosen = plan("floatfmt", scheme)
    exact = 0
    for tensor in adversarial_tensors(chosen):
        if tensor.kind != "half steps":
            continue
        traced = chosen.row.trace(tensor.values, scheme)
        quotient = traced["quotient"]
        ties = quotient[np.abs(quotient - np.trunc(quotient)) == 0.5]
        codes = {int(np.floor(q)) + int(traced.parameters.zero_point.item()) for q in ties}
        lowest = -127 if scheme == "absmax" else -128
        exact += codes >= set(range(lowest, 127))
    assert exact >= 4


def test_the_adversarial_tensors_go_to_the_extremes():
    for row, scheme in ((r, s.name) for r in ff.conventions() for s in r.schemes):
        tensors = list(adversarial_tensors(plan(row, scheme)))
        kinds = {tensor.kind for tensor in tensors}
        assert {"half steps", "short tensors", "zeros", "constants", "subnormals"} <= kinds
        assert ("empty" in kinds) == row.takes_empty
        values = np.concatenate([t.values.reshape(-1) for t in tensors])
        assert np.isfinite(values).all()
        assert np.abs(values).max() == np.finfo(F32).max
        assert 2.0**-149 in values
        assert np.signbit(values[values == 0]).any()
        if block := plan(row, scheme).block:
            assert all(tensor.values.size % block == 0 for tensor in tensors)


def test_no_two_variants_do_the_same_by_name():
    names = [h.name for h in variants(plan("torch", None, scale=0.1)) if h.changes < 3]
    assert len(names) == len(set(names))
    assert "divides in fp32" in names


def test_a_budget_ends_a_run_without_a_verdict():
    slow = ff.verify_quantizer(
        lambda x: ff.quantize(x, scale=0.1).codes, scale=0.1, budget_s=0.05, threads=1
    )
    assert (slow.verdict, slow.stopped) == ("inconclusive", "budget")
    assert 0 < slow.judged < 2**32
    assert "when the time was up" in str(slow)
    none = ff.verify_quantizer(lambda x: ff.absmax(x), budget_s=0.0)
    assert (none.verdict, none.tensors) == ("inconclusive", 0)


def test_all_inputs_prove(monkeypatch):
    """With every code of a 16-bit source for those of fp32, as the sweep has them in its hands."""
    source = quantizer_values.inputs_of(ff.format("bf16"), ff.format("int8"))

    class Few:
        size = source.size

        def reader(self, chunk):
            read = source.reader(chunk)
            return lambda first, count: read(first, count).astype(np.uint32) << 16

    monkeypatch.setattr(quantizer_values, "inputs_of", lambda *_: Few())
    told = []

    def fn(x):
        if x.size > 10_000:
            time.sleep(0.15)  # longer than progress waits
        return ff.quantize(x, scale=0.1).codes

    found = ff.verify_quantizer(
        fn,
        scale=0.1,
        progress=lambda done, of: told.append((done, of)),
    )
    assert (found.verdict, found.judged) == ("proved", 65536 - 256)
    assert set(told) <= {(0, 65536), (65536, 65536)}
    assert str(found) == (
        "proved: no difference from floatfmt (int8, scale 0.1, zero point 0) in 65,280 values\n"
        "256 values not judged: floatfmt refuses NaN and Inf"
    )


# --- what a quantiser may return ----------------------------------------------------------------


@needs_x86
def test_scales_that_are_returned_are_compared():
    def per_tensor(x):
        q = ff.absmax(x)
        t = torch.from_numpy(x)
        return torch.quantize_per_tensor(t, float(q.scale), 0, torch.qint8)

    found = ff.verify_quantizer(per_tensor)
    assert found.verdict == "refuted"  # torch multiplies; but its scales are right
    assert not any(fault.detail for fault in found.faults)

    def doubled(x):
        q = ff.absmax(x)
        return q.codes, q.scale * 2

    found = ff.verify_quantizer(doubled)
    assert found.failing == 0
    assert found.failing_tensors == found.tensors
    assert "scale 2, where it should be 1" in found.faults[0].detail
    shifted = ff.verify_quantizer(
        lambda x: (ff.zeropoint(x).codes, ff.zeropoint(x).scale, 1 + ff.zeropoint(x).zero_point),
        scheme="zeropoint",
    )
    assert "zero point" in shifted.faults[0].detail


def test_errors_of_a_quantiser_are_told():
    def fn(x):
        if not x.any():
            raise ZeroDivisionError("no scale")
        return ff.absmax(x).codes

    found = ff.verify_quantizer(fn)
    assert found.verdict == "refuted"
    details = [fault.detail for fault in found.faults]
    assert any("raises ZeroDivisionError: no scale" in detail for detail in details)
    with pytest.raises(KeyError, match="always"):
        ff.verify_quantizer(lambda x: {}["always"])
    with pytest.raises(KeyError, match="always"):
        ff.verify_quantizer(lambda x: {}["always"], scale=1.0, inputs=F32([1]))


ONE = F32([1.0])


@pytest.mark.parametrize(
    ("fn", "arguments", "error", "message"),
    [
        (ff.absmax, {"convention": "onyx"}, ValueError, "no convention is called 'onyx'"),
        (ff.absmax, {"convention": "torch"}, ValueError, "torch has no rule for a scale; give"),
        (ff.absmax, {"zero_point": 1}, TypeError, "a zero_point goes with a scale"),
        (ff.absmax, {"scheme": "absmax", "scale": 1.0}, TypeError, "a scheme or a scale, not"),
        (ff.absmax, {"scale": [1.0, 2.0]}, TypeError, "scale must be one number, got .1.0, 2.0."),
        (ff.absmax, {"scale": -1.0}, ValueError, "scale is -1.0; a scale is positive and finite"),
        (ff.absmax, {"scale": 1.0, "inputs": ONE[:0]}, ValueError, "inputs= has no values"),
        (ff.absmax, {"inputs": ONE}, TypeError, "inputs= is a list of tensors, got numpy.ndarray"),
        (ff.absmax, {"scale": 1.0, "dtype": "uint8"}, ValueError, "floatfmt has codes of int8"),
        (lambda x: x, {"scale": 1.0, "inputs": ONE}, TypeError,
         "returned numpy.ndarray of float32; floatfmt has codes of int8"),
        (lambda x: np.uint8(x), {"convention": "onnx", "scale": 1.0, "inputs": ONE}, TypeError,
         "returned numpy.ndarray of uint8; onnx has codes of int8; pass dtype='uint8'"),
        (lambda x: np.int8(x)[:0], {"scale": 1.0, "inputs": ONE}, ValueError,
         r"returned codes of shape \(0,\) for values of shape \(1,\)"),
        (lambda x: np.int8(x)[None], {}, ValueError, r"returned codes of shape \(1, "),
    ],
)  # fmt: skip
def test_bad_arguments_and_answers_are_named(fn, arguments, error, message):
    with pytest.raises(error, match=message):
        ff.verify_quantizer(fn, **arguments)


def test_a_quantiser_cannot_change_what_is_compared():
    def fn(x):
        codes = ff.quantize(x, scale=0.1).codes
        x[...] = 0
        return codes

    found = ff.verify_quantizer(fn, scale=0.1, inputs=tried_values())
    assert found.verdict == "inconclusive"


def test_reports_are_narrow_and_go_through_json():
    found = audit_of("reciprocal and ties away")
    assert max(map(len, str(found).splitlines())) <= 100
    told = json.loads(json.dumps(found.to_dict()))
    assert told["faults"][0]["first"]["hex"].startswith("0x")
    assert told["verdict"] == "refuted"
    nan = ff.verify_quantizer(
        lambda x: np.zeros(x.shape, np.int8), convention="onnx", scale=1.0, inputs=F32([np.nan])
    )
    assert json.loads(json.dumps(nan.to_dict()))["faults"][0]["first"]["value"] == "nan"
    assert nan == copy.deepcopy(nan)
    assert nan != found
    assert "NaN 1" in str(nan)


# --- diff_conventions ---------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(0).normal(size=(1000, 300)).astype(F32)


def test_two_conventions_on_ones_own_tensor():
    found = ff.diff_conventions(WEIGHTS, "floatfmt", "torch")
    (row,) = found.rows
    scale = float(ff.absmax(WEIGHTS).scale)
    ours = ff.absmax(WEIGHTS).codes
    theirs = ROWS["torch"].trace(WEIGHTS, scale=scale).codes
    assert row.codes == np.count_nonzero(ours != theirs) == 2
    assert (row.most, row.compared, row.unjudged, row.same_scales) == (1, WEIGHTS.size, 0, True)
    first = row.examples[0]
    assert first.index == tuple(np.argwhere(ours != theirs)[0])
    assert first.a["x"] == WEIGHTS[first.index]
    assert (first.a["code"], first.b["code"]) == (ours[first.index], theirs[first.index])
    assert first.b["product"] == first.b["rounded"] + 0.5
    assert "torch was given those of floatfmt" in str(found)
    assert max(map(len, str(found).splitlines())) <= 100


def test_all_conventions_on_ones_own_tensor():
    found = ff.diff_conventions(torch.from_numpy(WEIGHTS))
    assert [row.convention.name for row in found.rows] == [r.name for r in ff.conventions()[1:]]
    assert found["onnx_dynamic"].reason == "onnx_dynamic has no scheme 'absmax', and takes no scale"
    assert found["bitsandbytes"].codes > 200_000  # a scale for each row
    assert not found["bitsandbytes"].same_scales
    assert "given the scale of floatfmt: torch, torch_channel, torch_fake, onnx" in str(found)
    why = "its codes are of nf4, those of floatfmt of integers"
    assert found["bitsandbytes_nf4"].reason == why
    assert max(map(len, str(found).splitlines())) <= 100
    with pytest.raises(KeyError, match="mine is not one of article, torch"):
        found["mine"]


def test_codes_of_int8_and_uint8_are_counted_from_their_lowest():
    x = np.linspace(0, 255, 256, dtype=F32)
    row = ff.diff_conventions(x, b="onnx_dynamic", scheme="zeropoint").rows[0]
    assert (row.dtype, row.codes, row.values, row.same_scales) == ("uint8", 0, 0, True)
    assert row.zero_point == (-128.0, 0.0)
    text = str(ff.diff_conventions(x, b="onnx_dynamic", scheme="zeropoint"))
    assert "floatfmt zeropoint (int8) against onnx_dynamic (uint8)" in text
    assert "each counted from the lowest of its dtype" in text


def test_scales_of_rows_and_blocks_are_counted():
    x = WEIGHTS[:10, :64]
    row = ff.diff_conventions(x, "ggml_q8_0", "bitsandbytes").rows[0]
    assert (row.over, row.scales) == (("block of 32", "row"), (20, 10))
    text = str(ff.diff_conventions(x, "ggml_q8_0", "bitsandbytes"))
    assert "scales      differ: ggml_q8_0 20 for a block of 32, bitsandbytes 10 for a row" in text


def test_narrow_floats_are_said_to_be_taken_as_fp32():
    for dtype in (torch.bfloat16, torch.float16):
        text = str(ff.diff_conventions(torch.from_numpy(WEIGHTS).to(dtype), b="torch"))
        assert f"on 1,000 × 300 {str(dtype).removeprefix('torch.')} values, taken as fp32" in text
    assert "taken as fp32" not in str(ff.diff_conventions(WEIGHTS, b="torch"))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 31, 33), (300_000,), (3, 100_003)])
def test_pieces_change_nothing(shape, monkeypatch):
    x = np.random.default_rng(1).normal(size=shape).astype(F32)
    monkeypatch.setattr("floatfmt.audit.convention_diff.PIECE", 1 << 12)
    for a, b in (("ggml_q8_0", "ggml_q8_0_avx2"), ("bitsandbytes", "torch"), ("floatfmt", "onnx")):
        if not x.size and a == "bitsandbytes":
            continue
        row = ff.diff_conventions(x, a, b).rows[0]
        left = ROWS[a].trace(x)
        over = dataclasses.replace(ROWS[b], over=ROWS[a].over)
        if b == "ggml_q8_0_avx2":
            right = ROWS[b].trace(x).codes
        elif a == "floatfmt":
            right = ROWS[b].trace(x, scale=left.parameters.scale.item()).codes
        else:
            step = left.plan.step(left.parameters).astype(F32)
            groups = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
            right = clamped(np.rint(groups * (1 / step))).reshape(x.shape)
        assert row.codes == np.count_nonzero(left.codes != right), over.name


def test_zero_points_out_of_ones_range_are_not_compared():
    x = F32([16777214, 16777215])
    found = ff.diff_conventions(x, scheme="zeropoint")
    assert "is not from -128 to 127, as torch needs it" in found["torch"].reason
    assert found["article"].reason == ""
    assert "zero_point" in str(found)


def test_where_nothing_is_defined_nothing_is_judged():
    row = ff.diff_conventions(np.zeros(5, F32), b="article").rows[0]
    assert (row.compared, row.unjudged, row.codes) == (0, 5, 0)
    assert "not judged  5" in str(ff.diff_conventions(np.zeros(5, F32), b="article"))


def test_nans_are_compared_where_both_have_a_code():
    x = F32([np.nan, 1.0])
    row = ff.diff_conventions(x, "torch", "onnx", scale=0.5).rows[0]
    assert (row.codes, row.most) == (1, 255)
    assert json.loads(json.dumps(ff.diff_conventions(x, "torch", scale=0.5).to_dict()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": F32([1, np.inf])}, ValueError, r"x\[1\] is inf; a scale follows from finite values"),
        ({"x": F32([np.nan]), "scale": 1.0}, ValueError, r"x\[0\] is nan; floatfmt needs finite"),
        ({"x": [1.0]}, TypeError, "conventions are about fp32, fp16 and bf16 values"),
        ({"b": "onyx"}, ValueError, "no convention is called 'onyx'"),
        ({"scheme": "rows"}, ValueError, "no scheme is called 'rows'; there are absmax, zeropoint"),
        ({"b": "bitsandbytes", "scheme": "zeropoint"}, ValueError, "bitsandbytes has no scheme"),
        ({"b": "article", "scale": 1.0}, ValueError, "article finds its own scale"),
        ({"scale": 1.0, "scheme": "absmax"}, TypeError, "give a scheme or a scale, not both"),
        ({"zero_point": 1}, TypeError, "a zero_point goes with a scale"),
        ({"x": F32([]), "b": "article"}, ValueError, "article takes no empty tensor"),
        ({"dtype": "int4"}, ValueError, "dtype must be 'int8' or 'uint8', got 'int4'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        ff.diff_conventions(**{"x": ONE, **arguments})


def test_the_verb_is_public_under_one_name():
    assert quantizers.verify_quantizer is ff.verify_quantizer


def test_a_tail_that_only_longer_arrays_have_is_found():
    def fn(x):
        codes = ff.quantize(x, scale=0.1).codes
        if x.size > 100:
            codes[x.size // 16 * 16 :] = 0
        return codes

    found = ff.verify_quantizer(fn, scale=0.1, budget_s=0.2)
    assert found.verdict == "refuted"


def test_a_quantizer_that_keeps_its_buffer_is_not_taken_for_wrong():
    buffer = np.empty(1 << 20, np.int8)

    def fn(x):
        out = buffer[: x.size]
        out[...] = ff.quantize(x, scale=0.1).codes
        return out

    found = ff.verify_quantizer(
        fn, scale=0.1, inputs=np.linspace(-12, 12, 234, dtype="f4"), threads=1
    )
    assert found.failing == 0
    assert not found.faults


def test_a_convention_that_refuses_nan_explains_no_code_of_it():
    def fn(x):
        codes = np.clip(np.rint(x.astype(float) / float(np.float32(0.1))), -128, 127)
        codes[np.isnan(x)] = 77
        return codes.astype(np.int8)

    x = np.float32([0.1, np.nan, -3.0, 12.15, -0.75])
    found = ff.verify_quantizer(fn, scale=0.1, convention="torch", inputs=x)
    assert found.verdict == "refuted"
    assert found.exactly == ()


@pytest.mark.parametrize("options", [{"threads": 0}, {"budget_s": -1}, {"budget_s": float("nan")}])
def test_bad_ways_to_run_are_refused(options):
    with pytest.raises(ValueError, match=r"threads|budget_s"):
        ff.verify_quantizer(lambda x: x, scale=0.1, **options)
