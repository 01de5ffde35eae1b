"""Whether a quantiser does what a convention says: over every fp32 input, or adversarial tensors.

With a given scale a quantiser is a function of one value, and all 2^32 are tried. Without, it is a
function of a tensor, and a list of tensors is tried on which quantisers are known to differ.
"""

from __future__ import annotations

import time
from typing import Any

from ..convention import ConventionLike, plan
from .quantizer_answers import Quantizer
from .quantizer_results import QuantizerExample, QuantizerFault, QuantizerVerification
from .quantizer_trials import verify_tensors
from .quantizer_values import Given, verify_values
from .resume import Run
from .sweep import Progress

__all__ = ["QuantizerExample", "QuantizerFault", "QuantizerVerification", "verify_quantizer"]


def verify_quantizer(
    fn: Quantizer,
    *,
    convention: ConventionLike = "floatfmt",
    scheme: str | None = None,
    scale: float | None = None,
    zero_point: int | None = None,
    dtype: str | None = None,
    inputs: Any = None,
    threads: int | None = None,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> QuantizerVerification:
    """Verify that a quantiser gives a convention's codes, or show where and why it does not.

    Parameters
    ----------
    fn : callable
        Is given a float32 NumPy array, its own copy, and returns int8 or uint8 codes of that shape,
        NumPy or torch. Without `scale` it may return (codes, scale) or (codes, scale, zero point),
        a ``Quantized`` or a quantised torch tensor, and the scale is compared too.
    convention : str or Convention
        A name of ``ff.conventions()``, or a row of one's own.
    scheme : {"absmax", "zeropoint"}, optional
        How the convention finds scale and zero point of a tensor; its first one by default.
    scale, zero_point : float and int
        Given, so that every value has its code whatever stands beside it: all 2^32 fp32 inputs are
        tried.
    dtype : {"int8", "uint8"}, optional
        Of codes; the convention's usual one by default.
    inputs : array, or list of arrays, optional
        Try these values, or without `scale` these tensors, instead of all; the verdict is
        "inconclusive" at best.
    threads : int, optional
        How many call `fn` at once; as many as there are CPUs by default.
    budget_s : float, optional
        Stop after so many seconds. Finding names for faults may take as long again.
    progress : callable, optional
        Is told how many inputs are done, of how many.

    Returns
    -------
    QuantizerVerification
        NaN and Inf are judged where the convention defines their codes. Where it refuses them,
        `fn` is not called with them; they are counted.

        Whole-tensor quantisers are tried on tensors with all half steps between codes and their
        neighbours, at scales from the least subnormal to the largest value, on tensors of every
        length up to 67, zeros, constants, subnormals, ranges far from 0 or beyond the largest value
        and random ones. Passing these is no proof.

        A fault has a name only if a convention with that rule gives exactly the codes of `fn`, for
        all inputs, or for all of a kind: ties, values beyond the codes, ...

    Raises
    ------
    ValueError, TypeError
        The convention, scheme or dtype is unknown, or `fn` returns something else than codes.
        What `fn` raises in a sweep, or for every tensor.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> def mine(x):
    ...     return np.clip(np.trunc(x / np.float32(0.5)), -128, 127).astype(np.int8)
    >>> found = ff.verify_quantizer(mine, scale=0.5, inputs=np.linspace(-9, 9, 99, dtype="f4"))
    >>> found.verdict, found.faults[0].names
    ('refuted', ('truncates',))
    >>> def by_tensor(x):
    ...     return ff.absmax(x)
    >>> ff.verify_quantizer(by_tensor, scheme="absmax").verdict
    'inconclusive'
    """
    asked = plan(convention, scheme, scale=scale, dtype=dtype)
    if scale is None and zero_point is not None:
        raise TypeError("a zero_point goes with a scale; a scheme finds its own")
    began = time.monotonic()
    if scale is None:
        report = verify_tensors(fn, asked, inputs, budget_s, progress)
    else:
        given = Given(fn, asked, asked.given(scale, zero_point), scale, zero_point)
        report = verify_values(given, inputs, Run(threads, budget_s, None, progress))
    return QuantizerVerification(
        convention=asked.row,
        scheme=asked.scheme.name,
        dtype=asked.dtype,
        scale=None if scale is None else float(scale),
        zero_point=None if scale is None else int(zero_point or 0),
        **report,
        seconds=time.monotonic() - began,
    )
