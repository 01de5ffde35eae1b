"""Why a value was rounded to where it went: its neighbours, the bits dropped, and every mode.

`placement` has the numbers and `remarks` the words; here they become a text, a page and a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from . import card, exact, numberline
from .figures import equals, figure, in_full, rounded
from .numberline import NumberLine, Tick
from .placement import Neighbour, Placement, SignificandBits
from .remarks import placement, sentence
from .rounding import Rounding, rules
from .spelling import brief, in_decimal, in_hex
from .table import Part, Table, rich_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from .inspection import Inspection

__all__ = ["Explanation", "Outcome"]


class Outcome(NamedTuple):
    """What a rounding mode makes of a value.

    Attributes
    ----------
    rounding : Rounding
        The mode.
    code : int
        The code it gives.
    probability : Fraction
        1, except of the two codes that stochastic rounding chooses between.
    """

    rounding: Rounding
    code: int
    probability: Fraction


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Why a value was rounded to where it went; made by ``inspect(...).explain()``.

    The inspection is all that is stored; the rest is computed when it is looked at.

    Attributes
    ----------
    inspection : Inspection
        What is explained.

    Examples
    --------
    >>> import floatfmt as ff
    >>> why = ff.inspect("0.0319", "bf16").explain()
    >>> why.lower.code == 0x3D02, why.upper.code == 0x3D03, why.midpoint, why.position
    (True, True, Fraction(261, 8192), Fraction(414, 625))
    >>> why.bits
    SignificandBits(kept='1.0000010', guard=1, round=0, sticky=1)
    >>> why.sentence
    'beyond the midpoint: 0x3D03 is the nearer'
    """

    inspection: Inspection

    __hash__ = None  # type: ignore[assignment]

    @property
    def _place(self) -> Placement | None:
        return placement(self.inspection)

    @property
    def lower(self) -> Neighbour | None:
        """The greatest value of the format that is not above the one asked for.

        Without a code it is what would come next beyond the format's range. None where nothing
        finite was rounded, for zeros, and where nothing of the format lies below.
        """
        return self._place.neighbours[0] if self._place else None

    @property
    def upper(self) -> Neighbour | None:
        """The least value of the format that is not below the one asked for; see `lower`."""
        return self._place.neighbours[1] if self._place else None

    @property
    def midpoint(self) -> Fraction | None:
        """Halfway between the neighbours; None for a value of the format, and without both."""
        if not (self.lower and self.upper) or self.lower == self.upper:
            return None
        return (self.lower.value + self.upper.value) / 2

    @property
    def position(self) -> Fraction | None:
        """How far from `lower` to `upper` the value lies: 0 to 1, outside of that beyond the range.

        None where there is no midpoint, and for a Decimal too large or too small for a Fraction.
        """
        asked, lower, upper = self.inspection.requested, self.lower, self.upper
        if self.midpoint is None or not isinstance(asked, Fraction) or not (lower and upper):
            return None
        return (asked - lower.value) / (upper.value - lower.value)

    @property
    def bits(self) -> SignificandBits | None:
        """The significand, cut where the format's precision ends; None where `lower` is."""
        return self._place.bits if self._place else None

    @property
    def is_exact(self) -> bool:
        """Whether the value asked for, or the code given, is one of the format's values."""
        if self._place:
            return self._place.rest == 0
        x = self.inspection
        return x.rules is None or not x.remark

    @property
    def is_tie(self) -> bool:
        """Whether the value lies halfway between two values of the format."""
        return self._place is not None and self._place.is_tie

    @property
    def modes(self) -> tuple[Outcome, ...]:
        """What each rounding mode makes of the value, all other options unchanged.

        Stochastic rounding has one entry for each code that it may give.
        """
        return tuple(outcome for mode in Rounding for outcome in self._outcomes(mode))

    def _outcomes(self, mode: Rounding) -> Iterator[Outcome]:
        x, where = self.inspection, self._place
        if where is None or x.rules is None:
            yield Outcome(mode, x.code, Fraction(1))
            return
        how = rules(x.format, mode, x.rules.overflow, x.rules.nan, x.rules.subnormals)
        # The least and the greatest random bits: the two ways stochastic rounding may go.
        near, far = (exact.encode(where.value, how.format, how, word) for word in (0, 2**32 - 1))
        if near == far:
            yield Outcome(mode, near, Fraction(1))
            return
        yield Outcome(mode, near, 1 - where.probability)
        yield Outcome(mode, far, where.probability)

    @property
    def sentence(self) -> str:
        """Why the value went where it did, in plain words."""
        return sentence(self.inspection)

    # How it is shown.

    def __repr__(self) -> str:
        return f"<Explanation of {self.inspection!r}: {self.sentence}>"

    def __str__(self) -> str:
        lines = self._layout(card.TEXT_WIDTH)
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return rich_lines(self._layout(options.max_width))

    def _layout(self, width: int) -> Iterator[list[Part]]:
        yield from card.wrap([(self._title, "title")], width)
        if self._line and (drawing := numberline.text(self._line, min(width, card.TEXT_WIDTH))):
            yield []
            for drawn in drawing:
                yield [(drawn, "")]
        yield []
        for label, text in self._rows():
            for line in card.wrap([(text, "")], width - card.LABEL_WIDTH):
                yield [(label.ljust(card.LABEL_WIDTH), ""), *line]
                label = ""
        yield []
        yield from self._table.lines(width)

    @property
    def _title(self) -> str:
        x = self.inspection
        options = "".join(text for text, _ in card.options_row(x)) or "nearest_even"
        return f"Why {x.hex} in {x.format}{', ' + options if x.rules else ''}"

    @property
    def _line(self) -> NumberLine | None:
        """The number line; None where there is nothing finite on both sides."""
        x, where = self.inspection, self._place
        if where is None or where.rest == 0:
            return _line_of_exact(x) if x.is_finite and self.is_exact else None
        lower, upper, midpoint = self.lower, self.upper, self.midpoint
        if midpoint is None or not (lower and upper):
            return None
        half = figure(midpoint, x.format.round_trip_digits + 1, limit=24)
        ticks = (
            Tick(Fraction(0), _labels(x, lower), is_code=lower.code is not None),
            Tick(Fraction(1, 2), ("midpoint", half), is_code=False),
            Tick(Fraction(1), _labels(x, upper), is_code=upper.code is not None),
        )
        position = (where.value - lower.value) / (upper.value - lower.value)
        taken = next((at for at, n in ((0, lower), (1, upper)) if n.code == x.code), None)
        return NumberLine(
            ticks, _asked(x, 40), position, None if taken is None else Fraction(taken)
        )

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Yield a label and a text for all that has something to say."""
        x, bits = self.inspection, self.bits
        yield "asked for", _asked(x, 10_000) or f"the code {x.hex}"
        for label, neighbour in (("below", self.lower), ("above", self.upper)):
            if neighbour and self.lower != self.upper:
                code, value = _labels(x, neighbour)
                ended = f"{value} would be next, out of range"
                yield label, ended if neighbour.code is None else f"{code} {equals(value)}"
        if self.midpoint is not None:
            yield "midpoint", figure(self.midpoint, x.format.round_trip_digits + 1)
        if self.position is not None:
            yield "position", _position(self.position)
        if bits:
            yield "kept bits", f"{bits.kept}, what the code has room for"
            yield "guard", f"{bits.guard}, the first bit dropped"
            yield "round", f"{bits.round}, the second"
            yield "sticky", f"{bits.sticky}, whether any later one is 1; {_dropped(bits)}"
        yield "result", f"{x.hex} {equals(brief(x.code, x.format))}"
        yield "why", self.sentence

    @property
    def _table(self) -> Table:
        x = self.inspection
        rows = []
        for mode, code, probability in self.modes:
            chance = [] if probability == 1 else [f"probability {rounded(probability, 3)}"]
            taken = x.rules is not None and (mode, code) == (x.rules.rounding, x.code)
            rows.append(
                (
                    (mode.value, "name" if taken else ""),
                    (in_hex(code, x.format), ""),
                    (brief(code, x.format), ""),
                    (", ".join([*chance, *["taken"] * taken]), "note"),
                )
            )
        return Table((("rounding",), ("code",), ("value",), ("",)), tuple(rows))

    def _repr_html_(self) -> str:
        import html  # its table of entities takes a millisecond, and most never need it

        cell = f"{card.HTML_RESET};padding:1px 16px 1px 0"
        picture = "" if self._line is None else numberline.svg(self._line, self._title)
        rows = "".join(
            f'<tr style="background:none"><th scope="row" style="{card.HTML_LABEL}">{label}</th>'
            f'<td style="{card.HTML_TEXT}">{html.escape(text)}</td></tr>'
            for label, text in self._rows()
        )
        modes = "".join(
            '<tr style="background:none">'
            + "".join(
                f'<td style="{cell}{";font-weight:bold" if role == "name" else ""}">'
                f"{html.escape(text)}</td>"
                for text, role in row
            )
            + "</tr>"
            for row in self._table.rows
        )
        heads = "".join(
            f'<th scope="col" style="{cell};font-weight:bold">{lines[0]}</th>'
            for lines in self._table.header
        )
        return (
            f'<div style="{card.HTML_CARD}"><span style="font-weight:bold">'
            f"{html.escape(self._title)}</span>{picture}"
            f'<table style="{card.HTML_TABLE}"><tbody>{rows}</tbody></table>'
            f'<table style="{card.HTML_TABLE}"><thead><tr style="background:none">{heads}</tr>'
            f"</thead><tbody>{modes}</tbody></table></div>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        Exact numbers are strings as in ``Inspection.to_dict``; what there is not is None.

        ``inspection``
            The inspection's dictionary.
        ``lower``, ``upper``
            Each neighbour: ``code``, ``hex`` (None beyond the range) and ``value``.
        ``midpoint``, ``position``
            Exact numbers.
        ``bits``
            ``kept``, a string, and ``guard``, ``round``, ``sticky``.
        ``is_exact``, ``is_tie``, ``sentence``
            As the properties.
        ``modes``
            A list: ``rounding``, ``code``, ``hex``, ``decimal``, ``probability``.
        """
        x, bits = self.inspection, self.bits
        return {
            "inspection": x.to_dict(),
            "lower": _neighbour_dict(x, self.lower),
            "upper": _neighbour_dict(x, self.upper),
            "midpoint": None if self.midpoint is None else in_full(self.midpoint),
            "position": None if self.position is None else in_full(self.position),
            "bits": None if bits is None else bits._asdict(),
            "is_exact": self.is_exact,
            "is_tie": self.is_tie,
            "sentence": self.sentence,
            "modes": [
                {
                    "rounding": mode.value,
                    "code": code,
                    "hex": in_hex(code, x.format),
                    "decimal": in_decimal(code, x.format),
                    "probability": in_full(probability),
                }
                for mode, code, probability in self.modes
            ],
        }


# --- pieces of text -----------------------------------------------------------------------------


def _asked(x: Inspection, limit: int) -> str:
    """Return what was asked for, in at most about so many characters."""
    text = "".join(text for text, _ in card.requested_row(x))
    if len(text) <= limit or isinstance(x.requested, float) or x.requested is None:
        return text
    return rounded(x.requested, x.format.round_trip_digits + 1)


def _labels(x: Inspection, neighbour: Neighbour) -> tuple[str, str]:
    """Return a neighbour's code and value."""
    if neighbour.code is None:
        return "out of range", figure(neighbour.value, x.format.round_trip_digits, limit=24)
    return in_hex(neighbour.code, x.format), brief(neighbour.code, x.format)


def _position(position: Fraction) -> str:
    """Return where between its neighbours a value lies."""
    ratio = in_full(position)
    about = rounded(position, 3)
    text = f"{ratio} {equals(about)}" if len(ratio) <= 30 and ratio != about else about
    if 0 <= position <= 1:
        return f"{text} of the way from below to above"
    return f"{text} steps from below: out of range"


def _dropped(bits: SignificandBits) -> str:
    """Return how much the dropped bits amount to."""
    if not (bits.guard or bits.round or bits.sticky):
        return "nothing is dropped"
    if not bits.guard:
        return "less than half is dropped"
    return "more than half is dropped" if bits.round or bits.sticky else "just half is dropped"


def _line_of_exact(x: Inspection) -> NumberLine | None:
    """Return the number line of a value of the format, between the next ones."""
    down, up = x.next_down, x.next_up
    low, here, high = (None if n is None else n.value for n in (down, x, up))
    if down is None or up is None or low is None or here is None or high is None:
        return None
    position = (here - low) / (high - low)
    ticks = tuple(
        Tick(at, (n.hex, brief(n.code, n.format)), is_code=True)
        for at, n in ((Fraction(0), down), (position, x), (Fraction(1), up))
    )
    return NumberLine(ticks, _asked(x, 40) or x.hex, position, position)


def _neighbour_dict(x: Inspection, neighbour: Neighbour | None) -> dict[str, Any] | None:
    if neighbour is None:
        return None
    code = neighbour.code
    in_hexadecimal = None if code is None else in_hex(code, x.format)
    return {"code": code, "hex": in_hexadecimal, "value": in_full(neighbour.value)}
