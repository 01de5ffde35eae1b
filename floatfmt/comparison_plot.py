"""A comparison as a picture: SQNR against bits a weight, every format named, the front as steps.

matplotlib is needed, and imported, only here and only when something is drawn.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .plot_names import Name, box, write_names

if TYPE_CHECKING:
    from .comparison import Comparison

__all__ = ["check", "draw"]

SUFFIXES = (".svg", ".png", ".pdf")
SIZE_INCHES = (9.0, 5.6)
DOTS_PER_INCH = 150
FRONT, OTHERS, TEXT, GRID = "#1f5fa8", "#8a8a8a", "#222222", "#e4e4e4"
#: Ticks of the axis of bits, those within its range.
BITS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
STYLE = {
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "floatfmt",  # the same file for the same figures
    "text.parse_math": False,  # a $ in a path is a $
}


def check(path: str | os.PathLike[str]) -> Path:
    """Return the path, if a picture can be written there.

    Raises
    ------
    ValueError
        Its suffix is none of `SUFFIXES`.
    FileNotFoundError
        Its folder does not exist.
    ModuleNotFoundError
        matplotlib is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{os.fspath(path)!r}: a plot is a .svg, .png or .pdf file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)!r}: there is no folder {str(target.parent)!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a plot needs matplotlib: pip install 'floatfmt[plot]'")
    return target


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the picture of a comparison; raises as `check` does, and `OSError`."""
    target = check(path)
    import matplotlib.style

    picture = io.BytesIO()  # an old file is replaced by a whole one
    kind = target.suffix.lower()[1:]
    dates = {"svg": "Date", "pdf": "CreationDate"}
    with warnings.catch_warnings(), matplotlib.style.context(["default", STYLE]):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in the name of a file
        figure = _figure(comparison)
        metadata = {dates[kind]: None} if kind in dates else {}
        figure.savefig(picture, format=kind, metadata=metadata, dpi=DOTS_PER_INCH)
    target.write_bytes(picture.getvalue())


class _Point(NamedTuple):
    """A row in the picture; `edge` is 1 or -1 where its SQNR is infinite, else 0."""

    name: str
    bits: float
    sqnr: float
    edge: int
    on_front: bool


def _points(comparison: Comparison) -> tuple[list[_Point], tuple[float, float]]:
    """Return the rows' places, and the ends of the axis of SQNR."""
    finite = [r.error.sqnr_db for r in comparison.rows if math.isfinite(r.error.sqnr_db)] or [0.0]
    room = max(10.0, 0.1 * (max(finite) - min(finite)))
    ends = min(finite) - room, max(finite) + room
    points = []
    for row in comparison.rows:
        sqnr = row.error.sqnr_db
        edge = 0 if math.isfinite(sqnr) else 1 if sqnr > 0 else -1
        at = (sqnr, ends[1], ends[0])[edge]
        name = row.name + ("", " (no error)", f" ({sqnr:g} dB)")[edge]
        points.append(_Point(name, row.bits_per_weight, at, edge, row.pareto))
    return points, ends


def _figure(comparison: Comparison) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, ends = _points(comparison)
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _lay_out_axes(axes, points, ends)
    axes.set_title(_wrapped(comparison.source), loc="left", color=TEXT, fontsize=12)
    front = [point for point in points if point.on_front]
    axes.step(
        [p.bits for p in front],
        [p.sqnr for p in front],
        where="post",
        color=FRONT,
        linewidth=1.2,
        alpha=0.6,
        label="Pareto front: the highest SQNR in so many bits",
        zorder=2,
    )
    for point in points:
        axes.plot(
            point.bits,
            point.sqnr,
            marker=("o", "^", "v")[point.edge],
            markersize=7 if point.edge else 6,
            color=FRONT if point.on_front else "white",
            markeredgecolor=FRONT if point.on_front else OTHERS,
            linestyle="none",
            clip_on=False,
            zorder=3,
        )
    axes.legend(loc="lower right", frameon=False, labelcolor=TEXT)
    if comparison.left_out:
        names = ", ".join(name for name, _ in comparison.left_out)
        left_out = _wrapped(f"Left out, as they need finite values: {names}")
        figure.supxlabel(left_out, fontsize=9, color=TEXT)
    _name_points(figure, axes, points)
    return figure


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 95))


def _lay_out_axes(axes: Any, points: Sequence[_Point], ends: tuple[float, float]) -> None:
    bits = [point.bits for point in points]
    low, high = min(bits) / 1.3, max(bits) * 1.35  # room for names beside their points
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.set_ylim(*ends)
    ticks: list[float] = [n for n in BITS if low <= n <= high] or [round(bits[0], 2)]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bits a weight, scales included", color=TEXT)
    axes.set_ylabel("SQNR, dB", color=TEXT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_points(figure: Any, axes: Any, points: Sequence[_Point]) -> None:
    """Write each row's name: those on the front above it, the others below."""
    figure.draw_without_rendering()  # where things are is known only then
    around = 5 * figure.dpi / 72
    places = [tuple(axes.transData.transform((p.bits, p.sqnr))) for p in points]
    front = [place for point, place in zip(points, places, strict=True) if point.on_front]
    taken = [box((x - around, y), (x + around, y), around) for x, y in places]
    for (x, y), (next_x, next_y) in itertools.pairwise(front):
        taken += [box((x, y), (next_x, y), 2), box((next_x - 1, y), (next_x + 1, next_y), 1)]
    taken.append(axes.get_legend().get_window_extent())
    names = [
        Name(
            p.name,
            p.bits,
            p.sqnr,
            FRONT if p.on_front else TEXT,
            (-1, 1) if p.on_front else (1, -1),
        )
        for p in sorted(points, key=lambda p: (not p.on_front, -p.bits))  # begin at the right
    ]
    write_names(axes, names, taken, line=OTHERS, size=9.5)
