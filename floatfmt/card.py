"""The card of an inspection: what its rows say, and how they look as text, in colour and as HTML.

One list of rows (`_ROWS`) drives the text, the colours of the terminal and the HTML alike.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from . import exact
from .figures import equals, figure, in_full, is_short_ratio, plain_decimal, rounded
from .formats import Format

if TYPE_CHECKING:
    from rich.text import Text

    from .inspection import Inspection

__all__ = ["html_card", "one_line", "remark", "rich_card", "text_card"]

#: A piece of a line and its role: "sign", "exponent", "fraction", "title", or "" for plain text.
Part: TypeAlias = tuple[str, str]

TEXT_WIDTH = 80
LABEL_WIDTH = len("significand") + 2


# --- as a whole ---------------------------------------------------------------------------------


def one_line(x: Inspection) -> str:
    """Return the format, the code, its fields and the value on one line."""
    return f"<{x.format} {x.hex} {'|'.join(_field_bits(x))} {equals(_brief(x))}>"


def text_card(x: Inspection) -> str:
    """Return the card as plain text."""
    return "\n".join("".join(text for text, _ in line) for line in _layout(x, TEXT_WIDTH))


def rich_card(x: Inspection, width: int) -> Iterator[Text]:
    """Yield the card's lines for a rich console `width` columns wide."""
    from rich.text import Text

    for line in _layout(x, width):
        styled = ((text, _TERMINAL_STYLES[role]) for text, role in line)
        yield Text.assemble(*styled, no_wrap=True, overflow="ignore")


def html_card(x: Inspection) -> str:
    """Return the card as HTML that needs nothing from outside."""
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


# --- remarks ------------------------------------------------------------------------------------


def remark(x: Inspection) -> str | None:
    """Return a sentence if a finite value overflowed, underflowed or lay halfway; else None."""
    asked = x.requested
    if not asked or isinstance(asked, float):
        return None
    if x.category == "infinite":
        return _overflow_remark(x.format)
    if x.category == "zero":
        return _underflow_remark(x.format)
    if x.error and asked in exact.rounding_interval(x.code, x.format)[:2]:
        other = x.next_down if x.error > 0 else x.next_up
        assert other is not None
        return f"a tie: halfway between {x.hex} and {other.hex}, and the even code is taken"
    return None


def _overflow_remark(fmt: Format) -> str:
    digits = fmt.round_trip_digits
    _, threshold, _ = exact.rounding_interval(fmt.infinity_code - 1, fmt)
    return (
        f"overflows: the largest finite value is {figure(fmt.max_finite, digits)}, and magnitudes "
        f"from {figure(threshold, digits)} on round to inf"
    )


def _underflow_remark(fmt: Format) -> str:
    return (
        "underflows: the smallest positive value is "
        f"{figure(fmt.min_subnormal, fmt.round_trip_digits)}, and magnitudes up to half of it "
        "round to zero"
    )


# --- rows ---------------------------------------------------------------------------------------

_KINDS = {
    "zero": "zero",
    "subnormal": "a subnormal number",
    "normal": "a normal number",
    "infinite": "infinity",
}


def _title(x: Inspection) -> str:
    nan = "a quiet NaN" if x.is_quiet else "a signalling NaN"
    return f"{x.format} {x.hex}, {_KINDS.get(x.category, nan)}"


def _brief(x: Inspection) -> str:
    """Return the value exactly, or with the digits that tell it from its neighbours."""
    return figure(x.value, x.format.round_trip_digits) if x.value else x.decimal


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
    in_decimal = f" in binary = {plain_decimal(x.significand)}"
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
    ratio = in_full(x.value)
    return _plain(f"{x.dyadic} = {ratio}" if len(ratio) <= 40 else x.dyadic)


def _hexfloat_row(x: Inspection) -> list[Part]:
    return _plain(x.hexfloat if x.is_finite else None)


def _simplest_row(x: Inspection) -> list[Part]:
    if x.simplest is None:
        return []
    if x.simplest == x.value:
        return _plain("the value itself")
    return _plain(f"{in_full(x.simplest)} rounds to this code")


def _requested_row(x: Inspection) -> list[Part]:
    asked = x.requested
    if not isinstance(asked, Fraction):
        return [] if asked is None else _plain(in_full(asked))
    text = figure(asked, limit=100)
    return _plain(f"{in_full(asked)} {equals(text)}" if is_short_ratio(asked) else text)


def _error_row(x: Inspection) -> list[Part]:
    error, ulps, relative = x.error, x.error_ulps, x.relative_error
    if error is None or relative is None:
        return []
    if not error:
        return _plain("none")
    in_ulps = "" if ulps is None else f"{rounded(ulps, 3, '+')} ulp, "
    return _plain(f"{figure(error, plus='+')}, {in_ulps}relative {rounded(relative, 3, '+')}")


def _ulp_row(x: Inspection) -> list[Part]:
    return _plain(f"2^{exact.floor_log2(x.ulp)} {equals(figure(x.ulp))}") if x.ulp else []


def _next_row(x: Inspection, neighbour: Inspection | None, where: str) -> list[Part]:
    if x.category == "nan":
        return []
    if neighbour is None:
        return _plain(f"none: nothing lies {where}")
    return _plain(f"{neighbour.hex} {equals(_brief(neighbour))}")


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
    ("note", "", lambda x: _plain(remark(x))),
    ("ulp", "", _ulp_row),
    ("next up", "", lambda x: _next_row(x, x.next_up, "above")),
    ("next down", "", lambda x: _next_row(x, x.next_down, "below")),
)


def _rows(x: Inspection) -> Iterator[tuple[str, str, list[Part]]]:
    for label, role, row in _ROWS:
        if parts := row(x):
            yield label, role, parts


# --- lines --------------------------------------------------------------------------------------


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


# --- looks --------------------------------------------------------------------------------------

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


def _html(text: str, role: str) -> str:
    import html  # its table of entities takes a millisecond, and most never need it

    escaped = html.escape(text)
    return f'<span style="{_HTML_STYLES[role]}">{escaped}</span>' if role else escaped
