"""The C kernel for other compilers and for AArch64, without Python there; run by name.

What the tests of this machine ask of the kernel is recorded with the reference's answers, and a C
program asks it again: see recorder.py and replay.c. AArch64 runs under qemu's user mode, AVX-512
where the CPU has none on Bochs: see emulated.py.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import emulated
import pytest
from recorder import HEADER, prototypes

import floatfmt as ff

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"


def _build_ffi():
    spec = importlib.util.spec_from_file_location("build_ffi", CSRC / "build_ffi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_ffi = _build_ffi()


class Build(NamedTuple):
    """A compiler, what runs its programs, and what disassembles them."""

    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()
    objdump: str = "objdump"


QEMU, OBJDUMP = ("qemu-aarch64-static",), "aarch64-linux-gnu-objdump"
BUILDS = {
    "gcc": Build(("gcc",)),
    "clang": Build(("clang",)),
    "aarch64-gcc": Build(("aarch64-linux-gnu-gcc", "-static"), QEMU, OBJDUMP),
    "aarch64-clang": Build(("clang", "--target=aarch64-linux-gnu", "-static"), QEMU, OBJDUMP),
}


@pytest.fixture(scope="session")
def vectors(tmp_path_factory) -> Path:
    """The recorded calls: of every test of the kernel, but for one with long arrays."""
    path = tmp_path_factory.mktemp("recorded") / "calls"
    paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "recorder", "-p", "no:cacheprovider"),
            *("-k", "(recording or f16c_instruction) and not long_arrays", "--hypothesis-seed=0"),
            "tests/test_backends.py",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "RECORD_TO": str(path)},
        check=True,
    )
    return path


def here(name: str) -> Build:
    """A build, unless something that it needs is not here."""
    build = BUILDS[name]
    tools = (build.compiler[0], *build.runner, build.objdump)
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)}: not here")
    return build


def compiled(build: Build, csrc: Path, program: Path, *flags: str) -> Path:
    sources = [HERE / "replay.c", *(csrc / source for source in build_ffi.SOURCES)]
    warnings = ("-Wall", "-Wextra", "-Werror")
    command = [*build.compiler, *build_ffi.FLAGS, *warnings, *flags, f"-I{csrc}"]
    subprocess.run([*command, *sources, "-o", program], check=True)
    return program


def replayed(
    build: Build, program: Path, vectors: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [*build.runner, program, vectors, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


LINE = re.compile(r"(ff_\w+) (\w+): (\d+) records, (\d+) calls, (fine|WRONG)")


@pytest.mark.parametrize("name", BUILDS)
def test_every_function_gives_the_bits_of_the_reference(vectors, tmp_path, name):
    """At every level, in every environment, reading and writing nothing beyond its arrays."""
    build = here(name)
    ran = replayed(build, compiled(build, CSRC, tmp_path / "replay"), vectors)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = LINE.findall(ran.stdout)
    assert {row[-1] for row in rows} == {"fine"}
    levels = {row[1] for row in rows}
    assert {row[:2] for row in rows} == {(name, lvl) for name in prototypes() for lvl in levels}
    assert all(calls == 8 * records > 0 for records, calls in (map(int, row[2:4]) for row in rows))


#: Of so many calls of a kind one is made where all is emulated, some hundred times as slow.
EMULATED_EVERY = "8"


def test_avx512_gives_the_bits_of_the_reference_on_a_cpu_that_has_none(vectors, tmp_path):
    if "avx512" in ff.available_backends():
        pytest.skip("this CPU has AVX-512, and the test above has tried it")
    if lacking := emulated.missing():
        pytest.skip(f"{', '.join(lacking)}: not here")
    emulator = Build(("gcc", "-static"), (sys.executable, str(HERE / "emulated.py")))
    program = compiled(emulator, CSRC, tmp_path / "replay")
    ran = replayed(emulator, program, vectors, "avx512", EMULATED_EVERY)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [row for row in LINE.findall(ran.stdout) if row[1] == "avx512"]
    assert {row[0] for row in rows} == set(prototypes())
    assert {row[0] for row in rows if row[3] == "0"} <= {"ff_f16c"}
    assert {row[-1] for row in rows} == {"fine"}


def test_every_function_of_the_header_is_called():
    declared = re.findall(r"^(?!typedef)\w[\w *]*\b(ff_\w+)\(", HEADER.read_text(), re.M)
    called = set(re.findall(r"\bff_\w+", (HERE / "replay.c").read_text()))
    assert len(declared) > len(prototypes()) > 20
    assert set(declared) <= called


#: Ways to break the kernel: the file, its text, what takes its place, and what is said of it.
BREAKS = {
    "ties go away from zero": (
        *("scalar.h", "{{half - 1, half - 1}, 1}", "{{half, half}, 0}"),
        "ff_encode.*got .*wanted",
    ),
    "a reduction reads one value too many": (
        *("quantize.inc.h", "for (size_t i = 0; i < n; i++)", "for (size_t i = 0; i <= n; i++)"),
        "beyond an array",
    ),
    "the caller's environment is worked in": (
        "pool.c",
        "saved = ff_default_float_environment();",
        "saved = ff_default_float_environment(); ff_restore_float_environment(saved);",
        "ff_.*rounding up.*got .*wanted",
    ),
    "the caller's environment is not put back": (
        *("pool.c", "    ff_restore_float_environment(saved);\n", "    (void)saved;\n"),
        "control register .* became",
    ),
}


@pytest.mark.parametrize("name", ["gcc", "aarch64-gcc"])
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_kernel_is_found(vectors, tmp_path, name, how):
    build, broken = here(name), tmp_path / "csrc"
    *change, said = BREAKS[how]
    break_copy(broken, *change)
    ran = replayed(build, compiled(build, broken, tmp_path / "replay", "-O1"), vectors)
    assert ran.returncode != 0
    assert re.search(said, ran.stdout + ran.stderr)


def break_copy(to: Path, file: str, old: str, new: str) -> None:
    shutil.copytree(CSRC, to)
    text = (to / file).read_text()
    assert old in text
    (to / file).write_text(text.replace(old, new, 1))


#: Two threads that do the same part, which gives the same bits.
SAME_PART = (
    *("pool.c", "while ((k = atomic_fetch_add(&job->next, 1)) < job->parts)"),
    "for (k = 0; k < job->parts; k++)",
)


@pytest.mark.parametrize("is_broken", [False, True], ids=["as it is", "broken"])
def test_threads_write_nothing_that_others_use(vectors, tmp_path, is_broken):
    """A sample under ThreadSanitizer, which says so where nothing orders two accesses."""
    build, source = here("gcc"), CSRC
    if is_broken:
        source = tmp_path / "csrc"
        break_copy(source, *SAME_PART)
    flags = ("-O1", "-g", "-fsanitize=thread")
    program = compiled(build, source, tmp_path / "replay", *flags)
    ran = replayed(build, program, vectors, ff.available_backends()[-1], "16")
    if "ThreadSanitizer: unexpected memory mapping" in ran.stderr:
        pytest.skip("ThreadSanitizer does not run with this kernel's memory layout")
    assert ("ThreadSanitizer: data race" in ran.stderr) == is_broken, ran.stderr
    assert (ran.returncode != 0) == is_broken, ran.stdout


# --- vectors -------------------------------------------------------------------------------------

#: A 128-bit register as lanes.
LANES = re.compile(r"\bv\d+\.(16b|8h|4s|2d)\b")

#: Functions whose inner loops take one scale, and those that look values up by their codes.
BY_SCALE = (
    *(f"quantize_format_absmax_{of}" for of in ("f64", "f32", "f16", "bf16")),
    *("quantize_format_f64", "quantize_format_f32", "quantize_f16", "quantize_bf16"),
)
BY_CODE = (
    *("look_up_f32", "look_up_f64", "few_run_f32", "float_run_f32", "dequantize_packed_f64"),
    *("round_in_steps_f32", "round_in_steps_f64", "round_to_f64"),
)

#: What has loops without vectors on AArch64, under one compiler or both, and why that is so.
WITHOUT = {
    "float_scales": "one scale a channel",
    "range_parameters": "one scale a channel",
    **dict.fromkeys(BY_SCALE, "looks at scales, one a channel; calls the loops over values"),
    **dict.fromkeys(BY_CODE, "looks values up by their codes, and NEON has no gather"),
    "prepare": "one reciprocal a channel",
    "encode_planned_f32": "calls the loops over values, and encodes anew the few Inf and NaN",
    "encode_blocks_f64": "encodes anew the few values of a block that are Inf or NaN",
    "decode_f64": "no loop: it chooses one, and jumps back to what the choices share",
    "way_of": "no loop: it chooses one, and jumps back to what the choices share",
    "plan_for32": "no loop over values: it prepares what they share",
    "format_plan_of": "no loop over values: it prepares what they share",
    "random_words": "Philox multiplies 32 by 32 bits into 64: scalar registers do",
}


def instructions(listing: str) -> dict[str, list[tuple[int, str]]]:
    """Each function's instructions with their addresses; clones go by the function's own name."""
    found: dict[str, list[tuple[int, str]]] = {}
    for line in listing.splitlines():
        if start := re.match(r"[0-9a-f]+ <(\w+)[^>]*>:", line):
            code = found.setdefault(start[1], [])
        elif row := re.match(r"\s+([0-9a-f]+):\t[0-9a-f ]+\t(.*)", line):
            code.append((int(row[1], 16), row[2]))
    return found


def inner_loops(code: list[tuple[int, str]]) -> list[list[str]]:
    """The bodies of the innermost loops that call nothing."""
    ends = set()
    for at, text in code:
        jump = re.match(r"(?:b\.\w+|cbn?z|tbn?z)\s.*?([0-9a-f]+) <", text)
        if jump and code[0][0] <= (to := int(jump[1], 16)) <= at:
            ends.add((to, at))
    inner = [
        (to, at)
        for to, at in ends
        if not any((to, at) != other and to <= other[0] and other[1] <= at for other in ends)
    ]
    bodies = [[text for at, text in code if first <= at <= last] for first, last in inner]
    return [body for body in bodies if not any(re.match(r"blr?\b", text) for text in body)]


@pytest.fixture(scope="session")
def loops(tmp_path_factory):
    """The innermost loops of every kernel on AArch64, as a function of the compiler."""

    def of(name: str) -> dict[str, list[list[str]]]:
        build = here(name)
        target = tmp_path_factory.mktemp("disassembled") / "baseline.o"
        command = [*build.compiler, *build_ffi.FLAGS, "-c", CSRC / "isa_baseline.c", "-o", target]
        subprocess.run([part for part in command if part != "-static"], check=True)
        listing = subprocess.run(
            [build.objdump, "-d", target], capture_output=True, text=True, check=True
        ).stdout
        return {kernel: inner_loops(code) for kernel, code in instructions(listing).items()}

    return of


def has_vectors(bodies: list[list[str]]) -> bool:
    return any(LANES.search(text) for body in bodies for text in body)


@pytest.mark.parametrize("name", ["aarch64-gcc", "aarch64-clang"])
def test_the_loops_of_every_kernel_use_neon(loops, name):
    kernels = {kernel: bodies for kernel, bodies in loops(name).items() if bodies}
    without = {kernel for kernel, bodies in kernels.items() if not has_vectors(bodies)}
    print(f"{name}: {len(kernels)} functions with loops, {len(without)} without vectors")
    assert len(kernels) > 60
    assert without <= set(WITHOUT), without - set(WITHOUT)


def test_no_kernel_is_excused_that_uses_neon(loops):
    found = [loops(name) for name in ("aarch64-gcc", "aarch64-clang")]
    for kernel in WITHOUT:
        assert any(all_of.get(kernel) and not has_vectors(all_of[kernel]) for all_of in found), (
            kernel
        )
