"""The C kernel on several threads: large arrays are cut into parts, which change no bit.

The caller works too, and waits for nobody who has not begun: where other threads call floatfmt at
the same time, or a part of the cores is busy, the caller takes more of the parts itself.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..elements import Intervals, Scaling, limits, saturating
from ..formats import Format
from ..rounding import Rules
from .native import FLOAT64, AbsmaxPart, AbsmaxPass, Native, ZeropointPass, new_absmax_part
from .reference import Float64, Stream

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Threaded", "thread_count", "told_threads", "use_threads"]

T = TypeVar("T")
#: Elements from which on other threads pay: two rounds of telling them take some 100 µs.
LEAST = 1 << 21
#: More parts than threads, for one may be kept from its core.
PARTS_A_THREAD = 2
#: Parts of a row begin at multiples of so many elements: whole cache lines and packed bytes.
GRAIN = 64
#: Scales that are found at a time, so that they are stored while they lie in the cache.
MOST_SCALES = 1 << 13

_chosen: ContextVar[int | None] = ContextVar("floatfmt_threads", default=None)
#: What FLOATFMT_THREADS says.
_wanted = os.environ.get("FLOATFMT_THREADS")


def thread_count() -> int:
    """Return how many threads work on a large array, here and now.

    That is what `use_threads` says, or the environment variable FLOATFMT_THREADS as it was when
    floatfmt was imported, or one for every core this process may run on. Without being told, never
    more than torch has been given.
    """
    told = told_threads()
    if told is not None:
        return told
    torch = sys.modules.get("torch")
    given = getattr(torch, "get_num_threads", None)
    return min(_cores(), given()) if given is not None else _cores()


def told_threads() -> int | None:
    """Return how many threads `use_threads` or FLOATFMT_THREADS asks for, if they do.

    Raises
    ------
    ValueError
        What FLOATFMT_THREADS says is no number of threads.
    """
    chosen = _chosen.get()
    if chosen is None and _wanted:
        return _checked(_wanted, "FLOATFMT_THREADS")
    return chosen


def _checked(wanted: Any, origin: str) -> int:
    try:
        count = int(wanted) if isinstance(wanted, str) else wanted.__index__()
    except (AttributeError, TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(wanted, bool):
        raise ValueError(f"{origin}: {wanted!r} is no number of threads; it takes 1 or more")
    return count


@functools.cache
def _cores() -> int:
    """Return how many physical cores this process may use: two threads of one share its ports."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
    siblings = set()
    for cpu in allowed:
        try:
            path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            with open(path) as file:
                siblings.add(file.read())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let everything in the ``with`` block (this thread, this context) use so many threads.

    Results are the same for any number: only large arrays are shared out, in parts.

    Parameters
    ----------
    count : int
        1 or more; the caller is one of them.

    Raises
    ------
    ValueError
        It is no such number.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> with ff.use_threads(1):
    ...     ff.absmax(np.float32([0.1, 3.2])).codes
    array([  4, 127], dtype=int8)
    """
    token = _chosen.set(_checked(count, "use_threads"))
    try:
        yield
    finally:
        _chosen.reset(token)


#: The process, how many threads, and they: a parent's do not come along in a fork.
_pool: tuple[int, int, ThreadPoolExecutor | None] = (0, 0, None)


def _threads(count: int) -> ThreadPoolExecutor:
    """Return at least so many threads of this process, which wait for work."""
    global _pool
    process, size, pool = _pool
    if pool is None or process != os.getpid() or size < count:
        from concurrent.futures import ThreadPoolExecutor  # takes milliseconds to import

        pool = ThreadPoolExecutor(count, "floatfmt", _chosen.set, (1,))  # parts are not cut again
        _pool = os.getpid(), count, pool
    return pool


class _Shared:
    """Parts that a caller and helpers take in turn, until none is left or one has failed."""

    def __init__(self, take: Callable[[int], None], parts: int) -> None:
        import threading  # takes a millisecond, and short arrays need none

        self._take, self._waiting = take, deque(range(parts))
        self._lock, self._idle = threading.Lock(), threading.Event()
        self._helpers, self._is_open = 0, True
        self._errors: list[BaseException] = []

    def run(self, helpers: int) -> None:
        """Do all parts, with so many helpers at most; raise what the first to fail did."""
        token = _chosen.set(1)
        try:
            with suppress(RuntimeError):  # no thread is to be had: those that are there will do
                for _ in range(helpers):
                    _threads(helpers).submit(self._help)
            self._take_all()
        finally:
            _chosen.reset(token)
            self._close()
        if self._errors:
            raise self._errors[0]

    def _take_all(self) -> None:
        while True:
            try:
                part = self._waiting.popleft()
            except IndexError:
                return
            self._take(part)

    def _help(self) -> None:
        with self._lock:
            if not self._is_open:  # the caller did not wait
                return
            self._helpers += 1
        try:
            self._take_all()
        except BaseException as error:  # raised again by the caller
            self._errors.append(error)
            self._waiting.clear()
        finally:
            with self._lock:
                self._helpers -= 1
                if not self._helpers:
                    self._idle.set()

    def _close(self) -> None:
        """Let no helper begin, and wait for those that have: they write into what is returned."""
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                with self._lock:
                    self._is_open = False
                    self._waiting.clear()
                    if not self._helpers:
                        break
                    self._idle.clear()
                self._idle.wait()
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted:
            raise interrupted


def _shared(
    work: Callable[[slice], T], size: int, count: int, grain: int = GRAIN, most: int = sys.maxsize
) -> list[T]:
    """Return what `work` returns for parts of `size` elements, in their order, by some threads."""
    step = min(-(-size // (count * PARTS_A_THREAD * grain)) * grain, most)
    starts = range(0, size, step)
    found: list[Any] = [None] * len(starts)

    def take(part: int) -> None:
        start = starts[part]
        found[part] = work(slice(start, min(start + step, size)))

    _Shared(take, len(starts)).run(min(count, len(starts)) - 1)
    return found


def _count(size: int) -> int:
    """Return how many threads are worth telling of an array of so many elements."""
    return 1 if size < LEAST else min(thread_count(), 4 * size // LEAST)


def _long_axis(shape: tuple[int, ...]) -> int:
    """Return the first axis along which an array in C order can be cut into such arrays."""
    return next((axis for axis, length in enumerate(shape) if length > 1), 0)


def _grain(axis: int) -> int:
    return GRAIN if axis == 2 else 1


class Threaded(Native):
    """The C kernel at one level, by several threads where an array is large."""

    def decompose(
        self,
        codes: np.ndarray,
        fmt: Format,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
    ) -> None:
        if (count := _count(codes.size)) == 1:
            return super().decompose(codes, fmt, sign, exponent, fraction)
        whole = super().decompose
        x, *fields = (array.reshape(-1) for array in (codes, sign, exponent, fraction))
        _shared(lambda p: whole(x[p], fmt, *(field[p] for field in fields)), x.size, count)
        return None

    def compose(
        self,
        sign: np.ndarray,
        exponent: np.ndarray,
        fraction: np.ndarray,
        fmt: Format,
        codes: np.ndarray,
    ) -> bool:
        if (count := _count(codes.size)) == 1:
            return super().compose(sign, exponent, fraction, fmt, codes)
        whole = super().compose
        *fields, out = (array.reshape(-1) for array in (sign, exponent, fraction, codes))

        def part(p: slice) -> bool:
            return whole(fields[0][p], fields[1][p], fields[2][p], fmt, out[p])

        return all(_shared(part, out.size, count))

    def encode_plain(
        self, values: np.ndarray, how: Rules, out: np.ndarray | None
    ) -> np.ndarray | None:
        return None if _count(values.size) > 1 else super().encode_plain(values, how, out)

    def decode_plain(
        self, codes: np.ndarray, fmt: Format, dtype: np.dtype, out: np.ndarray | None
    ) -> np.ndarray | None:
        return None if _count(codes.size) > 1 else super().decode_plain(codes, fmt, dtype, out)

    def encode(
        self, values: np.ndarray, how: Rules, codes: np.ndarray, random: Stream | None = None
    ) -> bool:
        if (count := _count(codes.size)) == 1:
            return super().encode(values, how, codes, random)
        whole = super().encode
        return self._rounded(whole, values, how, codes, random, count)

    def round_to(
        self, values: np.ndarray, how: Rules, out: np.ndarray, random: Stream | None = None
    ) -> bool:
        if (count := _count(out.size)) == 1:
            return super().round_to(values, how, out, random)
        whole = super().round_to
        return self._rounded(whole, values, how, out, random, count)

    def _rounded(
        self,
        whole: Callable[[np.ndarray, Rules, np.ndarray, Stream], bool],
        values: np.ndarray,
        how: Rules,
        out: np.ndarray,
        random: Stream | None,
        count: int,
    ) -> bool:
        seed, start = random or (0, 0)
        x, y = values.reshape(-1), out.reshape(-1)
        parts = _shared(lambda p: whole(x[p], how, y[p], (seed, start + p.start)), x.size, count)
        return all(parts)

    def decode(self, codes: np.ndarray, fmt: Format, values: np.ndarray) -> None:
        if (count := _count(codes.size)) == 1:
            return super().decode(codes, fmt, values)
        whole = super().decode
        x, y = codes.reshape(-1), values.reshape(-1)
        _shared(lambda p: whole(x[p], fmt, y[p]), x.size, count)
        return None

    def pack(self, codes: np.ndarray, packed: np.ndarray, bits: int, high_first: bool) -> None:
        if (count := _count(codes.size)) == 1:
            return super().pack(codes, packed, bits, high_first)
        whole = super().pack
        x, y = codes.reshape(-1), packed.reshape(-1)
        _shared(lambda p: whole(x[p], y[_in_bytes(p, bits)], bits, high_first), x.size, count)
        return None

    def unpack(self, packed: np.ndarray, codes: np.ndarray, bits: int, high_first: bool) -> None:
        if (count := _count(codes.size)) == 1:
            return super().unpack(packed, codes, bits, high_first)
        whole = super().unpack
        x, y = packed.reshape(-1), codes.reshape(-1)
        _shared(lambda p: whole(x[_in_bytes(p, bits)], y[p], bits, high_first), y.size, count)
        return None

    def amax(self, x: np.ndarray) -> Float64:
        if (count := _count(x.size)) == 1:
            return super().amax(x)
        found, axis = _cut(super().amax, x, count)
        with self.float_environment():
            return _merged(found, axis, np.maximum)

    def minmax(self, x: np.ndarray) -> tuple[Float64, Float64]:
        if (count := _count(x.size)) == 1:
            return super().minmax(x)
        found, axis = _cut(super().minmax, x, count)
        low, high = zip(*found, strict=True)
        with self.float_environment():
            return _merged(low, axis, np.minimum), _merged(high, axis, np.maximum)

    def quantize(
        self,
        x: np.ndarray,
        scale: Float64,
        zero_point: Float64,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> int:
        whole = super().quantize
        return _by_channels(
            lambda x, codes, scale, zero: whole(x, scale, zero, qmin, qmax, codes),
            (x, codes),
            (scale, zero_point),
        )

    def quantize_intervals(
        self, x: np.ndarray, scale: Float64, parts: Intervals, codes: np.ndarray
    ) -> int:
        whole = super().quantize_intervals
        return _by_channels(
            lambda x, codes, scale: whole(x, scale, parts, codes), (x, codes), (scale,)
        )

    def quantize_format(
        self,
        x: np.ndarray,
        scale: Float64,
        how: Rules,
        low: float,
        high: float,
        codes: np.ndarray,
    ) -> int:
        whole = super().quantize_format
        return _by_channels(
            lambda x, codes, scale: whole(x, scale, how, low, high, codes), (x, codes), (scale,)
        )

    def quantize_absmax(
        self,
        x: np.ndarray,
        how: Scaling,
        elements: int | Intervals | Format,
        packs: bool,
        codes: np.ndarray,
    ) -> tuple[Float64, int]:
        _, channels, inner = x.shape
        if (count := _count(x.size)) == 1:
            return super().quantize_absmax(x, how, elements, packs, codes)
        if channels == 1:
            return self._one_scale(x, how, elements, codes.reshape(x.shape))
        part = new_absmax_part(self._isa, x.dtype, inner, how, elements, packs, FLOAT64)
        return _in_parts(part, x, codes, channels, count)

    def quantize_range(
        self,
        x: np.ndarray,
        scale_format: Format,
        includes_zero: bool,
        qmin: int,
        qmax: int,
        codes: np.ndarray,
    ) -> tuple[Float64, Float64, int]:
        whole = super().quantize_range
        how = scale_format, includes_zero, qmin, qmax
        if (count := _count(x.size)) == 1:
            return whole(x, *how, codes)
        if x.shape[1] == 1:  # everything is read twice, as in C
            ends = np.concatenate(self.minmax(x)).reshape(1, 1, 2)
            found = whole(self.cast(ends, x.dtype), *how, np.empty(ends.shape, np.uint8))
            if found[2] < 0:
                return found
            return *found[:2], self.quantize(x, *found[:2], qmin, qmax, codes)
        rows = codes.reshape(x.shape)
        parts = _shared(lambda p: whole(x[:, p], *how, rows[:, p]), x.shape[1], count, 1)
        scale, zero_point, clamped = zip(*parts, strict=True)
        return np.concatenate(scale), np.concatenate(zero_point), _sum(list(clamped))

    def absmax_pass(
        self,
        dtype: np.dtype,
        shape: tuple[int, ...],
        how: Scaling,
        elements: int | Intervals | Format,
        packs: bool,
        scale_shape: tuple[int, ...],
        scale_dtype: np.dtype,
    ) -> AbsmaxPass:
        alone = super().absmax_pass(dtype, shape, how, elements, packs, scale_shape, scale_dtype)
        _, channels, inner = shape
        if math.prod(shape) < LEAST or (packs and channels == 1):  # one scale, before any code
            return alone
        part = self._absmax_part(dtype, inner, how, elements, packs, scale_dtype)

        def run(x: np.ndarray, codes: np.ndarray, zeros: Any) -> tuple[np.ndarray, None, int]:
            count = _count(x.size)
            if count == 1 and channels <= MOST_SCALES:
                return alone(x, codes, zeros)
            if channels > 1:
                scale, clamped = _in_parts(part, x, codes, channels, count)
            else:
                plain = x.reshape(shape), codes.reshape(shape)
                scale, clamped = self._one_scale(plain[0], how, elements, plain[1])
                scale = scale if clamped < 0 else self.cast(scale, scale_dtype)
            return scale if clamped < 0 else scale.reshape(scale_shape), None, clamped

        return run

    def zeropoint_pass(
        self, dtype: np.dtype, shape: tuple[int, ...], *settled: Any
    ) -> ZeropointPass | None:
        if math.prod(shape) >= LEAST:
            return None
        return super().zeropoint_pass(dtype, shape, *settled)

    def _one_scale(
        self, x: np.ndarray, how: Scaling, elements: int | Intervals | Format, codes: np.ndarray
    ) -> tuple[Float64, int]:
        """Quantise by the largest magnitude of all: everything is read twice, as in C."""
        amax = self.amax(x)
        if not np.isfinite(amax).all():
            return amax, -1
        if how.power_rule is None:
            scale = self.absmax_scale(amax, how.format, how.largest)
        else:
            scale = self.power_scale(amax, how.power_rule, how.largest, how.fraction_bits)
        if isinstance(elements, Intervals):
            return scale, self.quantize_intervals(x, scale * how.times, elements, codes)
        if isinstance(elements, Format):
            how_to = saturating(elements)
            return scale, self.quantize_format(x, scale, how_to, *limits(elements), codes)
        return scale, self.quantize(x, scale, np.zeros(1), -elements, elements, codes)

    def dequantize(
        self, codes: np.ndarray, scale: Float64, zero_point: Float64, out: np.ndarray
    ) -> None:
        whole = super().dequantize
        if _count(out.size) == 1:
            return whole(codes, scale, zero_point, out)
        _by_channels(
            lambda codes, out, scale, zero: whole(codes, scale, zero, out) or 0,
            (codes, out),
            (scale, zero_point),
        )
        return None

    def dequantize_table(
        self, codes: np.ndarray, scale: Float64, table: Float64, entries: int, out: np.ndarray
    ) -> None:
        whole = super().dequantize_table
        _by_channels(
            lambda codes, out, scale: whole(codes, scale, table, entries, out) or 0,
            (codes, out),
            (scale,),
        )

    def dequantize_packed(
        self, packed: np.ndarray, scale: Float64, table: Float64, out: np.ndarray
    ) -> None:
        whole = super().dequantize_packed
        channels = out.shape[1]
        if (count := _count(out.size)) == 1 or channels == 1:
            return whole(packed, scale, table, out)
        rows = packed.reshape(channels, -1)
        _shared(
            lambda p: whole(rows[p].reshape(-1), scale[p], table, out[:, p]), channels, count, 1
        )
        return None


def _in_bytes(part: slice, bits: int) -> slice:
    """Return where a part's packed codes lie: parts begin at whole bytes."""
    return slice(part.start * bits // 8, -(-part.stop * bits // 8))


def _sum(clamped: list[int]) -> int:
    """Return how many were clamped in all parts; -1 if a part has values that are not finite."""
    return -1 if min(clamped, default=0) < 0 else sum(clamped)


def _by_channels(
    work: Callable[..., int], arrays: tuple[np.ndarray, ...], parameters: tuple[Float64, ...]
) -> int:
    """Return the sum of `work` on parts of 3-D arrays and of their channels' parameters."""
    shape = arrays[0].shape
    if (count := _count(arrays[0].size)) == 1:
        return work(*arrays, *parameters)
    axis, arrays = _long_axis(shape), tuple(array.reshape(shape) for array in arrays)

    def part(p: slice) -> int:
        at = (slice(None),) * axis + (p,)
        own = [array[p] for array in parameters] if axis == 1 else parameters
        return work(*(array[at] for array in arrays), *own)

    return _sum(_shared(part, shape[axis], count, _grain(axis)))


def _in_parts(
    part: AbsmaxPart, x: np.ndarray, codes: np.ndarray, channels: int, count: int
) -> tuple[np.ndarray, int]:
    """Return the scales that a pass by parts finds, and what was clamped; below 0, any scales."""
    found = _shared(
        lambda p: part(x, codes, p.start, p.stop - p.start), channels, count, 1, MOST_SCALES
    )
    scales, counts = zip(*found, strict=True)
    clamped = _sum(list(counts))
    return scales[0] if clamped < 0 else np.concatenate(scales), clamped


def _cut(work: Callable[[np.ndarray], T], x: np.ndarray, count: int) -> tuple[list[T], int]:
    """Return what `work` finds in parts of a 3-D array, and the axis that they follow."""
    axis = _long_axis(x.shape)
    found = _shared(
        lambda p: work(x[(slice(None),) * axis + (p,)]), x.shape[axis], count, _grain(axis)
    )
    return found, axis


def _merged(found: Sequence[Float64], axis: int, extreme: np.ufunc) -> Float64:
    """Return one value a channel, of parts that are channels or share them."""
    merged: Float64 = np.concatenate(found) if axis == 1 else extreme.reduce(found)
    return merged
