"""What people type or pass, as an exact number or a code: any library's scalars, and strings.

`read` takes values and `read_code` codes; each says what it accepts when it refuses.
"""

from __future__ import annotations

import decimal
import functools
import math
import operator
import re
import reprlib
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import exact, interop
from .figures import BIT_REACH, Exact
from .formats import Format, format
from .rounding import Rules, rules
from .spelling import field_widths

__all__ = [
    "Bits",
    "Number",
    "exact_value",
    "is_bit_pattern",
    "read",
    "read_code",
    "rounded_code",
    "within_reach",
]


class Bits(NamedTuple):
    """A float as its code in its own format, so that signs and NaN payloads survive."""

    code: int
    format: Format


#: What was read: Bits for floats and where a zero's sign, an infinity or a NaN is to survive.
Number: TypeAlias = Exact | Bits

#: Decimals of exponents up to this become Fractions: those of all C types, which end at 10**-4951.
#: What lies beyond overflows or underflows in every format, just as 10**400 and 10**-400 do.
DECIMAL_REACH = 5_000
BEYOND_ALL_FORMATS = Fraction(10) ** 400
#: The longest text that is read; the exact value of the least long double takes 16,448 characters.
MAX_CHARACTERS = 20_000


# --- what becomes of a number -------------------------------------------------------------------


def rounded_code(number: Number, how: Rules, word: int | None = None) -> int:
    """Return the code that the rules give a number; `word` is 32 bits for stochastic rounding.

    NaNs already in that format keep all their bits by default.

    Raises
    ------
    ValueError
        The rules have no code for NaN.
    """
    if not isinstance(number, Bits):
        return exact.encode(within_reach(number), how.format, how, word)
    code, source = number
    if how.nans is None and exact.category(code, source) == "nan":
        raise ValueError(_no_code_for_nan(how))
    if source == how.format and how.nan == "quiet":
        if how.is_default:
            return code
        how = rules(how.format, how.rounding, how.overflow, "preserve", how.subnormals)
    return exact.convert(code, source, how.format, how, word)


def _no_code_for_nan(how: Rules) -> str:
    if how.format.nan is not None:
        return "the value is NaN, and nan='error'"
    return f"{how.format} has no NaN; nan='zero' or nan='largest' gives it a value"


def within_reach(number: Exact) -> Fraction:
    """Return a number as a Fraction, or one that rounds alike where that would be too long."""
    size = _magnitude(number)
    if abs(size) <= DECIMAL_REACH:
        return Fraction(number)
    stand_in = BEYOND_ALL_FORMATS if size > 0 else 1 / BEYOND_ALL_FORMATS
    return -stand_in if number < 0 else stand_in


def exact_value(number: Number) -> Exact | float:
    """Return a number's value: a Fraction, a Decimal beyond all Fractions, -0.0, inf or nan."""
    return exact.decode(*number) if isinstance(number, Bits) else number


def _magnitude(number: Exact) -> int:
    """Return about the decimal exponent of a Decimal, the binary one of a Fraction."""
    if isinstance(number, Decimal):
        return number.adjusted()
    return number.numerator.bit_length() - number.denominator.bit_length()


# --- values -------------------------------------------------------------------------------------


@functools.singledispatch
def read(value: Any) -> Number:
    """Return the number that `value` is, exactly."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type):
        return _read_array(value)
    raise TypeError(
        "expected a real number (int, float, Fraction, Decimal, a NumPy or torch scalar) or a "
        f"string, got {interop.describe(value)} {reprlib.repr(value)}"
    )


@read.register(bool)
def _read_bool(value: bool) -> Number:
    raise TypeError(f"a bool is not taken for a number; pass int({value}) to mean {int(value)}")


@read.register(int)
@read.register(Fraction)
def _read_rational(value: int | Fraction) -> Number:
    return Fraction(value)


@read.register(float)
def _read_float(value: float) -> Number:
    return Bits(int.from_bytes(struct.pack(">d", value), "big"), exact.FP64)


@read.register(Decimal)
def _read_decimal(value: Decimal) -> Number:
    if value.is_nan():  # float() refuses a signalling one
        return _read_float(math.copysign(math.nan, -1 if value.is_signed() else 1))
    if value.is_infinite() or not value:
        return _read_float(float(value))
    if len(value.as_tuple().digits) > MAX_CHARACTERS:
        raise ValueError(f"a Decimal may have {MAX_CHARACTERS:,} digits here, not more")
    return Fraction(value) if abs(value.adjusted()) <= DECIMAL_REACH else value


@read.register(np.generic)
@read.register(np.ndarray)
def _read_array(value: Any) -> Number:
    """Return the number in a NumPy scalar, or in a 0-d array or tensor of any library."""
    if tuple(value.shape) != ():
        raise TypeError(
            f"inspect looks at one number, got {interop.describe(value)} of shape "
            f"{tuple(value.shape)}; index it, or take it apart as a whole with decompose"
        )
    fmt = _format_of(value.dtype)
    if fmt is not None:
        return Bits(int(interop.codes_array(value, fmt)), fmt)
    if value.dtype == np.longdouble:
        return _read_longdouble(value[()])
    # A datetime's item() is a plain integer, and a long complex's is a long complex again.
    if getattr(value.dtype, "kind", None) in ("m", "M", "c"):
        raise TypeError(f"expected a real number, got {interop.describe(value)}")
    return read(value.item())


def _format_of(dtype: Any) -> Format | None:
    """Return the format of a NumPy, ml_dtypes or torch dtype; None for integers and others."""
    try:
        fmt = format(dtype)
    except ValueError:
        return None
    return None if fmt.is_integer else fmt


def _read_longdouble(value: np.longdouble) -> Number:
    if not np.isfinite(value) or value == 0:
        return _read_float(float(value))
    return Fraction(*value.as_integer_ratio())


# --- strings ------------------------------------------------------------------------------------


def _parse_decimal(text: str) -> Number:
    try:
        return _read_decimal(Decimal(text, _STRICT))
    except decimal.InvalidOperation:
        raise ValueError(f"{_quote(text)} has an exponent beyond {decimal.MAX_EMAX:,}") from None


def _parse_fraction(text: str) -> Number:
    # int() refuses more than 4,300 digits; Decimal takes them.
    numerator, denominator = (int(Decimal(part)) for part in text.split("/"))
    if denominator == 0:
        raise ValueError(f"{_quote(text)} divides by zero")
    return Fraction(numerator, denominator)


def _parse_hexadecimal(text: str) -> Number:
    digits, _, exponent = text.lower().removeprefix("0x").replace("_", "").partition("p")
    whole, _, fraction = digits.partition(".")
    # A Decimal, because int() refuses more than 4,300 digits.
    power = Decimal(exponent or 0)
    if abs(power) > BIT_REACH:
        raise ValueError(f"{_quote(text)} has an exponent beyond {BIT_REACH:,}")
    return int(whole + fraction, 16) * Fraction(2) ** (int(power) - 4 * len(fraction))


def _parse_word(text: str) -> Number:
    return _read_float(float(text))


#: Whatever the caller's decimal context does with errors, here they are raised.
_STRICT = decimal.Context(traps=[decimal.InvalidOperation])

_DIGITS = r"[0-9](?:_?[0-9])*"
_HEX = r"[0-9a-f](?:_?[0-9a-f])*"
_IGNORE_CASE = re.IGNORECASE | re.ASCII

#: What a string may be after its sign: (pattern, reader, how it is described).
_NOTATIONS: tuple[tuple[str, Callable[[str], Number], str], ...] = (
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
    ("nan|inf|infinity", _parse_word, "'nan', 'inf'"),
)
_ACCEPTED = ", ".join(described for *_, described in _NOTATIONS)


@read.register(str)
def _read_text(value: str) -> Number:
    text = value.strip()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"a string may have {MAX_CHARACTERS:,} characters, {_quote(text)} has {len(text):,}"
        )
    magnitude = text[1:] if text[:1] in ("+", "-") else text
    for pattern, parse, _ in _NOTATIONS:
        if re.fullmatch(pattern, magnitude, _IGNORE_CASE):
            number = parse(magnitude)
            return _negated(number) if text.startswith("-") else number
    raise ValueError(
        f"cannot read {_quote(value)} as a number; accepted: {_ACCEPTED}, each with an optional "
        "sign, or the bits of a code ('0b0011110000000000', '0|01111|0000000000')"
    )


def _negated(number: Number) -> Number:
    if isinstance(number, Bits):
        return Bits(number.code | number.format.sign_bit, number.format)
    if isinstance(number, Decimal):
        return number.copy_negate()  # which does not round, as - does
    return -number or _read_float(-0.0)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")


# --- codes --------------------------------------------------------------------------------------


def read_code(code: Any, fmt: Format) -> int:
    """Return a code of `fmt` given as an integer, in hexadecimal or bit by bit."""
    number = _code_from_text(code, fmt) if isinstance(code, str) else _code_from_integer(code)
    exact.fields(number, fmt)  # raises a ValueError if it is out of range
    return number


def is_bit_pattern(value: Any) -> bool:
    """Return whether a value is a code written out bit by bit, which no number is."""
    return isinstance(value, str) and ("|" in value or value.strip()[:2].lower() == "0b")


def _code_from_text(code: str, fmt: Format) -> int:
    if is_bit_pattern(code):
        return _code_from_bits(code, fmt)
    if not re.fullmatch(rf"0x{_HEX}", code.strip(), re.IGNORECASE):
        raise ValueError(
            f"cannot read {_quote(code)} as a code; write it in hexadecimal ('0x3C00'), or every "
            "bit of it ('0b0011110000000000', '0|01111|0000000000')"
        )
    return int(code.strip(), 16)


def _code_from_bits(text: str, fmt: Format) -> int:
    """Return the code written out bit by bit; where | separates fields, they have to be `fmt`'s."""
    body = re.sub(r"^0b|[_\s]", "", text.strip().lower())
    bits = body.replace("|", "")
    if not re.fullmatch("[01]+", bits):
        raise ValueError(
            f"bits are written with 0 and 1, separated by _, | or spaces, got {_quote(text)}"
        )
    if len(bits) != fmt.bits:
        raise ValueError(f"{_quote(text)} has {len(bits)} bits, but {fmt} has {fmt.bits}")
    widths = [len(field) for field in body.split("|")]
    expected = [width for _, width in field_widths(fmt)]
    if len(widths) > 1 and widths != expected:
        # The same 16 bits are an fp16 and a bf16: a pattern cut for the one is not the other's.
        raise ValueError(
            f"{_quote(text)} is cut into fields of {', '.join(map(str, widths))} bits; those of "
            f"{fmt} have {', '.join(map(str, expected))}"
        )
    return int(bits, 2)


def _code_from_integer(code: Any) -> int:
    # True has an __index__, and so has a tensor of one bool.
    is_bool = str(getattr(code, "dtype", type(code).__name__)).endswith("bool")
    try:
        if not is_bool and getattr(code, "shape", ()) == ():
            return operator.index(code)
    except TypeError:
        pass  # no integer; a tensor of floats says so only when asked
    raise TypeError(f"a code is an integer or a string, got {interop.describe(code)} {code!r}")
