"""Quantisation schemes, a row each: what the codes are, what shares a scale, how it is stored.

`find` gives a row by its name; `parse` turns the names that the command line and `ff.compare` take,
such as ``"int4_absmax_block32"``, into the options of `ff.quantize`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .codebooks import DYNAMIC8, FP4, NF4
from .elements import Codebook, Elements
from .formats import Format, format, formats, nearest_names

__all__ = ["POWER_RULES", "SCHEMES", "Scheme", "find", "named", "parse"]

#: How a power-of-two scale follows from the largest magnitude; `exact.power_scale` defines them.
POWER_RULES = ("floor", "ceil", "even", "rceil")


class Scheme(NamedTuple):
    """What a name stands for.

    Attributes
    ----------
    name : str
        As `ff.quantize` takes it.
    about : str
        What it is, in a line.
    elements : Format, Codebook or None
        What codes stand for; None for integers of as many bits as one likes.
    spread : str
        What the scale follows from: ``"amax"``, the largest magnitude, or ``"range"``, the least
        and the greatest value.
    block : int or None
        Values that share a scale.
    flat : bool
        Whether blocks run through the values in C order, whatever the shape.
    scale_format : str or None
        Of the stored scale; None is fp64 for fp64 values, else fp32.
    power_rule : str or None
        One of `POWER_RULES`, for scales that are powers of two.
    two_level : bool
        Whether scales are stored as parts of one scale for the tensor, as NVFP4 does.
    """

    name: str
    about: str
    elements: Format | Codebook | None = None
    spread: str = "amax"
    block: int | None = None
    flat: bool = False
    scale_format: str | None = None
    power_rule: str | None = None
    two_level: bool = False

    @property
    def largest(self) -> float:
        """The magnitude that the largest one of a group becomes."""
        assert self.elements is not None
        if isinstance(self.elements, Format):
            return float(self.elements.max_finite)
        return self.elements.largest


def _microscaling(name: str, element: str, about: str) -> Scheme:
    return Scheme(
        name, about, format(element), block=32, scale_format="fp8_e8m0fnu", power_rule="floor"
    )


_MX = "OCP Microscaling v1.0: blocks of 32, scales that are powers of two"
SCHEMES = {
    row.name: row
    for row in (
        Scheme("absmax", "symmetric integers: the largest magnitude becomes the largest code"),
        Scheme("zeropoint", "integers from the least to the greatest value", spread="range"),
        Scheme(
            "nf4",
            "NormalFloat4 of QLoRA: quantiles of a normal distribution, in blocks of 64",
            Codebook(NF4, "nf4"),
            block=64,
            flat=True,
        ),
        Scheme(
            "fp4",
            "the FP4 table of bitsandbytes, in blocks of 64",
            Codebook(FP4, "fp4"),
            block=64,
            flat=True,
        ),
        Scheme(
            "dynamic8",
            "the dynamic 8-bit map of bitsandbytes, in blocks of 4096",
            Codebook(DYNAMIC8, "dynamic8"),
            block=4096,
            flat=True,
        ),
        _microscaling("mxfp8_e4m3fn", "fp8_e4m3fn", _MX),
        _microscaling("mxfp8_e5m2", "fp8_e5m2", _MX),
        _microscaling("mxfp6_e2m3fn", "fp6_e2m3fn", _MX),
        _microscaling("mxfp6_e3m2fn", "fp6_e3m2fn", _MX),
        _microscaling("mxfp4", "fp4_e2m1fn", _MX),
        _microscaling("mxint8", "mxint8", _MX),
        Scheme(
            "nvfp4",
            "E2M1 in blocks of 16; scales are E4M3 times one fp32 scale for the tensor",
            format("fp4_e2m1fn"),
            block=16,
            scale_format="fp8_e4m3fn",
            two_level=True,
        ),
        Scheme(
            "fp8_e4m3fn", "E4M3 by a scale: the largest magnitude becomes 448", format("fp8_e4m3fn")
        ),
        Scheme(
            "fp8_e5m2", "E5M2 by a scale: the largest magnitude becomes 57344", format("fp8_e5m2")
        ),
    )
}


def find(which: str | Elements) -> Scheme:
    """Return the scheme called `which`, or one of a format's or codebook's own values.

    Raises
    ------
    TypeError, ValueError
        There is no such scheme.
    """
    if isinstance(which, str) and which in SCHEMES:
        return SCHEMES[which]
    if isinstance(which, Codebook):
        return Scheme(which.name, "a codebook", which)
    if isinstance(which, Format):
        return _of_format(which)
    if not isinstance(which, str):
        raise TypeError(f"a scheme is a name, a Codebook or a Format, got {which!r}; {_known()}")
    try:
        fmt = format(which)
    except ValueError:
        raise ValueError(
            f"no scheme is called {which!r}; {nearest_names(which, SCHEMES)}{_known()}"
        ) from None
    return _of_format(fmt)


def _known() -> str:
    return f"there are {', '.join(SCHEMES)}, and every float format of at most 8 bits"


def _is_plain_integer(fmt: Format) -> bool:
    return fmt.is_integer and fmt.min_positive == 1


def _is_element(fmt: Format) -> bool:
    return fmt.bits <= 8 and fmt.signed and fmt.zero and not _is_plain_integer(fmt)


def _of_format(fmt: Format) -> Scheme:
    """Return a scheme of a format's values."""
    if not _is_element(fmt):
        if not _is_plain_integer(fmt):
            hint = "ff.encode casts to it without a scale"
        elif fmt.signed:
            hint = f"for integers: 'absmax' with bits={fmt.bits}"
        else:
            hint = f"for integers: 'zeropoint' with bits={fmt.bits}, signed=False"
        raise ValueError(
            f"{fmt} is no format to quantise to: one of at most 8 bits, with signs; {hint}"
        )
    return Scheme(fmt.name, f"{fmt.name} by a scale", fmt)


# --- names on the command line ------------------------------------------------------------------

_INTEGER = r"(u?)int([2-8])(?:_(absmax|zeropoint|asymmetric))?"
#: What may follow a scheme's name, and the options it stands for.
_SUFFIXES: dict[str, Callable[[re.Match[str]], dict[str, Any]]] = {
    r"row": lambda _: {"axis": 0},
    r"block(\d+)": lambda found: {"block": int(found[1])},
    r"scaled": lambda _: {},
    r"double": lambda _: {"double_quantization": True},
    r"(floor|ceil|even|rceil)": lambda found: {"scale_rule": found[1]},
    r"(mse)": lambda found: {"clip": "mse"},
    r"p(\d+(?:\.\d+)?)": lambda found: {"clip": float(found[1])},
    r"(bf16|fp16|e8m0)scale": lambda found: {"scale_dtype": found[1]},
}
EXAMPLES = (
    *("int8", "int8_absmax_row", "int8_zeropoint", "int4_block32", "uint4_asymmetric_block64"),
    *("nf4", "nf4_double", "fp4", "dynamic8", "mxfp4", "mxfp4_rceil", "nvfp4", "fp8_e4m3fn_scaled"),
)


def parse(name: str) -> dict[str, Any]:
    """Return the options of `ff.quantize` that a name stands for.

    A name is ``int`` or ``uint`` with a number of bits, perhaps with ``_absmax`` (usual for int),
    ``_zeropoint``, or ``_asymmetric`` (usual for uint: zeropoint of a range that holds 0); or a
    scheme's or format's name; then what is to differ: ``_row`` (a scale for every index of
    axis 0), ``_block32``, ``_double`` (double quantisation), ``_floor``, ``_ceil``, ``_even`` or
    ``_rceil`` (the rule for power-of-two scales), ``_mse`` or ``_p99.9`` (clipping),
    ``_bf16scale``, ``_fp16scale`` or ``_e8m0scale``; or nothing, ``_scaled``.

    Raises
    ------
    ValueError
        The name is not understood.

    Examples
    --------
    >>> parse("int4_block32")
    {'scheme': 'absmax', 'bits': 4, 'signed': True, 'block': 32}
    >>> parse("mxfp4_rceil")
    {'scheme': 'mxfp4', 'scale_rule': 'rceil'}
    """
    whole = name.strip().lower()
    integer = re.match(_INTEGER, whole)
    options: dict[str, Any]
    if integer:
        head, options = integer[0], _integer_options(integer)
    else:
        heads = (*SCHEMES, *(fmt.name for fmt in formats() if _is_element(fmt)))
        head = max((h for h in heads if whole.startswith(h)), key=len, default="")
        options = {"scheme": head}
    rest = whole.removeprefix(head)
    # "absmax" alone is no row of a table: it needs its bits.
    understood = head not in ("", "absmax", "zeropoint") and (not rest or rest[0] == "_")
    for suffix in rest[1:].split("_") if rest else ():
        found = [(re.fullmatch(p, suffix), make) for p, make in _SUFFIXES.items()]
        more = [make(match) for match, make in found if match]
        understood = understood and bool(more) and not (more[0].keys() & options.keys())
        options |= more[0] if more else {}
    if not understood:
        nearest = nearest_names(whole, EXAMPLES)
        raise ValueError(
            f"no scheme is called {name!r}; {nearest}names are such as {', '.join(EXAMPLES)}"
        )
    return options


def _integer_options(found: re.Match[str]) -> dict[str, Any]:
    unsigned, bits, kind = found.groups()
    kind = kind or ("asymmetric" if unsigned else "absmax")
    options = {
        "scheme": "absmax" if kind == "absmax" else "zeropoint",
        "bits": int(bits),
        "signed": not unsigned,
    }
    return options | ({"include_zero": True} if kind == "asymmetric" else {})


def named(name: str) -> bool:
    """Return whether `parse` understands a name."""
    try:
        parse(name)
    except ValueError:
        return False
    return True
