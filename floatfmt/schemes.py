"""Schemes by name, as files and the command line call them."""

from __future__ import annotations

from typing import Any

__all__ = ["parse"]

_SCHEMES: dict[str, dict[str, Any]] = {
    "int8": {"scheme": "absmax"},
    "int8_absmax": {"scheme": "absmax"},
    "int8_zeropoint": {"scheme": "zeropoint"},
    "int8_absmax_row": {"scheme": "absmax", "axis": 0},
    "int8_zeropoint_row": {"scheme": "zeropoint", "axis": 0},
}


def parse(name: str) -> dict[str, Any]:
    """Return the options of ``ff.quantize`` that a scheme's name stands for.

    Examples
    --------
    >>> from floatfmt.schemes import parse
    >>> parse("int8_absmax_row")
    {'scheme': 'absmax', 'axis': 0}
    """
    if name not in _SCHEMES:
        raise ValueError(f"no scheme is called {name!r}; there are {', '.join(_SCHEMES)}")
    return dict(_SCHEMES[name])
