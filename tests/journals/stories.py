"""The calls whose journals are kept, told with `Driver`, so that they can be told again."""

from collections.abc import Callable

from msgspec.structs import replace

from app.core.events import (
    Answerer,
    AnswererHeard,
    CallerHungUp,
    CallerReferred,
    CallPlaced,
    CallRang,
    CallStarted,
    HangupOrdered,
    IntentProposed,
    LegAttached,
    LegJoined,
    LegLeft,
    LegLost,
    LegRole,
    ListenFailed,
    PlayoutStopped,
    ReferralFailed,
    ReplyEnded,
    ReplyFailed,
    Sentence,
    SlotsProposed,
    SpeechEnded,
    SpeechFailed,
    TextReceived,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    TransferFailed,
    Usage,
)
from flows.model import Step, TransferBy, TransferTo
from tests.core.stories import greeted
from tests.support.driver import Driver
from tests.support.shop import shop

Story = Callable[[], Driver]


def ordered() -> Driver:
    """By rules and keys: a read-back denied, a barge-in, noise, a correction, a digression, and an order, once."""
    driver = greeted()
    driver.key("12")
    driver.wait(5000)
    driver.hear_all()
    driver.key("1234")
    driver.hear_all()
    driver.key("#")
    driver.hear_until(0, len("What would"))
    driver.say("coffee")
    driver.hear_all()
    driver.say("no")
    driver.hear_all()
    driver.say("tea")
    noise = driver.onset()
    driver.post(SpeechEnded(noise, 200, False), 200)
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("monday")
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("no make it friday")
    driver.hear_all()
    driver.say("what are your opening hours")
    driver.hear_all()
    driver.say("yes")
    driver.hear_until(0, len("Shall I order tea for Friday"))
    driver.key("#")
    driver.hear_all()
    return driver


def modelled() -> Driver:
    """With a model: tools of other steps, late words, a failure, the rules instead, a hangup while a tool writes."""
    driver = greeted(shop(use="scripted"))
    driver.post(Sentence(driver.state.gen, 0, "What is your code?"), 300)
    driver.ask_tools(("order", {}), ("find_customer", {}))
    driver.post(ReplyEnded(driver.state.gen))
    driver.post(Usage(driver.state.gen, "some-model", 400, 12), 5)
    driver.hear_all()
    driver.post(ReplyEnded(driver.state.gen), 900)
    driver.hear_all()
    driver.key("1234")
    driver.hear_all()
    driver.key("#")
    driver.ask_tools(("find_customer", {}))
    driver.post(Sentence(driver.state.gen, 0, "Tea or coffee?"), 700)
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_until(0, len("What would you like?"))
    driver.say("tea please")
    late = driver.state.gen
    driver.post(ReplyFailed(late, "timeout"), 4000)
    driver.post(Sentence(late, 0, "Too late."), 10)
    driver.hear_all()
    driver.say("yes")
    driver.writes = False
    del driver.results["note"]
    driver.ask_tools(("note", {"text": "likes tea"}), ("note", {"text": "twice"}))
    driver.post(ReplyEnded(driver.state.gen))
    driver.post(ToolReady(4), 8)
    driver.wait(1500)
    driver.post(TextReceived("and sugar"), 400)
    driver.ask_tools(("note", {"text": "likes sugar"}))
    driver.post(CallerHungUp("leg"))
    driver.post(ToolEnded(4, ToolOutcome.done, {}), 600)
    driver.post(TextReceived("hello?"), 10)
    return driver


def troubled() -> Driver:
    """What goes wrong: the leg, the recogniser, the voice, a tool that never ends, its late result, and silence."""
    driver = greeted()
    driver.post(LegLost("leg"), 200)
    driver.post(LegAttached("leg-2"), 4000)
    driver.hear_all()
    driver.post(SpeechFailed(driver.state.gen, 0, "down"), 100)
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 700, True), 700)
    driver.post(ListenFailed(utterance, "down"), 50)
    driver.wait(1500)
    driver.post(SpeechFailed(driver.state.gen, 0, "down"), 100)
    driver.hear_all()
    driver.key("1234")
    driver.hear_all()
    driver.key("#")
    driver.hear_all()
    driver.say("tea on monday")
    for _ in range(2):
        driver.hear_all()
        driver.say("yes")
    driver.hear_all()
    del driver.results["order"]
    driver.key("#")
    driver.wait(1300)
    driver.hear_all()
    driver.post(PlayoutStopped(1, 9, 9, "done"), 10)
    driver.post(SlotsProposed(1, {"item": "coffee"}, ""), 10)
    driver.post(IntentProposed(1, "no"), 10)
    driver.wait(9000)
    driver.post(ToolEnded(3, ToolOutcome.done, {"reference": "r1"}), 500)
    driver.wait(60_000)
    return driver


def observed() -> Driver:
    """Two operators listen, more than may; the caller's leg changes meanwhile; one goes, one stays to the end."""
    driver = greeted()
    driver.post(LegJoined("op-1", LegRole.operator, "desk"), 300)
    driver.hear_all()
    driver.post(LegLost("leg"), 100)
    driver.post(LegAttached("leg-2"), 2000)
    for number in range(2, 10):
        driver.post(LegJoined(f"op-{number}", LegRole.operator, "boss"), 10)
    driver.hear_all()
    driver.key("1234")
    driver.post(LegLeft("op-1"), 200)
    driver.hear_all()
    driver.post(HangupOrdered("boss"), 1000)
    driver.hear_all()
    driver.post(LegLeft("op-2"), 10)
    return driver


def handed_over() -> Driver:
    """A call of ours, to somebody whose telephone takes no REFER; the desk is dialled, announced to, and leaves."""
    flow = shop()
    steps = {
        "move": Step("move", transfer=TransferTo("{env.DESK}", TransferBy.refer, failed="hand")),
        "hand": Step("hand", say="One moment.", transfer=TransferTo("{env.DESK}", announce="A caller.", after="bye")),
        **flow.steps,
    }
    driver = Driver(replace(flow, steps=steps, start="move"))
    driver.post(CallPlaced("leg", "sip", "us", "them", by="desk", detect=True))
    driver.post(CallRang("leg"), 900)
    driver.post(CallStarted("leg", "sip"), 2000)
    driver.post(AnswererHeard(Answerer.human), 1200)
    driver.post(TransferFailed(1, "unsupported"), 50)
    driver.hear_all()
    driver.post(LegJoined("leg-t2", LegRole.target, "the other side"), 3000)
    driver.hear_all()
    driver.post(LegLeft("leg-t2"), 30_000)
    driver.hear_all()
    return driver


def replaced() -> Driver:
    """The caller's telephone names others to talk instead: one is busy, one answers after it has left."""
    driver = greeted()
    driver.post(CallerReferred("leg", "sip:desk@example.com"), 500)
    driver.post(CallerReferred("leg", "sip:boss@example.com"), 100)
    driver.post(ReferralFailed(1, "busy", 486), 2000)
    driver.hear_all()
    driver.key("1234")
    driver.post(CallerReferred("leg", "sip:boss@example.com"), 500)
    driver.post(CallerHungUp("leg"), 300)
    driver.post(LegAttached("leg-r2"), 4000)
    driver.hear_all()
    driver.key("#")
    driver.post(CallerHungUp("leg-r2"), 1000)
    driver.hear_all()
    return driver


STORIES: dict[str, Story] = {
    story.__name__: story for story in (ordered, modelled, troubled, observed, handed_over, replaced)
}
