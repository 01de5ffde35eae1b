"""The linear layers of a model, and what stands in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

__all__ = ["Layer", "head_name", "linear_layers", "replace_module"]


class Layer(NamedTuple):
    """A Linear or Conv1D of a model.

    Attributes
    ----------
    name : str
        As the model's ``named_modules`` has it.
    module : torch.nn.Module
        It itself.
    is_transposed : bool
        Whether its weight is stored as (inputs, outputs), as Conv1D's is.
    """

    name: str
    module: Any
    is_transposed: bool

    @property
    def weight(self) -> Any:
        """The weight as (outputs, inputs), a view."""
        weight = self.module.weight.detach()
        return weight.t() if self.is_transposed else weight


def linear_layers(model: Any, skip: Sequence[str] | None = None) -> Iterator[Layer]:
    """Yield a model's Linear and Conv1D layers, in its own order.

    Parameters
    ----------
    model : torch.nn.Module
        Any.
    skip : sequence of str, optional
        Patterns of names to leave out, such as "lm_head" or "*.attn.*"; by default the head.
    """
    patterns = [head_name(model)] if skip is None else skip
    for name, module in model.named_modules():
        # Exact types: a subclass may do more than a product.
        if type(module) not in (torch.nn.Linear, Conv1D):
            continue
        if not any(pattern and fnmatchcase(name, pattern) for pattern in patterns):
            yield Layer(name, module, type(module) is Conv1D)


def head_name(model: Any) -> str:
    """Return the name of the layer that makes logits, "" where a model has none."""
    get = getattr(model, "get_output_embeddings", None)
    head = None if get is None else get()
    return next((name for name, module in model.named_modules() if module is head), "")


def replace_module(model: Any, name: str, module: Any) -> None:
    """Put a module in the place of the one of that name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
