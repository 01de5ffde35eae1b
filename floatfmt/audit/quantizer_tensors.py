"""Tensors on which quantisers show what they do: ties, near ties, subnormals, extremes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..backends import current_backend
from ..convention import Parameters, Plan
from ..convention_words import CODES, FP32_MAX, FP32_STEP, middles

__all__ = ["Tensor", "adversarial_tensors", "half_steps"]

F32 = np.float32
#: Beyond the longest vector of any kernel with its tail: 64 codes of 8 bits, and some.
LONGEST_SHORT = 67
#: Neighbours on either side of a half step.
ULPS = 2


class Tensor(NamedTuple):
    """A tensor to try a quantiser on.

    Attributes
    ----------
    kind : str
        Which group of tensors it belongs to.
    name : str
        What it is.
    values : array of float32
    """

    kind: str
    name: str
    values: np.ndarray


#: Least and greatest values whose steps are powers of two, so that half steps are exact.
_EXACT_ENDS: dict[str, list[tuple[float, float]]] = {
    "absmax": [(-127.0, 127.0)],
    "zeropoint": [(-128, 127), (-127, 128), (0, 255), (-255, 0), (-3, 252), (1000, 1255)],
}
_EXPONENTS = (0, -10, 60, 118, -100, -140, -149)
_AWKWARD_ENDS: dict[str, list[tuple[float, float]]] = {
    "absmax": [
        *((-a, a) for a in (1.0, 3.2, 0.1, 6.0, FP32_STEP, 2.0**-126, 2.0**126, 2.0**127)),
        *((-a, a) for a in (FP32_MAX, 63 * FP32_STEP, 1e-38, 1e38, 2.0**-119, 127 * 2.0**-133)),
    ],
    "zeropoint": [
        *((-3.0, 3.2), (5.0, 6.0), (-6.0, -5.0), (16777214.0, 16777215.0), (0.0, FP32_STEP)),
        *((-FP32_MAX, FP32_MAX), (0.0, FP32_MAX), (-1e38, 2.5e38), (-1e-38, 1e-38), (0.0, 1.0)),
        *((-(2.0**-126), 2.0**-125), (-FP32_STEP, 80 * FP32_STEP), (1e30, 1.0001e30)),
    ],
}
_RANDOM_ENDS = 16


def ends_of(scheme: str, seed: int = 0) -> list[tuple[float, float]]:
    """Return least and greatest values from which schemes take their scale."""
    rng = np.random.default_rng(seed)
    kind = "zeropoint" if scheme == "zeropoint" else "absmax"
    exact = [(a * 2.0**e, b * 2.0**e) for a, b in _EXACT_ENDS[kind] for e in _EXPONENTS]
    sizes = rng.uniform(1, 2, (_RANDOM_ENDS, 2)) * 2.0 ** rng.integers(-20, 20, (_RANDOM_ENDS, 1))
    if kind == "absmax":
        drawn = [(-a, a) for a in sizes[:, 0].astype(F32).tolist()]
    else:
        signs = np.array([[-1, 1], [-0.1, 1], [-1, 0.01], [1, 2.5]])[np.arange(_RANDOM_ENDS) % 4]
        drawn = [(a, b) for a, b in (sizes * signs).astype(F32).tolist()]
    found = [(a, b) for a, b in [*exact, *_AWKWARD_ENDS[kind], *drawn] if max(-a, b) <= FP32_MAX]
    narrow = ((float(F32(a)), float(F32(b))) for a, b in found)
    return [(a, b) for a, b in narrow if a < b]


def half_steps(plan: Plan, parameters: Parameters, ulps: int = ULPS) -> np.ndarray:
    """Return the fp32 values at and next to the middle between every code and the next.

    From half a step below the lowest code to half a step above the highest; all that are finite.
    """
    lowest, highest = CODES[plan.dtype]
    with current_backend().float_environment():
        if plan.row.codebook:
            bounds, _ = middles(plan.row.codebook)
            near = [bounds * parameters.scale.item()]
        else:
            step, zero_point = plan.step(parameters).item(), parameters.zero_point.item()
            halves = (np.arange(lowest - 1, highest + 1) + 0.5 - zero_point) * step
            near = [halves.astype(F32)]
        for end in (F32(np.inf), F32(-np.inf)):
            neighbour = near[0]
            for _ in range(ulps):
                neighbour = np.nextafter(neighbour, end)
                near.append(neighbour)
    # value by value with its neighbours, so that any slice has all kinds
    found = np.stack(near, axis=1).reshape(-1)
    return found[np.isfinite(found)]


def adversarial_tensors(plan: Plan) -> Iterator[Tensor]:
    """Yield the tensors on which a whole-tensor quantiser is compared with a convention."""
    short: Tensor | None = None
    for low, high in ends_of(plan.scheme.name):
        tensor = _half_step_tensor(plan, low, high)
        yield tensor
        short = short if short is not None and short.values.size > 200 else tensor
    if short is not None:
        yield from _short(plan, short.values)
    yield from (_shaped(plan, tensor) for tensor in _special(plan))
    if plan.row.over == "row":
        yield from _rows(plan)


def _half_step_tensor(plan: Plan, low: float, high: float) -> Tensor:
    ends = np.array([[low, high]], F32)
    with current_backend().float_environment():
        parameters = plan.parameters(ends)
        found = half_steps(plan, parameters)
        inside = found[(found >= ends[0, 0]) & (found <= ends[0, 1])]
    name = f"half steps between {low:.6g} and {high:.6g}"
    return Tensor("half steps", name, _with_ends(plan, ends[0], inside))


def _with_ends(plan: Plan, ends: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return values of which every group has both ends."""
    if plan.block is None:
        return np.concatenate([ends, inside])
    room = plan.block - 2
    blocks = np.pad(inside, (0, -inside.size % room or room * (not inside.size)))
    blocks = blocks.reshape(-1, room)
    return np.concatenate([np.broadcast_to(ends, (len(blocks), 2)), blocks], axis=1).reshape(-1)


def _short(plan: Plan, values: np.ndarray) -> Iterator[Tensor]:
    """Yield tensors of every length up to beyond a vector and its tail."""
    lengths: Iterable[int] = range(1, LONGEST_SHORT + 1)
    if plan.block:
        lengths = range(plan.block, 5 * plan.block, plan.block)
    for n in lengths:
        ends, inside = values[:2], values[2:]
        if plan.block:
            part = values[:n]
        else:
            start = n * 37 % max(inside.size - n, 1)
            part = np.concatenate([ends, inside[start : start + n]])[:n]
        yield Tensor("short tensors", f"{n} half steps", part)


def _special(plan: Plan) -> Iterator[Tensor]:
    rng = np.random.default_rng(1)
    for name, part in (("zeros", [0.0] * 5), ("zeros of both signs", [0.0, -0.0, -0.0])):
        yield Tensor("zeros", f"all {name}", np.array(part, F32))
    if plan.row.takes_empty:
        yield Tensor("empty", "empty", np.zeros(0, F32))
    for value in (1.0, -1.0, 2.5, -2.5, 0.1, FP32_STEP, -FP32_STEP, FP32_MAX, -FP32_MAX):
        yield Tensor("constants", f"{value:.6g} three times", np.full(3, value, F32))
        yield Tensor("one element", f"{value:.6g} alone", np.array([value], F32))
    for steps in ((1, -1), (0, 1), (1, 2, 3), (-127, 126, 64), (200, -100, 1), (-300, 5)):
        name = f"{', '.join(map(str, steps))} of the least subnormal"
        yield Tensor("subnormals", name, np.array(steps, F32) * F32(FP32_STEP))
    codes = rng.integers(0, 1 << 23, 500).astype(np.uint32)
    signs = rng.integers(0, 2, 500).astype(np.uint32) << 31
    yield Tensor("subnormals", "500 subnormals", (codes | signs).view(F32))
    for name, mean, width in (
        *(("about 0", 0.0, 1.0), ("about 0, small", 0.0, 1e-3), ("all positive", 8.0, 1.0)),
        *(("all negative", -8.0, 1.0), ("far from 0", 1000.0, 1.0), ("large", 0.0, 1e37)),
    ):
        values = rng.normal(mean, width, 1000).astype(F32)
        yield Tensor("random", f"1,000 normal values {name}", values)
    outlier = rng.normal(size=1000).astype(F32)
    outlier[500] = 3e4
    yield Tensor("random", "999 normal values and one of 30,000", outlier)
    bits = rng.integers(0, 1 << 32, 1100, dtype=np.uint32)
    bits = bits[(bits & 0x7F800000) != 0x7F800000][:1000]
    yield Tensor("random", "1,000 finite bit patterns", bits.view(F32))
    yield Tensor("random", "1,000 bit patterns below 1", (bits & 0xBF7FFFFF).view(F32))


def _shaped(plan: Plan, tensor: Tensor) -> Tensor:
    """Return a tensor of whole blocks: its values again and again."""
    if plan.block is None or not tensor.values.size:
        return tensor
    size = -(-tensor.values.size // plan.block) * plan.block
    return tensor._replace(values=np.resize(tensor.values, size))


def _rows(plan: Plan) -> Iterator[Tensor]:
    rng = np.random.default_rng(2)
    for shape in ((2, 3), (5, 33), (64, 17)):
        sizes = 2.0 ** rng.integers(-30, 30, (shape[0], 1))
        name = f"{shape[0]} × {shape[1]} normal values, each row of its own size"
        yield Tensor("rows", name, (rng.normal(size=shape) * sizes).astype(F32))
