"""Where a text differs from another, word by word."""

from __future__ import annotations

import difflib
import itertools
import re
from typing import NamedTuple

__all__ = ["Difference", "difference"]

_WORDS = re.compile(r"\s*\S+(?:\s+\Z)?|\s+")
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
    parts: list[tuple[str, bool]] = []
    for is_same, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        piece = "".join(word for word, _ in run)
        parts += [(piece, False)] if is_same else _marked(piece)
    pairs_in_place = zip(before, after, strict=False)
    start = next(
        (i for i, (a, b) in enumerate(pairs_in_place) if a != b), min(len(before), len(after))
    )
    first = None if before == after else start + 1
    shared = sum(same and word != "" for same, word in zip(same, after, strict=True))
    return Difference(parts, first, shared, len(after) - after.count(""))


def _marked(piece: str) -> list[tuple[str, bool]]:
    """Return a piece that differs, the spaces around it left out of that."""
    words = piece.strip()
    before, _, after = piece.partition(words) if words else (piece, "", "")
    return [part for part in ((before, False), (words, True), (after, False)) if part[0]]
