"""What is drawn."""

from typing import Final, Literal, NamedTuple

from septum.errors import UsageError

__all__ = ["CHANGES", "STRENGTHS", "Change", "Edge", "Graph", "Node", "Strength", "check"]

Change = Literal["", "added", "removed"]
Strength = Literal["data", "signal", "metadata"]
CHANGES: Final[tuple[Change, ...]] = ("", "added", "removed")
STRENGTHS: Final[tuple[Strength, ...]] = ("data", "signal", "metadata")


class Node(NamedTuple):
    """One labelled instance.

    Attributes:
        name: unique in the graph.
        realm: its owner; "" for what belongs to the platform.
        kind: what it is, for people: ``guest``, ``emulator``, ``object``.
        label: its context.
    """

    name: str
    realm: str
    kind: str = "guest"
    label: str = ""


class Edge(NamedTuple):
    """One way for information.

    Attributes:
        source, target: names of nodes.
        mechanism: what lets it through: ``selinux``, ``flask``, ``channel``, …
        operation: ``file write``, ``argo send``, …
        rule: the rule that allows it, as it can be quoted.
        strength: how much can pass.
        change: against an older state; "" where it was there before, or nothing is compared.
    """

    source: str
    target: str
    mechanism: str
    operation: str
    rule: str = ""
    strength: Strength = "data"
    change: Change = ""


class Graph(NamedTuple):
    """Nodes and edges, and what the picture is of.

    Attributes:
        title: one line.
        compared: edges say what changed.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    compared: bool = False


def check(graph: Graph) -> None:
    """Sees to it that every edge has both its ends.

    Raises:
        UsageError: a name is there twice, or an edge leads to none of the nodes.
    """
    known: set[str] = set()
    for node in graph.nodes:
        if node.name in known:
            raise UsageError("two nodes of a picture have one name", target=node.name)
        known.add(node.name)
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            if end not in known:
                raise UsageError("an edge of a picture leads to no node of it", target=end)
