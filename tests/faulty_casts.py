"""A catalogue of casts that are wrong, and what the auditor has to say of each.

They are written in bits and NumPy arithmetic, apart from the auditor's own profiles. Those from
fp16 to fp8_e5m2 are what careless code does from fp32 to bf16: as many exponent bits, fewer
fraction bits; but all their inputs are tried in a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import floatfmt as ff

INFINITY = 0x7C00
QUIET = 0x7E


def bits(x: np.ndarray) -> np.ndarray:
    """The codes of fp16 values, with room to carry."""
    return x.view(np.uint16).astype(np.uint32)


def right(x: np.ndarray) -> np.ndarray:
    """fp16 to fp8_e5m2: nearest even, written down once more."""
    b = bits(x)
    rounded = (b + 0x7F + (b >> 8 & 1)) >> 8
    return np.where(np.isnan(x), b >> 8 | QUIET, rounded).astype(np.uint8)


def but(where: Callable[[np.ndarray], np.ndarray], code: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The right cast, except where something holds of the values."""

    def cast(x: np.ndarray) -> np.ndarray:
        return np.where(where(x), code(x) if callable(code) else code, right(x)).astype(np.uint8)

    return cast


def sign(x: np.ndarray) -> np.ndarray:
    return (bits(x) >> 15 << 7).astype(np.uint8)


def guarded(x: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), bits(x) >> 8 | QUIET, rounded).astype(np.uint8)


def size(x: np.ndarray) -> np.ndarray:
    return np.abs(x.astype(np.float32))


def truncates(x: np.ndarray) -> np.ndarray:
    return (bits(x) >> 8).astype(np.uint8)


def ties_away(x: np.ndarray) -> np.ndarray:
    return guarded(x, (bits(x) + 0x80) >> 8)


def ties_to_odd(x: np.ndarray) -> np.ndarray:
    b = bits(x)
    return guarded(x, (b + 0x80 - (b >> 8 & 1)) >> 8)


def ties_up(x: np.ndarray) -> np.ndarray:
    b = bits(x)
    return guarded(x, (b + 0x80 - (b >> 15)) >> 8)


def ties_toward_zero(x: np.ndarray) -> np.ndarray:
    return guarded(x, (bits(x) + 0x7F) >> 8)


def rounds_up(x: np.ndarray) -> np.ndarray:
    b = bits(x)
    return guarded(x, np.where(b >> 15, b, b + 0xFF) >> 8)


def away_from_zero(x: np.ndarray) -> np.ndarray:
    return guarded(x, (bits(x) + 0xFF) >> 8)


def nan_carries(x: np.ndarray) -> np.ndarray:
    b = bits(x)
    return (b + 0x7F + (b >> 8 & 1) >> 8).astype(np.uint8)


def overflows_at_max(x: np.ndarray) -> np.ndarray:
    return but(lambda x: (size(x) > 57344) & ~np.isnan(x), lambda x: sign(x) | 0x7C)(x)


def wraps(x: np.ndarray) -> np.ndarray:
    """fp32 to fp8_e4m3fn whose exponent is cut to four bits."""
    wide = ff.Format("wide", 5, 3, 7, infinity=False, nan=None)
    codes = ff.encode(x, wide, nan="zero")
    cut = codes & 0x7F | (codes >> 8 << 7)
    fine = ff.encode(x, "fp8_e4m3fn")
    beyond = (np.abs(x) >= 464.0001) & np.isfinite(x)
    return np.where(beyond, cut, fine).astype(np.uint8)


def off_by_one_exponent(x: np.ndarray) -> np.ndarray:
    codes = right(x)
    finite = np.isfinite(x) & (codes & 0x7F != 0) & (size(x) < 2**14) & (size(x) > 2**-13)
    return np.where(finite, codes + 4, codes).astype(np.uint8)


def rounds_subnormals_twice(x: np.ndarray) -> np.ndarray:
    """To three significant bits first, then to the subnormals' spacing."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        significand, exponent = np.frexp(wide)
        once = np.ldexp(np.rint(significand * 8), exponent - 3)
        twice = np.rint(once * 2.0**16).astype(np.int64)
    tiny = (size(x) < 2**-14) & (size(x) > 0)
    return np.where(tiny, np.abs(np.nan_to_num(twice)) | sign(x), right(x)).astype(np.uint8)


def through_fp16(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return right(x.astype(np.float16))


def changes_its_input(x: np.ndarray) -> np.ndarray:
    codes = truncates(x)
    x[...] = 1
    return codes


def wrong_in_the_tail(x: np.ndarray) -> np.ndarray:
    codes, body = right(x), x.size // 8 * 8
    codes[body:] = truncates(x[body:])
    return codes


def wrong_in_one_lane(x: np.ndarray) -> np.ndarray:
    codes = right(x)
    codes[3::16] = truncates(x[3::16])
    return codes


def refuses_nan(x: np.ndarray) -> np.ndarray:
    if np.isnan(x).any():
        raise ValueError("no NaN, please")
    return right(x)


def refuses_one(x: np.ndarray) -> np.ndarray:
    if (x == 1.25).any():
        raise ZeroDivisionError
    return right(x)


class Faulty(NamedTuple):
    """A wrong cast.

    Attributes
    ----------
    names : tuple
        The faults that have to be named, each of them.
    exact : str or None
        The profile that it follows on every input, in words; None if it follows none.
    options : dict
        Of verify.
    """

    cast: Callable[[np.ndarray], Any]
    names: tuple[str, ...]
    exact: str | None
    source: str = "fp16"
    target: str = "fp8_e5m2"
    options: dict[str, Any] = {}  # noqa: RUF012


EVEN = "nearest_even"
#: A label each.
FAULTY = {
    "truncation": Faulty(
        truncates,
        ("truncates instead of rounding to nearest", "NaN becomes Inf"),
        "toward_zero, NaN payloads cut off",
    ),
    "ties away": Faulty(ties_away, ("ties away from zero",), "nearest_away"),
    "ties to odd": Faulty(ties_to_odd, ("ties to odd",), "ties_to_odd"),
    "ties up": Faulty(ties_up, ("ties up",), "ties_up"),
    "ties toward zero": Faulty(ties_toward_zero, ("ties toward zero",), "ties_toward_zero"),
    "rounds up": Faulty(rounds_up, ("rounds up",), "toward_positive"),
    "away from zero": Faulty(away_from_zero, ("rounds away from zero",), "away_from_zero"),
    "half up on the magnitude, NaN too": Faulty(
        lambda x: ((bits(x) + 0x80) >> 8).astype(np.uint8),
        ("ties away from zero", "NaN becomes Inf", "NaN becomes -0"),
        None,
    ),
    "NaN carried": Faulty(
        nan_carries, ("NaN becomes Inf", "NaN becomes -0"), f"{EVEN}, NaN payloads rounded"
    ),
    "NaN to Inf": Faulty(
        but(np.isnan, lambda x: sign(x) | 0x7C),
        ("NaN becomes Inf",),
        f"{EVEN}, NaN becomes inf and -inf",
    ),
    "NaN to zero": Faulty(but(np.isnan, 0), ("NaN becomes 0",), f"{EVEN}, NaN becomes zero"),
    "Inf to NaN": Faulty(but(np.isinf, QUIET), ("Inf becomes NaN",), f"{EVEN}, Inf becomes NaN"),
    "subnormals flushed": Faulty(
        but(lambda x: (right(x) & 0x7F < 4) & ~np.isnan(x), sign),
        ("flushes subnormals",),
        f"{EVEN}, subnormals flushed",
    ),
    "the wrong boundary of subnormals": Faulty(
        but(lambda x: size(x) < 2**-14, sign),
        ("flushes what lies below the smallest normal value",),
        f"{EVEN}, what lies below the smallest normal value flushed",
    ),
    "subnormal inputs flushed": Faulty(
        lambda x: ff.encode(np.where(size(x) < 2.0**-14, x * np.float16(0), x), "bf16"),
        ("flushes subnormal inputs",),
        f"{EVEN}, subnormal inputs flushed",
        target="bf16",
    ),
    "subnormals truncated": Faulty(
        but(lambda x: size(x) < 2**-14, truncates),
        ("truncates subnormals",),
        f"{EVEN}, subnormals truncated",
    ),
    "subnormals rounded twice": Faulty(
        rounds_subnormals_twice,
        ("rounds subnormals twice, first as if they were normal",),
        f"{EVEN}, subnormals rounded twice",
    ),
    "overflow at the largest value": Faulty(
        overflows_at_max,
        ("overflow threshold at max instead of max + half ulp",),
        f"{EVEN}, overflow beyond the largest value, not half an ulp above it",
    ),
    "saturation": Faulty(
        but(lambda x: (right(x) & 0x7F) == 0x7C, lambda x: sign(x) | 0x7B),
        ("saturates", "Inf saturates"),
        f"{EVEN}, saturating",
    ),
    "saturation, Inf kept": Faulty(
        but(lambda x: ((right(x) & 0x7F) == 0x7C) & ~np.isinf(x), lambda x: sign(x) | 0x7B),
        ("saturates",),
        f"{EVEN}, saturating, Inf stays Inf",
    ),
    "no saturation": Faulty(
        right, ("overflows instead of saturating",), EVEN, options={"overflow": "saturate"}
    ),
    "no overflow": Faulty(
        wraps,
        ("no overflow: wraps around beyond the range",),
        None,
        "fp32",
        "fp8_e4m3fn",
        {"budget_s": 0.3, "threads": 1},
    ),
    "the sign of zero lost": Faulty(
        but(lambda x: x == 0, 0), ("loses the sign of zero",), f"{EVEN}, zeros become 0"
    ),
    "the sign dropped": Faulty(
        lambda x: right(np.abs(x)), ("drops the sign",), f"{EVEN}, the sign dropped"
    ),
    "double rounding through fp32": Faulty(
        lambda x: x.astype(np.float32).astype(ml_dtypes.bfloat16),
        ("double-rounds through fp32",),
        f"{EVEN}, through fp32, NaN payloads dropped",
        "fp64",
        "bf16",
        {"random": 1 << 16},
    ),
    "double rounding through fp16": Faulty(
        through_fp16,
        ("double-rounds through fp16",),
        f"{EVEN}, through fp16",
        "fp32",
        "fp8_e5m2",
        {"budget_s": 0.3, "threads": 1},
    ),
    "an exponent off by one": Faulty(off_by_one_exponent, ("the exponent is off by one",), None),
    "negative numbers truncated": Faulty(
        but(lambda x: (bits(x) >> 15 != 0) & ~np.isnan(x), truncates),
        ("truncates instead of rounding to nearest",),
        None,
    ),
    "one bad input": Faulty(
        lambda x: np.where(bits(x) == 0x5A37, 0x11, right(x)).astype(np.uint8),
        ("another number",),
        None,
    ),
    "wrong in a vector's tail": Faulty(wrong_in_the_tail, (), None),
    "wrong in one lane": Faulty(
        wrong_in_one_lane, ("truncates instead of rounding to nearest",), None
    ),
    "NaN refused": Faulty(refuses_nan, ("raises ValueError",), None),
    "one input refused": Faulty(refuses_one, ("raises ZeroDivisionError",), None),
    "not rounded at all": Faulty(lambda x: x, ("gives what fp8_e5m2 does not have",), None),
    "codes of nine bits": Faulty(
        lambda x: right(x).astype(np.int64) + 256 * (x == 3),
        ("gives what fp8_e5m2 does not have",),
        None,
    ),
    "signalling NaNs kept": Faulty(
        lambda x: np.where(np.isnan(x) & (bits(x) & 0x0100 != 0), truncates(x), right(x)),
        ("a signalling NaN stays signalling",),
        None,
        options={"nan": "quiet"},
    ),
    "NaN payloads dropped": Faulty(
        but(np.isnan, lambda x: sign(x) | QUIET),
        ("NaN payload differs",),
        f"{EVEN}, NaN payloads dropped",
        options={"nan": "exact"},
    ),
    "NaN signs dropped": Faulty(
        but(np.isnan, lambda x: right(x) & 0x7F),
        ("NaN loses its sign",),
        None,
        options={"nan": "exact"},
    ),
    "its input changed": Faulty(
        changes_its_input,
        ("truncates instead of rounding to nearest", "NaN becomes Inf"),
        "toward_zero, NaN payloads cut off",
    ),
}
