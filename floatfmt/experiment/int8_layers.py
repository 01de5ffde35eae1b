"""Layers that store int8 codes and multiply them, in the place of a model's linear ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from .. import interop
from ..backends import current_backend
from ..elements import Scaling
from ..formats import format, nearest_names
from ..integer_product import INT32_COLUMNS
from ..quantize import absmax
from .layers import Layer, head_name, linear_layers, replace_module
from .products import int8_product

__all__ = [
    "LAYER_SCHEMES",
    "Int8Linear",
    "LayerScheme",
    "dequantize_model",
    "int8_layers",
    "quantize_model",
]

#: The threshold that LLM.int8() was published with.
THRESHOLD = 6.0
ROWS = Scaling(format("fp32"), 127.0, None, 0)


class LayerScheme(NamedTuple):
    """What an int8 layer does.

    Attributes
    ----------
    name : str
        As `quantize_model` takes it.
    about : str
        What it is, in a line.
    multiplies : bool
        Whether activations are quantised too, and codes multiplied.
    has_outliers : bool
        Whether columns with large activations stay out of int8.
    keeps_weights : bool
        Whether the original weights are kept beside the codes, for those columns.
    """

    name: str
    about: str
    multiplies: bool = True
    has_outliers: bool = False
    keeps_weights: bool = False


LAYER_SCHEMES = {
    row.name: row
    for row in (
        LayerScheme("int8_rowwise", "int8 weights by output, int8 activations by row"),
        LayerScheme("int8_weight_only", "int8 weights by output, activations as they are", False),
        LayerScheme("llm_int8", "int8_rowwise, but columns of outliers in fp32", has_outliers=True),
        LayerScheme(
            "llm_int8_original",
            "the same with the original weights for outliers, which takes as much memory again",
            has_outliers=True,
            keeps_weights=True,
        ),
    )
}


class Int8Linear(torch.nn.Module):
    """A linear layer with int8 weights; made by `quantize_model`.

    Attributes
    ----------
    codes : int8 tensor, (outputs, inputs)
        Of the weights: ``ff.absmax(weight, axis=0)``.
    scale : fp32 tensor, (outputs,)
        The value of code 1, for each output.
    bias : fp32 tensor, (outputs,), or None
        As it was.
    weight : fp32 tensor, (outputs, inputs), or None
        The original weights, if the scheme keeps them.
    scheme : LayerScheme
        What is done.
    threshold : float
        From which magnitude an activation is an outlier.

    Notes
    -----
    Of a row of activations, codes and scale are ``ff.absmax(x, axis=0)``'s; an outlier column
    counts as zero. The exact int32 product of codes becomes
    ``int32 * (x_scale * scale) + outliers + bias`` in float64, rounded once to fp32, and that to
    the dtype of the activations. `outliers` is the float64 product of the outlier columns and of
    their weights: the originals, or the values of their codes as fp32. NaN or Inf among
    activations is a ValueError. With "int8_weight_only", the values of all codes are multiplied in
    the activations' dtype.

    A column is one for all rows of a call: how a text is cut into calls has a say in its result.
    """

    bias: Any
    codes: Any
    scale: Any
    weight: Any

    def __init__(
        self, inputs: int, outputs: int, scheme: LayerScheme, threshold: float, is_conv1d: bool
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.scheme, self.threshold, self.is_conv1d = scheme, threshold, is_conv1d
        self.name = ""
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer(
            "weight", torch.zeros(outputs, inputs) if scheme.keeps_weights else None
        )
        #: How many columns of activations have been outliers, and how many there were.
        self.outlier_columns, self.seen_columns = 0, 0

    def extra_repr(self) -> str:
        """Return what is shown of the layer in the model's text."""
        return f"{self.inputs}, {self.outputs}, {self.scheme.name}"

    def values(self) -> Any:
        """Return what the codes stand for: fp32, (outputs, inputs)."""
        found = torch.empty(self.outputs, self.inputs)
        codes, out = self.codes.numpy(), found.numpy()
        shape = (1, *codes.shape)
        scale = self.scale.numpy().astype(np.float64)
        with current_backend().float_environment():
            current_backend().dequantize(
                codes.reshape(shape), scale, np.zeros_like(scale), out.reshape(shape)
            )
        return found

    def forward(self, x: Any) -> Any:
        """Return the layer's outputs for activations of shape (..., inputs)."""
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("int8 layers do not train: call the model in torch.inference_mode()")
        if not self.scheme.multiplies:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return torch.nn.functional.linear(x, self.values().to(x.dtype), bias)
        rows = x.detach().reshape(math.prod(x.shape[:-1]), self.inputs).float().contiguous()
        outliers = None
        if self.scheme.has_outliers:
            rows, outliers = self._without_outliers(rows)
        return self._product(rows, outliers).view(*x.shape[:-1], self.outputs).to(x.dtype)

    def _without_outliers(self, rows: Any) -> tuple[Any, Any]:
        """Return the rows with zeros for outliers, and what these contribute in float64."""
        if not len(rows):
            return rows, None
        columns = (rows.abs().amax(0) >= self.threshold).nonzero()[:, 0]
        self.outlier_columns += len(columns)
        self.seen_columns += self.inputs
        if not len(columns):
            return rows, None
        if self.weight is None:
            values = self.codes[:, columns].double() * self.scale.double()[:, None]
            weights = values.float()  # as `values`, which is rounded to fp32
        else:
            weights = self.weight[:, columns]
        product = rows[:, columns].double() @ weights.double().t()
        inner = rows.clone()
        inner[:, columns] = 0
        return inner, product.contiguous()

    def _product(self, rows: Any, outliers: Any) -> Any:
        given = rows.numpy()
        codes = np.empty(given.shape, np.int8)
        out = np.empty((len(given), self.outputs), np.float32)
        backend = current_backend()
        with backend.float_environment():
            scale, clamped = backend.quantize_absmax(
                given[np.newaxis], ROWS, 127, False, codes.view(np.uint8)[np.newaxis]
            )
            if clamped < 0:
                self._refuse(given)
            backend.dequantize_sums(
                int8_product(codes, self.codes.numpy()),
                scale,
                self.scale.numpy().astype(np.float64),
                None if outliers is None else outliers.numpy(),
                self._bias(),
                out,
            )
        return torch.from_numpy(out)

    def _bias(self) -> Any:
        if self.bias is None:
            return np.zeros(self.outputs)
        return self.bias.detach().numpy().astype(np.float64)

    def _refuse(self, rows: np.ndarray) -> None:
        position, value = interop.first_where(rows, lambda v: ~np.isfinite(v), "input")
        raise ValueError(f"{self.name or 'an int8 layer'}: {position} is {value}; int8 has no code")


def int8_layers(model: Any) -> dict[str, Int8Linear]:
    """Return the int8 layers of a model, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Int8Linear)}


def quantize_model(
    model: Any,
    scheme: str = "int8_rowwise",
    *,
    skip: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
) -> Any:
    """Replace a model's Linear and Conv1D layers by ones that store int8, in place.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, for inference: its parameters will not require gradients any more.
    scheme : str
        What the layers do:

        - "int8_rowwise": weights with a scale for each output, activations with one for each row,
          quantised when they come; multiplied in int8, added up exactly in int32;
        - "int8_weight_only": int8 weights, multiplied in floating point as they are used; saves
          memory, not time;
        - "llm_int8": as the first, but columns of activations with a magnitude of the threshold or
          more are multiplied in floating point, by what their weights' codes stand for;
        - "llm_int8_original": the same, by their original weights, as the paper has it; which
          columns they are depends on the activations, so that all weights are kept besides.
    skip : sequence of str, optional
        Patterns of layers to leave as they are, such as "lm_head" or "*.attn.*"; by default the
        head, which makes logits. An empty sequence quantises the head too: if its weights are also
        the embedding's, that keeps them in floating point, and the two are tied no more.
    threshold : float
        Of LLM.int8(); the paper's 6 by default. A column is one from ``abs(x) >= threshold`` on.

    Returns
    -------
    torch.nn.Module
        The model itself.

    Raises
    ------
    ValueError
        The scheme is unknown, the threshold negative or NaN, no layer is left to quantise, a weight
        is NaN or Inf, or a layer has more inputs than int32 sums hold.
    TypeError
        The model is not on the CPU, or is no model.

    Examples
    --------
    >>> import torch
    >>> from floatfmt.experiment import quantize_model
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    >>> quantize_model(model)
    Sequential(
      (0): Int8Linear(4, 3, int8_rowwise)
    )
    >>> model[0].codes.dtype, sum(t.nbytes for t in model.state_dict().values())
    (torch.int8, 36)
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {interop.describe(model)}")
    row = _scheme(scheme)
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, up to inf, got {threshold}")
    layers = list(linear_layers(model, skip))
    if not layers:
        has_int8 = " (it has been quantised before)" if int8_layers(model) else ""
        raise ValueError(f"no Linear or Conv1D is left to quantise in this model{has_int8}")
    for layer in layers:
        _check(layer)
    head = head_name(model)
    for layer in layers:
        replace_module(model, layer.name, _quantized(layer, row, float(threshold)))
        if layer.name == head and hasattr(model.config, "tie_word_embeddings"):
            model.config.tie_word_embeddings = False
    return model.requires_grad_(False)


def _scheme(name: str) -> LayerScheme:
    if name not in LAYER_SCHEMES:
        near = nearest_names(str(name), LAYER_SCHEMES)
        raise ValueError(
            f"no int8 layer is called {name!r}; {near}known: {', '.join(LAYER_SCHEMES)}"
        )
    return LAYER_SCHEMES[name]


def _check(layer: Layer) -> None:
    weight = layer.module.weight
    if weight.device.type != "cpu":
        raise TypeError(f"{layer.name} is on {weight.device}; int8 layers run on the CPU")
    inputs = layer.weight.shape[1]
    if inputs > INT32_COLUMNS:
        raise ValueError(
            f"{layer.name} has {inputs:,} inputs; int32 holds the sums of {INT32_COLUMNS:,}"
        )
    if not torch.isfinite(weight).all():
        values = interop.to_numpy(weight.detach().float())
        position, value = interop.first_where(
            values, lambda v: ~np.isfinite(v), f"{layer.name}.weight"
        )
        raise ValueError(f"{position} is {value}; weights have to be finite")


def _quantized(layer: Layer, scheme: LayerScheme, threshold: float) -> Int8Linear:
    outputs, inputs = layer.weight.shape
    made = Int8Linear(inputs, outputs, scheme, threshold, layer.is_transposed)
    made.name = layer.name
    q = absmax(layer.weight.float(), axis=0)
    made.codes, made.scale = q.codes.contiguous(), q.scale.reshape(-1)
    if scheme.keeps_weights:
        made.weight = layer.weight.float().contiguous()
    bias = layer.module.bias
    made.bias = None if bias is None else torch.nn.Parameter(bias.detach().float(), False)
    return made.train(layer.module.training)


def dequantize_model(model: Any) -> Any:
    """Turn a model's int8 layers back into Linear and Conv1D, in place.

    Their weights are what the codes stand for, in fp32; a head that was tied to the embedding stays
    a layer of its own.

    Parameters
    ----------
    model : torch.nn.Module
        As `quantize_model` left it.

    Returns
    -------
    torch.nn.Module
        The model itself.

    Raises
    ------
    ValueError
        There are no int8 layers.

    Examples
    --------
    >>> import torch
    >>> from floatfmt.experiment import dequantize_model, quantize_model
    >>> dequantize_model(quantize_model(torch.nn.Sequential(torch.nn.Linear(4, 3))))
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
    )
    """
    layers = int8_layers(model)
    if not layers:
        raise ValueError("this model has no int8 layers, as quantize_model makes them")
    for name, layer in layers.items():
        replace_module(model, name, _floating(layer))
    return model


def _floating(layer: Int8Linear) -> Any:
    values = layer.values()
    new_conv1d: Any = Conv1D
    with torch.device("meta"):  # no memory is filled with what is replaced at once
        made = (
            new_conv1d(layer.outputs, layer.inputs)
            if layer.is_conv1d
            else torch.nn.Linear(layer.inputs, layer.outputs, layer.bias is not None)
        )
    weight = values.t().contiguous() if layer.is_conv1d else values
    made.weight = torch.nn.Parameter(weight, False)
    if layer.bias is not None:
        made.bias = torch.nn.Parameter(layer.bias.detach().clone(), False)
    return made.train(layer.training)
