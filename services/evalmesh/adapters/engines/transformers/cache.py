"""Keys and values of a batch whose rows come and go.

All rows end at the same column: what is fed next goes into the columns right after it, for every row. Where a row
begins is its own affair; what lies left of that is never looked at (`Forward` masks it). So a row that joins is laid
down right-aligned, a row that leaves is overwritten by the last one, and a step writes one column in place, where the
cache of the library would copy all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_LEAST_COLUMNS = 64


@dataclass(slots=True)
class _Extent:
    """Shared by the layers: the rows and columns that are in use, and those there is room for."""

    rows: int
    left: int
    right: int
    most_rows: int
    most_columns: int


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # the library's classes have no types for us
    """One layer's part, on the device where the layer is."""

    is_sliding = False

    def __init__(self, extent: _Extent) -> None:
        super().__init__()
        self._extent = extent

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        # Zeros: what is masked counts as nothing only while it is a number.
        at = self._extent
        self.keys, self.values = (
            states.new_zeros(at.most_rows, states.shape[1], at.most_columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes in what a pass has made, and gives what it may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        at, new = self._extent, key_states.shape[2]
        rows, right = key_states.shape[0], at.right + new
        self.keys[:rows, :, at.right : right] = key_states
        self.values[:rows, :, at.right : right] = value_states
        return self.keys[:rows, :, at.left : right], self.values[:rows, :, at.left : right]

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        new = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.get_seq_length() + new, 0

    def get_seq_length(self) -> int:
        return self._extent.right - self._extent.left

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length
    """Its name in older releases."""

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Both, once there are any."""
        return (self.keys, self.values) if self.is_initialized else ()


class SlotCache(Cache):  # type: ignore[misc]
    """See the module."""

    def __init__(self, layers: int, rows: int, columns: int = _LEAST_COLUMNS) -> None:
        """Room for so many rows and columns, to begin with."""
        self._extent = _Extent(0, 0, 0, max(1, rows), max(_LEAST_COLUMNS, columns))
        super().__init__(layers=[_Layer(self._extent) for _ in range(layers)])

    @property
    def rows(self) -> int:
        """In use."""
        return self._extent.rows

    @property
    def width(self) -> int:
        """Columns in use."""
        return self._extent.right - self._extent.left

    def begin(self, rows: int) -> None:
        """The first pass will be of so many rows."""
        self._extent.rows = rows
        self._make_room(rows, 0)

    def reserve(self, columns: int) -> None:
        """Makes room for what the next pass writes."""
        at = self._extent
        if at.right + columns <= at.most_columns:
            return
        if at.left >= self.width and at.left >= columns:
            self._slide(0)
        else:
            self._resize(at.most_rows, 2 * (self.width + columns), 0)

    def advance(self, columns: int) -> None:
        """A pass has written so many."""
        self._extent.right += columns

    def trim(self, width: int) -> None:
        """No row is longer than `width` any more."""
        self._extent.left = max(self._extent.left, self._extent.right - width)

    def drop(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """Rows leave; the last ones take their places: pairs of (to, from), in the order they were moved in."""
        gone, moved = set(rows), []
        kept = self._extent.rows - len(gone)
        movers = iter([row for row in range(kept, self._extent.rows) if row not in gone])
        span = slice(self._extent.left, self._extent.right)
        for place in sorted(row for row in gone if row < kept):
            source = next(movers)
            moved.append((place, source))
            for tensor in self._tensors():
                tensor[place, :, span] = tensor[source, :, span]
        self._extent.rows = kept
        return moved

    def join(self, other: "SlotCache") -> None:
        """Rows of another cache come behind ours."""
        width = max(self.width, other.width)
        if self._extent.right < width:
            self._resize(self._extent.most_rows, 2 * width, width - self.width)
        at, theirs = self._extent, other._extent  # noqa: SLF001 - of the same class
        self._make_room(at.rows + theirs.rows, 0)
        at.left = min(at.left, at.right - other.width)
        places = slice(at.rows, at.rows + theirs.rows)
        span, source = slice(at.right - other.width, at.right), slice(theirs.left, theirs.right)
        for tensor, given in zip(self._tensors(), other._tensors(), strict=True):  # noqa: SLF001
            tensor[places, :, span] = given[: theirs.rows, :, source]
        at.rows += theirs.rows

    def spread(self, rows: Sequence[int], columns: int) -> "SlotCache":
        """A cache whose row i is a copy of our row `rows[i]`, with room for so many more columns."""
        at = self._extent
        copy = SlotCache(len(self.layers), len(rows), self.width + columns)
        copy._extent.rows, copy._extent.right = len(rows), self.width
        for layer, ours in zip(copy.layers, self.layers, strict=True):
            if not ours.is_initialized:
                continue
            layer.lazy_initialization(ours.keys[:, :, :1], ours.values[:, :, :1])
            for tensor, given in zip(layer.tensors(), ours.tensors(), strict=True):
                picked = torch.tensor(rows, device=given.device)
                tensor[:, :, : self.width] = given[:, :, at.left : at.right].index_select(0, picked)
        return copy

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for layer in self.layers for tensor in layer.tensors()]

    def _make_room(self, rows: int, shift: int) -> None:
        if rows > self._extent.most_rows:
            self._resize(max(rows, 2 * self._extent.most_rows), self._extent.most_columns, self._extent.left + shift)

    def _slide(self, left: int) -> None:
        """Moves what is in use to begin at column `left`; the two places must not overlap."""
        at, width = self._extent, self.width
        for tensor in self._tensors():
            tensor[: at.rows, :, left : left + width] = tensor[: at.rows, :, at.left : at.right]
        at.left, at.right = left, left + width

    def _resize(self, rows: int, columns: int, left: int) -> None:
        """Other tensors of this size, in which what is in use begins at column `left`."""
        at, width = self._extent, self.width
        columns = max(columns, left + width)
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys, layer.values = (
                    self._copied(tensor, (rows, columns), left) for tensor in (layer.keys, layer.values)
                )
        at.most_rows, at.most_columns, at.left, at.right = rows, columns, left, left + width

    def _copied(self, tensor: torch.Tensor, size: tuple[int, int], left: int) -> torch.Tensor:
        at = self._extent
        larger = tensor.new_zeros(size[0], tensor.shape[1], size[1], tensor.shape[3])
        larger[: at.rows, :, left : left + self.width] = tensor[: at.rows, :, at.left : at.right]
        return larger
