#!/usr/bin/env python3
"""Compare two result files of run.py; exit 1 if floatfmt became slower beyond noise."""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from floatfmt.bench.results import SCHEMA_VERSION
from floatfmt.bench.tables import console, show, size_text
from floatfmt.timing import Timing

#: A difference within both spreads is noise; one below this may be the machine's mood.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Measured:
    """A file: floatfmt's timings, and on what and by which clock they were taken."""

    timings: dict[tuple, Timing]
    conditions: dict[str, object]


def measured(file: Path) -> Measured:
    """Return floatfmt's timings by case, inputs, size, caches, contender and allocation."""
    report = json.loads(file.read_text())
    if report["schema"] != SCHEMA_VERSION:
        raise SystemExit(f"{file} has schema {report['schema']}, expected {SCHEMA_VERSION}")
    timings = {
        (*where(result), row["contender"], row["allocation"]): (
            Timing(row["median_s"], row["spread"], row["rounds"])
        )
        for result in report["results"]
        for row in result["rows"]
        if row["library"] == "floatfmt"
    }
    conditions = {
        "processor": report["machine"]["cpu"],
        "threads": report["threads"],
        "clock": report["clock"],
    }
    return Measured(timings, conditions)


def where(result: dict) -> tuple:
    # Before there were cold ones, all measurements were warm.
    return result["case"], result["inputs"], result["size"], result.get("caches", "warm")


def verdict(old: Timing, new: Timing, tolerance: float) -> str:
    """Say whether the new timing differs from the old."""
    if old.overlaps(new):
        return "not significant"
    if abs(math.log(old.median_s / new.median_s)) < math.log1p(tolerance):
        return "small"
    return "faster" if new.median_s < old.median_s else "slower"


def compared(old: dict, new: dict, tolerance: float) -> Iterator[tuple[tuple, float, str]]:
    """Yield key, how many times as fast as before, and verdict of what both files have."""
    for key in old.keys() & new.keys():
        yield key, old[key].median_s / new[key].median_s, verdict(old[key], new[key], tolerance)


def results_file(path: str) -> Measured:
    """Return what is in a file; argparse turns the error into one line and exit code 2."""
    try:
        return measured(Path(path))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{path} is no results file of run.py") from None


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=results_file)
    parser.add_argument("new", type=results_file)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="PART",
        help=f"a smaller difference is no alarm; {TOLERANCE} by default",
    )
    options = parser.parse_args()
    for what, was in options.old.conditions.items():
        if options.new.conditions[what] != was:
            now = options.new.conditions[what]
            print(f"note: another {what}: {was} before, {now} now", file=sys.stderr)
    old, new = options.old.timings, options.new.timings
    rows = sorted(compared(old, new, options.tolerance))
    if not rows:
        print("the files have no measurement in common", file=sys.stderr)
        return 1
    table = Table(title="How many times as fast as before", box=box.SIMPLE_HEAD)
    for header in (
        "case",
        "inputs",
        "elements",
        "caches",
        "contender",
        "result",
        "old",
        "new",
        "×",
        "",
    ):
        table.add_column(header, no_wrap=True, justify="right" if header == "×" else "left")
    for key, ratio, word in rows:
        case, inputs, size, *who = key
        numbers = str(old[key]), str(new[key]), f"{ratio:.2f}"
        table.add_row(case, inputs, size_text(size), *who, *numbers, word)
    show(console(), table)
    mean = math.exp(sum(math.log(ratio) for _, ratio, _ in rows) / len(rows))
    slower = sum(word == "slower" for *_, word in rows)
    print(
        f"{len(rows)} measurements in both, {mean:.2f} times as fast (geometric mean); {slower} "
        f"slower by more than {options.tolerance:.0%} and beyond both spreads"
    )
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
