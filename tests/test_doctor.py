"""The doctor finds what is wrong, a wrong kernel above all, and leaves everything as it was."""

import importlib
import importlib.metadata
import io
import json
import platform
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import floatfmt as ff
from floatfmt import cli
from floatfmt.backends import native, reference
from floatfmt.backends.reference import FloatState

module = importlib.import_module("floatfmt.diagnosis")

LEVELS = ff.available_backends()[1:]
needs_kernel = pytest.mark.skipif(not LEVELS, reason="the C kernel is not installed")
needs_mxcsr = pytest.mark.skipif(
    not LEVELS or platform.machine() not in ("x86_64", "AMD64"), reason="sets bits of MXCSR"
)
MXCSR_FTZ, MXCSR_DAZ = 0x8000, 0x0040
MXCSR_DIRECTIONS = {
    0x0000: ff.Rounding.NEAREST_EVEN,
    0x2000: ff.Rounding.TOWARD_NEGATIVE,
    0x4000: ff.Rounding.TOWARD_POSITIVE,
    0x6000: ff.Rounding.TOWARD_ZERO,
}


@pytest.fixture(autouse=True)
def _nothing_is_chosen(monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", None)


def diagnosis() -> ff.Diagnosis:
    return ff.doctor(seconds=0)


def problems(found: ff.Diagnosis) -> list[str]:
    return [finding.text for finding in found.findings if finding.kind == "problem"]


def notes(found: ff.Diagnosis) -> list[str]:
    return [finding.text for finding in found.findings if finding.kind == "note"]


# --- facts --------------------------------------------------------------------------------------


@needs_kernel
def test_all_is_well_and_says_what_it_rests_on():
    found = diagnosis()
    assert (found.healthy, problems(found)) == (True, [])
    assert (found.version, found.location) == (ff.__version__, str(Path(ff.__file__).parent))
    assert (found.backend, found.reason) == (LEVELS[-1], "the fastest here")
    assert found.compiler == native.compiler()
    assert "-ffp-contract=off" in found.compile_flags.split()
    assert found.why_missing is None
    assert found.float_state == FloatState(False, False, ff.Rounding.NEAREST_EVEN)
    assert found.python == f"{platform.python_implementation()} {platform.python_version()}"
    assert all((found.platform, found.cpu))


@needs_kernel
def test_every_level_is_there_and_those_that_run_were_compared():
    found = diagnosis()
    assert [level.name for level in found.levels] == list(native.LEVELS)
    for level in found.levels:
        assert level.is_supported == (level.name in LEVELS)
        assert level.is_built >= level.is_supported
        assert (level.compared > 0, level.mismatch) == (level.is_supported, None)
    assert len({level.compared for level in found.levels if level.is_supported}) == 1


def test_the_backend_and_who_chose_it(monkeypatch):
    with ff.use_backend("reference"):
        found = diagnosis()
    assert (found.backend, found.reason) == ("reference", "chosen by use_backend")
    monkeypatch.setattr(ff.backends, "_wanted", "reference")
    found = diagnosis()
    assert (found.backend, found.reason) == ("reference", "chosen by FLOATFMT_BACKEND")
    if LEVELS:
        assert found.healthy
        assert f"{LEVELS[-1]} gives the same bits, faster" in notes(found)[0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("gpu", "'gpu' is no backend; there are"), ("avx512", "'avx512' is not available here")],
)
def test_a_backend_that_is_not_there_is_a_problem_not_an_error(monkeypatch, wanted, words):
    monkeypatch.delitem(ff.backends._BACKENDS, "avx512", raising=False)
    monkeypatch.setattr(ff.backends, "_wanted", wanted)
    found = diagnosis()
    assert (found.backend, found.healthy) == (None, False)
    assert problems(found)[0].startswith(f"FLOATFMT_BACKEND: {words}")
    assert "backend     none: FLOATFMT_BACKEND" in str(found)


def test_threads_that_make_no_sense_are_a_problem_not_an_error(monkeypatch):
    monkeypatch.setattr(ff.backends.threads, "_wanted", "many")
    found = diagnosis()
    assert (found.backend, found.healthy) == (None, False)
    assert problems(found)[0].startswith("FLOATFMT_THREADS: 'many' is no number of threads")


def test_libraries_are_asked_for_without_being_imported(monkeypatch):
    right = importlib.metadata.version

    def version(name):
        if name in ("torch", "cffi", "gfloat"):
            raise importlib.metadata.PackageNotFoundError(name)
        return right(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = diagnosis()
    packages = dict(found.packages)
    assert packages["numpy"] == np.__version__
    assert {name for name in ("torch", "cffi", "gfloat") if packages[name] is None} == {
        *("torch", "cffi", "gfloat")
    }
    assert any(
        text.startswith("cffi is not installed: floatfmt needs it") for text in problems(found)
    )
    assert "torch is not installed: only torch tensors need it." in notes(found)
    assert "gfloat" not in "".join(text for _, text in found.findings)


def test_looking_imports_neither_torch_nor_rich():
    script = (
        "import sys, floatfmt; print(floatfmt.doctor(seconds=0).healthy);"
        "print({'torch', 'rich', 'click', 'transformers'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[1] == "set()"


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_no_self_check_lasts_less_than_no_time(seconds):
    with pytest.raises(ValueError, match="seconds must be 0 or more"):
        ff.doctor(seconds=seconds)


BUILD = Path(__file__).parents[1] / "csrc" / "build_ffi.py"


@pytest.mark.skipif(not BUILD.exists(), reason="the C sources are not here")
def test_the_flags_of_the_environment_and_of_sanitizers_are_recorded(monkeypatch):
    monkeypatch.setenv("CFLAGS", r"-O1 -DTEXT=\"x\"")
    monkeypatch.setenv("FLOATFMT_SANITIZE", "undefined")
    built = runpy.run_path(str(BUILD))
    assert built["RECORDED_FLAGS"].startswith(r"-O1 -DTEXT=\"x\" -std=c11 -O3")
    assert "-fsanitize=undefined" in built["RECORDED_FLAGS"].split()


# --- how floats are set -------------------------------------------------------------------------


@pytest.fixture
def register():
    """Set bits of MXCSR for this thread; the test's end puts back what was there."""
    saved = native.lib.ff_default_float_environment()
    native.lib.ff_restore_float_environment(saved)

    def switch_on(bits: int) -> None:
        native.lib.ff_restore_float_environment(saved | bits)

    yield switch_on
    native.lib.ff_restore_float_environment(saved)


@needs_mxcsr
@pytest.mark.parametrize("direction", MXCSR_DIRECTIONS)
@pytest.mark.parametrize("ftz", [0, MXCSR_FTZ])
@pytest.mark.parametrize("daz", [0, MXCSR_DAZ])
def test_the_register_and_arithmetic_tell_the_same(register, ftz, daz, direction):
    register(ftz | daz | direction)
    told = native.float_state(), reference.float_state(), native.float_state()
    register(0)
    expected = FloatState(bool(ftz), bool(daz), MXCSR_DIRECTIONS[direction])
    assert told == (expected,) * 3


@needs_kernel
@pytest.mark.parametrize(
    ("fpcr", "ftz", "daz", "direction"),
    [
        (0, False, False, "nearest_even"),
        (1 << 24, True, True, "nearest_even"),
        (1 << 24 | 1 << 1, True, False, "nearest_even"),  # AH: operands are FIZ's matter
        (1 << 1 | 1 << 0, False, True, "nearest_even"),
        (1 << 22, False, False, "toward_positive"),
        (2 << 22, False, False, "toward_negative"),
        (3 << 22 | 1 << 24, True, True, "toward_zero"),
    ],
)
def test_what_the_register_of_aarch64_means(fpcr, ftz, daz, direction):
    assert native._decoded(fpcr, 0) == FloatState(ftz, daz, ff.Rounding(direction))


@needs_mxcsr
@pytest.mark.parametrize(
    ("bits", "start", "absent"),
    [
        (MXCSR_FTZ, "FTZ is on: subnormal results become 0.", "DAZ"),
        (MXCSR_DAZ, "DAZ is on: subnormal operands count as 0.", "FTZ"),
        (0x6000, "rounding toward zero, not to nearest", "FTZ"),
    ],
)
def test_what_is_set_is_a_problem_and_stays_set(register, bits, start, absent):
    register(bits)
    found = diagnosis()
    after = native.float_state()
    register(0)
    assert after == found.float_state
    assert not found.healthy
    (problem,) = problems(found)
    assert problem.startswith(start)
    assert absent not in problem
    # The kernel is right all the same: it is compared in the thread's own environment.
    assert [level.mismatch for level in found.levels] == [None] * len(found.levels)


def test_flushing_by_torch_is_found_and_left_on():
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        found = diagnosis()
        assert np.float32(2.0**-126) * np.float32(0.5) == 0, "the process's flags were not kept"
    finally:
        torch.set_flush_denormal(False)
    assert found.float_state.ftz
    assert "FTZ is on" in " ".join(problems(found))
    assert "FTZ on" in str(found)


WITHOUT_NATIVE = """
import json, sys, warnings
sys.modules["floatfmt._native"] = None
warnings.simplefilter("error")
import floatfmt as ff
try:
    import torch
    flushes = torch.set_flush_denormal(True)
except ImportError:
    flushes = False
found = ff.doctor(seconds=0)
if flushes:
    torch.set_flush_denormal(False)
try:
    ff.absmax([1.0])
    warned = False
except ff.NativeMissingWarning:
    warned = True
print(json.dumps([flushes, warned, found.to_dict(), str(found)]))
"""


def test_without_the_kernel_it_looks_by_arithmetic_and_leaves_the_warning_to_others():
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_NATIVE], capture_output=True, text=True, check=True
    )
    flushes, warned, found, text = json.loads(ran.stdout)
    assert warned
    assert (found["backend"], found["healthy"], found["compiler"]) == ("reference", False, None)
    assert found["float_state"]["ftz"] == flushes
    assert {level["compared"] for level in found["levels"]} == {0}
    assert "_native" in found["why_missing"]
    said = [finding["text"] for finding in found["findings"] if finding["kind"] == "problem"]
    assert said[0].startswith("the C kernel is not installed, or cannot be loaded: ")
    assert len(said) == 1 + flushes
    assert "C flags     none: there is no C kernel" in text


def test_doing_without_the_kernel_on_purpose_is_no_problem(monkeypatch):
    monkeypatch.setattr(native, "_why_missing", "No module named 'floatfmt._native'")
    monkeypatch.setattr(native, "lib", None)
    assert not diagnosis().healthy
    monkeypatch.setattr(ff.backends, "_wanted", "reference")
    found = diagnosis()
    assert found.healthy
    assert notes(found)[0].startswith("the C kernel is not installed")


# --- the self-check -----------------------------------------------------------------------------


def flipped(array: np.ndarray) -> np.ndarray:
    """The same array, the lowest bit of its last element flipped in place."""
    array.reshape(-1)[-1:].view(np.uint8)[0] ^= 1
    return array


#: A kernel with a wrong bit for each that is checked: what it returns, or the output it writes to.
WRONG = {
    "encode": lambda result, values, how, codes, random: flipped(codes),
    "decode": lambda result, codes, fmt, values: flipped(values),
    "amax": lambda result, x: flipped(result),
    "minmax": lambda result, x: flipped(result[1]),
    "absmax_scale": lambda result, amax, fmt: flipped(result),
    "zeropoint_parameters": lambda result, low, high, fmt: flipped(result[0]),
    "quantize": lambda result, x, scale, zero_point, qmin, qmax, codes: flipped(codes),
    "dequantize": lambda result, codes, scale, zero_point, out: flipped(out),
    "pack": lambda result, codes, packed, bits, high_first: flipped(packed),
    "unpack": lambda result, packed, codes, bits, high_first: flipped(codes),
}
SAID = {
    "absmax_scale": "absmax scale in ",
    "zeropoint_parameters": "zeropoint parameters in ",
    "quantize": "absmax of ",
    "dequantize": "absmax back to ",
}


def plant(monkeypatch, level: str, name: str, spoil) -> None:
    right = getattr(native.Native, name)

    def wrong(self, *args):
        result = right(self, *args)
        if self._isa == native.LEVELS[level]:
            spoil(result, *args)
        return result

    monkeypatch.setattr(native.Native, name, wrong)


@needs_kernel
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_bit_of_a_kernel_is_found(monkeypatch, name):
    level = LEVELS[-1]
    plant(monkeypatch, level, name, WRONG[name])
    found = diagnosis()
    by_name = {one.name: one for one in found.levels}
    assert [one.name for one in found.levels if one.mismatch] == [level]
    mismatch = by_name[level].mismatch
    assert mismatch.what.startswith(SAID.get(name, f"{name} "))
    got, expected = (int(bits.replace(" 0x", ""), 16) for bits in mismatch[-2:])
    assert (got ^ expected).bit_count() == 1
    assert (mismatch.given is None) == (name in ("amax", "minmax"))
    assert all(by_name[level].compared < by_name[other].compared for other in LEVELS[:-1])
    (problem,) = problems(found)
    assert problem.startswith(f"{level} differs from the reference: {mismatch}.")
    assert f"FLOATFMT_BACKEND={['reference', *LEVELS][-2]} gives right ones" in problem
    assert "differs" in str(found)
    assert not found.healthy


@needs_kernel
def test_the_first_mismatch_has_the_bits_that_show_it(monkeypatch):
    def spoil(result, values, how, codes, random):
        asked = (values.dtype == np.float32, how.format.name, how.rounding.value)
        if asked == (True, "bf16", "toward_positive"):
            codes[codes == 0x7F80] = 0x7FC0  # Inf becomes NaN

    plant(monkeypatch, LEVELS[0], "encode", spoil)
    mismatch = diagnosis().levels[0].mismatch
    assert mismatch.what == "encode fp32 to bf16, toward_positive"
    assert (mismatch.got, mismatch.expected) == ("0x7FC0", "0x7F80")
    value = np.array(int(mismatch.given, 16), np.uint32).view(np.float32)
    with ff.use_backend("reference"):
        assert ff.encode(value, "bf16", rounding="toward_positive") == 0x7F80
    assert str(mismatch) == f"{mismatch.what}: {mismatch.given} gave 0x7FC0 instead of 0x7F80"


@needs_kernel
def test_a_kernel_that_writes_nothing_is_found_at_every_level(monkeypatch):
    monkeypatch.setattr(native.Native, "decode", lambda *_: None)
    found = diagnosis()
    assert {one.mismatch is not None for one in found.levels if one.is_supported} == {True}
    assert "FLOATFMT_BACKEND=reference gives right ones" in problems(found)[0]


def cases() -> list:
    with reference.float_environment():
        return list(module._cases(np.random.default_rng(1), 0.0))


def test_the_cases_cover_every_format_mode_and_source():
    said = {case.what for case in cases()}
    for fmt in ff.formats():
        assert f"decode {fmt} to fp64" in said
        for source in ("fp64", "fp32", "fp16", "bf16"):
            assert {f"encode {source} to {fmt}, {mode}" for mode in ff.Rounding} <= said
    assert {f"pack {bits} bits, high_first" for bits in range(1, 9)} <= said
    assert {"absmax of bf16", "zeropoint back to fp32", "unpack 3 bits, low_first"} <= said


def test_every_code_of_a_format_of_up_to_16_bits_is_decoded():
    found = {}
    for case in cases():
        if case.what.startswith("decode"):
            found.setdefault(case.what.split()[1], set()).update(case.given.tolist())
    for fmt in ff.formats():
        assert (len(found[fmt.name]) == 2**fmt.bits) == (fmt.bits <= 16), fmt


@pytest.mark.parametrize("source", ["fp64", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("target", ff.formats(), ids=str)
def test_drawn_values_have_ties_and_reach_beyond_both_ends(source, target):
    rng = np.random.default_rng(2)
    source = ff.format(source)
    with reference.float_environment():
        drawn = [module._values(rng, source, target) for _ in range(4)]
        values = np.concatenate([x.astype(np.float64) for x in drawn])
    magnitudes = np.abs(values[np.isfinite(values)])
    least, most = float(target.min_positive), float(target.max_finite)
    assert ((least <= magnitudes) & (magnitudes <= most)).sum() > 20
    if target.min_positive > source.min_positive:
        assert (magnitudes < least).any()
    if target.max_finite < source.max_finite:
        assert (magnitudes > most).any()
    if source.fraction_bits > target.fraction_bits + 3:
        modes = ("nearest_even", "nearest_away")
        with ff.use_backend("reference"):
            even, away = (ff.encode(values, target, rounding=m, nan="largest") for m in modes)
        assert (even != away).any()


def test_rounds_are_repeated_until_the_time_is_up(monkeypatch):
    clock = iter([0.5, 0.9, 1.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with reference.float_environment():
        said = [case.what for case in module._cases(np.random.default_rng(3), 1.0)]
    assert said.count("encode fp32 to bf16, to_odd") == 3
    assert said.count("decode fp16 to fp32") == 3 + 1  # and once every code


# --- how it is shown ----------------------------------------------------------------------------


KEYS = {
    *("healthy", "version", "location", "python", "platform", "cpu", "backend", "reason"),
    *("compiler", "compile_flags", "why_missing", "seconds", "float_state", "levels"),
    *("packages", "findings"),
}


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *args])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_json_is_the_dictionary_under_a_schema_version(capsys):
    code, out, err = run(capsys, "--json", "--seconds", "0")
    card = json.loads(out)
    assert (code, err) == (0 if card["healthy"] else 1, "")
    assert card.pop("schema") == "floatfmt.doctor/1"
    assert set(card) == KEYS == set(diagnosis().to_dict())
    assert set(card["float_state"]) == {"ftz", "daz", "rounding"}
    for level in card["levels"]:
        assert set(level) == {"name", "is_built", "is_supported", "compared", "mismatch"}


@needs_kernel
def test_a_mismatch_is_in_the_json_and_the_exit_code_is_1(capsys, monkeypatch):
    plant(monkeypatch, LEVELS[0], "pack", WRONG["pack"])
    code, out, err = run(capsys, "--json", "--seconds", "0")
    assert (code, err) == (cli.UNHEALTHY, "")
    mismatch = json.loads(out)["levels"][0]["mismatch"]
    assert set(mismatch) == {"what", "row", "given", "got", "expected"}
    code, out, err = run(capsys, "--seconds", "0")
    assert (code, err) == (cli.UNHEALTHY, "")
    assert out.startswith("floatfmt has a problem here\n")


def test_the_command_survives_the_backend_it_diagnoses(capsys, monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "fast\x1b")
    code, out, err = run(capsys, "--seconds", "0")
    assert (code, err) == (cli.UNHEALTHY, "")
    assert "problem: FLOATFMT_BACKEND: 'fast\\x1b' is no backend" in out


@pytest.mark.parametrize("seconds", ["-1", "nan", "soon"])
def test_bad_seconds_are_one_line(capsys, seconds):
    code, out, err = run(capsys, "--seconds", seconds)
    assert (code, out, err.count("\n")) == (cli.BAD_INPUT, "", 1)
    assert "seconds" in err


def test_the_text_is_aligned_and_nothing_is_cut(monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "fast")
    found = diagnosis()
    text = str(found)
    facts = text.split("\n\n")[1].splitlines()
    assert {line[11] for line in facts} == {" "}
    assert all(line[12] != " " for line in facts)
    # A path is not broken, and may be longer.
    assert all(len(line) <= 80 or len(line[12:].split()) == 1 for line in text.splitlines())
    assert not any(line != line.rstrip() for line in text.splitlines())
    words = text.split()
    for one in (found.location, found.compile_flags or "", found.cpu, *problems(found)):
        assert set(one.split()) <= set(words)
    assert found._repr_html_().startswith("<pre>")


def test_the_levels_are_a_table():
    lines = str(diagnosis()).split("\n\n")[2].splitlines()
    assert lines[0].split("  ")[0] == "level"
    assert [line.split()[0] for line in lines[1:]] == list(native.LEVELS)
    assert len({len(line) for line in lines}) == 1


def test_a_terminal_shows_it_in_colour_and_whole():
    from rich.console import Console

    found = diagnosis()
    output = io.StringIO()
    console = Console(width=60, force_terminal=True, color_system="truecolor", file=output)
    console.print(found, soft_wrap=True)
    assert "\x1b[" in output.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())
    assert plain.split()[:4] == ["floatfmt", *str(found).split()[1:4]]
    assert set(str(found).split()) == set(plain.split())
