"""Layers that store int8 codes and multiply them, in the place of a model's linear ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from .. import interop
from ..backends import current_backend
from ..elements import Scaling
from ..formats import format, nearest_names
from ..integer_product import INT32_COLUMNS
from ..quantization import absmax
from .layers import Layer, head_name, linear_layers, replace_module
from .models import model_of
from .products import Layer8, int8_linear

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
        self.register_buffer("scale", torch.ones(outputs, dtype=torch.float32))
        kept = torch.zeros(outputs, inputs, dtype=torch.float32) if scheme.keeps_weights else None
        self.register_buffer("weight", kept)
        #: Of the weights before, and again after `dequantize_model`.
        self.dtype = torch.float32
        #: How many columns of activations have been outliers, and how many there were.
        self.outlier_columns, self.seen_columns = 0, 0

    def extra_repr(self) -> str:
        """Return what is shown of the layer in the model's text."""
        return f"{self.inputs}, {self.outputs}, {self.scheme.name}"

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Do what ``to`` and the like ask for, but that scales and biases stay fp32."""

        def apply(tensor: Any) -> Any:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        whole: Any = super()
        return whole._apply(apply, recurse)

    def values(self) -> Any:
        """Return what the codes stand for: fp32, (outputs, inputs)."""
        found = torch.empty(self.outputs, self.inputs, dtype=torch.float32)
        codes, out = self.codes.numpy(), found.numpy()
        shape = (1, *codes.shape)
        with current_backend().float_environment():
            scale = self.scale.numpy().astype(np.float64)
            current_backend().dequantize(
                codes.reshape(shape), scale, np.zeros_like(scale), out.reshape(shape)
            )
        return found

    def forward(self, x: Any) -> Any:
        """Return the layer's outputs for activations of shape (..., inputs)."""
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("int8 layers do not train: call the model in torch.inference_mode()")
        shape = tuple(x.shape)
        if not shape or shape[-1] != self.inputs:
            raise ValueError(
                f"{self.name or 'an int8 layer'} takes {self.inputs:,} columns, got shape {shape}"
            )
        if not self.scheme.multiplies:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return torch.nn.functional.linear(x, self.values().to(x.dtype), bias)
        given = x.detach().reshape(math.prod(shape[:-1]), self.inputs).float().contiguous()
        rows, outliers = given.numpy(), None
        with current_backend().float_environment():
            if self.scheme.has_outliers:
                rows, outliers = self._without_outliers(given, x)
            out = self._product(rows, outliers, x)
        made = torch.from_numpy(out.reshape(*shape[:-1], self.outputs))
        return made if made.dtype == x.dtype else made.to(x.dtype)

    def _without_outliers(self, rows: Any, x: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows with zeros for outliers, and what these contribute in float64."""
        if not len(rows):
            return rows.numpy(), None
        largest = rows.abs().amax(0)
        if not torch.isfinite(largest).all():
            self._refuse(x)
        columns = (largest >= self.threshold).nonzero()[:, 0]
        self.outlier_columns += len(columns)
        self.seen_columns += self.inputs
        if not len(columns):
            return rows.numpy(), None
        if self.weight is None:
            values = self.codes[:, columns].double() * self.scale.double()[:, None]
            weights = values.float()  # as `values`, which is rounded to fp32
        else:
            weights = self.weight[:, columns]
        product = rows[:, columns].double() @ weights.double().t()
        inner = rows.clone()
        inner[:, columns] = 0
        return inner.numpy(), product.contiguous().numpy()

    def _product(self, rows: np.ndarray, outliers: np.ndarray | None, x: Any) -> np.ndarray:
        codes = np.empty(rows.shape, np.int8)
        scale, clamped = current_backend().quantize_absmax(
            rows[np.newaxis], ROWS, 127, False, codes.view(np.uint8)[np.newaxis]
        )
        if clamped < 0:
            self._refuse(x)
        # `self.codes` and the like are looked for in three places, which takes microseconds.
        tensors: Any = self._buffers
        bias = self._parameters.get("bias")
        layer = Layer8(
            tensors["codes"].numpy(),
            tensors["scale"].numpy(),
            None if bias is None else bias.detach().numpy(),
        )
        out = np.empty((len(rows), self.outputs), np.float32)
        int8_linear(codes, scale, outliers, layer, out)
        return out

    def _refuse(self, x: Any) -> None:
        """Say which of the activations, which were made fp32, has no code."""
        with np.errstate(over="ignore"):
            position, value = interop.first_where(
                x.detach().double().numpy(), lambda v: ~np.isfinite(v.astype(np.float32)), "input"
            )
        why = "that is beyond fp32" if math.isfinite(value) else "int8 has no code"
        raise ValueError(f"{self.name or 'an int8 layer'}: {position} is {value}; {why}")


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
    model : torch.nn.Module or LanguageModel
        On the CPU, for inference: its parameters will not require gradients any more. What has its
        weights elsewhere than in Linear and Conv1D, as experts in one tensor, keeps them.
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
        The model itself. It is kept by its ``state_dict``, which goes into the original once that
        has been quantised likewise; ``from_pretrained`` does not know these layers.

    Raises
    ------
    ValueError
        The scheme is unknown, the threshold negative or NaN, a pattern matches no layer, none is
        left to quantise, a weight is NaN or Inf, or a layer has more inputs than int32 sums hold.
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
    model = _module(model)
    row = _scheme(scheme)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise TypeError(f"threshold must be a number, got {threshold!r}")
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, up to inf, got {threshold}")
    _check_patterns(model, skip)
    layers = list(linear_layers(model, skip))
    if not layers:
        raise ValueError(f"no Linear or Conv1D is left to quantise in this model{_reason(model)}")
    for layer in layers:
        _check(layer)
    head = head_name(model)
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):  # one may have several
        names.setdefault(id(module), []).append(name)
    for layer in layers:
        made = _quantized(layer, row, float(threshold))
        for name in names[id(layer.module)]:
            replace_module(model, name, made)
        if layer.name == head and hasattr(model.config, "tie_word_embeddings"):
            model.config.tie_word_embeddings = False
    return model.requires_grad_(False)


def _module(model: Any) -> Any:
    found = model_of(model)
    if not isinstance(found, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {interop.describe(model)}")
    if type(found) in (torch.nn.Linear, Conv1D):
        raise ValueError("the model is a single layer: put it into a torch.nn.Sequential")
    return found


def _check_patterns(model: Any, skip: Sequence[str] | None) -> None:
    if isinstance(skip, str):
        raise TypeError(f"skip must be a sequence of patterns, got {skip!r}: pass [{skip!r}]")
    names = [layer.name for layer in linear_layers(model, ())]
    for pattern in skip or ():
        if names and not any(fnmatchcase(name, pattern) for name in names):
            near = nearest_names(pattern, names)
            raise ValueError(f"skip: no layer is called {pattern!r}; {near}e.g. {names[0]!r}")


def _reason(model: Any) -> str:
    """Return why there may be no layer, in brackets, or ""."""
    if int8_layers(model):
        return " (it has been quantised before)"
    linear = (torch.nn.Linear, Conv1D)
    kinds = sorted({type(m).__name__ for m in model.modules() if isinstance(m, linear)})
    others = [kind for kind in kinds if kind not in ("Linear", "Conv1D")]
    return f" (its layers are {', '.join(others)}, which may do more)" if others else ""


def _scheme(name: str) -> LayerScheme:
    if not isinstance(name, str) or name not in LAYER_SCHEMES:
        near = nearest_names(str(name), LAYER_SCHEMES)
        raise ValueError(
            f"no int8 layer is called {name!r}; {near}known: {', '.join(LAYER_SCHEMES)};"
            " values alone are put into formats and schemes by simulate"
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
    made.name, made.dtype = layer.name, layer.module.weight.dtype
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
    model = _module(model)
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
    made.weight = torch.nn.Parameter(weight.to(layer.dtype), False)
    if layer.bias is not None:
        made.bias = torch.nn.Parameter(layer.bias.detach().to(layer.dtype, copy=True), False)
    return made.train(layer.training)
