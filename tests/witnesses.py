"""What other implementations say of the same conversions, and why wherever they say otherwise.

``python tests/witnesses.py`` prints them as a table. A disagreement counts as understood when
floatfmt, told to do what the cause says (to round through fp32 first, to saturate, to send ties
away from zero), gives the witness's own code; what no cause explains is listed as such, and fails
`test_witnesses.py`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import itertools
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import torch

import floatfmt as ff
from floatfmt.audit.casts import gfloat_format
from probes import p3109_formats, probes

UNEXPLAINED = "unexplained"
REFUSED = -1  # in place of a code: the conversion is an error
#: Random patterns a pair of source and target, beside every point where the rounding changes.
RANDOM = 1 << 20

FORMATS = {fmt.name: fmt for fmt in ff.formats()}


# --- floatfmt's side ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """One conversion as floatfmt does it, and what a cause has changed about it."""

    x: np.ndarray
    target: ff.Format
    options: dict[str, str]
    corrections: tuple[Callable[[Cast, np.ndarray], np.ndarray], ...] = ()

    def codes(self) -> np.ndarray:
        """The codes as int64; REFUSED where floatfmt raises an error."""
        codes = np.full(self.x.shape, REFUSED, np.int64)
        fine = ~np.isnan(self.x) if self.target.nan is None else np.ones(self.x.shape, np.bool_)
        codes[fine] = ff.encode(self.x[fine], self.target, **self.options)
        for correct in self.corrections:
            codes = correct(self, codes)
        return codes

    def told(self, **options: str) -> Cast:
        return replace(self, options={**self.options, **options})

    def of(self, x: np.ndarray) -> Cast:
        return replace(self, x=x)

    def but(self, correct: Callable[[Cast, np.ndarray], np.ndarray]) -> Cast:
        return replace(self, corrections=(*self.corrections, correct))


class Cause(NamedTuple):
    """What a witness does differently.

    Confirmed where the conversion that `change` makes of floatfmt's gives the witness's code; or,
    where the witness's codes mean nothing, by what `holds` checks of ``(cast, theirs)``.
    """

    name: str
    change: Callable[[Cast], Cast] | None = None
    holds: Callable[[Cast, np.ndarray], np.ndarray] | None = None


def _through_fp32(cast: Cast) -> Cast:
    return cast.of(ff.round_to(cast.x, "fp32").astype(np.float32)) if cast.x.itemsize == 8 else cast


def _set(cast: Cast, where: Callable[[np.ndarray], np.ndarray], code: Any) -> Cast:
    """Put a code where the input satisfies `where`."""

    def correct(cast: Cast, codes: np.ndarray) -> np.ndarray:
        return np.where(where(cast.x), code(cast) if callable(code) else code, codes)

    return cast.but(correct)


def _sign(cast: Cast) -> np.ndarray:
    return np.signbit(cast.x).astype(np.int64) * cast.target.sign_bit


def _just_above_2_to_minus_127(x: np.ndarray) -> np.ndarray:
    return (x > 2.0**-127) & (x < 1.5 * 2.0**-127)


def _quiet_of_its_sign(cast: Cast) -> np.ndarray:
    assert cast.target.nan_code is not None
    return cast.target.nan_code | _sign(cast)


TWICE = Cause("rounds twice, through fp32", _through_fp32)
SATURATES = Cause("Inf and overflow saturate", lambda cast: cast.told(overflow="saturate"))
TIES_UP = Cause("ties go up", lambda cast: cast.told(rounding="nearest_away"))
SIGN_DROPPED = Cause("the sign is dropped", lambda cast: cast.of(np.abs(cast.x)))
ZERO_IS_LEAST = Cause("0 becomes 2⁻¹²⁷", lambda cast: _set(cast, lambda x: x == 0, 0))
NEAR_LEAST_UP = Cause(
    "just above 2⁻¹²⁷ becomes 2⁻¹²⁶", lambda cast: _set(cast, _just_above_2_to_minus_127, 1)
)
NAN_IS_ZERO = Cause(
    "NaN becomes a zero of the other sign (floatfmt: an error)",
    lambda cast: _set(cast, np.isnan, lambda cast: cast.target.sign_bit - _sign(cast)),
)
SIGNALLING_KEPT = Cause("a signalling NaN is kept", lambda cast: cast.told(nan="preserve"))
PAYLOAD_LOST = Cause(
    "a NaN's payload is lost", lambda cast: _set(cast, np.isnan, _quiet_of_its_sign)
)
OUTSIDE = Cause(
    "below the least value of an unsigned format: 0, or no code of the format",
    holds=lambda cast, theirs: (
        (not cast.target.signed)
        & (cast.x < float(cast.target.lowest))
        & ((theirs < 0) | (theirs >> cast.target.bits != 0) | (theirs == 0))
    ),
)
NAN_CAUSES = (SIGNALLING_KEPT, PAYLOAD_LOST)
NAN_DIFFERS = "a NaN's sign or payload differs"


# --- the witnesses ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """Another implementation.

    Attributes
    ----------
    encode : callable
        ``(x, target, options)`` to codes as int64, or REFUSED.
    pairs : tuple of (source, target)
    options : tuple of dict
        floatfmt's names for what the witness is asked to do.
    causes : tuple of Cause
        What it is suspected of.
    random : int
        How many random patterns, beside every point where the rounding changes.
    decode, decoded
        ``(codes, format)`` to values, and the formats that it is asked about.
    unavailable : str
        Why it cannot be asked here, if it cannot.
    """

    name: str
    encode: Callable[[np.ndarray, ff.Format, dict[str, str]], np.ndarray]
    pairs: tuple[tuple[ff.Format, ff.Format], ...]
    options: tuple[dict[str, str], ...] = ({},)
    causes: tuple[Cause, ...] = ()
    random: int = RANDOM
    decode: Callable[[np.ndarray, ff.Format], np.ndarray] | None = None
    decoded: tuple[ff.Format, ...] = ()
    unavailable: str = ""


#: Formats as wide as each other that hold different values.
SIDEWAYS = (("fp16", "bf16"), ("bf16", "fp16"))


def _pairs(sources: str, targets: str) -> tuple[tuple[ff.Format, ff.Format], ...]:
    return tuple(
        (FORMATS[source], FORMATS[target])
        for source in sources.split()
        for target in targets.split()
        if FORMATS[source].bits > FORMATS[target].bits or (source, target) in SIDEWAYS
    )


def _as_dtype(x: np.ndarray, target: ff.Format, options: dict[str, str]) -> np.ndarray:
    return x.astype(target.dtype).view(target.code_dtype).astype(np.int64)


def _from_dtype(codes: np.ndarray, fmt: ff.Format) -> np.ndarray:
    return codes.view(fmt.dtype).astype(fmt.value_dtype)


def _tensor(x: np.ndarray) -> torch.Tensor:
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _torch_dtype(fmt: ff.Format) -> torch.dtype:
    return getattr(torch, str(fmt.dtype))


def _torch(x: np.ndarray, target: ff.Format, options: dict[str, str]) -> np.ndarray:
    word = {8: torch.uint8, 16: torch.int16, 32: torch.int32}[target.bits]
    result = _tensor(x).to(_torch_dtype(target)).view(word).numpy()
    return result.view(target.code_dtype).astype(np.int64)


def _from_torch(codes: np.ndarray, fmt: ff.Format) -> np.ndarray:
    word = {1: np.uint8, 2: np.int16}[codes.itemsize]
    tensor = torch.from_numpy(codes.view(word)).view(_torch_dtype(fmt))
    return tensor.to(_torch_dtype(ff.format(fmt.value_dtype))).numpy()


GFLOAT_MODES = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "toward_positive": gfloat.RoundMode.TowardPositive,
    "toward_negative": gfloat.RoundMode.TowardNegative,
}
_GFLOAT_OWN = {
    "fp32": gfloat.formats.format_info_binary32,
    "fp16": gfloat.formats.format_info_binary16,
    "bf16": gfloat.formats.format_info_bfloat16,
    "fp8_e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "fp8_e5m2": gfloat.formats.format_info_ocp_e5m2,
    "fp8_e8m0fnu": gfloat.formats.format_info_ocp_e8m0,
    "fp6_e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "fp6_e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "fp4_e2m1fn": gfloat.formats.format_info_ocp_e2m1,
    "mxint8": gfloat.formats.format_info_ocp_int8,
}


def gfloat_info(fmt: ff.Format) -> gfloat.FormatInfo:
    """Return gfloat's own row where it has one, else one made of the same parameters."""
    if fmt.name in _GFLOAT_OWN:
        return _GFLOAT_OWN[fmt.name]
    if fmt.name.startswith("p3109_"):
        return gfloat.formats.format_info_p3109(
            fmt.bits,
            fmt.precision,
            gfloat.Signedness.Signed if fmt.signed else gfloat.Signedness.Unsigned,
            gfloat.Domain.Extended if fmt.infinity else gfloat.Domain.Finite,
        )
    return gfloat_format(fmt)


def _gfloat(x: np.ndarray, target: ff.Format, options: dict[str, str]) -> np.ndarray:
    info = gfloat_info(target)
    # It refuses a whole array for one value that has no code: NaN, where there is none.
    fine = ~np.isnan(x) if target.nan is None else np.ones(x.shape, np.bool_)
    codes = np.full(x.shape, REFUSED, np.int64)
    saturates = options["overflow"] == "saturate"
    with np.errstate(all="ignore"):
        mode = GFLOAT_MODES[options["rounding"]]
        rounded = gfloat.round_ndarray(info, x[fine], mode, sat=saturates)
        codes[fine] = gfloat.encode_ndarray(info, rounded).astype(np.int64)
    return codes


def _from_gfloat(codes: np.ndarray, fmt: ff.Format) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gfloat.decode_ndarray(gfloat_info(fmt), codes.astype(np.int64))


F16C_SOURCE = """
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#define ENCODE(name, mode) \\
    void name(const float *x, uint16_t *codes, size_t n) { \\
        for (size_t i = 0; i < n; i += 8) \\
            _mm_storeu_si128((__m128i *)(codes + i), \\
                             _mm256_cvtps_ph(_mm256_loadu_ps(x + i), mode)); \\
    }
ENCODE(nearest_even, _MM_FROUND_TO_NEAREST_INT)
ENCODE(toward_negative, _MM_FROUND_TO_NEG_INF)
ENCODE(toward_positive, _MM_FROUND_TO_POS_INF)
ENCODE(toward_zero, _MM_FROUND_TO_ZERO)
void decode(const uint16_t *codes, float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(x + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(codes + i))));
}
"""


@functools.cache
def f16c() -> ctypes.CDLL | str:
    """The instruction, eight values at a time; or why it cannot be asked."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "f16c" not in cpuinfo.read_text().split():
        return f"not asked: this CPU ({platform.machine()}) has no F16C, or does not say so"
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        return "not asked: no C compiler here"
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "f16c.c"), Path(folder, "f16c.so")
        source.write_text(F16C_SOURCE)
        command = [compiler, "-O2", "-mavx", "-mf16c", "-shared", "-fPIC"]
        subprocess.run([*command, source, "-o", library], check=True)
        return ctypes.CDLL(str(library))


def _call_f16c(name: str, x: np.ndarray, dtype: type) -> np.ndarray:
    library = f16c()
    assert not isinstance(library, str)
    whole = np.zeros(-(-x.size // 8) * 8, x.dtype)
    whole[: x.size] = x
    out = np.empty(whole.shape, dtype)
    call = getattr(library, name)
    call.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    call(whole.ctypes.data, out.ctypes.data, whole.size)
    return out[: x.size]


def _f16c(x: np.ndarray, target: ff.Format, options: dict[str, str]) -> np.ndarray:
    return _call_f16c(options["rounding"], x, np.uint16).astype(np.int64)


def _from_f16c(codes: np.ndarray, fmt: ff.Format) -> np.ndarray:
    return _call_f16c("decode", codes, np.float32)


GFLOAT = f"gfloat {importlib.metadata.version('gfloat')}"
ML_TARGETS = (
    "bf16 fp8_e4m3fn fp8_e4m3 fp8_e5m2 fp8_e4m3fnuz fp8_e5m2fnuz fp8_e4m3b11fnuz fp8_e3m4"
    " fp8_e8m0fnu fp6_e2m3fn fp6_e3m2fn fp4_e2m1fn"
)
TORCH = f"torch {torch.__version__.partition('+')[0]}"
TORCH_TARGETS = "fp32 fp16 bf16 fp8_e4m3fn fp8_e5m2 fp8_e4m3fnuz fp8_e5m2fnuz"
GFLOAT_TARGETS = " ".join(f.name for f in ff.formats() if f.bits <= 32)
GFLOAT_OPTIONS = tuple(
    {"rounding": mode, "overflow": overflow}
    for mode in GFLOAT_MODES
    for overflow in ("ieee", "saturate")
)


def _named(names: str) -> tuple[ff.Format, ...]:
    return tuple(FORMATS[name] for name in names.split())


WITNESSES = (
    Witness(
        f"NumPy {np.__version__}",
        _as_dtype,
        _pairs("fp64 fp32", "fp32 fp16"),
        causes=(SIGNALLING_KEPT,),
        decode=_from_dtype,
        decoded=_named("fp16"),
    ),
    Witness(
        f"ml_dtypes {ml_dtypes.__version__}",
        _as_dtype,
        _pairs("fp64 fp32 fp16 bf16", ML_TARGETS),
        causes=(TWICE, TIES_UP, NEAR_LEAST_UP, NAN_IS_ZERO, PAYLOAD_LOST),
        decode=_from_dtype,
        decoded=_named(f"{ML_TARGETS} int4 uint4 int2"),
    ),
    Witness(
        TORCH,
        _torch,
        _pairs("fp64 fp32 fp16 bf16", TORCH_TARGETS),
        causes=(TWICE, SATURATES),
        decode=_from_torch,
        decoded=_named(f"{TORCH_TARGETS} fp8_e8m0fnu".removeprefix("fp32 ")),
    ),
    Witness(
        TORCH,
        _torch,
        _pairs("fp64 fp32 fp16 bf16", "fp8_e8m0fnu"),
        causes=(SIGN_DROPPED, ZERO_IS_LEAST, TWICE, TIES_UP, NEAR_LEAST_UP),
    ),
    Witness(
        GFLOAT,
        _gfloat,
        _pairs("fp64 fp32", GFLOAT_TARGETS),
        GFLOAT_OPTIONS,
        causes=(ZERO_IS_LEAST, OUTSIDE),
        random=RANDOM >> 4,
        decode=_from_gfloat,
        decoded=_named(GFLOAT_TARGETS.replace("fp32 ", "")),
    ),
    Witness(
        GFLOAT,
        _gfloat,
        tuple((FORMATS[s], target) for s in ("fp64", "fp32") for target in p3109_formats()),
        GFLOAT_OPTIONS,
        causes=(OUTSIDE,),
        random=RANDOM >> 10,
        decode=_from_gfloat,
        decoded=p3109_formats(),
    ),
    Witness(
        "F16C, the instruction",
        _f16c,
        _pairs("fp32", "fp16"),
        tuple(
            {"rounding": mode}
            for mode in ("nearest_even", "toward_zero", "toward_positive", "toward_negative")
        ),
        decode=_from_f16c,
        decoded=_named("fp16"),
        unavailable=why if isinstance(why := f16c(), str) else "",
    ),
)


# --- comparing ----------------------------------------------------------------------------------


class Example(NamedTuple):
    """An input with both codes; of several the one nearest to 1."""

    source: ff.Format
    target: ff.Format
    x: Any
    ours: int
    theirs: int

    def __str__(self) -> str:
        bits = f"0x{int(np.asarray(self.x).view(self.source.code_dtype)):X}"
        x = bits if np.isnan(self.x) else f"{float(self.x)!r}, {bits},"
        ours = "an error" if self.ours == REFUSED else self._code(self.ours)
        return f"{x} into {self.target}: {ours}, theirs {self._code(self.theirs)}"

    def _code(self, code: int) -> str:
        return f"0x{code:0{-(-self.target.bits // 4)}X}" if code >= 0 else str(code)


@dataclass
class Row:
    """One witness on one conversion, or several merged."""

    witness: str
    what: str  # "encode" or "decode"
    pairs: list[tuple[str, str]]
    options: tuple[dict[str, str], ...]
    compared: int = 0
    agree: int = 0
    causes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[str, Example] = field(default_factory=dict)

    def add(self, other: Row) -> None:
        self.compared += other.compared
        self.agree += other.agree
        self.pairs += [pair for pair in other.pairs if pair not in self.pairs]
        for name, count in other.causes.items():
            self.causes[name] += count
            self.examples.setdefault(name, other.examples[name])


@functools.cache
def _nan_codes(fmt: ff.Format) -> np.ndarray:
    return np.array([ff.exact.category(code, fmt) == "nan" for code in range(2**fmt.bits)])


def _is_nan(codes: np.ndarray, fmt: ff.Format) -> np.ndarray:
    inside = (codes >= 0) & (codes >> fmt.bits == 0)
    if fmt.bits > 16:  # IEEE's layout
        return inside & (codes & fmt.magnitude_mask > (fmt.exponent_mask << fmt.fraction_bits))
    return inside & _nan_codes(fmt)[np.where(inside, codes, 0)]


def _combinations(causes: tuple[Cause, ...]) -> Iterator[tuple[Cause, ...]]:
    changes = tuple(cause for cause in causes if cause.change is not None)
    for size in (1, 2, 3):
        yield from itertools.combinations(changes, size)


def explain(cast: Cast, theirs: np.ndarray, causes: tuple[Cause, ...]) -> Iterator[tuple[str, int]]:
    """Yield (cause, index) of every element; the fewest causes that give the witness's code."""
    left = np.arange(theirs.size)
    for combination in _combinations(causes):
        if not left.size:
            return
        told = cast.of(cast.x[left])
        for cause in combination:
            assert cause.change is not None
            told = cause.change(told)
        codes = told.codes()
        same = codes == theirs[left]
        for cause in combination:
            yield from ((cause.name, index) for index in left[same].tolist())
        left = left[~same]
    for cause in causes:
        if cause.holds is not None:
            holds = cause.holds(cast.of(cast.x[left]), theirs[left])
            yield from ((cause.name, index) for index in left[holds].tolist())
            left = left[~holds]
    yield from ((UNEXPLAINED, index) for index in left.tolist())


def compare_encode(
    witness: Witness, source: ff.Format, target: ff.Format, options: dict[str, str], x: np.ndarray
) -> Row:
    """Compare every code; NaN by class, and once more by its bits."""
    row = Row(witness.name, "encode", [(source.name, target.name)], witness.options)
    cast = Cast(x, target, options)
    ours, theirs = cast.codes(), witness.encode(x, target, options)
    nan = _is_nan(ours, target) & _is_nan(theirs, target)
    differ = (ours != theirs) & ~nan
    row.compared, row.agree = x.size, x.size - int(differ.sum())
    value_causes = tuple(c for c in witness.causes if c not in NAN_CAUSES)
    nan_causes = tuple(c for c in witness.causes if c in NAN_CAUSES)
    for mask, causes in ((differ, value_causes), ((ours != theirs) & nan, nan_causes)):
        where = np.flatnonzero(mask)
        found = defaultdict(list)
        for name, index in explain(cast.of(x[where]), theirs[where], causes):
            found[NAN_DIFFERS if mask is not differ and name == UNEXPLAINED else name].append(index)
        for name, indices in found.items():
            i = where[indices[_nearest_to_one(x[where[indices]])]]
            row.causes[name] = len(indices)
            row.examples[name] = Example(source, target, x[i], int(ours[i]), int(theirs[i]))
    return row


def _nearest_to_one(x: np.ndarray) -> int:
    size = np.abs(x.astype(np.float64))
    distance = np.abs(np.log2(np.where(size > 0, size, 2.0**-1074)))
    return int(np.argmin(np.where(np.isnan(distance), np.inf, distance)))


def compare_decode(witness: Witness, fmt: ff.Format) -> Row:
    """Compare the value of every code; -0 is not 0, NaN by class."""
    assert witness.decode is not None
    row = Row(witness.name, "decode", [(fmt.name, "values")], ({},))
    codes = np.arange(1 << fmt.bits).astype(fmt.code_dtype)
    theirs = witness.decode(codes, fmt)
    ours = ff.decode(codes, fmt, dtype=theirs.dtype)
    nan = np.isnan(ours) & np.isnan(theirs)
    word = f"u{theirs.itemsize}"
    differ = (ours.view(word) != theirs.view(word)) & ~nan
    row.compared, row.agree = codes.size, codes.size - int(differ.sum())
    if differ.any():
        i = np.flatnonzero(differ)[0]
        row.causes[UNEXPLAINED] = int(differ.sum())
        row.examples[UNEXPLAINED] = Example(fmt, fmt, codes[i], 0, 0)
    return row


def _asked(witness: Witness, target: ff.Format) -> Iterator[dict[str, str]]:
    for options in witness.options:
        # gfloat refuses an array with one value beyond the ends of a format without Inf and NaN.
        if options.get("overflow") != "ieee" or not target.has_finite_codes_only:
            yield options


def compare(witness: Witness) -> Iterator[Row]:
    """One row a pair of source and target, all options added up; then one a decoded format."""
    if witness.unavailable:
        return
    for source, target in witness.pairs:
        x = probes(source, target, witness.random)
        with np.errstate(all="ignore"):
            rows = [compare_encode(witness, source, target, o, x) for o in _asked(witness, target)]
        for row in rows[1:]:
            rows[0].add(row)
        yield rows[0]
    for fmt in witness.decoded:
        with np.errstate(all="ignore"):
            yield compare_decode(witness, fmt)


@functools.cache
def all_rows() -> tuple[Row, ...]:
    """Every witness on every conversion; half a minute on one slow core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where a thread's share begins decides how NaNs come out
    try:
        return tuple(row for witness in WITNESSES for row in compare(witness))
    finally:
        torch.set_num_threads(threads)


# --- the table ----------------------------------------------------------------------------------


def merged(rows: tuple[Row, ...]) -> list[Row]:
    """Rows of one witness that differ from floatfmt for the same causes become one."""
    groups: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = (row.witness, row.what, len(row.options), frozenset(row.causes))
        empty = Row(row.witness, row.what, [], row.options)
        groups.setdefault(key, empty).add(row)
    return list(groups.values())


def _conversions(row: Row) -> str:
    if row.what == "decode":
        return f"every code of {_formats([source for source, _ in row.pairs])} → its value"
    targets = defaultdict(list)
    for source, target in row.pairs:
        targets[source].append(target)
    every = max(targets.values(), key=len)
    sources = defaultdict(list)
    for source, names in targets.items():
        # A source that is itself one of the targets is listed with the others.
        others = [name for name in every if name != source]
        sources[tuple(every if names == others else names)].append(source)
    text = "; ".join(f"{', '.join(names)} → {_formats(list(t))}" for t, names in sources.items())
    modes = ", ".join(dict.fromkeys(o["rounding"] for o in row.options if o))
    if modes:
        text += f"; {modes.replace(', '.join(TOWARD), 'toward_*')}"
    if any("overflow" in o for o in row.options):
        text += "; saturating and not"
    return text


TOWARD = ("toward_zero", "toward_positive", "toward_negative")


def _formats(names: list[str]) -> str:
    listed = [name for name in names if not name.startswith("p3109")]
    for letter, kind in (("s", "signed"), ("u", "unsigned")):
        count = sum(name.startswith("p3109") and name[-2] == letter for name in names)
        if count:
            listed.append(f"the {count} {kind} P3109 formats of 3 to 8 bits")
    return ", ".join(listed)


def _disagreements(row: Row) -> str:
    # How NaNs come out of a vectorised cast depends on the CPU: no count, no example.
    return "; ".join(
        name if name == NAN_DIFFERS else f"{name}: {count:,} ({row.examples[name]})"
        for name, count in row.causes.items()
    )


def table() -> str:
    """All rows in Markdown."""
    lines = [
        "| witness | source → target | compared | agree | disagreements and their cause |",
        "|---|---|--:|--:|---|",
    ]
    for row in merged(all_rows()):
        counts = (f"{row.compared:,}", f"{row.agree:,}")
        cells = (row.witness, _conversions(row), *counts, _disagreements(row))
        lines.append(f"| {' | '.join(cells)} |")
    for witness in WITNESSES:
        if witness.unavailable:
            lines.append(f"| {witness.name} | {witness.unavailable} | 0 | 0 | |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
