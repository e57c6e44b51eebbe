"""Where the boxes and lines of a directed drawing go: in layers from top to bottom, with square lines.

Every line leaves at the bottom of its box and enters at the top. A line over several layers runs in lanes beside the
boxes; lines to the same box share them and arrive as one. A line that leads back goes up such a lane. Labels are
nodes of their own under the box that they belong to, so nothing can lie on anything else. The order within layers is
found by barycenters and exchanges, places by isotonic regression, tracks between layers by their crossings.
"""

from collections.abc import Mapping, Sequence

from flows.layout.graph import Drawing, Graph, Line, Point, Size
from flows.layout.order import order
from flows.layout.place import place
from flows.layout.route import draw

__all__ = ["Drawing", "Line", "Point", "Size", "layout"]


def layout(boxes: Mapping[str, Size], lines: Sequence[Line]) -> Drawing:
    """Places everything. The first box is the topmost; lines name only boxes that there are."""
    graph = Graph(boxes, lines)
    order(graph)
    place(graph)
    return draw(graph)
