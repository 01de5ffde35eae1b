"""See every bit, prove every rounding, measure every format.

Take numbers apart (`inspect`, `decompose`), round them (`encode`, `decode`, `round_to`), quantise
them (`quantize`, `absmax`, `zeropoint`), on a C kernel that a NumPy reference checks bit for bit.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .arrays import astype, decode, encode, round_to
from .backends import NativeMissingWarning, available_backends, use_backend, use_threads
from .elements import Codebook
from .formats import Format, format, formats, p3109
from .packing import pack, unpack
from .rounding import Rounding, rounding_mode

if TYPE_CHECKING:
    from . import exact
    from .audit.compatibility import Compatibility, compatibility
    from .audit.convention_diff import ConventionDiff, diff_conventions
    from .audit.quantizers import QuantizerVerification, verify_quantizer
    from .audit.report import Difference, Fault, Identification, Verification
    from .audit.verify import assert_cast_correct, diff, identify, verify
    from .checkpoint_conversion import (
        CheckpointConversion,
        dequantize_checkpoint,
        quantize_checkpoint,
    )
    from .comparison import Comparison, compare
    from .convention import Convention, Conventions, conventions
    from .diagnosis import Diagnosis, doctor
    from .explanation import Explanation
    from .exports import OnnxValues, to_onnx, to_torch
    from .fields import Category, Fields, compose, decompose
    from .grid import (
        assert_max_ulp,
        next_down,
        next_up,
        representable,
        spacing,
        ulp_distance,
        values,
    )
    from .inspection import Inspection, inspect
    from .llm_int8 import LLMInt8, ThresholdSweep, llm_int8_matmul, sweep_threshold
    from .measurement import Measurement, measure
    from .metrics import Error, Errors, error
    from .quantization import absmax, quantize, zeropoint
    from .quantized import Quantized
    from .quantized_file import load_quantized, save_quantized
    from .rounding_chain import DoubleRounding, double_rounding
    from .survey import Survey, round_all
    from .usage import CodeUsage, code_usage

__version__ = "0.1.0"

#: Modules and what they offer, loaded when it is asked for, as they would take most of the import's
#: time. None is called as what it offers, which it would hide.
_LATER = {
    "audit.compatibility": ("Compatibility", "compatibility"),
    "audit.convention_diff": ("ConventionDiff", "diff_conventions"),
    "audit.quantizers": ("QuantizerVerification", "verify_quantizer"),
    "audit.report": ("Difference", "Fault", "Identification", "Verification"),
    "audit.verify": ("assert_cast_correct", "diff", "identify", "verify"),
    "checkpoint_conversion": (
        *("CheckpointConversion", "dequantize_checkpoint", "quantize_checkpoint"),
    ),
    "comparison": ("Comparison", "compare"),
    "convention": ("Convention", "Conventions", "conventions"),
    "diagnosis": ("Diagnosis", "doctor"),
    "explanation": ("Explanation",),
    "exports": ("OnnxValues", "to_onnx", "to_torch"),
    "fields": ("Category", "Fields", "compose", "decompose"),
    "grid": (
        *("assert_max_ulp", "next_down", "next_up", "representable", "spacing", "ulp_distance"),
        "values",
    ),
    "inspection": ("Inspection", "inspect"),
    "llm_int8": ("LLMInt8", "ThresholdSweep", "llm_int8_matmul", "sweep_threshold"),
    "measurement": ("Measurement", "measure"),
    "metrics": ("Error", "Errors", "error"),
    "quantization": ("absmax", "quantize", "zeropoint"),
    "quantized": ("Quantized",),
    "quantized_file": ("load_quantized", "save_quantized"),
    "rounding_chain": ("DoubleRounding", "double_rounding"),
    "survey": ("Survey", "round_all"),
    "usage": ("CodeUsage", "code_usage"),
}

__all__ = [
    "Category",
    "CheckpointConversion",
    "CodeUsage",
    "Codebook",
    "Comparison",
    "Compatibility",
    "Convention",
    "ConventionDiff",
    "Conventions",
    "Diagnosis",
    "Difference",
    "DoubleRounding",
    "Error",
    "Errors",
    "Explanation",
    "Fault",
    "Fields",
    "Format",
    "Identification",
    "Inspection",
    "LLMInt8",
    "Measurement",
    "NativeMissingWarning",
    "OnnxValues",
    "Quantized",
    "QuantizerVerification",
    "Rounding",
    "Survey",
    "ThresholdSweep",
    "Verification",
    "absmax",
    "assert_cast_correct",
    "assert_max_ulp",
    "astype",
    "available_backends",
    "code_usage",
    "compare",
    "compatibility",
    "compose",
    "conventions",
    "decode",
    "decompose",
    "dequantize_checkpoint",
    "diff",
    "diff_conventions",
    "doctor",
    "double_rounding",
    "encode",
    "error",
    "exact",
    "format",
    "formats",
    "identify",
    "inspect",
    "llm_int8_matmul",
    "load_quantized",
    "measure",
    "next_down",
    "next_up",
    "p3109",
    "pack",
    "quantize",
    "quantize_checkpoint",
    "representable",
    "round_all",
    "round_to",
    "rounding_mode",
    "save_quantized",
    "spacing",
    "sweep_threshold",
    "to_onnx",
    "to_torch",
    "ulp_distance",
    "unpack",
    "use_backend",
    "use_threads",
    "values",
    "verify",
    "verify_quantizer",
    "zeropoint",
]


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = found  # not asked for again
            return found
    if name in ("exact", "experiment"):  # modules, of which the last needs torch, takes seconds
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
