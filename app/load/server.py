"""What our own server says of itself while it is called: GET /health tells that it is ours, GET /metrics the rest.

Other servers are asked once, and then left alone.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from app.load.body import at_most
from app.load.dial import shown, tls
from app.load.line import UNREADABLE
from app.load.results import Sample

LOOK_S: Final = 2.0
TIMEOUT_S: Final = 5.0
RECORDS: Final = 500  # of one call, at once
MAX_RECORDS: Final = 100_000
MAX_PAGE_BYTES: Final = 4 << 20

LAG: Final = "voicegate_loop_lag_seconds"
SILENCE: Final = "voicegate_barge_in_silence_seconds"
CPU: Final = "process_cpu_seconds_total"
MEMORY: Final = "process_resident_memory_bytes"
LIVE: Final = "voicegate_calls_live"
REFUSED: Final = "voicegate_calls_refused_total"
SENT: Final = "voicegate_sent_frames_total"
LATE: Final = "voicegate_late_frames_total"
TRANSCRIPT: Final = "Transcript"  # the type of the record
ASKS_WHO: Final = "its /metrics asks for the token of a viewer"


class Health(Struct):
    """What only our own servers answer with."""

    status: str
    calls: int
    max_calls: int


class _Fact(Struct):
    type: str
    text: Any = ""


class _Told(Struct):
    sealed: bool
    event: _Fact


class _Records(Struct):
    records: list[_Told]


Buckets = dict[float, float]
"""How many were at most so large."""


class Page(Struct, frozen=True):
    """One page of metrics; the samples of a family in one sum, whatever their labels."""

    at_s: float
    sums: dict[str, float]
    buckets: dict[str, Buckets]

    def sum(self, name: str) -> float:
        return self.sums.get(name, 0.0)


class Watch:
    """Of one run. `trouble` says why there are no figures of a server that is ours."""

    def __init__(
        self, site: str, token: str = "", authorities: str = "", *, named: bool = False, empty_bytes: float = 0.0
    ) -> None:
        """`named`: somebody says that there is one of ours, and is told where there is none.

        `empty_bytes`: its memory before any calls of ours; 0: as this watch begins.
        """
        self.samples: list[Sample] = []
        self.trouble = ""
        self._site = site
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls(authorities) or True
        self._named = named
        self.empty_bytes = empty_bytes
        self._first: Page | None = None
        self._last: Page | None = None
        self._most_memory = 0.0

    @property
    def latest(self) -> dict[str, float]:
        return self.samples[-1].values if self.samples else {}

    async def begin(self) -> None:
        """Before the first call. Never raises."""
        if await self._is_ours():
            self._first = self._last = await self._page()
            if self._first is not None:
                self.empty_bytes = self.empty_bytes or self._first.sum(MEMORY)
        elif self._named:
            self.trouble = f"{shown(self._site)} is no Voicegate server"

    async def run(self, origin_s: float) -> None:
        """Until it is cancelled."""
        while self._first is not None:
            await asyncio.sleep(LOOK_S)
            await self.look(origin_s)

    async def look(self, origin_s: float) -> None:
        page = await self._page() if self._first is not None else None
        if page is not None and self._last is not None:
            self.samples.append(Sample(round(page.at_s - origin_s, 2), self._between(self._last, page)))
            self._last = page

    async def end(self, origin_s: float, call_seconds: float, peak_calls: int) -> None:
        """After the last call: figures of all the run."""
        page = await self._page() if self._first is not None else None
        if page is not None and self._first is not None:
            values = self._whole(self._first, page, call_seconds, peak_calls)
            self.samples.append(Sample(round(page.at_s - origin_s, 2), values))

    async def understood(self, call: str) -> list[str] | None:
        """What the server took the caller's words for. None where it does not tell, or withholds some of them."""
        texts: list[str] = []
        for skip in range(0, MAX_RECORDS, RECORDS):
            status, body = await self._get(f"/api/calls/{call}/records?from={skip}&limit={RECORDS}")
            if status != 200:
                return None
            try:
                found = msgspec.json.decode(body, type=_Records).records
            except msgspec.DecodeError:
                return None
            heard = [one for one in found if one.event.type == TRANSCRIPT]
            if any(one.sealed for one in heard):
                return None
            texts += [str(one.event.text) for one in heard]
            if len(found) < RECORDS:
                break
        return texts

    def _between(self, before: Page, after: Page) -> dict[str, float]:
        assert self._first is not None
        passed_s = max(after.at_s - before.at_s, 0.001)
        self._most_memory = max(self._most_memory, after.sum(MEMORY))
        values = {
            "calls": after.sum(LIVE),
            "refused": after.sum(REFUSED) - self._first.sum(REFUSED),
            "late_frames": after.sum(LATE) - before.sum(LATE),
        }
        if CPU in after.sums:
            values["cpu_share"] = (after.sum(CPU) - before.sum(CPU)) / passed_s
        if MEMORY in after.sums:
            values["memory_mb"] = after.sum(MEMORY) / 1e6
        lag_s = quantile(_since(before, after, LAG), 0.99)
        if lag_s is not None:
            values["lag_ms"] = lag_s * 1000
        return {name: round(value, 4) for name, value in values.items()}

    def _whole(self, first: Page, last: Page, call_seconds: float, peak_calls: int) -> dict[str, float]:
        values = {"refused": last.sum(REFUSED) - first.sum(REFUSED)}
        if CPU in last.sums and call_seconds:
            values["cpu_ms"] = (last.sum(CPU) - first.sum(CPU)) * 1000 / call_seconds
        if MEMORY in last.sums and peak_calls:
            most = max(self._most_memory, last.sum(MEMORY))
            values["memory_mb_per_call"] = (most - self.empty_bytes) / 1e6 / peak_calls
        for name, key in ((LAG, "loop_lag_p99_ms"), (SILENCE, "barge_in_p99_ms")):
            found_s = quantile(_since(first, last, name), 0.99)
            if found_s is not None:
                values[key] = found_s * 1000
        if sent := last.sum(SENT) - first.sum(SENT):
            values["late_share"] = (last.sum(LATE) - first.sum(LATE)) / sent
        return {name: round(value, 5) for name, value in values.items()}

    # Asking

    async def _is_ours(self) -> bool:
        status, body = await self._get("/health")
        if status not in (200, 503):
            return False
        try:
            msgspec.json.decode(body, type=Health)
        except UNREADABLE:
            return False
        return True

    async def _page(self) -> Page | None:
        status, body = await self._get("/metrics")
        if status in (401, 403):
            self.trouble = ASKS_WHO
        if status != 200:
            return None
        try:
            return read(body.decode(), time.perf_counter())
        except ValueError:
            return None

    async def _get(self, path: str) -> tuple[int, bytes]:
        """(0, b"") where there is no answer."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.get(self._site + path, ssl=self._tls, allow_redirects=False) as response,
            ):
                return response.status, await at_most(response.content, MAX_PAGE_BYTES)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, b""


def read(text: str, at_s: float) -> Page:
    """Raises `ValueError` for what is no page of metrics."""
    sums: dict[str, float] = {}
    buckets: dict[str, Buckets] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                bounds = buckets.setdefault(family.name, {})
                bound = float(sample.labels.get("le", "inf"))
                bounds[bound] = bounds.get(bound, 0.0) + sample.value
            else:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return Page(at_s, sums, buckets)


def _since(before: Page, after: Page, name: str) -> Buckets:
    old = before.buckets.get(name, {})
    return {bound: count - old.get(bound, 0.0) for bound, count in after.buckets.get(name, {}).items()}


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """As far as buckets tell; of what lies above the last bound, the bound. None where there is nothing."""
    ordered: Iterable[tuple[float, float]] = sorted(buckets.items())
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    wanted, low, below = total * share, 0.0, 0.0
    for bound, count in ordered:
        if count >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
