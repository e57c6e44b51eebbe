"""HTTP tools: what leaves, what comes back, what must never be reached, and outcomes that do not lie."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from app.ports import Fault, ProviderError, ToolFailed, ToolUnknown
from app.providers import ssrf
from app.providers.http_tools import MAX_RESPONSE_BYTES, HttpTools
from flows.model import Flow, HttpCall, SlotType, Step, Texts, Tool, ToolEffect, Value
from tests.fakes.http_server import HttpServer, reply

TEXTS = Texts("?", "?", "?", "?", "?", "?", "?")
WAIT_S = 10
READ, WRITE, FINAL = ToolEffect.read, ToolEffect.write, ToolEffect.irreversible


def flow(*hosts: str) -> Flow:
    return Flow("f", 1, "s", {"s": Step("s")}, TEXTS, allow_hosts=hosts)


def tool(method: str = "GET", path: str = "/x", *, headers: Any = (), **more: Any) -> Tool:
    base: dict[str, Any] = {"effect": READ, "timeout_ms": 3_000}
    return Tool("t", http=HttpCall(method, "{env.SHOP}" + path, headers), **base | more)


class Names(AbstractResolver):
    """Tells each name's addresses, one list for each time it is asked; the last list is repeated."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._names = {name.replace("_", "."): lists for name, lists in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        lists = self._names.get(host)
        if lists is None:
            raise OSError("no such name")
        addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        kinds = [(address, socket.AF_INET6 if ":" in address else socket.AF_INET) for address in addresses]
        return [ResolveResult(hostname=host, host=a, port=port, family=kind, proto=0, flags=0) for a, kind in kinds]

    async def close(self) -> None:
        pass


Make = Callable[..., HttpTools]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[HttpTools] = []

    def build(url: str = "", *, resolver: AbstractResolver | None = None, **environment: str) -> HttpTools:
        made.append(HttpTools({"SHOP": url, **environment}, resolver=resolver))
        return made[-1]

    yield build
    for tools in made:
        await tools.stop()


async def run(tools: HttpTools, wanted: Tool, arguments: dict[str, Value] | None = None, **more: Any) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        return await tools.run(more.pop("flow", flow("{env.SHOP}")), wanted, arguments or {}, more.pop("key", ""))


async def fails(
    tools: HttpTools, wanted: Tool, arguments: dict[str, Value] | None = None, **more: Any
) -> tuple[type[ProviderError], Fault]:
    with pytest.raises(ProviderError) as caught:
        await run(tools, wanted, arguments, **more)
    return type(caught.value), caught.value.fault


# What leaves


async def test_arguments_go_into_the_path_the_query_or_the_body(make: Make) -> None:
    async with HttpServer(reply(body={})) as far:
        tools = make(far.url)
        given: dict[str, Value] = {"id": "a b", "n": 3, "yes": True}
        await run(tools, tool("GET", "/orders/{id}"), given, key="call:1")
        await run(tools, tool("DELETE", "/orders/{id}?x=1"), given)
        await run(tools, tool("POST", "/orders/{id}", effect=WRITE), given, key="call:2")
    get, delete, post = far.asked
    assert (get.method, get.target, get.body) == ("GET", "/orders/a%20b?n=3&yes=true", b"")
    assert get.headers["idempotency-key"] == "call:1"
    assert (delete.method, delete.target) == ("DELETE", "/orders/a%20b?x=1&n=3&yes=true")
    assert (post.method, post.target) == ("POST", "/orders/a%20b")
    assert json.loads(post.body) == {"n": 3, "yes": True}
    assert post.headers["content-type"] == "application/json"
    assert post.headers["idempotency-key"] == "call:2"


@pytest.mark.parametrize("value", ["a?x=1", "a#b", "a&b=c", "%2e", "ü", "a\r\nHost: evil", "{env.SECRET}", "..a", "@h"])
async def test_an_argument_stays_one_piece_of_the_path(make: Make, value: str) -> None:
    async with HttpServer(reply(body={})) as far:
        await run(make(far.url, SECRET="s3"), tool("GET", "/orders/{id}/x"), {"id": value})
    target = far.asked[0].target
    assert target.startswith("/orders/")
    assert target.endswith("/x")
    assert target.count("/") == 3
    assert not set(target) & set("?#& \r\n{}@")
    assert "s3" not in target


@pytest.mark.parametrize("value", ["..", ".", "../admin", "..\\admin", "a/../../admin", "/../x"])
async def test_an_argument_cannot_climb(make: Make, value: str) -> None:
    async with HttpServer(reply(body={})) as far:
        assert await fails(make(far.url), tool("GET", "/orders/{id}"), {"id": value}) == (ToolFailed, Fault.forbidden)
        pair: dict[str, Value] = {"a": ".", "b": "."}
        assert await fails(make(far.url), tool("GET", "/o/{a}{b}/admin"), pair) == (ToolFailed, Fault.forbidden)
    assert far.asked == []


@pytest.mark.parametrize("arguments", [{}, {"id": ""}])
async def test_a_missing_argument_is_refused(make: Make, arguments: dict[str, Value]) -> None:
    assert await fails(make("http://h"), tool("GET", "/orders/{id}"), arguments) == (ToolFailed, Fault.rejected)


@pytest.mark.parametrize("url", ["http://{id}/x", "{id}", "http://{id}.shop/x", "http://shop{id}", "http://a:{id}@b/"])
async def test_an_argument_never_names_the_host(make: Make, url: str) -> None:
    wanted = Tool("t", READ, http=HttpCall("GET", url))
    assert await fails(make(), wanted, {"id": "127.0.0.1"}, flow=flow("127.0.0.1")) == (ToolFailed, Fault.forbidden)


@pytest.mark.parametrize(
    "url",
    ["ftp://h/x", "file:///etc/passwd", "//h/x", "h/x", "http:///x", "http://h:99999/", "http://h/a b", "http://ü/"],
)
async def test_only_http_urls(make: Make, url: str) -> None:
    assert await fails(make(url), tool(path="")) == (ToolFailed, Fault.forbidden)


async def test_variables_are_named_when_they_are_missing_and_never_shown(make: Make) -> None:
    with pytest.raises(ToolFailed, match=r"NOT_THERE") as caught:
        await run(make("http://h"), tool("GET", "/{env.NOT_THERE}"))
    assert caught.value.fault is Fault.forbidden
    with pytest.raises(ToolFailed) as caught:
        await run(make("http://h"), tool(headers=(("X", "{env.KEY}"),)), flow=flow())
    assert "KEY" in str(caught.value)


async def test_headers_take_variables_and_nothing_that_breaks_out(make: Make) -> None:
    async with HttpServer(reply(body={})) as far:
        await run(make(far.url, KEY="k 1"), tool(headers=(("X-Key", "Bearer {env.KEY}"), ("X-Raw", "{id}"))))
        assert far.asked[0].headers["x-key"] == "Bearer k 1"
        assert far.asked[0].headers["x-raw"] == "{id}"
        for bad in ("a\r\nX: b", "a\nb", "a\0b", "ü"):
            wanted = tool(headers=(("X-Key", "{env.KEY}"),))
            assert await fails(make(far.url, KEY=bad), wanted) == (ToolFailed, Fault.forbidden)
        assert await fails(make(far.url), tool(headers=(("X: y\r\nZ", "1"),))) == (ToolFailed, Fault.forbidden)
        await run(make(far.url), tool(), key="ö\r\n:1 %")
    assert far.asked[-1].headers["idempotency-key"] == "%C3%B6%0D%0A:1%20%25"
    assert len(far.asked) == 2


# What comes back

FIELDS = (
    ("s", SlotType.string),
    ("d", SlotType.digits),
    ("on", SlotType.date),
    ("w", SlotType.weekday),
    ("c", SlotType.choice),
    ("y", SlotType.yesno),
    ("n", SlotType.number),
    ("m", SlotType.money),
)


async def test_results_are_typed_and_what_is_missing_is_none(make: Make) -> None:
    good = {"s": "x", "d": "0042", "on": "1980-05-31", "w": "monday", "c": "a", "y": False, "n": 1.5, "m": 20}
    async with HttpServer(reply(body=good | {"more": [1]}), reply(201, {"s": None}), reply(204)) as far:
        tools = make(far.url)
        assert await run(tools, tool(result=FIELDS)) == good
        assert await run(tools, tool(result=FIELDS)) == {name: None for name, _ in FIELDS}
        assert await run(tools, tool()) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"s": 1},
        {"s": "x" * 3_000},
        {"d": 42},
        {"d": "4-2"},
        {"on": "31.5.1980"},
        {"on": "1980-02-30"},
        {"w": "someday"},
        {"y": "true"},
        {"y": 1},
        {"n": "1"},
        {"n": True},
        {"n": 1e300},
        {"m": [1]},
        {"c": {}},
        [],
        3,
        b"",
        b"<html>",
        b'{"s": "\xff"}',
        b'{"more": ' + b"[" * 100_000,
        b'{"n": NaN}',
    ],
)
async def test_what_is_not_the_declared_result_is_malformed(make: Make, body: Any) -> None:
    async with HttpServer(reply(body=body)) as far:
        tools = make(far.url)
        assert await fails(tools, tool(result=FIELDS)) == (ToolFailed, Fault.malformed)
        assert await fails(tools, tool("POST", effect=WRITE, result=FIELDS)) == (ToolUnknown, Fault.malformed)


async def test_an_answer_has_a_limit(make: Make) -> None:
    async with HttpServer(reply(body=b" " * (MAX_RESPONSE_BYTES + 1))) as far:
        assert await fails(make(far.url), tool()) == (ToolFailed, Fault.too_large)
        assert await fails(make(far.url), tool("POST", effect=FINAL)) == (ToolUnknown, Fault.too_large)


async def test_a_compressed_answer_was_not_asked_for(make: Make) -> None:
    async with HttpServer(reply(body=b"\x1f\x8b\x08" + b"\0" * 30, Content_Encoding="gzip")) as far:
        assert await fails(make(far.url), tool(result=FIELDS)) == (ToolFailed, Fault.malformed)
        assert far.asked[0].headers["accept-encoding"] == "identity"


# Outcomes


@pytest.mark.parametrize(
    ("status", "fault", "write"),
    [
        (301, Fault.rejected, ToolUnknown),
        (303, Fault.rejected, ToolUnknown),
        (307, Fault.rejected, ToolFailed),
        (400, Fault.rejected, ToolFailed),
        (401, Fault.auth, ToolFailed),
        (409, Fault.rejected, ToolFailed),
        (429, Fault.busy, ToolFailed),
        (500, Fault.broken, ToolUnknown),
        (503, Fault.busy, ToolUnknown),
    ],
)
async def test_statuses(make: Make, status: int, fault: Fault, write: type[ProviderError]) -> None:
    async with HttpServer(reply(status, Location="http://127.0.0.1:1/")) as far:
        tools = make(far.url)
        assert await fails(tools, tool()) == (ToolFailed, fault)
        assert await fails(tools, tool("POST", effect=WRITE)) == (write, fault)
    assert len(far.asked) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("effect", [WRITE, FINAL])
async def test_a_write_whose_connection_breaks_is_sent_once_and_unknown(
    make: Make, method: str, effect: ToolEffect
) -> None:
    async with HttpServer(None) as far:
        assert await fails(make(far.url), tool(method, effect=effect, retries=3)) == (ToolUnknown, Fault.cut)
    assert len(far.asked) == 1


@pytest.mark.parametrize(("method", "effect"), [("GET", READ), ("POST", WRITE)])
async def test_no_request_travels_on_a_used_connection(make: Make, method: str, effect: ToolEffect) -> None:
    """A far side that answers once too often would give one caller what is another's."""
    surplus = reply(body={"n": 1}) + reply(body={"n": 2})
    async with HttpServer(surplus, reply(body={"n": 3})) as far:
        tools = make(far.url)
        for n in (1, 3):
            wanted = tool(method, effect=effect, result=(("n", SlotType.number),))
            assert await run(tools, wanted) == {"n": n}
            assert far.connections == len(far.asked)


async def test_timeouts(make: Make) -> None:
    async with HttpServer(30.0) as far:
        tools = make(far.url)
        assert await fails(tools, tool(timeout_ms=150)) == (ToolFailed, Fault.timeout)
        assert await fails(tools, tool("POST", effect=WRITE, timeout_ms=150)) == (ToolUnknown, Fault.timeout)


async def test_nobody_listens(make: Make, unused_tcp_port: int) -> None:
    tools = make(f"http://127.0.0.1:{unused_tcp_port}")
    assert await fails(tools, tool()) == (ToolFailed, Fault.refused)
    assert await fails(tools, tool("POST", effect=FINAL)) == (ToolFailed, Fault.refused)


async def test_cut_in_mid_answer_and_nonsense(make: Make) -> None:
    half = b"HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\n{"
    for answer, fault in ((half, Fault.cut), (b"SSH-2.0-hello\r\n\r\n", Fault.malformed)):
        async with HttpServer(answer, cut=True) as far:
            assert await fails(make(far.url), tool()) == (ToolFailed, fault)
            assert await fails(make(far.url), tool("POST", effect=WRITE)) == (ToolUnknown, fault)


@pytest.mark.parametrize("bad", [reply(500), reply(429), reply(503), None])
async def test_reads_and_idempotent_writes_are_tried_again(make: Make, bad: bytes | None) -> None:
    for effect in (READ, WRITE):
        async with HttpServer(bad, bad, reply(body={"n": 1})) as far:
            again = effect is WRITE
            wanted = tool("POST", effect=effect, idempotent=again, retries=2, result=(("n", SlotType.number),))
            assert await run(make(far.url), wanted, key="k:1") == {"n": 1}
        assert [asked.headers["idempotency-key"] for asked in far.asked] == ["k:1"] * 3


async def test_what_is_not_safe_or_not_sensible_is_not_tried_again(make: Make) -> None:
    for answer, wanted in (
        (reply(500), tool("POST", effect=WRITE, retries=3)),
        (reply(404), tool(retries=3)),
        (reply(302), tool(retries=3)),
        (reply(body=b"x"), tool(retries=3, result=FIELDS)),
    ):
        async with HttpServer(answer) as far:
            await fails(make(far.url), wanted)
        assert len(far.asked) == 1


async def test_a_doubt_stays_though_a_later_try_is_refused(make: Make) -> None:
    async with HttpServer(reply(500), reply(409)) as far:
        wanted = tool("POST", effect=WRITE, idempotent=True, retries=1)
        assert await fails(make(far.url), wanted) == (ToolUnknown, Fault.rejected)
    async with HttpServer(reply(429)) as far:
        assert await fails(make(far.url), wanted) == (ToolFailed, Fault.busy)
    assert len(far.asked) == 2


async def test_the_time_limit_covers_all_tries(make: Make) -> None:
    async with HttpServer(reply(500)) as far:
        await fails(make(far.url), tool(retries=1000, timeout_ms=2_000))
    assert 2 <= len(far.asked) <= 5


async def test_a_cancelled_read_ends(make: Make) -> None:
    async with HttpServer(30.0) as far:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run(make(far.url), tool(timeout_ms=20_000)))
            await asyncio.sleep(0.2)
            task.cancel()
        assert task.cancelled()


async def test_errors_hold_no_secrets_and_no_arguments(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with HttpServer(reply(500, {"n": "private"}), None, reply(body={"n": "private"})) as far:
        tools = make(far.url, KEY="s3cret")
        wanted = tool("GET", "/{id}", headers=(("X", "{env.KEY}"),), result=(("n", SlotType.number),))
        for _ in range(3):
            with pytest.raises(ProviderError) as caught:
                await run(tools, wanted, {"id": "private"})
            told = str(caught.value) + caplog.text
            assert "private" not in told
            assert "s3cret" not in told
            assert far.host not in str(caught.value)


# What must never be reached

CLOSED = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "168.63.129.16",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%lo",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "64:ff9b:1::a9fe:a9fe",
    "fec0::1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "100::1",
    "5f00::1",
    "3fff::1",
    "2001:db8::1",
    "192.0.0.8",
    "192.0.0.10",
    "192.88.99.1",
    "2002:a9fe:a9fe::1",
    "not an address",
]


@pytest.mark.parametrize("address", CLOSED)
def test_closed_addresses(address: str) -> None:
    assert not ssrf.admitted(address, private=False)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_open_addresses(address: str) -> None:
    assert ssrf.admitted(address, private=False)


def test_an_allowed_host_may_be_private_but_never_a_metadata_address() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "::1", "fc00::1", "100.64.0.1", "8.8.8.8", "::ffff:127.0.0.1"):
        assert ssrf.admitted(address, private=True)
    never = ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "fe80::1", "224.0.0.1", "0.0.0.0", "::")
    for address in (*never, "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b:1::a9fe:a9fe", "fec0::1"):
        assert not ssrf.admitted(address, private=True)


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("shop.test", "shop.test", 80, True),
        ("Shop.Test.", "shop.test", 8443, True),
        ("shop.test:81", "shop.test", 81, True),
        ("shop.test:81", "shop.test", 80, False),
        ("http://shop.test:81/base", "shop.test", 81, True),
        ("http://shop.test", "shop.test", 80, True),
        ("http://shop.test", "shop.test", 81, False),
        ("https://shop.test", "shop.test", 443, True),
        ("127.0.0.1", "127.0.0.1", 9, True),
        ("::1", "::1", 9, True),
        ("[::1]:9", "::1", 9, True),
        ("[::1]:9", "::1", 8, False),
        ("test", "shop.test", 80, False),
        ("", "", 80, False),
        ("shop.test:x", "shop.test", 80, False),
        ("http://[", "shop.test", 80, False),
        ("shop.test@evil.test", "shop.test", 80, False),
    ],
)
def test_who_is_allowed(entry: str, host: str, port: int, allowed: bool) -> None:
    assert ssrf.allows([entry], host, port) is allowed


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0x7f.1",
        "[::1]",
        "[::ffff:7f00:1]",
    ],
)
async def test_loopback_in_any_notation_is_closed(make: Make, host: str) -> None:
    async with HttpServer(reply(body={})) as far:
        for effect in (READ, FINAL):
            wanted = tool("POST", effect=effect, retries=2)
            got = await fails(make(f"http://{host}:{far.port}"), wanted, flow=flow("shop.test", ""))
            assert got == (ToolFailed, Fault.forbidden)
    assert far.connections == 0


async def test_a_name_is_judged_by_where_it_leads_each_time(make: Make) -> None:
    async with HttpServer(reply(body={})) as far:
        names = Names(rebind_test=[["127.0.0.1"]], both_test=[["169.254.169.254", "10.0.0.1", "::1"]])
        for name in ("rebind.test", "both.test"):
            tools = make(f"http://{name}:{far.port}", resolver=names)
            assert await fails(tools, tool(), flow=flow()) == (ToolFailed, Fault.forbidden)
    assert far.connections == 0


async def test_an_allowed_name_reaches_its_private_address(make: Make) -> None:
    async with HttpServer(reply(body={})) as far:
        tools = make(f"http://shop.test:{far.port}", resolver=Names(shop_test=[["127.0.0.1"]]))
        assert await run(tools, tool()) == {}
        assert await run(tools, tool(), flow=flow(f"shop.test:{far.port}")) == {}
        assert await fails(tools, tool(), flow=flow("shop.test:1")) == (ToolFailed, Fault.forbidden)


async def test_an_allowed_name_does_not_reach_metadata(make: Make) -> None:
    tools = make("http://shop.test", resolver=Names(shop_test=[["169.254.169.254"]]))
    assert await fails(tools, tool()) == (ToolFailed, Fault.forbidden)


async def test_a_connection_that_one_flow_may_open_is_not_lent_to_another(make: Make) -> None:
    async with HttpServer(reply(body={})) as far:
        tools = make(far.url)
        await run(tools, tool(), flow=flow("{env.SHOP}"))
        assert await fails(tools, tool(), flow=flow()) == (ToolFailed, Fault.forbidden)
        assert await fails(tools, tool(), flow=flow("{env.OTHER}")) == (ToolFailed, Fault.forbidden)
    assert len(far.asked) == 1


async def test_an_unknown_name_is_refused(make: Make) -> None:
    tools = make("http://nowhere.test", resolver=Names())
    assert await fails(tools, tool("POST", effect=WRITE)) == (ToolFailed, Fault.refused)


async def test_redirects_lead_nowhere_and_cookies_are_not_kept(make: Make) -> None:
    async with HttpServer(reply(302, Location="/y", Set_Cookie="a=b"), reply(body={})) as far:
        tools = make(f"http://shop.test:{far.port}", resolver=Names(shop_test=[["127.0.0.1"]]))
        assert await fails(tools, tool()) == (ToolFailed, Fault.rejected)
        await run(tools, tool())
    assert [asked.target for asked in far.asked] == ["/x", "/x"]
    assert "cookie" not in far.asked[1].headers


async def test_the_url_and_the_body_have_limits(make: Make) -> None:
    assert await fails(make("http://h"), tool("GET", "/{id}"), {"id": "x" * 5_000}) == (ToolFailed, Fault.too_large)
    assert await fails(make("http://h"), tool("POST"), {"id": "x" * 70_000}) == (ToolFailed, Fault.too_large)
