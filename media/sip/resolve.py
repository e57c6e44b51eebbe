"""Where a request for a URI goes (RFC 3263, 4): NAPTR, then SRV, then addresses.

A TLS hop keeps its name, because that is what the certificate has to say; connecting finds the address. DNS can be
forged, so for TLS a target counts only within the domain that was asked for (RFC 5922, 4).
"""

import asyncio
import ipaddress
import random
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.NAPTR
import dns.rdtypes.IN.SRV
import dns.resolver

from media.sip.message import PORT, TLS_PORT, Hop, Written

MAX_HOPS: Final = 10
MAX_RECORDS: Final = 32  # of one answer
MAX_CACHED: Final = 1000  # answers
MAX_TTL_S: Final = 3600
ABSENT_TTL_S: Final = 30  # for which what is not there is not asked for again
HOSTS_TTL_S: Final = 30  # of what the system's own files say
TRY_S: Final = 1.0  # for one server, before the next one or the same again
QUERY_S: Final = 2.5
TOTAL_S: Final = 8.0

_PREFIXES: Final = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
_SERVICES: Final = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class Unresolved(Exception):
    """There is no way to this URI, or none that could be found in time."""


@dataclass(frozen=True, slots=True)
class Naptr:
    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    priority: int
    weight: int
    port: int
    target: str  # empty: not offered here (RFC 2782)


Record = TypeVar("Record", Naptr, Srv, str)


@dataclass(frozen=True, slots=True)
class Found(Generic[Record]):
    records: Sequence[Record]  # none: the name is not there, or has nothing of this kind
    ttl_s: float


class Dns(Protocol):
    """Names without a dot at their end. All raise `Unresolved` where no server answers."""

    async def naptr(self, name: str) -> Found[Naptr]: ...

    async def srv(self, name: str) -> Found[Srv]: ...

    async def addresses(self, name: str) -> Found[str]:
        """IPv4 first."""
        ...


class Resolves(Protocol):
    async def resolve(self, uri: Written, *, secure: bool = False) -> list[Hop]: ...

    async def addresses(self, host: str) -> Sequence[str]: ...


class Resolver:
    """Remembers what DNS said, not what came of it: among equals the choice is made anew each time."""

    def __init__(
        self, names: Dns, *, now_s: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._names = names
        self._now_s = now_s
        self._chance = chance
        self._cache: OrderedDict[tuple[str, str], tuple[Sequence[Any], float]] = OrderedDict()

    async def resolve(self, uri: Written, *, secure: bool = False) -> list[Hop]:
        """The hops to try in this order: at least one, at most `MAX_HOPS`. `secure`: only TLS, as for sips.

        Raises `Unresolved`.
        """
        transport, allowed = _transports(uri, secure=secure)
        host = (uri.parameters.get("maddr") or uri.host).strip("[]").rstrip(".").lower()
        try:
            async with asyncio.timeout(TOTAL_S):
                hops = await self._hops(host, uri.port, transport, allowed)
        except TimeoutError:
            raise Unresolved(f"{host}: DNS takes too long") from None
        if not hops:
            raise Unresolved(f"{host} has no address")
        return list(dict.fromkeys(hops))[:MAX_HOPS]

    async def addresses(self, host: str) -> Sequence[str]:
        """Of a hop's host: those of a name, or its own. Raises `Unresolved`."""
        if (address := _address(host)) is not None:
            return [address]
        try:
            async with asyncio.timeout(TOTAL_S):
                return (await self._known(self._names.addresses, host))[:MAX_RECORDS]
        except TimeoutError:
            raise Unresolved(f"{host}: DNS takes too long") from None

    async def _hops(self, host: str, port: int | None, transport: str, allowed: Sequence[str]) -> list[Hop]:
        default = transport or allowed[0]
        default_port = port or (TLS_PORT if default == "tls" else PORT)
        if (address := _address(host)) is not None:
            return [Hop(default, address, default_port)]
        if not _NAME.fullmatch(host):
            raise Unresolved("a host that is no name")
        if port is not None:
            return await self._at(default, host, port)
        if transport:
            services = [(transport, f"{_PREFIXES[transport]}.{host}")]
        else:
            services = await self._services(host, allowed)
        offered = False
        for transport, name in services:
            records = await self._offers(self._names.srv, name)
            if hops := await self._served(transport, host, records):
                return hops
            offered = offered or bool(records)
        if offered:
            raise Unresolved(f"{host} offers nothing that can be used")
        return await self._at(default, host, default_port)

    async def _services(self, host: str, allowed: Sequence[str]) -> list[tuple[str, str]]:
        """Transports, the best first, each with where its SRV records are (4.1)."""
        found = sorted(
            await self._offers(self._names.naptr, host), key=lambda record: (record.order, record.preference)
        )
        named = [
            (transport, record.replacement)
            for record in found[:MAX_RECORDS]
            if record.flags.lower() == "s"
            and (transport := _SERVICES.get(record.service.lower())) in allowed
            and transport is not None
            and _NAME.fullmatch(record.replacement)
        ]
        return named or [(transport, f"{_PREFIXES[transport]}.{host}") for transport in allowed]

    async def _served(self, transport: str, host: str, records: Iterable[Srv]) -> list[Hop]:
        hops: list[Hop] = []
        for record in self._ordered(records):
            if not (_NAME.fullmatch(record.target) and record.port):
                continue
            if transport == "tls" and not f".{record.target}".lower().endswith(f".{host}"):
                continue
            try:
                hops += await self._at(transport, record.target.lower(), record.port)
            except Unresolved:
                continue  # the others may still do
            if len(hops) >= MAX_HOPS:
                break
        return hops

    async def _at(self, transport: str, name: str, port: int) -> list[Hop]:
        if transport == "tls":
            return [Hop(transport, name, port)]
        return [Hop(transport, address, port) for address in await self._known(self._names.addresses, name)]

    def _ordered(self, records: Iterable[Srv]) -> list[Srv]:
        """By priority; within one by chance, as their weights say (RFC 2782)."""
        left = sorted(records, key=lambda record: (record.priority, record.weight))[:MAX_RECORDS]
        ordered: list[Srv] = []
        while left:
            equals = [record for record in left if record.priority == left[0].priority]
            drawn = self._chance() * sum(record.weight for record in equals)
            chosen = equals[-1]
            for record in equals:
                drawn -= record.weight
                if drawn <= 0:
                    chosen = record
                    break
            left.remove(chosen)
            ordered.append(chosen)
        return ordered

    async def _offers(self, ask: Callable[[str], Awaitable[Found[Record]]], name: str) -> Sequence[Record]:
        """None where DNS fails: some servers know of addresses only."""
        try:
            return await self._known(ask, name)
        except Unresolved:
            return ()

    async def _known(self, ask: Callable[[str], Awaitable[Found[Record]]], name: str) -> Sequence[Record]:
        key = ask.__name__, name.lower()
        records, until_s = self._cache.get(key, ((), 0.0))
        if self._now_s() < until_s:
            self._cache.move_to_end(key)
            return records
        found = await ask(name)
        self._cache[key] = found.records, self._now_s() + min(found.ttl_s, MAX_TTL_S)
        self._cache.move_to_end(key)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return found.records


def _transports(uri: Written, *, secure: bool) -> tuple[str, Sequence[str]]:
    """The one that is asked for, else empty; and those that may be, the default first. Raises `Unresolved`."""
    if uri.scheme not in ("sip", "sips"):
        raise Unresolved(f"a {uri.scheme} URI says no host")
    secure = secure or uri.scheme == "sips"
    asked = (uri.parameters.get("transport") or "").lower()
    if asked not in ("", *_PREFIXES):
        raise Unresolved("a transport that is not spoken here")
    if not secure:
        return asked, ("udp", "tcp", "tls")
    if asked == "udp" and uri.scheme == "sips":
        raise Unresolved("there is no TLS over UDP")
    return "tls" if asked else "", ("tls",)


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


class DnsClient:
    """Of the system's servers, with its hosts file; or of these, as (address, port), and nothing else."""

    def __init__(self, servers: Sequence[tuple[str, int]] = (), *, ipv6: bool = True) -> None:
        self._system = not servers
        self._kinds = ("A", "AAAA") if ipv6 else ("A",)
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=self._system)
        except dns.resolver.NoResolverConfiguration:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
        self._resolver.timeout = TRY_S

    async def naptr(self, name: str) -> Found[Naptr]:
        records, ttl_s = await self._ask(name, "NAPTR")
        return Found([_naptr(one) for one in records if isinstance(one, dns.rdtypes.IN.NAPTR.NAPTR)], ttl_s)

    async def srv(self, name: str) -> Found[Srv]:
        records, ttl_s = await self._ask(name, "SRV")
        return Found(
            [
                Srv(one.priority, one.weight, one.port, _text(one.target))
                for one in records
                if isinstance(one, dns.rdtypes.IN.SRV.SRV)
            ],
            ttl_s,
        )

    async def addresses(self, name: str) -> Found[str]:
        """Of one family, where only the other one's servers fail."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._family(name, kind), name="dns") for kind in self._kinds]
        answers = [task.result() for task in tasks]
        found = [one for answer in answers if isinstance(answer, Found) for one in answer.records]
        failures = [answer for answer in answers if isinstance(answer, Unresolved)]
        if not found and self._system:
            return await self._hosts(name)
        if not found and failures:
            raise failures[0]
        return Found(found, min(answer.ttl_s for answer in answers if isinstance(answer, Found)))

    async def _family(self, name: str, kind: str) -> Found[str] | Unresolved:
        try:
            records, ttl_s = await self._ask(name, kind)
        except Unresolved as error:
            return error
        families = dns.rdtypes.IN.A.A, dns.rdtypes.IN.AAAA.AAAA
        return Found([one.address for one in records[:MAX_RECORDS] if isinstance(one, families)], ttl_s)

    async def _hosts(self, name: str) -> Found[str]:
        family = socket.AF_UNSPEC if "AAAA" in self._kinds else socket.AF_INET
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, family=family, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return Found((), ABSENT_TTL_S)
        return Found([str(sockaddr[0]) for *_, sockaddr in found if "%" not in str(sockaddr[0])], HOSTS_TTL_S)

    async def _ask(self, name: str, kind: str) -> tuple[list[Any], float]:
        """Records of dnspython's, and for how many seconds they hold. Raises `Unresolved`."""
        try:
            answer = await self._resolver.resolve(
                f"{name}.", kind, raise_on_no_answer=False, lifetime=QUERY_S, search=False
            )
        except dns.resolver.NXDOMAIN:
            return [], ABSENT_TTL_S
        except (dns.exception.DNSException, OSError) as error:
            raise Unresolved(f"{name}: {type(error).__name__}") from None
        records = list(answer)
        return records, answer.chaining_result.minimum_ttl if records else ABSENT_TTL_S


def _naptr(record: dns.rdtypes.IN.NAPTR.NAPTR) -> Naptr:
    flags, service = (text.decode("ascii", "replace") for text in (record.flags, record.service))
    return Naptr(record.order, record.preference, flags, service, _text(record.replacement))


def _text(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True)
