"""The whole experiment, step by step; what is finished is kept if it is interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import transformers

from .. import __version__
from ..bench.machine import cpu
from ..data import train_sample
from ..table import printable
from .errata import errata
from .footprint import footprint, gpt2_footprints, stored_bytes
from .int8_layers import THRESHOLD
from .layers import linear_layers
from .losses import (
    activation_outliers,
    check_sensitivity,
    layer_sensitivity,
    threshold_sweep,
)
from .models import ByteTokenizer, LanguageModel, load_model
from .peer import beside_bitsandbytes, has_bitsandbytes
from .products import route_name
from .results import Experiment, Histogram, ModelFacts, Variant
from .scoring import Scorer
from .texts import check_prompt, generate_texts
from .variants import Scheme, copy_in_scheme, schemes_of
from .weights import ARTICLE_RANGE, BINS, first_weight, robust_range, weight_counts

__all__ = ["PROMPT", "SAMPLE_PROMPT", "Progress", "default_text", "run"]

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], object]

#: The article's prompt, and one that Python's documentation could go on from.
PROMPT, SAMPLE_PROMPT = "I have a dream", "The following statement "
#: Tokens scored, and scored by the steps that go through the text many times.
MAX_TOKENS, FEW_TOKENS = 8192, 2048
#: Tokens added to a prompt: the article's 50 with the prompt, and as much text in bytes.
NEW_TOKENS, NEW_BYTES = 46, 160
#: What a model or a scheme that does not suit it may raise.
FAILURES = (ValueError, TypeError, RuntimeError, AttributeError, NotImplementedError)
#: Schemes whose codes of the first weight are shown: with a scale of their own, or none.
SHOWN = ("int8_absmax", "int8_zeropoint")


class _Settings(NamedTuple):
    """What is wanted, checked."""

    schemes: tuple[Scheme, ...]
    prompt: str
    text_name: str
    tokens: list[int]
    window: int
    stride: int
    new_tokens: int
    seed: int
    threshold: float
    sensitivity: str | None


def default_text() -> tuple[str, str]:
    """Return the text that is scored without another, and what it is.

    It is what the sample model was never trained on: ten topics of Python's documentation, as the
    running Python has them.
    """
    version = platform.python_version()
    return train_sample.heldout_text().decode(), f"ten topics of Python {version}'s documentation"


def run(
    model: Any = None,
    *,
    schemes: Sequence[str] | None = None,
    prompt: str | None = None,
    text: str | None = None,
    text_name: str = "the text given",
    max_tokens: int = MAX_TOKENS,
    window: int | None = None,
    stride: int | None = None,
    new_tokens: int | None = None,
    seed: int = 0,
    parameters: str | None = None,
    threshold: float = THRESHOLD,
    sensitivity: str | None = "nf4",
    tokenizer: str | None = None,
    progress: Progress | None = None,
) -> Experiment:
    """Quantise a language model by many schemes, and see what each costs and saves.

    Parameters
    ----------
    model : str, os.PathLike or LanguageModel, optional
        As `load_model` takes it, or what it returned; by default the sample model.
    schemes : sequence of str, optional
        Float formats and schemes as ``ff.compare`` takes them, and those of `quantize_model`.
    prompt : str, optional
        What texts go on from: by default the article's, of the sample model one that suits it.
    text, text_name : str, optional
        What is scored, and what it is called; by default `default_text`.
    max_tokens : int
        How many of the text's tokens are scored, from its start.
    window, stride : int, optional
        Tokens that the model sees at once, by default its context, at most 1,024; and by which
        windows advance, by default half of that.
    new_tokens : int, optional
        How many are added to the prompt; by default 46, of the sample model 160 bytes.
    seed : int
        Of the sampled texts, for each of them.
    parameters : {None, "all", "linear"}
        Which parameters the schemes are for; see `simulate`.
    threshold : float
        Of LLM.int8(), above 0.
    sensitivity : str or None
        The scheme that one layer at a time is quantised by; None leaves that step out.
    tokenizer : {None, "bytes"}
        As `load_model` takes it.
    progress : function, optional
        Called with what is being done, how much of it is done, and how much there is.

    Returns
    -------
    Experiment
        An interruption (Ctrl-C) ends the step it comes in, and with it the run; what was finished
        is there, and `Experiment.interrupted` names the step.

    Raises
    ------
    ValueError
        A scheme is unknown or does not apply, the text is shorter than a window, the prompt longer
        than the context; or the model cannot be used, which is a `ModelError`.

    Examples
    --------
    >>> from floatfmt.experiment import run
    >>> found = run(schemes=["int8_row"], max_tokens=300, new_tokens=4, sensitivity=None)
    >>> [variant.name for variant in found.variants]
    ['original', 'int8_row']
    """
    wanted = schemes_of(schemes, parameters)
    if sensitivity is not None:
        check_sensitivity(sensitivity)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be -2^63 to 2^64 - 1, got {seed}")
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, up to inf, got {threshold}")
    for name, number in (("max_tokens", max_tokens), ("new_tokens", new_tokens)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    loaded = model if isinstance(model, LanguageModel) else load_model(model, tokenizer=tokenizer)
    in_bytes = isinstance(loaded.tokenizer, ByteTokenizer)
    length = min(loaded.context, 1024) if window is None else window
    if not 1 <= length <= loaded.context:
        raise ValueError(f"the window must be 1 to {loaded.context:,} tokens, got {length:,}")
    if text is None:
        text, text_name = default_text()
    tokens = [] if loaded.start is None else [loaded.start]
    settings = _Settings(
        schemes=wanted,
        prompt=(SAMPLE_PROMPT if in_bytes else PROMPT) if prompt is None else prompt,
        text_name=text_name,
        tokens=(tokens + loaded.tokenizer.encode(text))[: max_tokens + 1],
        window=length,
        stride=max(1, length // 2) if stride is None else stride,
        new_tokens=new_tokens or (NEW_BYTES if in_bytes else NEW_TOKENS),
        seed=seed,
        threshold=threshold,
        sensitivity=sensitivity,
    )
    check_prompt(settings.prompt, loaded)
    return _Run(loaded, settings, text, progress or (lambda *_: None)).all_steps()


class _Run:
    """A run: what it has so far, and the steps that add to it."""

    def __init__(
        self, loaded: LanguageModel, settings: _Settings, text: str, progress: Progress
    ) -> None:
        self.loaded, self.settings, self.progress = loaded, settings, progress
        self.scorer = Scorer(settings.tokens, loaded.model, settings.window, settings.stride)
        few = settings.tokens[: max(FEW_TOKENS, settings.window) + 1]
        self.few = Scorer(few, loaded.model, settings.window, settings.window)
        self.variants: list[Variant] = []
        self.found = Experiment(
            model=_facts(loaded),
            text=_described(settings.text_name, text, self.scorer.scored),
            window=settings.window,
            stride=settings.stride,
            seed=settings.seed,
            errata=errata(),
            notes=_notes(settings, loaded.model),
            environment=_environment(),
        )

    def all_steps(self) -> Experiment:
        """Take one step after the other until all are done, or one is interrupted."""
        steps = {
            "footprint": self.footprints,
            "first weight": self.first_weight,
            "variants": self.all_variants,
            "outliers": self.outliers,
            "threshold sweep": self.sweep,
            "bitsandbytes": self.peer,
            "sensitivity": self.sensitivity,
        }
        seconds: dict[str, float] = {}
        interrupted = None
        for name, step in steps.items():
            began = time.perf_counter()
            try:
                step()
            except KeyboardInterrupt:
                interrupted = name
            except FAILURES as exc:  # one step's failure is not to cost what others found
                self.note(f"The step {name!r} failed: {_line(exc)}")
            seconds[name] = time.perf_counter() - began
            if interrupted:
                break
        return dataclasses.replace(
            self.found,
            variants=tuple(self.variants),
            seconds=seconds,
            interrupted=interrupted,
        )

    def add(self, **results: Any) -> None:
        self.found = dataclasses.replace(self.found, **results)

    def note(self, text: str) -> None:
        self.add(notes=(*self.found.notes, text))

    def on(self, doing: str) -> Callable[[int, int], object]:
        return lambda done, total: self.progress(doing, done, total)

    def footprints(self) -> None:
        found = footprint(self.loaded.model, self.settings.schemes)
        self.add(footprints=found + gpt2_footprints())

    def first_weight(self) -> None:
        names = [scheme.name for scheme in self.settings.schemes]
        self.add(first_weight=first_weight(self.loaded.model, dict.fromkeys([*SHOWN, *names])))

    def all_variants(self) -> None:
        model = self.loaded.model
        ranges = {"article": ARTICLE_RANGE, "robust": robust_range(model)}
        counts: dict[str, dict[str, Any]] = {name: {} for name in ranges}
        for scheme in (None, *self.settings.schemes):
            try:
                self._variant(scheme, ranges, counts)
            except FAILURES as exc:
                name = scheme.name if scheme else "original"
                self.note(f"{name} is left out, or not whole: {_line(exc)}")

    def _variant(
        self,
        scheme: Scheme | None,
        ranges: dict[str, tuple[float, float]],
        counts: dict[str, dict[str, Any]],
    ) -> None:
        """Make a variant and add all there is to say of it, as it becomes known."""
        variant, made = self._made(scheme)
        for name, (low, high) in ranges.items():
            counts[name][variant.name] = weight_counts(made, low, high)
        self.add(
            histograms=tuple(
                Histogram(
                    name,
                    *ranges[name],
                    BINS,
                    {key: found for key, (found, _) in counted.items()},
                    {key: outside for key, (_, outside) in counted.items()},
                )
                for name, counted in counts.items()
            )
        )
        self.variants.append(variant)
        self.variants[-1] = variant = dataclasses.replace(
            variant, score=self.scorer.score(made, self.on(f"{variant.name}: perplexity"))
        )
        self.progress(f"{variant.name}: texts", 0, 1)
        texts = generate_texts(
            self.loaded,
            self.settings.prompt,
            model=made,
            new_tokens=self.settings.new_tokens,
            seed=self.settings.seed,
        )
        self.variants[-1] = dataclasses.replace(variant, texts=texts)

    def _made(self, scheme: Scheme | None) -> tuple[Variant, Any]:
        model = self.loaded.model
        size = sum(p.numel() for p in model.parameters())
        each = 2 if self.loaded.dtype in ("bf16", "fp16") else 4
        if scheme is None:
            nbytes = each * size + sum(b.nbytes for b in model.buffers())
            about = f"as it came, in {self.loaded.dtype}"
            return Variant("original", about, nbytes, 8 * nbytes / size, None, 0.0), model
        self.progress(f"{scheme.name}: quantising", 0, 1)
        began = time.perf_counter()
        made, error = copy_in_scheme(model, scheme, threshold=self.settings.threshold)
        seconds = time.perf_counter() - began
        nbytes = stored_bytes(model, scheme, each)
        return (
            Variant(scheme.name, scheme.about, nbytes, 8 * nbytes / size, error, seconds),
            made,
        )

    def outliers(self) -> None:
        found = activation_outliers(
            self.loaded.model, self.few, self.settings.threshold, self.on("activation outliers")
        )
        self.add(outliers=found)

    def sweep(self) -> None:
        on = self.on("LLM.int8() by threshold")
        self.add(sweep=threshold_sweep(self.loaded.model, self.few, progress=on))

    def peer(self) -> None:
        if not has_bitsandbytes():
            self.note("bitsandbytes is not installed: its layers are not here.")
            return
        self.progress("bitsandbytes", 0, 1)
        self.add(peer=beside_bitsandbytes(self.loaded.model, self.few, self.settings.threshold))

    def sensitivity(self) -> None:
        scheme = self.settings.sensitivity
        if scheme is not None:
            on = self.on(f"one layer at a time in {scheme}")
            self.add(sensitivity=layer_sensitivity(self.loaded.model, self.few, scheme, on))


def _facts(loaded: LanguageModel) -> ModelFacts:
    model = loaded.model
    return ModelFacts(
        name=loaded.name,
        architecture=type(model).__name__,
        parameters=sum(p.numel() for p in model.parameters()),
        dtype=loaded.dtype,
        context=loaded.context,
        vocabulary=model.config.vocab_size,
        layers=sum(1 for _ in linear_layers(model)),
        tokenizer=loaded.tokenizer.name,
    )


def _described(name: str, text: str, scored: int) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{name}: {len(text):,} characters, SHA-256 {digest}; its first {scored:,} tokens scored"


def _line(exc: BaseException) -> str:
    return printable(" ".join(str(exc).split()))[:300] or type(exc).__name__


def _notes(settings: _Settings, model: Any) -> tuple[str, ...]:
    linear = sum(layer.weight.numel() for layer in linear_layers(model))
    share = linear / sum(p.numel() for p in model.parameters())
    return (
        "Everything is computed in fp32: a scheme's values are rounded to it. Layers that store"
        " int8 multiply int8 codes and add them up exactly in int32.",
        "Casts and schemes with one scale a tensor are for every parameter, as in the article;"
        " those with scales by row or block, and layers that store int8, for the linear layers but"
        " the head, as libraries have it.",
        "Standard errors are of means of 32 consecutive tokens. The ratio of perplexities has one"
        " far smaller than the perplexities: it is of differences token by token.",
        f"The linear layers but the head hold {share:.1%} of the parameters.",
        f"For the scores of schemes, each token has {settings.window - settings.stride:,} tokens"
        " before it, or all there are; for the sweep and for single layers, none at the start of a"
        " window. LLM.int8() finds outlier columns in windows that go through the model together.",
    )


def _environment() -> dict[str, str]:
    return {
        "floatfmt": __version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CPU": cpu(),
        "threads": str(torch.get_num_threads()),
        "integer products": route_name(),
    }
