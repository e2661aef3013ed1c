"""Pictures of who can pass information to whom: one SVG, or one page of HTML with it that needs nothing else.

Pure: values in, text out. Nothing here knows what an edge means; `septum.analysis` does.
"""

from septum.picture.layout import Box, Drawing, Line, Spot, lay_out
from septum.picture.model import CHANGES, STRENGTHS, Edge, Graph, Node
from septum.picture.page import page
from septum.picture.svg import svg

__all__ = [
    "CHANGES",
    "STRENGTHS",
    "Box",
    "Drawing",
    "Edge",
    "Graph",
    "Line",
    "Node",
    "Spot",
    "lay_out",
    "page",
    "svg",
]
