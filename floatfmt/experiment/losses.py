"""Where the loss comes from: layer by layer, by outliers among activations, by threshold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..metrics import error
from .int8_layers import LAYER_SCHEMES, THRESHOLD, int8_layers, quantize_model
from .layers import linear_layers
from .models import model_of
from .results import (
    ActivationOutliers,
    LayerOutliers,
    LayerSensitivity,
    Sensitivity,
    SweepRow,
    ThresholdSweepOfModel,
)
from .scoring import Scorer
from .variants import coded, scheme_of

__all__ = [
    "THRESHOLDS",
    "activation_outliers",
    "check_sensitivity",
    "layer_sensitivity",
    "threshold_sweep",
]

#: Columns that are named of each layer.
NAMED_COLUMNS = 16
#: What LLM.int8() is tried with.
THRESHOLDS = (math.inf, 12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0)

#: Called with how much is done, and how much there is.
Progress = Callable[[int, int], object]


def check_sensitivity(scheme: str) -> None:
    """Raise a ValueError unless single matrices can be put into a scheme."""
    if scheme in LAYER_SCHEMES:
        raise ValueError(
            f"{scheme} is one of layers, not of single matrices: pass a format or a scheme, such as"
            " 'int8_row' or 'nf4'"
        )
    scheme_of(scheme, "all")


def layer_sensitivity(
    model: Any, scorer: Scorer, scheme: str = "nf4", progress: Progress | None = None
) -> Sensitivity:
    """Quantise one layer at a time, and score the model each time.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        The original; it is put back as it was.
    scorer : Scorer
        Of the text.
    scheme : str
        A float format or quantisation scheme, as ``ff.compare`` takes it, for the matrices of the
        model: linear layers, embeddings and the head.
    progress : function, optional
        Called with how many layers are done, and how many there are.

    Returns
    -------
    Sensitivity
        The layers by the divergence from the original that they cause, the largest first.
    """
    check_sensitivity(scheme)
    row, model = scheme_of(scheme, "all"), model_of(model)
    matrices = list(_matrices(model))
    changed = copy.deepcopy(model)
    tensors = dict(_matrices(changed))
    found = []
    for number, (name, original) in enumerate(matrices):
        values = coded(original, row, name).values
        tensors[name].copy_(values)
        found.append(
            LayerSensitivity(
                layer=name,
                parameters=original.numel(),
                sqnr_db=error(original, values).sqnr_db,
                score=scorer.score(changed),
            )
        )
        tensors[name].copy_(original)
        if progress is not None:
            progress(number + 1, len(matrices))
    worst_first = sorted(found, key=lambda row: -_value(row.score.kl))
    return Sensitivity(scheme, scorer.scored, tuple(worst_first))


def _value(estimate: Any) -> float:
    return math.inf if math.isnan(estimate.value) else estimate.value


def _matrices(model: Any) -> Any:
    """Yield a model's matrices by name: those of linear layers as (outputs, inputs)."""
    linear = {id(layer.module.weight): layer for layer in linear_layers(model, skip=())}
    for name, parameter in model.named_parameters():  # tied ones once
        if id(parameter) in linear:
            yield name, linear[id(parameter)].weight
        elif parameter.ndim >= 2:
            yield name, parameter.detach()


def activation_outliers(
    model: Any,
    scorer: Scorer,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
) -> ActivationOutliers:
    """Look at the inputs of every linear layer but the head, over the scorer's text.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        The original.
    scorer : Scorer
        Of the text.
    threshold : float
        From which magnitude a value is an outlier.
    progress : function, optional
        As `Scorer.score` has it.

    Returns
    -------
    ActivationOutliers
        A row for each layer, in the model's order.
    """
    model = model_of(model)
    watched = {layer.name: _Watch(threshold) for layer in linear_layers(model)}
    hooks = [
        layer.module.register_forward_pre_hook(watched[layer.name])
        for layer in linear_layers(model)
    ]
    try:
        scorer.run(model, progress)
    finally:
        for hook in hooks:
            hook.remove()
    rows = tuple(watch.row(name) for name, watch in watched.items())
    return ActivationOutliers(threshold, scorer.scored, rows)


class _Watch:
    """What is known of the inputs of a layer; a hook that torch calls before it."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.largest: Any = None
        self.outliers, self.values, self.squares = 0, 0, 0.0

    def __call__(self, module: Any, given: tuple[Any, ...]) -> None:
        x = given[0].detach().reshape(-1, given[0].shape[-1])
        largest = x.abs().amax(0)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        self.outliers += int((x.abs() >= self.threshold).sum())
        self.values += x.numel()
        self.squares += float((x.double() ** 2).sum())

    def row(self, name: str) -> LayerOutliers:
        order = self.largest.argsort(descending=True).tolist()
        beyond = [column for column in order if self.largest[column] >= self.threshold]
        return LayerOutliers(
            layer=name,
            columns=len(order),
            outlier_columns=tuple(beyond[:NAMED_COLUMNS]),
            outlier_count=len(beyond),
            outlier_share=self.outliers / self.values,
            largest=float(self.largest.max()),
            rms=math.sqrt(self.squares / self.values),
        )


def threshold_sweep(
    model: Any,
    scorer: Scorer,
    thresholds: Sequence[float] = THRESHOLDS,
    progress: Progress | None = None,
) -> ThresholdSweepOfModel:
    """Score LLM.int8() with several thresholds.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        The original.
    scorer : Scorer
        Of the text.
    thresholds : sequence of float
        From inf, which keeps no column out of int8, to 0, which keeps all out.
    progress : function, optional
        Called with how many thresholds are done, and how many there are.

    Returns
    -------
    ThresholdSweepOfModel
        A row for each threshold, the largest first.
    """
    made = quantize_model(copy.deepcopy(model_of(model)), "llm_int8")
    layers = int8_layers(made).values()
    found = []
    for number, threshold in enumerate(sorted(set(thresholds), reverse=True)):
        for layer in layers:
            layer.threshold, layer.outlier_columns, layer.seen_columns = float(threshold), 0, 0
        score = scorer.score(made)
        share = sum(layer.outlier_columns for layer in layers) / sum(
            layer.seen_columns for layer in layers
        )
        found.append(SweepRow(float(threshold), share, score))
        if progress is not None:
            progress(number + 1, len(set(thresholds)))
    return ThresholdSweepOfModel(scorer.scored, tuple(found))
