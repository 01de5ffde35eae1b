"""How many bytes a model takes, scheme by scheme, and the two figures published for GPT-2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .. import storage
from .int8_layers import LAYER_SCHEMES
from .layers import linear_layers
from .models import model_of
from .results import Footprint
from .variants import Scheme, scheme_tensors, schemes_of

__all__ = ["footprint", "gpt2_footprints", "stored_bytes"]

#: Blocks and context of GPT-2.
BLOCKS, CONTEXT = 12, 1024
#: transformers of 2023 kept a causal mask a block, a byte an entry, and a number for what is
#: masked: in the model's dtype, so of 4 or 2 bytes. Today's has neither.
MASK = CONTEXT * CONTEXT


def footprint(model: Any, schemes: Sequence[str | Scheme] | None = None) -> tuple[Footprint, ...]:
    """Return the bytes that a model takes in several forms, by counting, without making them.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        On any device: on torch's meta device it takes no memory.
    schemes : sequence of str, optional
        By default those of `run`.

    Returns
    -------
    tuple of Footprint
        "fp32" first. Parameters and buffers, scales and zero points included.

    Examples
    --------
    >>> from floatfmt.experiment import footprint, load_model
    >>> [(f.name, f.nbytes) for f in footprint(load_model().model, ["bf16", "int8_row"])]
    [('fp32', 7512576), ('bf16', 3756288), ('int8_row', 2231808)]
    """
    model = model_of(model)
    parameters = sum(p.numel() for p in model.parameters())
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    found = [Footprint("fp32", 4 * parameters + buffers, parameters)]
    found += [
        Footprint(row.name, stored_bytes(model, row), parameters) for row in schemes_of(schemes)
    ]
    return tuple(found)


def stored_bytes(model: Any, scheme: Scheme, bytes_each: int = 4) -> int:
    """Return the bytes of a model in a scheme; other parameters take `bytes_each`."""
    tensors = [tensor for _, tensor in scheme_tensors(model, scheme.parameters)]
    rest = sum(p.numel() for p in model.parameters()) - sum(t.numel() for t in tensors)
    total = bytes_each * rest + sum(buffer.nbytes for buffer in model.buffers())
    return total + sum(_bytes_of(tensor, scheme) for tensor in tensors)


def _bytes_of(tensor: Any, scheme: Scheme) -> int:
    if scheme.format is not None:
        return math.ceil(tensor.numel() * scheme.format.bits / 8)
    if not scheme.is_layers:
        parts = storage.layout(tuple(tensor.shape), "fp32", **scheme.options_for(tensor.ndim))
        return sum(part.nbytes for part in parts.values())
    outputs, kept = len(tensor), LAYER_SCHEMES[scheme.name].keeps_weights
    return tensor.numel() * (5 if kept else 1) + 4 * outputs


def gpt2_footprints() -> tuple[Footprint, ...]:
    """Return the two published footprints of GPT-2, counted from its shape on the meta device.

    Examples
    --------
    >>> from floatfmt.experiment import gpt2_footprints
    >>> [f.nbytes for f in gpt2_footprints()]
    [497759232, 510342192, 176527896]
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model: Any = GPT2LMHeadModel(GPT2Config())
    parameters = sum(p.numel() for p in model.parameters())
    int8 = sum(layer.weight.numel() for layer in linear_layers(model))
    now = "GPT-2 in fp32 as today's transformers counts it"
    masks = "with the mask buffers that transformers had in 2023"
    return (
        Footprint("GPT-2, fp32", 4 * parameters, parameters, now),
        Footprint(
            "GPT-2, fp32, as published",
            4 * parameters + BLOCKS * (MASK + 4),
            parameters,
            f"{masks}: {BLOCKS} × (1024² + 4) bytes",
        ),
        Footprint(
            "GPT-2, LLM.int8(), as published",
            int8 + 2 * (parameters - int8) + BLOCKS * (MASK + 2),
            parameters,
            f"a byte for each of {int8:,} Conv1D weights, two for each other parameter, scales not"
            f" counted, {masks}: {BLOCKS} × (1024² + 2) bytes",
        ),
    )
