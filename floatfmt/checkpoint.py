"""Read tensors out of ``.npy``, ``.npz`` and ``.safetensors`` files, one at a time.

A checkpoint in several ``.safetensors`` files, its shards, is read by its index: a JSON file that
says which tensor is in which shard. Hugging Face keeps both in one directory.

The files are somebody else's: whatever their bytes say, reading them gives arrays or a
`CheckpointError`. A header is believed only after it has been compared with the file around it, so
one that lies cannot make this module allocate, and nothing here unpickles or evaluates.

``.npy`` and ``.safetensors`` files are memory-mapped: a tensor costs memory when it is touched, not
when it is opened, and no longer than until it is released. The one thing that cannot be guarded
against is a file that shrinks while it is mapped; touching the pages that went away ends the
process (SIGBUS).
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import mmap
import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

__all__ = [
    "INDEX_SUFFIX",
    "PICKLE_SUFFIXES",
    "SAFETENSORS_DTYPES",
    "Checkpoint",
    "CheckpointError",
    "Shard",
    "open_checkpoint",
]

_ACCEPTED = ".npy, .npz and .safetensors files are read"
_PICKLE = "a pickle, and reading a pickle runs code stored in it; save it as .safetensors"
PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}

INDEX_SUFFIX = ".safetensors.index.json"
#: What a directory's checkpoint is called, in the order in which transformers looks.
_OF_A_DIRECTORY = ("model.safetensors", f"model{INDEX_SUFFIX}")
_LARGEST_INDEX = 100_000_000  # bytes; the safetensors library's limit for a header

#: What a file's first bytes make it, to say so when it is not what its suffix promised. The first
#: match counts: a .safetensors header of 640 bytes starts as a pickle does.
_CONTENTS = [
    (rb".{8}\{", ".safetensors", "a .safetensors file"),
    (rb"\x93NUMPY", ".npy", "a .npy array"),
    (rb"PK[\x03\x05]", ".npz", "a zip archive"),
    (rb"\x89PNG", "", "a PNG image"),
    (rb"\x80[\x02-\x05][^\x00]", "", "a Python pickle"),
    (rb"version https://git-lfs", "", "a Git LFS pointer (run 'git lfs pull')"),
    (rb"\s*<", "", "an HTML or XML page"),
]

SAFETENSORS_DTYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BOOL": np.dtype("?"),
    "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    **{f"I{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
}

#: NumPy writes its own raw bytes as '|V2', never as '<V2': that comes from a dtype defined outside
#: NumPy, and of those only bfloat16 has two bytes. Likewise '<f1' is ml_dtypes' E5M2 alone, but
#: '<V1' is a dozen of its types, from float8_e4m3fn to int4.
_NPY_FOREIGN: dict[str, np.dtype[Any]] = {
    "<V2": np.dtype(ml_dtypes.bfloat16),
    "<f1": np.dtype(ml_dtypes.float8_e5m2),
}
_NPY_REFUSED = {
    "O": f"Python objects, that is {_PICKLE}",
    "V": "raw bytes of no stated number format; save it as .safetensors",
}
_NPY_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # by version
_NPY_LONGEST_HEADER = 10_000  # NumPy's own limit

#: The header is a Python literal. One fixed pattern stands in for ast.literal_eval, which on
#: hostile text recurses, warns and raises a dozen ways. No two of its runs of blanks are adjacent,
#: so it cannot backtrack for long. (The L is Python 2's.)
_NPY_HEADER = re.compile(
    r"""\{(?:_*(?:
            (['"])descr\1_*:_*(['"])(?P<descr>[^'"]*)\2
          | (['"])fortran_order\4_*:_*(?P<fortran>True|False)
          | (['"])shape\6_*:_*\((?P<shape>(?:(?:_*INT_*,)+(?:_*INT)?)?)_*\)
        )_*(?:,|(?=\}))){3}_*\}_*
    """.replace("_*", r"[ \t\n]*").replace("INT", "(?:0|[1-9][0-9]{0,18})L?"),
    re.VERBOSE,
)

#: What the system, and the zip and safetensors libraries, raise over a file; a path that is no path
#: is a ValueError, and so is a CheckpointError.
_DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, SafetensorError),
)


class CheckpointError(ValueError):
    """A file or tensor that cannot be read; the message is one line that names it and says why."""


class _Tensor(NamedTuple):
    """What one tensor is, and how to get at the bytes it lies in."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int
    buffer: mmap.mmap | Callable[[], bytearray]


#: Finding a tensor may fail, and in a .npz takes reading, so it is put off until it is asked for.
_Finders: TypeAlias = dict[str, Callable[[], _Tensor]]


class Shard(NamedTuple):
    """One file of a checkpoint.

    Attributes
    ----------
    file : str
        Its name; in a sharded checkpoint, as the index gives it.
    names : tuple of str
        The tensors in it, in the file's order.
    metadata : dict of str
        What a ``.safetensors`` file says of itself.
    """

    file: str
    names: tuple[str, ...]
    metadata: dict[str, str]


class Checkpoint:
    """Tensors of one file or of shards, by name; made by `open_checkpoint`, a context manager.

    ``checkpoint[name]`` is a read-only array: a view of the memory-mapped file, or a copy of that
    one tensor where no view is possible (a member of a ``.npz``, data that its dtype's alignment
    does not allow where it lies). Arrays stay valid after the checkpoint is closed, and threads may
    read at the same time.

    Attributes
    ----------
    path : str
        The file, or the index of the shards.
    names : tuple of str
        The names of its tensors, in the order of the file or the index.
    shards : tuple of Shard
        The files; one, if there is no index.
    index : dict or None
        What an index says of the whole, ``total_size`` for one; None without an index.
    """

    def __init__(
        self,
        path: str,
        finders: _Finders,
        resources: contextlib.ExitStack,
        shards: tuple[Shard, ...],
        index: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.names = tuple(finders)
        self.shards = shards
        self.index = index
        self._finders: dict[str, Callable[[], _Tensor] | None] = {**finders}
        self._resources = resources

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._finders

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Read one tensor.

        Raises
        ------
        CheckpointError
            If there is no such tensor, it cannot be read, or the checkpoint is closed.
        """
        with _one_line(self.path, name):
            return _view(self._find(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading its data; raises as ``self[name]`` does."""
        with _one_line(self.path, name):
            return self._find(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return a tensor's dtype without reading its data; raises as ``self[name]`` does."""
        with _one_line(self.path, name):
            return self._find(name).dtype

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself; of several files, what they all say."""
        first, *others = (shard.metadata for shard in self.shards) if self.shards else ({},)
        return {
            key: value
            for key, value in first.items()
            if all(other.get(key) == value for other in others)
        }

    def release(self, name: str) -> None:
        """Let go of a tensor's memory, as far as it is a map of the file; arrays stay valid.

        The system counts pages of a map as the process's own once they have been touched. Where
        it cannot be told to let go of them, this does nothing.
        """
        with _one_line(self.path, name):
            _advise(self._find(name), "MADV_DONTNEED")

    def prefetch(self, name: str) -> None:
        """Have the system read a tensor into its cache in the background, if it can be told to."""
        with _one_line(self.path, name):
            _advise(self._find(name), "MADV_WILLNEED")

    def close(self) -> None:
        """Close the file. Arrays already read stay valid; closing twice is fine."""
        self._finders = dict.fromkeys(self.names)  # the map goes when its last view does
        self._resources.close()

    def _find(self, name: str) -> _Tensor:
        if name not in self._finders:
            raise CheckpointError(f"no such tensor among {len(self)}{_nearest(name, self.names)}")
        find = self._finders[name]
        if find is None:
            raise CheckpointError("the checkpoint is closed")
        return find()


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a file of tensors, whose suffix says how it is read, or a directory of shards.

    Parameters
    ----------
    path : str or os.PathLike
        A ``.npy`` file (one tensor, named by the file's stem), ``.npz`` or ``.safetensors`` file;
        an index of shards, ``.safetensors.index.json``; or a directory: of Hugging Face, with
        ``model.safetensors`` or else ``model.safetensors.index.json``, or any with one index or
        one ``.safetensors`` file.

    Returns
    -------
    Checkpoint
        To be used in a ``with`` statement, or closed.

    Raises
    ------
    CheckpointError
        If there is no such file, it may not be read, is of another kind, or is damaged; also if an
        index and its shards do not agree on which tensors there are.

    Notes
    -----
    bfloat16 and float8_e5m2 arrays that ``np.save`` wrote are read as what they were. The other
    ml_dtypes types all become the same ``'<V1'`` in a ``.npy`` header, and are refused.
    """
    path = os.fspath(path)
    with _one_line(path):
        path = _of_a_directory(path) if os.path.isdir(path) else path
    return _open_shards(path) if path.endswith(INDEX_SUFFIX) else _open_file(path)


def _open_file(path: str) -> Checkpoint:
    suffix = Path(path).suffix.lower()
    with _one_line(path):
        head = _head(path, suffix)
    with _one_line(path, hint=_content_hint(head, suffix)), contextlib.ExitStack() as resources:
        finders, metadata = _READERS[suffix](path, resources)
        shard = Shard(os.path.basename(path), tuple(finders), metadata)
        return Checkpoint(path, finders, resources.pop_all(), (shard,))


def _head(path: str, suffix: str) -> bytes:
    """Return the first bytes of a file of a kind that is read here."""
    _check_is_file(path)
    if suffix not in _READERS:
        why = f"is usually {_PICKLE}" if suffix in PICKLE_SUFFIXES else "is of no kind read here"
        kind = f"a {_shown(suffix)} file {why}" if suffix else "its name has no suffix"
        raise CheckpointError(f"{kind}; {_ACCEPTED}")
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError("the file is empty")
    return head


def _check_is_file(path: str) -> None:
    mode = os.stat(path).st_mode  # looked at first: opening a FIFO would wait for a writer
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"it is not a regular file; {_ACCEPTED}")


def _content_hint(head: bytes, suffix: str) -> str:
    for pattern, its_suffix, what in _CONTENTS:
        if re.match(pattern, head, re.DOTALL):
            return "" if its_suffix == suffix else f"; its content is {what}"
    return ""


@contextlib.contextmanager
def _one_line(path: str, name: str | None = None, hint: str = "") -> Iterator[None]:
    """Turn whatever is wrong with the file into one line that names it."""
    try:
        yield
    except CheckpointError as exc:
        why = str(exc)
    except MemoryError:
        why = "it does not fit in memory"
    except _DAMAGE as exc:
        text = getattr(exc, "strerror", None) or str(exc) or "it is cut short"  # as EOFErrors are
        why = f"it cannot be read: {text}"
    else:
        return
    about = path if name is None else f"{path}: tensor {_shown(name)}"
    line = " ".join(f"{about}: {why[:400]}{hint}".split())
    # Names come from the file: an escape sequence in one must not reach the terminal.
    raise CheckpointError("".join(c if c.isprintable() else "?" for c in line)) from None


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(name: str, names: tuple[str, ...]) -> str:
    """Say what was perhaps meant, in seconds at most: difflib takes up to a millisecond a name."""
    candidates = [known for known in names[:5000] if len(known) <= 100]
    close = [known for known in candidates if str(name) in known][:3]
    close = close or difflib.get_close_matches(str(name)[:100], candidates)
    shown = ", ".join(map(_shown, close or names[:3]))
    return f"; the nearest: {shown}" if close else f", such as {shown}" if names else ""


def _view(tensor: _Tensor) -> npt.NDArray[Any]:
    """Return the tensor as a read-only view of its buffer, or as a copy if it is misaligned."""
    dtype, shape, order, offset, buffer = tensor
    data = buffer if isinstance(buffer, mmap.mmap) else buffer()
    try:
        array: npt.NDArray[Any] = np.ndarray(shape, dtype, data, offset, order=order)
    except TypeError:  # how NumPy says that a buffer ends too early
        raise CheckpointError(f"it is cut short: less than {dtype} of shape {shape}") from None
    except ValueError as exc:
        raise CheckpointError(f"NumPy cannot hold {dtype} of shape {shape}: {exc}") from None
    if not array.flags.aligned:
        array = array.copy(order="K")
        _advise(tensor, "MADV_DONTNEED")
    array.flags.writeable = False
    return array


#: Linux reads no more ahead at one word than a disk takes at once, some 512 KiB.
_ADVISED_AT_ONCE = 1 << 19


def _advise(tensor: _Tensor, advice: str) -> None:
    """Say something about the pages of a map that a tensor lies on, if the system hears it."""
    dtype, shape, _, offset, buffer = tensor
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, advice):
        end = min(offset + math.prod(shape) * dtype.itemsize, len(buffer))
        for start in range(offset - offset % mmap.PAGESIZE, end, _ADVISED_AT_ONCE):
            length = min(_ADVISED_AT_ONCE, end - start)
            buffer.madvise(getattr(mmap, advice), start, length)


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


#: The tensors of a file, and its metadata.
_Contents: TypeAlias = tuple[_Finders, dict[str, str]]


def _read_safetensors(path: str, _resources: contextlib.ExitStack) -> _Contents:
    with safe_open(path, framework="np"):
        pass  # opening it checks the header, and that the tensors fill the file without overlap
    buffer = _map(path)
    start = 8 + int.from_bytes(buffer[:8], "little")
    header = json.loads(buffer[8:start].decode(), object_pairs_hook=_without_duplicates)
    try:
        metadata = dict((header.pop("__metadata__", None) or {}).items())
        return {name: _safetensor(buffer, start, e) for name, e in header.items()}, metadata
    except (AttributeError, LookupError, TypeError):
        raise CheckpointError("it changed while it was being opened") from None


def _without_duplicates(pairs: list[tuple[str, Any]], what: str = "its header") -> dict[str, Any]:
    """Refuse what the safetensors library lets pass: of two equal names it forgets the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CheckpointError(f"{what} has the same name twice")
    return found


def _safetensor(buffer: mmap.mmap, start: int, entry: dict[str, Any]) -> Callable[[], _Tensor]:
    code, shape = entry["dtype"], tuple(entry["shape"])
    offset = start + entry["data_offsets"][0]

    def find() -> _Tensor:
        dtype = SAFETENSORS_DTYPES.get(code)
        if dtype is None:  # its elements are less than a byte, so NumPy has no dtype for it
            known = ", ".join(SAFETENSORS_DTYPES)
            raise CheckpointError(f"dtype {code} is not read, but {known} are")
        return _Tensor(dtype, shape, "C", offset, buffer)

    return find


def _read_npy(path: str, _resources: contextlib.ExitStack) -> _Contents:
    buffer = _map(path)
    tensor = _npy(buffer.read, len(buffer))._replace(buffer=buffer)
    return {Path(path).stem: lambda: tensor}, {}


def _read_npz(path: str, resources: contextlib.ExitStack) -> _Contents:
    with open(path, "rb") as file:  # zipfile would also find an archive after, say, an image
        if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise CheckpointError("it does not start as a zip archive does")
    archive = resources.enter_context(zipfile.ZipFile(path))
    lock = threading.Lock()  # ZipFile counts its open members without one
    finders: _Finders = {
        info.filename.removesuffix(".npy"): partial(_npz_member, archive, info, lock)
        for info in archive.infolist()
    }
    if len(finders) < len(archive.infolist()):
        raise CheckpointError("two of its members have the same name")
    return finders, {}


def _npz_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, lock: threading.Lock) -> _Tensor:
    # np.savez writes these two; the others can ask for gigabytes to unpack a few bytes.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"zip compression {info.compress_type} is not one of NumPy's")
    with lock, archive.open(info) as stream:
        tensor = _npy(stream.read, info.file_size)

    def unpacked() -> bytearray:
        data = bytearray()  # grows as bytes really come out, whatever was promised
        with lock, archive.open(info) as stream:
            stream.read(tensor.offset)
            while chunk := stream.read(1 << 20):
                data += chunk
        return data

    return tensor._replace(offset=0, buffer=unpacked)


def _npy(read: Callable[[int], bytes], size: int) -> _Tensor:
    """Parse a .npy header and check that the array it describes fills the rest of `size` bytes."""
    magic, version = read(6), read(2)
    if magic != b"\x93NUMPY" or version not in _NPY_LENGTH_BYTES:
        raise CheckpointError("it does not start as a .npy array of version 1.0, 2.0 or 3.0 does")
    length_bytes = _NPY_LENGTH_BYTES[version]
    length = int.from_bytes(read(length_bytes), "little")
    if length > _NPY_LONGEST_HEADER:
        raise CheckpointError(f"its header claims to be {length} bytes long")
    text = read(length).decode("latin-1")
    if len(text) < length:
        raise CheckpointError("it is cut short in its header")
    tensor = _npy_tensor(text, 8 + length_bytes + length)
    have, need = size - tensor.offset, math.prod(tensor.shape) * tensor.dtype.itemsize
    if have != need:
        short = "it is cut short: " if have < need else ""
        what = f"{tensor.dtype} of shape {tensor.shape}"
        raise CheckpointError(f"{short}the {have} bytes after its header are not {what}")
    return tensor


def _npy_tensor(header: str, offset: int) -> _Tensor:
    match = _NPY_HEADER.fullmatch(header)
    if match is None or None in match.groups():
        raise CheckpointError(f"its header is not that of a plain array: {_shown(header.strip())}")
    descr, fortran, shape = match.group("descr", "fortran", "shape")
    sizes = tuple(map(int, re.findall("[0-9]+", shape)))
    order: Literal["C", "F"] = "F" if fortran == "True" else "C"
    return _Tensor(_npy_dtype(descr), sizes, order, offset, bytearray)


def _npy_dtype(descr: str) -> np.dtype[Any]:
    if descr in _NPY_FOREIGN:
        return _NPY_FOREIGN[descr]
    with contextlib.suppress(TypeError):  # a size that NumPy does not have here
        if re.fullmatch(r"[<>|=]?[biufc][1-9]\d?", descr, re.ASCII):
            return np.dtype(descr)
    what = _NPY_REFUSED.get(descr.lstrip("<>|=")[:1], "no numbers of a kind that NumPy has here")
    raise CheckpointError(f"it holds {what} (dtype {_shown(descr)})")


_READERS: dict[str, Callable[[str, contextlib.ExitStack], _Contents]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}


# --- directories and shards ---------------------------------------------------------------------


def _of_a_directory(directory: str) -> str:
    """Return the file or index of a directory that is its checkpoint, if it is clear which."""
    files = sorted(os.listdir(directory))
    for wanted in (
        *([name] for name in _OF_A_DIRECTORY),
        [name for name in files if name.endswith(INDEX_SUFFIX)],
        [name for name in files if name.endswith(".safetensors")],
    ):
        found = [name for name in wanted if name in files]
        if len(found) == 1:
            return os.path.join(directory, found[0])
        if found:
            raise CheckpointError(
                f"it is a directory with {len(found)} checkpoints; name one: "
                + ", ".join(map(_shown, found[:3]))
            )
    pickles = [name for name in files if Path(name).suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        raise CheckpointError(f"it is a directory of pickles; {_shown(pickles[0])} is {_PICKLE}")
    raise CheckpointError(f"it is a directory without a .safetensors file; {_ACCEPTED}")


def _open_shards(path: str) -> Checkpoint:
    with _one_line(path), contextlib.ExitStack() as resources:
        files, index = _index(path)
        shards = {}
        for file in dict.fromkeys(files.values()):
            shards[file] = resources.enter_context(_open_shard(path, file))
        finders: _Finders = {}
        for name, file in files.items():
            if name not in shards[file]:
                raise CheckpointError(f"{_shown(file)} has no tensor {_shown(name)}")
            finders[name] = partial(shards[file]._find, name)
        for file, shard in shards.items():
            for name in shard:
                if files.get(name) != file:  # its data would be lost in whatever is made of it
                    raise CheckpointError(
                        f"tensor {_shown(name)} of {_shown(file)} is not there by the index"
                    )
        described = tuple(shard.shards[0]._replace(file=file) for file, shard in shards.items())
        return Checkpoint(path, finders, resources.pop_all(), described, index)


def _index(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return which file each tensor is in, and what the index says of the whole."""
    _check_is_file(path)
    if os.path.getsize(path) > _LARGEST_INDEX:
        raise CheckpointError(f"the index has more than {_LARGEST_INDEX} bytes")
    with open(path, encoding="utf-8") as file:
        hook = partial(_without_duplicates, what="the index")
        content = json.load(file, object_pairs_hook=hook)
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise CheckpointError("it is no index: it has no weight_map")
    if not files:
        raise CheckpointError("its weight_map names no tensor")
    for file in files.values():
        if not isinstance(file, str) or not file:
            raise CheckpointError(f"{_shown(file)} is no name of a file")
    metadata = content.get("metadata", {})
    return files, metadata if isinstance(metadata, dict) else {}


def _open_shard(path: str, file: str) -> Checkpoint:
    """Open a shard; its name comes from the index, and must not lead out of the directory.

    A link may: the cache of huggingface_hub is made of links.
    """
    if PureWindowsPath(file).anchor or ".." in re.split(r"[/\\]", file):
        raise CheckpointError(f"{_shown(file)} is not in the directory of the index")
    suffix = Path(file).suffix.lower()
    if suffix != ".safetensors":
        kind = f"usually {_PICKLE}" if suffix in PICKLE_SUFFIXES else "no .safetensors file"
        raise CheckpointError(f"the shard {_shown(file)} is {kind}")
    whole = os.path.join(os.path.dirname(path), file)
    if not os.path.exists(whole):
        raise CheckpointError(f"the shard {_shown(file)} is not there")
    return _open_file(whole)
