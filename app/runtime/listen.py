"""The listening job: what the ear finds goes to the recogniser, and both tell the call."""

import asyncio
from collections.abc import Callable

from app.core.events import (
    AnyEvent,
    ListenFailed,
    Says,
    SpeechConfirmed,
    SpeechEnded,
    SpeechPaused,
    SpeechSoFar,
    SpeechStarted,
    SpeechWentOn,
    Transcript,
)
from app.core.request import Hearing
from app.ports import EarlyStt, Heard, Pcm, ProviderError, SttStream
from flows import lexicon

WORDS_CONFIDENCE = 0.5
GO_ON_CONFIDENCE = 0.15
"""Enough for a backchannel, which changes little and is soon over."""

WORDS_ODDS = 2.0
"""What words count for beside the sound of a stretch, as log odds."""
CUT_IN_ODDS, BACKCHANNEL_ODDS = 2.0, -1.0
"""Both together: from here on it is taken for one."""

Post = Callable[[AnyEvent], None]
Spawn = Callable[..., "asyncio.Task[None]"]


class Listening:
    """One leg's ear joined to one recogniser stream; implements `media.ear.EarListener`."""

    def __init__(self, stream: SttStream, spawn: Spawn, post: Post) -> None:
        self._stream = stream
        self._spawn = spawn
        self._post = post
        self._jobs: set[asyncio.Task[None]] = set()
        self._closed = False
        self._utterance = 0  # the one under way; 0: none
        self._says = Says.nothing
        if isinstance(stream, EarlyStt):
            stream.tell_early(self._early)

    def expect(self, hearing: Hearing) -> None:
        if not self._closed:
            self._stream.expect(hearing)

    def speech_started(self, utterance: int, now_ms: int) -> None:
        if not self._closed:
            self._utterance, self._says = utterance, Says.nothing
            self._post(SpeechStarted(utterance))
            self._stream.begin(utterance)

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        if not self._closed:
            self._stream.feed(utterance, pcm)

    def speech_confirmed(self, utterance: int) -> None:
        if not self._closed:
            self._post(SpeechConfirmed(utterance))

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        if not self._closed:
            self._post(SpeechPaused(utterance) if on else SpeechWentOn(utterance))

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        if self._closed:
            return
        self._post(SpeechEnded(utterance, speech_ms, voice))
        if voice:
            job = self._spawn(self._finish(utterance))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
        else:
            self._stream.drop(utterance)

    def close(self) -> None:
        """The leg is gone: what was not understood yet never will be."""
        if not self._closed:
            self._closed = True
            for job in self._jobs:
                job.cancel()
            self._stream.close()

    def _early(self, utterance: int, heard: Heard) -> None:
        """Also after its end, while its last frames are on their way through the recogniser."""
        if self._closed or utterance != self._utterance:
            return
        self._seems(utterance, _says(heard))

    def _seems(self, utterance: int, says: Says) -> None:
        if says is not self._says:
            self._says = says
            self._post(SpeechSoFar(utterance, says))

    async def _finish(self, utterance: int) -> None:
        try:
            heard = await self._stream.finish(utterance)
        except ProviderError as error:
            self._post(ListenFailed(utterance, error.fault))
        else:
            by_sound = (Says.cut_in, Says.backchannel)
            if utterance == self._utterance and (heard.wants_floor or self._says in by_sound):
                self._seems(utterance, _says(heard))
            self._post(Transcript(utterance, heard.text, heard.confidence))


def _says(heard: Heard) -> Says:
    is_backchannel = lexicon.is_backchannel(heard.text)
    if heard.wants_floor:
        is_sure = bool(heard.text) and heard.confidence >= WORDS_CONFIDENCE
        odds = heard.wants_floor + is_sure * (-WORDS_ODDS if is_backchannel else WORDS_ODDS)
        if odds >= CUT_IN_ODDS:
            return Says.cut_in
        if odds <= BACKCHANNEL_ODDS:
            return Says.backchannel
    if is_backchannel:
        patient = heard.text not in lexicon.ONE_BEAT and not lexicon.is_impatient(heard.text)
        return Says.go_on if patient and heard.confidence >= GO_ON_CONFIDENCE else Says.nothing
    return Says.words if heard.text and heard.confidence >= WORDS_CONFIDENCE else Says.nothing
