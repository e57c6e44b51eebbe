import numpy as np
import pytest

from media.audio import (
    RATES_HZ,
    SILENCE_DBFS,
    Pcm,
    Resampler,
    alaw_to_pcm,
    bytes_to_pcm,
    dbfs,
    frame_samples,
    pcm_to_alaw,
    pcm_to_bytes,
    pcm_to_ulaw,
    silence,
    ulaw_to_pcm,
)


def tone(rate_hz: int, hz: float, duration_ms: int = 1000, level: int = 10_000) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    return (level * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def test_g711_keeps_a_tone_within_its_quantisation() -> None:
    pcm = tone(8000, 440)
    for there, back in ((pcm_to_ulaw, ulaw_to_pcm), (pcm_to_alaw, alaw_to_pcm)):
        coded = there(pcm)
        assert len(coded) == len(pcm)
        error = back(coded).astype(int) - pcm
        assert dbfs(error.astype(np.int16)) < dbfs(pcm) - 30


def test_every_mulaw_byte_survives_a_round_trip() -> None:
    everything = bytes(range(256))
    again = ulaw_to_pcm(pcm_to_ulaw(ulaw_to_pcm(everything)))
    assert (again == ulaw_to_pcm(everything)).all()


def test_bytes_are_little_endian() -> None:
    assert pcm_to_bytes(np.array([1, -2], dtype=np.int16)) == b"\x01\x00\xfe\xff"
    assert bytes_to_pcm(b"\x01\x00\xfe\xff").tolist() == [1, -2]
    with pytest.raises(ValueError, match="buffer size"):
        bytes_to_pcm(b"\x01")


def test_levels() -> None:
    assert dbfs(silence(8000, 20)) == SILENCE_DBFS
    assert dbfs(np.zeros(0, dtype=np.int16)) == SILENCE_DBFS
    assert dbfs(np.full(100, -32768, dtype=np.int16)) == pytest.approx(0, abs=0.01)
    assert len(silence(16000, 50)) == 800


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000), (24000, 16000), (22050, 16000)])
def test_resampling_keeps_the_length_and_the_tone(from_hz: int, to_hz: int, live: bool) -> None:
    resampler = Resampler(from_hz, to_hz, live=live)
    pcm = tone(from_hz, 440)
    size = from_hz // 50
    out = [resampler.process(pcm[at : at + size]) for at in range(0, len(pcm), size)]
    whole = np.concatenate([*out, resampler.flush()])
    assert abs(len(whole) - to_hz) <= 2
    assert dbfs(whole) == pytest.approx(dbfs(pcm), abs=0.5)
    assert resampler.process(pcm[:size]).dtype == np.int16, "after a flush a new stream begins"


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000), (24000, 16000), (48000, 16000)])
def test_live_resampling_gives_each_frame_at_once(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    frame = tone(from_hz, 300, 20)
    resampler.process(frame)
    for _ in range(20):
        assert len(resampler.process(frame)) == frame_samples(to_hz)


@pytest.mark.parametrize("from_hz", [24000, 48000])
def test_what_the_lower_rate_cannot_carry_is_cut(from_hz: int) -> None:
    resampler = Resampler(from_hz, 16000)
    out = np.concatenate([resampler.process(tone(from_hz, 11_000, 100)) for _ in range(5)])
    assert dbfs(out[500:]) < dbfs(tone(from_hz, 11_000)) - 35


def test_no_change_is_no_copy() -> None:
    for rate_hz in RATES_HZ:
        resampler = Resampler(rate_hz, rate_hz)
        pcm = tone(rate_hz, 100, 20)
        assert resampler.process(pcm) is pcm
        assert len(resampler.flush()) == 0
