"""Number formats as rows of data, and everything that follows from a row.

A code is, from its highest bit, a sign, a biased exponent and a fraction, each of which may be
absent. Its *magnitude*, the bits below the sign, counts the format's values in order: 0, 1, 2, …
are zero and the next larger values, up to the largest finite one; the few magnitudes above that
are Inf and NaN. Adding a format is adding a row to ``_ROWS``; whatever can be computed from a row
is a property, so it cannot disagree with it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["Format", "FormatLike", "format", "formats", "nearest_names", "p3109"]

#: What names a format: a Format, its name or alias, or a NumPy, ml_dtypes or torch dtype.
FormatLike: TypeAlias = "Format | str | np.dtype | type | object"

#: Where a format has its NaNs.
NAN_PLACES = ("ieee", "top", "negative_zero", None)


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format, or an integer one.

    Parameters
    ----------
    name : str
        Canonical name, such as ``"bf16"``.
    exponent_bits : int
        Width of the exponent field, 0 to 11. With 0 the format is fixed point: every code is its
        fraction field times one step, as in an integer.
    fraction_bits : int
        Width of the fraction field (the significand without its hidden bit), 0 to 52.
    bias : int, optional
        Exponent bias; ``2**(exponent_bits - 1) - 1``, IEEE's, when not given. Every value of the
        format has to be a value of fp64.
    aliases : tuple of str
        Other spellings under which ``ff.format`` finds it, once it is a row of the registry.
    dtype : str, optional
        Name of the NumPy or ml_dtypes dtype that holds this format's values, if there is one. It
        has to be the dtype of a registered format of this very layout.
    signed : bool
        Whether there is a sign bit.
    infinity : bool
        Whether the magnitude above the largest finite one is Inf.
    nan : {"ieee", "top", "negative_zero", None}
        Where NaNs are: in the all-ones exponent, beside Inf (IEEE 754-2019 3.4); in the all-ones
        magnitude alone (OCP's "fn"); in the code that would be -0 ("fnuz", P3109); or nowhere.
    zero : bool
        Whether exponent field 0 holds zero and the subnormals. If not it is a binade like every
        other (OCP's e8m0); such a format has no sign.
    twos_complement : bool
        Whether negative codes are the two's complement of positive ones (integers).

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.format("bf16").max_finite == (2 - ff.format("bf16").epsilon) * 2**127
    True
    >>> ff.Format(name="e5m2", exponent_bits=5, fraction_bits=2).bias
    15
    >>> int(ff.Format(name="e4m3 without Inf", exponent_bits=4, fraction_bits=3,
    ...               infinity=False, nan="top").max_finite)
    448
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int = cast(int, None)  # None until __post_init__ fills in IEEE's
    aliases: tuple[str, ...] = ()
    dtype: str | None = None
    signed: bool = True
    infinity: bool = True
    nan: str | None = "ieee"
    zero: bool = True
    twos_complement: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a format's name is a str, got {self.name!r}")
        for field, low, high in (("exponent_bits", 0, 11), ("fraction_bits", 0, 52)):
            value = getattr(self, field)
            if not isinstance(value, (int, np.integer)) or not low <= value <= high:
                raise ValueError(f"{field} must be an integer from {low} to {high}, got {value!r}")
            object.__setattr__(self, field, int(value))
        for field in ("signed", "infinity", "zero", "twos_complement"):
            if not isinstance(getattr(self, field), (bool, np.bool_)):
                raise TypeError(f"{field} must be True or False, got {getattr(self, field)!r}")
            object.__setattr__(self, field, bool(getattr(self, field)))
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << self.exponent_bits >> 1) - 1)
        if not isinstance(self.bias, (int, np.integer)):
            raise ValueError(f"bias must be an integer, got {self.bias!r}")
        object.__setattr__(self, "bias", int(self.bias))
        self._check_layout()
        self._check_dtype()
        if self.max_exponent > 1023 or self.min_exponent < -1022:
            raise ValueError(
                f"bias {self.bias!r} puts values of {self.name!r} outside fp64's normal range"
            )

    def _check_layout(self) -> None:
        if self.nan not in NAN_PLACES:
            places = ", ".join(map(repr, NAN_PLACES))
            raise ValueError(f"nan must be one of {places}, got {self.nan!r}")
        rules = (
            (
                self.nan != "ieee"
                or (self.infinity and self.exponent_bits >= 2 and self.fraction_bits >= 1),
                "nan='ieee' needs infinity=True, 2 exponent bits and 1 fraction bit",
            ),
            (
                self.nan != "negative_zero" or (self.signed and not self.twos_complement),
                "nan='negative_zero' needs a sign, and not two's complement",
            ),
            (
                not self.twos_complement
                or (self.signed and self.exponent_bits == 0 and self.has_finite_codes_only),
                "twos_complement=True needs a sign, no exponent bits, no infinity and nan=None",
            ),
            (
                self.zero or (not self.signed and self.exponent_bits > 0),
                "zero=False needs exponent bits and signed=False",
            ),
            (self.max_code >= 1, "there is no finite value but 0"),
        )
        for holds, need in rules:
            if not holds:
                raise ValueError(f"format {self.name!r}: {need}")

    def _check_dtype(self) -> None:
        known = globals().get("_BY_DTYPE")
        if self.dtype is None or known is None:  # the rows themselves are what is known
            return
        holders = {row.dtype for row in known.values() if row.layout == self.layout}
        if self.dtype not in holders:
            fitting = ", ".join(map(str, holders)) or "none"
            raise ValueError(
                f"dtype={self.dtype!r} does not hold the values of format {self.name!r}; of its"
                f" layout: {fitting}"
            )

    @property
    def layout(self) -> tuple[object, ...]:
        """All that decides which codes there are and what they mean."""
        return (
            *(self.exponent_bits, self.fraction_bits, self.bias, self.signed, self.infinity),
            *(self.nan, self.zero, self.twos_complement),
        )

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:  # a few fields tell formats apart well enough, and quickly
        return hash((self.name, self.fraction_bits))

    # Codes.

    @property
    def bits(self) -> int:
        """Width of a code in bits: sign, exponent and fraction."""
        return self.signed + self.exponent_bits + self.fraction_bits

    @property
    def sign_bit(self) -> int:
        """The sign's place in a code; 0 if there is none."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def exponent_mask(self) -> int:
        """The all-ones exponent field, right-aligned."""
        return (1 << self.exponent_bits) - 1

    @property
    def fraction_mask(self) -> int:
        """The all-ones fraction field."""
        return (1 << self.fraction_bits) - 1

    @property
    def magnitude_mask(self) -> int:
        """All bits below the sign."""
        return (1 << (self.exponent_bits + self.fraction_bits)) - 1

    @property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        if self.nan == "ieee":
            return (self.exponent_mask << self.fraction_bits) - 1
        return self.magnitude_mask - self.infinity - (self.nan == "top")

    @property
    def infinity_code(self) -> int | None:
        """Code of +Inf; None if there is none."""
        return self.max_code + 1 if self.infinity else None

    @property
    def nan_code(self) -> int | None:
        """Code of the positive quiet NaN without payload, or of the only NaN; None if none."""
        if self.nan == "ieee":
            return self.exponent_mask << self.fraction_bits | self.quiet_bit
        return {"top": self.magnitude_mask, "negative_zero": self.sign_bit, None: None}[self.nan]

    @property
    def quiet_bit(self) -> int:
        """The fraction bit that tells a quiet NaN from a signalling one (IEEE 754-2019 6.2.1).

        0 where NaNs have no payload.
        """
        return 1 << (self.fraction_bits - 1) if self.nan == "ieee" else 0

    @property
    def has_negative_zero(self) -> bool:
        """Whether 0 and -0 are two codes."""
        return self.signed and not self.twos_complement and self.nan != "negative_zero"

    @property
    def has_finite_codes_only(self) -> bool:
        """Whether every code is a finite value: no Inf, no NaN."""
        return not self.infinity and self.nan is None

    @property
    def is_integer(self) -> bool:
        """Whether the format is fixed point: no exponent field, all values equally spaced."""
        return self.exponent_bits == 0

    @property
    def code_dtype(self) -> np.dtype:
        """The narrowest unsigned NumPy dtype that holds a code."""
        return narrowest_unsigned(self.bits)

    def packed_nbytes(self, n: int) -> int:
        """Return the bytes that `n` codes take in storage.

        Codes of up to 6 bits are packed (see ``ff.pack``), others take whole bytes.
        """
        return -(-n * self.bits // 8) if self.bits <= 6 else n * self.code_dtype.itemsize

    @property
    def counts(self) -> dict[str, int]:
        """How many of the ``2**bits`` codes fall into each category."""
        signs = 1 + self.signed
        subnormal = 0
        if self.zero and not self.is_integer:
            subnormal = signs * min(self.fraction_mask, self.max_code)
        finite = signs * (self.max_code + (not self.zero)) + self.twos_complement
        return {
            "zero": self.zero + self.has_negative_zero,
            "subnormal": subnormal,
            "normal": finite - subnormal,
            "infinite": signs * self.infinity,
            "nan": {
                "ieee": signs * self.fraction_mask,
                "top": signs,
                "negative_zero": 1,
                None: 0,
            }[self.nan],
        }

    # Values.

    @property
    def precision(self) -> int:
        """Significand bits, hidden bit included (IEEE's p)."""
        return self.fraction_bits + (not self.is_integer)

    @property
    def min_exponent(self) -> int:
        """Unbiased exponent of the smallest normal and of all subnormals (IEEE's emin)."""
        return self.zero - self.bias

    @property
    def step_exponent(self) -> int:
        """Exponent of the power of two by which the smallest values are spaced."""
        return self.min_exponent - self.fraction_bits

    @property
    def max_exponent(self) -> int:
        """Unbiased exponent of the largest binade (IEEE's emax)."""
        field = self.max_code >> self.fraction_bits
        if field or not self.zero:
            return field - self.bias
        return self.step_exponent + self.max_code.bit_length() - 1

    def magnitude(self, code: int) -> Fraction:
        """Return the exact value of a finite magnitude (a code without its sign)."""
        field, fraction = code >> self.fraction_bits, code & self.fraction_mask
        whole = fraction + ((field > 0 or not self.zero) << self.fraction_bits)
        exponent = max(field, self.zero) - self.bias - self.fraction_bits
        return _times_power(whole, exponent)

    @property
    def max_finite(self) -> Fraction:
        """The largest finite value, exactly."""
        return self.magnitude(self.max_code)

    @property
    def lowest(self) -> Fraction:
        """The least finite value, exactly: 0 or the smallest value if there is no sign."""
        if not self.signed:
            return self.magnitude(0)
        return -self.magnitude(self.max_code + self.twos_complement)

    @property
    def min_positive(self) -> Fraction:
        """The smallest positive value, exactly."""
        return self.magnitude(1 if self.zero else 0)

    @property
    def min_normal(self) -> Fraction | None:
        """The smallest positive normal value, exactly; None if all values are subnormal."""
        first = self.min_positive if self.is_integer else _times_power(1, self.min_exponent)
        return first if first <= self.max_finite else None

    @property
    def min_subnormal(self) -> Fraction | None:
        """The smallest positive subnormal value, exactly; None if there are no subnormals."""
        return self.min_positive if self.counts["subnormal"] else None

    @property
    def epsilon(self) -> Fraction:
        """Distance from 1 to the next larger value of the precision: ``2**-fraction_bits``.

        The step of a fixed-point format.
        """
        return self.min_positive if self.is_integer else _times_power(1, -self.fraction_bits)

    @property
    def decimal_digits(self) -> int:
        """Decimal digits that survive decimal -> format -> decimal (C's ``FLT_DIG``)."""
        return math.floor(self.fraction_bits * math.log10(2))

    @property
    def round_trip_digits(self) -> int:
        """Decimal digits that tell any two values apart (C's ``FLT_DECIMAL_DIG``)."""
        return math.ceil(1 + self.precision * math.log10(2))

    @property
    def linear_exponent(self) -> int:
        """Below ``2**linear_exponent`` values are equally spaced; above, binades are normal."""
        return self.min_exponent + (not self.zero)

    @property
    def value_dtype(self) -> np.dtype:
        """float32 where it holds every value exactly, else float64.

        A format whose normal binades reach below float32's normals is given float64.
        """
        fp32_holds_it = (
            self.fraction_bits <= 23
            and self.max_exponent <= 127
            and self.step_exponent >= -149
            and (self.linear_exponent >= -126 or self.is_integer)
        )
        return np.dtype(np.float32 if fp32_holds_it else np.float64)

    def holds(self, other: Format) -> bool:
        """Return whether every finite value of another format is one of this format's."""
        return (
            (self.zero or not other.zero)
            and (self.is_integer or self.precision >= other.precision)
            and self.step_exponent <= other.step_exponent
            and self.max_finite >= other.max_finite
            and self.lowest <= other.lowest
        )


def _times_power(whole: int, exponent: int) -> Fraction:
    """Return ``whole * 2**exponent``."""
    from fractions import Fraction  # brings decimal and takes milliseconds; arrays need neither

    # A product of two Fractions takes three times as long.
    return Fraction(whole << exponent) if exponent >= 0 else Fraction(whole, 1 << -exponent)


@functools.lru_cache(maxsize=128)
def narrowest_unsigned(bits: int) -> np.dtype:
    """Return the narrowest of uint8, uint16, uint32 and uint64 that holds `bits` bits."""
    return np.dtype(f"u{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")


def integer(
    name: str, bits: int, signed: bool = True, step: int = 0, aliases: tuple[str, ...] = ()
) -> Format:
    """Return the format of `bits`-bit integers times ``2**step``."""
    digits = bits - signed
    return Format(
        name,
        exponent_bits=0,
        fraction_bits=digits,
        bias=1 - digits - step,
        aliases=aliases,
        dtype=None if step else name,
        signed=signed,
        infinity=False,
        nan=None,
        twos_complement=signed,
    )


def p3109(k: int, p: int, signed: bool = True, extended: bool = True) -> Format:
    """Return a format of the IEEE P3109 family, an interim report and not yet a standard.

    One NaN, no -0. NaN is the code of -0, or the last code of an unsigned format.

    Parameters
    ----------
    k : int
        Width of a code in bits, 3 to 16.
    p : int
        Precision, hidden bit included: 1 to k - 1, or to k if unsigned.
    signed : bool
        Whether there is a sign bit.
    extended : bool
        Whether there are infinities.

    Raises
    ------
    ValueError
        k or p is out of range, or the format's values reach beyond fp64.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.p3109(8, 3).name, int(ff.p3109(8, 3).max_finite)
    ('p3109_k8p3se', 49152)
    """
    for value, name, high in ((k, "k", 16), (p, "p", k - signed if isinstance(k, int) else 0)):
        low = 3 if name == "k" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(
                f"P3109: {name} must be an integer from {low} to {high}, got {value!r}"
            )
    letters = ("s" if signed else "u") + ("e" if extended else "f")
    exponent_bits = k - p + (not signed)
    if exponent_bits > 11:
        raise ValueError(
            f"P3109 k={k}, p={p} has {exponent_bits} exponent bits: its values reach beyond fp64's,"
            " the widest here"
        )
    return Format(
        f"p3109_k{k}p{p}{letters}",
        exponent_bits=exponent_bits,
        fraction_bits=p - 1,
        bias=1 << (exponent_bits - 1),
        signed=signed,
        infinity=extended,
        nan="negative_zero" if signed else "top",
    )


def _ocp(name: str, e: int, m: int, nan: str | None, aliases: tuple[str, ...] = ()) -> Format:
    """Return a row in the style of OCP's specifications: no Inf, at most one NaN a sign."""
    alias = name.replace("fp", "float", 1)
    return Format(name, e, m, aliases=(alias, *aliases), dtype=alias, infinity=False, nan=nan)


def _fnuz(name: str, e: int, m: int, bias: int, aliases: tuple[str, ...] = ()) -> Format:
    """Return a row with no Inf, no -0, and NaN in its place."""
    alias = name.replace("fp", "float", 1)
    names = (alias, *aliases)
    return Format(name, e, m, bias, names, alias, infinity=False, nan="negative_zero")


_ROWS = (
    Format("fp64", 11, 52, aliases=("float64", "double", "binary64"), dtype="float64"),
    Format("fp32", 8, 23, aliases=("float32", "float", "single", "binary32"), dtype="float32"),
    Format("tf32", 8, 10, aliases=("tensorfloat32", "tensor-float-32")),
    Format("fp16", 5, 10, aliases=("float16", "half", "binary16"), dtype="float16"),
    Format("bf16", 8, 7, aliases=("bfloat16", "brain_float16"), dtype="bfloat16"),
    _ocp("fp8_e4m3fn", 4, 3, "top", ("e4m3fn",)),
    Format("fp8_e4m3", 4, 3, aliases=("float8_e4m3", "e4m3"), dtype="float8_e4m3"),
    Format("fp8_e5m2", 5, 2, aliases=("float8_e5m2", "e5m2"), dtype="float8_e5m2"),
    _fnuz("fp8_e4m3fnuz", 4, 3, 8, ("e4m3fnuz",)),
    _fnuz("fp8_e5m2fnuz", 5, 2, 16, ("e5m2fnuz",)),
    _fnuz("fp8_e4m3b11fnuz", 4, 3, 11, ("e4m3b11fnuz",)),
    Format("fp8_e3m4", 3, 4, aliases=("float8_e3m4", "e3m4"), dtype="float8_e3m4"),
    Format(
        *("fp8_e8m0fnu", 8, 0, 127, ("float8_e8m0fnu", "e8m0fnu", "e8m0"), "float8_e8m0fnu"),
        signed=False,
        infinity=False,
        nan="top",
        zero=False,
    ),
    Format(
        *("fp8_ue4m3", 4, 3, 7, ("ue4m3",)), signed=False, infinity=False, nan="top"
    ),
    _ocp("fp6_e2m3fn", 2, 3, None, ("e2m3fn", "fp6_e2m3", "e2m3")),
    _ocp("fp6_e3m2fn", 3, 2, None, ("e3m2fn", "fp6_e3m2", "e3m2")),
    _ocp("fp4_e2m1fn", 2, 1, None, ("e2m1fn", "fp4_e2m1", "e2m1")),
    integer("mxint8", 8, step=-6),
    integer("int8", 8),
    integer("uint8", 8, signed=False),
    integer("int4", 4),
    integer("uint4", 4, signed=False),
    integer("int2", 2),
)  # fmt: skip
_BY_NAME = {name: row for row in _ROWS for name in (row.name, *row.aliases)}
_BY_DTYPE = {np.dtype(row.dtype): row for row in _ROWS if row.dtype}

assert np.dtype(ml_dtypes.bfloat16) in _BY_DTYPE, "importing ml_dtypes registers 'bfloat16'"


def formats() -> tuple[Format, ...]:
    """Return every format of the registry, in the README's order.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [f.name for f in ff.formats()][:6]
    ['fp64', 'fp32', 'tf32', 'fp16', 'bf16', 'fp8_e4m3fn']
    """
    return _ROWS


def format(which: FormatLike) -> Format:
    """Return the format called `which`.

    Parameters
    ----------
    which : Format, str, dtype or scalar type
        A name or alias in any case (``"bf16"``, ``"bfloat16"``), a NumPy, ml_dtypes or torch dtype
        (``np.float16``, ``ml_dtypes.bfloat16``, ``torch.bfloat16``), or a Format, returned as is.

    Raises
    ------
    ValueError
        No format of that name; the message lists the nearest names.
    TypeError
        `which` is no name, dtype or Format.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.format("bfloat16").name, ff.format("half").max_finite
    ('bf16', Fraction(65504, 1))
    """
    if isinstance(which, Format):
        return which
    if isinstance(which, np.dtype) and which in _BY_DTYPE:
        return _BY_DTYPE[which]
    if which is None:  # NumPy takes None for float64
        raise TypeError("a format is a name, a dtype or a floatfmt.Format, got None")
    # str(torch.bfloat16) is "torch.bfloat16": its spelling is enough, torch need not be imported.
    text = str(which) if type(which).__module__ == "torch" else which
    if isinstance(text, str):
        return _by_name(text)
    try:
        dtype = np.dtype(which)  # type: ignore[call-overload]
    except TypeError:
        got = f"{type(which).__name__} {which!r}"
        raise TypeError(f"a format is a name, a dtype or a floatfmt.Format, got {got}") from None
    if dtype.newbyteorder("=") not in _BY_DTYPE:
        known = ", ".join(str(known) for known in _BY_DTYPE)
        raise ValueError(f"dtype {dtype} is no floating-point format of floatfmt; known: {known}")
    return _BY_DTYPE[dtype.newbyteorder("=")]


def _by_name(text: str) -> Format:
    name = text.strip().lower().removeprefix("torch.")
    if name in _BY_NAME:
        return _BY_NAME[name]
    if found := re.fullmatch(_P3109_NAME, name):
        k, p, s, e = found.groups()
        return p3109(int(k), int(p), signed=s == "s", extended=e == "e")
    nearest = nearest_names(name, _BY_NAME)
    known = ", ".join(row.name for row in _ROWS)
    raise ValueError(f"no format is called {text!r}; {nearest}known: {known}, p3109_k8p3se, ...")


_P3109_NAME = r"p3109_k(\d+)p(\d+)([su])([ef])"


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Return ``"nearest: a, b; "`` for a mistyped name, or "" if nothing is near.

    Names that begin with it come first: "fp8" is meant for one of the fp8 formats.
    """
    import difflib  # only a mistake needs it, and it takes a millisecond

    name, names = name.strip().lower(), list(known)
    near = [other for other in names if len(name) > 2 and other.startswith(name)]
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"nearest: {', '.join(near)}; " if near else ""
