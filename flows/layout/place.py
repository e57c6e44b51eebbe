"""Where nodes stand across, in the order that they have, and where lines leave and enter their boxes."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from flows.layout.graph import Graph, Link, Node

BOX_GAP = 22.0
LANE_GAP = 12.0  # of a box and what is none
LABEL_GAP = 7.0
PORT_STEP = 12.0
PORT_EDGE = 16.0  # from a corner of a box to its first port
LABEL_EDGE = 12.0
NUDGE = 14.0  # how far aside a line may pass its label to be straight
PLACINGS = 14
STRAIGHTENINGS = 3
FAR = 1e9


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
    middle = sum(node.x for node in graph.boxes.values()) / len(graph.boxes)
    for _ in range(STRAIGHTENINGS):
        inner_first = sorted(graph.chains(), key=lambda lanes: abs(sum(one.x for one in lanes) / len(lanes) - middle))
        for lanes in inner_first:
            _straighten(graph, lanes, sum(one.x - middle for one in lanes))
    _slide_ports(graph)


def _straighten(graph: Graph, lanes: list[Node], outwards: float) -> None:
    """One place for as many lanes in a row as their neighbours leave room for; on the outside all do but boxes."""
    run: list[Node] = []
    low, high = -FAR, FAR
    for lane in lanes:
        layer = graph.layers[lane.layer]
        before = layer[lane.order - 1] if lane.order else None
        after = layer[lane.order + 1] if lane.order + 1 < len(layer) else None
        least = before.x + _distance(before, lane) if before else -FAR
        most = after.x - _distance(lane, after) if after else FAR
        if outwards > 0 and not any(one.is_box for one in layer[lane.order + 1 :]):
            most = FAR
        if outwards < 0 and not any(one.is_box for one in layer[: lane.order]):
            least = -FAR
        if run and (max(low, least) > min(high, most)):
            _align(graph, run, low, high)
            run, low, high = [], -FAR, FAR
        run.append(lane)
        low, high = max(low, least), min(high, most)
    _align(graph, run, low, high)


def _align(graph: Graph, run: list[Node], low: float, high: float) -> None:
    """Moves lanes to one place, and what stands outside of them further out."""
    middle = sorted(node.x for node in run)[len(run) // 2]
    for node in run:
        node.x = max(low, min(high, middle))
        layer = graph.layers[node.layer]
        for a, b in pairwise(layer[node.order :]):
            b.x = max(b.x, a.x + _distance(a, b))
        for b, a in pairwise(layer[node.order :: -1]):
            a.x = min(a.x, b.x - _distance(a, b))


def _pull(node: Node, link: Link, is_source: bool, weight: float) -> tuple[float, float]:
    """Where a link would have this node, and how much."""
    other = link.b if is_source else link.a
    if link.a.layer == link.b.layer:
        side = 1 if node.order > other.order else -1
        return other.x + side * (_distance(node, other)), weight
    return other.x + (-link.port if is_source else link.port), weight


def _distance(a: Node, b: Node) -> float:
    gap = BOX_GAP if a.is_box and b.is_box else LANE_GAP if a.is_box or b.is_box else LABEL_GAP
    return (a.width + b.width) / 2 + gap


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
    for link in graph.links:
        if not (link.a.is_box or link.b.is_box) and abs(link.b.x - link.a.x) <= link.a.width / 2 - LABEL_EDGE:
            link.port = link.b.x - link.a.x
    into: dict[Node, list[Link]] = defaultdict(list)
    for link in graph.links:
        into[link.b].append(link)
    for node, links in into.items():
        if node.is_box and len(links) == 1 and links[0].a.layer < node.layer:
            room = max(0.0, node.width / 2 - PORT_EDGE)
            node.entry = min(max(links[0].a.x + links[0].port - node.x, -room), room)
    for link in graph.links:
        aside = link.b.x + link.b.entry - link.a.x - link.port
        if link.a.is_label and abs(aside) <= NUDGE:
            link.port += aside
        elif link.b.is_label and link.a.layer < link.b.layer and abs(aside) <= NUDGE:
            link.b.entry -= aside
