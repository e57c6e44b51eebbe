"""Ways to URIs, as a DNS server on this machine tells them."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from media.sip import message as sip
from media.sip import resolve as under_test
from media.sip.message import Hop
from media.sip.resolve import (
    ABSENT_TTL_S,
    MAX_CACHED,
    MAX_HOPS,
    MAX_TTL_S,
    DnsClient,
    Found,
    Naptr,
    Resolver,
    Srv,
    Unresolved,
)

ZONE = """
a.test A 192.0.2.1
a.test AAAA 2001:db8::1
b.test A 192.0.2.2
c.test A 192.0.2.3
six.test AAAA 2001:db8::6
alias.test CNAME a.test
loop.test CNAME loop.test

full.test NAPTR 20 50 "s" "SIP+D2U" "" _sip._udp.full.test
full.test NAPTR 10 60 "s" "SIP+D2T" "" _sip._tcp.full.test
full.test NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp.full.test
_sip._udp.full.test SRV 1 0 5060 a.test
_sip._tcp.full.test SRV 1 0 5070 b.test
_sips._tcp.full.test SRV 2 0 5072 sip2.full.test
_sips._tcp.full.test SRV 1 0 5071 sip1.full.test

strange.test NAPTR 1 1 "u" "E2U+sip" "!^.*$!sip:x@a.test!" .
strange.test NAPTR 2 1 "s" "SIP+D2S" "" _sip._sctp.strange.test
strange.test NAPTR 3 1 "s" "sip+d2t" "" _other._tcp.strange.test
_other._tcp.strange.test SRV 1 0 6000 c.test

unusable.test NAPTR 2 1 "s" "SIP+D2S" "" _sip._sctp.unusable.test
_sip._udp.unusable.test SRV 1 0 5062 c.test

srv.test A 192.0.2.99
_sip._udp.srv.test SRV 20 0 5062 c.test
_sip._udp.srv.test SRV 10 0 5061 a.test
_sip._udp.srv.test SRV 5 0 5060 nowhere.test
_sip._tcp.srv.test SRV 1 0 5063 b.test

tcp.test A 192.0.2.99
_sip._tcp.tcp.test SRV 1 0 5063 b.test

none.test A 192.0.2.99
_sip._udp.none.test SRV 0 0 0 .

evil.test A 192.0.2.99
_sips._tcp.evil.test SRV 0 0 5061 notevil.test
_sips._tcp.evil.test SRV 0 0 5061 a.test

mixed.test A 192.0.2.99
_sips._tcp.mixed.test SRV 1 0 5061 a.test
_sips._tcp.mixed.test SRV 2 0 5066 mixed.test
_sips._tcp.mixed.test SRV 3 0 5067 SIP.Mixed.test

weights.test A 192.0.2.99
_sip._udp.weights.test SRV 1 75 5060 a.test
_sip._udp.weights.test SRV 1 25 5060 b.test
_sip._udp.weights.test SRV 1 0 5060 c.test
"""


class Server(asyncio.DatagramProtocol):
    """Answers from its zone. `silent` and `broken` are kinds that it does not."""

    def __init__(self) -> None:
        self.ttl_s = 300
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.garbage = False
        self.asked: list[str] = []  # such as "A a.test"
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None
        for line in filter(None, ZONE.splitlines()):
            self.add(*line.split(" ", 2))

    def add(self, name: str, kind: str, value: str) -> None:
        last = "" if value.endswith(".") or kind in ("A", "AAAA") else "."
        self.zone.setdefault((name.lower(), kind), []).append(value + last)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # it is one
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{kind} {name}")
        if kind in self.silent:
            return
        if self.garbage:
            self._transport.sendto(data[:2] + b"\xff" * 40, addr)
            return
        self._transport.sendto(self._answer(query, name.lower(), kind).to_wire(max_size=65_000), addr)

    def _answer(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if kind in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        for _ in range(3):
            alias = self.zone.get((name, "CNAME"))
            if not alias:
                break
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl_s, "IN", "CNAME", *alias))
            name = alias[0].rstrip(".")
        if values := self.zone.get((name, kind)):
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl_s, "IN", kind, *values))
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@dataclass
class Bench:
    server: Server
    now_s: float = 0.0
    chance: Callable[[], float] = field(default=lambda: 0.5)
    resolver: Resolver = field(init=False)

    def __post_init__(self) -> None:
        client = DnsClient([("127.0.0.1", self.server.port)])
        self.resolver = Resolver(client, now_s=lambda: self.now_s, chance=lambda: self.chance())

    async def hops(self, uri: str, *, secure: bool = False) -> list[str]:
        return [str(hop) for hop in await self.resolver.resolve(sip.uri_of(uri), secure=secure)]

    def count(self, kind: str) -> int:
        return sum(asked.startswith(f"{kind} ") for asked in self.server.asked)


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with served() as server:
        yield Bench(server)


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:192.0.2.7", "192.0.2.7:5060/udp"),
        ("sip:192.0.2.7:5090", "192.0.2.7:5090/udp"),
        ("sip:192.0.2.7;transport=TCP", "192.0.2.7:5060/tcp"),
        ("sip:192.0.2.7;transport=tls", "192.0.2.7:5061/tls"),
        ("sips:192.0.2.7", "192.0.2.7:5061/tls"),
        ("sips:192.0.2.7:5090;transport=tcp", "192.0.2.7:5090/tls"),
        ("sip:[2001:db8:0::7]", "[2001:db8::7]:5060/udp"),
        ("sip:full.test;maddr=192.0.2.8", "192.0.2.8:5060/udp"),
    ],
)
async def test_numbers_need_no_dns(bench: Bench, uri: str, hop: str) -> None:
    assert await bench.hops(uri) == [hop]
    assert bench.server.asked == []


async def test_a_port_needs_addresses_only(bench: Bench) -> None:
    assert await bench.hops("sip:full@a.test:5090") == ["192.0.2.1:5090/udp", "[2001:db8::1]:5090/udp"]
    assert await bench.hops("sip:b.test:5090;transport=tcp") == ["192.0.2.2:5090/tcp"]
    assert bench.count("A") == bench.count("AAAA") == 2
    assert len(bench.server.asked) == 4


async def test_naptr_then_srv_then_addresses(bench: Bench) -> None:
    assert await bench.hops("sip:full.test") == ["sip1.full.test:5071/tls", "sip2.full.test:5072/tls"]
    assert bench.server.asked == ["NAPTR full.test", "SRV _sips._tcp.full.test"]


async def test_the_next_service_where_the_first_has_no_servers(bench: Bench) -> None:
    del bench.server.zone["_sips._tcp.full.test", "SRV"]
    assert await bench.hops("sip:full.test") == ["192.0.2.2:5070/tcp"]


async def test_services_that_are_not_spoken_here(bench: Bench) -> None:
    assert await bench.hops("sip:strange.test") == ["192.0.2.3:6000/tcp"]
    assert await bench.hops("sip:unusable.test") == ["192.0.2.3:5062/udp"]


async def test_a_transport_needs_no_naptr(bench: Bench) -> None:
    assert await bench.hops("sip:full.test;transport=tcp") == ["192.0.2.2:5070/tcp"]
    assert await bench.hops("sip:full.test;transport=udp") == ["192.0.2.1:5060/udp", "[2001:db8::1]:5060/udp"]
    assert bench.count("NAPTR") == 0


async def test_srv_without_naptr(bench: Bench) -> None:
    """By priority; a server without an address is left out."""
    expected = ["192.0.2.1:5061/udp", "[2001:db8::1]:5061/udp", "192.0.2.3:5062/udp"]
    assert await bench.hops("sip:srv.test") == expected
    assert await bench.hops("sip:tcp.test") == ["192.0.2.2:5063/tcp"]


async def test_addresses_only(bench: Bench) -> None:
    assert await bench.hops("sip:b.test") == ["192.0.2.2:5060/udp"]
    assert await bench.hops("sip:six.test") == ["[2001:db8::6]:5060/udp"]
    assert await bench.hops("sip:B.Test.;transport=tcp") == ["192.0.2.2:5060/tcp"]
    assert await bench.hops("sip:b.test;transport=tls") == ["b.test:5061/tls"]


async def test_an_alias(bench: Bench) -> None:
    assert (await bench.hops("sip:alias.test"))[0] == "192.0.2.1:5060/udp"
    with pytest.raises(Unresolved):
        await bench.hops("sip:loop.test")


async def test_without_ipv6(bench: Bench) -> None:
    resolver = Resolver(DnsClient([("127.0.0.1", bench.server.port)], ipv6=False))
    assert await resolver.resolve(sip.uri_of("sip:a.test:5060")) == [Hop("udp", "192.0.2.1", 5060)]
    assert bench.count("AAAA") == 0


# TLS


@pytest.mark.parametrize(("uri", "secure"), [("sips:full.test", False), ("sip:full.test", True)])
async def test_sips_is_tls_and_nothing_else(bench: Bench, uri: str, secure: bool) -> None:
    hops = ["sip1.full.test:5071/tls", "sip2.full.test:5072/tls"]
    assert await bench.hops(uri, secure=secure) == hops
    del bench.server.zone["_sips._tcp.full.test", "SRV"]
    bench.now_s += MAX_TTL_S
    assert await bench.hops(uri, secure=secure) == ["full.test:5061/tls"]
    assert await bench.hops(uri.replace("full", "srv"), secure=secure) == ["srv.test:5061/tls"]


async def test_forged_names_lead_tls_nowhere(bench: Bench) -> None:
    with pytest.raises(Unresolved, match="offers nothing"):
        await bench.hops("sips:evil.test")
    assert await bench.hops("sips:mixed.test") == ["mixed.test:5066/tls", "sip.mixed.test:5067/tls"]


async def test_forged_services_lead_tls_nowhere(bench: Bench) -> None:
    bench.server.add("b.test", "NAPTR", '1 1 "s" "SIPS+D2T" "" _sips._tcp.full.test')
    bench.server.add("b.test", "NAPTR", '1 1 "s" "SIP+D2U" "" _sip._udp.full.test')
    with pytest.raises(Unresolved, match="offers nothing"):
        await bench.hops("sips:b.test")


# Choice


async def test_weights(bench: Bench) -> None:
    bench.chance = random.Random(7).random
    firsts = Counter([(await bench.hops("sip:weights.test"))[0] for _ in range(400)])
    assert 250 < firsts["192.0.2.1:5060/udp"] < 350
    assert firsts["192.0.2.3:5060/udp"] == 0
    assert len(await bench.hops("sip:weights.test")) == 4
    assert bench.count("SRV") == 1


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999_999_999])
async def test_every_server_is_there_once(bench: Bench, chance: float) -> None:
    bench.chance = lambda: chance
    hops = await bench.hops("sip:weights.test")
    assert sorted(hops) == sorted(set(hops))
    assert len(hops) == 4


# Limits


async def test_so_many_hops_and_no_more(bench: Bench) -> None:
    for n in range(60):
        bench.server.add("_sip._udp.many.test", "SRV", f"{n} 0 5060 h{n}.test")
        bench.server.add(f"h{n}.test", "A", f"198.51.100.{n}")
    hops = await bench.hops("sip:many.test")
    assert hops == [f"198.51.100.{n}:5060/udp" for n in range(MAX_HOPS)]
    assert bench.count("A") == MAX_HOPS


async def test_many_addresses(bench: Bench) -> None:
    for n in range(100):
        bench.server.add("many.test", "A", f"198.51.100.{n}")
    assert len(await bench.hops("sip:many.test:5060")) == MAX_HOPS


async def test_many_servers_without_addresses(bench: Bench) -> None:
    for n in range(100):
        bench.server.add("_sip._udp.many.test", "SRV", f"{n} 0 5060 h{n}.test")
    with pytest.raises(Unresolved):
        await bench.hops("sip:many.test")
    assert bench.count("A") <= under_test.MAX_RECORDS


# Memory


async def test_answers_are_remembered_for_their_time(bench: Bench) -> None:
    for _ in range(3):
        await bench.hops("sip:full.test;transport=udp")
    assert len(bench.server.asked) == 3
    bench.now_s = 299
    await bench.hops("sip:full.test;transport=udp")
    assert len(bench.server.asked) == 3
    bench.now_s = 301
    await bench.hops("sip:full.test;transport=udp")
    assert len(bench.server.asked) == 6


async def test_no_answer_is_remembered_for_longer_than_an_hour(bench: Bench) -> None:
    bench.server.ttl_s = 1_000_000
    await bench.hops("sip:b.test:5060")
    bench.server.zone["b.test", "A"] = ["192.0.2.77"]
    bench.now_s = MAX_TTL_S + 1
    assert await bench.hops("sip:b.test:5060") == ["192.0.2.77:5060/udp"]


async def test_an_answer_without_time_is_not_remembered(bench: Bench) -> None:
    bench.server.ttl_s = 0
    for _ in range(2):
        await bench.hops("sip:a.test:5060")
    assert bench.count("A") == 2


async def test_what_is_not_there_is_remembered_briefly(bench: Bench) -> None:
    for _ in range(2):
        with pytest.raises(Unresolved):
            await bench.hops("sip:late.test:5060")
    assert bench.count("A") == 1
    bench.server.add("late.test", "A", "192.0.2.4")
    bench.now_s = ABSENT_TTL_S + 1
    assert await bench.hops("sip:late.test:5060") == ["192.0.2.4:5060/udp"]


class Known:
    """One address for every name."""

    def __init__(self) -> None:
        self.asked = 0

    async def naptr(self, name: str) -> Found[Naptr]:
        return Found((), 60)

    async def srv(self, name: str) -> Found[Srv]:
        return Found((), 60)

    async def addresses(self, name: str) -> Found[str]:
        self.asked += 1
        return Found(("192.0.2.1",), 60)


async def test_memory_is_bounded() -> None:
    known = Known()
    resolver = Resolver(known, now_s=lambda: 0)
    for n in range(2 * MAX_CACHED):
        await resolver.resolve(sip.uri_of(f"sip:n{n}.test:5060"))
        await resolver.resolve(sip.uri_of("sip:often.test:5060"))
    assert known.asked == 2 * MAX_CACHED + 1
    assert len(resolver._cache) == MAX_CACHED


# Failure


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "TRY_S", 0.1)
    monkeypatch.setattr(under_test, "QUERY_S", 0.2)
    monkeypatch.setattr(under_test, "TOTAL_S", 0.5)


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_says_nothing() -> None:
    async with served() as server:
        bench = Bench(server)
        server.silent = {"NAPTR", "SRV", "A", "AAAA"}
        with pytest.raises(Unresolved):
            await bench.hops("sip:a.test:5060")
        with pytest.raises(Unresolved, match="too long"):
            await bench.hops("sip:a.test")


@pytest.mark.usefixtures("hurried")
async def test_nobody_is_there() -> None:
    async with served() as server:
        bench = Bench(server)
    with pytest.raises(Unresolved):
        await bench.hops("sip:a.test:5060")


@pytest.mark.parametrize("kinds", [{"NAPTR"}, {"NAPTR", "SRV"}, {"NAPTR", "SRV", "AAAA"}])
async def test_servers_that_know_addresses_only(bench: Bench, kinds: set[str]) -> None:
    bench.server.broken = kinds
    assert (await bench.hops("sip:a.test"))[0] == "192.0.2.1:5060/udp"


async def test_a_server_that_fails(bench: Bench) -> None:
    bench.server.broken = {"A", "AAAA"}
    with pytest.raises(Unresolved, match="NoNameservers"):
        await bench.hops("sip:a.test:5060")
    bench.server.broken = set()
    assert (await bench.hops("sip:a.test:5060"))[0] == "192.0.2.1:5060/udp"  # a failure is not remembered


@pytest.mark.usefixtures("hurried")
async def test_garbage() -> None:
    async with served() as server:
        bench = Bench(server)
        server.garbage = True
        with pytest.raises(Unresolved):
            await bench.hops("sip:a.test:5060")


async def test_cancelled(bench: Bench) -> None:
    bench.server.silent = {"A", "AAAA"}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bench.hops("sip:a.test:5060")
    bench.server.silent.clear()
    assert await bench.hops("sip:b.test:5060") == ["192.0.2.2:5060/udp"]


async def test_not_offered(bench: Bench) -> None:
    with pytest.raises(Unresolved, match="offers nothing"):
        await bench.hops("sip:none.test")
    with pytest.raises(Unresolved, match="no address"):
        await bench.hops("sip:nowhere.test")


@pytest.mark.parametrize(
    "uri",
    [
        "tel:+4912345",
        "sip:a.test;transport=ws",
        "sip:a.test;transport=sctp",
        "sips:a.test;transport=udp",
        "sip:a..test",
        "sip:.",
        "sip:-;maddr=a_/b",
        f"sip:{'a' * 70}.test",
        f"sip:{'a.' * 200}test",
    ],
)
async def test_what_leads_nowhere(bench: Bench, uri: str) -> None:
    with pytest.raises(Unresolved):
        await bench.hops(uri)
    assert bench.server.asked == []


async def test_many_at_once(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bench.hops("sip:srv.test")) for _ in range(50)]
    assert len({tuple(task.result()) for task in tasks}) == 1


async def test_the_systems_own_names() -> None:
    """Those of its hosts file, where DNS has none."""
    client = DnsClient()
    client._resolver.nameservers = []
    assert "127.0.0.1" in (await client.addresses("localhost")).records
