"""The fences, each taken away once: the exact source, what stands there instead, and the tests that must notice."""

from msgspec import Struct

CORE, CALL, GATE, SLOTS = "app/core/core.py", "app/core/call.py", "app/core/gate.py", "app/core/slots.py"
REPLIES, STEPS, TURNS, STATE = "app/core/replies.py", "app/core/steps.py", "app/core/turns.py", "app/core/state.py"
LEGS, TRANSFER = "app/core/legs.py", "app/core/transfer.py"
PROMPT, CODEC, SEMANTICS = "app/core/prompt.py", "app/core/codec.py", "flows/semantics.py"

T_FLOOR, T_KEYS, T_SLOTS, T_GATE = "test_floor.py", "test_keys_and_silence.py", "test_slots.py", "test_gate.py"
T_REPLIES, T_TOOLS, T_LEG = "test_replies.py", "test_tools.py", "test_leg.py"
T_LEGS, T_TRANSFER, T_HOLD, T_PLACING = "test_legs.py", "test_transfer.py", "test_hold.py", "test_placing.py"
T_PRIVACY, T_CODEC = "test_privacy.py", "test_codec.py"


class Mutation(Struct, frozen=True):
    name: str
    file: str
    source: str  # stands in the file exactly once
    instead: str
    tests: tuple[str, ...]  # files in tests/core


def _m(name: str, file: str, source: str, instead: str, *tests: str) -> Mutation:
    return Mutation(name, file, source, instead, tests)


MUTATIONS = (
    # Legs
    _m(
        "the other side is heard before it was told who calls",
        LEGS,
        "state.transfer.stage is TransferStage.joined",
        "True",
        T_TRANSFER,
    ),
    _m(
        "the agent talks to a joined caller",
        CORE,
        "if transfer.is_silent(call) or state.held:",
        "if state.held:",
        T_TRANSFER,
    ),
    _m(
        "a held caller is listened to",
        CORE,
        "hears = state.attached and not state.held",
        "hears = state.attached",
        T_HOLD,
    ),
    _m("a greeting is a turn", CORE, " and not greeting", "", T_PLACING),
    # The door
    _m("time falls", CORE, "now_ms = max(self.state.now_ms, now_ms)\n        self._fire", "self._fire", T_KEYS),
    _m(
        "facts count after the end",
        CORE,
        "if self.state.phase is Phase.ended:\n            self",
        "if False:\n            self",
        T_LEG,
    ),
    _m(
        "an engine's words count whatever their gen",
        CORE,
        "not reply.producing or not event.gen == reply.gen == call.state.gen:",
        "False:",
        T_SLOTS,
    ),
    _m("a lost leg is listened to", CORE, "hears = state.attached and not state.held", "hears = not state.held", T_LEG),
    _m(
        "an echo of an outcome fills slots",
        CORE,
        "if gate.ended(call, event):",
        "if gate.ended(call, event) or n in call.state.tools:",
        T_TOOLS,
    ),
    _m("the agent speaks into the caller's words", CORE, " and not turns.is_busy(call)", "", T_REPLIES),
    _m(
        "the agent speaks to a lost leg",
        CORE,
        "state.due is not None and state.attached and",
        "state.due is not None and",
        T_LEG,
    ),
    _m(
        "no limit of the call's duration",
        CORE,
        'call.arm("duration", call.flow.limits.duration_s * 1000)',
        "pass",
        T_KEYS,
    ),
    _m(
        "the end does not wait for running tools",
        CORE,
        "state.due is None and not running:",
        "state.due is None:",
        T_TOOLS,
    ),
    _m(
        "the key that completes a sensitive value is not sealed",
        CORE,
        "(before or call.collects_sensitive())",
        "call.collects_sensitive()",
        T_PRIVACY,
    ),
    _m(
        "a sensitive proposal is not sealed",
        CORE,
        "isinstance(event, SlotsProposed | CallPlaced) and any(",
        "False and any(",
        T_PRIVACY,
    ),
    _m("a sensitive result is not sealed", CORE, "return tool is None or tool.sensitive", "return False", T_PRIVACY),
    # What the parts share
    _m("a fence that counts nothing", CALL, "self.state.gen += 1\n", "pass\n", T_REPLIES),
    _m("a reply is started that was replaced in the same tick", CALL, "if begun:", "if False:", T_FLOOR),
    _m("a filler eats the follow-up", CALL, "self.state.due.acts = True", "pass", T_REPLIES),
    # The gate
    _m(
        "gate: live",
        GATE,
        'Phase.live:\n        return Refusal("live", "the call is ending")\n    reply',
        "Phase.new:\n        return None\n    reply",
        T_GATE,
    ),
    _m("gate: gen", GATE, "not reply.producing or not gen == reply.gen == call.state.gen:", "False:", T_GATE),
    _m("gate: step", SEMANTICS, "if name not in step.tools:", "if False:", T_GATE),
    _m(
        "gate: requires",
        SEMANTICS,
        "if (missing := _unmet(step, names)) is not None:\n        return Refusal",
        "if (missing := _unmet(step, names)) and False:\n        return Refusal",
        T_GATE,
    ),
    _m(
        "gate: arguments",
        SEMANTICS,
        "if (wrong := _wrong_arguments(tool, view, own)) is not None:",
        "if (wrong := _wrong_arguments(tool, view, own)) and False:",
        T_GATE,
    ),
    _m(
        "gate: arguments of the model's own",
        SEMANTICS,
        "if any(name not in names for name in own):",
        "if False:",
        T_GATE,
    ),
    _m(
        "gate: arguments that are not confirmed",
        SEMANTICS,
        "if not view.is_confirmed(argument.slot):",
        "if False:",
        T_GATE,
    ),
    _m("gate: guard", SEMANTICS, "if not expr.holds(tool.when, names):", "if False:", T_GATE),
    _m(
        "gate: level",
        SEMANTICS,
        "if tool.level != ANONYMOUS and tool.level not in _levels(flow, names):",
        "if False:",
        T_GATE,
    ),
    _m("gate: budget", GATE, ">= call.flow.limits.tool_calls:", "> 10_000:", T_GATE),
    _m("gate: the ledger's length", GATE, "if n > MAX_REQUESTS:", "if False:", T_GATE),
    _m("gate: duplicate", GATE, "if entry.state in UNSETTLED:", "if False:", T_GATE),
    _m("gate: once", GATE, "if once and any(", "if False and any(", T_GATE),
    _m(
        "gate: once, while it is under way",
        GATE,
        "SPENT = (ToolState.allowed, ToolState.running, ",
        "SPENT = (",
        T_GATE,
    ),
    _m("gate: one act", GATE, "if refusal is None and acting and", "if refusal is None and False and", T_GATE),
    _m("gate: confirmation", GATE, "if tool.confirm:", "if False:", T_GATE),
    _m(
        "gate: a no is forgotten",
        GATE,
        "if entry.state is ToolState.declined and entry.visit == call.state.visit:",
        "if False:",
        T_GATE,
    ),
    _m(
        "second check: live",
        GATE,
        'Phase.live:\n        return Refusal("live", "the call is ending")\n    if entry',
        "Phase.new:\n        return None\n    if entry",
        T_GATE,
    ),
    _m("second check: visit", GATE, "if entry.visit != call.state.visit:", "if False:", T_GATE),
    _m(
        "second check: rev",
        GATE,
        'if not revs_hold(call.state, entry):\n        return Refusal("rev"',
        'if False:\n        return Refusal("rev"',
        T_GATE,
    ),
    _m("second check: the flow's admission", GATE, "return refusal or _limits(", "return _limits(", T_GATE),
    _m(
        "second check: budget and once",
        GATE,
        "return refusal or _limits(call, tool, entry.arguments, entry.n)",
        "return refusal",
        T_GATE,
    ),
    _m(
        "confirmation checks nothing again",
        GATE,
        "_withdraw(call, entry, refusal)\n        return\n    _allow",
        "pass\n    _allow",
        T_GATE,
    ),
    _m(
        "a tool starts before its record is durable",
        GATE,
        "entry.once or key, entry.once))",
        "entry.once or key, entry.once))\n    ready(call, entry.n)",
        T_GATE,
    ),
    _m(
        "a tool starts twice",
        GATE,
        "ToolState.allowed:\n        return\n    refusal",
        "ToolState.allowed and False:\n        return\n    refusal",
        T_GATE,
    ),
    _m(
        "a result steers in any visit",
        GATE,
        "Phase.live and entry.visit in _visits(call) and revs",
        "Phase.live and revs",
        T_TOOLS,
    ),
    _m(
        "a result steers on old values",
        GATE,
        "Phase.live and entry.visit in _visits(call) and revs_hold(call.state, entry)",
        "Phase.live and entry.visit in _visits(call)",
        T_TOOLS,
    ),
    _m(
        "a result counts on after its values changed",
        STATE,
        "if not revs_hold(self._state, call):",
        "if False:",
        T_TOOLS,
    ),
    _m(
        "a failure counts in another visit",
        STATE,
        "if call.state in PASSING and call.visit != self._state.visit:",
        "if False:",
        T_TOOLS,
    ),
    _m(
        "an outcome is taken twice", GATE, "if entry.state is not ToolState.running and not late:", "if False:", T_TOOLS
    ),
    _m(
        "an outcome after unknown is forgotten",
        GATE,
        "late = entry.state is ToolState.unknown and",
        "late = False and",
        T_TOOLS,
    ),
    _m("no withdrawal: a step change", STEPS, 'gate.withdraw_all(call, "visit", "the step was left")', "pass", T_GATE),
    _m("no withdrawal: a correction", SLOTS, "gate.withdraw_outdated(call)", "pass", T_GATE),
    _m("no withdrawal: the end", STEPS, 'gate.withdraw_all(call, "live", "the call is ending")', "pass", T_GATE),
    _m("no withdrawal: barge-in", TURNS, "gate.withdraw_irreversible(call)", "pass", T_GATE),
    # Questions and values
    _m("a yes counts unheard", SLOTS, "not question.heard or question.kind", "question.kind", T_SLOTS, T_GATE),
    _m(
        "saying it again counts unheard",
        SLOTS,
        "question.slot == slot.name and question.heard and",
        "question.slot == slot.name and",
        T_SLOTS,
    ),
    _m("a value counts without its read-back", SLOTS, "confirmed=not slot.confirm)", "confirmed=True)", T_SLOTS),
    _m("a derived value is proposed", SLOTS, "if slot is None or slot.source:", "if slot is None:", T_SLOTS),
    _m("a derived value outlives its source", SLOTS, "put(call, slot.name, None, confirmed=False)", "pass", T_SLOTS),
    _m("a stale result fills slots", SLOTS, "if not entry.steers or", "if", T_TOOLS),
    _m(
        "a yes key does not wait for the playout",
        SLOTS,
        "if floor.answer and call.state.reply is None:",
        "if floor.answer:",
        T_KEYS,
    ),
    _m("words that held a sensitive value stay", SLOTS, "        _withhold_words(call)\n", "        pass\n", T_PRIVACY),
    _m(
        "a model's yes starts what is irreversible",
        CORE,
        'case "yes" if not by_rules and gate.awaits_own_yes(call):',
        'case "yes" if False:',
        T_GATE,
    ),
    # Replies
    _m(
        "the next reply does not wait for PlayoutStopped",
        REPLIES,
        "ended = True\n    if reply.spoken:",
        "ended = True\n    if False:",
        T_REPLIES,
    ),
    _m(
        "another reply's playout ends this one",
        REPLIES,
        "reply.gen != event.gen or not reply.spoken:",
        "not reply.spoken:",
        T_FLOOR,
    ),
    _m(
        "a playout ends before its speech",
        REPLIES,
        'if event.cause != "lost" and not reply.ended:',
        "if False:",
        T_REPLIES,
    ),
    _m("what was not heard is in the history", REPLIES, "line.text[:chars])", "line.text)", T_REPLIES),
    _m(
        "a sensitive sentence is shown where it was cut",
        REPLIES,
        "WITHHELD if line.private else line",
        "line",
        T_PRIVACY,
    ),
    _m(
        "a model speaks without end",
        REPLIES,
        "if reply.chars + len(text) > call.flow.limits.reply_chars:",
        "if False:",
        T_REPLIES,
    ),
    _m("new words break a hold", REPLIES, 'if "hold" in call.state.timers:', "if False:", T_FLOOR),
    _m(
        "a hold without a deadline",
        TURNS,
        '    call.arm("hold", max(0, min(decide_in_ms, left_ms)))',
        "    pass",
        T_FLOOR,
    ),
    # Steps and turns
    _m(
        "a digression returns to another visit",
        STEPS,
        "state.step, state.visit, state.attempts = frame.step, frame.visit, frame.attempts",
        "state.step, state.attempts = frame.step, frame.attempts",
        T_SLOTS,
    ),
    _m("the floor outlives the call", STEPS, "state.floor = Floor()", "pass", T_FLOOR),
    _m(
        "words of another utterance count",
        TURNS,
        "if event.utterance not in floor.awaited:\n        return\n    floor.awaited.remove(event.utterance)",
        "floor.awaited = [u for u in floor.awaited if u != event.utterance]",
        T_FLOOR,
    ),
    # Legs
    _m("a leg joins a call that ends", LEGS, "if state.phase is not Phase.live:", "if False:", T_LEGS),
    _m("any number of legs join", LEGS, "elif len(state.guests) >= MAX_GUESTS:", "elif False:", T_LEGS),
    _m("a lost caller's leg is heard on", LEGS, "(state.leg,) if state.attached else ()", "(state.leg,)", T_LEGS),
    # What is told
    _m(
        "a model sees the tools of all steps",
        PROMPT,
        "(call.flow.tools[name] for name in step.tools)",
        "call.flow.tools.values()",
        T_PRIVACY,
    ),
    _m(
        "a model sees sensitive values",
        PROMPT,
        "return WITHHELD if value is not None and call.flow.slots[name].sensitive else value",
        "return value",
        T_PRIVACY,
    ),
    _m("a broken chain is read", CODEC, "if chain != record.chain:", "if False:", T_CODEC),
)
