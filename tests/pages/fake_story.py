"""Made-up calls for the console's tests: records, spans, entries and the state after each record."""

import copy
from typing import Any

WITHHELD = "•••"
Json = dict[str, Any]

SLOTS = [
    {"name": "dob", "type": "date", "sensitive": True},
    {"name": "patient_id", "type": "string", "sensitive": True},
    {"name": "day", "type": "weekday", "sensitive": False},
    {"name": "part", "type": "choice", "sensitive": False},
    {"name": "slot_id", "type": "string", "sensitive": False},
]
STEPS = ["welcome", "identify", "unknown", "intro", "choose", "full", "offer", "other", "bye", "desk"]
LANES = ["caller", "agent", "floor", "model", "tts", "tool", "step", "timer"]


class Story:
    """One call that is told forwards; `ms` is the time of the latest record."""

    def __init__(self) -> None:
        self.ms = 0
        self.gen = 0
        self.records: list[Json] = []
        self.entries: list[Json] = []
        self.turns: list[Json] = []
        self.verdicts: list[Json] = []
        self.lanes: dict[str, list[Json]] = {name: [] for name in LANES}
        self.views: list[Json] = []
        self.view: Json = {
            "step": "welcome",
            "visit": 1,
            "phase": "live",
            "attempts": 0,
            "slots": {str(slot["name"]): {"value": None, "confirmed": False, "rev": 0} for slot in SLOTS},
            "tools": [],
            "question": None,
            "timers": {"duration": 600_000},
            "counts": {"turns": 0, "barge_ins": 0, "holds": 0, "replies": 0, "refused": 0, "model_failures": 0},
        }
        self._step_ms = 0

    def record(self, kind: str, *, after_ms: int = 0, **facts: Any) -> int:
        self.ms += after_ms
        seq = len(self.records)
        self.records.append({"seq": seq, "ms": self.ms, "event": {"type": kind, **facts}, "effects": []})
        self.views.append(copy.deepcopy(self.view))
        return seq

    def tell(self, seq: int, kind: str, text: str, gen: int = 0) -> None:
        self.entries.append({"seq": seq, "ms": self.ms, "kind": kind, "text": text, "gen": gen})

    def span(self, lane: str, from_ms: int, to_ms: int, kind: str, label: str, seq: int, gen: int = 0) -> None:
        self.lanes[lane].append(
            {"from_ms": from_ms, "to_ms": to_ms, "kind": kind, "label": label, "seq": seq, "gen": gen}
        )

    def go(self, step: str, why: str) -> None:
        self.span("step", self._step_ms, self.ms, "step", self.view["step"], len(self.records) - 1)
        self._step_ms = self.ms
        self.view["step"] = step
        self.view["visit"] += 1
        self.tell(self.record("StepEntered", step=step), "step", f"{step} ({why})")

    def caller(self, text: str, speech_ms: int, *, shown: str = "", after_ms: int = 600) -> int:
        seq = self.record("SpeechStarted", after_ms=after_ms, utterance=len(self.turns) + 1)
        start_ms = self.ms
        self.tell(seq, "floor", "caller starts to speak")
        self.ms += speech_ms
        seq = self.record("SpeechEnded", speech_ms=speech_ms, voice=True)
        self.tell(seq, "floor", f"caller stops after {speech_ms} ms")
        self.span("caller", start_ms, self.ms, "speech", shown or text, seq)
        self.view["counts"]["turns"] += 1
        seq = self.record("Transcript", after_ms=180, text=shown or text, confidence=0.93)
        self.tell(seq, "caller", shown or f"“{text}”")
        return seq

    def agent(self, text: str, *, model_ms: int = 420, cut_after_ms: int | None = None) -> None:
        """One reply, with its turn's latency; cut by the caller where `cut_after_ms` says when."""
        self.gen += 1
        gen = self.gen
        asked_ms = self.ms
        endpointing_ms = 180 + 37 * gen % 260
        self.ms += model_ms
        seq = self.record("Sentence", gen=gen, index=0, text=text)
        self.tell(seq, "agent", f"“{text}”", gen)
        self.span("model", asked_ms, self.ms, "model", "rules" if model_ms < 50 else "gpt-5-mini", seq, gen)
        tts_ms = 70 + 13 * gen % 50
        self.span("tts", self.ms, self.ms + tts_ms * 3, "tts", "espeak", seq, gen)
        seq = self.record("PlayoutStarted", after_ms=tts_ms, gen=gen)
        start_ms = self.ms
        self.tell(seq, "agent", "starts to speak", gen)
        total_ms = endpointing_ms + model_ms + tts_ms
        self.tell(seq, "time", f"{total_ms} ms from the caller's offset to the agent's first sound")
        latency = {"endpointing_ms": endpointing_ms, "model_ms": model_ms, "tts_ms": tts_ms, "total_ms": total_ms}
        self.turns.append({"seq": seq, "ms": self.ms, **latency})
        self.view["counts"]["replies"] += 1
        self.ms += cut_after_ms if cut_after_ms is not None else 55 * len(text)
        if cut_after_ms is not None:
            self._cut(gen, start_ms)
            return
        seq = self.record("PlayoutStopped", gen=gen, cause="done")
        self.span("agent", start_ms, self.ms, "heard", text, seq, gen)
        self.tell(seq, "agent", "has finished", gen)

    def _cut(self, gen: int, start_ms: int) -> None:
        held_ms = self.ms
        seq = self.record("SpeechStarted", utterance=900 + gen)
        self.tell(seq, "floor", "agent holds", gen)
        self.view["counts"]["holds"] += 1
        seq = self.record("PlayoutStopped", after_ms=340, gen=gen, cause="cut")
        self.view["counts"]["barge_ins"] += 1
        self.tell(seq, "floor", "agent is cut off: the caller has the floor", gen)
        self.tell(seq, "time", "barge-in: silent at once, cut 340 ms after the caller's onset")
        self.span("agent", start_ms, held_ms, "cut", "was cut off", seq, gen)
        self.span("floor", held_ms, self.ms, "hold", "hold", seq, gen)
        self.span("floor", self.ms, self.ms + 60, "cut", "cut", seq, gen)

    def noise(self) -> None:
        """A hold that resolves into going on."""
        start_ms = self.ms - 1500
        self.span("caller", start_ms, start_ms + 240, "noise", "noise", len(self.records) - 1)
        self.span("floor", start_ms, start_ms + 420, "hold", "hold", len(self.records) - 1)
        self.view["counts"]["holds"] += 1

    def slot(self, name: str, value: str, *, confirmed: bool) -> None:
        held = self.view["slots"][name]
        self.view["slots"][name] = {"value": value, "confirmed": confirmed, "rev": held["rev"] + 1}
        self.tell(self.record("SlotsProposed", slots={name: value}), "slot", f"{name} = {value}")

    def ask(self, slot: str, kind: str = "ask", n: int = 0) -> None:
        self.view["question"] = {"kind": kind, "slot": slot, "n": n, "heard": True}
        self.view["timers"] = {"duration": 600_000, "silence": self.ms + 8000}
        self.span("timer", self.ms, self.ms + 1400, "silence", "silence", len(self.records) - 1)

    def answered(self) -> None:
        self.view["question"] = None
        self.view["timers"] = {"duration": 600_000}

    def tool(self, name: str, took_ms: int, *, shown: str, state: str = "done", rule: str = "all") -> None:
        """A tool call with its verdicts; `state` "refused" never starts."""
        n = len(self.view["tools"]) + 1
        refused = state == "refused"
        reason = "the caller has not been verified" if refused else "every check holds"
        entry = {"n": n, "tool": name, "state": "refused" if refused else "running", "reason": rule if refused else ""}
        self.view["tools"].append(entry)
        seq = self.record("ToolsRequested", gen=self.gen, calls=[{"tool": name}])
        decision = "refused" if refused else "allowed"
        self.verdict(seq, n, name, decision, rule, reason)
        if refused:
            self.view["counts"]["refused"] += 1
            return
        self.verdict(seq, n, name, "started", "all", "every check holds")
        start_ms = self.ms
        seq = self.record("ToolReady", after_ms=6, n=n)
        self.ms += took_ms
        self.view["tools"][n - 1] = {**entry, "state": state, "reason": "" if state == "done" else "timeout"}
        seq = self.record("ToolEnded", n=n, outcome=state)
        self.tell(seq, "tool" if state == "done" else "trouble", f"#{n} {state}: {shown}")
        self.span("tool", start_ms, self.ms, state, name, seq)

    def verdict(self, seq: int, n: int, tool: str, decision: str, rule: str, reason: str) -> None:
        verdict = {"n": n, "tool": tool, "decision": decision, "rule": rule, "reason": reason}
        self.verdicts.append({"seq": seq, "ms": self.ms, **verdict})
        self.tell(seq, "gate", f"#{n} {tool}: {decision} [{rule}] {reason}")

    def end(self, outcome: str, cause: str) -> None:
        self.view["phase"] = "ended"
        self.view["timers"] = {}
        seq = self.record("CallerHungUp" if cause == "caller-hangup" else "Tick", after_ms=400)
        self.tell(seq, "call", f"over: {outcome} ({cause})")
        self.span("step", self._step_ms, self.ms, "step", self.view["step"], seq)

    def timeline(self, from_ms: int = 0, to_ms: int = 1 << 60) -> Json:
        return {
            "duration_ms": self.ms,
            "lanes": [
                {"name": name, "spans": [s for s in spans if s["to_ms"] >= from_ms and s["from_ms"] <= to_ms]}
                for name, spans in self.lanes.items()
            ],
            "entries": [e for e in self.entries if from_ms <= e["ms"] <= to_ms],
            "turns": [t for t in self.turns if from_ms <= t["ms"] <= to_ms],
            "verdicts": [v for v in self.verdicts if from_ms <= v["ms"] <= to_ms],
        }


def booking() -> Story:
    """An ordinary call: a refused tool, a barge-in, noise, a correction, a booking."""
    story = Story()
    story.tell(story.record("CallStarted", transport="webrtc", caller="+1 555 0100"), "call", "started over webrtc")
    story.agent("Welcome to the clinic.", model_ms=4)
    story.go("identify", "next")
    story.agent("Please key in your date of birth.", model_ms=4)
    story.ask("dob")
    story.caller("", 300, shown="key •", after_ms=900)
    story.answered()
    story.slot("dob", WITHHELD, confirmed=False)
    story.tool("book", 0, shown="", state="refused", rule="step")
    story.agent("I have your date of birth. Is that right?", model_ms=380)
    story.ask("dob", "readback")
    story.caller("yes", 420)
    story.answered()
    story.view["slots"]["dob"]["confirmed"] = True
    story.tool("find_patient", 640, shown=f"found=True, patient_id={WITHHELD}")
    story.slot("patient_id", WITHHELD, confirmed=True)
    story.go("intro", "find_patient.found")
    story.agent(
        "Thank you, I have found your record. I can book you an appointment with one of our doctors.",
        model_ms=6,
        cut_after_ms=1900,
    )
    story.go("choose", "next")
    story.caller("Thursday, please", 1150, after_ms=20)
    story.slot("day", "thursday", confirmed=False)
    story.agent("Thursday. In the morning or in the afternoon?", model_ms=510)
    story.noise()
    story.ask("part")
    story.caller("in the afternoon. No, wait, in the morning", 2100)
    story.answered()
    story.slot("part", "afternoon", confirmed=False)
    story.slot("part", "morning", confirmed=True)
    story.view["slots"]["day"]["confirmed"] = True
    story.tool("find_slot", 2350, shown="found=True, time=9:40")
    story.slot("slot_id", "s-7714", confirmed=True)
    story.go("offer", "find_slot.found")
    story.agent("Shall I book Thursday morning at twenty to ten?", model_ms=460)
    story.ask("", "confirm", 4)
    story.caller("yes please", 640)
    story.answered()
    story.tool("book", 910, shown="booked=True, reference=A-2207")
    story.go("bye", "book.booked")
    story.agent("It is booked. Goodbye.", model_ms=5)
    story.end("booked", "flow")
    return story


def marathon(minutes: int = 60) -> Story:
    """A call that lasts `minutes`, with several thousand spans."""
    story = Story()
    story.tell(story.record("CallStarted", transport="audio", caller="load"), "call", "started over audio")
    turn = 0
    while story.ms < minutes * 60_000:
        turn += 1
        if turn % 9 == 0:
            story.go("choose" if story.view["step"] != "choose" else "offer", "next")
        story.agent(
            f"Sentence number {turn}.", model_ms=200 + turn * 37 % 700, cut_after_ms=800 if turn % 5 == 0 else None
        )
        story.ask("day")
        story.caller(f"answer number {turn}", 500 + turn * 91 % 1500, after_ms=120)
        story.answered()
        story.slot("day", ("monday", "tuesday", "wednesday")[turn % 3], confirmed=turn % 2 == 0)
        if turn % 4 == 0:
            story.tool("find_slot", 200 + turn * 53 % 900, shown="found=False", state="done" if turn % 12 else "failed")
    story.end("abandoned", "caller-hangup")
    return story
