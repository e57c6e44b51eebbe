"""The caller's ear against playback whose onsets, silences and holes are known to the frame."""

import numpy as np
import pytest

from app.load.ear import AUDIBLE_RMS, Ear, meter
from app.load.plain import Linear16
from media import opus
from media.audio import pcm_to_alaw, pcm_to_bytes, pcm_to_ulaw
from media.codec import Codec, Pcma, Pcmu
from media.g722 import G722
from tests.load.speech import FRAME_S, LOUD, SOFT, ear, holes, packets, play, spans

# Over a stream: no time of its own


def test_an_onset_and_an_end_are_known_to_the_frame() -> None:
    heard = ear()
    play(heard, 10.0, "..###....##..")
    assert spans(heard) == [(10.04, 10.10), (10.18, 10.22)]
    assert heard.frames == 13
    assert not heard.holes


def test_what_comes_early_is_played_when_its_time_has_come() -> None:
    heard = ear()
    for _ in range(5):
        heard.audio(LOUD, 10.0)
    assert spans(heard) == [(10.0, 10.1)]
    play(heard, 10.1, "##", ahead_s=0.06)
    assert spans(heard) == [(10.0, 10.14)]
    assert not heard.holes


def test_a_frame_after_its_time_leaves_a_hole_as_long_as_it_is_late() -> None:
    heard = ear()
    over_s = play(heard, 10.0, "####")
    play(heard, over_s + 0.013, "##")
    assert holes(heard) == [(10.08, 0.013)]
    assert spans(heard) == [(10.0, 10.133)]


def test_a_frame_that_nobody_would_miss_is_in_time() -> None:
    heard = ear()
    over_s = play(heard, 10.0, "####")
    play(heard, over_s + 0.004, "##")
    assert not heard.holes
    assert spans(heard) == [(10.0, 10.12)]


def test_a_longer_hole_divides_what_is_audible() -> None:
    heard = ear()
    play(heard, 10.0, "####" + " " * 15 + "##")
    assert holes(heard) == [(10.08, 0.3)]
    assert spans(heard) == [(10.0, 10.08), (10.38, 10.42)]


def test_a_lasting_silence_is_no_hole() -> None:
    heard = ear()
    play(heard, 10.0, "####" + " " * 31 + "##")
    assert not heard.holes
    assert heard.speech_began_s == pytest.approx(10.7)


def test_a_pause_between_sentences_that_nobody_hears_is_no_hole_but_a_stall_is() -> None:
    heard = ear()
    play(heard, 10.0, "##.." + " " * 10 + "##.." + " " * 2 + "##")
    assert holes(heard) == [(10.36, 0.04)]


def test_a_clear_ends_what_is_played_at_once_and_what_follows_is_new() -> None:
    heard = ear()
    for _ in range(10):
        heard.audio(LOUD, 10.0)
    heard.clear(10.05)
    play(heard, 10.2, "##")
    assert spans(heard) == [(10.0, 10.05), (10.2, 10.24)]
    assert heard.speech_began_s == pytest.approx(10.2)
    assert not heard.holes


def test_who_goes_on_at_once_after_a_clear_has_begun_anew() -> None:
    heard = ear()
    play(heard, 10.0, "#" * 10)
    heard.clear(10.1)
    play(heard, 10.11, "##")
    assert spans(heard) == [(10.0, 10.1), (10.11, 10.15)]
    assert heard.stop_s(10.05, 11.0) == pytest.approx(10.1)


def test_a_clear_throws_away_whole_spans_that_were_still_to_come() -> None:
    heard = ear()
    for frame in (LOUD, SOFT, SOFT, LOUD, LOUD):
        heard.audio(frame, 10.0)
    heard.clear(10.03)
    assert spans(heard) == [(10.0, 10.02)]


def test_speech_goes_on_through_short_silences() -> None:
    heard = ear()
    play(heard, 10.0, "##" + "." * 20 + "##" + "." * 20 + "##")
    assert heard.speech_began_s == pytest.approx(10.0)


def test_many_frames_in_one_message_are_heard_one_by_one() -> None:
    heard = ear()
    heard.audio(SOFT + LOUD + LOUD + SOFT, 10.0)
    assert spans(heard) == [(10.02, 10.06)]
    assert heard.frames == 4


def test_a_short_last_frame_is_as_long_as_it_is() -> None:
    heard = ear()
    heard.audio(LOUD, 10.0)
    heard.audio(LOUD[:80], 10.0)
    assert spans(heard) == [(10.0, 10.03)]


# Over packets: the sender's time


def test_packets_are_played_at_their_own_time_however_they_jitter() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.05, 5.02), (10.051, 5.04), (10.06, 5.06)])
    assert spans(heard) == [(10.0, 10.08)]
    assert not heard.holes


def test_a_lost_packet_is_a_hole_of_its_length() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.02, 5.02), (10.06, 5.06), (10.08, 5.08)])
    assert holes(heard) == [(10.04, 0.02)]
    assert spans(heard) == [(10.0, 10.1)]


def test_silence_that_is_not_sent_is_no_hole_but_a_packet_that_comes_late_after_it_is() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0)])
    packets(heard, [(10.02, 5.02)], SOFT)
    packets(heard, [(10.10, 5.10), (10.12, 5.12)])
    assert spans(heard) == [(10.0, 10.02), (10.10, 10.14)]
    assert not heard.holes
    packets(heard, [(10.14, 5.14)], SOFT)
    packets(heard, [(10.26, 5.18)])
    assert holes(heard) == [(10.16, 0.10)]


def test_an_overtaken_packet_in_time_is_no_hole() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.021, 5.04), (10.022, 5.02), (10.06, 5.06)])
    assert not heard.holes
    assert spans(heard) == [(10.0, 10.08)]


def test_an_overtaken_packet_that_is_too_late_stays_a_hole() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.04, 5.04), (10.06, 5.06), (10.08, 5.08), (10.10, 5.10), (10.11, 5.02)])
    assert holes(heard) == [(10.02, 0.02)]


def test_a_packet_later_than_any_buffer_is_a_hole_and_moves_what_follows() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.02, 5.02), (10.12, 5.04), (10.12, 5.06)])
    assert holes(heard) == [(10.04, 0.08)]
    assert spans(heard) == [(10.0, 10.04), (10.12, 10.16)]


def test_a_sender_whose_time_begins_anew_is_followed() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.02, 5.02), (10.04, 90_000.0), (10.06, 90_000.02)])
    assert spans(heard) == [(10.0, 10.08)]


def test_a_sender_that_stopped_and_kept_its_time_is_not_late_for_ever() -> None:
    heard = ear()
    packets(heard, [(10.0, 5.0), (10.02, 5.02), (12.0, 5.04), (12.02, 5.06)])
    assert spans(heard) == [(10.0, 10.04), (12.0, 12.04)]
    assert not heard.holes


# What is told of it


def test_a_stop_is_the_last_audible_frame_before_a_silence_that_lasts() -> None:
    heard = ear()
    play(heard, 10.0, "#" * 10 + "." * 10 + "#" * 5 + "." * 40 + "##")
    assert heard.stop_s(10.05, 12.0) == pytest.approx(10.5)
    assert heard.stop_s(10.45, 12.0) == pytest.approx(10.5)
    assert heard.stop_s(10.05, 10.9) is None, "too soon to say"


def test_who_never_falls_silent_has_not_stopped() -> None:
    heard = ear()
    play(heard, 10.0, ("#" * 20 + "." * 20) * 5)
    assert heard.stop_s(10.1, 11.5) is None


def test_a_clear_makes_a_shorter_silence_a_stop() -> None:
    heard = ear()
    play(heard, 10.0, "#" * 10)
    heard.clear(10.3)
    play(heard, 10.5, "##")
    assert heard.stop_s(10.1, 11.5) == pytest.approx(10.2)


def test_a_hold_that_goes_on_in_time_is_no_stop() -> None:
    heard = ear()
    play(heard, 10.0, "#" * 10 + " " * 28 + "#" * 40)
    assert heard.stop_s(10.1, 11.0) is None
    assert holes(heard) == [(10.2, 0.56)]


def test_when_the_agent_spoke() -> None:
    heard = ear()
    play(heard, 10.0, "..##......##")
    assert not heard.spoke_at(10.03, 0.02)
    assert heard.spoke_at(10.05, 0.0)
    assert heard.spoke_at(10.10, 0.03)
    assert not heard.spoke_at(10.12, 0.03)
    assert heard.next_start_s(10.05) == pytest.approx(10.2)
    assert heard.next_start_s(10.21) is None


def test_a_line_that_comes_back_leaves_no_hole() -> None:
    heard = ear()
    over_s = play(heard, 10.0, "####")
    heard.restart()
    play(heard, over_s + 0.3, "##")
    assert not heard.holes


def test_all_is_kept_for_a_recording_if_wanted_but_what_was_cleared() -> None:
    heard = Ear(Pcmu(), keep=True)
    for _ in range(4):
        heard.audio(LOUD, 10.0)
    heard.clear(10.03)
    assert heard.kept is not None
    assert [round(at_s, 3) for at_s, _ in heard.kept] == [10.0, 10.02]


# Levels


@pytest.mark.parametrize("codec", [Pcmu(), Pcma(), G722(), Linear16(), *([opus.Opus()] if opus.available() else [])])
def test_speech_is_audible_and_a_quiet_line_is_not_in_every_codec(codec: Codec) -> None:
    size = round(codec.rate_hz * FRAME_S)
    tone = np.sin(2 * np.pi * 400 * np.arange(size * 20) / codec.rate_hz)
    level = meter(codec)
    for peak, audible in ((3000, True), (40, False)):
        codec.reset()
        pcm = np.asarray(peak * tone, dtype=np.int16)
        encoded = [codec.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]
        codec.reset()
        levels = [level(payload) for payload in encoded]
        assert (levels[-1] >= AUDIBLE_RMS) is audible


def test_levels_of_g711_are_those_of_its_samples() -> None:
    pcm = np.asarray(5000 * np.sin(2 * np.pi * 400 * np.arange(160) / 8000), dtype=np.int16)
    expected = 5000 / np.sqrt(2)
    assert meter(Pcmu())(pcm_to_ulaw(pcm)) == pytest.approx(expected, rel=0.02)
    assert meter(Pcma())(pcm_to_alaw(pcm)) == pytest.approx(expected, rel=0.02)


def test_a_payload_that_is_none_is_silence() -> None:
    assert meter(G722())(b"") == 0
    assert meter(Linear16())(pcm_to_bytes(np.zeros(0, np.int16))) == 0
