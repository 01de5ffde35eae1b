"""Builds floatfmt._native: the only place with compiler flags."""

import json
import os
from pathlib import Path

from cffi import FFI

# setuptools runs this file from the project's root and wants paths relative to it.
CSRC = Path("csrc")
HEADERS = (
    "blocks_256.h",
    "cells_256.h",
    "codes_plan.h",
    "floatfmt.h",
    "kernels.h",
    "multiply_tile_256.h",
    "pool.h",
    "random_256.h",
    "region.h",
    "registers.h",
    "scalar.h",
    "slots_256.h",
    "stream.h",
)
PARTS = ("kernels.inc.h", "codes.inc.h", "convert.inc.h", "quantize.inc.h", "elements.inc.h")
SOURCES = (
    *("calls.c", "dispatch.c", "linear.c", "pool.c"),
    *("isa_baseline.c", "isa_avx2.c", "isa_avx512.c"),
)

# Products and sums round separately on every ISA: no contraction to FMA. Exceptions are masked and
# errno is not read, so the last two change no result, only what vectorises.
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-pthread",
]
if sanitizers := os.environ.get("FLOATFMT_SANITIZE"):  # "address,undefined"
    FLAGS += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
LINK_FLAGS = ["-pthread", *([f"-fsanitize={sanitizers}"] if sanitizers else [])]
# What the library says of itself: setuptools puts the environment's flags before ours.
RECORDED_FLAGS = " ".join([*os.environ.get("CFLAGS", "").split(), *FLAGS])

ffibuilder = FFI()
header = (Path(__file__).parent / "floatfmt.h").read_text()
ffibuilder.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
ffibuilder.set_source(
    "floatfmt._native",
    '#include "floatfmt.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    include_dirs=[str(CSRC)],
    # A string of JSON is a string of C too.
    define_macros=[("FLOATFMT_COMPILE_FLAGS", json.dumps(RECORDED_FLAGS))],
    # Rebuilds after a change, and puts these files into the sdist.
    depends=[str(CSRC / name) for name in (*HEADERS, *PARTS, "build_ffi.py")],
    extra_compile_args=FLAGS,
    extra_link_args=LINK_FLAGS,
    optional=True,  # without a compiler the package installs and runs on the NumPy reference
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
