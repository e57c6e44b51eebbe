"""What a flow promises and cannot keep: references, guards, templates, ways through, and tools that could do harm.

Errors keep a flow from running; warnings say what will disappoint somebody.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from flows import expr, lexicon, patterns, schema, template, values
from flows.expr import ExprError
from flows.model import Flow, Slot, SlotType, Step, Tool, ToolEffect, TransferBy
from flows.patterns import PatternError
from flows.problems import ERROR, WARNING, Path, Problem, Source, did_you_mean
from flows.semantics import ANONYMOUS, Status
from flows.template import TemplateError

PROVIDERS = ("rules", "openai", "scripted")
STAY = "stay"

CALL_NAMES = ("attempts", "visits")
"""What a guard may ask of the call itself: failed tries at the present question, entries of the present step."""

SLOT_FIELDS = ("filled", "confirmed")
TOOL_FIELDS = tuple(Status.__members__)

_RESERVED = frozenset((*CALL_NAMES, "steps", "env", "value", "level", "and", "or", "not", "in", "true", "false"))
MODEL_FUNCTIONS = frozenset(("set_slots", "digress", "answer"))
"""What models are offered beside a step's tools."""

_INTENTS = frozenset(("yes", "no", "repeat"))
_HEARD = re.compile(r"[a-z' ]+")
_ENV = re.compile(r"env\.[A-Z][A-Z0-9_]*")

Found = Iterator[Problem]


def guard_names(flow: Flow) -> frozenset[str]:
    """Everything that a guard may ask for. `semantics` looks up the same names."""
    slots = (name for slot in flow.slots for name in (slot, *(f"{slot}.{field}" for field in SLOT_FIELDS)))
    steps = (f"steps.{step}.done" for step in flow.steps)
    return frozenset((*CALL_NAMES, *slots, *steps, *_tool_names(flow, TOOL_FIELDS)))


def text_names(flow: Flow) -> frozenset[str]:
    """Everything that a spoken text or a prompt may name."""
    return frozenset((*flow.slots, *_tool_names(flow, ())))


def check(flow: Flow, source: Source | None = None) -> list[Problem]:
    """Every problem, in the order of the file; `source` knows the places. Raises nothing."""
    checker = _Checker(flow, source or Source(flow.name))
    parts: tuple[Callable[[], Found], ...] = (
        checker.flow, checker.slots, checker.tools, checker.steps, checker.ways, checker.speech,
    )  # fmt: skip
    found = dict.fromkeys(problem for part in parts for problem in part())
    return sorted(found, key=lambda problem: (problem.line, problem.column))


def _tool_names(flow: Flow, also: tuple[str, ...]) -> Iterator[str]:
    return (f"{t.name}.{field}" for t in flow.tools.values() for field in (*(name for name, _ in t.result), *also))


class _Checker:
    def __init__(self, flow: Flow, source: Source) -> None:
        self._flow = flow
        self._source = source
        self._guard_names = guard_names(flow)
        self._text_names = text_names(flow)
        self._collected = {slot for step in flow.steps.values() for slot in step.collect}

    # What is written about the flow as a whole

    def flow(self) -> Found:
        flow = self._flow
        yield from self._known(("start",), flow.start, flow.steps, "step")
        if flow.give_up:
            yield from self._known(("give_up",), flow.give_up, flow.steps, "step")
        for name, model in flow.models.items():
            yield from self._known(("models", name, "use"), model.use, PROVIDERS, "provider")
            if name == "rules" and model.use != "rules":
                yield self._error(("models", name), "the name rules belongs to the rules engine")
        for name in flow.texts.__struct_fields__:
            text = getattr(flow.texts, name)
            fields = {"value"} if name == "readback" else self._text_names
            yield from self._template(("texts", name), text, fields)
        yield from self._readback(("texts", "readback"), flow.texts.readback)
        for at, host in enumerate(flow.allow_hosts):
            yield from self._template(("allow_hosts", at), host, ())
        for name in flow.slots.keys() & flow.tools.keys():
            yield self._error(("tools", name), "a slot has the same name")
        for kind, names in (("slots", flow.slots), ("tools", flow.tools)):
            for name in names:
                if name in _RESERVED:
                    yield self._error((kind, name), "this name has a meaning of its own in guards")
        for name in MODEL_FUNCTIONS & flow.tools.keys():
            yield self._error(("tools", name), "models know a function of the software's own by this name")
        if STAY in flow.steps:
            yield self._error(("steps", STAY), "stay means not to move")

    # Slots

    def slots(self) -> Found:
        for slot in self._flow.slots.values():
            at: Path = ("slots", slot.name)
            yield from self._slot_limits(slot, at)
            yield from self._template((*at, "ask"), slot.ask, self._text_names)
            if slot.readback:
                yield from self._template((*at, "readback"), slot.readback, {"value"})
                yield from self._readback((*at, "readback"), slot.readback)
            if slot.source:
                yield from self._slot_source(slot, at)
            elif slot.name in self._collected and not slot.ask:
                yield self._error(at, "it is collected but has no question", "give it ask:")
            elif slot.name not in self._collected:
                yield self._warning(at, "no step collects it and no tool gives it")

    def _slot_limits(self, slot: Slot, at: Path) -> Found:
        wrong = {
            "choices": bool(slot.choices) and slot.type is not SlotType.choice,
            "min_digits": bool(slot.min_digits) and slot.type is not SlotType.digits,
            "max_digits": bool(slot.max_digits) and slot.type is not SlotType.digits,
            "min": slot.minimum is not None and slot.type not in (SlotType.number, SlotType.money),
            "max": slot.maximum is not None and slot.type not in (SlotType.number, SlotType.money),
        }
        for key in (key for key, is_wrong in wrong.items() if is_wrong):
            yield self._error((*at, key), f"means nothing for the type {slot.type}")
        if slot.type is SlotType.choice and not slot.choices:
            yield self._error(at, "it has no choices", "give it choices:")
        if slot.max_digits and slot.min_digits > slot.max_digits:
            yield self._error((*at, "min_digits"), "is more than max_digits")
        if slot.minimum is not None and slot.maximum is not None and slot.minimum > slot.maximum:
            yield self._error((*at, "min"), "is more than max")
        if slot.pattern and (wrong_pattern := _pattern(slot.pattern)):
            yield self._error((*at, "pattern"), *wrong_pattern)
        seen: dict[str, str] = {}
        for choice in slot.choices:
            for phrase in choice.phrases:
                first = seen.setdefault(phrase.lower(), choice.value)
                if first != choice.value:
                    yield self._error((*at, "choices", choice.value), f"{phrase!r} is said for {first!r} too")

    def _slot_source(self, slot: Slot, at: Path) -> Found:
        tool, _, field = slot.source.partition(".")
        if tool not in self._flow.tools or not field:
            known = [f"{t.name}.{f}" for t in self._flow.tools.values() for f, _ in t.result]
            yield self._error((*at, "from"), "is not a field of a tool's result", did_you_mean(slot.source, known))
            return
        fields = [name for name, _ in self._flow.tools[tool].result]
        yield from self._known((*at, "from"), field, fields, f"field in the result of {tool}")
        if slot.name in self._collected:
            yield self._error((*at, "from"), "a step collects it, so it cannot come from a tool")

    # Tools

    def tools(self) -> Found:
        used = {tool for step in self._flow.steps.values() for tool in step.tools}
        granted = {step.grants for step in self._flow.steps.values() if step.grants}
        for tool in self._flow.tools.values():
            at: Path = ("tools", tool.name)
            if (tool.http is None) == (not tool.python):
                yield self._error(at, "it needs either http or python")
            if tool.effect is ToolEffect.irreversible and not tool.once:
                yield self._error(at, "an irreversible tool needs once:", 'such as once: "{order_id}"')
            if tool.retries and tool.effect is not ToolEffect.read and not tool.idempotent:
                yield self._error((*at, "retry"), "a write may be repeated only where it is idempotent: true")
            if tool.level not in (ANONYMOUS, *granted):
                hint = did_you_mean(tool.level, (ANONYMOUS, *granted))
                yield self._error((*at, "level"), f"no step grants {tool.level!r}", hint)
            for field, _ in tool.result:
                if field in TOOL_FIELDS:
                    yield self._error((*at, "result", field), "this name says how the tool ended")
            if tool.name not in used:
                yield self._warning(at, "no step uses it")
            yield from self._guard((*at, "when"), tool.when)
            yield from self._template((*at, "once"), tool.once, self._flow.slots)
            yield from self._lasting((*at, "once"), tool.once)
            yield from self._template((*at, "confirm"), tool.confirm, self._text_names)
            yield from self._arguments(tool, at)

    def _lasting(self, at: Path, once: str) -> Found:
        for name, slot in self._flow.slots.items():
            if slot.sensitive and not slot.source and f"{{{name}}}" in once:
                message = f"{name} is sensitive, and a digest of it that can be guessed stays when the call is deleted"
                yield self._warning(at, message, "use an id that a tool gives")

    def _arguments(self, tool: Tool, at: Path) -> Found:
        for argument in tool.arguments:
            place: Path = (*at, "arguments", argument.name)
            if argument.slot not in self._flow.slots:
                if argument.slot:
                    yield from self._known(place, argument.slot, self._flow.slots, "slot")
            elif argument.slot not in self._collected and not self._flow.slots[argument.slot].source:
                yield self._error(place, f"no step collects {argument.slot} and no tool gives it")
        if tool.http is not None:
            names = [argument.name for argument in tool.arguments]
            yield from self._template((*at, "http"), tool.http.url, names, kind="argument")
            for name, header in tool.http.headers:
                yield from self._template((*at, "http", "headers", name), header, ())

    # Steps

    def steps(self) -> Found:
        flow = self._flow
        for step in flow.steps.values():
            at: Path = ("steps", step.name)
            lists = (
                ("collect", step.collect, flow.slots, "slot"),
                ("tools", step.tools, flow.tools, "tool"),
                ("requires", step.requires, flow.steps, "step"),
                ("forget", step.forget, flow.slots, "slot"),
                ("sees", step.sees or (), flow.slots, "slot"),
            )
            for key, names, known, kind in lists:
                for position, name in enumerate(names):
                    yield from self._known((*at, key, position), name, known, kind)
            if step.model:
                yield from self._known((*at, "model"), step.model, flow.models, "model")
            yield from self._guard((*at, "done"), step.done)
            yield from self._template((*at, "say"), step.say, self._text_names)
            yield from self._template((*at, "prompt"), step.prompt, self._text_names)
            if step.grants and not step.done and not step.collect:
                yield self._error((*at, "grants"), "everybody would have this level", "give the step done: or collect:")
            if step.phrases and step.name not in flow.digressions:
                yield self._warning((*at, "phrases"), "only a digression is asked for by its phrases")
            yield from self._end_or_next(step, at)
            yield from self._transfer(step, at)

    def _transfer(self, step: Step, at: Path) -> Found:
        target = step.transfer
        if target is None:
            return
        at = (*at, "transfer")
        for key in (key for key in ("next", "end", "collect", "tools") if getattr(step, key)):
            yield self._error((*at[:-1], key), "a step with a transfer has nothing after its words but that")
        yield from self._template((*at, "to"), target.to, ())
        yield from self._template((*at, "announce"), target.announce, self._text_names)
        for key in ("failed", "after"):
            if name := getattr(target, key):
                yield from self._known((*at, key), name, self._flow.steps, "step")
        if target.by is TransferBy.refer:
            for key in (key for key in ("announce", "after") if getattr(target, key)):
                yield self._error((*at, key), "after a REFER the call is not here any more", "use by: bridge")

    def _end_or_next(self, step: Step, at: Path) -> Found:
        for position, way in enumerate(step.next):
            place: Path = (*at, "next", position)
            yield from self._known((*place, "to"), way.to, (*self._flow.steps, STAY), "step")
            yield from self._guard((*place, "when"), way.when)
            if not way.when and position + 1 < len(step.next):
                yield self._warning((*at, "next", position + 1), "is never tried: the way before it has no guard")
        if step.end:
            for key in (key for key in ("next", "collect", "tools") if getattr(step, key)):
                yield self._error((*at, key), "a step with an end has nothing after its words")
        if (
            step.tools
            and not step.done
            and not step.collect
            and any(not way.when and way.to != STAY for way in step.next)
        ):
            yield self._warning((*at, "next"), "moves on at once, before its tools ran", "give the step done:")

    # Ways through

    def ways(self) -> Found:
        flow = self._flow
        for name in flow.digressions:
            yield from self._digression(name)
        for step in flow.steps.values():
            leads = step.end or step.next or step.transfer is not None
            if not leads and step.name not in flow.digressions:
                yield self._error(("steps", step.name), "a dead end: it has neither next: nor end:")
        if not any(step.end or step.transfer is not None for step in flow.steps.values()):
            yield self._error(("steps",), "no step ends the call", "give the last one end: with an outcome")
        reached = self._reached()
        for name in flow.steps:
            if name not in reached and flow.start in flow.steps:
                yield self._warning(("steps", name), "nothing leads to this step")
        for name in flow.steps:
            if name in self._required(name):
                yield self._error(("steps", name, "requires"), "it requires itself")

    def _digression(self, name: str) -> Found:
        flow = self._flow
        if name not in flow.steps:
            position = flow.digressions.index(name)
            yield from self._known(("digressions", position), name, (*flow.steps, "repeat"), "step")
            return
        step = flow.steps[name]
        at: Path = ("steps", name)
        if name in _INTENTS:
            yield self._error(at, f"{name} is understood anyway and cannot be a digression's name")
        for key in (key for key in ("next", "end", "requires", "grants") if getattr(step, key)):
            yield self._error((*at, key), "a digression returns to where it began")
        if not step.phrases:
            yield self._error(at, "nobody can ask for this digression", "give it phrases:")
        if name in (flow.start, flow.give_up):
            yield self._error(at, "a digression cannot be the start or give_up")

    def _reached(self) -> set[str]:
        flow = self._flow
        open_ = [flow.start, flow.give_up, *flow.digressions]
        reached: set[str] = set()
        while open_:
            name = open_.pop()
            if name in flow.steps and name not in reached:
                reached.add(name)
                open_ += [*flow.steps[name].requires, *(way.to for way in flow.steps[name].next)]
                if (target := flow.steps[name].transfer) is not None:
                    open_ += [target.failed, target.after]
        return reached

    def _required(self, name: str) -> set[str]:
        """All that a step requires, and what that requires."""
        open_ = list(self._flow.steps[name].requires)
        found: set[str] = set()
        while open_:
            one = open_.pop()
            if one in self._flow.steps and one not in found:
                found.add(one)
                open_ += self._flow.steps[one].requires
        return found

    # What can be heard

    def speech(self) -> Found:
        flow = self._flow
        for step in flow.steps.values():
            at: Path = ("steps", step.name)
            by_rules = flow.models[step.model].use == "rules" if step.model in flow.models else self._default_is_rules()
            slots = [flow.slots[name] for name in step.collect if name in flow.slots]
            for position, slot in enumerate(slots):
                if slot.type is SlotType.string and not values.by_keys(slot) and (by_rules or slot.sensitive):
                    message = f"{slot.name} is free text, which rules and the embedded recogniser cannot collect"
                    yield self._warning((*at, "collect", position), message)
            said: dict[str, str] = {}
            for slot in slots:
                for phrase in (phrase for choice in slot.choices for phrase in choice.phrases):
                    if said.setdefault(phrase, slot.name) != slot.name:
                        message = f"{phrase!r} is a choice of {said[phrase]} and of {slot.name}"
                        yield self._warning((*at, "collect"), message)
            for name in step.tools:
                own = [a.name for a in flow.tools[name].arguments if not a.slot] if name in flow.tools else []
                if own and by_rules:
                    yield self._warning((*at, "tools"), f"{name} needs {own[0]} from a model, and this step has none")
            for position, phrase in enumerate(step.phrases):
                yield from self._heard((*at, "phrases", position), phrase)
        for slot in flow.slots.values():
            for choice in slot.choices:
                for phrase in choice.phrases:
                    yield from self._heard(("slots", slot.name, "choices", choice.value), phrase)

    def _heard(self, at: Path, phrase: str) -> Found:
        if not _HEARD.fullmatch(lexicon.plain(phrase)):
            yield self._warning(at, f"{phrase!r} cannot be heard by the embedded recogniser", "write it in words")

    def _default_is_rules(self) -> bool:
        return next(iter(self._flow.models.values())).use == "rules" if self._flow.models else True

    # One thing

    def _known(self, at: Path, name: str, known: Iterable[str], kind: str) -> Found:
        names = list(known)
        if name not in names:
            yield self._error(at, f"there is no {kind} {name!r}", did_you_mean(name, names))

    def _guard(self, at: Path, text: str) -> Found:
        try:
            names = expr.names(text)
        except ExprError as error:
            yield self._error(at, str(error))
            return
        for name in names:
            if name not in self._guard_names:
                yield self._error(at, f"a guard knows no {name!r}", did_you_mean(name, self._guard_names))

    def _template(self, at: Path, text: str, known: Iterable[str], kind: str = "field") -> Found:
        """In URLs, headers and hosts (lists of names, not sets) `{env.NAME}` is known too."""
        names = frozenset(known)
        with_env = not isinstance(known, frozenset | set | dict)
        try:
            fields = template.fields(text)
        except TemplateError as error:
            yield self._error(at, str(error))
            return
        for field in fields:
            if field not in names and not (with_env and _ENV.fullmatch(field)):
                yield self._error(at, f"there is no {kind} {{{field}}} here", did_you_mean(field, names))

    def _readback(self, at: Path, text: str) -> Found:
        if "{value}" not in text:
            yield self._error(at, "a read-back must say the {value}")

    def _error(self, at: Path, message: str, hint: str = "") -> Problem:
        return self._source.problem(at, message, hint, ERROR)

    def _warning(self, at: Path, message: str, hint: str = "") -> Problem:
        return self._source.problem(at, message, hint, WARNING)


def _pattern(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a slot's pattern: a message and a hint."""
    if len(pattern) > schema.MAX_PATTERN_CHARS:
        return f"is longer than {schema.MAX_PATTERN_CHARS} characters", ""
    try:
        patterns.steps(pattern)
    except PatternError as error:
        return str(error), error.hint
    return None
