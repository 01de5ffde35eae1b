"""What casts are known to do: profiles, made of a choice for each kind of input.

A profile is data; `Profile.codes` does what it says. `KNOWN` has a row for each behaviour that is
described somewhere: by a standard, a specification, a library at a version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np

from ..arrays import decode, encode
from ..backends import current_backend
from ..formats import Format, format
from ..rounding import Rounding
from ..spelling import brief
from .inputs import Batch

__all__ = [
    "KNOWN",
    "ROUNDINGS",
    "VIA",
    "Known",
    "Pair",
    "Profile",
    "any_nan",
    "known_profiles",
]

#: Codes for positive and for negative inputs.
Pair: TypeAlias = tuple[int, int]

#: What else than ff.Rounding's modes casts do at ties, or altogether.
OTHER_ROUNDINGS = ("ties_to_odd", "ties_toward_zero", "ties_up", "ties_down", "away_from_zero")
ROUNDINGS = (*(mode.value for mode in Rounding if mode != "stochastic"), *OTHER_ROUNDINGS)
#: Formats through which a cast may go.
VIA = ("fp32", "tf32", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a cast does, kind of input by kind of input.

    Attributes
    ----------
    rounding : str
        A mode of ``ff.encode``, or "ties_to_odd", "ties_toward_zero", "ties_up", "ties_down",
        "away_from_zero".
    via : str or None
        A format to whose nearest values inputs are rounded first.
    overflow : str or pair of codes
        What finite values beyond the range become: a word of ``ff.encode``, "wraps" (the code's
        upper bits are cut off), or codes for positive and negative ones.
    threshold : {"rounded", "largest"}
        Whether those values overflow that round beyond the largest one, or all that exceed it.
    infinity, zero : str or pair of codes or None
        What Inf and zeros become; None: what `overflow` and the format say.
    nan : str or pair of codes
        A word of ``ff.encode``; "truncated" (the payload's lower bits are cut off, which may leave
        Inf); "carried" (the bits are rounded like a number's, which may carry into the sign).
    subnormals : str
        What becomes of results among the target's subnormals: "keep", "flush"; "flush_early": of
        inputs below its smallest normal value, whatever they round to; "flush_inputs": of the
        source's own subnormals; "twice": they are rounded to the precision of normal values first;
        "truncate".
    sign : {"keep", "drop"}
        "drop": magnitudes are cast.
    least : {"keep", "up"}
        In a format without zero, whether inputs above the least value and short of the midpoint go
        up.

    Examples
    --------
    >>> from floatfmt.audit.profiles import Profile
    >>> print(Profile("toward_zero", overflow="saturate"))
    toward_zero, saturating
    """

    rounding: str = "nearest_even"
    via: str | None = None
    overflow: str | Pair = "ieee"
    threshold: str = "rounded"
    infinity: str | Pair | None = None
    nan: str | Pair = "quiet"
    subnormals: str = "keep"
    zero: Pair | None = None
    sign: str = "keep"
    least: str = "keep"

    def __str__(self) -> str:
        return self.words(None)

    def words(self, target: Format | None) -> str:
        """Return the profile in words; with a target, codes are given as its values."""
        said = [self.rounding]
        for name, value in self.changes(Profile(self.rounding)):
            said.append(_in_words(name, value, target))
        return ", ".join(dict.fromkeys(said))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes; pairs of codes are lists."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}

    def changes(self, since: Profile) -> Iterator[tuple[str, Any]]:
        """Yield the choices in which this differs from another profile."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value != getattr(since, item.name):
                yield item.name, value

    @property
    def is_plain(self) -> bool:
        """Whether `encode` does it by its options."""
        others = Profile(self.rounding, None, self.overflow, nan=self.nan)
        return (
            self.rounding not in OTHER_ROUNDINGS
            and self.overflow in ENCODES_OVERFLOW
            and self.nan in ENCODES_NAN
            and replace(self, subnormals="keep") == others
            and self.subnormals in ("keep", "flush")
        )

    def codes(self, batch: Batch, target: Format, out: np.ndarray | None = None) -> np.ndarray:
        """Return the codes that a cast of this profile gives; `out` may be used for them."""
        if self.is_plain:
            how = self._options(target)
            return encode(batch.values, target, rounding=self.rounding, **how, out=out)
        with current_backend().float_environment():  # whatever the cast that is judged runs in
            return self._codes(batch, target).astype(target.code_dtype, copy=False)

    def _codes(self, batch: Batch, target: Format) -> np.ndarray:
        values = self._prepared(batch, target)
        codes = _rounded(values, target, self.rounding, self._options(target))
        wide = values.astype(np.float64)
        if self.subnormals in ("flush_early", "truncate") and target.min_normal is not None:
            tiny = np.abs(wide) < float(target.min_normal)
            zeros = _by_sign((0, target.sign_bit * target.has_negative_zero), wide)
            cut = (
                zeros
                if self.subnormals == "flush_early"
                else encode(values, target, rounding="toward_zero", **self._options(target))
            )
            codes = np.where(tiny, cut, codes)
        if self.least == "up":
            least = float(target.min_positive)
            codes = np.where((wide > least) & (wide < 2 * least), 1, codes)
        if self.overflow not in ENCODES_OVERFLOW or self.threshold != "rounded":
            codes = self._overflowed(codes, wide, target)
        if self.infinity is not None:
            codes = np.where(np.isinf(wide), _by_sign(self._infinity(target), wide), codes)
        if self.zero is not None:
            codes = np.where(wide == 0, _by_sign(self.zero, wide), codes)
        if self.nan not in ENCODES_NAN:
            codes = self._nans(codes, batch, target)
        return codes

    def _options(self, target: Format) -> dict[str, Any]:
        nan = self.nan if self.nan in ENCODES_NAN else "quiet"
        if target.nan is None and nan not in ("zero", "largest"):
            nan = "zero" if target.zero else "largest"
        return {
            "overflow": str(self.overflow if self.overflow in ENCODES_OVERFLOW else "ieee"),
            "nan": str(nan),
            "subnormals": "flush" if self.subnormals == "flush" else "keep",
        }

    def _prepared(self, batch: Batch, target: Format) -> np.ndarray:
        """Return the values that are rounded to the target."""
        values, source = batch.values, batch.source
        via = None if self.via is None else format(self.via)
        if self.subnormals == "twice" and not target.is_integer:
            via = Format("as precise", 11, target.fraction_bits)
        if via is not None:
            values = decode(encode(values, via, nan="preserve"), via)
        if self.subnormals == "flush_inputs" and source.min_normal is not None:
            tiny = np.abs(values.astype(np.float64)) < float(source.min_normal)
            values = np.where(tiny, np.copysign(np.zeros(1, values.dtype), values), values)
        return np.abs(values) if self.sign == "drop" else values

    def _overflowed(self, codes: np.ndarray, wide: np.ndarray, target: Format) -> np.ndarray:
        if self.threshold == "largest":
            beyond = (wide > float(target.max_finite)) | (wide < float(target.lowest))
        else:
            beyond = _rounds_beyond(wide, target, self.rounding)
        beyond &= np.isfinite(wide)
        if self.overflow == "wraps":
            return np.where(beyond, _wrapped(wide, target, self.rounding), codes)
        return np.where(beyond, _by_sign(_beyond(self.overflow, target), wide), codes)

    def _infinity(self, target: Format) -> Pair:
        assert self.infinity is not None
        if self.infinity == "ieee" and target.infinity_code is not None:
            return target.infinity_code, target.infinity_code | target.sign_bit
        return _beyond(self.infinity, target)

    def _nans(self, codes: np.ndarray, batch: Batch, target: Format) -> np.ndarray:
        nans = np.isnan(batch.wide)
        if isinstance(self.nan, str):
            return np.where(nans, _nan_by_bits(batch, target, self.nan == "carried"), codes)
        return np.where(nans, _by_sign(self.nan, batch.wide), codes)


ENCODES_OVERFLOW = ("ieee", "saturate", "nan")
ENCODES_NAN = ("quiet", "preserve", "canonical", "zero", "largest")


def _by_sign(pair: Pair, wide: np.ndarray) -> np.ndarray:
    positive, negative = np.array(pair, np.uint64)
    return np.where(np.signbit(wide), negative, positive)


def _beyond(overflow: str | Pair, target: Format) -> Pair:
    """Return the codes of what lies beyond the range, by a word of `encode` or as they are."""
    if not isinstance(overflow, str):
        return overflow
    huge = encode([1e308, -1e308], target, overflow=overflow)
    return int(huge[0]), int(huge[1])


# --- roundings ----------------------------------------------------------------------------------


def _rounded(
    values: np.ndarray, target: Format, rounding: str, options: dict[str, Any]
) -> np.ndarray:
    if rounding not in OTHER_ROUNDINGS:
        return encode(values, target, rounding=rounding, **options)
    near = encode(values, target, **options)
    up = encode(values, target, rounding="toward_positive", **options)
    down = encode(values, target, rounding="toward_negative", **options)
    negative = np.signbit(values)
    inner, outer = np.where(negative, up, down), np.where(negative, down, up)
    if rounding == "away_from_zero":
        return outer
    low, high = (decode(codes, target, dtype="fp64") for codes in (down, up))
    tie = (low != high) & (low / 2 + high / 2 == values.astype(np.float64))
    odd = np.where(inner & 1, inner, outer)
    taken = {
        "ties_to_odd": odd,
        "ties_toward_zero": inner,
        "ties_up": up,
        "ties_down": down,
    }
    codes = np.where(tie, taken[rounding], near)
    # Halfway beyond the largest value there is no upper neighbour to be decoded.
    wide = values.astype(np.float64)
    outside = (wide > float(target.max_finite)) | (wide < float(target.lowest))
    outside &= np.isfinite(wide)
    ended = np.where(_rounds_beyond(wide, target, rounding), outer, inner)
    return np.where(outside, ended, codes)


def _rounds_beyond(wide: np.ndarray, target: Format, rounding: str) -> np.ndarray:
    """Return which values round beyond the target's range."""
    last = target.max_code
    largest, lowest = float(target.max_finite), float(target.lowest)
    half = float(target.magnitude(last) - target.magnitude(last - 1)) / 2 if last else largest / 2
    if rounding in ("toward_zero", "to_odd"):
        return np.zeros(wide.shape, np.bool_)
    if rounding in ("toward_positive", "toward_negative", "away_from_zero"):
        above, below = wide > largest, wide < lowest
        return (above & (rounding != "toward_negative")) | (below & (rounding != "toward_positive"))
    goes_up = {
        "nearest_even": (last % 2 == 1,) * 2,
        "ties_to_odd": (last % 2 == 0,) * 2,
        "ties_toward_zero": (False, False),
        "ties_up": (True, False),
        "ties_down": (False, True),
    }.get(rounding, (True, True))
    above = (wide > largest + half) | (goes_up[0] & (wide == largest + half))
    below = (wide < lowest - half) | (goes_up[1] & (wide == lowest - half))
    return above | below


def _wrapped(wide: np.ndarray, target: Format, rounding: str) -> np.ndarray:
    """Return codes of values beyond the range whose magnitude goes on, its upper bits cut off."""
    bits = min(target.exponent_bits + 1, 11)
    go_on = {"signed": target.signed, "infinity": False, "nan": None, "zero": target.zero}
    if target.is_integer:
        whole = np.trunc if rounding == "toward_zero" else np.rint
        steps = np.mod(whole(wide / 2.0**target.step_exponent), 2.0**target.bits)
        return np.where(np.isfinite(steps), steps, 0).astype(np.uint64)
    if bits == target.exponent_bits or target.max_exponent >= 1023:
        return encode(wide, target, nan=any_nan(target)).astype(np.uint64)
    wider = Format("wider", bits, target.fraction_bits, target.bias, **go_on)  # type: ignore[arg-type]
    mode = rounding if rounding not in OTHER_ROUNDINGS else "nearest_even"
    codes = encode(wide, wider, rounding=mode, nan=any_nan(wider)).astype(np.uint64)
    sign = np.where(np.signbit(wide), np.uint64(target.sign_bit), np.uint64(0))
    return codes & np.uint64(target.magnitude_mask) | sign


def any_nan(target: Format) -> str:
    """Return a word of `encode` by which NaN has a code, if not one that is NaN."""
    return "quiet" if target.nan is not None else "zero" if target.zero else "largest"


def _nan_by_bits(batch: Batch, target: Format, carries: bool) -> np.ndarray:
    """Return what NaNs become whose bits are treated like a number's: cut off, or rounded."""
    wide = batch.codes.astype(np.uint64)
    shift = batch.source.fraction_bits - target.fraction_bits
    if target.nan != "ieee" or batch.source.nan != "ieee" or shift <= 0:
        return encode(batch.values, target, nan=any_nan(target)).astype(np.uint64)
    payload = wide & np.uint64(batch.source.fraction_mask)
    if carries:
        odd = payload >> np.uint64(shift) & np.uint64(1)
        payload = payload + np.uint64((1 << (shift - 1)) - 1) + odd
    code = (payload >> np.uint64(shift)) + np.uint64(target.exponent_mask << target.fraction_bits)
    sign = np.where(wide & np.uint64(batch.source.sign_bit) != 0, target.sign_bit, 0)
    return (code + sign.astype(np.uint64)) & np.uint64((1 << target.bits) - 1)


# --- words --------------------------------------------------------------------------------------

_WORDS = {
    ("overflow", "saturate"): "saturating",
    ("overflow", "nan"): "NaN beyond the range",
    ("overflow", "wraps"): "wrapping around beyond the range",
    ("threshold", "largest"): "overflow beyond the largest value, not half an ulp above it",
    ("infinity", "saturate"): "Inf saturates",
    ("infinity", "nan"): "Inf becomes NaN",
    ("infinity", "ieee"): "Inf stays Inf",
    ("nan", "preserve"): "signalling NaNs kept",
    ("nan", "canonical"): "one NaN",
    ("nan", "zero"): "NaN becomes zero",
    ("nan", "largest"): "NaN becomes the largest value",
    ("nan", "truncated"): "NaN payloads cut off",
    ("nan", "carried"): "NaN payloads rounded",
    ("nan", "quiet"): "quiet NaNs",
    ("subnormals", "flush"): "subnormals flushed",
    ("subnormals", "flush_early"): "what lies below the smallest normal value flushed",
    ("subnormals", "flush_inputs"): "subnormal inputs flushed",
    ("subnormals", "twice"): "subnormals rounded twice",
    ("subnormals", "truncate"): "subnormals truncated",
    ("sign", "drop"): "the sign dropped",
    ("least", "up"): "what lies just above the least value goes up",
}
_PAIRS = {
    "overflow": ("values beyond the range become", "inf", "-inf"),
    "infinity": ("Inf becomes", "inf", "-inf"),
    "nan": ("NaN becomes", "nan", "-nan"),
    "zero": ("zeros become", "0", "-0"),
}


def _in_words(name: str, value: Any, target: Format | None) -> str:
    if name == "via":
        return f"through {value}"
    if not isinstance(value, tuple):
        return _WORDS.get((name, value), f"{name} {value}")
    nan = None if target is None else target.nan_code
    if target and nan is not None and (name, value) == ("nan", (nan, nan | target.sign_bit)):
        return "NaN payloads dropped"
    said = [brief(code, target) if target else hex(code) for code in value]
    what = _PAIRS[name][0]
    return f"{what} {said[0]}" if said[0] == said[1] else f"{what} {said[0]} and {said[1]}"


# --- what is known ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What a standard says or a library does, for some sources and targets.

    Attributes
    ----------
    name : str
        Rows of one name make one profile: the later ones add to the earlier.
    changes : dict
        Choices that differ from ``Profile()``.
    sources, targets : str
        Names of formats; "" for all.
    about : str
        Where it is described.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    sources: str = ""
    targets: str = ""
    about: str = ""

    def applies(self, source: Format, target: Format) -> bool:
        """Return whether the row is about this conversion."""
        return all(
            not names or fmt.name in names.split()
            for fmt, names in ((source, self.sources), (target, self.targets))
        )


OCP = "fp8_e4m3fn fp8_e5m2"
FNUZ = "fp8_e4m3fnuz fp8_e5m2fnuz fp8_e4m3b11fnuz"
FINITE = "fp6_e2m3fn fp6_e3m2fn fp4_e2m1fn"
FP8 = f"{OCP} {FNUZ} fp8_e4m3 fp8_e3m4"
#: Negative zero, which ml_dtypes makes of a positive NaN in formats without NaN.
_NEGATED = {"fp6_e2m3fn": (0x20, 0), "fp6_e3m2fn": (0x20, 0), "fp4_e2m1fn": (0x8, 0)}
SATURATING = {"overflow": "saturate"}  # Inf too

KNOWN = (
    Known("ieee", about="IEEE 754-2019 5.4.2, 4.3: rounded once, to nearest, ties to even"),
    Known("ocp_saturating", SATURATING, targets=OCP, about="OCP OFP8 1.0, saturating"),
    Known("ocp_nonsaturating", targets=OCP, about="OCP OFP8 1.0, non-saturating"),
    Known("ocp_mx", targets=FINITE, about="OCP MX 1.0: saturating, NaN left open"),
    Known("onnx_saturating", SATURATING, targets=OCP, about="ONNX Cast, saturate=1"),
    Known(
        "onnx_saturating",
        {"overflow": "saturate", "infinity": "nan"},
        targets=FNUZ,
        about="ONNX Cast, saturate=1",
    ),
    Known(
        "cuda_satfinite",
        {**SATURATING, "nan": "canonical"},
        targets=f"{OCP} {FINITE}",
        about="CUDA __NV_SATFINITE",
    ),
    Known("numpy 2.4", {"nan": "preserve"}, targets="fp16 fp32 fp64"),
    Known("ml_dtypes 0.6"),
    Known("ml_dtypes 0.6", {"via": "fp32"}, sources="fp64"),
    *(Known("ml_dtypes 0.6", {"nan": codes}, targets=target) for target, codes in _NEGATED.items()),
    Known("ml_dtypes 0.6", {"rounding": "nearest_away", "least": "up"}, targets="fp8_e8m0fnu"),
    Known("torch 2.13", targets=f"fp64 fp32 fp16 bf16 {FP8} fp8_e8m0fnu"),
    Known("torch 2.13", {"via": "fp32"}, sources="fp64", targets=f"fp16 bf16 {FP8} fp8_e8m0fnu"),
    Known("torch 2.13", SATURATING, targets="fp8_e4m3fn"),
    Known(
        "torch 2.13",
        {"rounding": "nearest_away", "least": "up", "sign": "drop", "zero": (0, 0)},
        targets="fp8_e8m0fnu",
    ),
    Known("torch before 2.12", targets=FP8, about="e4m3fn overflowed to NaN"),
    Known("torch before 2.12", {"via": "fp32"}, sources="fp64", targets=FP8),
    Known("gfloat 0.5", {"nan": "canonical"}),
    Known("gfloat 0.5", {"zero": (0, 0)}, targets="fp8_e8m0fnu"),
    Known("universal", {"via": "fp32"}, sources="fp64", targets=FP8, about="microfloat"),
    Known("microxcaling", {"rounding": "nearest_away", **SATURATING}, targets=f"{OCP} {FINITE}"),
    Known("qpytorch", {"rounding": "nearest_away", **SATURATING}, targets="fp16 bf16 fp8_e5m2"),
    Known("chop, cpfloat", {"subnormals": "flush"}, targets="bf16", about="the default for bf16"),
    Known(
        "cpfloat",
        {"nan": "carried"},
        targets="bf16 fp16",
        about="rounds a NaN's bits like a number's",
    ),
    Known(
        "bits >> 16",
        {"rounding": "toward_zero", "nan": "truncated"},
        sources="fp32",
        targets="bf16",
        about="the upper half of the bits: NaN may become Inf",
    ),
    Known(
        "bits + 0x7fff + odd >> 16",
        {"nan": "carried"},
        sources="fp32",
        targets="bf16",
        about="rounding by an addition without a test for NaN: BitInformation.jl, bitsandbytes'"
        " scalar helper",
    ),
    Known("flush to zero", {"subnormals": "flush_inputs"}, about="a CPU or GPU with DAZ"),
)


def known_profiles(source: Format, target: Format) -> dict[str, Profile]:
    """Return the known profiles of a conversion by name.

    Examples
    --------
    >>> import floatfmt as ff
    >>> from floatfmt.audit.profiles import known_profiles
    >>> print(known_profiles(ff.format("fp64"), ff.format("fp8_e4m3fn"))["torch 2.13"])
    nearest_even, through fp32, saturating
    """
    found: dict[str, Profile] = {}
    for row in KNOWN:
        if row.applies(source, target):
            found[row.name] = replace(found.get(row.name, Profile()), **row.changes)
    return found
