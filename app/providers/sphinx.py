"""Speech to text by pocketsphinx, in worker processes (`sphinx_worker`), with a grammar made from what is expected.

It understands what the grammar holds and little else; the rest is rejected, as "". English only. No key, no download.
"""

import asyncio
import importlib.util
import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache, partial

import msgspec

from app.core.request import Hearing
from app.ports import Fault, Heard, Pcm, ProviderError
from app.providers.frames import Frame
from app.providers.process import Process
from app.providers.sphinx_worker import (
    AUDIO,
    BEGIN,
    DROP,
    EARLY,
    FINISH,
    HEARD,
    NARROW_HZ,
    Begin,
    Early,
    Result,
    dictionary,
)
from flows import grammar
from flows.model import SlotType

DEFAULT_WORKERS = 2
MAX_UTTERANCE_S = 30
MAX_UTTERANCES = 12
"""Open at once in one worker, which keeps up with about 8 on a core."""
MAX_GRAMMAR_CHARS = 64_000
FINISH_TIMEOUT_S = 5.0
RATES_HZ = (8000, 16_000, 24_000, 48_000)

FLOOR_WIDE, FLOOR_NARROW = -14.0, -17.0
"""The least margin of the grammar's score over free sounds, a frame, at which words are believed; at 8 kHz everything
fits worse. Tuned on synthetic voices (`tests/bench/bench_stt.py`): lower accepts more that is none of it, higher asks
people again."""
FLOOR_DIGITS = -9.0
"""Digit words are short and fit anything: more is asked of them."""
CONFIDENCE_SLOPE = 5.0

_result = msgspec.msgpack.Decoder(Result)
_early = msgspec.msgpack.Decoder(Early)
_failed = msgspec.msgpack.Decoder(tuple[str, str])

Grammar = Callable[[Hearing], str]


def available() -> bool:
    """False where pocketsphinx is not installed; there is no build of it for Python 3.14."""
    return importlib.util.find_spec("pocketsphinx") is not None


def unknown_words(phrases: Iterable[str]) -> tuple[str, ...]:
    """Those words, sorted, that the recogniser cannot hear: its dictionary lacks them. Reads a file of 3 MB.

    Grammars may hold them all the same: what needs such a word is never heard. Nothing is unknown without pocketsphinx.
    """
    if not available():
        return ()
    words = {word for phrase in phrases for word in phrase.lower().split()}
    return tuple(sorted(words - dictionary(words).keys()))


@lru_cache(maxsize=256)
def jsgf(hearing: Hearing) -> str:
    """The grammar of what may be said now."""
    return grammar.jsgf(hearing.slots, yesno=hearing.yesno, phrases=hearing.phrases)


class SphinxStt:
    """`workers` processes of about 100 MB each. An utterance goes to the one with the fewest."""

    def __init__(self, workers: int = min(DEFAULT_WORKERS, os.cpu_count() or 1), grammar: Grammar = jsgf) -> None:
        assert workers > 0
        self._workers = [_Worker() for _ in range(workers)]
        self._grammar = grammar

    async def start(self) -> None:
        """Raises `ProviderError`, and leaves nothing running then."""
        _require()
        try:
            for worker in self._workers:
                await worker.process.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        for worker in self._workers:
            await worker.process.stop()
            worker.fail_all(Fault.cut, "stopped")

    def pids(self) -> list[int]:
        """Of the workers; 0 for one that is down."""
        return [worker.process.pid for worker in self._workers]

    def open(self, rate_hz: int, language: str) -> "SphinxStream":
        _require()
        if rate_hz not in RATES_HZ:
            raise ProviderError(Fault.rejected, f"a rate of {rate_hz} Hz")
        if language.partition("-")[0].lower() != "en":
            raise ProviderError(Fault.rejected, "the embedded recogniser knows English only")
        return SphinxStream(self._workers, self._grammar, rate_hz)


def _require() -> None:
    if not available():
        raise ProviderError(Fault.rejected, "pocketsphinx is not installed: there may be no build for this Python")


class SphinxStream:
    """One call's recogniser: it carries what the channel sounds like from one utterance to the next."""

    def __init__(self, workers: list["_Worker"], grammar: Grammar, rate_hz: int) -> None:
        self._workers = workers
        self._make_grammar = grammar
        self._rate_hz = rate_hz
        self._grammar = ""
        self._words_floor = FLOOR_NARROW if rate_hz <= NARROW_HZ else FLOOR_WIDE
        self._floor = self._words_floor
        self._cmn = ""
        self._utterances: dict[int, _Utterance] = {}
        self._finishing: set[_Utterance] = set()
        self._closed = False
        self._tell_early: Callable[[int, Heard], None] | None = None

    def tell_early(self, tell: Callable[[int, Heard], None]) -> None:
        self._tell_early = tell

    def expect(self, hearing: Hearing) -> None:
        self._grammar = self._make_grammar(hearing)
        self._floor = self._words_floor
        if hearing.slots and hearing.slots[0].type in (SlotType.digits, SlotType.number, SlotType.money):
            self._floor = FLOOR_DIGITS

    def begin(self, utterance: int) -> None:
        self.drop(utterance)
        if not self._closed:
            begin = Begin(self._grammar, self._rate_hz, self._cmn, self._floor)
            worker = min(self._workers, key=lambda each: (not each.process.up, len(each.open)))
            heard = self._utterances[utterance] = worker.begin(begin)
            if self._tell_early is not None:
                heard.early = partial(self._tell_early, utterance)

    def feed(self, utterance: int, pcm: Pcm) -> None:
        heard = self._utterances.get(utterance)
        if heard is None or heard.error is not None:
            return
        heard.samples += pcm.size
        if heard.samples > MAX_UTTERANCE_S * self._rate_hz:
            heard.fail(ProviderError(Fault.too_large, f"more than {MAX_UTTERANCE_S} s"))
        else:
            heard.send(AUDIO, pcm.tobytes())

    async def finish(self, utterance: int) -> Heard:
        heard = self._utterances.pop(utterance, None)
        if heard is None:
            raise ProviderError(Fault.cut if self._closed else Fault.rejected, "no such utterance")
        self._finishing.add(heard)
        try:
            result = await heard.result()
        finally:
            self._finishing.discard(heard)
            heard.forget()
        if math.isfinite(result.margin):
            self._cmn = result.cmn
        return Heard(result.text, _confidence(result.margin - heard.floor), result.wants_floor)

    def drop(self, utterance: int) -> None:
        heard = self._utterances.pop(utterance, None)
        if heard is not None:
            heard.forget()

    def close(self) -> None:
        self._closed = True
        for utterance in list(self._utterances):
            self.drop(utterance)
        for heard in self._finishing:
            heard.fail(ProviderError(Fault.cut, "closed"))


def _confidence(above: float) -> float:
    return round(1 / (1 + math.exp(-max(above, -100.0) / CONFIDENCE_SLOPE)), 3)


class _Utterance:
    """The server's end of one utterance. What goes wrong is kept until `result` raises it."""

    def __init__(self, worker: "_Worker", number: int, floor: float) -> None:
        self._worker = worker
        self._number = number
        self._done: asyncio.Future[Result] | None = None
        self.floor = floor
        self.samples = 0
        self.error: ProviderError | None = None
        self.early: Callable[[Heard], None] = lambda heard: None

    def send(self, kind: int, body: bytes = b"") -> None:
        if self.error is None:
            try:
                self._worker.process.send(kind, self._number, body)
            except ProviderError as error:
                self.fail(error)

    def succeed(self, result: Result) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(result)

    def fail(self, error: ProviderError) -> None:
        if self.error is None:
            self.error = error
            self.forget()
            if self._done is not None and not self._done.done():
                self._done.set_exception(error)

    async def result(self) -> Result:
        self.send(FINISH)
        if self.error is not None:
            raise self.error
        self._done = asyncio.get_running_loop().create_future()
        before = self._worker.frames
        try:
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                return await self._done
        except TimeoutError:
            if self._worker.frames == before:
                self._worker.process.kill()
            raise ProviderError(Fault.timeout, "no transcript came") from None

    def forget(self) -> None:
        """The worker drops it, unless it has ended."""
        self._worker.forget(self._number)


class _Worker:
    """One process and the utterances that it listens to."""

    def __init__(self) -> None:
        self.process = Process("app.providers.sphinx_worker", self._receive, self._died)
        self.open: dict[int, _Utterance] = {}
        self.frames = 0  # that ever came: a worker that sends nothing hangs
        self._numbers = 0

    def begin(self, begin: Begin) -> _Utterance:
        self._numbers = (self._numbers + 1) & 0xFFFF_FFFF
        heard = _Utterance(self, self._numbers, begin.floor)
        if len(self.open) >= MAX_UTTERANCES:
            heard.error = ProviderError(Fault.busy, "too many people speak at once")
        elif not begin.grammar or len(begin.grammar) > MAX_GRAMMAR_CHARS:
            heard.error = ProviderError(Fault.rejected, "nothing or too much is expected")
        else:
            self.open[self._numbers] = heard
            heard.send(BEGIN, msgspec.msgpack.encode(begin))
        return heard

    def forget(self, number: int) -> None:
        if self.open.pop(number, None) is not None and self.process.up:
            with suppress(ProviderError):  # a death that is reported to whom it concerns
                self.process.send(DROP, number)

    def fail_all(self, fault: Fault, detail: str) -> None:
        broken, self.open = self.open, {}
        for heard in broken.values():
            heard.fail(ProviderError(fault, detail))

    def _receive(self, frame: Frame) -> None:
        self.frames += 1
        if frame.kind == EARLY:
            begun = self.open.get(frame.number)
            if begun is not None:
                early = _early.decode(frame.body)
                begun.early(Heard(early.text, _confidence(early.margin - begun.floor), early.wants_floor))
            return
        heard = self.open.pop(frame.number, None)
        if heard is None:
            return
        if frame.kind == HEARD:
            heard.succeed(_result.decode(frame.body))
        else:
            fault, detail = _failed.decode(frame.body)
            heard.fail(ProviderError(Fault(fault), detail))

    def _died(self) -> None:
        self.fail_all(Fault.crashed, "the recogniser's process died")
