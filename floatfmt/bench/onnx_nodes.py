"""Models of one node for ONNX Runtime, written out as the protobuf that they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

__all__ = ["ELEMENTS", "bound", "on_threads", "session"]

#: TensorProto.DataType, by the names of formats.
ELEMENTS = {
    **{"fp32": 1, "uint8": 2, "int8": 3, "fp16": 10, "fp64": 11, "bf16": 16},
    **{"fp8_e4m3fn": 17, "fp8_e4m3fnuz": 18, "fp8_e5m2": 19, "fp8_e5m2fnuz": 20},
}
OPSET, IR_VERSION, INTEGER_ATTRIBUTE = 21, 10, 2


_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Give sessions that are opened in the ``with`` block so many threads."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def session(
    operator: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    attributes: Mapping[str, int | None] | None = None,
) -> Any:
    """Return an InferenceSession of one node, on as many threads as `on_threads` says.

    Parameters
    ----------
    operator : str
        Such as "QuantizeLinear".
    inputs, outputs : mapping of str to str
        Names of formats, keys of `ELEMENTS`, by the names of values.
    attributes : mapping of str to int, optional
        Those that are None are left out.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads.get()
    model = _model(operator, inputs, outputs, attributes or {})
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bound(
    opened: Any, inputs: Mapping[str, tuple[np.ndarray, str]], out: tuple[np.ndarray, str]
) -> Any:
    """Return a session's I/O binding to arrays, each with the name of its format."""
    binding = opened.io_binding()
    for name, (array, fmt) in inputs.items():
        binding.bind_input(name, "cpu", 0, ELEMENTS[fmt], array.shape, array.ctypes.data)
    array, fmt = out
    binding.bind_output("y", "cpu", 0, ELEMENTS[fmt], array.shape, array.ctypes.data)
    return binding


def _model(
    operator: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    attributes: Mapping[str, int | None],
) -> bytes:
    node = _fields(1, inputs) + _fields(2, outputs) + _field(4, operator)
    for name, number in attributes.items():
        if number is not None:
            node += _field(5, _field(1, name) + _field(3, number) + _field(20, INTEGER_ATTRIBUTE))
    graph = _field(1, node) + _field(2, "graph")
    graph += _fields(11, map(_value, inputs, inputs.values()))
    graph += _fields(12, map(_value, outputs, outputs.values()))
    opset = _field(1, "") + _field(2, OPSET)
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, opset)


def _value(name: str, fmt: str) -> bytes:
    return _field(1, name) + _field(2, _field(1, _field(1, ELEMENTS[fmt])))


def _fields(number: int, values: Iterable[bytes | str]) -> bytes:
    return b"".join(_field(number, value) for value in values)


def _field(number: int, value: bytes | str | int) -> bytes:
    """A field of a protobuf message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(n: int) -> bytes:
    found = bytearray()
    while n > 0x7F:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*found, n])
