"""A model in a scheme: its weights' values replaced by what their codes stand for, or its layers.

A name is one of `int8_layers.LAYER_SCHEMES`, whose layers store and multiply int8; or what
``ff.compare`` takes, a float format or a quantisation scheme, which is put into the weights.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import interop
from ..arrays import decode, encode
from ..comparison_rows import FloatRow, QuantizedRow, rows_of
from ..formats import Format
from ..metrics import Error, error
from ..quantization import quantize
from ..quantized import Quantized
from ..schemes import find
from .int8_layers import LAYER_SCHEMES, int8_layers, quantize_model
from .layers import linear_layers
from .models import model_of

__all__ = [
    "DEFAULT_SCHEMES",
    "Coded",
    "Scheme",
    "coded",
    "copy_in_scheme",
    "scheme_of",
    "scheme_tensors",
    "schemes_of",
    "simulate",
]

DEFAULT_SCHEMES = (
    *("bf16", "fp16", "fp8_e4m3fn", "int8_absmax", "int8_zeropoint", "int8_row", "nf4", "mxfp4"),
    *("int8_rowwise", "llm_int8"),
)
PARAMETERS = ("all", "linear")


class Scheme(NamedTuple):
    """What a name stands for.

    Attributes
    ----------
    name : str
        As it was given.
    format : Format or None
        That values are cast to.
    options : dict or None
        Of ``ff.quantize``. With neither, layers store int8.
    parameters : str
        "all", or "linear": the weights of the linear layers but the head.
    """

    name: str
    format: Format | None
    options: dict[str, Any] | None
    parameters: str

    def options_for(self, ndim: int) -> dict[str, Any]:
        """Return the options of ``ff.quantize`` for a tensor; a vector has one scale."""
        options = dict(self.options or {})
        return options | ({"axis": ()} if "axis" in options and ndim < 2 else {})

    @property
    def is_layers(self) -> bool:
        """Whether it is a scheme of layers that store int8."""
        return self.name in LAYER_SCHEMES

    @property
    def about(self) -> str:
        """What is done to what, in a line."""
        if self.is_layers:
            return f"layers that store int8: {LAYER_SCHEMES[self.name].about}"
        how = "cast" if self.format is not None else "quantised"
        which = "every parameter" if self.parameters == "all" else "the linear layers' weights"
        return f"{which} {how}, values back in fp32"


def scheme_of(name: str, parameters: str | None = None) -> Scheme:
    """Return what a name stands for.

    Parameters
    ----------
    name : str
        As `simulate` and `int8_layers.quantize_model` take it.
    parameters : {None, "all", "linear"}
        Which parameters; None is all for casts and for one scale a tensor, as in the article, and
        the linear layers but the head for scales by row or block, as libraries have it.

    Raises
    ------
    ValueError
        There is no such scheme.
    """
    if not name.strip():
        raise ValueError("a scheme's name is empty: 'floatfmt compare --help' lists them")
    if parameters not in (None, *PARAMETERS):
        raise ValueError(f"parameters must be 'all' or 'linear', got {parameters!r}")
    if name in LAYER_SCHEMES:
        if parameters == "all":
            raise ValueError(f"{name} is for linear layers: parameters='all' cannot be had")
        return Scheme(name, None, None, "linear")
    if name == "original":
        raise ValueError("'original' is the model as it came, and is always there")
    try:
        row = rows_of(name)[0]
    except ValueError as exc:
        raise ValueError(f"{exc}; and layers that store int8: {', '.join(LAYER_SCHEMES)}") from None
    if isinstance(row, QuantizedRow):
        options = dict(row.options)
        return Scheme(name, None, options, parameters or _usual_parameters(options))
    assert isinstance(row, FloatRow)
    return Scheme(name, row.format, None, parameters or "all")


def _usual_parameters(options: dict[str, Any]) -> str:
    has_many_scales = {"axis", "block"} & options.keys() or find(options["scheme"]).block
    return "linear" if has_many_scales else "all"


# --- one tensor ---------------------------------------------------------------------------------


class Coded(NamedTuple):
    """A tensor in a scheme.

    Attributes
    ----------
    values : array
        What the codes stand for, in the tensor's kind, dtype and shape.
    codes : array
        The codes.
    quantized : Quantized or None
        The scales too, where there are any.
    """

    values: Any
    codes: Any
    quantized: Quantized | None = None


def coded(tensor: Any, scheme: Scheme, name: str = "the tensor") -> Coded:
    """Put a tensor into a format or a scheme.

    Raises
    ------
    ValueError
        A finite value becomes Inf or NaN, or the scheme does not apply to the tensor; the message
        names it.
    """
    if scheme.format is not None:
        codes = encode(tensor, scheme.format)
        values = interop.like(
            np.asarray(interop.to_numpy(decode(codes, scheme.format)), np.float32), tensor
        )
        array = interop.to_numpy(values)
        if not np.isfinite(array).all():
            position, value = interop.first_where(array, lambda v: ~np.isfinite(v), name)
            raise ValueError(f"{position} becomes {value} in {scheme.name}, which ends before it")
        return Coded(values, codes)
    try:
        q = quantize(tensor, **scheme.options_for(tensor.ndim))
    except (ValueError, TypeError) as exc:
        raise ValueError(f"{scheme.name} does not apply to {name}: {exc}") from None
    return Coded(q.dequantize(), q.codes, q)


# --- a model ------------------------------------------------------------------------------------


def simulate(model: Any, scheme: str | Scheme, *, parameters: str | None = None) -> Error:
    """Replace a model's weights by what they are in a scheme, in place.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        In fp32.
    scheme : str
        A float format, or a quantisation scheme as ``ff.compare`` takes it. Blocks and rows are
        those of the weight as (outputs, inputs), whichever way it is stored.
    parameters : {None, "all", "linear"}
        Which parameters; None is all for casts and for one scale a tensor, as in the article, and
        the linear layers but the head for scales by row or block, as libraries have it.

    Returns
    -------
    Error
        Of all replaced parameters together.

    Raises
    ------
    ValueError
        The scheme is unknown, or does not apply to a parameter.

    Examples
    --------
    >>> from floatfmt.experiment import load_model, simulate
    >>> found = simulate(load_model().model, "int8_row")
    >>> found.count, round(found.sqnr_db)
    (1769472, 42)
    """
    model = model_of(model)
    row = scheme_of(scheme, parameters) if isinstance(scheme, str) else scheme
    if row.is_layers:
        raise ValueError(f"{row.name} is made of layers that store int8: call quantize_model")
    total = None
    for name, tensor in scheme_tensors(model, row.parameters):
        if not tensor.numel():
            continue
        found = coded(tensor, row, name)
        here = error(tensor, found.values)
        total = here if total is None else total.merge(here)
        tensor.copy_(found.values)
    if total is None:
        raise ValueError(f"there is nothing to put into {row.name}: the model has no such weights")
    return total


def scheme_tensors(model: Any, parameters: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors that a scheme is for, by name, matrices as (outputs, inputs)."""
    if parameters == "all":
        for name, parameter in model.named_parameters():  # tied ones once
            yield name, parameter.detach()
        return
    for layer in linear_layers(model):
        yield f"{layer.name}.weight", layer.weight


def copy_in_scheme(model: Any, scheme: Scheme, *, threshold: float) -> tuple[Any, Error]:
    """Return a copy of a model in a scheme, and the error of the weights that it is for."""
    made = copy.deepcopy(model)
    if not scheme.is_layers:
        return made, simulate(made, scheme)
    quantize_model(made, scheme.name, threshold=threshold)
    return made, layers_error(model, made)


def layers_error(original: Any, made: Any) -> Error:
    """Return the error of the weights of int8 layers, all together."""
    before = {layer.name: layer.weight for layer in linear_layers(original, skip=())}
    found = [error(before[name], layer.values()) for name, layer in int8_layers(made).items()]
    return functools.reduce(Error.merge, found)


def schemes_of(
    names: Sequence[str | Scheme] | None, parameters: str | None = None
) -> tuple[Scheme, ...]:
    """Return what names stand for, each once, before anything slow is done."""
    if names is None:  # those of layers are for linear ones, whatever the others are for
        return tuple(
            scheme_of(name, None if name in LAYER_SCHEMES else parameters)
            for name in DEFAULT_SCHEMES
        )
    if isinstance(names, str):
        raise TypeError(f"schemes must be a sequence of names, got {names!r}: pass [{names!r}]")
    found = [n if isinstance(n, Scheme) else scheme_of(n, parameters) for n in names]
    return tuple({scheme.name: scheme for scheme in found}.values())
