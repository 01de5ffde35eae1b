"""The work of quantising one array, once what is wanted has been settled.

Sections of the values are looked at for their scales and then written as codes while they are in
the cache; where scales depend on more than a section, or rounding on the order of elements, the
array is gone through twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from . import interop
from .backends import (
    Backend,
    Float64,
    Stream,
    absmax_pass,
    current_backend,
    runs_reference,
    zeropoint_pass,
)
from .backends.reference import philox
from .codes import (
    CodeWriter,
    DiscardedCodes,
    code_dtype,
    decode_piece,
    encode_piece,
    is_compared,
    packed_shape,
    quotients,
    stored_codes,
)
from .elements import (
    UINT8,
    Codebook,
    Elements,
    Integers,
    Intervals,
    Scaling,
    ends_of,
    intervals,
    limits,
)
from .formats import Format, format
from .groups import EVERYTHING, AxisGroups, BlockGroups, Groups, Index, Piece, Section
from .quantized import Quantized
from .rounding import Rounding, fresh_seed, rules
from .schemes import Scheme, find

__all__ = [
    "Ends",
    "OnePass",
    "Parameters",
    "Plan",
    "Visit",
    "approximate",
    "double_scale",
    "one_pass",
    "run",
]

INT64 = np.dtype(np.int64)
#: Values of a block of scales that are themselves quantised, as QLoRA does.
DOUBLE_BLOCK = 256
#: Parts of the range that ``clip="mse"`` tries.
CLIP_RATIOS = tuple(k / 100 for k in range(100, 19, -1))

#: Scales, and zero points or None, of groups.
Parameters: TypeAlias = "tuple[Float64, Float64 | None]"
#: The ends of a range that are given, in the shape of the parameters.
Ends: TypeAlias = "tuple[np.ndarray | None, np.ndarray | None]"
#: Takes some of the values, and what their codes stand for.
Visit: TypeAlias = Callable[[np.ndarray, np.ndarray], None]


class Plan(NamedTuple):
    """All that is decided before the first value is seen."""

    scheme: Scheme
    elements: Elements
    scale_format: Format
    power_rule: str | None
    include_zero: bool
    double: bool
    clip: str | float | None
    rounding: Rounding
    seed: int | None
    nonfinite: str
    source: Format

    @property
    def largest(self) -> float:
        """The value that the largest magnitude of a group becomes."""
        if isinstance(self.elements, Format):
            return float(self.elements.max_finite)
        return self.elements.largest

    @property
    def tensor_dtype(self) -> np.dtype:
        """The dtype of the tensor's scale, if it has one beside those of its groups."""
        return np.dtype(np.float64 if self.source.name == "fp64" else np.float32)

    @property
    def code_dtype(self) -> np.dtype:
        """The dtype of unpacked codes."""
        return code_dtype(self.elements)


def run(
    x: Any,
    values: np.ndarray,
    plan: Plan,
    groups: Groups,
    *,
    ends: Ends = (None, None),
    given: Parameters | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise `values`, which are x's, into arrays of x's kind, or `out`.

    `ends` are those of the range that are given, `given` a scale and zero point: all in the shape
    of the groups' parameters. To be called in the backend's ``float_environment()``.
    """
    codes = CodeWriter(plan.elements, groups, values, out)
    job = _Job(plan, groups, values, codes, ends)
    job.run(given)
    stored = interop.like(codes.stored, x) if out is None else out
    return _result(job, stored, lambda array: interop.like(array, x))


#: Writes the codes of plain values, whose parameters it finds unless they are given; returns scales
#: and zero points as users see them, None for those that are all 0, what was clamped, or -1, and
#: the tensor's scale if there is one.
Work: TypeAlias = Callable[[np.ndarray, np.ndarray, "Parameters | None"], "tuple[Any, ...]"]
#: Quantises values, which are x's: takes both, parameters if they are given, and ``out=``. Returns
#: None if values or codes do not lie plain.
OnePass: TypeAlias = Callable[[Any, np.ndarray, "Parameters | None", Any], "Quantized | None"]


def one_pass(plan: Plan, groups: Groups, backend: Backend, is_given: bool) -> OnePass | None:
    """Return how C kernels take a whole array at once, with all settled that is not of its values.

    None if there is more to do than that.
    """
    is_usual = plan.clip is None and plan.nonfinite == "error"
    in_order = plan.rounding is Rounding.NEAREST_EVEN and not plan.double
    if runs_reference(backend) or not (is_usual and in_order):
        return None
    if not (groups.in_rows and groups.are_whole):
        return None
    bits, rows = plan.elements.bits, groups.rows_in_order
    packs = bits == 4 and groups.size % 2 == 0 and rows[-1] % 2 == 0
    finds_range = is_given or plan.scheme.spread == "range"
    find = _given_or_range if finds_range else _two_level if plan.scheme.two_level else _by_absmax
    work = find(plan, groups, backend, packs)
    return work and _taking(plan, groups, packs, work)


def _taking(plan: Plan, groups: Groups, packs: bool, work: Work) -> OnePass:
    elements, scale_shape = plan.elements, groups.scale_shape
    code_shape = packed_shape(groups.rows_in_order, 4) if packs else groups.shape
    dtype = UINT8 if packs else plan.code_dtype
    fields, has_zeros = _fields(plan, groups), isinstance(elements, Integers)

    def take(x: Any, values: np.ndarray, given: Parameters | None, out: Any) -> Quantized | None:
        in_order = groups.view(values) if packs else values
        if not interop.is_plain(in_order):
            return None
        if out is None:
            codes = np.empty(code_shape, dtype)
        else:
            codes = stored_codes(elements, groups, values, out)
            if not interop.is_plain(codes):
                return None
        scale, zeros, clamped, *tensor = work(in_order, codes, given)
        if clamped < 0:
            _report_not_finite(values)
        if zeros is None and has_zeros:
            zeros = np.zeros(scale_shape, INT64)
        if type(x) is not np.ndarray:
            scale = interop.like(scale, x)
            zeros = None if zeros is None else interop.like(zeros, x)
        packed = interop.like(codes, x) if out is None else out
        made = Quantized.of(fields, packed, scale, zeros, clamped)
        if tensor:
            made = replace(made, tensor_scale=interop.like(tensor[0], x))
        return made

    return take


def _by_absmax(plan: Plan, groups: Groups, backend: Backend, packs: bool) -> Work | None:
    elements = _fused_elements(plan)
    if elements is None or not (packs or plan.elements.bits == 8):
        return None
    source, scale_dtype = np.dtype(plan.source.dtype), np.dtype(plan.scale_format.dtype)
    shape, scaling = _kernel_shape(groups), _scaling(plan)
    return absmax_pass(
        backend, source, shape, scaling, elements, packs, groups.scale_shape, scale_dtype
    )


def _two_level(plan: Plan, groups: Groups, backend: Backend, packs: bool) -> Work | None:
    elements, shape = _fused_elements(plan), _kernel_shape(groups)
    if elements is None or not packs:
        return None
    scale_shape, scale_dtype = groups.scale_shape, np.dtype(plan.scale_format.dtype)

    def work(values: np.ndarray, codes: np.ndarray, _: Parameters | None) -> tuple[Any, ...]:
        most = float(backend.amax(values.reshape(1, 1, -1))[0])
        if not math.isfinite(most):
            return None, None, -1
        with backend.float_environment():  # Python's own arithmetic, too
            tensor = _tensor_scale(plan, backend, most)
            x, how = values.reshape(shape), _scaling(plan, tensor)
            scale, clamped = backend.quantize_absmax(x, how, elements, packs, codes)
            stored = backend.cast(scale, scale_dtype).reshape(scale_shape)
            return stored, None, clamped, np.array(tensor, plan.tensor_dtype)

    return work


def _given_or_range(plan: Plan, groups: Groups, backend: Backend, _: bool) -> Work | None:
    shape, scale_shape, elements = _kernel_shape(groups), groups.scale_shape, plan.elements
    if not (isinstance(elements, Integers) and elements.bits == 8 and all(shape)):
        return None
    ends, scale_dtype = (elements.qmin, elements.qmax), np.dtype(plan.scale_format.dtype)
    how = plan.scale_format, plan.include_zero, *ends
    source, stored = np.dtype(plan.source.dtype), (scale_shape, scale_dtype)
    at_once = zeropoint_pass(backend, source, shape, *how, *stored)
    if at_once is not None:
        return at_once

    def work(
        values: np.ndarray, codes: np.ndarray, given: Parameters | None
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        x = values.reshape(shape)
        if given is None:
            scale, zeros, clamped = backend.quantize_range(x, *how, codes)
            if clamped < 0:
                return scale, None, clamped
        else:
            assert given[1] is not None
            scale, zeros = given[0].reshape(-1), given[1].reshape(-1)
            clamped = backend.quantize(x, scale, zeros, *ends, codes)
        scale = backend.cast(scale, scale_dtype).reshape(scale_shape)
        return scale, zeros.astype(np.int64).reshape(scale_shape), clamped

    return work


def _kernel_shape(groups: Groups) -> tuple[int, int, int]:
    return 1, math.prod(groups.parameter_shape), groups.size


def _of_range(plan: Plan, backend: Backend, low: Float64, high: Float64) -> tuple[Float64, Float64]:
    """Return the scales and zero points of ranges."""
    elements = plan.elements
    assert isinstance(elements, Integers)
    if plan.include_zero:
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    scale, zeros = backend.zeropoint_parameters(
        low, high, plan.scale_format, elements.qmin, elements.qmax
    )
    if plan.include_zero:  # a coarse scale may push it out
        zeros = np.clip(zeros, elements.qmin, elements.qmax)
    return scale, zeros


def _fused_elements(plan: Plan) -> int | Intervals | Format | None:
    """Return what one pass turns values into: the largest integer, intervals, or a format; or None.

    A pass finds scales and codes, so every piece has to hold whole groups.
    """
    is_usual = plan.clip is None and plan.nonfinite == "error"
    if not is_usual or plan.scheme.spread != "amax":
        return None
    if isinstance(plan.elements, Integers):
        return None if plan.scheme.two_level else plan.elements.qmax
    if not is_compared(plan.elements):
        assert isinstance(plan.elements, Format)
        return None if plan.scheme.two_level else plan.elements
    return None if plan.source.name == "fp64" else intervals(plan.elements)


def _scaling(plan: Plan, tensor_scale: float | None = None) -> Scaling:
    """Return how scales follow from largest magnitudes."""
    times = 1.0 if tensor_scale is None else tensor_scale
    bits = _fraction_bits(plan.elements)
    return Scaling(plan.scale_format, plan.largest * times, plan.power_rule, bits, times)


def _tensor_scale(plan: Plan, backend: Backend, most: float) -> float:
    """Return the scale that brings the largest block scale to its format's largest value.

    `most` is the largest magnitude of all.
    """
    largest = plan.largest * float(plan.scale_format.max_finite)
    return float(backend.absmax_scale(np.array([most]), format(plan.tensor_dtype), largest)[0])


def _report_not_finite(values: np.ndarray) -> NoReturn:
    position, value = interop.first_where(values, lambda piece: ~np.isfinite(piece))
    raise ValueError(
        f"{position} is {value}; codes need finite values (nonfinite='saturate' or 'ignore'"
        " accepts others)"
    )


def approximate(values: np.ndarray, plan: Plan, groups: Groups, visit: Visit) -> Quantized:
    """Quantise `values` without keeping the codes: `visit` sees, part by part, what they become.

    What grows with the values is the scales, some 28 bytes each; the codes too, one byte each, if
    rounding is not to nearest even. A part is small, or one block if that is not. Blocks that run
    through values that do not lie in C order take a copy of these. Of the result, the codes alone
    mean nothing. To be called in the backend's ``float_environment()``.
    """
    codes = DiscardedCodes(plan.elements, groups, values)
    job = _Job(plan, groups, values, codes, (None, None), visit)
    job.run(None)
    return _result(job, codes.stored, lambda array: array)


class _Job:
    """One array being quantised."""

    def __init__(
        self,
        plan: Plan,
        groups: Groups,
        values: np.ndarray,
        codes: CodeWriter,
        ends: Ends,
        visit: Visit | None = None,
    ) -> None:
        self.plan, self.groups, self.codes, self.ends = plan, groups, codes, ends
        self.visit = visit
        self.values, self.view = values, groups.view(values)
        self.backend = current_backend()
        self.is_integer = isinstance(plan.elements, Integers)
        self.scale = np.ones(groups.parameter_shape)
        self.zero_point = np.zeros(groups.parameter_shape) if self.is_integer else None
        self.tensor_scale: float | None = None
        #: Scales as they are stored under double quantisation, and their mean.
        self.scale_codes: Quantized | None = None
        self.scale_offset = np.float32(0)
        self.saturated = self.nonfinite = 0

    def run(self, given: Parameters | None) -> None:
        """Find the parameters, unless they are given, and write the codes."""
        if given is not None:
            self.scale, self.zero_point = given
        if self.plan.scheme.two_level:
            self.tensor_scale = self._tensor_scale()
        in_order = self.plan.rounding is not Rounding.NEAREST_EVEN
        if given is None and (in_order or self.plan.double):
            for section in self.groups.sections():
                self._find(section)
            if self.plan.double:
                self._quantize_scales()
        if in_order:
            self._by_elements()
        else:
            self._by_sections(finds=given is None and not self.plan.double)
        self.codes.finish()

    # --- sections

    def _by_sections(self, finds: bool) -> None:
        fused = self._fused_elements() if finds else None
        for section in self.groups.sections():
            # Of everything, codes that are not kept as they are go through slab by slab.
            if fused is not None and not (self.codes.is_packed and section is EVERYTHING):
                self._find_and_encode(section, fused)
                continue
            if finds:
                self._find(section)
            for slab in self.groups.slabs(section) if self.codes.is_packed else [section]:
                values, lost = self._finite(self.view[slab.values], self.plan.nonfinite)
                codes = self.codes.section(slab.values, values.shape)
                self._encode(values, codes, slab.parameters)
                if lost:
                    self._saturate(self.view[slab.values], codes)
                self._done(slab, codes)
                self.nonfinite += lost

    def _done(self, part: Section, codes: np.ndarray) -> None:
        """Store a part's codes, and show what they stand for to who wants to see it."""
        self.codes.done(part.values, codes)
        if self.visit is None:
            return
        values, at = self.view[part.values], part.parameters
        back = np.empty(values.shape, values.dtype.newbyteorder("="))
        zero_point = None if self.zero_point is None else self.zero_point[at]
        for piece in self.groups.pieces((codes, back), writes=1):
            scale, zeros = self._parameters(piece, self.scale[at], zero_point)
            part_codes, part_back = piece.arrays
            decode_piece(self.plan.elements, self.backend, part_codes, part_back, scale, zeros)
        self.visit(values, back)

    def _fused_elements(self) -> int | Intervals | Format | None:
        if any(end is not None for end in self.ends):
            return None
        rows = self.groups.in_rows and interop.is_plain(self.values)
        if isinstance(self.groups, AxisGroups) and (runs_reference(self.backend) or not rows):
            return None
        return _fused_elements(self.plan)

    def _find_and_encode(self, section: Section, elements: int | Intervals | Format) -> None:
        values, scale = self.view[section.values], self.scale[section.parameters]
        codes = self.codes.section(section.values, values.shape)
        for piece in self.groups.pieces((values, codes), writes=1):
            x, target = piece.arrays
            found, clamped = self.backend.quantize_absmax(
                x, _scaling(self.plan, self.tensor_scale), elements, False, target
            )
            if clamped < 0:
                _report_not_finite(self.values)
            piece.put(scale, found)
            self.saturated += clamped
        self._done(section, codes)

    def _encode(self, values: np.ndarray, codes: np.ndarray, at: Index) -> None:
        """Write the codes of a section, whose parameters are `at` theirs."""
        elements, backend = self.plan.elements, self.backend
        zero_point = None if self.zero_point is None else self.zero_point[at]
        for piece in self.groups.pieces((values, codes), writes=1):
            scale, zeros = self._parameters(piece, self.scale[at], zero_point)
            x, target = piece.arrays
            clamped = encode_piece(elements, backend, x, target, scale, zeros)
            if clamped < 0:
                _report_not_finite(self.values)
            self.saturated += clamped

    def _parameters(self, piece: Piece, scale: Float64, zero_point: Float64 | None) -> Parameters:
        """Return what a piece's values are divided by, and its zero points."""
        scales = piece.of(scale)
        if self.tensor_scale is not None:
            scales = scales * self.tensor_scale
        return scales, None if zero_point is None else piece.of(zero_point)

    def _finite(self, values: np.ndarray, policy: str) -> tuple[np.ndarray, int]:
        """Return values without Inf and NaN, and how many those were; under "error" untouched.

        What is left out becomes 0; under "saturate" Inf becomes the largest finite value.
        """
        if policy == "error":
            return values, 0
        with np.errstate(invalid="ignore"):
            if all(np.isfinite(values[index]).all() for index in interop.slabs(values.shape)):
                return values, 0
            finite = np.isfinite(values)
            largest = values.dtype.type(float(self.plan.source.max_finite))
            kept = np.where(finite, values, values.dtype.type(0))
            if policy == "saturate":
                kept = np.where(np.isinf(values), np.copysign(largest, values), kept)
        return kept.astype(values.dtype, copy=False), int(finite.size - np.count_nonzero(finite))

    def _saturate(self, values: np.ndarray, codes: np.ndarray) -> None:
        """Give Inf the outermost codes, which the largest finite value need not have."""
        if self.plan.nonfinite == "saturate":
            low, high = ends_of(self.plan.elements)
            infinite = np.isinf(values)
            codes[...] = np.where(infinite, np.where(np.signbit(values), low, high), codes)

    # --- scales

    def _find(self, section: Section) -> None:
        """Find the parameters of a section's groups."""
        policy = "error" if self.plan.nonfinite == "error" else "ignore"
        values, _ = self._finite(self.view[section.values], policy)  # what is lost counts as 0
        at = section.parameters
        first, last = (None if end is None else end[at] for end in self.ends)
        low, high = self._ends(values, first, last)
        if self.plan.clip == "mse":
            low, high = self._least_error(values, low, high)
        found = self._parameters_of(low, high)
        # Groups of zeros have no scale that counts when scales are quantised.
        self.scale[at] = np.where(high == 0, 0.0, found[0]) if self.plan.double else found[0]
        if self.zero_point is not None and found[1] is not None:
            self.zero_point[at] = found[1]

    def _ends(
        self,
        values: np.ndarray,
        low: np.ndarray | None,
        high: np.ndarray | None,
    ) -> tuple[Float64, Float64]:
        """Return the range of each group; of symmetric schemes the largest magnitude, twice."""
        if self.plan.scheme.spread != "range":
            most = self._largest(values, [end for end in (low, high) if end is not None])
            return most, most
        if low is None or high is None:
            clip = self.plan.clip
            if isinstance(clip, float):
                found = self._percentiles(values, clip)
            else:
                found = self._minmax(values)
            low = found[0] if low is None else low
            high = found[1] if high is None else high
            if (low > high).any():
                raise ValueError("min= lies above the greatest value, or max= below the least")
        return low, high

    def _largest(self, values: np.ndarray, given: list[np.ndarray]) -> Float64:
        """Return the largest magnitude of each group: of the ends that are given, if any is."""
        if given:
            return np.abs(given).max(axis=0)
        if isinstance(self.plan.clip, float):
            return self._percentiles(values, self.plan.clip)[1]
        return self._amax(values)

    def _parameters_of(self, low: Float64, high: Float64) -> Parameters:
        """Return scales and zero points that follow from ranges."""
        plan, backend, shape = self.plan, self.backend, low.shape
        low, high = (np.ascontiguousarray(end).reshape(-1) for end in (low, high))
        if plan.scheme.spread == "range":
            scale, zeros = _of_range(plan, backend, low, high)
            return scale.reshape(shape), zeros.reshape(shape)
        scale = scales_of(backend, high, _scaling(self.plan, self.tensor_scale))
        return scale.reshape(shape), np.zeros(shape) if self.is_integer else None

    def _quantize_scales(self) -> None:
        """Replace the scales by what is left of them when they have been quantised."""
        with np.errstate(over="ignore"):
            counted = self.scale[self.scale > 0]
            mean = math.fsum(counted.tolist()) / counted.size if counted.size else 1.0
            self.scale_offset = np.float32(mean)
            centred = np.where(self.scale > 0, self.scale - np.float64(self.scale_offset), 0.0)
            centred = centred.astype(np.float32)
        assert _DYNAMIC8.elements is not None
        plan = self.plan._replace(
            scheme=_DYNAMIC8,
            elements=_DYNAMIC8.elements,
            scale_format=format("fp32"),
            double=False,
            clip=None,
            nonfinite="error",
            source=format("fp32"),
            rounding=Rounding.NEAREST_EVEN,
        )
        # In the order in which users see the scales, so that what is stored goes with them.
        seen = np.ascontiguousarray(self.groups.to_scales(centred))
        groups = BlockGroups(seen.shape, DOUBLE_BLOCK, None)
        self.scale_codes = run(seen, seen, plan, groups)
        back = double_scale(self.scale_codes, self.scale_offset)
        self.scale = np.ascontiguousarray(self.groups.from_scales(back))

    def _tensor_scale(self) -> float:
        given = [np.abs(end).max(initial=0.0) for end in self.ends if end is not None]
        most = float(max(given, default=0.0))
        for section in self.groups.sections() if not given else ():
            policy = "error" if self.plan.nonfinite == "error" else "ignore"
            values, _ = self._finite(self.view[section.values], policy)
            most = max(most, float(self._amax(values).max(initial=0.0)))
        return _tensor_scale(self.plan, self.backend, most)

    def _amax(self, values: np.ndarray) -> Float64:
        amax = np.zeros(self._shape_of_groups(values))
        for piece in self.groups.pieces((values,)):
            part = amax[piece.parameters]
            found = self.backend.amax(piece.arrays[0]).reshape(part.shape)
            amax[piece.parameters] = np.maximum(part, found)
        if not np.isfinite(amax).all():
            _report_not_finite(self.values)
        return amax

    def _minmax(self, values: np.ndarray) -> tuple[Float64, Float64]:
        low = np.full(self._shape_of_groups(values), np.inf)
        high = np.full(low.shape, -np.inf)
        for piece in self.groups.pieces((values,)):
            new = self.backend.minmax(piece.arrays[0])
            for end, ends, choose in zip(new, (low, high), (np.minimum, np.maximum), strict=True):
                part = ends[piece.parameters]
                ends[piece.parameters] = choose(part, end.reshape(part.shape))
        if values.size == 0:
            return np.zeros_like(low), np.zeros_like(low)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            _report_not_finite(self.values)
        return low, high

    def _shape_of_groups(self, values: np.ndarray) -> tuple[int, ...]:
        return self.groups.groups_in(values.shape)

    def _percentiles(self, values: np.ndarray, percentile: float) -> tuple[Float64, Float64]:
        """Return the ends that leave out the outermost values, by nearest rank."""
        from fractions import Fraction  # brings decimal and takes milliseconds

        self._amax(values)  # an error if a value is not finite
        low = np.zeros(self._shape_of_groups(values))
        high = np.zeros(low.shape)
        for at, rows in self.groups.rows(values):
            n = rows.shape[-1]
            if n == 0:
                continue
            # What the user wrote: 99.9 % of 1000 are 999, though the float 99.9 is a little more.
            rank = math.ceil(Fraction(repr(percentile)) * n / 100) - 1
            if self.plan.scheme.spread == "range":
                low[at], high[at] = _ranked(rows, sorted((rank, n - 1 - rank)), _in_order)
            else:
                (high[at],) = _ranked(rows, [rank], _magnitudes)
                low[at] = -high[at]
        return low, high

    def _least_error(
        self, values: np.ndarray, low: Float64, high: Float64
    ) -> tuple[Float64, Float64]:
        """Return, of the ranges times each of `CLIP_RATIOS`, those with the least squared error."""
        best = np.full(low.shape, np.inf)
        chosen = low, high
        for ratio in CLIP_RATIOS:
            ends = low * ratio, high * ratio
            error = self._squared_error(values, self._parameters_of(*ends))
            better = error < best
            best = np.where(better, error, best)
            chosen = (
                np.where(better, ends[0], chosen[0]),
                np.where(better, ends[1], chosen[1]),
            )
        return chosen

    def _squared_error(self, values: np.ndarray, parameters: Parameters) -> Float64:
        elements, backend = self.plan.elements, self.backend
        error = np.zeros(parameters[0].shape)
        for piece in self.groups.pieces((values,)):
            x = piece.arrays[0]
            scale, zeros = self._parameters(piece, *parameters)
            codes, back = np.empty(x.shape, self.plan.code_dtype), np.empty(x.shape)
            encode_piece(elements, backend, x, codes, scale, zeros)
            decode_piece(elements, backend, codes, back, scale, zeros)
            with np.errstate(over="ignore", under="ignore"):
                back -= x.astype(np.float64)
                part = np.square(back, out=back).sum(axis=(0, 2))
            error[piece.parameters] += part.reshape(error[piece.parameters].shape)
        return error

    # --- other rounding modes

    def _by_elements(self) -> None:
        """Write the codes slab by slab in C order, as stochastic rounding counts."""
        start, target = 0, self.codes.whole()
        seed = self.plan.seed
        if seed is None:
            seed = fresh_seed() if self.plan.rounding is Rounding.STOCHASTIC else 0
        for index in interop.slabs(self.values.shape):
            values, lost = self._finite(self.values[index], self.plan.nonfinite)
            if not np.isfinite(values).all():
                _report_not_finite(self.values)
            scale = self.groups.spread(self.scale, index)
            if self.tensor_scale is not None:
                scale = scale * self.tensor_scale
            quotient = np.ascontiguousarray(quotients(values, scale))
            zeros = None if self.zero_point is None else self.groups.spread(self.zero_point, index)
            stream = seed, start
            target[index], clamped = _rounded(self.plan, self.backend, quotient, zeros, stream)
            if lost:
                self._saturate(self.values[index], target[index])
            self.saturated += clamped
            self.nonfinite += lost
            start += values.size
        if self.visit is not None:
            codes = self.groups.view(target)
            for section in self.groups.sections():
                for slab in self.groups.slabs(section):
                    self._done(slab, codes[slab.values])


def _magnitudes(bits: np.ndarray) -> None:
    """Turn patterns into those of magnitudes, which are in order as integers."""
    bits &= bits.dtype.type(np.iinfo(bits.dtype).max)


def _in_order(bits: np.ndarray) -> None:
    """Turn patterns into integers in the values' order; once more, and they are patterns again."""
    bits ^= (bits >> (8 * bits.itemsize - 1)) & bits.dtype.type(np.iinfo(bits.dtype).max)


def _ranked(
    rows: np.ndarray, ranks: list[int], to_order: Callable[[np.ndarray], None]
) -> list[Float64]:
    """Return the values of the ranks in each row, which takes one copy, of integers."""
    bits = np.array(rows, rows.dtype.newbyteorder("=")).view(f"i{rows.dtype.itemsize}")
    to_order(bits)
    bits.partition(sorted(set(ranks)), axis=-1)
    found = []
    for rank in ranks:
        chosen = np.array(bits[..., rank])
        to_order(chosen)
        found.append(chosen.view(rows.dtype.newbyteorder("=")).astype(np.float64))
    return found


def scales_of(backend: Backend, amax: Float64, how: Scaling) -> Float64:
    if how.power_rule is None:
        return backend.absmax_scale(amax, how.format, how.largest)
    return backend.power_scale(amax, how.power_rule, how.largest, how.fraction_bits)


def _fraction_bits(elements: Elements) -> int:
    """Return the bits after the leading one of the largest value, for the rule "even"."""
    if isinstance(elements, Format):
        return elements.fraction_bits - 1 if elements.is_integer else elements.fraction_bits
    return elements.bits - 2 if isinstance(elements, Integers) else 23


#: Every integer that a quotient with a fraction may be rounded to, as a format: `encode` knows all
#: modes.
_WHOLE = Format("53-bit integers", 0, 52, bias=-51, infinity=False, nan=None, twos_complement=True)


def _rounded(
    plan: Plan, backend: Backend, quotient: Float64, zeros: np.ndarray | None, stream: Stream
) -> tuple[np.ndarray, int]:
    """Return the codes of quotients in any rounding mode, and how many were clamped."""
    elements, mode = plan.elements, plan.rounding
    flat = quotient.reshape(-1)
    if isinstance(elements, Integers):
        assert zeros is not None
        whole = np.empty(flat.shape, np.uint64)
        backend.encode(flat, rules(_WHOLE, mode, "saturate", "error"), whole, stream)
        sign = np.int64(1 << 52)
        q = ((whole.view(np.int64) ^ sign) - sign).astype(np.float64)
        # Greater ones are integers already.
        q = np.where(np.abs(flat) < 2.0**52, q, flat).reshape(quotient.shape) + zeros
        outside = (q < elements.qmin) | (q > elements.qmax)
        return np.clip(q, elements.qmin, elements.qmax).astype(plan.code_dtype), int(outside.sum())
    low, high = limits(elements)
    outside = (quotient < low) | (quotient > high)
    if isinstance(elements, Format):
        codes = np.empty(flat.shape, np.uint8)
        nan = "error" if elements.nan is None else "quiet"
        backend.encode(flat, rules(elements, mode, "saturate", nan), codes, stream)
    elif mode is Rounding.STOCHASTIC:
        codes = _stochastic(elements, flat, stream)
    else:
        codes = np.empty(flat.shape, np.uint8)
        one = np.ones(1)
        backend.quantize_intervals(
            flat.reshape(1, 1, -1), one, intervals(elements, mode), codes.reshape(1, 1, -1)
        )
    return codes.reshape(quotient.shape), int(outside.sum())


def _stochastic(elements: Codebook, quotient: Float64, stream: Stream) -> np.ndarray:
    """Return codes of the value below or above, as often as the quotient lies near it."""
    values = np.array(sorted(set(elements.values)))
    codes = intervals(elements).codes
    below = np.clip(np.searchsorted(values, quotient, side="right") - 1, 0, values.size - 2)
    step = values[below + 1] - values[below]
    part = np.clip((quotient - values[below]) / step, 0.0, 1.0)
    words = philox(*stream, quotient.size).astype(np.int64)
    up = np.floor(part * 2.0**32).astype(np.int64) + words >= 2**32
    return codes[below + up]


_DYNAMIC8 = find("dynamic8")


def double_scale(nested: Quantized, offset: Any) -> Float64:
    """Return the scales that quantised ones stand for: sums in fp32, never less than 0."""
    centred = interop.to_numpy(nested.dequantize())
    with np.errstate(over="ignore"):
        return np.maximum(centred + np.float32(offset), np.float32(0)).astype(np.float64)


def _result(job: _Job, stored: Any, like: Callable[[np.ndarray], Any]) -> Quantized:
    plan, groups = job.plan, job.groups
    scale = groups.to_scales(job.scale)
    zeros = None
    if job.zero_point is not None:
        zeros = np.zeros(groups.scale_shape, np.int64)
        if job.zero_point.any():  # else they are not touched, and cost no memory
            zeros[...] = groups.to_scales(job.zero_point)
    nested, tensor = job.scale_codes, job.tensor_scale
    if nested is not None:
        nested = replace(nested, packed=like(nested.packed), scale=like(nested.scale))
    scale = np.ascontiguousarray(scale.astype(plan.scale_format.dtype)).reshape(scale.shape)
    usual = _fields(plan, groups) | {
        "nonfinite": job.nonfinite,
        "tensor_scale": None if tensor is None else like(np.array(tensor, plan.tensor_dtype)),
        "scale_codes": nested,
        "scale_offset": None if nested is None else like(np.array(job.scale_offset)),
    }
    zeros = None if zeros is None else like(zeros)
    return Quantized.of(usual, stored, like(scale), zeros, job.saturated)


def _fields(plan: Plan, groups: Groups) -> dict[str, Any]:
    """Return the fields of a result that do not depend on the values, or usually do not."""
    return {
        "scheme": plan.scheme.name,
        "elements": plan.elements,
        "axis": groups.axes,
        "block": groups.block,
        "block_axis": groups.axis,
        "shape": groups.shape,
        "format": plan.source,
        "nonfinite": 0,
        "tensor_scale": None,
        "scale_codes": None,
        "scale_offset": None,
        "include_zero": plan.include_zero,
        "convention": "floatfmt",
    }
