"""Who hears whom in one call: the audio of other legs, on its way to a leg.

One piece for all transports. The caller's leg plays the agent by its playout, which knows what was heard; everything
else that a leg hears comes through its bus. A call with one leg has no mixer at work and pays nothing for it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from media.audio import FRAME_MS, Pcm, Resampler, frame_samples

START_MS: Final = 2 * FRAME_MS  # of a source are here before it is heard, so that jitter makes no gaps
MAX_WAITING_MS: Final = 200  # of a source; what is older is dropped


class Tap(Protocol):
    """Gets a copy of a leg's two directions, at the leg's rate."""

    def heard(self, pcm: Pcm) -> None:
        """From the peer, any length."""
        ...

    def said(self, frame: Pcm) -> None:
        """20 ms of the leg's own playout."""
        ...


class Joined(Protocol):
    """What the mixer needs of a leg."""

    @property
    def rate_hz(self) -> int: ...

    tap: Tap | None
    bus: "Bus | None"


class _Source:
    def __init__(self) -> None:
        self.chunks: deque[Pcm] = deque()
        self.waiting = 0  # samples
        self.running = False


class Bus:
    """What one leg hears of others: audio is put in as it comes and taken out in frames, one in 20 ms."""

    def __init__(self, rate_hz: int, sources: Sequence[str]) -> None:
        self.dropped_samples = 0
        self._frame_samples = frame_samples(rate_hz)
        self._start = rate_hz * START_MS // 1000
        self._most = rate_hz * MAX_WAITING_MS // 1000
        self._sources = {name: _Source() for name in sources}

    def put(self, name: str, pcm: Pcm) -> None:
        source = self._sources[name]
        source.chunks.append(pcm)
        source.waiting += len(pcm)
        while source.waiting > self._most:
            dropped = len(source.chunks.popleft())
            source.waiting -= dropped
            self.dropped_samples += dropped

    def take(self) -> Pcm | None:
        """The sum of what is here; None where nobody says anything."""
        parts = [part for source in self._sources.values() if (part := self._part(source)) is not None]
        return mixed(parts) if parts else None

    def _part(self, source: _Source) -> Pcm | None:
        size = self._frame_samples
        source.running = source.waiting >= (size if source.running else self._start)
        if not source.running:
            return None
        source.waiting -= size
        first = source.chunks.popleft()
        while len(first) < size:
            first = np.concatenate((first, source.chunks.popleft()))
        if len(first) > size:
            source.chunks.appendleft(first[size:])
        return first[:size]


def mixed(frames: Sequence[Pcm]) -> Pcm:
    """The sum of frames of one length, clipped where it is too loud."""
    if len(frames) == 1:
        return frames[0]
    total = np.sum(frames, axis=0, dtype=np.int32)
    return np.clip(total, -32768, 32767).astype(np.int16)


class _Tap:
    """One leg's two directions as sources."""

    def __init__(self, mixer: "Mixer", name: str, own: str) -> None:
        self._mixer = mixer
        self._name = name
        self._own = own

    def heard(self, pcm: Pcm) -> None:
        self._mixer.put(self._name, pcm)

    def said(self, frame: Pcm) -> None:
        if self._own:
            self._mixer.put(self._own, frame)


class Mixer:
    """One call's. `connect` says who hears whom; legs come and go under it."""

    def __init__(self) -> None:
        self._legs: dict[str, Joined] = {}
        self._own: dict[str, str] = {}  # by leg: the source that its own playout is
        self._hears: Mapping[str, Sequence[str]] = {}
        self._ways: dict[str, list[tuple[Bus, Resampler]]] = {}  # by source

    def join(self, name: str, leg: Joined, *, own: str = "") -> None:
        """`own` names what the leg's playout says, for others to hear."""
        self._legs[name] = leg
        self._own[name] = own
        self._lay()

    def leave(self, name: str) -> None:
        leg = self._legs.pop(name, None)
        if leg is not None:
            leg.tap = leg.bus = None
            del self._own[name]
            self._lay()

    def connect(self, hears: Mapping[str, Sequence[str]]) -> None:
        """By leg, the sources that it hears: names of legs, and of what their playouts say."""
        self._hears = hears
        self._lay()

    def put(self, source: str, pcm: Pcm) -> None:
        for bus, resampler in self._ways.get(source, ()):
            bus.put(source, resampler.process(pcm))

    def _lay(self) -> None:
        rates_hz = {name: leg.rate_hz for name, leg in self._legs.items()}
        rates_hz |= {own: rates_hz[name] for name, own in self._own.items() if own}
        self._ways = {}
        for name, leg in self._legs.items():
            sources = [s for s in self._hears.get(name, ()) if s in rates_hz and s not in (name, self._own[name])]
            leg.bus = Bus(leg.rate_hz, sources) if sources else None
            if leg.bus is not None:
                for source in sources:
                    self._ways.setdefault(source, []).append((leg.bus, Resampler(rates_hz[source], leg.rate_hz)))
        for name, leg in self._legs.items():
            wanted = name in self._ways or self._own[name] in self._ways
            leg.tap = _Tap(self, name, self._own[name]) if wanted else None
