"""How far down the layers are, and the corners of the lines between them: a track for each net."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from flows.layout.graph import Drawing, Graph, Link, Node, Point

TRACK = 12.0
LEAD = 13.0  # from a layer to the first track
ARROW = 19.0  # from the last track to the next layer
CLEAR = 9.0  # between upright lines that are not one


@dataclass(slots=True, eq=False)
class _Net:
    """Lines that meet at one node: one track in one gap."""

    tops: set[float] = field(default_factory=set)
    bottoms: set[float] = field(default_factory=set)
    track: int = 0

    @property
    def low(self) -> float:
        return min(self.tops | self.bottoms)

    @property
    def high(self) -> float:
        return max(self.tops | self.bottoms)

    @property
    def is_straight(self) -> bool:
        return self.high - self.low < 0.5


def draw(graph: Graph) -> Drawing:
    nets = _nets(graph)
    tops, gaps, height = _heights(graph, nets)
    left = min((node.x - node.width / 2 for layer in graph.layers for node in layer), default=0.0)
    left = min([left, *(net.low for gap in nets.values() for net in gap.values())])
    right = max((node.x + node.width / 2 for layer in graph.layers for node in layer), default=0.0)
    right = max([right, *(net.high for gap in nets.values() for net in gap.values())])
    for at, layer in enumerate(graph.layers):
        tallest = max(node.height for node in layer)
        for node in layer:
            node.y = tops[at] + (0 if node.is_box else (tallest - node.height) / 2)
    routes = []
    for path in graph.paths:
        points: list[Point] = [(path[0].a.x + path[0].port, path[0].a.y + path[0].a.height)]
        for link in path:
            net = nets[link.gap][_meets(link)]
            y = gaps[link.gap] + net.track * TRACK
            if link.a.is_label and link.a.entry != link.port:  # it leaves its label elsewhere than it came
                middle = link.a.y + link.a.height / 2
                points += [(link.a.x + link.a.entry, middle), (link.a.x + link.port, middle)]
            points += [(points[-1][0], y), (link.b.x + link.b.entry, y)]
        end = path[-1].b
        points.append((end.x + end.entry, end.y))
        routes.append(_straightened([(round(x - left), round(y)) for x, y in points]))
    return Drawing(
        width=ceil(right - left),
        height=height,
        boxes={name: (round(node.x - node.width / 2 - left), node.y) for name, node in graph.boxes.items()},
        routes=routes,
        labels=[(round(node.x - left), round(node.y + node.height / 2)) if node else None for node in graph.labels],
    )


def _meets(link: Link) -> tuple[Node, bool]:
    return link.b, link.aims_up


def _nets(graph: Graph) -> dict[int, dict[tuple[Node, bool], _Net]]:
    gaps: dict[int, dict[tuple[Node, bool], _Net]] = defaultdict(dict)
    for link in graph.links:
        net = gaps[link.gap].setdefault(_meets(link), _Net())
        source, target = link.a.x + link.port, link.b.x + link.b.entry
        (net.tops if link.gap == link.a.layer else net.bottoms).add(source)
        (net.tops if link.gap == link.b.layer else net.bottoms).add(target)
    for nets in gaps.values():
        _assign_tracks([net for net in nets.values() if not net.is_straight])
    return gaps


def _assign_tracks(nets: list[_Net]) -> None:
    """Puts each net where it crosses the fewest others; upright lines of two nets never lie on each other."""
    lead = {
        net: sum(_crossings(other, net) - _crossings(net, other) for other in nets if other is not net) for net in nets
    }
    placed: list[_Net] = []
    left = list(nets)
    while left:
        net = max(left, key=lambda one: lead[one])
        left.remove(net)
        for other in left:
            lead[other] -= _crossings(net, other) - _crossings(other, net)
        net.track = max(
            (one.track + 1 for one in placed if one.low < net.high + CLEAR and net.low < one.high + CLEAR), default=0
        )
        placed.append(net)


def _crossings(upper: _Net, lower: _Net) -> int:
    """How badly it looks with one track over the other."""
    cost = sum(lower.low < x < lower.high for x in upper.bottoms) + sum(upper.low < x < upper.high for x in lower.tops)
    return cost + 100 * sum(abs(x - y) < CLEAR for x in upper.bottoms for y in lower.tops)


def _heights(
    graph: Graph, nets: Mapping[int, Mapping[tuple[Node, bool], _Net]]
) -> tuple[list[float], dict[int, float], float]:
    """The top of each layer, the first track of each gap, and the whole height."""
    tops: list[float] = []
    gaps: dict[int, float] = {}
    y = 0.0
    for at in range(-1, len(graph.layers)):
        if at >= 0:
            tops.append(y)
            y += max(node.height for node in graph.layers[at])
        gaps[at] = y + LEAD
        tracks = max((net.track + 1 for net in nets.get(at, {}).values() if not net.is_straight), default=0)
        if tracks:
            y += LEAD + ARROW + (tracks - 1) * TRACK
        elif 0 <= at < len(graph.layers) - 1:
            y += LEAD + ARROW
    return tops, gaps, y


def _straightened(points: list[Point]) -> list[Point]:
    """Without points that are not corners."""
    kept: list[Point] = []
    for point in points:
        if kept and abs(kept[-1][0] - point[0]) < 0.5 and abs(kept[-1][1] - point[1]) < 0.5:
            continue
        if len(kept) > 1 and any(
            abs(kept[-2][axis] - kept[-1][axis]) < 0.5 and abs(kept[-1][axis] - point[axis]) < 0.5 for axis in (0, 1)
        ):
            kept[-1] = point
        else:
            kept.append(point)
    return kept
