"""What the listening job tells of an utterance before its end: what it seems to be, and never its words."""

import asyncio
from collections.abc import Callable, Coroutine

import numpy as np
import pytest

from app.core.events import (
    AnyEvent,
    Says,
    SpeechEnded,
    SpeechPaused,
    SpeechSoFar,
    SpeechStarted,
    SpeechWentOn,
    Transcript,
)
from app.core.request import Hearing
from app.ports import EarlyStt, Heard, SttStream
from app.providers.keys_only import KeysOnlyStream
from app.runtime.listen import Listening


class Early(KeysOnlyStream):
    """Tells what a test says."""

    def tell_early(self, tell: Callable[[int, Heard], None]) -> None:
        self.tell = tell


def listening(stream: SttStream) -> tuple[Listening, list[AnyEvent]]:
    posted: list[AnyEvent] = []

    def spawn(job: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        raise AssertionError("nothing to finish here")

    return Listening(stream, spawn, posted.append), posted


def says(posted: list[AnyEvent]) -> list[Says]:
    return [event.says for event in posted if isinstance(event, SpeechSoFar)]


@pytest.mark.parametrize(
    ("text", "confidence", "what"),
    [
        ("oh okay", 0.9, Says.go_on),
        ("oh okay", 0.2, Says.go_on),
        ("oh okay", 0.1, Says.nothing),
        ("yeah", 0.9, Says.nothing),
        ("yeah yeah", 0.9, Says.nothing),
        ("okay okay okay", 0.9, Says.nothing),
        ("ha ha", 0.9, Says.go_on),
        ("okay yeah", 0.9, Says.go_on),
        ("okay but", 0.9, Says.words),
        ("tuesday", 0.5, Says.words),
        ("tuesday", 0.4, Says.nothing),
        ("", 1.0, Says.nothing),
    ],
)
def test_what_it_seems_to_be(text: str, confidence: float, what: Says) -> None:
    stream = Early()
    ears, posted = listening(stream)
    ears.speech_started(1, 0)
    stream.tell(1, Heard(text, confidence))
    assert says(posted) == ([what] if what is not Says.nothing else [])


@pytest.mark.parametrize(
    ("text", "confidence", "wants_floor", "what"),
    [
        ("", 0.1, 3.0, Says.cut_in),
        ("", 0.1, -3.0, Says.backchannel),
        ("", 0.1, 0.5, Says.nothing),
        ("tuesday", 0.9, 0.5, Says.cut_in),
        ("tuesday", 0.9, -2.0, Says.words),
        ("tuesday", 0.9, -6.0, Says.backchannel),
        ("okay", 0.9, 0.4, Says.backchannel),
        ("okay", 0.9, 2.0, Says.go_on),
        ("okay", 0.9, 6.0, Says.cut_in),
        ("okay okay", 0.9, -1.0, Says.backchannel),
    ],
)
def test_words_and_their_sound_count_together(text: str, confidence: float, wants_floor: float, what: Says) -> None:
    stream = Early()
    ears, posted = listening(stream)
    ears.speech_started(1, 0)
    stream.tell(1, Heard(text, confidence, wants_floor))
    assert says(posted) == ([what] if what is not Says.nothing else [])


@pytest.mark.parametrize(
    ("early", "final", "told"), [(0.0, 4.0, [Says.cut_in]), (-4.0, 0.0, [Says.backchannel, Says.words])]
)
def test_before_its_words_an_utterance_is_what_it_was_as_a_whole(early: float, final: float, told: list[Says]) -> None:
    class Final(Early):
        async def finish(self, utterance: int) -> Heard:
            return Heard("tuesday", 0.9, final)

    async def story() -> list[AnyEvent]:
        posted: list[AnyEvent] = []
        stream = Final()
        async with asyncio.TaskGroup() as jobs:
            ears = Listening(stream, jobs.create_task, posted.append)
            ears.speech_started(1, 0)
            stream.tell(1, Heard("", 0.1, early))
            ears.speech_ended(1, 300, voice=True)
        return posted

    posted = asyncio.run(story())
    assert says(posted) == told
    assert isinstance(posted[-1], Transcript)


def test_only_changes_are_facts_and_each_utterance_begins_anew() -> None:
    stream = Early()
    ears, posted = listening(stream)
    ears.speech_started(1, 0)
    for text in ("tuesday", "tuesday", "tuesday please", "", ""):
        stream.tell(1, Heard(text))
    ears.speech_ended(1, 500, voice=False)
    stream.tell(1, Heard("monday"))  # its last frames were on their way
    ears.speech_started(2, 0)
    stream.tell(1, Heard("late"))
    stream.tell(2, Heard("friday"))
    assert [(event.utterance, event.says) for event in posted if isinstance(event, SpeechSoFar)] == [
        (1, Says.words), (1, Says.nothing), (1, Says.words), (2, Says.words),
    ]  # fmt: skip


def test_pauses_are_facts() -> None:
    ears, posted = listening(KeysOnlyStream())
    ears.speech_started(1, 0)
    ears.speech_paused(1, on=True)
    ears.speech_paused(1, on=False)
    ears.speech_ended(1, 500, voice=False)
    assert posted == [SpeechStarted(1), SpeechPaused(1), SpeechWentOn(1), SpeechEnded(1, 500, False)]


def test_after_its_end_nothing_is_told() -> None:
    stream = Early()
    ears, posted = listening(stream)
    ears.expect(Hearing("en"))
    ears.speech_started(1, 0)
    ears.close()
    before = len(posted)
    stream.tell(1, Heard("tuesday"))
    ears.speech_paused(1, on=True)
    ears.speech_audio(1, np.zeros(320, dtype=np.int16))
    assert len(posted) == before


def test_who_cannot_tell_early_is_not_asked() -> None:
    assert not isinstance(KeysOnlyStream(), EarlyStt)
    assert isinstance(Early(), EarlyStt)
