"""Flows as a graph to be drawn: between what acts, with objects as ways, or with objects as nodes."""

from collections.abc import Iterator

from septum.analysis.flows import SUBJECTS, Edge, Flows
from septum.analysis.levels import bits
from septum.picture import Edge as Line
from septum.picture import Graph, Node

__all__ = ["graph_of"]


def graph_of(flows: Flows, before: Flows | None = None, *, objects: bool = False) -> Graph:
    """The picture of a snapshot.

    Args:
        flows: of the snapshot.
        before: of an older one, to mark what changed.
        objects: draw objects as nodes. Without, what passes through one is a line between those that use it, unless
            both are of one owner.
    """
    now = dict(_lines(flows, objects))
    then = dict(_lines(before, objects)) if before else {}
    nodes = {node.name: node for some in (before, flows) if some for node in _nodes(some, objects)}
    lines = [line._replace(change="added" if before and key not in then else "") for key, line in now.items()]
    lines += [line._replace(change="removed") for key, line in then.items() if key not in now]
    return Graph(flows.snapshot.title, tuple(nodes.values()), tuple(lines), before is not None)


def _nodes(flows: Flows, objects: bool) -> Iterator[Node]:
    for one in flows.snapshot.instances:
        if objects or one.tclass in SUBJECTS:
            yield Node(one.name, one.realm, one.kind, one.context)


def _lines(flows: Flows, objects: bool) -> Iterator[tuple[tuple[str, ...], Line]]:
    instances = flows.snapshot.instances
    for number, one in enumerate(instances):
        if not objects and one.tclass not in SUBJECTS:
            continue
        for far in bits(flows.out[number]):
            other = instances[far]
            if objects or other.tclass in SUBJECTS:
                yield from _each(one.name, other.name, flows.edges(one.name, other.name), "")
                continue
            for end in bits(flows.out[far] & ~(1 << number)):
                if instances[end].realm != one.realm and instances[end].tclass in SUBJECTS:
                    edges = (*flows.edges(one.name, other.name), *flows.edges(other.name, instances[end].name))
                    yield from _each(one.name, instances[end].name, edges, f"through {other.name}: ")


def _each(source: str, target: str, edges: tuple[Edge, ...], through: str) -> Iterator[tuple[tuple[str, ...], Line]]:
    for edge in edges:
        operation = through + edge.operation
        yield (source, target, edge.mechanism, operation), Line(source, target, edge.mechanism, operation, edge.rule)
