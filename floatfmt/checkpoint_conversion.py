"""Quantise and dequantise whole checkpoints, tensor by tensor.

What is to be written is planned from names, dtypes and shapes; then each tensor is read, converted
and written before the next is touched, so memory is bounded by the largest.
"""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import interop, schemes, storage
from .checkpoint import (
    INDEX_SUFFIX,
    PICKLE_SUFFIXES,
    Checkpoint,
    CheckpointError,
    Shard,
    open_checkpoint,
)
from .checkpoint_writer import Layout, Writer, copy_file, new_directory, new_file, write_text
from .error_figures import keep_freed_memory
from .formats import format
from .quantization import quantize
from .quantized_file import (
    METADATA_KEY,
    Record,
    check_suffix,
    metadata_of,
    part_names,
    read_quantized,
    records,
)
from .table import LONGEST_TEXT, Part, Table, byte_size, printable, rich_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = [
    "CheckpointConversion",
    "ConvertedTensor",
    "dequantize_checkpoint",
    "quantize_checkpoint",
]

SCHEMA = "floatfmt.checkpoint_conversion/1"
DEFAULT_SCHEME = "int8_absmax_row"
COPIED = "copied"
DEFAULT_CHOICE = (
    "Without a pattern to include, float tensors of two or more dimensions are quantised and all"
    " others copied."
)
#: Weights in the files of other programs, which are not copied along with a model's small files.
_WEIGHT_SUFFIXES = {*PICKLE_SUFFIXES, ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".ot"}


# --- the answer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConvertedTensor:
    """One tensor, and what becomes of it.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape.
    dtype : str
        What it is in the input; of a quantised one, the scheme.
    becomes : str
        The scheme, the format that it returns to, or "copied".
    nbytes_before, nbytes_after : int
        Bytes of its data, scales and zero points included.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    becomes: str
    nbytes_before: int
    nbytes_after: int

    __hash__ = None  # type: ignore[assignment]

    @property
    def values(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits a value that are written, or None if it holds no value."""
        return 8 * self.nbytes_after / self.values if self.values else None

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "becomes": self.becomes,
            "nbytes_before": self.nbytes_before,
            "nbytes_after": self.nbytes_after,
            "bits_per_weight": self.bits_per_weight,
        }


@dataclass(frozen=True, slots=True)
class CheckpointConversion:
    """What a conversion of a checkpoint did, or would do; made by ``ff.quantize_checkpoint``.

    Attributes
    ----------
    source : str
        The input.
    output : str or None
        What was written; None after a dry run.
    tensors : tuple of ConvertedTensor
        Every tensor of the input, a quantised one counting as one.
    files : tuple of (str, int)
        The files with tensors in them, and their sizes in bytes.
    saturated, nonfinite : int
        How many values were clamped, and how many were NaN or Inf; None after a dry run.
    note : str
        By what rule tensors were chosen, or "".
    """

    source: str
    output: str | None
    tensors: tuple[ConvertedTensor, ...]
    files: tuple[tuple[str, int], ...]
    saturated: int | None
    nonfinite: int | None
    note: str = ""

    __hash__ = None  # type: ignore[assignment]

    @property
    def converted(self) -> tuple[ConvertedTensor, ...]:
        """The tensors that were not copied as they are."""
        return tuple(tensor for tensor in self.tensors if tensor.becomes != COPIED)

    @property
    def nbytes_before(self) -> int:
        """Bytes of the tensors' data in the input."""
        return sum(tensor.nbytes_before for tensor in self.tensors)

    @property
    def nbytes_after(self) -> int:
        """Bytes of the tensors' data in the output."""
        return sum(tensor.nbytes_after for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits a value of the output, whether converted or copied; None if there is no value."""
        values = sum(tensor.values for tensor in self.tensors)
        return 8 * self.nbytes_after / values if values else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "output": self.output,
            "nbytes_before": self.nbytes_before,
            "nbytes_after": self.nbytes_after,
            "bits_per_weight": self.bits_per_weight,
            "saturated": self.saturated,
            "nonfinite": self.nonfinite,
            "note": self.note,
            "files": dict(self.files),
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in _lines(self, None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from rich_lines(_lines(self, options.max_width))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)


def quantize_checkpoint(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    scheme: str = DEFAULT_SCHEME,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    nonfinite: str = "error",
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> CheckpointConversion:
    """Quantise a checkpoint into another that says how it is to be read.

    Parameters
    ----------
    path : str or os.PathLike
        A file or directory as `open_checkpoint` takes it.
    output : str or os.PathLike
        A ``.safetensors`` file; for a directory or an index, a directory, with the same shards,
        an index, and all other files of the model but weights.
    scheme : str
        The name of a scheme.
    include, exclude : sequence of str
        Patterns of tensors' names, with ``*``, ``?`` and ``[...]``. Without `include` every tensor
        of fp64, fp32, fp16 or bf16 and two or more dimensions is quantised; with it, those of any
        dimensions that match. What `exclude` matches is not. All others are copied as they are.
    nonfinite : {"error", "saturate", "ignore"}
        What is done about NaN and Inf, as in ``ff.quantize``.
    dry_run : bool
        Only work out the sizes, from shapes: no data is read, and nothing is written.
    overwrite : bool
        Whether `output` may be replaced, which is done when the new one is complete.
    progress : function, optional
        Called now and then with how many bytes of the input are done, and how many there are.

    Returns
    -------
    CheckpointConversion

    Raises
    ------
    ValueError
        A value is NaN or Inf (the message names the tensor and the first position), a name or
        pattern is wrong, the input cannot be read (a `CheckpointError`), the output is there.
    OSError
        The output cannot be written. Neither then nor on Ctrl-C does anything stay behind.

    Notes
    -----
    The codes of tensor NAME have its name, its scales are ``NAME.scale``, its zero points
    ``NAME.zero_point``. The metadata key ``floatfmt`` has the rest as JSON; other metadata is kept.
    Under a scheme by row, a tensor of fewer than two dimensions has one scale.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np, tempfile
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, small = Path(folder, "model.safetensors"), Path(folder, "int8.safetensors")
    ...     save_file({"w": np.ones((2, 64), "f4"), "bias": np.ones(2, "f4")}, model)
    ...     result = ff.quantize_checkpoint(model, small, "int8_absmax_row")
    ...     [(t.name, t.becomes, t.nbytes_before, t.nbytes_after) for t in result.tensors]
    [('bias', 'copied', 8, 8), ('w', 'int8_absmax_row', 512, 136)]
    """
    options = schemes.parse(scheme)
    if nonfinite != "error":
        options["nonfinite"] = nonfinite
    storage.layout((1,) * 8, "fp32", **options)  # what never fits is no tensor's fault
    with open_checkpoint(path) as checkpoint:
        chosen = _chosen(checkpoint, include, exclude)
        for shard in checkpoint.shards:
            if METADATA_KEY in shard.metadata:
                raise CheckpointError(f"{checkpoint.path}: floatfmt quantised it already")
        files = [
            _planned(
                shard,
                [
                    _quantizing(checkpoint, name, scheme, options)
                    if name in chosen
                    else _copying(checkpoint, name)
                    for name in shard.names
                ],
                quantized=True,
            )
            for shard in checkpoint.shards
        ]
        _check_names(files, checkpoint.path)
        note = "" if include else DEFAULT_CHOICE
        if not chosen:
            note = "No tensor of floats was chosen, so all are copied."
        job = _Job(checkpoint, os.fspath(path), files, overwrite, progress, note)
        return job.result(None) if dry_run else job.run(output)


def dequantize_checkpoint(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> CheckpointConversion:
    """Turn what `quantize_checkpoint` wrote back into a checkpoint of the original dtypes.

    Parameters
    ----------
    path, output, dry_run, overwrite, progress
        As in `quantize_checkpoint`.

    Returns
    -------
    CheckpointConversion

    Raises
    ------
    ValueError
        The input cannot be read, or floatfmt did not write it (a `CheckpointError`); the output is
        there.
    OSError
        The output cannot be written.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np, tempfile
    >>> from pathlib import Path
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     small, back = Path(folder, "int8.safetensors"), Path(folder, "back.safetensors")
    ...     ff.save_quantized(small, {"w": ff.quantize(np.float32([0.5, 1]), "absmax")})
    ...     result = ff.dequantize_checkpoint(small, back)
    ...     load_file(back)["w"]
    array([0.503937, 1.      ], dtype=float32)
    """
    with open_checkpoint(path) as checkpoint:
        files = []
        for shard in checkpoint.shards:
            found = records(shard.metadata, checkpoint.path)
            files.append(_planned(shard, list(_restoring(checkpoint, shard, found))))
        job = _Job(checkpoint, os.fspath(path), files, overwrite, progress)
        return job.result(None) if dry_run else job.run(output)


# --- the plan -----------------------------------------------------------------------------------


class _Made(NamedTuple):
    """What one step gives: arrays by their names in the output, and what is to be said of them."""

    arrays: dict[str, np.ndarray]
    record: Record | None = None
    saturated: int = 0
    nonfinite: int = 0


#: Dtype and shape.
_Entry: TypeAlias = tuple[np.dtype[Any], tuple[int, ...]]


class _Step(NamedTuple):
    """One tensor's conversion: what it reads of the input and writes to the output."""

    tensor: ConvertedTensor
    reads: tuple[str, ...]
    writes: dict[str, _Entry]
    make: Callable[[], _Made]
    metadata_room: int = 0


class _File(NamedTuple):
    """One file of the output."""

    name: str
    steps: list[_Step]
    layout: Layout


def _chosen(checkpoint: Checkpoint, include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Return the names of the tensors that are to be quantised."""

    def matching(patterns: Sequence[str], what: str) -> set[str]:
        if isinstance(patterns, str):
            raise TypeError(f"{what} is a sequence of patterns, got {patterns!r}")
        found = set()
        for pattern in patterns:
            matches = {name for name in checkpoint.names if fnmatchcase(name, pattern)}
            if not matches:
                raise ValueError(
                    f"{what} pattern {pattern!r} matches none of {len(checkpoint)} tensors,"
                    f" such as {', '.join(map(repr, checkpoint.names[:3]))}"
                )
            found |= matches
        return found

    wanted = matching(include, "include") if include else None
    unwanted = matching(exclude, "exclude")
    return {
        name
        for name in checkpoint.names
        if name not in unwanted
        and (len(checkpoint.shape(name)) >= 2 if wanted is None else name in wanted)
        and checkpoint.dtype(name).newbyteorder("=") in interop.FLOAT_DTYPES
    }


def _nbytes(entries: Iterable[_Entry]) -> int:
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in entries)


def _dtype_name(dtype: np.dtype[Any]) -> str:
    dtype = dtype.newbyteorder("=")
    return format(dtype).name if dtype in interop.FLOAT_DTYPES else str(dtype)


def _described(checkpoint: Checkpoint, name: str) -> _Entry:
    return checkpoint.dtype(name), checkpoint.shape(name)


def _copying(checkpoint: Checkpoint, name: str) -> _Step:
    dtype, shape = entry = _described(checkpoint, name)
    size = _nbytes([entry])
    tensor = ConvertedTensor(name, shape, _dtype_name(dtype), COPIED, size, size)
    return _Step(tensor, (name,), {name: entry}, lambda: _Made({name: checkpoint[name]}))


def _quantizing(checkpoint: Checkpoint, name: str, scheme: str, options: dict[str, Any]) -> _Step:
    dtype, shape = entry = _described(checkpoint, name)
    if len(shape) < 2:  # a scale for every value would be no quantisation
        options = {**options, "axis": None} if "axis" in options else options
    try:
        parts = storage.layout(shape, dtype.newbyteorder("="), **options)
    except (ValueError, TypeError) as exc:
        raise type(exc)(f"{_label(checkpoint, name)}: {exc}; exclude it") from None
    names = part_names(name, parts)
    writes: dict[str, _Entry] = {names[key]: part for key, part in parts.items()}
    tensor = ConvertedTensor(
        *(name, shape, _dtype_name(dtype), scheme), _nbytes([entry]), _nbytes(writes.values())
    )
    asked = {"name": scheme, **options}
    make = partial(_quantized, checkpoint, name, names, options, asked)
    room = _metadata_room(name, entry, names, options, asked)
    return _Step(tensor, (name,), writes, make, room)


def _metadata_room(
    name: str,
    entry: _Entry,
    names: dict[str, str],
    options: dict[str, Any],
    asked: dict[str, Any],
) -> int:
    """Return more bytes than a tensor's entry in the metadata takes.

    The entry counts what happened to the values, and the header's length has to be known before
    the first is read. So a few zeros are quantised, and as much again is left free.
    """
    dtype, shape = entry
    few = (*(min(n, 2) for n in shape[:-1]), *(min(n, 1024) for n in shape[-1:]))
    q = quantize(np.zeros(few, dtype.newbyteorder("=")), **options)
    described = {**storage.description(q), "asked": asked}
    text = metadata_of({name: Record(str(dtype), shape, names, described)})
    return 2 * len(json.dumps(text))


def _quantized(
    checkpoint: Checkpoint,
    name: str,
    names: dict[str, str],
    options: dict[str, Any],
    asked: dict[str, Any],
) -> _Made:
    x = checkpoint[name]
    try:
        q = quantize(x, **options)
    except ValueError as exc:  # which calls the array x, and names the place: x[3, 1]
        place = str(exc).removeprefix("x")
        between = "" if place != str(exc) else ": "
        raise ValueError(f"{_label(checkpoint, name)}{between}{place}") from None
    arrays = {names[key]: array for key, array in storage.parts(q).items()}
    dtype = str(x.dtype.newbyteorder("="))
    record = Record(dtype, x.shape, names, {**storage.description(q), "asked": asked})
    return _Made(arrays, record, int(q.saturated), int(getattr(q, "nonfinite", 0)))


def _label(checkpoint: Checkpoint, name: str) -> str:
    return f"{checkpoint.path}: tensor {name!r}"


def _restoring(checkpoint: Checkpoint, shard: Shard, found: dict[str, Record]) -> Iterator[_Step]:
    """Yield what gives back each tensor that was quantised, and copies the others."""
    part_of = {stored: name for name, record in found.items() for stored in record.parts.values()}
    if len(part_of) < sum(len(record.parts) for record in found.values()):
        raise CheckpointError(f"{checkpoint.path}: two quantised tensors share a part")
    for stored in part_of:
        if stored not in shard.names:
            raise CheckpointError(f"{_label(checkpoint, stored)}: it is missing")
    for name in shard.names:
        if name in found:
            yield _dequantizing(checkpoint, name, found[name])
        elif name not in part_of:
            yield _copying(checkpoint, name)


def _dequantizing(checkpoint: Checkpoint, name: str, record: Record) -> _Step:
    entry: _Entry = (np.dtype(record.dtype), record.shape)
    stored = tuple(record.parts.values())
    before = _nbytes(_described(checkpoint, part) for part in stored)
    if math.prod(record.shape) > 8 * before:  # a code has a bit at least
        raise CheckpointError(f"{_label(checkpoint, name)}: {before} bytes are not {record.shape}")
    tensor = ConvertedTensor(
        name=name,
        shape=record.shape,
        dtype=str(record.quantized.get("scheme", "quantised")),
        becomes=format(entry[0]).name,
        nbytes_before=before,
        nbytes_after=_nbytes([entry]),
    )

    def make() -> _Made:
        return _Made({name: read_quantized(checkpoint, name, record).dequantize()})

    return _Step(tensor, stored, {name: entry}, make)


def _planned(shard: Shard, steps: list[_Step], *, quantized: bool = False) -> _File:
    writes = {name: entry for step in steps for name, entry in step.writes.items()}
    metadata = {key: text for key, text in shard.metadata.items() if key != METADATA_KEY}
    spare = 0
    if quantized:
        metadata[METADATA_KEY] = metadata_of({})
        spare = sum(step.metadata_room for step in steps)
    return _File(shard.file, steps, Layout(writes, metadata, spare))


def _check_names(files: list[_File], path: str) -> None:
    """Refuse two tensors of one name: a scale may be called as a tensor that is there already."""
    owners: dict[str, str] = {}
    for step in (step for file in files for step in file.steps):
        for name in step.writes:
            other = owners.setdefault(name, step.tensor.name)
            if other != step.tensor.name:
                raise ValueError(
                    f"{path}: both {other!r} and {step.tensor.name!r} would be stored in a tensor"
                    f" {name!r}; exclude one"
                )


# --- doing it -----------------------------------------------------------------------------------


@dataclass
class _Job:
    """A planned conversion, and how far it has come."""

    checkpoint: Checkpoint
    source: str
    files: list[_File]
    overwrite: bool
    progress: Callable[[int, int], object] | None
    note: str = ""
    done: int = 0
    total: int = field(init=False)
    saturated: int = 0
    nonfinite: int = 0

    def __post_init__(self) -> None:
        steps = (step for file in self.files for step in file.steps)
        self.total = sum(step.tensor.nbytes_before for step in steps)

    def result(self, output: str | None) -> CheckpointConversion:
        return CheckpointConversion(
            source=self.source,
            output=output,
            tensors=tuple(step.tensor for file in self.files for step in file.steps),
            files=tuple((self._name_of(file, output), file.layout.nbytes) for file in self.files),
            saturated=None if output is None else self.saturated,
            nonfinite=None if output is None else self.nonfinite,
            note=self.note,
        )

    def _name_of(self, file: _File, output: str | None) -> str:
        """Return a file's name in the output: its shard's, or that of the only file."""
        alone = output is not None and not self._makes_directory()
        return os.path.basename(output) if alone and output is not None else file.name

    def _makes_directory(self) -> bool:
        return os.path.isdir(self.source) or self.checkpoint.index is not None

    def run(self, output: str | os.PathLike[str] | None) -> CheckpointConversion:
        if output is None:
            raise TypeError("output is missing: the file or directory to write")
        target = os.fspath(output)
        keep_freed_memory()
        directory = self._makes_directory()
        _check_apart(self.checkpoint, self.source, target, directory)
        if directory:
            self._write_directory(target)
        else:
            check_suffix(target)
            self._write_file(target, self.files[0], overwrite=self.overwrite)
        return self.result(target)

    def _write_directory(self, target: str) -> None:
        source = Path(self.checkpoint.path).parent
        others = list(_other_files(source))
        index = self._index()
        names = [file.name for file in self.files] + others + ([index[0]] if index else [])
        size = sum(file.layout.nbytes for file in self.files)
        size += sum((source / name).stat().st_size for name in others)
        with new_directory(target, names, size, overwrite=self.overwrite) as part:
            for file in self.files:
                (part / file.name).parent.mkdir(parents=True, exist_ok=True)
                self._write_file(part / file.name, file)
            for name in others:
                copy_file(source / name, part / name)
            if index:
                write_text(part / index[0], index[1])

    def _index(self) -> tuple[str, str] | None:
        """Return the name and the text of the output's index, if the input has one."""
        if self.checkpoint.index is None:
            return None
        files = {
            name: file.name for file in self.files for step in file.steps for name in step.writes
        }
        size = sum(step.tensor.nbytes_after for file in self.files for step in file.steps)
        content = {
            "metadata": {**self.checkpoint.index, "total_size": size},
            "weight_map": dict(sorted(files.items())),
        }
        name = os.path.basename(self.checkpoint.path)
        return name, json.dumps(content, indent=2) + "\n"

    def _write_file(
        self, path: str | os.PathLike[str], file: _File, *, overwrite: bool = False
    ) -> None:
        found: dict[str, Record] = {}
        with new_file(path, file.layout, overwrite=overwrite) as writer:
            for step, following in zip(file.steps, [*file.steps[1:], None], strict=False):
                # From a disk, reading ahead halves the time; the cache is not our memory.
                for name in following.reads if following else ():
                    self.checkpoint.prefetch(name)
                record = self._convert(step, writer)
                if record is not None:
                    found[step.tensor.name] = record
            if METADATA_KEY in file.layout.metadata:
                file.layout.metadata[METADATA_KEY] = metadata_of(found)

    def _convert(self, step: _Step, writer: Writer) -> Record | None:
        """Read, convert and write one tensor; nothing of it stays in memory."""
        made = step.make()
        for name, array in made.arrays.items():
            writer.write(name, array)
        for name in step.reads:
            self.checkpoint.release(name)
        self.saturated += made.saturated
        self.nonfinite += made.nonfinite
        self.done += step.tensor.nbytes_before
        if self.progress is not None:
            self.progress(self.done, self.total)
        return made.record


def _check_apart(checkpoint: Checkpoint, source: str, target: str, directory: bool) -> None:
    """Refuse an output that is, or is within, or holds the input."""
    path = os.path.dirname(checkpoint.path) if directory else checkpoint.path
    read = Path(os.path.realpath(path))
    written = Path(os.path.realpath(target))
    if written == read:
        raise ValueError(f"{target} is the input itself; choose another name")
    if directory and (read in written.parents or written in read.parents):
        raise ValueError(f"{target} and {source} lie one within the other; choose another name")


def _other_files(directory: Path) -> Iterator[str]:
    """Yield the files of a model that are no weights: configuration, tokenizer."""
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            is_weights = path.suffix.lower() in _WEIGHT_SUFFIXES or name.endswith(
                (INDEX_SUFFIX, ".bin.index.json")
            )
            if path.is_file() and not is_weights and ".floatfmt-" not in name:
                yield path.relative_to(directory).as_posix()


# --- how a conversion looks ---------------------------------------------------------------------

#: The table of a dry run, column by column: its header and what it says of a tensor.
_COLUMNS: tuple[tuple[tuple[str, ...], Callable[[ConvertedTensor], Part]], ...] = (
    (("tensor",), lambda tensor: (printable(tensor.name), "name")),
    (("shape",), lambda tensor: ("×".join(map(str, tensor.shape)) or "0-d", "")),
    (("dtype",), lambda tensor: (tensor.dtype, "")),
    (("becomes",), lambda tensor: (tensor.becomes, "none" if tensor.becomes == COPIED else "")),
    (("bytes", "before"), lambda tensor: (f"{tensor.nbytes_before:,}", "")),
    (("bytes", "after"), lambda tensor: (f"{tensor.nbytes_after:,}", "")),
    (("bits/", "weight"), lambda tensor: (_bits(tensor.bits_per_weight), "")),
)


def _bits(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}"


def _lines(result: CheckpointConversion, width: int | None) -> Iterator[list[Part]]:
    """Yield the lines; without a width, no text is wrapped."""

    def wrapped(text: str, role: str = "") -> Iterator[list[Part]]:
        lines = [text] if width is None else textwrap.wrap(text, min(width, LONGEST_TEXT))
        yield from ([(line, role)] for line in lines)

    if result.output is None:
        yield from wrapped(printable(f"{result.source}: a dry run, nothing is written"), "title")
        yield []
        yield from _table(result).lines(width)
        yield []
        yield from wrapped(result.note, "note") if result.note else ()
    else:
        yield from wrapped(printable(f"{result.source} → {result.output}"), "title")
    for text in _totals(result):
        yield from wrapped(text)
    if result.saturated or result.nonfinite:
        lost = f"{result.saturated:,} values saturated, {result.nonfinite:,} NaN or Inf"
        yield from wrapped(lost, "lost")


def _totals(result: CheckpointConversion) -> Iterator[str]:
    counts = Counter(tensor.becomes for tensor in result.tensors)
    kinds = ", ".join(f"{count:,} {becomes}" for becomes, count in counts.items())
    yield f"{len(result.tensors):,} tensors: {kinds or 'none'}"
    before, after = result.nbytes_before, result.nbytes_after
    share = f" ({after / before:.1%})" if before else ""
    sizes = f"{byte_size(before)} before, {byte_size(after)} after{share}"
    yield f"{sizes}, {_bits(result.bits_per_weight)} bits a weight"
    files = sum(size for _, size in result.files)
    many = f"{len(result.files):,} files" if len(result.files) > 1 else "the file"
    yield f"{files:,} bytes in {many}, headers included"


def _table(result: CheckpointConversion) -> Table:
    rows = tuple(tuple(cell(tensor) for _, cell in _COLUMNS) for tensor in result.tensors)
    header = tuple(header for header, _ in _COLUMNS)
    return Table(header, rows, breaks=(header.index(("bytes", "before")),))
