"""Quantising and dequantising whole checkpoints, and saving single quantised tensors."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

import floatfmt as ff
from floatfmt import checkpoint_conversion, quantized_file, schemes
from floatfmt.checkpoint import CheckpointError, open_checkpoint
from strategies import FLOAT_DTYPES, finite_arrays

RNG = np.random.default_rng(5)
BF16 = np.dtype(ml_dtypes.bfloat16)


def normal(*shape: int, dtype: Any = "f4") -> np.ndarray:
    return np.asarray(RNG.normal(0, 0.02, shape), dtype)


ARRAYS: dict[str, np.ndarray] = {
    "embed.weight": normal(40, 16, dtype=BF16),
    "layers.0.up.weight": normal(12, 16),
    "layers.0.up.bias": normal(12),
    "layers.1.up.weight": normal(3, 4, 5, dtype="f8"),
    "layers.1.half": normal(2, 6, dtype="f2"),
    "ids": np.arange(6).reshape(2, 3),
    "mask": np.array([[True, False]]),
    "eight": normal(4, 4).astype(ml_dtypes.float8_e4m3fn),
    "scalar": np.array(1.5, "f4"),
    "no rows": np.zeros((0, 5), "f4"),
    "no columns": np.zeros((5, 0), BF16),
}
QUANTISED = [n for n, a in ARRAYS.items() if a.ndim >= 2 and a.dtype.name in
             ("bfloat16", "float16", "float32", "float64")]  # fmt: skip
SHARDS = {"model-1-of-2.safetensors": [*ARRAYS][:5], "sub/model-2-of-2.safetensors": [*ARRAYS][5:]}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path, {"format": "pt", "note": "kept"})
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory as Hugging Face has it, with what else may lie in it."""
    path = tmp_path / "model"
    (path / "sub").mkdir(parents=True)
    for file, names in SHARDS.items():
        save_file({name: ARRAYS[name] for name in names}, path / file, {"format": "pt"})
    weight_map = {name: file for file, names in SHARDS.items() for name in names}
    size = sum(array.nbytes for array in ARRAYS.values())
    index = {"metadata": {"total_size": size, "by": "us"}, "weight_map": weight_map}
    (path / INDEX).write_text(json.dumps(index))
    (path / "config.json").write_text('{"model_type": "tiny"}')
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text("{}")
    for left_out in ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "x.pt"):
        (path / left_out).write_bytes(b"weights")
    (path / ".git").mkdir()
    (path / ".git" / "config").touch()
    return path


def stored(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file; the safetensors library has no fp8 for NumPy."""
    with open_checkpoint(path) as found:
        return {name: found[name].copy() for name in found}


def entry_of(path: Path) -> Any:
    with safetensors.safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["floatfmt"])


def expected(name: str, scheme: str = "int8_absmax_row") -> ff.Quantized:
    x = ARRAYS[name]
    options = schemes.parse(scheme)
    return ff.quantize(x, **{**options, "axis": None if x.ndim < 2 else options.get("axis")})


# Round trips


@pytest.mark.parametrize("scheme", ["int8", "int8_zeropoint", "int8_absmax_row"])
def test_float_matrices_are_quantised_and_all_else_is_copied(
    tmp_path: Path, model: Path, scheme: str
) -> None:
    out = tmp_path / "out.safetensors"
    result = ff.quantize_checkpoint(model, out, scheme)
    assert {t.name for t in result.converted} == set(QUANTISED)
    content = stored(out)
    loaded = ff.load_quantized(out)
    assert set(loaded) == set(QUANTISED)
    for name, array in ARRAYS.items():
        if name in QUANTISED:
            q = expected(name, scheme)
            assert loaded[name] == q
            np.testing.assert_array_equal(content[name], q.codes, strict=True)
            np.testing.assert_array_equal(content[f"{name}.scale"], q.scale, strict=True)
            assert (f"{name}.zero_point" in content) == (scheme == "int8_zeropoint")
        else:
            assert content[name].tobytes() == array.tobytes()
            assert (content[name].dtype, content[name].shape) == (array.dtype, array.shape)
    assert set(load_torch(out)) == set(content)


def test_dequantising_gives_back_names_dtypes_shapes_and_metadata(
    tmp_path: Path, model: Path
) -> None:
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    ff.quantize_checkpoint(model, out, "int8_zeropoint")
    result = ff.dequantize_checkpoint(out, back)
    assert result.output == str(back)
    with open_checkpoint(back) as found:
        assert found.metadata == {"format": "pt", "note": "kept"}
        assert set(found.names) == set(ARRAYS)
        for name, array in ARRAYS.items():
            values = expected(name, "int8_zeropoint").dequantize() if name in QUANTISED else array
            assert (found.dtype(name), found.shape(name)) == (array.dtype, array.shape)
            assert found[name].tobytes() == values.tobytes()


@given(
    st.sampled_from(FLOAT_DTYPES).flatmap(lambda dtype: finite_arrays(dtype, max_size=60)),
    st.sampled_from([(-1,), (-1, 1), (1, -1), (1, 1, -1)]),
    st.sampled_from(["int8", "int8_zeropoint", "int8_absmax_row"]),
)
def test_any_finite_array_comes_back_as_the_quantiser_alone_gives_it(
    tmp_path_factory: pytest.TempPathFactory, x: np.ndarray, shape: tuple[int, ...], scheme: str
) -> None:
    folder = tmp_path_factory.mktemp("t")
    x = x.reshape(shape)
    save_file({"t": x}, folder / "in.safetensors")
    ff.quantize_checkpoint(
        folder / "in.safetensors", folder / "out.safetensors", scheme, include=["t"]
    )
    ff.dequantize_checkpoint(folder / "out.safetensors", folder / "back.safetensors")
    options = schemes.parse(scheme)
    q = ff.quantize(x, **{**options, "axis": options.get("axis") if x.ndim > 1 else None})
    assert ff.load_quantized(folder / "out.safetensors")["t"] == q
    back = load_file(folder / "back.safetensors")["t"]
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    assert back.tobytes() == q.dequantize().tobytes()


def test_a_sharded_directory_becomes_one_of_the_same_shards(
    tmp_path: Path, directory: Path
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    result = ff.quantize_checkpoint(directory, out)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == sorted(
        [INDEX, "config.json", "1_Pooling/config.json", *SHARDS]
    )
    assert (out / "config.json").read_text() == '{"model_type": "tiny"}'
    index = json.loads((out / INDEX).read_text())
    shards = {file: stored(out / file) for file in SHARDS}
    assert index["weight_map"] == {name: file for file in SHARDS for name in shards[file]}
    size = sum(array.nbytes for arrays in shards.values() for array in arrays.values())
    assert index["metadata"] == {"total_size": size, "by": "us"}
    assert result.nbytes_after == size
    assert dict(result.files) == {file: (out / file).stat().st_size for file in SHARDS}
    assert set(ff.load_quantized(out)) == set(QUANTISED)
    ff.dequantize_checkpoint(out, back)
    assert json.loads((back / INDEX).read_text()) == json.loads((directory / INDEX).read_text())
    with open_checkpoint(back) as found, open_checkpoint(directory) as original:
        for one in (found, original):
            assert {s.file: (set(s.names), s.metadata) for s in one.shards} == {
                file: (set(names), {"format": "pt"}) for file, names in SHARDS.items()
            }
        for name in ARRAYS:
            values = expected(name).dequantize() if name in QUANTISED else ARRAYS[name]
            assert found[name].tobytes() == values.tobytes()
    assert sorted(os.listdir(tmp_path)) == ["back", "model", "out"]


def test_an_index_is_taken_as_its_directory_and_a_directory_of_one_file_has_no_index(
    tmp_path: Path, directory: Path
) -> None:
    ff.quantize_checkpoint(directory, tmp_path / "a")
    ff.quantize_checkpoint(directory / INDEX, tmp_path / "b")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert files == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*.*"))
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    one = tmp_path / "one"
    one.mkdir()
    save_file(ARRAYS, one / "model.safetensors")
    (one / "tokenizer.json").touch()
    ff.quantize_checkpoint(one, tmp_path / "c")
    assert sorted(os.listdir(tmp_path / "c")) == ["model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
def test_numpy_files_are_quantised_too(tmp_path: Path, save: Any) -> None:
    matrix = np.asfortranarray(normal(6, 7).astype(">f4"))
    path = tmp_path / ("t.npy" if save is np.save else "t.npz")
    save(path, matrix) if save is np.save else save(path, t=matrix)
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    ff.quantize_checkpoint(path, out, "int8")
    q = ff.quantize(np.asarray(matrix, "f4", order="C"), "absmax")
    np.testing.assert_array_equal(load_file(out)["t"], q.codes)
    ff.dequantize_checkpoint(out, back)
    np.testing.assert_array_equal(load_file(back)["t"], q.dequantize(), strict=True)


def test_the_sample_model_comes_back_with_the_error_of_its_quantiser(tmp_path: Path) -> None:
    from floatfmt.data import SAMPLE_MODEL

    out, back = tmp_path / "out", tmp_path / "back"
    ff.quantize_checkpoint(SAMPLE_MODEL, out)
    ff.dequantize_checkpoint(out, back)
    with open_checkpoint(SAMPLE_MODEL) as original, open_checkpoint(back) as found:
        assert set(found.names) == set(original.names)
        for name in original.names:
            x = original[name]
            if x.ndim >= 2:
                x = ff.quantize(x, "absmax", axis=0).dequantize()
            np.testing.assert_array_equal(found[name], x, strict=True)


# What is chosen


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ([], ["embed*"], [n for n in QUANTISED if n != "embed.weight"]),
        (["*.up.*"], [], ["layers.0.up.weight", "layers.0.up.bias", "layers.1.up.weight"]),
        (["*.up.*", "scalar", "ids"], ["*bias"], ["layers.0.up.weight", "layers.1.up.weight"]),
        (["layers.[1]*"], ["*half"], ["layers.1.up.weight"]),
        ([], ["*"], []),
    ],
)
def test_patterns_choose_by_name(
    tmp_path: Path, model: Path, include: list[str], exclude: list[str], chosen: list[str]
) -> None:
    if "scalar" in include:
        chosen = [*chosen, "scalar"]  # which floats need no second dimension for
    out = tmp_path / "out.safetensors"
    result = ff.quantize_checkpoint(model, out, include=include, exclude=exclude)
    assert {t.name for t in result.converted} == set(chosen)
    loaded = ff.load_quantized(out)
    assert set(loaded) == set(chosen)
    assert all(loaded[name] == expected(name) for name in chosen)


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_without_a_match_is_an_error_and_so_is_a_string(model: Path, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} pattern 'lm_haed' matches none of 11 tensors"):
        ff.quantize_checkpoint(model, dry_run=True, **{option: ["*", "lm_haed"]})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"{option} is a sequence of patterns, got 'embed'"):
        ff.quantize_checkpoint(model, dry_run=True, **{option: "embed*"[:5]})  # type: ignore[arg-type]


def test_names_that_scales_need_may_not_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"w": normal(2, 2), "w.scale": normal(2)}, path)
    with pytest.raises(ValueError, match=r"would be stored in a tensor 'w\.scale'"):
        ff.quantize_checkpoint(path, tmp_path / "out.safetensors")
    assert os.listdir(tmp_path) == ["t.safetensors"]
    ff.quantize_checkpoint(path, tmp_path / "out.safetensors", exclude=["w"])
    q = expected("scalar")
    with pytest.raises(ValueError, match=r"two tensors would be called 'w\.scale'"):
        ff.save_quantized(tmp_path / "s.safetensors", {"w.scale": q, "w": q})


def test_what_a_scheme_cannot_take_is_said_with_the_tensors_name(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no scheme is called 'int9'"):
        ff.quantize_checkpoint(model, dry_run=True, scheme="int9")
    monkeypatch.setattr(schemes, "parse", lambda name: {"scheme": "absmax", "axis": 2})
    with pytest.raises(ValueError, match="tensor 'layers.0.up.weight': axis 2 is out of range"):
        ff.quantize_checkpoint(model, dry_run=True)


# Dry runs and results


@pytest.mark.parametrize("scheme", ["int8", "int8_zeropoint", "int8_absmax_row"])
def test_a_dry_run_knows_every_size_and_reads_no_data(
    tmp_path: Path, model: Path, directory: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object) -> None:
        pytest.fail("data was read")

    for source, out in ((model, tmp_path / "out.safetensors"), (directory, tmp_path / "out")):
        with monkeypatch.context() as patch:
            patch.setattr("floatfmt.checkpoint.Checkpoint.__getitem__", touched)
            planned = ff.quantize_checkpoint(source, out, scheme, dry_run=True)
        assert not out.exists()
        done = ff.quantize_checkpoint(source, out, scheme)
        assert planned.output is planned.saturated is planned.nonfinite is None
        assert planned.tensors == done.tensors
        assert [n for _, n in planned.files] == [n for _, n in done.files]
        for file, size in planned.files:
            assert (out / file if source is directory else out).stat().st_size == size
        with open_checkpoint(out) as found:
            data = sum(found[name].nbytes for name in found.names)
        assert planned.nbytes_after == data
        back = ff.dequantize_checkpoint(out, dry_run=True)
        assert back.nbytes_before == data
        assert back.nbytes_after == planned.nbytes_before == sum(a.nbytes for a in ARRAYS.values())


def test_a_result_shows_every_tensor_of_a_dry_run_and_the_totals(
    tmp_path: Path, model: Path
) -> None:
    planned = ff.quantize_checkpoint(model, dry_run=True)
    text = str(planned)
    assert "a dry run, nothing is written" in text
    assert checkpoint_conversion.DEFAULT_CHOICE in text
    assert "others copied" not in str(
        ff.quantize_checkpoint(model, dry_run=True, include=["embed*"])
    )
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["embed.weight"] == ["40×16", "bf16", "int8_absmax_row", "1,280", "800", "10.00"]
    assert rows["ids"][:3] == ["2×3", "int64", "copied"]
    assert rows["scalar"] == ["0-d", "fp32", "copied", "4", "4", "32.00"]
    total = next(line for line in text.splitlines() if line.startswith("11 tensors: "))
    assert f"{len(QUANTISED)} int8_absmax_row" in total
    assert f"{11 - len(QUANTISED)} copied" in total
    done = str(ff.quantize_checkpoint(model, tmp_path / "out.safetensors"))
    assert f"{model} → {tmp_path / 'out.safetensors'}" in done
    assert "embed.weight" not in done
    totals = planned.to_dict()
    assert totals["nbytes_before"] == planned.nbytes_before
    assert json.loads(json.dumps(totals)) == totals
    assert planned == pickle.loads(pickle.dumps(planned))


def test_progress_is_told_the_bytes_of_the_input(tmp_path: Path, model: Path) -> None:
    calls: list[tuple[int, int]] = []
    out = tmp_path / "out.safetensors"
    ff.quantize_checkpoint(model, out, progress=lambda *call: calls.append(call))
    total = sum(array.nbytes for array in ARRAYS.values())
    assert [call[1] for call in calls] == [total] * len(ARRAYS)
    assert calls[-1][0] == total
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)


# What is wrong with the input


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", ["int8", "int8_zeropoint", "int8_absmax_row"])
def test_nan_and_inf_are_named_with_tensor_and_place(
    tmp_path: Path, value: float, scheme: str
) -> None:
    x = normal(5, 6, dtype=BF16)
    x[3, 4] = x[4, 0] = value
    path = tmp_path / "t.safetensors"
    save_file({"fine": normal(2, 2), "w": x}, path)
    with pytest.raises(ValueError, match=rf"{path}: tensor 'w'\[3, 4\] is {value}; "):
        ff.quantize_checkpoint(path, tmp_path / "out.safetensors", scheme)
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_what_is_done_about_nan_is_passed_on_and_its_counts_are_added_up(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Counted:
        def __init__(self, q: ff.Quantized) -> None:
            self._q, self.nonfinite = q, 2

        def __getattr__(self, name: str) -> Any:
            return getattr(self._q, name)

    def quantize(x: np.ndarray, *, nonfinite: str = "error", **options: Any) -> Counted:
        asked.append(nonfinite)
        return Counted(ff.quantize(x, **options))

    monkeypatch.setattr(checkpoint_conversion, "quantize", quantize)
    monkeypatch.setattr(
        "floatfmt.storage.layout",
        lambda shape, dtype, nonfinite, layout=checkpoint_conversion.storage.layout, **options: (
            layout(shape, dtype, **options)
        ),
    )
    result = ff.quantize_checkpoint(model, tmp_path / "out.safetensors", nonfinite="saturate")
    assert set(asked) == {"saturate"}
    assert result.nonfinite == 2 * len(QUANTISED)
    assert f"{result.nonfinite} NaN or Inf" in str(result)


def test_what_is_quantised_already_is_not_quantised_again(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out.safetensors"
    ff.quantize_checkpoint(model, out)
    with pytest.raises(CheckpointError, match="floatfmt quantised it already"):
        ff.quantize_checkpoint(out, tmp_path / "again.safetensors")
    with pytest.raises(CheckpointError, match="it holds nothing that floatfmt quantised"):
        ff.dequantize_checkpoint(model, tmp_path / "back.safetensors")
    with pytest.raises(CheckpointError, match="it holds nothing that floatfmt quantised"):
        ff.load_quantized(model)


def damaged(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a file may say that is not so, and what is said about it."""
    w = entry["tensors"]["w"]

    def changed(**fields: Any) -> dict[str, Any]:
        return {**entry, "tensors": {"w": {**w, **fields}}}

    damage = "its metadata is damaged"
    yield damage, "hello"
    yield damage, []
    yield damage, {}
    yield "its metadata is 'floatfmt.quantized/99'", {**entry, "schema": "floatfmt.quantized/99"}
    yield "its metadata is 7", {**entry, "schema": 7}
    yield damage, {**entry, "tensors": [1]}
    yield damage, {**entry, "tensors": {"w": None}}
    yield damage, {**entry, "tensors": {"w": {}}}
    yield damage, changed(shape=[-1, 8])
    yield damage, changed(shape=[2.5])
    yield damage, changed(shape=None)
    yield damage, changed(dtype="O")
    yield damage, changed(dtype="int8")
    yield damage, changed(dtype="f4,f4")
    yield damage, changed(dtype="(1000000,1000000)f8")
    yield damage, changed(parts={})
    yield damage, changed(parts={"": "other"})
    yield damage, changed(parts={"": "w", "scale": "w"})
    yield damage, changed(quantized=3)
    yield "bytes are not", changed(shape=[1 << 40, 1 << 40])
    yield "what is stored is not what the metadata says", changed(shape=[4, 2])
    yield "what is stored is not what the metadata says", changed(parts={"": "w"})
    yield "what is stored is not what the metadata says", changed(quantized={})
    yield "is missing", changed(parts={"": "w", "scale": "\x1b[31m"})
    yield "is missing", {**entry, "tensors": {"v": {**w, "parts": {"": "v", "scale": "w.scale"}}}}
    for field, lie in (("axis", 7), ("axis", [9]), ("format", "fp9"), ("saturated", "many")):
        yield "what is stored is not", changed(quantized={**w["quantized"], field: lie})


def test_metadata_that_lies_is_one_line_and_no_file(tmp_path: Path) -> None:
    path, lying = tmp_path / "t.safetensors", tmp_path / "lying.safetensors"
    ff.save_quantized(path, {"w": ff.quantize(normal(2, 4), "absmax", axis=0)})
    for why, entry in damaged(entry_of(path)):
        text = entry if isinstance(entry, str) else json.dumps(entry)
        save_file(load_file(path), lying, {"floatfmt": text})
        with pytest.raises(CheckpointError, match=re.escape(why)) as caught:
            ff.dequantize_checkpoint(lying, tmp_path / "back.safetensors")
        assert str(caught.value).startswith(str(lying))
        assert str(caught.value).isprintable()
        if why not in ("is missing", "bytes are not"):
            with pytest.raises(CheckpointError, match=re.escape(why)):
                ff.load_quantized(lying)
        assert sorted(os.listdir(tmp_path)) == ["lying.safetensors", "t.safetensors"]


def test_two_tensors_cannot_share_a_scale(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    q = ff.quantize(normal(2, 4), "absmax", axis=0)
    ff.save_quantized(path, {"v": q, "w": q})
    entry = entry_of(path)
    entry["tensors"]["v"]["parts"]["scale"] = "w.scale"
    save_file(load_file(path), path, {"floatfmt": json.dumps(entry)})
    with pytest.raises(CheckpointError, match="two quantised tensors share a part"):
        ff.dequantize_checkpoint(path, tmp_path / "back.safetensors")


# What is wrong with the output


def test_outputs_that_make_no_sense_are_refused(
    tmp_path: Path, model: Path, directory: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for source, out, why in (
        (model, None, "output is missing"),
        (model, tmp_path / "out.bin", "is to end in .safetensors"),
        (model, model, "is the input itself"),
        (directory, directory, "is the input itself"),
        (directory / INDEX, directory, "is the input itself"),
        (directory, directory / "out", "lie one within the other"),
        (directory, tmp_path, "lie one within the other"),
        (directory, model, "is a file that is there already"),
        (model, tmp_path / "no" / "out.safetensors", "cannot be written: No such file"),
        (directory, tmp_path / "no" / "out", "cannot be written: No such file"),
    ):
        with pytest.raises((ValueError, TypeError, OSError), match=re.escape(why)):
            ff.quantize_checkpoint(source, out, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_is_replaced_when_the_new_one_is_complete(
    tmp_path: Path, model: Path, directory: Path
) -> None:
    for source, out in ((model, tmp_path / "out.safetensors"), (directory, tmp_path / "out")):
        ff.quantize_checkpoint(source, out, "int8")
        with pytest.raises(CheckpointError, match="is there already"):
            ff.quantize_checkpoint(source, out)

        def interrupted(done: int, total: int) -> None:
            if done == total:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ff.quantize_checkpoint(source, out, overwrite=True, progress=interrupted)
        assert ff.load_quantized(out)["embed.weight"] == expected("embed.weight", "int8")
        ff.quantize_checkpoint(source, out, overwrite=True)
        assert ff.load_quantized(out)["embed.weight"] == expected("embed.weight")
    assert {p.name for p in tmp_path.iterdir()} == {
        *("model", "model.safetensors", "out", "out.safetensors")
    }


#: Quantises with a pause after every write, so that whatever ends it comes in between.
SLOW = """
import sys, time
from floatfmt import checkpoint_writer
write = checkpoint_writer._write
def slow(*args):
    write(*args)
    time.sleep(0.03)
checkpoint_writer._write = slow
import floatfmt as ff, floatfmt.checkpoint_conversion
print("started", flush=True)
ff.quantize_checkpoint(sys.argv[1], sys.argv[2], overwrite=True)
"""


def started(source: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(source), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {p.relative_to(path.parent).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_run_leaves_nothing_under_the_name_and_the_next_gives_the_same_bytes(
    tmp_path: Path, model: Path, directory: Path, kind: str, overwrite: bool
) -> None:
    source, out = model, tmp_path / "o.safetensors"
    if kind == "directory":
        source, out = directory, tmp_path / "o"
    ff.quantize_checkpoint(source, out)
    complete = contents(out)
    old = {}
    if overwrite:
        ff.quantize_checkpoint(source, out, "int8", overwrite=True)
        old = contents(out)
        assert old != complete
    moments = random.Random(7)
    inside = 0
    for _ in range(4):
        if not overwrite:
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            out.unlink(missing_ok=True) if kind == "file" else out.rmdir()
        process = started(source, out)
        time.sleep(moments.uniform(0.0, 0.4))  # of 0.5 s that its pauses alone take
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            inside += 1
            assert (contents(out) if out.exists() else {}) == old
        ff.quantize_checkpoint(source, out, overwrite=True)
        assert contents(out) == complete
        if overwrite:
            ff.quantize_checkpoint(source, out, "int8", overwrite=True)
        assert sorted(os.listdir(tmp_path)) == sorted(["model", "model.safetensors", out.name])
    assert inside


def test_ctrl_c_leaves_nothing(tmp_path: Path, model: Path, directory: Path) -> None:
    for source, out in ((model, tmp_path / "o.safetensors"), (directory, tmp_path / "o")):
        process = started(source, out)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert process.returncode != 0
        assert "KeyboardInterrupt" in err
        assert sorted(os.listdir(tmp_path)) == ["model", "model.safetensors"]


def test_two_runs_at_once_do_not_mix(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out.safetensors"
    first = started(model, out)
    part = tmp_path / "out.safetensors.floatfmt-part"
    while first.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.001)  # it has its size once it is locked
    with pytest.raises(OSError, match="is being written by another process"):
        ff.quantize_checkpoint(model, out, "int8")
    _, err = first.communicate()
    assert (first.returncode, err) == (0, "")
    assert ff.load_quantized(out)["embed.weight"] == expected("embed.weight")


PEAK = """
import re, sys
import floatfmt as ff
from floatfmt.checkpoint_conversion import quantize_checkpoint, dequantize_checkpoint
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
import numpy as np
ff.dequantize = ff.quantize(np.ones((2, 2), "f4"), "absmax").dequantize()
before = peak()
quantize_checkpoint(sys.argv[1], sys.argv[2])
print(peak() - before, end=" ")
dequantize_checkpoint(sys.argv[2], sys.argv[3])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    largest = 1 << 24
    arrays = {f"w{i}": np.zeros((1024, largest // 2048), BF16) for i in range(6)}
    arrays["copied"] = np.zeros(largest, "u1")
    save_file(arrays, tmp_path / "in.safetensors")
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("in", "out", "back")]
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, *paths], capture_output=True, text=True, timeout=60, check=True
    )
    # glibc keeps freed blocks up to its largest mmap threshold, 32 MiB, whatever the tensors.
    assert all(int(peak) < 2 * largest + (20 << 20) for peak in ran.stdout.split())
    assert sum(array.nbytes for array in arrays.values()) > 6 * largest


# Single tensors


@pytest.mark.parametrize("name", ["embed.weight", "layers.0.up.bias", "scalar", "no rows"])
@pytest.mark.parametrize("scheme", ["int8", "int8_zeropoint"])
def test_quantized_pickles_saves_and_loads(tmp_path: Path, name: str, scheme: str) -> None:
    q = expected(name, scheme)
    assert pickle.loads(pickle.dumps(q)) == q
    path = tmp_path / "t.safetensors"
    ff.save_quantized(path, {name: q, "again": q}, metadata={"note": "mine"})
    assert ff.load_quantized(path) == {name: q, "again": q}
    with open_checkpoint(path) as found:
        assert found.metadata["note"] == "mine"
    with pytest.raises(CheckpointError, match="is there already"):
        ff.save_quantized(path, {})
    ff.save_quantized(path, {}, overwrite=True)
    assert ff.load_quantized(path) == {}
    with pytest.raises(CheckpointError, match="is to end in .safetensors"):
        ff.save_quantized(tmp_path / "t.pt", {})


def test_a_quantised_torch_tensor_is_saved_and_loaded_as_numpy(tmp_path: Path) -> None:
    x = torch.linspace(-1, 2, 12).reshape(3, 4).to(torch.bfloat16)
    q = ff.quantize(x, "zeropoint", axis=0)
    ff.save_quantized(tmp_path / "t.safetensors", {"x": q})
    loaded = ff.load_quantized(tmp_path / "t.safetensors")["x"]
    assert isinstance(loaded.codes, np.ndarray)
    assert loaded.codes.flags.writeable
    assert loaded.dequantize().tobytes() == q.dequantize().view(torch.int16).numpy().tobytes()


def test_loaded_tensors_do_not_need_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    q = expected("embed.weight")
    ff.save_quantized(path, {"w": q})
    loaded = ff.load_quantized(path)["w"]
    path.write_bytes(b"")
    assert loaded == q


def test_the_file_says_what_each_tensor_was_and_how_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    ff.save_quantized(path, {"w": expected("embed.weight")})
    entry = entry_of(path)
    assert entry["schema"] == quantized_file.SCHEMA
    w = entry["tensors"]["w"]
    assert (w["dtype"], w["shape"]) == ("bfloat16", [40, 16])
    assert w["parts"] == {"": "w", "scale": "w.scale"}
    assert math.prod(w["shape"]) == load_file(path)["w"].size


def test_names_are_kept_whatever_they_are_and_shown_without_control_characters(
    tmp_path: Path,
) -> None:
    names = ["", "..", "../up", "/etc/x", "a b\n", "\x1b[31m", "ключ", 'quote"\\', "x" * 5000]
    path, out = tmp_path / "t.safetensors", tmp_path / "out.safetensors"
    save_file({name: normal(2, 3) for name in names}, path)
    text = str(ff.quantize_checkpoint(path, dry_run=True))
    assert all(line.isprintable() for line in text.splitlines())
    ff.quantize_checkpoint(path, out)
    assert set(ff.load_quantized(out)) == set(names)
    assert set(load_file(out)) == {*names, *(f"{name}.scale" for name in names)}
    ff.dequantize_checkpoint(out, tmp_path / "back.safetensors")
    assert set(load_file(tmp_path / "back.safetensors")) == set(names)
    assert len(os.listdir(tmp_path)) == 3
    bad = tmp_path / "bad.safetensors"
    save_file({"\x1b[31m\n": np.full((2, 2), np.nan, "f4")}, bad)
    with pytest.raises(ValueError, match="is nan") as caught:
        ff.quantize_checkpoint(bad, out, overwrite=True)
    assert str(caught.value).isprintable()
