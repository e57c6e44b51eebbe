"""Where legs meet calls: what a transport asks for, and who admits it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from media.leg import CloseCode, LegHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class LegRequest:
    """A peer wants to talk. Everything in it is the peer's claim, bounded in size and otherwise unchecked."""

    transport: str  # "audio", "twilio", "webrtc", "sip"
    rate_hz: int = 0  # of its audio, once it said so
    flow: str = ""  # from the path; empty: the routes or the default decide
    url: str = ""  # as asked for, "wss://host/path?query": what a signature covers
    peer: str = ""  # the other end's address, as the socket says
    source: str = ""  # whose connection it is, by `media.source`: what limits count by
    headers: Mapping[str, str] = field(default_factory=dict)  # by `media.source.field_values`
    query: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)  # what a provider passes on
    token: str = ""
    identity: str = ""  # whom the transport itself knows this to be
    resume: str = ""  # the greeting's token of a leg that was lost
    listen: str = ""  # the live call that this leg only wants to listen to
    caller: str = ""
    called: str = ""
    peer_call: str = ""  # the provider's own name for the call, such as Twilio's CallSid


@dataclass(frozen=True, slots=True)
class Admission:
    call: str
    leg: str
    resume: str  # the token with which this leg may come back
    handler: LegHandler
    flow: str = ""


class Callee(LegHandler, Protocol):
    """The call's side of a leg that is dialled. Before `attach` either `not_reached` or `lost` may be the last."""

    def rang(self) -> None: ...

    def not_reached(self, status: int) -> None:
        """A final SIP status, or the one that comes nearest (RFC 3261, 21): 408 where nobody answered."""
        ...


Redirect = Callable[[str], Awaitable[str]]
"""Asked where whoever is called names somebody else: what to dial then; empty: they may not be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Somebody is to be called. Whether that is allowed has been decided."""

    to: str  # a SIP URI or a telephone number
    leg: str
    caller: str = ""  # as whom: a user or number; empty: the trunk's own
    answer_ms: int
    replaces: str = ""  # the call there whose place this one takes (RFC 3891)
    by: str = ""  # who asked for that (RFC 3892)
    resume: str = ""  # the token with which the leg may come back
    redirect: Redirect | None = None  # None: nobody else is called


class Dialling(Protocol):
    """A leg that is being dialled."""

    def cancel(self) -> None:
        """Nobody wants to talk any more. Nothing is told after that. An attached leg is ended by its call."""
        ...


class Dialler(Protocol):
    """Given to the calls by whoever can dial."""

    def dial(self, dial: Dial, callee: Callee) -> Dialling:
        """Returns at once; what comes of it is told to `callee`. Raises `Refused` where it cannot even begin."""
        ...


class Refused(Exception):
    """No call for this request. The reason is told to the peer."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unavailable(Refused):
    """No call can be taken here and now. Another server may take it, and this one a little later."""

    def __init__(self, reason: str) -> None:
        super().__init__(CloseCode.busy, reason)


class Gateway(Protocol):
    """Given to the transports by whoever owns the calls."""

    async def admit(self, request: LegRequest) -> Admission:
        """A new call, or the one that `resume` names. Raises `Refused`.

        Once it returns, the handler is attached or, if the peer went away meanwhile, told `lost` without `attach`.
        Cancelled when it takes too long: nothing of the call may remain then.
        """
        ...

    def turn_away(self, request: LegRequest) -> None:
        """Raises `Refused` where there is no room for it: for who has more to make ready before `admit` is asked."""
        ...
