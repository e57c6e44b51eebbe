"""The media side of a call's legs: who hears whom is ordered by the call and done by the mixer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.core.legs import AGENT
from media.gateway import Dialling
from media.leg import CloseCode, Instead, Leg, Refer
from media.mixer import Mixer


@dataclass(frozen=True, slots=True)
class Wish:
    """The caller's side asked for somebody else in its place; `tell` it by SIP statuses what comes of that."""

    instead: Instead
    tell: Callable[[int], None]


class Legs:
    """One call's legs: carries out what the call orders of who hears whom, and closes its guests."""

    def __init__(self) -> None:
        self._mixer = Mixer()
        self._guests: dict[str, Leg] = {}
        self._caller: tuple[str, Leg] | None = None
        self._dialling: dict[str, Dialling] = {}
        self._hears: Mapping[str, Sequence[str]] = {}
        self.wish: Wish | None = None

    def caller(self, name: str, leg: Leg) -> None:
        self._dialling.pop(name, None)
        self._caller = name, leg
        self._mixer.join(name, leg, own=AGENT)
        self._mute()

    @property
    def refer(self) -> Refer | None:
        """How the caller's telephone can be asked to call somebody else."""
        return self._caller[1].refer if self._caller is not None else None

    def wish_is(self, status: int) -> None:
        """From 200 on the last."""
        if self.wish is not None:
            wish = self.wish
            if status >= 200:
                self.wish = None
            wish.tell(status)

    def dialling(self, name: str, dialling: Dialling) -> None:
        """A guest that is on its way."""
        self._dialling[name] = dialling

    def guest(self, name: str, leg: Leg) -> None:
        self._dialling.pop(name, None)
        self._guests[name] = leg
        self._mixer.join(name, leg)

    def gone(self, name: str) -> None:
        self._guests.pop(name, None)
        self._dialling.pop(name, None)
        if self._caller is not None and self._caller[0] == name:
            self._caller = None
        self._mixer.leave(name)

    def connect(self, hears: Mapping[str, Sequence[str]]) -> None:
        self._hears = hears
        self._mixer.connect(hears)
        self._mute()

    def _mute(self) -> None:
        """The caller's own playout does not go through the mixer."""
        if self._caller is not None:
            name, leg = self._caller
            leg.muted = bool(self._hears) and AGENT not in self._hears.get(name, (AGENT,))

    def drop(self, name: str, reason: str) -> None:
        if (dialling := self._dialling.get(name)) is not None:
            dialling.cancel()
        leg = self._guests.get(name)
        self.gone(name)
        if leg is not None:
            leg.close(CloseCode.busy, reason)

    def end(self, cause: str, outcome: str) -> None:
        for dialling in self._dialling.values():
            dialling.cancel()
        self._dialling.clear()
        for name, leg in list(self._guests.items()):
            self.gone(name)
            leg.end(cause, outcome)
