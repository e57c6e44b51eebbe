"""A caller: sends its frames, interrupts the agent, ends its turns, and times what comes back.

Each has a twin of the server's ear that gets the same frames, so that it knows at which of them the ear decided.
"""

import random
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from app.load.wire import NORMAL, Wire
from media.audio import FRAME_MS, Pcm
from media.ear import Ear
from tests.bench.dialect import Dialect, Kind
from tests.bench.server import ENDPOINT_MS, LLM_FIRST_MS, STT_FINAL_MS, TTS_FIRST_MS
from tests.bench.voices import Frame, Voices

FRAME_S: Final = FRAME_MS / 1000
SILENCE_S: Final = 0.15  # no agent audio for this long: it fell silent
LISTEN_S: Final = (0.8, 2.0)  # how long a caller lets the agent talk
LATE_S: Final = 0.0005  # a frame this much behind its time is a gap for a peer that buffers nothing
MAX_LATE: Final = 1000  # times that the clock was late, which are remembered
DECLARED_MS: Final = max(ENDPOINT_MS, STT_FINAL_MS) + LLM_FIRST_MS + TTS_FIRST_MS


@dataclass(slots=True)
class Heard:
    """All callers' measurements, in milliseconds."""

    barge_in: list[float] = field(default_factory=list)  # onset's frame sent to last agent frame received
    detection: list[float] = field(default_factory=list)  # onset's frame to the frame at which the ear decided
    silence: list[float] = field(default_factory=list)  # the deciding frame to the last agent frame; below 0: none came
    response: list[float] = field(
        default_factory=list
    )  # the offset's frame to first agent audio, less what is declared
    own: int = 0  # measurements left out since the callers' own clock was late
    resumed: int = 0  # utterances that were not taken for a voice
    unheard: int = 0  # utterances without an onset
    frames: int = 0  # of the agent
    late: int = 0
    errors: list[str] = field(default_factory=list)


class Clock:
    """The callers' common clock; knows when it was late itself."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=MAX_LATE)  # from when to when, the latest last

    def was_late(self, due_s: float, now_s: float) -> None:
        self._late.append((due_s, now_s))

    def spoils(self, began_s: float, ended_s: float) -> bool:
        """Whether it was late at any time in between. That only makes what is measured look longer, never shorter."""
        return any(due_s <= ended_s and now_s >= began_s for due_s, now_s in self._late)


class _Does(Enum):
    listens = auto()
    speaks = auto()
    waits = auto()


class _NoCheck:
    """In place of the careful detector, which changes neither onset nor offset."""

    voice = True

    def begin(self) -> None: ...

    def feed(self, pcm: Pcm) -> bool:
        return True

    def end(self) -> None: ...


class Caller:
    """Sync; `frame` every 20 ms."""

    def __init__(
        self, dialect: Dialect, voices: Voices, heard: Heard, clock: Clock, seed: int, *, interrupts: bool
    ) -> None:
        self.dialect = dialect
        self.heard = heard
        self.interrupts = interrupts
        self.wire: Wire
        self._voices = voices
        self._clock = clock
        self._random = random.Random(seed)
        self._ear = Ear(dialect.rate_hz, self)
        setattr(self._ear, "_check", _NoCheck())  # noqa: B010  # another type, for the benchmark alone
        self._does = _Does.listens
        self._line_at = self._random.randrange(len(voices.line))
        self._outgoing: deque[Frame] = deque()
        self._marks: deque[tuple[float, str]] = deque()
        self._agent_s = 0.0  # the last agent frame
        self._reply_s = 0.0  # the first of this reply
        self._play_s = 0.0  # when the next one is to be played
        self._listens_s = self._random.uniform(*LISTEN_S)
        self._edge = ""
        self._forget()

    def _forget(self) -> None:
        self._onset_s = self._decided_s = self._offset_s = 0.0

    # The twin's findings

    def speech_started(self, utterance: int, now_ms: int) -> None:
        self._edge = "onset"

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        pass

    def speech_confirmed(self, utterance: int) -> None:
        pass

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        pass

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        self._edge = "offset"

    # Sending

    def hello(self) -> None:
        for each in self.dialect.hello():
            self.wire.send(each)

    def frame(self) -> None:
        if self._does is _Does.listens and self.interrupts:
            self._perhaps_interrupt(time.perf_counter())
        if self._outgoing:
            frame = self._outgoing.popleft()
        else:
            frame = self._voices.line[self._line_at]
            self._line_at = (self._line_at + 1) % len(self._voices.line)
            if self._does is _Does.speaks:
                self._does = _Does.waits
        encoded = self.dialect.frame(frame)
        self._edge = ""
        self._ear.feed(frame.pcm, int(time.perf_counter() * 1000))
        now_s = time.perf_counter()
        self.wire.send(encoded)
        while self._marks and self._marks[0][0] <= now_s:
            self.wire.send(self.dialect.mark(self._marks.popleft()[1]))
        if self._does is _Does.listens:
            return
        if frame.loud and not self._onset_s:
            self._onset_s = now_s
        if self._edge == "onset" and not self._decided_s:
            self._decided_s = now_s
        elif self._edge == "offset":
            self._offset_s = now_s

    def _perhaps_interrupt(self, now_s: float) -> None:
        if self._reply_s and now_s - self._reply_s >= self._listens_s:
            self._listens_s = self._random.uniform(*LISTEN_S)
            self._outgoing.extend(self._random.choice(self._voices.utterances))
            self._forget()
            self._does = _Does.speaks

    # Receiving

    def receive(self, opcode: int, payload: bytes) -> None:
        now_s = time.perf_counter()
        kind, name = self.dialect.read(opcode, payload)
        match kind:
            case Kind.audio:
                self._audio(now_s)
            case Kind.mark:
                self._marks.append((self._play_s, name))
            case Kind.clear:
                while self._marks:  # as Twilio does it
                    self.wire.send(self.dialect.mark(self._marks.popleft()[1]))
            case Kind.other:
                if b"error" in payload or b"ended" in payload:
                    self.heard.errors.append(payload.decode())

    def closed(self, code: int, reason: str) -> None:
        if code != NORMAL:
            self.heard.errors.append(f"closed with {code}")

    def _audio(self, now_s: float) -> None:
        self.heard.frames += 1
        fell_silent = now_s - self._agent_s > SILENCE_S
        if fell_silent:
            if self._does is not _Does.listens:
                self._back(now_s)
            self._reply_s = self._reply_s or now_s
            self._play_s = now_s
        elif now_s > self._play_s + LATE_S:
            self.heard.late += 1
            self._play_s = now_s
        self._play_s += FRAME_S
        self._agent_s = now_s

    def _back(self, now_s: float) -> None:
        """The agent's first frame after its silence."""
        heard = self.heard
        if not self._decided_s:
            heard.unheard += 1
        else:
            if self._clock.spoils(self._onset_s, max(self._agent_s, self._decided_s)):
                heard.own += 1
            else:
                heard.barge_in.append((self._agent_s - self._onset_s) * 1000)
                heard.detection.append((self._decided_s - self._onset_s) * 1000)
                heard.silence.append((self._agent_s - self._decided_s) * 1000)
            if not self._offset_s or now_s - self._offset_s <= ENDPOINT_MS / 1000:
                heard.resumed += 1
            elif self._clock.spoils(self._offset_s, now_s):
                heard.own += 1
            else:
                heard.response.append((now_s - self._offset_s) * 1000 - DECLARED_MS)
        self._does = _Does.listens
        self._reply_s = now_s
