"""An experiment's pictures as SVG for the page: drawn by matplotlib, coloured by the page's style.

Each function returns an ``<svg>`` element that names itself, or None where there is nothing to
draw. matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..palette import PALETTE
from ..plot_names import Name, box, write_names
from .notation import estimate, number, percent, power_of_ten, shortened
from .results import (
    ActivationOutliers,
    Estimate,
    Histogram,
    Sensitivity,
    ThresholdSweepOfModel,
    Variant,
)

__all__ = ["MOST_LAYERS", "histogram", "outliers", "pareto", "sensitivity", "sweep"]

#: Pictures of layers show so many, the worst.
MOST_LAYERS = 48
#: What matplotlib draws in, and the page's style takes the place of.
_SENTINELS = {role: f"#ab12{index:02x}" for index, role in enumerate(PALETTE)}
_INK, _MUTED, _RULE = (_SENTINELS[role] for role in ("ink", "muted", "rule"))
_FILL, _ACCENT, _SECOND = (_SENTINELS[role] for role in ("fill", "accent", "second"))
_PAPER = _SENTINELS["paper"]
_STYLE = {
    "font.size": 11,
    "font.sans-serif": ["DejaVu Sans"],  # it measures; the page's style shows its own, narrower
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "floatfmt",  # the same page for the same figures
    "text.parse_math": False,  # a $ in a name is a $
    "axes.linewidth": 0.6,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
}
#: Inches, of 72 units of the picture each: narrow, so that text stays legible on a phone.
_WIDTH = 5.0
#: An axis whose figures span more than this is logarithmic.
_LOG_SPAN = 20.0
#: Ticks of the axis of bits, those within its range.
_BITS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64)


# --- SVG ----------------------------------------------------------------------------------------

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    import matplotlib.style

    with warnings.catch_warnings(), matplotlib.style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in the name of a layer
        yield


def _figure(width: float, height: float, layout: Any = "constrained") -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _svg(figure: Any, name: str, about: str) -> str:
    """Return a figure as an element whose ids begin with `name`, without a size of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for unwanted in (f"{_SVG}metadata", f"{_SVG}defs/{_SVG}style/.."):
        for element in root.findall(unwanted):
            root.remove(element)
    for element in root.iter():
        _rename(element, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": about}
    ElementTree.register_namespace("", _SVG[1:-1])
    text = ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{_SVG[1:-1]}"', "")
    for role, sentinel in _SENTINELS.items():
        text = text.replace(sentinel, f"var(--{role})")
    return text


def _rename(element: Any, name: str) -> None:
    """Make an element's ids and references those of one picture."""
    found = element.attrib
    if "id" in found:
        found["id"] = f"{name}-{found['id']}"
    if target := found.pop(f"{_XLINK}href", None):
        found["href"] = target.replace("#", f"#{name}-")
    if "clip-path" in found:
        found["clip-path"] = found["clip-path"].replace("#", f"#{name}-")


# --- axes ---------------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """The ends of an axis, and whether it is logarithmic."""

    low: float
    high: float
    is_log: bool

    def at(self, value: float) -> tuple[float, int]:
        """Return where a value is drawn, and 1 or -1 where it is beyond the end; nan is above."""
        if self.low <= value <= self.high:
            return value, 0
        return (self.low, -1) if value < self.low else (self.high, 1)


def _scale(values: Sequence[float]) -> _Scale:
    """Return a scale for what is 0 or more: logarithmic, with whole decades, if it spans many."""
    positive = [v for v in values if math.isfinite(v) and v > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high / low < _LOG_SPAN:
        return _Scale(0.0, high * 1.08, False)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return _Scale(10.0**first, 10.0**last, True)


def _use(scale: _Scale, axis: Any) -> None:
    """Give an axis of matplotlib its scale, with ticks as the page writes numbers."""
    axes = axis.axes
    is_x = axis is axes.xaxis
    if scale.is_log:
        (axes.set_xscale if is_x else axes.set_yscale)("log")
        decades = range(round(math.log10(scale.low)), round(math.log10(scale.high)) + 1)
        step = 1 + len(decades) // 8
        is_plain = decades[0] >= -2 and decades[-1] <= 3
        labels = [f"{10.0**d:g}" if is_plain else power_of_ten(d) for d in decades]
        shown = [label * (i % step == 0) for i, label in enumerate(labels)]
        axis.set_ticks([10.0**d for d in decades], shown)
    else:
        axis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.get_major_locator().set_params(nbins=6)
    (axes.set_xlim if is_x else axes.set_ylim)(scale.low, scale.high)


def _with_error(scale: _Scale, x: Estimate) -> tuple[float, float]:
    """Return the ends of an error's line within the scale."""
    error = x.error if math.isfinite(x.error) else 0.0
    return scale.at(x.value - error)[0], scale.at(x.value + error)[0]


# --- the pictures -------------------------------------------------------------------------------


class _Point(NamedTuple):
    """A variant in the picture of bits and divergence; `edge` as `_Scale.at` returns it."""

    variant: str
    bits: float
    kl: float
    edge: int
    on_front: bool

    @property
    def label(self) -> str:
        name = shortened(self.variant, 24)
        return name if not self.edge else f"{name} ({'0' if self.edge < 0 else 'no finite KL'})"


def pareto(variants: Sequence[Variant], name: str) -> str | None:
    """Draw bits a parameter against the divergence from the original, every variant named."""
    found = [(v, v.score.kl) for v in variants if v.score is not None and v.score.kl is not None]
    if not found:
        return None
    scale = _scale([kl.value for _, kl in found])
    scale = scale._replace(high=scale.high * (1 if scale.is_log else 1.05))
    points = []
    for variant, kl in found:
        rivals = [(o.bits_per_parameter, k.value) for o, k in found if o is not variant]
        mine = (variant.bits_per_parameter, kl.value)
        on_front = math.isfinite(kl.value) and not any(_beats(rival, mine) for rival in rivals)
        points.append(_Point(variant.name, mine[0], *scale.at(kl.value), on_front))
    points.sort(key=lambda p: (p.bits, -p.kl))
    front = [p for p in points if p.on_front]
    listed = "; ".join(f"{p.label}, {number(p.bits, 3)} bits, {number(p.kl, 3)}" for p in front)
    about = f"Bits a parameter against KL divergence from the original. On the front: {listed}."
    with _drawing():
        return _svg(_pareto_figure(points, scale), name, about)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _pareto_figure(points: Sequence[_Point], scale: _Scale) -> Any:
    figure = _figure(_WIDTH, 5.0)
    axes = figure.add_subplot()
    low, high = points[0].bits / 1.25, points[-1].bits * 1.3
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    ticks: list[float] = [n for n in _BITS if low <= n <= high] or [round(points[0].bits, 2)]
    axes.set_xticks(ticks, [f"{n:g}" for n in ticks])
    _use(scale, axes.yaxis)
    axes.set_xlabel("bits a parameter")
    axes.set_ylabel("KL divergence from the original, nats a token")
    axes.grid()
    front = [p for p in points if p.on_front]
    axes.step([p.bits for p in front], [p.kl for p in front], where="post", color=_ACCENT, lw=0.9)
    for p in points:
        axes.plot(
            *(p.bits, p.kl, "o^v"[p.edge]),
            markersize=5,
            color=_ACCENT if p.on_front else _PAPER,
            markeredgecolor=_ACCENT if p.on_front else _MUTED,
            clip_on=False,
            zorder=3,
        )
    _name_points(figure, axes, points, front)
    return figure


def _name_points(figure: Any, axes: Any, points: Sequence[_Point], front: Sequence[_Point]) -> None:
    """Write each variant's name: those on the front below it, the others above."""
    figure.draw_without_rendering()  # where things are is known only then
    around = 4 * figure.dpi / 72

    def place(p: _Point) -> tuple[float, float]:
        return tuple(axes.transData.transform((p.bits, p.kl)))

    taken = [box((x - around, y), (x + around, y), around) for x, y in map(place, points)]
    for (x, y), (next_x, next_y) in itertools.pairwise(map(place, front)):
        taken += [box((x, y), (next_x, y), 2), box((next_x - 1, y), (next_x + 1, next_y), 1)]
    names = [
        Name(p.label, p.bits, p.kl, _ACCENT, (-1, -1))
        if p.on_front
        else Name(p.label, p.bits, p.kl, _INK, (1, 1))
        for p in sorted(points, key=lambda p: (not p.on_front, -p.bits))
    ]
    write_names(axes, names, taken, line=_MUTED, size=10.5)


def histogram(found: Histogram, variant: str, is_log: bool, name: str) -> str:
    """Draw a variant's weights as a line over the original's as an area.

    Both axes are those of all variants, so that pictures compare; what rises above the highest
    bin of the original by far is cut, and said.
    """
    original, counts = found.counts.get("original"), found.counts[variant]
    tallest = max(int(c.max(initial=1)) for c in found.counts.values())
    if original is not None and not is_log:
        tallest = min(tallest, round(1.6 * max(1, int(original.max(initial=1)))))
    edges = np.linspace(found.low, found.high, found.bins + 1)
    peak, outside = int(counts.max(initial=0)), found.outside.get(variant, 0)
    about = (
        f"Histogram of the weights, {shortened(variant, 60)} over the original: highest bin"
        f" {peak:,} weights, {np.count_nonzero(counts):,} of {found.bins:,} bins in use,"
        f" {outside:,} weights outside."
    )
    with _drawing():
        figure = _figure(2.5, 1.5, layout=None)
        axes = figure.add_axes((0.08, 0.2, 0.84, 0.76))  # the same for all, and quick
        if original is not None:
            axes.stairs(original, edges, fill=True, color=_FILL, lw=0)
        axes.stairs(counts, edges, color=_ACCENT, lw=0.7, baseline=None)
        if is_log:
            axes.set_yscale("log")
            axes.set_yticks([10.0**d for d in range(math.ceil(math.log10(tallest)) + 1)])
            axes.grid(axis="y")
        axes.set_ylim(0.7 if is_log else 0, tallest * (1.6 if is_log else 1.05))
        axes.set_xlim(found.low, found.high)
        middle = (found.low + found.high) / 2
        axes.set_xticks(
            [found.low, middle, found.high], [number(x, 2) for x in (found.low, middle, found.high)]
        )
        axes.tick_params(labelsize=11)
        axes.tick_params(axis="y", length=0, labelleft=False)
        axes.spines["left"].set_visible(False)
        if peak > tallest:
            axes.text(1, 1, f"▲ {peak:,}", transform=axes.transAxes, ha="right", va="top", size=11)
        return _svg(figure, name, about)


def _short_layers(names: Sequence[str]) -> list[str]:
    """Return layers' names without the words that all begin with."""
    words = [name.split(".") for name in names]
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    shared = len(list(columns)) if len(names) > 1 else 0
    return [shortened(".".join(found[shared:]), 26) for found in words]


def _layer_axes(names: Sequence[str]) -> tuple[Any, Any]:
    """Return a figure and its axes, a row for each layer from the top down."""
    figure = _figure(_WIDTH, 0.85 + 0.21 * len(names))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), _short_layers(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=10.5)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure, axes


def sensitivity(found: Sensitivity, name: str) -> str | None:
    """Draw each layer's divergence with its error, the worst first."""
    rows = [(r.layer, r.score.kl) for r in found.rows if r.score.kl is not None][:MOST_LAYERS]
    if not rows:
        return None
    scale = _scale([kl.value for _, kl in rows])
    worst = "; ".join(f"{layer}, {estimate(kl)}" for layer, kl in rows[:3])
    about = f"KL divergence with one layer quantised, by layer. The worst: {shortened(worst, 300)}."
    with _drawing():
        figure, axes = _layer_axes([layer for layer, _ in rows])
        _use(scale, axes.xaxis)
        for y, (_, kl) in enumerate(rows):
            x, edge = scale.at(kl.value)
            axes.plot([scale.low, x], [y, y], color=_RULE, lw=0.8, zorder=1)
            axes.plot(_with_error(scale, kl), [y, y], color=_ACCENT, lw=1.4, zorder=2)
            axes.plot(x, y, "o><"[edge], color=_ACCENT, markersize=4, clip_on=False, zorder=3)
        axes.set_xlabel("KL divergence from the original, nats a token")
        return _svg(figure, name, about)


def outliers(found: ActivationOutliers, name: str) -> str | None:
    """Draw the largest magnitude of each layer's inputs, their rms, and the threshold."""
    if not found.rows:
        return None
    largest = sorted((r.largest for r in found.rows), reverse=True)[:MOST_LAYERS][-1]
    rows = [r for r in found.rows if not r.largest < largest][:MOST_LAYERS]
    scale = _scale([found.threshold, *(x for r in rows for x in (r.largest, r.rms))])
    beyond = sum(r.largest >= found.threshold for r in found.rows)
    about = (
        f"Largest magnitude of each layer's inputs. {beyond} of {len(found.rows)} layers reach the"
        f" threshold of {found.threshold:g}; the largest magnitude is"
        f" {number(max(r.largest for r in found.rows))}."
    )
    with _drawing():
        figure, axes = _layer_axes([r.layer for r in rows])
        _use(scale, axes.xaxis)
        for y, row in enumerate(rows):
            x, edge = scale.at(row.largest)
            is_outlier = row.largest >= found.threshold
            rms = scale.at(row.rms)[0]
            axes.plot([rms, x], [y, y], color=_RULE, lw=0.8, zorder=1)
            axes.plot(rms, y, "|", color=_MUTED, markersize=6, zorder=2)
            colour = _SECOND if is_outlier else _ACCENT
            face = colour if is_outlier else _PAPER
            axes.plot(
                *(x, y, "o><"[edge]),
                color=face,
                markeredgecolor=colour,
                markersize=4.5,
                clip_on=False,
                zorder=3,
            )
        axes.axvline(found.threshold, color=_SECOND, lw=1, dashes=(4, 2))
        axes.text(
            *(found.threshold, 1.0, f" threshold {found.threshold:g}"),
            transform=axes.get_xaxis_transform(),
            color=_SECOND,
            va="bottom",
            ha="center",
        )
        axes.set_xlabel("inputs’ magnitude: rms (tick), largest (dot)")
        return _svg(figure, name, about)


def sweep(found: ThresholdSweepOfModel, name: str) -> str | None:
    """Draw the divergence and the share of outlier columns by threshold, from the largest down."""
    rows = [(row, row.score.kl) for row in found.rows if row.score.kl is not None]
    if not rows:
        return None
    scale = _scale([kl.value for _, kl in rows])
    listed = "; ".join(
        f"{row.threshold:g}: {number(kl.value, 3)}, {percent(row.outlier_share)}"
        for row, kl in rows
    )
    about = f"By threshold, KL divergence and columns in floating point: {shortened(listed, 600)}."
    with _drawing():
        figure = _figure(_WIDTH, 4.8)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _use(scale, above.yaxis)
        for x, (_, kl) in enumerate(rows):
            y, edge = scale.at(kl.value)
            above.plot([x, x], _with_error(scale, kl), color=_ACCENT, lw=1.4)
            above.plot(x, y, "o^v"[edge], color=_ACCENT, markersize=4.5, clip_on=False, zorder=3)
        above.plot([scale.at(kl.value)[0] for _, kl in rows], color=_ACCENT, lw=0.7)
        above.set_title("KL divergence from the original, nats a token", loc="left", size=11)
        shares = [100 * row.outlier_share for row, _ in rows]
        below.vlines(range(len(rows)), 0, shares, color=_SECOND, lw=4)
        for x, share in enumerate(shares):
            below.annotate(
                number(share, 2),
                (x, share),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                size=10,
            )
        below.set_ylim(0, 1.15 * max([*(s for s in shares if math.isfinite(s)), 1e-9]))
        below.set_yticks([])
        below.spines["left"].set_visible(False)
        below.set_title("columns that stay in floating point, %", loc="left", size=11)
        below.set_xticks(range(len(rows)), [f"{row.threshold:g}" for row, _ in rows])
        below.set_xlabel("threshold")
        above.grid(axis="y")
        return _svg(figure, name, about)
