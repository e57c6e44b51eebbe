"""WebRTC's signalling as clients of any kind see it: what is answered, what is refused, and what remains of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from app.api.access import MAX_FAILURES
from app.api.tickets import MAX_TICKETS_PER_ADDRESS, TICKET_S
from app.api.webrtc import FRAGMENT, RETRY_S, SDP
from app.core.events import CallStarted, LegAttached, LegJoined
from media import sdp
from media.sdp import MAX_SDP_BYTES
from media.webrtc import server as shell
from media.webrtc.offer import MAX_FRAGMENT_BYTES
from media.webrtc.peer import Peer, PeerError
from tests.e2e.server import TALK, Server, running
from tests.webrtc.offers import AUDIO, OFFER, SESSION
from tests.webrtc.probe import probe
from tests.webrtc.remains import Remains, ended

NOWHERE = OFFER.replace("192.0.2.7 54321", "127.0.0.1 9")
"""An offer of somebody who never answers."""

PARTNER = "https://partner.example.com"
VIEWER, OPERATOR = "v" * 20, "o" * 20
TOKENS = json.dumps(
    [
        {"name": "wall", "role": "viewer", "token": VIEWER},
        {"name": "desk", "role": "operator", "token": OPERATOR},
    ]
)


class Said:
    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text

    @property
    def reason(self) -> str:
        return str(json.loads(self.text)["detail"])

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self.server = server
        self._http = http

    async def ask(self, method: str, path: str, body: str | bytes = "", kind: str = "", **headers: str) -> Said:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind:
            named["Content-Type"] = kind
        async with self._http.request(method, self.server.url + path, data=body or None, headers=named) as response:
            return Said(response.status, response.headers, await response.text())

    async def offer(self, path: str = "/webrtc", body: str | bytes = NOWHERE, kind: str = SDP, **headers: str) -> Said:
        return await self.ask("POST", path, body, kind, **headers)

    async def patch(self, path: str, body: str | bytes, kind: str = FRAGMENT, **headers: str) -> Said:
        return await self.ask("PATCH", path, body, kind, **headers)

    async def token(self, **headers: str) -> Said:
        return await self.ask("POST", "/api/webrtc/token", **headers)

    async def ticket(self, token: str) -> str:
        said = await self.token(Authorization=f"Bearer {token}")
        assert said.status == 200, said.text
        return f"Bearer {said.json['token']}"


@asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[Client]:
    async with (
        running(folder, flows=[TALK], media_host="127.0.0.1", **settings) as server,
        # A connection that is kept may be the one that the server just ends.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        yield Client(server, http)


# Answers


async def test_an_offer_is_answered_as_whip_says(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        said = await client.offer("/webrtc/talk")
        assert said.status == 201
        assert said.headers["Content-Type"] == SDP
        assert said.headers["Location"].startswith("/webrtc/leg/")
        assert len(said.headers["Location"]) > len("/webrtc/leg/") + 20
        assert said.headers["Accept-Patch"] == FRAGMENT
        assert said.headers["Cache-Control"] == "no-store"
        assert said.headers["Voicegate-Resume"]
        assert "Access-Control-Allow-Origin" not in said.headers
        answer = sdp.parse(said.text)
        assert [media.kind for media in answer.media] == ["audio", "application"]
        assert all(" 127.0.0.1 " in line for line in answer.media[0].attributes.all("candidate"))
        (call,) = client.server.gate.registry.calls()
        assert call.core.flow.name == "talk"
        assert (await client.ask("DELETE", said.headers["Location"])).status == 200
        await client.server.until(lambda: len(client.server.gate.registry) == 0)


async def test_candidates_that_come_later(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        leg = (await client.offer()).headers["Location"]
        lines = "a=ice-ufrag:uFr4\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        more = lines + "a=candidate:2 1 udp 2122260222 127.0.0.1 11 typ host\r\n"
        assert (await client.patch(leg, more)).status == 204
        assert (await client.patch(leg, lines + "a=end-of-candidates\r\n")).status == 204
        assert (await client.patch(leg, lines + "a=candidate:nonsense\r\n" * 3)).status == 204
        restart = await client.patch(leg, lines.replace("uFr4", "other"))
        assert restart.status == 422
        assert "resume" in restart.reason
        assert (await client.patch(leg, more, "application/json")).status == 415
        assert (await client.patch(leg, "x" * (MAX_FRAGMENT_BYTES + 1))).status == 413
        assert (await client.patch(leg, "a=candidate:1\r\n" * 51)).status == 400
        assert (await client.patch(leg, b"\xff\xfe")).status == 400
        assert (await client.patch("/webrtc/leg/nothing", more)).status == 404
        assert (await client.ask("DELETE", leg)).status == 200
        assert (await client.ask("DELETE", leg)).status in (200, 404)
        await client.server.until(lambda: len(client.server.gate.registry) == 0)
        assert (await client.ask("DELETE", leg)).status == 404
        assert (await client.patch(leg, more)).status == 404


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (OFFER, "text/plain", 415, SDP),
        (OFFER, "", 415, SDP),
        ("x" * (MAX_SDP_BYTES + 1), SDP, 413, str(MAX_SDP_BYTES)),
        (b"v=0\r\n\xff\xfe", SDP, 400, "UTF-8"),
        ("", SDP, 400, ""),
        ("hello", SDP, 400, ""),
        (SESSION, SDP, 400, "no audio"),
        (OFFER.replace("a=rtcp-mux\r\n", ""), SDP, 400, "rtcp-mux"),
        (OFFER.replace("111 63 9 0 8 13", "63 9 13"), SDP, 400, "codecs"),
        (SESSION + AUDIO.replace("uFr4", "'"), SDP, 400, "ice-ufrag"),
    ],
)
async def test_what_is_no_offer_is_refused_in_words(
    tmp_path: Path, body: str | bytes, kind: str, status: int, words: str
) -> None:
    async with served(tmp_path) as client:
        said = await client.offer(body=body, kind=kind)
        assert said.status == status
        assert words in said.reason
        assert said.reason
        assert len(client.server.gate.registry) == 0


async def test_a_body_without_a_length_has_a_limit_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 4096

    async with (
        served(tmp_path) as client,
        aiohttp.ClientSession() as http,
        http.post(client.server.url + "/webrtc", data=endless(), headers={"Content-Type": SDP}) as response,
    ):
        assert response.status == 413


async def test_who_goes_away_before_the_end_of_an_offer_is_no_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as client:
        address = urlsplit(client.server.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(
            f"POST /webrtc HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {SDP}\r\n"
            "Content-Length: 5000\r\n\r\nv=0".encode()
        )
        await writer.drain()
        assert (await client.ask("GET", "/health")).status == 200  # by then it is being read
        writer.close()
        await writer.wait_closed()
        assert (await client.offer("/webrtc/nothing")).status == 404
    assert not [record for record in caplog.records if record.exc_info]


async def test_no_such_flow(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        said = await client.offer("/webrtc/nothing")
        assert (said.status, said.reason) == (404, "there is no such flow")
        assert "WWW-Authenticate" not in said.headers
        assert len(client.server.gate.registry) == 0
        assert (await client.offer("/webrtc?listen=nothing")).status == 404


async def test_all_lines_are_busy(tmp_path: Path) -> None:
    async with served(tmp_path, max_calls=2) as client:
        assert (await client.offer()).status == 201
        leg = (await client.offer()).headers["Location"]
        said = await client.offer()
        assert (said.status, said.headers["Retry-After"]) == (503, str(RETRY_S))
        assert "busy" in said.reason
        await client.ask("DELETE", leg)
        await client.server.until(lambda: len(client.server.gate.registry) == 1)
        assert (await client.offer()).status == 201


# Tokens and roles


async def test_a_token_is_good_for_one_offer(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS, trust_loopback=False) as client:
        assert (await client.token()).status == 401
        assert (await client.token(Authorization="Bearer " + "x" * 20)).status == 401
        given = await client.token(Authorization=f"Bearer {VIEWER}")
        assert given.json["expires_s"] == TICKET_S
        assert given.json["ice_servers"] == []
        ticket = f"Bearer {given.json['token']}"
        assert (await client.offer(Authorization=ticket)).status == 201
        again = await client.offer(Authorization=ticket)
        assert (again.status, again.headers["WWW-Authenticate"]) == (401, "Bearer")
        (call,) = client.server.gate.registry.calls()
        assert call.call


async def test_without_a_token_nobody_is_heard(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS, trust_loopback=False) as client:
        assert (await client.offer()).status == 401
        assert (await client.offer(Authorization="Bearer nothing")).status == 401
        assert (await client.offer(f"/webrtc?token={VIEWER}")).status == 401  # addresses are logged by proxies
        assert len(client.server.gate.registry) == 0
        assert (await client.offer(Authorization=f"Bearer {VIEWER}")).status == 201


async def test_this_machine_needs_none_unless_it_only_passes_on(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS) as client:
        assert (await client.offer()).status == 201
        assert (await client.offer(X_Forwarded_For="203.0.113.7")).status == 401
        assert (await client.token(X_Forwarded_For="203.0.113.7")).status == 401
        assert (await client.offer(Host="rebound.example.com")).status == 401


async def test_tokens_that_nobody_uses_are_limited(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        for _ in range(MAX_TICKETS_PER_ADDRESS):
            given = await client.token()
            assert given.status == 200
        said = await client.token()
        assert (said.status, said.headers["Retry-After"]) == (429, str(TICKET_S))
        assert (await client.offer(Authorization=f"Bearer {given.json['token']}")).status == 201
        assert (await client.token()).status == 200


async def test_who_looks_may_call_and_not_listen_in(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS, trust_loopback=False) as client, probe(client.server.url) as caller:
        await caller.dial(Authorization=await client.ticket(VIEWER))
        await client.server.until(lambda: client.server.facts(CallStarted))
        (call,) = client.server.gate.registry.calls()
        listen = f"/webrtc?listen={call.call}"
        assert (await client.offer(listen)).status == 401
        assert (await client.offer(listen, Authorization=await client.ticket(VIEWER))).status == 403
        assert (await client.offer(listen, Authorization=f"Bearer {VIEWER}")).status == 403
        assert (await client.offer(listen, Authorization=await client.ticket(OPERATOR))).status == 201
        assert (await client.offer("/webrtc?listen=no", Authorization=await client.ticket(OPERATOR))).status == 404
        async with probe(client.server.url) as listener:
            await listener.dial(listen, Authorization=await client.ticket(OPERATOR))
            await client.server.until(lambda: client.server.facts(LegJoined))
        assert [fact.who for fact in client.server.facts(LegJoined)] == ["desk"]
        assert await caller.goodbye() == 200
        await ended(client.server, call.call)
        assert client.server.replayed(call.call)


# Coming back


async def test_a_call_comes_back_by_its_token_and_only_once(tmp_path: Path) -> None:
    async with served(tmp_path) as client, probe(client.server.url) as first:
        await first.dial()
        await client.server.until(lambda: client.server.facts(CallStarted))
        (call,) = client.server.gate.registry.calls()
        async with probe(client.server.url) as second:
            await second.dial(f"/webrtc?resume={first.resumes}")
            assert second.resumes
            assert second.resumes != first.resumes
            await client.server.until(lambda: client.server.facts(LegAttached))
            await first.until(lambda: first.lost)
            assert [actor.call for actor in client.server.gate.registry.calls()] == [call.call]
            assert (await client.offer(f"/webrtc?resume={first.resumes}")).status == 401
            assert (await client.offer("/webrtc?resume=nothing")).status == 401
            assert (await client.ask("DELETE", first.location)).status == 404
            assert not call.core.state.cause
            assert await second.goodbye() == 200
            record = await ended(client.server, call.call)
            assert record["cause"] == "caller-hangup"
        assert (await client.offer(f"/webrtc?resume={second.resumes}")).status == 401
        assert client.server.replayed(call.call)


async def test_a_goodbye_may_come_before_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as client, probe(client.server.url) as first:
        early = await client.offer()
        assert (await client.ask("DELETE", early.headers["Location"])).status == 200
        assert (await ended(client.server, client.server.seen[0].call))["cause"] == "caller-hangup"
        await first.dial()
        await client.server.until(lambda: len(client.server.facts(CallStarted)) == 2)
        (call,) = client.server.gate.registry.calls()
        again = await client.offer(f"/webrtc?resume={first.resumes}")
        assert again.status == 201
        assert (await client.ask("DELETE", again.headers["Location"])).status == 200
        assert (await ended(client.server, call.call))["cause"] == "caller-hangup"
        assert client.server.replayed(call.call)


# Pages of other origins


async def test_pages_of_other_origins_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS, allowed_origins=PARTNER) as client:
        for origin in ("https://evil.example.com", "null", PARTNER + ".evil.example.com"):
            for said in (
                await client.offer(Origin=origin),
                await client.offer(Origin=origin, Authorization=f"Bearer {OPERATOR}"),
                await client.token(Origin=origin, Authorization=f"Bearer {OPERATOR}"),
                await client.patch("/webrtc/leg/nothing", "", Origin=origin),
                await client.ask("DELETE", "/webrtc/leg/nothing", Origin=origin),
                await client.ask("OPTIONS", "/webrtc/talk", Origin=origin),
            ):
                assert said.status == 403
                assert "Access-Control-Allow-Origin" not in said.headers
        assert len(client.server.gate.registry) == 0
        assert (await client.offer(Origin=client.server.url)).status == 201


async def test_a_page_that_may_call_reads_every_answer(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS, trust_loopback=False, allowed_origins=PARTNER, max_calls=1) as client:
        for path in ("/webrtc", "/webrtc/talk", "/webrtc/leg/some", "/api/webrtc/token"):
            said = await client.ask(
                "OPTIONS",
                path,
                Origin=PARTNER,
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="authorization,content-type",
            )
            assert said.status == 204
            assert said.headers["Access-Control-Allow-Origin"] == PARTNER
            assert {"Authorization", "Content-Type"} <= set(said.headers["Access-Control-Allow-Headers"].split(", "))
            assert {"POST", "PATCH", "DELETE"} <= set(said.headers["Access-Control-Allow-Methods"].split(", "))
        ticket = await client.ticket(VIEWER)  # given to the page by its own server: nothing lasting is in the page
        answers = [
            await client.token(Origin=PARTNER),
            await client.token(Origin=PARTNER, Authorization=f"Bearer {VIEWER}"),
            await client.offer(Origin=PARTNER),
            await client.offer(body="", Origin=PARTNER),
            await client.offer(Origin=PARTNER, Authorization=ticket),
            await client.offer(Origin=PARTNER, Authorization=f"Bearer {VIEWER}"),
        ]
        assert [said.status for said in answers] == [401, 200, 401, 400, 201, 503]
        leg = answers[4].headers["Location"]
        answers.append(await client.patch(leg, "a=end-of-candidates\r\n", Origin=PARTNER))
        answers.append(await client.ask("DELETE", leg, Origin=PARTNER))
        answers.append(await client.ask("DELETE", "/webrtc/leg/nothing", Origin=PARTNER))
        assert [said.status for said in answers[6:]] == [204, 200, 404]
        for said in answers:
            assert said.headers["Access-Control-Allow-Origin"] == PARTNER
            exposed = said.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"Location", "Retry-After", "Voicegate-Resume"} <= set(exposed)


# Limits, and what remains


async def test_offers_without_a_peer_wait_in_limits_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "CONNECT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(shell, "MAX_WAITING", shell.MAX_WAITING_PER_ADDRESS + 2)
    bearer = f"Bearer {VIEWER}"
    async with served(tmp_path, tokens=TOKENS) as client:
        remains = Remains(client.server)
        waiting = [await client.offer(Authorization=bearer) for _ in range(shell.MAX_WAITING_PER_ADDRESS)]
        assert {said.status for said in waiting} == {201}
        said = await client.offer(Authorization=bearer)
        assert (said.status, said.headers["Retry-After"]) == (503, str(RETRY_S))
        assert "address" in said.reason
        others = [await client.offer(Authorization=bearer, X_Forwarded_For=f"203.0.113.{n}") for n in range(3)]
        assert [said.status for said in others] == [201, 201, 503]
        assert len(client.server.gate.registry) == shell.MAX_WAITING_PER_ADDRESS + 2
        assert remains.more()
        await remains.none()
        assert (await client.offer(Authorization=bearer)).status == 201
        for call in list(dict.fromkeys(seen.call for seen in client.server.seen))[:-1]:
            await ended(client.server, call)


async def test_an_offer_that_is_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as client:
        remains = Remains(client.server)
        for _ in range(3):
            assert (await client.offer(body=SESSION)).status == 400
            assert (await client.offer("/webrtc/nothing")).status == 404
        with monkeypatch.context() as patch:
            patch.setattr(Peer, "gather", no_port)
            said = await client.offer()
            assert (said.status, said.reason) == (503, "no UDP port is free for media")
        with monkeypatch.context() as patch:
            patch.setattr(Peer, "gather", broken)
            said = await client.offer()
            assert (said.status, said.reason) == (500, "internal error")
        await remains.none()
        assert (await client.offer()).status == 201


async def no_port(peer: Peer) -> None:
    raise PeerError("no UDP port is free for media")


async def broken(peer: Peer) -> None:
    raise ValueError("a secret")


async def test_a_server_that_stops_does_not_wait_for_peers_that_never_come(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with served(tmp_path) as client:
        said = await client.offer()
        began_s = loop.time()
    assert loop.time() - began_s < shell.CONNECT_TIMEOUT_S / 2
    call = client.server.seen[0].call
    assert said.status == 201
    assert client.server.journal(call).row.cdr


async def test_too_many_wrong_tokens_are_told_from_a_wrong_one(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=TOKENS) as client:
        said = [await client.offer(Authorization="Bearer wrong") for _ in range(MAX_FAILURES + 1)]
        assert [one.status for one in said] == [401] * MAX_FAILURES + [429]
        assert int(said[-1].headers["Retry-After"]) > 0
