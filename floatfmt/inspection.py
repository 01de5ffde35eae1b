"""One number in one format: its fields, its exact value, its neighbours, and what rounding did.

Everything is worked out by `exact`, in integers and Fractions; this file reads what people type
and lays the answer out as a card. One list of rows (`_ROWS`) drives the text, the colours of the
terminal and the HTML alike.
"""

from __future__ import annotations

import decimal
import functools
import operator
import re
import reprlib
import struct
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import exact, interop
from .formats import Format, FormatLike
from .formats import format as as_format

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Inspection", "inspect"]

#: An exact number. It is a Decimal where a Fraction would not fit in memory: 1e999999999.
Exact: TypeAlias = Fraction | Decimal

#: A piece of a line and its role: "sign", "exponent", "fraction", or "" for plain text.
Part: TypeAlias = tuple[str, str]

#: Decimals of exponents up to this become Fractions: those of all C types, which end at 10**-4951.
#: What lies beyond overflows or underflows in every format, just as 10**400 and 10**-400 do.
DECIMAL_REACH = 5_000
BEYOND_ALL_FORMATS = Fraction(10) ** 400
#: Integers of more bits are not written in decimal: that takes time quadratic in their length.
BIT_REACH = 100_000
#: The longest text that is read; the exact value of the least long double takes 16,448 characters.
MAX_CHARACTERS = 20_000


# --- the answer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inspection:
    """One code of a format, and the value that was asked for; made by ``ff.inspect``.

    The three attributes are all that is stored; the rest is computed when it is looked at.
    Two inspections are equal if all three are; a NaN that was asked for equals itself.

    Attributes
    ----------
    format : Format
        The format.
    code : int
        The code, right-aligned.
    requested : Fraction, Decimal, float or None
        The exact value that was asked for, None when a code was given. Finite values are Fractions,
        except -0.0, and except a Decimal too large or too small for one, such as 1e999999999.

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inspection):
            return NotImplemented
        mine, theirs = self.requested, other.requested
        both_nan = mine != mine and theirs != theirs
        return (self.format, self.code) == (other.format, other.code) and (
            both_nan or mine == theirs
        )

    __hash__ = None  # type: ignore[assignment]

    # The code, taken apart.

    @property
    def sign(self) -> int:
        """The sign bit."""
        return exact.fields(self.code, self.format)[0]

    @property
    def exponent(self) -> int:
        """The exponent field as it is stored, that is, biased."""
        return exact.fields(self.code, self.format)[1]

    @property
    def fraction(self) -> int:
        """The fraction field: the significand without its hidden bit."""
        return exact.fields(self.code, self.format)[2]

    @property
    def bits(self) -> str:
        """The code as a string of 0 and 1, without separators."""
        return f"{self.code:0{self.format.bits}b}"

    @property
    def hex(self) -> str:
        """The code in hexadecimal, zero-padded to the format's width."""
        return f"0x{self.code:0{-(-self.format.bits // 4)}X}"

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
        """Whether the code is a quiet NaN; a NaN that is not quiet is signalling."""
        return exact.is_quiet(self.code, self.format)

    @property
    def payload(self) -> int | None:
        """A NaN's fraction field without the quiet bit; None for what is no NaN."""
        return self.fraction & ~self.format.quiet_bit if self.category == "nan" else None

    @property
    def unbiased_exponent(self) -> int | None:
        """The exponent of the 2 that multiplies the significand; None for Inf and NaN.

        Zeros and subnormals have that of the smallest normal number.
        """
        return exact.unbiased_exponent(self.code, self.format) if self.is_finite else None

    @property
    def significand(self) -> Fraction | None:
        """In [1, 2) for normal numbers, in [0, 1) for zeros and subnormals; else None."""
        return exact.significand(self.code, self.format) if self.is_finite else None

    # The value.

    @property
    def value(self) -> Fraction | None:
        """The exact value; None for Inf and NaN. Both zeros are 0: `sign` tells them apart."""
        return Fraction(exact.decode(self.code, self.format)) if self.is_finite else None

    @property
    def decimal(self) -> str:
        """The exact value in decimal, every digit; or "-0", "inf", "-inf", "nan", "-nan"."""
        minus, value = "-" * self.sign, self.value
        if value is None:
            return minus + {"infinite": "inf", "nan": "nan"}[self.category]
        return minus + _plain_decimal(abs(value))

    @property
    def dyadic(self) -> str | None:
        """The value as an odd integer times a power of two, "131 × 2^-12"; None for Inf and NaN."""
        value = self.value
        if not value:
            return None if value is None else self.decimal
        numerator, denominator = value.as_integer_ratio()
        twos = _trailing_zeros(numerator)
        return f"{numerator >> twos} × 2^{twos - _trailing_zeros(denominator)}"

    @property
    def hexfloat(self) -> str:
        """The exact value in C's hexadecimal notation, as float.hex writes it for fp64.

        Every digit of the fraction field is written, subnormals begin with 0x0, zeros are 0x0.0p+0
        and -0x0.0p+0; Inf and NaN are "inf", "-inf" and "nan".
        """
        minus = "-" * self.sign
        words = {"zero": f"{minus}0x0.0p+0", "infinite": f"{minus}inf", "nan": "nan"}
        if self.category in words:
            return words[self.category]
        digits = -(-self.format.fraction_bits // 4)
        fraction = self.fraction << (4 * digits - self.format.fraction_bits)
        hidden = int(self.exponent > 0)
        return f"{minus}0x{hidden}.{fraction:0{digits}x}p{self.unbiased_exponent:+d}"

    @property
    def simplest(self) -> Fraction | None:
        """The fraction of smallest denominator that rounds to this code; None for Inf and NaN."""
        return exact.simplest_fraction(self.code, self.format) if self.is_finite else None

    # The neighbourhood.

    @property
    def ulp(self) -> Fraction | None:
        """The unit in the last place, the spacing of values here; None for Inf and NaN."""
        return exact.ulp(self.code, self.format) if self.is_finite else None

    @property
    def next_up(self) -> Inspection | None:
        """The least value above: Inf above the largest finite one, the smallest subnormal above 0.

        None above Inf, and for NaN.
        """
        return self._neighbour(exact.next_up)

    @property
    def next_down(self) -> Inspection | None:
        """The greatest value below; None below -Inf, and for NaN."""
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

        None if a code was given, and if either is Inf or NaN.
        """
        requested = self._finite_request
        if self.value is None or requested is None:
            return None
        if isinstance(requested, Decimal):
            return requested.copy_negate()  # a finite value, so it underflowed to zero
        return self.value - requested

    @property
    def relative_error(self) -> Fraction | None:
        """`error` over the magnitude of `requested`; None where there is no `error`."""
        error, requested = self.error, self._finite_request
        if isinstance(error, Fraction) and isinstance(requested, Fraction):
            return error / abs(requested) if error else error
        return None if error is None else Fraction(-1 if error < 0 else 1)

    @property
    def error_ulps(self) -> Fraction | None:
        """`error` in units of `ulp`; None where there is no `error`, or it is a Decimal."""
        error, ulp = self.error, self.ulp
        return error / ulp if isinstance(error, Fraction) and ulp else None

    @property
    def remark(self) -> str | None:
        """A sentence if the value overflowed, underflowed or lay halfway; else None."""
        requested = self._finite_request
        if not requested:
            return None
        if self.category in _REMARKS:
            return _REMARKS[self.category](self.format)
        if self.error and requested in exact.rounding_interval(self.code, self.format)[:2]:
            return _tie_remark(self)
        return None

    # How it is shown.

    def __repr__(self) -> str:
        return f"<{self.format} {self.hex} {'|'.join(_field_bits(self))} {_equals(_brief(self))}>"

    def __str__(self) -> str:
        lines = _layout(self, TEXT_WIDTH)
        return "\n".join("".join(text for text, _ in line) for line in lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        for line in _layout(self, options.max_width):
            styled = ((text, _TERMINAL_STYLES[role]) for text, role in line)
            yield Text.assemble(*styled, no_wrap=True, overflow="ignore")

    def _repr_html_(self) -> str:
        return _html_card(self)

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
            As the properties; `payload` is None for what is no NaN.
        ``unbiased_exponent``, ``significand``, ``value``
            An integer and two exact numbers; None for Inf and NaN.
        ``decimal``, ``dyadic``, ``hexfloat``, ``simplest``
            The value's notations; `dyadic` and `simplest` are None for Inf and NaN.
        ``ulp``, ``next_up``, ``next_down``
            An exact number, and each neighbour as a dictionary of ``hex`` and ``decimal``, or None.
        ``requested``, ``error``, ``relative_error``, ``error_ulps``, ``remark``
            None if a code was given. `requested` may be "-0", "inf", "-inf" or "nan", and it and
            `error` are in scientific notation if their exponent is beyond 5,000 digits.

        Examples
        --------
        >>> import floatfmt as ff
        >>> card = ff.inspect("0.0319", "bf16").to_dict()
        >>> card["value"], card["error"], card["next_up"]
        ('131/4096', '211/2560000', {'hex': '0x3D04', 'decimal': '0.0322265625'})
        """
        plain = {"format": self.format.name, "code": self.code}
        return plain | {name: _json(getattr(self, name)) for name in _JSON_PROPERTIES}


_JSON_PROPERTIES = (
    *("hex", "bits", "sign", "exponent", "fraction", "category", "is_quiet", "payload"),
    *("unbiased_exponent", "significand", "value", "decimal", "dyadic", "hexfloat", "simplest"),
    *("ulp", "next_up", "next_down"),
    *("requested", "error", "relative_error", "error_ulps", "remark"),
)  # fmt: skip


def inspect(value: Any = None, format: FormatLike | None = None, *, code: Any = None) -> Inspection:
    """Look at one number in one format: `value` rounded to it, or `code` as it is.

    Parameters
    ----------
    value : int, float, Fraction, Decimal, str, or a NumPy, ml_dtypes or torch scalar
        Taken exactly and rounded once, to the nearest value of the format, ties to even. The
        Python float 0.0319 is the double nearest to 0.0319; the string "0.0319" is 0.0319 itself.
        0-d arrays and tensors are scalars. Strings are a decimal ("0.0319", "1e-400", "1_000"), a
        fraction ("319/10000"), hexadecimal ("0x10", "0x1.8p-3"), "nan", "inf" or "infinity", each
        with an optional sign; or all bits of a code, with 0b in front or | between the fields
        ("0b0011110000000000", "0|01111|0000000000").
    format : Format, str, dtype or scalar type, optional
        Anything ``ff.format`` takes. When omitted, a NumPy, ml_dtypes or torch float is looked at
        in its own format, and anything else in fp64, as Python would hold it.
    code : int or str, instead of `value`
        A code of `format`, which must be given: 0x3C00, "0x3C00", or bits as above.

    Notes
    -----
    A NumPy or torch float in its own format, and a Python float in fp64, is taken bit by bit:
    nothing happens to a signalling NaN. Converted to another format a NaN becomes quiet and keeps
    its sign and the leading bits of its payload; a Decimal's payload is no bits and is dropped.
    Infinities and the sign of zeros stay. Magnitudes from the largest finite value plus half an ulp
    on become Inf, and those up to half of the smallest subnormal become zero.

    Raises
    ------
    TypeError
        Both or neither of `value` and `code`; a code without a format; a bool, complex number,
        array of one or more dimensions, or anything else that is no real number.
    ValueError
        A string that is no number, bits of another length, a code outside of the format's range.

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
        return Inspection(fmt, _read_code(code, fmt))
    if _is_bit_pattern(value):
        fmt = as_format("fp64" if format is None else format)
        return Inspection(fmt, _read_bits(value, fmt))
    number = _read(value)
    own_format = number.format if isinstance(number, _Bits) else exact.FP64
    fmt = own_format if format is None else as_format(format)
    return Inspection(fmt, _round(number, fmt), _exact(number))


# --- reading what was asked for -----------------------------------------------------------------


class _Bits(NamedTuple):
    """A float as its code in its own format, so that signs and NaN payloads survive."""

    code: int
    format: Format


def _round(number: Exact | _Bits, fmt: Format) -> int:
    """Return the code of `fmt` nearest to `number`; bits already in that format stay untouched."""
    if isinstance(number, _Bits):
        same = number.format == fmt
        return number.code if same else exact.convert(number.code, number.format, fmt)
    if abs(_magnitude(number)) > DECIMAL_REACH:
        stand_in = BEYOND_ALL_FORMATS if _magnitude(number) > 0 else 1 / BEYOND_ALL_FORMATS
        return exact.encode(-stand_in if number < 0 else stand_in, fmt)
    return exact.encode(Fraction(number), fmt)


def _magnitude(number: Exact) -> int:
    """Return about the decimal exponent of a Decimal, the binary one of a Fraction."""
    if isinstance(number, Decimal):
        return number.adjusted()
    return number.numerator.bit_length() - number.denominator.bit_length()


def _exact(number: Exact | _Bits) -> Exact | float:
    return exact.decode(*number) if isinstance(number, _Bits) else number


@functools.singledispatch
def _read(value: Any) -> Exact | _Bits:
    """Return the number that `value` is, exactly."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type):
        return _read_array(value)
    raise TypeError(
        "expected a real number (int, float, Fraction, Decimal, a NumPy or torch scalar) or a "
        f"string, got {interop.describe(value)} {reprlib.repr(value)}"
    )


@_read.register
def _read_bool(value: bool) -> Exact | _Bits:
    raise TypeError(f"a bool is not taken for a number; pass int({value}) to mean {int(value)}")


@_read.register(int)
@_read.register(Fraction)
def _read_rational(value: int | Fraction) -> Exact | _Bits:
    return Fraction(value)


@_read.register
def _read_float(value: float) -> Exact | _Bits:
    return _Bits(int.from_bytes(struct.pack(">d", value), "big"), exact.FP64)


@_read.register
def _read_decimal(value: Decimal) -> Exact | _Bits:
    if value.is_nan():
        return _special("nan", value.is_signed())
    if value.is_infinite() or not value:
        return _special("inf" if value else "zero", value.is_signed())
    if len(value.as_tuple().digits) > MAX_CHARACTERS:
        raise ValueError(f"a Decimal may have {MAX_CHARACTERS:,} digits here, not more")
    return Fraction(value) if abs(value.adjusted()) <= DECIMAL_REACH else value


def _special(word: str, negative: bool) -> _Bits:
    fp64 = exact.FP64
    code = {"zero": 0, "inf": fp64.infinity_code, "nan": fp64.infinity_code | fp64.quiet_bit}[word]
    return _Bits(code | (fp64.sign_bit if negative else 0), fp64)


@_read.register(np.generic)
@_read.register(np.ndarray)
def _read_array(value: Any) -> Exact | _Bits:
    """Return the number in a NumPy scalar, or in a 0-d array or tensor of any library."""
    if tuple(value.shape) != ():
        raise TypeError(
            f"inspect looks at one number, got {interop.describe(value)} of shape "
            f"{tuple(value.shape)}; index it, or take it apart as a whole with decompose"
        )
    fmt = _format_of(value.dtype)
    if fmt is not None:
        return _Bits(int(interop.codes_array(value, fmt)), fmt)
    if value.dtype == np.longdouble:
        return _read_longdouble(value[()])
    # A datetime's item() is a plain integer, and a long complex's is a long complex again.
    if getattr(value.dtype, "kind", None) in ("m", "M", "c"):
        raise TypeError(f"expected a real number, got {interop.describe(value)}")
    return _read(value.item())


def _format_of(dtype: Any) -> Format | None:
    """Return the format of a NumPy, ml_dtypes or torch dtype; None for integers and others."""
    if getattr(dtype, "kind", None) in ("i", "u", "b") or not getattr(
        dtype, "is_floating_point", True
    ):
        return None
    try:
        return as_format(dtype)
    except ValueError:
        return None


def _read_longdouble(value: np.longdouble) -> Exact | _Bits:
    if not np.isfinite(value) or value == 0:
        return _read_float(float(value))
    return Fraction(*value.as_integer_ratio())


# --- reading strings ----------------------------------------------------------------------------


def _parse_fraction(text: str) -> Fraction:
    # int() refuses more than 4,300 digits; Decimal takes them.
    numerator, denominator = (int(Decimal(part)) for part in text.split("/"))
    if denominator == 0:
        raise ValueError(f"{_quote(text)} divides by zero")
    return Fraction(numerator, denominator)


def _parse_hexadecimal(text: str) -> Fraction:
    digits, _, exponent = text.lower().removeprefix("0x").replace("_", "").partition("p")
    whole, _, fraction = digits.partition(".")
    # A Decimal, because int() refuses more than 4,300 digits.
    power = Decimal(exponent or 0)
    if abs(power) > BIT_REACH:
        raise ValueError(f"{_quote(text)} has an exponent beyond {BIT_REACH:,}")
    return int(whole + fraction, 16) * Fraction(2) ** (int(power) - 4 * len(fraction))


def _parse_decimal(text: str) -> Exact | _Bits:
    try:
        return _read_decimal(Decimal(text, _STRICT))
    except decimal.InvalidOperation:
        raise ValueError(f"{_quote(text)} has an exponent beyond {decimal.MAX_EMAX:,}") from None


#: Whatever the caller's decimal context does with errors, here they are raised.
_STRICT = decimal.Context(traps=[decimal.InvalidOperation])

_DIGITS = r"[0-9](?:_?[0-9])*"
_HEX = r"[0-9a-f](?:_?[0-9a-f])*"

#: What a string may be after its sign: (pattern, reader, how it is described).
_NOTATIONS: tuple[tuple[str, Callable[[str], Exact | _Bits], str], ...] = (
    (
        rf"(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:e[+-]?{_DIGITS})?",
        _parse_decimal,
        "a decimal ('0.0319', '1e-400', '1_000')",
    ),
    (rf"{_DIGITS}\s*/\s*{_DIGITS}", _parse_fraction, "a fraction ('319/10000')"),
    (
        rf"0x(?:{_HEX}\.?(?:{_HEX})?|\.{_HEX})(?:p[+-]?[0-9]+)?",
        _parse_hexadecimal,
        "hexadecimal ('0x10', '0x1.8p-3')",
    ),
    ("nan", lambda _: _special("nan", False), "'nan'"),
    ("inf|infinity", lambda _: _special("inf", False), "'inf'"),
)
_ACCEPTED = ", ".join(described for *_, described in _NOTATIONS)


@_read.register
def _read_text(value: str) -> Exact | _Bits:
    text = value.strip()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"a string may have {MAX_CHARACTERS:,} characters, {_quote(text)} has {len(text):,}"
        )
    magnitude = text[1:] if text[:1] in ("+", "-") else text
    for pattern, reader, _ in _NOTATIONS:
        if re.fullmatch(pattern, magnitude, re.IGNORECASE | re.ASCII):
            return _with_sign(reader(magnitude), text.startswith("-"))
    raise ValueError(
        f"cannot read {_quote(value)} as a number; accepted: {_ACCEPTED}, each with an optional "
        "sign, or the bits of a code ('0b0011110000000000', '0|01111|0000000000')"
    )


def _with_sign(number: Exact | _Bits, negative: bool) -> Exact | _Bits:
    if not negative:
        return number
    if isinstance(number, _Bits):
        return _Bits(number.code | number.format.sign_bit, number.format)
    return (
        number.copy_negate() if isinstance(number, Decimal) else -number or _special("zero", True)
    )


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")


def _is_bit_pattern(value: Any) -> bool:
    return isinstance(value, str) and ("|" in value or value.strip()[:2].lower() == "0b")


def _read_bits(text: str, fmt: Format) -> int:
    """Return the code written out bit by bit; where | separates fields, they have to be `fmt`'s."""
    body = re.sub(r"^0b|[_\s]", "", text.strip().lower())
    bits = body.replace("|", "")
    if not re.fullmatch("[01]+", bits):
        raise ValueError(
            f"bits are written with 0 and 1, separated by _, | or spaces, got {_quote(text)}"
        )
    if len(bits) != fmt.bits:
        raise ValueError(f"{_quote(text)} has {len(bits)} bits, but {fmt} has {fmt.bits}")
    widths = tuple(len(field) for field in body.split("|"))
    expected = (1, fmt.exponent_bits, fmt.fraction_bits)
    if len(widths) > 1 and widths != expected:
        # The same 16 bits are an fp16 and a bf16: a pattern cut for the one is not the other's.
        raise ValueError(
            f"{_quote(text)} is cut into fields of {_join(widths)} bits; those of {fmt} have "
            f"{_join(expected)}"
        )
    return int(bits, 2)


def _join(widths: tuple[int, ...]) -> str:
    return ", ".join(str(width) for width in widths)


def _read_code(code: Any, fmt: Format) -> int:
    number = _code_from_text(code, fmt) if isinstance(code, str) else _code_from_integer(code)
    exact.fields(number, fmt)  # raises a ValueError if it is out of range
    return number


def _code_from_text(code: str, fmt: Format) -> int:
    if _is_bit_pattern(code):
        return _read_bits(code, fmt)
    if not re.fullmatch(rf"0x{_HEX}", code.strip(), re.IGNORECASE):
        raise ValueError(
            f"cannot read {_quote(code)} as a code; write it in hexadecimal ('0x3C00'), or every "
            "bit of it ('0b0011110000000000', '0|01111|0000000000')"
        )
    return int(code.strip(), 16)


def _code_from_integer(code: Any) -> int:
    # True has an __index__, and so has a tensor of one bool.
    is_bool = str(getattr(code, "dtype", type(code).__name__)).endswith("bool")
    try:
        if not is_bool and getattr(code, "shape", ()) == ():
            return operator.index(code)
    except TypeError:
        pass  # no integer; a tensor of floats says so only when asked
    raise TypeError(f"a code is an integer or a string, got {interop.describe(code)} {code!r}")


# --- numbers as text ----------------------------------------------------------------------------


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


def _decimal_places(x: Fraction) -> int | None:
    """Return how many digits x has after the decimal point; None if they never end."""
    twos = _trailing_zeros(x.denominator)
    rest, fives = x.denominator >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def _integer(n: int) -> str:
    # str() refuses integers of more than 4,300 digits, and takes minutes for millions.
    return str(Decimal(n)) if n.bit_length() <= BIT_REACH else hex(n)


def _ratio(x: Fraction) -> str:
    denominator = "" if x.denominator == 1 else f"/{_integer(x.denominator)}"
    return _integer(x.numerator) + denominator


def _plain_decimal(x: Fraction) -> str:
    """Return every digit of an x >= 0 whose digits end."""
    places = _decimal_places(x)
    assert places is not None
    digits = _integer(int(x * 10**places)).zfill(places + 1)
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def _short_decimal(x: Exact, limit: int) -> str | None:
    """Return x exactly if that takes at most `limit` characters, else None."""
    # Whatever is that short has few bits; more are not even tried.
    if isinstance(x, Decimal) or _bit_length(x) > 4 * limit or _decimal_places(x) is None:
        return None
    text = "-" * (x < 0) + _plain_decimal(abs(x))
    return text if len(text) <= limit else None


def _bit_length(x: Fraction) -> int:
    return max(x.numerator.bit_length(), x.denominator.bit_length())


def _figure(x: Exact, limit: int = 30, plus: str = "") -> str:
    """Return x exactly if that takes at most `limit` characters, else to 6 digits after a ~."""
    text = _short_decimal(x, limit)
    if text is None:
        return _rounded(x, 6, plus)
    return text if x < 0 else plus + text


def _rounded(x: Exact, digits: int, plus: str = "") -> str:
    """Return x to so many significant digits, after a ~ unless that is exact."""
    if isinstance(x, Fraction) and _bit_length(x) > BIT_REACH:
        return f"~{'-' if x < 0 else plus}2^{exact.floor_log2(abs(x))}"
    context = decimal.Context(digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    if isinstance(x, Decimal):
        result = context.plus(x)
    else:
        result = context.divide(Decimal(x.numerator), Decimal(x.denominator))
    about = "~" if context.flags[decimal.Inexact] else ""
    layout = "f" if -6 <= result.adjusted() < 16 else "e"
    return f"{about}{result.normalize(context):{plus}{layout}}"


def _brief(x: Inspection) -> str:
    """Return the value exactly, or with the digits that tell it from its neighbours."""
    if x.value is None or len(x.decimal) <= 30:
        return x.decimal
    return _rounded(x.value, x.format.round_trip_digits)


def _equals(figure: str) -> str:
    """Return ``= figure``, or ``~ figure`` if it is not exact."""
    return f"~ {figure[1:]}" if figure.startswith("~") else f"= {figure}"


def _json(value: Any) -> Any:
    """Return a property's value as what JSON has; exact numbers as strings."""
    if isinstance(value, Inspection):
        return {"hex": value.hex, "decimal": value.decimal}
    if isinstance(value, Fraction):
        return _ratio(value)
    if isinstance(value, (Decimal, float)):
        return str(value).lower().removesuffix(".0")
    return value


# --- remarks ------------------------------------------------------------------------------------


def _overflow_remark(fmt: Format) -> str:
    largest = exact.next_down(fmt.infinity_code, fmt)
    _, threshold, _ = exact.rounding_interval(largest, fmt)
    rounded = _rounded(threshold, fmt.round_trip_digits)
    return (
        f"overflows: the largest finite value is {_brief(Inspection(fmt, largest))}, and "
        f"magnitudes from {_short_decimal(threshold, 30) or rounded} on round to inf"
    )


def _underflow_remark(fmt: Format) -> str:
    return (
        f"underflows: the smallest positive value is {_brief(Inspection(fmt, 1))}, and magnitudes "
        "up to half of it round to zero"
    )


def _tie_remark(x: Inspection) -> str:
    other = x.next_down if x.error and x.error > 0 else x.next_up
    assert other is not None
    return f"a tie: halfway between {x.hex} and {other.hex}, and the even code is taken"


_REMARKS = {"infinite": _overflow_remark, "zero": _underflow_remark}


# --- the card -----------------------------------------------------------------------------------

TEXT_WIDTH = 80
LABEL_WIDTH = len("significand") + 2

_KINDS = {
    "zero": "zero",
    "subnormal": "a subnormal number",
    "normal": "a normal number",
    "infinite": "infinity",
}


def _title(x: Inspection) -> str:
    nan = "a quiet NaN" if x.is_quiet else "a signalling NaN"
    return f"{x.format} {x.hex}, {_KINDS.get(x.category, nan)}"


def _field_bits(x: Inspection) -> tuple[str, str, str]:
    end = 1 + x.format.exponent_bits
    return x.bits[:1], x.bits[1:end], x.bits[end:]


def _plain(text: str | None) -> list[Part]:
    return [(text, "")] if text else []


def _bits_row(x: Inspection) -> list[Part]:
    sign, exponent, fraction = _field_bits(x)
    return [(sign, "sign"), ("|", ""), (exponent, "exponent"), ("|", ""), (fraction, "fraction")]


def _sign_row(x: Inspection) -> list[Part]:
    return [(_field_bits(x)[0], "sign"), (" = -" if x.sign else " = +", "")]


def _exponent_row(x: Inspection) -> list[Part]:
    meaning = f", less the bias of {x.format.bias}: 2^{x.unbiased_exponent}"
    if not x.is_finite:
        meaning = ", all ones: Inf or NaN"
    elif x.exponent == 0:
        meaning = f", no hidden bit: 2^{x.unbiased_exponent}"
    return [(_field_bits(x)[1], "exponent"), (f" = {x.exponent}{meaning}", "")]


def _fraction_row(x: Inspection) -> list[Part]:
    meaning = {"infinite": ": Inf", "nan": ", not 0: NaN"}.get(x.category, "")
    return [(_field_bits(x)[2], "fraction"), (f" = {x.fraction}{meaning}", "")]


def _significand_row(x: Inspection) -> list[Part]:
    if x.significand is None:
        return []
    # The hidden bit is the exponent field's doing.
    hidden = (f"{int(x.exponent > 0)}", "exponent")
    in_decimal = f" in binary = {_plain_decimal(x.significand)}"
    return [hidden, (".", ""), (_field_bits(x)[2], "fraction"), (in_decimal, "")]


def _payload_row(x: Inspection) -> list[Part]:
    if x.payload is None:
        return []
    leading = "1: quiet" if x.is_quiet else "0: signalling"
    return _plain(f"{x.payload:#x}; the fraction's leading bit is {leading}")


def _value_row(x: Inspection) -> list[Part]:
    brief = _brief(x)
    long = len(x.decimal) > TEXT_WIDTH - LABEL_WIDTH
    return _plain(f"{brief}, exactly {x.decimal}" if long else x.decimal)


def _dyadic_row(x: Inspection) -> list[Part]:
    if not x.value:
        return []
    ratio = _ratio(x.value)
    return _plain(f"{x.dyadic} = {ratio}" if len(ratio) <= 40 else x.dyadic)


def _hexfloat_row(x: Inspection) -> list[Part]:
    return _plain(x.hexfloat if x.is_finite else None)


def _simplest_row(x: Inspection) -> list[Part]:
    if x.simplest is None or x.simplest == x.value:
        return []
    return _plain(f"{_ratio(x.simplest)} rounds to this code")


def _requested_row(x: Inspection) -> list[Part]:
    asked = x.requested
    if not isinstance(asked, Fraction):
        return _plain(_json(asked))
    figure = _figure(asked, limit=100)
    return _plain(f"{_ratio(asked)} {_equals(figure)}" if _is_short_ratio(asked) else figure)


def _is_short_ratio(x: Fraction) -> bool:
    return _bit_length(x) <= 64 and _decimal_places(x) is None


def _error_row(x: Inspection) -> list[Part]:
    error, ulps, relative = x.error, x.error_ulps, x.relative_error
    if error is None or relative is None:
        return []
    if not error:
        return _plain("none")
    in_ulps = "" if ulps is None else f"{_rounded(ulps, 3, '+')} ulp, "
    return _plain(f"{_figure(error, plus='+')}, {in_ulps}relative {_rounded(relative, 3, '+')}")


def _ulp_row(x: Inspection) -> list[Part]:
    return _plain(f"2^{exact.floor_log2(x.ulp)} {_equals(_figure(x.ulp))}") if x.ulp else []


def _next_row(x: Inspection, neighbour: Inspection | None, where: str) -> list[Part]:
    if x.category == "nan":
        return []
    if neighbour is None:
        return _plain(f"none: nothing lies {where}")
    return _plain(f"{neighbour.hex} {_equals(_brief(neighbour))}")


#: The card, row by row: its label, the field whose colour it has, and what it says; a row that
#: says nothing is left out.
_ROWS: tuple[tuple[str, str, Callable[[Inspection], list[Part]]], ...] = (
    ("bits", "", _bits_row),
    ("sign", "sign", _sign_row),
    ("exponent", "exponent", _exponent_row),
    ("fraction", "fraction", _fraction_row),
    ("significand", "", _significand_row),
    ("payload", "", _payload_row),
    ("value", "", _value_row),
    ("dyadic", "", _dyadic_row),
    ("hexfloat", "", _hexfloat_row),
    ("simplest", "", _simplest_row),
    ("asked for", "", _requested_row),
    ("error", "", _error_row),
    ("note", "", lambda x: _plain(x.remark)),
    ("ulp", "", _ulp_row),
    ("next up", "", lambda x: _next_row(x, x.next_up, "above")),
    ("next down", "", lambda x: _next_row(x, x.next_down, "below")),
)


def _rows(x: Inspection) -> Iterator[tuple[str, str, list[Part]]]:
    for label, role, row in _ROWS:
        if parts := row(x):
            yield label, role, parts


def _layout(x: Inspection, width: int) -> Iterator[list[Part]]:
    """Yield the card's lines, none longer than `width`; long numbers go on in the same column."""
    yield from _wrap([(_title(x), "title")], width)
    for label, role, parts in _rows(x):
        for line in _wrap(parts, width - LABEL_WIDTH):
            yield [(label, role), (" " * (LABEL_WIDTH - len(label)), ""), *line]
            label = ""


def _wrap(parts: list[Part], width: int) -> Iterator[list[Part]]:
    """Cut parts into lines of at most `width` characters, at spaces where there are any."""
    whole = "".join(text for text, _ in parts)
    # A no-break space keeps an equals sign with what it equals; the line itself has the space.
    whole = whole.replace("= ", "=\N{NO-BREAK SPACE}").replace("~ ", "~\N{NO-BREAK SPACE}")
    start = 0
    for line in textwrap.wrap(whole, max(width, 1), break_on_hyphens=False):
        start = whole.index(line, start)
        yield list(_slice(parts, start, start + len(line)))
        start += len(line)


def _slice(parts: list[Part], start: int, stop: int) -> Iterator[Part]:
    """Yield the parts of the characters from `start` to `stop`."""
    for text, role in parts:
        if piece := text[max(start, 0) : max(stop, 0)]:
            yield piece, role
        start, stop = start - len(text), stop - len(text)


_TERMINAL_STYLES = {
    "": "",
    "title": "bold",
    "sign": "bold magenta",
    "exponent": "bold cyan",
    "fraction": "bold green",
}

# Dark letters on a light ground of their own are legible on a light and on a dark page.
_CHIP = "color:#111;border-radius:3px;padding:0 3px;background:"
_HTML_STYLES = {
    "title": "font-weight:bold",
    "sign": _CHIP + "#e8a9cf",
    "exponent": _CHIP + "#8fd0f5",
    "fraction": _CHIP + "#93dcb8",
}
_HTML_CARD = "font-family:monospace;font-size:13px;line-height:1.5;max-width:60em;margin:8px 0"
# Jupyter's own style stripes tables and aligns them to the right.
_HTML_RESET = "background:none;border:none;text-align:left;vertical-align:top;font-size:inherit"
_HTML_TABLE = "border-collapse:collapse;border:none;margin:4px 0"
_HTML_LABEL = f"{_HTML_RESET};padding:1px 16px 1px 0;font-weight:normal;min-width:7em"
_HTML_TEXT = f"{_HTML_RESET};padding:1px 0;overflow-wrap:anywhere"


def _html_card(x: Inspection) -> str:
    rows = "".join(
        f'<tr style="background:none"><th scope="row" style="{_HTML_LABEL}">'
        f'{_html(label, role)}</th><td style="{_HTML_TEXT}">'
        f"{''.join(_html(*part) for part in parts)}</td></tr>"
        for label, role, parts in _rows(x)
    )
    return (
        f'<div style="{_HTML_CARD}">{_html(_title(x), "title")}'
        f'<table style="{_HTML_TABLE}"><tbody>{rows}</tbody></table></div>'
    )


def _html(text: str, role: str) -> str:
    import html  # its table of entities takes a millisecond, and most never need it

    escaped = html.escape(text)
    return f'<span style="{_HTML_STYLES[role]}">{escaped}</span>' if role else escaped
