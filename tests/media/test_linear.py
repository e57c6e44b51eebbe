"""Samples as they are: nothing is lost but what the network loses."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.audio import FULL_SCALE, Pcm, dbfs, frame_samples
from media.codec import NOISE_START_DBFS, Codec, PayloadError
from media.linear import L16, L16Wide

CODECS: tuple[Callable[[], Codec], ...] = (L16, L16Wide)


def tone(codec: Codec, duration_ms: int, hz: float = 440) -> Pcm:
    at = np.arange(codec.rate_hz * duration_ms // 1000) / codec.rate_hz
    return np.asarray(8000 * np.sin(2 * np.pi * hz * at), dtype=np.int16)


def test_the_two_rates() -> None:
    assert (L16.name, L16.rate_hz, L16.clock_hz, L16.bytes_per_ms) == ("L16", 8000, 8000, 16)
    assert (L16Wide.name, L16Wide.rate_hz, L16Wide.clock_hz, L16Wide.bytes_per_ms) == ("L16", 16_000, 16_000, 32)


@pytest.mark.parametrize("make", CODECS)
def test_the_high_byte_goes_first(make: Callable[[], Codec]) -> None:
    codec = make()
    assert codec.encode(np.array([1, -2, 0x1234, -FULL_SCALE], np.int16)) == b"\x00\x01\xff\xfe\x12\x34\x80\x00"
    assert codec.decode(b"\x00\x01\xff\xfe\x12\x34\x80\x00").tolist() == [1, -2, 0x1234, -FULL_SCALE]


@pytest.mark.parametrize("make", CODECS)
def test_a_frame_is_20_ms_and_comes_back_as_it_was(make: Callable[[], Codec]) -> None:
    codec = make()
    sound, size = tone(codec, 200), frame_samples(codec.rate_hz)
    for at in range(0, len(sound), size):
        payload = codec.encode(sound[at : at + size])
        assert len(payload) == 20 * codec.bytes_per_ms
        heard = codec.decode(payload)
        assert heard.dtype == np.int16
        assert heard.flags.writeable
        assert (heard == sound[at : at + size]).all()


@pytest.mark.parametrize("make", CODECS)
def test_only_whole_samples_up_to_200_ms(make: Callable[[], Codec]) -> None:
    codec = make()
    most = 200 * codec.bytes_per_ms
    assert len(codec.decode(bytes(most))) == most // 2
    assert len(codec.decode(bytes(2))) == 1
    for size in (0, 1, 319, most - 1, most + 1, most + 2):
        with pytest.raises(PayloadError):
            codec.decode(bytes(size))
    assert codec.recover(bytes(320)) is None


@pytest.mark.parametrize("make", CODECS)
def test_a_gap_goes_on_as_the_sound_did_and_fades(make: Callable[[], Codec]) -> None:
    codec = make()
    size = frame_samples(codec.rate_hz)
    sound = tone(codec, 220)
    codec.decode(codec.encode(sound[:-size]))
    made = codec.conceal()
    assert np.corrcoef(made, sound[-size:])[0, 1] > 0.9
    later = [codec.conceal() for _ in range(10)]
    assert all(len(frame) == size for frame in [made, *later])
    assert dbfs(later[-1]) < dbfs(sound) - 20


@pytest.mark.parametrize("make", CODECS)
def test_what_is_refused_or_reset_leaves_no_trace(make: Callable[[], Codec]) -> None:
    used, new = make(), make()
    used.decode(used.encode(tone(used, 100)))
    used.reset()
    with pytest.raises(PayloadError):
        used.decode(b"odd")
    assert (used.conceal() == new.conceal()).all()
    assert dbfs(new.conceal()) < NOISE_START_DBFS + 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=8000), max_size=20), st.sampled_from(CODECS))
def test_any_bytes_and_losses_give_samples(story: list[bytes | None], make: Callable[[], Codec]) -> None:
    codec = make()
    for payload in story:
        if payload is None:
            assert len(codec.conceal()) == frame_samples(codec.rate_hz)
        elif payload and len(payload) % 2 == 0 and len(payload) <= 200 * codec.bytes_per_ms:
            assert len(codec.decode(payload)) == len(payload) // 2
        else:
            with pytest.raises(PayloadError):
                codec.decode(payload)
