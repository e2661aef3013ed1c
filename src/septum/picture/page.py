"""A drawing as one page of HTML that needs nothing else: style, script and data are in it, and it may fetch nothing."""

import hashlib
import json
from base64 import b64encode
from functools import cache
from html import escape
from importlib.resources import files

from septum.picture.layout import Drawing, lay_out
from septum.picture.model import Graph
from septum.picture.svg import clean, drawn

__all__ = ["page"]


def page(graph: Graph) -> str:
    """The picture with search, filters by realm and mechanism, and the rules behind each line.

    Where states are compared, there is a choice of what changed too.

    Whatever names and rules hold, it is shown as text: the policy of the page lets only its own script run.

    Raises:
        UsageError: an edge leads nowhere, or a name is there twice.
    """
    drawing = lay_out(graph)
    title = escape(clean(graph.title))
    script, style = _part("page.js"), _part("page.css")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
        + b64encode(hashlib.sha256(script.encode()).digest()).decode()
        + "'"
    )
    # In a script element only `<` could end the data.
    data = json.dumps(_data(drawing)).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<input id="search" type="search" placeholder="guest, realm, label, rule…" aria-label="search">
<select id="realm" aria-label="realm"><option value="*">all realms</option></select>
<span id="mechanisms" role="group" aria-label="mechanisms"></span>
<select id="change" aria-label="changes" hidden>
<option value="*">all</option><option value="changed">changed</option>
<option value="added">added</option><option value="removed">removed</option>
</select>
<button id="whole" type="button">whole picture</button>
<output id="count"></output>
</header>
<main>
<div id="picture">
{drawn(drawing)}
</div>
<aside id="panel" aria-live="polite"><p>Click a line, a guest or a realm to see its rules.</p></aside>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _data(drawing: Drawing) -> dict[str, object]:
    """Rules once each, as many edges have the same; nodes and realms by their places, whatever their names hold."""
    graph = drawing.graph
    nodes = {node.name: place for place, node in enumerate(graph.nodes)}
    realms = {box.realm: place for place, box in enumerate(drawing.boxes)}
    rules = {rule: place for place, rule in enumerate(dict.fromkeys(edge.rule for edge in graph.edges))}
    return {
        "compared": graph.compared,
        "bundled": drawing.bundled,
        "rules": list(rules),
        "realms": list(realms),
        "nodes": [[node.name, realms[node.realm], node.kind, node.label] for node in graph.nodes],
        "edges": [
            [
                nodes[edge.source],
                nodes[edge.target],
                edge.mechanism,
                edge.operation,
                edge.strength,
                edge.change,
                rules[edge.rule],
            ]
            for edge in graph.edges
        ],
        "lines": [list(line.edges) for line in drawing.lines],
    }
