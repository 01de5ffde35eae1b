"""The command line: what it prints, and one clear line for whatever is wrong."""

import contextlib
import errno
import fcntl
import importlib
import json
import os
import pickle
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
import safetensors.numpy

import floatfmt as ff
from experiment_example import experiment as made_up_experiment
from floatfmt import cli
from floatfmt.comparison_rows import DEFAULT_ROWS
from floatfmt.data import SAMPLE_MODEL
from floatfmt.inspection import inspect

compare_module = importlib.import_module("floatfmt.comparison")
bench_module = importlib.import_module("floatfmt.bench.short")

COMMANDS = (
    *("inspect", "formats", "compare", "quantize", "dequantize", "verify", "compatibility"),
    *("conventions", "experiment", "bench", "doctor"),
)
WEIGHTS = np.random.default_rng(3).normal(0, 0.02, (40, 50)).astype(np.float32)


@pytest.fixture(autouse=True)
def _no_time_is_spent_on_speed(monkeypatch):
    for name, value in (("TIMED_VALUES", 64), ("SPEED_BUDGET_S", 0.0), ("COPY_BUDGET_S", 0.0)):
        monkeypatch.setattr(compare_module, name, value)
    for name, value in (("SIZES", (1024,)), ("BUDGET_S", 0.0)):
        monkeypatch.setattr(bench_module, name, value)


@pytest.fixture
def run(capsys):
    """Run the command line here; returns exit code, standard output and standard error."""

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"wte": WEIGHTS, "ids": np.arange(3)}, path)
    return path


def floatfmt(*args, **options) -> subprocess.CompletedProcess:
    """Run the command line as people do, in a process of its own."""
    command = [sys.executable, "-m", "floatfmt", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def in_terminal(columns: int, *args) -> str:
    """What the command line shows in a terminal of so many columns, both streams together."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "floatfmt", *map(str, args)],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    os.close(ours)
    process.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


# --- inspect ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["0.1", "-0.5", "-.5", "-1e-3", "-0", "-inf", "-nan", "-infinity", "-1/3", "-0x1.8p-3", "-1_0"],
)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_inspect_takes_negative_numbers_as_they_are_wherever_they_stand(run, value, order):
    options = ["--format", "fp16"]
    args = ([value, *options], [*options, value], [*options, "--", value])[order]
    assert run("inspect", *args) == (0, f"{inspect(value, 'fp16')}\n", "")


def test_inspect_shows_each_number_after_a_blank_line(run):
    code, out, _ = run("inspect", "1", "-2", "--format", "bf16")
    assert code == 0
    assert out == f"{inspect('1', 'bf16')}\n\n{inspect('-2', 'bf16')}\n"


def test_inspect_without_a_format_shows_every_format(run):
    code, out, err = run("inspect", "0.1")
    assert (code, out, err) == (0, f"{ff.round_all('0.1')}\n", "")
    _, out, _ = run("inspect", "0.1", "-0", "--json", "--rounding", "toward_zero")
    card = json.loads(out)
    assert card["schema"] == "floatfmt.round_all/1"
    surveys = [ff.round_all(x, rounding="toward_zero").to_dict() for x in ("0.1", "-0")]
    assert card["surveys"] == surveys


def test_inspect_explains_and_takes_every_option_of_encode(run):
    options = {"rounding": "toward_positive", "overflow": "saturate", "subnormals": "flush"}
    args = [word for name, value in options.items() for word in (f"--{name}", value)]
    x = inspect("0.0319", "bf16", **options)
    command = ["inspect", "0.0319", "--format", "bf16", *args]
    assert run(*command) == (0, f"{x}\n", "")
    assert run(*command, "--explain") == (0, f"{x.explain()}\n", "")
    card = json.loads(run(*command, "--explain", "--json")[1])
    assert card == {"schema": "floatfmt.explain/1", "explanations": [x.explain().to_dict()]}
    _, out, _ = run("inspect", "nan", "--format", "int8", "--nan", "largest")
    assert out == f"{inspect('nan', 'int8', nan='largest')}\n"


def test_inspect_draws_as_encode_does(run):
    values = ["0.1", "0.3", "0.7", "-2.6", "1.9"]
    args = ["--format", "int8", "--rounding", "stochastic", "--json"]
    codes = ff.encode(list(map(float, values)), "int8", rounding="stochastic", seed=7)
    card = json.loads(run("inspect", *values, *args, "--seed", "7")[1])
    assert [x["code"] for x in card["inspections"]] == codes.tolist()
    seeds = {x["seed"] for x in json.loads(run("inspect", *values, *args)[1])["inspections"]}
    assert len(seeds) == 1  # one for the whole command, and recorded


@pytest.mark.parametrize("text", ["0x3C00", "0b0011110000000000", "0|01111|0000000000"])
def test_inspect_takes_codes(run, text):
    _, out, _ = run("inspect", "--code", text, "--format", "fp16")
    assert out == f"{inspect(code=0x3C00, format='fp16')}\n"


def test_inspect_json_is_every_card_under_a_schema_version(run):
    code, out, err = run("inspect", "-0.5", "nan", "--format", "fp16", "--json")
    assert (code, err) == (0, "")
    card = json.loads(out)
    assert card["schema"] == "floatfmt.inspect/1"
    assert card["inspections"] == [inspect(v, "fp16").to_dict() for v in ("-0.5", "nan")]


# --- formats ------------------------------------------------------------------------------------


def test_formats_lists_every_row_of_the_registry_and_what_follows_from_it(run):
    code, out, err = run("formats")
    assert (code, err) == (0, "")
    lines = out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [fmt.name for fmt in ff.formats()]
    fp16 = next(line for line in lines if line.startswith("fp16")).split()
    assert fp16 == [
        *("fp16", "16", "5", "10", "65504", "-65504", "6.104e-05", "5.96e-08", "0.0009766", "3"),
        *("2", "2,046", "61,440", "2", "2,046"),
    ]
    int8 = next(line for line in lines if line.startswith("int8")).split()
    assert int8 == [
        *("int8", "8", "0", "7", "127", "-128", "1", "-", "1", "2"),
        *("1", "0", "255", "0", "0"),
    ]


def test_formats_json_has_exact_figures(run):
    card = json.loads(run("formats", "--json")[1])
    assert card["schema"] == "floatfmt.formats/1"
    for row, fmt in zip(card["formats"], ff.formats(), strict=True):
        for name in ("max_finite", "lowest", "min_normal", "min_subnormal", "epsilon"):
            assert row[name] == getattr(fmt, name)
        for name in ("signed", "infinity", "nan", "zero", "twos_complement", "counts"):
            assert row[name] == getattr(fmt, name)
        assert sum(row["counts"].values()) == 2 ** row["bits"]
        assert all(ff.format(alias) == fmt for alias in row["aliases"])


def test_counts_too_long_to_read_are_differences_of_powers_of_two(run):
    assert cli._codes(2**64 - 2**54) == "2^64 - 2^54"
    assert cli._codes(2**53 - 2) == "2^53 - 2"
    assert cli._codes(61_440) == "61,440"
    assert cli._codes(3**40) == f"{3**40:,}"


# --- compare ------------------------------------------------------------------------------------


def test_compare_shows_the_comparison_of_a_file(run, weights):
    code, out, err = run("compare", weights)
    assert (code, err) == (0, "")
    assert f"{weights}: 2,000 fp32 values" in " ".join(out.split())
    for name in (*DEFAULT_ROWS, "1 of int64"):
        assert name in out


def test_compare_takes_a_tensor_and_formats(run, weights):
    _, out, _ = run(
        "compare", weights, "--tensor", "wte", "--format", "bf16", "--format", "int8_absmax_row"
    )
    table = [line.split()[0] for line in out.split("\n\n")[1].splitlines()[2:]]
    assert table == ["int8_absmax_row", "bf16", "(copy)"]


def test_compare_takes_schemes_repeated_or_with_commas(run, weights):
    _, out, _ = run("compare", weights, "--format", "int8", "--format", "nf4, mxfp4,", "--json")
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert list(rows) == ["mxfp4", "nf4", "int8"]
    assert rows["nf4"]["nbytes"] == ff.quantize(WEIGHTS, "nf4").nbytes
    assert {name for name, row in rows.items() if row["pareto"]} <= set(rows)


def test_compare_plots_beside_what_it_prints(run, weights, tmp_path):
    for name in ("out.svg", "out.png"):
        code, out, err = run("compare", weights, "--plot", tmp_path / name, "--json")
        assert (code, err, json.loads(out)["values"]) == (0, "", 2000)
    svg = (tmp_path / "out.svg").read_text()
    assert all(name in svg for name in DEFAULT_ROWS)


def test_a_plot_that_cannot_be_written_is_one_line_before_the_work(run, tmp_path, monkeypatch):
    missing = tmp_path / "missing.npy"  # said only if the work began
    assert_one_line(run("compare", missing, "--plot", "out.gif"), "'out.gif'", ".svg")
    assert_one_line(run("compare", missing, "--plot", tmp_path / "no" / "a.svg"), "no folder")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    plot = ("--plot", tmp_path / "a.svg")
    assert_one_line(run("compare", missing, *plot), "pip install 'floatfmt[plot]'")


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
def test_compare_takes_a_directory_of_shards_or_its_index(run, tmp_path, name):
    shards = {f"model-{i + 1}.safetensors": {f"w{i}": WEIGHTS * (i + 1)} for i in range(2)}
    for file, tensors in shards.items():
        safetensors.numpy.save_file(tensors, tmp_path / file)
    weight_map = {tensor: file for file, tensors in shards.items() for tensor in tensors}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    code, out, _ = run("compare", tmp_path / name, "--format", "nf4,int8_row", "--json")
    card = json.loads(out)
    assert (code, card["tensors"], card["values"]) == (0, 2, 4000)
    parts = [ff.quantize(WEIGHTS * (i + 1), "nf4") for i in range(2)]
    assert card["rows"][0]["nbytes"] == sum(q.nbytes for q in parts)


def test_compare_json_is_the_comparison_and_nothing_else(run, weights):
    code, out, err = run("compare", weights, "--json")
    assert (code, err) == (0, "")
    card = json.loads(out)
    assert card["schema"] == "floatfmt.compare/1"
    expected = ff.quantize(WEIGHTS, "absmax").dequantize()
    row = next(row for row in card["rows"] if row["name"] == "int8_absmax")
    assert row["max_abs"] == float(np.abs(expected.astype(float) - WEIGHTS).max())


def test_compare_takes_a_directory(run, weights):
    code, out, err = run("compare", weights.parent, "--format", "bf16")
    assert (code, err) == (0, "")
    assert f"{weights.parent}: 2,000 fp32 values" in " ".join(out.split())


# --- quantize and dequantize --------------------------------------------------------------------


def test_quantize_writes_a_file_that_dequantize_reads_back(run, weights, tmp_path):
    out, back = tmp_path / "int8.safetensors", tmp_path / "back.safetensors"
    code, shown, err = run("quantize", weights, "-o", out)
    assert (code, err) == (0, "")
    assert "2 tensors: " in shown
    assert "1 int8_absmax_row" in shown
    assert f"{out.stat().st_size:,} bytes in the file" in shown
    q = ff.load_quantized(out)["wte"]
    assert q == ff.quantize(WEIGHTS, "absmax", axis=0)
    assert run("dequantize", out, "-o", back)[0] == 0
    np.testing.assert_array_equal(safetensors.numpy.load_file(back)["wte"], q.dequantize())


def test_quantize_takes_a_directory_patterns_and_a_scheme(run, weights, tmp_path):
    safetensors.numpy.save_file(dict.fromkeys(("a.w", "b.w", "b.v"), WEIGHTS), weights)
    out = tmp_path.parent / f"{tmp_path.name} out"
    options = ["--include", "*.w", "--include", "b*", "--exclude", "a*", "--scheme", "int8"]
    code, shown, err = run("quantize", weights.parent, "-o", out, *options, "--json")
    assert (code, err) == (0, "")
    card = json.loads(shown)
    assert card["schema"] == "floatfmt.checkpoint_conversion/1"
    becomes = {tensor["name"]: tensor["becomes"] for tensor in card["tensors"]}
    assert becomes == {"a.w": "copied", "b.w": "int8", "b.v": "int8"}
    assert card["files"] == {weights.name: (out / weights.name).stat().st_size}
    assert set(ff.load_quantized(out)) == {"b.w", "b.v"}


def test_a_dry_run_shows_a_table_and_writes_nothing(run, weights):
    before = sorted(weights.parent.iterdir())
    code, out, err = run("quantize", weights, "--dry-run")
    assert (code, err) == (0, "")
    assert out == f"{ff.quantize_checkpoint(weights, dry_run=True)}\n"
    assert sorted(weights.parent.iterdir()) == before
    _, out, _ = run("quantize", weights, "--dry-run", "--json")
    assert json.loads(out) == ff.quantize_checkpoint(weights, dry_run=True).to_dict()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["quantize", "{file}"], ["--output is missing", "--dry-run"]),
        (["dequantize", "{file}"], ["--output is missing"]),
        (["quantize", "{file}", "-o", "x.bin"], ["x.bin", ".safetensors"]),
        (["quantize", "{file}", "-o", "{file}"], ["is the input itself"]),
        (["quantize", "{file}", "-o", "taken.safetensors"], ["taken.safetensors", "overwrite"]),
        (["quantize", "{file}", "-o", "no/x.safetensors"], ["No such file or directory"]),
        (["quantize", "{file}", "--dry-run", "--scheme", "int9"], ["'int9'", "int8_absmax_row"]),
        (["quantize", "{file}", "--dry-run", "--include", "wpe*"], ["'wpe*'", "'wte'"]),
        (["quantize", "{file}", "--dry-run", "--nonfinite", "drop"], ["'drop'", "saturate"]),
        (["quantize", "nan.npy", "-o", "x.safetensors"], ["tensor 'nan'[1] is nan"]),
        (["quantize", "model.pt", "-o", "x.safetensors"], ["a pickle, and reading a pickle runs"]),
        (["quantize", "pickles", "-o", "x"], ["'pytorch_model.bin' is a pickle"]),
        (["compare", "pickles"], ["'pytorch_model.bin' is a pickle"]),
        (["dequantize", "{file}", "-o", "x.safetensors"], ["nothing that floatfmt quantised"]),
    ],
)
def test_quantize_refuses_in_one_line_and_writes_nothing(
    run, weights, tmp_path, monkeypatch, args, words
):
    monkeypatch.chdir(tmp_path)
    np.save("nan.npy", np.float32([1, np.nan]))
    Path("taken.safetensors").touch()
    Path("model.pt").write_bytes(pickle.dumps({}))
    Path("pickles").mkdir()
    Path("pickles", "pytorch_model.bin").write_bytes(pickle.dumps({}))
    before = sorted(tmp_path.rglob("*"))
    include = ["--include", "nan"] if "nan.npy" in args else []
    assert_one_line(run(*(arg.replace("{file}", str(weights)) for arg in args), *include), *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_one_line_and_no_file(run, weights, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    out = tmp_path / "out.safetensors"
    assert_one_line(run("quantize", weights, "-o", out), f"{out}: it cannot be", "No space left")
    assert list(tmp_path.iterdir()) == [weights]


def test_ctrl_c_while_quantising_is_quiet_and_leaves_no_file(run, weights, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    code, out, err = run("quantize", weights, "-o", tmp_path / "o.safetensors")
    assert (code, out, err.strip()) == (cli.INTERRUPTED, "", "")
    assert list(tmp_path.iterdir()) == [weights]


# --- what is wrong ------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    safetensors.numpy.save_file({"w": WEIGHTS}, path)
    path.write_bytes(path.read_bytes()[:-100])


def hostile(path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)


BAD_FILES = {
    "text.txt": lambda path: path.write_text("hello"),
    "text.npy": lambda path: path.write_text("hello"),
    "empty.npz": lambda path: path.write_bytes(b""),
    "folder.npy": lambda path: path.mkdir(),
    "cut.safetensors": truncated,
    "hostile.safetensors": hostile,
    "objects.npy": lambda path: path.write_bytes(pickle.dumps([object])),
    "ints.npy": lambda path: np.save(path, np.arange(3)),
    "none.npy": lambda path: np.save(path, np.zeros(0)),
    "missing.npy": lambda path: None,
}


def assert_one_line(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.fullmatch(r"Error: [^\n]+\n", err), err
    assert "Traceback" not in err
    assert err.rstrip("\n").isprintable()
    for word in words:
        assert word in err


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_bad_file_is_one_line_that_names_it(run, tmp_path, name, as_json):
    BAD_FILES[name](tmp_path / name)
    assert_one_line(run("compare", tmp_path / name, *as_json), name)


def test_a_nan_is_named_with_its_tensor_and_place(run, tmp_path):
    np.save(tmp_path / "nan.npy", np.float32([1, np.nan]))
    np.savez(tmp_path / "inf.npz", a=WEIGHTS, b=np.float64([[1, 2], [3, np.inf]]))
    schemes = ("--format", "int8,nf4")
    assert_one_line(run("compare", tmp_path / "nan.npy", *schemes), "tensor 'nan'[1] is nan")
    assert_one_line(run("compare", tmp_path / "inf.npz", *schemes), "tensor 'b'[1, 1] is inf")
    code, out, err = run("compare", tmp_path / "nan.npy")
    assert (code, err) == (0, "")
    assert "nvfp4, which need finite values: tensor 'nan'[1] is nan." in " ".join(out.split())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_one_line(run, weights):
    weights.chmod(0)
    assert_one_line(run("compare", weights), "Permission denied")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["inspect"], ["Missing argument", "floatfmt inspect --help"]),
        (["inspect", "abc"], ["'abc'", "a decimal"]),
        (["inspect", "-x"], ["'-x'"]),
        (["inspect", "0.1", "--format"], ["--format"]),
        (["inspect", "0.1", "--format", "bf61"], ["'bf61'", "nearest: bf16"]),
        (["inspect", "0.1", "--fromat", "bf16"], ["--fromat", "Did you mean '--format'?"]),
        (["inspect", "0x3C00", "--code"], ["--code needs --format"]),
        (["inspect", "0|1111|101"], ["'0|1111|101'", "needs --format"]),
        (["inspect", "1", "0b1"], ["'0b1'", "needs --format"]),
        (["inspect", "1", "--explain"], ["--explain needs --format"]),
        (["inspect", "1", "--rounding", "up"], ["'up'", "known: nearest_even"]),
        (["inspect", "1", "--overflow", "satrate"], ["'satrate'", "nearest: saturate"]),
        (["inspect", "1", "--seed", "x"], ["--seed"]),
        (["inspect", "nan", "--format", "int8"], ["int8 has no NaN", "nan='zero'"]),
        (["inspect", "0x10000", "--code", "--format", "fp16"], ["0x10000"]),
        (["inspect", "\x1b[31m\n"], ["cannot read"]),
        (["compare", "{file}", "--format", "int8_absmx"], ["'int8_absmx'", "nearest: int8_absmax"]),
        (["compare", "{file}", "--format", "bf16,nf5"], ["'nf5'", "nearest: nf4", "int4_block32"]),
        (["compare", "{file}", "--format", " ,"], ["--format names no format"]),
        (["compare", "{file}", "--format", "nvfp4_ceil"], ["nvfp4_ceil: scale_rule="]),
        (["compare", "{file}", "--tensor", "wet"], ["'wet'", "nearest: 'wte'"]),
        (["compare", "{file}", "--tensor", "ids"], ["'ids' holds int64", "floating-point"]),
        (["compare", "{file}", "{file}"], ["unexpected extra argument"]),
        (["compare", "-0.5"], ["No such option"]),
        (["compare", ""], []),
        (["compare", "a\0b.npy"], []),
        (["compare", "\udcff.npy"], []),
        (["formats", "fp16"], ["fp16"]),
        (["compres"], ["No such command 'compres'"]),
        (["x\x1b[31m\r\ny"], ["No such command"]),
        (["compare", "{file}", "x\x1b[31m\r\ny"], ["unexpected extra argument"]),
        (["--nope"], ["--nope"]),
    ],
)
def test_bad_usage_is_one_line_that_helps(run, weights, args, words):
    assert_one_line(run(*(arg.replace("{file}", str(weights)) for arg in args)), *words)


def test_an_unknown_backend_is_one_line_whatever_the_command(run, monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "fast")
    for args in (["formats"], ["--version"], ["inspect", "1"], ["compare"]):
        assert_one_line(run(*args), "FLOATFMT_BACKEND", "'fast'", "reference")


def test_no_number_of_threads_is_one_line_whatever_the_command(run, monkeypatch):
    monkeypatch.setattr(ff.backends.threads, "_wanted", "many")
    for args in (["--version"], ["inspect", "1"], ["compare"]):
        assert_one_line(run(*args), "FLOATFMT_THREADS", "'many'", "1 or more")


def test_too_little_memory_is_one_line(run, weights, monkeypatch):
    def starve(*_, **__):
        raise MemoryError

    monkeypatch.setattr(cli, "compare", starve)
    assert_one_line(run("compare", weights), "memory")


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch, weights):
    def stumble(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "compare", stumble)
    with pytest.raises(KeyError):
        cli.main(["compare", str(weights)])


def test_interrupting_it_is_quiet_and_exits_with_130(run, monkeypatch, weights):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "compare", interrupted)
    code, out, err = run("compare", weights)
    assert (code, out, err.strip()) == (130, "", "")


def test_a_real_interrupt_of_a_real_process_exits_with_130(tmp_path):
    np.save(tmp_path / "w.npy", np.ones((1000, 8000), np.float32))
    script = (
        "import os, signal, importlib\n"
        # A shell starts what runs in its background with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from floatfmt.cli import main\n"
        "module = importlib.import_module('floatfmt.comparison_rows')\n"
        "module.widened = lambda piece: os.kill(os.getpid(), signal.SIGINT)\n"
        f"main(['compare', {str(tmp_path / 'w.npy')!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr.strip()) == (130, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_is_one_line():
    for arguments in (["formats"], ["inspect", "1", "--json"]):
        with open("/dev/full", "w") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "floatfmt", *arguments],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            )  # fmt: skip
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert ran.stderr.startswith("Error: cannot write the output: No space left on device")


def test_a_closed_pipe_is_quiet():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        ran = subprocess.run(
            [sys.executable, "-m", "floatfmt", "formats"],
            stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert ran.stderr == ""


# --- help, version, processes -------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_runs(run, weights, monkeypatch, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    examples = re.findall(rf"^    floatfmt ({command}.*)$", out, re.MULTILINE)
    assert examples
    monkeypatch.chdir(weights.parent)
    np.save("weights.npy", WEIGHTS)
    safetensors.numpy.save_file({"transformer.wte.weight": WEIGHTS}, weights)
    ff.quantize_checkpoint(weights, "int8.safetensors")
    Path("mymodule.py").write_text(CAST)
    Path("wiki.txt").write_text("Some text.")
    if command == "experiment":  # what it does is another file's to test
        monkeypatch.setattr("floatfmt.experiment.run", lambda *_, **__: made_up_experiment())
    # What doctor exits with is for the machine to say: it may well have no C kernel.
    fine = {"doctor": {0, cli.UNHEALTHY}, "verify": {0, 1, 3}}.get(command, {0})
    for example in examples:
        assert run(*example.replace("'", "").split())[0] in fine, example


#: A module with casts, one of them wrong.
CAST = """
import numpy as np

def my_cast(x):
    return x.astype(np.float32).astype(np.float16)

def truncates(x):
    return (x.view(np.uint16) >> 8).astype(np.uint8)

class Holder:
    right = staticmethod(my_cast)

nothing = None
"""


@pytest.fixture
def casts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mymodule", raising=False)
    Path("mymodule.py").write_text(CAST)


BF16 = ("--source", "bf16", "--target", "fp16")
E5M2 = ("--source", "fp16", "--target", "fp8_e5m2")


@pytest.mark.parametrize(
    ("args", "code", "begins"),
    [
        (("torch", *BF16), 0, "proved: torch, bf16 → fp16, nearest_even"),
        (("mymodule:my_cast", *BF16), 0, "proved: my_cast, bf16 → fp16"),
        (("mymodule:Holder.right", *BF16), 0, "proved: my_cast"),
        (("mymodule:truncates", *E5M2), 1, "refuted: truncates, fp16 → fp8_e5m2"),
        (("torch", "--budget", "0s"), 3, "inconclusive: torch, fp32 → bf16"),
        (("torch", *E5M2, "--rounding", "toward_zero"), 1, "refuted: torch"),
        (("floatfmt", *E5M2, "--overflow", "saturate"), 0, "proved: floatfmt"),
        (("mymodule:truncates", *E5M2, "--identify"), 0, "truncates, fp16 → fp8_e5m2, is exactly"),
        (("torch", *E5M2, "--against", "ml_dtypes"), 0, "torch and ml_dtypes, fp16 → fp8_e5m2"),
        (("torch", *E5M2, "--against", "mymodule:truncates"), 1, "torch and truncates"),
    ],
)
def test_verify_exits_with_its_verdict(run, casts, args, code, begins):
    ended, out, err = run("verify", *args)
    assert (ended, err) == (code, "")
    assert out.startswith(begins)


@pytest.mark.parametrize("question", [(), ("--identify",), ("--against", "torch")])
def test_verify_json_is_the_answer_under_a_schema(run, casts, question):
    _, out, err = run("verify", "mymodule:truncates", *E5M2, *question, "--json")
    answer = json.loads(out)
    name = {"--identify": "identify", "--against": "diff"}.get(*question[:1] or ("",), "verify")
    assert answer["schema"] == f"floatfmt.{name}/1"
    assert err == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("tourch",), "no witness is called 'tourch'; nearest: torch"),
        (("mymodule:nothing_here",), "has no attribute 'nothing_here'"),
        (("mymodule:nothing",), "a cast is a function or the name of a witness, got None"),
        (("nowhere:cast",), "cannot be had as a function: No module named 'nowhere'"),
        (("floatfmt:sse9",), "'floatfmt:sse9' is no witness and cannot be had"),
        (("torch", "--budget", "soon"), "'soon' is no duration"),
        (("torch", "--target", "bf17"), "no format is called 'bf17'"),
        (("torch", "--identify", "--against", "numpy"), "two different questions"),
        (("torch", "--identify", "--nan", "exact"), "--nan means nothing with --identify"),
        (("torch", "--against", "numpy", "--profile", "ieee"), "--profile means nothing with"),
        (("torch", "--threads", "0"), "--threads"),
        (("torch", "--resume", "/nowhere/file"), "/nowhere/file"),
        (("mymodule:Holder", *BF16), "raises TypeError for every input"),
    ],
)
def test_verify_refuses_bad_usage_in_a_line(run, casts, args, words):
    assert_one_line(run("verify", *args, *(() if "--target" in args else BF16)), words)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("2m", 120), ("1.5 h", 5400), ("500ms", 0.5), ("7", 7)]
)
def test_durations(text, seconds):
    assert cli._Seconds().convert(text, None, None) == seconds


def test_an_interrupted_verification_reports_what_it_has(tmp_path):
    """A real SIGINT in the middle of a sweep: the verdict so far, exit code 3."""
    (tmp_path / "slow.py").write_text(
        "import time, ml_dtypes\n"
        "def cast(x):\n"
        "    time.sleep(0.05)\n"
        "    return x.astype(ml_dtypes.bfloat16)\n"
    )
    command = [sys.executable, "-m", "floatfmt", "verify", "slow:cast", "--resume", "kept.json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    kept = tmp_path / "kept.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if kept.exists() and json.loads(kept.read_text())["done"] > 0:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "")
    assert "evenly spread (interrupted): all right" in " ".join(out.split())
    assert json.loads(kept.read_text())["done"] > 0


def test_compatibility_is_a_table_of_verdicts(run):
    code, out, err = run(
        "compatibility", "ml_dtypes", "--source", "bf16", "--target", "fp8_e8m0fnu"
    )
    assert (code, err) == (0, "")
    assert "✗ 159 of 65,536" in out
    assert "ties away from zero: bf16 → fp8_e8m0fnu" in out
    options = ("--source", "fp16", "--target", "fp8_e5m2")
    code, out, err = run("compatibility", "torch", "numpy", *options, "--markdown")
    assert out.splitlines()[-1] == "| torch 2.13.0 | fp8_e5m2 | ✓ 65,536 |  |"
    code, out, err = run("compatibility", "torch", *options, "--json")
    answer = json.loads(out)
    assert answer["schema"] == "floatfmt.compatibility/1"
    assert answer["cells"][0]["verdict"] == "proved"
    assert_one_line(run("compatibility", "tourch"), "no witness is called 'tourch'")


def test_help_of_the_whole_names_every_command_and_cuts_nothing(run):
    for args in ([], ["--help"]):
        code, out, err = run(*args)
        assert (code, err) == (0, "")
        assert all(f"\n  {command}  " in out for command in COMMANDS)
        assert "..." not in out.partition("Commands:")[2]
    assert set(cli.cli.commands) == set(COMMANDS)


def test_every_option_has_a_help_text():
    for command in (cli.cli, *cli.cli.commands.values()):
        assert command.help
        for option in command.params:
            assert isinstance(option, click.Argument) or option.help, option


def test_version_names_the_backends_and_the_compiler(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith(f"floatfmt {ff.__version__}\n")
    assert all(backend in out for backend in ff.available_backends())
    assert "compiler" in out


def test_version_follows_the_environment(run, monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "reference")
    assert "backend   reference (" in run("--version")[1]


def test_without_the_kernel_a_note_says_so_on_one_line(run, monkeypatch, weights):
    monkeypatch.setattr(ff.backends, "_wanted", None)
    backends = importlib.import_module("floatfmt.backends")
    monkeypatch.setattr(backends, "_FASTEST", "reference")
    backends._warn_once_that_native_is_missing.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, err = run("compare", weights, "--format", "fp16", "--json")
    assert code == 0
    assert json.loads(out)["backend"] == "reference"
    assert re.fullmatch(r"Note: floatfmt runs on its NumPy reference[^\n]+\n", err)


def test_the_module_and_the_command_are_one_program(weights):
    ran = floatfmt("inspect", "-0.5", "--format", "fp16")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"{inspect('-0.5', 'fp16')}\n"
    failed = floatfmt("compare", "nowhere.npy")
    assert_one_line((failed.returncode, failed.stdout, failed.stderr), "nowhere.npy")
    points = importlib.import_module("importlib.metadata").entry_points(group="console_scripts")
    assert [p.value for p in points if p.name == "floatfmt"] == ["floatfmt.cli:main"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1251"])  # neither has ×
def test_an_output_that_cannot_hold_every_character_is_no_error(encoding):
    command = [sys.executable, "-m", "floatfmt", "inspect", "0.1", "--format", "fp64"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = subprocess.run(command, capture_output=True, timeout=60, env=environment)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"dyadic" in ran.stdout


def test_starting_imports_neither_torch_nor_rich():
    script = "import sys, floatfmt.cli; print({'torch', 'rich', 'safetensors'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


# --- bench --------------------------------------------------------------------------------------


def test_bench_is_a_short_table_and_names_what_is_missing(run, monkeypatch):
    peers = importlib.import_module("floatfmt.bench.peers")
    rows = (*peers.PEERS[:2], peers.Peer("no_such_library_of_numbers"))
    for module in (peers, importlib.import_module("floatfmt.bench.machine")):
        monkeypatch.setattr(module, "PEERS", rows)
    code, out, err = run("bench")
    assert (code, err) == (0, "")
    assert all(f"\n{case} " in out for case in bench_module.CASES)
    header = out.splitlines()[2].split()
    assert header[-3:] == ["numpy", "ml_dtypes", "no_such_library_of_numbers"]
    assert "Not installed, and so not measured: no_such_library_of_numbers\n" in out


def test_bench_json_has_everything_under_a_schema(run):
    code, out, err = run("bench", "--json")
    assert (code, err) == (0, "")
    measured = json.loads(out)
    assert measured["schema"] == "floatfmt.bench/1"
    assert measured["backend"] == ff.backends.backend_name()
    measured = [result["case"] for result in measured["report"]["results"]]
    assert measured == list(bench_module.CASES)


def test_bench_shows_the_backend_that_was_chosen(run, monkeypatch):
    monkeypatch.setattr(ff.backends, "_wanted", "reference")
    measured = json.loads(run("bench", "--json")[1])
    ours = {r["contender"] for one in measured["report"]["results"] for r in one["rows"]}
    assert {name for name in ours if "floatfmt" in name} == {"floatfmt reference"}


# --- terminals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "command", ["formats", "compare", "inspect", "round_all", "explain", "quantize"]
)
def test_a_terminal_gets_colour_and_no_line_longer_than_it_is(weights, command, columns):
    args = {
        "formats": ["formats"],
        "compare": ["compare", weights],
        "inspect": ["inspect", "-0.1", "--format", "fp64"],
        "round_all": ["inspect", "nan"],
        "explain": ["inspect", "-0.1", "--format", "fp64", "--explain"],
        "quantize": ["quantize", SAMPLE_MODEL, "--dry-run"],
    }[command]
    shown = in_terminal(columns, *args)
    assert "\x1b[" in shown
    lines = plain(shown).splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in plain(shown)
    names = {
        "formats": ["fp64", "NaN"],
        "compare": ["int8_absmax_row", "(copy)"],
        "inspect": ["next down"],
        "round_all": ["fp8_e4m3b11fnuz", "relative", "no NaN"],
        "explain": ["sticky", "stochastic"],
        "quantize": ["transformer.wte.weight", "copied", "bits a weight"],
    }
    assert all(name in plain(shown) for name in names[command])


def test_a_pipe_gets_every_row_on_one_line_without_colour(weights):
    for args in (["formats"], ["compare", weights]):
        ran = floatfmt(*args, env={**os.environ, "COLUMNS": "40", "TERM": "xterm-256color"})
        assert "\x1b" not in ran.stdout
        assert "…" not in ran.stdout
    rows = [line for line in ran.stdout.splitlines() if line.startswith("int8_zeropoint")]
    assert len(rows) == 1
    cells = [cell for cell in rows[0].split() if cell != "*"]
    assert len(cells) == 1 + 9 + 1  # the size has a unit


class _Terminal:
    def __init__(self, is_terminal: bool) -> None:
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "seconds", "is_shown"),
    [(True, 1.5, True), (True, 0.5, False), (False, 1.5, False)],
)
def test_progress_is_shown_in_a_terminal_after_a_second(
    monkeypatch, is_terminal, seconds, is_shown
):
    now = [100.0]
    updates = []

    class Bar:
        task_ids = ("the task",)
        stop = staticmethod(lambda: updates.append("stopped"))
        update = staticmethod(lambda task, completed, pace: updates.append((task, completed)))

    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cli, "_started_bar", lambda doing, total: Bar())
    with cli._ProgressBar("doing", "things") as progress, monkeypatch.context() as terminal:
        terminal.setattr(cli.sys, "stderr", _Terminal(is_terminal))
        progress(1, 9)
        now[0] += seconds
        progress(5, 9)
        progress(6, 9)
    shown = [("the task", 5), ("the task", 6), "stopped"]
    assert updates == (shown if is_shown else [])


def test_the_bar_goes_to_standard_error_and_leaves_nothing_behind(capsys):
    bar = cli._started_bar("doing", 10)
    bar.update(bar.task_ids[0], completed=10)
    bar.stop()
    assert bar.finished
    assert capsys.readouterr().out == ""


def test_conventions_are_shown_all_or_one(run):
    code, out, err = run("conventions")
    assert (code, err) == (0, "")
    assert out == f"{ff.conventions()}\n"
    code, out, _ = run("conventions", "onnx")
    assert out == f"{ff.conventions()['onnx']}\n"
    code, out, _ = run("conventions", "onnx", "--json")
    shown = json.loads(out)
    assert shown["schema"] == "floatfmt.conventions/1"
    assert [row["name"] for row in shown["conventions"]] == ["onnx"]
    assert shown["results"][0]["code"] == 2
    code, out, err = run("conventions", "onyx")
    assert (code, out) == (2, "")
    assert err.startswith("Error: no convention is called 'onyx'; there are floatfmt, article")
