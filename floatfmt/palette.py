"""The colours of pages and pictures, in light and in dark."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PALETTE", "Shade", "contrast"]


class Shade(NamedTuple):
    """A colour by what it is for, in light and in dark."""

    light: str
    dark: str


#: By role, each a variable of CSS. Blue and orange stay apart in every kind of colour blindness.
PALETTE = {
    "paper": Shade("#fdfdfb", "#14161a"),
    "ink": Shade("#1b1c1f", "#e7e6e2"),
    "muted": Shade("#595c63", "#a3a7af"),
    "rule": Shade("#d9d9d3", "#3a3e45"),
    "fill": Shade("#cfd2d6", "#4a4f58"),
    "accent": Shade("#1c5ba3", "#84b8f3"),
    "second": Shade("#a8420a", "#f2a268"),
    "third": Shade("#0b6b57", "#63cbaa"),
    "mark": Shade("#fff0bf", "#4a3c0c"),
}


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it, 1 to 21.

    Examples
    --------
    >>> contrast("#ffffff", "#000000")
    21.0
    """
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
