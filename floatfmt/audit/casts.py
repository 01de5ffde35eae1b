"""Who casts: a function of the user's, or one of the witnesses that are built in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import interop
from ..arrays import decode, encode
from ..backends import available_backends, current_backend, native, use_backend
from ..formats import Format, nearest_names
from .inputs import FLOATS, Batch

__all__ = [
    "GFLOAT_MODES",
    "WITNESSES",
    "Cast",
    "CastLike",
    "Outcome",
    "as_cast",
    "gfloat_format",
    "is_nan",
    "on_torch_threads",
]

#: Takes an array of the source's values, 1-d, and returns values or codes of the target.
Function: TypeAlias = Callable[[np.ndarray], Any]
#: A function, or a witness's name.
CastLike: TypeAlias = Function | str
#: How often a chunk that raised an exception is called again in parts, to find what raises it.
MOST_RETRIES = 200


class Outcome(NamedTuple):
    """What a cast gave for some inputs.

    Attributes
    ----------
    codes : array
        Codes of the target, 0 where there is none.
    strays : array of bool or None
        Where what was given is no value and no code of the target.
    said : callable or None
        Returns what was given at an index, as text.
    refused : array of bool or None
        Where an exception was raised.
    error : Exception or None
        The first one.
    """

    codes: np.ndarray
    strays: np.ndarray | None = None
    said: Callable[[int], str] | None = None
    refused: np.ndarray | None = None
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class Cast:
    """A cast that can be asked: made by `as_cast`.

    Attributes
    ----------
    name : str
        For reports.
    source, target : Format
    function : callable
        As the user gave it, or a witness's.
    context : callable
        What the calls are made within.
    """

    name: str
    source: Format
    target: Format
    function: Function
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def reuses_memory(self, codes: np.ndarray) -> bool:
        """Return whether a call's result lies where the last one's did: calls must not overlap."""
        try:
            with np.errstate(all="ignore"):
                one, other = (self.function(_handed(codes.copy(), self.source)) for _ in "ab")
        except Exception:  # what it raises is found by the sweep
            return False
        return bool(np.shares_memory(interop.to_numpy(one), interop.to_numpy(other)))

    def __call__(self, codes: np.ndarray) -> Outcome:
        """Cast inputs, given by their codes; the array may be changed by it.

        Raises
        ------
        TypeError, ValueError
            What the function returned cannot be values or codes of the target.
        """
        outcome = self._call(codes)
        return outcome if outcome is not None else self._in_parts(codes)

    def _call(self, codes: np.ndarray) -> Outcome | None:
        """Return the outcome, or None if the function raised an exception."""
        try:
            with np.errstate(all="ignore"):
                given = self.function(_handed(codes, self.source))
        except Exception:  # whatever the user's function raises is part of what is found
            return None
        return self._outcome(given, codes.size)

    def _outcome(self, given: Any, count: int) -> Outcome:
        array = interop.to_numpy(given)
        if array.dtype == object:
            raise self._no_result(given)
        if array.shape != (count,):
            raise ValueError(
                f"{self.name} returned an array of shape {array.shape} for one of shape ({count},)"
            )
        if interop.holds_values_of(array.dtype, self.target):
            return Outcome(interop.codes_array(array, self.target))
        if array.dtype.kind in "iu" and not (array.dtype.kind == "i" and self.target.is_integer):
            return _of_codes(array, self.target)
        try:
            values = interop.values_array(array)
        except TypeError:
            raise self._no_result(given) from None
        return _of_values(values, self.target)

    def _no_result(self, given: Any) -> TypeError:
        return TypeError(
            f"{self.name} returned {interop.describe(given)}; expected an array of values of"
            f" {self.target} in any floating-point dtype, or of its codes in an integer dtype"
        )

    def _in_parts(self, codes: np.ndarray) -> Outcome:
        """Find the inputs for which the function raises an exception."""
        found = np.zeros(codes.size, self.target.code_dtype)
        strays, refused = np.zeros(codes.size, np.bool_), np.zeros(codes.size, np.bool_)
        said: dict[int, str] = {}
        values = Batch(self.source, codes).wide
        # What is refused most often, and then together: NaN, and what lies beyond the range.
        nans = np.isnan(values)
        beyond = (values > float(self.target.max_finite)) | (values < float(self.target.lowest))
        classes = (nans, beyond, ~nans & ~beyond)
        left = [part for part in map(np.flatnonzero, classes) if part.size]
        calls = 0
        while left:
            part = left.pop()
            outcome = self._call(codes[part]) if calls < MOST_RETRIES else None
            calls += 1
            if outcome is not None:
                found[part] = outcome.codes
                if outcome.strays is not None and outcome.said is not None:
                    strays[part] = outcome.strays
                    where = np.flatnonzero(outcome.strays).tolist()
                    said |= {int(part[i]): outcome.said(i) for i in where}
            elif part.size == 1 or calls >= MOST_RETRIES or not classes[2][part[0]]:
                refused[part] = True
            else:
                left += np.array_split(part, 2)
        error = self.error(codes[refused][:1]) if refused.any() else None
        return Outcome(found, strays if said else None, said.__getitem__, refused, error)

    def error(self, codes: np.ndarray) -> Exception | None:
        """Return the exception that the function raises for inputs."""
        try:
            with np.errstate(all="ignore"):
                self.function(_handed(codes.copy(), self.source))
        except Exception as exc:
            return exc
        return None


def is_nan(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Return which codes are NaNs."""
    if fmt.nan_code is None:
        return np.zeros(codes.shape, np.bool_)
    if fmt.nan == "ieee":
        magnitude = codes & codes.dtype.type(fmt.magnitude_mask)
        return magnitude > codes.dtype.type(fmt.exponent_mask << fmt.fraction_bits)
    if fmt.nan == "top":
        codes = codes & codes.dtype.type(fmt.magnitude_mask)
    return codes == codes.dtype.type(fmt.nan_code)


# --- what goes in and comes out -----------------------------------------------------------------


def _handed(codes: np.ndarray, source: Format) -> np.ndarray:
    """Return what a cast is handed: values of NumPy's or ml_dtypes' own dtype, else the codes."""
    return codes if source.dtype is None else codes.view(source.dtype)


def _of_codes(array: np.ndarray, target: Format) -> Outcome:
    """Return the codes in an integer array; of their width they may be signed (torch's int16)."""
    if array.dtype.itemsize == target.code_dtype.itemsize:
        array = array.view(f"u{array.dtype.itemsize}")
    limit = (1 << target.bits) - 1
    if array.dtype.newbyteorder("=") == target.code_dtype and limit == np.iinfo(array.dtype).max:
        return Outcome(array)  # every number is a code
    strays = (array > limit) | (array < 0)
    if not strays.any():
        return Outcome(array.astype(target.code_dtype))
    codes = np.where(strays, 0, array).astype(target.code_dtype)
    return Outcome(codes, strays, lambda i: f"the code {hex(array[i])}")


def _of_values(values: np.ndarray, target: Format) -> Outcome:
    """Return the codes of values, as far as they are the target's."""
    nan = "preserve" if target.nan is not None else "zero" if target.zero else "largest"
    codes = encode(values, target, nan=nan)
    back = decode(codes, target, dtype="fp64")
    with current_backend().float_environment():
        wide = values.astype(np.float64)
        fine = back == wide
        if target.nan is not None:
            fine |= np.isnan(back) & np.isnan(wide)
    if fine.all():
        return Outcome(codes)
    return Outcome(codes, ~fine, lambda i: f"the value {float(wide[i])!r}")


# --- witnesses ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """A library whose casts can be asked by name.

    Attributes
    ----------
    name : str
    distribution : str
        What it is installed as; "" for what comes with floatfmt.
    make : callable
        ``(source, target, options)`` to a function of values; raises ValueError with the reason if
        it has no such cast. `options` are those of `encode` that were asked for.
    context : callable
        What the calls are made within.
    """

    name: str
    distribution: str
    make: Callable[[Format, Format, dict[str, str]], Function]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        if not self.distribution:
            return ""
        import importlib.metadata  # takes 10 ms, and most never need it

        try:
            return importlib.metadata.version(self.distribution).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            return None


def _needs_dtype(library: str, *formats: Format) -> None:
    for fmt in formats:
        if fmt.dtype is None:
            raise ValueError(f"{library} has no dtype for {fmt}")


def _numpy_cast(source: Format, target: Format, options: dict[str, str]) -> Function:
    for fmt in (source, target):
        if fmt.dtype is None or np.dtype(fmt.dtype).isbuiltin != 1:
            raise ValueError(f"NumPy has no dtype for {fmt}; ml_dtypes may have one")
    return lambda x: x.astype(target.dtype)


def _ml_dtypes_cast(source: Format, target: Format, options: dict[str, str]) -> Function:
    _needs_dtype("ml_dtypes", source, target)
    return lambda x: x.astype(target.dtype)


def _torch_cast(source: Format, target: Format, options: dict[str, str]) -> Function:
    import torch

    _needs_dtype("torch", source, target)
    for fmt in (source, target):
        if not interop.torch_has(str(fmt.dtype)):
            raise ValueError(f"torch has no dtype for {fmt}")
    dtype = getattr(torch, str(target.dtype))
    like = np.empty(0)
    tensor = interop.like(np.zeros(1, source.dtype), torch.from_numpy(like))
    try:
        tensor.to(dtype)
    except (RuntimeError, NotImplementedError) as exc:
        raise ValueError(f"torch does not convert {source} to {target}: {exc}") from None
    return lambda x: interop.like(x, tensor).to(dtype)


@contextmanager
def on_torch_threads(count: int) -> Iterator[None]:
    """Let torch share a call's work among so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: gfloat's names of rounding modes; it has no rounding to odd.
GFLOAT_MODES = {
    "nearest_even": "TiesToEven",
    "nearest_away": "TiesToAway",
    "toward_zero": "TowardZero",
    "toward_positive": "TowardPositive",
    "toward_negative": "TowardNegative",
    "stochastic": "Stochastic",
}


def gfloat_format(fmt: Format) -> Any:
    """Return gfloat's description of a format; equal results show that it is the same one."""
    import gfloat

    return gfloat.FormatInfo(
        fmt.name,
        fmt.bits,
        fmt.fraction_bits + 1,
        bias=fmt.bias,
        is_signed=fmt.signed,
        domain=gfloat.Domain.Extended if fmt.infinity else gfloat.Domain.Finite,
        has_nz=fmt.has_negative_zero,
        num_high_nans={"ieee": fmt.fraction_mask, "top": 1}.get(fmt.nan or "", 0),
        has_subnormals=fmt.zero,
        is_twos_complement=fmt.twos_complement,
    )


def _gfloat_cast(source: Format, target: Format, options: dict[str, str]) -> Function:
    import gfloat

    if options["rounding"] in ("to_odd", "stochastic"):  # it has no such mode; it wants the bits
        raise ValueError(f"gfloat cannot be asked to round {options['rounding']}")
    info, rounding = gfloat_format(target), gfloat.RoundMode[GFLOAT_MODES[options["rounding"]]]
    # Where there is neither Inf nor NaN it refuses to do anything else.
    saturates = options["overflow"] == "saturate" or target.has_finite_codes_only

    def cast(x: np.ndarray) -> np.ndarray:
        values = x if source.name in FLOATS[:2] else Batch(source, _codes(x, source)).wide
        rounded = gfloat.round_ndarray(info, values, rounding, sat=saturates)
        return np.asarray(gfloat.encode_ndarray(info, rounded)).astype(np.int64).view(np.uint64)

    return cast


def _codes(x: np.ndarray, source: Format) -> np.ndarray:
    return x.view(source.code_dtype)


def _f16c_cast(source: Format, target: Format, options: dict[str, str]) -> Function:
    if (source.name, target.name) != ("fp32", "fp16"):
        raise ValueError(f"F16C rounds fp32 to fp16 only, not {source} to {target}")
    return native.f16c(options["rounding"])


def _floatfmt_cast(
    source: Format, target: Format, options: dict[str, str], backend: str | None = None
) -> Function:
    how: dict[str, Any] = dict(options)
    if target.nan is None:
        how["nan"] = "zero" if target.zero else "largest"

    def cast(x: np.ndarray) -> np.ndarray:
        batch = Batch(source, _codes(x, source))
        with nullcontext() if backend is None else use_backend(backend):
            return encode(batch.values, target, **how)

    return cast


WITNESSES = {
    witness.name: witness
    for witness in (
        Witness("numpy", "numpy", _numpy_cast),
        Witness("ml_dtypes", "ml_dtypes", _ml_dtypes_cast),
        Witness("torch", "torch", _torch_cast, partial(on_torch_threads, 1)),
        Witness("gfloat", "gfloat", _gfloat_cast),
        Witness("f16c", "", _f16c_cast),
        Witness("floatfmt", "", _floatfmt_cast),
        *(
            Witness(f"floatfmt:{backend}", "", partial(_floatfmt_cast, backend=backend))
            for backend in available_backends()
        ),
    )
}


def as_cast(cast: CastLike, source: Format, target: Format, options: dict[str, str]) -> Cast:
    """Return a cast that can be asked.

    Parameters
    ----------
    cast : callable or str
        A function of an array of values; or a witness's name.

    Raises
    ------
    TypeError, ValueError
        It is neither, or the witness is not installed or has no such cast.
    """
    if isinstance(cast, str):
        witness = _witness(cast)
        function = witness.make(source, target, options)
        return Cast(cast, source, target, function, witness.context)
    if not callable(cast):
        raise TypeError(f"a cast is a function or the name of a witness, got {cast!r}")
    name = getattr(cast, "__qualname__", None) or type(cast).__qualname__
    return Cast(name.rpartition("<locals>.")[2], source, target, cast)


def _witness(name: str) -> Witness:
    if name not in WITNESSES:
        nearest = nearest_names(name, WITNESSES)
        raise ValueError(
            f"no witness is called {name!r}; {nearest}known: {', '.join(WITNESSES)}; or give a"
            " function"
        )
    witness = WITNESSES[name]
    if witness.version is None:
        raise ValueError(f"{name} is not installed")
    return witness
