"""``floatfmt experiment``: what it prints and writes, and one clear line for whatever is wrong."""

import json
import subprocess
import sys

import pytest

import floatfmt as ff
from floatfmt import cli, experiment
from floatfmt.experiment import running

QUICK = ("--scheme", "int8_row", "--max-tokens", 300, "--new-tokens", 3, "--sensitivity", "none")


@pytest.fixture
def run(capsys):
    """Run the command here; returns exit code, standard output and standard error."""

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(["experiment", *(str(arg) for arg in args)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def quick_steps(monkeypatch):
    """Leave out the steps that go through the text many times."""
    for step in ("outliers", "sweep", "peer"):
        monkeypatch.setattr(running._Run, step, lambda self: None)


def test_the_experiment_is_printed_and_written(run, tmp_path, quick_steps):
    html, figures = tmp_path / "out.html", tmp_path / "out.json"
    code, out, err = run(*QUICK, "--html", html, "--json", figures)
    assert (code, err) == (0, f"Written: {html}\n")
    assert out.startswith("the sample model, GPT2LMHeadModel\n")
    assert "int8_row" in out
    found = json.loads(figures.read_text())
    assert found["schema"] == "floatfmt.experiment/1"
    assert [variant["name"] for variant in found["variants"]] == ["original", "int8_row"]
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out.json"]


def test_json_to_the_screen_is_json_only(run, quick_steps):
    code, out, err = run(*QUICK, "--json", "-")
    assert (code, err) == (0, "")
    assert json.loads(out)["sensitivity"] is None


def test_a_text_and_a_prompt_are_used(run, tmp_path, quick_steps):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox. " * 30)
    code, out, _ = run(*QUICK, "--text", text, "--prompt", "A fox ", "--seed", 3, "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert found["text"].startswith(f"{text}: 630 characters")
    assert found["variants"][0]["texts"][0]["prompt"] == "A fox "
    assert found["seed"] == 3


def test_several_schemes_with_commas_are_several(run, monkeypatch):
    asked = {}

    def remember(model, **options):
        asked.update(options, model=model)
        raise ValueError("enough")

    monkeypatch.setattr(experiment, "run", remember)
    code, _, err = run("here", "--scheme", "bf16, nf4", "--scheme", "int8", "--window", 128)
    assert (code, err) == (2, "Error: enough\n")
    assert asked.pop("progress") is not None
    assert asked == {"model": "here", "schemes": ["bf16", "nf4", "int8"], "window": 128}


def test_an_interruption_shows_and_writes_what_is_finished(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "activation_outliers", interrupted)
    html = tmp_path / "out.html"
    code, out, err = run(*QUICK, "--html", html)
    assert code == 130
    assert "Interrupted at the step 'outliers': what came before is here." in out
    assert err.endswith("what was finished is shown, and written.\n")
    assert "nterrupted" in html.read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["/no/such"], "'/no/such' is not there: pass a directory"),
        (["--scheme", "int9"], "int9"),
        (["--text", "/no/such.txt"], "/no/such.txt"),
        (["--html", "/no/such/out.html"], "/no/such"),
        (["--html", "out.pdf"], "out.pdf"),
        (["--json", "/no/such/out.json"], "there is no folder '/no/such'"),
        (["--prompt", "x" * 400], "400 tokens"),
        (["--prompt", ""], "the prompt is empty"),
        (["--window", "5000"], "1 to 256 tokens, got 5,000"),
        (["--threshold", "-1"], "above 0, up to inf, got -1"),
        (["--sensitivity", "int9"], "int9"),
        (["--max-tokens", "0"], "at least 1, got 0"),
        (["--scheme", "bf16,"], "a scheme's name is empty"),
        (["--json", "/tmp"], "'/tmp' is a folder"),
        ([""], "the model's name is empty"),
        (["--text", "/tmp"], "'/tmp' cannot be read: Is a directory"),
    ],
)
def test_bad_input_is_one_line(run, args, message):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_text_that_is_no_text_is_one_line(run, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"abc\xff")
    code, _, err = run("--text", path)
    assert code == 2
    assert "no UTF-8 text: invalid start byte at byte 3" in err
    path.write_text("short")
    assert "fewer than a window of 256" in run("--text", path)[2]


def test_without_torch_it_says_what_to_install():
    hide = "import sys; sys.modules['torch'] = None; from floatfmt.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", hide, "experiment"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr == ("Error: floatfmt.experiment needs torch: pip install 'floatfmt[torch]'\n")


def test_the_package_is_there_from_the_start():
    assert ff.experiment.run is experiment.run
