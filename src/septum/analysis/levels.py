"""How one range stands to those of many nodes at once, as bit sets: bit n is node n."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from septum.labels import Level, Range

__all__ = ["Cell", "Levels", "bits"]

_FEW: Final = 8
"""Categories up to which all subsets of a level are looked up; beyond, nodes that have any other are taken out."""


class Cell(NamedTuple):
    """Nodes that stand to a range in one way.

    Attributes:
        key: the lower eight bits of `septum.labels.relation_key`, of the range and theirs.
        nodes: a bit set.
    """

    key: int
    nodes: int


def bits(nodes: int) -> Iterator[int]:
    """The members of a bit set, lowest first."""
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest


class _Side:
    """The low, or the high levels of all nodes."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._all = (1 << len(levels)) - 1
        self._same: dict[int, int] = {}
        self._having: dict[int, int] = {}
        self._sensitivities: dict[int, int] = {}
        for node, level in enumerate(levels):
            mask = level.categories.mask
            self._same[mask] = self._same.get(mask, 0) | 1 << node
            self._sensitivities[level.sensitivity] = self._sensitivities.get(level.sensitivity, 0) | 1 << node
        for mask, nodes in self._same.items():
            for category in bits(mask):
                self._having[category] = self._having.get(category, 0) | nodes

    def split(self, level: Level) -> tuple[int, int, int, int]:
        """Nodes whose level equals `level`, is dominated by it, dominates it, and neither."""
        mask = level.categories.mask
        below, above = self._within(mask), self._all
        for category in bits(mask):
            above &= self._having.get(category, 0)
        if len(self._sensitivities) > 1 or level.sensitivity not in self._sensitivities:
            for sensitivity, nodes in self._sensitivities.items():
                if sensitivity > level.sensitivity:
                    below &= ~nodes
                elif sensitivity < level.sensitivity:
                    above &= ~nodes
        same = below & above
        return same, below & ~same, above & ~same, self._all & ~(below | above)

    def _within(self, mask: int) -> int:
        """Nodes that have no category beyond those of `mask`."""
        if mask.bit_count() > _FEW:
            others = 0
            for category, nodes in self._having.items():
                if not mask >> category & 1:
                    others |= nodes
            return self._all & ~others
        found, subset = self._same.get(0, 0), mask
        while subset:
            found |= self._same.get(subset, 0)
            subset = subset - 1 & mask
        return found


class Levels:
    """The ranges of all nodes.

    Args:
        ranges: of each node, by its number.
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._low = _Side([one.low for one in ranges])
        self._high = _Side([one.high for one in ranges])
        self._known: dict[Range, tuple[Cell, ...]] = {}

    def cells(self, one: Range) -> tuple[Cell, ...]:
        """All nodes, by how `one` stands to each. Numbers of relations are places in `septum.labels.RELATIONS`."""
        found = self._known.get(one)
        if found is None:
            found = self._known[one] = tuple(self._cells(one))
        return found

    def _cells(self, one: Range) -> Iterator[Cell]:
        low = self._low.split(one.low), self._high.split(one.low)
        high = low if one.low == one.high else (self._low.split(one.high), self._high.split(one.high))
        for first, some in enumerate(low[0]):
            for second, fewer in enumerate(low[1]):
                if not (nodes := some & fewer):
                    continue
                if high is low:
                    yield Cell((first | second << 2) * 0b10001, nodes)
                    continue
                for third, less in enumerate(high[0]):
                    for fourth, least in enumerate(high[1]):
                        if left := nodes & less & least:
                            yield Cell(first | second << 2 | third << 4 | fourth << 6, left)
