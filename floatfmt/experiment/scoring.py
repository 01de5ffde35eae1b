"""Perplexity on a fixed text by sliding window, and how near a model is to the original."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ..backends import Float64
from .models import model_of
from .results import Estimate, Score

__all__ = ["Scorer", "Window", "estimate", "windows"]

#: Consecutive tokens whose mean is one observation: losses of neighbours are not independent.
BLOCK = 32
#: Windows that go through the model together.
BATCH_TOKENS = 2048
#: The original's distributions are kept up to here, and computed again where they take more.
KEPT_BYTES = 1 << 29


class Window(NamedTuple):
    """Tokens that the model sees at once.

    Attributes
    ----------
    start, stop : int
        Positions of the first and behind the last token that it is given.
    first : int
        Which of its predictions, of the token after each, is the first not scored before.
    """

    start: int
    stop: int
    first: int


def windows(tokens: int, length: int, stride: int) -> Iterator[Window]:
    """Yield windows over tokens so that all but the first are predicted, and scored, once.

    Parameters
    ----------
    tokens : int
        How many there are.
    length : int
        Tokens a window, less than `tokens`.
    stride : int
        By which windows advance: a token has ``length - stride`` before it at least, but at the
        start of the text.

    Examples
    --------
    >>> list(windows(12, 8, 4))
    [Window(start=0, stop=8, first=0), Window(start=3, stop=11, first=5)]
    """
    scored = 0
    last = tokens - 1 - length
    for start in [*range(0, last, stride), last]:
        yield Window(start, start + length, scored - start)
        scored = start + length


def estimate(observations: Float64) -> Estimate:
    """Return the mean over tokens and its standard error, by the method of batch means.

    The error is that of the mean of `BLOCK` consecutive tokens' means; nan for fewer than four of
    these.
    """
    whole = len(observations) // BLOCK
    if whole < 4:
        return Estimate(float(observations.mean()), math.nan)
    means = observations[: whole * BLOCK].reshape(whole, BLOCK).mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(whole)
    return Estimate(float(observations.mean()), float(error))


@dataclass(slots=True)
class _Observed:
    """What was seen at each scored token."""

    loss: list[Float64] = field(default_factory=list)
    kl: list[Float64] = field(default_factory=list)
    same: list[Float64] = field(default_factory=list)


class Scorer:
    """A fixed text, cut into windows, and the original's predictions of it.

    Parameters
    ----------
    tokens : sequence of int
        The text; the first token is only ever given, never predicted.
    original : torch.nn.Module or LanguageModel
        Whose distributions others are compared with.
    length : int
        Tokens a window, at most what the model takes.
    stride : int
        By which windows advance, 1 to `length`.

    Raises
    ------
    ValueError
        The text is shorter than one window, or the stride out of range.
    """

    def __init__(self, tokens: Any, original: Any, length: int, stride: int) -> None:
        if isinstance(tokens, str):
            raise TypeError("a scorer takes tokens: those of tokenizer.encode(text)")
        self.tokens = torch.as_tensor(tokens)
        if not 1 <= stride <= length:
            raise ValueError(f"the stride must be 1 to {length:,}, the window; got {stride:,}")
        if len(self.tokens) < length + 1:
            raise ValueError(
                f"the text has {len(self.tokens) - 1:,} tokens to predict, fewer than a window of"
                f" {length:,}: pass a longer text or a shorter window"
            )
        self.length, self.stride = length, stride
        self._original = model_of(original)
        self._windows = tuple(windows(len(self.tokens), length, stride))
        self._kept: dict[int, Any] = {}
        self._loss: Float64 | None = None

    @property
    def scored(self) -> int:
        """How many tokens are predicted."""
        return len(self.tokens) - 1

    def score(self, model: Any, progress: Callable[[int, int], object] | None = None) -> Score:
        """Return the score of a model, or of the original if it is that one.

        Parameters
        ----------
        model : torch.nn.Module or LanguageModel
            Takes ``input_ids`` and returns ``logits``.
        progress : function, optional
            Called with how many tokens are scored, and how many there are.
        """
        model = model_of(model)
        is_original = model is self._original
        if not is_original and self._loss is None:
            self.score(self._original)
        seen = _Observed()
        with torch.inference_mode():
            for number, group in enumerate(self._groups()):
                given = torch.stack([self.tokens[w.start : w.stop] for w in group])
                logits = self._logits(model, given)
                reference = self._reference(number, given, logits if is_original else None)
                for window, ours, theirs in zip(group, logits, reference, strict=True):
                    self._observe(window, ours, theirs, is_original, seen)
                if progress is not None:
                    progress(group[-1].stop, self.scored)
        loss = np.concatenate(seen.loss)
        perplexity = _exp(estimate(loss))
        if is_original:
            self._loss = loss
            return Score(len(loss), perplexity)
        assert self._loss is not None
        return Score(
            tokens=len(loss),
            perplexity=perplexity,
            ratio=_exp(estimate(loss - self._loss)),
            kl=estimate(np.concatenate(seen.kl)),
            top1=estimate(np.concatenate(seen.same)),
        )

    def run(self, model: Any, progress: Callable[[int, int], object] | None = None) -> None:
        """Put the text through a model and forget what comes out: for those that watch layers."""
        with torch.inference_mode():
            for group in self._groups():
                self._logits(model, torch.stack([self.tokens[w.start : w.stop] for w in group]))
                if progress is not None:
                    progress(group[-1].stop, self.scored)

    def _groups(self) -> Iterator[tuple[Window, ...]]:
        step = max(1, BATCH_TOKENS // self.length)
        for i in range(0, len(self._windows), step):
            yield self._windows[i : i + step]

    @staticmethod
    def _logits(model: Any, given: Any) -> Any:
        return model(input_ids=given, use_cache=False).logits.float()

    def _reference(self, number: int, given: Any, logits: Any) -> Any:
        """Return the original's logits for a group of windows, kept if there is room."""
        if number in self._kept:
            return self._kept[number]
        found = self._logits(self._original, given) if logits is None else logits
        if sum(part.nbytes for part in self._kept.values()) + found.nbytes <= KEPT_BYTES:
            self._kept[number] = found
        return found

    def _observe(
        self, window: Window, ours: Any, theirs: Any, is_original: bool, seen: _Observed
    ) -> None:
        """Add what a window says of the tokens that were not scored before."""
        targets = self.tokens[window.start + window.first + 1 : window.stop + 1, None]
        logits = ours[window.first :].double()
        log_p = torch.log_softmax(logits, dim=-1)
        seen.loss.append(-log_p.gather(1, targets)[:, 0].numpy())
        if is_original:
            return
        reference = theirs[window.first :].double()
        log_q = torch.log_softmax(reference, dim=-1)
        divergence = (log_q.exp() * (log_q - log_p)).sum(-1)
        seen.kl.append(divergence.numpy())
        same = logits.argmax(-1) == reference.argmax(-1)
        seen.same.append(same.double().numpy())


def _exp(mean: Estimate) -> Estimate:
    """Return exp of an estimate; its error to first order."""
    try:
        value = math.exp(mean.value)
    except OverflowError:
        value = math.inf
    return Estimate(value, value * mean.error)
