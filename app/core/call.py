"""What the core's parts share while one event is handled: the flow, the state, and the orders so far."""

from collections.abc import Callable, Mapping

from app.core.effects import AnyEffect, StartReply, StopReply
from app.core.request import WITHHELD, Message
from app.core.state import UNSETTLED, CallState, Due, Line, QuestionKind, StateView, revs_hold
from flows import rules, semantics, template, values
from flows.model import Flow, Step, Value

RULES = "rules"
"""The provider that needs no model."""

NOTHING: Mapping[str, Value] = {}


class Call:
    def __init__(self, flow: Flow, state: CallState) -> None:
        self.flow = flow
        self.state = state
        self.view = StateView(flow, state)
        self.out: list[AnyEffect] = []
        collected = {name for step in flow.steps.values() for name in step.collect}
        self._collected = tuple(name for name in flow.slots if name in collected)
        self._proposable: dict[tuple[str, str], tuple[str, ...]] = {}

    @property
    def step(self) -> Step:
        return self.flow.steps[self.state.step]

    def emit(self, order: AnyEffect) -> None:
        self.out.append(order)

    def arm(self, timer: str, in_ms: int) -> None:
        self.state.timers[timer] = self.state.now_ms + in_ms

    def disarm(self, timer: str) -> None:
        self.state.timers.pop(timer, None)

    def fence(self) -> None:
        """From here on the present engine's words and requests are late. What was already spoken plays on."""
        self.state.gen += 1
        reply = self.state.reply
        if reply is not None and reply.producing:
            reply.producing = False
            self.disarm("reply")
            begun = [order for order in self.out if isinstance(order, StartReply) and order.gen == reply.gen]
            if begun:
                self.out.remove(begun[0])  # not carried out yet: nobody needs to stop it
            else:
                self.emit(StopReply(reply.gen))

    def want(self) -> Due:
        """The agent's turn is due; what there is to say first may be added to what this returns."""
        if self.state.due is None:
            self.state.due = Due()
        self.state.due.acts = True
        return self.state.due

    def note(self, text: str) -> None:
        """Tell the model something that nobody said."""
        self.state.history.append(Message("note", text))

    def engine(self) -> str:
        """The present step's model, by its name in the flow."""
        return self.step.model or next(iter(self.flow.models))

    def by_rules(self, engine: str) -> bool:
        return engine == RULES or self.flow.models[engine].use == RULES

    def asked(self) -> str:
        """The slot that digits and bare answers mean; empty: none."""
        question = self.state.question
        if question is not None and question.slot:
            return question.slot
        return semantics.missing(self.flow, self.view) or ""

    def proposable(self) -> tuple[str, ...]:
        """Slots that a caller may fill or change now: the one asked for first, then the step's, then all others."""
        asked, step = self.asked(), self.state.step
        known = self._proposable.get((asked, step))
        if known is None:
            first = (asked,) if asked else ()
            known = tuple(dict.fromkeys((*first, *self.step.collect, *self._collected)))
            self._proposable[asked, step] = known
        return known

    def answerable(self) -> bool:
        """Whether a question is open that yes or no answers, and was heard."""
        question = self.state.question
        return question is not None and question.kind is not QuestionKind.ask and question.heard

    def ready(self) -> tuple[str, ...]:
        """Tools that the rules may ask for now: admitted, and not under way already."""
        busy = {e.tool for e in self.state.tools.values() if e.state in UNSETTLED and revs_hold(self.state, e)}
        return tuple(name for name in semantics.ready(self.flow, self.view) if name not in busy)

    def line(self, text: str, own: Mapping[str, Value] = NOTHING) -> Line:
        """Fill a text of the flow; unknown values are left out, sensitive ones masked in the line's other reading.

        `own` are a tool call's arguments, for its confirmation.
        """
        if "{" not in text:
            return Line(text)
        spoken = template.render(text, self._spoken(own, masked=False))
        shown = template.render(text, self._spoken(own, masked=True))
        return Line(spoken, shown if shown != spoken else "")

    def collects_sensitive(self) -> bool:
        """Whether what is heard now may be a sensitive value: then it is sealed and no model gets to see it."""
        question = self.state.question
        if question is not None and question.slot and self.flow.slots[question.slot].sensitive:
            return True
        if not self.state.step:
            return False
        return any(self.flow.slots[name].sensitive and not self.view.is_confirmed(name) for name in self.step.collect)

    def holds_sensitive(self, words: str) -> bool:
        """Whether these words are or may be a sensitive value, also one that is volunteered or corrected elsewhere."""
        if self.collects_sensitive():
            return True
        slots = [slot for slot in self.flow.slots.values() if slot.sensitive and not slot.source]
        return bool(slots) and bool(rules.understand(words, slots=slots, asked="", yesno=False, digressions={}).slots)

    def _spoken(self, own: Mapping[str, Value], *, masked: bool) -> Callable[[str], str]:
        def lookup(name: str) -> str:
            slot = self.flow.slots.get(name)
            if slot is not None:
                value = self.view.value(name)
                if value is None:
                    return ""
                return WITHHELD if masked and slot.sensitive else values.spoken(slot, value)
            if name in own:
                return str(own[name])
            tool, _, field = name.partition(".")
            found = self.view.result(tool) if tool in self.flow.tools else None
            if found is None or found.status is not semantics.Status.done or found.fields.get(field) is None:
                return ""
            return WITHHELD if masked and self.flow.tools[tool].sensitive else str(found.fields[field])

        return lookup
