#!/usr/bin/env python3
"""Measure floatfmt against NumPy, torch and copying; see README.md beside this file."""

import argparse
import json
import re
import sys
from pathlib import Path

from floatfmt.bench import inputs, run, tables
from floatfmt.bench.cases import ACCEPTANCE, ACCEPTANCE_SIZE, CASES
from floatfmt.bench.check import DisagreementError

RESULTS = Path(__file__).parent / "results"
QUICK_SIZES, QUICK_BUDGET_S = (2**12, 2**20), 0.5
BUDGET_S, ACCEPTANCE_BUDGET_S = 2.0, 10.0


def size(text: str) -> int:
    """Return the number that "4096" or "2^12" means."""
    base, caret, power = text.partition("^")
    return int(base) ** int(power) if caret else int(text)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes, the usual inputs")
    parser.add_argument(
        "--acceptance", action="store_true", help="the wanted ratios beside those measured"
    )
    parser.add_argument("--size", type=size, nargs="+", metavar="N", help="such as 2^26 or 4096")
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="NAME", default=[])
    parser.add_argument("--budget", type=float, metavar="S", help="seconds for each table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="instead of one in results/")
    parser.add_argument("--list", action="store_true", help="name the cases and do no more")
    return parser


def selection(options: argparse.Namespace) -> tuple[run.Task, ...]:
    """Return the tasks that the options ask for."""
    if options.acceptance:
        names = options.case or dict.fromkeys(target.case for target in ACCEPTANCE)
        return run.plan(options.size or (ACCEPTANCE_SIZE,), names)
    sizes = options.size or (QUICK_SIZES if options.quick else inputs.SIZES)
    return run.plan(sizes, options.case, kinds="usual" if options.quick else "all")


def default_file(report: dict) -> Path:
    """Return results/<cpu>-<date>.json."""
    cpu = re.sub(r"[^a-z0-9]+", "-", report["machine"]["cpu"].lower()).strip("-")
    return RESULTS / f"{cpu}-{report['date'][:10]}.json"


def main() -> int:
    """Run what the command line asks for."""
    options = arguments().parse_args()
    if options.list:
        for case in CASES.values():
            print(f"{case.name:20} {case.about}")
        return 0
    usual = ACCEPTANCE_BUDGET_S if options.acceptance else BUDGET_S
    budget = options.budget or (QUICK_BUDGET_S if options.quick else usual)
    try:
        report = run.run(
            selection(options),
            budget_s=budget,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (DisagreementError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    tables.print_report(report, tables.console(), acceptance=options.acceptance)
    file = options.json or default_file(report.to_dict())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    print(f"wrote {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
