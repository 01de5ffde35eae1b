"""Where a text differs from another, word by word."""

from __future__ import annotations

import difflib
import itertools
import re
from typing import NamedTuple

__all__ = ["Difference", "difference"]

_WORDS = re.compile(r"\s*\S+|\s+")
#: From so many words on, difflib's heuristic for words that are everywhere keeps the time short.
_LONG = 1000


class Difference(NamedTuple):
    """A text beside another.

    Attributes
    ----------
    parts : list of tuple
        The text in pieces, each with whether it differs.
    first : int or None
        Which word is the first that differs, from 1 on; None if none does.
    shared, words : int
        How many of its words the other has in the same order, of how many.
    """

    parts: list[tuple[str, bool]]
    first: int | None
    shared: int
    words: int


def difference(other: str, text: str) -> Difference:
    """Return where `text` differs from `other`, but for the spaces between words.

    Examples
    --------
    >>> difference("a red house", "a blue house").parts
    [('a', False), (' ', False), ('blue', True), (' house', False)]
    """
    spaced = _WORDS.findall(text)
    before, after = ([w.strip() for w in words] for words in (_WORDS.findall(other), spaced))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=len(after) > _LONG)
    same = [False] * len(after)
    for block in matcher.get_matching_blocks():
        same[block.b : block.b + block.size] = [True] * block.size
    pairs = zip(spaced, same, strict=True)
    parts = []
    for is_same, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        piece = "".join(word for word, _ in run)
        space = "" if is_same else piece[: len(piece) - len(piece.lstrip())]
        parts += [(space, False)] * bool(space) + [(piece[len(space) :], not is_same)]
    start = sum(
        1
        for _ in itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(before, after, strict=False)
        )
    )
    first = None if before == after else start + 1
    return Difference(parts, first, sum(same), len(after))
