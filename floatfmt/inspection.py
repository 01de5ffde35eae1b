"""One number in one format: its fields, its exact value, its neighbours, and what rounding did.

Everything is worked out by `exact`, in integers and Fractions; `reading` takes what is asked for,
and `card` lays the answer out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import card, exact, remarks
from .explanation import Explanation
from .figures import Exact, dyadic, in_full
from .formats import Format, FormatLike
from .formats import format as as_format
from .reading import Bits, exact_value, is_bit_pattern, read, read_code, rounded_code
from .rounding import Rounding, Rules, fresh_seed, rules, word64
from .spelling import has_sign, in_decimal, in_hex

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inspection:
    """One code of a format, and the value that was asked for; made by ``ff.inspect``.

    The attributes are all that is stored; the rest is computed when it is looked at. Two
    inspections are equal if all of them are; a NaN that was asked for equals itself.

    Attributes
    ----------
    format : Format
        The format.
    code : int
        The code, right-aligned.
    requested : Fraction, Decimal, float or None
        The exact value that was asked for, None when a code was given. Finite values are Fractions,
        except -0.0, and except a Decimal too large or too small for one, such as 1e999999999.
    rules : Rules or None
        How it was rounded, None when a code was given.
    seed, index : int or None
        What stochastic rounding drew its bits from; None in every other mode.

    Examples
    --------
    >>> import floatfmt as ff
    >>> x = ff.inspect("0.0319", "bf16")
    >>> x.bits, x.hex, x.decimal, x.hexfloat
    ('0011110100000011', '0x3D03', '0.031982421875', '0x1.06p-5')
    >>> x.simplest, x.error == x.value - x.requested
    (Fraction(3, 94), True)
    """

    format: Format
    code: int
    requested: Exact | float | None = None
    rules: Rules | None = None
    seed: int | None = None
    index: int | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inspection):
            return NotImplemented
        mine, theirs = self.requested, other.requested
        both_nan = mine != mine and theirs != theirs
        return self._key == other._key and (both_nan or mine == theirs)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.format, self.code, self.rules, self.seed, self.index

    __hash__ = None  # type: ignore[assignment]

    # The code, taken apart.

    @property
    def sign(self) -> int:
        """The sign bit; 0 in a format without one."""
        return exact.fields(self.code, self.format)[0]

    @property
    def exponent(self) -> int:
        """The exponent field as it is stored, that is, biased; 0 in fixed point."""
        return exact.fields(self.code, self.format)[1]

    @property
    def fraction(self) -> int:
        """The fraction field: the significand without its hidden bit.

        Of a two's complement code its bits below the sign.
        """
        return exact.fields(self.code, self.format)[2]

    @property
    def bits(self) -> str:
        """The code as a string of 0 and 1, without separators."""
        return f"{self.code:0{self.format.bits}b}"

    @property
    def hex(self) -> str:
        """The code in hexadecimal, zero-padded to the format's width."""
        return in_hex(self.code, self.format)

    @property
    def category(self) -> str:
        """One of "zero", "subnormal", "normal", "infinite", "nan"; `is_quiet` tells NaNs apart."""
        return exact.category(self.code, self.format)

    @property
    def is_finite(self) -> bool:
        """Whether the code is neither Inf nor NaN."""
        return self.category not in ("infinite", "nan")

    @property
    def is_quiet(self) -> bool:
        """Whether the code is a quiet NaN; a NaN that is not quiet is signalling.

        A NaN without payload is quiet.
        """
        return exact.is_quiet(self.code, self.format)

    @property
    def payload(self) -> int | None:
        """A NaN's fraction field without the quiet bit.

        None for what is no NaN, and where NaNs have no payload: outside the IEEE layout.
        """
        has_payload = self.category == "nan" and self.format.nan == "ieee"
        return self.fraction & ~self.format.quiet_bit if has_payload else None

    @property
    def unbiased_exponent(self) -> int | None:
        """The exponent of the 2 that multiplies the significand; None for Inf and NaN.

        Zeros and subnormals have that of the smallest normal number; fixed point has None.
        """
        return exact.unbiased_exponent(self.code, self.format) if self._is_floating else None

    @property
    def significand(self) -> Fraction | None:
        """In [1, 2) for normal numbers, in [0, 1) for zeros and subnormals; else None."""
        return exact.significand(self.code, self.format) if self._is_floating else None

    @property
    def _is_floating(self) -> bool:
        return self.is_finite and not self.format.is_integer

    @property
    def integer(self) -> int | None:
        """Of fixed point: the integer that, times ``2**step_exponent``, is the value; else None."""
        if not self.format.is_integer or self.value is None:
            return None
        return int(self.value / Fraction(2) ** self.format.step_exponent)

    # The value.

    @property
    def value(self) -> Fraction | None:
        """The exact value; None for Inf and NaN. Both zeros are 0: `sign` tells them apart."""
        return Fraction(exact.decode(self.code, self.format)) if self.is_finite else None

    @property
    def decimal(self) -> str:
        """The exact value in decimal, every digit; or "-0", "inf", "-inf", "nan", "-nan"."""
        return in_decimal(self.code, self.format)

    @property
    def dyadic(self) -> str | None:
        """The value as an odd integer times a power of two, "131 × 2^-12"; None for Inf and NaN."""
        if value := self.value:
            return dyadic(value)
        return self.decimal if self.is_finite else None

    @property
    def hexfloat(self) -> str:
        """The exact value in C's hexadecimal notation, as float.hex writes it for fp64.

        Every digit of the fraction field is written, subnormals begin with 0x0, zeros are 0x0.0p+0
        and -0x0.0p+0; Inf and NaN are "inf", "-inf" and "nan". Fixed point is its integer and the
        step: 0x5p-6.
        """
        minus = "-" * has_sign(self.code, self.format)
        words = {"zero": f"{minus}0x0.0p+0", "infinite": f"{minus}inf", "nan": "nan"}
        if self.category in words:
            return words[self.category]
        if self.integer is not None:
            return f"{minus}{abs(self.integer):#x}p{self.format.step_exponent:+d}"
        digits = -(-self.format.fraction_bits // 4)
        fraction = self.fraction << (4 * digits - self.format.fraction_bits)
        hidden = int(self.exponent > 0 or not self.format.zero)
        return f"{minus}0x{hidden}.{fraction:0{digits}x}p{self.unbiased_exponent:+d}"

    @property
    def simplest(self) -> Fraction | None:
        """The fraction of smallest denominator that rounds to this code, nearest even.

        None for Inf and NaN.
        """
        return exact.simplest_fraction(self.code, self.format) if self.is_finite else None

    # The neighbourhood.

    @property
    def ulp(self) -> Fraction | None:
        """The unit in the last place, the spacing of values here; None for Inf and NaN."""
        return exact.ulp(self.code, self.format) if self.is_finite else None

    @property
    def next_up(self) -> Inspection | None:
        """The least value above: Inf above the largest finite one, the smallest subnormal above 0.

        None above the greatest value of the format, and for NaN.
        """
        return self._neighbour(exact.next_up)

    @property
    def next_down(self) -> Inspection | None:
        """The greatest value below; None below the least of the format, and for NaN."""
        return self._neighbour(exact.next_down)

    def _neighbour(self, step: Callable[[int, Format], int]) -> Inspection | None:
        code = step(self.code, self.format)
        return None if code == self.code else Inspection(self.format, code)

    # What rounding did.

    @property
    def _finite_request(self) -> Exact | None:
        if isinstance(self.requested, float):
            return None if self.requested else Fraction(0)
        return self.requested

    @property
    def error(self) -> Exact | None:
        """`value` minus `requested`, exactly; a Decimal where `requested` is one.

        None if a code was given, if either is Inf or NaN, and if a Decimal beyond all Fractions
        became something other than zero.
        """
        value, requested = self.value, self._finite_request
        if value is None or requested is None:
            return None
        if isinstance(requested, Decimal):
            return None if value else requested.copy_negate()
        return value - requested

    @property
    def relative_error(self) -> Fraction | None:
        """`error` over the magnitude of `requested`; None without `error`, and over 0."""
        error, requested = self.error, self._finite_request
        if isinstance(error, Fraction) and isinstance(requested, Fraction):
            return error / abs(requested) if requested and error else None if error else error
        return None if error is None else Fraction(-1 if error < 0 else 1)

    @property
    def error_ulps(self) -> Fraction | None:
        """`error` in units of `ulp`; None where there is no `error`, or it is a Decimal."""
        error, ulp = self.error, self.ulp
        return error / ulp if isinstance(error, Fraction) and ulp else None

    @property
    def remark(self) -> str | None:
        """A sentence if the value overflowed, underflowed, lay halfway or the like; else None."""
        return remarks.remark(self)

    @property
    def rounding(self) -> Rounding | None:
        """The rounding mode; None if a code was given."""
        return None if self.rules is None else self.rules.rounding

    def explain(self) -> Explanation:
        """Say why the value went where it did: neighbours, midpoint, bits dropped, every mode.

        Examples
        --------
        >>> import floatfmt as ff
        >>> ff.inspect("0.0319", "bf16").explain().sentence
        'beyond the midpoint: 0x3D03 is the nearer'
        """
        return Explanation(self)

    # How it is shown.

    def __repr__(self) -> str:
        return card.one_line(self)

    def __str__(self) -> str:
        return card.text_card(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return card.rich_card(self, options.max_width)

    def _repr_html_(self) -> str:
        return card.html_card(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        Exact numbers are strings, integers or fractions in lowest terms such as ``"131/4096"``,
        every digit given; what a number does not have is None.

        ``format``
            Name of the format.
        ``code``, ``hex``, ``bits``
            The code as an integer, in hexadecimal, and as a string of 0 and 1.
        ``sign``, ``exponent``, ``fraction``
            The fields as integers; the exponent is biased.
        ``category``, ``is_quiet``, ``payload``
            As the properties; `payload` is None for what has none.
        ``unbiased_exponent``, ``significand``, ``integer``, ``value``
            The first two are None in fixed point, `integer` is elsewhere, and all are for Inf and
            NaN.
        ``decimal``, ``dyadic``, ``hexfloat``, ``simplest``
            The value's notations; `dyadic` and `simplest` are None for Inf and NaN.
        ``ulp``, ``next_up``, ``next_down``
            An exact number, and each neighbour as a dictionary of ``hex`` and ``decimal``, or None.
        ``requested``, ``error``, ``relative_error``, ``error_ulps``, ``remark``
            None if a code was given. `requested` may be "-0", "inf", "-inf" or "nan", and it and
            `error` are in scientific notation if their exponent is beyond 5,000 digits.
        ``rounding``, ``overflow``, ``nan``, ``subnormals``, ``seed``, ``index``
            How it was rounded; None if a code was given.

        Examples
        --------
        >>> import floatfmt as ff
        >>> card = ff.inspect("0.0319", "bf16").to_dict()
        >>> card["value"], card["error"], card["next_up"]
        ('131/4096', '211/2560000', {'hex': '0x3D04', 'decimal': '0.0322265625'})
        """
        plain = {"format": self.format.name, "code": self.code}
        options = {name: getattr(self.rules, name, None) for name in OPTIONS}
        computed = {name: _json(getattr(self, name)) for name in _JSON_PROPERTIES}
        return plain | computed | options | {"rounding": self.rounding and self.rounding.value}


def _json(value: Any) -> Any:
    """Return a property's value as what JSON has; exact numbers as strings."""
    if isinstance(value, Inspection):
        return {"hex": value.hex, "decimal": value.decimal}
    return in_full(value) if isinstance(value, (Fraction, Decimal, float)) else value


#: The options of `inspect`, by the names that Rules has for them.
OPTIONS = ("rounding", "overflow", "nan", "subnormals")
_JSON_PROPERTIES = (
    *("hex", "bits", "sign", "exponent", "fraction", "category", "is_quiet", "payload"),
    *("unbiased_exponent", "significand", "integer", "value"),
    *("decimal", "dyadic", "hexfloat", "simplest", "ulp", "next_up", "next_down"),
    *("requested", "error", "relative_error", "error_ulps", "remark", "seed", "index"),
)  # fmt: skip


def inspect(
    value: Any = None,
    format: FormatLike | None = None,
    *,
    code: Any = None,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "ieee",
    nan: str = "quiet",
    subnormals: str = "keep",
    seed: int | None = None,
    index: int = 0,
) -> Inspection:
    """Look at one number in one format: `value` rounded to it, or `code` as it is.

    Parameters
    ----------
    value : int, float, Fraction, Decimal, str, or a NumPy, ml_dtypes or torch scalar
        Taken exactly and rounded once. The Python float 0.0319 is the double nearest to 0.0319;
        the string "0.0319" is 0.0319 itself. 0-d arrays and tensors are scalars. Strings are a
        decimal ("0.0319", "1e-400", "1_000"), a fraction ("319/10000"), hexadecimal ("0x10",
        "0x1.8p-3"), "nan", "inf" or "infinity", each with an optional sign; or all bits of a code,
        with 0b in front or | between the fields
        ("0b0011110000000000", "0|01111|0000000000").
    format : Format, str, dtype or scalar type, optional
        Anything ``ff.format`` takes. When omitted, a NumPy, ml_dtypes or torch float is looked at
        in its own format, and anything else in fp64, as Python would hold it.
    code : int or str, instead of `value`
        A code of `format`, which must be given: 0x3C00, "0x3C00", or bits as above. It is not
        rounded, whatever the options.
    rounding, overflow, nan, subnormals
        As in ``ff.encode``: the rounding mode, and what becomes of values beyond the largest, of
        NaN and of subnormal results.
    seed, index : int, optional
        For "stochastic": the draw is that of ``ff.encode`` with this seed for the element of this
        flat index. Without a seed it is fresh entropy, and the result says which.

    Notes
    -----
    A NumPy or torch float in its own format, and a Python float in fp64, is taken bit by bit:
    nothing happens to a signalling NaN unless `nan` asks for it. Converted to another format a NaN
    becomes quiet and keeps its sign and the leading bits of its payload; a Decimal's payload is no
    bits and is dropped. Infinities and the sign of zeros stay, where the format has them.
    Magnitudes beyond the largest finite value plus half an ulp become Inf, or NaN or the largest
    value in formats without, and those up to half of the smallest subnormal become zero.

    Raises
    ------
    TypeError
        Both or neither of `value` and `code`; a code without a format; a bool, complex number,
        array of one or more dimensions, or anything else that is no real number.
    ValueError
        A string that is no number, bits of another length, a code outside of the format's range;
        a NaN that has no code; an option that is unknown.

    Examples
    --------
    >>> import floatfmt as ff
    >>> print(ff.inspect("0.0319", "bf16"))
    bf16 0x3D03, a normal number
    bits         0|01111010|0000011
    sign         0 = +
    exponent     01111010 = 122, less the bias of 127: 2^-5
    fraction     0000011 = 3
    significand  1.0000011 in binary = 1.0234375
    value        0.031982421875
    dyadic       131 × 2^-12 = 131/4096
    hexfloat     0x1.06p-5
    simplest     3/94 rounds to this code
    asked for    0.0319
    error        +0.000082421875, ~+0.338 ulp, relative ~+0.00258
    ulp          2^-12 = 0.000244140625
    next up      0x3D04 = 0.0322265625
    next down    0x3D02 = 0.03173828125
    >>> ff.inspect(code=0x3C00, format="fp16")
    <fp16 0x3C00 0|01111|0000000000 = 1>
    """
    if (value is None) == (code is None):
        raise TypeError(
            "inspect takes either a value, as in inspect(0.1, 'bf16'), or a code, as in "
            f"inspect(code=0x3C00, format='fp16'); got {'neither' if code is None else 'both'}"
        )
    if code is not None:
        if format is None:
            raise TypeError(f"a code means nothing without its format: code={code!r}, format=...")
        fmt = as_format(format)
        return Inspection(fmt, read_code(code, fmt))
    if is_bit_pattern(value):
        fmt = as_format("fp64" if format is None else format)
        return Inspection(fmt, read_code(value, fmt))
    number = read(value)
    own_format = number.format if isinstance(number, Bits) else exact.FP64
    fmt = own_format if format is None else as_format(format)
    how = rules(fmt, rounding, overflow, nan, subnormals)
    if how.rounding is not Rounding.STOCHASTIC:
        return Inspection(fmt, rounded_code(number, how), exact_value(number), how)
    key = fresh_seed() if seed is None else word64(seed)
    place = word64(index, "index")
    rounded = rounded_code(number, how, exact.random_word(key, place))
    return Inspection(fmt, rounded, exact_value(number), how, key, place)
