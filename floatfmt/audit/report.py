"""What the auditor found, as objects that print themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .. import exact, interop
from ..figures import figure
from ..formats import Format
from ..inspection import inspect
from ..spelling import brief, field_bits, in_decimal, in_hex
from ..table import TEXT_WIDTH, Part, rich_lines
from .faults import Sample
from .inputs import Extent
from .positions import Positions
from .profiles import Profile

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Difference", "Fault", "Identification", "Shown", "Verification", "wrapped"]

#: Faults that are shown with an example; the others in a line each.
SHOWN_IN_FULL = 6


@dataclass(frozen=True, slots=True)
class Fault:
    """Failures of one name.

    Attributes
    ----------
    name : str
        What went wrong.
    count : int
        On how many inputs.
    first, simplest : Sample
        The failure that was met first, and the one of fewest significant bits and then nearest to
        1: `code` of the source, `expected` code of the target and what was `got`, a code or a text;
        `number` in the order of the sweep.
    """

    name: str
    count: int
    first: Sample
    simplest: Sample

    def to_dict(self, source: Format, target: Format) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes; codes are hexadecimal."""
        samples = {
            which: _sample_dict(getattr(self, which), source, target)
            for which in ("first", "simplest")
        }
        return {"name": self.name, "count": self.count, **samples}


def _sample_dict(sample: Sample, source: Format, target: Format) -> dict[str, Any]:
    return {
        "number": sample.number,
        "input": in_hex(sample.code, source),
        "value": in_decimal(sample.code, source),
        "expected": _result_text(sample.expected, target),
        "got": _result_text(sample.got, target),
    }


def _result_text(result: int | str, target: Format) -> str:
    return result if isinstance(result, str) else in_hex(result, target)


class Shown:
    """Shows lines of parts as text, in a terminal and in Jupyter."""

    __slots__ = ()

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._layout(None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return rich_lines(self._layout(options.max_width))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)


@dataclass(frozen=True, slots=True, repr=False)
class Verification(Shown):
    """The verdict on a cast; made by ``ff.verify``.

    Attributes
    ----------
    cast : str
        Its name.
    source, target : Format
    asked : Profile
        What it should do.
    nan : str
        What was asked of NaN.
    checked : int
        On how many inputs it was tried.
    inputs : Extent
        Which there are: `size`, `is_every_code`, `has_every_step`, `about`.
    faults : tuple of Fault
        What went wrong, most frequent first.
    positions : Positions
        Whether the result depends on the place in an array: `tried`, `wrong`, `where`.
    profile : Profile or None
        What a cast that is wrong does, as far as it was found out.
    unlike : int
        On how many inputs it does not do that.
    known : tuple of str
        Names of known behaviours that agree with it.
    stopped : str
        "" if it went to the end; else "budget" or "interrupted".
    seconds : float
        How long it took; two verifications are equal whatever it is.

    Examples
    --------
    >>> import floatfmt as ff
    >>> found = ff.verify("ml_dtypes", "bf16", "fp8_e8m0fnu")
    >>> found.verdict, found.faults[0].name, found.wrong
    ('refuted', 'ties away from zero', 159)
    """

    cast: str
    source: Format
    target: Format
    asked: Profile
    nan: str
    checked: int
    inputs: Extent
    faults: tuple[Fault, ...]
    positions: Positions
    profile: Profile | None
    unlike: int
    known: tuple[str, ...]
    stopped: str
    seconds: float = field(compare=False)

    __hash__ = None  # type: ignore[assignment]

    @property
    def wrong(self) -> int:
        """On how many inputs it is wrong."""
        return sum(fault.count for fault in self.faults)

    @property
    def verdict(self) -> str:
        """One of "proved", "refuted", "inconclusive"."""
        if self.faults or self.positions.wrong:
            return "refuted"
        is_all = not self.stopped and self.inputs.has_every_step
        return "proved" if is_all else "inconclusive"

    @property
    def passed(self) -> bool:
        """Whether the cast is proved right."""
        return self.verdict == "proved"

    @property
    def is_exact_profile(self) -> bool:
        """Whether `profile` explains every result, the wrong ones included."""
        return self.profile is not None and not self.unlike and not self.positions.wrong

    def __repr__(self) -> str:
        counts = f"{self.wrong:,} wrong of {self.checked:,}"
        return f"<{self.verdict}: {self.cast}, {self.source} → {self.target}, {counts}>"

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        limit = min(width or TEXT_WIDTH, 100)
        yield [(f"{self.verdict}: ", _ROLES[self.verdict]), (self._title, "title")]
        yield from wrapped(self._counted, limit)
        for text in self._conclusions:
            yield from wrapped(text, limit)
        yield from _fault_lines(self.faults, self.source, self.target, limit, ("expected", "got"))
        yield from self._position_lines(limit)

    @property
    def _title(self) -> str:
        return f"{self.cast}, {self.source} → {self.target}, {self.asked.words(self.target)}"

    @property
    def _counted(self) -> str:
        wrong = f"{self.wrong:,} wrong" if self.wrong else "all right"
        if self.wrong and self.checked:
            wrong += f" ({_share(self.wrong, self.checked)})"
        return f"{_extent(self.checked, self.inputs, self.stopped)}: {wrong}; {self.seconds:.1f} s"

    @property
    def _conclusions(self) -> Iterator[str]:
        if not self.faults and not self.stopped and not self.positions.wrong:
            yield _scope(self.inputs)
        if self.target.nan is None and self.nan in ("any", "quiet", "exact"):
            yield f"{self.target} has no NaN: whatever NaN becomes is accepted."
        elif self.nan == "any" and self.source.nan is not None:
            yield "Any NaN for a NaN is accepted."
        if self.asked.rounding == "stochastic":
            yield "Either neighbour is accepted; their frequencies were not looked at."
        if self.profile is not None and (self.faults or self.unlike):
            yield self._follows

    @property
    def _follows(self) -> str:
        assert self.profile is not None
        words, known = self.profile.words(self.target), ", ".join(self.known)
        known = f" Known to do so: {known}." if known else ""
        if self.is_exact_profile:
            return f"On each of them it is exactly this: {words}.{known}"
        return f"Nearest to: {words}; on {self.unlike:,} inputs it is not that.{known}"

    def _position_lines(self, limit: int) -> Iterator[list[Part]]:
        found = self.positions
        if not found.wrong or found.sample is None:
            return
        yield []
        yield [("the result depends on the position in the array", "name")]
        where = f", {found.where}" if found.where else ""
        yield from wrapped(
            f"{found.wrong:,} of {found.tried:,} placements are wrong{where}; here at position"
            f" {found.sample.number} of {found.length}",
            limit,
            "  ",
        )
        yield from _sample_lines(found.sample, self.source, self.target, ("expected", "got"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "cast": self.cast,
            "source": self.source.name,
            "target": self.target.name,
            "asked": self.asked.to_dict(),
            "nan": self.nan,
            "verdict": self.verdict,
            **_extent_dict(self.checked, self.inputs, self.stopped, self.seconds),
            "wrong": self.wrong,
            "faults": [fault.to_dict(self.source, self.target) for fault in self.faults],
            "positions": self.positions.to_dict(),
            "profile": None if self.profile is None else self.profile.to_dict(),
            "is_exact_profile": self.is_exact_profile,
            "unlike": self.unlike,
            "known": list(self.known),
        }


_ROLES = {"proved": "name", "refuted": "lost", "inconclusive": "note"}


@dataclass(frozen=True, slots=True, repr=False)
class Identification(Shown):
    """What a cast does; made by ``ff.identify``.

    Attributes
    ----------
    profile : Profile
        What it does, as far as it was found out.
    known : tuple of str
        Names of known behaviours that agree with it.
    verification : Verification
        The cast verified against `profile`.

    Examples
    --------
    >>> import floatfmt as ff
    >>> print(ff.identify("ml_dtypes", "bf16", "fp6_e2m3fn").profile.words(ff.format("fp6_e2m3fn")))
    nearest_even, NaN becomes -0 and 0
    """

    profile: Profile
    known: tuple[str, ...]
    verification: Verification

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_exact(self) -> bool:
        """Whether the profile explains every result that was looked at."""
        return self.verification.verdict != "refuted"

    def __repr__(self) -> str:
        return f"<{self.verification.cast}: {self.profile}>"

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        found, limit = self.verification, min(width or TEXT_WIDTH, 100)
        how = "is exactly" if self.is_exact else "is nearest to"
        title = f"{found.cast}, {found.source} → {found.target}, {how}: "
        yield from wrapped(title + self.profile.words(found.target), limit, role="title")
        yield from wrapped(found._counted, limit)
        known = ", ".join(self.known) or "none of the known behaviours"
        yield from wrapped(f"Agrees with: {known}.", limit)
        if not self.is_exact:
            yield from _fault_lines(
                found.faults, found.source, found.target, limit, ("profile", "cast")
            )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "profile": self.profile.to_dict(),
            "is_exact": self.is_exact,
            "known": list(self.known),
            "verification": self.verification.to_dict(),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Difference(Shown):
    """Where two casts differ; made by ``ff.diff``.

    Attributes
    ----------
    casts : tuple of str
        Their names.
    source, target : Format
    nan : str
        "any" if two NaNs count as alike.
    checked : int
        On how many inputs they were tried.
    inputs : Extent
        Which there are.
    faults : tuple of Fault
        How they differ, most frequent first: in samples `got` is what the first cast gave,
        `expected` the second's.
    stopped, seconds
        As in ``Verification``.
    """

    casts: tuple[str, str]
    source: Format
    target: Format
    nan: str
    checked: int
    inputs: Extent
    faults: tuple[Fault, ...]
    stopped: str
    seconds: float = field(compare=False)

    __hash__ = None  # type: ignore[assignment]

    @property
    def differ(self) -> int:
        """On how many inputs they differ."""
        return sum(fault.count for fault in self.faults)

    @property
    def verdict(self) -> str:
        """One of "proved" (alike on every input), "refuted", "inconclusive"."""
        if self.faults:
            return "refuted"
        return "proved" if not self.stopped and self.inputs.has_every_step else "inconclusive"

    def __repr__(self) -> str:
        names = " and ".join(self.casts)
        return f"<{names}, {self.source} → {self.target}: {self.differ:,} of {self.checked:,}>"

    def _layout(self, width: int | None) -> Iterator[list[Part]]:
        limit = min(width or TEXT_WIDTH, 100)
        yield [(f"{' and '.join(self.casts)}, {self.source} → {self.target}", "title")]
        found = "no difference"
        if self.differ:
            found = f"{self.differ:,} differ ({_share(self.differ, self.checked)})"
        extent = _extent(self.checked, self.inputs, self.stopped)
        yield from wrapped(f"{extent}: {found}; {self.seconds:.1f} s", limit)
        if not self.faults and not self.stopped:
            yield from wrapped(_scope(self.inputs, "alike"), limit)
        if self.nan == "any" and self.source.nan is not None:
            yield from wrapped("Two NaNs count as alike.", limit)
        names = (self.casts[1], self.casts[0])
        yield from _fault_lines(self.faults, self.source, self.target, limit, names)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "casts": list(self.casts),
            "source": self.source.name,
            "target": self.target.name,
            "nan": self.nan,
            "verdict": self.verdict,
            **_extent_dict(self.checked, self.inputs, self.stopped, self.seconds),
            "differ": self.differ,
            "faults": [fault.to_dict(self.source, self.target) for fault in self.faults],
        }


# --- lines --------------------------------------------------------------------------------------


_STOPPED = {"budget": "stopped by the budget", "interrupted": "interrupted"}


def _extent(checked: int, inputs: Extent, stopped: str) -> str:
    if not stopped:
        return f"{checked:,} inputs"
    spread = ", evenly spread" if inputs.is_every_code else ""
    return f"{checked:,} of {inputs.size:,} inputs{spread} ({_STOPPED[stopped]})"


def _extent_dict(checked: int, inputs: Extent, stopped: str, seconds: float) -> dict[str, Any]:
    return {
        "checked": checked,
        "inputs": inputs.size,
        "is_every_code": inputs.is_every_code,
        "about": inputs.about,
        "stopped": stopped or None,
        "seconds": round(seconds, 3),
    }


def _scope(inputs: Extent, is_what: str = "right") -> str:
    """Return what follows from a sweep without a failure."""
    if inputs.is_every_code:
        return f"They are {inputs.about}: it is {is_what} everywhere."
    if inputs.has_every_step:
        return (
            f"They are {inputs.about}. So it is {is_what} everywhere, provided that a larger input"
            " never gives a smaller result."
        )
    return f"They are {inputs.about}: a sample, which proves nothing."


def _share(part: int, whole: int) -> str:
    """Return a share in percent, or one in how many.

    Examples
    --------
    >>> _share(1, 3), _share(5, 4_294_967_296)
    ('33.3%', '1 in 858,993,459')
    """
    return f"{part / whole:.1%}" if part * 1000 >= whole else f"1 in {whole // part:,}"


def wrapped(text: str, limit: int, indent: str = "", role: str = "") -> Iterator[list[Part]]:
    """Yield a text's lines."""
    for line in textwrap.wrap(text, limit, initial_indent=indent, subsequent_indent=indent):
        yield [(line, role)]


def _fault_lines(
    faults: tuple[Fault, ...], source: Format, target: Format, limit: int, names: tuple[str, str]
) -> Iterator[list[Part]]:
    """Yield the faults: the most frequent with their simplest example, the others in a line."""
    for number, fault in enumerate(faults[:SHOWN_IN_FULL]):
        yield []
        yield from wrapped(f"{fault.name}: {fault.count:,}", limit, role="name")
        yield from _sample_lines(fault.simplest, source, target, names)
        if fault.first.code != fault.simplest.code and number == 0:
            yield [("  and the one that was met first:", "note")]
            yield from _sample_lines(fault.first, source, target, names)
    if len(faults) > SHOWN_IN_FULL:
        yield []
    for fault in faults[SHOWN_IN_FULL:]:
        where = in_hex(fault.simplest.code, source)
        yield from wrapped(f"{fault.name}: {fault.count:,}, such as {where}", limit)


def _sample_lines(
    sample: Sample, source: Format, target: Format, names: tuple[str, str]
) -> Iterator[list[Part]]:
    """Yield an example: its bits and value, its neighbours in the target, both results."""
    bits = "|".join(field_bits(sample.code, source).values())
    rows = [("input", f"{in_hex(sample.code, source)}  {bits}")]
    rows.append(("value", _value(sample.code, source)))
    if between := _neighbours(sample.code, source, target):
        rows.append(("between", between))
    rows.append((names[0], _result(sample.expected, target)))
    rows.append((names[1], _result(sample.got, target)))
    width = max(9, *(len(name) for name, _ in rows))
    for name, text in rows:
        yield [(f"  {name:{width}}  ", "note"), (text, "")]


def _value(code: int, fmt: Format) -> str:
    """Return a value, exactly if that is short, and in hexadecimal."""
    if exact.category(code, fmt) not in ("normal", "subnormal"):
        return in_decimal(code, fmt)
    value = Fraction(exact.decode(code, fmt))
    digits, _, exponent = float(value).hex().partition("p")
    digits = digits.rstrip("0").rstrip(".")
    return f"{figure(value, fmt.round_trip_digits, 30)}  {digits}p{exponent}"


def _result(result: int | str, target: Format) -> str:
    if isinstance(result, str):
        return result
    return f"{in_hex(result, target)} = {brief(result, target)}"


def _neighbours(code: int, source: Format, target: Format) -> str:
    """Return the target's values on both sides of an input, if it is none of them."""
    value = exact.decode(code, source)
    if not isinstance(value, Fraction):
        return ""
    low, high = (
        _inspected(value, target, rounding) for rounding in ("toward_negative", "toward_positive")
    )
    if low is None or high is None or low == high:
        return ""
    return f"{_result(low, target)} and {_result(high, target)}"


def _inspected(value: Fraction, target: Format, rounding: str) -> int | None:
    try:
        return inspect(value, target, rounding=rounding).code
    except ValueError:
        return None
