"""How a code and its value are written: in bits, in hexadecimal, in decimal."""

from __future__ import annotations

from fractions import Fraction

from . import exact
from .figures import figure, plain_decimal
from .formats import Format

__all__ = ["brief", "field_bits", "field_widths", "has_sign", "in_decimal", "in_hex"]


def in_hex(code: int, fmt: Format) -> str:
    """Return a code in hexadecimal, zero-padded to the format's width.

    Examples
    --------
    >>> import floatfmt as ff
    >>> from floatfmt.spelling import in_hex
    >>> in_hex(5, ff.format("tf32"))
    '0x00005'
    """
    return f"0x{code:0{-(-fmt.bits // 4)}X}"


def field_widths(fmt: Format) -> tuple[tuple[str, int], ...]:
    """Return the fields that a format has, from the highest bit on: name and width."""
    fields = (
        ("sign", int(fmt.signed)),
        ("exponent", fmt.exponent_bits),
        ("fraction", fmt.fraction_bits),
    )
    return tuple((name, width) for name, width in fields if width)


def field_bits(code: int, fmt: Format) -> dict[str, str]:
    """Return the bits of each field that a format has.

    Examples
    --------
    >>> import floatfmt as ff
    >>> from floatfmt.spelling import field_bits
    >>> field_bits(0x7D, ff.format("fp8_ue4m3"))
    {'exponent': '1111', 'fraction': '101'}
    """
    bits, found = f"{code:0{fmt.bits}b}", {}
    for name, width in field_widths(fmt):
        found[name], bits = bits[:width], bits[width:]
    return found


def has_sign(code: int, fmt: Format) -> bool:
    """Return whether a code is that of something negative; NaN in place of -0 has no sign."""
    is_unsigned_nan = fmt.nan == "negative_zero" and code == fmt.sign_bit
    return code & fmt.sign_bit != 0 and not is_unsigned_nan


def in_decimal(code: int, fmt: Format) -> str:
    """Return a code's exact value, every digit; or "-0", "inf", "-inf", "nan", "-nan"."""
    kind = exact.category(code, fmt)
    if kind in ("normal", "subnormal"):
        return plain_decimal(Fraction(exact.decode(code, fmt)))
    return "-" * has_sign(code, fmt) + {"zero": "0", "infinite": "inf", "nan": "nan"}[kind]


def brief(code: int, fmt: Format) -> str:
    """Return a code's value exactly, or with the digits that tell it from its neighbours."""
    if exact.category(code, fmt) in ("normal", "subnormal"):
        return figure(Fraction(exact.decode(code, fmt)), fmt.round_trip_digits)
    return in_decimal(code, fmt)
