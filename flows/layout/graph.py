"""What is drawn, as nodes in layers: boxes, labels, and the lanes of lines that go further."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

LANE = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    source: str
    target: str
    label: Size | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes by their left upper corners; of each line its points and its label's centre."""

    width: float
    height: float
    boxes: Mapping[str, Point]
    routes: Sequence[Sequence[Point]]
    labels: Sequence[Point | None]


@dataclass(slots=True, eq=False)
class Node:
    width: float
    height: float
    layer: int
    is_box: bool = False
    order: int = 0
    x: float = 0.0
    y: float = 0.0
    entry: float = 0.0  # where lines come in, from its centre

    @property
    def is_label(self) -> bool:
        return not self.is_box and self.height > 0


@dataclass(slots=True, eq=False)
class Link:
    """From `a` to `b`: down to the next layer, up to the one before, or to a lane in the same layer and back."""

    a: Node
    b: Node
    port: float = 0.0  # where it leaves `a`, from its centre

    @property
    def gap(self) -> int:
        """The gap below this layer."""
        if self.a.layer != self.b.layer:
            return min(self.a.layer, self.b.layer)
        return self.a.layer if self.a.is_box else self.a.layer - 1

    @property
    def aims_up(self) -> bool:
        return not self.b.is_box and self.b.layer <= self.a.layer


class Graph:
    def __init__(self, boxes: Mapping[str, Size], lines: Sequence[Line]) -> None:
        back = _back(boxes, lines)
        depth = _depths(boxes, [line for at, line in enumerate(lines) if at not in back])
        labelled = {2 * depth[line.source] + 1 for at, line in enumerate(lines) if line.label and at not in back}
        index = {level: at for at, level in enumerate(sorted({2 * d for d in depth.values()} | labelled))}
        self.layers: list[list[Node]] = [[] for _ in index]
        self.links: list[Link] = []
        self.boxes: dict[str, Node] = {}
        self.labels: list[Node | None] = []
        self.paths: list[list[Link]] = []
        self._lanes: dict[tuple[str, bool, int], Node] = {}
        for name, size in boxes.items():
            self.boxes[name] = self._node(size.width, size.height, index[2 * depth[name]], is_box=True)
        for at, line in enumerate(lines):
            chain, label = (self._upwards if at in back else self._downwards)(line)
            links = [Link(a, b) for a, b in pairwise(chain)]
            self.labels.append(label)
            self.paths.append(links)
        shared: dict[tuple[Node, Node], Link] = {}
        for path in self.paths:
            path[1:] = [shared.setdefault((link.a, link.b), link) for link in path[1:]]
        self.links = list(dict.fromkeys(link for path in self.paths for link in path))

    def chains(self) -> Iterable[list[Node]]:
        """The lanes on the way to each box: those that go down, and those that lead back."""
        found: dict[tuple[str, bool], list[Node]] = defaultdict(list)
        for (name, up, _), lane in sorted(self._lanes.items(), key=lambda item: item[0][2]):
            found[name, up].append(lane)
        return found.values()

    def _node(self, width: float, height: float, layer: int, *, is_box: bool = False) -> Node:
        node = Node(width, height, layer, is_box=is_box)
        self.layers[layer].append(node)
        return node

    def _lane(self, target: str, layer: int, *, up: bool) -> Node:
        key = target, up, layer
        if key not in self._lanes:
            self._lanes[key] = self._node(LANE, 0, layer)
        return self._lanes[key]

    def _downwards(self, line: Line) -> tuple[list[Node], Node | None]:
        source, target = self.boxes[line.source], self.boxes[line.target]
        first = source.layer + 1
        label = self._node(line.label.width, line.label.height, first) if line.label else None
        lanes = [self._lane(line.target, layer, up=False) for layer in range(first + (label is not None), target.layer)]
        return [source, *([label] if label else []), *lanes, target], label

    def _upwards(self, line: Line) -> tuple[list[Node], Node | None]:
        source, target = self.boxes[line.source], self.boxes[line.target]
        last = source.layer
        label = self._node(line.label.width, line.label.height, last) if line.label else None
        lanes = [
            self._lane(line.target, layer, up=True) for layer in range(last - (label is not None), target.layer - 1, -1)
        ]
        return [source, *([label] if label else []), *lanes, target], label


def _back(boxes: Iterable[str], lines: Sequence[Line]) -> set[int]:
    """The lines that close a loop, seen from the first box on."""
    out: dict[str, list[int]] = defaultdict(list)
    for at, line in enumerate(lines):
        out[line.source].append(at)
    back: set[int] = set()
    state: dict[str, bool] = {}  # True while it is being explored
    for root in boxes:
        if root in state:
            continue
        state[root] = True
        stack = [(root, iter(out[root]))]
        while stack:
            name, rest = stack[-1]
            way = next(rest, None)
            if way is None:
                state[name] = False
                stack.pop()
                continue
            target = lines[way].target
            if target not in state:
                state[target] = True
                stack.append((target, iter(out[target])))
            elif state[target]:
                back.add(way)
    return back


def _depths(boxes: Iterable[str], lines: Sequence[Line]) -> dict[str, int]:
    """The longest way to each box."""
    out: dict[str, list[str]] = defaultdict(list)
    waits = dict.fromkeys(boxes, 0)
    for line in lines:
        out[line.source].append(line.target)
        waits[line.target] += 1
    depth = dict.fromkeys(waits, 0)
    ready = [name for name, count in waits.items() if count == 0]
    while ready:
        name = ready.pop()
        for target in out[name]:
            depth[target] = max(depth[target], depth[name] + 1)
            waits[target] -= 1
            if waits[target] == 0:
                ready.append(target)
    return depth
