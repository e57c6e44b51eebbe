import numpy as np
import pytest

from media.audio import Pcm
from media.playout import ECHO_TIMEOUT_MS, MAX_BUFFERED_MS, Playout, PlayoutOverflow

RATE_HZ = 8000


class Peer:
    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.frames: list[Pcm] = []
        self.names: list[str] = []
        self.clears = 0

    def audio(self, frame: Pcm) -> None:
        self.frames.append(frame)

    def mark(self, name: str) -> None:
        self.names.append(name)

    def clear(self) -> None:
        self.clears += 1

    def playout_started(self, gen: int) -> None:
        self.log.append(("started", gen))

    def playout_held(self, gen: int, sentence: int, chars: int) -> None:
        self.log.append(("held", gen, sentence, chars))

    def playout_stopped(self, gen: int, sentence: int, chars: int, cause: str) -> None:
        self.log.append(("stopped", gen, sentence, chars, cause))


def make(*, peer_buffer_ms: int = 0, marks: bool = False) -> tuple[Playout, Peer]:
    peer = Peer()
    return Playout(RATE_HZ, peer, peer, peer_buffer_ms=peer_buffer_ms, marks=marks), peer


def tone(duration_ms: int) -> Pcm:
    return (1 + np.arange(duration_ms * 8) % 30000).astype(np.int16)


def run(playout: Playout, from_ms: int, to_ms: int) -> None:
    for now_ms in range(from_ms, to_ms, 20):
        playout.tick(now_ms)


def test_a_sentence_is_paced_and_heard_word_by_word() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(200), [(5, 800), (11, 1400)])
    playout.end_sentence(1, 0, 12)
    playout.finish(1)
    playout.tick(1000)
    assert len(peer.frames) == 3, "60 ms ahead, no more"
    assert playout.now_heard() == (0, 0)
    run(playout, 1020, 1100)
    assert playout.now_heard() == (0, 0), "the word ends at 100 ms"
    playout.tick(1100)
    assert playout.now_heard() == (0, 5)
    run(playout, 1120, 1200)
    assert playout.now_heard() == (0, 11)
    run(playout, 1200, 1300)
    assert peer.log == [("started", 1), ("stopped", 1, 0, 12, "done")]
    assert len(peer.frames) == 10
    assert playout.late_frames == playout.underruns == 0


def test_a_reply_without_audio_is_done_at_once() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.finish(1)
    assert peer.log == [("stopped", 1, 0, 0, "done")]


def test_a_sentence_without_audio_is_not_heard() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(20))
    playout.end_sentence(1, 0, 4)
    playout.push(1, 1, tone(0))
    playout.end_sentence(1, 1, 9)
    playout.finish(1)
    run(playout, 1000, 1100)
    assert peer.log[-1] == ("stopped", 1, 0, 4, "done")


def test_the_peers_buffer_counts_as_unheard() -> None:
    playout, peer = make(peer_buffer_ms=500)
    playout.begin(1)
    playout.push(1, 0, tone(100), [(5, 400)])
    playout.end_sentence(1, 0, 6)
    playout.finish(1)
    run(playout, 1000, 1540)
    assert playout.now_heard() == (0, 0)
    run(playout, 1540, 1600)
    assert playout.now_heard() == (0, 5)
    run(playout, 1600, 1640)
    assert peer.log[-1] == ("stopped", 1, 0, 6, "done")


def test_hold_is_silence_at_once_and_resume_goes_on_at_the_next_sample() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(400), [(5, 1600)])
    playout.finish(1)
    run(playout, 1000, 1100)
    sent = len(peer.frames)
    playout.hold(1)
    playout.hold(1)
    run(playout, 1100, 2000)
    assert len(peer.frames) == sent
    assert peer.log == [("started", 1), ("held", 1, 0, 0)]
    playout.resume(1)
    run(playout, 2000, 3000)
    assert (np.concatenate(peer.frames) == tone(400)).all()
    assert playout.late_frames == playout.underruns == 0, "a pause that was ordered is no fault"
    assert peer.log[-1] == ("stopped", 1, 0, 5, "done")


def test_cut_clears_the_peer_and_reports_whole_words_only() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(1000), [(5, 800), (11, 4000)])
    run(playout, 1000, 1300)
    playout.cut(1)
    playout.cut(1)
    assert peer.clears == 1
    assert peer.log[-1] == ("stopped", 1, 0, 5, "cut")
    sent = len(peer.frames)
    playout.push(1, 0, tone(100))
    run(playout, 1300, 1500)
    assert len(peer.frames) == sent
    assert len(peer.log) == 2


def test_a_new_reply_cuts_the_old_one_and_old_calls_do_nothing() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(100))
    playout.begin(2)
    playout.begin(1)
    assert peer.log == [("stopped", 1, 0, 0, "cut")]
    assert peer.clears == 0, "nothing of it had left"
    playout.push(1, 0, tone(100))
    playout.finish(1)
    playout.hold(1)
    playout.cut(1)
    playout.tick(1000)
    assert peer.frames == []
    assert playout.gen == 2
    assert playout.active


def test_echoes_before_the_clear_count_and_later_ones_do_not() -> None:
    playout, peer = make(marks=True)
    playout.begin(1)
    playout.push(1, 0, tone(1000), [(5, 320), (11, 640)])
    run(playout, 1000, 1300)
    assert len(peer.names) == 2
    assert len(set(peer.names)) == 2
    assert playout.now_heard() == (0, 0)
    playout.mark_played(peer.names[0])
    playout.mark_played("nonsense")
    assert playout.now_heard() == (0, 5)
    playout.cut(1)
    assert peer.log[-1] == ("stopped", 1, 0, 5, "cut")
    playout.mark_played(peer.names[1])
    assert playout.now_heard() == (0, 5)


def test_an_echo_that_comes_before_its_time_waits_for_it() -> None:
    playout, peer = make(marks=True)
    playout.begin(1)
    playout.push(1, 0, tone(1000), [(5, 480)])
    playout.tick(1000)
    playout.mark_played(peer.names[0])
    assert playout.now_heard() == (0, 0)
    run(playout, 1020, 1080)
    assert playout.now_heard() == (0, 5)


def test_marks_are_sent_after_the_frame_in_which_the_word_ends() -> None:
    playout, peer = make(marks=True)
    playout.begin(7)
    playout.push(7, 2, tone(60), [(3, 161)])
    playout.tick(1000)
    assert len(peer.frames) == 3
    assert len(peer.names) == 1
    playout.end_sentence(7, 2, 4)
    playout.finish(7)
    run(playout, 1020, 1100)
    assert len(peer.names) == 2
    for name in peer.names:
        playout.mark_played(name)
    playout.tick(1100)
    assert peer.log[-1] == ("stopped", 7, 2, 4, "done")


def test_a_peer_that_never_echoes_does_not_keep_the_reply_open() -> None:
    playout, peer = make(marks=True)
    playout.begin(1)
    playout.push(1, 0, tone(40))
    playout.end_sentence(1, 0, 4)
    playout.finish(1)
    run(playout, 1000, 1040 + ECHO_TIMEOUT_MS)
    assert peer.log == [("started", 1)]
    run(playout, 1040 + ECHO_TIMEOUT_MS, 1080 + ECHO_TIMEOUT_MS)
    assert peer.log[-1] == ("stopped", 1, 0, 0, "done")


def test_a_mark_that_repeats_a_place_in_the_text_moves_its_end() -> None:
    playout, _ = make()
    playout.begin(1)
    playout.push(1, 0, tone(400), [(4, 160), (4, 1600), (9, 1000), (12, 2400)])
    run(playout, 1000, 1180)
    assert playout.now_heard() == (0, 0)
    run(playout, 1180, 1220)
    assert playout.now_heard() == (0, 9)


def test_marks_beyond_the_audio_end_with_it() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(40), [(4, 99999)])
    playout.end_sentence(1, 0, 5)
    playout.finish(1)
    run(playout, 1000, 1100)
    assert peer.log[-1] == ("stopped", 1, 0, 5, "done")


def test_a_stalled_clock_is_not_made_up_for() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(5000))
    run(playout, 1000, 1100)
    sent = len(peer.frames)
    playout.tick(3000)
    assert len(peer.frames) == sent + 3
    assert playout.late_frames == 1


def test_audio_that_comes_too_slowly_is_an_underrun_and_loses_nothing() -> None:
    playout, peer = make()
    playout.begin(1)
    pcm = tone(90)
    playout.push(1, 0, pcm[:500])
    run(playout, 1000, 1400)
    assert len(peer.frames) == 3, "the part of a frame waits for its rest"
    assert playout.underruns == 1
    playout.push(1, 0, pcm[500:])
    playout.end_sentence(1, 0, 3)
    run(playout, 1400, 1600)
    sent = np.concatenate(peer.frames)
    assert (sent[: len(pcm)] == pcm).all()
    assert not sent[len(pcm) :].any(), "only a sentence's last frame is filled up"


def test_frames_join_over_chunks_and_sentences() -> None:
    playout, peer = make()
    playout.begin(1)
    pcm = tone(100)
    playout.push(1, 0, pcm[:33])
    playout.push(1, 0, pcm[33:333])
    playout.end_sentence(1, 0, 3)
    playout.push(1, 1, pcm[333:])
    playout.end_sentence(1, 1, 3)
    playout.finish(1)
    run(playout, 1000, 1200)
    assert (np.concatenate(peer.frames) == pcm).all()
    assert peer.log[-1] == ("stopped", 1, 1, 3, "done")


def test_a_lost_connection_stops_this_reply_and_every_later_one() -> None:
    playout, peer = make()
    playout.begin(1)
    playout.push(1, 0, tone(200), [(5, 160)])
    run(playout, 1000, 1080)
    playout.lost()
    playout.lost()
    assert peer.log == [("started", 1), ("stopped", 1, 0, 5, "lost")]
    playout.begin(2)
    assert peer.log[-1] == ("stopped", 2, 0, 0, "lost")
    playout.push(2, 0, tone(20))
    playout.tick(1100)
    assert len(peer.log) == 3


def test_overflow_is_a_named_error_and_keeps_what_was_there() -> None:
    playout, _ = make()
    playout.begin(1)
    playout.push(1, 0, tone(MAX_BUFFERED_MS))
    with pytest.raises(PlayoutOverflow):
        playout.push(1, 0, tone(20))
    assert playout.buffered_ms == MAX_BUFFERED_MS
    playout.cut(1)
    assert playout.buffered_ms == 0
    playout.begin(2)
    with pytest.raises(PlayoutOverflow):
        playout.push(2, 0, tone(20), [(at, at) for at in range(10_000)])


def test_a_peer_that_goes_away_while_it_is_sent_to_gets_one_stop() -> None:
    class Gone(Peer):
        def audio(self, frame: Pcm) -> None:
            super().audio(frame)
            playout.lost()

        def clear(self) -> None:
            playout.lost()

    peer = Gone()
    playout = Playout(RATE_HZ, peer, peer)
    playout.begin(1)
    playout.push(1, 0, tone(200))
    playout.tick(1000)
    assert [entry for entry in peer.log if entry[0] == "stopped"] == [("stopped", 1, 0, 0, "lost")]
