"""What `compare` says of a tensor and of a file, against the same figures worked out by hand.

Among these: every row is what the public functions make of whole arrays, every size is theirs, the
Pareto front is found by trying all pairs, and memory stays small.
"""

import importlib
import io
import itertools
import json
import math
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import matplotlib
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import floatfmt as ff
from floatfmt import comparison_plot
from floatfmt.checkpoint import CheckpointError
from floatfmt.comparison import Comparison, ComparisonRow, Table, compare
from floatfmt.comparison_rows import DEFAULT_ROWS, rows_of
from floatfmt.error_figures import keep_freed_memory
from floatfmt.metrics import NO_ERROR, error
from floatfmt.schemes import EXAMPLES, SCHEMES, named, parse
from strategies import FLOAT_DTYPES, finite_arrays

module = importlib.import_module("floatfmt.comparison")

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(0, 0.02, (300, 700)).astype(np.float32)  # more than one piece
E5M2 = ff.Format("e5m2", 5, 2)
FLOAT_FORMATS = ("fp64", "fp32", "tf32", "fp16", "bf16", E5M2)
INT8_ROWS = ("int8_absmax", "int8_zeropoint", "int8_absmax_row")
THIRDS = ff.Codebook([-1.0, -1 / 3, 1 / 3, 1.0], name="thirds")
STOCHASTIC = ("nf4_stochastic", {"scheme": "nf4", "rounding": "stochastic", "seed": 5})
#: Every kind of elements, of scales and of what shares one.
SCHEME_ROWS = (
    *(*INT8_ROWS, "int8", "uint4_asymmetric_block64", "int4_block32", "int3_row", "nf4", "nf4_row"),
    *("nf4_double", "fp4", "dynamic8", "mxfp8_e5m2", "mxfp4_rceil", "nvfp4", "mxint8"),
    *("fp8_e4m3fn_scaled", "fp6_e2m3fn_row", "int8_block48_fp16scale", "int4_p99"),
)
EVERY_ROW = (*FLOAT_FORMATS, *SCHEME_ROWS, THIRDS, STOCHASTIC)


def options_of(which, ndim: int) -> dict | None:
    """The options of `ff.quantize` that a row stands for; None where it is a cast."""
    if isinstance(which, ff.Codebook):
        return {"scheme": which}
    if isinstance(which, tuple):
        return which[1]
    if which in FLOAT_FORMATS:
        return None
    options = parse(which)
    if options.get("axis") == 0 and ndim < 2:  # one scale
        options["axis"] = ()
    return options


def name_of(which) -> str:
    return which[0] if isinstance(which, tuple) else str(which)


@pytest.fixture(autouse=True)
def _no_time_is_spent_on_speed(monkeypatch):
    for name in ("TIMED_VALUES", "TIMED_VALUES_OF_REFERENCE"):
        monkeypatch.setattr(module, name, 1000)
    for name in ("SPEED_BUDGET_S", "COPY_BUDGET_S"):
        monkeypatch.setattr(module, name, 0.0)


def untimed(*arguments, **options) -> Comparison:
    """`compare` without its measurement of speed, for tests that call it often."""
    with patch.object(module, "_speeds", lambda rows, piece: ([(1.0, 2.0)] * len(rows), 3.0)):
        return compare(*arguments, **options)


def by_hand(x: np.ndarray, which) -> dict:
    """The figures of one tensor in one format, from whole arrays and public functions."""
    options = options_of(which, x.ndim)
    if options is not None:
        q = ff.quantize(x, **options)
        y, nbytes, saturated = q.dequantize(), q.nbytes, q.saturated
    else:
        codes = ff.encode(x, which)
        y, nbytes = ff.decode(codes, which), codes.nbytes
        saturated = np.count_nonzero(np.isinf(y) & np.isfinite(x))
    flushed = np.count_nonzero((y == 0) & (x != 0))
    return {"nbytes": nbytes, "saturated": saturated, "flushed": flushed, "error": error(x, y)}


def row_of(result: Comparison, which) -> ComparisonRow:
    (row,) = (row for row in result.rows if row.name == name_of(which))
    return row


def assert_same(row, expected: dict) -> None:
    for name in ("nbytes", "saturated", "flushed"):
        assert getattr(row, name) == expected[name], (row.name, name)
    assert row.error.count == expected["error"].count
    assert row.error.max_abs == expected["error"].max_abs, row.name
    for name in ("rmse", "mean_error", "signal_rms", "sqnr_db"):
        wanted = getattr(expected["error"], name)
        scale = expected["error"].max_abs if name == "mean_error" else abs(wanted)
        margin = 1e-12 * scale if math.isfinite(scale) else 0
        near = pytest.approx(wanted, rel=1e-12, abs=margin, nan_ok=True)
        assert getattr(row.error, name) == near, (row.name, name)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A file of float tensors of three formats, and of others."""
    path = tmp_path / "model.safetensors"
    weights = RNG.normal(0, 1, (40, 30)).astype(np.float32)
    weights[3, 4:7] = 1e6, 1e-9, -1e9  # fp16 has room for none of them
    brain = RNG.normal(0, 1, 77).astype(ml_dtypes.bfloat16)
    brain[5:7] = 1e30, 1e-30
    safetensors.numpy.save_file(
        {
            "wte.weight": weights,
            "half": RNG.normal(0, 1, (5, 3, 2)).astype(np.float16),
            "brain": brain,
            "scalar": np.array(1.5, np.float32),
            "nothing": np.zeros((0, 3), np.float32),
            "ids": np.arange(4),
            "more ids": np.arange(3),
            "mask": np.array([True]),
        },
        path,
    )
    return path


# --- one tensor ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (5,), (1, 1), (7, 9), (2, 3, 4), (0x12345,), (3, 70_000)])
def test_every_figure_is_that_of_the_whole_array_worked_out_by_hand(dtype, shape):
    x = (RNG.normal(0.01, 0.5, shape) * RNG.choice([1e-7, 1, 1e4], shape)).astype(dtype)
    result = untimed(x, EVERY_ROW)
    assert len(result.rows) == len(EVERY_ROW)
    for which in EVERY_ROW:
        assert_same(row_of(result, which), by_hand(x, which))


@given(st.sampled_from(FLOAT_DTYPES).flatmap(lambda d: finite_arrays(d, min_size=1)), st.data())
def test_every_figure_is_that_of_the_whole_array_whatever_the_values(x, data):
    columns = data.draw(st.sampled_from([n for n in (1, 2, 3, 7, x.size) if x.size % n == 0]))
    x = x.reshape(-1, columns) if data.draw(st.booleans()) else x
    with np.errstate(all="ignore"):
        result = untimed(x, EVERY_ROW)
        for which in EVERY_ROW:
            assert_same(row_of(result, which), by_hand(x, which))


@pytest.mark.parametrize("which", SCHEME_ROWS)
def test_every_figure_is_the_same_on_every_backend(backend, which):
    x = WEIGHTS[:20, :130]
    assert_same(untimed(x, which).rows[0], by_hand(x, which))


def test_every_scheme_and_every_example_of_a_name_is_a_row():
    names = [name for name in (*SCHEMES, *EXAMPLES) if named(name)]
    rows = {row.name: row for row in untimed(WEIGHTS[:3], names).rows}
    assert set(rows) == set(names)
    for name in set(names) - {"fp8_e4m3fn", "fp8_e5m2"}:  # plain casts
        assert rows[name].nbytes == ff.quantize(WEIGHTS[:3], **parse(name)).nbytes


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: torch.from_numpy(x),
        lambda x: torch.nn.Parameter(torch.from_numpy(x)),
        lambda x: torch.from_numpy(x.T.copy()).T,
    ],
)
def test_layout_byte_order_and_kind_of_array_change_no_figure(arrange):
    changed, plain = untimed(arrange(WEIGHTS.copy())), untimed(WEIGHTS)
    assert [row.nbytes for row in changed.rows] == [row.nbytes for row in plain.rows]
    for row, expected in zip(changed.rows, plain.rows, strict=True):
        assert row.error.rmse == pytest.approx(expected.error.rmse, rel=1e-13)
        assert row.flushed == expected.flushed


def test_a_torch_bfloat16_tensor_is_its_values():
    x = torch.from_numpy(WEIGHTS).bfloat16()
    assert untimed(x, "bf16").rows[0].error.max_abs == 0
    assert untimed(x, "bf16").dtypes == ("bf16",)


def test_the_default_rows_go_from_32_bits_to_4():
    rows = untimed(WEIGHTS).rows
    assert sorted(row.name for row in rows) == sorted(DEFAULT_ROWS)
    assert rows[0].bits_per_weight < 4.5
    assert rows[-1].bits_per_weight == 32


def test_rows_are_sorted_by_bits_and_of_equals_the_better_comes_first():
    rows = untimed(WEIGHTS, [*EVERY_ROW, *DEFAULT_ROWS]).rows
    keys = [(row.bits_per_weight, -row.error.sqnr_db) for row in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) > 20


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([-math.inf, 1, 2, 3, math.inf]))))
def test_the_pareto_front_is_what_no_other_row_beats(points):
    rows = []
    for nbytes, sqnr in points:
        rmse = 0.0 if sqnr == math.inf else math.inf if sqnr < 0 else 10.0 ** (-sqnr / 20)
        figures = replace(NO_ERROR, count=1, signal_rms=1.0, rmse=rmse)
        rows.append(ComparisonRow("f", 1, nbytes, figures, 0, 0, 1.0, 1.0))
    ranked = module._ranked(rows)
    assert len(ranked) == len(rows)
    for row in ranked:
        beaten = False
        for other in ranked:
            no_worse = other.nbytes <= row.nbytes and other.error.sqnr_db >= row.error.sqnr_db
            better = other.nbytes < row.nbytes or other.error.sqnr_db > row.error.sqnr_db
            beaten = beaten or (no_worse and better)
        assert row.pareto != beaten


def test_the_front_of_the_sample_model_is_marked_in_every_form():
    result = untimed()
    front = [row.name for row in result.rows if row.pareto]
    assert front[-1] == "fp32"
    assert "bf16" not in front  # fp16 is closer in as many bits
    marked = [line.split()[0] for line in str(result).splitlines() if re.match(r"\S+ +\* ", line)]
    assert marked == front
    assert [row["name"] for row in result.to_dict()["rows"] if row["pareto"]] == front
    assert result._repr_html_().count(">*</td>") == len(front)
    assert "* Pareto front: no row has a higher SQNR" in " ".join(str(result).split())


def test_known_values_have_known_figures():
    x = np.float32([0.1, -1.5, 3.2])
    absmax, zeropoint = untimed(x, ["int8_absmax", "int8_zeropoint"]).rows
    assert (absmax.name, zeropoint.name) == ("int8_absmax", "int8_zeropoint")
    assert (absmax.nbytes, zeropoint.nbytes) == (3 + 4, 3 + 4 + 8)
    # By hand: scale 3.2 / 127, codes 4, -60, 127.
    assert absmax.error.max_abs == pytest.approx(60 * 3.2 / 127 - 1.5, rel=1e-5)
    assert absmax.bits_per_weight == pytest.approx(56 / 3)


def test_bits_per_weight_includes_the_scales_of_every_row():
    row = untimed(WEIGHTS, "int8_absmax_row").rows[0]
    assert row.nbytes == 300 * 700 + 300 * 4
    assert row.bits_per_weight == pytest.approx(8 + 32 / 700)


def test_values_that_become_inf_and_values_that_become_zero_are_counted():
    x = np.float32([65520, -1e30, 65504, 1e-9, -1e-10, 0.0, -0.0, 1.0])
    result = untimed(x, ["fp16", "bf16"])
    fp16, bf16 = row_of(result, "fp16"), row_of(result, "bf16")
    assert (fp16.saturated, fp16.flushed) == (2, 2)
    assert (bf16.saturated, bf16.flushed) == (0, 0)
    assert (fp16.error.max_abs, fp16.error.sqnr_db) == (math.inf, -math.inf)
    int8 = untimed(np.float32([100, 0.1, 0.2, 0.0]), "int8_absmax").rows[0]
    assert (int8.saturated, int8.flushed) == (0, 2)


def test_constant_zero_and_extreme_tensors_have_finite_figures():
    for x in (np.zeros(5), np.full((2, 3), -7.0), np.float64([1e308, -1e308, 5e-324])):
        for row in untimed(x, [*SCHEME_ROWS, "fp64"]).rows:
            assert row.error.max_abs < math.inf
            assert not math.isnan(row.error.sqnr_db)


# --- formats ------------------------------------------------------------------------------------


def test_formats_are_whatever_names_a_format():
    wanted = ["bfloat16", np.float16, torch.float32, ml_dtypes.bfloat16, E5M2, " INT8_absmax "]
    rows = rows_of([*wanted, THIRDS, torch.int8, "mxint8", ff.format("mxint8"), STOCHASTIC])
    assert [row.name for row in rows] == [
        *("bf16", "fp16", "fp32", "e5m2", "int8_absmax", "thirds", "int8", "mxint8", "mxint8"),
        "nf4_stochastic",
    ]
    assert [row.needs_finite for row in rows] == [False] * 4 + [True] * 6


def test_a_float_formats_name_is_a_cast_and_its_scaled_one_a_scheme():
    x = WEIGHTS * np.float32(1e-3)
    cast, scaled = untimed(x, ["fp8_e4m3fn", "fp8_e4m3fn_scaled"]).rows
    assert (cast.name, scaled.nbytes - cast.nbytes) == ("fp8_e4m3fn", 4)
    assert cast.error.max_abs == error(x, ff.round_to(x, "fp8_e4m3fn")).max_abs
    assert cast.flushed > scaled.flushed
    assert cast.error.sqnr_db < 10 < scaled.error.sqnr_db


@pytest.mark.parametrize("one", ["fp16", np.float16, E5M2, np.dtype(np.float16), "nf4", THIRDS])
def test_one_format_needs_no_list(one):
    assert len(untimed(WEIGHTS, one).rows) == 1


def test_a_format_asked_for_twice_has_one_row():
    twice = untimed(WEIGHTS, ["fp16", "int8_absmax", "half", "int8_absmax", E5M2, E5M2])
    assert sorted(row.name for row in twice.rows) == ["e5m2", "fp16", "int8_absmax"]


def test_what_is_stored_is_said_where_codes_do_not_fill_their_bytes():
    row = untimed(WEIGHTS, "tf32").rows[0]
    assert row.bits_per_weight == 32
    assert row.note == "tf32 codes have 19 bits, stored in 32"
    assert row.note in str(untimed(WEIGHTS, "tf32"))
    assert untimed(WEIGHTS, "bf16").rows[0].note == ""


def test_an_unknown_format_is_named_with_the_nearest_known_ones():
    for name, nearest in (
        *(("int8_abmax", "int8_absmax"), ("nf5", "nf4"), ("mxfp", "mxfp8_e4m3fn")),
        *(("bf61", "bf16"), ("int4_blck32", "int4_block32"), ("nf4_row_", "nf4")),
    ):
        with pytest.raises(ValueError, match=rf"'{name}'; nearest: .*{nearest}.*known: .*_row"):
            compare(WEIGHTS, ["bf16", name])
    with pytest.raises(TypeError, match="a format is a name"):
        compare(WEIGHTS, [3.5])
    with pytest.raises(ValueError, match="no format"):
        compare(WEIGHTS, [])
    with pytest.raises(TypeError, match=r"name, options of ff.quantize.*, got \('a', 3\)"):
        compare(WEIGHTS, [("a", 3)])


def test_options_that_do_not_go_together_are_an_error_before_any_work(tmp_path):
    with pytest.raises(TypeError, match="nvfp4_rceil: scale_rule= is for scales"):
        compare(tmp_path / "missing.npy", "nvfp4_rceil")
    with pytest.raises(ValueError, match="mine: bits must be from 2 to 8, got 9"):
        compare(tmp_path / "missing.npy", [("mine", {"scheme": "absmax", "bits": 9})])
    for options, message in (
        ({"scale": 0.5}, "mine: a row's options are scheme, .*; got 'scale'"),
        ({"scheme": "nf4", "nonfinite": "ignore"}, "got 'nonfinite'"),
        ({}, "mine: give a scheme"),
    ):
        with pytest.raises(TypeError, match=message):
            compare(tmp_path / "missing.npy", [("mine", options)])


def test_a_row_may_be_any_options_that_quantize_takes():
    x = WEIGHTS.reshape(3, 100, 700)
    row = ("per channel", {"scheme": ff.format("fp6_e2m3fn"), "axis": [0, 2], "clip": 99.0})
    assert_same(untimed(x, [row, row]).rows[0], by_hand(x, row))
    with pytest.raises(ValueError, match="axis 2 is out of range for an array of 2 dimensions"):
        untimed(WEIGHTS, [row])


# --- files --------------------------------------------------------------------------------------


def test_every_float_tensor_of_a_file_is_quantised_by_itself_and_the_rest_counted(checkpoint):
    result = untimed(checkpoint, EVERY_ROW)
    tensors = safetensors.numpy.load_file(checkpoint)
    floats = [x for name, x in tensors.items() if x.dtype in FLOAT_DTYPES and x.size]
    assert len(floats) == result.tensors == 4
    assert result.values == sum(x.size for x in floats) == 1200 + 30 + 77 + 1
    assert sorted(result.skipped) == [("bool", 1), ("int64", 2)]
    assert sorted(result.dtypes) == ["bf16", "fp16", "fp32"]
    fp16 = row_of(result, "fp16")
    assert (fp16.saturated, fp16.flushed) == (3, 2)
    for which in EVERY_ROW:
        parts = [by_hand(x, which) for x in floats]
        total = {key: sum(p[key] for p in parts) for key in ("nbytes", "saturated", "flushed")}
        total["error"] = NO_ERROR
        for part in parts:
            total["error"] = total["error"].merge(part["error"])
        assert_same(row_of(result, which), total)


def test_one_tensor_of_a_file_can_be_chosen(checkpoint):
    result = untimed(checkpoint, tensor="half")
    x = safetensors.numpy.load_file(checkpoint)["half"]
    assert (result.tensors, result.values, result.skipped) == (1, 30, ())
    assert "tensor 'half'" in result.source
    assert_same(row_of(result, "int8_absmax"), by_hand(x, "int8_absmax"))


@pytest.mark.parametrize("save", [np.save, lambda path, x: np.save(path, np.asfortranarray(x))])
def test_npy_files_are_compared(tmp_path, save):
    save(tmp_path / "w.npy", WEIGHTS)
    result = untimed(str(tmp_path / "w.npy"))
    assert result.values == WEIGHTS.size
    for which in SCHEME_ROWS:
        assert_same(row_of(untimed(tmp_path / "w.npy", which), which), by_hand(WEIGHTS, which))


def test_npz_files_are_compared(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=WEIGHTS, b=np.arange(3), c=WEIGHTS[:2] * 100)
    result = untimed(tmp_path / "w.npz")
    assert (result.tensors, result.skipped) == (2, (("int64", 1),))
    one = untimed(tmp_path / "w.npz", tensor="a")
    assert_same(row_of(one, "int8_zeropoint"), by_hand(WEIGHTS, "int8_zeropoint"))


def test_by_default_the_sample_model_is_compared():
    result = untimed()
    assert result.source == "the sample model"
    assert result.values > 1_000_000
    sqnr = {row.name: row.error.sqnr_db for row in result.rows}
    assert sqnr["fp32"] == math.inf
    assert sqnr["fp16"] > sqnr["bf16"] > sqnr["int8_absmax_row"] > sqnr["int8_absmax"]


def test_no_floats_is_an_error_that_says_what_there_is(tmp_path, checkpoint):
    np.save(tmp_path / "ids.npy", np.arange(3))
    with pytest.raises(TypeError, match=r"ids.npy holds int64; compare needs floating-point"):
        compare(tmp_path / "ids.npy")
    with pytest.raises(TypeError, match=r"tensor 'mask' holds bool; compare needs floating-point"):
        compare(checkpoint, tensor="mask")
    with pytest.raises(TypeError, match="int64"):
        compare(np.arange(3))
    safetensors.numpy.save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(TypeError, match="holds no tensor"):
        compare(tmp_path / "empty.safetensors")


def test_no_values_is_an_error(checkpoint):
    with pytest.raises(ValueError, match=r"nothing to compare.*\(0, 3\)"):
        compare(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="nothing to compare: .*'nothing' is empty"):
        compare(checkpoint, tensor="nothing")


def test_a_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="no such tensor.*'half'"):
        compare(checkpoint, tensor="hafl")
    with pytest.raises(CheckpointError, match="No such file"):
        compare(tmp_path / "missing.npy")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        compare(checkpoint)


def test_a_tensor_is_chosen_from_a_file_not_from_an_array():
    with pytest.raises(TypeError, match="tensor='a' chooses from a file"):
        compare(WEIGHTS, tensor="a")


# --- NaN and Inf --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [*INT8_ROWS, "nf4", "mxfp4", "fp8_e4m3fn_row", "fp4_e2m1fn"])
def test_a_scheme_refuses_nan_and_inf_and_names_the_first(value, row):
    x = WEIGHTS.copy()
    x[200, 3] = x[250, 1] = value
    with pytest.raises(
        ValueError, match=rf"x\[200, 3\] is {value}; {row} needs finite values: compare float"
    ):
        compare(x, row)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_schemes_are_left_out_where_values_are_not_finite_and_floats_remain(tmp_path, place):
    tensors = {name: WEIGHTS[:4].copy() for name in "abc"}
    tensors["abc"[place]][1, 7] = np.nan
    np.savez(tmp_path / "m.npz", **tensors)
    result = untimed(tmp_path / "m.npz")
    floats = {"fp32", "bf16", "fp16", "fp8_e4m3fn"}
    assert {row.name for row in result.rows} == floats
    assert {row.values for row in result.rows} == {3 * 4 * 700}
    reason = f"needs finite values: tensor '{'abc'[place]}'[1, 7] is nan"
    assert result.left_out == tuple((n, reason) for n in DEFAULT_ROWS if n not in floats)
    assert result.to_dict()["left_out"][0] == {"name": "fp8_e4m3fn_row", "reason": reason}
    text = " ".join(str(result).split())
    assert "Left out: fp8_e4m3fn_row, mxfp8_e4m3fn, int8_absmax" in text
    assert f"nvfp4, which need{reason.removeprefix('needs')}." in text
    assert text.count("is nan") == 1


def test_the_tensor_with_the_nan_is_named_and_control_characters_are_not_printed(tmp_path):
    path = tmp_path / "m.safetensors"
    bad = np.float32([1, np.nan])
    safetensors.numpy.save_file({"a": np.float32([1]), "z\x1b[31m\n": bad}, path)
    with pytest.raises(ValueError, match=r"tensor 'z.*'\[1\] is nan") as caught:
        compare(path, "int8")
    assert str(caught.value).isprintable()
    assert all(reason.isprintable() for _, reason in untimed(path).left_out)
    assert untimed(path, ["fp16"]).rows[0].error.max_abs == 0


def test_control_characters_in_a_path_are_not_printed(tmp_path):
    path = tmp_path / "w\x1b[31m\n.npy"
    np.save(path, WEIGHTS[:2])
    result = untimed(path)
    assert result.source == str(tmp_path / "w?[31m?.npy")
    assert "\x1b" not in str(result) + result._repr_html_()


def test_a_signalling_nan_is_found_without_a_warning():
    for dtype, code in ((np.float32, 0x7F800001), (np.float64, 0x7FF0000000000001)):
        x = np.array([0, code], f"u{np.dtype(dtype).itemsize}").view(dtype)
        assert untimed(x, "fp16").rows[0].error.max_abs == 0
        with pytest.raises(ValueError, match=r"x\[1\] is nan"):
            compare(x, "int8_absmax")


def test_float_formats_take_nan_and_inf_as_they_are():
    x = np.float32([1.0, np.nan, np.inf, -np.inf, 3.0])
    for row in untimed(x, ["fp32", "fp16", "bf16", "tf32"]).rows:
        assert (row.error.max_abs, row.saturated, row.flushed) == (0, 0, 0)


# --- size, time and progress --------------------------------------------------------------------


def test_memory_does_not_grow_with_the_tensor(tmp_path):
    def peak(size: int) -> int:
        np.save(tmp_path / "w.npy", np.tile(WEIGHTS[0], (size, 1)))
        tracemalloc.start()
        try:
            untimed(tmp_path / "w.npy")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    keep_freed_memory()
    small, large = peak(1_000), peak(8_000)
    assert large < small + 8_000 * 700  # less than even the int8 codes of the whole


@pytest.mark.parametrize("row", ["nf4", "nf4_double", "nvfp4", "mxfp8_e4m3fn", "int8_row", "int8"])
def test_only_the_scales_of_a_row_take_memory(tmp_path, row):
    """28 bytes a scale, in addition to what small tensors need."""
    scales = {"nf4": 64, "nf4_double": 64, "nvfp4": 16, "mxfp8_e4m3fn": 32, "int8_row": 1024}

    def peak(rows: int) -> int:
        np.save(tmp_path / "w.npy", np.tile(RNG.normal(0, 1, 1024).astype(np.float32), (rows, 1)))
        tracemalloc.start()
        try:
            untimed(tmp_path / "w.npy", row)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    keep_freed_memory()
    peak(8)
    small, large = peak(512), peak(6144)
    more = (6144 - 512) * 1024 // scales[row] if row in scales else 1
    # Double quantisation makes a list of Python's floats to add them up exactly.
    assert large < small + 28 * more + (40 * more if row == "nf4_double" else 0) + 100_000


def test_progress_is_told_how_many_of_all_values_are_done(checkpoint):
    seen = []
    untimed(checkpoint, "bf16", progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [1308] * len(seen)
    assert seen[-1] == (1308, 1308)
    assert len(seen) == 4
    assert seen == sorted(set(seen))
    seen.clear()
    untimed(WEIGHTS, "bf16", progress=lambda done, total: seen.append(done))
    assert len(seen) > 2


def test_speed_is_measured_and_positive(backend):
    result = compare(WEIGHTS)
    speeds = [s for row in result.rows for s in (row.encode_gb_per_s, row.decode_gb_per_s)]
    assert all(0 < speed < math.inf for speed in [*speeds, result.copy_gb_per_s])
    assert result.backend == backend


def test_speed_counts_the_bytes_read_and_the_bytes_written(monkeypatch):
    one_second = module.interleaved({"": lambda: None}, budget_s=0)[""].__class__(1.0, 0.0, 3)
    monkeypatch.setattr(
        module, "interleaved", lambda contenders, budget_s: dict.fromkeys(contenders, one_second)
    )
    result = compare(WEIGHTS, ["fp16", "fp64", "int8_absmax_row"])
    assert result.timed == "700 values of x"  # whole rows
    encoded = [round(row.encode_gb_per_s * 1e9) / 700 for row in result.rows]
    decoded = [round(row.decode_gb_per_s * 1e9) / 700 for row in result.rows]
    assert [row.name for row in result.rows] == ["int8_absmax_row", "fp16", "fp64"]
    assert encoded == [4 + 1, 4 + 2, 4 + 8]
    assert decoded == [1 + 4, 2 + 4, 8 + 8]


def test_what_is_timed_gives_the_codes_and_values_of_the_public_functions():
    for which, row in zip(EVERY_ROW, rows_of(EVERY_ROW), strict=True):
        arrays = {}

        def scratch(dtype, arrays=arrays):
            arrays[dtype] = np.zeros(WEIGHTS.shape, dtype)
            return arrays[dtype]

        encoding, decoding = row.contenders(WEIGHTS, scratch)
        encoding.run()
        decoding.run()
        (values,) = arrays.values()
        assert error(WEIGHTS, values) == by_hand(WEIGHTS, which)["error"]


# --- how it is shown ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown() -> Comparison:
    return untimed(WEIGHTS, [*DEFAULT_ROWS, "tf32"])


def test_the_text_is_an_aligned_table_of_every_row_within_80_columns(shown):
    lines = str(shown).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    start = next(i for i, line in enumerate(lines) if line.startswith(shown.rows[0].name))
    table = lines[start : start + len(shown.rows) + 1]
    assert [line.split()[0] for line in table] == [row.name for row in shown.rows] + ["(copy)"]
    assert len({len(line) for line in table}) == 1
    assert "…" not in str(shown)


def test_the_text_says_what_was_compared_skipped_and_timed(checkpoint):
    text = " ".join(str(untimed(checkpoint)).split())
    for words in (
        "model.safetensors: 1,308 ",
        " values in 4 tensors, each quantised by itself",
        "1 of bool",
        "2 of int64",
        "bytes read and written per second",
        "tensor 'wte.weight'",
    ):
        assert words in text


@pytest.mark.parametrize("width", [40, 60, 80, 88, 120])
@pytest.mark.parametrize("colour", [True, False])
def test_rich_shows_every_cell_within_the_terminal(shown, width, colour):
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False,
        color_system="truecolor" if colour else None,
    )  # fmt: skip
    console.print(shown, soft_wrap=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert all(len(line) <= width for line in plain.splitlines())
    cells = {cell for row in module._table(shown).rows for cell, _ in row if cell}
    assert all(cell in plain for cell in cells)
    assert ("\x1b[" in stream.getvalue()) == colour


def test_a_table_too_wide_is_cut_into_blocks_that_each_name_the_rows():
    header = (("name",), *(("column", str(i)) for i in range(6)))
    rows = tuple((("row", "name"), *((f"{i}{j}" * 4, "") for j in range(6))) for i in range(2))
    table = Table(header, rows)

    def lines(width):
        return ["".join(text for text, _ in line) for line in table.lines(width)]

    assert len(lines(None)) == len(lines(200)) == 4
    narrow = lines(30)
    assert max(map(len, narrow)) <= 30
    assert sum(line.startswith("row") for line in narrow) == 2 * (narrow.count("") + 1) > 2
    assert all(cell in "\n".join(narrow) for row in rows for cell, _ in row)
    assert lines(1)  # too little for anything, and nothing is cut all the same
    assert all(cell in "\n".join(lines(1)) for row in rows for cell, _ in row)


def test_a_table_is_cut_first_where_it_says_and_drops_rows_that_a_block_leaves_empty():
    rows = ((("a", ""), ("1" * 9, ""), ("", "")), (("b", ""), ("", ""), ("2" * 9, "")))
    table = Table((("",), ("one",), ("two",)), rows, breaks=(2,))
    shown = ["".join(text for text, _ in line) for line in table.lines(15)]
    assert [line.split() for line in shown] == [
        ["one"],
        ["a", "1" * 9],
        [],
        ["two"],
        ["b", "2" * 9],
    ]
    assert len(list(table.lines(40))) == 3


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_html_is_the_same_table_and_escapes_what_it_shows(tmp_path, shown):
    parser = _Cells()
    parser.feed(shown._repr_html_())
    assert not parser.open
    cells = [cell for row in module._table(shown).rows for cell, _ in row if cell]
    assert set(cells) <= set(parser.text)
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"<script>": WEIGHTS}, path)
    assert "<script>" not in untimed(path)._repr_html_()


def test_to_dict_is_json_with_a_schema_version_and_every_column(shown):
    card = shown.to_dict()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["schema"] == "floatfmt.compare/1"
    assert [row["name"] for row in card["rows"]] == [row.name for row in shown.rows]
    assert {row["name"]: row["sqnr_db"] for row in card["rows"]}["fp32"] == "inf"
    assert set(card["rows"][0]) == {
        *("name", "values", "nbytes", "bits_per_weight", "max_abs", "rmse", "mse", "sqnr_db"),
        *("mean_error", "signal_rms", "saturated", "flushed"),
        *("relative_frobenius", "cosine", "approximation_rms", "max_ulp", "mean_ulp"),
        *("outliers", "outlier_share", "outlier_threshold"),
        *("encode_gb_per_s", "decode_gb_per_s", "note", "pareto"),
    }


def test_a_comparison_is_frozen_and_holds_no_arrays(shown):
    with pytest.raises(AttributeError):
        shown.rows = ()
    with pytest.raises(AttributeError):
        shown.rows[0].nbytes = 0
    assert not hasattr(shown, "__dict__")


def test_comparing_imports_neither_torch_nor_rich(tmp_path):
    np.save(tmp_path / "w.npy", WEIGHTS[:3])
    program = (
        "import sys; from floatfmt.comparison import compare; str(compare(sys.argv[1])); "
        "print({'torch', 'rich', 'matplotlib'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "w.npy"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("fmt", "saturated"),
    [
        *(("fp8_e4m3fn", 2), ("fp4_e2m1fn", 4), ("fp6_e3m2fn", 2), ("fp8_ue4m3", 5)),
        (ff.format("mxint8"), 6),
    ],
)
def test_values_beyond_a_format_count_as_saturated(fmt, saturated):
    x = np.float32([0.5, -1.0, 1.9, 2.0, -2.0, 5.99, 7.0, -7.0, 465.0, -1e9])
    row = untimed(x, fmt).rows[0]
    ours = ff.decode(ff.encode(x, fmt, overflow="saturate"), fmt, dtype=np.float64)
    low, high = (float(v) for v in (ff.format(fmt).lowest, ff.format(fmt).max_finite))
    outside = (x.astype(np.float64) > high) | (x.astype(np.float64) < low)
    assert row.saturated == saturated <= outside.sum()
    assert ((ours == high) | (ours == low))[outside].all()


def test_sub_byte_formats_count_as_packed():
    x = np.linspace(-1, 1, 1001, dtype=np.float32)
    sizes = {row.name: row.nbytes for row in untimed(x, ["fp4_e2m1fn", "fp6_e2m3fn"]).rows}
    assert sizes == {"fp4_e2m1fn": 501, "fp6_e2m3fn": 751}
    note = untimed(x, "fp4_e2m1fn").rows[0].note
    assert note == "fp4_e2m1fn counts as packed, 4 bits a code (see ff.pack)"


def test_a_format_without_nan_names_the_first_value_it_cannot_take():
    x = np.float32([1, np.nan])
    with pytest.raises(ValueError, match=r"x\[1\] is nan; fp4_e2m1fn needs finite values"):
        untimed(x, "fp4_e2m1fn")
    with pytest.raises(ValueError, match="fp4_e2m1fn, nf4 need finite values"):
        untimed(x, ["fp4_e2m1fn", "nf4"])
    assert untimed(x, "fp8_e4m3fn").rows[0].error.count == 2


# --- the plot -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extremes() -> Comparison:
    """Rows without error, with infinite error, left out, and with a name that is no mathematics."""
    x = WEIGHTS[:4].copy()
    x[0, :2] = np.nan, 1e30
    return untimed(x, [*DEFAULT_ROWS, ff.Format("$e5_m3$ <&>", 5, 3)])


@pytest.mark.parametrize("which", ["shown", "extremes"])
def test_the_plot_is_svg_that_names_every_row_and_the_source(request, tmp_path, which):
    result = request.getfixturevalue(which)
    result.plot(tmp_path / "out.svg")
    root = ElementTree.parse(tmp_path / "out.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}
    named = {text.partition(" (")[0] for text in texts}
    assert {row.name for row in result.rows} <= named
    assert {result.source, "SQNR, dB", "bits a weight, scales included"} <= texts
    assert ("fp32 (no error)" in texts) == (row_of(result, "fp32").error.sqnr_db == math.inf)
    left_out = [name for name, _ in result.left_out]
    assert all(any(name in text for text in texts) for name in left_out)
    assert ("fp16 (-inf dB)" in texts) == bool(left_out)


def test_no_name_in_the_plot_covers_another_or_a_point():
    names = [
        *DEFAULT_ROWS,
        "nf4_double",
        "fp4",
        "mxfp4_rceil",
        "int8",
        "dynamic8",
        "mxint8",
        "tf32",
    ]
    result = untimed(None, names)
    figure = comparison_plot._figure(result)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == len(names)
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    for row in result.rows:
        sqnr = min(row.error.sqnr_db, axes.get_ylim()[1])
        x, y = axes.transData.transform((row.bits_per_weight, sqnr))
        assert not any(box.contains(x, y) for box in boxes)
    for box in boxes:
        assert figure.bbox.contains(box.x0, box.y0)
        assert figure.bbox.contains(box.x1, box.y1)


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_the_plot_is_of_the_kind_that_its_suffix_says(tmp_path, shown, suffix, head):
    shown.plot(str(tmp_path / f"out{suffix}"))
    assert (tmp_path / f"out{suffix}").read_bytes().startswith(head)


def test_the_same_comparison_is_the_same_file_whatever_matplotlib_is_set_to(tmp_path, shown):
    shown.plot(tmp_path / "a.svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        shown.plot(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("formats", [["bf16"], ["fp32"], ["nf4", "int8"]])
def test_a_single_row_has_a_plot_too(tmp_path, formats):
    untimed(np.zeros((2, 3), np.float32), formats).plot(tmp_path / "zeros.svg")
    untimed(WEIGHTS[:2], formats).plot(tmp_path / "out.svg")
    assert formats[0] in (tmp_path / "out.svg").read_text()


def test_what_cannot_be_plotted_is_said_in_a_line(tmp_path, shown, monkeypatch):
    with pytest.raises(ValueError, match=r"out.jpg': a plot is a .svg, .png or .pdf file"):
        shown.plot(tmp_path / "out.jpg")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        shown.plot(tmp_path / "none" / "out.svg")
    monkeypatch.setattr(comparison_plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'floatfmt\[plot\]'"):
        shown.plot(tmp_path / "out.svg")
    assert list(tmp_path.iterdir()) == []
