"""G.722: wideband kept, always 22 samples late, packets of any length; the bytes another implementation makes."""

import ctypes
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.audio import FULL_SCALE, Pcm, dbfs
from media.codec import MAX_NOISE_DBFS, NOISE_START_DBFS, PayloadError
from media.g722 import G722
from tests.conftest import REQUIRE_ALL

RATE_HZ = 16_000
FRAME = 320
DELAY = 22  # samples, of the two filter banks
MOST_BYTES = 1600  # 200 ms


def tone(hz: float, duration_ms: int, level: float = 8000) -> Pcm:
    at = np.arange(16 * duration_ms) / RATE_HZ
    return np.asarray(level * np.sin(2 * np.pi * hz * at), dtype=np.int16)


def voice(duration_ms: int, level: float = 3000) -> Pcm:
    """Harmonics of a pitch that moves, up to 4 kHz, in syllables of 200 ms."""
    at = np.arange(16 * duration_ms) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 2 * at)) / RATE_HZ
    sound = sum((np.sin(number * phase) / number for number in range(1, 30)), np.zeros(len(at)))
    return np.asarray(sound * np.clip(np.sin(2 * np.pi * 2.5 * at), 0.02, 1) * level, dtype=np.int16)


def noise(duration_ms: int, level: float = 3000) -> Pcm:
    return np.asarray(np.random.default_rng(3).standard_normal(16 * duration_ms) * level, dtype=np.int16)


def frames(pcm: Pcm) -> list[Pcm]:
    return [pcm[at : at + FRAME] for at in range(0, len(pcm) - FRAME + 1, FRAME)]


def encoded(pcm: Pcm) -> list[bytes]:
    codec = G722()
    return [codec.encode(frame) for frame in frames(pcm)]


def decoded(payloads: list[bytes]) -> Pcm:
    codec = G722()
    return np.concatenate([codec.decode(payload) for payload in payloads])


def ratio_db(heard: Pcm, sent: Pcm, delay: int = DELAY) -> float:
    """Of the signal to what is wrong with it."""
    expected = sent[: len(sent) - delay].astype(np.float64)
    error = heard[delay : len(sent)] - expected
    return float(10 * np.log10(np.mean(expected**2) / np.mean(error**2)))


def test_what_sdp_says_of_it() -> None:
    assert (G722.name, G722.rate_hz, G722.clock_hz, G722.bytes_per_ms) == ("G722", 16_000, 8000, 8)


def test_a_frame_in_is_160_bytes_and_a_frame_out() -> None:
    codec = G722()
    for frame in frames(voice(400)):
        payload = codec.encode(frame)
        assert len(payload) == 160
        heard = codec.decode(payload)
        assert heard.dtype == np.int16
        assert heard.shape == frame.shape
        assert heard.flags.writeable


@pytest.mark.parametrize("size", [0, 1, 160, 319, 321, 640])
def test_only_frames_of_20_ms_are_encoded(size: int) -> None:
    codec, other = G722(), G722()
    with pytest.raises(ValueError, match="20 ms"):
        codec.encode(np.ones(size, np.int16))
    assert [codec.encode(frame) for frame in frames(voice(100))] == [
        other.encode(frame) for frame in frames(voice(100))
    ]


def test_what_was_encoded_or_decoded_stays_as_it_is() -> None:
    codec = G722()
    payloads = [codec.encode(frame) for frame in frames(voice(200))]
    kept = [codec.decode(payload) for payload in payloads]
    before = [frame.copy() for frame in kept]
    for frame in frames(noise(400)):
        codec.decode(codec.encode(frame))
    assert payloads == encoded(voice(200))
    assert all((one == other).all() for one, other in zip(kept, before, strict=True))


@pytest.mark.parametrize("hz", [100, 440, 1000, 3000, 5000, 6500])
def test_tones_up_to_7_khz_come_through(hz: float) -> None:
    sound = tone(hz, 1000)
    heard = decoded(encoded(sound))
    assert abs(dbfs(heard[8000:]) - dbfs(sound[8000:])) < 1
    spectrum = np.abs(np.fft.rfft(heard[8000:] * np.hanning(8000)))
    assert abs(int(spectrum.argmax()) * 2 - hz) <= 2


@pytest.mark.parametrize(("sound", "least_db"), [(tone(440, 1000), 35), (voice(2000), 15), (noise(1000), 8)])
def test_what_is_heard_is_what_was_said(sound: Pcm, least_db: float) -> None:
    assert ratio_db(decoded(encoded(sound)), sound) > least_db


def test_the_delay_does_not_drift() -> None:
    sound = np.concatenate([voice(1000), noise(200), np.zeros(FRAME * 10, np.int16)] * 20)
    heard = decoded(encoded(sound))
    assert len(heard) == len(sound)
    second = RATE_HZ
    for start in (0, len(sound) // 2, len(sound) - 2 * second):
        part = slice(start, start + 2 * second)
        best = max(range(40), key=lambda delay: ratio_db(heard[part], sound[part], delay))
        assert best == DELAY


@pytest.mark.parametrize("packet_ms", [1, 5, 10, 20, 30, 40, 60, 200])
def test_packets_of_any_length_carry_the_same_sound(packet_ms: int) -> None:
    data = b"".join(encoded(voice(1200)))
    size = 8 * packet_ms
    packets = [data[at : at + size] for at in range(0, len(data), size)]
    codec = G722()
    heard = [codec.decode(packet) for packet in packets]
    assert [len(pcm) for pcm in heard] == [2 * len(packet) for packet in packets]
    assert (np.concatenate(heard) == decoded(encoded(voice(1200)))).all()


def test_packets_cut_anywhere_carry_the_same_sound() -> None:
    data = b"".join(encoded(voice(600)))
    chance = np.random.default_rng(11)
    codec, heard, at = G722(), [], 0
    while at < len(data):
        size = int(chance.integers(1, 500))
        heard.append(codec.decode(data[at : at + size]))
        at += size
    assert (np.concatenate(heard) == decoded(encoded(voice(600)))).all()


@pytest.mark.parametrize("size", [0, MOST_BYTES + 1, 65_536])
def test_nothing_and_more_than_200_ms_are_refused_and_do_no_harm(size: int) -> None:
    codec, other = G722(), G722()
    for payload in encoded(voice(200)):
        with pytest.raises(PayloadError):
            codec.decode(bytes(size))
        assert (codec.decode(payload) == other.decode(payload)).all()
    assert len(codec.decode(bytes(MOST_BYTES))) == 2 * MOST_BYTES


def test_a_gap_goes_on_as_the_sound_did_and_fades() -> None:
    payloads, codec = encoded(tone(440, 220)), G722()
    expected = decoded(payloads)[-FRAME:]
    for payload in payloads[:-1]:
        codec.decode(payload)
    assert codec.recover(payloads[-1]) is None
    made = [codec.conceal() for _ in range(20)]
    assert all(len(frame) == FRAME for frame in made)
    assert np.corrcoef(made[0], expected)[0, 1] > 0.9
    assert all(dbfs(frame) < MAX_NOISE_DBFS + 1 for frame in made[5:])


def test_concealing_before_anything_came_is_quiet() -> None:
    codec = G722()
    assert all(dbfs(codec.conceal()) < NOISE_START_DBFS + 2 for _ in range(10))


def test_after_a_loss_the_voice_is_soon_as_it_would_have_been() -> None:
    """The decoder's state was left behind; it finds back by itself."""
    whole, holed = G722(), G722()
    expected, heard = [], []
    for at, payload in enumerate(encoded(voice(2000))):
        expected.append(whole.decode(payload))
        heard.append(holed.conceal() if 5 <= at < 10 else holed.decode(payload))
    assert ratio_db(np.concatenate(heard[20:]), np.concatenate(expected[20:]), 0) > 20


def test_a_reset_codec_is_as_new() -> None:
    used, new = G722(), G722()
    for frame in frames(noise(300)):
        used.decode(used.encode(frame))
    used.conceal()
    used.reset()
    for frame in frames(voice(300)):
        payload = new.encode(frame)
        assert used.encode(frame) == payload
        assert (used.decode(payload) == new.decode(payload)).all()
    assert (used.conceal() == new.conceal()).all()


def test_overload_clips_and_does_not_wrap() -> None:
    loud = np.asarray(np.sign(np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)) * (FULL_SCALE - 1), np.int16)
    heard = decoded(encoded(loud))
    assert np.corrcoef(heard[DELAY:], loud[:-DELAY])[0, 1] > 0.95


def test_two_codecs_share_nothing() -> None:
    one, other = G722(), G722()
    mixed = [(one.encode(a), other.encode(b)) for a, b in zip(frames(voice(300)), frames(noise(300)), strict=True)]
    assert [a for a, _ in mixed] == encoded(voice(300))
    assert [b for _, b in mixed] == encoded(noise(300))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=2000), max_size=20))
def test_any_bytes_and_losses_give_samples(story: list[bytes | None]) -> None:
    codec = G722()
    for payload in story:
        if payload is None:
            assert len(codec.conceal()) == FRAME
        elif 0 < len(payload) <= MOST_BYTES:
            assert len(codec.decode(payload)) == 2 * len(payload)
        else:
            with pytest.raises(PayloadError):
                codec.decode(payload)


class Elsewhere:
    """SpanDSP's G.722."""

    def __init__(self, library: ctypes.CDLL) -> None:
        state, number = ctypes.c_void_p, ctypes.c_int
        for begin in (library.g722_encode_init, library.g722_decode_init):
            begin.restype, begin.argtypes = state, [state, number, number]
        for end in (library.g722_encode_free, library.g722_decode_free):
            end.restype, end.argtypes = number, [state]
        for work in (library.g722_encode, library.g722_decode):
            work.restype, work.argtypes = number, [state, state, state, number]
        self._library = library
        self._encoder = library.g722_encode_init(None, 64_000, 0)
        self._decoder = library.g722_decode_init(None, 64_000, 0)

    def encode(self, pcm: Pcm) -> bytes:
        out = np.zeros(len(pcm), np.uint8)
        size = self._library.g722_encode(self._encoder, out.ctypes.data, pcm.ctypes.data, len(pcm))
        return out[:size].tobytes()

    def decode(self, payload: bytes) -> Pcm:
        data = np.frombuffer(payload, np.uint8)
        out = np.zeros(4 * len(payload), np.int16)
        size = self._library.g722_decode(self._decoder, out.ctypes.data, data.ctypes.data, len(payload))
        return out[:size]

    def close(self) -> None:
        self._library.g722_encode_free(self._encoder)
        self._library.g722_decode_free(self._decoder)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    try:
        library = ctypes.CDLL("libspandsp.so.2")
    except OSError:
        reason = "libspandsp is not installed: apt-get install libspandsp2"
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    other = Elsewhere(library)
    yield other
    other.close()


@pytest.mark.parametrize("sound", [tone(440, 1000), tone(6000, 1000), voice(2000), noise(1000)])
def test_another_implementation_agrees_to_the_bit(elsewhere: Elsewhere, sound: Pcm) -> None:
    ours = encoded(sound)
    assert b"".join(ours) == elsewhere.encode(sound)
    assert (decoded(ours) == elsewhere.decode(b"".join(ours))).all()
