"""Whether floatfmt is well here: what was built, what runs, how floats are set, and a self-check.

What is found is kept as facts; what is wrong with them follows from the facts.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import interop
from .backends import (
    Backend,
    Float64,
    available_backends,
    backend_name,
    chosen_by,
    native,
    reference,
    told_threads,
)
from .backends.reference import FloatState
from .formats import Format, format, formats
from .rounding import Rounding, Rules, rules
from .table import TEXT_WIDTH, Part, Table, printable, rich_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Diagnosis", "Finding", "Level", "Mismatch", "doctor"]

_NEEDED = ("problem", "floatfmt needs it; pip install floatfmt installs all that it needs")
#: The libraries around, and what it means that one is not installed; None: nothing.
PACKAGES: dict[str, tuple[str, str] | None] = {
    **dict.fromkeys(("numpy", "ml_dtypes", "cffi", "click", "rich", "safetensors"), _NEEDED),
    "torch": ("note", "only torch tensors need it"),
    **dict.fromkeys(("transformers", "gfloat")),
}
#: Why a backend runs if nothing chose it.
UNCHOSEN = "the fastest here"


# --- what is found ------------------------------------------------------------------------------


class Mismatch(NamedTuple):
    """A result that is not the reference's.

    Attributes
    ----------
    what : str
        The operation.
    row : int
        Which of the results it was.
    given : str or None
        The bits it was computed from; None where that is a whole array.
    got, expected : str
        The bits of the kernel's result, and of the reference's.
    """

    what: str
    row: int
    given: str | None
    got: str
    expected: str

    def __str__(self) -> str:
        where = f"result {self.row}" if self.given is None else self.given
        return f"{self.what}: {where} gave {self.got} instead of {self.expected}"


class Level(NamedTuple):
    """An instruction-set level of the C kernel, and how it did in the self-check.

    Attributes
    ----------
    name : str
        As in ``ff.available_backends()``.
    is_built, is_supported : bool
        Whether the C kernel has it, and whether it has it and this CPU runs it.
    compared : int
        How many results were compared with the reference's.
    mismatch : Mismatch or None
        The first that differed, at which the comparison ended.
    """

    name: str
    is_built: bool
    is_supported: bool
    compared: int
    mismatch: Mismatch | None


class Finding(NamedTuple):
    """Something that is to be known.

    Attributes
    ----------
    kind : str
        "problem" or "note".
    text : str
        What it is, and what can be done.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What floatfmt runs on, and whether it runs as it should; made by ``ff.doctor``.

    Attributes
    ----------
    version, location : str
        floatfmt's version, and the folder it was imported from.
    python, platform, cpu : str
        What it runs on.
    backend : str or None
        What runs; None where FLOATFMT_BACKEND or FLOATFMT_THREADS asks for what is not there.
    reason : str
        Why that one, or why none.
    levels : tuple of Level
        Of the C kernel, slowest first: ``name``, ``is_built``, ``is_supported``, ``compared``,
        ``mismatch``.
    compiler, compile_flags : str or None
        What built the C kernel, and how; None without it.
    why_missing : str or None
        Why there is no C kernel.
    float_state : FloatState
        How float arithmetic was set in this thread: ``ftz``, ``daz``, ``rounding``.
    packages : tuple of (str, str or None)
        The versions of the libraries around; None for what is not installed.
    seconds : float
        How long the self-check took.

    Examples
    --------
    >>> import floatfmt as ff
    >>> diagnosis = ff.doctor(seconds=0)
    >>> diagnosis.float_state.ftz, dict(diagnosis.packages)["numpy"] is not None
    (False, True)
    >>> [level.name for level in diagnosis.levels]
    ['baseline', 'avx2', 'avx512']
    """

    version: str
    location: str
    python: str
    platform: str
    cpu: str
    backend: str | None
    reason: str
    levels: tuple[Level, ...]
    compiler: str | None
    compile_flags: str | None
    why_missing: str | None
    float_state: FloatState
    packages: tuple[tuple[str, str | None], ...]
    seconds: float

    __hash__ = None  # type: ignore[assignment]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, and what else is to be known: problems first."""
        found = [finding for look in _LOOKS for finding in look(self)]
        return tuple(sorted(found, key=lambda finding: finding.kind != "problem"))

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return all(finding.kind != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is.

        ``healthy``, ``findings``
            Whether there is no problem, and a list of ``kind`` and ``text``.
        ``levels``
            A list: ``name``, ``is_built``, ``is_supported``, ``compared`` and ``mismatch``, which
            is None or has ``what``, ``row``, ``given``, ``got`` and ``expected``.
        ``float_state``
            ``ftz``, ``daz`` and ``rounding``.
        ``packages``
            Versions by name, None for what is not installed.

        All else is as the attributes have it.
        """
        state = self.float_state
        copied = ("version", "location", "python", "platform", "cpu", "backend", "reason")
        built = ("compiler", "compile_flags", "why_missing", "seconds")
        return {
            "healthy": self.healthy,
            **{name: getattr(self, name) for name in (*copied, *built)},
            "float_state": {**state._asdict(), "rounding": state.rounding.value},
            "levels": [
                {**level._asdict(), "mismatch": level.mismatch and level.mismatch._asdict()}
                for level in self.levels
            ],
            "packages": dict(self.packages),
            "findings": [finding._asdict() for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in _layout(self, None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return rich_lines(_layout(self, options.max_width))

    def _repr_html_(self) -> str:
        return interop.preformatted(self)


def doctor(*, seconds: float = 1.0) -> Diagnosis:
    """Look at what floatfmt runs on, and compare the C kernel with its reference for a while.

    Parameters
    ----------
    seconds : float
        How long about the self-check goes on. It takes random values; each operation has its turn
        at least once, which takes a fraction of a second.

    Returns
    -------
    Diagnosis
        ``healthy``, ``findings`` in plain words, and the facts they follow from.

    Raises
    ------
    ValueError
        seconds is negative or nan.

    Examples
    --------
    >>> import floatfmt as ff
    >>> [level.mismatch for level in ff.doctor(seconds=0).levels]
    [None, None, None]
    """
    # Looked at before anything here computes; the self-check leaves it as it was.
    state = native.float_state() if native.why_missing() is None else reference.float_state()
    if not seconds >= 0:
        raise ValueError(f"seconds must be 0 or more, got {seconds!r}")
    import platform

    from . import __version__
    from .bench.machine import cpu

    backend, reason = _backend()
    began = time.monotonic()
    levels = _levels(began + seconds)
    return Diagnosis(
        version=__version__,
        location=str(Path(__file__).parent),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        cpu=cpu(),
        backend=backend,
        reason=reason,
        levels=levels,
        compiler=native.compiler(),
        compile_flags=native.compile_flags(),
        why_missing=native.why_missing(),
        float_state=state,
        packages=tuple((name, _version(name)) for name in PACKAGES),
        seconds=round(time.monotonic() - began, 3),
    )


def _backend() -> tuple[str | None, str]:
    """Return the backend that runs, None if none can, and why."""
    chooser = chosen_by()
    try:
        told_threads()
        if chooser is None:  # not asked of backend_name, which says once that the kernel is missing
            return available_backends()[-1], UNCHOSEN
        return backend_name(), f"chosen by {chooser}"
    except ValueError as error:
        return None, str(error)


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- what is wrong ------------------------------------------------------------------------------


def _look_at_backend(found: Diagnosis) -> Iterator[Finding]:
    fastest = ["reference", *(level.name for level in found.levels if level.is_supported)][-1]
    if found.backend is None:
        text = f"{found.reason}. Until the variable is unset or names one of these, nothing runs."
        yield Finding("problem", text)
    elif found.backend != fastest:
        text = f"{found.backend} runs, {found.reason}; {fastest} gives the same bits, faster."
        yield Finding("note", text)


def _look_at_kernel(found: Diagnosis) -> Iterator[Finding]:
    if found.why_missing is not None:
        is_wanted = found.backend == "reference" and found.reason != UNCHOSEN
        yield Finding(
            "note" if is_wanted else "problem",
            f"the C kernel is not installed, or cannot be loaded: {found.why_missing}. Results are"
            " the same, large arrays are slower. To build it, install a C compiler and reinstall"
            " floatfmt; FLOATFMT_BACKEND=reference says that the reference will do.",
        )


def _look_at_levels(found: Diagnosis) -> Iterator[Finding]:
    right = [level.name for level in found.levels if level.compared and not level.mismatch]
    for level in found.levels:
        if level.mismatch:
            yield Finding(
                "problem",
                f"{level.name} differs from the reference: {level.mismatch}. Its results are not"
                f" to be trusted; FLOATFMT_BACKEND={['reference', *right][-1]} gives right ones."
                " Build floatfmt anew, and if that changes nothing, report this text.",
            )


def _look_at_floats(found: Diagnosis) -> Iterator[Finding]:
    state = found.float_state
    ftz = "FTZ is on: subnormal results become 0. " * state.ftz
    daz = "DAZ is on: subnormal operands count as 0. " * state.daz
    if ftz or daz:
        yield Finding(
            "problem",
            f"{ftz}{daz}This holds for all arithmetic of this thread but the C kernel's; the NumPy"
            " reference refuses to run. torch.set_flush_denormal(True) switches it on, and so does"
            " loading a library that was linked with -ffast-math; torch.set_flush_denormal(False)"
            " switches it off.",
        )
    if state.rounding is not Rounding.NEAREST_EVEN:
        yield Finding(
            "problem",
            f"{_direction(state)}, not to nearest: all arithmetic of this thread but the C"
            " kernel's gives other results, the NumPy reference's too. C's fesetround sets it;"
            " fesetround(FE_TONEAREST) sets it back.",
        )


def _look_at_packages(found: Diagnosis) -> Iterator[Finding]:
    for name, version in found.packages:
        if version is None and (meaning := PACKAGES[name]):
            kind, why = meaning
            yield Finding(kind, f"{name} is not installed: {why}.")


_LOOKS: tuple[Callable[[Diagnosis], Iterator[Finding]], ...] = (
    _look_at_backend,
    _look_at_kernel,
    _look_at_levels,
    _look_at_floats,
    _look_at_packages,
)


# --- how it is shown ----------------------------------------------------------------------------


def _layout(found: Diagnosis, width: int | None) -> Iterator[list[Part]]:
    problems = sum(finding.kind == "problem" for finding in found.findings)
    verdict = {0: "is healthy here", 1: "has a problem here"}.get(problems)
    yield [(f"floatfmt {verdict or f'has {problems} problems here'}", "title")]
    yield []
    facts = _facts(found)
    column = max(map(len, facts)) + 2
    for label, fact in facts.items():
        yield from _entry(label, fact, column, width)
    yield []
    yield from _levels_table(found).lines(width)
    for finding in found.findings:
        yield []
        yield from _entry(f"{finding.kind}:", finding.text, len("problem: "), width)


def _entry(label: str, text: str, column: int, width: int | None) -> Iterator[list[Part]]:
    """Yield a label and the text beside it; what has no space in it stays whole, to be copied."""
    import textwrap

    room = max((width or TEXT_WIDTH) - column, 1)
    lines = textwrap.wrap(printable(text), room, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield [(f"{'' if number else label:{column}}", "name"), (line, "")]


def _facts(found: Diagnosis) -> dict[str, str]:
    built = {"C compiler": found.compiler, "C flags": found.compile_flags}
    installed = [f"{name}=={version}" for name, version in found.packages if version is not None]
    missing = [name for name, version in found.packages if version is None]
    check = "comparisons with the NumPy reference"
    return {
        "floatfmt": f"{found.version} in {found.location}",
        "Python": f"{found.python} on {found.platform}",
        "CPU": found.cpu,
        "backend": f"{found.backend or 'none'}: {found.reason}",
        **{label: fact or "none: there is no C kernel" for label, fact in built.items()},
        "floats": _state(found.float_state),
        "libraries": " ".join(installed),
        **({"missing": " ".join(missing)} if missing else {}),
        "self-check": f"{found.seconds:.1f} s of {check}" if found.compiler else f"no {check}",
    }


def _state(state: FloatState) -> str:
    switches = {"FTZ": state.ftz, "DAZ": state.daz}
    said = [f"{name} {'on' if is_on else 'off'}" for name, is_on in switches.items()]
    return ", ".join((*said, _direction(state)))


def _direction(state: FloatState) -> str:
    return f"rounding {state.rounding.value.replace('_', ' ')}"


def _levels_table(found: Diagnosis) -> Table:
    header = (("level",), ("built in",), ("runs here",), ("compared",), ("result",))
    return Table(header, tuple(_cells(level) for level in found.levels))


def _cells(level: Level) -> tuple[Part, ...]:
    answers = (
        ("yes", "") if is_so else ("no", "none") for is_so in (level.is_built, level.is_supported)
    )
    compared, result = (f"{level.compared:,}", ""), ("equal", "")
    if level.mismatch:
        result = ("differs", "lost")
    elif not level.compared:
        compared = result = ("-", "none")
    return ((level.name, "name"), *answers, compared, result)


# --- the self-check -----------------------------------------------------------------------------

#: How many values an operation gets: whole vectors, and a rest that fills none.
COUNT = 1003
#: (outer, channels, inner) of the quantisers: one channel, rows, columns.
SHAPES = ((1, 1, COUNT), (3, 5, 67), (67, 15, 1))
SOURCES = tuple(map(format, ("fp64", "fp32", "fp16", "bf16")))


class _Case(NamedTuple):
    """An operation on given arrays; each row of its result comes of the same row of `given`."""

    what: str
    given: np.ndarray | None
    run: Callable[[Backend], np.ndarray]


def _levels(until: float) -> tuple[Level, ...]:
    """Compare every level that runs here with the reference, until a time of the clock."""
    kernels = {name: native.Native(name) for name in native.supported_levels()}
    compared = dict.fromkeys(kernels, 0)
    mismatches: dict[str, Mismatch] = {}
    for case, expected in _answered_cases(until) if kernels else ():
        for name in [name for name in kernels if name not in mismatches]:
            compared[name] += len(expected)
            if mismatch := _mismatch(case, case.run(kernels[name]), expected):
                mismatches[name] = mismatch
    built = native.built_levels()
    return tuple(
        Level(name, name in built, name in kernels, compared.get(name, 0), mismatches.get(name))
        for name in native.LEVELS
    )


def _answered_cases(until: float) -> Iterator[tuple[_Case, np.ndarray]]:
    """Yield cases with the reference's results."""
    cases = _cases(np.random.default_rng(), until)
    while True:
        # The reference needs the default environment; a kernel has to be right in the thread's own.
        with native.Native("baseline").float_environment():
            case = next(cases, None)
            if case is None:
                return
            expected = case.run(reference)
        yield case, expected


def _mismatch(case: _Case, got: np.ndarray, expected: np.ndarray) -> Mismatch | None:
    differs = (_bytes(got) != _bytes(expected)).any(axis=1)
    if not differs.any():
        return None
    row = int(differs.argmax())
    given = None if case.given is None else _bits(case.given[row])
    return Mismatch(case.what, row, given, _bits(got[row]), _bits(expected[row]))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)


def _bits(row: Any) -> str:
    words = np.atleast_1d(row)
    size = words.dtype.itemsize
    return " ".join(f"0x{word:0{2 * size}X}" for word in words.view(f"u{size}").tolist())


def _cases(rng: np.random.Generator, until: float) -> Iterator[_Case]:
    """Yield every code's decoding, then rounds of all operations on random values."""
    for fmt in formats():
        if fmt.bits <= 16:
            yield from _decodings(fmt, np.arange(2**fmt.bits).astype(fmt.code_dtype))
    while True:
        for source, target in itertools.product(SOURCES, formats()):
            yield from _encodings(rng, source, target)
        for fmt in formats():
            yield from _decodings(fmt, _codes(rng, fmt))
        for source, shape in itertools.product(SOURCES, SHAPES):
            yield from _quantizations(rng, source, shape)
        for bits, high_first in itertools.product(range(1, 9), (False, True)):
            yield from _packings(rng, bits, high_first)
        if time.monotonic() >= until:
            return


# The outputs below are zeros: memory that is not set may hold what another level has written.


def _encodings(rng: np.random.Generator, source: Format, target: Format) -> Iterator[_Case]:
    values = _values(rng, source, target)
    for mode in Rounding:
        how = rules(target, mode, nan="largest" if target.nan is None else "quiet")
        what = f"encode {source} to {target}, {mode}"
        yield _Case(what, values, functools.partial(_encoded, values, how))


def _encoded(values: np.ndarray, how: Rules, backend: Backend) -> np.ndarray:
    codes = np.zeros(values.shape, how.code_dtype)
    backend.encode(values, how, codes, (1, 0) if how.rounding is Rounding.STOCHASTIC else None)
    return codes


def _values(rng: np.random.Generator, source: Format, target: Format) -> np.ndarray:
    """Return random bits, many within the target's range, and the edges of that range."""
    patterns = _codes(rng, source)
    near = patterns[::2]
    word = near.dtype.type
    within = (target.step_exponent - 2 + source.bias, target.max_exponent + 1 + source.bias)
    least, most = np.clip(within, 0, source.exponent_mask)
    exponent = rng.integers(least, most, near.size, endpoint=True).astype(word)
    # Of fractions that end early, many are ties.
    cleared = rng.integers(0, source.fraction_bits, near.size, endpoint=True).astype(word)
    fraction = (near & word(source.fraction_mask)) >> cleared << cleared
    sign = near & word(source.sign_bit)
    near[...] = sign | exponent << word(source.fraction_bits) | fraction
    edges = _edges(source, target)
    patterns[: edges.size] = edges
    return patterns.view(np.dtype(source.dtype))


@functools.cache
def _edges(source: Format, target: Format) -> np.ndarray:
    """Return codes of the target's least and largest values, of ties there, and all beside them."""
    first_normal, last = 1 << target.fraction_bits, target.max_code
    inner = [0, 1, first_normal - 1, first_normal, last - 1]
    codes = np.array([[min(c, last - 1) + step for c in inner] for step in (0, 1)])
    values = np.empty(codes.shape)
    reference.decode(codes.astype(target.code_dtype), target, values)
    beyond = 2 * values[1, -1] - values[0, -1]
    ties = np.append(values.mean(axis=0), (values[1, -1] + beyond) / 2)
    wide = np.concatenate((values.reshape(-1), ties, [beyond, np.inf, np.nan]))
    near = _encoded(wide, rules(source, Rounding.TOWARD_ZERO), reference)
    beside = np.concatenate((near, near + 1, near[near > 0] - 1))
    return np.concatenate((beside, beside ^ source.code_dtype.type(source.sign_bit)))


def _codes(rng: np.random.Generator, fmt: Format) -> np.ndarray:
    return rng.integers(0, 2**fmt.bits, COUNT, np.uint64).astype(fmt.code_dtype)


def _decodings(fmt: Format, codes: np.ndarray) -> Iterator[_Case]:
    for dtype in {fmt.value_dtype, np.dtype(np.float64)}:
        what = f"decode {fmt} to {format(dtype)}"
        yield _Case(what, codes, functools.partial(_decoded, codes, fmt, dtype))


def _decoded(codes: np.ndarray, fmt: Format, dtype: np.dtype, backend: Backend) -> np.ndarray:
    values = np.zeros(codes.shape, dtype)
    backend.decode(codes, fmt, values)
    return values


def _quantizations(
    rng: np.random.Generator, fmt: Format, shape: tuple[int, int, int]
) -> Iterator[_Case]:
    """Yield the steps of absmax and zeropoint; what a step starts from is the reference's."""
    sizes = 2.0 ** rng.integers(-8, 4, (shape[1], 1))
    x = (rng.normal(rng.normal(), 1, shape) * sizes).astype(fmt.dtype)
    amax, low_high = reference.amax(x), reference.minmax(x)
    yield _Case(f"amax of {fmt}", None, lambda b: b.amax(x))
    yield _Case(f"minmax of {fmt}", None, lambda b: _columns(b.minmax(x)))
    yield _Case(f"absmax scale in {fmt}", amax, lambda b: b.absmax_scale(amax, fmt))
    yield _Case(
        f"zeropoint parameters in {fmt}",
        _columns(low_high),
        lambda b: _columns(b.zeropoint_parameters(*low_high, fmt)),
    )
    scale = reference.absmax_scale(amax, fmt)
    schemes = {
        "absmax": (scale, np.zeros_like(scale)),
        "zeropoint": reference.zeropoint_parameters(*low_high, fmt),
    }
    for scheme, parameters in schemes.items():
        quantized = functools.partial(_quantized, x, parameters)
        yield _Case(f"{scheme} of {fmt}", x.reshape(-1), quantized)
        codes = quantized(reference)
        back = functools.partial(_dequantized, codes.reshape(shape), parameters, x.dtype)
        yield _Case(f"{scheme} back to {fmt}", codes, back)


Pair: TypeAlias = "tuple[Float64, Float64]"


def _columns(pair: Pair) -> np.ndarray:
    return np.stack(pair, axis=1)


def _quantized(x: np.ndarray, parameters: Pair, backend: Backend) -> np.ndarray:
    codes = np.zeros(x.shape, np.int8)
    backend.quantize(x, *parameters, -128, 127, codes)
    return codes.reshape(-1)


def _dequantized(
    codes: np.ndarray, parameters: Pair, dtype: np.dtype, backend: Backend
) -> np.ndarray:
    out = np.zeros(codes.shape, dtype)
    backend.dequantize(codes, *parameters, out)
    return out.reshape(-1)


def _packings(rng: np.random.Generator, bits: int, high_first: bool) -> Iterator[_Case]:
    """Yield packing and unpacking. A row is 8 codes or `bits` bytes, and the last is not full."""
    codes = rng.integers(0, 2**bits, (COUNT // 8, 8), np.uint8)
    codes[-1, 8 - UNUSED :] = 0
    packed = _packed(codes, bits, high_first, reference)
    how = f"{bits} bits, {'high' if high_first else 'low'}_first"
    yield _Case(f"pack {how}", codes, lambda b: _packed(codes, bits, high_first, b))
    yield _Case(f"unpack {how}", packed, lambda b: _unpacked(packed, bits, high_first, b))


UNUSED = 3


def _packed(codes: np.ndarray, bits: int, high_first: bool, backend: Backend) -> np.ndarray:
    packed = np.zeros(codes.size // 8 * bits, np.uint8)
    n = codes.size - UNUSED
    backend.pack(codes.reshape(-1)[:n], packed[: -(-n * bits // 8)], bits, high_first)
    return packed.reshape(-1, bits)


def _unpacked(packed: np.ndarray, bits: int, high_first: bool, backend: Backend) -> np.ndarray:
    codes = np.zeros(len(packed) * 8, np.uint8)
    n = codes.size - UNUSED
    backend.unpack(packed.reshape(-1)[: -(-n * bits // 8)], codes[:n], bits, high_first)
    return codes.reshape(-1, 8)
