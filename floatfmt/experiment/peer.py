"""bitsandbytes' own LLM.int8() layers in the same model, beside ours."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

import torch

from ..quantization import absmax, quantize
from ..timing import interleaved
from .int8_layers import int8_layers, quantize_model
from .layers import linear_layers, replace_module
from .models import model_of
from .results import Peer
from .scoring import Scorer

__all__ = ["beside_bitsandbytes", "has_bitsandbytes"]

TIMING_BUDGET_S = 2.0


def has_bitsandbytes() -> bool:
    """Return whether bitsandbytes is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def beside_bitsandbytes(model: Any, scorer: Scorer, threshold: float) -> Peer:
    """Put bitsandbytes' LLM.int8() layers and ours in copies of a model, and compare the two.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        The original.
    scorer : Scorer
        Of the text.
    threshold : float
        Above 0: bitsandbytes takes 0 for none.
    """
    model = model_of(model)
    with _quiet(), torch.random.fork_rng(devices=[]):  # new layers are filled at random
        theirs = _with_their_layers(model, threshold)
        ours = quantize_model(copy.deepcopy(model), "llm_int8", threshold=threshold)
        score, our_score = scorer.score(theirs), scorer.score(ours)
        window = scorer.tokens[None, : scorer.length]
        timings = interleaved(
            {name: _pass(m, window) for name, m in (("theirs", theirs), ("ours", ours))},
            budget_s=TIMING_BUDGET_S,
        )
    total, differing, of_fp16, by_convention = _code_differences(model, theirs, ours)
    import bitsandbytes

    return Peer(
        name=f"bitsandbytes {bitsandbytes.__version__}",
        layers=len(int8_layers(ours)),
        codes=total,
        differing_codes=differing,
        score=score,
        ours=our_score,
        seconds=timings["theirs"].median_s,
        our_seconds=timings["ours"].median_s,
        differences=(
            f"{differing:,} of {total:,} codes are not ours: it rounds weights to fp16 first, which"
            f" leaves {of_fp16:,}, and multiplies by 127 / absmax, rounded to fp32, where we divide"
            f" by the scale, which leaves {by_convention:,}.",
            "It rounds activations and results to fp16; ours are rounded once, to fp32.",
            "It multiplies outlier columns, too, by weights that come from their int8 codes, where"
            " the paper has the original ones; so do ours, and llm_int8_original has the paper's.",
        ),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep it from telling at each call that it casts to fp16: the report does."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _with_their_layers(model: Any, threshold: float) -> Any:
    import bitsandbytes.nn

    library: Any = bitsandbytes.nn
    made = copy.deepcopy(model)
    for layer in list(linear_layers(made)):
        weight, bias = layer.weight, layer.module.bias
        outputs, inputs = weight.shape
        linear = library.Linear8bitLt(
            inputs, outputs, bias is not None, has_fp16_weights=False, threshold=threshold
        )
        if bias is not None:
            linear.bias = torch.nn.Parameter(bias.detach().clone(), False)
        linear.weight = library.Int8Params(
            weight.clone(memory_format=torch.contiguous_format), False, has_fp16_weights=False
        ).to("cpu")
        replace_module(made, layer.name, linear.eval())
    return made


def _pass(model: Any, window: Any) -> Any:
    def run() -> None:
        with torch.inference_mode():
            model(input_ids=window, use_cache=False)

    return run


def _code_differences(model: Any, theirs: Any, ours: Any) -> tuple[int, ...]:
    """Return how many codes there are, and how many of theirs are not ours, ours of fp16, its."""
    total = differing = of_fp16 = by_convention = 0
    modules = dict(theirs.named_modules())
    mine = int8_layers(ours)
    for layer in linear_layers(model):
        codes = modules[layer.name].weight.data
        total += codes.numel()
        differing += int((codes != mine[layer.name].codes).sum())
        half = layer.weight.half().contiguous()
        of_fp16 += int((codes != absmax(half, axis=0).codes).sum())
        by_convention += int((codes != quantize(half, convention="bitsandbytes").codes).sum())
    return total, differing, of_fp16, by_convention
