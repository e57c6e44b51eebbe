"""A registration against a registrar that asks for passwords, shortens, refuses, falls silent and lies."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.auth import Answerer, Asker, Credentials, Known
from media.sip.endpoint import Endpoint
from media.sip.message import Hop
from media.sip.registration import (
    EXPIRES_S,
    MAX_BACK_OFF_S,
    MAX_EXPIRES_S,
    MAX_REFUSED_BACK_OFF_S,
    MAX_ROUNDS,
    MIN_REFRESH_S,
    REFUSED_BACK_OFF_S,
    Registration,
    State,
)
from media.sip.transaction import LIFE_MS, ServerTransaction
from tests.sip.wires import Agent, Net

US, REGISTRAR, SECOND = "192.0.2.1", "192.0.2.9", "192.0.2.10"
ACCOUNT = sip.uri_of("sip:line1@example.com")
HOUR_MS = 3_600_000


class Registrar(Agent):
    """Keeps bindings as 10.3 says, unless its fields say something else."""

    def __init__(self, net: Net, host: str = REGISTRAR, *, password: str = "") -> None:
        super().__init__(net, host)
        self.endpoint = _Registering(self, self)
        self.asker = Asker("example.com", {"line1": password}) if password else None
        self.bindings: dict[str, int] = {}  # seconds, by Contact
        self.most_s = 3600
        self.least_s = 0
        self.codes: list[int] = []  # the next answers; 0: none
        self.headers: dict[str, str] = {}  # of all answers
        self.contacts: list[str] | None = None  # said in place of the bindings
        self.seen: tuple[str, int] | None = None
        self.stale = False  # every nonce
        self.asked: list[tuple[int, Request]] = []
        self._sequences: dict[str, int] = {}

    @property
    def times_s(self) -> list[float]:
        return [at_ms / 1000 for at_ms, _ in self.asked]

    @property
    def last(self) -> Request:
        return self.asked[-1][1]

    def serve(self, transaction: ServerTransaction, now_ms: int) -> None:
        request = transaction.request
        self.asked.append((now_ms, request))
        response = self._answer(request, now_ms)
        if response is None:
            return
        for name, value in self.headers.items():
            response.headers.set(name, value)
        if self.seen is not None:
            via = sip.top_via(request)
            host, port = self.seen
            branch = via.parameters.get("branch")
            line = f"SIP/2.0/UDP {via.host}:{via.port};branch={branch};received={host};rport={port}"
            response.headers.setlist("Via", [line])
        transaction.respond(response, now_ms)

    def _answer(self, request: Request, now_ms: int) -> Response | None:
        code = self.codes.pop(0) if self.codes else 200
        if code != 200:
            return sip.response(request, code, tag="r") if code else None
        if self.asker is not None:
            known = self.asker.check(request, now_ms)
            if self.stale or not isinstance(known, Known):
                response = sip.response(request, 401, tag="r")
                for challenge in self.asker.challenges(now_ms, stale=self.stale or known is True):
                    response.headers.add("WWW-Authenticate", challenge)
                return response
        expires_s = sip.number(request, "Expires") or 0
        if 0 < expires_s < self.least_s:
            response = sip.response(request, 423, "Interval Too Brief", tag="r")
            response.headers.set("Min-Expires", str(self.least_s))
            return response
        assert sip.sequence(request) > self._sequences.get(request.call_id, 0), "out of order (10.3, 7)"
        self._sequences[request.call_id] = sip.sequence(request)
        for value in sip.values(request, "Contact"):
            one = sip.address_of(value)
            wanted_s = min(int(one.parameters.get("expires") or expires_s), self.most_s)
            self.bindings.pop(str(one.uri), None)
            if wanted_s:
                self.bindings[str(one.uri)] = wanted_s
        response = sip.response(request, 200, tag="r")
        said = [f"<{uri}>;expires={left_s}" for uri, left_s in self.bindings.items()]
        response.headers.setlist("Contact", said if self.contacts is None else self.contacts)
        return response


class _Registering(Endpoint):
    def _outside(self, request: Request, hop: Hop, now_ms: int) -> None:
        assert isinstance(self.sender, Registrar)
        self.sender.serve(self.transactions.serve(request, hop, now_ms), now_ms)


@dataclass
class Told:
    untils: list[int] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    nexts_s: list[float] = field(default_factory=list)  # from the failure on
    seen: list[tuple[str, int]] = field(default_factory=list)
    ends: int = 0

    def registered(self, until_ms: int, now_ms: int) -> None:
        assert not self.ends
        self.untils.append(until_ms - now_ms)

    def failed(self, code: int, reason: str, next_ms: int, now_ms: int) -> None:
        assert not self.ends
        self.failures.append((code, reason))
        self.nexts_s.append((next_ms - now_ms) / 1000)

    def addressed(self, host: str, port: int, now_ms: int) -> None:
        assert not self.ends
        self.seen.append((host, port))

    def ended(self, now_ms: int) -> None:
        self.ends += 1

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.failures]


class Bench:
    def __init__(
        self, *, ours: str = "", password: str = "", transport: str = "udp", chance: float = 1.0, seed: int = 0
    ) -> None:
        self.net = Net(transport, seed)
        self.us = Agent(self.net, US)
        self.registrar = Registrar(self.net, password=password)
        self.told = Told()
        answerer = Answerer(Credentials("line1", ours)) if ours else None
        self.one = Registration(
            self.us.endpoint,
            ACCOUNT,
            [self.us.hop(REGISTRAR)],
            self.told,
            answerer=answerer,
            chance=lambda: chance,
        )

    def start(self, for_ms: int = 1000) -> None:
        self.one.start(self.net.now_ms)
        self.net.run(for_ms)

    def stands(self, state: State) -> bool:
        return self.one.state is state

    def stop(self) -> None:
        """Nothing is left of it anywhere."""
        self.one.stop(self.net.now_ms)
        self.net.run(3 * LIFE_MS)
        assert self.one.state is State.over
        assert self.told.ends == 1
        assert self.us.left == []


def waits_s(times_s: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times_s)]


def test_it_registers_and_takes_it_back() -> None:
    bench = Bench()
    bench.start()
    assert bench.one.state is State.registered
    assert bench.told.untils == [EXPIRES_S * 1000]
    assert bench.registrar.bindings == {f"sip:line1@{US}:5060": EXPIRES_S}
    request = bench.registrar.last
    assert str(request.uri) == "sip:example.com"  # 10.2: without a user
    assert sip.address_of(request.headers["To"]).uri.user == "line1"
    assert sip.address_of(request.headers["From"]).uri.user == "line1"
    assert sip.to_tag(request) == ""
    bench.stop()
    assert bench.registrar.bindings == {}
    assert bench.registrar.last.headers["Expires"] == "0"


def test_a_password_is_asked_and_given_each_time_with_one_call_id() -> None:
    bench = Bench(ours="right", password="right")
    bench.start()
    assert bench.one.state is State.registered
    bench.net.run(2 * HOUR_MS)
    assert len(bench.told.untils) > 10
    assert bench.told.failures == []
    requests = [request for _, request in bench.registrar.asked]
    assert len({request.call_id for request in requests}) == 1
    sequences = [sip.sequence(request) for request in requests]
    assert sequences == list(range(1, len(requests) + 1))
    bench.stop()
    assert bench.registrar.bindings == {}


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("granted_s", [10, 60, 300, 3600])
def test_it_refreshes_before_the_granted_time_ends(granted_s: int, chance: float) -> None:
    bench = Bench(chance=chance)
    bench.registrar.most_s = granted_s
    bench.one = Registration(
        bench.us.endpoint,
        ACCOUNT,
        [bench.us.hop(REGISTRAR)],
        bench.told,
        expires_s=7200,
        chance=lambda: chance,
    )
    bench.start(granted_s * 10_000)
    assert set(bench.told.untils) == {granted_s * 1000}
    waits = waits_s(bench.registrar.times_s)
    assert 10 <= len(waits) <= 40
    assert all(granted_s * 0.4 < wait <= granted_s * 0.8 + 1 for wait in waits)
    assert bench.told.failures == []
    bench.stop()


def test_it_believes_its_own_contact_and_no_other() -> None:
    bench = Bench()
    bench.registrar.contacts = [
        "<sip:line1@198.51.100.7:5060>;expires=9000",
        "<http://nonsense>",
        f"<sip:line1@{US}:5060>;q=0.5;expires=120",
    ]
    bench.registrar.headers = {"Expires": "777"}
    bench.start()
    assert bench.told.untils == [120_000]


@pytest.mark.parametrize(
    ("contacts", "expires", "granted_s"),
    [
        ([], "222", 222),
        ([], "", EXPIRES_S),
        ([f"<sip:line1@{US}>"], "222", 222),
        ([f"<sip:line1@{US}>;expires=never"], "222", 222),
        (["<sip:line1@203.0.113.1:1024>;expires=99"], "222", 99),  # another address was put in
        (["<sip:x@h>;expires=1", "<sip:y@h>;expires=2"], "222", 222),
        (["<<<"], "soon", EXPIRES_S),
        ([f"<sip:line1@{US}>;expires=9999999999"], "", MAX_EXPIRES_S),
    ],
)
def test_what_registrars_say_of_time(contacts: list[str], expires: str, granted_s: int) -> None:
    bench = Bench()
    bench.registrar.contacts = contacts
    bench.registrar.headers = {"Expires": expires} if expires else {}
    bench.start()
    assert bench.told.untils == [granted_s * 1000]


def test_a_grant_of_no_time_is_a_failure() -> None:
    bench = Bench()
    bench.registrar.contacts = [f"<sip:line1@{US}:5060>;expires=0"]
    bench.start(10_000)
    assert bench.told.codes == [200]
    assert len(bench.registrar.asked) == 1


def test_a_grant_of_one_second_does_not_make_it_hammer() -> None:
    bench = Bench()
    bench.registrar.most_s = 1
    bench.start(100_000)
    assert all(wait >= MIN_REFRESH_S for wait in waits_s(bench.registrar.times_s))


def test_too_brief() -> None:
    bench = Bench(ours="right", password="right")
    bench.registrar.least_s = 1800
    bench.start()
    assert bench.told.untils == [1_800_000]
    bench.net.run(HOUR_MS)
    assert [request.headers["Expires"] for _, request in bench.registrar.asked].count(str(EXPIRES_S)) == 2
    bench.stop()


@pytest.mark.parametrize("least", ["", "0", "60", "99999999", "soon"])
def test_too_brief_without_sense(least: str) -> None:
    bench = Bench()
    bench.registrar.codes = [423] * 50
    bench.registrar.headers = {"Min-Expires": least} if least else {}
    bench.start(10_000)
    assert bench.told.codes == [423]
    assert len(bench.registrar.asked) == 1


# Passwords


@pytest.mark.parametrize("ours", ["wrong", ""])
def test_a_wrong_password_does_not_hammer(ours: str) -> None:
    bench = Bench(ours=ours, password="right", chance=0.0)
    bench.start(10_000)
    assert bench.told.codes == [401]
    assert bench.told.nexts_s == [REFUSED_BACK_OFF_S]
    assert bench.one.state is State.failing
    bench.net.run(24 * HOUR_MS)
    assert bench.told.nexts_s[-1] == MAX_REFUSED_BACK_OFF_S / 2
    assert len(bench.registrar.asked) <= 2 * 30
    bench.stop()


def test_a_registrar_that_finds_every_nonce_stale_is_left_alone() -> None:
    bench = Bench(ours="right", password="right")
    bench.registrar.stale = True
    bench.start(10_000)
    assert len(bench.registrar.asked) == MAX_ROUNDS
    assert bench.told.codes == [401]
    bench.stop()


@pytest.mark.parametrize("code", [403, 404])
def test_refusals_wait_long(code: int) -> None:
    bench = Bench(chance=0.0)
    bench.registrar.codes = [code]
    bench.start(10_000)
    assert bench.told.nexts_s == [REFUSED_BACK_OFF_S]
    bench.net.run(HOUR_MS)
    assert bench.one.state is State.registered


# Back-off


@pytest.mark.parametrize("code", [500, 0])
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_the_wait_doubles_up_to_half_an_hour(code: int, chance: float) -> None:
    bench = Bench(chance=chance)
    bench.registrar.codes = [code] * 10
    bench.start(10 * HOUR_MS)
    expected = [min(30 * 2**n, MAX_BACK_OFF_S) * (0.5 + 0.5 * chance) for n in range(1, 11)]
    assert bench.told.nexts_s == expected
    assert bench.told.codes == [code] * 10
    assert bench.one.state is State.registered
    bench.registrar.codes = [code]
    bench.net.run(HOUR_MS)
    assert bench.told.nexts_s[10:] == expected[:1]  # a success begins anew
    bench.stop()


def test_many_do_not_come_back_at_once() -> None:
    waits = set()
    for seed in range(20):
        bench = Bench()
        bench.one = Registration(
            bench.us.endpoint, ACCOUNT, [bench.us.hop(REGISTRAR)], bench.told, chance=random.Random(seed).random
        )
        bench.registrar.codes = [500]
        bench.start()
        waits.add(bench.told.nexts_s[0])
    assert len(waits) == 20
    assert all(30 <= wait <= 60 for wait in waits)


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"), [("7", 7, 8), ("400 (busy)", 400, 440), ("0", 5, 6), ("9999999999", 7200, 7920)]
)
def test_retry_after(said: str, least_s: float, most_s: float) -> None:
    bench = Bench()
    bench.registrar.codes = [503]
    bench.registrar.headers = {"Retry-After": said}
    bench.start()
    assert least_s <= bench.told.nexts_s[0] <= most_s


def test_retry_after_does_not_make_a_wrong_password_hurry() -> None:
    bench = Bench(ours="wrong", password="right")
    bench.registrar.headers = {"Retry-After": "1"}
    bench.start()
    assert bench.told.nexts_s[0] >= REFUSED_BACK_OFF_S


# Loss


def test_a_binding_outlives_a_refresh_that_failed() -> None:
    bench = Bench()
    bench.start()
    bench.registrar.codes = [500]
    bench.one.refresh(bench.net.now_ms)
    bench.net.run(MIN_REFRESH_S * 1000)
    assert bench.stands(State.failing)
    assert bench.one.until_ms > bench.net.now_ms
    bench.net.run(HOUR_MS // 10)
    assert bench.one.state is State.registered
    assert len(bench.told.failures) == 1


def test_it_says_when_the_binding_ran_out() -> None:
    bench = Bench()
    bench.start()
    bench.registrar.codes = [0] * 1000
    bench.net.run(HOUR_MS)
    assert bench.one.until_ms == 0
    assert bench.stands(State.failing)
    assert bench.told.failures[0] == (0, "timeout")
    assert bench.told.failures.count((0, "the registration ran out")) == 1
    assert all(next_s >= 0 for next_s in bench.told.nexts_s)
    bench.registrar.codes.clear()
    bench.net.run(HOUR_MS)
    assert bench.one.state is State.registered
    bench.stop()


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_way(seed: int) -> None:
    bench = Bench(ours="right", password="right", seed=seed)
    bench.net.loss, bench.net.twice, bench.net.jitter_ms = 0.2, 0.2, 200
    bench.start(4 * HOUR_MS)
    assert len(bench.told.untils) > 20
    bench.net.loss = 0
    bench.stop()
    assert bench.registrar.bindings == {}


# Several ways


class TwoWays(Bench):
    def __init__(self) -> None:
        super().__init__(chance=0.0)
        self.second = Registrar(self.net, SECOND)
        self.hops = [self.us.hop(REGISTRAR), self.us.hop(SECOND)]
        self.one.use(self.hops)


@pytest.mark.parametrize("code", [0, 503, 408])
def test_the_next_way_is_tried_and_kept(code: int) -> None:
    bench = TwoWays()
    bench.registrar.codes = [code]
    bench.start(60_000)
    assert bench.one.state is State.registered
    assert bench.one.hop == bench.hops[1]
    assert bench.told.failures == []
    bench.net.run(HOUR_MS)
    assert len(bench.registrar.asked) == 1
    assert len(bench.second.asked) > 5
    bench.second.codes = [code] * 100
    bench.net.run(HOUR_MS)
    assert bench.one.hop == bench.hops[0]
    assert bench.told.failures == []
    bench.stop()
    assert bench.registrar.bindings == {}


def test_a_way_that_breaks_is_left_at_once() -> None:
    bench = TwoWays()
    bench.registrar.codes = [0]
    bench.start(100)
    bench.us.endpoint.failed(bench.hops[0], bench.net.now_ms)
    bench.net.run(100)
    assert bench.one.hop == bench.hops[1]
    assert bench.one.state is State.registered


def test_a_refusal_is_not_carried_elsewhere() -> None:
    bench = TwoWays()
    bench.registrar.codes = [403]
    bench.start(60_000)
    assert bench.told.codes == [403]
    assert bench.second.asked == []


def test_all_ways_fail() -> None:
    bench = TwoWays()
    bench.registrar.codes = [0] * 2
    bench.second.codes = [503]
    bench.start(33_000)
    assert bench.told.codes == [503]
    assert bench.told.nexts_s == [30]
    bench.net.run(120_000)  # the first one again, then the second
    assert len(bench.registrar.asked) == 2
    assert bench.one.hop == bench.hops[1]
    assert bench.one.state is State.registered


def test_an_answer_that_comes_after_all_ends_nothing() -> None:
    """The first registrar was given up; what it says later is about a REGISTER that no longer counts."""
    bench = TwoWays()
    bench.registrar.codes = [0]
    bench.start(100)
    first = bench.registrar.last
    bench.us.endpoint.failed(bench.hops[0], bench.net.now_ms)
    bench.net.run(100)
    late = sip.response(first, 403, tag="late")
    bench.us.endpoint.receive(sip.parse(sip.write(late)), bench.hops[0], bench.net.now_ms)
    assert bench.one.state is State.registered
    assert bench.told.failures == []


def test_other_hops_count_from_the_next_register_on() -> None:
    bench = TwoWays()
    bench.start()
    bench.one.use([bench.hops[1]])
    bench.one.refresh(bench.net.now_ms)
    bench.net.run(MIN_REFRESH_S * 1000)
    assert len(bench.second.asked) == 1
    assert bench.one.state is State.registered


# Where we are


def test_our_public_address_is_told_once() -> None:
    bench = Bench()
    bench.registrar.seen = "203.0.113.5", 40_000
    bench.start(HOUR_MS)
    assert bench.told.seen == [("203.0.113.5", 40_000)]
    bench.registrar.seen = "203.0.113.6", 40_001
    bench.net.run(HOUR_MS)
    assert bench.told.seen == [("203.0.113.5", 40_000), ("203.0.113.6", 40_001)]


@pytest.mark.parametrize("seen", [(US, 5060), ("gateway", 5060), ("::1::", 1), ("203.0.113.5 x", 1)])
def test_what_is_no_news_is_not_told(seen: tuple[str, int]) -> None:
    bench = Bench()
    bench.registrar.seen = seen
    bench.start(HOUR_MS)
    assert bench.told.seen == []


@pytest.mark.parametrize("port", [0, 99_999])
def test_an_impossible_port_is_not_taken(port: int) -> None:
    bench = Bench()
    bench.registrar.seen = "203.0.113.5", port
    bench.start()
    assert bench.told.seen == [("203.0.113.5", 5060)]


def test_the_port_of_a_stream_is_not_taken() -> None:
    bench = Bench(transport="tcp")
    bench.registrar.seen = "203.0.113.5", 40_000
    bench.start()
    assert bench.told.seen == [("203.0.113.5", 5060)]
    assert "transport=tcp" in bench.registrar.last.headers["Contact"]


def test_a_new_address_takes_the_place_of_the_old_one() -> None:
    bench = Bench()
    bench.start()
    bench.us.local = lambda hop: ("203.0.113.5", 40_000)  # type: ignore[method-assign]
    bench.one.refresh(bench.net.now_ms)
    bench.net.run(5000)
    assert bench.registrar.bindings == {"sip:line1@203.0.113.5:40000": EXPIRES_S}
    assert bench.one.state is State.registered
    bench.stop()
    assert bench.registrar.bindings == {}


def test_whoever_learns_the_address_may_register_it_at_once() -> None:
    bench = Bench()
    bench.registrar.seen = "203.0.113.5", 40_000

    def moves(host: str, port: int, now_ms: int) -> None:
        bench.told.seen.append((host, port))
        bench.us.local = lambda hop: (host, port)  # type: ignore[method-assign]
        bench.one.refresh(now_ms)

    bench.told.addressed = moves  # type: ignore[method-assign]
    bench.start(10_000)
    assert bench.registrar.bindings == {"sip:line1@203.0.113.5:40000": EXPIRES_S}
    assert bench.told.seen == [("203.0.113.5", 40_000)]
    assert len(bench.registrar.asked) == 2


def test_a_registrar_that_sees_another_port_each_time_does_not_make_it_hammer() -> None:
    bench = Bench()
    ports = iter(range(1024, 65_000))

    def moves(host: str, port: int, now_ms: int) -> None:
        bench.registrar.seen = host, next(ports)
        bench.one.refresh(now_ms)

    bench.told.addressed = moves  # type: ignore[method-assign]
    bench.registrar.seen = "203.0.113.5", 40_000
    bench.start(100_000)
    assert all(wait >= MIN_REFRESH_S for wait in waits_s(bench.registrar.times_s))
    bench.stop()


def test_a_refresh_is_sent_at_once_when_the_last_one_is_old() -> None:
    bench = Bench()
    bench.start(60_000)
    bench.one.refresh(bench.net.now_ms)
    bench.net.run(100)
    assert len(bench.registrar.asked) == 2
    assert bench.told.untils == [EXPIRES_S * 1000] * 2


# Its end


def test_stopped_before_it_began() -> None:
    bench = Bench()
    bench.one.stop(bench.net.now_ms)
    bench.one.stop(bench.net.now_ms)
    assert bench.told.ends == 1
    assert bench.net.log == []


def test_stopped_while_it_waits() -> None:
    bench = Bench()
    bench.registrar.codes = [500]
    bench.start()
    bench.stop()
    assert len(bench.registrar.asked) == 1


@pytest.mark.parametrize("after_ms", [0, 5, 15, 25, 35])
def test_stopped_under_way(after_ms: int) -> None:
    bench = Bench(ours="right", password="right")
    bench.start(after_ms)
    bench.stop()
    assert bench.registrar.bindings == {}


@pytest.mark.parametrize("code", [0, 401, 423, 481, 500, 503])
def test_a_registrar_that_does_not_let_go(code: int) -> None:
    bench = Bench()
    bench.start()
    bench.registrar.codes = [code] * 50
    bench.stop()
    assert len(bench.registrar.asked) == 2


def test_nothing_happens_after_the_end() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    bench.one.refresh(bench.net.now_ms)
    bench.one.stop(bench.net.now_ms)
    bench.net.run(HOUR_MS)
    assert len(bench.registrar.asked) == 2


def test_a_listener_that_stops_it_when_it_fails() -> None:
    bench = Bench()
    bench.registrar.codes = [500]
    bench.told.failed = lambda code, reason, next_ms, now_ms: bench.one.stop(now_ms)  # type: ignore[method-assign]
    bench.start()
    assert bench.told.ends == 1
    bench.net.run(HOUR_MS)
    assert len(bench.registrar.asked) == 1


def test_a_listener_that_stops_it_when_it_stands() -> None:
    bench = Bench()
    bench.registrar.seen = "203.0.113.5", 40_000
    bench.told.registered = lambda until_ms, now_ms: bench.one.stop(now_ms)  # type: ignore[method-assign]
    bench.start(5000)
    assert bench.told.ends == 1
    assert bench.registrar.bindings == {}


def test_no_refresh_during_a_wait() -> None:
    bench = Bench()
    bench.registrar.codes = [500]
    bench.start()
    for _ in range(100):
        bench.one.refresh(bench.net.now_ms)
        bench.net.run(10)
    assert len(bench.registrar.asked) == 1


def test_the_user_is_escaped_in_the_contact() -> None:
    bench = Bench()
    account = sip.uri_of("sip:a%40b@example.com:5080")
    bench.one = Registration(bench.us.endpoint, account, [bench.us.hop(REGISTRAR)], bench.told)
    bench.start()
    assert bench.registrar.last.headers["Contact"] == f"<sip:a%40b@{US}:5060>"
    assert str(bench.registrar.last.uri) == "sip:example.com:5080"
