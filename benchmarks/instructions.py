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
    """A function of the C core, and a call of a backend that reaches it alone."""

    function: str
    method: str
    arguments: tuple[Any, ...]

    def call(self, backend: native.Native) -> None:
        """Make the call."""
        getattr(backend, self.method)(*self.arguments)


def _case(method: str, *arguments: Any, function: str | None = None) -> Case:
    """Return a case of the function that is called as the method is, or of another one."""
    return Case(function or f"ff_{method}", method, arguments)


class Inputs(NamedTuple):
    """What is counted of: normal values, and codes of 7 bits."""

    fp64: np.ndarray
    fp32: np.ndarray
    codes: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """Return the fp32 values as a quantiser takes them, in one group."""
        return self.fp32.reshape(1, 1, -1)

    @property
    def rows(self) -> np.ndarray:
        """Return them in rows."""
        return self.fp32.reshape(1, -1, ROW)

    @property
    def blocks(self) -> np.ndarray:
        """Return them in blocks."""
        return self.fp32.reshape(1, -1, BLOCK)


#: Seed and first index of random words.
STREAM = (5, 0)
FP32, FP16, FP8 = format("fp32"), format("fp16"), format("fp8_e4m3fn")
NF4 = SCHEMES["nf4"].elements
SCALE, ZERO = np.array([0.03]), np.array([3.0])
ROW_SCALES, BLOCK_SCALES = np.full(SIZE // ROW, 0.03), np.full(SIZE // BLOCK, 2.0)


def cases() -> dict[str, Case]:
    """Return what is counted, by name."""
    rng = np.random.default_rng(7)
    fp64 = rng.normal(size=SIZE)
    given = Inputs(fp64, fp64.astype(np.float32), rng.integers(0, 127, SIZE, np.uint8))
    return _conversions(given) | _scales(given) | _quantisers(given) | _inverses(given)


def _conversions(given: Inputs) -> dict[str, Case]:
    fp64, fp32, codes = given
    bits = fp32.view(np.uint32)
    fields = (codes >> 7, codes & np.uint8(127), bits & np.uint32(0x7FFFFF))
    split = (np.empty(SIZE, np.uint8), np.empty(SIZE, np.uint8), np.empty(SIZE, np.uint32))
    byte, half, wide = (np.empty(SIZE, kind) for kind in (np.uint8, np.uint16, np.float32))
    nibbles, packed = codes & np.uint8(15), np.empty(SIZE // 2, np.uint8)
    to16, to8, to_bf16 = (rules(format(name)) for name in ("fp16", "fp8_e4m3fn", "bf16"))
    up = to8.with_rounding(Rounding.TOWARD_POSITIVE)
    odd, random = map(to_bf16.with_rounding, (Rounding.TO_ODD, Rounding.STOCHASTIC))
    return {
        "decompose fp32": _case("decompose", bits, FP32, *split),
        "compose fp32": _case("compose", *fields, FP32, np.empty(SIZE, np.uint32)),
        "encode fp32 to fp16": _case("encode", fp32, to16, half, STREAM),
        "encode fp32 to bf16": _case("encode", fp32, to_bf16, half, STREAM),
        "encode fp32 to fp8": _case("encode", fp32, to8, byte, STREAM),
        "encode fp64 to fp16": _case("encode", fp64, to16, half, STREAM),
        "encode to odd": _case("encode", fp32, odd, half, STREAM),
        "encode fp32 to fp8 upwards": _case("encode", fp32, up, byte, STREAM),
        "encode stochastically": _case("encode", fp32, random, half, STREAM),
        "decode fp16": _case("decode", fp32.astype(np.float16).view(np.uint16), FP16, wide),
        "decode fp8": _case("decode", codes, FP8, wide),
        "round_to bf16": _case("round_to", fp32, to_bf16, wide),
        "pack 4 bits": _case("pack", nibbles, packed, 4, False),
        "unpack 4 bits": _case("unpack", packed, byte, 4, False),
    }


def _scales(given: Inputs) -> dict[str, Case]:
    ends = np.abs(given.fp64) + 1
    return {
        "amax": _case("amax", given.whole),
        "minmax": _case("minmax", given.whole),
        "absmax scales": _case("absmax_scale", ends, FP32),
        "power scales": _case("power_scale", ends, "even", 6.0, 1),
        "zeropoint parameters": _case("zeropoint_parameters", -ends, ends, FP32),
    }


def _quantisers(given: Inputs) -> dict[str, Case]:
    whole, rows, blocks = given.whole, given.rows, given.blocks
    byte, packed = np.empty(SIZE, np.uint8), np.empty(SIZE // 2, np.uint8)
    to_int8, to_nf4 = Scaling(FP32, 127.0), Scaling(FP32, NF4.largest)
    nf4, fp4 = intervals(NF4), intervals(format("fp4_e2m1fn"))
    to_mxfp4 = Scaling(format("fp8_e8m0fnu"), 6.0, "floor", 1)
    to_fp8 = (rules(FP8, overflow="saturate"), *limits(FP8))
    return {
        "quantize": _case("quantize", whole, SCALE, ZERO, -128, 127, byte),
        "quantize rows": _case("quantize", rows, ROW_SCALES, ROW_SCALES * 0, -128, 127, byte),
        "absmax": _case("quantize_absmax", whole, to_int8, 127, False, byte),
        "absmax rows": _case("quantize_absmax", rows, to_int8, 127, False, byte),
        "absmax nf4": _case(
            *("quantize_absmax", blocks, to_nf4, nf4, True, packed),
            function="ff_quantize_intervals_absmax",
        ),
        "absmax mxfp4": _case(
            *("quantize_absmax", given.fp32.reshape(1, -1, 32), to_mxfp4, fp4, True, packed),
            function="ff_quantize_intervals_absmax",
        ),
        "range rows": _case("quantize_range", rows, FP32, False, -128, 127, byte),
        "intervals fp4": _case("quantize_intervals", blocks, BLOCK_SCALES, fp4, byte),
        "quantize fp8": _case("quantize_format", whole, SCALE, *to_fp8, byte),
        "absmax fp8": _case(
            *("quantize_absmax", rows, Scaling(FP32, 448.0), FP8, False, byte),
            function="ff_quantize_format_absmax",
        ),
    }


def _inverses(given: Inputs) -> dict[str, Case]:
    """Return what makes values of codes and of products of codes."""
    codes, wide = given.codes.reshape(1, 1, -1), np.empty(SIZE, np.float32)
    by_block, by_row = wide.reshape(1, -1, BLOCK), wide.reshape(-1, ROW)
    int8, packed = given.codes.view(np.int8).reshape(16, ROW), np.empty(SIZE // 2, np.uint8)
    sums, columns = np.empty((16, 16), np.int32), np.full(ROW, 0.1, np.float32)
    products = np.arange(SIZE, dtype=np.int32).reshape(-1, ROW)
    linear = (ROW_SCALES, columns[:16], None, None, sums.view(np.float32))
    return {
        "dequantize": _case("dequantize", codes, SCALE, ZERO, wide.reshape(1, 1, -1)),
        "dequantize fp8": _case("dequantize_table", codes, SCALE, table(FP8), 256, wide),
        "dequantize nf4": _case(
            "dequantize_packed", packed, BLOCK_SCALES, table(NF4)[:16], by_block
        ),
        "int8 product": _case("int8_product", int8, int8, sums),
        "dequantize sums": _case(
            "dequantize_sums", products, ROW_SCALES, columns, None, None, by_row
        ),
        "int8 linear": _case("int8_linear", int8, int8, *linear),
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
