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
from .spelling import brief, field_bits, has_sign

if TYPE_CHECKING:
    from rich.text import Text

    from .inspection import Inspection

__all__ = [
    "HTML_CARD",
    "HTML_LABEL",
    "HTML_RESET",
    "HTML_TABLE",
    "HTML_TEXT",
    "LABEL_WIDTH",
    "TEXT_WIDTH",
    "html_card",
    "one_line",
    "options_row",
    "requested_row",
    "rich_card",
    "text_card",
    "wrap",
]

#: A piece of a line and its role: "sign", "exponent", "fraction", "title", or "" for plain text.
Part: TypeAlias = tuple[str, str]

TEXT_WIDTH = 80
LABEL_WIDTH = len("significand") + 2


# --- as a whole ---------------------------------------------------------------------------------


def one_line(x: Inspection) -> str:
    """Return the format, the code, its fields and the value on one line."""
    bits = "|".join(_field_bits(x).values())
    return f"<{x.format} {x.hex} {bits} {equals(_brief(x))}>"


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
        f'<tr style="background:none"><th scope="row" style="{HTML_LABEL}">'
        f'{_html(label, role)}</th><td style="{HTML_TEXT}">'
        f"{''.join(_html(*part) for part in parts)}</td></tr>"
        for label, role, parts in _rows(x)
    )
    return (
        f'<div style="{HTML_CARD}">{_html(_title(x), "title")}'
        f'<table style="{HTML_TABLE}"><tbody>{rows}</tbody></table></div>'
    )


# --- rows ---------------------------------------------------------------------------------------

_KINDS = {
    "zero": "zero",
    "subnormal": "a subnormal number",
    "normal": "a normal number",
    "infinite": "infinity",
    "nan": "NaN",
}


def _title(x: Inspection) -> str:
    return f"{x.format} {x.hex}, {_kind(x)}"


def _kind(x: Inspection) -> str:
    if x.category == "nan" and x.format.nan == "ieee":
        return "a quiet NaN" if x.is_quiet else "a signalling NaN"
    if x.category == "normal" and x.format.is_integer:
        return "a fixed-point number" if x.format.step_exponent else "an integer"
    return _KINDS[x.category]


def _brief(x: Inspection) -> str:
    return brief(x.code, x.format)


def _field_bits(x: Inspection) -> dict[str, str]:
    return field_bits(x.code, x.format)


def _plain(text: str | None) -> list[Part]:
    return [(text, "")] if text else []


def _bits_row(x: Inspection) -> list[Part]:
    parts: list[Part] = []
    for name, bits in _field_bits(x).items():
        parts += [("|", "")] * bool(parts) + [(bits, name)]
    return parts


def _sign_row(x: Inspection) -> list[Part]:
    if not x.format.signed:
        return []
    meaning = " = -" if has_sign(x.code, x.format) else "" if x.sign else " = +"
    return [(_field_bits(x)["sign"], "sign"), *_plain(meaning)]


def _exponent_row(x: Inspection) -> list[Part]:
    if x.format.is_integer:
        return []
    meaning = f", less the bias of {x.format.bias}: 2^{x.unbiased_exponent}"
    if not x.is_finite:
        meaning = ", all ones: Inf or NaN" if x.format.nan == "ieee" else ""
    elif x.exponent == 0 and x.format.zero:
        meaning = f", no hidden bit: 2^{x.unbiased_exponent}"
    return [(_field_bits(x)["exponent"], "exponent"), (f" = {x.exponent}{meaning}", "")]


def _fraction_row(x: Inspection) -> list[Part]:
    if x.format.is_integer or not x.format.fraction_bits:
        return []
    meanings = {"infinite": ": Inf", "nan": ", not 0: NaN"} if x.format.nan == "ieee" else {}
    meaning = meanings.get(x.category, "")
    return [(_field_bits(x)["fraction"], "fraction"), (f" = {x.fraction}{meaning}", "")]


def _integer_row(x: Inspection) -> list[Part]:
    """Return how the bits of fixed point count."""
    if x.integer is None:
        return []
    fmt, bits = x.format, _field_bits(x).get("fraction", "0")
    weight = f" - {fmt.sign_bit} = {x.integer}, two's complement"
    signed = weight if fmt.twos_complement else f", negative: {x.integer}"
    step = f"; times 2^{fmt.step_exponent}" if fmt.step_exponent else ""
    return [(bits, "fraction"), (f" = {x.fraction}{signed if x.sign else ''}{step}", "")]


def _special_row(x: Inspection) -> list[Part]:
    """Return what makes a code Inf or NaN where that is not the all-ones exponent."""
    if x.is_finite or x.format.nan == "ieee":
        return []
    if x.category == "infinite":
        return _plain("the code after the largest finite value's: Inf")
    if x.format.nan == "negative_zero":
        return _plain("the code that -0 would have: NaN")
    return _plain(f"every bit {'below the sign ' * x.format.signed}is 1: NaN")


def _significand_row(x: Inspection) -> list[Part]:
    if x.significand is None:
        return []
    # The hidden bit is the exponent field's doing.
    hidden = (f"{int(x.exponent > 0 or not x.format.zero)}", "exponent")
    if not x.format.fraction_bits:
        return [hidden, ("; there is no fraction", "")]
    in_decimal = f" in binary = {plain_decimal(x.significand)}"
    return [hidden, (".", ""), (_field_bits(x)["fraction"], "fraction"), (in_decimal, "")]


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


def requested_row(x: Inspection) -> list[Part]:
    """Return what was asked for."""
    asked = x.requested
    if not isinstance(asked, Fraction):
        return [] if asked is None else _plain(in_full(asked))
    text = figure(asked, limit=100)
    return _plain(f"{in_full(asked)} {equals(text)}" if is_short_ratio(asked) else text)


def options_row(x: Inspection) -> list[Part]:
    """Return how it was rounded, if not as always, and what repeats it."""
    if x.rules is None or x.rules.is_default:
        return []
    usual = {"overflow": "ieee", "nan": "quiet", "subnormals": "keep"}
    options = {name: getattr(x.rules, name) for name in usual}
    said = [f"{name}={value!r}" for name, value in options.items() if value != usual[name]]
    drawn = [] if x.seed is None else [f"seed {x.seed}", f"index {x.index}"]
    return _plain(", ".join([x.rules.rounding.value, *drawn, *said]))


def _error_row(x: Inspection) -> list[Part]:
    error, ulps, relative = x.error, x.error_ulps, x.relative_error
    if error is None:
        return []
    if not error:
        return _plain("none")
    in_ulps = [] if ulps is None else [f"{rounded(ulps, 3, '+')} ulp"]
    relatively = [] if relative is None else [f"relative {rounded(relative, 3, '+')}"]
    return _plain(", ".join([figure(error, plus="+"), *in_ulps, *relatively]))


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
    ("integer", "fraction", _integer_row),
    ("special", "", _special_row),
    ("significand", "", _significand_row),
    ("payload", "", _payload_row),
    ("value", "", _value_row),
    ("dyadic", "", _dyadic_row),
    ("hexfloat", "", _hexfloat_row),
    ("simplest", "", _simplest_row),
    ("asked for", "", requested_row),
    ("rounding", "", options_row),
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


# --- lines --------------------------------------------------------------------------------------


def _layout(x: Inspection, width: int) -> Iterator[list[Part]]:
    """Yield the card's lines, none longer than `width`; long numbers go on in the same column."""
    yield from wrap([(_title(x), "title")], width)
    for label, role, parts in _rows(x):
        for line in wrap(parts, width - LABEL_WIDTH):
            yield [(label, role), (" " * (LABEL_WIDTH - len(label)), ""), *line]
            label = ""


def wrap(parts: list[Part], width: int) -> Iterator[list[Part]]:
    """Yield parts cut into lines of at most `width` characters, at spaces where there are any."""
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
HTML_CARD = "font-family:monospace;font-size:13px;line-height:1.5;max-width:60em;margin:8px 0"
# Jupyter's own style stripes tables and aligns them to the right.
HTML_RESET = "background:none;border:none;text-align:left;vertical-align:top;font-size:inherit"
HTML_TABLE = "border-collapse:collapse;border:none;margin:4px 0"
HTML_LABEL = f"{HTML_RESET};padding:1px 16px 1px 0;font-weight:normal;min-width:7em"
HTML_TEXT = f"{HTML_RESET};padding:1px 0;overflow-wrap:anywhere"


def _html(text: str, role: str) -> str:
    import html  # its table of entities takes a millisecond, and most never need it

    escaped = html.escape(text)
    return f'<span style="{_HTML_STYLES[role]}">{escaped}</span>' if role else escaped
