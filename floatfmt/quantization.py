"""Quantisation: values as codes that mean something together with a scale.

The code is the correctly rounded quotient of x by the scale that is stored. Formulas are float64
arithmetic on exact input values, ``rint`` rounds half to even. `schemes.py` has the schemes, a row
each, `groups.py` what shares a scale; here is what a caller may ask for.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import interop
from .backends import Backend, current_backend
from .elements import Codebook, Elements, Integers
from .formats import Format, FormatLike, format
from .groups import AxisGroups, BlockGroups, Groups
from .quantized import Quantized
from .quantizing import Ends, OnePass, Parameters, Plan, one_pass, run
from .rounding import Rounding, rounding_mode, word64
from .schemes import POWER_RULES, SCHEMES, Scheme, find

if TYPE_CHECKING:
    from .convention import ConventionLike

__all__ = ["absmax", "quantize", "settle", "zeropoint"]

SCALE_FORMATS = ("fp64", "fp32", "fp16", "bf16", "fp8_e8m0fnu")
NONFINITE = ("error", "saturate", "ignore")


def quantize(
    x: Any,
    scheme: str | Elements | None = None,
    *,
    bits: int | None = None,
    signed: bool | None = None,
    scale: Any = None,
    zero_point: Any = None,
    min: Any = None,
    max: Any = None,
    axis: int | Sequence[int] | None = None,
    block: int | None = None,
    block_axis: int | None = -1,
    rounding: str | Rounding = "nearest_even",
    seed: int | None = None,
    clip: str | float | None = None,
    scale_dtype: FormatLike | None = None,
    scale_rule: str | None = None,
    include_zero: bool = False,
    double_quantization: bool = False,
    nonfinite: str = "error",
    convention: ConventionLike = "floatfmt",
    out: Any = None,
) -> Quantized:
    """Quantise.

    Parameters
    ----------
    x : array
        Finite fp64, fp32, fp16 or bf16 values; NumPy or torch, any shape, strides and byte order.
        fp8 and narrower ones become fp16 (e8m0 bf16), which holds them.
    scheme : str, Codebook or Format
        How codes, scale and zero point follow from x:

        - absmax: ``scale = max(abs(x)) / L``, zero point 0, codes -L to L, L = 2**(bits - 1) - 1;
        - zeropoint: ``scale = (max(x) - min(x)) / (2**bits - 1)``,
          ``zero_point = rint(lowest - min(x) / scale)``, all codes;
        - nf4, fp4, dynamic8, or a codebook of your own: the nearest value of a table, times the
          scale, which is the block's largest magnitude over the table's;
        - mxfp8_e4m3fn, mxfp8_e5m2, mxfp6_e2m3fn, mxfp6_e3m2fn, mxfp4, mxint8: OCP Microscaling;
        - nvfp4: E2M1 in blocks of 16, the scales E4M3 times one fp32 scale for the tensor (fp64
          for fp64 values), which is the largest magnitude / (6 * 448);
        - fp8_e4m3fn, fp8_e5m2, or any format of at most 8 bits: the largest magnitude becomes the
          format's.
    bits, signed : int and bool
        For integer codes: 2 to 8 bits, 8 by default; signed by default.
    scale, zero_point : float and int, or arrays, instead of `scheme`, or beside a table's
        Given from elsewhere: ``codes = clamp(rint(x / scale) + zero_point)``. The scale is rounded
        to `scale_dtype` first, and has to lie within its range; zero_point is 0 by default, and an
        integer within ±2**62 that float64 holds exactly.
    min, max : float or array, optional
        The range that the scheme takes for that of x, scalars or one a group; values beyond are
        clamped. For all schemes but zeropoint one of them is enough: the larger magnitude counts.
    axis : int or sequence of int, optional
        The axis or axes whose every index gets a scale of its own (torch's per-channel axis), not
        the axis reduced over. By default the whole array shares one scale, or each block does.
    block, block_axis : int, and int or None
        As many neighbours along the axis share a scale; the last block may be short. None takes all
        values in C order, whatever the shape.
    rounding : str
        A mode of ``ff.Rounding``. For codebooks a tie goes to the value of even rank, to_odd takes
        the neighbour of odd rank, and toward_zero the one of lesser magnitude.
    seed : int, optional
        For stochastic rounding, as in ``ff.encode``: Philox4x32-10 with the flat index as counter.
    clip : float or "mse", optional
        Leaves outliers out of the range: a percentile of the magnitudes, such as 99.9 (of both ends
        under zeropoint), by nearest rank; or, of the range times 1.00, 0.99, ... 0.20, the one with
        the least mean squared error.
    scale_dtype : format, optional
        Format of the stored scale: fp64, fp32, fp16, bf16 or e8m0; by default fp64 for fp64 values,
        else fp32. A scale is rounded to nearest, but up where it is subnormal, so it is never 0,
        and up to a power of two in e8m0.
    scale_rule : {"floor", "ceil", "even", "rceil"}, optional
        How a power-of-two scale follows from the largest magnitude: floor is OCP's and the default
        of the mx schemes, under which the largest values may be clamped; rceil clamps nothing.
    include_zero : bool
        For zeropoint: widen the range to hold 0, so that the zero point is one of the codes, as
        torch and ONNX need it.
    double_quantization : bool
        Quantise the scales too, as QLoRA does: less their mean, by dynamic8 in blocks of 256.
    nonfinite : {"error", "saturate", "ignore"}
        What becomes of Inf and NaN. "saturate" gives Inf the outermost codes and NaN that of 0,
        "ignore" gives both that of 0; for the scale they count as 0. `Quantized.nonfinite` counts.
    convention : str or Convention
        Whose rules: a name of ``ff.conventions()``, such as "torch" or "bitsandbytes_nf4". Codes,
        scale and zero point are that library's bit for bit, in NumPy at its speed; of the other
        options those that it has go with it: `scheme`, `scale`, `zero_point`, `signed`, `axis`,
        `block`. Codes of less than 8 bits are packed as floatfmt packs them.
    out : array, optional
        Where the codes go: int8 for signed integers, else uint8, in x's shape; for codes of less
        than 8 bits uint8 in the shape of `Quantized.packed`.

    Returns
    -------
    Quantized

    Raises
    ------
    ValueError
        A value is NaN or Inf (the message names the first), a scale is not positive and finite, an
        axis is out of range, a scheme or option is unknown.
    TypeError
        x holds no floats; neither a `scheme` nor a `scale` is given; options do not go together.

    Notes
    -----
    All zeros give codes 0, scale 1. A constant c has scale abs(c), rounded to `scale_dtype`, and
    zero point 0 under zeropoint (1 for unsigned codes of negative c). An empty array gives an
    empty result with scale 1.

    Unless a value is clamped, it comes back within half a step between the codes' values, as long
    as abs(x / scale) stays below 2**52: beyond, which takes an fp64 range far narrower than its
    distance from 0, float64 has no halves. absmax clamps nothing, unless a coarse `scale_dtype`
    makes it; under zeropoint an end may lie half a step outside the codes. `Quantized.saturated`
    counts. A tie between two values of a table of float64s, or between fp64 values' codes, is found
    to within float64's rounding.

    Values of the `nf4`, `fp4` and `dynamic8` tables are bitsandbytes'; what that library makes of
    them differs in ties, rounding and zeros: see ``ff.conventions()``. Sources: OCP Microscaling
    Formats (MX) v1.0; QLoRA, arXiv 2305.14314; the NVFP4 scales of torchao, but that a block's
    scale may be a subnormal E4M3.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> q = ff.quantize(np.float64([-3.0, 0.1, 3.2]), "zeropoint")
    >>> q.codes, int(q.zero_point), round(1 / float(q.scale), 2)
    (array([-128,   -1,  127], dtype=int8), -5, 41.13)
    >>> ff.quantize(np.float32([1.0, 99.0]), scale=0.5, zero_point=3).codes
    array([  5, 127], dtype=int8)
    >>> q = ff.quantize(np.float32([[0.1, -3.0, 3.2], [0.5, 0.0, -0.25]]), "mxfp4")
    >>> q.codes.tolist(), q.scale.astype(np.float32).tolist(), q.packed.shape
    ([[0, 15, 7], [6, 0, 12]], [[0.5], [0.125]], (2, 2))
    """
    if convention != "floatfmt":
        from .by_convention import quantize_as  # loads all conventions, which few ask for

        _refuse_with_convention(
            convention,
            bits=bits,
            min=min,
            max=max,
            clip=clip,
            seed=seed,
            scale_dtype=scale_dtype,
            scale_rule=scale_rule,
            out=out,
            include_zero=include_zero or None,
            double_quantization=double_quantization or None,
            rounding=None if rounding == "nearest_even" else rounding,
            nonfinite=None if nonfinite == "error" else nonfinite,
        )
        if scheme is not None and not isinstance(scheme, str):
            raise TypeError(f"scheme must be a name of the convention's, got {scheme!r}")
        return quantize_as(
            x,
            convention,
            scheme,
            signed=signed,
            scale=scale,
            zero_point=zero_point,
            axis=axis,
            block=block,
        )
    options = (
        scheme, scale is not None, axis, block, block_axis, bits, signed, scale_dtype, scale_rule,
        include_zero, double_quantization, clip, rounding, seed, nonfinite,
    )  # fmt: skip
    return _quantize(x, options, scale, zero_point, min, max, out)


def absmax(
    x: Any,
    *,
    bits: int | None = None,
    axis: int | Sequence[int] | None = None,
    block: int | None = None,
    block_axis: int | None = -1,
    scale_dtype: FormatLike | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise to integers by the largest magnitude: ``quantize(x, "absmax")``.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.absmax(np.float32([[0.1, 3.2], [0.5, 1.0]]), axis=0).codes
    array([[  4, 127],
           [ 64, 127]], dtype=int8)
    """
    options = ("absmax", False, axis, block, block_axis, bits, None, scale_dtype)
    return _quantize(x, options, None, None, None, None, out)


def zeropoint(
    x: Any,
    *,
    bits: int | None = None,
    signed: bool | None = None,
    axis: int | Sequence[int] | None = None,
    block: int | None = None,
    block_axis: int | None = -1,
    scale_dtype: FormatLike | None = None,
    out: Any = None,
) -> Quantized:
    """Quantise to integers by range and zero point: ``quantize(x, "zeropoint")``.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> ff.zeropoint(np.float32([0.0, 0.5, 1.0])).codes
    array([-128,   -1,  127], dtype=int8)
    """
    options = ("zeropoint", False, axis, block, block_axis, bits, signed, scale_dtype)
    return _quantize(x, options, None, None, None, None, out)


def _quantize(
    x: Any,
    options: tuple[Any, ...],
    scale: Any,
    zero_point: Any,
    min: Any,
    max: Any,
    out: Any,
) -> Quantized:
    """Quantise, given the scheme, whether there is a scale, and the first of `_OPTIONS`."""
    values = interop.float_array(x, decodes=True)
    backend: Any = current_backend()
    try:
        settled = _kept(backend, values.shape, values.dtype, *options)
    except TypeError:  # to be told without this one
        settled = None
    plan, groups, once, numbers = settled or _settled(backend, values.shape, values.dtype, *options)
    if scale is None and zero_point is not None:
        raise TypeError("a zero_point goes with a scale; a scheme finds its own")
    plain = None if scale is None else _plain(scale, zero_point)
    if once is not None and min is None and max is None and (scale is None or plain is not None):
        given = None
        if plain is not None:
            kept, zeros = numbers(*plain)
            given = kept.copy(), zeros  # the result's scale may be it
        done = once(x, values, given, out)
        if done is not None:
            return done
    with backend.float_environment():
        given = None if scale is None else _given(scale, zero_point, groups, plan, backend)
        ends = _calibrated(min, max, groups, plan, given is not None)
        done = None if given is None or once is None else once(x, values, given, out)
        if done is not None:
            return done
        return run(x, values, plan, groups, ends=ends, given=given, out=out)


# --- arguments ----------------------------------------------------------------------------------


def settle(
    shape: tuple[int, ...],
    source: Format,
    scheme: str | Elements | None,
    *,
    has_scale: bool = False,
    axis: int | Sequence[int] | None = None,
    block: int | None = None,
    block_axis: int | None = -1,
    **options: Any,
) -> tuple[Plan, Groups]:
    """Return what the options of `quantize` come to for values of a shape and format.

    Raises
    ------
    TypeError, ValueError
        As `quantize`.
    """
    plan = _plan(source, scheme, has_scale, **options)
    return plan, _groups(shape, plan.scheme, axis, block, block_axis)


#: What `_given` makes of a float and an integer or None, which is kept.
Numbers: TypeAlias = Callable[[float, "int | None"], "Parameters"]
Settled: TypeAlias = "tuple[Plan, Groups, OnePass | None, Numbers]"
#: Options of these types cannot change, and their hash and type tell all there is to them.
_PLAIN = frozenset((type(None), bool, int, float, str, Codebook, Format, Rounding))


_OPTIONS = (
    *("axis", "block", "block_axis", "bits", "signed", "scale_dtype", "scale_rule"),
    *("include_zero", "double_quantization", "clip", "rounding", "seed", "nonfinite"),
)


def _settled(
    backend: Backend,
    shape: tuple[int, ...],
    dtype: np.dtype,
    scheme: Any,
    has_scale: bool,
    *options: Any,
) -> Settled:
    """Return what `settle` does, how one kernel call does it all where it can, and `_given`."""
    named = dict(zip(_OPTIONS, options, strict=False))  # the last ones may be left out
    plan, groups = settle(shape, format(dtype), scheme, has_scale=has_scale, **named)

    @functools.lru_cache(maxsize=16)
    def numbers(scale: float, zero_point: int | None) -> Parameters:
        with backend.float_environment():
            return _given(scale, zero_point, groups, plan, backend)

    return plan, groups, one_pass(plan, groups, backend, has_scale), numbers


@functools.lru_cache(maxsize=256, typed=True)
def _kept(backend: Backend, shape: tuple[int, ...], dtype: np.dtype, *options: Any) -> Settled:
    """Return what `_settled` does, and keep it; TypeError if the options might change."""
    if not _PLAIN.issuperset(map(type, options)):
        raise TypeError(f"options are not kept: {options}")
    return _settled(backend, shape, dtype, *options)


def _refuse_with_convention(convention: ConventionLike, **options: Any) -> None:
    for name, option in options.items():
        if option is not None:
            raise TypeError(
                f"{name}= does not go with convention={str(convention)!r}, which has its own"
            )


def _plan(
    source: Format,
    which: str | Elements | None,
    has_scale: bool,
    *,
    bits: int | None = None,
    signed: bool | None = None,
    scale_dtype: FormatLike | None = None,
    scale_rule: str | None = None,
    include_zero: bool = False,
    double_quantization: bool = False,
    clip: str | float | None = None,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    seed: int | None = None,
    nonfinite: str = "error",
) -> Plan:
    if which is None and not has_scale:
        raise TypeError(f"give a scheme ({', '.join(map(repr, SCHEMES))}) or a scale")
    scheme = Scheme("given", "a scale from elsewhere") if which is None else find(which)
    if has_scale and which is not None and scheme.elements is None:
        raise TypeError(f"give a scheme ({scheme.name!r}) or a scale, not both: it finds its own")
    elements = scheme.elements or _integers(scheme, bits, signed)
    if scheme.elements is not None and not (bits is None and signed is None):
        raise TypeError(f"bits= and signed= are for integers; {scheme.name} has its own codes")
    for name, flag in (
        ("signed", signed),
        ("include_zero", include_zero),
        ("double_quantization", double_quantization),
    ):
        if not (flag is None or isinstance(flag, (bool, np.bool_))):
            raise TypeError(f"{name} must be True or False, got {flag!r}")
    if include_zero and scheme.spread != "range":
        raise TypeError(f"include_zero= is for zeropoint, not {scheme.name}")
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite must be one of {', '.join(NONFINITE)}, got {nonfinite!r}")
    mode = rounding_mode(rounding)
    stochastic = mode is Rounding.STOCHASTIC
    if seed is not None and not stochastic:
        raise TypeError(f"a seed is for stochastic rounding, not {mode}")
    given_seed = None if seed is None else word64(seed)
    rule = _power_rule(scheme, scale_rule, has_scale)
    if double_quantization and has_scale:
        raise TypeError("double_quantization= quantises scales that are found, not a given one")
    if double_quantization and scale_dtype is not None:
        raise TypeError(
            f"double_quantization= stores the scales, so scale_dtype={scale_dtype!r} cannot"
        )
    if double_quantization and (rule or scheme.two_level or scheme.spread == "range"):
        raise TypeError(f"double_quantization= is for scales that are floats, not {scheme.name}'s")
    scale_format = _scale_format(scheme, rule, scale_dtype, source)
    if double_quantization:
        scale_format = format("fp32")
    return Plan(
        scheme=scheme,
        elements=elements,
        scale_format=scale_format,
        power_rule=rule,
        include_zero=bool(include_zero),
        double=bool(double_quantization),
        clip=_clip(clip, has_scale),
        rounding=mode,
        seed=given_seed,
        nonfinite=nonfinite,
        source=source,
    )


def _integers(scheme: Scheme, bits: int | None, signed: bool | None) -> Integers:
    try:
        if isinstance(bits, bool):
            raise TypeError
        n = 8 if bits is None else operator.index(bits)
    except TypeError:
        raise TypeError(f"bits must be an integer, got {bits!r}") from None
    if not 2 <= n <= 8:
        raise ValueError(f"bits must be from 2 to 8, got {bits!r}")
    is_signed = True if signed is None else bool(signed)
    if scheme.name == "absmax":
        if not is_signed:
            raise ValueError("absmax is symmetric and needs signed codes; zeropoint takes unsigned")
        # -2**(n - 1) stays unused.
        return Integers(n, True, -(2 ** (n - 1)) + 1, 2 ** (n - 1) - 1)
    low = -(2 ** (n - 1)) if is_signed else 0
    return Integers(n, is_signed, low, low + 2**n - 1)


def _power_rule(scheme: Scheme, rule: str | None, has_scale: bool) -> str | None:
    if rule is None:
        return scheme.power_rule
    if rule not in POWER_RULES:
        raise ValueError(f"scale_rule must be one of {', '.join(POWER_RULES)}, got {rule!r}")
    if has_scale:
        raise TypeError("scale_rule= finds a scale; it does not go with a given one")
    if scheme.spread == "range" or scheme.two_level:
        raise TypeError(f"scale_rule= is for scales that follow from absmax, not {scheme.name}'s")
    return rule


def _scale_format(
    scheme: Scheme, rule: str | None, wanted: FormatLike | None, source: Format
) -> Format:
    own = "fp8_e8m0fnu" if rule else scheme.scale_format
    if wanted is None:
        return format(own or ("fp64" if source.name == "fp64" else "fp32"))
    fmt = format(wanted)
    if own is not None and fmt.name != own:
        raise TypeError(f"the scales of {scheme.name} are {own}, got scale_dtype={wanted!r}")
    if fmt.name not in (*SCALE_FORMATS, own):
        raise ValueError(f"scale_dtype must be one of {', '.join(SCALE_FORMATS)}, got {wanted!r}")
    return fmt


def _clip(clip: str | float | None, has_scale: bool) -> str | float | None:
    if clip is None:
        return None
    if has_scale:
        raise TypeError("clip= finds a scale; it does not go with a given one")
    if isinstance(clip, str) and clip == "mse":
        return "mse"
    is_number = isinstance(clip, (int, float, np.integer, np.floating))
    percentile = float(clip) if is_number and not isinstance(clip, bool) else math.nan
    if not 0 < percentile <= 100:
        raise ValueError(f"clip must be 'mse' or a percentile above 0, at most 100; got {clip!r}")
    return percentile


def _groups(
    shape: tuple[int, ...],
    scheme: Scheme,
    axis: int | Sequence[int] | None,
    block: int | None,
    block_axis: int | None,
) -> Groups:
    axes = interop.kept_axes(axis, len(shape))
    if block is None and axis is None and scheme.block is not None:
        block = scheme.block
        if scheme.flat and block_axis == -1:  # not asked for
            block_axis = None
    if block is None:
        if block_axis != -1 and shape:
            raise TypeError(
                f"block_axis={block_axis!r} needs block=, the values that share a scale"
            )
        return AxisGroups(shape, axes)
    if axis is not None:
        raise TypeError(
            f"axis={axis!r} and block={block!r}: a block has a scale of its own on every other axis"
        )
    try:
        if isinstance(block, bool):
            raise TypeError
        size = operator.index(block)
    except TypeError:
        raise TypeError(f"block must be an integer, got {block!r}") from None
    if size < 1:
        raise ValueError(f"block must be at least 1, got {block!r}")
    if block_axis is None or not shape:
        return BlockGroups(shape, size, None)
    return BlockGroups(shape, size, interop.one_axis(block_axis, len(shape), "block_axis"))


def _given(scale: Any, zero_point: Any, groups: Groups, plan: Plan, backend: Backend) -> Parameters:
    if plan.scheme.two_level or plan.double:
        raise TypeError(f"{plan.scheme.name} stores its scales in two parts; it takes no scale=")
    wide = _given_scale(scale, plan.scale_format)
    rounded = backend.absmax_scale(wide.reshape(-1), plan.scale_format, 1)
    scales = _for_groups(rounded.reshape(wide.shape), groups, "scale")
    if not isinstance(plan.elements, Integers):
        if zero_point is not None:
            raise TypeError(f"a zero_point is for integers, not for {plan.scheme.name}")
        return scales, None
    return scales, _for_groups(_given_zero_point(zero_point), groups, "zero_point")


def _plain(scale: Any, zero_point: Any) -> tuple[float, int | None] | None:
    """Return a scale and a zero point that are scalars, as Python has them, or None."""
    if not isinstance(scale, (float, np.floating)):
        return None
    if zero_point is None or type(zero_point) is int:
        return float(scale), zero_point
    # timedelta64 is an np.integer.
    if not isinstance(zero_point, np.integer) or isinstance(zero_point, np.timedelta64):
        return None
    return float(scale), int(zero_point)


def _given_scale(scale: Any, scale_format: Format) -> np.ndarray:
    given = interop.to_numpy(scale)
    if given.dtype.kind not in "fViu":
        raise TypeError(f"scale must be a number or an array of numbers, got {scale!r}")
    wide = np.asarray(given, np.float64)
    least, most = _range_of(scale_format)
    if wide.ndim == 0 and least <= wide.item() <= most:
        return wide

    def wrong(scales: np.ndarray) -> np.ndarray:
        return ~((scales >= least) & (scales <= most))

    if wrong(wide).any():
        position, value = interop.first_where(wide, wrong, "scale")
        raise ValueError(
            f"{position} is {value}; a scale is positive and finite, in {scale_format} from"
            f" {least:.3g} to {most:.3g}"
        )
    return wide


@functools.lru_cache(maxsize=64)
def _range_of(scale_format: Format) -> tuple[float, float]:
    return float(scale_format.min_positive), float(scale_format.max_finite)


def _given_zero_point(zero_point: Any) -> np.ndarray:
    given = interop.to_numpy(0 if zero_point is None else zero_point)
    whole: list[Any] = given.reshape(-1).tolist() if given.dtype.kind in "iuO" else [None]
    if not all(isinstance(n, int) for n in whole):
        raise TypeError(f"zero_point must be an integer, got {interop.describe(zero_point)}")
    for n in whole:
        if abs(n) > 2**62 or int(float(n)) != n:
            raise ValueError(f"zero_point {n} is not within ±2**62 and exact in float64")
    return given.astype(np.float64)


def _for_groups(given: np.ndarray, groups: Groups, name: str) -> np.ndarray:
    """Return a given parameter, one value or one a group, in the shape of the parameters."""
    if given.size == 1:
        one, shape = given.reshape(()), groups.parameter_shape
        return np.full(shape, one) if shape else one
    shapes = [(), groups.scale_shape]
    if isinstance(groups, AxisGroups):
        shapes.append(groups.parameter_shape)  # without the axes of length 1
    if given.shape == groups.scale_shape:
        return np.ascontiguousarray(groups.from_scales(given))
    if given.shape in shapes:
        return np.ascontiguousarray(given)
    kind = f"axis={groups.axes or None}" if isinstance(groups, AxisGroups) else "these blocks"
    known = " or ".join(map(str, dict.fromkeys(shapes)))
    raise ValueError(f"{name} has shape {given.shape}; with {kind} it has {known}")


def _calibrated(low: Any, high: Any, groups: Groups, plan: Plan, has_scale: bool) -> Ends:
    """Return the given ends of the range, in the shape of the parameters."""
    if low is None and high is None:
        return None, None
    if isinstance(plan.clip, float):
        raise TypeError(f"clip={plan.clip} finds the range, and so do min= and max=; give one")
    if has_scale:
        raise TypeError("min= and max= find a scale; they do not go with a given one")
    first, last = (_given_end(end, groups, name) for name, end in (("min", low), ("max", high)))
    if first is not None and last is not None and (first > last).any():
        raise ValueError(f"min={low!r} lies above max={high!r}")
    return first, last


def _given_end(end: Any, groups: Groups, name: str) -> np.ndarray | None:
    if end is None:
        return None
    wide = interop.to_numpy(end)
    if wide.dtype.kind not in "fViu" or not np.isfinite(wide.astype(np.float64)).all():
        raise ValueError(f"{name} must be finite numbers, got {end!r}")
    return _for_groups(wide.astype(np.float64), groups, name)
