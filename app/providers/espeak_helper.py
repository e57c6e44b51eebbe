"""The process that holds espeak-ng: one sentence at a time, in chunks, with word marks, and stopped in mid-word.

It runs apart because the library keeps global state, is not safe for threads, and is under the GPL. The calls follow
`espeak-ng/speak_lib.h` (version 1.52).
"""

import bisect
import ctypes
import re
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soxr
from msgspec import Struct
from numpy.typing import NDArray

from app.providers.frames import READY, Link

SPEAK, CANCEL = 1, 2
"""To the helper: a `Speak`; forget that request."""
AUDIO, DONE, FAILED = 1, 2, 3
"""From the helper: `AudioHead` bytes, marks and samples; the end; a `Fault` and a detail as text."""

SOURCE_HZ = 22050
MAX_SPEECH_S = 120
LEAD_MS = 20
PAUSE_MS = 120
"""Silence kept before and after a sentence, so that sentences in a row sound like speech."""
CHUNK_MS = 200
SILENT_PEAK = 96  # of 32,768

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS; mode 1 loses audio
_BUFFER_MS = 20
_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE = 1
_EVENT_END, _EVENT_WORD = 0, 1
_SEED = 1
"""Voices flutter by chance: with this, the same sentences in the same order sound the same again."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_VOICE = re.compile(r"([A-Za-z0-9-]{1,32})(?:\+([A-Za-z0-9]{1,24}))?")


class Speak(Struct, array_like=True):
    text: str  # made `plain`
    voice: str
    rate_wpm: int
    rate_hz: int


class Refused(Exception):
    """A request that cannot be served: the kind of fault and a detail without the request's words."""

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault
        self.detail = detail


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),  # where the word begins
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))

Chunk = tuple[NDArray[np.int16], list[tuple[int, int]]]


class Sentence:
    """One text's audio on its way out: silence trimmed, resampled, with a mark where each word of the text ends.

    A word is what white space divides. espeak tells where a word *begins*, repeats itself within one ("$42.50") and
    skips some: a word has ended when a later one begins, and the last when the voice ends.
    """

    def __init__(self, text: str, rate_hz: int) -> None:
        words = [match.span() for match in re.finditer(r"\S+", text)]
        self._starts = [start for start, _ in words]
        self._ends = [end for _, end in words[:-1]] + [len(text)]
        self._marked = 0  # words whose mark is out
        self._rate_hz = rate_hz
        self._resampler = soxr.ResampleStream(SOURCE_HZ, rate_hz, 1, dtype="int16")
        self._seen = 0  # source samples that came
        self._cut = -1  # source samples cut at the beginning; -1: no voice yet
        self._silence = np.zeros(0, dtype=np.int16)  # held back until voice follows
        self._kept = 0  # source samples given to the resampler
        self._out: list[NDArray[np.int16]] = []
        self._out_samples = 0
        self._marks: list[tuple[int, int]] = []

    @property
    def seconds(self) -> float:
        return self._seen / SOURCE_HZ

    def push(self, pcm: NDArray[np.int16], words: list[tuple[int, int]]) -> None:
        """Source samples, and (character from 0, source sample) where words begin."""
        for character, sample in words:
            self._mark(bisect.bisect_right(self._starts, character) - 1, sample - max(self._cut, 0))
        loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > SILENT_PEAK)
        held = np.concatenate((self._silence, pcm))
        if loud.size:
            end = self._silence.size + int(loud[-1]) + 1
            begin = 0
            if self._cut < 0:
                begin = max(self._silence.size + int(loud[0]) - SOURCE_HZ * LEAD_MS // 1000, 0)
                self._cut = begin
            self._keep(held[begin:end])
            held = held[end:]
        self._silence = held
        self._seen += pcm.size

    def end(self) -> None:
        voice_end = self._kept
        self._keep(np.zeros(SOURCE_HZ * PAUSE_MS // 1000, dtype=np.int16), last=True)
        self._mark(len(self._ends), voice_end)

    def take(self, least_samples: int) -> Chunk | None:
        """What is ready, if it is at least so much."""
        if self._out_samples < max(least_samples, 1):
            return None
        chunk = np.concatenate(self._out), self._marks
        self._out, self._marks, self._out_samples = [], [], 0
        return chunk

    def _mark(self, word: int, sample: int) -> None:
        """All words before this one ended at `sample` of the kept audio."""
        place = max(sample, 0) * self._rate_hz // SOURCE_HZ
        while self._marked < min(word, len(self._ends)):
            self._marks.append((self._ends[self._marked], place))
            self._marked += 1

    def _keep(self, pcm: NDArray[np.int16], *, last: bool = False) -> None:
        self._kept += pcm.size
        out = self._resampler.resample_chunk(np.ascontiguousarray(pcm), last)
        if out.size:
            self._out.append(out)
            self._out_samples += out.size


class Engine:
    """The library itself."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = Path(espeakng_loader.get_data_path())
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, str(data).encode(), 0)
        if rate != SOURCE_HZ:
            raise RuntimeError("espeak-ng did not initialise as expected")
        self._variants = {path.name for path in (data / "voices" / "!v").iterdir()}
        self._sink: Callable[[NDArray[np.int16], list[tuple[int, int]]], bool] = lambda pcm, words: True
        self._error: BaseException | None = None
        self._callback = _Callback(self._receive)  # kept: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice: str | None = None

    def speak(self, ask: Speak, sink: Callable[[NDArray[np.int16], list[tuple[int, int]]], bool]) -> None:
        """Give chunks and word beginnings to `sink` until the end or until it answers False. Raises `Refused`."""
        self._choose(ask.voice)
        self._library.espeak_SetParameter(_RATE, ask.rate_wpm, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        self._sink, self._error = sink, None
        text = ask.text.encode() + b"\0"
        self._library.espeak_Synth(text, len(text), 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        if self._error is not None:
            raise self._error

    def _choose(self, voice: str) -> None:
        if voice == self._voice:
            return
        name = _VOICE.fullmatch(voice)
        # The library takes an unknown variant without a word, so that is looked up here.
        known = name is not None and (name[2] is None or name[2] in self._variants)
        if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            self._voice = None
            raise Refused("rejected", "no such voice")
        self._voice = voice

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        # An exception may not pass through the library: it is kept and raised after it.
        try:
            words = []
            index = 0
            while events[index].type != _EVENT_END:
                if events[index].type == _EVENT_WORD:
                    words.append((events[index].text_position - 1, events[index].sample))
                index += 1
            if samples and count > 0:
                pcm = np.ctypeslib.as_array(samples, shape=(count,)).astype(np.int16)
            else:
                pcm = np.zeros(0, dtype=np.int16)
            return 0 if self._sink(pcm, words) else 1
        except BaseException as error:  # noqa: BLE001 - raised again in `speak`
            self._error = error
            return 1


def plain(text: str) -> str:
    """Control characters are commands to espeak, and half a surrogate pair is nothing: a space each, in its place."""
    return _CONTROL.sub(" ", text)


class Helper:
    """Requests in their order; a cancelled one stops at its next chunk."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._engine = Engine()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._cancelled = -1

    def run(self) -> None:
        self._engine.speak(Speak("ready", "en-us", 170, SOURCE_HZ), lambda pcm, words: True)
        self._link.write(READY, 0)
        while True:
            self._hear(wait=not self._waiting)
            if self._waiting:
                number, body = self._waiting.popleft()
                self._serve(number, msgspec.msgpack.decode(body, type=Speak))

    def _hear(self, *, wait: bool) -> None:
        for kind, number, body in self._link.read(wait=wait):
            if kind == SPEAK:
                self._waiting.append((number, body))
            else:
                self._cancelled = number
                self._waiting = deque(entry for entry in self._waiting if entry[0] != number)

    def _serve(self, number: int, ask: Speak) -> None:
        sentence = Sentence(ask.text, ask.rate_hz)
        least = 0

        def receive(pcm: NDArray[np.int16], words: list[tuple[int, int]]) -> bool:
            nonlocal least
            sentence.push(pcm, words)
            if sentence.seconds > MAX_SPEECH_S:
                raise Refused("too-large", f"more than {MAX_SPEECH_S} s of speech")
            if self._send(number, sentence.take(least)):
                least = ask.rate_hz * CHUNK_MS // 1000
            self._hear(wait=False)
            return self._cancelled != number

        try:
            self._engine.speak(ask, receive)
        except Refused as refused:
            self._link.write(FAILED, number, msgspec.msgpack.encode((refused.fault, refused.detail)))
            return
        if self._cancelled != number:
            sentence.end()
            self._send(number, sentence.take(0))
        self._link.write(DONE, number)

    def _send(self, number: int, chunk: Chunk | None) -> bool:
        if chunk is None:
            return False
        pcm, marks = chunk
        self._link.write(AUDIO, number, msgspec.msgpack.encode((marks, pcm.tobytes())))
        return True


def main() -> None:
    try:
        Helper(Link()).run()
    except EOFError:
        sys.exit(0)


if __name__ == "__main__":
    main()
