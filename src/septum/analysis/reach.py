"""What edges come to: who reaches whom, by any number of steps, and the shortest way."""

from collections.abc import Sequence
from typing import NamedTuple

from septum.analysis.levels import bits

__all__ = ["Reach", "closure", "way"]


class Reach(NamedTuple):
    """All that nodes reach, each itself included.

    Attributes:
        group: of each node: nodes that all reach one another are in one.
        rows: of each group: a bit set of nodes.
    """

    group: tuple[int, ...]
    rows: tuple[int, ...]

    def of(self, node: int) -> int:
        """What a node reaches."""
        return self.rows[self.group[node]]


def closure(out: Sequence[int], back: Sequence[int]) -> Reach:
    """Closes edges.

    Kosaraju's algorithm over rows of bits: a search only ever looks at neighbours that it has not seen, so a row with
    ten thousand bits costs as many steps as it has news.

    Args:
        out: for each node, to whom it leads: a bit set.
        back: for each node, who leads to it.
    """
    order = _finished(out)
    group = [-1] * len(out)
    members: list[int] = []
    left = (1 << len(out)) - 1
    for root in reversed(order):
        if not left >> root & 1:
            continue
        found, frontier = 0, 1 << root
        while frontier:
            found |= frontier
            left &= ~frontier
            reached = 0
            for node in bits(frontier):
                reached |= back[node]
            frontier = reached & left
        for node in bits(found):
            group[node] = len(members)
        members.append(found)
    rows = [0] * len(members)
    # Groups come in an order in which edges lead from earlier to later ones: the last one has nowhere to go.
    for place in range(len(members) - 1, -1, -1):
        row, leads = members[place], 0
        for node in bits(members[place]):
            leads |= out[node]
        while leads := leads & ~row:
            row |= rows[group[(leads & -leads).bit_length() - 1]]
        rows[place] = row
    return Reach(tuple(group), tuple(rows))


def way(out: Sequence[int], sources: int, targets: int) -> list[int]:
    """A shortest way from any of some nodes to any of others; [] if there is none.

    Args:
        out: for each node, to whom it leads.
        sources, targets: bit sets.
    """
    layers = [sources & ~targets]
    seen = layers[0]
    while layers[-1]:
        reached = 0
        for node in bits(layers[-1]):
            reached |= out[node]
        if met := reached & targets:
            return _traced(out, layers, next(bits(met)))
        layers.append(reached & ~seen)
        seen |= reached
    return []


def _traced(out: Sequence[int], layers: Sequence[int], end: int) -> list[int]:
    path = [end]
    for layer in reversed(layers):
        path.append(next(node for node in bits(layer) if out[node] >> path[-1] & 1))
    return path[::-1]


def _finished(out: Sequence[int]) -> list[int]:
    """Nodes in the order in which a depth-first search is done with them."""
    order: list[int] = []
    left = (1 << len(out)) - 1
    for root in range(len(out)):
        if not left >> root & 1:
            continue
        left &= ~(1 << root)
        stack = [root]
        while stack:
            news = out[stack[-1]] & left
            if news:
                node = (news & -news).bit_length() - 1
                left &= ~(1 << node)
                stack.append(node)
            else:
                order.append(stack.pop())
    return order
