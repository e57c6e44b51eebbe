"""Opus: sound kept, losses repaired, silence small, and any peer's packets, legal or not."""

import ctypes.util
import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from media import opus
from media.audio import Pcm, dbfs
from media.codec import PayloadError
from media.opus import DTX_BYTES, MAX_DECODED_MS, Opus, OpusUnavailable

FRAME = 320
MAX_DELAY = 400  # samples that a signal may come later, 25 ms


def voice(duration_ms: int, level: float = 3000) -> Pcm:
    at = np.arange(16 * duration_ms) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 2 * at)) / 16_000
    sound = sum((np.sin(number * phase) / number for number in range(1, 40)), np.zeros(len(at)))
    return np.asarray(sound * np.clip(np.sin(2 * np.pi * 2.5 * at), 0.02, 1) * level, dtype=np.int16)


def frames(pcm: Pcm) -> list[Pcm]:
    return [pcm[at : at + FRAME] for at in range(0, len(pcm) - FRAME + 1, FRAME)]


def encoded(pcm: Pcm, codec: Opus | None = None) -> list[bytes]:
    codec = codec or Opus()
    return [codec.encode(frame) for frame in frames(pcm)]


def likeness(heard: Pcm, sent: Pcm) -> float:
    """Correlation above 300 Hz, where Opus for speech leaves the phase alone, at the best delay a codec may have."""
    size = len(sent) - MAX_DELAY
    one, other = _above_300_hz(heard), _above_300_hz(sent)
    return max(float(np.corrcoef(one[delay:][:size], other[:size])[0, 1]) for delay in range(MAX_DELAY))


def _above_300_hz(pcm: Pcm) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(pcm)
    spectrum[: len(pcm) * 300 // 16_000] = 0
    return np.fft.irfft(spectrum)


def energy(pcm: Pcm) -> float:
    return float(np.sum(pcm.astype(np.float64) ** 2))


def off_by(heard: Pcm, expected: Pcm) -> float:
    """Energy of the difference."""
    return float(np.sum((heard.astype(np.float64) - expected) ** 2))


def encoded_elsewhere(frame_ms: str, channels: int, rate_hz: int = 48_000, duration_ms: int = 480) -> list[bytes]:
    """Packets of another encoder: FFmpeg's, at any legal duration."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = rate_hz
    context.layout = "stereo" if channels == 2 else "mono"
    context.format = "s16"
    context.time_base = Fraction(1, rate_hz)
    context.bit_rate = 64_000
    context.options = {"frame_duration": frame_ms}
    context.open()
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz * duration_ms // 1000) / rate_hz)).astype(np.int16)
    size = int(rate_hz * float(frame_ms) / 1000)
    packets: list[bytes] = []
    for at in range(0, len(wave) - size + 1, size):
        data = np.repeat(wave[at : at + size], channels).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, format="s16", layout=context.layout.name)
        frame.sample_rate, frame.pts = rate_hz, at
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


@pytest.mark.parametrize("loss_percent", [0, 10, 30])
def test_speech_survives(loss_percent: int) -> None:
    sound, codec = voice(1000), Opus()
    heard = np.concatenate([codec.decode(packet) for packet in encoded(sound, Opus(loss_percent=loss_percent))])
    assert likeness(heard, sound) > 0.9
    assert abs(dbfs(heard) - dbfs(sound)) < 2


def test_wideband_is_kept() -> None:
    """A tone above what a telephone carries comes through."""
    at = np.arange(16_000) / 16_000
    sound = (6000 * np.sin(2 * np.pi * 6000 * at)).astype(np.int16)
    codec = Opus()
    heard = np.concatenate([codec.decode(packet) for packet in encoded(sound)])
    spectrum = np.abs(np.fft.rfft(heard[8000:]))
    assert abs(int(spectrum.argmax()) * 2 - 6000) < 10
    assert dbfs(heard[8000:]) > dbfs(sound) - 6


def test_the_bitrate_is_kept_to() -> None:
    sound = voice(4000)
    for bitrate_bps in (12_000, 24_000, 40_000):
        sent_bps = sum(map(len, encoded(sound, Opus(bitrate_bps=bitrate_bps)))) * 8 / 4
        assert 0.3 * bitrate_bps < sent_bps < 1.15 * bitrate_bps


def test_a_lost_frame_is_recovered_out_of_the_next() -> None:
    packets = encoded(voice(3000), Opus(loss_percent=20))
    whole, repairing, concealing = Opus(), Opus(), Opus()
    error = concealed_error = 0.0
    repaired = 0
    for at, packet in enumerate(packets):
        expected = whole.decode(packet)
        lost = at % 8 == 4
        recovered = repairing.recover(packets[at + 1]) if lost and at + 1 < len(packets) else None
        if recovered is not None:
            assert len(recovered) == FRAME
            repaired += 1
            error += off_by(recovered, expected)
            concealed_error += off_by(concealing.conceal(), expected)
        else:
            repairing.decode(packet)
            concealing.decode(packet)
    assert repaired >= 6
    assert error < 0.5 * concealed_error


def test_recovering_from_a_packet_without_redundancy_gives_nothing() -> None:
    codec, packets = Opus(), encoded(voice(400), Opus(loss_percent=0))
    assert all(codec.recover(packet) is None for packet in packets)
    assert all(codec.recover(packet) is None for packet in encoded_elsewhere("2.5", 2))


def test_more_expected_loss_means_more_redundancy() -> None:
    sound = voice(2000)
    codec = Opus(loss_percent=0)
    before = [codec.recover(codec.encode(frame)) for frame in frames(sound)]
    codec.expect_loss(25)
    after = [codec.recover(codec.encode(frame)) for frame in frames(sound)]
    assert not any(pcm is not None for pcm in before)
    assert sum(pcm is not None for pcm in after) > len(after) // 4
    with pytest.raises(ValueError, match="libopus"):
        codec.expect_loss(101)


def test_silence_under_dtx_need_not_be_sent() -> None:
    codec = Opus()
    for frame in frames(voice(400)):
        codec.encode(frame)
    silent = [len(codec.encode(np.zeros(FRAME, np.int16))) for _ in range(500)]
    assert sum(size <= DTX_BYTES for size in silent[50:]) > 0.9 * len(silent[50:])
    assert any(size > DTX_BYTES for size in silent[50:])


def test_speech_after_a_long_silence_is_whole() -> None:
    """What was left out of the encoder in silence, and out of the network, is not missed."""
    sound = voice(1000)
    sender, receiver = Opus(), Opus()
    heard = []
    for frame in frames(np.concatenate((sound, np.zeros(16_000 * 5, np.int16), sound))):
        packet = sender.encode(frame)
        heard.append(receiver.decode(packet) if len(packet) > DTX_BYTES else receiver.conceal())
    assert likeness(np.concatenate(heard[-50:]), sound) > 0.9
    assert all(dbfs(pcm) < -55 for pcm in heard[60:-50])


def test_without_dtx_every_frame_is_sent() -> None:
    assert all(len(packet) > DTX_BYTES for packet in encoded(np.zeros(FRAME * 100, np.int16), Opus(dtx=False)))


def test_skipped_silence_is_concealed_quietly() -> None:
    packets = encoded(np.concatenate((voice(400), np.zeros(FRAME * 150, np.int16))))
    codec = Opus()
    heard = [codec.decode(packet) if len(packet) > DTX_BYTES else codec.conceal() for packet in packets]
    assert all(dbfs(pcm) < -55 for pcm in heard[60:])


@pytest.mark.parametrize("frame_ms", ["2.5", "5", "10", "20", "40", "60", "80", "100", "120"])
@pytest.mark.parametrize("channels", [1, 2])
def test_another_encoders_packets_of_every_legal_length(frame_ms: str, channels: int) -> None:
    codec = Opus()
    packets = encoded_elsewhere(frame_ms, channels)
    assert packets
    heard = [codec.decode(packet) for packet in packets]
    assert {len(pcm) for pcm in heard} == {int(16 * float(frame_ms))}
    whole = np.concatenate(heard)
    later = whole[len(whole) // 2 :]
    assert abs(np.abs(np.fft.rfft(later)).argmax() * 16_000 / len(later) - 440) < 10
    assert energy(later) / len(later) > 0.5 * 8000**2 / 2


def test_another_decoder_takes_ours() -> None:
    context = av.CodecContext.create("libopus", "r")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = 48_000
    sound = voice(1000)
    out = [frame for packet in encoded(sound) for frame in context.decode(av.Packet(packet))]
    assert sum(frame.samples for frame in out) == 48_000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=200), max_size=12))
def test_any_bytes_are_decoded_or_refused(story: list[bytes | None]) -> None:
    codec = Opus()
    for payload in story:
        if payload is None:
            assert len(codec.conceal()) == FRAME
            continue
        recovered = codec.recover(payload)
        assert recovered is None or FRAME <= len(recovered) <= 3 * FRAME
        try:
            assert 0 < len(codec.decode(payload)) <= 16 * MAX_DECODED_MS
        except PayloadError:
            continue


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_packets_are_decoded_or_refused(data: st.DataObject) -> None:
    codec = Opus()
    for packet in encoded(voice(200)):
        damaged = bytearray(packet)
        damaged[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
        payload = bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
        recovered = codec.recover(payload)
        assert recovered is None or len(recovered) >= FRAME
        try:
            assert 0 < len(codec.decode(payload)) <= 16 * MAX_DECODED_MS
        except PayloadError:
            continue


def test_a_refused_packet_does_no_harm() -> None:
    codec, other = Opus(), Opus()
    for packet in encoded(voice(300)):
        with pytest.raises(PayloadError):
            codec.decode(b"\x03\xff\x00")
        assert (codec.decode(packet) == other.decode(packet)).all()


@pytest.mark.parametrize("samples", [0, 1, 160, 319, 321, 640])
def test_only_whole_frames_are_encoded(samples: int) -> None:
    with pytest.raises(ValueError, match="20 ms"):
        Opus().encode(np.zeros(samples, np.int16))


def test_a_frame_may_be_a_view() -> None:
    sound = voice(200)
    spread = np.zeros(len(sound) * 2, np.int16)
    spread[::2] = sound
    one, other = Opus(), Opus()
    for at in range(0, len(sound), FRAME):
        assert one.encode(spread[::2][at : at + FRAME]) == other.encode(sound[at : at + FRAME])


@pytest.fixture
def _no_library() -> Iterator[None]:
    opus._library.cache_clear()
    yield
    opus._library.cache_clear()


@pytest.mark.usefixtures("_no_library")
@pytest.mark.parametrize("found", ["no library", "another library", "a file that is gone", "nothing"])
def test_without_a_library_there_is_one_clear_error(
    found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    not_a_library = tmp_path / "libopus.so"
    not_a_library.write_text("no library")
    path = {
        "no library": str(not_a_library),
        "another library": ctypes.util.find_library("m"),
        "a file that is gone": str(tmp_path / "none.so"),
    }.get(found)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no PyAV
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: path)
    assert not opus.available()
    with pytest.raises(OpusUnavailable, match="libopus"):
        Opus()


def test_there_is_one_here() -> None:
    assert opus.available()
