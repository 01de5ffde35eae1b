"""A pytest plugin that writes down what the C kernel is asked, and what the reference answers.

Under ``pytest -p recorder`` there are two backends, the reference and "recording". The latter makes
of each call what `Native` hands to C, bytes and all, has the reference work out the answer, and
writes both to the file that RECORD_TO names, for replay.c. So other machines are tried with what
the tests draw, without Python.

A record is the function's name in 32 bytes; how many arguments it has; each argument as its kind
and its value, or its size and its bytes, an output's being those wanted; the integer returned, 0
for nothing. Numbers have 8 bytes, lowest first.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import floatfmt as ff
from floatfmt import arrays, backends, quantizing
from floatfmt.backends import native, reference
from floatfmt.backends.native import ffi

HEADER = Path(__file__).parents[2] / "csrc" / "floatfmt.h"
INTEGER, DOUBLE, INPUT, OUTPUT = range(4)
#: What the reference takes of one dimension only, and the kernel as it lies in memory.
FLAT = ("compose", "decode", "decompose", "encode", "round_to")


def prototypes() -> dict[str, list[int]]:
    """Return the kinds of the arguments of every function of the header that computes."""
    found = re.findall(r"^(?:void|int|int64_t) (ff_\w+)\(([^)]*)\);", HEADER.read_text(), re.M)
    kinds = {name: [_kind(" ".join(p.split())) for p in text.split(",")] for name, text in found}
    return {name: row for name, row in kinds.items() if INPUT in row}


def _kind(parameter: str) -> int:
    if "*" in parameter:
        return INPUT if parameter.startswith("const") else OUTPUT
    return DOUBLE if parameter.startswith("double") else INTEGER


class Tape:
    """Stands for the C library: notes what a function is called with, and writes it to a file."""

    def __init__(self, lib: Any, path: str) -> None:
        self._lib = lib
        self._file = open(path, "wb")  # noqa: SIM115 (closed with the session)
        self._kinds = prototypes()
        self._written: set[bytes] = set()
        self.call: tuple[str, tuple[Any, ...]] | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in self._kinds:
            return getattr(self._lib, name)

        def note(*args: Any) -> int:
            self.call = name, args
            return 0

        return note

    def ff_f16c(self, rounding: int, values: Any, codes: Any, n: int) -> int:
        """Answer for the instruction, which no backend has as a function of its own."""
        x = np.frombuffer(ffi.buffer(values), np.float32)
        wanted = reference_encode(x, [*ff.Rounding][rounding])
        np.frombuffer(ffi.buffer(codes), np.uint16)[...] = wanted
        self.call = "ff_f16c", (rounding, values, codes, n)
        self.write(0)
        return 0

    def write(self, returned: int) -> None:
        """Write the call that was noted, unless it has been written before."""
        assert self.call is not None
        name, args = self.call
        self.call = None
        kinds = self._kinds[name]
        parts = [_argument(*pair) for pair in zip(kinds, args, strict=True)]
        record = b"".join(
            (struct.pack("<32sQ", name.encode(), len(args)), *parts, struct.pack("<q", returned))
        )
        digest = hashlib.sha256(record).digest()
        if digest not in self._written:
            self._written.add(digest)
            self._file.write(record)

    def close(self) -> None:
        self._file.close()


def _argument(kind: int, value: Any) -> bytes:
    if kind == INTEGER:
        return struct.pack("<QQ", kind, int(value) % 2**64)
    if kind == DOUBLE:
        return struct.pack("<Qd", kind, value)
    content = b"" if value == ffi.NULL else bytes(ffi.buffer(value))
    return struct.pack("<QQ", kind, len(content)) + content


def reference_encode(x: np.ndarray, rounding: ff.Rounding) -> np.ndarray:
    with ff.use_backend("reference"):
        return ff.encode(x, "fp16", rounding=rounding)


class Recorder(native.Native):
    """The reference, whose calls are written as the kernel would have been called."""

    def __init__(self, tape: Tape) -> None:
        super().__init__("baseline")
        self.tape = tape


def recorded(name: str) -> Callable[..., Any]:
    hands_over, answers = getattr(native.Native, name), getattr(reference, name)

    def method(self: Recorder, *args: Any) -> Any:
        result = hands_over(self, *args)
        if self.tape.call is None:  # it was made of other calls
            return result
        with reference.float_environment():
            wanted = answers(*_shaped(name, args))
        returned = 0
        for handed, right in zip(_tuple(result), _tuple(wanted), strict=True):
            if isinstance(right, np.ndarray):
                handed[...] = right
            elif isinstance(right, (bool, np.bool_)):  # whether all went well: 0 in C
                returned = int(not right)
            elif right is not None:
                returned = int(right)
        self.tape.write(returned)
        return wanted

    return method


def _shaped(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments as the reference takes them; the kernel sees memory alone."""
    if name in FLAT:
        return tuple(a.reshape(-1) if isinstance(a, np.ndarray) else a for a in args)
    if name.startswith("quantize") and args[-1].size == args[0].size:  # not packed
        return (*args[:-1], args[-1].reshape(args[0].shape))
    return args


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


for _name in reference.__all__:
    if f"ff_{_name}" in prototypes():
        setattr(Recorder, _name, recorded(_name))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Take the place of the kernel, before conftest.py asks which levels there are."""
    native.lib = Tape(native.lib, os.environ["RECORD_TO"])
    backends._BACKENDS.clear()
    backends._BACKENDS.update(reference=reference, recording=Recorder(native.lib))
    backends._FASTEST = "recording"
    # Calls that no method sees; the others make them too.
    quantizing.absmax_pass = quantizing.zeropoint_pass = lambda *_: None
    arrays.encode_plain = arrays.decode_plain = lambda *_: None


def pytest_unconfigure() -> None:
    native.lib.close()
