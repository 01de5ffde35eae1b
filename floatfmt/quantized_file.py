"""How quantised tensors lie in a ``.safetensors`` file, and saving and loading them.

The codes of tensor NAME stand under its own name, its scales under ``NAME.scale``, and so on. The
file's metadata has one key of ours, ``floatfmt``, whose JSON says of each quantised tensor what it
was, which tensors are its parts, and how it was quantised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import interop, storage
from .checkpoint import Checkpoint, CheckpointError, open_checkpoint
from .checkpoint_writer import Layout, new_file
from .quantized import Quantized
from .table import printable

__all__ = [
    "METADATA_KEY",
    "Record",
    "check_suffix",
    "load_quantized",
    "metadata_of",
    "part_names",
    "read_quantized",
    "records",
    "save_quantized",
]

METADATA_KEY = "floatfmt"
SCHEMA = "floatfmt.quantized/1"


class Record(NamedTuple):
    """What a file says of one quantised tensor.

    Attributes
    ----------
    dtype : str
        The dtype that it had, by NumPy's name.
    shape : tuple of int
        Its shape.
    parts : dict of str
        The names of the tensors that it is stored in, by the keys of `storage.layout`.
    quantized : dict
        Everything else, as `storage.description` gives it.
    """

    dtype: str
    shape: tuple[int, ...]
    parts: dict[str, str]
    quantized: dict[str, Any]


def part_names(name: str, keys: Iterable[str]) -> dict[str, str]:
    """Return what the parts of a tensor are called.

    Examples
    --------
    >>> from floatfmt.quantized_file import part_names
    >>> part_names("wte", ["", "scale"])
    {'': 'wte', 'scale': 'wte.scale'}
    """
    return {key: f"{name}.{key}" if key else name for key in keys}


def metadata_of(found: Mapping[str, Record]) -> str:
    """Return the JSON that stands in a file's metadata."""
    tensors = {name: record._asdict() for name, record in found.items()}
    return json.dumps({"schema": SCHEMA, "tensors": tensors}, separators=(",", ":"))


def records(metadata: Mapping[str, str], path: str) -> dict[str, Record]:
    """Return what a file's metadata says of its quantised tensors, by name.

    Raises
    ------
    CheckpointError
        It says nothing, or what no floatfmt wrote.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{path}: it holds nothing that floatfmt quantised: its metadata has no key"
            f" {METADATA_KEY!r}"
        )
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise CheckpointError(
                f"{path}: its metadata is {content['schema']!r}; this floatfmt reads {SCHEMA!r}"
            )
        return {name: _record(name, entry) for name, entry in content["tensors"].items()}
    except CheckpointError:
        raise
    except _DAMAGE as exc:
        raise CheckpointError(f"{path}: its metadata is damaged: {_reason(exc)}") from None


#: What unforeseen content makes of an innocent line of Python.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _record(name: str, entry: dict[str, Any]) -> Record:
    shape = tuple(entry["shape"])
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"a shape is {entry['shape']!r}")
    parts = {str(key): str(name) for key, name in entry["parts"].items()}
    if len(set(parts.values())) < len(parts):
        raise ValueError("two parts of a tensor are one")
    if parts[""] != name:
        raise ValueError(f"the codes of {name!r} are called {parts['']!r}")
    dtype = str(entry["dtype"])
    if np.dtype(dtype) not in interop.FLOAT_DTYPES:
        raise ValueError(f"{dtype!r} is no dtype that is quantised")
    return Record(dtype, shape, parts, dict(entry["quantized"]))


def _reason(exc: Exception) -> str:
    text = f"no {exc}" if isinstance(exc, KeyError) else str(exc)
    return printable(" ".join(text.split())[:200]) or type(exc).__name__


def read_quantized(checkpoint: Checkpoint, name: str, record: Record) -> Quantized:
    """Return a quantised tensor of a checkpoint, its arrays as ``checkpoint[...]`` gives them.

    Raises
    ------
    CheckpointError
        A part is missing, or the parts are not what the metadata says.
    """
    parts = {key: checkpoint[stored] for key, stored in record.parts.items()}
    try:
        q = storage.restore(parts, record.quantized)
        shape = np.shape(q.codes)
        if shape != record.shape:
            raise ValueError(f"it has shape {shape}, not {record.shape}")
        return q
    except _DAMAGE as exc:
        raise CheckpointError(
            f"{checkpoint.path}: tensor {printable(name)!r}: what is stored is not what the"
            f" metadata says: {_reason(exc)}"
        ) from None


def save_quantized(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Quantized],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Save quantised tensors in a ``.safetensors`` file.

    Parameters
    ----------
    path : str or os.PathLike
        The file, ending in ``.safetensors``.
    tensors : mapping of str to Quantized
        By name.
    metadata : mapping of str to str, optional
        What else the file's metadata is to say.
    overwrite : bool
        Whether the file may replace one that is there.

    Raises
    ------
    ValueError
        Two tensors of the file would have the same name; there is such a file already.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np, tempfile, os
    >>> q = ff.quantize(np.float32([0.1, -1.5, 3.2]), "absmax")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "weights.safetensors")
    ...     ff.save_quantized(file, {"w": q})
    ...     ff.load_quantized(file)["w"] == q
    True
    """
    check_suffix(path)
    arrays: dict[str, np.ndarray] = {}
    found: dict[str, Record] = {}
    for name, q in tensors.items():
        parts = storage.parts(q)
        names = part_names(name, parts)
        for key, stored in names.items():
            if stored in arrays:
                raise ValueError(f"two tensors would be called {stored!r}; rename one")
            arrays[stored] = parts[key]
        codes = np.shape(q.codes)
        found[name] = Record(str(np.dtype(q.format.dtype)), codes, names, storage.description(q))
    texts = {**(metadata or {}), METADATA_KEY: metadata_of(found)}
    layout = Layout({name: (a.dtype, a.shape) for name, a in arrays.items()}, texts)
    with new_file(path, layout, overwrite=overwrite) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a name by which nobody would know the file again."""
    if not os.fspath(path).endswith(".safetensors"):
        raise CheckpointError(f"{os.fspath(path)}: the name of the file is to end in .safetensors")


def load_quantized(path: str | os.PathLike[str]) -> dict[str, Quantized]:
    """Load every quantised tensor of a file or directory, by name, into memory.

    Parameters
    ----------
    path : str or os.PathLike
        What `save_quantized`, `quantize_checkpoint` or ``floatfmt quantize`` wrote. Tensors that
        were copied as they are, are not among the result: ``open_checkpoint`` reads them.

    Raises
    ------
    CheckpointError
        It cannot be read, floatfmt did not write it, or it is damaged. It is a ValueError.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "weights.safetensors")
    ...     ff.save_quantized(file, {"w": ff.quantize(np.float32([0.5, 1]), "absmax")})
    ...     ff.load_quantized(file)["w"].codes
    array([ 64, 127], dtype=int8)
    """
    found = {}
    with open_checkpoint(path) as checkpoint:
        for shard in checkpoint.shards:
            for name, record in records(shard.metadata, checkpoint.path).items():
                stored = read_quantized(checkpoint, name, record)
                copies = {key: array.copy() for key, array in storage.parts(stored).items()}
                found[name] = storage.restore(copies, record.quantized)
    return found
