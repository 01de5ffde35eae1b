"""Number formats as rows of data, and everything that follows from a row.

A format is a sign bit, ``exponent_bits`` and ``fraction_bits`` in the layout of IEEE 754-2019
section 3.4: exponent field 0 holds zeros and subnormals, the all-ones field Inf and NaN. Adding a
format is adding a row to ``_ROWS``; whatever can be computed from a row is a property, so it cannot
disagree with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast

import ml_dtypes
import numpy as np

__all__ = ["Format", "FormatLike", "format", "formats"]

#: What names a format: a Format, its name or alias, or a NumPy, ml_dtypes or torch dtype.
FormatLike: TypeAlias = "Format | str | np.dtype | type | object"


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format in the IEEE 754 layout.

    Parameters
    ----------
    name : str
        Canonical name, such as ``"bf16"``.
    exponent_bits : int
        Width of the exponent field, 2 to 11.
    fraction_bits : int
        Width of the fraction field (the significand without its hidden bit), 1 to 52.
    bias : int, optional
        Exponent bias; ``2**(exponent_bits - 1) - 1``, IEEE's, when not given. Every value of the
        format has to be a value of fp64.
    aliases : tuple of str
        Other spellings under which ``ff.format`` finds it, once it is a row of the registry.
    dtype : str, optional
        Name of the NumPy or ml_dtypes dtype that holds this format's values, if there is one.

    Examples
    --------
    >>> import floatfmt as ff
    >>> ff.format("bf16").max_finite == (2 - ff.format("bf16").epsilon) * 2**127
    True
    >>> ff.Format(name="e5m2", exponent_bits=5, fraction_bits=2).bias
    15
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int = cast(int, None)  # None until __post_init__ fills in IEEE's
    aliases: tuple[str, ...] = ()
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a format's name is a str, got {self.name!r}")
        for field, low, high in (("exponent_bits", 2, 11), ("fraction_bits", 1, 52)):
            value = getattr(self, field)
            if not isinstance(value, (int, np.integer)) or not low <= value <= high:
                raise ValueError(f"{field} must be an integer from {low} to {high}, got {value!r}")
            object.__setattr__(self, field, int(value))
        if self.bias is None:
            object.__setattr__(self, "bias", 2 ** (self.exponent_bits - 1) - 1)
        if not isinstance(self.bias, (int, np.integer)):
            raise ValueError(f"bias must be an integer, got {self.bias!r}")
        object.__setattr__(self, "bias", int(self.bias))
        if self.max_exponent > 1023 or self.min_exponent < -1022:
            raise ValueError(
                f"bias {self.bias!r} puts values of {self.name!r} outside fp64's normal range"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        """Width of a code in bits: sign, exponent and fraction."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def precision(self) -> int:
        """Significand bits, hidden bit included (IEEE's p)."""
        return self.fraction_bits + 1

    @property
    def max_exponent(self) -> int:
        """Unbiased exponent of the largest binade (IEEE's emax)."""
        return 2**self.exponent_bits - 2 - self.bias

    @property
    def min_exponent(self) -> int:
        """Unbiased exponent of the smallest normal and of all subnormals (IEEE's emin)."""
        return 1 - self.bias

    @property
    def max_finite(self) -> Fraction:
        """The largest finite value, exactly."""
        return (2 - self.epsilon) * Fraction(2) ** self.max_exponent

    @property
    def min_normal(self) -> Fraction:
        """The smallest positive normal value, exactly."""
        return Fraction(2) ** self.min_exponent

    @property
    def min_subnormal(self) -> Fraction:
        """The smallest positive value, exactly; also the spacing of all subnormals."""
        return Fraction(2) ** (self.min_exponent - self.fraction_bits)

    @property
    def epsilon(self) -> Fraction:
        """Distance from 1 to the next larger value of the precision: ``2**-fraction_bits``."""
        return Fraction(1, 2**self.fraction_bits)

    @property
    def decimal_digits(self) -> int:
        """Decimal digits that survive decimal -> format -> decimal (C's ``FLT_DIG``)."""
        return math.floor(self.fraction_bits * math.log10(2))

    @property
    def round_trip_digits(self) -> int:
        """Decimal digits that tell any two values apart (C's ``FLT_DECIMAL_DIG``)."""
        return math.ceil(1 + self.precision * math.log10(2))

    @property
    def exponent_mask(self) -> int:
        """The all-ones exponent field, right-aligned; as a biased exponent it means Inf or NaN."""
        return (1 << self.exponent_bits) - 1

    @property
    def fraction_mask(self) -> int:
        """The all-ones fraction field."""
        return (1 << self.fraction_bits) - 1

    @property
    def infinity_code(self) -> int:
        """Code of +Inf."""
        return self.exponent_mask << self.fraction_bits

    @property
    def quiet_bit(self) -> int:
        """The fraction bit that tells a quiet NaN from a signalling one (IEEE 754-2019 6.2.1)."""
        return 1 << (self.fraction_bits - 1)

    @property
    def sign_bit(self) -> int:
        """The sign's place in a code."""
        return 1 << (self.bits - 1)

    @property
    def code_dtype(self) -> np.dtype:
        """The narrowest unsigned NumPy dtype that holds a code."""
        return narrowest_unsigned(self.bits)

    @property
    def value_dtype(self) -> np.dtype:
        """float32 where it holds every value, and normals as normals; else float64."""
        fp32_holds_it = (
            self.fraction_bits <= 23
            and self.max_exponent <= 127
            and self.min_exponent >= -126
            and self.min_exponent - self.fraction_bits >= -149
        )
        return np.dtype(np.float32 if fp32_holds_it else np.float64)

    @property
    def counts(self) -> dict[str, int]:
        """How many of the ``2**bits`` codes fall into each category."""
        return {
            "zero": 2,
            "subnormal": 2 * self.fraction_mask,
            "normal": 2 * (self.exponent_mask - 1) << self.fraction_bits,
            "infinite": 2,
            "nan": 2 * self.fraction_mask,
        }


def narrowest_unsigned(bits: int) -> np.dtype:
    """Return the narrowest of uint8, uint16, uint32 and uint64 that holds `bits` bits."""
    return np.dtype(f"u{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")


_ROWS = (
    Format("fp64", 11, 52, aliases=("float64", "double", "binary64"), dtype="float64"),
    Format("fp32", 8, 23, aliases=("float32", "float", "single", "binary32"), dtype="float32"),
    Format("tf32", 8, 10, aliases=("tensorfloat32", "tensor-float-32")),
    Format("fp16", 5, 10, aliases=("float16", "half", "binary16"), dtype="float16"),
    Format("bf16", 8, 7, aliases=("bfloat16", "brain_float16"), dtype="bfloat16"),
)
_BY_NAME = {name: row for row in _ROWS for name in (row.name, *row.aliases)}
_BY_DTYPE = {np.dtype(row.dtype): row for row in _ROWS if row.dtype}

assert np.dtype(ml_dtypes.bfloat16) in _BY_DTYPE, "importing ml_dtypes registers 'bfloat16'"


def formats() -> tuple[Format, ...]:
    """Return every format of the registry, widest first.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [f.name for f in ff.formats()]
    ['fp64', 'fp32', 'tf32', 'fp16', 'bf16']
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
    import difflib  # only a mistake needs it, and it takes a millisecond

    near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.4)
    nearest = f"nearest: {', '.join(near)}; " if near else ""
    known = ", ".join(row.name for row in _ROWS)
    raise ValueError(f"no format is called {text!r}; {nearest}known: {known}")
