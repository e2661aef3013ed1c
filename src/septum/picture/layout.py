"""Where everything goes: a box for each realm, its nodes in a grid, lines between.

A force-directed picture of a thousand guests is a ball of wool. What people ask of it is who reaches into whose realm,
so realms are the boxes, and beyond a few lines those between two boxes are drawn as one, with their number.
"""

from collections import defaultdict
from math import ceil, sqrt
from typing import Final, NamedTuple

from septum.picture.model import Change, Edge, Graph, Node, Strength, check

__all__ = ["CELL_HEIGHT", "CELL_WIDTH", "HEAD", "Box", "Drawing", "Line", "Spot", "lay_out"]

CELL_WIDTH: Final = 132.0
CELL_HEIGHT: Final = 26.0
GAP: Final = 8.0
HEAD: Final = 30.0
BETWEEN: Final = 90.0  # room for lines
MARGIN: Final = 30.0
ASPECT: Final = 1.5  # of the whole, and about of a box
_MOST_LINES: Final = 250
"""Edges up to which each is a line of its own."""
_STRENGTH: Final = {"data": 0, "signal": 1, "metadata": 2}


class Spot(NamedTuple):
    """A node and the upper left corner of its cell."""

    node: Node
    x: float
    y: float


class Box(NamedTuple):
    """A realm and where its box is.

    Attributes:
        within: places in `Graph.edges` of those that don't leave it and have no line of their own.
    """

    realm: str
    x: float
    y: float
    width: float
    height: float
    within: tuple[int, ...]


class Line(NamedTuple):
    """One or more edges that go the same way.

    Attributes:
        x1, y1, x2, y2: its ends; `bend` of its middle to the left as seen from the first.
        source, target: names of nodes or, where several are drawn as one, of realms.
        edges: places in `Graph.edges`.
        strength: the greatest of them.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    bend: float
    source: str
    target: str
    mechanism: str
    change: Change
    strength: Strength
    edges: tuple[int, ...]


class Drawing(NamedTuple):
    """All of it.

    Attributes:
        bundled: lines lead from realm to realm, as there are too many edges for one each.
    """

    graph: Graph
    width: float
    height: float
    boxes: tuple[Box, ...]
    spots: tuple[Spot, ...]
    lines: tuple[Line, ...]
    bundled: bool


def lay_out(graph: Graph) -> Drawing:
    """Places a graph; the same graph always in the same way.

    Raises:
        UsageError: an edge leads nowhere, or a name is there twice.
    """
    check(graph)
    realms: dict[str, list[Node]] = defaultdict(list)
    for node in sorted(graph.nodes, key=lambda node: (node.realm, node.kind, node.name)):
        realms[node.realm].append(node)
    bundled = len(graph.edges) > _MOST_LINES
    boxes: dict[str, Box] = {}
    spots: dict[str, Spot] = {}
    width, height = _boxes(realms, boxes, spots)
    home = {node.name: node.realm for node in graph.nodes}
    if bundled:
        within: dict[str, list[int]] = defaultdict(list)
        for place, edge in enumerate(graph.edges):
            if home[edge.source] == home[edge.target]:
                within[home[edge.source]].append(place)
        boxes = {name: box._replace(within=tuple(within[name])) for name, box in boxes.items()}
    return Drawing(
        graph,
        width,
        height,
        tuple(boxes.values()),
        tuple(spots.values()),
        tuple(_lines(graph.edges, home, boxes, spots, bundled)),
        bundled,
    )


def _boxes(realms: dict[str, list[Node]], boxes: dict[str, Box], spots: dict[str, Spot]) -> tuple[float, float]:
    """Fills in boxes and spots, row by row; returns how large it has become."""
    shapes: dict[str, tuple[int, float, float]] = {}
    for realm, nodes in realms.items():
        columns = max(1, round(sqrt(len(nodes) * ASPECT * CELL_HEIGHT / CELL_WIDTH)))
        rows = ceil(len(nodes) / columns)
        shapes[realm] = (
            columns,
            columns * (CELL_WIDTH + GAP) + GAP,
            HEAD + rows * (CELL_HEIGHT + GAP) + GAP,
        )
    area = sum((width + BETWEEN) * (height + BETWEEN) for _, width, height in shapes.values())
    most = max([sqrt(area * ASPECT), *(width for _, width, _ in shapes.values())])
    x = y = MARGIN
    tallest = widest = 0.0
    for realm, (columns, width, height) in shapes.items():
        if x > MARGIN and x + width > most:
            x, y, tallest = MARGIN, y + tallest + BETWEEN, 0.0
        boxes[realm] = Box(realm, x, y, width, height, ())
        for place, node in enumerate(realms[realm]):
            row, column = divmod(place, columns)
            spots[node.name] = Spot(node, x + GAP + column * (CELL_WIDTH + GAP), y + HEAD + row * (CELL_HEIGHT + GAP))
        x += width + BETWEEN
        tallest, widest = max(tallest, height), max(widest, x - BETWEEN)
    return widest + MARGIN, y + tallest + MARGIN


def _lines(
    edges: tuple[Edge, ...], home: dict[str, str], boxes: dict[str, Box], spots: dict[str, Spot], bundled: bool
) -> list[Line]:
    groups: dict[tuple[str, str, str, Change], list[int]] = defaultdict(list)
    for place, edge in enumerate(edges):
        source, target = (home[edge.source], home[edge.target]) if bundled else (edge.source, edge.target)
        if not bundled or source != target:
            groups[source, target, edge.mechanism, edge.change].append(place)
    between: dict[tuple[str, str], int] = defaultdict(int)
    lines = []
    for (source, target, mechanism, change), places in groups.items():
        turn = between[source, target]
        between[source, target] += 1
        one, first = _area(source, boxes, spots, bundled)
        other, second = _area(target, boxes, spots, bundled)
        x1, y1 = _rim(one, other, first)
        x2, y2 = _rim(other, one, second)
        strength = min((edges[place].strength for place in places), key=_STRENGTH.__getitem__)
        lines.append(
            Line(x1, y1, x2, y2, 14.0 + 16.0 * turn, source, target, mechanism, change, strength, tuple(places))
        )
    return lines


def _area(
    name: str, boxes: dict[str, Box], spots: dict[str, Spot], bundled: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The middle and the size of what a line leads to."""
    if bundled:
        box = boxes[name]
        return (box.x + box.width / 2, box.y + box.height / 2), (box.width, box.height)
    spot = spots[name]
    return (spot.x + CELL_WIDTH / 2, spot.y + CELL_HEIGHT / 2), (CELL_WIDTH, CELL_HEIGHT)


def _rim(here: tuple[float, float], there: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    """Where the way from the middle of a rectangle to `there` leaves it."""
    dx, dy = there[0] - here[0], there[1] - here[1]
    if not dx and not dy:
        return here[0] + size[0] / 2, here[1]
    part = min(size[0] / 2 / abs(dx) if dx else 1e9, size[1] / 2 / abs(dy) if dy else 1e9, 1.0)
    return here[0] + dx * part, here[1] + dy * part
