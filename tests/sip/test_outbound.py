"""The server calls real telephones: who is reached, who is not, and what the rules forbid."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from app.core.events import CallRang
from app.dialler.outcome import Outcome
from app.providers.espeak import EspeakTts
from app.runtime.outbound import NotPlaced, Order, Outbound
from app.store import dials
from media.sip.dials import MAX_REDIRECTS
from tests.clients import audio
from tests.clients.baresip import baresip
from tests.clients.certificate import self_signed
from tests.clients.process import free_port
from tests.clients.sipp import running as callee
from tests.e2e.server import Server, running
from tests.pages.browser import likeness

FLOWS = Path(__file__).parent.parent / "e2e" / "flows"
TALK = FLOWS / "talk.yaml"


def outbound(server: Server) -> Outbound:
    assert server.gate.outbound is not None
    return server.gate.outbound


async def outcome(server: Server, uri: str, **order: Any) -> Outcome:
    underway = await outbound(server).place(Order(to=uri, flow="talk", by="desk", **order))
    async with asyncio.timeout(60):
        return (await underway.over()).outcome


async def refusal(server: Server, uri: str) -> str:
    """The rule; empty: it was placed."""
    try:
        await outbound(server).place(Order(to=uri, flow="talk", by="desk"))
    except NotPlaced as error:
        return error.rule
    return ""


async def test_a_telephone_answers_and_talks(tmp_path: Path) -> None:
    tts = EspeakTts()
    async with (
        running(tmp_path, flows=[TALK], tts=tts, sip_port=0, dial_allow=["*"]) as server,
        baresip(tmp_path / "phone", codecs=("PCMA",)) as phone,
    ):
        underway = await outbound(server).place(
            Order(to=phone.uri, flow="talk", by="desk", caller="4930123456", slots={"day": "friday"})
        )
        await phone.event("CALL_CLOSED")
        assert (await underway.over()).outcome is Outcome.answered
        record = await server.over(underway.call)
        assert (record["outcome"], record["placed_by"], record["caller"]) == ("told", "desk", "4930123456")
        assert record["slots"] == {"day": "friday"}
        assert "From: <sip:4930123456@" in phone.log
        voice = server.gate.flows["talk"].voice
        goodbye = np.concatenate([c.pcm async for c in tts.speak("Until friday. Goodbye.", voice, audio.RATE_HZ)])
        assert likeness(phone.heard(), goodbye) > 0.5
        assert server.replayed(underway.call).outcome == "told"


@pytest.mark.parametrize(("scenario", "expected"), [("busy", Outcome.busy), ("ringing", Outcome.no_answer)])
async def test_who_is_not_reached(tmp_path: Path, scenario: str, expected: Outcome) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"]) as server,
        callee(scenario, tmp_path / "callee") as other,
    ):
        assert await outcome(server, other.uri, answer_s=3) is expected
        (call,) = {seen.call for seen in server.seen}
        record = await server.over(call)
        assert record["outcome"] == expected
        assert record["answered_ms"] is None
        assert bool(server.facts(CallRang)) is (scenario == "ringing")


@pytest.mark.parametrize(("transport", "why"), [("tcp", "Connection refused"), ("tls", "certificate is not trusted")])
async def test_the_log_says_why_there_is_no_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transport: str, why: str
) -> None:
    async with (
        baresip(tmp_path / "phone", transport="tls", certificate=self_signed(tmp_path / "pem")) as phone,
        running(tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"]) as server,
    ):
        to = phone.uri if transport == "tls" else f"sip:phone@127.0.0.1:{free_port()};transport=tcp"
        assert await outcome(server, to) is Outcome.failed
    lines = [record.getMessage() for record in caplog.records if record.name == "voicegate.sip"]
    assert any(line.startswith(f"no way to 127.0.0.1 by {transport}: ") and why in line for line in lines), lines


async def test_whoever_is_named_instead_is_called(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "phone") as phone,
        callee("redirect", tmp_path / "callee", keys={"redirect_to": phone.uri}) as other,
        running(tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"]) as server,
    ):
        underway = await outbound(server).place(Order(to=other.uri, flow="talk", by="desk"))
        await phone.event("CALL_ESTABLISHED")
        await phone.hangup()
        assert (await underway.over()).outcome is Outcome.answered
        assert (await server.over(underway.call))["cause"] == "caller-hangup"


async def test_nobody_is_called_because_somebody_else_says_so(tmp_path: Path) -> None:
    """A redirection is judged like any order."""
    async with (
        baresip(tmp_path / "phone") as phone,
        callee("redirect", tmp_path / "callee", keys={"redirect_to": phone.uri}) as other,
        running(tmp_path, flows=[TALK], sip_port=0, dial_allow=[f"@127.0.0.1:{other.port}"]) as server,
    ):
        assert await outcome(server, other.uri) is Outcome.failed
        assert outbound(server).refused == {"not-allowed": 1}
        assert "INVITE sip:" not in phone.log


async def test_a_call_that_is_sent_round_and_round_ends(tmp_path: Path) -> None:
    here = free_port()
    keys = {"redirect_to": f"sip:service@127.0.0.1:{here}"}
    async with (
        callee("redirect", tmp_path / "callee", keys=keys, port=here, calls=MAX_REDIRECTS + 1) as other,
        running(
            tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"], dial_per_s=1000, dial_per_destination=50
        ) as server,
    ):
        assert await outcome(server, keys["redirect_to"]) is Outcome.failed
        assert (await other.result()).successful == MAX_REDIRECTS + 1


async def test_nobody_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"]) as server:
        assert await outcome(server, "sip:x@127.0.0.1:9;transport=tcp", answer_s=30) is Outcome.failed


async def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        with pytest.raises(NotPlaced) as refusal:
            await outcome(server, "sip:x@127.0.0.1")
        assert refusal.value.forbidden
        assert not server.seen


async def test_names_are_looked_up_though_the_file_of_outbound_calls_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.outbound.MAX_ORDERS", 40)
    async with running(tmp_path, flows=[TALK], sip_port=0, dial_allow=["*"]) as server, asyncio.TaskGroup() as group:
        with closing(sqlite3.connect(tmp_path / dials.FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            orders = [group.create_task(refusal(server, "sip:x@127.0.0.1:9")) for _ in range(40)]
            await asyncio.sleep(0.1)
            await asyncio.get_running_loop().getaddrinfo("127.0.0.1", None)
            assert not any(order.done() for order in orders)
            assert await refusal(server, "sip:x@127.0.0.1:9") == "busy"
        assert {await order for order in orders} == {"", "calls-per-second"}


async def test_the_api_places_calls_for_operators(tmp_path: Path) -> None:
    tokens = (
        '[{"name":"desk","role":"operator","token":"a-token-for-the-desk-0123456789"},'
        '{"name":"eye","role":"viewer","token":"a-token-for-the-watcher-0123456"}]'
    )
    async with (
        callee("busy", tmp_path / "callee") as other,
        running(
            tmp_path,
            flows=[TALK],
            sip_port=0,
            dial_allow=[f"@127.0.0.1:{other.port}"],
            dial_per_destination=1,
            tokens=tokens,
            trust_loopback=False,
        ) as server,
        aiohttp.ClientSession(server.url) as http,
    ):

        async def post(body: dict[str, Any], token: str = "a-token-for-the-desk-0123456789") -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post("/api/calls", json=body, headers=headers) as response:
                return response.status, await response.text()

        uri = other.uri
        assert (await post({"to": uri}, "a-token-for-the-watcher-0123456"))[0] == 403
        assert (await post({"to": uri}, "nobody"))[0] == 401
        assert (await post({"to": uri, "flow": "nothing"}))[0] == 404
        assert (await post({"to": uri, "slots": {"day": "someday"}}))[0] == 422
        for wrong, word in (({"to": uri, "odd": 1}, "odd"), ({}, "to"), ({"to": uri, "answer_s": 1000}, "answer_s")):
            status, text = await post(wrong)
            assert (status, f"`{word}`" in text or f"$.{word}" in text) == (400, True), text
        assert (await post({"to": "+491701234567"}))[0] == 403
        status, text = await post({"to": uri})
        assert status == 202
        record = await server.over(json.loads(text)["call"])
        assert (record["outcome"], record["placed_by"]) == ("busy", "desk")
        status, text = await post({"to": uri})
        assert (status, "calls-per-destination" in text) == (403, True)
