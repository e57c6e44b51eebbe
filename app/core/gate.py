"""The gate: a tool call passes every check, in order, or is refused with the rule and the reason.

What passes is written ahead, and checked again, all but `gen`, at the moment of execution. Outcomes are facts: they
are never fenced, but they steer the flow only where their visit and revs are current.
"""

from app.core.call import Call
from app.core.effects import AllowTool, CancelTool, Decision, StartTool, Verdict, WithdrawTool
from app.core.events import ToolEnded, ToolOutcome, ToolRequest, ToolsRequested
from app.core.request import Message
from app.core.state import UNSETTLED, Phase, ToolCall, ToolState, revs_hold
from flows import semantics, template
from flows.model import Tool, ToolEffect, Value
from flows.semantics import Refusal

MAX_REQUESTS = 300
"""Tool requests that one call keeps in its ledger; more are refused without an entry."""

TOOL_GRACE_MS = 2000
"""How much longer than its own timeouts a tool job may take before its outcome is called unknown."""

RETRY_PAUSE_MS = 2000
"""The longest pause that the tool job makes between two tries."""

FILLER_MS = 1200
"""A tool that takes longer than this is bridged with a few words."""

SPENT = (ToolState.allowed, ToolState.running, ToolState.done, ToolState.unknown)
"""A `once` key stays taken while one of these stands."""

STATUS = {
    ToolOutcome.done: ToolState.done,
    ToolOutcome.failed: ToolState.failed,
    ToolOutcome.unknown: ToolState.unknown,
}


def requested(call: Call, event: ToolsRequested) -> None:
    """Gate the tool calls of one message in order, each against the state that the one before left."""
    reply = call.state.reply
    late = _late(call, event.gen)
    acting = False
    for request in event.calls:
        if late is not None:
            _refuse(call, 0, request, late)
            continue
        assert reply is not None
        reply.understood = True
        n = len(call.state.tools) + 1
        if n > MAX_REQUESTS:
            _refuse(call, 0, request, Refusal("budget", "too many tool requests in this call"))
            continue
        tool = call.flow.tools.get(request.tool)
        reply.requests.append(n)
        refusal = _check(call, tool, request)
        if refusal is None and acting and tool is not None and tool.effect is not ToolEffect.read:
            refusal = Refusal("one-act", "another tool of the same message acts already")
        if refusal is not None or tool is None:
            _refuse(call, n, request, refusal or Refusal("step", "there is no such tool"))
            call.want()
            continue
        acting = acting or tool.effect is not ToolEffect.read
        _admit(call, n, tool, request, event.gen)


def ready(call: Call, n: int) -> None:
    """The second check, with everything as it is now; then the effect."""
    entry = call.state.tools.get(n)
    if entry is None or entry.state is not ToolState.allowed:
        return
    refusal = _recheck(call, entry)
    if refusal is not None:
        _withdraw(call, entry, refusal)
        return
    entry.state = ToolState.running
    tool = call.flow.tools[entry.tool]
    call.emit(Verdict(n, entry.tool, Decision.started, "all", "every check holds"))
    call.emit(StartTool(n))
    call.arm(f"tool {n}", (tool.timeout_ms + RETRY_PAUSE_MS) * (tool.retries + 1) + TOOL_GRACE_MS)
    call.arm(f"filler {n}", FILLER_MS)


def not_written(call: Call, n: int, rule: str, reason: str) -> None:
    """The `once` key is taken, or the record could not be made durable: it never starts."""
    entry = call.state.tools.get(n)
    if entry is None or entry.state is not ToolState.allowed:
        return
    entry.state = ToolState.failed
    entry.reason = rule
    entry.steers = entry.visit in _visits(call) and revs_hold(call.state, entry)
    call.state.counts.refused += 1
    call.emit(Verdict(n, entry.tool, Decision.refused, rule, reason))
    _tell(call, entry, f"refused: {reason}")


def ended(call: Call, event: ToolEnded) -> bool:
    """Take in an outcome, also one that comes after it was called unknown. Returns whether it was news."""
    entry = call.state.tools.get(event.n)
    if entry is None:
        return False
    late = entry.state is ToolState.unknown and event.outcome is not ToolOutcome.unknown
    if entry.state is not ToolState.running and not late:
        return False
    entry.state = STATUS[event.outcome]
    entry.fields = event.result
    entry.reason = event.reason
    call.disarm(f"tool {event.n}")
    call.disarm(f"filler {event.n}")
    entry.steers = call.state.phase is Phase.live and entry.visit in _visits(call) and revs_hold(call.state, entry)
    tool = call.flow.tools[entry.tool]
    told = "done" if entry.state is ToolState.done else f"{entry.state.value}: {event.reason}"
    if entry.state is ToolState.done and event.result and not tool.sensitive:
        told += "; " + ", ".join(f"{name}={value}" for name, value in event.result.items())
    _tell(call, entry, told if entry.steers else f"{told}; the conversation has moved on since")
    return True


def confirmed(call: Call, n: int) -> None:
    """The caller said yes to a held tool: every check again, then as any other."""
    entry = call.state.tools[n]
    if entry.state is not ToolState.held:
        return
    refusal = _recheck(call, entry)
    if refusal is not None:
        _withdraw(call, entry, refusal)
        return
    _allow(call, entry, "confirm", "the caller confirmed it")


def awaits_own_yes(call: Call) -> bool:
    """Whether the pending question is about something irreversible: a model's reading is not enough there."""
    question = call.state.question
    entry = call.state.tools.get(question.n) if question is not None else None
    if entry is None or call.flow.tools[entry.tool].effect is not ToolEffect.irreversible:
        return False
    call.emit(Verdict(entry.n, entry.tool, Decision.held, "confirm", "only the caller's own words or key say yes"))
    return True


def declined(call: Call, n: int) -> None:
    entry = call.state.tools[n]
    if entry.state is not ToolState.held:
        return
    entry.state = ToolState.declined
    entry.steers = entry.visit == call.state.visit
    call.emit(Verdict(n, entry.tool, Decision.refused, "confirm", "the caller said no"))
    _tell(call, entry, "refused: the caller said no")


def withdraw_outdated(call: Call) -> None:
    """A slot changed: what would have used its old value does not start."""
    for entry in _unstarted(call):
        if not revs_hold(call.state, entry):
            _withdraw(call, entry, Refusal("rev", "a value that it uses was changed"))


def withdraw_all(call: Call, rule: str, reason: str, *, visit: int | None = None) -> None:
    """A visit or the call is over: what has not started does not start any more, and no read is waited for."""
    for entry in list(call.state.tools.values()):
        if visit is not None and entry.visit != visit:
            continue
        if entry.state in (ToolState.held, ToolState.allowed):
            _withdraw(call, entry, Refusal(rule, reason))
        elif entry.state is ToolState.running and call.flow.tools[entry.tool].effect is ToolEffect.read:
            call.emit(CancelTool(entry.n))


def withdraw_irreversible(call: Call) -> None:
    """Barge-in: who interrupts may be about to change their mind."""
    for entry in _unstarted(call):
        if entry.state is ToolState.allowed and call.flow.tools[entry.tool].effect is ToolEffect.irreversible:
            _withdraw(call, entry, Refusal("barge-in", "the caller interrupted"))


def in_flight(call: Call, *, visit: int | None = None) -> bool:
    flying = (e for e in call.state.tools.values() if e.state in (ToolState.allowed, ToolState.running))
    return any(visit is None or entry.visit == visit for entry in flying)


def as_requested(call: Call, entry: ToolCall) -> ToolRequest:
    """The request as the model made it, for the history: without what came from slots."""
    tool = call.flow.tools.get(entry.tool)
    given = {a.name for a in tool.arguments if not a.slot} if tool is not None else set()
    own = {name: value for name, value in entry.arguments.items() if name in given}
    return ToolRequest(_call_id(entry), entry.tool, own)


# The checks


def _late(call: Call, gen: int) -> Refusal | None:
    """The two checks that hold for all calls of a message."""
    if call.state.phase is not Phase.live:
        return Refusal("live", "the call is ending")
    reply = call.state.reply
    if reply is None or not reply.producing or not gen == reply.gen == call.state.gen:
        return Refusal("gen", "the reply that asked for it was replaced")
    return None


def _check(call: Call, tool: Tool | None, request: ToolRequest) -> Refusal | None:
    """Everything before confirmation, in the order of the rules; liveness and `gen` have been checked."""
    refusal = semantics.admit(call.flow, call.view, request.tool, request.arguments)
    if refusal is not None:
        return refusal
    assert tool is not None
    return _limits(call, tool, _arguments(call, tool, request), 0)


def _limits(call: Call, tool: Tool, arguments: dict[str, Value], n: int) -> Refusal | None:
    """What the rest of the ledger says about the entry `n`, 0 for one that is not in it yet."""
    others = [entry for entry in call.state.tools.values() if entry.n != n]
    if sum(entry.state not in (ToolState.refused, ToolState.held) for entry in others) >= call.flow.limits.tool_calls:
        return Refusal("budget", "the call's number of tool calls is used up")
    for entry in others:
        if entry.tool == tool.name and entry.arguments == arguments and revs_hold(call.state, entry):
            if entry.state in UNSETTLED:
                return Refusal("duplicate", f"the same call is {entry.state.value}")
            if entry.state is ToolState.declined and entry.visit == call.state.visit:
                return Refusal("confirm", "the caller said no to it")
    try:
        once = _once(call, tool)
    except template.TemplateError:
        return Refusal("once", "its key is not known")
    if once and any(entry.once == once and entry.state in SPENT for entry in others):
        return Refusal("once", "it was done before, or is under way")
    return None


def _recheck(call: Call, entry: ToolCall) -> Refusal | None:
    """At the moment of execution: liveness, the visit, the revs, and the flow's own admission."""
    if call.state.phase is not Phase.live:
        return Refusal("live", "the call is ending")
    if entry.visit != call.state.visit:
        return Refusal("visit", "the step was left")
    if not revs_hold(call.state, entry):
        return Refusal("rev", "a value that it uses was changed")
    tool = call.flow.tools[entry.tool]
    own = {a.name: entry.arguments[a.name] for a in tool.arguments if not a.slot}
    refusal = semantics.admit(call.flow, call.view, entry.tool, own)
    return refusal or _limits(call, tool, entry.arguments, entry.n)


# Moving an entry of the ledger


def _admit(call: Call, n: int, tool: Tool, request: ToolRequest, gen: int) -> None:
    entry = ToolCall(
        n=n,
        tool=tool.name,
        arguments=_arguments(call, tool, request),
        revs={argument.slot: call.state.slots[argument.slot].rev for argument in tool.arguments if argument.slot},
        visit=call.state.visit,
        gen=gen,
        once=_once(call, tool),
        state=ToolState.held,
    )
    call.state.tools[n] = entry
    if tool.confirm:
        call.emit(Verdict(n, tool.name, Decision.held, "confirm", "the caller is asked first"))
        call.want()
    else:
        _allow(call, entry, "all", "every check holds")


def _allow(call: Call, entry: ToolCall, rule: str, reason: str) -> None:
    entry.state = ToolState.allowed
    key = f"{call.state.call}:{entry.n}"
    call.emit(Verdict(entry.n, entry.tool, Decision.allowed, rule, reason))
    call.emit(AllowTool(entry.n, entry.tool, entry.arguments, entry.once or key, entry.once))


def _refuse(call: Call, n: int, request: ToolRequest, refusal: Refusal) -> None:
    call.state.counts.refused += 1
    name = request.tool[:64]
    if n:
        entry = ToolCall(n, name, {}, {}, call.state.visit, call.state.gen, "", ToolState.refused)
        entry.reason = refusal.rule
        call.state.tools[n] = entry
        _tell(call, entry, f"refused: {refusal.reason}")
    call.emit(Verdict(n, name, Decision.refused, refusal.rule, refusal.reason))


def _withdraw(call: Call, entry: ToolCall, refusal: Refusal) -> None:
    if entry.state is ToolState.allowed:
        call.emit(WithdrawTool(entry.n))
    entry.state = ToolState.withdrawn
    entry.reason = refusal.rule
    question = call.state.question
    if question is not None and question.n == entry.n:
        call.state.question = None
    call.emit(Verdict(entry.n, entry.tool, Decision.withdrawn, refusal.rule, refusal.reason))
    _tell(call, entry, f"withdrawn: {refusal.reason}")


def _tell(call: Call, entry: ToolCall, text: str) -> None:
    call.state.history.append(Message("tool", text, call_id=_call_id(entry)))
    if call.state.phase is Phase.live:
        call.want()


def _arguments(call: Call, tool: Tool, request: ToolRequest) -> dict[str, Value]:
    known = {name: held.value for name, held in call.state.slots.items() if held.value is not None}
    return {a.name: known[a.slot] if a.slot else request.arguments[a.name] for a in tool.arguments}


def _once(call: Call, tool: Tool) -> str:
    """The key under which it may succeed once, over all calls of this flow."""
    if not tool.once:
        return ""
    filled = template.render(tool.once, lambda name: None if (v := call.view.value(name)) is None else str(v))
    return f"{call.flow.name}/{tool.name}/{filled}"


def _call_id(entry: ToolCall) -> str:
    return f"call_{entry.n}"


def _unstarted(call: Call) -> list[ToolCall]:
    return [e for e in call.state.tools.values() if e.state in (ToolState.held, ToolState.allowed)]


def _visits(call: Call) -> tuple[int, ...]:
    return (call.state.visit, *(frame.visit for frame in call.state.suspended))
