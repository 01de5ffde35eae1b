"""The libraries that floatfmt is measured against: a row each.

A library that is not installed stays in the list and is reported as missing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from ..audit.casts import on_torch_threads
from . import onnx_nodes

__all__ = ["PEERS", "Peer", "installed", "missing", "on_threads"]


def _as_it_is(count: int) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Peer:
    """A library.

    Attributes
    ----------
    name : str
        The module to import, and the distribution it comes in.
    on_threads : function
        Gives a context in which the library computes on so many threads, if it can.
    """

    name: str
    on_threads: Callable[[int], AbstractContextManager[None]] = _as_it_is

    @property
    def installed(self) -> bool:
        """Whether the library can be imported; it is not imported to find out."""
        return importlib.util.find_spec(self.name) is not None

    @property
    def version(self) -> str | None:
        """The installed version, None where it is missing."""
        return importlib.metadata.version(self.name) if self.installed else None


@contextmanager
def _on_apytypes_threads(count: int) -> Iterator[None]:
    import apytypes

    before = apytypes.n_threads()
    apytypes.reset_thread_pool(count)
    try:
        yield
    finally:
        apytypes.reset_thread_pool(before)


PEERS = (
    Peer("numpy"),  # its element-wise loops and casts run on the caller's thread
    Peer("ml_dtypes"),  # likewise
    Peer("torch", on_torch_threads),
    Peer("gfloat"),  # computes with the arrays it is given: NumPy's here
    # Its kernels call the OpenMP runtime that torch has loaded, and so keep to torch's threads.
    Peer("bitsandbytes", on_torch_threads),
    Peer("torchao", on_torch_threads),  # computes with torch's operations
    Peer("onnxruntime", onnx_nodes.on_threads),
    Peer("numkong"),  # its casts run on the caller's thread
    Peer("apytypes", _on_apytypes_threads),
    Peer("pychop"),  # computes with NumPy here
)


def installed() -> frozenset[str]:
    """Return the names of the peers that are installed."""
    return frozenset(peer.name for peer in PEERS if peer.installed)


def missing() -> tuple[str, ...]:
    """Return the names of the peers that are not installed."""
    return tuple(peer.name for peer in PEERS if not peer.installed)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let every installed peer use so many threads inside the ``with`` block."""
    with ExitStack() as stack:
        for peer in PEERS:
            if peer.installed:
                stack.enter_context(peer.on_threads(count))
        yield
