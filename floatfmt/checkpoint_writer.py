"""Write ``.safetensors`` files and directories of them: whole under their name, or not at all.

What is being written stands beside it, under its name and ``.floatfmt-part``, and takes its place
when it is complete and on the disk. A process that is killed leaves that behind, and the next one
overwrites it; two at once are kept apart by a lock that the system lets go of when a process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import SAFETENSORS_DTYPES, CheckpointError

__all__ = ["CheckpointWriteError", "Layout", "copy_file", "new_directory", "new_file", "write_text"]

_CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
#: Where the data starts, so that with the order below no tensor is misaligned.
_ALIGNMENT = 8
#: The safetensors library reads no longer header.
_LONGEST_HEADER = 100_000_000
#: Bytes a call writes: between two calls Ctrl-C is heard.
_CHUNK = 1 << 26


class CheckpointWriteError(OSError):
    """A file that cannot be written; the message is one line that names it and says why."""

    def __str__(self) -> str:
        return str(self.strerror)


class Layout:
    """Where each tensor of a ``.safetensors`` file lies, known before there is any data.

    Parameters
    ----------
    tensors : mapping
        The dtype and shape of each tensor, by name.
    metadata : dict of str
        What the file says of itself; may be changed until the header is made.
    spare : int
        Bytes that the metadata may grow by until then.

    Attributes
    ----------
    nbytes : int
        The size of the file.
    start : int
        Where the data starts.
    offsets : dict
        Where each tensor starts, counted from there.

    Raises
    ------
    ValueError
        A dtype has no name in this kind of file, or the header is too long for the safetensors
        library.

    Notes
    -----
    Tensors stand in the order of their element size, the largest first, and else as given: the
    file may have no gaps, and so every tensor is aligned.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.checkpoint_writer import Layout
    >>> layout = Layout({"a": (np.dtype("i1"), (3,)), "b": (np.dtype("f4"), (2,))}, {})
    >>> layout.offsets, layout.nbytes - layout.start
    ({'b': 0, 'a': 8}, 11)
    """

    def __init__(
        self,
        tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
        metadata: dict[str, str],
        spare: int = 0,
    ) -> None:
        order = sorted(tensors, key=lambda name: -tensors[name][0].itemsize)
        self.tensors = {name: tensors[name] for name in order}
        self.metadata = metadata
        self.offsets: dict[str, int] = {}
        end = 0
        for name, (dtype, shape) in self.tensors.items():
            if name == "__metadata__" or dtype.newbyteorder("=") not in _CODES:
                what = "this name" if name == "__metadata__" else dtype
                raise ValueError(f"tensor {name!r}: .safetensors files have no place for {what}")
            self.offsets[name] = end
            end += math.prod(shape) * dtype.itemsize
        length = len(self._header()) + spare
        self.start = -(-(8 + length) // _ALIGNMENT) * _ALIGNMENT
        self.nbytes = self.start + end
        if self.start - 8 > _LONGEST_HEADER:
            raise ValueError(f"{len(tensors):,} tensors need a header longer than is ever read")

    def _header(self) -> bytes:
        entries: dict[str, Any] = {"__metadata__": self.metadata} if self.metadata else {}
        for name, (dtype, shape) in self.tensors.items():
            start = self.offsets[name]
            entries[name] = {
                "dtype": _CODES[dtype.newbyteorder("=")],
                "shape": list(shape),
                "data_offsets": [start, start + math.prod(shape) * dtype.itemsize],
            }
        return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()

    def header(self) -> bytes:
        """Return the bytes before the data, padded with blanks as the format allows."""
        header = self._header().ljust(self.start - 8)
        if len(header) > self.start - 8:
            raise ValueError("the metadata has grown beyond the room that was left for it")
        return len(header).to_bytes(8, "little") + header


class Writer:
    """A file that is being written, made by `new_file`: takes the tensors in any order."""

    def __init__(self, path: Path, layout: Layout, descriptor: int) -> None:
        self._path = path
        self._layout = layout
        self._descriptor = descriptor
        self._missing = set(layout.tensors)

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one tensor.

        Raises
        ------
        ValueError
            There is no such tensor, it was written already, or its dtype or shape is another.
        CheckpointWriteError
            The disk is full, or whatever else the system says.
        """
        if name not in self._missing:
            raise ValueError(f"{name!r} is no tensor that is still to be written")
        dtype, shape = self._layout.tensors[name]
        if array.dtype.newbyteorder("=") != dtype.newbyteorder("=") or array.shape != shape:
            raise ValueError(
                f"tensor {name!r} is to be {dtype} of shape {shape}, but is {array.dtype} of"
                f" shape {array.shape}"
            )
        data = np.require(array, dtype.newbyteorder("<"), "C").reshape(-1).view(np.uint8)
        with _named(self._path):
            _write(self._descriptor, data.data, self._layout.start + self._layout.offsets[name])
        self._missing.remove(name)

    def finish(self) -> None:
        """Write the header and wait until all is on the disk."""
        if self._missing:
            raise ValueError(f"{len(self._missing)} tensors were not written")
        with _named(self._path):
            _write(self._descriptor, memoryview(self._layout.header()), 0)
            os.fsync(self._descriptor)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data[:_CHUNK], offset)
        data, offset = data[written:], offset + written


@contextlib.contextmanager
def new_file(
    path: str | os.PathLike[str], layout: Layout, *, overwrite: bool = False
) -> Iterator[Writer]:
    """Make a ``.safetensors`` file, which is there when the ``with`` block ends without an error.

    Parameters
    ----------
    path : str or os.PathLike
        Its name.
    layout : Layout
        What is in it.
    overwrite : bool
        Whether it may replace a file of that name.

    Raises
    ------
    CheckpointError
        There is such a file, and `overwrite` is false.
    CheckpointWriteError
        The disk has not the room, which is known before any data is written where the system
        reserves room; somebody else is writing the file; the system says no.
    """
    final = _real(path)
    with _named(final):
        _check_absent(final, overwrite)
        part = _part(final)
        descriptor = _claimed(final, part, os.O_RDWR | os.O_CREAT)
    try:
        with _named(final, layout.nbytes):
            os.ftruncate(descriptor, 0)
            _reserve(descriptor, layout.nbytes)
        writer = Writer(final, layout, descriptor)
        yield writer
        writer.finish()
        with _named(final):
            _check_absent(final, overwrite)
            os.replace(part, final)
            _sync_directory(final.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_directory(
    path: str | os.PathLike[str], files: Iterable[str], nbytes: int, *, overwrite: bool = False
) -> Iterator[Path]:
    """Yield a directory to write to, which is there as `path` when the ``with`` block ends well.

    Parameters
    ----------
    path : str or os.PathLike
        Its name.
    files : iterable of str
        The files that will be in it.
    nbytes : int
        How many bytes they will have together.
    overwrite : bool
        Whether it may replace a directory of that name. One that holds more than checkpoints and
        files of the same names is refused even so.

    Raises
    ------
    CheckpointError
        There is such a directory, and it is not to be replaced.
    CheckpointWriteError
        The disk has not the room, somebody else is writing it, or the system says no.
    """
    final = _real(path)
    part, old = _part(final), final.with_name(f"{final.name}.floatfmt-old")
    with _named(final):
        part.mkdir(exist_ok=True)
        descriptor = _claimed(final, part, os.O_RDONLY)
    try:
        with _named(final, nbytes):
            _put_back(old, final)  # should one have been killed between the two renames below
            _check_absent(final, overwrite, set(files))
            for leftover in part.iterdir():
                _remove(leftover)
            if shutil.disk_usage(part).free < nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield part
        with _named(final):
            for directory in (part, *(inner for inner in part.rglob("*") if inner.is_dir())):
                _sync_directory(directory)
            _check_absent(final, overwrite, set(files))
            if final.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.rename(final, old)
            os.rename(part, final)
            _sync_directory(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        _put_back(old, final)
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, and wait until it is on the disk."""
    with _named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, "rb") as content, open(target, "wb") as file:
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())


def write_text(target: Path, text: str) -> None:
    """Write a small file, and wait until it is on the disk."""
    with _named(target), open(target, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


# --- names, locks and room ----------------------------------------------------------------------


def _real(path: str | os.PathLike[str]) -> Path:
    """Return where a name leads: what a link points to is replaced, not the link."""
    return Path(os.path.realpath(path))


def _part(final: Path) -> Path:
    return final.with_name(f"{final.name}.floatfmt-part")


def _put_back(old: Path, final: Path) -> None:
    if old.exists() and not final.exists():
        os.rename(old, final)


@contextlib.contextmanager
def _named(path: Path, nbytes: int | None = None) -> Iterator[None]:
    """Turn what the system says into one line with the file's name."""
    try:
        yield
    except CheckpointWriteError:
        raise
    except OSError as exc:
        why = exc.strerror or str(exc)
        if nbytes is not None and exc.errno == errno.ENOSPC:
            free = shutil.disk_usage(path.parent).free
            why += f": it takes {nbytes:,} bytes, and {free:,} are free"
        raise CheckpointWriteError(exc.errno, f"{path}: it cannot be written: {why}") from None


def _check_absent(final: Path, overwrite: bool, files: set[str] | None = None) -> None:
    """Refuse to replace what is there, unless it is meant and nothing else is lost with it."""
    if not os.path.lexists(final):
        return
    if final.is_dir() != (files is not None):
        what = "directory" if final.is_dir() else "file"
        raise CheckpointError(f"{final}: it is a {what} that is there already; choose another name")
    if not overwrite:
        raise CheckpointError(f"{final}: it is there already; overwrite replaces it")
    for found in final.rglob("*") if files is not None else ():
        name = found.relative_to(final).as_posix()
        is_checkpoint = found.parent == final and ".safetensors" in found.name
        if not (found.is_dir() or is_checkpoint or name in (files or ())):
            raise CheckpointError(f"{final}: {name!r} in it would be lost; move it away first")


def _claimed(final: Path, part: Path, flags: int) -> int:
    """Open and lock what is written to before it has its name; the lock ends with the process."""
    while True:
        descriptor = os.open(part, flags | os.O_NOFOLLOW, 0o666)
        try:
            _lock(descriptor, final)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(part)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever had the lock has given the file its name, or removed it
        if not flags & os.O_CREAT:
            part.mkdir(exist_ok=True)


def _lock(descriptor: int, final: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"{final}: it is being written by another process"
        raise CheckpointWriteError(errno.EWOULDBLOCK, message) from None
    except OSError as exc:  # a file system without locks
        if exc.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise


def _reserve(descriptor: int, nbytes: int) -> None:
    """Give a file its size, with its room on the disk where the system can reserve that."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as exc:  # a file system that cannot
            if exc.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
    os.ftruncate(descriptor, nbytes)


def _sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
