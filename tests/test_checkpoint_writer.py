"""Writing .safetensors files and directories: whole under their name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from floatfmt import checkpoint_writer
from floatfmt.checkpoint import SAFETENSORS_DTYPES, CheckpointError, open_checkpoint
from floatfmt.checkpoint_writer import CheckpointWriteError, Layout, new_directory, new_file

ARRAYS = {
    "bytes": np.arange(3, dtype="u1"),
    "half": np.arange(6, dtype="f4").reshape(2, 3).astype(ml_dtypes.bfloat16),
    "long": np.arange(2, dtype="i8"),
    "scalar": np.array(1.5, "f4"),
    "empty": np.zeros((0, 7), "f2"),
    "truths": np.array([True, False, True]),
    "ключ": np.arange(5, dtype="f8"),
}


def entries(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def save(
    path: Path, arrays: dict[str, np.ndarray], overwrite: bool = False, **metadata: str
) -> None:
    with new_file(path, Layout(entries(arrays), metadata), overwrite=overwrite) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def test_what_is_written_opens_in_safetensors_and_torch(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save(path, ARRAYS, format="pt")
    with safetensors.safe_open(path, framework="np") as found:
        assert found.metadata() == {"format": "pt"}
        assert set(found.keys()) == set(ARRAYS)
    for name, tensor in load_file(path).items():
        assert tuple(tensor.shape) == ARRAYS[name].shape
        assert tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() == (
            ARRAYS[name].tobytes()
        )
    with open_checkpoint(path) as mine:
        assert mine.metadata == {"format": "pt"}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(mine[name], array, strict=True)
    assert os.listdir(tmp_path) == ["t.safetensors"]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=5).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(
            st.sampled_from(sorted(SAFETENSORS_DTYPES.values(), key=str)),
            st.lists(st.integers(0, 3), max_size=3).map(tuple),
        ),
        max_size=5,
    ),
    st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), st.just("x")),
    st.integers(0, 50),
)
def test_every_layout_is_a_file_that_the_library_reads_with_aligned_data(
    tensors: dict[str, Any], metadata: dict[str, str], spare: int
) -> None:
    newer = ("float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz", "complex64")
    tensors = {name: entry for name, entry in tensors.items() if str(entry[0]) not in newer}
    layout = Layout(tensors, metadata, spare)
    content = layout.header() + bytes(layout.nbytes - layout.start)
    assert len(content) == layout.nbytes
    found = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    assert {name: tuple(info["shape"]) for name, info in found.items()} == {
        name: shape for name, (_, shape) in tensors.items()
    }
    for name, (dtype, _) in tensors.items():
        assert (layout.start + layout.offsets[name]) % dtype.itemsize == 0


def test_metadata_may_grow_into_the_room_that_was_left_and_no_further(tmp_path: Path) -> None:
    layout = Layout({}, {"k": ""}, spare=8)
    nbytes = layout.nbytes
    layout.metadata["k"] = "12345678"
    assert len(layout.header()) == nbytes
    path = tmp_path / "t.safetensors"
    with pytest.raises(ValueError, match="beyond the room"), new_file(path, layout):
        layout.metadata["k"] = "1" * 50
    assert os.listdir(tmp_path) == []


def test_tensors_come_in_any_order_and_layout_but_as_they_were_announced(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype="f4").reshape(2, 3)
    layout = Layout({"a": (matrix.dtype, (2, 3)), "b": (matrix.dtype, (3, 2))}, {})
    path = tmp_path / "t.safetensors"
    with new_file(path, layout) as writer:
        writer.write("b", matrix.T.astype(">f4"))
        for name, array, why in (
            ("b", matrix.T, "'b' is no tensor that is still to be written"),
            ("c", matrix, "'c' is no tensor"),
            ("a", matrix.T, "'a' is to be float32 of shape (2, 3), but is float32 of shape (3, 2)"),
            ("a", matrix.astype("f8"), "but is float64"),
        ):
            with pytest.raises(ValueError, match=why.replace("(", r"\(").replace(")", r"\)")):
                writer.write(name, array)
        writer.write("a", matrix)
    with open_checkpoint(path) as found:
        np.testing.assert_array_equal(found["a"], matrix)
        np.testing.assert_array_equal(found["b"], matrix.T)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"a": (np.dtype("c16"), ())}, "'a': .safetensors files have no place for complex128"),
        ({"__metadata__": (np.dtype("f4"), ())}, "no place for this name"),
    ],
)
def test_what_such_a_file_cannot_hold_is_refused(tensors: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Layout(tensors, {})


def test_a_header_that_no_library_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "_LONGEST_HEADER", 100)
    with pytest.raises(ValueError, match="9 tensors need a header longer than is ever read"):
        Layout({f"t{i}": (np.dtype("f4"), ()) for i in range(9)}, {})


# All or nothing


class _Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [_Interrupt, KeyboardInterrupt, ValueError])
def test_an_error_leaves_no_file_and_the_old_one_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "t.safetensors"
    layout = Layout(entries(ARRAYS), {})
    with contextlib.suppress(error), new_file(path, layout) as writer:
        writer.write("half", ARRAYS["half"])
        assert sorted(os.listdir(tmp_path)) == ["t.safetensors.floatfmt-part"]
        raise error
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(error), new_file(path, layout, overwrite=True):
        raise error
    assert os.listdir(tmp_path) == ["t.safetensors"]
    assert path.read_bytes() == b"old"


def test_a_tensor_that_is_missing_is_an_error_and_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="7 tensors were not written"),
        new_file(tmp_path / "t.safetensors", Layout(entries(ARRAYS), {})),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_file_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save(path, {"a": np.zeros(3)})
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match="is there already; overwrite replaces it"):
        save(path, ARRAYS)
    assert path.read_bytes() == content
    save(path, ARRAYS, overwrite=True)
    with open_checkpoint(path) as found:
        assert set(found.names) == set(ARRAYS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="is a directory that is there already"):
        save(tmp_path / "folder", ARRAYS, overwrite=True)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with (
        pytest.raises(CheckpointError, match="is there already"),
        new_file(path, Layout({}, {})),
    ):
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_a_leftover_of_a_killed_run_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    (tmp_path / "t.safetensors.floatfmt-part").write_bytes(b"x" * 10_000)
    save(path, ARRAYS)
    expected = path.read_bytes()
    path.unlink()
    save(path, ARRAYS)
    assert path.read_bytes() == expected
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_a_link_keeps_pointing_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    save(target, {"a": np.zeros(3)})
    link.symlink_to(target)
    save(link, ARRAYS, overwrite=True)
    assert link.is_symlink()
    with open_checkpoint(target) as found:
        assert set(found.names) == set(ARRAYS)


def test_a_leftover_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "t.safetensors.floatfmt-part").symlink_to(victim)
    with pytest.raises(CheckpointWriteError, match="cannot be written"):
        save(tmp_path / "t.safetensors", ARRAYS)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("directory", [False, True])
def test_two_writers_at_once_are_kept_apart(tmp_path: Path, directory: bool) -> None:
    path = tmp_path / "t.safetensors"

    def writing() -> Any:
        return new_directory(path, [], 0) if directory else new_file(path, Layout({}, {}))

    with writing():
        with pytest.raises(CheckpointWriteError, match="is being written by another process"):
            writing().__enter__()
        assert os.listdir(tmp_path) == ["t.safetensors.floatfmt-part"]
    assert os.listdir(tmp_path) == ["t.safetensors"]


@pytest.mark.parametrize("directory", [False, True])
def test_a_writer_that_waited_for_the_lock_in_vain_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    """Between opening and locking, the one before may have finished with what was opened."""
    path, lock = tmp_path / "t.safetensors", checkpoint_writer._lock
    part = tmp_path / "t.safetensors.floatfmt-part"

    def after_the_other_has_finished(descriptor: int, final: Path) -> None:
        monkeypatch.setattr(checkpoint_writer, "_lock", lock)
        part.rename(tmp_path / "finished")
        lock(descriptor, final)

    monkeypatch.setattr(checkpoint_writer, "_lock", after_the_other_has_finished)
    with new_directory(path, [], 0) if directory else new_file(path, Layout({}, {})):
        pass
    assert sorted(os.listdir(tmp_path)) == ["finished", "t.safetensors"]


# Disks


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def one_line(error: BaseException, path: Path) -> str:
    message = str(error)
    assert "\n" not in message
    assert message.startswith(f"{path}: it cannot be written: ")
    return message


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there is no reserving here")
def test_a_full_disk_is_known_before_data_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.safetensors"
    monkeypatch.setattr(os, "posix_fallocate", full)
    layout = Layout(entries(ARRAYS), {})
    with pytest.raises(CheckpointWriteError) as caught, new_file(path, layout):
        pytest.fail("there is no room")
    assert caught.value.errno == errno.ENOSPC
    message = one_line(caught.value, path)
    assert f"No space left on device: it takes {layout.nbytes:,} bytes, and " in message
    assert message.endswith(" are free")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.safetensors"

    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    with new_file(path, Layout({}, {})):
        pass
    path.unlink()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CheckpointWriteError) as caught:
        save(path, ARRAYS)
    assert one_line(caught.value, path).endswith("No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_directory_has_its_room_checked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(CheckpointWriteError, match=r"No space left on device: it takes 1,1") as e,
        new_directory(tmp_path / "out", [], 1 << 60),
    ):
        pytest.fail("there is no room")
    one_line(e.value, tmp_path / "out")
    assert os.listdir(tmp_path) == []


LIMITED = """
import resource, sys
import numpy as np
from floatfmt.checkpoint_writer import Layout, new_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with new_file(sys.argv[1], Layout({"a": (np.dtype("f4"), (1 << 20,))}, {})) as writer:
        writer.write("a", np.zeros(1 << 20, "f4"))
except OSError as exc:
    print(exc)
"""


def test_a_limit_of_the_system_is_one_line_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == f"{path}: it cannot be written: File too large\n"
    assert ran.stderr == ""
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "t.safetensors"
    with pytest.raises(CheckpointWriteError) as caught:
        save(path, ARRAYS)
    assert "No such file or directory" in one_line(caught.value, path)


def test_writes_that_the_system_cuts_short_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:3]), at))
    save(tmp_path / "t.safetensors", ARRAYS)
    with open_checkpoint(tmp_path / "t.safetensors") as found:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


# Directories


def fill(directory: Path, text: str) -> None:
    (directory / "model.safetensors").write_text(text)
    (directory / "config.json").write_text(text)


FILES = ["model.safetensors", "config.json"]


def test_a_directory_is_there_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_directory(out, FILES, 10) as part:
        fill(part, "new")
        assert not out.exists()
    assert sorted(os.listdir(out)) == sorted(FILES)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_leaves_no_directory_and_the_old_one_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "out"
    for exists in (False, True):
        if exists:
            out.mkdir()
            fill(out, "old")
        with contextlib.suppress(error), new_directory(out, FILES, 10, overwrite=True) as part:
            fill(part, "new")
            raise error
        assert os.listdir(tmp_path) == ["out"] * exists
    assert (out / "config.json").read_text() == "old"


def test_a_directory_is_replaced_only_where_that_is_asked_for_and_loses_nothing(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    (out / "model-2.safetensors").touch()
    with pytest.raises(CheckpointError, match="overwrite"), new_directory(out, FILES, 10):
        pass
    with new_directory(out, FILES, 10, overwrite=True) as part:
        fill(part, "new")
    assert sorted(os.listdir(out)) == sorted(FILES)
    for lost in ("notes.txt", "deep/model.safetensors"):
        (out / lost).parent.mkdir(exist_ok=True)
        (out / lost).touch()
        with (
            pytest.raises(CheckpointError, match=f"'{lost}' in it would be lost"),
            new_directory(out, FILES, 10, overwrite=True),
        ):
            pass
        (out / lost).unlink()
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match="is a file that is there already"),
        new_directory(tmp_path / "file", FILES, 10, overwrite=True),
    ):
        pass


def test_a_directory_that_was_being_replaced_by_a_killed_run_is_put_back(tmp_path: Path) -> None:
    out, old = tmp_path / "out", tmp_path / "out.floatfmt-old"
    old.mkdir()
    fill(old, "old")
    with pytest.raises(CheckpointError, match="is there already"), new_directory(out, FILES, 10):
        pass
    assert (out / "config.json").read_text() == "old"
    old.mkdir()  # or was killed when it had only to be removed
    fill(old, "older")
    with new_directory(out, FILES, 10, overwrite=True) as part:
        fill(part, "new")
    assert (out / "config.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_directory_that_cannot_take_its_name_gives_the_old_one_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", os.rename
    out.mkdir()
    fill(out, "old")

    def fails_once(source: Path, target: Path) -> None:
        if source.name.endswith("-part"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_once)
    with (
        pytest.raises(CheckpointWriteError, match="Input/output error"),
        new_directory(out, FILES, 10, overwrite=True) as part,
    ):
        fill(part, "new")
    assert (out / "config.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_the_leftovers_of_a_killed_run_are_not_in_the_directory(tmp_path: Path) -> None:
    part = tmp_path / "out.floatfmt-part"
    (part / "deep").mkdir(parents=True)
    (part / "stale.json").write_text(json.dumps({}))
    (part / "deep" / "stale").touch()
    with new_directory(tmp_path / "out", FILES, 10) as directory:
        fill(directory, "new")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(FILES)
