"""The gate of instruction counts: every kernel has one, and more of them are an error."""

import copy
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Functions that work on no array, and the witness, which is one instruction.
NO_KERNELS = {"isa_supported", "isa_built", "compiler", "compile_flags", "f16c"} | {
    f"{verb}_float_environment" for verb in ("default", "restore")
}


def _script():
    spec = importlib.util.spec_from_file_location(
        "instructions", ROOT / "benchmarks/instructions.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()
COMMITTED = json.loads(script.FILE.read_text())


def test_every_kernel_is_counted_and_every_count_is_committed():
    declared = re.findall(
        r"^(?!typedef)\w[\w *]*\bff_(\w+)\(", (ROOT / "csrc/floatfmt.h").read_text(), re.M
    )
    counted = {case.function.removeprefix("ff_") for case in script.cases().values()}
    assert counted == set(declared) - NO_KERNELS
    assert COMMITTED["instructions"].keys() == script.cases().keys()
    assert all(tuple(row) == script.LEVELS for row in COMMITTED["instructions"].values())


def changed(factor: float) -> dict:
    new = copy.deepcopy(COMMITTED)
    new["instructions"]["amax"]["avx2"] *= factor
    return new


@pytest.mark.parametrize(
    ("factor", "is_worse", "said"),
    [(1.02, False, ""), (1.04, True, "more"), (0.98, False, ""), (0.9, False, "fewer: write")],
)
def test_more_instructions_are_an_error_and_fewer_are_told(factor, is_worse, said):
    lines, worse = script.differences(COMMITTED, changed(factor))
    assert worse is is_worse
    assert [("amax, avx2" in line, said in line) for line in lines] == [(True, True)] * bool(said)


def test_a_kernel_that_has_no_count_is_an_error():
    old = copy.deepcopy(COMMITTED)
    del old["instructions"]["amax"]
    assert script.differences(old, COMMITTED)[1]


@pytest.mark.parametrize("part", ["compiler", "flags"])
def test_another_compilers_counts_are_not_compared(part):
    lines, worse = script.differences(COMMITTED, {**changed(2.0), part: "another"})
    assert not worse
    assert lines[0].startswith("another compiler: not compared")
