"""A convention as a row of data, and the evaluator that does what any row says.

`Convention` and `Scheme` are the rows, `Plan` the evaluator: parameters of a tensor's groups, the
steps from values to codes, and the values that codes mean.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import interop
from .backends import current_backend
from .convention_words import (
    CODEBOOKS,
    CODES,
    DEQUANTIZERS,
    MULTIPLIERS,
    OVER,
    PICKS,
    PRECISIONS,
    ROUNDINGS,
    SCALES,
    SHORT_BLOCKS,
    SPREADS,
    ZERO_POINTS,
    check_words,
)

__all__ = [
    "GIVEN",
    "STEPS",
    "Convention",
    "DoubleQuantized",
    "Parameters",
    "Plan",
    "Scheme",
    "Trace",
    "double_quantized",
    "fp32_array",
    "given_scheme",
    "plan_of",
]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scheme:
    """How scale and zero point follow from a tensor, and which codes are used.

    Attributes
    ----------
    name : str
        ``"absmax"``, ``"zeropoint"``, or ``"given"`` where they do not follow from it.
    spread : str
        What of the tensor counts: ``"amax"``, ``"range"``, ``"range with 0"``.
    levels : int
        Steps in the spread.
    scale : str
        What is stored.
    zero_point : str
        Its formula.
    constant : str
        What a spread of 0 gives; "" is nothing special.
    lowest : int or None
        The lowest code that is used; that of the codes' dtype by default.
    clamp : str
        What becomes of rounded values beyond the codes.
    double : Convention or None
        By which scales are quantised too (``double_quantized``).
    """

    name: str
    spread: str = "amax"
    levels: int = 127
    scale: str = "spread / levels"
    zero_point: str = "0"
    constant: str = ""
    lowest: int | None = None
    clamp: str = "last"
    double: Convention | None = None

    def __post_init__(self) -> None:
        check_words(self)


GIVEN = Scheme("given")


@dataclass(frozen=True, slots=True)
class Convention:
    """How a library turns fp32 values into codes, as data; listed by ``ff.conventions()``.

    Attributes
    ----------
    name : str
        By which the functions know it.
    about : str
        Which function of which library.
    proof : str
        What the row was compared with, or ``"by its source only"``.
    schemes : tuple of Scheme
        How scale and zero point follow from a tensor; none if they have to be given. One called
        ``"given"`` says which codes are used then.
    takes_scale : bool
        Whether a scale can be given.
    multiplier : str
        What values are multiplied by: ``"1 / scale"``, ``"levels / spread"``,
        ``"1 / spread * levels"``; "" divides by the scale.
    precision : str
        Of the quotient or product, and of scale and zero point: ``"fp32"`` or ``"fp64"``.
    adds_zero_point : str
        ``"after rounding"`` or ``"before rounding"``.
    fused : bool
        Whether the product is not rounded before the zero point is added to it.
    rounding : str
        ``"half even"``, ``"half away"``, ...; of a codebook ``"nearest, lower of a tie"``, ...
    codebook : str
        Whose code is picked instead of an integer: ``"nf4"``, ``"fp4"``, ``"dynamic8"``, or "".
    nan : str
        What a NaN gives: the ``"lowest"`` or ``"highest"`` code, of a codebook that of its highest
        value; ``"refused"``, an error, for Inf too; ``"undefined"``.
    dtypes : tuple of str
        Of codes, the usual one first.
    over : str
        What shares a scale: ``"tensor"``; ``"row"``, along the last axis; ``"channel"``, an index
        of an axis; ``"block of 32"``, ... of the flattened tensor.
    scale_dtype : str
        Of the scale by which codes are dequantised: ``"fp32"`` or ``"fp64"``.
    short_block : str
        How a last block that is short differs from the others; "" if it does not.
    takes_empty : bool
        Whether it quantises a tensor without elements.
    dequantize : str
        What is done to codes less their zero point to have values again.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> onnx = {row.name: row for row in ff.conventions()}["onnx"]
    >>> onnx.multiplier, onnx.rounding, onnx.adds_zero_point
    ('', 'half even', 'after rounding')
    >>> found = onnx.trace(np.float32([0.5, 1.5, 99]), scale=0.5, zero_point=3)
    >>> found.codes
    array([  4,   6, 127], dtype=int8)
    >>> found["rounded"]
    array([  1.,   3., 198.], dtype=float32)
    """

    name: str
    about: str
    proof: str
    schemes: tuple[Scheme, ...] = ()
    takes_scale: bool = True
    multiplier: str = ""
    precision: str = "fp32"
    adds_zero_point: str = "after rounding"
    fused: bool = False
    rounding: str = "half even"
    codebook: str = ""
    nan: str = "undefined"
    dtypes: tuple[str, ...] = ("int8", "uint8")
    over: str = "tensor"
    scale_dtype: str = "fp32"
    short_block: str = ""
    takes_empty: bool = True
    dequantize: str = "* scale"

    def __post_init__(self) -> None:
        check_words(self)

    def __str__(self) -> str:
        does = f"x * ({self.multiplier})" if self.multiplier else "x / scale"
        meant = "codebook[code]" if self.codebook else "(code - zero point)"
        rules = [
            (self.name, self.about),
            ("proof", self.proof),
            ("does", f"{does} in {self.precision}, rounded {self.rounding}"),
            ("zero point", f"added {self.adds_zero_point}{', fused' * self.fused}"),
            ("NaN", self.nan),
            ("codes", self.codebook or " or ".join(self.dtypes)),
            ("scale of a", self.over),
            ("value", f"{meant} {self.dequantize}"),
        ]
        if self.codebook:
            rules = [rule for rule in rules if rule[0] != "zero point"]
        if self.scale_dtype != "fp32":
            rules.append(("scale kept as", self.scale_dtype))
        if self.short_block:
            rules.append(("a short block", self.short_block))
        for s in self.schemes:
            levels = f", levels {s.levels}" if "levels" in s.scale else ""
            rules.append((s.name, f"scale {s.scale}, spread {s.spread}{levels}"))
            if not self.codebook:
                lowest = "" if s.lowest is None else f", codes from {s.lowest}"
                rules.append(("", f"zero point {s.zero_point}"))
                rules.append(("", f"clamp {s.clamp}{lowest}"))
            if s.constant:
                rules.append(("", f"where the spread is 0: {s.constant}"))
            if s.double:
                rules.append(("", f"scales, less their mean, by {s.double.name}"))
        width = max(16, len(self.name) + 2)
        return "\n".join(f"{label:{width}}{text}" for label, text in rules)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return asdict(self) | {
            "dtypes": list(self.dtypes),
            "schemes": [asdict(s) | {"double": s.double and s.double.name} for s in self.schemes],
        }

    def trace(
        self,
        x: Any,
        scheme: str | None = None,
        *,
        scale: Any = None,
        zero_point: Any = None,
        dtype: str | None = None,
        axis: int = 0,
    ) -> Trace:
        """Quantise fp32, fp16 or bf16 values as the row says, and keep every step.

        Parameters
        ----------
        x : array
            NumPy or torch, of any shape.
        scheme : {"absmax", "zeropoint"}
            One of the row's, or
        scale, zero_point : float and int
            given; an array of each where every channel has its own.
        dtype : {"int8", "uint8"}, optional
            Of the codes.
        axis : int
            Whose indices are channels.

        Returns
        -------
        Trace
        """
        values = fp32_array(x)
        chosen = plan_of(self, scheme, scale=scale, dtype=dtype, axis=axis)
        with current_backend().float_environment():
            groups = chosen.groups(values)
            parameters = chosen.parameters_for(values, groups, scale, zero_point)
            steps, defined = chosen.steps(groups, parameters)
        shaped = {name: chosen.ungroup(part, values.shape) for name, part in steps.items()}
        return Trace(chosen, parameters, shaped, chosen.ungroup(defined, values.shape))


#: The steps of a trace, in the order in which tables show them.
STEPS = (
    *("x", "scale", "reciprocal", "product", "quotient"),
    *("with zero point", "rounded", "rounded + zero point", "clamped", "entry", "code"),
)


class Parameters(NamedTuple):
    """Of each group, in columns: scale, what x is divided or multiplied by, which, and zero point.

    The scale is the one that is kept; the factor follows from it before.
    """

    scale: np.ndarray
    factor: np.ndarray
    zero_point: np.ndarray
    divides: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Trace:
    """Every step from values to codes; made by ``Convention.trace``.

    Attributes
    ----------
    plan : Plan
        The convention, the scheme, and the codes' dtype.
    parameters : Parameters
        Scales and zero points.
    steps : dict of str to array
        In x's shape: ``x``, ``scale``, ``reciprocal`` (what x is multiplied by), ``product`` or
        ``quotient``, ``with zero point`` or ``rounded + zero point``, ``rounded``, ``clamped``,
        ``entry`` of a codebook, ``code``; those that there are.
    defined : array of bool
        Where the convention defines the code; elsewhere it is what a C cast leaves undefined.
    """

    plan: Plan
    parameters: Parameters
    steps: dict[str, np.ndarray]
    defined: np.ndarray

    def __getitem__(self, step: str) -> np.ndarray:
        return self.steps[step]

    @property
    def codes(self) -> np.ndarray:
        """The codes, in x's shape."""
        return self.steps["code"]

    @property
    def values(self) -> np.ndarray:
        """What the codes mean: fp32 values."""
        with current_backend().float_environment():
            groups = self.plan.groups(self.codes)
            return self.plan.ungroup(
                self.plan.dequantize(groups, self.parameters), self.codes.shape
            )

    def at(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return the steps of one element."""
        return {name: part[index] for name, part in self.steps.items()}


# --- the evaluator ------------------------------------------------------------------------------

#: The steps' names and arrays, and where codes are defined.
Steps: TypeAlias = tuple[dict[str, np.ndarray], np.ndarray]


class Plan(NamedTuple):
    """A convention with all that can be chosen.

    It works on groups, a 2-D array with a row for each scale.
    """

    row: Convention
    scheme: Scheme
    dtype: str
    axis: int = 0

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and highest code."""
        lowest, highest = CODES[self.dtype]
        if self.row.codebook:
            return 0, CODEBOOKS[self.row.codebook].size - 1
        return (lowest if self.scheme.lowest is None else self.scheme.lowest), highest

    @property
    def block(self) -> int | None:
        """Values in a block; None where a scale is of something else."""
        return OVER[self.row.over]

    def groups(self, values: np.ndarray) -> np.ndarray:
        """Return values as a row for each scale; a last block that is short ends with zeros."""
        if self.row.over == "row" and values.ndim:
            return values.reshape(-1, values.shape[-1]) if values.size else values.reshape(1, 0)
        if self.row.over == "channel" and values.ndim:
            first = np.moveaxis(values, self.axis, 0)
            return first.reshape(len(first), math.prod(first.shape[1:]))
        flat = values.reshape(1, -1)
        if self.block is None:
            return flat
        rest = -values.size % self.block
        return (np.pad(flat[0], (0, rest)) if rest else flat).reshape(-1, self.block)

    def ungroup(self, part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return groups in the values' shape again."""
        whole = np.broadcast_to(part, self.groups(np.empty(shape, bool)).shape)
        if self.row.over == "channel" and shape:
            first = np.moveaxis(np.empty(shape, bool), self.axis, 0).shape
            return np.moveaxis(whole.reshape(first), 0, self.axis)
        return whole.reshape(-1)[: math.prod(shape)].reshape(shape)

    def parameters_for(
        self, values: np.ndarray, groups: np.ndarray, scale: Any, zero_point: Any
    ) -> Parameters:
        """Return what was given, or what follows from values and their groups."""
        if scale is None:
            return self.parameters(groups, values.size)
        found = self.given(scale, zero_point)
        if len(found.scale) not in (1, len(groups)):
            raise ValueError(
                f"{len(found.scale):,} scales or zero points, where {len(groups):,} of a"
                f" {self.row.over} are needed"
            )
        return found

    def parameters(self, groups: np.ndarray, size: int | None = None) -> Parameters:
        """Return what follows from the values; of so many, where a last block may be short."""
        if not groups.size:
            low = high = np.zeros((len(groups), 1), F32)
        elif self.scheme.spread == "amax but for NaN":
            known = np.where(np.isnan(groups), F32.type(0), groups)
            low, high = known.min(axis=1, keepdims=True), known.max(axis=1, keepdims=True)
        else:
            low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
        short = size is not None and self.block is not None and size % self.block > 0
        return self.parameters_of_ends(low, high, short)

    def parameters_of_ends(
        self, low: np.ndarray, high: np.ndarray, short: bool = False
    ) -> Parameters:
        """Return what follows from the groups' least and greatest values."""
        row, scheme, dtype = self.row, self.scheme, PRECISIONS[self.row.precision]
        low, high = low.astype(dtype), high.astype(dtype)
        spread = SPREADS[scheme.spread](low, high)
        flat = spread == 0

        def where_flat(rule: str, value: Any, otherwise: np.ndarray) -> np.ndarray:
            return np.where(flat, value, otherwise) if scheme.constant == rule else otherwise

        one, zero = dtype.type(1), dtype.type(0)
        spread = where_flat("spread is 1", one, spread)
        scale = SCALES[scheme.scale](spread, scheme.levels).astype(F32).astype(dtype)
        scale = where_flat("scale is 1", one, scale)
        scale = where_flat("scale is its size", np.where(low == 0, one, np.abs(low)), scale)
        factor = MULTIPLIERS[row.multiplier](scale, spread, scheme.levels)
        factor = where_flat("multiplier is 0", zero, factor)
        divides = np.full(scale.shape, not row.multiplier)
        in_short_block = SHORT_BLOCKS[row.short_block]
        if short and in_short_block is not None:
            scale[-1:] = factor[-1:] = in_short_block(scale[-1:])
            divides[-1:] = True
        # A zero point starts from the dtype's lowest code, used or not.
        zero_point = ZERO_POINTS[scheme.zero_point](factor, low, *CODES[self.dtype])
        zero_point = where_flat("scale is its size", zero, zero_point)
        if scheme.double is not None:
            scale = double_quantized(scale[:, 0], scheme.double).restored[:, None]
        return Parameters(scale, factor, zero_point + zero, divides)  # + 0: never -0

    def given(self, scale: Any, zero_point: Any = None) -> Parameters:
        """Return the parameters of a scale, which is rounded to fp32, and a zero point.

        Raises
        ------
        TypeError, ValueError
            The convention takes no such scale or zero point.
        """
        dtype = PRECISIONS[self.row.precision]
        zeros = np.asarray(interop.to_numpy(0 if zero_point is None else zero_point))
        if zeros.dtype.kind not in "iu":
            raise TypeError(f"zero_point must be an integer, got {interop.describe(zero_point)}")
        with current_backend().float_environment():
            wide = np.asarray(interop.to_numpy(scale), F64).reshape(-1, 1)
            stored = wide.astype(F32)
            wrong = ~(np.isfinite(stored) & (stored > 0))
            if wrong.any():
                raise ValueError(
                    f"scale is {wide[wrong][0]}; a scale is positive and finite in fp32"
                )
            self._check_zero_points(zeros)
            factor = MULTIPLIERS[self.row.multiplier](stored.astype(dtype), stored, 1)
            kept = wide if self.row.scale_dtype == "fp64" else stored.astype(dtype)
            columns = (kept, factor, zeros.astype(dtype).reshape(-1, 1), not self.row.multiplier)
            return Parameters(*np.broadcast_arrays(*columns))

    def _check_zero_points(self, zeros: np.ndarray) -> None:
        lowest, highest = CODES[self.dtype]
        if self.row.nan == "refused":  # floatfmt's own rule: any that fp64 holds
            lowest, highest = -(2**53), 2**53
        if zeros.size and (zeros.min() < lowest or zeros.max() > highest):
            bad = zeros.reshape(-1)[((zeros < lowest) | (zeros > highest)).reshape(-1)][0]
            raise ValueError(
                f"zero_point {bad} is not from {lowest} to {highest}, as {self.row.name} needs it"
            )

    def steps(self, groups: np.ndarray, parameters: Parameters) -> Steps:
        """Return every step, and where the codes are defined."""
        found = {"x": groups, "scale": parameters.scale}
        value = self._scaled(groups, parameters, found)
        if self.row.codebook:
            defined = self._picked(value, parameters.scale, found)
        else:
            defined = self._rounded(value, parameters, found)
        return found, np.broadcast_to(defined, groups.shape)

    def _scaled(
        self, x: np.ndarray, parameters: Parameters, found: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Return products or quotients; both where a short block is divided."""
        x = x.astype(PRECISIONS[self.row.precision], copy=False)
        factor, divides = parameters.factor, parameters.divides
        if divides.all():
            found["quotient"] = x / factor
            return found["quotient"]
        found["reciprocal"], found["product"] = factor, x * factor
        if not divides.any():
            return found["product"]
        value = np.where(divides, x / factor, found["product"])
        found["quotient"] = np.where(divides, value, np.nan)
        for step in ("reciprocal", "product"):
            found[step] = np.where(divides, np.nan, found[step])
        return value

    def _rounded(
        self, value: np.ndarray, parameters: Parameters, found: dict[str, np.ndarray]
    ) -> Any:
        """Add the steps from a quotient to its integer, and return where that is defined."""
        row, zero_point = self.row, parameters.zero_point
        if self.scheme.clamp == "before the zero point":
            value = np.clip(value, *self.codes)
        # Nothing added is no step, and leaves a fused product rounded once.
        if row.adds_zero_point == "before rounding" and zero_point.any():
            fused = row.fused and row.multiplier and value.dtype == F32
            value = (
                _fused(found["x"], parameters.factor, zero_point) if fused else value + zero_point
            )
            found["with zero point"] = value
        found["rounded"] = value = ROUNDINGS[row.rounding](value)
        whole = value
        if row.adds_zero_point == "after rounding" and zero_point.any():
            found["rounded + zero point"] = value = value + zero_point
        found["clamped"], defined = self._clamped(value)
        found["code"] = self._cast(found["clamped"], whole, zero_point)
        return defined & (parameters.scale == parameters.scale)  # which NaN is, nobody says

    def _picked(self, value: np.ndarray, scale: np.ndarray, found: dict[str, np.ndarray]) -> Any:
        """Add the steps from a part of the scale to a codebook's code."""
        codebook = CODEBOOKS[self.row.codebook]
        found["clamped"] = clamped = np.clip(value, F32.type(-1), F32.type(1))
        code = PICKS[self.row.rounding](self.row.codebook, clamped).astype(self.dtype)
        defined: Any = (clamped == clamped) | (self.row.nan != "undefined")
        code = np.where(defined, code, 0).astype(self.dtype)
        if self.scheme.constant == "codes are 0":
            code, defined = np.where(scale == 0, 0, code).astype(self.dtype), defined | (scale == 0)
        found["entry"], found["code"] = codebook[code], code
        return defined

    def _clamped(self, value: np.ndarray) -> tuple[np.ndarray, Any]:
        lowest, highest = self.codes
        defined: Any = True
        if self.row.nan in ("lowest", "highest"):
            limit = value.dtype.type(lowest if self.row.nan == "lowest" else highest)
            value = np.where(value == value, value, limit)
        else:
            defined = value == value
        if self.scheme.clamp == "int32 saturates":
            value = np.where(np.abs(value) < 2.0**31, value, value.dtype.type(lowest))
        if self.scheme.clamp in ("last", "int32 saturates"):
            value = np.clip(value, lowest, highest)
        elif self.scheme.clamp == "none":
            first, last = CODES[self.dtype]
            defined = defined & (value >= first) & (value <= last)
        return value, defined

    def _cast(self, value: np.ndarray, whole: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
        """Return codes; what lies beyond them wraps as 32-bit integers do."""
        if self.scheme.clamp in ("last", "int32 saturates"):
            if self.row.nan not in ("lowest", "highest"):
                value = np.where(value == value, value, 0)
            return value.astype(self.dtype)
        inside = np.abs(value) < 2.0**31
        wrapped = np.where(inside, value, 0).astype(np.int64)
        if self.scheme.clamp == "integer wraps":
            # an integer conversion that overflows gives -2^31, whose lowest byte is 0
            kept = np.where(np.abs(whole) < 2.0**31, whole, 0).astype(np.int64)
            wrapped = kept + np.where(np.abs(zero_point) < 2.0**31, zero_point, 0).astype(np.int64)
        return (wrapped & 0xFF).astype(np.uint8).view(self.dtype)

    def dequantize(self, codes: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the values that groups of codes mean, as fp32."""
        if self.row.codebook:
            meant = CODEBOOKS[self.row.codebook][codes].astype(F64)
        else:
            meant = codes.astype(F64) - parameters.zero_point
        return DEQUANTIZERS[self.row.dequantize](meant, parameters.scale.astype(F64)).astype(F32)

    def step(self, parameters: Parameters) -> np.ndarray:
        """Return how far apart the values of two codes lie, as fp64."""
        with current_backend().float_environment():
            factor = parameters.factor.astype(F64)
            return 1 / factor if self.row.multiplier else factor


def _fused(x: np.ndarray, factor: np.ndarray, addend: np.ndarray) -> np.ndarray:
    """Return ``x * factor + addend`` of fp32 numbers, rounded once.

    The product is exact in fp64 and the sum is not; a sum that only rounding has put in the middle
    of two fp32 numbers is moved off it.
    """
    product = x.astype(F64) * factor.astype(F64)
    wide_addend = np.broadcast_to(addend.astype(F64), product.shape)
    total = product + wide_addend
    middles = np.nonzero((total.view(np.int64) & 0x1FFFFFFF) == 0x10000000)
    if middles[0].size:
        a, b, sum_ = product[middles], wide_addend[middles], total[middles]
        back = sum_ - a
        error = (a - (sum_ - back)) + (b - back)
        towards = np.where(error > 0, np.inf, -np.inf)
        total[middles] = np.where(error != 0, np.nextafter(sum_, towards), sum_)
    return total.astype(F32)


# --- choosing -----------------------------------------------------------------------------------


def plan_of(
    row: Convention,
    scheme: str | None,
    *,
    scale: Any = None,
    dtype: str | None = None,
    axis: int = 0,
) -> Plan:
    """Return a convention with its scheme, or for a given scale, and a dtype of codes."""
    names = [s.name for s in row.schemes if s.name != "given"]
    if scheme is not None and scale is not None:
        raise TypeError("give a scheme or a scale, not both")
    if scale is not None:
        number = interop.to_numpy(scale)
        if number.dtype.kind not in "fiu" or number.ndim > (row.over == "channel"):
            wanted = "a number for each channel" if row.over == "channel" else "one number"
            raise TypeError(f"scale must be {wanted}, got {scale!r}")
    if scale is not None and not row.takes_scale:
        raise ValueError(f"{row.name} finds its own scale; give a scheme: {', '.join(names)}")
    if scale is None and not names:
        raise ValueError(f"{row.name} has no rule for a scale; give one with scale=")
    if scheme is not None and scheme not in names:
        raise ValueError(f"{row.name} has no scheme {scheme!r}; it has {', '.join(names)}")
    if dtype is not None and dtype not in row.dtypes:
        raise ValueError(f"{row.name} has codes of {' or '.join(row.dtypes)}, not {dtype!r}")
    chosen = given_scheme(row)
    if scale is None:
        chosen = next(s for s in row.schemes if s.name == (scheme or names[0]))
    return Plan(row, chosen, dtype or row.dtypes[0], axis)


def given_scheme(row: Convention) -> Scheme:
    """Return what a convention does with a given scale: clamp to all codes, unless it says."""
    return next((s for s in row.schemes if s.name == "given"), GIVEN)


def fp32_array(x: Any) -> np.ndarray:
    """Return x as a plain NumPy array of fp32 values."""
    values = interop.float_array(x)
    if values.dtype.newbyteorder("=") == F64:
        raise TypeError(
            f"conventions are about fp32, fp16 and bf16 values, got {interop.describe(x)}; pass"
            " x.astype(np.float32)"
        )
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return np.ascontiguousarray(values.astype(F32, copy=False)).reshape(values.shape)


# --- double quantisation ------------------------------------------------------------------------


class DoubleQuantized(NamedTuple):
    """Scales of blocks as codes: what is stored of them, and the scales that come back."""

    codes: np.ndarray
    scale: np.ndarray
    offset: np.float32
    restored: np.ndarray


def double_quantized(
    scales: np.ndarray, row: Convention, offset: float | None = None
) -> DoubleQuantized:
    """Quantise the scales of blocks, less their mean, as QLoRA and bitsandbytes do.

    Parameters
    ----------
    scales : array of float32
        One of each block, 1-D.
    row : Convention
        By which they are quantised: ``Scheme.double`` of a scheme that has one.
    offset : float, optional
        Instead of the mean. bitsandbytes takes torch's, whose last bits depend on the CPU and on
        the number of threads; here it is the fp32 number nearest to the mean.

    Returns
    -------
    DoubleQuantized

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> from floatfmt.convention import double_quantized
    >>> nf4 = {scheme.name: scheme for scheme in ff.conventions()["bitsandbytes_nf4"].schemes}
    >>> found = double_quantized(np.float32([1, 2, 3]), nf4["double"].double)
    >>> found.codes.tolist(), found.scale.tolist(), float(found.offset)
    ([0, 131, 255], [1.0], 2.0)
    >>> found.restored.tolist()
    [1.0070312023162842, 2.00002121925354, 3.0]
    """
    scales = np.asarray(scales, F32)
    chosen = plan_of(row, None)
    with current_backend().float_environment():
        if offset is None:
            offset = scales.mean(dtype=F64).item() if scales.size else 0.0
        mean = F32.type(offset)
        groups = chosen.groups(scales - mean)
        parameters = chosen.parameters(groups, scales.size)
        codes = chosen.steps(groups, parameters)[0]["code"]
        restored = chosen.ungroup(chosen.dequantize(codes, parameters), scales.shape) + mean
    return DoubleQuantized(
        chosen.ungroup(codes, scales.shape), parameters.scale[:, 0], mean, restored
    )
