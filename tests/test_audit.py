"""The cast auditor: planted faults are found and named, right casts pass, reports say the truth."""

import importlib
import itertools
import json
import re
import threading
import time

import ml_dtypes
import numpy as np
import pytest
import torch

import floatfmt as ff
from faulty_casts import FAULTY, right, sign, truncates
from floatfmt.audit.casts import as_cast, is_nan
from floatfmt.audit.inputs import Batch, inputs, probes, special_codes
from floatfmt.audit.profiles import ROUNDINGS, Profile, known_profiles
from floatfmt.audit.sweep import sweep

verify_module = importlib.import_module("floatfmt.audit.verify")

# --- planted faults -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts():
    """The verdict on each of the catalogue, worked out once."""
    found = {}

    def verdict(label):
        if label not in found:
            faulty = FAULTY[label]
            found[label] = ff.verify(faulty.cast, faulty.source, faulty.target, **faulty.options)
        return found[label]

    return verdict


@pytest.mark.parametrize("label", FAULTY)
def test_a_planted_fault_is_found_and_named(label, verdicts):
    found = verdicts(label)
    assert found.verdict == "refuted", found
    names = {fault.name for fault in found.faults}
    assert set(FAULTY[label].names) <= names, found
    assert not {"another number", "becomes zero"} & names or label == "one bad input", found


@pytest.mark.parametrize("label", [label for label in FAULTY if FAULTY[label].exact])
def test_the_profile_that_explains_everything_is_found(label, verdicts):
    found = verdicts(label)
    assert found.is_exact_profile, found
    assert found.profile.words(found.target) == FAULTY[label].exact


@pytest.mark.parametrize("label", FAULTY)
def test_every_example_is_a_failure(label, verdicts):
    faulty, found = FAULTY[label], verdicts(label)
    for fault in found.faults:
        for sample in (fault.first, fault.simplest):
            assert sample.expected != sample.got
            codes = np.array([sample.code], found.source.code_dtype)
            if label not in ("wrong in a vector's tail", "wrong in one lane"):
                cast = as_cast(faulty.cast, found.source, found.target, {})
                outcome = cast(codes.copy())
                if isinstance(sample.got, int):
                    assert outcome.codes[0] == sample.got
            nan = "quiet" if found.target.nan else "zero"
            values = Batch(found.source, codes).values
            how = {"nan": nan, "overflow": faulty.options.get("overflow", "ieee")}
            assert ff.encode(values, found.target, **how)[0] == sample.expected


def test_failures_are_counted():
    codes = np.arange(1 << 16, dtype=np.uint16)
    x = codes.view(np.float16)
    with np.errstate(invalid="ignore"):
        differ = truncates(x) != right(x)
    nans = np.isnan(x) & (truncates(x) & 0x7F > 0x7C)
    found = ff.verify(truncates, "fp16", "fp8_e5m2")
    assert found.wrong == (differ & ~nans).sum()
    assert found.checked == found.inputs.size == 1 << 16


def test_a_fault_of_positions_is_placed(verdicts):
    tail = verdicts("wrong in a vector's tail").positions
    assert tail.where == "in the last n mod 8 elements of an array of n"
    lane = verdicts("wrong in one lane").positions
    assert lane.where == "at positions 3 modulo 16"
    assert 0 < lane.wrong < lane.tried
    assert "depends on the position" in str(verdicts("wrong in one lane"))


def test_a_single_bad_input_among_all_of_fp32_is_found():
    bad = 0x2F43A1C7

    def cast(x):
        codes = x.astype(ml_dtypes.bfloat16).view(np.uint16)
        codes[x.view(np.uint32) == bad] ^= 1
        return codes

    found = ff.verify(cast, "fp32", "bf16")
    assert (found.verdict, found.wrong, found.checked) == ("refuted", 1, 1 << 32)
    assert found.faults[0].first.code == bad


def test_a_cast_that_is_right_by_chance_has_no_false_name():
    zero = ff.verify(lambda x: np.zeros(x.size, np.uint8), "fp16", "fp8_e5m2")
    names = {fault.name for fault in zero.faults}
    assert not any(name.startswith(("double", "drops", "ties", "truncates")) for name in names)


# --- casts that are right -----------------------------------------------------------------------

PAIRS = [
    ("fp16", "bf16"),
    ("fp16", "fp8_e5m2"),
    ("bf16", "fp8_e4m3fn"),
    ("bf16", "fp8_e8m0fnu"),
    ("fp16", "fp6_e2m3fn"),
    ("fp16", "uint8"),
    ("bf16", "int4"),
    ("fp16", "mxint8"),
    ("fp8_e4m3fn", "fp8_e5m2"),
    ("tf32", "fp16"),
    ("fp8_ue4m3", "fp4_e2m1fn"),
    ("mxint8", "fp8_e4m3b11fnuz"),
    ("p3109_k8p3se", "p3109_k6p2uf"),
    # Widening.
    ("fp16", "fp32"),
    ("bf16", "fp64"),
    ("fp8_e8m0fnu", "fp64"),
    ("int8", "fp16"),
]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda name: name)
def test_our_own_cast_is_proved_on_every_backend(source, target):
    for name in ff.available_backends():
        found = ff.verify(f"floatfmt:{name}", source, target)
        assert found.verdict == "proved", found


@pytest.mark.parametrize("rounding", [m.value for m in ff.Rounding])
@pytest.mark.parametrize("overflow", ["ieee", "saturate", "nan"])
def test_our_own_cast_is_proved_in_every_mode(rounding, overflow):
    for target in ("fp8_e4m3fn", "fp8_e5m2"):
        found = ff.verify("floatfmt", "fp16", target, rounding=rounding, overflow=overflow)
        assert found.verdict == "proved", found


@pytest.mark.parametrize("nan", ["any", "quiet", "exact", "preserve", "canonical", "zero"])
def test_what_is_asked_of_nan_is_what_encode_gives(nan):
    word = {"any": "quiet", "exact": "quiet"}.get(nan, nan)
    found = ff.verify(lambda x: ff.encode(x, "bf16", nan=word), "fp16", "bf16", nan=nan)
    assert found.verdict == "proved", found


@pytest.mark.parametrize("name", [mode for mode in ROUNDINGS if mode != "nearest_even"])
def test_another_rounding_is_refuted_and_identified(name):
    source, target = ff.format("fp16"), ff.format("fp8_e5m2")
    profile = Profile(name)

    def cast(x):
        return profile.codes(Batch(source, x.view(np.uint16)), target)

    assert ff.verify(cast, source, target).verdict == "refuted"
    assert ff.identify(cast, source, target).profile.rounding == name


KINDS_OF_RESULT = {
    "codes": right,
    "signed codes": lambda x: right(x).view(np.int8),
    "wide codes": lambda x: right(x).astype(np.int64),
    "its dtype": lambda x: right(x).view(ml_dtypes.float8_e5m2),
    "values": lambda x: ff.decode(right(x), "fp8_e5m2"),
    "values in fp64": lambda x: ff.decode(right(x), "fp8_e5m2", dtype="fp64"),
    "values in fp16": lambda x: ff.decode(right(x), "fp8_e5m2").astype(np.float16),
    "torch": lambda x: torch.from_numpy(right(x)).view(torch.float8_e5m2),
    "torch's values": lambda x: torch.from_numpy(ff.decode(right(x), "fp8_e5m2")),
    "big-endian codes": lambda x: right(x).astype(">u2"),
    "not contiguous": lambda x: np.repeat(right(x), 2)[::2],
    "a list": lambda x: right(x).tolist(),
}


@pytest.mark.parametrize("kind", KINDS_OF_RESULT)
def test_results_of_every_kind_are_understood(kind):
    found = ff.verify(KINDS_OF_RESULT[kind], "fp16", "fp8_e5m2")
    assert found.verdict == "proved", found


def test_the_cast_is_handed_values_or_where_there_is_no_dtype_codes():
    seen = {}

    def cast(x, target="fp16"):
        seen.setdefault(x.dtype.name, None)
        raise ValueError("seen")

    for source in ("fp32", "bf16", "tf32", "fp8_e4m3fn", "mxint8", "int8"):
        with pytest.raises(ValueError, match="raises ValueError for every input: seen"):
            ff.verify(cast, source, "fp16")
    assert list(seen) == ["float32", "bfloat16", "uint32", "float8_e4m3fn", "uint8", "int8"]


def test_integer_codes_of_an_integer_target_are_values_if_signed():
    def values(x):
        return np.clip(np.nan_to_num(np.rint(x.astype(np.float32))), -8, 7).astype(np.int8)

    assert ff.verify(values, "fp16", "int4").verdict == "proved"


# --- real libraries -----------------------------------------------------------------------------

#: What the auditor has to find by itself: cast, source, target, the fault's name.
KNOWN_FAULTS = [
    ("ml_dtypes", "fp64", "bf16", "double-rounds through fp32"),
    ("torch", "fp64", "bf16", "double-rounds through fp32"),
    ("torch", "fp64", "fp16", "double-rounds through fp32"),
    ("ml_dtypes", "bf16", "fp8_e8m0fnu", "ties away from zero"),
    ("torch", "bf16", "fp8_e8m0fnu", "drops the sign"),
    ("torch", "bf16", "fp8_e4m3fn", "saturates"),
]


@pytest.mark.parametrize(("cast", "source", "target", "name"), KNOWN_FAULTS)
def test_faults_of_libraries_are_found(cast, source, target, name):
    found = ff.verify(cast, source, target, random=1 << 16)
    assert found.verdict == "refuted"
    assert name in {fault.name for fault in found.faults}, found
    assert found.is_exact_profile


def test_the_difference_of_torch_and_ml_dtypes_at_e4m3fns_end_is_found():
    found = ff.diff("torch", "ml_dtypes", "bf16", "fp8_e4m3fn")
    assert found.faults[0].name == (
        "beyond the range: torch gives the largest value, ml_dtypes NaN"
    )
    assert found.differ == 30512
    assert ff.diff("torch", "ml_dtypes", "bf16", "fp16").verdict == "proved"


def test_libraries_that_are_right_are_proved():
    for cast, source, target in (
        ("numpy", "fp16", "fp32"),
        ("torch", "fp16", "bf16"),
        ("ml_dtypes", "bf16", "fp8_e4m3fn"),
        ("gfloat", "fp16", "fp8_e5m2"),
    ):
        assert ff.verify(cast, source, target).verdict == "proved", (cast, source, target)


def test_a_profile_can_be_what_is_asked():
    assert ff.verify("torch", "bf16", "fp8_e4m3fn", profile="ocp_saturating").passed
    found = ff.identify("torch", "bf16", "fp8_e4m3fn")
    assert {"ocp_saturating", "torch 2.13"} <= set(found.known)
    assert "ieee" not in found.known
    assert found.is_exact


def test_every_known_profile_is_its_own():
    """What a profile says is what identify finds of a cast that does it."""
    for source, target in (("fp16", "fp8_e5m2"), ("bf16", "fp8_e4m3fn"), ("fp16", "fp4_e2m1fn")):
        formats = ff.format(source), ff.format(target)
        for name, profile in known_profiles(*formats).items():

            def cast(x, profile=profile, formats=formats):
                return profile.codes(Batch(formats[0], x.view(np.uint16)), formats[1])

            assert name in ff.identify(cast, *formats).known


# --- inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["fp16", "fp8_e4m3fn", "tf32", "int4", "fp6_e3m2fn"])
def test_every_code_is_visited_once(source):
    over = inputs(ff.format(source), ff.format("bf16"))
    read = over.reader(1000)
    seen = [read(first, min(1000, over.size - first)).copy() for first in range(0, over.size, 1000)]
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(over.size))


def test_any_beginning_is_spread_over_all_codes():
    over = inputs(ff.format("fp32"), ff.format("bf16"))
    for count in (1 << 12, 100_000, 1 << 20):
        codes = np.sort(over.reader(count)(0, count).astype(np.int64))
        gaps = np.diff(codes, append=codes[0] + (1 << 32))
        assert gaps.max() <= 4 * (1 << 32) / count


@pytest.mark.parametrize("target", ["fp16", "bf16", "fp8_e4m3fn", "fp8_e8m0fnu", "int8", "fp32"])
def test_every_midpoint_is_visited_with_both_neighbours(target):
    source, fmt = ff.format("fp64"), ff.format(target)
    over = inputs(source, fmt)
    assert over.has_every_step
    points = over.parts[-1]
    rng = np.random.default_rng(1)
    magnitudes = np.unique(
        [0, 1, fmt.max_code - 1, fmt.max_code, *rng.integers(0, fmt.max_code, 50)]
    )
    for m in magnitudes.tolist():
        middle = (fmt.magnitude(m) + fmt.magnitude(m + 1)) / 2
        code = int(np.float64(float(middle)).view(np.uint64))
        half_step = 2 * m + 1
        found = points.codes(np.arange(half_step * 6, half_step * 6 + 6))
        wanted = {code + d for d in (-1, 0, 1)}
        assert set(found.tolist()) == wanted | {c | 1 << 63 for c in wanted}


def test_inputs_are_found_by_their_number():
    for source, target in (("fp32", "bf16"), ("fp64", "fp8_e5m2"), ("tf32", "fp16")):
        over = inputs(ff.format(source), ff.format(target), 1000)
        read = over.reader(700)
        for first in (0, 650, over.size - 700):
            codes = read(first, 700).copy()
            steps = np.array([0, 1, 37, 500, 699])
            assert np.array_equal(over.at(first, steps), codes[steps])


def test_a_64_bit_sources_specials_are_there():
    codes = set(special_codes(ff.format("fp64")).tolist())
    for x in (0.0, -0.0, np.inf, -np.inf, 2.0**-1022, 5e-324, 2.0**1023, -1.0):
        assert int(np.float64(x).view(np.uint64)) in codes
    nans = [code for code in codes if is_nan(np.uint64([code]), ff.format("fp64"))[0]]
    assert len(nans) > 200


def test_a_target_of_more_than_32_bits_is_sampled_and_proves_nothing():
    found = ff.verify("floatfmt", "fp64", "fp64", random=1000)
    assert found.verdict == "inconclusive"
    assert "a sample, which proves nothing" in " ".join(str(found).split())
    assert ff.verify(lambda x: x * (1 + 2**-52), "fp64", "fp64", random=1000).verdict == "refuted"


def test_probes_are_few_and_telling():
    for source, target in (("fp32", "fp32"), ("fp64", "fp64"), ("fp32", "fp8_e8m0fnu")):
        codes = probes(ff.format(source), ff.format(target))
        assert 1000 < codes.size < 1 << 20


# --- sweeping -----------------------------------------------------------------------------------


def swept(size, **options):
    parts = []
    ended = sweep(
        lambda: lambda first, count: (first, count),
        lambda done, found: parts.append((done, *found)),
        size,
        **options,
    )
    return parts, ended


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_chunks_are_merged_in_order_and_cover_everything(threads):
    parts, ended = swept(1003, chunk=10, threads=threads, first=7)
    assert [first for _, first, _ in parts] == list(range(7, 1003, 10))
    assert all(done == first + count for done, first, count in parts)
    assert ended.done == 1003
    assert ended.stopped == ""


def test_a_budget_ends_a_sweep_early():
    parts, ended = swept(100, chunk=10, threads=1, budget_s=0)
    assert parts == []
    assert (ended.done, ended.stopped) == (0, "budget")


def test_an_exception_in_a_chunk_is_raised():
    def work(first, count):
        if first >= 50:
            raise RuntimeError("chunk")

    with pytest.raises(RuntimeError, match="chunk"):
        sweep(lambda: work, lambda done, found: None, 100, chunk=10, threads=2)


def test_a_progress_that_fails_stops_the_sweep(monkeypatch):
    monkeypatch.setattr(importlib.import_module("floatfmt.audit.sweep"), "TICK_S", 0.001)
    done = []

    def work(first, count):
        time.sleep(0.01)
        done.append(first)

    def progress(*pair):
        raise RuntimeError("progress")

    with pytest.raises(RuntimeError, match="progress"):
        sweep(lambda: work, lambda done, found: None, 10**6, chunk=1, threads=2, progress=progress)
    time.sleep(0.1)  # for what was begun
    before = len(done)
    time.sleep(0.1)
    assert len(done) == before


def test_ctrl_c_while_threads_are_being_started_is_one_in_the_sweep(monkeypatch):
    """The second thread is not started, and what the first has begun is finished."""
    begun, started = threading.Event(), threading.Thread.start

    def start(thread):
        if begun.is_set():
            raise KeyboardInterrupt
        started(thread)
        assert begun.wait(10)

    def work(first, count):
        begun.set()
        time.sleep(0.3)  # until the main thread has seen it
        return first, count

    monkeypatch.setattr(threading.Thread, "start", start)
    merged = []
    ended = sweep(
        lambda: work, lambda done, found: merged.append((done, found)), 100, chunk=10, threads=2
    )
    assert merged == [(10, (0, 10))]
    assert (ended.done, ended.stopped) == (10, "interrupted")


def test_chunks_shrink_when_they_take_long(monkeypatch):
    monkeypatch.setattr(importlib.import_module("floatfmt.audit.sweep"), "CHUNK_S", 0.01)
    counts = []

    def work(first, count):
        time.sleep(count * 1e-4)
        counts.append(count)

    sweep(lambda: work, lambda done, found: None, 2000, chunk=1000, threads=1)
    assert sum(counts) == 2000
    assert counts[-2] < 300


def test_chunks_grow_again_after_the_machine_paused(monkeypatch):
    """Once one took an hour, ten million inputs went by ones and twos."""
    monkeypatch.setattr(importlib.import_module("floatfmt.audit.sweep"), "CHUNK_S", 0.1)
    counts = []

    def work(first, count):
        counts.append(count)
        if not first:
            time.sleep(2)

    done = sweep(lambda: work, lambda done, found: None, 100_000, chunk=100, threads=1)
    assert done.done == 100_000
    assert min(counts[:2]) < 10
    assert max(counts[2:]) == 100


def interrupt_main_thread():
    import _thread

    _thread.interrupt_main()


def test_ctrl_c_gives_the_verdict_so_far_and_resuming_the_same_report(tmp_path, monkeypatch):
    """The interrupted sweep, gone on with, reports what one that was not interrupted does."""
    monkeypatch.setattr(verify_module, "CHUNK", 1 << 16)
    file = tmp_path / "sweep.json"
    source = ff.Format("small", 8, 13)  # 22 bits: a sweep of four million inputs
    options = {"source": source, "target": "bf16", "threads": 2}
    chunks = itertools.count(1)
    interrupts = threading.Semaphore(1)  # one a sweep: a second one is not for the sweep to catch

    def cast(codes):
        is_swept = threading.current_thread() is not threading.main_thread()
        if is_swept and next(chunks) % 20 == 0 and interrupts.acquire(blocking=False):
            interrupt_main_thread()
            time.sleep(0.3)  # until the main thread looks up
        return codes >> 6

    once = ff.verify(lambda codes: codes >> 6, **options)
    pieces = 0
    while (found := ff.verify(cast, resume=file, **options)).stopped:
        pieces += 1
        assert found.stopped == "interrupted"
        assert found.checked < found.inputs.size
        assert f"{found.checked:,} of 4,194,304 inputs, evenly spread (interrupted)" in str(found)
        interrupts.release()
    assert pieces > 0
    assert found.faults == once.faults
    assert (found.checked, found.unlike, found.verdict) == (once.checked, once.unlike, "refuted")
    assert ff.verify(cast, resume=file, **options) == found


def test_a_budget_and_resuming_give_the_same_report(tmp_path):
    file = tmp_path / "sweep.json"
    options = {"source": "fp16", "target": "fp8_e5m2"}
    first = ff.verify(truncates, budget_s=0, resume=file, **options)
    assert first.verdict == "inconclusive"
    assert first.checked == 0
    second = ff.verify(truncates, resume=file, **options)
    assert second.faults == ff.verify(truncates, **options).faults
    assert second == ff.verify(truncates, resume=file, **options)


def test_a_file_of_another_sweep_is_refused(tmp_path):
    file = tmp_path / "sweep.json"
    ff.verify(truncates, "fp16", "fp8_e5m2", resume=file)
    with pytest.raises(ValueError, match="is of another sweep: its asked is"):
        ff.verify(truncates, "fp16", "fp8_e5m2", rounding="toward_zero", resume=file)
    file.write_text("{")
    with pytest.raises(ValueError, match="is no file of a sweep to resume"):
        ff.verify(truncates, "fp16", "fp8_e5m2", resume=file)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_report_does_not_depend_on_threads(threads):
    source = ff.Format("small", 8, 13)
    found = ff.verify(lambda codes: codes >> 6, source, "bf16", threads=threads)
    assert found.faults == ff.verify(lambda codes: codes >> 6, source, "bf16", threads=1).faults


def test_progress_is_told(monkeypatch):
    monkeypatch.setattr(importlib.import_module("floatfmt.audit.sweep"), "TICK_S", 0.001)
    told = []
    ff.verify("numpy", "fp32", "fp16", budget_s=0.3, progress=lambda *pair: told.append(pair))
    assert told
    assert all(0 <= done <= total == 1 << 32 for done, total in told)


def test_a_sweep_runs_on_the_backend_that_was_chosen():
    seen = set()

    def cast(x):
        seen.add(importlib.import_module("floatfmt.backends").backend_name())
        return right(x)

    with ff.use_backend("reference"):
        ff.verify(cast, "fp16", "fp8_e5m2")
    assert seen == {"reference"}


def test_torchs_threads_are_as_they_were():
    before = torch.get_num_threads()
    ff.verify("torch", "fp16", "bf16")
    assert torch.get_num_threads() == before


def test_threads_are_gone_after_a_sweep():
    before = set(threading.enumerate())  # another test's progress bar may still have its own
    ff.verify(truncates, "fp16", "fp8_e5m2", threads=4)
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)


# --- reports ------------------------------------------------------------------------------------


def test_a_report_shows_bits_value_neighbours_and_both_results():
    text = str(ff.verify(truncates, "fp16", "fp8_e5m2"))
    assert re.search(r"input +0x3D80  0\|01111\|0110000000", text)
    assert re.search(r"value +1\.375  0x1\.6p\+0", text)
    assert re.search(r"between +0x3D = 1\.25 and 0x3E = 1\.5", text)
    assert re.search(r"expected +0x3E = 1\.5\n +got +0x3D = 1\.25", text)
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_proof_says_what_it_is_one_of():
    assert "They are every code of fp16: it is right everywhere." in str(
        ff.verify("numpy", "fp16", "fp32")
    )
    wide = str(ff.verify("numpy", "fp64", "fp16", random=1000))
    assert "provided that a larger input never gives a smaller" in " ".join(wide.split())


def test_results_are_json():
    for result in (
        ff.verify(truncates, "fp16", "fp8_e5m2"),
        ff.identify(truncates, "fp16", "fp8_e5m2"),
        ff.diff(truncates, "ml_dtypes", "fp16", "fp8_e5m2"),
    ):
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_assert_cast_correct_fails_with_the_report():
    ff.assert_cast_correct(right, "fp16", "fp8_e5m2")
    with pytest.raises(AssertionError, match="truncates instead of rounding to nearest: 31,620"):
        ff.assert_cast_correct(truncates, "fp16", "fp8_e5m2")


BAD = [
    ({"cast": "tourch"}, ValueError, "no witness is called 'tourch'; nearest: torch"),
    ({"cast": 3}, TypeError, "a cast is a function or the name of a witness, got 3"),
    ({"cast": "torch", "target": "fp6_e2m3fn"}, ValueError, "torch has no dtype for fp6_e2m3fn"),
    ({"cast": "numpy", "target": "bf16"}, ValueError, "NumPy has no dtype for bf16"),
    ({"cast": "f16c", "target": "bf16"}, ValueError, "F16C rounds fp32 to fp16 only"),
    ({"nan": "some"}, ValueError, "nan='some' is not known"),
    ({"rounding": "up"}, ValueError, "no rounding mode is called 'up'"),
    ({"overflow": "wrap"}, ValueError, "overflow='wrap' is not known"),
    ({"subnormals": "drop"}, ValueError, "subnormals='drop' is not known"),
    ({"profile": "ocp"}, ValueError, "is called 'ocp'; nearest: ocp_"),
    ({"profile": "ieee", "rounding": "toward_zero"}, TypeError, "a profile says how to round"),
    ({"threads": 0}, ValueError, "threads must be an integer of at least 1, got 0"),
    ({"budget_s": -1}, ValueError, "budget_s must be a number of seconds, got -1"),
    ({"cast": lambda x: x[:-1]}, ValueError, "returned an array of shape"),
    (
        {"cast": lambda x: x > 0},
        TypeError,
        "expected an array of values of fp8_e5m2 in any floating",
    ),
    ({"cast": lambda x: None}, TypeError, "returned NoneType; expected an array"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[row[-1] for row in BAD])
def test_bad_input_is_refused_in_the_users_words(options, error, message):
    with pytest.raises(error, match=message):
        ff.verify(**{"cast": right, "source": "fp16", "target": "fp8_e5m2", **options})


def test_only_known_words_of_diff():
    with pytest.raises(ValueError, match="nan='quiet' is not known; known: any, exact"):
        ff.diff(right, truncates, "fp16", "fp8_e5m2", nan="quiet")


def test_differences_are_of_sign_and_kind():
    found = ff.diff(lambda x: right(x) ^ 0x80, right, "fp16", "fp8_e5m2")
    assert found.casts == ("<lambda>", "right")
    assert found.differ == (1 << 16) - 2 * 1023
    same = ff.diff(right, right, "fp16", "fp8_e5m2")
    assert same.verdict == "proved"
    assert same.casts == ("a", "b")
    assert sign(np.float16([-1.0]))[0] == 0x80


def test_a_file_that_cannot_be_written_is_said_before_the_sweep(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        ff.verify(right, "fp16", "fp8_e5m2", resume=tmp_path / "nowhere" / "sweep.json")


def test_a_file_that_cannot_be_written_later_loses_no_report(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def cast(x):
        folder.rename(tmp_path / "gone") if folder.exists() and x.size == 1 << 16 else None
        return right(x)

    file = folder / "sweep.json"
    calls = itertools.count()

    def late(x):  # the first whole array is that of the probes
        return cast(x) if x.size == 1 << 16 and next(calls) else right(x)

    with pytest.warns(UserWarning, match="was not written"):
        assert ff.verify(late, "fp16", "fp8_e5m2", resume=file).verdict == "proved"


def test_a_cast_that_keeps_its_buffer_is_not_called_by_two_threads():
    buffer = np.empty(1 << 20, np.uint16)

    def cast(codes):
        out = buffer[: codes.size]
        np.right_shift(codes, 6, out=out, casting="unsafe")
        return out

    source = ff.Format("small", 8, 13)
    options = {"source": source, "target": "bf16", "rounding": "toward_zero", "threads": 2}
    found = ff.verify(cast, **options)
    assert {fault.name for fault in found.faults} == {"NaN becomes Inf"}  # and nothing else


def test_a_report_on_positions_does_not_say_that_all_is_right():
    text = str(ff.verify(FAULTY["wrong in a vector's tail"].cast, "fp16", "fp8_e5m2"))
    assert "right everywhere" not in text
    assert "Nearest to" not in text


def test_a_tail_that_only_arrays_of_odd_length_have_is_found():
    """The sweep's chunks are of whole vectors, and short arrays may have a path of their own."""
    source = ff.Format("small", 8, 13)

    def cast(codes):
        out = ff.encode(ff.decode(codes, source), "bf16")
        if out.size > 2048:
            out[out.size - out.size % 4096 :] = 0
        return out

    found = ff.verify(cast, source, "bf16")
    assert found.verdict == "refuted"
    assert found.positions.where == "in a longer array"


def test_a_nan_that_only_the_tail_gets_wrong_is_found():
    def cast(x):
        out, tail = right(x), x.size // 16 * 16
        out[tail:][np.isnan(x[tail:])] = 0x7C
        return out

    assert ff.verify(cast, "fp16", "fp8_e5m2").positions.wrong
