"""See every bit, prove every rounding, measure every format.

Take numbers apart (`inspect`, `decompose`), round them (`encode`, `decode`, `round_to`), quantise
them (`quantize`, `absmax`, `zeropoint`), on a C kernel that a NumPy reference checks bit for bit.
"""

from .arrays import Category, Fields, compose, decode, decompose, encode, round_to
from .backends import NativeMissingWarning, available_backends, use_backend
from . import exact
from .formats import Format, format, formats
from .inspection import Inspection, inspect
from .quantize import Quantized, absmax, quantize, zeropoint

__version__ = "0.1.0"

__all__ = [
    "Category",
    "Fields",
    "Format",
    "Inspection",
    "NativeMissingWarning",
    "Quantized",
    "absmax",
    "available_backends",
    "compose",
    "decode",
    "decompose",
    "encode",
    "format",
    "formats",
    "inspect",
    "quantize",
    "round_to",
    "use_backend",
    "zeropoint",
]
