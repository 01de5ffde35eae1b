"""How far an approximation lies from its original: of a tensor, or of each row or block of it.

Numbers only, no drawing; `error_figures` computes them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from . import error_figures, interop
from .backends import Float64
from .error_figures import FIGURE_NAMES, Figures, measured, measured_in_blocks, piece_figures
from .table import Part, Table, aligned

__all__ = ["Error", "Errors", "Group", "error"]


#: LLM.int8()'s outliers: abs(x) >= 6.0 (Dettmers et al., 2022, arXiv:2208.07339, section 3.2).
OUTLIER_THRESHOLD = 6.0


# --- the answer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)  # with eq it would get a hash
class Error:
    """The error of an approximation: ``approximation - original``, element by element.

    Attributes
    ----------
    count : int
        How many elements there are.
    max_abs : float
        The largest magnitude of an error.
    rmse : float
        The root of the mean squared error.
    mean_error : float
        The mean error, or bias: positive where the approximation is too large.
    signal_rms, approximation_rms : float
        The root of the mean square of the original, from which `sqnr_db` and `relative_frobenius`
        follow, and of the approximation.
    cosine : float
        The cosine of the angle between the two, each seen as one vector: -1 to 1.
    outliers : int
        How many elements of the original have a magnitude of `outlier_threshold` or more.
    outlier_threshold : float
        6.0 by default, that of LLM.int8().
    max_ulp, mean_ulp : float or None
        How many steps of their format lie between the two, as ``ff.ulp_distance`` counts them, at
        most and on average; None unless both are in one format.

    Notes
    -----
    Equal infinities, and a NaN approximated by any NaN, are no error. Any other pair with an Inf or
    NaN in it, and a difference beyond float64's range, is an infinite error: `max_abs` and `rmse`
    are inf, `sqnr_db` is -inf, `cosine` nan, and `mean_error` what IEEE arithmetic makes of it,
    inf, -inf or nan. Infinities and NaNs count as 0 in the two rms.

    Without elements all is 0, but for the cosine: it is 1 where both are all zeros, 0 where one is.
    From a NaN to a number it is inf ulps; an infinity is one step beyond the largest finite value.
    Infinities are outliers, NaNs are not.

    Examples
    --------
    >>> import numpy as np
    >>> from floatfmt.metrics import error
    >>> result = error(np.float32([1.0, -2.0, 4.0]), np.float32([1.5, -2.0, 4.0]))
    >>> result.max_abs, result.mean_error, round(result.sqnr_db, 3)
    (0.5, 0.16666666666666666, 19.243)
    >>> print(result)
    max abs 0.5, RMSE 0.288675, SQNR 19.24 dB, cosine 0.994635, mean +0.166667, of 3 values
    >>> print(result.details())
    values              3
    max abs error       0.5
    RMSE                0.288675
    MSE                 0.0833333
    mean error (bias)   +0.166667
    SQNR                19.24 dB
    relative Frobenius  0.109109
    cosine              0.994635154
    ulp, max and mean   4,194,304 and 1.3981e+06
    outliers, |x| >= 6  0 (0 %)
    """

    count: int
    max_abs: float
    rmse: float
    mean_error: float
    signal_rms: float
    approximation_rms: float
    cosine: float
    outliers: int
    outlier_threshold: float
    max_ulp: float | None
    mean_ulp: float | None

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self.details())

    @property
    def mse(self) -> float:
        """The mean squared error; inf or 0 where float64 does not hold the square."""
        return self.rmse * self.rmse

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise in decibels: ``20 * log10(signal_rms / rmse)``.

        inf where there is no error, whatever the signal; else -inf where there is no signal.
        """
        return float(error_figures.sqnr_db(self.signal_rms, self.rmse))

    @property
    def relative_frobenius(self) -> float:
        """The norm of the error over that of the original, ``rmse / signal_rms``.

        0 where there is no error, whatever the signal; else inf where there is no signal.
        """
        return float(error_figures.relative_frobenius(self.signal_rms, self.rmse))

    @property
    def outlier_share(self) -> float:
        """The share of the original's elements that are outliers, 0 to 1."""
        return float(error_figures.share(self.outliers, self.count))

    def merge(self, other: Error) -> Error:
        """Return the error of both parts together; exact but for the rounding of the means.

        Ulps are None unless both parts have them. Where an rms is subnormal, the cosine has no more
        digits than that.

        Raises
        ------
        ValueError
            The parts' outliers are those of different thresholds.

        Examples
        --------
        >>> import numpy as np
        >>> from floatfmt.metrics import error
        >>> x, y = np.float64([1, 2, 3, 4]), np.float64([1, 2, 5, 4])
        >>> print(error(x[:2], y[:2]).merge(error(x[2:], y[2:])))
        max abs 2, RMSE 1, SQNR 8.75 dB, cosine 0.969087, mean +0.5, of 4 values
        >>> print(error(x, y))
        max abs 2, RMSE 1, SQNR 8.75 dB, cosine 0.969087, mean +0.5, of 4 values
        """
        if not (self.count and other.count):
            return self if self.count else other
        if self.outlier_threshold != other.outlier_threshold:
            raise ValueError(
                f"outliers of thresholds {self.outlier_threshold:g} and"
                f" {other.outlier_threshold:g} do not add up; give both errors one threshold"
            )
        with np.errstate(all="ignore"):
            merged = error_figures.merged(_figures_of(self), _figures_of(other))
        return _error_of(merged, self.outlier_threshold)

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON: what is not finite is "inf", "-inf" or "nan".

        Examples
        --------
        >>> import numpy as np
        >>> from floatfmt.metrics import error
        >>> error(np.ones(2), np.ones(2)).to_dict()["sqnr_db"]
        'inf'
        """
        return {name: json_number(getattr(self, name)) for name in FIGURES}

    def details(self) -> str:
        """Return every figure as text, one a line."""
        return aligned(self.rows())

    def rows(self) -> list[tuple[str, str]]:
        """Return every figure's name and text."""
        rows = [
            ("values", f"{self.count:,}"),
            ("max abs error", f"{self.max_abs:.6g}"),
            ("RMSE", f"{self.rmse:.6g}"),
            ("MSE", f"{self.mse:.6g}"),
            ("mean error (bias)", f"{self.mean_error:+.6g}"),
            ("SQNR", f"{self.sqnr_db:.2f} dB"),
            ("relative Frobenius", f"{self.relative_frobenius:.6g}"),
            ("cosine", f"{self.cosine:.9g}"),
        ]
        if self.max_ulp is not None:
            rows.append(("ulp, max and mean", f"{self.max_ulp:,.0f} and {self.mean_ulp:.6g}"))
        outliers = f"{self.outliers:,} ({100 * self.outlier_share:.3g} %)"
        return [*rows, (f"outliers, |x| >= {self.outlier_threshold:g}", outliers)]

    def __str__(self) -> str:
        return (
            f"max abs {self.max_abs:.6g}, RMSE {self.rmse:.6g}, SQNR {self.sqnr_db:.2f} dB, "
            f"cosine {self.cosine:.6g}, mean {self.mean_error:+.6g}, of {self.count:,} values"
        )


#: Everything an `Error` and, as arrays, `Errors` say.
FIGURES = (
    "count",
    "max_abs",
    "rmse",
    "mse",
    "sqnr_db",
    "relative_frobenius",
    "cosine",
    "mean_error",
    "signal_rms",
    "approximation_rms",
    "outliers",
    "outlier_share",
    "outlier_threshold",
    "max_ulp",
    "mean_ulp",
)

#: The error of no elements.
NO_ERROR = Error(
    count=0,
    max_abs=0.0,
    rmse=0.0,
    mean_error=0.0,
    signal_rms=0.0,
    approximation_rms=0.0,
    cosine=1.0,
    outliers=0,
    outlier_threshold=OUTLIER_THRESHOLD,
    max_ulp=None,
    mean_ulp=None,
)


def json_number(value: Any) -> Any:
    """Return a number as JSON can hold it: inf and nan, which it lacks, as text."""
    return value if value is None or math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class Group:
    """One of the groups of `Errors`.

    Attributes
    ----------
    index : tuple of int
        Where its figures are in the arrays of figures.
    slices : tuple of slice
        Where its values are in the original: ``x[group.slices]``.
    error : Error
        Its figures.
    """

    index: tuple[int, ...]
    slices: tuple[slice, ...]
    error: Error


#: What to sort groups by, the worst first: a larger key is worse, and nan is the worst of all.
WORSE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("max_abs", "rmse", "mse", "relative_frobenius"), np.asarray),
    **dict.fromkeys(("outliers", "outlier_share", "max_ulp", "mean_ulp"), np.asarray),
    **dict.fromkeys(("sqnr_db", "cosine"), np.negative),
    "mean_error": np.abs,
}


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of an approximation, row by row or block by block; made by ``ff.error``.

    Every figure of `Error` is an array here, in the shape that a quantiser's scales of the same
    `axis` or `block` have: axes reduced over have length 1, a blocked axis has its number of
    blocks. Index it for the `Error` of one group.

    Attributes
    ----------
    count, max_abs, rmse, mean_error, signal_rms, approximation_rms, cosine, outliers : array
        As in `Error`; int64 for counts, else float64.
    max_ulp, mean_ulp : array of float64, or None
    outlier_threshold : float
    original_shape : tuple of int
        The shape of what was measured.
    axis : tuple of int
        The axes of which each index is a group.
    block : int or None
        The length of a block along `block_axis`, the last of which may be shorter.
    block_axis : int or None
        Which axis is cut into blocks.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x = np.float32([[0.5, 1.5], [40.0, 80.0], [2.0, 3.0]])
    >>> errors = ff.error(x, ff.round_to(x, "fp4_e2m1fn"), axis=0)
    >>> errors.rmse.shape, float(errors.max_abs[1, 0]), errors[2].rmse
    ((3, 1), 74.0, 0.0)
    >>> errors.worst(1)[0].index
    (1, 0)
    >>> print(errors)
    3 groups of (3, 2), one for each index of axis 0; the worst by rmse:
    <BLANKLINE>
              max error     RMSE  SQNR dB    cosine  mean
    x[1, :]          74  57.5847     0.81  0.948683   -54
    x[0, :]           0        0      inf         1    +0
    x[2, :]           0        0      inf         1    +0
    together         74  33.2466     0.82   0.87824   -18
    """

    count: np.ndarray
    max_abs: Float64
    rmse: Float64
    mean_error: Float64
    signal_rms: Float64
    approximation_rms: Float64
    cosine: Float64
    outliers: np.ndarray
    outlier_threshold: float
    max_ulp: Float64 | None
    mean_ulp: Float64 | None
    original_shape: tuple[int, ...]
    axis: tuple[int, ...]
    block: int | None
    block_axis: int | None

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def __iter__(self) -> Iterator[Group]:
        """Yield every group, the last axis of their indices fastest."""
        for place in np.ndindex(self.shape):
            yield self._group(place)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every array of figures."""
        return self.count.shape

    @property
    def mse(self) -> Float64:
        """The mean squared errors, as ``Error.mse``."""
        with np.errstate(all="ignore"):
            return np.square(self.rmse)

    @property
    def sqnr_db(self) -> Float64:
        """Signal to quantisation noise in decibels, as ``Error.sqnr_db``."""
        return error_figures.sqnr_db(self.signal_rms, self.rmse)

    @property
    def relative_frobenius(self) -> Float64:
        """The norm of the error over that of the original, as ``Error.relative_frobenius``."""
        return error_figures.relative_frobenius(self.signal_rms, self.rmse)

    @property
    def outlier_share(self) -> Float64:
        """The share of elements that are outliers, as ``Error.outlier_share``."""
        return error_figures.share(self.outliers, self.count)

    @property
    def total(self) -> Error:
        """The `Error` of all groups together."""
        figures = _figures_of(self)
        if not self.count.size:
            figures = error_figures.no_figures((1,), self.max_ulp is not None)
        return _error_of(error_figures.total(figures), self.outlier_threshold)

    def __getitem__(self, index: int | tuple[int, ...]) -> Error:
        """Return the error of one group.

        Parameters
        ----------
        index : int or tuple of int
            A place in the arrays of figures; or in the kept axes alone, so that ``errors[17]`` is
            row 17 with ``axis=0``. Negative ones count from the end.

        Raises
        ------
        IndexError
            It has another number of axes, or is out of range.
        TypeError
            It is no integer; the arrays of figures take slices.
        """
        at = self._place(index)
        return _error_of(_figures_of(self).each(operator.itemgetter(at)), self.outlier_threshold)

    def worst(self, n: int = 10, by: str = "rmse") -> list[Group]:
        """Return the `n` worst groups, the worst first; of equals the first.

        Parameters
        ----------
        n : int
            How many, at most.
        by : str
            The figure that decides: "rmse", "mse", "max_abs", "relative_frobenius", "max_ulp",
            "mean_ulp", "outliers" or "outlier_share", where more is worse; "sqnr_db" or "cosine",
            where less is; "mean_error", whose magnitude counts. nan is the worst of all.

        Raises
        ------
        ValueError
            No such figure is known, or there are no ulps; `n` is negative.

        Examples
        --------
        >>> import floatfmt as ff, numpy as np
        >>> x = np.float32([1.0, 1.1, 9.0, 9.1, 0.1])
        >>> errors = ff.error(x, np.rint(x), block=2)
        >>> [(g.index, x[g.slices].tolist()) for g in errors.worst(2, by="sqnr_db")]
        [((2,), [0.10000000149011612]), ((0,), [1.0, 1.100000023841858])]
        """
        if by not in WORSE:
            raise ValueError(f"by={by!r} is no figure to sort by; there are {', '.join(WORSE)}")
        figure = getattr(self, by)
        if figure is None:
            raise ValueError(f"by={by!r}: the original and its approximation differ in format")
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        badness = np.ravel(WORSE[by](figure))
        nan = np.isnan(badness)
        # By nan first, then by badness; equals stay in order.
        order = np.lexsort((np.where(nan, 0, -badness), ~nan))[:n]
        indices = (np.unravel_index(flat, self.shape) for flat in order)
        places = (tuple(int(i) for i in index) for index in indices)
        return [self._group(place) for place in places]

    def to_dict(self) -> dict[str, Any]:
        """Return every figure of every group, ready for JSON, and those of all together."""
        return {
            "original_shape": list(self.original_shape),
            "axis": list(self.axis),
            "block": self.block,
            "block_axis": self.block_axis,
            "shape": list(self.shape),
            **{name: _json_array(getattr(self, name)) for name in FIGURES},
            "total": self.total.to_dict(),
        }

    def __str__(self) -> str:
        lines = ("".join(text for text, _ in line) for line in self._table().lines())
        return "\n".join([self._title(), "", *(line.rstrip() for line in lines)])

    def _title(self) -> str:
        if self.block is None:
            axes = ", ".join(map(str, self.axis))
            which = f"one for each index of axis {axes}" if self.axis else "the whole of it"
        else:
            which = f"blocks of {self.block} along axis {self.block_axis}"
        groups = f"{self.count.size:,} group{'s' * (self.count.size != 1)}"
        return f"{groups} of {self.original_shape}, {which}; the worst by rmse:"

    def _table(self) -> Table:
        header = ("", "max error", "RMSE", "SQNR dB", "cosine", "mean")
        rows = [
            (_written(group.slices, self.original_shape), group.error) for group in self.worst()
        ]
        rows.append(("together", self.total))
        return Table(tuple((name,) for name in header), tuple(_cells(*row) for row in rows))

    def _place(self, index: int | tuple[int, ...]) -> tuple[int, ...]:
        given = index if isinstance(index, tuple) else (index,)
        try:
            place = [operator.index(i) for i in given]
        except TypeError:
            raise TypeError(
                f"a group's index is made of integers, got {index!r}; the arrays of figures, such"
                " as rmse, take slices"
            ) from None
        kept = range(len(self.shape)) if self.block is not None else self.axis
        if len(place) == len(kept) < len(self.shape):
            numbers = dict(zip(kept, place, strict=True))
            place = [numbers.get(axis, 0) for axis in range(len(self.shape))]
        if len(place) != len(self.shape) or not all(
            -n <= i < n for i, n in zip(place, self.shape, strict=True)
        ):
            raise IndexError(f"there is no group {index!r}; their figures have shape {self.shape}")
        return tuple(i % n for i, n in zip(place, self.shape, strict=True))

    def _group(self, place: tuple[int, ...]) -> Group:
        return Group(place, self._slices(place), self[place])

    def _slices(self, place: tuple[int, ...]) -> tuple[slice, ...]:
        lengths = [1 if axis in self.axis else n for axis, n in enumerate(self.original_shape)]
        if self.block is not None and self.block_axis is not None:
            lengths = [1] * len(lengths)
            lengths[self.block_axis] = self.block
        return tuple(
            slice(i * length, min((i + 1) * length, n))
            for i, length, n in zip(place, lengths, self.original_shape, strict=True)
        )


def _written(slices: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    """Return slices as one would type them: an axis that is taken whole is a colon."""

    def text(part: slice, length: int) -> str:
        if part.start == 0 and part.stop == length:
            return ":"
        return str(part.start) if part.stop - part.start == 1 else f"{part.start}:{part.stop}"

    return f"x[{', '.join(map(text, slices, shape))}]" if shape else "x"


def _cells(name: str, error: Error) -> tuple[Part, ...]:
    figures = (
        f"{error.max_abs:.6g}",
        f"{error.rmse:.6g}",
        f"{error.sqnr_db:.2f}",
        f"{error.cosine:.6g}",
        f"{error.mean_error:+.6g}",
    )
    return ((name, "name"), *((text, "") for text in figures))


def _json_array(figure: Any) -> Any:
    if not isinstance(figure, np.ndarray):
        return json_number(figure)
    if figure.dtype.kind == "f" and not np.isfinite(figure).all():
        texts = np.array([json_number(value) for value in figure.ravel().tolist()], object)
        return texts.reshape(figure.shape).tolist()
    return figure.tolist()


# --- the question -------------------------------------------------------------------------------


@overload
def error(
    original: Any,
    approximation: Any,
    *,
    axis: None = None,
    block: None = None,
    block_axis: int = -1,
    outlier_threshold: float = OUTLIER_THRESHOLD,
) -> Error: ...


@overload
def error(
    original: Any,
    approximation: Any,
    *,
    axis: int | Sequence[int],
    block: None = None,
    block_axis: int = -1,
    outlier_threshold: float = OUTLIER_THRESHOLD,
) -> Errors: ...


@overload
def error(
    original: Any,
    approximation: Any,
    *,
    axis: None = None,
    block: int,
    block_axis: int = -1,
    outlier_threshold: float = OUTLIER_THRESHOLD,
) -> Errors: ...


def error(
    original: Any,
    approximation: Any,
    *,
    axis: int | Sequence[int] | None = None,
    block: int | None = None,
    block_axis: int = -1,
    outlier_threshold: float = OUTLIER_THRESHOLD,
) -> Error | Errors:
    """Measure how far an approximation lies from its original.

    Parameters
    ----------
    original, approximation : array
        fp64, fp32, fp16 or bf16 values of one shape; NumPy or torch, any strides and byte order,
        each of its own dtype. Both are taken exactly.
    axis : int or sequence of int, optional
        The axis or axes whose every index has an error of its own, as in ``ff.quantize``: axis=0
        measures each row of a matrix.
    block : int, optional
        Measure blocks of this length along `block_axis`; the last may be shorter.
    block_axis : int
        The axis that is cut into blocks.
    outlier_threshold : float
        Count the original's values of this magnitude or more. The default is LLM.int8()'s. It is a
        number, since that is what one pass over the data can count: an rms is known at its end
        only. For six times the rms, pass ``6 * ff.error(x, x).signal_rms``.

    Returns
    -------
    Error or Errors
        One `Error` of all, or with `axis` or `block` the `Errors` of the groups. Computed in
        float64; defined for every input, see the notes of `Error`.

    Raises
    ------
    ValueError
        The shapes differ, an axis is out of range, `block` is not positive, `outlier_threshold` is
        negative or nan.
    TypeError
        An array holds no floats; both `axis` and `block` are given, or one is no integer.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> from floatfmt.metrics import error
    >>> x = np.float32([0.1, -1.5, 3.2])
    >>> print(error(x, ff.absmax(x).dequantize()))
    max abs 0.011811, RMSE 0.00683423, SQNR 49.50 dB, cosine 0.999995, mean -0.00367454, of 3 values
    >>> error(x, ff.round_to(x, "bf16"), block=2).max_abs
    array([9.76547599e-05, 3.12495232e-03])
    """
    x, y = (interop.float_array(a, decodes=True) for a in (original, approximation))
    if x.shape != y.shape:
        raise ValueError(f"the original has shape {x.shape}, its approximation {y.shape}")
    if axis is not None and block is not None:
        raise TypeError("give axis or block, not both: blocks have every index of the other axes")
    if not isinstance(outlier_threshold, (int, float, np.number)) or not outlier_threshold >= 0:
        raise ValueError(f"outlier_threshold must be 0 or more, got {outlier_threshold!r}")
    threshold = float(outlier_threshold)
    kept = interop.kept_axes(axis, x.ndim)
    if block is None:
        reduced = tuple(a for a in range(x.ndim) if a not in kept)
        figures = measured(x, y, reduced, threshold)
        if axis is None:
            return _error_of(figures, threshold)
        return _errors_of(figures, threshold, x.shape, axis=kept)
    length, cut = _block(block, block_axis, x.ndim)
    figures = measured_in_blocks(x, y, length, cut, threshold)
    return _errors_of(figures, threshold, x.shape, block=length, block_axis=cut)


def _block(block: int, block_axis: int, ndim: int) -> tuple[int, int]:
    """Return the checked length of a block and the axis it lies along."""
    try:
        length = operator.index(block)
    except TypeError:
        raise TypeError(f"block must be an integer, got {block!r}") from None
    if length < 1 or isinstance(block, bool):
        raise ValueError(f"block must be 1 or more values, got {block!r}")
    return length, interop.one_axis(block_axis, ndim, "block_axis")


def piece_error(x: Float64, y: Float64) -> Error:
    """Return the error of a piece small enough for temporaries of its size, without ulps.

    To be called in the backend's ``float_environment()``.
    """
    with np.errstate(all="ignore"):
        every = tuple(range(x.ndim))
        return _error_of(piece_figures(x, y, None, every, OUTLIER_THRESHOLD), OUTLIER_THRESHOLD)


def _figures_of(error: Error | Errors) -> Figures:
    values = {name: getattr(error, name) for name in FIGURE_NAMES}
    return Figures(**values).each(np.asarray)


def _error_of(figures: Figures, outlier_threshold: float) -> Error:
    """Return the figures of one group as an error."""
    numbers = figures.each(lambda array: array.item()).arrays()
    return Error(**numbers, outlier_threshold=outlier_threshold)


def _errors_of(
    figures: Figures,
    outlier_threshold: float,
    original_shape: tuple[int, ...],
    axis: tuple[int, ...] = (),
    block: int | None = None,
    block_axis: int | None = None,
) -> Errors:
    """Return the figures of groups as errors."""
    return Errors(
        **figures.arrays(),
        outlier_threshold=outlier_threshold,
        original_shape=original_shape,
        axis=axis,
        block=block,
        block_axis=block_axis,
    )
