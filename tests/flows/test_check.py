"""The checker: each thing that a flow promises and cannot keep is named, at its place."""

import time

import pytest
from msgspec.structs import replace

from flows import load
from flows.check import check, guard_names
from flows.load import library
from flows.model import Flow

GOOD = """\
flow: shop
version: 1
give_up: desk
allow_hosts: ["{env.SHOP}"]
slots:
  pin: {type: digits, min_digits: 4, max_digits: 4, sensitive: true, ask: "Your code?"}
  day: {type: weekday, ask: "Which day?", readback: "{value}, right?"}
  size: {type: choice, ask: "Which size?", choices: {small: [little one], large: [big one]}}
  owner: {type: string, from: find.owner}
tools:
  find:
    effect: read
    http: {get: "{env.SHOP}/owners/{pin}"}
    retry: 1
    result: {found: yesno, owner: string}
  order:
    effect: irreversible
    http: {post: "{env.SHOP}/orders", headers: {Key: "{env.KEY}"}}
    arguments: [owner, day, size]
    level: known
    when: find.found and size.confirmed
    once: "{owner}:{day}"
    confirm: "A {size} one on {day}?"
    result: {number: digits}
start: hello
steps:
  hello: {say: Hello., next: who}
  who:
    collect: [pin]
    tools: [find]
    done: find.found
    grants: known
    next:
      - {when: find.found, to: what}
      - {when: attempts >= 2 or find.failed, to: desk}
  what:
    requires: [who]
    collect: [day, size]
    next: sell
  sell:
    requires: [who, what]
    tools: [order]
    prompt: "Sell to {owner}."
    next:
      - {when: order.done and steps.what.done, to: bye}
      - {when: order.declined, to: what}
      - {else: stay}
  bye: {say: "Number {order.number} comes on {day}.", end: sold}
  desk: {say: Please come to us., end: referred}
  hours: {say: Always open., phrases: [when are you open]}
digressions: [hours]
"""


def found(old: str = "", new: str = "") -> list[str]:
    assert old in GOOD
    _, problems = load.inspect(GOOD.replace(old, new) if old else GOOD, "shop.yaml")
    return [str(problem) for problem in problems]


def line_of(text: str) -> int:
    return next(at for at, line in enumerate(GOOD.splitlines(), 1) if text in line)


def test_a_good_flow_has_no_problem() -> None:
    assert found() == []


@pytest.mark.parametrize("name", library())
def test_shipped_flows_have_no_problem(name: str) -> None:
    flow, problems = load.inspect_file(load.find(name))
    assert problems == []
    assert flow is not None
    assert flow.name == name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # references
        ("give_up: desk", "give_up: dest", "give_up: there is no step 'dest' (did you mean desk?)"),
        ("start: hello", "start: helo", "start: there is no step 'helo'"),
        ("collect: [pin]", "collect: [pni]", "steps.who.collect[0]: there is no slot 'pni' (did you mean pin?)"),
        ("tools: [find]", "tools: [fnid]", "steps.who.tools[0]: there is no tool 'fnid' (did you mean find?)"),
        ("requires: [who]\n", "requires: [whom]\n", "steps.what.requires[0]: there is no step 'whom'"),
        ("  order:\n", "  answer:\n", "tools.answer: models know a function of the software's own by this name"),
        ("to: bye", "to: by", "steps.sell.next[0].to: there is no step 'by' (did you mean bye?)"),
        ("next: sell", "next: sell\n    forget: [dya]", "steps.what.forget[0]: there is no slot 'dya'"),
        ("next: sell", "next: sell\n    sees: [dya]", "steps.what.sees[0]: there is no slot 'dya'"),
        ("next: sell", "next: sell\n    model: best", "steps.what.model: there is no model 'best'"),
        ("digressions: [hours]", "digressions: [hour]", "digressions[0]: there is no step 'hour'"),
        (
            "version: 1",
            "version: 1\nmodels: {m: opnai}",
            "models.m.use: there is no provider 'opnai' (did you mean openai?)",
        ),
        ("version: 1", "version: 1\nmodels: {rules: openai}", "models.rules: the name rules belongs"),
        ("from: find.owner", "from: find.ower", "slots.owner.from: there is no field in the result of find 'ower'"),
        (
            "from: find.owner",
            "from: owner",
            "slots.owner.from: is not a field of a tool's result (did you mean find.owner?)",
        ),
        ("[owner, day, size]", "[owner, dya, size]", "tools.order.arguments.dya: there is no slot 'dya'"),
        # guards and templates
        (
            "when: find.found,",
            "when: fnd.found,",
            "steps.who.next[0].when: a guard knows no 'fnd.found' (did you mean find.found?)",
        ),
        ("when: find.found,", "when: find.found and,", "steps.who.next[0].when: it ends too early (column 15)"),
        ("when: attempts >= 2", "when: level == 2", "a guard knows no 'level'"),
        ("done: find.found", "done: find.owner = 1", "steps.who.done: '=' is not part of the guard language: use =="),
        ("steps.what.done", "steps.waht.done", "a guard knows no 'steps.waht.done' (did you mean steps.what.done?)"),
        (
            "when: find.found and size.confirmed",
            "when: size.confrmed",
            "tools.order.when: a guard knows no 'size.confrmed'",
        ),
        (
            "{order.number}",
            "{order.nmber}",
            "steps.bye.say: there is no field {order.nmber} here (did you mean order.number?)",
        ),
        ("{order.number}", "{order.number", "steps.bye.say: '{'"),
        ("Sell to {owner}.", "Sell to {env.KEY}.", "steps.sell.prompt: there is no field {env.KEY} here"),
        ('once: "{owner}:{day}"', 'once: "{find.owner}"', "tools.order.once: there is no field {find.owner} here"),
        ("owners/{pin}", "owners/{day}/{pni}", "tools.find.http: there is no argument {pni} here"),
        ('Key: "{env.KEY}"', 'Key: "{pin}"', "tools.order.http.headers.Key: there is no field {pin} here"),
        ('["{env.SHOP}"]', '["{pin}"]', "allow_hosts[0]: there is no field {pin} here"),
        ('"{value}, right?"', "'Right?'", "slots.day.readback: a read-back must say the {value}"),
        ('"{value}, right?"', '"{value} for {size}"', "slots.day.readback: there is no field {size} here"),
        # slots
        ('ask: "Which day?", ', "", "slots.day: it is collected but has no question (give it ask:)"),
        ("type: weekday,", "type: weekday, min_digits: 2,", "slots.day.min_digits: means nothing for the type weekday"),
        (
            "type: weekday,",
            "type: weekday, choices: [monday],",
            "slots.day.choices: means nothing for the type weekday",
        ),
        ("type: weekday,", "type: weekday, max: 2,", "slots.day.max: means nothing for the type weekday"),
        ("type: weekday,", "type: choice,", "slots.day: it has no choices"),
        ("min_digits: 4", "min_digits: 5", "slots.pin.min_digits: is more than max_digits"),
        ("type: weekday,", "type: number, min: 3, max: 2,", "slots.day.min: is more than max"),
        ("type: weekday,", 'type: weekday, pattern: "(a",', "slots.day.pattern: is not a regular expression"),
        ("type: weekday,", 'type: weekday, pattern: "(a+)+b",', "slots.day.pattern: could take forever"),
        ("[big one]", "[big one, Little  One]", "slots.size.choices.large: 'little one' is said for 'small' too"),
        ("collect: [day, size]", "collect: [day, size, owner]", "slots.owner.from: a step collects it"),
        # tools
        ('    once: "{owner}:{day}"\n', "", "tools.order: an irreversible tool needs once:"),
        ("    level: known", "    retry: 1\n    level: known", "tools.order.retry: a write may be repeated only"),
        ("level: known", "level: knwon", "tools.order.level: no step grants 'knwon' (did you mean known?)"),
        (
            "result: {number: digits}",
            "result: {number: digits, done: yesno}",
            "tools.order.result.done: this name says how",
        ),
        ("    retry: 1\n", "    python: shop:find\n", "tools.find: it needs either http or python"),
        ("collect: [pin]", "collect: []", "tools.find.arguments.pin: no step collects pin and no tool gives it"),
        # ways through
        ("next: sell", "end: sold", "steps.what.collect: a step with an end has nothing after its words"),
        ("    next: sell\n", "", "steps.what: a dead end"),
        ("    done: find.found\n", "", ""),
        (
            "collect: [pin]\n    tools: [find]\n    done: find.found",
            "tools: [find]",
            "steps.who.grants: everybody would have",
        ),
        ("requires: [who]\n", "requires: [who, sell]\n", "steps.what.requires: it requires itself"),
        ("phrases: [when are you open]", "next: bye, phrases: [x]", "steps.hours.next: a digression returns to where"),
        ("phrases: [when are you open]", "end: x, phrases: [x]", "steps.hours.end: a digression returns to where"),
        (", phrases: [when are you open]", "", "steps.hours: nobody can ask for this digression"),
        (
            "digressions: [hours]",
            "digressions: [hours, desk]",
            "steps.desk: a digression cannot be the start or give_up",
        ),
        ("  hello:", "  stay: {say: x, end: x}\n  hello:", "steps.stay: stay means not to move"),
        ("\ntools:\n", "\n  find: {type: yesno}\ntools:\n", "tools.find: a slot has the same name"),
        ("\ntools:\n", "\n  visits: {type: yesno}\ntools:\n", "slots.visits: this name has a meaning of its own"),
    ],
)
def test_errors(old: str, new: str, said: str) -> None:
    problems = found(old, new)
    assert any(said in problem and "warning" not in problem for problem in problems) or not said, problems


def test_errors_are_at_their_line() -> None:
    assert found("to: bye", "to: by")[0].startswith(f"shop.yaml:{line_of('to: bye')}: ")
    assert found('ask: "Which day?", ', "")[0].startswith(f"shop.yaml:{line_of('Which day?')}: ")
    assert found("type: weekday,", 'type: weekday, pattern: "(a",')[0].startswith(
        f"shop.yaml:{line_of('type: weekday')}: "
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  bye:", "  lost: {say: x, next: bye}\n  bye:", "warning: steps.lost: nothing leads to this step"),
        (
            "[when are you open]",
            "[24 hour service]",
            "warning: steps.hours.phrases[0]: '24 hour service' cannot be heard",
        ),
        ("[little one]", "[size 1]", "warning: slots.size.choices.small: 'size 1' cannot be heard"),
        ("type: weekday,", "type: string,", "warning: steps.what.collect[0]: day is free text"),
        ("\ntools:\n", "\n  spare: {type: yesno}\ntools:\n", "warning: slots.spare: no step collects it"),
        ("tools: [find]\n", "tools: []\n", "warning: tools.find: no step uses it"),
        ("say: Please come to us.,", "say: x, phrases: [desk],", "warning: steps.desk.phrases: only a digression"),
        ("- {else: stay}", "- {else: stay}\n      - {else: bye}", "warning: steps.sell.next[3]: is never tried"),
        ('once: "{owner}:{day}"', 'once: "{pin}:{day}"', "warning: tools.order.once: pin is sensitive"),
        ("- {else: stay}", "- {else: bye}", "warning: steps.sell.next: moves on at once"),
        (
            "collect: [day, size]",
            "collect: [day, size, fit]",
            "warning: steps.what.collect: 'little one' is a choice of size and of fit",
        ),
        (
            "[owner, day, size]",
            "{owner: owner, note: {from: model}}",
            "warning: steps.sell.tools: order needs note from a",
        ),
    ],
)
def test_warnings_do_not_keep_a_flow_from_running(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new)
    if "fit]" in new:
        text = text.replace(
            "\ntools:\n", "\n  fit: {type: choice, ask: 'Which fit?', choices: [little one, wide]}\ntools:\n"
        )
    flow, problems = load.inspect(text, "shop.yaml")
    assert any(said in str(problem) for problem in problems), [str(problem) for problem in problems]
    assert all(problem.severity == "warning" for problem in problems), [str(problem) for problem in problems]
    assert load.loads(text, "shop.yaml") == flow


def test_a_model_may_collect_free_text() -> None:
    text = GOOD.replace("type: weekday,", "type: string,").replace("version: 1", "version: 1\nmodels: {m: openai}")
    assert load.inspect(text, "shop.yaml")[1] == []


def test_check_works_without_a_file_and_on_any_flow() -> None:
    flow = load.loads(GOOD, "shop.yaml")
    assert check(flow) == []
    bare = Flow("bare", 1, "nowhere", {}, flow.texts)
    assert [problem.path for problem in check(bare)] == ["start", "steps"]


def test_guard_names_hold_all_that_guards_may_ask() -> None:
    names = guard_names(load.loads(GOOD, "shop.yaml"))
    for name in (
        "attempts",
        "visits",
        "day",
        "day.filled",
        "day.confirmed",
        "find.found",
        "find.unknown",
        "steps.who.done",
    ):
        assert name in names


def test_a_patterns_problem_has_its_hint_and_a_long_pattern_is_one() -> None:
    assert found("type: weekday,", "type: weekday, pattern: '(?:x+y)*',") == [
        f"shop.yaml:{line_of('type: weekday')}: slots.day.pattern: could take forever on some inputs "
        "(no repeat around a repeat or choice; give repeats an end, such as {1,8})"
    ]
    flow = load.loads(GOOD, "shop.yaml")
    long = replace(flow, slots={"day": replace(flow.slots["day"], pattern="x" * 201)})
    assert any("longer than 200 characters" in str(problem) for problem in check(long))


@pytest.mark.filterwarnings("error")
def test_an_ambiguous_pattern_is_a_problem_of_the_flow_and_not_a_warning_of_the_engine() -> None:
    (problem,) = found("type: weekday,", "type: weekday, pattern: '[[a-z]+',")
    assert "slots.day.pattern: has two meanings: possible nested set" in problem


def test_the_largest_flow_is_checked_in_bounded_time() -> None:
    ways = [", ".join(f"{{when: attempts > {k}, to: s{(n * 7 + k) % 200}}}" for k in range(10)) for n in range(199)]
    steps = "\n".join(f"  s{n}: {{next: [{way}]}}" for n, way in enumerate(ways))
    text = f"flow: big\nversion: 1\nstart: s0\nsteps:\n{steps}\n  s199: {{end: done}}\n"
    began = time.monotonic()
    assert load.inspect(text, "big.yaml")[1] == []
    assert time.monotonic() - began < 30
