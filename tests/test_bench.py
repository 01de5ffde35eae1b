"""Every contender of every case runs and is checked; no test looks at who is faster."""

import dataclasses
import functools
import importlib.util
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import floatfmt as ff
from floatfmt.backends import native
from floatfmt.bench import (
    cases,
    check,
    contenders,
    inputs,
    machine,
    peers,
    rounding,
    run,
    short,
    tables,
)
from floatfmt.bench.results import Report, Result, Row
from floatfmt.rounding import rules
from floatfmt.timing import Timing, interleaved

ROOT = Path(__file__).parents[1]
SIZE = 2**10
ALL = [(case.name, kind) for case in cases.CASES.values() for kind in case.kinds]


@pytest.fixture
def hurried(monkeypatch):
    """Time three single calls of each contender."""
    monkeypatch.setattr(run, "interleaved", functools.partial(interleaved, min_sample_s=0))


@pytest.fixture
def untimed(monkeypatch):
    """Fail if anything is timed."""

    def refuse(*args, **kwargs):
        pytest.fail("something was timed")

    monkeypatch.setattr(run, "interleaved", refuse)


def task(case, kind="normal", size=SIZE):
    return run.Task(cases.CASES[case] if isinstance(case, str) else case, size, kind)


def with_contender(case, build, relation=check.IDENTICAL, allocation="new"):
    """Return a case in which NumPy's only row is that of `build`."""
    row = cases.CASES[case]
    ours = tuple(c for c in row.contenders if c.peer == "floatfmt")
    wrong = contenders.Contender("numpy", "numpy", allocation, build, relation)
    return dataclasses.replace(row, contenders=(*ours, wrong))


# --- every row runs -----------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("case", "kind"), ALL)
def test_every_contender_agrees_and_is_timed(case, kind):
    with peers.on_threads(1):
        result = run.measure(task(case, kind), budget_s=0)
    expected = cases.expanded(cases.CASES[case], SIZE)
    installed = peers.installed() | {"floatfmt"}
    assert [row.contender for row in result.rows] == [
        one.name for one in expected if one.peer in installed
    ]
    wanted = {"new"} if "pack" in case else {"new", "out"}
    for backend in ff.available_backends():
        forms = {r.allocation for r in result.rows if r.contender == f"floatfmt {backend}"}
        assert forms == wanted
    assert all(row.timing.rounds == 3 for row in result.rows)
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "case", [case.name for case in cases.CASES.values() if case.multiple == cases.LEAST]
)
def test_sixteen_values_are_enough(case):
    with peers.on_threads(1):
        result = run.measure(task(case, cases.CASES[case].kinds[-1], 16), budget_s=0)
    assert len(result.rows) >= 2


@pytest.mark.usefixtures("hurried")
def test_cold_means_that_much_else_was_read_before_each_call(monkeypatch):
    log = []

    def logged(work):
        codes = work.x.astype(np.float16)
        return lambda: log.append("call") or codes

    monkeypatch.setattr(run, "emptying_caches", lambda: lambda: log.append("empty"))
    cold = dataclasses.replace(task(with_contender("encode-fp32-fp16", logged)), caches="cold")
    result = run.measure(cold, budget_s=0)
    assert log[-2:] == ["empty", "call"]
    assert log[3:].count("empty") == 3 * (1 + len(result.rows))  # the copy's too
    assert result.to_dict()["caches"] == "cold"
    assert "cold caches" in printed(report_of(result))
    run.measure(dataclasses.replace(cold, caches="warm"), budget_s=0)
    assert log[-2:] == ["call", "call"]


def test_emptying_the_caches_reads_more_than_the_last_holds(monkeypatch):
    monkeypatch.setattr(machine, "caches", lambda: {"L1d": "32K", "L2": "1M", "L2i": "9M"})
    assert run.emptying_caches().__self__.nbytes == 2 << 20
    monkeypatch.setattr(machine, "caches", dict)
    assert run.emptying_caches().__self__.nbytes == 2 * machine.UNKNOWN_CACHE_BYTES


@pytest.mark.skipif(len(ff.available_backends()) == 1, reason="there is only the reference")
def test_the_reference_takes_part_at_small_sizes_only():
    case = cases.CASES["absmax-int8"]
    small, large = (
        {one.backend for one in cases.expanded(case, n)}
        for n in (cases.REFERENCE_MAX_SIZE, cases.REFERENCE_MAX_SIZE + 1024)
    )
    assert small - large == {"reference"}


def test_floatfmts_contenders_run_on_their_own_backend():
    case = with_contender("encode-fp32-fp16", contenders.numpy_cast("fp16"))
    seen = contenders.both("floatfmt", lambda work: ff.backends.backend_name)
    case = dataclasses.replace(case, contenders=seen)
    names = [one.prepared(contenders.Work(np.ones(1)))() for one in cases.expanded(case, SIZE)]
    assert names == list(ff.available_backends())


def test_a_contender_takes_part_up_to_its_own_limit():
    case = cases.CASES["encode-fp32-p3109_k8p3se"]
    names = [
        {one.name for one in cases.expanded(case, n)}
        for n in (contenders.GFLOAT_MAX_SIZE, contenders.GFLOAT_MAX_SIZE + 1024)
    ]
    assert "gfloat" in names[0] - names[1]


def test_the_readmes_cases_are_among_the_cases():
    assert len(set(cases.README_CASES)) == len(cases.README_CASES)
    assert set(cases.README_CASES) < set(cases.CASES)


def test_acceptance_names_contenders_that_there_are():
    for target in (
        *cases.ACCEPTANCE,
        *cases.OUT_ACCEPTANCE,
        *cases.ROUNDING_ACCEPTANCE,
        *cases.SCHEME_ACCEPTANCE,
    ):
        assert target.contender in {c.name for c in cases.CASES[target.case].contenders}


# --- the check can fail -------------------------------------------------------------------------


@pytest.mark.usefixtures("untimed")
def test_a_wrong_bit_stops_the_run_and_names_the_element():
    def build(work):
        def wrong():
            values = work.x.astype(np.float16)
            values.view(np.uint16)[17] ^= 1
            return values

        return wrong

    case = with_contender("encode-fp32-fp16", build)
    with pytest.raises(check.DisagreementError, match=r"encode.*numpy \(new\).*codes\[17\]"):
        run.run([task(case)], budget_s=0)


@pytest.mark.usefixtures("hurried")
def test_a_library_that_fails_or_disagrees_may_be_left_out_and_the_reason_is_told():
    def wrong(work):
        return lambda: work.x.astype(np.float16) + np.float16(1)

    def fails(work):
        raise AttributeError("this version has no cast")

    for build, why in ((wrong, "DisagreementError: .*codes"), (fails, "no cast")):
        odd = task(with_contender("encode-fp32-fp16", build))
        with pytest.raises((check.DisagreementError, AttributeError)):
            run.measure(odd, budget_s=0)
        result = run.measure(odd, budget_s=0, strict=False)
        assert {row.peer for row in result.rows} == {"floatfmt"}
        assert re.search(f"^left out: numpy \\(new\\): .*{why}", printed(report_of(result)), re.M)


@pytest.mark.usefixtures("untimed")
def test_floatfmt_itself_is_never_left_out():
    case = dataclasses.replace(
        cases.CASES["encode-fp32-fp16"],
        contenders=contenders.both("floatfmt", lambda work: 1 / 0),
    )
    with pytest.raises(ZeroDivisionError):
        run.measure(task(case), budget_s=0, strict=False)


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("level", ff.available_backends()[1:])
def test_a_wrong_backend_stops_the_run(monkeypatch, level):
    right = native.Native.encode

    def wrong(self, values, how, codes, random=None):
        fine = right(self, values, how, codes, random)
        if self._isa == native.LEVELS[level]:
            codes[-1] ^= 1
        return fine

    monkeypatch.setattr(native.Native, "encode", wrong)
    monkeypatch.setattr(native.Native, "encode_plain", lambda *_: None)
    with pytest.raises(check.DisagreementError, match=rf"floatfmt {level} .*codes\[1023\]"):
        run.measure(task("encode-fp32-bf16"), budget_s=0)


@pytest.mark.usefixtures("untimed")
def test_a_contender_that_writes_nothing_is_found_out():
    case = with_contender(
        "encode-fp32-fp16",
        lambda work: lambda: work.out("codes", np.uint16),  # where floatfmt wrote before
        allocation="out",
    )
    with pytest.raises(check.DisagreementError, match=r"numpy \(out\): codes\[0\]"):
        run.measure(task(case), budget_s=0)


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((), "0 arrays, expected 3"),
        (np.zeros(SIZE, np.int16), r"codes are int16 of shape \(1024,\), expected int8"),
        (np.zeros(3, np.int8), r"codes are int8 of shape \(3,\)"),
    ],
)
def test_a_result_of_another_form_stops_the_run(result, message):
    case = with_contender("absmax-int8", lambda work: lambda: result)
    with pytest.raises(check.DisagreementError, match=message):
        run.measure(task(case), budget_s=0)


CODES = np.arange(-5, 5, dtype=np.int8)
ONE_APART = check.Relation(1, "rounds otherwise")


def off_by(difference):
    codes = CODES.copy()
    codes[3] += difference
    return (codes,)


def test_accepted_differences_are_counted():
    for difference in (-1, 1):
        assert check.count_differing("x", off_by(difference), (CODES,), ("codes",), ONE_APART) == 1
    assert check.count_differing("x", off_by(0), (CODES,), ("codes",), ONE_APART) == 0


def test_two_codes_apart_are_too_many():
    with pytest.raises(
        check.DisagreementError, match=r"codes\[3\] is .*-4.*, expected .*-2.* \(at most 1 apart\)"
    ):
        check.count_differing("x", off_by(-2), (CODES,), ("codes",), ONE_APART)


def test_more_differences_than_the_accepted_share_are_too_many():
    codes = np.zeros(1000, np.int8)
    few, many = codes.copy(), codes.copy()
    few[:10], many[:11] = 1, 1
    relation = check.Relation(1, "rounds otherwise", share=0.01)
    assert check.count_differing("x", (few,), (codes,), ("codes",), relation) == 10
    with pytest.raises(check.DisagreementError, match="codes: 11 of 1,000 .* 1 % at most"):
        check.count_differing("x", (many,), (codes,), ("codes",), relation)
    assert check.count_differing("x", off_by(1), (CODES,), ("codes",), relation) == 1  # of ten


F32 = np.float32


def swapped(packed):
    """Return 4-bit codes packed in the other order."""
    return packed << 4 | packed >> 4


def test_what_a_result_lacks_is_not_compared():
    codes, scale, tensor_scale = check.arrays_of(ff.quantize(np.ones((2, 16), np.float32), "nvfp4"))
    assert (codes.shape, scale.shape, tensor_scale.shape) == ((2, 16), (2, 1), ())
    assert len(check.arrays_of((CODES, None, None))) == 1


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("case", "peer", "wrong"),
    [
        ("nf4", "bitsandbytes", lambda packed, scale: (swapped(packed), scale)),
        ("nf4", "bitsandbytes", lambda packed, scale: (packed, 2 * scale)),
        ("dynamic8", "bitsandbytes", lambda codes, scale: (codes + np.uint8(5), scale)),
        ("absmax-int8-rows", "bitsandbytes", lambda codes, largest: (codes, 2 * largest)),
        ("dequantize-int8-rows", "bitsandbytes", lambda values: (values * F32(1.000001),)),
        ("dequantize-nf4", "bitsandbytes", lambda values: (-values,)),
        ("mxfp4", "gfloat", lambda values: (2 * values,)),
        ("mxfp4", "pychop", lambda values: (2 * values,)),
        ("encode-fp32-p3109_k8p3se", "pychop", lambda values: (2 * values,)),
        ("encode-fp32-bf16", "pychop", lambda values: (-values,)),
        ("encode-fp32-fp16", "apytypes", lambda codes: (codes + np.uint16(1),)),
        ("encode-fp32-fp6_e2m3fn", "numkong", lambda codes: (codes ^ np.uint8(1),)),
        ("encode-fp32-fp16", "onnxruntime", lambda values: (-values,)),
        ("quantize-int8", "onnxruntime", lambda codes: (codes + np.int8(2),)),
        ("dequantize-int8-rows", "onnxruntime", lambda values: (-values,)),
        ("mxfp4", "torchao", lambda scale, packed: (scale, swapped(packed))),
        ("nvfp4", "torchao", lambda scale, packed, whole: (scale, packed, 2 * whole)),
    ],
)
def test_a_library_that_quantises_otherwise_is_found_out(case, peer, wrong):
    pytest.importorskip(peer)
    row = cases.CASES[case]
    contender = next(one for one in row.contenders if one.name == peer)
    ours = tuple(one for one in row.contenders if one.peer == "floatfmt")
    changed = dataclasses.replace(contender, of_its=lambda arrays: contender.of_its(wrong(*arrays)))
    with pytest.raises(check.DisagreementError, match=rf"{case}.*{peer} \(new\)"):
        run.measure(task(dataclasses.replace(row, contenders=(*ours, changed))), budget_s=0)


def test_later_arrays_are_checked_too():
    scale = np.array(0.5, np.float32)
    wrong = np.nextafter(scale, np.float32(1))
    with pytest.raises(check.DisagreementError, match="scale is .*0.50000006.*, expected .*0.5"):
        check.count_differing("x", (CODES, wrong), (CODES, scale), ("codes", "scale"))
    arrays = (*off_by(1), wrong), (CODES, scale), ("codes", "scale")
    with pytest.raises(check.DisagreementError, match="scale is"):
        check.count_differing("x", *arrays, ONE_APART)
    scales_too = dataclasses.replace(ONE_APART, scales_too=True)
    assert check.count_differing("x", *arrays, scales_too) == 2


def test_minus_zero_is_not_zero():
    zeros = np.zeros(2)
    with pytest.raises(check.DisagreementError, match=r"values\[0\] is .*-0.*\(the same\)"):
        check.count_differing("x", (-zeros,), (zeros,), ("values",))


@pytest.mark.usefixtures("hurried")
def test_accepted_differences_are_printed():
    def build(work):
        codes = ff.absmax(work.x).codes
        codes[5] -= np.sign(codes[5])
        return lambda: codes

    case = with_contender("absmax-int8", build, ONE_APART)
    result = run.measure(task(case), budget_s=0)
    text = printed(report_of(result))
    assert "numpy: 1 of 1,024 elements (0.098 %) differ from floatfmt's by one code" in text
    assert "because it rounds otherwise" in text
    further = dataclasses.replace(result.rows[-1], codes_apart=3)
    text = printed(report_of(dataclasses.replace(result, rows=(*result.rows[:-1], further))))
    assert "differ from floatfmt's by at most 3 codes, because" in text


# --- every format in every mode -----------------------------------------------------------------


@pytest.fixture
def grid_hurried(monkeypatch):
    """Time three single calls of each format and mode."""
    monkeypatch.setattr(rounding, "SAMPLE_S", 0)


@pytest.mark.usefixtures("grid_hurried")
@pytest.mark.parametrize("target", [fmt.name for fmt in ff.formats()])
def test_every_mode_of_a_format_agrees_with_gfloat_and_is_timed(target):
    pytest.importorskip("gfloat")
    results = rounding.Formatwise(target, SIZE).measured(budget_s=0)
    assert [r.case for r in results] == [rounding.result_name(target, m) for m in ff.Rounding]
    fastest = f"floatfmt {ff.available_backends()[-1]}"
    for mode, result in zip(ff.Rounding, results, strict=True):
        peer = rounding.GFLOAT_NEAREST if mode is ff.Rounding.TO_ODD else "gfloat"
        assert [row.contender for row in result.rows] == [fastest, rounding.ANCHOR, peer]
        assert all(row.timing.rounds == 3 for row in result.rows)


@pytest.mark.usefixtures("grid_hurried")
@pytest.mark.parametrize("mode", [m for m in contenders.GFLOAT_MODES if "nearest" not in m])
def test_a_mode_that_gfloat_rounds_otherwise_is_found_out(monkeypatch, mode):
    pytest.importorskip("gfloat")
    monkeypatch.setitem(contenders.GFLOAT_MODES, mode, "TiesToEven")
    with pytest.raises(check.DisagreementError, match=rf"e5m2-{mode}.*gfloat \(new\): codes\["):
        rounding.Formatwise("fp8_e5m2", SIZE).measured(budget_s=0)


@pytest.mark.skipif(len(ff.available_backends()) == 1, reason="there is only the reference")
def test_a_mode_that_the_kernel_rounds_otherwise_is_found_out(monkeypatch):
    right = native.Native.encode

    def wrong(self, values, how, codes, random=None):
        if how.rounding is ff.Rounding.TO_ODD:
            how = rules(how.format, "toward_zero")
        return right(self, values, how, codes, random)

    monkeypatch.setattr(native.Native, "encode", wrong)
    monkeypatch.setattr(native.Native, "encode_plain", lambda *_: None)
    with pytest.raises(check.DisagreementError, match=r"int4-to_odd.*floatfmt .*codes\["):
        rounding.Formatwise("int4", SIZE).measured(budget_s=0)


@pytest.mark.usefixtures("grid_hurried")
def test_without_gfloat_the_grid_says_so(monkeypatch):
    rows = tuple(peer for peer in peers.PEERS if peer.name != "gfloat")
    monkeypatch.setattr(peers, "PEERS", rows)
    text = printed(report_of(*rounding.Formatwise("int4", SIZE).measured(budget_s=0)))
    assert "gfloat: not measured" in text
    assert "missing, because not installed: gfloat" in text


def test_the_grid_marks_what_is_slower_than_wanted_but_not_stochastic_rounding():
    seconds = {"floatfmt": 1.0, rounding.ANCHOR: 0.4, "gfloat": 200.0}
    rows = tuple(Row(name, name, "out", Timing(s, 0.01, 3)) for name, s in seconds.items())
    results = [
        Result(rounding.result_name("bf16", mode), "", "scaled", 2**20, 6, Timing(1, 0, 3), rows)
        for mode in ff.Rounding
    ]
    text = printed(report_of(*results))
    tables_rows = [line.split()[1:] for line in text.splitlines() if line.startswith("  bf16 ")]
    assert tables_rows == [["0.00"] * 7, ["200.0×"] * 7, ["0.40×!"] * 6 + ["0.40×"]]
    assert "against gfloat: 6 of 6 at least 150 times as fast; least 200.0×" in text
    assert "against fp8_e4m3fn nearest_even: 0 of 6 at least 0.5 times as fast; least 0.40×" in text


# --- peers --------------------------------------------------------------------------------------


def test_a_peer_that_is_not_installed_has_no_version():
    peer = peers.Peer("no_such_library_of_numbers")
    assert not peer.installed
    assert peer.version is None


def test_without_the_kernel_the_short_table_keeps_to_small_arrays(monkeypatch):
    monkeypatch.setattr(short, "available_backends", lambda: ("reference",))
    monkeypatch.setattr(short, "run", lambda tasks, **_: Report(machine.environment(), 0.0, tasks))
    measured = short.short()
    assert {task.size for task in measured.report.results} == {2**10}
    kept = Report(measured.report.environment, 0.0, ())
    assert "Without the C kernel larger arrays take too long" in str(short.Short(kept, "reference"))


@pytest.mark.usefixtures("hurried")
def test_missing_peers_are_listed(monkeypatch):
    rows = (
        *(peer for peer in peers.PEERS if peer.installed and peer.name != "torch"),
        peers.Peer("no_such_library_of_numbers"),
    )
    monkeypatch.setattr(peers, "PEERS", rows)
    monkeypatch.setattr(machine, "PEERS", rows)
    report = run.run([task("absmax-int8")], budget_s=0)
    assert peers.missing() == ("no_such_library_of_numbers",)
    assert report.results[0].missing == ("torch article", "torch in place", "torch fused")
    text = printed(report, targets=cases.ACCEPTANCE)
    assert "no_such_library_of_numbers missing" in text
    assert "missing, because not installed: torch article, torch in place, torch fused" in text
    assert any("torch fused" in line and " missing " in line for line in text.splitlines())


def test_torch_computes_on_one_thread_and_gets_its_own_back():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with peers.on_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bitsandbytes_computes_on_one_thread():
    torch = pytest.importorskip("torch")
    cextension = pytest.importorskip("bitsandbytes.cextension")
    threads = cextension.lib._lib.omp_get_max_threads  # of the runtime that its kernels call
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads() == 2
        with peers.on_threads(1):
            assert threads() == 1
    finally:
        torch.set_num_threads(before)


def test_apytypes_computes_on_one_thread_and_gets_its_own_back():
    apytypes = pytest.importorskip("apytypes")
    before = apytypes.n_threads()
    apytypes.reset_thread_pool(2)
    try:
        with peers.on_threads(1):
            assert apytypes.n_threads() == 1
        assert apytypes.n_threads() == 2
    finally:
        apytypes.reset_thread_pool(before)


@pytest.mark.parametrize("library", ["onnxruntime", "numkong", "pychop"])
def test_libraries_compute_on_the_callers_thread(library):
    pytest.importorskip(library)
    for name, allocation in (("encode-fp32-fp16", "new"), ("encode-fp32-bf16", "out")):
        case = cases.CASES[name]
        found = [c for c in case.contenders if (c.peer, c.allocation) == (library, allocation)]
        for contender in found:
            perform = contender.prepared(case.prepare("normal", 2**20))
            perform()
            mine, all_threads = time.thread_time(), time.process_time()
            for _ in range(3):
                perform()
            mine, all_threads = time.thread_time() - mine, time.process_time() - all_threads
            assert all_threads < 1.2 * mine + 0.002


def test_libraries_say_nothing_of_themselves():
    code = (
        "from floatfmt.bench import peers, quantizers;"
        "'bitsandbytes' in peers.installed() and quantizers._bitsandbytes();"
        "'torchao' in peers.installed() and (quantizers._mx(), quantizers._nvfp4())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_importing_floatfmt_loads_neither_the_benchmarks_nor_torch():
    code = (
        "import sys, floatfmt; print([m for m in ('floatfmt.bench', 'torch') if m in sys.modules]);"
        "import floatfmt.bench.run; print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout.split("\n")[:2] == ["[]", "False"], output.stderr


# --- inputs and plans ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", inputs.KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_are_finite_and_always_the_same(kind, dtype):
    first = inputs.values(kind, SIZE, dtype, "fp16").copy()
    inputs.values.cache_clear()
    again = inputs.values(kind, SIZE, dtype, "fp16")
    assert again.dtype == dtype
    assert np.isfinite(again).all()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "target", ["fp16", "bf16", "fp8_e4m3fn", "fp8_e8m0fnu", "int8", "fp4_e2m1fn"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ties_lie_halfway_between_neighbouring_values(target, dtype):
    x = inputs.values("ties", SIZE, dtype, target).astype(np.float64)
    below, above = (
        ff.round_to(x, target, rounding=f"toward_{side}") for side in ("negative", "positive")
    )
    assert (below < above).all()
    np.testing.assert_array_equal((below + above) / 2, x)


@pytest.mark.parametrize("target", [fmt.name for fmt in ff.formats()])
def test_scaled_inputs_reach_a_formats_last_binades_and_no_further(target):
    x = inputs.values("scaled", SIZE, "float32", target)
    largest = min(float(ff.format(target).max_finite), inputs.LARGEST_SCALED)
    assert largest / 2 < np.abs(x).max() <= largest
    assert (x < 0).any() == ff.format(target).signed


def test_inputs_beyond_a_formats_range_are_partly_so():
    x = inputs.values("beyond", SIZE, "float32", "fp8_e4m3fn")
    assert 0.1 < np.mean(np.abs(x) > 448) < 0.9


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_int8_ties_have_the_scale_that_makes_them_ties(scheme):
    x = inputs.values("ties", SIZE, "float32", f"int8 {scheme}")
    q = ff.quantize(x, scheme)
    assert q.scale == inputs.TIE_SCALE
    assert (np.abs(x[1:-1] / inputs.TIE_SCALE % 1) == 0.5).all()


def test_subnormal_inputs_are_subnormal_and_outliers_stand_out():
    x = inputs.values("subnormal", SIZE, "float32", "bf16")
    assert 0.5 < ff.decompose(x).category.tolist().count(ff.Category.SUBNORMAL) / SIZE < 0.9
    weights, outliers = (inputs.values(kind, 2**14) for kind in ("normal", "outliers"))
    assert np.abs(outliers).max() > 10 * np.abs(weights).max()


def test_a_plan_has_a_task_for_each_case_kind_and_size():
    usual = run.plan([SIZE, 2 * SIZE])
    assert len(usual) == 2 * len(cases.CASES)
    assert all(t.kind == t.case.kinds[0] for t in usual)
    assert len(run.plan([SIZE], kinds="all")) == len(ALL)
    assert {t.caches for t in run.plan([SIZE], caches="cold")} == {"cold"}


def test_cases_of_rows_leave_out_what_is_no_row():
    small = {t.case.name for t in run.plan([16])}
    assert small == {case.name for case in cases.CASES.values() if case.multiple == 16}
    assert "absmax-int8" in small
    assert not small & set(cases.SCHEME_CASES)
    with pytest.raises(ValueError, match="nf4 takes multiples of 1024, got 16, 1040"):
        run.plan([16, 1040], ["nf4"])


def test_unknown_cases_and_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="no case is called 'sort'; there are decompose-fp32"):
        run.plan([SIZE], ["sort"])
    for size in (0, -1024, 1000):
        with pytest.raises(ValueError, match=f"multiple of 16, got {size}"):
            run.plan([size])


# --- results, tables, machine -------------------------------------------------------------------


def report_of(*results):
    return Report(machine.environment(), 0.0, results)


def printed(report, **options):
    file = io.StringIO()
    tables.print_report(report, tables.console(file), **options)
    return file.getvalue()


MADE_UP = Result(
    "decompose-fp32",
    "made up",
    "normal",
    2**26,
    10,
    Timing(0.02, 0.01, 9),
    (
        Row(f"floatfmt {ff.available_backends()[-1]}", "floatfmt", "new", Timing(0.04, 0.01, 9)),
        Row(f"floatfmt {ff.available_backends()[-1]}", "floatfmt", "out", Timing(0.025, 0.01, 9)),
        Row("numpy", "numpy", "new", Timing(0.2, 0.02, 9)),
    ),
)


def test_a_result_knows_speed_part_of_copy_and_ratios():
    new, out, numpy = MADE_UP.rows
    assert MADE_UP.elements_per_s(new.timing) == 2**26 / 0.04
    assert MADE_UP.gb_per_s(MADE_UP.copy) == pytest.approx(2**26 * 10 / 0.02 / 1e9)
    assert MADE_UP.of_copy(new) == 0.5
    assert MADE_UP.ratio(new, "numpy") == pytest.approx(5)
    assert MADE_UP.ratio(out, "numpy") == pytest.approx(8)  # against its new array
    assert np.isnan(MADE_UP.ratio(numpy, "somebody"))


def test_the_acceptance_table_prints_measured_beside_wanted():
    target = cases.Target("decompose-fp32", "numpy", 2.5)
    elsewhere = cases.Target("decompose-fp32", "numpy", 9.0, size=2**20)
    lines = printed(report_of(MADE_UP), targets=(target, elsewhere)).splitlines()
    rows = [line.split() for line in lines if "≥" in line]
    assert rows == [
        [*("decompose-fp32", "2^26", "numpy", "(new)", allocation, "≥", "2.5×"), *measured]
        for allocation, *measured in (
            ("new", "5.00×", "3.0", "%", "50", "%"),
            ("out", "8.00×", "3.0", "%", "80", "%"),
        )
    ]


def test_piped_tables_are_whole_and_plain():
    text = printed(report_of(MADE_UP))
    assert "\x1b" not in text
    assert "…" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert (
        "2^26 elements, normal weights; 10 bytes an element, from memory; copy 33.6 GB/s ±1.0 %"
        in text
    )
    assert "8.00×†" in text
    assert "† against its other kind of result" in text


def test_a_report_carries_where_and_with_what():
    report = report_of(MADE_UP).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["schema"] == 1
    assert report["threads"] == 1
    assert report["sizes"] == [2**26]
    assert report["machine"]["cpu"]
    assert report["software"]["compiler"] == native.compiler()
    assert report["software"]["backends"] == list(ff.available_backends())
    assert report["peers"]["numpy"] == np.__version__
    assert report["results"][0]["rows"][0]["times_as_fast_as"] == {"numpy": pytest.approx(5)}


def test_a_report_says_whether_torch_asks_for_huge_pages(monkeypatch):
    for setting, says_so in (("1", True), ("0", False)):
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", setting)
        report = report_of(MADE_UP)
        assert report.to_dict()["software"]["torch_huge_pages"] == says_so
        assert ("torch asks for huge pages" in printed(report)) == says_so


def test_the_commit_is_read_from_gits_files(tmp_path):
    git = tmp_path / ".git"
    assert machine.commit(tmp_path) is None
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert machine.commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs with: peeled\naaaa refs/heads/main\n")
    assert machine.commit(tmp_path) == "aaaa"
    (git / "refs/heads/main").write_text("bbbb\n")
    assert machine.commit(tmp_path) == "bbbb"
    (git / "HEAD").write_text("cccc\n")
    assert machine.commit(tmp_path) == "cccc"


def test_the_commit_of_a_worktree_is_its_own(tmp_path):
    own = tmp_path / "main/.git/worktrees/other"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/other\n")
    (own / "commondir").write_text("../..\n")
    (own / "../../refs/heads").mkdir(parents=True)
    (own / "../../refs/heads/other").write_text("dddd\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.git").write_text(f"gitdir: {own}\n")
    assert machine.commit(tmp_path / "other") == "dddd"


# --- the scripts --------------------------------------------------------------------------------


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_prints_tables_and_writes_json(tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "result.json"
    arguments = ["run.py", "--acceptance", "--size", "2^10", "--case", "decompose-fp32"]
    arguments += ["--budget", "0.01", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script("run").main() == 0
    captured = capsys.readouterr()
    assert "[1/1] decompose-fp32, 1,024 elements, normal weights" in captured.err
    assert "decompose-fp32" in captured.out
    assert "wanted" in captured.out
    assert json.loads(file.read_text())["results"][0]["size"] == 1024


@pytest.mark.usefixtures("grid_hurried", "hurried")
def test_the_script_prints_every_format_in_every_mode(tmp_path, monkeypatch, capsys):
    few = tuple(map(ff.format, ("bf16", "int8")))
    monkeypatch.setattr(rounding, "formats", lambda: few)
    file = tmp_path / "result.json"
    arguments = ["run.py", "--rounding", "--size", "2^10", "--budget", "0.001"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", str(file)])
    assert script("run").main() == 0
    out = capsys.readouterr().out
    for fmt in few:
        assert sum(line.startswith(f"  {fmt} ") for line in out.splitlines()) == 3
    measured = [result["case"] for result in json.loads(file.read_text())["results"]]
    grid = [rounding.result_name(fmt.name, mode) for fmt in few for mode in ff.Rounding]
    wanted = list(dict.fromkeys(target.case for target in cases.ROUNDING_ACCEPTANCE))
    assert measured == grid + wanted
    assert out.count("≥") == len(cases.ROUNDING_ACCEPTANCE)


@pytest.mark.usefixtures("hurried")
def test_the_script_prints_what_is_wanted_of_schemes(tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    arguments = ["run.py", "--schemes", "--size", "2^10", "--budget", "0.001", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script("run").main() == 0
    assert capsys.readouterr().out.count("≥") == len(cases.SCHEME_ACCEPTANCE)
    measured = [result["case"] for result in json.loads(file.read_text())["results"]]
    assert measured == list(cases.SCHEME_CASES)
    assert {target.case for target in cases.SCHEME_ACCEPTANCE} <= set(measured)


@pytest.mark.usefixtures("hurried")
def test_processor_time_leaves_out_what_others_take(monkeypatch):
    def build(work):
        codes = work.x.astype(np.float16)

        def interrupted():
            time.sleep(0.02)
            return codes

        return interrupted

    case = with_contender("encode-fp32-fp16", build)
    seconds = {}
    for clock in run.CLOCKS:
        report = run.run([task(case)], budget_s=0, clock=clock)
        assert f"times are {clock} time" in printed(report)
        assert report.to_dict()["clock"] == clock
        seconds[clock] = report.results[0].row("numpy", "new").timing.median_s
    assert seconds["wall"] >= 0.02 > seconds["thread CPU"]


def test_the_readmes_run_goes_to_the_file_that_its_table_is_made_from(monkeypatch):
    presets = script("run").PRESETS
    assert presets["readme"].file == ROOT / "benchmarks/results/README.json"
    assert [sweep.cases for sweep in presets["readme"].sweeps] == [cases.README_CASES]


@pytest.mark.parametrize("preset", ["quick", "curves", None])
def test_a_preset_measures_each_thing_once(preset):
    module = script("run")
    options = module.arguments().parse_args([f"--{preset}"] if preset else [])
    tasks = [str(task) for task in options.preset.tasks(options)]
    assert len(tasks) == len(set(tasks))
    assert any(", 16 elements" in task for task in tasks)
    assert any("caches cold" in task for task in tasks) == (preset != "curves")
    if preset != "curves":
        assert {name.partition(",")[0] for name in tasks} == set(cases.CASES)


def test_sizes_and_cases_that_are_named_are_all_that_is_measured():
    module = script("run")
    options = module.arguments().parse_args(["--size", "2^4", "48", "--case", "nf4", "absmax-int8"])
    with pytest.raises(ValueError, match="nf4 takes multiples of 1024"):
        options.preset.tasks(options)
    options = module.arguments().parse_args(
        ["--quick", "--cold", "--size", "2^4", "48", "--case", "absmax-int8"]
    )
    tasks = options.preset.tasks(options)
    assert [(task.size, task.caches) for task in tasks] == [(16, "cold"), (48, "cold")]


def test_the_script_names_its_file_by_processor_and_date():
    report = {"machine": {"cpu": "AMD EPYC(tm) 9"}, "date": "2026-01-02T03:04:05+00:00"}
    assert script("run").default_file(report).name == "amd-epyc-tm-9-2026-01-02.json"


def test_the_script_fails_on_a_disagreement(monkeypatch, capsys):
    def disagree(*args, **kwargs):
        raise check.DisagreementError("codes[3] is 1, expected 2")

    monkeypatch.setattr(run, "run", disagree)
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick"])
    assert script("run").main() == 1
    assert "codes[3] is 1, expected 2" in capsys.readouterr().err


def curve(case, sizes=(16, 2**20)):
    """A made-up report: floatfmt twice as fast in one of its ways as in the other, and torch."""
    rows = [
        Row("floatfmt avx2", "floatfmt", "new", Timing(2e-5, 0.01, 9)),
        Row("floatfmt avx2", "floatfmt", "out", Timing(1e-5, 0.01, 9)),
        Row("torch fused", "torch", "new", Timing(4e-5, 0.01, 9)),
        Row("torch given", "torch", "new", Timing(1e-6, 0.01, 9)),
    ]
    results = [
        Result(case, "about <it>", "normal", n, 5.0, Timing(n * 5e-9, 0.01, 9), tuple(rows))
        for n in sizes
    ]
    cold = dataclasses.replace(results[0], caches="cold", size=64)
    return report_of(*results, cold).to_dict()


def test_a_curve_is_the_fastest_way_of_each_library_on_warm_caches():
    found = script("plots").curves(curve("absmax-int8"), "absmax-int8")
    assert found == {
        "copy": [(16, pytest.approx(2e8)), (2**20, pytest.approx(2e8))],
        "floatfmt": [(16, pytest.approx(1.6e6)), (2**20, pytest.approx(2**20 * 1e5))],
        "torch": [(16, pytest.approx(4e5)), (2**20, pytest.approx(2**20 * 2.5e4))],
    }


def test_pictures_name_who_was_measured_and_are_light_or_dark(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    plots = script("plots")
    file = tmp_path / "results.json"
    file.write_text(json.dumps(curve("absmax-int8")))
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["plots.py", str(file), "--to", str(tmp_path)])
        assert plots.main() == 0
        pictures = {name: (tmp_path / f"{name}.svg").read_text() for name in plots.PICTURES}
        assert pictures == {name: plots.draw(curve("absmax-int8"), name) for name in pictures}
    drawn = ElementTree.fromstring(pictures["quantisers"])
    texts = {"".join(one.itertext()).strip() for one in drawn.iter() if one.tag.endswith("}text")}
    assert {"about <it>", "floatfmt", "torch", "copying as many bytes", "elements"} <= texts
    assert "numpy" not in texts
    assert "@media(prefers-color-scheme:dark)" in pictures["quantisers"]
    assert not set(plots.SENTINELS.values()) & set(
        re.findall("#[0-9a-f]{6}", pictures["quantisers"])
    )
    assert plots.about(curve("absmax-int8")) in drawn.find("{*}desc").text


def test_pictures_of_the_readme_are_those_of_the_committed_run():
    plots = script("plots")
    described = plots.about(json.loads(plots.RESULTS.read_text()))
    for name in plots.PICTURES:
        drawn = ElementTree.parse(plots.FOLDER / f"{name}.svg").getroot()
        assert drawn.find("{*}desc").text == described
        assert f"(benchmarks/plots/{name}.svg)" in (ROOT / "README.md").read_text()
    every = {peer.name for peer in peers.PEERS} | {"floatfmt"}
    assert set(plots.LINES) == every
    assert {case for cases_of in plots.PICTURES.values() for case in cases_of} == set(
        cases.CURVE_CASES
    )


@pytest.mark.parametrize("text", [None, "no JSON", "[]", "{}"])
def test_drawing_what_is_no_results_file_is_one_line(tmp_path, monkeypatch, capsys, text):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["plots.py", str(file)])
    with pytest.raises(SystemExit) as exited:
        script("plots").main()
    assert exited.value.code == 2
    reason = "No such file or directory" if text is None else "is no results file of run.py"
    assert reason in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("median", "spread", "code", "word"),
    [
        (0.04, 0.01, 0, "not significant"),
        (0.042, 0.001, 0, "small"),
        (0.08, 0.01, 1, "slower"),
        (0.02, 0.01, 0, "faster"),
        (0.08, 0.9, 0, "not significant"),
    ],
)
def test_comparing_fails_on_what_is_slower_beyond_noise(
    tmp_path, monkeypatch, capsys, median, spread, code, word
):
    changed = dataclasses.replace(MADE_UP.rows[0], timing=Timing(median, spread, 9))
    old = dataclasses.replace(MADE_UP, rows=MADE_UP.rows[:1])
    for name, result in (("old", old), ("new", dataclasses.replace(MADE_UP, rows=(changed,)))):
        text = json.dumps(report_of(result).to_dict())
        (tmp_path / name).write_text(text.replace('"spread": 0.01', '"spread": 0.001'))
    files = [str(tmp_path / name) for name in ("old", "new")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *files])
    assert script("compare").main() == code
    out = capsys.readouterr().out
    assert word in out
    assert f"{0.04 / median:.2f} times as fast (geometric mean); {code} slower" in out


def compare(tmp_path, monkeypatch, old, new, *options):
    """Run compare.py on two made-up results, changed by functions of their dictionaries."""
    for name, result in (("old", old), ("new", new)):
        (tmp_path / name).write_text(json.dumps(result))
    files = [str(tmp_path / name) for name in ("old", "new")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *files, *options])
    return script("compare").main()


def test_a_file_compared_with_itself_is_not_slower(tmp_path, monkeypatch, capsys):
    report = report_of(MADE_UP).to_dict()
    assert compare(tmp_path, monkeypatch, report, report) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "2 measurements in both, 1.00 times as fast (geometric mean); 0 slower" in out


def test_cold_measurements_are_compared_with_cold_ones_only(tmp_path, monkeypatch, capsys):
    warm = report_of(MADE_UP).to_dict()
    cold = report_of(dataclasses.replace(MADE_UP, caches="cold")).to_dict()
    assert compare(tmp_path, monkeypatch, warm, cold) == 1
    assert "no measurement in common" in capsys.readouterr().err
    before_there_were_cold_ones = json.loads(json.dumps(warm))
    del before_there_were_cold_ones["results"][0]["caches"]
    assert compare(tmp_path, monkeypatch, before_there_were_cold_ones, warm) == 0


def test_a_tolerance_that_is_given_decides_what_is_an_alarm(tmp_path, monkeypatch, capsys):
    old = report_of(MADE_UP).to_dict()
    slow = tuple(dataclasses.replace(r, timing=Timing(0.05, 0.01, 9)) for r in MADE_UP.rows)
    new = report_of(dataclasses.replace(MADE_UP, rows=slow)).to_dict()
    assert compare(tmp_path, monkeypatch, old, new) == 1
    assert compare(tmp_path, monkeypatch, old, new, "--tolerance", "1.5") == 0


def test_comparing_says_that_the_processor_is_another(tmp_path, monkeypatch, capsys):
    old = report_of(MADE_UP).to_dict()
    new = {**old, "machine": {**old["machine"], "cpu": "Z80"}, "clock": "thread CPU"}
    assert compare(tmp_path, monkeypatch, old, new) == 0
    err = capsys.readouterr().err
    assert f"note: another processor: {old['machine']['cpu']} before, Z80 now" in err
    assert "note: another clock: wall before, thread CPU now" in err


@pytest.mark.parametrize("text", [None, "no JSON", "[]", "{}"])
def test_comparing_what_is_no_results_file_is_one_line(tmp_path, monkeypatch, capsys, text):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), str(file)])
    with pytest.raises(SystemExit) as exited:
        script("compare").main()
    assert exited.value.code == 2
    reason = "No such file or directory" if text is None else "is no results file of run.py"
    assert reason in capsys.readouterr().err.splitlines()[-1]
