#!/usr/bin/env python3
"""Measure floatfmt against other libraries and copying; see README.md beside this file."""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from floatfmt.bench import inputs, rounding, run, tables
from floatfmt.bench.cases import (
    ACCEPTANCE,
    ACCEPTANCE_SIZE,
    CASES,
    README_CASES,
    ROUNDING_ACCEPTANCE,
    ROUNDING_SIZE,
    SCHEME_ACCEPTANCE,
    SCHEME_CASES,
    Target,
)
from floatfmt.bench.check import DisagreementError

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Preset:
    """What an option measures where --size, --case and --budget do not say otherwise.

    No cases are those of the targets, or all; `grid` adds every format in every mode, `file` is
    where the results go.
    """

    about: str
    sizes: tuple[int, ...]
    budget_s: float
    cases: tuple[str, ...] = ()
    kinds: str = "usual"
    targets: tuple[Target, ...] = ()
    grid: bool = False
    file: Path | None = None

    def tasks(self, options: argparse.Namespace) -> tuple[run.Measurable, ...]:
        """Return what is to be measured."""
        sizes = options.size or self.sizes
        cases = options.case or self.cases or dict.fromkeys(t.case for t in self.targets)
        formats = [one for size in sizes for one in rounding.plan(size)] if self.grid else []
        return (*formats, *run.plan(sizes, cases, kinds=self.kinds))


USUAL = Preset("all sizes and inputs", inputs.SIZES, 2.0, kinds="all")
PRESETS = {
    "quick": Preset("two sizes, the usual inputs", (2**12, 2**20), 0.5),
    "acceptance": Preset(
        "the wanted ratios beside those measured", (ACCEPTANCE_SIZE,), 10.0, targets=ACCEPTANCE
    ),
    "rounding": Preset(
        "every format in every mode, and what is wanted of them",
        (ROUNDING_SIZE,),
        3.0,
        targets=ROUNDING_ACCEPTANCE,
        grid=True,
    ),
    "schemes": Preset(
        "quantising by rows and blocks, and back: the wanted ratios beside those measured",
        (ACCEPTANCE_SIZE,),
        8.0,
        SCHEME_CASES,
        targets=SCHEME_ACCEPTANCE,
    ),
    "readme": Preset(
        "the cases of the README's table, into the file that it is made from",
        (ACCEPTANCE_SIZE,),
        8.0,
        README_CASES,
        file=RESULTS / "README.json",
    ),
}


def size(text: str) -> int:
    """Return the number that "4096" or "2^12" means."""
    base, caret, power = text.partition("^")
    return int(base) ** int(power) if caret else int(text)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    presets = parser.add_mutually_exclusive_group()
    for name, preset in PRESETS.items():
        presets.add_argument(
            f"--{name}", dest="preset", action="store_const", const=preset, help=preset.about
        )
    parser.set_defaults(preset=USUAL)
    parser.add_argument("--size", type=size, nargs="+", metavar="N", help="such as 2^26 or 4096")
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="NAME", default=[])
    parser.add_argument("--budget", type=float, metavar="S", help="seconds for each table")
    parser.add_argument(
        "--cpu-time", action="store_true", help="do not count what other processes take away"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="instead of one in results/")
    parser.add_argument("--list", action="store_true", help="name the cases and do no more")
    return parser


def show_progress(doing: str, done: int, total: int) -> None:
    print(f"[{done + 1}/{total}] {doing}", file=sys.stderr, flush=True)


def default_file(report: dict) -> Path:
    """Return results/<cpu>-<date>.json."""
    cpu = re.sub(r"[^a-z0-9]+", "-", report["machine"]["cpu"].lower()).strip("-")
    return RESULTS / f"{cpu}-{report['date'][:10]}.json"


def main() -> int:
    """Run what the command line asks for."""
    options = arguments().parse_args()
    if options.list:
        width = max(map(len, CASES))
        for case in CASES.values():
            print(f"{case.name:{width}} {case.about}")
        return 0
    preset = options.preset
    try:
        report = run.run(
            preset.tasks(options),
            budget_s=options.budget or preset.budget_s,
            clock="thread CPU" if options.cpu_time else "wall",
            progress=show_progress,
        )
    except (DisagreementError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    tables.print_report(report, tables.console(), targets=preset.targets)
    file = options.json or preset.file or default_file(report.to_dict())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    print(f"wrote {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
