"""Names beside the points of a picture, so that none covers another; drawn by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Name", "box", "write_names"]


class Name(NamedTuple):
    """A name and its point.

    Attributes
    ----------
    text : str
        The name.
    x, y : float
        The point, in the axes' data.
    colour : str
        Of the text.
    side : tuple of int
        Where it had better stand: to the right of its point or to the left (1, -1), above or below.
    """

    text: str
    x: float
    y: float
    colour: str
    side: tuple[int, int]


class _Offset(NamedTuple):
    """Where a name may stand: so far from its point, in points."""

    dx: int
    dy: int


_OFFSETS = [
    _Offset(side * dx, dy)
    for dy in range(-99, 100, 9)
    for dx in ((10, 24, 40) if dy else (7,))
    for side in (-1, 1)
]
#: How much further from its point a name goes to be on its side.
DETOUR = 30


def write_names(
    axes: Any, names: Sequence[Name], taken: Sequence[Any], line: str, size: float
) -> None:
    """Write each name where it covers no other, and nothing of what is taken.

    The first has the first choice. Names that cannot stand beside their points get a line to it.
    """
    boxes = list(taken)
    for name in names:
        boxes.append(_write(axes, name, boxes, line, size))


def _distance(offset: _Offset, side: tuple[int, int]) -> float:
    """Return how far a name is, and more on the wrong side."""
    is_wrong = offset.dx * side[0] < 0 and offset.dy * side[1] <= 0
    return math.hypot(*offset) + DETOUR * is_wrong


def _write(axes: Any, name: Name, taken: Sequence[Any], line: str, size: float) -> Any:
    """Write a name as near to its place as what is taken allows, and return its box."""
    figure = axes.figure
    place = axes.transData.transform((name.x, name.y))
    label = axes.annotate(
        name.text,
        (name.x, name.y),
        xytext=(0, 0),
        textcoords="offset points",
        va="center",
        color=name.colour,
        fontsize=size,
        annotation_clip=False,
        zorder=4,
    )
    extent, per_point = label.get_window_extent(), figure.dpi / 72
    for dx, dy in sorted(_OFFSETS, key=lambda offset: _distance(offset, name.side)):
        start = place[0] + dx * per_point - (extent.width if dx < 0 else 0)
        middle = place[1] + dy * per_point
        around = box((start, middle), (start + extent.width, middle), extent.height / 2)
        across = axes.bbox.x0 < around.x0 and around.x1 < figure.bbox.x1
        is_inside = across and axes.bbox.y0 < around.y0 and around.y1 < figure.bbox.y1
        if is_inside and not any(around.overlaps(other) for other in taken):
            break
    label.set(position=(dx, dy), horizontalalignment="right" if dx < 0 else "left")
    if dy:  # beside its point it needs no line to it
        axes.annotate(
            "",
            (name.x, name.y),
            xytext=(dx, dy),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": line, "linewidth": 0.6, "shrinkB": 4},
            annotation_clip=False,
        )
    return around


def box(first: tuple[float, float], last: tuple[float, float], around: float) -> Any:
    """Return the box of two corners, and so much more above and below."""
    from matplotlib.transforms import Bbox

    low, high = sorted((first[1], last[1]))
    return Bbox.from_extents(first[0], low - around, last[0], high + around)
