import random
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from app.providers.espeak import EspeakTts
from media import opus
from media.answerer import GAP_MS, Answerer, AnswererLimits, Verdict
from media.audio import FRAME_MS, Pcm, frame_samples, pcm_to_ulaw, silence, ulaw_to_pcm
from tests.bench.answerer import Call, Make, Result, Speaker, hear, matched, person, signals, through_line, voicemail

RATES_HZ = (8000, 16000)
LIMITS = AnswererLimits()
VOICE = "en-us+m3"


def beep(rate_hz: int, hz: float, duration_ms: int, level: float = 0.3) -> Pcm:
    return chord(rate_hz, (hz,), duration_ms, level)


def chord(rate_hz: int, hz: Sequence[float], duration_ms: int, level: float = 0.3) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    sound = np.sum([np.sin(2 * np.pi * each * at) for each in hz], axis=0) * level / len(hz)
    return np.asarray(sound * 32767).astype(np.int16)


def noise(rate_hz: int, duration_ms: int, level: float) -> Pcm:
    samples = np.random.default_rng(5).standard_normal(rate_hz * duration_ms // 1000) * level
    return samples.clip(-32768, 32767).astype(np.int16)


def verdicts(answerer: Answerer, pcm: Pcm, rate_hz: int, start_ms: int = 0) -> list[tuple[Verdict, int]]:
    size = frame_samples(rate_hz)
    found = []
    for at in range(0, len(pcm) - size + 1, size):
        now_ms = start_ms + (at + size) * 1000 // rate_hz
        verdict = answerer.feed(pcm[at : at + size], now_ms)
        if verdict:
            found.append((verdict, now_ms))
    return found


@pytest.fixture
async def speaker() -> AsyncIterator[Speaker]:
    tts = EspeakTts()
    await tts.start()
    yield Speaker(tts)
    await tts.stop()


async def said(speaker: Speaker, *parts: str | int) -> Pcm:
    """At 16 kHz: words, and milliseconds of silence."""
    call = Call("", machine=False)
    for part in parts:
        if isinstance(part, int):
            call.wait(part)
        else:
            call.add(await speaker.say(part, VOICE, 160))
    return (call.sound * 9000).astype(np.int16)


# Who it is


async def test_a_short_greeting_and_silence_are_a_person(speaker: Speaker) -> None:
    greeting = await said(speaker, 400, "Hello?")
    found = verdicts(Answerer(16000), np.concatenate((greeting, silence(16000, 4000))), 16000)
    assert [verdict for verdict, _ in found] == [Verdict.human]
    assert found[0][1] - len(greeting) // 16 <= 1200


async def test_long_speech_is_a_machine_before_it_has_ended(speaker: Speaker) -> None:
    words = "The person you are calling is not available. Please leave a message after the tone, or call again later."
    greeting = await said(speaker, 400, words)
    answerer = Answerer(16000)
    found = verdicts(answerer, greeting, 16000)
    assert [verdict for verdict, _ in found] == [Verdict.machine]
    assert found[0][1] <= 400 + LIMITS.greeting_ms + 100
    assert answerer.decided is Verdict.machine


async def test_sentences_with_a_pause_between_them_are_a_machine_sooner(speaker: Speaker) -> None:
    pcm = await said(speaker, 300, "You have reached my mailbox.", 700, "I am not able to answer you at the moment.")
    found = verdicts(Answerer(16000), pcm, 16000)
    assert [verdict for verdict, _ in found] == [Verdict.machine]
    assert found[0][1] < 300 + LIMITS.greeting_ms


async def test_a_beep_puts_right_what_was_taken_for_a_person(speaker: Speaker) -> None:
    greeting = await said(speaker, 400, "Leave a message.", 2500)
    answerer = Answerer(16000)
    pcm = np.concatenate((greeting, beep(16000, 1000, 400), silence(16000, 1000)))
    assert [verdict for verdict, _ in verdicts(answerer, pcm, 16000)] == [Verdict.human, Verdict.beep]
    assert answerer.decided is Verdict.machine


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_silence_is_told_once_and_at_its_time(rate_hz: int) -> None:
    found = verdicts(Answerer(rate_hz), silence(rate_hz, 20_000), rate_hz)
    assert found == [(Verdict.silence, LIMITS.silence_ms)]


async def test_time_is_up_while_they_speak_now_and_then(speaker: Speaker) -> None:
    limits = AnswererLimits(greeting_ms=60_000, paused_ms=60_000, analysis_ms=5000)
    pcm = await said(speaker, 300, *("Hello there.", 600) * 8)
    assert verdicts(Answerer(16000, limits), pcm, 16000) == [(Verdict.unsure, 5000)]


def test_a_click_is_no_word() -> None:
    click = np.concatenate((silence(8000, 1000), noise(8000, 10, 9000), silence(8000, 8000)))
    assert [verdict for verdict, _ in verdicts(Answerer(8000), click, 8000)] == [Verdict.silence]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("level", [20, 300, 3000])
def test_noise_is_no_machine(rate_hz: int, level: float) -> None:
    found = verdicts(Answerer(rate_hz), noise(rate_hz, 20_000, level), rate_hz)
    assert len(found) == 1
    assert found[0][0] in (Verdict.silence, Verdict.human)


# The beep


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("hz", [320, 440, 697, 1000, 1399, 1777, 2450])
@pytest.mark.parametrize("duration_ms", [120, 333, 3000])
def test_a_beep_is_told_soon_after_its_end(rate_hz: int, hz: float, duration_ms: int) -> None:
    for shift_ms in (0, 7, 13):
        start = silence(rate_hz, 500 + shift_ms)
        pcm = np.concatenate((start, beep(rate_hz, hz, duration_ms), silence(rate_hz, 400)))
        pcm = ulaw_to_pcm(pcm_to_ulaw(pcm)) + noise(rate_hz, 917 + shift_ms + duration_ms, 200)[: len(pcm)]
        answerer = Answerer(rate_hz)
        found = verdicts(answerer, pcm, rate_hz)
        assert [verdict for verdict, _ in found] == [Verdict.beep]
        assert 0 <= found[0][1] - (500 + shift_ms + duration_ms) <= 140
        assert answerer.decided is Verdict.machine


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(
    "hz",
    [(425,), (400,), (450,), (2100,), (440, 480), (480, 620), (350, 440), (400, 450), (697, 1209), (941, 1633),
     (250,), (2700,), (440, 880, 1320)],
)  # fmt: skip
def test_signals_are_no_beeps(rate_hz: int, hz: tuple[float, ...]) -> None:
    for duration_ms in (150, 500, 2000):
        pcm = np.concatenate((silence(rate_hz, 500), chord(rate_hz, hz, duration_ms), silence(rate_hz, 900)))
        assert Verdict.beep not in [verdict for verdict, _ in verdicts(Answerer(rate_hz), pcm, rate_hz)]


@pytest.mark.parametrize("gap_ms", [0, 10, 30])
@pytest.mark.parametrize("hz", [(950, 1400, 1800), (985, 1371, 1777), (523, 659, 784, 523)])
def test_tones_in_a_row_are_no_beep(hz: tuple[float, ...], gap_ms: int) -> None:
    notes = [part for each in hz for part in (beep(8000, each, 330), silence(8000, gap_ms))]
    pcm = np.concatenate((silence(8000, 500), *notes, silence(8000, 1000)))
    assert Verdict.beep not in [verdict for verdict, _ in verdicts(Answerer(8000), pcm, 8000)]


@pytest.mark.parametrize("duration_ms", [60, LIMITS.beep_max_ms + 500])
def test_a_tone_too_short_or_too_long_is_no_beep(duration_ms: int) -> None:
    pcm = np.concatenate((silence(8000, 300), beep(8000, 1000, duration_ms), silence(8000, 600)))
    assert Verdict.beep not in [verdict for verdict, _ in verdicts(Answerer(8000), pcm, 8000)]


def test_a_gliding_tone_is_no_beep() -> None:
    at = np.arange(8000) / 8000
    glide = (9000 * np.sin(2 * np.pi * (600 * at + 500 * at * at))).astype(np.int16)
    pcm = np.concatenate((silence(8000, 300), glide, silence(8000, 600)))
    assert verdicts(Answerer(8000), pcm, 8000) == []


def test_every_beep_is_told() -> None:
    one = np.concatenate((beep(8000, 1000, 300), silence(8000, 700)))
    found = verdicts(Answerer(8000), np.concatenate((one, one, one)), 8000)
    assert [verdict for verdict, _ in found] == [Verdict.beep] * 3


def test_a_tone_is_no_greeting() -> None:
    pcm = np.concatenate((silence(8000, 300), beep(8000, 425, 1000), silence(8000, 6000)))
    assert verdicts(Answerer(8000), pcm, 8000) == [(Verdict.silence, LIMITS.silence_ms)]


def test_a_clipped_beep_is_one_while_it_is_mostly_one_tone() -> None:
    pcm = (beep(8000, 1000, 400, 0.9).astype(np.int32) * 5 // 4).clip(-32768, 32767).astype(np.int16)
    found = verdicts(Answerer(8000), np.concatenate((pcm, silence(8000, 400))), 8000)
    assert [verdict for verdict, _ in found] == [Verdict.beep]


# What comes in


async def test_any_length_gives_the_same_verdict(speaker: Speaker) -> None:
    pcm = np.concatenate((await said(speaker, 400, "Hello?"), silence(16000, 3000)))
    rng = random.Random(3)
    answerer, at, found = Answerer(16000), 0, []
    while at < len(pcm):
        size = rng.choice((0, 1, 7, 160, 319, 321, 1000))
        verdict = answerer.feed(pcm[at : at + size], min(at + size, len(pcm)) // 16)
        at += size
        if verdict:
            found.append(verdict)
    assert found == [Verdict.human]


async def test_a_whole_call_at_once_gives_the_latest(speaker: Speaker) -> None:
    greeting = await said(speaker, 400, "Leave a message.", 2500)
    pcm = np.concatenate((greeting, beep(16000, 1000, 400), silence(16000, 1000)))
    assert Answerer(16000).feed(pcm, len(pcm) // 16) is Verdict.beep


def test_nothing_ever_comes() -> None:
    answerer = Answerer(8000)
    found = [(now_ms, answerer.tick(now_ms)) for now_ms in range(70, 20_000, 70)]
    told = [(now_ms, verdict) for now_ms, verdict in found if verdict]
    assert [verdict for _, verdict in told] == [Verdict.silence]
    assert 0 <= told[0][0] - 70 - LIMITS.silence_ms <= GAP_MS + 70


async def test_a_greeting_after_which_no_audio_comes_is_a_person(speaker: Speaker) -> None:
    greeting = await said(speaker, 400, "Hello?")
    answerer = Answerer(16000)
    assert verdicts(answerer, greeting, 16000) == []
    end_ms = len(greeting) // 16
    told = [verdict for now_ms in range(end_ms, end_ms + 2000, 50) if (verdict := answerer.tick(now_ms))]
    assert told == [Verdict.human]


async def test_a_clock_put_back_changes_nothing(speaker: Speaker) -> None:
    pcm = np.concatenate((await said(speaker, 400, "Hello?"), silence(16000, 3000)))
    size = frame_samples(16000)
    answerer, found = Answerer(16000), []
    for number, at in enumerate(range(0, len(pcm) - size + 1, size)):
        now_ms = number * FRAME_MS - (1_000_000 if number > 25 else 0)
        found += [verdict] if (verdict := answerer.feed(pcm[at : at + size], now_ms)) else []
    assert found == [Verdict.human]


def test_a_clock_that_leaps_is_a_long_silence() -> None:
    answerer = Answerer(8000)
    answerer.feed(silence(8000, 20), 20)
    assert answerer.feed(silence(8000, 20), 10**12) is Verdict.silence
    assert answerer.tick(2 * 10**12) is None


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_extreme_samples_are_borne(rate_hz: int) -> None:
    size = rate_hz * 3
    square = np.where(np.arange(size) % 16 < 8, 32767, -32768).astype(np.int16)
    for pcm in (np.full(size, -32768, np.int16), square, noise(rate_hz, 3000, 60_000), np.zeros(0, np.int16)):
        answerer = Answerer(rate_hz)
        answerer.feed(pcm, 3000)
        assert answerer.tick(60_000) is None or answerer.decided is not None


def test_other_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="44100"):
        Answerer(44100)


# Against a small part of the corpus that the bench makes


async def heard(make: Make, speaker: Speaker, count: int) -> list[Result]:
    results = []
    for number in range(count):
        rng = random.Random(f"tests {make.__name__} {number}")
        call = await make(rng, speaker)
        results.append(hear(call, through_line(rng, call), [0.0, 0.0]))
    return results


@pytest.mark.skipif(not opus.available(), reason="no libopus here")
async def test_errors_are_rare_in_a_fixed_part_of_the_corpus(speaker: Speaker) -> None:
    people = await heard(person, speaker, 30)
    machines = await heard(voicemail, speaker, 30)
    others = await heard(signals, speaker, 10)
    assert sum(result.said != "human" for result in people) <= 1
    assert sum(result.said in ("human", "unsure", "silence") for result in machines) <= 4
    beeps = sum(len(result.call.beep_ends_ms) for result in machines)
    assert beeps - sum(len(matched(result)[0]) for result in machines) <= 1
    assert sum(bool(result.beeps_ms) for result in people) == 0
    assert sum(len(result.beeps_ms) for result in others) <= 1
