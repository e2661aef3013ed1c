"""Pictures: everything is in them once, whatever it is called, and nothing in them runs."""

import json
import re
from html import unescape
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import septum.picture
from septum.errors import UsageError
from septum.picture import CHANGES, STRENGTHS, Edge, Graph, Node, lay_out, page, svg

SVG = "{http://www.w3.org/2000/svg}"


def platform(realms: int, guests: int, ways: int) -> Graph:
    """A graph of so many realms and guests, whose edges go from each guest to the next ones."""
    nodes = [Node(f"r{realm}/g{guest}", f"r{realm}") for realm in range(realms) for guest in range(guests)]
    nodes.append(Node("virtd", "", "daemon", "system_u:system_r:virtd_t:s0"))
    names = [node.name for node in nodes]
    edges = [
        Edge(
            names[place % len(names)],
            names[(place * 7 + 1) % len(names)],
            f"m{place % 3}",
            "write",
            f"rule {place % 5}",
        )
        for place in range(ways)
    ]
    return Graph("a platform", tuple(nodes), tuple(edges))


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    texts = st.text(max_size=30)
    names = draw(st.lists(texts, min_size=1, max_size=12, unique=True))
    realms = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    nodes = [Node(name, draw(st.sampled_from(realms)), "guest", draw(texts)) for name in names]
    some = st.builds(
        Edge,
        st.sampled_from(names),
        st.sampled_from(names),
        st.sampled_from(["selinux", draw(texts)]),
        texts,
        texts,
        st.sampled_from(STRENGTHS),
        st.sampled_from(CHANGES),
    )
    many = draw(st.booleans())
    edges = draw(st.lists(some, max_size=8)) * (50 if many else 1)
    return Graph(draw(texts), tuple(nodes), tuple(edges), draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_every_edge_is_behind_one_line_or_box_and_the_text_is_well_formed(graph: Graph) -> None:
    drawing = lay_out(graph)
    behind = [place for line in drawing.lines for place in line.edges] + [
        place for box in drawing.boxes for place in box.within
    ]
    assert sorted(behind) == list(range(len(graph.edges)))
    root = ET.fromstring(svg(graph))
    assert len(root.findall(f".//{SVG}g[@data-node]")) == len(graph.nodes)
    assert len(root.findall(f".//{SVG}g[@data-line]")) == len(drawing.lines)
    text = page(graph)
    data = data_of(text)
    assert [node[0] for node in data["nodes"]] == [node.name for node in graph.nodes]
    assert [data["rules"][edge[-1]] for edge in data["edges"]] == [edge.rule for edge in graph.edges]
    # Two scripts: the data and the page's own. Names are text, also such as would end an element.
    assert text.lower().count("</script") == 2


def test_nothing_lies_on_anything_else() -> None:
    drawing = lay_out(platform(12, 9, 40))
    for one in drawing.boxes:
        assert one.x + one.width <= drawing.width
        assert one.y + one.height <= drawing.height
        for other in drawing.boxes:
            apart = (
                one.x + one.width <= other.x
                or other.x + other.width <= one.x
                or one.y + one.height <= other.y
                or other.y + other.height <= one.y
            )
            assert one is other or apart
    boxes = {box.realm: box for box in drawing.boxes}
    for spot in drawing.spots:
        box = boxes[spot.node.realm]
        assert box.x < spot.x < box.x + box.width
        assert box.y < spot.y < box.y + box.height


def test_many_edges_are_drawn_from_realm_to_realm() -> None:
    graph = platform(10, 100, 3000)
    drawing = lay_out(graph)
    assert drawing.bundled
    assert len(drawing.lines) <= 11 * 10 * 3
    assert not lay_out(graph._replace(edges=graph.edges[:250])).bundled


def test_a_picture_is_the_same_each_time_and_whatever_the_order_of_nodes() -> None:
    graph = platform(4, 5, 30)
    assert svg(graph) == svg(graph)
    one, other = lay_out(graph), lay_out(graph._replace(nodes=graph.nodes[::-1]))
    assert (one.spots, one.lines) == (other.spots, other.lines)


def test_the_page_may_fetch_nothing() -> None:
    text = page(platform(2, 2, 3))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert unescape(policy[1]).startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert not re.search(r"(src|href)=", text)


def test_a_label_for_each_change_and_strength() -> None:
    graph = platform(2, 1, 0)
    edge = Edge("r0/g0", "r1/g0", "selinux", "file write")
    changed = graph._replace(edges=(edge._replace(change="added", strength="signal"),), compared=True)
    assert 'class="line added"' in svg(changed)
    assert "stroke-dasharray" in svg(changed)
    assert ">added</text>" in svg(changed)
    assert ">added</text>" not in svg(graph._replace(edges=(edge,)))


def test_an_edge_to_nowhere_and_a_name_that_is_there_twice() -> None:
    graph = platform(1, 1, 0)
    with pytest.raises(UsageError, match="leads to no node"):
        svg(graph._replace(edges=(Edge("r0/g0", "r9/g9", "selinux", "write"),)))
    with pytest.raises(UsageError, match="one name"):
        page(graph._replace(nodes=graph.nodes * 2))


def test_public_names_are_pinned() -> None:
    assert sorted(septum.picture.__all__) == [
        "Box", "CHANGES", "Drawing", "Edge", "Graph", "Line", "Node", "STRENGTHS", "Spot", "lay_out", "page", "svg",
    ]  # fmt: skip
