"""What `compare` says of a tensor and of a file, against the same figures worked out by hand."""

import importlib
import io
import json
import math
import re
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import floatfmt as ff
from floatfmt.checkpoint import CheckpointError
from floatfmt.compare import INT8_ROWS, Comparison, Table, compare
from floatfmt.error_figures import keep_freed_memory
from floatfmt.metrics import NO_ERROR, error
from strategies import FLOAT_DTYPES, finite_arrays

#: `floatfmt.compare` names the function once the package exports it.
module = importlib.import_module("floatfmt.compare")

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(0, 0.02, (300, 700)).astype(np.float32)  # more than one piece
E5M2 = ff.Format("e5m2", 5, 2)
FLOAT_FORMATS = ("fp64", "fp32", "tf32", "fp16", "bf16", E5M2)
EVERY_ROW = (*FLOAT_FORMATS, *INT8_ROWS)
QUANTISERS = {
    "int8_absmax": lambda x: ff.quantize(x, "absmax"),
    "int8_zeropoint": lambda x: ff.quantize(x, "zeropoint"),
    "int8_absmax_row": lambda x: ff.quantize(x, "absmax", axis=0 if x.ndim > 1 else None),
}


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
    if which in QUANTISERS:
        q = QUANTISERS[which](x)
        y, nbytes, saturated = q.dequantize(), q.nbytes, q.saturated
    else:
        codes = ff.encode(x, which)
        y, nbytes = ff.decode(codes, which), codes.nbytes
        saturated = np.count_nonzero(np.isinf(y) & np.isfinite(x))
    flushed = np.count_nonzero((y == 0) & (x != 0))
    return {"nbytes": nbytes, "saturated": saturated, "flushed": flushed, "error": error(x, y)}


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
    for row, which in zip(untimed(x, EVERY_ROW).rows, EVERY_ROW, strict=True):
        assert_same(row, by_hand(x, which))


@given(st.sampled_from(FLOAT_DTYPES).flatmap(lambda d: finite_arrays(d, min_size=1)), st.data())
def test_every_figure_is_that_of_the_whole_array_whatever_the_values(x, data):
    columns = data.draw(st.sampled_from([n for n in (1, 2, 3, 7, x.size) if x.size % n == 0]))
    x = x.reshape(-1, columns) if data.draw(st.booleans()) else x
    with np.errstate(all="ignore"):
        for row, which in zip(untimed(x, EVERY_ROW).rows, EVERY_ROW, strict=True):
            assert_same(row, by_hand(x, which))


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


def test_the_default_rows_are_three_floats_and_three_quantisers():
    names = [row.name for row in untimed(WEIGHTS).rows]
    assert names == ["fp32", "bf16", "fp16", "int8_absmax", "int8_zeropoint", "int8_absmax_row"]


def test_known_values_have_known_figures():
    x = np.float32([0.1, -1.5, 3.2])
    absmax, zeropoint = untimed(x, ["int8_absmax", "int8_zeropoint"]).rows
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
    fp16, bf16 = untimed(x, ["fp16", "bf16"]).rows
    assert (fp16.saturated, fp16.flushed) == (2, 2)
    assert (bf16.saturated, bf16.flushed) == (0, 0)
    assert (fp16.error.max_abs, fp16.error.sqnr_db) == (math.inf, -math.inf)
    int8 = untimed(np.float32([100, 0.1, 0.2, 0.0]), "int8_absmax").rows[0]
    assert (int8.saturated, int8.flushed) == (0, 2)


def test_constant_zero_and_extreme_tensors_have_finite_figures():
    for x in (np.zeros(5), np.full((2, 3), -7.0), np.float64([1e308, -1e308, 5e-324])):
        for row in untimed(x, [*INT8_ROWS, "fp64"]).rows:
            assert row.error.max_abs < math.inf
            assert not math.isnan(row.error.sqnr_db)


# --- formats ------------------------------------------------------------------------------------


def test_formats_are_whatever_names_a_format():
    wanted = ["bfloat16", np.float16, torch.float32, ml_dtypes.bfloat16, E5M2, " INT8_absmax "]
    assert [r.name for r in untimed(WEIGHTS, wanted).rows] == [
        *("bf16", "fp16", "fp32", "e5m2", "int8_absmax")
    ]


@pytest.mark.parametrize("one", ["fp16", np.float16, E5M2, np.dtype(np.float16)])
def test_one_format_needs_no_list(one):
    assert len(untimed(WEIGHTS, one).rows) == 1


def test_a_format_asked_for_twice_has_one_row():
    twice = untimed(WEIGHTS, ["fp16", "int8_absmax", "half", "int8_absmax", E5M2, E5M2])
    assert [row.name for row in twice.rows] == ["fp16", "int8_absmax", "e5m2"]


def test_what_is_stored_is_said_where_codes_do_not_fill_their_bytes():
    row = untimed(WEIGHTS, "tf32").rows[0]
    assert row.bits_per_weight == 32
    assert row.note == "tf32 codes have 19 bits, stored in 32"
    assert row.note in str(untimed(WEIGHTS, "tf32"))
    assert untimed(WEIGHTS, "bf16").rows[0].note == ""


def test_an_unknown_format_is_named_with_the_nearest_known_ones():
    with pytest.raises(ValueError, match=r"'int8_abmax'; nearest: int8_absmax.*known: fp64.*_row"):
        compare(WEIGHTS, ["bf16", "int8_abmax"])
    with pytest.raises(TypeError, match="a format is a name"):
        compare(WEIGHTS, [3.5])
    with pytest.raises(ValueError, match="no format"):
        compare(WEIGHTS, [])


# --- files --------------------------------------------------------------------------------------


def test_every_float_tensor_of_a_file_is_quantised_by_itself_and_the_rest_counted(checkpoint):
    result = untimed(checkpoint, EVERY_ROW)
    tensors = safetensors.numpy.load_file(checkpoint)
    floats = [x for name, x in tensors.items() if x.dtype in FLOAT_DTYPES and x.size]
    assert len(floats) == result.tensors == 4
    assert result.values == sum(x.size for x in floats) == 1200 + 30 + 77 + 1
    assert sorted(result.skipped) == [("bool", 1), ("int64", 2)]
    assert sorted(result.dtypes) == ["bf16", "fp16", "fp32"]
    assert (result.rows[3].saturated, result.rows[3].flushed) == (3, 2)  # fp16's
    for row, which in zip(result.rows, EVERY_ROW, strict=True):
        parts = [by_hand(x, which) for x in floats]
        total = {key: sum(p[key] for p in parts) for key in ("nbytes", "saturated", "flushed")}
        total["error"] = NO_ERROR
        for part in parts:
            total["error"] = total["error"].merge(part["error"])
        assert_same(row, total)


def test_one_tensor_of_a_file_can_be_chosen(checkpoint):
    result = untimed(checkpoint, tensor="half")
    x = safetensors.numpy.load_file(checkpoint)["half"]
    assert (result.tensors, result.values, result.skipped) == (1, 30, ())
    assert "tensor 'half'" in result.source
    assert_same(result.rows[3], by_hand(x, "int8_absmax"))


@pytest.mark.parametrize("save", [np.save, lambda path, x: np.save(path, np.asfortranarray(x))])
def test_npy_files_are_compared(tmp_path, save):
    save(tmp_path / "w.npy", WEIGHTS)
    result = untimed(str(tmp_path / "w.npy"))
    assert result.values == WEIGHTS.size
    assert_same(result.rows[5], by_hand(WEIGHTS, "int8_absmax_row"))


def test_npz_files_are_compared(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=WEIGHTS, b=np.arange(3), c=WEIGHTS[:2] * 100)
    result = untimed(tmp_path / "w.npz")
    assert (result.tensors, result.skipped) == (2, (("int64", 1),))
    assert_same(untimed(tmp_path / "w.npz", tensor="a").rows[4], by_hand(WEIGHTS, "int8_zeropoint"))


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
@pytest.mark.parametrize("row", INT8_ROWS)
def test_an_int8_quantiser_refuses_nan_and_inf_and_names_the_first(value, row):
    x = WEIGHTS.copy()
    x[200, 3] = x[250, 1] = value
    with pytest.raises(
        ValueError, match=rf"x\[200, 3\] is {value}; int8 and formats without NaN need finite"
    ):
        compare(x, row)


def test_the_tensor_with_the_nan_is_named_and_control_characters_are_not_printed(tmp_path):
    path = tmp_path / "m.safetensors"
    bad = np.float32([1, np.nan])
    safetensors.numpy.save_file({"a": np.float32([1]), "z\x1b[31m\n": bad}, path)
    with pytest.raises(ValueError, match=r"tensor 'z.*'\[1\] is nan") as caught:
        compare(path)
    assert str(caught.value).isprintable()
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
    assert encoded == [4 + 2, 4 + 8, 4 + 1]
    assert decoded == [2 + 4, 8 + 8, 1 + 4]


def test_what_is_timed_gives_the_codes_and_values_of_the_public_functions():
    for row in map(module._row, EVERY_ROW):
        arrays = {}

        def scratch(dtype, arrays=arrays):
            arrays[dtype] = np.zeros(WEIGHTS.shape, dtype)
            return arrays[dtype]

        encoding, decoding = row.contenders(WEIGHTS, scratch)
        encoding.run()
        decoding.run()
        (values,) = arrays.values()
        assert error(WEIGHTS, values) == by_hand(WEIGHTS, getattr(row, "format", row.name))["error"]


# --- how it is shown ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown() -> Comparison:
    return untimed(WEIGHTS, [*module.DEFAULT_FORMATS, "tf32"])


def test_the_text_is_an_aligned_table_of_every_row_within_80_columns(shown):
    lines = str(shown).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    start = next(i for i, line in enumerate(lines) if line.startswith("fp32"))
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
    assert card["rows"][0]["sqnr_db"] == "inf"
    assert set(card["rows"][0]) == {
        *("name", "values", "nbytes", "bits_per_weight", "max_abs", "rmse", "mse", "sqnr_db"),
        *("mean_error", "signal_rms", "saturated", "flushed"),
        *("relative_frobenius", "cosine", "approximation_rms", "max_ulp", "mean_ulp"),
        *("outliers", "outlier_share", "outlier_threshold"),
        *("encode_gb_per_s", "decode_gb_per_s", "note"),
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
        "import sys; from floatfmt.compare import compare; str(compare(sys.argv[1])); "
        "print({'torch', 'rich', 'matplotlib'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "w.npy"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("fmt", "saturated"),
    [("fp8_e4m3fn", 2), ("fp4_e2m1fn", 4), ("fp6_e3m2fn", 2), ("mxint8", 6), ("fp8_ue4m3", 5)],
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
    with pytest.raises(
        ValueError, match=r"x\[1\] is nan; int8 and formats without NaN need finite"
    ):
        untimed(x, "fp4_e2m1fn")
    assert untimed(x, "fp8_e4m3fn").rows[0].error.count == 2


def test_an_integer_format_without_a_scale_is_refused():
    with pytest.raises(ValueError, match="int8 without a scale would round .*; there are int8_ab"):
        untimed(WEIGHTS, "int8")
