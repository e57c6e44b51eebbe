"""Drawings of flows: everything is in them, nothing lies on anything else, and no text can break out."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import msgspec
import pytest

from flows import load
from flows.diagram import MAX_LABEL_CHARS, MAX_LINES, STYLE, clean, svg, wrapped
from flows.layout import Drawing, Line, Size, layout
from flows.mermaid import mermaid
from flows.model import Flow, Step, Tool, ToolEffect, Transition

XML = "{http://www.w3.org/2000/svg}"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SHIPPED = [*load.library().values(), *sorted(EXAMPLES.glob("*.yaml"))]


def flow_of(*steps: Step, **more: object) -> Flow:
    clinic = load.load(load.find("clinic"))
    plain: dict[str, object] = {"give_up": "", "digressions": (), "tools": {}, "slots": {}}
    named = {step.name: step for step in steps}
    return msgspec.structs.replace(clinic, name="made", steps=named, start=steps[0].name, **(plain | more))


def large(count: int, seed: int) -> Flow:
    """A flow with long ways, ways back, ways to itself, and several ways between the same two steps."""
    chance = Random(seed)
    names = [f"step_{at}" for at in range(count)]
    steps = []
    for at, name in enumerate(names):
        ways = [Transition(names[min(count - 1, at + 1)], chance.choice(["", "find_patient.found and day.confirmed"]))]
        for far in (3, 9, -1, -5, 0):
            if chance.random() < 0.3:
                ways.append(Transition(names[max(0, min(count - 1, at + far))], chance.choice(["", "attempts >= 3"])))
        asked = tuple(f"slot_{n}" for n in range(chance.randint(0, 3)))
        steps.append(Step(name, collect=asked, next=tuple(ways)) if at < count - 1 else Step(name, end="over"))
    return flow_of(*steps)


def drawn(flow: Flow) -> ElementTree.Element:
    return ElementTree.fromstring(svg(flow))


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in one.get("class", "").split()]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_drawing_has_every_step_and_every_way(path: Path) -> None:
    flow = load.load(path)
    root = drawn(flow)
    assert root.tag == f"{XML}svg"
    assert root.findtext(f"{XML}title") == f"Flow {flow.name}, version {flow.version}"
    assert flow.start in (root.findtext(f"{XML}desc") or "")
    assert sorted(one.get("data-step", "") for one in of_class(root, "step")) == sorted(flow.steps)
    ways = sorted((one.get("data-from", ""), one.get("data-to", "")) for one in of_class(root, "edge"))
    assert ways == sorted([("", flow.start), *((s.name, way.to) for s in flow.steps.values() for way in s.next)])
    text = "".join(root.itertext())
    for step in flow.steps.values():
        assert all(name in text for name in (*step.collect, *step.tools, *step.requires))
        assert all(way.when in text for way in step.next)


def test_starts_ends_and_digressions_are_marked() -> None:
    root = drawn(load.load(load.find("clinic")))
    for kind, names in (("start", {"welcome"}), ("end", {"bye", "desk"}), ("any", {"hours"})):
        assert {one.get("data-step") for one in of_class(root, kind)} == names


def test_a_tool_stands_with_its_guards() -> None:
    root = drawn(load.load(load.find("clinic")))
    (offer,) = [one for one in of_class(root, "step") if one.get("data-step") == "offer"]
    text = " ".join(offer.itertext())
    for told in ("book", "irreversible", "when find_slot.found", "level verified", "asks the caller first"):
        assert told in text
    assert len(of_class(offer, "irreversible")) == 1


def test_the_same_flow_is_the_same_drawing() -> None:
    flow = large(30, 5)
    assert svg(flow) == svg(load.from_bytes(load.flow_bytes(flow)))


def test_it_follows_the_page_and_the_reader() -> None:
    text = svg(load.load(load.find("clinic")))
    assert f"<style>{STYLE}</style>" in text
    assert "prefers-color-scheme:dark" in STYLE
    assert "var(--flow-ink,var(--ink,var(--d-ink)))" in STYLE
    assert ".current" in STYLE
    for outside in ("<script", "href", "url(", "@import", "<image", "foreignObject"):
        assert outside not in text


HOSTILE = "\"><script>alert(1)</script>&'</style>]]>--><!--\x00\x07\u202e\ud800"


def test_no_text_of_a_flow_breaks_out() -> None:
    tool = Tool(HOSTILE, ToolEffect.write, when=HOSTILE, level=HOSTILE, once=HOSTILE, confirm=HOSTILE)
    first = Step(
        HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (HOSTILE,), (HOSTILE,), HOSTILE,
        (Transition("b", HOSTILE), Transition(HOSTILE, HOSTILE)), grants=HOSTILE, forget=(HOSTILE,),
    )  # fmt: skip
    flow = flow_of(first, Step("b", end=HOSTILE), tools={HOSTILE: tool})
    text = svg(msgspec.structs.replace(flow, name=HOSTILE))
    root = ElementTree.fromstring(text.encode())
    assert {one.tag.removeprefix(XML) for one in root.iter()} <= {
        "svg", "title", "desc", "style", "g", "path", "rect", "circle", "text",
    }  # fmt: skip
    assert not [name for one in root.iter() for name in one.attrib if name.startswith("on")]
    assert "alert(1)" in "".join(root.itertext()), "it is shown, as text"
    assert "\u202e" not in text, "and in the direction in which it is read"

    told = mermaid(msgspec.structs.replace(flow, name=HOSTILE))
    assert "<script" not in told
    assert "\x00" not in told
    for line in told.splitlines():
        assert line.count('"') in (0, 2), "nothing closes its quotation marks"
    told.encode()


def test_a_step_with_nothing_and_ways_to_nowhere() -> None:
    root = drawn(flow_of(Step("only", next=(Transition("stay", "attempts >= 1"), Transition("gone")))))
    assert [one.get("data-step") for one in of_class(root, "step")] == ["only"]
    assert len(of_class(root, "edge")) == 1, "the start's"
    assert "attempts >= 1" in "".join(of_class(root, "step")[0].itertext()), "what keeps a call here stands in the box"
    assert drawn(msgspec.structs.replace(flow_of(Step("a")), start="gone")) is not None
    assert drawn(msgspec.structs.replace(flow_of(Step("a")), digressions=("a",))) is not None


def test_lines_of_a_guard() -> None:
    assert wrapped("", 10) == []
    assert wrapped("one and two", 20) == ["one and two"]
    assert wrapped("one and two", 8) == ["one and", "two"]
    assert wrapped("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    long = wrapped("word " * 100, MAX_LABEL_CHARS)
    assert (len(long), long[-1][-1]) == (MAX_LINES, "…")
    assert all(len(line) <= 5 for line in wrapped("漢字漢字漢字漢字", 10)), "wide letters take more room"
    assert clean("a\x00b\u2066c\ud800") == "a\ufffdb\ufffdc\ufffd"


# Geometry


def boxes_of(
    drawing: Drawing, boxes: dict[str, Size], lines: list[Line]
) -> Iterator[tuple[float, float, float, float]]:
    for name, size in boxes.items():
        x, y = drawing.boxes[name]
        yield x, y, x + size.width, y + size.height
    for line, place in zip(lines, drawing.labels, strict=True):
        if line.label is not None and place is not None:
            x, y = place[0] - line.label.width / 2, place[1] - line.label.height / 2
            yield x, y, x + line.label.width, y + line.label.height


def made(seed: int) -> tuple[dict[str, Size], list[Line]]:
    chance = Random(seed)
    boxes = {
        f"b{at}": Size(2 * chance.randint(40, 140), chance.randint(30, 160)) for at in range(chance.randint(1, 30))
    }
    names = list(boxes)
    lines = []
    for at, name in enumerate(names):
        for _ in range(chance.randint(0, 4)):
            to = min(len(names) - 1, max(0, at + chance.randint(-6, 6)))
            label = Size(2 * chance.randint(20, 90), chance.randint(20, 60)) if chance.random() < 0.6 else None
            lines.append(Line(name, names[to], label))
    return boxes, lines


@pytest.mark.parametrize("seed", range(60))
def test_nothing_lies_on_anything_and_lines_keep_clear_of_boxes(seed: int) -> None:
    boxes, lines = made(seed)
    drawing = layout(boxes, lines)
    areas = list(boxes_of(drawing, boxes, lines))
    for at, (left, top, right, bottom) in enumerate(areas):
        assert left >= -1
        assert top >= -1
        assert right <= drawing.width + 1
        assert bottom <= drawing.height + 1
        for other in areas[at + 1 :]:
            apart = other[0] >= right + 2 or other[2] <= left - 2 or other[1] >= bottom + 2 or other[3] <= top - 2
            assert apart, (areas[at], other)
    only_boxes = areas[: len(boxes)]
    for line, route in zip(lines, drawing.routes, strict=True):
        x, y = drawing.boxes[line.source]
        assert route[0][1] == pytest.approx(y + boxes[line.source].height, abs=1)
        assert x <= route[0][0] <= x + boxes[line.source].width
        x, y = drawing.boxes[line.target]
        assert route[-1][1] == pytest.approx(y, abs=1)
        assert x <= route[-1][0] <= x + boxes[line.target].width
        for (ax, ay), (bx, by) in itertools.pairwise(route):
            assert ax == bx or ay == by, "lines are square"
            for left, top, right, bottom in only_boxes:
                across = max(ax, bx) > left + 1 and min(ax, bx) < right - 1
                down = max(ay, by) > top + 1 and min(ay, by) < bottom - 1
                assert not (across and down), (line, (ax, ay), (bx, by))
    for line, route, place in zip(lines, drawing.routes, drawing.labels, strict=True):
        if line.label is not None and place is not None:
            half = line.label.width / 2
            assert any(
                abs(ax - place[0]) <= half and min(ay, by) <= place[1] <= max(ay, by)
                for (ax, ay), (_, by) in itertools.pairwise(route)
            ), "a line runs through its own label"


@pytest.mark.parametrize("seed", range(20))
def test_lines_to_different_boxes_never_run_on_each_other(seed: int) -> None:
    boxes, lines = made(seed)
    routes = layout(boxes, lines).routes
    runs = [(line, run) for line, route in zip(lines, routes, strict=True) for run in itertools.pairwise(route)]
    for at, (line, (a, b)) in enumerate(runs):
        for other, (c, d) in runs[at + 1 :]:
            for axis in (0, 1) if other.target != line.target else ():
                along = 1 - axis
                if a[axis] == b[axis] and c[axis] == d[axis] and abs(a[axis] - c[axis]) < 3:
                    shared = min(max(a[along], b[along]), max(c[along], d[along]))
                    assert shared <= max(min(a[along], b[along]), min(c[along], d[along])) + 2, (line, other)


def test_a_line_back_rises_beside_the_boxes() -> None:
    boxes = {name: Size(100, 40) for name in "abc"}
    drawing = layout(boxes, [Line("a", "b"), Line("b", "c"), Line("c", "a")])
    assert [drawing.boxes[name][1] for name in "abc"] == sorted(drawing.boxes[name][1] for name in "abc")
    route = drawing.routes[2]
    assert max(y for _, y in route) > drawing.boxes["c"][1] + 40, "out below"
    assert min(y for _, y in route) < drawing.boxes["a"][1], "in from above"


@pytest.mark.parametrize("seed", range(3))
def test_large_flows_are_drawn_soon(seed: int) -> None:
    flow = large(40, seed)
    began = time.process_time()
    root = drawn(flow)
    assert time.process_time() - began < 2, "a generous limit: it is some 40 ms"
    assert len(of_class(root, "step")) == 40
    assert drawn(large(200, seed)) is not None


def test_mermaid_has_the_same_steps_and_ways() -> None:
    flow = load.load(load.find("clinic"))
    lines = mermaid(flow).splitlines()
    assert lines[0] == "flowchart TD"
    assert sum(" --> " in line or " -->|" in line for line in lines) == 1 + sum(
        len(s.next) for s in flow.steps.values()
    )
    assert any('"identify<br>asks dob<br>tool find_patient"' in line for line in lines)
    assert any('|"find#95;patient' in line or '|"find_patient.found"' in line for line in lines)
    assert any(line.strip().startswith("subgraph any") for line in lines)
