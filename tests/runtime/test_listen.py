"""What the listening job tells of an utterance before its end: what it seems to be, and never its words."""

import asyncio
from collections.abc import Callable, Coroutine

import numpy as np
import pytest

from app.core.events import AnyEvent, Says, SpeechEnded, SpeechPaused, SpeechSoFar, SpeechStarted, SpeechWentOn
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
