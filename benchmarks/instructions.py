#!/usr/bin/env python3
"""Count the instructions that every kernel takes an element, by valgrind's callgrind: no noise.

Without options the counts of this build are written to instructions.json; --check compares them
with that file and exits 1 if a kernel takes more than it allows. Counts depend on the compiler:
those of another one are not compared. Valgrind has no AVX-512, so that level is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from floatfmt.backends import native
from floatfmt.elements import Scaling, intervals, limits, table
from floatfmt.formats import format
from floatfmt.rounding import Rounding, rules
from floatfmt.schemes import SCHEMES

FILE = Path(__file__).parent / "instructions.json"
LEVELS = ("baseline", "avx2")
#: Elements of a call, in rows of 1024 or blocks of 64: what a call takes once hardly shows.
SIZE, ROW, BLOCK = 1 << 14, 1 << 10, 64
#: More than this part above the file's is an error.
TOLERANCE = 0.03


class Case(NamedTuple):
    """A function of the C core, and a call that reaches it alone."""

    function: str
    call: Callable[[native.Native], Any]


def cases() -> dict[str, Case]:
    """Return what is counted, by name."""
    rng = np.random.default_rng(7)
    fp64 = rng.normal(size=SIZE)
    fp32 = fp64.astype(np.float32)
    fp16, codes = fp32.astype(np.float16).view(np.uint16), rng.integers(0, 127, SIZE, np.uint8)
    byte, wide = np.empty(SIZE, np.uint8), np.empty(SIZE, np.float32)
    half = np.empty(SIZE, np.uint16)
    nibbles, packed = codes & np.uint8(15), np.empty(SIZE // 2, np.uint8)
    rows, blocks = fp32.reshape(1, -1, ROW), fp32.reshape(1, -1, BLOCK)
    whole, ends = fp32.reshape(1, 1, -1), np.abs(fp64) + 1
    one, zero = np.array([0.03]), np.array([3.0])
    by_row, by_block = np.full(SIZE // ROW, 0.03), np.full(SIZE // BLOCK, 2.0)
    single, scales = format("fp32"), Scaling(format("fp32"), 127.0)
    nf4, fp8 = SCHEMES["nf4"].elements, format("fp8_e4m3fn")
    parts, nf4_scaling = intervals(nf4), Scaling(single, nf4.largest)
    parts4 = intervals(format("fp4_e2m1fn"))
    saturates = rules(fp8, overflow="saturate")
    int8 = codes.view(np.int8).reshape(16, ROW)
    sums, columns = np.empty((16, 16), np.int32), np.full(ROW, 0.1, np.float32)
    products = np.arange(SIZE, dtype=np.int32).reshape(-1, ROW)
    parts32 = (codes >> 7, codes & np.uint8(127), fp32.view(np.uint32) & np.uint32(0x7FFFFF))
    out32 = (byte, np.empty(SIZE, np.uint8), np.empty(SIZE, np.uint32))
    to = {name: rules(format(name)) for name in ("fp16", "bf16", "fp8_e4m3fn")}
    odd, random = (rules(format("bf16"), mode) for mode in (Rounding.TO_ODD, Rounding.STOCHASTIC))

    def encode(values: np.ndarray, how: Any, out: np.ndarray) -> Case:
        return Case("ff_encode", lambda b: b.encode(values, how, out, (5, 0)))

    return {
        "decompose fp32": Case(
            "ff_decompose", lambda b: b.decompose(fp32.view(np.uint32), single, *out32)
        ),
        "compose fp32": Case(
            "ff_compose", lambda b: b.compose(*parts32, single, np.empty(SIZE, np.uint32))
        ),
        "encode fp32 to fp16": encode(fp32, to["fp16"], half),
        "encode fp32 to bf16": encode(fp32, to["bf16"], half),
        "encode fp32 to fp8": encode(fp32, to["fp8_e4m3fn"], byte),
        "encode fp64 to fp16": encode(fp64, to["fp16"], half),
        "encode to odd": encode(fp32, odd, half),
        "encode stochastically": encode(fp32, random, half),
        "decode fp16": Case("ff_decode", lambda b: b.decode(fp16, format("fp16"), wide)),
        "decode fp8": Case("ff_decode", lambda b: b.decode(codes, fp8, wide)),
        "round_to bf16": Case("ff_round_to", lambda b: b.round_to(fp32, to["bf16"], wide)),
        "pack 4 bits": Case("ff_pack", lambda b: b.pack(nibbles, packed, 4, False)),
        "unpack 4 bits": Case("ff_unpack", lambda b: b.unpack(packed, byte, 4, False)),
        "amax": Case("ff_amax", lambda b: b.amax(whole)),
        "minmax": Case("ff_minmax", lambda b: b.minmax(whole)),
        "absmax scales": Case("ff_absmax_scale", lambda b: b.absmax_scale(ends, single)),
        "power scales": Case("ff_power_scale", lambda b: b.power_scale(ends, "even", 6.0, 1)),
        "zeropoint parameters": Case(
            "ff_zeropoint_parameters", lambda b: b.zeropoint_parameters(-ends, ends, single)
        ),
        "quantize": Case("ff_quantize", lambda b: b.quantize(whole, one, zero, -128, 127, byte)),
        "quantize rows": Case(
            "ff_quantize", lambda b: b.quantize(rows, by_row, by_row * 0, -128, 127, byte)
        ),
        "absmax": Case(
            "ff_quantize_absmax", lambda b: b.quantize_absmax(whole, scales, 127, False, byte)
        ),
        "absmax rows": Case(
            "ff_quantize_absmax", lambda b: b.quantize_absmax(rows, scales, 127, False, byte)
        ),
        "range rows": Case(
            "ff_quantize_range", lambda b: b.quantize_range(rows, single, False, -128, 127, byte)
        ),
        "absmax nf4": Case(
            "ff_quantize_intervals_absmax",
            lambda b: b.quantize_absmax(blocks, nf4_scaling, parts, True, packed),
        ),
        "intervals fp4": Case(
            "ff_quantize_intervals", lambda b: b.quantize_intervals(blocks, by_block, parts4, byte)
        ),
        "quantize fp8": Case(
            "ff_quantize_format",
            lambda b: b.quantize_format(whole, one, saturates, *limits(fp8), byte),
        ),
        "absmax fp8": Case(
            "ff_quantize_format_absmax",
            lambda b: b.quantize_absmax(rows, scales._replace(largest=448.0), fp8, False, byte),
        ),
        "dequantize": Case(
            "ff_dequantize",
            lambda b: b.dequantize(codes.reshape(1, 1, -1), one, zero, wide.reshape(1, 1, -1)),
        ),
        "dequantize fp8": Case(
            "ff_dequantize_table",
            lambda b: b.dequantize_table(codes.reshape(1, 1, -1), one, table(fp8), 256, wide),
        ),
        "dequantize nf4": Case(
            "ff_dequantize_packed",
            lambda b: b.dequantize_packed(
                packed, by_block, table(nf4)[:16], wide.reshape(blocks.shape)
            ),
        ),
        "int8 product": Case("ff_int8_product", lambda b: b.int8_product(int8, int8, sums)),
        "dequantize sums": Case(
            "ff_dequantize_sums",
            lambda b: b.dequantize_sums(
                products, by_row, columns, None, None, wide.reshape(-1, ROW)
            ),
        ),
        "int8 linear": Case(
            "ff_int8_linear",
            lambda b: b.int8_linear(
                int8, int8, by_row, columns[:16], None, None, sums.view(np.float32)
            ),
        ),
    }


def make_calls() -> None:
    """Make every call twice at every level: what is done at the first one only is not counted."""
    for level in counted_levels():
        backend = native.Native(level)
        for case in cases().values():
            for _ in range(2):
                case.call(backend)
                native.lib.ff_isa_built(0)  # where valgrind writes down what has been counted


def counted_levels() -> tuple[str, ...]:
    """Return the levels that can be counted here."""
    return tuple(level for level in LEVELS if level in native.supported_levels())


def count() -> dict[str, dict[str, float]]:
    """Return instructions an element, by case and level."""
    known = cases()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"),
            # Counting within functions that cffi made, or all of Python's would be written down.
            *("--toggle-collect=_cffi_f_ff_*", "--dump-before=ff_isa_built"),
            *(sys.executable, __file__, "--make-calls"),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"valgrind failed: {ran.stderr[-2000:]}")
        found: dict[str, dict[str, float]] = {name: {} for name in known}
        calls = [(level, name) for level in counted_levels() for name in known]
        for number, (level, name) in enumerate(calls, start=1):
            text = Path(folder, f"out.{2 * number}").read_text()  # of the second call
            found[name][level] = round(counted(text, known[name].function) / SIZE, 3)
    return found


def counted(text: str, function: str) -> int:
    """Return the instructions of a call of a function, with those of all that it calls."""
    number = re.search(rf"\((\d+)\) {function}$", text, re.M)
    if number is None:
        raise SystemExit(f"{function} was not called")
    called = rf"^cfn=\({number[1]}\).*\ncalls=.*\n\S+ (\d+)$"
    return sum(map(int, re.findall(called, text, re.M)))


def differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], bool]:
    """Return lines about counts that differ, and whether a kernel takes more than is allowed."""
    builds = [(report["compiler"], report["flags"]) for report in (old, new)]
    if builds[0] != builds[1]:
        return [f"another compiler: not compared ({builds[0]}; here {builds[1]})"], False
    lines, is_worse = [], False
    for name, levels in new["instructions"].items():
        for level, now in levels.items():
            before = old["instructions"].get(name, {}).get(level)
            if before is None:
                lines.append(f"{name}, {level}: not in the file")
                is_worse = True
            elif abs(now - before) > TOLERANCE * before:
                more = now > before
                is_worse |= more
                word = "more" if more else "fewer: write the file anew"
                lines.append(f"{name}, {level}: {before} -> {now} an element, {word}")
    return lines, is_worse


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with instructions.json")
    parser.add_argument("--make-calls", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make_calls:
        make_calls()
        return 0
    if shutil.which("valgrind") is None or not counted_levels():
        print("nothing is counted: that takes valgrind and the C kernel")
        return 0
    new = {
        "compiler": native.compiler(),
        "flags": native.compile_flags(),
        "instructions": count(),
    }
    if not options.check:
        FILE.write_text(json.dumps(new, indent=1) + "\n")
        print(f"{len(new['instructions'])} kernels counted: {os.path.relpath(FILE)}")
        return 0
    lines, is_worse = differences(json.loads(FILE.read_text()), new)
    print(
        *lines, f"{len(new['instructions'])} kernels: {'worse' if is_worse else 'fine'}", sep="\n"
    )
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
