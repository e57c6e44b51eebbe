"""Where nodes stand across, in the order that they have, and where lines leave and enter their boxes."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from flows.layout.graph import Graph, Link, Node

GAP_X = 22.0
CLEAR = 9.0  # between upright lines that are not one
PORT_STEP = 12.0
PORT_EDGE = 16.0  # from a corner of a box to its first port
PLACINGS = 14


def place(graph: Graph) -> None:
    _spread_ports(graph)
    pulls: dict[Node, list[tuple[Link, bool, float]]] = defaultdict(list)
    for link in graph.links:
        weight = 8.0 if not (link.a.is_box or link.b.is_box) else 1.0 if link.a.layer == link.b.layer else 3.0
        pulls[link.a].append((link, True, weight))
        pulls[link.b].append((link, False, weight))
    for sweep in range(PLACINGS):
        layers = graph.layers if sweep % 2 == 0 else graph.layers[::-1]
        exact = sweep >= PLACINGS - 6
        for layer in layers:
            _regress(layer, [[_pull(node, *pull) for pull in pulls[node]] for node in layer], exact=exact)
    _slide_ports(graph)


def _pull(node: Node, link: Link, is_source: bool, weight: float) -> tuple[float, float]:
    """Where a link would have this node, and how much."""
    other = link.b if is_source else link.a
    if link.a.layer == link.b.layer:
        side = 1 if node.order > other.order else -1
        return other.x + side * (_distance(node, other)), weight
    return other.x + (-link.port if is_source else link.port), weight


def _distance(a: Node, b: Node) -> float:
    return (a.width + b.width) / 2 + (GAP_X if a.is_box or b.is_box else CLEAR)


def _regress(layer: list[Node], wishes: list[list[tuple[float, float]]], *, exact: bool) -> None:
    """The nearest places to what is wished that keep order and distance: squares first, then `exact` medians."""
    offsets = [0.0]
    for a, b in pairwise(layer):
        offsets.append(offsets[-1] + _distance(a, b))
    blocks: list[tuple[float, int, list[tuple[float, float]]]] = []
    for node, offset, wished in zip(layer, offsets, wishes, strict=True):
        points = [(x - offset, weight) for x, weight in wished] or [(node.x - offset, 0.01)]
        value, count = _middle(points, node.x - offset, exact=exact), 1
        while blocks and blocks[-1][0] > value:
            _, before, others = blocks.pop()
            points, count = others + points, count + before
            value = _middle(points, value, exact=exact)
        blocks.append((value, count, points))
    at = 0
    for value, count, _ in blocks:
        for node, offset in zip(layer[at : at + count], offsets[at : at + count], strict=True):
            node.x = value + offset
        at += count


def _middle(points: list[tuple[float, float]], now: float, *, exact: bool) -> float:
    total = sum(weight for _, weight in points)
    if not exact:
        return sum(x * weight for x, weight in points) / total
    passed = 0.0
    ordered = sorted(points)
    for at, (x, weight) in enumerate(ordered):
        passed += weight
        if abs(passed - total / 2) < 1e-9 and at + 1 < len(ordered):
            return min(max(now, x), ordered[at + 1][0])
        if passed > total / 2:
            return x
    return ordered[-1][0]


def _ports(graph: Graph) -> Iterable[tuple[Node, list[Link]]]:
    """The lines that leave each box, from left to right."""
    out: dict[Node, list[Link]] = defaultdict(list)
    for link in graph.links:
        if link.a.is_box:
            out[link.a].append(link)

    def place(link: Link) -> tuple[int, int]:
        if link.b.layer > link.a.layer:
            return 0, link.b.order
        return (-1, -link.b.order) if link.b.order < link.a.order else (1, -link.b.order)

    for node, links in out.items():
        yield node, sorted(links, key=place)


def _spread_ports(graph: Graph) -> None:
    for node, links in _ports(graph):
        step = min(40.0, (node.width - 2 * PORT_EDGE) / max(1, len(links) - 1))
        for at, link in enumerate(links):
            link.port = (at - (len(links) - 1) / 2) * step


def _slide_ports(graph: Graph) -> None:
    """Ports move along their box so that lines go straight where they can."""
    for node, links in _ports(graph):
        room = max(0.0, node.width / 2 - PORT_EDGE)
        step = min(PORT_STEP, 2 * room / max(1, len(links) - 1))
        low = -room
        for at, link in enumerate(links):
            high = room - (len(links) - 1 - at) * step
            link.port = min(max(link.b.x - node.x if link.b.layer > node.layer else link.port, low), high)
            low = link.port + step
    into: dict[Node, list[Link]] = defaultdict(list)
    for link in graph.links:
        into[link.b].append(link)
    for node, links in into.items():
        if node.is_box and len(links) == 1 and links[0].a.layer < node.layer:
            room = max(0.0, node.width / 2 - PORT_EDGE)
            node.entry = min(max(links[0].a.x + links[0].port - node.x, -room), room)
