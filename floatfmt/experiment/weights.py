"""Weights as numbers: the first attention weight before and after, and how all are distributed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import interop
from ..formats import Format, format
from .layers import Layer, linear_layers
from .models import model_of
from .results import FirstWeight, Histogram, WeightCodes
from .variants import Scheme, coded, scheme_of

__all__ = ["ARTICLE_RANGE", "BINS", "first_weight", "histograms", "robust_range", "weight_counts"]

#: What the article shows of a matrix: three rows and columns at each end.
CORNER = 3
#: The article's histogram.
BINS, ARTICLE_RANGE = 150, (-2.0, 2.0)
ROBUST_SHARE = 0.999


# --- the first weight ---------------------------------------------------------------------------


def first_weight(
    model: Any, schemes: Iterable[str] = ("int8_absmax", "int8_zeropoint")
) -> FirstWeight | None:
    """Show the corners of the first attention weight, before and after.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        In fp32.
    schemes : iterable of str
        Float formats or quantisation schemes, as ``ff.compare`` takes them, or those of
        `quantize_model`, whose weights are int8 by output.

    Returns
    -------
    FirstWeight or None
        None if the model has no linear layer.

    Examples
    --------
    >>> from floatfmt.experiment import first_weight, load_model
    >>> found = first_weight(load_model().model)
    >>> found.name, found.shape, found.after[0].codes[0]
    ('transformer.h.0.attn.c_attn.weight', (192, 576), (20, -7, -8, -17, -9, 16))
    """
    layer = _first_layer(model_of(model))
    if layer is None:
        return None
    weight = layer.module.weight.detach()
    rows, columns = (_ends(length) for length in weight.shape)
    values = interop.to_numpy(weight.float())
    corner = values[np.ix_(rows, columns)]
    after = tuple(_codes(layer, scheme_of(name), rows, columns) for name in schemes)
    return FirstWeight(
        name=f"{layer.name}.weight",
        shape=tuple(weight.shape),
        low=float(values.min()),
        high=float(values.max()),
        rows=rows,
        columns=columns,
        values=_rows(corner, float),
        bits=_rows(corner.view(np.uint32), lambda code: bit_string(int(code), format("fp32"))),
        after=after,
    )


def _first_layer(model: Any) -> Layer | None:
    layers = list(linear_layers(model))
    in_attention = [layer for layer in layers if "attn" in layer.name or "attention" in layer.name]
    return next(iter(in_attention or layers), None)


def _ends(length: int) -> tuple[int, ...]:
    if length <= 2 * CORNER:
        return tuple(range(length))
    return (*range(CORNER), *range(length - CORNER, length))


def _rows(corner: np.ndarray, convert: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(convert(value) for value in row) for row in corner)


def _codes(
    layer: Layer, scheme: Scheme, rows: tuple[int, ...], columns: tuple[int, ...]
) -> WeightCodes:
    """Return the corners in a scheme, in the layout in which the weight is stored."""
    if scheme.format is None and scheme.options is None:
        scheme = scheme_of("int8_row")._replace(name=scheme.name)
    found = coded(layer.weight, scheme, f"{layer.name}.weight")
    codes, values = interop.to_numpy(found.codes), interop.to_numpy(found.values)
    if layer.is_transposed:
        codes, values = codes.T, values.T
    at = np.ix_(rows, columns)
    q = found.quantized
    bits = scheme.format.bits if scheme.format is not None else q.bits  # type: ignore[union-attr]
    layout = scheme.format or (q.elements if q and isinstance(q.elements, Format) else None)
    mask = (1 << bits) - 1
    return WeightCodes(
        scheme=scheme.name,
        codes=_rows(codes[at], int),
        values=_rows(values[at], float),
        scale=_only(None if q is None else q.scale),
        zero_point=_only(None if q is None or q.scheme == "absmax" else q.zero_point),
        bits=_rows(
            codes[at],
            lambda code: (
                bit_string(int(code) & mask, layout)
                if layout is not None
                else f"{int(code) & mask:0{bits}b}"
            ),
        ),
    )


def _only(part: Any) -> float | None:
    """Return a scale or zero point of the whole tensor, None where there are many."""
    if part is None:
        return None
    array = interop.to_numpy(part)
    return float(array.reshape(-1)[0]) if array.size == 1 else None


def bit_string(code: int, fmt: Format) -> str:
    """Return a code's bits with | between the fields.

    Examples
    --------
    >>> import floatfmt as ff
    >>> bit_string(0x3D03, ff.format("bf16"))
    '0|01111010|0000011'
    """
    bits = f"{code:0{fmt.bits}b}"
    ends = (int(fmt.signed), int(fmt.signed) + fmt.exponent_bits)
    return "|".join(part for part in (bits[: ends[0]], bits[slice(*ends)], bits[ends[1] :]) if part)


# --- all weights --------------------------------------------------------------------------------


def robust_range(model: Any) -> tuple[float, float]:
    """Return the range around 0 that holds 99.9 % of all weights, by a histogram of their bits."""
    # The upper half of an fp32's bits is a bf16's: 32,768 magnitudes in order, within 1 %.
    counts = np.zeros(1 << 15, np.int64)
    for parameter in model.parameters():
        bits = interop.to_numpy(parameter.detach().float()).reshape(-1).view(np.uint32)
        counts += np.bincount((bits >> np.uint32(16)) & np.uint32(0x7FFF), minlength=1 << 15)
    place = int(np.searchsorted(np.cumsum(counts), ROBUST_SHARE * counts.sum()))
    end = np.uint32((place + 1) << 16).view(np.float32)
    return (-float(end), float(end)) if end > 0 else (-1.0, 1.0)


def weight_counts(model: Any, low: float, high: float, bins: int = BINS) -> tuple[Any, int]:
    """Count the weights of a model, biases and embeddings among them, in bins of equal width.

    Returns
    -------
    counts : int64 array
        As ``np.histogram`` counts: the last bin has both its ends.
    outside : int
        How many weights are in none.
    """
    counts, size = np.zeros(bins, np.int64), 0
    for values in _weights(model):
        counts += np.histogram(values, bins, (low, high))[0]
        size += values.size
    return counts, size - int(counts.sum())


def _weights(model: Any) -> Iterable[np.ndarray]:
    from .int8_layers import int8_layers

    of_int8 = {id(layer.bias) for layer in int8_layers(model).values()}
    for layer in int8_layers(model).values():
        yield layer.values().numpy().reshape(-1)
        if layer.bias is not None:
            yield interop.to_numpy(layer.bias.detach()).reshape(-1)
    for parameter in model.parameters():
        if id(parameter) not in of_int8:
            yield interop.to_numpy(parameter.detach().float()).reshape(-1)


def histograms(models: dict[str, Any], bins: int = BINS) -> tuple[Histogram, ...]:
    """Return how the weights of several models are distributed.

    Parameters
    ----------
    models : dict
        By name; the first is the one that the robust range is of.
    bins : int
        How many.

    Returns
    -------
    tuple of Histogram
        "article", over (-2, 2), and "robust", over the range that holds 99.9 % of the first's.
    """
    if not isinstance(models, dict) or not models:
        raise TypeError("histograms are of models by name: pass {'original': model}")
    models = {name: model_of(model) for name, model in models.items()}
    first = next(iter(models.values()))
    ranges = {"article": ARTICLE_RANGE, "robust": robust_range(first)}
    found = []
    for name, (low, high) in ranges.items():
        counted = {key: weight_counts(model, low, high, bins) for key, model in models.items()}
        found.append(
            Histogram(
                name=name,
                low=low,
                high=high,
                bins=bins,
                counts={key: counts for key, (counts, _) in counted.items()},
                outside={key: outside for key, (_, outside) in counted.items()},
            )
        )
    return tuple(found)
