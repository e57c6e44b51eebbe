"""The order of nodes in their layers: by the middles of their neighbours, then exchanged while that helps."""

from collections import defaultdict

from flows.layout.graph import Graph, Node

GAP_X = 22.0
SWEEPS = 8
EXCHANGES = 6


def order(graph: Graph) -> None:
    above, below, beside = _neighbours(graph)
    for layer in graph.layers:
        _settle(layer)
    best: tuple[int, list[list[Node]]] | None = None
    for sweep in range(SWEEPS):
        layers = graph.layers if sweep % 2 == 0 else graph.layers[::-1]
        near = above if sweep % 2 == 0 else below
        for layer in layers:
            _sort(layer, near, beside)
        _exchange(graph, above, below, beside)
        cost = _cost(graph)
        if best is None or cost < best[0]:
            best = cost, [list(layer) for layer in graph.layers]
    assert best is not None
    graph.layers = best[1]
    for layer in graph.layers:
        _settle(layer)


_Near = dict[Node, list[Node]]


def _neighbours(graph: Graph) -> tuple[_Near, _Near, _Near]:
    above: _Near = defaultdict(list)
    below: _Near = defaultdict(list)
    beside: _Near = defaultdict(list)
    for link in graph.links:
        a, b = sorted((link.a, link.b), key=lambda node: node.layer)
        if a.layer == b.layer:
            beside[a].append(b)
            beside[b].append(a)
        else:
            below[a].append(b)
            above[b].append(a)
    return above, below, beside


def _settle(layer: list[Node]) -> None:
    """Numbers a layer's nodes, and packs them around the middle."""
    width = sum(node.width + GAP_X for node in layer)
    x = -width / 2
    for at, node in enumerate(layer):
        node.order = at
        node.x = x + (node.width + GAP_X) / 2
        x += node.width + GAP_X


def _sort(layer: list[Node], near: _Near, beside: _Near) -> None:
    key: dict[Node, float] = {}
    for node in layer:
        if some := near[node]:
            key[node] = sum(one.x for one in some) / len(some)
    for node in layer:
        if node not in key:
            known = [key[one] for one in beside[node] if one in key]
            key[node] = sum(known) / len(known) if known else node.x
    layer.sort(key=lambda node: (key[node], node.order))
    _settle(layer)


def _exchange(graph: Graph, above: _Near, below: _Near, beside: _Near) -> None:
    for _ in range(EXCHANGES):
        changed = False
        for layer in graph.layers:
            for at in range(len(layer) - 1):
                p, q = layer[at], layer[at + 1]
                gain = _between(above[p], above[q]) + _between(below[p], below[q])
                for one in beside[p]:
                    gain += 0 if one is q else 1 if one.order > q.order else -1
                for one in beside[q]:
                    gain += 0 if one is p else 1 if one.order < p.order else -1
                if gain > 0:
                    layer[at], layer[at + 1] = q, p
                    p.order, q.order = q.order, p.order
                    changed = True
            _settle(layer)
        if not changed:
            return


def _between(left: list[Node], right: list[Node]) -> int:
    """How many crossings an exchange of two neighbours saves."""
    return sum((a.order > b.order) - (a.order < b.order) for a in left for b in right)


def _cost(graph: Graph) -> int:
    gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    cost = 0
    for link in graph.links:
        if link.a.layer == link.b.layer:
            cost += abs(link.a.order - link.b.order)
        else:
            a, b = (link.a, link.b) if link.a.layer < link.b.layer else (link.b, link.a)
            gaps[a.layer].append((a.order, b.order))
    for pairs in gaps.values():
        pairs.sort()
        for at, (_, low) in enumerate(pairs):
            cost += sum(low > other for _, other in pairs[at + 1 :])
    return cost
