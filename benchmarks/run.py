#!/usr/bin/env python3
"""Measure floatfmt against other libraries and copying; see README.md beside this file."""

import argparse
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from floatfmt.backends import available_backends, thread_count
from floatfmt.bench import inputs, rounding, run, tables
from floatfmt.bench.cases import (
    ACCEPTANCE,
    ACCEPTANCE_SIZE,
    CASES,
    CURVE_CASES,
    OUT_ACCEPTANCE,
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
class Sweep:
    """Sizes × cases × kinds of input; no cases are all, no backend is all of them."""

    sizes: tuple[int, ...]
    cases: tuple[str, ...] = ()
    kinds: str = "usual"
    caches: str = "warm"
    backend: str | None = None

    def tasks(self, cold: bool) -> tuple[run.Measurable, ...]:
        """Return what is to be measured."""
        return run.plan(
            self.sizes,
            self.cases,
            kinds=self.kinds,
            keep=run.only_backend(self.backend) if self.backend else run.everyone,
            caches="cold" if cold else self.caches,
        )


@dataclass(frozen=True)
class Preset:
    """What an option measures where --size, --case and --budget do not say otherwise.

    With --size or --case it is the first sweep that is changed, and the only one. `grid` adds every
    format in every mode, `file` is where the results go.
    """

    about: str
    budget_s: float
    sweeps: tuple[Sweep, ...]
    targets: tuple[Target, ...] = ()
    grid: bool = False
    threads: int = 1
    file: Path | None = None

    def tasks(self, options: argparse.Namespace) -> tuple[run.Measurable, ...]:
        """Return what is to be measured, each thing once."""
        first, *others = self.sweeps
        sizes = tuple(options.size or first.sizes)
        if options.size or options.case:
            others = []
        sweeps = replace(first, sizes=sizes, cases=tuple(options.case) or first.cases), *others
        grid = [one for size in sizes for one in rounding.plan(size)] if self.grid else []
        found = (task for sweep in sweeps for task in sweep.tasks(options.cold))
        return (*grid, *{str(task): task for task in found}.values())


def of(targets: tuple[Target, ...]) -> tuple[str, ...]:
    """Return the cases of targets, each once."""
    return tuple(dict.fromkeys(target.case for target in targets))


#: As many as everyone takes without being told.
USUAL_THREADS = 0
IN_CACHES, COLD_SIZES = 2**20, (2**10, 2**16, 2**20)
FASTEST = available_backends()[-1]
USUAL = Preset(
    "all kinds of input in the caches, one of each kind of work at all sizes and cold",
    0.5,
    (
        Sweep((IN_CACHES,), kinds="all"),
        Sweep(inputs.SIZES, README_CASES, backend=FASTEST),
        Sweep(COLD_SIZES, README_CASES, caches="cold", backend=FASTEST),
    ),
)
PRESETS = {
    "quick": Preset(
        "what a call costs, in the caches, and cold",
        0.3,
        (
            Sweep((IN_CACHES,)),
            Sweep((2**4, 2**10), CURVE_CASES, backend=FASTEST),
            Sweep((2**16,), CURVE_CASES, caches="cold", backend=FASTEST),
        ),
    ),
    "acceptance": Preset(
        "the wanted ratios beside those measured: new arrays, everyone's usual threads",
        8.0,
        (
            Sweep((2**10, 2**20), ("absmax-int8",), backend=FASTEST),
            Sweep((ACCEPTANCE_SIZE,), of(ACCEPTANCE), backend=FASTEST),
        ),
        targets=ACCEPTANCE,
        threads=USUAL_THREADS,
    ),
    "acceptance-out": Preset(
        "the same for existing arrays and one thread",
        5.0,
        (Sweep((ROUNDING_SIZE, ACCEPTANCE_SIZE), of(OUT_ACCEPTANCE), backend=FASTEST),),
        targets=OUT_ACCEPTANCE,
    ),
    "rounding": Preset(
        "every format in every mode, and what is wanted of them",
        3.0,
        (Sweep((ROUNDING_SIZE,), of(ROUNDING_ACCEPTANCE)),),
        targets=ROUNDING_ACCEPTANCE,
        grid=True,
    ),
    "schemes": Preset(
        "quantising by rows and blocks, and back: the wanted ratios beside those measured",
        8.0,
        (Sweep((ACCEPTANCE_SIZE,), SCHEME_CASES),),
        targets=SCHEME_ACCEPTANCE,
    ),
    "readme": Preset(
        "the cases of the README's table, into the file that it is made from",
        8.0,
        (Sweep((ACCEPTANCE_SIZE,), README_CASES),),
        file=RESULTS / "README.json",
    ),
    "curves": Preset(
        "the cases of the README's plots at all sizes, into the file that they are made from",
        1.0,
        (Sweep(inputs.SIZES, CURVE_CASES, backend=FASTEST),),
        file=RESULTS / "README-curves.json",
    ),
}


def size(text: str) -> int:
    """Return the number that "4096" or "2^12" means."""
    base, caret, power = text.partition("^")
    return int(base) ** int(power) if caret else int(text)


def count(text: str) -> int:
    """Return a number of threads."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; it takes 1 or more")
    return int(text)


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
    parser.add_argument(
        "--cold", action="store_true", help="each call finds none of its data in the caches"
    )
    parser.add_argument("--threads", type=count, metavar="N", help="of everyone; 1 by default")
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
            threads=options.threads or preset.threads or thread_count(),
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
