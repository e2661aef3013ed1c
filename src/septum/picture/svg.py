"""A drawing as SVG 1.1, with nothing in it that is run or fetched."""

from math import hypot
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from septum.picture.layout import CELL_HEIGHT, CELL_WIDTH, HEAD, Box, Drawing, Line, Spot, lay_out
from septum.picture.model import Graph

__all__ = ["clean", "drawn", "svg"]

# Okabe and Ito's colours, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color/).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES: Final = {"data": "", "signal": "7 4", "metadata": "2 4"}
_LONGEST: Final = 19  # characters of a name that fit into a cell
_STYLE: Final = """
text{font:12px system-ui,sans-serif;fill:#1a1a1a}
.title{font-size:16px;font-weight:600}
.box rect{fill:#f6f7f9;stroke:#9aa4b2}
.box.platform rect{fill:#fff8e6}
.realm{font-weight:600}
.node rect{fill:#fff;stroke:#5b6675}
.line path{fill:none;stroke-width:1.6}
.line.added path{stroke-width:4}
.line.removed path{opacity:.45}
.many .line{opacity:.4}
.line text{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px}
"""
_MANY: Final = 120  # lines beyond which none stands out
_BAND: Final = 34.0  # at the top, for title and legend


def svg(graph: Graph) -> str:
    """A picture that stands by itself.

    Raises:
        UsageError: an edge leads nowhere, or a name is there twice.
    """
    return drawn(lay_out(graph), style=_STYLE)


def drawn(drawing: Drawing, *, style: str = _STYLE) -> str:
    """A drawing as an ``svg`` element.

    Its parts say what they are: boxes have ``data-realm`` with their place in the drawing, lines ``data-line`` with
    theirs, nodes ``data-node`` with that in the graph.
    """
    mechanisms = _mechanisms(drawing)
    width = max(
        drawing.width, 40.0 + 110 * (len(mechanisms) + 2 * drawing.graph.compared) + 9 * len(drawing.graph.title)
    )
    height = drawing.height + _BAND
    places = {node.name: place for place, node in enumerate(drawing.graph.nodes)}
    boxes = [_box(box, place) for place, box in enumerate(drawing.boxes)]
    # From realm to realm they cross others, whose guests stay readable; from guest to guest they begin in a box.
    lines = [
        f'<g class="{"many" if len(drawing.lines) > _MANY else "few"}">',
        *(_line(line, place, mechanisms, drawing.bundled) for place, line in enumerate(drawing.lines)),
        "</g>",
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label={quoteattr(clean(drawing.graph.title))}>',
        f"<style>{style}</style>",
        "<defs>",
        *(
            f'<marker id="tip{place}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
            for place, colour in enumerate(_COLOURS)
        ),
        "</defs>",
        _legend(drawing, mechanisms),
        f'<g transform="translate(0 {_BAND:.0f})">',
        *(lines + boxes if drawing.bundled else boxes + lines),
        *(_spot(spot, places[spot.node.name]) for spot in drawing.spots),
        "</g></svg>",
    ]
    return "\n".join(parts)


def _mechanisms(drawing: Drawing) -> dict[str, int]:
    """Mechanism → place of its colour; all beyond the sixth share the last."""
    names = sorted({edge.mechanism for edge in drawing.graph.edges})
    return {name: min(place, len(_COLOURS) - 1) for place, name in enumerate(names)}


def clean(text: str) -> str:
    """The text as XML can have it, which has no way to write most control characters."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _short(text: str) -> str:
    text = clean(text)
    return escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def _legend(drawing: Drawing, mechanisms: dict[str, int]) -> str:
    title = clean(drawing.graph.title)
    x = 30.0 + 9 * len(title) + 20
    parts = [f'<text class="title" x="30" y="24">{escape(title)}</text>']
    for name, place in mechanisms.items():
        parts.append(
            f'<path d="M{x:.0f} 19h22" stroke="{_COLOURS[place]}" stroke-width="2"/>'
            f'<text x="{x + 27:.0f}" y="23">{_short(name)}</text>'
        )
        x += 110
    if drawing.graph.compared:
        parts.append(
            f'<path d="M{x:.0f} 19h22" stroke="#555" stroke-width="4"/><text x="{x + 27:.0f}" y="23">added</text>'
        )
        x += 110
        parts.append(
            f'<path d="M{x:.0f} 19h22" stroke="#555" stroke-width="1.6" opacity=".45"/>'
            f'<text x="{x + 27:.0f}" y="23">removed</text>'
        )
    return "".join(parts)


def _box(box: Box, place: int) -> str:
    name = box.realm or "platform"
    kind = "box" if box.realm else "box platform"
    within = f" · {len(box.within):,} within" if box.within else ""
    return (
        f'<g class="{kind}" data-realm="{place}">'
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6"/>'
        f'<text class="realm" x="{box.x + 10:.1f}" y="{box.y + HEAD - 10:.1f}">{_short(name)}{within}</text></g>'
    )


def _spot(spot: Spot, place: int) -> str:
    node = spot.node
    told = "\n".join(clean(part) for part in (node.name, node.kind, node.label) if part)
    return (
        f'<g class="node" data-node="{place}">'
        f"<title>{escape(told)}</title>"
        f'<rect x="{spot.x:.1f}" y="{spot.y:.1f}" width="{CELL_WIDTH:.0f}" height="{CELL_HEIGHT:.0f}" rx="4"/>'
        f'<text x="{spot.x + 8:.1f}" y="{spot.y + 17:.1f}">{_short(node.name)}</text></g>'
    )


def _line(line: Line, place: int, mechanisms: dict[str, int], bundled: bool) -> str:
    colour = mechanisms[line.mechanism]
    length = hypot(line.x2 - line.x1, line.y2 - line.y1) or 1.0
    # To the left of the way, so that there and back don't lie on one another.
    across = (line.y2 - line.y1) / length * line.bend, -(line.x2 - line.x1) / length * line.bend
    middle = (line.x1 + line.x2) / 2 + across[0], (line.y1 + line.y2) / 2 + across[1]
    control = middle[0] + across[0], middle[1] + across[1]
    dash = _DASHES[line.strength]
    number = len(line.edges)
    mark = {"added": "+", "removed": "−", "": ""}[line.change]
    told = mark + (f"{number:,}" if bundled or number > 1 else "")
    return (
        f'<g class="line {line.change}" data-line="{place}">'
        f"<title>{escape(clean(f'{line.source} → {line.target}: {line.mechanism}, {number}'))}</title>"
        f'<path d="M{line.x1:.1f} {line.y1:.1f}Q{control[0]:.1f} {control[1]:.1f} {line.x2:.1f} {line.y2:.1f}" '
        f'stroke="{_COLOURS[colour]}"{f" stroke-dasharray={quoteattr(dash)}" if dash else ""} '
        f'marker-end="url(#tip{colour})"/>'
        + (f'<text x="{middle[0]:.1f}" y="{middle[1]:.1f}">{told}</text>' if told else "")
        + "</g>"
    )
