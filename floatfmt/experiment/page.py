"""An experiment as one page of HTML that needs nothing but itself: no network, no script.

jinja2 and matplotlib are needed, and imported, only here and only when a page is made.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..palette import PALETTE
from ..table import byte_size
from . import plots
from .answer import LIMIT, answer
from .differences import difference
from .notation import bit_fields, change, estimate, fixed, number, percent, visible
from .results import Experiment, Histogram, Text, Variant

__all__ = ["check", "page", "write"]

SUFFIXES = (".html", ".htm")
#: A text of more characters scrolls within its box.
LONG_TEXT = 1500


def check(path: str | os.PathLike[str]) -> Path:
    """Return the path, if a page can be made and written there.

    Raises
    ------
    ValueError
        Its suffix is none of `SUFFIXES`.
    FileNotFoundError, IsADirectoryError, PermissionError
        Its folder does not exist, it is a folder itself, or nothing can be written in its folder.
    ModuleNotFoundError
        jinja2 or matplotlib is not installed.
    """
    target, folder = Path(path), Path(path).parent
    named = repr(os.fspath(path))
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{named}: a report is a .html or .htm file")
    if not folder.is_dir():
        raise FileNotFoundError(f"{named}: there is no folder {str(folder)!r}")
    if target.is_dir():
        raise IsADirectoryError(f"{named}: a folder has that name; choose another")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{named}: the folder {str(folder)!r} cannot be written to")
    for needed in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(needed) is None:
            raise ModuleNotFoundError(f"a report needs {needed}: pip install 'floatfmt[torch]'")
    return target


def write(experiment: Experiment, path: str | os.PathLike[str]) -> None:
    """Write the page of an experiment, whole or not at all; raises as `check` does, and `OSError`.

    A file that is there is replaced; where the path is a link, what it leads to.
    """
    final = Path(os.path.realpath(check(path)))
    part = final.with_name(f"{final.name}.floatfmt-part")
    text = page(experiment)
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def page(experiment: Experiment) -> str:
    """Return the page of an experiment."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "bit_fields": bit_fields,
        "change": change,
        "code": lambda n: str(n).replace("-", "−"),
        "count": lambda n: f"{n:,}",
        "estimate": estimate,
        "fixed": fixed,
        "number": number,
        "percent": percent,
        "plain": lambda x: f"{x:g}".replace("-", "−"),
        "size": lambda n: byte_size(n).replace(" ", "\xa0"),
    }
    return environment.get_template("report.html.j2").render(
        experiment=experiment,
        answer=answer(experiment.variants),
        limit=LIMIT,
        palette=PALETTE,
        pictures=_pictures(experiment),
        texts=_texts(experiment.variants),
        sections=[s for s in _SECTIONS if s.is_in(experiment)],
        missing=[s.title for s in _SECTIONS if not s.is_in(experiment)],
        most_layers=plots.MOST_LAYERS,
    )


def _shown(value: Any) -> Any:
    """Return what a template writes; text that is not the template's own is made visible."""
    is_foreign = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if is_foreign else value


class _Section(NamedTuple):
    """A part of the page: its id, its heading, and whether an experiment has it."""

    id: str
    title: str
    is_in: Callable[[Experiment], object]


def _is_compared(experiment: Experiment) -> bool:
    return any(v.score is not None and v.score.kl is not None for v in experiment.variants)


def _has_texts(experiment: Experiment) -> bool:
    return any(v.texts for v in experiment.variants)


_SECTIONS = (
    _Section("summary", "Summary", lambda _: True),
    _Section("results", "Results by scheme", lambda e: e.variants),
    _Section("pareto", "Size against divergence", _is_compared),
    _Section("footprint", "Footprint", lambda e: e.footprints),
    _Section("first-weight", "The first attention weight", lambda e: e.first_weight),
    _Section("distributions", "Weight distributions", lambda e: e.histograms),
    _Section("texts", "Generated texts", _has_texts),
    _Section("own-perplexity", "Perplexity by the article’s protocol", _has_texts),
    _Section("llm-int8", "LLM.int8(): threshold and outliers", lambda e: e.sweep or e.outliers),
    _Section("peer", "The same with bitsandbytes", lambda e: e.peer),
    _Section("sensitivity", "Sensitivity by layer", lambda e: e.sensitivity),
    _Section("errata", "What the article got wrong", lambda e: e.errata),
    _Section("notes", "Notes and environment", lambda e: e.notes or e.environment),
    _Section("seconds", "Time by step", lambda e: e.seconds),
)


def _pictures(experiment: Experiment) -> dict[str, Any]:
    """Return the pictures by section, as markup."""
    from markupsafe import Markup

    e = experiment
    drawn = {
        "pareto": plots.pareto(e.variants, "pareto-plot"),
        "sweep": plots.sweep(e.sweep, "sweep-plot") if e.sweep else None,
        "outliers": plots.outliers(e.outliers, "outliers-plot") if e.outliers else None,
        "sensitivity": plots.sensitivity(e.sensitivity, "layers-plot") if e.sensitivity else None,
    }
    pictures: dict[str, Any] = {name: Markup(svg) for name, svg in drawn.items() if svg}
    pictures["histograms"] = [
        [(name, Markup(svg)) for name, svg in _small_multiples(found, number)]
        for number, found in enumerate(e.histograms)
    ]
    return pictures


def _small_multiples(found: Histogram, which: int) -> list[tuple[str, str]]:
    """Return a picture for each variant, over the original where there is one."""
    names = [name for name in found.counts if name != "original"] or list(found.counts)
    is_log = found.name == "article"  # over its wide range all but the tails is one spike
    return [
        (name, plots.histogram(found, name, is_log, f"weights-{which}-{place}"))
        for place, name in enumerate(names)
    ]


class _Writing(NamedTuple):
    """A text, the variants that wrote it, and where it differs from the original's."""

    names: list[str]
    text: Text
    parts: list[tuple[str, bool]]
    remark: str
    is_long: bool


def _texts(variants: tuple[Variant, ...]) -> dict[str, list[_Writing]]:
    """Return the texts by how they were made, the original's first, equal ones once."""
    found: dict[str, dict[tuple[str, str], _Writing]] = {}
    originals = {t.how: t for v in variants if v.name == "original" for t in v.texts}
    for variant in variants:
        for text in variant.texts:
            group = found.setdefault(text.how, {})
            key = (text.prompt, text.continuation)
            if key not in group:
                group[key] = _writing(text, originals.get(text.how))
            group[key].names.append(variant.name)
    return {how: list(group.values()) for how, group in found.items()}


def _writing(text: Text, original: Text | None) -> _Writing:
    is_long = len(text.continuation) > LONG_TEXT
    if original is None:
        return _Writing([], text, [(text.continuation, False)], "", is_long)
    found = difference(original.continuation, text.continuation)
    if text.continuation == original.continuation:
        remark = "the original’s text"
    elif found.first is None:
        remark = "differs from the original’s in spaces only"
    else:
        remark = (
            f"differs from word {found.first:,} on;"
            f" {found.shared:,} of {found.words:,} words are the original’s"
        )
    return _Writing([], text, found.parts, remark, is_long)
