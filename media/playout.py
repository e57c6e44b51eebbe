"""What a leg says: paced out in 20 ms frames, held, resumed or cut, and known to the word that was heard.

One reply at a time, named by its `gen`. A reply is sentences; a sentence is audio with marks at its words' ends. A word
counts as heard when the frame in which it ends has certainly been played: its time has passed, and the peer echoed its
mark if this peer echoes marks, else the peer's declared buffer has run through as well.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from media.audio import FRAME_MS, Pcm, frame_samples

SEND_AHEAD_MS: Final = 2 * FRAME_MS  # a frame leaves this long before its time, so at most 60 ms are ahead
MAX_BUFFERED_MS: Final = 120_000  # of one reply's audio that has not been sent
MAX_WORDS: Final = 4000  # of one reply that have not been heard
ECHO_TIMEOUT_MS: Final = 2000  # after the last frame's time and the peer's buffer, echoes are not waited for any more

DONE: Final = "done"
CUT: Final = "cut"
LOST: Final = "lost"


class PlayoutOverflow(Exception):
    """More of one reply was pushed than may wait: see `Playout.buffered_ms`."""


class Sink(Protocol):
    """The way to the peer. Called in the audio path: it must not block."""

    def audio(self, frame: Pcm) -> None:
        """20 ms. The array is a view of what was pushed: neither side changes it."""
        ...

    def mark(self, name: str) -> None:
        """The peer is to echo `name` when all audio before it has been played."""
        ...

    def clear(self) -> None:
        """The peer is to drop what it has not played."""
        ...


class PlayoutListener(Protocol):
    """Each `gen` that began gets exactly one `playout_stopped`.

    Sentences below `sentence` were heard whole, and `chars` characters of that one.
    """

    def playout_started(self, gen: int) -> None: ...

    def playout_held(self, gen: int, sentence: int, chars: int) -> None: ...

    def playout_stopped(self, gen: int, sentence: int, chars: int, cause: str) -> None:
        """`cause` is "done", "cut" or "lost"."""
        ...


@dataclass(slots=True)
class _Word:
    end: int  # in samples of the reply
    sentence: int
    chars: int
    name: str = ""  # its mark's, once sent
    echoed: bool = False
    heard_at_ms: int = 0  # not before then


class Playout:
    """Sync and timeless but for `tick`; calls for a `gen` that is not the current one do nothing."""

    __slots__ = (
        "_active",
        "_chunks",
        "_coming",
        "_due_ms",
        "_finished",
        "_frame_samples",
        "_gen",
        "_going",
        "_heard",
        "_held",
        "_listener",
        "_lost",
        "_marks",
        "_now_ms",
        "_offset",
        "_peer_buffer_ms",
        "_pushed",
        "_running",
        "_sent",
        "_sentence",
        "_sentence_open",
        "_sentence_start",
        "_sink",
        "_started",
        "late_frames",
        "rate_hz",
        "sent_frames",
        "underruns",
    )

    def __init__(
        self, rate_hz: int, sink: Sink, listener: PlayoutListener, *, peer_buffer_ms: int = 0, marks: bool = False
    ) -> None:
        self.rate_hz = rate_hz
        self.sent_frames = 0
        self.late_frames = 0  # left after their time: the peer heard a gap
        self.underruns = 0  # times that a reply's audio ran out in its middle
        self._sink = sink
        self._listener = listener
        self._peer_buffer_ms = peer_buffer_ms
        self._marks = marks
        self._frame_samples = frame_samples(rate_hz)
        self._now_ms = 0
        self._due_ms = 0  # when the next frame is to be played
        self._gen = 0
        self._active = False
        self._lost = False
        self._reset()

    def _reset(self) -> None:
        self._held = False
        self._finished = False
        self._started = False
        self._running = False  # frames go out one after the other, with no gap since the last
        self._chunks: deque[Pcm] = deque()
        self._offset = 0  # into the first chunk
        self._pushed = 0  # samples of this reply
        self._sent = 0
        self._sentence = -1  # being pushed
        self._sentence_start = 0
        self._sentence_open = False
        self._coming: deque[_Word] = deque()  # not sent yet
        self._going: deque[_Word] = deque()  # sent, not heard yet
        self._heard = (0, 0)

    @property
    def gen(self) -> int:
        """The latest that began; 0: none."""
        return self._gen

    @property
    def active(self) -> bool:
        """The current `gen` has not stopped."""
        return self._active

    @property
    def running(self) -> bool:
        """Frames go out one after the other. Where they do not, a tick after a push sends at once what is due."""
        return self._running

    @property
    def buffered_ms(self) -> int:
        """Audio that waits to be sent; whoever pushes faster than real time keeps it below `MAX_BUFFERED_MS`."""
        return (self._pushed - self._sent) * 1000 // self.rate_hz

    def now_heard(self) -> tuple[int, int]:
        """(sentence, chars) as of the latest tick."""
        self._hear()
        return self._heard

    # Orders

    def begin(self, gen: int) -> None:
        """A new reply; an older one that has not stopped is cut. A `gen` that does not rise is ignored."""
        if gen <= self._gen:
            return
        self.cut(self._gen)
        self._gen = gen
        self._active = True
        self._reset()
        if self._lost:
            self._stop(LOST)

    def push(self, gen: int, sentence: int, pcm: Pcm, marks: Sequence[tuple[int, int]] = ()) -> None:
        """Audio of one sentence, in order. `marks` are words' ends: (chars, samples from the sentence's first sample).

        Raises `PlayoutOverflow`, and then nothing of it is kept.
        """
        if not self._is_current(gen):
            return
        assert not self._finished, "audio after the end of a reply"
        assert sentence >= self._sentence, "sentences are pushed in their order"
        if self.buffered_ms + len(pcm) * 1000 // self.rate_hz > MAX_BUFFERED_MS:
            raise PlayoutOverflow(f"more than {MAX_BUFFERED_MS} ms of audio wait to be sent")
        if len(self._coming) + len(self._going) + len(marks) > MAX_WORDS:
            raise PlayoutOverflow(f"more than {MAX_WORDS} words wait to be heard")
        if sentence > self._sentence:
            self._sentence, self._sentence_start = sentence, self._pushed
        self._sentence_open = True
        if len(pcm):
            self._chunks.append(pcm)
            self._pushed += len(pcm)
        for chars, samples in marks:
            self._word(chars, self._sentence_start + max(samples, 1))

    def end_sentence(self, gen: int, sentence: int, chars: int) -> None:
        """All its audio was pushed. `chars` is its length, heard when the last sample is. One without audio is not."""
        if not self._is_current(gen) or sentence != self._sentence:
            return
        self._sentence_open = False
        for word in self._coming:
            word.end = min(word.end, self._pushed)
        if self._pushed > self._sentence_start and chars > self._last_chars():
            self._word(chars, self._pushed)

    def finish(self, gen: int) -> None:
        """Nothing more will be pushed."""
        if self._is_current(gen):
            self._finished = True
            self._sentence_open = False
            if not self._pushed:
                self._stop(DONE)

    def hold(self, gen: int) -> None:
        """Nothing is sent any more until `resume`; what was sent plays on."""
        if self._is_current(gen) and not self._held:
            self._held = True
            self._running = False
            self._listener.playout_held(gen, *self.now_heard())

    def resume(self, gen: int) -> None:
        """Goes on at the very next sample."""
        if self._is_current(gen):
            self._held = False

    def cut(self, gen: int) -> None:
        """Throws away the rest, the peer's buffer included."""
        if self._is_current(gen):
            self._hear()
            if self._started:
                self._sink.clear()
            self._stop(CUT)

    # What happens

    def mark_played(self, name: str) -> None:
        """The peer's echo. Names that are not on their way, such as those sent before a clear, count for nothing."""
        for at, word in enumerate(self._going):
            if word.name == name:
                for before in range(at + 1):  # the peer plays in order
                    self._going[before].echoed = True
                return

    def lost(self) -> None:
        """The connection is gone for good."""
        self._lost = True
        if self._active:
            self._hear()
            self._stop(LOST)

    def tick(self, now_ms: int) -> None:
        """Sends what is due. Never more than `SEND_AHEAD_MS` and a frame ahead, however late the tick comes."""
        self._now_ms = now_ms
        if not self._active:
            return
        if not self._held:
            self._send()
        if self._coming:
            self._mark()
        if self._going:
            self._hear()
        if self._finished and self._sent == self._pushed and now_ms >= self._over_ms():
            self._stop(DONE)

    def _send(self) -> None:
        now_ms = self._now_ms
        while self._due_ms - SEND_AHEAD_MS <= now_ms:
            frame = self._take()
            if frame is None:
                if self._running and self._due_ms <= now_ms and not self._finished:
                    self.underruns += 1
                    self._running = False
                return
            if self._due_ms < now_ms:
                self.late_frames += self._running
                self._due_ms = now_ms
            self._due_ms += FRAME_MS
            self._sink.audio(frame)
            self.sent_frames += 1
            self._running = True
            if not self._started:
                self._started = True
                self._listener.playout_started(self._gen)
            if self._coming:
                self._mark()  # between frames: an echo speaks for what was sent before its mark

    def _take(self) -> Pcm | None:
        """The next frame; a short one is filled up only where a sentence ends, since more may come elsewhere."""
        waiting = self._pushed - self._sent
        size = self._frame_samples
        if waiting < size and (not waiting or self._sentence_open):
            return None
        end = self._offset + size
        if end <= len(self._chunks[0]):
            frame = self._chunks[0][self._offset : end]
            self._offset = end
            if end == len(self._chunks[0]):
                self._chunks.popleft()
                self._offset = 0
        else:
            frame = self._gather(size)
        self._sent += min(size, waiting)
        return frame

    def _gather(self, size: int) -> Pcm:
        frame = np.zeros(size, dtype=np.int16)
        filled = 0
        while filled < size and self._chunks:
            part = self._chunks[0][self._offset : self._offset + size - filled]
            frame[filled : filled + len(part)] = part
            filled += len(part)
            self._offset += len(part)
            if self._offset == len(self._chunks[0]):
                self._chunks.popleft()
                self._offset = 0
        return frame

    def _word(self, chars: int, end: int) -> None:
        """A mark that does not go on in the text belongs to the word before it: numbers give several."""
        if self._coming:
            last = self._coming[-1]
            end = max(end, last.end)
            if last.sentence == self._sentence and chars <= last.chars:
                last.end = end
                return
        self._coming.append(_Word(end, self._sentence, chars))

    def _last_chars(self) -> int:
        """How far the marks of the sentence that is being pushed have come."""
        last = self._coming[-1] if self._coming else self._going[-1] if self._going else None
        return last.chars if last is not None and last.sentence == self._sentence else 0

    def _mark(self) -> None:
        """Words whose last sample has been sent: they are heard when the frame before the next one is."""
        while self._coming and self._coming[0].end <= self._sent:
            word = self._coming.popleft()
            word.heard_at_ms = self._due_ms
            if self._marks:
                word.name = f"{self._gen}.{word.sentence}.{word.chars}.{word.end}"
                self._sink.mark(word.name)
            else:
                word.heard_at_ms += self._peer_buffer_ms
            self._going.append(word)

    def _hear(self) -> None:
        while self._going:
            word = self._going[0]
            if word.heard_at_ms > self._now_ms or (self._marks and not word.echoed):
                return
            self._heard = max(self._heard, (word.sentence, word.chars))
            self._going.popleft()

    def _over_ms(self) -> int:
        """When a reply that was sent whole is over."""
        if not self._marks:
            return self._due_ms + self._peer_buffer_ms
        if self._going:
            return self._due_ms + self._peer_buffer_ms + ECHO_TIMEOUT_MS
        return self._due_ms

    def _is_current(self, gen: int) -> bool:
        return self._active and gen == self._gen

    def _stop(self, cause: str) -> None:
        self._active = False
        gen, (sentence, chars) = self._gen, self._heard
        self._reset()
        self._heard = (sentence, chars)
        self._listener.playout_stopped(gen, sentence, chars, cause)
