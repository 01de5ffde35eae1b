"""What an experiment finds: numbers and texts only, each step's result by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import interop
from ..metrics import Error, json_number
from ..table import aligned, rich_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text as RichText

__all__ = [
    "ActivationOutliers",
    "Erratum",
    "Estimate",
    "Experiment",
    "FirstWeight",
    "Footprint",
    "Histogram",
    "LayerOutliers",
    "LayerSensitivity",
    "ModelFacts",
    "Peer",
    "Score",
    "Sensitivity",
    "SweepRow",
    "Text",
    "ThresholdSweepOfModel",
    "Variant",
    "WeightCodes",
    "as_json",
]


SCHEMA = "floatfmt.experiment/1"


class _Result:
    """What the results have in common."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        Figures that are not finite are "inf", "-inf" or "nan".
        """
        return as_json(self)


class _Table(_Result):
    """A result that is a table."""

    __slots__ = ()

    def __str__(self) -> str:
        from .tables import part_text

        return part_text(self)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)


def as_json(value: Any) -> Any:
    """Return a result, or what it holds, as JSON has it."""
    if isinstance(value, Error):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        derived = getattr(value, "DERIVED", ())
        return named | {name: as_json(getattr(value, name)) for name in derived}
    if isinstance(value, dict):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_json(part) for part in value]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, np.generic):
        return as_json(value.item())
    return json_number(value) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class ModelFacts(_Result):
    """What model was looked at.

    Attributes
    ----------
    name : str
        Its path or hub id, or "the sample model".
    architecture : str
        The class of transformers.
    parameters : int
        How many there are; tied ones count once.
    dtype : str
        The format its weights came in. Everything is computed in fp32.
    context : int
        The most tokens it takes.
    vocabulary : int
        How many tokens there are.
    layers : int
        How many linear layers it has, but for the head.
    tokenizer : str
        What makes tokens of text.
    """

    name: str
    architecture: str
    parameters: int
    dtype: str
    context: int
    vocabulary: int
    layers: int
    tokenizer: str


@dataclass(frozen=True, slots=True)
class Footprint(_Result):
    """How many bytes a model takes in one form.

    Attributes
    ----------
    name : str
        The form: a scheme, or "fp32".
    nbytes : int
        Bytes of all parameters and buffers, scales included.
    parameters : int
        How many parameters that is for.
    note : str
        Where the number comes from, or "".
    """

    name: str
    nbytes: int
    parameters: int
    note: str = ""

    DERIVED = ("bits_per_parameter",)

    @property
    def bits_per_parameter(self) -> float:
        """Stored bits a parameter."""
        return 8 * self.nbytes / self.parameters


@dataclass(frozen=True, slots=True)
class WeightCodes(_Result):
    """The corners of a weight in one scheme: first and last three rows and columns.

    Attributes
    ----------
    scheme : str
        As `ff.quantize` names it.
    codes : tuple of tuple of int
        The codes at the corners.
    values : tuple of tuple of float
        What the codes stand for.
    scale : float or None
        Of the whole weight; None where there are many.
    zero_point : float or None
        Likewise; None without one.
    bits : tuple of tuple of str
        The codes bit by bit.
    """

    scheme: str
    codes: tuple[tuple[int, ...], ...]
    values: tuple[tuple[float, ...], ...]
    scale: float | None
    zero_point: float | None
    bits: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class FirstWeight(_Table):
    """The first attention weight, before and after.

    Attributes
    ----------
    name : str
        Of the tensor.
    shape : tuple of int
        Its shape.
    low, high : float
        Its least and its greatest value.
    rows, columns : tuple of int
        Which rows and columns the corners are.
    values : tuple of tuple of float
        The corners before.
    bits : tuple of tuple of str
        Their fp32 bits, sign|exponent|fraction.
    after : tuple of WeightCodes
        The corners in several schemes.
    """

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    bits: tuple[tuple[str, ...], ...]
    after: tuple[WeightCodes, ...]


@dataclass(frozen=True, slots=True)
class Histogram(_Result):
    """How all weights are distributed, in the original and in every variant.

    Attributes
    ----------
    name : str
        "article", over (-2, 2), or "robust", over the range that holds 99.9 % of the original's.
    low, high : float
        The range.
    bins : int
        How many bins of equal width.
    counts : dict
        For "original" and every variant, how many weights are in each bin; the last bin has both
        its ends, as NumPy's.
    outside : dict
        How many weights are outside the range.
    """

    name: str
    low: float
    high: float
    bins: int
    counts: dict[str, np.ndarray]
    outside: dict[str, int]

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Estimate(_Result):
    """A mean over tokens with its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.error:.2g}"


@dataclass(frozen=True, slots=True)
class Score(_Result):
    """How well a model predicts the fixed text, and how near it is to the original.

    Attributes
    ----------
    tokens : int
        How many tokens were scored.
    perplexity : Estimate
        exp of the mean loss.
    ratio : Estimate or None
        Perplexity by the original's, from the differences token by token, so that its error is far
        smaller than that of either; None for the original itself.
    kl : Estimate or None
        The mean over tokens of the Kullback–Leibler divergence from the original's distribution
        to this one, in nats.
    top1 : Estimate or None
        The share of tokens whose likeliest prediction is the original's, 0 to 1.
    """

    tokens: int
    perplexity: Estimate
    ratio: Estimate | None = None
    kl: Estimate | None = None
    top1: Estimate | None = None

    def __str__(self) -> str:
        named = {
            "perplexity": self.perplexity,
            "by the original's": self.ratio,
            "KL divergence": self.kl,
            "same top token": self.top1,
        }
        rows = [(name, str(part)) for name, part in named.items() if part is not None]
        return aligned([("tokens", f"{self.tokens:,}"), *rows])


@dataclass(frozen=True, slots=True)
class Text(_Result):
    """What a model made of the prompt.

    Attributes
    ----------
    how : str
        "greedy" or "sampled".
    prompt, continuation : str
        What was given, and what came of it.
    perplexity : float
        By the article's protocol: of the whole text, to the model that made it.
    """

    how: str
    prompt: str
    continuation: str
    perplexity: float


@dataclass(frozen=True, slots=True)
class Variant(_Result):
    """The model in one scheme.

    Attributes
    ----------
    name : str
        The scheme's, "original" for the model as it came.
    about : str
        What was done to which parameters.
    nbytes : int
        Bytes of all parameters and buffers as they would be stored.
    bits_per_parameter : float
        The same by parameters.
    error : Error or None
        Of the parameters that it is for, all together; None for the original.
    seconds : float
        What making it took.
    score : Score or None
        On the fixed text; None if the run ended before.
    texts : tuple of Text
        From the prompt.
    """

    name: str
    about: str
    nbytes: int
    bits_per_parameter: float
    error: Error | None
    seconds: float
    score: Score | None = None
    texts: tuple[Text, ...] = ()

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Peer(_Table):
    """bitsandbytes' own LLM.int8() layers in the same model, beside ours.

    Attributes
    ----------
    name : str
        Library and version.
    layers : int
        How many linear layers both have.
    codes, differing_codes : int
        How many weight codes there are, and how many are not the same.
    score : Score
        Of the model with the peer's layers.
    ours : Score
        Of the model with ours.
    seconds, our_seconds : float
        For a pass over one window, the median of interleaved ones.
    differences : tuple of str
        Why results differ, a sentence each.
    """

    name: str
    layers: int
    codes: int
    differing_codes: int
    score: Score
    ours: Score
    seconds: float
    our_seconds: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerSensitivity(_Result):
    """What quantising one layer alone does.

    Attributes
    ----------
    layer : str
        Its name.
    parameters : int
        How many weights it has.
    sqnr_db : float
        Of its weights.
    score : Score
        Of the model with only this layer quantised.
    """

    layer: str
    parameters: int
    sqnr_db: float
    score: Score


@dataclass(frozen=True, slots=True)
class Sensitivity(_Table):
    """Which layers the loss comes from, the worst first.

    Attributes
    ----------
    scheme : str
        What each layer was quantised by.
    tokens : int
        How many tokens each was scored on.
    rows : tuple of LayerSensitivity
        Sorted by divergence from the original, largest first.
    """

    scheme: str
    tokens: int
    rows: tuple[LayerSensitivity, ...]


@dataclass(frozen=True, slots=True)
class LayerOutliers(_Result):
    """The inputs of one linear layer.

    Attributes
    ----------
    layer : str
        Its name.
    columns : int
        How many columns its inputs have.
    outlier_columns : tuple of int
        Those with a magnitude of the threshold or more, by the largest magnitude, at most 16.
    outlier_count : int
        How many columns that is.
    outlier_share : float
        The share of all values at or beyond the threshold, 0 to 1.
    largest : float
        The largest magnitude.
    rms : float
        The root mean square of all values.
    """

    layer: str
    columns: int
    outlier_columns: tuple[int, ...]
    outlier_count: int
    outlier_share: float
    largest: float
    rms: float


@dataclass(frozen=True, slots=True)
class ActivationOutliers(_Table):
    """Where activations are large, a row for each linear layer in the model's order."""

    threshold: float
    tokens: int
    rows: tuple[LayerOutliers, ...]


@dataclass(frozen=True, slots=True)
class SweepRow(_Result):
    """LLM.int8() with one threshold.

    Attributes
    ----------
    threshold : float
        From which magnitude an activation is an outlier; inf makes none one.
    outlier_share : float
        The share of columns that stayed out of int8, over all layers and windows, 0 to 1.
    score : Score
        Of the model.
    """

    threshold: float
    outlier_share: float
    score: Score


@dataclass(frozen=True, slots=True)
class ThresholdSweepOfModel(_Table):
    """LLM.int8() by threshold, from the largest down."""

    tokens: int
    rows: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True)
class Erratum(_Result):
    """What the article says, and what is right."""

    claim: str
    correction: str

    def __str__(self) -> str:
        return f"{self.claim}\n  {self.correction}"


@dataclass(frozen=True, slots=True)
class Experiment(_Result):
    """All that an experiment found; made by ``floatfmt.experiment.run``.

    Attributes
    ----------
    model : ModelFacts
        What was looked at.
    footprints : tuple of Footprint
        Bytes by scheme, and the published figures of GPT-2.
    first_weight : FirstWeight or None
        The first attention weight, or the first of all in a model that names none so; None in a
        model without linear layers.
    variants : tuple of Variant
        The original first, then a scheme each, in the order asked for.
    histograms : tuple of Histogram
        Of the weights.
    sensitivity, outliers, sweep, peer
        Of `Sensitivity`, `ActivationOutliers`, `ThresholdSweepOfModel` and `Peer`; None if not
        asked for, not applicable or not reached.
    text : str
        What the fixed text is: its name, length and SHA-256.
    window, stride : int
        Tokens that the model sees at once, and by which windows advance.
    seed : int
        Of the sampled texts.
    errata : tuple of Erratum
        What the article that this follows got wrong.
    notes : tuple of str
        What has to be said about the numbers.
    environment : dict
        Versions, processor, threads, route of the integer products.
    seconds : dict
        What each step took.
    interrupted : str or None
        The step that an interruption ended; everything before it is there.
    """

    model: ModelFacts
    footprints: tuple[Footprint, ...] = ()
    first_weight: FirstWeight | None = None
    variants: tuple[Variant, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    sensitivity: Sensitivity | None = None
    outliers: ActivationOutliers | None = None
    sweep: ThresholdSweepOfModel | None = None
    peer: Peer | None = None
    text: str = ""
    window: int = 0
    stride: int = 0
    seed: int = 0
    errata: tuple[Erratum, ...] = ()
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    interrupted: str | None = None

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        ``schema`` says which keys there are; figures that are not finite are "inf", "-inf" or
        "nan".
        """
        return {"schema": SCHEMA, **as_json(self)}

    def __str__(self) -> str:
        from .tables import layout

        return "\n".join("".join(text for text, _ in line) for line in layout(self, None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichText]:
        from .tables import layout

        yield from rich_lines(layout(self, options.max_width))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)
