"""A sweep of a cast that can be stopped, kept in a file, and gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .faults import Group, Sample, Tally
from .inputs import Inputs
from .sweep import Progress, Sweep, sweep

__all__ = ["Run", "swept"]

#: How often a sweep that can be resumed is saved.
SAVE_S = 2.0


@dataclass(frozen=True)
class Run:
    """How a sweep is run, as the user asked for it."""

    threads: int | None = None
    budget_s: float | None = None
    resume: str | os.PathLike[str] | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ValueError(f"threads must be an integer of at least 1, got {self.threads!r}")
        if self.budget_s is not None and not self.budget_s >= 0:
            raise ValueError(f"budget_s must be a number of seconds, got {self.budget_s!r}")


def swept(
    make_work: Callable[[], Callable[[int, int], Tally]],
    over: Inputs,
    run: Run,
    key: dict[str, Any],
    chunk: int,
) -> tuple[Tally, Sweep]:
    """Return what a sweep found, together with what one before it had."""
    file = None if run.resume is None else Path(run.resume)
    tally, before = Tally(), 0.0
    if file is not None and file.exists():
        tally, before = _loaded(file, key)
    if file is not None:
        _save(file, key, tally, before)  # now, not after minutes, is the time to say that it fails
    began = saved = time.monotonic()

    def merge(done: int, found: Tally) -> None:
        nonlocal saved
        tally.add(found)
        if file is not None and time.monotonic() - saved > SAVE_S:
            saved = time.monotonic()
            with contextlib.suppress(OSError):  # it is tried again, and at the end
                _save(file, key, tally, before + saved - began)

    ended = sweep(
        make_work,
        merge,
        over.size,
        first=tally.count,
        chunk=chunk,
        threads=run.threads,
        budget_s=run.budget_s,
        progress=run.progress,
    )
    ended = ended._replace(seconds=ended.seconds + before)
    if file is not None:
        try:
            _save(file, key, tally, ended.seconds)
        except OSError as exc:  # what was found is not lost for that
            warnings.warn(f"{file} was not written: {exc}", stacklevel=4)
    return tally, ended


def _save(file: Path, key: dict[str, Any], tally: Tally, seconds: float) -> None:
    """Write what was found so far; the file is replaced at once or not at all."""
    groups = {
        name: [g.count, list(g.first), list(g.simplest), g.rank] for name, g in tally.groups.items()
    }
    state = {
        "schema": "floatfmt.sweep/1",
        "key": key,
        "done": tally.count,
        "unlike": tally.unlike,
        "groups": groups,
        "seconds": seconds,
    }
    partial = file.with_name(f"{file.name}.part")
    partial.write_text(json.dumps(state))
    os.replace(partial, file)


def _loaded(file: Path, key: dict[str, Any]) -> tuple[Tally, float]:
    try:
        state = json.loads(file.read_text())
        groups = {
            name: Group(count, Sample(*first), Sample(*simplest), rank)
            for name, (count, first, simplest, rank) in state["groups"].items()
        }
        tally = Tally(state["done"], groups, state["unlike"])
        before, seconds = state["key"], float(state["seconds"])
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{file} is no file of a sweep to resume: {exc}") from None
    for name, value in key.items():
        if before.get(name) != value:
            raise ValueError(
                f"{file} is of another sweep: its {name} is {before.get(name)}, not {value}"
            )
    return tally, seconds
