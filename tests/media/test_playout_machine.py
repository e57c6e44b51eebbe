"""Random orders, echoes and delays against a peer that plays as late as it may: nothing counts as heard too early."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from media.audio import Pcm
from media.playout import ECHO_TIMEOUT_MS, Playout

RATE_HZ = 8000
FRAME = 160
SELDOM = st.sampled_from([False, False, False, True])


@dataclass
class Reply:
    """What was pushed of one gen, and what the peer got and played of it."""

    pushed: int = 0
    sentence: int = -1
    sentence_start: int = 0
    chars: int = 0
    finished: bool = False
    words: list[tuple[int, int, int]] = field(default_factory=list)  # (sentence, chars, end), ends after clamping
    sent: int = 0
    played: int = 0
    stopped: list[str] = field(default_factory=list)


@dataclass
class Frame:
    gen: int
    samples: int
    played_at_ms: int


class Peer:
    """Plays every frame as late as it may: `delay_ms` after it came, and never two at once."""

    def __init__(self, machine: "PlayoutMachine", delay_ms: int) -> None:
        self.machine = machine
        self.delay_ms = delay_ms
        self.waiting: list[Frame | str] = []
        self.free_ms = 0
        self.direct_free_ms = 0  # for one that plays at once
        self.echoes: list[str] = []
        self.old_names: list[str] = []

    def audio(self, frame: Pcm) -> None:
        machine = self.machine
        now_ms = machine.now_ms
        assert len(frame) == FRAME
        assert not machine.held, "nothing is sent while held"
        reply = machine.replies[machine.playout.gen]
        samples = int(np.count_nonzero(frame))
        expected = 1 + np.arange(reply.sent, reply.sent + samples) % 30000
        assert (frame[:samples] == expected).all(), "every sample is sent once and in order"
        reply.sent += samples
        assert reply.sent <= reply.pushed
        self.direct_free_ms = max(self.direct_free_ms, now_ms) + 20
        assert self.direct_free_ms - now_ms <= 60, "at most 60 ms ahead"
        self.free_ms = max(self.free_ms, now_ms + self.delay_ms) + 20
        self.waiting.append(Frame(machine.playout.gen, samples, self.free_ms))

    def mark(self, name: str) -> None:
        self.waiting.append(name)

    def clear(self) -> None:
        now_ms = self.machine.now_ms
        self.play(now_ms)
        self.old_names += self.echoes + [item for item in self.waiting if isinstance(item, str)]
        self.echoes.clear()
        self.waiting.clear()
        self.free_ms = now_ms

    def play(self, now_ms: int) -> None:
        while self.waiting:
            item = self.waiting[0]
            if isinstance(item, Frame):
                if item.played_at_ms > now_ms:
                    return
                self.machine.replies[item.gen].played += item.samples
            else:
                self.echoes.append(item)
            self.waiting.pop(0)


class PlayoutMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1000
        self.held = False
        self.lost_it = False
        self.started: list[int] = []
        self.replies: dict[int, Reply] = {0: Reply()}

    @initialize(marks=st.booleans(), buffer_ms=st.sampled_from([0, 30, 100, 500]))
    def setup(self, marks: bool, buffer_ms: int) -> None:
        self.marks = marks
        self.buffer_ms = buffer_ms
        self.peer = Peer(self, buffer_ms)
        self.playout = Playout(RATE_HZ, self.peer, self, peer_buffer_ms=buffer_ms, marks=marks)

    # The listener

    def playout_started(self, gen: int) -> None:
        assert gen == self.playout.gen
        assert gen not in self.started
        self.started.append(gen)

    def playout_held(self, gen: int, sentence: int, chars: int) -> None:
        self.check_heard(gen, sentence, chars)

    def playout_stopped(self, gen: int, sentence: int, chars: int, cause: str) -> None:
        self.check_heard(gen, sentence, chars)
        self.replies[gen].stopped.append(cause)
        assert len(self.replies[gen].stopped) == 1, "exactly one stop for each gen"
        self.held = False

    def check_heard(self, gen: int, sentence: int, chars: int) -> None:
        self.peer.play(self.now_ms)
        reply = self.replies[gen]
        for word_sentence, word_chars, end in reply.words:
            if (word_sentence, word_chars) <= (sentence, chars):
                assert end <= reply.played, "a word counts as heard before it was played"

    # Orders

    def current(self) -> Reply | None:
        reply = self.replies[self.playout.gen]
        return None if reply.stopped or self.playout.gen == 0 else reply

    @rule(step=st.integers(-1, 2), seldom=SELDOM)
    def begin(self, step: int, seldom: bool) -> None:
        if self.current() is not None and not seldom:
            return
        gen = self.playout.gen + step
        if step > 0:
            self.replies[gen] = Reply()
            self.held = False
        self.playout.begin(gen)
        assert self.playout.gen == max(self.replies), "a gen only rises"

    @rule(samples=st.integers(0, 4000), words=st.integers(0, 5), new=st.booleans(), late=st.integers(-300, 600))
    def push(self, samples: int, words: int, new: bool, late: int) -> None:
        reply = self.current()
        if reply is None or reply.finished:
            return
        if new or reply.sentence < 0:
            reply.sentence, reply.sentence_start, reply.chars = reply.sentence + 1, reply.pushed, 0
        pcm = (1 + np.arange(reply.pushed, reply.pushed + samples) % 30000).astype(np.int16)
        marks = []
        for at in range(words):
            reply.chars += 4
            end = reply.pushed + samples * (at + 1) // words + late - reply.sentence_start
            marks.append((reply.chars, end))
            reply.words.append((reply.sentence, reply.chars, reply.sentence_start + end))
        reply.pushed += samples
        self.playout.push(self.playout.gen, reply.sentence, pcm, marks)

    @rule(samples=st.integers(1, 500), back=st.integers(1, 3))
    def push_stale(self, samples: int, back: int) -> None:
        before = self.playout.buffered_ms
        self.playout.push(self.playout.gen - back, 0, np.ones(samples, dtype=np.int16), [(1, 1)])
        self.playout.finish(self.playout.gen - back)
        assert self.playout.buffered_ms == before

    @rule()
    def end_sentence(self) -> None:
        reply = self.current()
        if reply is not None and not reply.finished and reply.sentence >= 0:
            reply.words = [(sentence, chars, min(end, reply.pushed)) for sentence, chars, end in reply.words]
            reply.chars += 1
            if reply.pushed > reply.sentence_start:
                reply.words.append((reply.sentence, reply.chars, reply.pushed))
            self.playout.end_sentence(self.playout.gen, reply.sentence, reply.chars)

    @rule(seldom=SELDOM)
    def finish(self, seldom: bool = True) -> None:
        reply = self.current()
        if reply is not None and seldom:
            reply.finished = True
            self.playout.finish(self.playout.gen)

    @rule()
    def hold(self) -> None:
        self.held = self.current() is not None
        self.playout.hold(self.playout.gen)

    @rule()
    def resume(self) -> None:
        self.held = False
        self.playout.resume(self.playout.gen)

    @rule(seldom=SELDOM)
    def cut(self, seldom: bool) -> None:
        if not seldom:
            return
        self.playout.cut(self.playout.gen)
        assert self.current() is None

    # Facts

    @rule(ms=st.sampled_from([0, 1, 10, 20, 20, 20, 25, 60, 300, 1500]))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.peer.play(self.now_ms)
        self.playout.tick(self.now_ms)

    @rule(ticks=st.integers(1, 30))
    def pass_ticks(self, ticks: int) -> None:
        for _ in range(ticks):
            self.pass_time(20)

    @rule(ticks=st.integers(1, 30), lag_ms=st.sampled_from([0, 40]))
    def pass_ticks_with_echoes(self, ticks: int, lag_ms: int) -> None:
        """A good peer."""
        for _ in range(ticks):
            self.pass_time(20)
            if lag_ms == 0:
                for name in self.peer.echoes:
                    self.playout.mark_played(name)
            lag_ms = max(0, lag_ms - 20)

    @rule(data=st.data())
    def echo(self, data: st.DataObject) -> None:
        self.peer.play(self.now_ms)
        if self.peer.echoes:
            at = data.draw(st.integers(0, len(self.peer.echoes) - 1))
            self.playout.mark_played(self.peer.echoes[at])

    @rule(data=st.data())
    def echo_too_early(self, data: st.DataObject) -> None:
        """A peer that plays at once but lies about it: before its time has passed, an echo is not believed."""
        names = [item for item in self.peer.waiting if isinstance(item, str)]
        if names and self.buffer_ms == 0:
            self.playout.mark_played(data.draw(st.sampled_from(names)))

    @rule(data=st.data())
    def echo_nonsense(self, data: st.DataObject) -> None:
        self.playout.mark_played(data.draw(st.sampled_from([*self.peer.old_names, "", "9.9.9.9", "x" * 50])))

    @precondition(lambda self: not self.lost_it and self.playout.gen > 1)
    @rule(seldom=SELDOM)
    def lose(self, seldom: bool) -> None:
        if not seldom:
            return
        self.lost_it = True
        self.playout.lost()
        assert self.current() is None

    @invariant()
    def heard_was_played(self) -> None:
        if hasattr(self, "playout"):
            self.check_heard(self.playout.gen, *self.playout.now_heard())

    @invariant()
    def only_the_latest_runs(self) -> None:
        for gen, reply in self.replies.items():
            assert gen in (0, max(self.replies)) or len(reply.stopped) == 1

    def teardown(self) -> None:
        """Whatever happened: a reply that is finished stops, with or without echoes."""
        if not hasattr(self, "playout"):
            return
        self.resume()
        self.finish()
        for _ in range(2000):
            if self.current() is None:
                break
            self.pass_time(20)
        self.pass_time(ECHO_TIMEOUT_MS)
        assert self.current() is None


PlayoutMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestPlayout = PlayoutMachine.TestCase
