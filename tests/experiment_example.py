"""A made-up experiment: codes, weights and errors are computed, scores and texts are invented."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import floatfmt as ff
from floatfmt.experiment.results import (
    ActivationOutliers,
    Erratum,
    Estimate,
    Experiment,
    FirstWeight,
    Footprint,
    Histogram,
    LayerOutliers,
    LayerSensitivity,
    ModelFacts,
    Peer,
    Score,
    Sensitivity,
    SweepRow,
    Text,
    ThresholdSweepOfModel,
    Variant,
    WeightCodes,
)
from floatfmt.spelling import field_bits

PARAMETERS = 124_439_808
TOKENS = 8_184
PERPLEXITY = Estimate(29.9413, 0.4127)
ROWS = COLUMNS = (0, 1, 2, 765, 766, 767)

#: Of each variant: what was done, bits a parameter, its share of the perplexity, its divergence.
VARIANTS = {
    "original": ("The model as it came.", 32.0, 1.0, 0.0),
    "bf16": ("Every parameter rounded to bf16.", 16.0, 1.00021, 1.9e-5),
    "fp16": ("Every parameter rounded to fp16.", 16.0, 1.00001, 4.1e-7),
    "fp8_e4m3fn": ("Weights of all layers in E4M3, a scale for each.", 10.48, 1.0148, 0.01431),
    "int8_absmax": (
        "Every tensor in int8, a scale for each: the article's way.",
        8.0,
        1.1237,
        0.1184,
    ),
    "int8_zeropoint": (
        "Every tensor in int8, a scale and zero point for each.",
        8.0,
        1.1009,
        0.0962,
    ),
    "int8_row": ("Weights of all layers in int8, a scale a row.", 10.51, 1.00052, 7.4e-4),
    "nf4": ("Weights of all layers in NF4, blocks of 64.", 8.09, 1.0371, 0.03566),
    "mxfp4": ("Weights of all layers in MXFP4, blocks of 32.", 7.92, 1.0804, 0.0779),
    "llm_int8": ("LLM.int8() layers, threshold 6.", 10.62, 1.00089, 1.02e-3),
    "int8_rowwise": ("LLM.int8() layers without outliers.", 10.51, 1.0049, 6.3e-3),
    "int8_weight_only": ("Weights in int8 by output, products in fp32.", 10.51, 1.00049, 7.1e-4),
}
SCHEMES = tuple(VARIANTS)[1:]

LAYERS = tuple(
    f"transformer.h.{block}.{name}"
    for block in range(4)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
)

PROMPT = "I have a dream"
GREEDY = (
    " of becoming a doctor. I have a dream of becoming a doctor.\n\nI have a dream of being a"
    " teacher, and of standing in front of a class that listens to what I say."
)
SAMPLED = (
    ", and it is a dream that I keep on my desk beside the lamp. In the evening I read it to my"
    " neighbours, who nod and bring me apples.\n\nNobody asks what it is about."
)


def score(ratio: float = 1.0, kl: float | None = None, tokens: int = TOKENS) -> Score:
    """A score of so many times the original's perplexity; without a divergence, the original's."""
    perplexity = Estimate(PERPLEXITY.value * ratio, PERPLEXITY.error * ratio)
    if kl is None:
        return Score(tokens, perplexity)
    spread = Estimate(ratio, 0.00004 + 0.04 * abs(ratio - 1))
    same = Estimate(1 - 0.6 * math.sqrt(kl), 0.0003 + 0.01 * math.sqrt(kl))
    return Score(tokens, perplexity, spread, Estimate(kl, 0.03 * kl), same)


def weights(count: int = 60_000) -> np.ndarray:
    """Something like a language model's weights: narrow, with long tails."""
    random = np.random.default_rng(7)
    scales = random.choice([0.02, 0.08, 0.14, 0.3], count, p=[0.1, 0.3, 0.5, 0.1])
    return (random.standard_normal(count) * scales).astype(np.float32)


def after(name: str, x: np.ndarray) -> np.ndarray:
    """Weights in a variant, by a scheme near to it."""
    if name == "original":
        return x
    if name in ("bf16", "fp16"):
        return np.asarray(ff.round_to(x, name), np.float32)
    scheme = name if name in ("nf4", "mxfp4", "fp8_e4m3fn") else "absmax"
    options = {"axis": 0} if "row" in name or "only" in name or "llm" in name else {}
    return np.asarray(ff.quantize(x.reshape(-1, 200), scheme, **options).dequantize()).ravel()


def histogram(name: str, x: np.ndarray, low: float, high: float, bins: int) -> Histogram:
    counts, outside = {}, {}
    for variant in VARIANTS:
        y = after(variant, x)
        counts[variant] = np.histogram(y, bins, (low, high))[0]
        outside[variant] = int(y.size - counts[variant].sum())
    return Histogram(name, low, high, bins, counts, outside)


def variants(x: np.ndarray) -> tuple[Variant, ...]:
    made = []
    for number, (name, (about, bits, ratio, kl)) in enumerate(VARIANTS.items()):
        words = SAMPLED.split(" ")
        words[3 + number % 7 :: 9] = ["the"] * len(words[3 + number % 7 :: 9])
        sampled = SAMPLED if kl < 1e-4 else " ".join(words)
        greedy = (
            GREEDY if kl < 5e-3 else GREEDY.replace("doctor", "writer").replace("class", "hall")
        )
        texts = (
            Text("greedy", PROMPT, greedy, 4.2 + 3 * kl),
            Text("sampled", PROMPT, sampled, 18.3 + number),
        )
        made.append(
            Variant(
                name,
                about,
                int(bits * PARAMETERS / 8),
                bits,
                ff.error(x, after(name, x)) if number else None,
                0.21 * number,
                score(ratio, kl if number else None),
                texts,
            )
        )
    return tuple(made)


def corner(matrix: np.ndarray) -> tuple[tuple, ...]:
    return tuple(map(tuple, matrix[np.ix_(ROWS, COLUMNS)].tolist()))


def fields(codes: tuple[tuple[int, ...], ...], fmt: ff.Format | None, bits: int) -> tuple:
    def text(code: int) -> str:
        if fmt is None or fmt.is_integer:
            return f"{code % 2**bits:0{bits}b}"
        return "|".join(field_bits(code, fmt).values())

    return tuple(tuple(text(code) for code in row) for row in codes)


def first_weight() -> FirstWeight:
    x = (np.random.default_rng(3).standard_normal((768, 768)) * 0.14).astype(np.float32)
    x[5, 7], x[0, 0] = 2.84, -0.4738
    made = []
    rounded = np.asarray(ff.round_to(x, "bf16"), np.float32)
    codes = corner((rounded.view(np.uint32) >> 16).astype(np.int64))
    bits = fields(codes, ff.format("bf16"), 16)
    made.append(WeightCodes("bf16", codes, corner(rounded), None, None, bits))
    for scheme in ("fp8_e4m3fn", "absmax", "zeropoint", "nf4", "mxfp4"):
        quantized = ff.quantize(x, scheme)
        codes, back = corner(quantized.codes), corner(quantized.dequantize())
        one = np.ndim(quantized.scale) == 0
        scale = float(quantized.scale) if one else None
        zero_point = None if quantized.zero_point is None else float(quantized.zero_point)
        is_float = isinstance(quantized.elements, ff.Format)
        bits = fields(codes, quantized.elements if is_float else None, quantized.bits)
        made.append(WeightCodes(scheme, codes, back, scale, zero_point, bits))
    fp32 = corner(x.view(np.uint32).astype(np.int64))
    return FirstWeight(
        "transformer.h.0.attn.c_attn.weight",
        x.shape,
        float(x.min()),
        float(x.max()),
        ROWS,
        COLUMNS,
        corner(x),
        fields(fp32, ff.format("fp32"), 32),
        tuple(made),
    )


def sensitivity() -> Sensitivity:
    kl = [0.042 * 0.62**n for n in range(len(LAYERS))]
    order = np.random.default_rng(5).permutation(len(LAYERS))
    rows = tuple(
        LayerSensitivity(
            LAYERS[i], 589_824 * (1 + i % 4), 31.2 + i, score(1 + kl[n], kl[n], tokens=2_046)
        )
        for n, i in enumerate(order)
    )
    return Sensitivity("int8_absmax", 2_046, rows)


def outliers() -> ActivationOutliers:
    largest = [
        4.1,
        2.2,
        5.9,
        9.3,
        11.6,
        3.4,
        14.2,
        62.5,
        10.8,
        5.1,
        13.3,
        47.0,
        9.7,
        6.0,
        12.1,
        230.0,
    ]
    rows = tuple(
        LayerOutliers(
            name,
            768,
            tuple(range(138, 138 + min(16, int(size / 6)))),
            int(size / 6),
            max(0.0, (size - 6) / 4e4),
            size,
            0.3 + size / 60,
        )
        for name, size in zip(LAYERS, largest, strict=True)
    )
    return ActivationOutliers(6.0, 2_046, rows)


def sweep() -> ThresholdSweepOfModel:
    found = {
        math.inf: (0.0, 6.3e-3),
        20.0: (0.0021, 3.8e-3),
        10.0: (0.0064, 1.7e-3),
        6.0: (0.0148, 1.02e-3),
        4.0: (0.052, 8.3e-4),
        3.0: (0.131, 6.1e-4),
        2.0: (0.402, 2.2e-4),
        1.0: (0.871, 2.6e-5),
    }
    rows = tuple(SweepRow(at, share, score(1 + kl, kl)) for at, (share, kl) in found.items())
    return ThresholdSweepOfModel(TOKENS, rows)


def peer() -> Peer:
    differences = (
        "bitsandbytes rounds activations to fp16 before it looks for outliers; we take fp32.",
        "Its scales are fp16 products, ours fp32.",
    )
    theirs, ours = score(1.00094, 1.07e-3), score(1.00089, 1.02e-3)
    return Peer("bitsandbytes 0.50.2", 16, 84_934_656, 1_207, theirs, ours, 4.31, 2.88, differences)


def experiment() -> Experiment:
    """An experiment that ran to its end."""
    x = weights()
    fp32 = 4 * PARAMETERS
    edge = float(np.quantile(np.abs(x), 0.999))
    return Experiment(
        model=ModelFacts(
            "openai-community/gpt2", "GPT2LMHeadModel", PARAMETERS, "fp32", 1024, 50_257, 16, "BPE"
        ),
        footprints=(
            Footprint("fp32", fp32, PARAMETERS),
            *(Footprint(n, int(VARIANTS[n][1] * PARAMETERS / 8), PARAMETERS) for n in SCHEMES),
            Footprint("fp32, published", 510_342_192, PARAMETERS, "the article, with its buffers"),
            Footprint("int8, published", 176_527_896, PARAMETERS, "the article, by bitsandbytes"),
        ),
        first_weight=first_weight(),
        variants=variants(x),
        histograms=(
            histogram("article", x, -2.0, 2.0, 150),
            histogram("robust", x, -edge, edge, 100),
        ),
        sensitivity=sensitivity(),
        outliers=outliers(),
        sweep=sweep(),
        peer=peer(),
        text="WikiText-2, test, the first 8,192 tokens; SHA-256 3f2a9c0d11",
        window=1024,
        stride=512,
        seed=0,
        errata=(Erratum("0.1 is off by 0.008", "it is off by 0.00079"),),
        notes=(
            "Everything is computed in fp32: a quantised weight is what its code stands for.",
            "Standard errors take tokens as independent, which they are not quite.",
        ),
        environment={
            "floatfmt": "0.1.0",
            "torch": "2.13.0",
            "processor": "AMD EPYC 7B13, 2 threads",
            "integer products": "AVX-512 VNNI",
        },
        seconds={
            "load": 1.2,
            "variants": 14.81,
            "scores": 301.4,
            "texts": 62.0,
            "histograms": 3.02,
            "sensitivity": 212.6,
            "outliers": 9.1,
            "sweep": 118.0,
            "peer": 40.2,
        },
    )


def interrupted() -> Experiment:
    """One that was interrupted while it scored: five variants have a score, and little follows."""
    whole = experiment()
    bare = [dataclasses.replace(v, score=None, texts=()) for v in whole.variants[5:]]
    return Experiment(
        model=whole.model,
        footprints=whole.footprints,
        variants=(*whole.variants[:5], *bare),
        text=whole.text,
        window=1024,
        stride=512,
        seconds={"load": 1.2},
        interrupted="scores",
    )


def infinite() -> Experiment:
    """One with figures that are inf, nan and 0: a broken model, and an exact one."""
    whole = experiment()
    broken = Score(
        TOKENS, *(Estimate(math.inf, math.nan),) * 2, Estimate(math.nan, math.nan), Estimate(0, 0)
    )
    exact = Score(TOKENS, PERPLEXITY, Estimate(1.0, 0.0), Estimate(0.0, 0.0), Estimate(1.0, 0.0))
    texts = tuple(dataclasses.replace(t, perplexity=math.inf) for t in whole.variants[3].texts)
    changed = {
        "bf16": dataclasses.replace(whole.variants[1], score=exact),
        "fp8_e4m3fn": dataclasses.replace(whole.variants[3], score=broken, texts=texts),
    }
    layer, outlier, row = whole.sensitivity.rows[0], whole.outliers.rows[0], whole.sweep.rows[0]
    layers = (
        dataclasses.replace(layer, sqnr_db=math.inf, score=broken),
        *whole.sensitivity.rows[1:-1],
        dataclasses.replace(whole.sensitivity.rows[-1], score=exact),
    )
    return dataclasses.replace(
        whole,
        variants=tuple(changed.get(v.name, v) for v in whole.variants),
        sensitivity=dataclasses.replace(whole.sensitivity, rows=layers),
        outliers=dataclasses.replace(
            whole.outliers,
            rows=(dataclasses.replace(outlier, largest=math.inf), *whole.outliers.rows[1:]),
        ),
        sweep=dataclasses.replace(
            whole.sweep,
            rows=(dataclasses.replace(row, score=broken), *whole.sweep.rows[1:]),
        ),
    )
