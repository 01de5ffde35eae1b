"""Who performs an operation: floatfmt, NumPy with ml_dtypes, torch, gfloat; a builder a way.

A builder takes the Work, does all that comes before timing and returns the function that is timed;
torch and gfloat are imported in there, not before.
"""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .. import interop
from ..arrays import decode
from ..audit.casts import GFLOAT_MODES, gfloat_format
from ..backends import reference, use_backend
from ..formats import format
from ..rounding import Rounding
from .check import IDENTICAL, Relation
from .inputs import touched

__all__ = ["Builder", "Contender", "Run", "Work", "both"]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The input of a case at one size, and the output buffers that its contenders share."""

    x: np.ndarray
    more: Mapping[str, Any] = field(default_factory=dict)
    buffers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def out(
        self, name: str, dtype: np.typing.DTypeLike, shape: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """Return the buffer of that name and dtype, in x's shape or another, its pages touched."""
        key = (name, np.dtype(dtype).name)
        if key not in self.buffers:
            self.buffers[key] = touched(self.x.shape if shape is None else shape, dtype)
        return self.buffers[key]

    def spoil(self) -> None:
        """Overwrite the buffers, so that nobody is credited with an earlier one's result."""
        for buffer in self.buffers.values():
            buffer.view(np.uint8).fill(0xA5)


Run: TypeAlias = Callable[[], Any]
Arrays: TypeAlias = tuple[np.ndarray, ...]
Builder: TypeAlias = Callable[[Work], Run]


@dataclass(frozen=True, slots=True)
class Contender:
    """Someone who performs a case's operation.

    Attributes
    ----------
    name : str
        As it stands in tables; floatfmt's get the backend's name added.
    peer : str
        ``"floatfmt"`` or the name of a row of `peers.PEERS`.
    allocation : {"new", "out"}
        Whether the result is a new array or goes into one that exists.
    build : function
        Takes the Work and returns the function to time.
    relation : Relation
        How its result stands to floatfmt's.
    of_ours, of_its : function
        Make of floatfmt's result and of its own what is compared: floatfmt's codes decoded where
        the contender gives values.
    max_size : int, optional
        The most elements at which it takes part.
    backend : str, optional
        Of floatfmt's, once the case is expanded.
    """

    name: str
    peer: str
    allocation: str
    build: Builder
    relation: Relation = IDENTICAL
    of_ours: Callable[[Arrays], Arrays] = tuple
    of_its: Callable[[Arrays], Arrays] = tuple
    max_size: int | None = None
    backend: str | None = None

    def prepared(self, work: Work) -> Run:
        """Return the function to time."""
        if self.backend is None:
            return self.build(work)
        # Entering use_backend for every call would be timed too; a context that has it is not.
        with use_backend(self.backend):
            context = contextvars.copy_context()
        return partial(context.run, self.build(work))


def both(
    name: str,
    new: Builder | None = None,
    out: Builder | None = None,
    relation: Relation = IDENTICAL,
    **more: Any,
) -> tuple[Contender, ...]:
    """Return a contender's rows, one for each allocation rule that it has a form of.

    The first word of its name is the library; `more` are other fields of a Contender.
    """
    return tuple(
        Contender(name, name.split()[0], allocation, build, relation, **more)
        for allocation, build in (("new", new), ("out", out))
        if build is not None
    )


# --- floatfmt -----------------------------------------------------------------------------------

FIELDS = ("sign", "exponent", "fraction")
FIELD_DTYPES = (np.uint8, np.uint8, np.uint32)


def fields_out(work: Work) -> tuple[np.ndarray, ...]:
    """Return the buffers for the fields of fp32."""
    return tuple(work.out(*one) for one in zip(FIELDS, FIELD_DTYPES, strict=True))


def floatfmt(
    call: Callable[..., Any],
    out: Callable[[Work], Any] | None,
    of: Callable[[Work], Any] | None = None,
) -> tuple[Contender, ...]:
    """Return floatfmt's rows: ``call(x)`` and ``call(x, out=)``.

    `out` chooses the buffer, None if the call takes none; `of` what the call is given, the work's x
    if left out.
    """

    def argument(work: Work) -> Any:
        return work.x if of is None else of(work)

    return both(
        "floatfmt",
        lambda work: partial(call, argument(work)),
        out and (lambda work: partial(call, argument(work), out=out(work))),
    )


# --- numpy and ml_dtypes ------------------------------------------------------------------------


def value_dtype(name: str) -> Any:
    """Return the NumPy or ml_dtypes dtype of a format's values."""
    return np.dtype(format(name).dtype)


def numpy_decompose(work: Work) -> Run:
    """The three expressions one would write."""
    u = work.x.view(np.uint32)
    return lambda: ((u >> 31).astype(np.uint8), ((u >> 23) & 255).astype(np.uint8), u & 0x7FFFFF)


def numpy_decompose_out(work: Work) -> Run:
    u, shifted = work.x.view(np.uint32), work.out("shifted", np.uint32)
    sign, exponent, fraction = fields_out(work)

    def run() -> tuple[np.ndarray, ...]:
        np.right_shift(u, 31, out=sign, casting="unsafe")
        np.right_shift(u, 23, out=shifted)
        np.bitwise_and(shifted, 255, out=exponent, casting="unsafe")
        np.bitwise_and(u, 0x7FFFFF, out=fraction)
        return sign, exponent, fraction

    return run


def numpy_compose(work: Work) -> Run:
    sign, exponent, fraction = (getattr(work.more["fields"], name) for name in FIELDS)
    return lambda: (sign.astype(np.uint32) << 31) | (exponent.astype(np.uint32) << 23) | fraction


def numpy_compose_out(work: Work) -> Run:
    sign, exponent, fraction = (getattr(work.more["fields"], name) for name in FIELDS)
    codes, shifted = work.out("codes", np.uint32), work.out("shifted", np.uint32)

    def run() -> np.ndarray:
        np.left_shift(sign, 31, out=codes, dtype=np.uint32)
        np.left_shift(exponent, 23, out=shifted, dtype=np.uint32)
        np.bitwise_or(codes, shifted, out=codes)
        return np.bitwise_or(codes, fraction, out=codes)

    return run


def numpy_cast(target: str) -> Builder:
    return lambda work: partial(work.x.astype, value_dtype(target))


def numpy_cast_out(target: str) -> Builder:
    def build(work: Work) -> Run:
        out = work.out("values", value_dtype(target))

        def run() -> np.ndarray:
            np.copyto(out, work.x, casting="unsafe")
            return out

        return run

    return build


def numpy_round(target: str) -> Builder:
    return lambda work: lambda: work.x.astype(value_dtype(target)).astype(np.float32)


def numpy_rint(target: str) -> Builder:
    """To integers: a cast alone would truncate."""
    return lambda work: lambda: np.rint(work.x).astype(value_dtype(target))


def numpy_rint_out(target: str) -> Builder:
    def build(work: Work) -> Run:
        codes, whole = work.out("values", value_dtype(target)), work.out("whole", work.x.dtype)

        def run() -> np.ndarray:
            np.copyto(codes, np.rint(work.x, out=whole), casting="unsafe")
            return codes

        return run

    return build


def numpy_pack4(work: Work) -> Run:
    return lambda: work.x[0::2] | work.x[1::2] << 4


def numpy_pack6(work: Work) -> Run:
    def run() -> np.ndarray:
        a, b, c, d = work.x.reshape(-1, 4).T
        return np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=1).reshape(-1)

    return run


def numpy_unpack4(work: Work) -> Run:
    return lambda: np.stack([work.x & 15, work.x >> 4], axis=1).reshape(-1)


def numpy_unpack6(work: Work) -> Run:
    def run() -> np.ndarray:
        a, b, c = work.x.reshape(-1, 3).T
        codes = [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2]
        return np.stack(codes, axis=1).reshape(-1)

    return run


def numpy_absmax(over: int | None = None) -> Builder:
    """The article's formula; `over` is the axis reduced over."""

    def build(work: Work) -> Run:
        def run() -> np.ndarray:
            scale = 127 / np.max(np.abs(work.x), axis=over, keepdims=True)
            return np.rint(scale * work.x).astype(np.int8)

        return run

    return build


def numpy_absmax_out(work: Work) -> Run:
    codes, scaled = work.out("codes", np.int8), work.out("scaled", np.float32)

    def run() -> np.ndarray:
        scale = 127 / np.max(np.abs(work.x, out=scaled))
        np.multiply(work.x, np.float32(scale), out=scaled)
        np.rint(scaled, out=scaled)
        np.copyto(codes, scaled, casting="unsafe")
        return codes

    return run


def numpy_quantize(scale: float, zero_point: int) -> Builder:
    def build(work: Work) -> Run:
        s = np.float32(scale)
        return lambda: np.clip(np.rint(work.x / s) + zero_point, -128, 127).astype(np.int8)

    return build


def numpy_dequantize(work: Work) -> Run:
    q = work.more["quantized"]
    return lambda: q.codes.astype(np.float32) * q.scale


def numpy_dequantize_out(work: Work) -> Run:
    q, out = work.more["quantized"], work.out("values", np.float32)
    return lambda: np.multiply(q.codes, q.scale, out=out, dtype=np.float32)


# --- torch --------------------------------------------------------------------------------------

#: Formats whose values torch stores and casts.
IN_TORCH = (
    *("fp64", "fp32", "fp16", "bf16", "int8", "uint8"),
    *("fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fnuz", "fp8_e5m2fnuz", "fp8_e8m0fnu"),
)


def _torch() -> Any:
    import torch

    return torch


def torch_dtype(name: str) -> Any:
    """Return torch's dtype of a format's values."""
    return getattr(_torch(), str(format(name).dtype))


def tensor(array: np.ndarray) -> Any:
    """Return a torch tensor that shares an array's memory."""
    return interop.like(array, _torch().empty(0))


def quietly(run: Run) -> Run:
    """Return a function after a first call that may warn: torch warns once of its quantisers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return run


def torch_cast(target: str) -> Builder:
    return lambda work: partial(tensor(work.x).to, torch_dtype(target))


def torch_cast_out(target: str) -> Builder:
    return lambda work: partial(
        tensor(work.out("values", value_dtype(target))).copy_, tensor(work.x)
    )


def torch_to_integer(target: str) -> Builder:
    def build(work: Work) -> Run:
        x, dtype = tensor(work.x), torch_dtype(target)
        return lambda: x.round().to(dtype)

    return build


def torch_to_integer_out(target: str) -> Builder:
    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        codes = tensor(work.out("values", value_dtype(target)))
        whole = tensor(work.out("whole", work.x.dtype))
        return lambda: codes.copy_(torch.round(x, out=whole))

    return build


def torch_round(target: str) -> Builder:
    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        dtype = torch_dtype(target)
        return lambda: x.to(dtype).to(torch.float32)

    return build


def article_absmax(work: Work) -> Run:
    """The article's code, as it stands."""
    torch, x = _torch(), tensor(work.x)

    def run() -> Any:
        scale = 127 / torch.max(torch.abs(x))
        return (scale * x).round().to(torch.int8)

    return run


def article_absmax_per_channel(axis: int) -> Builder:
    """The article's code with a scale for every index of `axis`."""

    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)

        def run() -> Any:
            scale = 127 / torch.amax(torch.abs(x), dim=1 - axis, keepdim=True)
            return (scale * x).round().to(torch.int8)

        return run

    return build


def torch_absmax_in_place(work: Work) -> Run:
    """The article's steps, each into a buffer that exists."""
    torch, x = _torch(), tensor(work.x)
    codes, scaled = tensor(work.out("codes", np.int8)), tensor(work.out("scaled", np.float32))

    def run() -> Any:
        scale = 127 / torch.max(torch.abs(x, out=scaled))
        return codes.copy_(torch.mul(x, scale, out=scaled).round_())

    return run


def article_zeropoint(work: Work) -> Run:
    """The article's code, as it stands."""
    torch, x = _torch(), tensor(work.x)

    def run() -> Any:
        x_range = torch.max(x) - torch.min(x)
        x_range = 1 if x_range == 0 else x_range
        scale = 255 / x_range
        zeropoint = (-scale * torch.min(x) - 128).round()
        return torch.clip((x * scale + zeropoint).round(), -128, 127).to(torch.int8)

    return run


def absmax_parameters(x: Any) -> tuple[float, int]:
    """Scale and zero point of a tensor by one pass over it."""
    low, high = (extreme.item() for extreme in _torch().aminmax(x))
    return max(-low, high) / 127, 0


def zeropoint_parameters(x: Any) -> tuple[float, int]:
    """Scale and zero point of a tensor by one pass over it."""
    low, high = (extreme.item() for extreme in _torch().aminmax(x))
    scale = (high - low) / 255
    return scale, round(-128 - low / scale)


def torch_quantize(parameters: Callable[[Any], tuple[float, int]]) -> Builder:
    """torch.quantize_per_tensor, with the scale and zero point that `parameters` finds."""

    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        return quietly(lambda: torch.quantize_per_tensor(x, *parameters(x), torch.qint8))

    return build


def torch_quantize_out(parameters: Callable[[Any], tuple[float, int]]) -> Builder:
    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        into = torch.ops.aten.quantize_per_tensor.out
        codes = torch_quantize(parameters)(work)()
        return lambda: into(x, *parameters(x), torch.qint8, out=codes)

    return build


def torch_quantize_per_channel(axis: int) -> Builder:
    """torch.aminmax along the other axis, then torch.quantize_per_channel."""

    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        zeros = torch.zeros(x.shape[axis], dtype=torch.int64)

        def run() -> Any:
            low, high = torch.aminmax(x, dim=1 - axis)
            scale = torch.maximum(-low, high) / 127
            return torch.quantize_per_channel(x, scale, zeros, axis, torch.qint8)

        return quietly(run)

    return build


def _torch_quantized(work: Work) -> Any:
    q = work.more["quantized"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _torch()._make_per_tensor_quantized_tensor(tensor(q.codes), float(q.scale), 0)


def torch_dequantize(work: Work) -> Run:
    return quietly(_torch_quantized(work).dequantize)


def torch_dequantize_out(work: Work) -> Run:
    x, out = _torch_quantized(work), tensor(work.out("values", np.float32))
    return quietly(partial(_torch().ops.aten.dequantize.self_out, x, out=out))


# --- gfloat -------------------------------------------------------------------------------------

#: gfloat's names of the modes; it has no rounding to odd.
#: Its temporaries, some of them int64, take tens of bytes an element.
GFLOAT_MAX_SIZE = 2**22
RANDOM_BITS = 32


def gfloat_round(target: str, rounding: Rounding, saturate: bool, seed: int | None) -> Contender:
    """gfloat.round_ndarray, compared with floatfmt's codes decoded.

    Stochastic rounding is given floatfmt's random bits, made before timing.
    """

    def build(work: Work) -> Run:
        import gfloat

        bits = {}
        if seed is not None:
            words = reference.philox(seed, 0, work.x.size).astype(np.int64)
            bits = {"srbits": words, "srnumbits": RANDOM_BITS}
        return partial(
            gfloat.round_ndarray,
            gfloat_format(format(target)),
            work.x,
            gfloat.RoundMode[GFLOAT_MODES[rounding]],
            saturate,
            **bits,
        )

    return Contender(
        *("gfloat", "gfloat", "new", build),
        of_ours=lambda arrays: (decode(arrays[0], target, dtype=np.float64),),
        of_its=lambda arrays: (arrays[0].astype(np.float64),),
        max_size=GFLOAT_MAX_SIZE,
    )
