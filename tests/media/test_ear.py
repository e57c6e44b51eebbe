import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from media import vad
from media.audio import Pcm, Resampler, silence
from media.ear import GAP_MS, MAX_UTTERANCE_MS, OFFSET_MS, PAUSE_FRAMES, PRE_ROLL_MS, Ear
from media.vad import Vad, VoiceCheck

ESPEAK_RATE_HZ = 22050


class Listener:
    def __init__(self) -> None:
        self.now_ms = 0
        self.log: list[tuple[object, ...]] = []
        self.audio: dict[int, list[Pcm]] = {}
        self.pauses: list[tuple[int, int, bool]] = []

    def speech_started(self, utterance: int, now_ms: int) -> None:
        assert now_ms == self.now_ms, "in the same call"
        self.log.append(("started", utterance, now_ms))
        self.audio[utterance] = []

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        assert self.log[-1][0] != "ended"
        self.audio[utterance].append(pcm)

    def speech_confirmed(self, utterance: int) -> None:
        self.log.append(("confirmed", utterance, self.now_ms))

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        self.pauses.append((utterance, self.now_ms, on))

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        self.log.append(("ended", utterance, self.now_ms, speech_ms, voice))

    def kinds(self) -> list[object]:
        return [entry[0] for entry in self.log]


@cache
def speech(text: str, rate_hz: int) -> Pcm:
    helper = Path(__file__).with_name("synthesize.py")
    done = subprocess.run([sys.executable, str(helper), "en-us", text], capture_output=True, check=True, timeout=60)
    resampler = Resampler(ESPEAK_RATE_HZ, rate_hz, live=False)
    pcm = resampler.process(np.frombuffer(done.stdout, dtype=np.int16))
    return np.concatenate([pcm, resampler.flush()])


def noise(rate_hz: int, duration_ms: int, level: int) -> Pcm:
    samples = np.random.default_rng(7).standard_normal(rate_hz * duration_ms // 1000) * level
    return np.clip(samples, -32768, 32767).astype(np.int16)


def loud_tone(rate_hz: int, duration_ms: int, hz: float = 440) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    return (8000 * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def listen(
    pcm: Pcm, rate_hz: int, *, chunk_ms: int = 20, ear: Ear | None = None, listener: Listener | None = None
) -> Listener:
    listener = listener or Listener()
    ear = ear or Ear(rate_hz, listener)
    size = rate_hz * chunk_ms // 1000
    for start in range(0, len(pcm), size):
        listener.now_ms += chunk_ms
        ear.feed(pcm[start : start + size], listener.now_ms)
    return listener


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("hiss", [0, 30])
def test_speech_is_found_confirmed_and_ended(rate_hz: int, hiss: int) -> None:
    words = speech("I would like to book an appointment", rate_hz)
    pcm = np.concatenate([silence(rate_hz, 1000), words, silence(rate_hz, 1000)])
    listener = listen(pcm + noise(rate_hz, 1000 * len(pcm) // rate_hz + 1, hiss)[: len(pcm)], rate_hz)
    assert listener.kinds() == ["started", "confirmed", "ended"]
    words_ms = 1000 * len(words) // rate_hz
    (_, _, started_ms), (_, _, confirmed_ms), (_, _, ended_ms, speech_ms, voice) = listener.log
    assert 1000 < started_ms <= 1160  # type: ignore[operator]  # numbers, in a log of everything
    assert confirmed_ms <= started_ms + 300  # type: ignore[operator]
    assert abs(ended_ms - (1000 + words_ms + OFFSET_MS)) <= 150  # type: ignore[operator]
    assert abs(speech_ms - words_ms) <= 200  # type: ignore[operator]
    assert voice


def test_an_utterance_begins_with_its_pre_roll_and_has_every_sample_once() -> None:
    rate_hz = 16000
    pcm = np.concatenate([noise(rate_hz, 1000, 2), speech("yes", rate_hz), noise(rate_hz, 600, 2)])
    listener = listen(pcm, rate_hz)
    assert listener.kinds()[0] == "started"
    heard = np.concatenate(listener.audio[1])
    started = int(listener.log[0][2]) * rate_hz // 1000  # type: ignore[call-overload]
    begin = started - PRE_ROLL_MS * rate_hz // 1000
    assert (heard == pcm[begin : begin + len(heard)]).all()


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("kind", ["noise", "tone", "keys"])
def test_noise_is_never_a_voice(rate_hz: int, kind: str) -> None:
    sound = {
        "noise": noise(rate_hz, 800, 4000),
        "tone": loud_tone(rate_hz, 800),
        "keys": loud_tone(rate_hz, 800, 770) // 2 + loud_tone(rate_hz, 800, 1336) // 2,
    }[kind]
    listener = listen(np.concatenate([silence(rate_hz, 500), sound, silence(rate_hz, 800)]), rate_hz)
    assert "confirmed" not in listener.kinds()
    assert listener.kinds().count("started") == listener.kinds().count("ended")
    assert all(entry[-1] is False for entry in listener.log if entry[0] == "ended")


def test_silence_a_quiet_line_and_clicks_are_nothing() -> None:
    rate_hz = 8000
    clicks = silence(rate_hz, 3000)
    clicks[:: rate_hz // 2] = 20_000
    for pcm in (silence(rate_hz, 3000), noise(rate_hz, 3000, 40), noise(rate_hz, 3000, 200), clicks):
        assert listen(pcm, rate_hz).log == []


def test_the_length_of_what_comes_does_not_matter() -> None:
    rate_hz = 8000
    pcm = np.concatenate([silence(rate_hz, 400), speech("hello there", rate_hz), silence(rate_hz, 600)])
    usual = listen(pcm, rate_hz)
    for chunk_ms in (5, 30, 200):
        other = listen(pcm, rate_hz, chunk_ms=chunk_ms)
        assert other.kinds() == usual.kinds()
        assert (np.concatenate(other.audio[1]) == np.concatenate(usual.audio[1])).all()


def test_frames_that_stop_coming_end_the_utterance_by_the_clock() -> None:
    rate_hz = 16000
    listener = Listener()
    ear = Ear(rate_hz, listener)
    listen(loud_tone(rate_hz, 200), rate_hz, ear=ear, listener=listener)
    assert listener.kinds() == ["started"]
    fed_ms = listener.now_ms
    limit_ms = max(GAP_MS, OFFSET_MS)
    ear.tick(fed_ms + limit_ms - 1)
    assert ear.speaking
    ear.tick(fed_ms + limit_ms)
    ear.tick(fed_ms + limit_ms + 20)
    assert listener.kinds() == ["started", "ended"]


def test_the_silence_that_ends_an_utterance_can_be_set() -> None:
    rate_hz = 8000
    pcm = np.concatenate(
        [loud_tone(rate_hz, 200), silence(rate_hz, 400), loud_tone(rate_hz, 200), silence(rate_hz, 900)]
    )
    for offset_ms, count in ((240, 2), (800, 1)):
        listener = Listener()
        ear = Ear(rate_hz, listener)
        ear.offset_ms = offset_ms
        listen(pcm, rate_hz, ear=ear, listener=listener)
        assert listener.kinds().count("ended") == count


def test_an_endless_utterance_is_cut_into_pieces_that_lose_nothing() -> None:
    rate_hz = 8000
    at = np.arange(rate_hz * 35) / rate_hz
    pcm = (9000 * np.sin(2 * np.pi * 300 * at) * (0.2 + (np.mod(at, 1) < 0.85))).astype(np.int16)
    listener = listen(pcm, rate_hz)
    assert listener.kinds()[:3] == ["started", "ended", "started"]
    first = np.concatenate(listener.audio[1])
    second = np.concatenate(listener.audio[2])
    assert len(first) <= (MAX_UTTERANCE_MS + PRE_ROLL_MS) * rate_hz // 1000
    whole = np.concatenate([first, second])
    assert (whole == pcm[: len(whole)]).all()


def test_a_flood_is_dropped_and_counted() -> None:
    rate_hz = 8000
    listener = Listener()
    ear = Ear(rate_hz, listener)
    ear.feed(noise(rate_hz, 10_000, 10), 1000)
    assert ear.dropped_frames == 450, "a burst of 1 s is admitted"
    ear.feed(noise(rate_hz, 1000, 10), 1100)
    assert ear.dropped_frames == 490, "and then twice real time"
    ear.feed(noise(rate_hz, 1000, 10), 3000)
    assert ear.dropped_frames == 490


def test_time_that_goes_back_earns_nothing() -> None:
    ear = Ear(8000, Listener())
    ear.feed(noise(8000, 1000, 10), 1000)
    ear.feed(noise(8000, 20, 10), 500)
    assert ear.dropped_frames == 1


def test_stop_ends_what_is_open_once() -> None:
    listener = Listener()
    ear = Ear(8000, listener)
    listen(loud_tone(8000, 200), 8000, ear=ear, listener=listener)
    ear.stop()
    ear.stop()
    assert listener.kinds() == ["started", "ended"]


def test_a_detector_that_was_lent_remembers_nothing_of_the_last_stretch() -> None:
    words = speech("hello there", 16000)
    check = VoiceCheck(16000)
    for _ in range(2):
        check.begin()
        assert not check.feed(silence(16000, 300))
        assert check.feed(words)
        assert check.feed(words), "it stays decided"
    check.begin()
    assert not check.feed(noise(16000, 1000, 3000))
    check.end()
    check.end()
    assert not check.feed(words), "between stretches it hears nothing"


def test_only_the_rates_of_the_detectors_are_admitted() -> None:
    for rate_hz in (11025, 24000, 48000):
        with pytest.raises(ValueError, match="no voice detection"):
            Vad(rate_hz)
        with pytest.raises(ValueError, match="no voice detection"):
            VoiceCheck(rate_hz)


@pytest.fixture
def few_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "MAX_DETECTORS", 2)
    monkeypatch.setattr(vad, "_detectors", vad._Detectors())


def feed(check: VoiceCheck, pcm: Pcm) -> bool:
    for start in range(0, len(pcm), 320):
        check.feed(pcm[start : start + 320])
    return check.voice


def test_lines_full_of_noise_keep_no_voice_waiting(few_detectors: None) -> None:
    hiss, words = noise(16000, 300, 3000), speech("hello there", 16000)
    noisy = [VoiceCheck(16000) for _ in range(5)]
    for check in noisy:
        check.begin()
        assert not check.feed(hiss)
    voice = VoiceCheck(16000)
    voice.begin()
    assert voice.feed(np.concatenate([hiss, words]))
    for check in noisy:
        check.end()


def test_a_stretch_that_waits_for_a_detector_is_heard_once_there_is_one(few_detectors: None) -> None:
    hiss, words = noise(16000, 300, 3000), speech("hello there", 16000)
    holds, waits = VoiceCheck(16000), VoiceCheck(16000)
    for check in (holds, waits):
        check.begin()
        assert not check.feed(hiss)
    assert not feed(waits, words)
    holds.end()
    assert feed(waits, noise(16000, 60, 30)), "by what it said while it waited"


def test_a_leg_that_breaks_gives_its_detector_back(few_detectors: None) -> None:
    for _ in range(10):
        broken = VoiceCheck(16000)
        broken.begin()
        broken.feed(noise(16000, 300, 3000))
        del broken
    check = VoiceCheck(16000)
    check.begin()
    assert check.feed(speech("hello there", 16000))


def test_nobody_keeps_a_detector_for_ever(few_detectors: None) -> None:
    hiss = noise(16000, 4000, 3000)
    words = np.resize(speech("hello there, who is speaking", 16000), len(hiss))
    holds, waits = VoiceCheck(16000), VoiceCheck(16000)
    for check in (holds, waits):
        check.begin()
        assert not check.feed(hiss[:4800])
    for start in range(0, len(hiss), 320):
        holds.feed(hiss[start : start + 320])
        waits.feed(words[start : start + 320])
    assert waits.voice
    assert not holds.voice


def test_a_pause_is_told_and_its_end_as_well() -> None:
    rate_hz = 16000
    word = speech("yes", rate_hz)
    pcm = np.concatenate([silence(rate_hz, 500), word, silence(rate_hz, 160), word, silence(rate_hz, 600)])
    listener = listen(pcm + noise(rate_hz, 5000, 3)[: len(pcm)], rate_hz)
    assert listener.kinds() == ["started", "confirmed", "ended"]
    (_, _, ended_ms, _, _) = listener.log[-1]
    told = [on for _, _, on in listener.pauses]
    assert told[:2] == [True, False]
    assert told[-1] is True
    assert told == [at % 2 == 0 for at in range(len(told))], "on and off by turns"
    assert listener.pauses[-1][1] == int(str(ended_ms)) - OFFSET_MS + PAUSE_FRAMES * 20
