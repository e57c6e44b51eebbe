"""What the call's runtime needs from the outside, as Protocols, and how outside things fail.

Every port has a conformance suite in `tests/conformance/` which its scripted fake passes too.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from app.core.codec import CallHeader, Record
from app.core.events import ToolRequest
from app.core.request import Hearing, Request
from flows.model import Flow, Tool, Value, Voice

Pcm = NDArray[np.int16]
"""Mono samples, shape (n,), at a rate that the place says."""


class Fault(StrEnum):
    """How a provider fails. The flow and the ladder act on the kind, never on a vendor's text."""

    timeout = "timeout"  # no answer, or a stall in the middle of one
    refused = "refused"  # connection refused, DNS, TLS
    cut = "cut"  # the connection ended in the middle of an answer
    auth = "auth"  # a key that is missing or wrong
    busy = "busy"  # rate limits: 429, 503
    broken = "broken"  # the far side's own error: 5xx
    rejected = "rejected"  # it does not accept our request: other 4xx
    malformed = "malformed"  # an answer that is not what its documentation says
    truncated = "truncated"  # stopped by a length limit
    filtered = "filtered"  # stopped by a content filter
    too_large = "too-large"  # an answer over our limit
    forbidden = "forbidden"  # our own guard stopped it: an address or module that is not admitted
    crashed = "crashed"  # a helper process died


class ProviderError(Exception):
    """A provider did not do its work. `str()` of it is safe to log: it holds no words, keys or bodies."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else str(fault))
        self.fault = fault


class Clock(Protocol):
    def monotonic_ms(self) -> int: ...

    def wall_iso(self) -> str:
        """Now, in UTC, as ISO 8601 with milliseconds."""
        ...


# Speech to text


class Heard(Struct, frozen=True):
    text: str  # empty: nothing that was expected
    confidence: float = 1.0
    wants_floor: float = 0.0  # by the sound of a short stretch alone, log odds; below 0: a backchannel; 0: not known


class SttStream(Protocol):
    """One call's recogniser. `begin`, `feed` and `expect` never block: they are called in the audio path."""

    def expect(self, hearing: Hearing) -> None:
        """What may be said from the next utterance on."""
        ...

    def begin(self, utterance: int) -> None: ...

    def feed(self, utterance: int, pcm: Pcm) -> None:
        """20 ms at the rate given to `Stt.open`."""
        ...

    async def finish(self, utterance: int) -> Heard:
        """The utterance is over. Cancelling forgets it.

        Raises `ProviderError`: `rejected` for one that was never begun, `too_large` for one that went on too long,
        `cut` once the stream or its recogniser is gone.
        """
        ...

    def drop(self, utterance: int) -> None:
        """It was noise: forget it."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class EarlyStt(Protocol):
    """A stream that can also tell an utterance's words before its end."""

    def tell_early(self, tell: Callable[[int, Heard], None]) -> None:
        """From now on: `tell(utterance, heard)`, on the loop, also of what is not sure enough to be believed."""
        ...


class Stt(Protocol):
    def open(self, rate_hz: int, language: str) -> SttStream:
        """Raises `ProviderError`."""
        ...

    async def start(self) -> None:
        """Start helpers and warm up; called once, before the first call."""
        ...

    async def stop(self) -> None: ...


# Text to speech


class Mark(Struct, frozen=True):
    """A word's end: `chars` of the text have been spoken when `samples` have been played."""

    chars: int
    samples: int  # from the sentence's first sample, at the rate asked for


class SpeechChunk(Struct, frozen=True):
    pcm: Pcm
    marks: tuple[Mark, ...] = ()  # may refer to samples of later chunks, never of earlier ones


class Tts(Protocol):
    def speak(self, text: str, voice: Voice, rate_hz: int) -> AsyncGenerator[SpeechChunk, None]:
        """Synthesize one sentence. Raises `ProviderError`. Closing or cancelling the iterator stops the work at once.

        The last mark's `chars` is `len(text)` and its `samples` is at most the number of samples given.
        """
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


# Language models and rules


class Words(Struct, frozen=True):
    text: str  # a piece of the reply, cut anywhere


class Proposal(Struct, frozen=True):
    """Slots and an intent that the engine read in the caller's words."""

    slots: dict[str, Value] = {}
    intent: str = ""
    evidence: str = ""


class Calls(Struct, frozen=True):
    """All tool calls of one message, when the message has ended."""

    calls: tuple[ToolRequest, ...]


class Used(Struct, frozen=True):
    model: str
    input_tokens: int
    output_tokens: int


Part = Words | Proposal | Calls | Used


class Llm(Protocol):
    def reply(self, request: Request) -> AsyncGenerator[Part, None]:
        """Answer one request. Raises `ProviderError`. Closing or cancelling the iterator closes the connection.

        Nothing is retried once the first part is out.
        """
        ...

    async def stop(self) -> None: ...


# Tools


class ToolFailed(ProviderError):
    """It definitely had no effect."""


class ToolUnknown(ProviderError):
    """Nobody can say whether it had its effect."""


class Tools(Protocol):
    async def run(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> dict[str, Any]:
        """Do it, with the tool's timeout and retries, and return its typed result (`Tool.result`'s fields or None).

        Raises `ToolFailed` or `ToolUnknown`. The first byte leaves with no await after the call of this coroutine
        has been scheduled and the lease checked.
        """
        ...

    async def stop(self) -> None: ...


# The journal's store


class Begin(Struct, frozen=True):
    """A call's header, its resolved flow (kept once per hash) and its sealing key; takes the lease of `epoch`."""

    header: CallHeader
    flow: bytes
    key: bytes


class Append(Struct, frozen=True):
    call: str
    epoch: int
    records: tuple[Record, ...]


class Reserve(Struct, frozen=True):
    """Take a `once` key for tool call `n`. The same call and `n` may take it again; anyone else conflicts."""

    call: str
    epoch: int
    n: int
    once: str


class Release(Struct, frozen=True):
    call: str
    epoch: int
    n: int


class Finish(Struct, frozen=True):
    call: str
    epoch: int
    cdr: bytes  # JSON
    recording: str = ""  # path below the data folder


Write = Begin | Append | Reserve | Release | Finish


class Written(StrEnum):
    ok = "ok"
    conflict = "conflict"  # a `once` key that is taken
    stale = "stale"  # another epoch holds this call: nothing of this write was done
    gap = "gap"  # `seq` does not follow the last record


class CallRow(Struct, frozen=True):
    header: CallHeader
    records: int
    cdr: bytes | None  # None: live, or died without one
    recording: str = ""
    purged: bool = False  # its key is deleted: its sealed words cannot be read any more


class Journal(Struct, frozen=True):
    row: CallRow
    flow: bytes  # empty when it is missing
    key: bytes  # empty when purged
    records: tuple[Record, ...]


class JournalStore(Protocol):
    """Synchronous; called from one writer thread, and from readers of their own. Raises `StoreError`."""

    def commit(self, writes: Sequence[Write]) -> list[Written]:
        """All in one transaction that is durable on return; each write has its own answer."""
        ...

    def epoch(self, call: str) -> int:
        """The epoch that holds the call; 0 if there is none."""
        ...

    def calls(self, limit: int = 50, flow: str = "", before: str = "") -> list[CallRow]:
        """Newest first; those that began before the call `before`, if given: none where there is no such call."""
        ...

    def unfinished(self) -> list[str]:
        """Calls without a record that were not purged, oldest first: live ones, and those that died."""
        ...

    def load(self, call: str, after: int = 0) -> Journal:
        """`call` may be shortened to a unique beginning. Raises `NoSuchCall` if none or several begin so.

        Of its records those with a higher `seq` than `after`.
        """
        ...

    def purge(self, before_iso: str) -> int:
        """Delete ended calls that started before then, with their keys and recordings' names; returns how many."""
        ...

    def close(self) -> None: ...


class NoSuchCall(LookupError):
    """No call, or several, begin with what was asked for."""


class StoreError(Exception):
    """The store cannot be read or written: a full disk, a locked or broken file."""
