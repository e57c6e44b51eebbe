"""No speech to text: where no recogniser can be had, callers are asked again until they use their keys."""

from app.core.request import Hearing
from app.ports import Heard, Pcm


class KeysOnlyStt:
    """Hears that somebody speaks, and never what."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def open(self, rate_hz: int, language: str) -> "KeysOnlyStream":
        return KeysOnlyStream()


class KeysOnlyStream:
    def expect(self, hearing: Hearing) -> None:
        pass

    def begin(self, utterance: int) -> None:
        pass

    def feed(self, utterance: int, pcm: Pcm) -> None:
        pass

    async def finish(self, utterance: int) -> Heard:
        return Heard("", 0.0)

    def drop(self, utterance: int) -> None:
        pass

    def close(self) -> None:
        pass
