"""What the article got wrong, each shown by computing it."""

from __future__ import annotations

import numpy as np

from ..llm_int8 import llm_int8_matmul
from ..quantization import absmax
from .results import Erratum

__all__ = ["errata"]

#: The article's drawing of LLM.int8().
X = ((2, 45, -1, 17, -1), (0, 12, 3, -63, 2), (1, 37, 1, -83, 0))
W = ((-1, 0), (2, 0), (0, -2), (1, -2), (-1, 2))


def errata() -> tuple[Erratum, ...]:
    """Return what the article got wrong, and what comes out here.

    Examples
    --------
    >>> from floatfmt.experiment import errata
    >>> print(errata()[0])
    0.1 quantised by an absmax of 3.2 is off by 0.008
      it is off by 0.00079
    """
    example = np.array([0.1, 3.2], np.float32)
    off = abs(float(absmax(example).dequantize()[0]) - 0.1)
    drawn = llm_int8_matmul(np.array(X, np.float32), np.array(W, np.float32))
    sums = drawn.int32.tolist()
    total = np.round(drawn.output.astype(np.float64), 5).tolist()
    return (
        Erratum(
            "0.1 quantised by an absmax of 3.2 is off by 0.008",
            f"it is off by {off:.2g}",
        ),
        Erratum(
            "3.2 becomes -132 in the drawing of zero-point quantisation",
            "before the zero point of -5 is added it is round(3.2 × 41.13) = +132",
        ),
        Erratum(
            "pi in fp16 is drawn as 2^(128 - 127) × 1.571 = 3.141",
            "fp16's bias is 15: 2^(16 - 15) × 1.5703125 = 3.140625",
        ),
        Erratum(
            "the drawing of LLM.int8() leaves W as it is, and sums it to -63, 0, …",
            f"by the formula beside it W has codes as X has: the int32 sums are {sums}, and the"
            f" product {total}",
        ),
        Erratum(
            "perplexities of 15.53, 17.92, 17.97 and 7.93 compare the models",
            "each model was scored on a text that it had sampled itself; the models here are scored"
            " on one fixed text",
        ),
        Erratum(
            "the zero-point model's perplexity is 17.97",
            "that is its score on the absmax model's text: a line was copied",
        ),
        Erratum(
            "texts show what quantisation does",
            "they were sampled one after the other from one stream of random numbers; here each"
            " starts from the same seed, beside a greedy one",
        ),
        Erratum(
            "the histogram of LLM.int8() has bars at -2, -1, 1 and 2",
            "it counts raw int8 codes on an axis of weights; the histograms here count what the"
            " codes stand for",
        ),
        Erratum(
            "the scale is 127 / max|x|, a division",
            "torch computes the reciprocal of max|x|, rounds it, and multiplies: the scale is off"
            " by an ulp for a quarter of tensors; convention='article' does so to the bit",
        ),
    )
