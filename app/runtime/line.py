"""A call's end of one media leg: the leg's callbacks become facts, the call's speech orders become audio."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from app.core import events
from app.core.events import (
    AnswererHeard,
    CallerHungUp,
    CallerReferred,
    CallFailed,
    CallRang,
    CallStarted,
    Digit,
    LegAttached,
    LegHeld,
    LegLost,
    LegMeasured,
    LegResumed,
    NotReached,
    PlayoutHeld,
    PlayoutStarted,
    PlayoutStopped,
    ReferralFailed,
    TextReceived,
)
from app.core.placing import BEEP_MS
from app.core.state import Phase
from app.dialler.outcome import of_status
from app.ports import Clock, Pcm, Stt, Tts
from app.runtime.actor import CallActor
from app.runtime.legs import Wish
from app.runtime.listen import Listening
from app.runtime.speech import Spoken
from media.answerer import Answerer, Verdict
from media.leg import CloseCode, Instead, Leg
from media.recorder import Recorder


class Recording(Protocol):
    """Opens a call's recording for a leg at this rate; None: none is made."""

    def __call__(self, call: str, rate_hz: int, now_ms: int) -> Recorder | None: ...


RINGING, OK, UNAVAILABLE = 180, 200, 503  # of SIP

Follow = Callable[[str, Callable[[str], None]], Callable[[], None]]
"""Tells what happens in a call as JSON messages, until what it returns is called."""


class Line:
    """Implements `media.leg.LegHandler` for one leg of one call. Everything here is sync and in the audio path."""

    def __init__(
        self,
        actor: CallActor,
        leg_id: str,
        started: CallStarted | None,
        *,
        stt: Stt,
        tts: Tts,
        clock: Clock,
        record: Recording,
        follow: Follow,
        detect: bool = False,
    ) -> None:
        """`detect`: it is a call of ours, and the call waits to be told who answered."""
        self._detect = detect
        self._actor = actor
        self._leg_id = leg_id
        self._started = started  # None: this leg takes the place of a lost one
        self._stt = stt
        self._tts = tts
        self._clock = clock
        self._record = record
        self._follow = follow
        self._unfollow: Callable[[], None] | None = None
        self._leg: Leg | None = None
        self._listening: Listening | None = None

    def attach(self, leg: Leg) -> None:
        actor = self._actor
        flow = actor.core.flow
        self._leg = leg
        stream = self._stt.open(leg.ear_rate_hz, flow.language)
        self._listening = Listening(stream, actor.spawn, actor.post)
        output = Spoken(leg.playout, self._tts, flow.voice, actor.spawn, actor.post, leg.caption, self._tick)
        actor.attach(output, self._listening, self._replaced)
        actor.on_end(self._end)
        actor.legs.caller(self._leg_id, leg)
        leg.recorder = self._record(actor.call, leg.rate_hz, self._clock.monotonic_ms())
        leg.referred = self._referred
        if leg.shows:
            self._unfollow = self._follow(actor.call, leg.tell)
        if self._detect:
            self._find_out_who_answers(leg)
        actor.post(self._started or LegAttached(self._leg_id))

    def _find_out_who_answers(self, leg: Leg) -> None:
        """Also after a verdict: a short greeting may sound like a person until its beep."""
        answerer = Answerer(leg.rate_hz)
        until_ms = self._clock.monotonic_ms() + BEEP_MS

        def listen(pcm: Pcm, now_ms: int) -> None:
            verdict = answerer.feed(pcm, now_ms)
            if verdict is not None:
                self._actor.post(AnswererHeard(events.Answerer(verdict.value)))
            if verdict is Verdict.beep or now_ms > until_ms:
                leg.monitor = None

        leg.monitor = listen

    # What the leg tells

    def speech_started(self, utterance: int, now_ms: int) -> None:
        if self._listening is not None:
            self._listening.speech_started(utterance, now_ms)

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        if self._listening is not None:
            self._listening.speech_audio(utterance, pcm)

    def speech_confirmed(self, utterance: int) -> None:
        if self._listening is not None:
            self._listening.speech_confirmed(utterance)

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        if self._listening is not None:
            self._listening.speech_paused(utterance, on=on)

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        if self._listening is not None:
            self._listening.speech_ended(utterance, speech_ms, voice)

    def playout_started(self, gen: int) -> None:
        self._actor.post(PlayoutStarted(gen))

    def playout_held(self, gen: int, sentence: int, chars: int) -> None:
        self._actor.post(PlayoutHeld(gen, sentence, chars))

    def playout_stopped(self, gen: int, sentence: int, chars: int, cause: str) -> None:
        if self._leg is not None and self._leg.measure is not None:
            self._leg.measure()  # the call may end with this, and nothing counts after its end
        self._actor.post(PlayoutStopped(gen, sentence, chars, cause))

    def digit(self, digit: str) -> None:
        self._actor.post(Digit(digit))

    def text(self, text: str) -> None:
        self._actor.post(TextReceived(text))

    def held(self, *, on: bool) -> None:
        self._actor.post(LegHeld(self._leg_id) if on else LegResumed(self._leg_id))

    def measured(self, packets: int, lost: int, jitter_ms: float, opinion: float) -> None:
        self._actor.post(LegMeasured(self._leg_id, packets, lost, round(jitter_ms, 1), round(opinion, 2)))

    def hung_up(self) -> None:
        self._gone()
        self._actor.post(CallerHungUp(self._leg_id))

    def lost(self) -> None:
        self._gone()
        if self._leg is None and self._started is not None:
            self._actor.post(self._started)  # the call began, if only to be recorded as lost
            self._actor.post(CallerHungUp(self._leg_id))
        else:
            self._actor.post(LegLost(self._leg_id))

    def rang(self) -> None:
        """Implements `media.gateway.Callee`, as does `not_reached`, for a call of ours."""
        self._actor.post(CallRang(self._leg_id))

    def not_reached(self, status: int) -> None:
        self._actor.post(NotReached(self._leg_id, of_status(status), status))

    def failed(self, error: Exception) -> None:
        self._gone()
        self._actor.post(CallFailed(f"{type(error).__name__} in the audio path"))

    def _referred(self, instead: Instead, told: Callable[[int], None]) -> bool:
        legs = self._actor.legs
        if legs.wish is not None:
            return False
        legs.wish = Wish(instead, told)
        self._actor.post(CallerReferred(self._leg_id, instead.to))
        return True

    # What the call orders

    def _end(self, cause: str, outcome: str) -> None:
        self._close_recorder()
        if self._leg is not None:
            self._leg.end(cause, outcome)

    def _replaced(self) -> None:
        assert self._leg is not None
        self._leg.close(CloseCode.replaced, "another connection took its place")
        self.lost()

    def _tick(self) -> None:
        assert self._leg is not None
        self._leg.tick(self._clock.monotonic_ms())

    def _gone(self) -> None:
        self._close_recorder()
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        self._actor.legs.gone(self._leg_id)
        self._actor.detach()

    def _close_recorder(self) -> None:
        if self._leg is not None and self._leg.recorder is not None:
            self._leg.recorder.close(self._clock.monotonic_ms())
            self._leg.recorder = None


class Heir(Line):
    """Who is called in the caller's place, as its side asked. Implements `media.gateway.Callee`."""

    def __init__(
        self,
        actor: CallActor,
        leg_id: str,
        n: int,
        takes_over: Callable[[], None],
        *,
        stt: Stt,
        tts: Tts,
        clock: Clock,
        record: Recording,
        follow: Follow,
    ) -> None:
        """`n`: of the referral. `takes_over` is told when they answer."""
        super().__init__(actor, leg_id, None, stt=stt, tts=tts, clock=clock, record=record, follow=follow)
        self.over = asyncio.Event()
        self.since_s = 0.0  # of the answer
        self.answered: Callable[[], None] = lambda: None
        self._n = n
        self._takes_over = takes_over

    def attach(self, leg: Leg) -> None:
        state = self._actor.core.state
        if state.phase is not Phase.live:  # while it rang
            leg.end(state.cause, state.outcome)
            return
        self.since_s = asyncio.get_running_loop().time()
        self.answered()
        self._actor.legs.wish_is(OK)  # before whoever asked is hung up on
        self._actor.replace_leg()
        self._takes_over()
        super().attach(leg)

    def rang(self) -> None:
        self._actor.legs.wish_is(RINGING)

    def not_reached(self, status: int) -> None:
        self._actor.legs.wish_is(status)
        self._actor.post(ReferralFailed(self._n, of_status(status), status))
        self.over.set()

    def lost(self) -> None:
        if self._leg is None:
            self.not_reached(UNAVAILABLE)
        else:
            super().lost()

    def drop(self, reason: str) -> None:
        """Its time is up."""
        if self._leg is not None:
            self._leg.close(CloseCode.busy, reason)
        self.hung_up()

    def _gone(self) -> None:
        super()._gone()
        self.over.set()


def recordings(folder: Path, opened: Callable[[str, str], None]) -> Recording:
    """Recordings below `folder`, one file a leg; `opened(call, name)` is told of each."""

    def record(call: str, rate_hz: int, now_ms: int) -> Recorder | None:
        name = f"{call}.wav"
        again = 2
        while (folder / name).exists():
            name, again = f"{call}-{again}.wav", again + 1
        opened(call, name)
        return Recorder(folder / name, rate_hz, now_ms)  # never raises: its `error` says why it is silent

    return record
