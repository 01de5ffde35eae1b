"""Numbers and other people's text as the page writes them; strings only, no HTML."""

from __future__ import annotations

import math
import re
import unicodedata

from .results import Estimate

__all__ = [
    "bit_fields",
    "change",
    "estimate",
    "fixed",
    "number",
    "percent",
    "power_of_ten",
    "shortened",
    "visible",
]

_PLUS_MINUS = "\xa0±\xa0"  # no line ends there
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: What would change how the text around it is read, or cannot be written as UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
#: Figures of a magnitude outside this range are written with a power of ten.
_SMALL, _LARGE = 1e-3, 1e9
#: A standard error of a smaller share of its value, or nearly subnormal, is written by itself.
_TINY, _LEAST_ERROR = 1e-9, 1e-290


def visible(text: str) -> str:
    """Return text with control characters, marks of direction and lone surrogates shown.

    Line ends and tabs stay.

    Examples
    --------
    >>> visible("a" + chr(0) + "b" + chr(0x202E))
    'a⟨U+0000⟩b⟨U+202E⟩'
    """
    return _UNSEEN.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    return f"⟨U+{ord(found[0]):04X}⟩"


def shortened(text: str, width: int) -> str:
    """Return text in one line of so many characters, its middle left out where it is longer.

    Examples
    --------
    >>> shortened("transformer.h.0", 9)
    'tran….h.0'
    """
    line = "".join(c if unicodedata.category(c)[0] not in "CZ" or c == " " else "?" for c in text)
    head = (width - 1) // 2
    return line if len(line) <= width else f"{line[:head]}…{line[len(line) - (width - 1 - head) :]}"


def power_of_ten(exponent: int) -> str:
    """Return a power of ten with a raised exponent.

    Examples
    --------
    >>> power_of_ten(-3)
    '10⁻³'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def number(x: float | None, digits: int = 4) -> str:
    """Return a number to some digits; "–" for None, "inf" or "nan" for what is not finite.

    Examples
    --------
    >>> number(29.94131), number(1.23e-7), number(123456.7), number(None)
    ('29.94', '1.23·10⁻⁷', '123,457', '–')
    """
    if x is None:
        return "–"
    if not math.isfinite(x) or x == 0:
        return f"{x:g}".replace("-", "−")
    power = int(f"{x:.{digits - 1}e}".partition("e")[2])
    if not _SMALL <= abs(x) < _LARGE:
        short = f"{x:.{max(0, digits - 2)}e}".partition("e")
        return f"{short[0]}·{power_of_ten(int(short[2]))}".replace("-", "−")
    return f"{x:,.{max(0, digits - 1 - power)}f}".replace("-", "−")


def fixed(x: float, places: int) -> str:
    """Return a number with so many places.

    Examples
    --------
    >>> fixed(1234.567, 2), fixed(float("inf"), 2)
    ('1,234.57', 'inf')
    """
    return number(x) if _LARGE <= abs(x) < math.inf else f"{x:,.{places}f}".replace("-", "−")


def estimate(x: Estimate | None, scale: float = 1.0) -> str:
    r"""Return an estimate with its error to two digits, and the value to the same place.

    Examples
    --------
    >>> estimate(Estimate(29.94131, 0.4127)), estimate(Estimate(1.9e-5, 5.7e-7))
    ('29.94\xa0±\xa00.41', '(1.900\xa0±\xa00.057)·10⁻⁵')
    """
    if x is None:
        return "–"
    value, error = x.value * scale, x.error * scale
    if not (math.isfinite(value) and max(abs(value) * _TINY, _LEAST_ERROR) < error < math.inf):
        return f"{number(value)}{_PLUS_MINUS}{number(error)}"
    larger = max(abs(value), error)
    is_scaled = not _SMALL <= larger < _LARGE
    exponent = math.floor(math.log10(larger)) if is_scaled else 0
    value, error = value / 10.0**exponent, error / 10.0**exponent
    places = max(0, 1 - math.floor(math.log10(error)))
    text = f"{value:,.{places}f}{_PLUS_MINUS}{error:,.{places}f}".replace("-", "−")
    return f"({text})·{power_of_ten(exponent)}" if is_scaled else text


def percent(share: float, digits: int = 3) -> str:
    r"""Return a share as a percentage.

    Examples
    --------
    >>> percent(0.33), percent(0.0148)
    ('33.0\xa0%', '1.48\xa0%')
    """
    return f"{number(100 * share, digits)}\xa0%"


def change(ratio: float) -> str:
    r"""Return by how much a ratio differs from 1, with its sign.

    Examples
    --------
    >>> change(1.00052), change(0.99), change(1.0)
    ('+0.052\xa0%', '−1.0\xa0%', '0\xa0%')
    """
    text = percent(ratio - 1, 2)
    return f"+{text}" if ratio > 1 else text


def bit_fields(bits: str) -> list[tuple[str, str]]:
    """Return the fields of bits that are written with bars between them, each by its name.

    Examples
    --------
    >>> bit_fields("1|1101|001")
    [('sign', '1'), ('exponent', '1101'), ('fraction', '001')]
    >>> bit_fields("11101011")
    [('code', '11101011')]
    """
    parts = bits.split("|")
    if len(parts) == 1:
        return [("code", bits)]
    names = ("sign", "exponent", "fraction")
    return list(zip(names if len(parts[0]) == 1 else names[1:], parts, strict=False))
