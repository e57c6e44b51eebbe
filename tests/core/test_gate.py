"""The gate: every rule in its order, with its verdict and reason, and the second check at the moment of execution."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from app.core import gate
from app.core.call import Call
from app.core.core import CallCore
from app.core.effects import AllowTool, CutPlayout, StartTool, Verdict, WithdrawTool
from app.core.events import (
    CallerHungUp,
    IntentProposed,
    OnceUsed,
    ReplyEnded,
    Sentence,
    TextReceived,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    ToolRequest,
    ToolsRequested,
    WriteAheadFailed,
)
from app.core.replies import MAX_ROUNDS
from app.core.state import CallState, Phase, StateView, ToolCall, ToolState
from flows import semantics
from flows.model import Value
from tests.core.stories import (
    PIN,
    choosing,
    confirming,
    finish,
    greeted,
    of,
    propose,
    texts,
    with_tool,
    working,
    workshop,
)
from tests.support.driver import Driver
from tests.support.shop import shop

Own = dict[str, Value]


def refusal(driver: Driver, tool: str, own: Own | None = None, gen: int | None = None) -> tuple[str, str]:
    """The rule and the reason with which one request is refused."""
    driver.effects.clear()
    driver.ask_tools((tool, own or {}), gen=gen)
    (verdict,) = of(driver, Verdict)
    assert verdict.decision == "refused"
    assert of(driver, AllowTool) == []
    return verdict.rule, verdict.reason


def test_what_passes_is_allowed_written_ahead_and_started() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    assert [(v.decision, v.rule, v.reason) for v in of(driver, Verdict)] == [
        ("allowed", "all", "every check holds"),
        ("started", "all", "every check holds"),
    ]
    assert of(driver, AllowTool) == [AllowTool(1, "look", {"item": "tea"}, "c1:1", "")]
    assert of(driver, StartTool) == [StartTool(1)]


# The rules, in their order


def test_live() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("#")
    assert driver.state.phase is Phase.ending
    assert refusal(driver, "order") == ("live", "the call is ending")


@pytest.mark.parametrize("off", [-1, 1])
def test_gen(off: int) -> None:
    driver = working()
    before = len(driver.state.tools)
    assert refusal(driver, "look", gen=driver.state.gen + off) == ("gen", "the reply that asked for it was replaced")
    assert len(driver.state.tools) == before


def test_gen_of_a_reply_that_is_through() -> None:
    driver = working()
    gen = driver.state.gen
    driver.post(Sentence(gen, 0, "Well."))
    driver.post(ReplyEnded(gen))
    assert driver.state.reply is not None
    assert refusal(driver, "look", gen=gen)[0] == "gen"


def test_step() -> None:
    driver = working()
    assert refusal(driver, "elsewhere") == ("step", "elsewhere is not available in step work")
    assert refusal(driver, "rm -rf")[0] == "step"
    assert driver.state.tools[1].state is ToolState.refused


def test_requires() -> None:
    """The core leaves a step whose requirements fall; the flow's own admission does not rely on that."""
    flow = workshop()
    state = CallState("c", phase=Phase.live, step="shut", slots=CallCore(flow, "c").state.slots)
    found = semantics.admit(flow, StateView(flow, state), "elsewhere", {})
    assert found == semantics.Refusal("requires", "step work is not done")


@pytest.mark.parametrize(
    ("tool", "own", "reason"),
    [
        ("jot", {}, "text is missing"),
        ("jot", {"text": 7}, "text is not a string"),
        ("jot", {"text": ""}, "text is not a string"),
        ("jot", {"text": "123456789"}, "text is not a string"),
        ("jot", {"text": "a", "more": "b"}, "an argument that the model may not give"),
        ("look", {"item": "coffee"}, "an argument that the model may not give"),
    ],
)
def test_arguments(tool: str, own: Own, reason: str) -> None:
    assert refusal(working(), tool, own) == ("arguments", reason)


def test_arguments_come_from_slots_that_are_known_and_confirmed() -> None:
    flow = workshop()
    driver = Driver(flow).start()
    assert refusal(driver, "look") == ("arguments", "item is not known")
    item = replace(flow.slots["item"], confirm=True)
    driver = working(replace(flow, slots={**flow.slots, "item": item}))
    assert refusal(driver, "look") == ("arguments", "item is not confirmed")


def test_guard() -> None:
    driver = working()
    assert refusal(driver, "later") == ("guard", "later needs: look.done")
    driver.results = {"look": {"price": 3}}
    driver.ask_tools(("look", {}))
    driver.ask_tools(("later", {}))
    assert driver.verdicts()[-1] == ("later", "started", "all")


def test_level() -> None:
    assert refusal(working(), "gold") == ("level", "gold needs the caller's level gold")


def test_a_level_holds_only_while_its_step_is_done() -> None:
    driver = confirming()
    driver.rules_engine = False
    assert "verified" in semantics.levels(driver.flow, StateView(driver.flow, driver.state))
    driver.post(TextReceived("other code"))
    propose(driver, pin="9999")
    assert "verified" not in semantics.levels(driver.flow, StateView(driver.flow, driver.state))


def test_budget() -> None:
    driver = working(workshop(tool_calls=2))
    driver.ask_tools(("jot", {"text": "1"}))
    driver.ask_tools(("jot", {"text": "2"}))
    assert refusal(driver, "jot", {"text": "3"}) == ("budget", "the call's number of tool calls is used up")


def test_refused_requests_do_not_use_the_budget() -> None:
    driver = working(workshop(tool_calls=1))
    refusal(driver, "gold")
    driver.ask_tools(("look", {}))
    assert driver.verdicts()[-1] == ("look", "started", "all")


def test_the_ledger_has_an_end() -> None:
    driver = working()
    driver.ask_tools(*[("gold", Own())] * gate.MAX_REQUESTS)
    assert refusal(driver, "look") == ("budget", "too many tool requests in this call")
    assert len(driver.state.tools) == gate.MAX_REQUESTS


@pytest.mark.parametrize("outcome", [None, ToolOutcome.unknown])
def test_duplicate(outcome: ToolOutcome | None) -> None:
    """The same tool with equal arguments, while one is under way or nobody knows."""
    driver = working()
    driver.ask_tools(("jot", {"text": "a"}))
    if outcome:
        driver.post(ToolEnded(1, outcome))
    state = "unknown" if outcome else "running"
    assert refusal(driver, "jot", {"text": "a"}) == ("duplicate", f"the same call is {state}")
    driver.ask_tools(("jot", {"text": "b"}))
    assert driver.verdicts()[-1] == ("jot", "started", "all")


def test_what_failed_may_be_tried_again() -> None:
    driver = working()
    driver.ask_tools(("jot", {"text": "a"}))
    driver.post(ToolEnded(1, ToolOutcome.failed))
    driver.ask_tools(("jot", {"text": "a"}))
    assert driver.verdicts()[-1] == ("jot", "started", "all")


def test_one_act() -> None:
    driver = working()
    driver.ask_tools(("look", {}), ("jot", {"text": "a"}), ("jot", {"text": "b"}), ("pay", {"text": "a"}))
    assert [entry.state for entry in driver.state.tools.values()] == ["running", "running", "refused", "refused"]
    assert [entry.reason for entry in driver.state.tools.values()][2:] == ["one-act", "one-act"]


def test_a_message_is_gated_in_order_each_against_what_the_one_before_left() -> None:
    driver = working()
    driver.ask_tools(("jot", {"text": "a"}), ("jot", {"text": "a"}))
    first = [(v.n, v.decision, v.rule) for v in of(driver, Verdict) if v.decision != "started"]
    assert first == [(1, "allowed", "all"), (2, "refused", "duplicate")]


def test_once() -> None:
    driver = working()
    driver.results = {"pay": {}}
    driver.ask_tools(("pay", {"text": "a"}))
    assert of(driver, AllowTool)[0].key == of(driver, AllowTool)[0].once == "workshop/pay/tea"
    assert refusal(driver, "pay", {"text": "b"}) == ("once", "it was done before, or is under way")


def test_once_while_it_is_under_way() -> None:
    driver = working()
    driver.ask_tools(("pay", {"text": "a"}))
    assert refusal(driver, "pay", {"text": "b"})[0] == "once"
    driver.post(ToolEnded(1, ToolOutcome.failed))
    driver.ask_tools(("pay", {"text": "b"}))
    assert driver.verdicts()[-1] == ("pay", "started", "all")


def test_once_with_a_key_that_is_not_known() -> None:
    assert refusal(working(), "riddle") == ("once", "its key is not known")


# Confirmation


def test_a_confirmation_names_the_models_own_arguments_and_holds_until_yes() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    assert driver.verdicts() == [("ship", "held", "confirm")]
    assert finish(driver) == "Ship tea to Bonn?"
    assert of(driver, AllowTool) == []
    driver.key("#")
    assert driver.verdicts()[1:] == [("ship", "allowed", "confirm"), ("ship", "started", "all")]
    assert driver.started == [("ship", {"item": "tea", "text": "Bonn"})]


def test_yes_before_the_last_value_was_heard_does_not_confirm() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_until(0, len("Ship tea to Bon"))
    driver.key("#")
    assert driver.state.tools[1].state is ToolState.held
    driver.hear_until(0, len("Ship tea to Bonn"))
    driver.key("#")
    assert driver.started == [("ship", {"item": "tea", "text": "Bonn"})]


def test_what_a_model_takes_for_a_yes_starts_nothing_irreversible() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    finish(driver)
    driver.post(TextReceived("as you like"))
    engine = driver.inspector.requests[driver.state.gen].engine
    assert engine == "main"
    driver.post(IntentProposed(driver.state.gen, "yes"))
    assert driver.state.tools[1].state is ToolState.held
    assert driver.verdicts()[-1] == ("ship", "held", "confirm")


def test_no_refuses_and_it_is_not_asked_for_again_in_this_visit() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    finish(driver)
    driver.key("*")
    assert driver.verdicts()[-1] == ("ship", "refused", "confirm")
    assert texts(driver, "tool")[-1] == "refused: the caller said no"
    assert refusal(driver, "ship", {"text": "Bonn"}) == ("confirm", "the caller said no to it")


def test_what_is_held_does_not_slip_past_once_or_the_budget() -> None:
    driver = working(workshop(tool_calls=1))
    driver.ask_tools(("ship", {"text": "Bonn"}))
    driver.ask_tools(("jot", {"text": "a"}))
    finish(driver)
    driver.key("#")
    assert driver.verdicts()[-1] == ("ship", "withdrawn", "budget")
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    driver.ask_tools(("ship", {"text": "Ulm"}))
    for _ in range(2):
        finish(driver)
        driver.key("#")
    assert ("ship", "withdrawn", "once") in driver.verdicts()
    assert len(driver.started) == 1


# Withdrawal


def test_a_step_change_withdraws_what_has_not_started() -> None:
    driver = working(writes=False)
    driver.ask_tools(("mark", {}))
    propose(driver, day="friday")
    assert driver.verdicts()[-1] == ("mark", "withdrawn", "visit")
    assert of(driver, WithdrawTool) == [WithdrawTool(1)]
    assert driver.post(ToolReady(1)) == []


def test_a_correction_withdraws_what_used_the_old_value() -> None:
    driver = working(writes=False)
    driver.ask_tools(("mark", {}))
    driver.ask_tools(("jot", {"text": "a"}))
    propose(driver, item="coffee")
    assert driver.state.tools[1].state is ToolState.withdrawn
    assert driver.state.tools[2].state is ToolState.allowed
    assert driver.verdicts()[-1] == ("mark", "withdrawn", "rev")


def test_a_hangup_withdraws() -> None:
    driver = working(writes=False)
    driver.ask_tools(("mark", {}))
    driver.post(CallerHungUp("leg"))
    assert driver.verdicts()[-1] == ("mark", "withdrawn", "live")
    assert driver.over() is not None


def test_barge_in_withdraws_an_unstarted_irreversible_tool_and_no_other() -> None:
    for tool, state in (("pay", ToolState.withdrawn), ("jot", ToolState.allowed)):
        driver = working(writes=False)
        driver.post(Sentence(driver.state.gen, 0, "I will do that."))
        driver.ask_tools((tool, {"text": "a"}))
        driver.post(TextReceived("wait"))
        assert of(driver, CutPlayout)
        assert driver.state.tools[1].state is state


def test_what_runs_survives_barge_in() -> None:
    driver = working()
    driver.post(Sentence(driver.state.gen, 0, "I will do that."))
    driver.ask_tools(("pay", {"text": "a"}))
    driver.post(TextReceived("wait"))
    assert driver.state.tools[1].state is ToolState.running


# The second check


def test_nothing_starts_before_its_record_is_durable() -> None:
    driver = working(writes=False)
    driver.ask_tools(("look", {}))
    assert of(driver, StartTool) == []
    assert driver.post(ToolReady(1))[-1] == StartTool(1)


def test_it_starts_once() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    assert driver.post(ToolReady(1)) == []


@pytest.mark.parametrize("n", [0, -1, 2, 99])
def test_ready_for_what_is_not_in_the_ledger(n: int) -> None:
    driver = working(writes=False)
    driver.ask_tools(("look", {}))
    assert driver.post(ToolReady(n)) == []


def leave_live(state: CallState) -> None:
    state.phase = Phase.ending


def leave_visit(state: CallState) -> None:
    state.visit += 1


def change_rev(state: CallState) -> None:
    state.slots["item"].rev += 1


def leave_step(state: CallState) -> None:
    state.step = "out"


def use_budget(state: CallState) -> None:
    for n in (7, 8, 9):
        state.tools[n] = ToolCall(n, "jot", {}, {}, 1, 1, "", ToolState.done)


def take_once(state: CallState) -> None:
    state.tools[7] = ToolCall(7, "pay", {}, {}, 1, 1, "workshop/pay/tea", ToolState.running)


@pytest.mark.parametrize(
    ("tamper", "rule"),
    [
        (leave_live, "live"),
        (leave_visit, "visit"),
        (change_rev, "rev"),
        (leave_step, "step"),
        (use_budget, "budget"),
        (take_once, "once"),
    ],
)
def test_each_fence_of_the_second_check_stands_by_itself(tamper: Callable[[CallState], None], rule: str) -> None:
    """What withdraws earlier is switched off here: the state is changed behind the core's back."""
    flow = with_tool(workshop(tool_calls=3), "pay", arguments=workshop().tools["look"].arguments)
    driver = working(flow, writes=False)
    driver.ask_tools(("pay", {}))
    state = driver.state
    tamper(state)
    call = Call(flow, state)
    gate.ready(call, 1)
    assert state.tools[1].state is ToolState.withdrawn
    assert [(o.decision, o.rule) for o in call.out if isinstance(o, Verdict)] == [("withdrawn", rule)]
    assert not any(isinstance(order, StartTool) for order in call.out)


def test_confirmation_checks_everything_again() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    finish(driver)
    change_rev(driver.state)
    call = Call(driver.flow, driver.state)
    gate.confirmed(call, 1)
    assert driver.state.tools[1].state is ToolState.withdrawn


# What comes back from the write-ahead


@pytest.mark.parametrize(("event", "rule"), [(OnceUsed(1), "once"), (WriteAheadFailed(1), "journal")])
def test_what_could_not_be_written_never_starts(event: OnceUsed | WriteAheadFailed, rule: str) -> None:
    driver = working(writes=False)
    driver.ask_tools(("pay", {"text": "a"}))
    driver.post(event)
    assert driver.verdicts()[-1] == ("pay", "refused", rule)
    assert driver.state.tools[1].state is ToolState.failed
    assert driver.post(ToolReady(1)) == []
    assert driver.post(event) == []


def test_by_rules_a_used_key_is_a_way_on_or_the_end() -> None:
    driver = confirming()
    driver.hear_all()
    driver.writes = False
    driver.key("#")
    driver.post(OnceUsed(3))
    assert driver.state.step == "desk"
    driver = greeted(writes=False)
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#")
    driver.post(WriteAheadFailed(1))
    assert driver.state.step == "desk"


def test_an_engine_without_a_reply_gets_its_refusals_all_the_same() -> None:
    driver = Driver(shop()).start()
    driver.hear_all()
    driver.post(ToolsRequested(driver.state.gen, (ToolRequest("a", "find_customer"), ToolRequest("b", "x" * 200))))
    assert [(v.n, v.rule, len(v.tool)) for v in of(driver, Verdict)] == [(0, "gen", 13), (0, "gen", 64)]


def test_rules_do_not_ask_for_ever_for_what_is_refused() -> None:
    flow = shop()
    driver = choosing(replace(flow, limits=replace(flow.limits, tool_calls=2)))
    driver.hear_all()
    for words in ("tea", "yes", "monday", "yes"):
        driver.say(words)
        driver.hear_all()
    refused = driver.verdicts().count(("order", "refused", "budget"))
    assert 0 < refused <= 2 * MAX_ROUNDS
