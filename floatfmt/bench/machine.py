"""Where measurements were made: processor, caches, compiler, versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..backends import available_backends, native
from .peers import PEERS

__all__ = ["cache_bytes", "caches", "commit", "cpu", "environment", "holding"]

#: Of the last cache, where the system does not say.
UNKNOWN_CACHE_BYTES = 64 << 20


def environment() -> dict[str, Any]:
    """Return what a measurement depends on, for JSON."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(Path(__file__).parents[2]),
        "machine": {
            "cpu": cpu(),
            "cores": _cores(),
            "caches": caches(),
            "load_average": load[0] if load else None,
            "platform": platform.platform(),
        },
        "software": {
            "floatfmt": importlib.metadata.version("floatfmt"),
            "compiler": native.compiler(),
            "backends": list(available_backends()),
            "python": platform.python_version(),
            # As NumPy does anyway; without, new tensors are slow to be touched first.
            "torch_huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        },
        "peers": {peer.name: peer.version for peer in PEERS},
    }


def cpu() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def _cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def caches() -> dict[str, str]:
    """Return the sizes of the first processor's caches, such as ``{"L1d": "48K"}``."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(index / name) for name in ("level", "type", "size"))
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        found[f"L{level}{suffix}"] = size
    return found


def cache_bytes(sizes: Mapping[str, str]) -> dict[str, int]:
    """Return the sizes of the caches of data in bytes, smallest first.

    Examples
    --------
    >>> from floatfmt.bench.machine import cache_bytes
    >>> cache_bytes({"L1d": "32K", "L1i": "32K", "L2": "1M"})
    {'L1d': 32768, 'L2': 1048576}
    """
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = {
        name: int(size[:-1]) * units[size[-1]]
        for name, size in sizes.items()
        if not name.endswith("i") and size[-1:] in units
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def holding(nbytes: float, sizes: Mapping[str, str]) -> str:
    """Return the smallest cache that holds so many bytes, else "memory".

    Examples
    --------
    >>> from floatfmt.bench.machine import holding
    >>> holding(10_000, {"L1d": "32K"}), holding(1e9, {"L1d": "32K"})
    ('L1d', 'memory')
    """
    known = cache_bytes(sizes)
    return next((name for name, size in known.items() if nbytes <= size), "memory")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def commit(root: Path) -> str | None:
    """Return the commit that a source tree is at, None if it is no Git checkout.

    Read from Git's files, so that nothing depends on Git being installed.
    """
    git = root / ".git"
    if git.is_file():  # a worktree: "gitdir: <path>"
        git = (root / _text(git).removeprefix("gitdir:").strip()).resolve()
    head = _text(git / "HEAD")
    if not head.startswith("ref:"):
        return head or None
    ref = head.removeprefix("ref:").strip()
    common = git / (_text(git / "commondir") or ".")
    packed = (line.split() for line in _text(common / "packed-refs").splitlines())
    return _text(common / ref) or next((p[0] for p in packed if p[1:] == [ref]), None)
