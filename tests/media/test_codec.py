"""What every codec owes its leg; G.711, and what is made up where nothing came."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.audio import FULL_SCALE, Pcm, dbfs, frame_samples, silence
from media.codec import (
    FADE_MS,
    MAX_NOISE_DBFS,
    NOISE_START_DBFS,
    Codec,
    ComfortNoise,
    Concealer,
    PayloadError,
    Pcma,
    Pcmu,
)
from media.opus import Opus

CODECS: tuple[Callable[[], Codec], ...] = (Pcmu, Pcma, Opus)
G711: tuple[Callable[[], Codec], ...] = (Pcmu, Pcma)
FADE_FRAMES = FADE_MS // 20
CORNER = 500  # change of slope in one sample that is not a click yet


def voice(rate_hz: int, duration_ms: int, pitch_hz: float = 120, level: float = 3000) -> Pcm:
    """Harmonics of a pitch that moves, in syllables of 200 ms."""
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    phase = 2 * np.pi * np.cumsum(pitch_hz + 15 * np.sin(2 * np.pi * 2 * at)) / rate_hz
    sound = sum((np.sin(number * phase) / number for number in range(1, 25)), np.zeros(len(at)))
    return np.asarray(sound * np.clip(np.sin(2 * np.pi * 2.5 * at), 0.02, 1) * level, dtype=np.int16)


def tone(rate_hz: int, hz: float, duration_ms: int, level: float = 8000) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    return np.asarray(level * np.sin(2 * np.pi * hz * at), dtype=np.int16)


def noise(samples: int, level_dbfs: float, seed: int = 5) -> Pcm:
    level = FULL_SCALE * 10 ** (level_dbfs / 20)
    return np.asarray(np.random.default_rng(seed).standard_normal(samples) * level, dtype=np.int16)


def frames(pcm: Pcm, codec: Codec) -> list[Pcm]:
    size = frame_samples(codec.rate_hz)
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def feed(codec: Codec, pcm: Pcm) -> Pcm:
    return np.concatenate([codec.decode(codec.encode(frame)) for frame in frames(pcm, codec)])


def likeness(one: Pcm, other: Pcm) -> float:
    return float(np.corrcoef(one.astype(np.float64), other.astype(np.float64))[0, 1])


@pytest.mark.parametrize("make", CODECS)
def test_a_frame_in_is_a_frame_out(make: Callable[[], Codec]) -> None:
    codec = make()
    for frame in frames(voice(codec.rate_hz, 200), codec):
        heard = codec.decode(codec.encode(frame))
        assert heard.dtype == np.int16
        assert heard.shape == frame.shape


@pytest.mark.parametrize("make", CODECS)
def test_what_was_decoded_stays_as_it_is(make: Callable[[], Codec]) -> None:
    codec = make()
    kept = [codec.decode(codec.encode(frame)) for frame in frames(voice(codec.rate_hz, 200), codec)]
    before = [frame.copy() for frame in kept]
    feed(codec, noise(codec.rate_hz, -10))
    codec.conceal()
    assert all((one == other).all() for one, other in zip(kept, before, strict=True))


@pytest.mark.parametrize("make", CODECS)
def test_concealment_goes_on_and_then_fades_to_almost_nothing(make: Callable[[], Codec]) -> None:
    codec = make()
    level_dbfs = dbfs(feed(codec, voice(codec.rate_hz, 520))[-frame_samples(codec.rate_hz) :])
    made = [codec.conceal() for _ in range(100)]
    assert all(len(frame) == frame_samples(codec.rate_hz) for frame in made)
    assert level_dbfs - 12 < dbfs(made[0]) < level_dbfs + 3
    assert all(dbfs(frame) < level_dbfs + 3 for frame in made)
    assert all(dbfs(frame) < MAX_NOISE_DBFS + 1 for frame in made[5:])


@pytest.mark.parametrize("make", CODECS)
def test_concealing_before_anything_came_is_quiet(make: Callable[[], Codec]) -> None:
    codec = make()
    assert all(dbfs(codec.conceal()) < NOISE_START_DBFS + 2 for _ in range(10))


@pytest.mark.parametrize("make", CODECS)
def test_after_a_loss_the_voice_is_soon_as_it_would_have_been(make: Callable[[], Codec]) -> None:
    sent, whole, holed = make(), make(), make()
    expected, heard = [], []
    for at, frame in enumerate(frames(voice(sent.rate_hz, 1000), sent)):
        payload = sent.encode(frame)
        expected.append(whole.decode(payload))
        heard.append(holed.conceal() if 5 <= at < 10 else holed.decode(payload))
    assert likeness(np.concatenate(heard[20:]), np.concatenate(expected[20:])) > 0.98


@pytest.mark.parametrize("make", CODECS)
def test_an_empty_payload_is_refused_and_does_no_harm(make: Callable[[], Codec]) -> None:
    codec, other = make(), make()
    for frame in frames(voice(codec.rate_hz, 200), codec):
        payload = other.encode(frame)
        with pytest.raises(PayloadError):
            codec.decode(b"")
        assert codec.recover(b"") is None
        assert (codec.decode(payload) == other.decode(payload)).all()


@pytest.mark.parametrize("make", CODECS)
def test_a_reset_codec_is_as_new(make: Callable[[], Codec]) -> None:
    used, new = make(), make()
    feed(used, noise(used.rate_hz, -15))
    used.conceal()
    used.reset()
    for frame in frames(voice(new.rate_hz, 300), new):
        payload = new.encode(frame)
        assert used.encode(frame) == payload
        assert (used.decode(payload) == new.decode(payload)).all()
    assert (used.conceal() == new.conceal()).all()


@pytest.mark.parametrize("make", G711)
@pytest.mark.parametrize("sound", [voice(8000, 1000), tone(8000, 440, 1000), noise(8000, -25)])
def test_g711_keeps_speech_tones_and_noise(make: Callable[[], Codec], sound: Pcm) -> None:
    heard = feed(make(), sound).astype(np.float64)
    error = heard - sound
    assert 10 * np.log10(np.mean(heard**2) / np.mean(error**2)) > 33


@pytest.mark.parametrize("make", G711)
def test_a_g711_packet_is_up_to_200_ms_of_any_bytes(make: Callable[[], Codec]) -> None:
    codec = make()
    every = bytes(range(256))
    assert len(codec.decode(every)) == 256
    assert len(codec.decode(b"\x55")) == 1
    assert len(codec.decode(bytes(1600))) == 1600
    with pytest.raises(PayloadError):
        codec.decode(bytes(1601))
    assert codec.recover(every) is None


@pytest.mark.parametrize("pitch_hz", [80, 120, 230, 380])
def test_one_lost_frame_of_a_steady_voice_is_hardly_heard(pitch_hz: float) -> None:
    """The pitch goes on in phase, so what was made up is like what was lost."""
    codec = Pcmu()
    sound = sum((tone(8000, pitch_hz * number, 400, 6000 / number) for number in range(1, 6)), np.zeros(3200, np.int16))
    at = 10 * 160
    feed(codec, sound[:at])
    assert likeness(codec.conceal(), sound[at : at + 160]) > 0.9


@pytest.mark.parametrize("lost", [1, 2, 4])
@pytest.mark.parametrize("pitch_hz", [90, 131, 217])
def test_no_seam_clicks(lost: int, pitch_hz: float) -> None:
    """Of a smooth tone that swells and ebbs, nothing made up has a corner."""
    at = np.arange(16 * 160) / 8000
    sound = np.asarray(4000 * np.sin(2 * np.pi * pitch_hz * at) * np.exp(np.sin(2 * np.pi * 4 * at)), dtype=np.int16)
    pieces = [sound[start : start + 160] for start in range(0, len(sound), 160)]
    for first in range(3, 12):
        concealer = Concealer(8000)
        gap = range(first, first + lost)
        played = [concealer.conceal() if number in gap else concealer.heard(pcm) for number, pcm in enumerate(pieces)]
        corners = np.abs(np.diff(np.concatenate(played).astype(np.int32), 2))
        assert corners.max() < CORNER


@pytest.mark.parametrize("level_dbfs", [-70.0, -60.0, -50.0])
def test_comfort_noise_is_as_loud_as_the_callers_pauses(level_dbfs: float) -> None:
    codec = Pcmu()
    sound = noise(16_000, level_dbfs)
    sound[:8000] += voice(8000, 1000)
    feed(codec, sound)
    for _ in range(FADE_FRAMES):
        codec.conceal()
    made = np.concatenate([codec.conceal() for _ in range(50)])
    assert abs(dbfs(made) - dbfs(feed(Pcmu(), sound[8000:]))) < 3


def test_a_loud_caller_does_not_make_the_noise_loud() -> None:
    comfort = ComfortNoise(8000)
    for _ in range(3000):
        comfort.heard(noise(160, -6))
    assert abs(dbfs(comfort.make(4000).astype(np.int16)) - MAX_NOISE_DBFS) < 1


def test_after_digital_silence_there_is_silence() -> None:
    codec = Pcmu()
    feed(codec, silence(8000, 200))
    assert max(np.abs(codec.conceal()).max() for _ in range(10)) <= 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.binary(min_size=1, max_size=400), max_size=20), st.sampled_from(G711))
def test_any_bytes_and_losses_give_samples(story: list[bytes | None], make: Callable[[], Codec]) -> None:
    codec = make()
    for payload in story:
        if payload is None:
            assert len(codec.conceal()) == 160
        else:
            assert len(codec.decode(payload)) == len(payload)
