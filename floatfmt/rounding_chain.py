"""Whether rounding twice, source → via → target, can differ from rounding once, source → target.

The answer is a proof, by testing a few source values that stand for all the others. Write D for
the conversion of source values to the target and C for the chain through `via`; both take a larger
value to a larger or equal result. Take values of one sign (the other is the mirror image, with its
own limits and with toward_positive and toward_negative exchanged), and let s, v and t be the
spacings of the three formats where a value lies.

*The ends of cells.* Where D and C differ at x, say D(x) < C(x), they also differ at the last source
value of x's cell of D, the values with the same D: there D is still D(x), and C is no smaller. So,
in any range, it is enough to test the source values next to the places where D steps, and those at
the range's own ends. The same goes for C.

*The outside.* Below the smallest positive value m of `via` or the target, C or D steps only right
above 0, at m/2 and at m, whatever the mode; beyond the largest value M only at M, at M plus half a
spacing and at M plus one. The source values next to these places, the least and the greatest are
tested.

*Inside*, between these bounds, take one binade from A = 2^e on. All three formats are evenly spaced
in it, and no result overflows.

- s ≥ v: `via` holds the source's values; C is D.
- s < v and t < v: the source and the target hold A + max(s, t), and `via` does not: C cannot give
  it. If that is the target's largest value or lies beyond, D steps at most at A, A + t/2, A + t.
- s < v ≤ t: shifting values by 2t, an even number of steps of the target and of `via`, shifts D and
  C alike. So one stretch from A to A + 2t shows every difference, and D steps there at most at A
  plus 0, t/2, t, 3t/2 and 2t.

The source values next to these places are tested, once for binades that are alike: those with the
same s, v, t and upper end in units of A, and the same parity of e, on which ties depend when the
precision is one bit.

The signed zeros and infinities are tested one by one. What remains, a conversion of every value of
every triple of small formats, is in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from . import exact, interop
from .figures import figure, in_full
from .formats import Format, FormatLike
from .formats import format as as_format
from .rounding import Rounding, Rules, rounding_mode, rules

__all__ = ["DoubleRounding", "double_rounding"]


@dataclass(frozen=True, slots=True)
class DoubleRounding:
    """A value that two roundings and one take to different results; made by `double_rounding`.

    Attributes
    ----------
    value : Fraction or float
        The value, one of the source's; -0.0 and the infinities are floats.
    source, via, target : Format
        The formats of the chain.
    rounding, via_rounding : Rounding
        How values are rounded to the target, and to `via`.
    direct : int
        The target's code of the value, rounded once.
    via_code : int
        The code of the value in `via`.
    double : int or None
        The target's code of that; None where `via` has NaN and the target has none.

    Examples
    --------
    >>> import floatfmt as ff
    >>> found = ff.double_rounding("fp64", via="fp32", target="fp16")
    >>> found.value == 1 + Fraction(1, 2**11) + Fraction(1, 2**24)
    True
    >>> hex(found.direct), hex(found.double), found.direct_value - found.double_value
    ('0x3c01', '0x3c00', Fraction(1, 1024))
    """

    value: Fraction | float
    source: Format
    via: Format
    target: Format
    rounding: Rounding
    via_rounding: Rounding
    direct: int
    via_code: int
    double: int | None

    __hash__ = None  # type: ignore[assignment]

    @property
    def direct_value(self) -> Fraction | float:
        """The exact value of `direct`: a Fraction, or float -0.0, inf, -inf or nan."""
        return exact.decode(self.direct, self.target)

    @property
    def via_value(self) -> Fraction | float:
        """The exact value that `via` has."""
        return exact.decode(self.via_code, self.via)

    @property
    def double_value(self) -> Fraction | float | None:
        """The exact value of `double`; None if there is none."""
        return None if self.double is None else exact.decode(self.double, self.target)

    @property
    def hexfloat(self) -> str:
        """The value in C's hexadecimal notation, without trailing zeros."""
        digits, p, exponent = float(self.value).hex().partition("p")
        return (digits.rstrip("0").rstrip(".") if p else digits) + p + exponent

    def __str__(self) -> str:
        once = f"{self.source} → {self.target}"
        first, twice = f"{self.source} → {self.via}", f"{self.source} → {self.via} → {self.target}"
        modes = str(self.rounding)
        if self.via_rounding is not self.rounding:
            modes = f"{self.via_rounding}, then {self.rounding}"
        rows = (
            ("value", _text(self.value), self.hexfloat),
            (once, _text(self.direct_value), _hex(self.direct, self.target)),
            (first, _text(self.via_value), _hex(self.via_code, self.via)),
            (twice, _text(self.double_value), _hex(self.double, self.target)),
        )
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = (f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows)
        return "\n".join((f"{twice} differs from {once}, {modes}", *lines))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        Exact values are integers or fractions in lowest terms, as strings.
        """
        double = self.double_value
        return {
            "source": self.source.name,
            "via": self.via.name,
            "target": self.target.name,
            "rounding": self.rounding.value,
            "via_rounding": self.via_rounding.value,
            "value": in_full(self.value),
            "hexfloat": self.hexfloat,
            "direct": self.direct,
            "direct_value": in_full(self.direct_value),
            "via_code": self.via_code,
            "via_value": in_full(self.via_value),
            "double": self.double,
            "double_value": None if double is None else in_full(double),
        }


def _text(x: Fraction | float | None) -> str:
    if x is None:
        return "an error: no NaN"
    return figure(x, digits=17, limit=60) if isinstance(x, Fraction) else in_full(x)


def _hex(code: int | None, fmt: Format) -> str:
    return "" if code is None else f"0x{code:0{-(-fmt.bits // 4)}X}"


def double_rounding(
    source: FormatLike,
    via: FormatLike,
    target: FormatLike,
    *,
    rounding: str | Rounding = Rounding.NEAREST_EVEN,
    via_rounding: str | Rounding | None = None,
) -> DoubleRounding | None:
    """Prove that converting through a third format changes nothing, or show where it does.

    Parameters
    ----------
    source, via, target : Format, str or dtype
        The chain: values of `source` are rounded to `via`, and the result to `target`.
    rounding : Rounding or str
        The mode of the rounding to the target, in one step and in two; not "stochastic".
    via_rounding : Rounding or str, optional
        The mode of the first of two roundings; `rounding` if not given.

    Returns
    -------
    DoubleRounding or None
        None when it is proved that both ways give the same code for every finite value, signed
        zero and infinity of the source. Else a value for which they do not, near 1 and of few bits
        if one is.

        NaNs are not asked about, and are all alike as results. Overflow is as `encode`'s default:
        through a format without Inf, a large value may become NaN.

    Raises
    ------
    ValueError
        No such format or mode, or "stochastic".

    Notes
    -----
    For two roundings to nearest of the same unlimited range, p bits of precision each, there is a
    difference unless ``p_via >= p_source``, ``p_via == p_target``, or ``p_via == p_target + 1`` and
    ``p_source == p_target + 2``. The familiar ``p_via >= 2 * p_target + 2`` is about results of
    arithmetic, not about values: fp32 has 2 × 11 + 2 bits, and fp64 → fp32 → fp16 still differs.
    Rounding to odd first is innocuous if ``p_via >= p_target + 2`` (Boldo and Melquiond, Emulation
    of FMA and correctly rounded sums: proved algorithms using rounding to odd. IEEE TC 57, 2008).
    The answer here does not rest on these rules; the module's docstring has the proof.

    Examples
    --------
    >>> import floatfmt as ff
    >>> print(ff.double_rounding("fp64", via="fp32", target="bf16"))
    fp64 → fp32 → bf16 differs from fp64 → bf16, nearest_even
    value               1.003906309604644775390625  0x1.010001p+0
    fp64 → bf16         1.0078125                   0x3F81
    fp64 → fp32         1.00390625                  0x3F808000
    fp64 → fp32 → bf16  1                           0x3F80
    >>> ff.double_rounding("fp64", "fp32", "bf16", via_rounding="to_odd") is None
    True
    >>> ff.double_rounding("fp16", via="fp32", target="bf16") is None  # fp32 holds fp16
    True
    """
    first, last = as_format(via), as_format(target)
    mode = _deterministic(rounding)
    chain = _Chain(
        as_format(source),
        rules(first, mode if via_rounding is None else _deterministic(via_rounding)),
        rules(last, mode),
    )
    found = next((x for x in _candidates(chain) if chain.differs(x)), None)
    return None if found is None else chain.result(_simplified(found, chain))


def _deterministic(which: str | Rounding) -> Rounding:
    mode = rounding_mode(which)
    if mode is Rounding.STOCHASTIC:
        raise ValueError("double rounding is decided for modes without chance, got 'stochastic'")
    return mode


class _Chain(NamedTuple):
    source: Format
    first: Rules
    last: Rules

    @property
    def formats(self) -> tuple[Format, Format, Format]:
        return self.source, self.first.format, self.last.format

    def codes(self, x: Fraction | float) -> tuple[int, int, int | None]:
        """Return the target's code of x, via's code, and the target's code of that."""
        via_code = exact.encode(x, self.first.format, self.first)
        direct = exact.encode(x, self.last.format, self.last)
        is_nan = exact.category(via_code, self.first.format) == "nan"
        if is_nan and self.last.nans is None:
            return direct, via_code, None
        return direct, via_code, exact.convert(via_code, *self.formats[1:], self.last)

    def differs(self, x: Fraction | float) -> bool:
        direct, _, double = self.codes(x)
        target = self.last.format
        if direct == double:
            return False
        # Nothing more is left of a NaN's sign or payload to compare.
        return double is None or not (
            exact.category(direct, target) == exact.category(double, target) == "nan"
        )

    def result(self, x: Fraction | float) -> DoubleRounding:
        return DoubleRounding(
            x, *self.formats, self.last.rounding, self.first.rounding, *self.codes(x)
        )


def _candidates(chain: _Chain) -> Iterator[Fraction | float]:
    """Yield the source values that stand for all, those near 1 first."""
    inside = [(e, sign) for sign in (0, 1) for e in _binades(chain, sign)]
    for e, sign in sorted(inside, key=lambda pair: (abs(pair[0]), pair)):
        yield from _source_values(_steps(e, chain), sign, chain.source)
    for sign in (0, 1):
        yield from _source_values(_outside(sign, chain), sign, chain.source)
    source = chain.source
    if source.zero:
        yield Fraction(0)
    if source.has_negative_zero:
        yield -0.0
    if source.infinity:
        yield from (float("inf"), float("-inf"))[: 1 + source.signed]


def _binades(chain: _Chain, sign: int) -> Iterator[int]:
    """Yield one exponent of each kind of binade in which a value can differ."""
    low = max(fmt.min_positive for fmt in chain.formats)
    high = min(_largest(fmt, sign) for fmt in chain.formats)
    if high < low:
        return
    kinds = set()
    for e in sorted(range(exact.floor_log2(low), exact.floor_log2(high) + 1), key=abs):
        s, v, t = (_spacing_exponent(e, fmt) - e for fmt in chain.formats)
        kind = (s, v, t, min(high / Fraction(2) ** e, 2), e % 2)
        if s < v and kind not in kinds:
            kinds.add(kind)
            yield e


def _largest(fmt: Format, sign: int) -> Fraction:
    """Return the largest finite magnitude of a sign; 0 if it has none."""
    limit = rules(fmt).limit[sign]
    return fmt.magnitude(limit) if limit >= 0 else Fraction(0)


def _spacing_exponent(e: int, fmt: Format) -> int:
    return max(e, fmt.min_exponent) - fmt.fraction_bits


def _steps(e: int, chain: _Chain) -> Iterator[Fraction]:
    """Yield where the target steps in the first stretch of a binade, and what `via` cannot give."""
    start = Fraction(2) ** e
    s, _, t = (Fraction(2) ** _spacing_exponent(e, fmt) for fmt in chain.formats)
    yield start + max(s, t)
    for halves in range(5):
        yield start + halves * t / 2


def _outside(sign: int, chain: _Chain) -> Iterator[Fraction]:
    """Yield where `via` or the target step below their smallest and beyond their largest value."""
    for fmt in chain.formats[1:]:
        smallest, largest = fmt.min_positive, _largest(fmt, sign)
        top = exact.floor_log2(largest) if largest else fmt.min_exponent
        spacing = Fraction(2) ** _spacing_exponent(top, fmt)
        yield from (smallest / 2, smallest)
        yield from (largest, largest + spacing / 2, largest + spacing)
    yield from (chain.source.min_positive, _largest(chain.source, sign))


def _source_values(
    places: Iterator[Fraction], sign: int, source: Format
) -> Iterator[Fraction | float]:
    """Yield the source's nonzero values at each place and next to it."""
    limit = rules(source).limit[sign]
    downwards = rules(source, Rounding.TOWARD_ZERO)
    for place in places:
        below = exact.encode(place, source, downwards)  # of a positive value, so a magnitude
        for magnitude in (below, below + 1, below - 1):
            if int(source.zero) <= magnitude <= limit:
                yield (-1) ** sign * source.magnitude(magnitude)


def _simplified(x: Fraction | float, chain: _Chain) -> Fraction | float:
    """Return x with as few bits as a value has that differs too and is x rounded to them."""
    if isinstance(x, float):
        return x
    top = exact.floor_log2(abs(x))
    for bits in range(1, chain.source.precision):
        unit = Fraction(2) ** (top + 1 - bits)
        for n in (x // unit, -(-x // unit)):
            y = n * unit
            is_value = y and exact.decode(exact.encode(y, chain.source), chain.source) == y
            if is_value and chain.differs(y):
                return y
    return x
