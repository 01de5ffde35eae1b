"""LLM.int8(): a matrix product in int8, but for the columns that hold outliers.

What it computes, and every intermediate of it, is defined to the bit: the integer sums are exact,
and all that rounds is float64 arithmetic in a stated order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Context
from typing import Any, NamedTuple

import numpy as np

from . import interop
from .backends import Float64, current_backend
from .integer_product import integer_product
from .metrics import Error, error, json_number
from .quantization import absmax
from .quantized import Quantized
from .table import Table

__all__ = ["LLMInt8", "ThresholdRow", "ThresholdSweep", "llm_int8_matmul", "sweep_threshold"]

#: The threshold that the method was published with.
THRESHOLD = 6.0

# --- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class LLMInt8:
    """A product by LLM.int8() with every step of it; made by ``ff.llm_int8_matmul``.

    Arrays are of x's kind (NumPy or torch), and those with a row for each of x's have its leading
    axes. k is the number of x's columns, m that of w's.

    Attributes
    ----------
    output : array of float32
        The product: both parts added in float64, then rounded once.
    outlier_columns : array of int64
        The columns of x, and rows of w, that stayed out of int8; ascending.
    x_codes, w_codes : array of int8
        Of the other columns of x, and rows of w: no entries for outliers.
    x_scale, w_scale : array of float32
        The value of code 1: of each row of x (last axis 1), of each column of w (shape (1, m)).
    int32 : array of int32
        ``x_codes @ w_codes``, exact.
    int8_output, outlier_output : array of float32
        Each part by itself, rounded once.
    outlier_weights : array
        What the outlier columns were multiplied by, in w's dtype.
    threshold : float
        From which magnitude a value is an outlier.
    weights : str
        ``"original"`` or ``"dequantised"``.
    route : str
        What computed `int32`; all routes give the same bits, and ``==`` ignores it.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x, w = np.float32([[2, 45, -1], [1, 37, 1]]), np.float32([[-1, 0], [2, 0], [0, -2]])
    >>> print(ff.llm_int8_matmul(x, w))
    LLM.int8(): (2, 3) @ (3, 2), threshold 6, original weights
    1 of 3 columns in floating point, 20 bytes of weights, int32 by fp32 BLAS
    outlier columns  [1]
    x scale          [[0.01574803] [0.00787402]]
    w scale          [[0.00787402 0.01574803]]
    output
    [[88.        2.015748]
     [73.       -2.      ]]
    """

    output: Any
    outlier_columns: Any
    x_codes: Any
    w_codes: Any
    x_scale: Any
    w_scale: Any
    int32: Any
    int8_output: Any
    outlier_output: Any
    outlier_weights: Any
    threshold: float
    weights: str
    route: str = field(compare=False)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return interop.same(self, other)

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    @property
    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of x and w."""
        k = self.x_codes.shape[-1] + len(self.outlier_columns)
        return (*self.x_codes.shape[:-1], k), (k, self.w_codes.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of w as this product uses it: codes, scales, and the outliers' rows.

        Those take w's own dtype if weights are original, else a byte a value. Which rows they are
        depends on x: what has to serve any x in original weights keeps all of w as well.
        """
        codes, scale, rows = map(
            interop.to_numpy, (self.w_codes, self.w_scale, self.outlier_weights)
        )
        outliers = rows.nbytes if self.weights == "original" else rows.size
        return codes.nbytes + scale.nbytes + outliers

    def to_dict(self) -> dict[str, Any]:
        """Return everything but codes, weights and products, ready for JSON."""
        columns, x_scale, w_scale = map(
            interop.to_numpy, (self.outlier_columns, self.x_scale, self.w_scale)
        )
        with current_backend().float_environment():
            scales = {"x_scale": x_scale.tolist(), "w_scale": w_scale.tolist()}
        return {
            "shapes": [list(shape) for shape in self.shape],
            "threshold": json_number(self.threshold),
            "weights": self.weights,
            "outlier_columns": columns.tolist(),
            **scales,
            "nbytes": self.nbytes,
            "route": self.route,
        }

    def __str__(self) -> str:
        x_shape, w_shape = self.shape
        with current_backend().float_environment():
            columns, x_scale, w_scale = (
                " ".join(np.array2string(interop.to_numpy(part), threshold=8).split())
                for part in (self.outlier_columns, self.x_scale, self.w_scale)
            )
            output = np.array2string(interop.to_numpy(self.output), threshold=64)
        return (
            f"LLM.int8(): {x_shape} @ {w_shape}, threshold {self.threshold:.6g},"
            f" {self.weights} weights\n"
            f"{len(self.outlier_columns):,} of {w_shape[0]:,} columns in floating point,"
            f" {self.nbytes:,} bytes of weights, int32 by {self.route}\n"
            f"outlier columns  {columns}\n"
            f"x scale          {x_scale}\n"
            f"w scale          {w_scale}\n"
            f"output\n{output}"
        )


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """What one threshold does to a product.

    Attributes
    ----------
    threshold : float
        From which magnitude a value is an outlier.
    outlier_columns : int
        How many columns stayed out of int8.
    error : Error
        Of the output, against the exact product.
    nbytes : int
        As `LLMInt8.nbytes`.
    """

    threshold: float
    outlier_columns: int
    error: Error
    nbytes: int

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, ready for JSON; the error's are among them."""
        return {
            "threshold": json_number(self.threshold),
            "outlier_columns": self.outlier_columns,
            **{name: value for name, value in self.error.to_dict().items() if name != "count"},
            "nbytes": self.nbytes,
        }


@dataclass(frozen=True, slots=True)
class ThresholdSweep:
    """The error of LLM.int8() by threshold; made by ``ff.sweep_threshold``.

    Attributes
    ----------
    shapes : tuple
        Of x and w.
    weights : str
        ``"original"`` or ``"dequantised"``.
    rows : tuple of ThresholdRow
        One a threshold.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    weights: str
    rows: tuple[ThresholdRow, ...]

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        return interop.preformatted(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that ``json.dumps`` takes as it is."""
        return {
            "shapes": [list(shape) for shape in self.shapes],
            "weights": self.weights,
            "rows": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        header = ("threshold", "outlier columns", "max abs", "RMSE", "SQNR dB", "weight bytes")
        rows = tuple(
            (
                f"{row.threshold:.6g}",
                f"{row.outlier_columns:,}",
                f"{row.error.max_abs:.3g}",
                f"{row.error.rmse:.3g}",
                f"{row.error.sqnr_db:.2f}",
                f"{row.nbytes:,}",
            )
            for row in self.rows
        )
        table = Table(
            tuple((name,) for name in header),
            tuple(tuple((text, "") for text in row) for row in rows),
        )
        x_shape, w_shape = self.shapes
        title = f"LLM.int8() by threshold: {x_shape} @ {w_shape}, {self.weights} weights"
        lines = ("".join(text for text, _ in line) for line in table.lines())
        return "\n".join([title, "", *lines])


# --- verbs --------------------------------------------------------------------------------------


def llm_int8_matmul(
    x: Any, w: Any, threshold: float = THRESHOLD, weights: str = "original"
) -> LLMInt8:
    """Multiply ``x @ w`` as LLM.int8() does, and keep every intermediate.

    Parameters
    ----------
    x : array
        Activations, shape (..., k): finite fp32, fp16 or bf16 values; NumPy or torch, any strides
        and byte order.
    w : array
        Weights, shape (k, m), of any of these dtypes. A torch Linear stores the transpose.
    threshold : float
        A column of x is an outlier if ``abs(x) >= threshold`` in any of its rows, over all leading
        axes. 0 makes every column one, inf none. (To bitsandbytes, 0 means none.)
    weights : {"original", "dequantised"}
        What the outlier columns are multiplied by:

        - original: their rows of w as they are. A column of w has its scale from its other rows;
        - dequantised: their rows of w after int8, as bitsandbytes has it, which keeps no other
          weights: those of ``ff.absmax(w, axis=1).dequantize()``. A column of w has its scale from
          all of its rows, the outliers' too.

    Returns
    -------
    LLMInt8

    Raises
    ------
    ValueError
        A value is NaN or Inf (the message names the first), the shapes do not fit, an integer sum
        leaves int32, the threshold is negative or NaN.
    TypeError
        x or w holds fp64 values, or no floats.

    Notes
    -----
    1. Outliers are found by exact comparison of x's values with the threshold as a float64.
    2. The rest is quantised by ``ff.absmax``: x with a scale for each row, from the columns that
       are no outliers; w with one for each column. Each is ``max(abs) / 127`` rounded to fp32, and
       a code the correctly rounded quotient by it, ties to even. A row or column without values,
       or of zeros, has scale 1.
    3. ``int32 = x_codes @ w_codes`` is exact. A sum beyond int32, which takes more than 133,144
       columns, is an error.
    4. ``int32 * (x_scale * w_scale)`` in float64: the product of the scales is exact, so this
       rounds once.
    5. Outlier columns: float64 sums, one column added after the other, ascending, from 0. Each
       product is exact; each addition rounds.
    6. The sum of 4 and 5 is rounded to float64, and that to float32: IEEE's nearest, Inf beyond its
       range. So are both parts by themselves.

    Integer sums come from ``torch._int_mm`` if x is a tensor of at least 16 rows and it has proved
    exact and faster on this machine, once a process; else from fp32 BLAS on up to 1,040 columns at
    a time, whose sums stay below 2**24; where that fails its proof, from others.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x, w = np.float32([[2, 45, -1], [1, 37, 1]]), np.float32([[-1, 0], [2, 0], [0, -2]])
    >>> result = ff.llm_int8_matmul(x, w)
    >>> result.outlier_columns, result.int32.tolist(), result.outlier_output.tolist()
    (array([1]), [[-16129, 8128], [-16129, -16129]], [[90.0, 0.0], [74.0, 0.0]])
    >>> result.output - x @ w
    array([[0.        , 0.01574802],
           [0.        , 0.        ]], dtype=float32)
    """
    return _product(_operands(x, w), _number(threshold), _known(weights))


def sweep_threshold(
    x: Any, w: Any, thresholds: Any = None, weights: str = "original"
) -> ThresholdSweep:
    """Measure the error of LLM.int8() for each of several thresholds.

    Parameters
    ----------
    x, w, weights
        As in ``ff.llm_int8_matmul``.
    thresholds : sequence of float, optional
        Rows are in this order. By default, descending: inf, 6, 0, and short numbers from which at
        least 1, 2, 4, 8 and so on of x's columns are outliers.

    Returns
    -------
    ThresholdSweep
        Errors of the float32 output as ``ff.error`` has them, against the product of x and w: a
        float64 sum of exact products, column after column, within ``(k - 1) * 2**-53`` of the sum
        of their magnitudes. With every column an outlier and original weights, the error that is
        left is that of rounding it to float32.

    Examples
    --------
    >>> import floatfmt as ff, numpy as np
    >>> x, w = np.float32([[2, 45, -1], [1, 37, 1]]), np.float32([[-1, 0], [2, 0], [0, -2]])
    >>> print(ff.sweep_threshold(x, w))
    LLM.int8() by threshold: (2, 3) @ (3, 2), original weights
    <BLANKLINE>
    threshold  outlier columns  max abs     RMSE  SQNR dB  weight bytes
    inf                      0    0.252    0.169    50.60            14
    45                       1   0.0157  0.00787    77.22            20
    6                        1   0.0157  0.00787    77.22            20
    2                        2        0        0      inf            26
    0                        3        0        0      inf            32
    """
    given, how = _operands(x, w), _known(weights)
    chosen = _default_thresholds(given) if thresholds is None else np.atleast_1d(thresholds)
    numbers = [_number(threshold) for threshold in chosen]
    with current_backend().float_environment():
        exact = _outlier_sums(given.x, given.w).reshape(given.output_shape)
    rows = tuple(_row(_product(given, threshold, how), exact) for threshold in numbers)
    return ThresholdSweep((given.x_shape, given.w.shape), how, rows)


def _row(result: LLMInt8, exact: Float64) -> ThresholdRow:
    return ThresholdRow(
        threshold=result.threshold,
        outlier_columns=len(result.outlier_columns),
        error=error(exact, result.output),
        nbytes=result.nbytes,
    )


def _default_thresholds(given: _Operands) -> list[float]:
    k = len(given.largest)
    descending = np.sort(given.largest)[::-1].tolist() if given.x.size else []
    # Four digits, rounded down: what is printed can be typed in again.
    short = Context(prec=4, rounding=ROUND_DOWN)
    counts = (2**i for i in range(k.bit_length()) if 2**i < k)
    from_data = {float(short.create_decimal(descending[n - 1])) for n in counts if descending}
    return sorted({math.inf, THRESHOLD, 0.0, *from_data}, reverse=True)


# --- arguments ----------------------------------------------------------------------------------


class _Operands(NamedTuple):
    """What is multiplied, checked, with x as a matrix."""

    kind: Any
    x_shape: tuple[int, ...]
    x: np.ndarray
    w: np.ndarray
    #: The largest magnitude of each column of x; -inf if it has no rows.
    largest: Float64

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.x_shape[:-1], self.w.shape[1])


def _operands(x: Any, w: Any) -> _Operands:
    left, right = _values(x, "x"), _values(w, "w")
    if right.ndim != 2:
        raise ValueError(f"w has shape {right.shape}; it needs two axes, (inputs, outputs)")
    if left.ndim == 0:
        raise ValueError("x is a single value; it needs an axis at least, (..., inputs)")
    k = left.shape[-1]
    if k != len(right):
        turned = "; pass w.T" if k == right.shape[1] else ""
        raise ValueError(
            f"x has {k:,} columns (shape {left.shape}) and w {len(right):,} rows (shape"
            f" {right.shape}); x @ w needs as many{turned}"
        )
    rows = math.prod(left.shape[:-1])
    matrix = left.reshape(rows, k)
    with current_backend().float_environment():
        for values, name in ((left, "x"), (right, "w")):
            _check_finite(values, name)
        wide = np.abs(matrix.astype(np.float32, copy=False))
        largest = wide.max(axis=0, initial=-math.inf).astype(np.float64)
    return _Operands(x, left.shape, matrix, interop.plain(right), largest)


def _values(x: Any, name: str) -> np.ndarray:
    values = interop.float_array(x)
    # Products of fp64 values are not exact in fp64, nor do fp32 scales and outputs hold them.
    if values.dtype.kind == "f" and values.dtype.itemsize == 8:
        cast = f"{name}.float()" if interop.is_torch(x) else f"np.float32({name})"
        raise TypeError(f"{name} holds fp64; LLM.int8() takes fp32, fp16 or bf16: pass {cast}")
    return values


def _check_finite(values: np.ndarray, name: str) -> None:
    if not np.isfinite(values).all():
        position, value = interop.first_where(values, lambda piece: ~np.isfinite(piece), name)
        raise ValueError(f"{position} is {value}; int8 codes need finite values")


def _number(threshold: Any) -> float:
    given = interop.to_numpy(threshold)
    if given.ndim or given.dtype.kind not in "fiu":
        raise TypeError(f"threshold must be a number, got {threshold!r}")
    if not given >= 0:
        raise ValueError(f"threshold must be at least 0, up to inf, got {threshold}")
    return float(given)


def _known(weights: str) -> str:
    if not isinstance(weights, str) or weights not in WEIGHTS:
        raise ValueError(f"weights must be {' or '.join(map(repr, WEIGHTS))}, got {weights!r}")
    return weights


# --- the product --------------------------------------------------------------------------------


def _product(given: _Operands, threshold: float, weights: str) -> LLMInt8:
    is_outlier = given.largest >= threshold
    with current_backend().float_environment():
        x = absmax(given.x[:, ~is_outlier], axis=0)
        w, outlier_weights = WEIGHTS[weights](given.w, is_outlier)
        sums, route = integer_product(x.codes, w.codes, given.kind)
        inner = sums * (x.scale.astype(np.float64) * w.scale.astype(np.float64))
        outer = _outlier_sums(given.x[:, is_outlier], outlier_weights)
        with np.errstate(over="ignore"):  # Inf is the answer
            outputs = [part.astype(np.float32) for part in (inner + outer, inner, outer)]

    def rows(array: np.ndarray) -> Any:
        leading = given.x_shape[:-1]
        return interop.like(array.reshape(*leading, array.shape[-1]), given.kind)

    output, int8_output, outlier_output = map(rows, outputs)
    return LLMInt8(
        output=output,
        outlier_columns=interop.like(np.flatnonzero(is_outlier), given.kind),
        x_codes=rows(x.codes),
        w_codes=interop.like(w.codes, given.kind),
        x_scale=rows(x.scale),
        w_scale=interop.like(w.scale, given.kind),
        int32=rows(sums),
        int8_output=int8_output,
        outlier_output=outlier_output,
        outlier_weights=interop.like(outlier_weights, given.kind),
        threshold=threshold,
        weights=weights,
        route=route,
    )


def _original(w: np.ndarray, is_outlier: np.ndarray) -> tuple[Quantized, np.ndarray]:
    return absmax(w[~is_outlier], axis=1), w[is_outlier]


def _dequantised(w: np.ndarray, is_outlier: np.ndarray) -> tuple[Quantized, np.ndarray]:
    whole = absmax(w, axis=1)
    inner, outer = (_rows_of(whole, rows) for rows in (~is_outlier, is_outlier))
    return inner, outer.dequantize()


def _rows_of(q: Quantized, rows: np.ndarray) -> Quantized:
    codes = q.codes[rows]
    return replace(q, packed=codes, shape=codes.shape)


#: How w becomes codes, and what outlier columns are multiplied by.
WEIGHTS = {"original": _original, "dequantised": _dequantised}

#: Float64 sums worked on at once: with their products they stay in the second-level cache.
SUMS = 1 << 15


def _outlier_sums(x: np.ndarray, w: np.ndarray) -> Float64:
    """Return ``x @ w`` as float64 sums of exact products, column after column.

    Not by BLAS: its order of summation, and so its last bit, depends on the machine.
    """
    left, right = np.asfortranarray(x.astype(np.float64)), w.astype(np.float64)
    sums = np.zeros((len(left), right.shape[1]))
    step = max(1, SUMS // max(1, right.shape[1]))
    for start in range(0, len(sums), step):
        part = sums[start : start + step]
        products = np.empty_like(part)
        for column, row in zip(left[start : start + step].T, right, strict=True):
            np.multiply(column[:, np.newaxis], row, out=products)
            part += products
    return sums
