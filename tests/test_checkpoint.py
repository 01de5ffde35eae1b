"""Reading tensors out of files that may be damaged, or written to do damage."""

from __future__ import annotations

import gc
import gzip
import io
import json
import mmap
import os
import pickle
import struct
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from floatfmt import checkpoint
from floatfmt.checkpoint import Checkpoint, CheckpointError, open_checkpoint

MATRIX = np.arange(6, dtype="<f4").reshape(2, 3)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_of(header: str | bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + header + data


def npy_saying(descr: str, shape: str = "(2,)", data: bytes = bytes(8)) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    return npy_of(header.ljust(117) + "\n", data)  # 128 bytes with what stands before it


def npz(save: Callable[..., None] = np.savez, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, **lies: Any) -> bytes:
    """Return a zip archive whose directory says what `lies` says of its first member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
        for field, lie in lies.items():
            setattr(archive.filelist[0], field, lie)
    return buffer.getvalue()


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def st_of(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def deserialized(content: bytes) -> dict[str, dict[str, Any]]:
    return dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]


def known_to_the_library(content: bytes) -> bytes:
    """Return a valid file; older versions of the library refuse all of one that has a new dtype."""
    try:
        deserialized(content)
    except safetensors.SafetensorError as exc:
        pytest.skip(str(exc))
    return content


def read_all(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as found:
        return {name: found[name] for name in found}


def refusal(path: str | os.PathLike[str], act: Callable[[], object] | None = None) -> str:
    """Return why `path` was refused, having checked that it is one printable line naming it."""
    with pytest.raises(CheckpointError) as caught:
        act() if act else read_all(path)
    message = str(caught.value)
    assert message.isprintable()
    assert not message.rstrip().endswith(":")
    assert message.startswith("".join(c if c.isprintable() else "?" for c in os.fspath(path)))
    assert len(message) < len(os.fspath(path)) + 700
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return message.removeprefix(os.fspath(path))


def peak_memory(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# What is read


ARRAYS = {
    "matrix": MATRIX,
    "fortran": np.asfortranarray(MATRIX),
    "scalar": np.array(1.5, "<f2"),
    "empty": np.zeros((0, 3), "<f8"),
    "integers": np.arange(-3, 3, dtype="<i8"),
    "bytes": np.arange(5, dtype="u1"),
    "truths": np.array([True, False, True]),
    "complex": np.array([1 + 2j], "<c8"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_npy_file_is_one_read_only_tensor_named_by_its_stem(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.NPY"
    path.write_bytes(npy(ARRAYS[name]))
    with open_checkpoint(path) as found:
        assert (found.path, found.names, list(found), len(found)) == (str(path), (name,), [name], 1)
        array = found[name]
        assert (found.dtype(name), found.shape(name)) == (array.dtype, array.shape)
    np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
    assert array.flags.f_contiguous == ARRAYS[name].flags.f_contiguous
    assert not array.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_npz_file_gives_its_members_one_at_a_time(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "all.npz"
    path.write_bytes(npz(save, **ARRAYS))
    with open_checkpoint(path) as found:
        assert found.names == tuple(ARRAYS)
        for name, expected in ARRAYS.items():
            assert (found.dtype(name), found.shape(name)) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found[name], expected, strict=True)
            assert not found[name].flags.writeable


def test_a_safetensors_file_gives_views_of_the_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    arrays = {name: np.asarray(a, order="C") for name, a in ARRAYS.items() if name != "complex"}
    safetensors.numpy.save_file(arrays, path, {"written": "by a test"})
    with open_checkpoint(path) as found:
        assert set(found) == set(arrays)
        for name, expected in arrays.items():
            np.testing.assert_array_equal(found[name], expected, strict=True)
            assert isinstance(found[name].base, mmap.mmap)
            assert not found[name].flags.writeable
        assert np.shares_memory(found["matrix"], found["matrix"])


@pytest.mark.parametrize("code", sorted(checkpoint.SAFETENSORS_DTYPES))
def test_every_safetensors_dtype_keeps_its_bytes(tmp_path: Path, code: str) -> None:
    dtype = checkpoint.SAFETENSORS_DTYPES[code]
    data = bytes(i % 2 for i in range(3 * dtype.itemsize))
    path = tmp_path / "t.safetensors"
    path.write_bytes(known_to_the_library(st_of({"t": tensor(code, [3], [0, len(data)])}, data)))
    array = read_all(path)["t"]
    assert (array.dtype, array.shape, array.tobytes()) == (dtype, (3,), data)


def test_safetensors_codes_mean_what_the_library_writes_for_the_same_numpy_dtypes() -> None:
    for code, dtype in checkpoint.SAFETENSORS_DTYPES.items():
        if code not in ("C64", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"):  # not in every version
            (info,) = deserialized(safetensors.numpy.save({"t": np.ones(1, dtype)})).values()
            assert info["dtype"] == code


def test_a_packed_dtype_is_refused_only_when_its_tensor_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    header = {"packed": tensor("F4", [16]), "plain": tensor(offsets=[8, 16])}
    path.write_bytes(known_to_the_library(st_of(header, bytes(16))))
    with open_checkpoint(path) as found:
        assert found["plain"].tolist() == [0, 0]
        for act in (lambda: found["packed"], lambda: found.dtype("packed")):
            message = refusal(path, act)
            assert "tensor 'packed': dtype F4 is not read" in message
            assert "BF16" in message


def test_a_big_endian_array_stays_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(npy(MATRIX.astype(">f4")))
    np.testing.assert_array_equal(read_all(path)["t"], MATRIX.astype(">f4"), strict=True)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_numpy_files_of_the_two_types_it_tells_apart_are_read(
    tmp_path: Path, dtype: Any, suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(npy(MATRIX.astype(dtype)) if suffix == ".npy" else npz(t=MATRIX.astype(dtype)))
    array = read_all(path)["t"]
    assert array.dtype == dtype
    assert array.astype("f4").tolist() == MATRIX.tolist()


def test_only_bfloat16_and_e5m2_have_a_npy_dtype_of_their_own() -> None:
    """What reading '<V2' as bfloat16 rests on; a new type of ml_dtypes may end it."""
    types = [getattr(ml_dtypes, name) for name in dir(ml_dtypes)]
    dtypes = {np.dtype(t) for t in types if isinstance(t, type) and issubclass(t, np.generic)}
    written: dict[str, set[str]] = {}
    for dtype in dtypes:
        written.setdefault(dtype.str, set()).add(dtype.name)
    assert written["<V2"] == {"bfloat16"}
    assert written["<f1"] == {"float8_e5m2"}
    assert len(written["<V1"]) > 1
    assert np.dtype("<V2").str == np.dtype("V2").str == "|V2"


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.int4, "V2", "V8"])
def test_bytes_that_may_be_of_several_formats_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(npy(np.zeros(2, dtype)))
    assert "raw bytes of no stated number format; save it as .safetensors" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        npy_of("{'shape': (2L, 1L), 'descr': '<f4', 'fortran_order': False}", bytes(8)),
        npy_of('{"descr":"<f4","fortran_order":True,"shape":(2,1)}', bytes(8), b"\x02\x00"),
        npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1)}", bytes(8), b"\x03\x00"),
    ],
)
def test_headers_that_other_programs_write_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_all(path)["t"], np.zeros((2, 1), "<f4"), strict=True)


@pytest.mark.parametrize("padding", range(4))
def test_misaligned_tensors_come_as_aligned_copies(tmp_path: Path, padding: int) -> None:
    files = {
        "t.npy": npy_of(
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}" + " " * padding,
            MATRIX.tobytes("F"),
        ),
        "t.safetensors": st_of(
            json.dumps({"t": tensor("F32", [2, 3], [0, 24])}).encode() + b" " * padding,
            MATRIX.tobytes(),
        ),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        array = read_all(tmp_path / name)["t"]
        np.testing.assert_array_equal(array, MATRIX, strict=True)
        assert array.flags.aligned
        assert array.flags.f_contiguous == (name == "t.npy")
        assert not array.flags.writeable


def test_a_file_larger_than_memory_opens_at_once(tmp_path: Path) -> None:
    path, size = tmp_path / "big.npy", 1 << 33
    path.write_bytes(npy_saying("<f4", f"({size // 4},)", b""))
    os.truncate(path, path.stat().st_size + size)

    def act() -> None:
        array = read_all(path)["big"]
        assert array.shape == (size // 4,)
        assert array[-1] == 0

    assert peak_memory(act) < 1 << 20


def test_the_shape_of_a_npz_member_is_known_without_unpacking_it(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(npz(np.savez_compressed, t=np.zeros(1 << 23)))
    with open_checkpoint(path) as found:
        assert peak_memory(lambda: (found.shape("t"), found.dtype("t"))) < 1 << 20


KINDS = {
    ".npy": npy(MATRIX),
    ".npz": npz(a=MATRIX, b=np.array(2.0)),
    ".safetensors": safetensors.numpy.save({"a": MATRIX, "b": MATRIX.astype(ml_dtypes.bfloat16)}),
}


@pytest.fixture(params=KINDS)
def valid(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"a{request.param}"
    path.write_bytes(KINDS[request.param])
    return path


def test_arrays_outlive_the_checkpoint_which_then_says_that_it_is_closed(valid: Path) -> None:
    with open_checkpoint(valid) as found:
        array = found["a"]
    found.close()
    assert array.tolist() == MATRIX.tolist()
    assert "a" in found
    for act in (lambda: found["a"], lambda: found.shape("a"), lambda: found.dtype("a")):
        assert "tensor 'a': the checkpoint is closed" in refusal(valid, act)


def open_below(folder: Path) -> list[str]:
    """Return this process's open files in a folder: other libraries' threads may open others."""
    gc.collect()  # pytest's records of exceptions refer to themselves
    files = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [file for file in files if file.startswith(f"{folder.resolve()}/")]


asks_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux")


@asks_linux
def test_no_file_stays_open_after_the_last_array_is_gone(valid: Path) -> None:
    found = open_checkpoint(valid)
    array = found["a"]
    found.close()
    assert len(open_below(valid.parent)) == isinstance(array.base, mmap.mmap)
    del array
    assert open_below(valid.parent) == []
    valid.unlink()
    valid.write_bytes(KINDS[valid.suffix][:-1])
    refusal(valid)
    assert open_below(valid.parent) == []


def test_threads_read_the_same_checkpoint_at_once(tmp_path: Path) -> None:
    arrays = {f"t{i}": np.full(1000, i, "<f4") for i in range(20)}
    (tmp_path / "t.npz").write_bytes(npz(np.savez_compressed, **arrays))
    safetensors.numpy.save_file(arrays, tmp_path / "t.safetensors")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for path in tmp_path.iterdir():
            with open_checkpoint(path) as found, ThreadPoolExecutor(8) as pool:
                for name, array in zip(
                    [*arrays] * 20, pool.map(found.__getitem__, [*arrays] * 20), strict=True
                ):
                    assert array.tobytes() == arrays[name].tobytes()
    finally:
        sys.setswitchinterval(interval)


def test_an_unknown_name_is_answered_with_the_nearest_and_their_number(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    names = ["layers.0.up.weight", "layers.1.up.weight", "head", "x" * 199]
    safetensors.numpy.save_file(dict.fromkeys(names, MATRIX), path)
    with open_checkpoint(path) as found:
        assert "head" in found
        assert "nope" not in found
        message = refusal(path, lambda: found["layers.0.up.wieght"])
        assert "tensor 'layers.0.up.wieght': no such tensor among 4; the nearest: " in message
        assert "nearest: 'layers.0.up.weight', 'layers.1.up.weight'" in message
        for far in ("nope", "x" * 198, "x" * 100_000):  # of long names, none is compared
            message = refusal(path, lambda far=far: found[far])  # type: ignore[misc]
            assert "no such tensor among 4, such as '" in message
        assert "no such tensor among 4" in refusal(path, lambda: found[0])  # type: ignore[index]


def test_a_file_without_tensors_is_an_empty_checkpoint(tmp_path: Path) -> None:
    for name, content in {"t.npz": zip_of(), "t.safetensors": st_of({})}.items():
        (tmp_path / name).write_bytes(content)
        with open_checkpoint(tmp_path / name) as found:
            assert len(found) == 0
            message = refusal(tmp_path / name, lambda found=found: found["a"])  # type: ignore[misc]
            assert message.endswith("tensor 'a': no such tensor among 0")


# What is refused


def test_what_is_not_a_readable_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(tmp_path / "none.npy") == ": it cannot be read: No such file or directory"
    (tmp_path / "empty.npz").touch()
    assert refusal(tmp_path / "empty.npz") == ": the file is empty"
    assert "it is a directory without a .safetensors file; .npy, .npz" in refusal(tmp_path)
    for path in ("nul\0.npy", "surrogate\ud800.npy"):
        assert "it cannot be read: " in refusal(path)
    (tmp_path / "t.npy").write_bytes(KINDS[".npy"])

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "open", denied, raising=False)
    assert refusal(tmp_path / "t.npy") == ": it cannot be read: Permission denied"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    assert "it is not a regular file" in refusal(tmp_path / "pipe.npy")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".PT"])
def test_pickles_are_refused_with_the_reason(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps({"a": 1}))
    message = refusal(path)
    what = f"a '{suffix.lower()}' file is usually a pickle"
    assert f"{what}, and reading a pickle runs code" in message
    assert ".npy, .npz and .safetensors files are read" in message


@pytest.mark.parametrize("suffix", ["", ".gguf", ".json", ".safetensor"])
def test_other_suffixes_are_refused_with_what_is_accepted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(KINDS[".safetensors"])
    what = f"a '{suffix}' file is of no kind read here" if suffix else "its name has no suffix"
    assert f"{what}; .npy, .npz and " in refusal(path)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (pickle.dumps(list(range(50))), "a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>404</html>", "an HTML or XML page"),
        (KINDS[".npy"], "a .npy array"),
        (KINDS[".npz"], "a zip archive"),
        (KINDS[".safetensors"], "a .safetensors file"),
        (gzip.compress(b"something", mtime=0), ""),
        (b"", ""),
        (b"\x00", ""),
    ],
)
def test_a_wrong_suffix_is_refused_with_what_the_content_is(
    tmp_path: Path, suffix: str, content: bytes, what: str
) -> None:
    if content == KINDS[suffix]:
        return
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    message = refusal(path)
    assert f"; its content is {what}" in message if what else "; its content" not in message


STRUCTURED = np.zeros(2, [("x", "<f4"), ("y", "<i4")])
HOSTILE_NPY = {
    "python objects": (npy(np.array([{}], object)), "Python objects, that is a pickle"),
    "structured dtype": (npy(STRUCTURED), "its header is not that of a plain array"),
    "text": (npy(np.array(["ab"])), "no numbers of a kind that NumPy has"),
    "dates": (npy(np.zeros(1, "M8[s]")), "no numbers of a kind that NumPy has"),
    "unknown size": (npy_saying("<f3"), "no numbers of a kind that NumPy has"),
    "subarray": (npy_saying("(2,)f4"), "no numbers of a kind that NumPy has"),
    "no size": (npy_saying("<f"), "no numbers of a kind that NumPy has"),
    "deprecated code": (npy_saying("a8"), "no numbers of a kind that NumPy has"),
    "shape too large": (npy_saying("<f4", f"({1 << 50},)"), "it is cut short: the 8 bytes"),
    "shape overflow": (npy_saying("<f4", f"({1 << 62}, 4, {1 << 62})"), "it is cut short"),
    "overflow to zero": (npy_saying("<f4", f"({1 << 62}, {1 << 62}, 0)", b""), "NumPy cannot hold"),
    "too many axes": (npy_saying("<f4", f"({'1, ' * 99}2)"), "NumPy cannot hold float32"),
    "thousands of axes": (npy_saying("<f4", f"({'9999, ' * 1600})"), "it is cut short"),
    "shape too small": (npy_saying("<f4", "(1,)"), "the 8 bytes after its header are not float32"),
    "negative shape": (npy_saying("<f4", "(-2,)"), "its header is not that of a plain array"),
    "shape not whole": (npy_saying("<f4", "(2.0,)"), "its header is not that of a plain array"),
    "endless digits": (npy_saying("<f4", f"({'9' * 5000},)"), "not that of a plain array"),
    "two arrays": (KINDS[".npy"] * 2, "bytes after its header are not float32 of shape (2, 3)"),
    "version 9": (npy_of("{}", version=b"\x09\x00"), "does not start as a .npy array of version"),
    "huge header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "claims to be 4294967295 bytes long"),
    "long header": (npy_of(" " * 20_000), "claims to be 20000 bytes long"),
    "cut header": (KINDS[".npy"][:60], "it is cut short in its header"),
    "no header": (npy_of(b""), "its header is not that of a plain array: ''"),
    "code": (npy_of("__import__('os').abort()"), "not that of a plain array"),
    "nesting": (npy_of("(" * 9000), "not that of a plain array"),
    "signs": (npy_of("{'descr': " + "-" * 9000), "not that of a plain array"),
    "escape": (npy_of("{'descr': '\\d', 'fortran_order': 1if 2else 3}"), "not that of a plain"),
    "control": (npy_of("\x1b[31m\n"), "not that of a plain array"),
    "not text": (npy_of(b"\xff\xfe\x00" * 9, version=b"\x03\x00"), "not that of a plain array"),
    "two descrs": (
        npy_of("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", bytes(8)),
        "not that of a plain array",
    ),
    "no descr": (npy_of("{'fortran_order': False, 'shape': (2,), }"), "not that of a plain array"),
}

NPZ = KINDS[".npz"]
MEMBER = ("a.npy", KINDS[".npy"])
#: A member of which its own header claims a tebibyte, as the zip's directory may do too.
BOMB = ("a.npy", npy_saying("|u1", f"({(1 << 40) - 128},)", bytes(1000)))
HOSTILE_NPZ = {
    "lying header": (zip_of(BOMB), "tensor 'a': it is cut short: the 1000 bytes after its header"),
    "lying directory": (zip_of(BOMB, file_size=1 << 40), "it is cut short: less than"),
    "lying twice": (zip_of(BOMB, file_size=1 << 40, compress_size=1 << 40), "it cannot be read"),
    "lying and deflated": (zip_of(BOMB, method=8, file_size=1 << 40), "it is cut short: less"),
    "lying beyond 2**63": (zip_of(MEMBER, file_size=(1 << 64) - 1), "bytes after its header are"),
    "offset past the end": (zip_of(MEMBER, header_offset=1 << 20), "it cannot be read"),
    "offset past all ends": (zip_of(MEMBER, header_offset=1 << 62), "it cannot be read"),
    "offset beyond 2**63": (zip_of(MEMBER, header_offset=(1 << 64) - 1), "it cannot be read"),
    "bad checksum": (zip_of(MEMBER, CRC=1), "it cannot be read: Bad CRC-32"),
    "flipped data": (NPZ.replace(MATRIX.tobytes(), MATRIX.tobytes()[::-1]), "Bad CRC-32"),
    "encrypted": (zip_of(MEMBER, flag_bits=1), "encrypted"),
    "bad local header": (NPZ[:4] + NPZ[4:].replace(b"PK\x03\x04", b"PK\x00\x00"), "Bad magic"),
    "after an image": (b"\x89PNG" + NPZ, "not start as a zip archive does; its content is a PNG"),
    "renamed": (NPZ.replace(b"a.npy", b"z.npy", 1), "File name in directory"),
    "lzma": (zip_of(MEMBER, method=zipfile.ZIP_LZMA), "zip compression 14 is not one of NumPy's"),
    "unknown method": (zip_of(MEMBER, compress_type=99), "zip compression 99 is not"),
    "not deflate": (zip_of(("a.npy", b"\xff" * 99), compress_type=8), "while decompressing"),
    "newer zip": (zip_of(MEMBER, extract_version=255), "it cannot be read: zip file version"),
    "not an array": (zip_of(("readme.txt", b"hello")), "tensor 'readme.txt': it does not start"),
    "a folder": (zip_of(("a/", b"")), "tensor 'a/': it does not start as a .npy array"),
    "objects": (npz(a=np.array([{}], object)), "tensor 'a': it holds Python objects"),
    "same name": (zip_of(("a", b""), ("a.npy", b"")), "two of its members have the same name"),
    "bad name": (zip_of(("\x1b[31m\n", b"")), r"tensor '\x1b[31m\n': it does not start"),
    "long name": (zip_of(("n" * 60_000, b"")), "...: it does not start as a .npy array"),
    "cut": (NPZ[:-30], "it cannot be read: File is not a zip file"),
}

ONE = {"a": tensor()}
DUPLICATE = b'{"a":%s,"a":%s}' % (
    json.dumps(tensor("U8", [8])).encode(),
    json.dumps(ONE["a"]).encode(),
)
#: How the library's own refusals start, in every version of it.
LIBRARY = "it cannot be read: Error while deserializing header"
HOSTILE_SAFETENSORS = {
    "huge header": (st_of(ONE, bytes(8), length=1 << 63), LIBRARY),
    "header past the end": (st_of(ONE, bytes(8), length=1000), LIBRARY),
    "not JSON": (st_of(b"hello"), LIBRARY),
    "not an object": (st_of(b"[1]"), LIBRARY),
    "nesting": (st_of(b'{"a":' * 90_000), LIBRARY),
    "not UTF-8": (st_of(b'{"\xff":1}'), LIBRARY),
    "lone surrogate": (st_of(b'{"\\ud800":%s}' % json.dumps(ONE["a"]).encode(), bytes(8)), LIBRARY),
    "same name twice": (st_of(DUPLICATE, bytes(8)), "its header has the same name twice"),
    "same field twice": (st_of(b'{"a":{"dtype":"U8","dtype":"U8"}}'), LIBRARY),
    "same extra twice": (
        st_of(
            json.dumps({"a": {**tensor(), "x": 1, "y": 1}}).replace('"y"', '"x"').encode(), bytes(8)
        ),
        "its header has the same name twice",
    ),
    "overlap": (st_of({**ONE, "b": tensor(offsets=[4, 12])}, bytes(12)), LIBRARY),
    "gap": (st_of({**ONE, "b": tensor(offsets=[12, 20])}, bytes(20)), LIBRARY),
    "reversed": (st_of({"a": tensor(offsets=[8, 0])}, bytes(8)), LIBRARY),
    "out of range": (st_of(ONE, bytes(4)), LIBRARY),
    "bytes left over": (st_of(ONE, bytes(12)), LIBRARY),
    "negative shape": (st_of({"a": tensor(shape=[-2])}, bytes(8)), LIBRARY),
    "shape not whole": (st_of({"a": tensor(shape=[2.0])}, bytes(8)), LIBRARY),
    "shape overflow": (st_of({"a": tensor(shape=[1 << 32, 1 << 32])}, bytes(8)), LIBRARY),
    "overflow to zero": (
        st_of({"a": tensor(shape=[0, 1 << 40, 1 << 40], offsets=[0, 0])}),
        "tensor 'a': NumPy cannot hold float32 of shape (0, ",
    ),
    "axis of 2**63": (
        st_of({"a": tensor(shape=[1 << 63, 0], offsets=[0, 0])}),
        "NumPy cannot hold",
    ),
    "too many axes": (st_of({"a": tensor(shape=[1] * 99 + [2])}, bytes(8)), "NumPy cannot hold"),
    "dtype too small": (st_of({"a": tensor("F16")}, bytes(8)), LIBRARY),
    "unknown dtype": (st_of({"a": tensor("X9")}, bytes(8)), LIBRARY),
    "bad name": (st_of({"\x1b[31m\n": tensor(shape=[1] * 99 + [2])}, bytes(8)), r"'\x1b[31m\n': N"),
    "bad message": (st_of({"a": tensor("\x1b[31m\n")}, bytes(8)), LIBRARY),
    "cut": (KINDS[".safetensors"][:-1], LIBRARY),
    "cut length": (b"\x08\x00\x00", LIBRARY),
}

HOSTILE = [
    pytest.param(suffix, content, why, id=f"{suffix}: {attack}")
    for suffix, attacks in (
        (".npy", HOSTILE_NPY),
        (".npz", HOSTILE_NPZ),
        (".safetensors", HOSTILE_SAFETENSORS),
    )
    for attack, (content, why) in attacks.items()
]


@pytest.mark.parametrize(("suffix", "content", "why"), HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(
    tmp_path: Path, suffix: str, content: bytes, why: str
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    messages: list[str] = []
    assert peak_memory(lambda: messages.append(refusal(path))) < 4 << 20
    assert why in messages[0]


def test_a_file_cut_short_anywhere_is_refused(valid: Path) -> None:
    content = valid.read_bytes()
    for length in range(len(content)):
        valid.unlink()
        valid.write_bytes(content[:length])
        refusal(valid)


def test_a_file_that_changes_between_the_two_looks_at_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(KINDS[".safetensors"])
    for other in (b"[]", b"{}", b'{"a": 1}', b'{"a": {}}', b'{"a"', b"\xff", b"[" * 200_000):
        (tmp_path / "other").write_bytes(st_of(other))
        with monkeypatch.context() as patch:
            mapped = checkpoint._map(str(tmp_path / "other"))
            patch.setattr(checkpoint, "_map", lambda _, mapped=mapped: mapped)
            if other == b"{}":
                assert read_all(path) == {}
            else:
                refusal(path)


def test_a_tensor_that_does_not_fit_in_memory_is_refused(
    valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(checkpoint, "_view", full)
    assert refusal(valid).endswith("tensor 'a': it does not fit in memory")


# Damage at random, compared with the libraries that wrote the files


def by_numpy(path: Path) -> dict[str, tuple[Any, ...]]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {path.stem: (loaded.shape, loaded.tobytes())}
    with loaded:
        return {name: (loaded[name].shape, loaded[name].tobytes()) for name in loaded}


def by_safetensors(path: Path) -> dict[str, tuple[Any, ...]]:
    tensors = deserialized(path.read_bytes())
    return {name: (tuple(t["shape"]), bytes(t["data"])) for name, t in tensors.items()}


REFERENCE = {".npy": by_numpy, ".npz": by_numpy, ".safetensors": by_safetensors}


def readable(found: Checkpoint) -> dict[str, tuple[Any, ...]]:
    arrays = {}
    for name in found:
        try:
            array = found[name]
        except CheckpointError:
            refusal(found.path, lambda name=name: found[name])  # type: ignore[misc]
            continue
        assert (found.shape(name), found.dtype(name)) == (array.shape, array.dtype)
        arrays[name] = (array.shape, array.tobytes())
    return arrays


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix, content = draw(st.sampled_from(sorted(KINDS.items())))
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        length = draw(st.sampled_from([0, 1, 1, 1, 4, len(changed)]))
        changed[at : at + length] = draw(st.binary(max_size=4))
    return suffix, bytes(changed)


@settings(max_examples=600, deadline=None)
@given(damaged())
def test_damage_anywhere_ends_in_one_line_or_in_what_the_writing_library_reads(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, bytes]
) -> None:
    suffix, content = case
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        with open_checkpoint(path) as found:
            arrays = readable(found)
    except CheckpointError:
        refusal(path)
        return
    if arrays and len(arrays) == len(found):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, on meeting Python 2's integers
            assert arrays == REFERENCE[suffix](path)


# Directories and shards


SHARDS = {"one.safetensors": {"b": MATRIX, "a": MATRIX + 1}, "deep/two.safetensors": {"c": MATRIX}}
INDEX = "model.safetensors.index.json"


def weight_map() -> dict[str, Any]:
    return {name: file for file, arrays in SHARDS.items() for name in arrays}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "deep").mkdir(parents=True)
    for file, arrays in SHARDS.items():
        safetensors.numpy.save_file(arrays, directory / file, {"format": "pt", "file": file})
    index = {"metadata": {"total_size": 72}, "weight_map": weight_map()}
    (directory / INDEX).write_text(json.dumps(index))
    return directory


def test_a_sharded_directory_and_its_index_are_one_checkpoint(sharded: Path) -> None:
    for path in (sharded, sharded / INDEX):
        with open_checkpoint(path) as found:
            assert found.path == str(sharded / INDEX)
            assert found.names == ("b", "a", "c")
            assert found.index == {"total_size": 72}
            assert found.metadata == {"format": "pt"}
            assert [(s.file, set(s.names), s.metadata["file"]) for s in found.shards] == [
                (file, set(arrays), file) for file, arrays in SHARDS.items()
            ]
            arrays = {name: found[name] for name in found}
            assert (found.shape("c"), found.dtype("c")) == (MATRIX.shape, MATRIX.dtype)
        for name, array in {k: v for arrays in SHARDS.values() for k, v in arrays.items()}.items():
            np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert "tensor 'c': the checkpoint is closed" in refusal(sharded, lambda: found["c"])
        message = refusal(sharded, lambda: found["d"])
        assert "tensor 'd': no such tensor among 3, such as 'b', 'a', 'c'" in message


def test_links_to_shards_are_followed_as_in_the_cache_of_hugging_face(
    tmp_path: Path, sharded: Path
) -> None:
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    (snapshot / "deep").mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate((INDEX, *SHARDS)):
        (sharded / file).rename(blobs / str(number))
        (snapshot / file).symlink_to(blobs / str(number))
    assert set(read_all(snapshot)) == {"a", "b", "c"}


def test_a_file_says_its_metadata_and_has_one_shard(valid: Path) -> None:
    with open_checkpoint(valid) as found:
        assert found.metadata == {}
        assert found.index is None
        assert [(shard.file, shard.names) for shard in found.shards] == [(valid.name, found.names)]


@pytest.mark.parametrize(
    ("files", "opened"),
    [
        (["model.safetensors", "other.safetensors"], "model.safetensors"),
        (["unet.safetensors", "x.npy", "x.bin"], "unet.safetensors"),
        (["a.safetensors", "b.safetensors"], "with 2 checkpoints; name one: 'a.safetensors', 'b.s"),
        (["config.json", "a.npz"], "it is a directory without a .safetensors file; .npy, .npz and"),
        ([], "it is a directory without a .safetensors file"),
        (["config.json", "pytorch_model.bin"], "'pytorch_model.bin' is a pickle, and reading a p"),
        (["w.PT"], "it is a directory of pickles; 'w.PT' is a pickle"),
    ],
)
def test_a_directory_is_read_where_it_is_clear_what_is_meant(
    tmp_path: Path, files: list[str], opened: str
) -> None:
    for file in files:
        (tmp_path / file).write_bytes(KINDS[".safetensors"])
    if opened in files:
        with open_checkpoint(tmp_path) as found:
            assert found.path == str(tmp_path / opened)
    else:
        assert opened in refusal(tmp_path)


def test_a_directory_with_another_name_for_its_index_is_read(sharded: Path) -> None:
    (sharded / INDEX).rename(sharded / "diffusion.safetensors.index.json")
    assert set(read_all(sharded)) == {"a", "b", "c"}


def indexed(**changes: str) -> bytes:
    return json.dumps({"weight_map": {**weight_map(), **changes}}).encode()


HOSTILE_INDEX = {
    "not JSON": (b"hello", "it cannot be read"),
    "not UTF-8": (b"\xff\xfe", "it cannot be read"),
    "nesting": (b"[" * 100_000, "it cannot be read"),
    "empty": (b"", "it cannot be read"),
    "no map": (b"{}", "it is no index: it has no weight_map"),
    "a list": (b"[]", "it is no index"),
    "map of a list": (b'{"weight_map": []}', "it is no index"),
    "file of no text": (b'{"weight_map": {"a": 7}}', "7 is no name of a file"),
    "file of a list": (b'{"weight_map": {"a": ["x"]}}', "is no name of a file"),
    "file without a name": (b'{"weight_map": {"a": ""}}', "'' is no name of a file"),
    "name twice": (
        b'{"weight_map": {"a": "one.safetensors", "a": "one.safetensors"}}',
        "the index has the same name twice",
    ),
    "missing shard": (indexed(c="three.safetensors"), "the shard 'three.safetensors' is not there"),
    "missing tensor": (indexed(d="one.safetensors"), "'one.safetensors' has no tensor 'd'"),
    "tensor elsewhere": (indexed(c="one.safetensors"), "'one.safetensors' has no tensor 'c'"),
    "tensor not named": (
        b'{"weight_map": {"a": "one.safetensors", "c": "deep/two.safetensors"}}',
        "tensor 'b' of 'one.safetensors' is not there by the index",
    ),
    "parent": (indexed(c="../two.safetensors"), "is not in the directory of the index"),
    "parent within": (indexed(c="deep/../../x.safetensors"), "is not in the directory"),
    "parent on Windows": (indexed(c="deep\\..\\..\\x.safetensors"), "is not in the directory"),
    "absolute": (indexed(c="/etc/x.safetensors"), "is not in the directory of the index"),
    "drive": (indexed(c="C:x.safetensors"), "is not in the directory of the index"),
    "pickle": (indexed(c="two.bin"), "the shard 'two.bin' is usually a pickle, and reading"),
    "another kind": (indexed(c=INDEX), "is no .safetensors file"),
    "NUL": (indexed(c="a\0.safetensors"), "is not there"),
    "escape": (indexed(c="\x1b[31m.safetensors"), r"the shard '\x1b[31m.safetensors' is not there"),
    "surrogate": (b'{"weight_map": {"\\ud800": "one.safetensors"}}', "has no tensor '"),
}


@pytest.mark.parametrize("attack", HOSTILE_INDEX)
def test_a_hostile_index_is_refused_in_one_line(sharded: Path, attack: str) -> None:
    content, why = HOSTILE_INDEX[attack]
    (sharded / INDEX).write_bytes(content)
    assert why in refusal(sharded)
    assert why in refusal(sharded / INDEX)


def test_an_index_or_a_shard_that_cannot_be_read_is_refused(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = sharded / "one.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert "one.safetensors: it cannot be read: Error while deserializing" in refusal(sharded)
    same = safetensors.numpy.save({**SHARDS["one.safetensors"], "c": MATRIX})
    shard.write_bytes(same)
    assert "tensor 'c' of 'one.safetensors' is not there by the index" in refusal(sharded)
    monkeypatch.setattr(checkpoint, "_LARGEST_INDEX", 10)
    assert "the index has more than 10 bytes" in refusal(sharded)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_index_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INDEX)
    assert "it is not a regular file" in refusal(tmp_path / INDEX)


@asks_linux
def test_no_shard_stays_open_after_an_error_or_the_end(sharded: Path) -> None:
    with (sharded / INDEX).open("rb"):
        assert len(open_below(sharded)) == 1  # they are seen
    read_all(sharded)
    assert open_below(sharded) == []
    (sharded / INDEX).write_bytes(indexed(d="one.safetensors"))
    refusal(sharded)
    assert open_below(sharded) == []


# Memory


def resident(array: np.ndarray) -> int:
    """Bytes of the map that an array lies in that the system counts as this process's own."""
    address, size = array.__array_interface__["data"][0], None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            start, end = (int(part, 16) for part in words[0].split("-"))
            size = start <= address < end
        elif size and words[0] == "Rss:":
            return int(words[1]) * 1024
    raise AssertionError("no map has the array in it")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_released_tensor_takes_no_memory_and_can_be_read_again(
    tmp_path: Path, suffix: str
) -> None:
    path, big = tmp_path / f"t{suffix}", np.arange(1 << 20, dtype="f4")
    if suffix == ".npy":
        np.save(path, big)
    else:
        safetensors.numpy.save_file({"t": big, "u": big}, path)
    with open_checkpoint(path) as found:
        array = found["t"]
        assert array.sum() > 0
        assert resident(array) >= big.nbytes
        found.release("t")
        assert resident(array) < big.nbytes // 4
        np.testing.assert_array_equal(array, big)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
def test_a_copy_of_a_misaligned_tensor_leaves_the_map_out_of_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "t.safetensors", 1 << 22
    path.write_bytes(
        st_of(json.dumps({"t": tensor("F32", [size // 4], [0, size])}).encode() + b" ", bytes(size))
    )
    with open_checkpoint(path) as found:
        assert found["t"].base is None
        mapped = np.frombuffer(found._find("t").buffer, "u1")  # type: ignore[arg-type]
        assert resident(mapped) < size // 4


def test_releasing_is_fine_for_every_tensor_and_unpacks_nothing(
    tmp_path: Path, valid: Path
) -> None:
    arrays = {"scalar": np.array(1.0), "none": np.zeros((0, 3)), "one": np.zeros(1, "i1")}
    (tmp_path / "s.safetensors").write_bytes(safetensors.numpy.save(arrays))
    (tmp_path / "e.safetensors").write_bytes(safetensors.numpy.save({"none": np.zeros(0)}))
    (tmp_path / "z.npz").write_bytes(npz(np.savez_compressed, t=np.zeros(1 << 22)))
    for path in (tmp_path / "s.safetensors", tmp_path / "e.safetensors", valid):
        with open_checkpoint(path) as found:
            for name in found:
                before = found[name]
                found.prefetch(name)
                found.release(name)
                np.testing.assert_array_equal(found[name], before)
            assert "no such tensor" in refusal(path, lambda found=found: found.release("?"))  # type: ignore[misc]
    with open_checkpoint(tmp_path / "z.npz") as found:
        assert peak_memory(lambda: (found.prefetch("t"), found.release("t"))) < 1 << 20
