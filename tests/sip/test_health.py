"""Whether a trunk is alive, by OPTIONS that are answered, refused, late or lost."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from sipmessage import Request

from media.sip import message as sip
from media.sip.health import ANSWER_MS, INTERVAL_MS, JITTER, Health
from media.sip.message import Hop, Message
from media.sip.transaction import LIFE_MS
from tests.sip.wires import Agent, Net, Peer

TARGET = sip.uri_of("sip:trunk")


@dataclass
class Told:
    changes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)

    def went_down(self, reason: str, now_ms: int) -> None:
        self.changes.append("down")
        self.reasons.append(reason)
        self.times_ms.append(now_ms)

    def came_up(self, now_ms: int) -> None:
        self.changes.append("up")
        self.times_ms.append(now_ms)


class Bench:
    """The trunk answers with `code`; 0: not at all."""

    def __init__(self, *, chance: float = 0.5, transport: str = "udp") -> None:
        self.net = Net(transport)
        self.us = Agent(self.net, "us")
        self.trunk = Peer(self.net, "trunk", self._reacts)
        self.code = 200
        self.codes: list[int] = []  # before that
        self._said: dict[str, int] = {}  # a repeated request gets the same answer
        self.told = Told()
        self.asked_ms: list[int] = []
        self.one = Health(
            self.us.endpoint,
            TARGET,
            "<sip:voicegate@us>",
            Hop(transport, "trunk", 5060),
            self.told,
            chance=lambda: chance,
        )
        self.one.start(self.net.now_ms)

    def _reacts(self, message: Message) -> None:
        assert isinstance(message, Request)
        if message.call_id not in self._said:
            self.asked_ms.append(self.net.now_ms)
            self._said[message.call_id] = self.codes.pop(0) if self.codes else self.code
        if code := self._said[message.call_id]:
            self.trunk.reply(message, code)

    @property
    def alive(self) -> bool:
        return self.one.alive

    def run(self, intervals: float) -> None:
        self.net.run(round(intervals * INTERVAL_MS))


def test_what_is_asked() -> None:
    bench = Bench()
    bench.run(1)
    request = bench.trunk.last("OPTIONS")
    assert str(request.uri) == "sip:trunk"
    assert sip.from_tag(request)
    assert not sip.to_tag(request)
    for name in ("Contact", "Accept", "Allow", "Supported", "Max-Forwards", "User-Agent"):
        assert request.headers.get(name), name


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_it_asks_at_intervals_that_differ(chance: float) -> None:
    bench = Bench(chance=chance)
    bench.run(20)
    assert bench.asked_ms[0] <= 1_000_000 + INTERVAL_MS + 10
    gaps = {later - earlier for earlier, later in pairwise(bench.asked_ms)}
    assert gaps == {round(INTERVAL_MS * (1 - JITTER + 2 * JITTER * chance))}
    assert bench.told.changes == []


@pytest.mark.parametrize("code", [200, 401, 404, 405, 486, 500, 501, 603])
def test_any_answer_is_life(code: int) -> None:
    bench = Bench()
    bench.code = code
    bench.run(10)
    assert bench.alive
    assert bench.told.changes == []


@pytest.mark.parametrize(("code", "reason"), [(0, "timeout"), (100, "timeout"), (408, "408"), (503, "503")])
def test_down_after_two_misses_and_up_after_one_answer(code: int, reason: str) -> None:
    bench = Bench()
    bench.codes = [code]
    bench.run(2)
    assert bench.told.changes == []
    bench.code = code
    bench.run(5)
    assert bench.told.changes == ["down"]
    assert bench.told.reasons == [reason]
    assert not bench.alive
    bench.code = 200
    bench.run(1.5)
    assert bench.told.changes == ["down", "up"]
    assert bench.one.alive


def test_one_miss_now_and_then_is_none() -> None:
    bench = Bench()
    bench.codes = [200, 0, 200, 503] * 5
    bench.run(20)
    assert bench.told.changes == []


def test_silence_is_noticed_within_the_second_interval() -> None:
    bench = Bench()
    bench.run(1)
    first_ms = bench.asked_ms[0]
    bench.code = 0
    bench.run(4)
    assert bench.told.changes == ["down"]
    assert bench.told.times_ms[0] - first_ms <= 2 * INTERVAL_MS + ANSWER_MS


def test_a_lost_datagram_is_repeated() -> None:
    bench = Bench()
    bench.net.losing("OPTIONS", "200 OPTIONS", times=2)
    bench.run(3)
    assert bench.told.changes == []
    assert bench.net.count("OPTIONS") > 3


def test_a_broken_way_is_a_miss_at_once() -> None:
    bench = Bench(transport="tcp")
    bench.code = 0
    for _ in range(2):
        asked = bench.net.count("OPTIONS")
        while bench.net.count("OPTIONS") == asked:
            bench.net.run(100)
        bench.us.endpoint.failed(bench.one.hop, bench.net.now_ms)
    assert bench.told.reasons == ["transport"]


def test_a_late_answer_counts_for_life_and_not_against_it() -> None:
    bench = Bench()
    bench.code = 0
    bench.run(3)
    assert not bench.alive
    request = bench.trunk.last("OPTIONS")
    asked_ms = bench.asked_ms[-1]
    bench.net.run(asked_ms + ANSWER_MS + 2000 - bench.net.now_ms)
    bench.trunk.reply(request, 503)
    bench.net.run(100)
    assert bench.told.changes == ["down"]
    bench.run(1)
    request = bench.trunk.last("OPTIONS")
    bench.net.run(bench.asked_ms[-1] + ANSWER_MS + 2000 - bench.net.now_ms)
    bench.trunk.reply(request, 200)
    bench.net.run(100)
    assert bench.told.changes == ["down", "up"]


def test_one_request_is_missed_once() -> None:
    """Late for us, then refused, then over: that is one miss, not three."""
    bench = Bench()
    bench.codes = [0]
    bench.net.run(INTERVAL_MS // 2 + ANSWER_MS + 100)
    bench.trunk.reply(bench.trunk.last("OPTIONS"), 503)
    bench.run(2)
    assert bench.told.changes == []


def test_another_hop() -> None:
    bench = Bench()
    second = Peer(bench.net, "second")
    bench.one.hop = Hop("udp", "second", 5060)
    bench.run(1)
    assert second.got
    assert not bench.trunk.got


def test_stopped() -> None:
    bench = Bench()
    bench.code = 0
    bench.run(1)
    bench.one.stop()
    bench.one.stop()
    asked = len(bench.asked_ms)
    bench.trunk.reply(bench.trunk.last("OPTIONS"), 200)
    bench.net.run(3 * LIFE_MS)
    assert len(bench.asked_ms) == asked
    assert bench.told.changes == []
    assert bench.us.left == []


def test_stopped_by_whom_it_tells() -> None:
    bench = Bench()
    bench.code = 0
    bench.told.went_down = lambda reason, now_ms: bench.one.stop()  # type: ignore[method-assign]
    bench.run(10)
    assert len(bench.asked_ms) == 2
    bench.net.run(3 * LIFE_MS)
    assert bench.us.left == []
