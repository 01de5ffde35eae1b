"""How many times as fast the usual number of threads is as one, from caches and from memory.

::

    python benchmarks/threads.py
    FLOATFMT_THREADS=8 python benchmarks/threads.py

Into arrays that exist. Results are compared first; then both take turns, and each runs a while
before it is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

import floatfmt as ff
from floatfmt.backends import thread_count
from floatfmt.bench.run import SETTLE_S
from floatfmt.timing import interleaved, percent

SIZES = (18, 20, 22, 26)
BUDGET_S = 2.5


def works(n: int) -> dict[str, tuple[Callable[[], object], np.ndarray]]:
    """Return what is measured, of n values, and what it writes to, by its name."""
    x = np.random.default_rng(1).standard_normal(n, np.float32) * np.float32(0.02)
    codes, words, packed = (np.zeros(n // k, t) for k, t in ((1, "u1"), (1, "u2"), (2, "u1")))
    fp8, signed = "fp8_e4m3fn", codes.view(np.int8)
    return {
        "absmax": (lambda: ff.absmax(x, out=signed), codes),
        "fp16": (lambda: ff.encode(x, "fp16", out=words), words),
        fp8: (lambda: ff.encode(x, fp8, out=codes), codes),
        "stochastic": (lambda: ff.encode(x, fp8, rounding="stochastic", seed=1, out=codes), codes),
        "nf4": (lambda: ff.quantize(x, "nf4", out=packed), packed),
        "mxfp4": (lambda: ff.quantize(x, "mxfp4", out=packed), packed),
    }


def on(threads: int, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with ff.use_threads(threads):
            return work()

    return run


def compared(work: Callable[[], object], out: np.ndarray, threads: int) -> str:
    """Return how many times as fast so many threads are as one, which gives the same."""
    alone, together = on(1, work), on(threads, work)
    alone()
    wanted = out.copy()
    out[...] = ~out
    together()
    if not np.array_equal(out, wanted):
        raise SystemExit(f"{threads} threads give other results than one")
    both = {"one": alone, "many": together}
    one, many = interleaved(both, budget_s=BUDGET_S, settle_s=SETTLE_S).values()
    return f"{one.median_s / many.median_s:.2f} ±{percent(one.spread + many.spread)}"


def main() -> None:
    threads = thread_count()
    if threads == 1:
        raise SystemExit("one thread is all there is here; FLOATFMT_THREADS=N asks for more")
    table = Table(title=f"{threads} threads against one (± both spreads)")
    for name in ("values", *works(64)):
        table.add_column(name, no_wrap=True)
    for size in SIZES:
        row = [compared(*work, threads) for work in works(1 << size).values()]
        table.add_row(f"2^{size}", *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
