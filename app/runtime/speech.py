"""What a call's words go out through: synthesis into a leg's playout, or text on a screen."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from app.core.events import AnyEvent, PlayoutHeld, PlayoutStarted, PlayoutStopped, SpeechFailed
from app.ports import ProviderError, Tts
from flows.model import Voice
from media.playout import Playout, PlayoutOverflow

MAX_AHEAD_MS = 2000
"""While this much waits to be played, no further sentence is synthesized: most replies are interrupted before it."""

MIN_WAIT_MS = 100

Post = Callable[[AnyEvent], None]
Spawn = Callable[..., "asyncio.Task[None]"]


class Output(Protocol):
    """Where a call's speech orders go. All are sync; each `gen` that was spoken in gets one `PlayoutStopped`."""

    def speak(self, gen: int, index: int, text: str) -> None: ...

    def end(self, gen: int) -> None: ...

    def hold(self, gen: int) -> None: ...

    def resume(self, gen: int) -> None: ...

    def cut(self, gen: int) -> None: ...

    def close(self) -> None:
        """Nobody is there to hear any more: all work ends, and nothing is told."""
        ...


class Spoken:
    """Synthesis into one leg's playout: one job a reply, sentence after sentence. `tick` ticks that leg at once."""

    def __init__(
        self,
        playout: Playout,
        tts: Tts,
        voice: Voice,
        spawn: Spawn,
        post: Post,
        caption: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        self._playout = playout
        self._tts = tts
        self._voice = voice
        self._spawn = spawn
        self._post = post
        self._caption = caption
        self._tick = tick
        self._gen = 0
        self._waiting: deque[tuple[int, str]] = deque()
        self._ended = False
        self._more = asyncio.Event()
        self._job: asyncio.Task[None] | None = None

    def speak(self, gen: int, index: int, text: str) -> None:
        if gen != self._gen:
            self._stop()
            self._gen = gen
            self._waiting.clear()
            self._ended = False
            self._playout.begin(gen)
            self._job = self._spawn(self._synthesize(gen))
        self._waiting.append((index, text))
        self._more.set()

    def end(self, gen: int) -> None:
        if gen == self._gen:
            self._ended = True
            self._more.set()

    def hold(self, gen: int) -> None:
        self._playout.hold(gen)

    def resume(self, gen: int) -> None:
        self._playout.resume(gen)
        self._tick()  # each frame that a hold is shorter is one less to be heard

    def cut(self, gen: int) -> None:
        if gen == self._gen:
            self._stop()
        self._playout.cut(gen)

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None

    async def _synthesize(self, gen: int) -> None:
        while True:
            while not self._waiting:
                if self._ended:
                    self._playout.finish(gen)
                    return
                self._more.clear()
                await self._more.wait()
            await self._nearly_due()
            index, text = self._waiting.popleft()
            self._caption(text)
            try:
                await self._sentence(gen, index, text)
            except ProviderError as error:
                self._post(SpeechFailed(gen, index, error.fault))
                return
            except PlayoutOverflow:
                self._post(SpeechFailed(gen, index, "overflow"))
                return

    async def _nearly_due(self) -> None:
        while (early_ms := self._playout.buffered_ms - MAX_AHEAD_MS) > 0:  # noqa: ASYNC110  # the wait is known
            await asyncio.sleep(max(early_ms, MIN_WAIT_MS) / 1000)

    async def _sentence(self, gen: int, index: int, text: str) -> None:
        playout = self._playout
        async with aclosing(self._tts.speak(text, self._voice, playout.rate_hz)) as chunks:
            async for chunk in chunks:
                playout.push(gen, index, chunk.pcm, [(mark.chars, mark.samples) for mark in chunk.marks])
                if not playout.running:
                    self._tick()  # the first sound does not wait for the clock
        playout.end_sentence(gen, index, len(text))


class Typed:
    """Words on a screen: read as soon as they are shown."""

    def __init__(self, show: Callable[[str], None], post: Post) -> None:
        self._show = show
        self._post = post
        self._gen = 0
        self._sentences = 0

    def speak(self, gen: int, index: int, text: str) -> None:
        if gen != self._gen:
            self._gen = gen
            self._post(PlayoutStarted(gen))
        self._sentences = index + 1
        self._show(text)

    def end(self, gen: int) -> None:
        if gen == self._gen:
            self._post(PlayoutStopped(gen, self._sentences, 0, "done"))

    def hold(self, gen: int) -> None:
        if gen == self._gen:
            self._post(PlayoutHeld(gen, self._sentences, 0))

    def resume(self, gen: int) -> None:
        pass

    def cut(self, gen: int) -> None:
        if gen == self._gen:
            self._post(PlayoutStopped(gen, self._sentences, 0, "cut"))

    def close(self) -> None:
        pass
