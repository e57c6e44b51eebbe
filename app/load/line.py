"""One simulated caller's connection: what every transport gives its caller, and how it fails.

Times are `time.perf_counter` seconds. Nothing in a line's frames costs more than plain calls: hundreds share a core.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from media.audio import FRAME_MS
from media.codec import Codec

FRAME_S: Final = FRAME_MS / 1000

CONNECT_TIMEOUT_S: Final = 10.0
"""For a line to be answered; then it raises `LineError(Trouble.timeout)`."""


UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What decoding raises for bytes that are no message."""

MAX_CODE_CHARS: Final = 40
MAX_WORDS_CHARS: Final = 200


class Trouble(StrEnum):
    """How a line fails, by kind. Reports count by these."""

    unreachable = "unreachable"  # nobody listens there, or no such host
    tls = "tls"
    timeout = "timeout"  # no answer
    protocol = "protocol"  # the server did not keep to the protocol
    cut = "cut"  # the connection ended without a goodbye
    flood = "flood"  # far more came than anybody can hear
    silent = "silent"  # media stopped coming, where a transport can tell
    tester = "tester"  # our own fault
    unsupported = "unsupported"  # what the scenario asks for, this transport cannot do


class BadAddress(ValueError):
    """An address that nobody can be called by; says what can be."""


class LineError(Exception):
    """No connection. `str()` of it holds no words or keys."""

    def __init__(self, kind: Trouble, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind


def printable(text: str, most: int = MAX_WORDS_CHARS) -> str:
    """What a server said, as it may stand in tables and terminals: so long at most, and nothing that moves a cursor."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:most])


class Refused(Exception):
    """The server answered, and took no call. `code` as its protocol has it: "busy", "503", "4404"."""

    def __init__(self, code: str, reason: str = "") -> None:
        code, reason = printable(code, MAX_CODE_CHARS), printable(reason)
        super().__init__(f"{code}: {reason}" if reason else code)
        self.code = code
        self.reason = reason


class NotResumable(Exception):
    """This transport, or this server, cannot take the same call up again."""


class Listener(Protocol):
    """The caller's side of a line. Called on the loop, as things arrive; it never blocks."""

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        """What came, as the line's codec encoded it; `media_s` is its place in the sender's own time, where it has one.

        `media_s` counts from anywhere, and goes up by what was sent or left out: 0.02 from one frame to the next.
        """
        ...

    def cleared(self, at_s: float) -> None:
        """What was not played yet is to be thrown away."""
        ...

    def caption(self, who: str, text: str) -> None:
        """Words as text, of the "agent" or the "caller"."""
        ...

    def ended(self, cause: str, outcome: str) -> None:
        """The server said goodbye; both are "" where the transport does not tell. The last thing to be told."""
        ...

    def failed(self, kind: Trouble) -> None:
        """The line is gone without a goodbye. The last thing to be told, unless `resume` takes the call up again."""
        ...


class Line(Protocol):
    """Made for one call. After `hang_up` or `drop` nothing more is told to the listener."""

    codec: Codec
    """Both ways; its state is the line's own. Payloads are 20 ms each."""
    clears: bool
    """It tells when the server throws away what it had sent."""

    @property
    def call(self) -> str:
        """The server's name for the call, once and where it tells; it finds the call in the server's records."""
        ...

    async def connect(self, listener: Listener) -> None:
        """Returns when media flows. Raises `Refused` or `LineError`, and leaves nothing open then."""
        ...

    def send(self, payload: bytes) -> None:
        """The next 20 ms. With b"" nothing goes out, and media time goes on: loss, or a silent sender.

        On a line that is over it does nothing.
        """
        ...

    def digit(self, digit: str, duration_ms: int) -> None:
        """One of 0-9 * #; it may be sent within the next `send` calls."""
        ...

    async def hang_up(self) -> None:
        """Say goodbye and close; never raises, whatever the state. Takes a second at most."""
        ...

    def drop(self) -> None:
        """The network is gone: no goodbye. Safe to call twice."""
        ...

    async def resume(self) -> None:
        """The same call again after `drop` or `failed`. Raises `NotResumable`, `Refused` or `LineError`."""
        ...


LineFactory = Callable[[int], Line]
"""Makes the line of call number n (from 0)."""
