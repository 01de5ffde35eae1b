"""See every bit, prove every rounding, measure every format.

Take numbers apart (`inspect`, `decompose`), round them (`encode`, `decode`, `round_to`), quantise
them (`quantize`, `absmax`, `zeropoint`), on a C kernel that a NumPy reference checks bit for bit.
"""

from . import exact
from .arrays import astype, decode, encode, round_to
from .audit.convention_diff import ConventionDiff, diff_conventions
from .audit.quantizers import QuantizerVerification, verify_quantizer
from .backends import NativeMissingWarning, available_backends, use_backend
from .compare import Comparison, compare
from .conventions import Convention, conventions
from .double_rounding import DoubleRounding, double_rounding
from .explanation import Explanation
from .fields import Category, Fields, compose, decompose
from .formats import Format, format, formats, p3109
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
from .metrics import Error, error
from .packing import pack, unpack
from .quantize import Quantized, absmax, quantize, zeropoint
from .rounding import Rounding, rounding_mode
from .survey import Survey, round_all

__version__ = "0.1.0"

__all__ = [
    "Category",
    "Comparison",
    "Convention",
    "ConventionDiff",
    "DoubleRounding",
    "Error",
    "Explanation",
    "Fields",
    "Format",
    "Inspection",
    "NativeMissingWarning",
    "Quantized",
    "QuantizerVerification",
    "Rounding",
    "Survey",
    "absmax",
    "assert_max_ulp",
    "astype",
    "available_backends",
    "compare",
    "compose",
    "conventions",
    "decode",
    "decompose",
    "diff_conventions",
    "double_rounding",
    "encode",
    "error",
    "exact",
    "format",
    "formats",
    "inspect",
    "next_down",
    "next_up",
    "p3109",
    "pack",
    "quantize",
    "representable",
    "round_all",
    "round_to",
    "rounding_mode",
    "spacing",
    "ulp_distance",
    "unpack",
    "use_backend",
    "values",
    "verify_quantizer",
    "zeropoint",
]
