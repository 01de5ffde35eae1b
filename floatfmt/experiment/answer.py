"""The experiment's answer: which schemes keep the original's perplexity, and in how many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .results import Estimate, Variant

__all__ = ["LIMIT", "Answer", "answer", "verdict"]

#: A scheme keeps the perplexity if it changes it by no more than this share.
LIMIT = 0.005
#: How many standard errors an estimate has to be away from the limit to be told from it.
_ERRORS = 2


class Answer(NamedTuple):
    """The schemes by what became of the perplexity, in each group the smallest first."""

    original: Variant
    within: list[Variant]
    unclear: list[Variant]
    beyond: list[Variant]
    unscored: list[Variant]

    @property
    def schemes(self) -> int:
        """How many schemes there are, all told."""
        return len(self.within) + len(self.unclear) + len(self.beyond) + len(self.unscored)


def verdict(ratio: Estimate) -> str:
    """Return whether a perplexity by the original's is "within" the limit, "beyond" or "unclear".

    Examples
    --------
    >>> verdict(Estimate(1.001, 0.0002)), verdict(Estimate(1.0049, 0.0002))
    ('within', 'unclear')
    """
    distance = abs(ratio.value - 1)
    room = _ERRORS * ratio.error
    if distance + room <= LIMIT:
        return "within"
    return "unclear" if math.isfinite(distance) and not distance - room > LIMIT else "beyond"


def answer(variants: Sequence[Variant]) -> Answer | None:
    """Return the answer, or None while there is nothing to compare: no original, or no score."""
    original = next((v for v in variants if v.name == "original"), None)
    found: dict[str, list[Variant]] = {"within": [], "unclear": [], "beyond": [], "unscored": []}
    for variant in sorted(variants, key=lambda v: v.nbytes):
        ratio = variant.score.ratio if variant.score is not None else None
        if variant is not original:
            found["unscored" if ratio is None else verdict(ratio)].append(variant)
    is_compared = any(group for name, group in found.items() if name != "unscored")
    if original is None or original.score is None or not is_compared:
        return None
    return Answer(original, **found)
