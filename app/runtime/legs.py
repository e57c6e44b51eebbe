"""The media side of a call's legs: who hears whom is ordered by the call and done by the mixer."""

from collections.abc import Mapping, Sequence

from app.core.legs import AGENT
from media.leg import CloseCode, Leg
from media.mixer import Mixer


class Legs:
    """One call's legs: carries out what the call orders of who hears whom, and closes its guests."""

    def __init__(self) -> None:
        self._mixer = Mixer()
        self._guests: dict[str, Leg] = {}

    def caller(self, name: str, leg: Leg) -> None:
        self._mixer.join(name, leg, own=AGENT)

    def guest(self, name: str, leg: Leg) -> None:
        self._guests[name] = leg
        self._mixer.join(name, leg)

    def gone(self, name: str) -> None:
        self._guests.pop(name, None)
        self._mixer.leave(name)

    def connect(self, hears: Mapping[str, Sequence[str]]) -> None:
        self._mixer.connect(hears)

    def drop(self, name: str, reason: str) -> None:
        leg = self._guests.get(name)
        self.gone(name)
        if leg is not None:
            leg.close(CloseCode.busy, reason)

    def end(self, cause: str, outcome: str) -> None:
        for name, leg in list(self._guests.items()):
            self.gone(name)
            leg.end(cause, outcome)
