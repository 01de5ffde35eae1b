"""A number line with marks and one value on it, as text and as an SVG picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

__all__ = ["NumberLine", "Tick", "svg", "text"]


class Tick(NamedTuple):
    """A mark on the line.

    Attributes
    ----------
    position : Fraction
        0 at the left end of the line, 1 at the right one.
    labels : tuple of str
        Two lines of text below it.
    is_code : bool
        Whether this is a value of the format.
    """

    position: Fraction
    labels: tuple[str, str]
    is_code: bool


@dataclass(frozen=True, slots=True)
class NumberLine:
    """Ticks from left to right, and where a value lies among them.

    Attributes
    ----------
    ticks : tuple of Tick
        The first at 0, one in between, the last at 1.
    asked : str
        The value, as text.
    position : Fraction
        The value's place; outside of 0 to 1 it lies off the line.
    taken : Fraction or None
        The place of the tick that it is rounded to; None if that is not on the line.
    """

    ticks: tuple[Tick, ...]
    asked: str
    position: Fraction
    taken: Fraction | None


def _column(position: Fraction, last: int) -> int:
    return round(position * last)


def _spread(widths: list[int], columns: list[int], room: int, gap: int) -> list[int] | None:
    """Return where labels begin so that they are near their columns and do not touch."""
    starts: list[int] = []
    end = -gap
    for width, column in zip(widths, columns, strict=True):
        starts.append(max(end + gap, min(column - width // 2, room - width)))
        end = starts[-1] + width
    for k in reversed(range(len(starts))):
        limit = room if k == len(starts) - 1 else starts[k + 1] - gap
        starts[k] = min(starts[k], limit - widths[k])
    return None if starts[0] < 0 else starts


def text(line: NumberLine, width: int) -> list[str] | None:
    """Return the picture in characters, in lines of at most `width`; None if that is too narrow.

    Examples
    --------
    >>> from fractions import Fraction as F
    >>> from floatfmt.numberline import NumberLine, Tick, text
    >>> ticks = [Tick(F(k, 2), (n, v), True) for k, (n, v) in enumerate(["a1", "b2", "c3"])]
    >>> for row in text(NumberLine(tuple(ticks), "x", F(3, 10), F(0)), 21):
    ...     print(row.rstrip())
          x
          v
    |-----*---|---------|
    a         b         c
    1         2         3
    """
    last = width - 1
    columns = [_column(tick.position, last) for tick in line.ticks]
    drawn = ["-"] * width
    for tick, column in zip(line.ticks, columns, strict=True):
        drawn[column] = "|" if tick.is_code else "+"
    rows = []
    for which in (0, 1):
        words = [tick.labels[which] for tick in line.ticks]
        starts = _spread([len(word) for word in words], columns, width, gap=2)
        if starts is None:
            return None
        row = ""
        for start, word in zip(starts, words, strict=True):
            row = row.ljust(start) + word
        rows.append(row)
    pointer, mark = _mark(line, columns, last)
    drawn[mark] = pointer
    start = max(0, min(mark - len(line.asked) // 2, width - len(line.asked)))
    return [" " * start + line.asked, " " * mark + "v", "".join(drawn), *rows]


def _mark(line: NumberLine, columns: list[int], last: int) -> tuple[str, int]:
    """Return the value's sign and column, which is never that of a tick it does not equal."""
    if line.position < 0:
        return "<", 0
    if line.position > 1:
        return ">", last
    mark = _column(line.position, last)
    for tick, column in zip(line.ticks, columns, strict=True):
        if line.position > tick.position:
            mark = max(mark, column + 1)
        elif line.position < tick.position:
            return "*", min(mark, column - 1)
    return "*", mark


# --- SVG ----------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 680, 132
_LEFT, _RIGHT, _AXIS = 80, 600, 58
_LETTER = 7.3  # of a monospaced font of 12 px, generously
# Legible on a light and on a dark ground; all else has the page's own colour.
_VALUE, _TAKEN = "#d9730d", "#2f8fd8"
_DASHES = ' stroke-dasharray="3 4"'


def svg(line: NumberLine, title: str) -> str:
    """Return the picture as an SVG element that needs nothing from outside."""
    import html  # its table of entities takes a millisecond, and most never need it

    x = [_x(tick.position) for tick in line.ticks]
    shapes = [_stroke(_LEFT, _AXIS, _RIGHT, _AXIS)]
    for tick, at in zip(line.ticks, x, strict=True):
        tall = 9 if tick.is_code else 4
        shapes.append(_stroke(at, _AXIS - tall, at, _AXIS + tall))
    for which in (0, 1):
        words = [tick.labels[which] for tick in line.ticks]
        widths = [round(len(word) * _LETTER) for word in words]
        starts = _spread(widths, [round(at) for at in x], _WIDTH, gap=10)
        for word, start, width in zip(words, starts or [0] * len(words), widths, strict=True):
            shapes.append(_words(start + width / 2, _AXIS + 28 + 17 * which, html.escape(word)))
    shapes += _value_shapes(line, html.escape(line.asked))
    label = html.escape(f"{title}: {_description(line)}")
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" style="display:block;max-width:100%;color:inherit" '
        f'font-family="monospace" font-size="12"><title>{label}</title>{"".join(shapes)}</svg>'
    )


def _x(position: Fraction) -> float:
    """Return a place on the line in pixels; what lies off the line stands beside its end."""
    if not 0 <= position <= 1:
        return _LEFT - 40 if position < 0 else _RIGHT + 40
    return _LEFT + float(position) * (_RIGHT - _LEFT)


def _stroke(x1: float, y1: float, x2: float, y2: float, more: str = "") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-width="1.5"{more}/>'
    )


def _words(x: float, y: float, words: str, fill: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="{fill}">{words}</text>'


def _value_shapes(line: NumberLine, asked: str) -> list[str]:
    """Return the value, its name, and the arc to the tick it is rounded to."""
    at = _x(line.position)
    half = len(line.asked) * _LETTER / 2
    shapes = [
        f'<circle cx="{at:.1f}" cy="{_AXIS}" r="5" fill="{_VALUE}"/>',
        _words(min(max(at, half), _WIDTH - half), 16, asked, _VALUE),
    ]
    if at < _LEFT or at > _RIGHT:
        shapes.append(_stroke(min(at, _RIGHT), _AXIS, max(at, _LEFT), _AXIS, _DASHES))
    if line.taken is None:
        return shapes
    to = _x(line.taken)
    circle = (
        f'<circle cx="{to:.1f}" cy="{_AXIS}" r="9" fill="none" stroke="{_TAKEN}" '
        'stroke-width="2.5"/>'
    )
    if abs(to - at) < 20:
        return [*shapes, circle]
    direction = 1 if to > at else -1
    start, end = at + 6 * direction, to - 10 * direction
    arc = (
        f'<path d="M{start:.1f} {_AXIS - 5} Q{(start + end) / 2:.1f} {_AXIS - 44} {end:.1f} '
        f'{_AXIS - 8}" fill="none" stroke="{_TAKEN}" stroke-width="2"/>'
        f'<path d="M{end:.1f} {_AXIS - 8} l{-9 * direction} -7 l0 9 z" fill="{_TAKEN}"/>'
    )
    return [*shapes, circle, arc]


def _description(line: NumberLine) -> str:
    marks = "; ".join(", ".join(tick.labels) for tick in line.ticks)
    return f"{line.asked} on a number line with {marks}"
