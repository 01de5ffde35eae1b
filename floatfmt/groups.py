"""Which values share a scale: those of an index of some axes, or blocks along an axis.

Values are worked on in sections that hold whole groups and fit in the cache where they can, so that
what is found out about a group is used before it has left; and a section in plain pieces of three
axes (outer, channels, inner), each channel one group or a part of it, as the kernels take them.

Parameters, one a group, are arrays of `parameter_shape`; `scale_shape` is how users see them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import interop
from .backends import backend_name

__all__ = ["EVERYTHING", "AxisGroups", "BlockGroups", "Groups", "Piece", "Section"]

#: Elements of a section: as fp32 they take half of a second-level cache.
SECTION = 1 << 17

Index: TypeAlias = tuple[Any, ...]


class Section(NamedTuple):
    """Where a section lies: in the values, as `view` gives them, and in the parameters."""

    values: Index
    parameters: Index


EVERYTHING = Section((...,), (...,))


class Piece(NamedTuple):
    """Part of a section as the kernels take it, and where its channels are in the parameters."""

    parameters: Index
    arrays: tuple[np.ndarray, ...]

    def of(self, parameters: np.ndarray) -> np.ndarray:
        """Return the parameters of the piece's channels, which are one after another in memory."""
        return np.ascontiguousarray(parameters[self.parameters]).reshape(-1)

    def put(self, parameters: np.ndarray, found: np.ndarray) -> None:
        """Set the parameters of the piece's channels."""
        target = parameters[self.parameters]
        parameters[self.parameters] = found.reshape(target.shape)


class AxisGroups(NamedTuple):
    """A group for every index of the axes in `axes`, ascending; for none, one of all values."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def block(self) -> None:
        """No values in a block, unlike `BlockGroups`."""

    @property
    def axis(self) -> None:
        """No axis along which blocks lie."""

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The lengths of the kept axes."""
        return tuple([self.shape[a] for a in self.axes])  # faster than of a generator

    @property
    def rows_in_order(self) -> tuple[int, ...]:
        """The shape in which codes are packed, along its last axis."""
        return self.shape or (1,)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The values' shape with 1 for every other axis, or () for one group."""
        kept = tuple(n if a in self.axes else 1 for a, n in enumerate(self.shape))
        return kept if self.axes else ()

    def to_scales(self, parameters: np.ndarray) -> np.ndarray:
        """Return parameters in the shape that users see."""
        return parameters.reshape(self.scale_shape)

    def from_scales(self, scales: np.ndarray) -> np.ndarray:
        """Undo `to_scales`."""
        return scales.reshape(self.parameter_shape)

    @property
    def are_whole(self) -> bool:
        """Whether no block is short."""
        return True

    @property
    def in_rows(self) -> bool:
        """Whether the values of a group are neighbours in C order."""
        return self.axes == tuple(range(len(self.axes)))

    @property
    def size(self) -> int:
        """How many values a group has."""
        return math.prod(n for a, n in enumerate(self.shape) if a not in self.axes)

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the values' shape as sections index it."""
        return array

    def sections(self) -> Iterator[Section]:
        """Yield sections; where the kept axes do not come first, the only one is everything."""
        size = math.prod(self.shape[len(self.axes) :])
        if self.axes != tuple(range(len(self.axes))) or 2 * size > SECTION:
            yield EVERYTHING
            return
        for index in interop.slabs(self.parameter_shape, SECTION // max(size, 1)):
            yield Section(index, index)

    def groups_in(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the parameters of a section of that shape."""
        return tuple(shape[a] for a in self.axes)

    def rows(self, values: np.ndarray) -> Iterator[tuple[Index, np.ndarray]]:
        """Yield where groups of a section are in its parameters, and those as rows."""
        others = tuple(a for a in range(values.ndim) if a not in self.axes)
        kept = values.transpose(*self.axes, *others)
        shape = self.groups_in(values.shape)
        size = math.prod(kept.shape[len(shape) :])
        for index in interop.slabs(shape, max(SECTION // max(size, 1), 1)):
            part = kept[index]
            yield index, part.reshape(*part.shape[: len(shape)], size)

    def slabs(self, section: Section) -> Iterator[Section]:
        """Cut a section by rows, whatever that does to groups."""
        if section.values != (...,):
            yield section
            return
        for index in interop.slabs(self.shape, SECTION):
            cuts = (*index[:-1], *[slice(None)] * (len(self.shape) - len(index) + 1))
            yield Section(index, tuple(cuts[a] for a in self.axes) or (...,))

    def pieces(self, arrays: tuple[np.ndarray, ...], writes: int = 0) -> Iterator[Piece]:
        """Cut arrays of one section's shape into pieces.

        The last `writes` arrays are written to: what the caller puts into their piece is in the
        array before the next piece comes.
        """
        order = _working_order(arrays[0], self.axes)
        arrays = tuple(array.transpose(order) for array in arrays)
        first = order.index(self.axes[0]) if self.axes else 0
        kept = slice(first, first + len(self.axes))
        whole = backend_name() != "reference" and all(map(interop.is_plain, arrays))
        shape = arrays[0].shape
        for index in [(...,)] if whole else interop.slabs(shape):
            views = [array[index] for array in arrays]
            cut = (*index[:-1], *[slice(None)] * (len(shape) - len(index) + 1))[kept]
            layout = (
                math.prod(views[0].shape[: kept.start]),
                math.prod(views[0].shape[kept]),
                math.prod(views[0].shape[kept.stop :]),
            )
            plains = [interop.plain(view) for view in views]
            yield Piece(cut or (...,), tuple(array.reshape(layout) for array in plains))
            _write_back(views, plains, writes)

    def spread(self, parameters: np.ndarray, index: Index) -> np.ndarray:
        """Return parameters in a form that broadcasts to ``values[index]``, a slab."""
        scales = self.to_scales(parameters)
        if not self.axes:
            return scales
        cuts = (c if scales.shape[a] > 1 else slice(None) for a, c in enumerate(index[:-1]))
        return scales[tuple(cuts)]


def _working_order(array: np.ndarray, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes in an order that has the kept ones side by side, ascending.

    As they lie in memory, if that has it; else with the kept axes in front, a view that is not
    contiguous and so is worked on slab by slab.
    """
    for order in (interop.memory_order(array), tuple(range(array.ndim))):
        places = [order.index(a) for a in axes]
        if places == list(range(places[0], places[0] + len(axes)) if places else []):
            return order
    return (*axes, *(a for a in range(array.ndim) if a not in axes))


def _write_back(views: list[np.ndarray], plains: list[np.ndarray], writes: int) -> None:
    for view, copy in list(zip(views, plains, strict=True))[len(views) - writes :]:
        if copy is not view:
            view[...] = copy


class BlockGroups(NamedTuple):
    """Blocks of `block` neighbours along an axis, the last of which may be short.

    With an `axis` of None the values are one row, in C order.
    """

    shape: tuple[int, ...]
    block: int
    axis: int | None

    @property
    def axes(self) -> tuple[int, ...]:
        """No axes whose every index has a group, unlike `AxisGroups`."""
        return ()

    @property
    def _rows(self) -> tuple[int, ...]:
        """The values' shape with the blocked axis last."""
        if self.axis is None:
            return (math.prod(self.shape),)
        others = tuple(n for a, n in enumerate(self.shape) if a != self.axis)
        return (*others, self.shape[self.axis])

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Rows, and the blocks of each."""
        *others, length = self._rows
        return (*others, -(-length // self.block))

    @property
    def rows_in_order(self) -> tuple[int, ...]:
        """The shape in which codes are packed, along its last axis."""
        return (math.prod(self.shape),) if self.axis is None else self.shape

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The values' shape with the number of blocks in place of the blocked axis."""
        *others, blocks = self.parameter_shape
        if self.axis is not None:
            others.insert(self.axis, blocks)
            return tuple(others)
        return (blocks,)

    def to_scales(self, parameters: np.ndarray) -> np.ndarray:
        """Return parameters in the shape that users see."""
        return parameters if self.axis is None else np.moveaxis(parameters, -1, self.axis)

    def from_scales(self, scales: np.ndarray) -> np.ndarray:
        """Undo `to_scales`."""
        return scales if self.axis is None else np.moveaxis(scales, self.axis, -1)

    @property
    def are_whole(self) -> bool:
        """Whether no block is short."""
        return self._rows[-1] % self.block == 0

    @property
    def in_rows(self) -> bool:
        """Whether the values of a group are neighbours in C order."""
        return self.axis in (None, len(self.shape) - 1)

    @property
    def size(self) -> int:
        """How many values a group has, if it is not short."""
        return self.block

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the values' shape as sections index it.

        A copy where the values are one row and do not lie in memory so.
        """
        if self.axis is None:
            return array.reshape(-1)
        is_last = self.axis == array.ndim - 1
        return array if is_last else np.moveaxis(array, self.axis, -1)

    def sections(self) -> Iterator[Section]:
        """Yield sections of whole rows, or of whole blocks of one row if that is long."""
        *others, length = self._rows
        if length <= SECTION:
            for index in interop.slabs(self._rows, SECTION):
                yield Section(index, index)
            return
        # A multiple of 8 codes ends with a byte, however many bits they have.
        step = math.lcm(self.block, 8)
        step *= max(1, SECTION // step)
        for row in np.ndindex(*others):
            lead = tuple(slice(i, i + 1) for i in row)
            for start in range(0, length, step):
                blocks = slice(start // self.block, -(-min(start + step, length) // self.block))
                yield Section((*lead, slice(start, start + step)), (*lead, blocks))

    def groups_in(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the parameters of a section of that shape."""
        return (*shape[:-1], -(-shape[-1] // self.block))

    def rows(self, values: np.ndarray) -> Iterator[tuple[Index, np.ndarray]]:
        """Yield where groups of a section are in its parameters, and those as rows."""
        for piece in self.pieces((values,)):
            (x,) = piece.arrays
            blocks = piece.parameters[-1]
            shape = (*values.shape[:-1], blocks.stop - blocks.start, x.shape[-1])
            yield piece.parameters, x.reshape(shape)

    def slabs(self, section: Section) -> Iterator[Section]:
        """Cut a section by rows: it is small enough."""
        yield section

    def pieces(self, arrays: tuple[np.ndarray, ...], writes: int = 0) -> Iterator[Piece]:
        """Cut arrays of one section's shape into pieces, as `AxisGroups.pieces`."""
        length = arrays[0].shape[-1]
        whole = length - length % self.block
        for start, stop, block in ((0, whole, self.block), (whole, length, length - whole)):
            if start == stop:
                continue
            views = [array[..., start:stop] for array in arrays]
            plains = [interop.plain(view) for view in views]
            blocks = slice(start // self.block, -(-stop // self.block))
            yield Piece((..., blocks), tuple(array.reshape(1, -1, block) for array in plains))
            _write_back(views, plains, writes)

    def spread(self, parameters: np.ndarray, index: Index) -> np.ndarray:
        """Return parameters in a form that broadcasts to ``values[index]``, a slab."""
        cuts = (*index[:-1], *[slice(None)] * (len(self.shape) - len(index) + 1))
        at = np.ix_(*(np.arange(n)[c] for n, c in zip(self.shape, cuts, strict=True)))
        if self.axis is None:
            flat = np.ravel_multi_index(at, self.shape) if at else np.zeros((), np.intp)
            return parameters[flat // self.block]
        scales = self.to_scales(parameters)
        return scales[tuple(i // self.block if a == self.axis else i for a, i in enumerate(at))]


Groups: TypeAlias = "AxisGroups | BlockGroups"
