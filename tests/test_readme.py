"""Every block of the README runs, and prints what stands there.

A ``python`` block is executed and its output compared with the ``text`` block after it; in a
``console`` block each line after ``$`` is a command, the lines up to the next one its output. After
the comment ``<!-- speeds vary -->`` numbers that are speeds are masked before the comparison.
The table of speeds is made from a committed run of ``benchmarks/run.py``.
``python tests/test_readme.py`` writes the present outputs and that table into the README.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import floatfmt as ff

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(
    r"(?P<vary><!-- speeds vary -->\n)?```(?P<kind>python|console)\n(?P<body>.*?)```\n"
    r"(?:\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
BLOCKS = list(BLOCK.finditer(README.read_text()))


def run_python(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    return printed.getvalue()


def run_command(command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    return ran.stdout + ran.stderr


def run_console(body: str) -> str:
    commands = [line for line in body.splitlines() if line.startswith("$ ")]
    return "".join(f"{command}\n{run_command(command[2:])}" for command in commands)


#: The last two columns of a comparison, the backend that this machine has, a sweep's seconds.
SPEED = re.compile(r"\s[\d.,]+\s+[\d.,]+\s*$|(?<=backend )\w+|(?<=; )[\d.]+(?= s$)")


def masked(text: str, vary: bool) -> str:
    """Return text without trailing blanks or, if speeds vary, its words without speeds."""
    if vary:
        return " ".join(" ".join(SPEED.sub("", line) for line in text.splitlines()).split())
    return "\n".join(line.rstrip() for line in text.splitlines())


def line_of(block: re.Match[str]) -> str:
    return f"line {block.string.count(chr(10), 0, block.start()) + 1}"


@pytest.mark.parametrize("block", BLOCKS, ids=line_of)
def test_the_block_prints_what_the_readme_says(block):
    if block["kind"] == "python":
        assert masked(run_python(block["body"]), False) == masked(block["output"] or "", False)
    else:
        vary = bool(block["vary"])
        assert masked(run_console(block["body"]), vary) == masked(block["body"], vary)


def test_the_readme_has_blocks_to_run():
    kinds = {block["kind"] for block in BLOCKS}
    assert kinds == {"python", "console"}


def test_the_test_line_is_where_ci_looks_for_it():
    assert re.search(r"<!-- test line -->\n```sh\n.*pytest.*\n```", README.read_text())


# --- the table of speeds ------------------------------------------------------------------------

SPEEDS = ROOT / "benchmarks" / "results" / "README.json"
SPEED_TABLE = re.compile(
    r"(?<=<!-- speed table -->\n).*?(?=<!-- end of speed table -->)", re.DOTALL
)
ALLOCATIONS = {"new": "new array", "out": "`out=`"}


def speed_table() -> str:
    """The committed run as a Markdown table: floatfmt's fastest level beside its peers."""
    run = json.loads(SPEEDS.read_text())
    machine, software, peers = run["machine"], run["software"], run["peers"]
    versions = ", ".join(f"{name} {version}" for name, version in peers.items() if version)
    lines = [
        f"{machine['cpu']}, one thread, {run['date'][:10]}; {software['compiler']}, {versions};"
        f" {run['sizes'][0]:,} elements.",
        "",
        "| operation | result in | Gelem/s | GB/s | of a copy | times as fast as |",
        "|---|---|--:|--:|--:|---|",
    ]
    for result in run["results"]:
        for row in result["rows"]:
            if row["contender"] == f"floatfmt {software['backends'][-1]}":
                lines.append(speed_row(result, row))
    return "\n".join(lines) + "\n"


def speed_row(result: dict, row: dict) -> str:
    ratios = row["times_as_fast_as"].items()
    faster = ", ".join(f"{name} {float(f'{ratio:.2g}'):g}" for name, ratio in ratios if ratio)
    cells = (
        result["about"],
        ALLOCATIONS[row["allocation"]],
        f"{row['elements_per_s'] / 1e9:.2f}",
        f"{row['gb_per_s']:.1f}",
        f"{row['of_copy']:.0%}",
        faster,
    )
    return f"| {' | '.join(cells)} |"


def test_the_table_of_speeds_is_that_of_the_committed_run():
    assert SPEED_TABLE.search(README.read_text())[0] == speed_table()


# --- the table of compatibility -----------------------------------------------------------------


def test_the_table_of_compatibility_is_what_the_auditor_says():
    """Every cell from fp16 and bf16; all of them in tests/exhaustive."""
    text = README.read_text()
    table = text.partition("<!-- compatibility -->\n")[2].partition("<!-- end of comp")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    sources = [cell.removeprefix("from ") for cell in rows[0][2:6]]
    assert sources == ["fp64", "fp32", "fp16", "bf16"]
    libraries = dict.fromkeys(row[0].split()[0] for row in rows[2:])
    found = ff.compatibility(libraries, sources=["fp16", "bf16"])
    seen = {(f"{c.library} {c.version}", c.target.name, c.source.name): c.mark for c in found.cells}
    written = {
        (row[0], row[1], source): cell
        for row in rows[2:]
        for source, cell in zip(sources[2:], row[4:6], strict=True)
        if cell
    }
    assert len(written) > 30
    assert seen == written


def updated(block: re.Match[str]) -> str:
    vary = block["vary"] or ""
    if block["kind"] == "console":
        return f"{vary}```console\n{run_console(block['body'])}```\n"
    output = run_python(block["body"])
    shown = f"\n```text\n{output}```\n" if output else ""
    return f"```python\n{block['body']}```\n{shown}"


if __name__ == "__main__":
    text = BLOCK.sub(updated, README.read_text())
    README.write_text(SPEED_TABLE.sub(lambda _: speed_table(), text))
