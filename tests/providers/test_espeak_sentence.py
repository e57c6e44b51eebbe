"""What the speech helper makes of the library's chunks and events, and the frames in which it answers."""

from collections.abc import Iterator

import numpy as np
import pytest

from app.ports import Mark, Pcm
from app.providers.espeak_helper import PAUSE_MS, SOURCE_HZ, Sentence, plain
from app.providers.frames import Frame, FrameError, Frames, pack


def chunks_of(pcm: Pcm) -> Iterator[Pcm]:
    for start in range(0, pcm.size, 1324):
        yield pcm[start : start + 1324]


def tone(seconds: float) -> Pcm:
    return (8000 * np.sin(np.arange(round(seconds * SOURCE_HZ)) / 10)).astype(np.int16)


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * SOURCE_HZ), dtype=np.int16)


def make(text: str, pcm: Pcm, words: list[tuple[int, int]], rate_hz: int = SOURCE_HZ) -> tuple[Pcm, list[Mark]]:
    sentence = Sentence(text, rate_hz)
    given: list[tuple[int, int]] = []
    parts = []
    place = 0
    for chunk in chunks_of(pcm):
        sentence.push(chunk, [word for word in words if place <= word[1] < place + chunk.size])
        place += chunk.size
        ready = sentence.take(1)
        if ready is not None:
            parts.append(ready[0])
            given += ready[1]
    sentence.end()
    ready = sentence.take(0)
    if ready is not None:
        parts.append(ready[0])
        given += ready[1]
    return np.concatenate(parts), [Mark(*mark) for mark in given]


def test_silence_around_a_sentence_is_trimmed_and_its_marks_move_along() -> None:
    second = SOURCE_HZ
    pcm, marks = make("one two", np.concatenate((quiet(1), tone(1), quiet(2))), [(0, 0), (4, second * 3 // 2)])
    assert pcm.size == pytest.approx(second * (1 + 0.02 + 0.12), abs=20)
    assert [mark.chars for mark in marks] == [3, 7]
    assert [mark.samples for mark in marks] == pytest.approx([second * 0.52, second * 1.02], abs=20)


def test_silence_within_a_sentence_stays() -> None:
    pcm, _ = make("one two", np.concatenate((tone(1), quiet(1), tone(1))), [(0, 0), (4, 2 * SOURCE_HZ)])
    assert pcm.size == pytest.approx(SOURCE_HZ * 3.12, abs=20)


def test_repeated_events_within_a_word_do_not_end_it() -> None:
    events = [(0, 0), (1, 3000), (2, 6000), (2, 9000), (2, 12_000), (7, 15_000)]
    _, marks = make("$42.50 now", tone(1), events)
    assert [mark.chars for mark in marks] == [6, 10]
    assert [mark.samples for mark in marks] == pytest.approx([15_000, SOURCE_HZ], abs=20)


def test_words_without_an_event_end_with_the_word_before() -> None:
    _, marks = make("one — two", tone(1), [(0, 0), (6, 10_000)])
    assert marks[:2] == [Mark(3, 10_000), Mark(5, 10_000)]


def test_events_that_go_back_are_ignored() -> None:
    _, marks = make("one two three", tone(1), [(0, 0), (8, 5000), (0, 6000), (4, 7000)])
    assert [mark.chars for mark in marks] == [3, 7, 13]
    assert [mark.samples for mark in marks] == sorted(mark.samples for mark in marks)


def test_a_sentence_of_silence_has_its_mark() -> None:
    pcm, marks = make("...", quiet(0.5), [])
    assert marks == [Mark(3, 0)]
    assert pcm.size == SOURCE_HZ * PAUSE_MS // 1000


def test_control_characters_become_spaces_in_their_places() -> None:
    assert plain("a\x01b\x00\n\u0085c\ud800d é😀") == "a b   c d é😀"


def test_frames_survive_any_cut() -> None:
    sent = [Frame(1, 7, b"abc"), Frame(255, 0, b""), Frame(0, 0xFFFF_FFFF, bytes(range(256)) * 20)]
    data = b"".join(pack(*frame) for frame in sent)
    for step in (1, 2, 7, 64, len(data)):
        frames = Frames()
        got = [frame for start in range(0, len(data), step) for frame in frames.feed(data[start : start + step])]
        assert got == sent


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError):
        list(Frames().feed(b"\xff\xff\xff\xff\x01\x00\x00\x00\x00"))
