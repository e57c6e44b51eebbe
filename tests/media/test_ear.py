import numpy as np
import pytest

from media.audio import Pcm, silence
from media.ear import GAP_MS, MAX_UTTERANCE_MS, OFFSET_MS, PAUSE_FRAMES, PRE_ROLL_MS, Ear
from media.silero import CHUNK_SAMPLES, Silero
from media.vad import VOICE_CHUNKS, VOICE_PROBABILITY, Vad, VoiceCheck
from tests.media.sounds import loud_tone, noise, speech


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


def test_a_stretch_remembers_nothing_of_the_last_one() -> None:
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


@pytest.mark.parametrize("first", [320, 3520])
def test_a_voice_is_known_with_its_third_chunk_however_it_comes(first: int) -> None:
    sound = np.concatenate([noise(16000, 160, 300), speech("hello there", 16000)])
    whole = sound[: len(sound) - len(sound) % CHUNK_SAMPLES]
    voice = np.flatnonzero(Silero().hear(whole) >= VOICE_PROBABILITY)
    known = (voice[VOICE_CHUNKS - 1] + 1) * CHUNK_SAMPLES
    check = VoiceCheck(16000)
    check.begin()
    at = 0
    while not check.feed(sound[at : at + (320 if at else first)]):
        at += 320 if at else first
    assert at < known <= at + (320 if at else first)


def test_stretches_at_the_same_time_know_nothing_of_each_other() -> None:
    hiss, words = noise(16000, 1000, 3000), speech("hello there", 16000)
    lines = [(VoiceCheck(16000), sound) for sound in (hiss, words, hiss, words)]
    for check, _ in lines:
        check.begin()
    for start in range(0, min(len(hiss), len(words)), 320):
        for check, sound in lines:
            check.feed(sound[start : start + 320])
    assert [check.voice for check, _ in lines] == [False, True, False, True]


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
