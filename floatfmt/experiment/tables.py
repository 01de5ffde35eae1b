"""An experiment as lines of text: tables for terminals, pipes and notebooks."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..table import LONGEST_TEXT, TEXT_WIDTH, Part, Table, byte_size, printable
from .results import (
    ActivationOutliers,
    Estimate,
    Experiment,
    FirstWeight,
    Peer,
    Sensitivity,
    Text,
    ThresholdSweepOfModel,
    Variant,
)

__all__ = ["layout", "part_text"]

#: Schemes whose codes are printed, as in the article; the report has all.
PRINTED = ("int8_absmax", "int8_zeropoint")
#: Rows of the table of sensitivities, the worst first.
WORST = 10


def layout(found: Experiment, width: int | None) -> Iterator[list[Part]]:
    """Yield an experiment's lines, tables cut into blocks where `width` is too little."""
    yield from _head(found, width)
    sections = (
        ("What each scheme costs and saves", _variants(found)),
        ("Bytes of the model in each scheme", _footprints(found)),
        *(_section(part) for part in (found.first_weight, found.sweep, found.outliers)),
        *(_section(part) for part in (found.peer, found.sensitivity)),
    )
    for title, table in sections:
        if table is not None:
            yield []
            yield [(title, "title")]
            yield []
            yield from table.lines(width)
    if found.peer is not None:
        for sentence in found.peer.differences:
            yield from _wrapped(f"- {sentence}", width)
    yield from _texts(found, width)
    yield from _feet(found, width)


def _section(part: Any) -> tuple[str, Table | None]:
    if part is None:
        return "", None
    title, table = PARTS[type(part)]
    return title(part), table(part)


def part_text(part: Any) -> str:
    """Return one step's result as text: a title and a table."""
    title, table = _section(part)
    lines = [] if table is None else table.lines()
    return "\n".join([title, "", *("".join(text for text, _ in line) for line in lines)])


def _head(found: Experiment, width: int | None) -> Iterator[list[Part]]:
    model = found.model
    yield [(f"{model.name}, {model.architecture}", "title")]
    yield from _wrapped(
        f"{model.parameters:,} parameters in {model.dtype}, {model.layers:,} linear layers and a"
        f" head, context {model.context:,}, {model.vocabulary:,} tokens by {model.tokenizer}",
        width,
    )
    yield from _wrapped(f"Scored on {found.text}.", width)
    if found.interrupted:
        yield [
            (f"Interrupted at the step {found.interrupted!r}: what came before is here.", "lost")
        ]


def _wrapped(text: str, width: int | None, indent: str = "  ") -> Iterator[list[Part]]:
    limit = min(width or TEXT_WIDTH, LONGEST_TEXT)
    for line in textwrap.wrap(text, limit, subsequent_indent=indent):
        yield [(line, "")]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table | None:
    if not rows:
        return None
    cells = tuple(
        tuple((text, "" if column else "name") for column, text in enumerate(row)) for row in rows
    )
    return Table(tuple(tuple(name.split("\n")) for name in header), cells)


def _plus_minus(estimate: Estimate | None, digits: int = 4, percent: bool = False) -> str:
    if estimate is None:
        return "-"
    factor = 100 if percent else 1
    return f"{factor * estimate.value:.{digits}f} ±{factor * estimate.error:.2g}"


def _scientific(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.2e} ±{estimate.error:.1e}"


# --- the tables ---------------------------------------------------------------------------------


def _variants(found: Experiment) -> Table | None:
    header = (
        *("scheme", "bytes", "bits a\nparameter", "weights'\nSQNR dB", "perplexity"),
        *(
            "by the\noriginal's",
            "KL divergence\nnats",
            "same top\ntoken %",
            "text's own\nperplexity",
        ),
    )
    return _table(header, [_variant(variant) for variant in found.variants])


def _variant(variant: Variant) -> tuple[str, ...]:
    score = variant.score
    scored = ("", "", "", "")
    if score is not None:
        scored = (
            _plus_minus(score.perplexity, 3),
            _plus_minus(score.ratio, 5),
            _scientific(score.kl),
            _plus_minus(score.top1, 2, percent=True),
        )
    sampled = next((text for text in variant.texts if text.how == "sampled"), None)
    return (
        variant.name,
        byte_size(variant.nbytes),
        f"{variant.bits_per_parameter:.2f}",
        "-" if variant.error is None else f"{variant.error.sqnr_db:.1f}",
        *scored,
        "" if sampled is None else f"{sampled.perplexity:.2f}",
    )


def _footprints(found: Experiment) -> Table | None:
    rows = [
        (row.name, f"{row.nbytes:,}", f"{row.bits_per_parameter:.2f}") for row in found.footprints
    ]
    return _table(("form", "bytes", "bits a\nparameter"), rows)


def _first_weight_title(first: FirstWeight) -> str:
    shape = "×".join(map(str, first.shape))
    return f"Corners of {first.name}, {shape}, {first.low:.4f} to {first.high:.4f}"


def _first_weight(first: FirstWeight) -> Table | None:
    """Return corners as the article prints them: the values, then the codes of two schemes."""
    header = ("scheme", "row", *(f"[{column}]" for column in first.columns))
    rows: list[tuple[str, ...]] = []
    blocks = [("weights", [[f"{v:.4f}" for v in row] for row in first.values])]
    blocks += [
        (after.scheme, [list(map(str, row)) for row in after.codes])
        for after in first.after
        if after.scheme in PRINTED
    ]
    for name, block in blocks:
        for number, (row, cells) in enumerate(zip(first.rows, block, strict=True)):
            rows.append((name if number == 0 else "", str(row), *cells))
    return _table(header, rows)


def _sweep(sweep: ThresholdSweepOfModel) -> Table | None:
    rows = [
        (
            f"{row.threshold:g}",
            f"{100 * row.outlier_share:.2f}",
            _plus_minus(row.score.ratio, 5),
            _scientific(row.score.kl),
        )
        for row in sweep.rows
    ]
    return _table(
        (
            "threshold",
            "columns not\nin int8 %",
            "perplexity by\nthe original's",
            "KL divergence\nnats",
        ),
        rows,
    )


def _outliers(outliers: ActivationOutliers) -> Table | None:
    rows = [
        (
            row.layer,
            f"{row.largest:.2f}",
            f"{row.rms:.3f}",
            f"{row.outlier_count} of {row.columns:,}",
            f"{100 * row.outlier_share:.4f}",
        )
        for row in outliers.rows
    ]
    return _table(
        ("input of", "largest\n|x|", "RMS", "outlier\ncolumns", "outlier\nvalues %"), rows
    )


def _peer(peer: Peer) -> Table | None:
    rows = [
        (name, _plus_minus(score.ratio, 5), _scientific(score.kl), f"{1e3 * seconds:.3g} ms", codes)
        for name, score, seconds, codes in (
            ("llm_int8", peer.ours, peer.our_seconds, ""),
            (
                peer.name,
                peer.score,
                peer.seconds,
                f"{peer.differing_codes:,} of {peer.codes:,}",
            ),
        )
    ]
    return _table(
        (
            *("layers", "perplexity by\nthe original's", "KL divergence\nnats", "a window"),
            "codes that\ndiffer",
        ),
        rows,
    )


def _sensitivity_title(sensitivity: Sensitivity) -> str:
    rows = len(sensitivity.rows)
    worst = f", the worst {WORST} of {rows}" if rows > WORST else ""
    return f"One matrix at a time in {sensitivity.scheme}{worst}"


def _sensitivity(sensitivity: Sensitivity) -> Table | None:
    rows = [
        (
            row.layer,
            f"{row.parameters:,}",
            f"{row.sqnr_db:.1f}",
            _plus_minus(row.score.ratio, 5),
            _scientific(row.score.kl),
        )
        for row in sensitivity.rows[:WORST]
    ]
    return _table(
        (
            *("matrix", "weights", "SQNR dB", "perplexity by\nthe original's"),
            "KL divergence\nnats",
        ),
        rows,
    )


#: The title and the table of a step's result.
PARTS: dict[type, tuple[Callable[[Any], str], Callable[[Any], Table | None]]] = {
    FirstWeight: (_first_weight_title, _first_weight),
    ThresholdSweepOfModel: (lambda _: "LLM.int8() by threshold, of activations", _sweep),
    ActivationOutliers: (lambda part: f"Activations of {part.threshold:g} or more", _outliers),
    Peer: (lambda _: "bitsandbytes' LLM.int8() layers beside ours", _peer),
    Sensitivity: (_sensitivity_title, _sensitivity),
}


# --- texts and what is said below ---------------------------------------------------------------


def _texts(found: Experiment, width: int | None) -> Iterator[list[Part]]:
    for how in ("greedy", "sampled"):
        texts = [(v.name, t) for v in found.variants for t in v.texts if t.how == how]
        if not texts:
            continue
        yield []
        seed = f", seed {found.seed}" if how == "sampled" else ""
        yield [(f"Texts, {how}{seed}: {printable(texts[0][1].prompt)!r} …", "title")]
        yield []
        original = texts[0][1]
        for name, text in texts:
            yield [(name, "name")]
            is_same = text is not original and text.continuation == original.continuation
            shown = "the same as the original's" if is_same else _one_line(text)
            for line in textwrap.wrap(shown, min(width or TEXT_WIDTH, LONGEST_TEXT) - 2):
                yield [(f"  {line}", "")]


def _one_line(text: Text) -> str:
    return printable(" ".join(text.continuation.split())) or "(nothing but white space)"


def _feet(found: Experiment, width: int | None) -> Iterator[list[Part]]:
    if found.errata:
        yield []
        yield [("What the article got wrong", "title")]
        yield []
        for erratum in found.errata:
            yield from _wrapped(f"- {erratum.claim}: {erratum.correction}.", width)
    yield []
    for note in found.notes:
        yield from _wrapped(f"* {note}", width)
    facts = ", ".join(f"{name} {value}" for name, value in found.environment.items())
    yield from _wrapped(f"* {facts}", width)
    taken = ", ".join(f"{name} {s:.1f} s" for name, s in found.seconds.items())
    if taken:
        yield from _wrapped(f"* Time: {taken}", width)
