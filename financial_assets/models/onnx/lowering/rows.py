"""Rows of values in the tensors of an ONNX graph, and how lists of them are brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from financial_assets.models.onnx.builder import GraphBuilder

FEW = 6
"""So many rows are rather computed, or taken apart, than some of them gathered."""


class Rows:
    """Where the rows are: each at a place along the first axis of a tensor ``[row, batch, session]``.

    Parameters
    ----------
    builder
        Where to write.
    channels
        Rows 0 to ``channels - 1`` are those of ``source``.
    source
        Name of the bars.
    flags
        Rows that hold truth values.
    """

    def __init__(self, builder: GraphBuilder, channels: int, source: str, flags: Set[int]) -> None:
        self.builder = builder
        self.emit, self.constant = builder.emit, builder.constant
        self._flags = flags
        self._joined: set[tuple[int, ...]] = set()
        self.tensors, self.sizes = [source], [channels]
        self.at: dict[int, tuple[int, int]] = {channel: (0, channel) for channel in range(channels)}

    def store(self, rows: Mapping[int, int], tensor: str, size: int) -> None:
        """Note that ``rows`` are at these places of a tensor of ``size`` rows."""
        if tensor not in self.tensors:
            self.tensors.append(tensor)
            self.sizes.append(size)
        self.at.update({row: (self.tensors.index(tensor), place) for row, place in rows.items()})

    def rows(self, rows: Sequence[int]) -> str:
        """The values of rows, whatever tensors they are in."""
        return self.operands([rows])[0]

    def operands(self, operands: Sequence[Sequence[int]]) -> list[str]:
        """The values of several lists of rows, gathered from as few tensors put together as possible."""
        everything = [row for rows in operands for row in rows]
        apart, together = [self._sources(rows) for rows in operands], self._sources(everything)
        nodes_apart = sum(self._nodes(rows, sources) for rows, sources in zip(operands, apart, strict=True))
        nodes_together = together not in self._joined
        nodes_together += sum(not self._is_whole(self._places(rows, together), together) for rows in operands)
        of_one_type = len({row in self._flags for row in everything}) == 1
        if of_one_type and len(together) > 1 and nodes_together < nodes_apart:
            apart = [together] * len(operands)
        return [self._gathered(rows, sources) for rows, sources in zip(operands, apart, strict=True)]

    def _tensors_of(self, rows: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.at[row][0] for row in rows))

    def _sources(self, rows: Sequence[int]) -> tuple[int, ...]:
        """The tensors of rows, or others with them that have been put together before."""
        sources = self._tensors_of(rows)
        if len(sources) == 1 or self._is_whole(self._places(rows, sources), sources):
            return sources
        covering = [joined for joined in self._joined if set(joined).issuperset(sources)]
        return min(covering, key=lambda joined: sum(self.sizes[source] for source in joined), default=sources)

    def _nodes(self, rows: Sequence[int], sources: tuple[int, ...]) -> int:
        joining = len(sources) > 1 and sources not in self._joined
        return joining + (not self._is_whole(self._places(rows, sources), sources))

    def _places(self, rows: Sequence[int], sources: Sequence[int]) -> list[int]:
        starts = dict(zip(sources, np.cumsum([0, *(self.sizes[source] for source in sources)]).tolist(), strict=False))
        return [starts[self.at[row][0]] + self.at[row][1] for row in rows]

    def _is_whole(self, places: Sequence[int], sources: Sequence[int]) -> bool:
        return places == list(range(sum(self.sizes[source] for source in sources)))

    def _gathered(self, rows: Sequence[int], sources: tuple[int, ...]) -> str:
        tensor, places = self._together(sources), self._places(rows, sources)
        if self._is_whole(places, sources):
            return tensor
        size = sum(self.sizes[source] for source in sources)
        if len(places) == 1 and size <= FEW:  # the other rows are likely to be taken one by one, too
            return self.builder.emit_parts("Split", [tensor], size, axis=0, num_outputs=size)[places[0]]
        return self.emit("Gather", [tensor, self.constant(np.array(places, dtype=np.int32))], axis=0)

    def _together(self, sources: tuple[int, ...]) -> str:
        names = [self.tensors[source] for source in sources]
        if len(names) == 1:
            return names[0]
        self._joined.add(sources)
        return self.emit("Concat", names, axis=0)

    def covering(self, rows: Sequence[int]) -> tuple[str, int, list[int]]:
        """A tensor that holds rows and maybe others, how many it holds, and the rows' places: it spares a gathering."""
        sources = self._tensors_of(rows)
        size = sum(self.sizes[source] for source in sources)
        if size > max(FEW, 2 * len(rows)):
            return self.rows(rows), len(rows), list(range(len(rows)))
        return self._together(sources), size, self._places(rows, sources)

    def part(self, tensor: str, *ranges: tuple[int, int, int, int]) -> str:
        """A part of a tensor: ``(axis, first, behind the last, step)`` each."""
        axes, starts, ends, steps = (self.builder.integers(*column) for column in zip(*ranges, strict=True))
        return self.emit("Slice", [tensor, starts, ends, axes, steps])
