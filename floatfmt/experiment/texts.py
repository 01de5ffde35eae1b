"""What a model makes of a prompt, greedily and by sampling."""

from __future__ import annotations

import math
from typing import Any

import torch

from .models import LanguageModel, model_of, quiet
from .results import Text

__all__ = ["check_prompt", "generate_texts"]

#: As the article samples.
TOP_K = 30
#: Parameters below which a token's work is less than waiting for a second thread.
SMALL = 20_000_000


def check_prompt(prompt: str, language_model: LanguageModel) -> list[int]:
    """Return a prompt's tokens.

    Raises
    ------
    ValueError
        There are none, or no token fits behind them.
    """
    tokens = language_model.tokenizer.encode(prompt)
    if not tokens:
        raise ValueError("the prompt is empty: pass some words that the model is to go on from")
    if len(tokens) >= language_model.context:
        raise ValueError(
            f"the prompt has {len(tokens):,} tokens, and the model takes {language_model.context:,}"
            " with what it adds: pass a shorter one"
        )
    return tokens


def generate_texts(
    language_model: LanguageModel,
    prompt: str,
    *,
    model: Any = None,
    new_tokens: int = 40,
    seed: int = 0,
) -> tuple[Text, ...]:
    """Let a model go on from a prompt, greedily and by sampling from the 30 likeliest tokens.

    Each text is by itself: sampling starts from the seed, whatever was sampled before.

    Parameters
    ----------
    language_model : LanguageModel
        Whose tokenizer and context count.
    prompt : str
        What to go on from.
    model : torch.nn.Module, optional
        The model to use instead, such as a quantised copy.
    new_tokens : int
        At most how many tokens are added; fewer where the context ends or the model ends the text.
    seed : int
        Of ``torch.manual_seed``.

    Returns
    -------
    tuple of Text
        The greedy one and the sampled one.

    Raises
    ------
    ValueError
        The prompt is empty, or as long as the context.

    Examples
    --------
    >>> from floatfmt.experiment import generate_texts, load_model
    >>> texts = generate_texts(load_model(), "The following ", new_tokens=8)
    >>> [text.how for text in texts]
    ['greedy', 'sampled']
    """
    if not isinstance(language_model, LanguageModel):
        raise TypeError("generate_texts takes a LanguageModel, as load_model returns, and model=")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be -2^63 to 2^64 - 1, got {seed}")
    used = language_model.model if model is None else model_of(model)
    tokens = torch.tensor([check_prompt(prompt, language_model)])
    room = min(new_tokens, language_model.context - tokens.shape[1])
    return tuple(
        _text(how, used, tokens, room, seed, prompt, language_model)
        for how in ("greedy", "sampled")
    )


def _text(
    how: str,
    model: Any,
    tokens: Any,
    room: int,
    seed: int,
    prompt: str,
    language_model: LanguageModel,
) -> Text:
    chosen: dict[str, Any] = {"do_sample": False}
    if how == "sampled":
        chosen = {"do_sample": True, "top_k": TOP_K}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        torch.manual_seed(seed)
        if sum(p.numel() for p in model.parameters()) < SMALL:
            torch.set_num_threads(1)
        with torch.inference_mode(), quiet():
            found = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=room,
                pad_token_id=0,
                **chosen,
            )
            loss = float(model(input_ids=found, labels=found).loss)
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)
    added = found[0, tokens.shape[1] :].tolist()
    return Text(
        how=how,
        prompt=prompt,
        continuation=language_model.tokenizer.decode(added),
        perplexity=math.exp(loss) if loss < 700 else math.inf,
    )
