"""Loading: YAML to a flow, short forms, and errors that name the file, the line and what was meant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import load, source
from flows.load import FlowError, Problem
from flows.model import Argument, Choice, Flow, HttpCall, Model, SlotType, ToolEffect, Transition

SMALL = """\
flow: small
version: 1
start: first
steps:
  first: {say: Hello., next: last}
  last: {say: Goodbye., end: done}
"""

FULL = """\
flow: full
version: 2
voice: {tts: espeak, name: en-us+f3, rate_wpm: 150}
models:
  fast: {use: openai, model: some-model}
  plain: rules
slots:
  order_id: {type: string, pattern: "[0-9]{8}", ask: "What is your order number?", confirm: false}
  kind: {type: choice, ask: "Which kind?", choices: [small, very_large]}
  colour:
    type: choice
    ask: Which colour?
    choices: {red: [rose, Dark  Red], blue: , green: lime}
  total: {type: money, from: lookup.total}
tools:
  lookup: {effect: read, http: {get: "{env.SHOP}/orders/{order_id}"}, retry: 2, timeout_s: 2.5, result: {total: money}}
  act:
    effect: irreversible
    http: {post: "{env.SHOP}/acts", headers: {Authorization: "Bearer {env.SHOP_KEY}"}}
    arguments: {order: order_id, why: {from: model, type: string, max_chars: 80}}
    once: "{order_id}"
    confirm: "Shall I do it for {total}?"
start: ask
steps:
  ask:
    collect: [order_id, kind, colour]
    tools: [lookup]
    next:
      - {when: "total > 100", to: act}
      - {else: stay}
  act: {tools: [act], requires: [ask], next: [{when: act.done, to: bye}]}
  bye: {say: Goodbye., end: done}
  info: {say: We sell things., phrases: [what do you sell]}
digressions: [repeat, info]
limits: {duration_min: 2.5, turns: 40, silence_s: 6}
texts: {filler: Just a second.}
record: true
"""


def problems_of(text: str, name: str = "small.yaml") -> tuple[Problem, ...]:
    with pytest.raises(FlowError) as caught:
        load.loads(text, name)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return caught.value.problems


def only_problem(text: str) -> Problem:
    (problem,) = problems_of(text)
    return problem


def test_the_smallest_flow_has_all_defaults() -> None:
    flow = load.loads(SMALL, "small.yaml")
    assert flow.models == {"default": Model("default", "rules")}
    assert flow.steps["first"].next == (Transition("last"),)
    assert flow.texts.readback.count("{value}") == 1
    assert all(getattr(flow.texts, name) for name in flow.texts.__struct_fields__)
    strong = Model("strong", "openai", "some-model")
    assert load.loads(SMALL, "small.yaml", strong).models == {"strong": strong}


def test_short_forms() -> None:
    flow = load.loads(FULL, "full.yaml")
    assert list(flow.models) == ["fast", "plain"]
    assert flow.models["plain"].use == "rules"
    assert flow.slots["kind"].choices == (
        Choice("small", ("small",), "1"),
        Choice("very_large", ("very large",), "2"),
    )
    assert flow.slots["colour"].choices == (
        Choice("red", ("red", "rose", "dark red"), "1"),
        Choice("blue", ("blue",), "2"),
        Choice("green", ("green", "lime"), "3"),
    )
    assert flow.slots["order_id"].confirm is False
    assert flow.slots["total"].source == "lookup.total"
    lookup = flow.tools["lookup"]
    assert lookup.arguments == (Argument("order_id", "order_id", SlotType.string),)
    assert (lookup.timeout_ms, lookup.retries, lookup.result) == (2500, 2, (("total", SlotType.money),))
    act = flow.tools["act"]
    assert act.effect is ToolEffect.irreversible
    assert act.http == HttpCall("POST", "{env.SHOP}/acts", (("Authorization", "Bearer {env.SHOP_KEY}"),))
    assert act.arguments == (
        Argument("order", "order_id", SlotType.string),
        Argument("why", "", SlotType.string, 80),
    )
    assert flow.steps["ask"].next == (Transition("act", "total > 100"), Transition("stay"))
    assert flow.digressions == ("info",)
    assert (flow.limits.duration_s, flow.limits.silence_s) == (150, 6)
    assert flow.texts.filler == "Just a second."


def test_bytes_and_hash() -> None:
    flow = load.loads(FULL, "full.yaml")
    again = load.from_bytes(load.flow_bytes(flow))
    assert again == flow
    assert list(again.models) == list(flow.models)  # the first is the default, so their order counts
    assert list(again.slots) == list(flow.slots)
    assert load.flow_hash(again) == load.flow_hash(flow) == load.flow_hash(load.loads(FULL, "other.yaml"))
    assert load.flow_hash(flow) != load.flow_hash(load.loads(FULL.replace("version: 2", "version: 3"), "full.yaml"))
    for junk in (b"", b"{}", b"[]", b"\xff", load.flow_bytes(flow)[:-1]):
        with pytest.raises(FlowError):
            load.from_bytes(junk)


def test_yaml_words_stay_words() -> None:
    text = SMALL.replace("end: done", "end: no").replace("say: Hello.", "say: 2026-01-01")
    flow = load.loads(text, "small.yaml")
    assert flow.steps["last"].end == "no"
    assert flow.steps["first"].say == "2026-01-01"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: 1", "version: one", "small.yaml:2: version: must be a valid integer"),
        ("version: 1", 'version: "1"', "small.yaml:2: version: must be a valid integer"),
        ("version: 1", "vresion: 1", "small.yaml:2: vresion: there is no such key (did you mean version?)"),
        ("version: 1\n", "", "small.yaml:1: version: is required"),
        ("version: 1", "version: 0", "small.yaml:2: version: must be greater than or equal to 1"),
        ("end: done", "ned: done", "small.yaml:6: steps.last.ned: there is no such key (did you mean end?)"),
        ("say: Hello.", "say: [Hello]", "small.yaml:5: steps.first.say: must be a valid string"),
        (
            "next: last",
            "next: [{to: last, whn: x}]",
            "next[0].whn: there is no such key (did you mean when?)",
        ),
        ("next: last", "next: [{when: 'true', else: last}]", "steps.first.next[0]: else stands alone: {else: step}"),
        ("next: last", "next: [{when: 'true'}]", "steps.first.next[0].to: is required"),
        ("  last:", "  Last One:", "steps.Last One: must be a lower case name"),
        ("end: done", "end: done, context: all", "small.yaml:6: steps.last.context: not supported yet"),
        ("version: 1", "version: 1\nguarantees: []", "small.yaml:3: guarantees: not supported yet"),
        ("version: 1", "version: 1\nlimits: {cost_usd: 0.4}", "limits.cost_usd: not supported yet"),
        ("version: 1", "version: 1\nlimits: {duration_min: x}", "limits: duration_min must be a number"),
        ("version: 1", "version: 1\nmodels: {m: {use: rules, fallback: [x]}}", "models.m.fallback: not supported yet"),
        ("version: 1", "version: 1\nlanguage: fr", "language: must be 'en'"),
        ("say: Hello.", "say: " + "x" * 2001, "steps.first.say: String should have at most 2000 characters"),
    ],
)
def test_schema_errors(old: str, new: str, said: str) -> None:
    assert old in SMALL
    assert said in "\n".join(map(str, problems_of(SMALL.replace(old, new))))


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = SMALL.replace("next: last", "next: lats, tools: [toll]").replace("start: first", "start: frist")
    found = [str(problem) for problem in problems_of(text)]
    assert found == [
        "small.yaml:3: start: there is no step 'frist' (did you mean first?)",
        "small.yaml:5: steps.first.next[0].to: there is no step 'lats' (did you mean last?)",
        "small.yaml:5: steps.first.tools[0]: there is no tool 'toll'",
    ]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "empty"),
        ("- a", 1, "a mapping of keys"),
        ("just text", 1, "a mapping of keys"),
        ("flow: a\nflow: b", 2, "'flow' stands here twice (the first is in line 1)"),
        ("a: {b: 1, c: 2, b: 3}", 1, "'b' stands here twice"),
        ("a: &x 1\nb: *x", 2, "aliases (*name) are not allowed"),
        ("a: &x {<<: *x}", 1, "aliases"),
        ("a: !!python/object/apply:os.system [ls]", 1, "the tag"),
        ("a: !secret b", 1, "the tag"),
        ("a: !!timestamp 2026-01-01", 1, "the tag"),
        ("? [a, b]\n: c", 1, "a key must be plain text"),
        ("a: b\n---\na: c", 2, "not readable as YAML"),
        ("a: [b", 1, "not readable as YAML"),
        ("a: b: c", 1, "not readable as YAML"),
        ("a:\n\t- b", 2, "not readable as YAML"),
        ("a: '\x00'", 1, "a character"),
        ("a: 'x'\nb: \x07", 2, "a character"),
        ("[" * 1000, 1, "nested more than"),
        ("{a: " * 1000, 1, "nested more than"),
        ("[" + "a, " * 30_000 + "]", 1, "more than"),
        ("x" * (source.MAX_SOURCE_CHARS + 1), 0, "longer than"),
    ],
)
def test_yaml_errors(text: str, line: int, part: str) -> None:
    problem = only_problem(text)
    assert problem.line == line
    assert part in str(problem)


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "small.yaml"
    good.write_text(SMALL, encoding="utf-8")
    assert load.load(good) == load.loads(SMALL, "small.yaml")
    for name, content, said in (
        ("latin.yaml", "say: \xe9".encode("latin-1"), "not UTF-8"),
        ("large.yaml", b"#" * (load.MAX_FILE_BYTES + 1), "larger than"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FlowError, match=said):
            load.load(tmp_path / name)
    for missing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(FlowError, match="cannot be read"):
            load.load(missing)
        assert load.inspect_file(missing)[0] is None


def test_finding_flows(tmp_path: Path) -> None:
    assert load.find("clinic") == load.library()["clinic"]
    (tmp_path / "refund.yaml").write_text(SMALL, encoding="utf-8")
    assert load.find(str(tmp_path / "refund.yaml")) == tmp_path / "refund.yaml"
    with pytest.raises(FlowError, match=r"clinci: there is no such flow \(did you mean clinic\?\)"):
        load.find("clinci")
    with pytest.raises(FlowError, match=r"did you mean refund\.yaml"):
        load.find(str(tmp_path / "refunt.yaml"))
    for odd in ("", "\0", "x" * 5000, "/nowhere/at/all.yaml", str(tmp_path)):
        with pytest.raises(FlowError, match="there is no such flow"):
            load.find(odd)


LINES = SMALL.splitlines()


@given(st.lists(st.sampled_from([*FULL.splitlines(), *LINES]) | st.text(max_size=20), max_size=40).map("\n".join))
def test_any_text_gives_a_flow_or_problems(text: str) -> None:
    flow, problems = load.inspect(text, "any.yaml")
    assert isinstance(flow, Flow) or problems
    assert all(problem.file == "any.yaml" and problem.line >= 0 for problem in problems)


@given(st.data())
def test_a_damaged_flow_never_raises_anything_else(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(FULL) - 1))
    junk = data.draw(st.sampled_from(["", "x", ": ", "\n", "{", "}", "[", "]", "*", "&a ", "'", "-", "#", "!", "{a}"]))
    width = data.draw(st.integers(0, 30))
    flow, problems = load.inspect(FULL[:at] + junk + FULL[at + width :], "full.yaml")
    assert flow is not None or problems
