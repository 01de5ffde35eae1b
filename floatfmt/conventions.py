"""How libraries quantise to 8 bits: each convention a row of data, and one evaluator for all rows.

A row says what is divided or multiplied, in which precision, how ties go, where the zero point is
added, what is clamped, and how scale and zero point follow from a tensor. `trace` does what a row
says with NumPy, and keeps every step. Rows are of fp32 values; fp16 and bf16 are fp32 values too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import interop
from .backends import current_backend

__all__ = [
    "STEPS",
    "Convention",
    "ConventionLike",
    "Parameters",
    "Plan",
    "Scheme",
    "Trace",
    "conventions",
    "find",
    "plan",
]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
#: Smallest positive and largest fp32.
FP32_STEP, FP32_MAX = 2.0**-149, float(np.finfo(np.float32).max)
#: A zero point beyond this is no int64.
MOST_ZERO_POINT = 2.0**62

# --- the words that rows are made of ------------------------------------------------------------


def _half_away(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)  # the rest is exact, so that no sum is rounded to a tie
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def _half_up(x: np.ndarray) -> np.ndarray:
    whole = np.floor(x)
    return whole + (x - whole >= 0.5)


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half even": np.rint,
    "half away": _half_away,
    "half up": _half_up,
    "add half, truncate": lambda x: np.trunc(x + np.copysign(x.dtype.type(0.5), x)),
    "toward zero": np.trunc,
    "down": np.floor,
    "up": np.ceil,
}

#: What the scale is made of: the largest magnitude, or from the least value to the greatest.
SPREADS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "amax": lambda low, high: np.maximum(np.abs(low), np.abs(high)),
    "range": lambda low, high: high - low,
    "range with 0": lambda low, high: np.maximum(high, 0) - np.minimum(low, 0),
}


def _never_zero(spread: np.ndarray, levels: int) -> np.ndarray:
    """Return the quotient as fp32: to nearest, but up where it is subnormal."""
    nearest = np.minimum(spread / levels, FP32_MAX).astype(F32).astype(F64)
    steps = np.where(nearest < 2.0**-126, spread, 0) / FP32_STEP
    return np.where(nearest < 2.0**-126, np.ceil(steps / levels) * FP32_STEP, nearest)


#: What is stored as the scale.
SCALES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "spread / levels": lambda spread, levels: spread / spread.dtype.type(levels),
    "spread / levels, never 0": _never_zero,
    "1 / spread * levels": lambda spread, levels: (1 / spread) * spread.dtype.type(levels),
    "spread": lambda spread, levels: spread,
}

#: What values are multiplied by; "" divides by the scale.
MULTIPLIERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "": lambda scale, spread, levels: scale,
    "1 / scale": lambda scale, spread, levels: 1 / scale,
    "levels / spread": lambda scale, spread, levels: spread.dtype.type(levels) / spread,
    "1 / spread * levels": lambda scale, spread, levels: (1 / spread) * spread.dtype.type(levels),
}

#: How the zero point follows: of the factor (scale or multiplier), the least value and code.
ZERO_POINTS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]] = {
    "0": lambda factor, low, lowest, highest: np.zeros_like(factor),
    "rint(lowest - low / scale)": lambda scale, low, lowest, highest: np.clip(
        np.rint(lowest - low / scale), -MOST_ZERO_POINT, MOST_ZERO_POINT
    ),
    "rint(-multiplier * low + lowest)": lambda multiplier, low, lowest, highest: np.rint(
        -multiplier * low + multiplier.dtype.type(lowest)
    ),
    "rint(clamp(lowest - low / scale)), 0 in range": lambda scale, low, lowest, highest: np.rint(
        # NaN, which is 0 / 0 of a scale that underflowed, ends at the highest code
        np.fmax(np.fmin(lowest - np.minimum(low, 0) / scale, highest), lowest)
    ),
}

#: What a spread of 0 gives.
CONSTANTS = ("", "scale is 1", "spread is 1", "multiplier is 0", "scale is its size")
#: What becomes of rounded values beyond the codes. A C cast leaves it undefined.
CLAMPS = ("last", "none", "wraps", "integer wraps", "before the zero point")
#: What a NaN gives: a code, an error, or what a C cast makes of it, which is undefined.
NANS = ("lowest", "highest", "refused", "undefined")
#: What shares a scale: the tensor, a row (all but the last axis), a block of 32.
OVER = ("tensor", "row", "block of 32")
BLOCK = 32

_127TH = np.float32(1 / 127)
#: What a code means: codes less their zero point, and the scale, both as fp64.
DEQUANTIZERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "* scale, rounded once": lambda c, scale: np.clip(c * scale, -FP32_MAX, FP32_MAX),
    "* scale": lambda c, scale: c.astype(F32) * scale.astype(F32),
    "/ scale": lambda c, scale: c.astype(F32) / scale.astype(F32),
    "* scale * (1 / 127)": lambda c, scale: c.astype(F32) * scale.astype(F32) * _127TH,
    "* fp16(scale)": lambda c, scale: c.astype(F32) * scale.astype(np.float16).astype(F32),
}
CODES = {"int8": (-128, 127), "uint8": (0, 255)}
PRECISIONS: dict[str, Any] = {"fp32": F32, "fp64": F64}

_WORDS: dict[str, Any] = {
    "rounding": ROUNDINGS,
    "spread": SPREADS,
    "scale": SCALES,
    "multiplier": MULTIPLIERS,
    "constant": CONSTANTS,
    "clamp": CLAMPS,
    "nan": NANS,
    "over": OVER,
    "dequantize": DEQUANTIZERS,
    "precision": PRECISIONS,
    "zero_point": ZERO_POINTS,
    "adds_zero_point": ("after rounding", "before rounding", "never"),
}


def _check_words(row: object) -> None:
    for field in fields(row):  # type: ignore[arg-type]
        known = _WORDS.get(field.name)
        value = getattr(row, field.name)
        if known is not None and value not in known:
            raise ValueError(
                f"{field.name} must be one of {', '.join(map(repr, known))}: {value!r}"
            )


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
    """

    name: str
    spread: str = "amax"
    levels: int = 127
    scale: str = "spread / levels"
    zero_point: str = "0"
    constant: str = ""
    lowest: int | None = None
    clamp: str = "last"

    def __post_init__(self) -> None:
        _check_words(self)


GIVEN = Scheme("given")


@dataclass(frozen=True, slots=True)
class Convention:
    """How a library turns fp32 values into 8-bit codes, as data; listed by ``ff.conventions()``.

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
        ``"half even"``, ``"half away"``, ...
    nan : str
        What a NaN gives: the ``"lowest"`` or ``"highest"`` code; ``"refused"``, an error, for Inf
        too; ``"undefined"``.
    dtypes : tuple of str
        Of codes, the usual one first.
    over : str
        What shares a scale: ``"tensor"``, ``"row"``, ``"block of 32"``.
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
    nan: str = "undefined"
    dtypes: tuple[str, ...] = ("int8", "uint8")
    over: str = "tensor"
    takes_empty: bool = True
    dequantize: str = "* scale"

    def __post_init__(self) -> None:
        _check_words(self)

    def __str__(self) -> str:
        does = f"x * ({self.multiplier})" if self.multiplier else "x / scale"
        rules = [
            (self.name, self.about),
            ("proof", self.proof),
            ("does", f"{does} in {self.precision}, rounded {self.rounding}"),
            ("zero point", f"added {self.adds_zero_point}{', fused' * self.fused}"),
            ("NaN", self.nan),
            ("codes", " or ".join(self.dtypes)),
            ("scale of a", self.over),
            ("value", f"(code - zero point) {self.dequantize}"),
        ]
        for s in self.schemes:
            lowest = "" if s.lowest is None else f", codes from {s.lowest}"
            flat = f", constant: {s.constant}" if s.constant else ""
            rules.append((s.name, f"scale {s.scale}, spread {s.spread}, levels {s.levels}"))
            rules.append(("", f"zero point {s.zero_point}"))
            rules.append(("", f"clamp {s.clamp}{lowest}{flat}"))
        return "\n".join(f"{label:16}{text}" for label, text in rules)

    def trace(
        self,
        x: Any,
        scheme: str | None = None,
        *,
        scale: float | None = None,
        zero_point: int | None = None,
        dtype: str | None = None,
    ) -> Trace:
        """Quantise fp32, fp16 or bf16 values as the row says, and keep every step.

        Parameters
        ----------
        x : array
            NumPy or torch, of any shape.
        scheme : {"absmax", "zeropoint"}
            One of the row's, or
        scale, zero_point : float and int
            given.
        dtype : {"int8", "uint8"}, optional
            Of the codes.

        Returns
        -------
        Trace
        """
        values = fp32_array(x)
        chosen = plan(self, scheme, scale=scale, dtype=dtype)
        with current_backend().float_environment():
            groups = chosen.groups(values)
            if scale is None:
                parameters = chosen.parameters(groups)
            else:
                parameters = chosen.given(scale, zero_point)
            steps, defined = chosen.steps(groups, parameters)
        shaped = {name: chosen.ungroup(part, values.shape) for name, part in steps.items()}
        return Trace(chosen, parameters, shaped, chosen.ungroup(defined, values.shape))


#: The steps of a trace, in the order in which tables show them.
STEPS = (
    *("x", "scale", "reciprocal", "product", "quotient"),
    *("with zero point", "rounded", "rounded + zero point", "clamped", "code"),
)


class Parameters(NamedTuple):
    """Scale, what x is divided or multiplied by, and zero point: a column, a row a group."""

    scale: np.ndarray
    factor: np.ndarray
    zero_point: np.ndarray


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
        ``code``; those that there are.
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

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and highest code."""
        lowest, highest = CODES[self.dtype]
        return (lowest if self.scheme.lowest is None else self.scheme.lowest), highest

    def groups(self, values: np.ndarray) -> np.ndarray:
        """Return values as a row for each scale; a last block that is short ends with zeros."""
        if self.row.over == "row" and values.ndim:
            return values.reshape(-1, values.shape[-1]) if values.size else values.reshape(1, 0)
        flat = values.reshape(1, -1)
        if self.row.over != "block of 32":
            return flat
        rest = -values.size % BLOCK
        return (np.pad(flat[0], (0, rest)) if rest else flat).reshape(-1, BLOCK)

    def ungroup(self, part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return groups in the values' shape again."""
        size = math.prod(shape)
        whole = self.groups(np.empty(shape, bool)).shape
        return np.broadcast_to(part, whole).reshape(-1)[:size].reshape(shape)

    def parameters(self, groups: np.ndarray) -> Parameters:
        """Return what follows from the values."""
        if groups.size:
            ends = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
        else:
            ends = (np.zeros((len(groups), 1), F32),) * 2
        return self.parameters_of_ends(*ends)

    def parameters_of_ends(self, low: np.ndarray, high: np.ndarray) -> Parameters:
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
        # A zero point starts from the dtype's lowest code, used or not.
        zero_point = ZERO_POINTS[scheme.zero_point](factor, low, *CODES[self.dtype])
        zero_point = where_flat("scale is its size", zero, zero_point)
        return Parameters(scale, factor, zero_point + zero)  # + 0: never -0

    def given(self, scale: Any, zero_point: Any = None) -> Parameters:
        """Return the parameters of a scale, which is rounded to fp32, and a zero point.

        Raises
        ------
        TypeError, ValueError
            The convention takes no such scale or zero point.
        """
        dtype = PRECISIONS[self.row.precision]
        zeros = np.asarray(0 if zero_point is None else zero_point)
        if zeros.dtype.kind not in "iu":
            raise TypeError(f"zero_point must be an integer, got {interop.describe(zero_point)}")
        with current_backend().float_environment():
            wide = np.asarray(scale, F64).reshape(-1, 1)
            stored = wide.astype(F32)
            wrong = ~(np.isfinite(stored) & (stored > 0))
            if wrong.any():
                raise ValueError(
                    f"scale is {wide[wrong][0]}; a scale is positive and finite in fp32"
                )
            self._check_zero_points(zeros)
            factor = MULTIPLIERS[self.row.multiplier](stored.astype(dtype), stored, 1)
            return Parameters(stored.astype(dtype), factor, zeros.astype(dtype).reshape(-1, 1))

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
        row, dtype = self.row, PRECISIONS[self.row.precision]
        scale, factor, zero_point = parameters
        x = groups.astype(dtype, copy=False)
        found = {"x": groups, "scale": scale}
        if row.multiplier:
            found["reciprocal"] = factor
            found["product"] = value = x * factor
        else:
            found["quotient"] = value = x / factor
        if self.scheme.clamp == "before the zero point":
            value = np.clip(value, *self.codes)
        # Nothing added is no step, and leaves a fused product rounded once.
        if row.adds_zero_point == "before rounding" and zero_point.any():
            fused = row.fused and row.multiplier and dtype == F32
            value = _fused(x, factor, zero_point) if fused else value + zero_point
            found["with zero point"] = value
        found["rounded"] = value = ROUNDINGS[row.rounding](value)
        whole = value
        if row.adds_zero_point == "after rounding" and zero_point.any():
            found["rounded + zero point"] = value = value + zero_point
        found["clamped"], defined = self._clamped(value)
        found["code"] = self._cast(found["clamped"], whole, zero_point)
        return found, defined

    def _clamped(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lowest, highest = self.codes
        defined: Any = True
        if self.row.nan in ("lowest", "highest"):
            limit = value.dtype.type(lowest if self.row.nan == "lowest" else highest)
            value = np.where(value == value, value, limit)
        else:
            defined = value == value
        if self.scheme.clamp == "last":
            value = np.clip(value, lowest, highest)
        elif self.scheme.clamp == "none":
            first, last = CODES[self.dtype]
            defined = defined & (value >= first) & (value <= last)
        return value, np.broadcast_to(defined, value.shape)

    def _cast(self, value: np.ndarray, whole: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
        """Return codes; what lies beyond them wraps as 32-bit integers do."""
        if self.scheme.clamp == "last":
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
        centred = codes.astype(F64) - parameters.zero_point
        found = DEQUANTIZERS[self.row.dequantize](centred, parameters.scale.astype(F64))
        return found.astype(F32)

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

ConventionLike: TypeAlias = "str | Convention"


def find(which: ConventionLike) -> Convention:
    """Return a convention by its name; one of the caller's own is taken as it is."""
    if isinstance(which, Convention):
        return which
    known = {row.name: row for row in _ROWS}
    if not isinstance(which, str) or which not in known:
        raise ValueError(f"no convention is called {which!r}; there are {', '.join(known)}")
    return known[which]


def plan(
    which: ConventionLike, scheme: str | None, *, scale: Any = None, dtype: str | None = None
) -> Plan:
    """Return a convention with its scheme, or for a given scale, and a dtype of codes."""
    row = find(which)
    names = [s.name for s in row.schemes if s.name != "given"]
    if scheme is not None and scale is not None:
        raise TypeError("give a scheme or a scale, not both")
    if scale is not None:
        number = interop.to_numpy(scale)
        if number.ndim or number.dtype.kind not in "fiu":
            raise TypeError(f"scale must be one number, got {scale!r}")
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
    return Plan(row, chosen, dtype or row.dtypes[0])


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


def conventions() -> tuple[Convention, ...]:
    """Return how known libraries quantise, a row each.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [row.name for row in ff.conventions()][:4]
    ['floatfmt', 'article', 'torch', 'torch_fake']
    >>> print(ff.conventions()[2])
    torch           torch.quantize_per_tensor, on x86 with AVX2
    proof           torch 2.13.0, in the tests
    does            x * (1 / scale) in fp32, rounded half even
    zero point      added before rounding, fused
    NaN             highest
    codes           int8 or uint8
    scale of a      tensor
    value           (code - zero point) * scale
    """
    return _ROWS


_ROWS = (
    Convention(
        "floatfmt",
        "ff.quantize: the correctly rounded quotient by the stored scale",
        "floatfmt itself, in the tests",
        schemes=(
            Scheme(
                "absmax",
                scale="spread / levels, never 0",
                constant="scale is 1",
                lowest=-127,
            ),
            Scheme(
                "zeropoint",
                spread="range",
                levels=255,
                scale="spread / levels, never 0",
                zero_point="rint(lowest - low / scale)",
                constant="scale is its size",
            ),
        ),
        precision="fp64",
        nan="refused",
        dtypes=("int8",),
        dequantize="* scale, rounded once",
    ),
    Convention(
        "article",
        "'Introduction to Weight Quantization' (M. Labonne, 2023), on torch",
        "its operations in torch 2.13.0, in the tests",
        schemes=(
            # torch divides a number by a tensor as the tensor's reciprocal times the number
            Scheme("absmax", scale="1 / spread * levels", clamp="none"),
            Scheme(
                "zeropoint",
                spread="range",
                levels=255,
                scale="1 / spread * levels",
                zero_point="rint(-multiplier * low + lowest)",
                constant="spread is 1",
            ),
        ),
        takes_scale=False,
        multiplier="1 / spread * levels",
        adds_zero_point="before rounding",
        dtypes=("int8",),
        takes_empty=False,
        dequantize="/ scale",
    ),
    Convention(
        "torch",
        "torch.quantize_per_tensor, on x86 with AVX2",
        "torch 2.13.0, in the tests",
        multiplier="1 / scale",
        adds_zero_point="before rounding",
        fused=True,
        nan="highest",
    ),
    Convention(
        "torch_fake",
        "torch.fake_quantize_per_tensor_affine, on the CPU",
        "torch 2.13.0, in the tests",
        multiplier="1 / scale",
        nan="lowest",
    ),
    Convention(
        "onnx",
        "QuantizeLinear of ONNX, as ONNX Runtime does it on the CPU",
        "onnxruntime 1.32.0, by hand",
        nan="lowest",
    ),
    Convention(
        "onnx_dynamic",
        "DynamicQuantizeLinear of ONNX, as ONNX Runtime does it on the CPU",
        "onnxruntime 1.32.0, by hand",
        schemes=(
            Scheme(
                "zeropoint",
                spread="range with 0",
                levels=255,
                zero_point="rint(clamp(lowest - low / scale)), 0 in range",
                constant="scale is 1",
            ),
        ),
        takes_scale=False,
        nan="lowest",
        dtypes=("uint8",),
    ),
    Convention(
        "ggml_q8_0",
        "Q8_0 of ggml, the reference in C: a scale for every 32 values",
        "gguf 0.19.0, its twin in NumPy, by hand",
        schemes=(Scheme("absmax", constant="multiplier is 0", clamp="none"),),
        takes_scale=False,
        multiplier="1 / scale",
        rounding="half away",
        dtypes=("int8",),
        over="block of 32",
        dequantize="* fp16(scale)",
    ),
    Convention(
        "ggml_q8_0_avx2",
        "Q8_0 of ggml with AVX2, for activations",
        "by its source only",
        schemes=(Scheme("absmax", constant="multiplier is 0", clamp="none"),),
        takes_scale=False,
        multiplier="levels / spread",
        dtypes=("int8",),
        over="block of 32",
        dequantize="* fp16(scale)",
    ),
    Convention(
        "bitsandbytes",
        "int8_vectorwise_quant of bitsandbytes on the CPU: a scale for every row",
        "bitsandbytes 0.50.2 with torch 2.13.0, by hand",
        schemes=(Scheme("absmax", scale="spread", clamp="none"),),
        takes_scale=False,
        multiplier="1 / spread * levels",
        dtypes=("int8",),
        over="row",
        takes_empty=False,
        dequantize="* scale * (1 / 127)",
    ),
)
